/* The portable meanings of floating-point vector operations, by software floating point: x86's SSE, AVX, FMA and F16C
 * (SDM vol. 1, chapters 11 and 14). Rounding, DAZ and FTZ come from cpu.fp_control, which has MXCSR's layout; flags are
 * collected there. A mask bit that is clear there says that the guest has unmasked the exception: underflow is then
 * tininess alone, and nothing is flushed to zero (SDM vol. 1, 4.9.1.5, 10.2.3.3). */
#include "rhea/base/softfloat.h"
#include "vop_fn.h"

enum { MX_IE = 1, MX_DE = 2, MX_ZE = 4, MX_OE = 8, MX_UE = 16, MX_PE = 32, MX_DAZ = 1 << 6, MX_UM = 1 << 11,
       MX_RC_SHIFT = 13, MX_FTZ = 1 << 15 };

static const uint8_t rounding_of_rc[4] = { FLOAT_ROUND_NEAREST_EVEN, FLOAT_ROUND_DOWN, FLOAT_ROUND_UP,
                                           FLOAT_ROUND_TO_ZERO };

static struct float_status fp_begin(const struct cpu *cpu)
{
    struct float_status s = float_status_init(&float_rules_x86_sse);
    uint32_t control = cpu->fp_control;

    s.rounding = rounding_of_rc[control >> MX_RC_SHIFT & 3];
    s.flush_inputs = control & MX_DAZ;
    s.flush_to_zero = (control & MX_FTZ) && (control & MX_UM);
    return s;
}

static void fp_end(struct cpu *cpu, const struct float_status *s)
{
    uint32_t f = s->flags;

    if (!f)
        return;
    cpu->fp_control |= (f & FLOAT_INVALID ? MX_IE : 0) | (f & FLOAT_INPUT_DENORMAL ? MX_DE : 0) |
                       (f & FLOAT_DIVBYZERO ? MX_ZE : 0) | (f & FLOAT_OVERFLOW ? MX_OE : 0) |
                       (f & FLOAT_UNDERFLOW ? MX_UE : 0) | (f & FLOAT_INEXACT ? MX_PE : 0) |
                       ((f & FLOAT_TINY) && !(cpu->fp_control & MX_UM) ? MX_UE : 0);
}

/* A row's function: `body` runs for lanes first..count-1 of type L and sets r.L[i] from va, vb, vc; r starts as a. */
#define FP_LOOP(id, L, count, body)                                                                          \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        union vec va = vec_of(a, bytes), vb = b ? vec_of(b, bytes) : va, r = va;                             \
        struct float_status st = fp_begin(cpu), *s = &st;                                                    \
        for (unsigned i = 0; i < (count); i++) {                                                             \
            __typeof__(r.L[0]) x = va.L[i], y = vb.L[i];                                                     \
            (void)x, (void)y;                                                                                \
            r.L[i] = (__typeof__(r.L[0]))(body);                                                             \
        }                                                                                                    \
        fp_end(cpu, s);                                                                                      \
        vec_put(dst, &r, bytes);                                                                             \
    }

