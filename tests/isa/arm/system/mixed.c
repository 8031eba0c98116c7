/* AArch32 at EL1 and EL0 below a hypervisor or a monitor, which is AArch64 (mixed64.elf) or AArch32 (hyp32.elf): what traps
 * where with which syndrome, interrupts, stage 2. Debian's QEMU must print the same (test_arm_system.py). Lines with ! are
 * where QEMU 7.2 is known to differ from the manual. */
#include "mixed.h"

#define V7 (sizeof(reg) == 4)            /* the hypervisor is AArch32, all of the processor Armv7 */
#define BIT(n) (UINT64_C(1) << (n))

void print(const char *s) { while (*s) put(*s++); }

void hex(uint64_t v)
{
    int n = 60;

    while (n && !(v >> n & 15))
        n -= 4;
    while (n < 60 && v >> (n + 4))
        n += 4;
    for (; n >= 0; n -= 4)
        put("0123456789abcdef"[v >> n & 15]);
}

void line(const char *name, uint64_t v)
{
    print(name);
    put(' ');
    hex(v);
    put('\n');
}

void title(const char *name)
{
    print("== ");
    print(name);
    put('\n');
}

/* ---- the registers of what was interrupted */

reg regs[31];
reg top_reg(unsigned n) { return regs[n]; }
void set_top_reg(unsigned n, reg v) { regs[n] = v; }

/* D1.20.2: which X register is which LR, and SP, where the vectors left the SPSR */
static struct saved saved_by(unsigned mode)
{
    static const uint8_t lr[32] = { [M_IRQ_] = 16, [M_SVC_] = 18, [M_ABT_] = 20, [M_UND_] = 22, [M_FIQ_] = 30 };
    unsigned n = lr[mode];

    return (struct saved){ (uint32_t)regs[n], (uint32_t)regs[n == 30 ? 29 : n + 1] };
}

/* ---- who took what */

struct event { unsigned level, vector; uint32_t esr, spsr, far, lr, fsr; uint64_t hpfar; };
static struct event events[24];
static unsigned nevents, limit = 4;
static uint32_t value;                  /* r1 at the end */

static bool end_of_run(uint32_t pc, uint32_t spsr)
{
    return spsr & 0x20 ? *PTR32(uint16_t, pc - 2) == 0xdf63 : *PTR32(uint32_t, pc - 4) == 0xef000063;
}

static struct event *event(void)
{
    static struct event unused;

    return nevents < limit ? &events[nevents++] : &unused;
}

/* The distributor's interrupt of physical_tests() */
enum { GICD = 0x08000000, GICC = 0x08010000, INTID = 132 };
#define DIST(offset) (*(volatile uint32_t *)(uintptr_t)(GICD + (offset) + 4 * (INTID / 32)))
static void silence(void)
{
    DIST(0x180) = 1 << INTID % 32;      /* GICD_ICENABLER, GICD_ICPENDR */
    DIST(0x280) = 1 << INTID % 32;
    (void)DIST(0x280);
}

/* An exception that EL1 took and passed on: from its vectors, word `n`. */
static void lower_exception(unsigned n, bool hyp)
{
    static const uint8_t mode[] = { M_SVC_, M_UND_, M_SVC_, M_ABT_, M_ABT_, M_HYP_, M_IRQ_, M_FIQ_ };
    struct saved s = hyp ? hyp_saved() : saved_by(mode[n]);
    struct event *e;

    value = (uint32_t)top_reg(1);
    if (n == 2 && end_of_run(s.lr, s.spsr))
        leave();
    if (n == 6 || n == 7)
        silence();
    e = event();
    *e = (struct event){ .level = hyp ? 2 : 1, .vector = n, .spsr = s.spsr, .lr = s.lr };
    if ((n == 3 || n == 4) && !hyp) {
        e->fsr = (uint32_t)(n == 3 ? GET(IFSR) : GET(DFSR));
        e->far = n == 3 ? cp_ifar() : cp_dfar();
    }
    leave();
}

