/* Host bridges: the root of PCI. Configuration mechanism #1 (PCI 3.0, 3.2.2.3.2) and ECAM (PCIe 4.0, 7.2.2); the MCH of
 * the Q35 chip set (Intel 316966) and the 440FX PMC (Intel 290549). */
#include <stdatomic.h>
#include <string.h>
#include <glib.h>
#include "rhea/device/smram.h"
#include "pci_internal.h"
#include "rhea/vm/pci_host.h"
#include "rhea/vm/vm.h"

struct pci_host {
    struct device dev;
    struct mem_region memory;   /* what the PCI bus sees as memory; fills the holes of the machine's */
    struct mem_region config, ecam;
    struct pci_bus *root;
    _Atomic uint32_t address;   /* CONFIG_ADDRESS */
    uint8_t reset_control;      /* CF9h (ICH9 13.7.5) */
    uint64_t mch_mem_size, hole64_size, pci_hole64;
    bool has_ecam;
    void (*smram)(void *opaque, uint8_t value);
    void *smram_opaque;
};

/* ---- CF8h, CFCh */

static uint64_t config_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_host *h = opaque;
    uint32_t a = atomic_load(&h->address);

    if (offset == 0 && size == 4)
        return a;
    if (offset == 1 && size == 1)
        return h->reset_control;
    if (offset < 4 || !(a >> 31))
        return ~(uint64_t)0;
    return pci_config_read(h->root, a >> 16 & 0xff, a >> 8 & 0xff, (a & 0xfc) + (unsigned)(offset & 3), size);
}

static void reset_control_write(struct pci_host *h, uint8_t v)
{
    bool rises = v & 4 && !(h->reset_control & 4);

    h->reset_control = v & 0x0e;
    if (rises)
        vm_request_reset(h->dev.vm, RESET_GUEST);
}

static void config_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_host *h = opaque;
    uint32_t a = atomic_load(&h->address);

    if (offset == 0 && size == 4)
        atomic_store(&h->address, (uint32_t)value & 0x80fffffc);
    else if (offset == 1 && size == 1)
        reset_control_write(h, (uint8_t)value);
    else if (offset >= 4 && a >> 31)
        pci_config_write(h->root, a >> 16 & 0xff, a >> 8 & 0xff, (a & 0xfc) + (unsigned)(offset & 3), size, (uint32_t)value);
}

/* Lockless: each access takes the lock of the device that it is for. */
static const struct mmio_ops config_ops = { .read = config_read, .write = config_write, .min = 1, .max = 4, .lockless = true };

static uint64_t ecam_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_host *h = opaque;

    return pci_config_read(h->root, (unsigned)(offset >> 20), offset >> 12 & 0xff, offset & 0xfff, size);
}

static void ecam_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_host *h = opaque;

    pci_config_write(h->root, (unsigned)(offset >> 20), offset >> 12 & 0xff, offset & 0xfff, size, (uint32_t)value);
}

static const struct mmio_ops ecam_ops = { .read = ecam_read, .write = ecam_write, .min = 1, .max = 4, .lockless = true };

/* base ~0: off. size: 64, 128 or 256 MiB. */
static void ecam_map(struct pci_host *h, uint64_t base, uint64_t size)
{
    mem_transaction_begin(h->dev.vm);
    if (h->ecam.parent)
        mem_region_remove(&h->ecam);
    if (base != ~(uint64_t)0) {
        h->ecam.size = size;
        mem_region_add(&h->dev.vm->system_memory, base, &h->ecam, 1);
    }
    mem_transaction_commit(h->dev.vm);
}

static bool host_init(struct pci_host *h, const char *bus_name, bool express)
{
    struct vm *vm = h->dev.vm;

    mem_region_init_container(&h->memory, vm, &h->dev, "pci", 0);
    mem_region_add(&vm->system_memory, 0, &h->memory, -1);
    mem_region_init_mmio(&h->config, vm, &h->dev, "pci-conf", 8, &config_ops, h);
    mem_region_add(&vm->system_io, 0xcf8, &h->config, 0);
    h->root = pci_bus_new(vm, &h->dev, bus_name, express, &h->memory, &vm->system_io);
    h->root->min_slot = 1;
    if (express) {
        h->has_ecam = true;
        mem_region_init_mmio(&h->ecam, vm, &h->dev, "pcie-mmcfg-mmio", 0x10000000, &ecam_ops, h);
    }
    return true;
}

static void host_unrealize(struct device *dev)
{
    struct pci_host *h = (struct pci_host *)dev;

    mem_region_remove(&h->memory);
    mem_region_remove(&h->config);
    if (h->has_ecam)
        mem_region_remove(&h->ecam);
    mem_synchronize();
}

static void host_reset(struct device *dev, enum reset_kind kind)
{
    struct pci_host *h = (struct pci_host *)dev;

    atomic_store(&h->address, 0);
    h->reset_control = 0;
}

static bool add_function0(struct pci_host *h, const char *class_name, struct error *err)
{
    struct device *f = device_new(h->dev.vm, class_name, NULL, err);

    if (!f)
        return false;
    device_set_parent(f, &h->dev, class_name);
    if (device_set(f, "addr", "0.0", err) && device_realize(f, h->root->bus, err))
        return true;
    device_remove(f);
    return false;
}

/* ---- SMRAM control: Q35 5.1.19, 440FX 3.2.22. Once locked it stays so until a reset. */

static void smram_changed(struct pci_device *pd, unsigned reg)
{
    struct pci_host *h = (struct pci_host *)pd->dev.parent;

    if (pd->config[reg] & SMRAM_D_LCK) {
        pd->config[reg] &= ~SMRAM_D_OPEN;
        pd->wmask[reg] = 0;
    }
    if (h->smram)
        h->smram(h->smram_opaque, pd->config[reg]);
}

