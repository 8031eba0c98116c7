/* The part of SSE and AVX that is C: MXCSR, exceptions of floating-point ops, masked and gathered memory. */
#include <string.h>
#include "simd.h"
#include "system.h"

enum { MX_FLAGS = 0x3f, MX_DAZ = 1 << 6, MX_MASK_SHIFT = 7, MX_MASKS = 0x1f80, MX_PRE = 7 /* IE, DE, ZE */,
       MX_RC_SHIFT = 13, MX_FTZ = 1 << 15, MX_UM = 1 << 11 };

/* ---- MXCSR (SDM vol. 1, 10.2.3). The host's holds the guest's rounding and flush modes, with all exceptions masked;
 * flags collect in cpu.fp_control. Flushing to zero is off while underflow is unmasked (10.2.3.3). */

void x86_mxcsr_changed(struct x86_cpu *c)
{
    static const uint8_t rounding[4] = { FLOAT_ROUND_NEAREST_EVEN, FLOAT_ROUND_DOWN, FLOAT_ROUND_UP,
                                         FLOAT_ROUND_TO_ZERO };

    c->cpu.fp_control = (c->mxcsr & 0xffff) | MX_MASKS;
    c->sse_status = float_status_init(&float_rules_x86_sse);
    c->sse_status.rounding = rounding[c->mxcsr >> MX_RC_SHIFT & 3];
    c->sse_status.flush_inputs = c->mxcsr & MX_DAZ;
    c->sse_status.flush_to_zero = (c->mxcsr & MX_FTZ) && (c->mxcsr & MX_UM);
}

uint32_t x86_mxcsr_read(struct x86_cpu *c)
{
    return (c->mxcsr & ~(uint32_t)MX_FLAGS) | (c->cpu.fp_control & MX_FLAGS);
}

/* 1 if the set of unmasked exceptions went from empty to not, or back. */
uint32_t helper_ldmxcsr(struct cpu *cpu, uint32_t v)
{
    struct x86_cpu *c = x86(cpu);
    bool slow = (c->mxcsr & MX_MASKS) != MX_MASKS;

    if (v & ~UINT32_C(0xffff))
        x86_raise(c, X_GP, 0);
    c->mxcsr = v;
    x86_mxcsr_changed(c);
    return ((v & MX_MASKS) != MX_MASKS) != slow;
}

uint32_t helper_stmxcsr(struct cpu *cpu)
{
    return x86_mxcsr_read(x86(cpu));
}

/* An unmasked x87 exception waits, and an x87 or MMX instruction is about to run: #MF, or with CR0.NE clear the PC's way,
 * FERR# to IRQ 13 (SDM vol. 1, 8.7). */
void helper_fpu_pending(struct cpu *cpu)
{
    struct x86_cpu *c = x86(cpu);

    if (c->cr0 & CR0_NE)
        x86_raise(c, X_MF, -1);
    if (c->platform && c->platform->ferr)
        c->platform->ferr(c->platform_opaque, c, true);
}

/* ---- ops while exceptions are unmasked. what: op | immediate << 16 */

/* Runs the op under the guest's own masks; raises before the result is seen. Exceptions found before the operation
 * (invalid, denormal, division by zero) hide those found after it (SDM vol. 1, 4.9.2, 11.5.2). Not modelled: beside an
 * unmasked overflow or underflow PE tells whether the result with an unbounded exponent is inexact, not the stored one. */
static void fp_run(struct cpu *cpu, uint8_t *result, const uint8_t *a, const uint8_t *b, const uint8_t *c, uint32_t what,
                   unsigned bytes)
{
    struct x86_cpu *x = x86(cpu);
    uint32_t before = cpu->fp_control, raised, unmasked;

    cpu->fp_control = x->mxcsr & ~(uint32_t)MX_FLAGS;
    vop_info[what & 0xffff].fn(cpu, result, a, b, c, what >> 16, bytes);
    raised = cpu->fp_control & MX_FLAGS;
    unmasked = raised & ~(x->mxcsr >> MX_MASK_SHIFT) & MX_FLAGS;
    if (unmasked & MX_PRE)
        raised &= MX_PRE;
    cpu->fp_control = before | raised;
    if (unmasked)
        x86_raise(x, x->cr4 & CR4_OSXMMEXCPT ? X_XM : X_UD, -1);
}

void helper_fp_128(struct cpu *cpu, uint8_t *result, const uint8_t *a, const uint8_t *b, const uint8_t *c, uint32_t what)
{
    fp_run(cpu, result, a, b, c, what, 16);
}

