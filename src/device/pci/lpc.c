/* South bridges: the LPC function of the ICH9 (Intel 316972, chapter 13) and the PIIX3 (Intel 290550): PIRQ routing,
 * power management base, APM ports. */
#include <string.h>
#include <glib.h>
#include "pci_internal.h"
#include "rhea/device/acpi_pm.h"
#include "rhea/vm/pci_host.h"
#include "rhea/vm/vm.h"

enum { LPC_PMBASE = 0x40, LPC_ACPI_CTRL = 0x44, LPC_PIRQA = 0x60, LPC_PIRQE = 0x68, LPC_GEN_PMCON_1 = 0xa0, LPC_RCBA = 0xf0 };
enum { PIRQ_OFF = 0x80 };

struct lpc {
    struct pci_device pd;
    struct irq *const *isa;
    struct irq *gsi[8];
    bool have_gsi, piix;
    int level[8];               /* of PIRQA-H; under isa_lock, as isa_count */
    int routed[8];              /* ISA line that each drives high now, or -1 */
    int isa_count[16];
    pthread_mutex_t isa_lock;
    struct irq *isa_lines[16];
    struct device *pm;
    struct mem_region pm_io, apm;
    uint8_t apm_control, apm_status;
    uint8_t disable_s3, disable_s4;
    bool smm_compat, noreboot;
};

static struct lpc *lpc_of(struct pci_device *pd)
{
    return (struct lpc *)pd;
}

/* ---- PIRQs */

static int pirq_target(const struct lpc *l, unsigned n)
{
    unsigned reg = n < 4 ? LPC_PIRQA + n : LPC_PIRQE + n - 4;
    uint8_t v = l->pd.config[reg];

    return v & PIRQ_OFF ? -1 : v & 15;
}

static void isa_add(struct lpc *l, int line, int delta)
{
    if (line < 0)
        return;
    l->isa_count[line] += delta;
    irq_set(l->isa_lines[line], l->isa_count[line] > 0);
}

static void pirq_route(struct lpc *l, unsigned n)
{
    int target = l->level[n] ? pirq_target(l, n) : -1;

    if (target == l->routed[n])
        return;
    isa_add(l, l->routed[n], -1);
    isa_add(l, target, 1);
    l->routed[n] = target;
}

static void pirq_set(void *opaque, int n, int level)
{
    struct lpc *l = opaque;

    if (n < 0 || n > 7)
        return;
    pthread_mutex_lock(&l->isa_lock);
    l->level[n] = level;
    pirq_route(l, (unsigned)n);
    pthread_mutex_unlock(&l->isa_lock);
    if (l->have_gsi)
        irq_set(l->gsi[n], level);
}

/* Slots 0 to 24 rotate over PIRQE-H, 25 to 31 are wired A-D: what the board's _PRT says too. */
static int ich9_route(struct pci_bus *root, unsigned slot, unsigned pin)
{
    return slot < 25 ? 4 + (int)((slot + pin) & 3) : (int)(pin & 3);
}

static int piix_route(struct pci_bus *root, unsigned slot, unsigned pin)
{
    return (int)((slot + pin - 1) & 3);
}

void lpc_connect(struct device *dev, struct irq *const isa[16], struct irq *const gsi[8])
{
    struct lpc *l = (struct lpc *)dev;
    struct pci_bus *root = l->pd.bus;

    memcpy(l->isa_lines, isa, sizeof(l->isa_lines));
    l->have_gsi = gsi != NULL;
    if (gsi)
        memcpy(l->gsi, gsi, sizeof(l->gsi));
    root->route = l->piix ? piix_route : ich9_route;
    root->set_line = pirq_set;
    root->opaque = l;
    root->nlines = l->piix ? 4 : 8;
}

static void pirqs_changed(struct lpc *l)
{
    pthread_mutex_lock(&l->isa_lock);
    for (unsigned n = 0; n < 8; n++)
        pirq_route(l, n);
    pthread_mutex_unlock(&l->isa_lock);
}

/* ---- PMBASE: 128 ports of ACPI registers */

static void pm_map(struct lpc *l)
{
    const uint8_t *c = l->pd.config;
    bool on = c[LPC_ACPI_CTRL] & 0x80;
    uint64_t base = pci_word(c + LPC_PMBASE) & 0xff80;
    struct mem_region *mr = l->pm ? &l->pm->mmio[0] : NULL;

    if (!mr || !mr->vm)
        return;
    mem_transaction_begin(l->pd.dev.vm);
    if (mr->parent)
        mem_region_remove(mr);
    if (on && base)
        mem_region_add(&l->pd.dev.vm->system_io, base, mr, 1);
    mem_transaction_commit(l->pd.dev.vm);
}

void lpc_set_pm(struct device *dev, struct device *pm)
{
    struct lpc *l = (struct lpc *)dev;

    l->pm = pm;
    pm_map(l);
}

