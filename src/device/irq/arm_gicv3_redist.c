/* GICv3: redistributors: a CPU's SGIs, PPIs and LPIs. See arm_gicv3.h. LPIs' configuration is read from the guest's table
 * whenever it is needed, so nothing of it can be stale; their pending bits are kept here while LPIs are enabled (GIC 5.1). */
#include <string.h>
#include "arm_gicv3.h"

enum { GICR_CTLR = 0x0000, GICR_IIDR = 0x0004, GICR_TYPER = 0x0008, GICR_WAKER = 0x0014, GICR_PROPBASER = 0x0070, GICR_PENDBASER = 0x0078,
       GICR_INVLPIR = 0x00a0, GICR_INVALLR = 0x00b0, GICR_SYNCR = 0x00c0, GICR_ID = 0xffd0, SGI_BASE = 0x10000 };
enum { GICR_IGROUPR0 = 0x080, GICR_IPRIORITYR = 0x400, GICR_IPRIORITYR_END = 0x420, GICR_ICFGR0 = 0xc00, GICR_ICFGR1 = 0xc04,
       GICR_IGRPMODR0 = 0xd00 };
enum { CTLR_ENABLE_LPIS = 1, WAKER_PROCESSOR_SLEEP = 2, WAKER_CHILDREN_ASLEEP = 4 };
enum { LPI_ENABLED = 1, LPI_PRIORITY = 0xfc, LPI_WORDS = (GIC_LPI_END - GIC_LPI_FIRST) / 64 };
#define PENDBASER_PTZ (UINT64_C(1) << 62)
#define TABLE_ADDR UINT64_C(0x000ffffffffff000)         /* PROPBASER; PENDBASER's begins at bit 16 */

static void lock(struct gicr *r) { pthread_mutex_lock(&r->lock); }
static void unlock(struct gicr *r) { pthread_mutex_unlock(&r->lock); }

/* ---- LPIs, under the lock */

/* Configuration byte of an LPI; 0 (disabled) where there is none. */
static uint8_t lpi_config(struct gicr *r, unsigned id)
{
    uint8_t v;

    return gic_ram_read(r->gic->in.dev.vm, (r->propbaser & TABLE_ADDR) + id - GIC_LPI_FIRST, &v, 1) ? v : 0;
}

static void lpi_consider(struct gicr *r, unsigned id)
{
    uint8_t c = lpi_config(r, id), priority = c & LPI_PRIORITY & GIC_PRIORITY_MASK;

    /* Where there are two Security states, LPIs are Non-secure: priorities of the upper half (4.8.1). */
    if (!gic_one_state(r->gic))
        priority = (0x80 | priority >> 1) & GIC_PRIORITY_MASK;
    if (c & LPI_ENABLED && priority < r->lpi.priority)
        r->lpi = (struct gic_best){ id, priority, G1NS };
}

static void lpi_search(struct gicr *r)
{
    r->lpi = (struct gic_best){ .id = GIC_NONE, .priority = 0x100 };
    if (!r->lpis_enabled)
        return;
    for (unsigned s = 0; s < G_N_ELEMENTS(r->lpi_summary); s++) {
        for (uint64_t m = r->lpi_summary[s]; m; m &= m - 1) {
            unsigned w = s * 64 + (unsigned)__builtin_ctzll(m);

            for (uint64_t p = r->lpi_pending[w]; p; p &= p - 1)
                lpi_consider(r, GIC_LPI_FIRST + w * 64 + (unsigned)__builtin_ctzll(p));
        }
    }
}

static bool lpi_exists(const struct gicr *r, unsigned id)
{
    return r->lpis_enabled && id >= GIC_LPI_FIRST && id < r->lpi_end;
}

static void lpi_mark(struct gicr *r, unsigned id, bool pending)
{
    unsigned n = id - GIC_LPI_FIRST, w = n / 64;
    uint64_t bit = UINT64_C(1) << n % 64;

    r->lpi_pending[w] = pending ? r->lpi_pending[w] | bit : r->lpi_pending[w] & ~bit;
    bit = UINT64_C(1) << w % 64;
    r->lpi_summary[w / 64] = r->lpi_pending[w] ? r->lpi_summary[w / 64] | bit : r->lpi_summary[w / 64] & ~bit;
}

static bool lpi_is_pending(const struct gicr *r, unsigned id)
{
    return r->lpi_pending[(id - GIC_LPI_FIRST) / 64] >> (id % 64) & 1;
}

void gicr_lpi_take(struct gicr *r, unsigned id)
{
    lpi_mark(r, id, false);
    lpi_search(r);
}

