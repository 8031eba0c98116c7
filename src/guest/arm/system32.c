/* AArch32's view of the system registers: MCR, MRC, MCRR, MRRC of cp15 and cp14 as a second table onto the same storage.
 * DDI 0487 G8.2, G8.3; DDI 0406 B4, B6 for what only Armv7 has. */
#include <glib.h>
#include <string.h>
#include "rhea/base/log.h"
#include "rhea/vm/vm.h"
#include "system_regs.h"

#define CP(opc1, crn, crm, opc2) ((crn) << 10 | (opc1) << 7 | (crm) << 3 | (opc2))
#define CP64(opc1, crm) ((opc1) << 4 | (crm))
#define K ARM_SYSREG
#define F(f) offsetof(struct arm_cpu, sys.f)

/* What a row is beside a field. BANKED: an array by EL of which [1] or, Secure, [3] is meant. HIGH: its upper half.
 * THREAD_ID: the Secure one has a field of its own. BY_KEY: `at` is the key of the AArch64 register whose row reads and writes it. */
enum { BANKED = 1, HIGH = 2, BY_KEY = 4, NOP = 8, ZERO = 16, ID = 32, FLUSH = 64, THREAD_ID = 128 };
enum { MON = 3 };
enum { SECURE_ONLY = 2, PL0_CHECK = 4, NSACR_CHECK = 8, V8_ONLY = 16, EL3_TRAP = 32 /* Secure EL1 is kept from it by an AArch64 EL3: G1.20.3 */ };

struct row32 {
    uint16_t key;
    uint8_t r, w;               /* lowest EL; SYSREG_NEVER */
    uint8_t kind, trap, feature, where;
    uint32_t at;
    uint64_t (*read)(struct arm_cpu *c, const struct row32 *r);
    void (*write)(struct arm_cpu *c, const struct row32 *r, uint64_t v);
};

/* G5.1.2: registers banked by security where EL3 is AArch32. */
static unsigned bank(const struct arm_cpu *c) { return has_el3(c) && !has(c, AF_AArch64) && !(c->sys.scr & SCR_NS) ? 3 : 1; }

static uint64_t *field_of(struct arm_cpu *c, const struct row32 *r)
{
    if (r->kind & THREAD_ID && bank(c) == 3)
        return r->at == F(tpidrro) ? &c->sys.tpidrro_secure : r->at == F(tpidr[1]) ? &c->sys.tpidr_secure[1] : &c->sys.tpidr_secure[0];
    return (uint64_t *)((char *)c + r->at) + (r->kind & BANKED ? bank(c) : 0);
}

static uint64_t half_get(uint64_t v, bool high) { return high ? v >> 32 : (uint32_t)v; }
static uint64_t half_put(uint64_t old, uint64_t v, bool high)
{
    return high ? (uint32_t)old | v << 32 : (old & ~(uint64_t)UINT32_MAX) | (uint32_t)v;
}

/* ---- registers with functions */

static void write_sctlr32(struct arm_cpu *c, const struct row32 *r, uint64_t v)
{
    uint64_t *p = field_of(c, r), changed = *p ^ v;

    *p = v;
    if (changed & (SCTLR_M | SCTLR_WXN | SCTLR_UWXN | SCTLR_EE | SCTLR_TRE | SCTLR_AFE))
        arm_regs_flush(c);
}

static void write_asid(struct arm_cpu *c, const struct row32 *r, uint64_t v)
{
    uint64_t *p = field_of(c, r);

    *p = half_put(*p, v, false);
    arm_asid_update(c);
}

/* A short-descriptor TTBR write changes tables without a change of ASID; so does many a system's boot. */
static void write_ttbr32(struct arm_cpu *c, const struct row32 *r, uint64_t v)
{
    uint64_t *p = field_of(c, r);

    if (*p == v)
        return;
    *p = v;
    cpu_tlb_flush_local(&c->cpu, ~0u);
    arm_asid_update(c);
}

static void write_ttbcr(struct arm_cpu *c, const struct row32 *r, uint64_t v)
{
    uint64_t *p = field_of(c, r);

    if (!has(c, AF_LPAE))
        v &= 0x37;
    *p = half_put(*p, v, false);
    arm_regs_flush(c);
    arm_asid_update(c);
}

static void write_vbar32(struct arm_cpu *c, const struct row32 *r, uint64_t v) { *field_of(c, r) = v & ~UINT64_C(31); }

static void write_scr32(struct arm_cpu *c, const struct row32 *r, uint64_t v)
{
    uint64_t changed = c->sys.scr ^ v;

    c->sys.scr = v & 0x33ff;
    if (changed & SCR_NS)
        arm_regs_flush(c);
}

static void write_hcr32(struct arm_cpu *c, const struct row32 *r, uint64_t v)
{
    uint64_t old = c->sys.hcr;

    if (!has(c, AF_V8))
        v &= 0x0fffffff;                /* HCD, TRVM, ... came with Armv8 */
    c->sys.hcr = half_put(old, v, r->kind & HIGH);
    arm_pending_update(c);
    if ((old ^ c->sys.hcr) & (HCR_VM | HCR_PTW | HCR_DC | HCR_TGE))
        arm_regs_flush(c);
}

/* CPACR: fields that NSACR denies to Non-secure state read as zero. */
static uint64_t read_cpacr(struct arm_cpu *c, const struct row32 *r)
{
    uint64_t v = c->sys.cpacr;

    if (has_el3(c) && !has(c, AF_AArch64) && !arm_is_secure(c)) {
        if (!(c->sys.nsacr & BIT(10)))
            v &= ~UINT64_C(0x300000);
        if (!(c->sys.nsacr & BIT(11)))
            v &= ~UINT64_C(0xc00000);
    }
    return v;
}
static void write_cpacr(struct arm_cpu *c, const struct row32 *r, uint64_t v) { c->sys.cpacr = v & 0xf0f00000; }

static uint64_t read_nsacr(struct arm_cpu *c, const struct row32 *r) { return has_el3(c) && !has(c, AF_AArch64) ? c->sys.nsacr : 0xc00; }

static uint64_t read_ccsidr(struct arm_cpu *c, const struct row32 *r) { return arm_ccsidr(c, (unsigned)c->sys.csselr[bank(c)]); }

