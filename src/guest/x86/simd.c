/* MMX, SSE and AVX instructions: operands, and the emitters that serve most rows of isa/x86-simd.isa. SDM vol. 2;
 * vol. 1, chapters 9 to 14. */
#include "simd.h"

enum { FSW_ES = 0x80 };

/* ---- registers. The two halves of a YMM register are slots of their own, so that SSE code never touches the upper one.
 * Where a region works on a register as 256 bits and no SSE instruction names it, it is one slot: nothing is put together
 * or taken apart then. */

void x86_scan_vectors(struct x86_t *t, const struct x86_insn *i)
{
    uint16_t named = 0;
    bool wide = false;

    for (unsigned n = 0; n < 4; n++)
        if (i->op[n].kind == XO_XMM) {
            named |= (uint16_t)(1u << i->op[n].reg);
            wide |= i->op[n].size == 32;
        }
    if (i->row->flags & ROWF_VSIB)      /* gathers work on halves */
        t->sse_used |= (uint16_t)(named | 1u << i->index);
    else if (!i->vex)
        t->sse_used |= named;
    else if (wide)
        t->ymm_used |= named;
}

static bool ymm_is_one(const struct x86_t *t, unsigned n) { return (t->ymm_used & ~t->sse_used) >> n & 1; }

ir_val x86_get_xmm(struct x86_t *t, unsigned n)
{
    if (ymm_is_one(t, n))
        return ir_vop(t->ir, VOP_LO, T_V128, ir_get(t->ir, SLOT_YMM + n), 0, 0, 0);
    return ir_get(t->ir, SLOT_XMM + n);
}

ir_val simd_get_high(struct x86_t *t, unsigned n)
{
    if (ymm_is_one(t, n))
        return ir_vop(t->ir, VOP_HI, T_V128, ir_get(t->ir, SLOT_YMM + n), 0, 0, 0);
    return ir_get(t->ir, SLOT_YMM_HI + n);
}

void simd_put_halves(struct x86_t *t, unsigned n, ir_val low, ir_val high)
{
    if (ymm_is_one(t, n)) {
        ir_put(t->ir, SLOT_YMM + n, ir_vop(t->ir, VOP_CAT, T_V256, low, high, 0, 0));
        return;
    }
    t->ymm[n] = 0;
    ir_put(t->ir, SLOT_XMM + n, low);
    ir_put(t->ir, SLOT_YMM_HI + n, high);
}

void x86_put_xmm(struct x86_t *t, unsigned n, ir_val v)
{
    if (ymm_is_one(t, n)) {
        simd_put_halves(t, n, v, simd_get_high(t, n));
        return;
    }
    t->ymm[n] = 0;
    ir_put(t->ir, SLOT_XMM + n, v);
}

void simd_zero_high(struct x86_t *t, unsigned n)
{
    if (ymm_is_one(t, n)) {
        ir_put(t->ir, SLOT_YMM + n, ir_vop(t->ir, VOP_ZEXT, T_V256, x86_get_xmm(t, n), 0, 0, 0));
        return;
    }
    t->ymm[n] = 0;
    ir_put(t->ir, SLOT_YMM_HI + n, ir_const(t->ir, T_V128, 0));
}

void x86_put_xmm_zero(struct x86_t *t, unsigned n, ir_val v)
{
    uint64_t lanes;

    if (!ymm_is_one(t, n))
        simd_put_halves(t, n, v, ir_const(t->ir, T_V128, 0));
    else if (ir_is_const(t->ir, v, &lanes) && !lanes)
        ir_put(t->ir, SLOT_YMM + n, ir_const(t->ir, T_V256, 0));
    else
        ir_put(t->ir, SLOT_YMM + n, ir_vop(t->ir, VOP_ZEXT, T_V256, v, 0, 0, 0));
}

