/* AArch32's PL1 on bare metal: exceptions, modes and their registers, both table formats, cp15, endianness. Prints what it sees;
 * the same program runs on Rhea and on Debian's qemu-system-arm, and the outputs must be equal (test_arm_system.py). */
#include "test32.h"

#define UART (*(volatile uint32_t *)0x09000000)
#define THUMB __attribute__((target("thumb")))
#define KEEP __attribute__((noinline, noclone, used))
static void put(char c) { UART = (uint32_t)c; }
static void print(const char *s) { while (*s) put(*s++); }
static void hex(uint32_t v)
{
    for (int n = 28; n >= 0; n -= 4)
        put("0123456789abcdef"[v >> n & 15]);
}
static void line(const char *name, uint32_t v)
{
    print(name);
    put(' ');
    hex(v);
    put('\n');
}

/* ---- exceptions */

static volatile struct { unsigned count, vector; uint32_t cpsr, spsr, lr, dfsr, dfar, ifsr, ifar; } taken;
uint32_t call_back, call_sp, call_result, user_sp;
static uint32_t resume_at, user_stack[1024];
static void (*irq_hook)(void);

static bool wide_thumb(uint32_t at) { return *(volatile uint16_t *)at >> 11 >= 0x1d; }

void exception(unsigned vector, struct frame *f)
{
    static const uint8_t ahead[8] = { 0, 4, 4, 4, 8, 0, 4, 4 };
    bool thumb = f->spsr & 0x20;
    uint32_t at = f->lr - (thumb && vector < 3 ? 2 : ahead[vector]);

    if (vector == 2 && (thumb ? *(uint8_t *)at : *(uint32_t *)at & 0xff) == 0xee) {
        call_result = f->r[0];
        f->spsr = 0xd3;
        f->lr = call_back;
        return;
    }
    if (vector >= 6 && irq_hook) {
        irq_hook();
        f->lr -= 4;
        return;
    }
    taken.count++;
    taken.vector = vector;
    taken.cpsr = CPSR();
    taken.spsr = f->spsr;
    taken.lr = f->lr;
    taken.dfsr = READ(DFSR);
    taken.dfar = READ(DFAR);
    taken.ifsr = READ(IFSR);
    taken.ifar = READ(IFAR);
    if (resume_at) {
        f->lr = resume_at;
        resume_at = 0;
    } else {
        f->lr = at + (thumb && !wide_thumb(at) ? 2 : 4);
    }
    f->spsr &= ~0x0600fc00u;            /* an IT block is not gone on with */
}

static void report(const char *name)
{
    print(name);
    print(": ");
    put('0' + taken.count % 10);
    put(' ');
    put('0' + taken.vector);
    print(" cpsr "); hex(taken.cpsr);
    print(" spsr "); hex(taken.spsr);
    print(" lr "); hex(taken.lr);
    if (taken.vector == 3) {
        print(" ifsr "); hex(taken.ifsr & 0x200 ? taken.ifsr : taken.ifsr & ~0xf0u);
        if ((taken.ifsr & 0x20f) != 2 && (taken.ifsr & 0x23f) != 0x222) {      /* a debug exception's address is unknown */
            print(" ifar "); hex(taken.ifar);
        }
    } else if (taken.vector == 4) {
        print(" dfsr "); hex(taken.dfsr);
        print(" dfar "); hex(taken.dfar);
    }
    put('\n');
    taken.count = taken.vector = 0;
    taken.cpsr = taken.spsr = taken.lr = 0;
}

/* One instruction, A32 or T32 (a 16-bit one has 0 below), with r0 = arg; its r0. */
static uint32_t code[1024 * 2] __attribute__((aligned(4096)));

static uint32_t code_make(uint32_t word, bool thumb)
{
    uint16_t *half = (uint16_t *)code;

    if (!thumb) {
        code[0] = word;
        code[1] = 0xe12fff1e;           /* bx lr */
    } else {
        *half++ = (uint16_t)(word >> 16);
        if (word >> 27 >= 0x1d)
            *half++ = (uint16_t)word;
        *half = 0x4770;
    }
    __asm__ volatile("dsb" ::: "memory");
    WRITE(ICIALLU, 0);
    __asm__ volatile("dsb; isb" ::: "memory");
    return (uint32_t)code | thumb;
}

static uint32_t run(uint32_t word, bool thumb, uint32_t arg)
{
    return ((uint32_t (*)(uint32_t))code_make(word, thumb))(arg);
}

static void run_report(const char *name, uint32_t word, bool thumb, uint32_t arg)
{
    uint32_t v = run(word, thumb, arg);

    if (taken.count)
        report(name);
    else
        line(name, v);
}

/* The same in another mode: `code` and what it returns through lie in .user, where translation lets User mode. */
static uint32_t in_mode(uint32_t cpsr, uint32_t (*fn)(uint32_t), uint32_t arg)
{
    user_sp = (uint32_t)&user_stack[1024];
    return call_in(cpsr, fn, arg);
}

static void try_mode(const char *name, uint32_t cpsr, uint32_t (*fn)(uint32_t), uint32_t arg)
{
    uint32_t v = in_mode(cpsr, fn, arg);

    if (taken.count)
        report(name);
    line(name, v);
}

#define STUB(name, text) \
    KEEP __attribute__((naked, section(".user"))) static uint32_t name(uint32_t a) { __asm__ volatile(text "\n svc #0xee"); }
