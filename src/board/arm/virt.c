/* The virt board. Its memory map and interrupt numbers are in virt.h; RAM begins at 1 GiB. */
#include <inttypes.h>
#include <string.h>
#include "board/fw_config.h"
#include "rhea/device/acpi_ged.h"
#include "rhea/device/fw_cfg.h"
#include "rhea/device/pl061.h"
#include "rhea/vm/clock.h"
#include "rhea/vm/object.h"
#include "virt.h"

#define GIB UINT64_C(0x40000000)
enum { POWER_LINE = 3, BUTTON_NS = 100000000 };

static struct virt *virt_of(struct vm *vm)
{
    return vm->board_data;
}

uint64_t virt_affinity(const struct virt *v, unsigned i)
{
    unsigned cluster = v->gic_version == 2 ? 8 : 16;

    return (uint64_t)(i / cluster) << 8 | i % cluster;
}

/* Tables reach a guest through firmware only. */
static bool virt_has_acpi(const struct virt *v)
{
    return v->firmware && v->acpi != OOA_OFF;
}

/* ---- choices */

/* What is not modelled must not be promised. */
static bool refuse_missing(struct virt *v, struct error *err)
{
    static const char hint[] = "leave it out, or say =off";

    if (v->mte)
        return error_set(err, ERR_GENERIC, "-machine mte=on: memory tagging is not modelled yet", hint);
    if (v->ras)
        return error_set(err, ERR_GENERIC, "-machine ras=on: reporting host memory errors to the guest is not modelled", hint);
    if (v->iommu && strcmp(v->iommu, "none"))
        return error_setf(err, ERR_GENERIC, "leave it out, or say =none", "-machine iommu=%s: there is no SMMU yet", v->iommu);
    return true;
}

static bool choose_gic(struct virt *v, struct error *err)
{
    const struct vm_config *c = &v->vm->config;
    const char *name = v->gic_name;

    if (!name) {
        v->gic_version = MAX(c->cpus, c->max_cpus) <= 8 ? 2 : 3;
    } else if (!strcmp(name, "2")) {
        v->gic_version = 2;
    } else if (!strcmp(name, "3") || !strcmp(name, "max")) {
        v->gic_version = 3;
    } else if (!strcmp(name, "host")) {
        return error_set(err, ERR_GENERIC, "-machine gic-version=host needs KVM", "use gic-version=max");
    } else {
        return error_setf(err, ERR_GENERIC, "there are 2, 3 and max", "-machine gic-version=%s", name);
    }
    if (v->gic_version == 2 && c->cpus > 8)
        return error_setf(err, ERR_GENERIC, "use gic-version=3", "GICv2 serves 8 CPUs; the machine has %u", c->cpus);
    return true;
}

static uint64_t align_up(uint64_t v, uint64_t a)
{
    return (v + a - 1) & ~(a - 1);
}

/* A window above RAM: takes its natural alignment. One that is not wanted leaves its place empty in versions that promised
 * so (compact-highmem=off). */
static uint64_t high_window(const struct virt *v, uint64_t *at, uint64_t size, bool wanted)
{
    uint64_t base = align_up(*at, size);

    if (wanted || !v->compact_highmem)
        *at = base + size;
    return wanted ? base : 0;
}

static bool choose_map(struct virt *v, struct error *err)
{
    const struct vm_config *c = &v->vm->config;
    uint64_t at = MAX(align_up(VIRT_RAM + c->ram_max, GIB), VIRT_HIGH), ecam, mmio;
    bool high = v->highmem && v->wide;

    if (c->ram_size > 3 * GIB && !high)
        return error_set(err, ERR_GENERIC, "without addresses above 4 GiB a machine has up to 3 GiB of memory", "give less with -m, or highmem=on");
    if (v->highmem_mmio_size & (v->highmem_mmio_size - 1) || v->highmem_mmio_size < GIB / 2)
        return error_set(err, ERR_GENERIC, "-machine highmem-mmio-size is a power of two, 512M or more", NULL);
    v->redist2_size = UINT64_C(64) << 20;
    v->redist2 = high_window(v, &at, v->redist2_size, high && v->highmem_redists);
    ecam = high_window(v, &at, UINT64_C(256) << 20, high && v->highmem_ecam);
    mmio = high_window(v, &at, v->highmem_mmio_size, high && v->highmem_mmio);
    v->windows = (struct gpex_windows){
        .ecam_base = ecam ? ecam : VIRT_PCIE_ECAM, .ecam_size = ecam ? 256 << 20 : 16 << 20,
        .mmio_base = VIRT_PCIE_MMIO, .mmio_size = VIRT_PCIE_PIO - VIRT_PCIE_MMIO,
        .high_base = mmio, .high_size = mmio ? v->highmem_mmio_size : 0,
        .pio_base = VIRT_PCIE_PIO, .pio_size = 0x10000,
    };
    return true;
}

