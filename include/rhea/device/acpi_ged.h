/* "acpi-ged": ACPI's Generic Event Device for machines without fixed hardware. One register, read to take the events that
 * have happened; irq_out[0] is up as long as there are any (edge and level triggered controllers both see it). */
#ifndef RHEA_DEVICE_ACPI_GED_H
#define RHEA_DEVICE_ACPI_GED_H
#include "rhea/vm/device.h"
enum { GED_POWER_BUTTON = 2 };          /* events, as bits */
void acpi_ged_event(struct device *ged, uint32_t events);
#endif