void on_exception(const struct taken *t)
{
    uint32_t vectors[2] = { (uint32_t)(uintptr_t)PTR32(void, rows32_p->hvc_vectors), (uint32_t)(uintptr_t)PTR32(void, rows32_p->smc_vectors) };
    unsigned ec = t->esr >> 26;
    struct event *e;

    if ((t->vector == VEC_SYNC && (ec == 0x12 || ec == 0x13)) || t->vector == VEC_SMC) {
        for (unsigned n = 0; n < 2; n++)
            if (t->elr - 8 - vectors[n] - 32 < 64)
                lower_exception((unsigned)(t->elr - 8 - vectors[n] - 32) / 8, (t->spsr & 31) == M_HYP_);
    }
    value = (uint32_t)top_reg(1);
    if (t->vector == VEC_SYNC && ec == 0x11 && end_of_run((uint32_t)t->elr, t->spsr))
        leave();
    e = event();
    *e = (struct event){ .level = top, .vector = t->vector, .esr = t->esr, .spsr = t->spsr, .far = (uint32_t)t->far, .lr = (uint32_t)t->elr };
    if (top == 2 && (ec == 0x20 || ec == 0x24))
        e->hpfar = GET(HPFAR);
    if (nevents >= limit)
        leave();
    if (t->vector == VEC_SMC || (t->vector == VEC_SYNC && (ec == 0x11 || ec == 0x12)))
        return;
    if (t->vector == VEC_SYNC && ec == 0x13 && top == 3)
        return;
    if (t->vector == VEC_SYNC && ec == 0x20)
        leave();
    if (t->vector == VEC_SYNC) {
        set_return(t->elr + (t->esr & BIT(25) || !(t->spsr & 0x20) ? 4 : 2));      /* Armv7's HSR has IL for some alone */
        /* An instruction of an IT block is skipped with its condition. */
        if (t->spsr & 0x0600fc00)
            set_spsr(t->spsr & ~0x0600fc00);
    } else {
        silence();
        set_spsr(t->spsr | 0x1c0);
    }
}

static void show_event(const struct event *e, uint32_t fn)
{
    unsigned ec = e->esr >> 26;

    print(e->level == 1 ? " [EL1." : e->level == 2 ? " [EL2." : " [EL3.");
    hex(e->vector);
    if (e->level < top) {
        put(' ');
        hex(e->spsr & 0x1f1fffff);
        if (e->level == 1 && (e->vector == 3 || e->vector == 4)) {
            put(' ');
            hex(e->fsr);
            put(' ');
            hex(e->far);
        }
        put('+');
        hex(e->lr - fn);
    } else {
        put(' ');
        hex(e->esr);
        if (ec == 0x20 || ec == 0x24) {
            put(' ');
            if (e->far == e->lr)
                print("pc");
            else
                hex(e->far);
            if (e->level == 2) {
                put(' ');
                hex(e->hpfar);
            }
        }
        put('+');
        hex(e->lr - fn);
    }
    put(']');
}

static void show(const char *name, uint32_t fn, bool with_value)
{
    print(name);
    put(':');
    for (unsigned n = 0; n < nevents; n++)
        show_event(&events[n], fn);
    if (with_value) {
        put(' ');
        hex(value);
    }
    put('\n');
    nevents = 0;
}

void run(const char *name, uint32_t cpsr, uint32_t fn, uint32_t r0)
{
    set_top_reg(1, 0);
    value = 0;
    go(cpsr, fn, r0);
    show(name, fn & ~1u, true);
}

uint32_t test_fn(unsigned n) { return (uint32_t)(uintptr_t)PTR32(void, PTR32(const ptr32, rows32_p->tests)[n]); }

enum { SVC_MODE = 0x1d3, USR_MODE = 0x1d0, SCTLR_OFF = 0xc50838 };

/* ---- rows: only what is not as without traps is printed */

static struct event base[400][2];
static uint8_t nbase[400];
static uint32_t scratch[64] __attribute__((aligned(4096)));

static bool unsure;                     /* ... it leaves this trap of Armv7 out */
static bool hyp_known;                  /* ... it lets Secure modes have Hyp's registers */
static bool known;                      /* QEMU 7.2 lets what is undefined below the hypervisor stay so: HSTR; it has no TIDCP */

void run_rows(const char *name, uint32_t cpsr, bool first, bool waits)
{
    const struct row32 *row = PTR32(const struct row32, rows32_p->rows);
    bool user = (cpsr & 31) == M_USR_;

    title(name);
    for (unsigned n = 0; n < rows32_p->count && n < 400; n++) {
        uint32_t fn = (uint32_t)(uintptr_t)PTR32(void, row[n].fn);
        bool same = !first;

        if ((row[n].flags & ROW_WAITS && !waits) || (user && !(row[n].flags & ROW_EL0)))
            continue;
        set_top_reg(1, 0);
        set_top_reg(8, SCTLR_OFF);
        go(cpsr, fn, (uint32_t)(uintptr_t)scratch);
        same = same && nevents == nbase[n];
        for (unsigned e = 0; same && e < nevents && e < 2; e++)
            same = events[e].level == base[n][e].level && events[e].vector == base[n][e].vector && events[e].esr == base[n][e].esr;
        if (first) {
            nbase[n] = (uint8_t)nevents;
            base[n][0] = events[0];
            base[n][1] = events[1];
        }
        if (!same && (row[n].flags & (ROW_KNOWN | (hyp_known ? ROW_HYP : 0)) || (known && nbase[n] && base[n][0].level == 1) || unsure))
            put('!');
        if (same)
            nevents = 0;
        else
            show(PTR32(const char, row[n].name), fn, first && row[n].flags & ROW_VALUE && !nevents);
    }
}

