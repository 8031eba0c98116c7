/* 16550A UART, on the ISA bus or mapped into memory. National Semiconductor PC16550D data sheet. Bytes pass as fast as the
 * host takes them; the line's speed is told to the back end but not imitated. */
#include "rhea/chardev/chardev.h"
#include "rhea/device/isa.h"
#include "rhea/vm/clock.h"
#include "rhea/vm/vm.h"

enum { FIFO_SIZE = 16, ISA_BAUD = 115200 };
enum { IER_RDA = 1, IER_THRE = 2, IER_RLS = 4, IER_MS = 8 };
enum { IIR_NONE = 1, IIR_THRE = 2, IIR_RDA = 4, IIR_RLS = 6, IIR_TIMEOUT = 12, IIR_FIFO = 0xc0 };
enum { LCR_DLAB = 0x80, LCR_BREAK = 0x40 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 16 };
enum { LSR_DR = 1, LSR_OE = 2, LSR_PE = 4, LSR_FE = 8, LSR_BI = 16, LSR_THRE = 32, LSR_TEMT = 64, LSR_ERROR = 0x1e };
enum { MSR_CTS = 16, MSR_DSR = 32, MSR_RI = 64, MSR_DCD = 128 };
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2, FCR_CLEAR_TX = 4 };

struct fifo { uint8_t data[FIFO_SIZE]; uint8_t head, count; };

struct serial {
    struct isa_device isa;
    char *chardev;
    uint32_t index, base_baud;
    struct chardev_fe *fe;
    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr, rx_trigger;
    uint16_t divisor;
    bool thre_pending, timeout_pending;
    struct fifo rx, tx;
    struct vm_timer *timeout;
};

static void fifo_push(struct fifo *f, uint8_t v) { f->data[(f->head + f->count++) % FIFO_SIZE] = v; }
static uint8_t fifo_pop(struct fifo *f)
{
    uint8_t v = f->data[f->head];

    f->head = (f->head + 1) % FIFO_SIZE;
    f->count--;
    return v;
}

static unsigned rx_capacity(const struct serial *s) { return s->fcr & FCR_ENABLE ? FIFO_SIZE : 1; }

/* 8.6.4: the highest pending source, as IIR shows it */
static uint8_t serial_iir(const struct serial *s)
{
    if (s->ier & IER_RLS && s->lsr & LSR_ERROR)
        return IIR_RLS;
    if (s->ier & IER_RDA && s->timeout_pending)
        return IIR_TIMEOUT;
    if (s->ier & IER_RDA && s->lsr & LSR_DR && (!(s->fcr & FCR_ENABLE) || s->rx.count >= s->rx_trigger))
        return IIR_RDA;
    if (s->ier & IER_THRE && s->thre_pending)
        return IIR_THRE;
    if (s->ier & IER_MS && s->msr & 0x0f)
        return 0;
    return IIR_NONE;
}

/* OUT2 gates the line on a PC. */
static void serial_update_irq(struct serial *s)
{
    bool gate = !s->isa.dev.parent_bus || s->mcr & (MCR_OUT2 | MCR_LOOP);

    irq_set(s->isa.dev.irq_out[0], gate && serial_iir(s) != IIR_NONE);
}

static int64_t serial_char_ns(const struct serial *s)
{
    unsigned divisor = s->divisor ? s->divisor : 1, bits = 1 + 5 + (s->lcr & 3) + (s->lcr >> 3 & 1) + 1 + (s->lcr >> 2 & 1);

    return (int64_t)bits * divisor * 1000000000 / s->base_baud;
}

static void serial_receive_byte(struct serial *s, uint8_t v)
{
    if (s->rx.count >= rx_capacity(s)) {
        s->lsr |= LSR_OE;
    } else {
        fifo_push(&s->rx, v);
        s->lsr |= LSR_DR;
    }
    if (s->fcr & FCR_ENABLE)
        vm_timer_set(s->timeout, vm_clock_ns(s->isa.dev.vm) + 4 * serial_char_ns(s));
}

