/* Network back ends and the NICs they serve: two ends that hand each other packets. */
#ifndef RHEA_NET_NET_H
#define RHEA_NET_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include <json-c/json.h>
#include "rhea/base/error.h"
#include "rhea/base/loop.h"

struct vm;
struct device;
struct netdev;                  /* -netdev: the host's end */

/* Offload of a packet: virtio_net_hdr's meaning (virtio 1.2, 5.1.6). All zero: a plain packet. */
struct net_offload { uint8_t flags, gso_type; uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers; };
enum { NET_CSUM = 1, NET_GUEST_CSUM = 2, NET_TSO4 = 4, NET_TSO6 = 8, NET_UFO = 16, NET_ECN = 32, NET_USO = 64 };

/* What a NIC model gives its back end. receive: from the host; false: no room now, the back end keeps the packet and
 * tries again after netdev_nic_ready(). Runs on the netdev's loop. */
struct nic_ops {
    bool (*receive)(void *opaque, unsigned queue, const struct iovec *iov, int niov, const struct net_offload *off);
    bool (*can_receive)(void *opaque, unsigned queue);
    void (*link_changed)(void *opaque, bool up);
};
/* NIC side. netdev: its id; dev: whose NIC. NULL with err when unknown or taken. */
struct netdev *netdev_attach(struct vm *vm, const char *netdev, struct device *dev, const struct nic_ops *ops, void *opaque, struct error *err);
void netdev_detach(struct netdev *n);
/* A packet from the guest. offloads other than those of netdev_offloads() are done in software by the net core. */
void netdev_send(struct netdev *n, unsigned queue, const struct iovec *iov, int niov, const struct net_offload *off);
void netdev_nic_ready(struct netdev *n, unsigned queue);        /* there is room again; any thread */
unsigned netdev_offloads(const struct netdev *n);               /* NET_* the back end takes whole */
void netdev_set_guest_offloads(struct netdev *n, unsigned offloads);    /* NET_* it may hand to the NIC */
unsigned netdev_queues(const struct netdev *n);
struct loop *netdev_loop(struct netdev *n);
bool netdev_link_up(const struct netdev *n);

/* Command line and QMP */
bool netdev_add(struct vm *vm, struct json_object *opts, struct error *err);    /* -netdev, netdev_add: type, id, ... */
bool netdev_del(struct vm *vm, const char *id, struct error *err);
bool net_set_link(struct vm *vm, const char *name, bool up, struct error *err);
char *net_info(struct vm *vm);                  /* info network; caller frees */
char *net_usernet_info(struct vm *vm);
char *netdev_help(void);                        /* -netdev help; caller frees */
/* hostfwd_add, hostfwd_remove: netdev NULL: the first user network. */
bool net_hostfwd(struct vm *vm, const char *netdev, const char *rule, bool add, struct error *err);
/* A default MAC for the n-th NIC of the machine: 52:54:00:12:34:56 + n. */
void net_default_mac(struct vm *vm, uint8_t mac[6]);
void net_cleanup(struct vm *vm);

/* Internet checksum and segmentation helpers that NIC models share (net/offload.c). */
void net_checksum_fill(uint8_t *packet, size_t len, const struct net_offload *off);

#endif
