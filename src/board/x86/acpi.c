/* ACPI tables (ACPI 6.5, chapter 5): RSDP, XSDT, FADT, FACS, MADT, MCFG, HPET, WAET. DSDT: dsdt.c. */
#include <string.h>
#include "acpi.h"
#include "dsdt.h"
#include "rhea/device/acpi_pm.h"

enum { HEADER = 36 };

/* ---- the image */

static void put(GByteArray *b, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)(v >> 8 * i);

        g_byte_array_append(b, &byte, 1);
    }
}

static void set(GByteArray *b, unsigned at, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        b->data[at + i] = (uint8_t)(v >> 8 * i);
}

static void zeros(GByteArray *b, unsigned n)
{
    put(b, 0, MIN(n, 8));
    for (; n > 8; n--)
        put(b, 0, 1);
}

static void pointer(struct acpi_image *img, uint32_t at, uint8_t size, bool rsdp)
{
    struct acpi_pointer p = { at, size, rsdp };

    g_array_append_val(img->pointers, p);
}

static void sum(struct acpi_image *img, uint32_t at, uint32_t start, uint32_t len, bool rsdp)
{
    struct acpi_sum s = { at, start, len, rsdp };

    g_array_append_val(img->sums, s);
}

/* 5.2.6: signature, length, revision, checksum, OEM id, table id and revision, creator. */
static unsigned table_begin(struct acpi_image *img, const char *signature, uint8_t revision)
{
    GByteArray *b = img->tables;
    unsigned at;

    while (b->len % 16)
        put(b, 0, 1);
    at = b->len;
    g_byte_array_append(b, (const uint8_t *)signature, 4);
    put(b, 0, 4);
    put(b, revision, 1);
    put(b, 0, 1);
    g_byte_array_append(b, (const uint8_t *)"RHEA  RHEAPC  ", 14);
    put(b, 1, 4);
    g_byte_array_append(b, (const uint8_t *)"RHEA", 4);
    put(b, 1, 4);
    return at;
}

static void table_end(struct acpi_image *img, unsigned at)
{
    unsigned len = img->tables->len - at;

    set(img->tables, at + 4, len, 4);
    sum(img, at + 9, at, len, false);
}

/* ---- the tables */

/* 5.2.12 */
static void build_madt(struct x86_machine *m, struct acpi_image *img)
{
    GByteArray *b = img->tables;
    unsigned at = table_begin(img, "APIC", 4);
    bool wide = false;

    put(b, X86_APIC_BASE, 4);
    put(b, m->has_pic ? 1 : 0, 4);      /* PCAT_COMPAT */
    for (unsigned i = 0; i < m->vm->nvcpus; i++) {
        uint32_t id = m->vm->vcpus[i]->arch_id;

        wide |= id > 254 || i > 254;
        if (id < 255 && i < 255) {
            put(b, 0 | 8 << 8 | i << 16 | id << 24, 4); /* local APIC: type, length, processor, APIC id */
            put(b, 1, 4);
        } else {
            put(b, 9 | 16 << 8, 4);     /* x2APIC */
            put(b, id, 4);
            put(b, 1, 4);
            put(b, i, 4);
        }
    }
    put(b, 1 | 12 << 8 | 0 << 16, 4);   /* I/O APIC 0 */
    put(b, X86_IOAPIC_BASE, 4);
    put(b, 0, 4);
    put(b, 2 | 10 << 8 | 0 << 16 | 0 << 24, 4);         /* ISA IRQ 0 is GSI 2 */
    put(b, 2, 4);
    put(b, 0, 2);
    put(b, 2 | 10 << 8 | 0 << 16 | (uint32_t)ACPI_SCI << 24, 4);
    put(b, ACPI_SCI, 4);
    put(b, 0xd, 2);                     /* level, active high */
    put(b, 4 | 6 << 8 | 0xff << 16, 3); /* NMI on LINT1 of all */
    put(b, 0, 2);
    put(b, 1, 1);
    if (wide) {
        put(b, 10 | 12 << 8, 4);
        put(b, 0xffffffff, 4);
        put(b, 1, 4);
    }
    table_end(img, at);
}

/* Generic address structure (5.2.3.2). */
static void gas(GByteArray *b, uint8_t space, uint8_t bits, uint8_t access, uint64_t addr)
{
    put(b, space, 1);
    put(b, bits, 1);
    put(b, 0, 1);
    put(b, access, 1);
    put(b, addr, 8);
}

enum { FADT_WBINVD = 1, FADT_PROC_C1 = 4, FADT_SLP_BUTTON = 1 << 5, FADT_FIX_RTC = 1 << 6, FADT_RESET = 1 << 10,
       BOOT_LEGACY = 1, BOOT_8042 = 2, BOOT_NO_VGA = 4, BOOT_NO_RTC = 0x20 };

