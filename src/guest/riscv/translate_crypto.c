/* Carry-less multiplication, crossbar permutation and block ciphers: volume I, chapters 28.4 (Zbc) and 30 (Zk). AES is the
 * host's, whose rounds are the same functions of the whole state; hosts without it use the vector ops' C functions. */
#include "riscv.h"

static ir_val c32(struct riscv_t *t, uint32_t v) { return ir_const(t->ir, T_I32, v); }

static ir_val vec(struct riscv_t *t, ir_val low) { return ir_vop(t->ir, VOP_MOVQ, T_V128, low, 0, 0, 0); }
static ir_val vec_low(struct riscv_t *t, ir_val v) { return ir_vop(t->ir, VOP_TOQ, T_I64, v, 0, 0, 0); }

static ir_val vec_pair(struct riscv_t *t, ir_val low, ir_val high)
{
    return ir_vop(t->ir, VOP_UNPKL64, T_V128, vec(t, low), vec(t, high), 0, 0);
}

static ir_val vec_zero(struct riscv_t *t) { return ir_const(t->ir, T_V128, 0); }

/* ---- Zbc, Zbkc */

static ir_val clmul_operand(struct riscv_t *t, unsigned r)
{
    return vec(t, t->xlen == 32 ? ir_un(t->ir, IR_ZEXT32, x_get32(t, r)) : x_get(t, r));
}

static ir_val clmul(struct riscv_t *t, const struct riscv_insn *i)
{
    return ir_vop(t->ir, VOP_CLMUL, T_V128, clmul_operand(t, i->rs1), clmul_operand(t, i->rs2), 0, 0);
}
EMIT(clmul) { x_put(t, i->rd, vec_low(t, clmul(t, i))); }

EMIT(clmulh)
{
    ir_val v = clmul(t, i);

    if (t->xlen == 32)
        x_put(t, i->rd, ir_bin_imm(t->ir, IR_SHR, vec_low(t, v), 32));
    else
        x_put(t, i->rd, ir_vop(t->ir, VOP_EXT64, T_I64, v, 0, 0, 1));
}

EMIT(clmulr)
{
    ir_val v = clmul(t, i), low = vec_low(t, v);

    if (t->xlen == 32) {
        x_put(t, i->rd, ir_bin_imm(t->ir, IR_SHR, low, 31));
        return;
    }
    v = ir_vop(t->ir, VOP_EXT64, T_I64, v, 0, 0, 1);
    x_put(t, i->rd, ir_bin(t->ir, IR_OR, ir_bin_imm(t->ir, IR_SHL, v, 1), ir_bin_imm(t->ir, IR_SHR, low, 63)));
}

/* ---- Zbkx */

/* The host's byte shuffle takes four bits of an index and gives zero for a set bit 7: indexes beyond 15 saturate there,
 * those from 8 find the table's zeros. */
EMIT(xperm8)
{
    ir_val table = clmul_operand(t, i->rs1), index = clmul_operand(t, i->rs2);

    index = ir_vop(t->ir, VOP_ADDU8, T_V128, index, ir_const(t->ir, T_V128, UINT64_C(0x7070707070707070)), 0, 0);
    x_put(t, i->rd, vec_low(t, ir_vop(t->ir, VOP_SHUF8, T_V128, table, index, 0, 0)));
}

EMIT(xperm4)
{
    ir_val table = t->xlen == 32 ? ir_un(t->ir, IR_ZEXT32, x_get32(t, i->rs1)) : x_get(t, i->rs1);

    x_put(t, i->rd, riscv_call(t, RISCV_HELP_xperm4, table, x_get(t, i->rs2), 0, 0));
}

/* ---- AES, 64 bits: each instruction gives half of the new state, a second one with the operands exchanged the other */

static void aes_round(struct riscv_t *t, const struct riscv_insn *i, unsigned vop)
{
    ir_val state = vec_pair(t, x_get(t, i->rs1), x_get(t, i->rs2));

    x_put(t, i->rd, vec_low(t, ir_vop(t->ir, vop, T_V128, state, vec_zero(t), 0, 0)));
}
EMIT(aes64es) { aes_round(t, i, VOP_AESENCL); }
EMIT(aes64esm) { aes_round(t, i, VOP_AESENC); }
EMIT(aes64ds) { aes_round(t, i, VOP_AESDECL); }
EMIT(aes64dsm) { aes_round(t, i, VOP_AESDEC); }
EMIT(aes64im) { x_put(t, i->rd, vec_low(t, ir_vop(t->ir, VOP_AESIMC, T_V128, vec(t, x_get(t, i->rs1)), 0, 0, 0))); }

