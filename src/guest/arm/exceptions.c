/* Exceptions of AArch64, and what both states share: raising, routing, interrupts, waiting. DDI 0487 D1.3 to D1.7. */
#include <glib.h>
#include "rhea/base/log.h"
#include "rhea/vm/vm.h"
#include "system.h"

/* ---- PSTATE and SPSR */

uint32_t arm_spsr_compose(const struct arm_cpu *c, bool to64)
{
    uint32_t v = arm_pstate_nzcv(c) | (c->pan ? PS_PAN : 0) | (c->il ? PS_IL : 0);

    if (c->aarch32) {
        v |= c->mode32 | PS_A32 | (c->thumb ? CPSR_T : 0) | (c->e32 ? CPSR_E : 0) | arm_ge_flags(c->ge) << 16;
        v |= (uint32_t)(c->daif & 7) << 6 | (c->q32 ? CPSR_Q : 0) | (c->ssbs ? CPSR_SSBS : 0);
        v |= (c->it & 3) << 25 | (c->it >> 2 & 63) << 10;
        if (to64)
            return v | (c->dit ? PS_DIT : 0) | (c->ss ? PS_SS : 0);
        return v | (c->dit ? CPSR_DIT : 0) | (c->j32 ? CPSR_J : 0);
    }
    v |= (uint32_t)c->daif << 6 | (c->dit ? PS_DIT : 0) | (c->ss ? PS_SS : 0) | (c->uao ? PS_UAO : 0) | (c->tco ? PS_TCO : 0);
    v |= (c->ssbs ? PS_SSBS : 0) | (c->allint ? PS_ALLINT : 0) | (uint32_t)c->btype << 10;
    return v | (uint32_t)c->el << 2 | c->spsel;
}

uint32_t arm_cpsr(const struct arm_cpu *c) { return arm_spsr_compose(c, !c->aarch32); }

/* ---- taking one to AArch64 */

static bool lower_is_32(const struct arm_cpu *c, unsigned el)
{
    if (el == 3)
        return !arm_el_is_64(c, arm_el2_enabled(c) ? 2 : 1);
    if (el == 2 && c->el == 0 && arm_in_host(c))
        return c->aarch32;
    return el == 1 ? c->aarch32 : !arm_el_is_64(c, el - 1);
}

static void log_exception(const struct arm_cpu *c, unsigned el, unsigned vector, uint32_t syndrome, uint64_t far, uint64_t ret)
{
    log_printf("arm cpu %d: exception %#x from EL%u to EL%u, ESR %#x, FAR %#" G_GINT64_MODIFIER "x, ELR %#" G_GINT64_MODIFIER "x\n",
               c->cpu.index, vector, c->el, el, syndrome, far, ret);
}

static bool has_far(unsigned ec)
{
    return (ec >= EC_IABT_LOWER && ec <= EC_PC_ALIGN) || ec == EC_DABT_LOWER || ec == EC_DABT || ec == EC_WATCH_LOWER || ec == EC_WATCH;
}

/* AArch64.TakeException(). vector: 0 synchronous, 0x80 IRQ, 0x100 FIQ, 0x180 SError. */
static void take64(struct arm_cpu *c, unsigned el, unsigned vector, uint32_t syndrome, uint64_t far, uint64_t ret)
{
    struct arm_system *s = &c->sys;
    uint64_t sctlr = s->sctlr[el];
    unsigned offset = vector, from = c->el;

    if (el > c->el)
        offset += lower_is_32(c, el) ? 0x600 : 0x400;
    else if (c->spsel)
        offset += 0x200;
    s->spsr[el] = arm_spsr_compose(c, true);
    s->elr[el] = ret;
    if (c->aarch32)
        arm_leave32(c);
    c->il = c->uao = c->ss = false;
    c->btype = 0;
    c->daif = 15;
    c->allint = false;
    c->tco = has(c, AF_MTE);
    c->it = 0;
    if (has(c, AF_PAN) && !(sctlr & SCTLR_SPAN) && (el == 1 || (el == 2 && from == 0 && arm_in_host(c))))
        c->pan = true;
    if (has(c, AF_SSBS))
        c->ssbs = sctlr & SCTLR_DSSBS;
    arm_set_sp_el(c, el, 1);
    if (vector == 0 || vector == 0x180) {
        s->esr[el] = syndrome;
        if (vector == 0 && has_far(esr_ec(syndrome)))
            s->far[el] = far;
    }
    c->cpu.pc = (s->vbar[el] & ~UINT64_C(0x7ff)) + offset;
}

