/* A32 and T32: data processing, multiplication, saturation, packing, parallel arithmetic, bits. DDI 0487 F2.4 to F2.7. */
#include "a32.h"

/* ---- shifts: F2.3 (Shift_C) */

enum { LSL, LSR, ASR, ROR };

static ir_val bit_of(struct arm_t *t, ir_val v, unsigned n) { return ir_extract(t->ir, v, n, 1); }

ir_val a32_shift_imm(struct arm_t *t, ir_val v, unsigned type, unsigned n, ir_val *carry)
{
    static const uint8_t op[] = { [LSL] = IR_SHL, [LSR] = IR_SHR, [ASR] = IR_SAR, [ROR] = IR_ROTR };

    *carry = 0;
    if (type == LSL && !n)
        return v;
    if (type == ROR && !n) {            /* RRX */
        *carry = a32_bini(t, IR_AND, v, 1);
        return a32_bin(t, IR_OR, a32_bini(t, IR_SHR, v, 1), a32_bini(t, IR_SHL, a32_carry(t), 31));
    }
    *carry = bit_of(t, v, type == LSL ? 32 - n : (n - 1) & 31);
    if (!n)                             /* 32 */
        return type == LSR ? a32_k(t, 0) : a32_bini(t, IR_SAR, v, 31);
    return a32_bini(t, op[type], v, n);
}

/* By the low byte of a register. flags: *carry is wanted, and never 0. */
static ir_val shift_reg(struct arm_t *t, ir_val v, unsigned type, ir_val by, bool flags, ir_val *carry)
{
    ir_val n = a32_bini(t, IR_AND, by, 0xff), zero = a32_k(t, 0), limited, wide, out;

    if (type == ROR) {
        v = a32_bin(t, IR_ROTR, v, n);
        if (flags)
            *carry = ir_select(t->ir, C_EQ, n, zero, a32_carry(t), bit_of(t, v, 31));
        return v;
    }
    limited = a32_widen(t, ir_select(t->ir, C_GTU, n, a32_k(t, 63), a32_k(t, 63), n));
    if (type == LSL) {
        wide = a32_bin(t, IR_SHL, a32_widen(t, v), limited);
        out = flags ? ir_extract(t->ir, wide, 32, 1) : 0;
    } else {                            /* one bit more on the right: the last one shifted out is bit 0 */
        wide = a32_bini(t, IR_SHL, type == LSR ? a32_widen(t, v) : a32_un(t, IR_SEXT32, v), 1);
        wide = a32_bin(t, type == LSR ? IR_SHR : IR_SAR, wide, limited);
        out = flags ? a32_bini(t, IR_AND, wide, 1) : 0;
        wide = a32_bini(t, type == LSR ? IR_SHR : IR_SAR, wide, 1);
    }
    if (flags)
        *carry = ir_select(t->ir, C_EQ, n, zero, a32_carry(t), a32_un(t, IR_TRUNC, out));
    return a32_un(t, IR_TRUNC, wide);
}

/* ---- data processing */

static bool dp_sets(const struct a32_insn *i) { return i->s || (i->row->arg >= DP_TST && i->row->arg <= DP_CMN); }
static bool dp_logical(unsigned op) { return op <= DP_EOR || op == DP_TST || op == DP_TEQ || op >= DP_ORR; }

static ir_val dp_logic(struct arm_t *t, unsigned op, ir_val a, ir_val b)
{
    switch (op) {
    case DP_AND: case DP_TST: return a32_bin(t, IR_AND, a, b);
    case DP_EOR: case DP_TEQ: return a32_bin(t, IR_XOR, a, b);
    case DP_ORR: return a32_bin(t, IR_OR, a, b);
    case DP_BIC: return a32_bin(t, IR_ANDC, a, b);
    case DP_MVN: return a32_un(t, IR_NOT, b);
    case DP_ORN: return a32_bin(t, IR_OR, a, a32_un(t, IR_NOT, b));
    default: return b;
    }
}

