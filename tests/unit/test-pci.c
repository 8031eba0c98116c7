/* PCI: config cycles, BARs, interrupts, MSI-X, bridges; resources without firmware. */
#include <glib.h>
#include <string.h>
#include "rhea/base/options.h"
#include "rhea/vm/pci_host.h"
#include "rhea/vm/vm.h"

struct card { struct pci_device pd; struct mem_region regs, ports; uint32_t reg; };

static uint64_t card_read(void *opaque, uint64_t offset, unsigned size) { return ((struct card *)opaque)->reg; }
static void card_write(void *opaque, uint64_t offset, uint64_t v, unsigned size) { ((struct card *)opaque)->reg = (uint32_t)v; }
static const struct mmio_ops card_ops = { .read = card_read, .write = card_write, .min = 4, .max = 4 };

static bool card_realize(struct device *dev, struct error *err)
{
    struct card *c = (struct card *)dev;

    mem_region_init_mmio(&c->regs, dev->vm, dev, "regs", 0x4000, &card_ops, c);
    mem_region_init_mmio(&c->ports, dev->vm, dev, "ports", 0x20, &card_ops, c);
    pci_register_bar(&c->pd, 0, PCI_BAR_IO, &c->ports);
    pci_register_bar(&c->pd, 2, PCI_BAR_MEM64 | PCI_BAR_PREFETCH, &c->regs);
    return msix_init_bar(&c->pd, 3, 1, err) && msi_init(&c->pd, 0, 4, err);
}

DEVICE = {
    .name = "card", .parent = "pci-device", .bus = "PCI", .size = sizeof(struct card), .user_creatable = true,
    .hotpluggable = true, .realize = card_realize,
    .kind_data = &(const struct pci_info){ .vendor = 0x1234, .device = 0x5678, .class_code = 0x010000, .intx = true, .express = true },
};

static uint64_t msi_addr; static uint32_t msi_data; static unsigned msi_count;
static bool msi_sink(void *opaque, uint64_t addr, uint32_t data, uint16_t requester)
{
    msi_addr = addr;
    msi_data = data;
    msi_count++;
    return addr >> 20 == 0xfee;
}

static int isa_level[16], gsi_level[8];
static void isa_seen(void *opaque, int n, int level) { isa_level[n] = level; }
static void gsi_seen(void *opaque, int n, int level) { gsi_level[n] = level; }

static struct device *make(struct vm *vm, const char *json)
{
    struct error err = ERROR_INIT;
    struct json_object *o = json_tokener_parse(json);
    struct device *d = device_create(vm, o, false, &err);

    g_assert_cmpstr(err.msg, ==, NULL);
    json_object_put(o);
    return d;
}

static bool board_init(struct vm *vm, struct error *err)
{
    static struct irq *isa[16], *gsi[8];        /* the same for all machines of this test */
    struct device *host = device_new(vm, "q35-pcihost", NULL, err), *lpc;

    g_assert_true(device_realize(host, NULL, err));
    lpc = device_new(vm, "ICH9-LPC", NULL, err);
    g_assert_true(device_set(lpc, "addr", "1f.0", err) && device_realize(lpc, NULL, err));
    for (int i = 0; i < 16; i++)
        isa[i] = isa[i] ? isa[i] : irq_new(isa_seen, NULL, i);
    for (int i = 0; i < 8; i++)
        gsi[i] = gsi[i] ? gsi[i] : irq_new(gsi_seen, NULL, i);
    lpc_connect(lpc, isa, gsi);
    vm->msi = msi_sink;
    return true;
}

BOARD = { .name = "pci-test", .summary = "for tests", .init = board_init, .is_default = true };

static struct vm *machine(struct loop **loop)
{
    struct vm_config c = { .machine = "pci-test" };
    struct error err = ERROR_INIT;
    struct vm *vm;

    *loop = loop_new("test");
    vm = vm_create(&c, *loop, &err);
    g_assert_cmpstr(err.msg, ==, NULL);
    return vm;
}

static uint32_t cfg(struct vm *vm, unsigned bus, unsigned devfn, unsigned reg)
{
    as_store(&vm->io, 0xcf8, 0x80000000u | bus << 16 | devfn << 8 | reg, 4, MEM_ATTRS_NONE, NULL);
    return (uint32_t)as_load(&vm->io, 0xcfc, 4, MEM_ATTRS_NONE, NULL);
}

