/* A64 data processing on general registers: DDI 0487 C4.1.93, C4.1.96. */
#include "a64.h"

static ir_val imm_of(struct arm_t *t, ir_val like, uint64_t v) { return ir_const(t->ir, ir_type_of(t->ir, like), v); }
static ir_val imm32(struct arm_t *t, uint32_t v) { return ir_const(t->ir, T_I32, v); }
static enum ir_type type_of(unsigned sf) { return sf ? T_I64 : T_I32; }
static ir_val value_const(struct arm_t *t, unsigned sf, uint64_t v) { return ir_const(t->ir, type_of(sf), v); }
static unsigned width(unsigned sf) { return sf ? 64 : 32; }

static ir_val get_sp(struct arm_t *t, unsigned sf, unsigned r)
{
    ir_val v = a64_x_sp(t, r);

    return sf ? v : ir_un(t->ir, IR_TRUNC, v);
}

/* ---- addresses of code */

EMIT(adr) { a64_put_x(t, i->rd, ir_pc(t->ir, i->pc + (uint64_t)(int64_t)i->imm21)); }

/* An offset of up to 4 GiB: more than the host can add at once. */
EMIT(adrp)
{
    int64_t pages = (int64_t)((uint64_t)(int64_t)i->imm21 << 12);
    uint64_t page = i->pc & ~UINT64_C(0xfff);

    if (pages == (int32_t)pages)
        a64_put_x(t, i->rd, ir_pc(t->ir, page + (uint64_t)pages));
    else
        a64_put_x(t, i->rd, ir_bin_imm(t->ir, IR_ADD, ir_pc(t->ir, page), (uint64_t)pages));
}

/* ---- addition and subtraction */

static ir_val add_or_sub(struct arm_t *t, unsigned sub, ir_val a, ir_val b)
{
    return ir_bin(t->ir, sub ? IR_SUB : IR_ADD, a, b);
}

static uint64_t addsub_value(const struct a64_insn *i) { return (uint64_t)i->imm12 << (i->sh ? 12 : 0); }

EMIT(addsub_imm)
{
    uint64_t v = addsub_value(i);
    ir_val r = get_sp(t, i->sf, i->rn);

    r = ir_bin_imm(t->ir, i->sub ? IR_SUB : IR_ADD, r, v);
    if (i->rd == 31 && i->rn == 31 && i->sf && !(v & 15))
        a64_put_x_sp_aligned(t, 31, r);
    else
        a64_put_x_sp(t, i->rd, r);
}

static void set_addsub_flags(struct arm_t *t, unsigned sf, unsigned sub, ir_val a, ir_val b)
{
    uint64_t v;

    /* An addition of a constant is a subtraction of its negative, whose conditions are cheaper; but the carries of 0 and
     * the overflow of the least number differ. */
    if (!sub && ir_is_const(t->ir, b, &v) && v && v << (64 - width(sf)) != UINT64_C(1) << 63) {
        sub = 1;
        b = value_const(t, sf, -v);
    }
    if (sub)
        arm_set_cc(t, sf ? CC_SUB64 : CC_SUB32, a, b);
    else
        arm_set_cc(t, sf ? CC_ADD64 : CC_ADD32, a, b);
}

static void addsubs(struct arm_t *t, const struct a64_insn *i, ir_val a, ir_val b)
{
    ir_val r = i->rd == 31 ? 0 : add_or_sub(t, i->sub, a, b);

    set_addsub_flags(t, i->sf, i->sub, a, b);
    if (r)
        a64_put_r(t, i->rd, r);
}

EMIT(addsubs_imm) { addsubs(t, i, get_sp(t, i->sf, i->rn), value_const(t, i->sf, addsub_value(i))); }

/* DDI 0487 C6.1: operand shifted by a constant (LSL, LSR, ASR, ROR). */
static ir_val shifted(struct arm_t *t, unsigned sf, unsigned rm, unsigned shift, unsigned amount)
{
    static const uint8_t op[] = { IR_SHL, IR_SHR, IR_SAR, IR_ROTR };
    ir_val v = a64_r(t, sf, rm);

    return amount ? ir_bin_imm(t->ir, op[shift], v, amount) : v;
}

