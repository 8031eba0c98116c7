/* Floating-point and SIMD operations done by C functions, for A64, VFP and Neon: helpers that emitters call, and fixes of
 * host arithmetic (ir_vfix). Each takes one word that says what to do to which elements:
 *   bits 5:0 operation, 7:6 log2 of an element's bytes, 10:8 log2 of how many, 11 SIMD_STANDARD, 23:12 its own argument.
 * The operation's result is written to its elements; the rest of a helper's result is zero, the rest of a fix's stays. */
#ifndef RHEA_GUEST_ARM_SIMD_OPS_H
#define RHEA_GUEST_ARM_SIMD_OPS_H

#include "arm.h"

#define SIMD_DESC(op, size, log2_lanes, arg) \
    ((uint32_t)(op) | (uint32_t)(size) << 6 | (uint32_t)(log2_lanes) << 8 | (uint32_t)(arg) << 12)
#define SIMD_STANDARD (1u << 11)        /* floating point by Neon's standard FPSCR value: flush to zero, default NaN, nearest */
static inline unsigned simd_desc_op(uint32_t desc) { return desc & 63; }
static inline unsigned simd_desc_size(uint32_t desc) { return desc >> 6 & 3; }
static inline unsigned simd_desc_lanes(uint32_t desc) { return 1u << (desc >> 8 & 7); }
static inline unsigned simd_desc_arg(uint32_t desc) { return desc >> 12 & 0xfff; }

/* Floating point, elements of 2, 4, 8 bytes. Helpers fp1 (desc, n), fp2 (desc, n, m), fp3 (desc, d, n, m); fixes alike. */
enum fp1_op {
    FP_SQRT, FP_RINT,                   /* arg: enum float_round, 8: raises inexact, 16: FPCR's rounding */
    FP_RINT32, FP_RINT64,               /* arg: likewise; to the range of an integer */
    FP_RECPE, FP_RSQRTE, FP_RECPX,
    FP_TO_INT, FP_TO_UINT,              /* arg: see FP_ARG_INT */
    FP_FROM_INT, FP_FROM_UINT,
    FP_WIDEN,                           /* to elements of twice the size: lanes and size are the result's */
    FP_NARROW,                          /* to half the size: lanes and size are the result's. arg 1: to odd (FCVTXN) */
    FP_HALF_TO_DOUBLE, FP_DOUBLE_TO_HALF,
    FP_TO_BF16,                         /* of 4 bytes to 2 */
    FP_JCVT,                            /* FJCVTZS: by fp_to_int; bit 32: Z */
    FP_SILENCE,                         /* a NaN quieted, or the default one: fixes of exact operations */
    FP_FLUSH,                           /* a denormal operand as the operation sees it */
    FP1_COUNT
};
/* Conversions: bits after the binary point, rounding (enum float_round; 7: FPCR's), 64-bit integer (general registers) */
#define FP_ARG_INT(fbits, rounding, wide) ((fbits) | (rounding) << 7 | (wide) << 10)
enum { FP_ROUND_FPCR = 7 };
enum fp2_op {
    FP_ADD, FP_SUB, FP_MUL, FP_DIV, FP_MAX, FP_MIN, FP_MAXNM, FP_MINNM, FP_MULX, FP_ABD,
    FP_CMEQ, FP_CMGE, FP_CMGT, FP_ACGE, FP_ACGT, FP_RECPS, FP_RSQRTS,
    FP_RECPS_A32, FP_RSQRTS_A32,        /* Neon's: not fused */
    FP2_COUNT
};
enum fp3_op {
    FP_MULADD,                          /* d + n * m. arg 1: n negated, 2: d negated */
    FP_MUL_ADD,                         /* ... rounded twice. arg 1: the product is taken from d */
    FP_MULADD_HALF,                     /* n, m: elements of half the size (FMLAL). arg 1: n negated, 2: of the upper half */
    FP_MULADD_BF16,                     /* n, m: bfloat16. arg: 1: odd elements (BFMLALT) */
    FP_BFDOT, FP_BFMMLA,
    FP3_COUNT
};

