/* I/O APIC: 24 inputs, each with a redirection entry that makes a message to the local APICs.
 * Intel 82093AA data sheet; version 0x20 adds the EOI register of later chipsets (ICH9 data sheet, 13.5). */
#include <inttypes.h>
#include "rhea/device/irqchip.h"

enum { IOAPIC_PINS = 24 };
enum { RTE_STATUS = 1 << 12, RTE_LOW = 1 << 13, RTE_REMOTE_IRR = 1 << 14, RTE_LEVEL = 1 << 15, RTE_MASKED = 1 << 16 };
static const uint64_t rte_writable = 0xff00000000000000 | 0x1a7ff | 0x800;

struct ioapic {
    struct device dev;
    uint8_t id, select;
    uint32_t lines, irr;                /* levels of inputs; edges not yet sent (masked while they came) */
    uint64_t rte[IOAPIC_PINS];
    struct irq *in[IOAPIC_PINS];
};

/* The message of an entry, as an MSI: SDM vol. 3, 11.11; entry bits 55:48 hold the extended destination. */
static void ioapic_send(struct ioapic *s, unsigned pin)
{
    uint64_t e = s->rte[pin];
    uint64_t addr = 0xfee00000 | (e >> 56) << 12 | (e >> 11 & 1) << 2;
    uint32_t data = (e & 0x7ff) | (e & RTE_LEVEL ? 0xc000 : 0);

    if ((e >> 8 & 7) == 1)              /* lowest priority */
        addr |= 1 << 3;
    apic_msi(s->dev.vm, addr, data);
}

static void ioapic_service(struct ioapic *s, unsigned pin)
{
    uint32_t bit = 1u << pin;

    if (s->rte[pin] & RTE_MASKED || !(s->irr & bit))
        return;
    if (s->rte[pin] & RTE_LEVEL) {
        if (s->rte[pin] & RTE_REMOTE_IRR)
            return;
        s->rte[pin] |= RTE_REMOTE_IRR;
    } else {
        s->irr &= ~bit;
    }
    ioapic_send(s, pin);
}

static void ioapic_input(void *opaque, int pin, int level)
{
    struct ioapic *s = opaque;
    uint32_t bit = 1u << pin;

    g_rec_mutex_lock(&s->dev.lock);
    if (s->rte[pin] & RTE_LEVEL)
        s->irr = level ? s->irr | bit : s->irr & ~bit;
    else if (level && !(s->lines & bit) && !(s->rte[pin] & RTE_MASKED))
        s->irr |= bit;                  /* edges of masked inputs are lost, as on the chip */
    s->lines = level ? s->lines | bit : s->lines & ~bit;
    if (level)
        ioapic_service(s, pin);
    g_rec_mutex_unlock(&s->dev.lock);
}

struct irq *ioapic_line(struct device *dev, unsigned pin)
{
    return pin < IOAPIC_PINS ? device_cast(dev, struct ioapic)->in[pin] : NULL;
}

void ioapic_eoi(struct device *dev, uint8_t vector)
{
    struct ioapic *s = device_cast(dev, struct ioapic);

    g_rec_mutex_lock(&dev->lock);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        if (!(s->rte[pin] & RTE_LEVEL) || (s->rte[pin] & 0xff) != vector || !(s->rte[pin] & RTE_REMOTE_IRR))
            continue;
        s->rte[pin] &= ~(uint64_t)RTE_REMOTE_IRR;
        ioapic_service(s, pin);
    }
    g_rec_mutex_unlock(&dev->lock);
}

static void ioapic_write_entry(struct ioapic *s, unsigned pin, bool high, uint32_t v)
{
    uint64_t old = s->rte[pin], mask = high ? 0xffffffff00000000 : 0xffffffff, new_bits;

    new_bits = high ? (uint64_t)v << 32 : v;
    s->rte[pin] = (old & ~(mask & rte_writable)) | (new_bits & mask & rte_writable);
    if (!(s->rte[pin] & RTE_LEVEL)) {
        s->rte[pin] &= ~(uint64_t)RTE_REMOTE_IRR;
        if (old & RTE_LEVEL)
            s->irr &= ~(1u << pin);
    } else {
        s->irr = (s->irr & ~(1u << pin)) | (s->lines & 1u << pin);
    }
    ioapic_service(s, pin);
}

