/* The user network, reached through a virtio NIC; software offloads. */
#include "virtio-driver.h"
#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>
#include "net/netdev.h"

enum { HDR = 12, ETH = 14 };
static const uint8_t my_mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };

static char *user_opts;

static bool user_backend(struct vm *vm, void *opaque, struct error *err)
{
    struct json_object *opts = options_parse(user_opts ? user_opts : "user,id=n0", "type", err);
    bool ok = opts && netdev_add(vm, opts, err);

    json_object_put(opts);
    return ok;
}

static struct drv *net_new(uint64_t drop)
{
    struct drv *d = drv_new(user_backend, "{'driver':'virtio-net-device','netdev':'n0'}");

    drv_start(d, 3, drop);
    return d;
}

static void net_free(struct drv *d)
{
    while (d->vm->devices)
        device_remove(d->vm->devices);
    net_cleanup(d->vm);
    drv_free(d);
}

/* ---- frames */

static void p16(uint8_t *p, uint16_t v) { p[0] = v >> 8; p[1] = v; }
static void p32(uint8_t *p, uint32_t v) { p16(p, v >> 16); p16(p + 2, v); }
static uint16_t g16(const uint8_t *p) { return p[0] << 8 | p[1]; }
static uint32_t g32(const uint8_t *p) { return (uint32_t)g16(p) << 16 | g16(p + 2); }

static size_t eth(uint8_t *f, const uint8_t *dst, uint16_t type)
{
    memcpy(f, dst ? dst : (const uint8_t *)"\xff\xff\xff\xff\xff\xff", 6);
    memcpy(f + 6, my_mac, 6);
    p16(f + 12, type);
    return ETH;
}

static size_t ipv4(uint8_t *f, uint8_t proto, uint32_t src, uint32_t dst, size_t payload)
{
    uint8_t *ip = f + ETH;

    memset(ip, 0, 20);
    ip[0] = 0x45;
    p16(ip + 2, 20 + payload);
    ip[8] = 64;
    ip[9] = proto;
    p32(ip + 12, src);
    p32(ip + 16, dst);
    p16(ip + 10, net_checksum(ip, 20, 0));
    return ETH + 20;
}

static uint16_t l4_sum(const uint8_t *f, size_t len)
{
    uint32_t sum = f[ETH + 9] + (len - ETH - 20);

    for (int i = 12; i < 20; i += 2)
        sum += g16(f + ETH + i);
    return net_checksum(f + ETH + 20, len - ETH - 20, sum);
}

/* ---- the wire */

enum { RX_SLOTS = 16, RX_SIZE = 4096 };
struct wire { struct drv *d; uint64_t rx[RX_SLOTS], tx; unsigned next; };

static void wire_open(struct wire *w, struct drv *d)
{
    *w = (struct wire){ .d = d };
    for (unsigned i = 0; i < RX_SLOTS; i++) {
        struct seg s = { w->rx[i] = drv_alloc(d, RX_SIZE), RX_SIZE, true };

        drv_add(d, 0, &s, 1);
    }
    w->tx = drv_alloc(d, 70000);
    kick(d, 0);
}

static void wire_send(struct wire *w, const uint8_t *f, size_t len, const struct net_offload *off)
{
    struct seg s = { w->tx, HDR + len, false };
    gint64 end = g_get_monotonic_time() + 120 * G_USEC_PER_SEC;
    uint32_t used;

    memset(w->d->ram + w->tx, 0, HDR);
    if (off) {
        w->d->ram[w->tx] = off->flags;
        w->d->ram[w->tx + 1] = off->gso_type;
        w16(w->d, w->tx + 2, off->hdr_len);
        w16(w->d, w->tx + 4, off->gso_size);
        w16(w->d, w->tx + 6, off->csum_start);
        w16(w->d, w->tx + 8, off->csum_offset);
    }
    memcpy(w->d->ram + w->tx + HDR, f, len);
    drv_add(w->d, 1, &s, 1);
    kick(w->d, 1);
    while (!drv_used(w->d, 1, 1, &used)) {      /* the netdev's own thread works the queue */
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(50);
    }
}