/* ---- the hypervisor's traps */


static void hcr_rows(uint32_t cpsr)
{
    static const struct { const char *name; uint32_t bits; } set[] = {
        { "TWI", 1u << 13 }, { "TID0", 1u << 15 }, { "TID1", 1u << 16 }, { "TID2", 1u << 17 }, { "TID3", 1u << 18 }, { "TSC", 1u << 19 },
        { "TAC", 1u << 21 }, { "TSW", 1u << 22 }, { "TPC", 1u << 23 }, { "TPU", 1u << 24 }, { "TTLB", 1u << 25 }, { "TVM", 1u << 26 },
        { "TRVM", 1u << 30 }, { "TIDCP", 1u << 20 },
    };

    for (unsigned n = 0; n < sizeof(set) / sizeof(set[0]); n++) {
        SET(HCR, set[n].bits);
        known = set[n].bits & BIT(20);
        unsure = V7 && set[n].bits & (BIT(16) | BIT(18) | BIT(20) | BIT(22) | BIT(23) | BIT(24));
        run_rows(set[n].name, cpsr, false, set[n].bits & BIT(13));
        known = unsure = false;
    }
    SET(HCR, 0);
}

static void hstr_rows(uint32_t cpsr)
{
    for (unsigned n = 0; n < 16; n++) {
        if (n == 4 || n == 14)
            continue;
        SET(HSTR, 1u << n);
        line("HSTR", n);
        known = true;
        run_rows("HSTR", cpsr, false, false);
        known = false;
    }
    SET(HSTR, 0);
}

static void trap_tests(void)
{
    reg cptr = GET(HCPTR), mdcr = GET(HDCR);

    SET(HCR, 0);
    SET(HSTR, 0);
    SET(CNTHCTL, 3);
    SET(CNTKCTL, 0x303);
    run_rows("EL1", SVC_MODE, true, false);
    hcr_rows(SVC_MODE);
    hstr_rows(SVC_MODE);
    SET(HCPTR, cptr | BIT(10) | BIT(11));
    run_rows("HCPTR.TCP10 TCP11", SVC_MODE, false, false);
    SET(HCPTR, cptr | BIT(15));
    unsure = V7;
    run_rows("HCPTR.TASE", SVC_MODE, false, false);
    unsure = false;
    SET(HCPTR, cptr | BIT(31));
    unsure = V7;
    run_rows("HCPTR.TCPAC", SVC_MODE, false, false);
    unsure = false;
    SET(HCPTR, cptr | BIT(20));
    run_rows("HCPTR.TTA", SVC_MODE, false, false);
    SET(HCPTR, cptr);
    SET(CPACR, 0);
    run_rows("CPACR 0", SVC_MODE, false, false);
    SET(HCPTR, cptr | BIT(10) | BIT(11));
    run_rows("CPACR 0, HCPTR.TCP10", SVC_MODE, false, false);
    SET(HCPTR, cptr);
    SET(CPACR, 0xf00000);
    for (unsigned bit = 5; bit < 12; bit++) {
        if (bit == 7)
            continue;
        SET(HDCR, mdcr | BIT(bit));
        line("HDCR bit", bit);
        run_rows("HDCR", SVC_MODE, false, false);
    }
    SET(HDCR, mdcr);
    for (unsigned v = 0; v < 3; v++) {
        SET(CNTHCTL, v);
        line("CNTHCTL", v);
        run_rows("CNTHCTL", SVC_MODE, false, false);
    }
    SET(CNTHCTL, 3);
    run_rows("EL0", USR_MODE, true, false);
    SET(CPACR, 0x500000);
    run_rows("EL0, CPACR 1", USR_MODE, false, false);
    SET(CPACR, 0xf00000);
    SET(CNTKCTL, 0);
    run_rows("EL0, CNTKCTL 0", USR_MODE, false, false);
    SET(CNTHCTL, 0);
    run_rows("EL0, CNTKCTL 0, CNTHCTL 0", USR_MODE, false, false);
    SET(CNTKCTL, 0x303);
    run_rows("EL0, CNTHCTL 0", USR_MODE, false, false);
    SET(CNTHCTL, 3);
    hcr_rows(USR_MODE);
    hstr_rows(USR_MODE);
    SET(HCR, BIT(27));
    run_rows("TGE", USR_MODE, false, false);
    SET(CPACR, 0);
    run_rows("TGE, CPACR 0", USR_MODE, false, false);
    SET(CPACR, 0xf00000);
    SET(HCR, 0);
    SET(HDCR, mdcr | BIT(8));
    run_rows("EL0, HDCR.TDE", USR_MODE, false, false);
    SET(HDCR, mdcr);
}

