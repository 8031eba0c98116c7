/* The PCI tree for people (info pci) and programs (query-pci). */
#include <inttypes.h>
#include <stdatomic.h>
#include <glib.h>
#include <json-c/json.h>
#include "pci_internal.h"
#include "rhea/vm/vm.h"

static const struct { uint16_t class_; const char *desc; } class_names[] = {
    { 0x0100, "SCSI controller" }, { 0x0101, "IDE controller" }, { 0x0106, "SATA controller" }, { 0x0108, "NVMe controller" },
    { 0x0180, "Storage controller" }, { 0x0200, "Ethernet controller" }, { 0x0280, "Network controller" },
    { 0x0300, "VGA controller" }, { 0x0380, "Display controller" }, { 0x0403, "Audio controller" },
    { 0x0480, "Multimedia controller" }, { 0x0600, "Host bridge" }, { 0x0601, "ISA bridge" }, { 0x0604, "PCI bridge" },
    { 0x0680, "Bridge" }, { 0x0700, "Serial port" }, { 0x0780, "Communication controller" }, { 0x0c03, "USB controller" },
    { 0x0c05, "SMBus" }, { 0x00ff, "Unclassified device" },
};

static const char *class_desc(uint16_t class_)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(class_names); i++)
        if (class_names[i].class_ == class_)
            return class_names[i].desc;
    return NULL;
}

struct window { uint64_t base, limit; };

static void bridge_windows(const struct pci_device *pd, struct window w[3])
{
    const uint8_t *c = pd->config;

    w[0] = (struct window){ (uint64_t)(c[PCI_IO_BASE] & 0xf0) << 8, (uint64_t)(c[PCI_IO_LIMIT] & 0xf0) << 8 | 0xfff };
    w[1] = (struct window){ (uint64_t)(pci_word(c + PCI_MEM_BASE) & 0xfff0) << 16,
                            (uint64_t)(pci_word(c + PCI_MEM_LIMIT) & 0xfff0) << 16 | 0xfffff };
    w[2] = (struct window){
        (uint64_t)(pci_word(c + PCI_PREF_BASE) & 0xfff0) << 16 | (uint64_t)pci_long(c + PCI_PREF_BASE_UPPER) << 32,
        (uint64_t)(pci_word(c + PCI_PREF_LIMIT) & 0xfff0) << 16 | 0xfffff | (uint64_t)pci_long(c + PCI_PREF_LIMIT_UPPER) << 32 };
}

static void text_bars(GString *s, const struct pci_device *pd)
{
    for (unsigned n = 0; n < PCI_BARS; n++) {
        const struct pci_bar *b = &pd->bar[n];
        uint64_t at = pci_bar_address(pd, n);

        if (!b->region)
            continue;
        if (b->type & PCI_BAR_IO && n != PCI_BAR_ROM)
            g_string_append_printf(s, "      BAR%u: I/O at 0x%04" PRIx64 " [0x%04" PRIx64 "].\n", n, at & 0xffff,
                                   (at + b->size - 1) & 0xffff);
        else
            g_string_append_printf(s, "      BAR%u: %u bit%s memory at 0x%08" PRIx64 " [0x%08" PRIx64 "].\n", n,
                                   b->type & PCI_BAR_MEM64 ? 64 : 32, b->type & PCI_BAR_PREFETCH ? " prefetchable" : "", at,
                                   at + b->size - 1);
    }
}

static void text_bus(GString *s, struct pci_bus *b, int depth);

static void text_device(GString *s, struct pci_device *pd, int depth)
{
    const uint8_t *c = pd->config;
    uint16_t class_ = pci_word(c + PCI_CLASS);
    const char *desc = class_desc(class_);

    g_string_append_printf(s, "  Bus %2u, device %3u, function %u:\n", pci_bus_number(pd->bus), PCI_SLOT(pd->devfn),
                           PCI_FUNC(pd->devfn));
    if (desc)
        g_string_append_printf(s, "    %s", desc);
    else
        g_string_append_printf(s, "    Class %04x", class_);
    g_string_append_printf(s, ": PCI device %04x:%04x\n", pci_word(c), pci_word(c + PCI_DEVICE_ID));
    if (!pd->info->bridge)
        g_string_append_printf(s, "      PCI subsystem %04x:%04x\n", pci_word(c + PCI_SUBSYSTEM_VENDOR), pci_word(c + PCI_SUBSYSTEM_ID));
    if (c[PCI_INTERRUPT_PIN])
        g_string_append_printf(s, "      IRQ %u, pin %c\n", c[PCI_INTERRUPT_LINE], 'A' + c[PCI_INTERRUPT_PIN] - 1);
    if (pd->info->bridge) {
        static const char *const kinds[3] = { "IO", "memory", "prefetchable memory" };
        struct window w[3];

        bridge_windows(pd, w);
        g_string_append_printf(s, "      BUS %u.\n      secondary bus %u.\n      subordinate bus %u.\n", c[PCI_PRIMARY_BUS],
                               c[PCI_SECONDARY_BUS], c[PCI_SUBORDINATE_BUS]);
        for (int i = 0; i < 3; i++)
            g_string_append_printf(s, "      %s range [0x%0*" PRIx64 ", 0x%0*" PRIx64 "]\n", kinds[i], i ? 8 : 4, w[i].base,
                                   i ? 8 : 4, w[i].limit);
    }
    text_bars(s, pd);
    g_string_append_printf(s, "      id \"%s\"\n", pd->dev.id ? pd->dev.id : "");
    if (pd->info->bridge && pci_bridge_bus(pd) && depth < 16)
        text_bus(s, pci_bridge_bus(pd), depth + 1);
}

