/* Virtio console: virtio 1.2, 5.3. "virtio-serial" is the device; "virtconsole" and "virtserialport" are its ports,
 * which plug into a bus of it and each have a character back end. */
#include <string.h>
#include "rhea/chardev/chardev.h"
#include "rhea/device/virtio_pci.h"

enum { F_SIZE = 0, F_MULTIPORT = 1, F_EMERG_WRITE = 2 };
enum { DEVICE_READY, DEVICE_ADD, DEVICE_REMOVE, PORT_READY, CONSOLE_PORT, CONSOLE_RESIZE, PORT_OPEN, PORT_NAME };       /* 5.3.6.2 */
enum { PORTS_MAX = 31, Q_CTRL_IN = 2, Q_CTRL_OUT = 3, QUEUE_SIZE = 128, CTRL_QUEUE_SIZE = 32, IN_BUFFER = 4096, MESSAGES_MAX = 256,
       PORT_NAME_LEN = 200, NR_ANY = -1 };

struct ctrl_message { uint32_t id; uint16_t event, value; };
struct console_config { uint16_t cols, rows; uint32_t max_nr_ports, emerg_wr; };

struct virtio_port;
struct virtio_serial {
    struct virtio_front front;
    struct { uint32_t max_ports; bool emergency; } conf;
    struct bus *bus;
    struct virtio_port *port[PORTS_MAX];
    GQueue messages;            /* GBytes for the driver, until it has room */
};

struct virtio_port {
    struct device dev;
    char *chardev, *name;
    int32_t nr;
    struct virtio_serial *s;
    struct chardev_fe *fe;
    bool console, guest_open, host_open;
    struct virtq_buf *out;      /* being sent: the back end took out_done bytes of it */
    size_t out_done;
    uint8_t in[IN_BUFFER];      /* from the back end, for want of room */
    size_t in_start, in_end;
};

static struct virtio_serial *serial_of(struct virtio_device *v) { return (struct virtio_serial *)v; }
static struct virtio_device *serial_vdev(struct virtio_serial *s) { return &s->front.vdev; }
static void port_lock(struct virtio_port *p) { device_lock(&serial_vdev(p->s)->dev); }
static void port_unlock(struct virtio_port *p) { device_unlock(&serial_vdev(p->s)->dev); }
static bool multiport(struct virtio_serial *s) { return virtio_has(serial_vdev(s), F_MULTIPORT); }

/* 5.3.2: port 0 has queues 0 and 1, the control queues come next, then the other ports'. */
static struct virtqueue *port_queue(struct virtio_port *p, bool out)
{
    unsigned pair = p->nr ? p->nr + 1 : 0;

    return virtio_queue(serial_vdev(p->s), 2 * pair + out);
}

static struct virtio_port *queue_port(struct virtqueue *q)
{
    unsigned pair = q->index / 2, nr = pair > 1 ? pair - 1 : 0;

    return pair != 1 && nr < PORTS_MAX ? serial_of(q->vdev)->port[nr] : NULL;
}

/* ---- control messages */

static void messages_flush(struct virtio_serial *s)
{
    struct virtqueue *q = virtio_queue(serial_vdev(s), Q_CTRL_IN);
    struct virtq_buf *b;

    while (s->messages.length && (b = virtqueue_pop(q))) {
        GBytes *m = g_queue_pop_head(&s->messages);
        gsize len;
        const void *data = g_bytes_get_data(m, &len);

        virtqueue_push(q, b, iov_from_buf(b->in, b->nin, 0, data, len));
        g_bytes_unref(m);
    }
    virtqueue_notify(q);
}

