/* Platform-level interrupt controller: RISC-V PLIC Specification 1.0.0, with the layout of the SiFive U54's. Each hart has
 * two contexts, machine and supervisor. Gateways are for level-triggered sources: a source that drops its line before it
 * was claimed takes its request back. */
#include <inttypes.h>
#include "guest/riscv/riscv.h"
#include "rhea/device/riscv.h"
#include "rhea/vm/vm.h"

enum { SOURCES_MAX = 1024, WORDS_MAX = SOURCES_MAX / 32, CONTEXTS_PER_HART = 2 };
enum { PRIORITY_BASE = 0, PENDING_BASE = 0x1000, ENABLE_BASE = 0x2000, ENABLE_STRIDE = 0x80, CONTEXT_BASE = 0x200000,
       CONTEXT_STRIDE = 0x1000, THRESHOLD = 0, CLAIM = 4, APERTURE = 0x600000 };

struct plic_context { struct riscv_cpu *cpu; uint8_t bit; uint32_t threshold, enable[WORDS_MAX]; };

struct plic {
    struct device dev;
    uint32_t nsources, npriorities;     /* properties: inputs with the unused 0; the highest priority */
    unsigned ncontexts;
    struct plic_context *context;
    uint32_t priority[SOURCES_MAX];
    uint32_t level[WORDS_MAX], pending[WORDS_MAX], claimed[WORDS_MAX];
    struct irq *in[SOURCES_MAX];
};

static struct plic *plic_of(struct device *dev) { return device_cast(dev, struct plic); }
static unsigned words(const struct plic *p) { return (p->nsources + 31) / 32; }

static void bit_put(uint32_t *set, unsigned n, bool on)
{
    uint32_t bit = 1u << (n & 31);

    set[n >> 5] = on ? set[n >> 5] | bit : set[n >> 5] & ~bit;
}

static bool bit_get(const uint32_t *set, unsigned n) { return set[n >> 5] >> (n & 31) & 1; }

/* The pending, enabled source of the highest priority above `above`, the lowest of equals; 0: none. Chapter 5. */
static unsigned best(const struct plic *p, const struct plic_context *x, uint32_t above)
{
    unsigned found = 0;

    for (unsigned w = 0; w < words(p); w++) {
        for (uint32_t set = p->pending[w] & x->enable[w]; set; set &= set - 1) {
            unsigned n = w * 32 + (unsigned)__builtin_ctz(set);

            if (p->priority[n] > above) {
                above = p->priority[n];
                found = n;
            }
        }
    }
    return found;
}

static void context_update(struct plic *p, unsigned n)
{
    struct plic_context *x = &p->context[n];

    if (x->cpu)
        riscv_set_irq(x->cpu, x->bit, best(p, x, x->threshold) != 0);
}

static void update(struct plic *p)
{
    for (unsigned n = 0; n < p->ncontexts; n++)
        context_update(p, n);
}

/* ---- inputs */

static void input(void *opaque, int n, int level)
{
    struct plic *p = opaque;

    g_rec_mutex_lock(&p->dev.lock);
    bit_put(p->level, (unsigned)n, level);
    if (!bit_get(p->claimed, (unsigned)n)) {
        bit_put(p->pending, (unsigned)n, level);
        update(p);
    }
    g_rec_mutex_unlock(&p->dev.lock);
}

struct irq *plic_line(struct device *dev, unsigned source)
{
    return source && source < plic_of(dev)->nsources ? plic_of(dev)->in[source] : NULL;
}

/* ---- registers */

static uint32_t claim(struct plic *p, unsigned n)
{
    unsigned source = best(p, &p->context[n], 0);

    if (!source)
        return 0;
    bit_put(p->pending, source, false);
    bit_put(p->claimed, source, true);
    update(p);
    return source;
}

/* Ignored unless the source is enabled for the context: chapter 9. */
static void complete(struct plic *p, unsigned n, uint32_t source)
{
    if (source >= p->nsources || !bit_get(p->context[n].enable, source))
        return;
    bit_put(p->claimed, source, false);
    bit_put(p->pending, source, bit_get(p->level, source));
    update(p);
}

static uint64_t context_read(struct plic *p, uint64_t offset)
{
    unsigned n = (unsigned)(offset / CONTEXT_STRIDE), reg = (unsigned)(offset % CONTEXT_STRIDE);

    if (n >= p->ncontexts)
        return 0;
    return reg == THRESHOLD ? p->context[n].threshold : reg == CLAIM ? claim(p, n) : 0;
}

static uint64_t plic_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct plic *p = plic_of(dev);
    unsigned n;

    if (offset >= CONTEXT_BASE)
        return context_read(p, offset - CONTEXT_BASE);
    if (offset >= ENABLE_BASE) {
        n = (unsigned)(offset - ENABLE_BASE) / ENABLE_STRIDE;
        return n < p->ncontexts ? p->context[n].enable[(offset - ENABLE_BASE) % ENABLE_STRIDE / 4] : 0;
    }
    n = (unsigned)(offset % PENDING_BASE) / 4;
    if (offset >= PENDING_BASE)
        return n < words(p) ? p->pending[n] : 0;
    return n < p->nsources ? p->priority[n] : 0;
}

