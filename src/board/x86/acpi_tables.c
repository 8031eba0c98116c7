/* ACPI tables (ACPI 6.5, chapter 5): FADT, MADT, HPET, WAET of a PC. DSDT: dsdt.c. */
#include <string.h>
#include "acpi_tables.h"
#include "dsdt.h"
#include "rhea/device/acpi_pm.h"

/* ---- the tables */

/* 5.2.12 */
static void build_madt(struct x86_machine *m, struct acpi_image *img)
{
    unsigned at = acpi_begin(img, "APIC", 4);
    bool wide = false;

    acpi_put(img, X86_APIC_BASE, 4);
    acpi_put(img, m->has_pic ? 1 : 0, 4);      /* PCAT_COMPAT */
    for (unsigned i = 0; i < m->vm->nvcpus; i++) {
        uint32_t id = m->vm->vcpus[i]->arch_id;

        wide |= id > 254 || i > 254;
        if (id < 255 && i < 255) {
            acpi_put(img, 0 | 8 << 8 | i << 16 | id << 24, 4); /* local APIC: type, length, processor, APIC id */
            acpi_put(img, 1, 4);
        } else {
            acpi_put(img, 9 | 16 << 8, 4);     /* x2APIC */
            acpi_put(img, id, 4);
            acpi_put(img, 1, 4);
            acpi_put(img, i, 4);
        }
    }
    acpi_put(img, 1 | 12 << 8 | 0 << 16, 4);   /* I/O APIC 0 */
    acpi_put(img, X86_IOAPIC_BASE, 4);
    acpi_put(img, 0, 4);
    acpi_put(img, 2 | 10 << 8 | 0 << 16 | 0 << 24, 4);         /* ISA IRQ 0 is GSI 2 */
    acpi_put(img, 2, 4);
    acpi_put(img, 0, 2);
    acpi_put(img, 2 | 10 << 8 | 0 << 16 | (uint32_t)ACPI_SCI << 24, 4);
    acpi_put(img, ACPI_SCI, 4);
    acpi_put(img, 0xd, 2);                     /* level, active high */
    acpi_put(img, 4 | 6 << 8 | 0xff << 16, 3); /* NMI on LINT1 of all */
    acpi_put(img, 0, 2);
    acpi_put(img, 1, 1);
    if (wide) {
        acpi_put(img, 10 | 12 << 8, 4);
        acpi_put(img, 0xffffffff, 4);
        acpi_put(img, 1, 4);
    }
    acpi_end(img, at);
}

enum { FADT_WBINVD = 1, FADT_PROC_C1 = 4, FADT_SLP_BUTTON = 1 << 5, FADT_FIX_RTC = 1 << 6, FADT_RESET = 1 << 10,
       BOOT_LEGACY = 1, BOOT_8042 = 2, BOOT_NO_VGA = 4, BOOT_NO_RTC = 0x20 };

