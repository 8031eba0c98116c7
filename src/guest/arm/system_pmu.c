/* Performance monitors: DDI 0487 D13. The cycle counter runs at a nominal 1 GHz of the machine's clock, at the levels that its
 * filter lets it; so do the event counters that count cycles. What an event counter can count is cycles, software's increments,
 * and the overflows of the counter below it. Overflow interrupts.
 * Two threads come here, the CPU's and the main loop that overflow runs on: timer_lock. */
#include <string.h>
#include "rhea/vm/clock.h"
#include "rhea/vm/device.h"
#include "rhea/vm/vm.h"
#include "system_regs.h"

enum { PMCR_E = 1, PMCR_P = 2, PMCR_C = 4, PMCR_D = 8, PMCR_LC = 64, PMCR_N_SHIFT = 11 };
enum { EVENT_SW_INCR = 0, EVENT_CPU_CYCLES = 0x11, EVENT_CHAIN = 0x1e };
enum { CYCLES_DIVIDED = 64, CC = ARM_PMU_COUNTERS /* the cycle counter's place in pmu[] */, CC_BIT = 31 };
enum { MDCR_HPMN = 31, MDCR_HPME = 1 << 7 };
#define TYPE_FILTER UINT64_C(0xfc000000)
#define TYPE_EVENT UINT64_C(0xffff)

/* Event counters of this model: a Cortex-A7 has fewer. */
unsigned arm_pmu_counters(const struct arm_cpu *c)
{
    enum { PART_A7 = 0xc07 };

    return bits(arm_id(c, ARM_SYSREG(3, 0, 0, 0, 0)), 15, 4) == PART_A7 ? 4 : ARM_PMU_COUNTERS;
}

/* MDCR_EL2.HPMN: from this one on they are EL2's own, which HPME enables in PMCR.E's place. */
static unsigned first_of_el2(const struct arm_cpu *c)
{
    unsigned all = arm_pmu_counters(c), n = c->sys.mdcr[2] & MDCR_HPMN;

    return has_el2(c) && n < all ? n : all;
}

/* How many the code that runs sees. */
static unsigned visible(const struct arm_cpu *c) { return c->el < 2 && arm_el2_enabled(c) ? first_of_el2(c) : arm_pmu_counters(c); }
static uint64_t visible_bits(const struct arm_cpu *c) { return BIT(CC_BIT) | (BIT(visible(c)) - 1); }

static bool on(const struct arm_cpu *c, unsigned n)
{
    return n < CC && n >= first_of_el2(c) ? c->sys.mdcr[2] & MDCR_HPME : c->sys.pmcr & PMCR_E;
}

static unsigned bit_of(unsigned n) { return n == CC ? CC_BIT : n; }
static bool divided(const struct arm_cpu *c) { return c->sys.pmcr & PMCR_D && !(c->sys.pmcr & PMCR_LC); }
/* From where the counter overflows: PMCR.LC for the cycle counter; the others have 32 bits. */
static bool is_long(const struct arm_cpu *c, unsigned n) { return n == CC && c->sys.pmcr & PMCR_LC; }

/* The filter's P and U keep a counter from EL1 and EL0, NSH lets it count at EL2. (NSK, NSU, M: worlds are not told apart.) */
static bool enabled(const struct arm_cpu *c, unsigned n)
{
    uint64_t f = c->sys.pmu[n].type;

    if (!on(c, n) || !(c->sys.pmcnten >> bit_of(n) & 1))
        return false;
    switch (c->el) {
    case 0:  return !(f & BIT(30));
    case 2:  return f & BIT(27);
    default: return !(f & BIT(31));
    }
}

static bool runs(const struct arm_cpu *c, unsigned n)
{
    return (n == CC || (c->sys.pmu[n].type & TYPE_EVENT) == EVENT_CPU_CYCLES) && enabled(c, n);
}

/* Adds; an overflow of an even counter goes to the one above it, if that counts overflows. */
static void count(struct arm_cpu *c, unsigned n, uint64_t by)
{
    struct arm_system *s = &c->sys;
    uint64_t old = s->pmu[n].value, now = old + by, overflows;

    if (is_long(c, n))
        overflows = now < old;
    else
        overflows = (now >> 32) - (old >> 32);
    s->pmu[n].value = n == CC ? now : (uint32_t)now;
    if (!overflows)
        return;
    s->pmovs |= BIT(bit_of(n));
    if (n < CC && !(n & 1) && n + 1 < CC && (s->pmu[n + 1].type & TYPE_EVENT) == EVENT_CHAIN && enabled(c, n + 1))
        count(c, n + 1, overflows);
}

