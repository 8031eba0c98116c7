/* VFP: scalar floating point. DDI 0487 F3.1.10, F6. Arithmetic is A64's (a32_simd.h); the FPSCR's flags and the forms that
 * A64 has not are here. Short vectors (FPSCR.Len, Stride) are not: Cortex-A7 and later ignore them, too. */
#include "a32_simd.h"

static enum a32_kind kind_of(const struct a32_insn *i) { return i->row->flags & (A32_ROW_HALF | A32_ROW_SINGLE) ? KIND_S : KIND_D; }
static unsigned size_of(const struct a32_insn *i) { return i->row->flags & A32_ROW_HALF ? 1 : i->row->flags & A32_ROW_SINGLE ? 2 : 3; }
static unsigned reg_d(const struct a32_insn *i) { return kind_of(i) == KIND_S ? i->sd : i->vd; }
static unsigned reg_n(const struct a32_insn *i) { return kind_of(i) == KIND_S ? i->sn : i->vn; }
static unsigned reg_m(const struct a32_insn *i) { return kind_of(i) == KIND_S ? i->sm : i->vm; }
static uint32_t raw_of(const struct a32_insn *i, uint32_t raw)  /* A64's ptype field */
{
    static const uint32_t ptype[4] = { 0, 3u << 22, 0, 1u << 22 };

    return raw | ptype[size_of(i)];
}
static struct v_op scalar(struct arm_t *t, const struct a32_insn *i)
{
    return (struct v_op){ .t = t, .ir = t->ir, .size = size_of(i), .scalar = true };
}

static ir_val get(struct arm_t *t, const struct a32_insn *i, unsigned r) { return kind_of(i) == KIND_S ? a32_s(t, r) : a32_d(t, r); }
static void put(struct arm_t *t, const struct a32_insn *i, unsigned r, ir_val v)
{
    if (kind_of(i) == KIND_S)
        a32_put_s(t, r, v);
    else
        a32_put_d(t, r, v);
}

/* ---- arithmetic */

EMIT32(vfp3)
{
    enum a32_kind k = kind_of(i);
    unsigned d, n, m;

    if (!a32_fp_enabled(t))
        return;
    d = a32_operand(t, k, reg_d(i), SCRATCH_D);
    n = a32_scalar(t, k, reg_n(i), SCRATCH_N);
    m = a32_scalar(t, k, reg_m(i), SCRATCH_M);
    a32_as_a64(t, i, (uint32_t)i->row->arg, d, n, m, 0);
    a32_result(t, k, reg_d(i), SCRATCH_D);
}

EMIT32(vfp2)
{
    enum a32_kind k = kind_of(i);

    if (!a32_fp_enabled(t))
        return;
    a32_as_a64(t, i, (uint32_t)i->row->arg, a32_target(t, k, reg_d(i), SCRATCH_D), a32_scalar(t, k, reg_m(i), SCRATCH_M), 0, 0);
    a32_result(t, k, reg_d(i), SCRATCH_D);
}

/* Not fused. arg bit 0: the product is negated, bit 1: Vd is */
EMIT32(vfp_mla)
{
    enum { FADD = 0x1e202800, FMUL = 0x1e200800, FNMUL = 0x1e208800, FNEG = 0x1e214000 };
    enum a32_kind k = kind_of(i);
    unsigned d, n, m, what = (unsigned)i->row->arg;

    if (!a32_fp_enabled(t))
        return;
    d = a32_operand(t, k, reg_d(i), SCRATCH_D);
    n = a32_scalar(t, k, reg_n(i), SCRATCH_N);
    m = a32_scalar(t, k, reg_m(i), SCRATCH_M);
    a32_as_a64(t, i, raw_of(i, what == 1 || what == 3 ? FNMUL : FMUL), SCRATCH_X, n, m, 0);
    if (what & 2)
        a32_as_a64(t, i, raw_of(i, FNEG), d, d, 0, 0);
    a32_as_a64(t, i, raw_of(i, FADD), d, d, SCRATCH_X, 0);
    a32_result(t, k, reg_d(i), SCRATCH_D);
}

