/* Advanced Core Local Interruptor: software interrupts between harts and the machine timer. RISC-V ACLINT Specification
 * 1.0-rc4. "riscv.aclint.swi" is an MSWI, or with sswi=on an SSWI; "riscv.aclint.mtimer" the timer. Next to each other
 * they are SiFive's CLINT. */
#include "guest/riscv/riscv.h"
#include "rhea/vm/clock.h"
#include "rhea/vm/vm.h"

enum { SWI_SIZE = 0x4000, MTIMER_SIZE = 0x8000, MTIME = 0x7ff8, HARTS_MAX = 4095, TICK_NS = 100 };

static struct riscv_cpu *hart(struct device *dev, uint64_t n)
{
    return n < dev->vm->nvcpus ? riscv(dev->vm->vcpus[n]->cpu) : NULL;
}

/* ---- software interrupts. MSIP reads back; SETSSIP reads 0 and only sets: the hart clears sip.SSIP itself. */

struct swi { struct device dev; bool sswi; };

static uint64_t swi_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct riscv_cpu *c = hart(dev, offset / 4);

    return c && !device_cast(dev, struct swi)->sswi ? atomic_load(&c->mip) >> IRQ_M_SOFT & 1 : 0;
}

static void swi_write(struct device *dev, uint64_t offset, uint64_t value, unsigned size)
{
    struct riscv_cpu *c = hart(dev, offset / 4);
    bool sswi = device_cast(dev, struct swi)->sswi;

    if (c && (!sswi || value & 1))
        riscv_set_irq(c, sswi ? IRQ_S_SOFT : IRQ_M_SOFT, value & 1);
}

static void swi_reset_hold(struct device *dev)
{
    for (unsigned n = 0; n < dev->vm->nvcpus; n++)
        riscv_set_irq(hart(dev, n), device_cast(dev, struct swi)->sswi ? IRQ_S_SOFT : IRQ_M_SOFT, false);
}

/* Lockless: a write is one atomic operation on the hart's pending bits. */
DEVICE = {
    .name = "riscv.aclint.swi",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "RISC-V software interrupts between harts",
    .size = sizeof(struct swi),
    .mmio = { { .name = "riscv.aclint.swi", .size = SWI_SIZE, .width = 4, .lockless = true, .read = swi_read, .write = swi_write } },
    .props = (const struct prop[]){ PROP(struct swi, sswi, "sswi", PROP_BOOL, "off", "interrupts supervisors, not machine mode"),
                                    { 0 } },
    .reset_hold = swi_reset_hold,
};

/* ---- the machine timer. mtime is the harts' time; a write moves it for all. */

struct compare { struct mtimer *owner; unsigned hart; uint64_t value; struct vm_timer *timer; };

struct mtimer {
    struct device dev;
    struct compare *compare;    /* one a hart */
    unsigned nharts;
    int64_t offset;             /* mtime is ahead of the machine's clock, in ticks */
};

static uint64_t mtime(const struct mtimer *m)
{
    return (uint64_t)vm_clock_ns(m->dev.vm) / TICK_NS + (uint64_t)m->offset;
}

static void compare_update(struct compare *k)
{
    struct mtimer *m = k->owner;
    struct riscv_cpu *c = hart(&m->dev, k->hart);
    uint64_t ticks = k->value - (uint64_t)m->offset;

    if (mtime(m) >= k->value) {
        vm_timer_cancel(k->timer);
        riscv_set_irq(c, IRQ_M_TIMER, true);
        return;
    }
    riscv_set_irq(c, IRQ_M_TIMER, false);
    if (ticks < INT64_MAX / TICK_NS)
        vm_timer_set(k->timer, (int64_t)ticks * TICK_NS);
    else
        vm_timer_cancel(k->timer);
}

static void compare_fired(void *opaque) { compare_update(opaque); }

static void mtime_set(struct mtimer *m, uint64_t value)
{
    m->offset = (int64_t)(value - (uint64_t)vm_clock_ns(m->dev.vm) / TICK_NS);
    for (unsigned n = 0; n < m->nharts; n++) {
        riscv_time_set_offset(m->dev.vm->vcpus[n]->cpu, m->offset);
        compare_update(&m->compare[n]);
    }
}

/* A 64-bit register, or half of it, with value put at offset. */
static uint64_t merge(uint64_t old, uint64_t offset, uint64_t value, unsigned size)
{
    if (size == 8)
        return value;
    return offset & 4 ? (uint32_t)old | value << 32 : (old & ~UINT64_C(0xffffffff)) | (uint32_t)value;
}

static uint64_t part(uint64_t v, uint64_t offset, unsigned size)
{
    return size == 8 ? v : offset & 4 ? v >> 32 : (uint32_t)v;
}

static uint64_t mtimer_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct mtimer *m = device_cast(dev, struct mtimer);

    if (offset >= MTIME)
        return part(mtime(m), offset, size);
    return offset / 8 < m->nharts ? part(m->compare[offset / 8].value, offset, size) : 0;
}

static void mtimer_write(struct device *dev, uint64_t offset, uint64_t value, unsigned size)
{
    struct mtimer *m = device_cast(dev, struct mtimer);

    if (offset >= MTIME) {
        mtime_set(m, merge(mtime(m), offset, value, size));
    } else if (offset / 8 < m->nharts) {
        struct compare *k = &m->compare[offset / 8];

        k->value = merge(k->value, offset, value, size);
        compare_update(k);
    }
}

static void mtimer_reset(struct device *dev, enum reset_kind kind)
{
    struct mtimer *m = device_cast(dev, struct mtimer);

    for (unsigned n = 0; n < m->nharts; n++) {
        m->compare[n].value = UINT64_MAX;
        vm_timer_cancel(m->compare[n].timer);
    }
}

static void mtimer_reset_hold(struct device *dev)
{
    for (unsigned n = 0; n < device_cast(dev, struct mtimer)->nharts; n++)
        riscv_set_irq(hart(dev, n), IRQ_M_TIMER, false);
}

static bool mtimer_realize(struct device *dev, struct error *err)
{
    struct mtimer *m = device_cast(dev, struct mtimer);

    m->nharts = MIN(dev->vm->nvcpus, HARTS_MAX);
    m->compare = g_new0(struct compare, m->nharts + 1);
    for (unsigned n = 0; n < m->nharts; n++) {
        m->compare[n] = (struct compare){ .owner = m, .hart = n, .value = UINT64_MAX };
        m->compare[n].timer = vm_timer_new(dev->vm, dev, compare_fired, &m->compare[n]);
    }
    return true;
}

static void mtimer_unrealize(struct device *dev)
{
    struct mtimer *m = device_cast(dev, struct mtimer);

    for (unsigned n = 0; n < m->nharts; n++)
        vm_timer_free(m->compare[n].timer);
    g_free(m->compare);
}

DEVICE = {
    .name = "riscv.aclint.mtimer",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "RISC-V machine timer",
    .size = sizeof(struct mtimer),
    .mmio = { { .name = "riscv.aclint.mtimer", .size = MTIMER_SIZE, .width = 8, .min = 4, .max = 8, .read = mtimer_read,
                .write = mtimer_write } },
    .state = (const struct state_field[]){ STATE_U64(struct mtimer, offset), { 0 } },
    .realize = mtimer_realize,
    .unrealize = mtimer_unrealize,
    .reset_enter = mtimer_reset,
    .reset_hold = mtimer_reset_hold,
};