/* ---- making */

static struct device *make(struct virt *v, const char *name, uint64_t addr, int spi, struct error *err)
{
    struct device *d = device_new(v->vm, name, NULL, err);

    if (!d)
        return NULL;
    if (spi >= 0)
        d->irq_out[0] = gic_spi(v->gic, (unsigned)spi);
    if (!device_realize(d, NULL, err))
        return NULL;
    mem_region_add(&v->vm->system_memory, addr, &d->mmio[0], 0);
    return d;
}

static bool make_ram(struct virt *v, struct error *err)
{
    struct vm *vm = v->vm;
    struct ram_block *secure;

    v->ram = vm_main_ram(vm, vm->board->default_ram_id, err);
    if (!v->ram)
        return false;
    mem_region_init_ram(&v->ram_region, vm, NULL, "mach-virt.ram", v->ram, 0, vm->config.ram_size);
    mem_region_add(&vm->system_memory, VIRT_RAM, &v->ram_region, 0);
    if (!v->secure)
        return true;
    secure = ram_block_new(vm, "virt.secure-ram", VIRT_SECURE_MEM_SIZE, false, err);
    if (!secure)
        return false;
    mem_region_init_ram(&v->secure_region, vm, NULL, "virt.secure-ram", secure, 0, VIRT_SECURE_MEM_SIZE);
    mem_region_add(&vm->system_memory, VIRT_SECURE_MEM, &v->secure_region, 0);
    return true;
}

void virt_configure_cpu(struct virt *v, unsigned i)
{
    struct arm_config c = { .el2 = v->virtualization, .el3 = v->secure, .start_off = i && v->psci != ARM_PSCI_NONE,
                            .psci = (uint8_t)v->psci, .mpidr = virt_affinity(v, i) };

    arm_configure(arm(v->vm->vcpus[i]->cpu), &c);
}

static bool make_cpus(struct virt *v, struct error *err)
{
    struct vm *vm = v->vm;

    for (unsigned i = 0; i < vm->config.cpus; i++) {
        if (!vcpu_new(vm, err))
            return false;
        virt_configure_cpu(v, i);
    }
    v->wide = arm_has(&arm(vm->vcpus[0]->cpu)->features, AF_AArch64);
    if (!arm_has(&arm(vm->vcpus[0]->cpu)->features, AF_GENERIC_TIMER))
        return error_setf(err, ERR_GENERIC, "take cortex-a15, or one that -cpu help lists as 64-bit", "-cpu %s has no generic timer, which "
                          "this machine's guests need", vm->config.cpu);
    return true;
}

static bool msi(void *opaque, uint64_t addr, uint32_t data, uint16_t requester)
{
    struct virt *v = opaque;

    return v->its ? gic_its_message(v->its, addr - VIRT_GIC_ITS, data, requester) : gicv2m_message(v->v2m, addr - VIRT_GIC_V2M, data);
}

static bool make_gicv2(struct virt *v, struct error *err)
{
    struct vm *vm = v->vm;
    g_autofree char *base = g_strdup_printf("%d", SPI_V2M), *count = g_strdup_printf("%d", V2M_SPIS);

    v->gic = device_new(vm, "arm_gic", NULL, err);
    if (!v->gic || !device_set(v->gic, "has-security-extensions", v->secure ? "on" : "off", err) ||
        !device_set(v->gic, "has-virtualization-extensions", v->virtualization ? "on" : "off", err) || !device_realize(v->gic, NULL, err))
        return false;
    mem_region_add(&vm->system_memory, VIRT_GIC_DIST, &v->gic->mmio[0], 0);
    mem_region_add(&vm->system_memory, VIRT_GIC_CPU, &v->gic->mmio[1], 0);
    if (v->virtualization) {
        mem_region_add(&vm->system_memory, VIRT_GIC_HYP, &v->gic->mmio[2], 0);
        mem_region_add(&vm->system_memory, VIRT_GIC_VCPU, &v->gic->mmio[3], 0);
    }
    v->v2m = device_new(vm, "arm-gicv2m", NULL, err);
    if (!v->v2m || !device_set(v->v2m, "base-spi", base, err) || !device_set(v->v2m, "num-spi", count, err))
        return false;
    gicv2m_connect(v->v2m, v->gic);
    if (!device_realize(v->v2m, NULL, err))
        return false;
    mem_region_add(&vm->system_memory, VIRT_GIC_V2M, &v->v2m->mmio[0], 0);
    return true;
}

