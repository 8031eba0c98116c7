/* Devices that machines without a PC's chip set have in their DSDTs: see acpi.h. ACPI 6.5; PCI Firmware 3.2, 4.5 (_OSC). */
#include <string.h>
#include "acpi.h"
#include "rhea/device/acpi_ged.h"

/* _OSC: bits 0 to 4 are granted, the rest refused. */
void dsdt_osc(struct aml *a)
{
    aml_method(a, "_OSC", 4, false);
    aml_op(a, AML_CREATE_DWORD);
    aml_op(a, AML_ARG3);
    aml_int(a, 0);
    aml_path(a, "CDW1");
    aml_if(a);
    aml_op(a, AML_LEQUAL);
    aml_op(a, AML_ARG0);
    aml_uuid(a, "33DB4D5B-1FF7-401C-9657-7441C03DD766");
    {
        aml_op(a, AML_CREATE_DWORD);
        aml_op(a, AML_ARG3);
        aml_int(a, 8);
        aml_path(a, "CDW3");
        aml_op(a, AML_AND);
        aml_path(a, "CDW3");
        aml_int(a, 0x1f);
        aml_op(a, AML_LOCAL0);
        aml_if(a);
        aml_op(a, AML_LNOT);
        aml_op(a, AML_LEQUAL);
        aml_op(a, AML_ARG1);
        aml_op(a, AML_ONE);
        aml_op(a, AML_OR);
        aml_path(a, "CDW1");
        aml_int(a, 8);          /* unknown revision */
        aml_path(a, "CDW1");
        aml_end(a);
        aml_if(a);
        aml_op(a, AML_LNOT);
        aml_op(a, AML_LEQUAL);
        aml_path(a, "CDW3");
        aml_op(a, AML_LOCAL0);
        aml_op(a, AML_OR);
        aml_path(a, "CDW1");
        aml_int(a, 0x10);       /* capabilities masked */
        aml_path(a, "CDW1");
        aml_end(a);
        aml_op(a, AML_STORE);
        aml_op(a, AML_LOCAL0);
        aml_path(a, "CDW3");
    }
    aml_end(a);
    aml_else(a);
    aml_op(a, AML_OR);
    aml_path(a, "CDW1");
    aml_int(a, 4);              /* unknown UUID */
    aml_path(a, "CDW1");
    aml_end(a);
    aml_op(a, AML_RETURN);
    aml_op(a, AML_ARG3);
    aml_end(a);
}

/* ---- what lies on memory: a name, an id, registers, an interrupt */

static void open_device(struct aml *a, const char *prefix, const char *hid, unsigned uid)
{
    g_autofree char *name = g_strdup_printf("%s%0*X", prefix, (int)(4 - strlen(prefix)), uid);

    aml_device(a, name);
    aml_name_string(a, "_HID", hid);
    aml_name_int(a, "_UID", uid);
}

static void registers(struct aml *a, uint32_t base, uint32_t size)
{
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_memory32(a, true, base, size);
}

static void close_device(struct aml *a)
{
    aml_resources_end(a);
    aml_end(a);
}

void dsdt_processors(struct aml *a, struct vm *vm)
{
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        open_device(a, "C", "ACPI0007", i);
        aml_end(a);
    }
}

void dsdt_virtio_mmio(struct aml *a, unsigned uid, uint32_t base, uint32_t size, uint32_t gsi)
{
    open_device(a, "VR", "LNRO0005", uid);
    aml_name_int(a, "_CCA", 1);
    registers(a, base, size);
    aml_interrupt(a, gsi);
    close_device(a);
}

void dsdt_fw_cfg(struct aml *a, uint32_t base)
{
    aml_device(a, "FWCF");
    aml_name_string(a, "_HID", "QEMU0002");
    aml_name_int(a, "_STA", 0xb);       /* present, working, not to be shown */
    aml_name_int(a, "_CCA", 1);
    registers(a, base, 0x18);
    close_device(a);
}

void dsdt_flash(struct aml *a, unsigned uid, uint32_t base, uint32_t size)
{
    open_device(a, "FLS", "LNRO0015", uid);
    registers(a, base, size);
    close_device(a);
}

void dsdt_uart(struct aml *a, const char *hid, unsigned uid, uint32_t base, uint32_t size, uint32_t gsi)
{
    open_device(a, "COM", hid, uid);
    registers(a, base, size);
    aml_interrupt_level(a, gsi);
    close_device(a);
}

/* ---- PCI Express */