/* ---- registers and banks */

static void register_tests(void)
{
    go(SVC_MODE, test_fn(TEST_REGISTERS), 0x1000);
    show("registers", test_fn(TEST_REGISTERS), false);
    for (unsigned n = 0; n < 31; n++)
        line("r", top_reg(n));
    show_spsrs();
    SET(VPIDR, 0x12345678);
    SET(VMPIDR, 0x80000abc);
    SET(TPIDRURW, 0x11);
    SET(TPIDRURO, 0x22);
    SET(TPIDRPRW, 0x33);
    run_rows("registers of the hypervisor's", SVC_MODE, true, false);
    SET(TPIDRURW, 0);
    SET(TPIDRURO, 0);
    SET(TPIDRPRW, 0);
    run("illegal return to Hyp mode", 0x1da, test_fn(TEST_END), 0);
    run("illegal return to Monitor mode", 0x1d6, test_fn(TEST_END), 0);
    run("illegal return to no mode", 0x1d8, test_fn(TEST_END), 0);
    run("with IL", 0x1001d3, test_fn(TEST_END), 0);
    run("in Thumb, in an IT block", 0x9d3, test_fn(TEST_END_THUMB) | 1, 0);      /* EQ, one instruction left; Z is clear */
    run("... whose condition holds", 0x400009d3, test_fn(TEST_END_THUMB) | 1, 0);
}

/* ---- virtual and physical interrupts */

static void interrupt_tests(void)
{
    static const struct { const char *name; uint32_t hcr; } set[] = {
        { "VI", 1u << 4 | 1u << 7 }, { "VF", 1u << 3 | 1u << 6 }, { "VA", 1u << 5 | 1u << 8 }, { "VI without IMO", 1u << 7 },
    };

    for (unsigned n = 0; n < sizeof(set) / sizeof(set[0]); n++) {
        SET(HCR, set[n].hcr);
        run(set[n].name, SVC_MODE, test_fn(TEST_IRQ), 0);
        SET(HCR, set[n].hcr);
        run(set[n].name, USR_MODE & ~0x1c0u, test_fn(TEST_END), 0);
        SET(HCR, set[n].hcr);
        run("masked", SVC_MODE, test_fn(TEST_END), 0);
    }
    SET(HCR, 0);
}

/* Which signal the interrupt of each group is, and who takes it with which masks: G1.12.3, G1.12.4 of DDI 0487. */
static const char *set_group(unsigned which)
{
    DIST(0x80) = which == 1 ? 1 << INTID % 32 : 0;             /* GICD_IGROUPR, GICD_IGRPMODR, GICC_CTLR */
    if (gicv3)
        DIST(0xd00) = which == 2 ? 1 << INTID % 32 : 0;
    else
        *(volatile uint32_t *)GICC = which == 2 ? 3 : 0xb;
    return which == 0 ? "group 0" : which == 1 ? "group 1" : gicv3 ? "group 1 S" : "group 0 by IRQ";
}

static void interrupted(const char *name, uint32_t mode)
{
    static const char *const masks[] = { " aif", " a", " ai", " af", "" };

    for (unsigned m = 0; m < 5; m++) {
        uint32_t cpsr = mode | (m == 0 ? 0x1c0 : m == 1 ? 0x100 : m == 2 ? 0x180 : m == 3 ? 0x140 : 0);

        DIST(0x100) = 1 << INTID % 32;  /* GICD_ISENABLER, GICD_ISPENDR */
        DIST(0x200) = 1 << INTID % 32;
        __asm__ volatile("dsb sy; isb" ::: "memory");
        print(name);
        run(masks[m], cpsr, test_fn(mode == M_USR_ ? TEST_WAIT : TEST_ISR), 50);
        silence();
    }
}

