/* GICv2's virtual CPU interfaces: GICH_*, by which a hypervisor lists interrupts, and GICV_*, which its guest takes for a CPU
 * interface. GIC (IHI 0048B) chapter 5. See arm_gic.c. Virtual priorities have 5 bits, so has a list register's field. */
#include <string.h>
#include "arm_gic_internal.h"

enum { GICH_HCR = 0x00, GICH_VTR = 0x04, GICH_VMCR = 0x08, GICH_MISR = 0x10, GICH_EISR0 = 0x20, GICH_ELRSR0 = 0x30, GICH_APR = 0xf0,
       GICH_LR0 = 0x100 };
enum { HCR_EN = 1, HCR_UIE = 2, HCR_LRENPIE = 4, HCR_NPIE = 8, HCR_VGRP0E = 0x10, HCR_VGRP0D = 0x20, HCR_VGRP1E = 0x40, HCR_VGRP1D = 0x80,
       HCR_EOICOUNT_SHIFT = 27 };
/* VMCR repeats GICV_CTLR in its low bits: 5.3.3 */
enum { VCTLR_G0 = 1, VCTLR_G1 = 2, VCTLR_ACKCTL = 4, VCTLR_FIQEN = 8, VCTLR_CBPR = 0x10, VCTLR_EOIM = 0x200, VCTLR_MASK = 0x21f };
enum { MISR_EOI = 1, MISR_U = 2, MISR_LRENP = 4, MISR_NP = 8, MISR_G0E = 0x10, MISR_G0D = 0x20, MISR_G1E = 0x40, MISR_G1D = 0x80 };
enum { LR_PENDING = 1 << 28, LR_ACTIVE = 1 << 29, LR_STATE = LR_PENDING | LR_ACTIVE, LR_GROUP1 = 1 << 30, LR_EOI = 1 << 19 };
#define LR_HW (1u << 31)
enum { MAINTENANCE = 25 };

static unsigned lr_id(uint32_t lr) { return lr & 0x3ff; }
static unsigned lr_priority(uint32_t lr) { return (lr >> 23 & 31) << GIC_PRIORITY_SHIFT; }

/* An SGI is acknowledged with the number of the CPU that sent it. */
static uint32_t lr_reading(uint32_t lr)
{
    return lr_id(lr) | (!(lr & LR_HW) && lr_id(lr) < GIC_SGIS ? lr >> 10 & 7 : 0) << 10;
}

static unsigned priority_mask(const struct gich2 *h, bool group1)
{
    unsigned point = group1 && !(h->ctlr & VCTLR_CBPR) ? h->abpr : h->bpr + 1u;

    return point > 7 ? 0 : 0xffu << point & 0xff;
}

static unsigned running_priority(const struct gich2 *h)
{
    return h->apr ? (unsigned)__builtin_ctz(h->apr) << GIC_PRIORITY_SHIFT : 0x100;
}

static int best_lr(const struct gich2 *h)
{
    unsigned priority = 0x100;
    int best = -1;

    for (int i = 0; h->hcr & HCR_EN && i < GICH_LRS; i++) {
        uint32_t lr = h->lr[i];

        if ((lr & LR_STATE) == LR_PENDING && h->ctlr & (lr & LR_GROUP1 ? VCTLR_G1 : VCTLR_G0) && lr_priority(lr) < priority) {
            priority = lr_priority(lr);
            best = i;
        }
    }
    return best;
}

static bool lr_passes(const struct gich2 *h, uint32_t lr)
{
    unsigned p = lr_priority(lr), running = running_priority(h), mask = priority_mask(h, lr & LR_GROUP1);

    return p < h->pmr && (running > 0xff || (p & mask) < (running & mask));
}

/* ---- what the hypervisor is told of */

static uint32_t eisr(const struct gich2 *h)
{
    uint32_t v = 0;

    for (unsigned i = 0; i < GICH_LRS; i++)
        v |= (uint32_t)(!(h->lr[i] & (LR_STATE | LR_HW)) && h->lr[i] & LR_EOI) << i;
    return v;
}

static uint32_t elrsr(const struct gich2 *h)
{
    uint32_t v = 0;

    for (unsigned i = 0; i < GICH_LRS; i++)
        v |= (uint32_t)(!(h->lr[i] & LR_STATE) && (h->lr[i] & LR_HW || !(h->lr[i] & LR_EOI))) << i;
    return v;
}