static void smram_reset(struct pci_device *pd, unsigned reg)
{
    pd->config[reg] = 0x02;
    pd->wmask[reg] = 0x78;
    smram_changed(pd, reg);
}

void pci_host_watch_smram(struct device *host, void (*fn)(void *opaque, uint8_t smram), void *opaque)
{
    struct pci_host *h = (struct pci_host *)host;

    h->smram_opaque = opaque;
    h->smram = fn;
}

/* ---- Q35 */

enum { MCH_PCIEXBAR = 0x60, MCH_PAM0 = 0x90, MCH_SMRAM = 0x9d };

static void mch_written(struct pci_device *pd, unsigned offset, unsigned size, uint32_t value)
{
    struct pci_host *h = (struct pci_host *)pd->dev.parent;
    static const uint64_t sizes[4] = { 256ull << 20, 128ull << 20, 64ull << 20, 0 };
    uint64_t bar, len;

    if (offset <= MCH_SMRAM && offset + size > MCH_SMRAM)
        smram_changed(pd, MCH_SMRAM);
    if (offset >= MCH_PCIEXBAR + 8 || offset + size <= MCH_PCIEXBAR)
        return;
    bar = pci_long(pd->config + MCH_PCIEXBAR) | (uint64_t)pci_long(pd->config + MCH_PCIEXBAR + 4) << 32;
    len = sizes[bar >> 1 & 3];
    if (bar & 1 && len)
        ecam_map(h, bar & ~(len - 1) & 0xffffffffffull, len);
    else
        ecam_map(h, ~(uint64_t)0, 0);
}

static bool mch_realize(struct device *dev, struct error *err)
{
    struct pci_device *pd = pci_device(dev);

    pci_put_long(pd->wmask + MCH_PCIEXBAR, 0xfc000007);
    pd->wmask[MCH_PCIEXBAR + 4] = 0xff;
    for (unsigned i = 0; i < 7; i++)
        pd->wmask[MCH_PAM0 + i] = 0x33;
    smram_reset(pd, MCH_SMRAM);
    return true;
}

static void mch_reset_exit(struct device *dev)
{
    smram_reset(pci_device(dev), MCH_SMRAM);
    mch_written(pci_device(dev), MCH_PCIEXBAR, 8, 0);
}

DEVICE = {
    .name = "mch",
    .parent = "pci-device",
    .bus = "PCIE",
    .category = "Controller/Bridge/Hub",
    .summary = "Host bridge (Q35 MCH)",
    .size = sizeof(struct pci_device),
    .realize = mch_realize,
    .reset_exit = mch_reset_exit,
    .kind_data = &(const struct pci_info){ .vendor = 0x8086, .device = 0x29c0, .class_code = 0x060000, .host_only = true,
                                           .config_written = mch_written },
};

static bool q35_realize(struct device *dev, struct error *err)
{
    struct pci_host *h = (struct pci_host *)dev;

    return host_init(h, "pcie.0", true) && add_function0(h, "mch", err);
}

DEVICE = {
    .name = "q35-pcihost",
    .parent = "sysbus",
    .category = "Controller/Bridge/Hub",
    .summary = "Q35 host bridge",
    .size = sizeof(struct pci_host),
    .realize = q35_realize,
    .unrealize = host_unrealize,
    .reset_enter = host_reset,
    .props = (const struct prop[]){
        PROP(struct pci_host, pci_hole64, "pci-hole64-size", PROP_SIZE, "32G", "64-bit PCI memory"), { 0 } },
};

/* ---- 440FX */

enum { PMC_SMRAM = 0x72 };

static bool pmc_realize(struct device *dev, struct error *err)
{
    struct pci_device *pd = pci_device(dev);

    for (unsigned i = 0; i < 7; i++)
        pd->wmask[0x59 + i] = 0x33;     /* PAM0 to PAM6 */
    smram_reset(pd, PMC_SMRAM);
    return true;
}

static void pmc_written(struct pci_device *pd, unsigned offset, unsigned size, uint32_t value)
{
    if (offset <= PMC_SMRAM && offset + size > PMC_SMRAM)
        smram_changed(pd, PMC_SMRAM);
}

static void pmc_reset_exit(struct device *dev)
{
    smram_reset(pci_device(dev), PMC_SMRAM);
}

DEVICE = {
    .name = "i440FX",
    .parent = "pci-device",
    .bus = "PCI",
    .category = "Controller/Bridge/Hub",
    .summary = "Host bridge (440FX PMC)",
    .size = sizeof(struct pci_device),
    .realize = pmc_realize,
    .reset_exit = pmc_reset_exit,
    .kind_data = &(const struct pci_info){ .vendor = 0x8086, .device = 0x1237, .revision = 2, .class_code = 0x060000,
                                           .host_only = true, .config_written = pmc_written },
};

static bool i440fx_realize(struct device *dev, struct error *err)
{
    struct pci_host *h = (struct pci_host *)dev;

    return host_init(h, "pci.0", false) && add_function0(h, "i440FX", err);
}

DEVICE = {
    .name = "i440FX-pcihost",
    .parent = "sysbus",
    .category = "Controller/Bridge/Hub",
    .summary = "440FX host bridge",
    .size = sizeof(struct pci_host),
    .realize = i440fx_realize,
    .unrealize = host_unrealize,
    .reset_enter = host_reset,
    .props = (const struct prop[]){
        PROP(struct pci_host, pci_hole64, "pci-hole64-size", PROP_SIZE, "32G", "64-bit PCI memory"), { 0 } },
};

struct pci_bus *pci_host_bus(struct device *host)
{
    return host->child_bus[0]->priv;
}
