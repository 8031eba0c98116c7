/* 8254 programmable interval timer with the PC's port 61h (gate of channel 2, speaker).
 * Intel 8254 data sheet. Counters are functions of the virtual clock; only channel 0's output is driven (IRQ 0). */
#include "rhea/device/isa.h"
#include "rhea/vm/clock.h"
#include "rhea/vm/vm.h"

enum { PIT_HZ = 1193182, NS = 1000000000 };

struct pit_channel {
    uint32_t count;                     /* reload value, 1 to 0x10000 */
    uint16_t latched;
    uint8_t latched_left, status, mode, rw, read_high, write_high, write_low, gate;
    bool bcd, status_latched, null_count;
    int64_t start;                      /* virtual ns when the count was loaded */
};

struct pit {
    struct isa_device isa;
    struct pit_channel ch[3];
    uint8_t speaker;                    /* port 61h bits 1:0 */
    int64_t next;                       /* when channel 0's output changes, 0: never again */
    struct vm_timer *timer;
};

static int64_t pit_ns(uint64_t ticks) { return muldiv64(ticks, NS, PIT_HZ); }

static uint64_t pit_elapsed(const struct pit *s, const struct pit_channel *c, int64_t now)
{
    return now > c->start ? muldiv64(now - c->start, PIT_HZ, NS) : 0;
}

static bool pit_output(const struct pit_channel *c, uint64_t ticks)
{
    switch (c->mode) {
    case 0: case 1:
        return ticks >= c->count;
    case 2:
        return ticks % c->count != c->count - 1 || c->count == 1;
    case 3:
        return ticks % c->count < (c->count + 1) / 2;
    default:
        return ticks != c->count;
    }
}

static uint16_t pit_counter(const struct pit *s, const struct pit_channel *c, int64_t now)
{
    uint64_t ticks = pit_elapsed(s, c, now);
    uint32_t left;

    switch (c->mode) {
    case 2:
        left = c->count - ticks % c->count;
        break;
    case 3:
        left = c->count - 2 * ticks % c->count;
        break;
    default:
        left = (c->count - ticks) & 0xffff;
    }
    if (c->bcd)
        left = left % 10 | left / 10 % 10 << 4 | left / 100 % 10 << 8 | left / 1000 % 10 << 12;
    return left;
}

/* Tick, counted from the load, at which channel 0's output changes next after `ticks`; 0: never. */
static uint64_t pit_next_edge(const struct pit_channel *c, uint64_t ticks)
{
    uint64_t cycle = ticks / c->count * c->count, half = (c->count + 1) / 2;

    switch (c->mode) {
    case 0: case 1:
        return ticks < c->count ? c->count : 0;
    case 2:
        return ticks - cycle < c->count - 1 ? cycle + c->count - 1 : cycle + c->count;
    case 3:
        return ticks - cycle < half ? cycle + half : cycle + c->count;
    default:
        return ticks < c->count ? c->count : ticks == c->count ? c->count + 1 : 0;
    }
}

static void pit_update(struct pit *s)
{
    struct pit_channel *c = &s->ch[0];
    int64_t now = vm_clock_ns(s->isa.dev.vm);
    uint64_t ticks = pit_elapsed(s, c, now), edge;

    irq_set(s->isa.dev.irq_out[0], pit_output(c, ticks));
    edge = pit_next_edge(c, ticks);
    /* One nanosecond more, so that the conversion back never lands a tick early. */
    s->next = edge ? c->start + pit_ns(edge) + 1 : 0;
    if (s->next)
        vm_timer_set(s->timer, s->next);
    else
        vm_timer_cancel(s->timer);
}

static void pit_fired(void *opaque)
{
    struct pit *s = opaque;
    struct pit_channel *c = &s->ch[0];

    /* The mode 2 pulse is one tick (838 ns) wide: give the edge at once instead of two timers a period. */
    if (c->mode == 2) {
        int64_t now = vm_clock_ns(s->isa.dev.vm);
        uint64_t ticks = pit_elapsed(s, c, now);

        irq_set(s->isa.dev.irq_out[0], 0);
        irq_set(s->isa.dev.irq_out[0], 1);
        s->next = c->start + pit_ns((ticks / c->count + 1) * c->count) + 1;
        vm_timer_set(s->timer, s->next);
        return;
    }
    pit_update(s);
}

static void pit_load(struct pit *s, unsigned n, uint32_t v)
{
    struct pit_channel *c = &s->ch[n];

    if (c->bcd)
        v = (v >> 12) * 1000 + (v >> 8 & 15) * 100 + (v >> 4 & 15) * 10 + (v & 15);
    c->count = v ? v : c->bcd ? 10000 : 0x10000;
    if (c->mode == 2 || c->mode == 3)
        c->count = c->count < 2 ? 2 : c->count;
    c->start = vm_clock_ns(s->isa.dev.vm);
    if (n == 0)
        pit_update(s);
}

