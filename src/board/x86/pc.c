/* The PC: q35 (Q35 MCH and ICH9) and pc (440FX and PIIX3). PCI behind a host bridge, ISA devices behind the south bridge,
 * ACPI power management. A kernel given with -kernel starts without firmware: the board then does what firmware would
 * leave behind. */
#include <string.h>
#include "acpi_tables.h"
#include "common.h"
#include "firmware.h"
#include "smm.h"
#include "rhea/vm/pci_host.h"

enum { ECAM_BASE = 0xb0000000u, ECAM_SIZE = 0x10000000, MCH_PCIEXBAR = 0x60, LPC_PMBASE = 0x40, LPC_ACPI_CTRL = 0x44,
       PM_SMI_EN = 0x30, SMI_EN_GLOBAL = 1, SMI_EN_APMC = 0x20, LPC_PIRQA = 0x60, LPC_PIRQE = 0x68, Q35_LPC = 0x1f << 3, PC_LPC = 1 << 3 };

struct pc {
    struct x86_machine m;       /* first */
    bool q35;
    struct device *host, *lpc, *pm;
    struct x86_firmware firmware;
    struct x86_smm system_management;
    struct acpi_config acpi_config;
    /* -machine */
    bool hpet, usb, dump_guest_core, mem_merge, nvdimm, hmat, graphics;
    uint32_t acpi, smm, vmport, pit, pic, sata, smbus, i8042;
};

static struct pc *pc_of(struct vm *vm)
{
    return vm->board_data;
}

/* ---- making */

/* What is not modelled must not be promised. */
static bool refuse_missing(struct pc *p, struct error *err)
{
    static const char hint[] = "leave it out, or say =off";

    if (p->usb)
        return error_set(err, ERR_GENERIC, "-machine usb=on: this build has no USB controller", hint);
    if (p->nvdimm)
        return error_set(err, ERR_GENERIC, "-machine nvdimm=on: NVDIMMs are not modelled yet", hint);
    if (p->hmat)
        return error_set(err, ERR_GENERIC, "-machine hmat=on: memory attributes are not modelled yet", hint);
    if (p->vmport == OOA_ON)
        return error_set(err, ERR_GENERIC, "-machine vmport=on: the VMware port is not modelled", hint);
    if (p->sata == OOA_ON)
        return error_set(err, ERR_GENERIC, "-machine sata=on: this build has no SATA controller",
                         "leave it out, or say =off; -device virtio-blk-pci takes disks");
    if (p->smbus == OOA_ON)
        return error_set(err, ERR_GENERIC, "-machine smbus=on: this build has no SMBus controller", hint);
    if (p->i8042 == OOA_ON && !device_class_find("i8042"))
        return error_set(err, ERR_GENERIC, "-machine i8042=on: this build has no keyboard controller", hint);
    return true;
}

static void choose_holes(struct pc *p)
{
    uint64_t ram = p->m.vm->config.ram_size;
    struct pci_windows *w = &p->acpi_config.windows;

    /* RAM below 4 GiB ends on a round figure when there is more of it than fits. */
    if (p->q35) {
        p->m.hole_start = ram > ECAM_BASE ? 0x80000000 : ECAM_BASE;
        w->mem_base = (uint64_t)ECAM_BASE + ECAM_SIZE;
    } else {
        p->m.hole_start = ram > 0xe0000000 ? 0xc0000000 : 0xe0000000;
        w->mem_base = 0xe0000000;
    }
    w->mem_size = X86_IOAPIC_BASE - w->mem_base;
    w->io_base = 0x1000;
    w->io_size = 0xf000;
}

static bool make_chipset(struct pc *p, struct error *err)
{
    struct vm *vm = p->m.vm;

    p->host = device_new(vm, p->q35 ? "q35-pcihost" : "i440FX-pcihost", NULL, err);
    if (!p->host || !device_realize(p->host, NULL, err))
        return false;
    p->lpc = device_new(vm, p->q35 ? "ICH9-LPC" : "PIIX3", NULL, err);
    if (!p->lpc || !device_set(p->lpc, "addr", p->q35 ? "1f.0" : "1.0", err) ||
        !device_set(p->lpc, "multifunction", "on", err) || !device_realize(p->lpc, pci_host_bus(p->host)->bus, err))
        return false;
    lpc_connect(p->lpc, p->m.gsi, p->q35 ? p->m.gsi + ISA_IRQS : NULL);
    p->pm = device_new(vm, "ICH9-PM", NULL, err);
    if (!p->pm)
        return false;
    p->pm->irq_out[0] = p->m.gsi[ACPI_SCI];
    if (!device_realize(p->pm, NULL, err))
        return false;
    if (p->q35)
        lpc_set_pm(p->lpc, p->pm);
    else
        mem_region_add(&vm->system_io, ACPI_PM_BASE, &p->pm->mmio[0], 1);
    return true;
}

