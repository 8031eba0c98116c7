/* PCI devices: config space, base address registers, INTx. PCI Local Bus Specification 3.0, chapters 2.2.6 and 6. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib.h>
#include "pci_internal.h"
#include "rhea/vm/vm.h"

/* ---- buses */

static bool slot_free(struct pci_bus *b, unsigned slot)
{
    for (unsigned f = 0; f < 8; f++)
        if (atomic_load(&b->fn[PCI_DEVFN(slot, f)]))
            return false;
    return true;
}

static int find_slot(struct pci_bus *b)
{
    for (unsigned s = b->single_slot ? 0 : b->min_slot; s < (b->single_slot ? 1u : 32u); s++)
        if (slot_free(b, s))
            return (int)PCI_DEVFN(s, 0);
    return -1;
}

static bool bus_full(struct bus *bus)
{
    return find_slot(bus->priv) < 0;
}

static const char *device_label(const struct pci_device *pd)
{
    return pd->dev.id ? pd->dev.id : pd->dev.cls->name;
}

/* A device of several functions says so in function 0 (PCI 3.0, 6.2.1); else the guest never looks at the others. */
static bool check_function(struct pci_bus *b, struct pci_device *pd, unsigned devfn, struct error *err)
{
    struct pci_device *taken = atomic_load(&b->fn[devfn]), *f0 = atomic_load(&b->fn[devfn & ~7u]);

    if (taken)
        return error_setf(err, ERR_GENERIC, "choose another addr=, or leave it out",
                          "PCI: slot %u function %u not available for %s, in use by %s", PCI_SLOT(devfn), PCI_FUNC(devfn),
                          device_label(pd), device_label(taken));
    if (b->single_slot && PCI_SLOT(devfn))
        return error_setf(err, ERR_GENERIC, "use addr=0", "PCI: slot %u is not valid for %s, parent device only allows plugging into slot 0",
                          PCI_SLOT(devfn), device_label(pd));
    if (PCI_FUNC(devfn) && f0 && !f0->multifunction)
        return error_setf(err, ERR_GENERIC, "give function 0 multifunction=on",
                          "PCI: single function device can't be populated in function %x.%x", PCI_SLOT(devfn), PCI_FUNC(devfn));
    return true;
}

static bool pci_plug(struct bus *bus, struct device *dev, struct error *err)
{
    struct pci_bus *b = bus->priv;
    struct pci_device *pd = pci_device(dev);
    int devfn = pd->addr >= 0 ? pd->addr : find_slot(b);

    if (devfn < 0)
        return error_setf(err, ERR_GENERIC, "plug it into another bus with bus=, or add a pcie-root-port",
                          "PCI: no slot/function available for %s, all in use or reserved", device_label(pd));
    if (devfn > 255)
        return error_setf(err, ERR_GENERIC, NULL, "PCI: address %#x is out of range", devfn);
    if (!check_function(b, pd, (unsigned)devfn, err))
        return false;
    pd->bus = b;
    pd->devfn = (uint8_t)devfn;
    pd->addr = devfn;
    return true;
}

/* From here on config cycles do not find it. */
static void pci_unplug(struct bus *bus, struct device *dev)
{
    struct pci_bus *b = bus->priv;
    struct pci_device *pd = pci_device(dev);

    if (pd->bus && atomic_load(&b->fn[pd->devfn]) == pd) {
        pci_set_irq(pd, 0);
        atomic_store(&b->fn[pd->devfn], NULL);
        if (b->bridge)
            pci_port_changed(b->bridge, false);
    }
}

static void pci_bus_free(struct bus *bus)
{
    struct pci_bus *b = bus->priv;

    pthread_mutex_destroy(&b->intx_lock);
    g_free(b);
}

static bool pci_unplug_ask(struct bus *bus, struct device *dev, struct error *err)
{
    return pci_unplug_request(pci_device(dev), err);
}

