/* A bare-metal program for the privileged architecture: traps and delegation, protection, translation, interrupts.
 * Each check says what it found and what it wants; the last line says how many failed. It also runs under other emulators
 * of the virt machine, which is how it was checked itself. */
typedef unsigned long ul;
typedef unsigned long long u64;

struct trap { ul cause, epc, tval, status, a0, unused[3], sp; } trap;
struct trap *enter(ul mstatus, const void *pc, ul a0);
extern char do_ecall[], do_load[], do_store[], do_load4[], do_store4[], do_amo[], do_amomax[], do_lr[], do_jump[], do_csr_mstatus[], do_csr_satp[], do_csr_time[], do_csr_senvcfg[], do_csr_sstateen[], do_csr_mstateen[], do_csr_scountovf[], do_csr_hpm3[], do_write_time[], do_sfence[],
    do_sret[], do_mret[], do_wfi[], do_spin[], do_fp[], do_cbo_zero[], s_handler[], vectors[];

#define READ(csr) ({ ul v_; __asm__ volatile("csrr %0, " #csr : "=r"(v_)); v_; })
#define WRITE(csr, v) __asm__ volatile("csrw " #csr ", %0" :: "r"((ul)(v)) : "memory")
#define FENCE() __asm__ volatile("sfence.vma" ::: "memory")
#define XLEN ((ul)sizeof(ul) * 8)
#define INTERRUPT ((ul)1 << (XLEN - 1))
enum { U = 0, S = 1, M = 3 };
#define MPP(p) ((ul)(p) << 11)
#define SUM ((ul)1 << 18)
#define MXR ((ul)1 << 19)
#define MPRV ((ul)1 << 17)
#define TVM ((ul)1 << 20)
#define TW ((ul)1 << 21)
#define TSR ((ul)1 << 22)

/* ---- the console, and verdicts */
static volatile unsigned char *const uart = (unsigned char *)0x10000000;
static void put(char c) { while (!(uart[5] & 32)) ; uart[0] = (unsigned char)c; }
static void print(const char *s) { while (*s) put(*s++); }
static void hex(ul v) { for (int n = (int)XLEN - 4; n >= 0; n -= 4) put("0123456789abcdef"[v >> n & 15]); }
static unsigned passed, failed;
static void check(const char *what, ul got, ul want)
{
    if (got == want) {
        passed++;
        return;
    }
    failed++;
    print("FAILED "); print(what); print(": "); hex(got); print(", not "); hex(want); print("\n");
}
static void traps(const char *what, ul mstatus, const void *pc, ul a0, ul cause, ul tval)
{
    struct trap *t = enter(mstatus, pc, a0);
    if (t->cause != cause || (cause != 8 && cause != 9 && cause != 11 && t->tval != tval)) {
        failed++;
        print("FAILED "); print(what); print(": cause "); hex(t->cause); print(" tval "); hex(t->tval); print(" epc "); hex(t->epc);
        print(", not "); hex(cause); print(" "); hex(tval); print("\n");
        return;
    }
    passed++;
}