/* a + b + C; flags: of that sum. */
static ir_val add_carry(struct arm_t *t, ir_val a, ir_val b, bool flags)
{
    ir_val c = a32_carry(t), sum = a32_bin(t, IR_ADD, a32_bin(t, IR_ADD, a, b), c);

    if (flags) {
        ir_val op = ir_select(t->ir, C_NE, c, a32_k(t, 0), a32_k(t, CC_ADC32), a32_k(t, CC_ADD32));

        arm_set_cc_dynamic(t, CC_ADX32, op, a, b, sum);
        t->a32.apart = 0;
    }
    return sum;
}

static ir_val dp_arithmetic(struct arm_t *t, unsigned op, ir_val a, ir_val b, bool flags)
{
    if (op == DP_RSB || op == DP_RSC) {
        ir_val swap = a;

        a = b;
        b = swap;
    }
    switch (op) {
    case DP_ADD: case DP_CMN:
        if (flags)
            a32_set_cc(t, CC_ADD32, a, b);
        return a32_bin(t, IR_ADD, a, b);
    case DP_ADC:
        return add_carry(t, a, b, flags);
    case DP_SBC: case DP_RSC:
        return add_carry(t, a, a32_un(t, IR_NOT, b), flags);
    default:
        if (flags)
            a32_set_cc(t, CC_SUB32, a, b);
        return a32_bin(t, IR_SUB, a, b);
    }
}

/* With S: an exception return (SUBS PC, LR and the like). */
static void dp_to_pc(struct arm_t *t, const struct a32_insn *i, ir_val v)
{
    enum ir_exit_kind hint = i->row->arg == DP_MOV && i->rm == 14 ? EXIT_RETURN : EXIT_INDIRECT_JUMP;

    if (i->s && !i->thumb) {
        if (!(t->mode & MODE_PRIV32))
            arm_undefined(t);
        else
            a32_exit_at(t, arm_call(t, ARM_HELP_exc_return32, v, 0, 0, 0));
    } else if (!i->thumb && arm_t_has(t, AF_V7)) {      /* ALUWritePC() */
        a32_bx(t, v, hint);
    } else {
        a32_branch(t, v, hint);
    }
}

static void dp(struct arm_t *t, const struct a32_insn *i, ir_val b, ir_val carry)
{
    unsigned op = (unsigned)i->row->arg;
    bool to_pc = i->rd == 15 && (op < DP_TST || op > DP_CMN), flags = dp_sets(i) && !to_pc;
    ir_val v, a = op == DP_MOV || op == DP_MVN ? 0 : a32_r(t, i, i->rn);

    if (dp_logical(op)) {
        v = dp_logic(t, op, a, b);
        if (flags && carry)
            a32_set_nzc(t, v, carry);
        else if (flags)
            a32_set_nz(t, v);
    } else {
        v = dp_arithmetic(t, op, a, b, flags);
    }
    if (op >= DP_TST && op <= DP_CMN)
        return;
    if (to_pc)
        dp_to_pc(t, i, v);
    else
        a32_put(t, i->rd, v);
}

EMIT32(dp_reg)
{
    ir_val carry, b = a32_shift_imm(t, a32_r(t, i, i->rm), i->stype, i->imm5, &carry);

    dp(t, i, b, carry);
}

EMIT32(dp_rsr)
{
    bool flags = dp_sets(i) && dp_logical((unsigned)i->row->arg);
    ir_val carry = 0, b = shift_reg(t, a32_r(t, i, i->rm), i->stype, a32_r(t, i, i->rs), flags, &carry);

    dp(t, i, b, carry);
}

EMIT32(shift_rdn)                       /* LSL Rd, Rd, Rs */
{
    ir_val carry = 0, v = shift_reg(t, a32_r(t, i, i->rd), (unsigned)i->row->arg, a32_r(t, i, i->rs), i->s, &carry);

    if (i->s)
        a32_set_nzc(t, v, carry);
    a32_put(t, i->rd, v);
}

