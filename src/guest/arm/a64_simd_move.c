/* A64 Advanced SIMD: copies, permutations, table lookups, immediates. DDI 0487 C4.1.96, C7. */
#include "a64_simd.h"

static const uint16_t vop_insert[4] = { VOP_INS8, VOP_INS16, VOP_INS32, VOP_INS64 };
static const uint16_t vop_extract[4] = { VOP_EXT8, VOP_EXT16, VOP_EXT32, VOP_EXT64 };

/* ---- copies. imm5: the lowest bit set tells the size, above it is the index */

static unsigned imm5_index(const struct v_op *o) { return o->i->imm5 >> (o->size + 1); }

static bool copy_begin(struct v_op *o, struct arm_t *t, const struct a64_insn *i)
{
    *o = (struct v_op){ .t = t, .ir = t->ir, .i = i, .size = (unsigned)__builtin_ctz(i->imm5 | 0x10u) };
    o->scalar = i->row->flags & A64_ROW_SCALAR;
    o->q = !o->scalar && i->q;
    return arm_check_fp(t);
}

static ir_val extract(const struct v_op *o, ir_val n, unsigned index)
{
    if (!index && o->size >= 2)
        return ir_vop(o->ir, o->size == 3 ? VOP_TOQ : VOP_TOD, o->size == 3 ? T_I64 : T_I32, n, 0, 0, 0);
    return ir_vop(o->ir, vop_extract[o->size], o->size == 3 ? T_I64 : T_I32, n, 0, 0, index);
}

EMIT(dup_element)
{
    struct v_op o;
    ir_val n;
    unsigned index;

    if (!copy_begin(&o, t, i))
        return;
    n = a64_q(t, i->vn);
    index = imm5_index(&o);
    if (o.scalar)
        v_put(&o, index ? v1i(&o, VOP_BYTESHR, n, index << o.size) : n);
    else
        v_put(&o, v_dup(&o, o.size, n, index));
}

EMIT(dup_general)
{
    struct v_op o;
    ir_val v;

    if (!copy_begin(&o, t, i))
        return;
    v = o.size == 3 ? ir_vop(o.ir, VOP_MOVQ, T_V128, a64_x(t, i->rn), 0, 0, 0)
                    : ir_vop(o.ir, VOP_MOVD, T_V128, a64_w(t, i->rn), 0, 0, 0);
    v_put(&o, v_dup(&o, o.size, v, 0));
}

EMIT(umov)
{
    struct v_op o;

    if (copy_begin(&o, t, i))
        a64_put_r(t, i->rd, extract(&o, a64_q(t, i->vn), imm5_index(&o)));
}

EMIT(smov)
{
    static const uint8_t extend[3] = { IR_SEXT8, IR_SEXT16, IR_SEXT32 };
    struct v_op o;
    ir_val v;

    if (!copy_begin(&o, t, i))
        return;
    v = extract(&o, a64_q(t, i->vn), imm5_index(&o));
    if (o.q && o.size < 2)
        v = ir_un(o.ir, IR_ZEXT32, v);
    a64_put_r(t, i->rd, ir_un(o.ir, extend[o.size], v));
}

EMIT(ins_general)
{
    struct v_op o;

    if (copy_begin(&o, t, i))
        a64_put_q(t, i->vd, v2i(&o, vop_insert[o.size], v_d(&o), o.size == 3 ? a64_x(t, i->rn) : a64_w(t, i->rn), imm5_index(&o)));
}

EMIT(ins_element)
{
    struct v_op o;
    unsigned to, from;
    ir_val d, n;

    if (!copy_begin(&o, t, i))
        return;
    to = imm5_index(&o);
    from = i->imm4 >> o.size;
    d = v_d(&o);
    n = a64_q(t, i->vn);
    if (o.size == 2)
        d = v2i(&o, VOP_INSERTPS, d, n, from << 6 | to << 4);
    else if (o.size == 3)
        d = to ? v2i(&o, VOP_SHUFPD, d, n, from << 1) : v2i(&o, VOP_SHUFPD, n, d, from | 2);
    else
        d = v2i(&o, vop_insert[o.size], d, extract(&o, n, from), to);
    a64_put_q(t, i->vd, d);
}

