/* vhost-user, the back end's side (the protocol's specification, "Vhost-user Protocol"): memory of another process, rings in it,
 * and the block device (virtio 1.2, 5.2) that an export of type vhost-user-blk is.
 *
 *   export-vhost-user.c   the export: its socket, the one front end, messages
 *   vhost-user-memory.c   the front end's memory, mapped
 *   vhost-user-ring.c     split virtqueues (virtio 1.2, 2.7)
 *   vhost-user-blk.c      requests, the configuration space
 *
 * The front end is not trusted. Its memory may change at any time, and be cut off: each descriptor is read once, every address
 * is looked up, and a page that has gone reads as zeroes. A ring that makes no sense is stopped, a message that makes none ends
 * the connection.
 *
 * Invariants: (1) a request holds the table of memory that its buffers lie in, so no table goes while one is in flight;
 * (2) a connection ends when no request of it is in flight; (3) front ends come and go on the graph's loop, all that one asks for
 * happens on the export's (e.loop); the graph's loop only waits for that one, never the reverse. */
#ifndef RHEA_BLOCK_VHOST_USER_H
#define RHEA_BLOCK_VHOST_USER_H

#include <stdatomic.h>
#include "block/export.h"

/* ---- memory */

enum { VHOST_REGIONS_MAX = 32 };

struct vhost_region {           /* as a message has it */
    uint64_t guest, size, user, mmap_offset;
};
struct vhost_mapping;
struct vhost_memory {
    unsigned refs, count;
    struct vhost_mapping *maps[VHOST_REGIONS_MAX];
};

struct vhost_memory *vhost_memory_new(void);
/* A table like m (which stays) with one region more, or less. The file stays the caller's. NULL with *err. */
struct vhost_memory *vhost_memory_with(const struct vhost_memory *m, const struct vhost_region *r, int fd, struct error *err);
struct vhost_memory *vhost_memory_without(const struct vhost_memory *m, const struct vhost_region *r, struct error *err);
struct vhost_memory *vhost_memory_ref(struct vhost_memory *m);
void vhost_memory_unref(struct vhost_memory *m);
/* [addr, addr + bytes) of the front end's own addresses, or NULL. */
void *vhost_user_address(const struct vhost_memory *m, uint64_t addr, uint64_t bytes);
/* Of the guest's addresses: the first *bytes of it that lie together (*bytes is lowered), or NULL. */
void *vhost_guest_address(const struct vhost_memory *m, uint64_t addr, uint64_t *bytes);

/* ---- rings */

enum { VHOST_RING_MAX = 1024, VHOST_SEGMENTS_MAX = 1024 };

struct vhost_user;
struct vhost_buf {
    struct vhost_ring *ring;
    struct vhost_memory *memory;
    uint16_t head;
    unsigned nout, nin, cap;
    uint64_t out_len, in_len;
    struct iovec *iov;          /* out first */
};

struct vhost_ring {
    struct vhost_user *x;
    unsigned index, size;
    uint64_t desc_user, avail_user, used_user;
    uint8_t *desc, *avail, *used;       /* NULL: not running */
    uint16_t avail_idx, used_idx;
    uint16_t unsignalled;
    bool enabled, broken, posted, notify_posted;
    unsigned in_flight;
    int kick, call, err;
    struct loop_fd *watch;
};

void vhost_ring_init(struct vhost_ring *r, struct vhost_user *x, unsigned index);
/* Forgets what the front end set; nothing is in flight. */
void vhost_ring_reset(struct vhost_ring *r);
/* Looks its parts up in the connection's table of memory; false: they are not there. */
bool vhost_ring_map(struct vhost_ring *r);
void vhost_ring_unmap(struct vhost_ring *r);
void vhost_ring_set_kick(struct vhost_ring *r, int fd);
void vhost_ring_set_call(struct vhost_ring *r, int fd);
void vhost_ring_set_err(struct vhost_ring *r, int fd);
/* Handles what the driver has made available, if the ring runs. */
void vhost_ring_run(struct vhost_ring *r);
void vhost_ring_broken(struct vhost_ring *r, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* Gives b back with `written` bytes filled, and frees it. */
void vhost_ring_push(struct vhost_buf *b, uint32_t written);

/* ---- the device */

enum { VHOST_CONFIG_MAX = 256, VHOST_QUEUES_MAX = 64 };

struct vhost_connection;
struct vhost_user {
    struct block_export e;
    struct block_info info;     /* of the disk, when it last changed */
    bool ending;
    uint32_t block_size;
    unsigned num_queues;
    bool writeback;             /* writes need no flush of their own */
    uint64_t features;          /* that the driver took */
    struct vhost_memory *memory;
    struct vhost_ring *rings;
    unsigned in_flight;
    struct vhost_connection *conn;
    int listen_fd;
    struct loop_fd *listen_watch;
    char *unlink_path;
};

uint64_t vhost_blk_features(const struct vhost_user *x);
void vhost_blk_config(const struct vhost_user *x, uint8_t config[VHOST_CONFIG_MAX]);
void vhost_blk_set_config(struct vhost_user *x, uint32_t off, const uint8_t *data, uint32_t bytes);
/* The driver took x->features. */
void vhost_blk_negotiated(struct vhost_user *x);
/* Takes b, and gives it back with vhost_ring_push() at some time. False: it makes no sense (b is still the caller's). */
bool vhost_blk_request(struct vhost_user *x, struct vhost_buf *b);
/* A request has ended: somebody may wait for that. */
void vhost_user_idle(struct vhost_user *x);

static inline bool vhost_has(const struct vhost_user *x, unsigned feature) { return x->features >> feature & 1; }
enum { VHOST_F_INDIRECT_DESC = 28, VHOST_F_EVENT_IDX = 29, VHOST_F_PROTOCOL_FEATURES = 30, VHOST_F_VERSION_1 = 32 };

#endif
