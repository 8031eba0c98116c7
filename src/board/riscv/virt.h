/* The RISC-V virt board: a machine that exists nowhere else, described to its guest by a device tree. */
#ifndef RHEA_BOARD_RISCV_VIRT_H
#define RHEA_BOARD_RISCV_VIRT_H

#include "board/acpi.h"
#include "board/fdt.h"
#include "guest/riscv/riscv.h"
#include "rhea/vm/pci_host.h"
#include "rhea/vm/vm.h"

enum { RVIRT_SLOTS = 8, RVIRT_BLOBS = 32 };

/* The map that firmware knows. */
#define RVIRT_MROM 0x1000u
#define RVIRT_TEST 0x100000u
#define RVIRT_RTC 0x101000u
#define RVIRT_CLINT 0x2000000u
#define RVIRT_SSWI 0x2f00000u
#define RVIRT_PCIE_PIO 0x3000000u
#define RVIRT_PLATFORM_BUS 0x4000000u
#define RVIRT_PLIC 0xc000000u
#define RVIRT_UART 0x10000000u
#define RVIRT_VIRTIO 0x10001000u
#define RVIRT_FW_CFG 0x10100000u
#define RVIRT_GED 0x10102000u
#define RVIRT_FLASH 0x20000000u
#define RVIRT_PCIE_ECAM 0x30000000u
#define RVIRT_PCIE_MMIO 0x40000000u
#define RVIRT_RAM 0x80000000u
#define RVIRT32_PCIE_HIGH UINT64_C(0x300000000)
enum { RVIRT_MROM_SIZE = 0xf000, RVIRT_CLINT_SIZE = 0x10000, RVIRT_SWI_SIZE = 0x4000, RVIRT_MTIMER_SIZE = 0x8000,
       RVIRT_VIRTIO_SIZE = 0x1000, RVIRT_PLIC_SIZE = 0x600000, RVIRT_PIO_SIZE = 0x10000, RVIRT_ECAM_SIZE = 0x10000000,
       RVIRT_MMIO_SIZE = 0x40000000, RVIRT_FLASH_BANK = 0x2000000, RVIRT_UART_SIZE = 0x100 };
enum { RVIRT_TIMEBASE = 10000000, RVIRT_UART_CLOCK = 3686400 };
/* Sources of the PLIC */
enum { RVIRT_IRQ_VIRTIO = 1, RVIRT_IRQ_UART = 10, RVIRT_IRQ_RTC = 11, RVIRT_IRQ_GED = 12, RVIRT_IRQ_PCIE = 32, RVIRT_SOURCES = 96 };

/* Bytes that lie in guest memory when the machine starts. */
struct rvirt_blob { uint64_t addr; uint8_t *data; size_t len; };

struct rvirt {
    struct vm *vm;
    bool wide;                  /* RV64 */
    struct ram_block *ram, *mrom_ram;
    struct mem_region ram_region, mrom;
    struct device *plic, *host, *uart, *fw_cfg, *ged, *slot[RVIRT_SLOTS], *flash[2];
    struct gpex_windows windows;
    /* what is in memory at the start */
    struct rvirt_blob blob[RVIRT_BLOBS]; unsigned nblobs;
    uint64_t initrd, initrd_size, dtb_addr;
    void *dtb; size_t dtb_len;
    /* -machine */
    char *aia, *dumpdtb, *pflash[2] /* or by -drive if=pflash */;
    uint32_t aia_guests, acpi;
    bool aclint;
};

/* virt_fdt.c: the tree, finished in v->dtb. */
bool rvirt_describe(struct rvirt *v, struct error *err);
/* virt_acpi.c: the tables, to be freed. */
void rvirt_acpi(struct rvirt *v, struct acpi_image *img);
/* boot.c: what -bios, -kernel, -initrd ask for; the device tree and the reset vector go with it. */
bool rvirt_load(struct rvirt *v, struct error *err);
void rvirt_enter(struct rvirt *v);      /* at reset: memory's content */

#endif