static uint64_t read_midr(struct arm_cpu *c, const struct row32 *r)
{
    bool mp = r->at;
    uint64_t v = c->el == 1 && arm_el2_enabled(c) ? mp ? c->sys.vmpidr : c->sys.vpidr : arm_id(c, K(3, 0, 0, 0, mp ? 5 : 0));

    return (uint32_t)v;
}

/* L2CTLR of Cortex-A7, A15: the number of processors. */
static uint64_t read_l2ctlr(struct arm_cpu *c, const struct row32 *r) { return (uint64_t)(c->sys.vm->nvcpus - 1) << 24; }

static void op_tlbi(struct arm_cpu *c, const struct row32 *r, uint64_t v)
{
    /* `at`: key of the operation. The address is in place, where the AArch64 form wants its page number; the ASID is at the bottom. */
    bool by_asid = (r->at & 7) == 2;

    arm_tlbi(c, r->at, by_asid ? v << 48 : (uint64_t)(uint32_t)v >> 12);
}

static uint64_t short_par(struct arm_cpu *c)
{
    uint64_t p = c->sys.par[1];

    if (p & 1) {                        /* PAR.FS: bits 12, 10 and 3:0 of the DFSR that the fault would have given */
        uint32_t status = arm_short_status(p >> 1 & 63, 0);

        return 1 | (status & 15) << 1 | (status >> 10 & 1) << 5;
    }
    return (p & 0xfffff000) | (p >> 7 & 3 ? BIT(7) : 0);
}

/* ATS1CPR and kin: opc2 bit 0 write, bit 1 user, bit 2 both stages. G5.13 */
static void op_at(struct arm_cpu *c, const struct row32 *r, uint64_t v)
{
    unsigned op2 = r->at & 7, b = bank(c), user = op2 & 2;
    unsigned mmu = op2 & 4 || b == 1 ? user ? ARM_MMU_EL0 : ARM_MMU_EL1 : user ? ARM_MMU_EL30_0 : ARM_MMU_EL3;

    if (r->at & 16)
        mmu = ARM_MMU_EL2;
    arm_translate_address(c, (uint32_t)v, mmu, op2 & 1, op2 & 4);
    if (!(c->sys.tcr[arm_mmu_regime(c, mmu)] & BIT(31)) && mmu != ARM_MMU_EL2 && !arm_el_is_64(c, 1))
        c->sys.par[1] = short_par(c);
    c->sys.par[b] = c->sys.par[1];
}

/* Timers: `at` is which, and 8: TVAL. */
static uint64_t read_timer32(struct arm_cpu *c, const struct row32 *r)
{
    enum arm_timer t = (enum arm_timer)(r->at & 7);

    if (t == ARM_TIMER_PHYS && bank(c) == 3)
        t = ARM_TIMER_SEC;
    return r->at & 16 ? c->sys.timer[t].cval : r->at & 8 ? arm_timer_tval(c, t) : arm_timer_ctl(c, t);
}

static void write_timer32(struct arm_cpu *c, const struct row32 *r, uint64_t v)
{
    enum arm_timer t = (enum arm_timer)(r->at & 7);

    if (t == ARM_TIMER_PHYS && bank(c) == 3)
        t = ARM_TIMER_SEC;
    arm_timer_set(c, t, r->at & 16 ? 1 : r->at & 8 ? 2 : 0, v);
}

static uint64_t read_cntpct32(struct arm_cpu *c, const struct row32 *r) { return arm_counter(c); }
static uint64_t read_cntvct32(struct arm_cpu *c, const struct row32 *r) { return arm_counter_virt(c); }
static uint64_t read_cbar(struct arm_cpu *c, const struct row32 *r) { return c->sys.config.cbar; }

static uint64_t read_didr(struct arm_cpu *c, const struct row32 *r)
{
    return UINT64_C(0x3515f005) & ~(has(c, AF_V8) ? 0 : UINT64_C(0x10000)); /* 6 breakpoints, 4 watchpoints, v7.1 or v8 debug */
}

/* ---- cp15, 32 bits */

#define RW(l) .r = l, .w = l
#define RO(l) .r = l, .w = SYSREG_NEVER
#define WO(l) .r = SYSREG_NEVER, .w = l
/* The last-level forms and stage 2's by address came with Armv8. */
#define TLBI(opc1, crm, opc2, lev, op1_64, crm_64, op2_64) \
    { CP(opc1, 8, crm, opc2), WO(lev), .where = opc2 == 5 || opc2 == 7 || crm == 0 || crm == 4 ? V8_ONLY : 0, .trap = lev == 1 ? T_TTLB : 0, .at = K(1, op1_64, 8, crm_64, op2_64), .write = op_tlbi }
#define CACHE(crm, opc2, tr) { CP(0, 7, crm, opc2), WO(1), .kind = NOP, .trap = tr }

/* PMEVCNTR, PMEVTYPER */
#define PM_EVENT(n) \
    { CP(0, 14, 8, n), RW(0), .kind = BY_KEY, .feature = AF_PMU, .trap = T_PM, .where = PL0_CHECK, .at = K(3, 3, 14, 8, n) }, \
    { CP(0, 14, 12, n), RW(0), .kind = BY_KEY, .feature = AF_PMU, .trap = T_PM, .where = PL0_CHECK, .at = K(3, 3, 14, 12, n) }
