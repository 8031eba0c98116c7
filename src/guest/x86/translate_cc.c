/* Lazy flags in translated code: recording what set them, and conditions on them. Where the setter is known at
 * translation time a condition becomes one comparison of values; else the flags are computed by a pure helper, which
 * vanishes with its unused result. */
#include "x86.h"

enum { G_ADD, G_ADC, G_SUB, G_SBB, G_LOGIC, G_INC, G_DEC, G_SHL, G_SAR, G_MUL, G_KEEP };
static unsigned cc_group(int op) { return (unsigned)(op - 1) >> 2; }
static unsigned cc_bytes(int op) { return 1u << ((op - 1) & 3); }

static ir_val imm32(struct x86_t *t, uint32_t v) { return ir_const(t->ir, T_I32, v); }

/* Flags computed at some cost stand in cc_src, and the operation to come does not look there: overwritten, so that
 * nobody computes them for a fault in between. */
static bool src_is_stale(const struct x86_t *t)
{
    return t->cc_op <= CC_EFLAGS || cc_group(t->cc_op) == G_KEEP;
}

void x86_set_cc(struct x86_t *t, enum x86_cc op, ir_val dst, ir_val src, ir_val src2)
{
    if (!src && src_is_stale(t))
        src = ir_const(t->ir, T_I64, 0);
    if (dst)
        ir_put(t->ir, SLOT_CC_DST, x86_widen(t, dst));
    if (src)
        ir_put(t->ir, SLOT_CC_SRC, x86_widen(t, src));
    if (src2)
        ir_put(t->ir, SLOT_CC_SRC2, x86_widen(t, src2));
    if (t->cc_op != (int)op)
        ir_put(t->ir, SLOT_CC_OP, imm32(t, op));
    t->cc_op = op;
    t->cc_a = t->cc_b = 0;
}

void x86_set_flags(struct x86_t *t, ir_val eflags)
{
    if (ir_type_of(t->ir, eflags) == T_I64)
        eflags = ir_un(t->ir, IR_TRUNC, eflags);
    x86_set_cc(t, CC_EFLAGS, 0, ir_bin_imm(t->ir, IR_AND, eflags, EF_ARITH), 0);
}

static ir_val cc_dst(struct x86_t *t) { return x86_narrow(t, ir_get(t->ir, SLOT_CC_DST), cc_bytes(t->cc_op)); }
static ir_val cc_src(struct x86_t *t) { return x86_narrow(t, ir_get(t->ir, SLOT_CC_SRC), cc_bytes(t->cc_op)); }

ir_val x86_flags(struct x86_t *t)
{
    if (t->cc_op == CC_EFLAGS)
        return x86_narrow(t, ir_get(t->ir, SLOT_CC_SRC), 4);
    return x86_call(t, HELP_flags, t->cc_op < 0 ? ir_get(t->ir, SLOT_CC_OP) : imm32(t, (uint32_t)t->cc_op),
                    ir_get(t->ir, SLOT_CC_DST), ir_get(t->ir, SLOT_CC_SRC), ir_get(t->ir, SLOT_CC_SRC2));
}

/* AF as it stands in EFLAGS, where it is defined; 0 where it is not. */
static ir_val aux_carry(struct x86_t *t)
{
    ir_val dst = cc_dst(t), other;

    switch (cc_group(t->cc_op)) {
    case G_ADD: case G_SUB:
        other = cc_src(t);
        other = ir_bin(t->ir, IR_XOR, other,
                       ir_bin(t->ir, cc_group(t->cc_op) == G_ADD ? IR_SUB : IR_ADD, dst, other));
        break;
    case G_INC: case G_DEC:
        other = ir_bin_imm(t->ir, IR_XOR, ir_bin_imm(t->ir, IR_ADD, dst, cc_group(t->cc_op) == G_INC ? -1ull : 1), 1);
        break;
    case G_KEEP:
        return ir_bin_imm(t->ir, IR_AND, x86_narrow(t, ir_get(t->ir, SLOT_CC_SRC), 4), EF_AF);
    default:
        return imm32(t, 0);
    }
    return ir_bin_imm(t->ir, IR_AND, x86_narrow(t, ir_bin(t->ir, IR_XOR, dst, other), 4), EF_AF);
}

/* The other flags keep their values: SF, ZF and PF through the result that defines them where that is known. */
void x86_set_carry(struct x86_t *t, ir_val cf, ir_val of)
{
    int op = t->cc_op;
    ir_val f;

    if (op <= CC_EFLAGS || cc_group(op) == G_ADC || cc_group(op) == G_SBB) {
        f = ir_bin_imm(t->ir, IR_AND, x86_flags(t), of ? ~(uint32_t)(EF_CF | EF_OF) : ~(uint32_t)EF_CF);
        f = ir_bin(t->ir, IR_OR, f, cf);
        if (of)
            f = ir_bin(t->ir, IR_OR, f, ir_bin_imm(t->ir, IR_SHL, of, 11));
        x86_set_flags(t, f);
        return;
    }
    f = ir_bin(t->ir, IR_OR, aux_carry(t), cf);
    if (!of)
        of = x86_condition(t, 0);
    f = ir_bin(t->ir, IR_OR, f, ir_bin_imm(t->ir, IR_SHL, of, 11));
    x86_set_cc(t, CC_KEEP8 + ((op - 1) & 3), 0, f, 0);
}

