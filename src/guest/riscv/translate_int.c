/* Integers: volume I, chapters 2 to 5 (RV32I, RV64I), 12 (Zicond), 13 (M), 28 (B). */
#include "riscv.h"

#define IR t->ir
#define X1 x_get(t, i->rs1)
#define X2 x_get(t, i->rs2)
#define W1 x_get32(t, i->rs1)
#define W2 x_get32(t, i->rs2)
#define IMM ((uint64_t)(int64_t)i->imm)

static ir_val c64(struct riscv_t *t, uint64_t v) { return ir_const(t->ir, T_I64, v); }
static ir_val c32(struct riscv_t *t, uint32_t v) { return ir_const(t->ir, T_I32, v); }

/* ---- constants, arithmetic, logic */

EMIT(lui) { x_put(t, i->rd, c64(t, IMM)); }

EMIT(auipc)
{
    uint64_t v = riscv_pc_wrap(t, i->pc + IMM);

    x_put(t, i->rd, ir_pc(IR, v));
    t->auipc_reg = i->rd;
    t->auipc_value = v;
}

#define BINARY(name, op) EMIT(name) { x_put(t, i->rd, ir_bin(IR, op, X1, X2)); }
#define BINARY_IMM(name, op) EMIT(name) { x_put(t, i->rd, ir_bin_imm(IR, op, X1, IMM)); }
/* The result of sign-extended operands is sign-extended. */
#define LOGIC(name, op) EMIT(name) { x_put_whole(t, i->rd, ir_bin(IR, op, X1, X2)); }
#define LOGIC_IMM(name, op) EMIT(name) { x_put_whole(t, i->rd, ir_bin_imm(IR, op, X1, IMM)); }
#define WORD(name, op) EMIT(name) { x_put32(t, i->rd, ir_bin(IR, op, W1, W2)); }
BINARY(add, IR_ADD) BINARY(sub, IR_SUB) BINARY(mul, IR_MUL)
LOGIC(xor, IR_XOR) LOGIC(or, IR_OR) LOGIC(and, IR_AND) LOGIC(andn, IR_ANDC)
LOGIC_IMM(xori, IR_XOR) LOGIC_IMM(ori, IR_OR) LOGIC_IMM(andi, IR_AND)
WORD(addw, IR_ADD) WORD(subw, IR_SUB) WORD(sllw, IR_SHL) WORD(srlw, IR_SHR) WORD(sraw, IR_SAR) WORD(mulw, IR_MUL)
WORD(rolw, IR_ROTL) WORD(rorw, IR_ROTR)
EMIT(addi) { i->rs1 ? x_put(t, i->rd, ir_bin_imm(IR, IR_ADD, X1, IMM)) : x_put_whole(t, i->rd, c64(t, IMM)); }
EMIT(addiw) { x_put32(t, i->rd, ir_bin_imm(IR, IR_ADD, W1, (uint32_t)i->imm)); }
EMIT(not) { x_put_whole(t, i->rd, ir_un(IR, IR_NOT, X1)); }
EMIT(orn) { x_put_whole(t, i->rd, ir_bin(IR, IR_OR, X1, ir_un(IR, IR_NOT, X2))); }
EMIT(xnor) { x_put_whole(t, i->rd, ir_un(IR, IR_NOT, ir_bin(IR, IR_XOR, X1, X2))); }

/* Shifts and rotates take the count modulo XLEN; those of RV32 are those of words. */
#define SHIFT(name, op)                                                                             \
    EMIT(name)                                                                                      \
    {                                                                                               \
        if (t->xlen == 32)                                                                          \
            x_put32(t, i->rd, ir_bin(IR, op, W1, W2));                                              \
        else                                                                                        \
            x_put(t, i->rd, ir_bin(IR, op, X1, X2));                                                \
    }
#define SHIFT_IMM(name, op)                                                                         \
    EMIT(name)                                                                                      \
    {                                                                                               \
        if (t->xlen == 32)                                                                          \
            x_put32(t, i->rd, ir_bin_imm(IR, op, W1, i->shamt & 31));                               \
        else                                                                                        \
            x_put(t, i->rd, ir_bin_imm(IR, op, X1, i->shamt));                                      \
    }
