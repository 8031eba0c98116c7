/* Software floating point against the host's: SSE, AVX (FMA3, F16C, AVX-512F) and x87 instructions with
 * results and exception flags to the bit, libgcc's and libquadmath's binary128; and, where no host has
 * the operation, against models. Random operands are seeded: test-softfloat [ROUNDS [SEED]]. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rhea/base/softfloat.h"

static uint64_t passed, failed;
static uint64_t rounds = 20000, seed = 1;
static const char *current = "";
static unsigned complaints;

static uint64_t random_u64(void)
{
    uint64_t z = (seed += 0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static void begin(const char *name)
{
    current = name;
    complaints = 0;
}

static bool check(bool ok)
{
    if (ok) {
        passed++;
        return true;
    }
    failed++;
    return complaints++ >= 4;           /* true: enough has been said */
}

/* ---- operands -------------------------------------------------------------------------------- */

/* Numbers of a format with `frac_bits` and an exponent of all ones `exp_max`: corners, dense
 * significands, sparse ones, and exponents near each other, near the ends, anywhere. */
static void random_fields(int frac_bits, int exp_max, bool *sign, int *exp, unsigned __int128 *frac)
{
    static int near_exp;
    uint64_t r = random_u64();
    unsigned __int128 f = ((unsigned __int128)random_u64() << 64) | random_u64();
    unsigned __int128 mask = ((unsigned __int128)1 << frac_bits) - 1;
    int bias = exp_max / 2;

    *sign = r & 1;
    switch ((r >> 1) & 7) {
    case 0: f = 0; break;
    case 1: f = (unsigned __int128)1 << (random_u64() % (unsigned)frac_bits); break;
    case 2: f = mask; break;
    case 3: f = mask << (random_u64() % (unsigned)frac_bits); break;
    case 4: f = mask >> (random_u64() % (unsigned)frac_bits); break;
    case 5: f ^= f << (random_u64() % (unsigned)frac_bits); break;
    default: break;
    }
    switch ((r >> 4) & 15) {
    case 0: *exp = 0; break;
    case 1: *exp = exp_max; break;
    case 2: *exp = 1 + (int)((r >> 16) % 3); break;
    case 3: *exp = exp_max - 1 - (int)((r >> 16) % 3); break;
    case 4: *exp = bias; break;
    case 5: case 6: *exp = near_exp; break;
    case 7: case 8: *exp = near_exp + (int)((r >> 16) % 5) - 2; break;
    case 9: *exp = near_exp + (int)((r >> 16) % 140) - 70; break;
    case 10: *exp = bias + (int)((r >> 16) % 70); break;
    case 11: *exp = bias / 2 + (int)((r >> 16) % (unsigned)(frac_bits + 4)) - frac_bits / 2; break;
    default: *exp = (int)((r >> 16) % (unsigned)(exp_max + 1)); break;
    }
    *exp = *exp < 0 ? 0 : *exp > exp_max ? exp_max : *exp;
    if (*exp != exp_max)
        near_exp = *exp;
    *frac = f & mask;
}

static uint64_t random_float(int frac_bits, int exp_max, int bits)
{
    bool sign;
    int exp;
    unsigned __int128 frac;

    random_fields(frac_bits, exp_max, &sign, &exp, &frac);
    return (uint64_t)sign << (bits - 1) | (uint64_t)exp << frac_bits | (uint64_t)frac;
}

static float16 random_f16(void) { return (float16)random_float(10, 31, 16); }
static float32 random_f32(void) { return (float32)random_float(23, 255, 32); }
static float64 random_f64(void) { return random_float(52, 2047, 64); }

static float80 random_f80(void)
{
    bool sign;
    int exp;
    unsigned __int128 frac;

    random_fields(63, 32767, &sign, &exp, &frac);
    /* The integer bit is right but for one in sixteen: unnormals, pseudo-denormals and the like. */
    return (float80){
        .frac = (uint64_t)frac | (uint64_t)((exp != 0) ^ (random_u64() % 16 == 0)) << 63,
        .se = (uint16_t)(sign << 15 | exp),
    };
}

static float128 random_f128(void)
{
    bool sign;
    int exp;
    unsigned __int128 frac;

    random_fields(112, 32767, &sign, &exp, &frac);
    return (float128){ .lo = (uint64_t)frac,
                       .hi = (uint64_t)sign << 63 | (uint64_t)exp << 48 | (uint64_t)(frac >> 64) };
}

#if defined(__x86_64__)

#include <fenv.h>
#include <immintrin.h>
#include <math.h>

/* libquadmath, whose header only gcc finds. */
__float128 fmaq(__float128, __float128, __float128);
__float128 remainderq(__float128, __float128);
__float128 rintq(__float128);

/* ---- SSE ------------------------------------------------------------------------------------- */

static const enum float_round host_rounding[4] = {
    FLOAT_ROUND_NEAREST_EVEN, FLOAT_ROUND_DOWN, FLOAT_ROUND_UP, FLOAT_ROUND_TO_ZERO,
};

enum { MXCSR_DAZ = 1 << 6, MXCSR_MASKS = 0x3f << 7, MXCSR_RC = 13, MXCSR_FTZ = 1 << 15 };

/* IE DE ZE OE UE PE, as MXCSR and the x87 status word have them. */
static unsigned x86_flags(const struct float_status *s)
{
    unsigned f = 0;

    f |= s->flags & FLOAT_INVALID ? 1 : 0;
    f |= s->flags & FLOAT_INPUT_DENORMAL ? 2 : 0;
    f |= s->flags & FLOAT_DIVBYZERO ? 4 : 0;
    f |= s->flags & FLOAT_OVERFLOW ? 8 : 0;
    f |= s->flags & FLOAT_UNDERFLOW ? 16 : 0;
    f |= s->flags & FLOAT_INEXACT ? 32 : 0;
    return f;
}

/* The 16 modes of MXCSR: rounding, FTZ, DAZ. */
static uint32_t mode_mxcsr(unsigned mode)
{
    return MXCSR_MASKS | (mode & 3) << MXCSR_RC | (mode & 4 ? MXCSR_FTZ : 0) |
           (mode & 8 ? MXCSR_DAZ : 0);
}

static struct float_status mode_status(unsigned mode)
{
    struct float_status s = float_status_init(&float_rules_x86_sse);

    s.rounding = host_rounding[mode & 3];
    s.flush_to_zero = mode & 4;
    s.flush_inputs = mode & 8;
    return s;
}

