/* PrimeCell UART (PL011), r1p3. Arm DDI 0183. Bytes pass as fast as the host takes them; the line's speed is told to the
 * back end, and counts for the receive timeout only. What is written is sent even while the UART or its transmitter is
 * disabled: programs written for emulated boards rely on it. */
#include "rhea/chardev/chardev.h"
#include "rhea/vm/clock.h"
#include "rhea/vm/vm.h"

enum { DR = 0x00, RSR_ECR = 0x04, FR = 0x18, ILPR = 0x20, IBRD = 0x24, FBRD = 0x28, LCR_H = 0x2c, CR = 0x30, IFLS = 0x34,
       IMSC = 0x38, RIS = 0x3c, MIS = 0x40, ICR = 0x44, DMACR = 0x48, PERIPH_ID = 0xfe0 };
enum { FR_CTS = 1, FR_DSR = 2, FR_DCD = 4, FR_RXFE = 0x10, FR_TXFF = 0x20, FR_RXFF = 0x40, FR_TXFE = 0x80, FR_RI = 0x100,
       FR_BUSY = 8, FR_MODEM = FR_CTS | FR_DSR | FR_DCD | FR_RI };
enum { INT_RI = 1, INT_CTS = 2, INT_DCD = 4, INT_DSR = 8, INT_RX = 0x10, INT_TX = 0x20, INT_RT = 0x40, INT_FE = 0x80, INT_PE = 0x100,
       INT_BE = 0x200, INT_OE = 0x400, INT_ALL = 0x7ff };
enum { DATA_BREAK = 0x400, DATA_OVERRUN = 0x800 };
enum { LCR_BREAK = 1, LCR_PARITY = 2, LCR_EVEN = 4, LCR_STOP2 = 8, LCR_FIFO = 0x10 };
enum { CR_LOOP = 0x80, CR_DTR = 0x400, CR_RTS = 0x800, CR_OUT1 = 0x1000, CR_OUT2 = 0x2000, CR_RESET = 0x300 };
enum { FIFO_SIZE = 16, CLOCK_HZ = 24000000 };

struct pl011 {
    struct device dev;
    char *chardev;
    struct chardev_fe *fe;
    struct vm_timer *timeout;
    uint32_t rsr, ilpr, ibrd, fbrd, lcr, cr, ifls, imsc, ris, dmacr, modem;
    uint16_t rx[FIFO_SIZE];     /* as DR shows them: data and error bits */
    uint8_t tx[FIFO_SIZE];
    uint32_t rx_head, rx_count, tx_head, tx_count;
    bool overrun;               /* the next to be received carries the mark */
};

static unsigned fifo_depth(const struct pl011 *s) { return s->lcr & LCR_FIFO ? FIFO_SIZE : 1; }

/* 3.3.12: eighths of the FIFO at which reception interrupts */
static unsigned rx_trigger(const struct pl011 *s)
{
    static const uint8_t level[8] = { 2, 4, 8, 12, 14, 16, 16, 16 };

    return s->lcr & LCR_FIFO ? level[s->ifls >> 3 & 7] : 1;
}

static void update_irq(struct pl011 *s)
{
    irq_set(s->dev.irq_out[0], (s->ris & s->imsc) != 0);
}

static unsigned bit_rate(const struct pl011 *s)
{
    unsigned divisor = s->ibrd << 6 | s->fbrd;          /* in 64ths */

    return divisor ? (unsigned)((uint64_t)CLOCK_HZ * 4 / divisor) : 115200;
}

/* 2.4.2: 32 bit periods without another character */
static void arm_timeout(struct pl011 *s)
{
    int64_t ns = 32000000000 / MAX(bit_rate(s), 3200u);

    vm_timer_set(s->timeout, vm_clock_ns(s->dev.vm) + ns);
}

static void receive_one(struct pl011 *s, uint16_t v)
{
    if (s->rx_count >= fifo_depth(s)) {
        s->overrun = true;
        s->rsr |= 8;
        s->ris |= INT_OE;
        return;
    }
    if (s->overrun)
        v |= DATA_OVERRUN;
    s->overrun = false;
    s->rx[(s->rx_head + s->rx_count++) % FIFO_SIZE] = v;
    if (v & DATA_BREAK)
        s->ris |= INT_BE;
    if (s->rx_count >= rx_trigger(s))
        s->ris |= INT_RX;
    if (s->lcr & LCR_FIFO)
        arm_timeout(s);
}

static uint32_t read_data(struct pl011 *s)
{
    uint16_t v;

    if (!s->rx_count)
        return 0;
    v = s->rx[s->rx_head];
    s->rx_head = (s->rx_head + 1) % FIFO_SIZE;
    s->rx_count--;
    s->rsr = v >> 8 & 0xf;
    if (s->rx_count < rx_trigger(s))
        s->ris &= ~(uint32_t)INT_RX;
    if (!s->rx_count) {
        s->ris &= ~(uint32_t)INT_RT;
        vm_timer_cancel(s->timeout);
    } else if (s->lcr & LCR_FIFO) {
        arm_timeout(s);
    }
    update_irq(s);
    if (s->fe && !(s->cr & CR_LOOP))
        chardev_accept_input(s->fe);
    return v;
}

