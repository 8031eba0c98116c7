/* GICv3: CPU interfaces, by system registers (GIC 12.2). See arm_gicv3.h. All run on their CPU's thread; the redistributor's
 * lock guards what others look at. */
#include <string.h>
#include "arm_gicv3_regs.h"

enum { CTLR_CBPR = 1, CTLR_EOIMODE = 2, CTLR_PMHE = 0x40 };
enum { CTLR3_CBPR_S = 1, CTLR3_CBPR_NS = 2, CTLR3_EOI_EL3 = 4, CTLR3_EOI_S = 8, CTLR3_EOI_NS = 0x10, CTLR3_PMHE = 0x40 };
/* 5 priority bits, 16 bits of INTID, affinity 3 */
enum { CTLR_FIXED = 4 << 8 | 1 << 15, SRE_VALUE = 7, SRE_ENABLE = 8 };
enum { ID_EL3_SECURE = 1020, ID_EL3_NONSECURE = 1021 };

static void lock(struct gicr *r) { pthread_mutex_lock(&r->lock); }
static void unlock(struct gicr *r) { pthread_mutex_unlock(&r->lock); }

/* Which copy of a banked register: EL3 uses the one of SCR_EL3.NS. */
static bool is_secure(const struct gicr *r)
{
    return r->gic->security && !(r->arm->sys.scr & 1);
}

static enum gic_group own_group1(const struct gicr *r)
{
    return is_secure(r) ? G1S : G1NS;
}

/* ---- priorities: 4.8 */

static uint8_t priority_mask(const struct gicr *r, unsigned group)
{
    unsigned point = group == G0 || r->cbpr[group == G1S] ? r->bpr[G0] + 1u : group == G1S ? r->bpr[G1S] + 1u : r->bpr[G1NS];

    return point > 7 ? 0 : (uint8_t)(0xff << point);
}

static unsigned running_priority(const struct gicr *r)
{
    uint32_t active = r->apr[G0] | r->apr[G1S] | r->apr[G1NS];

    return active ? (unsigned)__builtin_ctz(active) << GIC_PRIORITY_SHIFT : 0x100;
}

bool gicr_passes(struct gicr *r, const struct gic_best *b)
{
    unsigned running = running_priority(r), mask;

    if (b->id == GIC_NONE)
        return false;
    mask = priority_mask(r, b->group);
    return b->priority < r->pmr && (running > 0xff || (b->priority & mask) < (running & mask));
}

/* Software that is kept from Secure priorities: 4.8.1 */
static bool shifted(const struct gicr *r)
{
    return r->gic->security && r->arm->sys.scr & 1 && r->arm->sys.scr & 4 && r->arm->el < 3;
}

static uint64_t pmr_read(struct gicr *r)
{
    return shifted(r) ? gic_priority_nonsecure(r->pmr) : r->pmr;
}

static void pmr_write(struct gicr *r, uint64_t v)
{
    v &= 0xff;
    if (shifted(r)) {
        if (!(r->pmr & 0x80))
            return;
        v = 0x80 | v >> 1;
    }
    r->pmr = v & GIC_PRIORITY_MASK;
}

static uint64_t rpr_read(struct gicr *r)
{
    unsigned p = running_priority(r);

    return p > 0xff ? 0xff : shifted(r) ? gic_priority_nonsecure((uint8_t)p) : p;
}

/* ---- acknowledge, end, deactivate */

/* INTID as a read of IAR or HPPIR for group 0 or 1 shows it: a special one unless this software may handle it. EL3 handles both
 * worlds' group 1; group 0 is Secure. */
static unsigned visible_id(struct gicr *r, const struct gic_best *b, bool group1)
{
    bool el3 = r->arm->el == 3;

    if (b->id == GIC_NONE || group1 == (b->group == G0)) {
        if (b->id == GIC_NONE || group1 || !el3)
            return GIC_NONE;
        return b->group == G1S ? ID_EL3_SECURE : ID_EL3_NONSECURE;
    }
    if (el3)
        return b->id;
    if (group1)
        return b->group == own_group1(r) ? b->id : GIC_NONE;
    return gic_one_state(r->gic) || is_secure(r) ? b->id : GIC_NONE;
}