static const struct row32 cp15[] = {
    { CP(0, 0, 0, 0), RO(1), .at = 0, .read = read_midr },
    { CP(0, 0, 0, 1), RO(1), .kind = BY_KEY, .trap = T_TID2, .at = K(3, 3, 0, 0, 1) },
    { CP(0, 0, 0, 2), RO(1), .kind = ZERO, .trap = T_TID1 }, { CP(0, 0, 0, 3), RO(1), .kind = ZERO, .trap = T_TID1 },
    { CP(0, 0, 0, 4), RO(1), .at = 0, .read = read_midr }, { CP(0, 0, 0, 7), RO(1), .at = 0, .read = read_midr },
    { CP(0, 0, 0, 5), RO(1), .at = 1, .read = read_midr },
    { CP(0, 0, 0, 6), RO(1), .kind = ID, .trap = T_TID1, .at = K(3, 0, 0, 0, 6) },
    { CP(1, 0, 0, 0), RO(1), .trap = T_TID2, .read = read_ccsidr },
    { CP(1, 0, 0, 1), RO(1), .kind = ID, .trap = T_TID2, .at = K(3, 1, 0, 0, 1) },
    { CP(1, 0, 0, 7), RO(1), .kind = ZERO, .trap = T_TID1 },
    { CP(2, 0, 0, 0), RW(1), .kind = BANKED, .trap = T_TID2, .at = F(csselr) },
    { CP(4, 0, 0, 0), RW(2), .feature = AF_VE32, .at = F(vpidr) }, { CP(4, 0, 0, 5), RW(2), .feature = AF_VE32, .at = F(vmpidr) },
    /* control */
    { CP(0, 1, 0, 0), RW(1), .kind = BANKED, .trap = T_VM, .at = F(sctlr), .write = write_sctlr32 },
    { CP(0, 1, 0, 1), RW(1), .kind = BANKED, .trap = T_ACR, .at = F(actlr) },
    { CP(0, 1, 0, 2), RW(1), .trap = T_CPACR, .read = read_cpacr, .write = write_cpacr },
    { CP(0, 1, 1, 0), RW(MON), .where = SECURE_ONLY | EL3_TRAP, .at = F(scr), .write = write_scr32 },
    { CP(0, 1, 1, 1), RW(MON), .where = SECURE_ONLY, .at = F(sder) },
    { CP(0, 1, 1, 2), .r = 1, .w = MON, .where = NSACR_CHECK | EL3_TRAP, .at = F(nsacr), .read = read_nsacr },
    { CP(4, 1, 0, 0), RW(2), .feature = AF_VE32, .at = F(sctlr[2]), .write = write_sctlr32 },
    { CP(4, 1, 0, 1), RW(2), .feature = AF_VE32, .at = F(actlr[2]) },
    { CP(4, 1, 1, 0), RW(2), .feature = AF_VE32, .at = F(hcr), .write = write_hcr32 },
    { CP(4, 1, 1, 1), RW(2), .feature = AF_VE32, .kind = BY_KEY, .at = K(3, 4, 1, 1, 1) }, { CP(4, 1, 1, 2), RW(2), .feature = AF_VE32, .at = F(cptr[2]) },
    { CP(4, 1, 1, 3), RW(2), .feature = AF_VE32, .at = F(hstr) },
    { CP(4, 1, 1, 4), RW(2), .feature = AF_V8, .kind = HIGH, .at = F(hcr), .write = write_hcr32 },
    { CP(4, 1, 1, 7), RW(2), .feature = AF_VE32, .kind = ZERO | NOP },
    /* translation */
    { CP(0, 2, 0, 0), RW(1), .kind = BANKED, .trap = T_VM, .at = F(ttbr0), .write = write_ttbr32 },
    { CP(0, 2, 0, 1), RW(1), .kind = BANKED, .trap = T_VM, .at = F(ttbr1), .write = write_ttbr32 },
    { CP(0, 2, 0, 2), RW(1), .kind = BANKED, .trap = T_VM, .at = F(tcr), .write = write_ttbcr },
    { CP(0, 2, 0, 3), RW(1), .kind = BANKED | HIGH, .feature = AF_V8, .trap = T_VM, .at = F(tcr) },
    { CP(4, 2, 0, 2), RW(2), .feature = AF_VE32, .kind = FLUSH, .at = F(tcr[2]) },
    { CP(4, 2, 1, 2), RW(2), .feature = AF_VE32, .kind = FLUSH, .at = F(vtcr) },
    { CP(0, 3, 0, 0), RW(1), .kind = BANKED | FLUSH, .trap = T_VM, .at = F(dacr) },
    /* faults */
    { CP(0, 5, 0, 0), RW(1), .kind = BANKED, .trap = T_VM, .at = F(esr) }, { CP(0, 5, 0, 1), RW(1), .kind = BANKED, .trap = T_VM, .at = F(ifsr32) },
    { CP(0, 5, 1, 0), RW(1), .kind = BANKED, .trap = T_VM, .at = F(afsr0) }, { CP(0, 5, 1, 1), RW(1), .kind = BANKED, .trap = T_VM, .at = F(afsr1) },
    { CP(4, 5, 1, 0), RW(2), .feature = AF_VE32, .at = F(afsr0[2]) }, { CP(4, 5, 1, 1), RW(2), .feature = AF_VE32, .at = F(afsr1[2]) },
    { CP(4, 5, 2, 0), RW(2), .feature = AF_VE32, .at = F(esr[2]) },
    { CP(0, 6, 0, 0), RW(1), .kind = BANKED, .trap = T_VM, .at = F(far) },
    { CP(0, 6, 0, 2), RW(1), .kind = BANKED | HIGH, .trap = T_VM, .at = F(far) },
    { CP(4, 6, 0, 0), RW(2), .feature = AF_VE32, .at = F(far[2]) }, { CP(4, 6, 0, 2), RW(2), .feature = AF_VE32, .kind = HIGH, .at = F(far[2]) },
    { CP(4, 6, 0, 4), RW(2), .feature = AF_VE32, .at = F(hpfar) },
    /* caches, barriers, address translation */
    { CP(0, 7, 0, 4), WO(1), .kind = NOP },
    CACHE(1, 0, T_PU), CACHE(1, 6, 0), CACHE(5, 0, T_PU), CACHE(5, 1, T_PU), CACHE(5, 6, 0), CACHE(5, 7, 0), CACHE(6, 1, T_PC), CACHE(6, 2, T_SW),
    CACHE(10, 1, T_PC), CACHE(10, 2, T_SW), CACHE(11, 1, T_PU), CACHE(13, 1, 0), CACHE(14, 1, T_PC), CACHE(14, 2, T_SW),
    { CP(0, 7, 5, 4), WO(0), .kind = NOP, .where = PL0_CHECK }, { CP(0, 7, 10, 4), WO(0), .kind = NOP, .where = PL0_CHECK },
    { CP(0, 7, 10, 5), WO(0), .kind = NOP, .where = PL0_CHECK },
    { CP(0, 7, 4, 0), RW(1), .kind = BANKED, .at = F(par) },
    { CP(0, 7, 8, 0), WO(1), .at = 0, .write = op_at }, { CP(0, 7, 8, 1), WO(1), .at = 1, .write = op_at },
    { CP(0, 7, 8, 2), WO(1), .at = 2, .write = op_at }, { CP(0, 7, 8, 3), WO(1), .at = 3, .write = op_at },
    { CP(0, 7, 8, 4), WO(2), .where = EL3_TRAP, .at = 4, .write = op_at }, { CP(0, 7, 8, 5), WO(2), .where = EL3_TRAP, .at = 5, .write = op_at },
    { CP(0, 7, 8, 6), WO(2), .where = EL3_TRAP, .at = 6, .write = op_at }, { CP(0, 7, 8, 7), WO(2), .where = EL3_TRAP, .at = 7, .write = op_at },
    { CP(4, 7, 8, 0), WO(2), .feature = AF_VE32, .at = 16, .write = op_at }, { CP(4, 7, 8, 1), WO(2), .feature = AF_VE32, .at = 17, .write = op_at },
    /* TLB: Inner Shareable, instruction, data, unified; then Hyp's */
    TLBI(0, 3, 0, 1, 0, 3, 0), TLBI(0, 3, 1, 1, 0, 3, 1), TLBI(0, 3, 2, 1, 0, 3, 2), TLBI(0, 3, 3, 1, 0, 3, 3), TLBI(0, 3, 5, 1, 0, 3, 5),
    TLBI(0, 3, 7, 1, 0, 3, 7), TLBI(0, 5, 0, 1, 0, 7, 0), TLBI(0, 5, 1, 1, 0, 7, 1), TLBI(0, 5, 2, 1, 0, 7, 2), TLBI(0, 6, 0, 1, 0, 7, 0),
    TLBI(0, 6, 1, 1, 0, 7, 1), TLBI(0, 6, 2, 1, 0, 7, 2), TLBI(0, 7, 0, 1, 0, 7, 0), TLBI(0, 7, 1, 1, 0, 7, 1), TLBI(0, 7, 2, 1, 0, 7, 2),
    TLBI(0, 7, 3, 1, 0, 7, 3), TLBI(0, 7, 5, 1, 0, 7, 5), TLBI(0, 7, 7, 1, 0, 7, 7),
    TLBI(4, 3, 0, 2, 4, 3, 0), TLBI(4, 3, 1, 2, 4, 3, 1), TLBI(4, 3, 4, 2, 4, 3, 4), TLBI(4, 3, 5, 2, 4, 3, 5), TLBI(4, 7, 0, 2, 4, 7, 0),
    TLBI(4, 7, 1, 2, 4, 7, 1), TLBI(4, 7, 4, 2, 4, 7, 4), TLBI(4, 7, 5, 2, 4, 7, 5), TLBI(4, 0, 1, 2, 4, 0, 1), TLBI(4, 4, 1, 2, 4, 4, 1),
    /* implementation: Cortex-A7, A15 L2CTLR, L2ECTLR; lockdown registers of A9 */
    { CP(1, 9, 0, 2), RW(1), .kind = NOP, .read = read_l2ctlr }, { CP(1, 9, 0, 3), RW(1), .kind = ZERO | NOP },
    /* memory attributes */
    { CP(0, 10, 0, 0), RW(1), .kind = ZERO | NOP }, { CP(0, 10, 0, 1), RW(1), .kind = ZERO | NOP },
    { CP(0, 10, 2, 0), RW(1), .kind = BANKED, .trap = T_VM, .at = F(mair) }, { CP(0, 10, 2, 1), RW(1), .kind = BANKED | HIGH, .trap = T_VM, .at = F(mair) },
    { CP(0, 10, 3, 0), RW(1), .kind = BANKED, .trap = T_VM, .at = F(amair) }, { CP(0, 10, 3, 1), RW(1), .kind = BANKED | HIGH, .trap = T_VM, .at = F(amair) },
    { CP(4, 10, 2, 0), RW(2), .feature = AF_VE32, .at = F(mair[2]) }, { CP(4, 10, 2, 1), RW(2), .feature = AF_VE32, .kind = HIGH, .at = F(mair[2]) },
    { CP(4, 10, 3, 0), RW(2), .feature = AF_VE32, .at = F(amair[2]) }, { CP(4, 10, 3, 1), RW(2), .feature = AF_VE32, .kind = HIGH, .at = F(amair[2]) },
    /* vectors */
    { CP(0, 12, 0, 0), RW(1), .kind = BANKED, .at = F(vbar), .write = write_vbar32 },
    { CP(0, 12, 0, 1), RW(MON), .where = SECURE_ONLY | EL3_TRAP, .at = F(mvbar), .write = write_vbar32 },
    { CP(0, 12, 1, 0), RO(1), .kind = BY_KEY, .at = K(3, 0, 12, 1, 0) },
    { CP(4, 12, 0, 0), RW(2), .feature = AF_VE32, .at = F(vbar[2]), .write = write_vbar32 },
    /* context */
    { CP(0, 13, 0, 0), RW(1), .kind = ZERO | NOP },
    { CP(0, 13, 0, 1), RW(1), .kind = BANKED, .trap = T_VM, .at = F(contextidr), .write = write_asid },
    { CP(0, 13, 0, 2), RW(0), .kind = THREAD_ID, .at = F(tpidr[0]) }, { CP(0, 13, 0, 3), .r = 0, .w = 1, .kind = THREAD_ID, .at = F(tpidrro) },
    { CP(0, 13, 0, 4), RW(1), .kind = THREAD_ID, .at = F(tpidr[1]) }, { CP(4, 13, 0, 2), RW(2), .feature = AF_VE32, .at = F(tpidr[2]) },
    /* timers */
    { CP(0, 14, 0, 0), .r = 0, .w = 1, .feature = AF_GENERIC_TIMER, .where = PL0_CHECK, .at = F(cntfrq) },
    { CP(0, 14, 1, 0), RW(1), .feature = AF_GENERIC_TIMER, .at = F(cntkctl) },
    { CP(0, 14, 2, 0), RW(0), .feature = AF_GENERIC_TIMER, .where = PL0_CHECK, .at = ARM_TIMER_PHYS | 8, .read = read_timer32, .write = write_timer32 },
    { CP(0, 14, 2, 1), RW(0), .feature = AF_GENERIC_TIMER, .where = PL0_CHECK, .at = ARM_TIMER_PHYS, .read = read_timer32, .write = write_timer32 },
    { CP(0, 14, 3, 0), RW(0), .feature = AF_GENERIC_TIMER, .where = PL0_CHECK, .at = ARM_TIMER_VIRT | 8, .read = read_timer32, .write = write_timer32 },
    { CP(0, 14, 3, 1), RW(0), .feature = AF_GENERIC_TIMER, .where = PL0_CHECK, .at = ARM_TIMER_VIRT, .read = read_timer32, .write = write_timer32 },
    { CP(4, 14, 1, 0), RW(2), .feature = AF_VE32, .at = F(cnthctl) },
    { CP(4, 14, 2, 0), RW(2), .feature = AF_VE32, .at = ARM_TIMER_HYP | 8, .read = read_timer32, .write = write_timer32 },
    { CP(4, 14, 2, 1), RW(2), .feature = AF_VE32, .at = ARM_TIMER_HYP, .read = read_timer32, .write = write_timer32 },
    { CP(4, 15, 0, 0), RO(1), .feature = AF_CBAR, .read = read_cbar },
    /* performance monitors */
#define PMU(crm, opc2) { CP(0, 9, crm, opc2), RW(0), .kind = BY_KEY, .feature = AF_PMU, .trap = T_PM, .where = PL0_CHECK, .at = K(3, 3, 9, crm, opc2) }
    { CP(0, 9, 12, 4), WO(0), .kind = BY_KEY, .feature = AF_PMU, .trap = T_PM, .where = PL0_CHECK, .at = K(3, 3, 9, 12, 4) },
    PMU(12, 0), PMU(12, 1), PMU(12, 2), PMU(12, 3), PMU(12, 5), PMU(12, 6), PMU(12, 7), PMU(13, 0), PMU(13, 1), PMU(13, 2),
    { CP(0, 9, 14, 0), .r = 0, .w = 1, .kind = BY_KEY, .feature = AF_PMU, .trap = T_PM, .at = K(3, 3, 9, 14, 0) },
    { CP(0, 9, 14, 1), RW(1), .kind = BY_KEY, .feature = AF_PMU, .trap = T_PM, .at = K(3, 0, 9, 14, 1) },
    { CP(0, 9, 14, 2), RW(1), .kind = BY_KEY, .feature = AF_PMU, .trap = T_PM, .at = K(3, 0, 9, 14, 2) },
    { CP(0, 9, 14, 3), RW(1), .kind = BY_KEY, .feature = AF_PMU, .trap = T_PM, .at = K(3, 3, 9, 14, 3) },
    PM_EVENT(0), PM_EVENT(1), PM_EVENT(2), PM_EVENT(3), PM_EVENT(4), PM_EVENT(5),
    { CP(0, 14, 15, 7), RW(0), .kind = BY_KEY, .feature = AF_PMU, .trap = T_PM, .where = PL0_CHECK, .at = K(3, 3, 14, 15, 7) },
};