/* ---- exceptions and their delegation */
static void exceptions(void)
{
    ul word = *(unsigned *)do_csr_mstatus;
    struct trap *t;

    traps("ecall from M", MPP(M), do_ecall, 0, 11, 0);
    traps("ecall from S", MPP(S), do_ecall, 0, 9, 0);
    traps("ecall from U", MPP(U), do_ecall, 0, 8, 0);
    check("where the ecall was", trap.epc, (ul)do_ecall);
    check("MPP of a trap from U", trap.status >> 11 & 3, U);
    traps("mstatus from U", MPP(U), do_csr_mstatus, 0, 2, word);
    traps("mstatus from S", MPP(S), do_csr_mstatus, 0, 2, word);
    traps("mret from S", MPP(S), do_mret, 0, 2, *(unsigned *)do_mret);
    traps("sret from U", MPP(U), do_sret, 0, 2, *(unsigned *)do_sret);
    traps("write of a read-only CSR", MPP(M), do_write_time, 0, 2, *(unsigned *)do_write_time);
    traps("sret under TSR", MPP(S) | TSR, do_sret, 0, 2, *(unsigned *)do_sret);
    traps("satp", MPP(S), do_csr_satp, 0, 9, 0);
    traps("satp under TVM", MPP(S) | TVM, do_csr_satp, 0, 2, *(unsigned *)do_csr_satp);
    traps("sfence.vma under TVM", MPP(S) | TVM, do_sfence, 0, 2, *(unsigned *)do_sfence);
    traps("sfence.vma from U", MPP(U), do_sfence, 0, 2, *(unsigned *)do_sfence);
    traps("wfi under TW", MPP(S) | TW, do_wfi, 0, 2, *(unsigned *)do_wfi);
    traps("floating point without FS", MPP(M), do_fp, 0, 2, *(unsigned *)do_fp);
    traps("floating point with FS initial", MPP(M) | (ul)1 << 13, do_fp, 0, 11, 0);
    check("FS is dirty then, and SD set", trap.status >> 13 & 3, 3);
    check("SD", trap.status >> (XLEN - 1), 1);

    /* Where nobody answers: what an AMO cannot read is an AMO that failed, not a load. */
    traps("load from nowhere", MPP(M), do_load, 0x08000000, 5, 0x08000000);
    traps("store to nowhere", MPP(M), do_store, 0x08000000, 7, 0x08000000);
    traps("amoadd to nowhere", MPP(M), do_amo, 0x08000000, 7, 0x08000000);
    traps("amomaxu to nowhere", MPP(M), do_amomax, 0x08000000, 7, 0x08000000);
    traps("lr from nowhere", MPP(M), do_lr, 0x08000000, 5, 0x08000000);

    WRITE(medeleg, 1 << 8 | 1 << 2);
    WRITE(stvec, s_handler);
    traps("ecall from U to S", MPP(U), do_ecall, 0, 9, 0);
    check("scause", READ(scause), 8);
    check("sepc", READ(sepc), (ul)do_ecall);
    check("SPP", trap.status >> 8 & 1, 0);
    traps("illegal from S to S", MPP(S) | 2 /* SIE */, do_mret, 0, 9, 0);
    check("scause of illegal", READ(scause), 2);
    check("stval of illegal", READ(stval), *(unsigned *)do_mret);
    check("SPP from S", trap.status >> 8 & 1, 1);
    check("SPIE had SIE, SIE is clear", trap.status & 0x22, 0x20);
    traps("no delegation from M", MPP(M), do_csr_time + 4, 0, 11, 0);
    WRITE(medeleg, 0);
    WRITE(sepc, do_ecall);
    WRITE(mstatus, 0);
    t = enter(MPP(S) | 1 << 5 /* SPIE */, do_sret, 0);
    check("sret to U", t->cause, 8);
    check("SIE after sret", t->status >> 1 & 1, 1);
    WRITE(mstatus, MPP(2));
    check("MPP 2 is not legal", READ(mstatus) >> 11 & 3, 0);
    WRITE(mepc, do_ecall);
    WRITE(medeleg, -1);
    check("ecall from M is never delegated", READ(medeleg) >> 11 & 1, 0);
    WRITE(medeleg, 0);
}

/* ---- state enables, where there are any */
static void state_enables(void)
{
    ul word = *(unsigned *)do_csr_senvcfg, sword = *(unsigned *)do_csr_sstateen;

    if (enter(MPP(M), do_csr_mstateen, 0)->cause == 2)
        return;
    check("mstateen0 after reset", trap.a0, 0);
    traps("senvcfg without leave", MPP(S), do_csr_senvcfg, 0, 2, word);
    traps("sstateen0 without leave", MPP(S), do_csr_sstateen, 0, 2, sword);
    traps("mstateen0 from S", MPP(S), do_csr_mstateen, 0, 2, *(unsigned *)do_csr_mstateen);
#if __riscv_xlen == 64
    WRITE(0x30c, 1UL << 62);
#else
    WRITE(0x31c, 1UL << 30);
#endif
    traps("senvcfg with leave", MPP(S), do_csr_senvcfg, 0, 9, 0);
    traps("sstateen0 still without", MPP(S), do_csr_sstateen, 0, 2, sword);
#if __riscv_xlen == 64
    WRITE(0x30c, -1);
    check("what mstateen0 holds", READ(0x30c), 3UL << 62);
#else
    WRITE(0x31c, -1);
    check("what mstateen0h holds", READ(0x31c), 3UL << 30);
#endif
    traps("sstateen0 with leave", MPP(S), do_csr_sstateen, 0, 9, 0);
}

