/* Local APIC, xAPIC and x2APIC, with the timer's TSC-deadline mode; and the platform that a PC gives its CPUs.
 * Intel SDM vol. 3, chapter 11.
 *
 * Threads: ISR, the registers and the priority belong to the vCPU's thread. IRR, TMR and the pending signals are set
 * atomically from anywhere, then the vCPU is kicked. The timer's fields are under the device's lock. */
#include <inttypes.h>
#include <string.h>
#include "guest/x86/x86.h"
#include "rhea/device/irqchip.h"
#include "rhea/vm/clock.h"

enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_CMCI, LVT_COUNT };
enum { LVT_MASKED = 1 << 16, TIMER_ONESHOT = 0, TIMER_PERIODIC = 1, TIMER_DEADLINE = 2 };
enum { BASE_BSP = 1 << 8, BASE_X2APIC = 1 << 10, BASE_ENABLE = 1 << 11 };
enum { DM_FIXED, DM_LOWEST, DM_SMI, DM_RESERVED, DM_NMI, DM_INIT, DM_STARTUP, DM_EXTINT };
enum { ESR_SEND_ILLEGAL = 1 << 5, ESR_RECV_ILLEGAL = 1 << 6, ESR_REGISTER = 1 << 7 };
enum { APIC_HZ = 1000000000 };          /* bus clock: announced by CPUID 15H */

struct apic {
    struct device dev;
    struct vcpu *vcpu;
    struct x86_cpu *cpu;
    uint32_t id;                        /* initial id: the x2APIC id */
    uint64_t base;                      /* IA32_APIC_BASE */
    uint8_t tpr, xid;
    uint32_t ldr, dfr, svr, esr, esr_pending, lvt[LVT_COUNT], divide;
    uint64_t icr;
    _Atomic uint32_t irr[8], tmr[8];
    uint32_t isr[8];
    uint32_t initial_count;
    int64_t timer_start, timer_next;    /* virtual ns: when the count was written; when it ends (0: off) */
    uint64_t deadline;                  /* IA32_TSC_DEADLINE */
    struct vm_timer *timer;
    /* of the boot processor's: the 8259 pair behind LINT0 */
    struct device *pic;
    _Atomic int pic_level;
    struct irq *pic_irq;
    struct device *ioapic[2];
    bool ioapics_known;
};

static bool apic_x2(const struct apic *a) { return a->base & BASE_X2APIC; }
static bool apic_enabled(const struct apic *a) { return a->base & BASE_ENABLE; }
static bool apic_software_enabled(const struct apic *a) { return apic_enabled(a) && a->svr & 0x100; }

static int bitmap_highest(const uint32_t *w)
{
    for (int i = 7; i >= 0; i--)
        if (w[i])
            return i * 32 + 31 - __builtin_clz(w[i]);
    return -1;
}

static int apic_highest_irr(const struct apic *a)
{
    for (int i = 7; i >= 0; i--) {
        uint32_t w = atomic_load_explicit(&a->irr[i], memory_order_acquire);

        if (w)
            return i * 32 + 31 - __builtin_clz(w);
    }
    return -1;
}

static uint8_t apic_ppr(const struct apic *a)
{
    int isr = bitmap_highest(a->isr);
    uint8_t in_service = isr < 0 ? 0 : isr & 0xf0;

    return (a->tpr & 0xf0) >= in_service ? a->tpr : in_service;
}

/* ---- acceptance */
static void apic_accept(struct apic *a, uint8_t vector, bool level)
{
    uint32_t bit = 1u << (vector & 31);

    if (!apic_software_enabled(a))
        return;
    if (vector < 16) {
        atomic_fetch_or((_Atomic uint32_t *)&a->esr_pending, ESR_RECV_ILLEGAL);
        return;
    }
    if (level)
        atomic_fetch_or(&a->tmr[vector >> 5], bit);
    else
        atomic_fetch_and(&a->tmr[vector >> 5], ~bit);
    atomic_fetch_or(&a->irr[vector >> 5], bit);
    vcpu_kick(a->vcpu, CPU_EXIT_IRQ);
}