static char *pci_describe(struct bus *bus, struct device *dev)
{
    struct pci_device *pd = pci_device(dev);

    return g_strdup_printf("addr %02x.%x", PCI_SLOT(pd->devfn), PCI_FUNC(pd->devfn));
}

const struct bus_class pci_bus_class = {
    .name = "PCI", .plug = pci_plug, .unplug = pci_unplug, .unplug_request = pci_unplug_ask,
    .free = pci_bus_free, .describe = pci_describe, .full = bus_full,
};
const struct bus_class pcie_bus_class = {
    .name = "PCIE", .also = "PCI", .plug = pci_plug, .unplug = pci_unplug, .unplug_request = pci_unplug_ask,
    .free = pci_bus_free, .describe = pci_describe, .full = bus_full,
};

struct pci_bus *pci_bus_new(struct vm *vm, struct device *owner, const char *name, bool express, struct mem_region *mem,
                            struct mem_region *io)
{
    struct pci_bus *b = g_new0(struct pci_bus, 1);

    b->vm = vm;
    b->express = express;
    b->mem = mem;
    b->io = io;
    pthread_mutex_init(&b->intx_lock, NULL);
    b->bus = bus_new(vm, express ? &pcie_bus_class : &pci_bus_class, owner, name);
    b->bus->priv = b;
    return b;
}

struct pci_bus *pci_root_bus(struct vm *vm)
{
    for (struct bus *b = vm->buses; b; b = b->next)
        if ((b->cls == &pci_bus_class || b->cls == &pcie_bus_class) && !((struct pci_bus *)b->priv)->bridge)
            return b->priv;
    return NULL;
}

unsigned pci_bus_number(const struct pci_bus *b)
{
    return b->bridge ? b->bridge->config[PCI_SECONDARY_BUS] : 0;
}

uint16_t pci_requester(const struct pci_device *pd)
{
    return (uint16_t)(pci_bus_number(pd->bus) << 8 | pd->devfn);
}

/* Down the bridges whose bus range holds `number`. */
static struct pci_bus *bus_numbered(struct pci_bus *b, unsigned number, int depth)
{
    if (pci_bus_number(b) == number && (!b->bridge || number))
        return b;
    for (unsigned i = 0; i < 256 && depth < 16; i++) {
        struct pci_device *pd = atomic_load(&b->fn[i]);
        struct pci_bus *below = pd && pd->info->bridge ? pci_bridge_bus(pd) : NULL;

        if (below && number >= pd->config[PCI_SECONDARY_BUS] && number <= pd->config[PCI_SUBORDINATE_BUS] &&
            pd->config[PCI_SECONDARY_BUS])
            return bus_numbered(below, number, depth + 1);
    }
    return NULL;
}

struct pci_device *pci_find(struct pci_bus *root, unsigned bus, unsigned devfn)
{
    struct pci_bus *b = root ? bus_numbered(root, bus, 0) : NULL;

    return b && devfn < 256 ? atomic_load(&b->fn[devfn]) : NULL;
}

/* ---- BARs */

static uint64_t bar_programmed(const struct pci_device *pd, unsigned n)
{
    const struct pci_bar *bar = &pd->bar[n];
    unsigned reg = pci_bar_reg(pd, n);
    uint64_t v = pci_long(pd->config + reg);

    if (n == PCI_BAR_ROM)
        return v & ~(uint64_t)0x7ff;
    if (bar->type & PCI_BAR_IO)
        return v & ~(uint64_t)3;
    if (bar->type & PCI_BAR_MEM64)
        v |= (uint64_t)pci_long(pd->config + reg + 4) << 32;
    return v & ~(uint64_t)15;
}

static bool zero_decodes(const struct pci_device *pd)
{
    const struct pci_bus *b = pd->bus;

    while (b && b->bridge)
        b = b->bridge->bus;
    return b && b->zero_decodes;
}

