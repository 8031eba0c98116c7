/* 128-bit significands: the primitives of softfloat_parts.h and the packing of f80 and f128. */
#include <stdint.h>

typedef unsigned __int128 frac_t;

#include "softfloat_parts.h"
#include "softfloat_ops.h"

static const struct float_format f80_format = { 63, 16383, 32767, true, false };
static const struct float_format f128_format = { 112, 16383, 32767, false, false };

static inline int frac_clz(frac_t a)
{
    uint64_t hi = (uint64_t)(a >> 64);

    return hi ? __builtin_clzll(hi) : 64 + __builtin_clzll((uint64_t)a);
}

static inline frac_t frac_mul(frac_t a, frac_t b, frac_t *lo)
{
    uint64_t a1 = (uint64_t)(a >> 64), a0 = (uint64_t)a;
    uint64_t b1 = (uint64_t)(b >> 64), b0 = (uint64_t)b;
    frac_t high = (frac_t)a1 * b1, mid, low, sum;

    *lo = 0;
    if (!(a0 | b0))             /* always so for f80 */
        return high;
    low = (frac_t)a0 * b0;
    sum = (frac_t)a1 * b0 + (low >> 64);
    mid = (frac_t)a0 * b1 + (uint64_t)sum;
    *lo = (mid << 64) | (uint64_t)low;
    return high + (sum >> 64) + (mid >> 64);
}

/* (*n : digit) / d for *n < d, d's top bit set; *n becomes the remainder. Knuth, TAOCP 4.3.1, D. */
static inline uint64_t div_digit(frac_t *n, uint64_t digit, frac_t d)
{
    uint64_t d1 = (uint64_t)(d >> 64), d0 = (uint64_t)d;
    frac_t q, r;

    if (*n >> 64 >= d1) {
        q = UINT64_MAX;
        r = *n - q * d1;
    } else {
        q = *n / d1;
        r = *n % d1;
    }
    while (!(r >> 64) && q * d0 > ((r << 64) | digit)) {
        q--;
        r += d1;
    }
    *n = ((*n << 64) | digit) - q * d;
    return (uint64_t)q;
}

static inline frac_t frac_div(frac_t hi, frac_t d, frac_t *rem)
{
    uint64_t q1 = div_digit(&hi, 0, d);
    uint64_t q0 = div_digit(&hi, 0, d);

    *rem = hi;
    return ((frac_t)q1 << 64) | q0;
}

static inline uint64_t frac_mod_step(frac_t *r, int k, frac_t d)
{
    frac_t n = *r >> (64 - k);
    uint64_t q = div_digit(&n, (uint64_t)(*r << k), d);

    *r = n;
    return q;
}

/* One more step of sqrt_128's recursion. The low 128 bits of the radicand are zero, and so is the low
 * bit of `a` (the formats leave it clear), which is all the digits this step would have to add. */
static inline frac_t frac_sqrt(frac_t a, bool *inexact)
{
    frac_t r, root, q, u, square;
    uint64_t s = sqrt_128(a, &r);
    __int128 high;

    q = (r << 63) / s;          /* (r * 2^64) / 2s */
    u = 2 * ((r << 63) - q * s);
    root = ((frac_t)s << 64) + q;
    if (q >> 64) {
        *inexact = true;
        return root - 1;
    }
    square = q * q;
    high = (__int128)u - (__int128)(square >> 64) - ((uint64_t)square != 0);
    *inexact = u || q;
    return high < 0 ? root - 1 : root;
}

static inline struct parts f80_unpack(float80 a, struct float_status *s)
{
    return parts_unpack(a.se >> 15, a.se & 0x7fff, a.frac, &f80_format, s);
}

static inline float80 f80_pack_exact(struct parts p)
{
    int exp;
    frac_t frac = parts_fields(&p, &f80_format, &exp);

    return (float80){ .frac = (uint64_t)frac, .se = (uint16_t)(p.sign << 15 | exp) };
}

static inline float80 f80_pack(struct parts p, struct float_status *s)
{
    if (p.class == CLASS_NORMAL)
        parts_round(&p, &f80_format, 64, s);
    return f80_pack_exact(p);
}

static inline float80 f80_pack_arithmetic(struct parts p, struct float_status *s)
{
    if (p.class == CLASS_NORMAL)
        parts_round(&p, &f80_format, s->f80_precision ? s->f80_precision : 64, s);
    return f80_pack_exact(p);
}

static inline float80 f80_negate(float80 a)
{
    a.se ^= 0x8000;
    return a;
}

static inline struct parts f128_unpack(float128 a, struct float_status *s)
{
    frac_t frac = (frac_t)(a.hi & 0xffffffffffff) << 64 | a.lo;

    return parts_unpack(a.hi >> 63, (int)(a.hi >> 48) & 0x7fff, frac, &f128_format, s);
}

static inline float128 f128_pack_exact(struct parts p)
{
    int exp;
    frac_t frac = parts_fields(&p, &f128_format, &exp);

    return (float128){
        .lo = (uint64_t)frac,
        .hi = (uint64_t)p.sign << 63 | (uint64_t)exp << 48 | (uint64_t)(frac >> 64),
    };
}

static inline float128 f128_pack(struct parts p, struct float_status *s)
{
    if (p.class == CLASS_NORMAL)
        parts_round(&p, &f128_format, 113, s);
    return f128_pack_exact(p);
}

static inline float128 f128_pack_arithmetic(struct parts p, struct float_status *s)
{
    return f128_pack(p, s);
}

static inline float128 f128_negate(float128 a)
{
    a.hi ^= (uint64_t)1 << 63;
    return a;
}
