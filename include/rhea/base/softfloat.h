/* Software floating point: IEEE 754-2019 binary16/32/64/128, bfloat16 (conversions only) and the x87
 * 80-bit double extended format (Intel SDM vol. 1, 4.2 and 8.2).
 *
 * It is the interpreter's arithmetic, and so the oracle of the JIT, and the JIT's cold path. What
 * IEEE 754 leaves to the implementation is data: a `struct float_rules`, one per guest architecture.
 * What the guest sets at run time (rounding, flush modes, sticky flags) is a `struct float_status`.
 * The host's floating-point state is neither read nor written (but for the x87 transcendentals, see
 * below). */
#ifndef RHEA_BASE_SOFTFLOAT_H
#define RHEA_BASE_SOFTFLOAT_H

#include <stdbool.h>
#include <stdint.h>

typedef uint16_t float16;
typedef uint16_t bfloat16;
typedef uint32_t float32;
typedef uint64_t float64;

/* The x87 register format: sign and exponent, and a significand with an explicit integer bit. `se` has 16 bits; the others are
 * clear. (A whole word: what is written as two bytes and read as eight makes the host wait.) */
typedef struct {
    uint64_t frac;
    uint64_t se;
} float80;

typedef struct {
    uint64_t lo, hi;
} float128;

enum float_round {
    FLOAT_ROUND_NEAREST_EVEN,
    FLOAT_ROUND_TO_ZERO,
    FLOAT_ROUND_DOWN,
    FLOAT_ROUND_UP,
    FLOAT_ROUND_NEAREST_AWAY,   /* RISC-V RMM, Arm FCVTA */
    FLOAT_ROUND_TO_ODD,         /* Power, s390x, Arm FCVTXN */
};

/* Sticky exception flags. The first five are IEEE 754's; the rest tell a guest what it needs to
 * derive its own (x86 DE, Arm IDC, Power VX*, x87 C1). */
enum float_flag {
    FLOAT_INVALID               = 1 << 0,
    FLOAT_DIVBYZERO             = 1 << 1,
    FLOAT_OVERFLOW              = 1 << 2,
    FLOAT_UNDERFLOW             = 1 << 3,   /* tiny and inexact */
    FLOAT_INEXACT               = 1 << 4,
    FLOAT_INPUT_DENORMAL        = 1 << 5,   /* a denormal operand was used as it is: x86 DE */
    FLOAT_INPUT_DENORMAL_FLUSHED = 1 << 6,  /* one was taken as zero: Arm IDC */
    FLOAT_OUTPUT_DENORMAL_FLUSHED = 1 << 7,
    FLOAT_TINY                  = 1 << 8,   /* tiny, exact or not: an unmasked underflow's condition */
    FLOAT_ROUNDED_UP            = 1 << 9,   /* a rounding increased the magnitude: x87 C1, Power FR */
    /* Why FLOAT_INVALID was raised: Power FPSCR.VX*. */
    FLOAT_INVALID_SNAN          = 1 << 10,
    FLOAT_INVALID_INF_SUB_INF   = 1 << 11,
    FLOAT_INVALID_INF_DIV_INF   = 1 << 12,
    FLOAT_INVALID_ZERO_DIV_ZERO = 1 << 13,
    FLOAT_INVALID_INF_MUL_ZERO  = 1 << 14,
    FLOAT_INVALID_SQRT          = 1 << 15,
    FLOAT_INVALID_COMPARE       = 1 << 16,
    FLOAT_INVALID_CONVERT       = 1 << 17,

    FLOAT_IEEE_FLAGS = FLOAT_INVALID | FLOAT_DIVBYZERO | FLOAT_OVERFLOW | FLOAT_UNDERFLOW |
                       FLOAT_INEXACT,
};

/* Which NaN operand becomes the result (quieted). */
enum float_nan_rule {
    FLOAT_NAN_FIRST,            /* the first that is a NaN: x86 SSE, Power */
    FLOAT_NAN_SNAN_FIRST,       /* the first signalling one, else the first quiet one: Arm, s390x */
    FLOAT_NAN_X87,              /* a quiet one before a signalling one, then the larger significand */
    FLOAT_NAN_DEFAULT,          /* none, always the default NaN: RISC-V */
};

/* In which order a * b + c looks at its operands for the rule above. */
enum float_fma_order {
    FLOAT_FMA_ABC,              /* x86, s390x */
    FLOAT_FMA_ACB,              /* Power: frA, frB (the addend), frC */
    FLOAT_FMA_CAB,              /* Arm, MIPS */
};

