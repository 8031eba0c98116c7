/* SMRAM of PC chip sets: RAM below the VGA window, A0000H to BFFFFH, that is seen in system management mode only. */
#ifndef RHEA_DEVICE_SMRAM_H
#define RHEA_DEVICE_SMRAM_H
#include "rhea/vm/device.h"
#include "rhea/vm/memory.h"
enum { SMRAM_G_SMRAME = 1 << 3, SMRAM_D_LCK = 1 << 4, SMRAM_D_CLS = 1 << 5, SMRAM_D_OPEN = 1 << 6 };
/* The host bridge ("q35-pcihost", "i440FX-pcihost") tells of its SMRAM control register, now and whenever it is written. */
void pci_host_watch_smram(struct device *host, void (*fn)(void *opaque, uint8_t smram), void *opaque);
#endif