static void context_write(struct plic *p, uint64_t offset, uint32_t value)
{
    unsigned n = (unsigned)(offset / CONTEXT_STRIDE), reg = (unsigned)(offset % CONTEXT_STRIDE);

    if (n >= p->ncontexts)
        return;
    if (reg == CLAIM) {
        complete(p, n, value);
    } else if (reg == THRESHOLD) {
        p->context[n].threshold = value & p->npriorities;
        context_update(p, n);
    }
}

/* Sources that do not exist, and source 0, can't be enabled. */
static uint32_t implemented(const struct plic *p, unsigned word)
{
    uint32_t all = word * 32 + 32 <= p->nsources ? UINT32_MAX : word * 32 >= p->nsources ? 0 : (1u << (p->nsources & 31)) - 1;

    return word ? all : all & ~1u;
}

static void plic_write(struct device *dev, uint64_t offset, uint64_t value, unsigned size)
{
    struct plic *p = plic_of(dev);
    unsigned n;

    if (offset >= CONTEXT_BASE) {
        context_write(p, offset - CONTEXT_BASE, (uint32_t)value);
    } else if (offset >= ENABLE_BASE) {
        unsigned word = (unsigned)(offset - ENABLE_BASE) % ENABLE_STRIDE / 4;

        n = (unsigned)(offset - ENABLE_BASE) / ENABLE_STRIDE;
        if (n >= p->ncontexts)
            return;
        p->context[n].enable[word] = (uint32_t)value & implemented(p, word);
        context_update(p, n);
    } else if (offset < PENDING_BASE) {
        n = (unsigned)offset / 4;
        if (!n || n >= p->nsources)
            return;
        p->priority[n] = (uint32_t)value & p->npriorities;
        update(p);
    } else {
        guest_error(dev, "write to pending bits at %#" PRIx64, offset);
    }
}

char *plic_print(struct device *dev)
{
    struct plic *p = plic_of(dev);
    GString *s = g_string_new(NULL);

    g_rec_mutex_lock(&dev->lock);
    for (unsigned n = 1; n < p->nsources; n++)
        if (p->priority[n] || bit_get(p->level, n))
            g_string_append_printf(s, "source %u: priority %u%s%s%s\n", n, p->priority[n], bit_get(p->level, n) ? " level" : "",
                                   bit_get(p->pending, n) ? " pending" : "", bit_get(p->claimed, n) ? " claimed" : "");
    g_rec_mutex_unlock(&dev->lock);
    return g_string_free(s, FALSE);
}

/* ---- life */

static void plic_reset(struct device *dev, enum reset_kind kind)
{
    struct plic *p = plic_of(dev);

    memset(p->priority, 0, sizeof(p->priority));
    memset(p->claimed, 0, sizeof(p->claimed));
    memcpy(p->pending, p->level, sizeof(p->pending));
    for (unsigned n = 0; n < p->ncontexts; n++) {
        memset(p->context[n].enable, 0, sizeof(p->context[n].enable));
        p->context[n].threshold = 0;
    }
}

static void plic_reset_hold(struct device *dev)
{
    struct plic *p = plic_of(dev);

    for (unsigned n = 0; n < p->ncontexts; n++)
        riscv_set_irq(p->context[n].cpu, p->context[n].bit, false);
}

static bool plic_realize(struct device *dev, struct error *err)
{
    struct plic *p = plic_of(dev);
    struct vm *vm = dev->vm;

    if (p->nsources < 2 || p->nsources > SOURCES_MAX || !p->npriorities || (p->npriorities & (p->npriorities + 1)))
        return error_set(err, ERR_GENERIC, "riscv.sifive.plic: num-sources is 2 to 1024, num-priorities one less than a power of 2", NULL);
    p->ncontexts = MIN(vm->nvcpus * CONTEXTS_PER_HART, (APERTURE - CONTEXT_BASE) / CONTEXT_STRIDE);
    p->context = g_new0(struct plic_context, p->ncontexts + 1);
    for (unsigned n = 0; n < p->ncontexts; n++) {
        p->context[n].cpu = riscv(vm->vcpus[n / CONTEXTS_PER_HART]->cpu);
        p->context[n].bit = n % CONTEXTS_PER_HART ? IRQ_S_EXT : IRQ_M_EXT;
    }
    for (unsigned n = 1; n < p->nsources; n++)
        p->in[n] = irq_new(input, p, (int)n);
    return true;
}

static void plic_unrealize(struct device *dev)
{
    struct plic *p = plic_of(dev);

    for (unsigned n = 1; n < p->nsources; n++)
        irq_free(p->in[n]);
    g_free(p->context);
}

DEVICE = {
    .name = "riscv.sifive.plic",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "RISC-V platform-level interrupt controller",
    .size = sizeof(struct plic),
    .mmio = { { .name = "riscv.sifive.plic", .size = APERTURE, .width = 4, .read = plic_read, .write = plic_write } },
    .props = (const struct prop[]){
        PROP(struct plic, nsources, "num-sources", PROP_U32, "96", "inputs, with the unused number 0"),
        PROP(struct plic, npriorities, "num-priorities", PROP_U32, "7", "the highest priority"), { 0 } },
    .state = (const struct state_field[]){ STATE_BYTES(struct plic, priority), STATE_BYTES(struct plic, level),
                                           STATE_BYTES(struct plic, pending), STATE_BYTES(struct plic, claimed), { 0 } },
    .realize = plic_realize,
    .unrealize = plic_unrealize,
    .reset_enter = plic_reset,
    .reset_hold = plic_reset_hold,
};
