#ifndef RHEA_BOARD_DSDT_H
#define RHEA_BOARD_DSDT_H
#include "acpi_tables.h"
void dsdt_build(struct aml *a, struct x86_machine *m, const struct acpi_config *c);     /* the definition block's content */
#endif
