/* -netdev tap: frames to and from a TAP interface of the host, with its offloads (linux/if_tun.h). */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "net/netdev.h"
#include "rhea/base/options.h"
#include "rhea/vm/fds.h"
#include "rhea/vm/vm.h"

enum { VNET_HDR = 10, BURST = 64 };
#ifndef TUN_F_USO4
enum { TUN_F_USO4 = 0x20, TUN_F_USO6 = 0x40 };
#endif

struct net_tap;
struct tap_queue { struct net_tap *t; unsigned index; int fd; struct loop_fd *watch; bool paused; };
struct net_tap {
    struct netdev n;
    struct tap_queue queue[NET_QUEUES_MAX];
    bool vnet_hdr;
    char ifname[IFNAMSIZ];
    char *downscript;
    uint8_t frame[VNET_HDR + NET_FRAME_MAX];
};

/* ---- packets */

static void tap_readable(void *arg, unsigned events)
{
    struct tap_queue *q = arg;
    struct net_tap *t = q->t;
    unsigned hdr = t->vnet_hdr ? VNET_HDR : 0;

    for (int i = 0; i < BURST && !netdev_congested(&t->n, q->index); i++) {
        struct net_offload off = { 0 };
        ssize_t len = read(q->fd, t->frame, sizeof(t->frame));
        struct iovec iov = { t->frame + hdr, len - hdr };

        if (len <= (ssize_t)hdr)
            return;
        memcpy(&off, t->frame, hdr);
        netdev_receive(&t->n, q->index, &iov, 1, &off);
    }
    if (netdev_congested(&t->n, q->index)) {    /* the rest waits in the host's queue */
        q->paused = true;
        loop_fd_set(q->watch, 0);
    }
}

static void tap_ready(struct netdev *n, unsigned queue)
{
    struct tap_queue *q = &((struct net_tap *)n)->queue[queue];

    if (q->paused && q->watch) {
        q->paused = false;
        loop_fd_set(q->watch, LOOP_IN);
    }
}

static void tap_send(struct netdev *n, unsigned queue, const struct iovec *iov, int niov, const struct net_offload *off)
{
    struct net_tap *t = (struct net_tap *)n;
    struct iovec v[64];
    int k = 0;

    if (t->vnet_hdr)
        v[k++] = (struct iovec){ (void *)off, VNET_HDR };
    if (niov > (int)G_N_ELEMENTS(v) - k) {
        size_t len = 0;

        for (int i = 0; i < niov; i++) {
            size_t m = MIN(iov[i].iov_len, sizeof(t->frame) - len);

            memcpy(t->frame + len, iov[i].iov_base, m);
            len += m;
        }
        v[k++] = (struct iovec){ t->frame, len };
    } else {
        memcpy(v + k, iov, niov * sizeof(*iov));
        k += niov;
    }
    if (writev(t->queue[queue < n->queues ? queue : 0].fd, v, k) < 0)
        atomic_fetch_add(&n->dropped, 1);       /* the interface is down, or its queue full: as on a wire */
}

static void tap_guest_offloads(struct netdev *n, unsigned guest)
{
    static const struct { unsigned net, tun; } map[] = {
        { NET_TSO4, TUN_F_TSO4 }, { NET_TSO6, TUN_F_TSO6 }, { NET_ECN, TUN_F_TSO_ECN }, { NET_UFO, TUN_F_UFO },
        { NET_USO, TUN_F_USO4 | TUN_F_USO6 },
    };
    struct net_tap *t = (struct net_tap *)n;
    unsigned tun = guest & NET_GUEST_CSUM ? TUN_F_CSUM : 0;

    for (unsigned i = 0; tun && i < G_N_ELEMENTS(map); i++)
        if (guest & map[i].net)
            tun |= map[i].tun;
    for (unsigned i = 0; t->vnet_hdr && i < n->queues; i++)
        if (ioctl(t->queue[i].fd, TUNSETOFFLOAD, tun) < 0 &&
            ioctl(t->queue[i].fd, TUNSETOFFLOAD, tun & ~(TUN_F_UFO | TUN_F_USO4 | TUN_F_USO6)) < 0)
            ioctl(t->queue[i].fd, TUNSETOFFLOAD, 0);
}

/* ---- set-up */

