/* Virtio network device: virtio 1.2, 5.1. Its queues are worked on the back end's thread, so that a packet crosses
 * none between the ring and, say, libslirp. */
#include <string.h>
#include "rhea/device/virtio_pci.h"
#include "rhea/net/net.h"

/* feature bits (5.1.3) */
enum {
    F_CSUM = 0,
    F_GUEST_CSUM = 1,
    F_CTRL_GUEST_OFFLOADS = 2,
    F_MTU = 3,
    F_MAC = 5,
    F_GSO = 6,
    F_GUEST_TSO4 = 7,
    F_GUEST_TSO6 = 8,
    F_GUEST_ECN = 9,
    F_GUEST_UFO = 10,
    F_HOST_TSO4 = 11,
    F_HOST_TSO6 = 12,
    F_HOST_ECN = 13,
    F_HOST_UFO = 14,
    F_MRG_RXBUF = 15,
    F_STATUS = 16,
    F_CTRL_VQ = 17,
    F_CTRL_RX = 18,
    F_CTRL_VLAN = 19,
    F_CTRL_RX_EXTRA = 20,
    F_GUEST_ANNOUNCE = 21,
    F_MQ = 22,
    F_CTRL_MAC_ADDR = 23,
    F_GUEST_USO4 = 54,
    F_GUEST_USO6 = 55,
    F_HOST_USO = 56,
    F_SPEED_DUPLEX = 63
};
enum { S_LINK_UP = 1, S_ANNOUNCE = 2, CTRL_OK = 0, CTRL_ERR = 1 };
enum { CTRL_RX = 0, CTRL_MAC = 1, CTRL_VLAN = 2, CTRL_ANNOUNCE = 3, CTRL_MQ = 4, CTRL_GUEST_OFFLOADS = 5 };
enum { RX_PROMISC, RX_ALLMULTI, RX_ALLUNI, RX_NOMULTI, RX_NOUNI, RX_NOBCAST, RX_MODES };
enum { MAC_TABLE_MAX = 64, VLANS = 4096, CTRL_QUEUE_SIZE = 64, PAIRS_MAX = 64, FRAME_MAX = 14 + 8 + 65535, MIN_FRAME = 14,
       MERGE_MAX = 64, QUEUE_SIZE_MIN = 256 };

struct net_header {             /* 5.1.6; num_buffers is absent from legacy headers without MRG_RXBUF */
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};
struct net_config {             /* 5.1.4 */
    uint8_t mac[6];
    uint16_t status, max_pairs, mtu;
    uint32_t speed;
    uint8_t duplex;
} __attribute__((packed));

struct net_conf {
    uint64_t features;          /* of the type: properties csum, gso, ... */
    char *netdev, *tx, *duplex;
    uint8_t mac[6];
    uint16_t mtu, rx_queue_size, tx_queue_size;
    int32_t bootindex, speed;
    bool rss, hash, failover;
};

struct virtio_net {
    struct virtio_front front;
    struct net_conf conf;
    struct netdev *netdev;
    unsigned pairs, active_pairs;
    unsigned header_len;
    uint8_t mac[6];
    uint16_t status;
    uint8_t rx_mode[RX_MODES];
    struct { unsigned count; bool overflow; uint8_t mac[MAC_TABLE_MAX][6]; } table[2];      /* unicast, multicast */
    uint8_t vlan[VLANS / 8];
};

static struct virtio_net *net_of(struct virtio_device *v) { return (struct virtio_net *)v; }
static struct virtio_device *net_vdev(struct virtio_net *s) { return &s->front.vdev; }

/* ---- which packets the driver wants (5.1.6.5.1) */

static bool table_has(struct virtio_net *s, unsigned which, const uint8_t *mac)
{
    if (s->table[which].overflow)
        return true;
    for (unsigned i = 0; i < s->table[which].count; i++)
        if (memcmp(s->table[which].mac[i], mac, 6) == 0)
            return true;
    return false;
}

static bool vlan_wanted(struct virtio_net *s, const uint8_t *f)
{
    unsigned id;

    if (f[12] != 0x81 || f[13] != 0x00)
        return true;
    id = (f[14] << 8 | f[15]) & 0xfff;
    return s->vlan[id / 8] >> (id % 8) & 1;
}

