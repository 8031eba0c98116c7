/* -netdev hubport: ports of a hub that repeats every frame to all its others. A port serves a NIC, or with netdev= is
 * itself the peer of another back end. All ports live on the main loop; back ends elsewhere are reached by posts. */
#include <string.h>
#include "net/netdev.h"
#include "rhea/base/options.h"
#include "rhea/vm/vm.h"

struct hubport {
    struct netdev n;
    int64_t hub;
    char *peer_id;
    struct netdev *peer;        /* of netdev=, NULL: a NIC's port */
    struct loop *main;
    _Atomic unsigned on_way;
};

static void hub_repeat(struct hubport *from, const struct iovec *iov, int niov, const struct net_offload *off)
{
    g_autoptr(GPtrArray) list = netdev_list(from->n.vm);

    for (unsigned i = 0; i < list->len; i++) {
        struct netdev *n = g_ptr_array_index(list, i);
        struct hubport *p = (struct hubport *)n;

        if (n->drv != from->n.drv || p == from || p->hub != from->hub)
            continue;
        if (p->peer)
            netdev_send(p->peer, 0, iov, niov, off);
        else
            netdev_receive(n, 0, iov, niov, off);
    }
}

/* From the NIC at this port. */
static void hub_send(struct netdev *n, unsigned queue, const struct iovec *iov, int niov, const struct net_offload *off)
{
    hub_repeat((struct hubport *)n, iov, niov, off);
}

/* From the back end at this port, on its thread. */
struct hub_post { struct hubport *p; struct net_offload off; size_t len; uint8_t data[]; };

static void hub_posted(void *arg)
{
    struct hub_post *h = arg;
    struct iovec iov = { h->data, h->len };

    atomic_fetch_sub(&h->p->on_way, 1);
    if (netdev_link_up(&h->p->n))
        hub_repeat(h->p, &iov, 1, &h->off);
    g_free(h);
}

static bool hub_receive(void *opaque, unsigned queue, const struct iovec *iov, int niov, const struct net_offload *off)
{
    struct hubport *p = opaque;
    struct hub_post *h;
    size_t len = 0;

    for (int i = 0; i < niov; i++)
        len += iov[i].iov_len;
    if (len > NET_FRAME_MAX || atomic_load(&p->on_way) >= NET_PENDING_MAX)
        return true;            /* a hub has no memory */
    h = g_malloc(sizeof(*h) + len);
    *h = (struct hub_post){ .p = p, .off = *off, .len = len };
    len = 0;
    for (int i = 0; i < niov; i++) {
        memcpy(h->data + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    atomic_fetch_add(&p->on_way, 1);
    loop_post(p->main, hub_posted, h);
    return true;
}

static const struct nic_ops hub_ops = { .receive = hub_receive };

static bool hub_create(struct netdev *n, struct json_object *opts, struct error *err)
{
    struct hubport *p = (struct hubport *)n;
    const char *peer = option_str(opts, "netdev", NULL);

    if (!option_str(opts, "hubid", NULL))
        return error_set(err, ERR_GENERIC, "Parameter 'hubid' is missing",
                         "give the hub's number: hubport,id=p1,hubid=0");
    if (!option_int(opts, "hubid", 0, &p->hub, err))
        return false;
    p->main = n->loop;
    if (!peer)
        return true;
    p->peer_id = g_strdup(peer);
    p->peer = netdev_attach_peer(n->vm, peer, n, &hub_ops, p, err);
    return p->peer;
}

static void hub_destroy(struct netdev *n)
{
    struct hubport *p = (struct hubport *)n;

    if (p->peer && netdev_find(n->vm, p->peer_id) == p->peer)
        netdev_detach(p->peer);
    g_free(p->peer_id);
}

static void hub_nothing(void *arg) {}

/* What the peer's thread has posted runs before the port goes. */
static void hub_stop(struct netdev *n)
{
    struct hubport *p = (struct hubport *)n;

    if (p->peer && netdev_find(n->vm, p->peer_id) == p->peer)
        netdev_detach(p->peer);
    p->peer = NULL;
    while (atomic_load(&p->on_way))
        loop_step(n->loop, false);
    loop_call(n->loop, hub_nothing, NULL);
}

static char *hub_describe(struct netdev *n)
{
    struct hubport *p = (struct hubport *)n;

    return g_strdup_printf("hubid=%lld%s%s", (long long)p->hub, p->peer_id ? ",netdev=" : "",
                           p->peer_id ? p->peer_id : "");
}

NETDEV = {
    .name = "hubport",
    .summary = "a port of a hub inside the machine",
    .size = sizeof(struct hubport),
    .offloads =
        NET_CSUM | NET_TSO4 | NET_TSO6 | NET_UFO | NET_ECN | NET_USO, /* whoever receives has them undone */
    .options = (const struct net_option[]){{"hubid", "N", "the hub"},
                                           {"netdev", "ID", "another back end that this port connects"},
                                           {0}},
    .create = hub_create,
    .stop = hub_stop,
    .destroy = hub_destroy,
    .send = hub_send,
    .describe = hub_describe,
};