void arm_take(struct arm_cpu *c, unsigned el, unsigned vector, uint32_t syndrome, uint64_t far, uint64_t ret)
{
    if (log_enabled(LOG_INT))
        log_exception(c, el, vector, syndrome, far, ret);
    c->ex_bytes = 0;
    c->cpu.exception = -1;
    if (arm_el_is_64(c, el))
        take64(c, el, vector, syndrome, far, ret);
    else
        arm_take32(c, el, vector, syndrome, far, ret);
}

/* ---- raising */

unsigned arm_sync_target(const struct arm_cpu *c)
{
    if (c->el == 0) {
        if (arm_hcr(c) & HCR_TGE)
            return 2;
        return arm_regime(c, 0) == 3 ? 3 : 1;
    }
    return c->el;
}

/* What follows the instruction is where SVC, HVC and SMC return to. */
static uint64_t preferred_return(const struct arm_cpu *c, uint32_t syndrome)
{
    unsigned ec = esr_ec(syndrome);

    if ((ec >= EC_SVC32 && ec <= EC_SMC32) || (ec >= EC_SVC64 && ec <= EC_SMC64))
        return c->cpu.pc + (syndrome & ESR_IL ? 4 : 2);
    return c->cpu.pc;
}

_Noreturn static void raise_at(struct arm_cpu *c, unsigned el, uint32_t syndrome, uint64_t far, uint64_t ret)
{
    c->cpu.exception = ARM_EXC_SYNC;
    c->exc_syndrome = syndrome;
    c->exc_far = far;
    c->exc_target = (uint8_t)el;
    c->sys.exc_return = ret;
    cpu_loop_exit(&c->cpu);
}

_Noreturn void arm_raise_el(struct arm_cpu *c, unsigned el, uint32_t syndrome, uint64_t far)
{
    raise_at(c, el, syndrome, far, c->cpu.pc);
}

/* BRK, breakpoints and single step follow MDCR_EL2.TDE: D2.6. */
static bool is_debug(unsigned ec) { return (ec >= EC_BKPT_LOWER && ec <= EC_WATCH) || ec == EC_BKPT32 || ec == EC_BRK64 || ec == EC_VECTOR; }

_Noreturn void arm_raise(struct arm_cpu *c, uint32_t syndrome, uint64_t far)
{
    unsigned el = arm_sync_target(c);

    if (is_debug(esr_ec(syndrome)) && el < 2 && arm_el2_enabled(c) && c->sys.mdcr[2] & MDCR_TDE)
        el = 2;
    raise_at(c, el, syndrome, far, preferred_return(c, syndrome));
}

_Noreturn void arm_raise_undefined(struct arm_cpu *c)
{
    arm_raise(c, c->il && !c->aarch32 ? esr_make(EC_ILLEGAL, 0) : esr_make(EC_UNKNOWN, 0), 0);
}

void arm_helper_exception(struct cpu *cpu, uint32_t syndrome) { arm_raise(arm(cpu), syndrome, cpu->pc); }
void arm_helper_undefined(struct cpu *cpu) { arm_raise_undefined(arm(cpu)); }

void arm_helper_exception_el(struct cpu *cpu, uint32_t el, uint32_t syndrome)
{
    struct arm_cpu *c = arm(cpu);
    unsigned least = arm_sync_target(c);

    /* CPACR's trap that HCR_EL2.TGE turned away from EL1 tells no more: AArch64.AdvSIMDFPAccessTrap(). */
    if (esr_ec(syndrome) == EC_FP && el == 2 && !c->el && arm_hcr(c) & HCR_TGE && !arm_in_host(c) && arm_cpacr_traps(c))
        syndrome = esr_make(EC_UNKNOWN, 0);
    if (esr_ec(syndrome) == EC_FP && el == 2 && !arm_el_is_64(c, 2))
        syndrome |= 10;                 /* HSR.coproc: G8.2.74 */
    arm_raise_el(c, el < least ? least : el > 3 ? 3 : el, syndrome, cpu->pc);
}

