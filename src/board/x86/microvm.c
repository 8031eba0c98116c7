/* microvm: the least that a Linux guest needs. No PCI, no firmware; virtio-mmio devices on the I/O APIC's upper pins.
 * With ACPI (the default) the tables say where they are, and there is the fixed PM block rather than the reduced-hardware
 * model: its timer lets the kernel calibrate the TSC on a busy host, and its registers power the machine off. */
#include <string.h>
#include "acpi_tables.h"
#include "common.h"
#include "firmware.h"

enum { SLOTS = 8, SLOT_BASE = 0xfeb00000, SLOT_SIZE = 0x200, SLOT_GSI = 16 };

struct microvm {
    struct x86_machine m;       /* first */
    uint32_t acpi, pic, pit, rtc;       /* enum on_off_auto */
    bool isa_serial, kernel_cmdline;
    struct device *pm;
    struct acpi_mmio_device described[SLOTS];
    struct device *slot[SLOTS];
};

static bool make_slots(struct microvm *u, struct error *err)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        struct device *d = device_new(u->m.vm, "virtio-mmio", NULL, err);

        if (!d)
            return false;
        d->irq_out[0] = u->m.gsi[SLOT_GSI + i];
        if (!device_realize(d, NULL, err))
            return false;
        mem_region_add(&u->m.vm->system_memory, SLOT_BASE + i * SLOT_SIZE, &d->mmio[0], 0);
        u->slot[i] = d;
    }
    return true;
}

static bool make_pm(struct microvm *u, struct error *err)
{
    u->pm = device_new(u->m.vm, "ICH9-PM", NULL, err);
    if (!u->pm)
        return false;
    u->pm->irq_out[0] = u->m.gsi[ACPI_SCI];
    if (!device_realize(u->pm, NULL, err))
        return false;
    mem_region_add(&u->m.vm->system_io, ACPI_PM_BASE, &u->pm->mmio[0], 0);
    return true;
}

static bool microvm_init(struct vm *vm, struct error *err)
{
    struct microvm *u = vm->board_data;

    u->m.vm = vm;
    u->m.hole_start = 0xc0000000;
    u->m.has_pic = u->pic != OOA_OFF;
    u->m.has_pit = u->pit != OOA_OFF;
    u->m.has_rtc = u->rtc != OOA_OFF;
    return x86_machine_init(&u->m, err) && (!u->isa_serial || x86_serials(&u->m, err)) && x86_isa_device(&u->m, "port92", err) &&
           (u->acpi == OOA_OFF || make_pm(u, err)) && make_slots(u, err);
}

/* Without ACPI the kernel learns of virtio-mmio devices from its command line. */
static void describe_slots(struct microvm *u)
{
    GString *s = g_string_new(NULL);

    for (unsigned i = 0; i < SLOTS; i++) {
        struct bus *bus = u->slot[i]->child_bus[0];

        if (bus && bus->devices->len)
            g_string_append_printf(s, "%svirtio_mmio.device=%d@0x%x:%u", s->len ? " " : "", SLOT_SIZE, SLOT_BASE + i * SLOT_SIZE,
                                   SLOT_GSI + i);
    }
    u->m.append_extra = g_string_free(s, s->len == 0);
}

static bool describe_acpi(struct microvm *u, struct error *err)
{
    struct acpi_config c = { .virtio = u->described, .reset_port = 0x92, .reset_value = 1 };

    for (unsigned i = 0; i < SLOTS; i++) {
        struct bus *bus = u->slot[i]->child_bus[0];

        if (bus && bus->devices->len)
            u->described[c.nvirtio++] = (struct acpi_mmio_device){ SLOT_BASE + i * SLOT_SIZE, SLOT_SIZE, SLOT_GSI + i };
    }
    return acpi_place(&u->m, &c, err);
}

static bool microvm_done(struct vm *vm, struct error *err)
{
    struct microvm *u = vm->board_data;

    if (!vm->config.kernel)
        return error_set(err, ERR_GENERIC, "microvm has no firmware in this build: it starts a kernel",
                         "give -kernel (and -initrd, -append), or use -machine q35");
    if (u->acpi != OOA_OFF) {
        if (!describe_acpi(u, err))
            return false;
    } else if (u->kernel_cmdline) {
        describe_slots(u);
    }
    x86_mptable(&u->m);
    x86_smbios_place(&u->m);
    return x86_load_kernel(&u->m, err);
}

static void microvm_reset(struct vm *vm) { x86_machine_reset(vm->board_data); }
static void microvm_free(struct vm *vm) { x86_machine_free(vm->board_data); }

static const struct prop microvm_props[] = {
    PROP(struct microvm, acpi, "acpi", PROP_ON_OFF_AUTO, "auto", "ACPI tables and power management"),
    PROP(struct microvm, pic, "pic", PROP_ON_OFF_AUTO, "auto", "i8259 interrupt controllers"),
    PROP(struct microvm, pit, "pit", PROP_ON_OFF_AUTO, "auto", "i8254 timer"),
    PROP(struct microvm, rtc, "rtc", PROP_ON_OFF_AUTO, "auto", "real-time clock"),
    PROP(struct microvm, isa_serial, "isa-serial", PROP_BOOL, "on", "serial ports on the ISA bus"),
    PROP(struct microvm, kernel_cmdline, "auto-kernel-cmdline", PROP_BOOL, "on",
         "without ACPI, virtio-mmio devices are put on the kernel's command line"),
    { 0 },
};

BOARD = {
    .name = "microvm",
    .summary = "microvm (minimal machine: virtio-mmio, no PCI)",
    .guest = "x86_64,i386",
    .max_cpus = 288,
    .default_cpu = "qemu64",
    .default_ram = 128 << 20,
    .default_ram_id = "microvm.ram",
    .props = microvm_props,
    .data_size = sizeof(struct microvm),
    .init = microvm_init,
    .done = microvm_done,
    .reset = microvm_reset,
    .free = microvm_free,
};