/* Does the BAR decode, and where? On a PC address 0, everywhere one that wraps (a register being sized), decode nothing. */
static bool bar_decodes(const struct pci_device *pd, unsigned n, uint64_t *addr)
{
    const struct pci_bar *bar = &pd->bar[n];
    uint16_t command = pci_word(pd->config + PCI_COMMAND);
    uint64_t last;

    if (!(command & (bar->type & PCI_BAR_IO && n != PCI_BAR_ROM ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)))
        return false;
    if (n == PCI_BAR_ROM && !(pd->config[pci_bar_reg(pd, n)] & 1))
        return false;
    *addr = bar_programmed(pd, n);
    last = *addr + bar->size - 1;
    if ((*addr == 0 && !zero_decodes(pd)) || last < *addr)
        return false;
    if (bar->type & PCI_BAR_IO && n != PCI_BAR_ROM)
        return last <= 0xffff;
    return bar->type & PCI_BAR_MEM64 || last < 0xffffffff;
}

void pci_update_mappings(struct pci_device *pd)
{
    struct vm *vm = pd->dev.vm;

    mem_transaction_begin(vm);
    for (unsigned n = 0; n < PCI_BARS; n++) {
        struct pci_bar *bar = &pd->bar[n];
        uint64_t addr = 0;
        bool on = bar->region && bar_decodes(pd, n, &addr);

        if (!bar->region || (on == bar->is_mapped && (!on || addr == bar->mapped)))
            continue;
        if (bar->is_mapped)
            mem_region_remove(bar->region);
        if (on)
            mem_region_add(bar->space, addr, bar->region, 1);
        bar->is_mapped = on;
        bar->mapped = addr;
    }
    if (pd->info->bridge)
        pci_bridge_update(pd);
    mem_transaction_commit(vm);
}

uint64_t pci_bar_address(const struct pci_device *pd, unsigned n)
{
    return n < PCI_BARS && pd->bar[n].is_mapped ? pd->bar[n].mapped : ~(uint64_t)0;
}

void pci_register_bar(struct pci_device *pd, unsigned n, uint8_t type, struct mem_region *region)
{
    struct pci_bar *bar = &pd->bar[n];
    unsigned reg = pci_bar_reg(pd, n);
    uint64_t mask = ~(region->size - 1);

    g_return_if_fail(n < PCI_BARS && region->size >= 4 && (region->size & (region->size - 1)) == 0);
    bar->region = region;
    bar->type = type;
    bar->size = region->size;
    bar->space = type & PCI_BAR_IO && n != PCI_BAR_ROM ? pd->bus->io : pd->bus->mem;
    if (n == PCI_BAR_ROM) {
        pci_put_long(pd->wmask + reg, (uint32_t)(mask & ~(uint64_t)0x7ff) | 1);
        return;
    }
    pd->config[reg] = type & 0xf;
    pci_put_long(pd->wmask + reg, (uint32_t)mask & (type & PCI_BAR_IO ? ~3u : ~15u));
    /* (All 32 bits of an I/O BAR are kept, though 16 decode: firmware sizes it so.) */
    if (!(type & PCI_BAR_IO) && type & PCI_BAR_MEM64)
        pci_put_long(pd->wmask + reg + 4, (uint32_t)(mask >> 32));
}

/* ---- capabilities (6.7) */

static bool cap_room(const struct pci_device *pd, unsigned offset, unsigned size)
{
    for (unsigned i = offset / 4; i < (offset + size + 3) / 4; i++)
        if (i >= PCI_CONFIG_SIZE / 4 || pd->cap_used[i / 64] >> (i % 64) & 1)
            return false;
    return true;
}

