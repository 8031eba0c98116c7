/* Advanced SIMD of AArch32: data processing. DDI 0487 F3.1.11, F6. Rows name the A64 instruction that does the work; single
 * precision is by the standard FPSCR value (rows' `std`): flush to zero, default NaN, round to nearest. */
#include "a32_simd.h"

enum { A64_Q = 1 << 30, A64_SIZE_SHIFT = 22 };

static enum a32_kind wide_if(bool q) { return q ? KIND_Q : KIND_D; }
static ir_val vector(struct arm_t *t, const struct a32_insn *i, unsigned r) { return i->q ? a64_q(t, r >> 1) : a32_d(t, r); }
static void put_vector(struct arm_t *t, const struct a32_insn *i, ir_val v)
{
    if (i->q)
        a64_put_q(t, i->vd >> 1, v);
    else
        a32_put_d(t, i->vd, v);
}

/* Vd = Vn op Vm with registers of these kinds. A64 has no vectors of one 64-bit element: two then, the upper ones zero. */
static void three(struct arm_t *t, const struct a32_insn *i, uint32_t raw, enum a32_kind kd, enum a32_kind kn, enum a32_kind km, bool swap)
{
    unsigned d, n, m;

    if (!a32_fp_enabled(t))
        return;
    d = a32_operand(t, kd, i->vd, SCRATCH_D);
    n = a32_operand(t, kn, i->vn, SCRATCH_N);
    m = a32_operand(t, km, i->vm, SCRATCH_M);
    if (swap)
        a32_as_a64(t, i, raw, d, m, n, 0);
    else
        a32_as_a64(t, i, raw, d, n, m, i->index);
    a32_result(t, kd, i->vd, SCRATCH_D);
}

static void two(struct arm_t *t, const struct a32_insn *i, uint32_t raw, enum a32_kind kd, enum a32_kind km)
{
    unsigned d;

    if (!a32_fp_enabled(t))
        return;
    d = a32_operand(t, kd, i->vd, SCRATCH_D);
    a32_as_a64(t, i, raw, d, a32_operand(t, km, i->vm, SCRATCH_M), 0, 0);
    a32_result(t, kd, i->vd, SCRATCH_D);
}

static uint32_t raw_q(const struct a32_insn *i, bool q) { return (uint32_t)i->row->arg | (q ? A64_Q : 0); }
static uint32_t raw_sized(const struct a32_insn *i, bool q) { return raw_q(i, q) | (uint32_t)i->size << A64_SIZE_SHIFT; }

static void same_length(struct arm_t *t, const struct a32_insn *i, bool swap)
{
    enum a32_kind k = wide_if(i->q);

    three(t, i, raw_sized(i, i->q || i->size == 3), k, k, k, swap);
}

EMIT32(neon3) { same_length(t, i, false); }
EMIT32(neon3_swap) { same_length(t, i, true); }         /* shifts: Vm is shifted by Vn */
EMIT32(neonf3) { three(t, i, raw_q(i, i->q), wide_if(i->q), wide_if(i->q), wide_if(i->q), false); }
EMIT32(crypto3) { three(t, i, (uint32_t)i->row->arg, KIND_Q, KIND_Q, KIND_Q, false); }
EMIT32(neon_long) { three(t, i, raw_sized(i, false), KIND_Q, KIND_D, KIND_D, false); }
EMIT32(neon_long64) { three(t, i, (uint32_t)i->row->arg, KIND_Q, KIND_D, KIND_D, false); }
EMIT32(neon_wide) { three(t, i, raw_sized(i, false), KIND_Q, KIND_Q, KIND_D, false); }
EMIT32(neon_narrow) { three(t, i, raw_sized(i, false), KIND_D, KIND_Q, KIND_Q, false); }
EMIT32(neon_e) { three(t, i, raw_q(i, i->q), wide_if(i->q), wide_if(i->q), KIND_D, false); }
EMIT32(neon_e_long) { three(t, i, (uint32_t)i->row->arg, KIND_Q, KIND_D, KIND_D, false); }
EMIT32(vcmla) { three(t, i, raw_q(i, i->q) | (uint32_t)i->rot << 11, wide_if(i->q), wide_if(i->q), wide_if(i->q), false); }
EMIT32(vcadd) { three(t, i, raw_q(i, i->q) | (uint32_t)i->rot << 12, wide_if(i->q), wide_if(i->q), wide_if(i->q), false); }