EMIT(addsub_shifted)
{
    ir_val a, r;

    if (i->sf && !i->sub && i->shift == 0 && i->imm6 <= 3 && i->imm6 && i->rn != 31 && i->rm != 31)
        r = ir_lea(t->ir, a64_x(t, i->rn), a64_x(t, i->rm), i->imm6, 0);
    else {
        a = a64_r(t, i->sf, i->rn);
        r = add_or_sub(t, i->sub, a, shifted(t, i->sf, i->rm, i->shift, i->imm6));
    }
    a64_put_r(t, i->rd, r);
}

EMIT(addsubs_shifted)
{
    ir_val a = a64_r(t, i->sf, i->rn);

    addsubs(t, i, a, shifted(t, i->sf, i->rm, i->shift, i->imm6));
}

ir_val a64_extend(struct arm_t *t, unsigned rm, unsigned option)
{
    switch (option) {
    case 0: return ir_extract(t->ir, a64_x(t, rm), 0, 8);
    case 1: return ir_extract(t->ir, a64_x(t, rm), 0, 16);
    case 2: return ir_un(t->ir, IR_ZEXT32, a64_w(t, rm));
    case 4: return ir_sextract(t->ir, a64_x(t, rm), 0, 8);
    case 5: return ir_sextract(t->ir, a64_x(t, rm), 0, 16);
    case 6: return ir_un(t->ir, IR_SEXT32, a64_w(t, rm));
    default: return a64_x(t, rm);
    }
}

static ir_val extended(struct arm_t *t, const struct a64_insn *i)
{
    ir_val v = a64_extend(t, i->rm, i->option);

    if (i->imm3)
        v = ir_bin_imm(t->ir, IR_SHL, v, i->imm3);
    return i->sf ? v : ir_un(t->ir, IR_TRUNC, v);
}

EMIT(addsub_extended)
{
    ir_val r;

    if (i->sf && !i->sub && i->imm3 <= 3)
        r = ir_lea(t->ir, a64_x_sp(t, i->rn), a64_extend(t, i->rm, i->option), i->imm3, 0);
    else
        r = add_or_sub(t, i->sub, get_sp(t, i->sf, i->rn), extended(t, i));
    a64_put_x_sp(t, i->rd, r);
}

EMIT(addsubs_extended) { addsubs(t, i, get_sp(t, i->sf, i->rn), extended(t, i)); }

static ir_val carry_as(struct arm_t *t, unsigned sf)
{
    struct arm_test test = arm_condition(t, 2);

    return ir_setcc(t->ir, type_of(sf), test.cond, test.a, test.b);
}

/* Rn + Rm + C, or Rn + ~Rm + C */
static ir_val add_with_carry(struct arm_t *t, const struct a64_insn *i, ir_val *a, ir_val *b, ir_val *carry)
{
    *carry = carry_as(t, i->sf);
    *a = a64_r(t, i->sf, i->rn);
    *b = a64_r(t, i->sf, i->rm);
    if (i->sub)
        *b = ir_un(t->ir, IR_NOT, *b);
    return ir_bin(t->ir, IR_ADD, ir_bin(t->ir, IR_ADD, *a, *b), *carry);
}

EMIT(adc)
{
    ir_val a, b, carry;

    a64_put_r(t, i->rd, add_with_carry(t, i, &a, &b, &carry));
}

EMIT(adcs)
{
    ir_val a, b, carry, r = add_with_carry(t, i, &a, &b, &carry), op;

    if (i->sf)
        carry = ir_un(t->ir, IR_TRUNC, carry);
    op = ir_select(t->ir, C_NE, carry, imm32(t, 0), imm32(t, i->sf ? CC_ADC64 : CC_ADC32), imm32(t, i->sf ? CC_ADD64 : CC_ADD32));
    arm_set_cc_dynamic(t, i->sf ? CC_ADX64 : CC_ADX32, op, a, b, r);
    a64_put_r(t, i->rd, r);
}

/* ---- logic */

static void logic_flags(struct arm_t *t, unsigned sf, ir_val r) { arm_set_cc(t, sf ? CC_LOGIC64 : CC_LOGIC32, r, 0); }

