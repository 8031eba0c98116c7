/* The hostile guest's virt board of Arm, 64 and 32 bits: boards 0 GICv2, 1 GICv3. */
#include "hostile.h"

const uintptr_t pci_window = 0x10000000;
extern char _start[];

#ifdef __aarch64__
#define SET(name, v) __asm__ volatile("msr " #name ", %0; isb" :: "r"((uint64_t)(v)) : "memory")
#define GET(name) ({ uint64_t v_; __asm__ volatile("mrs %0, " #name : "=r"(v_)); v_; })
unsigned cpu_id(void) { return GET(MPIDR_EL1) & 0xff; }
static void psci(uint64_t fn, uint64_t a, uint64_t b, uint64_t c)
{
    register uint64_t x0 __asm__("x0") = fn;
    register uint64_t x1 __asm__("x1") = a;
    register uint64_t x2 __asm__("x2") = b;
    register uint64_t x3 __asm__("x3") = c;

    __asm__ volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3) :: "memory", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12",
                     "x13", "x14", "x15", "x16", "x17");
}
#define CPU_ON 0xc4000003
#else
#define GET_CP(a, n, m, o) ({ uint32_t v_; __asm__ volatile("mrc p15, " #a ", %0, " #n ", " #m ", " #o : "=r"(v_)); v_; })
#define SET_CP(a, n, m, o, v) __asm__ volatile("mcr p15, " #a ", %0, " #n ", " #m ", " #o "; isb" :: "r"((uint32_t)(v)) : "memory")
unsigned cpu_id(void) { return GET_CP(0, c0, c0, 5) & 0xff; }
static void psci(uint32_t fn, uint32_t a, uint32_t b, uint32_t c)
{
    register uint32_t r0 __asm__("r0") = fn;
    register uint32_t r1 __asm__("r1") = a;
    register uint32_t r2 __asm__("r2") = b;
    register uint32_t r3 __asm__("r3") = c;

    __asm__ volatile(".arch_extension virt\nhvc #0" : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3) :: "memory", "r12");
}
#define CPU_ON 0x84000003
#endif

enum { GICD = 0x08000000, GICC = 0x08010000, ITS = 0x08080000, GICR = 0x080a0000, ECAM = 0x3f000000 };

bool has_pci(void) { return true; }
uint32_t config_read(uint32_t bdf, unsigned reg) { return bdf < 0x1000 ? REG32(ECAM + (bdf << 12) + (reg & 0xffc)) : ~0u; }
void config_write(uint32_t bdf, unsigned reg, uint32_t v, unsigned size)
{
    uintptr_t a = ECAM + ((bdf & 0xfff) << 12) + (reg & 0xfff);

    if (size == 1)
        REG8(a) = (uint8_t)v;
    else if (size == 2)
        REG16(a & ~1ul) = (uint16_t)v;
    else
        REG32(a & ~3ul) = v;
}

void fw_cfg_dma(uintptr_t control)
{
    REG32(0x09020010) = 0;
    REG32(0x09020014) = swap((uint32_t)control);
}

void cpu_acknowledge(void)
{
    if (config.board == 0) {
        REG32(GICC + 0x10) = REG32(GICC + 0xc);
    } else {
#ifdef __aarch64__
        SET(S3_0_C12_C12_1, GET(S3_0_C12_C12_0));
#else
        SET_CP(0, c12, c12, 1, GET_CP(0, c12, c12, 0));
#endif
    }
}

void cpu_unmask(void)
{
#ifdef __aarch64__
    __asm__ volatile("msr DAIFClr, #7; nop; nop" ::: "memory");
    if (one_in(2))
        __asm__ volatile("msr DAIFSet, #7");
#else
    __asm__ volatile("cpsie aif; nop; nop" ::: "memory");
    if (one_in(2))
        __asm__ volatile("cpsid aif");
#endif
}

static void gic_on(void)
{
    REG32(GICD) = 0x37;
    for (unsigned n = 1; n < 9; n++) {
        REG32(GICD + 0x80 + 4 * n) = ~0u;
        REG32(GICD + 0x100 + 4 * n) = ~0u;
    }
    if (config.board == 0) {
        REG32(GICC) = 0x3;
        REG32(GICC + 4) = 0xf0;
        return;
    }
    REG32(GICR + (cpu_id() << 17) + 0x14) = 0;
    REG32(GICR + (cpu_id() << 17) + 0x10080) = ~0u;
    REG32(GICR + (cpu_id() << 17) + 0x10100) = ~0u;
#ifdef __aarch64__
    SET(S3_0_C12_C12_5, 7);
    SET(S3_0_C4_C6_0, 0xf0);
    SET(S3_0_C12_C12_7, 1);
#else
    SET_CP(0, c12, c12, 5, 7);
    SET_CP(0, c4, c6, 0, 0xf0);
    SET_CP(0, c12, c12, 7, 1);
#endif
}

