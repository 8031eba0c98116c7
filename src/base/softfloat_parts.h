/* The arithmetic of softfloat on unpacked numbers, for one width of significand.
 *
 * A source file defines `frac_t` (uint64_t or unsigned __int128) and the four primitives declared
 * below before it includes this; everything else is the same for all formats. The two widths exist
 * because binary64 on 64-bit significands is several times faster than on 128-bit ones. */
#include <string.h>

#include "rhea/base/softfloat.h"

/* A number between unpacking and rounding. Invariants:
 * (1) NORMAL: value = (-1)^sign * frac * 2^(exp - (FRAC_WIDTH - 1)), the top bit of frac is set; bits
 *     below the format's precision are exact but for the lowest, which stands for all lost ones;
 * (2) QNAN, SNAN: frac is the fraction field aligned below the (clear) top bit. */
enum parts_class {
    CLASS_ZERO,
    CLASS_NORMAL,
    CLASS_INF,
    CLASS_QNAN,
    CLASS_SNAN,
    CLASS_UNSUPPORTED,          /* x87 unnormals and pseudo forms (SDM vol. 1, 8.2.2) */
};

struct parts {
    frac_t frac;
    int32_t exp;
    uint8_t class;
    bool sign;
    bool denormal;              /* was a denormal operand, not flushed */
};

struct float_format {
    int frac_bits;              /* stored fraction, without the integer bit */
    int bias;
    int exp_max;                /* the all-ones exponent */
    bool explicit_int;          /* the integer bit is stored: f80 */
    bool finite;                /* all ones is an exponent like others: Arm's alternative f16 */
};

#define FRAC_WIDTH ((int)sizeof(frac_t) * 8)
#define FRAC_TOP ((frac_t)1 << (FRAC_WIDTH - 1))
#define FRAC_QUIET (FRAC_TOP >> 1)

/* Primitives of the width. */
static inline int frac_clz(frac_t a);
static inline frac_t frac_mul(frac_t a, frac_t b, frac_t *lo);          /* the high half */
/* (hi:lo) / d for hi < d, d with its top bit set. */
static inline frac_t frac_div(frac_t hi, frac_t d, frac_t *rem);        /* lo = 0 */
/* (r << k) / d, 0 < k <= 64, r < d, d's top bit set: quotient of k bits, r becomes the remainder. */
static inline uint64_t frac_mod_step(frac_t *r, int k, frac_t d);
/* floor(sqrt(a * 2^FRAC_WIDTH)) for a with one of its top two bits set. */
static inline frac_t frac_sqrt(frac_t a, bool *inexact);

/* floor(sqrt(a)) and the remainder, for a with one of its top two bits set: Zimmermann's Karatsuba
 * square root, from the root of the upper half. */
static inline uint64_t sqrt_128(unsigned __int128 a, unsigned __int128 *rem);

static const struct float_format f16_format = { 10, 15, 31, false, false };
static const struct float_format f32_format = { 23, 127, 255, false, false };
static const struct float_format f64_format = { 52, 1023, 2047, false, false };

/* Shifts right, keeping in the lowest bit whether anything was lost. */
static inline frac_t frac_shr_jam(frac_t a, int n)
{
    if (n == 0)
        return a;
    if (n >= FRAC_WIDTH)
        return a != 0;
    return (a >> n) | ((a << (FRAC_WIDTH - n)) != 0);
}

static inline uint32_t sqrt_64(uint64_t a, uint64_t *rem)
{
    uint32_t root = 0, top = (uint32_t)(a >> 32);
    uint64_t left = 0, r, q, u;
    int64_t low;

    /* Sixteen bits, a bit at a time. */
    for (int i = 30; i >= 0; i -= 2) {
        left = (left << 2) | ((top >> i) & 3);
        root <<= 1;
        if (left > 2 * (uint64_t)root) {
            left -= 2 * root + 1;
            root++;
        }
    }
    r = (left << 16) | ((a >> 16) & 0xffff);
    q = r / (2 * root);
    u = r % (2 * root);
    low = (int64_t)((u << 16) | (a & 0xffff)) - (int64_t)(q * q);
    r = ((uint64_t)root << 16) + q;
    if (low < 0) {
        low += 2 * (int64_t)r - 1;
        r--;
    }
    *rem = (uint64_t)low;
    return (uint32_t)r;
}

static inline uint64_t sqrt_128(unsigned __int128 a, unsigned __int128 *rem)
{
    uint64_t r, q, u, root = sqrt_64((uint64_t)(a >> 64), &r), middle;
    __int128 low;
    unsigned __int128 wide;

    /* (r : next 32 bits) / 2 root, without its 65th bit */
    middle = (r << 31) | ((uint64_t)a >> 33);
    q = middle / root;
    u = 2 * (middle % root) + (((uint64_t)a >> 32) & 1);
    low = ((__int128)u << 32 | (uint32_t)a) - (__int128)((unsigned __int128)q * q);
    wide = ((unsigned __int128)root << 32) + q;
    if (low < 0) {
        low += 2 * (__int128)wide - 1;
        wide--;
    }
    *rem = (unsigned __int128)low;
    return (uint64_t)wide;
}

