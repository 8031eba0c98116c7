/* Integer SIMD operations that the host has no short sequence for: lane by lane, and saturation noted in qc. The operations
 * are rows of tables by simd_ops.h. DDI 0487 C7, and the shared pseudocode it calls (SatQ and others). */
#include <string.h>
#include "simd_ops.h"

union lanes {
    uint8_t u8[16];
    uint16_t u16[8];
    uint32_t u32[4];
    uint64_t u64[2];
};
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "lanes are in the host's order");

static union lanes load(const uint8_t *p)
{
    union lanes v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static uint64_t lane(const union lanes *v, unsigned size, unsigned n)
{
    switch (size) {
    case 0: return v->u8[n & 15];
    case 1: return v->u16[n & 7];
    case 2: return v->u32[n & 3];
    default: return v->u64[n & 1];
    }
}

static void put_lane(union lanes *v, unsigned size, unsigned n, uint64_t x)
{
    switch (size) {
    case 0: v->u8[n & 15] = (uint8_t)x; break;
    case 1: v->u16[n & 7] = (uint16_t)x; break;
    case 2: v->u32[n & 3] = (uint32_t)x; break;
    default: v->u64[n & 1] = x; break;
    }
}

/* What an operation on one lane knows. */
struct lane_op {
    unsigned size, bits, arg;
    bool saturated;
};

/* Operations on one lane are inlined into loops for each size: WHOLE1() and others. */
#define LANE static inline __attribute__((always_inline)) uint64_t
#define EACH(width, field, expr)                                                                   \
    for (unsigned i = 0; i < lanes; i++) {                                                         \
        struct lane_op k = { .size = o->size, .bits = width, .arg = o->arg };                      \
        r->field[i] = (__typeof__(r->field[i]))(expr);                                             \
        o->saturated |= k.saturated;                                                               \
    }                                                                                              \
    break

static inline int64_t sign(unsigned bits, uint64_t x) { return (int64_t)(x << (64 - bits)) >> (64 - bits); }
static inline uint64_t ones(unsigned bits) { return bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1; }

LANE sat_signed(struct lane_op *o, unsigned bits, __int128 x)
{
    __int128 max = ((__int128)1 << (bits - 1)) - 1;

    if (x > max || x < -max - 1) {
        o->saturated = true;
        return (uint64_t)(x > max ? max : -max - 1);
    }
    return (uint64_t)x;
}
LANE sat_unsigned(struct lane_op *o, unsigned bits, __int128 x)
{
    if (x < 0 || x > (__int128)ones(bits)) {
        o->saturated = true;
        return x < 0 ? 0 : ones(bits);
    }
    return (uint64_t)x;
}

/* ---- one operand */


LANE do_clz(struct lane_op *o, uint64_t n) { return n ? (uint64_t)__builtin_clzll(n) - (64 - o->bits) : o->bits; }
LANE do_cls(struct lane_op *o, uint64_t n) { return do_clz(o, (n ^ (uint64_t)(sign(o->bits, n) >> 1)) & ones(o->bits)) - 1; }
LANE do_cnt(struct lane_op *o, uint64_t n) { return (uint64_t)__builtin_popcountll(n); }
LANE do_rbit(struct lane_op *o, uint64_t n)
{
    uint64_t r = 0;

    for (unsigned i = 0; i < 8; i++)
        r |= (n >> i & 1) << (7 - i);
    return r;
}
LANE do_sqabs(struct lane_op *o, uint64_t n)
{
    __int128 x = sign(o->bits, n);

    return sat_signed(o, o->bits, x < 0 ? -x : x);
}
LANE do_sqneg(struct lane_op *o, uint64_t n) { return sat_signed(o, o->bits, -(__int128)sign(o->bits, n)); }

/* RecipEstimate(), RecipSqrtEstimate(): 9-bit tables as formulas. */
uint32_t arm_recip_estimate(uint32_t a)
{
    a = a * 2 + 1;
    return ((1u << 19) / a + 1) / 2;
}
/* Low 8 bits for 128 to 255, then for 256 to 511 by twos: of the least b >= 512 with a (b + 1)^2 >= 2^28, halved and rounded. */
static const uint8_t recip_sqrt_table[256] = {
    255, 253, 251, 249, 247, 245, 243, 242, 240, 238, 236, 234, 233, 231, 229, 228,
    226, 224, 223, 221, 219, 218, 216, 215, 213, 212, 210, 209, 207, 206, 204, 203,
    201, 200, 198, 197, 196, 194, 193, 192, 190, 189, 188, 186, 185, 184, 183, 181,
    180, 179, 178, 176, 175, 174, 173, 172, 170, 169, 168, 167, 166, 165, 164, 163,
    162, 160, 159, 158, 157, 156, 155, 154, 153, 152, 151, 150, 149, 148, 147, 146,
    145, 144, 143, 142, 141, 140, 140, 139, 138, 137, 136, 135, 134, 133, 132, 131,
    131, 130, 129, 128, 127, 126, 126, 125, 124, 123, 122, 121, 121, 120, 119, 118,
    118, 117, 116, 115, 114, 114, 113, 112, 111, 111, 110, 109, 109, 108, 107, 106,
    105, 104, 103, 101, 100,  99,  97,  96,  95,  93,  92,  91,  90,  88,  87,  86,
     85,  84,  82,  81,  80,  79,  78,  77,  76,  75,  74,  72,  71,  70,  69,  68,
     67,  66,  65,  64,  63,  62,  61,  60,  60,  59,  58,  57,  56,  55,  54,  53,
     52,  51,  51,  50,  49,  48,  47,  46,  46,  45,  44,  43,  42,  42,  41,  40,
     39,  38,  38,  37,  36,  35,  35,  34,  33,  33,  32,  31,  30,  30,  29,  28,
     28,  27,  26,  26,  25,  24,  24,  23,  22,  22,  21,  20,  20,  19,  19,  18,
     17,  17,  16,  16,  15,  14,  14,  13,  13,  12,  11,  11,  10,  10,   9,   9,
      8,   8,   7,   6,   6,   5,   5,   4,   4,   3,   3,   2,   2,   1,   1,   0,
};
uint32_t arm_recip_sqrt_estimate(uint32_t a)
{
    return 256u + recip_sqrt_table[(a < 256 ? a - 128 : 128 + (a - 256) / 2) & 255];
}
LANE do_urecpe(struct lane_op *o, uint64_t n)
{
    return n >> 31 ? (uint64_t)arm_recip_estimate((uint32_t)n >> 23) << 23 : UINT32_MAX;
}
LANE do_ursqrte(struct lane_op *o, uint64_t n)
{
    return n >> 30 ? (uint64_t)arm_recip_sqrt_estimate((uint32_t)n >> 23) << 23 : UINT32_MAX;
}

/* Narrowing: n has twice the bits of the result. */
LANE do_sqxtn(struct lane_op *o, uint64_t n) { return sat_signed(o, o->bits, sign(2 * o->bits, n)); }
LANE do_sqxtun(struct lane_op *o, uint64_t n) { return sat_unsigned(o, o->bits, sign(2 * o->bits, n)); }
LANE do_uqxtn(struct lane_op *o, uint64_t n) { return sat_unsigned(o, o->bits, n); }

static inline __attribute__((always_inline)) __int128 shift_right(struct lane_op *o, __int128 x)
{
    unsigned by = o->arg & 127;

    if (o->arg & 128)
        x += (__int128)1 << (by - 1);
    return x >> by;
}
LANE do_sqshrn(struct lane_op *o, uint64_t n) { return sat_signed(o, o->bits, shift_right(o, sign(2 * o->bits, n))); }
LANE do_sqshrun(struct lane_op *o, uint64_t n) { return sat_unsigned(o, o->bits, shift_right(o, sign(2 * o->bits, n))); }
LANE do_uqshrn(struct lane_op *o, uint64_t n) { return sat_unsigned(o, o->bits, shift_right(o, n)); }

LANE do_srshr_n(struct lane_op *o, uint64_t n)
{
    o->arg |= 128;
    return (uint64_t)shift_right(o, sign(o->bits, n));
}
LANE do_urshr_n(struct lane_op *o, uint64_t n)
{
    o->arg |= 128;
    return (uint64_t)shift_right(o, n);
}

typedef void whole1_fn(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes *n);
#define WHOLE1(name)                                                                               \
    static void all_##name(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes *n) \
    {                                                                                              \
        switch (o->size) {                                                                         \
        case 0: EACH(8, u8, do_##name(&k, n->u8[i]));                                              \
        case 1: EACH(16, u16, do_##name(&k, n->u16[i]));                                           \
        case 2: EACH(32, u32, do_##name(&k, n->u32[i]));                                           \
        default: EACH(64, u64, do_##name(&k, n->u64[i]));                                          \
        }                                                                                          \
    }
#define NARROW1(name)                                                                              \
    static void all_##name(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes *n) \
    {                                                                                              \
        switch (o->size) {                                                                         \
        case 0: EACH(8, u8, do_##name(&k, n->u16[i]));                                             \
        case 1: EACH(16, u16, do_##name(&k, n->u32[i]));                                           \
        default: EACH(32, u32, do_##name(&k, n->u64[i]));                                          \
        }                                                                                          \
    }
WHOLE1(cls) WHOLE1(clz) WHOLE1(cnt) WHOLE1(rbit) WHOLE1(sqabs) WHOLE1(sqneg) WHOLE1(urecpe) WHOLE1(ursqrte)
WHOLE1(srshr_n) WHOLE1(urshr_n)
NARROW1(sqxtn) NARROW1(sqxtun) NARROW1(uqxtn) NARROW1(sqshrn) NARROW1(sqshrun) NARROW1(uqshrn)

static whole1_fn *const one_operand[SIMD1_COUNT] = {
    [SIMD_CLS] = all_cls, [SIMD_CLZ] = all_clz, [SIMD_CNT] = all_cnt, [SIMD_RBIT] = all_rbit, [SIMD_SQABS] = all_sqabs,
    [SIMD_SQNEG] = all_sqneg, [SIMD_URECPE] = all_urecpe, [SIMD_URSQRTE] = all_ursqrte, [SIMD_SQXTN] = all_sqxtn,
    [SIMD_SQXTUN] = all_sqxtun, [SIMD_UQXTN] = all_uqxtn, [SIMD_SQSHRN] = all_sqshrn, [SIMD_SQSHRUN] = all_sqshrun,
    [SIMD_UQSHRN] = all_uqshrn,
    [SIMD_SRSHR_N] = all_srshr_n, [SIMD_URSHR_N] = all_urshr_n,
};

static struct lane_op lane_op_of(uint32_t desc)
{
    unsigned size = simd_desc_size(desc);

    return (struct lane_op){ .size = size, .bits = 8u << size, .arg = simd_desc_arg(desc) };
}

static void finish(struct cpu *c, const struct lane_op *o, uint8_t *result, const union lanes *r)
{
    if (o->saturated)
        arm(c)->fpsr |= 1u << 27;       /* not qc, which may be in a host register */
    memcpy(result, r, sizeof(*r));
}

void arm_helper_simd1(struct cpu *c, uint8_t *result, uint32_t desc, const uint8_t *np)
{
    struct lane_op o = lane_op_of(desc);
    union lanes n = load(np), r = { .u64 = { 0 } };

    one_operand[simd_desc_op(desc)](&o, &r, simd_desc_lanes(desc), &n);
    finish(c, &o, result, &r);
}

/* ---- two operands */

#define S(x) ((__int128)sign(o->bits, x))

LANE do_sqadd(struct lane_op *o, uint64_t n, uint64_t m) { return sat_signed(o, o->bits, S(n) + S(m)); }
LANE do_uqadd(struct lane_op *o, uint64_t n, uint64_t m) { return sat_unsigned(o, o->bits, (__int128)n + m); }
LANE do_sqsub(struct lane_op *o, uint64_t n, uint64_t m) { return sat_signed(o, o->bits, S(n) - S(m)); }
LANE do_uqsub(struct lane_op *o, uint64_t n, uint64_t m) { return sat_unsigned(o, o->bits, (__int128)n - m); }
LANE do_suqadd(struct lane_op *o, uint64_t n, uint64_t m) { return sat_signed(o, o->bits, S(n) + (__int128)m); }
LANE do_usqadd(struct lane_op *o, uint64_t n, uint64_t m) { return sat_unsigned(o, o->bits, (__int128)n + S(m)); }

/* x shifted by the signed low byte of m, rounded where asked; counts are cut where nothing is left of 64 bits anyway, but
 * so that a left shift of what is not zero still exceeds the width. */
static inline __attribute__((always_inline)) __int128 shift_by(__int128 x, uint64_t m, bool rounds)
{
    int by = (int8_t)m;

    if (by >= 0)
        return by > 63 ? (x == 0 ? 0 : x < 0 ? -((__int128)1 << 126) : (__int128)1 << 126) : (__int128)((unsigned __int128)x << by);
    by = -by > 66 ? 66 : -by;
    if (rounds)
        x += (__int128)1 << (by - 1);
    return x >> by;
}
/* Plain left shifts lose what is shifted out. */
LANE shift_plain(struct lane_op *o, __int128 x, uint64_t m, bool rounds)
{
    int by = (int8_t)m;

    if (by >= (int)o->bits)
        return 0;
    return by >= 0 ? (uint64_t)x << by : (uint64_t)shift_by(x, m, rounds);
}
LANE do_sshl(struct lane_op *o, uint64_t n, uint64_t m) { return shift_plain(o, S(n), m, false); }
LANE do_ushl(struct lane_op *o, uint64_t n, uint64_t m) { return shift_plain(o, n, m, false); }
LANE do_srshl(struct lane_op *o, uint64_t n, uint64_t m) { return shift_plain(o, S(n), m, true); }
LANE do_urshl(struct lane_op *o, uint64_t n, uint64_t m) { return shift_plain(o, n, m, true); }
LANE do_sqshl(struct lane_op *o, uint64_t n, uint64_t m) { return sat_signed(o, o->bits, shift_by(S(n), m, false)); }
LANE do_uqshl(struct lane_op *o, uint64_t n, uint64_t m) { return sat_unsigned(o, o->bits, shift_by(n, m, false)); }
LANE do_sqrshl(struct lane_op *o, uint64_t n, uint64_t m) { return sat_signed(o, o->bits, shift_by(S(n), m, true)); }
LANE do_uqrshl(struct lane_op *o, uint64_t n, uint64_t m) { return sat_unsigned(o, o->bits, shift_by(n, m, true)); }

LANE do_sqdmulh(struct lane_op *o, uint64_t n, uint64_t m) { return sat_signed(o, o->bits, (2 * S(n) * S(m)) >> o->bits); }
LANE do_sqrdmulh(struct lane_op *o, uint64_t n, uint64_t m)
{
    return sat_signed(o, o->bits, (2 * S(n) * S(m) + ((__int128)1 << (o->bits - 1))) >> o->bits);
}
LANE do_pmul(struct lane_op *o, uint64_t n, uint64_t m)
{
    uint64_t r = 0;

    for (unsigned i = 0; i < 8; i++)
        r ^= m >> i & 1 ? n << i : 0;
    return r;
}
LANE do_mul(struct lane_op *o, uint64_t n, uint64_t m) { return n * m; }
LANE do_sqdmull(struct lane_op *o, uint64_t n, uint64_t m) { return sat_signed(o, 2 * o->bits, 2 * S(n) * S(m)); }

typedef void whole2_fn(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes *n, const union lanes *m);
#define WHOLE2(name)                                                                               \
    static void all_##name(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes *n, const union lanes *m) \
    {                                                                                              \
        switch (o->size) {                                                                         \
        case 0: EACH(8, u8, do_##name(&k, n->u8[i], m->u8[i]));                                    \
        case 1: EACH(16, u16, do_##name(&k, n->u16[i], m->u16[i]));                                \
        case 2: EACH(32, u32, do_##name(&k, n->u32[i], m->u32[i]));                                \
        default: EACH(64, u64, do_##name(&k, n->u64[i], m->u64[i]));                               \
        }                                                                                          \
    }
#define WIDEN2(name, of)                                                                           \
    static void all_##name(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes *n, const union lanes *m) \
    {                                                                                              \
        switch (o->size) {                                                                         \
        case 0: EACH(8, u16, do_##of(&k, n->u8[i], m->u8[i]));                                     \
        case 1: EACH(16, u32, do_##of(&k, n->u16[i], m->u16[i]));                                  \
        default: EACH(32, u64, do_##of(&k, n->u32[i], m->u32[i]));                                 \
        }                                                                                          \
    }
WHOLE2(sqadd) WHOLE2(uqadd) WHOLE2(sqsub) WHOLE2(uqsub) WHOLE2(suqadd) WHOLE2(usqadd) WHOLE2(sshl) WHOLE2(ushl)
WHOLE2(srshl) WHOLE2(urshl) WHOLE2(sqshl) WHOLE2(uqshl) WHOLE2(sqrshl) WHOLE2(uqrshl) WHOLE2(sqdmulh) WHOLE2(sqrdmulh)
WHOLE2(pmul) WHOLE2(mul)
WIDEN2(sqdmull, sqdmull) WIDEN2(pmull, pmul)

static whole2_fn *const two_operands[SIMD2_COUNT] = {
    [SIMD_SQADD] = all_sqadd, [SIMD_UQADD] = all_uqadd, [SIMD_SQSUB] = all_sqsub, [SIMD_UQSUB] = all_uqsub,
    [SIMD_SUQADD] = all_suqadd, [SIMD_USQADD] = all_usqadd, [SIMD_SSHL] = all_sshl, [SIMD_USHL] = all_ushl,
    [SIMD_SRSHL] = all_srshl, [SIMD_URSHL] = all_urshl, [SIMD_SQSHL] = all_sqshl, [SIMD_UQSHL] = all_uqshl,
    [SIMD_SQRSHL] = all_sqrshl, [SIMD_UQRSHL] = all_uqrshl, [SIMD_SQDMULH] = all_sqdmulh, [SIMD_SQRDMULH] = all_sqrdmulh,
    [SIMD_PMUL] = all_pmul, [SIMD_MUL] = all_mul, [SIMD_SQDMULL] = all_sqdmull, [SIMD_PMULL] = all_pmull,
};

void arm_helper_simd2(struct cpu *c, uint8_t *result, uint32_t desc, const uint8_t *np, const uint8_t *mp)
{
    struct lane_op o = lane_op_of(desc);
    union lanes n = load(np), m = load(mp), r = { .u64 = { 0 } };

    two_operands[simd_desc_op(desc)](&o, &r, simd_desc_lanes(desc), &n, &m);
    finish(c, &o, result, &r);
}

/* ---- three operands */

typedef void whole3_fn(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes v[3]);

static void rounding_accumulate(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes v[3], int by)
{
    for (unsigned i = 0; i < lanes; i++) {
        __int128 d = S(lane(&v[0], o->size, i)), p = by * 2 * S(lane(&v[1], o->size, i)) * S(lane(&v[2], o->size, i));

        put_lane(r, o->size, i, sat_signed(o, o->bits, ((d << o->bits) + p + ((__int128)1 << (o->bits - 1))) >> o->bits));
    }
}
static void do_sqrdmlah(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes v[3]) { rounding_accumulate(o, r, lanes, v, 1); }
static void do_sqrdmlsh(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes v[3]) { rounding_accumulate(o, r, lanes, v, -1); }

/* Saturated twice: the product, then the sum. */
static void doubling_accumulate(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes v[3], int by)
{
    for (unsigned i = 0; i < lanes; i++) {
        int64_t p = sign(2 * o->bits, do_sqdmull(o, lane(&v[1], o->size, i), lane(&v[2], o->size, i)));
        int64_t d = sign(2 * o->bits, lane(&v[0], o->size + 1, i));

        put_lane(r, o->size + 1, i, sat_signed(o, 2 * o->bits, (__int128)d + by * (__int128)p));
    }
}
static void do_sqdmlal(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes v[3]) { doubling_accumulate(o, r, lanes, v, 1); }
static void do_sqdmlsl(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes v[3]) { doubling_accumulate(o, r, lanes, v, -1); }

static int32_t byte_of(const union lanes *v, unsigned n, bool is_signed) { return is_signed ? (int8_t)v->u8[n & 15] : v->u8[n & 15]; }

static void dot(union lanes *r, unsigned lanes, const union lanes v[3], bool n_signed, bool m_signed)
{
    for (unsigned i = 0; i < lanes; i++) {
        uint32_t sum = v[0].u32[i];

        for (unsigned k = 4 * i; k < 4 * i + 4; k++)
            sum += (uint32_t)(byte_of(&v[1], k, n_signed) * byte_of(&v[2], k, m_signed));
        r->u32[i] = sum;
    }
}
static void do_sdot(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes v[3]) { dot(r, lanes, v, true, true); }
static void do_udot(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes v[3]) { dot(r, lanes, v, false, false); }
static void do_usdot(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes v[3]) { dot(r, lanes, v, false, true); }

/* 2x8 by 8x2, rows of n and of m. */
static void matrix(union lanes *r, const union lanes v[3], bool n_signed, bool m_signed)
{
    for (unsigned i = 0; i < 4; i++) {
        uint32_t sum = v[0].u32[i];

        for (unsigned k = 0; k < 8; k++)
            sum += (uint32_t)(byte_of(&v[1], 8 * (i / 2) + k, n_signed) * byte_of(&v[2], 8 * (i % 2) + k, m_signed));
        r->u32[i] = sum;
    }
}
static void do_smmla(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes v[3]) { matrix(r, v, true, true); }
static void do_ummla(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes v[3]) { matrix(r, v, false, false); }
static void do_usmmla(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes v[3]) { matrix(r, v, false, true); }

static whole3_fn *const three_operands[SIMD3_COUNT] = {
    [SIMD_SQRDMLAH] = do_sqrdmlah, [SIMD_SQRDMLSH] = do_sqrdmlsh, [SIMD_SQDMLAL] = do_sqdmlal, [SIMD_SQDMLSL] = do_sqdmlsl,
    [SIMD_SDOT] = do_sdot, [SIMD_UDOT] = do_udot, [SIMD_USDOT] = do_usdot,
    [SIMD_SMMLA] = do_smmla, [SIMD_UMMLA] = do_ummla, [SIMD_USMMLA] = do_usmmla,
};

void arm_helper_simd3(struct cpu *c, uint8_t *result, uint32_t desc, const uint8_t *d, const uint8_t *n, const uint8_t *m)
{
    struct lane_op o = lane_op_of(desc);
    union lanes v[3] = { load(d), load(n), load(m) }, r = { .u64 = { 0 } };

    three_operands[simd_desc_op(desc)](&o, &r, simd_desc_lanes(desc), v);
    finish(c, &o, result, &r);
}
