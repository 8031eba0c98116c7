/* A32 and T32: decoded instructions and what their emitters share. DDI 0487 F3 to F6; DDI 0406 for Armv7.
 * Both sets decode to the same emitters: isa/arm.isa has the sets a32 and t32, whose rows name the same fields. */
#ifndef RHEA_GUEST_ARM_A32_H
#define RHEA_GUEST_ARM_A32_H

#include "arm.h"
#include "a32-isa.h"

#define a32_features arm_features
#define A32_HAS(f, id) arm_has(f, AF_##id)
struct a32_insn;
typedef void a32_emit_fn(struct arm_t *t, const struct a32_insn *i);
#define EMIT32(name) void a32_emit_##name(struct arm_t *t, const struct a32_insn *i)
BITS_ROW(a32);
struct a32_insn {
    BITS_INSN(a32);
    const struct arm_features *features;        /* of the CPU model, NULL: all; arm_decode() sets it */
    uint8_t it;                 /* IT state at this instruction; 0 outside of IT blocks and in A32 */
    uint8_t flow;               /* as decode told the region builder */
    bool thumb;
    A32_FIELDS
};

/* What rows say in `where`: none of up to four registers is PC; none is SP or PC. */
#define no15(...) a32_no15(__VA_ARGS__, 0, 0, 0)
#define a32_no15(a, b, c, d, ...) ((a) != 15 && (b) != 15 && (c) != 15 && (d) != 15)
#define nosp(...) a32_nosp(__VA_ARGS__, 0, 0, 0)
#define a32_nosp(a, b, c, d, ...) (a32_no15(a, b, c, d) && (a) != 13 && (b) != 13 && (c) != 13 && (d) != 13)

/* Rows' arg */
enum a32_dp { DP_AND, DP_EOR, DP_SUB, DP_RSB, DP_ADD, DP_ADC, DP_SBC, DP_RSC, DP_TST, DP_TEQ, DP_CMP, DP_CMN, DP_ORR, DP_MOV,
              DP_BIC, DP_MVN, DP_ORN };
enum { MLA_MUL, MLA_ADD, MLA_SUB };
enum { LONG_SIGNED = 1, LONG_ACC = 2 };
enum { PAR_ADD16, PAR_ASX, PAR_SAX, PAR_SUB16, PAR_ADD8, PAR_SUB8, PAR_OP_MASK = 7,
       PAR_S = 0 << 3, PAR_Q = 1 << 3, PAR_SH = 2 << 3, PAR_U = 3 << 3, PAR_UQ = 4 << 3, PAR_UH = 5 << 3 };
enum { EXT_8X2, EXT_8, EXT_16, EXT_U = 4 };

#define A32_EMITTERS
#include "a32-isa.h"

/* Shorthands */
static inline ir_val a32_k(struct arm_t *t, uint32_t v) { return ir_const(t->ir, T_I32, v); }
static inline ir_val a32_bin(struct arm_t *t, enum ir_opcode op, ir_val a, ir_val b) { return ir_bin(t->ir, op, a, b); }
static inline ir_val a32_bini(struct arm_t *t, enum ir_opcode op, ir_val a, uint64_t k) { return ir_bin_imm(t->ir, op, a, k); }
static inline ir_val a32_un(struct arm_t *t, enum ir_opcode op, ir_val a) { return ir_un(t->ir, op, a); }
static inline ir_val a32_widen(struct arm_t *t, ir_val v) { return ir_un(t->ir, IR_ZEXT32, v); }
static inline bool a32_in_it(const struct a32_insn *i) { return i->it & 15; }
static inline unsigned a32_it_advance(unsigned it) { return it & 7 ? (it & 0xe0) | (it << 1 & 0x1f) : 0; }

/* Registers, I32. a32_r() of 15 is the PC as an operand: the instruction's address + 8 (A32) or + 4 (T32). */
ir_val a32_r(struct arm_t *t, const struct a32_insn *i, unsigned r);
ir_val a32_pc(struct arm_t *t, const struct a32_insn *i, bool aligned, int32_t offset);
void a32_put(struct arm_t *t, unsigned r, ir_val v);            /* r0 to r14; where the condition selects, only if it holds */
/* Leaving: to a constant; to an I32 whose bit 0 chooses the instruction set; to an I32 in this set; to the loop and on with
 * the next instruction; to the I64 pc that a helper of the system side gave. */
void a32_goto(struct arm_t *t, uint64_t pc);
void a32_bx(struct arm_t *t, ir_val v, enum ir_exit_kind hint);
void a32_leave_other(struct arm_t *t, ir_val pc, enum ir_exit_kind hint);       /* pc: I64, aligned */
void a32_branch(struct arm_t *t, ir_val v, enum ir_exit_kind hint);
void a32_write_pc(struct arm_t *t, ir_val v, enum ir_exit_kind hint);   /* as loads do: a32_bx() since Armv5 */
void a32_exit_next(struct arm_t *t);
void a32_exit_at(struct arm_t *t, ir_val pc);
void a32_it_done(struct arm_t *t);      /* the slot shows the IT state after this instruction, though it may yet raise */

/* Flags. Logical operations keep C and V: see enum arm_cc. */
void a32_set_nz(struct arm_t *t, ir_val result);
void a32_set_nzc(struct arm_t *t, ir_val result, ir_val carry);
void a32_set_cc(struct arm_t *t, enum arm_cc op, ir_val a, ir_val b);
void a32_set_nzcv(struct arm_t *t, ir_val nzcv);
ir_val a32_nzcv(struct arm_t *t);                               /* I32, bits 31 to 28 */
ir_val a32_carry(struct arm_t *t);                              /* I32, 0 or 1 */
struct arm_test a32_test(struct arm_t *t, unsigned cond);
void a32_saturated(struct arm_t *t, enum ir_cond cond, ir_val a, ir_val b);     /* Q is set if cond(a, b) */

void a32_simd_scan(struct arm_t *t, const struct a32_insn *i);  /* what a32_simd.c knows ahead of a region's vector registers */

/* Operand v shifted by a constant, as DecodeImmShift() reads it; *carry: 0 if it stays what it was. */
ir_val a32_shift_imm(struct arm_t *t, ir_val v, unsigned type, unsigned imm5, ir_val *carry);

#endif