static inline bool parts_is_nan(const struct parts *p)
{
    return p->class >= CLASS_QNAN;
}

static inline struct parts parts_special(enum parts_class class, bool sign)
{
    return (struct parts){ .class = class, .sign = sign };
}

static inline struct parts parts_default_nan(const struct float_status *s)
{
    return (struct parts){
        .class = CLASS_QNAN,
        .sign = s->rules->default_nan_negative,
        .frac = s->rules->snan_bit_set ? FRAC_QUIET - 1 : FRAC_QUIET,
    };
}

static inline struct parts parts_invalid(struct float_status *s, uint32_t why)
{
    float_raise(s, FLOAT_INVALID | why);
    return parts_default_nan(s);
}

static inline struct parts parts_silence(struct parts p, const struct float_status *s)
{
    if (p.class == CLASS_QNAN)
        return p;
    if (s->rules->snan_bit_set)
        return parts_default_nan(s);
    p.class = CLASS_QNAN;
    p.frac |= FRAC_QUIET;
    return p;
}

/* ---- unpacking, rounding, packing ------------------------------------------------------------ */

/* `frac` is the stored fraction, for f80 with its integer bit. */
static inline struct parts parts_unpack(bool sign, int exp, frac_t frac,
                                        const struct float_format *f, struct float_status *s)
{
    struct parts p = { .sign = sign };
    int shift = FRAC_WIDTH - 1 - f->frac_bits;
    bool int_bit = f->explicit_int && (frac >> f->frac_bits);

    frac <<= shift;
    if (__builtin_expect(exp != 0 && (exp != f->exp_max || f->finite), 1)) {
        p.class = !f->explicit_int || int_bit ? CLASS_NORMAL : CLASS_UNSUPPORTED;
        p.exp = exp - f->bias;
        p.frac = frac | FRAC_TOP;
    } else if (exp == 0) {
        if (!frac) {
            p.class = CLASS_ZERO;
        } else if (s->flush_inputs) {
            float_raise(s, FLOAT_INPUT_DENORMAL_FLUSHED);
            p.class = CLASS_ZERO;
        } else {
            int n = frac_clz(frac);     /* 0 for a pseudo-denormal */

            p.class = CLASS_NORMAL;
            p.denormal = true;
            p.exp = 1 - f->bias - n;
            p.frac = frac << n;
        }
    } else if (f->explicit_int && !int_bit) {
        p.class = CLASS_UNSUPPORTED;
    } else {
        p.frac = frac & ~FRAC_TOP;
        if (!p.frac)
            p.class = CLASS_INF;
        else
            p.class = (bool)(p.frac & FRAC_QUIET) == s->rules->snan_bit_set ? CLASS_SNAN
                                                                          : CLASS_QNAN;
    }
    return p;
}

/* What to add below `lsb` so that truncation rounds as asked. */
static inline frac_t round_increment(frac_t frac, frac_t lsb, bool sign, enum float_round rounding)
{
    frac_t mask = lsb - 1, half = lsb >> 1;

    switch (rounding) {
    case FLOAT_ROUND_NEAREST_EVEN:
        return (frac & (mask | lsb)) == half ? 0 : half;
    case FLOAT_ROUND_NEAREST_AWAY:
        return half;
    case FLOAT_ROUND_DOWN:
        return sign ? mask : 0;
    case FLOAT_ROUND_UP:
        return sign ? 0 : mask;
    case FLOAT_ROUND_TO_ODD:
        return frac & lsb ? 0 : mask;
    case FLOAT_ROUND_TO_ZERO:
        break;
    }
    return 0;
}

/* Does an overflow go to infinity, rather than to the greatest finite number? */
static inline bool overflow_is_inf(bool sign, enum float_round rounding)
{
    switch (rounding) {
    case FLOAT_ROUND_NEAREST_EVEN:
    case FLOAT_ROUND_NEAREST_AWAY:
        return true;
    case FLOAT_ROUND_DOWN:
        return sign;
    case FLOAT_ROUND_UP:
        return !sign;
    case FLOAT_ROUND_TO_ZERO:
    case FLOAT_ROUND_TO_ODD:
        break;
    }
    return false;
}

static inline void round_overflow(struct parts *p, frac_t mask, const struct float_format *f,
                           struct float_status *s)
{
    if (f->finite) {
        float_raise(s, FLOAT_INVALID);
        p->exp = f->exp_max;
        p->frac = ~mask;
        return;
    }
    float_raise(s, FLOAT_OVERFLOW | FLOAT_INEXACT);
    if (overflow_is_inf(p->sign, s->rounding)) {
        float_raise(s, FLOAT_ROUNDED_UP);
        p->class = CLASS_INF;
    } else {
        p->exp = f->exp_max - 1;
        p->frac = ~mask;
    }
}

