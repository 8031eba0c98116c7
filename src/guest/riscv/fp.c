/* Floating point in C, on softfloat: fcsr, what the host has no instruction for, and where its results differ. */
#include <string.h>
#include "riscv.h"

/* Host MXCSR: flags in bits 5:0, rounding in bits 14:13. */
enum { HOST_IE = 1, HOST_ZE = 4, HOST_OE = 8, HOST_UE = 16, HOST_PE = 32, HOST_FLAGS = 63, HOST_MASKS = 0x1f80, HOST_RC_SHIFT = 13 };
enum { FFLAG_NX = 1, FFLAG_UF = 2, FFLAG_OF = 4, FFLAG_DZ = 8, FFLAG_NV = 16 };

static const struct { uint32_t soft, host; } flag_bits[5] = {      /* in the order of fflags */
    { FLOAT_INEXACT, HOST_PE }, { FLOAT_UNDERFLOW, HOST_UE }, { FLOAT_OVERFLOW, HOST_OE }, { FLOAT_DIVBYZERO, HOST_ZE },
    { FLOAT_INVALID, HOST_IE },
};

uint32_t riscv_fflags(struct riscv_cpu *c)
{
    uint32_t v = 0;

    for (unsigned n = 0; n < 5; n++)
        if ((c->fp_status.flags & flag_bits[n].soft) || (c->cpu.fp_control & flag_bits[n].host))
            v |= 1u << n;
    return v;
}

/* Software holds what is set; the host's flags begin anew. */
void riscv_set_fflags(struct riscv_cpu *c, uint32_t v)
{
    c->cpu.fp_control &= ~(uint32_t)HOST_FLAGS;
    c->fp_status.flags = 0;
    for (unsigned n = 0; n < 5; n++)
        if (v >> n & 1)
            c->fp_status.flags |= flag_bits[n].soft;
}

/* RMM is none of the host's, reserved values are no rounding at all: MODE_FRM_SLOW. */
void riscv_set_frm(struct riscv_cpu *c, uint32_t frm)
{
    static const uint8_t host[8] = { 0, 3, 1, 2, 0, 0, 0, 0 };

    c->frm = frm & 7;
    c->cpu.fp_control = (c->cpu.fp_control & ~(3u << HOST_RC_SHIFT)) | (uint32_t)host[c->frm] << HOST_RC_SHIFT | HOST_MASKS;
}

/* ---- registers' images. A narrow value has ones above it, else it counts as the canonical NaN (21.2, 24.1) */

static const uint64_t box[3] = { [FP_S] = UINT64_C(0xffffffff00000000), [FP_D] = 0, [FP_H] = UINT64_C(0xffffffffffff0000) };
static const uint64_t canonical[3] = { [FP_S] = 0x7fc00000, [FP_D] = UINT64_C(0x7ff8000000000000), [FP_H] = 0x7e00 };

static uint64_t unboxed(const uint8_t *image, unsigned format)
{
    uint64_t v;

    memcpy(&v, image, 8);
    return (v & box[format]) == box[format] ? v & ~box[format] : canonical[format];
}

static void put_boxed(uint8_t *image, unsigned format, uint64_t v)
{
    v |= box[format];
    memcpy(image, &v, 8);
}

/* ---- arithmetic: the same for each format */

typedef uint64_t arith_fn(uint64_t a, uint64_t b, uint64_t c, unsigned rm, struct float_status *s);

#define TWO(F, name, call) \
    static uint64_t F##_do_##name(uint64_t a, uint64_t b, uint64_t c, unsigned rm, struct float_status *s) { return call; }
