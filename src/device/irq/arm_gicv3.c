/* GICv3: the distributor, and the device that holds all. See arm_gicv3.h. */
#include <string.h>
#include "arm_gicv3.h"

enum { GICD_CTLR = 0x0000, GICD_TYPER = 0x0004, GICD_IIDR = 0x0008, GICD_SETSPI_NSR = 0x0040, GICD_CLRSPI_NSR = 0x0048,
       GICD_SETSPI_SR = 0x0050, GICD_CLRSPI_SR = 0x0058, GICD_IGROUPR = 0x0080, GICD_IPRIORITYR = 0x0400, GICD_ITARGETSR = 0x0800,
       GICD_ICFGR = 0x0c00, GICD_IGRPMODR = 0x0d00, GICD_IROUTER = 0x6000, GICD_IROUTER_END = 0x8000, GIC_ID = 0xffd0, GIC_ID_END = 0x10000 };
enum { ROUTER_ANY = 1u << 31 };

/* ---- memory */

bool gic_ram_read(struct vm *vm, uint64_t addr, void *buf, unsigned len)
{
    unsigned token = mem_read_begin();
    uint64_t n = len;
    void *p = as_map(&vm->memory, addr, &n, false, MEM_ATTRS_NONE);

    if (p && n == len && len == 8 && !(addr & 7))
        *(uint64_t *)buf = __atomic_load_n((uint64_t *)p, __ATOMIC_RELAXED);    /* tables are looked at while others write */
    else if (p && n == len)
        memcpy(buf, p, len);
    mem_read_end(token);
    return p && n == len;
}

bool gic_ram_write(struct vm *vm, uint64_t addr, const void *buf, unsigned len)
{
    unsigned token = mem_read_begin();
    uint64_t n = len;
    void *p = as_map(&vm->memory, addr, &n, true, MEM_ATTRS_NONE);

    if (p && n == len) {
        if (len == 8 && !(addr & 7))
            __atomic_store_n((uint64_t *)p, *(const uint64_t *)buf, __ATOMIC_RELAXED);
        else
            memcpy(p, buf, len);
        as_unmap(&vm->memory, p, len, true, len);
    }
    mem_read_end(token);
    return p && n == len;
}

/* ---- groups and what may be seen of them: 4.6 */

enum gic_group gicv3_group(struct gicv3 *g, const struct gicv3_word *w, unsigned bit)
{
    if (w->group >> bit & 1)
        return G1NS;
    return !gic_one_state(g) && w->modifier >> bit & 1 ? G1S : G0;
}

uint32_t gicv3_forwarded(struct gicv3 *g, const struct gicv3_word *w)
{
    uint32_t c = gicd_ctlr(g), modifier = c & GICD_DS ? 0 : w->modifier;

    return (c & GICD_GROUP1NS ? w->group : 0) | (c & GICD_GROUP1S ? ~w->group & modifier : 0) |
           (c & GICD_GROUP0 ? ~w->group & ~modifier : 0);
}

uint32_t gicv3_visible(struct gicv3 *g, const struct gicv3_word *w, bool secure)
{
    return secure || gic_one_state(g) ? ~0u : w->group;
}

bool gicv3_current_secure(struct gicv3 *g)
{
    struct vcpu *v = vcpu_current();

    return g->security && v && arm_is_secure(arm(v->cpu));
}

uint32_t gicv3_bits_read(struct gicv3 *g, struct gicv3_word *w, enum gicv3_bits r, bool secure)
{
    uint32_t v;

    switch (r) {
    case B_GROUP: return secure || gic_one_state(g) ? w->group : 0;
    case B_SET_ENABLE: case B_CLEAR_ENABLE: v = w->enabled; break;
    case B_SET_PENDING: case B_CLEAR_PENDING: v = gicv3_word_pending(w); break;
    default: v = w->active; break;
    }
    return v & gicv3_visible(g, w, secure);
}