/* ---- counters' permissions */
static void counters(void)
{
    ul word = *(unsigned *)do_csr_time;

    WRITE(mcounteren, 0);
    WRITE(scounteren, -1);
    traps("time without mcounteren", MPP(S), do_csr_time, 0, 2, word);
    WRITE(mcounteren, -1);
    traps("time from S", MPP(S), do_csr_time, 0, 9, 0);
    traps("time from U", MPP(U), do_csr_time, 0, 8, 0);
    WRITE(scounteren, 0);
    traps("time from U without scounteren", MPP(U), do_csr_time, 0, 2, word);
    WRITE(mcycle, 5);
    check("mcycle after a write", READ(mcycle) < 10000000, 1);
    WRITE(mcountinhibit, 1);
    WRITE(mcycle, 1234);
    check("an inhibited counter", READ(mcycle), 1234);
    WRITE(mcountinhibit, 0);
}

/* ---- programmable counters, and what happens when they overflow (Sscofpmf) */
#if __riscv_xlen == 64
#define READ64(low, high) ((u64)READ(low))
#define WRITE64(low, high, v) WRITE(low, v)
#else
#define READ64(low, high) ((u64)READ(high) << 32 | READ(low))
#define WRITE64(low, high, v) do { WRITE(high, (u64)(v) >> 32); WRITE(low, v); } while (0)
#endif
static u64 hpm3(void) { return READ64(0xb03, 0xb83); }
static void set_hpm3(u64 v) { WRITE64(0xb03, 0xb83, v); }
static u64 event3(void) { return READ64(0x323, 0x723); }
static void set_event3(u64 v) { WRITE64(0x323, 0x723, v); }
enum { CYCLES = 1, INSTRUCTIONS = 2, LCOFI = 13 };
#define OF ((u64)1 << 63)
#define MINH ((u64)1 << 62)
#define SINH ((u64)1 << 61)
#define UINH ((u64)1 << 60)

/* Whether the counter moves while much is done. */
static ul moves(void)
{
    u64 start = hpm3();

    for (volatile int n = 0; n < 10000; n++)
        if (hpm3() != start)
            return 1;
    return 0;
}

static void overflow_filters(void)
{
    set_event3(-1);
    check("what mhpmevent holds", event3() >> 56, 0xf0);
    set_event3(CYCLES | MINH);
    check("not in machine mode", moves(), 0);
    set_event3(CYCLES | SINH | UINH);
    check("in machine mode alone", moves(), 1);
    set_event3(0);
}

static void overflow_interrupts(void)
{
    WRITE(mie, 1 << LCOFI);
    set_event3(CYCLES | MINH | SINH);
    set_hpm3(-1000);
    traps("overflow in user mode", MPP(U), do_spin, 0, INTERRUPT | LCOFI, 0);
    check("scountovf", READ(0xda0), 8);
    check("OF", event3() >> 63, 1);
    check("LCOFIP", READ(mip) >> LCOFI & 1, 1);
    WRITE(mip, 0);
    check("LCOFIP is software's to clear", READ(mip) >> LCOFI & 1, 0);
    WRITE(mcounteren, ~8);
    enter(MPP(S), do_csr_scountovf, 0);
    check("scountovf of a counter that is kept to machine mode", trap.a0, 0);
    WRITE(mcounteren, 8);
    enter(MPP(S), do_csr_scountovf, 0);
    check("scountovf in supervisor mode", trap.a0, 8);
    traps("scountovf from U", MPP(U), do_csr_scountovf, 0, 2, *(unsigned *)do_csr_scountovf);

    WRITE(mie, 0);
    set_hpm3(-1000);
    set_event3(CYCLES | OF);
    while (hpm3() >> 63)
        ;
    check("no interrupt while OF is set", READ(mip) >> LCOFI & 1, 0);
    set_event3(CYCLES);
    check("OF is software's to clear", READ(0xda0), 0);
    set_hpm3(-1000);
    while (!(READ(mip) >> LCOFI & 1))
        ;
    check("an interrupt again, and OF", READ(0xda0), 8);
    WRITE(mip, 0);
}

