/* AArch32: modes and their banked registers, exceptions taken to it, returns. DDI 0487 G1. */
#include <glib.h>
#include <string.h>
#include "rhea/base/log.h"
#include "system.h"

/* ---- modes and banks: G1.9 */

enum arm_bank arm_bank_of(unsigned mode)
{
    switch (mode) {
    case M_FIQ: return BANK_FIQ;
    case M_IRQ: return BANK_IRQ;
    case M_SVC: return BANK_SVC;
    case M_MON: return BANK_MON;
    case M_ABT: return BANK_ABT;
    case M_HYP: return BANK_HYP;
    case M_UND: return BANK_UND;
    default:    return BANK_USR;
    }
}

static bool mode_valid(const struct arm_cpu *c, unsigned mode)
{
    switch (mode) {
    case M_USR: case M_FIQ: case M_IRQ: case M_SVC: case M_ABT: case M_UND: case M_SYS: return true;
    case M_HYP: return has_el2(c) && (c->el == 3 ? c->sys.scr & SCR_NS || c->mode32 == M_MON : c->el >= 2 || !has_el3(c));
    case M_MON: return has_el3(c) && !has(c, AF_AArch64) && arm_is_secure(c);
    default:    return false;
    }
}

/* SPSR_svc, SPSR_hyp, SPSR_mon are SPSR_EL1, EL2, EL3. */
uint64_t *arm_spsr32(struct arm_cpu *c, unsigned mode)
{
    switch (mode) {
    case M_USR: case M_SYS: return NULL;
    case M_SVC: return &c->sys.spsr[1];
    case M_HYP: return &c->sys.spsr[2];
    case M_MON: return &c->sys.spsr[3];
    default:    return &c->sys.spsr32[arm_bank_of(mode)];
    }
}

static void regs_copy(uint64_t *x, uint32_t *bank, unsigned n, bool save)
{
    for (unsigned i = 0; i < n; i++) {
        if (save)
            bank[i] = (uint32_t)x[i];
        else
            x[i] = bank[i];
    }
}

/* Hyp has a stack pointer of its own but uses User mode's LR. */
static enum arm_bank lr_bank(enum arm_bank b) { return b == BANK_HYP ? BANK_USR : b; }

void arm_set_mode32(struct arm_cpu *c, unsigned mode)
{
    struct arm_system *s = &c->sys;
    enum arm_bank from = arm_bank_of(c->mode32), to = arm_bank_of(mode);

    if (from != to) {
        s->bank_r13[from] = (uint32_t)c->x[13];
        s->bank_r14[lr_bank(from)] = (uint32_t)c->x[14];
        if (from == BANK_FIQ || to == BANK_FIQ) {
            regs_copy(&c->x[8], from == BANK_FIQ ? s->fiq_r8_12 : s->usr_r8_12, 5, true);
            regs_copy(&c->x[8], to == BANK_FIQ ? s->fiq_r8_12 : s->usr_r8_12, 5, false);
        }
        c->x[13] = s->bank_r13[to];
        c->x[14] = s->bank_r14[lr_bank(to)];
    }
    c->mode32 = (uint8_t)mode;
    c->el = (uint8_t)arm_el_of_mode32(c, mode);
    arm_pmu_level(c);
}

/* D1.20.2: which X register is which banked one. User mode's are in place. */
static const struct { uint8_t x, bank; bool lr; } x_banks[] = {
    { 15, BANK_HYP, false }, { 16, BANK_IRQ, true }, { 17, BANK_IRQ, false }, { 18, BANK_SVC, true }, { 19, BANK_SVC, false },
    { 20, BANK_ABT, true }, { 21, BANK_ABT, false }, { 22, BANK_UND, true }, { 23, BANK_UND, false }, { 29, BANK_FIQ, false },
    { 30, BANK_FIQ, true },
};

void arm_enter32(struct arm_cpu *c)
{
    struct arm_system *s = &c->sys;

    for (unsigned n = 0; n < G_N_ELEMENTS(x_banks); n++)
        *(x_banks[n].lr ? &s->bank_r14[x_banks[n].bank] : &s->bank_r13[x_banks[n].bank]) = (uint32_t)c->x[x_banks[n].x];
    regs_copy(&c->x[24], s->fiq_r8_12, 5, true);
    for (unsigned n = 0; n < 15; n++)
        c->x[n] = (uint32_t)c->x[n];
    c->aarch32 = true;
    c->mode32 = M_USR;
    c->e32 = c->j32 = c->q32 = c->thumb = false;
    c->it = c->ge = 0;
    c->uao = c->tco = false;
    c->btype = 0;
}

