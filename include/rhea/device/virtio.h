/* Virtio 1.2: devices, their queues, and the transports that carry them.
 *
 * One struct virtio_device stands behind either transport: "virtio-NAME-device" plugs into the virtio-bus of a
 * "virtio-mmio", and "virtio-NAME-pci" makes one on a bus of its own (the child "virtio-backend").
 *
 * Threads: the driver's registers are handled on vCPU threads, queues on the device's loop (dev.loop), both under the
 * device's lock. A notification takes no lock: it marks the queue and posts once.
 *
 * Invariants: (1) nothing is read from or written to a queue unless status has DRIVER_OK and neither NEEDS_RESET nor
 * a reset is pending; (2) a buffer belongs to the queue's generation in which it was popped: after a reset its
 * completion frees it and leaves guest memory alone; (3) iovecs of a buffer point into guest RAM, never elsewhere. */
#ifndef RHEA_DEVICE_VIRTIO_H
#define RHEA_DEVICE_VIRTIO_H

#include <stdatomic.h>
#include <sys/uio.h>
#include "rhea/vm/device.h"
#include "rhea/vm/vm.h"

struct object;
struct virtio_device;
struct virtqueue;

/* 2.1 status */
enum { VIRTIO_S_ACKNOWLEDGE = 1, VIRTIO_S_DRIVER = 2, VIRTIO_S_DRIVER_OK = 4, VIRTIO_S_FEATURES_OK = 8,
       VIRTIO_S_NEEDS_RESET = 64, VIRTIO_S_FAILED = 128 };
/* 6 reserved feature bits, by number */
enum { VIRTIO_F_NOTIFY_ON_EMPTY = 24, VIRTIO_F_ANY_LAYOUT = 27, VIRTIO_F_INDIRECT_DESC = 28, VIRTIO_F_EVENT_IDX = 29,
       VIRTIO_F_VERSION_1 = 32, VIRTIO_F_ACCESS_PLATFORM = 33, VIRTIO_F_RING_PACKED = 34, VIRTIO_F_IN_ORDER = 35,
       VIRTIO_F_ORDER_PLATFORM = 36, VIRTIO_F_SR_IOV = 37, VIRTIO_F_NOTIFICATION_DATA = 38, VIRTIO_F_RING_RESET = 40 };
/* 5 device types */
enum { VIRTIO_ID_NET = 1, VIRTIO_ID_BLOCK = 2, VIRTIO_ID_CONSOLE = 3, VIRTIO_ID_RNG = 4, VIRTIO_ID_BALLOON = 5 };
#define VIRTIO_BIT(n) (1ull << (n))
enum { VIRTQUEUE_SIZE_MAX = 1024, VIRTIO_CONFIG_MAX = 256, VIRTIO_NO_VECTOR = 0xffff, VIRTQUEUE_IOV_MAX = 1024 };

/* A descriptor chain as the device sees it. `out`: what the driver gives to read; `in`: room to write. Devices embed
 * it at the start of their request (virtqueue_pop's size). */
struct virtq_buf {
    struct virtqueue *q;
    uint32_t generation;
    uint16_t id, slots;         /* head descriptor, or packed buffer id and ring entries */
    unsigned nout, nin, cap;
    struct iovec *out, *in;     /* within iov[cap]: out first; `in` must stay as it is */
    struct iovec *iov;
    size_t out_len, in_len;
    struct virtq_buf *next;     /* free list */
};

struct virtqueue {
    struct virtio_device *vdev;
    unsigned index;
    uint16_t size_max, size;    /* 0: queue not available */
    uint16_t vector;            /* the transport's */
    uint64_t desc, driver, device;      /* guest-physical: 2.7's descriptor table, available ring, used ring; 2.8's */
    _Atomic bool enabled;
    _Atomic bool kicked;
    bool resetting;             /* 2.6.1: queue_reset was asked, buffers are still out */
    /* rings mapped into our memory, of that flat view; NULL: not now */
    uint8_t *hdesc, *hdriver, *hdevice;
    unsigned map_epoch;
    uint64_t map_len[3];
    uint16_t avail_idx, used_idx;       /* next to look at, next to write */
    unsigned unsignalled;       /* used entries since the driver was last considered for an interrupt */
    bool notify;                /* we want notifications */
    bool avail_wrap, used_wrap; /* packed ring */
    unsigned filled;            /* entries of the batch not yet published */
    uint16_t first_flags;       /* of its first descriptor */
    uint32_t generation;
    unsigned in_flight;         /* popped, not yet pushed, of this generation */
    size_t item_size;
    struct virtq_buf *free;
    void (*handler)(struct virtqueue *q);
};

