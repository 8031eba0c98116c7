/* The inputs that all models of the GIC have, and GICv2: distributor and CPU interfaces. Arm IHI 0048B.b ("GIC"). Its
 * virtual CPU interfaces are in arm_gic_virt.c.
 *
 * Threads: one mutex guards all state; up to eight vCPUs meet in it. Lines to CPUs are atomics set under it.
 *
 * Invariants: (1) an SGI is pending for a CPU when sgi_source has a bit, which its word's `pending` repeats; (2) a CPU's
 * lines are what gic_update() last found; everything that may change that calls it before the mutex is given back. */
#include <string.h>
#include "arm_gic_internal.h"

/* ---- inputs */

struct irq *gic_spi(struct device *gic, unsigned n)
{
    struct gic_inputs *in = device_cast(gic, struct gic_inputs);

    return n < in->nspis ? in->spi[n] : NULL;
}

struct irq *gic_ppi(struct device *gic, unsigned cpu, unsigned id)
{
    struct gic_inputs *in = device_cast(gic, struct gic_inputs);

    return cpu < in->ncpus && id >= GIC_SGIS && id < GIC_INTERNAL ? in->ppi[cpu * GIC_INTERNAL + id] : NULL;
}

void gic_spi_edge(struct device *gic, unsigned n)
{
    struct gic_inputs *in = device_cast(gic, struct gic_inputs);

    if (n < in->nspis)
        in->edge(in, n);
}

void gic_inputs_make(struct gic_inputs *in, irq_handler *spi, irq_handler *ppi)
{
    in->ncpus = in->dev.vm->nvcpus;
    in->spi = g_new0(struct irq *, in->nspis);
    in->ppi = g_new0(struct irq *, in->ncpus * GIC_INTERNAL);
    for (unsigned n = 0; n < in->nspis; n++)
        in->spi[n] = irq_new(spi, in, (int)n);
    for (unsigned n = 0; n < in->ncpus * GIC_INTERNAL; n++)
        if (n % GIC_INTERNAL >= GIC_SGIS)
            in->ppi[n] = irq_new(ppi, in, (int)n);
}

void gic_inputs_free(struct gic_inputs *in)
{
    for (unsigned n = 0; in->spi && n < in->nspis; n++)
        irq_free(in->spi[n]);
    for (unsigned n = 0; in->ppi && n < in->ncpus * GIC_INTERNAL; n++)
        irq_free(in->ppi[n]);
    g_free(in->spi);
    g_free(in->ppi);
}

/* ---- state of one interrupt */

static struct gic_word *word_of(struct gic *g, unsigned cpu, unsigned w)
{
    return w ? &g->shared[w] : &g->cpu[cpu].banked;
}

static uint8_t *priority_of(struct gic *g, unsigned cpu, unsigned id)
{
    return id < GIC_INTERNAL ? &g->cpu[cpu].priority[id] : &g->priority[id];
}

/* 3.2.4, 4.3.7: latched, or the line of a level-sensitive one */
static uint32_t word_pending(const struct gic_word *w)
{
    return w->pending | (w->level & ~w->edge);
}

static unsigned gic_group(struct gic *g, unsigned cpu, unsigned id)
{
    return word_of(g, cpu, id >> 5)->group >> (id & 31) & 1;
}

/* ---- priorities: 3.3 */

/* Bits of a priority that preempt. Group 1 counts from one bit further up, unless it uses group 0's point (CBPR). */
static uint8_t group_priority_mask(const struct gic_cpu *c, unsigned group)
{
    unsigned point = group && !(c->ctlr & GICC_CBPR) ? c->abpr : c->bpr + 1u;

    return point > 7 ? 0 : (uint8_t)(0xff << point);
}

static unsigned running_priority(const struct gic_cpu *c)
{
    uint32_t active = c->apr | c->nsapr;

    return active ? (unsigned)__builtin_ctz(active) << GIC_PRIORITY_SHIFT : 0x100;
}

/* The highest priority pending interrupt that the distributor forwards; GIC_NONE. Equal ones: the lowest ID (3.3). */
static unsigned highest_pending(struct gic *g, unsigned cpu, unsigned *priority)
{
    unsigned best = GIC_NONE;

    *priority = 0x100;
    for (unsigned w = 0; w <= g->in.nspis / 32; w++) {
        const struct gic_word *s = word_of(g, cpu, w);
        uint32_t group = (g->ctlr & GICD_GROUP0 ? ~s->group : 0) | (g->ctlr & GICD_GROUP1 ? s->group : 0);

        for (uint32_t m = word_pending(s) & s->enabled & ~s->active & group; m; m &= m - 1) {
            unsigned id = w * 32 + (unsigned)__builtin_ctz(m);

            if ((w == 0 || g->target[id] >> cpu & 1) && *priority_of(g, cpu, id) < *priority) {
                best = id;
                *priority = *priority_of(g, cpu, id);
            }
        }
    }
    return best;
}

