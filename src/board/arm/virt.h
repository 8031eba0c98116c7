/* The virt board: a machine that exists nowhere else, described to its guest by a device tree (and ACPI). */
#ifndef RHEA_BOARD_ARM_VIRT_H
#define RHEA_BOARD_ARM_VIRT_H

#include "board/acpi.h"
#include "board/fdt.h"
#include "guest/arm/arm.h"
#include "rhea/device/arm_gic.h"
#include "rhea/vm/pci_host.h"
#include "rhea/vm/vm.h"


enum { VIRT_SLOTS = 32, VIRT_BLOBS = 16, VIRT_SPIS = 256 };

/* The map that firmware knows. */
#define VIRT_FLASH 0x00000000u
#define VIRT_FLASH_BANK 0x04000000u
#define VIRT_GIC_DIST 0x08000000u
#define VIRT_GIC_CPU 0x08010000u
#define VIRT_GIC_V2M 0x08020000u
#define VIRT_GIC_HYP 0x08030000u
#define VIRT_GIC_VCPU 0x08040000u
#define VIRT_GIC_ITS 0x08080000u
#define VIRT_GIC_REDIST 0x080a0000u
#define VIRT_UART 0x09000000u
#define VIRT_RTC 0x09010000u
#define VIRT_FW_CFG 0x09020000u
#define VIRT_GPIO 0x09030000u
#define VIRT_SECURE_UART 0x09040000u
#define VIRT_GED 0x09080000u
#define VIRT_VIRTIO 0x0a000000u
#define VIRT_SECURE_MEM 0x0e000000u
#define VIRT_PCIE_MMIO 0x10000000u
#define VIRT_PCIE_PIO 0x3eff0000u
#define VIRT_PCIE_ECAM 0x3f000000u
#define VIRT_RAM 0x40000000u
#define VIRT_HIGH 0x4000000000u         /* where the high windows begin, unless RAM reaches past it */
enum { VIRT_VIRTIO_SIZE = 0x200, VIRT_SECURE_MEM_SIZE = 0x1000000 };

/* Shared interrupts (SPI), and private ones (PPI: IDs less 16) */
enum { SPI_UART = 1, SPI_RTC = 2, SPI_PCIE = 3, SPI_GPIO = 7, SPI_SECURE_UART = 8, SPI_GED = 9, SPI_VIRTIO = 16, SPI_V2M = 48, V2M_SPIS = 64 };
enum { PPI_PMU = 7, PPI_MAINTENANCE = 9, PPI_HYP_TIMER = 10, PPI_VIRT_TIMER = 11, PPI_HYPVIRT_TIMER = 12, PPI_SECURE_TIMER = 13,
       PPI_PHYS_TIMER = 14 };

/* Bytes that lie in guest memory when the machine starts. */
struct virt_blob { uint64_t addr; uint8_t *data; size_t len; };

enum virt_entry { ENTRY_FIRMWARE, ENTRY_LINUX, ENTRY_BARE };

struct virt {
    struct vm *vm;
    struct ram_block *ram;
    struct mem_region ram_region, secure_region;
    struct device *gic, *v2m, *its, *host, *uart, *gpio, *ged, *fw_cfg, *flash[2], *slot[VIRT_SLOTS];
    struct gpex_windows windows;
    uint64_t redist2, redist2_size;
    struct vm_timer *button;
    unsigned gic_version;       /* 2 or 3 */
    bool wide;                  /* CPUs have AArch64 */
    enum arm_psci psci;
    bool firmware;              /* -bios or flash holds what the CPUs start with */
    /* what is in memory at the start */
    struct virt_blob blob[VIRT_BLOBS]; unsigned nblobs;
    enum virt_entry how;
    uint64_t entry, initrd, initrd_size, dtb_addr;
    void *dtb; size_t dtb_len;
    /* -machine */
    char *gic_name, *iommu, *pflash[2] /* or by -drive if=pflash */, *dumpdtb;
    bool secure, virtualization, its_wanted, highmem, highmem_ecam, highmem_mmio, highmem_redists, compact_highmem, seeds, ras, mte;
    uint64_t highmem_mmio_size;
    uint32_t acpi;
};

/* virt.c: MPIDR's affinity fields of a CPU: a GICv2 serves clusters of 8, SGIs of a GICv3 reach 16 at a time. */
uint64_t virt_affinity(const struct virt *v, unsigned i);
/* virt_fdt.c: the tree, finished in v->dtb. */
bool virt_describe(struct virt *v, struct error *err);
/* virt_acpi.c: the tables, to be freed. */
void virt_acpi(struct virt *v, struct acpi_image *img);
/* boot.c: what -kernel, -initrd, -bios ask for; the device tree goes with it. */
bool virt_load(struct virt *v, struct error *err);
/* flash.c: drives of if=pflash are noted in v->pflash (before virt_flash_make(), and so that v->firmware is known). */
bool virt_flash_choose(struct virt *v, struct error *err);
bool virt_flash_make(struct virt *v, struct error *err);
void virt_configure_cpu(struct virt *v, unsigned i);     /* with what the board says now: before reset */
void virt_enter(struct virt *v);        /* at reset: memory's content and the boot CPU's state */
/* Takes data (g_malloc'ed). Copied into memory at each reset. */
bool virt_blob(struct virt *v, uint64_t addr, void *data, size_t len, struct error *err);

#endif
