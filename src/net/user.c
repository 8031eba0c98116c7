/* -netdev user: a network of its own behind libslirp, on a thread of its own. TCP frames of any size go through whole,
 * both ways: the guest's segmentation offload reaches slirp as one packet, and slirp is told of a segment size as large
 * as the guest's offloads allow, so that downloads come as one packet too (see syn_widen()). */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include "net/netdev.h"
#include "rhea/base/log.h"
#include "rhea/base/options.h"
#include "rhea/chardev/chardev.h"
#include "rhea/vm/clock.h"
#include "rhea/vm/vm.h"

enum { MTU = 1500, BIG_MTU = 65521, ETH = 14, MSS_FLOOR = 536 };
enum { VNET_CSUM = 1, VNET_TCPV4 = 1, VNET_TCPV6 = 4 };

struct net_user;
struct guestfwd { struct net_user *u; struct in_addr addr; int port; struct chardev_fe *fe; char *chardev; };
struct user_source { GSource source; struct net_user *u; };

struct net_user {
    struct netdev n;
    Slirp *slirp;
    struct in_addr network, mask, host;
    bool restricted;
    char *describe;
    GPtrArray *guestfwds;       /* struct guestfwd */
    GStrv dnssearch;
    /* polling */
    struct user_source *source;
    GPollFD *fds;
    unsigned nfds, fds_cap, old_nfds;
    gint64 deadline;            /* monotonic us, -1: none */
    uint8_t frame[NET_FRAME_MAX];
};

/* ---- the event source: slirp says before each wait what it waits for */

static GIOCondition poll_to_g(int events)
{
    return (events & SLIRP_POLL_IN ? G_IO_IN : 0) | (events & SLIRP_POLL_OUT ? G_IO_OUT : 0) |
           (events & SLIRP_POLL_PRI ? G_IO_PRI : 0) | G_IO_ERR | G_IO_HUP;
}

static int add_poll(int fd, int events, void *opaque)
{
    struct net_user *u = opaque;

    if (u->nfds == u->fds_cap) {
        GPollFD *old = u->fds;

        u->fds_cap = MAX(16, 2 * u->fds_cap);
        u->fds = g_new0(GPollFD, u->fds_cap);
        for (unsigned i = 0; i < u->old_nfds; i++) {    /* GLib holds their addresses */
            g_source_remove_poll(&u->source->source, &old[i]);
            u->fds[i] = old[i];
            g_source_add_poll(&u->source->source, &u->fds[i]);
        }
        g_free(old);
    }
    /* GLib keeps them sorted by descriptor: what it has may change its events, not its number. */
    if (u->nfds < u->old_nfds && u->fds[u->nfds].fd != fd) {
        g_source_remove_poll(&u->source->source, &u->fds[u->nfds]);
        u->fds[u->nfds].fd = fd;
        g_source_add_poll(&u->source->source, &u->fds[u->nfds]);
    } else if (u->nfds >= u->old_nfds) {
        u->fds[u->nfds] = (GPollFD){ .fd = fd };
        g_source_add_poll(&u->source->source, &u->fds[u->nfds]);
        u->old_nfds++;
    }
    u->fds[u->nfds].events = poll_to_g(events);
    u->fds[u->nfds].revents = 0;
    return u->nfds++;
}

static int get_revents(int i, void *opaque)
{
    struct net_user *u = opaque;
    unsigned r = i >= 0 && (unsigned)i < u->nfds ? u->fds[i].revents : 0;

    return (r & G_IO_IN ? SLIRP_POLL_IN : 0) | (r & G_IO_OUT ? SLIRP_POLL_OUT : 0) |
           (r & G_IO_PRI ? SLIRP_POLL_PRI : 0) | (r & G_IO_ERR ? SLIRP_POLL_ERR : 0) |
           (r & G_IO_HUP ? SLIRP_POLL_HUP : 0);
}

static gboolean source_prepare(GSource *source, gint *timeout)
{
    struct net_user *u = ((struct user_source *)source)->u;
    uint32_t ms = UINT32_MAX;

    u->nfds = 0;
    slirp_pollfds_fill(u->slirp, &ms, add_poll, u);
    while (u->old_nfds > u->nfds)
        g_source_remove_poll(source, &u->fds[--u->old_nfds]);
    *timeout = ms > INT32_MAX ? -1 : MAX(ms, 1);
    u->deadline = *timeout < 0 ? -1 : g_get_monotonic_time() + *timeout * 1000ll;
    return FALSE;
}