static void message_send(struct virtio_serial *s, uint32_t id, uint16_t event, uint16_t value, const char *text)
{
    struct ctrl_message m = { id, event, value };
    GByteArray *a;

    if (!multiport(s) || !virtio_live(serial_vdev(s)))
        return;
    if (s->messages.length >= MESSAGES_MAX) {
        guest_error(&serial_vdev(s)->dev, "the driver takes no control messages");
        return;
    }
    a = g_byte_array_new();
    g_byte_array_append(a, (const uint8_t *)&m, sizeof(m));
    if (text)
        g_byte_array_append(a, (const uint8_t *)text, strnlen(text, PORT_NAME_LEN));
    g_queue_push_tail(&s->messages, g_byte_array_free_to_bytes(a));
    messages_flush(s);
}

static void port_set_guest_open(struct virtio_port *p, bool open)
{
    struct json_object *o;

    if (p->guest_open == open)
        return;
    p->guest_open = open;
    if (p->fe)
        chardev_set_open(p->fe, open);
    if (!p->console && p->dev.id) {
        o = json_object_new_object();
        json_object_object_add(o, "id", json_object_new_string(p->dev.id));
        json_object_object_add(o, "open", json_object_new_boolean(open));
        vm_event(p->dev.vm, "VSERPORT_CHANGE", o);
    }
    if (open && p->fe)
        chardev_accept_input(p->fe);
}

static void port_introduce(struct virtio_port *p)
{
    if (p->console)
        message_send(p->s, p->nr, CONSOLE_PORT, 1, NULL);
    if (p->name)
        message_send(p->s, p->nr, PORT_NAME, 1, p->name);
    if (p->host_open)
        message_send(p->s, p->nr, PORT_OPEN, 1, NULL);
}

static void ctrl_command(struct virtio_serial *s, const struct ctrl_message *m)
{
    struct virtio_port *p = m->id < PORTS_MAX ? s->port[m->id] : NULL;

    if (m->event == DEVICE_READY) {
        for (unsigned i = 0; m->value && i < PORTS_MAX; i++)
            if (s->port[i])
                message_send(s, i, DEVICE_ADD, 1, NULL);
        return;
    }
    if (!p) {
        guest_error(&serial_vdev(s)->dev, "control message %u for port %u, which is not there", m->event, m->id);
        return;
    }
    switch (m->event) {
    case PORT_READY:
        if (m->value)
            port_introduce(p);
        break;
    case PORT_OPEN:
        port_set_guest_open(p, m->value);
        break;
    default:
        guest_error(&serial_vdev(s)->dev, "control message %u", m->event);
    }
}

static bool ctrl_one(struct virtqueue *q, void *buf)
{
    struct virtq_buf *b = buf;
    struct ctrl_message m;
    bool whole = iov_to_buf(b->out, b->nout, 0, &m, sizeof(m)) == sizeof(m);

    virtqueue_push(q, b, 0);
    if (whole)
        ctrl_command(serial_of(q->vdev), &m);
    return true;
}

/* ---- data */

/* Out of the driver's buffer into the back end. True: all of it went. */
static bool port_write(struct virtio_port *p, struct virtq_buf *b)
{
    size_t skip = p->out_done;

    for (unsigned i = 0; i < b->nout; i++) {
        size_t len = b->out[i].iov_len, n;

        if (skip >= len) {
            skip -= len;
            continue;
        }
        n = p->fe ? chardev_write(p->fe, (uint8_t *)b->out[i].iov_base + skip, len - skip) : len - skip;
        p->out_done += n;
        if (n < len - skip)
            return false;
        skip = 0;
    }
    p->out_done = 0;
    return true;
}

static bool out_one(struct virtqueue *q, void *buf)
{
    struct virtio_port *p = queue_port(q);

    if (p && !port_write(p, buf)) {
        p->out = buf;           /* goes on in port_writable() */
        return false;
    }
    virtqueue_push(q, buf, 0);
    return true;
}

static void out_handle(struct virtqueue *q)
{
    struct virtio_port *p = queue_port(q);

    if (p && p->out)
        return;                 /* in order */
    virtqueue_drain(q, out_one);
    virtqueue_notify(q);
}