/* APM control and status, ports B2h and B3h (10.9): a write to B2h is an SMI; without SMM firmware its one use is to
 * switch ACPI mode. */
static uint64_t apm_read(void *opaque, uint64_t offset, unsigned size)
{
    struct lpc *l = opaque;

    return offset ? l->apm_status : l->apm_control;
}

static void apm_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct lpc *l = opaque;

    if (offset) {
        l->apm_status = (uint8_t)value;
    } else {
        l->apm_control = (uint8_t)value;
        if (l->pm)
            acpi_pm_smi_command(l->pm, (uint8_t)value);
    }
}

/* Lockless: it calls the PM device. */
static const struct mmio_ops apm_ops = { .read = apm_read, .write = apm_write, .min = 1, .max = 1, .lockless = true };

static void lpc_written(struct pci_device *pd, unsigned offset, unsigned size, uint32_t value)
{
    struct lpc *l = lpc_of(pd);

    if (offset < LPC_PIRQE + 4 && offset + size > LPC_PIRQA)
        pirqs_changed(l);
    if (!l->piix && offset < LPC_ACPI_CTRL + 1 && offset + size > LPC_PMBASE)
        pm_map(l);
}

static bool lpc_realize(struct device *dev, struct error *err)
{
    struct lpc *l = (struct lpc *)dev;
    struct pci_device *pd = &l->pd;

    pthread_mutex_init(&l->isa_lock, NULL);
    for (unsigned n = 0; n < 8; n++)
        l->routed[n] = -1;
    for (unsigned n = 0; n < 4; n++) {
        pd->config[LPC_PIRQA + n] = PIRQ_OFF;
        pd->wmask[LPC_PIRQA + n] = 0x8f;
        if (!l->piix) {
            pd->config[LPC_PIRQE + n] = PIRQ_OFF;
            pd->wmask[LPC_PIRQE + n] = 0x8f;
        }
    }
    if (!l->piix) {
        pd->config[LPC_PMBASE] = 1;
        pci_put_word(pd->wmask + LPC_PMBASE, 0xff80);
        pd->wmask[LPC_ACPI_CTRL] = 0x87;
        pci_put_long(pd->wmask + LPC_RCBA, 0xffffc001);
        pd->wmask[LPC_GEN_PMCON_1] = 0x10;
    }
    mem_region_init_mmio(&l->apm, dev->vm, dev, "apm-io", 2, &apm_ops, l);
    mem_region_add(&dev->vm->system_io, 0xb2, &l->apm, 0);
    return true;
}

static bool piix3_realize(struct device *dev, struct error *err)
{
    ((struct lpc *)dev)->piix = true;
    return lpc_realize(dev, err);
}

static void lpc_unrealize(struct device *dev)
{
    struct lpc *l = (struct lpc *)dev;
    struct pci_bus *root = l->pd.bus;

    mem_region_remove(&l->apm);
    if (root && root->opaque == l)
        root->set_line = NULL;
    mem_synchronize();
    pthread_mutex_destroy(&l->isa_lock);
}

static void lpc_reset_exit(struct device *dev)
{
    struct lpc *l = (struct lpc *)dev;

    pirqs_changed(l);
    if (!l->piix)
        pm_map(l);
}

DEVICE = {
    .name = "ICH9-LPC",
    .parent = "pci-device",
    .bus = "PCIE",
    .category = "Controller/Bridge/Hub",
    .summary = "ICH9 LPC bridge",
    .size = sizeof(struct lpc),
    .realize = lpc_realize,
    .unrealize = lpc_unrealize,
    .reset_exit = lpc_reset_exit,
    .props = (const struct prop[]){
        PROP(struct lpc, disable_s3, "disable_s3", PROP_U8, "0", "1: no suspend to RAM (there is none in this build)"),
        PROP(struct lpc, disable_s4, "disable_s4", PROP_U8, "0", "1: no suspend to disk (there is none in this build)"),
        PROP(struct lpc, noreboot, "noreboot", PROP_BOOL, "on", "the watchdog does not reboot"), { 0 } },
    .kind_data = &(const struct pci_info){ .vendor = 0x8086, .device = 0x2918, .revision = 2, .class_code = 0x060100,
                                           .host_only = true, .config_written = lpc_written },
};

DEVICE = {
    .name = "PIIX3",
    .parent = "pci-device",
    .bus = "PCI",
    .category = "Controller/Bridge/Hub",
    .summary = "PIIX3 ISA bridge",
    .size = sizeof(struct lpc),
    .realize = piix3_realize,
    .unrealize = lpc_unrealize,
    .reset_exit = lpc_reset_exit,
    .kind_data = &(const struct pci_info){ .vendor = 0x8086, .device = 0x7000, .class_code = 0x060100, .host_only = true,
                                           .config_written = lpc_written },
};
