/* The interrupt controllers of RISC-V machines, as boards see them. */
#ifndef RHEA_DEVICE_RISCV_H
#define RHEA_DEVICE_RISCV_H

#include "rhea/vm/device.h"

/* "riscv.sifive.plic": contexts 2 * hart (machine) and 2 * hart + 1 (supervisor) of the harts that the machine has by
 * realize. */
struct irq *plic_line(struct device *plic, unsigned source);    /* an input; NULL: there is none */
char *plic_print(struct device *plic);                          /* info pic; caller frees */

#endif