/* May it be signalled to, or acknowledged by, the CPU now? 3.3.2, 3.3.3 */
static bool passes(const struct gic_cpu *c, unsigned group, unsigned priority)
{
    unsigned running = running_priority(c), mask = group_priority_mask(c, group);

    return priority < c->pmr && (running > 0xff || (priority & mask) < (running & mask));
}

void gic_update(struct gic *g, unsigned cpu)
{
    struct gic_cpu *c = &g->cpu[cpu];
    unsigned priority, id = highest_pending(g, cpu, &priority), group;
    bool irq = false, fiq = false;

    if (id != GIC_NONE) {
        group = gic_group(g, cpu, id);
        if (c->ctlr & (group ? GICC_GROUP1 : GICC_GROUP0) && passes(c, group, priority)) {
            fiq = !group && c->ctlr & GICC_FIQEN;
            irq = !fiq;
        }
    }
    if (c->arm && irq != c->irq)
        arm_set_line(c->arm, ARM_LINE_IRQ, irq);
    if (c->arm && fiq != c->fiq)
        arm_set_line(c->arm, ARM_LINE_FIQ, fiq);
    c->irq = irq;
    c->fiq = fiq;
}

static void update_all(struct gic *g)
{
    for (unsigned i = 0; i < g->in.ncpus; i++)
        gic_update(g, i);
}

/* ---- inputs change */

static void input(struct gic_word *s, uint32_t bit, int level)
{
    if (level && !(s->level & bit))
        s->pending |= bit & s->edge;
    s->level = level ? s->level | bit : s->level & ~bit;
}

static void update_targets(struct gic *g, unsigned id)
{
    for (unsigned t = g->target[id]; t; t &= t - 1)
        if ((unsigned)__builtin_ctz(t) < g->in.ncpus)
            gic_update(g, (unsigned)__builtin_ctz(t));
}

static void spi_changed(void *opaque, int n, int level)
{
    struct gic *g = opaque;
    unsigned id = GIC_INTERNAL + (unsigned)n;

    pthread_mutex_lock(&g->lock);
    input(&g->shared[id >> 5], 1u << (id & 31), level);
    update_targets(g, id);
    pthread_mutex_unlock(&g->lock);
}

static void spi_edge(struct gic_inputs *in, unsigned n)
{
    struct gic *g = (struct gic *)in;
    unsigned id = GIC_INTERNAL + n;

    pthread_mutex_lock(&g->lock);
    g->shared[id >> 5].pending |= g->shared[id >> 5].edge & 1u << (id & 31);
    update_targets(g, id);
    pthread_mutex_unlock(&g->lock);
}

static void ppi_changed(void *opaque, int n, int level)
{
    struct gic *g = opaque;
    unsigned cpu = (unsigned)n / GIC_INTERNAL;

    pthread_mutex_lock(&g->lock);
    input(&g->cpu[cpu].banked, 1u << (n % GIC_INTERNAL), level);
    gic_update(g, cpu);
    pthread_mutex_unlock(&g->lock);
}

/* ---- software-generated interrupts: 4.3.15 */

static void sgi_set(struct gic *g, unsigned cpu, unsigned id, uint8_t sources)
{
    g->cpu[cpu].sgi_source[id] |= sources;
    if (sources)
        g->cpu[cpu].banked.pending |= 1u << id;
    gic_update(g, cpu);
}

static void sgi_clear(struct gic *g, unsigned cpu, unsigned id, uint8_t sources)
{
    g->cpu[cpu].sgi_source[id] &= ~sources;
    if (!g->cpu[cpu].sgi_source[id])
        g->cpu[cpu].banked.pending &= ~(1u << id);
    gic_update(g, cpu);
}

static void sgi_generate(struct gic *g, unsigned from, bool secure, uint32_t v)
{
    unsigned id = v & 15, filter = v >> 24 & 3, nsatt = v >> 15 & 1;
    uint32_t targets = filter == 0 ? v >> 16 & 0xff : filter == 1 ? 0xffu & ~(1u << from) : filter == 2 ? 1u << from : 0;

    for (unsigned i = 0; i < g->in.ncpus; i++) {
        unsigned group = gic_group(g, i, id);

        /* table 4-21: NSATT picks the group for Secure writes; others reach group 1 only */
        if (targets >> i & 1 && (!g->security || (secure ? group == nsatt : group == 1)))
            sgi_set(g, i, id, (uint8_t)(1u << from));
    }
}

