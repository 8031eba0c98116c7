/* What the RISC-V virt board tells its guest: the device tree. Bindings: Devicetree Specification 0.4 and Linux'
 * Documentation/devicetree/bindings (riscv/cpus.yaml, riscv/extensions.yaml, interrupt-controller/sifive,plic-1.0.0.yaml,
 * timer/sifive,clint.yaml). Nodes are made in the opposite order of that in which they then stand. */
#include <string.h>
#include "virt.h"

#define SOC "/soc"
static const char uart_path[] = SOC "/serial@10000000", plic_path[] = SOC "/plic@c000000", test_path[] = SOC "/test@100000";

static char *cpu_path(struct vm *vm, unsigned i) { return g_strdup_printf("/cpus/cpu@%u", i); }
static char *intc_path(unsigned i) { return g_strdup_printf("/cpus/cpu@%u/interrupt-controller", i); }

static const struct riscv_features *features(const struct rvirt *v) { return &riscv(v->vm->vcpus[0]->cpu)->features; }

/* ---- CPUs */

static const char *mmu_type(const struct riscv_features *f)
{
    return RISCV_HAS(f, Sv57) ? "riscv,sv57" : RISCV_HAS(f, Sv48) ? "riscv,sv48" : RISCV_HAS(f, Sv39) ? "riscv,sv39" :
           RISCV_HAS(f, Sv32) ? "riscv,sv32" : "riscv,none";
}

static void isa_extensions(struct dt *dt, const char *path, const struct riscv_features *f)
{
    g_auto(GStrv) list = riscv_isa_list(f);
    g_autoptr(GString) all = g_string_new(NULL);

    for (unsigned n = 0; list[n]; n++)
        g_string_append_len(all, list[n], (gssize)strlen(list[n]) + 1);
    dt_bytes(dt, path, "riscv,isa-extensions", all->str, all->len);
}

static void add_cpu(struct rvirt *v, struct dt *dt, unsigned i)
{
    const struct riscv_features *f = features(v);
    g_autofree char *path = cpu_path(v->vm, i), *intc = intc_path(i), *isa = riscv_isa_string(f);
    uint32_t block = riscv_cbo_bytes(v->vm->vcpus[i]->cpu);

    dt_node(dt, path);
    dt_node(dt, intc);
    DT_CELLS(dt, intc, "#interrupt-cells", 1);
    dt_flag(dt, intc, "interrupt-controller");
    dt_string(dt, intc, "compatible", "riscv,cpu-intc");
    dt_phandle(dt, intc);
    dt_string(dt, path, "device_type", "cpu");
    DT_CELLS(dt, path, "reg", i);
    dt_string(dt, path, "status", "okay");
    dt_string(dt, path, "compatible", "riscv");
    if (RISCV_HAS(f, Zicbom))
        DT_CELLS(dt, path, "riscv,cbom-block-size", block);
    if (RISCV_HAS(f, Zicbop))
        DT_CELLS(dt, path, "riscv,cbop-block-size", block);
    if (RISCV_HAS(f, Zicboz))
        DT_CELLS(dt, path, "riscv,cboz-block-size", block);
    isa_extensions(dt, path, f);
    dt_string(dt, path, "riscv,isa-base", v->wide ? "rv64i" : "rv32i");
    dt_string(dt, path, "riscv,isa", isa);
    dt_string(dt, path, "mmu-type", mmu_type(f));
}

static void add_cpus(struct rvirt *v, struct dt *dt)
{
    dt_node(dt, "/cpus");
    DT_CELLS(dt, "/cpus", "#address-cells", 1);
    DT_CELLS(dt, "/cpus", "#size-cells", 0);
    DT_CELLS(dt, "/cpus", "timebase-frequency", RVIRT_TIMEBASE);
    for (unsigned i = v->vm->nvcpus; i-- > 0;)
        add_cpu(v, dt, i);
    dt_cpu_map(dt, v->vm, cpu_path);
}

/* ---- interrupts: for each hart its controller and the line there, once or twice */

static void local_interrupts(struct rvirt *v, struct dt *dt, const char *path, const uint32_t *lines, unsigned nlines)
{
    g_autoptr(GArray) cells = g_array_new(FALSE, FALSE, 4);

    for (unsigned i = 0; i < v->vm->nvcpus; i++) {
        g_autofree char *intc = intc_path(i);
        uint32_t h = dt_phandle(dt, intc);

        for (unsigned n = 0; n < nlines; n++) {
            g_array_append_val(cells, h);
            g_array_append_val(cells, lines[n]);
        }
    }
    dt_cells(dt, path, "interrupts-extended", (const uint32_t *)cells->data, cells->len);
}