static void activate(struct gicr *r, const struct gic_best *b)
{
    if (b->id >= GIC_LPI_FIRST) {
        gicr_lpi_take(r, b->id);
    } else if (b->id < GIC_INTERNAL) {
        r->banked.pending &= ~(1u << b->id);
        r->banked.active |= 1u << b->id;
    } else {
        struct gicv3_word *w = &r->gic->shared[b->id >> 5];

        w->pending &= ~(1u << (b->id & 31));
        w->active |= 1u << (b->id & 31);
    }
    r->apr[b->group] |= 1u << ((b->priority & priority_mask(r, b->group)) >> GIC_PRIORITY_SHIFT);
}

/* The distributor's lock comes first, so an SPI is looked for again once both are held. */
static unsigned acknowledge_locked(struct gicr *r, bool group1, bool have_dist, bool *again)
{
    struct gic_best b = gicr_best(r);
    unsigned id = visible_id(r, &b, group1);

    *again = false;
    if (id >= GIC_SPECIAL && id <= GIC_NONE)
        return id == GIC_NONE || gicr_passes(r, &b) ? id : GIC_NONE;
    if (!gicr_passes(r, &b))
        return GIC_NONE;
    if (id >= GIC_INTERNAL && id < GIC_LPI_FIRST && !have_dist) {
        *again = true;
        return GIC_NONE;
    }
    activate(r, &b);
    gicr_update(r);
    return id;
}

static unsigned acknowledge(struct gicr *r, bool group1)
{
    unsigned id;
    bool again;

    lock(r);
    id = acknowledge_locked(r, group1, false, &again);
    unlock(r);
    if (!again)
        return id;
    pthread_mutex_lock(&r->gic->lock);
    lock(r);
    id = acknowledge_locked(r, group1, true, &again);
    unlock(r);
    if (id >= GIC_INTERNAL && id < GIC_SPECIAL)
        gicv3_spi_update(r->gic, r->index);
    pthread_mutex_unlock(&r->gic->lock);
    return id;
}

static uint64_t highest_pending(struct gicr *r, bool group1)
{
    struct gic_best b;

    lock(r);
    b = gicr_best(r);
    unlock(r);
    return visible_id(r, &b, group1);
}

static bool may_deactivate(struct gicr *r, const struct gicv3_word *w, unsigned bit)
{
    enum gic_group group = gicv3_group(r->gic, w, bit);

    return gic_one_state(r->gic) || is_secure(r) || r->arm->el == 3 || group == G1NS;
}

void gicr_deactivate(struct gicr *r, unsigned id)
{
    struct gicv3 *g = r->gic;
    uint32_t bit = 1u << (id & 31);

    if (id < GIC_INTERNAL) {
        lock(r);
        if (may_deactivate(r, &r->banked, id))
            r->banked.active &= ~bit;
        gicr_update(r);
        unlock(r);
        return;
    }
    if (id >= GIC_INTERNAL + g->in.nspis)
        return;                         /* LPIs have no active state */
    pthread_mutex_lock(&g->lock);
    if (may_deactivate(r, &g->shared[id >> 5], id & 31))
        g->shared[id >> 5].active &= ~bit;
    if (g->target[id] != NO_CPU)
        gicv3_spi_update(g, g->target[id]);
    pthread_mutex_unlock(&g->lock);
}

static bool split_eoi(const struct gicr *r)
{
    return r->gic->security && r->arm->el == 3 ? r->eoimode_el3 : r->eoimode[is_secure(r)];
}

/* EL3 ends whichever world's group 1 interrupt runs. */
static enum gic_group running_group1(const struct gicr *r)
{
    uint32_t s = r->apr[G1S], ns = r->apr[G1NS];