static bool tap_open(struct net_tap *t, unsigned index, bool vnet, struct error *err)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | (vnet ? IFF_VNET_HDR : 0) |
                                     (t->n.queues > 1 ? IFF_MULTI_QUEUE : 0)};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return error_set_errno(err, errno,
                               errno == ENOENT
                                   ? "load the kernel module tun"
                                   : "run as root, have an interface made for you "
                                     "(ip tuntap add dev tap0 mode tap user $USER), or use -netdev user",
                               "could not open /dev/net/tun");
    memcpy(ifr.ifr_name, t->ifname, IFNAMSIZ);
    if (ioctl(fd, TUNSETIFF, &ifr) < 0) {
        int e = errno;

        close(fd);
        return error_set_errno(err, e,
                               e == EBUSY ? "another program uses it"
                                          : "ip tuntap add dev NAME mode tap user $USER makes one "
                                            "that you may use",
                               "could not configure /dev/net/tun (%s)", *t->ifname ? t->ifname : "tap%d");
    }
    memcpy(t->ifname, ifr.ifr_name, IFNAMSIZ);
    t->ifname[IFNAMSIZ - 1] = 0;
    t->queue[index].fd = fd;
    return true;
}

/* A number, or a name that getfd gave. */
static bool tap_take_fd(struct net_tap *t, unsigned index, const char *text, struct error *err)
{
    char *end;
    long fd = strtol(text, &end, 10);
    struct ifreq ifr = { 0 };

    if (!*text || *end)
        fd = vm_take_fd(t->n.vm, text);
    if (fd < 0 || ioctl(fd, TUNGETIFF, &ifr) < 0)
        return error_setf(err, ERR_GENERIC, "pass an open /dev/net/tun, by number or by a name from getfd",
                          "fd=%s is no TAP descriptor", text);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    memcpy(t->ifname, ifr.ifr_name, IFNAMSIZ - 1);
    t->queue[index].fd = fd;
    if (index == 0)
        t->vnet_hdr = ifr.ifr_flags & IFF_VNET_HDR;
    else if (t->vnet_hdr != !!(ifr.ifr_flags & IFF_VNET_HDR))
        return error_set(err, ERR_GENERIC, "the descriptors of fds= differ in IFF_VNET_HDR", NULL);
    return true;
}

static bool tap_script(struct net_tap *t, const char *script, struct error *err)
{
    char *argv[] = { (char *)script, t->ifname, NULL };
    g_autoptr(GError) e = NULL;
    int status;

    if (!g_spawn_sync(NULL, argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, NULL, &status, &e) ||
        !g_spawn_check_wait_status(status, &e))
        return error_setf(err, ERR_GENERIC, "script=no leaves the interface as it is",
                          "network script %s failed: %s", script, e->message);
    return true;
}

static bool tap_from_fds(struct net_tap *t, struct json_object *opts, struct error *err)
{
    const char *fds = option_str(opts, "fds", NULL), *fd = option_str(opts, "fd", NULL);
    g_auto(GStrv) list = fds ? g_strsplit(fds, ":", NET_QUEUES_MAX) : NULL;

    if (!fds)
        return tap_take_fd(t, 0, fd, err);
    t->n.queues = MAX(1, g_strv_length(list));
    for (unsigned i = 0; list[i]; i++)
        if (!tap_take_fd(t, i, list[i], err))
            return false;
    return true;
}