EMIT32(vsel)
{
    static const uint8_t conds[4] = { 0, 6, 10, 12 };   /* EQ VS GE GT */
    struct arm_test test;
    ir_val v;

    if (!a32_fp_enabled(t))
        return;
    test = a32_test(t, conds[i->cc]);
    if (kind_of(i) == KIND_S) {
        v = ir_select(t->ir, test.cond, test.a, test.b, a32_s_bits(t, i->sn), a32_s_bits(t, i->sm));
        a32_put_s_bits(t, i->sd, size_of(i) == 1 ? a32_un(t, IR_ZEXT16, v) : v);
    } else {
        a32_put_d_bits(t, i->vd, ir_select(t->ir, test.cond, test.a, test.b, a32_d_bits(t, i->vn), a32_d_bits(t, i->vm)));
    }
}

/* ---- comparison, into FPSCR.NZCV */

static void put_fpscr_flags(struct arm_t *t, ir_val nzcv)
{
    unsigned at = offsetof(struct arm_cpu, fpsr);
    ir_val rest = a32_bini(t, IR_AND, ir_state_load(t->ir, T_I32, at, 2), 0x0fffffff);

    ir_state_store(t->ir, at, 2, a32_bin(t, IR_OR, rest, nzcv));
    ir_put(t->ir, SLOT_COMPARED, a32_k(t, 0));
    t->a32.compared = 0;
}

/* By the host: mostly it is VMRS alone that wants to know, which makes conditions of what UCOMISx said. */
static void put_compared(struct arm_t *t, ir_val f)
{
    ir_put(t->ir, SLOT_COMPARED, a32_bini(t, IR_OR, f, COMPARED));
    t->a32.compared = f;
}

/* UCOMISx: ZF 0x40, PF 4, CF 1. Unordered 0011, less 1000, equal 0110, greater 0010. */
static ir_val flags_of_host(struct arm_t *t, ir_val f)
{
    ir_val less = a32_k(t, 8u << 28), equal = a32_k(t, 6u << 28), greater = a32_k(t, 2u << 28), v;

    v = ir_select(t->ir, C_TSTNE, f, a32_k(t, 1), less, greater);
    v = ir_select(t->ir, C_TSTNE, f, a32_k(t, 0x40), equal, v);
    return ir_select(t->ir, C_TSTNE, f, a32_k(t, 4), a32_k(t, 3u << 28), v);
}

EMIT32(vcmp)                            /* arg: with zero; e: a quiet NaN is invalid, too */
{
    unsigned size = size_of(i);
    struct v_op o = scalar(t, i);
    ir_val n, m;

    if (!a32_fp_enabled(t))
        return;
    n = f_flushed(&o, get(t, i, reg_d(i)));
    m = i->row->arg ? ir_const(t->ir, T_V128, 0) : f_flushed(&o, get(t, i, reg_m(i)));
    if (f_soft(&o))
        put_fpscr_flags(t, arm_call(t, ARM_HELP_fp_compare, a32_k(t, SIMD_DESC(0, size, 0, 0)), n, m, a32_k(t, i->e)));
    else
        put_compared(t, ir_vop(t->ir, size == 3 ? (i->e ? VOP_COMISD : VOP_UCOMISD) : i->e ? VOP_COMISS : VOP_UCOMISS, T_I32, n, m, 0, 0));
}

/* ---- conversions */

EMIT32(vcvt_ds)
{
    if (!a32_fp_enabled(t))
        return;
    a32_as_a64(t, i, (uint32_t)i->row->arg, a32_target(t, KIND_D, i->vd, SCRATCH_D), a32_scalar(t, KIND_S, i->sm, SCRATCH_M), 0, 0);
    a32_result(t, KIND_D, i->vd, SCRATCH_D);
}

EMIT32(vcvt_sd)
{
    if (!a32_fp_enabled(t))
        return;
    a32_as_a64(t, i, (uint32_t)i->row->arg, a32_target(t, KIND_S, i->sd, SCRATCH_D), a32_scalar(t, KIND_D, i->vm, SCRATCH_M), 0, 0);
    a32_result(t, KIND_S, i->sd, SCRATCH_D);
}