static void physical_setup(void)
{
    *(volatile uint32_t *)GICD = gicv3 ? (top == 3 ? 0x30 : 0x10) : 3;
    *(volatile uint32_t *)GICD = gicv3 ? (top == 3 ? 0x37 : 0x13) : 3;
    *(volatile uint8_t *)(GICD + 0x400 + INTID) = 0x80;         /* GICD_IPRIORITYR, GICD_ITARGETSR, GICD_IROUTER */
    if (gicv3)
        *(volatile uint64_t *)(GICD + 0x6000 + 8 * INTID) = 0;
    else
        *(volatile uint8_t *)(GICD + 0x800 + INTID) = 1;
    gic_setup();
}

static void physical_tests(void)
{
    static const struct { const char *name; uint32_t hcr; } set[] = {
        { "0", 0 }, { "IMO", 1 << 4 }, { "FMO", 1 << 3 }, { "IMO FMO", 1 << 4 | 1 << 3 }, { "TGE", 1 << 27 },
    };

    physical_setup();
    for (unsigned which = 0; which < (gicv3 ? 2 : 3); which++) {
        for (unsigned n = 0; n < sizeof(set) / sizeof(set[0]); n++) {
            title(set_group(which));
            title(set[n].name);
            SET(HCR, set[n].hcr);
            if (!(set[n].hcr & 1 << 27))
                interrupted("EL1", M_SVC_);
            interrupted("EL0", M_USR_);
        }
    }
    SET(HCR, 0);
}

/* ---- stage 2 */

static uint64_t level1[1024] __attribute__((aligned(8192)));    /* stage 2: 1 GiB entries, two tables side by side */
static uint64_t level2[512] __attribute__((aligned(4096)));
static uint64_t level3[512] __attribute__((aligned(4096)));
static uint32_t sections[4096] __attribute__((aligned(16384))); /* short descriptors */
static uint32_t pages[256] __attribute__((aligned(1024)));
static uint64_t long1[4] __attribute__((aligned(32)));          /* LPAE's level 1, 2, 3 */
static uint64_t long2[512] __attribute__((aligned(4096)));
static uint64_t long3[512] __attribute__((aligned(4096)));
static uint32_t data[1024] __attribute__((aligned(4096)));

enum { S2_RW = 3 << 6, S2_RO = 1 << 6, S2_WO = 2 << 6, S2_NORMAL = 15 << 2, S2_SH = 3 << 8, S2_AF = 1 << 10 };
#define S2_PAGE (S2_NORMAL | S2_SH | S2_AF | 3)
#define PA(p) ((uint64_t)(uintptr_t)(p))
enum { IPA_DATA = 0x50000000, IPA_TABLE = 0x50001000 };

/* All of RAM as it is; at 0x50000000 4 KiB pages of ours. */
static void stage2_on(void)
{
    for (unsigned n = 0; n < 512; n++) {
        level2[n] = (0x40000000 + ((uint64_t)n << 21)) | S2_RW | S2_NORMAL | S2_SH | S2_AF | 1;
        level3[n] = 0;
    }
    level1[0] = S2_RW | S2_AF | 1;
    level1[1] = PA(level2) | 3;
    level2[128] = PA(level3) | 3;
    SET(VTCR, 0x80000000 | 1 << 6 | 3 << 12 | 1 << 10 | 1 << 8 | (sizeof(reg) == 8 ? 24 | 2 << 16 : 8 | 16));
    SET64(VTTBR, PA(level1) | (uint64_t)7 << 48);
    SET(HCR, 1);
}

static void flush_all(void)
{
#ifdef __aarch64__
    __asm__ volatile("dsb sy; tlbi alle1; dsb sy; isb" ::: "memory");
#else
    __asm__ volatile("dsb sy; mcr p15, 4, %0, c8, c7, 4; dsb sy; isb" :: "r"(0) : "memory");
#endif
}

static void at_ipa(uint64_t desc)
{
    level3[0] = desc;
    flush_all();
}

