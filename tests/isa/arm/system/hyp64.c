/* EL2 and EL3 of AArch64 on bare metal: what traps where with which syndrome, stage 2, virtual interrupts. Each row runs a
 * few instructions at a lower level and prints who took what; Debian's qemu-system-aarch64 must print the same
 * (test_arm_system.py). Lines with ! are where QEMU 7.2 is known to differ from the manual: the test has the answer. */
#include "test64.h"

#define UART (*(volatile uint32_t *)0x09000000)
void put(char c) { UART = c; }
void print(const char *s) { while (*s) put(*s++); }
static void short_hex(uint64_t v)
{
    int n = 60;

    while (n && !(v >> n))
        n -= 4;
    for (; n >= 0; n -= 4)
        put("0123456789abcdef"[v >> n & 15]);
}
void line(const char *name, uint64_t v)
{
    print(name);
    put(' ');
    short_hex(v);
    put('\n');
}

#define B(n) (1ul << (n))

/* ---- who took what */

struct event { unsigned level, slot; uint64_t esr, far, hpfar, elr; };
static struct event events[4];
static volatile unsigned nevents;
static unsigned top;                    /* the level we run at */
static bool leave_by_wfi;
static uint64_t skip_to;                /* where to go on behind an abort of a fetch */
_Noreturn void done(void);
void run_at(uint64_t spsr, void (*fn)(uint64_t), uint64_t argument);
void el_exception(unsigned slot, unsigned level, struct frame *f) __asm__("exception");

static uint64_t get(unsigned level, unsigned what)
{
    switch (level * 8 + what) {
    case 8:  return mrs(ESR_EL1);
    case 9:  return mrs(FAR_EL1);
    case 10: return mrs(ELR_EL1);
    case 16: return mrs(ESR_EL2);
    case 17: return mrs(FAR_EL2);
    case 18: return mrs(ELR_EL2);
    case 24: return mrs(ESR_EL3);
    case 25: return mrs(FAR_EL3);
    default: return mrs(ELR_EL3);
    }
}

static void set_return(unsigned level, uint64_t pc)
{
    if (level == 1)
        msr(ELR_EL1, pc);
    else if (level == 2)
        msr(ELR_EL2, pc);
    else
        msr(ELR_EL3, pc);
}

void el_exception(unsigned slot, unsigned level, struct frame *f)
{
    uint64_t esr = get(level, 0), elr = get(level, 2);
    unsigned ec = esr >> 26, kind = slot & 3;
    extern char back[];

    if (!kind && ((leave_by_wfi && ec == 1) || ec == 0x16 || ec == 0x15 || ec == 0x17) && (ec == 1 || (esr & 0xffff) == 99)) {
        if (level == top) {
            set_return(level, (uint64_t)back);
            if (level == 2)
                msr(SPSR_EL2, 0x3c9);
            else
                msr(SPSR_EL3, 0x3cd);
        } else if (level == 1) {
            __asm__ volatile("hvc #99");
        } else {
            __asm__ volatile("smc #99");
        }
        return;
    }
    if (nevents < 4) {
        struct event *e = &events[nevents];

        e->level = level;
        e->slot = slot;
        e->esr = kind && kind != 3 ? 0 : esr;
        e->far = get(level, 1);
        e->hpfar = level >= 2 ? mrs(HPFAR_EL2) : 0;
        e->elr = elr;
    }
    if (++nevents > 20) {
        print("stuck\n");
        done();
    }
    if (!kind && ec == 0xe && level == 2)
        msr(SPSR_EL2, mrs(SPSR_EL2) & ~B(20));
    if (kind) {                         /* mask it */
        f->x[33] = 0;
        if (level == 1)
            msr(SPSR_EL1, mrs(SPSR_EL1) | 0x3c0);
        else if (level == 2)
            msr(SPSR_EL2, mrs(SPSR_EL2) | 0x3c0);
        else
            msr(SPSR_EL3, mrs(SPSR_EL3) | 0x3c0);
    } else if (skip_to) {
        set_return(level, skip_to);
        skip_to = 0;
    } else if (ec == 0x17 && top == 2) {
        set_return(level, elr + 4);     /* a trapped SMC returns to itself */
    } else if (ec != 0x15 && ec != 0x16 && ec != 0x17) {
        set_return(level, elr + 4);
    } else if (ec == 0x17 && *(uint32_t *)elr >> 21 == 0x6a0 && (*(uint32_t *)elr & 31) == 3) {
        set_return(level, elr + 4);
    }
}

static void show_events(const char *name)
{
    print(name);
    print(":");
    for (unsigned n = 0; n < nevents && n < 4; n++) {
        struct event *e = &events[n];
        unsigned ec = e->esr >> 26;

        print(" [EL");
        put((char)('0' + e->level));
        put('.');
        put("0123456789abcdef"[e->slot]);
        put(' ');
        short_hex(e->esr);
        if (ec == 0x20 || ec == 0x21 || ec == 0x24 || ec == 0x25) {
            put(' ');
            short_hex(e->far);
            if (e->level == 2 && (ec == 0x20 || ec == 0x24)) {
                put(' ');
                short_hex(e->hpfar);
            }
        }
        put(']');
    }
    put('\n');
    nevents = 0;
}

/* ---- rows of instructions */