    return s && (!ns || __builtin_ctz(s) < __builtin_ctz(ns)) ? G1S : G1NS;
}

static void end_of_interrupt(struct gicr *r, bool group1, uint64_t v)
{
    unsigned id = v & 0xffffff, group;
    uint32_t *apr, others;

    if (id >= GIC_SPECIAL && id < GIC_LPI_FIRST)
        return;
    lock(r);
    group = !group1 ? G0 : r->arm->el == 3 ? running_group1(r) : own_group1(r);
    apr = &r->apr[group];
    others = (r->apr[G0] | r->apr[G1S] | r->apr[G1NS]) & ~*apr;
    /* 4.7.1: only what is running can end; a write for the other group changes nothing */
    if (*apr && (!others || __builtin_ctz(*apr) < __builtin_ctz(others)))
        *apr &= *apr - 1;
    gicr_update(r);
    unlock(r);
    if (!split_eoi(r))
        gicr_deactivate(r, id);
}

/* ---- SGIs: 12.2.14 */

static void sgi_send(struct gicr *to, unsigned id, enum gic_group group)
{
    lock(to);
    if (gicv3_group(to->gic, &to->banked, id) == group) {
        to->banked.pending |= 1u << id;
        gicr_update(to);
    }
    unlock(to);
}

static void sgi_generate(struct gicr *r, enum gic_group group, uint64_t v)
{
    struct gicv3 *g = r->gic;
    uint64_t cluster = (v >> 16 & 0xff) << 8 | (v >> 32 & 0xff) << 16 | (v >> 48 & 0xff) << 32;
    unsigned id = v >> 24 & 15, first = (v >> 44 & 15) * 16;

    if (gic_one_state(g) && group == G1S)
        group = G1NS;
    for (unsigned i = 0; i < g->in.ncpus; i++) {
        uint64_t a = g->cpu[i].arm->sys.config.mpidr;
        unsigned aff0 = a & 0xff;
        bool hit = v >> 40 & 1 ? i != r->index : ((a ^ cluster) & 0xff00ffff00) == 0 && aff0 - first < 16 && v >> (aff0 - first) & 1;

        if (hit)
            sgi_send(&g->cpu[i], id, group);
    }
}

static void sgi_register(struct gicr *r, unsigned reg, uint64_t v)
{
    enum gic_group own = own_group1(r);

    if (reg == ICC_SGI1R)
        sgi_generate(r, own, v);
    else if (reg == ICC_SGI0R && (is_secure(r) || !r->gic->security || gic_one_state(r->gic)))
        sgi_generate(r, G0, v);
    else if (reg == ICC_ASGI1R && own == G1S)
        sgi_generate(r, G1NS, v);       /* Non-secure ones need GICR_NSACR, which is zero */
}

/* ---- the rest of the registers */

static uint64_t ctlr_read(const struct gicr *r)
{
    bool s = is_secure(r);

    return CTLR_FIXED | (r->cbpr[s] ? CTLR_CBPR : 0) | (r->eoimode[s] ? CTLR_EOIMODE : 0) | (r->pmhe ? CTLR_PMHE : 0);
}

static void ctlr_write(struct gicr *r, uint64_t v)
{
    bool s = is_secure(r);

    r->cbpr[s] = v & CTLR_CBPR;
    r->eoimode[s] = v & CTLR_EOIMODE;
    if (s || !r->gic->security || gic_one_state(r->gic))
        r->pmhe = v & CTLR_PMHE;
}

static uint64_t ctlr3_read(const struct gicr *r)
{
    return CTLR_FIXED | (r->cbpr[1] ? CTLR3_CBPR_S : 0) | (r->cbpr[0] ? CTLR3_CBPR_NS : 0) | (r->eoimode_el3 ? CTLR3_EOI_EL3 : 0) |
           (r->eoimode[1] ? CTLR3_EOI_S : 0) | (r->eoimode[0] ? CTLR3_EOI_NS : 0) | (r->pmhe ? CTLR3_PMHE : 0);
}

