/* High Precision Event Timers: IA-PC HPET specification 1.0a. One block of three 64-bit comparators at 100 MHz. */
#include "rhea/device/irqchip.h"
#include "rhea/device/isa.h"
#include "rhea/vm/clock.h"

enum { HPET_TIMERS = 3, PERIOD_NS = 10 };
static const uint64_t period_fs = PERIOD_NS * 1000000ull;
enum { CFG_ENABLE = 1, CFG_LEGACY = 2 };
enum { TN_LEVEL = 1 << 1, TN_ENABLE = 1 << 2, TN_PERIODIC = 1 << 3, TN_PERIODIC_CAP = 1 << 4, TN_64 = 1 << 5,
       TN_SET_ACC = 1 << 6, TN_32MODE = 1 << 8 };
static const uint64_t tn_writable = TN_LEVEL | TN_ENABLE | TN_PERIODIC | TN_SET_ACC | TN_32MODE | 0x3e00;

struct hpet_timer { uint64_t config, comparator, period; int64_t wrap; struct vm_timer *timer; struct hpet *hpet; };
struct hpet {
    struct device dev;
    uint64_t config, isr, counter;      /* counter: value while stopped, offset base while running */
    int64_t start;                      /* virtual ns when the counter was started */
    uint32_t routes;                    /* I/O APIC pins a comparator may take */
    struct hpet_timer t[HPET_TIMERS];
};

static bool hpet_enabled(const struct hpet *h) { return h->config & CFG_ENABLE; }

static uint64_t hpet_counter(const struct hpet *h)
{
    return hpet_enabled(h) ? h->counter + (vm_clock_ns(h->dev.vm) - h->start) / PERIOD_NS : h->counter;
}

/* irq_out[n] is I/O APIC pin n; legacy replacement takes 0/2 and 8 by the board's wiring of pins 2 and 8. */
static struct irq *hpet_route(const struct hpet *h, unsigned n)
{
    if (h->config & CFG_LEGACY && n < 2)
        return h->dev.irq_out[n == 0 ? 2 : 8];
    return h->dev.irq_out[h->t[n].config >> 9 & 31];
}

static void hpet_line(struct hpet *h, unsigned n, bool on)
{
    struct hpet_timer *t = &h->t[n];
    struct irq *irq = hpet_route(h, n);

    if (!on) {
        h->isr &= ~(1ull << n);
        irq_set(irq, 0);
    } else if (t->config & TN_ENABLE && hpet_enabled(h)) {
        if (t->config & TN_LEVEL) {
            h->isr |= 1ull << n;
            irq_set(irq, 1);
        } else {
            irq_pulse(irq);
        }
    }
}

static void hpet_arm(struct hpet_timer *t)
{
    struct hpet *h = t->hpet;
    uint64_t now = hpet_counter(h), left;

    if (!hpet_enabled(h) || !(t->config & TN_ENABLE)) {
        vm_timer_cancel(t->timer);
        return;
    }
    left = t->config & TN_32MODE ? (uint32_t)(t->comparator - now) : t->comparator - now;
    /* A comparator a little in the past (the guest was late) matches only after the counter wraps: as on hardware. */
    if (left > INT64_MAX / PERIOD_NS / 2)
        left = INT64_MAX / PERIOD_NS / 2;
    vm_timer_set(t->timer, vm_clock_ns(h->dev.vm) + (int64_t)left * PERIOD_NS);
}

static void hpet_fired(void *opaque)
{
    struct hpet_timer *t = opaque;
    struct hpet *h = t->hpet;
    uint64_t now = hpet_counter(h);

    if (!hpet_enabled(h) || !(t->config & TN_ENABLE))
        return;
    hpet_line(h, t - h->t, true);
    if (!(t->config & TN_PERIODIC) || !t->period)
        return;
    t->comparator += t->period;
    if ((int64_t)(t->comparator - now) <= 0)    /* late: skip what was missed */
        t->comparator += (now - t->comparator) / t->period * t->period + t->period;
    if (t->config & TN_32MODE)
        t->comparator = (uint32_t)t->comparator;
    hpet_arm(t);
}

static uint64_t hpet_register(struct hpet *h, uint64_t offset)
{
    struct hpet_timer *t;

    switch (offset) {
    case 0x000: return period_fs << 32 | 0x8086u << 16 | 1 << 15 | 1 << 13 | (HPET_TIMERS - 1) << 8 | 1;
    case 0x010: return h->config;
    case 0x020: return h->isr;
    case 0x0f0: return hpet_counter(h);
    }
    if (offset < 0x100 || offset >= 0x100 + HPET_TIMERS * 0x20)
        return 0;
    t = &h->t[(offset - 0x100) / 0x20];
    switch (offset & 0x1f) {
    case 0x00: return t->config | (uint64_t)h->routes << 32 | TN_PERIODIC_CAP | TN_64;
    case 0x08: return t->comparator;
    default: return 0;
    }
}

