/* A64: loads and stores of SIMD and floating-point registers. DDI 0487 C4.1.94. All accesses of an instruction come before
 * its first register is written, so that a fault leaves none changed. */
#include "a64_simd.h"

/* ---- one access; size: log2 of bytes, up to 4 */

/* align: log2 of what is checked where alignment is (an element's size, DDI 0487 B2.9.2). */
static memop v_memop(struct arm_t *t, unsigned size, unsigned align)
{
    memop m = arm_memop(t, size);

    return m & MEM_ALIGN_MASK ? (m & ~(memop)MEM_ALIGN_MASK) | align << MEM_ALIGN_SHIFT : m;
}

static ir_val from_int(struct arm_t *t, unsigned size, ir_val v)
{
    return size == 3 ? ir_vop(t->ir, VOP_MOVQ, T_V128, v, 0, 0, 0) : ir_vop(t->ir, VOP_MOVD, T_V128, v, 0, 0, 0);
}

static ir_val load(struct arm_t *t, unsigned size, unsigned align, ir_val addr, int32_t disp)
{
    memop m = v_memop(t, size, align);
    ir_val low, high;

    if (size < 2 || (m & MEM_BE && size < 4))
        return from_int(t, size, ir_load(t->ir, size == 3 ? T_I64 : T_I32, m, addr, disp));
    if (!(m & MEM_BE))
        return ir_load(t->ir, T_V128, m, addr, disp);
    high = ir_load(t->ir, T_I64, v_memop(t, 3, align), addr, disp);
    low = ir_load(t->ir, T_I64, v_memop(t, 3, 0), addr, disp + 8);
    return ir_vop(t->ir, VOP_INS64, T_V128, from_int(t, 3, low), high, 0, 1);
}

static void store(struct arm_t *t, unsigned size, unsigned align, ir_val addr, int32_t disp, ir_val v)
{
    memop m = v_memop(t, size, align);

    if (size < 2) {
        ir_store(t->ir, m, addr, disp, ir_vop(t->ir, VOP_TOD, T_I32, v, 0, 0, 0));
    } else if (!(m & MEM_BE)) {
        ir_store(t->ir, m, addr, disp, v);
    } else if (size == 2) {
        ir_store(t->ir, m, addr, disp, ir_vop(t->ir, VOP_TOD, T_I32, v, 0, 0, 0));
    } else if (size == 3) {
        ir_store(t->ir, m, addr, disp, ir_vop(t->ir, VOP_TOQ, T_I64, v, 0, 0, 0));
    } else {
        ir_store(t->ir, v_memop(t, 3, align), addr, disp, ir_vop(t->ir, VOP_EXT64, T_I64, v, 0, 0, 1));
        ir_store(t->ir, v_memop(t, 3, 0), addr, disp + 8, ir_vop(t->ir, VOP_TOQ, T_I64, v, 0, 0, 0));
    }
}

static void write_back(struct arm_t *t, unsigned rn, ir_val base, int64_t by)
{
    a64_put_x_sp(t, rn, ir_bin_imm(t->ir, IR_ADD, base, (uint64_t)by));
}

/* ---- LDR, STR, LDUR, STUR; arg: size */

static void load_one(struct arm_t *t, const struct a64_insn *i, ir_val addr, int32_t disp)
{
    a64_put_q(t, i->vt, load(t, i->row->arg, i->row->arg, addr, disp));
}
static void store_one(struct arm_t *t, const struct a64_insn *i, ir_val addr, int32_t disp)
{
    store(t, i->row->arg, i->row->arg, addr, disp, a64_q(t, i->vt));
}