/* ---- CPU interface: 4.4 */

static unsigned acknowledgeable(struct gic *g, unsigned cpu, bool alias, bool secure, unsigned *priority)
{
    struct gic_cpu *c = &g->cpu[cpu];
    unsigned id = highest_pending(g, cpu, priority), group;

    if (id == GIC_NONE)
        return GIC_NONE;
    group = gic_group(g, cpu, id);
    if (!(c->ctlr & (group ? GICC_GROUP1 : GICC_GROUP0)))
        return GIC_NONE;
    if (alias || (g->security && !secure))      /* the Non-secure copy, and its alias, know of group 1 alone */
        return group ? id : GIC_NONE;
    return group && !(c->ctlr & GICC_ACKCTL) ? GIC_NONE - 1 : id;
}

static uint32_t acknowledge(struct gic *g, unsigned cpu, bool alias, bool secure)
{
    struct gic_cpu *c = &g->cpu[cpu];
    unsigned priority, id = acknowledgeable(g, cpu, alias, secure, &priority), group;
    uint32_t bit, *apr, source = 0;
    struct gic_word *s;

    if (id >= GIC_SPECIAL) {
        /* 1022 stands for a group 1 interrupt only while that is good enough to be taken */
        return id == GIC_NONE || passes(c, 1, priority) ? id : GIC_NONE;
    }
    group = gic_group(g, cpu, id);
    if (!passes(c, group, priority))
        return GIC_NONE;
    s = word_of(g, cpu, id >> 5);
    bit = 1u << (id & 31);
    if (id < GIC_SGIS) {
        source = (uint32_t)__builtin_ctz(c->sgi_source[id] | 0x100) & 7;
        c->sgi_source[id] &= ~(1u << source);
        if (!c->sgi_source[id])
            s->pending &= ~bit;
    } else {
        s->pending &= ~bit;
    }
    s->active |= bit;
    apr = group ? &c->nsapr : &c->apr;
    *apr |= 1u << ((priority & group_priority_mask(c, group)) >> GIC_PRIORITY_SHIFT);
    if (id < GIC_INTERNAL)
        gic_update(g, cpu);
    else
        update_all(g);
    return source << 10 | id;
}

void gic_deactivate(struct gic *g, unsigned cpu, unsigned id)
{
    if (id >= GIC_INTERNAL + g->in.nspis)
        return;
    word_of(g, cpu, id >> 5)->active &= ~(1u << (id & 31));
    if (id < GIC_INTERNAL)
        gic_update(g, cpu);
    else
        update_all(g);
}

static bool id_exists(const struct gic *g, unsigned id)
{
    return id < GIC_INTERNAL + g->in.nspis;
}

static void end_of_interrupt(struct gic *g, unsigned cpu, bool alias, bool secure, uint32_t v)
{
    struct gic_cpu *c = &g->cpu[cpu];
    unsigned id = v & 0x3ff, group;
    bool nonsecure = g->security && !secure, split;
    uint32_t *apr;

    if (!id_exists(g, id))              /* spurious ones have nothing to end */
        return;
    group = gic_group(g, cpu, id);
    if ((nonsecure || alias) && !group)
        return;
    apr = group ? &c->nsapr : &c->apr;
    *apr &= *apr - 1;
    split = c->ctlr & (nonsecure ? GICC_EOIMODE_NS : GICC_EOIMODE);
    if (split)
        gic_update(g, cpu);
    else
        gic_deactivate(g, cpu, id);
}

static void deactivate_write(struct gic *g, unsigned cpu, bool secure, uint32_t v)
{
    unsigned id = v & 0x3ff;
    bool nonsecure = g->security && !secure;

    if (id_exists(g, id) && g->cpu[cpu].ctlr & (nonsecure ? GICC_EOIMODE_NS : GICC_EOIMODE) && (!nonsecure || gic_group(g, cpu, id)))
        gic_deactivate(g, cpu, id);
}

/* 4.4.1: Non-secure software sees its half of the bits */
static uint32_t cpu_ctlr_read(const struct gic *g, const struct gic_cpu *c, bool secure)
{
    if (!g->security || secure)
        return c->ctlr;
    return (c->ctlr >> 1 & 1) | (c->ctlr >> 2 & 0x60) | (c->ctlr & GICC_EOIMODE_NS ? 1 << 9 : 0);
}

