/* Self-hosted debug: software step and hardware breakpoints, looked at before each instruction while MODE_STEP makes
 * regions of one instruction; watchpoints, looked at before each access while MODE_WATCH has it call arm_helper_watch().
 * DDI 0487 D2. */
#include "system.h"

/* AArch64.GenerateDebugExceptionsFrom() */
bool arm_debug_enabled(const struct arm_cpu *c)
{
    unsigned target = arm_el2_enabled(c) && (c->sys.mdcr[2] & MDCR_TDE || c->sys.hcr & HCR_TGE) ? 2 : 1;

    if (c->sys.os_lock || c->sys.osdlr & 1 || !has(c, AF_AArch64))
        return false;
    if (has_el3(c) && arm_is_secure(c) && c->sys.mdcr[3] & BIT(16))
        return false;
    if (c->el == target)
        return c->sys.mdscr & MDSCR_KDE && !(c->daif & DAIF_D);
    return c->el < target;
}

static bool breakpoints_armed(const struct arm_cpu *c)
{
    if (!(c->sys.mdscr & MDSCR_MDE))
        return false;
    for (unsigned n = 0; n < 16; n++)
        if (c->sys.dbgbcr[n] & 1)
            return true;
    return false;
}

bool arm_step_active(const struct arm_cpu *c)
{
    if (!(c->sys.mdscr & (MDSCR_SS | MDSCR_MDE)) || !arm_debug_enabled(c))
        return false;
    return c->sys.mdscr & MDSCR_SS || breakpoints_armed(c);
}

bool arm_watch_active(const struct arm_cpu *c)
{
    if (!(c->sys.mdscr & MDSCR_MDE) || !arm_debug_enabled(c))
        return false;
    for (unsigned n = 0; n < 16; n++)
        if (c->sys.dbgwcr[n] & 1)
            return true;
    return false;
}

/* DBGBCR_EL1.BT: even ones trigger, odd ones are linked. From 2 on a context, which the last breakpoints alone can compare. */
enum { BT_LINKED = 1, BT_ADDRESS = 0, BT_CONTEXT = 2, BT_CONTEXT1 = 6, BT_VMID = 8, BT_VMID_CONTEXT1 = 10, BT_CONTEXT2 = 12, BT_CONTEXTS = 14 };
static unsigned breakpoint_type(const struct arm_cpu *c, unsigned n) { return (unsigned)bits(c->sys.dbgbcr[n], 23, 20); }

static bool context_aware(const struct arm_cpu *c, unsigned n)
{
    uint64_t dfr0 = arm_id(c, ARM_SYSREG(3, 0, 0, 5, 0));
    unsigned last = (unsigned)bits(dfr0, 15, 12), contexts = (unsigned)bits(dfr0, 31, 28) + 1;

    return n <= last && n + contexts > last;
}

/* AArch64.BreakpointValueMatch(): what the breakpoint's value says of the context that runs. */
static bool context_matches(const struct arm_cpu *c, unsigned n)
{
    const struct arm_system *s = &c->sys;
    uint64_t v = s->dbgbvr[n], vmids = has(c, AF_VMID16) && s->vtcr & BIT(19) ? 0xffff : 0xff;
    bool guest = c->el < 2 && !arm_in_host(c);
    bool context1 = guest && (uint32_t)v == (uint32_t)s->contextidr[1];
    bool context2 = c->el < 3 && arm_el2_enabled(c) && has(c, AF_VHE) && v >> 32 == (uint32_t)s->contextidr[2];
    bool vmid = guest && arm_el2_enabled(c) && !((v >> 32 ^ s->vttbr >> 48) & vmids);

    switch (breakpoint_type(c, n) & ~BT_LINKED) {
    case BT_CONTEXT:
        return arm_in_host(c) ? (uint32_t)v == (uint32_t)s->contextidr[2] : context1;
    case BT_CONTEXT1:      return has(c, AF_VHE) && context1;
    case BT_VMID:          return vmid;
    case BT_VMID_CONTEXT1: return vmid && context1;
    case BT_CONTEXT2:      return context2;
    case BT_CONTEXTS:      return context1 && context2;
    default:               return false;
    }
}

/* Of a breakpoint or watchpoint that is linked to number n. */
static bool link_matches(const struct arm_cpu *c, unsigned n)
{
    return c->sys.dbgbcr[n] & 1 && context_aware(c, n) && breakpoint_type(c, n) & BT_LINKED && context_matches(c, n);
}

