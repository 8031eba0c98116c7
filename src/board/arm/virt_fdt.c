/* What the virt board tells its guest: the device tree. Bindings: Devicetree Specification 0.4 and Linux'
 * Documentation/devicetree/bindings. */
#include <string.h>
#include "virt.h"

enum { GIC_SPI = 0, GIC_PPI = 1, EDGE_RISING = 1, LEVEL_HIGH = 4 };
static const char gic_path[] = "/intc@8000000", uart_path[] = "/pl011@9000000", clock_path[] = "/apb-pclk";

static struct dt_irq spi(struct virt *v, struct dt *dt, unsigned n, unsigned flags)
{
    return (struct dt_irq){ .parent = dt_phandle(dt, gic_path), .cells = { GIC_SPI, n, flags }, .n = 3 };
}

/* GICv2: bits 8 and up name the CPUs that have it. */
static uint32_t ppi_flags(const struct virt *v)
{
    return LEVEL_HIGH | (v->gic_version == 2 ? ((1u << v->vm->nvcpus) - 1) << 8 : 0);
}

static void add_root(struct virt *v, struct dt *dt)
{
    dt_string(dt, "/", "compatible", "linux,dummy-virt");
    dt_string(dt, "/", "model", "linux,dummy-virt");
    DT_CELLS(dt, "/", "#address-cells", 2);
    DT_CELLS(dt, "/", "#size-cells", 2);
    dt_flag(dt, "/", "dma-coherent");
    dt_node(dt, clock_path);
    dt_string(dt, clock_path, "compatible", "fixed-clock");
    DT_CELLS(dt, clock_path, "#clock-cells", 0);
    DT_CELLS(dt, clock_path, "clock-frequency", 24000000);
    dt_string(dt, clock_path, "clock-output-names", "clk24mhz");
}

static uint64_t affinity(struct vm *vm, unsigned i)
{
    return virt_affinity(vm->board_data, i);
}

static char *cpu_path(struct vm *vm, unsigned i)
{
    return g_strdup_printf("/cpus/cpu@%" G_GINT64_MODIFIER "x", affinity(vm, i));
}

/* "cortex-a57" is "arm,cortex-a57"; models of our own making have no name there. */
static char *cpu_compatible(struct vm *vm)
{
    const char *spec = vm->config.cpu ? vm->config.cpu : vm->board->default_cpu;
    g_auto(GStrv) parts = g_strsplit(spec, ",", 2);

    if (g_str_has_prefix(parts[0], "cortex-") || g_str_has_prefix(parts[0], "neoverse-"))
        return g_strdup_printf("arm,%s", parts[0]);
    return g_strdup("arm,armv8");
}

static void add_cpus(struct virt *v, struct dt *dt)
{
    g_autofree char *compatible = cpu_compatible(v->vm);
    bool wide = affinity(v->vm, v->vm->nvcpus - 1) >> 32;

    dt_node(dt, "/cpus");
    DT_CELLS(dt, "/cpus", "#address-cells", wide ? 2 : 1);
    DT_CELLS(dt, "/cpus", "#size-cells", 0);
    for (unsigned i = v->vm->nvcpus; i-- > 0;) {
        g_autofree char *path = cpu_path(v->vm, i);

        dt_node(dt, path);
        dt_string(dt, path, "device_type", "cpu");
        dt_string(dt, path, "compatible", compatible);
        if (!v->wide)                   /* 32-bit kernels weigh CPUs by it, and miss it */
            DT_CELLS(dt, path, "clock-frequency", 1000000000);
        if (v->psci != ARM_PSCI_NONE && v->vm->nvcpus > 1)
            dt_string(dt, path, "enable-method", "psci");
        if (wide)
            dt_u64(dt, path, "reg", affinity(v->vm, i));
        else
            DT_CELLS(dt, path, "reg", (uint32_t)affinity(v->vm, i));
    }
    if (v->vm->nvcpus > 1)
        dt_cpu_map(dt, v->vm, cpu_path);
}

static void add_psci(struct virt *v, struct dt *dt)
{
    uint32_t wide = v->wide ? 0x40000000 : 0;

    if (v->psci == ARM_PSCI_NONE)
        return;
    dt_node(dt, "/psci");
    dt_strings(dt, "/psci", "compatible", "arm,psci-1.0", "arm,psci-0.2", "arm,psci", NULL);
    dt_string(dt, "/psci", "method", v->psci == ARM_PSCI_SMC ? "smc" : "hvc");
    DT_CELLS(dt, "/psci", "cpu_suspend", 0x84000001 | wide);
    DT_CELLS(dt, "/psci", "cpu_off", 0x84000002);
    DT_CELLS(dt, "/psci", "cpu_on", 0x84000003 | wide);
    DT_CELLS(dt, "/psci", "migrate", 0x84000005 | wide);
}