int pci_add_capability(struct pci_device *pd, uint8_t id, unsigned offset, unsigned size, struct error *err)
{
    if (offset == 0)
        for (offset = 0x40; offset < PCI_CONFIG_SIZE && !cap_room(pd, offset, size); offset += 4)
            ;
    if (offset < 0x40 || offset >= PCI_CONFIG_SIZE || !cap_room(pd, offset, size)) {
        error_setf(err, ERR_GENERIC, NULL, "%s: no room for PCI capability %#x at offset %#x", device_label(pd), id, offset);
        return -1;
    }
    for (unsigned i = offset / 4; i < (offset + size + 3) / 4; i++)
        pd->cap_used[i / 64] |= (uint64_t)1 << (i % 64);
    pd->config[offset] = id;
    pd->config[offset + 1] = pd->config[PCI_CAPABILITIES];
    pd->config[PCI_CAPABILITIES] = (uint8_t)offset;
    pd->config[PCI_STATUS] |= PCI_STATUS_CAPS;
    return (int)offset;
}

int pci_find_capability(const struct pci_device *pd, uint8_t id)
{
    unsigned at = pd->config[PCI_CAPABILITIES];

    for (int i = 0; i < 48 && at >= 0x40; i++, at = pd->config[at + 1])
        if (pd->config[at] == id)
            return (int)at;
    return 0;
}

/* PCI Power Management 1.2, 3.2: D0 and D3hot. */
bool pci_add_power_management(struct pci_device *pd, unsigned offset, struct error *err)
{
    int at = pci_add_capability(pd, PCI_CAP_PM, offset, 8, err);

    if (at < 0)
        return false;
    pci_put_word(pd->config + at + 2, 3);       /* version */
    pci_put_word(pd->config + at + 4, 8);       /* no soft reset */
    pci_put_word(pd->wmask + at + 4, 3);
    return true;
}

/* PCIe 4.0, 7.5.3. */
bool pci_add_express(struct pci_device *pd, unsigned offset, uint8_t type, struct error *err)
{
    int at = pci_add_capability(pd, PCI_CAP_EXPRESS, offset, 0x3c, err);
    uint8_t *c;

    if (at < 0)
        return false;
    c = pd->config + at;
    pd->express_cap = (uint8_t)at;
    pci_put_word(c + 2, (uint16_t)(2 | type << 4));
    pci_put_long(c + 4, 1 << 15);               /* role-based error reporting */
    pci_put_word(pd->wmask + at + 8, 0x70ef);
    if (type != 9) {
        pci_put_long(c + 0x0c, 1 | 1 << 4 | 1 << 10);   /* 2.5 GT/s, x1, ASPM none */
        pci_put_word(pd->wmask + at + 0x10, 0x00f3);
        pci_put_word(c + 0x12, 1 | 1 << 4);
    }
    pci_put_long(c + 0x24, 0);
    return true;
}

/* ---- config space */

static uint32_t config_load(const uint8_t *p, unsigned size)
{
    uint32_t v = 0;

    for (unsigned i = 0; i < size; i++)
        v |= (uint32_t)p[i] << i * 8;
    return v;
}

static bool overlaps(unsigned offset, unsigned size, unsigned from, unsigned len)
{
    return offset < from + len && from < offset + size;
}

static void command_changed(struct pci_device *pd)
{
    uint16_t command = pci_word(pd->config + PCI_COMMAND);

    atomic_store(&pd->dev.as, command & PCI_COMMAND_MASTER ? NULL : &pd->dev.vm->nowhere);
    pci_intx_update(pd);
}

static void config_store(struct pci_device *pd, unsigned offset, unsigned size, uint32_t value)
{
    for (unsigned i = 0; i < size; i++) {
        unsigned at = offset + i;
        uint8_t v = (uint8_t)(value >> i * 8), mask = pd->wmask[at];

        pd->config[at] = (uint8_t)((pd->config[at] & ~mask) | (v & mask));
        pd->config[at] &= (uint8_t)~(v & pd->w1c[at]);
    }
}

static uint32_t device_config_read(struct pci_device *pd, unsigned offset, unsigned size)
{
    uint32_t v;

    device_lock(&pd->dev);
    if (pd->info->config_read)
        pd->info->config_read(pd, offset, size);
    v = config_load(pd->config + offset, size);
    device_unlock(&pd->dev);
    return v;
}