/* The result has a biased exponent of 0 or less before rounding. */
static inline void round_tiny(struct parts *p, int biased, frac_t lsb, struct float_status *s)
{
    frac_t mask = lsb - 1, inc = round_increment(p->frac, lsb, p->sign, s->rounding), sum;
    bool tiny = s->rules->tininess_before || biased < 0 || (frac_t)(p->frac + inc) >= p->frac;

    if (tiny && s->flush_to_zero) {
        float_raise(s, FLOAT_OUTPUT_DENORMAL_FLUSHED | FLOAT_TINY | s->rules->flush_flags);
        p->class = CLASS_ZERO;
        return;
    }
    p->frac = frac_shr_jam(p->frac, 1 - biased);
    if (tiny)
        float_raise(s, FLOAT_TINY);
    if (p->frac & mask) {
        float_raise(s, tiny ? FLOAT_UNDERFLOW | FLOAT_INEXACT : FLOAT_INEXACT);
        sum = p->frac + round_increment(p->frac, lsb, p->sign, s->rounding);
        if ((sum ^ p->frac) & ~mask)
            float_raise(s, FLOAT_ROUNDED_UP);
        p->frac = sum & ~mask;
    }
    p->exp = p->frac & FRAC_TOP ? 1 : 0;
}

/* Rounds a NORMAL number to `precision` bits and the format's range. Afterwards exp is the biased
 * exponent (0: denormal or zero). The class may have become INF or ZERO. */
static inline void parts_round(struct parts *p, const struct float_format *f, int precision,
                               struct float_status *s)
{
    frac_t lsb = (frac_t)1 << (FRAC_WIDTH - precision), mask = lsb - 1, sum;
    int biased = p->exp + f->bias;

    if (__builtin_expect(biased <= 0, 0)) {
        round_tiny(p, biased, lsb, s);
        return;
    }
    if (p->frac & mask) {
        frac_t exact = p->frac;
        uint32_t flags = FLOAT_INEXACT;

        sum = exact + round_increment(exact, lsb, p->sign, s->rounding);
        if ((sum ^ exact) & ~mask)
            flags |= FLOAT_ROUNDED_UP;
        if (sum < exact) {
            sum = FRAC_TOP;
            biased++;
        }
        p->frac = sum & ~mask;
        if (biased >= f->exp_max + f->finite) {
            round_overflow(p, mask, f, s);
            return;
        }
        s->flags |= flags;
    } else if (biased >= f->exp_max + f->finite) {
        round_overflow(p, mask, f, s);
        return;
    }
    p->exp = biased;
}

/* The fields of a number that is already rounded (parts_round) or special. */
static inline frac_t parts_fields(const struct parts *p, const struct float_format *f, int *exp)
{
    frac_t frac = 0;

    switch (p->class) {
    case CLASS_ZERO:
        *exp = 0;
        return 0;
    case CLASS_NORMAL:
        *exp = p->exp;
        frac = p->frac;
        break;
    case CLASS_INF:
        *exp = f->exp_max;
        frac = FRAC_TOP;
        break;
    default:
        *exp = f->exp_max;
        frac = FRAC_TOP | p->frac;
        break;
    }
    frac >>= FRAC_WIDTH - 1 - f->frac_bits;
    if (!f->explicit_int)
        frac &= ((frac_t)1 << f->frac_bits) - 1;
    return frac;
}

/* ---- NaN choice ------------------------------------------------------------------------------ */

static inline bool nan_raise(const struct parts *list[], int n, struct float_status *s)
{
    bool unsupported = false;

    for (int i = 0; i < n; i++) {
        if (list[i]->class == CLASS_SNAN)
            float_raise(s, FLOAT_INVALID | FLOAT_INVALID_SNAN);
        unsupported |= list[i]->class == CLASS_UNSUPPORTED;
    }
    if (unsupported)
        float_raise(s, FLOAT_INVALID);
    return unsupported || s->default_nan || s->rules->nan_rule == FLOAT_NAN_DEFAULT;
}

/* SDM vol. 1, table 4-7, "x87 FPU". */
static const struct parts *nan_pick_x87(const struct parts *a, const struct parts *b)
{
    if (!parts_is_nan(a) || !parts_is_nan(b))
        return parts_is_nan(a) ? a : b;
    if (a->class != b->class)
        return a->class == CLASS_QNAN ? a : b;
    if (a->frac != b->frac)
        return a->frac > b->frac ? a : b;
    return a->sign ? b : a;
}

/* The NaN result of an operation with at least one NaN among its operands, in rule order. */
static inline struct parts nan_pick(const struct parts *list[], int n, struct float_status *s)
{
    const struct parts *best = NULL;

    if (nan_raise(list, n, s))
        return parts_default_nan(s);
    for (int i = 0; i < n; i++) {
        const struct parts *p = list[i];

        if (!parts_is_nan(p))
            continue;
        if (!best)
            best = p;
        else if (s->rules->nan_rule == FLOAT_NAN_X87)
            best = nan_pick_x87(best, p);
        else if (s->rules->nan_rule == FLOAT_NAN_SNAN_FIRST && p->class > best->class)
            best = p;
    }
    return parts_silence(*best, s);
}

