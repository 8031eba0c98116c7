/* The DSDT: what the guest cannot discover, in AML. ACPI 6.5; PCI Firmware 3.2, 4.5 (_OSC). */
#include "board/aml.h"
#include "dsdt.h"

static void local0(struct aml *a) { aml_op(a, AML_LOCAL0); }

/* ---- PCI interrupt links: PIRQA-H through the LPC bridge's routing registers */

static const char *const link_names[8] = { "LNKA", "LNKB", "LNKC", "LNKD", "LNKE", "LNKF", "LNKG", "LNKH" };
static const char *const reg_names[8] = { "PRQA", "PRQB", "PRQC", "PRQD", "PRQE", "PRQF", "PRQG", "PRQH" };

static void link_registers(struct aml *a, unsigned n)
{
    aml_region(a, "PIRQ", 2 /* PCI_Config */, 0x60, 0x0c);
    aml_field(a, "PIRQ", 1);    /* byte access */
    for (unsigned i = 0; i < n; i++) {
        if (i == 4)
            aml_field_unit(a, NULL, 32);
        aml_field_unit(a, reg_names[i], 8);
    }
    aml_end(a);
}

/* PNP0C0F: choices 5, 10, 11; bit 7 of the register disables. */
static void link_device(struct aml *a, unsigned i)
{
    g_autofree char *reg = g_strdup_printf("\\_SB.PCI0.ISA_.%s", reg_names[i]);
    static const uint16_t choices = 1 << 5 | 1 << 10 | 1 << 11;

    aml_device(a, link_names[i]);
    aml_name_eisaid(a, "_HID", "PNP0C0F");
    aml_name_int(a, "_UID", i);
    aml_name(a, "_PRS");
    aml_resources(a);
    aml_irq_shared(a, choices);
    aml_resources_end(a);

    aml_method(a, "_STA", 0, false);
    aml_if(a);
    aml_op(a, AML_AND);
    aml_path(a, reg);
    aml_int(a, 0x80);
    aml_op(a, AML_ZERO);
    aml_op(a, AML_RETURN);
    aml_int(a, 9);
    aml_end(a);
    aml_op(a, AML_RETURN);
    aml_int(a, 11);
    aml_end(a);

    aml_method(a, "_DIS", 0, false);
    aml_op(a, AML_OR);
    aml_path(a, reg);
    aml_int(a, 0x80);
    aml_path(a, reg);
    aml_end(a);

    /* _CRS: the descriptor's mask is 1 << register: from a buffer whose IRQ word lies at offset 1 */
    aml_method(a, "_CRS", 0, true);
    aml_name(a, "BUFF");
    aml_resources(a);
    aml_irq_shared(a, 0);
    aml_resources_end(a);
    aml_op(a, 0x8b);            /* CreateWordField (BUFF, 1, MASK) */
    aml_path(a, "BUFF");
    aml_int(a, 1);
    aml_path(a, "MASK");
    aml_if(a);
    aml_op(a, AML_LNOT);
    aml_op(a, AML_AND);
    aml_path(a, reg);
    aml_int(a, 0x80);
    aml_op(a, AML_ZERO);
    aml_op(a, 0x79);            /* ShiftLeft (1, reg & 15, MASK) */
    aml_op(a, AML_ONE);
    aml_op(a, AML_AND);
    aml_path(a, reg);
    aml_int(a, 15);
    aml_op(a, AML_ZERO);
    aml_path(a, "MASK");
    aml_end(a);
    aml_op(a, AML_RETURN);
    aml_path(a, "BUFF");
    aml_end(a);

    aml_method(a, "_SRS", 1, true);
    aml_op(a, 0x8b);
    aml_op(a, AML_ARG0);
    aml_int(a, 1);
    aml_path(a, "MASK");
    aml_op(a, 0x82);            /* FindSetRightBit: 1 for bit 0 */
    aml_path(a, "MASK");
    local0(a);
    aml_op(a, 0x76);            /* Decrement */
    local0(a);
    aml_op(a, AML_STORE);
    local0(a);
    aml_path(a, reg);
    aml_end(a);
    aml_end(a);
}