struct row { const char *name; void (*fn)(uint64_t); };
#define ROW(id, text) static void i_##id(uint64_t p) { __asm__ volatile(text :: "r"(p) : "memory", "x9", "x10", "x11", "x12"); }
#define ROWS(R) \
    R(midr, "mrs x9, MIDR_EL1") R(mpidr, "mrs x9, MPIDR_EL1") R(revidr, "mrs x9, REVIDR_EL1") R(aidr, "mrs x9, AIDR_EL1") \
    R(ctr, "mrs x9, CTR_EL0") R(dczid, "mrs x9, DCZID_EL0") R(ccsidr, "mrs x9, CCSIDR_EL1") R(clidr, "mrs x9, CLIDR_EL1") \
    R(csselr, "mrs x9, CSSELR_EL1") R(csselr_w, "msr CSSELR_EL1, xzr") \
    R(pfr0, "mrs x9, ID_AA64PFR0_EL1") R(isar0, "mrs x9, ID_AA64ISAR0_EL1") R(mmfr2, "mrs x9, S3_0_C0_C7_2") R(id_pfr0, "mrs x9, S3_0_C0_C1_0") \
    R(mvfr2, "mrs x9, S3_0_C0_C3_2") R(id_reserved, "mrs x9, S3_0_C0_C7_7") R(dfr0, "mrs x9, ID_AA64DFR0_EL1") \
    R(actlr, "mrs x9, ACTLR_EL1") R(actlr_w, "msr ACTLR_EL1, xzr") \
    R(sctlr, "mrs x9, SCTLR_EL1") R(sctlr_w, "mov x9, #0x0800; movk x9, #0x30d0, lsl #16; msr SCTLR_EL1, x9; isb") \
    R(ttbr0, "mrs x9, TTBR0_EL1") R(ttbr0_w, "msr TTBR0_EL1, xzr") R(ttbr1, "mrs x9, TTBR1_EL1") R(ttbr1_w, "msr TTBR1_EL1, xzr") \
    R(tcr, "mrs x9, TCR_EL1") R(tcr_w, "msr TCR_EL1, xzr") R(mair, "mrs x9, MAIR_EL1") R(mair_w, "msr MAIR_EL1, xzr") \
    R(amair_w, "msr AMAIR_EL1, xzr") R(afsr0_w, "msr AFSR0_EL1, xzr") R(afsr1, "mrs x9, AFSR1_EL1") \
    R(far, "mrs x9, FAR_EL1") R(far_w, "msr FAR_EL1, xzr") R(esr, "mrs x9, ESR_EL1") R(esr_w, "msr ESR_EL1, xzr") \
    R(contextidr, "mrs x9, CONTEXTIDR_EL1") R(contextidr_w, "msr CONTEXTIDR_EL1, xzr") R(vbar, "mrs x9, VBAR_EL1") R(par, "mrs x9, PAR_EL1") \
    R(isw, "dc isw, xzr") R(csw, "dc csw, xzr") R(cisw, "dc cisw, xzr") R(ivac, "dc ivac, %0") R(civac, "dc civac, %0") R(cvac, "dc cvac, %0") \
    R(cvau, "dc cvau, %0") R(ivau, "ic ivau, %0") R(iallu, "ic iallu") R(ialluis, "ic ialluis") R(zva, "dc zva, %0") \
    R(vmalle1, "tlbi vmalle1") R(vmalle1is, "tlbi vmalle1is") R(vae1, "tlbi vae1, xzr") R(aside1is, "tlbi aside1is, xzr") R(vaale1, "tlbi vaale1, xzr") \
    R(alle1, "tlbi alle1") R(alle2, "tlbi alle2") R(ipas2, "tlbi ipas2e1, xzr") R(alle3, "tlbi alle3") \
    R(at_s1e1r, "at s1e1r, %0") R(at_s12e1r, "at s12e1r, %0") R(at_s1e2r, "at s1e2r, %0") R(at_s1e3r, "at s1e3r, %0") \
    R(wfi, "wfi") R(smc, "movn x0, #0; smc #3") R(hvc, "hvc #5") R(svc, "svc #6") R(brk, "brk #7") R(udf, ".inst 0") \
    R(impdef, "mrs x9, S3_0_C15_C2_0") R(impdef_w, "msr S3_3_C11_C0_0, xzr") R(impdef_sys, "sys #0, c15, c0, #0") \
    R(cpacr, "mrs x9, CPACR_EL1") R(cpacr_w, "mov x9, #0x300000; msr CPACR_EL1, x9") R(fp, "fmov d0, xzr") R(fpcr, "mrs x9, FPCR") R(simd_mem, "ldr q0, [%0]") \
    R(cntpct, "mrs x9, CNTPCT_EL0") R(cntvct, "mrs x9, CNTVCT_EL0") R(cntfrq, "mrs x9, CNTFRQ_EL0") R(cntfrq_w, "msr CNTFRQ_EL0, x9") \
    R(cntp_ctl, "mrs x9, CNTP_CTL_EL0") R(cntp_cval_w, "msr CNTP_CVAL_EL0, xzr") R(cntp_tval_w, "msr CNTP_TVAL_EL0, xzr") \
    R(cntv_ctl, "mrs x9, CNTV_CTL_EL0") R(cntps, "mrs x9, CNTPS_CTL_EL1") R(cntkctl, "mrs x9, CNTKCTL_EL1") R(cnthctl, "mrs x9, CNTHCTL_EL2") \
    R(cntvoff, "mrs x9, CNTVOFF_EL2") \
    R(pmcr, "mrs x9, PMCR_EL0") R(pmccntr, "mrs x9, PMCCNTR_EL0") R(pmintenset, "mrs x9, PMINTENSET_EL1") R(pmselr_w, "msr PMSELR_EL0, xzr") \
    R(pmovsclr, "mrs x9, PMOVSCLR_EL0") R(pmceid0, "mrs x9, PMCEID0_EL0") R(pmevcntr5, "mrs x9, PMEVCNTR5_EL0") R(pmevtyper0_w, "msr PMEVTYPER0_EL0, xzr") \
    R(mdscr, "mrs x9, MDSCR_EL1") R(mdscr_w, "msr MDSCR_EL1, xzr") R(dbgbcr, "mrs x9, DBGBCR0_EL1") R(dbgwvr_w, "msr DBGWVR0_EL1, xzr") \
    R(oslsr, "mrs x9, OSLSR_EL1") R(oslar_w, "msr OSLAR_EL1, xzr") R(osdlr, "mrs x9, OSDLR_EL1") R(mdrar, "mrs x9, MDRAR_EL1") \
    R(mdccsr, "mrs x9, MDCCSR_EL0") R(mdccint, "mrs x9, MDCCINT_EL1") \
    R(hcr, "mrs x9, HCR_EL2") R(vttbr, "mrs x9, VTTBR_EL2") R(spsr2, "mrs x9, SPSR_EL2") R(sp_el1, "mrs x9, SP_EL1") R(sp_el2, "mrs x9, SP_EL2") \
    R(tpidr2, "mrs x9, TPIDR_EL2") R(scr, "mrs x9, SCR_EL3") R(sctlr3, "mrs x9, SCTLR_EL3") R(mdcr3, "mrs x9, S3_6_C1_C3_1") R(rvbar, "mrs x9, S3_0_C12_C0_1") \
    R(rmr, "mrs x9, S3_0_C12_C0_2") R(isr, "mrs x9, ISR_EL1") R(spsr_irq, "mrs x9, S3_4_C4_C3_0") R(dacr32, "mrs x9, S3_4_C3_C0_0") \
    R(icc_pmr, "mrs x9, S3_0_C4_C6_0") R(icc_iar1, "mrs x9, S3_0_C12_C12_0") R(icc_iar0, "mrs x9, S3_0_C12_C8_0") R(icc_ctlr, "mrs x9, S3_0_C12_C12_4") \
    R(icc_sre, "mrs x9, S3_0_C12_C12_5") R(icc_grpen1, "mrs x9, S3_0_C12_C12_7") R(icc_grpen0, "mrs x9, S3_0_C12_C12_6") R(icc_bpr1, "mrs x9, S3_0_C12_C12_3") \
    R(icc_sgi1r, "msr S3_0_C12_C11_5, xzr") R(icc_dir, "msr S3_0_C12_C11_1, xzr") R(icc_eoir0, "msr S3_0_C12_C8_1, xzr") R(icc_rpr, "mrs x9, S3_0_C12_C11_3") \
    R(icc_sre2, "mrs x9, S3_4_C12_C9_5") R(icc_sre3, "mrs x9, S3_6_C12_C12_5") R(ich_hcr, "mrs x9, S3_4_C12_C11_0") R(ich_vtr, "mrs x9, S3_4_C12_C11_1") \
    R(eret, "mrs x9, SPSR_EL1; mov x10, #0x3c5; msr SPSR_EL1, x10; adr x10, 1f; msr ELR_EL1, x10; eret; 1: nop")