/* ---- conditions: each returns the test for the even tttn code (the odd one is its inverse) */

enum { T_O, T_B, T_Z, T_BE, T_S, T_P, T_L, T_LE };

static struct x86_test test_of(enum ir_cond cond, ir_val a, ir_val b) { return (struct x86_test){ cond, a, b }; }
static struct x86_test test_never(struct x86_t *t) { return test_of(C_NE, imm32(t, 0), imm32(t, 0)); }

static struct x86_test test_zero(struct x86_t *t, ir_val v, enum ir_cond cond)
{
    return test_of(cond, v, ir_const(t->ir, ir_type_of(t->ir, v), 0));
}

static struct x86_test test_bits(struct x86_t *t, ir_val v, uint64_t mask)
{
    return test_of(C_TSTNE, v, ir_const(t->ir, ir_type_of(t->ir, v), mask));
}

static struct x86_test flags_test(struct x86_t *t, ir_val f, unsigned kind)
{
    static const uint32_t mask[] = { EF_OF, EF_CF, EF_ZF, EF_CF | EF_ZF, EF_SF, EF_PF };
    ir_val less;

    if (kind < T_L)
        return test_bits(t, f, mask[kind]);
    /* OF moved to SF's place: SF != OF */
    less = ir_bin(t->ir, IR_XOR, ir_bin_imm(t->ir, IR_SHR, f, 4), f);
    if (kind == T_L)
        return test_bits(t, less, EF_SF);
    less = ir_bin(t->ir, IR_OR, ir_bin_imm(t->ir, IR_AND, less, EF_SF), ir_bin_imm(t->ir, IR_AND, f, EF_ZF));
    return test_zero(t, less, C_NE);
}

static struct x86_test sign_test(struct x86_t *t, ir_val dst, unsigned bytes)
{
    if (bytes < 4)
        return test_bits(t, dst, 1u << (8 * bytes - 1));
    return test_zero(t, dst, C_LT);
}

/* PF: the low byte has an even number of ones */
static struct x86_test parity_test(struct x86_t *t, ir_val dst)
{
    ir_val low = x86_narrow(t, dst, 1);

    return test_of(C_TSTEQ, ir_un(t->ir, IR_POPCNT, low), imm32(t, 1));
}

/* CMP, SUB, and DEC seen as a subtraction of 1: a - b at the width of cc_op. */
static struct x86_test compare_test(struct x86_t *t, ir_val a, ir_val b, unsigned kind)
{
    unsigned bytes = cc_bytes(t->cc_op);

    switch (kind) {
    case T_B: return test_of(C_LTU, a, b);
    case T_BE: return test_of(C_LEU, a, b);
    case T_Z: return test_of(C_EQ, a, b);
    case T_L: return test_of(C_LT, x86_sext(t, a, bytes), x86_sext(t, b, bytes));
    default: return test_of(C_LE, x86_sext(t, a, bytes), x86_sext(t, b, bytes));
    }
}

static struct x86_test overflow_test(struct x86_t *t, ir_val x, ir_val y)
{
    return sign_test(t, ir_bin(t->ir, IR_AND, x, y), cc_bytes(t->cc_op));
}

static struct x86_test sub_test(struct x86_t *t, unsigned kind)
{
    ir_val dst, a = t->cc_a, b = t->cc_b;

    if (!a) {
        b = cc_src(t);
        a = x86_narrow(t, ir_bin(t->ir, IR_ADD, cc_dst(t), b), cc_bytes(t->cc_op));
    }
    if (kind != T_O)
        return compare_test(t, a, b, kind);
    dst = cc_dst(t);
    return overflow_test(t, ir_bin(t->ir, IR_XOR, a, b), ir_bin(t->ir, IR_XOR, a, dst));
}

static struct x86_test dec_test(struct x86_t *t, unsigned kind)
{
    unsigned bytes = cc_bytes(t->cc_op);
    ir_val dst = cc_dst(t), one;

    if (kind == T_O)
        return test_of(C_EQ, dst, ir_const(t->ir, ir_type_of(t->ir, dst), (UINT64_C(1) << (8 * bytes - 1)) - 1));
    one = ir_const(t->ir, ir_type_of(t->ir, dst), 1);
    return compare_test(t, x86_narrow(t, ir_bin(t->ir, IR_ADD, dst, one), bytes), one, kind);
}

static struct x86_test add_test(struct x86_t *t, unsigned kind)
{
    ir_val dst = cc_dst(t), src = cc_src(t), a;

    if (kind == T_B)
        return test_of(C_LTU, dst, src);
    a = ir_bin(t->ir, IR_SUB, dst, src);
    return overflow_test(t, ir_bin(t->ir, IR_XOR, a, dst), ir_bin(t->ir, IR_XOR, src, dst));
}