static void overflow_delegated(void)
{
    WRITE(mideleg, 1 << LCOFI);
    check("LCOFI may be delegated", READ(mideleg), 1 << LCOFI);
    WRITE(mie, 1 << LCOFI);
    WRITE(stvec, s_handler);
    set_event3(INSTRUCTIONS | MINH);    /* stands still here */
    set_hpm3(-1000);
    traps("delegated overflow", MPP(S) | 2 /* SIE */, do_spin, 0, 9, 0);
    check("its scause", READ(scause), INTERRUPT | LCOFI);
    WRITE(sip, 0);
    check("LCOFIP is the supervisor's to clear", READ(mip) >> LCOFI & 1, 0);
    WRITE(mideleg, 0);
    WRITE(mie, 0);
}

static void programmable_counters(void)
{
    WRITE(mcountinhibit, -1);
    set_hpm3(0x123456789);
    if (!hpm3())
        return;
    WRITE(0x323, CYCLES);
    check("an inhibited programmable counter", hpm3() == 0x123456789, 1);
    WRITE(mcountinhibit, 0);
    check("it counts cycles", moves(), 1);
    WRITE(0x323, INSTRUCTIONS);
    check("it counts instructions", moves(), 1);
    WRITE(0x323, 0x7ff);
    check("what is no event is not counted", moves(), 0);
    WRITE(mcounteren, ~8);
    WRITE(scounteren, 8);
    traps("hpmcounter3 without leave", MPP(S), do_csr_hpm3, 0, 2, *(unsigned *)do_csr_hpm3);
    WRITE(mcounteren, 8);
    traps("hpmcounter3 from U", MPP(U), do_csr_hpm3, 0, 8, 0);
    check("which is the same counter", trap.a0, READ(0xb03));
    WRITE(0xb1f, -1);
    check("a counter that is not there", READ(0xb1f), 0);
    if (enter(MPP(M), do_csr_scountovf, 0)->cause != 2) {
        overflow_filters();
        overflow_interrupts();
        overflow_delegated();
    }
    WRITE(0x323, 0);
    WRITE(mcounteren, 0);
    WRITE(scounteren, 0);
}

/* ---- physical memory protection */
static ul area[3 * 4096 / sizeof(ul)] __attribute__((aligned(4096)));       /* page, with room beside it */
#define page (area + 4096 / sizeof(ul))
enum { R = 1, WR = 2, X = 4, TOR = 8, NA4 = 16, NAPOT = 24, LOCK = 128 };
static void pmp_all(void) { WRITE(pmpaddr15, -1); }