static void stage2_tests(void)
{
    uint32_t load = test_fn(TEST_LOAD), store = test_fn(TEST_STORE), fetch = test_fn(TEST_FETCH);

    title("stage 2");
    data[0] = 0x12345678;
    data[1] = 0xe12fff1e;
    stage2_on();
    at_ipa(PA(data) | S2_RW | S2_PAGE);
    run("load", SVC_MODE, load, IPA_DATA);
    run("store", USR_MODE, store, IPA_DATA);
    line("stored", data[0]);
    at_ipa(PA(data) | S2_RO | S2_PAGE);
    run("load read-only", SVC_MODE, load, IPA_DATA + 4);
    run("store read-only", SVC_MODE, store, IPA_DATA + 4);
    run("store read-only from EL0", USR_MODE, store, IPA_DATA + 8);
    at_ipa(PA(data) | S2_WO | S2_PAGE);
    run("load write-only", SVC_MODE, load, IPA_DATA + 4);
    at_ipa((PA(data) | S2_RW | S2_PAGE) & ~(uint64_t)S2_AF);
    run("no access flag", SVC_MODE, load, IPA_DATA + 4);
    at_ipa(0);
    run("nothing there", SVC_MODE, load, IPA_DATA + 0x123);
    run("nothing there, store", SVC_MODE, store, IPA_DATA + 0xffc);
    run("fetch of nothing", SVC_MODE, fetch, IPA_DATA + 0x40);
    run("fetch of nothing from EL0", USR_MODE, fetch, IPA_DATA + 0x40);
    run("no level 1", SVC_MODE, load, 0x80000000);
    at_ipa(PA(data) | S2_RW | S2_PAGE | BIT(54));
    run("fetch of XN", SVC_MODE, fetch, IPA_DATA + 4);
    at_ipa(0);
    limit = 24;
    run("forms", SVC_MODE, test_fn(TEST_LDR_FORMS), IPA_DATA);
    limit = 4;
    SET(HCR, 0);
    flush_all();
}

/* ---- stage 1 of AArch32, with and without stage 2 */

struct stage1 { uint32_t sctlr, dacr, from, to; };

static void stage1(const char *name, uint32_t cpsr, struct stage1 s)
{
    set_top_reg(4, s.dacr);
    set_top_reg(5, s.from);
    set_top_reg(6, s.to);
    run(name, cpsr, test_fn(TEST_MMU), s.sctlr);
    SET(SCTLR, SCTLR_OFF);
}

enum { SECTION_RW = 3 << 10 | 2, SECTION_RO = 1 << 15 | 2 << 10 | 2, SECTION_PRIV = 1 << 10 | 2, SCTLR_ON = 0xc50839, SCTLR_AFE = 1 << 29 };

static void short_tables(void)
{
    for (unsigned n = 0; n < 4096; n++)
        sections[n] = n << 20 | SECTION_RW;
    for (unsigned n = 0; n < 256; n++)
        pages[n] = 0;
    sections[0x600] = (uint32_t)PA(pages) | 5 << 5 | 1;
    sections[0x601] = 0;
    sections[0x602] = ((uint32_t)PA(data) & 0xfff00000) | SECTION_RO;
    sections[0x603] = ((uint32_t)PA(data) & 0xfff00000) | SECTION_PRIV;
    sections[0x604] = ((uint32_t)PA(data) & 0xfff00000) | SECTION_RW | 3 << 5;
    pages[0] = (uint32_t)PA(data) | 3 << 4 | 2;
    pages[1] = (uint32_t)PA(data) | 1 << 9 | 2 << 4 | 2;
    pages[2] = IPA_DATA | 3 << 4 | 2;
    SET(TTBCR, 0);
    SET64(TTBR0, PA(sections));
}