static uint64_t hpet_read(struct device *dev, uint64_t offset, unsigned size)
{
    uint64_t v = hpet_register(device_cast(dev, struct hpet), offset & ~7ull);

    return size == 8 ? v : offset & 4 ? v >> 32 : (uint32_t)v;
}

static void hpet_set_config(struct hpet *h, uint64_t v)
{
    bool was = hpet_enabled(h), now = v & CFG_ENABLE;

    if (was && !now)
        h->counter = hpet_counter(h);
    else if (!was && now)
        h->start = vm_clock_ns(h->dev.vm);
    h->config = v & (CFG_ENABLE | CFG_LEGACY);
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        if (!now)
            hpet_line(h, n, false);
        hpet_arm(&h->t[n]);
    }
}

static void hpet_set_comparator(struct hpet_timer *t, uint64_t v)
{
    if (t->config & TN_32MODE)
        v = (uint32_t)v;
    /* 2.3.9.2.2: a periodic comparator takes the first write as its value, further ones as the period. */
    if (!(t->config & TN_PERIODIC) || t->config & TN_SET_ACC)
        t->comparator = v;
    if (t->config & TN_PERIODIC)
        t->period = v;
    t->config &= ~(uint64_t)TN_SET_ACC;
    hpet_arm(t);
}

static void hpet_set_timer(struct hpet_timer *t, uint64_t v)
{
    struct hpet *h = t->hpet;
    unsigned n = t - h->t;

    if (t->config & ~v & (TN_ENABLE | TN_LEVEL))
        hpet_line(h, n, false);
    t->config = v & tn_writable;
    if (!(h->routes & 1u << (t->config >> 9 & 31)))
        t->config &= ~0x3e00ull;
    if (t->config & TN_32MODE) {
        t->comparator = (uint32_t)t->comparator;
        t->period = (uint32_t)t->period;
    }
    hpet_arm(t);
}

static void hpet_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct hpet *h = device_cast(dev, struct hpet);
    uint64_t reg = offset & ~7ull, old;

    if (size == 4) {                    /* half of a register: the other half stays */
        old = reg == 0x20 ? 0 : hpet_register(h, reg);
        v = offset & 4 ? v << 32 | (uint32_t)old : (old & ~0xffffffffull) | v;
    }
    switch (reg) {
    case 0x010:
        hpet_set_config(h, v);
        return;
    case 0x020:
        for (unsigned n = 0; n < HPET_TIMERS; n++)
            if (v & h->isr & 1ull << n)
                hpet_line(h, n, false);
        return;
    case 0x0f0:
        if (hpet_enabled(h)) {
            guest_error(dev, "counter written while it runs");
            return;
        }
        h->counter = v;
        return;
    }
    if (reg < 0x100 || reg >= 0x100 + HPET_TIMERS * 0x20)
        return;
    if ((reg & 0x1f) == 0)
        hpet_set_timer(&h->t[(reg - 0x100) / 0x20], v);
    else if ((reg & 0x1f) == 8)
        hpet_set_comparator(&h->t[(reg - 0x100) / 0x20], v);
}

static void hpet_reset(struct device *dev, enum reset_kind kind)
{
    struct hpet *h = device_cast(dev, struct hpet);

    h->config = h->isr = h->counter = 0;
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        vm_timer_cancel(h->t[n].timer);
        h->t[n].config = h->t[n].period = 0;
        h->t[n].comparator = ~0ull;
    }
}

static bool hpet_realize(struct device *dev, struct error *err)
{
    struct hpet *h = device_cast(dev, struct hpet);

    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        h->t[n].hpet = h;
        h->t[n].timer = vm_timer_new(dev->vm, dev, hpet_fired, &h->t[n]);
    }
    return true;
}

static void hpet_unrealize(struct device *dev)
{
    for (unsigned n = 0; n < HPET_TIMERS; n++)
        vm_timer_free(device_cast(dev, struct hpet)->t[n].timer);
}

DEVICE = {
    .name = "hpet",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "high precision event timers",
    .size = sizeof(struct hpet),
    .mmio = { { .name = "hpet", .size = 0x400, .width = 4, .min = 4, .max = 8, .read = hpet_read, .write = hpet_write } },
    .props = (const struct prop[]){ PROP(struct hpet, routes, "hpet-intcap", PROP_U32, "0xff0104",
                                         "I/O APIC pins that a comparator may use"), { 0 } },
    .state = (const struct state_field[]){ STATE_U64(struct hpet, config), STATE_U64(struct hpet, isr),
                                           STATE_U64(struct hpet, counter), STATE_U64(struct hpet, start), { 0 } },
    .realize = hpet_realize,
    .unrealize = hpet_unrealize,
    .reset_enter = hpet_reset,
};
