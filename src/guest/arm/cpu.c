/* An Arm CPU as a whole: which levels and states it has, mode bits, reset, and where an operating system is started.
 * DDI 0487 D1, G1. */
#include <glib.h>
#include <string.h>
#include "rhea/vm/vm.h"
#include "system.h"

/* ---- exception levels and their states */

bool arm_is_secure(const struct arm_cpu *c)
{
    if (!has_el3(c))
        return false;
    if (c->el == 3)
        return true;
    return !(c->sys.scr & SCR_NS);
}

bool arm_el2_enabled(const struct arm_cpu *c)
{
    return has_el2(c) && !(has_el3(c) && !(c->sys.scr & SCR_NS));
}

uint64_t arm_hcr(const struct arm_cpu *c)
{
    uint64_t h = c->sys.hcr;

    if (!arm_el2_enabled(c))
        return 0;
    if (h & HCR_TGE) {
        if (h & HCR_E2H)
            h &= ~(HCR_VM | HCR_FMO | HCR_IMO | HCR_AMO | HCR_TWI | HCR_TWE | HCR_TID0 | HCR_TID1 | HCR_TID2 | HCR_TID3 | HCR_TSC |
                   HCR_TACR | HCR_TSW | HCR_TPCP | HCR_TPU | HCR_TTLB | HCR_TVM | HCR_TRVM | HCR_TDZ | HCR_VI | HCR_VF | HCR_VSE |
                   HCR_DC | HCR_TIDCP) | 0;
        h |= HCR_FMO | HCR_IMO | HCR_AMO;
        h &= ~(HCR_VI | HCR_VF | HCR_VSE | HCR_VM | HCR_DC);
    }
    if (h & HCR_DC)
        h |= HCR_VM;
    return h;
}

bool arm_el_is_64(const struct arm_cpu *c, unsigned el)
{
    if (!has(c, AF_AArch64))
        return false;
    if (el == 0 && c->el == 0)
        return !c->aarch32;
    if (el == 3 || (has_el3(c) && !(c->sys.scr & SCR_RW)))
        return el == 3;
    if (el == 2 || !arm_el2_enabled(c))
        return true;
    return c->sys.hcr & HCR_RW || (c->sys.hcr & (HCR_E2H | HCR_TGE)) == (HCR_E2H | HCR_TGE);
}

/* EL3 using AArch32: its Secure modes but User are all EL3. */
static bool secure_el3_32(const struct arm_cpu *c)
{
    return has_el3(c) && !has(c, AF_AArch64) && (c->el == 3 || !(c->sys.scr & SCR_NS));
}

unsigned arm_regime(const struct arm_cpu *c, unsigned el)
{
    if (el)
        return el;
    if (secure_el3_32(c))
        return 3;
    return arm_in_host(c) ? 2 : 1;
}

unsigned arm_el_of_mode32(const struct arm_cpu *c, unsigned mode)
{
    switch (mode) {
    case M_USR: return 0;
    case M_HYP: return 2;
    case M_MON: return 3;
    default: return has_el3(c) && !has(c, AF_AArch64) && !(c->sys.scr & SCR_NS) ? 3 : 1;
    }
}

unsigned arm_mmu_index(const struct cpu *cpu, bool code)
{
    const struct arm_cpu *c = (const struct arm_cpu *)cpu;

    switch (c->el) {
    case 0:
        if (secure_el3_32(c))
            return ARM_MMU_EL30_0;
        return arm_in_host(c) ? ARM_MMU_EL20_0 : ARM_MMU_EL0;
    case 1:
        return c->pan && !code ? ARM_MMU_EL1_PAN : ARM_MMU_EL1;
    case 2:
        if (!(c->sys.hcr & HCR_E2H))
            return ARM_MMU_EL2;
        return c->pan && !code ? ARM_MMU_EL20_2_PAN : ARM_MMU_EL20_2;
    default:
        return c->pan && !code && c->aarch32 ? ARM_MMU_EL3_PAN : ARM_MMU_EL3;
    }
}

/* LDTR and STTR: as EL0, where the level has one below it in its regime and UAO does not say otherwise. */
static unsigned unprivileged_mmu(const struct arm_cpu *c)
{
    if (!c->uao || c->aarch32) {
        if (c->el == 1)
            return ARM_MMU_EL0;
        if (c->el == 2 && (c->sys.hcr & (HCR_E2H | HCR_TGE)) == (HCR_E2H | HCR_TGE))
            return ARM_MMU_EL20_0;
        if (c->el == 3 && c->aarch32)
            return ARM_MMU_EL30_0;
    }
    return arm_mmu_index(&c->cpu, false);
}