#define SHIFT_IMM_WORD(name, op) EMIT(name) { x_put32(t, i->rd, ir_bin_imm(IR, op, W1, i->shamt)); }
SHIFT(sll, IR_SHL) SHIFT(srl, IR_SHR) SHIFT(sra, IR_SAR) SHIFT(rol, IR_ROTL) SHIFT(ror, IR_ROTR)
SHIFT_IMM(slli, IR_SHL) SHIFT_IMM(srli, IR_SHR) SHIFT_IMM(srai, IR_SAR) SHIFT_IMM(rori, IR_ROTR)
SHIFT_IMM_WORD(slliw, IR_SHL) SHIFT_IMM_WORD(srliw, IR_SHR) SHIFT_IMM_WORD(sraiw, IR_SAR) SHIFT_IMM_WORD(roriw, IR_ROTR)

#define COMPARE(name, cond, b) EMIT(name) { x_put_whole(t, i->rd, ir_setcc(IR, T_I64, cond, X1, b)); }
COMPARE(slt, C_LT, X2) COMPARE(sltu, C_LTU, X2) COMPARE(slti, C_LT, c64(t, IMM)) COMPARE(sltiu, C_LTU, c64(t, IMM))

static void minmax(struct riscv_t *t, const struct riscv_insn *i, enum ir_cond cond)
{
    ir_val a = X1, b = X2;

    x_put_whole(t, i->rd, ir_select(IR, cond, a, b, a, b));
}
EMIT(min) { minmax(t, i, C_LT); }
EMIT(minu) { minmax(t, i, C_LTU); }
EMIT(max) { minmax(t, i, C_GT); }
EMIT(maxu) { minmax(t, i, C_GTU); }
EMIT(czero_eqz) { x_put_whole(t, i->rd, ir_select(IR, C_EQ, X2, c64(t, 0), c64(t, 0), X1)); }
EMIT(czero_nez) { x_put_whole(t, i->rd, ir_select(IR, C_NE, X2, c64(t, 0), c64(t, 0), X1)); }

/* ---- multiplication and division */

static ir_val zext_low(struct riscv_t *t, unsigned r)
{
    return t->xlen == 32 ? ir_un(t->ir, IR_ZEXT32, x_get32(t, r)) : x_get(t, r);
}

/* High half of the product of RV32's words, from a 64-bit one. */
static void put_high32(struct riscv_t *t, unsigned rd, ir_val product)
{
    x_put_whole(t, rd, ir_bin_imm(t->ir, IR_SAR, product, 32));
}

EMIT(mulh)
{
    if (t->xlen == 32)
        put_high32(t, i->rd, ir_bin(IR, IR_MUL, X1, X2));
    else
        x_put(t, i->rd, ir_bin(IR, IR_MULHS, X1, X2));
}

EMIT(mulhu)
{
    if (t->xlen == 32)
        put_high32(t, i->rd, ir_bin(IR, IR_MUL, zext_low(t, i->rs1), zext_low(t, i->rs2)));
    else
        x_put(t, i->rd, ir_bin(IR, IR_MULHU, X1, X2));
}

/* Signed by unsigned: the unsigned product, less b << 64 where a is negative. */
EMIT(mulhsu)
{
    ir_val a = X1, b = X2;

    if (t->xlen == 32) {
        put_high32(t, i->rd, ir_bin(IR, IR_MUL, a, zext_low(t, i->rs2)));
        return;
    }
    x_put(t, i->rd, ir_bin(IR, IR_SUB, ir_bin(IR, IR_MULHU, a, b),
                           ir_bin(IR, IR_AND, ir_bin_imm(IR, IR_SAR, a, 63), b)));
}

/* The quotient by zero is all ones, the remainder the dividend; the overflowing quotient is the dividend (volume I,
 * 13.2). The host's division never sees 0 or -1: those are divided by 1. */
static ir_val divide(struct riscv_t *t, bool is_signed, bool rem, ir_val a, ir_val b)
{
    enum ir_type type = ir_type_of(t->ir, a);
    uint64_t ones = type == T_I32 ? UINT32_MAX : UINT64_MAX;
    ir_val zero = ir_const(t->ir, type, 0), one = ir_const(t->ir, type, 1), minus = ir_const(t->ir, type, ones), q;
    ir_val safe = ir_select(t->ir, C_EQ, b, zero, one, b);

    if (!is_signed) {
        q = ir_bin(t->ir, rem ? IR_REMU : IR_DIVU, a, safe);
        return ir_select(t->ir, C_EQ, b, zero, rem ? a : minus, q);
    }
    safe = ir_select(t->ir, C_EQ, b, minus, one, safe);
    q = ir_bin(t->ir, rem ? IR_REMS : IR_DIVS, a, safe);
    if (!rem)
        q = ir_select(t->ir, C_EQ, b, minus, ir_un(t->ir, IR_NEG, a), q);
    return ir_select(t->ir, C_EQ, b, zero, rem ? a : minus, q);
}

