/* The network core: back ends by id, the hand-over of packets between them and NICs, link state. */
#include <string.h>
#include "net/netdev.h"
#include "rhea/base/log.h"
#include "rhea/base/options.h"
#include "rhea/vm/vm.h"

extern const struct netdev_driver *const __start_rhea_netdevs[] __attribute__((weak));
extern const struct netdev_driver *const __stop_rhea_netdevs[] __attribute__((weak));

/* ---- options */

static unsigned driver_count(void) { return __stop_rhea_netdevs - __start_rhea_netdevs; }

static const struct netdev_driver *driver_find(const char *name, struct error *err)
{
    g_autofree const char **names = g_new0(const char *, driver_count() + 1);
    g_autofree char *hint = NULL;
    const char *near;

    for (unsigned i = 0; i < driver_count(); i++) {
        names[i] = __start_rhea_netdevs[i]->name;
        if (strcmp(names[i], name) == 0)
            return __start_rhea_netdevs[i];
    }
    near = nearest_spelling(name, names);
    hint = near ? g_strdup_printf("did you mean '%s'? -netdev help lists all", near)
                : g_strdup("-netdev help lists what there is");
    error_setf(err, ERR_GENERIC, hint, "Parameter 'type' does not accept value '%s'", name);
    return NULL;
}

static bool check_options(const struct netdev_driver *drv, struct json_object *opts, struct error *err)
{
    g_autoptr(GPtrArray) known = g_ptr_array_new();
    g_autofree char *what = g_strdup_printf("-netdev %s", drv->name);
    struct json_object *heads = json_object_new_object();
    bool ok;

    g_ptr_array_add(known, "type");
    g_ptr_array_add(known, "id");
    for (const struct net_option *o = drv->options; o && o->name; o++)
        g_ptr_array_add(known, (char *)o->name);
    g_ptr_array_add(known, NULL);
    /* "addr.host" is a part of "addr" */
    json_object_object_foreach(opts, key, value) {
        g_autofree char *head = g_strndup(key, strcspn(key, "."));

        json_object_object_add(heads, head, json_object_get(value));
    }
    ok = options_check(heads, (const char *const *)known->pdata, what, err);
    json_object_put(heads);
    return ok;
}

char *netdev_help(void)
{
    GString *s = g_string_new("Network back ends (-netdev TYPE,id=ID,...):\n");

    for (unsigned i = 0; i < driver_count(); i++) {
        const struct netdev_driver *d = __start_rhea_netdevs[i];

        g_string_append_printf(s, "%-10s %s\n", d->name, d->summary);
        for (const struct net_option *o = d->options; o && o->name; o++)
            g_string_append_printf(s, "    %s=<%s>  - %s\n", o->name, o->type, o->help);
    }
    return g_string_free(s, FALSE);
}

/* ---- life */

static GHashTable *table(struct vm *vm)
{
    if (!vm->netdevs)
        vm->netdevs = g_hash_table_new(g_str_hash, g_str_equal);
    return vm->netdevs;
}

struct netdev *netdev_find(struct vm *vm, const char *id)
{
    return id && vm->netdevs ? g_hash_table_lookup(vm->netdevs, id) : NULL;
}

static void netdev_start(void *arg)
{
    struct netdev *n = arg;

    if (n->drv->start)
        n->drv->start(n);
}

static void netdev_stop(void *arg)
{
    struct netdev *n = arg;

    if (n->drv->stop)
        n->drv->stop(n);
}

static void pending_drop(struct netdev *n)
{
    for (unsigned q = 0; q < NET_QUEUES_MAX; q++) {
        for (struct net_packet *p = n->pending[q], *next; p; p = next) {
            next = p->next;
            g_free(p);
        }
        n->pending[q] = NULL;
        n->pending_tail[q] = &n->pending[q];
        n->pending_count[q] = 0;
        n->pending_bytes[q] = 0;
    }
}

static void netdev_free(struct netdev *n)
{
    if (n->drv->destroy)
        n->drv->destroy(n);
    pending_drop(n);
    if (n->own_loop)
        loop_free(n->loop);
    g_free(n->id);
    g_free(n);
}

static struct netdev *netdev_new(struct vm *vm, const struct netdev_driver *drv, const char *id)
{
    struct netdev *n = g_malloc0(drv->size);