static ir_val logic_imm(struct arm_t *t, const struct a64_insn *i, enum ir_opcode op)
{
    uint64_t v = 0;
    ir_val a = a64_r(t, i->sf, i->rn);

    a64_bitmask(i->sf, i->immn, i->imms, i->immr, &v);
    return ir_bin(t->ir, op, a, imm_of(t, a, v));
}

static void put_logic_imm(struct arm_t *t, const struct a64_insn *i, ir_val r, bool aligned)
{
    if (i->rd == 31 && aligned)
        a64_put_x_sp_aligned(t, 31, r);
    else
        a64_put_x_sp(t, i->rd, r);
}

EMIT(and_imm)
{
    uint64_t v = 0;

    a64_bitmask(i->sf, i->immn, i->imms, i->immr, &v);
    put_logic_imm(t, i, logic_imm(t, i, IR_AND), !(v & 15));
}

EMIT(orr_imm) { put_logic_imm(t, i, logic_imm(t, i, IR_OR), false); }
EMIT(eor_imm) { put_logic_imm(t, i, logic_imm(t, i, IR_XOR), false); }

EMIT(ands_imm)
{
    ir_val r = logic_imm(t, i, IR_AND);

    logic_flags(t, i->sf, r);
    a64_put_r(t, i->rd, r);
}

static ir_val logic_reg(struct arm_t *t, const struct a64_insn *i, enum ir_opcode op)
{
    ir_val b = shifted(t, i->sf, i->rm, i->shift, i->imm6), a;

    if (op == IR_OR && i->rn == 31)     /* MOV, MVN */
        return i->inv ? ir_un(t->ir, IR_NOT, b) : b;
    a = a64_r(t, i->sf, i->rn);
    if (i->inv && op == IR_AND)
        return ir_bin(t->ir, IR_ANDC, a, b);
    return ir_bin(t->ir, op, a, i->inv ? ir_un(t->ir, IR_NOT, b) : b);
}

EMIT(and_reg) { a64_put_r(t, i->rd, logic_reg(t, i, IR_AND)); }
EMIT(orr_reg) { a64_put_r(t, i->rd, logic_reg(t, i, IR_OR)); }
EMIT(eor_reg) { a64_put_r(t, i->rd, logic_reg(t, i, IR_XOR)); }

EMIT(ands_reg)
{
    ir_val r = logic_reg(t, i, IR_AND);

    logic_flags(t, i->sf, r);
    a64_put_r(t, i->rd, r);
}

/* ---- moves and bit fields */

EMIT(movz) { a64_put_x(t, i->rd, ir_const(t->ir, T_I64, (uint64_t)i->imm16 << (16 * i->hw))); }

EMIT(movn)
{
    uint64_t v = ~((uint64_t)i->imm16 << (16 * i->hw));

    a64_put_x(t, i->rd, ir_const(t->ir, T_I64, i->sf ? v : (uint32_t)v));
}

EMIT(movk)
{
    ir_val v = a64_r(t, i->sf, i->rd);
    uint64_t known;

    if (ir_is_const(t->ir, v, &known))
        v = imm_of(t, v, (known & ~(UINT64_C(0xffff) << (16 * i->hw))) | (uint64_t)i->imm16 << (16 * i->hw));
    else
        v = ir_deposit(t->ir, v, imm_of(t, v, i->imm16), 16 * i->hw, 16);
    a64_put_r(t, i->rd, v);
}

/* imms >= immr: bits immr..imms to the bottom; else bits 0..imms to position width - immr. */
EMIT(ubfm)
{
    ir_val v = a64_r(t, i->sf, i->rn);
    unsigned w = width(i->sf), len = i->imms + 1;

    if (i->imms >= i->immr)
        v = ir_extract(t->ir, v, i->immr, len - i->immr);
    else if (i->imms + 1 == i->immr)    /* LSL */
        v = ir_bin_imm(t->ir, IR_SHL, v, w - i->immr);
    else
        v = ir_bin_imm(t->ir, IR_SHL, ir_extract(t->ir, v, 0, len), w - i->immr);
    a64_put_r(t, i->rd, v);
}