static void protection(void)
{
    ul here = (ul)page, napot4k = here >> 2 | 0x1ff;

    WRITE(pmpcfg0, 0);
    traps("no entry matches U", MPP(U), do_ecall, 0, 1, (ul)do_ecall);
    traps("no entry matches S", MPP(S), do_ecall, 0, 1, (ul)do_ecall);
    WRITE(pmpaddr0, napot4k);
    WRITE(pmpaddr1, -1);
    WRITE(pmpcfg0, (R | NAPOT) | (R | WR | X | NAPOT) << 8);
    traps("read of a read-only region", MPP(S), do_load, here, 9, 0);
    traps("write of a read-only region", MPP(S), do_store, here, 7, here);
    traps("execution of it", MPP(U), do_jump, here, 1, here);
    traps("write beside it", MPP(S), do_store, here + 4096, 9, 0);
    traps("machine mode is not bound", MPP(M), do_store, here, 11, 0);
    WRITE(pmpaddr0, here >> 2);
    WRITE(pmpaddr1, (here + 4096) >> 2);
    WRITE(pmpaddr2, -1);
    WRITE(pmpcfg0, (R | WR | X | TOR) | TOR << 8 | (R | WR | X | NAPOT) << 16);
    traps("top of range: below", MPP(S), do_store, here - sizeof(ul), 9, 0);
    traps("top of range: inside", MPP(S), do_load, here, 5, here);
    traps("top of range: the last word", MPP(S), do_load, here + 4096 - sizeof(ul), 5, here + 4096 - sizeof(ul));
    traps("top of range: behind", MPP(S), do_load, here + 4096, 9, 0);
    /* four bytes, eight, and what lies across a boundary */
    WRITE(pmpaddr0, (here + 8) >> 2);
    WRITE(pmpaddr1, (here + 16) >> 2 | 0);
    check("pmpaddr keeps its low bits", READ(pmpaddr0), (here + 8) >> 2);
    WRITE(pmpcfg0, (R | NA4) | NAPOT << 8 | (R | WR | X | NAPOT) << 16);
    check("four bytes are selectable", READ(pmpcfg0) & 0x18, NA4);
    traps("four bytes: before", MPP(S), do_store4, here + 4, 9, 0);
    traps("four bytes: read", MPP(U), do_load4, here + 8, 8, 0);
    traps("four bytes: written", MPP(S), do_store4, here + 8, 7, here + 8);
    traps("four bytes: behind", MPP(S), do_store4, here + 12, 9, 0);
#ifdef __LP64__
    traps("four bytes: across", MPP(S), do_load, here + 8, 5, here + 8);
#endif
    traps("eight bytes: read", MPP(S), do_load4, here + 20, 5, here + 20);
    traps("eight bytes: behind", MPP(S), do_load, here + 24, 9, 0);
    traps("eight bytes: an AMO", MPP(S), do_amo, here + 16, 7, here + 16);
    traps("four bytes: an AMO", MPP(S), do_amo, here + 8, 7, here + 8);
    traps("beside: an AMO", MPP(S), do_amo, here + 24, 9, 0);
#ifdef __LP64__
    traps("four bytes: across, in machine mode", MPP(M), do_store, here + 8, 7, here + 8);
#endif
    /* code of which a part may be executed */
    WRITE(pmpcfg0, (R | WR | X | NAPOT) << 16);
    page[0] = page[1] = page[2] = page[3] = 0;
    for (unsigned n = 0; n < 16; n++)
        ((volatile unsigned *)page)[n] = 0x13;          /* nop */
    ((volatile unsigned *)page)[16] = 0x73;             /* ecall */
    __asm__ volatile("fence.i" ::: "memory");
    traps("code", MPP(U), (void *)here, 0, 8, 0);
    WRITE(pmpaddr0, (here + 32) >> 2);
    WRITE(pmpcfg0, (R | WR | NA4) | (R | WR | X | NAPOT) << 16);
    traps("code runs into what is none", MPP(U), (void *)here, 0, 1, here + 32);
    traps("code jumps over it", MPP(S), (void *)(here + 36), 0, 9, 0);
    traps("code before it", MPP(S), (void *)here, 0, 1, here + 32);
    WRITE(pmpcfg0, (R | WR | X | NAPOT) << 16);
    traps("code again", MPP(U), (void *)here, 0, 8, 0);
    WRITE(mstatus, 0);
    check("MPRV is gone after an mret to S", (enter(MPP(S) | MPRV, do_ecall, 0), trap.status & MPRV), 0);
}

/* ---- translation: a gigapage (RV32: megapages) maps this program at its own address for S and elsewhere for U */
static ul root[1024] __attribute__((aligned(4096))), middle[1024] __attribute__((aligned(4096))), leaf[1024] __attribute__((aligned(4096)));
enum { V = 1, PR = 2, PW = 4, PX = 8, PU = 16, A = 64, D = 128 };
#define PTE(pa, bits) ((ul)(pa) >> 12 << 10 | (bits))