    n->drv = drv;
    n->vm = vm;
    n->id = g_strdup(id);
    n->queues = 1;
    n->offloads = drv->offloads;
    n->link_up = n->nic_link_up = true;
    pending_drop(n);
    n->loop = vm->loop;
    if (drv->own_thread) {
        g_autofree char *name = g_strdup_printf("net-%s", id);

        n->loop = loop_new(name);
        n->own_loop = true;
    }
    return n;
}

bool netdev_add(struct vm *vm, struct json_object *opts, struct error *err)
{
    const char *type = option_str(opts, "type", NULL), *id = option_str(opts, "id", NULL);
    const struct netdev_driver *drv;
    struct netdev *n;

    if (!type)
        return error_set(err, ERR_GENERIC, "Parameter 'type' is missing", "-netdev help lists the types");
    if (!(drv = driver_find(type, err)))
        return false;
    if (!id || !*id)
        return error_set(err, ERR_GENERIC, "Parameter 'id' is missing",
                         "write -netdev user,id=net0 and name it in -device ...,netdev=net0");
    if (netdev_find(vm, id))
        return error_setf(err, ERR_GENERIC, "give each back end an id of its own", "Duplicate ID '%s' for netdev", id);
    if (!check_options(drv, opts, err))
        return false;
    n = netdev_new(vm, drv, id);
    if (!drv->create(n, opts, err)) {
        netdev_free(n);
        return false;
    }
    g_hash_table_insert(table(vm), n->id, n);
    if (n->own_loop)
        loop_thread_start(n->loop);
    loop_call(n->loop, netdev_start, n);
    return true;
}

static void netdev_remove(struct netdev *n)
{
    loop_call(n->loop, netdev_stop, n);
    if (n->own_loop)
        loop_thread_stop(n->loop);
    g_hash_table_remove(table(n->vm), n->id);
    netdev_free(n);
}

static const char *taken_by(const struct netdev *n)
{
    if (n->peer)
        return n->peer->id;
    return !n->nic                                ? NULL
           : n->nic->id                           ? n->nic->id
           : n->nic->parent && n->nic->parent->id ? n->nic->parent->id
                                                  : n->nic->cls->name;
}

bool netdev_del(struct vm *vm, const char *id, struct error *err)
{
    struct netdev *n = netdev_find(vm, id);

    if (!n)
        return error_setf(err, ERR_DEVICE_NOT_FOUND, "info network lists them", "Device '%s' not found", id);
    if (taken_by(n))
        return error_setf(err, ERR_GENERIC, "remove the NIC first (device_del)",
                          "netdev '%s' is in use by '%s'", id, taken_by(n));
    netdev_remove(n);
    return true;
}

void net_cleanup(struct vm *vm)
{
    GHashTableIter it;
    void *n;

    if (!vm->netdevs)
        return;
    while (g_hash_table_size(vm->netdevs)) {
        struct netdev *next = NULL;

        g_hash_table_iter_init(&it, vm->netdevs);
        while (g_hash_table_iter_next(&it, NULL, &n))
            if (!next || !((struct netdev *)n)->peer)   /* a hub's port before the back end that it holds */
                next = n;
        netdev_remove(next);
    }
    g_clear_pointer(&vm->netdevs, g_hash_table_destroy);
}

/* ---- the NIC's end */

struct attach { struct netdev *n; const struct nic_ops *ops; void *opaque; struct device *dev; struct netdev *peer; };

static void attach_run(void *arg)
{
    struct attach *a = arg;

    a->n->nic_ops = a->ops;
    a->n->nic_opaque = a->opaque;
    a->n->nic = a->dev;
    a->n->peer = a->peer;
    if (!a->ops)
        pending_drop(a->n);
}

static struct netdev *attach(struct attach *a, const char *netdev, const char *who, struct error *err)
{
    if (!a->n) {
        error_setf(err, ERR_GENERIC, "add -netdev user,id=ID, and name that ID",
                   "Property '%s.netdev' can't find value '%s'", who, netdev);
        return NULL;
    }
    if (taken_by(a->n)) {
        error_setf(err, ERR_GENERIC, "a back end serves one NIC; add another -netdev",
                   "netdev '%s' is in use by '%s' already", netdev, taken_by(a->n));
        return NULL;
    }
    loop_call(a->n->loop, attach_run, a);
    return a->n;
}