/* The next frame of that Ethernet type (and IPv4 protocol, 0: any); merged buffers are joined. Its length; 0: none came. */
static size_t wire_receive(struct wire *w, uint16_t type, uint8_t proto, uint8_t *f, struct net_offload *off)
{
    gint64 end = g_get_monotonic_time() + 120 * G_USEC_PER_SEC;

    while (g_get_monotonic_time() < end) {
        unsigned buffers, got = 0;
        size_t at = 0;
        uint32_t len;

        if (!drv_used(w->d, 0, 1, &len)) {
            g_usleep(100);
            continue;
        }
        memcpy(off, w->d->ram + w->rx[w->next], 10);
        buffers = r16(w->d, w->rx[w->next] + 10);
        g_assert_cmpuint(buffers, >=, 1);
        do {
            struct seg s = { w->rx[w->next], RX_SIZE, true };
            unsigned skip = got ? 0 : HDR;

            memcpy(f + at, w->d->ram + s.addr + skip, len - skip);
            at += len - skip;
            w->next = (w->next + 1) % RX_SLOTS;
            drv_add(w->d, 0, &s, 1);
        } while (++got < buffers && drv_used(w->d, 0, 1, &len));
        g_assert_cmpuint(got, ==, buffers);     /* all of a frame at once */
        kick(w->d, 0);
        if (g16(f + 12) == type && (!proto || f[ETH + 9] == proto))
            return at;
    }
    return 0;
}

/* ---- tests */

static void arp(struct wire *w, uint8_t *router)
{
    uint8_t f[64] = { 0 }, in[4096];
    struct net_offload off;

    eth(f, NULL, 0x0806);
    memcpy(f + ETH, "\0\1\x08\0\6\4\0\1", 8);
    memcpy(f + ETH + 8, my_mac, 6);
    p32(f + ETH + 14, 0x0a00020f);
    p32(f + ETH + 24, 0x0a000202);
    wire_send(w, f, 60, NULL);
    do
        g_assert_cmpuint(wire_receive(w, 0x0806, 0, in, &off), >=, 42);
    while (g16(in + ETH + 6) != 2);     /* slirp asks too */
    g_assert_cmpuint(g32(in + ETH + 14), ==, 0x0a000202);
    memcpy(router, in + ETH + 8, 6);
}

static void test_arp_dhcp_ping(void)
{
    struct drv *d = net_new(0);
    struct wire w;
    uint8_t f[600] = { 0 }, in[4096], router[6];
    struct net_offload off;
    size_t len, at;

    wire_open(&w, d);
    arp(&w, router);
    /* DHCPDISCOVER */
    memset(f, 0, sizeof(f));
    eth(f, NULL, 0x0800);
    at = ipv4(f, 17, 0, 0xffffffff, 8 + 300);
    p16(f + at, 68);
    p16(f + at + 2, 67);
    p16(f + at + 4, 308);
    memcpy(f + at + 8, "\1\1\6\0\x12\x34\x56\x78", 8);
    memcpy(f + at + 36, my_mac, 6);
    memcpy(f + at + 8 + 236, "\x63\x82\x53\x63\x35\1\1\xff", 8);
    wire_send(&w, f, at + 308, NULL);
    len = wire_receive(&w, 0x0800, 17, in, &off);
    g_assert_cmpuint(len, >, at + 240);
    g_assert_cmpuint(in[at + 8], ==, 2);                        /* BOOTREPLY */
    g_assert_cmpuint(g32(in + at + 8 + 16), ==, 0x0a00020f);    /* 10.0.2.15 */
    /* ping the host's end */
    memset(f, 0, sizeof(f));
    eth(f, router, 0x0800);
    at = ipv4(f, 1, 0x0a00020f, 0x0a000202, 64);
    f[at] = 8;
    p16(f + at + 4, 0x4242);
    p16(f + at + 2, net_checksum(f + at, 64, 0));
    wire_send(&w, f, at + 64, NULL);
    len = wire_receive(&w, 0x0800, 1, in, &off);
    g_assert_cmpuint(len, ==, at + 64);
    g_assert_cmpuint(in[at], ==, 0);
    g_assert_cmpuint(g16(in + at + 4), ==, 0x4242);
    net_free(d);
}

