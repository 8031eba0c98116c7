/* PCI-to-PCI bridges and PCI Express root ports. PCI-to-PCI Bridge Architecture 1.2, chapter 3; PCIe 4.0, 7.5.3 and
 * 6.7 (hot plug). */
#include <stdatomic.h>
#include <string.h>
#include <glib.h>
#include "pci_internal.h"
#include "rhea/vm/vm.h"

struct pci_bridge {
    struct pci_device pd;
    struct pci_bus *below;
    /* What is behind the bridge, and the windows through which the bus above sees it. */
    struct mem_region mem, io, window_mem, window_pref, window_io;
    uint8_t port, chassis; uint16_t slot;
    bool hotplug, power_controller;
    uint32_t chassis_nr; bool msi;
    uint32_t bus_reserve; uint64_t io_reserve, mem_reserve, pref32_reserve, pref64_reserve;
    bool root_port;
};

static struct pci_bridge *bridge(struct pci_device *pd)
{
    return (struct pci_bridge *)pd;
}

struct pci_bus *pci_bridge_bus(struct pci_device *pd)
{
    return bridge(pd)->below;
}

/* ---- windows (3.2.5.6 to 3.2.5.10) */

static void window_set(struct mem_region *w, struct mem_region *parent, bool on, uint64_t base, uint64_t limit)
{
    if (w->parent)
        mem_region_remove(w);
    if (!on || limit < base)
        return;
    w->alias_offset = base;
    w->size = limit - base + 1;
    mem_region_add(parent, base, w, 0);
}

void pci_bridge_update(struct pci_device *pd)
{
    struct pci_bridge *b = bridge(pd);
    const uint8_t *c = pd->config;
    uint16_t command = pci_word(c + PCI_COMMAND);
    uint64_t base, limit;

    if (!b->below)
        return;
    base = (uint64_t)(c[PCI_IO_BASE] & 0xf0) << 8;
    limit = (uint64_t)(c[PCI_IO_LIMIT] & 0xf0) << 8 | 0xfff;
    window_set(&b->window_io, pd->bus->io, command & PCI_COMMAND_IO, base, limit);
    base = (uint64_t)(pci_word(c + PCI_MEM_BASE) & 0xfff0) << 16;
    limit = (uint64_t)(pci_word(c + PCI_MEM_LIMIT) & 0xfff0) << 16 | 0xfffff;
    window_set(&b->window_mem, pd->bus->mem, command & PCI_COMMAND_MEMORY, base, limit);
    base = (uint64_t)(pci_word(c + PCI_PREF_BASE) & 0xfff0) << 16 | (uint64_t)pci_long(c + PCI_PREF_BASE_UPPER) << 32;
    limit = (uint64_t)(pci_word(c + PCI_PREF_LIMIT) & 0xfff0) << 16 | 0xfffff | (uint64_t)pci_long(c + PCI_PREF_LIMIT_UPPER) << 32;
    window_set(&b->window_pref, pd->bus->mem, command & PCI_COMMAND_MEMORY, base, limit);
}

static void bridge_header(struct pci_device *pd)
{
    uint8_t *w = pd->wmask, *c = pd->config;

    w[PCI_PRIMARY_BUS] = w[PCI_SECONDARY_BUS] = w[PCI_SUBORDINATE_BUS] = 0xff;
    w[PCI_SUBORDINATE_BUS + 1] = 0xff;
    w[PCI_IO_BASE] = w[PCI_IO_LIMIT] = 0xf0;
    pci_put_word(w + PCI_MEM_BASE, 0xfff0);
    pci_put_word(w + PCI_MEM_LIMIT, 0xfff0);
    pci_put_word(w + PCI_PREF_BASE, 0xfff0);
    pci_put_word(w + PCI_PREF_LIMIT, 0xfff0);
    pci_put_long(w + PCI_PREF_BASE_UPPER, 0xffffffff);
    pci_put_long(w + PCI_PREF_LIMIT_UPPER, 0xffffffff);
    c[PCI_PREF_BASE] = c[PCI_PREF_LIMIT] = 1;           /* 64-bit */
    pci_put_word(pd->w1c + PCI_SECONDARY_STATUS, 0xf900);
    pci_put_word(w + PCI_BRIDGE_CONTROL, 0x005b);
}