ROWS(ROW)
#define ENTRY(id, text) { #id, i_##id },
static const struct row rows[] = { ROWS(ENTRY) };
enum { EL1H = 0x3c5, EL0T = 0x3c0, EL2H = 0x3c9 };
static uint64_t scratch[64] __attribute__((aligned(4096)));

static void run(const char *name, uint64_t spsr, void (*fn)(uint64_t), uint64_t argument)
{
    run_at(spsr, fn, argument);
    show_events(name);
}

/* What each row does that it does not do with nothing set. */
static struct event base[sizeof(rows) / sizeof(rows[0])][2];
static unsigned nbase[sizeof(rows) / sizeof(rows[0])];

static bool known;                      /* QEMU 7.2 has neither HCR_EL2.TIDCP nor MDCR_EL2.TPMCR */
static bool waits_trap;                 /* without a trap, WFI would wait for ever */

static void run_rows(const char *name, uint64_t spsr, bool first)
{
    print("== ");
    print(name);
    put('\n');
    for (unsigned n = 0; n < sizeof(rows) / sizeof(rows[0]); n++) {
        bool same = !first;

        if ((rows[n].fn == i_wfi && !waits_trap) || (rows[n].fn == i_eret && spsr == EL2H))
            continue;
        run_at(spsr, rows[n].fn, (uint64_t)scratch);
        same = same && nevents == nbase[n];
        for (unsigned e = 0; same && e < nevents && e < 2; e++)
            same = events[e].level == base[n][e].level && events[e].esr == base[n][e].esr;
        if (first) {
            nbase[n] = nevents;
            base[n][0] = events[0];
            base[n][1] = events[1];
        }
        if (known && !same)
            put('!');
        if (same)
            nevents = 0;
        else
            show_events(rows[n].name);
    }
}

#define HCR_BASE B(31)
static void hcr_rows(uint64_t spsr)
{
    static const struct { const char *name; uint64_t bits; } set[] = {
        { "TWI", B(13) }, { "TID0", B(15) }, { "TID1", B(16) }, { "TID2", B(17) }, { "TID3", B(18) }, { "TSC", B(19) },
        { "TIDCP", B(20) }, { "TACR", B(21) }, { "TSW", B(22) }, { "TPCP", B(23) }, { "TPU", B(24) }, { "TTLB", B(25) }, { "TVM", B(26) },
        { "TDZ", B(28) }, { "TRVM", B(30) }, { "AMO IMO FMO", B(3) | B(4) | B(5) },
    };

    for (unsigned n = 0; n < sizeof(set) / sizeof(set[0]); n++) {
        if (spsr == EL0T && set[n].bits == B(30))       /* EL1's handler would be trapped */
            continue;
        msr(HCR_EL2, HCR_BASE | set[n].bits);
        waits_trap = set[n].bits & B(13);
        known = set[n].bits == B(20);
        run_rows(set[n].name, spsr, false);
        waits_trap = known = false;
    }
    msr(HCR_EL2, HCR_BASE);
}

