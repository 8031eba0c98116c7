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

static int64_t sign(unsigned bits, uint64_t x) { return (int64_t)(x << (64 - bits)) >> (64 - bits); }
static uint64_t ones(unsigned bits) { return bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1; }

static uint64_t sat_signed(struct lane_op *o, unsigned bits, __int128 x)
{
    __int128 max = ((__int128)1 << (bits - 1)) - 1;

    if (x > max || x < -max - 1) {
        o->saturated = true;
        return (uint64_t)(x > max ? max : -max - 1);
    }
    return (uint64_t)x;
}
static uint64_t sat_unsigned(struct lane_op *o, unsigned bits, __int128 x)
{
    if (x < 0 || x > (__int128)ones(bits)) {
        o->saturated = true;
        return x < 0 ? 0 : ones(bits);
    }
    return (uint64_t)x;
}

/* ---- one operand */

typedef uint64_t lane1_fn(struct lane_op *o, uint64_t n);

static uint64_t do_clz(struct lane_op *o, uint64_t n) { return n ? (uint64_t)__builtin_clzll(n) - (64 - o->bits) : o->bits; }
static uint64_t do_cls(struct lane_op *o, uint64_t n) { return do_clz(o, (n ^ (uint64_t)(sign(o->bits, n) >> 1)) & ones(o->bits)) - 1; }
static uint64_t do_cnt(struct lane_op *o, uint64_t n) { return (uint64_t)__builtin_popcountll(n); }
static uint64_t do_rbit(struct lane_op *o, uint64_t n)
{
    uint64_t r = 0;

    for (unsigned i = 0; i < 8; i++)
        r |= (n >> i & 1) << (7 - i);
    return r;
}
static uint64_t do_sqabs(struct lane_op *o, uint64_t n)
{
    __int128 x = sign(o->bits, n);

    return sat_signed(o, o->bits, x < 0 ? -x : x);
}
static uint64_t do_sqneg(struct lane_op *o, uint64_t n) { return sat_signed(o, o->bits, -(__int128)sign(o->bits, n)); }

/* RecipEstimate(), RecipSqrtEstimate(): 9-bit tables as formulas. */
uint32_t arm_recip_estimate(uint32_t a)
{
    a = a * 2 + 1;
    return ((1u << 19) / a + 1) / 2;
}
uint32_t arm_recip_sqrt_estimate(uint32_t a)
{
    uint32_t b = 512;

    a = a < 256 ? a * 2 + 1 : ((a >> 1 << 1) + 1) * 2;
    while (a * (b + 1) * (uint64_t)(b + 1) < 1u << 28)
        b++;
    return (b + 1) / 2;
}
static uint64_t do_urecpe(struct lane_op *o, uint64_t n)
{
    return n >> 31 ? (uint64_t)arm_recip_estimate((uint32_t)n >> 23) << 23 : UINT32_MAX;
}
static uint64_t do_ursqrte(struct lane_op *o, uint64_t n)
{
    return n >> 30 ? (uint64_t)arm_recip_sqrt_estimate((uint32_t)n >> 23) << 23 : UINT32_MAX;
}

/* Narrowing: n has twice the bits of the result. */
static uint64_t do_sqxtn(struct lane_op *o, uint64_t n) { return sat_signed(o, o->bits, sign(2 * o->bits, n)); }
static uint64_t do_sqxtun(struct lane_op *o, uint64_t n) { return sat_unsigned(o, o->bits, sign(2 * o->bits, n)); }
static uint64_t do_uqxtn(struct lane_op *o, uint64_t n) { return sat_unsigned(o, o->bits, n); }

static __int128 shift_right(struct lane_op *o, __int128 x)
{
    unsigned by = o->arg & 127;

    if (o->arg & 128)
        x += (__int128)1 << (by - 1);
    return x >> by;
}
static uint64_t do_sqshrn(struct lane_op *o, uint64_t n) { return sat_signed(o, o->bits, shift_right(o, sign(2 * o->bits, n))); }
static uint64_t do_sqshrun(struct lane_op *o, uint64_t n) { return sat_unsigned(o, o->bits, shift_right(o, sign(2 * o->bits, n))); }
static uint64_t do_uqshrn(struct lane_op *o, uint64_t n) { return sat_unsigned(o, o->bits, shift_right(o, n)); }

static uint64_t do_sqshl_n(struct lane_op *o, uint64_t n) { return sat_signed(o, o->bits, (__int128)sign(o->bits, n) << (o->arg & 63)); }
static uint64_t do_uqshl_n(struct lane_op *o, uint64_t n) { return sat_unsigned(o, o->bits, (__int128)n << (o->arg & 63)); }
static uint64_t do_sqshlu_n(struct lane_op *o, uint64_t n) { return sat_unsigned(o, o->bits, (__int128)sign(o->bits, n) << (o->arg & 63)); }
static uint64_t do_srshr_n(struct lane_op *o, uint64_t n)
{
    o->arg |= 128;
    return (uint64_t)shift_right(o, sign(o->bits, n));
}
static uint64_t do_urshr_n(struct lane_op *o, uint64_t n)
{
    o->arg |= 128;
    return (uint64_t)shift_right(o, n);
}