static uint32_t misr(const struct gich2 *h)
{
    unsigned used = 0, pending = 0;
    uint32_t v = eisr(h) ? MISR_EOI : 0;

    for (unsigned i = 0; i < GICH_LRS; i++) {
        used += (h->lr[i] & LR_STATE) != 0;
        pending += (h->lr[i] & LR_STATE) == LR_PENDING;
    }
    v |= h->hcr & HCR_UIE && used <= 1 ? MISR_U : 0;
    v |= h->hcr & HCR_LRENPIE && h->hcr >> HCR_EOICOUNT_SHIFT ? MISR_LRENP : 0;
    v |= h->hcr & HCR_NPIE && !pending ? MISR_NP : 0;
    v |= h->hcr & HCR_VGRP0E && h->ctlr & VCTLR_G0 ? MISR_G0E : 0;
    v |= h->hcr & HCR_VGRP0D && !(h->ctlr & VCTLR_G0) ? MISR_G0D : 0;
    v |= h->hcr & HCR_VGRP1E && h->ctlr & VCTLR_G1 ? MISR_G1E : 0;
    v |= h->hcr & HCR_VGRP1D && !(h->ctlr & VCTLR_G1) ? MISR_G1D : 0;
    return v;
}

static void update(struct gic *g, unsigned cpu)
{
    struct gic_cpu *c = &g->cpu[cpu];
    struct gich2 *h = &c->ich;
    int i = best_lr(h);
    bool passes = i >= 0 && lr_passes(h, h->lr[i]), fiq = passes && !(h->lr[i] & LR_GROUP1) && h->ctlr & VCTLR_FIQEN, irq = passes && !fiq;
    bool maintenance = h->hcr & HCR_EN && misr(h);

    if (irq != h->virq)
        arm_set_line(c->arm, ARM_LINE_VIRQ, irq);
    if (fiq != h->vfiq)
        arm_set_line(c->arm, ARM_LINE_VFIQ, fiq);
    h->virq = irq;
    h->vfiq = fiq;
    if (maintenance != (bool)(c->banked.level >> MAINTENANCE & 1)) {
        c->banked.level ^= 1u << MAINTENANCE;
        if (maintenance)
            c->banked.pending |= c->banked.edge & 1u << MAINTENANCE;
        gic_update(g, cpu);
    }
}

void gich2_reset(struct gic_cpu *c)
{
    memset(&c->ich, 0, sizeof(c->ich));
    c->ich.bpr = GIC_MIN_BPR;
    c->ich.abpr = GIC_MIN_BPR + 1;
    c->ich.virq = c->ich.vfiq = true;   /* so that the first look tells the CPU */
    c->banked.level &= ~(1u << MAINTENANCE);
}

void gich2_update(struct gic *g, unsigned cpu)
{
    update(g, cpu);
}

/* ---- GICH: 5.3 */

static uint32_t vmcr_read(const struct gich2 *h)
{
    return (h->ctlr & VCTLR_MASK) | (uint32_t)h->abpr << 18 | (uint32_t)h->bpr << 21 | (uint32_t)(h->pmr >> 3) << 27;
}

static void vmcr_write(struct gich2 *h, uint32_t v)
{
    h->ctlr = v & VCTLR_MASK;
    h->abpr = (uint8_t)MAX(v >> 18 & 7, GIC_MIN_BPR + 1u);
    h->bpr = (uint8_t)MAX(v >> 21 & 7, (uint32_t)GIC_MIN_BPR);
    h->pmr = (uint8_t)(v >> 27 << 3);
}

uint32_t gich2_read(struct gic *g, unsigned cpu, unsigned offset)
{
    const struct gich2 *h = &g->cpu[cpu].ich;

    switch (offset) {
    case GICH_HCR:    return h->hcr;
    case GICH_VTR:    return 4u << 29 | 4 << 26 | (GICH_LRS - 1);
    case GICH_VMCR:   return vmcr_read(h);
    case GICH_MISR:   return misr(h);
    case GICH_EISR0:  return eisr(h);
    case GICH_ELRSR0: return elrsr(h);
    case GICH_APR:    return h->apr;
    case GICH_LR0 ... GICH_LR0 + 4 * GICH_LRS - 1: return h->lr[(offset - GICH_LR0) / 4];
    default:          return 0;
    }
}

void gich2_write(struct gic *g, unsigned cpu, unsigned offset, uint32_t v)
{
    struct gich2 *h = &g->cpu[cpu].ich;

    switch (offset) {
    case GICH_HCR:  h->hcr = v & 0xf80000ff; break;
    case GICH_VMCR: vmcr_write(h, v); break;
    case GICH_APR:  h->apr = v; break;
    case GICH_LR0 ... GICH_LR0 + 4 * GICH_LRS - 1: h->lr[(offset - GICH_LR0) / 4] = v; break;
    default: return;
    }
    update(g, cpu);
}