void gicv3_bits_write(struct gicv3 *g, struct gicv3_word *w, enum gicv3_bits r, bool secure, uint32_t v, uint32_t mask)
{
    v &= gicv3_visible(g, w, secure) & mask;
    switch (r) {
    case B_GROUP:
        if (secure || gic_one_state(g))
            w->group = (w->group & ~mask) | v;
        break;
    case B_SET_ENABLE:    w->enabled |= v; break;
    case B_CLEAR_ENABLE:  w->enabled &= ~v; break;
    case B_SET_PENDING:   w->pending |= v; break;
    case B_CLEAR_PENDING: w->pending &= ~v; break;
    case B_SET_ACTIVE:    w->active |= v; break;
    case B_CLEAR_ACTIVE:  w->active &= ~v; break;
    }
}

uint32_t gicv3_config_read(const struct gicv3_word *w, bool high)
{
    uint32_t half = w->edge >> (high ? 16 : 0), v = 0;

    for (unsigned i = 0; i < 16; i++)
        v |= (half >> i & 1) << (2 * i + 1);
    return v;
}

void gicv3_config_write(struct gicv3 *g, struct gicv3_word *w, bool high, bool secure, uint32_t v, uint32_t mask)
{
    for (unsigned i = 0; i < 16; i++) {
        uint32_t bit = 1u << (i + (high ? 16 : 0));

        if (mask >> (2 * i + 1) & 1 && gicv3_visible(g, w, secure) & bit)
            w->edge = v >> (2 * i + 1) & 1 ? w->edge | bit : w->edge & ~bit;
    }
}

uint32_t gicv3_id_register(uint64_t offset)
{
    static const uint8_t id[12] = { 0x44, 0, 0, 0, 0x92, 0xb4, 0x3b, 0, 0x0d, 0xf0, 0x05, 0xb1 };       /* architecture 3 */

    return id[(offset - GIC_ID) >> 2 & 15];
}

/* ---- SPIs */

static void lock(struct gicv3 *g) { pthread_mutex_lock(&g->lock); }
static void unlock(struct gicv3 *g) { pthread_mutex_unlock(&g->lock); }

void gicv3_spi_update(struct gicv3 *g, unsigned cpu)
{
    struct gic_best best = { .id = GIC_NONE, .priority = 0x100 };
    struct gicr *r = &g->cpu[cpu];

    for (unsigned w = 1; w <= g->in.nspis / 32; w++) {
        const struct gicv3_word *s = &g->shared[w];

        for (uint32_t m = gicv3_word_pending(s) & s->enabled & ~s->active & gicv3_forwarded(g, s); m; m &= m - 1) {
            unsigned bit = (unsigned)__builtin_ctz(m), id = w * 32 + bit;

            if (g->target[id] == cpu && g->priority[id] < best.priority)
                best = (struct gic_best){ id, g->priority[id], (uint8_t)gicv3_group(g, s, bit) };
        }
    }
    pthread_mutex_lock(&r->lock);
    r->spi = best;
    gicr_update(r);
    pthread_mutex_unlock(&r->lock);
}

static void update_target(struct gicv3 *g, unsigned id)
{
    if (g->target[id] != NO_CPU)
        gicv3_spi_update(g, g->target[id]);
}

static void update_all(struct gicv3 *g)
{
    for (unsigned i = 0; i < g->in.ncpus; i++)
        gicv3_spi_update(g, i);
}

static void input(struct gicv3_word *s, uint32_t bit, int level)
{
    if (level && !(s->level & bit))
        s->pending |= bit & s->edge;
    s->level = level ? s->level | bit : s->level & ~bit;
}

static void spi_changed(void *opaque, int n, int level)
{
    struct gicv3 *g = opaque;
    unsigned id = GIC_INTERNAL + (unsigned)n;

    lock(g);
    input(&g->shared[id >> 5], 1u << (id & 31), level);
    update_target(g, id);
    unlock(g);
}