/* A TCP connection to a server of ours through 10.0.2.2, by hand: one large frame out, large frames in. */
struct server { int fd; uint16_t port; size_t got; };

static void *server_run(void *arg)
{
    struct server *s = arg;
    int c = accept(s->fd, NULL, NULL);
    g_autofree uint8_t *buf = g_malloc(200000);

    while (s->got < 40000) {
        ssize_t n = recv(c, buf + s->got, 200000 - s->got, 0);

        if (n <= 0)
            break;
        s->got += n;
    }
    for (size_t i = 0; i < s->got; i++)
        if (buf[i] != (uint8_t)(i * 13))
            s->got = 0;
    memset(buf, 'x', 30000);
    if (send(c, buf, 30000, 0) != 30000)
        s->got = 0;
    close(c);
    return NULL;
}

static size_t tcp(uint8_t *f, const uint8_t *router, uint16_t dport, uint32_t seq, uint32_t ack, uint8_t flags, const void *opt, size_t olen,
                  size_t payload)
{
    size_t at;

    eth(f, router, 0x0800);
    at = ipv4(f, 6, 0x0a00020f, 0x0a000202, 20 + olen + payload);
    memset(f + at, 0, 20);
    p16(f + at, 40000);
    p16(f + at + 2, dport);
    p32(f + at + 4, seq);
    p32(f + at + 8, ack);
    f[at + 12] = (20 + olen) / 4 << 4;
    f[at + 13] = flags;
    p16(f + at + 14, 65535);
    memcpy(f + at + 20, opt, olen);
    return at + 20 + olen;
}

static void test_tcp_large_frames(void)
{
    struct server s = { socket(AF_INET, SOCK_STREAM, 0) };
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t alen = sizeof(addr);
    g_autofree uint8_t *f = g_malloc0(70000), *in = g_malloc0(70000);
    struct net_offload off, out = { .flags = 1, .gso_type = 1, .gso_size = 1460, .csum_start = 34, .csum_offset = 16 };
    struct drv *d = net_new(0);
    struct wire w;
    uint8_t router[6];
    uint32_t seq = 1000, ack, received = 0;
    size_t at, len, largest = 0;
    pthread_t t;

    g_assert_cmpint(bind(s.fd, (struct sockaddr *)&addr, alen), ==, 0);
    g_assert_cmpint(listen(s.fd, 1), ==, 0);
    getsockname(s.fd, (struct sockaddr *)&addr, &alen);
    s.port = ntohs(addr.sin_port);
    pthread_create(&t, NULL, server_run, &s);
    wire_open(&w, d);
    arp(&w, router);
    at = tcp(f, router, s.port, seq++, 0, 2, "\2\4\x05\xb4", 4, 0);
    p16(f + ETH + 36, l4_sum(f, at));
    wire_send(&w, f, at, NULL);
    len = wire_receive(&w, 0x0800, 6, in, &off);
    g_assert_cmpuint(len, >=, 54);
    g_assert_cmpuint(in[ETH + 33], ==, 0x12);                   /* SYN ACK */
    ack = g32(in + ETH + 24) + 1;
    /* 40,000 bytes in one frame, its checksum left to the device */
    at = tcp(f, router, s.port, seq, ack, 0x18, "", 0, 40000);
    for (unsigned i = 0; i < 40000; i++)
        f[at + i] = i * 13;
    wire_send(&w, f, at + 40000, &out);
    seq += 40000;
    while (received < 30000) {
        size_t total, head;

        len = wire_receive(&w, 0x0800, 6, in, &off);
        g_assert_cmpuint(len, >, 0);
        total = g16(in + ETH + 2);
        head = 20 + (in[ETH + 32] >> 4) * 4;
        if (total == head)
            continue;
        g_assert_cmpuint(len, >=, ETH + total);
        if (len > 1514) {
            g_assert_cmpuint(off.gso_type, ==, 1);
            g_assert_cmpuint(off.gso_size, ==, 1500 - head);
        }
        largest = MAX(largest, len);
        g_assert_cmpuint(g32(in + ETH + 24), ==, ack);
        for (size_t i = head; i < total; i++)
            g_assert_cmpuint(in[ETH + i], ==, 'x');
        received += total - head;
        ack += total - head;
        at = tcp(f, router, s.port, seq, ack, 0x10, "", 0, 0);
        p16(f + ETH + 36, l4_sum(f, at));
        wire_send(&w, f, at, NULL);
    }
    pthread_join(t, NULL);
    g_assert_cmpuint(s.got, ==, 40000);
    g_assert_cmpuint(largest, >, 4000);
    close(s.fd);
    net_free(d);
}