static bool make_its(struct virt *v, struct error *err)
{
    v->its = device_new(v->vm, "arm-gicv3-its", NULL, err);
    if (!v->its)
        return false;
    gic_its_connect(v->its, v->gic);
    if (!device_realize(v->its, NULL, err))
        return false;
    mem_region_add(&v->vm->system_memory, VIRT_GIC_ITS, &v->its->mmio[0], 0);
    mem_region_add(&v->vm->system_memory, VIRT_GIC_ITS + 0x10000, &v->its->mmio[1], 0);
    return true;
}

static bool make_gicv3(struct virt *v, struct error *err)
{
    struct vm *vm = v->vm;
    unsigned low = (VIRT_UART - VIRT_GIC_REDIST) / 0x20000, room = v->redist2 ? (unsigned)(v->redist2_size / 0x20000) : 0;

    if (vm->nvcpus > low + room)
        return error_setf(err, ERR_GENERIC, "highmem and highmem-redists must be on for more", "the machine has %u CPUs; there is room for the "
                          "interrupt controllers of %u", vm->nvcpus, low + room);
    v->gic = device_new(vm, "arm-gicv3", NULL, err);
    if (!v->gic || !device_set(v->gic, "has-security-extensions", v->secure ? "on" : "off", err) ||
        !device_set(v->gic, "has-lpi", v->its_wanted ? "on" : "off", err) || !device_realize(v->gic, NULL, err))
        return false;
    mem_region_add(&vm->system_memory, VIRT_GIC_DIST, &v->gic->mmio[0], 0);
    mem_region_add(&vm->system_memory, VIRT_GIC_REDIST, &v->gic->mmio[1], 0);
    if (vm->nvcpus > low)
        mem_region_add(&vm->system_memory, v->redist2, &v->gic->mmio[2], 0);
    return !v->its_wanted || make_its(v, err);
}

static void connect_cpus(struct virt *v)
{
    static const uint8_t ppi[ARM_TIMER_COUNT] = { [ARM_TIMER_PHYS] = PPI_PHYS_TIMER, [ARM_TIMER_VIRT] = PPI_VIRT_TIMER,
                                                  [ARM_TIMER_HYP] = PPI_HYP_TIMER, [ARM_TIMER_HYPVIRT] = PPI_HYPVIRT_TIMER,
                                                  [ARM_TIMER_SEC] = PPI_SECURE_TIMER };

    for (unsigned i = 0; i < v->vm->nvcpus; i++) {
        struct arm_cpu *c = arm(v->vm->vcpus[i]->cpu);

        for (unsigned t = 0; t < ARM_TIMER_COUNT; t++)
            c->sys.timer_irq[t] = gic_ppi(v->gic, i, 16u + ppi[t]);
        c->sys.pmu_irq = gic_ppi(v->gic, i, 16 + PPI_PMU);
    }
}

static bool make_gic(struct virt *v, struct error *err)
{
    if (!(v->gic_version == 2 ? make_gicv2(v, err) : make_gicv3(v, err)))
        return false;
    connect_cpus(v);
    if (v->v2m || v->its) {
        v->vm->msi = msi;
        v->vm->msi_opaque = v;
    }
    return true;
}

static struct device *make_uart(struct virt *v, unsigned n, uint64_t addr, unsigned spi, struct error *err)
{
    struct json_object *list = v->vm->config.serials, *id = list ? json_object_array_get_idx(list, n) : NULL;
    struct device *d = device_new(v->vm, "pl011", NULL, err);

