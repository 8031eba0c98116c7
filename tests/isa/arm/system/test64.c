/* AArch64's system side on bare metal: exceptions, translation, timers, PSCI, software step. Prints what it sees; the same
 * program runs on Rhea and on Debian's qemu-system-aarch64, and the outputs must be equal (test_arm_system.py). */
#include "test64.h"

#define UART (*(volatile uint32_t *)0x09000000)
void put(char c) { UART = c; }
void print(const char *s) { while (*s) put(*s++); }
void hex(uint64_t v)
{
    for (int n = 60; n >= 0; n -= 4)
        put("0123456789abcdef"[v >> n & 15]);
}
void line(const char *name, uint64_t v)
{
    print(name);
    put(' ');
    hex(v);
    put('\n');
}

/* ---- exceptions */

volatile struct taken taken;
uint64_t el0_return, el0_sp, el0_spsr, resume_at;
void (*irq_hook)(void);
static void (*sync_hook)(struct frame *f);

void exception(unsigned slot, struct frame *f)
{
    uint64_t esr = mrs(ESR_EL1), elr = mrs(ELR_EL1);
    unsigned ec = esr >> 26;

    if ((slot & 3) == 1) {              /* IRQ */
        if (irq_hook)
            irq_hook();
        return;
    }
    if (ec == 0x15 && (esr & 0xffff) == 99) {
        msr(SPSR_EL1, 0x3c5);
        msr(ELR_EL1, el0_return);
        return;
    }
    taken.count++;
    taken.slot = slot;
    taken.esr = esr;
    taken.far = mrs(FAR_EL1);
    taken.elr = elr;
    taken.spsr = mrs(SPSR_EL1);
    if (ec == 0xe)
        msr(SPSR_EL1, taken.spsr & ~(1ul << 20));
    if (sync_hook) {
        sync_hook(f);
        return;
    }
    if (resume_at) {
        msr(ELR_EL1, resume_at);
        resume_at = 0;
    } else if (ec != 0x15 && ec != 0x11) {
        msr(ELR_EL1, elr + 4);
    }
}

void report(const char *name, uint64_t far)
{
    print(name);
    print(": count ");
    put('0' + taken.count % 10);
    print(" slot ");
    put("0123456789abcdef"[taken.slot & 15]);
    print(" esr ");
    hex(taken.esr);
    print(" spsr ");
    hex(taken.spsr & ~0x1000u);         /* SSBS is the implementation's */
    print(taken.far == far ? " far ok\n" : " far -\n");
    taken.count = taken.slot = 0;
    taken.esr = 0;
}

static volatile uint64_t sink;
USER uint64_t user_svc(uint64_t a) { __asm__ volatile("svc #0x1234"); return a; }
USER uint64_t user_id(uint64_t a) { uint64_t v; __asm__ volatile("mov %0, #7; mrs %0, MIDR_EL1" : "=r"(v)); return 0; }
USER uint64_t user_daif(uint64_t a) { __asm__ volatile("msr DAIFSet, #1"); return a; }
USER uint64_t user_wfi(uint64_t a) { __asm__ volatile("wfi"); return a; }
USER uint64_t user_wfe(uint64_t a) { __asm__ volatile("sevl; wfe; wfe"); return a; }
USER uint64_t user_ctr(uint64_t a) { uint64_t v; __asm__ volatile("mrs %0, CTR_EL0" : "=r"(v)); return v; }
USER uint64_t user_cntvct(uint64_t a) { uint64_t v; __asm__ volatile("mrs %0, CNTVCT_EL0" : "=r"(v)); return 0; }
USER uint64_t user_cntp(uint64_t a) { uint64_t v; __asm__ volatile("mrs %0, CNTP_CTL_EL0" : "=r"(v)); return 0; }
USER uint64_t user_zva(uint64_t a) { __asm__ volatile("dc zva, %0" :: "r"(a) : "memory"); return a; }
USER uint64_t user_civac(uint64_t a) { __asm__ volatile("dc civac, %0" :: "r"(a) : "memory"); return a; }
USER uint64_t user_ivau(uint64_t a) { __asm__ volatile("ic ivau, %0" :: "r"(a) : "memory"); return a; }
USER uint64_t user_fp(uint64_t a) { __asm__ volatile("fmov d0, xzr"); return a; }
USER uint64_t user_load(uint64_t a) { return *(volatile uint32_t *)a; }
USER uint64_t user_store(uint64_t a) { *(volatile uint32_t *)a = 1; return 0; }
USER uint64_t user_jump(uint64_t a) { ((void (*)(void))a)(); return 0; }
USER uint64_t user_pmccntr(uint64_t a) { uint64_t v; __asm__ volatile("mrs %0, PMCCNTR_EL0" : "=r"(v)); return 0; }
USER uint64_t user_tpidrro(uint64_t a) { __asm__ volatile("msr TPIDRRO_EL0, %0" :: "r"(a)); return a; }
USER uint64_t user_eret(uint64_t a) { __asm__ volatile("eret"); return a; }
USER uint64_t user_hvc(uint64_t a) { __asm__ volatile("hvc #0"); return a; }
USER uint64_t user_sctlr(uint64_t a) { __asm__ volatile("msr SCTLR_EL1, %0" :: "r"(a)); return a; }

static void try_user(const char *name, uint64_t (*fn)(uint64_t), uint64_t arg)
{
    taken.count = 0;
    at_el0(fn, arg);
    report(name, arg);
}