static void device_config_write(struct pci_device *pd, unsigned offset, unsigned size, uint32_t value)
{
    bool bridge = pd->info->bridge;

    device_lock(&pd->dev);
    config_store(pd, offset, size, value);
    if (overlaps(offset, size, PCI_COMMAND, 2))
        command_changed(pd);
    if (overlaps(offset, size, PCI_COMMAND, 2) || overlaps(offset, size, PCI_BAR0, bridge ? 8 : 24) ||
        overlaps(offset, size, bridge ? PCI_BRIDGE_ROM : PCI_ROM, 4) ||
        (bridge && overlaps(offset, size, PCI_IO_BASE, PCI_IO_LIMIT_UPPER + 2 - PCI_IO_BASE)))
        pci_update_mappings(pd);
    msi_config_written(pd, offset, size);
    if (pd->info->config_written)
        pd->info->config_written(pd, offset, size, value);
    device_unlock(&pd->dev);
}

/* Callers are inside a memory read section (the host bridge's registers), so the device stays while we look. */
uint32_t pci_config_read(struct pci_bus *root, unsigned bus, unsigned devfn, unsigned offset, unsigned size)
{
    struct pci_device *pd;
    uint32_t none = size >= 4 ? 0xffffffff : (1u << size * 8) - 1, v = none;
    unsigned token = mem_read_begin();

    pd = pci_find(root, bus, devfn);
    if (pd && offset + size <= pd->config_size)
        v = device_config_read(pd, offset, size);
    else if (pd && offset < PCIE_CONFIG_SIZE)
        v = offset < PCI_CONFIG_SIZE ? none : 0;        /* no extended capabilities */
    mem_read_end(token);
    return v;
}

void pci_config_write(struct pci_bus *root, unsigned bus, unsigned devfn, unsigned offset, unsigned size, uint32_t value)
{
    unsigned token = mem_read_begin();
    struct pci_device *pd = pci_find(root, bus, devfn);

    if (pd && offset + size <= pd->config_size)
        device_config_write(pd, offset, size, value);
    mem_read_end(token);
}

/* ---- INTx (2.2.6; swizzling through bridges: PCI-to-PCI Bridge 1.2, 9.1) */

static void root_line_add(struct pci_bus *root, int line, int delta)
{
    if (line < 0 || line >= (int)G_N_ELEMENTS(root->line_count) || !root->set_line)
        return;
    pthread_mutex_lock(&root->intx_lock);
    root->line_count[line] += delta;
    root->set_line(root->opaque, line, root->line_count[line] > 0);
    pthread_mutex_unlock(&root->intx_lock);
}

static struct pci_bus *intx_root(struct pci_device *pd, unsigned *slot, unsigned *pin)
{
    struct pci_bus *b = pd->bus;

    *slot = PCI_SLOT(pd->devfn);
    *pin = pd->config[PCI_INTERRUPT_PIN] - 1u;
    while (b->bridge) {
        *pin = (*pin + *slot) & 3;
        *slot = PCI_SLOT(b->bridge->devfn);
        b = b->bridge->bus;
    }
    return b;
}

void pci_intx_update(struct pci_device *pd)
{
    unsigned slot, pin;
    struct pci_bus *root;
    bool want, changed;

    if (!pd->bus || !pd->config[PCI_INTERRUPT_PIN])
        return;
    pthread_mutex_lock(&pd->msi_lock);
    want = pd->intx_level && !(pci_word(pd->config + PCI_COMMAND) & PCI_COMMAND_INTX_OFF);
    changed = want != pd->intx_wired;
    pd->intx_wired = want;
    if (changed) {
        root = intx_root(pd, &slot, &pin);
        if (root->route)
            root_line_add(root, root->route(root, slot, pin), want ? 1 : -1);
    }
    pthread_mutex_unlock(&pd->msi_lock);
}