void arm_leave32(struct arm_cpu *c)
{
    struct arm_system *s = &c->sys;
    uint8_t el = c->el;

    arm_set_mode32(c, M_USR);
    c->el = el;
    for (unsigned n = 0; n < 15; n++)
        c->x[n] = (uint32_t)c->x[n];
    for (unsigned n = 0; n < G_N_ELEMENTS(x_banks); n++)
        c->x[x_banks[n].x] = x_banks[n].lr ? s->bank_r14[x_banks[n].bank] : s->bank_r13[x_banks[n].bank];
    regs_copy(&c->x[24], s->fiq_r8_12, 5, false);
    c->aarch32 = c->thumb = false;
    c->it = 0;
    c->spsel = 1;
}

/* ---- CPSR */

static void set_flags32(struct arm_cpu *c, uint32_t v)
{
    arm_pstate_set_nzcv(c, v & PS_NZCV);
    c->q32 = v & CPSR_Q;
    c->ge = arm_ge_bytes(v >> 16);
}

static void set_rest32(struct arm_cpu *c, uint32_t v)
{
    c->it = (v >> 25 & 3) | (v >> 10 & 63) << 2;
    c->thumb = v & CPSR_T;
    c->e32 = v & CPSR_E;
    c->daif = v >> 6 & 7;
    c->j32 = v & CPSR_J && !has(c, AF_V8);
    c->pan = v & CPSR_PAN && has(c, AF_PAN);
    c->dit = v & CPSR_DIT && has(c, AF_DIT);
    c->ssbs = v & CPSR_SSBS && has(c, AF_SSBS);
}

void arm_set_cpsr_raw(struct arm_cpu *c, uint32_t v)
{
    set_flags32(c, v);
    set_rest32(c, v);
    c->il = v & CPSR_IL;
    arm_set_mode32(c, v & 31);
}

uint32_t arm_helper_get_cpsr(struct cpu *cpu)
{
    struct arm_cpu *c = arm(cpu);
    uint32_t v = arm_spsr_compose(c, false);

    /* MRS reads IT, J, T, IL as zero (F5.1.117); User mode sees flags, GE, E alone as its own. */
    return v & ~(uint32_t)(0x0600fc00 | CPSR_J | CPSR_T | CPSR_IL);
}

/* CPSRWriteByInstr(): J, T, IT, IL do not change by MSR; User mode changes flags alone. */
void arm_helper_set_cpsr(struct cpu *cpu, uint32_t value, uint32_t mask)
{
    struct arm_cpu *c = arm(cpu);
    uint32_t old = arm_spsr_compose(c, false), v;

    mask &= ~(uint32_t)(0x0600fc00 | CPSR_J | CPSR_T | CPSR_IL);
    if (c->mode32 == M_USR)
        mask &= (uint32_t)(PS_NZCV | CPSR_Q | 0xf0000 | CPSR_E | (has(c, AF_SSBS) ? CPSR_SSBS : 0) | CPSR_DIT);
    if (has_el3(c) && !arm_is_secure(c) && !has_el2(c) && !has(c, AF_AArch64)) {
        if (!(c->sys.scr & BIT(5)))
            mask &= ~(uint32_t)CPSR_A;
        if (!(c->sys.scr & BIT(4)))
            mask &= ~(uint32_t)CPSR_F;
    }
    v = (old & ~mask) | (value & mask);
    if ((v & 31) != (old & 31)) {
        unsigned m = v & 31;

        /* To a mode that is not there, or into or out of Hyp: illegal. */
        if (!mode_valid(c, m | 16) || !(m & 16) || arm_el_of_mode32(c, m) > c->el ||
            ((m == M_HYP) != (c->mode32 == M_HYP) && c->mode32 != M_MON)) {
            if (has(c, AF_V8))
                c->il = true;
            else
                log_at(LOG_GUEST_ERRORS, "arm cpu %d: change to mode %#x is unpredictable\n", cpu->index, m);
            v = (v & ~31u) | (old & 31);
        }
    }
    set_flags32(c, v);
    c->e32 = v & CPSR_E;
    c->daif = v >> 6 & 7;
    c->pan = v & CPSR_PAN && has(c, AF_PAN);
    c->dit = v & CPSR_DIT && has(c, AF_DIT);
    c->ssbs = v & CPSR_SSBS && has(c, AF_SSBS);
    if ((v & 31) != c->mode32)
        arm_set_mode32(c, v & 31);
}