struct netdev *netdev_attach(struct vm *vm, const char *netdev, struct device *dev, const struct nic_ops *ops,
                             void *opaque, struct error *err)
{
    struct attach a = { netdev_find(vm, netdev), ops, opaque, dev, NULL };

    return attach(&a, netdev, dev->parent ? dev->parent->cls->name : dev->cls->name, err);
}

struct netdev *netdev_attach_peer(struct vm *vm, const char *netdev, struct netdev *peer,
                                  const struct nic_ops *ops, void *opaque, struct error *err)
{
    struct attach a = { netdev_find(vm, netdev), ops, opaque, NULL, peer };

    return attach(&a, netdev, peer->id, err);
}

void netdev_detach(struct netdev *n)
{
    struct attach a = { n, NULL, NULL, NULL, NULL };

    if (n) {
        netdev_set_guest_offloads(n, 0);
        loop_call(n->loop, attach_run, &a);
    }
}

unsigned netdev_offloads(const struct netdev *n) { return n->offloads; }
unsigned netdev_queues(const struct netdev *n) { return n->queues; }
struct loop *netdev_loop(struct netdev *n) { return n->loop; }
bool netdev_link_up(const struct netdev *n) { return atomic_load(&n->link_up) && atomic_load(&n->nic_link_up); }

void netdev_set_guest_offloads(struct netdev *n, unsigned offloads)
{
    atomic_store(&n->guest_offloads, offloads);
    if (n->drv->guest_offloads)
        n->drv->guest_offloads(n, offloads);
}

/* ---- packets from the NIC */

static size_t gather(uint8_t *to, size_t size, const struct iovec *iov, int niov)
{
    size_t len = 0;

    for (int i = 0; i < niov; i++) {
        size_t k = MIN(iov[i].iov_len, size - len);

        memcpy(to + len, iov[i].iov_base, k);
        len += k;
        if (k < iov[i].iov_len)
            return SIZE_MAX;            /* longer than any frame */
    }
    return len;
}

static const unsigned gso_needs[8] = { [1] = NET_TSO4, [3] = NET_UFO, [4] = NET_TSO6, [5] = NET_USO };

static unsigned offload_needs(const struct net_offload *off)
{
    unsigned gso = off->gso_type & ~0x80;

    if (gso)
        return gso < 8 && gso_needs[gso] ? gso_needs[gso] : ~0u;
    return off->flags & 1 ? NET_CSUM : 0;
}

struct emit { struct netdev *n; unsigned queue; bool to_nic; };
static void packet_to_nic(struct netdev *n, unsigned queue, const struct iovec *iov, int niov,
                          const struct net_offload *off);

static void emit_frame(void *opaque, const uint8_t *frame, size_t len)
{
    struct emit *e = opaque;
    struct iovec iov = { (void *)frame, len };
    static const struct net_offload plain;

    if (e->to_nic)
        packet_to_nic(e->n, e->queue, &iov, 1, &plain);
    else
        e->n->drv->send(e->n, e->queue, &iov, 1, &plain);
}

/* What the other side cannot do is done here, on a copy. */
static void soften(struct netdev *n, unsigned queue, const struct iovec *iov, int niov,
                   const struct net_offload *off, bool to_nic, unsigned taken)
{
    g_autofree uint8_t *frame = g_malloc(NET_FRAME_MAX);
    struct emit e = { n, queue, to_nic };
    size_t len = gather(frame, NET_FRAME_MAX, iov, niov);
    unsigned gso = off->gso_type & 0x7f;

    if (len == SIZE_MAX) {
        atomic_fetch_add(&n->dropped, 1);
    } else if (gso && gso < 8 && gso_needs[gso] & taken) {      /* large frames yes, but their checksums are ours */
        net_checksum_fill(frame, len, off);
        emit_frame(&e, frame, len);
    } else if (gso) {
        if (!net_segment(frame, len, off, emit_frame, &e))
            atomic_fetch_add(&n->dropped, 1);
    } else {
        net_checksum_fill(frame, len, off);
        emit_frame(&e, frame, len);
    }
}

static void send_here(struct netdev *n, unsigned queue, const struct iovec *iov, int niov,
                      const struct net_offload *off)
{
    unsigned needs;

    if (!netdev_link_up(n))
        return;
    atomic_fetch_add_explicit(&n->tx_packets, 1, memory_order_relaxed);
    if (n->dumps)
        net_dump_packet(n, iov, niov);
    needs = offload_needs(off);
    if (off->flags & 1)
        needs |= NET_CSUM;
    if (needs & ~n->offloads)
        soften(n, queue, iov, niov, off, false, n->offloads);
    else
        n->drv->send(n, queue, iov, niov, off);
}