/* ---- SVC, HVC, SMC: taken at once */

uint64_t arm_helper_svc(struct cpu *cpu, uint32_t syndrome)
{
    struct arm_cpu *c = arm(cpu);

    if (cpu->code_changed)              /* user mode: the kernel is not in the guest */
        arm_raise(c, syndrome, 0);
    arm_take(c, arm_sync_target(c), 0, syndrome, 0, cpu->pc + (syndrome & ESR_IL ? 4 : 2));
    return cpu->pc;
}

static unsigned insn_length(const struct arm_cpu *c) { return 4; }      /* HVC, SMC: 32 bits in T32 too */

uint64_t arm_helper_hvc(struct cpu *cpu, uint32_t imm)
{
    struct arm_cpu *c = arm(cpu);
    uint64_t next = cpu->pc + insn_length(c);
    bool enabled;

    if (c->sys.config.psci == ARM_PSCI_HVC && c->el >= 1 && arm_psci(c))
        return next;
    enabled = has_el3(c) ? c->sys.scr & SCR_HCE : !(c->sys.hcr & HCR_HCD);
    if (c->el == 0 || !arm_el2_enabled(c) || !enabled)
        arm_raise_undefined(c);
    arm_take(c, c->el == 3 ? 3 : 2, 0, esr_make(c->aarch32 ? EC_HVC32 : EC_HVC64, imm & 0xffff), 0, next);
    return cpu->pc;
}

uint64_t arm_helper_smc(struct cpu *cpu, uint32_t imm)
{
    struct arm_cpu *c = arm(cpu);
    uint64_t next = cpu->pc + insn_length(c);

    if (c->el == 0)
        arm_raise_undefined(c);
    if (c->el == 1 && arm_hcr(c) & HCR_TSC)     /* trapped: returns to the SMC itself */
        arm_raise_el(c, 2, esr_make(c->aarch32 ? EC_SMC32 : EC_SMC64, c->aarch32 ? 0 : imm & 0xffff), 0);
    if (c->sys.config.psci == ARM_PSCI_SMC && arm_psci(c))
        return next;
    if (!has_el3(c) || c->sys.scr & SCR_SMD)
        arm_raise_undefined(c);
    arm_take(c, 3, 0, esr_make(c->aarch32 ? EC_SMC32 : EC_SMC64, c->aarch32 ? 0 : imm & 0xffff), 0, next);
    return cpu->pc;
}

/* ---- ERET */

static bool return_target(const struct arm_cpu *c, uint32_t spsr, unsigned *el)
{
    if (spsr & PS_A32) {
        unsigned m = spsr & 31;

        if (m == M_MON || (m != M_USR && m != M_FIQ && m != M_IRQ && m != M_SVC && m != M_ABT && m != M_HYP && m != M_UND &&
                           m != M_SYS))
            return false;
        *el = m == M_USR ? 0 : m == M_HYP ? 2 : 1;
        if (!has(c, *el ? AF_EL1_32 : AF_EL0_32) || (*el && arm_el_is_64(c, *el)))
            return false;
    } else {
        *el = spsr >> 2 & 3;
        if (spsr & 2 || (*el == 0 && spsr & 1) || (*el && !arm_el_is_64(c, *el)))
            return false;
    }
    if (*el > c->el || (*el == 2 && (!has_el2(c) || (has_el3(c) && !(c->sys.scr & SCR_NS)))))
        return false;
    if (*el == 1 && arm_el2_enabled(c) && c->sys.hcr & HCR_TGE)
        return false;
    return true;
}

/* DebugExceptionReturnSS(): PSTATE.SS comes from the SPSR where software step is on at the target but not here. */
static bool step_bit(struct arm_cpu *c, uint32_t spsr, unsigned el)
{
    uint64_t mdscr = c->sys.mdscr;
    bool here = arm_debug_enabled(c), there;

    if (!(mdscr & MDSCR_SS) || !(spsr & PS_SS))
        return false;
    there = el == 0 || (mdscr & MDSCR_KDE && !(spsr & (DAIF_D << 6)) && el <= 1);
    return !here && there;
}