static void divide_words(struct riscv_t *t, const struct riscv_insn *i, bool is_signed, bool rem)
{
    x_put32(t, i->rd, divide(t, is_signed, rem, W1, W2));
}

static void divide_x(struct riscv_t *t, const struct riscv_insn *i, bool is_signed, bool rem)
{
    if (t->xlen == 32)
        divide_words(t, i, is_signed, rem);
    else
        x_put(t, i->rd, divide(t, is_signed, rem, X1, X2));
}
EMIT(div) { divide_x(t, i, true, false); }
EMIT(divu) { divide_x(t, i, false, false); }
EMIT(rem) { divide_x(t, i, true, true); }
EMIT(remu) { divide_x(t, i, false, true); }
EMIT(divw) { divide_words(t, i, true, false); }
EMIT(divuw) { divide_words(t, i, false, false); }
EMIT(remw) { divide_words(t, i, true, true); }
EMIT(remuw) { divide_words(t, i, false, true); }

/* ---- memory */

static void load(struct riscv_t *t, const struct riscv_insn *i, memop m)
{
    ir_val a = t->xlen == 32 ? riscv_address(t, i->rs1, i->imm) : X1, v;

    v = ir_load(IR, T_I64, riscv_memop(t, m & MEM_SIZE) | (m & MEM_SIGNED), a, t->xlen == 32 ? 0 : i->imm);
    x_put_whole(t, i->rd, v);
}
EMIT(lb) { load(t, i, MEM_8 | MEM_SIGNED); }
EMIT(lh) { load(t, i, MEM_16 | MEM_SIGNED); }
EMIT(lw) { load(t, i, MEM_32 | MEM_SIGNED); }
EMIT(ld) { load(t, i, MEM_64); }
EMIT(lbu) { load(t, i, MEM_8); }
EMIT(lhu) { load(t, i, MEM_16); }
EMIT(lwu) { load(t, i, MEM_32); }

static void store(struct riscv_t *t, const struct riscv_insn *i, unsigned log2_size)
{
    ir_val a = t->xlen == 32 ? riscv_address(t, i->rs1, i->imm) : X1;

    ir_store(IR, riscv_memop(t, log2_size), a, t->xlen == 32 ? 0 : i->imm, log2_size < 3 ? W2 : X2);
}
EMIT(sb) { store(t, i, 0); }
EMIT(sh) { store(t, i, 1); }
EMIT(sw) { store(t, i, 2); }
EMIT(sd) { store(t, i, 3); }

/* ---- control */

/* A target that is not aligned to IALIGN, where that is 32, faults on the jump (volume I, 2.5). */
static bool needs_aligned(const struct riscv_t *t)
{
    return !riscv_has(t->i->features, RVF_C) && !riscv_has(t->i->features, RVF_Zca);
}

static void jump(struct riscv_t *t, uint64_t pc)
{
    if ((pc & 2) && needs_aligned(t))
        riscv_exception(t, CAUSE_FETCH_MISALIGNED, c64(t, pc));
    else
        riscv_goto(t, pc);
}

EMIT(jal)
{
    uint64_t target = riscv_pc_wrap(t, i->pc + IMM), next = riscv_pc_wrap(t, riscv_next(i));

    if ((target & 2) && needs_aligned(t)) {
        jump(t, target);
        return;
    }
    if (i->rd)
        x_put(t, i->rd, ir_pc(IR, next));
    if ((i->rd == 1 || i->rd == 5) && !riscv_one_insn(t))
        ir_call_to(IR, target, next);
    else
        riscv_goto(t, target);
}

static void check_target(struct riscv_t *t, ir_val target)
{
    ir_label ok;

    if (!needs_aligned(t))
        return;
    ok = ir_label_new(IR);
    ir_state_store(IR, offsetof(struct riscv_cpu, tmp), 3, target);
    ir_brcond(IR, C_TSTEQ, target, c64(t, 2), ok);
    riscv_exception(t, CAUSE_FETCH_MISALIGNED, ir_state_load(IR, T_I64, offsetof(struct riscv_cpu, tmp), 3));
    ir_label_bind(IR, ok);
}

/* AUIPC right before: the target is known. */
static bool jump_pair(struct riscv_t *t, const struct riscv_insn *i)
{
    uint64_t target = riscv_pc_wrap(t, (t->auipc_value + IMM) & ~UINT64_C(1)), next = riscv_pc_wrap(t, riscv_next(i));

    if (!t->auipc_reg || t->auipc_reg != i->rs1 || needs_aligned(t) || riscv_one_insn(t))
        return false;
    if (i->rd)
        x_put(t, i->rd, ir_pc(IR, next));
    if (i->rd == 1 || i->rd == 5)
        ir_call_to(IR, target, next);
    else
        riscv_goto(t, target);
    return true;
}