static void spi_latch(struct gicv3 *g, unsigned id, bool pending)
{
    uint32_t bit = 1u << (id & 31);

    g->shared[id >> 5].pending = pending ? g->shared[id >> 5].pending | bit : g->shared[id >> 5].pending & ~bit;
    update_target(g, id);
}

static void spi_edge(struct gic_inputs *in, unsigned n)
{
    struct gicv3 *g = (struct gicv3 *)in;

    lock(g);
    spi_latch(g, GIC_INTERNAL + n, true);
    unlock(g);
}

static void ppi_changed(void *opaque, int n, int level)
{
    struct gicr *r = &((struct gicv3 *)opaque)->cpu[n / GIC_INTERNAL];

    pthread_mutex_lock(&r->lock);
    input(&r->banked, 1u << (n % GIC_INTERNAL), level);
    gicr_update(r);
    pthread_mutex_unlock(&r->lock);
}

/* Affinity fields 3.2.1.0, as in MPIDR and GICD_IROUTER. */
struct gicr *gicv3_find_cpu(struct gicv3 *g, uint64_t affinity)
{
    for (unsigned i = 0; i < g->in.ncpus; i++)
        if (((g->cpu[i].arm->sys.config.mpidr ^ affinity) & 0xff00ffffff) == 0)
            return &g->cpu[i];
    return NULL;
}

/* 1 of N goes to the first. */
static void router_write(struct gicv3 *g, unsigned id, uint64_t v)
{
    unsigned old = g->target[id];
    struct gicr *r;

    v &= 0xff80ffffff;
    g->router[id] = v;
    r = v & ROUTER_ANY ? &g->cpu[0] : gicv3_find_cpu(g, v);
    g->target[id] = (uint16_t)(r ? r->index : NO_CPU);
    if (old != NO_CPU)
        gicv3_spi_update(g, old);
    update_target(g, id);
}

/* ---- registers */

/* GICD_CTLR: 12.9.4. Non-secure software sees group 1 as its own; ARE is always on. */
static uint32_t ctlr_read(struct gicv3 *g, bool secure)
{
    uint32_t c = gicd_ctlr(g);

    if (c & GICD_DS)
        return (c & (GICD_GROUP0 | GICD_GROUP1NS)) | GICD_ARE_S | GICD_DS;
    if (secure)
        return c | GICD_ARE_S | GICD_ARE_NS;
    return (c & GICD_GROUP1NS) | GICD_ARE_S;            /* EnableGrp1A, ARE_NS */
}

static void ctlr_write(struct gicv3 *g, bool secure, uint32_t v)
{
    uint32_t c = g->ctlr;

    if (c & GICD_DS)
        c = (c & ~(uint32_t)(GICD_GROUP0 | GICD_GROUP1NS)) | (v & (GICD_GROUP0 | GICD_GROUP1NS));
    else if (secure)
        c = v & (GICD_GROUP0 | GICD_GROUP1NS | GICD_GROUP1S | GICD_DS);
    else
        c = (c & ~(uint32_t)GICD_GROUP1NS) | (v & GICD_GROUP1NS);
    __atomic_store_n(&g->ctlr, c, __ATOMIC_RELEASE);
    update_all(g);
}

static uint32_t typer(struct gicv3 *g)
{
    return g->in.nspis / 32 | (uint32_t)(g->security && !gic_one_state(g)) << 10 | 1 << 16 /* MBIS */ | (uint32_t)g->lpis << 17 |
           (GIC_ID_BITS - 1) << 19 | 1 << 24 /* A3V */ | 1 << 25 /* No1N */;
}

