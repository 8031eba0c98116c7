/* A64 floating-point arithmetic, scalar and vector. DDI 0487 C4.1.96, C7; the shared pseudocode of J1.3.3.
 *
 * One corner differs: Arm detects tininess before rounding, the host after. A product, quotient or fused sum that is inexact
 * and rounds up to the least normal number sets FPSR.UFC by the Arm ARM; on the host's way (not with FPCR.FZ, not for halves)
 * it does not. The value is the same. */
#include "a64_fp.h"

ir_val f_const(const struct v_op *o, uint64_t v) { return v_splat(o, o->size, v); }

static const uint64_t infinity[4] = { 0, 0, 0x7f800000, UINT64_C(0x7ff0000000000000) };
static uint64_t sign_of(const struct v_op *o) { return UINT64_C(1) << ((8u << o->size) - 1); }
static ir_val absolute(const struct v_op *o, ir_val n) { return v2(o, VOP_ANDF, n, f_const(o, sign_of(o) - 1)); }
static ir_val negated(const struct v_op *o, ir_val n) { return v2(o, VOP_XORF, n, f_const(o, sign_of(o))); }

ir_val f_call1(const struct v_op *o, unsigned op, unsigned arg, ir_val n)
{
    return arm_call(o->t, ARM_HELP_fp1, ir_const(o->ir, T_I32, v_desc(o, op, arg)), n, 0, 0);
}
ir_val f_call2(const struct v_op *o, unsigned op, unsigned arg, ir_val n, ir_val m)
{
    return arm_call(o->t, ARM_HELP_fp2, ir_const(o->ir, T_I32, v_desc(o, op, arg)), n, m, 0);
}
ir_val f_call3(const struct v_op *o, unsigned op, unsigned arg, ir_val d, ir_val n, ir_val m)
{
    return arm_call(o->t, ARM_HELP_fp3, ir_const(o->ir, T_I32, v_desc(o, op, arg)), d, n, m);
}

ir_val f_guarded(const struct v_op *o, unsigned vop, unsigned imm, ir_val a, ir_val b, ir_val c, unsigned fix, uint32_t desc)
{
    struct ir_guarded by = { .cond = f_cond(o, FIX_SMALL_S), .fix = (uint8_t)fix, .imm = (uint8_t)imm, .fix_imm = desc };

    return ir_vfix(o->ir, f_nan(o), fix, ir_vguard(o->ir, vop, a, b, c, by), a, b, c, (int32_t)desc);
}

ir_val f_flushed(const struct v_op *o, ir_val n)
{
    struct v_op all = *o;               /* f_operand()'s copies of elements, too */
    uint64_t v;

    if (!f_flush(o) || ir_is_const(o->ir, n, &v))
        return n;
    all.q = true;
    return ir_vfix(o->ir, f_cond(o, FIX_DENORMAL_S), ARM_FIX_FP1, n, n, 0, 0, (int32_t)v_desc(&all, FP_FLUSH, 0));
}

void f_three(struct arm_t *t, const struct a64_insn *i, f2_fn *fn)
{
    struct v_op o;

    if (f_begin(&o, t, i))
        v_put(&o, fn(&o, a64_q(t, i->vn), a64_q(t, i->vm)));
}

void f_two(struct arm_t *t, const struct a64_insn *i, v2_fn *fn)
{
    struct v_op o;

    if (f_begin(&o, t, i))
        v_put(&o, fn(&o, a64_q(t, i->vn)));
}

/* ---- two sources */

/* What is small if m is so great that a quotient may be tiny: of bits, infinity less |m|. */
static ir_val reciprocal(const struct v_op *o, ir_val m)
{
    return v_sub(o, o->size, f_const(o, infinity[o->size]), absolute(o, m));
}

static ir_val arithmetic(const struct v_op *o, const struct f_vops *vops, unsigned op, ir_val n, ir_val m)
{
    if (f_half(o))
        return f_half_arithmetic(o, vops->ps, op, n, m);
    if (f_soft(o))
        return f_call2(o, op, 0, n, m);
    n = f_operand(o, n);
    m = f_operand(o, m);
    if (f_flush(o))
        return f_guarded(o, f_vop(o, vops), 0, n, m, op == FP_DIV ? reciprocal(o, m) : 0, ARM_FIX_FP2, v_desc(o, op, 0));
    return ir_vfix(o->ir, f_nan(o), ARM_FIX_FP2, v2(o, f_vop(o, vops), n, m), n, m, 0, (int32_t)v_desc(o, op, 0));
}

