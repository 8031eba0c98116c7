/* Integer arithmetic and data movement. SDM vol. 2; flags as in its tables of "Flags Affected". */
#include "x86.h"

static enum x86_cc cc_sized(enum x86_cc base8, unsigned bytes) { return base8 + (unsigned)__builtin_ctz(bytes); }
static ir_val constant_like(struct x86_t *t, ir_val v, uint64_t imm) { return ir_const(t->ir, ir_type_of(t->ir, v), imm); }
static bool locked_memory(const struct x86_insn *i) { return i->lock; }

static ir_val atomic(struct x86_t *t, enum ir_opcode op, const struct x86_operand *o, ir_val v)
{
    if (!t->linear)
        t->linear = x86_linear(t, t->i, o->size, true);
    return ir_atomic(t->ir, op, x86_memop(t, o->size), t->linear, v);
}

/* ---- ADD OR ADC SBB AND SUB XOR CMP */

enum { A_ADD, A_OR, A_ADC, A_SBB, A_AND, A_SUB, A_XOR, A_CMP };

/* The carry flag as a value of the type of `like`. */
static ir_val carry_in(struct x86_t *t, ir_val like)
{
    ir_val c = x86_condition(t, 2);

    return ir_type_of(t->ir, like) == T_I64 ? x86_widen(t, c) : c;
}

static ir_val alu_result(struct x86_t *t, unsigned op, ir_val a, ir_val b, ir_val cin)
{
    static const uint8_t ops[] = { IR_ADD, IR_OR, IR_ADD, IR_SUB, IR_AND, IR_SUB, IR_XOR, IR_SUB };
    ir_val r = ir_bin(t->ir, ops[op], a, b);

    return cin ? ir_bin(t->ir, ops[op], r, cin) : r;
}

static void alu_flags(struct x86_t *t, unsigned op, unsigned bytes, ir_val a, ir_val b, ir_val cin, ir_val r)
{
    static const uint8_t base[] = { CC_ADD8, CC_LOGIC8, CC_ADC8, CC_SBB8, CC_LOGIC8, CC_SUB8, CC_LOGIC8, CC_SUB8 };
    enum x86_cc cc = cc_sized(base[op], bytes);

    if (base[op] == CC_LOGIC8)
        x86_set_cc(t, cc, r, 0, 0);
    else
        x86_set_cc(t, cc, r, b, cin);
    if (base[op] == CC_SUB8) {
        t->cc_a = a;
        t->cc_b = b;
    }
}

static void alu_locked(struct x86_t *t, unsigned op, unsigned bytes)
{
    static const uint8_t ops[] = { IR_ATOMIC_ADD, IR_ATOMIC_OR, 0, 0, IR_ATOMIC_AND, IR_ATOMIC_ADD, IR_ATOMIC_XOR };
    ir_val b = x86_read(t, 1), old, v = op == A_SUB ? ir_un(t->ir, IR_NEG, b) : b;

    old = atomic(t, ops[op], &t->i->op[0], v);
    alu_flags(t, op, bytes, old, b, 0, alu_result(t, op, old, b, 0));
}

/* LOCK ADC and SBB: compare and swap until nobody came between. */
static void alu_locked_carry(struct x86_t *t, unsigned op, unsigned bytes)
{
    ir_label again = ir_label_new(t->ir), done = ir_label_new(t->ir);
    ir_val a, b, cin, r, seen;

    x86_tmp_put(t, 0, x86_condition(t, 2));
    x86_bind(t, again);
    ir_poll(t->ir, t->i->pc);
    a = x86_read_rw(t, 0);
    b = x86_read(t, 1);
    cin = x86_narrow(t, x86_tmp_get(t, 0), bytes == 8 ? 8 : 4);
    r = alu_result(t, op, a, b, cin);
    x86_tmp_put(t, 1, r);
    x86_tmp_put(t, 2, a);
    seen = x86_narrow(t, ir_cas(t->ir, x86_memop(t, bytes), t->linear, a, x86_narrow(t, r, bytes)), bytes);
    x86_brcond(t, C_EQ, seen, a, done);
    ir_br(t->ir, again);
    x86_bind(t, done);
    b = x86_read(t, 1);
    alu_flags(t, op, bytes, x86_tmp_get(t, 2), b, x86_tmp_get(t, 0), x86_tmp_get(t, 1));
}

