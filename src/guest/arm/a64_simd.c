/* A64 Advanced SIMD: registers, vector operations by element size, and three registers of the same type (integer).
 * DDI 0487 C7, C4.1.96. */
#include "a64_simd.h"

/* ---- registers */

ir_val a64_q(struct arm_t *t, unsigned r) { return ir_get(t->ir, SLOT_Q + r); }
void a64_put_q(struct arm_t *t, unsigned r, ir_val v) { ir_put(t->ir, SLOT_Q + r, v); }
void a64_put_d(struct arm_t *t, unsigned r, ir_val v) { a64_put_q(t, r, ir_vop(t->ir, VOP_MOVQZ, T_V128, v, 0, 0, 0)); }
void a64_put_s(struct arm_t *t, unsigned r, ir_val v) { a64_put_q(t, r, ir_vop(t->ir, VOP_INSERTPS, T_V128, v, v, 0, 0x0e)); }
void a64_put_h(struct arm_t *t, unsigned r, ir_val v)
{
    a64_put_q(t, r, ir_vop(t->ir, VOP_BLEND16, T_V128, ir_const(t->ir, T_V128, 0), v, 0, 1));
}

ir_val v_d(const struct v_op *o) { return a64_q(o->t, o->i->vd); }

/* ---- constants */

ir_val v_const(const struct v_op *o, uint64_t lanes) { return ir_const(o->ir, T_V128, lanes); }

ir_val v_const2(const struct v_op *o, uint64_t low, uint64_t high)
{
    if (low == high)
        return v_const(o, low);
    return v2i(o, VOP_INS64, ir_vop(o->ir, VOP_MOVQ, T_V128, ir_const(o->ir, T_I64, low), 0, 0, 0),
               ir_const(o->ir, T_I64, high), 1);
}

ir_val v_splat(const struct v_op *o, unsigned size, uint64_t v)
{
    static const uint64_t ones[4] = { UINT64_C(0x0101010101010101), UINT64_C(0x0001000100010001), UINT64_C(0x100000001), 1 };

    return v_const(o, size == 3 ? v : (v & ((UINT64_C(1) << (8u << size)) - 1)) * ones[size]);
}

/* ---- by element size */

ir_val v_add(const struct v_op *o, unsigned size, ir_val a, ir_val b)
{
    static const uint16_t vop[4] = { VOP_ADD8, VOP_ADD16, VOP_ADD32, VOP_ADD64 };
    return v2(o, vop[size], a, b);
}
ir_val v_sub(const struct v_op *o, unsigned size, ir_val a, ir_val b)
{
    static const uint16_t vop[4] = { VOP_SUB8, VOP_SUB16, VOP_SUB32, VOP_SUB64 };
    return v2(o, vop[size], a, b);
}
ir_val v_and(const struct v_op *o, ir_val a, ir_val b) { return v2(o, VOP_AND, a, b); }
ir_val v_or(const struct v_op *o, ir_val a, ir_val b) { return v2(o, VOP_OR, a, b); }
ir_val v_xor(const struct v_op *o, ir_val a, ir_val b) { return v2(o, VOP_XOR, a, b); }
ir_val v_andn(const struct v_op *o, ir_val a, ir_val b) { return v2(o, VOP_ANDN, a, b); }
ir_val v_not(const struct v_op *o, ir_val a) { return v_xor(o, a, v_const(o, UINT64_MAX)); }
ir_val v_eq(const struct v_op *o, unsigned size, ir_val a, ir_val b)
{
    static const uint16_t vop[4] = { VOP_CMPEQ8, VOP_CMPEQ16, VOP_CMPEQ32, VOP_CMPEQ64 };
    return v2(o, vop[size], a, b);
}
ir_val v_gt(const struct v_op *o, unsigned size, ir_val a, ir_val b)
{
    static const uint16_t vop[4] = { VOP_CMPGT8, VOP_CMPGT16, VOP_CMPGT32, VOP_CMPGT64 };
    return v2(o, vop[size], a, b);
}