static uint32_t ror32(uint32_t v, unsigned n) { return n & 31 ? v >> (n & 31) | v << (32 - (n & 31)) : v; }

/* A32ExpandImm_C(), T32ExpandImm_C(): *rotated: the carry becomes the top bit. */
static uint32_t modified_immediate(const struct a32_insn *i, bool *rotated)
{
    uint32_t b;

    if (!(i->row->flags & A32_ROW_TIMM)) {
        *rotated = i->imm12 >> 8;
        return ror32(i->imm12 & 0xff, i->imm12 >> 8 << 1);
    }
    b = i->timm & 0xff;
    *rotated = i->timm >> 10;
    if (*rotated)
        return ror32(0x80 | (b & 0x7f), i->timm >> 7);
    switch (i->timm >> 8) {
    case 0: return b;
    case 1: return b | b << 16;
    case 2: return b << 8 | b << 24;
    default: return b * 0x01010101;
    }
}

EMIT32(dp_imm)
{
    bool rotated;
    uint32_t b = modified_immediate(i, &rotated);
    unsigned op = (unsigned)i->row->arg;

    if (!i->thumb && i->rn == 15 && !i->s && i->rd != 15 && (op == DP_ADD || op == DP_SUB))     /* ADR */
        a32_put(t, i->rd, a32_pc(t, i, true, op == DP_ADD ? (int32_t)b : (int32_t)-b));
    else
        dp(t, i, a32_k(t, b), rotated ? a32_k(t, b >> 31) : 0);
}

EMIT32(dp_plain) { dp(t, i, a32_k(t, i->imm12), 0); }
EMIT32(adr) { a32_put(t, i->rd, a32_pc(t, i, true, i->row->arg ? -(int32_t)i->imm12 : (int32_t)i->imm12)); }
EMIT32(adjust_sp) { a32_put(t, 13, a32_bini(t, IR_ADD, a32_r(t, i, 13), (uint32_t)(i->row->arg * i->imm12))); }
EMIT32(movw) { a32_put(t, i->rd, a32_k(t, i->wide)); }

EMIT32(movt)
{
    a32_put(t, i->rd, a32_bini(t, IR_OR, a32_bini(t, IR_AND, a32_r(t, i, i->rd), 0xffff), (uint32_t)i->wide << 16));
}

/* ---- multiplication */

EMIT32(mla)
{
    ir_val v = a32_bin(t, IR_MUL, a32_r(t, i, i->rn), a32_r(t, i, i->rm));

    if (i->row->arg == MLA_ADD)
        v = a32_bin(t, IR_ADD, v, a32_r(t, i, i->ra));
    else if (i->row->arg == MLA_SUB)
        v = a32_bin(t, IR_SUB, a32_r(t, i, i->ra), v);
    if (i->s)
        a32_set_nz(t, v);
    a32_put(t, i->rd, v);
}

EMIT32(mul_rdn)
{
    ir_val v = a32_bin(t, IR_MUL, a32_r(t, i, i->rn), a32_r(t, i, i->rd));

    if (i->s)
        a32_set_nz(t, v);
    a32_put(t, i->rd, v);
}

static ir_val pair_get(struct arm_t *t, const struct a32_insn *i)       /* RdHi:RdLo, I64; the rows call RdLo rt */
{
    return a32_bin(t, IR_OR, a32_widen(t, a32_r(t, i, i->rt)), a32_bini(t, IR_SHL, a32_widen(t, a32_r(t, i, i->rd)), 32));
}

static void pair_put(struct arm_t *t, const struct a32_insn *i, ir_val v)
{
    a32_put(t, i->rt, a32_un(t, IR_TRUNC, v));
    a32_put(t, i->rd, a32_un(t, IR_TRUNC, a32_bini(t, IR_SHR, v, 32)));
}