#define STUB_T(name, text) \
    KEEP __attribute__((naked, section(".user"), target("thumb"))) static uint32_t name(uint32_t a) { __asm__ volatile(text "\n svc #0xee"); }
STUB(stub_none, "")
STUB(stub_svc, "svc #0x1234")
STUB(stub_udf, "udf #7")
STUB(stub_bkpt, "bkpt #3")
STUB(stub_load, "ldr r0, [r0]")
STUB(stub_store, "str r0, [r0]")
STUB(stub_jump, "blx r0")
STUB(stub_cpsr, "mrs r0, cpsr")
STUB(stub_msr, "msr cpsr_fsxc, r0; mrs r0, cpsr; bic r0, #0x3c0; bic r0, #0x1f")
STUB(stub_cps, "cpsid aif; cps #19; mov r0, #6")
STUB(stub_spsr, "mrs r0, spsr")
STUB(stub_wfi, "mov r0, #5; wfi")
STUB(stub_ldrd, "ldrd r2, r3, [r0]; mov r0, r2")
STUB(stub_ldm, "ldm r0, {r2, r3}; mov r0, r2")
STUB(stub_ldrex, "ldrex r0, [r0]")
STUB(stub_half, "ldrh r0, [r0]")
STUB(stub_swp, "swp r2, r1, [r0]")
STUB(stub_smc, "smc #0")
STUB(stub_hvc, "hvc #0")
STUB(stub_setend, "setend be; ldr r0, [r0]; setend le")
STUB(stub_big, "setend be; svc #0x33; mrs r0, cpsr; and r0, #0xf8000000; setend le")
STUB(stub_vfp, "vmrs r0, fpexc")
STUB(stub_neon, "vmov.i32 d0, #7; vmov r0, s0")
STUB(stub_banked, "mrs r0, lr_irq")
STUB(stub_srs, "mov r0, sp; srsdb sp!, #31; sub r0, r0, sp")
STUB(stub_rfe, "rfeia r0")
STUB(stub_eret, "eret")
STUB(stub_sys_regs, "mov r1, sp; ldm r1, {r2, r3}^; nop; mov r0, r1")
STUB(stub_cp_timer, "mrc p15, 0, r0, c14, c3, 1")
STUB(stub_cp_count, "mrrc p15, 1, r0, r1, c14; mov r0, #1")
STUB(stub_cp_isb, "mcr p15, 0, r0, c7, c5, 4")
STUB(stub_cp_sctlr, "mrc p15, 0, r0, c1, c0, 0")
STUB(stub_cp_pm, "mrc p15, 0, r0, c9, c13, 0; mov r0, #2")
STUB(stub_cp_swinc, "mov r1, #1; mcr p15, 0, r1, c9, c12, 4")
STUB(stub_tpidr, "mcr p15, 0, r0, c13, c0, 2; mrc p15, 0, r0, c13, c0, 2")
STUB(stub_tpidruro, "mrc p15, 0, r0, c13, c0, 3")
STUB(stub_tpidruro_w, "mcr p15, 0, r0, c13, c0, 3")
STUB(stub_ldrt, "ldrt r2, [r0]; mov r0, r2")
STUB(stub_strt, "strt r2, [r0]")
STUB_T(stub_t_none, "")
STUB_T(stub_t_svc, "svc #0x55")
STUB_T(stub_t_udf, "udf #9")
STUB_T(stub_t_udfw, "udf.w #9")
STUB_T(stub_t_bkpt, "bkpt #3")
STUB_T(stub_t_load, "ldr r0, [r0]")
STUB_T(stub_t_loadw, "ldr.w r0, [r0, #0]")
STUB_T(stub_t_it, "movs r1, #0; itte eq; moveq r2, #1; ldreq r0, [r0]; movne r0, #3")
STUB_T(stub_t_itsvc, "movs r1, #0; itt eq; svceq #0x44; moveq r0, #9")
STUB_T(stub_t_jump, "blx r0")

static void test_exceptions(void)
{
    static const struct { const char *name; uint32_t mode; } modes[] = {
        { "fiq", 0xd1 }, { "irq", 0xd2 }, { "abt", 0xd7 }, { "und", 0xdb }, { "sys", 0xdf }, { "usr", 0x50 },
    };

    __asm__ volatile("msr apsr_nzcvq, #0; svc #0x77" ::: "lr", "memory", "cc"); report("svc from svc");
    __asm__ volatile("udf #7"); report("udf");
    __asm__ volatile("bkpt #3"); report("bkpt");
    run_report("A32 undefined", 0xe7f000f0, false, 0);
    run_report("A32 mrc p13", 0xee100d10, false, 0);
    run_report("T32 undefined", 0xde000000, true, 0);
    run_report("T32 mrc p13", 0xee100d10, true, 0);
    for (unsigned n = 0; n < 6; n++) {
        print(modes[n].name); print(" ");
        if (n < 5)                      /* User mode sees unknown values of all but the flags */
            try_mode("cpsr", modes[n].mode, stub_cpsr, 0);
        try_mode("svc", modes[n].mode, stub_svc, 0);
        try_mode("udf", modes[n].mode, stub_udf, 0);
        try_mode("bkpt", modes[n].mode, stub_bkpt, 0);
        if (n < 4)
            try_mode("spsr", modes[n].mode, stub_spsr, 0);
    }
    try_mode("flags in an exception", 0xa8090050, stub_svc, 0);
    try_mode("thumb svc", 0x50, stub_t_svc, 0);
    try_mode("thumb udf", 0x50, stub_t_udf, 0);
    try_mode("thumb udf.w", 0x50, stub_t_udfw, 0);
    try_mode("thumb bkpt", 0x50, stub_t_bkpt, 0);
    try_mode("thumb svc in an IT block", 0x50, stub_t_itsvc, 0);
    try_mode("msr from user", 0x50, stub_msr, 0xf80f03df);
    try_mode("cps from user", 0x50, stub_cps, 0);
    try_mode("rfe from user", 0x50, stub_rfe, 0x40100000);
    try_mode("smc", 0x50, stub_smc, 0);
    try_mode("hvc from user", 0x50, stub_hvc, 0);
    try_mode("setend", 0x50, stub_setend, (uint32_t)&taken.count);
    try_mode("svc with E", 0x50, stub_big, 0);
}

