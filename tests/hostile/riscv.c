/* The hostile guest's virt board of RISC-V, 64 and 32 bits. */
#include "hostile.h"

const uintptr_t pci_window = 0x40000000;
enum { CLINT = 0x2000000, PLIC = 0xc000000, ECAM = 0x30000000 };

#define SET(name, v) __asm__ volatile("csrw " #name ", %0" :: "r"((uintptr_t)(v)) : "memory")
#define GET(name) ({ uintptr_t v_; __asm__ volatile("csrr %0, " #name : "=r"(v_)); v_; })

unsigned cpu_id(void) { return GET(mhartid) & 7; }
bool has_pci(void) { return true; }
uint32_t config_read(uint32_t bdf, unsigned reg) { return REG32(ECAM + ((bdf & 0xffff) << 12) + (reg & 0xffc)); }
void config_write(uint32_t bdf, unsigned reg, uint32_t v, unsigned size)
{
    uintptr_t a = ECAM + ((bdf & 0xffff) << 12) + (reg & 0xfff);

    if (size == 1)
        REG8(a) = (uint8_t)v;
    else if (size == 2)
        REG16(a & ~1ul) = (uint16_t)v;
    else
        REG32(a & ~3ul) = v;
}

void fw_cfg_dma(uintptr_t control)
{
    REG32(0x10100010) = 0;
    REG32(0x10100014) = swap((uint32_t)control);
}

void cpu_acknowledge(void)
{
    uintptr_t context = PLIC + 0x200000 + (cpu_id() << 13);

    REG32(context + 4) = REG32(context + 4);
    if (one_in(2))
        REG32(CLINT + 4 * cpu_id()) = 0;
}

void cpu_unmask(void)
{
    SET(mie, one_in(2) ? 0x888 : value());
    __asm__ volatile("csrsi mstatus, 8; nop; nop" ::: "memory");
    if (one_in(2))
        __asm__ volatile("csrci mstatus, 8");
}

static void plic_on(void)
{
    for (unsigned n = 0; n < 96; n++)
        REG32(PLIC + 4 * n) = below(8);
    for (unsigned c = 0; c < 2 * config.cpus; c++) {
        for (unsigned n = 0; n < 3; n++)
            REG32(PLIC + 0x2000 + 0x80 * c + 4 * n) = ~0u;
        REG32(PLIC + 0x200000 + 0x1000 * c) = below(4);
    }
}

void board_init(void)
{
    range_add(0x100000, 0x1000, 1);
    range_add(0x101000, 0x1000, 6);
    range_add(CLINT, 0x10000, 8);
    range_add(CLINT + 0x4000, 64, 8);
    range_add(PLIC, 0x600000, 4);
    range_add(PLIC, 0x1000, 4);
    range_add(PLIC + 0x200000, 0x8000, 8);
    range_add(0x10000000, 0x100, 8);
    for (unsigned n = 0; n < 8; n++)
        range_add(0x10001000 + n * 0x1000, 0x200, 99);
    range_add(0x10100000, 0x20, 20);
    range_add(0x20000000, 0x04000000, 10);
    range_add(0x22000000, 0x40000, 20);
    range_add(0x3000000, 0x10000, 8);
    range_add(ECAM, 0x10000000, 4);
    range_add(ECAM, 0x40000, 20);
    range_add(pci_window, 0x2000000, 4);
    range_add(RAM_BASE + RAM_SIZE - 4096, 8192, 4);
    plic_on();
}

static void csrs(void)
{
    switch (below(10)) {
    case 0: SET(mie, value()); break;
    case 1: SET(mip, value()); break;
    case 2: SET(mcounteren, value()); break;
    case 3: SET(mcountinhibit, value()); break;
    case 4: SET(0x14d, value()); break;         /* stimecmp */
    case 5: SET(0x30a, value()); break;         /* menvcfg */
    case 6: SET(mideleg, value() & ~0x888ull); SET(mideleg, 0); break;
    case 7: SET(sscratch, value()); break;
    case 8: SET(mhpmevent3, one_in(2) ? value() : (value() & ~0xffffffffffull) | (1 + below(2))); SET(mhpmcounter3, value()); break;
    default: SET(mcycle, value()); SET(minstret, value()); break;
    }
}

void board_act(void)
{
    switch (below(6)) {
    case 0: plic_on(); break;
    case 1: case 2: csrs(); break;
    case 3: REG32(CLINT + 4 * below(config.cpus)) = 1; break;
    case 4: REG64(CLINT + 0x4000 + 8 * below(config.cpus)) = one_in(2) ? value() : REG64(CLINT + 0xbff8) + below(100000); break;
    default:
        if (one_in(300))
            REG32(0x100000) = one_in(2) ? 0x7777 : (uint32_t)value();
        (void)REG64(CLINT + 0xbff8);
        break;
    }
}
