/* What the emitters of simd*.c share. An instruction reads its operands, makes vector ops of them and puts the result;
 * all that differs between MMX, SSE and AVX forms is in simd_read() and simd_put(). */
#ifndef RHEA_GUEST_X86_SIMD_H
#define RHEA_GUEST_X86_SIMD_H

#include "x86.h"

/* The upper half of a YMM register, and both. */
ir_val simd_get_high(struct x86_t *t, unsigned n);
void simd_put_halves(struct x86_t *t, unsigned n, ir_val low, ir_val high);
void simd_zero_high(struct x86_t *t, unsigned n);
/* #UD, #NM, #MF as the instruction's operands and encoding demand; false: nothing more to emit. */
bool simd_begin(struct x86_t *t);
/* Operand n as a vector: a register, or memory (narrow ones zero-extended); aligned where the row says so. */
ir_val simd_read(struct x86_t *t, unsigned n);
void simd_put(struct x86_t *t, unsigned n, ir_val v);
/* A vector op; where the guest has unmasked an exception, by a helper that raises it before anything is written. */
ir_val simd_op(struct x86_t *t, unsigned vop, enum ir_type type, ir_val a, ir_val b, ir_val c, int64_t imm);
static inline ir_val simd_op128(struct x86_t *t, unsigned vop, ir_val a, ir_val b, int64_t imm)
{
    return simd_op(t, vop, T_V128, a, b, 0, imm);
}
/* Operand 0 is a source too in SSE forms: the first source of a two-source instruction is operand simd_first(). */
static inline unsigned simd_first(const struct x86_t *t) { return t->i->vex ? 1 : 0; }
/* The x87 state becomes MMX's; simd_put() does it for instructions with an MMX operand. */
void simd_enter_mmx(struct x86_t *t);
/* Address of the memory operand. */
ir_val simd_address(struct x86_t *t, unsigned n, bool write);
memop simd_memop(struct x86_t *t, unsigned bytes);

#endif
