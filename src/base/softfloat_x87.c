/* What only the x87 has: partial remainders, packed decimal, constants and transcendental functions.
 * SDM vol. 1, 8.3; vol. 2, the instructions' pages with their tables of special operands. */
#include "softfloat_large.h"

static struct float_status exact_status(void)
{
    return float_status_init(&float_rules_x87);
}

bool f80_is_unsupported(float80 a)
{
    struct float_status s = exact_status();

    return f80_unpack(a, &s).class == CLASS_UNSUPPORTED;
}

/* FPREM works off at least 32 and fewer than 64 bits of the quotient at a time; as the processors do,
 * so many that the rest is a multiple of 32. */
bool f80_prem(float80 a, float80 b, bool nearest, float80 *result, unsigned *quotient,
              struct float_status *s)
{
    struct parts pa = f80_unpack(a, s), pb = f80_unpack(b, s);
    int diff = pa.exp - pb.exp, stop = 0;
    uint64_t q;

    if (pa.class == CLASS_NORMAL && pb.class == CLASS_NORMAL && diff >= 64) {
        stop = diff - (32 + diff % 32);
        nearest = false;
    }
    *result = f80_pack(parts_rem(pa, pb, nearest, stop, &q, s), s);
    *quotient = stop ? 0 : (unsigned)q;
    return stop != 0;
}

float80 f80_xtract(float80 a, float80 *exponent, struct float_status *s)
{
    struct parts p = f80_unpack(a, s);

    *exponent = f80_pack(parts_logb(p, s), s);
    if (parts_is_nan(&p))
        return *exponent;
    p.exp = 0;
    return f80_pack(p, s);
}

float80 f80_scale(float80 a, float80 n, struct float_status *s)
{
    struct parts p = f80_unpack(a, s), pn = f80_unpack(n, s);
    struct float_status scratch = *s;

    if (parts_is_nan(&p) || parts_is_nan(&pn))
        return f80_pack_exact(nan_pick2(&p, &pn, s));
    if (pn.class == CLASS_INF && p.class == (pn.sign ? CLASS_INF : CLASS_ZERO))
        return f80_pack_exact(parts_invalid(s, 0));
    raise_denormal(&p, &pn, s);
    if (pn.class == CLASS_INF && p.class == CLASS_NORMAL)
        return f80_pack_exact(parts_special(pn.sign ? CLASS_ZERO : CLASS_INF, p.sign));
    if (p.class == CLASS_NORMAL && pn.class == CLASS_NORMAL) {
        /* An invalid conversion is the far end that n lies at. */
        scratch.rules = &float_rules_arm;
        p.exp += clamp_scale((int)parts_to_int(pn, 32, true, 0, FLOAT_ROUND_TO_ZERO, &scratch));
    }
    return f80_pack(p, s);
}

/* ---- packed decimal -------------------------------------------------------------------------- */

float80 f80_from_bcd(const uint8_t bcd[10])
{
    struct float_status s = exact_status();
    struct parts p;
    uint64_t value = 0;

    for (int i = 8; i >= 0; i--)
        value = value * 100 + (bcd[i] >> 4) * 10u + (bcd[i] & 15);
    p = parts_from_int(value, bcd[9] >> 7, 0);
    p.sign = bcd[9] >> 7;
    return f80_pack(p, &s);
}

void f80_to_bcd(float80 a, uint8_t bcd[10], struct float_status *s)
{
    struct float_status scratch = *s;
    uint64_t value;

    scratch.flags = 0;
    value = (uint64_t)f80_to_int(a, 64, 0, (enum float_round)s->rounding, &scratch);
    if ((int64_t)value < 0)
        value = -value;
    if ((scratch.flags & FLOAT_INVALID) || value > 999999999999999999) {
        static const uint8_t indefinite[10] = { 0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff };

        float_raise(s, FLOAT_INVALID | FLOAT_INVALID_CONVERT);
        memcpy(bcd, indefinite, sizeof(indefinite));
        return;
    }
    float_raise(s, scratch.flags);
    for (int i = 0; i < 9; i++, value /= 100)
        bcd[i] = (uint8_t)((value / 10 % 10) << 4 | value % 10);
    bcd[9] = (a.se >> 15) << 7;
}