static void serial_transmit(struct serial *s)
{
    while (s->tx.count) {
        uint8_t v = s->tx.data[s->tx.head];

        if (s->mcr & MCR_LOOP)
            serial_receive_byte(s, v);
        else if (s->fe && chardev_write(s->fe, &v, 1) == 0)
            return;                     /* goes on when the back end takes more */
        fifo_pop(&s->tx);
    }
    if (!(s->lsr & LSR_THRE))
        s->thre_pending = true;
    s->lsr |= LSR_THRE | LSR_TEMT;
}

static void serial_lines_changed(struct serial *s, uint8_t lines)
{
    uint8_t change = (s->msr ^ lines) & 0xf0;

    /* delta bits; RI reports only its trailing edge */
    s->msr = lines | (s->msr & 0x0f) | (change & ~(lines & MSR_RI)) >> 4;
}

static void serial_set_lines(struct serial *s)
{
    uint8_t m = s->mcr;

    if (m & MCR_LOOP)
        serial_lines_changed(s, (m & MCR_RTS ? MSR_CTS : 0) | (m & MCR_DTR ? MSR_DSR : 0) | (m & MCR_OUT1 ? MSR_RI : 0) |
                                    (m & MCR_OUT2 ? MSR_DCD : 0));
    else
        serial_lines_changed(s, s->fe ? MSR_CTS | MSR_DSR | MSR_DCD : 0);
}

static void serial_set_speed(struct serial *s)
{
    struct chardev_serial p = { .speed = s->base_baud / (s->divisor ? s->divisor : 1), .data_bits = 5 + (s->lcr & 3),
                                .stop_bits = 1 + (s->lcr >> 2 & 1),
                                .parity = !(s->lcr & 8) ? 'N' : s->lcr & 16 ? 'E' : 'O' };

    if (s->fe)
        chardev_ioctl(s->fe, CHR_SET_SERIAL, &p);
}

static void serial_set_fcr(struct serial *s, uint8_t v)
{
    static const uint8_t trigger[] = { 1, 4, 8, 14 };

    if ((v ^ s->fcr) & FCR_ENABLE)
        v |= FCR_CLEAR_RX | FCR_CLEAR_TX;
    if (v & FCR_CLEAR_RX) {
        s->rx.count = 0;
        s->lsr &= ~(LSR_DR | LSR_BI);
        s->timeout_pending = false;
        vm_timer_cancel(s->timeout);
    }
    if (v & FCR_CLEAR_TX) {
        s->tx.count = 0;
        s->lsr |= LSR_THRE | LSR_TEMT;
        s->thre_pending = true;
    }
    s->fcr = v & (FCR_ENABLE | 0xc8);
    s->rx_trigger = trigger[v >> 6];
}

static void serial_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct serial *s = device_cast(dev, struct serial);
    uint8_t old;

    switch (offset) {
    case 0:
        if (s->lcr & LCR_DLAB) {
            s->divisor = (s->divisor & 0xff00) | v;
            serial_set_speed(s);
            return;
        }
        s->thre_pending = false;
        if (s->tx.count == FIFO_SIZE || (!(s->fcr & FCR_ENABLE) && s->tx.count))
            fifo_pop(&s->tx);           /* overrun: the guest did not wait for THRE */
        fifo_push(&s->tx, v);
        s->lsr &= ~(LSR_THRE | LSR_TEMT);
        serial_transmit(s);
        break;
    case 1:
        if (s->lcr & LCR_DLAB) {
            s->divisor = (s->divisor & 0xff) | v << 8;
            serial_set_speed(s);
            return;
        }
        old = s->ier;
        s->ier = v & 0x0f;
        if (s->ier & ~old & IER_THRE && s->lsr & LSR_THRE)
            s->thre_pending = true;
        break;
    case 2:
        serial_set_fcr(s, v);
        break;
    case 3:
        s->lcr = v;
        serial_set_speed(s);
        break;
    case 4:
        s->mcr = v & 0x1f;
        serial_set_lines(s);
        break;
    case 7:
        s->scr = v;
        return;
    }
    serial_update_irq(s);
    if (s->fe && s->rx.count < rx_capacity(s) && !(s->mcr & MCR_LOOP))
        chardev_accept_input(s->fe);
}