EMIT32(mul_long)
{
    enum ir_opcode ext = i->row->arg & LONG_SIGNED ? IR_SEXT32 : IR_ZEXT32;
    ir_val v = a32_bin(t, IR_MUL, a32_un(t, ext, a32_r(t, i, i->rn)), a32_un(t, ext, a32_r(t, i, i->rm))), hi;

    if (i->row->arg & LONG_ACC)
        v = a32_bin(t, IR_ADD, v, pair_get(t, i));
    if (i->s) {                         /* N is bit 63; Z all 64 */
        hi = a32_un(t, IR_TRUNC, a32_bini(t, IR_SHR, v, 32));
        a32_set_nz(t, a32_bin(t, IR_OR, hi, ir_setcc(t->ir, T_I32, C_NE, a32_un(t, IR_TRUNC, v), a32_k(t, 0))));
    }
    pair_put(t, i, v);
}

EMIT32(umaal)
{
    ir_val v = a32_bin(t, IR_MUL, a32_widen(t, a32_r(t, i, i->rn)), a32_widen(t, a32_r(t, i, i->rm)));

    v = a32_bin(t, IR_ADD, v, a32_widen(t, a32_r(t, i, i->rt)));
    pair_put(t, i, a32_bin(t, IR_ADD, v, a32_widen(t, a32_r(t, i, i->rd))));
}

static ir_val half(struct arm_t *t, ir_val v, unsigned top) { return ir_sextract(t->ir, v, top ? 16 : 0, 16); }

static ir_val product_xy(struct arm_t *t, const struct a32_insn *i)
{
    return a32_bin(t, IR_MUL, half(t, a32_r(t, i, i->rn), i->x), half(t, a32_r(t, i, i->rm), i->y));
}

static ir_val product_wy(struct arm_t *t, const struct a32_insn *i)     /* bits 47 to 16 of 32 x 16 bits */
{
    ir_val v = a32_bin(t, IR_MUL, a32_un(t, IR_SEXT32, a32_r(t, i, i->rn)),
                       a32_un(t, IR_SEXT32, half(t, a32_r(t, i, i->rm), i->y)));

    return a32_un(t, IR_TRUNC, a32_bini(t, IR_SHR, v, 16));
}

/* a + b, both signed 32 bits; Q if that overflows. */
static ir_val add_q(struct arm_t *t, ir_val a, ir_val b)
{
    ir_val r = a32_bin(t, IR_ADD, a, b);
    ir_val v = a32_bin(t, IR_AND, a32_bin(t, IR_XOR, a, r), a32_bin(t, IR_XOR, b, r));

    a32_saturated(t, C_LT, v, a32_k(t, 0));
    return r;
}

EMIT32(smul_xy) { a32_put(t, i->rd, product_xy(t, i)); }
EMIT32(smla_xy) { a32_put(t, i->rd, add_q(t, product_xy(t, i), a32_r(t, i, i->ra))); }
EMIT32(smul_wy) { a32_put(t, i->rd, product_wy(t, i)); }
EMIT32(smla_wy) { a32_put(t, i->rd, add_q(t, product_wy(t, i), a32_r(t, i, i->ra))); }
EMIT32(smlal_xy) { pair_put(t, i, a32_bin(t, IR_ADD, pair_get(t, i), a32_un(t, IR_SEXT32, product_xy(t, i)))); }

/* Both products of halves, added or subtracted, as I64; x: the halves of Rm are swapped. */
static ir_val dual(struct arm_t *t, const struct a32_insn *i, enum ir_opcode op)
{
    ir_val n = a32_r(t, i, i->rn), m = a32_r(t, i, i->rm);
    ir_val lo = a32_bin(t, IR_MUL, half(t, n, 0), half(t, m, i->x)), hi = a32_bin(t, IR_MUL, half(t, n, 1), half(t, m, !i->x));

    return a32_bin(t, op, a32_un(t, IR_SEXT32, lo), a32_un(t, IR_SEXT32, hi));
}

