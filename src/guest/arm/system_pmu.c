/* Performance monitors: DDI 0487 D13. The cycle counter runs at a nominal 1 GHz of the machine's clock, at the levels that its
 * filter lets it; its overflow interrupts. There are no event counters (PMCR_EL0.N = 0), which software must be ready for.
 * Two threads come here, the CPU's and the main loop that overflow runs on: timer_lock. */
#include "rhea/vm/clock.h"
#include "rhea/vm/device.h"
#include "rhea/vm/vm.h"
#include "system_regs.h"

enum { PMCR_E = 1, PMCR_P = 2, PMCR_C = 4, PMCR_D = 8, PMCR_LC = 64 };
#define PMCNTEN_C BIT(31)
enum { CYCLES_DIVIDED = 64, EVENT_CPU_CYCLES = 0x11 /* which the cycle counter counts: the one event there is */ };

static bool divided(const struct arm_cpu *c) { return c->sys.pmcr & PMCR_D && !(c->sys.pmcr & PMCR_LC); }

static uint64_t cycles(const struct arm_cpu *c)
{
    uint64_t ns = (uint64_t)vm_clock_ns(c->sys.vm);

    return divided(c) ? ns / CYCLES_DIVIDED : ns;
}

/* PMCCFILTR_EL0: P and U keep it from EL1 and EL0, NSH lets it count at EL2. (NSK, NSU, M: worlds are not told apart.) */
static bool runs(const struct arm_cpu *c)
{
    uint64_t f = c->sys.pmccfiltr;

    if (!(c->sys.pmcr & PMCR_E) || !(c->sys.pmcnten & PMCNTEN_C))
        return false;
    switch (c->el) {
    case 0:  return !(f & BIT(30));
    case 2:  return f & BIT(27);
    default: return !(f & BIT(31));
    }
}

/* Takes in what has passed. PMCR.LC says whether the counter overflows from bit 31 or 63. */
static void catch_up(struct arm_cpu *c)
{
    struct arm_system *s = &c->sys;
    uint64_t now = cycles(c), old = s->pmccntr_base;

    if (s->pmu_runs)
        s->pmccntr_base += now - s->pmccntr_at;
    s->pmccntr_at = now;
    if (s->pmcr & PMCR_LC ? s->pmccntr_base < old : s->pmccntr_base >> 32 != old >> 32)
        s->pmovs |= PMCNTEN_C;
}

static void settle(struct arm_cpu *c)
{
    struct arm_system *s = &c->sys;
    uint64_t left = s->pmcr & PMCR_LC ? -s->pmccntr_base : (UINT64_C(1) << 32) - (uint32_t)s->pmccntr_base;

    irq_set(s->pmu_irq, s->pmcr & PMCR_E && s->pmovs & s->pminten & PMCNTEN_C);
    if (!s->timers_ready)
        return;
    if (!s->pmu_runs || !(s->pminten & PMCNTEN_C) || s->pmovs & PMCNTEN_C || !left || left > UINT64_C(1) << 56)
        vm_timer_cancel(s->pmu_timer);
    else
        vm_timer_set(s->pmu_timer, vm_clock_ns(s->vm) + (int64_t)(left * (divided(c) ? CYCLES_DIVIDED : 1)));
}

static void pmu_lock(struct arm_cpu *c)
{
    if (c->sys.timers_ready)
        pthread_mutex_lock(&c->sys.timer_lock);
    catch_up(c);
}

static void pmu_unlock(struct arm_cpu *c)
{
    c->sys.pmu_runs = runs(c);
    settle(c);
    if (c->sys.timers_ready)
        pthread_mutex_unlock(&c->sys.timer_lock);
}

void arm_pmu_expired(void *opaque)
{
    struct arm_cpu *c = opaque;

    pthread_mutex_lock(&c->sys.timer_lock);
    catch_up(c);
    settle(c);
    pthread_mutex_unlock(&c->sys.timer_lock);
}

/* Another exception level: other cycles count. */
void arm_pmu_level(struct arm_cpu *c)
{
    if (runs(c) == c->sys.pmu_runs)
        return;
    pmu_lock(c);
    pmu_unlock(c);
}

static uint64_t read_pmcr(struct arm_cpu *c, const struct arm_sysreg *r)
{
    return (c->sys.pmcr & (PMCR_E | PMCR_D | PMCR_LC | 0x30)) | (arm_id(c, ARM_SYSREG(3, 0, 0, 0, 0)) & 0xff000000);
}

static void write_pmcr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    pmu_lock(c);
    c->sys.pmcr = v & (PMCR_E | PMCR_D | PMCR_LC | 0x30);
    c->sys.pmccntr_at = cycles(c);      /* in the new unit */
    if (v & PMCR_C)
        c->sys.pmccntr_base = 0;
    pmu_unlock(c);
}

/* Sets and clears bits of a register that has the cycle counter's alone. */
static void change(struct arm_cpu *c, uint64_t *field, uint64_t set, uint64_t clear)
{
    pmu_lock(c);
    *field = ((*field | set) & ~clear) & PMCNTEN_C;
    pmu_unlock(c);
}

static uint64_t read_pmovs(struct arm_cpu *c, const struct arm_sysreg *r)
{
    pmu_lock(c);
    pmu_unlock(c);
    return c->sys.pmovs;
}

static uint64_t read_ccntr(struct arm_cpu *c, const struct arm_sysreg *r)
{
    pmu_lock(c);
    pmu_unlock(c);
    return c->sys.pmccntr_base;
}