    if (!d || (id && !device_set(d, "chardev", json_object_get_string(id), err)))
        return NULL;
    d->irq_out[0] = gic_spi(v->gic, spi);
    if (!device_realize(d, NULL, err))
        return NULL;
    mem_region_add(&v->vm->system_memory, addr, &d->mmio[0], 0);
    return d;
}

/* ---- power button: line 3 of the GPIO goes up for a while, and ACPI's event device tells it. A guest hears of one of them. */

static void button_released(void *opaque)
{
    irq_lower(pl061_line(((struct virt *)opaque)->gpio, POWER_LINE));
}

static void button_pressed(void *opaque)
{
    struct virt *v = opaque;

    irq_raise(pl061_line(v->gpio, POWER_LINE));
    vm_timer_set(v->button, vm_clock_ns(v->vm) + BUTTON_NS);
    if (v->ged)
        acpi_ged_event(v->ged, GED_POWER_BUTTON);
}

static bool make_slots(struct virt *v, struct error *err)
{
    for (unsigned i = 0; i < VIRT_SLOTS; i++) {
        v->slot[i] = make(v, "virtio-mmio", VIRT_VIRTIO + i * VIRT_VIRTIO_SIZE, (int)(SPI_VIRTIO + i), err);
        if (!v->slot[i])
            return false;
    }
    return true;
}

static bool make_pcie(struct virt *v, struct error *err)
{
    struct irq *lines[4];

    v->host = device_new(v->vm, "gpex-pcihost", NULL, err);
    if (!v->host || !device_realize(v->host, NULL, err))
        return false;
    for (unsigned i = 0; i < 4; i++)
        lines[i] = gic_spi(v->gic, SPI_PCIE + i);
    gpex_connect(v->host, &v->windows, lines);
    return true;
}

static bool make_devices(struct virt *v, struct error *err)
{
    v->uart = make_uart(v, 0, VIRT_UART, SPI_UART, err);
    if (!v->uart || (v->secure && !make_uart(v, 1, VIRT_SECURE_UART, SPI_SECURE_UART, err)))
        return false;
    if (!make(v, "pl031", VIRT_RTC, SPI_RTC, err) || !(v->gpio = make(v, "pl061", VIRT_GPIO, SPI_GPIO, err)) ||
        !(v->fw_cfg = make(v, "fw_cfg_mem", VIRT_FW_CFG, -1, err)))
        return false;
    if (virt_has_acpi(v) && !(v->ged = make(v, "acpi-ged", VIRT_GED, SPI_GED, err)))
        return false;
    v->button = vm_timer_new(v->vm, NULL, button_released, v);
    vm_powerdown_notifier(v->vm, button_pressed, v);
    return make_slots(v, err) && make_pcie(v, err) && virt_flash_make(v, err);
}

static bool virt_init(struct vm *vm, struct error *err)
{
    struct virt *v = virt_of(vm);

    v->vm = vm;
    if (!virt_flash_choose(v, err))
        return false;
    v->psci = v->secure && v->firmware ? ARM_PSCI_NONE : v->virtualization ? ARM_PSCI_SMC : ARM_PSCI_HVC;
    return refuse_missing(v, err) && choose_gic(v, err) && make_cpus(v, err) && choose_map(v, err) && make_ram(v, err) && make_gic(v, err) &&
           make_devices(v, err);
}

/* ---- after the user's devices */

static bool fill_fw_cfg(struct virt *v, struct error *err)
{
    struct smbios smbios = { .vm = v->vm, .product = "QEMU Virtual Machine", .range = { { VIRT_RAM, v->vm->config.ram_size } } };
    struct acpi_image acpi;
    bool ok = true;

    if (virt_has_acpi(v)) {
        virt_acpi(v, &acpi);
        ok = fw_config_acpi(v->fw_cfg, &acpi, err);
        acpi_free(&acpi);
    }
    return ok && fw_config_machine(v->fw_cfg, v->vm, err) && fw_config_smbios(v->fw_cfg, &smbios, err) &&
           fw_config_boot_order(v->fw_cfg, v->vm, "/pci@ffffffffffffffff", err) && fw_config_users(v->fw_cfg, v->vm, err);
}

/* -machine dumpdtb=FILE: writes the tree instead of running. */
static bool dump_tree(struct virt *v, struct error *err)
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
    struct virt *v = virt_of(vm);

    return fill_fw_cfg(v, err) && virt_load(v, err) && dump_tree(v, err);
}