static bool packet_wanted(struct virtio_net *s, const uint8_t *f)
{
    static const uint8_t broadcast[6] = { 255, 255, 255, 255, 255, 255 };

    if (s->rx_mode[RX_PROMISC])
        return true;
    if (!vlan_wanted(s, f))
        return false;
    if (memcmp(f, broadcast, 6) == 0)
        return !s->rx_mode[RX_NOBCAST];
    if (f[0] & 1)
        return !s->rx_mode[RX_NOMULTI] && (s->rx_mode[RX_ALLMULTI] || table_has(s, 1, f));
    return !s->rx_mode[RX_NOUNI] && (s->rx_mode[RX_ALLUNI] || memcmp(f, s->mac, 6) == 0 || table_has(s, 0, f));
}

/* ---- receive */

struct rx_room { unsigned count; size_t bytes; struct virtq_buf *buf[MERGE_MAX]; };

static void rx_give_back(struct virtqueue *q, struct rx_room *room)
{
    while (room->count)
        virtqueue_unpop(q, room->buf[--room->count]);
}

/* Buffers for `len` bytes; without MRG_RXBUF one must do. False: none now (or never: *never). */
static bool rx_take(struct virtio_net *s, struct virtqueue *q, size_t len, struct rx_room *room, bool *never)
{
    unsigned most = virtio_has(q->vdev, F_MRG_RXBUF) ? MERGE_MAX : 1;

    room->count = 0;
    room->bytes = 0;
    while (room->bytes < len && room->count < most) {
        struct virtq_buf *b = virtqueue_pop(q);

        if (!b) {
            rx_give_back(q, room);
            return false;
        }
        room->buf[room->count++] = b;
        room->bytes += b->in_len;
    }
    if (room->bytes >= len && room->buf[0]->in_len >= s->header_len)
        return true;
    rx_give_back(q, room);
    *never = true;
    return false;
}

/* Header and frame, spread over the buffers. */
static void rx_copy(struct virtio_net *s, struct virtqueue *q, struct rx_room *room,
                    const struct net_header *h, const struct iovec *iov, int niov)
{
    size_t at = 0, written[MERGE_MAX] = { 0 };
    unsigned b = 0;

    for (int i = -1; i < niov; i++) {
        const uint8_t *p = i < 0 ? (const uint8_t *)h : iov[i].iov_base;
        size_t left = i < 0 ? s->header_len : iov[i].iov_len;

        while (left && b < room->count) {
            size_t n = iov_from_buf(room->buf[b]->in, room->buf[b]->nin, at, p, left);

            p += n;
            left -= n;
            at += n;
            written[b] = at;
            if (left) {
                b++;
                at = 0;
            }
        }
    }
    for (unsigned i = 0; i < room->count; i++)
        virtqueue_fill(q, room->buf[i], written[i], i);
    virtqueue_publish(q, room->count);
}

static struct virtqueue *rx_queue(struct virtio_net *s, unsigned pair)
{
    return virtio_queue(net_vdev(s), 2 * (pair < s->active_pairs ? pair : 0));
}

/* False: no room, the packet is to be kept. */
static bool rx_packet(struct virtio_net *s, struct virtqueue *q, const struct iovec *iov, int niov,
                      const struct net_offload *off)
{
    struct net_header h = {
        off->flags, off->gso_type, off->hdr_len, off->gso_size, off->csum_start, off->csum_offset, 1};
    size_t len = s->header_len + iov_length(iov, niov);
    struct rx_room room;
    bool never = false;

    for (int attempt = 0; !rx_take(s, q, len, &room, &never); attempt++) {
        if (never) {
            guest_error(&q->vdev->dev, "receive buffer too small for a frame of %zu bytes", len);
            return true;
        }
        if (attempt || !virtio_live(q->vdev))
            return !virtio_live(q->vdev);
        virtqueue_set_notification(q, true);    /* to be told of room; some may have come meanwhile */
    }
    h.num_buffers = room.count;
    rx_copy(s, q, &room, &h, iov, niov);
    virtqueue_notify(q);
    return true;
}