static void test_exceptions(void)
{
    uint64_t sctlr = mrs(SCTLR_EL1);

    insn("svc #0x55"); report("svc", 0);
    insn("brk #0x77"); report("brk", 0);
    insn(".inst 0"); report("udf", 0);
    insn("mrs x9, S3_0_C15_C2_0"); report("impdef", 0);
    insn("mrs x9, SPSR_EL2"); report("el2 from el1", 0);
    insn("mrs x9, S3_4_C12_C0_0"); report("vbar_el2 from el1", 0);
    insn("msr S3_0_C0_C0_0, x9"); report("msr midr", 0);
    insn("mrs x9, S3_0_C0_C7_7; cbz x9, 1f; .inst 0; 1:"); report("reserved id", 0);
    insn("smc #0"); report("smc", 0);
    insn("mov x9, sp; msr SPSel, #0; mov x10, sp; msr SPSel, #1; mov sp, x9"); report("spsel", 0);
    insn("mrs x9, SP_EL0"); report("sp_el0 at spsel 1", 0);
    try_user("svc at el0", user_svc, 0);
    try_user("midr at el0", user_id, 0);
    msr(SCTLR_EL1, sctlr & ~((1ul << 9) | (1ul << 14) | (1ul << 15) | (1ul << 16) | (1ul << 18) | (1ul << 26)));
    /* QEMU 7.2 swaps op1 and op2 in the syndrome of MSR (immediate), and never traps WFE. */
    at_el0(user_daif, 0);
    line("!daif at el0", taken.esr);
    at_el0(user_wfe, 0);
    line("!wfe at el0", taken.esr);
    try_user("wfi at el0", user_wfi, 0);
    try_user("ctr at el0", user_ctr, 0);
    try_user("zva at el0", user_zva, (uint64_t)&sink);
    try_user("civac at el0", user_civac, (uint64_t)&sink);
    try_user("ivau at el0", user_ivau, (uint64_t)&sink);
    msr(SCTLR_EL1, sctlr | (1ul << 9) | (1ul << 14) | (1ul << 15) | (1ul << 26));
    try_user("daif at el0, allowed", user_daif, 0);
    try_user("ctr at el0, allowed", user_ctr, 0);
    msr(SCTLR_EL1, sctlr);
    msr(CNTKCTL_EL1, 0);
    try_user("cntvct at el0", user_cntvct, 0);
    try_user("cntp at el0", user_cntp, 0);
    msr(CNTKCTL_EL1, 0x303);
    try_user("cntvct at el0, allowed", user_cntvct, 0);
    try_user("cntp at el0, allowed", user_cntp, 0);
    msr(CPACR_EL1, 1 << 20);
    try_user("fp at el0", user_fp, 0);
    insn("fmov d0, xzr"); report("fp at el1, allowed", 0);
    msr(CPACR_EL1, 0);
    insn("fmov d0, xzr"); report("fp at el1", 0);
    msr(CPACR_EL1, 3 << 20);
    try_user("pmccntr at el0", user_pmccntr, 0);
    try_user("tpidrro at el0", user_tpidrro, 0);
    try_user("eret at el0", user_eret, 0);
    try_user("hvc at el0", user_hvc, 0);
    try_user("sctlr at el0", user_sctlr, 0);
}

static void test_return(void)
{
    uint64_t daif;

    /* Illegal: EL2 from EL1, EL0 with SP_ELx, AArch64 with M[1]: PSTATE.IL is set and the next instruction raises. */
    static const uint32_t bad[] = { 0x3c9, 0x3c1, 0x3c6, 0x3d9, 0x3cd };

    for (unsigned n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
        __asm__ volatile("adr x9, 1f; msr ELR_EL1, x9; msr SPSR_EL1, %0; mov x10, sp; eret; 1: nop"
                         :: "r"((uint64_t)bad[n]) : "x9", "x10", "memory");
        report("illegal return", 0);
    }
    __asm__ volatile("adr x9, 1f; msr ELR_EL1, x9; mov x9, #0x345; movk x9, #0xa000, lsl #16; msr SPSR_EL1, x9; eret; 1: mrs %0, NZCV; mrs x9, DAIF; orr %0, %0, x9"
                     : "=r"(daif) :: "x9", "memory");
    line("nzcv daif after eret", daif);
    insn("msr DAIFSet, #15");
    /* pc alignment */
    __asm__ volatile("adr x9, 1f; ldr x10, =resume_at; str x9, [x10]; adr x9, 1f; add x9, x9, #2; br x9; 1: nop" ::: "x9", "x10", "memory");
    report("pc alignment", taken.far);
    /* sp alignment */
    msr(SCTLR_EL1, mrs(SCTLR_EL1) | 8);
    __asm__ volatile("mov x10, sp; msr SPSel, #0; mov x9, #8; mov sp, x9; ldr x9, [sp]; msr SPSel, #1; mov sp, x10" ::: "x9", "x10", "memory");
    line("!sp alignment", taken.esr);            /* QEMU does not check it */
    taken.count = 0;
    taken.esr = taken.spsr = 0;
    msr(SCTLR_EL1, mrs(SCTLR_EL1) & ~8ul);
    line("isr", mrs(ISR_EL1));
    line("currentel", mrs(CurrentEL));
}

/* ---- translation */

static uint64_t tables[64][2048] __attribute__((aligned(65536)));
static unsigned tables_used;
static uint64_t *table_new(void)
{
    uint64_t *t = tables[tables_used++];

    for (unsigned n = 0; n < 2048; n++)
        t[n] = 0;
    return t;
}

enum { AF = 1 << 10, NG = 1 << 11, RO = 1 << 7, USERP = 1 << 6, SH = 3 << 8, ATTR_DEV = 1 << 2 };
#define UXN (1ul << 54)
#define PXN (1ul << 53)
#define DBM (1ul << 51)
#define CONT (1ul << 52)
extern char image_end[], vectors[];
static uint64_t *l0, *l1, *l3;
#define TEST_VA 0x8000000000ul          /* entry 1 of level 0 */

static void tlbi_all(void) { insn("dsb ish; tlbi vmalle1; dsb ish; isb"); }