/* ---- permutations */

EMIT_V3(zip1)
{
    static const uint16_t vop[4] = { VOP_UNPKL8, VOP_UNPKL16, VOP_UNPKL32, VOP_UNPKL64 };
    return v2(o, vop[o->size], n, m);
}
EMIT_V3(zip2)
{
    static const uint16_t low[4] = { VOP_UNPKL8, VOP_UNPKL16, VOP_UNPKL32, VOP_UNPKL64 };
    static const uint16_t high[4] = { VOP_UNPKH8, VOP_UNPKH16, VOP_UNPKH32, VOP_UNPKH64 };
    return o->q ? v2(o, high[o->size], n, m) : v1i(o, VOP_BYTESHR, v2(o, low[o->size], n, m), 8);
}

EMIT_V3(uzp1)
{
    if (!o->q)
        n = m = v_pair(o, n, m);
    return o->size == 3 ? v2(o, VOP_UNPKL64, n, m) : v_narrow(o, n, m);
}
EMIT_V3(uzp2)
{
    if (!o->q)
        n = m = v_pair(o, n, m);
    if (o->size == 3)
        return v2(o, VOP_UNPKH64, n, m);
    if (o->size == 2)
        return v2i(o, VOP_SHUFPS, n, m, 0xdd);
    return v2(o, o->size ? VOP_PACKU32 : VOP_PACKU16, v_shr(o, o->size + 1, n, 8u << o->size), v_shr(o, o->size + 1, m, 8u << o->size));
}

/* The elements of b at odd places among those of a. */
static ir_val odd_from(const struct v_op *o, ir_val a, ir_val b)
{
    ir_val mask;

    if (o->size)
        return v2i(o, VOP_BLEND16, a, b, o->size == 1 ? 0xaa : 0xcc);
    mask = v_const(o, UINT64_C(0xff00ff00ff00ff00));
    return v_or(o, v_and(o, b, mask), v_andn(o, mask, a));
}
EMIT_V3(trn1)
{
    return o->size == 3 ? v2(o, VOP_UNPKL64, n, m) : odd_from(o, n, v_shl(o, o->size + 1, m, 8u << o->size));
}
EMIT_V3(trn2)
{
    return o->size == 3 ? v2(o, VOP_UNPKH64, n, m) : odd_from(o, v_shr(o, o->size + 1, n, 8u << o->size), m);
}

EMIT(v_ext)
{
    struct v_op o;
    ir_val n, m;

    if (!copy_begin(&o, t, i))
        return;
    n = a64_q(t, i->vn);
    m = a64_q(t, i->vm);
    if (o.q)
        a64_put_q(t, i->vd, i->imm4 ? v2i(&o, VOP_ALIGNR, m, n, i->imm4) : n);
    else
        a64_put_d(t, i->vd, v1i(&o, VOP_BYTESHR, v_pair(&o, n, m), i->imm4));
}

/* Elements of each container reversed. */
static ir_val reverse(const struct v_op *o, unsigned container, ir_val n)
{
    uint64_t low = UINT64_C(0x0706050403020100) ^ (((1u << container) - (1u << o->size)) * UINT64_C(0x0101010101010101));

    if (o->size == 2)
        return v1i(o, VOP_SHUF32, n, 0xb1);
    if (o->size == 1)
        return v1i(o, VOP_SHUFH16, v1i(o, VOP_SHUFL16, n, container == 3 ? 0x1b : 0xb1), container == 3 ? 0x1b : 0xb1);
    if (container == 1)
        return v_or(o, v1i(o, VOP_SHLI16, n, 8), v1i(o, VOP_SHRI16, n, 8));
    return v2(o, VOP_SHUF8, n, v_const2(o, low, low + UINT64_C(0x0808080808080808)));
}
EMIT_V2(rev16) { return reverse(o, 1, n); }
EMIT_V2(rev32) { return reverse(o, 2, n); }
EMIT_V2(rev64) { return reverse(o, 3, n); }

/* ---- tables: an index beyond the table gives 0. PSHUFB does that by bit 7 and looks at bits 3:0 otherwise; adding 0x70
 * with saturation sets bit 7 of what is above 15. */