EMIT(alu)
{
    unsigned op = (unsigned)x86_arg(i), bytes = i->op[0].size;
    ir_val a, b, cin = 0, r;

    if (locked_memory(i)) {
        if (op == A_ADC || op == A_SBB)
            alu_locked_carry(t, op, bytes);
        else
            alu_locked(t, op, bytes);
        return;
    }
    a = op == A_CMP ? x86_read(t, 0) : x86_read_rw(t, 0);
    b = x86_read(t, 1);
    if (op == A_ADC || op == A_SBB)
        cin = carry_in(t, a);
    r = alu_result(t, op, a, b, cin);
    if (op != A_CMP)
        x86_write(t, 0, r);
    alu_flags(t, op, bytes, a, b, cin, r);
}

EMIT(test)
{
    ir_val a = x86_read(t, 0), b = x86_read(t, 1);

    x86_set_cc(t, cc_sized(CC_LOGIC8, i->op[0].size), ir_bin(t->ir, IR_AND, a, b), 0, 0);
    t->cc_a = a;
    t->cc_b = b;
}

EMIT(not)
{
    ir_val a;

    if (locked_memory(i)) {
        atomic(t, IR_ATOMIC_XOR, &i->op[0], ir_const(t->ir, x86_type(i->op[0].size), UINT64_MAX));
        return;
    }
    a = x86_read_rw(t, 0);
    x86_write(t, 0, ir_un(t->ir, IR_NOT, a));
}

static void neg_flags(struct x86_t *t, unsigned bytes, ir_val a, ir_val r)
{
    ir_val zero = constant_like(t, a, 0);

    x86_set_cc(t, cc_sized(CC_SUB8, bytes), r, a, 0);
    t->cc_a = zero;
    t->cc_b = a;
}

static void neg_locked(struct x86_t *t, unsigned bytes)
{
    ir_label again = ir_label_new(t->ir), done = ir_label_new(t->ir);
    ir_val a, seen;

    x86_bind(t, again);
    ir_poll(t->ir, t->i->pc);
    a = x86_read_rw(t, 0);
    x86_tmp_put(t, 0, a);
    seen = ir_cas(t->ir, x86_memop(t, bytes), t->linear, a, x86_narrow(t, ir_un(t->ir, IR_NEG, a), bytes));
    x86_brcond(t, C_EQ, x86_narrow(t, seen, bytes), a, done);
    ir_br(t->ir, again);
    x86_bind(t, done);
    a = x86_narrow(t, x86_tmp_get(t, 0), bytes);
    neg_flags(t, bytes, a, ir_un(t->ir, IR_NEG, a));
}

EMIT(neg)
{
    unsigned bytes = i->op[0].size;
    ir_val a, r;

    if (locked_memory(i)) {
        neg_locked(t, bytes);
        return;
    }
    a = x86_read_rw(t, 0);
    r = ir_un(t->ir, IR_NEG, a);
    x86_write(t, 0, r);
    neg_flags(t, bytes, a, r);
}

/* INC and DEC (arg 1) keep CF. */
EMIT(inc)
{
    bool dec = x86_arg(i);
    unsigned bytes = i->op[0].size;
    ir_val a, r, cf;

    if (locked_memory(i)) {
        a = atomic(t, IR_ATOMIC_ADD, &i->op[0], ir_const(t->ir, x86_type(bytes), dec ? UINT64_MAX : 1));
        r = ir_bin_imm(t->ir, IR_ADD, a, dec ? UINT64_MAX : 1);
    } else {
        a = x86_read_rw(t, 0);
        r = ir_bin_imm(t->ir, IR_ADD, a, dec ? UINT64_MAX : 1);
        x86_write(t, 0, r);
    }
    cf = x86_condition(t, 2);
    x86_set_cc(t, cc_sized(dec ? CC_DEC8 : CC_INC8, bytes), r, cf, 0);
}

