/* Shifts, rotates, bit tests and scans, BMI, ADX. SDM vol. 2. */
#include "x86.h"

static enum x86_cc cc_sized(enum x86_cc base8, unsigned bytes) { return base8 + (unsigned)__builtin_ctz(bytes); }
static ir_val imm32(struct x86_t *t, uint32_t v) { return ir_const(t->ir, T_I32, v); }
static ir_val constant_like(struct x86_t *t, ir_val v, uint64_t imm) { return ir_const(t->ir, ir_type_of(t->ir, v), imm); }

/* v in the type of `like`. */
static ir_val typed_like(struct x86_t *t, ir_val like, ir_val v)
{
    return x86_narrow(t, v, ir_type_of(t->ir, like) == T_I64 ? 8 : 4);
}

static ir_val sign_bit(struct x86_t *t, ir_val v, unsigned bytes)
{
    return x86_narrow(t, ir_extract(t->ir, v, 8 * bytes - 1, 1), 4);
}

static ir_val low_bit(struct x86_t *t, ir_val v)
{
    return x86_narrow(t, ir_bin_imm(t->ir, IR_AND, v, 1), 4);
}

/* The masked count in the type of the operand; constant counts are returned in *fixed (else -1). */
static ir_val shift_count(struct x86_t *t, const struct x86_insn *i, unsigned n, ir_val like, int *fixed)
{
    unsigned mask = i->op[0].size == 8 ? 63 : 31;

    *fixed = -1;
    if (i->op[n].kind == XO_IMM) {
        *fixed = (int)((unsigned)i->imm & mask);
        return constant_like(t, like, (unsigned)*fixed);
    }
    return typed_like(t, like, ir_bin_imm(t->ir, IR_AND, x86_get_reg(t, R_RCX, 1), mask));
}

/* cc of a shift by a count known only at run time: unchanged when it is 0. */
static void shift_flags_variable(struct x86_t *t, enum x86_cc cc, ir_val count, ir_val r, ir_val last)
{
    ir_val zero = constant_like(t, count, 0), op;

    op = t->cc_op < 0 ? ir_get(t->ir, SLOT_CC_OP) : imm32(t, (uint32_t)t->cc_op);
    ir_put(t->ir, SLOT_CC_DST, ir_select(t->ir, C_EQ, count, zero, ir_get(t->ir, SLOT_CC_DST), x86_widen(t, r)));
    ir_put(t->ir, SLOT_CC_SRC, ir_select(t->ir, C_EQ, count, zero, ir_get(t->ir, SLOT_CC_SRC), x86_widen(t, last)));
    ir_put(t->ir, SLOT_CC_OP, ir_select(t->ir, C_EQ, count, zero, op, imm32(t, cc)));
    t->cc_op = -1;
    t->cc_a = t->cc_b = 0;
}

static void shift_flags(struct x86_t *t, enum x86_cc cc, int fixed, ir_val count, ir_val r, ir_val last)
{
    if (fixed > 0)
        x86_set_cc(t, cc, r, last, 0);
    else if (fixed < 0)
        shift_flags_variable(t, cc, count, r, last);
}

/* SHL (4, 6), SHR (5), SAR (7) */
EMIT(shift)
{
    unsigned kind = (unsigned)x86_arg(i), bytes = i->op[0].size;
    enum ir_opcode op = kind == 5 ? IR_SHR : kind == 7 ? IR_SAR : IR_SHL;
    ir_val a = x86_read_rw(t, 0), count, last;
    int fixed;

    count = shift_count(t, i, 1, a, &fixed);
    if (op == IR_SAR)
        a = x86_sext(t, a, bytes);
    last = ir_bin(t->ir, op, a, ir_bin_imm(t->ir, IR_SUB, count, 1));
    a = ir_bin(t->ir, op, a, count);
    x86_write(t, 0, a);
    shift_flags(t, cc_sized(op == IR_SHL ? CC_SHL8 : CC_SAR8, bytes), fixed, count, a, last);
}

