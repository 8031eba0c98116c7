/* What the RISC-V virt board tells an ACPI guest. ACPI 6.6 (MADT's RINTC and PLIC, RHCT); RISC-V BRS (which tables, and the
 * _HIDs of interrupt controllers and serial ports). Interrupt numbers are the PLIC's sources. */
#include <string.h>
#include "board/acpi.h"
#include "virt.h"

enum { UART_SPCR = 0, UART_DBG2 = 0, IRQ_RISCV = 16 };
enum { CONTEXTS_PER_HART = 2, PRIORITY_MAX = 7 };

static const struct acpi_uart uart = { .spcr_type = UART_SPCR, .dbg2_type = UART_DBG2, .bits = 8, .access = 1, .irq_type = IRQ_RISCV,
                                       .gsi = RVIRT_IRQ_UART, .base = RVIRT_UART, .size = RVIRT_UART_SIZE, .path = "\\_SB.COM0" };

/* ---- MADT: a RINTC for each hart, which names its supervisor context of the PLIC; the PLIC */

static void add_madt(struct rvirt *v, struct acpi_image *img)
{
    enum { RINTC = 0x18, PLIC = 0x1b, LENGTH = 36, ENABLED = 1 };
    unsigned at = acpi_begin(img, "APIC", 7);

    acpi_zeros(img, 8);                 /* no local APIC, no 8259 */
    for (unsigned i = 0; i < v->vm->nvcpus; i++) {
        acpi_put(img, RINTC | LENGTH << 8 | 1 << 16, 4);
        acpi_put(img, ENABLED, 4);
        acpi_put(img, i, 8);            /* hart */
        acpi_put(img, i, 4);            /* ACPI's number of it */
        acpi_put(img, i * CONTEXTS_PER_HART + 1, 4);
        acpi_zeros(img, 12);            /* no IMSIC */
    }
    acpi_put(img, PLIC | LENGTH << 8 | 1 << 16, 4);     /* PLIC 0 */
    acpi_zeros(img, 8);                 /* hardware id */
    acpi_put(img, RVIRT_SOURCES - 1, 2);
    acpi_put(img, PRIORITY_MAX, 2);
    acpi_put(img, 0, 4);
    acpi_put(img, RVIRT_PLIC_SIZE, 4);
    acpi_put(img, RVIRT_PLIC, 8);
    acpi_put(img, 0, 4);                /* its first interrupt's number, less 0 */
    acpi_end(img, at);
}

/* ---- RHCT: what the harts can, which is the same for all */

enum { NODE_ISA = 0, NODE_CMO = 1, NODE_MMU = 2, NODE_HART = 0xffff };

static unsigned node_begin(struct acpi_image *img, unsigned type)
{
    unsigned at = img->tables->len;

    acpi_put(img, type, 2);
    acpi_put(img, 0, 2);
    acpi_put(img, 1, 2);                /* revision */
    return at;
}

static void node_end(struct acpi_image *img, unsigned at)
{
    if (img->tables->len & 1)
        acpi_zeros(img, 1);
    acpi_set(img, at + 2, img->tables->len - at, 2);
}

static void isa_node(struct acpi_image *img, const struct riscv_features *f)
{
    unsigned at = node_begin(img, NODE_ISA);
    g_autofree char *isa = riscv_isa_string(f);
    unsigned len = (unsigned)strlen(isa) + 1;

    acpi_put(img, len, 2);
    acpi_text(img, isa, len);
    node_end(img, at);
}

static void cache_node(struct acpi_image *img, const struct cpu *cpu, const struct riscv_features *f)
{
    unsigned at = node_begin(img, NODE_CMO), log2 = (unsigned)g_bit_nth_lsf(riscv_cbo_bytes(cpu), -1);

    acpi_put(img, 0, 1);
    acpi_put(img, RISCV_HAS(f, Zicbom) ? log2 : 0, 1);
    acpi_put(img, RISCV_HAS(f, Zicbop) ? log2 : 0, 1);
    acpi_put(img, RISCV_HAS(f, Zicboz) ? log2 : 0, 1);
    node_end(img, at);
}

static void mmu_node(struct acpi_image *img, const struct riscv_features *f)
{
    unsigned at = node_begin(img, NODE_MMU);

    acpi_put(img, 0, 1);
    acpi_put(img, RISCV_HAS(f, Sv57) ? 2 : RISCV_HAS(f, Sv48) ? 1 : 0, 1);
    node_end(img, at);
}