/* RAM and devices as they are; the .user pages for EL0; a page of tests at TEST_VA. */
static void mmu_on(void)
{
    extern char user_entry[], user_stack_top[];
    uint64_t *l2 = table_new(), *test1 = table_new(), *test2 = table_new(), *fine = table_new();
    uint64_t us = (uint64_t)&user_entry & ~0xffful, ue = (uint64_t)&user_stack_top;

    l0 = table_new();
    l1 = table_new();
    l3 = table_new();
    l0[0] = (uint64_t)l1 | 3;
    l0[1] = (uint64_t)test1 | 3;
    l1[0] = 0x00000000 | AF | ATTR_DEV | UXN | PXN | 1;
    l1[1] = (uint64_t)l2 | 3;
    for (unsigned n = 0; n < 512; n++)
        l2[n] = (0x40000000 + n * 0x200000ul) | AF | SH | 1;
    l2[(us >> 21) & 511] = (uint64_t)fine | 3;
    for (unsigned n = 0; n < 512; n++) {
        uint64_t pa = (us & ~0x1ffffful) + n * 4096ul;

        fine[n] = pa | AF | SH | 3 | (pa >= us && pa < ue ? USERP : 0);
        if (pa >= us && pa < ((ue - 1) & ~0xffful))
            fine[n] |= RO;
    }
    test1[0] = (uint64_t)test2 | 3;
    test2[0] = (uint64_t)l3 | 3;
    msr(MAIR_EL1, 0x00000000000004fful);
    msr(TTBR0_EL1, (uint64_t)l0);
    msr(TCR_EL1, 16 | (1 << 23) | (1ul << 8) | (1ul << 10) | (3ul << 12) | (16ul << 16) | (2ul << 30) | (5ul << 32) | (1ul << 37));
    insn("dsb ish; tlbi vmalle1; dsb ish; isb");
    msr(SCTLR_EL1, mrs(SCTLR_EL1) | 0x1005);
}

static uint64_t at(unsigned op, uint64_t va)
{
    switch (op) {
    case 0: __asm__ volatile("at s1e1r, %0; isb" :: "r"(va)); break;
    case 1: __asm__ volatile("at s1e1w, %0; isb" :: "r"(va)); break;
    case 2: __asm__ volatile("at s1e0r, %0; isb" :: "r"(va)); break;
    default: __asm__ volatile("at s1e0w, %0; isb" :: "r"(va)); break;
    }
    return mrs(PAR_EL1);
}

static void show_at(const char *name, uint64_t va)
{
    print(name);
    for (unsigned op = 0; op < 4; op++) {
        uint64_t par = at(op, va);

        put(' ');
        hex(par & 1 ? par & 0x37f : par & ~0xb80ul);    /* SH, NS and the implementation's bits aside */
    }
    put('\n');
}

static uint64_t page[512 * 4] __attribute__((aligned(4096)));

static void test_permissions(void)
{
    static const uint64_t attrs[] = { 0, RO, USERP, USERP | RO, UXN, PXN, USERP | UXN, USERP | PXN, USERP | RO | UXN, NG | USERP, USERP | RO | PXN };

    page[0] = 0xd65f03c0d65f03c0ul;     /* ret */
    for (unsigned n = 0; n < sizeof(attrs) / sizeof(attrs[0]); n++) {
        l3[0] = (uint64_t)page | AF | SH | 3 | attrs[n];
        insn("dsb ishst");
        tlbi_all();
        line("page", attrs[n]);
        show_at("at", TEST_VA + 0x18);
        taken.count = 0;
        sink = *(volatile uint32_t *)(TEST_VA + 8); report("el1 load", TEST_VA + 8);
        *(volatile uint32_t *)(TEST_VA + 16) = 5; report("el1 store", TEST_VA + 16);
        __asm__ volatile("adr x9, 1f; ldr x10, =resume_at; str x9, [x10]; mov x30, x9; br %0; 1: ldr x10, =resume_at; str xzr, [x10]"
                         :: "r"(TEST_VA) : "x9", "x10", "x30", "memory");
        report("el1 fetch", TEST_VA);
        try_user("el0 load", user_load, TEST_VA + 8);
        try_user("el0 store", user_store, TEST_VA + 16);
        __asm__ volatile("dsb ish");
        {
            extern char user_back[];

            resume_at = (uint64_t)user_back;
            try_user("el0 fetch", user_jump, TEST_VA);
            resume_at = 0;
        }
    }
}
__asm__(".section .user, \"ax\"\n.globl user_back\nuser_back: svc #99\n.previous");

static void test_faults(void)
{
    l3[0] = (uint64_t)page | SH | 3;            /* no access flag */
    l3[1] = 0;
    l3[2] = (uint64_t)page | AF | SH | 1;       /* reserved type */
    l3[3] = 0xff000000000ul | AF | 3;           /* beyond what there is */
    tlbi_all();
    sink = *(volatile uint32_t *)TEST_VA; report("access flag", TEST_VA);
    sink = *(volatile uint32_t *)(TEST_VA + 0x1004); report("level 3", TEST_VA + 0x1004);
    *(volatile uint32_t *)(TEST_VA + 0x2004) = 0; report("reserved", TEST_VA + 0x2004);
    sink = *(volatile uint32_t *)(TEST_VA + 0x200000); report("level 2", TEST_VA + 0x200000);
    sink = *(volatile uint32_t *)(TEST_VA + 0x40000000); report("level 1", TEST_VA + 0x40000000);
    sink = *(volatile uint32_t *)(TEST_VA * 3); report("level 0", TEST_VA * 3);
    sink = *(volatile uint32_t *)0x0001000000000000ul; report("not canonical", 0x0001000000000000ul);
    sink = *(volatile uint32_t *)0xffff000000000000ul; report("ttbr1 disabled", 0xffff000000000000ul);
    sink = *(volatile uint8_t *)0x5500000040080000ul; report("tag", 0);
    l3[1] = (uint64_t)page | AF | SH | 3;
    sink = *(volatile uint32_t *)(TEST_VA + 0x1004); report("faults are not cached", TEST_VA + 0x1004);
    msr(SCTLR_EL1, mrs(SCTLR_EL1) | 2);
    sink = *(volatile uint32_t *)(TEST_VA + 0x1002); report("alignment", TEST_VA + 0x1002);
    msr(SCTLR_EL1, mrs(SCTLR_EL1) & ~2ul);
    sink = *(volatile uint32_t *)(TEST_VA + 0x1002); report("unaligned", TEST_VA + 0x1002);
    __asm__ volatile("ldaxr w9, [%0]" :: "r"(TEST_VA + 0x1002) : "x9"); report("unaligned exclusive", TEST_VA + 0x1002);
    __asm__ volatile("dc cvac, %0" :: "r"(TEST_VA + 0x200000)); report("dc cvac of nothing", TEST_VA + 0x200000);
    /* a store that crosses into a page that is not there changes nothing */
    page[511] = 0x1111111111111111ul;
    l3[2] = 0;
    tlbi_all();
    *(volatile uint64_t *)(TEST_VA + 0x1ffc) = 0; report("crossing store", TEST_VA + 0x2000);
    line("unchanged", page[511]);
    /* WXN */
    msr(SCTLR_EL1, mrs(SCTLR_EL1) & ~(1ul << 19));
}