static void cpu_ctlr_write(struct gic *g, struct gic_cpu *c, bool secure, uint32_t v)
{
    if (!g->security) {
        c->ctlr = v & 0x3ff;
    } else if (secure) {
        c->ctlr = v & 0x7ff;
    } else {
        c->ctlr = (c->ctlr & ~(2u | 0x180 | GICC_EOIMODE_NS)) | (v & 1) << 1 | (v & 0x60) << 2 | (v & 1 << 9 ? GICC_EOIMODE_NS : 0);
    }
}

/* 3.8.7: priorities of group 1 lie in the upper half; Non-secure software sees them doubled. */
static uint8_t priority_view(const struct gic *g, bool secure, uint8_t p)
{
    if (!g->security || secure)
        return p;
    return p & 0x80 ? (uint8_t)(p << 1) : 0;
}

static void pmr_write(struct gic *g, struct gic_cpu *c, bool secure, uint32_t v)
{
    if (!g->security || secure)
        c->pmr = v & GIC_PRIORITY_MASK;
    else if (c->pmr & 0x80)
        c->pmr = (0x80 | (v & 0xff) >> 1) & GIC_PRIORITY_MASK;
}

static uint32_t bpr_read(const struct gic *g, const struct gic_cpu *c, bool secure)
{
    if (!g->security || secure)
        return c->bpr;
    return c->ctlr & GICC_CBPR ? MIN(c->bpr + 1u, 7) : c->abpr;
}

static void bpr_write(struct gic *g, struct gic_cpu *c, bool secure, uint32_t v)
{
    v &= 7;
    if (!g->security || secure)
        c->bpr = (uint8_t)MAX(v, (uint32_t)GIC_MIN_BPR);
    else if (!(c->ctlr & GICC_CBPR))
        c->abpr = (uint8_t)MAX(v, GIC_MIN_BPR + 1u);
}

static uint32_t highest_pending_read(struct gic *g, unsigned cpu, bool alias, bool secure)
{
    unsigned priority, id = acknowledgeable(g, cpu, alias, secure, &priority);

    if (id < GIC_SGIS)
        return ((uint32_t)__builtin_ctz(g->cpu[cpu].sgi_source[id] | 0x100) & 7) << 10 | id;
    return id;
}

static uint32_t cpu_read(struct gic *g, unsigned cpu, bool secure, unsigned offset)
{
    struct gic_cpu *c = &g->cpu[cpu];
    bool nonsecure = g->security && !secure;
    unsigned running = running_priority(c);

    switch (offset) {
    case GICC_CTLR:  return cpu_ctlr_read(g, c, secure);
    case GICC_PMR:   return priority_view(g, secure, c->pmr);
    case GICC_BPR:   return bpr_read(g, c, secure);
    case GICC_IAR:   return acknowledge(g, cpu, false, secure);
    case GICC_RPR:   return running > 0xff ? 0xff : priority_view(g, secure, (uint8_t)running);
    case GICC_HPPIR: return highest_pending_read(g, cpu, false, secure);
    case GICC_ABPR:  return nonsecure ? 0 : c->abpr;
    case GICC_AIAR:  return nonsecure ? 0 : acknowledge(g, cpu, true, secure);
    case GICC_AHPPIR: return nonsecure ? 0 : highest_pending_read(g, cpu, true, secure);
    case GICC_APR:   return nonsecure ? c->nsapr >> 16 : c->apr;        /* 4.4.14 */
    case GICC_NSAPR: return nonsecure ? 0 : c->nsapr;
    case GICC_IIDR:  return 0x0202043b;
    default:         return 0;
    }
}

static void cpu_write(struct gic *g, unsigned cpu, bool secure, unsigned offset, uint32_t v)
{
    struct gic_cpu *c = &g->cpu[cpu];
    bool nonsecure = g->security && !secure;

    switch (offset) {
    case GICC_CTLR:  cpu_ctlr_write(g, c, secure, v); break;
    case GICC_PMR:   pmr_write(g, c, secure, v); break;
    case GICC_BPR:   bpr_write(g, c, secure, v); break;
    case GICC_EOIR:  end_of_interrupt(g, cpu, false, secure, v); return;
    case GICC_AEOIR:
        if (!nonsecure)
            end_of_interrupt(g, cpu, true, secure, v);
        return;
    case GICC_ABPR:
        if (!nonsecure)
            c->abpr = (uint8_t)MAX(v & 7, GIC_MIN_BPR + 1u);
        break;
    case GICC_APR:
        if (nonsecure)
            c->nsapr = (c->nsapr & 0xffff) | v << 16;
        else
            c->apr = v;
        break;
    case GICC_NSAPR:
        if (!nonsecure)
            c->nsapr = v;
        break;
    case GICC_DIR:   deactivate_write(g, cpu, secure, v); return;
    default:         return;
    }
    gic_update(g, cpu);
}

