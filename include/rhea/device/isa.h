/* The ISA (LPC) bus: fixed I/O ports and sixteen interrupt lines. */
#ifndef RHEA_DEVICE_ISA_H
#define RHEA_DEVICE_ISA_H

#include "rhea/vm/device.h"

enum { ISA_IRQS = 16 };
struct isa_device { struct device dev; uint32_t iobase, irq; };

/* Makes the machine's ISA bus, named "isa.0"; lines go to the interrupt controllers (NULL: not connected). */
struct bus *isa_bus_new(struct vm *vm, struct device *owner, struct irq *const lines[ISA_IRQS]);
/* From a device's realize: its register block n at `port`. */
void isa_map(struct device *dev, unsigned n, uint16_t port);
/* The line that the device's bus has for `irq`; NULL when there is none. */
struct irq *isa_line(struct device *dev, unsigned irq);

#endif
