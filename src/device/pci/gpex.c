/* "gpex-pcihost": the generic PCI Express host of machines without a PC's chip set. Configuration space is ECAM (PCIe 4.0,
 * 7.2.2); the board maps windows for memory below and above 4 GiB and for I/O ports. Function 0 is "gpex-root". */
#include <glib.h>
#include "pci_internal.h"
#include "rhea/vm/pci_host.h"
#include "rhea/vm/vm.h"

enum { LINES = 4 };

struct gpex {
    struct device dev;
    struct pci_bus *root;
    struct mem_region memory;   /* what the PCI bus sees as memory: addresses there are the machine's */
    struct mem_region ecam, low, high, pio;
    struct mem_region unclaimed[3];     /* behind the windows: where no BAR is */
    struct irq *line[LINES];
    bool mapped, has_high;
};

static uint64_t ecam_read(void *opaque, uint64_t offset, unsigned size)
{
    struct gpex *g = opaque;

    return pci_config_read(g->root, (unsigned)(offset >> 20), offset >> 12 & 0xff, offset & 0xfff, size);
}

static void ecam_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct gpex *g = opaque;

    pci_config_write(g->root, (unsigned)(offset >> 20), offset >> 12 & 0xff, offset & 0xfff, size, (uint32_t)value);
}

/* Nobody claims the access: a master abort, which the host answers with ones. */
static uint64_t unclaimed_read(void *opaque, uint64_t offset, unsigned size)
{
    return UINT64_MAX;
}

static void unclaimed_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
}

static const struct mmio_ops unclaimed_ops = { .read = unclaimed_read, .write = unclaimed_write, .min = 1, .max = 8, .unaligned = true,
                                               .lockless = true };

/* Lockless: each access takes the lock of the device that it is for. */
static const struct mmio_ops ecam_ops = { .read = ecam_read, .write = ecam_write, .min = 1, .max = 4, .lockless = true };

unsigned gpex_route(unsigned slot, unsigned pin)
{
    return (slot + pin) % LINES;
}

static int route(struct pci_bus *root, unsigned slot, unsigned pin)
{
    return (int)gpex_route(slot, pin);
}

static void set_line(void *opaque, int line, int level)
{
    irq_set(((struct gpex *)opaque)->line[line], level);
}

static void add_unclaimed(struct gpex *g, unsigned n, uint64_t base, uint64_t size)
{
    mem_region_init_mmio(&g->unclaimed[n], g->dev.vm, &g->dev, "pcie-unclaimed", size, &unclaimed_ops, g);
    mem_region_add(&g->dev.vm->system_memory, base, &g->unclaimed[n], -1);
}

void gpex_connect(struct device *dev, const struct gpex_windows *w, struct irq *const lines[4])
{
    struct gpex *g = device_cast(dev, struct gpex);
    struct mem_region *system = &dev->vm->system_memory;

    for (unsigned i = 0; i < LINES; i++)
        g->line[i] = lines[i];
    mem_region_init_mmio(&g->ecam, dev->vm, dev, "pcie-mmcfg-mmio", w->ecam_size, &ecam_ops, g);
    mem_region_init_alias(&g->low, dev->vm, dev, "pcie-mmio", &g->memory, w->mmio_base, w->mmio_size);
    mem_region_init_alias(&g->pio, dev->vm, dev, "pcie-ioport", &dev->vm->system_io, 0, w->pio_size);
    mem_transaction_begin(dev->vm);
    mem_region_add(system, w->ecam_base, &g->ecam, 0);
    mem_region_add(system, w->mmio_base, &g->low, 0);
    mem_region_add(system, w->pio_base, &g->pio, 0);
    add_unclaimed(g, 0, w->mmio_base, w->mmio_size);
    add_unclaimed(g, 1, w->pio_base, w->pio_size);
    if (w->high_size) {
        add_unclaimed(g, 2, w->high_base, w->high_size);
        mem_region_init_alias(&g->high, dev->vm, dev, "pcie-mmio-high", &g->memory, w->high_base, w->high_size);
        mem_region_add(system, w->high_base, &g->high, 0);
        g->has_high = true;
    }
    mem_transaction_commit(dev->vm);
    g->mapped = true;
}

static bool add_root_function(struct gpex *g, struct error *err)
{
    struct device *f = device_new(g->dev.vm, "gpex-root", NULL, err);

    if (!f)
        return false;
    device_set_parent(f, &g->dev, "gpex_root");
    if (device_set(f, "addr", "0.0", err) && device_realize(f, g->root->bus, err))
        return true;
    device_remove(f);
    return false;
}

static bool gpex_realize(struct device *dev, struct error *err)
{
    struct gpex *g = device_cast(dev, struct gpex);

    mem_region_init_container(&g->memory, dev->vm, dev, "pci", 0);
    g->root = pci_bus_new(dev->vm, dev, "pcie.0", true, &g->memory, &dev->vm->system_io);
    g->root->min_slot = 1;
    g->root->nlines = LINES;
    g->root->zero_decodes = true;
    g->root->route = route;
    g->root->set_line = set_line;
    g->root->opaque = g;
    return add_root_function(g, err);
}

static void gpex_unrealize(struct device *dev)
{
    struct gpex *g = device_cast(dev, struct gpex);

    if (!g->mapped)
        return;
    mem_region_remove(&g->ecam);
    mem_region_remove(&g->low);
    mem_region_remove(&g->pio);
    mem_region_remove(&g->unclaimed[0]);
    mem_region_remove(&g->unclaimed[1]);
    if (g->has_high) {
        mem_region_remove(&g->high);
        mem_region_remove(&g->unclaimed[2]);
    }
    mem_synchronize();
}

DEVICE = {
    .name = "gpex-root",
    .parent = "pci-device",
    .bus = "PCIE",
    .category = "Controller/Bridge/Hub",
    .summary = "Host bridge (generic PCI Express)",
    .size = sizeof(struct pci_device),
    .kind_data = &(const struct pci_info){ .vendor = 0x1b36, .device = 0x0008, .class_code = 0x060000, .host_only = true },
};

DEVICE = {
    .name = "gpex-pcihost",
    .parent = "sysbus",
    .category = "Controller/Bridge/Hub",
    .summary = "Generic PCI Express host bridge",
    .size = sizeof(struct gpex),
    .realize = gpex_realize,
    .unrealize = gpex_unrealize,
};