/* The pending table of memory: a bit an ID from 0 on. */
static void pending_load(struct gicr *r)
{
    uint64_t base = r->pendbaser & TABLE_ADDR & ~UINT64_C(0xffff), v;

    memset(r->lpi_pending, 0, LPI_WORDS * 8);
    memset(r->lpi_summary, 0, sizeof(r->lpi_summary));
    if (r->pendbaser & PENDBASER_PTZ)
        return;
    for (unsigned id = GIC_LPI_FIRST; id + 64 <= r->lpi_end; id += 64) {
        unsigned w = (id - GIC_LPI_FIRST) / 64;

        if (!gic_ram_read(r->gic->in.dev.vm, base + id / 8, &v, 8))
            return;
        r->lpi_pending[w] = v;
        if (v)
            r->lpi_summary[w / 64] |= UINT64_C(1) << w % 64;
    }
}

static void pending_store(struct gicr *r)
{
    uint64_t base = r->pendbaser & TABLE_ADDR & ~UINT64_C(0xffff);

    for (unsigned id = GIC_LPI_FIRST; id + 64 <= r->lpi_end; id += 64)
        if (!gic_ram_write(r->gic->in.dev.vm, base + id / 8, &r->lpi_pending[(id - GIC_LPI_FIRST) / 64], 8))
            return;
}

static void lpis_enable(struct gicr *r, bool on)
{
    unsigned bits = (unsigned)(r->propbaser & 31) + 1;

    if (on == r->lpis_enabled || !r->gic->lpis)
        return;
    if (on) {
        r->lpi_end = 1u << MIN(bits, (unsigned)GIC_ID_BITS);
        if (!r->lpi_pending)
            r->lpi_pending = g_new0(uint64_t, LPI_WORDS);
        pending_load(r);
    } else {
        pending_store(r);
    }
    r->lpis_enabled = on;
    lpi_search(r);
    gicr_update(r);
}

/* ---- for the ITS */

void gicr_lpi_set(struct gicr *r, unsigned id, bool pending)
{
    lock(r);
    if (lpi_exists(r, id)) {
        lpi_mark(r, id, pending);
        if (pending)
            lpi_consider(r, id);
        else if (r->lpi.id == id)
            lpi_search(r);
        gicr_update(r);
    }
    unlock(r);
}

void gicr_lpi_look(struct gicr *r)
{
    lock(r);
    lpi_search(r);
    gicr_update(r);
    unlock(r);
}

void gicr_lpi_move(struct gicr *from, struct gicr *to, unsigned id)
{
    bool was;

    if (from == to)
        return;
    lock(from);
    was = lpi_exists(from, id) && lpi_is_pending(from, id);
    if (was)
        gicr_lpi_take(from, id);
    gicr_update(from);
    unlock(from);
    if (was)
        gicr_lpi_set(to, id, true);
}

void gicr_lpi_move_all(struct gicr *from, struct gicr *to)
{
    g_autofree uint64_t *moved = NULL;

    if (from == to)
        return;
    lock(from);
    if (from->lpis_enabled) {
        moved = g_memdup2(from->lpi_pending, LPI_WORDS * 8);
        memset(from->lpi_pending, 0, LPI_WORDS * 8);
        memset(from->lpi_summary, 0, sizeof(from->lpi_summary));
        lpi_search(from);
        gicr_update(from);
    }
    unlock(from);
    lock(to);
    for (unsigned w = 0; moved && to->lpis_enabled && w < LPI_WORDS; w++) {
        to->lpi_pending[w] |= moved[w];
        if (moved[w])
            to->lpi_summary[w / 64] |= UINT64_C(1) << w % 64;
    }
    lpi_search(to);
    gicr_update(to);
    unlock(to);
}

/* ---- the best of all */

/* IDs decide between equal priorities; which is the implementation's choice (4.8). */
static void better(struct gicr *r, struct gic_best *best, const struct gic_best *b)
{
    if (b->id != GIC_NONE && r->enabled[b->group] && b->priority < best->priority)
        *best = *b;
}

struct gic_best gicr_best(struct gicr *r)
{
    const struct gicv3_word *s = &r->banked;
    struct gic_best best = { .id = GIC_NONE, .priority = 0x100 };

    if (r->asleep)
        return best;
    for (uint32_t m = gicv3_word_pending(s) & s->enabled & ~s->active & gicv3_forwarded(r->gic, s); m; m &= m - 1) {
        unsigned id = (unsigned)__builtin_ctz(m);
        struct gic_best b = { id, r->priority[id], (uint8_t)gicv3_group(r->gic, s, id) };

        better(r, &best, &b);
    }
    better(r, &best, &r->spi);
    if (r->lpi.id != GIC_NONE && gicd_ctlr(r->gic) & GICD_GROUP1NS)
        better(r, &best, &r->lpi);
    return best;
}