EMIT(sbfm)
{
    unsigned len = i->imms + 1;
    ir_val v;

    if (i->sf && i->immr == 0 && len == 32)
        v = ir_un(t->ir, IR_SEXT32, a64_w(t, i->rn));
    else if (i->imms >= i->immr)
        v = ir_sextract(t->ir, a64_r(t, i->sf, i->rn), i->immr, len - i->immr);
    else
        v = ir_bin_imm(t->ir, IR_SHL, ir_sextract(t->ir, a64_r(t, i->sf, i->rn), 0, len), width(i->sf) - i->immr);
    a64_put_r(t, i->rd, v);
}

EMIT(bfm)
{
    unsigned len = i->imms + 1;
    ir_val v = a64_r(t, i->sf, i->rn), d = a64_r(t, i->sf, i->rd);

    if (i->imms >= i->immr) {
        if (i->immr)
            v = ir_bin_imm(t->ir, IR_SHR, v, i->immr);
        d = ir_deposit(t->ir, d, v, 0, len - i->immr);
    } else
        d = ir_deposit(t->ir, d, v, width(i->sf) - i->immr, len);
    a64_put_r(t, i->rd, d);
}

EMIT(extr)
{
    ir_val n = a64_r(t, i->sf, i->rn), v;

    if (i->rn == i->rm)
        v = ir_bin_imm(t->ir, IR_ROTR, n, i->imms);
    else if (!i->imms)
        v = a64_r(t, i->sf, i->rm);
    else
        v = ir_bin(t->ir, IR_OR, ir_bin_imm(t->ir, IR_SHR, a64_r(t, i->sf, i->rm), i->imms),
                   ir_bin_imm(t->ir, IR_SHL, n, width(i->sf) - i->imms));
    a64_put_r(t, i->rd, v);
}

EMIT(shiftv)
{
    ir_val v = a64_r(t, i->sf, i->rn);

    a64_put_r(t, i->rd, ir_bin(t->ir, (enum ir_opcode)i->row->arg, v, a64_r(t, i->sf, i->rm)));        /* counts modulo the width */
}

/* ---- multiplication and division */

static void multiply_add(struct arm_t *t, const struct a64_insn *i, unsigned sf, ir_val product)
{
    ir_val a;

    if (i->ra == 31) {
        a64_put_r(t, i->rd, i->sub ? ir_un(t->ir, IR_NEG, product) : product);
        return;
    }
    a = a64_r(t, sf, i->ra);
    a64_put_r(t, i->rd, add_or_sub(t, i->sub, a, product));
}

EMIT(madd)
{
    ir_val n = a64_r(t, i->sf, i->rn);

    multiply_add(t, i, i->sf, ir_bin(t->ir, IR_MUL, n, a64_r(t, i->sf, i->rm)));
}

EMIT(smaddl)
{
    enum ir_opcode ext = i->u ? IR_ZEXT32 : IR_SEXT32;
    ir_val n = ir_un(t->ir, ext, a64_w(t, i->rn));

    multiply_add(t, i, 1, ir_bin(t->ir, IR_MUL, n, ir_un(t->ir, ext, a64_w(t, i->rm))));
}

EMIT(smulh)
{
    ir_val n = a64_x(t, i->rn);

    a64_put_x(t, i->rd, ir_bin(t->ir, i->u ? IR_MULHU : IR_MULHS, n, a64_x(t, i->rm)));
}

/* A division by zero gives zero. */
EMIT(udiv)
{
    ir_val d = a64_r(t, i->sf, i->rm), zero = imm_of(t, d, 0), one = imm_of(t, d, 1);
    ir_val n = ir_select(t->ir, C_EQ, d, zero, zero, a64_r(t, i->sf, i->rn));

    d = ir_select(t->ir, C_EQ, d, zero, one, d);
    a64_put_r(t, i->rd, ir_bin(t->ir, IR_DIVU, n, d));
}