/* ---- constants ------------------------------------------------------------------------------- */

/* Significands truncated to 64 bits; whether the nearest one is the next. */
static const struct {
    uint64_t frac;
    uint16_t se;
    bool inexact, nearest_is_up;
} constants[] = {
    [F80_ONE]     = { 0x8000000000000000, 0x3fff, false, false },
    [F80_LOG2_10] = { 0xd49a784bcd1b8afe, 0x4000, true, false },
    [F80_LOG2_E]  = { 0xb8aa3b295c17f0bb, 0x3fff, true, true },
    [F80_PI]      = { 0xc90fdaa22168c234, 0x4000, true, true },
    [F80_LOG10_2] = { 0x9a209a84fbcff798, 0x3ffd, true, true },
    [F80_LN_2]    = { 0xb17217f7d1cf79ab, 0x3ffe, true, true },
    [F80_ZERO]    = { 0, 0, false, false },
};

float80 f80_constant(enum f80_constant which, const struct float_status *s)
{
    float80 r = { .frac = constants[which].frac, .se = constants[which].se };
    bool nearest = s->rounding == FLOAT_ROUND_NEAREST_EVEN ||
                   s->rounding == FLOAT_ROUND_NEAREST_AWAY;

    if (constants[which].inexact &&
        (nearest ? constants[which].nearest_is_up : s->rounding == FLOAT_ROUND_UP))
        r.frac++;
    return r;
}

/* ---- transcendental functions, portable ------------------------------------------------------ */

static const float128 pi = { 0x8469898cc51701b8, 0x4000921fb54442d1 };
static const float128 pi_3_4 = { 0x234f272993d1414a, 0x40002d97c7f3321d };
static const float128 ln2 = { 0xf35793c7673007e6, 0x3ffe62e42fefa39e };
static const float128 log2_e = { 0xe1777d0ffda0d23a, 0x3fff71547652b82f };

static float128 add(float128 a, float128 b)
{
    struct float_status s = exact_status();

    return f128_add(a, b, &s);
}

static float128 mul(float128 a, float128 b)
{
    struct float_status s = exact_status();

    return f128_mul(a, b, &s);
}

static float128 quotient(float128 a, float128 b)
{
    struct float_status s = exact_status();

    return f128_div(a, b, &s);
}

static float128 integer(int64_t a)
{
    struct float_status s = exact_status();

    return f128_from_int(a, 0, &s);
}

static float128 scale(float128 a, int n)
{
    struct float_status s = exact_status();

    return f128_scalbn(a, n, &s);
}

static float128 widen(float80 a)
{
    struct float_status s = exact_status();

    return f80_to_f128(a, &s);
}

/* A transcendental result is never exact: the lowest bit stands for what follows. (Infinity and zero
 * have left binary128's range, which is f80's, and are rounded as to nearest.) */
static float80 finish(float128 a, struct float_status *s)
{
    struct parts p = f128_unpack(a, s);

    p.frac |= p.class == CLASS_NORMAL;
    if (p.class == CLASS_INF)
        float_raise(s, FLOAT_OVERFLOW);
    else if (p.class == CLASS_ZERO)
        float_raise(s, FLOAT_UNDERFLOW);
    float_raise(s, FLOAT_INEXACT);
    return f80_pack(p, s);
}

/* z -+ z^3/3 + z^5/5 ...: atan (alternating) or atanh for small z. */
static float128 odd_series(float128 z, bool alternating)
{
    float128 square = mul(z, z), power = z, sum = z;

    if (alternating)
        square = f128_negate(square);
    for (int n = 3; n < 60; n += 2) {
        power = mul(power, square);
        sum = add(sum, quotient(power, integer(n)));
    }
    return sum;
}