static gboolean source_check(GSource *source)
{
    struct net_user *u = ((struct user_source *)source)->u;

    for (unsigned i = 0; i < u->nfds; i++)
        if (u->fds[i].revents)
            return TRUE;
    return u->deadline >= 0 && g_get_monotonic_time() >= u->deadline;
}

static gboolean source_dispatch(GSource *source, GSourceFunc fn, gpointer data)
{
    struct net_user *u = ((struct user_source *)source)->u;

    slirp_pollfds_poll(u->slirp, 0, get_revents, u);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = { .prepare = source_prepare, .check = source_check, .dispatch = source_dispatch };

/* ---- large segments
 *
 * slirp never sends more in a TCP segment than the guest's SYN allows. While the guest takes segmented frames (TSO),
 * the maximum segment size in its SYN is raised to what fits in one IP packet; the frames that come back are handed
 * over with gso_size, the size that the guest had said (an Ethernet's). */

static uint16_t get16(const uint8_t *p) { return p[0] << 8 | p[1]; }
static void put16(uint8_t *p, uint16_t v) { p[0] = v >> 8; p[1] = v; }

/* Where the TCP header of a plain frame is; 0: it has none. */
static size_t tcp_at(const uint8_t *f, size_t len, bool *v6)
{
    size_t l4;

    if (len < ETH + 40)
        return 0;
    *v6 = get16(f + 12) == 0x86dd;
    if (*v6) {
        if (f[ETH + 6] != 6)
            return 0;
        l4 = ETH + 40;
    } else {
        if (get16(f + 12) != 0x0800 || f[ETH] >> 4 != 4 || f[ETH + 9] != 6 || get16(f + ETH + 6) & 0x3fff)
            return 0;
        l4 = ETH + 4 * (f[ETH] & 15);
    }
    return l4 + 20 <= len && l4 + 4 * (f[l4 + 12] >> 4) <= len ? l4 : 0;
}

static void syn_widen(struct net_user *u, uint8_t *f, size_t len)
{
    unsigned guest = atomic_load(&u->n.guest_offloads);
    bool v6;
    size_t tcp = tcp_at(f, len, &v6), end;

    if (!tcp || !(f[tcp + 13] & 2) || !(guest & (v6 ? NET_TSO6 : NET_TSO4)))
        return;
    end = tcp + 4 * (f[tcp + 12] >> 4);
    for (size_t o = tcp + 20; o + 1 < end && f[o] != 0;) {
        unsigned size = f[o] == 1 ? 1 : f[o + 1];

        if (size == 0 || o + size > end)
            return;
        if (f[o] == 2 && size == 4) {
            uint16_t old = get16(f + o + 2), big = BIG_MTU - 60, sum = get16(f + tcp + 16);
            uint32_t s;

            if (old < MSS_FLOOR)
                return;         /* asked for small ones on purpose */
            /* RFC 1624; options may stand at odd offsets: then both are swapped */
            if ((o + 2 - tcp) & 1) {
                old = __builtin_bswap16(old);
                put16(f + o + 2, big);
                big = __builtin_bswap16(big);
            } else {
                put16(f + o + 2, big);
            }
            s = (uint16_t)~sum + (uint16_t)~old + big;
            s = (s & 0xffff) + (s >> 16);
            put16(f + tcp + 16, ~(s + (s >> 16)));
            return;
        }
        o += size;
    }
}

static void send_to_guest(struct net_user *u, const uint8_t *f, size_t len, const struct net_offload *off)
{
    struct iovec iov = { (void *)f, len };

    netdev_receive(&u->n, 0, &iov, 1, off);
}

/* What does not fit the guest's MTU and is not TCP: IPv4 fragments. */
static void send_fragments(struct net_user *u, const uint8_t *f, size_t len)
{
    size_t ip = 4 * (f[ETH] & 15), left, done = 0, most;

    if (get16(f + 12) != 0x0800 || ip < 20 || ETH + ip > len || get16(f + ETH + 6) & 0x3fff) {
        send_to_guest(u, f, len, NULL);
        return;
    }
    most = (MTU - ip) & ~7u;
    for (left = len - ETH - ip; left;) {
        size_t n = MIN(most, left);
        uint8_t *out = u->frame;

        memcpy(out, f, ETH + ip);
        memcpy(out + ETH + ip, f + ETH + ip + done, n);
        put16(out + ETH + 2, ip + n);
        put16(out + ETH + 6, done >> 3 | (n < left ? 0x2000 : 0));
        put16(out + ETH + 10, 0);
        put16(out + ETH + 10, net_checksum(out + ETH, ip, 0));
        send_to_guest(u, out, ETH + ip + n, NULL);
        done += n;
        left -= n;
    }
}

static ssize_t user_output(const void *buf, size_t len, void *opaque)
{
    struct net_user *u = opaque;
    const uint8_t *f = buf;
    struct net_offload off = { 0 };
    bool v6 = false;
    size_t tcp;

    if (len <= MTU + ETH) {
        send_to_guest(u, f, len, NULL);
        return len;
    }
    tcp = tcp_at(f, len, &v6);
    if (!tcp) {
        send_fragments(u, f, len);
        return len;
    }
    off.flags = VNET_CSUM;
    off.gso_type = v6 ? VNET_TCPV6 : VNET_TCPV4;
    off.hdr_len = tcp + 4 * (f[tcp + 12] >> 4);
    off.gso_size = MTU + ETH - off.hdr_len;
    off.csum_start = tcp;
    off.csum_offset = 16;
    send_to_guest(u, f, len, &off);
    return len;
}

/* ---- what slirp calls */

static void user_guest_error(const char *msg, void *opaque)
{
    log_at(LOG_GUEST_ERRORS, "%s: %s\n", ((struct net_user *)opaque)->n.id, msg);
}

static int64_t user_clock(void *opaque) { return vm_clock_ns(((struct net_user *)opaque)->n.vm); }

struct user_timer { struct net_user *u; struct loop_timer *timer; SlirpTimerCb cb; void *arg; };

static void timer_fired(void *arg)
{
    struct user_timer *t = arg;

    t->cb(t->arg);
}

static void *user_timer_new(SlirpTimerCb cb, void *arg, void *opaque)
{
    struct user_timer *t = g_new(struct user_timer, 1);
    struct net_user *u = opaque;

    *t = (struct user_timer){ u, NULL, cb, arg };
    t->timer = loop_timer_new(u->n.loop, timer_fired, t);
    return t;
}

static void user_timer_free(void *timer, void *opaque)
{
    struct user_timer *t = timer;

    loop_timer_free(t->timer);
    g_free(t);
}

static void user_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
    struct user_timer *t = timer;

    loop_timer_set(t->timer, host_clock_ns() + expire_ms * 1000000 - user_clock(t->u));
}