/* ---- distributor: 4.3 */

static uint32_t dist_typer(const struct gic *g)
{
    return g->in.nspis / 32 | (g->in.ncpus - 1) << 5 | (uint32_t)g->security << 10;
}

/* Bits that this access may see and change: Non-secure software has group 1's only. */
static uint32_t visible(const struct gic *g, const struct gic_word *s, bool secure)
{
    return g->security && !secure ? s->group : ~0u;
}

enum bit_register { R_GROUP, R_SET_ENABLE, R_CLEAR_ENABLE, R_SET_PENDING, R_CLEAR_PENDING, R_SET_ACTIVE, R_CLEAR_ACTIVE };

static uint32_t bits_read(struct gic *g, unsigned cpu, bool secure, enum bit_register r, unsigned w)
{
    struct gic_word *s = word_of(g, cpu, w);
    uint32_t v;

    switch (r) {
    case R_GROUP: return g->security && !secure ? 0 : s->group;
    case R_SET_ENABLE: case R_CLEAR_ENABLE: v = s->enabled; break;
    case R_SET_PENDING: case R_CLEAR_PENDING: v = word_pending(s); break;
    default: v = s->active; break;
    }
    return v & visible(g, s, secure);
}

static void bits_write(struct gic *g, unsigned cpu, bool secure, enum bit_register r, unsigned w, uint32_t v, uint32_t mask)
{
    struct gic_word *s = word_of(g, cpu, w);
    uint32_t latchable = w ? ~0u : 0xffff0000;          /* SGIs are set by GICD_SGIR and its kin alone */

    v &= visible(g, s, secure) & mask;
    switch (r) {
    case R_GROUP:
        if (!g->security || secure)
            s->group = (s->group & ~mask) | v;
        break;
    case R_SET_ENABLE:    s->enabled |= v; break;
    case R_CLEAR_ENABLE:  s->enabled &= ~(w ? v : v & 0xffff0000); break;
    case R_SET_PENDING:   s->pending |= v & latchable; break;
    case R_CLEAR_PENDING: s->pending &= ~(v & latchable); break;
    case R_SET_ACTIVE:    s->active |= v; break;
    case R_CLEAR_ACTIVE:  s->active &= ~v; break;
    }
    if (w)
        update_all(g);
    else
        gic_update(g, cpu);
}

static uint32_t config_read(struct gic *g, unsigned cpu, unsigned n)
{
    const struct gic_word *s = word_of(g, cpu, n >> 1);
    uint32_t half = s->edge >> (n & 1 ? 16 : 0), v = 0;

    for (unsigned i = 0; i < 16; i++)
        v |= (half >> i & 1) << (2 * i + 1);
    return v;
}

static void config_write(struct gic *g, unsigned cpu, bool secure, unsigned n, uint32_t v, uint32_t mask)
{
    struct gic_word *s = word_of(g, cpu, n >> 1);

    for (unsigned i = 0; i < 16 && n; i++) {            /* SGIs are edges */
        uint32_t bit = 1u << (i + (n & 1 ? 16 : 0));

        if (!(mask >> (2 * i + 1) & 1) || !(visible(g, s, secure) & bit))
            continue;
        s->edge = v >> (2 * i + 1) & 1 ? s->edge | bit : s->edge & ~bit;
    }
    update_all(g);
}

static uint8_t byte_read(struct gic *g, unsigned cpu, bool secure, unsigned offset)
{
    unsigned id = offset & 0x3ff;

    if (!id_exists(g, id) || !(visible(g, word_of(g, cpu, id >> 5), secure) >> (id & 31) & 1))
        return 0;
    if (offset < GICD_ITARGETSR)
        return priority_view(g, secure, *priority_of(g, cpu, id));
    return id < GIC_INTERNAL ? (uint8_t)(1u << cpu) : g->target[id];    /* 4.3.12: banked ones read as their CPU */
}