static struct net_packet *packet_new(unsigned queue, const struct iovec *iov, int niov, const struct net_offload *off)
{
    struct net_packet *p;
    size_t len = 0;

    for (int i = 0; i < niov; i++)
        len += iov[i].iov_len;
    if (len > NET_FRAME_MAX)
        return NULL;
    p = g_malloc(sizeof(*p) + len);
    p->next = NULL;
    p->queue = queue;
    p->off = off ? *off : (struct net_offload){ 0 };
    p->len = gather(p->data, len, iov, niov);
    return p;
}

struct send_post { struct netdev *n; struct net_packet *p; };

static void send_posted(void *arg)
{
    struct send_post *s = arg;
    struct iovec iov = { s->p->data, s->p->len };

    atomic_fetch_sub(&s->n->posted, 1);
    send_here(s->n, s->p->queue, &iov, 1, &s->p->off);
    g_free(s->p);
    g_free(s);
}

void netdev_send(struct netdev *n, unsigned queue, const struct iovec *iov, int niov, const struct net_offload *off)
{
    static const struct net_offload plain;
    struct send_post *s;
    struct net_packet *p;

    if (loop_current() == n->loop) {
        send_here(n, queue, iov, niov, off ? off : &plain);
        return;
    }
    /* A NIC that works elsewhere: the packet is copied and follows. */
    if (atomic_load(&n->posted) >= NET_PENDING_MAX || !(p = packet_new(queue, iov, niov, off))) {
        atomic_fetch_add(&n->dropped, 1);
        return;
    }
    atomic_fetch_add(&n->posted, 1);
    s = g_new(struct send_post, 1);
    *s = (struct send_post){ n, p };
    loop_post(n->loop, send_posted, s);
}

/* ---- packets for the NIC */

static bool nic_takes(struct netdev *n, unsigned queue, const struct iovec *iov, int niov,
                      const struct net_offload *off)
{
    return n->nic_ops->receive(n->nic_opaque, queue, iov, niov, off);
}

static void packet_keep(struct netdev *n, unsigned queue, const struct iovec *iov, int niov,
                        const struct net_offload *off)
{
    struct net_packet *p;

    if (n->pending_count[queue] >= NET_PENDING_MAX || n->pending_bytes[queue] >= NET_PENDING_BYTES ||
        !(p = packet_new(queue, iov, niov, off))) {
        atomic_fetch_add(&n->dropped, 1);
        return;
    }
    *n->pending_tail[queue] = p;
    n->pending_tail[queue] = &p->next;
    n->pending_count[queue]++;
    n->pending_bytes[queue] += p->len;
}

static void packet_to_nic(struct netdev *n, unsigned queue, const struct iovec *iov, int niov,
                          const struct net_offload *off)
{
    if (n->pending[queue] || !nic_takes(n, queue, iov, niov, off))
        packet_keep(n, queue, iov, niov, off);
}

void netdev_receive(struct netdev *n, unsigned queue, const struct iovec *iov, int niov, const struct net_offload *off)
{
    static const struct net_offload plain;
    unsigned needs, taken = atomic_load(&n->guest_offloads);

    off = off ? off : &plain;
    queue = queue < NET_QUEUES_MAX ? queue : 0;
    if (!n->nic_ops || !netdev_link_up(n))
        return;
    atomic_fetch_add_explicit(&n->rx_packets, 1, memory_order_relaxed);
    if (n->dumps)
        net_dump_packet(n, iov, niov);
    needs = offload_needs(off) | (off->flags & 1 ? NET_GUEST_CSUM : 0);
    needs &= ~(unsigned)NET_CSUM;
    if (needs & ~taken)
        soften(n, queue, iov, niov, off, true, taken & NET_GUEST_CSUM ? 0 : taken);
    else
        packet_to_nic(n, queue, iov, niov, off);
}

bool netdev_congested(const struct netdev *n, unsigned queue)
{
    return n->pending[queue < NET_QUEUES_MAX ? queue : 0];
}