/* Takes in what has passed. */
static void catch_up(struct arm_cpu *c)
{
    struct arm_system *s = &c->sys;
    uint64_t now = (uint64_t)vm_clock_ns(s->vm), passed = now - s->pmu_at;

    for (unsigned n = 0; n <= CC; n++) {
        if (!s->pmu[n].runs || !passed)
            continue;
        count(c, n, n == CC && divided(c) ? now / CYCLES_DIVIDED - s->pmu_at / CYCLES_DIVIDED : passed);
    }
    s->pmu_at = now;
}

/* Nanoseconds until that counter's overflow interrupts; 0: it will not. */
static uint64_t until_overflow(const struct arm_cpu *c, unsigned n)
{
    const struct arm_system *s = &c->sys;
    uint64_t left = is_long(c, n) ? -s->pmu[n].value : (UINT64_C(1) << 32) - (uint32_t)s->pmu[n].value, chained = BIT(bit_of(n)) << 1;
    bool wanted = s->pminten & BIT(bit_of(n)) && !(s->pmovs & BIT(bit_of(n)));

    wanted |= n < CC && s->pminten & chained;
    if (!s->pmu[n].runs || !wanted || left > UINT64_C(1) << 56)
        return 0;
    return left * (n == CC && divided(c) ? CYCLES_DIVIDED : 1);
}

static bool interrupts(const struct arm_cpu *c)
{
    uint64_t both = c->sys.pmovs & c->sys.pminten, of_el2 = (BIT(arm_pmu_counters(c)) - 1) & ~(BIT(first_of_el2(c)) - 1);

    return (c->sys.pmcr & PMCR_E && both & ~of_el2) || (c->sys.mdcr[2] & MDCR_HPME && both & of_el2);
}

static void settle(struct arm_cpu *c)
{
    struct arm_system *s = &c->sys;
    uint64_t first = 0;

    irq_set(s->pmu_irq, interrupts(c));
    if (!s->timers_ready)
        return;
    for (unsigned n = 0; n <= CC; n++) {
        uint64_t left = until_overflow(c, n);

        if (left && (!first || left < first))
            first = left;
    }
    if (first)
        vm_timer_set(s->pmu_timer, vm_clock_ns(s->vm) + (int64_t)first);
    else
        vm_timer_cancel(s->pmu_timer);
}

static void pmu_lock(struct arm_cpu *c)
{
    if (c->sys.timers_ready)
        pthread_mutex_lock(&c->sys.timer_lock);
    catch_up(c);
}

static void pmu_unlock(struct arm_cpu *c)
{
    for (unsigned n = 0; n <= CC; n++)
        c->sys.pmu[n].runs = runs(c, n);
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
    if (!c->sys.pmcnten)
        return;
    for (unsigned n = 0; n <= CC; n++) {
        if (runs(c, n) == c->sys.pmu[n].runs)
            continue;
        pmu_lock(c);
        pmu_unlock(c);
        return;
    }
}

static uint64_t read_pmcr(struct arm_cpu *c, const struct arm_sysreg *r)
{
    return (c->sys.pmcr & (PMCR_E | PMCR_D | PMCR_LC | 0x30)) | (uint64_t)visible(c) << PMCR_N_SHIFT |
           (arm_id(c, ARM_SYSREG(3, 0, 0, 0, 0)) & 0xff000000);
}

static void write_pmcr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    pmu_lock(c);
    c->sys.pmcr = v & (PMCR_E | PMCR_D | PMCR_LC | 0x30);
    if (v & PMCR_C)
        c->sys.pmu[CC].value = 0;
    for (unsigned n = 0; n < visible(c) && v & PMCR_P; n++)
        c->sys.pmu[n].value = 0;
    pmu_unlock(c);
}

/* Sets and clears bits of a register that has one for each counter. */
static void change(struct arm_cpu *c, uint64_t *field, uint64_t set, uint64_t clear)
{
    uint64_t mine = visible_bits(c);

    pmu_lock(c);
    *field = (*field | (set & mine)) & ~(clear & mine);
    pmu_unlock(c);
}

static uint64_t read_bits(struct arm_cpu *c, const struct arm_sysreg *r) { return *(uint64_t *)((char *)c + r->field) & visible_bits(c); }

static uint64_t read_pmovs(struct arm_cpu *c, const struct arm_sysreg *r)
{
    pmu_lock(c);
    pmu_unlock(c);
    return c->sys.pmovs & visible_bits(c);
}

static uint64_t counter_read(struct arm_cpu *c, unsigned n)
{
    pmu_lock(c);
    pmu_unlock(c);
    return c->sys.pmu[n].value;
}

