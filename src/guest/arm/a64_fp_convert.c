/* A64 floating point: conversions between formats, integers and fixed point, and moves to general registers. DDI 0487 C4.1.96,
 * C7.2.55 and following. */
#include "a64_fp.h"

static ir_val zero(const struct v_op *o) { return v_const(o, 0); }
static ir_val lane0(const struct v_op *o, ir_val n)     /* a half alone */
{
    return v2i(o, VOP_BLEND16, zero(o), n, 1);
}

/* ---- to integers */

/* 2^n in the format. */
static uint64_t power_of_two(unsigned size, int n)
{
    return size == 3 ? (uint64_t)(1023 + n) << 52 : (uint64_t)(127 + n) << 23;
}

/* By 2^-fbits. */
static ir_val scaled(const struct v_op *o, int fbits, ir_val v)
{
    static const struct f_vops vops = F_VOPS(MUL);

    return fbits ? v2(o, f_vop(o, &vops), v, f_const(o, power_of_two(o->size, -fbits))) : v;
}

enum rounding { TO_NEAREST, TO_MINUS, TO_PLUS, TO_ZERO, TO_AWAY };      /* the first four as ROUNDPS's immediate */
static const uint8_t soft_rounding[] = { FLOAT_ROUND_NEAREST_EVEN, FLOAT_ROUND_DOWN, FLOAT_ROUND_UP, FLOAT_ROUND_TO_ZERO, FLOAT_ROUND_NEAREST_AWAY };

/* Bounds that what is converted must lie between, as bits of the format: -1, 2^32, 2^63; -2^31 - 1, 2^31. */
struct bounds { uint64_t low, high; };
static const struct bounds bounds_u32[2] = { { 0xbf800000, 0x4f800000 }, { UINT64_C(0xbff0000000000000), UINT64_C(0x41f0000000000000) } };
static const struct bounds bounds_u64[2] = { { 0xbf800000, 0x5f000000 }, { UINT64_C(0xbff0000000000000), UINT64_C(0x43e0000000000000) } };
static const struct bounds bounds_s32 = { UINT64_C(0xc1e0000000200000), UINT64_C(0x41e0000000000000) };

enum { P_NLT_UQ = 0x15, P_NGT_UQ = 0x1a };

static ir_val truncated(const struct v_op *o, bool wide, ir_val n)
{
    static const uint16_t vop[2][2] = { { VOP_CVTTSS2I32, VOP_CVTTSS2I64 }, { VOP_CVTTSD2I32, VOP_CVTTSD2I64 } };

    return ir_vop(o->ir, vop[o->size == 3][wide], wide ? T_I64 : T_I32, n, 0, 0, 0);
}

/* Where the host would convert what Arm saturates, or be inexact about what Arm calls invalid alone: it gets zero for what
 * rounds to beyond the bounds, and the fix does the work. */
static ir_val to_int_bounded(const struct v_op *o, const struct bounds *by, enum rounding mode, bool wide, uint32_t desc, ir_val n)
{
    ir_val r = mode == TO_ZERO ? n : f_round(o, mode | 8u, n), beyond, v;

    beyond = v2(o, VOP_ORF, f_compare(o, P_NGT_UQ, r, f_const(o, by->low)), f_compare(o, P_NLT_UQ, r, f_const(o, by->high)));
    v = v2(o, VOP_ANDNF, beyond, n);
    if (mode != TO_ZERO)
        v = f_round(o, mode, v);
    v = truncated(o, wide || by != &bounds_s32, v);
    if (!wide && by != &bounds_s32)
        v = ir_un(o->ir, IR_TRUNC, v);
    return ir_vfix(o->ir, f_mask(o), ARM_FIX_TO_INT, v, n, 0, beyond, (int32_t)desc);
}

