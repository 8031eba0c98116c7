/* microvm: the least that a Linux guest needs. No PCI, no firmware; virtio-mmio devices on the I/O APIC's upper pins. */
#include <string.h>
#include "common.h"

enum { SLOTS = 8, SLOT_BASE = 0xfeb00000, SLOT_SIZE = 0x200, SLOT_GSI = 16 };

struct microvm {
    struct x86_machine m;       /* first */
    uint32_t pic, pit, rtc;     /* enum on_off_auto */
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

static bool microvm_init(struct vm *vm, struct error *err)
{
    struct microvm *u = vm->board_data;

    u->m.vm = vm;
    u->m.hole_start = 0xc0000000;
    u->m.has_pic = u->m.has_pit = u->m.has_rtc = true;
    return x86_machine_init(&u->m, err) && x86_serials(&u->m, err) && x86_isa_device(&u->m, "port92", err) && make_slots(u, err);
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

static bool microvm_done(struct vm *vm, struct error *err)
{
    struct microvm *u = vm->board_data;

    if (!vm->config.kernel)
        return error_set(err, ERR_GENERIC, "microvm has no firmware in this build: it starts a kernel",
                         "give -kernel (and -initrd, -append), or use -machine q35");
    describe_slots(u);
    x86_mptable(&u->m);
    return x86_load_kernel(&u->m, err);
}

static void microvm_reset(struct vm *vm) { x86_machine_reset(vm->board_data); }
static void microvm_free(struct vm *vm) { x86_machine_free(vm->board_data); }

BOARD = {
    .name = "microvm",
    .summary = "microvm (minimal machine: virtio-mmio, no PCI)",
    .guest = "x86_64,i386",
    .max_cpus = 288,
    .default_cpu = "qemu64",
    .default_ram = 128 << 20,
    .default_ram_id = "microvm.ram",
    .data_size = sizeof(struct microvm),
    .init = microvm_init,
    .done = microvm_done,
    .reset = microvm_reset,
    .free = microvm_free,
};
