/* What nearly all of the x87's operands are: normal numbers, rounded to nearest. Each function here says whether it did the
 * operation; where not, it left everything alone, and the function of softfloat.h does it, which asks here first. For callers to
 * whom a call matters. FLOAT_INEXACT and FLOAT_ROUNDED_UP are all the flags that these raise. */
#ifndef RHEA_BASE_SOFTFLOAT_F80_H
#define RHEA_BASE_SOFTFLOAT_F80_H

#include <stdint.h>
#include "rhea/base/softfloat.h"

enum { F80_BIAS = 16383, F80_EXP_MAX = 32767, F64_BIAS = 1023, F32_BIAS = 127 };
#define F80_TOP ((uint64_t)1 << 63)

static inline int f80_exponent(float80 a) { return a.se & 0x7fff; }
static inline bool f80_is_normal(float80 a) { return a.frac >> 63 && (unsigned)(f80_exponent(a) - 1) < F80_EXP_MAX - 1; }

static inline bool f80_plain(float80 a, float80 b, const struct float_status *s)
{
    return f80_is_normal(a) && f80_is_normal(b) && s->rounding == FLOAT_ROUND_NEAREST_EVEN;
}

/* frac, and what follows it in `low`, to the nearest multiple of lsb. true: it became 2^64, which is F80_TOP and one more exponent. */
static inline bool nearest_even(uint64_t *frac, uint64_t low, uint64_t lsb, struct float_status *s)
{
    bool up = low > F80_TOP || (low == F80_TOP && *frac & lsb);

    if (!low)
        return false;
    s->flags |= FLOAT_INEXACT | (up ? FLOAT_ROUNDED_UP : 0);
    *frac += up ? lsb : 0;
    if (*frac)
        return false;
    *frac = F80_TOP;
    return true;
}

/* n bits less of frac, and what remains of them in front of low; 0 < n < 64. */
static inline uint64_t cut(uint64_t *frac, uint64_t low, unsigned n)
{
    low = *frac << (64 - n) | (low != 0);
    *frac &= -((uint64_t)1 << n);
    return low;
}

static inline bool f80_make(bool sign, int exponent, uint64_t frac, uint64_t low, float80 *r, struct float_status *s)
{
    unsigned n = s->f80_precision ? 64 - s->f80_precision : 0;

    if ((unsigned)(exponent - 1) >= F80_EXP_MAX - 2)        /* at the greatest, rounding may overflow */
        return false;
    if (n)
        low = cut(&frac, low, n);
    exponent += nearest_even(&frac, low, (uint64_t)1 << n, s);
    *r = (float80){ .frac = frac, .se = (uint16_t)(sign << 15 | exponent) };
    return true;
}

/* ---- arithmetic */

static inline bool f80_plain_mul(float80 a, float80 b, float80 *r, struct float_status *s)
{
    unsigned __int128 p;
    int exponent = f80_exponent(a) + f80_exponent(b) - F80_BIAS;

    if (!f80_plain(a, b, s))
        return false;
    p = (unsigned __int128)a.frac * b.frac;
    if (p >> 127)
        exponent++;
    else
        p <<= 1;
    return f80_make((a.se ^ b.se) >> 15, exponent, (uint64_t)(p >> 64), (uint64_t)p, r, s);
}

/* n / d for n < 2^64 d, by the host's division where it has one of 128 bits. */
static inline uint64_t divide(unsigned __int128 n, uint64_t d, uint64_t *rest)
{
#ifdef __x86_64__
    uint64_t q;

    __asm__("divq %4" : "=a"(q), "=d"(*rest) : "0"((uint64_t)n), "1"((uint64_t)(n >> 64)), "r"(d) : "cc");
    return q;
#else
    *rest = (uint64_t)(n % d);
    return (uint64_t)(n / d);
#endif
}

static inline bool f80_plain_div(float80 a, float80 b, float80 *r, struct float_status *s)
{
    bool less = a.frac < b.frac;
    int exponent = f80_exponent(a) - f80_exponent(b) + F80_BIAS - less;
    uint64_t q, rest, low;

    if (!f80_plain(a, b, s))
        return false;
    q = divide((unsigned __int128)a.frac << (63 + less), b.frac, &rest);
    low = !rest ? 0 : rest > b.frac - rest ? F80_TOP | 1 : rest == b.frac - rest ? F80_TOP : 1;
    return f80_make((a.se ^ b.se) >> 15, exponent, q, low, r, s);
}

/* Bits that are shifted out leave one in the lowest place. */
static inline unsigned __int128 shift_down(unsigned __int128 v, unsigned n)
{
    if (n >= 128)
        return v != 0;
    return v >> n | ((v & (((unsigned __int128)1 << n) - 1)) != 0);
}