static void compare_u64(const char *what, unsigned mode, uint64_t a, uint64_t b, uint64_t c,
                        uint64_t want, unsigned want_flags, uint64_t got, unsigned got_flags)
{
    if (!check(want == got && want_flags == got_flags))
        printf("%s/%s mode %u: %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " host %" PRIx64
               " flags %02x, soft %" PRIx64 " flags %02x\n",
               current, what, mode, a, b, c, want, want_flags, got, got_flags);
}

/* Runs `insn` on xmm registers %[r] (in: a; out: result), %[b], %[c] under `mode`; the integer result of
 * conversions is in %[i]. Yields the flags. */
#define HOST_SSE(insn, mode, r, bb, cc, i)                                                        \
    ({                                                                                            \
        uint32_t old_, csr_ = mode_mxcsr(mode);                                                   \
        __m128i r_ = _mm_cvtsi64_si128((int64_t)(r)), b_ = _mm_cvtsi64_si128((int64_t)(bb)),      \
                c_ = _mm_cvtsi64_si128((int64_t)(cc));                                            \
        uint64_t i_ = (uint64_t)(i);                                                              \
        __asm__ volatile("stmxcsr %[old]\n\tldmxcsr %[csr]\n\t" insn                              \
                         "\n\tstmxcsr %[csr]\n\tldmxcsr %[old]"                                   \
                         : [r] "+x"(r_), [i] "+r"(i_), [csr] "+m"(csr_), [old] "=m"(old_)         \
                         : [b] "x"(b_), [c] "x"(c_)                                               \
                         : "cc");                                                                 \
        (r) = (__typeof__(r))_mm_cvtsi128_si64(r_);                                               \
        (i) = (__typeof__(i))i_;                                                                  \
        csr_ & 0x3f;                                                                              \
    })

