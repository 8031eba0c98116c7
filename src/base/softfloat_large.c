/* Software floating point on 128-bit significands: x87 double extended and binary128, and all
 * conversions from and to them. */
#include "rhea/base/softfloat_f80.h"
#include "softfloat_large.h"

FLOAT_DEFINE_PACKING(f16, float16, 16)
FLOAT_DEFINE_PACKING(f32, float32, 32)
FLOAT_DEFINE_PACKING(f64, float64, 64)

FLOAT_DEFINE_USUAL(static, f80_any, f80, float80)
FLOAT_DEFINE_OTHERS(f80, float80)
FLOAT_DEFINE_OPS(f128, float128)

FLOAT_DEFINE_CONVERT(f16, f80, float16, float80)
FLOAT_DEFINE_CONVERT(f16, f128, float16, float128)
FLOAT_DEFINE_CONVERT_AS(static, f32_any_to_f80, f32, f80, float32, float80)
FLOAT_DEFINE_CONVERT(f32, f128, float32, float128)
FLOAT_DEFINE_CONVERT_AS(static, f64_any_to_f80, f64, f80, float64, float80)
FLOAT_DEFINE_CONVERT(f64, f128, float64, float128)
FLOAT_DEFINE_CONVERT(f80, f16, float80, float16)
FLOAT_DEFINE_CONVERT_AS(static, f80_any_to_f32, f80, f32, float80, float32)
FLOAT_DEFINE_CONVERT_AS(static, f80_any_to_f64, f80, f64, float80, float64)
FLOAT_DEFINE_CONVERT(f80, f128, float80, float128)
FLOAT_DEFINE_CONVERT(f128, f16, float128, float16)
FLOAT_DEFINE_CONVERT(f128, f32, float128, float32)
FLOAT_DEFINE_CONVERT(f128, f64, float128, float64)
FLOAT_DEFINE_CONVERT(f128, f80, float128, float80)

/* ---- f80's usual operations: on plain operands quickly, else as all formats do them */

#define F80_OP(op)                                                                                \
    float80 f80_##op(float80 a, float80 b, struct float_status *s)                                \
    {                                                                                             \
        float80 r;                                                                                \
                                                                                                  \
        return f80_plain_##op(a, b, &r, s) ? r : f80_any_##op(a, b, s);                           \
    }
F80_OP(add)
F80_OP(mul)
F80_OP(div)

float80 f80_sub(float80 a, float80 b, struct float_status *s)
{
    float80 r;

    return f80_plain_add(a, f80_negate(b), &r, s) ? r : f80_any_sub(a, b, s);
}

enum float_relation f80_compare(float80 a, float80 b, struct float_status *s)
{
    enum float_relation r;

    return f80_plain_compare(a, b, &r) ? r : f80_any_compare(a, b, s);
}

enum float_relation f80_compare_quiet(float80 a, float80 b, struct float_status *s)
{
    enum float_relation r;

    return f80_plain_compare(a, b, &r) ? r : f80_any_compare_quiet(a, b, s);
}

float80 f32_to_f80(float32 a, struct float_status *s)
{
    float80 r;

    return f32_plain_to_f80(a, &r) ? r : f32_any_to_f80(a, s);
}

float80 f64_to_f80(float64 a, struct float_status *s)
{
    float80 r;

    return f64_plain_to_f80(a, &r) ? r : f64_any_to_f80(a, s);
}

float32 f80_to_f32(float80 a, struct float_status *s)
{
    float32 r;

    return f80_plain_to_f32(a, &r, s) ? r : f80_any_to_f32(a, s);
}

float64 f80_to_f64(float80 a, struct float_status *s)
{
    float64 r;

    return f80_plain_to_f64(a, &r, s) ? r : f80_any_to_f64(a, s);
}

int64_t f80_to_int(float80 a, unsigned bits, int scale, enum float_round rounding, struct float_status *s)
{
    int64_t r;

    return !scale && f80_plain_to_int(a, bits, rounding, &r, s) ? r : f80_any_to_int(a, bits, scale, rounding, s);
}

float80 f80_from_int(int64_t a, int scale, struct float_status *s)
{
    return scale ? f80_any_from_int(a, scale, s) : f80_plain_from_int(a);
}