static void cfg_set(struct vm *vm, unsigned bus, unsigned devfn, unsigned reg, uint32_t v)
{
    as_store(&vm->io, 0xcf8, 0x80000000u | bus << 16 | devfn << 8 | reg, 4, MEM_ATTRS_NONE, NULL);
    as_store(&vm->io, 0xcfc, v, 4, MEM_ATTRS_NONE, NULL);
}

static void finish(struct vm *vm, struct loop *loop)
{
    vm_destroy(vm);
    loop_free(loop);
}

static void test_config_and_bars(void)
{
    struct loop *loop;
    struct vm *vm = machine(&loop);
    struct card *c = (struct card *)make(vm, "{\"driver\": \"card\", \"addr\": \"5\", \"id\": \"c\"}");
    unsigned fn = PCI_DEVFN(5, 0);

    g_assert_cmphex(cfg(vm, 0, 0, 0), ==, 0x29c08086);
    g_assert_cmphex(cfg(vm, 0, fn, 0), ==, 0x56781234);
    g_assert_cmphex(cfg(vm, 0, PCI_DEVFN(6, 0), 0), ==, 0xffffffff);
    g_assert_cmphex(cfg(vm, 1, 0, 0), ==, 0xffffffff);
    cfg_set(vm, 0, fn, PCI_VENDOR_ID, 0);
    g_assert_cmphex(cfg(vm, 0, fn, 0), ==, 0x56781234);
    /* sizing */
    cfg_set(vm, 0, fn, 0x10, 0xffffffff);
    g_assert_cmphex(cfg(vm, 0, fn, 0x10), ==, 0xffffffe1);
    cfg_set(vm, 0, fn, 0x18, 0xffffffff);
    cfg_set(vm, 0, fn, 0x1c, 0xffffffff);
    g_assert_cmphex(cfg(vm, 0, fn, 0x18), ==, 0xffffc00c);
    g_assert_cmphex(cfg(vm, 0, fn, 0x1c), ==, 0xffffffff);
    /* decoding only when enabled */
    cfg_set(vm, 0, fn, 0x10, 0xc000);
    cfg_set(vm, 0, fn, 0x18, 0x10000000);
    cfg_set(vm, 0, fn, 0x1c, 0x8);
    c->reg = 0xabcd;
    g_assert_cmphex(as_load(&vm->memory, 0x810000000, 4, MEM_ATTRS_NONE, NULL), ==, 0xffffffff);
    cfg_set(vm, 0, fn, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    g_assert_cmphex(as_load(&vm->memory, 0x810000000, 4, MEM_ATTRS_NONE, NULL), ==, 0xabcd);
    g_assert_cmphex(as_load(&vm->io, 0xc000, 4, MEM_ATTRS_NONE, NULL), ==, 0xabcd);
    /* ECAM, after firmware (or the board) turned it on */
    cfg_set(vm, 0, 0, 0x60, 0xb0000001);
    g_assert_cmphex(as_load(&vm->memory, 0xb0000000 + (fn << 12), 4, MEM_ATTRS_NONE, NULL), ==, 0x56781234);
    g_assert_cmphex(as_load(&vm->memory, 0xb0000000 + (fn << 12) + 2, 2, MEM_ATTRS_NONE, NULL), ==, 0x5678);
    /* DMA only for bus masters */
    g_assert_true(device_as(&c->pd.dev) == &vm->nowhere);
    cfg_set(vm, 0, fn, PCI_COMMAND, PCI_COMMAND_MASTER);
    g_assert_true(device_as(&c->pd.dev) == &vm->memory);
    device_reset_tree(vm, RESET_COLD);
    g_assert_cmphex(cfg(vm, 0, fn, 0x10), ==, 1);
    g_assert_cmphex(as_load(&vm->io, 0xc000, 4, MEM_ATTRS_NONE, NULL), ==, 0xffffffff);
    finish(vm, loop);
}

static void test_slots(void)
{
    struct loop *loop;
    struct vm *vm = machine(&loop);
    struct error err = ERROR_INIT;
    struct json_object *o;

    make(vm, "{\"driver\": \"card\", \"addr\": \"1.0\", \"multifunction\": true, \"id\": \"a\"}");
    make(vm, "{\"driver\": \"card\", \"addr\": \"1.1\"}");
    g_assert_cmpint(((struct pci_device *)make(vm, "{\"driver\": \"card\"}"))->devfn, ==, PCI_DEVFN(2, 0));
    o = json_tokener_parse("{\"driver\": \"card\", \"addr\": \"1.0\", \"id\": \"b\"}");
    g_assert_null(device_create(vm, o, false, &err));
    g_assert_cmpstr(err.msg, ==, "PCI: slot 1 function 0 not available for b, in use by a");
    error_clear(&err);
    json_object_put(o);
    o = json_tokener_parse("{\"driver\": \"card\", \"addr\": \"2.1\"}");
    g_assert_null(device_create(vm, o, false, &err));
    error_clear(&err);
    json_object_put(o);
    o = json_tokener_parse("{\"driver\": \"card\", \"bus\": \"pci.77\"}");
    g_assert_null(device_create(vm, o, false, &err));
    g_assert_cmpstr(err.msg, ==, "Bus 'pci.77' not found");
    error_clear(&err);
    json_object_put(o);
    finish(vm, loop);
}

static void test_intx(void)
{
    struct loop *loop;
    struct vm *vm = machine(&loop);
    struct card *a = (struct card *)make(vm, "{\"driver\": \"card\", \"addr\": \"4\"}");
    struct card *b = (struct card *)make(vm, "{\"driver\": \"card\", \"addr\": \"8\"}");

    /* slots 4 and 8 share PIRQE */
    pci_set_irq(&a->pd, 1);
    pci_set_irq(&b->pd, 1);
    g_assert_cmpint(gsi_level[4], ==, 1);
    pci_set_irq(&a->pd, 0);
    g_assert_cmpint(gsi_level[4], ==, 1);
    cfg_set(vm, 0, PCI_DEVFN(0x1f, 0), 0x68, 0x0b);     /* PIRQE to IRQ 11 */
    g_assert_cmpint(isa_level[11], ==, 1);
    cfg_set(vm, 0, PCI_DEVFN(8, 0), PCI_COMMAND, PCI_COMMAND_INTX_OFF);
    g_assert_cmpint(gsi_level[4], ==, 0);
    g_assert_cmpint(isa_level[11], ==, 0);
    cfg_set(vm, 0, PCI_DEVFN(8, 0), PCI_COMMAND, 0);
    g_assert_cmpint(gsi_level[4], ==, 1);
    cfg_set(vm, 0, PCI_DEVFN(0x1f, 0), 0x68, 0x8a);     /* off */
    g_assert_cmpint(isa_level[11], ==, 0);
    device_remove(&b->pd.dev);
    g_assert_cmpint(gsi_level[4], ==, 0);
    finish(vm, loop);
}

static void test_msix(void)
{
    struct loop *loop;
    struct vm *vm = machine(&loop);
    struct card *c = (struct card *)make(vm, "{\"driver\": \"card\", \"addr\": \"4\"}");
    unsigned fn = PCI_DEVFN(4, 0), cap = c->pd.msix_cap;
    uint64_t t = 0xe0000000;

    g_assert_cmpuint(pci_find_capability(&c->pd, PCI_CAP_MSIX), ==, cap);
    cfg_set(vm, 0, fn, 0x14, (uint32_t)t);
    cfg_set(vm, 0, fn, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    as_store(&vm->memory, t + 16, 0xfee01000, 4, MEM_ATTRS_NONE, NULL);
    as_store(&vm->memory, t + 24, 0x41, 4, MEM_ATTRS_NONE, NULL);
    msi_count = 0;
    msix_notify(&c->pd, 1);
    g_assert_cmpuint(msi_count, ==, 0);                 /* not enabled: nothing pends */
    cfg_set(vm, 0, fn, cap, 0x80000000);
    msix_notify(&c->pd, 1);
    g_assert_cmpuint(msi_count, ==, 0);                 /* masked: pends */
    g_assert_cmphex(as_load(&vm->memory, t + 2048, 8, MEM_ATTRS_NONE, NULL), ==, 2);
    as_store(&vm->memory, t + 28, 0, 4, MEM_ATTRS_NONE, NULL);
    g_assert_cmpuint(msi_count, ==, 1);
    g_assert_cmphex(msi_addr, ==, 0xfee01000);
    g_assert_cmphex(msi_data, ==, 0x41);
    g_assert_cmphex(as_load(&vm->memory, t + 2048, 8, MEM_ATTRS_NONE, NULL), ==, 0);
    msix_notify(&c->pd, 1);
    g_assert_cmpuint(msi_count, ==, 2);
    cfg_set(vm, 0, fn, cap, 0xc0000000);                /* whole function masked */
    msix_notify(&c->pd, 1);
    g_assert_cmpuint(msi_count, ==, 2);
    cfg_set(vm, 0, fn, cap, 0x80000000);
    g_assert_cmpuint(msi_count, ==, 3);
    msix_notify(&c->pd, 3);                             /* no such vector */
    msix_notify(&c->pd, ~0u);
    g_assert_cmpuint(msi_count, ==, 3);
    cfg_set(vm, 0, fn, PCI_COMMAND, PCI_COMMAND_MEMORY);
    msix_notify(&c->pd, 1);                             /* not a bus master */
    g_assert_cmpuint(msi_count, ==, 3);
    finish(vm, loop);
}

static void test_msi(void)
{
    struct loop *loop;
    struct vm *vm = machine(&loop);
    struct card *c = (struct card *)make(vm, "{\"driver\": \"card\", \"addr\": \"4\"}");
    unsigned fn = PCI_DEVFN(4, 0), cap = c->pd.msi_cap;

    cfg_set(vm, 0, fn, PCI_COMMAND, PCI_COMMAND_MASTER);
    cfg_set(vm, 0, fn, cap + 4, 0xfee00000);
    cfg_set(vm, 0, fn, cap + 12, 0x50);
    cfg_set(vm, 0, fn, cap + 16, 2);
    cfg_set(vm, 0, fn, cap, 0x00210000);                /* enabled, 4 messages */
    msi_count = 0;
    msi_notify(&c->pd, 3);
    g_assert_cmpuint(msi_count, ==, 1);
    g_assert_cmphex(msi_data, ==, 0x53);
    msi_notify(&c->pd, 1);
    g_assert_cmpuint(msi_count, ==, 1);
    g_assert_cmphex(cfg(vm, 0, fn, cap + 20), ==, 2);
    cfg_set(vm, 0, fn, cap + 16, 0);
    g_assert_cmpuint(msi_count, ==, 2);
    g_assert_cmphex(msi_data, ==, 0x51);
    finish(vm, loop);
}

static void test_bridge_and_assignment(void)
{
    struct loop *loop;
    struct vm *vm = machine(&loop);
    struct error err = ERROR_INIT;
    struct pci_windows w = { 0xc0000000, 0x20000000, 0x800000000, 0x100000000, 0xc000, 0x4000 };
    struct card *c, *d;
    g_autofree char *text = NULL;
    struct json_object *q;

    make(vm, "{\"driver\": \"pcie-root-port\", \"id\": \"pci.1\", \"addr\": \"2.0\", \"multifunction\": true, \"port\": 16, \"chassis\": 1}");
    make(vm, "{\"driver\": \"pcie-root-port\", \"id\": \"pci.2\", \"addr\": \"2.1\", \"port\": 17, \"chassis\": 2}");
    c = (struct card *)make(vm, "{\"driver\": \"card\", \"bus\": \"pci.1\", \"addr\": \"0\", \"id\": \"c\"}");
    d = (struct card *)make(vm, "{\"driver\": \"card\", \"bus\": \"pcie.0\"}");
    g_assert_cmpuint(c->pd.config[c->pd.express_cap], ==, PCI_CAP_EXPRESS);
    device_reset_tree(vm, RESET_COLD);
    g_assert_true(pci_assign_resources(pci_root_bus(vm), &w, &err));
    g_assert_cmphex(cfg(vm, 1, 0, 0), ==, 0x56781234);
    g_assert_cmphex(pci_bar_address(&c->pd, 2), >=, 0x800000000);
    g_assert_cmphex(pci_bar_address(&c->pd, 0), >=, 0xc000);
    c->reg = 0x31;
    d->reg = 0x32;
    g_assert_cmphex(as_load(&vm->memory, pci_bar_address(&c->pd, 2), 4, MEM_ATTRS_NONE, NULL), ==, 0x31);
    g_assert_cmphex(as_load(&vm->memory, pci_bar_address(&d->pd, 2), 4, MEM_ATTRS_NONE, NULL), ==, 0x32);
    g_assert_cmphex(as_load(&vm->io, pci_bar_address(&c->pd, 0), 4, MEM_ATTRS_NONE, NULL), ==, 0x31);
    /* a closed window hides what is behind it */
    cfg_set(vm, 0, PCI_DEVFN(2, 0), PCI_PREF_BASE, 0x0001fff1);
    g_assert_cmphex(as_load(&vm->memory, pci_bar_address(&c->pd, 2), 4, MEM_ATTRS_NONE, NULL), ==, 0xffffffff);
    text = pci_info_text(vm);
    g_assert_nonnull(strstr(text, "  Bus  1, device   0, function 0:\n    SCSI controller: PCI device 1234:5678\n"));
    q = pci_query(vm);
    g_assert_cmpuint(json_object_array_length(q), ==, 1);
    json_object_put(q);
    /* INTA of a device behind the port at 02.0 is INTA of slot 2 */
    pci_set_irq(&c->pd, 1);
    g_assert_cmpint(gsi_level[6], ==, 1);
    pci_set_irq(&c->pd, 0);
    device_remove(device_find(vm, "pci.1"));            /* takes the card along */
    g_assert_null(device_find(vm, "c"));
    g_assert_cmphex(cfg(vm, 1, 0, 0), ==, 0xffffffff);
    w.mem_size = 0x800;
    device_reset_tree(vm, RESET_COLD);
    g_assert_false(pci_assign_resources(pci_root_bus(vm), &w, &err));
    error_clear(&err);
    finish(vm, loop);
}

static void test_hotplug(void)
{
    struct loop *loop;
    struct vm *vm = machine(&loop);
    struct error err = ERROR_INIT;
    struct json_object *o = json_tokener_parse("{\"driver\": \"card\", \"bus\": \"pci.1\", \"id\": \"h\"}");
    struct pci_device *port = (struct pci_device *)make(vm, "{\"driver\": \"pcie-root-port\", \"id\": \"pci.1\", \"addr\": \"2.0\"}");
    unsigned sta = port->express_cap + 0x1a, fn = PCI_DEVFN(2, 0);

    g_assert_true(vm_start(vm, &err));
    cfg_set(vm, 0, fn, PCI_SECONDARY_BUS - 1, 0x010100);
    cfg_set(vm, 0, fn, port->express_cap + 0x18, 0x1039);
    g_assert_nonnull(device_create(vm, o, true, &err));
    g_assert_cmphex(pci_word(port->config + sta) & 0x148, ==, 0x148);
    g_assert_cmpint(gsi_level[6], ==, port->config[PCI_INTERRUPT_PIN] ? 1 : 0);
    g_assert_cmphex(cfg(vm, 1, 0, 0), ==, 0x56781234);
    g_assert_true(device_unplug(vm, "h", &err));
    g_assert_nonnull(device_find(vm, "h"));             /* the guest has not let go */
    cfg_set(vm, 0, fn, port->express_cap + 0x18, 0x1439);       /* power off */
    while (loop_step(loop, false))
        ;
    g_assert_null(device_find(vm, "h"));
    g_assert_cmphex(pci_word(port->config + sta) & 0x40, ==, 0);
    g_assert_false(device_unplug(vm, "h", &err));
    g_assert_cmpint(err.cls, ==, ERR_DEVICE_NOT_FOUND);
    error_clear(&err);
    json_object_put(o);
    finish(vm, loop);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pci/config-and-bars", test_config_and_bars);
    g_test_add_func("/pci/slots", test_slots);
    g_test_add_func("/pci/intx", test_intx);
    g_test_add_func("/pci/msix", test_msix);
    g_test_add_func("/pci/msi", test_msi);
    g_test_add_func("/pci/bridge-and-assignment", test_bridge_and_assignment);
    g_test_add_func("/pci/hotplug", test_hotplug);
    return g_test_run();
}