static const struct f_vops vops_add = F_VOPS(ADD), vops_sub = F_VOPS(SUB), vops_mul = F_VOPS(MUL), vops_div = F_VOPS(DIV);

EMIT_F3(fadd) { return arithmetic(o, &vops_add, FP_ADD, n, m); }
EMIT_F3(fsub) { return arithmetic(o, &vops_sub, FP_SUB, n, m); }
EMIT_F3(fmul) { return arithmetic(o, &vops_mul, FP_MUL, n, m); }
EMIT_F3(fdiv) { return arithmetic(o, &vops_div, FP_DIV, n, m); }
EMIT_F3(fnmul) { return negated(o, arithmetic(o, &vops_mul, FP_MUL, n, m)); }
EMIT_F3(fabd) { return absolute(o, arithmetic(o, &vops_sub, FP_SUB, n, m)); }
EMIT_F3(fmulx) { return f_call2(o, FP_MULX, 0, n, m); }

/* ---- comparisons: all ones or zero. Predicates of CMPPS (SDM vol. 2): quiet ones where only a signalling NaN is invalid */

enum { P_EQ_OQ = 0x00, P_LT_OS = 0x01, P_LE_OS = 0x02, P_UNORD_Q = 0x03, P_LT_OQ = 0x11, P_NLT_UQ = 0x15, P_GT_OQ = 0x1e };

ir_val f_compare(const struct v_op *o, unsigned predicate, ir_val n, ir_val m)
{
    static const struct f_vops vops = F_VOPS(CMP);

    if (f_half(o))
        return f_half_compare(o, predicate, n, m);
    return v2i(o, f_vop(o, &vops), n, m, predicate);
}

static ir_val compare(const struct v_op *o, unsigned op, ir_val n, ir_val m)
{
    if (f_soft(o) && !f_half(o))
        return f_call2(o, op, 0, n, m);
    n = f_flushed(o, f_operand(o, n));
    m = f_flushed(o, f_operand(o, m));
    switch (op) {
    case FP_ACGE: return f_compare(o, P_LE_OS, absolute(o, m), absolute(o, n));
    case FP_ACGT: return f_compare(o, P_LT_OS, absolute(o, m), absolute(o, n));
    case FP_CMGE: return f_compare(o, P_LE_OS, m, n);
    case FP_CMGT: return f_compare(o, P_LT_OS, m, n);
    default: return f_compare(o, P_EQ_OQ, n, m);
    }
}
EMIT_F3(fcmeq) { return compare(o, FP_CMEQ, n, m); }
EMIT_F3(fcmge) { return compare(o, FP_CMGE, n, m); }
EMIT_F3(fcmgt) { return compare(o, FP_CMGT, n, m); }
EMIT_F3(facge) { return compare(o, FP_ACGE, n, m); }
EMIT_F3(facgt) { return compare(o, FP_ACGT, n, m); }
EMIT_F2(fcmeq0) { return compare(o, FP_CMEQ, n, v_const(o, 0)); }
EMIT_F2(fcmge0) { return compare(o, FP_CMGE, n, v_const(o, 0)); }
EMIT_F2(fcmgt0) { return compare(o, FP_CMGT, n, v_const(o, 0)); }
EMIT_F2(fcmle0) { return compare(o, FP_CMGE, v_const(o, 0), n); }
EMIT_F2(fcmlt0) { return compare(o, FP_CMGT, v_const(o, 0), n); }

/* ---- maxima and minima. By comparisons, since MAXPS takes zeros for equal and its second operand then, and is invalid for
 * every NaN. Where both are equal they can differ in the sign of zero: +0 & -0 is the maximum, +0 | -0 the minimum. */
