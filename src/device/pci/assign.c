/* Resources for machines that boot a kernel without firmware: bus numbers, BARs, bridge windows. Done by config cycles,
 * as firmware would. */
#include <inttypes.h>
#include <stdatomic.h>
#include <glib.h>
#include "pci_internal.h"
#include "rhea/vm/vm.h"

struct area { uint64_t at, end; };      /* what is left: [at, end) */
struct areas { struct area mem, mem64, io; struct pci_bus *root; struct error *err; };
enum { HOTPLUG_MEM = 2 << 20 };         /* kept free behind an empty hot-plug port */

static uint64_t align_up(uint64_t v, uint64_t a)
{
    return (v + a - 1) & ~(a - 1);
}

static bool take(struct area *a, uint64_t size, uint64_t align, uint64_t *at)
{
    uint64_t start = align_up(a->at, align);

    if (start < a->at || start > a->end || a->end - start < size)
        return false;
    *at = start;
    a->at = start + size;
    return true;
}

static void put(struct pci_device *pd, unsigned offset, unsigned size, uint32_t v)
{
    pci_config_write(pci_root_bus(pd->dev.vm), pci_bus_number(pd->bus), pd->devfn, offset, size, v);
}

static void number_buses(struct pci_bus *b, unsigned *next, int depth)
{
    unsigned own = pci_bus_number(b);

    for (unsigned i = 0; i < 256; i++) {
        struct pci_device *pd = atomic_load(&b->fn[i]);
        struct pci_bus *below = pd && pd->info->bridge ? pci_bridge_bus(pd) : NULL;

        if (!below || *next > 255 || depth > 16)
            continue;
        put(pd, PCI_PRIMARY_BUS, 1, own);
        put(pd, PCI_SECONDARY_BUS, 1, *next);
        put(pd, PCI_SUBORDINATE_BUS, 1, 0xff);
        ++*next;
        number_buses(below, next, depth + 1);
        put(pd, PCI_SUBORDINATE_BUS, 1, *next - 1);
    }
}

static bool is_high(const struct pci_device *pd, unsigned n, const struct areas *a)
{
    uint8_t need = PCI_BAR_MEM64 | PCI_BAR_PREFETCH;

    return n != PCI_BAR_ROM && (pd->bar[n].type & need) == need && a->mem64.end;
}

static bool assign_bar(struct pci_device *pd, unsigned n, struct areas *a)
{
    struct pci_bar *bar = &pd->bar[n];
    bool io = bar->type & PCI_BAR_IO && n != PCI_BAR_ROM;
    struct area *area = io ? &a->io : is_high(pd, n, a) ? &a->mem64 : &a->mem;
    unsigned reg = pci_bar_reg(pd, n);
    uint64_t at;

    if (!take(area, bar->size, MAX(bar->size, io ? 4 : 4096u), &at))
        return error_setf(a->err, ERR_GENERIC, "use fewer devices, or boot through firmware",
                          "no room for BAR %u of %s (%" PRIu64 " bytes)", n, pd->dev.path, bar->size);
    put(pd, reg, 4, (uint32_t)at);
    if (bar->type & PCI_BAR_MEM64 && !io && n != PCI_BAR_ROM)
        put(pd, reg + 4, 4, (uint32_t)(at >> 32));
    return true;
}

/* Largest first, so that alignment wastes nothing. */
static bool assign_devices(struct pci_bus *b, struct areas *a)
{
    for (int log = 62; log >= 2; log--)
        for (unsigned i = 0; i < 256; i++) {
            struct pci_device *pd = atomic_load(&b->fn[i]);

            for (unsigned n = 0; pd && n < PCI_BARS; n++)
                if (pd->bar[n].region && pd->bar[n].size == (uint64_t)1 << log && !assign_bar(pd, n, a))
                    return false;
        }
    return true;
}

static void set_window(struct pci_device *pd, unsigned base_reg, uint64_t start, uint64_t end)
{
    /* Nothing behind it: base above limit. */
    uint64_t last = end > start ? end - 1 : 0, first = end > start ? start : 0xfff00000;

    put(pd, base_reg, 2, (uint32_t)(first >> 16 & 0xfff0));
    put(pd, base_reg + 2, 2, (uint32_t)(last >> 16 & 0xfff0));
    if (base_reg == PCI_PREF_BASE) {
        put(pd, PCI_PREF_BASE_UPPER, 4, end > start ? (uint32_t)(first >> 32) : 0);
        put(pd, PCI_PREF_LIMIT_UPPER, 4, end > start ? (uint32_t)(last >> 32) : 0);
    }
}

static bool assign_bus(struct pci_bus *b, struct areas *a, int depth);

static bool assign_bridge(struct pci_device *pd, struct pci_bus *below, struct areas *a, int depth)
{
    uint64_t io, mem, high, room = below->bus->hotplug && !below->bus->devices->len ? HOTPLUG_MEM : 0;

    io = a->io.at = align_up(a->io.at, 0x1000);
    mem = a->mem.at = align_up(a->mem.at, 0x100000);
    high = a->mem64.at = align_up(a->mem64.at, 0x100000);
    if (!assign_bus(below, a, depth))
        return false;
    a->io.at = align_up(a->io.at, 0x1000);
    a->mem.at = MIN(align_up(a->mem.at, 0x100000) + room, a->mem.end);
    a->mem64.at = align_up(a->mem64.at, 0x100000) + (a->mem64.end ? room : 0);
    put(pd, PCI_IO_BASE, 1, a->io.at > io ? io >> 8 & 0xf0 : 0xf0);
    put(pd, PCI_IO_LIMIT, 1, a->io.at > io ? (a->io.at - 1) >> 8 & 0xf0 : 0);
    set_window(pd, PCI_MEM_BASE, mem, a->mem.at);
    set_window(pd, PCI_PREF_BASE, high, a->mem64.at);
    return true;
}

static bool assign_bus(struct pci_bus *b, struct areas *a, int depth)
{
    if (!assign_devices(b, a))
        return false;
    for (unsigned i = 0; i < 256 && depth < 16; i++) {
        struct pci_device *pd = atomic_load(&b->fn[i]);
        struct pci_bus *below = pd && pd->info->bridge ? pci_bridge_bus(pd) : NULL;

        if (below && !assign_bridge(pd, below, a, depth + 1))
            return false;
    }
    for (unsigned i = 0; i < 256; i++) {
        struct pci_device *pd = atomic_load(&b->fn[i]);

        if (pd)
            put(pd, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | (pd->info->bridge ? PCI_COMMAND_MASTER : 0));
    }
    return true;
}

bool pci_assign_resources(struct pci_bus *root, const struct pci_windows *w, struct error *err)
{
    struct areas a = {
        .mem = { w->mem_base, w->mem_base + w->mem_size }, .mem64 = { w->mem64_base, w->mem64_base + w->mem64_size },
        .io = { w->io_base, (uint64_t)w->io_base + w->io_size }, .root = root, .err = err,
    };
    unsigned next = 1;

    number_buses(root, &next, 0);
    return assign_bus(root, &a, 0);
}