static void flush(struct netdev *n, unsigned queue)
{
    struct net_packet *p;

    if (!n->nic_ops || !n->pending[queue])
        return;
    while ((p = n->pending[queue])) {
        struct iovec iov = { p->data, p->len };

        if (!nic_takes(n, queue, &iov, 1, &p->off))
            return;
        n->pending[queue] = p->next;
        if (!p->next)
            n->pending_tail[queue] = &n->pending[queue];
        n->pending_count[queue]--;
        n->pending_bytes[queue] -= p->len;
        g_free(p);
    }
    if (n->drv->ready)
        n->drv->ready(n, queue);
}

static void flush_all(void *arg)
{
    struct netdev *n = arg;

    atomic_store(&n->ready_posted[0], false);
    for (unsigned q = 0; q < n->queues; q++)
        flush(n, q);
}

void netdev_nic_ready(struct netdev *n, unsigned queue)
{
    if (loop_current() == n->loop) {
        if (queue < NET_QUEUES_MAX)
            flush(n, queue);
    } else if (!atomic_exchange(&n->ready_posted[0], true)) {
        loop_post(n->loop, flush_all, n);
    }
}

/* ---- link state, information */

static void link_told(void *arg)
{
    struct netdev *n = arg;

    if (n->nic_ops && n->nic_ops->link_changed)
        n->nic_ops->link_changed(n->nic_opaque, netdev_link_up(n));
}

/* By the back end's id, or the NIC's. */
bool net_set_link(struct vm *vm, const char *name, bool up, struct error *err)
{
    GHashTableIter it;
    void *value;

    g_hash_table_iter_init(&it, table(vm));
    while (g_hash_table_iter_next(&it, NULL, &value)) {
        struct netdev *n = value;
        bool nic = n->nic && ((n->nic->id && strcmp(n->nic->id, name) == 0) ||
                              (n->nic->parent && n->nic->parent->id && strcmp(n->nic->parent->id, name) == 0));

        if (!nic && strcmp(n->id, name) != 0)
            continue;
        atomic_store(nic ? &n->nic_link_up : &n->link_up, up);
        loop_call(n->loop, link_told, n);
        return true;
    }
    return error_setf(err, ERR_DEVICE_NOT_FOUND, "info network lists the names", "Device '%s' not found", name);
}

static char *netdev_line(struct netdev *n)
{
    g_autofree char *text = n->drv->describe ? n->drv->describe(n) : NULL;

    return g_strdup_printf("%s: index=0,type=%s,%s%s%s", n->id, n->drv->name, text ? text : "",
                           netdev_link_up(n) ? "" : ",link=down", "");
}

static int by_id(const void *a, const void *b)
{
    return strcmp((*(struct netdev *const *)a)->id, (*(struct netdev *const *)b)->id);
}

GPtrArray *netdev_list(struct vm *vm)
{
    GPtrArray *list = g_ptr_array_new();
    GHashTableIter it;
    void *value;

    g_hash_table_iter_init(&it, table(vm));
    while (g_hash_table_iter_next(&it, NULL, &value))
        g_ptr_array_add(list, value);
    g_ptr_array_sort(list, by_id);
    return list;
}

char *net_info(struct vm *vm)
{
    GString *s = g_string_new(NULL);
    g_autoptr(GPtrArray) list = netdev_list(vm);

    for (unsigned i = 0; i < list->len; i++) {
        struct netdev *n = g_ptr_array_index(list, i);
        g_autofree char *line = netdev_line(n);

        if (n->nic) {
            const struct device *nic = n->nic->parent ? n->nic->parent : n->nic;
            g_autofree char *mac = device_get(n->nic, "mac", NULL);

            g_string_append_printf(s, "%s: index=0,type=nic,model=%s,macaddr=%s\n", nic->id ? nic->id : nic->cls->name,
                                   nic->cls->name, mac ? mac : "");
            g_string_append(s, " \\ ");
        }
        g_string_append_printf(s, "%s\n", line);
    }
    return g_string_free(s, FALSE);
}

static bool mac_taken(struct vm *vm, const uint8_t mac[6])
{
    for (struct device *d = vm->devices; d; d = d->next) {
        const struct prop *p = device_prop_find(d->cls, "mac");

        if (p && p->type == PROP_MAC && memcmp((char *)d + p->offset, mac, 6) == 0)
            return true;
    }
    return false;
}

void net_default_mac(struct vm *vm, uint8_t mac[6])
{
    static const uint8_t first[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };

    memcpy(mac, first, 6);
    for (unsigned i = 0; i < 256 && mac_taken(vm, mac); i++)
        mac[5]++;
}