EMIT32(vcvt_from_half)
{
    ir_val v;

    if (!a32_fp_enabled(t))
        return;
    v = a32_s(t, i->sm);
    a64_put_q(t, SCRATCH_M, i->top ? ir_vop(t->ir, VOP_SHRI32, T_V128, v, 0, 0, 16) : v);
    a32_as_a64(t, i, (uint32_t)i->row->arg, a32_target(t, kind_of(i), reg_d(i), SCRATCH_D), SCRATCH_M, 0, 0);
    a32_result(t, kind_of(i), reg_d(i), SCRATCH_D);
}

EMIT32(vcvt_to_half)
{
    ir_val v;

    if (!a32_fp_enabled(t))
        return;
    a32_as_a64(t, i, (uint32_t)i->row->arg, SCRATCH_D, a32_scalar(t, kind_of(i), reg_m(i), SCRATCH_M), 0, 0);
    v = ir_vop(t->ir, VOP_EXT16, T_I32, a64_q(t, SCRATCH_D), 0, 0, 0);
    a32_put_s_bits(t, i->sd, ir_deposit(t->ir, a32_s_bits(t, i->sd), v, i->top ? 16 : 0, 16));
}

EMIT32(vcvt_from_int)
{
    unsigned size = size_of(i);
    ir_val n, zero, v;

    if (!a32_fp_enabled(t))
        return;
    n = a32_s_bits(t, i->sm);
    zero = ir_const(t->ir, T_V128, 0);
    if (size == 1)
        v = arm_call(t, ARM_HELP_fp_from_int, a32_k(t, SIMD_DESC(i->sgn ? FP_FROM_INT : FP_FROM_UINT, 1, 0, FP_ARG_INT(0, FP_ROUND_FPCR, 0))),
                     a32_widen(t, n), 0, 0);
    else if (i->sgn)
        v = ir_vop(t->ir, size == 3 ? VOP_CVTI32SD : VOP_CVTI32SS, T_V128, zero, n, 0, 0);
    else
        v = ir_vop(t->ir, size == 3 ? VOP_CVTI64SD : VOP_CVTI64SS, T_V128, zero, a32_widen(t, n), 0, 0);
    put(t, i, reg_d(i), v);
}

/* rounding: enum float_round or FP_ROUND_FPCR. */
static ir_val to_int(struct arm_t *t, const struct a32_insn *i, bool is_signed, unsigned rounding)
{
    unsigned size = size_of(i);
    uint32_t desc = SIMD_DESC(is_signed ? FP_TO_INT : FP_TO_UINT, size, 0, FP_ARG_INT(0, rounding, 0));
    struct v_op o = scalar(t, i);
    ir_val m = f_flushed(&o, get(t, i, reg_m(i))), v;

    if (f_soft(&o) || !is_signed || (rounding != FLOAT_ROUND_TO_ZERO && rounding != FP_ROUND_FPCR))
        return a32_un(t, IR_TRUNC, arm_call(t, ARM_HELP_fp_to_int, a32_k(t, desc), m, 0, 0));
    if (rounding == FLOAT_ROUND_TO_ZERO)
        v = ir_vop(t->ir, size == 3 ? VOP_CVTTSD2I32 : VOP_CVTTSS2I32, T_I32, m, 0, 0, 0);
    else
        v = ir_vop(t->ir, size == 3 ? VOP_CVTSD2I32 : VOP_CVTSS2I32, T_I32, m, 0, 0, 0);
    return ir_vfix(t->ir, FIX_INDEF, ARM_FIX_TO_INT, v, m, 0, 0, (int32_t)desc);
}

EMIT32(vcvt_to_int)
{
    if (a32_fp_enabled(t))
        a32_put_s_bits(t, i->sd, to_int(t, i, i->sgn, i->rz ? FLOAT_ROUND_TO_ZERO : FP_ROUND_FPCR));
}

EMIT32(vcvt_to_int_mode)
{
    static const uint8_t rounding[4] = { FLOAT_ROUND_NEAREST_AWAY, FLOAT_ROUND_NEAREST_EVEN, FLOAT_ROUND_UP, FLOAT_ROUND_DOWN };

    if (a32_fp_enabled(t))
        a32_put_s_bits(t, i->sd, to_int(t, i, i->sgn, rounding[i->rmode]));
}