static bool net_receive(void *opaque, unsigned queue, const struct iovec *iov, int niov, const struct net_offload *off)
{
    struct virtio_net *s = opaque;
    struct virtio_device *v = net_vdev(s);
    uint8_t head[18] = { 0 };
    bool taken = true;

    device_lock(&v->dev);
    if (atomic_load(&v->paused)) {
        taken = false;
    } else if (virtio_live(v) && virtqueue_ready(rx_queue(s, queue)) && s->status & S_LINK_UP &&
               iov_to_buf(iov, niov, 0, head, sizeof(head)) >= MIN_FRAME && packet_wanted(s, head)) {
        taken = rx_packet(s, rx_queue(s, queue), iov, niov, off);
    }
    device_unlock(&v->dev);
    return taken;
}

static void net_link_changed(void *opaque, bool up)
{
    struct virtio_net *s = opaque;
    struct virtio_device *v = net_vdev(s);

    device_lock(&v->dev);
    s->status = up ? s->status | S_LINK_UP : s->status & ~S_LINK_UP;
    device_unlock(&v->dev);
    virtio_config_changed(v);
}

static const struct nic_ops net_nic_ops = { .receive = net_receive, .link_changed = net_link_changed };

static void rx_handle(struct virtio_net *s, struct virtqueue *q)
{
    virtqueue_set_notification(q, false);
    if (s->netdev)
        netdev_nic_ready(s->netdev, q->index / 2);
}

/* ---- transmit */

static bool tx_one(struct virtqueue *q, void *buf)
{
    struct virtio_net *s = net_of(q->vdev);
    struct virtq_buf *b = buf;
    struct net_header h = { 0 };
    struct net_offload off;

    if (iov_to_buf(b->out, b->nout, 0, &h, s->header_len) < s->header_len) {
        virtqueue_detach(q, b);
        virtio_broken(q->vdev, "transmitted packet without a whole header");
        return false;
    }
    iov_trim_front(&b->out, &b->nout, s->header_len);
    off = (struct net_offload){ h.flags & 1, h.gso_type, h.hdr_len, h.gso_size, h.csum_start, h.csum_offset, 0 };
    if (s->netdev && b->out_len - s->header_len <= FRAME_MAX && b->out_len - s->header_len >= MIN_FRAME)
        netdev_send(s->netdev, q->index / 2, b->out, b->nout, &off);
    virtqueue_push(q, b, 0);
    return true;
}

static void tx_handle(struct virtqueue *q)
{
    virtqueue_drain(q, tx_one);
    virtqueue_notify(q);
}

/* ---- control queue (5.1.6.5) */

static void offloads_apply(struct virtio_net *s, uint64_t features)
{
    static const struct { uint8_t feature; unsigned offload; } map[] = {
        { F_GUEST_CSUM, NET_GUEST_CSUM }, { F_GUEST_TSO4, NET_TSO4 }, { F_GUEST_TSO6, NET_TSO6 }, { F_GUEST_ECN, NET_ECN },
        { F_GUEST_UFO, NET_UFO }, { F_GUEST_USO4, NET_USO },
    };
    unsigned offloads = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(map); i++)
        if (features & VIRTIO_BIT(map[i].feature))
            offloads |= map[i].offload;
    if (s->netdev)
        netdev_set_guest_offloads(s->netdev, offloads);
}

static bool ctrl_rx(struct virtio_net *s, uint8_t cmd, const uint8_t *d, size_t len)
{
    if (cmd >= RX_MODES || len < 1)
        return false;
    s->rx_mode[cmd] = d[0] != 0;
    return true;
}

static bool mac_table_set(struct virtio_net *s, const uint8_t *d, size_t len)
{
    for (unsigned which = 0; which < 2; which++) {
        uint32_t n;

        if (len < 4)
            return false;
        memcpy(&n, d, 4);
        d += 4;
        len -= 4;
        if (n > len / 6)
            return false;
        s->table[which].overflow = n > MAC_TABLE_MAX;
        s->table[which].count = MIN(n, MAC_TABLE_MAX);
        memcpy(s->table[which].mac, d, s->table[which].count * 6);
        d += n * 6;
        len -= n * 6;
    }
    return true;
}