ir_val x86_get_ymm(struct x86_t *t, unsigned n)
{
    if (ymm_is_one(t, n))
        return ir_get(t->ir, SLOT_YMM + n);
    if (!t->ymm[n])
        t->ymm[n] = ir_vop(t->ir, VOP_CAT, T_V256, ir_get(t->ir, SLOT_XMM + n), ir_get(t->ir, SLOT_YMM_HI + n), 0, 0);
    return t->ymm[n];
}

void x86_put_ymm(struct x86_t *t, unsigned n, ir_val v)
{
    if (ymm_is_one(t, n)) {
        ir_put(t->ir, SLOT_YMM + n, v);
        return;
    }
    ir_put(t->ir, SLOT_XMM + n, ir_vop(t->ir, VOP_LO, T_V128, v, 0, 0, 0));
    ir_put(t->ir, SLOT_YMM_HI + n, ir_vop(t->ir, VOP_HI, T_V128, v, 0, 0, 0));
    t->ymm[n] = v;
}

/* ---- operands */

static bool uses_mmx(const struct x86_insn *i)
{
    for (unsigned n = 0; n < 3; n++)
        if (i->op[n].kind == XO_MM)
            return true;
    return false;
}

static bool uses_xmm(const struct x86_insn *i)
{
    for (unsigned n = 0; n < 3; n++)
        if (i->op[n].kind == XO_XMM)
            return true;
    return false;
}

bool simd_begin(struct x86_t *t)
{
    const struct x86_insn *i = t->i;

    if (i->vex)
        return x86_check_avx(t);
    if (uses_mmx(i))
        return (!uses_xmm(i) || x86_check_sse(t)) && x86_check_fpu(t, true);
    return x86_check_sse(t);
}

/* MMX: EM is #UD, x87: EM is #NM; TS is #NM (SDM vol. 3, table 2-2); then a pending x87 exception is raised. Only x87
 * arithmetic makes one pending, so one check holds until then (x87 emitters clear fp_checked) or the next join. */
bool x86_check_fpu(struct x86_t *t, bool mmx)
{
    ir_label none;

    if (t->mode & (MODE_EM | MODE_TS)) {
        x86_exception(t, mmx && (t->mode & MODE_EM) ? X_UD : X_NM);
        return false;
    }
    if (mmx && t->fp_checked)
        return true;
    if (mmx) {
        ir_label home = ir_label_new(t->ir);

        x86_brcond(t, C_EQ, ir_state_load(t->ir, T_I32, offsetof(struct cpu, fpu_on_host), 0), ir_const(t->ir, T_I32, 0), home);
        x86_call(t, HELP_fpu_home, 0, 0, 0, 0);
        x86_bind(t, home);
    }
    none = ir_label_new(t->ir);
    x86_brcond(t, C_TSTEQ, ir_state_load(t->ir, T_I32, offsetof(struct x86_cpu, fpsw), 1),
               ir_const(t->ir, T_I32, FSW_ES), none);
    x86_call(t, HELP_fpu_pending, 0, 0, 0, 0);
    x86_bind(t, none);
    t->fp_checked = mmx;
    return true;
}

/* An MMX instruction makes all registers valid and TOP 0 (SDM vol. 1, 9.5.1). Comes after all that may fault. */
void simd_enter_mmx(struct x86_t *t)
{
    ir_state_store(t->ir, offsetof(struct x86_cpu, fptop), 2, ir_const(t->ir, T_I32, 0));
    ir_state_store(t->ir, offsetof(struct x86_cpu, fptag), 1, ir_const(t->ir, T_I32, 0));
}

static ir_val mmx_read(struct x86_t *t, unsigned n)
{
    uint32_t at = (uint32_t)offsetof(struct x86_cpu, fpregs[0].v.frac) + n * sizeof(((struct x86_cpu *)0)->fpregs[0]);

    return ir_vop(t->ir, VOP_MOVQ, T_V128, ir_state_load(t->ir, T_I64, at, 3), 0, 0, 0);
}