uint32_t arm_helper_get_spsr(struct cpu *cpu)
{
    struct arm_cpu *c = arm(cpu);
    uint64_t *p = arm_spsr32(c, c->mode32);

    if (!p)
        arm_raise_undefined(c);
    return (uint32_t)*p;
}

void arm_helper_set_spsr(struct cpu *cpu, uint32_t value, uint32_t mask)
{
    struct arm_cpu *c = arm(cpu);
    uint64_t *p = arm_spsr32(c, c->mode32);

    if (!p)
        arm_raise_undefined(c);
    *p = ((uint32_t)*p & ~mask) | (value & mask);
}

/* ---- returns */

static uint64_t return_to(struct arm_cpu *c, uint32_t pc, uint32_t spsr)
{
    unsigned m = spsr & 31, el;

    c->ex_bytes = 0;
    c->event = true;
    el = mode_valid(c, m) ? arm_el_of_mode32(c, m) : 4;
    if (el > c->el || (m == M_HYP && c->mode32 != M_HYP && c->mode32 != M_MON) || (el == 1 && arm_hcr(c) & HCR_TGE && c->el == 2)) {
        /* Illegal: mode stays, IL is set (v8); G1.13.2 */
        spsr = (spsr & ~31u) | c->mode32 | (has(c, AF_V8) ? CPSR_IL : 0);
        log_at(LOG_GUEST_ERRORS, "arm cpu %d: illegal return to mode %#x\n", c->cpu.index, m);
    }
    arm_set_cpsr_raw(c, spsr);
    return c->cpu.pc = spsr & CPSR_T ? pc & ~UINT32_C(1) : pc & ~UINT32_C(3);
}

uint64_t arm_helper_rfe(struct cpu *cpu, uint32_t pc, uint32_t cpsr) { return return_to(arm(cpu), pc, cpsr); }

uint64_t arm_helper_exc_return32(struct cpu *cpu, uint32_t pc)
{
    struct arm_cpu *c = arm(cpu);
    uint64_t *p = arm_spsr32(c, c->mode32);

    if (!p)
        arm_raise_undefined(c);
    return return_to(c, pc, (uint32_t)*p);
}

/* ---- registers of other modes */

static uint32_t bank_get(struct arm_cpu *c, unsigned mode, unsigned r)
{
    enum arm_bank now = arm_bank_of(c->mode32), b = arm_bank_of(mode);
    struct arm_system *s = &c->sys;

    if (r >= 8 && r <= 12) {
        if ((now == BANK_FIQ) == (b == BANK_FIQ))
            return (uint32_t)c->x[r];
        return b == BANK_FIQ ? s->fiq_r8_12[r - 8] : s->usr_r8_12[r - 8];
    }
    if (r == 13)
        return now == b ? (uint32_t)c->x[13] : s->bank_r13[b];
    if (r == 14)
        return lr_bank(now) == lr_bank(b) ? (uint32_t)c->x[14] : s->bank_r14[lr_bank(b)];
    return r < 8 ? (uint32_t)c->x[r] : 0;
}

static void bank_set(struct arm_cpu *c, unsigned mode, unsigned r, uint32_t v)
{
    enum arm_bank now = arm_bank_of(c->mode32), b = arm_bank_of(mode);
    struct arm_system *s = &c->sys;

    if (r < 8)
        c->x[r] = v;
    else if (r <= 12 && (now == BANK_FIQ) == (b == BANK_FIQ))
        c->x[r] = v;
    else if (r <= 12)
        *(b == BANK_FIQ ? &s->fiq_r8_12[r - 8] : &s->usr_r8_12[r - 8]) = v;
    else if (r == 13)
        *(now == b ? (uint32_t *)&c->x[13] : &s->bank_r13[b]) = v;
    else if (r == 14)
        *(lr_bank(now) == lr_bank(b) ? (uint32_t *)&c->x[14] : &s->bank_r14[lr_bank(b)]) = v;
}