/* What inf * 0 + QNaN is. */
enum float_fma_inf_zero {
    FLOAT_INF_ZERO_QUIET,       /* the QNaN by the NaN rule, no exception: x86 */
    FLOAT_INF_ZERO_PROPAGATE,   /* the QNaN by the NaN rule, and invalid: Power */
    FLOAT_INF_ZERO_DEFAULT,     /* the default NaN, and invalid: Arm */
};

/* What a conversion to an integer yields when it is invalid. */
enum float_int_rule {
    FLOAT_INT_INDEFINITE,       /* signed: the least value; unsigned: all ones. x86 */
    FLOAT_INT_SATURATE_NAN_ZERO,/* Arm, MIPS 2008 */
    FLOAT_INT_SATURATE_NAN_MAX, /* RISC-V */
    FLOAT_INT_SATURATE_NAN_MIN, /* Power, s390x */
    FLOAT_INT_MAX,              /* the greatest value for all: MIPS before 2008 */
};

/* An architecture's choices; constant while the machine lives. */
struct float_rules {
    const char *name;
    enum float_nan_rule nan_rule;
    enum float_fma_order fma_order;
    enum float_fma_inf_zero fma_inf_zero;
    enum float_int_rule int_rule;
    uint32_t flush_flags;       /* raised, with FLOAT_OUTPUT_DENORMAL_FLUSHED, by an output flush */
    bool tininess_before;       /* tininess (and output flushing) is detected before rounding */
    bool default_nan_negative;
    bool snan_bit_set;          /* the top fraction bit marks a signalling NaN: MIPS before 2008 */
};

extern const struct float_rules float_rules_x86_sse;
extern const struct float_rules float_rules_x87;
extern const struct float_rules float_rules_arm;
extern const struct float_rules float_rules_riscv;
extern const struct float_rules float_rules_ppc;
extern const struct float_rules float_rules_mips;       /* NAN2008 = 1 */
extern const struct float_rules float_rules_mips_legacy;
extern const struct float_rules float_rules_s390x;

struct float_status {
    const struct float_rules *rules;    /* never NULL */
    uint32_t flags;                     /* enum float_flag; only ever set here, the guest clears */
    uint8_t rounding;                   /* enum float_round */
    uint8_t f80_precision;              /* x87 PC in bits: 24, 53; 64 or 0 is full precision */
    bool default_nan;                   /* every NaN result is the default NaN */
    bool flush_to_zero;                 /* tiny results become zero: x86 FTZ, Arm FZ */
    bool flush_inputs;                  /* denormal operands are zero: x86 DAZ, Arm FZ */
};

static inline struct float_status float_status_init(const struct float_rules *rules)
{
    return (struct float_status){ .rules = rules };
}

static inline void float_raise(struct float_status *s, uint32_t flags)
{
    s->flags |= flags;
}

enum float_relation {
    FLOAT_LESS = -1,
    FLOAT_EQUAL = 0,
    FLOAT_GREATER = 1,
    FLOAT_UNORDERED = 2,
};

enum float_muladd {
    FLOAT_NEGATE_PRODUCT = 1,
    FLOAT_NEGATE_ADDEND = 2,
    FLOAT_NEGATE_RESULT = 4,    /* after rounding; a NaN keeps its sign */
};

/* Minima and maxima differ in their NaNs. -0 is less than +0, save for x86. */
enum float_minmax {
    FLOAT_MIN,                  /* IEEE 754-2019 minimum: a NaN operand is the result. Arm FMIN */
    FLOAT_MAX,
    FLOAT_MINNUM,               /* IEEE 754-2008 minNum: a number wins over a quiet NaN. Arm FMINNM */
    FLOAT_MAXNUM,
    FLOAT_MINNUM_MAG,
    FLOAT_MAXNUM_MAG,
    FLOAT_MINIMUM_NUMBER,       /* IEEE 754-2019 minimumNumber: wins over any NaN. RISC-V FMIN */
    FLOAT_MAXIMUM_NUMBER,
    FLOAT_MIN_X86,              /* MINPS: a < b ? a : b; any NaN is invalid */
    FLOAT_MAX_X86,
};