void board_init(void)
{
    range_add(GICD, 0x10000, 10);
    if (config.board == 0) {
        range_add(GICC, 0x2000, 6);
        range_add(0x08020000, 0x1000, 3);
        range_add(0x08030000, 0x10000, 3);
        range_add(0x08040000, 0x2000, 3);
    } else {
        range_add(ITS, 0x20000, 10);
        range_add(ITS, 0x100, 10);
        range_add(GICR, 0x20000 * config.cpus, 10);
    }
    range_add(0x09000000, 0x1000, 5);
    range_add(0x09010000, 0x1000, 4);
    range_add(0x09020000, 0x20, 6);
    range_add(0x09030000, 0x1000, 2);
    range_add(0x09040000, 0x1000, 1);
    range_add(0x00000000, 0x08000000, 5);       /* flash */
    range_add(0x04000000, 0x40000, 5);
    range_add(0x3eff0000, 0x10000, 4);
    range_add(ECAM, 0x01000000, 2);
    range_add(ECAM, 0x40000, 5);
    range_add(pci_window, 0x2000000, 2);
    range_add(0x0c000000, 0x02000000, 1);       /* platform bus: nothing */
    range_add(RAM_BASE + RAM_SIZE - 4096, 8192, 1);
    for (unsigned n = 0; n < 32; n++)
        range_add(0x0a000000 + n * 0x200, 0x200, n < 24 ? 1 : 99);
    gic_on();
}

/* The interrupt translation service: its tables and its command queue in memory that changes under it. */
static void its(void)
{
    uintptr_t queue = ARENA + (below(32) << 16);

    for (unsigned n = 0; n < 128; n++) {
        uintptr_t c = queue + 32 * n;
        static const uint8_t command[] = { 1, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15 };

        REG64(c) = (one_in(10) ? value() & 255 : command[below(sizeof(command))]) | (one_in(4) ? value() : below(8)) << 32;
        REG64(c + 8) = one_in(4) ? value() : (uint64_t)(8192 + below(64)) << 32 | below(32);
        REG64(c + 16) = one_in(4) ? value() : (one_in(2) ? 1ull << 63 : 0) | (uint64_t)below(config.cpus + 1) << 16 | (one_in(2) ? arena(256) : below(16));
        REG64(c + 24) = one_in(4) ? value() : 0;
    }
    REG32(ITS) = 0;
    for (unsigned n = 0; n < 2; n++)
        REG64(ITS + 0x100 + 8 * n) = one_in(8) ? value() : 1ull << 63 | arena(65536) | below(16) | (uint64_t)below(3) << 8 | (one_in(4) ? 1ull << 62 : 0);
    REG64(ITS + 0x80) = one_in(8) ? value() : 1ull << 63 | queue | below(16);
    REG64(ITS + 0x88) = 0;
    REG64(GICR + 0x70) = one_in(8) ? value() : arena(4096) | below(32);
    REG64(GICR + 0x78) = one_in(8) ? value() : arena(65536);
    if (one_in(2))
        REG32(GICR + (below(config.cpus) << 17)) = 1;
    REG32(ITS) = 1;
    REG64(ITS + 0x88) = one_in(8) ? value() : 32 * below(128);
    for (unsigned n = below(8); n; n--)
        REG32(ITS + 0x10040) = (uint32_t)value();
    (void)REG64(ITS + 0x90);
}

/* The performance monitors: counters near their overflow, events that there are and are not. */
#ifdef __aarch64__
static void monitors(void)
{
    uint64_t event = one_in(3) ? value() : (value() & 0xfff00000) | (uint64_t[]){ 0, 8, 0x11, 0x1b, 0x1d, 0x1e }[below(6)];
    uint64_t count = one_in(3) ? value() : -(uint64_t)below(5000);

    switch (below(8)) {
    case 0: SET(PMSELR_EL0, one_in(4) ? value() : below(32)); break;
    case 1: SET(PMXEVTYPER_EL0, event); break;
    case 2: SET(PMXEVCNTR_EL0, count); break;
    case 3: SET(S3_3_C14_C12_0, event); SET(S3_3_C14_C8_0, count); break;       /* PMEVTYPER0, PMEVCNTR0 */
    case 4: SET(S3_3_C14_C15_7, value()); SET(PMCCNTR_EL0, count); break;       /* PMCCFILTR */
    case 5: SET(PMOVSSET_EL0, value()); SET(PMSWINC_EL0, value()); SET(PMOVSCLR_EL0, value()); break;
    case 6: (void)GET(PMXEVCNTR_EL0); (void)GET(PMCCNTR_EL0); (void)GET(PMOVSSET_EL0); (void)GET(PMCEID0_EL0); break;
    default: SET(PMCR_EL0, value()); SET(PMCNTENSET_EL0, value()); SET(PMINTENSET_EL1, value()); SET(PMUSERENR_EL0, value()); break;
    }
}