static bool ctrl_mac(struct virtio_net *s, uint8_t cmd, const uint8_t *d, size_t len)
{
    if (cmd == 0)
        return mac_table_set(s, d, len);
    if (cmd != 1 || len < 6)
        return false;
    memcpy(s->mac, d, 6);
    return true;
}

static bool ctrl_vlan(struct virtio_net *s, uint8_t cmd, const uint8_t *d, size_t len)
{
    uint16_t id;

    if (cmd > 1 || len < 2)
        return false;
    memcpy(&id, d, 2);
    if (id >= VLANS)
        return false;
    s->vlan[id / 8] = cmd == 0 ? s->vlan[id / 8] | 1u << id % 8 : s->vlan[id / 8] & ~(1u << id % 8);
    return true;
}

static bool ctrl_announce(struct virtio_net *s, uint8_t cmd, const uint8_t *d, size_t len)
{
    if (cmd != 0 || !(s->status & S_ANNOUNCE))
        return false;
    s->status &= ~S_ANNOUNCE;
    return true;
}

static bool ctrl_mq(struct virtio_net *s, uint8_t cmd, const uint8_t *d, size_t len)
{
    uint16_t n;

    if (cmd != 0 || len < 2)
        return false;
    memcpy(&n, d, 2);
    if (!n || n > s->pairs)
        return false;
    s->active_pairs = n;
    return true;
}

static bool ctrl_offloads(struct virtio_net *s, uint8_t cmd, const uint8_t *d, size_t len)
{
    uint64_t wanted;

    if (cmd != 0 || len < 8)
        return false;
    memcpy(&wanted, d, 8);
    if (wanted & ~net_vdev(s)->driver_features)
        return false;
    offloads_apply(s, wanted);
    return true;
}

static const struct {
    uint8_t cls, feature;
    bool (*fn)(struct virtio_net *s, uint8_t cmd, const uint8_t *d, size_t len);
} ctrl_classes[] = {
    {CTRL_RX, F_CTRL_RX, ctrl_rx},
    {CTRL_MAC, F_CTRL_VQ, ctrl_mac},
    {CTRL_VLAN, F_CTRL_VLAN, ctrl_vlan},
    {CTRL_ANNOUNCE, F_GUEST_ANNOUNCE, ctrl_announce},
    {CTRL_MQ, F_MQ, ctrl_mq},
    {CTRL_GUEST_OFFLOADS, F_CTRL_GUEST_OFFLOADS, ctrl_offloads},
};

static bool ctrl_command(struct virtio_net *s, const uint8_t *d, size_t len)
{
    for (unsigned i = 0; len >= 2 && i < G_N_ELEMENTS(ctrl_classes); i++)
        if (ctrl_classes[i].cls == d[0])
            return virtio_has(net_vdev(s), ctrl_classes[i].feature) && ctrl_classes[i].fn(s, d[1], d + 2, len - 2);
    return false;
}

static bool ctrl_one(struct virtqueue *q, void *buf)
{
    struct virtq_buf *b = buf;
    size_t len = MIN(b->out_len, 65536);
    g_autofree uint8_t *data = NULL;
    uint8_t ack;

    if (b->out_len < 2 || b->in_len < 1) {
        virtqueue_detach(q, b);
        virtio_broken(q->vdev, "control command without room for its answer");
        return false;
    }
    data = g_malloc(len);
    iov_to_buf(b->out, b->nout, 0, data, len);
    ack = ctrl_command(net_of(q->vdev), data, len) ? CTRL_OK : CTRL_ERR;
    iov_from_buf(b->in, b->nin, 0, &ack, 1);
    virtqueue_push(q, b, 1);
    return true;
}