/* ... and the least number by -1 gives itself: any number by -1 is divided by 1 and negated. */
EMIT(sdiv)
{
    ir_val d = a64_r(t, i->sf, i->rm), zero = imm_of(t, d, 0), one = imm_of(t, d, 1), minus = imm_of(t, d, UINT64_MAX);
    ir_val n = a64_r(t, i->sf, i->rn);

    n = ir_select(t->ir, C_EQ, d, minus, ir_un(t->ir, IR_NEG, n), n);
    n = ir_select(t->ir, C_EQ, d, zero, zero, n);
    d = ir_select(t->ir, C_LEU, ir_bin_imm(t->ir, IR_ADD, d, 1), one, one, d);         /* 0 and -1 */
    a64_put_r(t, i->rd, ir_bin(t->ir, IR_DIVS, n, d));
}

/* ---- bits */

EMIT(clz) { a64_put_r(t, i->rd, ir_un(t->ir, IR_CLZ, a64_r(t, i->sf, i->rn))); }
EMIT(ctz) { a64_put_r(t, i->rd, ir_un(t->ir, IR_CTZ, a64_r(t, i->sf, i->rn))); }
EMIT(cnt) { a64_put_r(t, i->rd, ir_un(t->ir, IR_POPCNT, a64_r(t, i->sf, i->rn))); }
EMIT(rev_w) { a64_put_r(t, i->rd, ir_un(t->ir, IR_BSWAP, a64_w(t, i->rn))); }
EMIT(rev_x) { a64_put_r(t, i->rd, ir_un(t->ir, IR_BSWAP, a64_x(t, i->rn))); }
EMIT(rev32) { a64_put_r(t, i->rd, ir_bin_imm(t->ir, IR_ROTL, ir_un(t->ir, IR_BSWAP, a64_x(t, i->rn)), 32)); }

EMIT(cls)
{
    ir_val v = a64_r(t, i->sf, i->rn);

    v = ir_bin(t->ir, IR_XOR, v, ir_bin_imm(t->ir, IR_SAR, v, width(i->sf) - 1));
    a64_put_r(t, i->rd, ir_bin_imm(t->ir, IR_ADD, ir_un(t->ir, IR_CLZ, v), UINT64_MAX));
}

/* Neighbouring groups of n bits change places. */
static ir_val swap_groups(struct arm_t *t, ir_val v, unsigned n, uint64_t low)
{
    ir_val a = ir_bin_imm(t->ir, IR_AND, ir_bin_imm(t->ir, IR_SHR, v, n), low);

    return ir_bin(t->ir, IR_OR, a, ir_bin_imm(t->ir, IR_SHL, ir_bin_imm(t->ir, IR_AND, v, low), n));
}

EMIT(rev16) { a64_put_r(t, i->rd, swap_groups(t, a64_r(t, i->sf, i->rn), 8, UINT64_C(0x00ff00ff00ff00ff))); }

EMIT(rbit)
{
    ir_val v = ir_un(t->ir, IR_BSWAP, a64_r(t, i->sf, i->rn));

    v = swap_groups(t, v, 4, UINT64_C(0x0f0f0f0f0f0f0f0f));
    v = swap_groups(t, v, 2, UINT64_C(0x3333333333333333));
    a64_put_r(t, i->rd, swap_groups(t, v, 1, UINT64_C(0x5555555555555555)));
}

EMIT(abs)
{
    ir_val v = a64_r(t, i->sf, i->rn);

    a64_put_r(t, i->rd, ir_select(t->ir, C_LT, v, imm_of(t, v, 0), ir_un(t->ir, IR_NEG, v), v));
}

static const uint8_t minmax_cond[4] = { C_GT, C_GTU, C_LT, C_LTU };    /* SMAX UMAX SMIN UMIN */

EMIT(minmax_imm)
{
    uint64_t v = i->opc & 1 ? i->imm8 : (uint64_t)(int64_t)(int8_t)i->imm8;
    ir_val a = a64_r(t, i->sf, i->rn), b = value_const(t, i->sf, v);

    a64_put_r(t, i->rd, ir_select(t->ir, minmax_cond[i->opc & 3], a, b, a, b));
}

EMIT(minmax_reg)
{
    ir_val a = a64_r(t, i->sf, i->rn), b = a64_r(t, i->sf, i->rm);

    a64_put_r(t, i->rd, ir_select(t->ir, minmax_cond[i->opc & 3], a, b, a, b));
}