static void at_el2_rows(void)
{
    uint64_t cptr = mrs(CPTR_EL2), mdcr = mrs(MDCR_EL2);

    msr(HCR_EL2, HCR_BASE);
    msr(CNTHCTL_EL2, 3);
    run_rows("EL1", EL1H, true);
    hcr_rows(EL1H);
    msr(CPTR_EL2, cptr | B(10));
    run_rows("CPTR_EL2.TFP", EL1H, false);
    msr(CPTR_EL2, cptr | B(31));
    run_rows("CPTR_EL2.TCPAC", EL1H, false);
    msr(CPTR_EL2, cptr);
    for (unsigned bit = 5; bit < 12; bit++) {
        if (bit == 7)
            continue;
        msr(MDCR_EL2, mdcr | B(bit));
        line("MDCR_EL2 bit", bit);
        known = bit == 5;
        run_rows("MDCR_EL2", EL1H, false);
        known = false;
    }
    msr(MDCR_EL2, mdcr);
    for (unsigned v = 0; v < 3; v++) {
        msr(CNTHCTL_EL2, v);
        line("CNTHCTL_EL2", v);
        run_rows("CNTHCTL_EL2", EL1H, false);
    }
    msr(CNTHCTL_EL2, 3);
    msr(TPIDRRO_EL0, 1);
    msr(CNTKCTL_EL1, 0);
    run_rows("EL0", EL0T, true);
    msr(CNTKCTL_EL1, 0x303);
    msr(CNTHCTL_EL2, 0);
    run_rows("EL0 CNTHCTL_EL2", EL0T, false);
    msr(CNTHCTL_EL2, 3);
    msr(CNTKCTL_EL1, 0);
    msr(SCTLR_EL1, mrs(SCTLR_EL1) | B(14) | B(15) | B(16) | B(18) | B(26));
    run_rows("EL0, allowed by EL1", EL0T, true);
    hcr_rows(EL0T);
    msr(CPTR_EL2, cptr | B(10));
    run_rows("CPTR_EL2.TFP", EL0T, false);
    msr(CPTR_EL2, cptr);
    msr(MDCR_EL2, mdcr | B(6));
    msr(PMUSERENR_EL0, 1);          /* QEMU does not trap what ER or CR allow */
    run_rows("MDCR_EL2.TPM", EL0T, false);
    msr(PMUSERENR_EL0, 0);
    msr(MDCR_EL2, mdcr);
    msr(HCR_EL2, HCR_BASE | B(27));
    run_rows("TGE", EL0T, false);
    msr(CPTR_EL2, cptr | B(10));
    run_rows("TGE, TFP", EL0T, false);
    msr(CPTR_EL2, cptr);
    msr(HCR_EL2, HCR_BASE);
    msr(TPIDRRO_EL0, 0);
}

/* ---- what EL1 is told of the processor */

static volatile uint64_t told[8];
static void i_told(uint64_t p)
{
    told[0] = mrs(MIDR_EL1);
    told[1] = mrs(MPIDR_EL1);
    told[2] = mrs(CurrentEL);
}

static void test_virtual_ids(void)
{
    msr(VPIDR_EL2, 0x12345678);
    msr(VMPIDR_EL2, 0x80000305);
    run("virtual ids", EL1H, i_told, 0);
    line("midr", told[0]);
    line("mpidr", told[1]);
    line("level", told[2]);
    line("midr here", mrs(MIDR_EL1) != 0x12345678);
    line("mpidr here", mrs(MPIDR_EL1));
    msr(VPIDR_EL2, mrs(MIDR_EL1));
    msr(VMPIDR_EL2, mrs(MPIDR_EL1));
}

/* ---- stage 2 */

static uint64_t tables[24][512] __attribute__((aligned(8192)));
static uint64_t *s2_l1, *s2_l2, *s2_l3, *s1_l0, *s1_l1, *s1_l2, *s1_l3;
static uint64_t page[512] __attribute__((aligned(4096)));
enum { AF = 1 << 10, SH = 3 << 8, S2R = 1 << 6, S2W = 1 << 7, NORMAL = 15 << 2 };
#define IPA 0xc0000000ul                /* the guest's page, at level 1 index 3 */
#define VA 0x8000000000ul

static void flush(void) { insn("dsb ish; tlbi alle1; tlbi vmalls12e1; dsb ish; isb"); }

/* RAM and the devices as they are; s2_l3[0] onwards maps IPA. */
static void stage2_on(void)
{
    s2_l1 = tables[0];
    s2_l2 = tables[2];
    s2_l3 = tables[3];
    s1_l0 = tables[4];
    s1_l1 = tables[5];
    s1_l2 = tables[6];
    s1_l3 = tables[7];
    s2_l1[0] = 0x00000000 | AF | S2R | S2W | 1;
    s2_l1[1] = 0x40000000 | AF | SH | S2R | S2W | NORMAL | 1;
    s2_l1[3] = (uint64_t)s2_l2 | 3;
    s2_l2[0] = (uint64_t)s2_l3 | 3;
    s2_l3[0] = (uint64_t)page | AF | SH | S2R | S2W | NORMAL | 3;
    msr(VTCR_EL2, B(31) | 24 | 1 << 6 | 1 << 8 | 1 << 10 | 3 << 12 | 2 << 16);  /* 40 bits from level 1 */
    msr(VTTBR_EL2, (uint64_t)s2_l1);
    msr(HCR_EL2, HCR_BASE | 1);
    flush();
}