/* ---- multiplication */

/* Full product of a and b: low half in *lo, high half in *hi (types of the operand size). */
static void product(struct x86_t *t, unsigned bytes, bool sign, ir_val a, ir_val b, ir_val *lo, ir_val *hi)
{
    unsigned bits = 8 * bytes;
    ir_val p;

    if (bytes == 8) {
        *lo = ir_bin(t->ir, IR_MUL, a, b);
        *hi = ir_bin(t->ir, sign ? IR_MULHS : IR_MULHU, a, b);
    } else if (bytes == 4) {
        p = ir_bin(t->ir, IR_MUL, ir_un(t->ir, sign ? IR_SEXT32 : IR_ZEXT32, a),
                   ir_un(t->ir, sign ? IR_SEXT32 : IR_ZEXT32, b));
        *lo = ir_un(t->ir, IR_TRUNC, p);
        *hi = ir_un(t->ir, IR_TRUNC, ir_bin_imm(t->ir, IR_SHR, p, 32));
    } else {
        if (sign) {
            a = x86_sext(t, a, bytes);
            b = x86_sext(t, b, bytes);
        }
        p = ir_bin(t->ir, IR_MUL, a, b);
        *lo = x86_narrow(t, p, bytes);
        *hi = ir_extract(t->ir, p, bits, bits);
    }
}

/* cc_src of CC_MUL: nonzero when the high half is more than the low half's extension. */
static ir_val high_matters(struct x86_t *t, unsigned bytes, bool sign, ir_val lo, ir_val hi)
{
    if (!sign)
        return hi;
    lo = bytes < 4 ? x86_sext(t, lo, bytes) : lo;
    lo = ir_bin_imm(t->ir, IR_SAR, lo, bytes == 8 ? 63 : 31);
    return x86_narrow(t, ir_bin(t->ir, IR_SUB, hi, lo), bytes);
}

static void mul1(struct x86_t *t, const struct x86_insn *i, bool sign)
{
    unsigned bytes = i->op[0].size;
    ir_val lo, hi;

    product(t, bytes, sign, x86_get_reg(t, R_RAX, bytes), x86_read(t, 0), &lo, &hi);
    if (bytes == 1) {
        x86_put_reg(t, R_RAX, 2, ir_bin(t->ir, IR_OR, lo, ir_bin_imm(t->ir, IR_SHL, hi, 8)));
    } else {
        x86_put_reg(t, R_RAX, bytes, lo);
        x86_put_reg(t, R_RDX, bytes, hi);
    }
    x86_set_cc(t, cc_sized(CC_MUL8, bytes), lo, high_matters(t, bytes, sign, lo, hi), 0);
}

EMIT(mul) { mul1(t, i, false); }
EMIT(imul1) { mul1(t, i, true); }

EMIT(imul2)
{
    unsigned bytes = i->op[0].size, first = i->op[2].kind ? 1 : 0;
    ir_val lo, hi, a = x86_read(t, first), b = x86_read(t, first + 1);

    product(t, bytes, true, a, b, &lo, &hi);
    x86_write(t, 0, lo);
    x86_set_cc(t, cc_sized(CC_MUL8, bytes), lo, high_matters(t, bytes, true, lo, hi), 0);
}

/* ---- division: the common cases inline, the rest (128-bit dividends, overflow, #DE) in a helper */

static void div_by_helper(struct x86_t *t, unsigned bytes, bool sign, ir_val d)
{
    uint32_t info = (uint32_t)__builtin_ctz(bytes) | (uint32_t)sign << 2;

    x86_call(t, HELP_div, ir_const(t->ir, T_I32, info), x86_widen(t, d), 0, 0);
}