static void transmit(struct pl011 *s)
{
    while (s->tx_count) {
        uint8_t v = s->tx[s->tx_head];

        if (s->cr & CR_LOOP)
            receive_one(s, v);
        else if (s->fe && chardev_write(s->fe, &v, 1) == 0)
            return;                     /* goes on when the back end takes more */
        s->tx_head = (s->tx_head + 1) % FIFO_SIZE;
        s->tx_count--;
    }
    s->ris |= INT_TX;                   /* the level fell through whatever the trigger is */
}

static void write_data(struct pl011 *s, uint8_t v)
{
    if (s->tx_count >= fifo_depth(s))
        return;                         /* 3.3.1: overwritten; here the new one is lost */
    s->tx[(s->tx_head + s->tx_count++) % FIFO_SIZE] = v;
    s->ris &= ~(uint32_t)INT_TX;
    transmit(s);
}

static uint32_t flags(const struct pl011 *s)
{
    return s->modem | (s->rx_count ? 0 : FR_RXFE) | (s->rx_count >= fifo_depth(s) ? FR_RXFF : 0) |
           (s->tx_count ? FR_BUSY : FR_TXFE) | (s->tx_count >= fifo_depth(s) ? FR_TXFF : 0);
}

static void set_modem(struct pl011 *s)
{
    static const struct { uint16_t flag, interrupt, loop; } line[] = {
        { FR_CTS, INT_CTS, CR_RTS }, { FR_DSR, INT_DSR, CR_DTR }, { FR_DCD, INT_DCD, CR_OUT1 }, { FR_RI, INT_RI, CR_OUT2 } };
    uint32_t old = s->modem;

    s->modem = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(line); i++) {
        bool on = s->cr & CR_LOOP ? s->cr & line[i].loop : s->fe && line[i].flag != FR_RI;

        s->modem |= on ? line[i].flag : 0;
        if ((s->modem ^ old) & line[i].flag)
            s->ris |= line[i].interrupt;
    }
}

static void set_line(struct pl011 *s)
{
    struct chardev_serial p = { .speed = (int)bit_rate(s), .data_bits = 5 + (s->lcr >> 5 & 3), .stop_bits = s->lcr & LCR_STOP2 ? 2 : 1,
                                .parity = !(s->lcr & LCR_PARITY) ? 'N' : s->lcr & LCR_EVEN ? 'E' : 'O' };

    if (s->fe)
        chardev_ioctl(s->fe, CHR_SET_SERIAL, &p);
}

static void set_lcr(struct pl011 *s, uint32_t v)
{
    if ((v ^ s->lcr) & LCR_FIFO) {      /* 3.3.7: becomes, or ceases to be, a FIFO: emptied */
        s->rx_count = s->tx_count = 0;
        s->ris &= ~(uint32_t)(INT_RX | INT_RT);
        vm_timer_cancel(s->timeout);
    }
    s->lcr = v & 0xff;
    set_line(s);
}

static uint64_t pl011_read(struct device *dev, uint64_t offset, unsigned size)
{
    static const uint8_t id[8] = { 0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1 };
    struct pl011 *s = device_cast(dev, struct pl011);

    switch (offset & ~UINT64_C(3)) {
    case DR:      return read_data(s);
    case RSR_ECR: return s->rsr;
    case FR:      return flags(s);
    case ILPR:    return s->ilpr;
    case IBRD:    return s->ibrd;
    case FBRD:    return s->fbrd;
    case LCR_H:   return s->lcr;
    case CR:      return s->cr;
    case IFLS:    return s->ifls;
    case IMSC:    return s->imsc;
    case RIS:     return s->ris;
    case MIS:     return s->ris & s->imsc;
    case DMACR:   return s->dmacr;
    case PERIPH_ID ... PERIPH_ID + 0x1c:
        return id[(offset - PERIPH_ID) >> 2];
    default:
        guest_error(dev, "read of register %#x", (unsigned)offset);
        return 0;
    }
}

static void write_register(struct pl011 *s, uint64_t offset, uint32_t v)
{
    switch (offset & ~UINT64_C(3)) {
    case DR:      write_data(s, (uint8_t)v); break;
    case RSR_ECR: s->rsr = 0; break;
    case ILPR:    s->ilpr = v & 0xff; break;
    case IBRD:    s->ibrd = v & 0xffff; set_line(s); break;
    case FBRD:    s->fbrd = v & 0x3f; set_line(s); break;
    case LCR_H:   set_lcr(s, v); break;
    case CR:      s->cr = v & 0xff87; set_modem(s); break;
    case IFLS:    s->ifls = v & 0x3f; break;
    case IMSC:    s->imsc = v & INT_ALL; break;
    case ICR:     s->ris &= ~v; break;
    case DMACR:
        s->dmacr = v & 7;
        if (v & 3)
            guest_unimp(&s->dev, "DMA");
        break;
    default:      guest_error(&s->dev, "write of register %#x", (unsigned)offset);
    }
}