static void port_writable(void *opaque)
{
    struct virtio_port *p = opaque;
    struct virtq_buf *b;

    port_lock(p);
    if ((b = p->out) && port_write(p, b)) {
        p->out = NULL;
        virtqueue_push(b->q, b, 0);
        virtqueue_notify(port_queue(p, true));
    }
    if (!p->out)
        virtqueue_kick(port_queue(p, true));
    port_unlock(p);
}

static bool port_takes_input(struct virtio_port *p)
{
    return virtio_live(serial_vdev(p->s)) && (p->guest_open || !multiport(p->s));
}

/* What waits goes into the driver's buffers. */
static void in_flush(struct virtio_port *p)
{
    struct virtqueue *q = port_queue(p, false);
    struct virtq_buf *b;

    while (p->in_start < p->in_end && port_takes_input(p) && (b = virtqueue_pop(q))) {
        size_t n = iov_from_buf(b->in, b->nin, 0, p->in + p->in_start, p->in_end - p->in_start);

        p->in_start += n;
        virtqueue_push(q, b, n);
    }
    virtqueue_notify(q);
    if (p->in_start == p->in_end)
        p->in_start = p->in_end = 0;
}

static size_t port_can_read(void *opaque)
{
    struct virtio_port *p = opaque;
    size_t n = 0;

    port_lock(p);
    if (!p->in_end && port_takes_input(p) && !atomic_load(&serial_vdev(p->s)->paused)) {
        virtqueue_set_notification(port_queue(p, false), true);
        n = virtqueue_empty(port_queue(p, false)) ? 0 : IN_BUFFER;
    }
    port_unlock(p);
    return n;
}

static void port_read(void *opaque, const uint8_t *buf, size_t len)
{
    struct virtio_port *p = opaque;

    port_lock(p);
    len = MIN(len, IN_BUFFER - p->in_end);
    memcpy(p->in + p->in_end, buf, len);
    p->in_end += len;
    in_flush(p);
    port_unlock(p);
}

static void port_event(void *opaque, enum chardev_event event)
{
    struct virtio_port *p = opaque;

    if (event != CHR_OPENED && event != CHR_CLOSED)
        return;
    port_lock(p);
    p->host_open = event == CHR_OPENED;
    message_send(p->s, p->nr, PORT_OPEN, p->host_open, NULL);
    port_unlock(p);
}

static const struct chardev_fe_ops port_ops = { .can_read = port_can_read, .read = port_read, .event = port_event };

static void in_handle(struct virtqueue *q)
{
    struct virtio_port *p = queue_port(q);

    if (!p)
        return;
    in_flush(p);
    if (p->fe && !p->in_end)
        chardev_accept_input(p->fe);
}

static void serial_queue(struct virtqueue *q)
{
    if (q->index == Q_CTRL_IN) {
        messages_flush(serial_of(q->vdev));
    } else if (q->index == Q_CTRL_OUT) {
        virtqueue_drain(q, ctrl_one);
        virtqueue_notify(q);
    } else if (q->index & 1) {
        out_handle(q);
    } else {
        in_handle(q);
    }
}

/* ---- the device */

static void serial_get_config(struct virtio_device *v, uint8_t *config)
{
    struct console_config *c = (struct console_config *)config;

    c->max_nr_ports = serial_of(v)->conf.max_ports;
}

/* 5.3.4: a byte to say last words with, before there are queues. */
static void serial_set_config(struct virtio_device *v, unsigned offset, const uint8_t *data, unsigned len)
{
    struct virtio_port *p = serial_of(v)->port[0];

    if (offset == offsetof(struct console_config, emerg_wr) && p && p->fe && serial_of(v)->conf.emergency)
        chardev_write(p->fe, data, 1);
}

static void port_let_go(struct virtio_port *p, struct virtqueue *q)
{
    struct virtq_buf *b = p->out;

    if (b && (!q || b->q == q)) {
        p->out = NULL;
        p->out_done = 0;
        virtqueue_detach(b->q, b);
    }
}

