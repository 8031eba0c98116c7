/* System management mode in the machine: the address space that CPUs in it see, SMRAM, and the way from port B2h to an SMI. */
#include "rhea/device/acpi_pm.h"
#include "rhea/device/smram.h"
#include "smm.h"

enum { SMRAM_BASE = 0xa0000, SMRAM_SIZE = 0x20000 };

enum { OVER_RAM = 0, OVER_ALL = 100 };

static void smram_set(void *opaque, uint8_t reg)
{
    struct x86_smm *s = opaque;
    bool enabled = reg & SMRAM_G_SMRAME;

    mem_transaction_begin(s->vm);
    mem_region_set_enabled(&s->smram, enabled && !(reg & SMRAM_D_CLS));
    mem_region_set_enabled(&s->open, enabled && reg & SMRAM_D_OPEN);
    mem_transaction_commit(s->vm);
}

/* Outside, the range is the VGA window on PCI, where nobody answers unless a card lies over it. */
static uint64_t window_read(void *opaque, uint64_t offset, unsigned size) { return UINT64_MAX; }
static void window_write(void *opaque, uint64_t offset, uint64_t value, unsigned size) { }
static const struct mmio_ops window_ops = { .read = window_read, .write = window_write, .min = 1, .max = 8 };

/* The CPU that wrote the port takes it, after the OUT. */
static void smi(void *opaque)
{
    struct vcpu *v = vcpu_current();

    if (!v)
        return;                         /* a debugger's */
    x86(v->cpu)->smi_pending = true;
    vcpu_kick(v, CPU_EXIT_IRQ);
}

void x86_smm_init(struct x86_smm *s, struct x86_machine *m, struct device *host, struct device *pm)
{
    struct vm *vm = m->vm;

    s->vm = vm;
    mem_region_init_container(&s->root, vm, NULL, "smm-memory", 0);
    mem_region_init_alias(&s->all, vm, NULL, "smm-system", &vm->system_memory, 0, 0);
    mem_region_init_ram(&s->smram, vm, NULL, "smram", m->ram, SMRAM_BASE, SMRAM_SIZE);
    mem_region_init_ram(&s->open, vm, NULL, "smram-open", m->ram, SMRAM_BASE, SMRAM_SIZE);
    mem_region_init_mmio(&s->window, vm, NULL, "vga-window", SMRAM_SIZE, &window_ops, s);
    s->smram.enabled = s->open.enabled = false;
    mem_region_add(&s->root, 0, &s->all, 0);
    mem_region_add(&s->root, SMRAM_BASE, &s->smram, OVER_ALL);
    mem_region_add(&vm->system_memory, SMRAM_BASE, &s->open, OVER_ALL);
    mem_region_add(&vm->system_memory, SMRAM_BASE, &s->window, OVER_RAM);
    address_space_init(&s->memory, vm, &s->root, "smm-memory");
    vm->smm_memory = &s->memory;
    pci_host_watch_smram(host, smram_set, s);
    acpi_pm_on_smi(pm, smi, NULL);
}

void x86_smm_free(struct x86_smm *s)
{
    if (!s->vm)
        return;
    s->vm->smm_memory = NULL;
    address_space_destroy(&s->memory);
    s->vm = NULL;
}
