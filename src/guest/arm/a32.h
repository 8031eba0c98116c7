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
    A32_FIELDS
};
#define A32_EMITTERS
#include "a32-isa.h"

#endif