static const struct row32 cp15_64[] = {
    { CP64(0, 2), RW(1), .kind = BANKED, .feature = AF_LPAE, .trap = T_VM, .at = F(ttbr0), .write = write_ttbr32 },
    { CP64(1, 2), RW(1), .kind = BANKED, .feature = AF_LPAE, .trap = T_VM, .at = F(ttbr1), .write = write_ttbr32 },
    { CP64(4, 2), RW(2), .feature = AF_VE32, .kind = FLUSH, .at = F(ttbr0[2]) }, { CP64(6, 2), RW(2), .feature = AF_VE32, .kind = FLUSH, .at = F(vttbr) },
    { CP64(0, 7), RW(1), .kind = BANKED, .feature = AF_LPAE, .at = F(par) },
    { CP64(0, 9), RW(0), .kind = BY_KEY, .feature = AF_PMU, .trap = T_PM, .where = PL0_CHECK | V8_ONLY, .at = K(3, 3, 9, 13, 0) },
    { CP64(0, 14), RO(0), .feature = AF_GENERIC_TIMER, .where = PL0_CHECK, .read = read_cntpct32 },
    { CP64(1, 14), RO(0), .feature = AF_GENERIC_TIMER, .where = PL0_CHECK, .read = read_cntvct32 },
    { CP64(2, 14), RW(0), .feature = AF_GENERIC_TIMER, .where = PL0_CHECK, .at = ARM_TIMER_PHYS | 16, .read = read_timer32, .write = write_timer32 },
    { CP64(3, 14), RW(0), .feature = AF_GENERIC_TIMER, .where = PL0_CHECK, .at = ARM_TIMER_VIRT | 16, .read = read_timer32, .write = write_timer32 },
    { CP64(4, 14), RW(2), .feature = AF_VE32, .kind = BY_KEY, .at = K(3, 4, 14, 0, 3) },
    { CP64(6, 14), RW(2), .feature = AF_VE32, .at = ARM_TIMER_HYP | 16, .read = read_timer32, .write = write_timer32 },
};