static void byte_write(struct gic *g, unsigned cpu, bool secure, unsigned offset, uint8_t v)
{
    unsigned id = offset & 0x3ff;

    if (!id_exists(g, id) || !(visible(g, word_of(g, cpu, id >> 5), secure) >> (id & 31) & 1))
        return;
    if (offset < GICD_ITARGETSR)
        *priority_of(g, cpu, id) = (g->security && !secure ? 0x80 | v >> 1 : v) & GIC_PRIORITY_MASK;
    else if (id >= GIC_INTERNAL)
        g->target[id] = v & (uint8_t)((1u << g->in.ncpus) - 1);
}

static uint8_t sgi_byte(struct gic *g, unsigned cpu, bool secure, unsigned offset)
{
    unsigned id = offset & 15;

    return visible(g, &g->cpu[cpu].banked, secure) >> id & 1 ? g->cpu[cpu].sgi_source[id] : 0;
}

static void sgi_byte_write(struct gic *g, unsigned cpu, bool secure, unsigned offset, uint8_t v)
{
    unsigned id = offset & 15;

    if (!(visible(g, &g->cpu[cpu].banked, secure) >> id & 1))
        return;
    v &= (uint8_t)((1u << g->in.ncpus) - 1);
    if (offset < GICD_SPENDSGIR)
        sgi_clear(g, cpu, id, v);
    else
        sgi_set(g, cpu, id, v);
}

static bool is_bytes(unsigned offset)
{
    return (offset >= GICD_IPRIORITYR && offset < GICD_ICFGR) || (offset >= GICD_CPENDSGIR && offset < GICD_SPENDSGIR + 16);
}

static uint32_t dist_word(struct gic *g, unsigned cpu, bool secure, unsigned offset)
{
    static const uint8_t id[12] = { 0x04, 0, 0, 0, 0x90, 0xb4, 0x2b, 0, 0x0d, 0xf0, 0x05, 0xb1 };       /* as a GIC-400 */

    switch (offset) {
    case GICD_CTLR:  return g->security && !secure ? g->ctlr >> 1 & 1 : g->ctlr;
    case GICD_TYPER: return dist_typer(g);
    case GICD_IIDR:  return 0x0200043b;
    case GICD_IGROUPR ... GICD_IPRIORITYR - 4: {
        unsigned w = (offset & 0x7f) / 4;

        return w <= g->in.nspis / 32 ? bits_read(g, cpu, secure, (enum bit_register)((offset - GICD_IGROUPR) / 0x80), w) : 0;
    }
    case GICD_ICFGR ... GICD_ICFGR + 0xfc: {
        unsigned n = (offset - GICD_ICFGR) / 4;

        return n / 2 <= g->in.nspis / 32 ? config_read(g, cpu, n) : 0;
    }
    case GICD_PIDR4 ... GICD_PIDR4 + 0x2c: return id[(offset - GICD_PIDR4) / 4];
    default: return 0;
    }
}

static void dist_word_write(struct gic *g, unsigned cpu, bool secure, unsigned offset, uint32_t v, uint32_t mask)
{
    switch (offset) {
    case GICD_CTLR:
        if (g->security && !secure)
            g->ctlr = (g->ctlr & ~(uint32_t)GICD_GROUP1) | (v & 1) << 1;
        else
            g->ctlr = v & 3;
        update_all(g);
        break;
    case GICD_IGROUPR ... GICD_IPRIORITYR - 4:
        if ((offset & 0x7f) / 4 <= g->in.nspis / 32)
            bits_write(g, cpu, secure, (enum bit_register)((offset - GICD_IGROUPR) / 0x80), (offset & 0x7f) / 4, v, mask);
        break;
    case GICD_ICFGR ... GICD_ICFGR + 0xfc:
        if ((offset - GICD_ICFGR) / 8 <= g->in.nspis / 32)
            config_write(g, cpu, secure, (offset - GICD_ICFGR) / 4, v, mask);
        break;
    case GICD_SGIR:
        sgi_generate(g, cpu, secure, v);
        break;
    }
}

uint32_t gic_dist_read(struct gic *g, unsigned cpu, bool secure, unsigned offset, unsigned size)
{
    uint32_t v = 0;

    if (!is_bytes(offset)) {
        v = dist_word(g, cpu, secure, offset & ~3u) >> 8 * (offset & 3);
        return size == 4 ? v : v & ((1u << 8 * size) - 1);
    }
    for (unsigned i = 0; i < size; i++) {
        unsigned at = offset + i;

        v |= (uint32_t)(at < GICD_ICFGR ? byte_read(g, cpu, secure, at) : sgi_byte(g, cpu, secure, at)) << 8 * i;
    }
    return v;
}

