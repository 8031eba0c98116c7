/* The generic timer: DDI 0487 D12. Counters are functions of the machine's clock; each timer's output is a level that the
 * board connects to a private interrupt of the interrupt controller. Two threads come here, the CPU's and the main loop
 * that expiry runs on: timer_lock. */
#include <glib.h>
#include "rhea/vm/clock.h"
#include "rhea/vm/device.h"
#include "rhea/vm/vm.h"
#include "system.h"

enum { CTL_ENABLE = 1, CTL_IMASK = 2, CTL_ISTATUS = 4 };

/* 128-bit: 62.5 MHz and odd frequencies alike, for centuries. */
uint64_t arm_counter(struct arm_cpu *c) { return muldiv64((uint64_t)vm_clock_ns(c->sys.vm), c->sys.config.cntfrq, 1000000000); }

static uint64_t virtual_offset(const struct arm_cpu *c)
{
    return has_el2(c) ? c->sys.cntvoff : 0;
}

uint64_t arm_counter_virt(struct arm_cpu *c)
{
    /* EL2 with E2H, and EL0 of a host, see no offset: D12.2.1 */
    if (c->el == 2 ? c->sys.hcr & HCR_E2H : c->el == 0 && arm_in_host(c))
        return arm_counter(c);
    return arm_counter(c) - virtual_offset(c);
}

static uint64_t timer_count(struct arm_cpu *c, enum arm_timer t)
{
    return arm_counter(c) - (t == ARM_TIMER_VIRT ? virtual_offset(c) : 0);
}

static bool condition_met(struct arm_cpu *c, enum arm_timer t)
{
    return timer_count(c, t) >= c->sys.timer[t].cval;
}

/* When a timer whose count is now `count` reaches cval, in the clock's nanoseconds, rounded up so that it is met then; -1: beyond
 * reach. */
static int64_t expiry(struct arm_cpu *c, enum arm_timer t, uint64_t count)
{
    uint64_t ticks = c->sys.timer[t].cval - count, offset = t == ARM_TIMER_VIRT ? virtual_offset(c) : 0;
    unsigned __int128 ns = ((unsigned __int128)(count + ticks + offset) * 1000000000 + c->sys.config.cntfrq - 1) / c->sys.config.cntfrq;

    return ticks > INT64_MAX || ns > INT64_MAX ? -1 : (int64_t)ns;
}

/* The count is read once: were it read again for the expiry, it could have passed cval meanwhile, and the timer be lost. */
static void update_locked(struct arm_cpu *c, enum arm_timer t)
{
    struct arm_timer_state *s = &c->sys.timer[t];
    uint64_t count = timer_count(c, t);
    bool enabled = s->ctl & CTL_ENABLE, met = enabled && count >= s->cval;
    int64_t at;

    irq_set(c->sys.timer_irq[t], met && !(s->ctl & CTL_IMASK));
    if (!enabled || met || s->ctl & CTL_IMASK || (at = expiry(c, t, count)) < 0)
        vm_timer_cancel(s->timer);
    else
        vm_timer_set(s->timer, at);
}

void arm_timer_update(struct arm_cpu *c, enum arm_timer t)
{
    if (!c->sys.timers_ready)
        return;
    pthread_mutex_lock(&c->sys.timer_lock);
    update_locked(c, t);
    pthread_mutex_unlock(&c->sys.timer_lock);
}

void arm_timers_update(struct arm_cpu *c)
{
    for (unsigned t = 0; t < ARM_TIMER_COUNT; t++)
        arm_timer_update(c, t);
}

static void timer_expired(void *opaque)
{
    struct arm_timer_state *s = opaque;

    arm_timer_update(s->cpu, (enum arm_timer)(s - s->cpu->sys.timer));
}

static void wait_expired(void *opaque)
{
    struct arm_cpu *c = opaque;

    atomic_store(&c->sys.wait_over, true);
    cpu_kick(&c->cpu, CPU_EXIT_KICK);
}

void arm_wait_until(struct arm_cpu *c, uint64_t count)
{
    uint64_t now = arm_counter_virt(c), ticks = count > now ? count - now : 0;

    if (ticks < UINT64_C(1) << 40)
        vm_timer_set(c->sys.wait_timer, vm_clock_ns(c->sys.vm) + (int64_t)muldiv64(ticks, 1000000000, c->sys.config.cntfrq) + 1);
}

void arm_timers_init(struct arm_cpu *c)
{
    pthread_mutex_init(&c->sys.timer_lock, NULL);
    for (unsigned t = 0; t < ARM_TIMER_COUNT; t++) {
        c->sys.timer[t].cpu = c;
        c->sys.timer[t].timer = vm_timer_new(c->sys.vm, NULL, timer_expired, &c->sys.timer[t]);
    }
    c->sys.pmu_timer = vm_timer_new(c->sys.vm, NULL, arm_pmu_expired, c);
    c->sys.wait_timer = vm_timer_new(c->sys.vm, NULL, wait_expired, c);
    c->sys.timers_ready = true;
}

void arm_timers_free(struct arm_cpu *c)
{
    if (!c->sys.timers_ready)
        return;
    for (unsigned t = 0; t < ARM_TIMER_COUNT; t++)
        vm_timer_free(c->sys.timer[t].timer);
    vm_timer_free(c->sys.wait_timer);
    vm_timer_free(c->sys.pmu_timer);
    pthread_mutex_destroy(&c->sys.timer_lock);
    c->sys.timers_ready = false;
}

void arm_timers_reset(struct arm_cpu *c)
{
    c->sys.cntvoff = c->sys.cntpoff = c->sys.cntkctl = 0;
    c->sys.cnthctl = 3;
    c->sys.cntfrq = c->sys.config.cntfrq;
    for (unsigned t = 0; t < ARM_TIMER_COUNT; t++) {
        c->sys.timer[t].ctl = 0;
        c->sys.timer[t].cval = 0;
        arm_timer_update(c, t);
    }
}

/* ---- registers */

uint64_t arm_timer_ctl(struct arm_cpu *c, enum arm_timer t)
{
    uint32_t ctl = c->sys.timer[t].ctl;

    return ctl | (ctl & CTL_ENABLE && condition_met(c, t) ? CTL_ISTATUS : 0);
}

uint64_t arm_timer_tval(struct arm_cpu *c, enum arm_timer t) { return (uint32_t)(c->sys.timer[t].cval - timer_count(c, t)); }

void arm_timer_set(struct arm_cpu *c, enum arm_timer t, unsigned what, uint64_t v)
{
    struct arm_timer_state *s = &c->sys.timer[t];

    if (!c->sys.timers_ready)
        return;
    pthread_mutex_lock(&c->sys.timer_lock);
    if (what == 0)
        s->ctl = v & (CTL_ENABLE | CTL_IMASK);
    else
        s->cval = what == 1 ? v : timer_count(c, t) + (uint64_t)(int64_t)(int32_t)v;
    update_locked(c, t);
    pthread_mutex_unlock(&c->sys.timer_lock);
}