/* The host's key help of word 1: lane 0 its substitution, lane 1 that rotated and XORed with the round's constant. Round
 * 10 is the step without rotation of 256-bit keys. */
EMIT(aes64ks1i)
{
    static const uint8_t constants[11] = { 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x1b, 0x36, 0 };
    ir_val v = vec(t, x_get(t, i->rs1)), word;

    v = ir_vop(t->ir, VOP_AESKEYGEN, T_V128, v, 0, 0, constants[i->rnum]);
    word = ir_un(t->ir, IR_ZEXT32, ir_vop(t->ir, VOP_EXT32, T_I32, v, 0, 0, i->rnum == 10 ? 0 : 1));
    x_put(t, i->rd, ir_deposit(t->ir, word, word, 32, 32));
}

EMIT(aes64ks2)
{
    ir_val b = x_get(t, i->rs2), w0, w1;

    w0 = ir_bin(t->ir, IR_XOR, ir_bin_imm(t->ir, IR_SHR, x_get(t, i->rs1), 32), b);
    w1 = ir_bin(t->ir, IR_XOR, w0, ir_bin_imm(t->ir, IR_SHR, b, 32));
    x_put(t, i->rd, ir_deposit(t->ir, w0, w1, 32, 32));
}

/* ---- AES, 32 bits: one byte's part of a column */

static ir_val byte_of(struct riscv_t *t, const struct riscv_insn *i)
{
    return ir_extract(t->ir, x_get32(t, i->rs2), 8u * i->bs, 8);
}

/* Byte 0 is in the row that is not shifted. */
static ir_val substituted(struct riscv_t *t, const struct riscv_insn *i, unsigned vop)
{
    ir_val v = ir_vop(t->ir, VOP_MOVD, T_V128, byte_of(t, i), 0, 0, 0);

    v = ir_vop(t->ir, vop, T_V128, v, vec_zero(t), 0, 0);
    return ir_un(t->ir, IR_ZEXT8, ir_vop(t->ir, VOP_TOD, T_I32, v, 0, 0, 0));
}

static void xor_rotated(struct riscv_t *t, const struct riscv_insn *i, ir_val v)
{
    v = ir_bin_imm(t->ir, IR_ROTL, v, 8u * i->bs);
    x_put32(t, i->rd, ir_bin(t->ir, IR_XOR, x_get32(t, i->rs1), v));
}
EMIT(aes32esi) { xor_rotated(t, i, substituted(t, i, VOP_AESENCL)); }
EMIT(aes32dsi) { xor_rotated(t, i, substituted(t, i, VOP_AESDECL)); }

/* Column (2, 1, 1, 3) times the byte: AESENC's MixColumns would mix the substituted zeros in. */
EMIT(aes32esmi)
{
    ir_val b = substituted(t, i, VOP_AESENCL), twice, v;

    twice = ir_bin_imm(t->ir, IR_MUL, ir_bin_imm(t->ir, IR_SHR, b, 7), 0x11b);
    twice = ir_bin(t->ir, IR_XOR, ir_bin_imm(t->ir, IR_SHL, b, 1), twice);
    v = ir_bin_imm(t->ir, IR_MUL, b, 0x01010100);
    v = ir_bin(t->ir, IR_XOR, v, ir_bin_imm(t->ir, IR_SHL, twice, 24));
    xor_rotated(t, i, ir_bin(t->ir, IR_XOR, v, twice));
}

EMIT(aes32dsmi)
{
    ir_val v = ir_vop(t->ir, VOP_MOVD, T_V128, substituted(t, i, VOP_AESDECL), 0, 0, 0);

    v = ir_vop(t->ir, VOP_AESIMC, T_V128, v, 0, 0, 0);
    xor_rotated(t, i, ir_vop(t->ir, VOP_TOD, T_I32, v, 0, 0, 0));
}