/* The four rows of one operation; F is f32 or f64 in expr. */
#define FP_QUAD(id, expr32, expr64)                                                                          \
    FP_LOOP(id##PS, u32, bytes / 4, expr32)                                                                  \
    FP_LOOP(id##PD, u64, bytes / 8, expr64)                                                                  \
    FP_LOOP(id##SS, u32, 1, expr32)                                                                          \
    FP_LOOP(id##SD, u64, 1, expr64)

FP_QUAD(ADD, f32_add(x, y, s), f64_add(x, y, s))
FP_QUAD(SUB, f32_sub(x, y, s), f64_sub(x, y, s))
FP_QUAD(MUL, f32_mul(x, y, s), f64_mul(x, y, s))
FP_QUAD(DIV, f32_div(x, y, s), f64_div(x, y, s))
FP_QUAD(MIN, f32_minmax(x, y, FLOAT_MIN_X86, s), f64_minmax(x, y, FLOAT_MIN_X86, s))
FP_QUAD(MAX, f32_minmax(x, y, FLOAT_MAX_X86, s), f64_minmax(x, y, FLOAT_MAX_X86, s))
FP_LOOP(SQRTPS, u32, bytes / 4, f32_sqrt(x, s))
FP_LOOP(SQRTPD, u64, bytes / 8, f64_sqrt(x, s))
FP_LOOP(SQRTSS, u32, 1, f32_sqrt(y, s))
FP_LOOP(SQRTSD, u64, 1, f64_sqrt(y, s))
FP_LOOP(ADDSUBPS, u32, bytes / 4, i & 1 ? f32_add(x, y, s) : f32_sub(x, y, s))
FP_LOOP(ADDSUBPD, u64, bytes / 8, i & 1 ? f64_add(x, y, s) : f64_sub(x, y, s))

/* Neighbours of a, then of b, within each 128 bits. */
#define FP_HORIZONTAL(id, L, N, op)                                                                          \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        union vec va = vec_of(a, bytes), vb = vec_of(b, bytes), r;                                           \
        struct float_status s = fp_begin(cpu);                                                               \
        for (unsigned i = 0; i < bytes / 16 * N; i++) {                                                      \
            const union vec *v = i % N < N / 2 ? &va : &vb;                                                  \
            unsigned from = i / N * N + i % (N / 2) * 2;                                                     \
            r.L[i] = op(v->L[from], v->L[from + 1], &s);                                                     \
        }                                                                                                    \
        fp_end(cpu, &s);                                                                                     \
        vec_put(dst, &r, bytes);                                                                             \
    }
FP_HORIZONTAL(HADDPS, u32, 4, f32_add)
FP_HORIZONTAL(HADDPD, u64, 2, f64_add)
FP_HORIZONTAL(HSUBPS, u32, 4, f32_sub)
FP_HORIZONTAL(HSUBPD, u64, 2, f64_sub)

/* imm 7:4 chooses the products, 3:0 the lanes that get their sum. */
VOP_FN(DPPS)
{
    union vec va = vec_of(a, bytes), vb = vec_of(b, bytes), r;
    struct float_status s = fp_begin(cpu);

    for (unsigned base = 0; base < bytes / 4; base += 4) {
        float32 p[4] = { 0 }, sum;

        for (unsigned i = 0; i < 4; i++)
            if (imm >> (4 + i) & 1)
                p[i] = f32_mul(va.u32[base + i], vb.u32[base + i], &s);
        p[0] = f32_add(p[0], p[1], &s);
        p[2] = f32_add(p[2], p[3], &s);
        sum = f32_add(p[0], p[2], &s);
        for (unsigned i = 0; i < 4; i++)
            r.u32[base + i] = imm >> i & 1 ? sum : 0;
    }
    fp_end(cpu, &s);
    vec_put(dst, &r, bytes);
}

VOP_FN(DPPD)
{
    union vec va = vec_of(a, 16), vb = vec_of(b, 16), r;
    struct float_status s = fp_begin(cpu);
    float64 p[2] = { 0 }, sum;

    for (unsigned i = 0; i < 2; i++)
        if (imm >> (4 + i) & 1)
            p[i] = f64_mul(va.u64[i], vb.u64[i], &s);
    sum = f64_add(p[0], p[1], &s);
    for (unsigned i = 0; i < 2; i++)
        r.u64[i] = imm >> i & 1 ? sum : 0;
    fp_end(cpu, &s);
    vec_put(dst, &r, 16);
}

/* Comparison predicates, SDM vol. 2, table 3-1 (CMPPD): for which relations each is true, and whether a quiet NaN
 * signals. Predicates 16 to 31 are the first 16 with the other signalling. */
enum { REL_LT = 1, REL_EQ = 2, REL_GT = 4, REL_UN = 8 };
static const struct { uint8_t when; bool signals; } predicates[16] = {
    { REL_EQ, false }, { REL_LT, true }, { REL_LT | REL_EQ, true }, { REL_UN, false },
    { REL_LT | REL_GT | REL_UN, false }, { REL_EQ | REL_GT | REL_UN, true }, { REL_GT | REL_UN, true },
    { REL_LT | REL_EQ | REL_GT, false },
    { REL_EQ | REL_UN, false }, { REL_LT | REL_UN, true }, { REL_LT | REL_EQ | REL_UN, true }, { 0, false },
    { REL_LT | REL_GT, false }, { REL_EQ | REL_GT, true }, { REL_GT, true },
    { REL_LT | REL_EQ | REL_GT | REL_UN, false },
};

static unsigned relation_bit(enum float_relation r)
{
    return r == FLOAT_LESS ? REL_LT : r == FLOAT_EQUAL ? REL_EQ : r == FLOAT_GREATER ? REL_GT : REL_UN;
}

static bool cmp32(float32 x, float32 y, int64_t imm, struct float_status *s)
{
    bool signals = predicates[imm & 15].signals != (imm >> 4 & 1);
    enum float_relation r = signals ? f32_compare(x, y, s) : f32_compare_quiet(x, y, s);

    return predicates[imm & 15].when & relation_bit(r);
}

static bool cmp64(float64 x, float64 y, int64_t imm, struct float_status *s)
{
    bool signals = predicates[imm & 15].signals != (imm >> 4 & 1);
    enum float_relation r = signals ? f64_compare(x, y, s) : f64_compare_quiet(x, y, s);

    return predicates[imm & 15].when & relation_bit(r);
}
FP_QUAD(CMP, cmp32(x, y, imm, s) ? -1 : 0, cmp64(x, y, imm, s) ? -1 : 0)

/* EFLAGS of COMISS and kin: ZF, PF, CF; the others clear. */
static void put_relation(uint8_t *dst, enum float_relation r)
{
    uint64_t v = r == FLOAT_LESS ? 0x01 : r == FLOAT_EQUAL ? 0x40 : r == FLOAT_GREATER ? 0 : 0x45;

    memcpy(dst, &v, 8);
}
#define FP_COMPARE(id, L, op)                                                                                \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        struct float_status s = fp_begin(cpu);                                                               \
        enum float_relation r = op(vec_of(a, 16).L[0], vec_of(b, 16).L[0], &s);                              \
        fp_end(cpu, &s);                                                                                     \
        put_relation(dst, r);                                                                                \
    }
FP_COMPARE(COMISS, u32, f32_compare)
FP_COMPARE(COMISD, u64, f64_compare)
FP_COMPARE(UCOMISS, u32, f32_compare_quiet)
FP_COMPARE(UCOMISD, u64, f64_compare_quiet)

/* Rounding chosen by an immediate: bit 2 says MXCSR's. */
static enum float_round imm_rounding(int64_t imm, const struct float_status *s)
{
    return imm & 4 ? s->rounding : rounding_of_rc[imm & 3];
}
/* Rounding to an integral value, and conversions to integers, never report denormal operands. */
static uint32_t round32(float32 x, int64_t imm, struct float_status *s)
{
    uint32_t denormal = s->flags & FLOAT_INPUT_DENORMAL;
    float32 r = f32_round_to_int(x, imm_rounding(imm, s), !(imm & 8), s);

    s->flags = (s->flags & ~(uint32_t)FLOAT_INPUT_DENORMAL) | denormal;
    return r;
}
static uint64_t round64(float64 x, int64_t imm, struct float_status *s)
{
    uint32_t denormal = s->flags & FLOAT_INPUT_DENORMAL;
    float64 r = f64_round_to_int(x, imm_rounding(imm, s), !(imm & 8), s);

    s->flags = (s->flags & ~(uint32_t)FLOAT_INPUT_DENORMAL) | denormal;
    return r;
}
FP_LOOP(ROUNDPS, u32, bytes / 4, round32(x, imm, s))
FP_LOOP(ROUNDPD, u64, bytes / 8, round64(x, imm, s))
FP_LOOP(ROUNDSS, u32, 1, round32(y, imm, s))
FP_LOOP(ROUNDSD, u64, 1, round64(y, imm, s))

/* Conversions between widths. `from` lanes of a narrow or wide vector; the rest of the result is zero. */
#define FP_CONVERT(id, in, out, count, expr)                                                                 \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        union vec va = vec_of(a, bytes), r = { .u64 = { 0 } };                                               \
        struct float_status st = fp_begin(cpu), *s = &st;                                                    \
        for (unsigned i = 0; i < (count); i++) {                                                             \
            __typeof__(r.in[0]) x = va.in[i];                                                                \
            r.out[i] = (__typeof__(r.out[0]))(expr);                                                         \
        }                                                                                                    \
        fp_end(cpu, s);                                                                                      \
        memcpy(dst, &r, sizeof(r.in[0]) > sizeof(r.out[0]) ? 16 : bytes);                                    \
    }
#define VOP_A128_FN(id, in, out, expr)          /* a is 128 bits whatever the result is */                   \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        union vec va = vec_of(a, 16), r;                                                                     \
        struct float_status st = fp_begin(cpu), *s = &st;                                                    \
        for (unsigned i = 0; i < bytes / sizeof(r.out[0]); i++) {                                            \
            __typeof__(r.in[0]) x = va.in[i];                                                                \
            r.out[i] = (__typeof__(r.out[0]))(expr);                                                         \
        }                                                                                                    \
        fp_end(cpu, s);                                                                                      \
        vec_put(dst, &r, bytes);                                                                             \
    }

