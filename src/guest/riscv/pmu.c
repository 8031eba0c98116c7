/* Performance counters of the RISC-V guests: cycle, instret, and the programmable ones (Zihpm), which count cycles and
 * instructions in the privileges that their filters let them, and interrupt when they overflow (Sscofpmf). Privileged ISA
 * Manual 20240411, 3.1.10 to 3.1.12 and chapter 15.
 * A cycle is a nanosecond of the machine's clock, and so is an instruction: translated code does not count its own.
 * The programmable counters are seen by two threads, the CPU's and the main loop, where overflows happen: timer_lock. */
#include <glib.h>
#include "system.h"

/* Selectors in mhpmevent are ours to define: those of the SBI's hardware events, as the device tree tells firmware too. */
enum { EVENT_CYCLES = 1, EVENT_INSTRUCTIONS = 2 };
#define EVENT_OF (UINT64_C(1) << 63)
#define EVENT_MINH (UINT64_C(1) << 62)
#define EVENT_SINH (UINT64_C(1) << 61)
#define EVENT_UINH (UINT64_C(1) << 60)
#define EVENT_SELECTOR ((UINT64_C(1) << 56) - 1)
enum { FIRST_HPM = 3, COUNTERS = 32 };

static uint64_t source(const struct riscv_cpu *c) { return (uint64_t)vm_clock_ns(riscv_sys(c)->vm); }

static bool exists(const struct riscv_cpu *c, unsigned n) { return riscv_identity(c)->hpm_mask >> n & 1; }

/* ---- the programmable ones. CPU's thread: whether n counts, in any privilege and in this one. */

static bool selected(const struct riscv_cpu *c, unsigned n)
{
    uint64_t event = riscv_sys(c)->hpm[n].event & EVENT_SELECTOR;

    return (event == EVENT_CYCLES || event == EVENT_INSTRUCTIONS) && !(c->mcountinhibit >> n & 1);
}

static bool filtered(const struct riscv_cpu *c, unsigned n)
{
    uint64_t inhibit = c->priv == PRV_M ? EVENT_MINH : c->priv == PRV_S ? EVENT_SINH : EVENT_UINH;

    return riscv_sys(c)->hpm[n].event & inhibit;
}

static uint64_t running(const struct riscv_cpu *c)
{
    uint64_t used = riscv_sys(c)->hpm_used, runs = 0;

    for (unsigned n = FIRST_HPM; used >> n; n++)
        if (used >> n & 1 && !filtered(c, n))
            runs |= UINT64_C(1) << n;
    return runs;
}

/* ---- under timer_lock, either thread */

/* Takes in what has passed. Only the first overflow since software cleared OF interrupts. */
static void catch_up(struct riscv_cpu *c)
{
    struct riscv_system *s = riscv_sys(c);
    uint64_t now = source(c), passed = now - s->hpm_at;

    s->hpm_at = now;
    for (unsigned n = FIRST_HPM; s->hpm_runs >> n; n++) {
        if (!(s->hpm_runs >> n & 1))
            continue;
        s->hpm[n].value += passed;
        if (s->hpm[n].value >= passed || !RISCV_HAS(&c->features, Sscofpmf) || s->hpm[n].event & EVENT_OF)
            continue;
        s->hpm[n].event |= EVENT_OF;
        riscv_set_irq(c, IRQ_LCOF, true);
    }
}

/* The main loop looks again when the next one overflows, unless that is not in this life. */
static void settle(struct riscv_cpu *c)
{
    struct riscv_system *s = riscv_sys(c);
    uint64_t first = UINT64_C(1) << 56, none = first;

    for (unsigned n = FIRST_HPM; RISCV_HAS(&c->features, Sscofpmf) && s->hpm_runs >> n; n++)
        if (s->hpm_runs >> n & 1 && !(s->hpm[n].event & EVENT_OF))
            first = MIN(first, -s->hpm[n].value - 1);
    if (first < none)
        vm_timer_set(s->pmu_timer, (int64_t)(s->hpm_at + first + 1));
    else
        vm_timer_cancel(s->pmu_timer);
}

void riscv_pmu_expired(void *opaque)
{
    struct riscv_cpu *c = opaque;

    pthread_mutex_lock(&riscv_sys(c)->timer_lock);
    catch_up(c);
    settle(c);
    pthread_mutex_unlock(&riscv_sys(c)->timer_lock);
}

/* Around what the CPU's thread does to them. */
static void pmu_lock(struct riscv_cpu *c)
{
    pthread_mutex_lock(&riscv_sys(c)->timer_lock);
    catch_up(c);
}