/* The operations every format has. A rounding that is a parameter is an enum float_round.
 *
 * F_muladd        a * b + c with one rounding; `negate` is a set of enum float_muladd
 * F_muladd_scalbn the same times 2^n, still one rounding (Arm FRSQRTS: n = -1)
 * F_rem           IEEE remainder: a - b * n, n nearest to a/b
 * F_round_to_int  to an integral value; `exact`: raise FLOAT_INEXACT when it differs
 * F_minmax        by enum float_minmax
 * F_compare       signalling: any NaN is invalid; F_compare_quiet: only a signalling one
 * F_scalbn        a * 2^n
 * F_logb          the exponent as a floating-point number; zero gives -inf and FLOAT_DIVBYZERO
 * F_to_int        a * 2^scale rounded to a signed integer of 1..64 bits, by rules->int_rule
 * F_from_int      a * 2^scale rounded to the format */
#define FLOAT_DECLARE_OPS(F, T)                                                                   \
    T F##_add(T a, T b, struct float_status *s);                                                  \
    T F##_sub(T a, T b, struct float_status *s);                                                  \
    T F##_mul(T a, T b, struct float_status *s);                                                  \
    T F##_div(T a, T b, struct float_status *s);                                                  \
    T F##_rem(T a, T b, struct float_status *s);                                                  \
    T F##_sqrt(T a, struct float_status *s);                                                      \
    T F##_muladd(T a, T b, T c, unsigned negate, struct float_status *s);                         \
    T F##_muladd_scalbn(T a, T b, T c, int n, unsigned negate, struct float_status *s);           \
    T F##_round_to_int(T a, enum float_round rounding, bool exact, struct float_status *s);       \
    T F##_minmax(T a, T b, enum float_minmax op, struct float_status *s);                         \
    enum float_relation F##_compare(T a, T b, struct float_status *s);                            \
    enum float_relation F##_compare_quiet(T a, T b, struct float_status *s);                      \
    T F##_scalbn(T a, int n, struct float_status *s);                                             \
    T F##_logb(T a, struct float_status *s);                                                      \
    T F##_silence_nan(T a, struct float_status *s);                                               \
    T F##_default_nan(const struct float_status *s);                                              \
    bool F##_is_nan(T a);                                                                         \
    bool F##_is_snan(T a, const struct float_status *s);                                          \
    FLOAT_DECLARE_INTS(F, T)

#define FLOAT_DECLARE_INTS(F, T)                                                                  \
    int64_t F##_to_int(T a, unsigned bits, int scale, enum float_round r, struct float_status *s);\
    uint64_t F##_to_uint(T a, unsigned bits, int scale, enum float_round r,                       \
                         struct float_status *s);                                                 \
    T F##_from_int(int64_t a, int scale, struct float_status *s);                                 \
    T F##_from_uint(uint64_t a, int scale, struct float_status *s);                               \
    FLOAT_INLINE_INT(F, T, 8)                                                                     \
    FLOAT_INLINE_INT(F, T, 16)                                                                    \
    FLOAT_INLINE_INT(F, T, 32)                                                                    \
    FLOAT_INLINE_INT(F, T, 64)

