/* Arithmetic of halves by the host's singles and doubles (F16C). DDI 0487 C7; how often is rounded tells whether that is exact:
 * - sums, products, quotients and roots of halves, rounded to 24 bits first, become the same halves (24 >= 2 * 11 + 2);
 * - a fused sum is rounded to double, but only where that changes nothing: the product is exact, and where the sum is not, it is
 *   far beyond what a half holds or so near to the addend, a half, that all modes end where they should. From there on to
 *   single it is rounded to odd, which keeps on which side of what it lies.
 * Singles never overflow or underflow meanwhile. NaNs are put right by C; so is the least normal number as a result, where the
 * host's underflow (after rounding) and Arm's (before) differ. */
#include "a64_fp.h"

enum { P_LT_OQ = 0x11 };                /* CMPPS's predicates: SDM vol. 2 */

/* The low (n 0) or high four halves as singles. A scalar's one four times, so that others raise nothing. */
static ir_val widen(const struct v_op *o, unsigned n, ir_val v)
{
    if (o->scalar)
        v = v_dup(o, 1, v, 0);
    return v1(o, VOP_CVTPH2PS, n ? v1i(o, VOP_BYTESHR, v, 8) : v);
}

/* By MXCSR's rounding. */
static ir_val narrow(const struct v_op *o, const ir_val v[2])
{
    ir_val low = v1i(o, VOP_CVTPS2PH, v[0], 4);

    return o->q ? v2(o, VOP_UNPKL64, low, v1i(o, VOP_CVTPS2PH, v[1], 4)) : low;
}

/* Where a result is a NaN or the least normal number, the C function makes all anew. The mark is a NaN as single. */
static ir_val checked(const struct v_op *o, unsigned fix, unsigned desc, ir_val r, ir_val a, ir_val b, ir_val c)
{
    ir_val magnitude = v_and(o, r, v_splat(o, 1, 0x7fff));
    ir_val mark = v_or(o, v_gt(o, 1, magnitude, v_splat(o, 1, 0x7c00)), v_eq(o, 1, magnitude, v_splat(o, 1, 0x0400)));

    mark = v_or(o, mark, v_shl(o, 2, mark, 16));
    return ir_vfix(o->ir, FIX_NAN_PS, fix, v_or(o, r, mark), a, b, c, (int32_t)desc);
}

ir_val f_half_arithmetic(const struct v_op *o, unsigned vop, unsigned op, ir_val n, ir_val m)
{
    ir_val r[2] = { 0 };

    for (unsigned k = 0; k <= o->q; k++)
        r[k] = v2(o, vop, widen(o, k, n), widen(o, k, m));
    return checked(o, ARM_FIX_FP2, v_desc(o, op, 0), narrow(o, r), n, m, 0);
}

ir_val f_half_sqrt(const struct v_op *o, ir_val n)
{
    ir_val r[2] = { 0 };

    for (unsigned k = 0; k <= o->q; k++)
        r[k] = v1(o, VOP_SQRTPS, widen(o, k, n));
    return checked(o, ARM_FIX_FP1, v_desc(o, FP_SQRT, 0), narrow(o, r), n, 0, 0);
}

/* Two of four singles as doubles. */
static ir_val doubles(const struct v_op *o, unsigned n, ir_val v) { return v1(o, VOP_CVTPS2PD, n ? v1i(o, VOP_BYTESHR, v, 8) : v); }

/* Doubles to singles in the low half, to odd: bits that a single does not have set its last one, and the rest is exact. */
static ir_val to_odd(const struct v_op *o, ir_val v)
{
    const uint64_t beyond = (UINT64_C(1) << 29) - 1;
    ir_val exact = v_eq(o, 3, v_and(o, v, v_const(o, beyond)), v_const(o, 0));

    v = v_or(o, v_and(o, v, v_const(o, ~beyond)), v_andn(o, exact, v_const(o, beyond + 1)));
    return v1(o, VOP_CVTPD2PS, v);
}

ir_val f_half_fused(const struct v_op *o, unsigned vop, unsigned arg, ir_val d, ir_val n, ir_val m)
{
    ir_val r[2] = { 0 };

    for (unsigned k = 0; k <= o->q; k++) {
        ir_val a = widen(o, k, d), b = widen(o, k, n), c = widen(o, k, m), sum[2] = { 0 };

        for (unsigned h = 0; h < (o->scalar ? 1 : 2); h++)
            sum[h] = to_odd(o, ir_vop(o->ir, vop, T_V128, doubles(o, h, a), doubles(o, h, b), doubles(o, h, c), 2));
        r[k] = v2(o, VOP_UNPKL64, sum[0], sum[o->scalar ? 0 : 1]);
    }
    return checked(o, ARM_FIX_FP3, v_desc(o, FP_MULADD, arg), narrow(o, r), d, n, m);
}

/* All ones or zero in each half: predicate of CMPPS. */
ir_val f_half_compare(const struct v_op *o, unsigned predicate, ir_val n, ir_val m)
{
    ir_val r[2] = { 0 };

    for (unsigned k = 0; k <= o->q; k++)
        r[k] = v2i(o, VOP_CMPPS, widen(o, k, n), widen(o, k, m), predicate);
    return v2(o, VOP_PACKS32, r[0], o->q ? r[1] : r[0]);
}

/* Integers of 16 bits, which singles hold. */
ir_val f_half_from_int(const struct v_op *o, bool is_signed, ir_val n)
{
    ir_val r[2] = { 0 };

    if (o->scalar)
        n = v_dup(o, 1, n, 0);
    for (unsigned k = 0; k <= o->q; k++)
        r[k] = v1(o, VOP_CVTDQ2PS, v1(o, is_signed ? VOP_SX16_32 : VOP_ZX16_32, k ? v1i(o, VOP_BYTESHR, n, 8) : n));
    return narrow(o, r);
}

/* To 16 bits, by ROUNDPS's rounding (3: to zero). 32 bits hold all of them; where 16 do not, and for NaNs, the C function. What
 * an unsigned integer is too small for is invalid, but not inexact: the host converts zero. */
ir_val f_half_to_int(const struct v_op *o, bool is_signed, unsigned rounding, unsigned desc, ir_val n)
{
    ir_val r[2] = { 0 }, negative[2] = { 0 }, packed, differ = 0;

    for (unsigned k = 0; k <= o->q; k++) {
        ir_val v = widen(o, k, n);

        if (!is_signed) {
            negative[k] = v2i(o, VOP_CMPPS, v1i(o, VOP_ROUNDPS, v, rounding | 8), v_const(o, 0), P_LT_OQ);
            v = v_andn(o, negative[k], v);
        }
        r[k] = v1(o, VOP_CVTTPS2DQ, rounding == 3 ? v : v1i(o, VOP_ROUNDPS, v, rounding));
    }
    packed = v2(o, is_signed ? VOP_PACKS32 : VOP_PACKU32, r[0], o->q ? r[1] : r[0]);
    for (unsigned k = 0; k <= o->q; k++) {
        ir_val back = v1(o, is_signed ? VOP_SX16_32 : VOP_ZX16_32, k ? v1i(o, VOP_BYTESHR, packed, 8) : packed);
        ir_val x = v_not(o, v_eq(o, 2, back, r[k]));

        if (!is_signed)
            x = v_or(o, x, negative[k]);
        differ = k ? v_or(o, differ, x) : x;
    }
    return ir_vfix(o->ir, FIX_MASK_PS, ARM_FIX_FP1, packed, n, 0, differ, (int32_t)desc);
}