/* ---- modes, and registers of other ones */

static void banked(const char *name, uint32_t a32)
{
    run_report(name, a32, false, 0x1234);
}

static void test_modes(void)
{
    uint32_t v, w;

    __asm__ volatile("cps #17; mov r8, #81; mov r9, #91; mov r10, #101; mov r11, #111; mov r12, #121; mov lr, #141; cps #19"
                     ::: "r8", "r9", "r10", "r11", "r12", "lr");
    __asm__ volatile("mov r8, #8; mov r12, #12; cps #17; add %0, r8, r9; add %0, r10; add %0, r11; add %0, r12; add %0, lr; cps #19; "
                     "add %0, r8; add %0, r12" : "=&r"(v) :: "r8", "r9", "r10", "r11", "r12", "lr");
    line("fiq registers", v);
    __asm__ volatile("cps #18; mov lr, #1; msr spsr_cxsf, %1; cps #23; mov lr, #2; msr spsr_cxsf, %2; cps #27; mov lr, #3; msr spsr_cxsf, %1; "
                     "cps #31; mov lr, #5; cps #19" : "=&r"(v) : "r"(0x600001df), "r"(0xa00001d7) : "lr");
    __asm__ volatile("cps #18; mrs %0, spsr; add %0, lr; cps #23; mrs %1, spsr; add %1, lr; cps #19" : "=&r"(v), "=&r"(w) :: "lr");
    line("spsr_irq", v);
    line("spsr_abt", w);
    __asm__ volatile("cps #17; msr spsr_cxsf, %1; msr spsr_f, %2; mrs %0, spsr; cps #19" : "=&r"(v) : "r"(~0x01f00000), "r"(0));
    line("spsr bytes", v);
    /* MRS, MSR (banked): R r8_usr, lr_usr, r8_fiq, spsr_fiq, lr_irq, sp_irq, spsr_irq, lr_svc (unpredictable here), lr_abt, spsr_und */
    banked("mrs r8_usr", 0xe1000200);
    banked("mrs lr_usr", 0xe1060200);
    banked("mrs r8_fiq", 0xe1080200);
    banked("mrs lr_fiq", 0xe10e0200);
    banked("mrs spsr_fiq", 0xe14e0200);
    banked("mrs lr_irq", 0xe1000300);
    banked("mrs spsr_irq", 0xe1400300);
    banked("mrs lr_abt", 0xe1040300);
    banked("mrs spsr_und", 0xe1460300);
    banked("mrs spsr_abt", 0xe1440300);
    banked("msr lr_irq", 0xe120f300);
    banked("mrs lr_irq again", 0xe1000300);
    banked("msr spsr_irq", 0xe160f300);
    banked("mrs spsr_irq again", 0xe1400300);
    banked("msr r9_fiq", 0xe129f200);
    banked("mrs r9_fiq", 0xe1090200);
    run_report("T32 mrs lr_und", 0xf3e68030, true, 0);
    run_report("T32 mrs spsr_irq", 0xf3f08030, true, 0);
    try_mode("mrs lr_irq from user", 0x50, stub_banked, 0);
    /* to System and back through CPSR; what MSR does not change */
    __asm__ volatile("mrs %1, cpsr; orr %0, %1, #0x0f000000; orr %0, #0x20; msr cpsr_fsxc, %0; mrs %0, cpsr; msr cpsr_f, %1" : "=&r"(v), "=&r"(w) :: "cc");
    line("T by msr", v);
    __asm__ volatile("msr apsr_nzcvqg, %1; mrs %0, cpsr" : "=&r"(v) : "r"(0xf80f0000) : "cc");
    line("flags by msr", v);
    __asm__ volatile("mov %0, sp; srsdb sp!, #19; mov %1, sp; sub %0, %1; pop {%1, lr}" : "=&r"(v), "=&r"(w) :: "lr", "memory");
    line("srs", v);
    __asm__ volatile("mov r2, #0x1d3; msr spsr_cxsf, r2; mov lr, #77; mov r0, sp; srsdb sp!, #18; cps #18; pop {%0, %1}; cps #19"
                     : "=&r"(v), "=&r"(w) :: "r0", "r2", "lr", "memory");
    line("srs to irq's stack", v);
    line("and its psr", w);
    __asm__ volatile("adr r2, 1f; mov r3, #0xd3; orr r3, #0xa0000000; push {r2, r3}; rfeia sp!; mov r2, #0; 1: mrs %0, cpsr" : "=&r"(v) :: "r2", "r3", "cc", "memory");
    line("rfe", v);
    __asm__ volatile("mov r2, #0xd3; orr r2, #0x50000000; msr spsr_cxsf, r2; adr r2, 1f; push {r2}; ldm sp!, {pc}^; mov r2, #0; 1: mrs %0, cpsr"
                     : "=&r"(v) :: "r2", "cc", "memory");
    line("ldm to pc with ^", v);
    __asm__ volatile("mov r2, #0xd3; orr r2, #0x90000000; msr spsr_cxsf, r2; adr lr, 1f; add lr, #4; subs pc, lr, #4; mov r2, #0; 1: mrs %0, cpsr"
                     : "=&r"(v) :: "r2", "lr", "cc", "memory");
    line("subs pc, lr", v);
    __asm__ volatile("adr r2, 1f; add r2, #1; mov r3, #0xf3; push {r2, r3}; rfeia sp!; .thumb; nop; 1: mov %0, pc; bx pc; nop; .arm" : "=&r"(v) :: "r2", "r3", "cc", "memory");
    line("rfe to thumb", v);
    __asm__ volatile("mov r2, #44; mov r3, #55; push {r2, r3}; cps #31; mov r4, sp; mov r5, lr; cps #19; ldm sp, {sp, lr}^; nop; cps #31; "
                     "mov r2, sp; mov r3, lr; mov sp, r4; mov lr, r5; cps #19; add %0, r2, r3; add sp, #8" : "=&r"(v) :: "r2", "r3", "r4", "r5", "memory");
    line("ldm of user's registers", v);
    try_mode("srs to system's stack", 0xd2, stub_srs, 0);
}