EMIT32(vcvt_fixed)
{
    unsigned width = i->w32 ? 32 : 16;
    uint32_t what = size_of(i) | (uint32_t)i->tofix << 2 | (uint32_t)i->uns << 3 | (uint32_t)i->w32 << 4 | (width - i->fb) << 8;
    ir_val v;

    if (!a32_fp_enabled(t))
        return;
    v = arm_call(t, ARM_HELP_a32_vcvt_fixed, a32_k(t, what), get(t, i, reg_d(i)), 0, 0);
    if (kind_of(i) == KIND_S)
        a32_put_s_bits(t, i->sd, a32_un(t, IR_TRUNC, v));
    else
        a32_put_d_bits(t, i->vd, v);
}

EMIT32(vjcvt)                           /* bit 32: Z */
{
    ir_val v;

    if (!a32_fp_enabled(t))
        return;
    v = arm_call(t, ARM_HELP_fp_to_int, a32_k(t, SIMD_DESC(FP_JCVT, 3, 0, 0)), a32_d(t, i->vm), 0, 0);
    a32_put_s_bits(t, i->sd, a32_un(t, IR_TRUNC, v));
    put_fpscr_flags(t, a32_un(t, IR_TRUNC, a32_bini(t, IR_SHL, ir_extract(t->ir, v, 32, 1), 30)));
}

/* ---- moves */

EMIT32(vmov_imm)
{
    uint64_t v = a64_fp_immediate(size_of(i), i->imm8);

    if (!a32_fp_enabled(t))
        return;
    if (kind_of(i) == KIND_S)
        a32_put_s_bits(t, i->sd, a32_k(t, (uint32_t)v));
    else
        a32_put_d_bits(t, i->vd, ir_const(t->ir, T_I64, v));
}

EMIT32(vins)
{
    if (a32_fp_enabled(t))
        a32_put_s_bits(t, i->sd, ir_deposit(t->ir, a32_s_bits(t, i->sd), a32_s_bits(t, i->sm), 16, 16));
}

EMIT32(vmovx)
{
    if (a32_fp_enabled(t))
        a32_put_s_bits(t, i->sd, a32_bini(t, IR_SHR, a32_s_bits(t, i->sm), 16));
}

EMIT32(vmov_s)                          /* op: to the core register */
{
    if (!a32_fp_enabled(t))
        return;
    if (i->op)
        a32_put(t, i->rt, a32_s_bits(t, i->sn));
    else
        a32_put_s_bits(t, i->sn, a32_r(t, i, i->rt));
}

EMIT32(vmov_h)
{
    if (!a32_fp_enabled(t))
        return;
    if (i->op)
        a32_put(t, i->rt, a32_un(t, IR_ZEXT16, a32_s_bits(t, i->sn)));
    else
        a32_put_s_bits(t, i->sn, a32_un(t, IR_ZEXT16, a32_r(t, i, i->rt)));
}

EMIT32(vmov_ss)
{
    if (!a32_fp_enabled(t))
        return;
    if (i->op) {
        a32_put(t, i->rt, a32_s_bits(t, i->sm));
        a32_put(t, i->rt2, a32_s_bits(t, i->sm + 1u));
    } else {
        a32_put_s_bits(t, i->sm, a32_r(t, i, i->rt));
        a32_put_s_bits(t, i->sm + 1u, a32_r(t, i, i->rt2));
    }
}

EMIT32(vmov_d)
{
    ir_val v;

    if (!a32_fp_enabled(t))
        return;
    if (i->op) {
        v = a32_d_bits(t, i->vm);
        a32_put(t, i->rt, a32_un(t, IR_TRUNC, v));
        a32_put(t, i->rt2, a32_un(t, IR_TRUNC, a32_bini(t, IR_SHR, v, 32)));
    } else {
        v = a32_bini(t, IR_SHL, a32_widen(t, a32_r(t, i, i->rt2)), 32);
        a32_put_d_bits(t, i->vm, a32_bin(t, IR_OR, a32_widen(t, a32_r(t, i, i->rt)), v));
    }
}

/* ---- status */

enum { REG_FPSCR = 1 };

static ir_val fpscr_flags(struct arm_t *t)
{
    ir_val f = ir_get(t->ir, SLOT_COMPARED), fpsr = ir_state_load(t->ir, T_I32, offsetof(struct arm_cpu, fpsr), 2);

    return ir_select(t->ir, C_TSTNE, f, a32_k(t, COMPARED), flags_of_host(t, f), fpsr);
}

