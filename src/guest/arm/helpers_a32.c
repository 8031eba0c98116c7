/* C functions that translated A32 and T32 code calls: rows of helpers-a32.def. */
#include <string.h>
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
            result |= (uint64_t)((1u << n) - 1) << (32 + lane);
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

/* ---- floating point and Advanced SIMD */

static uint64_t float_to_fixed(unsigned size, uint64_t v, unsigned bits, unsigned fraction, bool is_unsigned, struct float_status *s)
{
    int scale = (int)fraction;
    enum float_round r = FLOAT_ROUND_TO_ZERO;

    switch (size) {
    case 1: return is_unsigned ? f16_to_uint((float16)v, bits, scale, r, s) : (uint64_t)f16_to_int((float16)v, bits, scale, r, s);
    case 2: return is_unsigned ? f32_to_uint((float32)v, bits, scale, r, s) : (uint64_t)f32_to_int((float32)v, bits, scale, r, s);
    default: return is_unsigned ? f64_to_uint(v, bits, scale, r, s) : (uint64_t)f64_to_int(v, bits, scale, r, s);
    }
}

static uint64_t fixed_to_float(unsigned size, uint64_t v, unsigned bits, unsigned fraction, bool is_unsigned, struct float_status *s)
{
    int64_t n = is_unsigned ? (int64_t)(v << (64 - bits) >> (64 - bits)) : (int64_t)(v << (64 - bits)) >> (64 - bits);
    int scale = -(int)fraction;

    return size == 1 ? f16_from_int(n, scale, s) : size == 2 ? f32_from_int(n, scale, s) : f64_from_int(n, scale, s);
}

/* VCVT between floating and fixed point. what: log2 of bytes; bit 2 to fixed point, bit 3 unsigned, bit 4 32 bits (else 16);
 * fraction bits at 8. Rounds to nearest, to fixed point towards zero: F6.1.63. */
uint64_t arm_helper_a32_vcvt_fixed(struct cpu *cpu, uint32_t what, const uint8_t *np)
{
    struct arm_cpu *c = arm(cpu);
    unsigned size = what & 3, bits = what & 16 ? 32 : 16, fraction = what >> 8;
    struct float_status s = size == 1 ? c->fp16_status : c->fp_status;
    uint64_t v, r;

    memcpy(&v, np, 8);
    s.flags = 0;
    if (what & 4) {
        r = float_to_fixed(size, v, bits, fraction, what & 8, &s);
    } else {
        s.rounding = FLOAT_ROUND_NEAREST_EVEN;
        r = fixed_to_float(size, v, bits, fraction, what & 8, &s);
    }
    c->fp_status.flags |= size == 1 ? s.flags & ~(uint32_t)FLOAT_INPUT_DENORMAL_FLUSHED : s.flags;
    return r;
}
