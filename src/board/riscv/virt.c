/* The RISC-V virt board. Its memory map and interrupt numbers are in virt.h; RAM begins at 2 GiB. */
#include <inttypes.h>
#include <string.h>
#include "board/fw_config.h"
#include "rhea/device/acpi_ged.h"
#include "rhea/device/riscv.h"
#include "board/flash.h"
#include "rhea/vm/object.h"
#include "virt.h"

#define GIB UINT64_C(0x40000000)

static struct rvirt *virt_of(struct vm *vm) { return vm->board_data; }

/* ---- choices */

/* What is not modelled must not be promised. */
static bool refuse_missing(struct rvirt *v, struct error *err)
{
    if (v->aia && strcmp(v->aia, "none"))
        return error_setf(err, ERR_GENERIC, "leave it out, or say =none: interrupts then go through the PLIC",
                          "-machine aia=%s: the Advanced Interrupt Architecture is not modelled yet", v->aia);
    if (v->aia_guests)
        return error_set(err, ERR_GENERIC, "-machine aia-guests: there are no guests' interrupt files without AIA", "leave it out");
    if (v->acpi == OOA_ON && !v->wide)
        return error_set(err, ERR_GENERIC, "-machine acpi=on: an RV32 machine has no ACPI tables", "leave it out: the device tree says all");
    if (!v->wide && v->vm->config.ram_size > UINT64_C(0x380000000))
        return error_set(err, ERR_GENERIC, "an RV32 machine has up to 14 GiB of memory", "give less with -m");
    return true;
}

static void choose_map(struct rvirt *v)
{
    uint64_t size = v->wide ? 16 * GIB : 4 * GIB;
    uint64_t end = RVIRT_RAM + MAX(v->vm->config.ram_max, v->vm->config.ram_size);

    v->windows = (struct gpex_windows){
        .ecam_base = RVIRT_PCIE_ECAM, .ecam_size = RVIRT_ECAM_SIZE, .mmio_base = RVIRT_PCIE_MMIO, .mmio_size = RVIRT_MMIO_SIZE,
        .high_base = v->wide ? (end + size - 1) & ~(size - 1) : RVIRT32_PCIE_HIGH, .high_size = size,
        .pio_base = RVIRT_PCIE_PIO, .pio_size = RVIRT_PIO_SIZE,
    };
}

/* Tables reach a guest through firmware only, which is there for RV64. */
static bool has_acpi(const struct rvirt *v) { return v->wide && v->acpi != OOA_OFF; }

/* ---- making */

static struct device *make(struct rvirt *v, const char *name, uint64_t addr, unsigned source, struct error *err)
{
    struct device *d = device_new(v->vm, name, NULL, err);

    if (!d)
        return NULL;
    if (source)
        d->irq_out[0] = plic_line(v->plic, source);
    if (!device_realize(d, NULL, err))
        return NULL;
    mem_region_add(&v->vm->system_memory, addr, &d->mmio[0], 0);
    return d;
}

static bool make_memory(struct rvirt *v, struct error *err)
{
    struct vm *vm = v->vm;

    v->ram = vm_main_ram(vm, vm->board->default_ram_id, err);
    v->mrom_ram = v->ram ? ram_block_new(vm, "riscv_virt_board.mrom", RVIRT_MROM_SIZE, false, err) : NULL;
    if (!v->mrom_ram)
        return false;
    mem_region_init_ram(&v->ram_region, vm, NULL, "riscv_virt_board.ram", v->ram, 0, vm->config.ram_size);
    mem_region_add(&vm->system_memory, RVIRT_RAM, &v->ram_region, 0);
    mem_region_init_rom(&v->mrom, vm, NULL, "riscv_virt_board.mrom", v->mrom_ram, 0, RVIRT_MROM_SIZE);
    mem_region_add(&vm->system_memory, RVIRT_MROM, &v->mrom, 0);
    return true;
}

