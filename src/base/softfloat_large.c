/* Software floating point on 128-bit significands: x87 double extended and binary128, and all
 * conversions from and to them. */
#include "softfloat_large.h"

FLOAT_DEFINE_PACKING(f16, float16, 16)
FLOAT_DEFINE_PACKING(f32, float32, 32)
FLOAT_DEFINE_PACKING(f64, float64, 64)

FLOAT_DEFINE_OPS(f80, float80)
FLOAT_DEFINE_OPS(f128, float128)

FLOAT_DEFINE_CONVERT(f16, f80, float16, float80)
FLOAT_DEFINE_CONVERT(f16, f128, float16, float128)
FLOAT_DEFINE_CONVERT(f32, f80, float32, float80)
FLOAT_DEFINE_CONVERT(f32, f128, float32, float128)
FLOAT_DEFINE_CONVERT(f64, f80, float64, float80)
FLOAT_DEFINE_CONVERT(f64, f128, float64, float128)
FLOAT_DEFINE_CONVERT(f80, f16, float80, float16)
FLOAT_DEFINE_CONVERT(f80, f32, float80, float32)
FLOAT_DEFINE_CONVERT(f80, f64, float80, float64)
FLOAT_DEFINE_CONVERT(f80, f128, float80, float128)
FLOAT_DEFINE_CONVERT(f128, f16, float128, float16)
FLOAT_DEFINE_CONVERT(f128, f32, float128, float32)
FLOAT_DEFINE_CONVERT(f128, f64, float128, float64)
FLOAT_DEFINE_CONVERT(f128, f80, float128, float80)