/* Unsigned: the high half of the dividend is 0, the divisor is not. */
static void div_unsigned(struct x86_t *t, unsigned bytes)
{
    ir_label slow = ir_label_new(t->ir), done = ir_label_new(t->ir);
    ir_val d = x86_read(t, 0), hi, a, q;

    x86_tmp_put(t, 0, d);
    hi = x86_get_reg(t, R_RDX, bytes);
    x86_brcond(t, C_NE, hi, constant_like(t, hi, 0), slow);
    d = x86_narrow(t, x86_tmp_get(t, 0), bytes);
    x86_brcond(t, C_EQ, d, constant_like(t, d, 0), slow);
    d = x86_narrow(t, x86_tmp_get(t, 0), bytes);
    a = x86_get_reg(t, R_RAX, bytes);
    q = ir_bin(t->ir, IR_DIVU, a, d);
    x86_put_reg(t, R_RDX, bytes, ir_bin(t->ir, IR_SUB, a, ir_bin(t->ir, IR_MUL, q, d)));
    x86_put_reg(t, R_RAX, bytes, q);
    ir_br(t->ir, done);
    x86_bind(t, slow);
    div_by_helper(t, bytes, false, x86_tmp_get(t, 0));
    x86_bind(t, done);
}

/* Signed: the high half is the low half's sign, the divisor neither 0 nor -1. */
static void div_signed(struct x86_t *t, unsigned bytes)
{
    ir_label slow = ir_label_new(t->ir), done = ir_label_new(t->ir);
    ir_val d = x86_read(t, 0), hi, a, q, sign;

    x86_tmp_put(t, 0, d);
    hi = x86_get_reg(t, R_RDX, bytes);
    sign = ir_bin_imm(t->ir, IR_SAR, x86_get_reg(t, R_RAX, bytes), 8 * bytes - 1);
    x86_brcond(t, C_NE, hi, sign, slow);
    d = x86_narrow(t, x86_tmp_get(t, 0), bytes);
    d = ir_bin_imm(t->ir, IR_ADD, d, 1);
    x86_brcond(t, C_LEU, d, constant_like(t, d, 1), slow);
    d = x86_narrow(t, x86_tmp_get(t, 0), bytes);
    a = x86_get_reg(t, R_RAX, bytes);
    q = ir_bin(t->ir, IR_DIVS, a, d);
    x86_put_reg(t, R_RDX, bytes, ir_bin(t->ir, IR_SUB, a, ir_bin(t->ir, IR_MUL, q, d)));
    x86_put_reg(t, R_RAX, bytes, q);
    ir_br(t->ir, done);
    x86_bind(t, slow);
    div_by_helper(t, bytes, true, x86_tmp_get(t, 0));
    x86_bind(t, done);
}

EMIT(div)
{
    bool sign = (i->modrm >> 3 & 7) == 7;
    unsigned bytes = i->op[0].size;

    if (bytes < 4)
        div_by_helper(t, bytes, sign, x86_read(t, 0));
    else if (sign)
        div_signed(t, bytes);
    else
        div_unsigned(t, bytes);
}

static void bcd(struct x86_t *t, const struct x86_insn *i)
{
    x86_call(t, HELP_bcd, ir_const(t->ir, T_I32, i->opcode), ir_const(t->ir, T_I32, (uint32_t)i->imm), 0, 0);
    t->cc_op = -1;
    t->cc_a = t->cc_b = 0;
}

EMIT(daa) { bcd(t, i); }
EMIT(das) { bcd(t, i); }
EMIT(aaa) { bcd(t, i); }
EMIT(aas) { bcd(t, i); }
EMIT(aam) { bcd(t, i); }
EMIT(aad) { bcd(t, i); }

EMIT(salc)
{
    x86_put_reg(t, R_RAX, 1, ir_un(t->ir, IR_NEG, x86_condition(t, 2)));
}

/* ---- movement */

EMIT(mov) { x86_write(t, 0, x86_read(t, 1)); }
EMIT(movzx) { x86_write(t, 0, x86_read(t, 1)); }

EMIT(movsx)
{
    const struct x86_operand *src = &i->op[1];
    ir_val v = x86_sext(t, x86_read(t, 1), src->size);

    if (i->op[0].size == 8 && ir_type_of(t->ir, v) == T_I32)
        v = ir_un(t->ir, IR_SEXT32, v);
    x86_write(t, 0, v);
}

EMIT(lea)
{
    x86_put_reg(t, i->op[0].reg, i->op[0].size, x86_ea(t, i));
}