static inline struct parts nan_pick2(const struct parts *a, const struct parts *b, struct float_status *s)
{
    return nan_pick((const struct parts *[]){ a, b }, 2, s);
}

static inline struct parts nan_pick1(const struct parts *a, struct float_status *s)
{
    return nan_pick(&a, 1, s);
}

static inline void raise_denormal(const struct parts *a, const struct parts *b,
                                  struct float_status *s)
{
    if (__builtin_expect(a->denormal | b->denormal, 0))
        float_raise(s, FLOAT_INPUT_DENORMAL);
}

/* ---- arithmetic ------------------------------------------------------------------------------ */

static inline struct parts parts_normalize(struct parts p)
{
    int n;

    if (!p.frac)
        return parts_special(CLASS_ZERO, p.sign);
    n = frac_clz(p.frac);
    p.frac <<= n;
    p.exp -= n;
    return p;
}

/* |a| + |b| for normal numbers, with a's sign. */
static inline struct parts add_magnitudes(struct parts a, struct parts b)
{
    frac_t sum;

    if (a.exp < b.exp) {
        struct parts t = a;

        a.frac = b.frac;
        a.exp = b.exp;
        b = t;
    }
    sum = a.frac + frac_shr_jam(b.frac, a.exp - b.exp);
    if (sum < a.frac) {
        sum = (sum >> 1) | (sum & 1) | FRAC_TOP;
        a.exp++;
    }
    a.frac = sum;
    return a;
}

/* |a| - |b| for normal numbers, with a's sign, or its opposite when |b| is greater. */
static inline struct parts sub_magnitudes(struct parts a, struct parts b, struct float_status *s)
{
    if (a.exp < b.exp || (a.exp == b.exp && a.frac < b.frac)) {
        struct parts t = a;

        a = b;
        a.sign = !t.sign;
        b = t;
    }
    a.frac -= frac_shr_jam(b.frac, a.exp - b.exp);
    if (!a.frac)
        return parts_special(CLASS_ZERO, s->rounding == FLOAT_ROUND_DOWN);
    return parts_normalize(a);
}

static inline struct parts parts_add(struct parts a, struct parts b, bool subtract,
                                     struct float_status *s)
{
    bool b_sign = b.sign ^ subtract;

    if (__builtin_expect(a.class == CLASS_NORMAL && b.class == CLASS_NORMAL, 1)) {
        raise_denormal(&a, &b, s);
        return a.sign == b_sign ? add_magnitudes(a, b) : sub_magnitudes(a, b, s);
    }
    if (parts_is_nan(&a) || parts_is_nan(&b))
        return nan_pick2(&a, &b, s);
    if (a.class == CLASS_INF && b.class == CLASS_INF && a.sign != b_sign)
        return parts_invalid(s, FLOAT_INVALID_INF_SUB_INF);
    raise_denormal(&a, &b, s);
    b.sign = b_sign;
    if (a.class == CLASS_ZERO && b.class == CLASS_ZERO) {
        if (a.sign != b.sign)
            a.sign = s->rounding == FLOAT_ROUND_DOWN;
        return a;
    }
    if (a.class == CLASS_INF || b.class == CLASS_ZERO)
        return a;
    return b;
}

static inline struct parts parts_mul(struct parts a, struct parts b, struct float_status *s)
{
    bool sign = a.sign ^ b.sign;

    if (__builtin_expect(a.class == CLASS_NORMAL && b.class == CLASS_NORMAL, 1)) {
        frac_t lo, hi = frac_mul(a.frac, b.frac, &lo);

        raise_denormal(&a, &b, s);
        a.sign = sign;
        a.exp += b.exp + 1;
        if (!(hi & FRAC_TOP)) {
            hi = (hi << 1) | (lo >> (FRAC_WIDTH - 1));
            lo <<= 1;
            a.exp--;
        }
        a.frac = hi | (lo != 0);
        return a;
    }
    if (parts_is_nan(&a) || parts_is_nan(&b))
        return nan_pick2(&a, &b, s);
    if (a.class + b.class == CLASS_ZERO + CLASS_INF && a.class != b.class &&
        (a.class == CLASS_ZERO || b.class == CLASS_ZERO))
        return parts_invalid(s, FLOAT_INVALID_INF_MUL_ZERO);
    raise_denormal(&a, &b, s);
    return parts_special(a.class == CLASS_INF || b.class == CLASS_INF ? CLASS_INF : CLASS_ZERO, sign);
}