ir_val v_shl(const struct v_op *o, unsigned size, ir_val a, unsigned n)
{
    static const uint16_t vop[4] = { VOP_SHLI16, VOP_SHLI16, VOP_SHLI32, VOP_SHLI64 };

    if (!n)
        return a;
    if (n >= 8u << size)
        return v_const(o, 0);
    a = v1i(o, vop[size], a, n);
    return size ? a : v_and(o, a, v_splat(o, 0, 0xffu << n));
}

ir_val v_shr(const struct v_op *o, unsigned size, ir_val a, unsigned n)
{
    static const uint16_t vop[4] = { VOP_SHRI16, VOP_SHRI16, VOP_SHRI32, VOP_SHRI64 };

    if (!n)
        return a;
    if (n >= 8u << size)
        return v_const(o, 0);
    a = v1i(o, vop[size], a, n);
    return size ? a : v_and(o, a, v_splat(o, 0, 0xffu >> n));
}

ir_val v_sar(const struct v_op *o, unsigned size, ir_val a, unsigned n)
{
    unsigned bits = 8u << size;
    ir_val sign;

    if (!n)
        return a;
    if (n >= bits)
        n = bits - 1;
    if (size == 1 || size == 2)
        return v1i(o, size == 1 ? VOP_SARI16 : VOP_SARI32, a, n);
    if (n == bits - 1)
        return v_gt(o, size, v_const(o, 0), a);
    sign = v_splat(o, size, UINT64_C(1) << (bits - 1 - n));     /* where the sign is after a logical shift */
    return v_sub(o, size, v_xor(o, v_shr(o, size, a, n), sign), sign);
}

ir_val v_max(const struct v_op *o, bool is_signed, ir_val a, ir_val b)
{
    static const uint16_t vop[2][3] = { { VOP_MAXU8, VOP_MAXU16, VOP_MAXU32 }, { VOP_MAXS8, VOP_MAXS16, VOP_MAXS32 } };
    return v2(o, vop[is_signed][o->size], a, b);
}
ir_val v_min(const struct v_op *o, bool is_signed, ir_val a, ir_val b)
{
    static const uint16_t vop[2][3] = { { VOP_MINU8, VOP_MINU16, VOP_MINU32 }, { VOP_MINS8, VOP_MINS16, VOP_MINS32 } };
    return v2(o, vop[is_signed][o->size], a, b);
}

ir_val v_widen(const struct v_op *o, bool is_signed, ir_val a)
{
    static const uint16_t vop[2][3] = { { VOP_ZX8_16, VOP_ZX16_32, VOP_ZX32_64 }, { VOP_SX8_16, VOP_SX16_32, VOP_SX32_64 } };
    return v1(o, vop[is_signed][o->size], a);
}

ir_val v_narrow(const struct v_op *o, ir_val a, ir_val b)
{
    ir_val mask;

    if (o->size == 2)
        return v2i(o, VOP_SHUFPS, a, b, 0x88);
    mask = v_const(o, o->size ? UINT64_C(0x0000ffff0000ffff) : UINT64_C(0x00ff00ff00ff00ff));
    return v2(o, o->size ? VOP_PACKU32 : VOP_PACKU16, v_and(o, a, mask), v_and(o, b, mask));
}

ir_val v_dup(const struct v_op *o, unsigned size, ir_val a, unsigned index)
{
    static const uint16_t vop[2] = { VOP_DUP8, VOP_DUP16 };

    if (size == 3)
        return index ? v2(o, VOP_UNPKH64, a, a) : v2(o, VOP_UNPKL64, a, a);
    if (size == 2)
        return v1i(o, VOP_SHUF32, a, index * 0x55);
    return v1(o, vop[size], index ? v1i(o, VOP_BYTESHR, a, index << size) : a);
}

ir_val v_pair(const struct v_op *o, ir_val n, ir_val m) { return v2(o, VOP_UNPKL64, n, m); }
ir_val v_low(const struct v_op *o, ir_val a) { return v1(o, VOP_MOVQZ, a); }

/* ---- results */

