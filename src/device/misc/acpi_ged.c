/* Generic Event Device (ACPI 6.5, 5.6.9): the machine's side of what a DSDT's _EVT method reads. */
#include "rhea/device/acpi_ged.h"
#include "rhea/vm/vm.h"

enum { SELECT = 0, GED_SIZE = 4 };

struct acpi_ged { struct device dev; uint32_t pending; };

void acpi_ged_event(struct device *dev, uint32_t events)
{
    device_lock(dev);
    device_cast(dev, struct acpi_ged)->pending |= events;
    irq_raise(dev->irq_out[0]);
    device_unlock(dev);
}

static uint64_t ged_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct acpi_ged *g = device_cast(dev, struct acpi_ged);
    uint32_t events = g->pending;

    g->pending = 0;
    irq_lower(dev->irq_out[0]);
    return events;
}

static void ged_write(struct device *dev, uint64_t offset, uint64_t value, unsigned size)
{
    guest_error(dev, "write of a register that is only read");
}

static void ged_reset(struct device *dev, enum reset_kind kind)
{
    device_cast(dev, struct acpi_ged)->pending = 0;
    irq_lower(dev->irq_out[0]);
}

DEVICE = {
    .name = "acpi-ged",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "ACPI generic event device: power button",
    .size = sizeof(struct acpi_ged),
    .mmio = { { .name = "acpi-ged", .size = GED_SIZE, .width = 4, .min = 4, .max = 4, .read = ged_read, .write = ged_write } },
    .state = (const struct state_field[]){ STATE_U32(struct acpi_ged, pending), { 0 } },
    .reset_enter = ged_reset,
};