static ir_val min_max(const struct v_op *o, unsigned op, ir_val n, ir_val m)
{
    static const struct f_vops blend = { VOP_BLENDVPS, VOP_BLENDVPD, VOP_BLENDVPS, VOP_BLENDVPD };
    bool maximum = op == FP_MAX || op == FP_MAXNM, half = f_half(o);
    ir_val r, equal, unordered;

    if (f_soft(o) && !half)
        return f_call2(o, op, 0, n, m);
    n = f_flushed(o, f_operand(o, n));
    m = f_flushed(o, f_operand(o, m));
    r = v3(o, half ? VOP_BLENDV8 : f_vop(o, &blend), m, n, f_compare(o, maximum ? P_GT_OQ : P_LT_OQ, n, m));
    equal = f_compare(o, P_EQ_OQ, n, m);
    r = maximum ? v2(o, VOP_ANDNF, v2(o, VOP_ANDNF, n, equal), r) : v2(o, VOP_ORF, r, v2(o, VOP_ANDF, n, equal));
    unordered = f_compare(o, P_UNORD_Q, n, m);
    if (half)                           /* the fix looks at signs of 32 bits */
        unordered = v_or(o, unordered, v_shl(o, 2, unordered, 16));
    return ir_vfix(o->ir, half ? FIX_MASK_PS : f_mask(o), ARM_FIX_FP2, r, n, m, unordered, (int32_t)v_desc(o, op, 0));
}
EMIT_F3(fmax) { return min_max(o, FP_MAX, n, m); }
EMIT_F3(fmin) { return min_max(o, FP_MIN, n, m); }
EMIT_F3(fmaxnm) { return min_max(o, FP_MAXNM, n, m); }
EMIT_F3(fminnm) { return min_max(o, FP_MINNM, n, m); }

/* ---- pairs: the operation on the even and the odd elements */

static ir_val every_other(const struct v_op *o, unsigned n, ir_val a, ir_val b)
{
    if (o->size == 3)
        return v2(o, n ? VOP_UNPKHPD : VOP_UNPKLPD, a, b);
    if (o->size == 2)
        return v2i(o, VOP_SHUFPS, a, b, n ? 0xdd : 0x88);
    return n ? v2(o, VOP_PACKU32, v_shr(o, 2, a, 16), v_shr(o, 2, b, 16)) : v_narrow(o, a, b);
}
static ir_val pairwise(const struct v_op *o, f2_fn *fn, ir_val n, ir_val m)
{
    if (!o->q)
        n = m = v_pair(o, n, m);
    return fn(o, every_other(o, 0, n, m), every_other(o, 1, n, m));
}
EMIT_F3(faddp) { return pairwise(o, three_fadd, n, m); }
EMIT_F3(fmaxp) { return pairwise(o, three_fmax, n, m); }
EMIT_F3(fminp) { return pairwise(o, three_fmin, n, m); }
EMIT_F3(fmaxnmp) { return pairwise(o, three_fmaxnm, n, m); }
EMIT_F3(fminnmp) { return pairwise(o, three_fminnm, n, m); }

static void pair_scalar(struct arm_t *t, const struct a64_insn *i, f2_fn *fn)
{
    struct v_op o;
    ir_val n;

    if (!f_begin(&o, t, i))
        return;
    o.scalar = true;
    o.q = false;
    n = a64_q(t, i->vn);
    v_put(&o, fn(&o, n, v1i(&o, VOP_BYTESHR, n, 1 << o.size)));
}
EMIT(faddp_scalar) { pair_scalar(t, i, three_fadd); }
EMIT(fmaxp_scalar) { pair_scalar(t, i, three_fmax); }
EMIT(fminp_scalar) { pair_scalar(t, i, three_fmin); }
EMIT(fmaxnmp_scalar) { pair_scalar(t, i, three_fmaxnm); }
EMIT(fminnmp_scalar) { pair_scalar(t, i, three_fminnm); }

/* Reduce(): halves first, so that neighbours meet first. Of four singles, or of four or eight halves. */
static void across(struct arm_t *t, const struct a64_insn *i, f2_fn *fn)
{
    struct v_op o = { .t = t, .ir = t->ir, .i = i, .size = i->row->flags & A64_ROW_HALF ? 1 : 2 };
    bool q = o.size == 2 || i->q;
    ir_val n;

    if (!arm_check_fp(t))
        return;
    n = q ? a64_q(t, i->vn) : v_low(&o, a64_q(t, i->vn));
    if (o.size == 1 && q)               /* eight to four */
        n = fn(&o, every_other(&o, 0, n, n), every_other(&o, 1, n, n));
    n = fn(&o, every_other(&o, 0, n, n), every_other(&o, 1, n, n));
    o.scalar = true;
    v_put(&o, fn(&o, n, v1i(&o, VOP_BYTESHR, n, 1 << o.size)));
}
EMIT(fmaxv) { across(t, i, three_fmax); }
EMIT(fminv) { across(t, i, three_fmin); }
EMIT(fmaxnmv) { across(t, i, three_fmaxnm); }
EMIT(fminnmv) { across(t, i, three_fminnm); }