uint32_t arm_helper_bank_read(struct cpu *cpu, uint32_t mode, uint32_t r) { return bank_get(arm(cpu), mode & 31, r & 15); }
void arm_helper_bank_write(struct cpu *cpu, uint32_t mode, uint32_t r, uint32_t v) { bank_set(arm(cpu), mode & 31, r & 15, v); }

/* F5.1.119: SYSm names a register of some mode. *r: 8 to 14, 16 SPSR, 17 ELR_hyp. false: unpredictable or not accessible. */
static bool banked_register(const struct arm_cpu *c, unsigned sysm, bool spsr, unsigned *mode, unsigned *r)
{
    static const uint8_t pairs[] = { M_IRQ, M_SVC, M_ABT, M_UND };

    if (sysm < 7 && !spsr) {
        *mode = M_USR;
        *r = 8 + sysm;
        if (*r < 13)
            return c->mode32 == M_FIQ;
        return c->mode32 != M_USR && c->mode32 != M_SYS && !(c->mode32 == M_HYP && *r == 14);
    }
    if (sysm >= 8 && sysm < 15 && (!spsr || sysm == 14)) {
        *mode = M_FIQ;
        *r = spsr ? 16 : sysm;
    } else if (sysm >= 16 && sysm < 24 && (!spsr || !(sysm & 1))) {
        *mode = pairs[(sysm - 16) / 2];
        *r = spsr ? 16 : sysm & 1 ? 13 : 14;
    } else if (sysm >= 28 && (!spsr || !(sysm & 1))) {
        *mode = sysm < 30 ? M_MON : M_HYP;
        *r = spsr ? 16 : sysm & 1 ? 13 : sysm == 28 ? 14 : 17;
        if (*mode == M_MON)
            return has_el3(c) && !has(c, AF_AArch64) && arm_is_secure(c) && c->mode32 != M_MON;
        /* SP_hyp, SPSR_hyp from Monitor alone, ELR_hyp from Hyp too */
        return has_el2(c) && (c->mode32 == M_MON || (c->mode32 == M_HYP && *r == 17));
    } else {
        return false;
    }
    return c->mode32 != M_USR && c->mode32 != *mode;
}

/* AArch64.MonitorModeTrap(): Monitor mode's registers from Secure EL1 where EL3 is AArch64. */
static void monitor_trap(struct arm_cpu *c, unsigned sysm)
{
    if ((sysm == 28 || sysm == 29) && c->el == 1 && arm_is_secure(c) && arm_el_is_64(c, 3))
        arm_raise_el(c, 3, esr_make(EC_UNKNOWN, 0), 0);
}

uint32_t arm_helper_mrs_banked(struct cpu *cpu, uint32_t raw)
{
    struct arm_cpu *c = arm(cpu);
    bool spsr = raw >> (c->thumb ? 20 : 22) & 1;
    unsigned sysm = (raw >> 16 & 15) | (raw >> (c->thumb ? 4 : 8) & 1) << 4, mode, r;

    monitor_trap(c, sysm);
    if (!banked_register(c, sysm, spsr, &mode, &r))
        arm_raise_undefined(c);
    return r == 16 ? (uint32_t)*arm_spsr32(c, mode) : r == 17 ? (uint32_t)c->sys.elr[2] : bank_get(c, mode, r);
}

void arm_helper_msr_banked(struct cpu *cpu, uint32_t raw, uint32_t v)
{
    struct arm_cpu *c = arm(cpu);
    bool spsr = raw >> (c->thumb ? 20 : 22) & 1;
    unsigned m1 = raw >> (c->thumb ? 8 : 16) & 15, sysm = m1 | (raw >> (c->thumb ? 4 : 8) & 1) << 4, mode, r;

    monitor_trap(c, sysm);
    if (!banked_register(c, sysm, spsr, &mode, &r))
        arm_raise_undefined(c);
    if (r == 16)
        *arm_spsr32(c, mode) = v;
    else if (r == 17)
        c->sys.elr[2] = v;
    else
        bank_set(c, mode, r, v);
}

/* ---- exceptions taken to AArch32: G1.12, G1.14 */

