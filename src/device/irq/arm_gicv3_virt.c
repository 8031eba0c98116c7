/* GICv3: virtual CPU interfaces: ICH_* registers, by which a hypervisor lists interrupts, and ICV_*, by which its guest
 * takes them (GIC chapter 6). See arm_gicv3.h. */
#include <string.h>
#include "arm_gicv3_regs.h"

enum { HCR_EN = 1, HCR_UIE = 2, HCR_LRENPIE = 4, HCR_NPIE = 8, HCR_VGRP0E = 0x10, HCR_VGRP0D = 0x20, HCR_VGRP1E = 0x40, HCR_VGRP1D = 0x80,
       HCR_TC = 0x400, HCR_TALL0 = 0x800, HCR_TALL1 = 0x1000, HCR_TDIR = 0x4000, HCR_EOICOUNT_SHIFT = 27 };
#define HCR_WRITABLE 0xf8007cffu
enum { VMCR_G0 = 1, VMCR_G1 = 2, VMCR_CBPR = 0x10, VMCR_EOIM = 0x200, VMCR_BPR1_SHIFT = 18, VMCR_BPR0_SHIFT = 21, VMCR_PMR_SHIFT = 24 };
enum { MISR_EOI = 1, MISR_U = 2, MISR_LRENP = 4, MISR_NP = 8, MISR_G0E = 0x10, MISR_G0D = 0x20, MISR_G1E = 0x40, MISR_G1D = 0x80 };
#define LR_PENDING (UINT64_C(1) << 62)
#define LR_ACTIVE (UINT64_C(1) << 63)
#define LR_STATE (LR_PENDING | LR_ACTIVE)
#define LR_HW (UINT64_C(1) << 61)
#define LR_GROUP1 (UINT64_C(1) << 60)
#define LR_EOI (UINT64_C(1) << 41)
#define LR_WRITABLE UINT64_C(0xf0ff13ffffffffff)
enum { MAINTENANCE = 25, HCR_EL2_FMO = 8, HCR_EL2_IMO = 16 };

static void lock(struct gicr *r) { pthread_mutex_lock(&r->lock); }
static void unlock(struct gicr *r) { pthread_mutex_unlock(&r->lock); }
static uint8_t lr_priority(uint64_t lr) { return (uint8_t)(lr >> 48); }
static uint32_t lr_id(uint64_t lr) { return (uint32_t)lr & 0xffffff; }

/* ---- priorities */

static unsigned bpr0(const struct gich *h) { return h->vmcr >> VMCR_BPR0_SHIFT & 7; }
static unsigned bpr1(const struct gich *h) { return h->vmcr >> VMCR_BPR1_SHIFT & 7; }
static unsigned pmr(const struct gich *h) { return h->vmcr >> VMCR_PMR_SHIFT; }

static uint8_t priority_mask(const struct gich *h, bool group1)
{
    unsigned point = group1 && !(h->vmcr & VMCR_CBPR) ? bpr1(h) : bpr0(h) + 1;

    return point > 7 ? 0 : (uint8_t)(0xff << point);
}

static unsigned running_priority(const struct gich *h)
{
    uint32_t active = h->apr[0] | h->apr[1];

    return active ? (unsigned)__builtin_ctz(active) << GIC_PRIORITY_SHIFT : 0x100;
}

/* The list register of the highest priority that pends in an enabled group; -1: none. */
static int best_lr(const struct gich *h)
{
    unsigned priority = 0x100;
    int best = -1;

    if (!(h->hcr & HCR_EN))
        return -1;
    for (int i = 0; i < GIC_LRS; i++) {
        uint64_t lr = h->lr[i];

        if ((lr & LR_STATE) == LR_PENDING && h->vmcr & (lr & LR_GROUP1 ? VMCR_G1 : VMCR_G0) && lr_priority(lr) < priority) {
            priority = lr_priority(lr);
            best = i;
        }
    }
    return best;
}

static bool lr_passes(const struct gich *h, uint64_t lr)
{
    unsigned p = lr_priority(lr), running = running_priority(h), mask = priority_mask(h, lr & LR_GROUP1);

    return p < pmr(h) && (running > 0xff || (p & mask) < (running & mask));
}

/* ---- maintenance interrupt: 6.3 */

static uint32_t eisr(const struct gich *h)
{
    uint32_t v = 0;

    for (unsigned i = 0; i < GIC_LRS; i++)
        v |= (uint32_t)((h->lr[i] & (LR_STATE | LR_HW | LR_EOI)) == LR_EOI) << i;
    return v;
}

static uint32_t elrsr(const struct gich *h)
{
    uint32_t v = 0;

    for (unsigned i = 0; i < GIC_LRS; i++)
        v |= (uint32_t)(!(h->lr[i] & LR_STATE) && (h->lr[i] & LR_HW || !(h->lr[i] & LR_EOI))) << i;
    return v;
}

