/* PrimeCell GPIO (PL061): eight lines, as input or output. Arm DDI 0190. The virt board's power button is line 3. */
#include "rhea/device/pl061.h"
#include "rhea/vm/vm.h"

enum { GPIO_DIR = 0x400, IS = 0x404, IBE = 0x408, IEV = 0x40c, IE = 0x410, RIS = 0x414, MIS = 0x418, IC = 0x41c, AFSEL = 0x420, PERIPH_ID = 0xfe0 };

struct pl061 {
    struct device dev;
    uint8_t data;               /* output register */
    uint8_t in;                 /* levels at the pins that others drive */
    uint8_t seen;               /* levels at the last look, for edges */
    uint8_t dir, is, ibe, iev, ie, edges, afsel;
    struct irq *pin[PL061_LINES];
};

static uint8_t levels(const struct pl061 *s)
{
    return (s->data & s->dir) | (s->in & ~s->dir);
}

static uint8_t raw(const struct pl061 *s)
{
    uint8_t at_level = ~(levels(s) ^ s->iev);

    return (s->is & at_level & ~s->dir) | (~s->is & s->edges);
}

/* Something changed: notes edges of inputs (3.2.8), then the outputs and the interrupt line follow. */
static void update(struct pl061 *s)
{
    uint8_t now = levels(s), changed = (now ^ s->seen) & ~s->dir;

    s->edges |= changed & ~s->is & (s->ibe | ~(now ^ s->iev));
    s->seen = now;
    for (unsigned i = 0; i < PL061_LINES; i++)
        irq_set(s->dev.irq_out[1 + i], s->dir >> i & 1 ? now >> i & 1 : 0);
    irq_set(s->dev.irq_out[0], (raw(s) & s->ie) != 0);
}

static void pin_changed(void *opaque, int n, int level)
{
    struct pl061 *s = opaque;

    device_lock(&s->dev);
    s->in = (uint8_t)((s->in & ~(1 << n)) | (level ? 1 << n : 0));
    update(s);
    device_unlock(&s->dev);
}

struct irq *pl061_line(struct device *dev, unsigned n)
{
    return n < PL061_LINES ? device_cast(dev, struct pl061)->pin[n] : NULL;
}

static uint64_t pl061_read(struct device *dev, uint64_t offset, unsigned size)
{
    static const uint8_t id[8] = { 0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1 };
    struct pl061 *s = device_cast(dev, struct pl061);

    if (offset < GPIO_DIR)                   /* 3.3.1: address bits 9 to 2 mask the data */
        return levels(s) & (offset >> 2);
    switch (offset & ~UINT64_C(3)) {
    case GPIO_DIR:   return s->dir;
    case IS:    return s->is;
    case IBE:   return s->ibe;
    case IEV:   return s->iev;
    case IE:    return s->ie;
    case RIS:   return raw(s);
    case MIS:   return raw(s) & s->ie;
    case AFSEL: return s->afsel;
    case PERIPH_ID ... PERIPH_ID + 0x1c:
        return id[(offset - PERIPH_ID) >> 2];
    default:
        guest_error(dev, "read of register %#x", (unsigned)offset);
        return 0;
    }
}

static void pl061_write(struct device *dev, uint64_t offset, uint64_t value, unsigned size)
{
    struct pl061 *s = device_cast(dev, struct pl061);
    uint8_t v = (uint8_t)value;

    if (offset < GPIO_DIR) {
        uint8_t mask = (uint8_t)(offset >> 2) & s->dir;

        s->data = (uint8_t)((s->data & ~mask) | (v & mask));
        update(s);
        return;
    }
    switch (offset & ~UINT64_C(3)) {
    case GPIO_DIR:   s->dir = v; s->seen = levels(s); break;
    case IS:    s->is = v; break;
    case IBE:   s->ibe = v; break;
    case IEV:   s->iev = v; break;
    case IE:    s->ie = v; break;
    case IC:    s->edges &= ~v; break;
    case AFSEL: s->afsel = v; break;
    default:    guest_error(dev, "write of register %#x", (unsigned)offset);
    }
    update(s);
}

static void pl061_reset(struct device *dev, enum reset_kind kind)
{
    struct pl061 *s = device_cast(dev, struct pl061);

    s->data = s->dir = s->is = s->ibe = s->iev = s->ie = s->edges = s->afsel = 0;
    s->seen = levels(s);
}

static void pl061_reset_hold(struct device *dev)
{
    update(device_cast(dev, struct pl061));
}

static bool pl061_realize(struct device *dev, struct error *err)
{
    struct pl061 *s = device_cast(dev, struct pl061);

    for (int i = 0; i < PL061_LINES; i++)
        s->pin[i] = irq_new(pin_changed, s, i);
    return true;
}

static void pl061_unrealize(struct device *dev)
{
    for (int i = 0; i < PL061_LINES; i++)
        irq_free(device_cast(dev, struct pl061)->pin[i]);
}

DEVICE = {
    .name = "pl061",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "PrimeCell GPIO (PL061)",
    .size = sizeof(struct pl061),
    .mmio = { { .name = "pl061", .size = 0x1000, .width = 4, .min = 1, .max = 4, .read = pl061_read, .write = pl061_write } },
    .state = (const struct state_field[]){
        STATE_U8(struct pl061, data), STATE_U8(struct pl061, in), STATE_U8(struct pl061, seen), STATE_U8(struct pl061, dir),
        STATE_U8(struct pl061, is), STATE_U8(struct pl061, ibe), STATE_U8(struct pl061, iev), STATE_U8(struct pl061, ie),
        STATE_U8(struct pl061, edges), STATE_U8(struct pl061, afsel), { 0 } },
    .realize = pl061_realize,
    .unrealize = pl061_unrealize,
    .reset_enter = pl061_reset,
    .reset_hold = pl061_reset_hold,
};
