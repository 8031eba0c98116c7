/* ACPI tables (ACPI 6.5, chapter 5) as one image to be put anywhere: pointers in it are offsets, `pointers` says where and
 * how wide they are, `sums` which bytes hold the checksum of which range. Same for the RSDP, whose pointers go into the image.
 * A board begins with acpi_init(), adds its tables, and ends with acpi_finish(); firmware puts the image into memory by
 * the loader's script (fw_config.h), or a board without firmware by acpi_relocate(). */
#ifndef RHEA_BOARD_ACPI_H
#define RHEA_BOARD_ACPI_H

#include "board/aml.h"
#include "rhea/vm/pci_host.h"
#include "rhea/vm/vm.h"

enum { ACPI_LISTED_MAX = 16, ACPI_RSDP_LEN = 36, ACPI_HEADER = 36 };
struct acpi_pointer { uint32_t at; uint8_t size; bool rsdp; };
struct acpi_sum { uint32_t at, start, len; bool rsdp; };
struct acpi_image {
    GByteArray *tables;
    uint8_t rsdp[ACPI_RSDP_LEN];
    GArray *pointers, *sums;    /* struct acpi_pointer, acpi_sum */
    unsigned listed[ACPI_LISTED_MAX], nlisted;  /* in the RSDT and XSDT */
};

void acpi_init(struct acpi_image *img);
/* XSDT, RSDP; for 32-bit kernels of old an RSDT. */
void acpi_finish(struct acpi_image *img, bool with_rsdt);
void acpi_free(struct acpi_image *img);
/* Offsets become addresses, sums are made. */
void acpi_relocate(struct acpi_image *img, uint64_t base);

/* A table's header (5.2.6); its offset, for acpi_end(). Listed in the XSDT, but for DSDT (acpi_dsdt()) and FACS. */
unsigned acpi_begin(struct acpi_image *img, const char *signature, uint8_t revision);
void acpi_end(struct acpi_image *img, unsigned at);
void acpi_put(struct acpi_image *img, uint64_t v, unsigned bytes);
void acpi_zeros(struct acpi_image *img, unsigned bytes);
void acpi_text(struct acpi_image *img, const char *s, unsigned bytes);
void acpi_set(struct acpi_image *img, unsigned at, uint64_t v, unsigned bytes);
/* The address of what lies at that offset. */
void acpi_address(struct acpi_image *img, uint32_t offset, unsigned bytes);
/* Generic address structure (5.2.3.2). */
enum acpi_space { ACPI_SYSTEM_MEMORY = 0, ACPI_SYSTEM_IO = 1, ACPI_PCI_CONFIG = 2 };
void acpi_gas(struct acpi_image *img, enum acpi_space space, uint8_t bits, uint8_t access, uint64_t addr);

/* ---- tables that machines have in common */
unsigned acpi_facs(struct acpi_image *img);
unsigned acpi_dsdt(struct acpi_image *img, struct aml *a);      /* takes what was built */
void acpi_mcfg(struct acpi_image *img, uint64_t ecam, uint64_t size);
/* FADT of a machine without ACPI's fixed hardware (4.1). arm_boot: 5.2.9.4. */
void acpi_fadt_reduced(struct acpi_image *img, uint32_t dsdt, uint16_t arm_boot);
/* A serial port on memory, by SPCR and DBG2. */
struct acpi_uart { uint8_t spcr_type; uint16_t dbg2_type; uint8_t bits, access, irq_type; uint32_t gsi; uint64_t base; uint32_t size;
                   const char *path; /* "\\_SB.COM0" */ };
void acpi_spcr(struct acpi_image *img, const struct acpi_uart *u);
void acpi_dbg2(struct acpi_image *img, const struct acpi_uart *u);
/* Processor topology from the machine's vCPUs; their ACPI ids are their indices. Caches of a core, and the unified one of
 * its die; size 0: none. */
struct acpi_cache { uint32_t size, sets; uint8_t ways; uint16_t line; };
struct acpi_caches { struct acpi_cache l1d, l1i, l2; };
void acpi_pptt(struct acpi_image *img, struct vm *vm, const struct acpi_caches *caches);

/* ---- devices of a DSDT, acpi_dsdt.c; the caller has \_SB open */
void dsdt_osc(struct aml *a);   /* _OSC of a PCIe root: grants hot plug, PME, AER and the capability structure */
void dsdt_processors(struct aml *a, struct vm *vm);
void dsdt_virtio_mmio(struct aml *a, unsigned uid, uint32_t base, uint32_t size, uint32_t gsi);
void dsdt_fw_cfg(struct aml *a, uint32_t base);
void dsdt_flash(struct aml *a, unsigned uid, uint32_t base, uint32_t size);
/* A serial port "COMn" by its _HID. */
void dsdt_uart(struct aml *a, const char *hid, unsigned uid, uint32_t base, uint32_t size, uint32_t gsi);
/* The generic ECAM host (include/rhea/vm/pci_host.h), its interrupt links, and the ECAM reserved. */
void dsdt_gpex(struct aml *a, const struct gpex_windows *w, const uint32_t gsi[4]);
/* "acpi-ged" (include/rhea/device/acpi_ged.h) and the power button that it tells of. */
void dsdt_ged(struct aml *a, uint32_t base, uint32_t gsi);

#endif