/* A page is another one after TLBI by its address, by ASID with nG, and after the ASID changes. */
static void test_tlb(void)
{
    static uint64_t a[512] __attribute__((aligned(4096))), b[512] __attribute__((aligned(4096)));
    volatile uint64_t *p = (volatile uint64_t *)TEST_VA;

    a[0] = 0xaaaa;
    b[0] = 0xbbbb;
    l3[0] = (uint64_t)a | AF | SH | 3;
    tlbi_all();
    line("first", *p);
    l3[0] = (uint64_t)b | AF | SH | 3;
    __asm__ volatile("dsb ishst; tlbi vaae1is, %0; dsb ish; isb" :: "r"(TEST_VA >> 12) : "memory");
    line("after vaae1is", *p);
    l3[0] = (uint64_t)a | AF | SH | 3 | NG;
    __asm__ volatile("dsb ishst; tlbi vae1, %0; dsb ish; isb" :: "r"(TEST_VA >> 12) : "memory");
    line("after vae1", *p);
    l3[0] = (uint64_t)b | AF | SH | 3 | NG;
    __asm__ volatile("dsb ishst; tlbi aside1, xzr; dsb ish; isb" ::: "memory");
    line("after aside1", *p);
    l3[0] = (uint64_t)a | AF | SH | 3 | NG;
    insn("dsb ishst");
    msr(TTBR0_EL1, (uint64_t)l0 | 1ul << 48);
    line("another asid", *p);
    msr(TTBR0_EL1, (uint64_t)l0);
    /* by address, entered under a tag */
    tlbi_all();
    line("tagged", *(volatile uint64_t *)(TEST_VA | 0x7full << 56));
    l3[0] = (uint64_t)b | AF | SH | 3;
    __asm__ volatile("dsb ishst; tlbi vae1is, %0; dsb ish; isb" :: "r"(TEST_VA >> 12) : "memory");
    line("tagged, after vae1is", *(volatile uint64_t *)(TEST_VA | 0x7full << 56));
    /* a large block goes with an address in it */
    {
        uint64_t *test2 = (uint64_t *)(((uint64_t *)(l0[1] & ~3ul))[0] & ~3ul), old = test2[1];

        test2[1] = 0x40000000 | AF | SH | 1;
        tlbi_all();
        sink = *(volatile uint64_t *)(TEST_VA + 0x200000);
        sink = *(volatile uint64_t *)(TEST_VA + 0x300000);
        test2[1] = old;
        __asm__ volatile("dsb ishst; tlbi vae1is, %0; dsb ish; isb" :: "r"((TEST_VA + 0x200000) >> 12) : "memory");
        sink = *(volatile uint64_t *)(TEST_VA + 0x300000); report("block is gone", TEST_VA + 0x300000);
    }
}

/* TTBR1 with each granule and several sizes. */
static void test_granules(void)
{
    static const struct { const char *name; unsigned tg1, granule, t1sz; } kind[] = {
        { "4K 48", 2, 12, 16 }, { "4K 39", 2, 12, 25 }, { "4K 36", 2, 12, 28 }, { "4K 30", 2, 12, 34 }, { "4K 25", 2, 12, 39 },
        { "64K 48", 3, 16, 16 }, { "64K 42", 3, 16, 22 }, { "64K 36", 3, 16, 28 }, { "64K 29", 3, 16, 35 },
        { "4K, too small", 2, 12, 40 }, { "4K, too large", 2, 12, 12 },
    };
    uint64_t tcr = mrs(TCR_EL1) & ~((63ul << 16) | (1 << 23) | (3ul << 30));

    for (unsigned k = 0; k < sizeof(kind) / sizeof(kind[0]); k++) {
        unsigned g = kind[k].granule, stride = g - 3, bits = 64 - kind[k].t1sz, levels = (bits - g + stride - 1) / stride;
        uint64_t va = ~0ul << (bits > 52 ? 48 : bits), *t;
        unsigned saved = tables_used;
        uint64_t *root = g == 16 ? tables[tables_used = (tables_used + 3) & ~3u] : table_new();

        if (g == 16)
            tables_used += 32;
        for (unsigned n = 0; g == 16 && n < 8 * 8192; n++)
            root[n] = 0;
        t = root;
        for (unsigned l = 0; l + 1 < levels && levels < 5; l++) {
            uint64_t *next = g == 16 ? root + (l + 1) * 8192 : table_new();

            t[0] = (uint64_t)next | 3;
            t[1] = l + 2 == levels || (g == 12 && l + 3 == levels) ? (0x40000000ul & (~0ul << (g + stride * (levels - 1 - l)))) | AF | SH | 1 : 0;
            t = next;
        }
        t[0] = 0x40000000 | AF | SH | 3;
        t[1] = 0x40010000 | AF | SH | 3 | USERP | NG;
        t[2] = 0x40020000 | SH | 3;
        t[3] = 0x40030000 | AF | RO | 3 | CONT;
        msr(TTBR1_EL1, (uint64_t)root);
        msr(TCR_EL1, tcr | (uint64_t)kind[k].tg1 << 30 | (uint64_t)kind[k].t1sz << 16);
        tlbi_all();
        print(kind[k].name);
        put('\n');
        for (unsigned n = 0; n < 5; n++)
            show_at(" page", va + ((uint64_t)n << g) + 0x123);
        show_at(" block", va + (1ul << (g + stride)) + 0x4567);
        if (levels > 2)
            show_at(" higher", va + (1ul << (g + 2 * stride)) + 0x4567);
        show_at(" last", ~0ul);
        show_at(" below", va - 1);
        tables_used = saved;
    }
    msr(TCR_EL1, tcr | 1 << 23 | 16ul << 16 | 2ul << 30);
    tlbi_all();
}