#define FLOAT_INLINE_INT(F, T, N)                                                                 \
    static inline int##N##_t F##_to_i##N(T a, enum float_round r, struct float_status *s)         \
    {                                                                                             \
        return (int##N##_t)F##_to_int(a, N, 0, r, s);                                             \
    }                                                                                             \
    static inline uint##N##_t F##_to_u##N(T a, enum float_round r, struct float_status *s)        \
    {                                                                                             \
        return (uint##N##_t)F##_to_uint(a, N, 0, r, s);                                           \
    }                                                                                             \
    static inline T F##_from_i##N(int##N##_t a, struct float_status *s)                           \
    {                                                                                             \
        return F##_from_int(a, 0, s);                                                             \
    }                                                                                             \
    static inline T F##_from_u##N(uint##N##_t a, struct float_status *s)                          \
    {                                                                                             \
        return F##_from_uint(a, 0, s);                                                            \
    }

FLOAT_DECLARE_OPS(f16, float16)
FLOAT_DECLARE_OPS(f32, float32)
FLOAT_DECLARE_OPS(f64, float64)
FLOAT_DECLARE_OPS(f80, float80)
FLOAT_DECLARE_OPS(f128, float128)
FLOAT_DECLARE_INTS(bf16, bfloat16)

/* Between formats. A NaN keeps the top of its payload and is quieted. */
float32 f16_to_f32(float16 a, struct float_status *s);
float64 f16_to_f64(float16 a, struct float_status *s);
float80 f16_to_f80(float16 a, struct float_status *s);
float128 f16_to_f128(float16 a, struct float_status *s);
float32 bf16_to_f32(bfloat16 a, struct float_status *s);
float64 bf16_to_f64(bfloat16 a, struct float_status *s);
float16 f32_to_f16(float32 a, struct float_status *s);
bfloat16 f32_to_bf16(float32 a, struct float_status *s);
float64 f32_to_f64(float32 a, struct float_status *s);
float80 f32_to_f80(float32 a, struct float_status *s);
float128 f32_to_f128(float32 a, struct float_status *s);
float16 f64_to_f16(float64 a, struct float_status *s);
bfloat16 f64_to_bf16(float64 a, struct float_status *s);
float32 f64_to_f32(float64 a, struct float_status *s);
float80 f64_to_f80(float64 a, struct float_status *s);
float128 f64_to_f128(float64 a, struct float_status *s);
float16 f80_to_f16(float80 a, struct float_status *s);
float32 f80_to_f32(float80 a, struct float_status *s);
float64 f80_to_f64(float80 a, struct float_status *s);
float128 f80_to_f128(float80 a, struct float_status *s);
float16 f128_to_f16(float128 a, struct float_status *s);
float32 f128_to_f32(float128 a, struct float_status *s);
float64 f128_to_f64(float128 a, struct float_status *s);
float80 f128_to_f80(float128 a, struct float_status *s);

/* Arm's alternative half precision (FPCR.AHP): no infinities, no NaNs, one more binade. */
float32 f16ahp_to_f32(float16 a, struct float_status *s);
float64 f16ahp_to_f64(float16 a, struct float_status *s);
float16 f32_to_f16ahp(float32 a, struct float_status *s);
float16 f64_to_f16ahp(float64 a, struct float_status *s);

/* x87 only (SDM vol. 1, 8.3). f80 arithmetic rounds to status->f80_precision in add, sub, mul, div
 * and sqrt; unnormals, pseudo-NaNs and pseudo-infinities are invalid operands. */

/* FPREM (`nearest` false) and FPREM1. *quotient gets the low bits of the quotient (C0, C3, C1 are its
 * bits 2, 1, 0); returns true when the reduction is partial (C2). */
bool f80_prem(float80 a, float80 b, bool nearest, float80 *result, unsigned *quotient,
              struct float_status *s);
/* FXTRACT: returns the significand as a number in [1, 2). */
float80 f80_xtract(float80 a, float80 *exponent, struct float_status *s);
/* FSCALE: a * 2^trunc(n). */
float80 f80_scale(float80 a, float80 n, struct float_status *s);
/* Unnormals and the pseudo forms. */
bool f80_is_unsupported(float80 a);

/* FBLD and FBSTP: ten bytes of packed decimal, little-endian (SDM vol. 1, 4.7). */
float80 f80_from_bcd(const uint8_t bcd[10]);
void f80_to_bcd(float80 a, uint8_t bcd[10], struct float_status *s);

enum f80_constant {
    F80_ONE, F80_LOG2_10, F80_LOG2_E, F80_PI, F80_LOG10_2, F80_LN_2, F80_ZERO,
};
/* FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ: rounded as status->rounding says. */
float80 f80_constant(enum f80_constant which, const struct float_status *s);

/* On an x86 host these run the host's instruction, as the JIT does, so that both agree to the bit;
 * elsewhere (and in the *_portable forms, which tests compare) they are computed from binary128.
 * The trigonometric ones return true (C2) and leave *result when |a| >= 2^63. */
float80 f80_f2xm1(float80 a, struct float_status *s);
float80 f80_fyl2x(float80 x, float80 y, struct float_status *s);        /* y * log2(x) */
float80 f80_fyl2xp1(float80 x, float80 y, struct float_status *s);      /* y * log2(x + 1) */
float80 f80_fpatan(float80 x, float80 y, struct float_status *s);       /* the angle of (x, y) */
bool f80_fsin(float80 a, float80 *result, struct float_status *s);
bool f80_fcos(float80 a, float80 *result, struct float_status *s);
bool f80_fsincos(float80 a, float80 *sine, float80 *cosine, struct float_status *s);
bool f80_fptan(float80 a, float80 *result, struct float_status *s);

float80 f80_f2xm1_portable(float80 a, struct float_status *s);
float80 f80_fyl2x_portable(float80 x, float80 y, struct float_status *s);
float80 f80_fyl2xp1_portable(float80 x, float80 y, struct float_status *s);
float80 f80_fpatan_portable(float80 x, float80 y, struct float_status *s);
bool f80_fsincos_portable(float80 a, float80 *sine, float80 *cosine, struct float_status *s);
bool f80_fptan_portable(float80 a, float80 *result, struct float_status *s);

#endif