/* 4.6.2: group 0 is an FIQ. Of two Security states' group 1 the CPU knows. */
static enum arm_line group_line(const struct gicr *r, unsigned group)
{
    if (group == G0)
        return ARM_LINE_FIQ;
    if (gic_one_state(r->gic))
        return ARM_LINE_IRQ;
    return group == G1S ? ARM_LINE_GROUP1S : ARM_LINE_GROUP1NS;
}

void gicr_update(struct gicr *r)
{
    struct gic_best b = gicr_best(r);
    enum arm_line line = gicr_passes(r, &b) ? group_line(r, b.group) : ARM_LINE_COUNT;

    if (line == r->line)
        return;
    if (r->line != ARM_LINE_COUNT)
        arm_set_line(r->arm, r->line, false);
    if (line != ARM_LINE_COUNT)
        arm_set_line(r->arm, line, true);
    r->line = line;
}

/* ---- registers */

static uint64_t typer(struct gicr *r)
{
    uint64_t a = r->arm->sys.config.mpidr;

    return (a & 0xffffff) << 32 | (a >> 32 & 0xff) << 56 | (uint64_t)r->index << 8 | (uint64_t)r->last << 4 | r->gic->lpis;
}

static void set_part(uint64_t *reg, bool high, unsigned size, uint64_t v)
{
    if (size == 8)
        *reg = v;
    else
        *reg = high ? (*reg & 0xffffffff) | v << 32 : (*reg & ~UINT64_C(0xffffffff)) | (uint32_t)v;
}

static uint64_t rd_read(struct gicr *r, unsigned offset, unsigned size)
{
    unsigned shift = offset & 4 ? 32 : 0;

    switch (offset & ~7u) {
    case GICR_TYPER:     return typer(r) >> shift;
    case GICR_PROPBASER: return r->gic->lpis ? r->propbaser >> shift : 0;
    case GICR_PENDBASER: return r->gic->lpis ? (r->pendbaser & ~PENDBASER_PTZ) >> shift : 0;
    }
    switch (offset) {
    case GICR_CTLR:  return r->lpis_enabled;
    case GICR_IIDR:  return 0x0000043b;
    case GICR_WAKER:
        if (!gic_one_state(r->gic) && !gicv3_current_secure(r->gic))
            return 0;
        return r->asleep ? WAKER_PROCESSOR_SLEEP | WAKER_CHILDREN_ASLEEP : 0;
    case GICR_ID ... GICR_ID + 0x2c: return gicv3_id_register(offset);
    default: return 0;
    }
}

static void rd_write(struct gicr *r, unsigned offset, uint64_t v, unsigned size)
{
    switch (offset & ~7u) {
    case GICR_PROPBASER:                /* 12.11.35: fixed while LPIs are enabled */
        if (!r->lpis_enabled) {
            set_part(&r->propbaser, offset & 4, size, v);
            r->propbaser &= UINT64_C(0x070fffffffffff9f);
        }
        return;
    case GICR_PENDBASER:
        if (!r->lpis_enabled) {
            set_part(&r->pendbaser, offset & 4, size, v);
            r->pendbaser &= UINT64_C(0x470fffffffff0f80);
        }
        return;
    }
    switch (offset) {
    case GICR_CTLR:
        lpis_enable(r, v & CTLR_ENABLE_LPIS);
        break;
    case GICR_WAKER:
        if (gic_one_state(r->gic) || gicv3_current_secure(r->gic)) {
            r->asleep = v & WAKER_PROCESSOR_SLEEP;
            gicr_update(r);
        }
        break;
    }
}

static uint32_t priorities_read(struct gicr *r, bool secure, unsigned offset, unsigned size)
{
    uint32_t seen = gicv3_visible(r->gic, &r->banked, secure), v = 0;

    for (unsigned i = 0; i < size; i++) {
        unsigned id = (offset + i) & 31;
        uint8_t p = seen >> id & 1 ? r->priority[id] : 0;

        v |= (uint32_t)(secure || gic_one_state(r->gic) ? p : gic_priority_nonsecure(p)) << 8 * i;
    }
    return v;
}

static void priorities_write(struct gicr *r, bool secure, unsigned offset, uint32_t v, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        unsigned id = (offset + i) & 31;
        uint8_t p = (uint8_t)(v >> 8 * i);

        if (gicv3_visible(r->gic, &r->banked, secure) >> id & 1)
            r->priority[id] = (secure || gic_one_state(r->gic) ? p : 0x80 | p >> 1) & GIC_PRIORITY_MASK;
    }
}