static void pmu_unlock(struct riscv_cpu *c)
{
    struct riscv_system *s = riscv_sys(c);

    s->hpm_used = 0;
    for (unsigned n = FIRST_HPM; n < COUNTERS; n++)
        if (selected(c, n))
            s->hpm_used |= UINT64_C(1) << n;
    s->hpm_runs = running(c);
    settle(c);
    pthread_mutex_unlock(&s->timer_lock);
}

void riscv_pmu_privilege(struct riscv_cpu *c)
{
    struct riscv_system *s = riscv_sys(c);

    if (!s || !s->hpm_used || running(c) == s->hpm_runs)
        return;
    pmu_lock(c);
    pmu_unlock(c);
}

static uint64_t hpm_read(struct riscv_cpu *c, unsigned n)
{
    uint64_t v;

    pmu_lock(c);
    v = riscv_sys(c)->hpm[n].value;
    pmu_unlock(c);
    return v;
}

/* ---- CSRs */

static uint64_t *offset_of(struct riscv_cpu *c, unsigned n) { return n == 0 ? &c->mcycle : n == 2 ? &c->minstret : NULL; }

uint64_t riscv_counter_read(struct riscv_cpu *c, unsigned csr)
{
    unsigned n = csr & 31;
    uint64_t *offset = offset_of(c, n);

    if (n == 1)
        return riscv_time(c);
    if (!offset)
        return hpm_read(c, n);
    return c->mcountinhibit >> n & 1 ? riscv_sys(c)->stopped[n] : source(c) + *offset;
}

void riscv_counter_write(struct riscv_cpu *c, unsigned csr, uint64_t v)
{
    unsigned n = csr & 31;
    uint64_t *offset = offset_of(c, n);

    if (offset) {
        riscv_sys(c)->stopped[n] = v;
        *offset = v - source(c);
    } else if (exists(c, n)) {
        pmu_lock(c);
        riscv_sys(c)->hpm[n].value = v;
        pmu_unlock(c);
    }
}

static void fixed_inhibit(struct riscv_cpu *c, unsigned n, bool inhibit)
{
    uint64_t value = riscv_counter_read(c, n);

    if (inhibit == (c->mcountinhibit >> n & 1))
        return;
    riscv_counter_write(c, n, value);
    c->mcountinhibit ^= UINT64_C(1) << n;
}

void riscv_countinhibit_write(struct riscv_cpu *c, unsigned csr, uint64_t v)
{
    uint64_t programmable = riscv_identity(c)->hpm_mask;

    fixed_inhibit(c, 0, v & 1);
    fixed_inhibit(c, 2, v & 4);
    pmu_lock(c);
    c->mcountinhibit = (c->mcountinhibit & ~programmable) | (v & programmable);
    pmu_unlock(c);
}

uint64_t riscv_hpmevent_read(struct riscv_cpu *c, unsigned csr)
{
    uint64_t v;

    pmu_lock(c);
    v = riscv_sys(c)->hpm[csr & 31].event;
    pmu_unlock(c);
    return v;
}

void riscv_hpmevent_write(struct riscv_cpu *c, unsigned csr, uint64_t v)
{
    uint64_t legal = EVENT_SELECTOR;

    if (!exists(c, csr & 31))
        return;
    if (RISCV_HAS(&c->features, Sscofpmf))
        legal |= EVENT_OF | EVENT_MINH | (RISCV_HAS(&c->features, S) ? EVENT_SINH : 0) | (RISCV_HAS(&c->features, U) ? EVENT_UINH : 0);
    pmu_lock(c);
    riscv_sys(c)->hpm[csr & 31].event = v & legal;
    pmu_unlock(c);
}

/* The OF bits, of the counters that machine mode opened. */
uint64_t riscv_scountovf_read(struct riscv_cpu *c, unsigned csr)
{
    uint64_t v = 0;

    pmu_lock(c);
    for (unsigned n = FIRST_HPM; n < COUNTERS; n++)
        if (riscv_sys(c)->hpm[n].event & EVENT_OF)
            v |= UINT64_C(1) << n;
    pmu_unlock(c);
    return c->priv == PRV_M ? v : v & c->mcounteren;
}

void riscv_pmu_reset(struct riscv_cpu *c)
{
    struct riscv_system *s = riscv_sys(c);

    c->mcycle = c->minstret = c->mcountinhibit = 0;
    if (!s)
        return;
    memset(s->stopped, 0, sizeof(s->stopped));
    pmu_lock(c);
    memset(s->hpm, 0, sizeof(s->hpm));
    pmu_unlock(c);
}
