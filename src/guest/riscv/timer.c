/* Time of the RISC-V guests: the time CSR (the same as the ACLINT's mtime) and stimecmp (Sstc), functions of the machine's
 * clock. */
#include <glib.h>
#include "system.h"

uint64_t riscv_time(const struct riscv_cpu *c)
{
    const struct riscv_system *s = riscv_sys(c);

    return (uint64_t)vm_clock_ns(s->vm) / (1000000000 / RISCV_TIME_HZ) + (uint64_t)__atomic_load_n(&s->time_offset, __ATOMIC_RELAXED);
}

uint64_t riscv_cpu_time(struct cpu *cpu) { return riscv_time(riscv(cpu)); }

/* Virtual nanoseconds at which the time will be t; INT64_MAX: not in this life. Rounds up. */
static int64_t when(const struct riscv_system *s, uint64_t t)
{
    uint64_t ticks = t - (uint64_t)s->time_offset;

    return ticks > (uint64_t)INT64_MAX / 100 ? INT64_MAX : (int64_t)(ticks * (1000000000 / RISCV_TIME_HZ));
}

/* Under timer_lock. mip.STIP is stimecmp's comparison, level and all: Sstc. */
static void stimer_update(struct riscv_cpu *c)
{
    struct riscv_system *s = riscv_sys(c);

    if (!RISCV_HAS(&c->features, Sstc) || !(c->menvcfg & MENVCFG_STCE)) {
        vm_timer_cancel(s->stimer);
        return;
    }
    if (riscv_time(c) >= c->stimecmp) {
        vm_timer_cancel(s->stimer);
        riscv_set_irq(c, IRQ_S_TIMER, true);
        return;
    }
    riscv_set_irq(c, IRQ_S_TIMER, false);
    if (when(s, c->stimecmp) == INT64_MAX)
        vm_timer_cancel(s->stimer);
    else
        vm_timer_set(s->stimer, when(s, c->stimecmp));
}

void riscv_stimecmp_changed(struct riscv_cpu *c)
{
    struct riscv_system *s = riscv_sys(c);

    pthread_mutex_lock(&s->timer_lock);
    stimer_update(c);
    pthread_mutex_unlock(&s->timer_lock);
}

static void stimer_fired(void *opaque) { riscv_stimecmp_changed(opaque); }

void riscv_time_set_offset(struct cpu *cpu, int64_t ticks)
{
    struct riscv_cpu *c = riscv(cpu);
    struct riscv_system *s = riscv_sys(c);

    pthread_mutex_lock(&s->timer_lock);
    __atomic_store_n(&s->time_offset, ticks, __ATOMIC_RELAXED);
    stimer_update(c);
    pthread_mutex_unlock(&s->timer_lock);
}

static void nap_ended(void *opaque) { riscv_nap_end(opaque); }

bool riscv_timer_init(struct riscv_cpu *c)
{
    struct riscv_system *s = riscv_sys(c);

    pthread_mutex_init(&s->timer_lock, NULL);
    s->stimer = vm_timer_new(s->vm, NULL, stimer_fired, c);
    s->nap = vm_timer_new(s->vm, NULL, nap_ended, c);
    s->pmu_timer = vm_timer_new(s->vm, NULL, riscv_pmu_expired, c);
    return s->stimer && s->nap && s->pmu_timer;
}

void riscv_timer_free(struct riscv_cpu *c)
{
    struct riscv_system *s = riscv_sys(c);

    if (s->stimer)
        vm_timer_free(s->stimer);
    if (s->nap)
        vm_timer_free(s->nap);
    if (s->pmu_timer)
        vm_timer_free(s->pmu_timer);
    s->stimer = s->nap = s->pmu_timer = NULL;
    pthread_mutex_destroy(&s->timer_lock);
}