static uint32_t sgi_read(struct gicr *r, bool secure, unsigned offset)
{
    struct gicv3 *g = r->gic;

    if (offset >= GICR_IGROUPR0 && offset < GICR_IPRIORITYR && !(offset & 0x7f))
        return gicv3_bits_read(g, &r->banked, (enum gicv3_bits)((offset - GICR_IGROUPR0) / 0x80), secure);
    if (offset == GICR_ICFGR0 || offset == GICR_ICFGR1)
        return gicv3_config_read(&r->banked, offset == GICR_ICFGR1);
    if (offset == GICR_IGRPMODR0)
        return secure && !gic_one_state(g) ? r->banked.modifier : 0;
    return 0;
}

static void sgi_write(struct gicr *r, bool secure, unsigned offset, uint32_t v, uint32_t mask)
{
    struct gicv3 *g = r->gic;

    if (offset >= GICR_IGROUPR0 && offset < GICR_IPRIORITYR && !(offset & 0x7f))
        gicv3_bits_write(g, &r->banked, (enum gicv3_bits)((offset - GICR_IGROUPR0) / 0x80), secure, v, mask);
    else if (offset == GICR_ICFGR1)     /* SGIs are edges */
        gicv3_config_write(g, &r->banked, true, secure, v, mask);
    else if (offset == GICR_IGRPMODR0 && secure && !gic_one_state(g))
        r->banked.modifier = (r->banked.modifier & ~mask) | (v & mask);
}

uint64_t gicr_mmio_read(struct gicv3 *g, unsigned cpu, uint64_t at, unsigned size)
{
    bool secure = gicv3_current_secure(g);
    unsigned offset = (unsigned)at;
    struct gicr *r;
    uint64_t v;

    if (cpu >= g->in.ncpus)
        return 0;
    r = &g->cpu[cpu];
    lock(r);
    if (offset < SGI_BASE)
        v = rd_read(r, offset & ~3u, size) >> 8 * (offset & 3);
    else if (offset - SGI_BASE >= GICR_IPRIORITYR && offset - SGI_BASE < GICR_IPRIORITYR_END)
        v = priorities_read(r, secure, offset - SGI_BASE - GICR_IPRIORITYR, MIN(size, 4));
    else
        v = sgi_read(r, secure, (offset - SGI_BASE) & ~3u) >> 8 * (offset & 3);
    unlock(r);
    return size == 8 ? v : v & ((UINT64_C(1) << 8 * size) - 1);
}

void gicr_mmio_write(struct gicv3 *g, unsigned cpu, uint64_t at, uint64_t v, unsigned size)
{
    bool secure = gicv3_current_secure(g);
    unsigned offset = (unsigned)at, shift = 8 * (offset & 3);
    uint32_t mask = size >= 4 ? ~0u : ((1u << 8 * size) - 1) << shift;
    struct gicr *r;

    if (cpu >= g->in.ncpus)
        return;
    r = &g->cpu[cpu];
    lock(r);
    if (offset < SGI_BASE) {
        if (size >= 4)
            rd_write(r, offset, v, size);
    } else if (offset - SGI_BASE >= GICR_IPRIORITYR && offset - SGI_BASE < GICR_IPRIORITYR_END) {
        priorities_write(r, secure, offset - SGI_BASE - GICR_IPRIORITYR, (uint32_t)v, MIN(size, 4));
    } else {
        sgi_write(r, secure, (offset - SGI_BASE) & ~3u, (uint32_t)v << shift, mask);
    }
    gicr_update(r);
    unlock(r);
}

/* ---- life */

void gicr_init(struct gicr *r, struct gicv3 *g, unsigned index)
{
    r->gic = g;
    r->index = index;
    r->line = ARM_LINE_COUNT;
    r->arm = arm(g->in.dev.vm->vcpus[index]->cpu);
    r->arm->sys.gic = &gicv3_cpu_ops;
    r->arm->sys.gic_opaque = r;
    pthread_mutex_init(&r->lock, NULL);
}

void gicr_free(struct gicr *r)
{
    g_free(r->lpi_pending);
    pthread_mutex_destroy(&r->lock);
}

void gicr_reset(struct gicr *r)
{
    r->banked = (struct gicv3_word){ .level = r->banked.level, .edge = 0xffff, .group = gicv3_reset_group(r->gic) };
    memset(r->priority, 0, sizeof(r->priority));
    r->asleep = r->gic->security;       /* without EL3 nobody wakes it but an operating system; EDK2 finds it awake */
    r->lpis_enabled = false;
    r->propbaser = r->pendbaser = 0;
    memset(r->lpi_summary, 0, sizeof(r->lpi_summary));
    if (r->lpi_pending)
        memset(r->lpi_pending, 0, LPI_WORDS * 8);
    r->spi = r->lpi = (struct gic_best){ .id = GIC_NONE, .priority = 0x100 };
    gicv3_cpu_reset(r);
    gich_reset(r);
    if (r->line != ARM_LINE_COUNT)
        arm_set_line(r->arm, r->line, false);
    r->line = ARM_LINE_COUNT;
}