static void net_queue(struct virtqueue *q)
{
    struct virtio_net *s = net_of(q->vdev);
    unsigned ctrl = virtio_has(q->vdev, F_MQ) ? 2 * s->pairs : 2;       /* 5.1.2 */

    if (q->index == ctrl && virtio_has(q->vdev, F_CTRL_VQ)) {
        virtqueue_drain(q, ctrl_one);
        virtqueue_notify(q);
    } else if (q->index < 2 * s->pairs) {
        if (q->index & 1)
            tx_handle(q);
        else
            rx_handle(s, q);
    }
}

/* ---- configuration */

static void net_get_config(struct virtio_device *v, uint8_t *config)
{
    struct virtio_net *s = net_of(v);
    struct net_config *c = (struct net_config *)config;

    memcpy(c->mac, s->mac, 6);
    c->status = s->status;
    c->max_pairs = s->pairs;
    c->mtu = s->conf.mtu;
    c->speed = s->conf.speed;
    c->duplex = g_strcmp0(s->conf.duplex, "full") == 0 ? 1 : g_strcmp0(s->conf.duplex, "half") == 0 ? 0 : 0xff;
}

/* Legacy drivers write their MAC address there. */
static void net_set_config(struct virtio_device *v, unsigned offset, const uint8_t *data, unsigned len)
{
    struct virtio_net *s = net_of(v);

    if (!v->legacy && v->features_settled)
        return;
    for (unsigned i = 0; i < len && offset + i < 6; i++)
        s->mac[offset + i] = data[i];
}

static bool net_check_features(struct virtio_device *v, uint64_t acked)
{
    /* 5.1.3.1: what rests on what */
    static const struct { uint8_t feature, needs; } rules[] = {
        { F_GUEST_TSO4, F_GUEST_CSUM }, { F_GUEST_TSO6, F_GUEST_CSUM }, { F_GUEST_UFO, F_GUEST_CSUM }, { F_HOST_TSO4, F_CSUM },
        { F_HOST_TSO6, F_CSUM }, { F_HOST_UFO, F_CSUM }, { F_CTRL_RX, F_CTRL_VQ }, { F_CTRL_VLAN, F_CTRL_VQ }, { F_MQ, F_CTRL_VQ },
    };

    for (unsigned i = 0; !v->legacy && i < G_N_ELEMENTS(rules); i++) {
        if (acked & VIRTIO_BIT(rules[i].feature) && !(acked & VIRTIO_BIT(rules[i].needs))) {
            guest_error(&v->dev, "feature %u was taken without %u", rules[i].feature, rules[i].needs);
            return false;
        }
    }
    return true;
}

static void net_features_ok(struct virtio_device *v)
{
    struct virtio_net *s = net_of(v);

    s->header_len =
        virtio_has(v, F_MRG_RXBUF) || !v->legacy ? sizeof(struct net_header) : sizeof(struct net_header) - 2;
    offloads_apply(s, v->driver_features);
    memset(s->vlan, virtio_has(v, F_CTRL_VLAN) ? 0 : 0xff, sizeof(s->vlan));
}

static void net_reset(struct virtio_device *v)
{
    struct virtio_net *s = net_of(v);

    memset(s->rx_mode, 0, sizeof(s->rx_mode));
    s->rx_mode[RX_PROMISC] = 1;         /* until a driver chooses */
    memset(s->table, 0, sizeof(s->table));
    memset(s->vlan, 0xff, sizeof(s->vlan));
    memcpy(s->mac, s->conf.mac, 6);
    s->active_pairs = 1;
    s->status &= ~S_ANNOUNCE;
    if (s->netdev)
        netdev_set_guest_offloads(s->netdev, 0);
}

static void net_resume(struct virtio_device *v)
{
    struct virtio_net *s = net_of(v);

    for (unsigned i = 0; s->netdev && i < s->pairs; i++)
        netdev_nic_ready(s->netdev, i);
}

/* ---- life */

static bool queue_size_ok(unsigned n)
{
    return n >= QUEUE_SIZE_MIN && n <= VIRTQUEUE_SIZE_MAX && !(n & (n - 1));
}

