/* What every x86 board has: processors with local APICs, RAM below and above 4 GiB, the interrupt controllers and timers
 * of a PC, and what is put into memory at each reset in place of firmware. */
#ifndef RHEA_BOARD_X86_COMMON_H
#define RHEA_BOARD_X86_COMMON_H

#include "guest/x86/x86.h"
#include "rhea/device/irqchip.h"
#include "rhea/device/isa.h"
#include "rhea/vm/device.h"
#include "rhea/vm/vm.h"

enum { X86_GSIS = 24, X86_BLOBS = 24 };
enum { X86_IOAPIC_BASE = 0xfec00000, X86_APIC_BASE = 0xfee00000, X86_HPET_BASE = 0xfed00000 };

/* Descriptors and page tables of a kernel's entry: linux_boot.c puts them there, the boot processor starts with them. */
enum { X86_GDT_ADDR = 0x8000, X86_TABLES_ADDR = 0x9000 };

/* Bytes that lie in guest memory when the machine starts. */
struct x86_blob { uint64_t addr; uint8_t *data; size_t len; };

/* Physical address space as the kernel is told: INT 15h E820 types. */
enum x86_e820_type { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4 };
struct x86_e820 { uint64_t addr, size; uint32_t type; };

enum x86_entry { ENTRY_FIRMWARE, ENTRY_LINUX64, ENTRY_LINUX32, ENTRY_PVH, ENTRY_MULTIBOOT };
struct x86_boot { enum x86_entry how; uint64_t entry, argument /* boot_params, start_info or multiboot information */; };

/* The board's own data (struct board.data_size); boards put it first in theirs. */
struct x86_machine {
    struct vm *vm;
    /* choices of the board, before x86_machine_init() */
    bool has_pic, has_pit, has_rtc, has_hpet, has_port61;
    uint64_t hole_start;        /* RAM below 4 GiB ends here at the latest */
    /* made by x86_machine_init() */
    struct device *ioapic, *pic, *pit, *rtc, *hpet;
    struct bus *isa;
    struct irq *gsi[X86_GSIS];  /* global system interrupts: I/O APIC pin n, and 8259 input n below 16 */
    struct ram_block *ram;
    struct mem_region ram_low, ram_high;
    uint64_t low_size, high_size;       /* bytes below and from 4 GiB */
    /* what the system starts from */
    struct x86_blob blob[X86_BLOBS]; unsigned nblobs;
    struct x86_e820 e820[32]; unsigned ne820;
    struct x86_boot boot;
    uint64_t rsdp;              /* address of the ACPI root pointer, 0: no ACPI */
    char *append_extra;         /* what the board adds to the kernel's command line, or NULL */
    char *append;               /* that and -append */
};

/* RAM, interrupt controllers, timers, CPUs. */
bool x86_machine_init(struct x86_machine *m, struct error *err);
void x86_machine_free(struct x86_machine *m);
/* Serial ports of config.serials on the ISA bus. */
bool x86_serials(struct x86_machine *m, struct error *err);
/* An ISA device by name, on m->isa. NULL with err. */
struct device *x86_isa_device(struct x86_machine *m, const char *name, struct error *err);
/* A system device mapped at addr. */
struct device *x86_sysbus_device(struct x86_machine *m, const char *name, uint64_t addr, struct error *err);
/* Takes data (g_malloc'ed). Copied into memory at each reset. */
void x86_blob(struct x86_machine *m, uint64_t addr, void *data, size_t len);
void x86_e820(struct x86_machine *m, uint64_t addr, uint64_t size, enum x86_e820_type type);
/* struct board.reset: blobs, then the boot processor's state; the others wait for INIT and SIPI. */
void x86_machine_reset(struct x86_machine *m);

/* linux_boot.c: -kernel. Reads the files, adds blobs, sets m->boot. */
bool x86_load_kernel(struct x86_machine *m, struct error *err);
/* GDT (and page tables) of the entry states. */
void x86_boot_tables(struct x86_machine *m, bool wide);
/* multiboot.c */
bool x86_is_multiboot(const uint8_t *kernel, size_t len);
bool x86_load_multiboot(struct x86_machine *m, const uint8_t *kernel, size_t len, struct error *err);
/* mptable.c: the tables of MultiProcessor Specification 1.4, for machines without ACPI. */
void x86_mptable(struct x86_machine *m);

#endif