static bool bridge_realize(struct device *dev, struct error *err)
{
    struct pci_bridge *b = (struct pci_bridge *)dev;
    struct pci_device *pd = &b->pd;
    bool express = pd->info->express;

    bridge_header(pd);
    mem_region_init_container(&b->mem, dev->vm, dev, "pci-bridge-memory", 0);
    mem_region_init_container(&b->io, dev->vm, dev, "pci-bridge-io", 0x10000);
    mem_region_init_alias(&b->window_mem, dev->vm, dev, "bridge-window", &b->mem, 0, 0x100000);
    mem_region_init_alias(&b->window_pref, dev->vm, dev, "bridge-prefetch-window", &b->mem, 0, 0x100000);
    mem_region_init_alias(&b->window_io, dev->vm, dev, "bridge-io-window", &b->io, 0, 0x1000);
    b->below = pci_bus_new(dev->vm, dev, dev->id, express, &b->mem, &b->io);
    b->below->bridge = pd;
    return true;
}

static void bridge_unrealize(struct device *dev)
{
    struct pci_bridge *b = (struct pci_bridge *)dev;

    mem_region_remove(&b->window_mem);
    mem_region_remove(&b->window_pref);
    mem_region_remove(&b->window_io);
}

static void bridge_config_written(struct pci_device *pd, unsigned offset, unsigned size, uint32_t value)
{
    /* Secondary bus reset (bridge control bit 6). */
    if (offset <= PCI_BRIDGE_CONTROL && offset + size > PCI_BRIDGE_CONTROL &&
        pd->config[PCI_BRIDGE_CONTROL] & 0x40 && bridge(pd)->below) {
        struct pci_bus *below = bridge(pd)->below;

        for (unsigned i = 0; i < 256; i++) {
            struct pci_device *d = atomic_load(&below->fn[i]);

            if (d)
                pci_reset_later(d);
        }
    }
}

/* ---- root port: hot-plug events (6.7.3) */

enum { EXP_SLOT_CAP = 0x14, EXP_SLOT_CTL = 0x18, EXP_SLOT_STA = 0x1a, EXP_ROOT_CTL = 0x1c, EXP_LINK_CAP = 0x0c, EXP_LINK_STA = 0x12 };
enum { SLOT_BUTTON = 1, SLOT_POWER = 2, SLOT_PRESENCE = 8, SLOT_COMMAND_DONE = 0x10, SLOT_HPIE = 0x20, SLOT_DLL = 0x100 };
enum { SLOT_STA_PRESENT = 0x40, SLOT_STA_DLL_CHANGED = 0x100, LINK_STA_ACTIVE = 0x2000 };
enum { SLOT_CTL_POWER_OFF = 0x400, SLOT_CTL_EVENTS = 0x1019 | SLOT_POWER };

static void port_interrupt(struct pci_device *pd)
{
    const uint8_t *e = pd->config + pd->express_cap;
    uint16_t ctl = pci_word(e + EXP_SLOT_CTL), sta = pci_word(e + EXP_SLOT_STA);
    bool want = ctl & SLOT_HPIE && (sta & ctl & (SLOT_BUTTON | SLOT_POWER | SLOT_PRESENCE | SLOT_COMMAND_DONE) ||
                                    (sta & SLOT_STA_DLL_CHANGED && ctl & 0x1000));

    if (msi_enabled(pd)) {
        if (want)
            msi_notify(pd, 0);
    } else {
        pci_set_irq(pd, want);
    }
}