/* ---- cp14: debug, ThumbEE, Jazelle */
static const struct row32 cp14[] = {
    { CP(0, 0, 0, 0), RO(0), .trap = T_DA, .read = read_didr }, { CP(0, 0, 1, 0), RO(0), .kind = ZERO, .trap = T_DA },
    { CP(0, 0, 2, 2), RW(1), .trap = T_DA, .at = F(mdscr) }, { CP(0, 0, 5, 0), RW(0), .kind = ZERO | NOP, .trap = T_DA },
    { CP(0, 0, 6, 0), RW(1), .kind = ZERO | NOP, .trap = T_DA }, { CP(0, 0, 7, 0), RW(1), .trap = T_DA, .at = F(dbgvcr) },
    { CP(0, 1, 0, 0), RO(0), .kind = ZERO, .trap = T_DRA }, { CP(0, 2, 0, 0), RO(0), .kind = ZERO, .trap = T_DRA },
    { CP(0, 1, 0, 4), WO(1), .kind = BY_KEY, .trap = T_DOSA, .at = K(2, 0, 1, 0, 4) },
    { CP(0, 1, 1, 4), RO(1), .kind = BY_KEY, .trap = T_DOSA, .at = K(2, 0, 1, 1, 4) },
    { CP(0, 1, 3, 4), RW(1), .trap = T_DOSA, .at = F(osdlr) }, { CP(0, 1, 4, 4), RW(1), .trap = T_DOSA, .at = F(dbgprcr) },
    { CP(0, 1, 5, 4), RO(1), .kind = ZERO, .trap = T_DOSA },
    { CP(0, 7, 8, 6), RW(1), .trap = T_DA, .at = F(dbgclaim) }, { CP(0, 7, 9, 6), RW(1), .trap = T_DA, .at = F(dbgclaim) },
    { CP(0, 7, 14, 6), RO(1), .kind = ZERO, .trap = T_DA }, { CP(0, 7, 2, 7), RO(1), .kind = ZERO, .trap = T_DA },
    { CP(0, 7, 1, 7), RO(1), .kind = ZERO, .trap = T_DA }, { CP(0, 7, 0, 7), RO(1), .kind = ZERO, .trap = T_DA },
#define DBG(n) { CP(0, 0, n, 4), RW(1), .trap = T_DA, .at = F(dbgbvr[n]) }, { CP(0, 0, n, 5), RW(1), .trap = T_DA, .at = F(dbgbcr[n]) }, \
               { CP(0, 0, n, 6), RW(1), .trap = T_DA, .at = F(dbgwvr[n]) }, { CP(0, 0, n, 7), RW(1), .trap = T_DA, .at = F(dbgwcr[n]) }
    DBG(0), DBG(1), DBG(2), DBG(3), DBG(4), DBG(5),
    { CP(6, 0, 0, 0), RW(1), .feature = AF_THUMBEE, .at = F(teecr) }, { CP(6, 1, 0, 0), RW(0), .feature = AF_THUMBEE, .at = F(teehbr) },
    { CP(7, 0, 0, 0), RO(0), .kind = ZERO, .trap = T_TID0 }, { CP(7, 1, 0, 0), RW(1), .kind = ZERO | NOP }, { CP(7, 2, 0, 0), RW(1), .kind = ZERO | NOP },
};