static void add_plic(struct rvirt *v, struct dt *dt)
{
    static const uint32_t lines[] = { IRQ_M_EXT, IRQ_S_EXT };

    dt_node(dt, plic_path);
    DT_CELLS(dt, plic_path, "riscv,ndev", RVIRT_SOURCES - 1);
    DT_CELLS(dt, plic_path, "reg", DT_64(RVIRT_PLIC), DT_64(RVIRT_PLIC_SIZE));
    local_interrupts(v, dt, plic_path, lines, 2);
    dt_flag(dt, plic_path, "interrupt-controller");
    dt_strings(dt, plic_path, "compatible", "sifive,plic-1.0.0", "riscv,plic0", NULL);
    DT_CELLS(dt, plic_path, "#address-cells", 0);
    DT_CELLS(dt, plic_path, "#interrupt-cells", 1);
    dt_phandle(dt, plic_path);
}

static void add_clint(struct rvirt *v, struct dt *dt)
{
    static const char path[] = SOC "/clint@2000000";
    static const uint32_t lines[] = { IRQ_M_SOFT, IRQ_M_TIMER };

    dt_node(dt, path);
    local_interrupts(v, dt, path, lines, 2);
    DT_CELLS(dt, path, "reg", DT_64(RVIRT_CLINT), DT_64(RVIRT_CLINT_SIZE));
    dt_strings(dt, path, "compatible", "sifive,clint0", "riscv,clint0", NULL);
}

static void add_swi(struct rvirt *v, struct dt *dt, const char *path, const char *compatible, uint64_t base, uint32_t line)
{
    dt_node(dt, path);
    dt_flag(dt, path, "interrupt-controller");
    DT_CELLS(dt, path, "#interrupt-cells", 0);
    local_interrupts(v, dt, path, &line, 1);
    DT_CELLS(dt, path, "reg", DT_64(base), DT_64(RVIRT_SWI_SIZE));
    dt_string(dt, path, "compatible", compatible);
}

/* The comparators come first in the device's registers, in the node the time does. */
static void add_aclint(struct rvirt *v, struct dt *dt)
{
    static const char path[] = SOC "/mtimer@2004000";
    static const uint32_t line = IRQ_M_TIMER;
    uint64_t base = RVIRT_CLINT + RVIRT_SWI_SIZE, compare = RVIRT_MTIMER_SIZE - 8;

    add_swi(v, dt, SOC "/sswi@2f00000", "riscv,aclint-sswi", RVIRT_SSWI, IRQ_S_SOFT);
    dt_node(dt, path);
    local_interrupts(v, dt, path, &line, 1);
    DT_CELLS(dt, path, "reg", DT_64(base + compare), DT_64(8), DT_64(base), DT_64(compare));
    dt_string(dt, path, "compatible", "riscv,aclint-mtimer");
    add_swi(v, dt, SOC "/mswi@2000000", "riscv,aclint-mswi", RVIRT_CLINT, IRQ_M_SOFT);
}

static struct dt_irq source(struct dt *dt, unsigned n)
{
    return (struct dt_irq){ .parent = dt_phandle(dt, plic_path), .cells = { n }, .n = 1 };
}

/* What firmware (SBI's PMU extension) needs to know of the counters: which counter counts what, and the selector of that event.
 * OpenSBI, docs/pmu_support.md. Events are numbered as in the SBI: the fixed counters 0 and 2 count these two as well. */
static void add_pmu(struct rvirt *v, struct dt *dt)
{
    enum { CYCLES = 1, INSTRUCTIONS = 2 };
    uint32_t programmable = riscv_hpm_counters(v->vm->vcpus[0]->cpu);

    if (!programmable)
        return;
    dt_node(dt, "/pmu");
    DT_CELLS(dt, "/pmu", "riscv,event-to-mhpmcounters", CYCLES, CYCLES, programmable | 1, INSTRUCTIONS, INSTRUCTIONS, programmable | 4);
    DT_CELLS(dt, "/pmu", "riscv,event-to-mhpmevent", CYCLES, DT_64(CYCLES), INSTRUCTIONS, DT_64(INSTRUCTIONS));
    dt_string(dt, "/pmu", "compatible", "riscv,pmu");
}

/* ---- devices */

static void add_virtio(struct dt *dt)
{
    for (unsigned i = 0; i < RVIRT_SLOTS; i++) {
        uint64_t base = RVIRT_VIRTIO + (uint64_t)i * RVIRT_VIRTIO_SIZE;
        struct dt_irq irq = source(dt, RVIRT_IRQ_VIRTIO + i);
        DT_PATH(path, SOC "/virtio_mmio@%" G_GINT64_MODIFIER "x", base);

        dt_node(dt, path);
        dt_interrupt(dt, path, &irq);
        DT_CELLS(dt, path, "reg", DT_64(base), DT_64(RVIRT_VIRTIO_SIZE));
        dt_string(dt, path, "compatible", "virtio,mmio");
    }
}

static void add_pcie(struct rvirt *v, struct dt *dt)
{
    struct dt_pcie p = { .path = SOC "/pci@30000000", .windows = &v->windows, .parent_address_cells = 0 };

    for (unsigned i = 0; i < 4; i++)
        p.irq[i] = source(dt, RVIRT_IRQ_PCIE + i);
    dt_pcie(dt, &p);
}