static void counter_write(struct arm_cpu *c, unsigned n, uint64_t v)
{
    pmu_lock(c);
    c->sys.pmu[n].value = n == CC ? v : (uint32_t)v;
    pmu_unlock(c);
}

static void type_write(struct arm_cpu *c, unsigned n, uint64_t v)
{
    pmu_lock(c);
    c->sys.pmu[n].type = v & (n == CC ? TYPE_FILTER : TYPE_FILTER | TYPE_EVENT);
    pmu_unlock(c);
}

static uint64_t read_ccntr(struct arm_cpu *c, const struct arm_sysreg *r) { return counter_read(c, CC); }
static void write_ccntr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { counter_write(c, CC, v); }

/* The counter of a register's name; one that this level does not see is undefined. */
static unsigned named(struct arm_cpu *c, const struct arm_sysreg *r)
{
    if (r->arg != CC && r->arg >= visible(c))
        arm_raise_undefined(c);
    return r->arg;
}

static uint64_t read_type(struct arm_cpu *c, const struct arm_sysreg *r) { return c->sys.pmu[named(c, r)].type; }
static void write_type(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { type_write(c, named(c, r), v); }
static uint64_t read_count(struct arm_cpu *c, const struct arm_sysreg *r) { return counter_read(c, named(c, r)); }
static void write_count(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { counter_write(c, named(c, r), v); }

static void write_swinc(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    pmu_lock(c);
    for (unsigned n = 0; n < visible(c); n++)
        if (v >> n & 1 && (c->sys.pmu[n].type & TYPE_EVENT) == EVENT_SW_INCR && enabled(c, n))
            count(c, n, 1);
    pmu_unlock(c);
}

static void write_cntenset(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { change(c, &c->sys.pmcnten, v, 0); }
static void write_cntenclr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { change(c, &c->sys.pmcnten, 0, v); }
static void write_ovsset(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { change(c, &c->sys.pmovs, v, 0); }
static void write_ovsclr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { change(c, &c->sys.pmovs, 0, v); }
static void write_intenset(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { change(c, &c->sys.pminten, v, 0); }
static void write_intenclr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { change(c, &c->sys.pminten, 0, v); }
static uint64_t read_zero(struct arm_cpu *c, const struct arm_sysreg *r) { return 0; }
static uint64_t read_pmceid0(struct arm_cpu *c, const struct arm_sysreg *r)
{
    return BIT(EVENT_SW_INCR) | BIT(EVENT_CPU_CYCLES) | BIT(EVENT_CHAIN);
}
static void write_nothing(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { }

/* PMSELR's counter: number 31 is the cycle counter (its filter); -1: there is none. */
static int selected(const struct arm_cpu *c)
{
    unsigned n = c->sys.pmselr & 31;

    return n == CC_BIT ? CC : n < visible(c) ? (int)n : -1;
}

static uint64_t read_xevtyper(struct arm_cpu *c, const struct arm_sysreg *r) { return selected(c) < 0 ? 0 : c->sys.pmu[selected(c)].type; }
static void write_xevtyper(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    if (selected(c) >= 0)
        type_write(c, (unsigned)selected(c), v);
}

static uint64_t read_xevcntr(struct arm_cpu *c, const struct arm_sysreg *r)
{
    return selected(c) < 0 || selected(c) == CC ? 0 : counter_read(c, (unsigned)selected(c));
}

static void write_xevcntr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    if (selected(c) >= 0 && selected(c) != CC)
        counter_write(c, (unsigned)selected(c), v);
}

/* PMUSERENR_EL0: EN, SW (bit 1), CR (bit 2), ER (bit 3). */
static unsigned check_user(const struct arm_cpu *c, bool write)
{
    return c->el == 0 && !(c->sys.pmuserenr & 1) ? arm_sync_target(c) : 0;
}

/* ER: event counters may be read, SW: incremented, by PMSWINC */
static unsigned check_event(const struct arm_cpu *c, bool write)
{
    return c->el == 0 && !(c->sys.pmuserenr & (write ? 1 : 9)) ? arm_sync_target(c) : 0;
}

static unsigned check_select(const struct arm_cpu *c, bool write) { return c->el == 0 && !(c->sys.pmuserenr & 9) ? arm_sync_target(c) : 0; }
static unsigned check_swinc(const struct arm_cpu *c, bool write) { return c->el == 0 && !(c->sys.pmuserenr & 3) ? arm_sync_target(c) : 0; }

static unsigned check_ccntr(const struct arm_cpu *c, bool write)
{
    return c->el == 0 && !(c->sys.pmuserenr & (write ? 1 : 5)) ? arm_sync_target(c) : 0;
}

#define K ARM_SYSREG
#define F(f) offsetof(struct arm_cpu, sys.f)
#define PMU(crm, op2, name) { K(3, 3, 9, crm, op2), name, .r = 0, .w = 0, .trap = T_PM, .feature = AF_PMU, .check = check_user
#define EVENT(crn, crm, op2, name, may) { K(3, 3, crn, crm, op2), name, .r = 0, .w = 0, .trap = T_PM, .feature = AF_PMU, .check = may
#define COUNTER(n) \
    EVENT(14, 8, n, "PMEVCNTR" #n "_EL0", check_event), .arg = n, .read = read_count, .write = write_count }, \
    EVENT(14, 12, n, "PMEVTYPER" #n "_EL0", check_user), .arg = n, .read = read_type, .write = write_type }

const struct arm_sysreg arm_pmu_sysregs[] = {
    { K(3, 3, 9, 12, 0), "PMCR_EL0", .r = 0, .w = 0, .trap = T_PMCR, .feature = AF_PMU, .check = check_user, .read = read_pmcr, .write = write_pmcr },
    PMU(12, 1, "PMCNTENSET_EL0"), .field = F(pmcnten), .read = read_bits, .write = write_cntenset },
    PMU(12, 2, "PMCNTENCLR_EL0"), .field = F(pmcnten), .read = read_bits, .write = write_cntenclr },
    PMU(12, 3, "PMOVSCLR_EL0"), .read = read_pmovs, .write = write_ovsclr },
    { K(3, 3, 9, 12, 4), "PMSWINC_EL0", .r = SYSREG_NEVER, .w = 0, .trap = T_PM, .feature = AF_PMU, .check = check_swinc, .write = write_swinc },
    EVENT(9, 12, 5, "PMSELR_EL0", check_select), .field = F(pmselr) },
    PMU(12, 6, "PMCEID0_EL0"), .read = read_pmceid0, .write = write_nothing },
    PMU(12, 7, "PMCEID1_EL0"), .read = read_zero, .write = write_nothing },
    { K(3, 3, 9, 13, 0), "PMCCNTR_EL0", .r = 0, .w = 0, .trap = T_PM, .feature = AF_PMU, .check = check_ccntr, .read = read_ccntr, .write = write_ccntr },
    PMU(13, 1, "PMXEVTYPER_EL0"), .read = read_xevtyper, .write = write_xevtyper },
    EVENT(9, 13, 2, "PMXEVCNTR_EL0", check_event), .read = read_xevcntr, .write = write_xevcntr },
    { K(3, 3, 9, 14, 0), "PMUSERENR_EL0", .r = 0, .w = 1, .trap = T_PM, .feature = AF_PMU, .field = F(pmuserenr) },
    PMU(14, 3, "PMOVSSET_EL0"), .read = read_pmovs, .write = write_ovsset },
    { K(3, 3, 14, 15, 7), "PMCCFILTR_EL0", .r = 0, .w = 0, .trap = T_PM, .feature = AF_PMU, .check = check_user, .arg = CC, .read = read_type, .write = write_type },
    COUNTER(0), COUNTER(1), COUNTER(2), COUNTER(3), COUNTER(4), COUNTER(5),
    { K(3, 0, 9, 14, 1), "PMINTENSET_EL1", .r = 1, .w = 1, .trap = T_PM, .feature = AF_PMU, .field = F(pminten), .read = read_bits, .write = write_intenset },
    { K(3, 0, 9, 14, 2), "PMINTENCLR_EL1", .r = 1, .w = 1, .trap = T_PM, .feature = AF_PMU, .field = F(pminten), .read = read_bits, .write = write_intenclr },
    { K(3, 0, 9, 14, 6), "PMMIR_EL1", .r = 1, .w = SYSREG_NEVER, .trap = T_PM, .feature = AF_PMUv3p4, .read = read_zero },
};
const unsigned arm_pmu_sysreg_count = sizeof(arm_pmu_sysregs) / sizeof(arm_pmu_sysregs[0]);

void arm_pmu_write_mdcr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    pmu_lock(c);
    c->sys.mdcr[2] = v;
    pmu_unlock(c);
}

void arm_pmu_reset(struct arm_cpu *c)
{
    struct arm_system *s = &c->sys;

    s->pmcr = s->pmcnten = s->pmovs = s->pminten = s->pmselr = s->pmuserenr = s->pmu_at = 0;
    s->mdcr[2] = has(c, AF_PMU) ? arm_pmu_counters(c) : 0;
    memset(s->pmu, 0, sizeof(s->pmu));
    settle(c);
}