static const struct row32 cp14_64[] = { { CP64(0, 1), RO(0), .kind = ZERO, .trap = T_DRA }, { CP64(0, 2), RO(0), .kind = ZERO, .trap = T_DRA } };

static const struct row32 *find_in(const struct row32 *rows, size_t n, unsigned key)
{
    for (size_t i = 0; i < n; i++)
        if (rows[i].key == key)
            return &rows[i];
    return NULL;
}

/* ---- access */

struct access32 { unsigned cp, opc1, crn, crm, opc2, key; bool write, wide; uint32_t raw; };

static struct access32 decode32(uint32_t raw, bool write, bool wide)
{
    struct access32 a = { .cp = raw >> 8 & 15, .crm = raw & 15, .write = write, .wide = wide, .raw = raw };

    if (wide) {
        a.opc1 = raw >> 4 & 15;
        a.key = CP64(a.opc1, a.crm);
    } else {
        a.opc1 = raw >> 21 & 7;
        a.crn = raw >> 16 & 15;
        a.opc2 = raw >> 5 & 7;
        a.key = CP(a.opc1, a.crn, a.crm, a.opc2);
    }
    return a;
}

/* ESR_ELx or HSR of EC 3 to 6, 12: registers, direction. The condition has been met: always. AArch64 sees its own names of
 * the registers. */
static uint32_t syndrome32(const struct arm_cpu *c, const struct access32 *a, bool to64)
{
    unsigned rt = a->raw >> 12 & 15, rt2 = a->raw >> 16 & 15, ec;
    uint32_t iss = BIT(24) | 14 << 20 | (to64 ? arm_view64(c, rt) : rt) << 5 | a->crm << 1 | !a->write;

    if (a->wide) {
        ec = a->cp == 14 ? EC_CP14_RRT : EC_CP15_RRT;
        iss |= a->opc1 << 16 | (to64 ? arm_view64(c, rt2) : rt2) << 10;
    } else {
        ec = a->cp == 14 ? EC_CP14_RT : EC_CP15_RT;
        iss |= a->opc2 << 17 | a->opc1 << 14 | a->crn << 10;
    }
    return esr_make(ec, iss);
}

_Noreturn static void trap32(struct arm_cpu *c, const struct access32 *a, unsigned el)
{
    if (el == 3 && arm_el_is_64(c, 3) && a->cp == 15 && a->crn == 7 && !a->wide)        /* ATS12NSO*: of no class */
        arm_raise_el(c, 3, esr_make(EC_UNKNOWN, 0), 0);
    /* To a level that uses AArch32 below Hyp: an undefined instruction. */
    if (el == SYSREG_UNDEFINED || (el != 2 && !arm_el_is_64(c, el)))
        arm_raise_undefined(c);
    arm_raise_el(c, el, syndrome32(c, a, arm_el_is_64(c, el)), 0);
}

/* What EL0 may use: CP15 barriers (SCTLR.CP15BEN), counters and timers (CNTKCTL), performance monitors (PMUSERENR). */
static unsigned check_pl0(const struct arm_cpu *c, const struct access32 *a)
{
    uint64_t ctl = c->sys.cntkctl, sctlr = c->sys.sctlr[arm_regime(c, c->el)];
    unsigned bit0 = 0;

    if (!a->wide && a->crn == 7)
        return sctlr & SCTLR_CP15BEN || !has(c, AF_V8) ? 0 : SYSREG_UNDEFINED;
    if (c->el)
        return 0;
    if (a->wide ? a->crm == 9 : a->crn == 9 || (a->crn == 14 && a->crm >= 8))
        return c->sys.pmuserenr & 1 ? 0 : arm_sync_target(c);
    if (a->wide)
        bit0 = a->opc1 == 0 ? 1 : a->opc1 == 1 ? 2 : a->opc1 == 2 ? BIT(9) : BIT(8);
    else
        bit0 = a->crm == 0 ? 3 : a->crm == 2 ? BIT(9) : BIT(8);
    return ctl & bit0 ? 0 : arm_sync_target(c);
}

