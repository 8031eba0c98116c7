/* What the files of vector-op meanings share: how a function is declared, and a vector seen as lanes. Lanes are in the
 * host's byte order and the images in the guest's, so this supposes a little-endian host (checked below). */
#ifndef RHEA_VOP_FN_H
#define RHEA_VOP_FN_H

#include <string.h>
#include "rhea/ir/cpu.h"
#include "rhea/ir/vop.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "vector images are little-endian");

union vec {
    uint8_t u8[32];
    uint16_t u16[16];
    uint32_t u32[8];
    uint64_t u64[4];
    int8_t s8[32];
    int16_t s16[16];
    int32_t s32[8];
    int64_t s64[4];
};

#define VOP_FN(id)                                                                                           \
    vop_fn vop_fn_##id;                                                                                      \
    void vop_fn_##id(struct cpu *cpu, uint8_t *dst, const uint8_t *a, const uint8_t *b, const uint8_t *c,    \
                     int64_t imm, unsigned bytes)

static inline union vec vec_of(const uint8_t *p, unsigned bytes)
{
    union vec v = { .u64 = { 0 } };

    memcpy(&v, p, bytes);
    return v;
}

/* dst may alias the operands: a result is made whole before it is written. */
static inline void vec_put(uint8_t *dst, const union vec *v, unsigned bytes)
{
    memcpy(dst, v, bytes);
}

/* Lane i of the result from x = lane i of a, y = lane i of b; L is a field of union vec. */
#define VOP_LANES(id, L, expr)                                                                               \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        union vec va = vec_of(a, bytes), vb = vec_of(b, bytes), r;                                           \
        for (unsigned i = 0; i < bytes / sizeof(r.L[0]); i++) {                                              \
            __typeof__(r.L[0]) x = va.L[i], y = vb.L[i];                                                     \
            r.L[i] = (__typeof__(r.L[0]))(expr);                                                             \
        }                                                                                                    \
        vec_put(dst, &r, bytes);                                                                             \
    }

/* The same of one operand. */
#define VOP_LANES1(id, L, expr)                                                                              \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        union vec va = vec_of(a, bytes), r;                                                                  \
        for (unsigned i = 0; i < bytes / sizeof(r.L[0]); i++) {                                              \
            __typeof__(r.L[0]) x = va.L[i];                                                                  \
            r.L[i] = (__typeof__(r.L[0]))(expr);                                                             \
        }                                                                                                    \
        vec_put(dst, &r, bytes);                                                                             \
    }

#endif