bool arm_cpacr_traps(const struct arm_cpu *c)
{
    unsigned fpen = bits(c->sys.cpacr, 21, 20);

    return fpen == 0 || fpen == 2 || (fpen == 1 && c->el == 0);
}

/* CPACR_EL1.FPEN, CPTR_EL2, CPTR_EL3: D1.13, G1.13.4. */
unsigned arm_fp_trap_el(const struct arm_cpu *c)
{
    /* NSACR.cp10: Non-secure state has no floating point. */
    if (has_el3(c) && !has(c, AF_AArch64) && !arm_is_secure(c) && !(c->sys.nsacr & BIT(10)))
        return c->el == 2 ? 2 : 1;
    if (c->el <= 1 && !arm_in_host(c) && arm_cpacr_traps(c)) {
        bool tge = c->el == 0 && (arm_hcr(c) & HCR_TGE);

        return tge ? 2 : c->aarch32 && secure_el3_32(c) ? 3 : 1;
    }
    if (c->el <= 2 && arm_el2_enabled(c)) {
        if (c->sys.hcr & HCR_E2H) {
            unsigned fpen = bits(c->sys.cptr[2], 21, 20);

            if (fpen == 0 || fpen == 2 || (fpen == 1 && c->el == 0 && (c->sys.hcr & HCR_TGE)))
                return 2;
        } else if (c->sys.cptr[2] & BIT(10)) {
            return 2;
        }
    }
    return has_el3(c) && has(c, AF_AArch64) && c->sys.cptr[3] & BIT(10) ? 3 : 0;
}

/* ---- mode bits */

static uint64_t mode64(const struct arm_cpu *c, uint64_t sctlr)
{
    uint64_t m = 0;

    if (c->sp & 15 && sctlr & (c->el ? SCTLR_SA : SCTLR_SA0))
        m |= MODE_SP_ALIGN;
    if (sctlr & (c->el ? SCTLR_EE : SCTLR_E0E))
        m |= MODE_BE;
    if (has(c, AF_PAuth))
        m |= (uint64_t)((sctlr & SCTLR_ENIA ? 1 : 0) | (sctlr & SCTLR_ENIB ? 2 : 0) | (sctlr & SCTLR_ENDA ? 4 : 0) |
                        (sctlr & SCTLR_ENDB ? 8 : 0)) << MODE_PAUTH_SHIFT;
    if (c->sys.guarded && sctlr & SCTLR_M)
        m |= MODE_BTI;
    else if (c->sys.user_mode)
        m |= MODE_NO_BTYPE;
    if ((c->el || (sctlr & SCTLR_UCI && sctlr & SCTLR_DZE)) && !(c->el < 2 && arm_hcr(c) & (HCR_TPCP | HCR_TPU | HCR_TDZ)))
        m |= MODE_UCI;
    return m;
}

static uint64_t mode_aarch32(const struct arm_cpu *c)
{
    uint64_t m = MODE_AARCH32 | (uint64_t)c->it << MODE_IT_SHIFT | (uint64_t)c->mode32 << MODE_MODE32_SHIFT;

    if (c->thumb)
        m |= MODE_THUMB;
    if (c->e32)
        m |= MODE_BE;
    if (c->mode32 != M_USR)
        m |= MODE_PRIV32;
    if (!(c->sys.fpexc & BIT(30)) && !arm_el_is_64(c, 1))
        m |= MODE_FP_UNDEF32;
    if (bits(c->fpcr, 23, 22))
        m |= MODE_FP_ROUND;
    m |= (bits(c->fpcr, 18, 16) | bits(c->fpcr, 21, 20) << 3) << MODE_VFP_SHORT_SHIFT;
    return m;
}

