/* A64 Advanced SIMD: integer multiplication, registers of different types, by element, dot products. DDI 0487 C4.1.96, C7. */
#include "a64_simd.h"

/* ---- products of the same width */

static ir_val mul(const struct v_op *o, ir_val n, ir_val m)
{
    ir_val even, odd, low = v_const(o, UINT64_C(0x00ff00ff00ff00ff));

    if (o->size)
        return v2(o, o->size == 1 ? VOP_MUL16 : VOP_MUL32, n, m);
    even = v_and(o, v2(o, VOP_MUL16, n, m), low);
    odd = v2(o, VOP_MUL16, v1i(o, VOP_SHRI16, n, 8), v_andn(o, low, m));
    return v_or(o, even, odd);
}
EMIT_V3(mul) { return mul(o, n, m); }
EMIT_V3(mla) { return v_add(o, o->size, v_d(o), mul(o, n, m)); }
EMIT_V3(mls) { return v_sub(o, o->size, v_d(o), mul(o, n, m)); }
EMIT_V3(pmul) { return v_call2(o, SIMD_PMUL, 0, n, m); }

/* The host's rounded product of 16 bits differs in -1 * -1 alone, which it makes -1. */
static ir_val doubling_rounded16(const struct v_op *o, ir_val n, ir_val m)
{
    ir_val r = v2(o, VOP_MULRS16, n, m), over = v_eq(o, 1, r, v_splat(o, 1, 0x8000));

    v_saturated(o, over);
    return v_xor(o, r, over);
}
static ir_val doubling16(const struct v_op *o, ir_val n, ir_val m)
{
    ir_val r = v_or(o, v1i(o, VOP_SHLI16, v2(o, VOP_MULHS16, n, m), 1), v1i(o, VOP_SHRI16, v2(o, VOP_MUL16, n, m), 15));
    ir_val over = v_eq(o, 1, r, v_splat(o, 1, 0x8000));

    v_saturated(o, over);
    return v_xor(o, r, over);
}
EMIT_V3(sqdmulh) { return o->size == 1 ? doubling16(o, n, m) : v_call2(o, SIMD_SQDMULH, 0, n, m); }
EMIT_V3(sqrdmulh) { return o->size == 1 ? doubling_rounded16(o, n, m) : v_call2(o, SIMD_SQRDMULH, 0, n, m); }
EMIT_V3(sqrdmlah) { return v_call3(o, SIMD_SQRDMLAH, 0, v_d(o), n, m); }
EMIT_V3(sqrdmlsh) { return v_call3(o, SIMD_SQRDMLSH, 0, v_d(o), n, m); }

/* ---- to twice the width, of the lower or (q) the upper halves */

static ir_val part(const struct v_op *o, ir_val n) { return o->q ? v1i(o, VOP_BYTESHR, n, 8) : n; }
static ir_val long_part(const struct v_op *o, bool is_signed, ir_val n) { return v_widen(o, is_signed, part(o, n)); }

static ir_val mul_long(const struct v_op *o, bool is_signed, ir_val n, ir_val m)
{
    unsigned lanes = o->q ? 0xfa : 0x50;

    if (o->size == 0)
        return v2(o, VOP_MUL16, long_part(o, is_signed, n), long_part(o, is_signed, m));
    if (o->size == 1)
        return v2(o, o->q ? VOP_UNPKH16 : VOP_UNPKL16, v2(o, VOP_MUL16, n, m), v2(o, is_signed ? VOP_MULHS16 : VOP_MULHU16, n, m));
    return v2(o, is_signed ? VOP_MULS32 : VOP_MULU32, v1i(o, VOP_SHUF32, n, lanes), v1i(o, VOP_SHUF32, m, lanes));
}

