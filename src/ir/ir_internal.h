/* What the files of src/ir share. */
#ifndef RHEA_IR_INTERNAL_H
#define RHEA_IR_INTERNAL_H

#include "rhea/guest/guest.h"
#include "rhea/ir/ir.h"

static inline bool type_is_int(unsigned type) { return type == T_I32 || type == T_I64; }
static inline bool type_is_vec(unsigned type) { return type == T_V128 || type == T_V256; }
static inline unsigned type_bits(unsigned type) { return type == T_I32 ? 32 : type == T_I64 ? 64 : type == T_V128 ? 128 : 256; }
static inline uint64_t type_mask(unsigned type) { return type == T_I32 ? UINT32_MAX : UINT64_MAX; }
/* The op that defines v. For a placeholder: op 0, the entry's label, which matches no rule. */
static inline struct ir_op *value_op(const struct ir *ir, ir_val v) { return &ir->ops[ir->val_op[v]]; }
static inline bool op_ends_block(const struct ir_op *op)
{
    return op->op == IR_BRCOND || ir_opinfo[op->op].flags & OPF_ENDS;
}

/* The one set of algebraic rules, for the builder and the optimiser. Looks at *op, whose operands are defined in the
 * current block, and may rewrite it (to a CONST, a simpler op, or one with other operands; never of another type).
 * may_append: constants it needs may be appended to the region (the builder); else such rules are left out. */
enum fold_result { FOLD_KEEP,   /* *op is what to emit */
                   FOLD_SAME }; /* the result is the existing value *same */
enum fold_result ir_fold(struct ir *ir, struct ir_op *op, ir_val *same, bool may_append);
/* BRCOND of which the outcome is known: 1 always, 0 never, -1 unknown. Simplifies the comparison in *op. */
int ir_fold_branch(struct ir *ir, struct ir_op *op, bool may_append);
/* Takes constant addends of an address into the displacement, as far as it reaches; gives what is left. */
ir_val ir_fold_address(const struct ir *ir, ir_val addr, int32_t *disp);
/* Operands that are elements of vectors, moved about: where they came from. Forward, with operands replaced. */
void ir_fold_lanes(const struct ir *ir, struct ir_op *op);
ir_val ir_fold_address_32(const struct ir *ir, ir_val addr, int32_t *disp);

#endif
