/* Floating point in software, by the Arm ARM's shared pseudocode (DDI 0487 J1.3.3): what host arithmetic can't do, and what
 * it does otherwise (ir_vfix). Flags gather in fp_status; the host's are not touched. */
#include <string.h>
#include "simd_ops.h"


union lanes {
    uint16_t u16[8];
    uint32_t u32[4];
    uint64_t u64[2];
};
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "lanes are in the host's order");

static union lanes load(const uint8_t *p)
{
    union lanes v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static uint64_t lane(const union lanes *v, unsigned size, unsigned n)
{
    return size == 1 ? v->u16[n & 7] : size == 2 ? v->u32[n & 3] : v->u64[n & 1];
}

static void put_lane(union lanes *v, unsigned size, unsigned n, uint64_t x)
{
    if (size == 1)
        v->u16[n & 7] = (uint16_t)x;
    else if (size == 2)
        v->u32[n & 3] = (uint32_t)x;
    else
        v->u64[n & 1] = x;
}

/* ---- status of one operation */

enum { FPCR_FZ16 = 1 << 19, FPCR_AHP = 1 << 26 };

struct fp_op {
    struct float_status s;
    unsigned size, arg;
    bool ahp;
};

static struct fp_op fp_begin(const struct arm_cpu *c, uint32_t desc)
{
    unsigned size = simd_desc_size(desc);
    struct fp_op o = { .s = size == 1 ? c->fp16_status : c->fp_status, .size = size, .arg = simd_desc_arg(desc),
                       .ahp = c->fpcr & FPCR_AHP };