/* Results fill the register whatever q says. */
static void long_three(struct arm_t *t, const struct a64_insn *i, v3_fn *fn)
{
    struct v_op o;

    if (v_begin(&o, t, i))
        a64_put_q(t, i->vd, fn(&o, a64_q(t, i->vn), a64_q(t, i->vm)));
}
#define EMIT_LONG(name)                                                                            \
    static v3_fn long_##name;                                                                      \
    EMIT(v_##name) { long_three(t, i, long_##name); }                                              \
    static ir_val long_##name(const struct v_op *o, ir_val n, ir_val m)

EMIT_LONG(smull) { return mul_long(o, true, n, m); }
EMIT_LONG(umull) { return mul_long(o, false, n, m); }
EMIT_LONG(smlal) { return v_add(o, o->size + 1, v_d(o), mul_long(o, true, n, m)); }
EMIT_LONG(umlal) { return v_add(o, o->size + 1, v_d(o), mul_long(o, false, n, m)); }
EMIT_LONG(smlsl) { return v_sub(o, o->size + 1, v_d(o), mul_long(o, true, n, m)); }
EMIT_LONG(umlsl) { return v_sub(o, o->size + 1, v_d(o), mul_long(o, false, n, m)); }

EMIT_LONG(saddl) { return v_add(o, o->size + 1, long_part(o, true, n), long_part(o, true, m)); }
EMIT_LONG(uaddl) { return v_add(o, o->size + 1, long_part(o, false, n), long_part(o, false, m)); }
EMIT_LONG(ssubl) { return v_sub(o, o->size + 1, long_part(o, true, n), long_part(o, true, m)); }
EMIT_LONG(usubl) { return v_sub(o, o->size + 1, long_part(o, false, n), long_part(o, false, m)); }
EMIT_LONG(saddw) { return v_add(o, o->size + 1, n, long_part(o, true, m)); }
EMIT_LONG(uaddw) { return v_add(o, o->size + 1, n, long_part(o, false, m)); }
EMIT_LONG(ssubw) { return v_sub(o, o->size + 1, n, long_part(o, true, m)); }
EMIT_LONG(usubw) { return v_sub(o, o->size + 1, n, long_part(o, false, m)); }

/* |n - m| fits the narrow width as an unsigned number. */
static ir_val difference_long(const struct v_op *o, bool is_signed, ir_val n, ir_val m)
{
    n = part(o, n);
    m = part(o, m);
    return v_widen(o, false, v_sub(o, o->size, v_max(o, is_signed, n, m), v_min(o, is_signed, n, m)));
}
EMIT_LONG(sabdl) { return difference_long(o, true, n, m); }
EMIT_LONG(uabdl) { return difference_long(o, false, n, m); }
EMIT_LONG(sabal) { return v_add(o, o->size + 1, v_d(o), difference_long(o, true, n, m)); }
EMIT_LONG(uabal) { return v_add(o, o->size + 1, v_d(o), difference_long(o, false, n, m)); }

/* Carry-less products. Bytes: the even and odd ones would cost as much as the call. */
static ir_val call_half(const struct v_op *o, unsigned op, ir_val n, ir_val m)
{
    struct v_op half = *o;

    half.q = false;
    return v_call2(&half, op, 0, part(o, n), part(o, m));
}
EMIT(v_pmull8)
{
    struct v_op o = { .t = t, .ir = t->ir, .i = i, .q = i->q };

    if (arm_check_fp(t))
        a64_put_q(t, i->vd, call_half(&o, SIMD_PMULL, a64_q(t, i->vn), a64_q(t, i->vm)));
}
EMIT(v_pmull64)
{
    if (arm_check_fp(t))
        a64_put_q(t, i->vd, ir_vop(t->ir, VOP_CLMUL, T_V128, a64_q(t, i->vn), a64_q(t, i->vm), 0, i->q ? 0x11 : 0));
}

/* Doubling ones, saturating: the C function's element sizes are the operands'. */
static ir_val doubling_long(const struct v_op *o, unsigned op, ir_val n, ir_val m)
{
    struct v_op half = *o;

    half.q = false;
    if (!o->scalar) {
        n = part(o, n);
        m = part(o, m);
    }
    return op == SIMD_SQDMULL ? v_call2(&half, op, 0, n, m) : v_call3(&half, op, 0, v_d(o), n, m);
}
EMIT_LONG(sqdmull) { return doubling_long(o, SIMD_SQDMULL, n, m); }
EMIT_LONG(sqdmlal) { return doubling_long(o, SIMD_SQDMLAL, n, m); }
EMIT_LONG(sqdmlsl) { return doubling_long(o, SIMD_SQDMLSL, n, m); }

/* ---- by element; arg: log2 of the element's bytes */

static bool element_begin(struct v_op *o, struct arm_t *t, const struct a64_insn *i, unsigned size)
{
    *o = (struct v_op){ .t = t, .ir = t->ir, .i = i, .size = size };
    o->scalar = i->row->flags & A64_ROW_SCALAR;
    o->q = !o->scalar && i->q;
    return arm_check_fp(t);
}

static void by_element(struct arm_t *t, const struct a64_insn *i, v3_fn *fn, bool is_long)
{
    struct v_op o;
    ir_val r;

    if (!element_begin(&o, t, i, i->row->arg))
        return;
    r = fn(&o, a64_q(t, i->vn), v_dup(&o, o.size, a64_q(t, i->vm), i->index));
    if (is_long)
        a64_put_q(t, i->vd, r);
    else
        v_put(&o, r);
}
#define EMIT_ELEMENT(name) EMIT(v_##name##_e) { by_element(t, i, three_##name, false); }
#define EMIT_ELEMENT_LONG(name) EMIT(v_##name##_e) { by_element(t, i, long_##name, true); }
EMIT_ELEMENT(mul)
EMIT_ELEMENT(mla)
EMIT_ELEMENT(mls)
EMIT_ELEMENT(sqdmulh)
EMIT_ELEMENT(sqrdmulh)
EMIT_ELEMENT(sqrdmlah)
EMIT_ELEMENT(sqrdmlsh)
EMIT_ELEMENT_LONG(smull)
EMIT_ELEMENT_LONG(umull)
EMIT_ELEMENT_LONG(smlal)
EMIT_ELEMENT_LONG(umlal)
EMIT_ELEMENT_LONG(smlsl)
EMIT_ELEMENT_LONG(umlsl)
EMIT_ELEMENT_LONG(sqdmull)
EMIT_ELEMENT_LONG(sqdmlal)
EMIT_ELEMENT_LONG(sqdmlsl)

/* ---- dot products and matrices of bytes */

/* Sums of neighbouring products of 16 bits, then of those: four bytes each. */
static ir_val dot(const struct v_op *o, bool n_signed, bool m_signed, ir_val n, ir_val m)
{
    static const uint16_t extend[2] = { VOP_ZX8_16, VOP_SX8_16 };
    ir_val low = v2(o, VOP_MADD16, v1(o, extend[n_signed], n), v1(o, extend[m_signed], m)), high;

    if (!o->q)
        return v2(o, VOP_HADD32, low, low);
    high = v2(o, VOP_MADD16, v1(o, extend[n_signed], v1i(o, VOP_BYTESHR, n, 8)), v1(o, extend[m_signed], v1i(o, VOP_BYTESHR, m, 8)));
    return v2(o, VOP_HADD32, low, high);
}
static void dot_product(struct arm_t *t, const struct a64_insn *i, bool n_signed, bool m_signed, bool element)
{
    struct v_op o;
    ir_val m;

    if (!element_begin(&o, t, i, 2))
        return;
    m = a64_q(t, i->vm);
    if (element)
        m = v_dup(&o, 2, m, i->index);
    v_put(&o, v_add(&o, 2, v_d(&o), dot(&o, n_signed, m_signed, a64_q(t, i->vn), m)));
}
EMIT(v_sdot) { dot_product(t, i, true, true, false); }
EMIT(v_udot) { dot_product(t, i, false, false, false); }
EMIT(v_usdot) { dot_product(t, i, false, true, false); }
EMIT(v_sdot_e) { dot_product(t, i, true, true, true); }
EMIT(v_udot_e) { dot_product(t, i, false, false, true); }
EMIT(v_usdot_e) { dot_product(t, i, false, true, true); }
EMIT(v_sudot_e) { dot_product(t, i, true, false, true); }

static void matrix(struct arm_t *t, const struct a64_insn *i, unsigned op)
{
    struct v_op o = { .t = t, .ir = t->ir, .i = i, .size = 2, .q = true };

    if (arm_check_fp(t))
        a64_put_q(t, i->vd, v_call3(&o, op, 0, v_d(&o), a64_q(t, i->vn), a64_q(t, i->vm)));
}
EMIT(v_smmla) { matrix(t, i, SIMD_SMMLA); }
EMIT(v_ummla) { matrix(t, i, SIMD_UMMLA); }
EMIT(v_usmmla) { matrix(t, i, SIMD_USMMLA); }