/* 5.2.9 */
static void build_fadt(struct x86_machine *m, const struct acpi_config *c, struct acpi_image *img, unsigned facs, unsigned dsdt)
{
    GByteArray *b = img->tables;
    unsigned at = table_begin(img, "FACP", 6);

    put(b, facs, 4);
    pointer(img, b->len - 4, 4, false);
    put(b, dsdt, 4);
    pointer(img, b->len - 4, 4, false);
    put(b, 0, 1);
    put(b, 0, 1);                       /* preferred profile: unspecified */
    put(b, ACPI_SCI, 2);
    put(b, c->pci ? 0xb2 : 0, 4);       /* SMI command port: no other than ACPI mode */
    put(b, c->pci ? ACPI_ENABLE_COMMAND : 0, 1);
    put(b, c->pci ? ACPI_DISABLE_COMMAND : 0, 1);
    zeros(b, 2);
    put(b, ACPI_PM_BASE, 4);            /* PM1a event */
    put(b, 0, 4);
    put(b, ACPI_PM_BASE + 4, 4);        /* PM1a control */
    zeros(b, 8);
    put(b, ACPI_PM_BASE + 8, 4);        /* PM timer */
    put(b, ACPI_PM_BASE + 0x20, 4);     /* GPE0 */
    put(b, 0, 4);
    put(b, 4, 1);
    put(b, 2, 1);
    put(b, 0, 1);
    put(b, 4, 1);
    put(b, 16, 1);
    zeros(b, 3);
    put(b, 0xfff, 2);                   /* no C2, C3 */
    put(b, 0xfff, 2);
    zeros(b, 4);
    zeros(b, 4);                        /* duty, alarms */
    put(b, m->has_rtc ? 0x32 : 0, 1);   /* century */
    put(b, BOOT_LEGACY | (c->i8042 ? BOOT_8042 : 0) | (c->vga ? 0 : BOOT_NO_VGA) | (m->has_rtc ? 0 : BOOT_NO_RTC), 2);
    put(b, 0, 1);
    put(b, FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC | (c->reset_port ? FADT_RESET : 0), 4);
    gas(b, 1, 8, 1, c->reset_port);
    put(b, c->reset_value, 1);
    put(b, 0, 2);
    put(b, 5, 1);                       /* minor version */
    put(b, facs, 8);
    pointer(img, b->len - 8, 8, false);
    put(b, dsdt, 8);
    pointer(img, b->len - 8, 8, false);
    gas(b, 1, 32, 0, ACPI_PM_BASE);
    gas(b, 0, 0, 0, 0);
    gas(b, 1, 16, 0, ACPI_PM_BASE + 4);
    gas(b, 0, 0, 0, 0);
    gas(b, 0, 0, 0, 0);
    gas(b, 1, 32, 0, ACPI_PM_BASE + 8);
    gas(b, 1, 128, 0, ACPI_PM_BASE + 0x20);
    gas(b, 0, 0, 0, 0);
    gas(b, 0, 0, 0, 0);                 /* sleep control, status */
    gas(b, 0, 0, 0, 0);
    put(b, 0, 8);                       /* hypervisor vendor */
    table_end(img, at);
}

/* PCI Firmware 3.2, 4.1.2 */
static void build_mcfg(const struct acpi_config *c, struct acpi_image *img)
{
    unsigned at = table_begin(img, "MCFG", 1);

    zeros(img->tables, 8);
    put(img->tables, c->ecam, 8);
    put(img->tables, 0, 2);
    put(img->tables, 0, 1);
    put(img->tables, (c->ecam_size >> 20) - 1, 1);
    zeros(img->tables, 4);
    table_end(img, at);
}

/* IA-PC HPET 1.0a, 3.2.4 */
static void build_hpet(struct acpi_image *img)
{
    unsigned at = table_begin(img, "HPET", 1);

    put(img->tables, 0x8086a201, 4);
    gas(img->tables, 0, 0, 0, X86_HPET_BASE);
    put(img->tables, 0, 1);
    put(img->tables, 0, 2);
    put(img->tables, 0, 1);
    table_end(img, at);
}

/* Windows ACPI Emulated Devices Table: the PM timer needs to be read once only. */
static void build_waet(struct acpi_image *img)
{
    unsigned at = table_begin(img, "WAET", 1);

    put(img->tables, 2, 4);
    table_end(img, at);
}

static unsigned build_facs(struct acpi_image *img)
{
    GByteArray *b = img->tables;
    unsigned at;

    while (b->len % 64)
        put(b, 0, 1);
    at = b->len;
    g_byte_array_append(b, (const uint8_t *)"FACS", 4);
    put(b, 64, 4);
    zeros(b, 24);
    put(b, 1, 1);
    zeros(b, 31);
    return at;
}

