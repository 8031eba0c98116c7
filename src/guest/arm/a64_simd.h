/* What the emitters of A64 floating point and Advanced SIMD share (a64_fp*.c, a64_simd*.c, a64_crypto.c). */
#ifndef RHEA_GUEST_A64_SIMD_H
#define RHEA_GUEST_A64_SIMD_H

#include "a64.h"
#include "simd_ops.h"

/* An operation being emitted: what its function needs to know besides the operands. */
struct v_op {
    struct arm_t *t;
    struct ir *ir;
    const struct a64_insn *i;
    unsigned size;                      /* log2 of an element's bytes */
    bool q;                             /* 128 bits; else 64, or one element if scalar */
    bool scalar;
};

static inline ir_val v2(const struct v_op *o, unsigned vop, ir_val a, ir_val b) { return ir_vop(o->ir, vop, T_V128, a, b, 0, 0); }
static inline ir_val v2i(const struct v_op *o, unsigned vop, ir_val a, ir_val b, int64_t imm) { return ir_vop(o->ir, vop, T_V128, a, b, 0, imm); }
static inline ir_val v1(const struct v_op *o, unsigned vop, ir_val a) { return ir_vop(o->ir, vop, T_V128, a, 0, 0, 0); }
static inline ir_val v1i(const struct v_op *o, unsigned vop, ir_val a, int64_t imm) { return ir_vop(o->ir, vop, T_V128, a, 0, 0, imm); }
static inline ir_val v3(const struct v_op *o, unsigned vop, ir_val a, ir_val b, ir_val c) { return ir_vop(o->ir, vop, T_V128, a, b, c, 0); }

/* Constants */
ir_val v_const(const struct v_op *o, uint64_t lanes);           /* in both halves */
ir_val v_const2(const struct v_op *o, uint64_t low, uint64_t high);
ir_val v_splat(const struct v_op *o, unsigned size, uint64_t v);        /* v in each element of that size */

/* Operations by element size; operands and results are whole vectors */
ir_val v_add(const struct v_op *o, unsigned size, ir_val a, ir_val b);
ir_val v_sub(const struct v_op *o, unsigned size, ir_val a, ir_val b);
ir_val v_and(const struct v_op *o, ir_val a, ir_val b);
ir_val v_or(const struct v_op *o, ir_val a, ir_val b);
ir_val v_xor(const struct v_op *o, ir_val a, ir_val b);
ir_val v_andn(const struct v_op *o, ir_val a, ir_val b);        /* ~a & b */
ir_val v_not(const struct v_op *o, ir_val a);
ir_val v_eq(const struct v_op *o, unsigned size, ir_val a, ir_val b);
ir_val v_gt(const struct v_op *o, unsigned size, ir_val a, ir_val b);   /* signed */
ir_val v_shl(const struct v_op *o, unsigned size, ir_val a, unsigned n);        /* n < bits of an element, or all are 0 */
ir_val v_shr(const struct v_op *o, unsigned size, ir_val a, unsigned n);
ir_val v_sar(const struct v_op *o, unsigned size, ir_val a, unsigned n);        /* n beyond the width: the sign */
ir_val v_max(const struct v_op *o, bool is_signed, ir_val a, ir_val b);         /* o->size; at most 32 bits */
ir_val v_min(const struct v_op *o, bool is_signed, ir_val a, ir_val b);
ir_val v_widen(const struct v_op *o, bool is_signed, ir_val a);         /* low elements of o->size to twice that */
ir_val v_narrow(const struct v_op *o, ir_val a, ir_val b);      /* elements of twice o->size, those of a then those of b, cut */
ir_val v_dup(const struct v_op *o, unsigned size, ir_val a, unsigned index);    /* an element of a everywhere */
ir_val v_pair(const struct v_op *o, ir_val n, ir_val m);        /* the low halves: m above n */
ir_val v_low(const struct v_op *o, ir_val a);                   /* the low half, zero above */

/* The result as the register holds it: what lies above the operation's width is zero. */
ir_val v_trim(const struct v_op *o, ir_val v);
void v_put(const struct v_op *o, ir_val v);                     /* trimmed, into vd */
/* FPSR.QC if any bit is set within the operation's width. */
void v_saturated(const struct v_op *o, ir_val differences);
ir_val v_d(const struct v_op *o);                               /* vd's old value */

/* Fills *o from the row and the fields (size or sz, q); false: FP and SIMD are trapped, all is emitted. */
bool v_begin(struct v_op *o, struct arm_t *t, const struct a64_insn *i);
bool f_begin(struct v_op *o, struct arm_t *t, const struct a64_insn *i);        /* floating point: the size from half and sz */

/* One row, one function: the result of whole registers, trimmed and put by the caller. */
typedef ir_val v3_fn(const struct v_op *o, ir_val n, ir_val m);
typedef ir_val v2_fn(const struct v_op *o, ir_val n);
void v_three(struct arm_t *t, const struct a64_insn *i, v3_fn *fn);
void v_two(struct arm_t *t, const struct a64_insn *i, v2_fn *fn);
#define EMIT_V3(name)                                                                              \
    static v3_fn three_##name;                                                                     \
    EMIT(v_##name) { v_three(t, i, three_##name); }                                                \
    static ir_val three_##name(const struct v_op *o, ir_val n, ir_val m)
#define EMIT_V2(name)                                                                              \
    static v2_fn two_##name;                                                                       \
    EMIT(v_##name) { v_two(t, i, two_##name); }                                                    \
    static ir_val two_##name(const struct v_op *o, ir_val n)

/* By the C helpers of helpers_simd.c: op of enum simd_op. */
uint32_t v_desc(const struct v_op *o, unsigned op, unsigned arg);
ir_val v_call1(const struct v_op *o, unsigned op, unsigned arg, ir_val n);
ir_val v_call2(const struct v_op *o, unsigned op, unsigned arg, ir_val n, ir_val m);
ir_val v_call3(const struct v_op *o, unsigned op, unsigned arg, ir_val d, ir_val n, ir_val m);


uint64_t a64_fp_immediate(unsigned size, uint8_t imm8);         /* VFPExpandImm() */

#endif