/* ADC, SBB: with a carry in, equality carries too. */
static struct x86_test carry_chain_test(struct x86_t *t)
{
    ir_val src = cc_src(t), a = cc_dst(t), cin = x86_narrow(t, ir_get(t->ir, SLOT_CC_SRC2), 4), r;

    if (cc_group(t->cc_op) == G_SBB) {
        ir_val c = ir_type_of(t->ir, a) == T_I64 ? x86_widen(t, cin) : cin;

        a = x86_narrow(t, ir_bin(t->ir, IR_ADD, ir_bin(t->ir, IR_ADD, a, src), c), cc_bytes(t->cc_op));
    }
    r = ir_select(t->ir, C_NE, cin, imm32(t, 0), ir_setcc(t->ir, T_I32, C_LEU, a, src),
                  ir_setcc(t->ir, T_I32, C_LTU, a, src));
    return test_zero(t, r, C_NE);
}

/* Carry of a shift: the bit last shifted out. */
static struct x86_test shift_test(struct x86_t *t, unsigned kind)
{
    unsigned bytes = cc_bytes(t->cc_op);

    if (kind == T_O)
        return sign_test(t, ir_bin(t->ir, IR_XOR, cc_src(t), cc_dst(t)), bytes);
    return cc_group(t->cc_op) == G_SHL ? sign_test(t, cc_src(t), bytes) : test_bits(t, cc_src(t), 1);
}

/* Tests that the group answers by itself: CF and OF, and comparisons. False: by the flags as a whole. */
static bool group_test(struct x86_t *t, unsigned kind, struct x86_test *out)
{
    unsigned group = cc_group(t->cc_op);

    switch (group) {
    case G_SUB:
        *out = sub_test(t, kind);
        return true;
    case G_DEC:
        if (kind == T_L || kind == T_LE || kind == T_O) {
            *out = dec_test(t, kind);
            return true;
        }
        break;
    case G_LOGIC:
        if (kind == T_O || kind == T_B)
            *out = test_never(t);
        else if (kind == T_BE)
            *out = test_zero(t, cc_dst(t), C_EQ);
        else if (kind == T_L)
            *out = sign_test(t, cc_dst(t), cc_bytes(t->cc_op));
        else
            *out = test_zero(t, x86_sext(t, cc_dst(t), cc_bytes(t->cc_op)), C_LE);
        return true;
    case G_ADD:
        if (kind == T_B || kind == T_O) {
            *out = add_test(t, kind);
            return true;
        }
        break;
    case G_ADC: case G_SBB:
        if (kind == T_B) {
            *out = carry_chain_test(t);
            return true;
        }
        break;
    case G_SHL: case G_SAR:
        if (kind == T_B || kind == T_O) {
            *out = shift_test(t, kind);
            return true;
        }
        break;
    case G_MUL:
        if (kind == T_B || kind == T_O) {
            *out = test_zero(t, ir_get(t->ir, SLOT_CC_SRC), C_NE);
            return true;
        }
        break;
    default:
        break;
    }
    if ((group == G_INC || group == G_DEC || group == G_KEEP) && kind == T_B) {
        *out = test_bits(t, ir_get(t->ir, SLOT_CC_SRC), EF_CF);
        return true;
    }
    if (group == G_KEEP && kind == T_O) {
        *out = test_bits(t, ir_get(t->ir, SLOT_CC_SRC), EF_OF);
        return true;
    }
    return false;
}

static struct x86_test even_test(struct x86_t *t, unsigned kind)
{
    struct x86_test out;

    if (t->cc_op == CC_EFLAGS || t->cc_op < 0)
        return flags_test(t, x86_flags(t), kind);
    if (kind == T_Z) {
        if (cc_group(t->cc_op) == G_SUB && t->cc_a)
            return test_of(C_EQ, t->cc_a, t->cc_b);
        if (cc_group(t->cc_op) == G_LOGIC && t->cc_a)
            return test_of(C_TSTEQ, t->cc_a, t->cc_b);
        return test_zero(t, cc_dst(t), C_EQ);
    }
    if (kind == T_S)
        return sign_test(t, cc_dst(t), cc_bytes(t->cc_op));
    if (kind == T_P)
        return parity_test(t, cc_dst(t));
    if (group_test(t, kind, &out))
        return out;
    return flags_test(t, x86_flags(t), kind);
}

struct x86_test x86_condition_test(struct x86_t *t, unsigned cc)
{
    struct x86_test test = even_test(t, cc >> 1 & 7);

    if (cc & 1)
        test.cond = ir_cond_invert(test.cond);
    return test;
}

ir_val x86_condition(struct x86_t *t, unsigned cc)
{
    struct x86_test test = x86_condition_test(t, cc);

    return ir_setcc(t->ir, T_I32, test.cond, test.a, test.b);
}

void x86_branch(struct x86_t *t, unsigned cc, ir_label l)
{
    struct x86_test test = x86_condition_test(t, cc);

    x86_brcond(t, test.cond, test.a, test.b, l);
}