/* The sum of z^n/n! over n = first, first + step ...; for step 2 with alternating signs. */
static float128 factorial_series(float128 z, int first, int step)
{
    float128 factor = step == 2 ? f128_negate(mul(z, z)) : z;
    float128 term = first ? z : integer(1), sum = term;

    for (int n = first + step; n < 40; n += step) {
        term = quotient(mul(term, factor), integer(step == 2 ? (int64_t)n * (n - 1) : n));
        sum = add(sum, term);
    }
    return sum;
}

float80 f80_f2xm1_portable(float80 a, struct float_status *s)
{
    struct parts p = f80_unpack(a, s);

    if (parts_is_nan(&p))
        return f80_pack_exact(nan_pick1(&p, s));
    raise_denormal(&p, &p, s);
    if (p.class == CLASS_ZERO || (p.class == CLASS_INF && !p.sign))
        return a;
    if (p.class == CLASS_INF || (p.exp == 0 && p.frac == FRAC_TOP && p.sign))
        return f80_from_int(-1, p.class == CLASS_INF ? 0 : -1, s);
    if (p.exp == 0 && p.frac == FRAC_TOP)
        return f80_constant(F80_ONE, s);
    if (p.exp >= 0)
        return a;               /* outside [-1, 1] the result is undefined */
    return finish(factorial_series(mul(widen(a), ln2), 1, 1), s);
}

/* log2 of a positive normal number in parts. */
static float128 log2_parts(struct parts p)
{
    int exp = p.exp;
    float128 m, z;

    /* m in [sqrt(1/2), sqrt(2)), so that powers of two cancel nothing */
    p.sign = false;
    p.exp = 0;
    if (p.frac >> 64 >= 0xb504f333f9de6484) {
        p.exp = -1;
        exp++;
    }
    struct float_status s = exact_status();
    m = f128_pack(p, &s);
    z = quotient(add(m, integer(-1)), add(m, integer(1)));
    return add(integer(exp), mul(scale(odd_series(z, false), 1), log2_e));
}

float80 f80_fyl2x_portable(float80 x, float80 y, struct float_status *s)
{
    struct parts px = f80_unpack(x, s), py = f80_unpack(y, s), log;

    if (parts_is_nan(&px) || parts_is_nan(&py))
        return f80_pack_exact(nan_pick2(&px, &py, s));
    if (px.sign && px.class != CLASS_ZERO)
        return f80_pack_exact(parts_invalid(s, 0));
    if (px.class == CLASS_NORMAL) {
        struct float_status q = exact_status();
        bool one = px.exp == 0 && px.frac == FRAC_TOP;

        if (py.class == CLASS_NORMAL && px.frac != FRAC_TOP) {
            raise_denormal(&px, &py, s);
            py.denormal = false;
            return finish(mul(log2_parts(px), f128_pack(py, &q)), s);
        }
        log = one ? parts_special(CLASS_ZERO, false) : f128_unpack(log2_parts(px), &q);
        log.denormal = px.denormal;
    } else {
        log = parts_special(CLASS_INF, px.class == CLASS_ZERO);
        if (px.class == CLASS_ZERO && py.class == CLASS_NORMAL)
            float_raise(s, FLOAT_DIVBYZERO);
    }
    return f80_pack(parts_mul(log, py, s), s);
}

float80 f80_fyl2xp1_portable(float80 x, float80 y, struct float_status *s)
{
    struct parts px = f80_unpack(x, s), py = f80_unpack(y, s);
    struct float_status q = exact_status();
    float128 wide, log;

    if (parts_is_nan(&px) || parts_is_nan(&py))
        return f80_pack_exact(nan_pick2(&px, &py, s));
    if (px.class != CLASS_NORMAL || py.class != CLASS_NORMAL) {
        if (px.class == CLASS_INF && px.sign)
            return f80_pack_exact(parts_invalid(s, 0));
        return f80_pack(parts_mul(px, py, s), s);
    }
    if (px.sign && px.exp >= 0)
        return f80_pack_exact(parts_invalid(s, 0));
    raise_denormal(&px, &py, s);
    py.denormal = false;
    wide = widen(x);
    if (px.exp < -2) {
        /* log(1 + x) = 2 atanh(x / (2 + x)) */
        log = scale(odd_series(quotient(wide, add(wide, integer(2))), false), 1);
        log = mul(log, log2_e);
    } else {
        log = log2_parts(f128_unpack(add(wide, integer(1)), &q));
    }
    return finish(mul(log, f128_pack(py, &q)), s);
}