uint64_t arm_mode_bits(const struct cpu *cpu)
{
    const struct arm_cpu *c = (const struct arm_cpu *)cpu;
    uint64_t sctlr = c->sys.sctlr[arm_regime(c, c->el)];
    uint64_t m = (uint64_t)c->el << MODE_EL_SHIFT | (uint64_t)arm_mmu_index(cpu, false) << MODE_MMU_SHIFT |
                 (uint64_t)arm_fp_trap_el(c) << MODE_FP_TRAP_SHIFT | (uint64_t)unprivileged_mmu(c) << MODE_UNPRIV_SHIFT;

    if (c->fpcr & ARM_FPCR_SLOW)
        m |= MODE_FP_SLOW | ((c->fpcr & ARM_FPCR_SLOW) == ARM_FPCR_FZ ? MODE_FP_FLUSH : 0);
    if (sctlr & SCTLR_A)
        m |= MODE_ALIGN;
    if (c->il)
        m |= MODE_IL;
    if (arm_step_active(c))
        m |= MODE_STEP;
    if (arm_watch_active(c))
        m |= MODE_WATCH;
    if (arm_is_secure(c))
        m |= MODE_SECURE;
    return m | (c->aarch32 ? mode_aarch32(c) : mode64(c, sctlr));
}

/* ---- SP: sp is the current one; the others are in sys.sp */

void arm_set_sp_el(struct arm_cpu *c, unsigned el, unsigned spsel)
{
    c->sys.sp[c->spsel ? c->el : 0] = c->sp;
    c->el = (uint8_t)el;
    c->spsel = (uint8_t)spsel;
    c->sp = c->sys.sp[spsel ? el : 0];
    arm_pmu_level(c);
}

/* ---- reset */

static unsigned highest_el(const struct arm_cpu *c) { return has_el3(c) ? 3 : has_el2(c) ? 2 : 1; }

static void reset_pstate(struct arm_cpu *c)
{
    c->daif = 15;
    c->btype = 0;
    c->pan = c->uao = c->dit = c->ssbs = c->tco = c->ss = c->il = c->allint = false;
    c->it = c->ge = 0;
    c->q32 = c->e32 = c->j32 = c->thumb = false;
    arm_pstate_set_nzcv(c, 0);
    c->aarch32 = !has(c, AF_AArch64);
    if (!c->aarch32) {
        c->el = (uint8_t)highest_el(c);
        c->spsel = 1;
        c->mode32 = 0;
        c->cpu.pc = c->sys.config.rvbar;
        return;
    }
    /* G1.17: Secure Supervisor, or Supervisor, or Hyp where EL2 is the highest. */
    c->mode32 = M_SVC;
    c->el = has_el3(c) ? 3 : 1;
    c->daif = DAIF_A | DAIF_I | DAIF_F;
    c->spsel = 1;
    c->cpu.pc = c->sys.config.hivecs ? 0xffff0000 : 0;
}

void arm_cpu_reset(struct cpu *cpu)
{
    struct arm_cpu *c = arm(cpu);

    memset(c->x, 0, sizeof(c->x));
    memset(c->q, 0, sizeof(c->q));
    memset(c->tmp, 0, sizeof(c->tmp));
    c->sp = 0;
    c->ex_addr = c->ex_bytes = 0;
    c->halted = c->event = false;
    c->exc_syndrome = 0;
    c->exc_far = 0;
    cpu->exception = -1;
    arm_sysregs_reset(c);
    reset_pstate(c);
    arm_set_fpcr(c, 0);
    arm_set_fpsr(c, 0);
    arm_timers_reset(c);
    atomic_store(&c->sys.power, arm_psci_start_off(c) ? ARM_POWER_OFF : ARM_POWER_ON);
    cpu_tlb_context(cpu, ~0u, 0);
    cpu_tlb_flush(cpu, ~0u);
}

bool arm_cpu_init(struct cpu *cpu, struct vm *vm, const char *spec, struct error *err)
{
    struct arm_cpu *c = arm(cpu);

    c->sys.vm = vm;
    cpu->exception = -1;
    if (!arm_model_parse(c, spec, err))
        return false;
    arm_configure(c, &(struct arm_config){ .psci = ARM_PSCI_NONE });
    arm_timers_init(c);
    return true;
}

void arm_cpu_free(struct cpu *cpu)
{
    struct arm_cpu *c = arm(cpu);

    arm_timers_free(c);
    g_free(c->identity);
    c->identity = NULL;
}