/* SHLD, SHRD (arg 1) */
EMIT(double_shift)
{
    bool right = x86_arg(i);
    unsigned bytes = i->op[0].size, bits = 8 * bytes;
    ir_val a = x86_read_rw(t, 0), b = x86_read(t, 1), count, r, back, last;
    int fixed;

    count = shift_count(t, i, 2, a, &fixed);
    last = ir_bin(t->ir, right ? IR_SHR : IR_SHL, a, ir_bin_imm(t->ir, IR_SUB, count, 1));
    if (bytes == 2) {   /* counts over 16 are undefined: as a:b:a */
        ir_val wide = ir_deposit(t->ir, x86_widen(t, a), x86_widen(t, b), 16, 16);

        wide = ir_deposit(t->ir, wide, x86_widen(t, a), 32, 16);
        r = ir_bin(t->ir, right ? IR_SHR : IR_SHL, wide, x86_widen(t, count));
        r = x86_narrow(t, right ? r : ir_bin_imm(t->ir, IR_SHR, r, 32), 2);
    } else {
        back = ir_bin(t->ir, IR_SUB, constant_like(t, count, bits), count);
        r = ir_bin(t->ir, IR_OR, ir_bin(t->ir, right ? IR_SHR : IR_SHL, a, count),
                   ir_bin(t->ir, right ? IR_SHL : IR_SHR, b, back));
        if (fixed < 0)
            r = ir_select(t->ir, C_EQ, count, constant_like(t, count, 0), a, r);
        else if (!fixed)
            r = a;
    }
    x86_write(t, 0, r);
    shift_flags(t, cc_sized(right ? CC_SAR8 : CC_SHL8, bytes), fixed, count, r, last);
}

/* ---- rotates */

static void rotate_flags(struct x86_t *t, int fixed, ir_val count, ir_val cf, ir_val of)
{
    ir_val zero;

    if (!fixed)
        return;
    if (fixed < 0) {
        zero = constant_like(t, count, 0);
        cf = ir_select(t->ir, C_EQ, count, zero, x86_condition(t, 2), cf);
        of = ir_select(t->ir, C_EQ, count, zero, x86_condition(t, 0), of);
    }
    x86_set_carry(t, cf, of);
}

/* ROL (0), ROR (1). Bytes and words are repeated to fill 32 bits, which then rotate alike. */
EMIT(rotate)
{
    bool right = x86_arg(i);
    unsigned bytes = i->op[0].size;
    ir_val a = x86_read_rw(t, 0), count, r, cf, of;
    int fixed;

    count = shift_count(t, i, 1, a, &fixed);
    if (bytes == 1)
        a = ir_bin_imm(t->ir, IR_MUL, a, 0x01010101);
    else if (bytes == 2)
        a = ir_deposit(t->ir, a, a, 16, 16);
    r = x86_narrow(t, ir_bin(t->ir, right ? IR_ROTR : IR_ROTL, a, count), bytes);
    x86_write(t, 0, r);
    if (!fixed)
        return;
    cf = right ? sign_bit(t, r, bytes) : low_bit(t, r);
    of = right ? ir_bin(t->ir, IR_XOR, cf, x86_narrow(t, ir_extract(t->ir, r, 8 * bytes - 2, 1), 4))
               : ir_bin(t->ir, IR_XOR, cf, sign_bit(t, r, bytes));
    rotate_flags(t, fixed, count, cf, of);
}

static void rotate_carry_once(struct x86_t *t, bool right, unsigned bytes, ir_val a)
{
    unsigned bits = 8 * bytes;
    ir_val cin = typed_like(t, a, x86_condition(t, 2)), r, cf, of;

    if (right) {
        r = ir_bin(t->ir, IR_OR, ir_bin_imm(t->ir, IR_SHR, a, 1), ir_bin_imm(t->ir, IR_SHL, cin, bits - 1));
        cf = low_bit(t, a);
        of = ir_bin(t->ir, IR_XOR, sign_bit(t, r, bytes), sign_bit(t, a, bytes));
    } else {
        r = ir_bin(t->ir, IR_OR, ir_bin_imm(t->ir, IR_SHL, a, 1), cin);
        cf = sign_bit(t, a, bytes);
        of = ir_bin(t->ir, IR_XOR, sign_bit(t, r, bytes), cf);
    }
    x86_write(t, 0, r);
    x86_set_carry(t, cf, of);
}