/* A datagram of 5,000 bytes from outside comes as fragments that fit an Ethernet. */
static void *udp_run(void *arg)
{
    struct server *s = arg;
    uint8_t buf[5000];
    struct sockaddr_storage from;
    socklen_t len = sizeof(from);

    if (recvfrom(s->fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len) > 0) {
        for (unsigned i = 0; i < sizeof(buf); i++)
            buf[i] = i * 31;
        s->got = sendto(s->fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, len);
    }
    return NULL;
}

static void test_udp_fragments(void)
{
    struct server s = { socket(AF_INET, SOCK_DGRAM, 0) };
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t alen = sizeof(addr);
    struct drv *d = net_new(0);
    struct wire w;
    uint8_t router[6], f[100] = { 0 }, in[4096], whole[6000] = { 0 };
    size_t at, covered = 0;
    struct net_offload off;
    pthread_t t;

    g_assert_cmpint(bind(s.fd, (struct sockaddr *)&addr, alen), ==, 0);
    getsockname(s.fd, (struct sockaddr *)&addr, &alen);
    pthread_create(&t, NULL, udp_run, &s);
    wire_open(&w, d);
    arp(&w, router);
    eth(f, router, 0x0800);
    at = ipv4(f, 17, 0x0a00020f, 0x0a000202, 12);
    p16(f + at, 4000);
    p16(f + at + 2, ntohs(addr.sin_port));
    p16(f + at + 4, 12);
    wire_send(&w, f, at + 12, NULL);
    while (covered < 5008) {
        size_t len = wire_receive(&w, 0x0800, 17, in, &off), from;

        g_assert_cmpuint(len, >, 34);
        g_assert_cmpuint(len, <=, 1514);
        g_assert_cmpuint(net_checksum(in + ETH, 20, 0), ==, 0);
        from = (g16(in + ETH + 6) & 0x1fff) * 8;
        len = g16(in + ETH + 2) - 20;
        g_assert_cmpuint(from + len, <=, 5008);
        g_assert_cmpint(!!(g16(in + ETH + 6) & 0x2000), ==, from + len < 5008);
        memcpy(whole + from, in + 34, len);
        covered += len;
    }
    pthread_join(t, NULL);
    for (unsigned i = 0; i < 5000; i++)
        g_assert_cmpuint(whole[8 + i], ==, (uint8_t)(i * 31));
    close(s.fd);
    net_free(d);
}

static void *echo_run(void *arg)
{
    struct server *s = arg;
    uint8_t buf[100];
    struct sockaddr_storage from;

    for (;;) {
        socklen_t len = sizeof(from);
        ssize_t n = recvfrom(s->fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);

        if (n <= 0)
            return NULL;
        sendto(s->fd, buf, n, 0, (struct sockaddr *)&from, len);
    }
}

/* Of two TCP sockets the newer, first in slirp's list, closes, and a UDP socket gets its number before the next poll:
 * what is polled is then no longer in its old order, which GLib must be told of. */
static size_t udp_frame(uint8_t *f, const uint8_t *router, uint16_t sport, uint16_t port, uint32_t mark)
{
    size_t at;

    eth(f, router, 0x0800);
    at = ipv4(f, 17, 0x0a00020f, 0x0a000202, 12);
    memset(f + at, 0, 12);
    p16(f + at, sport);
    p16(f + at + 2, port);
    p16(f + at + 4, 12);
    p32(f + at + 8, mark);
    return at + 12;
}