/* ---- SM4, SM3 */

static void sm4(struct riscv_t *t, const struct riscv_insn *i, unsigned helper)
{
    ir_val v = riscv_call(t, helper, byte_of(t, i), c32(t, 8u * i->bs), 0, 0);

    x_put32(t, i->rd, ir_bin(t->ir, IR_XOR, x_get32(t, i->rs1), v));
}
EMIT(sm4ed) { sm4(t, i, RISCV_HELP_sm4ed); }
EMIT(sm4ks) { sm4(t, i, RISCV_HELP_sm4ks); }

/* v rotated right by a, by b, and rotated (or, last: shifted) right by c, XORed. */
static ir_val mix(struct riscv_t *t, ir_val v, unsigned a, unsigned b, unsigned c, bool shift)
{
    ir_val x = ir_bin(t->ir, IR_XOR, ir_bin_imm(t->ir, IR_ROTR, v, a), ir_bin_imm(t->ir, IR_ROTR, v, b));

    return ir_bin(t->ir, IR_XOR, x, ir_bin_imm(t->ir, shift ? IR_SHR : IR_ROTR, v, c));
}
EMIT(sm3p0) { x_put32(t, i->rd, mix(t, x_get32(t, i->rs1), 32 - 9, 32 - 17, 0, false)); }
EMIT(sm3p1) { x_put32(t, i->rd, mix(t, x_get32(t, i->rs1), 32 - 15, 32 - 23, 0, false)); }

/* ---- SHA-2 */

EMIT(sha256sig0) { x_put32(t, i->rd, mix(t, x_get32(t, i->rs1), 7, 18, 3, true)); }
EMIT(sha256sig1) { x_put32(t, i->rd, mix(t, x_get32(t, i->rs1), 17, 19, 10, true)); }
EMIT(sha256sum0) { x_put32(t, i->rd, mix(t, x_get32(t, i->rs1), 2, 13, 22, false)); }
EMIT(sha256sum1) { x_put32(t, i->rd, mix(t, x_get32(t, i->rs1), 6, 11, 25, false)); }

static ir_val sig0(struct riscv_t *t, ir_val v) { return mix(t, v, 1, 8, 7, true); }
static ir_val sig1(struct riscv_t *t, ir_val v) { return mix(t, v, 19, 61, 6, true); }
static ir_val sum0(struct riscv_t *t, ir_val v) { return mix(t, v, 28, 34, 39, false); }
static ir_val sum1(struct riscv_t *t, ir_val v) { return mix(t, v, 14, 18, 41, false); }
EMIT(sha512sig0) { x_put(t, i->rd, sig0(t, x_get(t, i->rs1))); }
EMIT(sha512sig1) { x_put(t, i->rd, sig1(t, x_get(t, i->rs1))); }
EMIT(sha512sum0) { x_put(t, i->rd, sum0(t, x_get(t, i->rs1))); }
EMIT(sha512sum1) { x_put(t, i->rd, sum1(t, x_get(t, i->rs1))); }

/* RV32: the low half of the function of rs2:rs1, or the high half of that of rs1:rs2. */
static ir_val pair(struct riscv_t *t, unsigned low, unsigned high)
{
    return ir_deposit(t->ir, x_get(t, low), x_get(t, high), 32, 32);
}

static void put_high(struct riscv_t *t, unsigned rd, ir_val v) { x_put_whole(t, rd, ir_bin_imm(t->ir, IR_SAR, v, 32)); }
EMIT(sha512sig0l) { x_put(t, i->rd, sig0(t, pair(t, i->rs1, i->rs2))); }
EMIT(sha512sig1l) { x_put(t, i->rd, sig1(t, pair(t, i->rs1, i->rs2))); }
EMIT(sha512sig0h) { put_high(t, i->rd, sig0(t, pair(t, i->rs2, i->rs1))); }
EMIT(sha512sig1h) { put_high(t, i->rd, sig1(t, pair(t, i->rs2, i->rs1))); }
EMIT(sha512sum0r) { x_put(t, i->rd, sum0(t, pair(t, i->rs1, i->rs2))); }
EMIT(sha512sum1r) { x_put(t, i->rd, sum1(t, pair(t, i->rs1, i->rs2))); }