ir_val v_trim(const struct v_op *o, ir_val v)
{
    if (o->q && !o->scalar)
        return v;
    if (!o->scalar || o->size == 3)
        return v_low(o, v);
    if (o->size == 2)
        return v2i(o, VOP_INSERTPS, v, v, 0x0e);
    if (o->size == 1)
        return v2i(o, VOP_BLEND16, v_const(o, 0), v, 1);
    return ir_vop(o->ir, VOP_MOVD, T_V128, ir_vop(o->ir, VOP_EXT8, T_I32, v, 0, 0, 0), 0, 0, 0);
}

void v_put(const struct v_op *o, ir_val v) { a64_put_q(o->t, o->i->vd, v_trim(o, v)); }

void v_saturated(const struct v_op *o, ir_val differences)
{
    ir_put(o->ir, SLOT_QC, v_or(o, ir_get(o->ir, SLOT_QC), v_trim(o, differences)));
}

/* ---- one operation */

static bool begin(struct v_op *o, struct arm_t *t, const struct a64_insn *i, unsigned size)
{
    *o = (struct v_op){ .t = t, .ir = t->ir, .i = i, .size = size };
    o->scalar = i->row->flags & A64_ROW_SCALAR;
    o->q = !o->scalar && i->q;
    return arm_check_fp(t);
}

bool v_begin(struct v_op *o, struct arm_t *t, const struct a64_insn *i) { return begin(o, t, i, i->size); }
bool f_begin(struct v_op *o, struct arm_t *t, const struct a64_insn *i)
{
    return begin(o, t, i, i->row->flags & A64_ROW_HALF ? 1 : 2u + i->sz);
}

void v_three(struct arm_t *t, const struct a64_insn *i, v3_fn *fn)
{
    struct v_op o;

    if (v_begin(&o, t, i))
        v_put(&o, fn(&o, a64_q(t, i->vn), a64_q(t, i->vm)));
}

void v_two(struct arm_t *t, const struct a64_insn *i, v2_fn *fn)
{
    struct v_op o;

    if (v_begin(&o, t, i))
        v_put(&o, fn(&o, a64_q(t, i->vn)));
}

/* ---- by C functions */

uint32_t v_desc(const struct v_op *o, unsigned op, unsigned arg)
{
    return SIMD_DESC(op, o->size, o->scalar ? 0 : 3u + o->q - o->size, arg) | (o->t->a32.standard ? SIMD_STANDARD : 0);
}

static ir_val desc(const struct v_op *o, unsigned op, unsigned arg) { return ir_const(o->ir, T_I32, v_desc(o, op, arg)); }

ir_val v_call1(const struct v_op *o, unsigned op, unsigned arg, ir_val n)
{
    return arm_call(o->t, ARM_HELP_simd1, desc(o, op, arg), n, 0, 0);
}
ir_val v_call2(const struct v_op *o, unsigned op, unsigned arg, ir_val n, ir_val m)
{
    return arm_call(o->t, ARM_HELP_simd2, desc(o, op, arg), n, m, 0);
}
ir_val v_call3(const struct v_op *o, unsigned op, unsigned arg, ir_val d, ir_val n, ir_val m)
{
    return arm_call(o->t, ARM_HELP_simd3, desc(o, op, arg), d, n, m);
}

/* ---- three registers of the same type */

EMIT_V3(add) { return v_add(o, o->size, n, m); }
EMIT_V3(sub) { return v_sub(o, o->size, n, m); }
EMIT_V3(and) { return v_and(o, n, m); }
EMIT_V3(bic) { return v_andn(o, m, n); }
EMIT_V3(orr) { return o->i->vn == o->i->vm ? n : v_or(o, n, m); }
EMIT_V3(orn) { return v_or(o, n, v_not(o, m)); }
EMIT_V3(eor) { return v_xor(o, n, m); }

/* (a ^ b) & mask ^ b: a where the mask is set, else b. */
static ir_val select_bits(const struct v_op *o, ir_val mask, ir_val a, ir_val b)
{
    return v_xor(o, v_and(o, v_xor(o, a, b), mask), b);
}
EMIT_V3(bsl) { return select_bits(o, v_d(o), n, m); }
EMIT_V3(bit) { return select_bits(o, m, n, v_d(o)); }
EMIT_V3(bif) { return select_bits(o, m, v_d(o), n); }