/* ---- cp15: which are there, by what an MRC of each does. QEMU has, at PL1, all of c3, c10 and c15 in some parts, c6's
 * watchpoint register of Armv6, and not the event lists of PMUv2 (c9, c12). */

static bool compared(unsigned crn, unsigned crm, bool user)
{
    return user ? crn != 15 : crn != 3 && crn != 6 && crn != 10 && crn != 15 && !(crn == 9 && crm == 12);
}

static void sweep(const char *name, uint32_t cpsr, bool write)
{
    print(name);
    put('\n');
    for (unsigned crn = 0; crn < 16; crn++)
        for (unsigned opc1 = 0; opc1 < 8; opc1++)
            for (unsigned crm = 0; crm < 16; crm++) {
                unsigned there = 0;

                for (unsigned opc2 = 0; opc2 < 8 && compared(crn, crm, cpsr == 0x50); opc2++) {
                    uint32_t at = code_make((write ? 0xee001f10 : 0xee101f10) | crn << 16 | opc1 << 21 | crm | opc2 << 5, false);

                    code[1] = 0xef0000ee;
                    WRITE(ICIALLU, 0);
                    in_mode(cpsr, (uint32_t (*)(uint32_t))at, 0);
                    there |= !taken.count << opc2;
                    taken.count = 0;
                }
                if (there) {
                    print(" c"); put("0123456789abcdef"[crn]); put(' '); put('0' + (char)opc1);
                    print(" c"); put("0123456789abcdef"[crm]); put(' ');
                    for (int n = 7; n >= 0; n--)
                        put('0' + (char)(there >> n & 1));
                    put('\n');
                }
            }
}

static void test_cp15(void)
{
    sweep("MRC from user", 0x50, false);
    sweep("MCR from user", 0x50, true);
    sweep("MRC from supervisor", 0xd3, false);
    for (unsigned crm = 0; crm < 8; crm++)
        for (unsigned opc2 = 0; opc2 < 8; opc2++) {
            if (crm == 0 && opc2 == 6)
                continue;               /* REVIDR, which QEMU takes for MIDR */
            print("id c"); put('0' + (char)crm); put(' '); put('0' + (char)opc2);
            line("", run(0xee100f10 | crm | opc2 << 5, false, 0));
            taken.count = 0;
        }
    line("sctlr", READ(SCTLR));
    line("cpacr", READ(CPACR));
    try_mode("TPIDRURW", 0x50, stub_tpidr, 0x12345);
    CP_WRITE2(0, 13, 0, 3, 0x777);
    try_mode("TPIDRURO", 0x50, stub_tpidruro, 0);
    try_mode("TPIDRURO written", 0x50, stub_tpidruro_w, 0);
    try_mode("SCTLR from user", 0x50, stub_cp_sctlr, 0);
    try_mode("CP15ISB", 0x50, stub_cp_isb, 0);
    WRITE(CNTKCTL, 0);
    try_mode("counter from user", 0x50, stub_cp_count, 0);
    try_mode("timer from user", 0x50, stub_cp_timer, 0);
    WRITE(CNTKCTL, 0x302);
    try_mode("counter from user, allowed", 0x50, stub_cp_count, 0);
    try_mode("timer from user, allowed", 0x50, stub_cp_timer, 0);
    WRITE(CNTKCTL, 0);
    try_mode("PMCCNTR from user", 0x50, stub_cp_pm, 0);
    try_mode("PMSWINC from user", 0x50, stub_cp_swinc, 0);
    WRITE(PMUSERENR, 1);
    try_mode("PMCCNTR from user, allowed", 0x50, stub_cp_pm, 0);
    try_mode("PMSWINC from user, allowed", 0x50, stub_cp_swinc, 0);
    WRITE(PMUSERENR, 0);
    WRITE(CPACR, 0);
    try_mode("VFP without CPACR", 0xd3, stub_vfp, 0);
    WRITE(CPACR, 5 << 20);
    try_mode("VFP from user, privileged alone", 0x50, stub_neon, 0);
    try_mode("VFP, FPEXC.EN clear", 0xd3, stub_neon, 0);
    WRITE(CPACR, 15 << 20);
    run_report("FPEXC", 0xeef80a10, false, 0);
    run_report("FPEXC written", 0xeee80a10, false, 0x40000000);
    try_mode("NEON from user", 0x50, stub_neon, 0);
    try_mode("FPEXC from user", 0x50, stub_vfp, 0);
    run_report("FPSID", 0xeef00a10, false, 0);
    run_report("MVFR0", 0xeef70a10, false, 0);
    run_report("MVFR1", 0xeef60a10, false, 0);
    WRITE(CPACR, 1u << 31 | 15 << 20);  /* ASEDIS */
    line("cpacr with ASEDIS", READ(CPACR));
    WRITE(CPACR, 15 << 20);
}