void arm_configure(struct arm_cpu *c, const struct arm_config *config)
{
    unsigned n = (unsigned)c->cpu.index;

    c->sys.config = *config;
    if (!c->sys.config.cntfrq)
        c->sys.config.cntfrq = 62500000;
    if (!c->sys.config.mpidr)
        c->sys.config.mpidr = (n & 15) | n >> 4 << 8;
    arm_model_configure(c);
}

/* What firmware at EL3 leaves for the level below: everything that exists is usable there (Linux,
 * Documentation/arch/arm64/booting.rst). */
static void leave_el3(struct arm_cpu *c)
{
    c->sys.scr |= SCR_NS | SCR_HCE | SCR_RW;
    if (has(c, AF_PAuth))
        c->sys.scr |= SCR_APK | SCR_API;
    c->sys.cptr[3] &= ~(BIT(10) | BIT(31));
    c->sys.scr &= ~SCR_SMD;
}

enum { MIDR_PART_A15 = 0xc0f, A15_ACTLR_IBE = 1 };

/* Cortex-A15: firmware enables invalidation of the branch target buffer (DDI 0438, 4.3.28), as kernels expect since Spectre. */
static void boot32(struct arm_cpu *c, uint64_t entry)
{
    if (bits(arm_id(c, ARM_SYSREG(3, 0, 0, 0, 0)), 15, 4) == MIDR_PART_A15)
        c->sys.actlr[1] |= A15_ACTLR_IBE;
    if (has_el3(c))
        c->sys.scr |= SCR_NS | SCR_HCE;
    c->sys.nsacr |= 0xc00;              /* floating point and SIMD for the Non-secure side */
    arm_set_cpsr_raw(c, (has_el2(c) ? M_HYP : M_SVC) | CPSR_A | CPSR_I | CPSR_F | (entry & 1 ? CPSR_T : 0));
    c->cpu.pc = (uint32_t)entry & ~UINT32_C(1);
}

static void boot_arguments(struct arm_cpu *c, const uint64_t args[4])
{
    for (unsigned n = 0; args && n < 4; n++)
        c->x[n] = args[n];
}

void arm_boot(struct arm_cpu *c, uint64_t entry, const uint64_t args[4])
{
    if (c->aarch32) {
        boot32(c, entry);
    } else {
        unsigned el = has_el2(c) ? 2 : 1;

        if (has_el3(c))
            leave_el3(c);
        if (el == 1 && has_el2(c))
            c->sys.hcr |= HCR_RW;
        arm_set_sp_el(c, el, 1);
        c->cpu.pc = entry;
    }
    boot_arguments(c, args);
}

void arm_boot_highest(struct arm_cpu *c, uint64_t entry, const uint64_t args[4])
{
    if (c->aarch32 && entry & 1)
        arm_set_cpsr_raw(c, arm_cpsr(c) | CPSR_T);
    c->cpu.pc = c->aarch32 ? (uint32_t)entry & ~UINT32_C(1) : entry;
    boot_arguments(c, args);
}

/* ---- translations that depend on registers */

void arm_regs_flush(struct arm_cpu *c)
{
    c->sys.tagged = false;
    cpu_tlb_flush(&c->cpu, ~0u);
}

/* The soft TLB holds one address space of a regime; another ASID drops all but global entries. */
void arm_asid_update(struct arm_cpu *c)
{
    const struct arm_system *s = &c->sys;
    unsigned r = c->el == 0 ? arm_regime(c, 0) : c->el == 2 && s->hcr & HCR_E2H ? 2 : 1;
    uint64_t asid;

    if (arm_el_is_64(c, r)) {
        asid = bits(s->tcr[r] & BIT(22) ? s->ttbr1[r] : s->ttbr0[r], 63, 48);
        if (!(s->tcr[r] & BIT(36)))
            asid &= 0xff;
    } else if (s->tcr[r] & BIT(31)) {
        asid = bits(s->tcr[r] & BIT(22) ? s->ttbr1[r] : s->ttbr0[r], 55, 48);
    } else {
        asid = s->contextidr[r] & 0xff;
    }
    if (asid == s->asid)
        return;
    c->sys.asid = (uint16_t)asid;
    cpu_tlb_context(&c->cpu, ~0u, asid);
}

/* ---- SYS operations and plain registers, for emitters */

bool arm_cpu_has(const struct cpu *cpu, const struct cpu_feature *f)
{
    return arm_has(&((const struct arm_cpu *)cpu)->features, (unsigned)f->word << 6 | f->bit);
}