static inline struct parts parts_div(struct parts a, struct parts b, struct float_status *s)
{
    bool sign = a.sign ^ b.sign;

    if (__builtin_expect(a.class == CLASS_NORMAL && b.class == CLASS_NORMAL, 1)) {
        frac_t rem, q, hi = a.frac;

        raise_denormal(&a, &b, s);
        a.sign = sign;
        a.exp -= b.exp;
        if (hi >= b.frac)
            hi >>= 1;           /* exact: the formats leave the lowest bit clear */
        else
            a.exp--;
        q = frac_div(hi, b.frac, &rem);
        a.frac = q | (rem != 0);
        return a;
    }
    if (parts_is_nan(&a) || parts_is_nan(&b))
        return nan_pick2(&a, &b, s);
    if (a.class == CLASS_INF && b.class == CLASS_INF)
        return parts_invalid(s, FLOAT_INVALID_INF_DIV_INF);
    if (a.class == CLASS_ZERO && b.class == CLASS_ZERO)
        return parts_invalid(s, FLOAT_INVALID_ZERO_DIV_ZERO);
    if (b.class == CLASS_ZERO && a.class != CLASS_INF) {
        float_raise(s, FLOAT_DIVBYZERO);
        return parts_special(CLASS_INF, sign);
    }
    raise_denormal(&a, &b, s);
    return parts_special(a.class == CLASS_INF || b.class == CLASS_ZERO ? CLASS_INF : CLASS_ZERO,
                         sign);
}

static inline struct parts parts_sqrt(struct parts a, struct float_status *s)
{
    bool inexact;

    if (parts_is_nan(&a))
        return nan_pick1(&a, s);
    if (a.class == CLASS_ZERO)
        return a;
    if (a.sign)
        return parts_invalid(s, FLOAT_INVALID_SQRT);
    raise_denormal(&a, &a, s);
    if (a.class == CLASS_INF)
        return a;
    /* frac / 2^W is in [1/2, 1); with an even exponent the root of it or of its half is in [1/2, 1).
     * Halving is exact: the formats leave the lowest bit clear. */
    if (!(a.exp & 1))
        a.frac >>= 1;
    a.exp = (a.exp - (a.exp & 1)) / 2;
    a.frac = frac_sqrt(a.frac, &inexact);
    a.frac |= inexact;
    return a;
}

/* A significand of double width, for the product inside muladd. */
struct wide {
    frac_t hi, lo;
};

static inline struct wide wide_shr_jam(struct wide a, int n)
{
    if (n == 0)
        return a;
    if (n >= FRAC_WIDTH) {
        bool lost = a.lo != 0;

        a.lo = frac_shr_jam(a.hi, n - FRAC_WIDTH) | lost;
        a.hi = 0;
        return a;
    }
    a.lo = frac_shr_jam(a.lo, n) | (a.hi << (FRAC_WIDTH - n));
    a.hi >>= n;
    return a;
}

static inline struct wide wide_shl(struct wide a, int n)
{
    if (n >= FRAC_WIDTH) {
        a.hi = a.lo;
        a.lo = 0;
        n -= FRAC_WIDTH;
    }
    if (n) {
        a.hi = (a.hi << n) | (a.lo >> (FRAC_WIDTH - n));
        a.lo <<= n;
    }
    return a;
}

/* a + b or a - b of normal a and b with the exponents and signs of `pa` and `pb`. */
static inline struct parts wide_add(struct parts pa, struct wide a, struct parts pb, struct wide b,
                             struct float_status *s)
{
    struct parts r;
    struct wide sum;

    if (pa.exp < pb.exp ||
        (pa.exp == pb.exp && (a.hi < b.hi || (a.hi == b.hi && a.lo < b.lo)))) {
        struct parts tp = pa;
        struct wide t = a;

        pa = pb, a = b;
        pb = tp, b = t;
    }
    r = pa;
    b = wide_shr_jam(b, pa.exp - pb.exp);
    if (pa.sign == pb.sign) {
        bool carry = __builtin_add_overflow(a.lo, b.lo, &sum.lo);
        bool over = __builtin_add_overflow(a.hi, b.hi, &sum.hi);

        over |= __builtin_add_overflow(sum.hi, (frac_t)carry, &sum.hi);
        if (over) {
            sum = wide_shr_jam(sum, 1);
            sum.hi |= FRAC_TOP;
            r.exp++;
        }
    } else {
        int n;

        sum.lo = a.lo - b.lo;
        sum.hi = a.hi - b.hi - (a.lo < b.lo);
        if (!sum.hi && !sum.lo)
            return parts_special(CLASS_ZERO, s->rounding == FLOAT_ROUND_DOWN);
        n = sum.hi ? frac_clz(sum.hi) : FRAC_WIDTH + frac_clz(sum.lo);
        sum = wide_shl(sum, n);
        r.exp -= n;
    }
    r.frac = sum.hi | (sum.lo != 0);
    return r;
}