/* arm_fpsr(), and those bits that are FPCR's. The flags of struct float_status are in FPSR's order, the host's have one between. */
static ir_val fpscr(struct arm_t *t)
{
    ir_val host = ir_state_load(t->ir, T_I32, offsetof(struct cpu, fp_control), 2);
    ir_val soft = ir_state_load(t->ir, T_I32, offsetof(struct arm_cpu, fp_status.flags), 2);
    ir_val fpsr = ir_state_load(t->ir, T_I32, offsetof(struct arm_cpu, fpsr), 2), qc = ir_get(t->ir, SLOT_QC);
    ir_val fpcr = ir_state_load(t->ir, T_I32, offsetof(struct arm_cpu, fpcr), 2);
    ir_val some = ir_bin(t->ir, IR_OR, ir_vop(t->ir, VOP_TOQ, T_I64, qc, 0, 0, 0), ir_vop(t->ir, VOP_EXT64, T_I64, qc, 0, 0, 1));
    ir_val part[] = {
        a32_bini(t, IR_AND, fpscr_flags(t), 0xf0000000), a32_bini(t, IR_AND, host, 1),
        a32_bini(t, IR_AND, a32_bini(t, IR_SHR, host, 1), 0x1e), a32_bini(t, IR_AND, soft, 0x1f),
        a32_bini(t, IR_SHL, a32_bini(t, IR_AND, soft, FLOAT_INPUT_DENORMAL_FLUSHED), 1),
        a32_bini(t, IR_SHL, ir_setcc(t->ir, T_I32, C_NE, some, ir_const(t->ir, T_I64, 0)), 27),
        a32_bini(t, IR_AND, fpcr, FPSCR_CONTROL),
    };
    ir_val v = a32_bini(t, IR_AND, fpsr, 0x0fffffff & ~(uint32_t)FPSCR_CONTROL);

    for (unsigned n = 0; n < sizeof(part) / sizeof(part[0]); n++)
        v = a32_bin(t, IR_OR, v, part[n]);
    return v;
}

EMIT32(vmrs)
{
    if (i->reg == REG_FPSCR && !a32_fp_enabled(t))
        return;
    if (i->reg == REG_FPSCR && i->rt == 15 && t->a32.compared)
        a32_set_cc(t, CC_FP32, t->a32.compared, 0);
    else if (i->reg == REG_FPSCR && i->rt == 15)
        a32_set_nzcv(t, fpscr_flags(t));
    else if (i->rt == 15)
        arm_undefined(t);
    else if (i->reg == REG_FPSCR)
        a32_put(t, i->rt, fpscr(t));
    else
        a32_put(t, i->rt, arm_call(t, ARM_HELP_vmrs, a32_k(t, i->raw), 0, 0, 0));
}

EMIT32(vmsr)
{
    if (i->reg == REG_FPSCR && !a32_fp_enabled(t))
        return;
    a32_it_done(t);
    arm_call(t, ARM_HELP_vmsr, a32_k(t, i->raw), a32_r(t, i, i->rt), 0, 0);
    a32_exit_next(t);
}

/* ---- loads and stores: words need be aligned. Two double registers that are one quadword are one access. */

static memop mem(struct arm_t *t, unsigned size, unsigned align)
{
    return (arm_memop(t, size) & ~(memop)MEM_ALIGN_MASK) | align << MEM_ALIGN_SHIFT;
}

static bool is_be(const struct arm_t *t) { return t->mode & MODE_BE; }

static ir_val load(struct arm_t *t, unsigned size, unsigned align, ir_val base, int32_t disp)
{
    if (!is_be(t))
        return ir_load(t->ir, T_V128, mem(t, size, align), base, disp);
    if (size == MEM_64)
        return ir_vop(t->ir, VOP_MOVQ, T_V128, ir_load(t->ir, T_I64, mem(t, size, align), base, disp), 0, 0, 0);
    return ir_vop(t->ir, VOP_MOVD, T_V128, ir_load(t->ir, T_I32, mem(t, size, align), base, disp), 0, 0, 0);
}