EMIT_V3(cmeq) { return v_eq(o, o->size, n, m); }
EMIT_V3(cmgt) { return v_gt(o, o->size, n, m); }
EMIT_V3(cmge)
{
    if (o->size == 3)
        return v_not(o, v_gt(o, 3, m, n));
    return v_eq(o, o->size, v_max(o, true, n, m), n);
}
static ir_val unsigned_ge(const struct v_op *o, ir_val n, ir_val m) { return v_eq(o, o->size, v_max(o, false, n, m), n); }
static ir_val unsigned_gt64(const struct v_op *o, ir_val n, ir_val m)
{
    ir_val sign = v_const(o, UINT64_C(1) << 63);

    return v_gt(o, 3, v_xor(o, n, sign), v_xor(o, m, sign));
}
EMIT_V3(cmhs) { return o->size == 3 ? v_not(o, unsigned_gt64(o, m, n)) : unsigned_ge(o, n, m); }
EMIT_V3(cmhi) { return o->size == 3 ? unsigned_gt64(o, n, m) : v_not(o, unsigned_ge(o, m, n)); }
EMIT_V3(cmtst) { return v_not(o, v_eq(o, o->size, v_and(o, n, m), v_const(o, 0))); }

EMIT_V3(smax) { return v_max(o, true, n, m); }
EMIT_V3(umax) { return v_max(o, false, n, m); }
EMIT_V3(smin) { return v_min(o, true, n, m); }
EMIT_V3(umin) { return v_min(o, false, n, m); }

/* |n - m| modulo the width, which as an unsigned number is exact. */
static ir_val difference(const struct v_op *o, bool is_signed, ir_val n, ir_val m)
{
    if (!is_signed && o->size < 2)
        return v_or(o, v2(o, o->size ? VOP_SUBU16 : VOP_SUBU8, n, m), v2(o, o->size ? VOP_SUBU16 : VOP_SUBU8, m, n));
    return v_sub(o, o->size, v_max(o, is_signed, n, m), v_min(o, is_signed, n, m));
}
EMIT_V3(sabd) { return difference(o, true, n, m); }
EMIT_V3(uabd) { return difference(o, false, n, m); }
EMIT_V3(saba) { return v_add(o, o->size, v_d(o), difference(o, true, n, m)); }
EMIT_V3(uaba) { return v_add(o, o->size, v_d(o), difference(o, false, n, m)); }

/* Halving: (n + m) >> 1 without the carry's loss is (n & m) + ((n ^ m) >> 1), rounded up (n | m) - ((n ^ m) >> 1). */
static ir_val half_difference(const struct v_op *o, bool is_signed, ir_val n, ir_val m)
{
    ir_val x = v_xor(o, n, m);

    return is_signed ? v_sar(o, o->size, x, 1) : v_shr(o, o->size, x, 1);
}
static ir_val halve(const struct v_op *o, bool is_signed, ir_val n, ir_val m)
{
    return v_add(o, o->size, v_and(o, n, m), half_difference(o, is_signed, n, m));
}
static ir_val halve_up(const struct v_op *o, bool is_signed, ir_val n, ir_val m)
{
    if (!is_signed && o->size < 2)
        return v2(o, o->size ? VOP_AVG16 : VOP_AVG8, n, m);
    return v_sub(o, o->size, v_or(o, n, m), half_difference(o, is_signed, n, m));
}
/* (n - m) >> 1 is ((n ^ m) >> 1) - (~n & m). */
static ir_val halve_sub(const struct v_op *o, bool is_signed, ir_val n, ir_val m)
{
    return v_sub(o, o->size, half_difference(o, is_signed, n, m), v_andn(o, n, m));
}
EMIT_V3(shadd) { return halve(o, true, n, m); }
EMIT_V3(uhadd) { return halve(o, false, n, m); }
EMIT_V3(srhadd) { return halve_up(o, true, n, m); }
EMIT_V3(urhadd) { return halve_up(o, false, n, m); }
EMIT_V3(shsub) { return halve_sub(o, true, n, m); }
EMIT_V3(uhsub) { return halve_sub(o, false, n, m); }

/* ---- saturating: the host saturates, what differs from the plain sum sets QC */