static void short_tests(const char *name)
{
    uint32_t at = (uint32_t)PA(data) & 0xfffff;

    title(name);
    short_tables();
    data[1] = 0x11223344;
    stage1("page", SVC_MODE, (struct stage1){ SCTLR_ON, 0x55555555, 0x60000004, 0x60000008 });
    line("stored", data[2]);
    stage1("read-only page", SVC_MODE, (struct stage1){ SCTLR_ON, 0x55555555, 0x60001004, 0x60001008 });
    stage1("no page", SVC_MODE, (struct stage1){ SCTLR_ON, 0x55555555, 0x60009004, 0x60000008 });
    stage1("no section", SVC_MODE, (struct stage1){ SCTLR_ON, 0x55555555, 0x60100004, 0x60000008 });
    stage1("read-only section", SVC_MODE, (struct stage1){ SCTLR_ON, 0x55555555, 0x60200004 + at, 0x60200008 + at });
    stage1("domain of a section", SVC_MODE, (struct stage1){ SCTLR_ON, 0x55555515, 0x60400004 + at, 0x60000008 });
    stage1("domain of a page", SVC_MODE, (struct stage1){ SCTLR_ON, 0x55555155, 0x60000004, 0x60000008 });
    stage1("manager", SVC_MODE, (struct stage1){ SCTLR_ON, 0xffffffff, 0x60001004, 0x60001008 });
    stage1("access flag", SVC_MODE, (struct stage1){ SCTLR_ON | SCTLR_AFE, 0x55555555, 0x60001004, 0x60001008 });
    stage1("stage 2's page", SVC_MODE, (struct stage1){ SCTLR_ON, 0x55555555, 0x60002004, 0x60002008 });
    SET(DACR, 0x55555555);
    SET(SCTLR, SCTLR_ON);
    flush_all();
    run("privileged section from EL0", USR_MODE, test_fn(TEST_LOAD), 0x60300000 + at);
    run("unaligned", USR_MODE, test_fn(TEST_LOAD), 0x60000005);
    run("fetch of no section", USR_MODE, test_fn(TEST_FETCH), 0x60100000);
    SET(SCTLR, SCTLR_ON | 2);
    run("unaligned, SCTLR.A", USR_MODE, test_fn(TEST_LOAD), 0x60000005);
    SET(SCTLR, SCTLR_OFF);
}

static void long_tests(const char *name)
{
    enum { LONG_PAGE = 3 | 1 << 6 | 3 << 8 | 1 << 10 };

    title(name);
    for (unsigned n = 0; n < 4; n++)
        long1[n] = (uint64_t)n << 30 | 1 | 1 << 6 | 3 << 8 | 1 << 10;
    for (unsigned n = 0; n < 512; n++)
        long2[n] = (0x40000000 + ((uint64_t)n << 21)) | 1 | 1 << 6 | 3 << 8 | 1 << 10, long3[n] = 0;
    long1[1] = PA(long2) | 3;
    long2[0x100] = PA(long3) | 3;
    long2[0x101] = 0;
    long3[0] = PA(data) | LONG_PAGE;
    long3[1] = PA(data) | LONG_PAGE | 1 << 7;
    long3[2] = PA(data) | (LONG_PAGE & ~(1 << 10));
    long3[3] = IPA_DATA | LONG_PAGE;
    long3[4] = PA(data) | LONG_PAGE | BIT(54);
    long3[5] = PA(data) | (LONG_PAGE & ~(1 << 6));
    SET(MAIR, 0xff);
    SET(TTBCR, 0x80000000 | 0x3500);
    SET64(TTBR0, PA(long1));
    data[1] = 0x55667788;
    stage1("page", SVC_MODE, (struct stage1){ SCTLR_ON, 0, 0x60000004, 0x60000008 });
    line("stored", data[2]);
    stage1("read-only page", SVC_MODE, (struct stage1){ SCTLR_ON, 0, 0x60001004, 0x60001008 });
    stage1("no access flag", SVC_MODE, (struct stage1){ SCTLR_ON, 0, 0x60002004, 0x60001008 });
    stage1("no page", SVC_MODE, (struct stage1){ SCTLR_ON, 0, 0x60009004, 0x60001008 });
    stage1("no table", SVC_MODE, (struct stage1){ SCTLR_ON, 0, 0x60200004, 0x60001008 });
    stage1("stage 2's page", SVC_MODE, (struct stage1){ SCTLR_ON, 0, 0x60003004, 0x60003008 });
    SET(SCTLR, SCTLR_ON);
    flush_all();
    run("fetch of XN", USR_MODE, test_fn(TEST_FETCH), 0x60004000);
    run("privileged page from EL0", USR_MODE, test_fn(TEST_LOAD), 0x60005000);
    SET(SCTLR, SCTLR_OFF);
    SET(TTBCR, 0);
}

static void stage1_tests(void)
{
    short_tests("short descriptors");
    long_tests("long descriptors");
    stage2_on();
    at_ipa(0);
    short_tests("short descriptors under stage 2");
    long_tests("long descriptors under stage 2");
    /* the tables where stage 2 has nothing */
    at_ipa(0);
    short_tables();
    SET64(TTBR0, IPA_DATA);
    stage1("!no first table", SVC_MODE, (struct stage1){ SCTLR_ON, 0x55555555, 0x60000004, 0x60000008 });
    SET64(TTBR0, PA(sections));
    sections[0x600] = IPA_DATA | 1;
    stage1("!no second table", SVC_MODE, (struct stage1){ SCTLR_ON, 0x55555555, 0x60000004, 0x60000008 });
    SET(HCR, 0);
    flush_all();
}