/* With memory it is atomic even without LOCK. */
EMIT(xchg)
{
    ir_val a, b;

    if (i->op[0].kind == XO_MEM) {
        b = x86_read(t, 1);
        x86_write(t, 1, atomic(t, IR_ATOMIC_XCHG, &i->op[0], b));
        return;
    }
    if (i->opcode == 0x90 && i->op[0].reg == R_RAX)
        return;         /* NOP: the upper half of RAX stays */
    a = x86_read(t, 0);
    b = x86_read(t, 1);
    x86_write(t, 0, b);
    x86_write(t, 1, a);
}

EMIT(bswap)
{
    ir_val v = x86_read(t, 0);

    if (i->op[0].size == 2)     /* undefined; processors clear it */
        x86_write(t, 0, ir_const(t->ir, T_I32, 0));
    else
        x86_write(t, 0, ir_un(t->ir, IR_BSWAP, v));
}

EMIT(movbe)
{
    ir_val v = x86_read(t, 1);

    x86_write(t, 0, ir_un(t->ir, i->op[0].size == 2 ? IR_BSWAP16 : IR_BSWAP, v));
}

EMIT(xadd)
{
    unsigned bytes = i->op[0].size;
    ir_val a, b, r;

    if (locked_memory(i)) {
        b = x86_read(t, 1);
        a = atomic(t, IR_ATOMIC_ADD, &i->op[0], b);
        r = ir_bin(t->ir, IR_ADD, a, b);
        x86_write(t, 1, a);
    } else {
        a = x86_read_rw(t, 0);
        b = x86_read(t, 1);
        r = ir_bin(t->ir, IR_ADD, a, b);
        if (i->op[0].kind == XO_MEM) {
            x86_write(t, 0, r);
            x86_write(t, 1, a);
        } else {
            x86_write(t, 1, a);
            x86_write(t, 0, r);
        }
    }
    alu_flags(t, A_ADD, bytes, a, b, 0, r);
}

/* The accumulator takes what was found; then, if that was the same, the destination takes the source. In memory the
 * destination is always written (with itself when unequal), so that a read-only page faults; registers, and their upper
 * halves, are left alone then. */
EMIT(cmpxchg)
{
    unsigned bytes = i->op[0].size;
    ir_val acc = x86_get_reg(t, R_RAX, bytes), src = x86_read(t, 1), old, rax, dst;

    if (i->op[0].kind == XO_MEM) {
        if (!t->linear)
            t->linear = x86_linear(t, i, bytes, true);
        old = x86_narrow(t, ir_cas(t->ir, x86_memop(t, bytes), t->linear, acc, src), bytes);
    } else {
        old = x86_read(t, 0);
    }
    if (bytes == 4) {
        rax = ir_get(t->ir, SLOT_REG + R_RAX);
        ir_put(t->ir, SLOT_REG + R_RAX, ir_select(t->ir, C_EQ, acc, old, rax, x86_widen(t, old)));
    } else {
        x86_put_reg(t, R_RAX, bytes, old);
    }
    if (i->op[0].kind != XO_MEM && bytes == 4) {
        dst = ir_get(t->ir, SLOT_REG + i->op[0].reg);
        ir_put(t->ir, SLOT_REG + i->op[0].reg, ir_select(t->ir, C_EQ, acc, old, x86_widen(t, src), dst));
    } else if (i->op[0].kind != XO_MEM) {
        x86_write(t, 0, ir_select(t->ir, C_EQ, acc, old, src, old));
    }
    alu_flags(t, A_CMP, bytes, acc, old, 0, ir_bin(t->ir, IR_SUB, acc, old));
}

static void cmpxchg_wide(struct x86_t *t, const struct x86_insn *i, unsigned h, unsigned bytes)
{
    ir_val f = ir_bin_imm(t->ir, IR_AND, x86_flags(t), ~(uint32_t)EF_ZF);

    x86_call(t, h, x86_linear(t, i, bytes, true), ir_const(t->ir, T_I32, t->mmu), 0, 0);
    x86_set_flags(t, ir_bin(t->ir, IR_OR, f, x86_narrow(t, x86_tmp_get(t, 1), 4)));
}