/* ---- timers and interrupts: GICv2 at the board's addresses */

#define GICD(o) (*(volatile uint32_t *)(0x08000000ul + (o)))
#define GICC(o) (*(volatile uint32_t *)(0x08010000ul + (o)))
static volatile unsigned irqs;
static volatile uint32_t last_irq;

static void timer_irq(void)
{
    uint32_t iar = GICC(0xc);

    irqs++;
    last_irq = iar & 1023;
    if (last_irq == 27)
        msr(CNTV_CTL_EL0, 0);
    if (last_irq == 30)
        msr(CNTP_CTL_EL0, 0);
    GICC(0x10) = iar;
}

static void test_timers(void)
{
    uint64_t before, after;

    line("cntfrq", mrs(CNTFRQ_EL0));
    before = mrs(CNTVCT_EL0);
    after = mrs(CNTVCT_EL0);
    line("counts", after >= before);
    msr(CNTV_CVAL_EL0, before);
    msr(CNTV_CTL_EL0, 3);
    line("met, masked", mrs(CNTV_CTL_EL0));
    msr(CNTV_TVAL_EL0, 0x7fffffff);
    line("not met", mrs(CNTV_CTL_EL0));
    line("tval", mrs(CNTV_TVAL_EL0) > 0x70000000);
    msr(CNTV_CVAL_EL0, ~0ul);
    line("far", mrs(CNTV_CTL_EL0));
    msr(CNTV_CTL_EL0, 0);
    GICD(0) = 1;
    GICC(0) = 1;
    GICC(4) = 0xf0;
    GICD(0x100) = 1 << 27 | 1 << 30;
    irq_hook = timer_irq;
    insn("msr DAIFClr, #2");
    msr(CNTV_TVAL_EL0, 1000);
    msr(CNTV_CTL_EL0, 1);
    while (!irqs)
        insn("wfi");
    line("virtual timer", last_irq);
    msr(CNTP_TVAL_EL0, 5000);
    msr(CNTP_CTL_EL0, 1);
    while (irqs < 2)
        insn("wfi");
    line("physical timer", last_irq);
    /* pending while masked, taken when unmasked */
    insn("msr DAIFSet, #2");
    msr(CNTV_TVAL_EL0, -1);
    msr(CNTV_CTL_EL0, 1);
    while (!(mrs(ISR_EL1) & 0x80))
        ;
    line("masked", irqs);
    insn("wfi");                /* does not wait */
    insn("msr DAIFClr, #2; nop");
    insn("msr DAIFSet, #2");
    line("unmasked", irqs);
}

/* ---- PSCI */

static uint64_t hvc(uint64_t fn, uint64_t a, uint64_t b, uint64_t c)
{
    register uint64_t x0 __asm__("x0") = fn;
    register uint64_t x1 __asm__("x1") = a;
    register uint64_t x2 __asm__("x2") = b;
    register uint64_t x3 __asm__("x3") = c;

    __asm__ volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3) :: "memory", "x4", "x5", "x6", "x7");
    return x0;
}

static volatile uint64_t second_ran, second_context, second_el;

/* A processor that sleeps while another one changes the page that it looked at last: it has the new one when it wakes. */
enum { SLEEPER = 0x51ee, ROUNDS = 300, WAKE_SGI = 3 };
static volatile uint64_t sleeper_round, sleeper_wants, sleeper_stale;

static void sleeper(void)
{
    msr(MAIR_EL1, 0x00000000000004fful);
    msr(TTBR0_EL1, (uint64_t)l0);
    msr(TCR_EL1, 16 | (1 << 23) | (1ul << 8) | (1ul << 10) | (3ul << 12) | (16ul << 16) | (2ul << 30) | (5ul << 32) | (1ul << 37));
    tlbi_all();
    msr(SCTLR_EL1, mrs(SCTLR_EL1) | 0x1005);
    GICC(0) = 1;
    GICC(4) = 0xf0;
    second_ran = 1;
    while (sleeper_round < ROUNDS) {
        uint32_t iar;

        insn("wfi");                    /* masked interrupts end it too */
        iar = GICC(0xc);
        if ((iar & 1023) != WAKE_SGI)
            continue;
        GICC(0x10) = iar;
        sleeper_stale += *(volatile uint64_t *)TEST_VA != sleeper_wants;
        __asm__ volatile("dsb ish" ::: "memory");
        sleeper_round++;
    }
}
void second_main(uint64_t context);
__asm__(".globl second_main\nsecond_main: b second_c");
void second_c(uint64_t context)
{
    second_context = context;
    second_el = mrs(CurrentEL);
    if (context == SLEEPER)
        sleeper();
    second_ran = 1;
    hvc(0x84000002, 0, 0, 0);           /* CPU_OFF */
    second_ran = 2;
}

static void test_psci(void)
{
    extern char second_start[];

    line("version at least 0.2", (uint32_t)hvc(0x84000000, 0, 0, 0) >= 2);
    line("self", hvc(0xc4000004, mrs(MPIDR_EL1) & 0xff00fffffful, 0, 0));
    line("second is off", hvc(0xc4000004, 1, 0, 0));
    line("nobody", hvc(0xc4000004, 0x77, 0, 0));
    line("on nobody", hvc(0xc4000003, 0x77, (uint64_t)second_start, 0));
    line("on self", hvc(0xc4000003, 0, (uint64_t)second_start, 0));
    second_ran = 0;
    line("on", hvc(0xc4000003, 1, (uint64_t)second_start, 0xabcd1234));
    while (!second_ran)
        insn("yield");
    line("its context", second_context);
    line("its level", second_el);
    while (hvc(0xc4000004, 1, 0, 0) != 1)
        insn("yield");
    line("off again", second_ran);
}