/* What a type of device is: the const descriptor beside its device_class. */
struct virtio_info {
    const char *name;           /* "virtio-blk" */
    uint16_t id;                /* 5 */
    uint16_t legacy_pci_id;     /* 4.1.2.1 transitional PCI device id; 0: there is none */
    unsigned vectors;           /* MSI-X vectors unless vectors= says; 0: one a queue and one for configuration */
    uint64_t features;          /* always offered; the device adds others to vdev->host_features in realize */
    uint64_t legacy_features;   /* offered only to legacy drivers */
    /* Everything below may be NULL. Called with the device's lock. */
    void (*get_config)(struct virtio_device *v, uint8_t *config);       /* fills vdev->config_size bytes */
    void (*set_config)(struct virtio_device *v, unsigned offset, const uint8_t *data, unsigned len);
    bool (*check_features)(struct virtio_device *v, uint64_t acked);    /* may refuse a combination */
    void (*features_ok)(struct virtio_device *v);       /* driver_features are settled */
    void (*set_status)(struct virtio_device *v, uint8_t old);
    void (*reset)(struct virtio_device *v);     /* forget the driver: let buffers go (virtqueue_detach) or finish soon */
    void (*queue_reset)(struct virtio_device *v, struct virtqueue *q);  /* the same for one queue */
    void (*drain)(struct virtio_device *v);     /* machine reset, unplug: returns when nothing touches guest memory */
    void (*resume)(struct virtio_device *v);    /* machine runs again; queues are kicked after it */
};

/* What a bus of the transport's (bus->priv) says, and how it is told; interrupts: any thread, no lock needed. */
struct virtio_transport {
    const char *name;
    void (*plugged)(struct virtio_device *v);           /* realized: host_features, queues are known */
    void (*unplugged)(struct virtio_device *v);
    void (*queue_irq)(struct virtio_device *v, struct virtqueue *q);
    void (*config_irq)(struct virtio_device *v);
};

struct virtio_device {
    struct device dev;
    const struct virtio_info *info;
    const struct virtio_transport *transport;
    struct device *proxy;       /* the transport's device */
    struct address_space *as;   /* where queues and buffers are */
    uint64_t host_features, driver_features;
    bool features_settled, legacy;      /* legacy: driver has not taken VERSION_1 */
    _Atomic uint8_t status;
    uint8_t old_status;         /* what reads give while a reset waits for buffers */
    _Atomic unsigned stale;     /* buffers of past generations still out */
    _Atomic uint32_t config_generation;
    unsigned config_size, nqueues;
    struct virtqueue **queues;
    _Atomic bool paused, unplugging;    /* the machine is stopped; the device goes */
};

/* Both a virtio device and its PCI proxy begin with this much, then the properties, so that one property table (with
 * offsets in the device's struct) serves both classes. */
enum { VIRTIO_ROOM = 4096 };
struct virtio_conf { uint64_t features; uint8_t use_started; };
struct virtio_front {
    union { struct virtio_device vdev; uint8_t room[VIRTIO_ROOM]; };
    struct virtio_conf vconf;   /* the "virtio-device" kind's own */
};
extern const struct prop virtio_common_props[];
static inline struct virtio_front *virtio_front(struct virtio_device *v) { return (struct virtio_front *)v; }

/* ---- for devices */
/* In realize: queues in order of index. Buffers of the queue are `item_size` bytes (0: a plain virtq_buf), zeroed
 * behind the virtq_buf at each pop. */
struct virtqueue *virtio_add_queue(struct virtio_device *v, unsigned size, size_t item_size,
                                   void (*handler)(struct virtqueue *q));