static const struct { lane1_fn *fn; bool narrows; } one_operand[SIMD1_COUNT] = {
    [SIMD_CLS] = { do_cls }, [SIMD_CLZ] = { do_clz }, [SIMD_CNT] = { do_cnt }, [SIMD_RBIT] = { do_rbit },
    [SIMD_SQABS] = { do_sqabs }, [SIMD_SQNEG] = { do_sqneg }, [SIMD_URECPE] = { do_urecpe }, [SIMD_URSQRTE] = { do_ursqrte },
    [SIMD_SQXTN] = { do_sqxtn, true }, [SIMD_SQXTUN] = { do_sqxtun, true }, [SIMD_UQXTN] = { do_uqxtn, true },
    [SIMD_SQSHRN] = { do_sqshrn, true }, [SIMD_SQSHRUN] = { do_sqshrun, true }, [SIMD_UQSHRN] = { do_uqshrn, true },
    [SIMD_SQSHL_N] = { do_sqshl_n }, [SIMD_UQSHL_N] = { do_uqshl_n }, [SIMD_SQSHLU_N] = { do_sqshlu_n },
    [SIMD_SRSHR_N] = { do_srshr_n }, [SIMD_URSHR_N] = { do_urshr_n },
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
    unsigned op = simd_desc_op(desc);

    for (unsigned i = 0; i < simd_desc_lanes(desc); i++)
        put_lane(&r, o.size, i, one_operand[op].fn(&o, lane(&n, o.size + one_operand[op].narrows, i)));
    finish(c, &o, result, &r);
}

/* ---- two operands */

typedef uint64_t lane2_fn(struct lane_op *o, uint64_t n, uint64_t m);
#define S(x) ((__int128)sign(o->bits, x))

static uint64_t do_sqadd(struct lane_op *o, uint64_t n, uint64_t m) { return sat_signed(o, o->bits, S(n) + S(m)); }
static uint64_t do_uqadd(struct lane_op *o, uint64_t n, uint64_t m) { return sat_unsigned(o, o->bits, (__int128)n + m); }
static uint64_t do_sqsub(struct lane_op *o, uint64_t n, uint64_t m) { return sat_signed(o, o->bits, S(n) - S(m)); }
static uint64_t do_uqsub(struct lane_op *o, uint64_t n, uint64_t m) { return sat_unsigned(o, o->bits, (__int128)n - m); }
static uint64_t do_suqadd(struct lane_op *o, uint64_t n, uint64_t m) { return sat_signed(o, o->bits, S(n) + (__int128)m); }
static uint64_t do_usqadd(struct lane_op *o, uint64_t n, uint64_t m) { return sat_unsigned(o, o->bits, (__int128)n + S(m)); }

/* x shifted by the signed low byte of m, rounded where asked; counts are cut where nothing is left of 64 bits anyway, but
 * so that a left shift of what is not zero still exceeds the width. */
static __int128 shift_by(__int128 x, uint64_t m, bool rounds)
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
static uint64_t shift_plain(struct lane_op *o, __int128 x, uint64_t m, bool rounds)
{
    int by = (int8_t)m;

    if (by >= (int)o->bits)
        return 0;
    return by >= 0 ? (uint64_t)x << by : (uint64_t)shift_by(x, m, rounds);
}
static uint64_t do_sshl(struct lane_op *o, uint64_t n, uint64_t m) { return shift_plain(o, S(n), m, false); }
static uint64_t do_ushl(struct lane_op *o, uint64_t n, uint64_t m) { return shift_plain(o, n, m, false); }
static uint64_t do_srshl(struct lane_op *o, uint64_t n, uint64_t m) { return shift_plain(o, S(n), m, true); }
static uint64_t do_urshl(struct lane_op *o, uint64_t n, uint64_t m) { return shift_plain(o, n, m, true); }
static uint64_t do_sqshl(struct lane_op *o, uint64_t n, uint64_t m) { return sat_signed(o, o->bits, shift_by(S(n), m, false)); }
static uint64_t do_uqshl(struct lane_op *o, uint64_t n, uint64_t m) { return sat_unsigned(o, o->bits, shift_by(n, m, false)); }
static uint64_t do_sqrshl(struct lane_op *o, uint64_t n, uint64_t m) { return sat_signed(o, o->bits, shift_by(S(n), m, true)); }
static uint64_t do_uqrshl(struct lane_op *o, uint64_t n, uint64_t m) { return sat_unsigned(o, o->bits, shift_by(n, m, true)); }