static uint32_t word_read(struct gicv3 *g, bool secure, unsigned offset)
{
    unsigned w = (offset & 0x7f) / 4;

    switch (offset) {
    case GICD_CTLR:  return ctlr_read(g, secure);
    case GICD_TYPER: return typer(g);
    case GICD_IIDR:  return 0x0000043b;
    case GICD_IGROUPR ... GICD_IPRIORITYR - 4:
        return w && w <= g->in.nspis / 32 ? gicv3_bits_read(g, &g->shared[w], (enum gicv3_bits)((offset - GICD_IGROUPR) / 0x80), secure) : 0;
    case GICD_ICFGR ... GICD_IGRPMODR - 4:
        w = (offset - GICD_ICFGR) / 8;
        return w && w <= g->in.nspis / 32 ? gicv3_config_read(&g->shared[w], offset & 4) : 0;
    case GICD_IGRPMODR ... GICD_IGRPMODR + 0x7c:
        return w && w <= g->in.nspis / 32 && secure && !gic_one_state(g) ? g->shared[w].modifier : 0;
    case GIC_ID ... GIC_ID_END - 4:
        return gicv3_id_register(offset);
    default:
        return 0;
    }
}

static void word_write(struct gicv3 *g, bool secure, unsigned offset, uint32_t v, uint32_t mask)
{
    unsigned w = (offset & 0x7f) / 4;

    switch (offset) {
    case GICD_CTLR:
        ctlr_write(g, secure, v);
        return;
    case GICD_SETSPI_NSR: case GICD_CLRSPI_NSR: case GICD_SETSPI_SR: case GICD_CLRSPI_SR:
        v &= 0x3ff;
        if (v >= GIC_INTERNAL && v < GIC_INTERNAL + g->in.nspis && (secure || gicv3_visible(g, &g->shared[v >> 5], false) >> (v & 31) & 1))
            spi_latch(g, v, offset == GICD_SETSPI_NSR || offset == GICD_SETSPI_SR);
        return;
    case GICD_IGROUPR ... GICD_IPRIORITYR - 4:
        if (w && w <= g->in.nspis / 32)
            gicv3_bits_write(g, &g->shared[w], (enum gicv3_bits)((offset - GICD_IGROUPR) / 0x80), secure, v, mask);
        break;
    case GICD_ICFGR ... GICD_IGRPMODR - 4:
        w = (offset - GICD_ICFGR) / 8;
        if (w && w <= g->in.nspis / 32)
            gicv3_config_write(g, &g->shared[w], offset & 4, secure, v, mask);
        break;
    case GICD_IGRPMODR ... GICD_IGRPMODR + 0x7c:
        if (w && w <= g->in.nspis / 32 && secure && !gic_one_state(g))
            g->shared[w].modifier = (g->shared[w].modifier & ~mask) | (v & mask);
        break;
    default:
        return;
    }
    update_all(g);
}

static bool spi_seen(struct gicv3 *g, bool secure, unsigned id)
{
    return id >= GIC_INTERNAL && id < GIC_INTERNAL + g->in.nspis && gicv3_visible(g, &g->shared[id >> 5], secure) >> (id & 31) & 1;
}

static uint32_t priorities_read(struct gicv3 *g, bool secure, unsigned offset, unsigned size)
{
    uint32_t v = 0;

    for (unsigned i = 0; i < size; i++) {
        unsigned id = (offset + i) & 0x3ff;
        uint8_t p = spi_seen(g, secure, id) ? g->priority[id] : 0;

        v |= (uint32_t)(secure || gic_one_state(g) ? p : gic_priority_nonsecure(p)) << 8 * i;
    }
    return v;
}

static void priorities_write(struct gicv3 *g, bool secure, unsigned offset, uint32_t v, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        unsigned id = (offset + i) & 0x3ff;
        uint8_t p = (uint8_t)(v >> 8 * i);

        if (spi_seen(g, secure, id)) {
            g->priority[id] = (secure || gic_one_state(g) ? p : 0x80 | p >> 1) & GIC_PRIORITY_MASK;
            update_target(g, id);
        }
    }
}