/* RCL (2), RCR (3) */
EMIT(rotate_carry)
{
    bool right = x86_arg(i) & 1;
    unsigned bytes = i->op[0].size, info = (unsigned)__builtin_ctz(bytes) | (unsigned)right << 2;
    ir_val a = x86_read_rw(t, 0), count, cin, r, f, cf, of;
    int fixed;

    count = shift_count(t, i, 1, a, &fixed);
    if (fixed == 1) {
        rotate_carry_once(t, right, bytes, a);
        return;
    }
    count = x86_narrow(t, count, 4);
    cin = x86_condition(t, 2);
    r = x86_call(t, HELP_rotate_carry, imm32(t, info), x86_widen(t, a), count, cin);
    f = x86_narrow(t, x86_call(t, HELP_rotate_carry, imm32(t, info | 8), x86_widen(t, a), count, cin), 4);
    cf = ir_bin_imm(t->ir, IR_AND, f, 1);
    of = ir_extract(t->ir, f, 11, 1);
    x86_write(t, 0, x86_narrow(t, r, bytes));
    rotate_flags(t, fixed, count, cf, of);
}

/* ---- bit tests */

/* A bit offset in a register reaches beyond a memory operand: SDM vol. 2, BT. */
static void bit_string_address(struct x86_t *t, const struct x86_insn *i, ir_val off, bool write)
{
    unsigned bytes = i->op[0].size, log2 = (unsigned)__builtin_ctz(bytes);
    unsigned seg = i->seg >= 0 ? (unsigned)i->seg : i->base == R_RSP || i->base == R_RBP ? S_SS : S_DS;
    ir_val ea;

    off = x86_sext(t, off, bytes);
    if (bytes < 8)
        off = ir_un(t->ir, IR_SEXT32, off);
    off = ir_bin_imm(t->ir, IR_SAR, off, 3 + log2);
    ea = ir_lea(t->ir, x86_ea(t, i), off, log2, 0);
    if (i->adsize < 8)
        ea = x86_widen(t, x86_narrow(t, ea, i->adsize));
    t->linear = x86_segment_linear(t, seg, ea, bytes, write);
}

static ir_val bit_locked(struct x86_t *t, unsigned kind, unsigned bytes, ir_val mask)
{
    static const uint8_t op[] = { 0, IR_ATOMIC_OR, IR_ATOMIC_AND, IR_ATOMIC_XOR };

    if (!t->linear)
        t->linear = x86_linear(t, t->i, bytes, true);
    return ir_atomic(t->ir, op[kind], x86_memop(t, bytes), t->linear, kind == 2 ? ir_un(t->ir, IR_NOT, mask) : mask);
}

/* BT (0), BTS (1), BTR (2), BTC (3) of bit `off` of operand 0 */
static void bit_test(struct x86_t *t, const struct x86_insn *i, ir_val off)
{
    unsigned kind = (unsigned)x86_arg(i), bytes = i->op[0].size;
    ir_val one = ir_const(t->ir, x86_type(bytes), 1), mask, a, r;

    off = ir_bin_imm(t->ir, IR_AND, off, 8 * bytes - 1);
    mask = kind ? ir_bin(t->ir, IR_SHL, one, off) : 0;
    if (i->lock) {
        a = bit_locked(t, kind, bytes, mask);
    } else {
        a = kind ? x86_read_rw(t, 0) : x86_read(t, 0);
        if (kind) {
            r = ir_bin(t->ir, kind == 1 ? IR_OR : kind == 2 ? IR_ANDC : IR_XOR, a, mask);
            x86_write(t, 0, r);
        }
    }
    x86_set_carry(t, low_bit(t, ir_bin(t->ir, IR_SHR, a, off)), imm32(t, 0));
}

EMIT(bt_reg)
{
    ir_val off = x86_read(t, 1);

    if (i->op[0].kind == XO_MEM)
        bit_string_address(t, i, off, x86_arg(i) != 0);
    bit_test(t, i, off);
}

EMIT(bt_imm)
{
    bit_test(t, i, ir_const(t->ir, x86_type(i->op[0].size), (uint64_t)i->imm));
}

/* ---- scans and counts */

static ir_val highest_bit(struct x86_t *t, ir_val v)
{
    return ir_bin_imm(t->ir, IR_XOR, ir_un(t->ir, IR_CLZ, v), ir_type_of(t->ir, v) == T_I64 ? 63 : 31);
}