void helper_fp_256(struct cpu *cpu, uint8_t *result, const uint8_t *a, const uint8_t *b, const uint8_t *c, uint32_t what)
{
    uint8_t r[32] = { 0 };

    fp_run(cpu, r, a, b, c, what, 32);
    memcpy(result, r, 32);
}

uint64_t helper_fp_int(struct cpu *cpu, const uint8_t *a, const uint8_t *b, uint32_t what)
{
    uint8_t r[16] = { 0 };
    uint64_t v;

    fp_run(cpu, r, a, b, a, what, 16);
    memcpy(&v, r, 8);
    return v;
}

/* ---- memory. what: log2 of an element's bytes | count << 4 (masks) or << 8 (gather) | MMU index << 12 */

static bool mask_bit(const uint8_t *mask, unsigned n, unsigned bytes)
{
    return mask[n * bytes + bytes - 1] & 0x80;
}

static void load_element(struct cpu *cpu, uint64_t va, uint8_t *to, unsigned log2_bytes, unsigned mmu)
{
    uint64_t v = cpu_load(cpu, va, log2_bytes | mmu << MEM_MMU_SHIFT);

    memcpy(to, &v, 1u << log2_bytes);
}

void helper_maskload(struct cpu *cpu, uint8_t *result, uint64_t va, const uint8_t *mask, uint32_t what)
{
    unsigned log2_bytes = what & 3, bytes = 1u << log2_bytes, count = what >> 4 & 0xff, mmu = what >> 12 & 15;
    uint8_t r[32] = { 0 };

    for (unsigned n = 0; n < count; n++)
        if (mask_bit(mask, n, bytes))
            load_element(cpu, va + n * bytes, r + n * bytes, log2_bytes, mmu);
    memcpy(result, r, 32);
}

/* All elements are probed before the first is written: the store happens whole or not at all. */
void helper_maskstore(struct cpu *cpu, uint64_t va, const uint8_t *mask, const uint8_t *v, uint32_t what)
{
    unsigned log2_bytes = what & 3, bytes = 1u << log2_bytes, count = what >> 4 & 0xff, mmu = what >> 12 & 15;

    for (unsigned n = 0; n < count; n++)
        if (mask_bit(mask, n, bytes))
            cpu_probe(cpu, va + n * bytes, bytes, true, mmu);
    for (unsigned n = 0; n < count; n++)
        if (mask_bit(mask, n, bytes)) {
            uint64_t element = 0;

            memcpy(&element, v + n * bytes, bytes);
            cpu_store(cpu, va + n * bytes, log2_bytes | mmu << MEM_MMU_SHIFT, element);
        }
}

/* what: log2 of an element's bytes, of an index's << 2, scale << 4, count << 8, MMU << 12, 64-bit addresses << 16, 64-bit
 * mode << 17, segment << 18, destination << 21, mask << 25. base: with 64-bit addresses the sum of all but the index,
 * else the offset alone. Elements done before a fault are seen in the registers, and their masks are zero: so both are
 * written in the state as it goes on; where nothing faults the emitter puts the final values over them. */
void helper_gather(struct cpu *cpu, uint8_t *result, uint64_t base, const uint8_t *index, uint32_t what)
{
    struct x86_cpu *c = x86(cpu);
    unsigned log2_bytes = what & 3, log2_index = what >> 2 & 3, scale = what >> 4 & 3, count = what >> 8 & 15;
    unsigned mmu = what >> 12 & 15, bytes = 1u << log2_bytes, seg = what >> 18 & 7;
    uint8_t *dst = (uint8_t *)&c->ymm[what >> 21 & 15], *mask = (uint8_t *)&c->ymm[what >> 25 & 15];

    for (unsigned n = 0; n < count; n++) {
        int64_t at;
        int32_t narrow;
        uint64_t va;

        if (mask_bit(mask, n, bytes)) {
            if (log2_index == 3) {
                memcpy(&at, index + 8 * n, 8);
            } else {
                memcpy(&narrow, index + 4 * n, 4);
                at = narrow;
            }
            va = base + ((uint64_t)at << scale);
            if (!(what & 1 << 16)) {
                va = (uint32_t)va;
                if (!(what & 1 << 17))
                    va = (uint32_t)(va + c->seg[seg].base);
                else if (seg == S_FS || seg == S_GS)
                    va += c->seg[seg].base;
            }
            load_element(cpu, va, dst + n * bytes, log2_bytes, mmu);
        }
        memset(mask + n * bytes, 0, bytes);
    }
    memset(result, 0, 32);
    memcpy(result, dst, count * bytes);
}
