/* The portable meanings of integer vector operations: arithmetic, comparisons, shifts. Rows: vop.def. */
#include "vop_fn.h"

static int clamp(int v, int low, int high)
{
    return v < low ? low : v > high ? high : v;
}
static int8_t sat_s8(int v) { return (int8_t)clamp(v, INT8_MIN, INT8_MAX); }
static uint8_t sat_u8(int v) { return (uint8_t)clamp(v, 0, UINT8_MAX); }
static int16_t sat_s16(int v) { return (int16_t)clamp(v, INT16_MIN, INT16_MAX); }
static uint16_t sat_u16(int v) { return (uint16_t)clamp(v, 0, UINT16_MAX); }

VOP_LANES(AND, u64, x & y)
VOP_LANES(OR, u64, x | y)
VOP_LANES(XOR, u64, x ^ y)
VOP_LANES(ANDN, u64, ~x & y)
VOP_LANES(ANDF, u64, x & y)
VOP_LANES(ORF, u64, x | y)
VOP_LANES(XORF, u64, x ^ y)
VOP_LANES(ANDNF, u64, ~x & y)

VOP_LANES(ADD8, u8, x + y)
VOP_LANES(ADD16, u16, x + y)
VOP_LANES(ADD32, u32, x + y)
VOP_LANES(ADD64, u64, x + y)
VOP_LANES(SUB8, u8, x - y)
VOP_LANES(SUB16, u16, x - y)
VOP_LANES(SUB32, u32, x - y)
VOP_LANES(SUB64, u64, x - y)
VOP_LANES(ADDS8, s8, sat_s8(x + y))
VOP_LANES(ADDS16, s16, sat_s16(x + y))
VOP_LANES(ADDU8, u8, sat_u8(x + y))
VOP_LANES(ADDU16, u16, sat_u16(x + y))
VOP_LANES(SUBS8, s8, sat_s8(x - y))
VOP_LANES(SUBS16, s16, sat_s16(x - y))
VOP_LANES(SUBU8, u8, sat_u8(x - y))
VOP_LANES(SUBU16, u16, sat_u16(x - y))

VOP_LANES(MUL16, s16, x * y)
VOP_LANES(MULHS16, s16, x * y >> 16)
VOP_LANES(MULHU16, u16, (uint32_t)x * y >> 16)
VOP_LANES(MULRS16, s16, ((x * y >> 14) + 1) >> 1)
VOP_LANES(MUL32, u32, x * y)
VOP_LANES(MULU32, u64, (uint64_t)(uint32_t)x * (uint32_t)y)
VOP_LANES(MULS32, s64, (int64_t)(int32_t)x * (int32_t)y)

/* -32768 squared twice over wraps, so the sum is taken unsigned. */
VOP_LANES(MADD16, u32, (uint32_t)((int16_t)x * (int16_t)y) + (uint32_t)((int16_t)(x >> 16) * (int16_t)(y >> 16)))
VOP_LANES(MADDUS8, u16,
          sat_s16((uint8_t)x * (int8_t)y + (uint8_t)(x >> 8) * (int8_t)(y >> 8)))

VOP_FN(SAD8)
{
    union vec va = vec_of(a, bytes), vb = vec_of(b, bytes), r = { .u64 = { 0 } };

    for (unsigned i = 0; i < bytes; i++) {
        int d = va.u8[i] - vb.u8[i];
        r.u64[i / 8] += (uint64_t)(d < 0 ? -d : d);
    }
    vec_put(dst, &r, bytes);
}

/* Eight sums of four absolute differences; the high 128 bits have their own three bits of imm. */
VOP_FN(MPSAD8)
{
    union vec va = vec_of(a, bytes), vb = vec_of(b, bytes), r;

    for (unsigned i = 0; i < bytes / 2; i++) {
        unsigned lane = i / 8 * 16, sel = (unsigned)imm >> (i / 8 * 3);
        unsigned from = lane + (sel >> 2 & 1) * 4 + i % 8, with = lane + (sel & 3) * 4;
        unsigned sum = 0;

        for (unsigned k = 0; k < 4; k++) {
            int d = va.u8[from + k] - vb.u8[with + k];
            sum += (unsigned)(d < 0 ? -d : d);
        }
        r.u16[i] = (uint16_t)sum;
    }
    vec_put(dst, &r, bytes);
}

VOP_LANES(AVG8, u8, (x + y + 1) >> 1)
VOP_LANES(AVG16, u16, (x + y + 1) >> 1)
VOP_LANES(MINS8, s8, x < y ? x : y)
VOP_LANES(MINS16, s16, x < y ? x : y)
VOP_LANES(MINS32, s32, x < y ? x : y)
VOP_LANES(MINU8, u8, x < y ? x : y)
VOP_LANES(MINU16, u16, x < y ? x : y)
VOP_LANES(MINU32, u32, x < y ? x : y)
VOP_LANES(MAXS8, s8, x > y ? x : y)
VOP_LANES(MAXS16, s16, x > y ? x : y)
VOP_LANES(MAXS32, s32, x > y ? x : y)
VOP_LANES(MAXU8, u8, x > y ? x : y)
VOP_LANES(MAXU16, u16, x > y ? x : y)
VOP_LANES(MAXU32, u32, x > y ? x : y)

VOP_FN(HMINU16)
{
    union vec va = vec_of(a, bytes), r = { .u64 = { 0 } };
    unsigned least = 0;

    for (unsigned i = 1; i < 8; i++)
        if (va.u16[i] < va.u16[least])
            least = i;
    r.u16[0] = va.u16[least];
    r.u16[1] = (uint16_t)least;
    vec_put(dst, &r, bytes);
}