static void text_bus(GString *s, struct pci_bus *b, int depth)
{
    for (unsigned i = 0; i < 256; i++) {
        struct pci_device *pd = atomic_load(&b->fn[i]);

        if (pd)
            text_device(s, pd, depth);
    }
}

char *pci_info_text(struct vm *vm)
{
    struct pci_bus *root = pci_root_bus(vm);
    GString *s = g_string_new(NULL);

    if (root)
        text_bus(s, root, 0);
    return g_string_free(s, FALSE);
}

/* ---- query-pci */

static void add_int(struct json_object *o, const char *key, int64_t v)
{
    json_object_object_add(o, key, json_object_new_int64(v));
}

static struct json_object *json_range(struct window w)
{
    struct json_object *o = json_object_new_object();

    add_int(o, "base", (int64_t)w.base);
    add_int(o, "limit", (int64_t)w.limit);
    return o;
}

static struct json_object *json_bus(struct pci_bus *b, int depth);

static struct json_object *json_regions(const struct pci_device *pd)
{
    struct json_object *all = json_object_new_array();

    for (unsigned n = 0; n < PCI_BARS; n++) {
        const struct pci_bar *b = &pd->bar[n];
        bool io = b->type & PCI_BAR_IO && n != PCI_BAR_ROM;
        struct json_object *o;

        if (!b->region)
            continue;
        o = json_object_new_object();
        add_int(o, "bar", n);
        json_object_object_add(o, "type", json_object_new_string(io ? "io" : "memory"));
        add_int(o, "address", (int64_t)pci_bar_address(pd, n));
        add_int(o, "size", (int64_t)b->size);
        if (!io) {
            json_object_object_add(o, "prefetch", json_object_new_boolean(b->type & PCI_BAR_PREFETCH));
            json_object_object_add(o, "mem_type_64", json_object_new_boolean(b->type & PCI_BAR_MEM64));
        }
        json_object_array_add(all, o);
    }
    return all;
}

static struct json_object *json_bridge(struct pci_device *pd, int depth)
{
    struct json_object *o = json_object_new_object(), *bus = json_object_new_object();
    struct window w[3];

    bridge_windows(pd, w);
    add_int(bus, "number", pd->config[PCI_PRIMARY_BUS]);
    add_int(bus, "secondary", pd->config[PCI_SECONDARY_BUS]);
    add_int(bus, "subordinate", pd->config[PCI_SUBORDINATE_BUS]);
    json_object_object_add(bus, "io_range", json_range(w[0]));
    json_object_object_add(bus, "memory_range", json_range(w[1]));
    json_object_object_add(bus, "prefetchable_range", json_range(w[2]));
    json_object_object_add(o, "bus", bus);
    if (pci_bridge_bus(pd) && depth < 16)
        json_object_object_add(o, "devices", json_bus(pci_bridge_bus(pd), depth + 1));
    return o;
}

static struct json_object *json_device(struct pci_device *pd, int depth)
{
    struct json_object *o = json_object_new_object(), *class_ = json_object_new_object(), *id = json_object_new_object();
    const uint8_t *c = pd->config;
    const char *desc = class_desc(pci_word(c + PCI_CLASS));

    add_int(o, "bus", pci_bus_number(pd->bus));
    add_int(o, "slot", PCI_SLOT(pd->devfn));
    add_int(o, "function", PCI_FUNC(pd->devfn));
    add_int(class_, "class", pci_word(c + PCI_CLASS));
    if (desc)
        json_object_object_add(class_, "desc", json_object_new_string(desc));
    json_object_object_add(o, "class_info", class_);
    add_int(id, "vendor", pci_word(c));
    add_int(id, "device", pci_word(c + PCI_DEVICE_ID));
    if (!pd->info->bridge) {
        add_int(id, "subsystem-vendor", pci_word(c + PCI_SUBSYSTEM_VENDOR));
        add_int(id, "subsystem", pci_word(c + PCI_SUBSYSTEM_ID));
    }
    json_object_object_add(o, "id", id);
    if (c[PCI_INTERRUPT_PIN])
        add_int(o, "irq", c[PCI_INTERRUPT_LINE]);
    add_int(o, "irq_pin", c[PCI_INTERRUPT_PIN]);
    json_object_object_add(o, "qdev_id", json_object_new_string(pd->dev.id ? pd->dev.id : ""));
    if (pd->info->bridge)
        json_object_object_add(o, "pci_bridge", json_bridge(pd, depth));
    json_object_object_add(o, "regions", json_regions(pd));
    return o;
}

static struct json_object *json_bus(struct pci_bus *b, int depth)
{
    struct json_object *all = json_object_new_array();

    for (unsigned i = 0; i < 256; i++) {
        struct pci_device *pd = atomic_load(&b->fn[i]);

        if (pd)
            json_object_array_add(all, json_device(pd, depth));
    }
    return all;
}

struct json_object *pci_query(struct vm *vm)
{
    struct json_object *all = json_object_new_array(), *o;
    struct pci_bus *root = pci_root_bus(vm);

    if (root) {
        o = json_object_new_object();
        add_int(o, "bus", 0);
        json_object_object_add(o, "devices", json_bus(root, 0));
        json_object_array_add(all, o);
    }
    return all;
}