/* ---- GICV: 5.5 */

static uint32_t acknowledge(struct gich2 *h, bool alias)
{
    int i = best_lr(h);
    uint32_t lr;

    if (i < 0 || !lr_passes(h, h->lr[i]))
        return GIC_NONE;
    lr = h->lr[i];
    if (alias && !(lr & LR_GROUP1))
        return GIC_NONE;
    if (!alias && lr & LR_GROUP1 && !(h->ctlr & VCTLR_ACKCTL))
        return GIC_NONE - 1;
    h->lr[i] = (lr & ~(uint32_t)LR_STATE) | LR_ACTIVE;
    h->apr |= 1u << ((lr_priority(lr) & priority_mask(h, lr & LR_GROUP1)) >> GIC_PRIORITY_SHIFT);
    return lr_reading(lr);
}

static uint32_t highest_pending(const struct gich2 *h, bool alias)
{
    int i = best_lr(h);

    if (i < 0 || (alias && !(h->lr[i] & LR_GROUP1)))
        return GIC_NONE;
    return !alias && h->lr[i] & LR_GROUP1 && !(h->ctlr & VCTLR_ACKCTL) ? GIC_NONE - 1 : lr_reading(h->lr[i]);
}

static void deactivate(struct gic *g, unsigned cpu, uint32_t v)
{
    struct gich2 *h = &g->cpu[cpu].ich;

    for (unsigned i = 0; i < GICH_LRS; i++) {
        uint32_t lr = h->lr[i];

        if (!(lr & LR_ACTIVE) || lr_reading(lr) != (v & 0x1fff))
            continue;
        h->lr[i] &= ~(uint32_t)LR_ACTIVE;
        if (lr & LR_HW)
            gic_deactivate(g, cpu, lr >> 10 & 0x3ff);
        return;
    }
    h->hcr = (h->hcr & ~(31u << HCR_EOICOUNT_SHIFT)) | ((h->hcr + (1u << HCR_EOICOUNT_SHIFT)) & 31u << HCR_EOICOUNT_SHIFT);
}

static void end_of_interrupt(struct gic *g, unsigned cpu, uint32_t v)
{
    struct gich2 *h = &g->cpu[cpu].ich;

    if ((v & 0x3ff) >= GIC_SPECIAL || !h->apr)
        return;
    h->apr &= h->apr - 1;
    if (!(h->ctlr & VCTLR_EOIM))
        deactivate(g, cpu, v);
}

uint32_t gicv2_vcpu_read(struct gic *g, unsigned cpu, unsigned offset)
{
    struct gich2 *h = &g->cpu[cpu].ich;
    unsigned running = running_priority(h);
    uint32_t v = 0;

    switch (offset) {
    case GICC_CTLR:   v = h->ctlr; break;
    case GICC_PMR:    v = h->pmr; break;
    case GICC_BPR:    v = h->bpr; break;
    case GICC_ABPR:   v = h->abpr; break;
    case GICC_IAR:    v = acknowledge(h, false); break;
    case GICC_AIAR:   v = acknowledge(h, true); break;
    case GICC_RPR:    v = running > 0xff ? 0xff : running; break;
    case GICC_HPPIR:  v = highest_pending(h, false); break;
    case GICC_AHPPIR: v = highest_pending(h, true); break;
    case GICC_APR:    v = h->apr; break;
    case GICC_IIDR:   v = 0x0202043b; break;
    }
    update(g, cpu);
    return v;
}

void gicv2_vcpu_write(struct gic *g, unsigned cpu, unsigned offset, uint32_t v)
{
    struct gich2 *h = &g->cpu[cpu].ich;

    switch (offset) {
    case GICC_CTLR:  h->ctlr = v & VCTLR_MASK; break;
    case GICC_PMR:   h->pmr = v & GIC_PRIORITY_MASK; break;
    case GICC_BPR:   h->bpr = (uint8_t)MAX(v & 7, (uint32_t)GIC_MIN_BPR); break;
    case GICC_ABPR:  h->abpr = (uint8_t)MAX(v & 7, GIC_MIN_BPR + 1u); break;
    case GICC_EOIR: case GICC_AEOIR: end_of_interrupt(g, cpu, v); break;
    case GICC_APR:   h->apr = v; break;
    case GICC_DIR:
        if (h->ctlr & VCTLR_EOIM)
            deactivate(g, cpu, v);
        break;
    }
    update(g, cpu);
}