#define TEST_SSE_2(T, F, insn, call)                                                              \
    do {                                                                                          \
        struct float_status s = mode_status(mode);                                                \
        T r = a, v;                                                                               \
        uint64_t i = 0;                                                                           \
        unsigned f = HOST_SSE(insn, mode, r, b, c, i);                                            \
        v = call;                                                                                 \
        compare_u64(#call, mode, a, b, c, r, f, v, x86_flags(&s));                                \
    } while (0)

/* A conversion to an integer register. */
#define TEST_SSE_INT(insn, call)                                                                  \
    do {                                                                                          \
        struct float_status s = mode_status(mode);                                                \
        __typeof__(a) r = a;                                                                      \
        __typeof__(call) i = 0, v;                                                                \
        unsigned f = HOST_SSE(insn, mode, r, b, c, i);                                            \
        s.flags = 0;                                                                              \
        v = call;                                                                                 \
        compare_u64(#call, mode, a, 0, 0, (uint64_t)i, f, (uint64_t)v, x86_flags(&s) & ~2u);      \
    } while (0)

/* ZF, PF, CF after [u]comis*. */
static unsigned relation_eflags(enum float_relation r)
{
    return r == FLOAT_UNORDERED ? 7 : r == FLOAT_EQUAL ? 4 : r == FLOAT_LESS ? 1 : 0;
}

#define TEST_SSE_COMPARE(insn, call)                                                              \
    do {                                                                                          \
        struct float_status s = mode_status(mode);                                                \
        uint64_t r = a, i = 0;                                                                    \
        unsigned f = HOST_SSE(insn "\n\tpushfq\n\tpopq %[i]", mode, r, b, c, i);                  \
        i = (i & 1) | (i >> 1 & 2) | (i >> 4 & 4);                                                \
        unsigned v = relation_eflags(call);                                                       \
        compare_u64(#call, mode, a, b, 0, i, f, v, x86_flags(&s));                                \
    } while (0)

/* ROUNDSx: immediate 0..3 is a rounding, 4 MXCSR's; 8 suppresses the precision exception. */
#define TEST_SSE_ROUND(T, F, x, imm)                                                              \
    TEST_SSE_2(T, F, "rounds" x " $" #imm ", %[r], %[r]",                                         \
               F##_round_to_int(a, (imm) & 4 ? s.rounding : host_rounding[(imm) & 3],             \
                                !((imm) & 8), &s))

#define TEST_SSE(T, F, x)                                                                         \
    static void test_sse_##F(void)                                                                \
    {                                                                                             \
        begin("sse " #F);                                                                         \
        for (uint64_t n = 0; n < rounds * 16; n++) {                                              \
            unsigned mode = n & 15;                                                               \
            T a = random_##F(), b = random_##F(), c = random_##F();                               \
            TEST_SSE_2(T, F, "adds" x " %[b], %[r]", F##_add(a, b, &s));                          \
            TEST_SSE_2(T, F, "subs" x " %[b], %[r]", F##_sub(a, b, &s));                          \
            TEST_SSE_2(T, F, "muls" x " %[b], %[r]", F##_mul(a, b, &s));                          \
            TEST_SSE_2(T, F, "divs" x " %[b], %[r]", F##_div(a, b, &s));                          \
            TEST_SSE_2(T, F, "mins" x " %[b], %[r]", F##_minmax(a, b, FLOAT_MIN_X86, &s));        \
            TEST_SSE_2(T, F, "maxs" x " %[b], %[r]", F##_minmax(a, b, FLOAT_MAX_X86, &s));        \
            TEST_SSE_2(T, F, "sqrts" x " %[r], %[r]", F##_sqrt(a, &s));                           \
            TEST_SSE_2(T, F, "vfmadd213s" x " %[c], %[b], %[r]", F##_muladd(b, a, c, 0, &s));     \
            TEST_SSE_2(T, F, "vfmsub213s" x " %[c], %[b], %[r]",                                  \
                       F##_muladd(b, a, c, FLOAT_NEGATE_ADDEND, &s));                             \
            TEST_SSE_2(T, F, "vfnmadd213s" x " %[c], %[b], %[r]",                                 \
                       F##_muladd(b, a, c, FLOAT_NEGATE_PRODUCT, &s));                            \
            TEST_SSE_2(T, F, "vfnmsub213s" x " %[c], %[b], %[r]",                                 \
                       F##_muladd(b, a, c, FLOAT_NEGATE_PRODUCT | FLOAT_NEGATE_ADDEND, &s));      \
            TEST_SSE_ROUND(T, F, x, 0);                                                           \
            TEST_SSE_ROUND(T, F, x, 1);                                                           \
            TEST_SSE_ROUND(T, F, x, 2);                                                           \
            TEST_SSE_ROUND(T, F, x, 3);                                                           \
            TEST_SSE_ROUND(T, F, x, 4);                                                           \
            TEST_SSE_ROUND(T, F, x, 12);                                                          \
            TEST_SSE_COMPARE("comis" x " %[b], %[r]", F##_compare(a, b, &s));                     \
            TEST_SSE_COMPARE("ucomis" x " %[b], %[r]", F##_compare_quiet(a, b, &s));              \
            TEST_SSE_INT("cvts" x "2si %[r], %k[i]", F##_to_i32(a, s.rounding, &s));              \
            TEST_SSE_INT("cvts" x "2si %[r], %q[i]", F##_to_i64(a, s.rounding, &s));              \
            TEST_SSE_INT("cvtts" x "2si %[r], %k[i]", F##_to_i32(a, FLOAT_ROUND_TO_ZERO, &s));    \
            TEST_SSE_INT("cvtts" x "2si %[r], %q[i]", F##_to_i64(a, FLOAT_ROUND_TO_ZERO, &s));    \
            if (__builtin_cpu_supports("avx512f")) {                                              \
                TEST_SSE_INT("vcvts" x "2usi %[r], %k[i]", F##_to_u32(a, s.rounding, &s));        \
                TEST_SSE_INT("vcvts" x "2usi %[r], %q[i]", F##_to_u64(a, s.rounding, &s));        \
                test_##F##_from_uint(mode);                                                       \
            }                                                                                     \
            test_##F##_from_int(mode);                                                            \
        }                                                                                         \
    }

static uint64_t random_int(void)
{
    uint64_t r = random_u64();

    return (int64_t)(r << (random_u64() & 1)) >> (random_u64() & 63);
}

#define TEST_SSE_FROM_INT(insn, call)                                                             \
    do {                                                                                          \
        struct float_status s = mode_status(mode);                                                \
        __typeof__(call) r = 0, v;                                                                \
        uint64_t b = 0, i = n;                                                                    \
        unsigned f = HOST_SSE(insn, mode, r, b, b, i);                                            \
        s.flags = 0;                                                                              \
        v = call;                                                                                 \
        compare_u64(#call, mode, n, 0, 0, r, f, v, x86_flags(&s));                                \
    } while (0)

#define TEST_FROM_INT(F, x)                                                                       \
    static void test_##F##_from_int(unsigned mode)                                                \
    {                                                                                             \
        uint64_t n = random_int();                                                                \
        TEST_SSE_FROM_INT("cvtsi2s" x "q %q[i], %[r]", F##_from_i64((int64_t)n, &s));             \
        TEST_SSE_FROM_INT("cvtsi2s" x "l %k[i], %[r]", F##_from_i32((int32_t)n, &s));             \
    }                                                                                             \
    static void test_##F##_from_uint(unsigned mode)                                               \
    {                                                                                             \
        uint64_t n = random_int();                                                                \
        TEST_SSE_FROM_INT("vcvtusi2s" x "q %q[i], %[r], %[r]", F##_from_u64(n, &s));              \
        TEST_SSE_FROM_INT("vcvtusi2s" x "l %k[i], %[r], %[r]", F##_from_u32((uint32_t)n, &s));    \
    }

TEST_FROM_INT(f32, "s")
TEST_FROM_INT(f64, "d")
TEST_SSE(float32, f32, "s")
TEST_SSE(float64, f64, "d")

static void test_sse_convert(void)
{
    begin("sse convert");
    for (uint64_t n = 0; n < rounds * 16; n++) {
        unsigned mode = n & 15;
        uint64_t b = 0, c = 0, a;

        a = random_f32();
        TEST_SSE_2(uint64_t, f64, "cvtss2sd %[r], %[r]", f32_to_f64((float32)a, &s));
        a = random_f64();
        TEST_SSE_2(uint64_t, f32, "movapd %[r], %[b]\n\tpxor %[r], %[r]\n\tcvtsd2ss %[b], %[r]",
                   f64_to_f32(a, &s));
        a = random_float(23 + 29, 2047, 64);
        a = (a & 0x800fffffffffffff) | (1023 - 150 + random_u64() % 300) << 52;
        TEST_SSE_2(uint64_t, f32, "movapd %[r], %[b]\n\tpxor %[r], %[r]\n\tcvtsd2ss %[b], %[r]",
                   f64_to_f32(a, &s));
    }
}

static float32 f16_to_f32_quiet(float16 a, struct float_status *s)
{
    float32 r = f16_to_f32(a, s);

    s->flags &= ~(uint32_t)FLOAT_INPUT_DENORMAL;
    return r;
}

/* F16C: VCVTPH2PS ignores DAZ and raises no DE; VCVTPS2PH ignores FTZ. */
static void test_f16c(void)
{
    begin("f16c");
    for (uint32_t n = 0; n < 0x10000; n++) {
        unsigned mode = 0;
        uint64_t a = n, b = 0, c = 0;

        TEST_SSE_2(uint64_t, f32, "vcvtph2ps %[r], %[r]\n\tmovd %[r], %k[i]\n\tmovd %k[i], %[r]",
                   f16_to_f32_quiet((float16)a, &s));
    }
    for (uint64_t n = 0; n < rounds * 16; n++) {
        unsigned mode = n & 11;
        uint64_t b = 0, c = 0, a = random_f32();

        if (n & 16)
            a = (a & 0x807fffff) | (127 - 30 + random_u64() % 50) << 23;
        TEST_SSE_2(uint64_t, f16, "vcvtps2ph $4, %[r], %[r]", f32_to_f16((float32)a, &s));
    }
}

/* ---- x87 ------------------------------------------------------------------------------------- */

#define X87_STACK "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"

/* fldt b; fldt a; insn; the result popped into r as `store` does, what is left dropped by fninit. */
#define HOST_X87(insn, store, cc, aa, bb, r)                                                      \
    ({                                                                                            \
        uint16_t cw_ = (uint16_t)(cc), sw_;                                                       \
        __asm__ volatile("fninit\n\tfldcw %[cw]\n\tfldt %[b]\n\tfldt %[a]\n\t" insn               \
                         "\n\tfnstsw %[sw]\n\t" store "\n\tfninit"                                \
                         : [sw] "=m"(sw_), [r] "=m"(r)                                            \
                         : [cw] "m"(cw_), [a] "m"(aa), [b] "m"(bb)                                \
                         : X87_STACK, "memory");                                                  \
        sw_;                                                                                      \
    })

static const uint8_t x87_precision[4] = { 24, 64, 53, 64 };

/* The 12 modes of the control word: rounding and precision. */
static unsigned mode_control(unsigned mode)
{
    static const unsigned pc[3] = { 0, 2, 3 };

    return 0x3f | pc[mode / 4 % 3] << 8 | (mode & 3) << 10;
}

static struct float_status x87_status(unsigned mode)
{
    struct float_status s = float_status_init(&float_rules_x87);

    s.rounding = host_rounding[mode & 3];
    s.f80_precision = x87_precision[mode_control(mode) >> 8 & 3];
    return s;
}

/* C1 tells the direction of an inexact result. */
static unsigned x87_flags(const struct float_status *s)
{
    unsigned f = x86_flags(s);

    return f | ((f & 0x20) && (s->flags & FLOAT_ROUNDED_UP) ? 0x200 : 0);
}

static unsigned x87_sw(unsigned sw)
{
    return sw & (sw & 0x20 ? 0x23f : 0x3f);
}

static void compare_f80(const char *what, unsigned mode, float80 a, float80 b, float80 want,
                        unsigned want_flags, float80 got, unsigned got_flags)
{
    want.se &= 0xffff;                  /* FSTP writes 10 bytes */
    if (!check(want.frac == got.frac && want.se == got.se && want_flags == got_flags))
        printf("%s/%s mode %u: %04" PRIx64 ":%016" PRIx64 " %04" PRIx64 ":%016" PRIx64 " host %04" PRIx64 ":%016" PRIx64
               " flags %03x, soft %04" PRIx64 ":%016" PRIx64 " flags %03x\n",
               current, what, mode, a.se, a.frac, b.se, b.frac, want.se, want.frac, want_flags,
               got.se, got.frac, got_flags);
}

#define TEST_X87(insn, call)                                                                      \
    do {                                                                                          \
        struct float_status s = x87_status(mode);                                                 \
        float80 r, v;                                                                             \
        unsigned f = x87_sw(HOST_X87(insn, "fstpt %[r]", mode_control(mode), a, b, r));           \
        v = call;                                                                                 \
        compare_f80(#call, mode, a, b, r, f, v, x87_flags(&s));                                   \
    } while (0)

/* FIST* and FST m32/m64: flags are raised by the store itself. No DE. */
#define TEST_X87_STORE(T, insn, call)                                                             \
    do {                                                                                          \
        struct float_status s = x87_status(mode);                                                 \
        T r, v;                                                                                   \
        unsigned f = x87_sw(HOST_X87(insn "\n\t", "", mode_control(mode), a, b, r));              \
        v = call;                                                                                 \
        s.flags &= ~(uint32_t)FLOAT_INPUT_DENORMAL;                                               \
        compare_u64(#call, mode, a.frac, a.se, 0, (uint64_t)r, f, (uint64_t)v, x87_flags(&s));    \
    } while (0)

#define TEST_X87_COMPARE(insn, call)                                                              \
    do {                                                                                          \
        struct float_status s = x87_status(mode);                                                 \
        float80 r;                                                                                \
        unsigned sw = HOST_X87(insn, "fstpt %[r]", mode_control(mode), a, b, r);                  \
        unsigned cc = (sw >> 8 & 1) | (sw >> 9 & 2) | (sw >> 12 & 4);                             \
        unsigned v = relation_eflags(call);                                                       \
        compare_u64(#call, mode, a.frac, b.frac, 0, cc, sw & 0x3f, v, x86_flags(&s));             \
    } while (0)

static void test_x87_prem(unsigned mode, float80 a, float80 b)
{
    for (int nearest = 0; nearest < 2; nearest++) {
        struct float_status s = x87_status(mode);
        float80 r, v;
        unsigned q, sw = nearest ? HOST_X87("fprem1", "fstpt %[r]", mode_control(mode), a, b, r)
                                 : HOST_X87("fprem", "fstpt %[r]", mode_control(mode), a, b, r);
        bool partial = f80_prem(a, b, nearest, &v, &q, &s);
        unsigned f = x86_flags(&s) | (partial ? 0x400 : 0);

        if (!(s.flags & FLOAT_INVALID) && !f80_is_nan(v) && !partial)
            f |= (q & 1 ? 0x200 : 0) | (q & 2 ? 0x4000 : 0) | (q & 4 ? 0x100 : 0);
        else
            sw &= 0x43f;
        compare_f80(nearest ? "fprem1" : "fprem", mode, a, b, r, sw & 0x473f, v, f);
    }
}

static void test_x87_xtract(unsigned mode, float80 a)
{
    struct float_status s = x87_status(mode);
    float80 b = { 0, 0 }, r, v, e;

    x87_sw(HOST_X87("fxtract", "fstpt %[r]", mode_control(mode), a, b, r));
    v = f80_xtract(a, &e, &s);
    compare_f80("fxtract significand", mode, a, b, r, 0, v, 0);
    unsigned f = HOST_X87("fxtract", "fstp %%st(0)\n\tfstpt %[r]", mode_control(mode), a, b, r);
    compare_f80("fxtract exponent", mode, a, b, r, f & 0x3f, e, x86_flags(&s));
}

static void test_x87_bcd(unsigned mode, float80 a)
{
    struct float_status s = x87_status(mode);
    uint8_t r[10], v[10];
    float80 back;
    unsigned f = x87_sw(HOST_X87("fbstp %[r]", "", mode_control(mode), a, a, r));

    f80_to_bcd(a, v, &s);
    compare_u64("fbstp", mode, a.frac, a.se, 0, 0, f & 0x3f, (uint64_t)memcmp(r, v, 10),
                x86_flags(&s));
    if (s.flags & FLOAT_INVALID)
        return;
    __asm__ volatile("fninit\n\tfbld %1\n\tfstpt %0\n\tfninit" : "=m"(back) : "m"(v) : X87_STACK);
    compare_f80("fbld", mode, a, a, back, 0, f80_from_bcd(v), 0);
}

/* FLD m32, m64: DE and invalid are raised by the load. */
static void test_x87_load(unsigned mode)
{
    struct float_status s = x87_status(mode);
    float80 zero = { 0, 0 }, r;
    float32 f32 = random_f32();
    float64 f64 = random_f64();
    int64_t i = (int64_t)random_int();
    uint16_t sw;

    __asm__ volatile("fninit\n\tflds %2\n\tfnstsw %1\n\tfstpt %0\n\tfninit"
                     : "=m"(r), "=m"(sw) : "m"(f32) : X87_STACK);
    float80 v = f32_to_f80(f32, &s);
    compare_f80("fld m32", mode, zero, zero, r, sw & 0x3f, v, x86_flags(&s));
    s.flags = 0;
    __asm__ volatile("fninit\n\tfldl %2\n\tfnstsw %1\n\tfstpt %0\n\tfninit"
                     : "=m"(r), "=m"(sw) : "m"(f64) : X87_STACK);
    v = f64_to_f80(f64, &s);
    compare_f80("fld m64", mode, zero, zero, r, sw & 0x3f, v, x86_flags(&s));
    s.flags = 0;
    __asm__ volatile("fninit\n\tfildll %1\n\tfstpt %0\n\tfninit" : "=m"(r) : "m"(i) : X87_STACK);
    compare_f80("fild", mode, zero, zero, r, 0, f80_from_i64(i, &s), x86_flags(&s));
}

static void test_x87(void)
{
    begin("x87");
    for (uint64_t n = 0; n < rounds * 12; n++) {
        unsigned mode = (unsigned)(n % 12);
        float80 a = random_f80(), b = random_f80();

        TEST_X87("fadd %%st(1), %%st", f80_add(a, b, &s));
        TEST_X87("fsub %%st(1), %%st", f80_sub(a, b, &s));
        TEST_X87("fmul %%st(1), %%st", f80_mul(a, b, &s));
        TEST_X87("fdiv %%st(1), %%st", f80_div(a, b, &s));
        TEST_X87("fsqrt", f80_sqrt(a, &s));
        TEST_X87("frndint", f80_round_to_int(a, s.rounding, true, &s));
        TEST_X87("fscale", f80_scale(a, b, &s));
        TEST_X87_COMPARE("fcom", f80_compare(a, b, &s));
        TEST_X87_COMPARE("fucom", f80_compare_quiet(a, b, &s));
        TEST_X87_STORE(int16_t, "fistps %[r]", f80_to_i16(a, s.rounding, &s));
        TEST_X87_STORE(int32_t, "fistpl %[r]", f80_to_i32(a, s.rounding, &s));
        TEST_X87_STORE(int64_t, "fistpll %[r]", f80_to_i64(a, s.rounding, &s));
        TEST_X87_STORE(int64_t, "fisttpll %[r]", f80_to_i64(a, FLOAT_ROUND_TO_ZERO, &s));
        TEST_X87_STORE(uint32_t, "fstps %[r]", f80_to_f32(a, &s));
        TEST_X87_STORE(uint64_t, "fstpl %[r]", f80_to_f64(a, &s));
        test_x87_prem(mode, a, b);
        test_x87_xtract(mode, a);
        test_x87_bcd(mode, a);
        test_x87_load(mode);
    }
    begin("x87 constants");
    for (unsigned mode = 0; mode < 12; mode++) {
        float80 a = { 0, 0 }, b = a;

        TEST_X87("fld1", f80_constant(F80_ONE, &s));
        TEST_X87("fldl2t", f80_constant(F80_LOG2_10, &s));
        TEST_X87("fldl2e", f80_constant(F80_LOG2_E, &s));
        TEST_X87("fldpi", f80_constant(F80_PI, &s));
        TEST_X87("fldlg2", f80_constant(F80_LOG10_2, &s));
        TEST_X87("fldln2", f80_constant(F80_LN_2, &s));
        TEST_X87("fldz", f80_constant(F80_ZERO, &s));
    }
}

/* The portable transcendental functions against the host's, to one unit in the last place: the
 * architecture promises no more. */
static void compare_ulp(const char *what, float80 a, float80 b, float80 want, float80 got)
{
    __int128 d = (__int128)((unsigned __int128)(want.se & 0x7fff) << 63 | (want.frac & INT64_MAX)) -
                 (__int128)((unsigned __int128)(got.se & 0x7fff) << 63 | (got.frac & INT64_MAX));
    bool nan = f80_is_nan(want) && f80_is_nan(got);

    if (!check(nan || ((want.se & 0x8000) >> 15 == got.se >> 15 && d <= 1 && d >= -1)))
        printf("%s/%s: %04" PRIx64 ":%016" PRIx64 " %04" PRIx64 ":%016" PRIx64 " host %04" PRIx64 ":%016" PRIx64
               ", portable %04" PRIx64 ":%016" PRIx64 "\n",
               current, what, a.se, a.frac, b.se, b.frac, want.se, want.frac, got.se, got.frac);
}

static float80 random_f80_moderate(int lowest, int highest)
{
    float80 a = random_f80();

    a.frac |= (uint64_t)1 << 63;
    a.se = (uint16_t)((a.se & 0x8000) | (16383 + lowest
                                                 + (int)(random_u64() % (unsigned)(highest - lowest + 1))));
    return a;
}

static void test_x87_transcendental(void)
{
    begin("x87 transcendental");
    for (uint64_t n = 0; n < rounds / 8; n++) {
        struct float_status s = float_status_init(&float_rules_x87);
        float80 a = random_f80_moderate(-70, -1), b, x, y, p, q, r, t;

        compare_ulp("f2xm1", a, a, f80_f2xm1(a, &s), f80_f2xm1_portable(a, &s));
        a = n & 1 ? random_f80() : random_f80_moderate(-3, 3);
        b = n & 2 ? random_f80() : random_f80_moderate(-100, 100);
        if (f80_is_unsupported(a) || f80_is_unsupported(b) || !(a.se & 0x7fff) || !(b.se & 0x7fff))
            continue;
        compare_ulp("fpatan", a, b, f80_fpatan(a, b, &s), f80_fpatan_portable(a, b, &s));
        compare_ulp("fyl2x", a, b, f80_fyl2x(a, b, &s), f80_fyl2x_portable(a, b, &s));
        a = random_f80_moderate(-60, -3);
        compare_ulp("fyl2xp1", a, b, f80_fyl2xp1(a, b, &s), f80_fyl2xp1_portable(a, b, &s));
        a = random_f80_moderate(-60, n & 1 ? 62 : 3);
        f80_fsincos(a, &x, &y, &s);
        f80_fsincos_portable(a, &p, &q, &s);
        compare_ulp("fsincos sine", a, a, x, p);
        compare_ulp("fsincos cosine", a, a, y, q);
        f80_fsin(a, &x, &s);
        f80_fcos(a, &y, &s);
        compare_ulp("fsin", a, a, x, p);
        compare_ulp("fcos", a, a, y, q);
        f80_fptan(a, &r, &s);
        f80_fptan_portable(a, &t, &s);
        compare_ulp("fptan", a, a, r, t);
    }
}

/* ---- binary128 ------------------------------------------------------------------------------- */

static const int fe_rounding[4] = { FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO };

static __float128 to_quad(float128 a)
{
    __float128 q;

    memcpy(&q, &a, sizeof(q));
    return q;
}

/* libgcc does not promise which NaN; nor DE. */
static void compare_f128(const char *what, unsigned mode, float128 a, float128 b, float128 want,
                         int host_flags, float128 got, const struct float_status *s)
{
    unsigned f = (host_flags & FE_INVALID ? 1 : 0) | (host_flags & FE_DIVBYZERO ? 4 : 0) |
                 (host_flags & FE_OVERFLOW ? 8 : 0) | (host_flags & FE_UNDERFLOW ? 16 : 0) |
                 (host_flags & FE_INEXACT ? 32 : 0);
    bool same = (f128_is_nan(want) && f128_is_nan(got)) || (want.hi == got.hi && want.lo == got.lo);

    if (!check(same && f == (x86_flags(s) & ~2u)))
        printf("%s/%s mode %u: %016" PRIx64 "%016" PRIx64 " %016" PRIx64 "%016" PRIx64
               " host %016" PRIx64 "%016" PRIx64 " %02x, soft %016" PRIx64 "%016" PRIx64 " %02x\n",
               current, what, mode, a.hi, a.lo, b.hi, b.lo, want.hi, want.lo, f, got.hi, got.lo,
               x86_flags(s));
}

#define TEST_QUAD(expression, call, mask)                                                         \
    do {                                                                                          \
        struct float_status s = mode_status(mode & 3);                                            \
        volatile __float128 x = to_quad(a), y = to_quad(b), z = to_quad(c), q;                    \
        float128 want, got;                                                                       \
        __float128 copy;                                                                          \
        int f;                                                                                    \
        (void)x, (void)y, (void)z;                                                                \
        feclearexcept(FE_ALL_EXCEPT);                                                             \
        fesetround(fe_rounding[mode & 3]);                                                        \
        q = expression;                                                                           \
        f = fetestexcept(FE_ALL_EXCEPT);                                                          \
        fesetround(FE_TONEAREST);                                                                 \
        copy = q;                                                                                 \
        memcpy(&want, &copy, sizeof(want));                                                       \
        got = call;                                                                               \
        s.flags &= mask;                                                                          \
        compare_f128(#call, mode, a, b, want, f & (mask), got, &s);                               \
    } while (0)

#define TEST_FROM_QUAD(T, U, F)                                                                   \
    do {                                                                                          \
        struct float_status s = mode_status(mode & 3);                                            \
        volatile __float128 x = to_quad(a);                                                       \
        volatile T q;                                                                             \
        T copy;                                                                                   \
        U want, got;                                                                              \
        fesetround(fe_rounding[mode & 3]);                                                        \
        q = (T)x;                                                                                 \
        fesetround(FE_TONEAREST);                                                                 \
        copy = q;                                                                                 \
        memcpy(&want, &copy, sizeof(want));                                                       \
        got = f128_to_##F(a, &s);                                                                 \
        compare_u64("f128_to_" #F, mode, a.hi, a.lo, 0, want, 0, got, 0);                         \
    } while (0)

/* sqrtq() is off by a unit now and then, so the definition: with d and u the neighbours of the root,
 * d^2 < a < u^2, and the root is nearer to u when a > d * u. */
static void test_f128_sqrt(float128 a)
{
    struct float_status s = mode_status(0), down = mode_status(1), up = mode_status(2);
    float128 r, d, u;
    __float128 qa, qd, qu;

    a.hi = (a.hi & 0xffffffffffff) | (8000 + random_u64() % 16000) << 48;
    r = f128_sqrt(a, &s), d = f128_sqrt(a, &down), u = f128_sqrt(a, &up);
    qa = to_quad(a), qd = to_quad(d), qu = to_quad(u);
    if (d.lo == u.lo) {
        compare_f128("sqrt exact", 0, a, a, d, fmaq(qd, qd, -qa) != 0 ? FE_INVALID : 0, r, &s);
        return;
    }
    compare_f128("sqrt", 0, a, a, fmaq(qd, qu, -qa) < 0 ? u : d, FE_INEXACT, r, &s);
    compare_f128("sqrt bounds", 0, a, a, d, FE_INEXACT,
                 fmaq(qd, qd, -qa) < 0 && fmaq(qu, qu, -qa) > 0 && u.lo - d.lo == 1 ? d : a, &s);
}

static void test_f128(void)
{
    begin("f128");
    for (uint64_t n = 0; n < rounds * 4; n++) {
        unsigned mode = n & 3;
        float128 a = random_f128(), b = random_f128(), c = random_f128();

        TEST_QUAD(x + y, f128_add(a, b, &s), ~0u);
        TEST_QUAD(x - y, f128_sub(a, b, &s), ~0u);
        TEST_QUAD(x * y, f128_mul(a, b, &s), ~0u);
        TEST_QUAD(x / y, f128_div(a, b, &s), ~0u);
        /* libquadmath's own steps raise more than the operation does. */
        if (mode == 0) {
            test_f128_sqrt(a);
            TEST_QUAD(remainderq(x, y), f128_rem(a, b, &s), 0u);
            TEST_QUAD(rintq(x), f128_round_to_int(a, s.rounding, true, &s), 0u);
        }
        TEST_QUAD(fmaq(x, y, z), f128_muladd(a, b, c, 0, &s), 0u);
        if (!f128_is_nan(a)) {
            TEST_FROM_QUAD(double, uint64_t, f64);
            TEST_FROM_QUAD(float, uint32_t, f32);
        }
    }
}

/* libm's and libgcc's functions that are exact or correctly rounded; NaNs only as such. */
static void test_libm(void)
{
    begin("libm");
    for (uint64_t n = 0; n < rounds * 4; n++) {
        unsigned mode = n & 3;
        struct float_status s = mode_status(mode);
        float64 a = random_f64(), b = random_f64(), want, got;
        float32 a4 = random_f32(), b4 = random_f32(), want4, got4;
        float128 q = random_f128();
        volatile double x, y, z;
        volatile float x4, y4, z4;
        volatile long double e;
        volatile int64_t i;
        int scale = (int)(random_u64() % 4400) - 2200;
        float80 e_want = { 0, 0 }, e_got;

        memcpy((void *)&x, &a, 8), memcpy((void *)&y, &b, 8);
        memcpy((void *)&x4, &a4, 4), memcpy((void *)&y4, &b4, 4);
        /* By FPREM1: glibc 2.36 gets the sign of a zero remainder() wrong. */
        z = (double)remainderl(x, y), z4 = (float)remainderl(x4, y4);
        memcpy(&want, (void *)&z, 8), memcpy(&want4, (void *)&z4, 4);
        got = f64_rem(a, b, &s), got4 = f32_rem(a4, b4, &s);
        compare_u64("f64_rem", mode, a, b, 0, f64_is_nan(got) ? f64_is_nan(want) : want, 0,
                    f64_is_nan(got) ? 1 : got, 0);
        compare_u64("f32_rem", mode, a4, b4, 0, f32_is_nan(got4) ? f32_is_nan(want4) : want4, 0,
                    f32_is_nan(got4) ? 1 : got4, 0);

        fesetround(fe_rounding[mode]);
        z = ldexp(x, scale);
        e = (long double)to_quad(q);
        i = (int64_t)to_quad(q);
        fesetround(FE_TONEAREST);
        memcpy(&want, (void *)&z, 8), memcpy(&e_want, (void *)&e, 10);
        got = f64_scalbn(a, scale, &s);
        compare_u64("f64_scalbn", mode, a, (uint64_t)scale, 0, want, 0, got, 0);
        s.flags = 0;
        e_got = f128_to_f80(q, &s);
        if (!f128_is_nan(q))
            compare_f80("f128_to_f80", mode, e_got, e_got, e_want, 0, e_got, 0);
        got = (uint64_t)f128_to_i64(q, FLOAT_ROUND_TO_ZERO, &s);
        if (!(s.flags & FLOAT_INVALID))
            compare_u64("f128_to_i64", mode, q.hi, q.lo, 0, (uint64_t)i, 0, got, 0);

        /* Widening and narrowing again changes nothing. */
        if (!f64_is_nan(a)) {
            compare_u64("f64 by f128", mode, a, 0, 0, a, 0, f128_to_f64(f64_to_f128(a, &s), &s), 0);
            compare_u64("f64 by f80", mode, a, 0, 0, a, 0, f80_to_f64(f64_to_f80(a, &s), &s), 0);
        }
        e_want = random_f80();
        if (!f80_is_unsupported(e_want) && !f80_is_nan(e_want) && (e_want.se & 0x7fff)) {
            e_got = f128_to_f80(f80_to_f128(e_want, &s), &s);
            compare_f80("f80 by f128", mode, e_want, e_want, e_want, 0, e_got, 0);
        }
    }
}

/* Rounding to odd, which x86 lacks: the inexact one of the neighbours that is odd. */
static void test_round_to_odd(void)
{
    begin("round to odd");
    for (uint64_t n = 0; n < rounds * 4; n++) {
        float64 a = random_f64(), b = random_f64(), r, v, d;
        struct float_status s = mode_status(3), odd = s;

        odd.rounding = FLOAT_ROUND_TO_ODD;
        switch (n & 3) {
        case 0: r = f64_add(a, b, &s), v = f64_add(a, b, &odd); break;
        case 1: r = f64_mul(a, b, &s), v = f64_mul(a, b, &odd); break;
        case 2: r = f64_div(a, b, &s), v = f64_div(a, b, &odd); break;
        default: r = f64_sqrt(a, &s), v = f64_sqrt(a, &odd); break;
        }
        d = r | (s.flags & FLOAT_INEXACT && !(s.flags & FLOAT_OVERFLOW) ? 1 : 0);
        compare_u64("f64", (unsigned)n & 3, a, b, 0, d, x86_flags(&s) & ~16u, v,
                    x86_flags(&odd) & ~16u);
    }
}

#endif

/* ---- models ---------------------------------------------------------------------------------- */

/* binary16 is narrow enough for binary64 rounded to odd to lose nothing: in every rounding mode the
 * second rounding is then the only one. */
static void test_f16(void)
{
    begin("f16");
    for (uint64_t n = 0; n < rounds * 16; n++) {
        static const struct float_rules *rules[] = {
            &float_rules_x86_sse, &float_rules_arm, &float_rules_riscv, &float_rules_s390x,
        };
        struct float_status s = float_status_init(rules[n & 3]), odd, narrow;
        float16 a = random_f16(), b = random_f16(), c = random_f16(), got, want;
        float64 x, y, z, r;
        unsigned op = n / 4 % 6;

        s.rounding = (uint8_t)(random_u64() % 6);
        narrow = odd = s;
        odd.rounding = FLOAT_ROUND_TO_ODD;
        x = f16_to_f64(a, &odd), y = f16_to_f64(b, &odd), z = f16_to_f64(c, &odd);
        switch (op) {
        case 0: got = f16_add(a, b, &s), r = f64_add(x, y, &odd); break;
        case 1: got = f16_sub(a, b, &s), r = f64_sub(x, y, &odd); break;
        case 2: got = f16_mul(a, b, &s), r = f64_mul(x, y, &odd); break;
        case 3: got = f16_div(a, b, &s), r = f64_div(x, y, &odd); break;
        case 4: got = f16_sqrt(a, &s), r = f64_sqrt(x, &odd); break;
        default: got = f16_muladd(a, b, c, 0, &s), r = f64_muladd(x, y, z, 0, &odd); break;
        }
        want = f64_to_f16(r, &narrow);
        /* An exact zero sum takes its sign from the rounding mode, and NaNs were quieted above. */
        if ((want & 0x7fff) == 0 && (got & 0x7fff) == 0 && (op < 2 || op == 5))
            want = got;
        if (f16_is_nan(want) && f16_is_nan(got))
            want = got;
        if (!check(want == got && (f16_is_nan(got) ||
                                   ((s.flags ^ (narrow.flags | (odd.flags & FLOAT_DIVBYZERO))) &
                                    FLOAT_IEEE_FLAGS) == 0)))
            printf("f16 op %u %s rounding %u: %04x %04x %04x model %04x %03x, got %04x %03x\n", op,
                   s.rules->name, s.rounding, a, b, c, want, narrow.flags, got, s.flags);
    }
}

static void expect(const char *what, uint64_t got, uint64_t want)
{
    if (!check(got == want))
        printf("%s/%s: got %" PRIx64 ", want %" PRIx64 "\n", current, what, got, want);
}

/* What the architectures' manuals say, by hand. */
static void test_rules(void)
{
    struct float_status arm = float_status_init(&float_rules_arm);
    struct float_status riscv = float_status_init(&float_rules_riscv);
    struct float_status ppc = float_status_init(&float_rules_ppc);
    struct float_status mips = float_status_init(&float_rules_mips_legacy);
    const float32 one = 0x3f800000, inf = 0x7f800000, qnan = 0x7fc01234, snan = 0x7f801234;

    begin("rules");
    expect("arm snan first", f32_add(qnan, snan, &arm), 0x7fc01234);
    expect("arm qnan", f32_add(one, 0xffc00001, &arm), 0xffc00001);
    arm.flags = 0;
    expect("arm inf*0+qnan", f32_muladd(inf, 0, qnan, 0, &arm), 0x7fc00000);
    expect("arm inf*0+qnan is invalid", arm.flags & FLOAT_IEEE_FLAGS, FLOAT_INVALID);
    expect("arm addend first", f32_muladd(0x7fc00001, 0x7fc00002, 0x7fc00003, 0, &arm), 0x7fc00003);
    expect("arm nan to int", (uint64_t)f32_to_i32(qnan, FLOAT_ROUND_TO_ZERO, &arm), 0);
    expect("arm saturate", f32_to_u8(0xbf800000, FLOAT_ROUND_TO_ZERO, &arm), 0);
    expect("arm fixed point", (uint64_t)f32_to_int(0x3fc00000, 32, 16, FLOAT_ROUND_TO_ZERO, &arm), 0x18000);
    expect("arm minnum", f32_minmax(qnan, one, FLOAT_MINNUM, &arm), one);
    expect("arm min", f32_minmax(one, qnan, FLOAT_MIN, &arm), qnan);
    expect("min zeros", f32_minmax(0, 0x80000000, FLOAT_MIN, &arm), 0x80000000);
    expect("max zeros", f32_minmax(0x80000000, 0, FLOAT_MAX, &arm), 0);
    expect("maxnum mag", f32_minmax(0xc0000000, one, FLOAT_MAXNUM_MAG, &arm), 0xc0000000);
    arm.flush_to_zero = arm.flush_inputs = true;
    arm.flags = 0;
    expect("arm fz", f32_mul(0x00800000, 0x3f000000, &arm), 0);
    expect("arm fz raises only underflow", arm.flags & FLOAT_IEEE_FLAGS, FLOAT_UNDERFLOW);
    arm.flags = 0;
    expect("arm input flush", f32_add(1, one, &arm), one);
    expect("arm idc", arm.flags, FLOAT_INPUT_DENORMAL_FLUSHED);
    expect("ahp", f32_to_f16ahp(0x47ffe000, &arm), 0x7fff);
    expect("ahp inf", f32_to_f16ahp(0xff800000, &arm), 0xffff);
    expect("ahp back", f16ahp_to_f32(0x7fff, &arm), 0x47ffe000);
    expect("frsqrts", f32_muladd_scalbn(one, one, 0x40400000, -1, FLOAT_NEGATE_PRODUCT, &arm), one);

    expect("riscv canonical", f32_add(0xffc01234, one, &riscv), 0x7fc00000);
    expect("riscv nan to int", f32_to_u32(qnan, FLOAT_ROUND_TO_ZERO, &riscv), UINT32_MAX);
    expect("riscv fmin snan", f32_minmax(snan, one, FLOAT_MINIMUM_NUMBER, &riscv), one);
    riscv.rounding = FLOAT_ROUND_NEAREST_AWAY;
    expect("rmm", f32_from_u32(0x1000001, &riscv), 0x4b800001);
    expect("rmm to int", (uint64_t)f32_to_i32(0x40200000, FLOAT_ROUND_NEAREST_AWAY, &riscv), 3);
    for (int i = 0; i < 4096; i++) {
        /* RMM of a normal binary32: half a unit is added to the magnitude. */
        float64 a = (random_u64() & 0x800fffffffffffff) | (1000 + random_u64() % 40) << 52;
        uint64_t r;

        if (i & 1)
            a = (a & ~(uint64_t)0x1fffffff) | 0x10000000;
        r = ((a & INT64_MAX) + 0x10000000) >> 29;
        r = (r - ((uint64_t)896 << 23)) | (a >> 63) << 31;
        expect("rmm model", f64_to_f32(a, &riscv), r);
    }

    ppc.flags = 0;
    expect("ppc inf*0+qnan", f32_muladd(inf, 0, qnan, 0, &ppc), qnan);
    expect("ppc vximz", ppc.flags, FLOAT_INVALID | FLOAT_INVALID_INF_MUL_ZERO);
    expect("ppc addend before multiplier", f32_muladd(one, 0x7fc00002, 0x7fc00003, 0, &ppc), 0x7fc00003);
    expect("ppc nan to int", (uint32_t)f32_to_i32(qnan, FLOAT_ROUND_TO_ZERO, &ppc), 0x80000000);
    ppc.flags = 0;
    f32_sub(inf, inf, &ppc);
    expect("ppc vxisi", ppc.flags, FLOAT_INVALID | FLOAT_INVALID_INF_SUB_INF);

    expect("mips quiet bit", f32_add(0x7fc01234, one, &mips), 0x7fbfffff);
    expect("mips quiet", f32_add(0x7f801234, one, &mips), 0x7f801234);
    expect("mips default", f64_default_nan(&mips), 0x7ff7ffffffffffff);
    expect("bf16", f32_to_bf16(0x3f808000, &ppc), 0x3f80);
    expect("bf16 tie up", f32_to_bf16(0x3f818000, &ppc), 0x3f82);
    expect("bf16 widen", bf16_to_f32(0x3f81, &ppc), 0x3f810000);
    expect("logb", f64_logb(0x0000000000000001, &ppc), 0xc090c80000000000);
    expect("scalbn", f64_scalbn(0x3ff0000000000000, -1074, &ppc), 1);
    expect("remainder", f64_rem(0x4014000000000000, 0x4008000000000000, &ppc), 0xbff0000000000000);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        rounds = strtoull(argv[1], NULL, 0);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 0);
    printf("seed %" PRIu64 ", %" PRIu64 " rounds\n", seed, rounds);
    test_rules();
    test_f16();
#if defined(__x86_64__)
    if (__builtin_cpu_supports("fma")) {
        test_sse_f32();
        test_sse_f64();
    }
    test_sse_convert();
    if (__builtin_cpu_supports("avx"))
        test_f16c();
    test_x87();
    test_x87_transcendental();
    test_f128();
    test_libm();
    test_round_to_odd();
#endif
    printf("%" PRIu64 " comparisons, %" PRIu64 " differ\n", passed + failed, failed);
    return failed != 0;
}
