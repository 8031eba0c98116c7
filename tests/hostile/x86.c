/* The hostile guest's PC: boards 0 q35, 1 pc, 2 microvm. */
#include "hostile.h"

const uintptr_t pci_window = 0xc0000000;
extern uint64_t idt[256];
extern char trap[];

static inline void outb(uint16_t p, uint8_t v) { __asm__ volatile("outb %0, %1" :: "a"(v), "Nd"(p)); }
static inline void outw(uint16_t p, uint16_t v) { __asm__ volatile("outw %0, %1" :: "a"(v), "Nd"(p)); }
static inline void outl(uint16_t p, uint32_t v) { __asm__ volatile("outl %0, %1" :: "a"(v), "Nd"(p)); }
static inline uint8_t inb(uint16_t p) { uint8_t v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline uint16_t inw(uint16_t p) { uint16_t v; __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline uint32_t inl(uint16_t p) { uint32_t v; __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(p)); return v; }

unsigned cpu_id(void)
{
    uint32_t a = 1, b, c = 0, d;

    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return b >> 24;
}

void cpu_acknowledge(void)
{
    REG32(0xfee000b0) = 0;
    if (one_in(4)) {
        outb(0xa0, 0x20);
        outb(0x20, 0x20);
    }
}

void cpu_unmask(void)
{
    __asm__ volatile("sti; nop; nop; nop" ::: "memory");
    if (one_in(2))
        __asm__ volatile("cli");
}

bool has_pci(void) { return config.board < 2; }

uint32_t config_read(uint32_t bdf, unsigned reg)
{
    outl(0xcf8, 0x80000000 | (bdf & 0xffff) << 8 | (reg & 0xfc));
    return inl(0xcfc);
}

void config_write(uint32_t bdf, unsigned reg, uint32_t v, unsigned size)
{
    outl(0xcf8, 0x80000000 | (bdf & 0xffff) << 8 | (reg & 0xfc));
    if (size == 1)
        outb(0xcfc + (reg & 3), (uint8_t)v);
    else if (size == 2)
        outw(0xcfc + (reg & 2), (uint16_t)v);
    else
        outl(0xcfc, v);
}

void fw_cfg_dma(uintptr_t control)
{
    outl(0x514, 0);
    outl(0x518, swap(control));
}

void board_init(void)
{
    for (unsigned i = 0; i < 256; i++)
        idt[i] = (((uintptr_t)trap & 0xffff0000ull) << 32) | 0x00008e0000080000ull | ((uintptr_t)trap & 0xffff);
    range_add(0xfec00000, 0x1000, 6);
    range_add(0xfee00000, 0x1000, 10);
    range_add(0xfee00000, 0x100000, 2);         /* as MSIs */
    range_add(0xfff00000, 0x100000, 1);
    range_add(0xa0000, 0x60000, 1);
    range_add(RAM_BASE + RAM_SIZE - 4096, 8192, 1);
    if (config.board == 2) {
        for (unsigned n = 0; n < 8; n++)
            range_add(0xfeb00000 + n * 0x200, 0x200, 99);
        range_add(0xfec10000, 0x1000, 2);
        range_add(0xfea00000, 0x1000, 2);       /* event device */
        return;
    }
    range_add(0xfed00000, 0x400, 8);            /* HPET */
    if (config.board == 0) {
        config_write(0, 0x64, 0, 4);
        config_write(0, 0x60, 0xb0000001, 4);   /* PCIEXBAR */
        range_add(0xb0000000, 0x10000000, 4);
        range_add(0xb0000000, 0x100000, 8);
        range_add(0xfed1c000, 0x4000, 1);
    }
}

static uint16_t a_port(void)
{
    static const struct { uint16_t first, count; } some[] = {
        { 0, 16 }, { 0x20, 2 }, { 0xa0, 2 }, { 0x40, 4 }, { 0x60, 5 }, { 0x70, 8 }, { 0x80, 16 }, { 0xb2, 2 }, { 0xc0, 32 }, { 0xe9, 1 },
        { 0x3f8, 8 }, { 0x2f8, 8 }, { 0x378, 8 }, { 0x3b0, 48 }, { 0x1f0, 8 }, { 0x170, 8 }, { 0x3f0, 8 }, { 0x4d0, 2 }, { 0x510, 12 },
        { 0x600, 128 }, { 0xb000, 64 }, { 0xcf8, 8 }, { 0xae00, 32 }, { 0xaf00, 32 }, { 0xcd8, 12 }, { 0xc000, 0x2000 }, { 0x700, 64 }, { 0xf0, 2 },
    };
    unsigned i = below(sizeof(some) / sizeof(some[0]) + 1);

    return i < sizeof(some) / sizeof(some[0]) ? (uint16_t)(some[i].first + below(some[i].count)) : (uint16_t)below(65536);
}

static void ports(void)
{
    for (unsigned n = below(16); n; n--) {
        uint16_t p = a_port();
        uint32_t v = (uint32_t)value();

        /* Powering off ends a run early: once in a while is enough. */
        if ((p == 0x604 || p == 0x605 || p == 0xb004 || p == 0xb005) && !one_in(50))
            v &= ~0x2000u;
        switch (below(6)) {
        case 0: outb(p, (uint8_t)v); break;
        case 1: outw(p, (uint16_t)v); break;
        case 2: outl(p, v); break;
        case 3: (void)inb(p); break;
        case 4: (void)inw(p); break;
        default: (void)inl(p); break;
        }
    }
}

static void wrmsr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" :: "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)));
}

static void string_ports(void)
{
    uint16_t p = a_port();
    uintptr_t a = one_in(8) ? (uintptr_t)value() | ARENA : arena(1);
    unsigned n = below(600);

    if (p >= 0x600 && p < 0x606)
        return;
    if (one_in(2))
        __asm__ volatile("cld; rep insb" : "+D"(a), "+c"(n) : "d"(p) : "memory");
    else
        __asm__ volatile("cld; rep outsl" : "+S"(a), "+c"(n) : "d"(p) : "memory");
}

/* Local APIC: interrupts between processors; timers; x2APIC. */
static void apic(void)
{
    switch (below(8)) {
    case 0: wrmsr(0x1b, 0xfee00000 | (one_in(2) ? 0x800 : below(4096)) | (cpu_id() ? 0 : 0x100)); break;
    case 1: wrmsr(0x800 + below(0x40), value()); break;
    case 2: wrmsr(0x6e0, value()); break;
    case 3: REG32(0xfee00310) = below(config.cpus + 1) << 24; REG32(0xfee00300) = 0x500; break;
    case 4: REG32(0xfee00310) = below(config.cpus + 1) << 24; REG32(0xfee00300) = 0x608; break;
    case 5: REG32(0xfee00310) = (uint32_t)value(); REG32(0xfee00300) = (uint32_t)value() & ~0x400u; break;
    case 6: REG32(0xfee00320 + below(7) * 16) = (uint32_t)value(); REG32(0xfee00380) = (uint32_t)value() >> below(32); break;
    default: REG32(0xfee000f0) = 0x1ff; REG32(0xfee00080) = 0; break;
    }
}

static bool started;

void board_act(void)
{
    if (!started) {
        started = true;
        REG32(0xfee000f0) = 0x1ff;
        REG32(0xfee00300) = 0xc4500;            /* INIT and SIPI to all others */
        REG32(0xfee00300) = 0xc4608;
    }
    switch (below(5)) {
    case 0: apic(); break;
    case 1: string_ports(); break;
    default: ports(); break;
    }
}