static void write_ccntr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    pmu_lock(c);
    c->sys.pmccntr_base = v;
    pmu_unlock(c);
}

static void write_ccfiltr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    pmu_lock(c);
    c->sys.pmccfiltr = v & 0xfc000000;
    pmu_unlock(c);
}

static void write_cntenset(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { change(c, &c->sys.pmcnten, v, 0); }
static void write_cntenclr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { change(c, &c->sys.pmcnten, 0, v); }
static void write_ovsset(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { change(c, &c->sys.pmovs, v, 0); }
static void write_ovsclr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { change(c, &c->sys.pmovs, 0, v); }
static void write_intenset(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { change(c, &c->sys.pminten, v, 0); }
static void write_intenclr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { change(c, &c->sys.pminten, 0, v); }
static uint64_t read_zero(struct arm_cpu *c, const struct arm_sysreg *r) { return 0; }
static uint64_t read_pmceid0(struct arm_cpu *c, const struct arm_sysreg *r) { return BIT(EVENT_CPU_CYCLES); }
static void write_nothing(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { }

/* The selected event's type: number 31 is the cycle counter's filter. */
static uint64_t read_xevtyper(struct arm_cpu *c, const struct arm_sysreg *r) { return (c->sys.pmselr & 31) == 31 ? c->sys.pmccfiltr : 0; }
static void write_xevtyper(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    if ((c->sys.pmselr & 31) == 31)
        write_ccfiltr(c, r, v);
}

/* PMUSERENR_EL0: EN, CR (bit 2), SW (bit 1). */
static unsigned check_user(const struct arm_cpu *c, bool write)
{
    return c->el == 0 && !(c->sys.pmuserenr & 1) ? arm_sync_target(c) : 0;
}

static unsigned check_ccntr(const struct arm_cpu *c, bool write)
{
    return c->el == 0 && !(c->sys.pmuserenr & (write ? 1 : 5)) ? arm_sync_target(c) : 0;
}

#define K ARM_SYSREG
#define F(f) offsetof(struct arm_cpu, sys.f)
#define PMU(crm, op2, name) { K(3, 3, 9, crm, op2), name, .r = 0, .w = 0, .trap = T_PM, .feature = AF_PMU, .check = check_user

const struct arm_sysreg arm_pmu_sysregs[] = {
    { K(3, 3, 9, 12, 0), "PMCR_EL0", .r = 0, .w = 0, .trap = T_PMCR, .feature = AF_PMU, .check = check_user, .read = read_pmcr, .write = write_pmcr },
    PMU(12, 1, "PMCNTENSET_EL0"), .field = F(pmcnten), .write = write_cntenset },
    PMU(12, 2, "PMCNTENCLR_EL0"), .field = F(pmcnten), .write = write_cntenclr },
    PMU(12, 3, "PMOVSCLR_EL0"), .read = read_pmovs, .write = write_ovsclr },
    PMU(12, 4, "PMSWINC_EL0"), .read = read_zero, .write = write_nothing },
    PMU(12, 5, "PMSELR_EL0"), .field = F(pmselr) },
    PMU(12, 6, "PMCEID0_EL0"), .read = read_pmceid0, .write = write_nothing },
    PMU(12, 7, "PMCEID1_EL0"), .read = read_zero, .write = write_nothing },
    { K(3, 3, 9, 13, 0), "PMCCNTR_EL0", .r = 0, .w = 0, .trap = T_PM, .feature = AF_PMU, .check = check_ccntr, .read = read_ccntr, .write = write_ccntr },
    PMU(13, 1, "PMXEVTYPER_EL0"), .read = read_xevtyper, .write = write_xevtyper },
    PMU(13, 2, "PMXEVCNTR_EL0"), .read = read_zero, .write = write_nothing },
    { K(3, 3, 9, 14, 0), "PMUSERENR_EL0", .r = 0, .w = 1, .trap = T_PM, .feature = AF_PMU, .field = F(pmuserenr) },
    PMU(14, 3, "PMOVSSET_EL0"), .read = read_pmovs, .write = write_ovsset },
    { K(3, 3, 14, 15, 7), "PMCCFILTR_EL0", .r = 0, .w = 0, .trap = T_PM, .feature = AF_PMU, .check = check_user, .field = F(pmccfiltr), .write = write_ccfiltr },
    { K(3, 0, 9, 14, 1), "PMINTENSET_EL1", .r = 1, .w = 1, .trap = T_PM, .feature = AF_PMU, .field = F(pminten), .write = write_intenset },
    { K(3, 0, 9, 14, 2), "PMINTENCLR_EL1", .r = 1, .w = 1, .trap = T_PM, .feature = AF_PMU, .field = F(pminten), .write = write_intenclr },
    { K(3, 0, 9, 14, 6), "PMMIR_EL1", .r = 1, .w = SYSREG_NEVER, .trap = T_PM, .feature = AF_PMUv3p4, .read = read_zero },
};
const unsigned arm_pmu_sysreg_count = sizeof(arm_pmu_sysregs) / sizeof(arm_pmu_sysregs[0]);

void arm_pmu_reset(struct arm_cpu *c)
{
    struct arm_system *s = &c->sys;

    s->pmcr = s->pmcnten = s->pmovs = s->pminten = s->pmselr = s->pmuserenr = s->pmccfiltr = 0;
    s->pmccntr_base = s->pmccntr_at = 0;
    s->pmu_runs = false;
    settle(c);
}
