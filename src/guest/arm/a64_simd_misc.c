/* A64 Advanced SIMD: two registers (miscellaneous) and operations across lanes, integer. DDI 0487 C4.1.96, C7. */
#include "a64_simd.h"

EMIT_V2(not) { return v_not(o, n); }
EMIT_V2(neg) { return v_sub(o, o->size, v_const(o, 0), n); }
EMIT_V2(abs)
{
    static const uint16_t vop[3] = { VOP_ABS8, VOP_ABS16, VOP_ABS32 };
    ir_val sign;

    if (o->size < 3)
        return v1(o, vop[o->size], n);
    sign = v_sar(o, 3, n, 63);
    return v_sub(o, 3, v_xor(o, n, sign), sign);
}

EMIT_V2(cmgt0) { return v_gt(o, o->size, n, v_const(o, 0)); }
EMIT_V2(cmge0) { return v_gt(o, o->size, n, v_const(o, UINT64_MAX)); }
EMIT_V2(cmeq0) { return v_eq(o, o->size, n, v_const(o, 0)); }
EMIT_V2(cmle0) { return v_gt(o, o->size, v_splat(o, o->size, 1), n); }
EMIT_V2(cmlt0) { return v_gt(o, o->size, v_const(o, 0), n); }

/* ---- saturating: the least number has no opposite */

static ir_val negate_saturating(const struct v_op *o, ir_val n)
{
    ir_val r = v2(o, o->size ? VOP_SUBS16 : VOP_SUBS8, v_const(o, 0), n);

    v_saturated(o, v_xor(o, r, v_sub(o, o->size, v_const(o, 0), n)));
    return r;
}
EMIT_V2(sqneg) { return o->size < 2 ? negate_saturating(o, n) : v_call1(o, SIMD_SQNEG, 0, n); }
EMIT_V2(sqabs) { return o->size < 2 ? v_max(o, true, n, negate_saturating(o, n)) : v_call1(o, SIMD_SQABS, 0, n); }
EMIT_V2(suqadd) { return v_call2(o, SIMD_SUQADD, 0, v_d(o), n); }
EMIT_V2(usqadd) { return v_call2(o, SIMD_USQADD, 0, v_d(o), n); }

/* ---- bits */

/* By the nibble, from a table in a register. */
static ir_val by_nibble(const struct v_op *o, ir_val n, uint64_t low, uint64_t high)
{
    return v2(o, VOP_SHUF8, v_const2(o, low, high), n);
}
EMIT_V2(cnt)
{
    uint64_t low = UINT64_C(0x0302020102010100), high = UINT64_C(0x0403030203020201);

    return v_add(o, 0, by_nibble(o, v_and(o, n, v_splat(o, 0, 15)), low, high), by_nibble(o, v_shr(o, 0, n, 4), low, high));
}
EMIT(v_rbit)
{
    struct v_op o = { .t = t, .ir = t->ir, .i = i, .q = i->q };
    ir_val n, low, high;

    if (!arm_check_fp(t))
        return;
    n = a64_q(t, i->vn);
    low = by_nibble(&o, v_and(&o, n, v_splat(&o, 0, 15)), UINT64_C(0xe060a020c0408000), UINT64_C(0xf070b030d0509010));
    high = by_nibble(&o, v_shr(&o, 0, n, 4), UINT64_C(0x0e060a020c040800), UINT64_C(0x0f070b030d050901));
    v_put(&o, v_or(&o, low, high));
}
EMIT_V2(clz) { return v_call1(o, SIMD_CLZ, 0, n); }
EMIT_V2(cls) { return v_call1(o, SIMD_CLS, 0, n); }
static void estimate(struct arm_t *t, const struct a64_insn *i, unsigned op)
{
    struct v_op o = { .t = t, .ir = t->ir, .i = i, .size = 2, .q = i->q };

    if (arm_check_fp(t))
        v_put(&o, v_call1(&o, op, 0, a64_q(t, i->vn)));
}
EMIT(v_urecpe) { estimate(t, i, SIMD_URECPE); }
EMIT(v_ursqrte) { estimate(t, i, SIMD_URSQRTE); }

/* ---- sums of neighbours, twice as wide */

static ir_val add_pairs(const struct v_op *o, bool is_signed, ir_val n)
{
    unsigned bits = 8u << o->size, wide = o->size + 1;
    ir_val low;

    if (o->size == 0)
        return is_signed ? v2(o, VOP_MADDUS8, v_splat(o, 0, 1), n) : v2(o, VOP_MADDUS8, n, v_splat(o, 0, 1));
    if (o->size == 1 && is_signed)
        return v2(o, VOP_MADD16, n, v_splat(o, 1, 1));
    if (is_signed)
        return v_add(o, wide, v_sar(o, wide, v_shl(o, wide, n, bits), bits), v_sar(o, wide, n, bits));
    low = v_and(o, n, v_const(o, bits == 16 ? UINT64_C(0x0000ffff0000ffff) : UINT64_C(0xffffffff)));
    return v_add(o, wide, low, v_shr(o, wide, n, bits));
}
EMIT_V2(saddlp) { return add_pairs(o, true, n); }
EMIT_V2(uaddlp) { return add_pairs(o, false, n); }
EMIT_V2(sadalp) { return v_add(o, o->size + 1, v_d(o), add_pairs(o, true, n)); }
EMIT_V2(uadalp) { return v_add(o, o->size + 1, v_d(o), add_pairs(o, false, n)); }