/* ---- translation */

static uint32_t table[4096] __attribute__((aligned(16384)));
static uint32_t table1[4096] __attribute__((aligned(16384)));
static uint32_t small[256] __attribute__((aligned(1024)));
static uint64_t long1[4] __attribute__((aligned(32))), long2[512] __attribute__((aligned(4096))), long3[512] __attribute__((aligned(4096)));
static uint32_t page[16384] __attribute__((aligned(65536)));
extern uint32_t image_end[];

static void flush(void)
{
    __asm__ volatile("dsb" ::: "memory");
    WRITE(TLBIALL, 0);
    __asm__ volatile("dsb; isb" ::: "memory");
}

enum { SECTION = 2, PXN = 1, AP_RW = 3 << 10, AP_PRIV = 1 << 10, AP_UR = 2 << 10, APX = 1 << 15, XN = 1 << 4, NG = 1 << 17, SUPER = 1 << 18, NORMAL = 1 << 12 | 3 << 2 };
#define DOMAIN(n) ((uint32_t)(n) << 5)

static void tables_short(void)
{
    for (unsigned n = 0; n < 4096; n++)
        table[n] = table1[n] = 0;
    table[0x090] = 0x09000000 | SECTION | AP_RW | XN;
    table[0x080] = 0x08000000 | SECTION | AP_RW | XN;
    for (unsigned n = 0x400; n < 0x410; n++)
        table[n] = n << 20 | SECTION | AP_RW | NORMAL;
}

/* Jumps to BX LR there; whether that was taken as it should, else IFSR. */
static uint32_t execute(uint32_t cpsr, uint32_t va)
{
    __asm__ volatile("dsb" ::: "memory");
    WRITE(ICIALLU, 0);
    resume_at = (uint32_t)stub_none;
    in_mode(cpsr, stub_jump, va);
    resume_at = 0;
    return taken.count ? taken.ifsr : 0;
}

static void judged(const char *name, uint32_t v)
{
    line(name, v);
    taken.count = 0;
}

static void access(const char *name, uint32_t va)
{
    print(name);
    put('\n');
    for (unsigned user = 0; user < 2; user++) {
        uint32_t cpsr = user ? 0x50 : 0xd3;
        const char *const names[2][3] = { { "  priv r", "  priv w", "  priv x" }, { "  user r", "  user w", "  user x" } };

        *(volatile uint32_t *)page = 0xe12fff1e;
        try_mode(names[user][0], cpsr, stub_load, va);
        try_mode(names[user][1], cpsr, stub_store, va);
        *(volatile uint32_t *)page = 0xe12fff1e;
        if (execute(cpsr, va))
            report(names[user][2]);
    }
}

