/* PrimeCell GPIO (PL061). The device drives irq_out[0]: its interrupt; irq_out[1 + n]: line n while it is an output. */
#ifndef RHEA_DEVICE_PL061_H
#define RHEA_DEVICE_PL061_H
#include "rhea/vm/device.h"
enum { PL061_LINES = 8 };
struct irq *pl061_line(struct device *gpio, unsigned n);        /* an input */
#endif
