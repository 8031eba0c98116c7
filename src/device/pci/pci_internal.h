#ifndef RHEA_PCI_INTERNAL_H
#define RHEA_PCI_INTERNAL_H

#include "rhea/vm/pci.h"

static inline unsigned pci_bar_reg(const struct pci_device *pd, unsigned n)
{
    return n == PCI_BAR_ROM ? (pd->info->bridge ? PCI_BRIDGE_ROM : PCI_ROM) : PCI_BAR0 + 4 * n;
}

void pci_update_mappings(struct pci_device *pd);
void pci_intx_update(struct pci_device *pd);
/* msi.c: after config space was written; at reset */
void msi_config_written(struct pci_device *pd, unsigned offset, unsigned size);
void msi_reset(struct pci_device *pd);
/* bridge.c */
struct pci_bus *pci_bridge_bus(struct pci_device *pd);
void pci_bridge_update(struct pci_device *pd);          /* windows follow the registers */
void pci_port_changed(struct pci_device *port, bool present);   /* a device came or went behind a hot-plug port */
bool pci_unplug_request(struct pci_device *pd, struct error *err);
void pci_reset_later(struct pci_device *pd);            /* on the main loop */

#endif
