/* What the emitters of A64 floating point share (a64_fp*.c). Operations on host arithmetic, with NaNs and whatever else
 * differs put right by ir_vfix(); most of halves, and all where MODE_FP_SLOW, by the C functions of helpers_fp.c. */
#ifndef RHEA_GUEST_A64_FP_H
#define RHEA_GUEST_A64_FP_H

#include "a64_simd.h"

/* A host operation in its four forms. */
struct f_vops { uint16_t ss, sd, ps, pd; };
#define F_VOPS(name) { VOP_##name##SS, VOP_##name##SD, VOP_##name##PS, VOP_##name##PD }

static inline bool f_slow(const struct v_op *o) { return o->size == 1 || o->t->mode & MODE_FP_SLOW || o->t->a32.standard; }
/* Flush to zero by host arithmetic, which knows none of Arm's: tininess is found before rounding there, and a result flushed is not
 * inexact. Where a result may be tiny, f_guarded() keeps small operands from the host; where it can't, f_flushed() makes zeros of
 * denormal operands. Of neither a short test says that there are none. */
static inline bool f_flush(const struct v_op *o)
{
    return o->size > 1 && (o->t->a32.standard ? !(o->t->mode & MODE_FP_ROUND) : o->t->mode & MODE_FP_FLUSH);
}
static inline bool f_soft(const struct v_op *o) { return f_slow(o) && !f_flush(o); }
/* A half's operation that a64_fp_half.c does by host arithmetic. */
static inline bool f_half(const struct v_op *o) { return o->size == 1 && !(o->t->mode & MODE_FP_SLOW) && !o->t->a32.standard; }
static inline unsigned f_vop(const struct v_op *o, const struct f_vops *v)
{
    return o->scalar ? (o->size == 3 ? v->sd : v->ss) : o->size == 3 ? v->pd : v->ps;
}
static inline enum ir_fix_cond f_nan(const struct v_op *o)
{
    return o->scalar ? (o->size == 3 ? FIX_NAN_D : FIX_NAN_S) : o->size == 3 ? FIX_NAN_PD : FIX_NAN_PS;
}
static inline enum ir_fix_cond f_mask(const struct v_op *o)
{
    return o->scalar ? (o->size == 3 ? FIX_MASK_D : FIX_MASK_S) : FIX_MASK_PS;
}
/* A condition's form for the operation: `single` and the three behind it. */
static inline enum ir_fix_cond f_cond(const struct v_op *o, enum ir_fix_cond single)
{
    return (enum ir_fix_cond)(single + (o->scalar ? 0 : 2) + (o->size == 3));
}
/* An operand such that the elements beyond a vector of 64 bits raise nothing of their own: the same twice. */
static inline ir_val f_operand(const struct v_op *o, ir_val n)
{
    return o->scalar || o->q ? n : v1(o, VOP_MOVDDUP, n);
}
/* Host operation vop (its immediate: imm) of a, b, c unless one of them is small, else and for NaNs the fix. Sums and products of what
 * is not small are not tiny, nor are their sums. An operand that the operation does not have is looked at, too. */
ir_val f_guarded(const struct v_op *o, unsigned vop, unsigned imm, ir_val a, ir_val b, ir_val c, unsigned fix, uint32_t desc);
ir_val f_flushed(const struct v_op *o, ir_val n);
ir_val f_const(const struct v_op *o, uint64_t v);               /* v in each element */
ir_val f_compare(const struct v_op *o, unsigned predicate, ir_val n, ir_val m);        /* CMPxx by its immediate */
ir_val f_round(const struct v_op *o, unsigned imm, ir_val n);   /* ROUNDxx */
ir_val f_call1(const struct v_op *o, unsigned op, unsigned arg, ir_val n);
ir_val f_call2(const struct v_op *o, unsigned op, unsigned arg, ir_val n, ir_val m);
ir_val f_call3(const struct v_op *o, unsigned op, unsigned arg, ir_val d, ir_val n, ir_val m);

/* a64_fp_half.c; vop: of four singles, for fused ones of two doubles */
ir_val f_half_arithmetic(const struct v_op *o, unsigned vop, unsigned op, ir_val n, ir_val m);
ir_val f_half_sqrt(const struct v_op *o, ir_val n);
ir_val f_half_fused(const struct v_op *o, unsigned vop, unsigned arg, ir_val d, ir_val n, ir_val m);
ir_val f_half_from_int(const struct v_op *o, bool is_signed, ir_val n);
ir_val f_half_to_int(const struct v_op *o, bool is_signed, unsigned rounding, unsigned desc, ir_val n);
ir_val f_half_compare(const struct v_op *o, unsigned predicate, ir_val n, ir_val m);

typedef ir_val f2_fn(const struct v_op *o, ir_val n, ir_val m);
void f_three(struct arm_t *t, const struct a64_insn *i, f2_fn *fn);
void f_two(struct arm_t *t, const struct a64_insn *i, v2_fn *fn);
#define EMIT_F3(name)                                                                              \
    static f2_fn three_##name;                                                                     \
    EMIT(name) { f_three(t, i, three_##name); }                                                    \
    static ir_val three_##name(const struct v_op *o, ir_val n, ir_val m)
#define EMIT_F2(name)                                                                              \
    static v2_fn two_##name;                                                                       \
    EMIT(name) { f_two(t, i, two_##name); }                                                        \
    static ir_val two_##name(const struct v_op *o, ir_val n)

#endif