/* v + Ra, or v alone; Q if it does not fit. */
static void dual_put(struct arm_t *t, const struct a32_insn *i, ir_val v, bool accumulate)
{
    ir_val r;

    if (accumulate)
        v = a32_bin(t, IR_ADD, v, a32_un(t, IR_SEXT32, a32_r(t, i, i->ra)));
    r = a32_un(t, IR_TRUNC, v);
    a32_saturated(t, C_NE, a32_un(t, IR_SEXT32, r), v);
    a32_put(t, i->rd, r);
}

EMIT32(smlad) { dual_put(t, i, dual(t, i, IR_ADD), true); }
EMIT32(smuad) { dual_put(t, i, dual(t, i, IR_ADD), false); }
EMIT32(smlsd) { dual_put(t, i, dual(t, i, IR_SUB), true); }
EMIT32(smusd) { a32_put(t, i->rd, a32_un(t, IR_TRUNC, dual(t, i, IR_SUB))); }
EMIT32(smlald) { pair_put(t, i, a32_bin(t, IR_ADD, pair_get(t, i), dual(t, i, IR_ADD))); }
EMIT32(smlsld) { pair_put(t, i, a32_bin(t, IR_ADD, pair_get(t, i), dual(t, i, IR_SUB))); }

/* The high word of (Ra << 32) op Rn * Rm; x: rounded. */
static void most_significant(struct arm_t *t, const struct a32_insn *i, enum ir_opcode op, bool accumulate)
{
    ir_val v = a32_bin(t, IR_MUL, a32_un(t, IR_SEXT32, a32_r(t, i, i->rn)), a32_un(t, IR_SEXT32, a32_r(t, i, i->rm)));

    if (accumulate)
        v = a32_bin(t, op, a32_bini(t, IR_SHL, a32_widen(t, a32_r(t, i, i->ra)), 32), v);
    if (i->x)
        v = a32_bini(t, IR_ADD, v, 0x80000000);
    a32_put(t, i->rd, a32_un(t, IR_TRUNC, a32_bini(t, IR_SHR, v, 32)));
}

EMIT32(smmul) { most_significant(t, i, IR_ADD, false); }
EMIT32(smmla) { most_significant(t, i, IR_ADD, true); }
EMIT32(smmls) { most_significant(t, i, IR_SUB, true); }

/* By zero: 0. INT_MIN / -1 is INT_MIN: divided in 64 bits. */
static void divide(struct arm_t *t, const struct a32_insn *i, enum ir_opcode op, enum ir_opcode ext)
{
    ir_val m = a32_r(t, i, i->rm), zero = a32_k(t, 0), v;
    ir_val safe = ir_select(t->ir, C_EQ, m, zero, a32_k(t, 1), m);

    v = a32_un(t, IR_TRUNC, a32_bin(t, op, a32_un(t, ext, a32_r(t, i, i->rn)), a32_un(t, ext, safe)));
    a32_put(t, i->rd, ir_select(t->ir, C_EQ, m, zero, zero, v));
}

EMIT32(sdiv) { divide(t, i, IR_DIVS, IR_SEXT32); }
EMIT32(udiv)
{
    ir_val m = a32_r(t, i, i->rm), zero = a32_k(t, 0), safe = ir_select(t->ir, C_EQ, m, zero, a32_k(t, 1), m);

    a32_put(t, i->rd, ir_select(t->ir, C_EQ, m, zero, zero, a32_bin(t, IR_DIVU, a32_r(t, i, i->rn), safe)));
}

EMIT32(usad8)
{
    ir_val a = ir_vop(t->ir, VOP_MOVD, T_V128, a32_r(t, i, i->rn), 0, 0, 0);
    ir_val b = ir_vop(t->ir, VOP_MOVD, T_V128, a32_r(t, i, i->rm), 0, 0, 0);

    a32_put(t, i->rd, ir_vop(t->ir, VOP_TOD, T_I32, ir_vop(t->ir, VOP_SAD8, T_V128, a, b, 0, 0), 0, 0, 0));
}