static uint64_t serial_read_data(struct serial *s)
{
    uint8_t v = 0;

    if (s->rx.count)
        v = fifo_pop(&s->rx);
    s->timeout_pending = false;
    if (!s->rx.count)
        s->lsr &= ~(LSR_DR | LSR_BI);
    else if (s->fcr & FCR_ENABLE)
        vm_timer_set(s->timeout, vm_clock_ns(s->isa.dev.vm) + 4 * serial_char_ns(s));
    serial_update_irq(s);
    if (s->fe && !(s->mcr & MCR_LOOP))
        chardev_accept_input(s->fe);
    return v;
}

static uint64_t serial_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct serial *s = device_cast(dev, struct serial);
    uint8_t v;

    switch (offset) {
    case 0:
        return s->lcr & LCR_DLAB ? s->divisor & 0xff : serial_read_data(s);
    case 1:
        return s->lcr & LCR_DLAB ? s->divisor >> 8 : s->ier;
    case 2:
        v = serial_iir(s);
        if (v == IIR_THRE) {
            s->thre_pending = false;
            serial_update_irq(s);
        }
        return v | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0);
    case 3:
        return s->lcr;
    case 4:
        return s->mcr;
    case 5:
        v = s->lsr;
        s->lsr &= ~(LSR_OE | LSR_PE | LSR_FE | LSR_BI);
        serial_update_irq(s);
        return v;
    case 6:
        v = s->msr;
        s->msr &= 0xf0;
        serial_update_irq(s);
        return v;
    default:
        return s->scr;
    }
}

/* ---- the back end's side, on the device's loop */
static size_t serial_can_read(void *opaque)
{
    struct serial *s = opaque;
    size_t room;

    g_rec_mutex_lock(&s->isa.dev.lock);
    room = s->mcr & MCR_LOOP ? 0 : rx_capacity(s) - MIN(s->rx.count, rx_capacity(s));
    g_rec_mutex_unlock(&s->isa.dev.lock);
    return room;
}

static void serial_receive(void *opaque, const uint8_t *buf, size_t len)
{
    struct serial *s = opaque;

    g_rec_mutex_lock(&s->isa.dev.lock);
    for (size_t i = 0; i < len; i++)
        serial_receive_byte(s, buf[i]);
    serial_update_irq(s);
    g_rec_mutex_unlock(&s->isa.dev.lock);
}

static void serial_event(void *opaque, enum chardev_event ev)
{
    struct serial *s = opaque;

    if (ev != CHR_BREAK)
        return;
    g_rec_mutex_lock(&s->isa.dev.lock);
    serial_receive_byte(s, 0);
    s->lsr |= LSR_BI;
    serial_update_irq(s);
    g_rec_mutex_unlock(&s->isa.dev.lock);
}

static void serial_writable(void *opaque)
{
    struct serial *s = opaque;

    g_rec_mutex_lock(&s->isa.dev.lock);
    serial_transmit(s);
    serial_update_irq(s);
    g_rec_mutex_unlock(&s->isa.dev.lock);
}

static void serial_timed_out(void *opaque)
{
    struct serial *s = opaque;

    if (s->rx.count) {
        s->timeout_pending = true;
        serial_update_irq(s);
    }
}

static const struct chardev_fe_ops serial_fe_ops = { .can_read = serial_can_read, .read = serial_receive, .event = serial_event };

static void serial_reset(struct device *dev, enum reset_kind kind)
{
    struct serial *s = device_cast(dev, struct serial);

    s->ier = s->lcr = s->mcr = s->scr = s->fcr = 0;
    s->lsr = LSR_THRE | LSR_TEMT;
    s->msr = s->fe ? MSR_CTS | MSR_DSR | MSR_DCD : 0;
    s->divisor = 12;
    s->rx_trigger = 1;
    s->rx.count = s->tx.count = 0;
    s->thre_pending = s->timeout_pending = false;
    vm_timer_cancel(s->timeout);
}

static bool serial_attach(struct serial *s, struct error *err)
{
    struct device *dev = &s->isa.dev;

    if (!s->base_baud)
        return error_set(err, ERR_GENERIC, "a serial port needs a speed", "baudbase is what a divisor of 1 gives");
    s->timeout = vm_timer_new(dev->vm, dev, serial_timed_out, s);
    if (!s->chardev || !*s->chardev)
        return true;
    s->fe = chardev_attach(dev->vm, s->chardev, &serial_fe_ops, s, dev->loop, err);
    if (!s->fe)
        return false;
    chardev_on_writable(s->fe, serial_writable, s);
    chardev_set_open(s->fe, true);
    return true;
}