static void add_rhct(struct rvirt *v, struct acpi_image *img)
{
    enum { NODES_AT = 56, SHARED_MAX = 3 };
    const struct cpu *cpu = v->vm->vcpus[0]->cpu;
    const struct riscv_features *f = &((const struct riscv_cpu *)cpu)->features;
    unsigned at = acpi_begin(img, "RHCT", 1), shared[SHARED_MAX], n = 0;
    bool blocks = RISCV_HAS(f, Zicbom) || RISCV_HAS(f, Zicbop) || RISCV_HAS(f, Zicboz);

    acpi_put(img, 0, 4);                /* timer interrupts wake harts */
    acpi_put(img, RVIRT_TIMEBASE, 8);
    acpi_put(img, 0, 4);                /* nodes, set below */
    acpi_put(img, NODES_AT, 4);
    shared[n++] = img->tables->len - at;
    isa_node(img, f);
    if (blocks) {
        shared[n++] = img->tables->len - at;
        cache_node(img, cpu, f);
    }
    if (RISCV_HAS(f, Sv39)) {
        shared[n++] = img->tables->len - at;
        mmu_node(img, f);
    }
    for (unsigned i = 0; i < v->vm->nvcpus; i++) {
        unsigned node = node_begin(img, NODE_HART);

        acpi_put(img, n, 2);
        acpi_put(img, i, 4);
        for (unsigned k = 0; k < n; k++)
            acpi_put(img, shared[k], 4);
        node_end(img, node);
    }
    acpi_set(img, at + 48, n + v->vm->nvcpus, 4);
    acpi_end(img, at);
}

/* ---- DSDT */

static void plic_device(struct aml *a)
{
    aml_device(a, "IC00");
    aml_name_string(a, "_HID", "RSCV0001");
    aml_name_int(a, "_UID", 0);
    aml_name_int(a, "_GSB", 0);         /* as in the MADT */
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_memory32(a, true, RVIRT_PLIC, RVIRT_PLIC_SIZE);
    aml_resources_end(a);
    aml_end(a);
}

/* A 16550; its clock is a property (device properties by _DSD, UUID of the "_DSD Implementation Guide"). */
static void uart_device(struct aml *a)
{
    aml_device(a, "COM0");
    aml_name_string(a, "_HID", "RSCV0003");
    aml_name_int(a, "_UID", 0);
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_memory32(a, true, RVIRT_UART, RVIRT_UART_SIZE);
    aml_interrupt_level(a, RVIRT_IRQ_UART);
    aml_resources_end(a);
    aml_name(a, "_DSD");
    aml_package(a, 2);
    aml_uuid(a, "DAFFD814-6EBA-4D8C-8A91-BC9BBF4AA301");
    aml_package(a, 1);
    aml_package(a, 2);
    aml_string(a, "clock-frequency");
    aml_int(a, RVIRT_UART_CLOCK);
    aml_end(a);
    aml_end(a);
    aml_end(a);
    aml_end(a);
}

static void build_dsdt(struct rvirt *v, struct aml *a)
{
    static const uint32_t pins[4] = { RVIRT_IRQ_PCIE, RVIRT_IRQ_PCIE + 1, RVIRT_IRQ_PCIE + 2, RVIRT_IRQ_PCIE + 3 };

    aml_init(a);
    aml_scope(a, "\\_SB");
    dsdt_processors(a, v->vm);
    plic_device(a);
    uart_device(a);
    for (unsigned i = 0; i < 2; i++)
        dsdt_flash(a, i, RVIRT_FLASH + i * RVIRT_FLASH_BANK, RVIRT_FLASH_BANK);
    dsdt_fw_cfg(a, RVIRT_FW_CFG);
    for (unsigned i = 0; i < RVIRT_SLOTS; i++)
        dsdt_virtio_mmio(a, i, RVIRT_VIRTIO + i * RVIRT_VIRTIO_SIZE, RVIRT_VIRTIO_SIZE, RVIRT_IRQ_VIRTIO + i);
    dsdt_gpex(a, &v->windows, pins);
    dsdt_ged(a, RVIRT_GED, RVIRT_IRQ_GED);
    aml_end(a);
}

void rvirt_acpi(struct rvirt *v, struct acpi_image *img)
{
    static const struct acpi_caches none;
    struct aml a;

    acpi_init(img);
    build_dsdt(v, &a);
    acpi_fadt_reduced(img, acpi_dsdt(img, &a), 0);
    add_madt(v, img);
    add_rhct(v, img);
    acpi_pptt(img, v->vm, &none);
    acpi_mcfg(img, v->windows.ecam_base, v->windows.ecam_size);
    acpi_spcr(img, &uart);
    acpi_dbg2(img, &uart);
    acpi_finish(img, false);
}