EMIT32(usada8)
{
    ir_val a = ir_vop(t->ir, VOP_MOVD, T_V128, a32_r(t, i, i->rn), 0, 0, 0);
    ir_val b = ir_vop(t->ir, VOP_MOVD, T_V128, a32_r(t, i, i->rm), 0, 0, 0);
    ir_val v = ir_vop(t->ir, VOP_TOD, T_I32, ir_vop(t->ir, VOP_SAD8, T_V128, a, b, 0, 0), 0, 0, 0);

    a32_put(t, i->rd, a32_bin(t, IR_ADD, v, a32_r(t, i, i->ra)));
}

/* ---- saturation */

/* v (I64) in the range of 32 bits; Q if it was not. */
static ir_val saturate_q(struct arm_t *t, ir_val v)
{
    ir_val max = ir_const(t->ir, T_I64, INT32_MAX), min = ir_const(t->ir, T_I64, (uint64_t)(int64_t)INT32_MIN), r;

    r = ir_select(t->ir, C_GT, v, max, max, v);
    r = ir_select(t->ir, C_LT, v, min, min, r);
    a32_saturated(t, C_NE, r, v);
    return r;
}

EMIT32(qadd)                            /* arg: bit 0 subtract, bit 1 double Rn first */
{
    ir_val n = a32_un(t, IR_SEXT32, a32_r(t, i, i->rn)), m = a32_un(t, IR_SEXT32, a32_r(t, i, i->rm));

    if (i->row->arg & 2)
        n = saturate_q(t, a32_bini(t, IR_SHL, n, 1));
    a32_put(t, i->rd, a32_un(t, IR_TRUNC, saturate_q(t, a32_bin(t, i->row->arg & 1 ? IR_SUB : IR_ADD, m, n))));
}

/* v (I32, signed) in [min, max]. */
static ir_val clamp(struct arm_t *t, ir_val v, int32_t min, int32_t max)
{
    ir_val hi = a32_k(t, (uint32_t)max), lo = a32_k(t, (uint32_t)min), r = ir_select(t->ir, C_GT, v, hi, hi, v);

    return ir_select(t->ir, C_LT, v, lo, lo, r);
}

static void saturate(struct arm_t *t, const struct a32_insn *i, int32_t min, int32_t max)
{
    ir_val carry, v = a32_r(t, i, i->rm), r;

    v = i->sh ? a32_shift_imm(t, v, ASR, i->imm5, &carry) : a32_bini(t, IR_SHL, v, i->imm5);
    r = clamp(t, v, min, max);
    a32_saturated(t, C_NE, r, v);
    a32_put(t, i->rd, r);
}

static void saturate16(struct arm_t *t, const struct a32_insn *i, int32_t min, int32_t max)
{
    ir_val v = a32_r(t, i, i->rm), lo = half(t, v, 0), hi = half(t, v, 1), rlo = clamp(t, lo, min, max), rhi = clamp(t, hi, min, max);
    ir_val changed = a32_bin(t, IR_OR, a32_bin(t, IR_XOR, lo, rlo), a32_bin(t, IR_XOR, hi, rhi));

    a32_saturated(t, C_NE, changed, a32_k(t, 0));
    a32_put(t, i->rd, ir_deposit(t->ir, rlo, rhi, 16, 16));
}

/* T32's SSAT #n, ASR #0 is SSAT16, which has a row of its own. */
EMIT32(ssat) { saturate(t, i, (int32_t)(~0u << i->sat), (int32_t)~(~0u << i->sat)); }
EMIT32(usat) { saturate(t, i, 0, (int32_t)((UINT64_C(1) << i->sat) - 1)); }
EMIT32(ssat16) { saturate16(t, i, -(1 << i->sat), (1 << i->sat) - 1); }
EMIT32(usat16) { saturate16(t, i, 0, (1 << i->sat) - 1); }

/* ---- packing, extension, bits */

EMIT32(pkh)
{
    ir_val carry, n = a32_r(t, i, i->rn), m = a32_shift_imm(t, a32_r(t, i, i->rm), i->tb ? ASR : LSL, i->imm5, &carry);

    if (i->tb)
        a32_put(t, i->rd, ir_deposit(t->ir, n, m, 0, 16));
    else
        a32_put(t, i->rd, ir_deposit(t->ir, m, n, 0, 16));
}

