/* Two cascaded 8259A interrupt controllers, as a PC wires them, with the ELCR registers of EISA bridges.
 * Intel 8259A data sheet; ELCR: Intel 82371SB, 2.5.6. */
#include "rhea/device/irqchip.h"
#include "rhea/device/isa.h"

struct pic {                            /* one 8259A */
    uint8_t irr, imr, isr, elcr, lines; /* lines: levels of the inputs */
    uint8_t base, lowest;               /* vector base; input of lowest priority */
    uint8_t icw_step;                   /* ICW expected next: 0 (none), 2, 3, 4 */
    bool icw4, single, level, auto_eoi, rotate_aeoi, special_mask, special_nested, poll, read_isr;
};

struct i8259 {
    struct isa_device isa;
    struct pic pic[2];
    struct irq *in[16];
};

/* Priority of the highest request in `mask`, 0 highest; 8: none. */
static unsigned pic_priority(const struct pic *p, uint8_t mask)
{
    for (unsigned i = 0; i < 8; i++)
        if (mask & 1 << ((p->lowest + 1 + i) & 7))
            return i;
    return 8;
}

/* Input that should interrupt now, or -1. */
static int pic_request(const struct pic *p, bool master)
{
    unsigned prio = pic_priority(p, p->irr & ~p->imr);
    uint8_t in_service = p->isr;

    if (prio == 8)
        return -1;
    if (p->special_mask)
        in_service &= ~p->imr;
    /* Special fully nested mode: the master lets the slave interrupt again while one of its own is in service. */
    if (p->special_nested && master)
        in_service &= ~(1 << 2);
    return prio < pic_priority(p, in_service) ? (int)((p->lowest + 1 + prio) & 7) : -1;
}

static void pic_input(struct pic *p, unsigned n, int level)
{
    uint8_t bit = 1 << n;

    if (p->elcr & bit || p->level) {
        p->irr = level ? p->irr | bit : p->irr & ~bit;
    } else if (level && !(p->lines & bit)) {
        p->irr |= bit;
    } else if (!level) {
        p->irr &= ~bit;                 /* an edge must hold until acknowledged */
    }
    p->lines = level ? p->lines | bit : p->lines & ~bit;
}

static void i8259_update(struct i8259 *s)
{
    pic_input(&s->pic[0], 2, pic_request(&s->pic[1], false) >= 0);
    irq_set(s->isa.dev.irq_out[0], pic_request(&s->pic[0], true) >= 0);
}

static void i8259_input(void *opaque, int n, int level)
{
    struct i8259 *s = opaque;

    g_rec_mutex_lock(&s->isa.dev.lock);
    if (n != 2)
        pic_input(&s->pic[n >> 3], n & 7, level);
    i8259_update(s);
    g_rec_mutex_unlock(&s->isa.dev.lock);
}

static void pic_accept(struct pic *p, unsigned n)
{
    if (p->auto_eoi) {
        if (p->rotate_aeoi)
            p->lowest = n;
    } else {
        p->isr |= 1 << n;
    }
    if (!(p->elcr & 1 << n) && !p->level)
        p->irr &= ~(1 << n);
}

int i8259_acknowledge(struct device *dev)
{
    struct i8259 *s = device_cast(dev, struct i8259);
    int n, vector;

    g_rec_mutex_lock(&dev->lock);
    n = pic_request(&s->pic[0], true);
    if (n < 0)
        n = 7;                          /* spurious */
    else
        pic_accept(&s->pic[0], n);
    vector = s->pic[0].base + n;
    if (n == 2) {
        int m = pic_request(&s->pic[1], false);

        if (m < 0)
            m = 7;
        else
            pic_accept(&s->pic[1], m);
        vector = s->pic[1].base + m;
    }
    i8259_update(s);
    g_rec_mutex_unlock(&dev->lock);
    return vector;
}

struct irq *i8259_line(struct device *dev, unsigned n)
{
    return device_cast(dev, struct i8259)->in[n & 15];
}

static void pic_ocw2(struct pic *p, uint8_t v)
{
    unsigned command = v >> 5, n = v & 7, prio;

    switch (command) {
    case 0: case 4:                     /* rotate in automatic EOI mode: clear, set */
        p->rotate_aeoi = command == 4;
        break;
    case 1: case 5:                     /* non-specific EOI, with rotation */
        prio = pic_priority(p, p->special_mask ? p->isr & ~p->imr : p->isr);
        if (prio == 8)
            break;
        n = (p->lowest + 1 + prio) & 7;
        p->isr &= ~(1 << n);
        if (command == 5)
            p->lowest = n;
        break;
    case 3: case 7:                     /* specific EOI */
        p->isr &= ~(1 << n);
        if (command == 7)
            p->lowest = n;
        break;
    case 6:
        p->lowest = n;
        break;
    }
}