/* Element 0 of n as an integer of 32 or (wide) 64 bits; o is scalar. */
static ir_val to_int(const struct v_op *o, bool is_signed, bool wide, enum rounding mode, unsigned fbits, ir_val n)
{
    uint32_t desc = SIMD_DESC(is_signed ? FP_TO_INT : FP_TO_UINT, o->size, 0, FP_ARG_INT(fbits, soft_rounding[mode], wide));
    ir_val v;

    if (f_soft(o) || mode == TO_AWAY || fbits) {
        v = arm_call(o->t, ARM_HELP_fp_to_int, ir_const(o->ir, T_I32, desc), n, 0, 0);
        return wide ? v : ir_un(o->ir, IR_TRUNC, v);
    }
    n = f_flushed(o, n);
    if (!is_signed)
        return to_int_bounded(o, wide ? &bounds_u64[o->size == 3] : &bounds_u32[o->size == 3], mode, wide, desc, n);
    if (mode != TO_ZERO && o->size == 3 && !wide)       /* fractions of what does not fit; other formats have none there */
        return to_int_bounded(o, &bounds_s32, mode, false, desc, n);
    v = truncated(o, wide, mode == TO_ZERO ? n : f_round(o, mode, n));
    return ir_vfix(o->ir, FIX_INDEF, ARM_FIX_TO_INT, v, n, 0, 0, (int32_t)desc);
}

static bool scalar_begin(struct v_op *o, struct arm_t *t, const struct a64_insn *i)
{
    bool ok = f_begin(o, t, i);

    o->scalar = true;
    o->q = false;
    return ok;
}

static void to_register(struct arm_t *t, const struct a64_insn *i, bool is_signed, enum rounding mode, unsigned fbits)
{
    struct v_op o;

    if (scalar_begin(&o, t, i))
        a64_put_r(t, i->rd, to_int(&o, is_signed, i->sf, mode, fbits, a64_q(t, i->vn)));
}

/* 32-bit lanes between bounds as to_int_bounded() has them: unsigned ones, of which the host converts what is less than 2^31, and
 * fixed point, where scaling is exact but beyond the bounds. */
static ir_val to_int_lanes(const struct v_op *o, bool is_signed, enum rounding mode, unsigned fbits, ir_val n)
{
    enum { P_NGE_UQ = 0x19, P_GE_OQ = 0x1d };
    uint32_t desc = v_desc(o, is_signed ? FP_TO_INT : FP_TO_UINT, FP_ARG_INT(fbits, soft_rounding[mode], 0)), scale = fbits << 23;
    ir_val low = f_const(o, (is_signed ? 0xcf000000 : 0xbf800000) - scale), high = f_const(o, (is_signed ? 0x4f000000 : 0x4f800000) - scale);
    ir_val r, beyond, v, large = 0;

    n = f_flushed(o, f_operand(o, n));
    r = mode == TO_ZERO ? n : f_round(o, mode | 8u, n);
    beyond = v2(o, VOP_ORF, f_compare(o, is_signed ? P_NGE_UQ : P_NGT_UQ, r, low), f_compare(o, P_NLT_UQ, r, high));
    v = v2(o, VOP_ANDNF, beyond, n);
    if (mode != TO_ZERO)
        v = f_round(o, mode, v);
    v = scaled(o, -(int)fbits, v);
    if (!is_signed) {
        large = f_compare(o, P_GE_OQ, v, f_const(o, 0x4f000000));
        v = v2(o, VOP_SUBPS, v, v2(o, VOP_ANDF, large, f_const(o, 0x4f000000)));
    }
    v = v1(o, VOP_CVTTPS2DQ, v);
    if (large)
        v = v_xor(o, v, v_shl(o, 2, large, 31));
    return ir_vfix(o->ir, f_mask(o), ARM_FIX_FP1, v, n, 0, beyond, (int32_t)desc);
}

/* In vectors: integers of the same size. Lanes of 64 bits go one by one. */
static ir_val to_int_vector(const struct v_op *o, bool is_signed, enum rounding mode, ir_val n)
{
    unsigned op = is_signed ? FP_TO_INT : FP_TO_UINT, arg = FP_ARG_INT(0, soft_rounding[mode], 0);
    struct v_op one = *o;
    ir_val v, high;

    one.scalar = true;
    one.q = false;
    if (f_half(o) && mode != TO_AWAY)
        return f_half_to_int(o, is_signed, mode, v_desc(o, op, arg), n);
    if (o->scalar && !f_soft(o) && mode != TO_AWAY) {
        v = to_int(o, is_signed, o->size == 3, mode, 0, n);
        return ir_vop(o->ir, o->size == 3 ? VOP_MOVQ : VOP_MOVD, T_V128, v, 0, 0, 0);
    }
    if (f_soft(o) || mode == TO_AWAY)
        return f_call1(o, op, arg, n);
    if (o->size == 3) {
        high = to_int(&one, is_signed, true, mode, 0, v2(o, VOP_UNPKHPD, n, n));
        v = to_int(&one, is_signed, true, mode, 0, n);
        return v2i(o, VOP_INS64, ir_vop(o->ir, VOP_MOVQ, T_V128, v, 0, 0, 0), high, 1);
    }
    if (!is_signed)
        return to_int_lanes(o, false, mode, 0, n);
    n = f_flushed(o, f_operand(o, n));
    v = v1(o, VOP_CVTTPS2DQ, mode == TO_ZERO ? n : f_round(o, mode, n));
    return ir_vfix(o->ir, FIX_INDEF_PS, ARM_FIX_FP1, v, n, 0, 0, (int32_t)v_desc(o, op, arg));
}