static size_t tcp_signed(uint8_t *f, const uint8_t *router, uint16_t sport, uint16_t dport, uint32_t seq, uint32_t ack, uint8_t flags)
{
    size_t at = tcp(f, router, dport, seq, ack, flags, "", 0, 0);

    p16(f + ETH + 20, sport);
    p16(f + ETH + 36, l4_sum(f, at));
    return at;
}

static void test_poll_order(void)
{
    struct server s = { socket(AF_INET, SOCK_STREAM, 0) }, u = { socket(AF_INET, SOCK_DGRAM, 0) };
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, uaddr = addr;
    socklen_t alen = sizeof(addr);
    struct drv *d = net_new(0);
    struct wire w;
    uint8_t router[6], f[600] = { 0 }, in[4096];
    struct net_offload off;
    size_t at;
    uint32_t used;
    pthread_t t;

    g_assert_cmpint(bind(s.fd, (struct sockaddr *)&addr, alen), ==, 0);
    g_assert_cmpint(bind(u.fd, (struct sockaddr *)&uaddr, alen), ==, 0);
    g_assert_cmpint(listen(s.fd, 64), ==, 0);
    getsockname(s.fd, (struct sockaddr *)&addr, &alen);
    getsockname(u.fd, (struct sockaddr *)&uaddr, &alen);
    pthread_create(&t, NULL, echo_run, &u);
    wire_open(&w, d);
    arp(&w, router);
    for (uint32_t round = 0; round < 5; round++) {
        uint64_t second = drv_alloc(d, 300);
        struct seg seg[2] = { { w.tx, 0, false }, { second, 0, false } };
        uint32_t seq = 1000, ack = 0;

        for (unsigned i = 0; i < 2; i++) {
            at = tcp_signed(f, router, 41000 + 2 * round + i, ntohs(addr.sin_port), seq, 0, 2);
            wire_send(&w, f, at, NULL);
            do
                g_assert_cmpuint(wire_receive(&w, 0x0800, 6, in, &off), >=, 54);
            while (in[ETH + 33] != 0x12 || g16(in + ETH + 22) != 41000 + 2 * round + i);
            ack = g32(in + ETH + 24) + 1;
            wire_send(&w, f, tcp_signed(f, router, 41000 + 2 * round + i, ntohs(addr.sin_port), seq + 1, ack, 0x10), NULL);
        }
        wire_send(&w, f, udp_frame(f, router, 5000, ntohs(uaddr.sin_port), round), NULL);
        g_assert_cmpuint(wire_receive(&w, 0x0800, 17, in, &off), >=, 46);
        memset(d->ram + w.tx, 0, HDR);
        memset(d->ram + second, 0, HDR);
        seg[0].len = HDR + tcp_signed(d->ram + w.tx + HDR, router, 41000 + 2 * round + 1, ntohs(addr.sin_port), seq + 1, ack, 4);
        seg[1].len = HDR + udp_frame(d->ram + second + HDR, router, 5001 + round, ntohs(uaddr.sin_port), round);
        drv_add(d, 1, &seg[0], 1);
        drv_add(d, 1, &seg[1], 1);
        kick(d, 1);
        for (unsigned n = 0; n < 2;)
            n += drv_used(d, 1, 1, &used);
        g_assert_cmpuint(wire_receive(&w, 0x0800, 17, in, &off), >=, 46);
        g_assert_cmpuint(g16(in + 36), ==, 5001 + round);
    }
    shutdown(u.fd, SHUT_RDWR);
    pthread_join(t, NULL);
    close(s.fd);
    close(u.fd);
    net_free(d);
}

/* ---- offload.c */

struct pieces { unsigned count; size_t bytes, largest; uint32_t next_seq; const uint8_t *whole; };

static void count_piece(void *opaque, const uint8_t *f, size_t len)
{
    struct pieces *p = opaque;

    g_assert_cmpuint(net_checksum(f + ETH, 20, 0), ==, 0);      /* a right checksum sums to nothing */
    g_assert_cmpuint(l4_sum(f, len), ==, 0);
    g_assert_cmpuint(g16(f + ETH + 2), ==, len - ETH);
    g_assert_cmpuint(g32(f + ETH + 24), ==, p->next_seq);
    g_assert_cmpmem(f + 54, len - 54, p->whole + 54 + p->bytes, len - 54);
    g_assert_cmpuint(f[ETH + 33], ==, p->bytes + len - 54 == 10000 ? 0x19 : 0x10);      /* FIN, PSH on the last only */
    p->count++;
    p->bytes += len - 54;
    p->next_seq += len - 54;
    p->largest = MAX(p->largest, len);
}