static ir_val extended(struct arm_t *t, const struct a32_insn *i)
{
    ir_val v = a32_r(t, i, i->rm), lo, hi;

    if (i->rot)
        v = a32_bini(t, IR_ROTR, v, 8u * i->rot);
    switch (i->row->arg) {
    case EXT_8: return a32_un(t, IR_SEXT8, v);
    case EXT_8 | EXT_U: return a32_un(t, IR_ZEXT8, v);
    case EXT_16: return a32_un(t, IR_SEXT16, v);
    case EXT_16 | EXT_U: return a32_un(t, IR_ZEXT16, v);
    case EXT_8X2 | EXT_U: return a32_bini(t, IR_AND, v, 0x00ff00ff);
    }
    lo = a32_bini(t, IR_AND, a32_un(t, IR_SEXT8, v), 0xffff);
    hi = a32_bini(t, IR_SHL, ir_sextract(t->ir, v, 16, 8), 16);
    return a32_bin(t, IR_OR, lo, hi);
}

EMIT32(extend) { a32_put(t, i->rd, extended(t, i)); }
EMIT32(extend_add)
{
    ir_val v = extended(t, i), n = a32_r(t, i, i->rn), lo, hi;

    if (i->row->arg & ~EXT_U) {
        a32_put(t, i->rd, a32_bin(t, IR_ADD, n, v));
        return;
    }
    lo = a32_bin(t, IR_ADD, n, v);      /* two halves */
    hi = a32_bin(t, IR_ADD, n, a32_bini(t, IR_AND, v, 0xffff0000));
    a32_put(t, i->rd, ir_deposit(t->ir, hi, lo, 0, 16));
}

EMIT32(rev) { a32_put(t, i->rd, a32_un(t, IR_BSWAP, a32_r(t, i, i->rm))); }
EMIT32(rev16) { a32_put(t, i->rd, a32_bini(t, IR_ROTR, a32_un(t, IR_BSWAP, a32_r(t, i, i->rm)), 16)); }
EMIT32(revsh) { a32_put(t, i->rd, a32_un(t, IR_SEXT16, a32_un(t, IR_BSWAP16, a32_r(t, i, i->rm)))); }
EMIT32(clz) { a32_put(t, i->rd, a32_un(t, IR_CLZ, a32_r(t, i, i->rm))); }

static ir_val swap_groups(struct arm_t *t, ir_val v, unsigned n, uint32_t low)
{
    return a32_bin(t, IR_OR, a32_bini(t, IR_AND, a32_bini(t, IR_SHR, v, n), low), a32_bini(t, IR_SHL, a32_bini(t, IR_AND, v, low), n));
}

EMIT32(rbit)
{
    ir_val v = a32_un(t, IR_BSWAP, a32_r(t, i, i->rm));

    v = swap_groups(t, v, 4, 0x0f0f0f0f);
    v = swap_groups(t, v, 2, 0x33333333);
    a32_put(t, i->rd, swap_groups(t, v, 1, 0x55555555));
}

EMIT32(sbfx) { a32_put(t, i->rd, ir_sextract(t->ir, a32_r(t, i, i->rn), i->imm5, i->sat + 1u)); }
EMIT32(ubfx) { a32_put(t, i->rd, ir_extract(t->ir, a32_r(t, i, i->rn), i->imm5, i->sat + 1u)); }
EMIT32(bfi) { a32_put(t, i->rd, ir_deposit(t->ir, a32_r(t, i, i->rd), a32_r(t, i, i->rn), i->imm5, i->sat - i->imm5 + 1u)); }
EMIT32(bfc) { a32_put(t, i->rd, ir_deposit(t->ir, a32_r(t, i, i->rd), a32_k(t, 0), i->imm5, i->sat - i->imm5 + 1u)); }

