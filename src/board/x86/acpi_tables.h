/* ACPI tables of x86 boards. */
#ifndef RHEA_BOARD_X86_ACPI_TABLES_H
#define RHEA_BOARD_X86_ACPI_TABLES_H

#include "board/acpi.h"
#include "common.h"
#include "rhea/vm/pci.h"

enum { ACPI_PM_BASE = 0x600, ACPI_SCI = 9, ACPI_TABLES_ADDR = 0xe0000, ACPI_TABLES_MAX = 0x10000 };

struct acpi_mmio_device { uint64_t base, size; uint32_t gsi; };
struct acpi_config {
    bool pci;                   /* a PCI root with these windows and ECAM */
    bool piix;                  /* its PIRQs are the PIIX3's */
    struct pci_windows windows;
    uint64_t ecam, ecam_size;   /* 0: none */
    uint16_t reset_port; uint8_t reset_value;   /* an I/O port that resets, 0: none */
    bool i8042, vga;
    const struct acpi_mmio_device *virtio; unsigned nvirtio;   /* virtio-mmio */
};

void x86_acpi_build(struct x86_machine *m, const struct acpi_config *c, struct acpi_image *img);
/* Without firmware: RSDP and tables at ACPI_TABLES_ADDR; sets m->rsdp. */
bool acpi_place(struct x86_machine *m, const struct acpi_config *c, struct error *err);

#endif