EMIT(crc32)
{
    ir_val crc = a64_w(t, i->rn);

    a64_put_r(t, i->rd, arm_call(t, ARM_HELP_crc32, crc, a64_x(t, i->rm), imm32(t, (uint32_t)i->c << 2 | i->size), 0));
}

/* ---- conditions */

EMIT(csel)
{
    struct arm_test test = arm_condition(t, i->cond);
    ir_val n = a64_r(t, i->sf, i->rn), m;

    if (i->rn == 31 && i->rm == 31 && i->inc && !i->inv) {      /* CSET */
        a64_put_r(t, i->rd, ir_setcc(t->ir, type_of(i->sf), ir_cond_invert(test.cond), test.a, test.b));
        return;
    }
    m = i->rm == i->rn ? n : a64_r(t, i->sf, i->rm);
    if (i->inv)
        m = ir_un(t->ir, i->inc ? IR_NEG : IR_NOT, m);
    else if (i->inc)
        m = ir_bin_imm(t->ir, IR_ADD, m, 1);
    a64_put_r(t, i->rd, ir_select(t->ir, test.cond, test.a, test.b, n, m));
}

/* Operands whose difference has the flags NZCV, by their number; 64 bits, the 32-bit ones are those shifted right. z_only: the
 * difference has C as well. Three sets of flags no subtraction gives. */
static const struct flag_operands { uint64_t a, b; bool z_only, none; } flag_operands[16] = {
    [0] = { 0, UINT64_MAX << 32 }, [1] = { .none = true },
    [2] = { UINT64_C(1) << 32, 0 }, [3] = { UINT64_C(1) << 63, UINT64_C(1) << 32 },
    [4] = { 0, 0, .z_only = true }, [5] = { .none = true }, [6] = { 0, 0 }, [7] = { .none = true },
    [8] = { 0, UINT64_C(1) << 32 }, [9] = { UINT64_C(0x7fffffff) << 32, UINT64_MAX << 32 },
    [10] = { UINT64_MAX << 32, 0 }, [11] = { .none = true },
    [12] = { .none = true }, [13] = { .none = true }, [14] = { .none = true }, [15] = { .none = true },
};

/* The flags of a - b if the test holds, else nzcv; where a pair of operands stands for nzcv, these are chosen instead of
 * flags, and what asks for the flags next sees a comparison. */
static bool ccmp_by_operands(struct arm_t *t, unsigned sf, struct arm_test test, ir_val a, ir_val b, unsigned nzcv)
{
    const struct flag_operands *f = &flag_operands[nzcv];
    ir_val op;

    if (f->none)
        return false;
    a = ir_select(t->ir, test.cond, test.a, test.b, a, value_const(t, sf, sf ? f->a : f->a >> 32));
    b = ir_select(t->ir, test.cond, test.a, test.b, b, value_const(t, sf, sf ? f->b : f->b >> 32));
    if (!f->z_only) {
        arm_set_cc(t, sf ? CC_SUB64 : CC_SUB32, a, b);
        return true;
    }
    op = ir_select(t->ir, test.cond, test.a, test.b, imm32(t, sf ? CC_SUB64 : CC_SUB32), imm32(t, sf ? CC_ADD64 : CC_ADD32));
    arm_set_cc_dynamic(t, sf ? CC_CMPZ64 : CC_CMPZ32, op, a, b, 0);
    return true;
}

static void ccmp(struct arm_t *t, const struct a64_insn *i, ir_val b)
{
    struct arm_test test = arm_condition(t, i->cond);
    ir_val a = a64_r(t, i->sf, i->rn), flags;
    unsigned sub = i->sub;
    uint64_t v;

    if (!sub && ir_is_const(t->ir, b, &v) && v) {       /* imm5: never the least number */
        sub = 1;
        b = value_const(t, i->sf, -v);
    }
    if (sub && ccmp_by_operands(t, i->sf, test, a, b, i->nzcv))
        return;
    if (!i->sf) {
        a = ir_un(t->ir, IR_ZEXT32, a);
        b = ir_un(t->ir, IR_ZEXT32, b);
    }
    flags = arm_call(t, ARM_HELP_nzcv, imm32(t, sub ? i->sf ? CC_SUB64 : CC_SUB32 : i->sf ? CC_ADD64 : CC_ADD32), a, b, 0);
    arm_set_nzcv(t, ir_select(t->ir, test.cond, test.a, test.b, flags, imm32(t, (uint32_t)i->nzcv << 28)));
}