/* In realize: the thread that works the queues; default the main loop. */
void virtio_set_loop(struct virtio_device *v, struct loop *loop);
/* iothread= : its loop, or NULL with err. */
struct loop *virtio_iothread(struct virtio_device *v, const char *id, struct object **hold, struct error *err);
static inline bool virtio_has(const struct virtio_device *v, unsigned feature) { return v->driver_features >> feature & 1; }
/* The driver is there, and queues may be used. */
static inline bool virtio_live(struct virtio_device *v)
{
    return (atomic_load(&v->status) & (VIRTIO_S_DRIVER_OK | VIRTIO_S_NEEDS_RESET)) == VIRTIO_S_DRIVER_OK;
}
void virtio_config_changed(struct virtio_device *v);    /* any thread */
/* The driver broke the rules: DEVICE_NEEDS_RESET, logged under guest_errors. */
void virtio_broken(struct virtio_device *v, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* In realize: whether to offer a feature of the device's type. */
void virtio_offer(struct virtio_device *v, unsigned feature, bool on);

/* The next buffer, or NULL: none, or the queue is broken. */
void *virtqueue_pop(struct virtqueue *q);
/* Gives it back with `written` bytes of `in` filled (from the start), and frees it. Interrupts only at
 * virtqueue_notify(). */
void virtqueue_push(struct virtqueue *q, void *buf, size_t written);
/* In parts, for several buffers that must appear at once: fill the i-th, then publish n. */
void virtqueue_fill(struct virtqueue *q, void *buf, size_t written, unsigned i);
void virtqueue_publish(struct virtqueue *q, unsigned n);
void virtqueue_notify(struct virtqueue *q);     /* an interrupt, if the driver wants one */
void virtqueue_unpop(struct virtqueue *q, void *buf);   /* the last popped goes back */
void virtqueue_detach(struct virtqueue *q, void *buf);  /* frees without a completion: the driver is gone */
bool virtqueue_empty(struct virtqueue *q);
void virtqueue_set_notification(struct virtqueue *q, bool on);
/* Pops and handles all, with notifications off meanwhile; fn false: stop here (it kept or unpopped the buffer).
 * After a fair share the rest is posted. */
void virtqueue_drain(struct virtqueue *q, bool (*fn)(struct virtqueue *q, void *buf));
/* Marks the queue as having work and posts, as a driver's notification does; any thread. */
void virtqueue_kick(struct virtqueue *q);
bool virtqueue_ready(struct virtqueue *q);      /* live and enabled, and its rings are in RAM */

/* Copies with bounds: bytes moved. */
size_t iov_to_buf(const struct iovec *iov, unsigned n, size_t offset, void *buf, size_t len);
size_t iov_from_buf(const struct iovec *iov, unsigned n, size_t offset, const void *buf, size_t len);
size_t iov_set(const struct iovec *iov, unsigned n, size_t offset, uint8_t byte, size_t len);
/* Drops len bytes from the front (back); entries change in place. Bytes dropped. */
size_t iov_trim_front(struct iovec **iov, unsigned *n, size_t len);
size_t iov_trim_back(struct iovec *iov, unsigned *n, size_t len);
size_t iov_length(const struct iovec *iov, unsigned n);

/* ---- for transports */
extern const struct bus_class virtio_bus_class;
/* A bus for one device on `proxy`; name: NULL for "virtio-bus". */
struct bus *virtio_bus_new(struct device *proxy, const struct virtio_transport *t, const char *name);
struct virtio_device *virtio_bus_device(struct bus *bus);       /* or NULL */
uint64_t virtio_offered(struct virtio_device *v, bool legacy);
void virtio_set_driver_features(struct virtio_device *v, uint64_t features);    /* checked at FEATURES_OK */
uint8_t virtio_status(struct virtio_device *v);
void virtio_set_status(struct virtio_device *v, uint8_t status);        /* 0: reset */
void virtio_reset(struct virtio_device *v);
uint64_t virtio_config_read(struct virtio_device *v, unsigned offset, unsigned size);
void virtio_config_write(struct virtio_device *v, unsigned offset, uint64_t value, unsigned size);
struct virtqueue *virtio_queue(struct virtio_device *v, unsigned n);    /* NULL: no such queue */
bool virtqueue_set_size(struct virtqueue *q, unsigned size);
void virtqueue_enable(struct virtqueue *q, bool on);
void virtqueue_set_legacy(struct virtqueue *q, uint64_t addr, unsigned align);  /* 2.7.2: one contiguous area */
void virtqueue_reset(struct virtqueue *q);
void virtio_notify(struct virtio_device *v, unsigned n);        /* the driver's; any thread, lock-free */

/* ---- queue.c, for virtio.c */
void virtqueue_unmap(struct virtqueue *q);
void virtqueue_clear(struct virtqueue *q);      /* as after reset: index state, generation */

#endif