static uint32_t ioapic_register(const struct ioapic *s, uint8_t reg)
{
    if (reg == 0)
        return (uint32_t)s->id << 24;
    if (reg == 1)
        return (IOAPIC_PINS - 1) << 16 | 0x20;
    if (reg == 2)
        return (uint32_t)s->id << 24;
    if (reg >= 0x10 && reg < 0x10 + 2 * IOAPIC_PINS)
        return s->rte[(reg - 0x10) >> 1] >> (reg & 1 ? 32 : 0);
    return 0;
}

static uint64_t ioapic_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct ioapic *s = device_cast(dev, struct ioapic);

    switch (offset & 0xff) {
    case 0x00: return s->select;
    case 0x10: return ioapic_register(s, s->select);
    default: return 0;
    }
}

static void ioapic_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct ioapic *s = device_cast(dev, struct ioapic);

    switch (offset & 0xff) {
    case 0x00:
        s->select = v;
        break;
    case 0x10:
        if (s->select == 0)
            s->id = v >> 24 & 0x0f;
        else if (s->select >= 0x10 && s->select < 0x10 + 2 * IOAPIC_PINS)
            ioapic_write_entry(s, (s->select - 0x10) >> 1, s->select & 1, v);
        break;
    case 0x40:
        ioapic_eoi(dev, v);
        break;
    }
}

static void ioapic_reset(struct device *dev, enum reset_kind kind)
{
    struct ioapic *s = device_cast(dev, struct ioapic);

    s->select = 0;
    s->irr = 0;
    s->id = 0;
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        s->rte[i] = RTE_MASKED;
}

static bool ioapic_realize(struct device *dev, struct error *err)
{
    struct ioapic *s = device_cast(dev, struct ioapic);

    for (int i = 0; i < IOAPIC_PINS; i++)
        s->in[i] = irq_new(ioapic_input, s, i);
    return true;
}

static void ioapic_unrealize(struct device *dev)
{
    for (int i = 0; i < IOAPIC_PINS; i++)
        irq_free(device_cast(dev, struct ioapic)->in[i]);
}

char *ioapic_print(struct device *dev)
{
    static const char *const mode[] = { "fixed", "lowest", "SMI", "...", "NMI", "INIT", "...", "ExtINT" };
    struct ioapic *s = device_cast(dev, struct ioapic);
    GString *out = g_string_new(NULL);

    g_rec_mutex_lock(&dev->lock);
    g_string_append_printf(out, "ioapic: id=%u sel=%02x\n", s->id, s->select);
    for (unsigned i = 0; i < IOAPIC_PINS; i++) {
        uint64_t e = s->rte[i];

        g_string_append_printf(out, "  pin %-2u 0x%016" PRIx64 " dest=%u vec=%u %s %s %s%s%s\n", i, e,
                               (unsigned)(e >> 56), (unsigned)(e & 0xff), mode[e >> 8 & 7],
                               e & RTE_LEVEL ? "level" : "edge", e & 0x800 ? "logical" : "physical",
                               e & RTE_MASKED ? " masked" : "", e & RTE_REMOTE_IRR ? " remote-irr" : "");
    }
    g_string_append_printf(out, "  IRR 0x%06x  lines 0x%06x\n", s->irr, s->lines);
    g_rec_mutex_unlock(&dev->lock);
    return g_string_free(out, FALSE);
}

DEVICE = {
    .name = "ioapic",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "I/O APIC with 24 inputs",
    .size = sizeof(struct ioapic),
    .mmio = { { .name = "ioapic", .size = 0x1000, .width = 4, .read = ioapic_read, .write = ioapic_write } },
    .state = (const struct state_field[]){ STATE_U8(struct ioapic, id), STATE_U8(struct ioapic, select),
                                           STATE_U32(struct ioapic, lines), STATE_U32(struct ioapic, irr),
                                           STATE_BYTES(struct ioapic, rte), { 0 } },
    .realize = ioapic_realize,
    .unrealize = ioapic_unrealize,
    .reset_enter = ioapic_reset,
};