uint64_t arm_helper_eret(struct cpu *cpu, uint64_t target)
{
    struct arm_cpu *c = arm(cpu);
    uint32_t spsr = (uint32_t)c->sys.spsr[c->el];
    unsigned el;
    bool ss;

    if (c->el == 0)
        arm_raise_undefined(c);
    if (c->aarch32)
        return arm_helper_rfe(cpu, (uint32_t)target, spsr);
    c->ex_bytes = 0;
    c->event = true;
    if (!return_target(c, spsr, &el)) {
        /* Illegal: EL, SP and the state stay; D1.5.4. */
        arm_pstate_set_nzcv(c, spsr & PS_NZCV);
        c->daif = spsr >> 6 & 15;
        c->pan = has(c, AF_PAN) && spsr & PS_PAN;
        c->il = true;
        return cpu->pc = target;
    }
    ss = step_bit(c, spsr, el);
    arm_pstate_set_nzcv(c, spsr & PS_NZCV);
    c->il = spsr & PS_IL;
    c->pan = has(c, AF_PAN) && spsr & PS_PAN;
    if (spsr & PS_A32) {
        arm_set_sp_el(c, el, 1);
        arm_enter32(c);
        /* SPSR_ELx keeps DIT where the CPSR has J, and SS where it has DIT. */
        arm_set_cpsr_raw(c, (spsr & ~(uint32_t)(CPSR_DIT | CPSR_J)) | (spsr & PS_DIT ? CPSR_DIT : 0));
        target &= spsr & CPSR_T ? 0xfffffffe : 0xfffffffc;
    } else {
        c->daif = spsr >> 6 & 15;
        c->uao = has(c, AF_UAO) && spsr & PS_UAO;
        c->dit = has(c, AF_DIT) && spsr & PS_DIT;
        c->tco = has(c, AF_MTE) && spsr & PS_TCO;
        c->ssbs = has(c, AF_SSBS) && spsr & PS_SSBS;
        c->btype = has(c, AF_BTI) ? spsr >> 10 & 3 : 0;
        arm_set_sp_el(c, el, spsr & 1);
        /* The tag goes where addresses have one: AddrTop, as branches do. */
        target = arm_branch_address(c, target);
    }
    c->ss = ss;
    return cpu->pc = target;
}

/* A branch to a tagged address leaves the tag behind: AArch64.BranchAddr(). */
uint64_t arm_branch_address(const struct arm_cpu *c, uint64_t target)
{
    unsigned r = arm_regime(c, c->el);
    bool two = r == 1 || (r == 2 && c->sys.hcr & HCR_E2H), top = target >> 55 & 1;
    uint64_t tcr = c->sys.tcr[r];

    if (!(two ? tcr >> (top ? 38 : 37) & 1 : tcr >> 20 & 1))
        return target;
    if (two)
        return (uint64_t)((int64_t)(target << 8) >> 8);
    return target & (UINT64_MAX >> 8);
}

/* ---- interrupts */

void arm_set_line(struct arm_cpu *c, enum arm_line line, bool level)
{
    uint32_t bit = 1u << line, old;

    old = level ? atomic_fetch_or(&c->sys.lines, bit) : atomic_fetch_and(&c->sys.lines, ~bit);
    if (level && !(old & bit))
        cpu_kick(&c->cpu, CPU_EXIT_IRQ);
}

/* IHI 0069 4.6.2: group 1 is an IRQ in its own world and an FIQ elsewhere, to an AArch64 EL3 always, which can take it so. */
uint32_t arm_lines(const struct arm_cpu *c)
{
    uint32_t l = atomic_load_explicit(&c->sys.lines, memory_order_relaxed);
    bool secure, s_is_fiq;

    if (!(l & (1u << ARM_LINE_GROUP1S | 1u << ARM_LINE_GROUP1NS)))
        return l;
    secure = arm_is_secure(c);
    s_is_fiq = !secure || (c->el == 3 && arm_el_is_64(c, 3));
    if (l & 1u << ARM_LINE_GROUP1S)
        l |= s_is_fiq ? 1u << ARM_LINE_FIQ : 1u << ARM_LINE_IRQ;
    if (l & 1u << ARM_LINE_GROUP1NS)
        l |= secure ? 1u << ARM_LINE_FIQ : 1u << ARM_LINE_IRQ;
    return l & ~(1u << ARM_LINE_GROUP1S | 1u << ARM_LINE_GROUP1NS);
}