static void pit_latch(struct pit *s, struct pit_channel *c)
{
    if (c->latched_left)
        return;
    c->latched = pit_counter(s, c, vm_clock_ns(s->isa.dev.vm));
    c->latched_left = c->rw == 3 ? 2 : 1;
}

static void pit_control(struct pit *s, uint8_t v)
{
    struct pit_channel *c;
    int64_t now = vm_clock_ns(s->isa.dev.vm);

    if (v >> 6 == 3) {                  /* read-back */
        for (unsigned n = 0; n < 3; n++) {
            c = &s->ch[n];
            if (!(v & 2 << n))
                continue;
            if (!(v & 0x20))
                pit_latch(s, c);
            if (!(v & 0x10) && !c->status_latched) {
                c->status = pit_output(c, pit_elapsed(s, c, now)) << 7 | c->rw << 4 | c->mode << 1 | c->bcd;
                c->status_latched = true;
            }
        }
        return;
    }
    c = &s->ch[v >> 6];
    if (!(v >> 4 & 3)) {
        pit_latch(s, c);
        return;
    }
    c->rw = v >> 4 & 3;
    c->mode = (v >> 1 & 7) > 5 ? (v >> 1 & 3) : v >> 1 & 7;
    c->bcd = v & 1;
    c->read_high = c->write_high = c->latched_left = 0;
    if (c == &s->ch[0])
        pit_update(s);
}

static void pit_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct pit *s = device_cast(dev, struct pit);
    struct pit_channel *c;

    if (offset == 3) {
        pit_control(s, v);
        return;
    }
    c = &s->ch[offset];
    switch (c->rw) {
    case 1:
        pit_load(s, offset, v & 0xff);
        break;
    case 2:
        pit_load(s, offset, (v & 0xff) << 8);
        break;
    case 3:
        if (c->write_high)
            pit_load(s, offset, c->write_low | (v & 0xff) << 8);
        else
            c->write_low = v;
        c->write_high ^= 1;
        break;
    }
}

static uint64_t pit_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct pit *s = device_cast(dev, struct pit);
    struct pit_channel *c;
    uint16_t v;
    bool high;

    if (offset == 3)
        return 0xff;
    c = &s->ch[offset];
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    v = c->latched_left ? c->latched : pit_counter(s, c, vm_clock_ns(dev->vm));
    high = c->rw == 2 || (c->rw == 3 && c->read_high);
    if (c->rw == 3)
        c->read_high ^= 1;
    if (c->latched_left)
        c->latched_left--;
    return high ? v >> 8 : v & 0xff;
}

static uint64_t port61_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct pit *s = device_cast(dev, struct pit);
    int64_t now = vm_clock_ns(dev->vm);
    struct pit_channel *c = &s->ch[2];

    /* Bit 4 toggles with each memory refresh, about 15 us. */
    return s->speaker | (now / 15085 & 1) << 4 | pit_output(c, pit_elapsed(s, c, now)) << 5;
}

static void port61_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct pit *s = device_cast(dev, struct pit);

    /* A rising gate starts channel 2 again in the modes that count by it. */
    if (v & ~s->speaker & 1)
        s->ch[2].start = vm_clock_ns(dev->vm);
    s->speaker = v & 3;
}

static void pit_reset(struct device *dev, enum reset_kind kind)
{
    struct pit *s = device_cast(dev, struct pit);

    vm_timer_cancel(s->timer);
    s->next = 0;
    s->speaker = 0;
    for (unsigned i = 0; i < 3; i++)
        s->ch[i] = (struct pit_channel){ .count = 0x10000, .mode = 3, .rw = 3, .start = vm_clock_ns(dev->vm) };
}

static bool pit_realize(struct device *dev, struct error *err)
{
    struct pit *s = device_cast(dev, struct pit);

    isa_map(dev, 0, 0x40);
    isa_map(dev, 1, 0x61);
    if (!dev->irq_out[0])
        dev->irq_out[0] = isa_line(dev, 0);
    s->timer = vm_timer_new(dev->vm, dev, pit_fired, s);
    return true;
}

static void pit_unrealize(struct device *dev)
{
    vm_timer_free(device_cast(dev, struct pit)->timer);
}

DEVICE = {
    .name = "isa-pit",
    .parent = "isa-device",
    .category = "Misc",
    .summary = "8254 interval timer",
    .size = sizeof(struct pit),
    .mmio = { { .name = "pit", .size = 4, .width = 1, .read = pit_read, .write = pit_write },
              { .name = "port61", .size = 1, .width = 1, .read = port61_read, .write = port61_write } },
    .state = (const struct state_field[]){ STATE_BYTES(struct pit, ch), STATE_U8(struct pit, speaker),
                                           STATE_U64(struct pit, next), { 0 } },
    .realize = pit_realize,
    .unrealize = pit_unrealize,
    .reset_enter = pit_reset,
};
