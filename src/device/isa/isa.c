/* The ISA bus. Devices sit at ports of their own choosing, so plugging has nothing to check but the address space. */
#include "rhea/device/isa.h"
#include "rhea/vm/vm.h"

struct isa_lines { struct irq *irq[ISA_IRQS]; };

static bool isa_plug(struct bus *bus, struct device *dev, struct error *err)
{
    return true;
}

static void isa_unplug(struct bus *bus, struct device *dev)
{
    for (unsigned i = 0; i < DEVICE_MMIO_MAX; i++)
        if (dev->mmio[i].parent)
            mem_region_remove(&dev->mmio[i]);
}

static void isa_free(struct bus *bus)
{
    g_free(bus->priv);
}

static const struct bus_class isa_bus_class = { .name = "ISA", .plug = isa_plug, .unplug = isa_unplug, .free = isa_free };

struct bus *isa_bus_new(struct vm *vm, struct device *owner, struct irq *const lines[ISA_IRQS])
{
    struct bus *bus = bus_new(vm, &isa_bus_class, owner, "isa.0");
    struct isa_lines *l = g_new0(struct isa_lines, 1);

    for (unsigned i = 0; i < ISA_IRQS; i++)
        l->irq[i] = lines[i];
    bus->priv = l;
    return bus;
}

void isa_map(struct device *dev, unsigned n, uint16_t port)
{
    mem_region_add(&dev->vm->system_io, port, &dev->mmio[n], 0);
}

struct irq *isa_line(struct device *dev, unsigned irq)
{
    struct isa_lines *l = dev->parent_bus ? dev->parent_bus->priv : NULL;

    return l && irq < ISA_IRQS ? l->irq[irq] : NULL;
}