static void mmx_put(struct x86_t *t, unsigned n, ir_val v)
{
    uint32_t reg = n * sizeof(((struct x86_cpu *)0)->fpregs[0]);

    ir_state_store(t->ir, offsetof(struct x86_cpu, fpregs[0].v.frac) + reg, 3, ir_vop(t->ir, VOP_TOQ, T_I64, v, 0, 0, 0));
    ir_state_store(t->ir, offsetof(struct x86_cpu, fpregs[0].v.se) + reg, 1, ir_const(t->ir, T_I32, 0xffff));
}

/* A misaligned operand is #GP (guest_x86's unaligned()); while alignment checks are on, #AC instead, as the SDM allows
 * (vol. 3, 6.15, interrupt 17). */
memop simd_memop(struct x86_t *t, unsigned bytes)
{
    memop m = x86_memop(t, bytes);

    if (t->i->row->flags & ROWF_ALIGN)
        m = (m & ~(memop)MEM_ALIGN_MASK) | (m & MEM_SIZE) << MEM_ALIGN_SHIFT;
    return m;
}

ir_val simd_address(struct x86_t *t, unsigned n, bool write)
{
    return x86_linear(t, t->i, t->i->op[n].size, write);
}

ir_val simd_read(struct x86_t *t, unsigned n)
{
    const struct x86_operand *o = &t->i->op[n];
    memop m;

    switch (o->kind) {
    case XO_XMM: return o->size == 32 ? x86_get_ymm(t, o->reg) : x86_get_xmm(t, o->reg);
    case XO_MM: return mmx_read(t, o->reg);
    default: break;
    }
    m = simd_memop(t, o->size);
    if (o->size < 4)
        return ir_vop(t->ir, VOP_MOVD, T_V128, ir_load(t->ir, T_I32, m, simd_address(t, n, false), 0), 0, 0, 0);
    return ir_load(t->ir, o->size == 32 ? T_V256 : T_V128, m, simd_address(t, n, false), 0);
}

void simd_put(struct x86_t *t, unsigned n, ir_val v)
{
    const struct x86_operand *o = &t->i->op[n];

    if (o->kind == XO_MEM)
        ir_store(t->ir, simd_memop(t, o->size), simd_address(t, n, true), 0, v);
    if (uses_mmx(t->i))
        simd_enter_mmx(t);
    if (o->kind == XO_MM)
        mmx_put(t, o->reg, v);
    else if (o->kind == XO_XMM && ir_type_of(t->ir, v) == T_V256)
        x86_put_ymm(t, o->reg, v);
    else if (o->kind == XO_XMM && t->i->vex)
        x86_put_xmm_zero(t, o->reg, v);
    else if (o->kind == XO_XMM)
        x86_put_xmm(t, o->reg, v);
}

/* An integer result into operand n. */
static void put_int(struct x86_t *t, unsigned n, ir_val v)
{
    x86_write(t, n, v);
    if (uses_mmx(t->i))
        simd_enter_mmx(t);
}

/* ---- ops */

/* Some exception is unmasked: the helper does the op in software and raises before a result is there. Operands are
 * passed as vectors of one length. */
static ir_val slow_op(struct x86_t *t, unsigned vop, enum ir_type type, ir_val a, ir_val b, ir_val c, int64_t imm)
{
    unsigned flags = vop_info[vop].flags;
    bool wide = type == T_V256 || ir_type_of(t->ir, a) == T_V256;
    ir_val v[3] = { a, b ? b : a, c ? c : a }, what = ir_const(t->ir, T_I32, vop | (uint32_t)(imm & 0xff) << 16), r;

    for (unsigned n = 0; n < 3; n++) {
        enum ir_type ty = ir_type_of(t->ir, v[n]);

        if (ty == T_I32 || ty == T_I64)
            v[n] = ir_vop(t->ir, ty == T_I32 ? VOP_MOVD : VOP_MOVQ, T_V128, v[n], 0, 0, 0);
        if (wide && ir_type_of(t->ir, v[n]) == T_V128)
            v[n] = ir_vop(t->ir, VOP_CAT, T_V256, v[n], v[n], 0, 0);
    }
    if (flags & VOPF_GPR_RESULT) {
        r = x86_call(t, HELP_fp_int, v[0], v[1], what, 0);
        return flags & VOPF_W1 ? r : ir_un(t->ir, IR_TRUNC, r);
    }
    r = x86_call(t, wide ? HELP_fp_256 : HELP_fp_128, v[0], v[1], v[2], what);
    return wide && type == T_V128 ? ir_vop(t->ir, VOP_LO, T_V128, r, 0, 0, 0) : r;
}