static void test_segmentation(void)
{
    g_autofree uint8_t *f = g_malloc0(70000);
    static const uint8_t router[6] = { 2 };
    struct net_offload off = { .flags = 1, .gso_type = 1, .gso_size = 1460, .csum_start = 34, .csum_offset = 16 };
    size_t at = tcp(f, router, 80, 77, 1, 0x19, "", 0, 10000);
    struct pieces p = { .next_seq = 77, .whole = f };

    for (unsigned i = 0; i < 10000; i++)
        f[at + i] = g_random_int();
    g_assert_true(net_segment(f, at + 10000, &off, count_piece, &p));
    g_assert_cmpuint(p.count, ==, 7);
    g_assert_cmpuint(p.bytes, ==, 10000);
    g_assert_cmpuint(p.largest, ==, 54 + 1460);
    off.gso_size = 0;
    g_assert_false(net_segment(f, at + 10000, &off, count_piece, &p));
}

static void swallow(void *opaque, const uint8_t *f, size_t len)
{
    g_assert_cmpuint(len, <=, NET_FRAME_MAX);
}

static void test_offload_random(void)
{
    GRand *r = g_rand_new_with_seed(7);

    for (unsigned n = 0; n < 20000; n++) {
        size_t len = g_rand_int_range(r, 0, 200);
        g_autofree uint8_t *f = g_malloc(len + 1);     /* exact: a sanitizer sees one byte too far */
        struct net_offload off = { g_rand_int_range(r, 0, 2), g_rand_int_range(r, 0, 7), g_rand_int_range(r, 0, 100),
                                   g_rand_int_range(r, 0, 100), g_rand_int_range(r, 0, 220), g_rand_int_range(r, 0, 220) };

        for (size_t i = 0; i < len; i++)
            f[i] = g_rand_int(r);
        if (len > 34) {
            p16(f + 12, g_rand_boolean(r) ? 0x0800 : 0x86dd);
            f[14] = g_rand_boolean(r) ? 0x45 : 0x60 | g_rand_int_range(r, 0, 16);
            f[23] = f[20] = g_rand_boolean(r) ? 6 : 17;
        }
        net_checksum_fill(f, len, &off);
        net_segment(f, len, &off, swallow, NULL);
    }
    g_rand_free(r);
}

static void test_options(void)
{
    struct drv *d = net_new(0);
    static const struct { const char *opts, *want; } bad[] = {
        { "user,id=x,hostfw=tcp::1-:2", "hostfwd" }, { "usr,id=x", "user" }, { "user,id=x,net=10.0.2.0/33", "net=ADDRESS" },
        { "user,id=x,hostfwd=tcp::99999-:22", "HOSTPORT" }, { "user,id=x,dns=192.168.1.1", "inside" }, { "user,id=n0", "own" },
        { "user,id=x,smb=/tmp", "share" }, { "user", "-netdev user,id=net0" },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct error err = ERROR_INIT;
        struct json_object *o = options_parse(bad[i].opts, "type", &err);
        g_autofree char *all = NULL;

        g_assert_false(netdev_add(d->vm, o, &err));
        all = g_strdup_printf("%s / %s", err.msg, err.hint ? err.hint : "");
        if (!strstr(all, bad[i].want))
            g_error("%s: %s", bad[i].opts, all);
        error_clear(&err);
        json_object_put(o);
    }
    net_free(d);
}

static void test_hostfwd(void)
{
    struct drv *d = net_new(0);
    struct error err = ERROR_INIT;
    g_autofree char *text = NULL;

    g_assert_true(net_hostfwd(d->vm, NULL, "tcp::0-:22", true, &err));
    text = net_usernet_info(d->vm);
    g_assert_nonnull(strstr(text, "127.0.0.1"));        /* loopback unless an address is given */
    g_assert_null(strstr(text, "0.0.0.0"));
    g_assert_false(net_hostfwd(d->vm, NULL, "tcp::9-:", true, &err));
    error_clear(&err);
    net_free(d);
}