void pci_port_changed(struct pci_device *pd, bool present)
{
    uint8_t *e = pd->config + pd->express_cap;
    bool plugged = pd->dev.vm->state != RUN_PRELAUNCH || pd->dev.hotplugged;

    if (!bridge(pd)->root_port || !pd->express_cap)
        return;
    device_lock(&pd->dev);
    for (int i = 0; i < 2; i++) {       /* now, and as reset leaves it */
        uint8_t *s = (i ? pd->reset : pd->config) + pd->express_cap;
        uint16_t sta = pci_word(s + EXP_SLOT_STA), link = pci_word(s + EXP_LINK_STA);

        pci_put_word(s + EXP_SLOT_STA, present ? sta | SLOT_STA_PRESENT : sta & ~SLOT_STA_PRESENT);
        pci_put_word(s + EXP_LINK_STA, present ? link | LINK_STA_ACTIVE : link & ~LINK_STA_ACTIVE);
    }
    if (plugged && bridge(pd)->hotplug) {
        pci_put_word(e + EXP_SLOT_STA, pci_word(e + EXP_SLOT_STA) | SLOT_PRESENCE | SLOT_STA_DLL_CHANGED);
        port_interrupt(pd);
    }
    device_unlock(&pd->dev);
}

/* The guest must let go first: an attention button is pressed for it (6.7.1.5); it powers the slot off when done. */
bool pci_unplug_request(struct pci_device *pd, struct error *err)
{
    struct pci_device *port = pd->bus->bridge;
    uint8_t *e;

    if (!port || !bridge(port)->root_port || !bridge(port)->hotplug)
        return error_setf(err, ERR_GENERIC, "plug devices that are to be removed into a pcie-root-port",
                          "Bus '%s' does not support hotplugging", pd->bus->bus->name);
    device_lock(&port->dev);
    e = port->config + port->express_cap;
    pci_put_word(e + EXP_SLOT_STA, pci_word(e + EXP_SLOT_STA) | SLOT_BUTTON);
    pd->dev.pending_delete = true;
    port_interrupt(port);
    device_unlock(&port->dev);
    return true;
}

static void port_power_off(struct pci_device *port)
{
    struct pci_bus *below = bridge(port)->below;

    for (unsigned i = 0; i < 256; i++) {
        struct pci_device *d = atomic_load(&below->fn[i]);

        if (d && d->dev.pending_delete)
            device_remove_later(&d->dev);
    }
}

static void port_config_written(struct pci_device *pd, unsigned offset, unsigned size, uint32_t value)
{
    unsigned ctl = pd->express_cap + EXP_SLOT_CTL;

    bridge_config_written(pd, offset, size, value);
    if (offset < ctl + 4u && ctl < offset + size) {
        uint8_t *e = pd->config + pd->express_cap;

        if (offset < ctl + 2u) {
            /* A command completes at once. */
            pci_put_word(e + EXP_SLOT_STA, pci_word(e + EXP_SLOT_STA) | SLOT_COMMAND_DONE);
            if (pci_word(e + EXP_SLOT_CTL) & SLOT_CTL_POWER_OFF)
                port_power_off(pd);
        }
        port_interrupt(pd);
    }
}

static bool port_realize(struct device *dev, struct error *err)
{
    struct pci_bridge *b = (struct pci_bridge *)dev;
    struct pci_device *pd = &b->pd;
    uint8_t *e;

    b->root_port = true;
    if (!pd->bus->express)
        return error_setf(err, ERR_GENERIC, "use -machine q35", "%s needs a PCI Express bus, '%s' is none", dev->cls->name,
                          pd->bus->bus->name);
    if (!bridge_realize(dev, err) || !pci_add_express(pd, 0x54, 4, err) || !msi_init(pd, 0x90, 1, err) ||
        !pci_add_power_management(pd, 0xb0, err))
        return false;
    b->below->single_slot = true;
    b->below->bus->hotplug = b->hotplug;
    e = pd->config + pd->express_cap;
    pci_put_word(e + 2, pci_word(e + 2) | 0x100);       /* slot implemented */
    pci_put_long(e + EXP_LINK_CAP, pci_long(e + EXP_LINK_CAP) | (uint32_t)b->port << 24 | 1 << 20 /* reports active link */);
    pci_put_long(e + EXP_SLOT_CAP, (uint32_t)b->slot << 19 | (b->hotplug ? 0x60 | 1 | 2 | 8 | 16 : 0));
    pci_put_word(pd->wmask + pd->express_cap + EXP_SLOT_CTL, 0x17ff);
    pci_put_word(pd->w1c + pd->express_cap + EXP_SLOT_STA, 0x011f);
    pci_put_word(pd->wmask + pd->express_cap + EXP_ROOT_CTL, 0x001f);
    return true;
}