/* ---- fused: d + n * m, each negated as arg says (see FP_MULADD) */

static ir_val fused(const struct v_op *o, unsigned arg, ir_val d, ir_val n, ir_val m)
{
    static const struct f_vops vops[4] = { F_VOPS(FMADD), F_VOPS(FNMADD), F_VOPS(FMSUB), F_VOPS(FNMSUB) };
    ir_val r;

    if (f_half(o))
        return f_half_fused(o, vops[arg].pd, arg, d, n, m);
    if (f_soft(o))
        return f_call3(o, FP_MULADD, arg, d, n, m);
    d = f_operand(o, d);
    n = f_operand(o, n);
    m = f_operand(o, m);
    if (f_flush(o))
        return f_guarded(o, f_vop(o, &vops[arg]), 2, d, n, m, ARM_FIX_FP3, v_desc(o, FP_MULADD, arg));
    r = ir_vop(o->ir, f_vop(o, &vops[arg]), T_V128, d, n, m, 2);
    return ir_vfix(o->ir, f_nan(o), ARM_FIX_FP3, r, d, n, m, (int32_t)v_desc(o, FP_MULADD, arg));
}
EMIT_F3(fmla) { return fused(o, 0, v_d(o), n, m); }
EMIT_F3(fmls) { return fused(o, 1, v_d(o), n, m); }
EMIT_F3(fmadd) { return fused(o, 0, a64_q(o->t, o->i->va), n, m); }
EMIT_F3(fmsub) { return fused(o, 1, a64_q(o->t, o->i->va), n, m); }
EMIT_F3(fnmadd) { return fused(o, 3, a64_q(o->t, o->i->va), n, m); }
EMIT_F3(fnmsub) { return fused(o, 2, a64_q(o->t, o->i->va), n, m); }

/* Newton's steps, 2 - n * m and (3 - n * m) / 2. The latter by host as 1.5 - (n / 2) * m, which is exact but for the rounding
 * of the sum. Kept from the host, which gets zeros instead: NaNs; infinities (times zero they are no error here); for the
 * latter also what is small enough to lose bits when halved. */
static ir_val step(const struct v_op *o, unsigned op, ir_val n, ir_val m)
{
    static const struct f_vops vops = F_VOPS(FNMADD), mul = F_VOPS(MUL);
    static const uint64_t from[2][4] = { { 0, 0, 0x40000000, UINT64_C(0x4000000000000000) }, { 0, 0, 0x3fc00000, UINT64_C(0x3ff8000000000000) } };
    static const uint64_t half[4] = { 0, 0, 0x3f000000, UINT64_C(0x3fe0000000000000) }, least[4] = { 0, 0, 0x01000000, UINT64_C(0x0020000000000000) };
    bool root = op == FP_RSQRTS;
    ir_val r, a, b, apart;

    if (f_slow(o))
        return f_call2(o, op, 0, n, m);
    n = f_operand(o, n);
    m = f_operand(o, m);
    apart = v2(o, VOP_ORF, f_compare(o, P_NLT_UQ, absolute(o, n), f_const(o, infinity[o->size])),
               f_compare(o, P_NLT_UQ, absolute(o, m), f_const(o, infinity[o->size])));
    if (root)
        apart = v2(o, VOP_ORF, apart, f_compare(o, P_LT_OQ, absolute(o, n), f_const(o, least[o->size])));
    a = v2(o, VOP_ANDNF, apart, n);
    b = v2(o, VOP_ANDNF, apart, m);
    if (root)
        a = v2(o, f_vop(o, &mul), a, f_const(o, half[o->size]));
    r = ir_vop(o->ir, f_vop(o, &vops), T_V128, f_const(o, from[root][o->size]), a, b, 2);
    return ir_vfix(o->ir, f_mask(o), ARM_FIX_FP2, r, n, m, apart, (int32_t)v_desc(o, op, 0));
}
EMIT_F3(frecps) { return step(o, FP_RECPS, n, m); }
EMIT_F3(frsqrts) { return step(o, FP_RSQRTS, n, m); }