#define ACCESSES(R) \
    R(a_ldr, "ldr x10, [%0, #8]") R(a_ldrw, "ldr w11, [%0, #8]") R(a_ldrb, "ldrb w12, [%0, #3]") R(a_ldrsb, "ldrsb x9, [%0, #3]") \
    R(a_ldrsbw, "ldrsb w9, [%0, #3]") R(a_ldrsh, "ldrsh x9, [%0, #2]") R(a_ldrsw, "ldrsw x9, [%0, #4]") R(a_ldrh, "ldrh w9, [%0, #2]") \
    R(a_str, "str x10, [%0, #8]") R(a_strw, "str w11, [%0, #8]") R(a_strb, "strb wzr, [%0, #8]") R(a_strh, "strh w12, [%0, #8]") \
    R(a_pre, "mov x9, %0; ldr x10, [x9, #8]!") R(a_post, "mov x9, %0; str x10, [x9], #8") R(a_reg, "mov x9, #1; ldr x10, [%0, x9, lsl #3]") \
    R(a_ldtr, "ldtr x10, [%0, #8]") R(a_ldur, "ldur w10, [%0, #5]") R(a_ldp, "ldp x9, x10, [%0]") R(a_stp, "stp x9, x10, [%0]") \
    R(a_ldxr, "ldxr x9, [%0]") R(a_stxr, "ldxr x9, [%0]; stxr w10, x9, [%0]") R(a_ldar, "ldar w9, [%0]") R(a_stlr, "stlr x9, [%0]") \
    R(a_ldrq, "ldr q0, [%0]") R(a_ld1, "ld1 {v0.16b}, [%0]") R(a_prfm, "prfm pldl1keep, [%0]") \
    R(a_zva, "dc zva, %0") R(a_civac, "dc civac, %0") R(a_cvau, "dc cvau, %0")
ACCESSES(ROW)
static const struct row accesses[] = { ACCESSES(ENTRY) };

static void i_fetch(uint64_t p)
{
    __asm__ volatile("adr x9, 1f; str x9, [%0]; mov x30, x9; br %1; 1: str xzr, [%0]" :: "r"(&skip_to), "r"(p) : "x9", "x30", "memory");
}

static void run_accesses(const char *name, uint64_t spsr, uint64_t at)
{
    print("== ");
    print(name);
    put('\n');
    for (unsigned n = 0; n < sizeof(accesses) / sizeof(accesses[0]); n++) {
        run_at(spsr, accesses[n].fn, at);
        if (nevents)
            show_events(accesses[n].name);
    }
    run("fetch", spsr, i_fetch, at);
}

static void guest_mmu(void)
{
    static const uint64_t attr = AF | SH | 1;

    s1_l0[0] = (uint64_t)s1_l1 | 3;
    s1_l0[1] = (uint64_t)tables[8] | 3;
    tables[8][0] = (uint64_t)s1_l2 | 3;
    s1_l2[0] = (uint64_t)s1_l3 | 3;
    s1_l3[0] = IPA | AF | SH | 3;
    s1_l3[1] = (IPA + 0x1000) | AF | SH | 3;
    s1_l3[2] = IPA | AF | SH | 3 | 1 << 7;              /* read-only at stage 1 */
    s1_l1[0] = attr | 1 << 2 | 0;
    s1_l1[1] = 0x40000000 | attr;
    msr(MAIR_EL1, 0x04ff);
    msr(TTBR0_EL1, (uint64_t)s1_l0);
    msr(TCR_EL1, 16 | 1 << 23 | 1 << 8 | 1 << 10 | 3 << 12 | 2ul << 32);
    msr(SCTLR_EL1, 0x30d00801 | B(14) | B(15) | B(16) | B(18) | B(26) | B(2) | B(12));
}

static void show_at(const char *name, uint64_t va)
{
    static const char *const kind[] = { " s12e1r ", " s12e1w ", " s12e0r ", " s1e1r " };

    print(name);
    for (unsigned n = 0; n < 4; n++) {
        uint64_t par;

        switch (n) {
        case 0: __asm__ volatile("at s12e1r, %0; isb" :: "r"(va)); break;
        case 1: __asm__ volatile("at s12e1w, %0; isb" :: "r"(va)); break;
        case 2: __asm__ volatile("at s12e0r, %0; isb" :: "r"(va)); break;
        default: __asm__ volatile("at s1e1r, %0; isb" :: "r"(va)); break;
        }
        par = mrs(PAR_EL1);
        print(kind[n]);
        short_hex(par & 1 ? par & 0xb7f : par & ~0xb80ul & 0xffffffffffffful);
    }
    put('\n');
}