void arm_pending_update(struct arm_cpu *c)
{
    uint64_t h = c->sys.hcr;
    uint32_t virt = (h & HCR_VI ? 1u << LINE_HCR_VI : 0) | (h & HCR_VF ? 1u << LINE_HCR_VF : 0) | (h & HCR_VSE ? 1u << LINE_HCR_VSE : 0);

    atomic_fetch_and(&c->sys.lines, ~(1u << LINE_HCR_VI | 1u << LINE_HCR_VF | 1u << LINE_HCR_VSE));
    atomic_fetch_or(&c->sys.lines, virt);
}

/* D1.3.6: where a physical interrupt goes, and whether it may now. 0: not. */
static unsigned physical_target(const struct arm_cpu *c, uint64_t scr_bit, uint64_t hcr_bit, unsigned mask_bit, bool masked)
{
    uint64_t hcr = arm_hcr(c);
    unsigned el = 1;

    if (has_el3(c) && c->sys.scr & scr_bit)
        el = 3;
    else if (hcr & hcr_bit)
        el = 2;
    else if (c->el == 2 && arm_el_is_64(c, 2))
        return 0;               /* pends until a lower level runs */
    else if (c->el == 2)
        el = 2;                 /* Hyp mode takes its own */
    else if (!has(c, AF_AArch64) && has_el3(c) && arm_is_secure(c))
        el = 3;                 /* AArch32's Secure modes are EL3 */
    else if (c->el == 3)
        return 0;
    if (el < c->el)
        return 0;
    if (el == c->el || (el == 1 && c->el == 0) || arm_regime(c, c->el) == el)
        return masked ? 0 : el;
    if (!arm_el_is_64(c, el) && el == 3 && masked)
        /* To Monitor mode the Non-secure mask counts: of IRQs always, of others by SCR.AW and SCR.FW; none where HCR routes (G1.12.3). */
        return !(hcr & hcr_bit) && (mask_bit == DAIF_I || c->sys.scr & (mask_bit == DAIF_A ? BIT(5) : BIT(4))) ? 0 : el;
    return el;
}

struct pending { unsigned el, vector; };

static struct pending pending_interrupt(const struct arm_cpu *c)
{
    static const struct { uint8_t line, hcr_line, mask, virt; uint16_t vector; uint64_t scr, hcr; } kind[] = {
        { ARM_LINE_SERROR, LINE_HCR_VSE, DAIF_A, 0xff, 0x180, SCR_EA, HCR_AMO },
        { ARM_LINE_FIQ, LINE_HCR_VF, DAIF_F, ARM_LINE_VFIQ, 0x100, SCR_FIQ, HCR_FMO },
        { ARM_LINE_IRQ, LINE_HCR_VI, DAIF_I, ARM_LINE_VIRQ, 0x80, SCR_IRQ, HCR_IMO },
    };
    uint32_t lines = arm_lines(c);
    uint64_t hcr;

    if (!lines)
        return (struct pending){ 0, 0 };
    for (unsigned n = 0; n < G_N_ELEMENTS(kind); n++) {
        if (lines >> kind[n].line & 1) {
            unsigned el = physical_target(c, kind[n].scr, kind[n].hcr, kind[n].mask, c->daif & kind[n].mask);

            if (el)
                return (struct pending){ el, kind[n].vector };
        }
    }
    hcr = arm_hcr(c);
    if (c->el > 1 || hcr & HCR_TGE)
        return (struct pending){ 0, 0 };
    for (unsigned n = 0; n < G_N_ELEMENTS(kind); n++) {
        bool on = lines >> kind[n].hcr_line & 1 || (kind[n].virt != 0xff && lines >> kind[n].virt & 1);

        if (on && hcr & kind[n].hcr && !(c->daif & kind[n].mask))
            return (struct pending){ 1, kind[n].vector };
    }
    return (struct pending){ 0, 0 };
}