static void apic_signal(struct apic *a, unsigned mode, uint8_t vector, bool level)
{
    switch (mode) {
    case DM_FIXED: case DM_LOWEST:
        apic_accept(a, vector, level);
        return;
    case DM_SMI:
        __atomic_store_n(&a->cpu->smi_pending, true, __ATOMIC_RELEASE);
        break;
    case DM_NMI:
        __atomic_store_n(&a->cpu->nmi_pending, true, __ATOMIC_RELEASE);
        break;
    case DM_INIT:
        __atomic_store_n(&a->cpu->init_pending, true, __ATOMIC_RELEASE);
        break;
    case DM_STARTUP:
        __atomic_store_n(&a->cpu->sipi_vector, vector, __ATOMIC_RELEASE);
        __atomic_store_n(&a->cpu->sipi_pending, true, __ATOMIC_RELEASE);
        break;
    default:
        return;
    }
    vcpu_kick(a->vcpu, CPU_EXIT_IRQ);
}

static struct apic *apic_of(struct vcpu *v) { return v->apic ? device_cast(v->apic, struct apic) : NULL; }

/* Does `a` answer to this destination? 11.6.2. x2: the sender's or message's destination is 32 bits wide. */
static bool apic_matches(const struct apic *a, uint32_t dest, bool logical, bool wide)
{
    if (!apic_enabled(a))
        return !logical && dest == a->id;       /* INIT and SIPI reach a processor all the same */
    if (dest == (wide ? 0xffffffff : 0xff))
        return true;
    if (!logical)
        return dest == (apic_x2(a) ? a->id : a->xid) || (!wide && apic_x2(a) && dest == (a->id & 0xff));
    if (apic_x2(a)) {
        uint32_t ldr = (a->id >> 4) << 16 | 1u << (a->id & 15);

        if (!wide)                      /* an 8-bit message reaches cluster 0 */
            return (ldr >> 16) == 0 && (ldr & dest & 0xffff);
        return (ldr >> 16) == (dest >> 16) && (ldr & dest & 0xffff);
    }
    if ((a->dfr >> 28) == 0xf)          /* flat model */
        return (a->ldr >> 24) & dest & 0xff;
    return (a->ldr >> 28) == (dest >> 4 & 15) && (a->ldr >> 24 & dest & 15);
}

static void apic_deliver(struct vm *vm, uint32_t dest, bool logical, bool wide, unsigned mode, uint8_t vector, bool level)
{
    struct apic *best = NULL;

    for (unsigned i = 0; i < vm->nvcpus; i++) {
        struct apic *a = apic_of(vm->vcpus[i]);

        if (!a || !apic_matches(a, dest, logical, wide))
            continue;
        if (mode != DM_LOWEST) {
            apic_signal(a, mode, vector, level);
        } else if (apic_software_enabled(a) && (!best || apic_ppr(a) < apic_ppr(best))) {
            best = a;
        }
    }
    if (best)
        apic_signal(best, DM_FIXED, vector, level);
}

void apic_msi(struct vm *vm, uint64_t addr, uint32_t data)
{
    /* Bits 11:5 extend the destination to 15 bits where the guest was told so (KVM's and Xen's extension). */
    uint32_t dest = (addr >> 12 & 0xff) | (addr >> 5 & 0x7f) << 8;
    bool logical = addr & 4, hint = addr & 8;
    unsigned mode = data >> 8 & 7;

    apic_deliver(vm, dest, logical, dest > 0xff, mode == DM_FIXED && hint && logical ? DM_LOWEST : mode, data,
                 (data & 0xc000) == 0xc000);
}

void apic_inject_nmi(struct vm *vm)
{
    for (unsigned i = 0; i < vm->nvcpus; i++)
        if (apic_of(vm->vcpus[i]))
            apic_signal(apic_of(vm->vcpus[i]), DM_NMI, 0, false);
}