static bool make_cpus(struct rvirt *v, struct error *err)
{
    for (unsigned i = 0; i < v->vm->config.cpus; i++)
        if (!vcpu_new(v->vm, err))
            return false;
    return true;
}

/* Side by side they are a CLINT. */
static bool make_interrupts(struct rvirt *v, struct error *err)
{
    struct device *sswi;

    if (!make(v, "riscv.aclint.swi", RVIRT_CLINT, 0, err) ||
        !make(v, "riscv.aclint.mtimer", RVIRT_CLINT + RVIRT_SWI_SIZE, 0, err))
        return false;
    if (v->aclint) {
        sswi = device_new(v->vm, "riscv.aclint.swi", NULL, err);
        if (!sswi || !device_set(sswi, "sswi", "on", err) || !device_realize(sswi, NULL, err))
            return false;
        mem_region_add(&v->vm->system_memory, RVIRT_SSWI, &sswi->mmio[0], 0);
    }
    v->plic = make(v, "riscv.sifive.plic", RVIRT_PLIC, 0, err);
    return v->plic;
}

static bool make_uart(struct rvirt *v, struct error *err)
{
    struct json_object *list = v->vm->config.serials, *id = list ? json_object_array_get_idx(list, 0) : NULL;

    v->uart = device_new(v->vm, "serial-mm", NULL, err);
    if (!v->uart || !device_set(v->uart, "baudbase", "230400", err) ||
        (id && !device_set(v->uart, "chardev", json_object_get_string(id), err)))
        return false;
    v->uart->irq_out[0] = plic_line(v->plic, RVIRT_IRQ_UART);
    if (!device_realize(v->uart, NULL, err))
        return false;
    mem_region_add(&v->vm->system_memory, RVIRT_UART, &v->uart->mmio[0], 0);
    return true;
}

static bool make_pcie(struct rvirt *v, struct error *err)
{
    struct irq *lines[4];

    v->host = device_new(v->vm, "gpex-pcihost", NULL, err);
    if (!v->host || !device_realize(v->host, NULL, err))
        return false;
    for (unsigned i = 0; i < 4; i++)
        lines[i] = plic_line(v->plic, RVIRT_IRQ_PCIE + i);
    gpex_connect(v->host, &v->windows, lines);
    return true;
}

/* The button is ACPI's: Linux has no driver for a GPIO's keys on RISC-V. */
static void button_pressed(void *opaque) { acpi_ged_event(((struct rvirt *)opaque)->ged, GED_POWER_BUTTON); }

static bool make_button(struct rvirt *v, struct error *err)
{
    if (!has_acpi(v))
        return true;
    v->ged = make(v, "acpi-ged", RVIRT_GED, RVIRT_IRQ_GED, err);
    if (v->ged)
        vm_powerdown_notifier(v->vm, button_pressed, v);
    return v->ged;
}

static bool make_slots(struct rvirt *v, struct error *err)
{
    for (unsigned i = 0; i < RVIRT_SLOTS; i++) {
        v->slot[i] = make(v, "virtio-mmio", RVIRT_VIRTIO + i * RVIRT_VIRTIO_SIZE, RVIRT_IRQ_VIRTIO + i, err);
        if (!v->slot[i])
            return false;
    }
    return true;
}

static bool make_flash(struct rvirt *v, struct error *err)
{
    for (unsigned n = 0; n < 2; n++)
        if (!(v->flash[n] = flash_bank(v->vm, n ? "virt.flash1" : "virt.flash0", v->pflash[n], RVIRT_FLASH + n * RVIRT_FLASH_BANK,
                                       RVIRT_FLASH_BANK, err)))
            return false;
    return true;
}