#if __riscv_xlen == 64
#define USER ((ul)0x1c0000000 - 0x80000000)   /* distance of the user's mapping */
#define TEST ((ul)0x300000000)
static void map(ul mode)
{
    root[2] = PTE(0x80000000, V | PR | PW | PX | A | D);
    root[7] = PTE(0x80000000, V | PR | PW | PX | PU | A | D);
    root[12] = PTE(middle, V);
    middle[0] = PTE(leaf, V);
    middle[1] = PTE(0x80000000 + 4096, V | PR | PW | PX | A | D);       /* misaligned superpage */
    middle[2] = PTE(0x80000000, V | PR | A | D);
    WRITE(satp, mode << 60 | (ul)root >> 12);
    FENCE();
}
#else
#define USER ((ul)0xc0000000 - 0x80000000)
#define TEST ((ul)0x10000000 * 4)
static void map(ul mode)
{
    root[0x200] = PTE(0x80000000, V | PR | PW | PX | A | D);
    root[0x300] = PTE(0x80000000, V | PR | PW | PX | PU | A | D);
    root[0x100] = PTE(leaf, V);
    root[0x101] = PTE(0x80000000 + 4096, V | PR | PW | PX | A | D);
    root[0x102] = PTE(0x80000000, V | PR | A | D);
    WRITE(satp, (ul)1 << 31 | (ul)root >> 12);
    FENCE();
}
#endif
#define SUPERPAGE (XLEN == 64 ? (ul)1 << 21 : (ul)1 << 22)

static void pte(unsigned n, ul v)
{
    leaf[n] = v;
    FENCE();
}

static void translation(void)
{
    ul at = TEST + 0x3000, user = (ul)do_load + USER;

    map(8);
    page[0] = 0x1234;
    pte(3, 0);
    traps("not valid: load", MPP(S), do_load, at, 13, at);
    traps("not valid: store", MPP(S), do_store, at + 16, 15, at + 16);
    traps("not valid: fetch", MPP(S), do_jump, at, 12, at);
    pte(3, PTE(page, V | PR | A | D));
    traps("read", MPP(S), do_load, at, 9, 0);
    check("what was read", trap.a0, 0x1234);
    traps("store to read-only", MPP(S), do_store, at, 15, at);
    traps("fetch from data", MPP(S), do_jump, at, 12, at);
    pte(3, PTE(page, V | PW | A | D));
    traps("write-only is reserved", MPP(S), do_load, at, 13, at);
    pte(3, PTE(page, V | PX | A | D));
    traps("load from execute-only", MPP(S), do_load, at, 13, at);
    traps("load from execute-only with MXR", MPP(S) | MXR, do_load, at, 9, 0);
    pte(3, PTE(page, V | PR | PW | PX | PU | A | D));
    traps("user page from S", MPP(S), do_load, at, 13, at);
    traps("user page from S with SUM", MPP(S) | SUM, do_load, at, 9, 0);
    traps("fetch of a user page from S", MPP(S) | SUM, do_jump, at, 12, at);
    traps("user page from U", MPP(U), (void *)user, at, 8, 0);
    pte(3, PTE(page, V | PR | PW | PX | A | D));
    traps("supervisor page from U", MPP(U), (void *)user, at, 13, at);
    traps("supervisor code from U", MPP(U), do_load, at, 12, (ul)do_load);
    traps("load as S from M (MPRV)", MPP(M), do_ecall, at, 11, 0);
    pte(3, PTE(page, V | PR | PW));
    traps("misaligned superpage", MPP(S), do_load, TEST + SUPERPAGE, 13, TEST + SUPERPAGE);
    traps("superpage", MPP(S), do_load, TEST + 2 * SUPERPAGE + ((ul)page - 0x80000000), 9, 0);
    check("what is in it", trap.a0, 0x1234);
#if __riscv_xlen == 64
    traps("not canonical", MPP(S), do_load, (ul)1 << 39, 13, (ul)1 << 39);
    traps("fetch, not canonical", MPP(S), do_jump, (ul)1 << 40, 12, (ul)1 << 40);
    pte(3, PTE(page, V | PR | A | D) | (ul)1 << 54);
    traps("reserved bit", MPP(S), do_load, at, 13, at);
    pte(3, PTE(page, V | PR | A | D) | (ul)1 << 61);
    traps("memory type without PBMTE", MPP(S), do_load, at, 13, at);
    WRITE(0x30a, READ(0x30a) | (ul)1 << 62);
    FENCE();
    traps("memory type with PBMTE", MPP(S), do_load, at, 9, 0);
    WRITE(0x30a, READ(0x30a) & ~((ul)1 << 62));
    pte(3, PTE(page, V | PR | A | D) | (ul)1 << 63);
    traps("NAPOT, wrong size", MPP(S), do_load, at, 13, at);
    pte(3, PTE(0x80000000 | 0x8000, V | PR | A | D) | (ul)1 << 63);
    traps("NAPOT of 64 KiB", MPP(S), do_load, at, 9, 0);
    check("its third page", trap.a0, *(ul *)0x80003000);
#endif
    root[XLEN == 64 ? 12 : 0x100] |= D;
    FENCE();
    traps("D of a pointer is reserved", MPP(S), do_load, at, 13, at);
    root[XLEN == 64 ? 12 : 0x100] &= ~(ul)D;
    FENCE();
}