static void apic_write_icr(struct apic *a, uint64_t icr)
{
    struct vm *vm = a->dev.vm;
    unsigned mode = icr >> 8 & 7, shorthand = icr >> 18 & 3;
    bool level = icr & 1 << 15, logical = icr & 1 << 11, x2 = apic_x2(a);
    uint8_t vector = icr;
    uint32_t dest = x2 ? icr >> 32 : icr >> 56;

    a->icr = icr & ~(uint64_t)(1 << 12);
    if (mode == DM_INIT && level && !(icr & 1 << 14))
        return;                         /* INIT level de-assert: nothing on these processors */
    if ((mode == DM_FIXED || mode == DM_LOWEST) && vector < 16) {
        atomic_fetch_or((_Atomic uint32_t *)&a->esr_pending, ESR_SEND_ILLEGAL);
        return;
    }
    if (shorthand == 0) {
        apic_deliver(vm, dest, logical, x2, mode, vector, false);
        return;
    }
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        struct apic *t = apic_of(vm->vcpus[i]);

        if (t && (shorthand == 2 || (shorthand == 1) == (t == a)))
            apic_signal(t, mode, vector, false);
    }
}

/* ---- timer, under the device's lock */
static unsigned apic_timer_mode(const struct apic *a) { return a->lvt[LVT_TIMER] >> 17 & 3; }
static unsigned apic_timer_shift(const struct apic *a)
{
    return ((a->divide & 3) + (a->divide >> 1 & 4) + 1) & 7;
}

static void apic_lvt_fire(struct apic *a, unsigned n)
{
    uint32_t l = a->lvt[n];

    if (!(l & LVT_MASKED))
        apic_signal(a, n == LVT_TIMER ? DM_FIXED : l >> 8 & 7, l, false);
}

/* Starts or stops the timer from initial_count or the deadline, as the mode says. */
static void apic_timer_arm(struct apic *a)
{
    struct vm *vm = a->dev.vm;
    int64_t now = vm_clock_ns(vm);

    a->timer_next = 0;
    if (apic_timer_mode(a) == TIMER_DEADLINE) {
        if (a->deadline) {
            /* The TSC counts virtual nanoseconds (apic_tsc); tsc_offset is the guest's own shift. */
            int64_t left = (int64_t)(a->deadline - (now + a->cpu->tsc_offset));

            a->timer_next = now + (left > 0 ? left : 0);
            if (a->timer_next < now)
                a->timer_next = INT64_MAX;
        }
    } else if (a->initial_count) {
        a->timer_start = now;
        a->timer_next = now + ((int64_t)a->initial_count << apic_timer_shift(a));
    }
    if (a->timer_next)
        vm_timer_set(a->timer, a->timer_next);
    else
        vm_timer_cancel(a->timer);
}

static void apic_timer_fired(void *opaque)
{
    struct apic *a = opaque;
    int64_t now = vm_clock_ns(a->dev.vm), period;

    if (!a->timer_next)
        return;
    apic_lvt_fire(a, LVT_TIMER);
    if (apic_timer_mode(a) != TIMER_PERIODIC) {
        a->timer_next = 0;
        a->deadline = 0;
        return;
    }
    /* Periods that were missed while the host was late are dropped, not repeated in a burst. */
    period = (int64_t)a->initial_count << apic_timer_shift(a);
    a->timer_start = a->timer_next;
    a->timer_next += period;
    if (a->timer_next <= now) {
        a->timer_start += (now - a->timer_start) / period * period;
        a->timer_next = a->timer_start + period;
    }
    vm_timer_set(a->timer, a->timer_next);
}

static uint32_t apic_current_count(struct apic *a)
{
    int64_t left;

    if (!a->timer_next || apic_timer_mode(a) == TIMER_DEADLINE)
        return 0;
    left = a->timer_next - vm_clock_ns(a->dev.vm);
    return left > 0 ? (uint64_t)left >> apic_timer_shift(a) : 0;
}