static void pl011_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct pl011 *s = device_cast(dev, struct pl011);

    write_register(s, offset, (uint32_t)v);
    update_irq(s);
    if (s->fe && s->rx_count < fifo_depth(s) && !(s->cr & CR_LOOP))
        chardev_accept_input(s->fe);
}

/* ---- the back end's side, on the device's loop */

static size_t pl011_can_read(void *opaque)
{
    struct pl011 *s = opaque;
    size_t room;

    device_lock(&s->dev);
    room = s->cr & CR_LOOP ? 0 : fifo_depth(s) - MIN(s->rx_count, fifo_depth(s));
    device_unlock(&s->dev);
    return room;
}

static void pl011_receive(void *opaque, const uint8_t *buf, size_t len)
{
    struct pl011 *s = opaque;

    device_lock(&s->dev);
    for (size_t i = 0; i < len; i++)
        receive_one(s, buf[i]);
    update_irq(s);
    device_unlock(&s->dev);
}

static void pl011_event(void *opaque, enum chardev_event ev)
{
    struct pl011 *s = opaque;

    if (ev != CHR_BREAK)
        return;
    device_lock(&s->dev);
    receive_one(s, DATA_BREAK);
    update_irq(s);
    device_unlock(&s->dev);
}

static void pl011_writable(void *opaque)
{
    struct pl011 *s = opaque;

    device_lock(&s->dev);
    if (s->tx_count)
        transmit(s);
    update_irq(s);
    device_unlock(&s->dev);
}

static void pl011_timed_out(void *opaque)
{
    struct pl011 *s = opaque;

    if (s->rx_count) {
        s->ris |= INT_RT;
        update_irq(s);
    }
}

static const struct chardev_fe_ops fe_ops = { .can_read = pl011_can_read, .read = pl011_receive, .event = pl011_event };

static void pl011_reset(struct device *dev, enum reset_kind kind)
{
    struct pl011 *s = device_cast(dev, struct pl011);

    s->rsr = s->ilpr = s->ibrd = s->fbrd = s->lcr = s->imsc = s->ris = s->dmacr = 0;
    s->cr = CR_RESET;
    s->ifls = 0x12;
    s->modem = s->fe ? FR_CTS | FR_DSR | FR_DCD : 0;
    s->rx_count = s->tx_count = s->rx_head = s->tx_head = 0;
    s->overrun = false;
    vm_timer_cancel(s->timeout);
}

static void pl011_reset_hold(struct device *dev)
{
    update_irq(device_cast(dev, struct pl011));
}

static bool pl011_realize(struct device *dev, struct error *err)
{
    struct pl011 *s = device_cast(dev, struct pl011);

    s->timeout = vm_timer_new(dev->vm, dev, pl011_timed_out, s);
    if (!s->chardev || !*s->chardev)
        return true;
    s->fe = chardev_attach(dev->vm, s->chardev, &fe_ops, s, dev->loop, err);
    if (!s->fe)
        return false;
    chardev_on_writable(s->fe, pl011_writable, s);
    chardev_set_open(s->fe, true);
    return true;
}

static void pl011_unrealize(struct device *dev)
{
    struct pl011 *s = device_cast(dev, struct pl011);

    if (s->fe)
        chardev_detach(s->fe);
    vm_timer_free(s->timeout);
}

DEVICE = {
    .name = "pl011",
    .parent = "sysbus",
    .category = "Input",
    .summary = "PrimeCell UART (PL011)",
    .size = sizeof(struct pl011),
    .mmio = { { .name = "pl011", .size = 0x1000, .width = 4, .min = 1, .max = 4,
                .read = pl011_read, .write = pl011_write } },
    .props = (const struct prop[]){
        PROP(struct pl011, chardev, "chardev", PROP_CHARDEV, NULL, "character back end"), { 0 } },
    .state = (const struct state_field[]){
        STATE_U32(struct pl011, rsr), STATE_U32(struct pl011, ilpr), STATE_U32(struct pl011, ibrd), STATE_U32(struct pl011, fbrd),
        STATE_U32(struct pl011, lcr), STATE_U32(struct pl011, cr), STATE_U32(struct pl011, ifls), STATE_U32(struct pl011, imsc),
        STATE_U32(struct pl011, ris), STATE_U32(struct pl011, dmacr), STATE_U32(struct pl011, modem), STATE_BYTES(struct pl011, rx),
        STATE_BYTES(struct pl011, tx), STATE_U32(struct pl011, rx_head), STATE_U32(struct pl011, rx_count),
        STATE_U32(struct pl011, tx_head), STATE_U32(struct pl011, tx_count), STATE_BOOL(struct pl011, overrun), { 0 } },
    .realize = pl011_realize,
    .unrealize = pl011_unrealize,
    .reset_enter = pl011_reset,
    .reset_hold = pl011_reset_hold,
};