static bool virt_init(struct vm *vm, struct error *err)
{
    struct rvirt *v = virt_of(vm);

    v->vm = vm;
    v->wide = !strcmp(vm->guest->name, "riscv64");
    choose_map(v);
    return refuse_missing(v, err) && make_cpus(v, err) && make_memory(v, err) && make_interrupts(v, err) && make_uart(v, err) &&
           make(v, "riscv.sifive.test", RVIRT_TEST, 0, err) && make(v, "goldfish_rtc", RVIRT_RTC, RVIRT_IRQ_RTC, err) &&
           (v->fw_cfg = make(v, "fw_cfg_mem", RVIRT_FW_CFG, 0, err)) && make_button(v, err) && make_slots(v, err) && make_pcie(v, err) &&
           flash_drives(vm, v->pflash, err) && make_flash(v, err);
}

/* ---- after the user's devices */

static bool fill_fw_cfg(struct rvirt *v, struct error *err)
{
    struct smbios smbios = { .vm = v->vm, .product = "QEMU Virtual Machine", .range = { { RVIRT_RAM, v->vm->config.ram_size } } };
    struct acpi_image acpi;
    bool ok = true;

    if (has_acpi(v)) {
        rvirt_acpi(v, &acpi);
        ok = fw_config_acpi(v->fw_cfg, &acpi, err);
        acpi_free(&acpi);
    }
    return ok && fw_config_machine(v->fw_cfg, v->vm, err) && fw_config_smbios(v->fw_cfg, &smbios, err) &&
           fw_config_boot_order(v->fw_cfg, v->vm, "/pci@ffffffffffffffff", err) && fw_config_users(v->fw_cfg, v->vm, err);
}

/* -machine dumpdtb=FILE: writes the tree instead of running. */
static bool dump_tree(struct rvirt *v, struct error *err)
{
    g_autoptr(GError) e = NULL;

    if (!v->dumpdtb || !*v->dumpdtb)
        return true;
    if (!g_file_set_contents(v->dumpdtb, v->dtb, (gssize)v->dtb_len, &e))
        return error_setf(err, ERR_GENERIC, "check the path and its permissions", "cannot write the device tree: %s", e->message);
    vm_request_stop(v->vm, STOP_HOST_QUIT, 0);
    return true;
}

static bool virt_done(struct vm *vm, struct error *err)
{
    struct rvirt *v = virt_of(vm);

    return fill_fw_cfg(v, err) && rvirt_load(v, err) && dump_tree(v, err);
}

static void virt_reset(struct vm *vm) { rvirt_enter(virt_of(vm)); }

static void virt_free(struct vm *vm)
{
    struct rvirt *v = virt_of(vm);

    for (unsigned i = 0; i < v->nblobs; i++)
        g_free(v->blob[i].data);
    g_free(v->dtb);
}

static const struct prop virt_props[] = {
    PROP(struct rvirt, aclint, "aclint", PROP_BOOL, "off", "an ACLINT with supervisor software interrupts in place of the CLINT"),
    PROP(struct rvirt, acpi, "acpi", PROP_ON_OFF_AUTO, "auto", "ACPI tables (for firmware)"),
    PROP(struct rvirt, aia, "aia", PROP_STR, "none", "Advanced Interrupt Architecture: none"),
    PROP(struct rvirt, aia_guests, "aia-guests", PROP_U32, "0", "interrupt files for guests, with AIA"),
    PROP(struct rvirt, pflash[0], "pflash0", PROP_STR, NULL, "block node of the first flash: firmware"),
    PROP(struct rvirt, pflash[1], "pflash1", PROP_STR, NULL, "block node of the second flash: its variables"),
    PROP(struct rvirt, dumpdtb, "dumpdtb", PROP_STR, NULL, "write the device tree to this file, and end"),
    { 0 },
};

BOARD = {
    .name = "virt",
    .summary = "RISC-V VirtIO board",
    .guest = "riscv64,riscv32",
    .max_cpus = 512,
    .default_nic = "virtio-net-pci",
    .default_ram_id = "riscv_virt_board.ram",
    .default_ram = 128 << 20,
    .props = virt_props,
    .data_size = sizeof(struct rvirt),
    .init = virt_init,
    .done = virt_done,
    .reset = virt_reset,
    .free = virt_free,
};