EMIT(cmpxchg8b) { cmpxchg_wide(t, i, HELP_cmpxchg8b, 8); }
EMIT(cmpxchg16b) { cmpxchg_wide(t, i, HELP_cmpxchg16b, 16); }

/* CBW, CWDE, CDQE */
EMIT(cbw)
{
    ir_val a = x86_get_reg(t, R_RAX, i->opsize / 2);

    x86_put_reg(t, R_RAX, i->opsize, i->opsize == 8 ? ir_un(t->ir, IR_SEXT32, a) : x86_sext(t, a, i->opsize / 2));
}

/* CWD, CDQ, CQO */
EMIT(cwd)
{
    ir_val a = x86_sext(t, x86_get_reg(t, R_RAX, i->opsize), i->opsize);

    x86_put_reg(t, R_RDX, i->opsize, ir_bin_imm(t->ir, IR_SAR, a, i->opsize == 8 ? 63 : 31));
}

EMIT(xlat)
{
    unsigned seg = i->seg >= 0 ? (unsigned)i->seg : S_DS;
    ir_val al = x86_widen(t, x86_get_reg(t, R_RAX, 1)), ea = ir_bin(t->ir, IR_ADD, ir_get(t->ir, SLOT_REG + R_RBX), al);

    if (i->adsize < 8)
        ea = x86_widen(t, x86_narrow(t, ea, i->adsize));
    x86_put_reg(t, R_RAX, 1, ir_load(t->ir, T_I32, x86_memop(t, 1), x86_segment_linear(t, seg, ea, 1, false), 0));
}

EMIT(cmov)
{
    unsigned bytes = i->op[0].size;
    ir_val src = x86_read(t, 1), dst = x86_read(t, 0);      /* the source is read in any case */
    struct x86_test test = x86_condition_test(t, (unsigned)x86_arg(i));

    x86_put_reg(t, i->op[0].reg, bytes, ir_select(t->ir, test.cond, test.a, test.b, src, dst));
}

EMIT(setcc) { x86_write(t, 0, x86_condition(t, (unsigned)x86_arg(i))); }

/* ---- flags as data */

EMIT(lahf)
{
    ir_val f = ir_bin_imm(t->ir, IR_OR, ir_bin_imm(t->ir, IR_AND, x86_flags(t), 0xd5), 2);

    if (t->code64 && !x86_t_has(t, XF_LAHF_LM)) {
        x86_exception(t, X_UD);
        return;
    }
    ir_put(t->ir, SLOT_REG + R_RAX, ir_deposit(t->ir, ir_get(t->ir, SLOT_REG + R_RAX), x86_widen(t, f), 8, 8));
}

EMIT(sahf)
{
    ir_val f, of;

    if (t->code64 && !x86_t_has(t, XF_LAHF_LM)) {
        x86_exception(t, X_UD);
        return;
    }
    of = ir_bin_imm(t->ir, IR_SHL, x86_condition(t, 0), 11);
    f = ir_extract(t->ir, ir_get(t->ir, SLOT_REG + R_RAX), 8, 8);
    f = ir_bin_imm(t->ir, IR_AND, x86_narrow(t, f, 4), 0xd5);
    x86_set_flags(t, ir_bin(t->ir, IR_OR, f, of));
}

EMIT(clc) { x86_set_carry(t, ir_const(t->ir, T_I32, 0), 0); }
EMIT(stc) { x86_set_carry(t, ir_const(t->ir, T_I32, 1), 0); }
EMIT(cmc) { x86_set_carry(t, x86_condition(t, 3), 0); }
EMIT(cld) { ir_put(t->ir, SLOT_DF, ir_const(t->ir, T_I32, 1)); }
EMIT(std) { ir_put(t->ir, SLOT_DF, ir_const(t->ir, T_I32, UINT32_MAX)); }

EMIT(rdpid)
{
    x86_put_reg(t, i->op[0].reg, i->op[0].size, ir_state_load(t->ir, T_I64, offsetof(struct x86_cpu, tsc_aux), 3));
}