static void test_sleeper(void)
{
    extern char second_start[];

    page[0] = 0x1111;
    page[512] = 0x2222;
    l3[0] = (uint64_t)page | AF | SH | 3;
    tlbi_all();
    GICD(0) = 1;
    second_ran = 0;
    hvc(0xc4000003, 1, (uint64_t)second_start, SLEEPER);
    while (!second_ran)
        insn("yield");
    for (unsigned n = 0; n < ROUNDS; n++) {
        for (volatile unsigned k = 0; k < 5000; k++)            /* most times it sleeps by now */
            ;
        sleeper_wants = n & 1 ? 0x1111 : 0x2222;
        l3[0] = (uint64_t)(page + (n & 1 ? 0 : 512)) | AF | SH | 3;
        switch (n / 2 % 4) {
        case 0: __asm__ volatile("dsb ishst; tlbi vae1is, %0; dsb ish; isb" :: "r"(TEST_VA >> 12) : "memory"); break;
        case 1: __asm__ volatile("dsb ishst; tlbi vaale1is, %0; dsb ish; isb" :: "r"(TEST_VA >> 12) : "memory"); break;
        case 2: __asm__ volatile("dsb ishst; tlbi vmalle1is; dsb ish; isb" ::: "memory"); break;
        default: __asm__ volatile("dsb ishst; tlbi vae1is, %0; tlbi vae1is, %1; dsb ish; isb" :: "r"(TEST_VA >> 12), "r"(1) : "memory"); break;
        }
        GICD(0xf00) = 1 << (16 + 1) | WAKE_SGI;
        while (sleeper_round == n)
            insn("yield");
    }
    line("pages that a sleeper did not see change", sleeper_stale);
    while (hvc(0xc4000004, 1, 0, 0) != 1)
        insn("yield");
}

/* ---- software step: EL0 stepped from EL1 */

static unsigned steps;
static uint64_t step_pc[4];
USER uint64_t user_steps(uint64_t a)
{
    __asm__ volatile("nop; nop; nop; svc #98" ::: "memory");
    return a;
}

static void stepped(struct frame *f)
{
    if (taken.esr >> 26 == 0x32) {
        if (steps < 4)
            step_pc[steps] = taken.elr;
        steps++;
        msr(SPSR_EL1, mrs(SPSR_EL1) | 1 << 21);
        if (steps > 40)
            msr(MDSCR_EL1, 0);
    } else {
        msr(MDSCR_EL1, 0);
        el0_spsr = 0;
    }
}

static void test_step(void)
{
    msr(OSLAR_EL1, 0);
    msr(MDSCR_EL1, 1);
    el0_spsr = 1 << 21;
    sync_hook = stepped;
    taken.count = 0;
    at_el0(user_steps, 0);
    sync_hook = 0;
    msr(MDSCR_EL1, 0);
    line("steps", steps);
    line("apart", step_pc[1] - step_pc[0] == 4 || step_pc[2] - step_pc[1] == 4);
    line("last", taken.esr);
    taken.count = 0;
    /* a hardware breakpoint on EL0's instruction */
    msr(DBGBVR0_EL1, (uint64_t)user_load & ~3ul);
    msr(DBGBCR0_EL1, 0x1e5);
    msr(MDSCR_EL1, 1 << 15);
    {
        extern char user_back[];

        resume_at = (uint64_t)user_back;
        try_user("breakpoint", user_load, (uint64_t)&sink);
        resume_at = 0;
    }
    msr(MDSCR_EL1, 0);
    msr(DBGBCR0_EL1, 0);
}

/* Breakpoints that are linked to one that compares CONTEXTIDR_EL1. The last two of six do. */
static void linked(const char *name, uint64_t bcr0, uint64_t bcr5, uint64_t context)
{
    extern char user_back[];

    msr(CONTEXTIDR_EL1, context);
    msr(DBGBVR5_EL1, 0x42);
    msr(DBGBVR3_EL1, 0x42);
    msr(DBGBCR5_EL1, bcr5);
    msr(DBGBCR3_EL1, 3 << 20 | 0x1e5);
    msr(DBGBCR0_EL1, bcr0);
    msr(MDSCR_EL1, 1 << 15);
    resume_at = (uint64_t)user_back;
    try_user(name, user_load, (uint64_t)&sink);
    resume_at = 0;
    msr(MDSCR_EL1, 0);
    msr(DBGBCR0_EL1, 0);
    msr(DBGBCR5_EL1, 0);
    msr(DBGBCR3_EL1, 0);
    msr(CONTEXTIDR_EL1, 0);
}

USER uint64_t user_nothing(uint64_t a) { return a; }
static void debug_off(struct frame *f) { msr(MDSCR_EL1, 0); }

static void test_linked(void)
{
    enum { EL0 = 0x1e5, LINKED = 1 << 20, TO5 = 5 << 16, TO3 = 3 << 16, TO2 = 2 << 16, CONTEXT = 2 << 20, CONTEXT_LINKED = 3 << 20 };

    msr(DBGBVR0_EL1, (uint64_t)user_load & ~3ul);
    linked("linked, same context", EL0 | LINKED | TO5, EL0 | CONTEXT_LINKED, 0x42);
    linked("linked, another context", EL0 | LINKED | TO5, EL0 | CONTEXT_LINKED, 0x43);
    linked("linked to a disabled one", EL0 | LINKED | TO5, 0, 0x42);
    linked("linked to one that is not", EL0 | LINKED | TO5, EL0 | CONTEXT, 0x43);
    linked("linked to an address", EL0 | LINKED | TO2, 0, 0x42);
    linked("linked to one without contexts", EL0 | LINKED | TO3, 0, 0x42);
    linked("a linked context alone", 0, EL0 | CONTEXT_LINKED, 0x42);
    /* QEMU 7.2 has no context breakpoints of their own. */
    msr(CONTEXTIDR_EL1, 0x42);
    msr(DBGBVR4_EL1, 0x42);
    msr(DBGBCR4_EL1, EL0 | CONTEXT);
    msr(MDSCR_EL1, 1 << 15);
    sync_hook = debug_off;
    taken.count = 0;
    at_el0(user_nothing, 0);
    line("!context", taken.esr);
    msr(CONTEXTIDR_EL1, 0x43);
    msr(MDSCR_EL1, 1 << 15);
    taken.count = 0;
    at_el0(user_nothing, 0);
    line("!another context", taken.count);
    sync_hook = 0;
    msr(MDSCR_EL1, 0);
    msr(DBGBCR4_EL1, 0);
    msr(CONTEXTIDR_EL1, 0);
    taken.count = 0;
}