ir_val simd_op(struct x86_t *t, unsigned vop, enum ir_type type, ir_val a, ir_val b, ir_val c, int64_t imm)
{
    if ((t->mode & MODE_FPEXC) && (vop_info[vop].flags & VOPF_FP))
        return slow_op(t, vop, type, a, b, c, imm);
    return ir_vop(t->ir, vop, type, a, b, c, imm);
}

static enum ir_type result_type(const struct x86_t *t, const struct vop_info *v, ir_val a)
{
    if (v->flags & VOPF_GPR_RESULT)
        return v->flags & VOPF_W1 ? T_I64 : T_I32;
    if (v->flags & VOPF_R128)
        return T_V128;
    return t->i->op[0].size == 32 || ir_type_of(t->ir, a) == T_V256 ? T_V256 : T_V128;
}

/* Ops of a register with itself that make zeros or ones, whatever it holds: compilers and people write them for that. */
static bool makes_constant(const struct x86_t *t, unsigned vop, unsigned first, uint64_t *lanes)
{
    const struct x86_operand *a = &t->i->op[first], *b = a + 1;

    if (a->kind != XO_XMM || b->kind != XO_XMM || a->reg != b->reg)
        return false;
    switch (vop) {
    case VOP_CMPEQ8: case VOP_CMPEQ16: case VOP_CMPEQ32: case VOP_CMPEQ64:
        *lanes = ~UINT64_C(0);
        return true;
    case VOP_XOR: case VOP_XORF: case VOP_ANDN: case VOP_ANDNF: case VOP_SUB8: case VOP_SUB16: case VOP_SUB32:
    case VOP_SUB64: case VOP_CMPGT8: case VOP_CMPGT16: case VOP_CMPGT32: case VOP_CMPGT64:
        *lanes = 0;
        return true;
    default:
        return false;
    }
}

static void emit_op(struct x86_t *t, unsigned vop, int64_t imm)
{
    const struct vop_info *v = &vop_info[vop];
    unsigned first = v->form == VF_FMA || (v->form == VF_MI && !t->i->vex) ? 0
                     : v->operands == 1                                      ? 1
                                                                             : simd_first(t);
    uint64_t lanes;
    ir_val a, b, c;

    if (!simd_begin(t))
        return;
    if (v->operands == 2 && makes_constant(t, vop, first, &lanes)) {
        simd_put(t, 0, ir_const(t->ir, t->i->op[0].size == 32 ? T_V256 : T_V128, lanes));
        return;
    }
    a = simd_read(t, first);
    b = v->operands > 1 ? simd_read(t, first + 1) : 0;
    c = v->operands > 2 ? simd_read(t, first + 2) : 0;
    a = simd_op(t, vop, result_type(t, v, a), a, b, c, imm);
    if (v->flags & VOPF_GPR_RESULT)
        put_int(t, 0, a);
    else
        simd_put(t, 0, a);
}

/* arg: the op. */
EMIT(simd)
{
    unsigned vop = (unsigned)x86_arg(i);

    if (vop_info[vop].form == VF_FMA)
        emit_op(t, vop, (i->opcode >> 4) - 9);
    else
        emit_op(t, vop, i->imm & 0xff);
}

/* Reserved bits of the immediate are ignored: SSE knows eight predicates, AVX 32. */
EMIT(simd_cmp) { emit_op(t, (unsigned)x86_arg(i), i->imm & (i->vex ? 31 : 7)); }
EMIT(simd_round) { emit_op(t, (unsigned)x86_arg(i), i->imm & 15); }