static void test_short(void)
{
    uint32_t sctlr = READ(SCTLR), phys = (uint32_t)page;
    static const char *const aps[] = { "AP 0", "AP 1", "AP 2", "AP 3", "AP 4", "AP 5", "AP 6", "AP 7" };

    tables_short();
    WRITE(TTBCR, 0);
    WRITE(TTBR0, (uint32_t)table);
    WRITE(TTBR1, (uint32_t)table1);
    WRITE(DACR, 0x55555555);
    WRITE(PRRR, 0xff0a81a8);
    WRITE(NMRR, 0x40e040e0);
    flush();
    WRITE(SCTLR, sctlr | 1);
    access("nothing", 0x70000000);
    for (unsigned ap = 0; ap < 8; ap++) {
        table[0x700] = (phys & 0xfff00000) | SECTION | NORMAL | (ap & 3) << 10 | (ap >> 2) << 15 | DOMAIN(3);
        flush();
        access(aps[ap], 0x70000000 | (phys & 0xfffff));
    }
    table[0x700] = (phys & 0xfff00000) | SECTION | NORMAL | AP_RW | XN | DOMAIN(3);
    flush();
    access("XN", 0x70000000 | (phys & 0xfffff));
    table[0x700] = (phys & 0xfff00000) | SECTION | NORMAL | AP_RW | PXN | DOMAIN(3);
    flush();
    access("PXN", 0x70000000 | (phys & 0xfffff));
    table[0x700] = (phys & 0xfff00000) | SECTION | NORMAL | DOMAIN(4);
    WRITE(DACR, 0x55555055 | 3 << 8);
    flush();
    access("manager", 0x70000000 | (phys & 0xfffff));
    WRITE(DACR, 0x55555055);
    flush();
    access("no access", 0x70000000 | (phys & 0xfffff));
    WRITE(DACR, 0x55555055 | 2 << 8);
    flush();
    access("domain field 2", 0x70000000 | (phys & 0xfffff));
    WRITE(DACR, 0x55555555);
    /* second level */
    for (unsigned n = 0; n < 256; n++)
        small[n] = 0;
    table[0x700] = (uint32_t)small | 1 | DOMAIN(5);
    flush();
    access("no page", 0x70001000);
    small[1] = phys | 2 | 3 << 4 | 3 << 2;
    flush();
    access("small page", 0x70001000);
    small[1] = phys | 3 | 3 << 4;
    flush();
    access("small page, XN", 0x70001000);
    small[1] = phys | 2 | 2 << 4 | 1 << 9;
    flush();
    access("small page, AP 6", 0x70001000);
    WRITE(DACR, 0x55555155);
    access("small page, its domain", 0x70001000);
    WRITE(DACR, 0x55555555);
    for (unsigned n = 16; n < 32; n++)
        small[n] = phys | 1 | 3 << 4;
    flush();
    access("large page", 0x70010000);
    line("large page's end", (page[16383] = 0x4711, *(volatile uint32_t *)0x7001fffc));
    table[0x700] = (uint32_t)small | 1 | 4 /* PXN */ | DOMAIN(5);
    flush();
    access("large page, PXN", 0x70010000);
    table[0x700] = (uint32_t)small | 1 | DOMAIN(5);
    for (unsigned n = 0x710; n < 0x720; n++)
        table[n] = (phys & 0xff000000) | SECTION | SUPER | AP_RW | NORMAL;
    flush();
    line("supersection", *(volatile uint32_t *)(0x71000000 | ((phys + 65532) & 0xffffff)));
    for (unsigned n = 0x710; n < 0x720; n++)
        table[n] = (phys & 0xff000000) | SECTION | SUPER | 0 << 10 | NORMAL;
    flush();
    access("supersection, AP 0", 0x71000000 | (phys & 0xffffff));
    table[0x720] = 3;
    flush();
    access("first-level 3", 0x72000000);

    /* AFE: AP[0] is the access flag */
    WRITE(SCTLR, sctlr | 1 | 1 << 29);
    small[1] = phys | 2 | 2 << 4;
    flush();
    access("no access flag", 0x70001000);
    for (unsigned n = 0; n < 4; n++) {
        small[1] = phys | 2 | 1 << 4 | (n & 1) << 5 | (n >> 1) << 9;
        flush();
        access(aps[n * 2 + 1], 0x70001000);
    }
    /* WXN, UWXN: what may be written, or by User mode, is not executed. Our own code must not be writable then. */
    small[1] = phys | 2 | 3 << 4;
    *(volatile uint32_t *)page = 0xe12fff1e;
    table[0x400] = 0x40000000 | SECTION | APX | AP_RW | NORMAL;
    WRITE(SCTLR, sctlr | 1 | 1 << 19);
    flush();
    judged("!WXN, privileged", execute(0xd3, 0x70001000));
    judged("!WXN, user", execute(0x50, 0x70001000));
    WRITE(SCTLR, sctlr | 1 | 1 << 20);
    flush();
    judged("!UWXN, privileged", execute(0xd3, 0x70001000));
    judged("!UWXN, user", execute(0x50, 0x70001000));
    table[0x400] = 0x40000000 | SECTION | AP_RW | NORMAL;
    WRITE(SCTLR, sctlr | 1);
    flush();

    /* unprivileged accesses of privileged code */
    small[1] = phys | 2 | 1 << 4;
    flush();
    try_mode("ldrt", 0xd3, stub_ldrt, 0x70001000);
    try_mode("strt", 0xd3, stub_strt, 0x70001000);
    /* TTBCR.N, PD0, PD1 */
    table1[0x900] = (phys & 0xfff00000) | SECTION | NORMAL | AP_RW;
    table1[0x700] = (phys & 0xfff00000) | SECTION | NORMAL | AP_RW;
    WRITE(TTBCR, 1);
    flush();
    try_mode("TTBR1", 0xd3, stub_load, 0x90000000 | (phys & 0xfffff));
    try_mode("TTBR0 below", 0xd3, stub_load, 0x70001000);
    try_mode("TTBR1, nothing", 0xd3, stub_load, 0xa0000000);
    WRITE(TTBCR, 1 | 1 << 5);
    flush();
    in_mode(0xd3, stub_load, 0x90000000 | (phys & 0xfffff));
    judged("!PD1", taken.count);
    WRITE(TTBCR, 0);
    flush();
    /* ASIDs: a page that is not global, another table under another ASID */
    small[1] = phys | 2 | 3 << 4 | 1 << 11;
    small[2] = (phys + 4096) | 2 | 3 << 4 | 1 << 11;
    page[0] = 0x111;
    page[1024] = 0x222;
    flush();
    WRITE(CONTEXTIDR, 1);
    line("ASID 1", *(volatile uint32_t *)0x70001000);
    WRITE(CONTEXTIDR, 2);
    small[1] = (phys + 4096) | 2 | 3 << 4 | 1 << 11;
    __asm__ volatile("dsb" ::: "memory");
    line("ASID 2", *(volatile uint32_t *)0x70001000);
    WRITE(CONTEXTIDR, 1);
    WRITE(TLBIASID, 1);
    __asm__ volatile("dsb; isb" ::: "memory");
    line("ASID 1 again", *(volatile uint32_t *)0x70001000);
    WRITE(CONTEXTIDR, 0);
    /* PAR */
    small[1] = phys | 2 | 2 << 4;
    flush();
    WRITE(ATS1CPR, 0x70001234); line("ats1cpr", READ(PAR) & ~0xff0u);
    WRITE(ATS1CPW, 0x70001234); line("ats1cpw", READ(PAR) & ~0xff0u);
    WRITE(ATS1CUR, 0x70001234); line("ats1cur", READ(PAR) & ~0xff0u);
    WRITE(ATS1CUW, 0x70001234); line("ats1cuw", READ(PAR));
    WRITE(ATS1CPR, 0x70005000); line("ats1cpr, no page", READ(PAR));
    WRITE(ATS1CPR, 0x79000000); line("ats1cpr, no table", READ(PAR));
    WRITE(ATS1CPR, 0x71000000); line("ats1cpr, not ours", READ(PAR));
    WRITE(SCTLR, sctlr);
    WRITE(ATS1CPR, 0x70001234); line("ats1cpr, off", READ(PAR) & ~0xff0u);
}