/* Half precision has denormals as they are: no DAZ, no DE (SDM vol. 2, VCVTPH2PS). */
static float32 half_widen(float16 x, struct float_status *s)
{
    struct float_status own = *s;
    float32 r;

    own.flush_inputs = own.flush_to_zero = false;
    own.flags = 0;
    r = f16_to_f32(x, &own);
    s->flags |= own.flags & ~(uint32_t)FLOAT_INPUT_DENORMAL;
    return r;
}
/* FTZ is ignored (VCVTPS2PH). */
static float16 half_narrow(float32 x, int64_t imm, struct float_status *s)
{
    struct float_status own = *s;
    float16 r;

    own.flush_to_zero = false;
    own.rounding = imm_rounding(imm, s);
    r = f32_to_f16(x, &own);
    s->flags |= own.flags;
    return r;
}
VOP_A128_FN(CVTPS2PD, u32, u64, f32_to_f64(x, s))
VOP_A128_FN(CVTDQ2PD, s32, u64, f64_from_int(x, 0, s))
VOP_A128_FN(CVTPH2PS, u16, u32, half_widen(x, s))
FP_CONVERT(CVTPD2PS, u64, u32, bytes / 8, f64_to_f32(x, s))
FP_CONVERT(CVTPS2PH, u32, u16, bytes / 4, half_narrow(x, imm, s))