EMIT32(neon2) { two(t, i, raw_sized(i, i->q), wide_if(i->q), wide_if(i->q)); }
EMIT32(neonf2) { two(t, i, raw_q(i, i->q), wide_if(i->q), wide_if(i->q)); }
EMIT32(crypto2) { two(t, i, (uint32_t)i->row->arg, KIND_Q, KIND_Q); }
EMIT32(neon2_narrow) { two(t, i, raw_sized(i, false), KIND_D, KIND_Q); }
EMIT32(neon2_long) { two(t, i, raw_sized(i, false), KIND_Q, KIND_D); }

static uint32_t raw_shift(const struct a32_insn *i, bool q)
{
    unsigned immhb = i->immhb;

    if (i->row->flags & A32_ROW_HALF)   /* to and from fixed point: 64 minus the fraction bits; A64: 32 minus them */
        immhb -= 32;
    return raw_q(i, q) | (uint32_t)immhb << 16;
}

EMIT32(neon_shift)
{
    if (i->row->flags & A32_ROW_HALF && i->immhb < 48)
        arm_undefined(t);
    else
        two(t, i, raw_shift(i, i->q || i->immhb >= 64), wide_if(i->q), wide_if(i->q));
}
EMIT32(neon_shift_narrow) { two(t, i, raw_shift(i, false), KIND_D, KIND_Q); }
EMIT32(neon_shift_long) { two(t, i, raw_shift(i, false), KIND_Q, KIND_D); }

/* ---- products and sums that are rounded each: VMLA, VMLS of floating point. arg 1: subtracted */

enum { FMUL_E = 0x0f809000 };

/* Of singles, by the host; in D registers each half does the same. */
static struct v_op standard(struct arm_t *t, const struct a32_insn *i)
{
    t->a32.standard = true;
    return a32_vop(t, 2, i->q);
}

static void multiply_add_host(struct arm_t *t, const struct a32_insn *i, bool element)
{
    struct v_op o = standard(t, i);
    ir_val d = vector(t, i, i->vd), n = vector(t, i, i->vn), m;

    m = element ? v_dup(&o, 2, a32_d(t, i->vm), i->index) : vector(t, i, i->vm);
    put_vector(t, i, f_guarded(&o, i->row->arg ? VOP_MULSUBPS : VOP_MULADDPS, 0, f_operand(&o, d), f_operand(&o, n), f_operand(&o, m),
                               ARM_FIX_FP3, v_desc(&o, FP_MUL_ADD, (unsigned)i->row->arg)));
    t->a32.standard = false;
}

static void multiply_add(struct arm_t *t, const struct a32_insn *i, uint32_t fmul, enum a32_kind km)
{
    enum { FADD = 0x0e20d400, FSUB = 0x0ea0d400, HALF_OFF = 0x20c000, HALF_ON = 0x400000 };
    uint32_t q = i->q ? A64_Q : 0, sum = i->row->arg ? FSUB : FADD;
    enum a32_kind k = wide_if(i->q);
    unsigned d, n, m;

    if (!a32_fp_enabled(t))
        return;
    if (!(i->row->flags & A32_ROW_HALF || t->mode & MODE_FP_ROUND)) {
        multiply_add_host(t, i, fmul == FMUL_E);
        return;
    }
    d = a32_operand(t, k, i->vd, SCRATCH_D);
    n = a32_operand(t, k, i->vn, SCRATCH_N);
    m = a32_operand(t, km, i->vm, SCRATCH_M);
    if (i->row->flags & A32_ROW_HALF)
        sum = (sum & ~(uint32_t)HALF_OFF) | HALF_ON;
    a32_as_a64(t, i, fmul | q, SCRATCH_X, n, m, i->index);
    a32_as_a64(t, i, sum | q, d, d, SCRATCH_X, 0);
    a32_result(t, k, i->vd, SCRATCH_D);
}

EMIT32(neon_mla) { multiply_add(t, i, i->row->flags & A32_ROW_HALF ? 0x2e401c00 : 0x2e20dc00, wide_if(i->q)); }
EMIT32(neon_e_mla) { multiply_add(t, i, i->row->flags & A32_ROW_HALF ? 0x0f009000 : FMUL_E, KIND_D); }