/* DPPS, DPPD. Their multiplication and additions raise one after the other, so where they may, each is an op of its own:
 * products of the chosen lanes (the others are +0), sums of neighbours, then their sum, put into the chosen lanes. */
static ir_val dot_product_slow(struct x86_t *t, bool wide, enum ir_type type, ir_val a, ir_val b)
{
    unsigned imm = (unsigned)t->i->imm, lanes = wide ? 3 : 15, from = imm >> 4 & lanes, to = imm & lanes;
    unsigned blend = wide ? VOP_BLENDPD : VOP_BLENDPS, add = wide ? VOP_HADDPD : VOP_HADDPS;
    ir_val zero = ir_const(t->ir, type, 0);

    if (type == T_V256) {
        from |= from << 4;
        to |= to << 4;
    }
    a = ir_vop(t->ir, blend, type, zero, a, 0, from);
    b = ir_vop(t->ir, blend, type, zero, b, 0, from);
    a = simd_op(t, wide ? VOP_MULPD : VOP_MULPS, type, a, b, 0, 0);
    a = simd_op(t, add, type, a, a, 0, 0);
    if (!wide)
        a = simd_op(t, add, type, a, a, 0, 0);
    return ir_vop(t->ir, blend, type, zero, a, 0, to);
}

EMIT(simd_dot)
{
    ir_val a, b;
    enum ir_type type = i->op[0].size == 32 ? T_V256 : T_V128;

    if (!simd_begin(t))
        return;
    a = simd_read(t, simd_first(t));
    b = simd_read(t, simd_first(t) + 1);
    if (t->mode & MODE_FPEXC)
        a = dot_product_slow(t, x86_arg(i) == VOP_DPPD, type, a, b);
    else
        a = ir_vop(t->ir, (unsigned)x86_arg(i), type, a, b, 0, i->imm & 0xff);
    simd_put(t, 0, a);
}

/* Ops whose result is EFLAGS, with no bit set but of the arithmetic flags: COMISS, PTEST and kin. */
EMIT(simd_flags)
{
    ir_val a, b;

    if (!simd_begin(t))
        return;
    a = simd_read(t, 0);
    b = simd_read(t, 1);
    x86_set_cc(t, CC_EFLAGS, 0, simd_op(t, (unsigned)x86_arg(i), T_I32, a, b, 0, 0), 0);
}

/* ---- moves */

EMIT(simd_mov)
{
    if (simd_begin(t))
        simd_put(t, 0, simd_read(t, 1));
}

/* The low 64 bits between vectors, the rest zero. */
EMIT(simd_movq)
{
    ir_val v;

    if (!simd_begin(t))
        return;
    v = simd_read(t, 1);
    if (i->op[0].kind == XO_XMM && i->op[1].kind == XO_XMM)
        v = ir_vop(t->ir, VOP_MOVQZ, T_V128, v, 0, 0, 0);
    simd_put(t, 0, v);
}

EMIT(simd_movd)
{
    ir_val v;

    if (!simd_begin(t))
        return;
    if (i->op[1].kind == XO_MEM)
        v = simd_read(t, 1);
    else
        v = ir_vop(t->ir, i->op[1].size == 8 ? VOP_MOVQ : VOP_MOVD, T_V128, x86_read(t, 1), 0, 0, 0);
    simd_put(t, 0, v);
}

EMIT(simd_movd_out)
{
    ir_val v;
    bool wide = i->op[0].size == 8;

    if (!simd_begin(t))
        return;
    v = simd_read(t, 1);
    if (i->op[0].kind == XO_MEM)
        simd_put(t, 0, v);
    else
        put_int(t, 0, ir_vop(t->ir, wide ? VOP_TOQ : VOP_TOD, wide ? T_I64 : T_I32, v, 0, 0, 0));
}

EMIT(movnti) { x86_write(t, 0, x86_read(t, 1)); }