/* To an integer of `bits` bits, rounded as MXCSR says or truncated. */
static int64_t int_of32(float32 x, unsigned bits, bool truncate, struct float_status *s)
{
    uint32_t denormal = s->flags & FLOAT_INPUT_DENORMAL;
    int64_t r = f32_to_int(x, bits, 0, truncate ? FLOAT_ROUND_TO_ZERO : s->rounding, s);

    s->flags = (s->flags & ~(uint32_t)FLOAT_INPUT_DENORMAL) | denormal;
    return r;
}
static int64_t int_of64(float64 x, unsigned bits, bool truncate, struct float_status *s)
{
    uint32_t denormal = s->flags & FLOAT_INPUT_DENORMAL;
    int64_t r = f64_to_int(x, bits, 0, truncate ? FLOAT_ROUND_TO_ZERO : s->rounding, s);

    s->flags = (s->flags & ~(uint32_t)FLOAT_INPUT_DENORMAL) | denormal;
    return r;
}
FP_CONVERT(CVTPS2DQ, u32, u32, bytes / 4, int_of32(x, 32, false, s))
FP_CONVERT(CVTTPS2DQ, u32, u32, bytes / 4, int_of32(x, 32, true, s))
FP_CONVERT(CVTPD2DQ, u64, u32, bytes / 8, int_of64(x, 32, false, s))
FP_CONVERT(CVTTPD2DQ, u64, u32, bytes / 8, int_of64(x, 32, true, s))
FP_CONVERT(CVTDQ2PS, s32, u32, bytes / 4, f32_from_int(x, 0, s))