static bool pc_init(struct vm *vm, bool q35, struct error *err)
{
    struct pc *p = pc_of(vm);

    p->m.vm = vm;
    p->q35 = q35;
    p->m.has_rtc = p->m.has_port61 = true;
    p->m.has_pic = p->pic != OOA_OFF;
    p->m.has_pit = p->pit != OOA_OFF;
    p->m.has_hpet = p->hpet;
    choose_holes(p);
    if (!refuse_missing(p, err) || !x86_machine_init(&p->m, err) || !make_chipset(p, err) || !x86_firmware_init(&p->m, &p->firmware, err))
        return false;
    if (p->smm == OOA_ON)
        x86_smm_init(&p->system_management, &p->m, p->host, p->pm);
    if (p->i8042 != OOA_OFF && device_class_find("i8042") && !x86_isa_device(&p->m, "i8042", err))
        return false;
    return x86_serials(&p->m, err) && x86_isa_device(&p->m, "port92", err);
}

static bool q35_init(struct vm *vm, struct error *err) { return pc_init(vm, true, err); }
static bool i440fx_init(struct vm *vm, struct error *err) { return pc_init(vm, false, err); }

/* ---- after the user's devices */

static void describe(struct pc *p)
{
    struct acpi_config *c = &p->acpi_config;
    uint64_t top = (UINT64_C(1) << 32) + p->m.high_size;

    c->windows.mem64_base = (top + (UINT64_C(1) << 30) - 1) & ~((UINT64_C(1) << 30) - 1);
    c->windows.mem64_size = UINT64_C(32) << 30;
    c->pci = true;
    c->piix = !p->q35;
    c->ecam = p->q35 ? ECAM_BASE : 0;
    c->ecam_size = p->q35 ? ECAM_SIZE : 0;
    c->reset_port = 0xcf9;
    c->reset_value = 0x0f;
    c->i8042 = device_find_class(p->m.vm, "i8042", NULL) != NULL;
    c->vga = device_find_class(p->m.vm, "VGA", NULL) != NULL;
}

static bool pc_done(struct vm *vm, struct error *err)
{
    struct pc *p = pc_of(vm);

    describe(p);
    if (p->q35)
        x86_e820(&p->m, ECAM_BASE, ECAM_SIZE, E820_RESERVED);
    if (x86_firmware_wanted(&p->m))
        return x86_firmware_load(&p->m, &p->firmware, p->acpi != OOA_OFF ? &p->acpi_config : NULL, err);
    if (p->acpi != OOA_OFF && !acpi_place(&p->m, &p->acpi_config, err))
        return false;
    x86_mptable(&p->m);
    x86_smbios_place(&p->m);
    return x86_load_kernel(&p->m, err);
}

/* ---- reset: what firmware programs */

static void without_firmware(struct pc *p)
{
    struct pci_bus *root = pci_host_bus(p->host);
    unsigned lpc = p->q35 ? Q35_LPC : PC_LPC;
    struct error err = ERROR_INIT;

    if (p->q35) {
        pci_config_write(root, 0, 0, MCH_PCIEXBAR + 4, 4, 0);
        pci_config_write(root, 0, 0, MCH_PCIEXBAR, 4, ECAM_BASE | 1);
        pci_config_write(root, 0, lpc, LPC_PMBASE, 4, ACPI_PM_BASE | 1);
        pci_config_write(root, 0, lpc, LPC_ACPI_CTRL, 1, 0x80);
    }
    for (unsigned i = 0; i < 4; i++) {
        uint8_t line = i & 2 ? 11 : 10;

        pci_config_write(root, 0, lpc, LPC_PIRQA + i, 1, line);
        if (p->q35)
            pci_config_write(root, 0, lpc, LPC_PIRQE + i, 1, line);
    }
    if (!pci_assign_resources(root, &p->acpi_config.windows, &err))
        error_report(&err);
}