/* Short-descriptor fault status of a long one: G8.2.65, table G5-31. */
uint32_t arm_short_status(unsigned fsc, unsigned domain)
{
    static const uint8_t map[64] = {
        [0x05] = 5, [0x06] = 7, [0x09] = 3, [0x0a] = 6, [0x0d] = 13, [0x0e] = 15, [0x10] = 8, [0x11] = 0x16, [0x15] = 12,
        [0x16] = 14, [0x21] = 1, [0x22] = 2, [0x3d] = 9, [0x3e] = 11, [0x04] = 5, [0x07] = 7, [0x0f] = 15, [0x0b] = 6,
    };
    unsigned fs = map[fsc & 63];

    return (fs & 15) | (fs >> 4 & 1) << 10 | (domain & 15) << 4;
}

static uint32_t fault_status(const struct arm_cpu *c, unsigned bank, uint32_t syndrome, bool data)
{
    unsigned fsc = syndrome & 63;
    uint32_t v = c->sys.tcr[bank] & BIT(31) ? BIT(9) | fsc : arm_short_status(fsc, data ? c->sys.exc_domain : 0);

    return v | (data && syndrome & BIT(6) ? BIT(11) : 0) | (syndrome & BIT(9) ? BIT(12) : 0);
}

struct entry32 { uint8_t mode, vector, lr_arm, lr_thumb; bool mask_a, mask_f; };        /* lr: added to the preferred return address */

static struct entry32 entry_of(unsigned vector, unsigned ec)
{
    if (vector == 0x80)
        return (struct entry32){ M_IRQ, 0x18, 4, 4, true, false };
    if (vector == 0x100)
        return (struct entry32){ M_FIQ, 0x1c, 4, 4, true, true };
    if (vector == 0x180)
        return (struct entry32){ M_ABT, 0x10, 8, 8, true, false };
    switch (ec) {
    case EC_SVC32:
        return (struct entry32){ M_SVC, 0x08, 0, 0, false, false };
    case EC_IABT: case EC_IABT_LOWER: case EC_BKPT: case EC_BKPT_LOWER: case EC_BKPT32: case EC_PC_ALIGN: case EC_VECTOR:
        return (struct entry32){ M_ABT, 0x0c, 4, 4, true, false };
    case EC_DABT: case EC_DABT_LOWER: case EC_WATCH: case EC_WATCH_LOWER:
        return (struct entry32){ M_ABT, 0x10, 8, 8, true, false };
    case EC_SMC32:
        return (struct entry32){ M_MON, 0x08, 0, 0, true, true };
    default:
        return (struct entry32){ M_UND, 0x04, 4, 2, false, false };
    }
}

static void common_entry(struct arm_cpu *c, unsigned mode, unsigned el)
{
    uint32_t cpsr = arm_spsr_compose(c, false);
    uint64_t sctlr = c->sys.sctlr[el], *spsr;

    arm_set_mode32(c, mode);
    c->el = (uint8_t)el;
    spsr = arm_spsr32(c, mode);
    if (spsr)
        *spsr = cpsr;
    c->it = 0;
    c->il = c->j32 = false;
    c->thumb = sctlr & SCTLR_TE;
    c->e32 = sctlr & SCTLR_EE;
    if (has(c, AF_SSBS))
        c->ssbs = sctlr & BIT(31);
}

/* The HSR's form of a syndrome: debug exceptions are aborts there (G8.2.74), and Armv7 has no IL where none is meant. */
static uint32_t hyp_syndrome(const struct arm_cpu *c, uint32_t syndrome, bool lower)
{
    unsigned ec = esr_ec(syndrome);

    if (ec == EC_BKPT32 || ec == EC_VECTOR || ec == EC_BKPT || ec == EC_BKPT_LOWER)
        return esr_make(lower ? EC_IABT_LOWER : EC_IABT, FSC_DEBUG);
    if (ec == EC_WATCH || ec == EC_WATCH_LOWER)
        return esr_make(lower ? EC_DABT_LOWER : EC_DABT, FSC_DEBUG | (syndrome & BIT(6)));
    if (!has(c, AF_V8) && (ec == EC_UNKNOWN || ec == EC_IABT_LOWER || ec == EC_IABT ||
                           ((ec == EC_DABT_LOWER || ec == EC_DABT) && !(syndrome & BIT(24)))))
        syndrome &= ~(uint32_t)ESR_IL;
    return syndrome;
}