static bool isa_serial_realize(struct device *dev, struct error *err)
{
    static const struct { uint16_t port; uint8_t irq; } standard[] = { { 0x3f8, 4 }, { 0x2f8, 3 }, { 0x3e8, 4 }, { 0x2e8, 3 } };
    struct serial *s = device_cast(dev, struct serial);
    unsigned n = s->index;

    if (n == UINT32_MAX) {              /* the first free of COM1 to COM4 */
        n = 0;
        for (unsigned i = 0; dev->parent_bus && i < dev->parent_bus->devices->len; i++) {
            struct device *other = g_ptr_array_index(dev->parent_bus->devices, i);

            if (other != dev && other->cls == dev->cls)
                n = MAX(n, device_cast(other, struct serial)->index + 1);
        }
    }
    if (n >= G_N_ELEMENTS(standard))
        return error_set(err, ERR_GENERIC, "isa-serial: a machine has at most 4 ISA serial ports", "use pci-serial for more");
    s->index = n;
    if (!s->isa.iobase)
        s->isa.iobase = standard[n].port;
    if (!s->isa.irq)
        s->isa.irq = standard[n].irq;
    s->base_baud = ISA_BAUD;
    if (!serial_attach(s, err))
        return false;
    isa_map(dev, 0, s->isa.iobase);
    if (!dev->irq_out[0])
        dev->irq_out[0] = isa_line(dev, s->isa.irq);
    return true;
}

static void serial_unrealize(struct device *dev)
{
    struct serial *s = device_cast(dev, struct serial);

    if (s->fe)
        chardev_detach(s->fe);
    vm_timer_free(s->timeout);
}

static const struct state_field serial_state[] = {
    STATE_U8(struct serial, ier), STATE_U8(struct serial, fcr), STATE_U8(struct serial, lcr), STATE_U8(struct serial, mcr),
    STATE_U8(struct serial, lsr), STATE_U8(struct serial, msr), STATE_U8(struct serial, scr),
    STATE_U8(struct serial, rx_trigger), STATE_U16(struct serial, divisor), STATE_BOOL(struct serial, thre_pending),
    STATE_BOOL(struct serial, timeout_pending), STATE_BYTES(struct serial, rx), STATE_BYTES(struct serial, tx), { 0 },
};

DEVICE = {
    .name = "isa-serial",
    .parent = "isa-device",
    .bus = "ISA",
    .category = "Input",
    .summary = "16550A serial port",
    .size = sizeof(struct serial),
    .user_creatable = true,
    .mmio = { { .name = "serial", .size = 8, .width = 1, .read = serial_read, .write = serial_write } },
    .props = (const struct prop[]){
        PROP(struct serial, chardev, "chardev", PROP_CHARDEV, NULL, "character back end"),
        PROP(struct serial, index, "index", PROP_U32, "4294967295", "which of COM1 to COM4, from 0; default: the next free"),
        PROP(struct serial, isa.iobase, "iobase", PROP_U32, "0", "first I/O port; 0: by index"),
        PROP(struct serial, isa.irq, "irq", PROP_U32, "0", "interrupt line; 0: by index"), { 0 } },
    .state = serial_state,
    .realize = isa_serial_realize,
    .unrealize = serial_unrealize,
    .reset_enter = serial_reset,
};

static bool serial_mm_realize(struct device *dev, struct error *err)
{
    return serial_attach(device_cast(dev, struct serial), err);
}

DEVICE = {
    .name = "serial-mm",
    .parent = "sysbus",
    .category = "Input",
    .summary = "16550A serial port, mapped into memory",
    .size = sizeof(struct serial),
    .mmio = { { .name = "serial", .size = 8, .width = 1, .read = serial_read, .write = serial_write } },
    .props = (const struct prop[]){
        PROP(struct serial, chardev, "chardev", PROP_CHARDEV, NULL, "character back end"),
        PROP(struct serial, base_baud, "baudbase", PROP_U32, "115200", "bits a second with a divisor of 1"), { 0 } },
    .state = serial_state,
    .realize = serial_mm_realize,
    .unrealize = serial_unrealize,
    .reset_enter = serial_reset,
};
