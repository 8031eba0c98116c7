/* Host bridges and the south bridges' PIRQ routers, as boards see them. */
#ifndef RHEA_VM_PCI_HOST_H
#define RHEA_VM_PCI_HOST_H

#include "rhea/vm/pci.h"

struct pci_bus *pci_host_bus(struct device *host);      /* of "q35-pcihost", "i440FX-pcihost", "gpex-pcihost" */

/* "gpex-pcihost": maps its windows into the machine's memory (addresses on the bus are the machine's; I/O ports start at
 * 0) and names the lines of INTA to INTD, which slots rotate. high_size 0: none. */
struct gpex_windows { uint64_t ecam_base, ecam_size, mmio_base, mmio_size, high_base, high_size, pio_base, pio_size; };
void gpex_connect(struct device *host, const struct gpex_windows *w, struct irq *const lines[4]);
unsigned gpex_route(unsigned slot, unsigned pin);       /* the line of a pin (0: INTA) of a slot on the root bus */

/* "ICH9-LPC", "PIIX3": where their PCI interrupt lines go. isa: the 16 ISA lines (8259), through the PIRQ registers;
 * gsi: the I/O APIC's inputs of PIRQA-H (ICH9), or NULL. Also sets the root bus's routing. */
void lpc_connect(struct device *lpc, struct irq *const isa[16], struct irq *const gsi[8]);
/* ICH9: the device behind the ACPI PM registers, mapped at PMBASE; port B2h tells it. */
void lpc_set_pm(struct device *lpc, struct device *pm);

#endif