/* The angle of (x, y), both positive and normal. */
static float128 angle(float128 x, float128 y)
{
    struct float_status s = exact_status();
    bool steep = f128_compare(y, x, &s) == FLOAT_GREATER;
    float128 t = steep ? quotient(x, y) : quotient(y, x);

    /* Two halvings of the angle: tan(a/2) = t / (1 + sqrt(1 + t^2)). */
    for (int i = 0; i < 2; i++) {
        float128 root = f128_sqrt(add(integer(1), mul(t, t)), &s);

        t = quotient(t, add(integer(1), root));
    }
    t = scale(odd_series(t, true), 2);
    return steep ? add(scale(pi, -1), f128_negate(t)) : t;
}

float80 f80_fpatan_portable(float80 x, float80 y, struct float_status *s)
{
    struct parts px = f80_unpack(x, s), py = f80_unpack(y, s);
    float128 r;

    if (parts_is_nan(&px) || parts_is_nan(&py))
        return f80_pack_exact(nan_pick2(&py, &px, s));
    raise_denormal(&px, &py, s);
    if (py.class == CLASS_ZERO || (px.class == CLASS_INF && py.class != CLASS_INF)) {
        if (!px.sign)
            return f80_pack_exact(parts_special(CLASS_ZERO, py.sign));
        r = pi;
    } else if (px.class == CLASS_INF) {
        r = px.sign ? pi_3_4 : scale(pi, -2);
    } else if (py.class == CLASS_INF || px.class == CLASS_ZERO) {
        r = scale(pi, -1);
    } else {
        float128 wx = widen(x), wy = widen(y);

        wx.hi &= INT64_MAX;
        wy.hi &= INT64_MAX;
        /* Far from the axis's end the angle is the ratio; f128's range is f80's. */
        r = angle(wx, wy);
        if (px.sign)
            r = add(pi, f128_negate(r));
    }
    return finish(py.sign ? f128_negate(r) : r, s);
}

/* Reduces by the 66-bit pi that the processors use (SDM vol. 1, 8.3.8); *quadrant is modulo 4. */
static float128 trig_reduce(struct parts p, unsigned *quadrant)
{
    struct parts half_pi = {
        .class = CLASS_NORMAL,
        .frac = ((frac_t)0xc90fdaa22168c234 << 64) | ((frac_t)0xc << 60),
    };
    struct float_status s = exact_status();
    uint64_t q;
    bool sign = p.sign;

    p.sign = false;
    p = rem_normal(p, half_pi, true, 0, &q);
    p.sign ^= sign;
    *quadrant = (unsigned)(sign ? -q : q) & 3;
    return f128_pack(p, &s);
}

/* Operands whose result is not computed: true, with *result (or C2) set. */
static bool trig_special(float80 a, float80 *sine, float80 *cosine, bool *c2, struct float_status *s)
{
    struct parts p = f80_unpack(a, s);

    *c2 = false;
    if (p.class == CLASS_NORMAL) {
        raise_denormal(&p, &p, s);
        *c2 = p.exp >= 63;
        return *c2;
    }
    if (p.class == CLASS_ZERO) {
        *sine = a;
        *cosine = f80_constant(F80_ONE, s);
    } else {
        p = p.class == CLASS_INF ? parts_invalid(s, 0) : nan_pick1(&p, s);
        *sine = *cosine = f80_pack_exact(p);
    }
    return true;
}

static void trig_compute(float80 a, float128 *sine, float128 *cosine)
{
    struct float_status s = exact_status();
    unsigned quadrant;
    float128 r = trig_reduce(f80_unpack(a, &s), &quadrant);
    float128 sin_r = factorial_series(r, 1, 2), cos_r = factorial_series(r, 0, 2);

    *sine = quadrant & 1 ? cos_r : sin_r;
    *cosine = quadrant & 1 ? sin_r : cos_r;
    if (quadrant & 2)
        *sine = f128_negate(*sine);
    if (quadrant == 1 || quadrant == 2)
        *cosine = f128_negate(*cosine);
}

