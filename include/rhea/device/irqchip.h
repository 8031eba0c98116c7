/* The PC's interrupt controllers, as boards and each other see them. */
#ifndef RHEA_DEVICE_IRQCHIP_H
#define RHEA_DEVICE_IRQCHIP_H

#include "rhea/vm/device.h"
#include "rhea/vm/vm.h"

/* ---- local APIC (SDM vol. 3, chapter 11): one a vCPU */
/* Binds an "apic" device to its vCPU and gives the guest CPU its platform. */
void apic_connect(struct device *apic, struct vcpu *v);
/* A message-signalled interrupt: a write of data to 0xfeexxxxx (11.11). Any thread. */
void apic_msi(struct vm *vm, uint64_t addr, uint32_t data);
/* The line that the 8259 pair drives: ExtINT through LINT0 of the boot processor. */
struct irq *apic_pic_line(struct vm *vm, struct device *pic);
void apic_inject_nmi(struct vm *vm);
char *apic_print(struct device *apic);          /* info lapic; caller frees */

/* ---- I/O APIC (82093AA) */
struct irq *ioapic_line(struct device *ioapic, unsigned pin);   /* an input */
void ioapic_eoi(struct device *ioapic, uint8_t vector);
char *ioapic_print(struct device *ioapic);

/* ---- i8259 pair */
struct irq *i8259_line(struct device *pic, unsigned n);         /* inputs 0 to 15 */
int i8259_acknowledge(struct device *pic);                      /* INTA cycle: the vector */
char *i8259_print(struct device *pic);                          /* info pic */

#endif