EMIT32(crc32)
{
    static const uint32_t mask[] = { 0xff, 0xffff, 0xffffffff };
    ir_val m = a32_bini(t, IR_AND, a32_r(t, i, i->rm), mask[i->row->arg & 3]);

    a32_put(t, i->rd, arm_call(t, ARM_HELP_a32_crc32, a32_r(t, i, i->rn), m, a32_k(t, (uint32_t)i->row->arg), 0));
}

/* ---- parallel addition and subtraction: F2.4.6 */

static ir_val vec(struct arm_t *t, unsigned vop, ir_val a, ir_val b) { return ir_vop(t->ir, vop, T_V128, a, b, 0, 0); }

/* Those of the host's vectors: by bytes or halves, no exchange of halves, no flags but for unsigned bytes. 0: not one. */
static ir_val parallel_vector(struct arm_t *t, const struct a32_insn *i, ir_val n, ir_val m)
{
    static const uint8_t vop[2][6] = {
        { [PAR_ADD16] = VOP_ADDS16, [PAR_SUB16] = VOP_SUBS16, [PAR_ADD8] = VOP_ADDS8, [PAR_SUB8] = VOP_SUBS8 },
        { [PAR_ADD16] = VOP_ADDU16, [PAR_SUB16] = VOP_SUBU16, [PAR_ADD8] = VOP_ADDU8, [PAR_SUB8] = VOP_SUBU8 },
    };
    unsigned op = i->row->arg & PAR_OP_MASK, kind = (unsigned)i->row->arg & ~7u, v = 0;
    ir_val a, b, r, ge = 0;

    if (kind == PAR_Q || kind == PAR_UQ)
        v = vop[kind == PAR_UQ][op];
    else if (kind == PAR_U && op >= PAR_ADD8)
        v = op == PAR_ADD8 ? VOP_ADD8 : VOP_SUB8;
    if (!v)
        return 0;
    a = ir_vop(t->ir, VOP_MOVD, T_V128, n, 0, 0, 0);
    b = ir_vop(t->ir, VOP_MOVD, T_V128, m, 0, 0, 0);
    r = vec(t, v, a, b);
    if (v == VOP_ADD8)                  /* GE: a carry, where the sum that saturates differs */
        ge = a32_un(t, IR_NOT, ir_vop(t->ir, VOP_TOD, T_I32, vec(t, VOP_CMPEQ8, r, vec(t, VOP_ADDU8, a, b)), 0, 0, 0));
    else if (v == VOP_SUB8)             /* GE: no borrow, where b - a is 0 when it saturates */
        ge = ir_vop(t->ir, VOP_TOD, T_I32,
                    vec(t, VOP_CMPEQ8, vec(t, VOP_SUBU8, b, a), ir_const(t->ir, T_V128, 0)), 0, 0, 0);
    if (ge)
        ir_put(t->ir, SLOT_GE, ge);
    return ir_vop(t->ir, VOP_TOD, T_I32, r, 0, 0, 0);
}

EMIT32(parallel)
{
    ir_val n = a32_r(t, i, i->rn), m = a32_r(t, i, i->rm), r = parallel_vector(t, i, n, m);
    unsigned kind = (unsigned)i->row->arg & ~7u;

    if (!r) {                           /* result, GE in bits 63:32 */
        ir_val v = arm_call(t, ARM_HELP_a32_parallel, n, m, a32_k(t, (uint32_t)i->row->arg), 0);

        r = a32_un(t, IR_TRUNC, v);
        if (kind == PAR_S || kind == PAR_U)
            ir_put(t->ir, SLOT_GE, a32_un(t, IR_TRUNC, a32_bini(t, IR_SHR, v, 32)));
    }
    a32_put(t, i->rd, r);
}

EMIT32(sel)
{
    ir_val ge = ir_get(t->ir, SLOT_GE);

    a32_put(t, i->rd, a32_bin(t, IR_OR, a32_bin(t, IR_AND, a32_r(t, i, i->rn), ge), a32_bin(t, IR_ANDC, a32_r(t, i, i->rm), ge)));
}