static void store(struct arm_t *t, const struct a32_insn *i, unsigned r, unsigned align, ir_val base, int32_t disp)
{
    bool single = kind_of(i) == KIND_S;
    ir_val v = !is_be(t) ? get(t, i, r) : single ? a32_s_bits(t, r) : a32_d_bits(t, r);

    ir_store(t->ir, mem(t, single ? MEM_32 : MEM_64, align), base, disp, v);
}

/* Two double registers that are one slot. */
static bool is_pair(const struct arm_t *t, const struct a32_insn *i, unsigned r, unsigned end)
{
    return kind_of(i) == KIND_D && !is_be(t) && !(r & 1) && r + 1 < end && a32_whole(t, r);
}

static ir_val base_of(struct arm_t *t, const struct a32_insn *i, int32_t offset, int32_t *disp)
{
    *disp = i->rn == 15 ? 0 : offset;
    return a32_widen(t, i->rn == 15 ? a32_pc(t, i, true, offset) : a32_r(t, i, i->rn));
}

static int32_t offset_of(const struct a32_insn *i)
{
    int32_t n = i->row->flags & A32_ROW_HALF ? 2 * i->imm8 : 4 * i->imm8;

    return i->u ? n : -n;
}

EMIT32(vldr)
{
    int32_t disp;
    ir_val base;

    if (!a32_fp_enabled(t))
        return;
    base = base_of(t, i, offset_of(i), &disp);
    if (i->row->flags & A32_ROW_HALF)
        a32_put_s_bits(t, i->sd, ir_load(t->ir, T_I32, mem(t, MEM_16, 1), base, disp));
    else
        put(t, i, reg_d(i), load(t, size_of(i), 2, base, disp));
}

EMIT32(vstr)
{
    int32_t disp;
    ir_val base;

    if (!a32_fp_enabled(t))
        return;
    base = base_of(t, i, offset_of(i), &disp);
    if (i->row->flags & A32_ROW_HALF)
        ir_store(t->ir, mem(t, MEM_16, 1), base, disp, a32_s_bits(t, i->sd));
    else
        store(t, i, reg_d(i), 2, base, disp);
}

static void put_base(struct arm_t *t, const struct a32_insn *i)
{
    int32_t change = 4 * i->imm8;

    if (i->w)
        a32_put(t, i->rn, a32_bini(t, IR_ADD, a32_r(t, i, i->rn), (uint32_t)(i->u ? change : -change)));
}

EMIT32(vldm)
{
    enum a32_kind k = kind_of(i);
    unsigned r = reg_d(i), n = k == KIND_S ? i->imm8 : i->imm8 >> 1, end = r + n, count = 0;
    struct { ir_val v; uint8_t r, size; } got[32];
    int32_t disp;
    ir_val base;

    if (!a32_fp_enabled(t))
        return;
    base = base_of(t, i, i->u ? 0 : -4 * (int32_t)i->imm8, &disp);
    while (r < end && count < 32) {
        unsigned size = k == KIND_S ? MEM_32 : is_pair(t, i, r, end) ? MEM_128 : MEM_64;

        got[count].v = load(t, size, count ? 0 : 2, base, disp);
        got[count].r = (uint8_t)r;
        got[count++].size = (uint8_t)size;
        disp += 1 << size;
        r += size == MEM_128 ? 2 : 1;
    }
    for (unsigned g = 0; g < count; g++) {
        if (got[g].size == MEM_128)
            a64_put_q(t, got[g].r >> 1, got[g].v);
        else
            put(t, i, got[g].r, got[g].v);
    }
    put_base(t, i);
}

EMIT32(vstm)
{
    enum a32_kind k = kind_of(i);
    unsigned r = reg_d(i), n = k == KIND_S ? i->imm8 : i->imm8 >> 1, end = r + n, align = 2;
    int32_t disp;
    ir_val base;

    if (!a32_fp_enabled(t))
        return;
    base = base_of(t, i, i->u ? 0 : -4 * (int32_t)i->imm8, &disp);
    while (r < end) {
        if (is_pair(t, i, r, end)) {
            ir_store(t->ir, mem(t, MEM_128, align), base, disp, a64_q(t, r >> 1));
            disp += 16;
            r += 2;
        } else {
            store(t, i, r++, align, base, disp);
            disp += k == KIND_S ? 4 : 8;
        }
        align = 0;
    }
    put_base(t, i);
}