#define FORMAT(F)                                                                                   \
    TWO(F, add, F##_add(a, b, s)) TWO(F, sub, F##_sub(a, b, s)) TWO(F, mul, F##_mul(a, b, s))       \
    TWO(F, div, F##_div(a, b, s)) TWO(F, sqrt, F##_sqrt(a, s))                                      \
    TWO(F, madd, F##_muladd(a, b, c, 0, s))                                                         \
    TWO(F, msub, F##_muladd(a, b, c, FLOAT_NEGATE_ADDEND, s))                                       \
    TWO(F, nmsub, F##_muladd(a, b, c, FLOAT_NEGATE_PRODUCT, s))                                     \
    TWO(F, nmadd, F##_muladd(a, b, c, FLOAT_NEGATE_PRODUCT | FLOAT_NEGATE_ADDEND, s))               \
    TWO(F, min, F##_minmax(a, b, FLOAT_MINIMUM_NUMBER, s))                                          \
    TWO(F, max, F##_minmax(a, b, FLOAT_MAXIMUM_NUMBER, s))                                          \
    TWO(F, minm, F##_minmax(a, b, FLOAT_MIN, s)) TWO(F, maxm, F##_minmax(a, b, FLOAT_MAX, s))       \
    TWO(F, round, F##_round_to_int(a, (enum float_round)rm, false, s))                              \
    TWO(F, roundnx, F##_round_to_int(a, (enum float_round)rm, true, s))
FORMAT(f32) FORMAT(f64) FORMAT(f16)
TWO(f32, to_d, f32_to_f64(a, s)) TWO(f32, to_h, f32_to_f16(a, s))
TWO(f64, to_s, f64_to_f32(a, s)) TWO(f64, to_h, f64_to_f16(a, s))
TWO(f16, to_s, f16_to_f32(a, s)) TWO(f16, to_d, f16_to_f64(a, s))

#define ROW(F) [FPO_ADD] = F##_do_add, [FPO_SUB] = F##_do_sub, [FPO_MUL] = F##_do_mul, [FPO_DIV] = F##_do_div,        \
    [FPO_SQRT] = F##_do_sqrt, [FPO_MADD] = F##_do_madd, [FPO_MSUB] = F##_do_msub, [FPO_NMSUB] = F##_do_nmsub,         \
    [FPO_NMADD] = F##_do_nmadd, [FPO_MIN] = F##_do_min, [FPO_MAX] = F##_do_max, [FPO_MINM] = F##_do_minm,             \
    [FPO_MAXM] = F##_do_maxm, [FPO_ROUND] = F##_do_round, [FPO_ROUNDNX] = F##_do_roundnx
static arith_fn *const arith[3][FPO_COUNT] = {
    [FP_S] = { ROW(f32), [FPO_TO_D] = f32_do_to_d, [FPO_TO_H] = f32_do_to_h },
    [FP_D] = { ROW(f64), [FPO_TO_S] = f64_do_to_s, [FPO_TO_H] = f64_do_to_h },
    [FP_H] = { ROW(f16), [FPO_TO_S] = f16_do_to_s, [FPO_TO_D] = f16_do_to_d },
};

static unsigned what_op(uint32_t what) { return what & 255; }
static unsigned what_format(uint32_t what) { return what >> 8 & 3; }

/* Prepares the status for `what`; the rounding to use. A reserved frm was refused before. */
static unsigned begin(struct riscv_cpu *c, uint32_t what)
{
    unsigned rm = what >> 12 & 7;

    c->fp_status.rules = &float_rules_riscv;
    if (rm == RM_DYN)
        rm = c->frm;
    c->fp_status.rounding = (uint8_t)(rm <= RM_RMM ? rm : RM_RNE);     /* numbered alike */
    return c->fp_status.rounding;
}

static unsigned result_format(uint32_t what)
{
    switch (what_op(what)) {
    case FPO_TO_S: return FP_S;
    case FPO_TO_D: return FP_D;
    case FPO_TO_H: return FP_H;
    default: return what_format(what);
    }
}

static void do_arith(struct riscv_cpu *r, uint8_t *result, const uint8_t *a, const uint8_t *b, const uint8_t *c, uint32_t what)
{
    unsigned f = what_format(what), rm = begin(r, what);
    uint64_t va = unboxed(a, f), vb = b ? unboxed(b, f) : 0, vc = c ? unboxed(c, f) : 0;

    put_boxed(result, result_format(what), arith[f][what_op(what)](va, vb, vc, rm, &r->fp_status));
}

void riscv_helper_fp_arith(struct cpu *cpu, uint8_t *result, const uint8_t *a, const uint8_t *b, const uint8_t *c, uint32_t what)
{
    uint8_t v[16] = { 0 };

    do_arith(riscv(cpu), v, a, b, c, what);
    memcpy(result, v, 16);
}

void riscv_helper_fp_check_frm(struct cpu *cpu, uint32_t insn)
{
    if (riscv(cpu)->frm > RM_RMM)
        riscv_raise(riscv(cpu), CAUSE_ILLEGAL, insn);
}

/* ---- comparison, classes */

uint64_t riscv_helper_fp_compare(struct cpu *cpu, const uint8_t *a, const uint8_t *b, uint32_t what)
{
    struct float_status *s = &riscv(cpu)->fp_status;
    unsigned f = what_format(what), op = what_op(what) & 3;
    uint64_t va = unboxed(a, f), vb = unboxed(b, f);
    bool quiet = what & 4;
    enum float_relation r;

    begin(riscv(cpu), what);
    if (f == FP_S)
        r = quiet ? f32_compare_quiet(va, vb, s) : f32_compare(va, vb, s);
    else if (f == FP_D)
        r = quiet ? f64_compare_quiet(va, vb, s) : f64_compare(va, vb, s);
    else
        r = quiet ? f16_compare_quiet(va, vb, s) : f16_compare(va, vb, s);
    return op == 0 ? r == FLOAT_LESS : op == 1 ? r == FLOAT_LESS || r == FLOAT_EQUAL : r == FLOAT_EQUAL;
}

/* 20.9: bit 0 -inf, 1 negative normal, 2 negative subnormal, 3 -0, then mirrored; 8 signalling, 9 quiet NaN. */
uint64_t riscv_helper_fp_class(struct cpu *cpu, const uint8_t *a, uint32_t what)
{
    static const struct { uint8_t bits, fraction; } layout[3] = { [FP_S] = { 32, 23 }, [FP_D] = { 64, 52 }, [FP_H] = { 16, 10 } };
    unsigned f = what_format(what), n;
    uint64_t v = unboxed(a, f), frac = v & ((UINT64_C(1) << layout[f].fraction) - 1);
    uint64_t top = (UINT64_C(1) << (layout[f].bits - 1 - layout[f].fraction)) - 1, exp = v >> layout[f].fraction & top;
    bool negative = v >> (layout[f].bits - 1) & 1;

    if (exp == top && frac)
        return frac >> (layout[f].fraction - 1) ? 1 << 9 : 1 << 8;
    n = exp == top ? 0 : exp ? 1 : frac ? 2 : 3;
    return UINT64_C(1) << (negative ? n : 7 - n);
}

/* ---- integers */

static uint64_t to_int(struct riscv_cpu *c, const uint8_t *a, uint32_t what)
{
    unsigned f = what_format(what), kind = what_op(what), bits = kind <= INT_WU ? 32 : 64;
    enum float_round rm = (enum float_round)begin(c, what);
    struct float_status *s = &c->fp_status;
    uint64_t v = unboxed(a, f), r;

    if (kind == INT_W || kind == INT_L)
        r = (uint64_t)(f == FP_S ? f32_to_int(v, bits, 0, rm, s) : f == FP_D ? f64_to_int(v, bits, 0, rm, s) :
                       f16_to_int(v, bits, 0, rm, s));
    else
        r = f == FP_S ? f32_to_uint(v, bits, 0, rm, s) : f == FP_D ? f64_to_uint(v, bits, 0, rm, s) :
            f16_to_uint(v, bits, 0, rm, s);
    return bits == 32 ? (uint64_t)(int32_t)r : r;
}

uint64_t riscv_helper_fp_to_int(struct cpu *cpu, const uint8_t *a, uint32_t what) { return to_int(riscv(cpu), a, what); }

void riscv_helper_fp_from_int(struct cpu *cpu, uint8_t *result, uint64_t v, uint32_t what)
{
    struct riscv_cpu *c = riscv(cpu);
    unsigned f = what_format(what), kind = what_op(what);
    struct float_status *s = &c->fp_status;

    begin(c, what);
    if (kind == INT_W || kind == INT_L) {
        int64_t n = kind == INT_W ? (int32_t)v : (int64_t)v;

        v = f == FP_S ? f32_from_int(n, 0, s) : f == FP_D ? f64_from_int(n, 0, s) : f16_from_int(n, 0, s);
    } else {
        v = kind == INT_WU ? (uint32_t)v : v;
        v = f == FP_S ? f32_from_uint(v, 0, s) : f == FP_D ? f64_from_uint(v, 0, s) : f16_from_uint(v, 0, s);
    }
    memset(result, 0, 16);
    put_boxed(result, f, v);
}

/* FCVTMOD.W.D: the flags of FCVT.W.D, and the low 32 bits of the truncated value; NaN and infinity give 0 (25.5). */
uint64_t riscv_helper_fcvtmod(struct cpu *cpu, const uint8_t *a)
{
    uint64_t v, m;
    int exp;

    to_int(riscv(cpu), a, RISCV_FP(INT_W, FP_D, RM_RTZ));
    memcpy(&v, a, 8);
    exp = (int)(v >> 52 & 0x7ff) - 1075;
    m = (v & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1) << 52;
    if ((v >> 52 & 0x7ff) == 0x7ff || exp >= 32 || exp < -52)
        return 0;
    m = exp >= 0 ? m << exp : m >> -exp;
    return (uint64_t)(int32_t)(v >> 63 ? -m : m);
}

/* ---- what the host's result is not: see ir_vfix() */

static unsigned fix_format(int64_t imm) { return what_format((uint32_t)imm); }

static void fix_nan(struct cpu *cpu, uint8_t *result, const uint8_t *a, const uint8_t *b, const uint8_t *c, int64_t imm)
{
    put_boxed(result, fix_format(imm), canonical[fix_format(imm)]);
}

static void fix_arith(struct cpu *cpu, uint8_t *result, const uint8_t *a, const uint8_t *b, const uint8_t *c, int64_t imm)
{
    do_arith(riscv(cpu), result, a, b, c, (uint32_t)imm);
}

static void fix_to_int(struct cpu *cpu, uint8_t *result, const uint8_t *a, const uint8_t *b, const uint8_t *c, int64_t imm)
{
    uint64_t v = to_int(riscv(cpu), a, (uint32_t)imm);

    if (what_op((uint32_t)imm) <= INT_WU)
        v = (uint32_t)v;
    memcpy(result, &v, 8);
}

const struct ir_fix riscv_fixes[RISCV_FIX_COUNT] = {
    [RISCV_FIX_NAN] = { "nan", fix_nan },
    [RISCV_FIX_UNBOX] = { "unbox", fix_nan },
    [RISCV_FIX_ARITH] = { "arith", fix_arith },
    [RISCV_FIX_TO_INT] = { "to_int", fix_to_int },
};