static uint64_t router_access(struct gicv3 *g, bool secure, unsigned offset, unsigned size, const uint64_t *write)
{
    unsigned id = (offset - GICD_IROUTER) / 8, shift = offset & 4 ? 32 : 0;
    uint64_t mask = size == 8 ? ~UINT64_C(0) : UINT64_C(0xffffffff) << shift;

    if (!spi_seen(g, secure, id) || size < 4)
        return 0;
    if (write)
        router_write(g, id, (g->router[id] & ~mask) | (*write << shift & mask));
    return g->router[id] >> shift;
}

static uint64_t dist_read(struct device *dev, uint64_t at, unsigned size)
{
    struct gicv3 *g = device_cast(dev, struct gicv3);
    bool secure = gicv3_current_secure(g);
    unsigned offset = (unsigned)at;
    uint64_t v;

    lock(g);
    if (offset >= GICD_IPRIORITYR && offset < GICD_ITARGETSR)
        v = priorities_read(g, secure, offset, MIN(size, 4));
    else if (offset >= GICD_IROUTER && offset < GICD_IROUTER_END)
        v = router_access(g, secure, offset, size, NULL);
    else
        v = word_read(g, secure, offset & ~3u) >> 8 * (offset & 3);
    unlock(g);
    return size == 8 ? v : v & ((UINT64_C(1) << 8 * size) - 1);
}

static void dist_write(struct device *dev, uint64_t at, uint64_t v, unsigned size)
{
    struct gicv3 *g = device_cast(dev, struct gicv3);
    bool secure = gicv3_current_secure(g);
    unsigned offset = (unsigned)at, shift = 8 * (offset & 3);
    uint32_t mask = size >= 4 ? ~0u : ((1u << 8 * size) - 1) << shift;

    lock(g);
    if (offset >= GICD_IPRIORITYR && offset < GICD_ITARGETSR)
        priorities_write(g, secure, offset, (uint32_t)v, MIN(size, 4));
    else if (offset >= GICD_IROUTER && offset < GICD_IROUTER_END)
        router_access(g, secure, offset, size, &v);
    else
        word_write(g, secure, offset & ~3u, (uint32_t)v << shift, mask);
    unlock(g);
}

/* ---- redistributors' registers: two regions */

static uint64_t redist_read(struct device *dev, uint64_t offset, unsigned size)
{
    return gicr_mmio_read(device_cast(dev, struct gicv3), (unsigned)(offset >> 17), offset & 0x1ffff, size);
}

static void redist_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    gicr_mmio_write(device_cast(dev, struct gicv3), (unsigned)(offset >> 17), offset & 0x1ffff, v, size);
}

static uint64_t redist2_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct gicv3 *g = device_cast(dev, struct gicv3);

    return gicr_mmio_read(g, g->low_redists + (unsigned)(offset >> 17), offset & 0x1ffff, size);
}

static void redist2_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct gicv3 *g = device_cast(dev, struct gicv3);

    gicr_mmio_write(g, g->low_redists + (unsigned)(offset >> 17), offset & 0x1ffff, v, size);
}

/* ---- life */

void gicv3_boot_nonsecure(struct device *dev)
{
    struct gicv3 *g = device_cast(dev, struct gicv3);

    if (!g->security)
        return;
    lock(g);
    for (unsigned w = 1; w < GIC_WORDS; w++)
        g->shared[w].group = ~0u;
    for (unsigned i = 0; i < g->in.ncpus; i++) {
        g->cpu[i].banked.group = ~0u;
        g->cpu[i].asleep = false;
        g->cpu[i].pmr = 0xff & GIC_PRIORITY_MASK;
    }
    unlock(g);
}