/* ---- by element; arg: log2 of its bytes */

static void by_element(struct arm_t *t, const struct a64_insn *i, f2_fn *fn)
{
    struct v_op o = { .t = t, .ir = t->ir, .i = i, .size = (unsigned)i->row->arg };

    o.scalar = i->row->flags & A64_ROW_SCALAR;
    o.q = !o.scalar && i->q;
    if (arm_check_fp(t))
        v_put(&o, fn(&o, a64_q(t, i->vn), v_dup(&o, o.size, a64_q(t, i->vm), i->index)));
}
EMIT(fmla_e) { by_element(t, i, three_fmla); }
EMIT(fmls_e) { by_element(t, i, three_fmls); }
EMIT(fmul_e) { by_element(t, i, three_fmul); }
EMIT(fmulx_e) { by_element(t, i, three_fmulx); }

/* ---- complex numbers: real and imaginary parts in even and odd elements */

static ir_val swapped(const struct v_op *o, ir_val n)
{
    if (o->size == 3)
        return v1i(o, VOP_SHUF32, n, 0x4e);
    if (o->size == 2)
        return v1i(o, VOP_SHUF32, n, 0xb1);
    return v1i(o, VOP_SHUFH16, v1i(o, VOP_SHUFL16, n, 0xb1), 0xb1);
}
/* Even or odd elements of n at both places. */
static ir_val twice(const struct v_op *o, unsigned odd, ir_val n)
{
    if (o->size == 3)
        return v2(o, odd ? VOP_UNPKHPD : VOP_UNPKLPD, n, n);
    if (o->size == 2)
        return v1(o, odd ? VOP_MOVSHDUP : VOP_MOVSLDUP, n);
    return v1i(o, VOP_SHUFH16, v1i(o, VOP_SHUFL16, n, odd ? 0xf5 : 0xa0), odd ? 0xf5 : 0xa0);
}
/* Signs of even (bit 0) and odd (bit 1) elements turned. */
static ir_val turned(const struct v_op *o, unsigned which, ir_val n)
{
    uint64_t even = which & 1 ? sign_of(o) : 0, odd = which & 2 ? sign_of(o) : 0, both;

    if (!which)
        return n;
    if (o->size == 3)
        return v2(o, VOP_XORF, n, v_const2(o, even, odd));
    both = even | odd << (8u << o->size);
    return v2(o, VOP_XORF, n, v_const(o, o->size == 2 ? both : both | both << 32));
}

static ir_val complex_muladd(const struct v_op *o, unsigned rot, ir_val n, ir_val m)
{
    static const uint8_t signs[4] = { 0, 1, 3, 2 };

    return fused(o, 0, v_d(o), twice(o, rot & 1, n), turned(o, signs[rot], rot & 1 ? swapped(o, m) : m));
}
EMIT_F3(fcmla) { return complex_muladd(o, o->i->rot, n, m); }
EMIT_F3(fcadd) { return three_fadd(o, n, turned(o, o->i->rot ? 2 : 1, swapped(o, m))); }

EMIT(fcmla_e)
{
    struct v_op o = { .t = t, .ir = t->ir, .i = i, .size = (unsigned)i->row->arg, .q = i->row->arg == 2 || i->q };

    if (arm_check_fp(t))
        v_put(&o, complex_muladd(&o, i->rot, a64_q(t, i->vn), v_dup(&o, o.size + 1, a64_q(t, i->vm), i->index)));
}

/* ---- one source */

EMIT_F2(fmov) { return n; }
EMIT_F2(fabs) { return absolute(o, n); }
EMIT_F2(fneg) { return negated(o, n); }

EMIT_F2(fsqrt)
{
    ir_val r;

    if (f_half(o))
        return f_half_sqrt(o, n);
    if (f_soft(o))
        return f_call1(o, FP_SQRT, 0, n);
    n = f_flushed(o, f_operand(o, n));
    r = o->scalar ? v2(o, o->size == 3 ? VOP_SQRTSD : VOP_SQRTSS, n, n) : v1(o, o->size == 3 ? VOP_SQRTPD : VOP_SQRTPS, n);
    return ir_vfix(o->ir, f_nan(o), ARM_FIX_FP1, r, n, 0, 0, (int32_t)v_desc(o, FP_SQRT, 0));
}
EMIT_F2(frecpe) { return f_call1(o, FP_RECPE, 0, n); }
EMIT_F2(frsqrte) { return f_call1(o, FP_RSQRTE, 0, n); }
EMIT_F2(frecpx) { return f_call1(o, FP_RECPX, 0, n); }