VOP_FN(CVTSS2SD)
{
    union vec r = vec_of(a, 16);
    struct float_status s = fp_begin(cpu);

    r.u64[0] = f32_to_f64(vec_of(b, 16).u32[0], &s);
    fp_end(cpu, &s);
    vec_put(dst, &r, 16);
}
VOP_FN(CVTSD2SS)
{
    union vec r = vec_of(a, 16);
    struct float_status s = fp_begin(cpu);

    r.u32[0] = f64_to_f32(vec_of(b, 16).u64[0], &s);
    fp_end(cpu, &s);
    vec_put(dst, &r, 16);
}

/* Between lane 0 and integer registers. */
#define FP_FROM_INT(id, in, L, op)                                                                           \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        union vec r = vec_of(a, 16), n = vec_of(b, 8);                                                       \
        struct float_status s = fp_begin(cpu);                                                               \
        r.L[0] = op(n.in[0], 0, &s);                                                                         \
        fp_end(cpu, &s);                                                                                     \
        vec_put(dst, &r, 16);                                                                                \
    }
FP_FROM_INT(CVTI32SS, s32, u32, f32_from_int)
FP_FROM_INT(CVTI64SS, s64, u32, f32_from_int)
FP_FROM_INT(CVTI32SD, s32, u64, f64_from_int)
FP_FROM_INT(CVTI64SD, s64, u64, f64_from_int)

#define FP_TO_INT(id, L, op, bits, truncate)                                                                 \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        struct float_status s = fp_begin(cpu);                                                               \
        uint64_t v = (uint##bits##_t)op(vec_of(a, 16).L[0], bits, truncate, &s);                             \
        fp_end(cpu, &s);                                                                                     \
        memcpy(dst, &v, 8);                                                                                  \
    }
FP_TO_INT(CVTSS2I32, u32, int_of32, 32, false)
FP_TO_INT(CVTSS2I64, u32, int_of32, 64, false)
FP_TO_INT(CVTTSS2I32, u32, int_of32, 32, true)
FP_TO_INT(CVTTSS2I64, u32, int_of32, 64, true)
FP_TO_INT(CVTSD2I32, u64, int_of64, 32, false)
FP_TO_INT(CVTSD2I64, u64, int_of64, 64, false)
FP_TO_INT(CVTTSD2I32, u64, int_of64, 32, true)
FP_TO_INT(CVTTSD2I64, u64, int_of64, 64, true)

/* The factors and the addend in the order in which the instruction looks at them, by its form (imm). */
#define FMA_LOOP(id, L, F, count, negate)                                                                    \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        union vec va = vec_of(a, bytes), vb = vec_of(b, bytes), vc = vec_of(c, bytes), r = va;               \
        const union vec *x = imm == 0 ? &va : &vb, *y = imm == 1 ? &va : &vc;                                \
        const union vec *z = imm == 0 ? &vb : imm == 1 ? &vc : &va;                                          \
        struct float_status s = fp_begin(cpu);                                                               \
        for (unsigned i = 0; i < (count); i++)                                                               \
            r.L[i] = F##_muladd(x->L[i], y->L[i], z->L[i], negate, &s);                                      \
        fp_end(cpu, &s);                                                                                     \
        vec_put(dst, &r, bytes);                                                                             \
    }