static void apic_write_lvt(struct apic *a, unsigned n, uint32_t v)
{
    static const uint32_t writable[LVT_COUNT] = {
        [LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff, [LVT_LINT0] = 0x1a7ff,
        [LVT_LINT1] = 0x1a7ff, [LVT_ERROR] = 0x100ff, [LVT_CMCI] = 0x107ff,
    };
    uint32_t old_mode;

    g_rec_mutex_lock(&a->dev.lock);
    old_mode = apic_timer_mode(a);
    a->lvt[n] = v & writable[n];
    if (!apic_software_enabled(a))
        a->lvt[n] |= LVT_MASKED;
    if (n == LVT_TIMER && apic_timer_mode(a) != old_mode) {
        a->initial_count = 0;           /* 11.5.4.1: a change of mode disarms */
        a->deadline = 0;
        apic_timer_arm(a);
    }
    g_rec_mutex_unlock(&a->dev.lock);
}

/* ---- registers, by x2APIC index (the xAPIC offset is index * 16) */
static int apic_lvt_index(unsigned reg)
{
    return reg >= 0x32 && reg <= 0x37 ? (int)reg - 0x32 : reg == 0x2f ? LVT_CMCI : -1;
}

static uint64_t apic_register_read(struct apic *a, unsigned reg, bool *bad)
{
    int lvt = apic_lvt_index(reg);
    uint32_t v;

    if (lvt >= 0)
        return a->lvt[lvt];
    if (reg >= 0x10 && reg < 0x18)
        return a->isr[reg - 0x10];
    if (reg >= 0x18 && reg < 0x20)
        return a->tmr[reg - 0x18];
    if (reg >= 0x20 && reg < 0x28)
        return a->irr[reg - 0x20];
    switch (reg) {
    case 0x02: return apic_x2(a) ? a->id : (uint32_t)a->xid << 24;
    case 0x03: return 0x14 | (LVT_COUNT - 1) << 16;
    case 0x08: return a->tpr;
    case 0x09: return 0;                                /* arbitration: not on these processors */
    case 0x0a: return apic_ppr(a);
    case 0x0d: return apic_x2(a) ? (a->id >> 4) << 16 | 1u << (a->id & 15) : a->ldr;
    case 0x0e: return a->dfr;
    case 0x0f: return a->svr;
    case 0x28: return a->esr;
    case 0x30: return apic_x2(a) ? a->icr : (uint32_t)a->icr;
    case 0x31: return a->icr >> 32;
    case 0x38: return a->initial_count;
    case 0x39:
        g_rec_mutex_lock(&a->dev.lock);
        v = apic_current_count(a);
        g_rec_mutex_unlock(&a->dev.lock);
        return v;
    case 0x3e: return a->divide;
    }
    *bad = true;
    return 0;
}

/* The priority fell: what waited may go now. */
static void apic_look_again(struct apic *a)
{
    if (apic_highest_irr(a) >= 0)
        vcpu_kick(a->vcpu, CPU_EXIT_IRQ);
}

static void apic_eoi(struct apic *a)
{
    int vector = bitmap_highest(a->isr);
    uint32_t bit;

    if (vector < 0)
        return;
    bit = 1u << (vector & 31);
    a->isr[vector >> 5] &= ~bit;
    apic_look_again(a);
    if (!(atomic_load(&a->tmr[vector >> 5]) & bit))
        return;
    if (!a->ioapics_known) {
        unsigned n = 0;

        for (struct device *d = a->dev.vm->devices; d && n < 2; d = d->next)
            if (!strcmp(d->cls->name, "ioapic"))
                a->ioapic[n++] = d;
        a->ioapics_known = true;
    }
    for (unsigned i = 0; i < 2 && a->ioapic[i]; i++)
        ioapic_eoi(a->ioapic[i], vector);
}

static void apic_write_svr(struct apic *a, uint32_t v)
{
    a->svr = v & 0x11ff;
    if (!(v & 0x100))
        for (unsigned i = 0; i < LVT_COUNT; i++)
            a->lvt[i] |= LVT_MASKED;
}

static void apic_register_write(struct apic *a, unsigned reg, uint64_t v, bool *bad)
{
    int lvt = apic_lvt_index(reg);

    if (lvt >= 0) {
        apic_write_lvt(a, lvt, v);
        return;
    }
    switch (reg) {
    case 0x02: a->xid = v >> 24; break;
    case 0x08: a->tpr = v; apic_look_again(a); break;
    case 0x0b: apic_eoi(a); break;
    case 0x0d: a->ldr = v & 0xff000000; break;
    case 0x0e: a->dfr = v | 0x0fffffff; break;
    case 0x0f: apic_write_svr(a, v); break;
    case 0x28: a->esr = atomic_exchange((_Atomic uint32_t *)&a->esr_pending, 0); break;
    case 0x30:
        apic_write_icr(a, apic_x2(a) ? v : (a->icr & ~(uint64_t)0xffffffff) | (uint32_t)v);
        break;
    case 0x31: a->icr = (uint32_t)a->icr | v << 32; break;
    case 0x38:
        g_rec_mutex_lock(&a->dev.lock);
        if (apic_timer_mode(a) != TIMER_DEADLINE) {
            a->initial_count = v;
            apic_timer_arm(a);
        }
        g_rec_mutex_unlock(&a->dev.lock);
        break;
    case 0x3e:
        g_rec_mutex_lock(&a->dev.lock);
        a->divide = v & 0xb;
        if (a->initial_count && a->timer_next)
            apic_timer_arm(a);
        g_rec_mutex_unlock(&a->dev.lock);
        break;
    default:
        *bad = true;
    }
}

/* ---- xAPIC page: each vCPU sees its own */
static struct apic *apic_current(void)
{
    struct vcpu *v = vcpu_current();
    struct apic *a = v ? apic_of(v) : NULL;

    return a && apic_enabled(a) && !apic_x2(a) ? a : NULL;
}

static uint64_t apic_mmio_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct apic *a = apic_current();
    bool bad = false;
    uint64_t v;

    if (!a || offset & 15)
        return 0;
    v = apic_register_read(a, offset >> 4, &bad);
    if (bad)
        atomic_fetch_or((_Atomic uint32_t *)&a->esr_pending, ESR_REGISTER);
    return (uint32_t)v;
}

