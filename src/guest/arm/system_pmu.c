/* Performance monitors: DDI 0487 D13. The cycle counter runs at a nominal 1 GHz of the machine's clock; there are no
 * event counters (PMCR_EL0.N = 0), which software must be ready for. */
#include "rhea/vm/clock.h"
#include "rhea/vm/vm.h"
#include "system_regs.h"

enum { PMCR_E = 1, PMCR_P = 2, PMCR_C = 4, PMCR_D = 8, PMCR_LC = 64 };
#define PMCNTEN_C BIT(31)

/* Cycles while enabled. Filters by level are kept, not applied: cycles pass in all. */
static uint64_t cycles(const struct arm_cpu *c)
{
    uint64_t ns = (uint64_t)vm_clock_ns(c->sys.vm);

    return c->sys.pmcr & PMCR_D && !(c->sys.pmcr & PMCR_LC) ? ns / 64 : ns;
}

static bool counting(const struct arm_cpu *c) { return c->sys.pmcr & PMCR_E && c->sys.pmcnten & PMCNTEN_C; }

static uint64_t counter_get(const struct arm_cpu *c)
{
    return c->sys.pmccntr_base + (counting(c) ? cycles(c) - c->sys.pmccntr_at : 0);
}

static void counter_set(struct arm_cpu *c, uint64_t v)
{
    c->sys.pmccntr_base = v;
    c->sys.pmccntr_at = cycles(c);
}

static uint64_t read_pmcr(struct arm_cpu *c, const struct arm_sysreg *r)
{
    return (c->sys.pmcr & (PMCR_E | PMCR_D | PMCR_LC | 0x30)) | (arm_id(c, ARM_SYSREG(3, 0, 0, 0, 0)) & 0xff000000);
}

static void write_pmcr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    uint64_t count = counter_get(c);

    c->sys.pmcr = v & (PMCR_E | PMCR_D | PMCR_LC | 0x30);
    counter_set(c, v & PMCR_C ? 0 : count);
}

static void enable(struct arm_cpu *c, uint64_t set, uint64_t clear)
{
    uint64_t count = counter_get(c);

    c->sys.pmcnten = ((c->sys.pmcnten | set) & ~clear) & PMCNTEN_C;
    counter_set(c, count);
}

static void write_cntenset(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { enable(c, v, 0); }
static void write_cntenclr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { enable(c, 0, v); }
static void write_ovsset(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { c->sys.pmovs |= v & PMCNTEN_C; }
static void write_ovsclr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { c->sys.pmovs &= ~v; }
static void write_intenset(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { c->sys.pminten |= v & PMCNTEN_C; }
static void write_intenclr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { c->sys.pminten &= ~v; }
static uint64_t read_ccntr(struct arm_cpu *c, const struct arm_sysreg *r) { return counter_get(c); }
static void write_ccntr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { counter_set(c, v); }
static uint64_t read_zero(struct arm_cpu *c, const struct arm_sysreg *r) { return 0; }
static void write_nothing(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { }

/* The selected event's type: number 31 is the cycle counter's filter. */
static uint64_t read_xevtyper(struct arm_cpu *c, const struct arm_sysreg *r) { return (c->sys.pmselr & 31) == 31 ? c->sys.pmccfiltr : 0; }
static void write_xevtyper(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    if ((c->sys.pmselr & 31) == 31)
        c->sys.pmccfiltr = v & 0xfc000000;
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
    PMU(12, 3, "PMOVSCLR_EL0"), .field = F(pmovs), .write = write_ovsclr },
    PMU(12, 4, "PMSWINC_EL0"), .read = read_zero, .write = write_nothing },
    PMU(12, 5, "PMSELR_EL0"), .field = F(pmselr) },
    PMU(12, 6, "PMCEID0_EL0"), .read = read_zero, .write = write_nothing },
    PMU(12, 7, "PMCEID1_EL0"), .read = read_zero, .write = write_nothing },
    { K(3, 3, 9, 13, 0), "PMCCNTR_EL0", .r = 0, .w = 0, .trap = T_PM, .feature = AF_PMU, .check = check_ccntr, .read = read_ccntr, .write = write_ccntr },
    PMU(13, 1, "PMXEVTYPER_EL0"), .read = read_xevtyper, .write = write_xevtyper },
    PMU(13, 2, "PMXEVCNTR_EL0"), .read = read_zero, .write = write_nothing },
    { K(3, 3, 9, 14, 0), "PMUSERENR_EL0", .r = 0, .w = 1, .trap = T_PM, .feature = AF_PMU, .field = F(pmuserenr) },
    PMU(14, 3, "PMOVSSET_EL0"), .field = F(pmovs), .write = write_ovsset },
    { K(3, 3, 14, 15, 7), "PMCCFILTR_EL0", .r = 0, .w = 0, .trap = T_PM, .feature = AF_PMU, .check = check_user, .field = F(pmccfiltr) },
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
}