static void test_link(void)
{
    struct drv *d = net_new(0);
    struct error err = ERROR_INIT;

    g_assert_cmpuint(reg(d, 0x104) >> 16 & 1, ==, 1);
    set_reg(d, 0x064, 3);
    g_assert_true(net_set_link(d->vm, "n0", false, &err));
    g_assert_cmpuint(reg(d, 0x104) >> 16 & 1, ==, 0);
    g_assert_cmpuint(reg(d, 0x060) & 2, ==, 2);
    g_assert_false(net_set_link(d->vm, "nn", true, &err));
    error_clear(&err);
    net_free(d);
}

/* ---- back ends that meet each other */

enum { KNOCK = 1 };                     /* last byte of frames that only ask whether the connection is up */

struct end { struct netdev *n; GMutex lock; bool knocked; unsigned count; size_t bytes; uint8_t last; };

static bool end_receive(void *opaque, unsigned queue, const struct iovec *iov, int niov, const struct net_offload *off)
{
    struct end *e = opaque;
    size_t len = 0;
    uint8_t last = 0;

    g_mutex_lock(&e->lock);
    for (int i = 0; i < niov; i++) {
        len += iov[i].iov_len;
        last = ((uint8_t *)iov[i].iov_base)[iov[i].iov_len - 1];
    }
    if (last == KNOCK) {
        e->knocked = true;
    } else {
        e->count++;
        e->bytes += len;
        e->last = last;
    }
    g_mutex_unlock(&e->lock);
    return true;
}

static const struct nic_ops end_ops = { .receive = end_receive };

static void end_open(struct drv *d, struct end *e, const char *spec)
{
    struct error err = ERROR_INIT;
    struct json_object *o = options_parse(spec, "type", &err);

    if (!netdev_add(d->vm, o, &err))
        g_error("%s: %s", spec, err.msg);
    memset(e, 0, sizeof(*e));
    e->n = netdev_attach(d->vm, option_str(o, "id", NULL), d->dev, &end_ops, e, &err);
    g_assert_nonnull(e->n);
    json_object_put(o);
}

static void end_wait(struct drv *d, struct end *e, unsigned count)
{
    gint64 stop = g_get_monotonic_time() + 120 * G_USEC_PER_SEC;

    while (__atomic_load_n(&e->count, __ATOMIC_SEQ_CST) < count) {
        g_assert_cmpint(g_get_monotonic_time(), <, stop);
        if (!loop_step(d->loop, false))
            g_usleep(100);
    }
}

static void end_send(struct end *e, uint8_t *f, size_t len, uint8_t mark)
{
    struct iovec iov[2] = { { f, 20 }, { f + 20, len - 20 } };

    memset(f, 0, len);
    f[len - 1] = mark;
    netdev_send(e->n, 0, iov, 2, NULL);
}

static void meet(const char *a_spec, const char *b_spec, size_t largest)
{
    struct drv *d = net_new(0);
    g_autofree uint8_t *f = g_malloc0(70000);
    struct net_offload gso = { .flags = 1, .gso_type = 1, .gso_size = 1460, .csum_start = 34, .csum_offset = 16 };
    struct end a, b;
    size_t at, sizes[] = { 60, 1514, largest };
    gint64 stop;

    end_open(d, &a, a_spec);
    end_open(d, &b, b_spec);
    for (stop = g_get_monotonic_time() + 120 * G_USEC_PER_SEC; !b.knocked && g_get_monotonic_time() < stop;) {
        end_send(&a, f, 60, KNOCK);
        for (int i = 0; i < 20; i++) {
            loop_step(d->loop, false);
            g_usleep(200);
        }
    }
    g_assert_true(b.knocked);
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        end_send(&a, f, sizes[i], 10 + i);
        end_wait(d, &b, i + 1);
        g_assert_cmpuint(b.last, ==, 10 + i);
        end_send(&b, f, sizes[i], 20 + i);
        end_wait(d, &a, i + 1);
        g_assert_cmpuint(a.last, ==, 20 + i);
    }
    g_assert_cmpuint(a.bytes, ==, 60 + 1514 + largest);
    g_assert_cmpuint(b.bytes, ==, 60 + 1514 + largest);
    /* the receiver has taken no offloads: it gets segments */
    at = tcp(f, my_mac, 80, 1, 1, 0x10, "", 0, 5000);
    netdev_send(a.n, 0, &(struct iovec){ f, at + 5000 }, 1, &gso);
    end_wait(d, &b, 3 + 4);
    netdev_detach(a.n);
    netdev_detach(b.n);
    net_free(d);
}

