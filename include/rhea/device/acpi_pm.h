/* The ACPI PM block ("ICH9-PM"): what chipset functions and hotplug tell it. */
#ifndef RHEA_DEVICE_ACPI_PM_H
#define RHEA_DEVICE_ACPI_PM_H
#include "rhea/vm/device.h"
enum { ACPI_ENABLE_COMMAND = 2, ACPI_DISABLE_COMMAND = 3 };     /* values of port B2h that the FADT names */
void acpi_pm_power_button(struct device *pm);
void acpi_pm_gpe(struct device *pm, unsigned gpe);              /* sets a GPE status bit */
void acpi_pm_smi_command(struct device *pm, uint8_t v);         /* port B2h */
/* SMIs that SMI_EN allows: fn is called for a write of port B2h, on the writer's thread. Without it such a write switches
 * ACPI mode, the one thing that firmware's SMI handlers commonly do there. */
void acpi_pm_on_smi(struct device *pm, void (*fn)(void *opaque), void *opaque);
#endif