/* A source of 0 leaves the destination, all 64 bits of it, alone. */
static void bit_scan(struct x86_t *t, const struct x86_insn *i, bool reverse)
{
    unsigned bytes = i->op[0].size, slot = SLOT_REG + i->op[0].reg;
    ir_val src = x86_read(t, 1), zero = constant_like(t, src, 0), r, old = ir_get(t->ir, slot);

    r = x86_widen(t, reverse ? highest_bit(t, src) : ir_un(t->ir, IR_CTZ, src));
    if (bytes == 2)
        r = ir_deposit(t->ir, old, r, 0, 16);
    ir_put(t->ir, slot, ir_select(t->ir, C_EQ, src, zero, old, r));
    x86_set_cc(t, cc_sized(CC_LOGIC8, bytes), src, 0, 0);
}

EMIT(bsf) { bit_scan(t, i, false); }
EMIT(bsr) { bit_scan(t, i, true); }

static void count_flags(struct x86_t *t, unsigned bytes, ir_val src, ir_val r)
{
    ir_val cf = ir_setcc(t->ir, T_I32, C_EQ, src, constant_like(t, src, 0));

    x86_set_cc(t, cc_sized(CC_KEEP8, bytes), r, cf, 0);
}

/* Without BMI1 and ABM the F3 prefix means nothing. */
EMIT(tzcnt)
{
    unsigned bytes = i->op[0].size;
    ir_val src, r;

    if (!x86_t_has(t, XF_BMI1)) {
        bit_scan(t, i, false);
        return;
    }
    src = x86_read(t, 1);
    r = ir_un(t->ir, IR_CTZ, bytes == 2 ? ir_bin_imm(t->ir, IR_OR, src, 0x10000) : src);
    x86_write(t, 0, r);
    count_flags(t, bytes, src, r);
}

EMIT(lzcnt)
{
    unsigned bytes = i->op[0].size;
    ir_val src, r;

    if (!x86_t_has(t, XF_ABM)) {
        bit_scan(t, i, true);
        return;
    }
    src = x86_read(t, 1);
    r = ir_un(t->ir, IR_CLZ, src);
    if (bytes == 2)
        r = ir_bin_imm(t->ir, IR_SUB, r, 16);
    x86_write(t, 0, r);
    count_flags(t, bytes, src, r);
}

EMIT(popcnt)
{
    ir_val src = x86_read(t, 1), zf;

    x86_write(t, 0, ir_un(t->ir, IR_POPCNT, src));
    zf = ir_setcc(t->ir, T_I32, C_EQ, src, constant_like(t, src, 0));
    x86_set_flags(t, ir_bin_imm(t->ir, IR_SHL, zf, 6));
}

EMIT(crc32)
{
    unsigned bytes = i->op[1].size;
    ir_val crc = x86_get_reg(t, i->op[0].reg, 4), data = x86_widen(t, x86_read(t, 1));

    crc = x86_call(t, HELP_crc32c, crc, data, imm32(t, bytes), 0);
    x86_put_reg(t, i->op[0].reg, i->op[0].size, crc);
}

/* ---- BMI, ADX */

EMIT(andn)
{
    ir_val r = ir_bin(t->ir, IR_ANDC, x86_read(t, 2), x86_read(t, 1));

    x86_write(t, 0, r);
    x86_set_cc(t, cc_sized(CC_LOGIC8, i->op[0].size), r, 0, 0);
}

/* BLSR (/1), BLSMSK (/2), BLSI (/3) */
EMIT(bls)
{
    unsigned kind = i->modrm >> 3 & 7;
    ir_val a = x86_read(t, 1), r, cf;

    if (kind == 3)
        r = ir_bin(t->ir, IR_AND, a, ir_un(t->ir, IR_NEG, a));
    else
        r = ir_bin(t->ir, kind == 1 ? IR_AND : IR_XOR, a, ir_bin_imm(t->ir, IR_SUB, a, 1));
    cf = ir_setcc(t->ir, T_I32, kind == 3 ? C_NE : C_EQ, a, constant_like(t, a, 0));
    x86_write(t, 0, r);
    x86_set_cc(t, cc_sized(CC_KEEP8, i->op[0].size), r, cf, 0);
}

/* a with all bits from n on cleared; n of any size below 256 */
static ir_val low_bits(struct x86_t *t, ir_val a, ir_val n, unsigned bits)
{
    ir_val mask = ir_bin_imm(t->ir, IR_SUB, ir_bin(t->ir, IR_SHL, constant_like(t, a, 1), n), 1);

    return ir_select(t->ir, C_LTU, n, constant_like(t, n, bits), ir_bin(t->ir, IR_AND, a, mask), a);
}

