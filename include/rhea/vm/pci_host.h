/* Host bridges and the south bridges' PIRQ routers, as boards see them. */
#ifndef RHEA_VM_PCI_HOST_H
#define RHEA_VM_PCI_HOST_H

#include "rhea/vm/pci.h"

struct pci_bus *pci_host_bus(struct device *host);      /* of "q35-pcihost", "i440FX-pcihost" */

/* "ICH9-LPC", "PIIX3": where their PCI interrupt lines go. isa: the 16 ISA lines (8259), through the PIRQ registers;
 * gsi: the I/O APIC's inputs of PIRQA-H (ICH9), or NULL. Also sets the root bus's routing. */
void lpc_connect(struct device *lpc, struct irq *const isa[16], struct irq *const gsi[8]);
/* ICH9: the device behind the ACPI PM registers, mapped at PMBASE; port B2h tells it. */
void lpc_set_pm(struct device *lpc, struct device *pm);

#endif
