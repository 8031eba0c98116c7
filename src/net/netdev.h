/* What kinds of -netdev are made of; see include/rhea/net/net.h. */
#ifndef RHEA_NET_NETDEV_H
#define RHEA_NET_NETDEV_H

#include <stdatomic.h>
#include <glib.h>
#include "rhea/net/net.h"
#include "rhea/vm/device.h"

enum { NET_FRAME_MAX = 14 + 8 + 65535, NET_QUEUES_MAX = 64, NET_PENDING_MAX = 1024, NET_PENDING_BYTES = 4 << 20 };

struct net_option { const char *name, *type, *help; };

/* A kind of network back end. Everything runs on the netdev's loop but create, destroy (main loop, nothing runs). */
struct netdev_driver {
    const char *name, *summary;
    const struct net_option *options;   /* ends with a NULL name; type and id are always there */
    size_t size;                /* of its struct, which begins with struct netdev */
    unsigned offloads;          /* NET_* that send takes whole */
    bool own_thread;            /* a loop of its own instead of the main one */
    bool (*create)(struct netdev *n, struct json_object *opts, struct error *err);
    void (*start)(struct netdev *n);            /* on the loop, once it runs */
    void (*stop)(struct netdev *n);             /* on the loop, before it ends */
    void (*destroy)(struct netdev *n);
    void (*send)(struct netdev *n, unsigned queue, const struct iovec *iov, int niov, const struct net_offload *off);
    void (*ready)(struct netdev *n, unsigned queue);    /* the queue of packets to the NIC is empty again */
    void (*guest_offloads)(struct netdev *n, unsigned offloads);
    char *(*describe)(struct netdev *n);        /* for info network; any thread under no lock: immutable facts only */
};
#define NETDEV_(name)                                                                              \
    static const struct netdev_driver name;                                                        \
    static const struct netdev_driver *const DEVICE_CONCAT(name, _ptr)                             \
        __attribute__((section("rhea_netdevs"), used)) = &name;                                    \
    static const struct netdev_driver name
#define NETDEV NETDEV_(DEVICE_CONCAT(netdev_driver_, __COUNTER__))

struct net_packet { struct net_packet *next; unsigned queue; struct net_offload off; size_t len; uint8_t data[]; };
struct net_dump;

/* Invariants: (1) a packet waits in `pending` only while the NIC has no room in its queue, in order; (2) nic_* change
 * only on the loop. */
struct netdev {
    const struct netdev_driver *drv;
    struct vm *vm;
    char *id;
    struct loop *loop;
    bool own_loop;
    unsigned queues, offloads;
    atomic_bool link_up, nic_link_up;
    _Atomic unsigned guest_offloads;
    struct device *nic;         /* whom it serves: a NIC, */
    struct netdev *peer;        /* or a port of a hub */
    const struct nic_ops *nic_ops;
    void *nic_opaque;
    struct net_packet *pending[NET_QUEUES_MAX], **pending_tail[NET_QUEUES_MAX];
    unsigned pending_count[NET_QUEUES_MAX];
    size_t pending_bytes[NET_QUEUES_MAX];
    atomic_bool ready_posted[NET_QUEUES_MAX];
    _Atomic unsigned posted;    /* packets on their way from other threads */
    struct net_dump *dumps;
    _Atomic uint64_t tx_packets, tx_bytes, rx_packets, rx_bytes, dropped;
};

/* A packet for the NIC. Kept when the NIC has no room (up to a bound, then dropped). */
void netdev_receive(struct netdev *n, unsigned queue, const struct iovec *iov, int niov, const struct net_offload *off);
bool netdev_congested(const struct netdev *n, unsigned queue);         /* packets wait: read no more from the host */
struct netdev *netdev_find(struct vm *vm, const char *id);
/* netdev_attach() for another back end (a hub's port). */
struct netdev *netdev_attach_peer(struct vm *vm, const char *netdev, struct netdev *peer, const struct nic_ops *ops, void *opaque,
                                  struct error *err);
GPtrArray *netdev_list(struct vm *vm);          /* by id; caller frees */

/* offload.c: cuts a frame that needs it into ones that go out as they are; checksums filled in. */
typedef void net_emit_fn(void *opaque, const uint8_t *frame, size_t len);
bool net_segment(uint8_t *frame, size_t len, const struct net_offload *off, net_emit_fn *emit, void *opaque);
uint16_t net_checksum(const void *data, size_t len, uint32_t sum);      /* folded and inverted */

/* dump.c: the packet goes to the capture files of filter-dump objects */
void net_dump_packet(struct netdev *n, const struct iovec *iov, int niov);

#endif
