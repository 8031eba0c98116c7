/* What integer ops compute, once: for constant folding and for the interpreter, which calls it with constant `op` and
 * `type` so that each of its cases becomes the one expression. I32 values are kept zero-extended. */
#ifndef RHEA_IR_EVAL_H
#define RHEA_IR_EVAL_H

#include "rhea/ir/ir.h"

static inline uint64_t ir_trim(unsigned type, uint64_t v) { return type == T_I32 ? (uint32_t)v : v; }
static inline int64_t ir_signed(unsigned type, uint64_t v) { return type == T_I32 ? (int32_t)v : (int64_t)v; }
static inline uint64_t ir_low_mask(unsigned len) { return len >= 64 ? UINT64_MAX : (UINT64_C(1) << len) - 1; }
/* Bits pos..pos+len-1. Lengths of 0 give 0; fields beyond the width are cut. */
static inline unsigned ir_field_pos(int64_t imm) { return imm & 63; }
static inline unsigned ir_field_len(int64_t imm) { return imm >> 8 & 127; }

static inline bool ir_eval_cond(enum ir_cond cond, unsigned type, uint64_t a, uint64_t b)
{
    int64_t sa = ir_signed(type, a), sb = ir_signed(type, b);

    switch (cond) {
    case C_EQ: return a == b;
    case C_NE: return a != b;
    case C_LT: return sa < sb;
    case C_GE: return sa >= sb;
    case C_LE: return sa <= sb;
    case C_GT: return sa > sb;
    case C_LTU: return a < b;
    case C_GEU: return a >= b;
    case C_LEU: return a <= b;
    case C_GTU: return a > b;
    case C_TSTEQ: return !(a & b);
    case C_TSTNE: return a & b;
    default: return false;
    }
}

/* Whether a division has a result. Where it has none ir_eval() gives 0: front ends test before they divide. */
static inline bool ir_divides(enum ir_opcode op, unsigned type, uint64_t a, uint64_t b)
{
    bool is_signed = op == IR_DIVS || op == IR_REMS;
    int64_t min = type == T_I32 ? INT32_MIN : INT64_MIN;

    return b && !(is_signed && ir_signed(type, b) == -1 && ir_signed(type, a) == min);
}

static inline uint64_t ir_eval_divide(enum ir_opcode op, unsigned type, uint64_t a, uint64_t b)
{
    if (!ir_divides(op, type, a, b))
        return 0;
    switch (op) {
    case IR_DIVU: return a / b;
    case IR_REMU: return a % b;
    case IR_DIVS: return ir_trim(type, ir_signed(type, a) / ir_signed(type, b));
    default: return ir_trim(type, ir_signed(type, a) % ir_signed(type, b));
    }
}

static inline uint64_t ir_eval_shift(enum ir_opcode op, unsigned type, uint64_t a, uint64_t b)
{
    unsigned bits = type == T_I32 ? 32 : 64, n = b & (bits - 1), back = (bits - n) & (bits - 1);

    switch (op) {
    case IR_SHL: return ir_trim(type, a << n);
    case IR_SHR: return a >> n;
    case IR_SAR: return ir_trim(type, ir_signed(type, a) >> n);
    case IR_ROTL: return ir_trim(type, a << n | a >> back);
    default: return ir_trim(type, a >> n | a << back);
    }
}

/* Ops of one or two operands of `type` (SEXT32, ZEXT32: of an I32; TRUNC: of an I64). */
static inline uint64_t ir_eval(enum ir_opcode op, unsigned type, uint64_t a, uint64_t b, unsigned esz, int64_t imm)
{
    unsigned bits = type == T_I32 ? 32 : 64, pos = ir_field_pos(imm), len = ir_field_len(imm);

    switch (op) {
    case IR_ADD: return ir_trim(type, a + b);
    case IR_SUB: return ir_trim(type, a - b);
    case IR_MUL: return ir_trim(type, a * b);
    case IR_AND: return a & b;
    case IR_OR: return a | b;
    case IR_XOR: return a ^ b;
    case IR_ANDC: return a & ~b;
    case IR_NEG: return ir_trim(type, -a);
    case IR_NOT: return ir_trim(type, ~a);
    case IR_SHL: case IR_SHR: case IR_SAR: case IR_ROTL: case IR_ROTR:
        return ir_eval_shift(op, type, a, b);
    case IR_MULHU:
        return type == T_I32 ? a * b >> 32 : (uint64_t)((unsigned __int128)a * b >> 64);
    case IR_MULHS:
        return type == T_I32 ? (uint32_t)((int64_t)(int32_t)a * (int32_t)b >> 32)
                             : (uint64_t)((__int128)(int64_t)a * (int64_t)b >> 64);
    case IR_DIVU: case IR_DIVS: case IR_REMU: case IR_REMS:
        return ir_eval_divide(op, type, a, b);
    case IR_CLZ: return a ? __builtin_clzll(a) - (64 - bits) : bits;
    case IR_CTZ: return a ? (unsigned)__builtin_ctzll(a) : bits;
    case IR_POPCNT: return __builtin_popcountll(a);
    case IR_BSWAP: return type == T_I32 ? __builtin_bswap32(a) : __builtin_bswap64(a);
    case IR_BSWAP16: return __builtin_bswap16(a);
    case IR_SEXT8: return ir_trim(type, (int8_t)a);
    case IR_SEXT16: return ir_trim(type, (int16_t)a);
    case IR_ZEXT8: return (uint8_t)a;
    case IR_ZEXT16: return (uint16_t)a;
    case IR_SEXT32: return (int32_t)a;
    case IR_ZEXT32: case IR_TRUNC: return (uint32_t)a;
    case IR_EXTRACT: return a >> pos & ir_low_mask(len);
    case IR_SEXTRACT:
        a = a >> pos & ir_low_mask(len);
        return len && len < 64 && a >> (len - 1) & 1 ? ir_trim(type, a | ~ir_low_mask(len)) : a;
    case IR_DEPOSIT: return ir_trim(type, (a & ~(ir_low_mask(len) << pos)) | (b & ir_low_mask(len)) << pos);
    case IR_LEA: return a + (b << esz) + imm;
    default: return 0;
    }
}

#endif
