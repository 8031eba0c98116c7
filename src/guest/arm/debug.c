/* Self-hosted debug: software step and hardware breakpoints, looked at before each instruction while MODE_STEP makes
 * regions of one instruction. DDI 0487 D2. Watchpoints are kept as registers; accesses do not trigger them. */
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

/* D2.9.3: unlinked address match; PMC and HMC say at which levels. */
static bool breakpoint_hit(const struct arm_cpu *c, unsigned n)
{
    uint64_t bcr = c->sys.dbgbcr[n], address = c->sys.dbgbvr[n];
    unsigned pmc = (unsigned)bits(bcr, 2, 1), bas = (unsigned)bits(bcr, 8, 5), hmc = bcr >> 13 & 1;

    if (!(bcr & 1) || bits(bcr, 23, 20))
        return false;
    if (c->el == 0 && !(pmc & 2))
        return false;
    if (c->el == 1 && !(pmc & 1))
        return false;
    if (c->el == 2 && !hmc)
        return false;
    if ((address & ~UINT64_C(3)) != (c->cpu.pc & ~UINT64_C(3)))
        return false;
    return !c->aarch32 || bas >> (c->cpu.pc & 3) & 1;
}

/* Step and breakpoint exceptions, before the instruction at pc. */
bool arm_debug_check(struct arm_cpu *c)
{
    unsigned el = arm_sync_target(c);
    bool same;

    if (el < 2 && arm_el2_enabled(c) && c->sys.mdcr[2] & MDCR_TDE)
        el = 2;
    same = el == c->el;
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