static void ctlr3_write(struct gicr *r, uint64_t v)
{
    r->cbpr[1] = v & CTLR3_CBPR_S;
    r->cbpr[0] = v & CTLR3_CBPR_NS;
    r->eoimode_el3 = v & CTLR3_EOI_EL3;
    r->eoimode[1] = v & CTLR3_EOI_S;
    r->eoimode[0] = v & CTLR3_EOI_NS;
    r->pmhe = v & CTLR3_PMHE;
}

static uint64_t bpr1_read(const struct gicr *r)
{
    enum gic_group group = own_group1(r);

    if (r->cbpr[group == G1S] && r->arm->el < 3)
        return group == G1S ? r->bpr[G0] : MIN(r->bpr[G0] + 1u, 7u);
    return r->bpr[group];
}

static void bpr1_write(struct gicr *r, uint64_t v)
{
    enum gic_group group = own_group1(r);
    unsigned least = group == G1S ? GIC_MIN_BPR : GIC_MIN_BPR + 1;

    if (group == G1S && r->cbpr[1])
        r->bpr[G0] = (uint8_t)MAX(v & 7, GIC_MIN_BPR);
    else if (!r->cbpr[group == G1S])
        r->bpr[group] = (uint8_t)MAX(v & 7, least);
}

/* Reads that change nothing. */
static bool plain_read(struct gicr *r, unsigned reg, uint64_t *v)
{
    switch (reg) {
    case ICC_PMR:     *v = pmr_read(r); return true;
    case ICC_BPR0:    *v = r->bpr[G0]; return true;
    case ICC_BPR1:    *v = bpr1_read(r); return true;
    case ICC_AP0R0:   *v = r->apr[G0]; return true;
    case ICC_AP1R0:   *v = r->apr[own_group1(r)]; return true;
    case ICC_RPR:     *v = rpr_read(r); return true;
    case ICC_CTLR:    *v = ctlr_read(r); return true;
    case ICC_SRE_EL1: *v = SRE_VALUE; return true;
    case ICC_SRE_EL2: case ICC_SRE_EL3: *v = SRE_VALUE | SRE_ENABLE; return true;
    case ICC_IGRPEN0: *v = r->enabled[G0]; return true;
    case ICC_IGRPEN1: *v = r->enabled[own_group1(r)]; return true;
    case ICC_CTLR_EL3:    *v = ctlr3_read(r); return true;
    case ICC_IGRPEN1_EL3: *v = (uint64_t)r->enabled[G1S] << 1 | r->enabled[G1NS]; return true;
    default: return false;
    }
}

static bool plain_write(struct gicr *r, unsigned reg, uint64_t v)
{
    switch (reg) {
    case ICC_PMR:     pmr_write(r, v); break;
    case ICC_BPR0:    r->bpr[G0] = (uint8_t)MAX(v & 7, GIC_MIN_BPR); break;
    case ICC_BPR1:    bpr1_write(r, v); break;
    case ICC_AP0R0:   r->apr[G0] = (uint32_t)v; break;
    case ICC_AP1R0:   r->apr[own_group1(r)] = (uint32_t)v; break;
    case ICC_CTLR:    ctlr_write(r, v); break;
    case ICC_SRE_EL1: case ICC_SRE_EL2: case ICC_SRE_EL3: break;        /* on always */
    case ICC_IGRPEN0: r->enabled[G0] = v & 1; break;
    case ICC_IGRPEN1: r->enabled[own_group1(r)] = v & 1; break;
    case ICC_CTLR_EL3: ctlr3_write(r, v); break;
    case ICC_IGRPEN1_EL3:
        r->enabled[G1S] = v & 2;
        r->enabled[G1NS] = v & 1;
        break;
    default: return false;
    }
    return true;
}