EMIT(jalr)
{
    bool link = i->rd == 1 || i->rd == 5, from_link = i->rs1 == 1 || i->rs1 == 5;
    ir_val target;

    if (jump_pair(t, i))
        return;
    target = ir_bin_imm(IR, IR_AND, riscv_address(t, i->rs1, i->imm), ~UINT64_C(1));
    if (needs_aligned(t)) {
        check_target(t, target);
        target = ir_state_load(IR, T_I64, offsetof(struct riscv_cpu, tmp), 3);
    }
    if (i->rd)
        x_put(t, i->rd, ir_pc(IR, riscv_pc_wrap(t, riscv_next(i))));
    if (riscv_one_insn(t))
        ir_exit_loop_at(IR, target);
    else
        ir_goto_indirect(IR, target, link ? EXIT_CALL : from_link ? EXIT_RETURN : EXIT_INDIRECT_JUMP);
}

/* A leader of the region that lies ahead: a branch may name its label without a poll. */
static bool forward_leader(struct riscv_t *t, uint64_t pc, ir_label *label)
{
    if (pc <= t->i->pc || riscv_one_insn(t))
        return false;
    for (unsigned n = 0; n < t->ir->nleaders; n++)
        if (t->ir->leaders[n].pc == pc && !t->ir->leaders[n].bound) {
            *label = t->ir->leaders[n].label;
            return true;
        }
    return false;
}

static void branch(struct riscv_t *t, const struct riscv_insn *i, enum ir_cond cond)
{
    uint64_t target = riscv_pc_wrap(t, i->pc + IMM);
    ir_label l;

    if (!((target & 2) && needs_aligned(t)) && forward_leader(t, target, &l)) {
        ir_brcond(IR, cond, X1, X2, l);
        return;
    }
    l = ir_label_new(IR);
    ir_brcond(IR, ir_cond_invert(cond), X1, X2, l);
    jump(t, target);
    ir_label_bind(IR, l);
}
EMIT(beq) { branch(t, i, C_EQ); }
EMIT(bne) { branch(t, i, C_NE); }
EMIT(blt) { branch(t, i, C_LT); }
EMIT(bge) { branch(t, i, C_GE); }
EMIT(bltu) { branch(t, i, C_LTU); }
EMIT(bgeu) { branch(t, i, C_GEU); }

/* ---- Zba */

static ir_val zext_word(struct riscv_t *t, unsigned r) { return ir_un(t->ir, IR_ZEXT32, x_get32(t, r)); }

static void shift_add(struct riscv_t *t, const struct riscv_insn *i, unsigned shift, bool word)
{
    x_put(t, i->rd, ir_lea(IR, X2, word ? zext_word(t, i->rs1) : X1, shift, 0));
}
EMIT(sh1add) { shift_add(t, i, 1, false); }
EMIT(sh2add) { shift_add(t, i, 2, false); }
EMIT(sh3add) { shift_add(t, i, 3, false); }
EMIT(add_uw) { shift_add(t, i, 0, true); }
EMIT(sh1add_uw) { shift_add(t, i, 1, true); }
EMIT(sh2add_uw) { shift_add(t, i, 2, true); }
EMIT(sh3add_uw) { shift_add(t, i, 3, true); }
EMIT(slli_uw) { x_put(t, i->rd, ir_bin_imm(IR, IR_SHL, zext_word(t, i->rs1), i->shamt)); }

/* ---- Zbb */

#define UNARY(name, op)                                                                             \
    EMIT(name)                                                                                      \
    {                                                                                               \
        if (t->xlen == 32)                                                                          \
            x_put32(t, i->rd, ir_un(IR, op, W1));                                                   \
        else                                                                                        \
            x_put(t, i->rd, ir_un(IR, op, X1));                                                     \
    }
#define UNARY_WORD(name, op) EMIT(name) { x_put32(t, i->rd, ir_un(IR, op, W1)); }
UNARY(clz, IR_CLZ) UNARY(ctz, IR_CTZ) UNARY(cpop, IR_POPCNT) UNARY(rev8, IR_BSWAP)
UNARY_WORD(clzw, IR_CLZ) UNARY_WORD(ctzw, IR_CTZ) UNARY_WORD(cpopw, IR_POPCNT)
EMIT(sext_b) { x_put_whole(t, i->rd, ir_un(IR, IR_SEXT8, X1)); }
EMIT(sext_h) { x_put_whole(t, i->rd, ir_un(IR, IR_SEXT16, X1)); }
EMIT(zext_b) { x_put_whole(t, i->rd, ir_un(IR, IR_ZEXT8, X1)); }
EMIT(zext_h) { x_put_whole(t, i->rd, ir_un(IR, IR_ZEXT16, X1)); }
EMIT(zext_w) { x_put_whole(t, i->rd, zext_word(t, i->rs1)); }