    o.s.flags = 0;
    if (desc & SIMD_STANDARD) {         /* StandardFPCR(): AHP and FZ16 stay */
        o.s.rounding = FLOAT_ROUND_NEAREST_EVEN;
        o.s.default_nan = true;
        if (size != 1)
            o.s.flush_to_zero = o.s.flush_inputs = true;
    }
    return o;
}

static void fp_end(struct arm_cpu *c, const struct fp_op *o)
{
    uint32_t flags = o->s.flags;

    if (o->size == 1)                   /* a half flushed on input sets no flag */
        flags &= ~(uint32_t)FLOAT_INPUT_DENORMAL_FLUSHED;
    c->fp_status.flags |= flags;
}

/* The status of conversions, where halves are never flushed (FPUnpackCV, FPRoundCV): the wider format's. */
static void fp_convert_status(struct fp_op *o, const struct arm_cpu *c, uint32_t desc, bool from_half)
{
    bool flush = desc & SIMD_STANDARD || c->fp_status.flush_inputs;

    o->s.flush_inputs = flush && !from_half;
    o->s.flush_to_zero = false;
    o->size = 2;
}

static enum float_round rounding_of(const struct fp_op *o, unsigned arg)
{
    return arg == FP_ROUND_FPCR ? o->s.rounding : (enum float_round)arg;
}

/* ---- estimates: any format, by its fields */

struct format { uint8_t frac, exp; };
static const struct format formats[4] = { { 0 }, { 10, 5 }, { 23, 8 }, { 52, 11 } };

static uint64_t sign_bit(unsigned size) { return UINT64_C(1) << ((8u << size) - 1); }
static uint64_t inf_of(unsigned size) { return ((UINT64_C(1) << formats[size].exp) - 1) << formats[size].frac; }
static bool is_inf(unsigned size, uint64_t x) { return (x & ~sign_bit(size)) == inf_of(size); }
static bool is_nan(unsigned size, uint64_t x) { return (x & ~sign_bit(size)) > inf_of(size); }
static bool is_denormal(unsigned size, uint64_t x)
{
    x &= ~sign_bit(size);
    return x && !(x >> formats[size].frac);
}
/* A zero, as the operation sees it. */
static bool is_zero(const struct fp_op *o, uint64_t x)
{
    return !(x & ~sign_bit(o->size)) || (o->s.flush_inputs && is_denormal(o->size, x));
}
static uint64_t flush_input(struct fp_op *o, uint64_t x)
{
    if (!o->s.flush_inputs || !is_denormal(o->size, x))
        return x;
    float_raise(&o->s, FLOAT_INPUT_DENORMAL_FLUSHED);
    return x & sign_bit(o->size);
}

static uint64_t process_nan(struct fp_op *o, uint64_t x)
{
    switch (o->size) {
    case 1: return f16_add((float16)x, (float16)x, &o->s);
    case 2: return f32_add((float32)x, (float32)x, &o->s);
    default: return f64_add(x, x, &o->s);
    }
}

static uint64_t default_nan(unsigned size) { return inf_of(size) | (UINT64_C(1) << (formats[size].frac - 1)); }

/* Biased exponent and fraction (52 bits) of a number that is neither zero nor special. */
static int split(unsigned size, uint64_t x, uint64_t *fraction)
{
    const struct format *f = &formats[size];

    *fraction = (x << (52 - f->frac)) & ((UINT64_C(1) << 52) - 1);
    return (int)(x >> f->frac & ((1u << f->exp) - 1));
}
static uint64_t join(unsigned size, uint64_t sign, int exp, uint64_t fraction)
{
    return sign | (uint64_t)exp << formats[size].frac | fraction >> (52 - formats[size].frac);
}
enum { FRACTION_BITS = 52 };
#define FRACTION_TOP (UINT64_C(1) << (FRACTION_BITS - 1))

/* 1/x would be beyond the greatest number: FPRecipEstimate(). */
static uint64_t recip_overflow(struct fp_op *o, uint64_t sign)
{
    bool to_inf = o->s.rounding == FLOAT_ROUND_NEAREST_EVEN || o->s.rounding == (sign ? FLOAT_ROUND_DOWN : FLOAT_ROUND_UP);

    float_raise(&o->s, FLOAT_OVERFLOW | FLOAT_INEXACT);
    return sign | (to_inf ? inf_of(o->size) : inf_of(o->size) - 1);
}

static uint64_t recip_estimate(struct fp_op *o, uint64_t x)
{
    uint64_t sign = x & sign_bit(o->size), fraction;
    int exp, bias = (1 << (formats[o->size].exp - 1)) - 1, result;

    if (is_nan(o->size, x))
        return process_nan(o, x);
    x = flush_input(o, x);
    if (is_inf(o->size, x))
        return sign;
    if (!(x & ~sign_bit(o->size))) {
        float_raise(&o->s, FLOAT_DIVBYZERO);
        return sign | inf_of(o->size);
    }
    exp = split(o->size, x, &fraction);
    if (!exp && fraction >> (FRACTION_BITS - 2) == 0)           /* below 2^-(bias + 1) */
        return recip_overflow(o, sign);
    if (o->s.flush_to_zero && exp >= 2 * bias - 1) {            /* the result would be denormal */
        float_raise(&o->s, FLOAT_UNDERFLOW);
        return sign;
    }
    if (!exp) {
        if (fraction & FRACTION_TOP) {
            fraction <<= 1;
        } else {
            exp = -1;
            fraction <<= 2;
        }
        fraction &= (FRACTION_TOP << 1) - 1;
    }
    result = 2 * bias - 1 - exp;
    fraction = (uint64_t)(arm_recip_estimate(256 + (uint32_t)(fraction >> 44)) & 0xff) << 44;
    if (result == 0) {
        fraction = FRACTION_TOP | fraction >> 1;
    } else if (result == -1) {
        fraction = FRACTION_TOP >> 1 | fraction >> 2;
        result = 0;
    }
    return join(o->size, sign, result, fraction);
}

static uint64_t recip_sqrt_estimate(struct fp_op *o, uint64_t x)
{
    uint64_t sign = x & sign_bit(o->size), fraction;
    int exp, bias = (1 << (formats[o->size].exp - 1)) - 1;
    uint32_t scaled;

    if (is_nan(o->size, x))
        return process_nan(o, x);
    x = flush_input(o, x);
    if (!(x & ~sign_bit(o->size))) {
        float_raise(&o->s, FLOAT_DIVBYZERO);
        return sign | inf_of(o->size);
    }
    if (sign) {
        float_raise(&o->s, FLOAT_INVALID);
        return default_nan(o->size);
    }
    if (is_inf(o->size, x))
        return 0;
    exp = split(o->size, x, &fraction);
    if (!exp) {
        while (!(fraction & FRACTION_TOP)) {
            fraction <<= 1;
            exp--;
        }
        fraction = fraction << 1 & ((FRACTION_TOP << 1) - 1);
    }
    scaled = exp & 1 ? 128 + (uint32_t)(fraction >> 45) : 256 + (uint32_t)(fraction >> 44);
    return join(o->size, 0, (3 * bias - 1 - exp) >> 1, (uint64_t)(arm_recip_sqrt_estimate(scaled) & 0xff) << 44);
}

static uint64_t recip_exponent(struct fp_op *o, uint64_t x)
{
    const struct format *f = &formats[o->size];
    uint64_t sign = x & sign_bit(o->size), ones = (UINT64_C(1) << f->exp) - 1, exp = x >> f->frac & ones;

    if (is_nan(o->size, x))
        return process_nan(o, x);
    flush_input(o, x);
    return sign | (exp ? ~exp & ones : ones - 1) << f->frac;
}

/* ---- conversions */

static uint64_t to_int(struct fp_op *o, uint64_t x, bool is_signed, unsigned bits)
{
    int scale = o->arg & 127;
    enum float_round r = rounding_of(o, o->arg >> 7 & 7);
    uint64_t v;

    switch (o->size) {
    case 1: v = is_signed ? (uint64_t)f16_to_int((float16)x, bits, scale, r, &o->s) : f16_to_uint((float16)x, bits, scale, r, &o->s); break;
    case 2: v = is_signed ? (uint64_t)f32_to_int((float32)x, bits, scale, r, &o->s) : f32_to_uint((float32)x, bits, scale, r, &o->s); break;
    default: v = is_signed ? (uint64_t)f64_to_int(x, bits, scale, r, &o->s) : f64_to_uint(x, bits, scale, r, &o->s); break;
    }
    return bits == 64 ? v : v & ((UINT64_C(1) << bits) - 1);
}

static uint64_t from_int(struct fp_op *o, uint64_t x, bool is_signed, unsigned bits)
{
    int scale = -(int)(o->arg & 127);
    int64_t n = (int64_t)(x << (64 - bits)) >> (64 - bits);
    uint64_t u = x << (64 - bits) >> (64 - bits);

    switch (o->size) {
    case 1: return is_signed ? f16_from_int(n, scale, &o->s) : f16_from_uint(u, scale, &o->s);
    case 2: return is_signed ? f32_from_int(n, scale, &o->s) : f32_from_uint(u, scale, &o->s);
    default: return is_signed ? f64_from_int(n, scale, &o->s) : f64_from_uint(u, scale, &o->s);
    }
}

static uint64_t round_to_int(struct fp_op *o, uint64_t x)
{
    enum float_round r = o->arg & 16 ? o->s.rounding : (enum float_round)(o->arg & 7);
    bool exact = o->arg & 8;

    switch (o->size) {
    case 1: return f16_round_to_int((float16)x, r, exact, &o->s);
    case 2: return f32_round_to_int((float32)x, r, exact, &o->s);
    default: return f64_round_to_int(x, r, exact, &o->s);
    }
}

/* FPRoundIntN(): what does not fit an integer of 32 or 64 bits becomes its least number, and is invalid alone. */
static uint64_t round_to_width(struct fp_op *o, uint64_t x, unsigned bits)
{
    struct fp_op try = *o;
    bool fits;

    try.arg = FP_ARG_INT(0, o->arg & 16 ? FP_ROUND_FPCR : o->arg & 7, 0);
    try.s.flags = 0;
    to_int(&try, x, true, bits);
    fits = !(try.s.flags & FLOAT_INVALID);
    if (fits && !is_nan(o->size, x))
        return round_to_int(o, x);
    float_raise(&o->s, FLOAT_INVALID);
    flush_input(o, x);
    return o->size == 2 ? (bits == 32 ? 0xcf000000u : 0xdf000000u) : bits == 32 ? UINT64_C(0xc1e0000000000000) : UINT64_C(0xc3e0000000000000);
}

static uint64_t square_root(struct fp_op *o, uint64_t x)
{
    switch (o->size) {
    case 1: return f16_sqrt((float16)x, &o->s);
    case 2: return f32_sqrt((float32)x, &o->s);
    default: return f64_sqrt(x, &o->s);
    }
}

/* Operations from one lane to one of the same size. */
static uint64_t one_lane(struct fp_op *o, unsigned op, uint64_t x)
{
    switch (op) {
    case FP_SQRT: return square_root(o, x);
    case FP_RINT: return round_to_int(o, x);
    case FP_RINT32: return round_to_width(o, x, 32);
    case FP_RINT64: return round_to_width(o, x, 64);
    case FP_RECPE: return recip_estimate(o, x);
    case FP_RSQRTE: return recip_sqrt_estimate(o, x);
    case FP_RECPX: return recip_exponent(o, x);
    case FP_TO_INT: return to_int(o, x, true, 8u << o->size);
    case FP_TO_UINT: return to_int(o, x, false, 8u << o->size);
    case FP_FROM_INT: return from_int(o, x, true, 8u << o->size);
    case FP_FROM_UINT: return from_int(o, x, false, 8u << o->size);
    case FP_FLUSH: return flush_input(o, x);
    default: return is_nan(o->size, x) ? process_nan(o, x) : x;
    }
}

/* Between formats: desc has the result's size. */
static uint64_t convert(struct fp_op *o, unsigned op, unsigned to, uint64_t x)
{
    struct float_status *s = &o->s;

    switch (op) {
    case FP_WIDEN:
        return to == 3 ? f32_to_f64((float32)x, s) : o->ahp ? f16ahp_to_f32((float16)x, s) : f16_to_f32((float16)x, s);
    case FP_NARROW:
        if (o->arg & 1)
            s->rounding = FLOAT_ROUND_TO_ODD;
        return to == 2 ? f64_to_f32(x, s) : o->ahp ? f32_to_f16ahp((float32)x, s) : f32_to_f16((float32)x, s);
    case FP_HALF_TO_DOUBLE:
        return o->ahp ? f16ahp_to_f64((float16)x, s) : f16_to_f64((float16)x, s);
    case FP_DOUBLE_TO_HALF:
        return o->ahp ? f64_to_f16ahp(x, s) : f64_to_f16(x, s);
    default:
        return f32_to_bf16((float32)x, s);
    }
}

static bool is_convert(unsigned op)
{
    return op == FP_WIDEN || op == FP_NARROW || op == FP_HALF_TO_DOUBLE || op == FP_DOUBLE_TO_HALF || op == FP_TO_BF16;
}

static unsigned convert_source(unsigned op, unsigned size)
{
    switch (op) {
    case FP_WIDEN: return size - 1;
    case FP_HALF_TO_DOUBLE: return 1;
    case FP_DOUBLE_TO_HALF: return 3;
    default: return size + 1;
    }
}

static void convert_lanes(struct arm_cpu *c, uint8_t *result, uint32_t desc, const union lanes *n)
{
    unsigned op = simd_desc_op(desc), to = simd_desc_size(desc), from = convert_source(op, to);
    struct fp_op o = fp_begin(c, desc);
    union lanes r = load(result);

    if (from == 1 || (to == 1 && op != FP_TO_BF16))
        fp_convert_status(&o, c, desc, from == 1);
    else if (op == FP_TO_BF16)
        o = fp_begin(c, SIMD_DESC(op, 2, 0, 0) | (desc & SIMD_STANDARD));
    for (unsigned i = 0; i < simd_desc_lanes(desc); i++)
        put_lane(&r, to, i, convert(&o, op, to, lane(n, from, i)));
    fp_end(c, &o);
    memcpy(result, &r, sizeof(r));
}

/* Estimates of singles that are as usual, and raise nothing: normal, the results as well, those of roots positive. */
static bool estimate_singles(union lanes *r, uint32_t desc, const union lanes *n)
{
    bool root = simd_desc_op(desc) == FP_RSQRTE;

    if (simd_desc_size(desc) != 2 || (!root && simd_desc_op(desc) != FP_RECPE))
        return false;
    for (unsigned i = 0; i < simd_desc_lanes(desc); i++) {
        uint32_t x = n->u32[i & 3], exp = x >> 23 & 0xff, top = x >> 15 & 0xff;

        if (exp - 1 > (root ? 253 : 251) || (root && x >> 31))
            return false;
        if (root)
            r->u32[i & 3] = (380 - exp) >> 1 << 23 | (arm_recip_sqrt_estimate(exp & 1 ? 128 + top / 2 : 256 + top) & 0xff) << 15;
        else
            r->u32[i & 3] = (x & 0x80000000) | (253 - exp) << 23 | (arm_recip_estimate(256 + top) & 0xff) << 15;
    }
    return true;
}

void arm_fp1(struct arm_cpu *c, uint8_t *result, uint32_t desc, const uint8_t *np)
{
    union lanes n = load(np), r = load(result);
    struct fp_op o;

    if (estimate_singles(&r, desc, &n)) {
        memcpy(result, &r, sizeof(r));
        return;
    }
    o = fp_begin(c, desc);
    r = load(result);
    if (is_convert(simd_desc_op(desc))) {
        convert_lanes(c, result, desc, &n);
        return;
    }
    for (unsigned i = 0; i < simd_desc_lanes(desc); i++)
        put_lane(&r, o.size, i, one_lane(&o, simd_desc_op(desc), lane(&n, o.size, i)));
    fp_end(c, &o);
    memcpy(result, &r, sizeof(r));
}

/* FPToFixedJS(): modulo 2^32; bit 32 is Z, set where nothing was lost. */
static uint64_t to_int_js(struct fp_op *o, uint64_t x)
{
    struct float_status s = o->s;
    int exp = (int)(x >> 52 & 0x7ff) - 1075;
    uint64_t frac = (x & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1) << 52, v;
    int64_t n = f64_to_int(x, 32, 0, FLOAT_ROUND_TO_ZERO, &s);

    o->s.flags |= s.flags;              /* s.flags began as none: see fp_begin() */
    if (!(s.flags & FLOAT_INVALID)) {
        bool exact = !(s.flags & (FLOAT_INEXACT | FLOAT_INPUT_DENORMAL_FLUSHED)) && x != UINT64_C(1) << 63;
        return (uint32_t)n | (uint64_t)exact << 32;
    }
    if (exp > 31 || is_nan(3, x))       /* all of it is above bit 31 */
        return 0;
    v = exp >= 0 ? frac << exp : frac >> -exp;
    return (uint32_t)(x >> 63 ? -v : v);
}

uint64_t arm_fp_to_int(struct arm_cpu *c, uint32_t desc, uint64_t v)
{
    struct fp_op o = fp_begin(c, desc);
    unsigned op = simd_desc_op(desc);
    uint64_t r;

    if (op == FP_JCVT)
        r = to_int_js(&o, v);
    else
        r = to_int(&o, o.size == 3 ? v : v & (2 * sign_bit(o.size) - 1), op == FP_TO_INT, o.arg >> 10 & 1 ? 64 : 32);
    fp_end(c, &o);
    return r;
}

uint64_t arm_fp_from_int(struct arm_cpu *c, uint32_t desc, uint64_t v)
{
    struct fp_op o = fp_begin(c, desc);
    uint64_t r = from_int(&o, v, simd_desc_op(desc) == FP_FROM_INT, o.arg >> 10 & 1 ? 64 : 32);

    fp_end(c, &o);
    return r;
}

/* ---- two operands */

/* The products that steps and FMULX define: infinity times zero. */
static bool inf_times_zero(const struct fp_op *o, uint64_t a, uint64_t b)
{
    return (is_inf(o->size, a) && is_zero(o, b)) || (is_zero(o, a) && is_inf(o->size, b));
}
static const uint64_t one_and_half[4] = { 0, 0x3e00, 0x3fc00000, UINT64_C(0x3ff8000000000000) };
static const uint64_t two[4] = { 0, 0x4000, 0x40000000, UINT64_C(0x4000000000000000) };
static const uint64_t three[4] = { 0, 0x4200, 0x40400000, UINT64_C(0x4008000000000000) };

static uint64_t muladd_scaled(struct fp_op *o, uint64_t a, uint64_t b, uint64_t c, int n)
{
    switch (o->size) {
    case 1: return f16_muladd_scalbn((float16)a, (float16)b, (float16)c, n, 0, &o->s);
    case 2: return f32_muladd_scalbn((float32)a, (float32)b, (float32)c, n, 0, &o->s);
    default: return f64_muladd_scalbn(a, b, c, n, 0, &o->s);
    }
}

enum { TWO_ADD, TWO_SUB, TWO_MUL, TWO_DIV };
static uint64_t arithmetic(struct fp_op *o, unsigned op, uint64_t a, uint64_t b)
{
#define BY(F, T) (op == TWO_ADD ? F##_add((T)a, (T)b, &o->s) : op == TWO_SUB ? F##_sub((T)a, (T)b, &o->s) : \
                  op == TWO_MUL ? F##_mul((T)a, (T)b, &o->s) : F##_div((T)a, (T)b, &o->s))
    switch (o->size) {
    case 1: return BY(f16, float16);
    case 2: return BY(f32, float32);
    default: return BY(f64, float64);
    }
#undef BY
}

static uint64_t minmax(struct fp_op *o, enum float_minmax op, uint64_t a, uint64_t b)
{
    switch (o->size) {
    case 1: return f16_minmax((float16)a, (float16)b, op, &o->s);
    case 2: return f32_minmax((float32)a, (float32)b, op, &o->s);
    default: return f64_minmax(a, b, op, &o->s);
    }
}

static enum float_relation compare(struct fp_op *o, bool quiet, uint64_t a, uint64_t b)
{
#define BY(F, T) (quiet ? F##_compare_quiet((T)a, (T)b, &o->s) : F##_compare((T)a, (T)b, &o->s))
    switch (o->size) {
    case 1: return BY(f16, float16);
    case 2: return BY(f32, float32);
    default: return BY(f64, float64);
    }
#undef BY
}

static uint64_t absolute(const struct fp_op *o, uint64_t a) { return a & (sign_bit(o->size) - 1); }
static uint64_t negated(const struct fp_op *o, uint64_t a) { return a ^ sign_bit(o->size); }

static uint64_t step(struct fp_op *o, bool root, uint64_t a, uint64_t b)
{
    a = negated(o, a);
    if (inf_times_zero(o, a, b)) {
        flush_input(o, a);
        flush_input(o, b);
        return root ? one_and_half[o->size] : two[o->size];
    }
    return muladd_scaled(o, a, b, root ? three[o->size] : two[o->size], root ? -1 : 0);
}
static uint64_t step_a32(struct fp_op *o, bool root, uint64_t a, uint64_t b)
{
    uint64_t product = 0;

    if (inf_times_zero(o, a, b)) {
        flush_input(o, a);
        flush_input(o, b);
    } else {
        product = arithmetic(o, TWO_MUL, a, b);
    }
    product = arithmetic(o, TWO_SUB, root ? three[o->size] : two[o->size], product);
    return root ? arithmetic(o, TWO_DIV, product, two[o->size]) : product;
}

static uint64_t mulx(struct fp_op *o, uint64_t a, uint64_t b)
{
    if (inf_times_zero(o, a, b)) {
        flush_input(o, a);
        flush_input(o, b);
        return two[o->size] | ((a ^ b) & sign_bit(o->size));
    }
    return arithmetic(o, TWO_MUL, a, b);
}

static uint64_t all_ones(bool v) { return v ? UINT64_MAX : 0; }
static bool is_ge(enum float_relation r) { return r == FLOAT_EQUAL || r == FLOAT_GREATER; }

static uint64_t two_lanes(struct fp_op *o, unsigned op, uint64_t a, uint64_t b)
{
    switch (op) {
    case FP_ADD: return arithmetic(o, TWO_ADD, a, b);
    case FP_SUB: return arithmetic(o, TWO_SUB, a, b);
    case FP_MUL: return arithmetic(o, TWO_MUL, a, b);
    case FP_DIV: return arithmetic(o, TWO_DIV, a, b);
    case FP_MAX: return minmax(o, FLOAT_MAX, a, b);
    case FP_MIN: return minmax(o, FLOAT_MIN, a, b);
    case FP_MAXNM: return minmax(o, FLOAT_MAXNUM, a, b);
    case FP_MINNM: return minmax(o, FLOAT_MINNUM, a, b);
    case FP_MULX: return mulx(o, a, b);
    case FP_ABD: return absolute(o, arithmetic(o, TWO_SUB, a, b));
    case FP_CMEQ: return all_ones(compare(o, true, a, b) == FLOAT_EQUAL);
    case FP_CMGE: return all_ones(is_ge(compare(o, false, a, b)));
    case FP_CMGT: return all_ones(compare(o, false, a, b) == FLOAT_GREATER);
    case FP_ACGE: return all_ones(is_ge(compare(o, false, absolute(o, a), absolute(o, b))));
    case FP_ACGT: return all_ones(compare(o, false, absolute(o, a), absolute(o, b)) == FLOAT_GREATER);
    case FP_RECPS: return step(o, false, a, b);
    case FP_RSQRTS: return step(o, true, a, b);
    case FP_RECPS_A32: return step_a32(o, false, a, b);
    default: return step_a32(o, true, a, b);
    }
}

void arm_fp2(struct arm_cpu *c, uint8_t *result, uint32_t desc, const uint8_t *np, const uint8_t *mp)
{
    union lanes n = load(np), m = load(mp), r = load(result);
    struct fp_op o = fp_begin(c, desc);

    for (unsigned i = 0; i < simd_desc_lanes(desc); i++)
        put_lane(&r, o.size, i, two_lanes(&o, simd_desc_op(desc), lane(&n, o.size, i), lane(&m, o.size, i)));
    fp_end(c, &o);
    memcpy(result, &r, sizeof(r));
}

/* ---- three operands */

static uint64_t muladd(struct fp_op *o, uint64_t d, uint64_t n, uint64_t m)
{
    if (o->arg & 1)
        n = negated(o, n);
    if (o->arg & 2)
        d = negated(o, d);
    return muladd_scaled(o, n, m, d, 0);
}

static uint64_t mul_add(struct fp_op *o, uint64_t d, uint64_t n, uint64_t m)
{
    return arithmetic(o, o->arg & 1 ? TWO_SUB : TWO_ADD, d, arithmetic(o, TWO_MUL, n, m));
}

/* FPMulAddH(): NaNs are looked for in d, n, m in the formats they have (the halves' move up), then it is the product of
 * what the halves stand for. */
static uint32_t muladd_half(struct fp_op *o, const struct float_status *half, uint32_t d, uint16_t n, uint16_t m)
{
    struct float_status s = *half;
    float32 a, b;

    s.flags = 0;
    if (o->arg & 1)
        n ^= 0x8000;
    if (s.flush_inputs) {
        n = is_denormal(1, n) ? n & 0x8000 : n;
        m = is_denormal(1, m) ? m & 0x8000 : m;
    }
    if (is_nan(1, n) || is_nan(1, m)) { /* widened with the signalling bit as it is */
        a = is_nan(1, n) ? (uint32_t)(n & 0x8000) << 16 | 0x7f800000u | (uint32_t)(n & 0x3ff) << 13 : f16_to_f32(n, &s);
        b = is_nan(1, m) ? (uint32_t)(m & 0x8000) << 16 | 0x7f800000u | (uint32_t)(m & 0x3ff) << 13 : f16_to_f32(m, &s);
    } else {
        a = f16_to_f32(n, &s);
        b = f16_to_f32(m, &s);
    }
    return f32_muladd(a, b, d, 0, &o->s);
}

/* BFDotAdd() without FEAT_EBF16: products and sums are rounded to odd, denormals are zero, no exceptions. */
static float32 bf_result(float32 v, const struct float_status *s)
{
    return s->flags & FLOAT_OVERFLOW ? (v & 0x80000000u) | 0x7f800000u : v;
}
static float32 bf_mul(uint16_t a, uint16_t b, const struct float_status *status)
{
    struct float_status s = *status;

    return bf_result(f32_mul((uint32_t)a << 16, (uint32_t)b << 16, &s), &s);
}
static float32 bf_add(float32 a, float32 b, const struct float_status *status)
{
    struct float_status s = *status;

    return bf_result(f32_add(a, b, &s), &s);
}
static uint32_t bf_dot(uint32_t d, const uint16_t *n, const uint16_t *m)
{
    struct float_status s = float_status_init(&float_rules_arm);

    s.rounding = FLOAT_ROUND_TO_ODD;
    s.default_nan = s.flush_to_zero = s.flush_inputs = true;
    return bf_add(d, bf_add(bf_mul(n[0], m[0], &s), bf_mul(n[1], m[1], &s), &s), &s);
}
static uint32_t bf_matrix(uint32_t d, const uint16_t *row, const uint16_t *column)
{
    return bf_dot(bf_dot(d, row, column), row + 2, column + 2);
}

void arm_fp3(struct arm_cpu *c, uint8_t *result, uint32_t desc, const uint8_t *dp, const uint8_t *np, const uint8_t *mp)
{
    union lanes d = load(dp), n = load(np), m = load(mp), r = load(result);
    struct fp_op o = fp_begin(c, desc);
    struct float_status half = fp_begin(c, SIMD_DESC(0, 1, 0, 0) | (desc & SIMD_STANDARD)).s;
    unsigned lanes = simd_desc_lanes(desc), upper = o.arg & 2 ? lanes : 0;

    for (unsigned i = 0; i < lanes; i++) {
        switch (simd_desc_op(desc)) {
        case FP_MULADD:
            put_lane(&r, o.size, i, muladd(&o, lane(&d, o.size, i), lane(&n, o.size, i), lane(&m, o.size, i)));
            break;
        case FP_MUL_ADD:
            put_lane(&r, o.size, i, mul_add(&o, lane(&d, o.size, i), lane(&n, o.size, i), lane(&m, o.size, i)));
            break;
        case FP_MULADD_HALF:
            r.u32[i & 3] = muladd_half(&o, &half, d.u32[i & 3], n.u16[(i + upper) & 7], m.u16[(i + upper) & 7]);
            break;
        case FP_MULADD_BF16:
            r.u32[i & 3] = f32_muladd((uint32_t)n.u16[(2 * i + (o.arg & 1)) & 7] << 16, (uint32_t)m.u16[(2 * i + (o.arg & 1)) & 7] << 16,
                                      d.u32[i & 3], 0, &o.s);
            break;
        case FP_BFDOT:
            r.u32[i & 3] = bf_dot(d.u32[i & 3], &n.u16[2 * i & 6], &m.u16[2 * i & 6]);
            break;
        default:
            r.u32[i & 3] = bf_matrix(d.u32[i & 3], &n.u16[i & 2 ? 4 : 0], &m.u16[i & 1 ? 4 : 0]);
            break;
        }
    }
    fp_end(c, &o);
    memcpy(result, &r, sizeof(r));
}

/* ---- as helpers: the rest is zero */

void arm_helper_fp1(struct cpu *c, uint8_t *result, uint32_t desc, const uint8_t *n)
{
    uint8_t r[16] = { 0 };

    arm_fp1(arm(c), r, desc, n);
    memcpy(result, r, sizeof(r));
}
void arm_helper_fp2(struct cpu *c, uint8_t *result, uint32_t desc, const uint8_t *n, const uint8_t *m)
{
    uint8_t r[16] = { 0 };

    arm_fp2(arm(c), r, desc, n, m);
    memcpy(result, r, sizeof(r));
}
void arm_helper_fp3(struct cpu *c, uint8_t *result, uint32_t desc, const uint8_t *d, const uint8_t *n, const uint8_t *m)
{
    uint8_t r[16] = { 0 };

    arm_fp3(arm(c), r, desc, d, n, m);
    memcpy(result, r, sizeof(r));
}
uint64_t arm_helper_fp_to_int(struct cpu *c, uint32_t desc, const uint8_t *n) { return arm_fp_to_int(arm(c), desc, load(n).u64[0]); }
void arm_helper_fp_from_int(struct cpu *c, uint8_t *result, uint32_t desc, uint64_t v)
{
    union lanes r = { .u64 = { arm_fp_from_int(arm(c), desc, v) } };

    memcpy(result, &r, sizeof(r));
}

uint32_t arm_helper_fp_compare(struct cpu *c, uint32_t desc, const uint8_t *np, const uint8_t *mp, uint32_t signalling)
{
    union lanes n = load(np), m = load(mp);
    struct fp_op o = fp_begin(arm(c), desc);
    enum float_relation r = compare(&o, !signalling, lane(&n, o.size, 0), lane(&m, o.size, 0));

    fp_end(arm(c), &o);
    return r == FLOAT_EQUAL ? 6u << 28 : r == FLOAT_LESS ? 8u << 28 : r == FLOAT_GREATER ? 2u << 28 : 3u << 28;
}

/* ---- fixes of host arithmetic */

static void fix1(struct cpu *c, uint8_t *result, const uint8_t *a, const uint8_t *b, const uint8_t *d, int64_t imm)
{
    arm_fp1(arm(c), result, (uint32_t)imm & 0xffffff, a);
}
static void fix2(struct cpu *c, uint8_t *result, const uint8_t *a, const uint8_t *b, const uint8_t *d, int64_t imm)
{
    arm_fp2(arm(c), result, (uint32_t)imm & 0xffffff, a, b);
}
static void fix3(struct cpu *c, uint8_t *result, const uint8_t *a, const uint8_t *b, const uint8_t *d, int64_t imm)
{
    arm_fp3(arm(c), result, (uint32_t)imm & 0xffffff, a, b, d);
}
static void fix_to_int(struct cpu *c, uint8_t *result, const uint8_t *a, const uint8_t *b, const uint8_t *d, int64_t imm)
{
    uint64_t r = arm_fp_to_int(arm(c), (uint32_t)imm & 0xffffff, load(a).u64[0]);

    memcpy(result, &r, sizeof(r));
}

const struct ir_fix arm_fixes[ARM_FIX_COUNT] = {
    [ARM_FIX_FP1] = { "fp1", fix1 }, [ARM_FIX_FP2] = { "fp2", fix2 }, [ARM_FIX_FP3] = { "fp3", fix3 },
    [ARM_FIX_TO_INT] = { "to_int", fix_to_int },
};