static void take_hyp(struct arm_cpu *c, unsigned vector, uint32_t syndrome, uint64_t far, uint64_t ret)
{
    struct entry32 e = entry_of(vector, esr_ec(syndrome));
    bool lower = c->mode32 != M_HYP;
    unsigned offset = vector ? e.vector : lower ? 0x14 : esr_ec(syndrome) == EC_HVC32 ? 8 : e.vector;

    common_entry(c, M_HYP, 2);
    c->sys.elr[2] = (uint32_t)ret;
    if (!vector) {
        c->sys.esr[2] = hyp_syndrome(c, syndrome, lower);
        if (e.vector == 0x0c && esr_ec(syndrome) != EC_BKPT32)
            c->sys.far[2] = (c->sys.far[2] & UINT32_MAX) | far << 32;
        else if (e.vector == 0x10)
            c->sys.far[2] = (c->sys.far[2] & ~(uint64_t)UINT32_MAX) | (uint32_t)far;
    }
    if (!has_el3(c) || !(c->sys.scr & SCR_EA))
        c->daif |= DAIF_A;
    if (!has_el3(c) || !(c->sys.scr & SCR_IRQ))
        c->daif |= DAIF_I;
    if (!has_el3(c) || !(c->sys.scr & SCR_FIQ))
        c->daif |= DAIF_F;
    c->cpu.pc = (uint32_t)((c->sys.vbar[2] & ~UINT64_C(31)) + offset);
}

/* Interrupts and external aborts that SCR routes there, and SMC. */
static bool goes_to_monitor(const struct arm_cpu *c, unsigned vector, uint32_t syndrome)
{
    unsigned ec = esr_ec(syndrome), fsc = syndrome & 63;
    bool external = (ec == EC_DABT || ec == EC_DABT_LOWER || ec == EC_IABT || ec == EC_IABT_LOWER) && fsc >= 0x10 && fsc < 0x18;

    if (vector)
        return c->sys.scr & (vector == 0x80 ? SCR_IRQ : vector == 0x100 ? SCR_FIQ : SCR_EA);
    return ec == EC_SMC32 || (external && c->sys.scr & SCR_EA);
}

void arm_take32(struct arm_cpu *c, unsigned el, unsigned vector, uint32_t syndrome, uint64_t far, uint64_t ret)
{
    struct entry32 e = entry_of(vector, esr_ec(syndrome));
    bool monitor = el == 3 && goes_to_monitor(c, vector, syndrome), thumb = c->thumb;
    uint64_t base;

    if (el == 2) {
        take_hyp(c, vector, syndrome, far, ret);
        return;
    }
    if (e.vector == 0x10 || e.vector == 0x0c) {
        uint32_t status = fault_status(c, el, vector ? FSC_EXTERNAL + 1 : syndrome, e.vector == 0x10);

        if (e.vector == 0x10) {
            c->sys.esr[el] = status;            /* the DFSR is architecturally mapped to it */
            if (!vector)
                c->sys.far[el] = (c->sys.far[el] & ~(uint64_t)UINT32_MAX) | (uint32_t)far;
        } else {
            bool bkpt = esr_ec(syndrome) == EC_BKPT32;  /* has no address */

            c->sys.ifsr32[el] = bkpt ? fault_status(c, el, FSC_DEBUG, false) : status;
            if (!bkpt)
                c->sys.far[el] = (c->sys.far[el] & UINT32_MAX) | far << 32;
        }
    }
    if (monitor && c->mode32 == M_MON)
        c->sys.scr &= ~SCR_NS;
    common_entry(c, monitor ? M_MON : e.mode, el);
    c->x[14] = (uint32_t)(ret + (thumb ? e.lr_thumb : e.lr_arm));
    c->daif |= DAIF_I | (e.mask_a || monitor ? DAIF_A : 0) | (e.mask_f || monitor ? DAIF_F : 0);
    if (has(c, AF_PAN) && !monitor && !(c->sys.sctlr[el] & SCTLR_SPAN))
        c->pan = true;
    if (monitor)
        base = c->sys.mvbar & ~UINT64_C(31);
    else
        base = c->sys.sctlr[el] & SCTLR_V ? 0xffff0000 : c->sys.vbar[el] & ~UINT64_C(31);
    c->cpu.pc = (uint32_t)(base + e.vector);
}