#define BYTES(b) (UINT64_C(0x0101010101010101) * (b))

/* Each byte's bit 7 says whether the byte is not zero; times 255 spreads it. */
EMIT(orc_b)
{
    ir_val x = X1, y;

    y = ir_bin_imm(IR, IR_ADD, ir_bin_imm(IR, IR_AND, x, BYTES(0x7f)), BYTES(0x7f));
    y = ir_bin_imm(IR, IR_AND, ir_bin(IR, IR_OR, y, x), BYTES(0x80));
    y = ir_bin_imm(IR, IR_SHR, y, 7);
    x_put(t, i->rd, ir_bin(IR, IR_SUB, ir_bin_imm(IR, IR_SHL, y, 8), y));
}

/* ---- Zbs */

static ir_val one_bit(struct riscv_t *t, const struct riscv_insn *i, bool imm)
{
    if (imm)
        return c64(t, UINT64_C(1) << i->shamt);
    if (t->xlen == 32)
        return ir_un(IR, IR_SEXT32, ir_bin(IR, IR_SHL, c32(t, 1), W2));
    return ir_bin(IR, IR_SHL, c64(t, 1), X2);
}
EMIT(bclr) { x_put(t, i->rd, ir_bin(IR, IR_ANDC, X1, one_bit(t, i, false))); }
EMIT(bclri) { x_put(t, i->rd, ir_bin_imm(IR, IR_AND, X1, ~(UINT64_C(1) << i->shamt))); }
EMIT(binv) { x_put(t, i->rd, ir_bin(IR, IR_XOR, X1, one_bit(t, i, false))); }
EMIT(binvi) { x_put(t, i->rd, ir_bin(IR, IR_XOR, X1, one_bit(t, i, true))); }
EMIT(bset) { x_put(t, i->rd, ir_bin(IR, IR_OR, X1, one_bit(t, i, false))); }
EMIT(bseti) { x_put(t, i->rd, ir_bin(IR, IR_OR, X1, one_bit(t, i, true))); }
EMIT(bexti) { x_put_whole(t, i->rd, ir_extract(IR, X1, i->shamt, 1)); }

EMIT(bext)
{
    ir_val n = t->xlen == 32 ? ir_bin_imm(IR, IR_AND, X2, 31) : X2;

    x_put_whole(t, i->rd, ir_bin_imm(IR, IR_AND, ir_bin(IR, IR_SHR, X1, n), 1));
}

/* ---- Zbkb */

EMIT(pack)
{
    if (t->xlen == 32)
        x_put(t, i->rd, ir_deposit(IR, ir_un(IR, IR_ZEXT16, X1), X2, 16, 16));
    else
        x_put(t, i->rd, ir_deposit(IR, X1, X2, 32, 32));
}
EMIT(packh) { x_put_whole(t, i->rd, ir_deposit(IR, ir_un(IR, IR_ZEXT8, X1), ir_un(IR, IR_ZEXT8, X2), 8, 8)); }
EMIT(packw) { x_put32(t, i->rd, ir_deposit(IR, ir_un(IR, IR_ZEXT16, W1), W2, 16, 16)); }

/* Bits n apart change places. */
static ir_val swap_bits(struct riscv_t *t, ir_val v, unsigned n, uint64_t mask)
{
    return ir_bin(t->ir, IR_OR, ir_bin_imm(t->ir, IR_AND, ir_bin_imm(t->ir, IR_SHR, v, n), mask),
                  ir_bin_imm(t->ir, IR_SHL, ir_bin_imm(t->ir, IR_AND, v, mask), n));
}

EMIT(brev8)
{
    ir_val v = swap_bits(t, X1, 1, BYTES(0x55));

    x_put(t, i->rd, swap_bits(t, swap_bits(t, v, 2, BYTES(0x33)), 4, BYTES(0x0f)));
}
EMIT(zip) { x_put32(t, i->rd, riscv_call(t, RISCV_HELP_zip, W1, 0, 0, 0)); }
EMIT(unzip) { x_put32(t, i->rd, riscv_call(t, RISCV_HELP_unzip, W1, 0, 0, 0)); }

/* ---- may-be-operations: zero until something else is said (volume I, chapter 11) */

EMIT(mop) { x_put_whole(t, i->rd, c64(t, 0)); }