/* 32-bit elements, of which r is the plain result. What overflows has n's sign and not the result's; unsigned, n is limited first. */
static ir_val saturate32(const struct v_op *o, bool is_signed, bool subtracts, ir_val n, ir_val m, ir_val r)
{
    ir_val over, limit;

    if (!is_signed)
        return subtracts ? v_sub(o, 2, v_max(o, false, n, m), m) : v_add(o, 2, v_min(o, false, n, v_not(o, m)), m);
    over = v_and(o, v_xor(o, n, r), subtracts ? v_xor(o, n, m) : v_xor(o, m, r));
    limit = v_xor(o, v_sar(o, 2, n, 31), v_splat(o, 2, INT32_MAX));
    return v3(o, VOP_BLENDVPS, r, limit, over);
}

static ir_val saturate(const struct v_op *o, const uint16_t vop[2], unsigned op, bool subtracts, ir_val n, ir_val m)
{
    ir_val r, plain;

    if (o->size == 3)
        return v_call2(o, op, 0, n, m);
    plain = subtracts ? v_sub(o, o->size, n, m) : v_add(o, o->size, n, m);
    r = o->size == 2 ? saturate32(o, op == SIMD_SQADD || op == SIMD_SQSUB, subtracts, n, m, plain) : v2(o, vop[o->size], n, m);
    v_saturated(o, v_xor(o, r, plain));
    return r;
}
EMIT_V3(sqadd) { return saturate(o, (const uint16_t[]){ VOP_ADDS8, VOP_ADDS16 }, SIMD_SQADD, false, n, m); }
EMIT_V3(uqadd) { return saturate(o, (const uint16_t[]){ VOP_ADDU8, VOP_ADDU16 }, SIMD_UQADD, false, n, m); }
EMIT_V3(sqsub) { return saturate(o, (const uint16_t[]){ VOP_SUBS8, VOP_SUBS16 }, SIMD_SQSUB, true, n, m); }
EMIT_V3(uqsub) { return saturate(o, (const uint16_t[]){ VOP_SUBU8, VOP_SUBU16 }, SIMD_UQSUB, true, n, m); }

/* ---- pairwise: an operation on the even and the odd elements of m:n */

/* For up to 16 bits: the operation on an element and its upper neighbour, in the place of the upper one, brought down. */
static ir_val pair_up(const struct v_op *o, v3_fn *fn, ir_val x)
{
    ir_val r = fn(o, x, v1i(o, o->size ? VOP_SHLI32 : VOP_SHLI16, x, 8u << o->size));

    return v1i(o, o->size ? VOP_SHRI32 : VOP_SHRI16, r, 8u << o->size);
}
static ir_val pairwise(const struct v_op *o, v3_fn *fn, ir_val n, ir_val m)
{
    ir_val x, y;

    if (!o->q)
        n = m = v_pair(o, n, m);
    if (o->size == 3)
        return fn(o, v2(o, VOP_UNPKL64, n, m), v2(o, VOP_UNPKH64, n, m));
    if (o->size == 2)
        return fn(o, v2i(o, VOP_SHUFPS, n, m, 0x88), v2i(o, VOP_SHUFPS, n, m, 0xdd));
    x = pair_up(o, fn, n);
    y = n == m ? x : pair_up(o, fn, m);
    return v2(o, o->size ? VOP_PACKU32 : VOP_PACKU16, x, y);
}
EMIT_V3(addp) { return pairwise(o, three_add, n, m); }
EMIT_V3(smaxp) { return pairwise(o, three_smax, n, m); }
EMIT_V3(umaxp) { return pairwise(o, three_umax, n, m); }
EMIT_V3(sminp) { return pairwise(o, three_smin, n, m); }
EMIT_V3(uminp) { return pairwise(o, three_umin, n, m); }

EMIT(v_addp_scalar)
{
    struct v_op o;
    ir_val n;

    if (!begin(&o, t, i, 3))
        return;
    n = a64_q(t, i->vn);
    o.scalar = true;
    v_put(&o, v_add(&o, 3, n, v2(&o, VOP_UNPKH64, n, n)));
}