/* ---- big-endian data at EL0 (SCTLR_EL1.E0E) */

static volatile uint64_t big[8] __attribute__((aligned(64)));
#define BIG(name, text)                                                                                                    \
    USER uint64_t big_##name(uint64_t p)                                                                                   \
    {                                                                                                                      \
        uint64_t v;                                                                                                        \
        __asm__ volatile(text : "=&r"(v) : "r"(p) : "memory", "x9", "x10", "x11", "v0", "v1");                             \
        return v;                                                                                                          \
    }
BIG(load8, "ldr %0, [%1]")
BIG(load4, "ldr %w0, [%1, #4]")
BIG(loads2, "ldrsh %0, [%1, #2]")
BIG(load1, "ldrb %w0, [%1, #3]")
BIG(pair, "ldp x9, x10, [%1]; add %0, x9, x10, lsl #1")
BIG(pair4, "ldp w9, w10, [%1, #8]; add %0, x9, x10, lsl #1")
BIG(store8, "mov x9, #0x1234; str x9, [%1, #16]; mov %0, #0")
BIG(store2, "mov x9, #0x5678; strh w9, [%1, #26]; mov %0, #0")
BIG(store_pair, "mov x9, #0x11; mov x10, #0x22; stp x9, x10, [%1, #32]; mov %0, #0")
BIG(exclusive, "ldaxr %0, [%1]; add x9, %0, #1; stlxr w10, x9, [%1]")
BIG(exclusive_pair, "ldxp %0, x9, [%1]; mov x11, #5; stxp w10, x9, x11, [%1]")
BIG(acquire, "ldar %w0, [%1]")
BIG(vector, "ldr q0, [%1]; mov %0, v0.d[1]")
BIG(vector4, "ldr s0, [%1, #4]; fmov %0, d0")
BIG(vector_pair, "ldp d0, d1, [%1]; fmov %0, d1")
BIG(elements2, "ld1 {v0.8h}, [%1]; fmov %0, d0")
BIG(structure, "ld2 {v0.4s, v1.4s}, [%1]; fmov %0, d1")
BIG(replicate, "ld1r {v0.4s}, [%1]; fmov %0, d0")
BIG(lane, "movi v0.16b, #0; ld1 {v0.s}[1], [%1]; fmov %0, d0")
BIG(store_elements, "movi v0.4s, #0x12; st1 {v0.4s}, [%1]; mov %0, #0")
BIG(store_vector, "movi v0.4s, #0x34; mov v0.s[0], wzr; str q0, [%1, #48]; mov %0, #0")

static void test_big_endian(void)
{
    static const struct { const char *name; uint64_t (*fn)(uint64_t); } rows[] = {
        { "load8", big_load8 }, { "load4", big_load4 }, { "loads2", big_loads2 }, { "load1", big_load1 }, { "pair", big_pair },
        { "pair4", big_pair4 }, { "store8", big_store8 }, { "store2", big_store2 }, { "store pair", big_store_pair },
        { "exclusive", big_exclusive }, { "exclusive pair", big_exclusive_pair }, { "acquire", big_acquire }, { "vector", big_vector },
        { "vector4", big_vector4 }, { "vector pair", big_vector_pair }, { "elements2", big_elements2 }, { "structure", big_structure },
        { "replicate", big_replicate }, { "lane", big_lane }, { "store elements", big_store_elements }, { "store vector", big_store_vector },
    };
    uint64_t sctlr = mrs(SCTLR_EL1), cpacr = mrs(CPACR_EL1);

    for (unsigned i = 0; i < 8; i++)
        big[i] = 0x8182838485868788ul + i * 0x1010101010101010ul;
    msr(CPACR_EL1, cpacr | 3 << 20);
    msr(SCTLR_EL1, sctlr | 1 << 24);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t mix = 0;

        print("big-endian ");
        line(rows[i].name, at_el0(rows[i].fn, (uint64_t)big));
        for (unsigned n = 0; n < 8; n++)
            mix = (mix << 7 | mix >> 57) ^ big[n];
        line("  memory", mix);
    }
    msr(SCTLR_EL1, sctlr);
    msr(CPACR_EL1, cpacr);
}

/* ---- watchpoints: which accesses meet them, what is told, and that the access has not happened */

static volatile uint64_t watched[8] __attribute__((aligned(64)));
static bool watch_told;

static void watch_met(struct frame *f)
{
    watch_told = true;
    print(" ec ");
    hex(taken.esr >> 26);
    print(" iss ");
    hex(taken.esr & 0x1ffffff);
    print(" far+");
    hex(taken.far - (uint64_t)watched);
    msr(MDSCR_EL1, 0);                  /* the instruction is done again */
    if (taken.esr >> 26 != 0x35)        /* an abort comes first, and again */
        msr(ELR_EL1, taken.elr + 4);
}

static void watch(const char *name, uint64_t offset, uint64_t control, void (*access)(uint64_t))
{
    watched[1] = 0x1111;
    msr(DBGWVR0_EL1, (uint64_t)watched + offset);
    msr(DBGWCR0_EL1, control | 1);
    watch_told = false;
    sync_hook = watch_met;
    print(name);
    msr(MDSCR_EL1, 1 << 15 | 1 << 13);
    access((uint64_t)watched);
    msr(MDSCR_EL1, 0);
    sync_hook = 0;
    line(watch_told ? " then" : " not met", watched[1]);
    msr(DBGWCR0_EL1, 0);
}