static void system_registers(void)
{
    switch (below(20)) {
    case 0: SET(S3_0_C12_C12_0, value()); break;
    case 1: SET(S3_0_C12_C12_1, value()); break;
    case 2: SET(S3_0_C12_C11_1, value()); break;
    case 3: SET(S3_0_C12_C12_3, value()); break;
    case 4: SET(S3_0_C12_C12_4, value()); break;
    case 5: SET(S3_0_C12_C11_5, value()); break;        /* software interrupts */
    case 6: SET(S3_0_C12_C11_7, value()); break;
    case 7: SET(S3_0_C12_C9_0, value()); break;
    case 8: SET(S3_0_C12_C8_4, value()); break;
    case 9: SET(S3_0_C4_C6_0, value()); break;
    case 10: (void)GET(S3_0_C12_C12_2); (void)GET(S3_0_C12_C8_2); (void)GET(S3_0_C12_C11_3); break;
    case 11: (void)GET(S3_0_C12_C8_0); break;
    case 12: SET(CNTV_CVAL_EL0, value()); break;
    case 13: SET(CNTV_CTL_EL0, value()); break;
    case 14: SET(CNTP_TVAL_EL0, value()); break;
    case 15: SET(CNTP_CTL_EL0, value()); break;
    case 16: SET(CNTKCTL_EL1, value()); break;
    case 17: SET(S3_4_C12_C12_0 , value()); break;      /* ICH_LR0_EL2 and its kind: where there is an EL2 */
    case 18: SET(S3_4_C12_C11_0, value()); SET(S3_4_C12_C8_0, value()); SET(S3_4_C12_C11_7, value()); break;
    default: monitors(); monitors(); break;
    }
}
#else
static void monitors(void)
{
    uint32_t event = one_in(3) ? (uint32_t)value() : (uint32_t[]){ 0, 8, 0x11, 0x1b, 0x1d, 0x1e }[below(6)];
    uint32_t count = one_in(3) ? (uint32_t)value() : -(uint32_t)below(5000);

    switch (below(7)) {
    case 0: SET_CP(0, c9, c12, 5, one_in(4) ? value() : below(32)); break;      /* PMSELR */
    case 1: SET_CP(0, c9, c13, 1, event); SET_CP(0, c9, c13, 2, count); break;  /* PMXEVTYPER, PMXEVCNTR */
    case 2: SET_CP(0, c14, c12, 0, event); SET_CP(0, c14, c8, 0, count); break;
    case 3: SET_CP(0, c14, c15, 7, value()); SET_CP(0, c9, c13, 0, count); break;       /* PMCCFILTR, PMCCNTR */
    case 4: SET_CP(0, c9, c14, 3, value()); SET_CP(0, c9, c12, 4, value()); SET_CP(0, c9, c12, 3, value()); break;
    case 5: (void)GET_CP(0, c9, c13, 2); (void)GET_CP(0, c9, c13, 0); (void)GET_CP(0, c9, c14, 3); (void)GET_CP(0, c9, c12, 6); break;
    default: SET_CP(0, c9, c12, 0, value()); SET_CP(0, c9, c12, 1, value()); SET_CP(0, c9, c14, 1, value()); SET_CP(0, c9, c14, 0, value()); break;
    }
}

static void system_registers(void)
{
    switch (below(9)) {
    case 8: monitors(); monitors(); break;
    case 0: SET_CP(0, c12, c12, 0, value()); break;
    case 1: SET_CP(0, c12, c12, 1, value()); break;
    case 2: SET_CP(0, c12, c12, 4, value()); break;
    case 3: SET_CP(0, c4, c6, 0, value()); break;
    case 4: SET_CP(0, c14, c3, 0, value()); break;
    case 5: SET_CP(0, c14, c3, 1, value()); break;
    case 6: SET_CP(0, c14, c2, 1, value()); break;
    default: __asm__ volatile("mcrr p15, 0, %0, %1, c12" :: "r"((uint32_t)value()), "r"((uint32_t)value())); break;
    }
}
#endif

static bool started;

void board_act(void)
{
    if (!started) {
        started = true;
        for (unsigned n = 1; n < config.cpus; n++)
            psci(CPU_ON, n, (uintptr_t)_start, 0);
    }
    switch (below(8)) {
    case 0: gic_on(); break;
    case 1: case 2: case 3: system_registers(); break;
    case 4: case 5: if (config.board == 1) its(); break;
    case 6:
        if (one_in(20))
            psci(0x84000000 + below(32), value(), value(), value());
        else
            psci(CPU_ON, below(config.cpus), (uintptr_t)_start, value());
        break;
    default:
        REG32(GICD + 0xf00) = (uint32_t)value();
        REG32(GICD + 0x40) = (uint32_t)value();
        break;
    }
}