static void serial_reset(struct virtio_device *v)
{
    struct virtio_serial *s = serial_of(v);

    for (unsigned i = 0; i < PORTS_MAX; i++) {
        if (!s->port[i])
            continue;
        port_let_go(s->port[i], NULL);
        port_set_guest_open(s->port[i], false);
    }
    g_queue_clear_full(&s->messages, (GDestroyNotify)g_bytes_unref);
}

static void serial_queue_reset(struct virtio_device *v, struct virtqueue *q)
{
    struct virtio_port *p = queue_port(q);

    if (p)
        port_let_go(p, q);
}

/* A driver without MULTIPORT knows port 0 only, and has it open while it lives. */
static void serial_set_status(struct virtio_device *v, uint8_t old)
{
    struct virtio_serial *s = serial_of(v);

    if (virtio_live(v) && !(old & VIRTIO_S_DRIVER_OK) && !multiport(s) && s->port[0])
        port_set_guest_open(s->port[0], true);
}

static void serial_resume(struct virtio_device *v)
{
    struct virtio_serial *s = serial_of(v);

    for (unsigned i = 0; i < PORTS_MAX; i++)
        if (s->port[i] && s->port[i]->fe)
            chardev_accept_input(s->port[i]->fe);
}

static const struct bus_class serial_bus_class;

static bool serial_realize(struct device *dev, struct error *err)
{
    struct virtio_device *v = device_cast(dev, struct virtio_device);
    struct virtio_serial *s = serial_of(v);
    const char *id = dev->id ? dev->id : dev->parent ? dev->parent->id : NULL;
    g_autofree char *name = id ? g_strdup_printf("%s.0", id) : NULL;

    if (!s->conf.max_ports || s->conf.max_ports > PORTS_MAX)
        return error_setf(err, ERR_GENERIC, NULL, "max_ports=%u is not between 1 and %d", s->conf.max_ports, PORTS_MAX);
    for (unsigned i = 0; i < 2 * (s->conf.max_ports + 1); i++)
        virtio_add_queue(v, i == Q_CTRL_IN || i == Q_CTRL_OUT ? CTRL_QUEUE_SIZE : QUEUE_SIZE, 0, serial_queue);
    virtio_offer(v, F_EMERG_WRITE, s->conf.emergency);
    virtio_offer(v, F_MULTIPORT, s->conf.max_ports > 1);
    v->config_size = sizeof(struct console_config);
    g_queue_init(&s->messages);
    s->bus = bus_new(dev->vm, &serial_bus_class, dev, name);
    s->bus->hotplug = true;
    return true;
}

static void serial_unrealize(struct device *dev)
{
    virtio_reset(device_cast(dev, struct virtio_device));
}

static const struct virtio_info serial_info = {
    .name = "virtio-serial",
    .id = VIRTIO_ID_CONSOLE,
    .legacy_pci_id = 0x1003,
    .vectors = 2,
    .get_config = serial_get_config,
    .set_config = serial_set_config,
    .set_status = serial_set_status,
    .reset = serial_reset,
    .queue_reset = serial_queue_reset,
    .resume = serial_resume,
};

static const struct prop serial_props[] = {
    PROP(struct virtio_serial, conf.max_ports, "max_ports", PROP_U32, "31", "ports that it may have"),
    PROP(struct virtio_serial, conf.emergency, "emergency-write", PROP_BOOL, "on", "a register to write single bytes to port 0"),
    { 0 }
};

VIRTIO_DEVICE("virtio-serial", struct virtio_serial, "Input", "virtio serial controller", &serial_info,
              0x078000, serial_props, NULL, .realize = serial_realize, .unrealize = serial_unrealize);

/* ---- the ports */