static uint32_t misr(const struct gich *h)
{
    unsigned used = 0, pending = 0;
    uint32_t v = eisr(h) ? MISR_EOI : 0;

    for (unsigned i = 0; i < GIC_LRS; i++) {
        used += (h->lr[i] & LR_STATE) != 0;
        pending += (h->lr[i] & LR_STATE) == LR_PENDING;
    }
    v |= h->hcr & HCR_UIE && used <= 1 ? MISR_U : 0;
    v |= h->hcr & HCR_LRENPIE && h->hcr >> HCR_EOICOUNT_SHIFT ? MISR_LRENP : 0;
    v |= h->hcr & HCR_NPIE && !pending ? MISR_NP : 0;
    v |= h->hcr & HCR_VGRP0E && h->vmcr & VMCR_G0 ? MISR_G0E : 0;
    v |= h->hcr & HCR_VGRP0D && !(h->vmcr & VMCR_G0) ? MISR_G0D : 0;
    v |= h->hcr & HCR_VGRP1E && h->vmcr & VMCR_G1 ? MISR_G1E : 0;
    v |= h->hcr & HCR_VGRP1D && !(h->vmcr & VMCR_G1) ? MISR_G1D : 0;
    return v;
}

void gich_update(struct gicr *r)
{
    struct gich *h = &r->ich;
    int i = best_lr(h);
    bool passes = i >= 0 && lr_passes(h, h->lr[i]), irq = passes && h->lr[i] & LR_GROUP1, fiq = passes && !irq;
    bool maintenance = h->hcr & HCR_EN && misr(h);

    if (irq != h->virq)
        arm_set_line(r->arm, ARM_LINE_VIRQ, irq);
    if (fiq != h->vfiq)
        arm_set_line(r->arm, ARM_LINE_VFIQ, fiq);
    h->virq = irq;
    h->vfiq = fiq;
    if (maintenance != (bool)(r->banked.level >> MAINTENANCE & 1)) {
        r->banked.level ^= 1u << MAINTENANCE;
        if (maintenance)
            r->banked.pending |= r->banked.edge & 1u << MAINTENANCE;
        gicr_update(r);
    }
}

void gich_reset(struct gicr *r)
{
    struct gich *h = &r->ich;

    memset(h, 0, sizeof(*h));
    h->vmcr = GIC_MIN_BPR << VMCR_BPR0_SHIFT | (GIC_MIN_BPR + 1) << VMCR_BPR1_SHIFT | 1 << 3;
    r->banked.level &= ~(1u << MAINTENANCE);
    arm_set_line(r->arm, ARM_LINE_VIRQ, false);
    arm_set_line(r->arm, ARM_LINE_VFIQ, false);
}

/* ---- ICH_*: 12.4 */

bool gicv3_is_ich(unsigned reg)
{
    return (reg >= ICH_AP0R0 && reg <= ICH_AP1R0 + 3) || (reg >= ICH_HCR && reg <= ICH_VMCR) || (reg >= ICH_LR0 && reg < ICH_LR0 + 16);
}

static bool ich_allowed(const struct gicr *r)
{
    return r->arm->el >= 2 && r->arm->sys.config.el2;
}

enum arm_gic_result gich_read(struct gicr *r, unsigned reg, uint64_t *v)
{
    const struct gich *h = &r->ich;

    if (!ich_allowed(r))
        return ARM_GIC_UNDEFINED;
    if (reg >= ICH_LR0 && reg < ICH_LR0 + GIC_LRS) {
        *v = h->lr[reg - ICH_LR0];
        return ARM_GIC_OK;
    }
    switch (reg) {
    case ICH_AP0R0: *v = h->apr[0]; return ARM_GIC_OK;
    case ICH_AP1R0: *v = h->apr[1]; return ARM_GIC_OK;
    case ICH_HCR:   *v = h->hcr; return ARM_GIC_OK;
    case ICH_VTR:   *v = 4u << 29 | 4 << 26 | 1 << 21 /* A3V */ | 1 << 20 /* no GICv4 */ | 1 << 19 /* TDIR */ | (GIC_LRS - 1); return ARM_GIC_OK;
    case ICH_MISR:  *v = misr(h); return ARM_GIC_OK;
    case ICH_EISR:  *v = eisr(h); return ARM_GIC_OK;
    case ICH_ELRSR: *v = elrsr(h); return ARM_GIC_OK;
    case ICH_VMCR:  *v = h->vmcr; return ARM_GIC_OK;
    default:        return ARM_GIC_UNDEFINED;
    }
}