/* 5.2.9 */
static void build_fadt(struct x86_machine *m, const struct acpi_config *c, struct acpi_image *img, unsigned facs, unsigned dsdt)
{
    unsigned at = acpi_begin(img, "FACP", 6);

    acpi_address(img, facs, 4);
    acpi_address(img, dsdt, 4);
    acpi_put(img, 0, 1);
    acpi_put(img, 0, 1);                       /* preferred profile: unspecified */
    acpi_put(img, ACPI_SCI, 2);
    acpi_put(img, c->pci ? 0xb2 : 0, 4);       /* SMI command port: no other than ACPI mode */
    acpi_put(img, c->pci ? ACPI_ENABLE_COMMAND : 0, 1);
    acpi_put(img, c->pci ? ACPI_DISABLE_COMMAND : 0, 1);
    acpi_zeros(img, 2);
    acpi_put(img, ACPI_PM_BASE, 4);            /* PM1a event */
    acpi_put(img, 0, 4);
    acpi_put(img, ACPI_PM_BASE + 4, 4);        /* PM1a control */
    acpi_zeros(img, 8);
    acpi_put(img, ACPI_PM_BASE + 8, 4);        /* PM timer */
    acpi_put(img, ACPI_PM_BASE + 0x20, 4);     /* GPE0 */
    acpi_put(img, 0, 4);
    acpi_put(img, 4, 1);
    acpi_put(img, 2, 1);
    acpi_put(img, 0, 1);
    acpi_put(img, 4, 1);
    acpi_put(img, 16, 1);
    acpi_zeros(img, 3);
    acpi_put(img, 0xfff, 2);                   /* no C2, C3 */
    acpi_put(img, 0xfff, 2);
    acpi_zeros(img, 4);
    acpi_zeros(img, 4);                        /* duty, alarms */
    acpi_put(img, m->has_rtc ? 0x32 : 0, 1);   /* century */
    acpi_put(img, BOOT_LEGACY | (c->i8042 ? BOOT_8042 : 0) | (c->vga ? 0 : BOOT_NO_VGA) | (m->has_rtc ? 0 : BOOT_NO_RTC), 2);
    acpi_put(img, 0, 1);
    acpi_put(img, FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC | (c->reset_port ? FADT_RESET : 0), 4);
    acpi_gas(img, 1, 8, 1, c->reset_port);
    acpi_put(img, c->reset_value, 1);
    acpi_put(img, 0, 2);
    acpi_put(img, 5, 1);                       /* minor version */
    acpi_address(img, facs, 8);
    acpi_address(img, dsdt, 8);
    acpi_gas(img, 1, 32, 0, ACPI_PM_BASE);
    acpi_gas(img, 0, 0, 0, 0);
    acpi_gas(img, 1, 16, 0, ACPI_PM_BASE + 4);
    acpi_gas(img, 0, 0, 0, 0);
    acpi_gas(img, 0, 0, 0, 0);
    acpi_gas(img, 1, 32, 0, ACPI_PM_BASE + 8);
    acpi_gas(img, 1, 128, 0, ACPI_PM_BASE + 0x20);
    acpi_gas(img, 0, 0, 0, 0);
    acpi_gas(img, 0, 0, 0, 0);                 /* sleep control, status */
    acpi_gas(img, 0, 0, 0, 0);
    acpi_put(img, 0, 8);                       /* hypervisor vendor */
    acpi_end(img, at);
}

/* IA-PC HPET 1.0a, 3.2.4 */
static void build_hpet(struct acpi_image *img)
{
    unsigned at = acpi_begin(img, "HPET", 1);

    acpi_put(img, 0x8086a201, 4);
    acpi_gas(img, 0, 0, 0, X86_HPET_BASE);
    acpi_put(img, 0, 1);
    acpi_put(img, 0, 2);
    acpi_put(img, 0, 1);
    acpi_end(img, at);
}

/* Windows ACPI Emulated Devices Table: the PM timer needs to be read once only. */
static void build_waet(struct acpi_image *img)
{
    unsigned at = acpi_begin(img, "WAET", 1);

    acpi_put(img, 2, 4);
    acpi_end(img, at);
}

void x86_acpi_build(struct x86_machine *m, const struct acpi_config *c, struct acpi_image *img)
{
    struct aml a;
    unsigned facs, dsdt;

    acpi_init(img);
    facs = acpi_facs(img);
    dsdt_build(&a, m, c);
    dsdt = acpi_dsdt(img, &a);
    build_fadt(m, c, img, facs, dsdt);
    build_madt(m, img);
    if (c->ecam)
        acpi_mcfg(img, c->ecam, c->ecam_size);
    if (m->has_hpet)
        build_hpet(img);
    build_waet(img);
    acpi_finish(img, true);
}

/* ---- in memory, without firmware */

bool acpi_place(struct x86_machine *m, const struct acpi_config *c, struct error *err)
{
    enum { RSDP_ROOM = 64 };
    struct acpi_image img;
    unsigned len;

    x86_acpi_build(m, c, &img);
    len = img.tables->len;
    if (len > ACPI_TABLES_MAX - RSDP_ROOM) {
        acpi_free(&img);
        return error_setf(err, ERR_GENERIC, "use fewer CPUs", "the ACPI tables are too large: %u bytes", len);
    }
    acpi_relocate(&img, ACPI_TABLES_ADDR + RSDP_ROOM);
    x86_blob(m, ACPI_TABLES_ADDR, g_memdup2(img.rsdp, sizeof(img.rsdp)), sizeof(img.rsdp));
    x86_blob(m, ACPI_TABLES_ADDR + RSDP_ROOM, g_memdup2(img.tables->data, len), len);
    m->rsdp = ACPI_TABLES_ADDR;
    acpi_free(&img);
    return true;
}