static void pc_reset(struct vm *vm)
{
    struct pc *p = pc_of(vm);

    if (!x86_firmware_wanted(&p->m)) {
        without_firmware(p);
    } else {
        x86_firmware_reset(&p->m, &p->firmware);
        if (p->smm != OOA_ON)           /* firmware that finds SMIs set up already does not wait for one */
            mmio_write(&p->pm->mmio[0], PM_SMI_EN, SMI_EN_APMC | SMI_EN_GLOBAL, 4, NULL);
    }
    x86_machine_reset(&p->m);
}

static void pc_free(struct vm *vm)
{
    x86_smm_free(&pc_of(vm)->system_management);
    x86_firmware_free(&pc_of(vm)->firmware);
    x86_machine_free(&pc_of(vm)->m);
}

static const struct prop pc_props[] = {
    PROP(struct pc, acpi, "acpi", PROP_ON_OFF_AUTO, "auto", "ACPI tables and power management"),
    PROP(struct pc, hpet, "hpet", PROP_BOOL, "on", "high precision event timer"),
    PROP(struct pc, i8042, "i8042", PROP_ON_OFF_AUTO, "auto", "keyboard controller (auto: if this build has one)"),
    PROP(struct pc, pit, "pit", PROP_ON_OFF_AUTO, "auto", "i8254 timer"),
    PROP(struct pc, pic, "pic", PROP_ON_OFF_AUTO, "auto", "i8259 interrupt controllers"),
    PROP(struct pc, smm, "smm", PROP_ON_OFF_AUTO, "auto", "system management mode"),
    PROP(struct pc, vmport, "vmport", PROP_ON_OFF_AUTO, "auto", "VMware's I/O port"),
    PROP(struct pc, usb, "usb", PROP_BOOL, "off", "a USB controller"),
    PROP(struct pc, sata, "sata", PROP_ON_OFF_AUTO, "auto", "the chip set's disk controller (auto: if this build has one)"),
    PROP(struct pc, smbus, "smbus", PROP_ON_OFF_AUTO, "auto", "the chip set's SMBus (auto: if this build has one)"),
    PROP(struct pc, graphics, "graphics", PROP_BOOL, "on", "on: a display, off: as -nographic"),
    PROP(struct pc, dump_guest_core, "dump-guest-core", PROP_BOOL, "off", "guest memory in core dumps"),
    PROP(struct pc, mem_merge, "mem-merge", PROP_BOOL, "on", "let the host merge equal pages"),
    PROP(struct pc, nvdimm, "nvdimm", PROP_BOOL, "off", "NVDIMM slots"),
    PROP(struct pc, hmat, "hmat", PROP_BOOL, "off", "heterogeneous memory attributes table"),
    { 0 },
};

#define PC_BOARD(version_name, alias_name, text, init_fn, cpus, ...)                                                       \
    BOARD = {                                                                                                              \
        .name = version_name, .alias = alias_name, .summary = text, .guest = "x86_64,i386", .max_cpus = cpus,              \
        .default_cpu = "qemu64", .default_nic = "virtio-net-pci", .default_ram_id = "pc.ram", .default_ram = 128 << 20,             \
        .props = pc_props, .data_size = sizeof(struct pc), .init = init_fn, .done = pc_done, .reset = pc_reset,            \
        .free = pc_free, __VA_ARGS__                                                                                       \
    }
#define Q35(version, alias_name) PC_BOARD("pc-q35-" version, alias_name, "Standard PC (Q35 + ICH9, 2009)", q35_init, 288)
#define I440FX(version, alias_name, ...) \
    PC_BOARD("pc-i440fx-" version, alias_name, "Standard PC (i440FX + PIIX, 1996)", i440fx_init, 255, __VA_ARGS__)

/* All versions are one model so far: there is no release whose guests would notice a difference. */
Q35("10.0", "q35");
Q35("9.2", NULL);
Q35("9.1", NULL);
Q35("9.0", NULL);
Q35("8.2", NULL);
Q35("8.1", NULL);
Q35("8.0", NULL);
Q35("7.2", NULL);
Q35("7.1", NULL);
Q35("7.0", NULL);
Q35("6.2", NULL);
Q35("6.0", NULL);
Q35("5.2", NULL);
Q35("4.2", NULL);
I440FX("10.0", "pc", .is_default = true);
I440FX("9.2", NULL);
I440FX("9.0", NULL);
I440FX("8.2", NULL);
I440FX("8.0", NULL);
I440FX("7.2", NULL);
I440FX("6.2", NULL);
I440FX("5.2", NULL);
I440FX("4.2", NULL);