/* Line of a slot's pin: as lpc.c routes it. */
static unsigned pirq_of(bool piix, unsigned slot, unsigned pin)
{
    if (piix)
        return (slot + pin - 1) & 3;
    return slot < 25 ? 4 + ((slot + pin) & 3) : pin & 3;
}

static unsigned gsi_of(bool piix, unsigned pirq)
{
    static const uint8_t piix_gsi[4] = { 10, 10, 11, 11 };

    return piix ? piix_gsi[pirq] : 16 + pirq;
}

static void routing(struct aml *a, const char *name, bool apic, bool piix)
{
    aml_name(a, name);
    aml_package(a, 31 * 4);
    for (unsigned slot = 1; slot < 32; slot++)
        for (unsigned pin = 0; pin < 4; pin++) {
            unsigned pirq = pirq_of(piix, slot, pin);

            aml_package(a, 4);
            aml_int(a, slot << 16 | 0xffff);
            aml_int(a, pin);
            if (apic) {
                aml_int(a, 0);
                aml_int(a, gsi_of(piix, pirq));
            } else {
                aml_path(a, link_names[pirq]);
                aml_int(a, 0);
            }
            aml_end(a);
        }
    aml_end(a);
}

static void routing_method(struct aml *a, bool piix)
{
    routing(a, "PRTP", false, piix);
    if (!piix)
        routing(a, "PRTA", true, piix);
    aml_method(a, "_PRT", 0, false);
    if (!piix) {
        aml_if(a);
        aml_path(a, "\\PICF");
        aml_op(a, AML_RETURN);
        aml_path(a, "PRTA");
        aml_end(a);
    }
    aml_op(a, AML_RETURN);
    aml_path(a, "PRTP");
    aml_end(a);
}

static void root_windows(struct aml *a, const struct acpi_config *c)
{
    const struct pci_windows *w = &c->windows;

    aml_name(a, "_CRS");
    aml_resources(a);
    aml_window(a, AML_BUS, false, 0, 0xff);
    aml_io(a, 0xcf8, 8);
    aml_window(a, AML_IO, false, 0, 0xcf7);
    aml_window(a, AML_IO, false, 0xd00, 0xffff);
    aml_window(a, AML_MEMORY, true, 0xa0000, 0xbffff);
    aml_window(a, AML_MEMORY, false, w->mem_base, w->mem_base + w->mem_size - 1);
    if (w->mem64_size)
        aml_window(a, AML_MEMORY, true, w->mem64_base, w->mem64_base + w->mem64_size - 1);
    aml_resources_end(a);
}

/* ---- devices on the ISA bus */

static void isa_device(struct aml *a, const char *name, const char *hid, unsigned uid, uint16_t port, uint8_t len, int irq)
{
    aml_device(a, name);
    aml_name_eisaid(a, "_HID", hid);
    aml_name_int(a, "_UID", uid);
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_io(a, port, len);
    if (irq >= 0)
        aml_irq(a, (uint16_t)(1u << irq));
    aml_resources_end(a);
    aml_end(a);
}