/* SCR_EL3.IRQ, FIQ: EL3 has routed interrupts to itself and so owns these registers (12.1.1). Registers that belong to one
 * group need its bit, the common ones both. */
static bool traps_to_el3(const struct gicr *r, unsigned reg)
{
    uint64_t scr = r->arm->sys.scr;
    unsigned need;

    if (!r->gic->security || r->arm->el == 3 || reg == ICC_SRE_EL1 || reg == ICC_SRE_EL2)
        return false;
    need = gic_reg_is_group0(reg) ? 4 : gic_reg_is_group1(reg) ? 2 : 6;
    return (scr & need) == need;
}

static enum arm_gic_result check(const struct gicr *r, unsigned reg)
{
    unsigned op1 = reg >> 11 & 7, least = op1 == 6 ? 3 : op1 == 4 ? 2 : 1;

    if (r->arm->el < least)
        return ARM_GIC_UNDEFINED;
    return traps_to_el3(r, reg) ? ARM_GIC_TRAP_EL3 : ARM_GIC_OK;
}

static enum arm_gic_result gicv3_read(void *opaque, struct arm_cpu *c, unsigned reg, uint64_t *v)
{
    struct gicr *r = opaque;
    enum arm_gic_result ok;

    if (gicv3_is_ich(reg))
        return gich_read(r, reg, v);
    if (gicv3_virt_wanted(r, reg))
        return gicv3_virt_read(r, reg, v);
    ok = check(r, reg);
    if (ok != ARM_GIC_OK)
        return ok;
    switch (reg) {
    case ICC_IAR0:   *v = acknowledge(r, false); return ARM_GIC_OK;
    case ICC_IAR1:   *v = acknowledge(r, true); return ARM_GIC_OK;
    case ICC_HPPIR0: *v = highest_pending(r, false); return ARM_GIC_OK;
    case ICC_HPPIR1: *v = highest_pending(r, true); return ARM_GIC_OK;
    }
    return plain_read(r, reg, v) ? ARM_GIC_OK : ARM_GIC_UNDEFINED;
}

static enum arm_gic_result gicv3_write(void *opaque, struct arm_cpu *c, unsigned reg, uint64_t v)
{
    struct gicr *r = opaque;
    enum arm_gic_result ok;
    bool known;

    if (gicv3_is_ich(reg))
        return gich_write(r, reg, v);
    if (gicv3_virt_wanted(r, reg))
        return gicv3_virt_write(r, reg, v);
    ok = check(r, reg);
    if (ok != ARM_GIC_OK)
        return ok;
    switch (reg) {
    case ICC_EOIR0: end_of_interrupt(r, false, v); return ARM_GIC_OK;
    case ICC_EOIR1: end_of_interrupt(r, true, v); return ARM_GIC_OK;
    case ICC_DIR:
        if (split_eoi(r))
            gicr_deactivate(r, v & 0xffffff);
        return ARM_GIC_OK;
    case ICC_SGI0R: case ICC_SGI1R: case ICC_ASGI1R:
        sgi_register(r, reg, v);
        return ARM_GIC_OK;
    }
    lock(r);
    known = plain_write(r, reg, v);
    gicr_update(r);
    unlock(r);
    return known ? ARM_GIC_OK : ARM_GIC_UNDEFINED;
}

const struct arm_gic_ops gicv3_cpu_ops = { .read = gicv3_read, .write = gicv3_write };

void gicv3_cpu_reset(struct gicr *r)
{
    r->pmr = 0;
    r->bpr[G0] = r->bpr[G1S] = GIC_MIN_BPR;
    r->bpr[G1NS] = GIC_MIN_BPR + 1;
    memset(r->enabled, 0, sizeof(r->enabled));
    memset(r->apr, 0, sizeof(r->apr));
    r->cbpr[0] = r->cbpr[1] = r->eoimode[0] = r->eoimode[1] = r->eoimode_el3 = r->pmhe = false;
}