#define EMIT_BOTH(name, body)                                                                      \
    EMIT(ld##name) { if (arm_check_fp(t)) body(t, i, load_one); }                                  \
    EMIT(st##name) { if (arm_check_fp(t)) body(t, i, store_one); }
typedef void one_fn(struct arm_t *t, const struct a64_insn *i, ir_val addr, int32_t disp);

static void unsigned_offset(struct arm_t *t, const struct a64_insn *i, one_fn *fn)
{
    fn(t, i, a64_base(t, i->rn), (int32_t)i->imm12 << i->row->arg);
}
static void unscaled(struct arm_t *t, const struct a64_insn *i, one_fn *fn) { fn(t, i, a64_base(t, i->rn), i->imm9); }
static void post_index(struct arm_t *t, const struct a64_insn *i, one_fn *fn)
{
    ir_val base = a64_base(t, i->rn);

    fn(t, i, base, 0);
    write_back(t, i->rn, base, i->imm9);
}
static void pre_index(struct arm_t *t, const struct a64_insn *i, one_fn *fn)
{
    ir_val base = a64_base(t, i->rn);

    fn(t, i, base, i->imm9);
    write_back(t, i->rn, base, i->imm9);
}
static void register_offset(struct arm_t *t, const struct a64_insn *i, one_fn *fn)
{
    ir_val base = a64_base(t, i->rn), index = i->option & 1 ? a64_x(t, i->rm) : a64_w(t, i->rm);

    if (!(i->option & 1))
        index = ir_un(t->ir, i->option & 4 ? IR_SEXT32 : IR_ZEXT32, index);
    if (i->sh && i->row->arg > 3)
        index = ir_bin_imm(t->ir, IR_SHL, index, 1);
    fn(t, i, ir_lea(t->ir, base, index, i->sh ? (i->row->arg > 3 ? 3 : (unsigned)i->row->arg) : 0, 0), 0);
}
EMIT_BOTH(r_v, unsigned_offset)
EMIT_BOTH(ur_v, unscaled)
EMIT_BOTH(r_v_post, post_index)
EMIT_BOTH(r_v_pre, pre_index)
EMIT_BOTH(r_v_reg, register_offset)

EMIT(ldr_v_literal)
{
    if (arm_check_fp(t))
        load_one(t, i, ir_pc(t->ir, i->pc + (uint64_t)(int64_t)i->imm19), 0);
}

/* ---- pairs */

static void load_pair(struct arm_t *t, const struct a64_insn *i, ir_val base, int32_t disp)
{
    unsigned size = i->row->arg;
    ir_val a = load(t, size, size, base, disp), b = load(t, size, size, base, disp + (1 << size));

    a64_put_q(t, i->vt, a);
    a64_put_q(t, i->vt2, b);
}
static void store_pair(struct arm_t *t, const struct a64_insn *i, ir_val base, int32_t disp)
{
    unsigned size = i->row->arg;

    store(t, size, size, base, disp, a64_q(t, i->vt));
    store(t, size, size, base, disp + (1 << size), a64_q(t, i->vt2));
}
static int32_t pair_offset(const struct a64_insn *i) { return i->imm7 * (1 << i->row->arg); }

static void pair(struct arm_t *t, const struct a64_insn *i, one_fn *fn, bool post, bool writes)
{
    int32_t offset = pair_offset(i);
    ir_val base;

    if (!arm_check_fp(t))
        return;
    base = a64_base(t, i->rn);
    fn(t, i, base, post ? 0 : offset);
    if (writes)
        write_back(t, i->rn, base, offset);
}
EMIT(ldpair_v) { pair(t, i, load_pair, false, false); }
EMIT(stpair_v) { pair(t, i, store_pair, false, false); }
EMIT(ldpair_post_v) { pair(t, i, load_pair, true, true); }
EMIT(stpair_post_v) { pair(t, i, store_pair, true, true); }
EMIT(ldpair_pre_v) { pair(t, i, load_pair, false, true); }
EMIT(stpair_pre_v) { pair(t, i, store_pair, false, true); }

/* ---- structures */

static void structure_write_back(struct arm_t *t, const struct a64_insn *i, ir_val base, unsigned bytes)
{
    if (!(i->row->flags & A64_ROW_POST))
        return;
    if (i->rm == 31)
        write_back(t, i->rn, base, bytes);
    else
        a64_put_x_sp(t, i->rn, ir_bin(t->ir, IR_ADD, base, a64_x(t, i->rm)));
}

/* A register's elements in memory order, which are reversed each where data is big-endian. */
static ir_val swap_elements(const struct v_op *o, ir_val v)
{
    uint64_t low = UINT64_C(0x0706050403020100) ^ (((1u << o->size) - 1) * UINT64_C(0x0101010101010101));

    return v2(o, VOP_SHUF8, v, v_const2(o, low, low + UINT64_C(0x0808080808080808)));
}

static memop plain(struct arm_t *t, const struct v_op *o, unsigned size)
{
    return v_memop(t, size, o->size) & ~(memop)MEM_BE;
}

static ir_val load_elements(struct arm_t *t, const struct v_op *o, ir_val base, unsigned n)
{
    unsigned size = 3 + o->q;
    ir_val v = ir_load(t->ir, T_V128, plain(t, o, size), base, (int32_t)(n << size));

    return t->mode & MODE_BE && o->size ? swap_elements(o, v) : v;
}
static void store_elements(struct arm_t *t, const struct v_op *o, ir_val base, unsigned n, ir_val v)
{
    unsigned size = 3 + o->q;

    if (t->mode & MODE_BE && o->size)
        v = swap_elements(o, v);
    ir_store(t->ir, plain(t, o, size), base, (int32_t)(n << size), v);
}

/* Even (n 0) or odd elements of b:a, of the operation's width. */
static ir_val every_other(const struct v_op *o, unsigned n, ir_val a, ir_val b)
{
    if (!o->q)
        a = b = v_pair(o, a, b);
    if (o->size == 3)
        return v2(o, n ? VOP_UNPKH64 : VOP_UNPKL64, a, b);
    if (o->size == 2)
        return v2i(o, VOP_SHUFPS, a, b, n ? 0xdd : 0x88);
    if (!n)
        return v_narrow(o, a, b);
    return v2(o, o->size ? VOP_PACKU32 : VOP_PACKU16, v_shr(o, o->size + 1, a, 8u << o->size), v_shr(o, o->size + 1, b, 8u << o->size));
}
/* Elements of a and b in turn: the lower or (n 1) upper half of what comes out. */
static ir_val in_turn(const struct v_op *o, unsigned n, ir_val a, ir_val b)
{
    static const uint16_t low[4] = { VOP_UNPKL8, VOP_UNPKL16, VOP_UNPKL32, VOP_UNPKL64 };
    static const uint16_t high[4] = { VOP_UNPKH8, VOP_UNPKH16, VOP_UNPKH32, VOP_UNPKH64 };
    ir_val v;

    if (o->q)
        return v2(o, n ? high[o->size] : low[o->size], a, b);
    v = v2(o, low[o->size], a, b);
    return n ? v1i(o, VOP_BYTESHR, v, 8) : v;
}

/* Three registers of elements in threes. Their number in a register has no factor 3, so the elements of one field (those at n,
 * n + 3, ... of all) lie at places in their registers that differ: blended into one, they only want to be put in order. */
static unsigned elements(const struct v_op *o) { return (o->q ? 16u : 8u) >> o->size; }

/* Of the lanes, place[k]'s at k. */
static ir_val permute(const struct v_op *o, ir_val v, const uint8_t place[16])
{
    unsigned lanes = elements(o), imm = 0;
    union { uint8_t b[16]; uint64_t d[2]; } index = { .d = { 0 } };

    if (o->size == 0 || lanes == 8) {
        for (unsigned k = 0; k < lanes << o->size; k++)
            index.b[k] = (uint8_t)((place[k >> o->size] << o->size) + (k & o->size));
        return v2(o, VOP_SHUF8, v, v_const2(o, index.d[0], index.d[1]));
    }
    for (unsigned k = 0; k < 4; k++)
        imm |= (o->size == 3 ? 2 * place[k >> 1] + (k & 1) : k < lanes ? place[k] : k) << 2 * k;
    return v1i(o, o->size == 1 ? VOP_SHUFL16 : VOP_SHUF32, v, imm);
}

/* x[from[p]]'s lane p at p. */
static ir_val blend(const struct v_op *o, const ir_val x[3], const uint8_t from[16])
{
    static const uint16_t vop[4] = { 0, VOP_BLEND16, VOP_BLENDPS, VOP_BLENDPD };
    ir_val r = x[0];

    for (unsigned n = 1; n < 3; n++) {
        uint64_t mask[2] = { 0 };
        unsigned imm = 0;

        for (unsigned p = 0; p < elements(o); p++) {
            imm |= (from[p] == n) << p;
            mask[p / 8] |= from[p] == n ? UINT64_C(0xff) << 8 * (p % 8) : 0;
        }
        if (imm)
            r = o->size ? v2i(o, vop[o->size], r, x[n], imm) : v3(o, VOP_BLENDV8, r, x[n], v_const2(o, mask[0], mask[1]));
    }
    return r;
}

static void deinterleave3(const struct v_op *o, const ir_val x[3], ir_val v[3])
{
    unsigned lanes = elements(o);

    for (unsigned n = 0; n < 3; n++) {
        uint8_t from[16] = { 0 }, place[16] = { 0 };

        for (unsigned k = 0; k < lanes; k++) {
            place[k] = (uint8_t)((3 * k + n) % lanes);
            from[place[k]] = (uint8_t)((3 * k + n) / lanes);
        }
        v[n] = permute(o, blend(o, x, from), place);
    }
}

static void interleave3(const struct v_op *o, const ir_val x[3], ir_val v[3])
{
    unsigned lanes = elements(o);
    ir_val y[3];

    for (unsigned n = 0; n < 3; n++) {
        uint8_t place[16] = { 0 };

        for (unsigned k = 0; k < lanes; k++)
            place[(3 * k + n) % lanes] = (uint8_t)k;
        y[n] = permute(o, x[n], place);
    }
    for (unsigned j = 0; j < 3; j++) {
        uint8_t from[16] = { 0 };

        for (unsigned p = 0; p < lanes; p++)
            from[p] = (uint8_t)((lanes * j + p) % 3);
        v[j] = blend(o, y, from);
    }
}

static void deinterleave(const struct v_op *o, unsigned count, ir_val v[4])
{
    ir_val x[4] = { v[0], v[1], v[2], v[3] };

    if (count == 2) {
        v[0] = every_other(o, 0, x[0], x[1]);
        v[1] = every_other(o, 1, x[0], x[1]);
    } else if (count == 3) {
        deinterleave3(o, x, v);
    } else {
        for (unsigned n = 0; n < 2; n++) {              /* 0 2 0 2 .. and 1 3 1 3 .. */
            ir_val low = every_other(o, n, x[0], x[1]), high = every_other(o, n, x[2], x[3]);

            v[n] = every_other(o, 0, low, high);
            v[n + 2] = every_other(o, 1, low, high);
        }
    }
}

static void interleave(const struct v_op *o, unsigned count, ir_val v[4])
{
    ir_val x[4] = { v[0], v[1], v[2], v[3] };

    if (count == 2) {
        v[0] = in_turn(o, 0, x[0], x[1]);
        v[1] = in_turn(o, 1, x[0], x[1]);
    } else if (count == 3) {
        interleave3(o, x, v);
    } else {
        for (unsigned n = 0; n < 2; n++) {
            ir_val even = in_turn(o, n, x[0], x[2]), odd = in_turn(o, n, x[1], x[3]);

            v[2 * n] = in_turn(o, 0, even, odd);
            v[2 * n + 1] = in_turn(o, 1, even, odd);
        }
    }
}

/* arg: registers of a structure; above 8 bits how many registers LD1 and ST1 move */
static bool structures_begin(struct v_op *o, struct arm_t *t, const struct a64_insn *i, unsigned *count, unsigned *registers)
{
    *count = i->row->arg & 0xff;
    *registers = i->row->arg >> 8 ? (unsigned)i->row->arg >> 8 : *count;
    return v_begin(o, t, i);
}

EMIT(ld_multiple)
{
    struct v_op o;
    unsigned count, registers;
    ir_val base, v[4] = { 0 };

    if (!structures_begin(&o, t, i, &count, &registers))
        return;
    base = a64_base(t, i->rn);
    for (unsigned n = 0; n < registers; n++)
        v[n] = load_elements(t, &o, base, n);
    if (count > 1)
        deinterleave(&o, count, v);
    for (unsigned n = 0; n < registers; n++)
        a64_put_q(t, (i->vt + n) & 31, count > 1 ? v_trim(&o, v[n]) : v[n]);
    structure_write_back(t, i, base, registers << (3 + o.q));
}

EMIT(st_multiple)
{
    struct v_op o;
    unsigned count, registers;
    ir_val base, v[4] = { 0 };

    if (!structures_begin(&o, t, i, &count, &registers))
        return;
    base = a64_base(t, i->rn);
    for (unsigned n = 0; n < registers; n++)
        v[n] = a64_q(t, (i->vt + n) & 31);
    if (count > 1)
        interleave(&o, count, v);
    for (unsigned n = 0; n < registers; n++)
        store_elements(t, &o, base, n, v[n]);
    structure_write_back(t, i, base, registers << (3 + o.q));
}

static const uint16_t vop_insert[4] = { VOP_INS8, VOP_INS16, VOP_INS32, VOP_INS64 };
static const uint16_t vop_extract[4] = { VOP_EXT8, VOP_EXT16, VOP_EXT32, VOP_EXT64 };

/* arg: registers, log2 of the element's bytes << 8 */
EMIT(ld_single)
{
    unsigned count = i->row->arg & 0xff, size = (unsigned)i->row->arg >> 8;
    ir_val base, v[4];

    if (!arm_check_fp(t))
        return;
    base = a64_base(t, i->rn);
    for (unsigned n = 0; n < count; n++)
        v[n] = ir_load(t->ir, size == 3 ? T_I64 : T_I32, arm_memop(t, size), base, (int32_t)(n << size));
    for (unsigned n = 0; n < count; n++) {
        unsigned r = (i->vt + n) & 31;

        a64_put_q(t, r, ir_vop(t->ir, vop_insert[size], T_V128, a64_q(t, r), v[n], 0, i->index));
    }
    structure_write_back(t, i, base, count << size);
}

EMIT(st_single)
{
    unsigned count = i->row->arg & 0xff, size = (unsigned)i->row->arg >> 8;
    ir_val base;

    if (!arm_check_fp(t))
        return;
    base = a64_base(t, i->rn);
    for (unsigned n = 0; n < count; n++)
        ir_store(t->ir, arm_memop(t, size), base, (int32_t)(n << size),
                 ir_vop(t->ir, vop_extract[size], size == 3 ? T_I64 : T_I32, a64_q(t, (i->vt + n) & 31), 0, 0, i->index));
    structure_write_back(t, i, base, count << size);
}

EMIT(ld_replicate)
{
    struct v_op o;
    unsigned count = i->row->arg;
    ir_val base, v[4];

    if (!v_begin(&o, t, i))
        return;
    base = a64_base(t, i->rn);
    for (unsigned n = 0; n < count; n++)
        v[n] = ir_load(t->ir, o.size == 3 ? T_I64 : T_I32, arm_memop(t, o.size), base, (int32_t)(n << o.size));
    for (unsigned n = 0; n < count; n++)
        a64_put_q(t, (i->vt + n) & 31, v_trim(&o, v_dup(&o, o.size, from_int(t, o.size, v[n]), 0)));
    structure_write_back(t, i, base, count << o.size);
}