static void isa_devices(struct aml *a, struct x86_machine *m, const struct acpi_config *c)
{
    static const struct { uint16_t port; uint8_t irq; } com[4] = { { 0x3f8, 4 }, { 0x2f8, 3 }, { 0x3e8, 4 }, { 0x2e8, 3 } };
    unsigned uid = 1;

    for (struct device *d = device_find_class(m->vm, "isa-serial", NULL); d; d = device_find_class(m->vm, "isa-serial", d)) {
        const struct isa_device *i = (struct isa_device *)d;
        g_autofree char *name = g_strdup_printf("COM%u", uid);

        for (unsigned k = 0; uid <= 4 && k < 4; k++)
            if (i->iobase == com[k].port)
                isa_device(a, name, "PNP0501", uid, com[k].port, 8, com[k].irq);
        uid++;
    }
    if (m->has_rtc)
        isa_device(a, "RTC_", "PNP0B00", 0, 0x70, 2, 8);
    if (c->i8042) {
        aml_device(a, "KBD_");
        aml_name_eisaid(a, "_HID", "PNP0303");
        aml_name(a, "_CRS");
        aml_resources(a);
        aml_io(a, 0x60, 1);
        aml_io(a, 0x64, 1);
        aml_irq(a, 1 << 1);
        aml_resources_end(a);
        aml_end(a);
        aml_device(a, "MOU_");
        aml_name_eisaid(a, "_HID", "PNP0F13");
        aml_name(a, "_CRS");
        aml_resources(a);
        aml_irq(a, 1 << 12);
        aml_resources_end(a);
        aml_end(a);
    }
}

static void pci_root(struct aml *a, struct x86_machine *m, const struct acpi_config *c)
{
    unsigned links = c->piix ? 4 : 8;

    aml_device(a, "PCI0");
    aml_name_eisaid(a, "_HID", c->ecam ? "PNP0A08" : "PNP0A03");
    if (c->ecam)
        aml_name_eisaid(a, "_CID", "PNP0A03");
    aml_name_int(a, "_UID", 0);
    aml_name_int(a, "_SEG", 0);
    aml_name_int(a, "_BBN", 0);
    aml_name_int(a, "_CCA", 1);
    root_windows(a, c);
    if (c->ecam)
        dsdt_osc(a);
    routing_method(a, c->piix);
    aml_device(a, "ISA_");
    aml_name_int(a, "_ADR", c->piix ? 0x00010000 : 0x001f0000);
    link_registers(a, links);
    isa_devices(a, m, c);
    aml_end(a);
    for (unsigned i = 0; i < links; i++)
        link_device(a, i);
    aml_end(a);
}

/* What the chip set keeps for itself: ECAM must be found reserved here. */
static void motherboard(struct aml *a, const struct acpi_config *c)
{
    aml_device(a, "MBRD");
    aml_name_eisaid(a, "_HID", "PNP0C02");
    aml_name_int(a, "_UID", 0x10);
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_io(a, ACPI_PM_BASE, 0x80);
    if (c->ecam)
        aml_memory32(a, true, (uint32_t)c->ecam, (uint32_t)c->ecam_size);
    aml_resources_end(a);
    aml_end(a);
}

void dsdt_build(struct aml *a, struct x86_machine *m, const struct acpi_config *c)
{
    aml_init(a);
    aml_name_int(a, "\\PICF", 0);
    aml_method(a, "\\_PIC", 1, false);
    aml_op(a, AML_STORE);
    aml_op(a, AML_ARG0);
    aml_path(a, "\\PICF");
    aml_end(a);
    aml_name(a, "\\_S5");
    aml_package(a, 4);
    for (unsigned i = 0; i < 4; i++)
        aml_int(a, 0);
    aml_end(a);
    aml_scope(a, "\\_SB");
    motherboard(a, c);
    if (c->pci)
        pci_root(a, m, c);
    else
        isa_devices(a, m, c);
    if (m->has_hpet) {
        aml_device(a, "HPET");
        aml_name_eisaid(a, "_HID", "PNP0103");
        aml_name_int(a, "_UID", 0);
        aml_name(a, "_CRS");
        aml_resources(a);
        aml_memory32(a, false, X86_HPET_BASE, 0x400);
        aml_resources_end(a);
        aml_end(a);
    }
    for (unsigned i = 0; i < c->nvirtio; i++)
        dsdt_virtio_mmio(a, i, (uint32_t)c->virtio[i].base, (uint32_t)c->virtio[i].size, c->virtio[i].gsi);
    dsdt_processors(a, m->vm);
    aml_end(a);
}