static void add_timer(struct virt *v, struct dt *dt)
{
    uint32_t f = ppi_flags(v);

    dt_node(dt, "/timer");
    if (v->wide)
        dt_strings(dt, "/timer", "compatible", "arm,armv8-timer", "arm,armv7-timer", NULL);
    else
        dt_string(dt, "/timer", "compatible", "arm,armv7-timer");
    dt_flag(dt, "/timer", "always-on");
    DT_CELLS(dt, "/timer", "interrupt-parent", dt_phandle(dt, gic_path));
    DT_CELLS(dt, "/timer", "interrupts", GIC_PPI, PPI_SECURE_TIMER, f, GIC_PPI, PPI_PHYS_TIMER, f, GIC_PPI, PPI_VIRT_TIMER, f,
             GIC_PPI, PPI_HYP_TIMER, f);
}

static void add_pmu(struct virt *v, struct dt *dt)
{
    struct dt_irq irq = { .parent = dt_phandle(dt, gic_path), .cells = { GIC_PPI, PPI_PMU, ppi_flags(v) }, .n = 3 };

    if (!arm_has(&arm(v->vm->vcpus[0]->cpu)->features, AF_PMU) || !v->wide)
        return;
    dt_node(dt, "/pmu");
    dt_string(dt, "/pmu", "compatible", "arm,armv8-pmuv3");
    dt_interrupt(dt, "/pmu", &irq);
}

static void add_maintenance(struct virt *v, struct dt *dt)
{
    if (v->virtualization)
        DT_CELLS(dt, gic_path, "interrupts", GIC_PPI, PPI_MAINTENANCE, v->gic_version == 2 ? ppi_flags(v) : LEVEL_HIGH);
}

static void add_gicv2(struct virt *v, struct dt *dt)
{
    static const char frame[] = "/intc@8000000/v2m@8020000";

    dt_string(dt, gic_path, "compatible", "arm,cortex-a15-gic");
    if (v->virtualization)
        DT_CELLS(dt, gic_path, "reg", DT_64(VIRT_GIC_DIST), DT_64(0x10000), DT_64(VIRT_GIC_CPU), DT_64(0x10000),
                 DT_64(VIRT_GIC_HYP), DT_64(0x10000), DT_64(VIRT_GIC_VCPU), DT_64(0x10000));
    else
        DT_CELLS(dt, gic_path, "reg", DT_64(VIRT_GIC_DIST), DT_64(0x10000), DT_64(VIRT_GIC_CPU), DT_64(0x10000));
    if (!v->v2m)
        return;
    dt_node(dt, frame);
    dt_string(dt, frame, "compatible", "arm,gic-v2m-frame");
    dt_flag(dt, frame, "msi-controller");
    DT_CELLS(dt, frame, "reg", DT_64(VIRT_GIC_V2M), DT_64(0x1000));
}

static void add_gicv3(struct virt *v, struct dt *dt)
{
    static const char its[] = "/intc@8000000/its@8080000";
    uint64_t redists = (uint64_t)v->vm->nvcpus * 0x20000, low = MIN(redists, (uint64_t)VIRT_UART - VIRT_GIC_REDIST);

    dt_string(dt, gic_path, "compatible", "arm,gic-v3");
    DT_CELLS(dt, gic_path, "#redistributor-regions", low < redists ? 2 : 1);
    if (low < redists)
        DT_CELLS(dt, gic_path, "reg", DT_64(VIRT_GIC_DIST), DT_64(0x10000), DT_64(VIRT_GIC_REDIST), DT_64(low),
                 DT_64(v->redist2), DT_64(redists - low));
    else
        DT_CELLS(dt, gic_path, "reg", DT_64(VIRT_GIC_DIST), DT_64(0x10000), DT_64(VIRT_GIC_REDIST),
                 DT_64(VIRT_UART - VIRT_GIC_REDIST));
    if (!v->its)
        return;
    dt_node(dt, its);
    dt_string(dt, its, "compatible", "arm,gic-v3-its");
    dt_flag(dt, its, "msi-controller");
    DT_CELLS(dt, its, "#msi-cells", 1);
    DT_CELLS(dt, its, "reg", DT_64(VIRT_GIC_ITS), DT_64(0x20000));
}

static void add_gic(struct virt *v, struct dt *dt)
{
    dt_node(dt, gic_path);
    DT_CELLS(dt, "/", "interrupt-parent", dt_phandle(dt, gic_path));
    dt_flag(dt, gic_path, "interrupt-controller");
    DT_CELLS(dt, gic_path, "#interrupt-cells", 3);
    DT_CELLS(dt, gic_path, "#address-cells", 2);
    DT_CELLS(dt, gic_path, "#size-cells", 2);
    dt_flag(dt, gic_path, "ranges");
    if (v->gic_version == 2)
        add_gicv2(v, dt);
    else
        add_gicv3(v, dt);
    add_maintenance(v, dt);
}