/* The NaN result of a * b + c. */
static inline struct parts muladd_nan(const struct parts *a, const struct parts *b, const struct parts *c,
                               bool inf_zero, struct float_status *s)
{
    if (inf_zero) {
        enum float_fma_inf_zero rule = s->rules->fma_inf_zero;

        if (rule != FLOAT_INF_ZERO_QUIET)
            float_raise(s, FLOAT_INVALID | FLOAT_INVALID_INF_MUL_ZERO);
        if (rule == FLOAT_INF_ZERO_DEFAULT && c->class == CLASS_QNAN)
            return parts_default_nan(s);
    }
    switch (s->rules->fma_order) {
    case FLOAT_FMA_ACB:
        return nan_pick((const struct parts *[]){ a, c, b }, 3, s);
    case FLOAT_FMA_CAB:
        return nan_pick((const struct parts *[]){ c, a, b }, 3, s);
    case FLOAT_FMA_ABC:
        break;
    }
    return nan_pick((const struct parts *[]){ a, b, c }, 3, s);
}

static inline struct parts parts_muladd(struct parts a, struct parts b, struct parts c, unsigned negate,
                                 struct float_status *s)
{
    bool sign = a.sign ^ b.sign ^ !!(negate & FLOAT_NEGATE_PRODUCT);
    bool inf_zero = (a.class == CLASS_INF && b.class == CLASS_ZERO) ||
                    (a.class == CLASS_ZERO && b.class == CLASS_INF);
    struct parts product = { .sign = sign };
    struct wide w;

    if (parts_is_nan(&a) || parts_is_nan(&b) || parts_is_nan(&c))
        return muladd_nan(&a, &b, &c, inf_zero, s);
    if (inf_zero)
        return parts_invalid(s, FLOAT_INVALID_INF_MUL_ZERO);
    c.sign ^= !!(negate & FLOAT_NEGATE_ADDEND);
    if (a.class == CLASS_INF || b.class == CLASS_INF)
        product.class = CLASS_INF;
    else
        product.class = a.class == CLASS_NORMAL && b.class == CLASS_NORMAL ? CLASS_NORMAL
                                                                           : CLASS_ZERO;
    if (product.class == CLASS_INF && c.class == CLASS_INF && product.sign != c.sign)
        return parts_invalid(s, FLOAT_INVALID_INF_SUB_INF);
    raise_denormal(&a, &b, s);
    raise_denormal(&c, &c, s);
    if (product.class == CLASS_INF || c.class == CLASS_INF)
        return parts_special(CLASS_INF, product.class == CLASS_INF ? product.sign : c.sign);
    if (product.class == CLASS_ZERO) {
        if (c.class == CLASS_ZERO && c.sign != product.sign)
            c.sign = s->rounding == FLOAT_ROUND_DOWN;
        return c;
    }

    w.hi = frac_mul(a.frac, b.frac, &w.lo);
    product.exp = a.exp + b.exp + 1;
    if (!(w.hi & FRAC_TOP)) {
        w = wide_shl(w, 1);
        product.exp--;
    }
    if (c.class == CLASS_ZERO) {
        product.frac = w.hi | (w.lo != 0);
        return product;
    }
    return wide_add(product, w, c, (struct wide){ c.frac, 0 }, s);
}

/* The remainder of normal numbers, exact. The reduction ends when the exponents still differ by `stop`
 * (0: it is complete; more: an x87 partial remainder, of multiples of b * 2^stop). *quotient gets the quotient's low bits. */
static inline struct parts rem_normal(struct parts a, struct parts b, bool nearest, int stop,
                               uint64_t *quotient)
{
    frac_t d = b.frac, r = a.frac;
    int diff = a.exp - b.exp;
    uint64_t q = 0;

    *quotient = 0;
    if (diff < -1 || (diff < 0 && !nearest))
        return a;
    if (diff >= 0) {
        if (r >= d) {
            r -= d;
            q = 1;
        }
        for (int left = diff - stop; left > 0;) {
            int k = left < 64 ? left : 63;

            q = (q << k) + frac_mod_step(&r, k, d);
            left -= k;
        }
        a.exp = b.exp + stop;
    }
    if (nearest && diff < 0) {
        /* Here r counts halves of d's unit. */
        if (r > d) {
            r = d - (r - d);
            a.sign = !a.sign;
            q++;
        }
    } else if (nearest && (r > d >> 1 || (r == d >> 1 && (q & 1)))) {
        r = d - r;
        a.sign = !a.sign;
        q++;
    }
    *quotient = q;
    a.frac = r;
    return parts_normalize(a);
}

static inline struct parts parts_rem(struct parts a, struct parts b, bool nearest, int stop, uint64_t *q,
                              struct float_status *s)
{
    *q = 0;
    if (parts_is_nan(&a) || parts_is_nan(&b))
        return nan_pick2(&a, &b, s);
    if (a.class == CLASS_INF || b.class == CLASS_ZERO)
        return parts_invalid(s, 0);
    raise_denormal(&a, &b, s);
    if (a.class == CLASS_ZERO || b.class == CLASS_INF)
        return a;
    return rem_normal(a, b, nearest, stop, q);
}