EMIT(bextr)
{
    unsigned bytes = i->op[0].size, bits = 8 * bytes;
    ir_val src = x86_read(t, 1), ctl = x86_read(t, 2), start, len, r;

    start = ir_bin_imm(t->ir, IR_AND, ctl, 0xff);
    len = ir_extract(t->ir, ctl, 8, 8);
    r = ir_select(t->ir, C_LTU, start, constant_like(t, start, bits), ir_bin(t->ir, IR_SHR, src, start),
                  constant_like(t, src, 0));
    r = low_bits(t, r, len, bits);
    x86_write(t, 0, r);
    x86_set_cc(t, cc_sized(CC_LOGIC8, bytes), r, 0, 0);
}

EMIT(bzhi)
{
    unsigned bytes = i->op[0].size, bits = 8 * bytes;
    ir_val src = x86_read(t, 1), n = ir_bin_imm(t->ir, IR_AND, x86_read(t, 2), 0xff), r;

    r = low_bits(t, src, n, bits);
    x86_write(t, 0, r);
    x86_set_cc(t, cc_sized(CC_KEEP8, bytes), r, ir_setcc(t->ir, T_I32, C_GTU, n, constant_like(t, n, bits - 1)), 0);
}

EMIT(pdep)
{
    ir_val a = x86_widen(t, x86_read(t, 1)), mask = x86_widen(t, x86_read(t, 2));

    x86_write(t, 0, x86_narrow(t, x86_call(t, HELP_pdep, a, mask, 0, 0), i->op[0].size));
}

EMIT(pext)
{
    ir_val a = x86_widen(t, x86_read(t, 1)), mask = x86_widen(t, x86_read(t, 2));

    x86_write(t, 0, x86_narrow(t, x86_call(t, HELP_pext, a, mask, 0, 0), i->op[0].size));
}

EMIT(mulx)
{
    unsigned bytes = i->op[0].size;
    ir_val a = x86_get_reg(t, R_RDX, bytes), b = x86_read(t, 2), lo, hi;

    if (bytes == 8) {
        lo = ir_bin(t->ir, IR_MUL, a, b);
        hi = ir_bin(t->ir, IR_MULHU, a, b);
    } else {
        lo = ir_bin(t->ir, IR_MUL, x86_widen(t, a), x86_widen(t, b));
        hi = ir_bin_imm(t->ir, IR_SHR, lo, 32);
    }
    x86_write(t, 1, lo);
    x86_write(t, 0, hi);        /* wins when both name one register */
}

EMIT(rorx)
{
    ir_val a = x86_read(t, 1);

    x86_write(t, 0, ir_bin_imm(t->ir, IR_ROTR, a, (uint64_t)i->imm & (i->op[0].size == 8 ? 63 : 31)));
}

EMIT(shiftx)
{
    static const uint8_t op[] = { IR_SHL, IR_SHR, IR_SAR };
    ir_val a = x86_read(t, 1), n = ir_bin_imm(t->ir, IR_AND, x86_read(t, 2), i->op[0].size == 8 ? 63 : 31);

    x86_write(t, 0, ir_bin(t->ir, op[x86_arg(i)], a, n));
}

/* ADCX, ADOX (arg 1): a chain through CF or OF alone */
EMIT(adx)
{
    bool adox = x86_arg(i);
    ir_val a = x86_read(t, 0), b = x86_read(t, 1), cin = x86_condition(t, adox ? 0 : 2), r, carry;

    r = ir_bin(t->ir, IR_ADD, ir_bin(t->ir, IR_ADD, a, b), typed_like(t, a, cin));
    carry = ir_select(t->ir, C_NE, cin, imm32(t, 0), ir_setcc(t->ir, T_I32, C_LEU, r, b),
                      ir_setcc(t->ir, T_I32, C_LTU, r, b));
    x86_write(t, 0, r);
    if (adox)
        x86_set_carry(t, x86_condition(t, 2), carry);
    else
        x86_set_carry(t, carry, x86_condition(t, 0));
}

EMIT(rdrand)
{
    unsigned bytes = i->op[0].size;
    ir_val v = x86_call(t, HELP_random, imm32(t, bytes), imm32(t, (uint32_t)x86_arg(i)), 0, 0);

    x86_write(t, 0, x86_narrow(t, v, bytes));
    x86_set_flags(t, imm32(t, EF_CF));
}