/* PrimeCell: register block, interrupt, clocks. */
static void add_primecell(struct virt *v, struct dt *dt, const char *path, const char *compatible, uint64_t base, unsigned irq,
                          bool two_clocks)
{
    uint32_t clock = dt_phandle(dt, clock_path);
    struct dt_irq i = spi(v, dt, irq, LEVEL_HIGH);

    dt_node(dt, path);
    dt_strings(dt, path, "compatible", compatible, "arm,primecell", NULL);
    DT_CELLS(dt, path, "reg", DT_64(base), DT_64(0x1000));
    dt_interrupt(dt, path, &i);
    if (two_clocks) {
        DT_CELLS(dt, path, "clocks", clock, clock);
        dt_strings(dt, path, "clock-names", "uartclk", "apb_pclk", NULL);
    } else {
        DT_CELLS(dt, path, "clocks", clock);
        dt_string(dt, path, "clock-names", "apb_pclk");
    }
}

static void add_gpio(struct virt *v, struct dt *dt)
{
    static const char path[] = "/pl061@9030000", key[] = "/gpio-keys/poweroff";

    add_primecell(v, dt, path, "arm,pl061", VIRT_GPIO, SPI_GPIO, false);
    DT_CELLS(dt, path, "#gpio-cells", 2);
    dt_flag(dt, path, "gpio-controller");
    dt_node(dt, "/gpio-keys");
    dt_string(dt, "/gpio-keys", "compatible", "gpio-keys");
    dt_node(dt, key);
    dt_string(dt, key, "label", "GPIO Key Poweroff");
    DT_CELLS(dt, key, "linux,code", 116);               /* KEY_POWER */
    DT_CELLS(dt, key, "gpios", dt_phandle(dt, path), 3, 0);
}

static void add_devices(struct virt *v, struct dt *dt)
{
    for (unsigned i = VIRT_SLOTS; i-- > 0;) {
        struct dt_irq irq = spi(v, dt, SPI_VIRTIO + i, EDGE_RISING);

        dt_virtio_mmio(dt, VIRT_VIRTIO + i * VIRT_VIRTIO_SIZE, VIRT_VIRTIO_SIZE, &irq, true);
    }
    dt_node(dt, "/fw-cfg@9020000");
    dt_string(dt, "/fw-cfg@9020000", "compatible", "qemu,fw-cfg-mmio");
    DT_CELLS(dt, "/fw-cfg@9020000", "reg", DT_64(VIRT_FW_CFG), DT_64(0x18));
    dt_flag(dt, "/fw-cfg@9020000", "dma-coherent");
    add_gpio(v, dt);
    add_primecell(v, dt, "/pl031@9010000", "arm,pl031", VIRT_RTC, SPI_RTC, false);
    add_primecell(v, dt, uart_path, "arm,pl011", VIRT_UART, SPI_UART, true);
    dt_node(dt, "/aliases");
    dt_string(dt, "/aliases", "serial0", uart_path);
    if (!v->flash[0])
        return;
    dt_node(dt, "/flash@0");
    dt_string(dt, "/flash@0", "compatible", "cfi-flash");
    DT_CELLS(dt, "/flash@0", "reg", DT_64(VIRT_FLASH), DT_64(VIRT_FLASH_BANK), DT_64(VIRT_FLASH + VIRT_FLASH_BANK), DT_64(VIRT_FLASH_BANK));
    DT_CELLS(dt, "/flash@0", "bank-width", 4);
}

static void add_pcie(struct virt *v, struct dt *dt)
{
    struct dt_pcie p = { .windows = &v->windows, .parent_address_cells = 2 };

    for (unsigned i = 0; i < 4; i++)
        p.irq[i] = spi(v, dt, SPI_PCIE + i, LEVEL_HIGH);
    if (v->its) {
        p.msi_parent = dt_phandle(dt, "/intc@8000000/its@8080000");
        p.msi_map = true;
    } else if (v->v2m) {
        p.msi_parent = dt_phandle(dt, "/intc@8000000/v2m@8020000");
    }
    dt_pcie(dt, &p);
}

static struct dt *build(struct virt *v)
{
    struct dt *dt = dt_new();

    add_root(v, dt);
    add_gic(v, dt);
    add_pcie(v, dt);
    add_devices(v, dt);
    add_timer(v, dt);
    add_pmu(v, dt);
    add_cpus(v, dt);
    add_psci(v, dt);
    return dt;
}

bool virt_describe(struct virt *v, struct error *err)
{
    struct vm *vm = v->vm;
    struct dt_chosen chosen = { .stdout_path = uart_path, .initrd = v->initrd, .initrd_size = v->initrd_size, .seeds = v->seeds };
    struct dt *dt = vm->config.dtb ? dt_load(vm->config.dtb, err) : build(v);

    if (!dt)
        return false;
    if (vm->config.dtb)
        chosen.stdout_path = NULL;
    dt_memory(dt, VIRT_RAM, vm->config.ram_size);
    dt_chosen(dt, vm, &chosen);
    g_free(v->dtb);
    v->dtb = dt_finish(dt, &v->dtb_len, err);
    dt_free(dt);
    return v->dtb;
}