void gic_dist_write(struct gic *g, unsigned cpu, bool secure, unsigned offset, uint32_t v, unsigned size)
{
    unsigned shift = 8 * (offset & 3);
    uint32_t mask = size == 4 ? ~0u : ((1u << 8 * size) - 1) << shift;

    if (!is_bytes(offset)) {
        dist_word_write(g, cpu, secure, offset & ~3u, v << shift, mask);
        return;
    }
    for (unsigned i = 0; i < size; i++) {
        if (offset + i < GICD_ICFGR)
            byte_write(g, cpu, secure, offset + i, (uint8_t)(v >> 8 * i));
        else
            sgi_byte_write(g, cpu, secure, offset + i, (uint8_t)(v >> 8 * i));
    }
    update_all(g);
}

uint32_t gic_cpu_read(struct gic *g, unsigned cpu, bool secure, unsigned offset)
{
    return cpu_read(g, cpu, secure, offset);
}

void gic_cpu_write(struct gic *g, unsigned cpu, bool secure, unsigned offset, uint32_t v)
{
    cpu_write(g, cpu, secure, offset, v);
}

/* ---- MMIO. The monitor, which is no CPU, sees CPU 0's. */

static unsigned current_cpu(const struct gic *g)
{
    struct vcpu *v = vcpu_current();

    return v && (unsigned)v->index < g->in.ncpus ? (unsigned)v->index : 0;
}

static bool current_secure(const struct gic *g)
{
    struct vcpu *v = vcpu_current();

    return g->security && v && arm_is_secure(arm(v->cpu));
}

static uint64_t dist_mmio_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct gic *g = device_cast(dev, struct gic);
    uint32_t v;

    pthread_mutex_lock(&g->lock);
    v = gic_dist_read(g, current_cpu(g), current_secure(g), (unsigned)offset, size);
    pthread_mutex_unlock(&g->lock);
    return v;
}

static void dist_mmio_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct gic *g = device_cast(dev, struct gic);

    pthread_mutex_lock(&g->lock);
    gic_dist_write(g, current_cpu(g), current_secure(g), (unsigned)offset, (uint32_t)v, size);
    pthread_mutex_unlock(&g->lock);
}

static uint64_t cpu_mmio_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct gic *g = device_cast(dev, struct gic);
    uint32_t v;

    pthread_mutex_lock(&g->lock);
    v = cpu_read(g, current_cpu(g), current_secure(g), (unsigned)offset);
    pthread_mutex_unlock(&g->lock);
    return v;
}

static void cpu_mmio_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct gic *g = device_cast(dev, struct gic);

    pthread_mutex_lock(&g->lock);
    cpu_write(g, current_cpu(g), current_secure(g), (unsigned)offset, (uint32_t)v);
    pthread_mutex_unlock(&g->lock);
}

static uint64_t hyp_mmio_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct gic *g = device_cast(dev, struct gic);
    uint32_t v;

    pthread_mutex_lock(&g->lock);
    v = gich2_read(g, current_cpu(g), (unsigned)offset);
    pthread_mutex_unlock(&g->lock);
    return v;
}

static void hyp_mmio_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct gic *g = device_cast(dev, struct gic);

    pthread_mutex_lock(&g->lock);
    gich2_write(g, current_cpu(g), (unsigned)offset, (uint32_t)v);
    pthread_mutex_unlock(&g->lock);
}

static uint64_t vcpu_mmio_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct gic *g = device_cast(dev, struct gic);
    uint32_t v;

    pthread_mutex_lock(&g->lock);
    v = gicv2_vcpu_read(g, current_cpu(g), (unsigned)offset);
    pthread_mutex_unlock(&g->lock);
    return v;
}

static void vcpu_mmio_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct gic *g = device_cast(dev, struct gic);

    pthread_mutex_lock(&g->lock);
    gicv2_vcpu_write(g, current_cpu(g), (unsigned)offset, (uint32_t)v);
    pthread_mutex_unlock(&g->lock);
}

/* ---- life */

void gicv2_boot_nonsecure(struct device *dev)
{
    struct gic *g = device_cast(dev, struct gic);

    if (!g->security)
        return;
    pthread_mutex_lock(&g->lock);
    for (unsigned w = 1; w < GIC_WORDS; w++)
        g->shared[w].group = ~0u;
    for (unsigned i = 0; i < g->in.ncpus; i++) {
        g->cpu[i].banked.group = ~0u;
        g->cpu[i].pmr = GIC_PRIORITY_MASK;
    }
    pthread_mutex_unlock(&g->lock);
}