ir_val f_round(const struct v_op *o, unsigned imm, ir_val n)
{
    if (o->scalar)
        return v2i(o, o->size == 3 ? VOP_ROUNDSD : VOP_ROUNDSS, n, n, imm);
    return v1i(o, o->size == 3 ? VOP_ROUNDPD : VOP_ROUNDPS, n, imm);
}

/* imm: ROUNDPS's rounding, or 4 for FPCR's; inexact is raised by FRINTX alone. */
static ir_val round_to_integral(const struct v_op *o, unsigned imm, unsigned arg, ir_val n)
{
    if (f_soft(o) || arg == FLOAT_ROUND_NEAREST_AWAY)
        return f_call1(o, FP_RINT, arg, n);
    n = f_flushed(o, f_operand(o, n));
    return ir_vfix(o->ir, f_nan(o), ARM_FIX_FP1, f_round(o, arg & 8 ? imm : imm | 8, n), n, 0, 0, (int32_t)v_desc(o, FP_RINT, arg));
}
EMIT_F2(frintn) { return round_to_integral(o, 0, FLOAT_ROUND_NEAREST_EVEN, n); }
EMIT_F2(frintm) { return round_to_integral(o, 1, FLOAT_ROUND_DOWN, n); }
EMIT_F2(frintp) { return round_to_integral(o, 2, FLOAT_ROUND_UP, n); }
EMIT_F2(frintz) { return round_to_integral(o, 3, FLOAT_ROUND_TO_ZERO, n); }
EMIT_F2(frinta) { return round_to_integral(o, 0, FLOAT_ROUND_NEAREST_AWAY, n); }
EMIT_F2(frintx) { return round_to_integral(o, 4, 16 | 8, n); }
EMIT_F2(frinti) { return round_to_integral(o, 4, 16, n); }
EMIT_F2(frint32z) { return f_call1(o, FP_RINT32, 8 | FLOAT_ROUND_TO_ZERO, n); }
EMIT_F2(frint32x) { return f_call1(o, FP_RINT32, 8 | 16, n); }
EMIT_F2(frint64z) { return f_call1(o, FP_RINT64, 8 | FLOAT_ROUND_TO_ZERO, n); }
EMIT_F2(frint64x) { return f_call1(o, FP_RINT64, 8 | 16, n); }

/* ---- products of halves and of bfloat16 into singles */

static void into_singles(struct arm_t *t, const struct a64_insn *i, unsigned op, unsigned arg, bool element, unsigned size)
{
    struct v_op o = { .t = t, .ir = t->ir, .i = i, .size = 2, .q = op == FP_MULADD_BF16 || op == FP_BFMMLA || i->q };
    ir_val m;

    if (!arm_check_fp(t))
        return;
    m = a64_q(t, i->vm);
    if (element)
        m = v_dup(&o, size, m, i->index);
    a64_put_q(t, i->vd, f_call3(&o, op, arg, v_d(&o), a64_q(t, i->vn), m));
}
EMIT(fmlal) { into_singles(t, i, FP_MULADD_HALF, i->row->arg, false, 0); }
EMIT(fmlal_e) { into_singles(t, i, FP_MULADD_HALF, i->row->arg, true, 1); }
EMIT(v_bfdot) { into_singles(t, i, FP_BFDOT, 0, false, 0); }
EMIT(v_bfdot_e) { into_singles(t, i, FP_BFDOT, 0, true, 2); }
EMIT(v_bfmmla) { into_singles(t, i, FP_BFMMLA, 0, false, 0); }
EMIT(v_bfmlal) { into_singles(t, i, FP_MULADD_BF16, i->q, false, 0); }
EMIT(v_bfmlal_e) { into_singles(t, i, FP_MULADD_BF16, i->q, true, 1); }

/* ---- immediates, comparisons, selection */

EMIT(fmov_imm)
{
    struct v_op o;

    if (f_begin(&o, t, i))
        a64_put_q(t, i->vd, v_const2(&o, a64_fp_immediate(o.size, i->imm8), 0));
}