static void virt_reset(struct vm *vm)
{
    struct virt *v = virt_of(vm);

    if (v->how == ENTRY_LINUX)
        (v->gic_version == 2 ? gicv2_boot_nonsecure : gicv3_boot_nonsecure)(v->gic);
    virt_enter(v);
}

static void virt_free(struct vm *vm)
{
    struct virt *v = virt_of(vm);

    for (unsigned i = 0; i < v->nblobs; i++)
        g_free(v->blob[i].data);
    g_free(v->dtb);
    if (v->button)
        vm_timer_free(v->button);
}

static const struct prop virt_props[] = {
    PROP(struct virt, gic_name, "gic-version", PROP_STR, NULL, "interrupt controller: 2, 3, max; default: 2, for more than 8 CPUs 3"),
    PROP(struct virt, its_wanted, "its", PROP_BOOL, "on", "GICv3's interrupt translation service (for MSIs)"),
    PROP(struct virt, secure, "secure", PROP_BOOL, "off", "CPUs have EL3; Secure memory and UART"),
    PROP(struct virt, virtualization, "virtualization", PROP_BOOL, "off", "CPUs have EL2"),
    PROP(struct virt, highmem, "highmem", PROP_BOOL, "on", "use addresses above 4 GiB"),
    PROP(struct virt, highmem_ecam, "highmem-ecam", PROP_BOOL, "on", "PCI configuration space of 256 buses, above 4 GiB"),
    PROP(struct virt, highmem_mmio, "highmem-mmio", PROP_BOOL, "on", "a PCI memory window above 4 GiB"),
    PROP(struct virt, highmem_mmio_size, "highmem-mmio-size", PROP_SIZE, "512G", "its size"),
    PROP(struct virt, highmem_redists, "highmem-redists", PROP_BOOL, "on", "GICv3 redistributors for more than 123 CPUs"),
    PROP(struct virt, compact_highmem, "compact-highmem", PROP_BOOL, "on", "windows above RAM leave no gaps"),
    PROP(struct virt, acpi, "acpi", PROP_ON_OFF_AUTO, "auto", "ACPI tables (for firmware)"),
    PROP(struct virt, seeds, "dtb-randomness", PROP_BOOL, "on", "random seeds in the device tree"),
    PROP(struct virt, seeds, "dtb-kaslr-seed", PROP_BOOL, "on", "random seeds in the device tree (old name)"),
    PROP(struct virt, ras, "ras", PROP_BOOL, "off", "tell the guest of memory errors"),
    PROP(struct virt, mte, "mte", PROP_BOOL, "off", "memory tagging"),
    PROP(struct virt, iommu, "iommu", PROP_STR, NULL, "IOMMU of the PCI bus: none"),
    PROP(struct virt, pflash[0], "pflash0", PROP_STR, NULL, "block node of the first flash: firmware"),
    PROP(struct virt, pflash[1], "pflash1", PROP_STR, NULL, "block node of the second flash: its variables"),
    PROP(struct virt, dumpdtb, "dumpdtb", PROP_STR, NULL, "write the device tree to this file, and end"),
    { 0 },
};

#define VIRT_BOARD(version, alias_name, guest_name, cpu)                                                                       \
    BOARD = {                                                                                                                  \
        .name = "virt-" version, .alias = alias_name, .summary = "QEMU " version " ARM Virtual Machine", .guest = guest_name,  \
        .max_cpus = 512, .default_cpu = cpu, .default_nic = "virtio-net-pci", .default_ram_id = "mach-virt.ram",               \
        .default_ram = 128 << 20, .props = virt_props, .data_size = sizeof(struct virt), .init = virt_init, .done = virt_done, \
        .reset = virt_reset, .free = virt_free,                                                                                \
    }
/* All versions are one model so far: there is no release whose guests would notice a difference. */
#define VIRT(version, alias_name)                              \
    VIRT_BOARD(version, alias_name, "aarch64", "cortex-a57");  \
    VIRT_BOARD(version, alias_name, "arm", "cortex-a15")
VIRT("10.0", "virt");
VIRT("9.2", NULL);
VIRT("9.1", NULL);
VIRT("9.0", NULL);
VIRT("8.2", NULL);
VIRT("8.1", NULL);
VIRT("8.0", NULL);
VIRT("7.2", NULL);
