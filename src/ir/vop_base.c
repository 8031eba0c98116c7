/* Vector operations: structure of V256 and the bitwise ones every front end needs. */
#include <string.h>
#include "rhea/ir/vop.h"

#define VOP_FN(id)                                                                                                    \
    vop_fn vop_fn_##id;                                                                                               \
    void vop_fn_##id(struct cpu *cpu, uint8_t *dst, const uint8_t *a, const uint8_t *b, const uint8_t *c, int64_t imm, \
                     unsigned bytes)

VOP_FN(CAT)
{
    uint8_t high[16];

    memcpy(high, b, 16);
    memmove(dst, a, 16);
    memcpy(dst + 16, high, 16);
}

VOP_FN(LO) { memmove(dst, a, 16); }
VOP_FN(HI) { memmove(dst, a + 16, 16); }

#define VOP_LANES(id, type, expr)                                                                                     \
    VOP_FN(id)                                                                                                        \
    {                                                                                                                 \
        for (unsigned i = 0; i < bytes; i += sizeof(type)) {                                                          \
            type x, y, r;                                                                                             \
            memcpy(&x, a + i, sizeof(x));                                                                             \
            memcpy(&y, b + i, sizeof(y));                                                                             \
            r = (type)(expr);                                                                                         \
            memcpy(dst + i, &r, sizeof(r));                                                                           \
        }                                                                                                             \
    }

VOP_LANES(AND, uint64_t, x & y)
VOP_LANES(OR, uint64_t, x | y)
VOP_LANES(XOR, uint64_t, x ^ y)
VOP_LANES(ANDN, uint64_t, ~x & y)
VOP_LANES(ADD8, uint8_t, x + y)
