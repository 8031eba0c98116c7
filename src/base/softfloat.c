/* What each guest architecture chooses where IEEE 754 leaves a choice. */
#include "rhea/base/softfloat.h"

/* SDM vol. 1, 4.8.3.5 and 4.9.1.5, 10.2.3.3 (FTZ); vol. 2, VFMADD*, table of NaN rules. */
const struct float_rules float_rules_x86_sse = {
    .name = "x86-sse",
    .nan_rule = FLOAT_NAN_FIRST,
    .fma_order = FLOAT_FMA_ABC,
    .fma_inf_zero = FLOAT_INF_ZERO_QUIET,
    .int_rule = FLOAT_INT_INDEFINITE,
    .flush_flags = FLOAT_UNDERFLOW | FLOAT_INEXACT,
    .default_nan_negative = true,
};

const struct float_rules float_rules_x87 = {
    .name = "x87",
    .nan_rule = FLOAT_NAN_X87,
    .int_rule = FLOAT_INT_INDEFINITE,
    .flush_flags = FLOAT_UNDERFLOW | FLOAT_INEXACT,
    .default_nan_negative = true,
};

/* Arm ARM, shared pseudocode: FPProcessNaNs, FPMulAdd, FPRound (a flush raises UFC only). */
const struct float_rules float_rules_arm = {
    .name = "arm",
    .nan_rule = FLOAT_NAN_SNAN_FIRST,
    .fma_order = FLOAT_FMA_CAB,
    .fma_inf_zero = FLOAT_INF_ZERO_DEFAULT,
    .int_rule = FLOAT_INT_SATURATE_NAN_ZERO,
    .flush_flags = FLOAT_UNDERFLOW,
    .tininess_before = true,
};

/* RISC-V unprivileged ISA, "F": canonical NaNs, tininess after rounding. */
const struct float_rules float_rules_riscv = {
    .name = "riscv",
    .nan_rule = FLOAT_NAN_DEFAULT,
    .fma_inf_zero = FLOAT_INF_ZERO_DEFAULT,
    .int_rule = FLOAT_INT_SATURATE_NAN_MAX,
    .flush_flags = FLOAT_UNDERFLOW | FLOAT_INEXACT,
};

/* Power ISA book I, 4.3.2 and 4.6 (frT from frA, frB, frC in this order). */
const struct float_rules float_rules_ppc = {
    .name = "ppc",
    .nan_rule = FLOAT_NAN_FIRST,
    .fma_order = FLOAT_FMA_ACB,
    .fma_inf_zero = FLOAT_INF_ZERO_PROPAGATE,
    .int_rule = FLOAT_INT_SATURATE_NAN_MIN,
    .flush_flags = FLOAT_UNDERFLOW | FLOAT_INEXACT,
    .tininess_before = true,
};

/* MIPS64 architecture vol. I-A, 6.2.2 and 6.3, FCSR.NAN2008 = 1. */
const struct float_rules float_rules_mips = {
    .name = "mips",
    .nan_rule = FLOAT_NAN_SNAN_FIRST,
    .fma_order = FLOAT_FMA_CAB,
    .fma_inf_zero = FLOAT_INF_ZERO_DEFAULT,
    .int_rule = FLOAT_INT_SATURATE_NAN_ZERO,
    .flush_flags = FLOAT_UNDERFLOW | FLOAT_INEXACT,
};

const struct float_rules float_rules_mips_legacy = {
    .name = "mips-legacy",
    .nan_rule = FLOAT_NAN_SNAN_FIRST,
    .fma_order = FLOAT_FMA_CAB,
    .fma_inf_zero = FLOAT_INF_ZERO_DEFAULT,
    .int_rule = FLOAT_INT_MAX,
    .flush_flags = FLOAT_UNDERFLOW | FLOAT_INEXACT,
    .snan_bit_set = true,
};

/* z/Architecture Principles of Operation, chapter 9 and 19. */
const struct float_rules float_rules_s390x = {
    .name = "s390x",
    .nan_rule = FLOAT_NAN_SNAN_FIRST,
    .fma_order = FLOAT_FMA_ABC,
    .fma_inf_zero = FLOAT_INF_ZERO_DEFAULT,
    .int_rule = FLOAT_INT_SATURATE_NAN_MIN,
    .flush_flags = FLOAT_UNDERFLOW | FLOAT_INEXACT,
    .tininess_before = true,
};