void pci_set_irq(struct pci_device *pd, int level)
{
    pthread_mutex_lock(&pd->msi_lock);
    pd->intx_level = level;
    if (level)
        pd->config[PCI_STATUS] |= PCI_STATUS_INTX;
    else
        pd->config[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTX;
    pthread_mutex_unlock(&pd->msi_lock);
    pci_intx_update(pd);
}

/* ---- option ROM */

static bool rom_load(struct pci_device *pd, struct error *err)
{
    g_autofree char *path = NULL, *data = NULL;
    g_autoptr(GError) gerr = NULL;
    gsize len;
    uint64_t size = 2048;

    if (!pd->romfile || !*pd->romfile || !pd->rombar)
        return true;
    path = firmware_find(pd->dev.vm, pd->romfile);
    if (!g_file_get_contents(path, &data, &len, &gerr))
        return error_setf(err, ERR_GENERIC, "romfile= without a value leaves the ROM out", "failed to find romfile \"%s\": %s", pd->romfile,
                          gerr->message);
    if (len == 0 || len > 16 << 20)
        return error_setf(err, ERR_GENERIC, NULL, "romfile \"%s\" has %zu bytes: 1 to 16 MiB are right", pd->romfile, len);
    while (size < len || size < pd->rom_size)
        size <<= 1;
    g_autofree char *id = g_strdup_printf("%s.rom", pd->dev.path);

    pd->rom_ram = ram_block_new(pd->dev.vm, id, MAX(size, (uint64_t)CPU_PAGE_SIZE), false, err);
    if (!pd->rom_ram)
        return false;
    memcpy(pd->rom_ram->host, data, len);
    mem_region_init_rom(&pd->rom, pd->dev.vm, &pd->dev, "option-rom", pd->rom_ram, 0, size);
    pci_register_bar(pd, PCI_BAR_ROM, PCI_BAR_MEM32, &pd->rom);
    return true;
}

/* ---- the kind */

static void header_init(struct pci_device *pd)
{
    const struct pci_info *info = pd->info;
    uint8_t *c = pd->config;

    pci_put_word(c + PCI_VENDOR_ID, info->vendor);
    pci_put_word(c + PCI_DEVICE_ID, info->device);
    c[PCI_REVISION] = info->revision;
    c[PCI_CLASS_PROG] = (uint8_t)info->class_code;
    pci_put_word(c + PCI_CLASS, (uint16_t)(info->class_code >> 8));
    c[PCI_HEADER_TYPE] = (uint8_t)((info->bridge ? 1 : 0) | (pd->multifunction ? 0x80 : 0));
    c[PCI_INTERRUPT_PIN] = info->intx ? 1 : 0;
    pci_put_word(pd->wmask + PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
                 PCI_COMMAND_SERR | PCI_COMMAND_INTX_OFF);
    pci_put_word(pd->w1c + PCI_STATUS, 0xf900);
    pd->wmask[PCI_CACHE_LINE] = 0xff;
    pd->wmask[PCI_INTERRUPT_LINE] = 0xff;
    if (!info->bridge) {
        pd->wmask[PCI_CACHE_LINE + 1] = 0xff;   /* latency timer */
        /* What a client of QEMU's machines expects of a device that names none. */
        pci_put_word(c + PCI_SUBSYSTEM_VENDOR, info->subsystem_vendor ? info->subsystem_vendor : 0x1af4);
        pci_put_word(c + PCI_SUBSYSTEM_ID, info->subsystem_vendor ? info->subsystem_id : 0x1100);
    }
}

static bool pci_realize(struct device *dev, struct error *err)
{
    struct pci_device *pd = pci_device(dev);

    pd->info = dev->cls->kind_data;
    pd->config_size = pd->bus->express ? PCIE_CONFIG_SIZE : PCI_CONFIG_SIZE;
    pd->config = g_malloc0(pd->config_size * 4);
    pd->wmask = pd->config + pd->config_size;
    pd->w1c = pd->wmask + pd->config_size;
    pd->reset = pd->w1c + pd->config_size;
    pthread_mutex_init(&pd->msi_lock, NULL);
    pd->present = true;
    header_init(pd);
    return true;
}

static bool pci_realized(struct device *dev, struct error *err)
{
    struct pci_device *pd = pci_device(dev);

    if (!rom_load(pd, err))
        return false;
    if (pd->info->express && pd->bus->express && !pd->express_cap &&
        !pci_add_express(pd, 0, pd->bus->bridge ? pd->info->express_type : 9, err))
        return false;
    memcpy(pd->reset, pd->config, pd->config_size);
    command_changed(pd);
    atomic_store(&pd->bus->fn[pd->devfn], pd);
    if (pd->bus->bridge)
        pci_port_changed(pd->bus->bridge, true);
    return true;
}

struct pci_reset { struct vm *vm; char *path; };

static void reset_posted(void *arg)
{
    struct pci_reset *r = arg;
    struct device *dev = device_find(r->vm, r->path);

    if (dev)
        device_reset_one(dev, RESET_WARM);
    g_free(r->path);
    g_free(r);
}

void pci_reset_later(struct pci_device *pd)
{
    struct pci_reset *r = g_new(struct pci_reset, 1);

    r->vm = pd->dev.vm;
    r->path = g_strdup(pd->dev.path);
    loop_post(pd->dev.vm->loop, reset_posted, r);
}

static void pci_unrealize(struct device *dev)
{
    struct pci_device *pd = pci_device(dev);

    if (pd->bus && atomic_load(&pd->bus->fn[pd->devfn]) == pd)
        atomic_store(&pd->bus->fn[pd->devfn], NULL);
    for (unsigned n = 0; n < PCI_BARS; n++)
        if (pd->bar[n].is_mapped) {
            mem_region_remove(pd->bar[n].region);
            pd->bar[n].is_mapped = false;
        }
}

static void pci_free(struct device *dev)
{
    struct pci_device *pd = pci_device(dev);

    msix_free(pd);
    if (pd->rom_ram)
        ram_block_free(pd->rom_ram);
    if (pd->present)
        pthread_mutex_destroy(&pd->msi_lock);
    g_free(pd->config);
}

static void pci_reset_enter(struct device *dev, enum reset_kind kind)
{
    struct pci_device *pd = pci_device(dev);

    memcpy(pd->config, pd->reset, pd->config_size);
    pthread_mutex_lock(&pd->msi_lock);
    pd->intx_level = false;
    pthread_mutex_unlock(&pd->msi_lock);
    msi_reset(pd);
    command_changed(pd);
    pci_update_mappings(pd);
}

static const struct prop pci_props[] = {
    PROP(struct pci_device, addr, "addr", PROP_PCI_ADDR, NULL, "slot and function (hexadecimal), such as 06.0"),
    PROP(struct pci_device, multifunction, "multifunction", PROP_BOOL, "off", "function 0 of a device of several"),
    PROP(struct pci_device, romfile, "romfile", PROP_STR, NULL, "option ROM"),
    PROP(struct pci_device, rombar, "rombar", PROP_U32, "1", "0: no option ROM"),
    PROP(struct pci_device, rom_size, "romsize", PROP_U32, "0", "size of the option ROM's BAR, at least"),
    PROP(struct pci_device, acpi_index, "acpi-index", PROP_I32, "0", "number that names the device (eno1)"),
    PROP(struct pci_device, failover_pair_id, "failover_pair_id", PROP_STR, NULL, "id of the device this one stands by for"),
    { 0 },
};

DEVICE_KIND = {
    .name = "pci-device",
    .props = pci_props,
    .realize = pci_realize,
    .realized = pci_realized,
    .unrealize = pci_unrealize,
    .free = pci_free,
    .reset_enter = pci_reset_enter,
};