/* All ones where an element is small as f_guarded() has it, infinite or no number. */
static ir_val apart(const struct v_op *o, ir_val n)
{
    enum { P_NLT_UQ = 0x15 };
    ir_val low = v_shr(o, 2, v_add(o, 2, v_add(o, 2, n, n), v_const(o, UINT64_MAX)), 30);
    ir_val size = v2(o, VOP_ANDF, n, v_splat(o, 2, INT32_MAX));

    return v_or(o, v_eq(o, 2, low, v_const(o, 0)), f_compare(o, P_NLT_UQ, size, v_splat(o, 2, 0x7f800000)));
}

/* 2 - n * m, (3 - n * m) / 2: products, and for infinity times zero, which is no error here, the function. */
static void step_host(struct arm_t *t, const struct a32_insn *i, bool root)
{
    struct v_op o = standard(t, i);
    ir_val n = f_operand(&o, vector(t, i, i->vn)), m = f_operand(&o, vector(t, i, i->vm)), beyond, r;

    beyond = v_or(&o, apart(&o, n), apart(&o, m));
    r = v2(&o, VOP_MULPS, v2(&o, VOP_ANDNF, beyond, n), v2(&o, VOP_ANDNF, beyond, m));
    r = v2(&o, VOP_SUBPS, v_splat(&o, 2, root ? 0x40400000 : 0x40000000), r);
    if (root)
        r = v2(&o, VOP_MULPS, r, v_splat(&o, 2, 0x3f000000));
    put_vector(t, i, ir_vfix(t->ir, FIX_MASK_PS, ARM_FIX_FP2, r, n, m, beyond, (int32_t)v_desc(&o, root ? FP_RSQRTS_A32 : FP_RECPS_A32, 0)));
    t->a32.standard = false;
}

EMIT32(neon_step)                       /* arg: VRSQRTS, else VRECPS */
{
    bool half = i->row->flags & A32_ROW_HALF;
    unsigned size = half ? 1 : 2;
    ir_val desc;

    if (!a32_fp_enabled(t))
        return;
    if (!half && !(t->mode & MODE_FP_ROUND)) {
        step_host(t, i, i->row->arg);
        return;
    }
    desc = a32_k(t, SIMD_DESC(i->row->arg ? FP_RSQRTS_A32 : FP_RECPS_A32, size, 3u + i->q - size, 0) | SIMD_STANDARD);
    put_vector(t, i, arm_call(t, ARM_HELP_fp2, desc, vector(t, i, i->vn), vector(t, i, i->vm), 0));
}

/* ---- moves */

EMIT32(neon_imm)
{
    uint32_t raw = 0x0f000400u | (i->q ? A64_Q : 0) | (uint32_t)i->op << 29 | (uint32_t)i->cmode << 12 |
                   (uint32_t)(i->imm8 >> 5) << 16 | (uint32_t)(i->imm8 & 31) << 5;
    enum a32_kind k = wide_if(i->q);

    if (!a32_fp_enabled(t))
        return;
    a32_as_a64(t, i, raw, a32_operand(t, k, i->vd, SCRATCH_D), 0, 0, 0);
    a32_result(t, k, i->vd, SCRATCH_D);
}

EMIT32(vdup_lane)
{
    unsigned size = (unsigned)__builtin_ctz(i->imm4);
    struct v_op o = a32_vop(t, size, i->q);
    ir_val v;

    if (!a32_fp_enabled(t))
        return;
    v = v_dup(&o, size, a32_d(t, i->vm), i->imm4 >> (size + 1));
    put_vector(t, i, v);
}

EMIT32(vdup_core)                       /* esz: 0 word, 1 half, 2 byte */
{
    unsigned size = 2u - i->esz;
    struct v_op o = a32_vop(t, size, i->q);
    ir_val v;

    if (!a32_fp_enabled(t))
        return;
    v = v_dup(&o, size, ir_vop(t->ir, VOP_MOVD, T_V128, a32_r(t, i, i->rt), 0, 0, 0), 0);
    put_vector(t, i, v);
}

EMIT32(vmov_to_lane)                    /* arg: log2 of bytes */
{
    static const uint16_t vop[3] = { VOP_INS8, VOP_INS16, VOP_INS32 };
    unsigned size = (unsigned)i->row->arg, lane = i->lane + (i->vd & 1u) * (8u >> size);

    if (!a32_fp_enabled(t))
        return;
    if (!a32_whole(t, i->vd))
        a32_put_s_bits(t, 2u * i->vd + i->lane, a32_r(t, i, i->rt));
    else
        a64_put_q(t, i->vd >> 1, ir_vop(t->ir, vop[size], T_V128, a64_q(t, i->vd >> 1), a32_r(t, i, i->rt), 0, lane));
}

