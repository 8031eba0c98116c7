/* AArch64 system registers: a table of encodings, access rights, traps and storage. DDI 0487 D23, D24.
 * MRS and MSR look a row up, check feature, level and traps, then load or store the field or call the row's function. */
#include <glib.h>
#include <string.h>
#include <sys/random.h>
#include "rhea/base/log.h"
#include "rhea/vm/vm.h"
#include "system_regs.h"

/* ---- what a write does beside storing */

/* Translation control: what the soft TLB holds came from the old value. */
static void write_flush(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    uint64_t *p = sysreg_field(c, r);

    if (*p == v)
        return;
    *p = v;
    arm_regs_flush(c);
}

static void write_sctlr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    static const uint64_t matters = SCTLR_M | SCTLR_WXN | SCTLR_UWXN | SCTLR_EE | SCTLR_TRE | SCTLR_AFE | SCTLR_EPAN;
    uint64_t *p = sysreg_field(c, r), changed = *p ^ v;

    *p = v;
    if (changed & matters)
        arm_regs_flush(c);
}

static void write_ttbr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    *sysreg_field(c, r) = v;
    arm_asid_update(c);
}

static void write_tcr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    write_flush(c, r, v);
    arm_asid_update(c);
}

static void write_contextidr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    *sysreg_field(c, r) = (uint32_t)v;
    arm_asid_update(c);
}

static void write_hcr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    static const uint64_t matters = HCR_VM | HCR_PTW | HCR_DC | HCR_TGE | HCR_E2H | HCR_RW;
    uint64_t changed = c->sys.hcr ^ v;

    if (!has(c, AF_VHE))
        v &= ~HCR_E2H;
    if (!has(c, AF_EL1_32))
        v |= has(c, AF_AArch64) ? HCR_RW : 0;
    c->sys.hcr = v;
    arm_pending_update(c);
    if (changed & matters)
        arm_regs_flush(c);
}

static void write_scr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    uint64_t changed = c->sys.scr ^ v;

    if (has(c, AF_AArch64) && !has(c, AF_EL1_32))
        v |= SCR_RW;
    c->sys.scr = v;
    if (changed & (SCR_NS | SCR_RW))
        arm_regs_flush(c);
}

