/* What the virt board tells an ACPI guest. ACPI 6.3 (tables), Arm DEN0049E (IORT), DEN0094 (BBR: which tables there are). */
#include "board/acpi.h"
#include "virt.h"

enum { PL011_SPCR = 3, PL011_DBG2 = 3, IRQ_GIC = 8, SPI_FIRST = 32, PPI_FIRST = 16 };
enum { PSCI_COMPLIANT = 1, PSCI_USE_HVC = 2 };

static const struct acpi_uart uart = { .spcr_type = PL011_SPCR, .dbg2_type = PL011_DBG2, .bits = 32, .access = 3, .irq_type = IRQ_GIC,
                                       .gsi = SPI_FIRST + SPI_UART, .base = VIRT_UART, .size = 0x1000, .path = "\\_SB.COM0" };

/* ---- MADT (5.2.12): GICC for each CPU, GICD, then what MSIs need */

static void madt_cpu(struct virt *v, struct acpi_image *img, unsigned i)
{
    const struct arm_cpu *cpu = arm(v->vm->vcpus[i]->cpu);
    bool v2 = v->gic_version == 2, hyp = v->virtualization;

    acpi_put(img, 0x0b | 80 << 8, 4);
    acpi_put(img, i, 4);                /* CPU interface number, then the processor's id */
    acpi_put(img, i, 4);
    acpi_put(img, 1, 4);                /* enabled; interrupts are level */
    acpi_put(img, 0, 4);
    acpi_put(img, arm_has(&cpu->features, AF_PMU) ? PPI_FIRST + PPI_PMU : 0, 4);
    acpi_put(img, 0, 8);                /* no parking: PSCI */
    acpi_put(img, v2 ? VIRT_GIC_CPU : 0, 8);
    acpi_put(img, v2 && hyp ? VIRT_GIC_VCPU : 0, 8);
    acpi_put(img, v2 && hyp ? VIRT_GIC_HYP : 0, 8);
    acpi_put(img, hyp ? PPI_FIRST + PPI_MAINTENANCE : 0, 4);
    acpi_put(img, 0, 8);                /* redistributors: in GICR structures */
    acpi_put(img, virt_affinity(v, i), 8);
    acpi_put(img, 0, 4);                /* efficiency class; no SPE */
}

static void madt_redist(struct acpi_image *img, uint64_t base, uint64_t len)
{
    acpi_put(img, 0x0e | 16 << 8, 4);
    acpi_put(img, base, 8);
    acpi_put(img, len, 4);
}

static void madt_gicv3(struct virt *v, struct acpi_image *img)
{
    uint64_t low = VIRT_UART - VIRT_GIC_REDIST, need = (uint64_t)v->vm->nvcpus * 0x20000;

    madt_redist(img, VIRT_GIC_REDIST, low);
    if (need > low)
        madt_redist(img, v->redist2, v->redist2_size);
    if (!v->its)
        return;
    acpi_put(img, 0x0f | 20 << 8, 4);
    acpi_put(img, 0, 4);                /* its id, which the IORT names */
    acpi_put(img, VIRT_GIC_ITS, 8);
    acpi_put(img, 0, 4);
}

static void madt_v2m(struct acpi_image *img)
{
    acpi_put(img, 0x0d | 24 << 8, 4);
    acpi_put(img, 0, 4);
    acpi_put(img, VIRT_GIC_V2M, 8);
    acpi_put(img, 1, 4);                /* count and base are these */
    acpi_put(img, V2M_SPIS, 2);
    acpi_put(img, SPI_FIRST + SPI_V2M, 2);
}

static void add_madt(struct virt *v, struct acpi_image *img)
{
    unsigned at = acpi_begin(img, "APIC", 5);

    acpi_zeros(img, 8);                 /* no local APIC, no 8259 */
    acpi_put(img, 0x0c | 24 << 8, 4);
    acpi_put(img, 0, 4);
    acpi_put(img, VIRT_GIC_DIST, 8);
    acpi_put(img, 0, 4);
    acpi_put(img, v->gic_version, 4);
    for (unsigned i = 0; i < v->vm->nvcpus; i++)
        madt_cpu(v, img, i);
    if (v->gic_version != 2)
        madt_gicv3(v, img);
    else if (v->v2m)
        madt_v2m(img);
    acpi_end(img, at);
}

/* ---- GTDT (5.2.25): level, active high, counting in every power state */

static void gtdt_timer(struct acpi_image *img, unsigned ppi)
{
    enum { ALWAYS_ON = 4 };

    acpi_put(img, ppi ? PPI_FIRST + ppi : 0, 4);
    acpi_put(img, ppi ? ALWAYS_ON : 0, 4);
}