static void gicv3_reset(struct device *dev, enum reset_kind kind)
{
    struct gicv3 *g = device_cast(dev, struct gicv3);

    g->ctlr = g->security ? 0 : GICD_DS;
    memset(g->priority, 0, sizeof(g->priority));
    for (unsigned w = 1; w < GIC_WORDS; w++)
        g->shared[w] = (struct gicv3_word){ .level = g->shared[w].level, .group = gicv3_reset_group(g) };
    for (unsigned id = 0; id < G_N_ELEMENTS(g->target); id++) {
        struct gicr *r = gicv3_find_cpu(g, 0);

        g->router[id] = 0;
        g->target[id] = (uint16_t)(r ? r->index : NO_CPU);
    }
    for (unsigned i = 0; i < g->in.ncpus; i++)
        gicr_reset(&g->cpu[i]);
}

static void gicv3_reset_hold(struct device *dev)
{
    struct gicv3 *g = device_cast(dev, struct gicv3);

    lock(g);
    update_all(g);
    unlock(g);
}

static bool gicv3_realize(struct device *dev, struct error *err)
{
    struct gicv3 *g = device_cast(dev, struct gicv3);
    unsigned n = dev->vm->nvcpus;

    if (g->in.nspis % 32 || g->in.nspis > GIC_SPECIAL - GIC_INTERNAL)
        return error_setf(err, ERR_GENERIC, "a multiple of 32, up to 960", "arm-gicv3: num-spi=%u", g->in.nspis);
    pthread_mutex_init(&g->lock, NULL);
    g->in.edge = spi_edge;
    g->cpu = g_new0(struct gicr, n);
    for (unsigned i = 0; i < n; i++)
        gicr_init(&g->cpu[i], g, i);
    gic_inputs_make(&g->in, spi_changed, ppi_changed);
    dev->mmio[1].size = (uint64_t)MIN(n, g->low_redists) << 17;
    dev->mmio[2].size = (uint64_t)MAX(n > g->low_redists ? n - g->low_redists : 1, 1u) << 17;
    for (unsigned i = 0; i < n; i++)
        g->cpu[i].last = i + 1 == n || i + 1 == g->low_redists;
    return true;
}

static void gicv3_unrealize(struct device *dev)
{
    struct gicv3 *g = device_cast(dev, struct gicv3);

    gic_inputs_free(&g->in);
    for (unsigned i = 0; g->cpu && i < g->in.ncpus; i++)
        gicr_free(&g->cpu[i]);
    g_free(g->cpu);
    pthread_mutex_destroy(&g->lock);
}

#define GIC_MMIO(text, bytes, r, w) { .name = text, .size = bytes, .width = 4, .min = 1, .max = 8, .lockless = true, .read = r, .write = w }

DEVICE = {
    .name = "arm-gicv3",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "Arm generic interrupt controller, version 3",
    .size = sizeof(struct gicv3),
    .mmio = { GIC_MMIO("gicv3_dist", 0x10000, dist_read, dist_write), GIC_MMIO("gicv3_redist_region[0]", 0x20000, redist_read, redist_write),
              GIC_MMIO("gicv3_redist_region[1]", 0x20000, redist2_read, redist2_write) },
    .props = (const struct prop[]){
        PROP(struct gicv3, in.nspis, "num-spi", PROP_U32, "256", "shared interrupts: a multiple of 32"),
        PROP(struct gicv3, security, "has-security-extensions", PROP_BOOL, "off", "two worlds"),
        PROP(struct gicv3, lpis, "has-lpi", PROP_BOOL, "off", "message interrupts of an ITS"),
        PROP(struct gicv3, low_redists, "redist-region-count", PROP_U32, "123", "redistributors in the first region of registers"), { 0 } },
    .state = (const struct state_field[]){ STATE_U32(struct gicv3, ctlr), STATE_BYTES(struct gicv3, shared), STATE_BYTES(struct gicv3, priority),
                                           STATE_BYTES(struct gicv3, router), { 0 } },
    .realize = gicv3_realize,
    .unrealize = gicv3_unrealize,
    .reset_enter = gicv3_reset,
    .reset_hold = gicv3_reset_hold,
};