static void test_stage2(void)
{
    static const struct { const char *name; uint64_t bits; } leaf[] = {
        { "invalid", 0 }, { "no access flag", S2R | S2W | 3 }, { "nothing allowed", AF | 3 }, { "read", AF | S2R | 3 }, { "write", AF | S2W | 3 },
        { "no execute", AF | S2R | S2W | 3 | B(54) }, { "all", AF | S2R | S2W | 3 }, { "reserved type", AF | S2R | S2W | 1 },
    };

    page[0] = 0xd65f03c0d65f03c0ul;     /* ret */
    stage2_on();
    for (unsigned n = 0; n < sizeof(leaf) / sizeof(leaf[0]); n++) {
        s2_l3[0] = leaf[n].bits ? (uint64_t)page | SH | NORMAL | leaf[n].bits : 0;
        flush();
        run_accesses(leaf[n].name, EL1H, IPA);
        page[0] = 0xd65f03c0d65f03c0ul;
    }
    run("level 2", EL1H, i_a_ldr, IPA + 0x200000);
    run("level 1", EL1H, i_a_ldr, 0x80001000);
    run("beyond", EL1H, i_a_ldr, B(40));
    s2_l1[2] = 0xff000000000ul | AF | S2R | S2W | 1;
    flush();
    run("output beyond", EL1H, i_a_ldr, 0x80001000);
    s2_l1[2] = 0;
    s2_l3[0] = (uint64_t)page | AF | SH | S2R | NORMAL | 3;
    flush();
    /* with stage 1 on: IPA in HPFAR, VA in FAR */
    guest_mmu();
    flush();
    run_accesses("stage 1 and 2", EL1H, VA);
    run("stage 1 first", EL1H, i_a_str, VA + 0x2000);
    run("stage 2 second", EL1H, i_a_ldr, VA + 0x1008);
    run("crossing", EL1H, i_a_ldur, VA + 0xff8);
    run("no stage 1", EL1H, i_a_ldr, VA + 0x5008);
    show_at("at", VA + 0x123);
    show_at("at read-only", VA + 0x2123);
    show_at("at nothing at stage 2", VA + 0x1123);
    show_at("at nothing at stage 1", VA + 0x5123);
    /* AT by the guest itself: a walk that stage 2 refuses traps */
    run("at by EL1", EL1H, i_at_s1e1r, VA);
    s1_l2[1] = (IPA + 0x5000) | 3;      /* the table is behind stage 2 */
    flush();
    run("walk refused", EL1H, i_a_ldr, VA + 0x200008);
    run("walk refused, store", EL1H, i_a_str, VA + 0x200008);
    run("walk refused, fetch", EL1H, i_fetch, VA + 0x200000);
    run("at by EL1, walk refused", EL1H, i_at_s1e1r, VA + 0x200000);
    show_at("at, walk refused", VA + 0x200000);
    /* HCR_EL2.PTW: a walk through device memory */
    page[0] = IPA | AF | SH | 3;
    s1_l2[1] = IPA | 3;
    s2_l3[0] = (uint64_t)page | AF | SH | S2R | S2W | 1 << 2 | 3;
    msr(HCR_EL2, HCR_BASE | 1 | B(2));
    flush();
    run("PTW", EL1H, i_a_ldr, VA + 0x200008);
    msr(HCR_EL2, HCR_BASE | 1);
    flush();
    run("no PTW", EL1H, i_a_ldr, VA + 0x200008);
    /* DC: stage 1 off and cacheable; translation is on although HCR_EL2.VM is 0 */
    s2_l3[0] = (uint64_t)page | AF | SH | S2R | NORMAL | 3;
    msr(HCR_EL2, HCR_BASE | B(12));
    flush();
    run("DC", EL1H, i_a_str, IPA);
    msr(HCR_EL2, HCR_BASE | 1);
    /* TLBI by IPA, and by VMID */
    s2_l3[0] = (uint64_t)page | AF | SH | S2R | S2W | NORMAL | 3;
    flush();
    run("mapped", EL1H, i_a_ldr, VA);
    s2_l3[0] = 0;
    __asm__ volatile("dsb ish; tlbi ipas2e1is, %0; dsb ish; tlbi vmalle1is; dsb ish; isb" :: "r"(IPA >> 12) : "memory");
    run("after ipas2e1is", EL1H, i_a_ldr, VA);
    s2_l3[0] = (uint64_t)page | AF | SH | S2R | S2W | NORMAL | 3;
    insn("dsb ish");
    run("mapped", EL1H, i_a_ldr, VA);
    tables[10][0] = s2_l1[0];
    tables[10][1] = s2_l1[1];
    msr(VTTBR_EL2, (uint64_t)tables[10] | 5ul << 48);
    run("another VMID", EL1H, i_a_ldr, VA);
    msr(VTTBR_EL2, (uint64_t)s2_l1);
    run("the first VMID", EL1H, i_a_ldr, VA);
    /* concatenated level 1 tables need two pages: 40 bits begin at 1 with two */
    tables[1][0] = 0x40000000 | AF | SH | S2R | S2W | NORMAL | 1;
    flush();
    msr(SCTLR_EL1, 0x30d00800 | B(14) | B(15) | B(16) | B(18) | B(26));
    run("second of the concatenated", EL1H, i_a_ldr, B(39) + ((uint64_t)page & 0x3fffffff));
    /* EL0's accesses go there, too */
    s2_l3[0] = 0;
    flush();
    msr(TPIDRRO_EL0, 1);
    run("EL0", EL0T, i_a_ldr, IPA);
    msr(TPIDRRO_EL0, 0);
    msr(HCR_EL2, HCR_BASE);
    flush();
}