static unsigned build_dsdt(struct x86_machine *m, const struct acpi_config *c, struct acpi_image *img)
{
    unsigned at = table_begin(img, "DSDT", 2);
    GByteArray *aml = dsdt_aml(m, c);

    g_byte_array_append(img->tables, aml->data, aml->len);
    g_byte_array_free(aml, TRUE);
    table_end(img, at);
    return at;
}

static unsigned build_xsdt(struct acpi_image *img, const unsigned *table, unsigned n)
{
    unsigned at = table_begin(img, "XSDT", 1);

    for (unsigned i = 0; i < n; i++) {
        put(img->tables, table[i], 8);
        pointer(img, img->tables->len - 8, 8, false);
    }
    table_end(img, at);
    return at;
}

static unsigned build_rsdt(struct acpi_image *img, const unsigned *table, unsigned n)
{
    unsigned at = table_begin(img, "RSDT", 1);

    for (unsigned i = 0; i < n; i++) {
        put(img->tables, table[i], 4);
        pointer(img, img->tables->len - 4, 4, false);
    }
    table_end(img, at);
    return at;
}

/* 5.2.5.3 */
static void build_rsdp(struct acpi_image *img, unsigned rsdt, unsigned xsdt)
{
    uint8_t *r = img->rsdp;
    uint32_t v = rsdt;
    uint64_t x = xsdt;

    memcpy(r, "RSD PTR \0RHEA  \2", 16);
    memcpy(r + 16, &v, 4);
    v = 36;
    memcpy(r + 20, &v, 4);
    memcpy(r + 24, &x, 8);
    pointer(img, 16, 4, true);
    pointer(img, 24, 8, true);
    sum(img, 8, 0, 20, true);
    sum(img, 32, 0, 36, true);
}

void acpi_build(struct x86_machine *m, const struct acpi_config *c, struct acpi_image *img)
{
    unsigned table[8], n = 0, facs, dsdt, rsdt;

    *img = (struct acpi_image){ .tables = g_byte_array_new() };
    img->pointers = g_array_new(FALSE, FALSE, sizeof(struct acpi_pointer));
    img->sums = g_array_new(FALSE, FALSE, sizeof(struct acpi_sum));
    facs = build_facs(img);
    dsdt = build_dsdt(m, c, img);
#define TABLE(call) do { while (img->tables->len % 16) put(img->tables, 0, 1); table[n++] = img->tables->len; call; } while (0)
    TABLE(build_fadt(m, c, img, facs, dsdt));
    TABLE(build_madt(m, img));
    if (c->ecam)
        TABLE(build_mcfg(c, img));
    if (m->has_hpet)
        TABLE(build_hpet(img));
    TABLE(build_waet(img));
#undef TABLE
    rsdt = build_rsdt(img, table, n);
    build_rsdp(img, rsdt, build_xsdt(img, table, n));
}

void acpi_image_free(struct acpi_image *img)
{
    g_byte_array_free(img->tables, TRUE);
    g_array_free(img->pointers, TRUE);
    g_array_free(img->sums, TRUE);
}

/* ---- in memory, without firmware */

static void relocate(struct acpi_image *img, uint64_t base)
{
    for (unsigned i = 0; i < img->pointers->len; i++) {
        struct acpi_pointer *p = &g_array_index(img->pointers, struct acpi_pointer, i);
        uint8_t *at = (p->rsdp ? img->rsdp : img->tables->data) + p->at;
        uint64_t v = 0;

        memcpy(&v, at, p->size);
        v += base;
        memcpy(at, &v, p->size);
    }
    for (unsigned i = 0; i < img->sums->len; i++) {
        struct acpi_sum *s = &g_array_index(img->sums, struct acpi_sum, i);
        uint8_t *data = s->rsdp ? img->rsdp : img->tables->data, total = 0;

        data[s->at] = 0;
        for (uint32_t j = 0; j < s->len; j++)
            total += data[s->start + j];
        data[s->at] = (uint8_t)-total;
    }
}

bool acpi_place(struct x86_machine *m, const struct acpi_config *c, struct error *err)
{
    enum { RSDP_ROOM = 64 };
    struct acpi_image img;
    unsigned len;

    acpi_build(m, c, &img);
    len = img.tables->len;
    if (len > ACPI_TABLES_MAX - RSDP_ROOM) {
        acpi_image_free(&img);
        return error_setf(err, ERR_GENERIC, "use fewer CPUs", "the ACPI tables are too large: %u bytes", len);
    }
    relocate(&img, ACPI_TABLES_ADDR + RSDP_ROOM);
    x86_blob(m, ACPI_TABLES_ADDR, g_memdup2(img.rsdp, sizeof(img.rsdp)), sizeof(img.rsdp));
    x86_blob(m, ACPI_TABLES_ADDR + RSDP_ROOM, g_memdup2(img.tables->data, len), len);
    m->rsdp = ACPI_TABLES_ADDR;
    acpi_image_free(&img);
    return true;
}