/* Port 0 is for consoles: drivers of before MULTIPORT take it for one. */
static bool serial_plug(struct bus *bus, struct device *dev, struct error *err)
{
    struct virtio_serial *s = device_cast(bus->owner, struct virtio_serial);
    struct virtio_port *p = device_cast(dev, struct virtio_port);
    bool console = strcmp(dev->cls->name, "virtconsole") == 0;

    if (p->nr == NR_ANY) {
        for (p->nr = console ? 0 : 1; p->nr < (int)s->conf.max_ports && s->port[p->nr];)
            p->nr++;
    }
    if (p->nr == 0 && !console)
        return error_set(err, ERR_GENERIC, "port number 0 is reserved for virtconsole",
                         "leave out nr=, or give 1 and up");
    if (p->nr < 0 || p->nr >= (int)s->conf.max_ports)
        return error_setf(err, ERR_GENERIC, "add another virtio-serial-pci",
                          "bus '%s' has no port %d: max_ports=%u", bus->name, p->nr, s->conf.max_ports);
    if (s->port[p->nr])
        return error_setf(err, ERR_GENERIC, "leave out nr=", "port number %d of bus '%s' is in use", p->nr, bus->name);
    p->s = s;
    p->console = console;
    return true;
}

static const struct bus_class serial_bus_class = { .name = "virtio-serial-bus", .plug = serial_plug };

static bool port_realize(struct device *dev, struct error *err)
{
    struct virtio_port *p = device_cast(dev, struct virtio_port);

    if (p->name && strlen(p->name) > PORT_NAME_LEN)
        return error_setf(err, ERR_GENERIC, NULL, "name= has more than %d characters", PORT_NAME_LEN);
    for (unsigned i = 0; p->name && i < PORTS_MAX; i++)
        if (p->s->port[i] && g_strcmp0(p->s->port[i]->name, p->name) == 0)
            return error_setf(err, ERR_GENERIC, NULL, "another port has the name '%s'", p->name);
    port_lock(p);
    p->s->port[p->nr] = p;
    port_unlock(p);
    if (p->chardev) {
        p->fe = chardev_attach(dev->vm, p->chardev, &port_ops, p, serial_vdev(p->s)->dev.loop, err);
        if (!p->fe) {
            p->s->port[p->nr] = NULL;
            return false;
        }
        chardev_on_writable(p->fe, port_writable, p);
    }
    port_lock(p);
    p->host_open = !p->fe || chardev_connected(p->fe) || p->console;
    message_send(p->s, p->nr, DEVICE_ADD, 1, NULL);
    port_unlock(p);
    return true;
}

static void port_unrealize(struct device *dev)
{
    struct virtio_port *p = device_cast(dev, struct virtio_port);

    chardev_detach(p->fe);
    p->fe = NULL;
    port_lock(p);
    port_let_go(p, NULL);
    p->s->port[p->nr] = NULL;
    message_send(p->s, p->nr, DEVICE_REMOVE, 1, NULL);
    port_unlock(p);
}

static const struct prop port_props[] = {
    PROP(struct virtio_port, chardev, "chardev", PROP_CHARDEV, NULL, "id of the -chardev behind it"),
    PROP(struct virtio_port, name, "name", PROP_STR, NULL, "name that the guest sees, such as org.qemu.guest_agent.0"),
    PROP(struct virtio_port, nr, "nr", PROP_I32, "-1", "port number; -1: the next free"),
    { 0 }
};

#define PORT_CLASS(class_name, text)                                                                                 \
    DEVICE = {                                                                                                       \
        .name = class_name, .parent = "virtio-serial-port", .bus = "virtio-serial-bus", .category = "Input",         \
        .summary = text, .size = sizeof(struct virtio_port), .hotpluggable = true, .user_creatable = true,           \
        .props = port_props, .realize = port_realize, .unrealize = port_unrealize,                                   \
    }
PORT_CLASS("virtconsole", "console port of a virtio-serial");
PORT_CLASS("virtserialport", "data port of a virtio-serial");

DEVICE_KIND = { .name = "virtio-serial-port", .parent = "device" };
