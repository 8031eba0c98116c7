/* Software floating point on 64-bit significands: binary16, bfloat16, binary32, binary64. */
#include <stdint.h>

typedef uint64_t frac_t;

#include "softfloat_parts.h"
#include "softfloat_ops.h"

static const struct float_format bf16_format = { 7, 127, 255, false, false };
static const struct float_format f16ahp_format = { 10, 15, 31, false, true };

static inline int frac_clz(frac_t a)
{
    return __builtin_clzll(a);
}

static inline frac_t frac_mul(frac_t a, frac_t b, frac_t *lo)
{
    unsigned __int128 product = (unsigned __int128)a * b;

    *lo = (frac_t)product;
    return (frac_t)(product >> 64);
}

static inline frac_t frac_div(frac_t hi, frac_t d, frac_t *rem)
{
    unsigned __int128 n = (unsigned __int128)hi << 64;
    frac_t q = (frac_t)(n / d);

    *rem = (frac_t)n - q * d;
    return q;
}

static inline uint64_t frac_mod_step(frac_t *r, int k, frac_t d)
{
    unsigned __int128 n = (unsigned __int128)*r << k;
    uint64_t q = (uint64_t)(n / d);

    *r = (frac_t)n - q * d;
    return q;
}

static inline frac_t frac_sqrt(frac_t a, bool *inexact)
{
    unsigned __int128 rem;
    frac_t root = sqrt_128((unsigned __int128)a << 64, &rem);

    *inexact = rem != 0;
    return root;
}

FLOAT_DEFINE_PACKING(f16, float16, 16)
FLOAT_DEFINE_PACKING(bf16, bfloat16, 16)
FLOAT_DEFINE_PACKING(f32, float32, 32)
FLOAT_DEFINE_PACKING(f64, float64, 64)
FLOAT_DEFINE_PACKING(f16ahp, float16, 16)

FLOAT_DEFINE_PACKING_OPS(f16, float16, 16)
FLOAT_DEFINE_PACKING_OPS(f32, float32, 32)
FLOAT_DEFINE_PACKING_OPS(f64, float64, 64)

FLOAT_DEFINE_OPS(f16, float16)
FLOAT_DEFINE_OPS(f32, float32)
FLOAT_DEFINE_OPS(f64, float64)
FLOAT_DEFINE_INTS(bf16, bfloat16)

FLOAT_DEFINE_CONVERT(f16, f32, float16, float32)
FLOAT_DEFINE_CONVERT(f16, f64, float16, float64)
FLOAT_DEFINE_CONVERT(bf16, f32, bfloat16, float32)
FLOAT_DEFINE_CONVERT(bf16, f64, bfloat16, float64)
FLOAT_DEFINE_CONVERT(f32, f16, float32, float16)
FLOAT_DEFINE_CONVERT(f32, bf16, float32, bfloat16)
FLOAT_DEFINE_CONVERT(f32, f64, float32, float64)
FLOAT_DEFINE_CONVERT(f64, f16, float64, float16)
FLOAT_DEFINE_CONVERT(f64, bf16, float64, bfloat16)
FLOAT_DEFINE_CONVERT(f64, f32, float64, float32)
FLOAT_DEFINE_CONVERT(f16ahp, f32, float16, float32)
FLOAT_DEFINE_CONVERT(f16ahp, f64, float16, float64)

/* Arm ARM, FPConvert and FPRound with FPCR.AHP: what the format lacks is an invalid operation. */
static float16 ahp_pack(struct parts p, struct float_status *s)
{
    if (parts_is_nan(&p) || p.class == CLASS_INF) {
        float_raise(s, FLOAT_INVALID);
        return (float16)(p.sign << 15 | (p.class == CLASS_INF ? 0x7fff : 0));
    }
    return f16ahp_pack(p, s);
}

float16 f32_to_f16ahp(float32 a, struct float_status *s)
{
    return ahp_pack(f32_unpack(a, s), s);
}

float16 f64_to_f16ahp(float64 a, struct float_status *s)
{
    return ahp_pack(f64_unpack(a, s), s);
}