bool f80_fsincos_portable(float80 a, float80 *sine, float80 *cosine, struct float_status *s)
{
    float128 sin_a, cos_a;
    bool c2;

    if (trig_special(a, sine, cosine, &c2, s))
        return c2;
    trig_compute(a, &sin_a, &cos_a);
    *sine = finish(sin_a, s);
    *cosine = finish(cos_a, s);
    return false;
}

bool f80_fptan_portable(float80 a, float80 *result, struct float_status *s)
{
    float128 sin_a, cos_a;
    float80 cosine;
    bool c2;

    if (trig_special(a, result, &cosine, &c2, s))
        return c2;
    trig_compute(a, &sin_a, &cos_a);
    *result = finish(quotient(sin_a, cos_a), s);
    return false;
}

/* ---- transcendental functions, by the host's x87 --------------------------------------------- */

#if defined(__x86_64__)

struct host_x87 {
    uint16_t saved, control, status;
};

/* All exceptions masked, full precision, the guest's rounding. */
static struct host_x87 host_x87_init(const struct float_status *s)
{
    static const uint16_t rc[] = {
        [FLOAT_ROUND_NEAREST_EVEN] = 0, [FLOAT_ROUND_DOWN] = 1 << 10, [FLOAT_ROUND_UP] = 2 << 10,
        [FLOAT_ROUND_TO_ZERO] = 3 << 10, [FLOAT_ROUND_NEAREST_AWAY] = 0,
        [FLOAT_ROUND_TO_ODD] = 3 << 10,
    };

    return (struct host_x87){ .control = 0x37f | rc[s->rounding] };
}

static void host_x87_flags(uint16_t sw, struct float_status *s)
{
    static const struct { uint16_t sw; uint32_t flag; } map[] = {
        { 1, FLOAT_INVALID }, { 2, FLOAT_INPUT_DENORMAL }, { 4, FLOAT_DIVBYZERO },
        { 8, FLOAT_OVERFLOW }, { 0x10, FLOAT_UNDERFLOW | FLOAT_TINY }, { 0x20, FLOAT_INEXACT },
        { 0x200, FLOAT_ROUNDED_UP },
    };

    for (unsigned i = 0; i < sizeof(map) / sizeof(map[0]); i++)
        if (sw & map[i].sw)
            float_raise(s, map[i].flag);
}

#define HOST_X87_BEGIN "fnstcw %[saved]\n\tfnclex\n\tfldcw %[control]\n\t"
#define HOST_X87_END "\n\tfnclex\n\tfldcw %[saved]"
#define HOST_X87_CLOBBERS "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"

/* One operand, one result; `drop` takes a second result off (after the status, whose C1 it clears). */
#define HOST_X87_1(insn, drop, a, r, s)                                                           \
    do {                                                                                          \
        struct host_x87 x_ = host_x87_init(s);                                                    \
                                                                                                  \
        (r).se = 0;             /* FSTP writes 10 bytes */                                        \
        __asm__ volatile(HOST_X87_BEGIN "fldt %[in]\n\t" insn "\n\tfnstsw %[status]\n\t"          \
                         drop "fstpt %[out]" HOST_X87_END                                         \
                         : [saved] "=m"(x_.saved), [status] "=m"(x_.status), [out] "+m"(r)        \
                         : [control] "m"(x_.control), [in] "m"(a)                                 \
                         : HOST_X87_CLOBBERS);                                                    \
        host_x87_flags(x_.status, s);                                                             \
    } while (0)