/* ---- alignment: with translation on, Normal memory */
static void test_alignment(void)
{
    uint32_t sctlr = READ(SCTLR);

    WRITE(SCTLR, sctlr | 1);
    page[0] = 0x03020100; page[1] = 0x07060504; page[2] = 0x0b0a0908;
    for (unsigned strict = 0; strict < 2; strict++) {
        WRITE(SCTLR, sctlr | 1 | strict << 1);
        print(strict ? "SCTLR.A\n" : "unaligned\n");
        try_mode("  ldr", 0xd3, stub_load, (uint32_t)page + 1);
        try_mode("  str", 0xd3, stub_store, (uint32_t)page + 5);
        try_mode("  ldrh", 0xd3, stub_half, (uint32_t)page + 1);
        try_mode("  ldm", 0xd3, stub_ldm, (uint32_t)page + 2);
        try_mode("  ldrd", 0xd3, stub_ldrd, (uint32_t)page + 2);
        try_mode("  ldrd of words", 0xd3, stub_ldrd, (uint32_t)page + 4);
        try_mode("  ldrex", 0xd3, stub_ldrex, (uint32_t)page + 2);
        try_mode("  thumb ldr", 0x50, stub_t_load, (uint32_t)page + 3);
        try_mode("  thumb ldr.w", 0x50, stub_t_loadw, (uint32_t)page + 3);
        try_mode("  in an IT block", 0x50, stub_t_it, (uint32_t)page + 3);
        try_mode("  swp", 0x50, stub_swp, (uint32_t)page);
    }
    try_mode("no memory there", 0x50, stub_load, 0x40f00001);
    WRITE(SCTLR, sctlr | 1);
    resume_at = (uint32_t)stub_none;
    try_mode("jump to nothing", 0x50, stub_jump, 0x70100000);
    resume_at = (uint32_t)stub_t_none & ~1u;
    try_mode("thumb jump to nothing", 0x50, stub_t_jump, 0x70100001);
    resume_at = 0;
    WRITE(SCTLR, sctlr);
}