static uint32_t vmcr_legal(uint64_t v)
{
    uint32_t b0 = v >> VMCR_BPR0_SHIFT & 7, b1 = v >> VMCR_BPR1_SHIFT & 7;

    b0 = MAX(b0, (uint32_t)GIC_MIN_BPR);
    b1 = MAX(b1, GIC_MIN_BPR + 1u);
    return (uint32_t)(v & 0xf8000213u) | 1 << 3 | b0 << VMCR_BPR0_SHIFT | b1 << VMCR_BPR1_SHIFT;
}

static bool ich_set(struct gich *h, unsigned reg, uint64_t v)
{
    if (reg >= ICH_LR0 && reg < ICH_LR0 + GIC_LRS) {
        h->lr[reg - ICH_LR0] = v & LR_WRITABLE;
        return true;
    }
    switch (reg) {
    case ICH_AP0R0: h->apr[0] = (uint32_t)v; return true;
    case ICH_AP1R0: h->apr[1] = (uint32_t)v; return true;
    case ICH_HCR:   h->hcr = (uint32_t)v & HCR_WRITABLE; return true;
    case ICH_VMCR:  h->vmcr = vmcr_legal(v); return true;
    default:        return false;
    }
}

enum arm_gic_result gich_write(struct gicr *r, unsigned reg, uint64_t v)
{
    bool known;

    if (!ich_allowed(r))
        return ARM_GIC_UNDEFINED;
    lock(r);
    known = ich_set(&r->ich, reg, v);
    gich_update(r);
    unlock(r);
    return known ? ARM_GIC_OK : ARM_GIC_UNDEFINED;
}

/* ---- ICV_*: EL1 sees them in place of ICC_* where EL2 takes the physical interrupts (12.1.2) */

bool gicv3_virt_wanted(struct gicr *r, unsigned reg)
{
    const struct arm_system *s = &r->arm->sys;
    unsigned need = gic_reg_is_group0(reg) ? HCR_EL2_FMO : gic_reg_is_group1(reg) ? HCR_EL2_IMO : HCR_EL2_FMO | HCR_EL2_IMO;

    if (r->arm->el != 1 || !s->config.el2 || (s->config.el3 && !(s->scr & 1)) || reg == ICC_SRE_EL1)
        return false;
    return s->hcr & need;
}

static bool traps(const struct gich *h, unsigned reg)
{
    if (reg == ICC_SGI0R || reg == ICC_SGI1R || reg == ICC_ASGI1R)
        return true;
    if (gic_reg_is_group0(reg))
        return h->hcr & HCR_TALL0;
    if (gic_reg_is_group1(reg))
        return h->hcr & HCR_TALL1;
    return h->hcr & HCR_TC || (reg == ICC_DIR && h->hcr & HCR_TDIR);
}

static unsigned acknowledge(struct gicr *r, bool group1)
{
    struct gich *h = &r->ich;
    int i = best_lr(h);
    uint64_t lr;

    if (i < 0)
        return GIC_NONE;
    lr = h->lr[i];
    if ((bool)(lr & LR_GROUP1) != group1 || !lr_passes(h, lr))
        return GIC_NONE;
    if (lr_id(lr) >= GIC_SPECIAL && lr_id(lr) < GIC_LPI_FIRST) {        /* nothing such pends: the hypervisor erred */
        h->lr[i] &= ~LR_STATE;
        return GIC_NONE;
    }
    h->lr[i] = (lr & ~LR_STATE) | (lr_id(lr) >= GIC_LPI_FIRST ? 0 : LR_ACTIVE);
    h->apr[group1] |= 1u << ((lr_priority(lr) & priority_mask(h, group1)) >> GIC_PRIORITY_SHIFT);
    return lr_id(lr);
}

static unsigned highest_pending(const struct gich *h, bool group1)
{
    int i = best_lr(h);

    return i >= 0 && (bool)(h->lr[i] & LR_GROUP1) == group1 ? lr_id(h->lr[i]) : GIC_NONE;
}

/* The active interrupt ends; the physical one behind it, which the caller deactivates, or GIC_NONE. */
static unsigned deactivate(struct gich *h, unsigned id)
{
    if (id >= GIC_LPI_FIRST)
        return GIC_NONE;
    for (unsigned i = 0; i < GIC_LRS; i++) {
        uint64_t lr = h->lr[i];

        if (lr_id(lr) != id || !(lr & LR_ACTIVE))
            continue;
        h->lr[i] &= ~LR_ACTIVE;
        return lr & LR_HW ? lr >> 32 & 0x3ff : GIC_NONE;
    }
    /* not listed: the hypervisor has it elsewhere and counts along */
    h->hcr = (h->hcr & ~(31u << HCR_EOICOUNT_SHIFT)) | ((h->hcr + (1u << HCR_EOICOUNT_SHIFT)) & 31u << HCR_EOICOUNT_SHIFT);
    return GIC_NONE;
}