/* D1.6.2: what ends a WFI, masked or not. */
static bool wakes(const struct arm_cpu *c)
{
    uint32_t lines = arm_lines(c);
    uint64_t hcr;

    if (!lines)
        return false;
    if (lines & (1u << ARM_LINE_IRQ | 1u << ARM_LINE_FIQ | 1u << ARM_LINE_SERROR))
        return true;
    hcr = arm_hcr(c);
    if (c->el > 1 || hcr & HCR_TGE)
        return false;
    return ((lines & (1u << ARM_LINE_VIRQ | 1u << LINE_HCR_VI)) && hcr & HCR_IMO) ||
           ((lines & (1u << ARM_LINE_VFIQ | 1u << LINE_HCR_VF)) && hcr & HCR_FMO) || (lines & 1u << LINE_HCR_VSE && hcr & HCR_AMO);
}

bool arm_has_work(const struct cpu *cpu)
{
    const struct arm_cpu *c = (const struct arm_cpu *)cpu;

    if (atomic_load(&c->sys.power) != ARM_POWER_ON)
        return false;
    return !c->halted || cpu->exception >= 0 || wakes(c) || atomic_load(&c->sys.wait_over);
}

static bool deliver_sync(struct arm_cpu *c)
{
    unsigned ec = esr_ec(c->exc_syndrome);

    if (esr_ec(c->exc_syndrome) == EC_DABT_LOWER || ec == EC_IABT_LOWER) {
        if (c->exc_target == 2 && c->exc_hpfar != UINT64_MAX)
            c->sys.hpfar = c->exc_hpfar;
    }
    c->exc_hpfar = UINT64_MAX;
    c->ss = arm_step_active(c) && c->sys.exc_return == c->cpu.pc && c->sys.mdscr & MDSCR_SS;     /* it did not complete: D2.11.5 */
    arm_take(c, c->exc_target, 0, c->exc_syndrome, c->exc_far, c->sys.exc_return);
    return true;
}

bool arm_deliver(struct cpu *cpu)
{
    struct arm_cpu *c = arm(cpu);
    struct pending p;

    arm_tlb_catch_up(c);
    c->halted = false;
    if (cpu->exception == ARM_EXC_SEMIHOSTING)
        return arm_semihosting(c);
    if (cpu->exception >= 0)
        return deliver_sync(c);
    p = pending_interrupt(c);
    if (p.el) {
        arm_take(c, p.el, p.vector, p.vector == 0x180 ? esr_make(EC_SERROR, 0) : 0, 0, cpu->pc);
        if (p.vector == 0x180 && p.el == 1 && c->sys.hcr & HCR_VSE && arm_hcr(c) & HCR_AMO) {
            if (arm_el_is_64(c, 1))
                c->sys.esr[1] = esr_make(EC_SERROR, (uint32_t)c->sys.vsesr & 0x1ffffff);
            c->sys.hcr &= ~HCR_VSE;
            arm_pending_update(c);
        } else if (p.vector == 0x180) {
            arm_set_line(c, ARM_LINE_SERROR, false);    /* an event, not a level */
        }
        return true;
    }
    return arm_step_active(c) && arm_debug_check(c);
}

/* ---- WFI, WFE: D1.6 */

enum { WAIT_WFI, WAIT_WFE, WAIT_WFIT, WAIT_WFET };

static void trap_wait(struct arm_cpu *c, unsigned kind, unsigned rn)
{
    bool wfe = kind & 1;
    uint64_t not_trapped = wfe ? SCTLR_NTWE : SCTLR_NTWI;
    uint32_t iss = BIT(24) | 14 << 20 | kind | (kind > 1 ? rn << 5 | BIT(2) : 0);

    if (c->el == 0 && !(c->sys.sctlr[arm_regime(c, 0)] & not_trapped))
        arm_raise_el(c, arm_sync_target(c), arm_el_is_64(c, arm_sync_target(c)) ? esr_make(EC_WFX, iss) : esr_make(EC_UNKNOWN, 0), 0);
    if (c->el < 2 && arm_hcr(c) & (wfe ? HCR_TWE : HCR_TWI))
        arm_raise_el(c, 2, esr_make(EC_WFX, iss), 0);
    if (c->el < 3 && has_el3(c) && has(c, AF_AArch64) && c->sys.scr & (wfe ? SCR_TWE : SCR_TWI))
        arm_raise_el(c, 3, esr_make(EC_WFX, iss), 0);
}