static void apic_mmio_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct apic *a = apic_current();
    bool bad = false;

    if (!a || offset & 15)
        return;
    apic_register_write(a, offset >> 4, (uint32_t)v, &bad);
    if (bad)
        atomic_fetch_or((_Atomic uint32_t *)&a->esr_pending, ESR_REGISTER);
}

/* ---- what the CPU asks (struct x86_platform) */
static uint64_t apic_tsc(void *opaque, struct x86_cpu *c)
{
    return vm_clock_ns(((struct apic *)opaque)->dev.vm) + c->tsc_offset;
}

static uint64_t apic_io_read(void *opaque, struct x86_cpu *c, uint16_t port, unsigned size)
{
    enum mem_result res;

    return as_load(&((struct apic *)opaque)->dev.vm->io, port, size, MEM_ATTRS_NONE, &res);
}

static void apic_io_write(void *opaque, struct x86_cpu *c, uint16_t port, unsigned size, uint64_t v)
{
    enum mem_result res;

    as_store(&((struct apic *)opaque)->dev.vm->io, port, v, size, MEM_ATTRS_NONE, &res);
}

/* The 8259's request reaches the core through LINT0 as ExtINT, or directly while the APIC is off. */
static bool apic_pic_wants(const struct apic *a)
{
    uint32_t l = a->lvt[LVT_LINT0];

    if (!atomic_load_explicit(&a->pic_level, memory_order_acquire))
        return false;
    return !apic_enabled(a) || (!(l & LVT_MASKED) && (l >> 8 & 7) == DM_EXTINT);
}

static bool apic_irq_pending(void *opaque, struct x86_cpu *c)
{
    struct apic *a = opaque;
    int irr;

    if (apic_pic_wants(a))
        return true;
    if (!apic_software_enabled(a))
        return false;
    irr = apic_highest_irr(a);
    return irr >= 0 && (irr & 0xf0) > (apic_ppr(a) & 0xf0);
}

static int apic_irq_acknowledge(void *opaque, struct x86_cpu *c)
{
    struct apic *a = opaque;
    int irr;

    if (apic_pic_wants(a))
        return i8259_acknowledge(a->pic);
    if (!apic_software_enabled(a))
        return -1;
    irr = apic_highest_irr(a);
    if (irr < 0)
        return -1;
    if ((irr & 0xf0) <= (apic_ppr(a) & 0xf0))
        return a->svr & 0xff;           /* spurious */
    atomic_fetch_and(&a->irr[irr >> 5], ~(1u << (irr & 31)));
    a->isr[irr >> 5] |= 1u << (irr & 31);
    return irr;
}

/* x2APIC MSRs 0x800 to 0x8ff: 11.12.1.2 */
static uint64_t apic_msr_read(void *opaque, struct x86_cpu *c, uint32_t msr, bool *gp)
{
    struct apic *a = opaque;
    unsigned reg = msr & 0xff;

    if (!apic_x2(a) || reg == 0x0b || reg == 0x0e || reg == 0x31 || reg == 0x3f) {
        *gp = true;
        return 0;
    }
    return apic_register_read(a, reg, gp);
}