static void user_poll_fd(int fd, void *opaque) {}
static void user_notify(void *opaque) {}

static const SlirpCb callbacks = {
    .send_packet = user_output,
    .guest_error = user_guest_error,
    .clock_get_ns = user_clock,
    .timer_new = user_timer_new,
    .timer_free = user_timer_free,
    .timer_mod = user_timer_mod,
    .register_poll_fd = user_poll_fd,
    .unregister_poll_fd = user_poll_fd,
    .notify = user_notify,
};

/* ---- packets from the guest */

static void user_send(struct netdev *n, unsigned queue, const struct iovec *iov, int niov,
                      const struct net_offload *off)
{
    struct net_user *u = (struct net_user *)n;
    size_t len = 0;

    for (int i = 0; i < niov; i++) {
        if (iov[i].iov_len > sizeof(u->frame) - len)
            return;
        memcpy(u->frame + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    if (len < ETH)
        return;
    syn_widen(u, u->frame, len);
    slirp_input(u->slirp, u->frame, len);
}

/* ---- options */

static bool parse_port(const char *text, int *port)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    *port = n;
    return *text && isdigit((unsigned char)*text) && !*end && n <= 65535;
}

/* "[ADDR]:PORT"; addr stays as it is when left out. */
static bool parse_addr_port(const char *text, struct in_addr *addr, int *port)
{
    const char *colon = strrchr(text, ':');
    g_autofree char *host = colon ? g_strndup(text, colon - text) : NULL;

    return colon && (!*host || inet_aton(host, addr)) && parse_port(colon + 1, port);
}

struct hostfwd { int udp; struct in_addr host, guest; int host_port, guest_port; };

static bool hostfwd_parse(const char *rule, struct hostfwd *f)
{
    g_auto(GStrv) part = NULL;
    const char *rest = rule;

    *f = (struct hostfwd){ .host.s_addr = htonl(INADDR_LOOPBACK) };
    if (g_str_has_prefix(rest, "udp:"))
        f->udp = 1;
    else if (!g_str_has_prefix(rest, "tcp:") && *rest != ':')
        return false;
    rest = strchr(rest, ':') + 1;
    part = g_strsplit(rest, "-", 2);
    return g_strv_length(part) == 2 && parse_addr_port(part[0], &f->host, &f->host_port) &&
           parse_addr_port(part[1], &f->guest, &f->guest_port) && f->guest_port;
}

static bool hostfwd_add(struct net_user *u, const char *rule, struct error *err)
{
    struct hostfwd f;

    if (!hostfwd_parse(rule, &f))
        return error_setf(
            err, ERR_GENERIC,
            "write tcp|udp:[HOSTADDR]:HOSTPORT-[GUESTADDR]:GUESTPORT, such as hostfwd=tcp::2222-:22",
            "invalid host forwarding rule '%s'", rule);
    if (slirp_add_hostfwd(u->slirp, f.udp, f.host, f.host_port, f.guest, f.guest_port) < 0) {
        int e = errno;
        char addr[INET_ADDRSTRLEN];

        inet_ntop(AF_INET, &f.host, addr, sizeof(addr));
        return error_setf(
            err, ERR_GENERIC,
            e == EADDRINUSE ? "choose another host port; `ss -ltnp` shows who has this one" : NULL,
            "could not set up host forwarding rule '%s': %s:%d: %s", rule, addr, f.host_port, strerror(e));
    }
    return true;
}

static bool hostfwd_remove(struct net_user *u, const char *rule, struct error *err)
{
    struct in_addr host = { htonl(INADDR_LOOPBACK) };
    bool udp = g_str_has_prefix(rule, "udp:");
    const char *rest = g_str_has_prefix(rule, "tcp:") || udp ? rule + 4 : rule;
    int port;

    if (!parse_addr_port(rest, &host, &port))
        return error_setf(err, ERR_GENERIC, "write tcp|udp:[HOSTADDR]:HOSTPORT",
                          "invalid host forwarding rule '%s'", rule);
    if (slirp_remove_hostfwd(u->slirp, udp, host, port) < 0)
        return error_setf(err, ERR_GENERIC, "info usernet lists them", "host forwarding rule '%s' not found", rule);
    return true;
}

/* ---- guestfwd: a port inside the network that is a character device or a command on the host */

static size_t fwd_can_read(void *opaque)
{
    struct guestfwd *f = opaque;

    return slirp_socket_can_recv(f->u->slirp, f->addr, f->port);
}

static void fwd_read(void *opaque, const uint8_t *buf, size_t len)
{
    struct guestfwd *f = opaque;

    slirp_socket_recv(f->u->slirp, f->addr, f->port, buf, len);
}

static ssize_t fwd_write(const void *buf, size_t len, void *opaque)
{
    return chardev_write(((struct guestfwd *)opaque)->fe, buf, len);
}

static const struct chardev_fe_ops fwd_ops = { .can_read = fwd_can_read, .read = fwd_read };

static bool guestfwd_chardev(struct net_user *u, struct guestfwd *f, const char *spec, struct error *err)
{
    g_autofree char *label = g_strdup_printf("guestfwd.%s.%u", u->n.id, u->guestfwds->len);
    bool mux;

    f->chardev = chardev_from_short(u->n.vm, spec, label, &mux, err);
    if (!f->chardev || !*f->chardev)
        return f->chardev
                   ? error_setf(err, ERR_GENERIC, NULL, "guestfwd needs a character device, not '%s'", spec)
                   : false;
    f->fe = chardev_attach(u->n.vm, f->chardev, &fwd_ops, f, u->n.loop, err);
    if (!f->fe)
        return false;
    if (slirp_add_guestfwd(u->slirp, fwd_write, f, &f->addr, f->port) < 0)
        return error_set(err, ERR_GENERIC, "guestfwd: address is not inside the network, or taken", NULL);
    return true;
}

static bool guestfwd_add(struct net_user *u, const char *rule, struct error *err)
{
    struct guestfwd *f = g_new0(struct guestfwd, 1);
    const char *rest = g_str_has_prefix(rule, "tcp:") ? rule + 4 : rule, *dash = strchr(rest, '-');
    g_autofree char *where = dash ? g_strndup(rest, dash - rest) : NULL;

    f->u = u;
    g_ptr_array_add(u->guestfwds, f);
    if (!dash || !parse_addr_port(where, &f->addr, &f->port) || !f->port)
        return error_setf(err, ERR_GENERIC, "write tcp:SERVER:PORT-CHARDEV or tcp:SERVER:PORT-cmd:COMMAND",
                          "invalid guest forwarding rule '%s'", rule);
    if (!g_str_has_prefix(dash + 1, "cmd:"))
        return guestfwd_chardev(u, f, dash + 1, err);
    if (slirp_add_exec(u->slirp, dash + 5, &f->addr, f->port) < 0)
        return error_setf(err, ERR_GENERIC, NULL, "guestfwd '%s': address is not inside the network, or taken", rule);
    return true;
}

/* One rule or many; QMP wraps each in {"str": ...}. */
static bool each_rule(struct net_user *u, struct json_object *opts, const char *key,
                      bool (*add)(struct net_user *u, const char *rule, struct error *err), struct error *err)
{
    struct json_object *o = NULL, *e;
    size_t n;

    if (!json_object_object_get_ex(opts, key, &o) || !o)
        return true;
    n = json_object_is_type(o, json_type_array) ? json_object_array_length(o) : 1;
    for (size_t i = 0; i < n; i++) {
        e = json_object_is_type(o, json_type_array) ? json_object_array_get_idx(o, i) : o;
        if (json_object_is_type(e, json_type_object))
            json_object_object_get_ex(e, "str", &e);
        if (!add(u, json_object_get_string(e), err))
            return false;
    }
    return true;
}

static bool addr_option(struct json_object *opts, const char *key, struct in_addr *out, struct error *err)
{
    const char *text = option_str(opts, key, NULL);

    return !text || inet_aton(text, out) ||
           error_setf(err, ERR_GENERIC, "write an IPv4 address", "%s=%s is no address", key, text);
}

static bool addr6_option(struct json_object *opts, const char *key, struct in6_addr *out, struct error *err)
{
    const char *text = option_str(opts, key, NULL);

    return !text || inet_pton(AF_INET6, text, out) == 1 ||
           error_setf(err, ERR_GENERIC, "write an IPv6 address", "%s=%s is no address", key, text);
}

/* "10.0.2.0/24", or "/255.255.255.0", or an address of a classful network. */
static bool net_option(struct json_object *opts, SlirpConfig *c, struct error *err)
{
    const char *text = option_str(opts, "net", "10.0.2.0/24"), *slash = strchr(text, '/');
    g_autofree char *addr = slash ? g_strndup(text, slash - text) : g_strdup(text);
    uint32_t a, bits;
    int n;

    if (!inet_aton(addr, &c->vnetwork))
        goto bad;
    a = ntohl(c->vnetwork.s_addr);
    if (slash && strchr(slash, '.')) {
        if (!inet_aton(slash + 1, &c->vnetmask))
            goto bad;
    } else if (slash) {
        if (!parse_port(slash + 1, &n) || n < 4 || n > 30)
            goto bad;
        c->vnetmask.s_addr = htonl(0xffffffffu << (32 - n));
    } else {
        c->vnetmask.s_addr = htonl(!(a & 0x80000000) ? 0xff000000 : !(a & 0x40000000) ? 0xffff0000 : 0xffffff00);
    }
    bits = ntohl(c->vnetmask.s_addr);
    if (!bits || (~bits & (~bits + 1)) || ~bits < 3)
        goto bad;
    c->vnetwork.s_addr &= c->vnetmask.s_addr;
    c->vhost.s_addr = c->vnetwork.s_addr | htonl(2);
    c->vnameserver.s_addr = c->vnetwork.s_addr | htonl(3);
    c->vdhcp_start.s_addr = c->vnetwork.s_addr | htonl(MIN(15, ~bits - 1));
    return true;
bad:
    return error_setf(err, ERR_GENERIC, "write net=ADDRESS/BITS, such as net=192.168.76.0/24",
                      "net=%s is no network", text);
}

static bool inside(const SlirpConfig *c, struct in_addr a)
{
    return (a.s_addr & c->vnetmask.s_addr) == c->vnetwork.s_addr && a.s_addr & ~c->vnetmask.s_addr;
}

static bool ipv4_options(struct json_object *opts, SlirpConfig *c, struct error *err)
{
    if (!net_option(opts, c, err) || !addr_option(opts, "host", &c->vhost, err) ||
        !addr_option(opts, "dhcpstart", &c->vdhcp_start, err) ||
        !addr_option(opts, "dns", &c->vnameserver, err))
        return false;
    if (!inside(c, c->vhost) || !inside(c, c->vdhcp_start) || !inside(c, c->vnameserver))
        return error_set(err, ERR_GENERIC, "host, dns and dhcpstart must be addresses inside net",
                         "leave them out, or choose ones of that network");
    if (c->vhost.s_addr == c->vnameserver.s_addr || c->vdhcp_start.s_addr == c->vhost.s_addr ||
        c->vdhcp_start.s_addr == c->vnameserver.s_addr)
        return error_set(err, ERR_GENERIC, "host, dns and dhcpstart must differ", NULL);
    return true;
}

static bool ipv6_options(struct json_object *opts, SlirpConfig *c, struct error *err)
{
    const char *net = option_str(opts, "ipv6-net", NULL), *slash = net ? strchr(net, '/') : NULL;
    g_autofree char *prefix = NULL;
    int64_t bits = 64;

    inet_pton(AF_INET6, "fec0::", &c->vprefix_addr6);
    if (net) {
        int n = 64;

        prefix = slash ? g_strndup(net, slash - net) : g_strdup(net);
        if (inet_pton(AF_INET6, prefix, &c->vprefix_addr6) != 1 || (slash && !parse_port(slash + 1, &n)))
            return error_setf(err, ERR_GENERIC, "write ipv6-net=PREFIX/64", "ipv6-net=%s is no network", net);
        bits = n;
    }
    if (!addr6_option(opts, "ipv6-prefix", &c->vprefix_addr6, err) ||
        !option_int(opts, "ipv6-prefixlen", bits, &bits, err))
        return false;
    if (bits < 0 || bits > 126)
        return error_set(err, ERR_GENERIC, "the IPv6 prefix must have 0 to 126 bits", NULL);
    c->vprefix_len = bits;
    c->vhost6 = c->vnameserver6 = c->vprefix_addr6;
    c->vhost6.s6_addr[15] |= 2;
    c->vnameserver6.s6_addr[15] |= 3;
    return addr6_option(opts, "ipv6-host", &c->vhost6, err) && addr6_option(opts, "ipv6-dns", &c->vnameserver6, err);
}

static GStrv search_list(struct json_object *opts)
{
    struct json_object *o = NULL, *e;
    GStrv list;
    size_t n;

    if (!json_object_object_get_ex(opts, "dnssearch", &o) || !o)
        return NULL;
    n = json_object_is_type(o, json_type_array) ? json_object_array_length(o) : 1;
    list = g_new0(char *, n + 1);
    for (size_t i = 0; i < n; i++) {
        e = json_object_is_type(o, json_type_array) ? json_object_array_get_idx(o, i) : o;
        if (json_object_is_type(e, json_type_object))
            json_object_object_get_ex(e, "str", &e);
        list[i] = g_strdup(json_object_get_string(e));
    }
    return list;
}

/* A start-up problem: what a guest could use to leave its jail by mistake. */
static bool refuse_smb(struct json_object *opts, struct error *err)
{
    if (!option_str(opts, "smb", NULL) && !option_str(opts, "smbserver", NULL))
        return true;
    return error_set(err, ERR_GENERIC, "smb= is not supported by this build",
                     "share a folder with virtio-9p or virtiofs");
}

static bool user_config(struct net_user *u, struct json_object *opts, SlirpConfig *c, struct error *err)
{
    bool v4, v6, restricted;

    if (!refuse_smb(opts, err) || !option_bool(opts, "ipv4", true, &v4, err) ||
        !option_bool(opts, "ipv6", true, &v6, err) ||
        !option_bool(opts, "restrict", false, &restricted, err) || !ipv4_options(opts, c, err) ||
        !ipv6_options(opts, c, err))
        return false;
    if (!v4 && !v6)
        return error_set(err, ERR_GENERIC, "neither IPv4 nor IPv6 is left", "leave out ipv4=off or ipv6=off");
    u->dnssearch = search_list(opts);
    c->version = 4;
    c->restricted = restricted;
    c->in_enabled = v4;
    c->in6_enabled = v6;
    c->vhostname = option_str(opts, "hostname", NULL);
    c->tftp_server_name = option_str(opts, "tftp-server-name", NULL);
    c->tftp_path = option_str(opts, "tftp", NULL);
    c->bootfile = option_str(opts, "bootfile", NULL);
    c->vdomainname = option_str(opts, "domainname", NULL);
    c->vdnssearch = (const char **)u->dnssearch;
    c->if_mtu = c->if_mru = BIG_MTU;
    u->network = c->vnetwork;
    u->mask = c->vnetmask;
    u->host = c->vhost;
    u->restricted = restricted;
    return true;
}

static bool user_create(struct netdev *n, struct json_object *opts, struct error *err)
{
    struct net_user *u = (struct net_user *)n;
    SlirpConfig config = { 0 };
    char net[INET_ADDRSTRLEN], mask[INET_ADDRSTRLEN];

    u->guestfwds = g_ptr_array_new();
    if (!user_config(u, opts, &config, err))
        return false;
    u->slirp = slirp_new(&config, &callbacks, u);
    if (!u->slirp)
        return error_setf(err, ERR_GENERIC, NULL, "libslirp refused the configuration of netdev '%s'", n->id);
    inet_ntop(AF_INET, &u->network, net, sizeof(net));
    inet_ntop(AF_INET, &u->mask, mask, sizeof(mask));
    u->describe = g_strdup_printf("net=%s,mask=%s,restrict=%s", net, mask, u->restricted ? "on" : "off");
    return each_rule(u, opts, "hostfwd", hostfwd_add, err) && each_rule(u, opts, "guestfwd", guestfwd_add, err);
}

static void user_start(struct netdev *n)
{
    struct net_user *u = (struct net_user *)n;

    u->source = (struct user_source *)g_source_new(&source_funcs, sizeof(struct user_source));
    u->source->u = u;
    g_source_attach(&u->source->source, loop_context(n->loop));
}

static void user_stop(struct netdev *n)
{
    struct net_user *u = (struct net_user *)n;

    for (unsigned i = 0; i < u->guestfwds->len; i++)
        chardev_detach(((struct guestfwd *)g_ptr_array_index(u->guestfwds, i))->fe);
    g_source_destroy(&u->source->source);
    g_source_unref(&u->source->source);
    slirp_cleanup(u->slirp);
    u->slirp = NULL;
}

static void user_destroy(struct netdev *n)
{
    struct net_user *u = (struct net_user *)n;

    for (unsigned i = 0; i < u->guestfwds->len; i++) {
        struct guestfwd *f = g_ptr_array_index(u->guestfwds, i);

        if (u->slirp && f->fe)  /* never started */
            chardev_detach(f->fe);
        if (f->chardev && *f->chardev)
            chardev_del(n->vm, f->chardev, NULL);
        g_free(f->chardev);
        g_free(f);
    }
    g_ptr_array_free(u->guestfwds, TRUE);
    if (u->slirp)
        slirp_cleanup(u->slirp);
    g_strfreev(u->dnssearch);
    g_free(u->describe);
    g_free(u->fds);
}

static char *user_describe(struct netdev *n)
{
    return g_strdup(((struct net_user *)n)->describe);
}

/* ---- monitor: hostfwd_add, hostfwd_remove, info usernet */

struct user_call {
    struct net_user *u;
    const char *rule;
    bool (*fn)(struct net_user *u, const char *rule, struct error *err);
    struct error *err;
    bool ok;
    char *text;
};

static void user_call_run(void *arg)
{
    struct user_call *c = arg;

    c->ok = c->fn(c->u, c->rule, c->err);
}

static struct netdev *user_find(struct vm *vm, const char *id, struct error *err)
{
    g_autoptr(GPtrArray) list = netdev_list(vm);

    for (unsigned i = 0; i < list->len; i++) {
        struct netdev *n = g_ptr_array_index(list, i);

        if (n->drv->create == user_create && (!id || strcmp(n->id, id) == 0))
            return n;
    }
    error_setf(err, ERR_DEVICE_NOT_FOUND, "info network lists them",
               id ? "'%s' is no user network" : "there is no user network%s", id ? id : "");
    return NULL;
}

bool net_hostfwd(struct vm *vm, const char *netdev, const char *rule, bool add, struct error *err)
{
    struct netdev *n = user_find(vm, netdev, err);
    struct user_call c = { (struct net_user *)n, rule, add ? hostfwd_add : hostfwd_remove, err, false, NULL };

    if (!n)
        return false;
    loop_call(n->loop, user_call_run, &c);
    return c.ok;
}

static void usernet_text(void *arg)
{
    struct user_call *c = arg;

    c->text = slirp_connection_info(c->u->slirp);
}

char *net_usernet_info(struct vm *vm)
{
    g_autoptr(GPtrArray) list = netdev_list(vm);
    GString *s = g_string_new(NULL);

    for (unsigned i = 0; i < list->len; i++) {
        struct netdev *n = g_ptr_array_index(list, i);
        struct user_call c = { .u = (struct net_user *)n };

        if (n->drv->create != user_create)
            continue;
        loop_call(n->loop, usernet_text, &c);
        g_string_append_printf(s, "Hub -1 (%s):\n%s", n->id, c.text);
        g_free(c.text);
    }
    return g_string_free(s, FALSE);
}

NETDEV = {
    .name = "user",
    .summary = "a network of its own; the host's network stack does the work",
    .size = sizeof(struct net_user),
    .offloads = NET_TSO4 | NET_TSO6,
    .own_thread = true,
    .options = (const struct net_option[]){
        { "net", "ADDR/BITS", "the network (10.0.2.0/24)" },
        { "host", "ADDR", "the host's address in it (.2)" },
        { "dhcpstart", "ADDR", "first address that DHCP gives out (.15)" },
        { "dns", "ADDR", "the name server's address (.3)" },
        { "dnssearch", "DOMAIN", "search list entry of DHCP; may be repeated" },
        { "domainname", "NAME", "domain of DHCP" },
        { "hostname", "NAME", "host name of DHCP" },
        { "restrict", "on|off", "on: the guest reaches neither the host nor the outside" },
        { "ipv4", "on|off", "IPv4" },
        { "ipv6", "on|off", "IPv6" },
        { "ipv6-net", "PREFIX/BITS", "the IPv6 network (fec0::/64)" },
        { "ipv6-prefix", "PREFIX", "its older spelling" },
        { "ipv6-prefixlen", "BITS", "its older spelling" },
        { "ipv6-host", "ADDR", "the host's IPv6 address" },
        { "ipv6-dns", "ADDR", "the name server's IPv6 address" },
        { "hostfwd", "tcp|udp:[ADDR]:PORT-[ADDR]:PORT", "forward a host port (loopback unless ADDR is given); may be repeated" },
        { "guestfwd", "tcp:ADDR:PORT-DEV", "a port of the network that is a character device or cmd:COMMAND" },
        { "tftp", "DIR", "serve this directory by TFTP" },
        { "tftp-server-name", "NAME", "server name of DHCP" },
        { "bootfile", "FILE", "boot file of DHCP" },
        { "smb", "DIR", "not supported" },
        { "smbserver", "ADDR", "not supported" },
        { 0 } },
    .create = user_create, .start = user_start, .stop = user_stop, .destroy = user_destroy, .send = user_send,
    .describe = user_describe,
};
