/* What the emitters of AArch32 floating point and Advanced SIMD share (a32_vfp.c, a32_neon.c, a32_neon_mem.c). Most
 * operations are those of A64: its emitters work on whole registers, so that single and double registers, which are parts
 * of quadword registers here, are brought to scratch registers and back. */
#ifndef RHEA_GUEST_A32_SIMD_H
#define RHEA_GUEST_A32_SIMD_H

#include "a32.h"
#include "a64_fp.h"

enum a32_kind { KIND_S, KIND_D, KIND_Q };
/* Scratch registers: the four slots behind those of A64. */
enum { SCRATCH_D = SLOT_VT - SLOT_Q, SCRATCH_N, SCRATCH_M, SCRATCH_X };

bool a32_fp_enabled(struct arm_t *t);           /* false: it traps or is undefined; all is emitted */

/* Where a region has no instruction of Advanced SIMD, d0 to d15 are slots of their own, or s0 to s31 where it names those
 * alone. The numbers of those slots are operands of A64's emitters as well.
 *
 * V128: the register in the lowest element; of a double one the rest is zero where there are vectors, else anything, as of a
 * single one. */
bool a32_whole(const struct arm_t *t, unsigned r);      /* double register r is but a half of a slot */
ir_val a32_d(struct arm_t *t, unsigned r);
ir_val a32_s(struct arm_t *t, unsigned r);
void a32_put_d(struct arm_t *t, unsigned r, ir_val v);
void a32_put_s(struct arm_t *t, unsigned r, ir_val v);
ir_val a32_s_bits(struct arm_t *t, unsigned r);         /* I32 */
void a32_put_s_bits(struct arm_t *t, unsigned r, ir_val v);
ir_val a32_d_bits(struct arm_t *t, unsigned r);         /* I64 */
void a32_put_d_bits(struct arm_t *t, unsigned r, ir_val v);

/* The register as an operand of an A64 emitter: its number there, or a scratch register it is copied to. */
unsigned a32_operand(struct arm_t *t, enum a32_kind kind, unsigned r, unsigned scratch);
unsigned a32_target(struct arm_t *t, enum a32_kind kind, unsigned r, unsigned scratch);         /* ... of one that is but written */
/* The same of a source of which only the lowest element counts. */
unsigned a32_scalar(struct arm_t *t, enum a32_kind kind, unsigned r, unsigned scratch);
void a32_result(struct arm_t *t, enum a32_kind kind, unsigned r, unsigned scratch);     /* ... and the copy back */
/* Emits the A64 instruction `raw`, whose register fields are zero, on those registers; index: of an element. */
void a32_as_a64(struct arm_t *t, const struct a32_insn *i, uint32_t raw, unsigned d, unsigned n, unsigned m, unsigned index);
static inline struct v_op a32_vop(struct arm_t *t, unsigned size, bool q)
{
    return (struct v_op){ .t = t, .ir = t->ir, .size = size, .q = q };
}

#endif