EMIT(ccmp_reg) { ccmp(t, i, a64_r(t, i->sf, i->rm)); }
EMIT(ccmp_imm) { ccmp(t, i, value_const(t, i->sf, i->imm5)); }

/* ---- FEAT_FlagM, FEAT_FlagM2 */

EMIT(cfinv) { arm_set_nzcv(t, ir_bin_imm(t->ir, IR_XOR, arm_nzcv(t), 1u << 29)); }

EMIT(rmif)
{
    uint32_t mask = (uint32_t)i->mask << 28;
    ir_val v = ir_bin_imm(t->ir, IR_ROTR, a64_x(t, i->rn), i->imm6), f = arm_nzcv(t);

    v = ir_bin_imm(t->ir, IR_SHL, ir_un(t->ir, IR_TRUNC, v), 28);
    arm_set_nzcv(t, ir_bin(t->ir, IR_OR, ir_bin_imm(t->ir, IR_AND, v, mask), ir_bin_imm(t->ir, IR_AND, f, ~mask)));
}

/* N, Z of the low 8 or 16 bits; V: bits n and n - 1 differ; C stays. */
EMIT(setf)
{
    unsigned n = (unsigned)i->row->arg;
    ir_val v = a64_w(t, i->rn), low = ir_extract(t->ir, v, 0, n), f = ir_bin_imm(t->ir, IR_AND, arm_nzcv(t), 1u << 29), o;

    f = ir_bin(t->ir, IR_OR, f, ir_bin_imm(t->ir, IR_SHL, ir_extract(t->ir, v, n - 1, 1), 31));
    f = ir_bin(t->ir, IR_OR, f, ir_bin_imm(t->ir, IR_SHL, ir_setcc(t->ir, T_I32, C_EQ, low, imm32(t, 0)), 30));
    o = ir_bin(t->ir, IR_XOR, ir_extract(t->ir, v, n, 1), ir_extract(t->ir, v, n - 1, 1));
    arm_set_nzcv(t, ir_bin(t->ir, IR_OR, f, ir_bin_imm(t->ir, IR_SHL, o, 28)));
}

/* Between Arm's floating-point comparison flags and the other convention: C6.2.25, C6.2.423. */
EMIT(axflag)
{
    ir_val f = arm_nzcv(t), v = ir_extract(t->ir, f, 28, 1), z, c;

    z = ir_bin_imm(t->ir, IR_SHL, ir_bin(t->ir, IR_OR, ir_extract(t->ir, f, 30, 1), v), 30);
    c = ir_bin_imm(t->ir, IR_SHL, ir_bin(t->ir, IR_ANDC, ir_extract(t->ir, f, 29, 1), v), 29);
    arm_set_nzcv(t, ir_bin(t->ir, IR_OR, z, c));
}

EMIT(xaflag)
{
    ir_val f = arm_nzcv(t), c = ir_extract(t->ir, f, 29, 1), z = ir_extract(t->ir, f, 30, 1), one = imm32(t, 1), r;

    r = ir_bin_imm(t->ir, IR_SHL, ir_bin(t->ir, IR_ANDC, ir_bin(t->ir, IR_XOR, c, one), z), 31);               /* N = !C & !Z */
    r = ir_bin(t->ir, IR_OR, r, ir_bin_imm(t->ir, IR_SHL, ir_bin(t->ir, IR_AND, z, c), 30));                  /* Z = Z & C */
    r = ir_bin(t->ir, IR_OR, r, ir_bin_imm(t->ir, IR_SHL, ir_bin(t->ir, IR_OR, c, z), 29));                   /* C = C | Z */
    r = ir_bin(t->ir, IR_OR, r, ir_bin_imm(t->ir, IR_SHL, ir_bin(t->ir, IR_ANDC, z, c), 28));                 /* V = !C & Z */
    arm_set_nzcv(t, r);
}
