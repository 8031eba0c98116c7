#ifndef RHEA_BOARD_DSDT_H
#define RHEA_BOARD_DSDT_H
#include "acpi.h"
GByteArray *dsdt_aml(struct x86_machine *m, const struct acpi_config *c);       /* the definition block's content */
#endif