/* VTCR_EL2's sizes and levels that do not fit: a fault of level 0 */
static void test_vtcr(void)
{
    static const uint32_t kind[] = {
        24 | 1 << 6, 25 | 1 << 6, 26 | 0 << 6, 32 | 1 << 6, 34 | 0 << 6, 16 | 2 << 6, 24 | 2 << 6, 24 | 0 << 6, 20 | 2 << 6, 39 | 0 << 6,
        24 | 1 << 6 | 1 << 14, 34 | 0 << 6 | 1 << 14,
    };

    for (unsigned n = 0; n < sizeof(kind) / sizeof(kind[0]); n++) {
        msr(VTCR_EL2, B(31) | kind[n] | 1 << 8 | 1 << 10 | 3 << 12 | 2 << 16);
        msr(VTTBR_EL2, (uint64_t)tables[12]);       /* empty */
        msr(HCR_EL2, HCR_BASE | 1);
        flush();
        line("VTCR_EL2", kind[n]);
        for (unsigned bits = 20; bits < 49; bits += 7) {
            uint64_t par;

            __asm__ volatile("at s12e1r, %1; isb; mrs %0, PAR_EL1" : "=r"(par) : "r"(B(bits) | 0x1000));
            line(" at", par & 0xb7f);
        }
        msr(HCR_EL2, HCR_BASE);
    }
    flush();
}

/* ---- virtual interrupts */

static void i_unmask(uint64_t p) { __asm__ volatile("mrs x9, ISR_EL1; str x9, [%0]; msr DAIFClr, #7; nop; nop; msr DAIFSet, #7" :: "r"(p) : "x9", "memory"); }

static void test_virtual_interrupts(void)
{
    static const struct { const char *name; uint64_t bits; } set[] = {
        { "VI, not routed", B(7) }, { "VI", B(7) | B(4) }, { "VF", B(6) | B(3) }, { "VSE", B(8) | B(5) },
    };

    for (unsigned n = 0; n < sizeof(set) / sizeof(set[0]); n++) {
        told[0] = 0;
        msr(HCR_EL2, HCR_BASE | set[n].bits);
        run(set[n].name, EL1H, i_unmask, (uint64_t)told);
        line(" isr", told[0]);
        line(" hcr", mrs(HCR_EL2));
        msr(HCR_EL2, HCR_BASE);
    }
}

/* ---- illegal returns */

static void test_returns(void)
{
    static const uint32_t bad[] = { 0x3cd, 0x3c1, 0x3c2, 0x3c6, 0x3ca };
    extern char leave_svc[];

    for (unsigned n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
        __asm__ volatile("adr x9, 1f; msr ELR_EL2, x9; msr SPSR_EL2, %0; eret; 1: nop" :: "r"((uint64_t)bad[n]) : "x9", "memory");
        show_events("illegal return");
    }
    /* to EL1 while TGE is set */
    msr(HCR_EL2, HCR_BASE | B(27));
    __asm__ volatile("adr x9, 1f; msr ELR_EL2, x9; mov x9, #0x3c5; msr SPSR_EL2, x9; eret; 1: nop" ::: "x9", "memory");
    show_events("to EL1 under TGE");
    msr(HCR_EL2, HCR_BASE);
    (void)leave_svc;
}

/* ---- EL2's host extensions, where there are */

static void test_vhe(void)
{
    if (!(mrs(ID_AA64MMFR1_EL1) >> 8 & 15))
        return;
    msr(TPIDRRO_EL0, 1);
    msr(HCR_EL2, HCR_BASE | B(34) | B(27));
    msr(CPTR_EL2, 3 << 20);
    run_rows("E2H TGE: EL0", EL0T, false);
    msr(CPTR_EL2, 1 << 20);
    run_rows("E2H TGE: EL0, FPEN 1", EL0T, false);
    msr(CPTR_EL2, 0);
    run_rows("E2H TGE: EL0, FPEN 0", EL0T, false);
    msr(TPIDRRO_EL0, 0);
    msr(CPTR_EL2, 3 << 20);
    msr(HCR_EL2, HCR_BASE | B(34));
    run_rows("E2H: EL1", EL1H, false);
    msr(CPTR_EL2, 0);
    run_rows("E2H: EL1, FPEN 0", EL1H, false);
    msr(CPTR_EL2, 3 << 20);
    /* registers of EL1 and _EL12 */
    msr(S3_5_C12_C0_0, mrs(S3_5_C12_C0_0));
    line("vbar_el12 is EL1's", mrs(S3_5_C12_C0_0) != mrs(VBAR_EL1));
    line("vbar_el1 is EL2's", mrs(VBAR_EL2) == mrs(VBAR_EL1));
    line("tcr_el12", mrs(S3_5_C2_C0_2) == mrs(TCR_EL1));
    line("cnthctl", mrs(CNTHCTL_EL2));
    line("cntkctl_el12", mrs(S3_5_C14_C1_0));
    msr(HCR_EL2, HCR_BASE);
    insn("mov x9, #0x33ff; msr CPTR_EL2, x9; isb; mrs x9, S3_5_C12_C0_0");
    show_events("!vbar_el12 without E2H");
}

/* ---- EL3 */

static void i_smc_wfi(uint64_t p) { __asm__ volatile("smc #3; wfi"); }
/* ---- MDCR_EL2.HPMN keeps counters from EL1; HPME enables those */
static void i_hpmn(uint64_t p)
{
    __asm__ volatile("mrs x9, PMCR_EL0; ubfx x9, x9, #11, #5; str x9, [%0]; mov x9, #-1; msr PMCNTENSET_EL0, x9; mrs x9, PMCNTENSET_EL0; "
                     "str x9, [%0, #8]; msr PMCNTENCLR_EL0, x9; mrs x9, PMCNTENSET_EL0; str x9, [%0, #16]" :: "r"(p) : "memory", "x9");
}
static void i_hpmn_last(uint64_t p) { __asm__ volatile("mrs x9, PMEVCNTR2_EL0; mrs x9, PMEVTYPER2_EL0" ::: "x9"); }
static void i_hpmn_behind(uint64_t p) { __asm__ volatile("mrs x9, PMEVCNTR3_EL0; msr PMEVTYPER3_EL0, xzr" ::: "x9"); }