static const struct pci_info root_port_info = {
    .vendor = 0x1b36, .device = 0x000c, .class_code = 0x060400, .bridge = true, .express = true, .express_type = 4,
    .intx = true, .config_written = port_config_written,
};

static const struct prop port_props[] = {
    PROP(struct pci_bridge, port, "port", PROP_U8, "0", "port number"),
    PROP(struct pci_bridge, chassis, "chassis", PROP_U8, "0", "chassis number"),
    PROP(struct pci_bridge, slot, "slot", PROP_U16, "0", "slot number"),
    PROP(struct pci_bridge, hotplug, "hotplug", PROP_BOOL, "on", "devices may come and go"),
    PROP(struct pci_bridge, bus_reserve, "bus-reserve", PROP_U32, "4294967295", "bus numbers kept free behind it"),
    PROP(struct pci_bridge, io_reserve, "io-reserve", PROP_SIZE, "0", "I/O ports kept free behind it"),
    PROP(struct pci_bridge, mem_reserve, "mem-reserve", PROP_SIZE, "0", "memory kept free behind it"),
    PROP(struct pci_bridge, pref32_reserve, "pref32-reserve", PROP_SIZE, "0", "prefetchable memory kept free behind it"),
    PROP(struct pci_bridge, pref64_reserve, "pref64-reserve", PROP_SIZE, "0", "64-bit prefetchable memory kept free behind it"),
    { 0 },
};

DEVICE = {
    .name = "pcie-root-port",
    .parent = "pci-device",
    .bus = "PCIE",
    .category = "Controller/Bridge/Hub",
    .summary = "PCI Express Root Port",
    .size = sizeof(struct pci_bridge),
    .user_creatable = true,
    .props = port_props,
    .realize = port_realize,
    .unrealize = bridge_unrealize,
    .kind_data = &root_port_info,
};

/* ---- conventional bridge: a bus of 32 slots */

static bool pci_bridge_realize(struct device *dev, struct error *err)
{
    struct pci_bridge *b = (struct pci_bridge *)dev;

    if (!bridge_realize(dev, err))
        return false;
    b->below->min_slot = 1;
    return !b->msi || msi_init(&b->pd, 0, 1, err);
}

static const struct pci_info bridge_info = {
    .vendor = 0x1b36, .device = 0x0001, .class_code = 0x060400, .bridge = true, .config_written = bridge_config_written,
};

static const struct prop bridge_props[] = {
    PROP(struct pci_bridge, chassis_nr, "chassis_nr", PROP_U32, "0", "chassis number"),
    PROP(struct pci_bridge, msi, "msi", PROP_BOOL, "off", "has an MSI capability"),
    { 0 },
};

DEVICE = {
    .name = "pci-bridge",
    .parent = "pci-device",
    .bus = "PCI",
    .category = "Controller/Bridge/Hub",
    .summary = "Standard PCI Bridge",
    .size = sizeof(struct pci_bridge),
    .user_creatable = true,
    .props = bridge_props,
    .realize = pci_bridge_realize,
    .unrealize = bridge_unrealize,
    .kind_data = &bridge_info,
};

static const struct pci_info pcie_pci_info = {
    .vendor = 0x1b36, .device = 0x000e, .class_code = 0x060400, .bridge = true, .config_written = bridge_config_written,
};

DEVICE = {
    .name = "pcie-pci-bridge",
    .parent = "pci-device",
    .bus = "PCIE",
    .category = "Controller/Bridge/Hub",
    .summary = "PCI Express to PCI bridge",
    .size = sizeof(struct pci_bridge),
    .user_creatable = true,
    .props = (const struct prop[]){ PROP(struct pci_bridge, msi, "msi", PROP_BOOL, "on", "has an MSI capability"), { 0 } },
    .realize = pci_bridge_realize,
    .unrealize = bridge_unrealize,
    .kind_data = &pcie_pci_info,
};