static bool tap_create(struct netdev *n, struct json_object *opts, struct error *err)
{
    struct net_tap *t = (struct net_tap *)n;
    const char *ifname = option_str(opts, "ifname", ""), *script = option_str(opts, "script", NULL);
    const char *down = option_str(opts, "downscript", NULL);
    bool vhost, vnet, have_fd = option_str(opts, "fd", NULL) || option_str(opts, "fds", NULL);
    int64_t queues;

    for (unsigned i = 0; i < NET_QUEUES_MAX; i++)
        t->queue[i] = (struct tap_queue){ t, i, -1 };
    if (!option_bool(opts, "vhost", false, &vhost, err) || !option_bool(opts, "vnet_hdr", true, &vnet, err) ||
        !option_int(opts, "queues", 1, &queues, err))
        return false;
    if (vhost || option_str(opts, "vhostfd", NULL) || option_str(opts, "vhostfds", NULL) ||
        option_str(opts, "helper", NULL) || option_str(opts, "br", NULL))
        return error_set(err, ERR_GENERIC, "vhost, helper= and br= of -netdev tap are not supported by this build",
                         "leave them out; the interface must be there (ip tuntap add) or you be root");
    if (queues < 1 || queues > NET_QUEUES_MAX || strlen(ifname) >= IFNAMSIZ)
        return error_setf(err, ERR_GENERIC, NULL,
                          "queues must be from 1 to %d, ifname shorter than %d characters", NET_QUEUES_MAX,
                          IFNAMSIZ);
    n->queues = queues;
    memcpy(t->ifname, ifname, strlen(ifname));
    t->vnet_hdr = vnet;
    if (have_fd) {
        if (!tap_from_fds(t, opts, err))
            return false;
    } else {
        for (unsigned i = 0; i < n->queues; i++)
            if (!tap_open(t, i, vnet, err))
                return false;
        if (!script && g_file_test("/etc/qemu-ifup", G_FILE_TEST_IS_EXECUTABLE))
            script = "/etc/qemu-ifup";
        if (script && *script && strcmp(script, "no") != 0 && !tap_script(t, script, err))
            return false;
        if (down && *down && strcmp(down, "no") != 0)
            t->downscript = g_strdup(down);
    }
    if (t->vnet_hdr)
        n->offloads = NET_CSUM | NET_TSO4 | NET_TSO6 | NET_ECN;
    tap_guest_offloads(n, 0);
    return true;
}

static void tap_start(struct netdev *n)
{
    struct net_tap *t = (struct net_tap *)n;

    for (unsigned i = 0; i < n->queues; i++)
        t->queue[i].watch = loop_fd_add(n->loop, t->queue[i].fd, LOOP_IN, tap_readable, &t->queue[i]);
}

static void tap_stop(struct netdev *n)
{
    struct net_tap *t = (struct net_tap *)n;

    for (unsigned i = 0; i < n->queues; i++)
        g_clear_pointer(&t->queue[i].watch, loop_fd_remove);
}

static void tap_destroy(struct netdev *n)
{
    struct net_tap *t = (struct net_tap *)n;
    struct error err = ERROR_INIT;

    if (t->downscript && !tap_script(t, t->downscript, &err))
        error_report(&err);
    for (unsigned i = 0; i < NET_QUEUES_MAX; i++)
        if (t->queue[i].t && t->queue[i].fd >= 0)
            close(t->queue[i].fd);
    g_free(t->downscript);
}

static char *tap_describe(struct netdev *n)
{
    struct net_tap *t = (struct net_tap *)n;

    return g_strdup_printf("ifname=%s,queues=%u,vnet_hdr=%s", t->ifname, n->queues, t->vnet_hdr ? "on" : "off");
}

NETDEV = {
    .name = "tap",
    .summary = "a TAP interface of the host",
    .size = sizeof(struct net_tap),
    .own_thread = true,
    .options =
        (const struct net_option[]){{"ifname", "NAME", "the interface; made if it is not there and you may"},
                                    {"fd", "FD", "an open TAP descriptor, by number or name (getfd)"},
                                    {"fds", "FD:FD...", "several, one a queue"},
                                    {"queues", "N", "queues"},
                                    {"script", "FILE", "run with the interface's name before use; no: none"},
                                    {"downscript", "FILE", "run after use; no: none"},
                                    {"vnet_hdr", "on|off", "hand offloads to the host"},
                                    {"sndbuf", "SIZE", "taken for compatibility"},
                                    {"poll-us", "N", "taken for compatibility"},
                                    {"vhost", "on|off", "not supported"},
                                    {"vhostfd", "FD", "not supported"},
                                    {"vhostfds", "FD:FD...", "not supported"},
                                    {"vhostforce", "on|off", "not supported"},
                                    {"helper", "FILE", "not supported"},
                                    {"br", "BRIDGE", "not supported"},
                                    {0}},
    .create = tap_create,
    .start = tap_start,
    .stop = tap_stop,
    .destroy = tap_destroy,
    .send = tap_send,
    .ready = tap_ready,
    .guest_offloads = tap_guest_offloads,
    .describe = tap_describe,
};
