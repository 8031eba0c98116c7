/* Floating point in C: the state that fcsr shows. */
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