static bool net_check_conf(struct virtio_net *s, struct error *err)
{
    struct net_conf *k = &s->conf;

    if (k->rss || k->hash || k->failover)
        return error_setf(err, ERR_GENERIC, "leave it out", "%s=on is not supported by this build",
                          k->rss    ? "rss"
                          : k->hash ? "hash"
                                    : "failover");
    if (!queue_size_ok(k->rx_queue_size) || !queue_size_ok(k->tx_queue_size))
        return error_setf(err, ERR_GENERIC, NULL,
                          "rx_queue_size and tx_queue_size must be powers of two from %d to %d",
                          QUEUE_SIZE_MIN, VIRTQUEUE_SIZE_MAX);
    if (k->tx && strcmp(k->tx, "bh") != 0 && strcmp(k->tx, "timer") != 0)
        return error_setf(err, ERR_GENERIC, "it is bh or timer", "tx=%s is not known", k->tx);
    if (k->duplex && strcmp(k->duplex, "half") != 0 && strcmp(k->duplex, "full") != 0)
        return error_setf(err, ERR_GENERIC, "it is half or full", "duplex=%s is not known", k->duplex);
    if (k->mtu && k->mtu < 68)
        return error_set(err, ERR_GENERIC, "host_mtu must be at least 68", NULL);
    return true;
}

/* The address stands in the properties of the device and its proxy, where info network and qom-get find it. */
static void net_choose_mac(struct virtio_net *s)
{
    static const uint8_t none[6];
    struct device *dev = &net_vdev(s)->dev;
    g_autofree char *text = NULL;

    if (memcmp(s->conf.mac, none, 6) == 0)
        net_default_mac(dev->vm, s->conf.mac);
    text = g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x", s->conf.mac[0], s->conf.mac[1], s->conf.mac[2],
                           s->conf.mac[3], s->conf.mac[4], s->conf.mac[5]);
    if (dev->parent && device_prop_find(dev->parent->cls, "mac"))
        device_set(dev->parent, "mac", text, NULL);
}

static bool net_realize(struct device *dev, struct error *err)
{
    struct virtio_device *v = device_cast(dev, struct virtio_device);
    struct virtio_net *s = net_of(v);

    if (!net_check_conf(s, err))
        return false;
    net_choose_mac(s);
    s->pairs = 1;
    if (s->conf.netdev) {
        s->netdev = netdev_attach(dev->vm, s->conf.netdev, dev, &net_nic_ops, s, err);
        if (!s->netdev)
            return false;
        s->pairs = CLAMP(netdev_queues(s->netdev), 1, PAIRS_MAX);
        virtio_set_loop(v, netdev_loop(s->netdev));
    } else {
        warn_report("nic %s has no peer: add netdev=ID",
                    dev->parent && dev->parent->id ? dev->parent->id : dev->cls->name);
    }
    for (unsigned i = 0; i < s->pairs; i++) {
        virtio_add_queue(v, s->conf.rx_queue_size, 0, net_queue);
        virtio_add_queue(v, s->conf.tx_queue_size, 0, net_queue);
    }
    virtio_add_queue(v, CTRL_QUEUE_SIZE, 0, net_queue);
    v->host_features |= s->conf.features;
    virtio_offer(v, F_MQ, s->conf.features & VIRTIO_BIT(F_MQ) && s->pairs > 1);
    virtio_offer(v, F_MTU, s->conf.mtu);
    virtio_offer(v, F_SPEED_DUPLEX, s->conf.speed >= 0 || s->conf.duplex);
    v->config_size = sizeof(struct net_config);
    s->status = !s->netdev || netdev_link_up(s->netdev) ? S_LINK_UP : 0;
    s->header_len = sizeof(struct net_header);
    net_reset(v);
    return true;
}

static void net_unrealize(struct device *dev)
{
    struct virtio_device *v = device_cast(dev, struct virtio_device);

    virtio_reset(v);
    netdev_detach(net_of(v)->netdev);
}

static const struct virtio_info virtio_net_info = {
    .name = "virtio-net",
    .id = VIRTIO_ID_NET,
    .legacy_pci_id = 0x1000,
    .features = VIRTIO_BIT(F_MAC),
    .legacy_features = VIRTIO_BIT(F_GSO),
    .get_config = net_get_config,
    .set_config = net_set_config,
    .check_features = net_check_features,
    .features_ok = net_features_ok,
    .reset = net_reset,
    .resume = net_resume,
};