#define EMIT_TO_INT(name, is_signed, mode)                                                         \
    EMIT(name) { to_register(t, i, is_signed, mode, 0); }                                          \
    static ir_val vector_##name(const struct v_op *o, ir_val n) { return to_int_vector(o, is_signed, mode, n); } \
    EMIT(name##_v) { f_two(t, i, vector_##name); }
EMIT_TO_INT(fcvtns, true, TO_NEAREST)
EMIT_TO_INT(fcvtnu, false, TO_NEAREST)
EMIT_TO_INT(fcvtms, true, TO_MINUS)
EMIT_TO_INT(fcvtmu, false, TO_MINUS)
EMIT_TO_INT(fcvtps, true, TO_PLUS)
EMIT_TO_INT(fcvtpu, false, TO_PLUS)
EMIT_TO_INT(fcvtzs, true, TO_ZERO)
EMIT_TO_INT(fcvtzu, false, TO_ZERO)
EMIT_TO_INT(fcvtas, true, TO_AWAY)
EMIT_TO_INT(fcvtau, false, TO_AWAY)
EMIT(fcvtzs_fixed) { to_register(t, i, true, TO_ZERO, 64u - i->scale); }
EMIT(fcvtzu_fixed) { to_register(t, i, false, TO_ZERO, 64u - i->scale); }

EMIT(fjcvtzs)
{
    ir_val v;

    if (!arm_check_fp(t))
        return;
    v = arm_call(t, ARM_HELP_fp_to_int, ir_const(t->ir, T_I32, SIMD_DESC(FP_JCVT, 3, 0, 0)), a64_q(t, i->vn), 0, 0);
    a64_put_r(t, i->rd, ir_un(t->ir, IR_TRUNC, v));
    arm_set_nzcv(t, ir_un(t->ir, IR_TRUNC, ir_bin_imm(t->ir, IR_AND, ir_bin_imm(t->ir, IR_SHR, v, 2), 1u << 30)));
}

/* ---- from integers */

/* v is I32 or (wide) I64. Halves and what FPCR asks for by a C function; unsigned ones of 64 bits with the top bit set are
 * halved, the bit lost kept as the lowest, and doubled afterwards. */
static ir_val from_int(const struct v_op *o, bool is_signed, bool wide, unsigned fbits, ir_val v)
{
    static const uint16_t vop[2][2] = { { VOP_CVTI32SS, VOP_CVTI64SS }, { VOP_CVTI32SD, VOP_CVTI64SD } };
    static const struct f_vops mul = F_VOPS(MUL);
    uint32_t desc = SIMD_DESC(is_signed ? FP_FROM_INT : FP_FROM_UINT, o->size, 0, FP_ARG_INT(fbits, 0, wide));
    ir_val odd, half, scale = 0;

    if (f_soft(o))
        return arm_call(o->t, ARM_HELP_fp_from_int, ir_const(o->ir, T_I32, desc), wide ? v : ir_un(o->ir, IR_ZEXT32, v), 0, 0);
    if (!is_signed && wide) {
        odd = ir_const(o->ir, T_I64, 0);
        half = ir_bin(o->ir, IR_OR, ir_bin_imm(o->ir, IR_SHR, v, 1), ir_bin_imm(o->ir, IR_AND, v, 1));
        scale = ir_select(o->ir, C_LT, v, odd, ir_const(o->ir, T_I64, power_of_two(o->size, 1)), ir_const(o->ir, T_I64, power_of_two(o->size, 0)));
        v = ir_select(o->ir, C_LT, v, odd, half, v);
    } else if (!is_signed) {
        v = ir_un(o->ir, IR_ZEXT32, v);
        wide = true;
    }
    v = ir_vop(o->ir, vop[o->size == 3][wide], T_V128, zero(o), v, 0, 0);
    if (scale)
        v = v2(o, f_vop(o, &mul), v, ir_vop(o->ir, VOP_MOVQ, T_V128, scale, 0, 0, 0));
    return scaled(o, (int)fbits, v);
}

static void from_register(struct arm_t *t, const struct a64_insn *i, bool is_signed, unsigned fbits)
{
    struct v_op o;

    if (scalar_begin(&o, t, i))
        a64_put_q(t, i->vd, from_int(&o, is_signed, i->sf, fbits, a64_r(t, i->sf, i->rn)));
}
EMIT(scvtf) { from_register(t, i, true, 0); }
EMIT(ucvtf) { from_register(t, i, false, 0); }
EMIT(scvtf_fixed) { from_register(t, i, true, 64u - i->scale); }
EMIT(ucvtf_fixed) { from_register(t, i, false, 64u - i->scale); }

/* 32-bit lanes: the host has signed ones; unsigned ones are the sum of their exact halves. */
static ir_val from_int_lanes(const struct v_op *o, bool is_signed, ir_val n)
{
    ir_val high, low;

    n = f_operand(o, n);
    if (is_signed)
        return v1(o, VOP_CVTDQ2PS, n);
    high = v2(o, VOP_MULPS, v1(o, VOP_CVTDQ2PS, v_shr(o, 2, n, 16)), v_splat(o, 2, 0x47800000));
    low = v1(o, VOP_CVTDQ2PS, v_and(o, n, v_splat(o, 2, 0xffff)));
    return v2(o, VOP_ADDPS, high, low);
}

static ir_val from_int_vector(const struct v_op *o, bool is_signed, unsigned fbits, ir_val n)
{
    struct v_op one = *o;
    ir_val low, high;

    if (f_half(o) && !fbits)
        return f_half_from_int(o, is_signed, n);
    if (f_soft(o))
        return f_call1(o, is_signed ? FP_FROM_INT : FP_FROM_UINT, FP_ARG_INT(fbits, 0, 0), n);
    if (o->scalar)
        return from_int(o, is_signed, o->size == 3, fbits, ir_vop(o->ir, o->size == 3 ? VOP_TOQ : VOP_TOD, o->size == 3 ? T_I64 : T_I32, n, 0, 0, 0));
    if (o->size == 2)
        return scaled(o, (int)fbits, from_int_lanes(o, is_signed, n));
    one.scalar = true;
    one.q = false;
    low = from_int(&one, is_signed, true, fbits, ir_vop(o->ir, VOP_TOQ, T_I64, n, 0, 0, 0));
    high = from_int(&one, is_signed, true, fbits, ir_vop(o->ir, VOP_EXT64, T_I64, n, 0, 0, 1));
    return v_pair(o, low, high);
}
static ir_val vector_scvtf(const struct v_op *o, ir_val n) { return from_int_vector(o, true, 0, n); }
static ir_val vector_ucvtf(const struct v_op *o, ir_val n) { return from_int_vector(o, false, 0, n); }
EMIT(scvtf_v) { f_two(t, i, vector_scvtf); }
EMIT(ucvtf_v) { f_two(t, i, vector_ucvtf); }

/* Fixed point in vectors: immh:immb is twice the element's bits less fbits. */
static bool fixed_begin(struct v_op *o, struct arm_t *t, const struct a64_insn *i, unsigned *fbits)
{
    *o = (struct v_op){ .t = t, .ir = t->ir, .i = i, .size = (unsigned)(28 - __builtin_clz(i->immhb)) };
    o->scalar = i->row->flags & A64_ROW_SCALAR;
    o->q = !o->scalar && i->q;
    *fbits = (16u << o->size) - i->immhb;
    return arm_check_fp(t);
}
static void fixed_to_int(struct arm_t *t, const struct a64_insn *i, bool is_signed)
{
    struct v_op o;
    unsigned fbits;
    ir_val n;

    if (!fixed_begin(&o, t, i, &fbits))
        return;
    n = a64_q(t, i->vn);
    if (f_soft(&o) || o.scalar || o.size != 2)
        v_put(&o, f_call1(&o, is_signed ? FP_TO_INT : FP_TO_UINT, FP_ARG_INT(fbits, FLOAT_ROUND_TO_ZERO, 0), n));
    else
        v_put(&o, to_int_lanes(&o, is_signed, TO_ZERO, fbits, n));
}
static void fixed_from_int(struct arm_t *t, const struct a64_insn *i, bool is_signed)
{
    struct v_op o;
    unsigned fbits;

    if (fixed_begin(&o, t, i, &fbits))
        v_put(&o, from_int_vector(&o, is_signed, fbits, a64_q(t, i->vn)));
}
EMIT(fcvtzs_v_fixed) { fixed_to_int(t, i, true); }
EMIT(fcvtzu_v_fixed) { fixed_to_int(t, i, false); }
EMIT(scvtf_v_fixed) { fixed_from_int(t, i, true); }
EMIT(ucvtf_v_fixed) { fixed_from_int(t, i, false); }

/* ---- between formats */

/* NaNs as the narrow format will have them: quiet, or the default one. The host's own quieting would do but for that. */
static ir_val nans_first(const struct v_op *o, ir_val n)
{
    return ir_vfix(o->ir, f_nan(o), ARM_FIX_FP1, n, n, 0, 0, (int32_t)v_desc(o, FP_SILENCE, 0));
}

enum { NEAREST_OF_MXCSR = 4 };

/* FPCR asks for what the host's conversions from this format can't do. */
static bool soft_formats(const struct v_op *of)
{
    uint64_t mode = of->t->mode;

    return (mode & MODE_FP_SLOW && !(mode & MODE_FP_FLUSH)) || (of->t->a32.standard && mode & MODE_FP_ROUND);
}

/* A double as a single: what is less than the least normal one is kept from the host. */
static ir_val narrow_flushing(const struct v_op *o, ir_val n)
{
    ir_val size = v2(o, VOP_ANDF, n, v_const(o, INT64_MAX)), tiny = v_gt(o, 3, v_const(o, UINT64_C(0x3810000000000000)), size), v;
    int32_t desc = (int32_t)v_desc(o, FP_NARROW, 0);

    tiny = v_andn(o, v_eq(o, 3, size, v_const(o, 0)), tiny);
    v = v2(o, VOP_CVTSD2SS, zero(o), v2(o, VOP_ANDNF, tiny, n));
    v = ir_vfix(o->ir, FIX_MASK_D, ARM_FIX_FP1, v, n, 0, tiny, desc);
    return ir_vfix(o->ir, f_nan(o), ARM_FIX_FP1, v, n, 0, 0, desc);
}

EMIT(fcvt)
{
    unsigned from = i->row->arg & 15, to = (unsigned)i->row->arg >> 4, op;
    struct v_op o = { .t = t, .ir = t->ir, .i = i, .size = to, .scalar = true }, of = o;
    ir_val n, v;

    if (!arm_check_fp(t))
        return;
    of.size = from;
    n = a64_q(t, i->vn);
    op = from == 1 && to == 3 ? FP_HALF_TO_DOUBLE : from == 3 && to == 1 ? FP_DOUBLE_TO_HALF : from < to ? FP_WIDEN : FP_NARROW;
    if (soft_formats(&of) || op == FP_DOUBLE_TO_HALF || (to == 1 && f_flush(&of))) {
        v = f_call1(&o, op, 0, n);
    } else if (op == FP_NARROW && to == 2 && f_flush(&o)) {
        v = narrow_flushing(&o, n);
    } else if (to == 1) {
        v = v1i(&o, VOP_CVTPS2PH, v_trim(&of, nans_first(&of, n)), NEAREST_OF_MXCSR);
    } else {
        n = f_flushed(&of, n);
        v = from == 1 ? v1(&o, VOP_CVTPH2PS, lane0(&o, n)) : n;
        if (to == 3)
            v = v2(&o, VOP_CVTSS2SD, zero(&o), v);
        else if (from == 3)
            v = v2(&o, VOP_CVTSD2SS, zero(&o), v);
        v = ir_vfix(o.ir, f_nan(&o), ARM_FIX_FP1, v, n, 0, 0, (int32_t)v_desc(&o, op, 0));
    }
    v_put(&o, v);
}

EMIT(bfcvt)
{
    struct v_op o = { .t = t, .ir = t->ir, .i = i, .size = 1, .scalar = true };

    if (arm_check_fp(t))
        a64_put_q(t, i->vd, f_call1(&o, FP_TO_BF16, 0, a64_q(t, i->vn)));
}

static void put_narrow(const struct v_op *o, ir_val v)
{
    if (o->q)
        a64_put_q(o->t, o->i->vd, v_pair(o, v_d(o), v));
    else
        a64_put_d(o->t, o->i->vd, v);
}

/* sz 0: singles to halves, 1: doubles to singles. */
EMIT(fcvtn)
{
    struct v_op o = { .t = t, .ir = t->ir, .i = i, .size = 1u + i->sz, .q = i->q }, of = o, half = o;
    ir_val n, v;

    if (!arm_check_fp(t))
        return;
    of.size++;
    of.q = true;
    half.q = false;
    n = a64_q(t, i->vn);
    if (soft_formats(&of) || f_flush(&of))
        v = f_call1(&half, FP_NARROW, 0, n);
    else if (i->sz)
        v = ir_vfix(o.ir, FIX_NAN_PS, ARM_FIX_FP1, v1(&o, VOP_CVTPD2PS, n), n, 0, 0, (int32_t)v_desc(&half, FP_NARROW, 0));
    else
        v = v1i(&o, VOP_CVTPS2PH, nans_first(&of, n), NEAREST_OF_MXCSR);
    put_narrow(&o, v);
}

EMIT(fcvtl)
{
    struct v_op o = { .t = t, .ir = t->ir, .i = i, .size = 2u + i->sz, .q = true }, of = o;
    ir_val n;

    of.size--;
    of.q = false;
    if (!arm_check_fp(t))
        return;
    n = a64_q(t, i->vn);
    if (i->q)
        n = v1i(&o, VOP_BYTESHR, n, 8);
    n = f_flushed(&of, f_operand(&of, n));
    if (soft_formats(&of))
        a64_put_q(t, i->vd, f_call1(&o, FP_WIDEN, 0, n));
    else
        a64_put_q(t, i->vd, ir_vfix(o.ir, f_nan(&o), ARM_FIX_FP1, v1(&o, i->sz ? VOP_CVTPS2PD : VOP_CVTPH2PS, n), n, 0, 0,
                                    (int32_t)v_desc(&o, FP_WIDEN, 0)));
}

EMIT(fcvtxn)
{
    struct v_op o = { .t = t, .ir = t->ir, .i = i, .size = 2, .scalar = i->row->flags & A64_ROW_SCALAR }, half;

    if (!arm_check_fp(t))
        return;
    half = o;
    o.q = !o.scalar && i->q;
    put_narrow(&o, f_call1(&half, FP_NARROW, 1, a64_q(t, i->vn)));
}

EMIT(bfcvtn)
{
    struct v_op o = { .t = t, .ir = t->ir, .i = i, .size = 1, .q = i->q }, half = o;

    if (!arm_check_fp(t))
        return;
    half.q = false;
    put_narrow(&o, f_call1(&half, FP_TO_BF16, 0, a64_q(t, i->vn)));
}

/* ---- moves; arg: log2 of the bytes */

EMIT(fmov_to)
{
    ir_val n;

    if (!arm_check_fp(t))
        return;
    n = a64_q(t, i->vn);
    if (i->row->arg == 3)
        a64_put_x(t, i->rd, ir_vop(t->ir, VOP_TOQ, T_I64, n, 0, 0, 0));
    else if (i->row->arg == 2)
        a64_put_r(t, i->rd, ir_vop(t->ir, VOP_TOD, T_I32, n, 0, 0, 0));
    else
        a64_put_r(t, i->rd, ir_vop(t->ir, VOP_EXT16, T_I32, n, 0, 0, 0));
}

EMIT(fmov_from)
{
    ir_val v;

    if (!arm_check_fp(t))
        return;
    if (i->row->arg == 3) {
        v = ir_vop(t->ir, VOP_MOVQ, T_V128, a64_x(t, i->rn), 0, 0, 0);
    } else {
        v = a64_w(t, i->rn);
        v = ir_vop(t->ir, VOP_MOVD, T_V128, i->row->arg == 1 ? ir_un(t->ir, IR_ZEXT16, v) : v, 0, 0, 0);
    }
    a64_put_q(t, i->vd, v);
}

EMIT(fmov_to_top)
{
    if (arm_check_fp(t))
        a64_put_x(t, i->rd, ir_vop(t->ir, VOP_EXT64, T_I64, a64_q(t, i->vn), 0, 0, 1));
}

EMIT(fmov_from_top)
{
    if (arm_check_fp(t))
        a64_put_q(t, i->vd, ir_vop(t->ir, VOP_INS64, T_V128, a64_q(t, i->vd), a64_x(t, i->rn), 0, 1));
}