/* The result is b's high quadword, then a's. */
EMIT(movhlps)
{
    ir_val a, b;

    if (!simd_begin(t))
        return;
    a = simd_read(t, simd_first(t));
    b = simd_read(t, simd_first(t) + 1);
    simd_put(t, 0, simd_op128(t, VOP_UNPKHPD, b, a, 0));
}

EMIT(movhp_out)
{
    ir_val v;

    if (!simd_begin(t))
        return;
    v = simd_read(t, 1);
    simd_put(t, 0, simd_op128(t, VOP_UNPKHPD, v, v, 0));
}

/* PEXTRx. arg: the op, its 32-bit form where there is a 64-bit one. A zero-extended lane goes to a register, the lane
 * itself to memory. */
EMIT(simd_extract)
{
    unsigned vop = (unsigned)x86_arg(i);
    bool wide = vop == VOP_EXT32 && i->op[0].size == 8;
    ir_val v;

    if (!simd_begin(t))
        return;
    v = simd_read(t, 1);
    put_int(t, 0, ir_vop(t->ir, wide ? VOP_EXT64 : vop, wide ? T_I64 : T_I32, v, 0, 0,
                         i->op[1].kind == XO_MM ? i->imm & 3 : i->imm & 0xff));
}

EMIT(simd_insert)
{
    unsigned vop = (unsigned)x86_arg(i), src = simd_first(t) + 1;
    ir_val a, b;

    if (!simd_begin(t))
        return;
    if (vop == VOP_INS32 && i->op[src].size == 8)
        vop = VOP_INS64;
    a = simd_read(t, simd_first(t));
    b = x86_read(t, src);
    simd_put(t, 0, simd_op(t, vop, T_V128, a, b, 0, i->op[0].kind == XO_MM ? i->imm & 3 : i->imm & 0xff));
}

/* From memory the lane is the one loaded: count_s is ignored. */
EMIT(insertps)
{
    unsigned src = simd_first(t) + 1;
    ir_val a, b;

    if (!simd_begin(t))
        return;
    a = simd_read(t, simd_first(t));
    b = simd_read(t, src);
    simd_put(t, 0, simd_op128(t, VOP_INSERTPS, a, b, i->imm & (i->op[src].kind == XO_MEM ? 0x3f : 0xff)));
}

/* ---- MMX forms that a 128-bit op of the operands does not give */

/* Packs and horizontal ops: a and b side by side in one vector give the eight bytes in its low half. */
EMIT(mmx_pair)
{
    ir_val v;

    if (!simd_begin(t))
        return;
    v = simd_read(t, 0);
    v = simd_op128(t, VOP_UNPKL64, v, simd_read(t, 1), 0);
    simd_put(t, 0, simd_op128(t, (unsigned)x86_arg(i), v, v, 0));
}

/* PUNPCKHx: the upper half of what unpacking the low quadwords gives. arg: the 128-bit op of the high half, which on
 * operands moved up does the same. */
EMIT(mmx_high)
{
    ir_val a, b;

    if (!simd_begin(t))
        return;
    a = simd_read(t, 0);
    b = simd_read(t, 1);
    a = simd_op128(t, VOP_BYTESHL, a, 0, 4);
    b = simd_op128(t, VOP_BYTESHL, b, 0, 4);
    simd_put(t, 0, simd_op128(t, (unsigned)x86_arg(i), a, b, 0));
}

/* Bit 3 of an index does not count. */
EMIT(mmx_pshufb)
{
    ir_val a, b;

    if (!simd_begin(t))
        return;
    a = simd_read(t, 0);
    b = simd_op128(t, VOP_AND, simd_read(t, 1), ir_const(t->ir, T_V128, 0x8787878787878787), 0);
    simd_put(t, 0, simd_op128(t, VOP_SHUF8, a, b, 0));
}