/* CNTHCTL: Non-secure EL1 and EL0 may be kept from the physical counter and timer. */
static bool hyp_timer_trap(const struct arm_cpu *c, const struct access32 *a)
{
    bool counter, timer;

    if (c->el > 1 || !arm_el2_enabled(c) || a->cp != 15)
        return false;
    counter = a->wide && a->crm == 14 && a->opc1 == 0;
    timer = a->wide ? a->crm == 14 && a->opc1 == 2 : a->crn == 14 && a->crm == 2 && a->opc1 == 0;
    return (counter && !(c->sys.cnthctl & 1)) || (timer && !(c->sys.cnthctl & 2));
}

/* HSTR.Tn: all of a primary register, before anything else (AArch32.CheckCP15InstrCoarseTraps()); of EL0's accesses those that are
 * not undefined there. HCR.TIDCP: what implementations define. */
static void coarse_traps(struct arm_cpu *c, const struct access32 *a)
{
    static const uint16_t impdef[12] = { [9] = 0x01e7, [10] = 0x0113, [11] = 0x81ff };  /* CRm, by CRn */

    if (a->cp != 15 || c->el > 1 || !arm_el2_enabled(c) || arm_in_host(c))
        return;
    if (c->sys.hstr & 0xbfef & BIT(a->wide ? a->crm : a->crn))          /* T4 and T14 do nothing */
        trap32(c, a, 2);
    if (c->el && !a->wide && a->crn < 12 && arm_hcr(c) & HCR_TIDCP && impdef[a->crn] >> a->crm & 1)
        trap32(c, a, 2);
}

static void check32(struct arm_cpu *c, const struct access32 *a, const struct row32 *r)
{
    unsigned least = a->write ? r->w : r->r, el;
    bool hyp = (a->wide ? a->opc1 == 4 || a->opc1 == 6 : a->opc1 == 4 && a->crn != 15);

    if ((r->feature && !has(c, r->feature)) || (r->where & V8_ONLY && !has(c, AF_V8)))
        arm_raise_undefined(c);
    if (r->where & EL3_TRAP && c->el == 1 && arm_is_secure(c) && arm_el_is_64(c, 3))
        trap32(c, a, 3);
    if (least == SYSREG_NEVER || c->el < least)
        arm_raise_undefined(c);
    if (hyp && c->el == 3 && !(c->mode32 == M_MON && c->sys.scr & SCR_NS))
        arm_raise_undefined(c);
    if (r->where & SECURE_ONLY && !arm_is_secure(c))
        arm_raise_undefined(c);
    if (r->where & NSACR_CHECK && !has_el3(c) && !has(c, AF_V8))        /* comes with the Security Extensions, or with v8 */
        arm_raise_undefined(c);
    if (r->where & PL0_CHECK && (el = check_pl0(c, a)))
        trap32(c, a, el);
    if (!c->el)
        coarse_traps(c, a);
    if (hyp_timer_trap(c, a))
        trap32(c, a, 2);
    if (r->trap && (el = arm_sysreg_trapped(c, r->trap, a->write)))
        trap32(c, a, el);
}

/* The GIC's: architecturally mapped to op0 = 3 with the same numbers (opc1 6 is EL3's). */
static bool gic32(struct arm_cpu *c, const struct access32 *a, uint64_t *v)
{
    static const uint16_t sgi[] = { K(3, 0, 12, 11, 5), K(3, 0, 12, 11, 6), K(3, 0, 12, 11, 7) };
    unsigned key = K(3, a->opc1, a->crn, a->crm, a->opc2);
    enum arm_gic_result res;

    if (!c->sys.gic || a->cp != 15 || !c->el)
        return false;
    if (a->wide) {
        if (a->crm != 12 || a->opc1 > 2 || !a->write)
            return false;
        key = sgi[a->opc1];
    } else if (!(a->crn == 12 && a->crm >= 8) && !(a->crn == 4 && a->crm == 6 && a->opc1 == 0 && a->opc2 == 0)) {
        return false;
    }
    res = a->write ? c->sys.gic->write(c->sys.gic_opaque, c, key, *v) : c->sys.gic->read(c->sys.gic_opaque, c, key, v);
    if (res != ARM_GIC_OK)
        trap32(c, a, res == ARM_GIC_TRAP_EL2 ? 2 : res == ARM_GIC_TRAP_EL3 ? 3 : SYSREG_UNDEFINED);
    return true;
}

static const struct row32 *row_of(struct arm_cpu *c, const struct access32 *a)
{
    const struct row32 *r;

    if (a->cp == 14)
        r = a->wide ? find_in(cp14_64, G_N_ELEMENTS(cp14_64), a->key) : find_in(cp14, G_N_ELEMENTS(cp14), a->key);
    else if (a->cp == 15)
        r = a->wide ? find_in(cp15_64, G_N_ELEMENTS(cp15_64), a->key) : find_in(cp15, G_N_ELEMENTS(cp15), a->key);
    else
        r = NULL;
    return r;
}

_Noreturn static void unknown32(struct arm_cpu *c, const struct access32 *a)
{
    log_at(LOG_UNIMP, "arm cpu %d: %s of p%u, %u, c%u, c%u, %u%s\n", c->cpu.index, a->write ? "write" : "read", a->cp, a->opc1, a->crn,
           a->crm, a->opc2, a->wide ? " (64 bits)" : "");
    arm_raise_undefined(c);
}