static ir_val table_look_up(const struct v_op *o, ir_val index)
{
    const struct a64_insn *i = o->i;
    ir_val r = 0, x, bias = v_const(o, UINT64_C(0x7070707070707070));

    for (unsigned n = 0; n <= i->count; n++) {
        x = n ? v2(o, VOP_SUB8, index, v_splat(o, 0, 16 * n)) : index;
        x = v2(o, VOP_SHUF8, a64_q(o->t, (i->vn + n) & 31), v2(o, VOP_ADDU8, x, bias));
        r = r ? v_or(o, r, x) : x;
    }
    return r;
}

EMIT(tbl)
{
    struct v_op o;

    if (copy_begin(&o, t, i))
        a64_put_q(t, i->vd, i->q ? table_look_up(&o, a64_q(t, i->vm)) : v_low(&o, table_look_up(&o, a64_q(t, i->vm))));
}

EMIT(tbx)
{
    struct v_op o;
    ir_val index, beyond, r;

    if (!copy_begin(&o, t, i))
        return;
    index = a64_q(t, i->vm);
    beyond = v_eq(&o, 0, v2(&o, VOP_MAXU8, index, v_splat(&o, 0, 16u * (i->count + 1u))), index);
    r = v3(&o, VOP_BLENDV8, table_look_up(&o, index), v_d(&o), beyond);
    a64_put_q(t, i->vd, i->q ? r : v_low(&o, r));
}

/* ---- modified immediates: AdvSIMDExpandImm(), VFPExpandImm() */

uint64_t a64_fp_immediate(unsigned size, uint8_t imm8)
{
    uint64_t sign = imm8 >> 7, b = imm8 >> 6 & 1, low = imm8 & 0x3f;

    if (size == 1)
        return sign << 15 | (b ? 0x3000u : 0x4000u) | low << 6;
    if (size == 2)
        return sign << 31 | (b ? 0x3e000000u : 0x40000000u) | low << 19;
    return sign << 63 | (b ? UINT64_C(0x3fc0) << 48 : UINT64_C(0x4000) << 48) | low << 48;
}

static uint64_t expand_immediate(unsigned op, unsigned cmode, uint8_t imm8)
{
    uint64_t v = imm8;

    switch (cmode >> 1) {
    case 0: case 1: case 2: case 3:
        v <<= 8 * (cmode >> 1);
        return v | v << 32;
    case 4: case 5:
        v <<= 8 * (cmode >> 1 & 1);
        return v * UINT64_C(0x0001000100010001);
    case 6:
        v = cmode & 1 ? v << 16 | 0xffff : v << 8 | 0xff;
        return v | v << 32;
    }
    if (cmode & 1) {
        v = a64_fp_immediate(op ? 3 : 2, imm8);
        return op ? v : v | v << 32;
    }
    if (!op)
        return v * UINT64_C(0x0101010101010101);
    v = 0;
    for (unsigned n = 0; n < 8; n++)
        v |= imm8 >> n & 1 ? UINT64_C(0xff) << 8 * n : 0;
    return v;
}

static void put_immediate(const struct v_op *o, uint64_t v)
{
    a64_put_q(o->t, o->i->vd, o->i->q ? v_const(o, v) : v_const2(o, v, 0));
}

EMIT(modified_immediate)
{
    struct v_op o = { .t = t, .ir = t->ir, .i = i, .q = i->q };
    uint64_t v = expand_immediate(i->op, i->cmode, i->imm8);
    ir_val d;

    if (!arm_check_fp(t))
        return;
    if (i->cmode < 12 && i->cmode & 1) {        /* ORR, BIC */
        d = i->op ? v_and(&o, v_d(&o), v_const(&o, ~v)) : v_or(&o, v_d(&o), v_const(&o, v));
        a64_put_q(t, i->vd, i->q ? d : v_low(&o, d));
        return;
    }
    if (i->op && i->cmode < 14)                 /* MVNI */
        v = ~v;
    put_immediate(&o, v);
}

EMIT(modified_immediate_half)
{
    struct v_op o = { .t = t, .ir = t->ir, .i = i };

    if (arm_check_fp(t))
        put_immediate(&o, a64_fp_immediate(1, i->imm8) * UINT64_C(0x0001000100010001));
}