/* ---- A and D: by hardware with menvcfg.ADUE, else their absence is a fault. RV32: bits 63:32 are menvcfgh. */
static void adue(int on)
{
#if __riscv_xlen == 64
    WRITE(0x30a, (READ(0x30a) & ~((ul)1 << 61)) | (ul)on << 61);
#else
    WRITE(0x31a, (READ(0x31a) & ~((ul)1 << 29)) | (ul)on << 29);
#endif
    FENCE();
}

static void accessed_dirty(void)
{
    ul at = TEST + 0x5000;

    adue(1);
    pte(5, PTE(page, V | PR | PW));
    traps("load sets A", MPP(S), do_load, at, 9, 0);
    check("A", leaf[5] & (A | D), A);
    traps("store sets D", MPP(S), do_store, at, 9, 0);
    check("D", leaf[5] & (A | D), A | D);
    adue(0);
    pte(5, PTE(page, V | PR | PW));
    traps("load without A", MPP(S), do_load, at, 13, at);
    pte(5, PTE(page, V | PR | PW | A));
    traps("load with A", MPP(S), do_load, at, 9, 0);
    traps("store without D", MPP(S), do_store, at, 15, at);
    pte(5, PTE(page, V | PR | PW | A | D));
    traps("store with D", MPP(S), do_store, at, 9, 0);
}

/* The walk's own accesses are protected too. */
static void protected_tables(void)
{
    ul at = TEST + 0x3000;

    pte(3, PTE(page, V | PR | A | D));
    WRITE(pmpaddr0, (ul)leaf >> 2 | 0x1ff);
    WRITE(pmpaddr1, -1);
    WRITE(pmpcfg0, NAPOT | (R | WR | X | NAPOT) << 8);
    FENCE();
    traps("tables out of reach", MPP(S), do_load, at, 5, at);
    WRITE(pmpaddr0, (ul)page >> 2 | 0x1ff);
    FENCE();
    traps("page out of reach", MPP(S), do_load, at, 5, at);
    WRITE(pmpcfg0, (R | WR | X | NAPOT) << 8);
    FENCE();
    traps("nothing at the physical address", MPP(M), do_load, 0x20000, 5, 0x20000);
    WRITE(satp, 0);
    FENCE();
}

/* ---- interrupts */
static volatile unsigned *const msip = (unsigned *)0x2000000;
static volatile unsigned *const mtimecmp = (unsigned *)0x2004000, *const mtime = (unsigned *)0x200bff8;
static void compare(ul low, ul high) { mtimecmp[1] = 0xffffffff; mtimecmp[0] = (unsigned)low; mtimecmp[1] = (unsigned)high; }

