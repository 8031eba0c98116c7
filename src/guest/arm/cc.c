/* The Arm flags from their lazy description: see enum arm_cc. */
#include "arm.h"

static uint32_t flags_nz(uint64_t r, unsigned bits)
{
    return (uint32_t)(r >> (bits - 1) & 1) << 31 | (uint32_t)(bits == 32 ? !(uint32_t)r : !r) << 30;
}

uint32_t arm_cc_nzcv(uint32_t op, uint64_t a, uint64_t b)
{
    uint64_t r;

    switch (op) {
    case CC_ADD32:
        r = (uint32_t)(a + b);
        return flags_nz(r, 32) | (uint32_t)(r < (uint32_t)a) << 29 | (uint32_t)((a ^ r) & (b ^ r)) >> 31 << 28;
    case CC_ADD64:
        r = a + b;
        return flags_nz(r, 64) | (uint32_t)(r < a) << 29 | (uint32_t)(((a ^ r) & (b ^ r)) >> 63) << 28;
    case CC_ADC32:
        r = (uint32_t)(a + b + 1);
        return flags_nz(r, 32) | (uint32_t)(r <= (uint32_t)a) << 29 | (uint32_t)((a ^ r) & (b ^ r)) >> 31 << 28;
    case CC_ADC64:
        r = a + b + 1;
        return flags_nz(r, 64) | (uint32_t)(r <= a) << 29 | (uint32_t)(((a ^ r) & (b ^ r)) >> 63) << 28;
    case CC_SUB32:
        r = (uint32_t)(a - b);
        return flags_nz(r, 32) | (uint32_t)((uint32_t)a >= (uint32_t)b) << 29 | (uint32_t)((a ^ b) & (a ^ r)) >> 31 << 28;
    case CC_SUB64:
        r = a - b;
        return flags_nz(r, 64) | (uint32_t)(a >= b) << 29 | (uint32_t)(((a ^ b) & (a ^ r)) >> 63) << 28;
    case CC_LOGIC32:
        return flags_nz((uint32_t)a, 32);
    case CC_LOGIC64:
        return flags_nz(a, 64);
    case CC_FP32:                       /* greater 0010, less 1000, equal 0110, unordered 0011 */
        return UINT32_C(0x3682) >> 4 * ((a & 1) | (a >> 5 & 2)) << 28;
    default:
        return (uint32_t)a & 0xf0000000;
    }
}

uint32_t arm_helper_nzcv(struct cpu *c, uint32_t op, uint64_t a, uint64_t b)
{
    return arm_cc_nzcv(op & CC_BASE_MASK, a, b);
}