static void pic_command(struct pic *p, uint8_t v)
{
    if (v & 0x10) {                     /* ICW1 */
        uint8_t elcr = p->elcr, lines = p->lines;

        *p = (struct pic){ .elcr = elcr, .lines = lines, .lowest = 7, .icw_step = 2 };
        p->icw4 = v & 1;
        p->single = v & 2;
        p->level = v & 8;
        p->irr = p->level ? lines : lines & elcr;
    } else if (v & 0x08) {              /* OCW3 */
        p->poll = v & 4;
        if (v & 2)
            p->read_isr = v & 1;
        if (v & 0x40)
            p->special_mask = v & 0x20;
    } else {
        pic_ocw2(p, v);
    }
}

static void pic_data(struct pic *p, uint8_t v)
{
    switch (p->icw_step) {
    case 0:
        p->imr = v;
        break;
    case 2:
        p->base = v & 0xf8;
        p->icw_step = p->single ? (p->icw4 ? 4 : 0) : 3;
        break;
    case 3:
        p->icw_step = p->icw4 ? 4 : 0;
        break;
    case 4:
        p->special_nested = v & 0x10;
        p->auto_eoi = v & 2;
        p->icw_step = 0;
        break;
    }
}

static void i8259_write(struct device *dev, unsigned chip, uint64_t offset, uint8_t v)
{
    struct i8259 *s = device_cast(dev, struct i8259);

    (offset ? pic_data : pic_command)(&s->pic[chip], v);
    i8259_update(s);
}

static uint64_t i8259_read(struct device *dev, unsigned chip, uint64_t offset)
{
    struct i8259 *s = device_cast(dev, struct i8259);
    struct pic *p = &s->pic[chip];
    int n;

    if (p->poll) {
        p->poll = false;
        n = pic_request(p, chip == 0);
        if (n < 0)
            return 7;
        pic_accept(p, n);
        i8259_update(s);
        return 0x80 | n;
    }
    return offset ? p->imr : p->read_isr ? p->isr : p->irr;
}

static void master_write(struct device *d, uint64_t o, uint64_t v, unsigned n) { i8259_write(d, 0, o, v); }
static void slave_write(struct device *d, uint64_t o, uint64_t v, unsigned n) { i8259_write(d, 1, o, v); }
static uint64_t master_read(struct device *d, uint64_t o, unsigned n) { return i8259_read(d, 0, o); }
static uint64_t slave_read(struct device *d, uint64_t o, unsigned n) { return i8259_read(d, 1, o); }

static uint64_t elcr_read(struct device *dev, uint64_t offset, unsigned size)
{
    return device_cast(dev, struct i8259)->pic[offset & 1].elcr;
}

static void elcr_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    /* Inputs 0, 1, 2, 8 and 13 are always edges. */
    device_cast(dev, struct i8259)->pic[offset & 1].elcr = v & (offset & 1 ? 0xde : 0xf8);
}

static void i8259_reset(struct device *dev, enum reset_kind kind)
{
    struct i8259 *s = device_cast(dev, struct i8259);

    for (unsigned i = 0; i < 2; i++)
        s->pic[i] = (struct pic){ .lowest = 7, .lines = s->pic[i].lines };
}

static bool i8259_realize(struct device *dev, struct error *err)
{
    struct i8259 *s = device_cast(dev, struct i8259);

    isa_map(dev, 0, 0x20);
    isa_map(dev, 1, 0xa0);
    isa_map(dev, 2, 0x4d0);
    for (int i = 0; i < 16; i++)
        s->in[i] = irq_new(i8259_input, s, i);
    return true;
}

static void i8259_unrealize(struct device *dev)
{
    for (int i = 0; i < 16; i++)
        irq_free(device_cast(dev, struct i8259)->in[i]);
}

char *i8259_print(struct device *dev)
{
    struct i8259 *s = device_cast(dev, struct i8259);
    GString *out = g_string_new(NULL);

    g_rec_mutex_lock(&dev->lock);
    for (unsigned i = 0; i < 2; i++) {
        struct pic *p = &s->pic[i];

        g_string_append_printf(out, "pic%u: irr=%02x imr=%02x isr=%02x hprio=%d irq_base=%02x rr_sel=%d elcr=%02x fnm=%d\n",
                               i, p->irr, p->imr, p->isr, (p->lowest + 1) & 7, p->base, p->read_isr, p->elcr,
                               p->special_nested);
    }
    g_rec_mutex_unlock(&dev->lock);
    return g_string_free(out, FALSE);
}

DEVICE = {
    .name = "isa-i8259",
    .alias = "isa-pic",
    .parent = "isa-device",
    .category = "Misc",
    .summary = "pair of 8259A interrupt controllers",
    .size = sizeof(struct i8259),
    .mmio = { { .name = "pic", .size = 2, .width = 1, .read = master_read, .write = master_write },
              { .name = "pic2", .size = 2, .width = 1, .read = slave_read, .write = slave_write },
              { .name = "elcr", .size = 2, .width = 1, .read = elcr_read, .write = elcr_write } },
    .state = (const struct state_field[]){ STATE_BYTES(struct i8259, pic), { 0 } },
    .realize = i8259_realize,
    .unrealize = i8259_unrealize,
    .reset_enter = i8259_reset,
};