/* Bytes imm.. of a:b, 8 each: of one vector moved down. */
EMIT(mmx_palignr)
{
    ir_val a, b;

    if (!simd_begin(t))
        return;
    a = simd_read(t, 0);
    b = simd_read(t, 1);
    b = simd_op128(t, VOP_UNPKL64, b, a, 0);
    simd_put(t, 0, simd_op128(t, VOP_BYTESHR, b, 0, i->imm & 0xff));
}

EMIT(emms)
{
    if (!x86_check_fpu(t, true))
        return;
    ir_state_store(t->ir, offsetof(struct x86_cpu, fptop), 2, ir_const(t->ir, T_I32, 0));
    ir_state_store(t->ir, offsetof(struct x86_cpu, fptag), 1, ir_const(t->ir, T_I32, 0xff));
}

/* ---- conversions with integer and MMX registers */

/* arg: the op of a 32-bit integer. */
EMIT(cvt_from_int)
{
    unsigned src = simd_first(t) + 1;
    bool wide = i->op[src].size == 8, single = x86_arg(i) == VOP_CVTI32SS;
    unsigned vop = wide ? (single ? VOP_CVTI64SS : VOP_CVTI64SD) : (unsigned)x86_arg(i);
    ir_val a, b;

    if (!simd_begin(t))
        return;
    a = simd_read(t, simd_first(t));
    b = x86_read(t, src);
    simd_put(t, 0, simd_op(t, vop, T_V128, a, b, 0, 0));
}

EMIT(cvt_to_int)
{
    static const struct { uint16_t narrow, wide; } ops[] = {
        { VOP_CVTSS2I32, VOP_CVTSS2I64 }, { VOP_CVTTSS2I32, VOP_CVTTSS2I64 },
        { VOP_CVTSD2I32, VOP_CVTSD2I64 }, { VOP_CVTTSD2I32, VOP_CVTTSD2I64 },
    };
    bool wide = i->op[0].size == 8;
    unsigned vop = (unsigned)x86_arg(i);

    if (!simd_begin(t))
        return;
    for (unsigned n = 0; n < sizeof(ops) / sizeof(ops[0]); n++)
        if (wide && ops[n].narrow == vop) {
            vop = ops[n].wide;
            break;
        }
    x86_write(t, 0, simd_op(t, vop, wide ? T_I64 : T_I32, simd_read(t, 1), 0, 0, 0));
}

EMIT(cvtpi2ps)
{
    ir_val v;

    if (!simd_begin(t))
        return;
    v = simd_read(t, 1);
    if (i->op[1].kind == XO_MM)
        simd_enter_mmx(t);      /* before #XM */
    v = simd_op(t, VOP_CVTDQ2PS, T_V128, v, 0, 0, 0);
    simd_put(t, 0, simd_op128(t, VOP_MOVSD, x86_get_xmm(t, i->op[0].reg), v, 0));
}

/* CVT[T]PS2PI, CVT[T]PD2PI. The two lanes of a PS source are all that is converted, so that nothing else raises. */
EMIT(cvt_to_mmx)
{
    unsigned vop = (unsigned)x86_arg(i);
    ir_val v;

    if (!simd_begin(t))
        return;
    v = simd_read(t, 1);
    if (i->op[1].kind == XO_XMM && (vop == VOP_CVTPS2DQ || vop == VOP_CVTTPS2DQ))
        v = ir_vop(t->ir, VOP_MOVQZ, T_V128, v, 0, 0, 0);
    simd_enter_mmx(t);
    simd_put(t, 0, simd_op(t, vop, T_V128, v, 0, 0, 0));
}

/* To memory: a fault comes before the flags, so the destination is probed by a load first. */
EMIT(vcvtps2ph)
{
    ir_val v;

    if (!simd_begin(t))
        return;
    v = simd_read(t, 1);
    if (i->op[0].kind == XO_MEM)
        ir_load(t->ir, T_V128, simd_memop(t, i->op[0].size) | MEM_RW, simd_address(t, 0, true), 0);
    simd_put(t, 0, simd_op(t, VOP_CVTPS2PH, T_V128, v, 0, 0, i->imm & 0xff));
}