/* Integers. Helpers simd1 (desc, n), simd2 (desc, n, m), simd3 (desc, d, n, m). */
enum simd1_op {
    SIMD_CLS, SIMD_CLZ, SIMD_CNT, SIMD_RBIT, SIMD_SQABS, SIMD_SQNEG, SIMD_URECPE, SIMD_URSQRTE,
    SIMD_SQXTN, SIMD_SQXTUN, SIMD_UQXTN,        /* of elements of twice the size */
    SIMD_SQSHRN, SIMD_SQSHRUN, SIMD_UQSHRN,     /* arg: shift, 128: rounds */
    SIMD_SRSHR_N, SIMD_URSHR_N,
    SIMD1_COUNT
};
enum simd2_op {
    SIMD_SQADD, SIMD_UQADD, SIMD_SQSUB, SIMD_UQSUB, SIMD_SUQADD, SIMD_USQADD,       /* SUQADD: n signed, m unsigned */
    SIMD_SSHL, SIMD_USHL, SIMD_SRSHL, SIMD_URSHL, SIMD_SQSHL, SIMD_UQSHL, SIMD_SQRSHL, SIMD_UQRSHL,
    SIMD_SQDMULH, SIMD_SQRDMULH, SIMD_PMUL, SIMD_MUL,
    SIMD_SQDMULL, SIMD_PMULL,           /* to elements of twice the size: lanes and size are the operands' */
    SIMD2_COUNT
};
enum simd3_op {
    SIMD_SQRDMLAH, SIMD_SQRDMLSH, SIMD_SQDMLAL, SIMD_SQDMLSL,
    SIMD_SDOT, SIMD_UDOT, SIMD_USDOT, SIMD_SMMLA, SIMD_UMMLA, SIMD_USMMLA,
    SIMD3_COUNT
};
/* Helper crypto2 (op, n, m), crypto3 (op, d, n, m). */
enum crypto_op {
    CRYPTO_SM3PARTW1, CRYPTO_SM3PARTW2, CRYPTO_SM3SS1, CRYPTO_SM3TT1A, CRYPTO_SM3TT1B, CRYPTO_SM3TT2A, CRYPTO_SM3TT2B,
    CRYPTO_SM4E, CRYPTO_SM4EKEY,
    CRYPTO_SHA1C, CRYPTO_SHA1P, CRYPTO_SHA1M, CRYPTO_SHA256H, CRYPTO_SHA256H2,
    CRYPTO_COUNT
};

/* The same from C: result may alias the operands. */
void arm_fp1(struct arm_cpu *c, uint8_t *result, uint32_t desc, const uint8_t *n);
void arm_fp2(struct arm_cpu *c, uint8_t *result, uint32_t desc, const uint8_t *n, const uint8_t *m);
void arm_fp3(struct arm_cpu *c, uint8_t *result, uint32_t desc, const uint8_t *d, const uint8_t *n, const uint8_t *m);
uint64_t arm_fp_to_int(struct arm_cpu *c, uint32_t desc, uint64_t v);
uint64_t arm_fp_from_int(struct arm_cpu *c, uint32_t desc, uint64_t v);

/* Fixes of host arithmetic; imm is a desc. Operands a, b, c are those of fp1 (n), fp2 (n, m), fp3 (d, n, m). */
enum arm_fix_number { ARM_FIX_FP1, ARM_FIX_FP2, ARM_FIX_FP3, ARM_FIX_TO_INT, ARM_FIX_COUNT };
extern const struct ir_fix arm_fixes[ARM_FIX_COUNT];

/* RecipEstimate(), RecipSqrtEstimate() of the shared pseudocode. */
uint32_t arm_recip_estimate(uint32_t a);
uint32_t arm_recip_sqrt_estimate(uint32_t a);

/* FPCR (or FPSCR) asks for what host arithmetic does not do: MODE_FP_SLOW. */
static inline bool arm_fpcr_is_slow(uint32_t fpcr) { return fpcr & ARM_FPCR_SLOW; }

#endif