static void test_stream_unix(void)
{
    g_autofree char *path = g_strdup_printf("/tmp/rhea-net-%d", getpid());
    g_autofree char *a = g_strdup_printf("stream,id=a,server=on,addr.type=unix,addr.path=%s", path);
    g_autofree char *b = g_strdup_printf("stream,id=b,addr.type=unix,addr.path=%s", path);

    meet(a, b, 65000);
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

static void test_socket_tcp(void)
{
    g_autofree char *a = g_strdup_printf("socket,id=a,listen=127.0.0.1:%d", 20000 + getpid() % 10000);
    g_autofree char *b = g_strdup_printf("socket,id=b,connect=127.0.0.1:%d", 20000 + getpid() % 10000);

    meet(a, b, 65000);
}

static void test_dgram_udp(void)
{
    int p = 30000 + getpid() % 10000, q = p + 10000;
    g_autofree char *a = g_strdup_printf("dgram,id=a,local.type=inet,local.host=127.0.0.1,local.port=%d,"
                                         "remote.type=inet,remote.host=127.0.0.1,remote.port=%d", p, q);
    g_autofree char *b = g_strdup_printf("socket,id=b,localaddr=127.0.0.1:%d,udp=127.0.0.1:%d", q, p);

    meet(a, b, 9000);
}

static void test_hub(void)
{
    meet("hubport,id=a,hubid=3", "hubport,id=b,hubid=3", 65000);
}

static void test_dump(void)
{
    g_autofree char *path = g_strdup_printf("/tmp/rhea-dump-%d", getpid()), *text = NULL;
    g_autofree char *spec = g_strdup_printf("{\"qom-type\":\"filter-dump\",\"id\":\"f\",\"netdev\":\"n0\",\"file\":\"%s\",\"maxlen\":50}", path);
    struct drv *d = net_new(0);
    struct error err = ERROR_INIT;
    struct json_object *o = json_tokener_parse(spec);
    struct wire w;
    uint8_t router[6];
    gsize len;

    g_assert_true(object_add(d->vm, o, &err));
    json_object_put(o);
    wire_open(&w, d);
    arp(&w, router);
    g_assert_true(object_del(d->vm, "f", &err));
    g_assert_true(g_file_get_contents(path, &text, &len, NULL));
    g_assert_cmpuint(len, >=, 24 + 2 * (16 + 42));
    g_assert_cmpuint(*(uint32_t *)text, ==, 0xa1b2c3d4);
    g_assert_cmpuint(*(uint32_t *)(text + 24 + 8), <=, 50);
    unlink(path);
    net_free(d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net/user/arp_dhcp_ping", test_arp_dhcp_ping);
    g_test_add_func("/net/user/tcp_large_frames", test_tcp_large_frames);
    g_test_add_func("/net/user/udp_fragments", test_udp_fragments);
    g_test_add_func("/net/user/poll_order", test_poll_order);
    g_test_add_func("/net/user/options", test_options);
    g_test_add_func("/net/user/hostfwd", test_hostfwd);
    g_test_add_func("/net/stream/unix", test_stream_unix);
    g_test_add_func("/net/socket/tcp", test_socket_tcp);
    g_test_add_func("/net/dgram/udp", test_dgram_udp);
    g_test_add_func("/net/hub", test_hub);
    g_test_add_func("/net/dump", test_dump);
    g_test_add_func("/net/link", test_link);
    g_test_add_func("/net/segmentation", test_segmentation);
    g_test_add_func("/net/offload_random", test_offload_random);
    return g_test_run();
}