static inline bool f80_plain_add(float80 a, float80 b, float80 *r, struct float_status *s)
{
    unsigned __int128 x, y;
    int exponent;
    unsigned n;

    if (!f80_plain(a, b, s))
        return false;
    if (f80_exponent(a) < f80_exponent(b) || (f80_exponent(a) == f80_exponent(b) && a.frac < b.frac)) {
        float80 larger = b;

        b = a;
        a = larger;
    }
    exponent = f80_exponent(a);
    x = (unsigned __int128)a.frac << 63;                    /* one bit above for the carry */
    y = shift_down((unsigned __int128)b.frac << 63, exponent - f80_exponent(b));
    x = (a.se ^ b.se) >> 15 ? x - y : x + y;
    if (!x) {
        *r = (float80){ 0 };
        return true;
    }
    n = x >> 64 ? __builtin_clzll((uint64_t)(x >> 64)) : 64 + __builtin_clzll((uint64_t)x);
    x <<= n;
    return f80_make(a.se >> 15, exponent + 1 - n, (uint64_t)(x >> 64), (uint64_t)x, r, s);
}

static inline bool f80_plain_compare(float80 a, float80 b, enum float_relation *r)
{
    bool less, sign = a.se >> 15;

    if (!f80_is_normal(a) || !f80_is_normal(b))
        return false;
    less = f80_exponent(a) < f80_exponent(b) || (f80_exponent(a) == f80_exponent(b) && a.frac < b.frac);
    if (a.se == b.se && a.frac == b.frac)
        *r = FLOAT_EQUAL;
    else if (sign != b.se >> 15)
        *r = sign ? FLOAT_LESS : FLOAT_GREATER;
    else
        *r = less != sign ? FLOAT_LESS : FLOAT_GREATER;
    return true;
}

/* ---- conversions */

static inline bool f64_plain_to_f80(uint64_t a, float80 *r)
{
    unsigned exponent = a >> 52 & 2047;

    if (exponent - 1 >= 2046)
        return false;
    *r = (float80){ .frac = F80_TOP | a << 11, .se = (uint16_t)((a >> 63) << 15 | (exponent + F80_BIAS - F64_BIAS)) };
    return true;
}

static inline bool f32_plain_to_f80(uint32_t a, float80 *r)
{
    unsigned exponent = a >> 23 & 255;

    if (exponent - 1 >= 254)
        return false;
    *r = (float80){ .frac = F80_TOP | (uint64_t)a << 40, .se = (uint16_t)((a >> 31) << 15 | (exponent + F80_BIAS - F32_BIAS)) };
    return true;
}

/* To a format whose fraction has `bits` bits. */
static inline bool f80_plain_narrow(float80 a, unsigned bits, int bias, uint64_t *r, struct float_status *s)
{
    int exponent = f80_exponent(a) - F80_BIAS + bias;
    unsigned n = 63 - bits;
    uint64_t frac = a.frac, low;

    if (!f80_is_normal(a) || s->rounding != FLOAT_ROUND_NEAREST_EVEN || exponent < 1 || exponent >= 2 * bias)
        return false;
    low = cut(&frac, 0, n);
    exponent += nearest_even(&frac, low, (uint64_t)1 << n, s);
    *r = (uint64_t)exponent << bits | (frac & ~F80_TOP) >> n;
    return true;
}

static inline bool f80_plain_to_f64(float80 a, uint64_t *r, struct float_status *s)
{
    if (!f80_plain_narrow(a, 52, F64_BIAS, r, s))
        return false;
    *r |= (uint64_t)(a.se >> 15) << 63;
    return true;
}

static inline bool f80_plain_to_f32(float80 a, uint32_t *r, struct float_status *s)
{
    uint64_t v;

    if (!f80_plain_narrow(a, 23, F32_BIAS, &v, s))
        return false;
    *r = (uint32_t)v | (uint32_t)(a.se >> 15) << 31;
    return true;
}

static inline float80 f80_plain_from_int(int64_t a)
{
    uint64_t magnitude = a < 0 ? -(uint64_t)a : (uint64_t)a;
    int n = a ? __builtin_clzll(magnitude) : 0;

    return a ? (float80){ .frac = magnitude << n, .se = (uint16_t)((a < 0) << 15 | (F80_BIAS + 63 - n)) } : (float80){ 0 };
}

/* To nearest, and towards zero, as C has it. */
static inline bool f80_plain_to_int(float80 a, unsigned bits, enum float_round rounding, int64_t *r, struct float_status *s)
{
    int exponent = f80_exponent(a) - F80_BIAS;
    uint64_t whole, low;

    if (!(a.frac >> 63) || exponent < 0 || exponent > (int)bits - 3 || rounding > FLOAT_ROUND_TO_ZERO)
        return false;
    whole = a.frac >> (63 - exponent);
    low = a.frac << 1 << exponent;
    if (low && rounding == FLOAT_ROUND_TO_ZERO)
        s->flags |= FLOAT_INEXACT;
    else
        nearest_even(&whole, low, 1, s);
    *r = a.se >> 15 ? -(int64_t)whole : (int64_t)whole;
    return true;
}

#endif