VOP_LANES1(ABS8, u8, (int8_t)x < 0 ? -x : x)
VOP_LANES1(ABS16, u16, (int16_t)x < 0 ? -x : x)
VOP_LANES1(ABS32, u32, (int32_t)x < 0 ? -x : x)
VOP_LANES(SIGN8, u8, (int8_t)y < 0 ? -x : y ? x : 0)
VOP_LANES(SIGN16, u16, (int16_t)y < 0 ? -x : y ? x : 0)
VOP_LANES(SIGN32, u32, (int32_t)y < 0 ? -x : y ? x : 0)

/* Neighbouring lanes of a give the low half of each 128 bits of the result, those of b the high half. */
#define VOP_HORIZONTAL(id, L, expr)                                                                          \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        enum { N = 16 / sizeof(((union vec *)0)->L[0]) };                                                    \
        union vec va = vec_of(a, bytes), vb = vec_of(b, bytes), r;                                           \
        for (unsigned i = 0; i < bytes / 16 * N; i++) {                                                      \
            const union vec *v = i % N < N / 2 ? &va : &vb;                                                  \
            unsigned from = i / N * N + i % (N / 2) * 2;                                                     \
            __typeof__(r.L[0]) x = v->L[from], y = v->L[from + 1];                                           \
            r.L[i] = (__typeof__(r.L[0]))(expr);                                                             \
        }                                                                                                    \
        vec_put(dst, &r, bytes);                                                                             \
    }

VOP_HORIZONTAL(HADD16, u16, x + y)
VOP_HORIZONTAL(HADD32, u32, x + y)
VOP_HORIZONTAL(HADDS16, s16, sat_s16(x + y))
VOP_HORIZONTAL(HSUB16, u16, x - y)
VOP_HORIZONTAL(HSUB32, u32, x - y)
VOP_HORIZONTAL(HSUBS16, s16, sat_s16(x - y))

VOP_LANES(CMPEQ8, u8, x == y ? -1 : 0)
VOP_LANES(CMPEQ16, u16, x == y ? -1 : 0)
VOP_LANES(CMPEQ32, u32, x == y ? -1 : 0)
VOP_LANES(CMPEQ64, u64, x == y ? -1 : 0)
VOP_LANES(CMPGT8, s8, x > y ? -1 : 0)
VOP_LANES(CMPGT16, s16, x > y ? -1 : 0)
VOP_LANES(CMPGT32, s32, x > y ? -1 : 0)
VOP_LANES(CMPGT64, s64, x > y ? -1 : 0)

/* Shifts of every lane by one count: imm's byte for the I form, all 64 low bits of b for the other. */
#define VOP_SHIFT(id, L, count_of, expr, beyond)                                                             \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        enum { BITS = 8 * sizeof(((union vec *)0)->L[0]) };                                                  \
        union vec va = vec_of(a, bytes), r;                                                                  \
        uint64_t n = (count_of);                                                                             \
        for (unsigned i = 0; i < bytes / sizeof(r.L[0]); i++) {                                              \
            __typeof__(r.L[0]) x = va.L[i];                                                                  \
            r.L[i] = (__typeof__(r.L[0]))(n < BITS ? (expr) : (beyond));                                     \
        }                                                                                                    \
        vec_put(dst, &r, bytes);                                                                             \
    }
#define COUNT_IMM (uint64_t)(imm & 0xff)
#define COUNT_B vec_of(b, 16).u64[0]

VOP_SHIFT(SHLI16, u16, COUNT_IMM, x << n, 0)
VOP_SHIFT(SHLI32, u32, COUNT_IMM, x << n, 0)
VOP_SHIFT(SHLI64, u64, COUNT_IMM, x << n, 0)
VOP_SHIFT(SHRI16, u16, COUNT_IMM, x >> n, 0)
VOP_SHIFT(SHRI32, u32, COUNT_IMM, x >> n, 0)
VOP_SHIFT(SHRI64, u64, COUNT_IMM, x >> n, 0)
VOP_SHIFT(SARI16, s16, COUNT_IMM, x >> n, x >> (BITS - 1))
VOP_SHIFT(SARI32, s32, COUNT_IMM, x >> n, x >> (BITS - 1))
VOP_SHIFT(SHL16, u16, COUNT_B, x << n, 0)
VOP_SHIFT(SHL32, u32, COUNT_B, x << n, 0)
VOP_SHIFT(SHL64, u64, COUNT_B, x << n, 0)
VOP_SHIFT(SHR16, u16, COUNT_B, x >> n, 0)
VOP_SHIFT(SHR32, u32, COUNT_B, x >> n, 0)
VOP_SHIFT(SHR64, u64, COUNT_B, x >> n, 0)
VOP_SHIFT(SAR16, s16, COUNT_B, x >> n, x >> (BITS - 1))
VOP_SHIFT(SAR32, s32, COUNT_B, x >> n, x >> (BITS - 1))

VOP_LANES(SHLV32, u32, y < 32 ? x << y : 0)
VOP_LANES(SHLV64, u64, y < 64 ? x << y : 0)
VOP_LANES(SHRV32, u32, y < 32 ? x >> y : 0)
VOP_LANES(SHRV64, u64, y < 64 ? x >> y : 0)
VOP_LANES(SARV32, u32, (int32_t)x >> (y < 32 ? y : 31))