static uint64_t read32(struct arm_cpu *c, const struct access32 *a)
{
    const struct row32 *r;
    uint64_t v = 0;

    if (c->el == 1)
        coarse_traps(c, a);
    if (gic32(c, a, &v))
        return v;
    /* ID registers: as AArch64 has them, c1 and c2 and what is reserved behind */
    if (a->cp == 15 && !a->wide && a->crn == 0 && a->opc1 == 0 && a->crm >= 1 && a->crm <= 7) {
        unsigned el;

        if (!c->el)
            arm_raise_undefined(c);
        el = arm_sysreg_trapped(c, T_TID3, false);
        if (el)
            trap32(c, a, el);
        return a->crm <= 3 ? arm_id(c, K(3, 0, 0, a->crm, a->opc2)) & (a->crm == 3 && a->opc2 < 3 ? 0 : UINT32_MAX) : 0;
    }
    r = row_of(c, a);
    if (!r)
        unknown32(c, a);
    check32(c, a, r);
    if (r->read)
        return r->read(c, r);
    if (r->kind & ZERO)
        return 0;
    if (r->kind & ID)
        return arm_id(c, r->at);
    if (r->kind & BY_KEY)
        return arm_sysreg_raw_read(c, r->at, &v) ? v : 0;
    return a->wide ? *field_of(c, r) : half_get(*field_of(c, r), r->kind & HIGH);
}

static void write32(struct arm_cpu *c, const struct access32 *a, uint64_t v)
{
    const struct row32 *r;
    uint64_t *p;

    if (c->el == 1)
        coarse_traps(c, a);
    if (gic32(c, a, &v))
        return;
    r = row_of(c, a);
    if (!r)
        unknown32(c, a);
    check32(c, a, r);
    if (r->write) {
        r->write(c, r, v);
        return;
    }
    if (r->kind & NOP)
        return;
    if (r->kind & BY_KEY) {
        arm_sysreg_raw_write(c, r->at, v);
        return;
    }
    p = field_of(c, r);
    *p = a->wide ? v : half_put(*p, v, r->kind & HIGH);
    if (r->kind & FLUSH)
        arm_regs_flush(c);
}

/* Thread IDs have no trap but Hyp mode's HSTR, and no bank but that of an AArch32 EL3. */
int32_t arm_cp_plain(const struct arm_features *f, uint32_t raw, unsigned el)
{
    struct access32 a = decode32(raw, false, false);
    const struct row32 *r;

    if (!f || arm_has(f, AF_EL2) || arm_has(f, AF_EL3) || a.cp != 15)
        return -1;
    r = find_in(cp15, G_N_ELEMENTS(cp15), a.key);
    return r && r->kind == THREAD_ID && el >= r->r ? (int32_t)r->at : -1;
}

uint32_t arm_helper_cp_read(struct cpu *cpu, uint32_t raw)
{
    struct access32 a = decode32(raw, false, false);

    return (uint32_t)read32(arm(cpu), &a);
}

void arm_helper_cp_write(struct cpu *cpu, uint32_t raw, uint32_t v)
{
    struct access32 a = decode32(raw, true, false);

    write32(arm(cpu), &a, v);
}

uint64_t arm_helper_cp_read64(struct cpu *cpu, uint32_t raw)
{
    struct access32 a = decode32(raw, false, true);

    return read32(arm(cpu), &a);
}

void arm_helper_cp_write64(struct cpu *cpu, uint32_t raw, uint64_t v)
{
    struct access32 a = decode32(raw, true, true);

    write32(arm(cpu), &a, v);
}

/* ---- VMRS, VMSR: G1.13.4; register in bits 19:16 */

enum { VFP_FPSID = 0, VFP_FPSCR = 1, VFP_MVFR2 = 5, VFP_MVFR1 = 6, VFP_MVFR0 = 7, VFP_FPEXC = 8 };

static bool vfp_register(const struct arm_cpu *c, unsigned reg)
{
    return reg <= VFP_FPSCR || (reg >= VFP_MVFR1 && reg <= VFP_FPEXC) || (reg == VFP_MVFR2 && has(c, AF_V8));
}

static void check_vfp(struct arm_cpu *c, unsigned reg, unsigned rt, bool write)
{
    unsigned el = arm_fp_trap_el(c);

    if (!vfp_register(c, reg))
        arm_raise_undefined(c);
    if (el)
        arm_helper_exception_el(&c->cpu, el, esr_make(EC_FP, BIT(24) | 14 << 20));
    if (reg == VFP_FPSCR) {
        if (!(c->sys.fpexc & BIT(30)) && !arm_el_is_64(c, 1))
            arm_raise_undefined(c);
        return;
    }
    if (c->el == 0)
        arm_raise_undefined(c);
    if (c->el == 1 && !write && arm_hcr(c) & (reg == VFP_FPSID ? HCR_TID0 : reg == VFP_FPEXC ? 0 : HCR_TID3))
        arm_raise_el(c, 2, esr_make(EC_CP10_ID, BIT(24) | 14 << 20 | 7 << 14 | (uint32_t)reg << 10 |
                                                    (arm_el_is_64(c, 2) ? arm_view64(c, rt) : rt) << 5 | 1), 0);
}

uint32_t arm_helper_vmrs(struct cpu *cpu, uint32_t raw)
{
    struct arm_cpu *c = arm(cpu);
    unsigned reg = raw >> 16 & 15;

    check_vfp(c, reg, raw >> 12 & 15, false);
    switch (reg) {
    case VFP_FPSID: return (uint32_t)arm_id(c, K(3, 7, 0, 0, 0));
    case VFP_MVFR0: return (uint32_t)arm_id(c, K(3, 0, 0, 3, 0));
    case VFP_MVFR1: return (uint32_t)arm_id(c, K(3, 0, 0, 3, 1));
    case VFP_FPEXC: return (uint32_t)c->sys.fpexc;
    default:        return (uint32_t)arm_id(c, K(3, 0, 0, 3, 2));
    }
}

void arm_helper_vmsr(struct cpu *cpu, uint32_t raw, uint32_t v)
{
    struct arm_cpu *c = arm(cpu);
    unsigned reg = raw >> 16 & 15;

    check_vfp(c, reg, raw >> 12 & 15, true);
    switch (reg) {
    case VFP_FPSCR:
        arm_set_fpsr(c, v & ~(uint32_t)FPSCR_CONTROL);
        arm_set_fpcr(c, v & FPSCR_CONTROL);
        return;
    case VFP_FPEXC:
        c->sys.fpexc = v & BIT(30);
        return;
    default:                    /* FPSID, MVFRn are read-only: ignored */
        return;
    }
}