#define ACCESS(name, text) static void name(uint64_t p) { __asm__ volatile(text :: "r"(p) : "memory", "x9", "x10", "x11", "v0", "v1"); }
ACCESS(load8, "ldr x9, [%0, #8]")
ACCESS(store8, "mov x9, #5; str x9, [%0, #8]")
ACCESS(store1, "mov x9, #7; strb w9, [%0, #11]")
ACCESS(pair, "mov x9, #3; stp x9, x9, [%0]")
ACCESS(vector, "movi v0.16b, #1; str q0, [%0]")
ACCESS(structure, "ld2 {v0.2d, v1.2d}, [%0]")
ACCESS(exclusive, "ldaxr x9, [%0]; add %0, %0, #8; ldaxr x9, [%0]; mov x9, #9; stlxr w10, x9, [%0]")
ACCESS(unaligned, "ldur x9, [%0, #1]")
ACCESS(zeroed, "dc zva, %0")
ACCESS(unprivileged, "ldtr x9, [%0, #8]")

static void test_watch(void)
{
    enum { LOAD = 1 << 3, STORE = 1 << 4, EL1 = 1 << 1, EL0 = 1 << 2, ALL = 0xff << 5, FOUR = 0xf << 5, BYTE3 = 8 << 5 };

    __asm__ volatile("msr daifclr, #8");
    watch("watch load", 8, LOAD | EL1 | ALL, load8);
    watch("watch load, store armed", 8, STORE | EL1 | ALL, load8);
    watch("watch store", 8, STORE | EL1 | ALL, store8);
    watch("watch store, either", 8, LOAD | STORE | EL1 | ALL, store8);
    watch("watch store, other word", 16, STORE | EL1 | ALL, store8);
    watch("watch store, el0 only", 8, STORE | EL0 | ALL, store8);
    watch("watch byte", 8, STORE | EL1 | BYTE3, store1);
    watch("watch other bytes", 8, STORE | EL1 | (7 << 5), store1);
    watch("watch upper word", 12, STORE | EL1 | FOUR, store1);
    watch("watch pair", 8, STORE | EL1 | ALL, pair);
    watch("watch vector", 8, STORE | EL1 | ALL, vector);
    watch("watch structure", 24, LOAD | EL1 | ALL, structure);
    watch("watch exclusive", 8, STORE | EL1 | ALL, exclusive);
    watch("watch unaligned", 8, LOAD | EL1 | ALL, unaligned);
    watch("watch range", 0, STORE | EL1 | ALL | 5 << 24, store8);
    watch("watch zva", 8, STORE | EL1 | ALL, zeroed);
    watch("watch ldtr", 8, LOAD | EL1 | ALL, unprivileged);
    watch("watch disabled", 8, EL1 | ALL, store8);
    msr(CONTEXTIDR_EL1, 0x42);
    msr(DBGBVR4_EL1, 0x42);
    msr(DBGBCR4_EL1, 3 << 20 | 0x1e1);
    watch("watch linked", 8, STORE | EL1 | ALL | 1 << 20 | 4 << 16, store8);
    msr(CONTEXTIDR_EL1, 0x43);
    watch("watch linked, another context", 8, STORE | EL1 | ALL | 1 << 20 | 4 << 16, store8);
    msr(DBGBCR4_EL1, 0);
    msr(CONTEXTIDR_EL1, 0);
    __asm__ volatile("msr daifset, #8");
}

/* ---- performance monitors: event counters that software increments */

static void test_events(void)
{
    line("pmcr n", mrs(PMCR_EL0) >> 11 & 31);
    msr(PMCNTENSET_EL0, 1 << 0 | 1 << 3);
    msr(PMEVTYPER0_EL0, 0);
    msr(PMEVTYPER3_EL0, 1ul << 31);             /* not at EL1 */
    msr(PMEVCNTR0_EL0, 0);
    msr(PMEVCNTR3_EL0, 7);
    msr(PMSWINC_EL0, 0xff);
    line("off", mrs(PMEVCNTR0_EL0));
    msr(PMCR_EL0, 1);
    for (unsigned n = 0; n < 3; n++)
        msr(PMSWINC_EL0, 0xff);
    line("incremented", mrs(PMEVCNTR0_EL0));
    line("filtered", mrs(PMEVCNTR3_EL0));
    line("not enabled", mrs(PMEVCNTR5_EL0));
    msr(PMSELR_EL0, 0);
    line("selected", mrs(PMXEVCNTR_EL0));
    line("its type", mrs(PMXEVTYPER_EL0));
    msr(PMXEVCNTR_EL0, 0xffffffff);
    line("written", mrs(PMEVCNTR0_EL0));
    msr(PMOVSCLR_EL0, ~0ul);
    msr(PMEVTYPER1_EL0, 0x1e);                  /* counts the overflows of counter 0; QEMU 7.2 has no such */
    msr(PMEVCNTR1_EL0, 0);
    msr(PMCNTENSET_EL0, 1 << 1);
    msr(PMINTENSET_EL1, 1);
    msr(PMSWINC_EL0, 1);
    line("overflown", mrs(PMEVCNTR0_EL0));
    line("!chained", mrs(PMEVCNTR1_EL0));
    line("flags", mrs(PMOVSCLR_EL0));
    line("interrupt", *(volatile uint32_t *)0x08000200 >> 23 & 1);
    msr(PMOVSCLR_EL0, 1);
    line("gone", *(volatile uint32_t *)0x08000200 >> 23 & 1);
    msr(PMCR_EL0, 3);
    line("cleared", mrs(PMEVCNTR3_EL0));
    msr(PMSELR_EL0, 31);
    msr(PMXEVTYPER_EL0, 3ul << 30);
    line("the cycle counter's filter", mrs(PMCCFILTR_EL0));
    msr(PMINTENCLR_EL1, ~0ul);
    msr(PMCNTENCLR_EL0, ~0ul);
    msr(PMCR_EL0, 0);
}

void main(void);
void main(void)
{
    test_exceptions();
    test_return();
    test_big_endian();
    mmu_on();
    print("mmu on\n");
    test_permissions();
    test_faults();
    test_tlb();
    test_granules();
    test_timers();
    test_psci();
    test_sleeper();
    test_step();
    test_linked();
    test_watch();
    test_events();
    print("done\n");
}
