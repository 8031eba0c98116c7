/* A64: decoded instructions and what its emitters share. DDI 0487 C4 (encodings) and C6, C7. */
#ifndef RHEA_GUEST_ARM_A64_H
#define RHEA_GUEST_ARM_A64_H

#include "arm.h"
#include "a64-isa.h"

/* The value of a logical immediate (DecodeBitMasks); false: there is none. */
static inline bool a64_bitmask(unsigned sf, unsigned n, unsigned imms, unsigned immr, uint64_t *value)
{
    unsigned pattern = n << 6 | (~imms & 63), len, size, ones, rot;
    uint64_t v;

    if (pattern < 2 || (n && !sf))
        return false;
    len = 31 - (unsigned)__builtin_clz(pattern);
    size = 1u << len;
    ones = imms & (size - 1);
    rot = immr & (size - 1);
    if (ones == size - 1)
        return false;
    v = (UINT64_C(2) << ones) - 1;
    if (rot)
        v = (v >> rot | v << (size - rot)) & (size == 64 ? UINT64_MAX : (UINT64_C(1) << size) - 1);
    for (; size < 64; size *= 2)
        v |= v << size;
    *value = sf ? v : (uint32_t)v;
    return true;
}
static inline bool a64_bitmask_valid(unsigned sf, unsigned n, unsigned imms)
{
    uint64_t v;

    return a64_bitmask(sf, n, imms, 0, &v);
}

#define a64_features arm_features
#define A64_HAS(f, id) arm_has(f, AF_##id)
struct a64_insn;
typedef void a64_emit_fn(struct arm_t *t, const struct a64_insn *i);
#define EMIT(name) void a64_emit_##name(struct arm_t *t, const struct a64_insn *i)
BITS_ROW(a64);
struct a64_insn {
    BITS_INSN(a64);
    const struct arm_features *features;        /* of the CPU model, NULL: all; arm_decode() sets it */
    A64_FIELDS
};
#define A64_EMITTERS
#include "a64-isa.h"

/* Values are I64; 31 is the zero register, or SP where the function says so. */
ir_val a64_x(struct arm_t *t, unsigned r);              /* 31: constant 0 */
ir_val a64_w(struct arm_t *t, unsigned r);              /* I32 */
ir_val a64_r(struct arm_t *t, unsigned sf, unsigned r); /* I64 if sf, else I32 */
void a64_put_x(struct arm_t *t, unsigned r, ir_val v);  /* I64; 31: dropped */
void a64_put_r(struct arm_t *t, unsigned r, ir_val v);  /* I64, or I32 zero-extended */
ir_val a64_x_sp(struct arm_t *t, unsigned r);           /* 31: SP */
ir_val a64_base(struct arm_t *t, unsigned r);           /* ... as an address: checks SP's alignment where the mode asks */
void a64_put_x_sp(struct arm_t *t, unsigned r, ir_val v);       /* I64, or I32 zero-extended */
void a64_put_x_sp_aligned(struct arm_t *t, unsigned r, ir_val v);       /* ... which does not change SP modulo 16 */
ir_val a64_extend(struct arm_t *t, unsigned rm, unsigned option);        /* UXTB ... SXTX: I64 */
/* a64-simd: */
ir_val a64_q(struct arm_t *t, unsigned r);              /* V128 */
void a64_put_q(struct arm_t *t, unsigned r, ir_val v);  /* all 128 bits */
void a64_put_d(struct arm_t *t, unsigned r, ir_val v);  /* low 64 bits of a V128, the rest zero */
void a64_put_s(struct arm_t *t, unsigned r, ir_val v);
void a64_put_h(struct arm_t *t, unsigned r, ir_val v);

#endif
