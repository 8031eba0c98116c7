/* C functions that translated A32 and T32 code calls: rows of helpers-a32.def. */
#include "a32.h"

uint32_t arm_helper_a32_nzcv(struct cpu *c, uint32_t op, uint64_t a, uint64_t b, uint32_t nz)
{
    return arm_cc_apart(arm_cc_nzcv(op & CC_BASE_MASK, a, b), op & 0xff, nz, op >> 8);
}

/* One lane of n bits: the sum or difference as the prefix wants it; *ge: the lane's flag. */
static uint32_t parallel_lane(unsigned kind, uint32_t a, uint32_t b, unsigned n, bool subtract, bool *ge)
{
    bool is_unsigned = kind >= PAR_U;
    int32_t x = (int32_t)(a << (32 - n)) >> (32 - n), y = (int32_t)(b << (32 - n)) >> (32 - n), r;

    if (is_unsigned) {
        x = (int32_t)(a & ((1u << n) - 1));
        y = (int32_t)(b & ((1u << n) - 1));
    }
    r = subtract ? x - y : x + y;
    *ge = is_unsigned && !subtract ? r >> n : r >= 0;
    if (kind == PAR_SH || kind == PAR_UH)
        r >>= 1;
    if (kind == PAR_Q)
        r = r > (1 << (n - 1)) - 1 ? (1 << (n - 1)) - 1 : r < -(1 << (n - 1)) ? -(1 << (n - 1)) : r;
    if (kind == PAR_UQ)
        r = r > (1 << n) - 1 ? (1 << n) - 1 : r < 0 ? 0 : r;
    return (uint32_t)r & ((1u << n) - 1);
}

uint64_t arm_helper_a32_parallel(struct cpu *c, uint32_t a, uint32_t b, uint32_t what)
{
    unsigned op = what & PAR_OP_MASK, kind = what & ~7u, n = op >= PAR_ADD8 ? 8 : 16;
    uint64_t result = 0;

    if (op == PAR_ASX || op == PAR_SAX)
        b = b >> 16 | b << 16;
    for (unsigned lane = 0; lane < 32; lane += n) {
        bool subtract = op == PAR_SUB16 || op == PAR_SUB8 || (op == PAR_ASX && !lane) || (op == PAR_SAX && lane), ge;

        result |= (uint64_t)parallel_lane(kind, a >> lane, b >> lane, n, subtract, &ge) << lane;
        if (ge)
            result |= (uint64_t)(n == 8 ? 1 : 3) << (32 + lane / 8);
    }
    return result;
}

/* CRC-32 and CRC-32C, bits reversed as BitReverse() in F5.1.39 has it. */
uint32_t arm_helper_a32_crc32(struct cpu *c, uint32_t acc, uint32_t v, uint32_t what)
{
    uint32_t poly = what & 4 ? 0x82f63b78 : 0xedb88320;

    acc ^= v;
    for (unsigned n = 8u << (what & 3); n; n--)
        acc = acc >> 1 ^ (acc & 1 ? poly : 0);
    return acc;
}