static void interrupts(void)
{
    compare(-1, -1);
    WRITE(mie, 0);
    WRITE(mideleg, 0);
    *msip = 1;
    check("MSIP", READ(mip) >> 3 & 1, 1);
    WRITE(mie, 8);
    traps("taken from U though MIE is clear", MPP(U), do_spin, 0, INTERRUPT | 3, 0);
    traps("taken in M with MIE", MPP(M) | 1 << 7, do_spin, 0, INTERRUPT | 3, 0);
    check("MPIE had MIE", trap.status >> 7 & 1, 1);
    traps("not taken in M without", MPP(M), do_ecall, 0, 11, 0);
    compare(0, 0);
    check("MTIP", READ(mip) >> 7 & 1, 1);
    WRITE(mie, 0x88);
    traps("software before timer", MPP(U), do_spin, 0, INTERRUPT | 3, 0);
    *msip = 0;
    traps("then the timer", MPP(U), do_spin, 0, INTERRUPT | 7, 0);
    compare(-1, -1);
    compare(mtime[0] + 20000, mtime[1]);        /* 2 ms */
    traps("wfi until the timer", MPP(M), do_wfi, 0, 11, 0);
    check("it was the timer", READ(mip) >> 7 & 1, 1);
    compare(-1, -1);
    /* supervisor's */
    WRITE(mie, 0x222);
    WRITE(mip, 2);
    traps("SSIP to M from S", MPP(S), do_spin, 0, INTERRUPT | 1, 0);
    WRITE(mideleg, 0x222);
    WRITE(stvec, s_handler);
    traps("SSIP to S from U", MPP(U), do_spin, 0, 9, 0);
    check("scause of SSIP", READ(scause), INTERRUPT | 1);
    WRITE(stvec, (ul)vectors | 1);
    WRITE(mtvec, 0);
    traps("not to S from S without SIE", MPP(S), do_ecall, 0, 9, 0);
    traps("delegated ones never reach M", MPP(M) | 1 << 7, do_ecall, 0, 11, 0);
    WRITE(mip, 0);
    check("SSIP is gone", READ(mip) & 2, 0);
    WRITE(mip, 1 << 9);
    check("SEIP by software", READ(sip) >> 9 & 1, 1);
    WRITE(mip, 0);
#if __riscv_xlen == 64
    WRITE(0x30a, READ(0x30a) | (ul)1 << 63);    /* STCE */
    WRITE(0x14d, 0);
    check("STIP by stimecmp", READ(mip) >> 5 & 1, 1);
    WRITE(mip, 0);
    check("which software does not clear", READ(mip) >> 5 & 1, 1);
    WRITE(0x14d, -1);
    check("but stimecmp", READ(mip) >> 5 & 1, 0);
    WRITE(0x30a, READ(0x30a) & ~((ul)1 << 63));
#endif
    WRITE(mideleg, 0);
    WRITE(mie, 0);
}

/* ---- the PLIC: the serial port's transmitter is always empty */
static volatile unsigned *const plic = (unsigned *)0xc000000;
static void plic_checks(void)
{
    plic[10] = 3;
    check("priority", plic[10], 3);
    plic[0x2000 / 4] = 1 << 10;         /* context 0: machine mode of hart 0 */
    plic[0x200000 / 4] = 0;
    uart[1] = 2;                        /* THRE */
    check("pending", plic[0x1000 / 4] >> 10 & 1, 1);
    check("MEIP", READ(mip) >> 11 & 1, 1);
    WRITE(mie, 1 << 11);
    traps("external interrupt", MPP(U), do_spin, 0, INTERRUPT | 11, 0);
    plic[0x200000 / 4] = 3;
    check("not above the threshold", READ(mip) >> 11 & 1, 0);
    plic[0x200000 / 4] = 2;
    check("claim", plic[0x200004 / 4], 10);
    check("claimed", READ(mip) >> 11 & 1, 0);
    check("none left", plic[0x200004 / 4], 0);
    (void)uart[2];                      /* the line falls */
    plic[0x200004 / 4] = 10;
    check("completed", READ(mip) >> 11 & 1, 0);
    uart[1] = 0;
    uart[1] = 2;
    check("again", plic[0x200004 / 4], 10);
    plic[0x200004 / 4] = 10;            /* completed with the line still up */
    check("level", READ(mip) >> 11 & 1, 1);
    uart[1] = 0;
    WRITE(mie, 0);
}

int main(void)
{
    pmp_all();
    WRITE(pmpaddr0, -1);
    WRITE(pmpcfg0, R | WR | X | NAPOT);
    exceptions();
    state_enables();
    counters();
    programmable_counters();
    protection();
    translation();
    accessed_dirty();
    protected_tables();
    interrupts();
    plic_checks();
    print(failed ? "some failed\n" : "all passed\n");
    *(volatile unsigned *)0x100000 = failed ? 0x13333 : 0x5555;
    for (;;)
        ;
}