static void apic_msr_write(void *opaque, struct x86_cpu *c, uint32_t msr, uint64_t v, bool *gp)
{
    struct apic *a = opaque;
    unsigned reg = msr & 0xff;

    if (!apic_x2(a) || reg == 0x02 || reg == 0x0d || reg == 0x0e || reg == 0x31 ||
        ((reg == 0x0b || reg == 0x28) && v)) {
        *gp = true;
        return;
    }
    if (reg == 0x3f)
        apic_accept(a, v, false);
    else
        apic_register_write(a, reg, v, gp);
}

static uint8_t apic_tpr_get(void *opaque, struct x86_cpu *c) { return ((struct apic *)opaque)->tpr >> 4; }
static void apic_tpr_set(void *opaque, struct x86_cpu *c, uint8_t v)
{
    struct apic *a = opaque;

    a->tpr = v << 4;
    apic_look_again(a);
}


static void apic_base_set(void *opaque, struct x86_cpu *c, uint64_t v)
{
    struct apic *a = opaque;
    bool was_enabled = apic_enabled(a);

    a->base = v;
    if (was_enabled && !apic_enabled(a)) {
        memset((void *)a->irr, 0, sizeof(a->irr));
        memset(a->isr, 0, sizeof(a->isr));
        a->svr = 0xff;
    }
}

static void apic_deadline_set(void *opaque, struct x86_cpu *c, uint64_t tsc)
{
    struct apic *a = opaque;

    g_rec_mutex_lock(&a->dev.lock);
    if (apic_timer_mode(a) == TIMER_DEADLINE) {
        a->deadline = tsc;
        apic_timer_arm(a);
    }
    g_rec_mutex_unlock(&a->dev.lock);
}

static void apic_ferr(void *opaque, struct x86_cpu *c, bool level)
{
    struct apic *a = opaque;

    if (a->pic)
        irq_set(i8259_line(a->pic, 13), level);
}

static void apic_triple_fault(void *opaque, struct x86_cpu *c)
{
    vm_request_reset(((struct apic *)opaque)->dev.vm, RESET_GUEST);
}

static const struct x86_platform apic_platform = {
    .tsc = apic_tsc, .io_read = apic_io_read, .io_write = apic_io_write, .irq_pending = apic_irq_pending,
    .irq_acknowledge = apic_irq_acknowledge, .apic_msr_read = apic_msr_read, .apic_msr_write = apic_msr_write,
    .tpr_get = apic_tpr_get, .tpr_set = apic_tpr_set, .apic_base_set = apic_base_set,
    .deadline_set = apic_deadline_set, .ferr = apic_ferr, .triple_fault = apic_triple_fault,
};

void apic_connect(struct device *dev, struct vcpu *v)
{
    struct apic *a = device_cast(dev, struct apic);

    a->vcpu = v;
    a->cpu = (struct x86_cpu *)v->cpu;
    a->id = v->arch_id;
    a->xid = (uint8_t)a->id;
    a->base = 0xfee00000 | BASE_ENABLE | (v->index == 0 ? BASE_BSP : 0);
    a->cpu->apic_base = a->base;
    a->cpu->platform = &apic_platform;
    a->cpu->platform_opaque = a;
    v->apic = dev;
}

static void apic_pic_input(void *opaque, int n, int level)
{
    struct apic *a = opaque;

    atomic_store(&a->pic_level, level);
    if (level)
        vcpu_kick(a->vcpu, CPU_EXIT_IRQ);
}

struct irq *apic_pic_line(struct vm *vm, struct device *pic)
{
    struct apic *a = vm->nvcpus ? apic_of(vm->vcpus[0]) : NULL;

    if (!a)
        return NULL;
    a->pic = pic;
    if (!a->pic_irq)
        a->pic_irq = irq_new(apic_pic_input, a, 0);
    return a->pic_irq;
}

static bool apic_realize(struct device *dev, struct error *err)
{
    struct apic *a = device_cast(dev, struct apic);

    a->timer = vm_timer_new(dev->vm, dev, apic_timer_fired, a);
    return true;
}

static void apic_unrealize(struct device *dev)
{
    struct apic *a = device_cast(dev, struct apic);

    vm_timer_free(a->timer);
    if (a->pic_irq)
        irq_free(a->pic_irq);
}