static void reset_cpu(struct gic *g, struct gic_cpu *c)
{
    c->ctlr = c->apr = c->nsapr = 0;
    c->pmr = 0;
    c->bpr = GIC_MIN_BPR;
    c->abpr = GIC_MIN_BPR + 1;
    memset(c->sgi_source, 0, sizeof(c->sgi_source));
    memset(c->priority, 0, sizeof(c->priority));
    c->banked = (struct gic_word){ .level = c->banked.level, .enabled = 0xffff, .edge = 0xffff };
    c->irq = c->fiq = true;             /* so that the first look tells the CPU */
    gich2_reset(c);
}

static void gic_reset(struct device *dev, enum reset_kind kind)
{
    struct gic *g = device_cast(dev, struct gic);

    g->ctlr = 0;
    memset(g->priority, 0, sizeof(g->priority));
    memset(g->target, g->in.ncpus == 1 ? 1 : 0, sizeof(g->target));
    for (unsigned w = 1; w < GIC_WORDS; w++)
        g->shared[w] = (struct gic_word){ .level = g->shared[w].level };
    for (unsigned i = 0; i < g->in.ncpus; i++)
        reset_cpu(g, &g->cpu[i]);
}

static void gic_reset_hold(struct device *dev)
{
    struct gic *g = device_cast(dev, struct gic);

    pthread_mutex_lock(&g->lock);
    update_all(g);
    for (unsigned i = 0; i < g->in.ncpus; i++)
        gich2_update(g, i);
    pthread_mutex_unlock(&g->lock);
}

static bool gic_realize(struct device *dev, struct error *err)
{
    struct gic *g = device_cast(dev, struct gic);

    if (dev->vm->nvcpus > GIC_CPUS)
        return error_setf(err, ERR_GENERIC, "use gic-version=3", "GICv2 serves 8 CPUs; the machine has %u", dev->vm->nvcpus);
    if (g->in.nspis % 32 || g->in.nspis > GIC_SPECIAL - GIC_INTERNAL)
        return error_setf(err, ERR_GENERIC, "a multiple of 32, up to 960", "arm_gic: num-spi=%u", g->in.nspis);
    pthread_mutex_init(&g->lock, NULL);
    g->in.edge = spi_edge;
    gic_inputs_make(&g->in, spi_changed, ppi_changed);
    for (unsigned i = 0; i < g->in.ncpus; i++)
        g->cpu[i].arm = arm(dev->vm->vcpus[i]->cpu);
    return true;
}

static void gic_unrealize(struct device *dev)
{
    gic_inputs_free(&device_cast(dev, struct gic)->in);
    pthread_mutex_destroy(&device_cast(dev, struct gic)->lock);
}

DEVICE = {
    .name = "arm_gic",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "Arm generic interrupt controller, version 2",
    .size = sizeof(struct gic),
    .mmio = { { .name = "gic_dist", .size = 0x1000, .width = 4, .min = 1, .max = 4, .lockless = true, .read = dist_mmio_read,
                .write = dist_mmio_write },
              { .name = "gic_cpu", .size = 0x2000, .width = 4, .lockless = true, .read = cpu_mmio_read, .write = cpu_mmio_write },
              { .name = "gic_viface", .size = 0x1000, .width = 4, .lockless = true, .read = hyp_mmio_read, .write = hyp_mmio_write },
              { .name = "gic_vcpu", .size = 0x2000, .width = 4, .lockless = true, .read = vcpu_mmio_read, .write = vcpu_mmio_write } },
    .props = (const struct prop[]){
        PROP(struct gic, in.nspis, "num-spi", PROP_U32, "256", "shared interrupts: a multiple of 32"),
        PROP(struct gic, security, "has-security-extensions", PROP_BOOL, "off", "two worlds"),
        PROP(struct gic, virtualization, "has-virtualization-extensions", PROP_BOOL, "off", "virtual CPU interfaces"), { 0 } },
    .state = (const struct state_field[]){ STATE_U32(struct gic, ctlr), STATE_BYTES(struct gic, shared), STATE_BYTES(struct gic, priority),
                                           STATE_BYTES(struct gic, target), { 0 } },
    .realize = gic_realize,
    .unrealize = gic_unrealize,
    .reset_enter = gic_reset,
    .reset_hold = gic_reset_hold,
};