static unsigned end_of_interrupt(struct gich *h, bool group1, uint64_t v)
{
    unsigned id = v & 0xffffff;
    uint32_t *apr = &h->apr[group1], other = h->apr[!group1];

    if (id >= GIC_SPECIAL && id < GIC_LPI_FIRST)
        return GIC_NONE;
    if (!*apr || (other && __builtin_ctz(other) < __builtin_ctz(*apr)))
        return GIC_NONE;
    *apr &= *apr - 1;
    return h->vmcr & VMCR_EOIM ? GIC_NONE : deactivate(h, id);
}

static void vmcr_field(struct gich *h, unsigned shift, uint32_t mask, uint64_t v)
{
    h->vmcr = vmcr_legal((h->vmcr & ~(mask << shift)) | ((uint32_t)v & mask) << shift);
}

static uint64_t bpr1_read(const struct gich *h)
{
    return h->vmcr & VMCR_CBPR ? MIN(bpr0(h) + 1, 7u) : bpr1(h);
}

static uint64_t rpr_read(const struct gich *h)
{
    unsigned p = running_priority(h);

    return p > 0xff ? 0xff : p;
}

static bool icv_get(struct gicr *r, unsigned reg, uint64_t *v)
{
    struct gich *h = &r->ich;

    switch (reg) {
    case ICC_IAR0:   *v = acknowledge(r, false); return true;
    case ICC_IAR1:   *v = acknowledge(r, true); return true;
    case ICC_HPPIR0: *v = highest_pending(h, false); return true;
    case ICC_HPPIR1: *v = highest_pending(h, true); return true;
    case ICC_PMR:    *v = pmr(h); return true;
    case ICC_BPR0:   *v = bpr0(h); return true;
    case ICC_BPR1:   *v = bpr1_read(h); return true;
    case ICC_AP0R0:  *v = h->apr[0]; return true;
    case ICC_AP1R0:  *v = h->apr[1]; return true;
    case ICC_RPR:    *v = rpr_read(h); return true;
    case ICC_CTLR:   *v = 4 << 8 | 1 << 15 | (h->vmcr & VMCR_CBPR ? 1 : 0) | (h->vmcr & VMCR_EOIM ? 2 : 0); return true;
    case ICC_IGRPEN0: *v = h->vmcr & VMCR_G0; return true;
    case ICC_IGRPEN1: *v = (h->vmcr & VMCR_G1) != 0; return true;
    default: return false;
    }
}

static bool icv_set(struct gicr *r, unsigned reg, uint64_t v, unsigned *physical)
{
    struct gich *h = &r->ich;

    switch (reg) {
    case ICC_EOIR0:  *physical = end_of_interrupt(h, false, v); return true;
    case ICC_EOIR1:  *physical = end_of_interrupt(h, true, v); return true;
    case ICC_DIR:
        if (h->vmcr & VMCR_EOIM)
            *physical = deactivate(h, v & 0xffffff);
        return true;
    case ICC_PMR:    vmcr_field(h, VMCR_PMR_SHIFT, 0xff, v); return true;
    case ICC_BPR0:   vmcr_field(h, VMCR_BPR0_SHIFT, 7, v); return true;
    case ICC_BPR1:
        if (!(h->vmcr & VMCR_CBPR))
            vmcr_field(h, VMCR_BPR1_SHIFT, 7, v);
        return true;
    case ICC_AP0R0:  h->apr[0] = (uint32_t)v; return true;
    case ICC_AP1R0:  h->apr[1] = (uint32_t)v; return true;
    case ICC_CTLR:
        vmcr_field(h, 4, 1, v & 1);
        vmcr_field(h, 9, 1, v >> 1 & 1);
        return true;
    case ICC_IGRPEN0: vmcr_field(h, 0, 1, v & 1); return true;
    case ICC_IGRPEN1: vmcr_field(h, 1, 1, v & 1); return true;
    default: return false;
    }
}

enum arm_gic_result gicv3_virt_read(struct gicr *r, unsigned reg, uint64_t *v)
{
    bool known;

    if (traps(&r->ich, reg))
        return ARM_GIC_TRAP_EL2;
    lock(r);
    known = icv_get(r, reg, v);
    gich_update(r);
    unlock(r);
    return known ? ARM_GIC_OK : ARM_GIC_UNDEFINED;
}

enum arm_gic_result gicv3_virt_write(struct gicr *r, unsigned reg, uint64_t v)
{
    unsigned physical = GIC_NONE;
    bool known;

    if (traps(&r->ich, reg))
        return ARM_GIC_TRAP_EL2;
    lock(r);
    known = icv_set(r, reg, v, &physical);
    gich_update(r);
    unlock(r);
    if (physical < GIC_SPECIAL)
        gicr_deactivate(r, physical);
    return known ? ARM_GIC_OK : ARM_GIC_UNDEFINED;
}