static uint64_t counts(void)
{
    uint64_t start = mrs(PMEVCNTR4_EL0);

    for (volatile unsigned n = 0; n < 10000; n++)
        if (mrs(PMEVCNTR4_EL0) != start)
            return 1;
    return 0;
}

static void test_hpmn(void)
{
    enum { CYCLES = 0x11, HPME = 1 << 7 };
    uint64_t mdcr = mrs(MDCR_EL2) & ~31ul;

    line("!hpmn after reset", mrs(MDCR_EL2) & 31);
    msr(HCR_EL2, HCR_BASE);
    msr(MDCR_EL2, mdcr | 3);
    msr(PMCNTENSET_EL0, B(4));
    run("!hpmn: EL1", EL1H, i_hpmn, (uint64_t)scratch);
    line("!hpmn: N", scratch[0]);
    line("!hpmn: PMCNTENSET", scratch[1]);
    line("!hpmn: none of EL2's", scratch[2]);
    line("!hpmn: N at EL2", mrs(PMCR_EL0) >> 11 & 31);
    line("!hpmn: EL2's is still set", mrs(PMCNTENSET_EL0));
    run("!hpmn: the last counter", EL1H, i_hpmn_last, 0);
    run("!hpmn: one behind", EL1H, i_hpmn_behind, 0);
    msr(PMEVTYPER4_EL0, CYCLES | B(27));        /* at EL2 */
    msr(PMCR_EL0, 1);
    line("!hpmn: PMCR.E does not enable EL2's", counts());
    msr(PMCR_EL0, 0);
    msr(MDCR_EL2, mdcr | 3 | HPME);
    line("!hpmn: HPME does", counts());
    msr(PMCNTENCLR_EL0, B(4));
    msr(MDCR_EL2, mdcr | 6);
}

static void test_el3(void)
{
    static const struct { const char *name; uint64_t bits; } set[] = {
        { "NS RW HCE", 0x501 }, { "NS RW", 0x401 }, { "ST", 0xd01 }, { "TWI", 0x1501 }, { "TLOR", 0x4501 }, { "secure", 0x400 },
        { "secure ST", 0xc00 },
    };
    uint64_t scr = mrs(SCR_EL3);

    msr(HCR_EL2, HCR_BASE);
    msr(CNTHCTL_EL2, 3);
    run_rows("EL3: EL2", EL2H, true);
    for (unsigned n = 0; n < 5; n++) {
        msr(SCR_EL3, set[n].bits);
        waits_trap = set[n].bits & B(12);
        run_rows(set[n].name, EL2H, false);
    }
    msr(SCR_EL3, scr);
    msr(CPTR_EL3, B(10));
    run_rows("CPTR_EL3.TFP", EL2H, false);
    msr(CPTR_EL3, B(31));
    run_rows("CPTR_EL3.TCPAC", EL2H, false);
    msr(CPTR_EL3, 0);
    for (unsigned bit = 6; bit < 11; bit++) {
        if (bit == 7 || bit == 8)
            continue;
        __asm__ volatile("msr S3_6_C1_C3_1, %0; isb" :: "r"(B(bit)));
        line("MDCR_EL3 bit", bit);
        run_rows("MDCR_EL3", EL2H, false);
    }
    __asm__ volatile("msr S3_6_C1_C3_1, xzr; isb");
    run_rows("EL3: EL1", EL1H, true);
    for (unsigned n = 0; n < sizeof(set) / sizeof(set[0]); n++) {
        msr(SCR_EL3, set[n].bits);
        waits_trap = set[n].bits & B(12);
        if (set[n].bits != 0x401 && set[n].bits & 0x100)
            run_rows(set[n].name, EL1H, false);
    }
    waits_trap = false;
    /* Secure EL1 leaves by SMC: rows that need HVC are left out there */
    msr(SCR_EL3, 0x501);
    msr(CPTR_EL3, B(10));
    run_rows("CPTR_EL3.TFP", EL1H, false);
    msr(CPTR_EL2, 0x33ff | B(10));
    run_rows("CPTR_EL2.TFP and EL3's", EL1H, false);
    msr(CPTR_EL3, 0);
    run_rows("CPTR_EL2.TFP", EL1H, false);
    msr(CPTR_EL2, 0x33ff);
    msr(HCR_EL2, HCR_BASE | B(19));
    run_rows("TSC", EL1H, false);
    msr(HCR_EL2, HCR_BASE | B(13));
    msr(SCR_EL3, 0x1501);
    waits_trap = true;
    run_rows("TWI of both", EL1H, false);
    waits_trap = false;
    /* SCR_EL3.SMD: no way out but another trap */
    msr(HCR_EL2, HCR_BASE);
    msr(SCR_EL3, 0x1581);
    leave_by_wfi = true;
    run("SMD: EL2", EL2H, i_smc_wfi, 0);
    run("SMD: EL1", EL1H, i_smc_wfi, 0);
    msr(HCR_EL2, HCR_BASE | B(19));
    run("SMD, TSC: EL1", EL1H, i_smc_wfi, 0);
    leave_by_wfi = false;
    msr(HCR_EL2, HCR_BASE);
    msr(SCR_EL3, scr);
}

void main(void);
void main(void)
{
    top = mrs(CurrentEL) >> 2;
    line("level", top);
    if (top == 3) {
        test_el3();
        print("done\n");
        return;
    }
    at_el2_rows();
    test_virtual_ids();
    test_virtual_interrupts();
    test_returns();
    test_stage2();
    test_vtcr();
    test_vhe();
    test_hpmn();
    print("done\n");
}