static void write_vbar(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { *sysreg_field(c, r) = v & ~UINT64_C(0x1f); }

static void write_os_lock(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { c->sys.os_lock = v & 1; }
static uint64_t read_oslsr(struct arm_cpu *c, const struct arm_sysreg *r) { return 8 | (c->sys.os_lock ? 2 : 0); }

/* ---- identification */

static uint64_t read_midr(struct arm_cpu *c, const struct arm_sysreg *r)
{
    return c->el == 1 && arm_el2_enabled(c) ? c->sys.vpidr : arm_id(c, ARM_SYSREG(3, 0, 0, 0, 0));
}

static uint64_t read_mpidr(struct arm_cpu *c, const struct arm_sysreg *r)
{
    return c->el == 1 && arm_el2_enabled(c) ? c->sys.vmpidr : arm_id(c, ARM_SYSREG(3, 0, 0, 0, 5));
}

static uint64_t read_id(struct arm_cpu *c, const struct arm_sysreg *r) { return arm_id(c, r->key); }
static uint64_t read_ccsidr(struct arm_cpu *c, const struct arm_sysreg *r) { return arm_ccsidr(c, (unsigned)c->sys.csselr[1]); }

/* DC ZVA's block size, and whether it is prohibited here. */
static uint64_t read_dczid(struct arm_cpu *c, const struct arm_sysreg *r)
{
    uint64_t v = arm_id(c, r->key);

    if (c->el == 0 && !(c->sys.sctlr[arm_regime(c, 0)] & SCTLR_DZE))
        v |= 16;
    if (c->el < 2 && arm_hcr(c) & HCR_TDZ)
        v |= 16;
    return v;
}

static unsigned check_ctr(const struct arm_cpu *c, bool write)
{
    if (c->el == 0 && !(c->sys.sctlr[arm_regime(c, 0)] & SCTLR_UCT))
        return arm_sync_target(c);
    return c->el < 2 && arm_hcr(c) & HCR_TID2 ? 2 : 0;
}

/* ---- PSTATE */

static uint64_t read_nzcv(struct arm_cpu *c, const struct arm_sysreg *r) { return arm_pstate_nzcv(c); }
static void write_nzcv(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { arm_pstate_set_nzcv(c, (uint32_t)v); }
static uint64_t read_daif(struct arm_cpu *c, const struct arm_sysreg *r) { return (uint64_t)c->daif << 6; }
static void write_daif(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { c->daif = v >> 6 & 15; }
static uint64_t read_currentel(struct arm_cpu *c, const struct arm_sysreg *r) { return (uint64_t)c->el << 2; }
static uint64_t read_spsel(struct arm_cpu *c, const struct arm_sysreg *r) { return c->spsel; }
static void write_spsel(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { arm_set_sp_el(c, c->el, v & 1); }
static uint64_t read_pan(struct arm_cpu *c, const struct arm_sysreg *r) { return c->pan ? PS_PAN : 0; }
static void write_pan(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { c->pan = v & PS_PAN; }
static uint64_t read_uao(struct arm_cpu *c, const struct arm_sysreg *r) { return c->uao ? PS_UAO : 0; }
static void write_uao(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { c->uao = v & PS_UAO; }
static uint64_t read_dit(struct arm_cpu *c, const struct arm_sysreg *r) { return c->dit ? PS_DIT : 0; }
static void write_dit(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { c->dit = v & PS_DIT; }
static uint64_t read_ssbs(struct arm_cpu *c, const struct arm_sysreg *r) { return c->ssbs ? PS_SSBS : 0; }
static void write_ssbs(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { c->ssbs = v & PS_SSBS; }

static unsigned check_daif(const struct arm_cpu *c, bool write)
{
    return c->el == 0 && !(c->sys.sctlr[arm_regime(c, 0)] & SCTLR_UMA) ? arm_sync_target(c) : 0;
}

/* SP_ELx of the level in use is the SP that lives in the general state. */
static uint64_t read_sp(struct arm_cpu *c, const struct arm_sysreg *r)
{
    unsigned el = r->arg;

    return el == (c->spsel ? c->el : 0u) ? c->sp : c->sys.sp[el];
}

static void write_sp(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    unsigned el = r->arg;

    *(el == (c->spsel ? c->el : 0u) ? &c->sp : &c->sys.sp[el]) = v;
}

/* SP_EL0 by name while it is the stack pointer: undefined. */
static unsigned check_sp0(const struct arm_cpu *c, bool write) { return c->spsel ? 0 : SYSREG_UNDEFINED; }

/* ---- floating point */

static uint64_t read_fpcr(struct arm_cpu *c, const struct arm_sysreg *r) { return c->fpcr; }
static void write_fpcr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { arm_set_fpcr(c, (uint32_t)v); }
static uint64_t read_fpsr(struct arm_cpu *c, const struct arm_sysreg *r) { return arm_fpsr(c); }
static void write_fpsr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { arm_set_fpsr(c, (uint32_t)v); }

/* ---- timers: D12.2, D24.12 */

static unsigned check_counter(const struct arm_cpu *c, unsigned bit0, bool write)
{
    unsigned r = arm_regime(c, 0);

    if (c->el == 0) {
        uint64_t ctl = r == 2 ? c->sys.cnthctl : c->sys.cntkctl;

        if (!(ctl >> bit0 & 1))
            return arm_sync_target(c);
    }
    return 0;
}

static unsigned check_cntfrq(const struct arm_cpu *c, bool write)
{
    if (c->el == 0 && !((arm_regime(c, 0) == 2 ? c->sys.cnthctl : c->sys.cntkctl) & 3))
        return arm_sync_target(c);
    return 0;
}

static unsigned check_cntpct(const struct arm_cpu *c, bool write)
{
    unsigned el = check_counter(c, 0, write);

    if (!el && c->el < 2 && arm_el2_enabled(c) && !arm_in_host(c) && !(c->sys.cnthctl & BIT(c->sys.hcr & HCR_E2H ? 10 : 0)))
        return 2;
    return el;
}
static unsigned check_cntvct(const struct arm_cpu *c, bool write) { return check_counter(c, 1, write); }

static unsigned check_cntp(const struct arm_cpu *c, bool write)
{
    unsigned el = check_counter(c, 9, write);

    if (!el && c->el < 2 && arm_el2_enabled(c) && !arm_in_host(c) && !(c->sys.cnthctl & BIT(c->sys.hcr & HCR_E2H ? 11 : 1)))
        return 2;
    return el;
}
static unsigned check_cntv(const struct arm_cpu *c, bool write) { return check_counter(c, 8, write); }

/* Secure EL1 may be given the Secure timer: SCR_EL3.ST. */
static unsigned check_cntps(const struct arm_cpu *c, bool write)
{
    if (c->el == 3 || (c->el == 1 && arm_is_secure(c) && c->sys.scr & SCR_ST))
        return 0;
    return c->el == 1 && arm_is_secure(c) ? 3 : SYSREG_UNDEFINED;
}

static uint64_t read_cntpct(struct arm_cpu *c, const struct arm_sysreg *r) { return arm_counter(c); }
static uint64_t read_cntvct(struct arm_cpu *c, const struct arm_sysreg *r) { return arm_counter_virt(c); }

/* At EL2 with E2H (and EL0 of a host) the EL0 timers' names mean EL2's: D12.2.4. */
static enum arm_timer timer_of(const struct arm_cpu *c, const struct arm_sysreg *r)
{
    enum arm_timer t = (enum arm_timer)(r->arg & 7);
    bool host = (c->el == 2 && c->sys.hcr & HCR_E2H) || (c->el == 0 && arm_in_host(c));

    if (!host || r->arg & 16)
        return t;
    return t == ARM_TIMER_PHYS ? ARM_TIMER_HYP : t == ARM_TIMER_VIRT ? ARM_TIMER_HYPVIRT : t;
}

static uint64_t read_timer(struct arm_cpu *c, const struct arm_sysreg *r)
{
    enum arm_timer t = timer_of(c, r);

    switch (r->arg2) {
    case 0:  return arm_timer_ctl(c, t);
    case 1:  return c->sys.timer[t].cval;
    default: return arm_timer_tval(c, t);
    }
}

static void write_timer(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { arm_timer_set(c, timer_of(c, r), r->arg2, v); }

static void write_cntvoff(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    c->sys.cntvoff = v;
    arm_timer_update(c, ARM_TIMER_VIRT);
}

/* ---- the rest */

static uint64_t read_isr(struct arm_cpu *c, const struct arm_sysreg *r)
{
    uint32_t l = arm_lines(c);
    uint64_t h = c->el < 2 ? arm_hcr(c) : 0;
    bool irq = h & HCR_IMO ? l & (1u << ARM_LINE_VIRQ | 1u << LINE_HCR_VI) : l & 1u << ARM_LINE_IRQ;
    bool fiq = h & HCR_FMO ? l & (1u << ARM_LINE_VFIQ | 1u << LINE_HCR_VF) : l & 1u << ARM_LINE_FIQ;
    bool serror = h & HCR_AMO ? l & 1u << LINE_HCR_VSE : l & 1u << ARM_LINE_SERROR;

    return (irq ? BIT(7) : 0) | (fiq ? BIT(6) : 0) | (serror ? BIT(8) : 0);
}

/* RNDR, RNDRRS: NZCV tells success. */
static uint64_t read_rndr(struct arm_cpu *c, const struct arm_sysreg *r)
{
    uint64_t v = 0;
    bool ok = getrandom(&v, sizeof(v), GRND_NONBLOCK) == sizeof(v);

    arm_pstate_set_nzcv(c, ok ? 0 : BIT(30));
    return ok ? v : 0;
}

static uint64_t read_zero(struct arm_cpu *c, const struct arm_sysreg *r) { return 0; }
static void write_nothing(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { }
static uint64_t read_rvbar(struct arm_cpu *c, const struct arm_sysreg *r) { return c->sys.config.rvbar; }

static void write_rmr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v)
{
    if (v & 2)
        log_at(LOG_UNIMP, "arm cpu %d: warm reset by RMR_ELx is not modelled\n", c->cpu.index);
}

static void write_cptr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { *sysreg_field(c, r) = v; }

/* DBGBCR and kin: the number is in CRm. */
static uint64_t *debug_register(struct arm_cpu *c, const struct arm_sysreg *r)
{
    unsigned n = r->arg2;

    switch (r->arg) {
    case 4:  return &c->sys.dbgbvr[n];
    case 5:  return &c->sys.dbgbcr[n];
    case 6:  return &c->sys.dbgwvr[n];
    default: return &c->sys.dbgwcr[n];
    }
}
static uint64_t read_debug(struct arm_cpu *c, const struct arm_sysreg *r) { return *debug_register(c, r); }
static void write_debug(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v) { *debug_register(c, r) = r->arg & 1 ? (uint32_t)v : v; }

/* ---- the table */

#define K ARM_SYSREG
#define F(f) offsetof(struct arm_cpu, sys.f)
#define RW(level) .r = level, .w = level
#define RO(level) .r = level, .w = SYSREG_NEVER
#define WO(level) .r = SYSREG_NEVER, .w = level
#define PLAIN .plain = true

static const struct arm_sysreg table[] = {
    /* op0 = 2: debug */
    { K(2, 0, 0, 0, 2), "OSDTRRX_EL1", RW(1), T_DA, .field = F(osdtr) },
    { K(2, 0, 0, 2, 0), "MDCCINT_EL1", RW(1), T_DA, .read = read_zero, .write = write_nothing },
    { K(2, 0, 0, 2, 2), "MDSCR_EL1", RW(1), T_DA, .field = F(mdscr) },
    { K(2, 0, 0, 3, 2), "OSDTRTX_EL1", RW(1), T_DA, .field = F(osdtr) },
    { K(2, 0, 0, 6, 2), "OSECCR_EL1", RW(1), T_DA, .field = F(osecc) },
    { K(2, 0, 1, 0, 0), "MDRAR_EL1", RO(1), T_DRA, .read = read_zero },
    { K(2, 0, 1, 0, 4), "OSLAR_EL1", WO(1), T_DOSA, .write = write_os_lock },
    { K(2, 0, 1, 1, 4), "OSLSR_EL1", RO(1), T_DOSA, .read = read_oslsr },
    { K(2, 0, 1, 3, 4), "OSDLR_EL1", RW(1), T_DOSA, .field = F(osdlr) },
    { K(2, 0, 1, 4, 4), "DBGPRCR_EL1", RW(1), T_DOSA, .field = F(dbgprcr) },
    { K(2, 0, 7, 8, 6), "DBGCLAIMSET_EL1", RW(1), T_DA, .field = F(dbgclaim) },
    { K(2, 0, 7, 9, 6), "DBGCLAIMCLR_EL1", RW(1), T_DA, .field = F(dbgclaim) },
    { K(2, 0, 7, 14, 6), "DBGAUTHSTATUS_EL1", RO(1), T_DA, .read = read_zero },
    { K(2, 3, 0, 1, 0), "MDCCSR_EL0", RO(0), T_DA, .read = read_zero },
    { K(2, 3, 0, 4, 0), "DBGDTR_EL0", RW(0), T_DA, .read = read_zero, .write = write_nothing },
    { K(2, 3, 0, 5, 0), "DBGDTRRX_EL0", RW(0), T_DA, .read = read_zero, .write = write_nothing },
    { K(2, 4, 0, 7, 0), "DBGVCR32_EL2", RW(2), .field = F(dbgvcr) },
    /* identification */
    { K(3, 0, 0, 0, 0), "MIDR_EL1", RO(1), .read = read_midr },
    { K(3, 0, 0, 0, 5), "MPIDR_EL1", RO(1), .read = read_mpidr },
    { K(3, 0, 0, 0, 6), "REVIDR_EL1", RO(1), T_TID1, .read = read_id },
    { K(3, 1, 0, 0, 0), "CCSIDR_EL1", RO(1), T_TID2, .read = read_ccsidr },
    { K(3, 1, 0, 0, 1), "CLIDR_EL1", RO(1), T_TID2, .read = read_id },
    { K(3, 1, 0, 0, 7), "AIDR_EL1", RO(1), T_TID1, .read = read_zero },
    { K(3, 2, 0, 0, 0), "CSSELR_EL1", RW(1), T_TID2, .field = F(csselr[1]) },
    { K(3, 3, 0, 0, 1), "CTR_EL0", RO(0), .check = check_ctr, .read = read_id },
    { K(3, 3, 0, 0, 7), "DCZID_EL0", RO(0), .read = read_dczid },
    { K(3, 4, 0, 0, 0), "VPIDR_EL2", RW(2), .field = F(vpidr) },
    { K(3, 4, 0, 0, 5), "VMPIDR_EL2", RW(2), .field = F(vmpidr) },
    /* control */
    { K(3, 0, 1, 0, 0), "SCTLR_EL1", RW(1), T_VM, .e2h = 1, .field = F(sctlr[1]), .write = write_sctlr },
    { K(3, 0, 1, 0, 1), "ACTLR_EL1", RW(1), T_ACR, .field = F(actlr[1]) },
    { K(3, 0, 1, 0, 2), "CPACR_EL1", RW(1), T_CPACR, .e2h = 1, .field = F(cpacr), .write = write_cptr },
    { K(3, 4, 1, 0, 0), "SCTLR_EL2", RW(2), .field = F(sctlr[2]), .write = write_sctlr },
    { K(3, 4, 1, 0, 1), "ACTLR_EL2", RW(2), .field = F(actlr[2]) },
    { K(3, 4, 1, 1, 0), "HCR_EL2", RW(2), .field = F(hcr), .write = write_hcr },
    { K(3, 4, 1, 1, 1), "MDCR_EL2", RW(2), .field = F(mdcr[2]), .write = arm_pmu_write_mdcr },
    { K(3, 4, 1, 1, 2), "CPTR_EL2", RW(2), T_CPACR, .field = F(cptr[2]), .write = write_cptr },
    { K(3, 4, 1, 1, 3), "HSTR_EL2", RW(2), .field = F(hstr) },
    { K(3, 4, 1, 1, 7), "HACR_EL2", RW(2), .read = read_zero, .write = write_nothing },
    { K(3, 4, 1, 2, 2), "HCRX_EL2", RW(2), .feature = AF_HCX, .field = F(hcrx) },
    { K(3, 6, 1, 0, 0), "SCTLR_EL3", RW(3), .field = F(sctlr[3]), .write = write_sctlr },
    { K(3, 6, 1, 0, 1), "ACTLR_EL3", RW(3), .field = F(actlr[3]) },
    { K(3, 6, 1, 1, 0), "SCR_EL3", RW(3), .field = F(scr), .write = write_scr },
    { K(3, 6, 1, 1, 1), "SDER32_EL3", RW(3), .feature = AF_EL1_32, .field = F(sder) },
    { K(3, 6, 1, 1, 2), "CPTR_EL3", RW(3), .field = F(cptr[3]), .write = write_cptr },
    { K(3, 6, 1, 3, 1), "MDCR_EL3", RW(3), .field = F(mdcr[3]) },
    /* translation */
    { K(3, 0, 2, 0, 0), "TTBR0_EL1", RW(1), T_VM, .e2h = 1, .field = F(ttbr0[1]), .write = write_ttbr },
    { K(3, 0, 2, 0, 1), "TTBR1_EL1", RW(1), T_VM, .e2h = 1, .field = F(ttbr1[1]), .write = write_ttbr },
    { K(3, 0, 2, 0, 2), "TCR_EL1", RW(1), T_VM, .e2h = 1, .field = F(tcr[1]), .write = write_tcr },
    { K(3, 4, 2, 0, 0), "TTBR0_EL2", RW(2), .field = F(ttbr0[2]), .write = write_ttbr },
    { K(3, 4, 2, 0, 1), "TTBR1_EL2", RW(2), .feature = AF_VHE, .field = F(ttbr1[2]), .write = write_ttbr },
    { K(3, 4, 2, 0, 2), "TCR_EL2", RW(2), .field = F(tcr[2]), .write = write_tcr },
    { K(3, 4, 2, 1, 0), "VTTBR_EL2", RW(2), .field = F(vttbr), .write = write_flush },
    { K(3, 4, 2, 1, 2), "VTCR_EL2", RW(2), .field = F(vtcr), .write = write_flush },
    { K(3, 4, 3, 0, 0), "DACR32_EL2", RW(2), .feature = AF_EL1_32, .field = F(dacr[1]), .write = write_flush },
    { K(3, 6, 2, 0, 0), "TTBR0_EL3", RW(3), .field = F(ttbr0[3]), .write = write_flush },
    { K(3, 6, 2, 0, 2), "TCR_EL3", RW(3), .field = F(tcr[3]), .write = write_flush },
    { K(3, 0, 10, 2, 0), "MAIR_EL1", RW(1), T_VM, .e2h = 1, .field = F(mair[1]) },
    { K(3, 0, 10, 3, 0), "AMAIR_EL1", RW(1), T_VM, .e2h = 1, .field = F(amair[1]) },
    { K(3, 4, 10, 2, 0), "MAIR_EL2", RW(2), .field = F(mair[2]) },
    { K(3, 4, 10, 3, 0), "AMAIR_EL2", RW(2), .field = F(amair[2]) },
    { K(3, 6, 10, 2, 0), "MAIR_EL3", RW(3), .field = F(mair[3]) },
    { K(3, 6, 10, 3, 0), "AMAIR_EL3", RW(3), .field = F(amair[3]) },
    { K(3, 0, 10, 4, 0), "LORSA_EL1", RW(1), T_LOR, .feature = AF_LOR, .read = read_zero, .write = write_nothing },
    { K(3, 0, 10, 4, 1), "LOREA_EL1", RW(1), T_LOR, .feature = AF_LOR, .read = read_zero, .write = write_nothing },
    { K(3, 0, 10, 4, 2), "LORN_EL1", RW(1), T_LOR, .feature = AF_LOR, .read = read_zero, .write = write_nothing },
    { K(3, 0, 10, 4, 3), "LORC_EL1", RW(1), T_LOR, .feature = AF_LOR, .field = F(lorc) },
    { K(3, 0, 10, 4, 7), "LORID_EL1", RO(1), T_LOR, .feature = AF_LOR, .read = read_zero },
    { K(3, 0, 7, 4, 0), "PAR_EL1", RW(1), .field = F(par[1]), PLAIN },
    /* exceptions */
    { K(3, 0, 4, 0, 0), "SPSR_EL1", RW(1), .e2h = 1, .field = F(spsr[1]), PLAIN },
    { K(3, 0, 4, 0, 1), "ELR_EL1", RW(1), .e2h = 1, .field = F(elr[1]), PLAIN },
    { K(3, 0, 4, 1, 0), "SP_EL0", RW(1), .check = check_sp0, .arg = 0, .read = read_sp, .write = write_sp },
    { K(3, 0, 4, 2, 0), "SPSel", RW(1), .read = read_spsel, .write = write_spsel },
    { K(3, 0, 4, 2, 2), "CurrentEL", RO(1), .read = read_currentel },
    { K(3, 0, 4, 2, 3), "PAN", RW(1), .feature = AF_PAN, .read = read_pan, .write = write_pan },
    { K(3, 0, 4, 2, 4), "UAO", RW(1), .feature = AF_UAO, .read = read_uao, .write = write_uao },
    { K(3, 3, 4, 2, 0), "NZCV", RW(0), .read = read_nzcv, .write = write_nzcv },
    { K(3, 3, 4, 2, 1), "DAIF", RW(0), .check = check_daif, .read = read_daif, .write = write_daif },
    { K(3, 3, 4, 2, 5), "DIT", RW(0), .feature = AF_DIT, .read = read_dit, .write = write_dit },
    { K(3, 3, 4, 2, 6), "SSBS", RW(0), .feature = AF_SSBS2, .read = read_ssbs, .write = write_ssbs },
    { K(3, 3, 4, 4, 0), "FPCR", RW(0), .fp = true, .read = read_fpcr, .write = write_fpcr },
    { K(3, 3, 4, 4, 1), "FPSR", RW(0), .fp = true, .read = read_fpsr, .write = write_fpsr },
    { K(3, 4, 4, 0, 0), "SPSR_EL2", RW(2), .field = F(spsr[2]), PLAIN },
    { K(3, 4, 4, 0, 1), "ELR_EL2", RW(2), .field = F(elr[2]), PLAIN },
    { K(3, 4, 4, 1, 0), "SP_EL1", RW(2), .arg = 1, .read = read_sp, .write = write_sp },
    { K(3, 4, 4, 3, 0), "SPSR_irq", RW(2), .field = F(spsr32[BANK_IRQ]) },
    { K(3, 4, 4, 3, 1), "SPSR_abt", RW(2), .field = F(spsr32[BANK_ABT]) },
    { K(3, 4, 4, 3, 2), "SPSR_und", RW(2), .field = F(spsr32[BANK_UND]) },
    { K(3, 4, 4, 3, 3), "SPSR_fiq", RW(2), .field = F(spsr32[BANK_FIQ]) },
    { K(3, 6, 4, 0, 0), "SPSR_EL3", RW(3), .field = F(spsr[3]), PLAIN },
    { K(3, 6, 4, 0, 1), "ELR_EL3", RW(3), .field = F(elr[3]), PLAIN },
    { K(3, 6, 4, 1, 0), "SP_EL2", RW(3), .arg = 2, .read = read_sp, .write = write_sp },
    { K(3, 0, 5, 1, 0), "AFSR0_EL1", RW(1), T_VM, .e2h = 1, .field = F(afsr0[1]) },
    { K(3, 0, 5, 1, 1), "AFSR1_EL1", RW(1), T_VM, .e2h = 1, .field = F(afsr1[1]) },
    { K(3, 0, 5, 2, 0), "ESR_EL1", RW(1), T_VM, .e2h = 1, .field = F(esr[1]) },
    { K(3, 0, 6, 0, 0), "FAR_EL1", RW(1), T_VM, .e2h = 1, .field = F(far[1]) },
    { K(3, 4, 5, 0, 1), "IFSR32_EL2", RW(2), .feature = AF_EL1_32, .field = F(ifsr32[1]) },
    { K(3, 4, 5, 1, 0), "AFSR0_EL2", RW(2), .field = F(afsr0[2]) },
    { K(3, 4, 5, 1, 1), "AFSR1_EL2", RW(2), .field = F(afsr1[2]) },
    { K(3, 4, 5, 2, 0), "ESR_EL2", RW(2), .field = F(esr[2]) },
    { K(3, 4, 5, 2, 3), "VSESR_EL2", RW(2), .feature = AF_RAS, .field = F(vsesr) },
    { K(3, 4, 5, 3, 0), "FPEXC32_EL2", RW(2), .feature = AF_EL1_32, .field = F(fpexc) },
    { K(3, 4, 6, 0, 0), "FAR_EL2", RW(2), .field = F(far[2]) },
    { K(3, 4, 6, 0, 4), "HPFAR_EL2", RW(2), .field = F(hpfar) },
    { K(3, 6, 5, 1, 0), "AFSR0_EL3", RW(3), .field = F(afsr0[3]) },
    { K(3, 6, 5, 1, 1), "AFSR1_EL3", RW(3), .field = F(afsr1[3]) },
    { K(3, 6, 5, 2, 0), "ESR_EL3", RW(3), .field = F(esr[3]) },
    { K(3, 6, 6, 0, 0), "FAR_EL3", RW(3), .field = F(far[3]) },
    { K(3, 0, 5, 3, 0), "ERRIDR_EL1", RO(1), T_ERR, .feature = AF_RAS, .read = read_zero },
    { K(3, 0, 5, 3, 1), "ERRSELR_EL1", RW(1), T_ERR, .feature = AF_RAS, .read = read_zero, .write = write_nothing },
    { K(3, 0, 12, 0, 0), "VBAR_EL1", RW(1), .e2h = 1, .field = F(vbar[1]), .write = write_vbar },
    { K(3, 0, 12, 0, 1), "RVBAR_EL1", RO(1), .highest = 1, .read = read_rvbar },
    { K(3, 0, 12, 0, 2), "RMR_EL1", RW(1), .highest = 1, .read = read_zero, .write = write_rmr },
    { K(3, 0, 12, 1, 0), "ISR_EL1", RO(1), .read = read_isr },
    { K(3, 0, 12, 1, 1), "DISR_EL1", RW(1), .feature = AF_RAS, .field = F(disr) },
    { K(3, 4, 12, 0, 0), "VBAR_EL2", RW(2), .field = F(vbar[2]), .write = write_vbar },
    { K(3, 4, 12, 0, 1), "RVBAR_EL2", RO(2), .highest = 2, .read = read_rvbar },
    { K(3, 4, 12, 0, 2), "RMR_EL2", RW(2), .highest = 2, .read = read_zero, .write = write_rmr },
    { K(3, 4, 12, 1, 1), "VDISR_EL2", RW(2), .feature = AF_RAS, .field = F(vdisr) },
    { K(3, 6, 12, 0, 0), "VBAR_EL3", RW(3), .field = F(vbar[3]), .write = write_vbar },
    { K(3, 6, 12, 0, 1), "RVBAR_EL3", RO(3), .read = read_rvbar },
    { K(3, 6, 12, 0, 2), "RMR_EL3", RW(3), .read = read_zero, .write = write_rmr },
    /* context */
    { K(3, 0, 13, 0, 1), "CONTEXTIDR_EL1", RW(1), T_VM, .e2h = 1, .field = F(contextidr[1]), .write = write_contextidr },
    { K(3, 4, 13, 0, 1), "CONTEXTIDR_EL2", RW(2), .feature = AF_VHE, .field = F(contextidr[2]), .write = write_contextidr },
    { K(3, 0, 13, 0, 4), "TPIDR_EL1", RW(1), .field = F(tpidr[1]), PLAIN },
    { K(3, 3, 13, 0, 2), "TPIDR_EL0", RW(0), .field = F(tpidr[0]), PLAIN },
    { K(3, 3, 13, 0, 3), "TPIDRRO_EL0", .r = 0, .w = 1, .field = F(tpidrro), PLAIN },
    { K(3, 4, 13, 0, 2), "TPIDR_EL2", RW(2), .field = F(tpidr[2]), PLAIN },
    { K(3, 6, 13, 0, 2), "TPIDR_EL3", RW(3), .field = F(tpidr[3]), PLAIN },
    /* pointer authentication */
#define KEY(crm, op2, name, n, h) { K(3, 0, 2, crm, op2), name, RW(1), T_APK, .feature = AF_PAuth, .field = F(key[n][h]) }
    KEY(1, 0, "APIAKeyLo_EL1", 0, 0), KEY(1, 1, "APIAKeyHi_EL1", 0, 1), KEY(1, 2, "APIBKeyLo_EL1", 1, 0), KEY(1, 3, "APIBKeyHi_EL1", 1, 1),
    KEY(2, 0, "APDAKeyLo_EL1", 2, 0), KEY(2, 1, "APDAKeyHi_EL1", 2, 1), KEY(2, 2, "APDBKeyLo_EL1", 3, 0), KEY(2, 3, "APDBKeyHi_EL1", 3, 1),
    KEY(3, 0, "APGAKeyLo_EL1", 4, 0), KEY(3, 1, "APGAKeyHi_EL1", 4, 1),
    { K(3, 3, 2, 4, 0), "RNDR", RO(0), .feature = AF_RNG, .read = read_rndr },
    { K(3, 3, 2, 4, 1), "RNDRRS", RO(0), .feature = AF_RNG, .read = read_rndr },
    /* timers; arg: which, 16: by that name alone; arg2: 0 CTL, 1 CVAL, 2 TVAL */
    { K(3, 3, 14, 0, 0), "CNTFRQ_EL0", .r = 0, .w = SYSREG_HIGHEST, .check = check_cntfrq, .field = F(cntfrq) },
    { K(3, 3, 14, 0, 1), "CNTPCT_EL0", RO(0), .check = check_cntpct, .read = read_cntpct },
    { K(3, 3, 14, 0, 2), "CNTVCT_EL0", RO(0), .check = check_cntvct, .read = read_cntvct },
    { K(3, 0, 14, 1, 0), "CNTKCTL_EL1", RW(1), .e2h = 1, .field = F(cntkctl) },
    { K(3, 4, 14, 1, 0), "CNTHCTL_EL2", RW(2), .field = F(cnthctl) },
    { K(3, 4, 14, 0, 3), "CNTVOFF_EL2", RW(2), .field = F(cntvoff), .write = write_cntvoff },
#define TIMER(op1, crm, pre, post, lev, chk, n) \
    { K(3, op1, 14, crm, 0), pre "_TVAL_" post, RW(lev), .check = chk, .arg = n, .arg2 = 2, .read = read_timer, .write = write_timer }, \
    { K(3, op1, 14, crm, 1), pre "_CTL_" post, RW(lev), .check = chk, .arg = n, .arg2 = 0, .read = read_timer, .write = write_timer }, \
    { K(3, op1, 14, crm, 2), pre "_CVAL_" post, RW(lev), .check = chk, .arg = n, .arg2 = 1, .read = read_timer, .write = write_timer }
    TIMER(3, 2, "CNTP", "EL0", 0, check_cntp, ARM_TIMER_PHYS), TIMER(3, 3, "CNTV", "EL0", 0, check_cntv, ARM_TIMER_VIRT),
    TIMER(4, 2, "CNTHP", "EL2", 2, NULL, ARM_TIMER_HYP), TIMER(4, 3, "CNTHV", "EL2", 2, NULL, ARM_TIMER_HYPVIRT),
    TIMER(7, 2, "CNTPS", "EL1", 1, check_cntps, ARM_TIMER_SEC),
    TIMER(5, 2, "CNTP", "EL02", 2, NULL, ARM_TIMER_PHYS | 16), TIMER(5, 3, "CNTV", "EL02", 2, NULL, ARM_TIMER_VIRT | 16),
    /* breakpoints and watchpoints */
#define DBG(n) { K(2, 0, 0, n, 4), "DBGBVR" #n "_EL1", RW(1), T_DA, .arg = 4, .arg2 = n, .read = read_debug, .write = write_debug }, \
               { K(2, 0, 0, n, 5), "DBGBCR" #n "_EL1", RW(1), T_DA, .arg = 5, .arg2 = n, .read = read_debug, .write = write_debug }, \
               { K(2, 0, 0, n, 6), "DBGWVR" #n "_EL1", RW(1), T_DA, .arg = 6, .arg2 = n, .read = read_debug, .write = write_debug }, \
               { K(2, 0, 0, n, 7), "DBGWCR" #n "_EL1", RW(1), T_DA, .arg = 7, .arg2 = n, .read = read_debug, .write = write_debug }
    DBG(0), DBG(1), DBG(2), DBG(3), DBG(4), DBG(5), DBG(6), DBG(7), DBG(8), DBG(9), DBG(10), DBG(11), DBG(12), DBG(13), DBG(14), DBG(15),
};

/* ---- lookup */

static uint16_t index_of[2 << 14];      /* op0 2 and 3: row + 1 */
static gsize index_ready;

static void index_add(const struct arm_sysreg *rows, unsigned n, unsigned base)
{
    for (unsigned i = 0; i < n; i++)
        index_of[rows[i].key & 0x7fff] = (uint16_t)(base + i + 1);
}

static void index_build(void)
{
    if (g_once_init_enter(&index_ready)) {
        index_add(table, G_N_ELEMENTS(table), 0);
        index_add(arm_pmu_sysregs, arm_pmu_sysreg_count, G_N_ELEMENTS(table));
        g_once_init_leave(&index_ready, 1);
    }
}

const struct arm_sysreg *arm_sysreg_find(unsigned key)
{
    unsigned n = key & 0x8000 ? index_of[key & 0x7fff] : 0;

    if (!n)
        return NULL;
    return n <= G_N_ELEMENTS(table) ? &table[n - 1] : &arm_pmu_sysregs[n - 1 - G_N_ELEMENTS(table)];
}

static unsigned key_of(uint32_t raw) { return raw >> 5 & 0xffff; }

/* With E2H the names of EL1 mean EL2's registers at EL2, and names with op1 = 5 EL1's: D8.1.4 */
static unsigned redirect(const struct arm_cpu *c, unsigned key)
{
    const struct arm_sysreg *r;

    if (c->el < 2 || !has(c, AF_VHE))
        return key;
    if ((key >> 11 & 7) == 5 && (c->el == 3 || c->sys.hcr & HCR_E2H)) {
        unsigned plain = key & ~(7u << 11);

        r = arm_sysreg_find(plain);
        if (r && r->e2h)
            return plain;
    }
    if (c->el == 2 && c->sys.hcr & HCR_E2H && (key >> 11 & 7) == 0) {
        r = arm_sysreg_find(key);
        if (r && r->e2h)
            return key == K(3, 0, 1, 0, 2) ? K(3, 4, 1, 1, 2) : key | 4u << 11;
    }
    return key;
}

/* ---- access */

static uint32_t trap_syndrome(uint32_t raw, unsigned ec)
{
    return esr_make(ec, (raw >> 19 & 3) << 20 | (raw >> 5 & 7) << 17 | (raw >> 16 & 7) << 14 | (raw >> 12 & 15) << 10 |
                            (raw & 31) << 5 | (raw >> 8 & 15) << 1 | (raw >> 21 & 1));
}

_Noreturn void arm_sysreg_trap(struct arm_cpu *c, uint32_t raw, unsigned el)
{
    if (el == SYSREG_UNDEFINED)
        arm_raise_undefined(c);
    arm_raise_el(c, el, trap_syndrome(raw, EC_SYSREG), 0);
}

/* HCR_EL2, MDCR_EL2, CPTR_EL2 and EL3's: which level a kind of access goes to instead. 0: none. */
unsigned arm_sysreg_trapped(const struct arm_cpu *c, unsigned trap, bool write)
{
    static const struct { uint64_t read, write; } hcr_bits[TRAP_KINDS] = {
        [T_VM] = { HCR_TRVM, HCR_TVM }, [T_TID1] = { HCR_TID1, HCR_TID1 }, [T_TID2] = { HCR_TID2, HCR_TID2 },
        [T_TID3] = { HCR_TID3, HCR_TID3 }, [T_ACR] = { HCR_TACR, HCR_TACR }, [T_LOR] = { HCR_TLOR, HCR_TLOR },
        [T_ERR] = { HCR_TERR, HCR_TERR }, [T_TTLB] = { HCR_TTLB, HCR_TTLB }, [T_SW] = { HCR_TSW, HCR_TSW },
        [T_PC] = { HCR_TPCP, HCR_TPCP }, [T_PU] = { HCR_TPU, HCR_TPU }, [T_TID0] = { HCR_TID0, HCR_TID0 },
    };
    static const struct { uint64_t mdcr2, mdcr3; } debug_bits[TRAP_KINDS] = {
        /* MDCR_EL2.TDE stands for the other debug traps, too */
        [T_DA] = { MDCR_TDA | MDCR_TDE, BIT(9) }, [T_DOSA] = { MDCR_TDOSA | MDCR_TDE, BIT(10) }, [T_DRA] = { MDCR_TDRA | MDCR_TDE, BIT(9) },
        [T_PM] = { MDCR_TPM, BIT(6) }, [T_PMCR] = { MDCR_TPM | MDCR_TPMCR, BIT(6) },
    };
    bool el3_64 = has_el3(c) && has(c, AF_AArch64);
    uint64_t mdcr2 = c->sys.mdcr[2] | (arm_hcr(c) & HCR_TGE ? MDCR_TDE : 0);

    if (c->el < 2 && arm_el2_enabled(c)) {
        if (arm_hcr(c) & (write ? hcr_bits[trap].write : hcr_bits[trap].read))
            return 2;
        if (mdcr2 & debug_bits[trap].mdcr2)
            return 2;
        if (trap == T_CPACR && c->sys.cptr[2] & BIT(31) && c->el == 1 && !(c->sys.hcr & HCR_TGE))
            return 2;
        if (trap == T_APK && !(arm_hcr(c) & HCR_APK) && !arm_in_host(c))
            return 2;
    }
    if (c->el < 3 && el3_64) {
        if (c->sys.mdcr[3] & debug_bits[trap].mdcr3)
            return 3;
        if ((trap == T_CPACR && c->sys.cptr[3] & BIT(31)) || (trap == T_APK && !(c->sys.scr & SCR_APK)) ||
            (trap == T_LOR && c->sys.scr & SCR_TLOR))
            return 3;
    }
    return 0;
}

static unsigned level_needed(const struct arm_cpu *c, unsigned level)
{
    return level == SYSREG_HIGHEST ? has_el3(c) ? 3 : has_el2(c) ? 2 : 1 : level;
}

/* 0: go on; SYSREG_UNDEFINED; else the level it traps to. */
static unsigned check_access(const struct arm_cpu *c, const struct arm_sysreg *r, bool write)
{
    unsigned op1 = r->key >> 11 & 7, el;

    if (r->feature && !has(c, r->feature))
        return SYSREG_UNDEFINED;
    if (r->highest && r->highest != level_needed(c, SYSREG_HIGHEST))
        return SYSREG_UNDEFINED;
    if (c->el < level_needed(c, write ? r->w : r->r))
        return SYSREG_UNDEFINED;
    if ((op1 == 4 || op1 == 5) && (!has_el2(c) && c->el < 3))
        return SYSREG_UNDEFINED;
    if (r->fp && (el = arm_fp_trap_el(c)))
        return el | SYSREG_FP;
    if (r->check && (el = r->check(c, write)))
        return el;
    return r->trap ? arm_sysreg_trapped(c, r->trap, write) : 0;
}

static const struct arm_sysreg *find_checked(struct arm_cpu *c, uint32_t raw, bool write)
{
    unsigned key = redirect(c, key_of(raw)), el;
    const struct arm_sysreg *r = arm_sysreg_find(key);

    if (!r) {
        unsigned crn = key >> 7 & 15;

        if ((crn == 11 || crn == 15) && c->el == 1 && arm_hcr(c) & HCR_TIDCP)
            arm_sysreg_trap(c, raw, 2);
        log_at(LOG_UNIMP, "arm cpu %d: %s of system register S%u_%u_C%u_C%u_%u\n", c->cpu.index, write ? "write" : "read", key >> 14,
               key >> 11 & 7, crn, key >> 3 & 15, key & 7);
        arm_raise_undefined(c);
    }
    el = check_access(c, r, write);
    if (el == SYSREG_UNDEFINED)
        arm_raise_undefined(c);
    if (el & SYSREG_FP)
        arm_raise_el(c, el & 3, esr_make(EC_FP, BIT(24) | 14 << 20), 0);
    if (el)
        arm_sysreg_trap(c, raw, el);
    return r;
}

/* ID_*_EL1, and what is reserved among them: zero. */
static bool is_id(unsigned key) { return key >> 7 == K(3, 0, 0, 0, 0) >> 7 && (key >> 3 & 15) && (key >> 3 & 15) < 8; }

static uint64_t read_id_space(struct arm_cpu *c, uint32_t raw)
{
    unsigned el;

    if (c->el == 0) {
        if (has(c, AF_IDST))
            arm_sysreg_trap(c, raw, arm_sync_target(c));
        arm_raise_undefined(c);
    }
    el = arm_sysreg_trapped(c, T_TID3, false);
    if (el)
        arm_sysreg_trap(c, raw, el);
    return arm_id(c, key_of(raw));
}

/* ICC_*, ICH_*: CRn 12, CRm 8 to 15; ICC_PMR is CRn 4. */
static bool is_gic(unsigned key)
{
    unsigned crn = key >> 7 & 15, crm = key >> 3 & 15, op1 = key >> 11 & 7;

    if (key >> 14 != 3)
        return false;
    return (crn == 12 && crm >= 8 && (op1 == 0 || op1 == 4 || op1 == 6) ) || key == K(3, 0, 4, 6, 0);
}

static void gic_result(struct arm_cpu *c, uint32_t raw, enum arm_gic_result res)
{
    if (res != ARM_GIC_OK)
        arm_sysreg_trap(c, raw, res == ARM_GIC_TRAP_EL2 ? 2 : res == ARM_GIC_TRAP_EL3 ? 3 : SYSREG_UNDEFINED);
}

uint64_t arm_sysreg_read(struct arm_cpu *c, uint32_t raw)
{
    unsigned key = key_of(raw);
    const struct arm_sysreg *r;
    uint64_t v = 0;

    if (is_id(key))
        return read_id_space(c, raw);
    if (is_gic(key) && c->sys.gic && c->el) {
        gic_result(c, raw, c->sys.gic->read(c->sys.gic_opaque, c, key, &v));
        return v;
    }
    r = find_checked(c, raw, false);
    return r->read ? r->read(c, r) : *sysreg_field(c, r);
}

void arm_sysreg_write(struct arm_cpu *c, uint32_t raw, uint64_t v)
{
    unsigned key = key_of(raw);
    const struct arm_sysreg *r;

    if (is_gic(key) && c->sys.gic && c->el) {
        gic_result(c, raw, c->sys.gic->write(c->sys.gic_opaque, c, key, v));
        return;
    }
    r = find_checked(c, raw, true);
    if (r->write)
        r->write(c, r, v);
    else
        *sysreg_field(c, r) = v;
}

uint64_t arm_helper_sysreg_read(struct cpu *cpu, uint32_t raw) { return arm_sysreg_read(arm(cpu), raw); }
void arm_helper_sysreg_write(struct cpu *cpu, uint32_t raw, uint64_t v) { arm_sysreg_write(arm(cpu), raw, v); }

/* By key from AArch32's view, whose own checks were made. */
bool arm_sysreg_raw_read(struct arm_cpu *c, unsigned key, uint64_t *v)
{
    const struct arm_sysreg *r = arm_sysreg_find(key);

    if (!r)
        return false;
    *v = r->read ? r->read(c, r) : *sysreg_field(c, r);
    return true;
}

bool arm_sysreg_raw_write(struct arm_cpu *c, unsigned key, uint64_t v)
{
    const struct arm_sysreg *r = arm_sysreg_find(key);

    if (!r)
        return false;
    if (r->write)
        r->write(c, r, v);
    else
        *sysreg_field(c, r) = v;
    return true;
}

/* ---- for emitters: registers that are fields with no trap at this level, whatever the configuration. */
int32_t arm_sysreg_plain(const struct arm_features *f, uint32_t raw, uint64_t mode)
{
    unsigned el = mode >> MODE_EL_SHIFT & 3, key = key_of(raw);
    bool write = !(raw >> 21 & 1);
    const struct arm_sysreg *r;

    index_build();
    r = arm_sysreg_find(key);
    if (!r || !r->plain || el < (write ? r->w : r->r))
        return -1;
    /* EL2 may redirect EL1's names; without VHE it can't. */
    if (r->e2h && el == 2 && (!f || arm_has(f, AF_VHE)))
        return -1;
    if ((key >> 11 & 7) == 4 && f && !arm_has(f, AF_EL2))
        return -1;
    return (int32_t)r->field;
}

/* ---- reset */

void arm_sysregs_reset(struct arm_cpu *c)
{
    struct arm_system *s = &c->sys;
    bool v8 = has(c, AF_V8);

    index_build();
    for (unsigned n = 0; n < G_N_ELEMENTS(table); n++)
        if (table[n].field)
            *sysreg_field(c, &table[n]) = 0;
    memset(s->sp, 0, sizeof(s->sp));
    memset(s->spsr, 0, sizeof(s->spsr));
    memset(s->bank_r13, 0, sizeof(s->bank_r13));
    memset(s->bank_r14, 0, sizeof(s->bank_r14));
    memset(s->usr_r8_12, 0, sizeof(s->usr_r8_12));
    memset(s->fiq_r8_12, 0, sizeof(s->fiq_r8_12));
    memset(s->dbgbcr, 0, sizeof(s->dbgbcr));
    memset(s->dbgwcr, 0, sizeof(s->dbgwcr));
    memset(s->ttbr0, 0, sizeof(s->ttbr0));
    memset(s->ttbr1, 0, sizeof(s->ttbr1));
    memset(s->tcr, 0, sizeof(s->tcr));
    memset(s->dacr, 0, sizeof(s->dacr));
    memset(s->vbar, 0, sizeof(s->vbar));
    s->mvbar = s->nsacr = 0;
    s->fpexc = 0;
    s->asid = 0;
    s->guarded = false;
    cpu_tlb_context(&c->cpu, ~0u, 0);
    s->tagged = false;
    s->tlbi_pending = 0;
    s->os_lock = v8 && has(c, AF_AArch64);
    s->vpidr = arm_id(c, K(3, 0, 0, 0, 0));
    s->vmpidr = arm_id(c, K(3, 0, 0, 0, 5));
    s->sctlr[0] = 0;
    s->sctlr[1] = has(c, AF_AArch64) ? 0x30d00838 | SCTLR_NTWI | SCTLR_NTWE : 0x00c50078;
    s->sctlr[2] = 0x30c50830;
    s->sctlr[3] = has(c, AF_AArch64) ? 0x30c50830 : 0x00c50078;
    if (s->config.hivecs && !has(c, AF_AArch64)) {
        s->sctlr[1] |= SCTLR_V;
        s->sctlr[3] |= SCTLR_V;
    }
    s->cptr[2] = 0x33ff;
    s->cptr[3] = 0;
    s->scr = 0;
    s->hcr = has(c, AF_AArch64) && !has(c, AF_EL1_32) ? HCR_RW : 0;
    atomic_fetch_and(&s->lines, (1u << ARM_LINE_COUNT) - 1);
    arm_pmu_reset(c);
}