static void add_uart(struct dt *dt)
{
    struct dt_irq irq = source(dt, RVIRT_IRQ_UART);

    dt_node(dt, uart_path);
    dt_interrupt(dt, uart_path, &irq);
    DT_CELLS(dt, uart_path, "clock-frequency", RVIRT_UART_CLOCK);
    DT_CELLS(dt, uart_path, "reg", DT_64(RVIRT_UART), DT_64(RVIRT_UART_SIZE));
    dt_string(dt, uart_path, "compatible", "ns16550a");
    dt_node(dt, "/aliases");
    dt_string(dt, "/aliases", "serial0", uart_path);
}

static void add_rtc(struct dt *dt)
{
    static const char path[] = SOC "/rtc@101000";
    struct dt_irq irq = source(dt, RVIRT_IRQ_RTC);

    dt_node(dt, path);
    dt_interrupt(dt, path, &irq);
    DT_CELLS(dt, path, "reg", DT_64(RVIRT_RTC), DT_64(0x1000));
    dt_string(dt, path, "compatible", "google,goldfish-rtc");
}

static void add_syscon(struct dt *dt, const char *path, const char *compatible, uint32_t value, uint32_t regmap)
{
    dt_node(dt, path);
    DT_CELLS(dt, path, "value", value);
    DT_CELLS(dt, path, "offset", 0);
    DT_CELLS(dt, path, "regmap", regmap);
    dt_string(dt, path, "compatible", compatible);
}

static void add_test(struct dt *dt)
{
    dt_node(dt, test_path);
    DT_CELLS(dt, test_path, "reg", DT_64(RVIRT_TEST), DT_64(0x1000));
    dt_strings(dt, test_path, "compatible", "sifive,test1", "sifive,test0", "syscon", NULL);
    add_syscon(dt, "/reboot", "syscon-reboot", 0x7777, dt_phandle(dt, test_path));
    add_syscon(dt, "/poweroff", "syscon-poweroff", 0x5555, dt_phandle(dt, test_path));
}

static void add_fw_cfg(struct dt *dt)
{
    static const char path[] = "/fw-cfg@10100000";

    dt_node(dt, path);
    dt_flag(dt, path, "dma-coherent");
    DT_CELLS(dt, path, "reg", DT_64(RVIRT_FW_CFG), DT_64(0x18));
    dt_string(dt, path, "compatible", "qemu,fw-cfg-mmio");
}

static void add_flash(struct dt *dt)
{
    static const char path[] = "/flash@20000000";

    dt_node(dt, path);
    DT_CELLS(dt, path, "bank-width", 4);
    DT_CELLS(dt, path, "reg", DT_64(RVIRT_FLASH), DT_64(RVIRT_FLASH_BANK), DT_64(RVIRT_FLASH + RVIRT_FLASH_BANK), DT_64(RVIRT_FLASH_BANK));
    dt_string(dt, path, "compatible", "cfi-flash");
}

static struct dt *build(struct rvirt *v)
{
    struct dt *dt = dt_new();

    dt_string(dt, "/", "model", "riscv-virtio,qemu");
    dt_string(dt, "/", "compatible", "riscv-virtio");
    DT_CELLS(dt, "/", "#address-cells", 2);
    DT_CELLS(dt, "/", "#size-cells", 2);
    dt_node(dt, SOC);
    dt_string(dt, SOC, "compatible", "simple-bus");
    DT_CELLS(dt, SOC, "#address-cells", 2);
    DT_CELLS(dt, SOC, "#size-cells", 2);
    dt_flag(dt, SOC, "ranges");
    add_cpus(v, dt);
    if (v->aclint)
        add_aclint(v, dt);
    else
        add_clint(v, dt);
    add_plic(v, dt);
    add_virtio(dt);
    add_pcie(v, dt);
    add_test(dt);
    add_uart(dt);
    add_rtc(dt);
    add_fw_cfg(dt);
    add_pmu(v, dt);
    add_flash(dt);
    return dt;
}

bool rvirt_describe(struct rvirt *v, struct error *err)
{
    struct vm *vm = v->vm;
    struct dt_chosen chosen = { .stdout_path = uart_path, .initrd = v->initrd, .initrd_size = v->initrd_size, .seeds = true };
    struct dt *dt = vm->config.dtb ? dt_load(vm->config.dtb, err) : build(v);

    if (!dt)
        return false;
    if (vm->config.dtb)
        chosen.stdout_path = NULL;
    dt_memory(dt, RVIRT_RAM, vm->config.ram_size);
    dt_chosen(dt, vm, &chosen);
    g_free(v->dtb);
    v->dtb = dt_finish(dt, &v->dtb_len, err);
    dt_free(dt);
    return v->dtb;
}