EMIT32(vmov_from_lane)
{
    static const uint16_t vop[3] = { VOP_EXT8, VOP_EXT16, VOP_EXT32 };
    unsigned size = (unsigned)i->row->arg, lane = i->lane + (i->vn & 1u) * (8u >> size);
    ir_val v;

    if (!a32_fp_enabled(t))
        return;
    if (!a32_whole(t, i->vn))
        v = a32_s_bits(t, 2u * i->vn + i->lane);
    else
        v = ir_vop(t->ir, vop[size], T_I32, a64_q(t, i->vn >> 1), 0, 0, lane);
    if (size < 2 && !i->uns)
        v = a32_un(t, size ? IR_SEXT16 : IR_SEXT8, v);
    a32_put(t, i->rt, v);
}

EMIT32(vext) { three(t, i, 0x2e000000u | (i->q ? A64_Q : 0) | (uint32_t)i->imm4 << 11, wide_if(i->q), wide_if(i->q), wide_if(i->q), false); }

EMIT32(vswp)
{
    ir_val d, m;

    if (!a32_fp_enabled(t))
        return;
    if (i->q) {
        d = a64_q(t, i->vd >> 1);
        m = a64_q(t, i->vm >> 1);
        a64_put_q(t, i->vd >> 1, m);
        a64_put_q(t, i->vm >> 1, d);
    } else {
        d = a32_d(t, i->vd);
        m = a32_d(t, i->vm);
        a32_put_d(t, i->vd, m);
        a32_put_d(t, i->vm, d);
    }
}

EMIT32(permute2)                        /* VTRN, VUZP, VZIP: both halves of what A64 does in two instructions */
{
    enum { SECOND = 1 << 14 };
    uint32_t raw = raw_sized(i, i->q);

    if (!a32_fp_enabled(t))
        return;
    a64_put_q(t, SCRATCH_N, i->q ? a64_q(t, i->vd >> 1) : a32_d(t, i->vd));
    a64_put_q(t, SCRATCH_M, i->q ? a64_q(t, i->vm >> 1) : a32_d(t, i->vm));
    a32_as_a64(t, i, raw, SCRATCH_D, SCRATCH_N, SCRATCH_M, 0);
    a32_as_a64(t, i, raw | SECOND, SCRATCH_X, SCRATCH_N, SCRATCH_M, 0);
    if (i->q) {
        a64_put_q(t, i->vd >> 1, a64_q(t, SCRATCH_D));
        a64_put_q(t, i->vm >> 1, a64_q(t, SCRATCH_X));
    } else {
        a32_put_d(t, i->vd, a64_q(t, SCRATCH_D));
        a32_put_d(t, i->vm, a64_q(t, SCRATCH_X));
    }
}

/* Table bytes by index, 0 for what is beyond 16 of them: that has bit 7 once 112 is added. */
static ir_val looked_up(const struct v_op *o, ir_val table, ir_val index)
{
    return v2(o, VOP_SHUF8, table, v2(o, VOP_ADDU8, index, v_splat(o, 0, 0x70)));
}

EMIT32(vtbl)                            /* op: VTBX, which keeps what is out of range */
{
    struct v_op o = a32_vop(t, 0, true);
    unsigned registers = i->tlen + 1u;
    ir_val index, r, end;

    if (!a32_fp_enabled(t))
        return;
    index = a32_d(t, i->vm);
    r = looked_up(&o, i->tlen ? v_pair(&o, a32_d(t, i->vn), a32_d(t, i->vn + 1u)) : a32_d(t, i->vn), index);
    if (registers > 2)
        r = v_or(&o, r, looked_up(&o, registers == 4 ? v_pair(&o, a32_d(t, i->vn + 2u), a32_d(t, i->vn + 3u)) : a32_d(t, i->vn + 2u),
                                  v_sub(&o, 0, index, v_splat(&o, 0, 16))));
    if (i->op) {
        end = v_splat(&o, 0, 8 * registers);
        r = v_or(&o, r, v_and(&o, v_eq(&o, 0, v_max(&o, false, index, end), index), a32_d(t, i->vd)));
    }
    a32_put_d(t, i->vd, r);
}