/* `x` is in ST(0) and `y` in ST(1); the instruction pops once. */
#define HOST_X87_2(insn, x, y, r, s)                                                              \
    do {                                                                                          \
        struct host_x87 x_ = host_x87_init(s);                                                    \
                                                                                                  \
        (r).se = 0;             /* FSTP writes 10 bytes */                                        \
        __asm__ volatile(HOST_X87_BEGIN "fldt %[in1]\n\tfldt %[in0]\n\t" insn                     \
                         "\n\tfnstsw %[status]\n\tfstpt %[out]" HOST_X87_END                      \
                         : [saved] "=m"(x_.saved), [status] "=m"(x_.status), [out] "+m"(r)        \
                         : [control] "m"(x_.control), [in0] "m"(x), [in1] "m"(y)                  \
                         : HOST_X87_CLOBBERS);                                                    \
        host_x87_flags(x_.status, s);                                                             \
    } while (0)

float80 f80_f2xm1(float80 a, struct float_status *s)
{
    float80 r;

    HOST_X87_1("f2xm1", "", a, r, s);
    return r;
}

float80 f80_fyl2x(float80 x, float80 y, struct float_status *s)
{
    float80 r;

    HOST_X87_2("fyl2x", x, y, r, s);
    return r;
}

float80 f80_fyl2xp1(float80 x, float80 y, struct float_status *s)
{
    float80 r;

    HOST_X87_2("fyl2xp1", x, y, r, s);
    return r;
}

float80 f80_fpatan(float80 x, float80 y, struct float_status *s)
{
    float80 r;

    HOST_X87_2("fpatan", x, y, r, s);
    return r;
}

bool f80_fsin(float80 a, float80 *result, struct float_status *s)
{
    float80 cosine;
    bool c2;

    if (!trig_special(a, result, &cosine, &c2, s))
        HOST_X87_1("fsin", "", a, *result, s);
    return c2;
}

bool f80_fcos(float80 a, float80 *result, struct float_status *s)
{
    float80 sine;
    bool c2;

    if (!trig_special(a, &sine, result, &c2, s))
        HOST_X87_1("fcos", "", a, *result, s);
    return c2;
}

bool f80_fsincos(float80 a, float80 *sine, float80 *cosine, struct float_status *s)
{
    struct host_x87 x = host_x87_init(s);
    bool c2;

    if (trig_special(a, sine, cosine, &c2, s))
        return c2;
    sine->se = cosine->se = 0;
    __asm__ volatile(HOST_X87_BEGIN "fldt %[in]\n\tfsincos\n\tfnstsw %[status]\n\t"
                     "fstpt %[cosine]\n\tfstpt %[sine]" HOST_X87_END
                     : [saved] "=m"(x.saved), [status] "=m"(x.status), [cosine] "+m"(*cosine),
                       [sine] "+m"(*sine)
                     : [control] "m"(x.control), [in] "m"(a)
                     : HOST_X87_CLOBBERS);
    host_x87_flags(x.status, s);
    return false;
}

bool f80_fptan(float80 a, float80 *result, struct float_status *s)
{
    float80 one;
    bool c2;

    if (!trig_special(a, result, &one, &c2, s))
        HOST_X87_1("fptan", "fstp %%st(0)\n\t", a, *result, s);
    return c2;
}

#else

float80 f80_f2xm1(float80 a, struct float_status *s)
{
    return f80_f2xm1_portable(a, s);
}

float80 f80_fyl2x(float80 x, float80 y, struct float_status *s)
{
    return f80_fyl2x_portable(x, y, s);
}

float80 f80_fyl2xp1(float80 x, float80 y, struct float_status *s)
{
    return f80_fyl2xp1_portable(x, y, s);
}

float80 f80_fpatan(float80 x, float80 y, struct float_status *s)
{
    return f80_fpatan_portable(x, y, s);
}

bool f80_fsin(float80 a, float80 *result, struct float_status *s)
{
    float80 cosine;

    return f80_fsincos_portable(a, result, &cosine, s);
}

bool f80_fcos(float80 a, float80 *result, struct float_status *s)
{
    float80 sine;

    return f80_fsincos_portable(a, &sine, result, s);
}

bool f80_fsincos(float80 a, float80 *sine, float80 *cosine, struct float_status *s)
{
    return f80_fsincos_portable(a, sine, cosine, s);
}

bool f80_fptan(float80 a, float80 *result, struct float_status *s)
{
    return f80_fptan_portable(a, result, s);
}

#endif