static uint64_t do_sqdmulh(struct lane_op *o, uint64_t n, uint64_t m) { return sat_signed(o, o->bits, (2 * S(n) * S(m)) >> o->bits); }
static uint64_t do_sqrdmulh(struct lane_op *o, uint64_t n, uint64_t m)
{
    return sat_signed(o, o->bits, (2 * S(n) * S(m) + ((__int128)1 << (o->bits - 1))) >> o->bits);
}
static uint64_t do_pmul(struct lane_op *o, uint64_t n, uint64_t m)
{
    uint64_t r = 0;

    for (unsigned i = 0; i < 8; i++)
        r ^= m >> i & 1 ? n << i : 0;
    return r;
}
static uint64_t do_mul(struct lane_op *o, uint64_t n, uint64_t m) { return n * m; }
static uint64_t do_sqdmull(struct lane_op *o, uint64_t n, uint64_t m) { return sat_signed(o, 2 * o->bits, 2 * S(n) * S(m)); }

static const struct { lane2_fn *fn; bool widens; } two_operands[SIMD2_COUNT] = {
    [SIMD_SQADD] = { do_sqadd }, [SIMD_UQADD] = { do_uqadd }, [SIMD_SQSUB] = { do_sqsub }, [SIMD_UQSUB] = { do_uqsub },
    [SIMD_SUQADD] = { do_suqadd }, [SIMD_USQADD] = { do_usqadd }, [SIMD_SSHL] = { do_sshl }, [SIMD_USHL] = { do_ushl },
    [SIMD_SRSHL] = { do_srshl }, [SIMD_URSHL] = { do_urshl }, [SIMD_SQSHL] = { do_sqshl }, [SIMD_UQSHL] = { do_uqshl },
    [SIMD_SQRSHL] = { do_sqrshl }, [SIMD_UQRSHL] = { do_uqrshl }, [SIMD_SQDMULH] = { do_sqdmulh }, [SIMD_SQRDMULH] = { do_sqrdmulh },
    [SIMD_PMUL] = { do_pmul }, [SIMD_MUL] = { do_mul }, [SIMD_SQDMULL] = { do_sqdmull, true }, [SIMD_PMULL] = { do_pmul, true },
};

void arm_helper_simd2(struct cpu *c, uint8_t *result, uint32_t desc, const uint8_t *np, const uint8_t *mp)
{
    struct lane_op o = lane_op_of(desc);
    union lanes n = load(np), m = load(mp), r = { .u64 = { 0 } };
    unsigned op = simd_desc_op(desc);

    for (unsigned i = 0; i < simd_desc_lanes(desc); i++)
        put_lane(&r, o.size + two_operands[op].widens, i, two_operands[op].fn(&o, lane(&n, o.size, i), lane(&m, o.size, i)));
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

/* Structures of three: of what memory holds, and back. `lanes` is of one register. */
static void do_ld3(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes v[3])
{
    for (unsigned i = 0; i < lanes; i++) {
        unsigned n = 3 * i + o->arg;

        put_lane(r, o->size, i, lane(&v[n / lanes % 3], o->size, n % lanes));
    }
}
static void do_st3(struct lane_op *o, union lanes *r, unsigned lanes, const union lanes v[3])
{
    for (unsigned i = 0; i < lanes; i++) {
        unsigned n = lanes * o->arg + i;

        put_lane(r, o->size, i, lane(&v[n % 3], o->size, n / 3));
    }
}

static whole3_fn *const three_operands[SIMD3_COUNT] = {
    [SIMD_SQRDMLAH] = do_sqrdmlah, [SIMD_SQRDMLSH] = do_sqrdmlsh, [SIMD_SQDMLAL] = do_sqdmlal, [SIMD_SQDMLSL] = do_sqdmlsl,
    [SIMD_SDOT] = do_sdot, [SIMD_UDOT] = do_udot, [SIMD_USDOT] = do_usdot,
    [SIMD_SMMLA] = do_smmla, [SIMD_UMMLA] = do_ummla, [SIMD_USMMLA] = do_usmmla, [SIMD_LD3] = do_ld3, [SIMD_ST3] = do_st3,
};

void arm_helper_simd3(struct cpu *c, uint8_t *result, uint32_t desc, const uint8_t *d, const uint8_t *n, const uint8_t *m)
{
    struct lane_op o = lane_op_of(desc);
    union lanes v[3] = { load(d), load(n), load(m) }, r = { .u64 = { 0 } };

    three_operands[simd_desc_op(desc)](&o, &r, simd_desc_lanes(desc), v);
    finish(c, &o, result, &r);
}