/* ---- integers -------------------------------------------------------------------------------- */

/* Rounds a NORMAL number to an integral one (or to ZERO); true if it changed. */
static inline bool round_integral(struct parts *p, enum float_round rounding, struct float_status *s)
{
    frac_t lsb, mask, sum;

    if (p->exp >= FRAC_WIDTH - 1)
        return false;
    if (p->exp < 0) {
        p->frac = frac_shr_jam(p->frac, p->exp < -FRAC_WIDTH ? FRAC_WIDTH : -p->exp);
        p->exp = 0;
    }
    lsb = FRAC_TOP >> p->exp;
    mask = lsb - 1;
    if (!(p->frac & mask))
        return false;
    sum = p->frac + round_increment(p->frac, lsb, p->sign, rounding);
    if ((sum ^ p->frac) & ~mask)
        float_raise(s, FLOAT_ROUNDED_UP);
    if (sum < p->frac) {
        sum = FRAC_TOP;
        p->exp++;
    }
    p->frac = sum & ~mask;
    if (!p->frac)
        p->class = CLASS_ZERO;
    return true;
}

static inline struct parts parts_round_to_int(struct parts p, enum float_round rounding, bool exact,
                                       struct float_status *s)
{
    if (parts_is_nan(&p))
        return nan_pick1(&p, s);
    if (p.class != CLASS_NORMAL)
        return p;
    if (round_integral(&p, rounding, s) && exact)
        float_raise(s, FLOAT_INEXACT);
    return p;
}

/* The result of an invalid conversion to an integer of `bits` bits. */
static inline uint64_t int_invalid(const struct parts *p, unsigned bits, bool is_signed,
                            struct float_status *s)
{
    uint64_t all = UINT64_MAX >> (64 - bits);
    uint64_t max = is_signed ? all >> 1 : all;
    uint64_t min = is_signed ? ~max : 0;        /* sign-extended */
    uint64_t bound = p->sign ? min : max;

    s->flags &= ~(uint32_t)FLOAT_ROUNDED_UP;
    float_raise(s, FLOAT_INVALID | FLOAT_INVALID_CONVERT);
    if (p->class == CLASS_SNAN)
        float_raise(s, FLOAT_INVALID_SNAN);
    switch (s->rules->int_rule) {
    case FLOAT_INT_INDEFINITE:
        return is_signed ? min : max;
    case FLOAT_INT_MAX:
        return max;
    case FLOAT_INT_SATURATE_NAN_ZERO:
        return parts_is_nan(p) ? 0 : bound;
    case FLOAT_INT_SATURATE_NAN_MAX:
        return parts_is_nan(p) ? max : bound;
    case FLOAT_INT_SATURATE_NAN_MIN:
        break;
    }
    return parts_is_nan(p) ? min : bound;
}

static inline int clamp_scale(int n)
{
    return n > 0x10000 ? 0x10000 : n < -0x10000 ? -0x10000 : n;
}

static inline uint64_t parts_to_int(struct parts p, unsigned bits, bool is_signed, int scale,
                             enum float_round rounding, struct float_status *s)
{
    uint64_t magnitude, limit;
    bool inexact;

    if (p.class == CLASS_ZERO)
        return 0;
    if (p.class != CLASS_NORMAL)
        return int_invalid(&p, bits, is_signed, s);
    p.exp += clamp_scale(scale);
    inexact = round_integral(&p, rounding, s);
    if (p.class != CLASS_ZERO) {
        if (p.exp > 63)
            return int_invalid(&p, bits, is_signed, s);
        magnitude = (uint64_t)(p.frac >> (FRAC_WIDTH - 1 - p.exp));
    } else {
        magnitude = 0;
    }
    if (is_signed)
        limit = ((uint64_t)1 << (bits - 1)) - !p.sign;
    else
        limit = p.sign ? 0 : UINT64_MAX >> (64 - bits);
    if (magnitude > limit)
        return int_invalid(&p, bits, is_signed, s);
    if (inexact)
        float_raise(s, FLOAT_INEXACT);
    return p.sign ? -magnitude : magnitude;
}

static inline struct parts parts_from_int(uint64_t magnitude, bool sign, int scale)
{
    struct parts p = { .class = CLASS_NORMAL, .sign = sign };
    int n;

    if (!magnitude)
        return parts_special(CLASS_ZERO, false);
    n = __builtin_clzll(magnitude);
    p.exp = 63 - n + clamp_scale(scale);
    p.frac = (frac_t)(magnitude << n) << (FRAC_WIDTH - 64);
    return p;
}

/* ---- comparison ------------------------------------------------------------------------------ */

static inline enum float_relation compare_magnitudes(const struct parts *a, const struct parts *b)
{
    if (a->class != b->class)
        return a->class < b->class ? FLOAT_LESS : FLOAT_GREATER;
    if (a->class != CLASS_NORMAL)
        return FLOAT_EQUAL;
    if (a->exp != b->exp)
        return a->exp < b->exp ? FLOAT_LESS : FLOAT_GREATER;
    if (a->frac != b->frac)
        return a->frac < b->frac ? FLOAT_LESS : FLOAT_GREATER;
    return FLOAT_EQUAL;
}