/* ---- across lanes */

typedef ir_val across_fn(struct v_op *o, ir_val n);
/* The function leaves the result's size in o->size. */
static void across(struct arm_t *t, const struct a64_insn *i, across_fn *fn)
{
    struct v_op o;
    ir_val r;

    if (!v_begin(&o, t, i))
        return;
    r = fn(&o, a64_q(t, i->vn));
    o.scalar = true;
    v_put(&o, r);
}

static ir_val sum32(const struct v_op *o, ir_val x)
{
    x = v_add(o, 2, x, v1i(o, VOP_SHUF32, x, 0x4e));
    return v_add(o, 2, x, v1i(o, VOP_SHUF32, x, 0xb1));
}
static ir_val sum64(const struct v_op *o, ir_val x) { return v_add(o, 3, x, v2(o, VOP_UNPKH64, x, x)); }

static ir_val add_across(struct v_op *o, bool is_signed, ir_val n)
{
    ir_val bias = 0;

    if (!o->q)
        n = v_low(o, n);
    switch (o->size) {
    case 0:
        if (is_signed) {                /* sums of bytes are of unsigned ones */
            n = v_xor(o, n, o->q ? v_splat(o, 0, 0x80) : v_const2(o, UINT64_C(0x8080808080808080), 0));
            bias = v_splat(o, 1, 0x80u * (o->q ? 16u : 8u));
        }
        n = v2(o, VOP_SAD8, n, v_const(o, 0));
        n = o->q ? sum64(o, n) : n;
        return bias ? v_sub(o, 1, n, bias) : n;
    case 1:
        return sum32(o, add_pairs(o, is_signed, n));
    default:
        return sum64(o, add_pairs(o, is_signed, n));
    }
}
static ir_val addv(struct v_op *o, ir_val n) { return o->size == 2 ? sum32(o, n) : add_across(o, o->size == 1, n); }
static ir_val saddlv(struct v_op *o, ir_val n)
{
    n = add_across(o, true, n);
    o->size++;
    return n;
}
static ir_val uaddlv(struct v_op *o, ir_val n)
{
    n = add_across(o, false, n);
    o->size++;
    return n;
}
EMIT(v_addv) { across(t, i, addv); }
EMIT(v_saddlv) { across(t, i, saddlv); }
EMIT(v_uaddlv) { across(t, i, uaddlv); }

/* Minima and maxima of up to 16 bits by PHMINPOSUW, of what the order's bits are turned to unsigned ascending by `flip`. */
static ir_val extreme(struct v_op *o, bool is_signed, bool maximum, ir_val n)
{
    uint64_t sign = UINT64_C(1) << ((8u << o->size) - 1);
    ir_val flip = v_splat(o, o->size, (is_signed ? sign : 0) ^ (maximum ? (sign << 1) - 1 : 0));

    if (o->size == 2) {
        n = maximum ? v_max(o, is_signed, n, v1i(o, VOP_SHUF32, n, 0x4e)) : v_min(o, is_signed, n, v1i(o, VOP_SHUF32, n, 0x4e));
        return maximum ? v_max(o, is_signed, n, v1i(o, VOP_SHUF32, n, 0xb1)) : v_min(o, is_signed, n, v1i(o, VOP_SHUF32, n, 0xb1));
    }
    if (!o->q)
        n = v_pair(o, n, n);
    n = v_xor(o, n, flip);
    if (o->size == 0)
        n = v2(o, VOP_MINU8, n, v1i(o, VOP_SHRI16, n, 8));
    return v_xor(o, v1(o, VOP_HMINU16, n), flip);
}
static ir_val smaxv(struct v_op *o, ir_val n) { return extreme(o, true, true, n); }
static ir_val umaxv(struct v_op *o, ir_val n) { return extreme(o, false, true, n); }
static ir_val sminv(struct v_op *o, ir_val n) { return extreme(o, true, false, n); }
static ir_val uminv(struct v_op *o, ir_val n) { return extreme(o, false, false, n); }
EMIT(v_smaxv) { across(t, i, smaxv); }
EMIT(v_umaxv) { across(t, i, umaxv); }
EMIT(v_sminv) { across(t, i, sminv); }
EMIT(v_uminv) { across(t, i, uminv); }