/* D2.9.3; PMC and HMC say at which levels. */
static bool breakpoint_hit(const struct arm_cpu *c, unsigned n)
{
    uint64_t bcr = c->sys.dbgbcr[n], address = c->sys.dbgbvr[n];
    unsigned pmc = (unsigned)bits(bcr, 2, 1), bas = (unsigned)bits(bcr, 8, 5), hmc = bcr >> 13 & 1, type = breakpoint_type(c, n);

    if (!(bcr & 1) || (type & BT_LINKED && type != (BT_ADDRESS | BT_LINKED)))
        return false;
    if (c->el == 0 && !(pmc & 2))
        return false;
    if (c->el == 1 && !(pmc & 1))
        return false;
    if (c->el == 2 && !hmc)
        return false;
    if (type & ~BT_LINKED)
        return context_aware(c, n) && context_matches(c, n);
    if (type & BT_LINKED && !link_matches(c, (unsigned)bits(bcr, 19, 16)))
        return false;
    if ((address & ~UINT64_C(3)) != (c->cpu.pc & ~UINT64_C(3)))
        return false;
    return !c->aarch32 || bas >> (c->cpu.pc & 3) & 1;
}

static unsigned debug_target(const struct arm_cpu *c)
{
    unsigned el = arm_sync_target(c);

    return el < 2 && arm_el2_enabled(c) && c->sys.mdcr[2] & MDCR_TDE ? 2 : el;
}

/* Step and breakpoint exceptions, before the instruction at pc. */
bool arm_debug_check(struct arm_cpu *c)
{
    unsigned el = debug_target(c);
    bool same = el == c->el;

    if (c->sys.mdscr & MDSCR_SS && !c->ss) {
        arm_take(c, el, 0, esr_make(same ? EC_STEP : EC_STEP_LOWER, BIT(24) | FSC_DEBUG), c->cpu.pc, c->cpu.pc);
        return true;
    }
    if (c->sys.mdscr & MDSCR_MDE) {
        for (unsigned n = 0; n < 16; n++) {
            if (breakpoint_hit(c, n)) {
                arm_take(c, el, 0, esr_make(same ? EC_BKPT : EC_BKPT_LOWER, FSC_DEBUG), c->cpu.pc, c->cpu.pc);
                return true;
            }
        }
    }
    return false;
}

/* ---- watchpoints: D2.10 */

/* PAC, HMC and SSC say at which levels, in which world. */
static bool watched_here(const struct arm_cpu *c, uint64_t wcr, bool user)
{
    unsigned pac = (unsigned)bits(wcr, 2, 1), ssc = (unsigned)bits(wcr, 15, 14), el = user ? 0 : c->el;

    if ((ssc == 1 && arm_is_secure(c)) || (ssc == 2 && !arm_is_secure(c)))
        return false;
    switch (el) {
    case 0:  return pac & 2;
    case 1:  return pac & 1;
    default: return wcr >> 13 & 1;
    }
}

/* The first byte of the access that is watched; false: none. A tag in the top byte does not count (D2.10.4). */
static bool watched_byte(uint64_t wvr, uint64_t wcr, uint64_t va, unsigned n, uint64_t *at)
{
    unsigned mask = (unsigned)bits(wcr, 28, 24), bas = (unsigned)bits(wcr, 12, 5), covers = wvr & 4 ? 4 : 8;
    uint64_t base = mask ? wvr & ~((UINT64_C(1) << mask) - 1) : wvr & ~(uint64_t)(covers - 1);
    uint64_t size = mask ? UINT64_C(1) << mask : covers;

    for (unsigned i = 0; i < n; i++) {
        uint64_t offset = ((va + i - base) << 8) >> 8;

        if (offset < size && (mask || bas >> offset & 1)) {
            *at = va + i;
            return true;
        }
    }
    return false;
}

void arm_watch(struct arm_cpu *c, uint64_t va, unsigned bytes, unsigned how)
{
    for (unsigned n = 0; n < 16; n++) {
        uint64_t wcr = c->sys.dbgwcr[n], at;
        unsigned met = how & (unsigned)bits(wcr, 4, 3), el;

        if (!(wcr & 1) || !met || !watched_here(c, wcr, how & WATCH_USER))
            continue;
        if (!watched_byte(c->sys.dbgwvr[n], wcr, va, bytes, &at))
            continue;
        if (wcr & BIT(20) && !link_matches(c, (unsigned)bits(wcr, 19, 16)))
            continue;
        /* What the access itself raises comes first (D1.3.5.5). */
        cpu_probe(&c->cpu, va, bytes, how & WATCH_WRITE, how & WATCH_USER ? c->cpu.mode >> MODE_UNPRIV_SHIFT & 15 : arm_mmu_index(&c->cpu, false));
        el = debug_target(c);
        arm_raise_el(c, el, esr_make(el == c->el ? EC_WATCH : EC_WATCH_LOWER, FSC_DEBUG | (met & WATCH_READ ? 0 : BIT(6))), at);
    }
}

void arm_helper_watch(struct cpu *cpu, uint64_t va, uint32_t what)
{
    arm_watch(arm(cpu), va, what & 0xffff, what >> 16);
}