#define NET(field, name, type, def, help) PROP(struct virtio_net, conf.field, name, type, def, help)
#define NETF(feature, prop_name, default_text, help_text) \
    { .name = prop_name, .type = PROP_BIT, .offset = offsetof(struct virtio_net, conf.features), .bit = feature, \
      .def = default_text, .help = help_text }
static const struct prop net_props[] = {
    NET(netdev, "netdev", PROP_NETDEV, NULL, "id of the -netdev that it is connected to"),
    NET(mac, "mac", PROP_MAC, NULL, "address; default 52:54:00:12:34:56 and up"),
    NETF(F_CSUM, "csum", "on", "partial checksums from the driver"),
    NETF(F_GUEST_CSUM, "guest_csum", "on", "partial checksums to the driver"),
    NETF(F_GUEST_TSO4, "guest_tso4", "on", "large TCP frames to the driver"),
    NETF(F_GUEST_TSO6, "guest_tso6", "on", "the same, IPv6"),
    NETF(F_GUEST_ECN, "guest_ecn", "on", "the same, with ECN"),
    NETF(F_GUEST_UFO, "guest_ufo", "on", "large UDP datagrams to the driver"),
    NETF(F_GUEST_USO4, "guest_uso4", "on", "UDP segmentation to the driver"),
    NETF(F_GUEST_USO6, "guest_uso6", "on", "the same, IPv6"),
    NETF(F_HOST_TSO4, "host_tso4", "on", "large TCP frames from the driver"),
    NETF(F_HOST_TSO6, "host_tso6", "on", "the same, IPv6"),
    NETF(F_HOST_ECN, "host_ecn", "on", "the same, with ECN"),
    NETF(F_HOST_UFO, "host_ufo", "on", "large UDP datagrams from the driver"),
    NETF(F_HOST_USO, "host_uso", "on", "UDP segmentation from the driver"),
    NETF(F_MRG_RXBUF, "mrg_rxbuf", "on", "one frame in several receive buffers"),
    NETF(F_STATUS, "status", "on", "link state"),
    NETF(F_CTRL_VQ, "ctrl_vq", "on", "control queue"),
    NETF(F_CTRL_RX, "ctrl_rx", "on", "receive modes"),
    NETF(F_CTRL_VLAN, "ctrl_vlan", "on", "VLAN filter"),
    NETF(F_CTRL_RX_EXTRA, "ctrl_rx_extra", "on", "further receive modes"),
    NETF(F_CTRL_MAC_ADDR, "ctrl_mac_addr", "on", "the driver may set the address"),
    NETF(F_CTRL_GUEST_OFFLOADS, "ctrl_guest_offloads", "on", "the driver may switch offloads"),
    NETF(F_GUEST_ANNOUNCE, "guest_announce", "on", "the driver announces itself when asked"),
    NETF(F_MQ, "mq", "off", "as many queue pairs as the back end has"),
    NET(mtu, "host_mtu", PROP_U16, "0", "MTU that the driver is advised to use"),
    NET(rx_queue_size, "rx_queue_size", PROP_U16, "256", "descriptors"),
    NET(tx_queue_size, "tx_queue_size", PROP_U16, "256", "descriptors"),
    NET(tx, "tx", PROP_STR, NULL, "taken for compatibility: packets are sent at once"),
    NET(speed, "speed", PROP_I32, "-1", "link speed in Mb/s that is reported"),
    NET(duplex, "duplex", PROP_STR, NULL, "half or full, as reported"),
    NET(rss, "rss", PROP_BOOL, "off", "not supported"),
    NET(hash, "hash", PROP_BOOL, "off", "not supported"),
    NET(failover, "failover", PROP_BOOL, "off", "not supported"),
    NET(bootindex, "bootindex", PROP_I32, "-1", "place in the boot order"),
    { 0 }
};

VIRTIO_DEVICE("virtio-net", struct virtio_net, "Network", "virtio network device", &virtio_net_info, 0x020000,
              net_props, NULL, .realize = net_realize, .unrealize = net_unrealize);
