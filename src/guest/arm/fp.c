/* FPCR and FPSR, and where they live while code runs: rounding and accrued flags in the host's control word (fp_control has
 * MXCSR's layout), what only software does in fp_status, saturation in qc. DDI 0487 C5.2.8, C5.2.10; FPSCR: G8.2.53. */
#include "simd_ops.h"

enum { FPSR_IOC = 1 << 0, FPSR_DZC = 1 << 1, FPSR_OFC = 1 << 2, FPSR_UFC = 1 << 3, FPSR_IXC = 1 << 4, FPSR_IDC = 1 << 7, FPSR_QC = 1 << 27 };
#define FPSR_NZCV 0xf0000000u
enum { FPCR_FZ16 = 1 << 19, FPCR_RMODE_SHIFT = 22, FPCR_FZ = 1 << 24, FPCR_DN = 1 << 25, FPCR_AHP = 1 << 26,
       FPCR_VECTOR = 0x370000 /* AArch32: Len, Stride */ };
enum { MX_IE = 1 << 0, MX_ZE = 1 << 2, MX_OE = 1 << 3, MX_UE = 1 << 4, MX_PE = 1 << 5, MX_STICKY = 0x3f, MX_MASKS = 0x1f80, MX_RC_SHIFT = 13 };

static uint32_t accrued_by_host(uint32_t mxcsr)
{
    return (mxcsr & MX_IE ? FPSR_IOC : 0) | (mxcsr & MX_ZE ? FPSR_DZC : 0) | (mxcsr & MX_OE ? FPSR_OFC : 0) |
           (mxcsr & MX_UE ? FPSR_UFC : 0) | (mxcsr & MX_PE ? FPSR_IXC : 0);
}

static uint32_t accrued_by_software(uint32_t flags)
{
    return (flags & FLOAT_INVALID ? FPSR_IOC : 0) | (flags & FLOAT_DIVBYZERO ? FPSR_DZC : 0) | (flags & FLOAT_OVERFLOW ? FPSR_OFC : 0) |
           (flags & FLOAT_UNDERFLOW ? FPSR_UFC : 0) | (flags & FLOAT_INEXACT ? FPSR_IXC : 0) |
           (flags & FLOAT_INPUT_DENORMAL_FLUSHED ? FPSR_IDC : 0);
}

uint32_t arm_fpsr(struct arm_cpu *c)
{
    uint32_t fpsr = c->compared & COMPARED ? (c->fpsr & ~(uint32_t)FPSR_NZCV) | arm_cc_nzcv(CC_FP32, c->compared, 0) : c->fpsr;

    return fpsr | accrued_by_host(c->cpu.fp_control) | accrued_by_software(c->fp_status.flags) |
           (c->qc[0] | c->qc[1] ? FPSR_QC : 0);
}

void arm_set_fpsr(struct arm_cpu *c, uint32_t v)
{
    c->cpu.fp_control &= ~(uint32_t)MX_STICKY;
    c->fp_status.flags = c->fp16_status.flags = 0;
    c->qc[0] = c->qc[1] = 0;
    c->compared = 0;
    c->fpsr = v & (FPSR_NZCV | FPSR_QC | FPSR_IDC | FPSR_IXC | FPSR_UFC | FPSR_OFC | FPSR_DZC | FPSR_IOC);
}

void arm_set_fpcr(struct arm_cpu *c, uint32_t v)
{
    static const uint8_t rounding[4] = { FLOAT_ROUND_NEAREST_EVEN, FLOAT_ROUND_UP, FLOAT_ROUND_DOWN, FLOAT_ROUND_TO_ZERO };
    static const uint8_t host_rounding[4] = { 0, 2, 1, 3 };
    unsigned mode = v >> FPCR_RMODE_SHIFT & 3;

    if (!arm_has(&c->features, AF_FP16))
        v &= ~(uint32_t)FPCR_FZ16;
    c->fpcr = v & (FPCR_FZ16 | 3u << FPCR_RMODE_SHIFT | FPCR_FZ | FPCR_DN | FPCR_AHP | FPCR_VECTOR);
    c->cpu.fp_control = (c->cpu.fp_control & MX_STICKY) | MX_MASKS | (uint32_t)host_rounding[mode] << MX_RC_SHIFT;
    c->fp_status.rules = c->fp16_status.rules = &float_rules_arm;
    c->fp_status.rounding = c->fp16_status.rounding = rounding[mode];
    c->fp_status.default_nan = c->fp16_status.default_nan = v & FPCR_DN;
    c->fp_status.flush_to_zero = c->fp_status.flush_inputs = v & FPCR_FZ;
    c->fp16_status.flush_to_zero = c->fp16_status.flush_inputs = v & FPCR_FZ16;
}