/* ---- long descriptors */
static void test_long(void)
{
    uint32_t sctlr = READ(SCTLR), phys = (uint32_t)page;
    static const char *const aps[] = { "rw, privileged", "rw", "ro, privileged", "ro" };
    enum { AF = 1 << 10, VALID = 1, TABLE = 3 };

    for (unsigned n = 0; n < 4; n++)
        long1[n] = 0;
    for (unsigned n = 0; n < 512; n++)
        long2[n] = long3[n] = 0;
    long1[0] = (UINT64_C(0) << 30) | VALID | AF | 1 << 6 | 1 << 2 | UINT64_C(1) << 54;
    long1[1] = (uint32_t)long2 | TABLE;
    for (unsigned n = 0; n < 8; n++)
        long2[n] = 0x40000000 + ((uint64_t)n << 21) + (VALID | AF | 1 << 6);
    long2[0x180] = (uint32_t)long3 | TABLE;             /* 0x70000000 */
    CP_WRITE2(0, 10, 2, 0, 0x000004ff);
    WRITE(TTBCR, 1u << 31);
    __asm__ volatile("mcrr p15, 0, %0, %1, c2" :: "r"((uint32_t)long1), "r"(0));
    __asm__ volatile("mcrr p15, 1, %0, %1, c2" :: "r"((uint32_t)long1), "r"(0));
    flush();
    WRITE(SCTLR, sctlr | 1);
    access("long: nothing", 0x70001000);
    access("long: nothing in the first level", 0xc0000000);
    for (unsigned ap = 0; ap < 4; ap++) {
        long3[1] = phys | TABLE | AF | ap << 6;
        flush();
        access(aps[ap], 0x70001000);
    }
    long3[1] = phys | TABLE | AF | 1 << 6 | UINT64_C(1) << 54;
    flush();
    access("long: XN", 0x70001000);
    long3[1] = phys | TABLE | AF | 1 << 6 | UINT64_C(1) << 53;
    flush();
    access("long: PXN", 0x70001000);
    long3[1] = phys | TABLE | 1 << 6;
    flush();
    access("long: no access flag", 0x70001000);
    long3[1] = phys | VALID | AF | 1 << 6;
    flush();
    access("long: reserved", 0x70001000);
    long3[1] = phys | TABLE | AF | 1 << 6;
    long2[0x180] = (uint32_t)long3 | TABLE | UINT64_C(1) << 62;
    flush();
    access("long: APTable", 0x70001000);
    long2[0x180] = (uint32_t)long3 | TABLE | UINT64_C(1) << 61;
    flush();
    access("long: APTable of user", 0x70001000);
    long2[0x180] = (uint32_t)long3 | TABLE | UINT64_C(3) << 59;
    flush();
    access("long: XNTable, PXNTable", 0x70001000);
    long2[0x180] = (uint32_t)long3 | TABLE;
    flush();
    try_mode("long: alignment", 0x50, stub_ldm, 0x70001002);
    try_mode("long: bkpt", 0x50, stub_bkpt, 0);
    {
        uint32_t lo, hi;

        WRITE(ATS1CPR, 0x70001234);
        __asm__ volatile("mrrc p15, 0, %0, %1, c7" : "=r"(lo), "=r"(hi));
        line("long: par", lo & ~0xf80u);
        line("long: its attributes", hi);
        WRITE(ATS1CPR, 0x70009234);
        __asm__ volatile("mrrc p15, 0, %0, %1, c7" : "=r"(lo), "=r"(hi));
        line("long: par of nothing", lo);
    }
    /* T0SZ, T1SZ: 1 GiB below, the rest TTBR1's */
    WRITE(TTBCR, 1u << 31 | 1 << 0 | 1 << 16);
    flush();
    try_mode("long: T0SZ 1", 0xd3, stub_load, 0x70001000);
    try_mode("long: T1SZ 1", 0xd3, stub_load, 0xf0001000);
    WRITE(TTBCR, 1u << 31 | 1 << 0 | 1 << 16 | 1 << 23);
    flush();
    try_mode("long: EPD1", 0xd3, stub_load, 0xf0001000);
    WRITE(TTBCR, 1u << 31);
    flush();
    WRITE(SCTLR, sctlr);
    WRITE(TTBCR, 0);
    flush();
}

/* ---- states of exceptions: SCTLR.TE, EE, V */
static void test_states(void)
{
    uint32_t sctlr = READ(SCTLR), v;

    WRITE(VBAR, (uint32_t)thumb_vectors);
    WRITE(SCTLR, sctlr | 1 << 30);
    try_mode("TE: udf", 0x50, stub_udf, 0);
    try_mode("TE: thumb svc", 0x50, stub_t_svc, 0);
    __asm__ volatile("svc #0x12" ::: "lr", "memory"); report("TE: svc");
    WRITE(SCTLR, sctlr);
    WRITE(VBAR, (uint32_t)vectors);
    line("vbar", READ(VBAR));
    WRITE(VBAR, -1);
    line("vbar's bits", READ(VBAR));
    WRITE(VBAR, (uint32_t)vectors);
    v = READ(SCTLR);
    WRITE(SCTLR, v | 1 << 25);
    line("EE", READ(SCTLR) ^ v);
    WRITE(SCTLR, v);
    __asm__ volatile("setend be; mrs %0, cpsr; setend le" : "=r"(v));
    line("E", v);
    __asm__ volatile("setend be; ldr %0, [%1]; setend le" : "=r"(v) : "r"(&sctlr));
    line("big-endian load", v);
}

/* ---- an interrupt, by the virtual timer and GICv2 */
#define GICD(r) (*(volatile uint32_t *)(0x08000000 + (r)))
#define GICC(r) (*(volatile uint32_t *)(0x08010000 + (r)))
static volatile unsigned irqs;
static uint32_t irq_cpsr;
static void timer_irq(void)
{
    uint32_t id = GICC(0xc);

    irq_cpsr = CPSR();
    WRITE(CNTV_CTL, 0);
    GICC(0x10) = id;
    irqs += id;
}

static void test_interrupts(void)
{
    irq_hook = timer_irq;
    GICD(0) = 1;
    GICD(0x100) = 1 << 27;
    GICC(0) = 1;
    GICC(4) = 0xff;
    WRITE(CNTV_TVAL, 1000);
    WRITE(CNTV_CTL, 1);
    while (!irqs)                       /* masked: one that comes before WFI must not be waited for again */
        __asm__ volatile("wfi; cpsie i; isb; cpsid i");
    line("interrupt", irqs);
    line("its cpsr", irq_cpsr);
    irqs = 0;
    WRITE(CNTV_TVAL, 0);
    WRITE(CNTV_CTL, 1);
    while (!(CP_READ2(0, 12, 1, 0) >> 7 & 1))
        ;
    line("isr", CP_READ2(0, 12, 1, 0));
    try_mode("wfi with one pending", 0xd3, stub_wfi, 0);
    line("none taken", irqs);
    WRITE(CNTV_CTL, 0);
    irq_hook = 0;
}

int main(void)
{
    test_exceptions();
    test_modes();
    test_cp15();
    test_short();
    test_alignment();
    test_long();
    test_states();
    test_interrupts();
    print("done\n");
    return 0;
}