static void add_gtdt(struct virt *v, struct acpi_image *img)
{
    unsigned at = acpi_begin(img, "GTDT", 3);

    acpi_put(img, UINT64_MAX, 8);       /* no memory-mapped counter */
    acpi_put(img, 0, 4);
    gtdt_timer(img, PPI_SECURE_TIMER);
    gtdt_timer(img, PPI_PHYS_TIMER);
    gtdt_timer(img, PPI_VIRT_TIMER);
    gtdt_timer(img, PPI_HYP_TIMER);
    acpi_put(img, UINT64_MAX, 8);
    acpi_put(img, 0, 4);                /* platform timers */
    acpi_put(img, 0, 4);
    gtdt_timer(img, v->virtualization && arm_has(&arm(v->vm->vcpus[0]->cpu)->features, AF_VHE) ? PPI_HYPVIRT_TIMER : 0);
    acpi_end(img, at);
}

/* ---- IORT: requester ids of the root complex go to the ITS as they are */

static void add_iort(struct acpi_image *img)
{
    enum { ITS_AT = 48, ROOT_LEN = 36, COHERENT = 1, CPM_DACS = 3, ADDRESS_BITS = 64 };
    unsigned at = acpi_begin(img, "IORT", 3);

    acpi_put(img, 2, 4);                /* nodes, from 48 on */
    acpi_put(img, ITS_AT, 4);
    acpi_put(img, 0, 4);
    acpi_put(img, 0 | 24 << 8 | 1 << 24, 4);    /* ITS group: one, with id 0 */
    acpi_put(img, 0, 4);
    acpi_zeros(img, 8);
    acpi_put(img, 1, 4);
    acpi_put(img, 0, 4);
    acpi_put(img, 2 | (ROOT_LEN + 20) << 8 | 3u << 24, 4);      /* root complex, one mapping behind it */
    acpi_put(img, 1, 4);
    acpi_put(img, 1, 4);
    acpi_put(img, ROOT_LEN, 4);
    acpi_put(img, COHERENT, 4);
    acpi_put(img, (uint32_t)CPM_DACS << 24, 4);
    acpi_put(img, 0, 4);                /* no ATS */
    acpi_put(img, 0, 4);                /* segment */
    acpi_put(img, ADDRESS_BITS, 4);
    acpi_put(img, 0, 4);                /* mapping: ids 0 to FFFFh */
    acpi_put(img, 0xffff, 4);
    acpi_put(img, 0, 4);
    acpi_put(img, ITS_AT, 4);
    acpi_put(img, 0, 4);
    acpi_end(img, at);
}

/* ---- DSDT */

static void build_dsdt(struct virt *v, struct aml *a)
{
    uint32_t gsi[4];

    for (unsigned i = 0; i < 4; i++)
        gsi[i] = SPI_FIRST + SPI_PCIE + i;
    aml_init(a);
    aml_scope(a, "\\_SB");
    dsdt_processors(a, v->vm);
    dsdt_uart(a, "ARMH0011", 0, VIRT_UART, 0x1000, SPI_FIRST + SPI_UART);
    for (unsigned i = 0; i < 2 && v->flash[0]; i++)
        dsdt_flash(a, i, VIRT_FLASH + i * VIRT_FLASH_BANK, VIRT_FLASH_BANK);
    dsdt_fw_cfg(a, VIRT_FW_CFG);
    for (unsigned i = 0; i < VIRT_SLOTS; i++)
        dsdt_virtio_mmio(a, i, VIRT_VIRTIO + i * VIRT_VIRTIO_SIZE, VIRT_VIRTIO_SIZE, SPI_FIRST + SPI_VIRTIO + i);
    dsdt_gpex(a, &v->windows, gsi);
    dsdt_ged(a, VIRT_GED, SPI_FIRST + SPI_GED);
    aml_end(a);
}

/* CCSIDR as caches' tables have it (D19.2.26): level 1 data, instruction, level 2. */
static struct acpi_cache cache_of(struct virt *v, unsigned csselr)
{
    uint32_t c = (uint32_t)arm_ccsidr(arm(v->vm->vcpus[0]->cpu), csselr);
    struct acpi_cache cache = { .sets = (c >> 13 & 0x7fff) + 1, .ways = (uint8_t)((c >> 3 & 0x3ff) + 1), .line = (uint16_t)(16u << (c & 7)) };

    if (c)
        cache.size = cache.sets * cache.ways * cache.line;
    return cache;
}

void virt_acpi(struct virt *v, struct acpi_image *img)
{
    static const uint16_t boot[] = { [ARM_PSCI_NONE] = 0, [ARM_PSCI_SMC] = PSCI_COMPLIANT, [ARM_PSCI_HVC] = PSCI_COMPLIANT | PSCI_USE_HVC };
    const struct acpi_caches caches = { .l1d = cache_of(v, 0), .l1i = cache_of(v, 1), .l2 = cache_of(v, 2) };
    struct aml a;

    acpi_init(img);
    build_dsdt(v, &a);
    acpi_fadt_reduced(img, acpi_dsdt(img, &a), boot[v->psci]);
    add_madt(v, img);
    acpi_pptt(img, v->vm, &caches);
    add_gtdt(v, img);
    acpi_mcfg(img, v->windows.ecam_base, v->windows.ecam_size);
    acpi_spcr(img, &uart);
    acpi_dbg2(img, &uart);
    if (v->its)
        add_iort(img);
    acpi_finish(img, false);
}