#define FMA_QUAD(id, negate)                                                                                 \
    FMA_LOOP(id##PS, u32, f32, bytes / 4, negate)                                                            \
    FMA_LOOP(id##PD, u64, f64, bytes / 8, negate)                                                            \
    FMA_LOOP(id##SS, u32, f32, 1, negate)                                                                    \
    FMA_LOOP(id##SD, u64, f64, 1, negate)
FMA_QUAD(FMADD, 0)
FMA_QUAD(FMSUB, FLOAT_NEGATE_ADDEND)
FMA_QUAD(FNMADD, FLOAT_NEGATE_PRODUCT)
FMA_QUAD(FNMSUB, FLOAT_NEGATE_PRODUCT | FLOAT_NEGATE_ADDEND)
FMA_LOOP(FMADDSUBPS, u32, f32, bytes / 4, i & 1 ? 0 : FLOAT_NEGATE_ADDEND)
FMA_LOOP(FMADDSUBPD, u64, f64, bytes / 8, i & 1 ? 0 : FLOAT_NEGATE_ADDEND)
FMA_LOOP(FMSUBADDPS, u32, f32, bytes / 4, i & 1 ? FLOAT_NEGATE_ADDEND : 0)
FMA_LOOP(FMSUBADDPD, u64, f64, bytes / 8, i & 1 ? FLOAT_NEGATE_ADDEND : 0)

/* a plus or minus b * c */
#define FP_MULADD(id, L, F, count, op)                                                                       \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        union vec r = vec_of(a, bytes), vb = vec_of(b, bytes), vc = vec_of(c, bytes);                        \
        struct float_status s = fp_begin(cpu);                                                               \
        for (unsigned i = 0; i < (count); i++)                                                               \
            r.L[i] = F##_##op(r.L[i], F##_mul(vb.L[i], vc.L[i], &s), &s);                                    \
        fp_end(cpu, &s);                                                                                     \
        vec_put(dst, &r, bytes);                                                                             \
    }
FP_MULADD(MULADDPS, u32, f32, bytes / 4, add)
FP_MULADD(MULADDSS, u32, f32, 1, add)
FP_MULADD(MULADDSD, u64, f64, 1, add)
FP_MULADD(MULSUBPS, u32, f32, bytes / 4, sub)
FP_MULADD(MULSUBSS, u32, f32, 1, sub)
FP_MULADD(MULSUBSD, u64, f64, 1, sub)

/* RCPPS and RSQRTPS approximate, and processors differ in how: on an x86 host the host's own instruction is the meaning,
 * as the JIT's code is; elsewhere the exact value rounded to 12 bits, within the error that the SDM allows. */
#ifdef __x86_64__
#include <immintrin.h>
static uint32_t approx(uint32_t x, bool root)
{
    __m128 v = _mm_castsi128_ps(_mm_cvtsi32_si128((int)x));

    return (uint32_t)_mm_cvtsi128_si32(_mm_castps_si128(root ? _mm_rsqrt_ss(v) : _mm_rcp_ss(v)));
}
#else
static uint32_t approx(uint32_t x, bool root)
{
    struct float_status s = float_status_init(&float_rules_x86_sse);
    float32 one = 0x3f800000, r;

    s.flush_inputs = s.flush_to_zero = true;
    r = f32_div(one, root ? f32_sqrt(x, &s) : x, &s);
    return f32_is_nan(r) ? r : r & ~0x7ffu;
}
#endif
#define FP_APPROX(id, count, of, root)                                                                       \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        union vec r = vec_of(a, bytes), from = vec_of(of, bytes);                                            \
        for (unsigned i = 0; i < (count); i++)                                                               \
            r.u32[i] = approx(from.u32[i], root);                                                            \
        vec_put(dst, &r, bytes);                                                                             \
    }
FP_APPROX(RCPPS, bytes / 4, a, false)
FP_APPROX(RSQRTPS, bytes / 4, a, true)
FP_APPROX(RCPSS, 1, b, false)
FP_APPROX(RSQRTSS, 1, b, true)