static ir_val host_compare(const struct v_op *o, bool signalling, ir_val n, ir_val m)
{
    static const uint16_t vop[2][2] = { { VOP_UCOMISS, VOP_UCOMISD }, { VOP_COMISS, VOP_COMISD } };

    return ir_vop(o->ir, vop[signalling][o->size == 3], T_I32, n, m, 0, 0);
}
static ir_val soft_compare(const struct v_op *o, bool signalling, ir_val n, ir_val m)
{
    return arm_call(o->t, ARM_HELP_fp_compare, ir_const(o->ir, T_I32, v_desc(o, 0, 0)), n, m, ir_const(o->ir, T_I32, signalling));
}

/* N Z C V in bits 31 to 28: by the host's ZF and CF, 0 greater, 1 less, 2 equal, 3 unordered. */
static ir_val compare_nzcv(const struct v_op *o, bool signalling, ir_val n, ir_val m)
{
    ir_val f, which;

    if (f_soft(o))
        return soft_compare(o, signalling, n, m);
    f = host_compare(o, signalling, f_flushed(o, n), f_flushed(o, m));
    which = ir_bin(o->ir, IR_OR, ir_bin_imm(o->ir, IR_AND, ir_bin_imm(o->ir, IR_SHR, f, 3), 8),
                   ir_bin_imm(o->ir, IR_SHL, ir_bin_imm(o->ir, IR_AND, f, 1), 2));
    return ir_bin_imm(o->ir, IR_SHL, ir_bin(o->ir, IR_SHR, ir_const(o->ir, T_I32, 0x3682), which), 28);
}

static void compare_flags(struct arm_t *t, const struct a64_insn *i, bool signalling, bool zero)
{
    struct v_op o;
    ir_val n, m;

    if (!f_begin(&o, t, i))
        return;
    n = a64_q(t, i->vn);
    m = zero ? v_const(&o, 0) : a64_q(t, i->vm);
    if (f_soft(&o))
        arm_set_nzcv(t, soft_compare(&o, signalling, n, m));
    else
        arm_set_cc(t, CC_FP32, host_compare(&o, signalling, f_flushed(&o, n), f_flushed(&o, m)), 0);
}
EMIT(fcmp) { compare_flags(t, i, false, false); }
EMIT(fcmpe) { compare_flags(t, i, true, false); }
EMIT(fcmp_zero) { compare_flags(t, i, false, true); }
EMIT(fcmpe_zero) { compare_flags(t, i, true, true); }

/* Compared only if the condition holds: the comparison may set flags in FPSR. */
static void compare_conditionally(struct arm_t *t, const struct a64_insn *i, bool signalling)
{
    struct v_op o;
    struct arm_test test;
    ir_label yes, done;
    int32_t at = offsetof(struct arm_cpu, tmp);

    if (!f_begin(&o, t, i))
        return;
    yes = ir_label_new(t->ir);
    done = ir_label_new(t->ir);
    test = arm_condition(t, i->cond);
    arm_brcond(t, test.cond, test.a, test.b, yes);
    ir_state_store(t->ir, at, 2, ir_const(t->ir, T_I32, (uint32_t)i->nzcv << 28));
    ir_br(t->ir, done);
    arm_bind(t, yes);
    ir_state_store(t->ir, at, 2, compare_nzcv(&o, signalling, a64_q(t, i->vn), a64_q(t, i->vm)));
    arm_bind(t, done);
    arm_set_nzcv(t, ir_state_load(t->ir, T_I32, at, 2));
}
EMIT(fccmp) { compare_conditionally(t, i, false); }
EMIT(fccmpe) { compare_conditionally(t, i, true); }

EMIT(fcsel)
{
    struct v_op o;
    struct arm_test test;
    ir_val mask;

    if (!f_begin(&o, t, i))
        return;
    test = arm_condition(t, i->cond);
    mask = ir_un(t->ir, IR_NEG, ir_setcc(t->ir, T_I64, test.cond, test.a, test.b));
    mask = ir_vop(t->ir, VOP_MOVQ, T_V128, mask, 0, 0, 0);
    v_put(&o, v3(&o, VOP_BLENDV8, a64_q(t, i->vm), a64_q(t, i->vn), mask));
}