/* Of numbers; zeros are equal. */
static inline enum float_relation compare_numbers(const struct parts *a, const struct parts *b)
{
    if (a->class == CLASS_ZERO && b->class == CLASS_ZERO)
        return FLOAT_EQUAL;
    if (a->sign != b->sign)
        return a->sign ? FLOAT_LESS : FLOAT_GREATER;
    return (enum float_relation)(a->sign ? -(int)compare_magnitudes(a, b)
                                         : (int)compare_magnitudes(a, b));
}

static inline enum float_relation parts_compare(struct parts a, struct parts b, bool quiet,
                                         struct float_status *s)
{
    if (parts_is_nan(&a) || parts_is_nan(&b)) {
        if (!quiet)
            float_raise(s, FLOAT_INVALID | FLOAT_INVALID_COMPARE);
        nan_raise((const struct parts *[]){ &a, &b }, 2, s);
        return FLOAT_UNORDERED;
    }
    raise_denormal(&a, &b, s);
    return compare_numbers(&a, &b);
}

enum minmax_choice { CHOOSE_A, CHOOSE_B, CHOOSE_NAN };

static inline enum minmax_choice minmax_nan(const struct parts *a, const struct parts *b,
                                     enum float_minmax op, struct float_status *s)
{
    bool both = parts_is_nan(a) && parts_is_nan(b);
    bool quiet = a->class <= CLASS_QNAN && b->class <= CLASS_QNAN;

    switch (op) {
    case FLOAT_MIN_X86:
    case FLOAT_MAX_X86:
        float_raise(s, FLOAT_INVALID);
        return CHOOSE_B;
    case FLOAT_MIN:
    case FLOAT_MAX:
        return CHOOSE_NAN;
    case FLOAT_MINNUM:
    case FLOAT_MAXNUM:
    case FLOAT_MINNUM_MAG:
    case FLOAT_MAXNUM_MAG:
        if (both || !quiet)
            return CHOOSE_NAN;
        break;
    case FLOAT_MINIMUM_NUMBER:
    case FLOAT_MAXIMUM_NUMBER:
        if (both)
            return CHOOSE_NAN;
        nan_raise((const struct parts *[]){ a, b }, 2, s);
        break;
    }
    return parts_is_nan(a) ? CHOOSE_B : CHOOSE_A;
}

static inline enum minmax_choice parts_minmax(const struct parts *a, const struct parts *b,
                                       enum float_minmax op, struct float_status *s)
{
    bool want_max = op & 1;
    enum float_relation order = FLOAT_EQUAL;

    if (parts_is_nan(a) || parts_is_nan(b))
        return minmax_nan(a, b, op, s);
    raise_denormal(a, b, s);
    if (op == FLOAT_MINNUM_MAG || op == FLOAT_MAXNUM_MAG)
        order = compare_magnitudes(a, b);
    if (order == FLOAT_EQUAL)
        order = compare_numbers(a, b);
    if (order == FLOAT_EQUAL) {
        if (op == FLOAT_MIN_X86 || op == FLOAT_MAX_X86)
            return CHOOSE_B;
        return a->sign != want_max ? CHOOSE_A : CHOOSE_B;
    }
    return (order == FLOAT_LESS) != want_max ? CHOOSE_A : CHOOSE_B;
}

/* ---- scaling and conversion ------------------------------------------------------------------ */

static inline struct parts parts_scalbn(struct parts p, int n, struct float_status *s)
{
    if (parts_is_nan(&p))
        return nan_pick1(&p, s);
    raise_denormal(&p, &p, s);
    if (p.class == CLASS_NORMAL)
        p.exp += clamp_scale(n);
    return p;
}

static inline struct parts parts_logb(struct parts p, struct float_status *s)
{
    if (parts_is_nan(&p))
        return nan_pick1(&p, s);
    raise_denormal(&p, &p, s);
    switch (p.class) {
    case CLASS_ZERO:
        float_raise(s, FLOAT_DIVBYZERO);
        return parts_special(CLASS_INF, true);
    case CLASS_INF:
        return parts_special(CLASS_INF, false);
    default:
        return parts_from_int((uint64_t)(p.exp < 0 ? -p.exp : p.exp), p.exp < 0, 0);
    }
}

/* On the way from one format to another. */
static inline struct parts parts_convert(struct parts p, const struct float_format *to,
                                  struct float_status *s)
{
    if (parts_is_nan(&p)) {
        p = nan_pick1(&p, s);
        /* A payload that is cut off whole would leave an infinity where quiet means a clear bit. */
        if (!(p.frac >> (FRAC_WIDTH - 1 - to->frac_bits)))
            p = parts_default_nan(s);
        return p;
    }
    raise_denormal(&p, &p, s);
    return p;
}