/* An interrupt link that has one choice (6.2.13: a line of another sense than PCI's is told of through a link). */
static void link_device(struct aml *a, unsigned n, uint32_t gsi)
{
    g_autofree char *name = g_strdup_printf("GSI%u", n);

    aml_device(a, name);
    aml_name_eisaid(a, "_HID", "PNP0C0F");
    aml_name_int(a, "_UID", n);
    for (unsigned i = 0; i < 2; i++) {
        aml_name(a, i ? "_PRS" : "_CRS");
        aml_resources(a);
        aml_interrupt_level(a, gsi);
        aml_resources_end(a);
    }
    aml_method(a, "_SRS", 1, false);
    aml_end(a);
    aml_method(a, "_DIS", 0, false);
    aml_end(a);
    aml_end(a);
}

static void routing(struct aml *a)
{
    enum { SLOTS = 32, PINS = 4 };

    aml_name(a, "_PRT");
    aml_package(a, SLOTS * PINS);
    for (unsigned slot = 0; slot < SLOTS; slot++)
        for (unsigned pin = 0; pin < PINS; pin++) {
            g_autofree char *link = g_strdup_printf("GSI%u", gpex_route(slot, pin));

            aml_package(a, 4);
            aml_int(a, slot << 16 | 0xffff);
            aml_int(a, pin);
            aml_path(a, link);
            aml_int(a, 0);
            aml_end(a);
        }
    aml_end(a);
}

static void root_windows(struct aml *a, const struct gpex_windows *w)
{
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_window(a, AML_BUS, false, 0, (w->ecam_size >> 20) - 1);
    aml_window(a, AML_MEMORY, false, w->mmio_base, w->mmio_base + w->mmio_size - 1);
    aml_window_ports(a, w->pio_base, (uint32_t)w->pio_size);
    if (w->high_size)
        aml_window(a, AML_MEMORY, false, w->high_base, w->high_base + w->high_size - 1);
    aml_resources_end(a);
}

/* MCFG's range must be found reserved by a motherboard resource (PCI Firmware 3.2, 4.1.2). */
static void reserve_ecam(struct aml *a, const struct gpex_windows *w)
{
    aml_device(a, "RES0");
    aml_name_eisaid(a, "_HID", "PNP0C02");
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_memory64(a, w->ecam_base, w->ecam_size);
    close_device(a);
}

void dsdt_gpex(struct aml *a, const struct gpex_windows *w, const uint32_t gsi[4])
{
    for (unsigned i = 0; i < 4; i++)
        link_device(a, i, gsi[i]);
    aml_device(a, "PCI0");
    aml_name_eisaid(a, "_HID", "PNP0A08");
    aml_name_eisaid(a, "_CID", "PNP0A03");
    aml_name_int(a, "_UID", 0);
    aml_name_int(a, "_SEG", 0);
    aml_name_int(a, "_BBN", 0);
    aml_name_int(a, "_CCA", 1);
    root_windows(a, w);
    routing(a);
    dsdt_osc(a);
    reserve_ecam(a, w);
    aml_end(a);
}

/* ---- Generic Event Device (5.6.9) and power button (4.8.2.2.1.2) */

void dsdt_ged(struct aml *a, uint32_t base, uint32_t gsi)
{
    enum { PRESSED = 0x80 };

    aml_device(a, "PWRB");
    aml_name_eisaid(a, "_HID", "PNP0C0C");
    aml_name_int(a, "_UID", 0);
    aml_end(a);
    aml_device(a, "GED_");
    aml_name_string(a, "_HID", "ACPI0013");
    aml_name_string(a, "_UID", "GED");
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_interrupt(a, gsi);
    aml_resources_end(a);
    aml_region(a, "EREG", ACPI_SYSTEM_MEMORY, base, 4);
    aml_field(a, "EREG", 3);            /* double words */
    aml_field_unit(a, "ESEL", 32);
    aml_end(a);
    aml_method(a, "_EVT", 1, true);
    aml_op(a, AML_STORE);
    aml_path(a, "ESEL");                /* a read takes what has happened */
    aml_op(a, AML_LOCAL0);
    aml_if(a);
    aml_op(a, AML_AND);
    aml_op(a, AML_LOCAL0);
    aml_int(a, GED_POWER_BUTTON);
    aml_op(a, AML_ZERO);
    aml_op(a, AML_NOTIFY);
    aml_path(a, "PWRB");
    aml_int(a, PRESSED);
    aml_end(a);
    aml_end(a);
    aml_end(a);
}