static void el1_setup(void)
{
    SET(VBAR, (uintptr_t)PTR32(void, top == 2 ? rows32_p->hvc_vectors : rows32_p->smc_vectors));
    SET(SCTLR, SCTLR_OFF);
    SET(CPACR, 0xf00000);
}

/* ---- EL3 */

enum { SCR_NS = 1, SCR_FW = 1 << 4, SCR_AW = 1 << 5, SCR_SCD = 1 << 7, SCR_HCE = 1 << 8 };
enum { HYP_MODE = 0x1da };

static void el3_tests(void)
{
    set_scr(0);
    el1_setup();
    SET(CNTKCTL, 0x303);
    hyp_known = V7 && has_hyp();
    run_rows("Secure EL1", SVC_MODE, true, false);
    hyp_known = false;
    SET(CPACR, 0);
    run_rows("CPACR 0", SVC_MODE, false, false);
    SET(CPACR, 0xf00000);
    run_rows("Secure EL0", USR_MODE, true, false);
    set_scr(SCR_NS);
    el1_setup();
    run_rows("EL1", SVC_MODE, true, false);
    if (has_hyp())
        set_hvbar((uint32_t)(uintptr_t)PTR32(void, rows32_p->smc_vectors));
    set_scr(SCR_NS | SCR_HCE);
    run_rows("HCE", SVC_MODE, false, false);
    set_scr(SCR_NS | SCR_FW | SCR_AW);
    run_rows("FW AW", SVC_MODE, false, false);
    SET(CPACR, 0);
    run_rows("CPACR 0", SVC_MODE, false, false);
    SET(CPACR, 0xf00000);
    run("illegal mode", 0x1d8, test_fn(TEST_END), 0);
    run_rows("EL0", USR_MODE, true, false);
    if (has_hyp()) {
        set_scr(SCR_NS | SCR_HCE);
        run_rows("Hyp", HYP_MODE, true, false);
    }
}

/* G5.1.2: an AArch32 EL3 has them twice. */
static void thread_id_tests(void)
{
    for (unsigned n = 0; n < 4; n++) {
        set_scr(n & 1 ? SCR_NS : 0);
        if (n < 2) {
            SET(TPIDRURW, 0x51 + n);
            SET(TPIDRURO, 0x61 + n);
            SET(TPIDRPRW, 0x71 + n);
            continue;
        }
        line("TPIDRURW", GET(TPIDRURW));
        line("TPIDRURO", GET(TPIDRURO));
        line("TPIDRPRW", GET(TPIDRPRW));
    }
    set_scr(0);
}

/* SCR.IRQ, FIQ, and of an AArch32 EL3 FW, which lets the Non-secure side mask what goes to Monitor mode. */
static void el3_physical_tests(void)
{
    set_scr(0);
    physical_setup();
    for (unsigned which = 0; which < 3; which++) {
        for (unsigned scr = 0; scr < 16; scr++) {
            uint32_t bits = (scr & 1 ? SCR_NS : 0) | (scr & 2 ? 1 << 1 : 0) | (scr & 4 ? 1 << 2 : 0) | (scr & 8 ? SCR_FW : 0);

            set_scr(0);
            title(set_group(which));
            line("SCR", bits);
            set_scr(bits);
            el1_setup();
            interrupted("EL1", M_SVC_);
            interrupted("EL0", M_USR_);
            if (!(bits & SCR_NS) || !has_hyp())
                continue;
            set_hvbar((uint32_t)(uintptr_t)PTR32(void, rows32_p->smc_vectors));
            interrupted("Hyp", M_HYP_);
            SET(HCR, 1 << 4 | 1 << 3);
            interrupted("IMO FMO: EL1", M_SVC_);
            interrupted("IMO FMO: EL0", M_USR_);
            interrupted("IMO FMO: Hyp", M_HYP_);
            SET(HCR, 0);
        }
    }
    set_scr(0);
}

void main_tests(void)
{
    line("top", top);
    el1_setup();
    if (top == 2) {
        trap_tests();
        register_tests();
        interrupt_tests();
        physical_tests();
        stage2_tests();
        stage1_tests();
    }
    if (top == 3) {
        el3_tests();
        thread_id_tests();
        el3_physical_tests();
    }
    machine_tests();
    print("done\n");
}

/* What the compiler takes for granted */
void *memset(void *p, int v, unsigned long n);
void *memset(void *p, int v, unsigned long n)
{
    for (volatile char *c = p; n; n--)
        *c++ = (char)v;
    return p;
}