void arm_helper_wfi(struct cpu *cpu)
{
    struct arm_cpu *c = arm(cpu);

    if (wakes(c))
        return;
    trap_wait(c, WAIT_WFI, 0);
    atomic_store(&c->sys.wait_over, false);
    c->halted = true;
}

void arm_helper_yield(struct cpu *cpu) { cpu_pause(cpu); }

/* Stores of other CPUs that clear a monitor are not seen, so WFE never sleeps: it may end for any reason (D1.6.1). */
void arm_helper_wfe(struct cpu *cpu)
{
    struct arm_cpu *c = arm(cpu);

    if (!c->event) {
        trap_wait(c, WAIT_WFE, 0);
        cpu_stall(cpu);
    }
    c->event = false;
}

void arm_helper_wfxt(struct cpu *cpu, uint32_t what, uint64_t deadline)
{
    struct arm_cpu *c = arm(cpu);
    unsigned kind = what & 3, rn = what >> 8 & 31;

    if (kind == WAIT_WFET) {
        if (!c->event && arm_counter_virt(c) < deadline) {
            trap_wait(c, kind, rn);
            cpu_stall(cpu);
        }
        c->event = false;
        return;
    }
    if (wakes(c) || arm_counter_virt(c) >= deadline)
        return;
    trap_wait(c, kind, rn);
    atomic_store(&c->sys.wait_over, false);
    c->halted = true;
    arm_wait_until(c, deadline);
}

void arm_helper_sev(struct cpu *cpu)
{
    struct vm *vm = arm(cpu)->sys.vm;

    for (unsigned n = 0; vm && n < vm->nvcpus; n++)
        arm(vm->vcpus[n]->cpu)->event = true;
}

void arm_helper_sevl(struct cpu *cpu) { arm(cpu)->event = true; }

/* ---- faults that memory accesses raise */

_Noreturn static void raise_abort(struct arm_cpu *c, uint64_t va, enum mmu_access access, unsigned fsc)
{
    unsigned el = arm_sync_target(c);
    bool same = el == c->el;

    c->exc_hpfar = UINT64_MAX;
    c->sys.exc_domain = 0;
    if (access == ACCESS_EXEC)
        arm_raise_el(c, el, esr_make(same ? EC_IABT : EC_IABT_LOWER, fsc), va);
    arm_raise_el(c, el, esr_make(same ? EC_DABT : EC_DABT_LOWER, fsc | (access == ACCESS_WRITE ? BIT(6) : 0)), va);
}

__attribute__((noreturn)) void arm_unaligned(struct cpu *cpu, uint64_t va, enum mmu_access access)
{
    raise_abort(arm(cpu), arm(cpu)->aarch32 ? (uint32_t)va : va, access, FSC_ALIGNMENT);
}

/* Nobody answers: a synchronous external abort. */
void arm_bus_error(struct cpu *cpu, uint64_t va, uint64_t phys, enum mmu_access access)
{
    struct arm_cpu *c = arm(cpu);
    unsigned el = arm_sync_target(c);

    log_at(LOG_GUEST_ERRORS, "arm cpu %d: no device at physical address %#" G_GINT64_MODIFIER "x\n", cpu->index, phys);
    if (has_el3(c) && c->sys.scr & SCR_EA)
        el = 3;
    else if (c->el < 2 && arm_hcr(c) & HCR_TEA)
        el = 2;
    va = c->aarch32 ? (uint32_t)va : va;        /* see a32_mem.c */
    c->exc_hpfar = UINT64_MAX;
    c->sys.exc_domain = 0;
    if (access == ACCESS_EXEC)
        arm_raise_el(c, el, esr_make(el == c->el ? EC_IABT : EC_IABT_LOWER, FSC_EXTERNAL), va);
    arm_raise_el(c, el, esr_make(el == c->el ? EC_DABT : EC_DABT_LOWER, FSC_EXTERNAL | (access == ACCESS_WRITE ? BIT(6) : 0)), va);
}