static void apic_reset(struct device *dev, enum reset_kind kind)
{
    struct apic *a = device_cast(dev, struct apic);

    vm_timer_cancel(a->timer);
    memset((void *)a->irr, 0, sizeof(a->irr));
    memset((void *)a->tmr, 0, sizeof(a->tmr));
    memset(a->isr, 0, sizeof(a->isr));
    a->tpr = a->divide = a->ldr = a->esr = a->esr_pending = 0;
    a->dfr = 0xffffffff;
    a->svr = 0xff;
    a->icr = a->deadline = a->initial_count = 0;
    a->timer_start = a->timer_next = 0;
    a->xid = (uint8_t)a->id;
    for (unsigned i = 0; i < LVT_COUNT; i++)
        a->lvt[i] = LVT_MASKED;
    if (a->vcpu) {
        a->base = 0xfee00000 | BASE_ENABLE | (a->vcpu->index == 0 ? BASE_BSP : 0);
        a->cpu->apic_base = a->base;
        /* Firmware would leave the boot processor in virtual-wire mode; machines without one expect it too. */
        if (a->vcpu->index == 0) {
            a->svr = 0x1ff;
            a->lvt[LVT_LINT0] = DM_EXTINT << 8;
        }
    }
}

char *apic_print(struct device *dev)
{
    static const char *const name[] = { "LVTT", "LVTTHMR", "LVTPC", "LVT0", "LVT1", "LVTERR", "LVTCMCI" };
    struct apic *a = device_cast(dev, struct apic);
    GString *out = g_string_new(NULL);

    g_string_append_printf(out, "dumping local APIC state for CPU %d\n", a->vcpu ? a->vcpu->index : -1);
    for (unsigned i = 0; i < LVT_COUNT; i++)
        g_string_append_printf(out, "%-8s 0x%08x\n", name[i], a->lvt[i]);
    g_string_append_printf(out, "Timer    DCR=0x%x initial_count=%u current_count=%u deadline=%" PRIu64 "\n", a->divide,
                           a->initial_count, apic_current_count(a), a->deadline);
    g_string_append_printf(out, "SPIV     0x%08x  ID %u  LDR 0x%08x  DFR 0x%08x  ICR 0x%016" PRIx64 "  ESR 0x%x\n", a->svr,
                           a->id, a->ldr, a->dfr, a->icr, a->esr);
    g_string_append_printf(out, "TPR 0x%02x  PPR 0x%02x  base 0x%" PRIx64 "\nISR", a->tpr, apic_ppr(a), a->base);
    for (int v = 0; v < 256; v++)
        if (a->isr[v >> 5] & 1u << (v & 31))
            g_string_append_printf(out, " %d", v);
    g_string_append(out, "\nIRR");
    for (int v = 0; v < 256; v++)
        if (a->irr[v >> 5] & 1u << (v & 31))
            g_string_append_printf(out, " %d%s", v, a->tmr[v >> 5] & 1u << (v & 31) ? "(level)" : "");
    g_string_append_c(out, '\n');
    return g_string_free(out, FALSE);
}

DEVICE = {
    .name = "apic",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "local APIC",
    .size = sizeof(struct apic),
    .mmio = { { .name = "apic", .size = 0x1000, .width = 4, .lockless = true, .read = apic_mmio_read, .write = apic_mmio_write } },
    .state = (const struct state_field[]){
        STATE_U64(struct apic, base), STATE_U8(struct apic, tpr), STATE_U8(struct apic, xid), STATE_U32(struct apic, ldr),
        STATE_U32(struct apic, dfr), STATE_U32(struct apic, svr), STATE_U32(struct apic, esr),
        STATE_BYTES(struct apic, lvt), STATE_U32(struct apic, divide), STATE_U64(struct apic, icr),
        STATE_BYTES(struct apic, irr), STATE_BYTES(struct apic, tmr), STATE_BYTES(struct apic, isr),
        STATE_U32(struct apic, initial_count), STATE_U64(struct apic, timer_start), STATE_U64(struct apic, timer_next),
        STATE_U64(struct apic, deadline), { 0 } },
    .realize = apic_realize,
    .unrealize = apic_unrealize,
    .reset_enter = apic_reset,
};
