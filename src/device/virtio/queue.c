/* Virtqueues: split (virtio 1.2, 2.7) and packed (2.8), with indirect descriptors and event index. The driver is not
 * trusted: each descriptor is read once, every index, length and address is checked, and a violation stops the device
 * (DEVICE_NEEDS_RESET) until it is reset. */
#include <inttypes.h>
#include <string.h>
#include "rhea/device/virtio.h"

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4, DESC_AVAIL = 1 << 7, DESC_USED = 1 << 15 };
enum { RING_EVENT_ENABLE, RING_EVENT_DISABLE, RING_EVENT_DESC };
enum { AVAIL_F_NO_INTERRUPT = 1, USED_F_NO_NOTIFY = 1, DRAIN_SHARE = 256 };

struct split_desc { uint64_t addr; uint32_t len; uint16_t flags, next; };
struct packed_desc { uint64_t addr; uint32_t len; uint16_t id, flags; };
struct split_avail { uint16_t flags, idx, ring[]; };            /* used_event behind ring[size] */
struct split_used_elem { uint32_t id, len; };
struct split_used { uint16_t flags, idx; struct split_used_elem ring[]; };      /* avail_event behind it */
struct packed_event { uint16_t off_wrap, flags; };

static uint16_t load16(const void *p) { return __atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE); }
static void store16(void *p, uint16_t v) { __atomic_store_n((uint16_t *)p, v, __ATOMIC_RELEASE); }
static bool queue_packed(const struct virtqueue *q) { return virtio_has(q->vdev, VIRTIO_F_RING_PACKED); }
static bool queue_event_idx(const struct virtqueue *q) { return virtio_has(q->vdev, VIRTIO_F_EVENT_IDX); }

/* ---- rings in our memory */

void virtqueue_unmap(struct virtqueue *q)
{
    q->hdesc = q->hdriver = q->hdevice = NULL;
}

static unsigned flat_epoch(struct address_space *as)
{
    unsigned token = mem_read_begin(), epoch;
    struct mem_flat *flat = atomic_load(&as->flat);

    epoch = flat ? flat->epoch : 0;
    mem_read_end(token);
    return epoch;
}

static uint8_t *ring_map(struct virtqueue *q, uint64_t addr, uint64_t len, unsigned align, bool write, const char *part)
{
    uint64_t n = len;
    uint8_t *host = NULL;

    if (!(addr & (align - 1)))
        host = as_map(q->vdev->as, addr, &n, write, MEM_ATTRS_NONE);
    if (host && n == len)
        return host;
    virtio_broken(q->vdev, "queue %u: %s at %#" PRIx64 " is not in RAM", q->index, part, addr);
    return NULL;
}

static bool queue_map(struct virtqueue *q)
{
    unsigned epoch = flat_epoch(q->vdev->as), n = q->size, ev = queue_event_idx(q) ? 2 : 0;
    bool packed = queue_packed(q);

    if (q->hdesc && q->map_epoch == epoch && !q->vdev->as->translate)
        return true;
    virtqueue_unmap(q);
    q->map_len[0] = 16 * n;
    q->map_len[1] = packed ? sizeof(struct packed_event) : sizeof(struct split_avail) + 2 * n + ev;
    q->map_len[2] = packed ? sizeof(struct packed_event) : sizeof(struct split_used) + 8 * n + ev;
    q->map_epoch = epoch;
    q->hdriver = ring_map(q, q->driver, q->map_len[1], packed ? 4 : 2, false,
                          packed ? "driver area" : "available ring");
    q->hdevice = q->hdriver
                     ? ring_map(q, q->device, q->map_len[2], 4, true, packed ? "device area" : "used ring")
                     : NULL;
    q->hdesc = q->hdevice ? ring_map(q, q->desc, q->map_len[0], 16, packed, "descriptor table") : NULL;
    return q->hdesc;
}

bool virtqueue_ready(struct virtqueue *q)
{
    return virtio_live(q->vdev) && atomic_load(&q->enabled) && !q->resetting && q->size && queue_map(q);
}

static void ring_written(struct virtqueue *q, void *host, unsigned len)
{
    as_unmap(q->vdev->as, host, len, true, len);
}

static struct split_avail *split_avail(struct virtqueue *q) { return (struct split_avail *)q->hdriver; }
static struct split_used *split_used(struct virtqueue *q) { return (struct split_used *)q->hdevice; }
static uint16_t *split_used_event(struct virtqueue *q) { return &split_avail(q)->ring[q->size]; }
static uint16_t *split_avail_event(struct virtqueue *q) { return (uint16_t *)&split_used(q)->ring[q->size]; }
static struct packed_desc *packed_desc(struct virtqueue *q, unsigned i) { return (struct packed_desc *)q->hdesc + i; }

/* ---- buffers */

static struct virtq_buf *buf_new(struct virtqueue *q)
{
    struct virtq_buf *b = q->free;

    if (b)
        q->free = b->next;
    else
        b = g_malloc0(q->item_size);
    memset(b + 1, 0, q->item_size - sizeof(*b));
    b->q = q;
    b->generation = q->generation;
    b->nout = b->nin = 0;
    b->out_len = b->in_len = 0;
    b->slots = 1;
    b->next = NULL;
    return b;
}

static void buf_free(struct virtq_buf *b)
{
    b->next = b->q->free;
    b->q->free = b;
}

static bool buf_append(struct virtq_buf *b, void *host, size_t len, bool write)
{
    unsigned n = b->nout + b->nin;

    if (n == b->cap) {
        if (n >= VIRTQUEUE_IOV_MAX)
            return false;
        b->cap = n ? 2 * n : 8;
        b->iov = g_renew(struct iovec, b->iov, b->cap);
    }
    b->iov[n] = (struct iovec){ host, len };
    if (write) {
        b->nin++;
        b->in_len += len;
    } else {
        b->nout++;
        b->out_len += len;
    }
    return true;
}

/* One descriptor's memory, in as many pieces as RAM has there. False: broken. */
static bool buf_add(struct virtq_buf *b, uint64_t addr, uint32_t len, bool write)
{
    struct virtqueue *q = b->q;
    uint64_t left = len;

    if (!write && b->nin) {             /* 2.7.4.2, 2.8.17 */
        virtio_broken(q->vdev, "queue %u: readable descriptor after a writable one", q->index);
        return false;
    }
    while (left) {
        uint64_t n = left;
        void *host = addr + left - 1 < addr ? NULL : as_map(q->vdev->as, addr, &n, write, MEM_ATTRS_NONE);

        if (!host || !n || n > left) {
            virtio_broken(q->vdev, "queue %u: buffer at %#" PRIx64 ", %u bytes, is not in %s RAM", q->index, addr, len,
                          write ? "writable" : "readable");
            return false;
        }
        if (!buf_append(b, host, n, write)) {
            virtio_broken(q->vdev, "queue %u: more than %d pieces in a chain", q->index, VIRTQUEUE_IOV_MAX);
            return false;
        }
        addr += n;
        left -= n;
    }
    return true;
}

static void buf_settle(struct virtq_buf *b)
{
    b->out = b->iov;
    b->in = b->iov + b->nout;
}

/* A copy of an indirect table, in `copy` (caller frees) or in place. NULL: broken. */
static const void *indirect_table(struct virtqueue *q, uint64_t addr, uint32_t len, unsigned *entries, void **copy)
{
    uint64_t n = len;
    void *host;

    *copy = NULL;
    *entries = len / 16;
    if (!virtio_has(q->vdev, VIRTIO_F_INDIRECT_DESC) || len % 16 || !len || *entries > VIRTQUEUE_SIZE_MAX) {
        virtio_broken(q->vdev, "queue %u: indirect table of %u bytes", q->index, len);
        return NULL;
    }
    host = addr + len - 1 < addr ? NULL : as_map(q->vdev->as, addr, &n, false, MEM_ATTRS_NONE);
    if (host && n == len)
        return host;
    *copy = g_malloc(len);
    if (addr + len - 1 >= addr && as_read(q->vdev->as, addr, *copy, len, MEM_ATTRS_NONE) == MEM_OK)
        return *copy;
    virtio_broken(q->vdev, "queue %u: indirect table at %#" PRIx64 " is not in memory", q->index, addr);
    g_free(*copy);
    *copy = NULL;
    return NULL;
}

/* ---- split rings */

/* Follows a chain in a table. *indirect is filled when its last descriptor names a table. */
static bool split_chain(struct virtq_buf *b, const void *table, unsigned entries, unsigned i,
                        struct split_desc *indirect)
{
    struct virtqueue *q = b->q;

    for (unsigned n = 0; n < entries; n++) {
        struct split_desc d;

        if (i >= entries) {
            virtio_broken(q->vdev, "queue %u: descriptor %u of %u", q->index, i, entries);
            return false;
        }
        memcpy(&d, (const uint8_t *)table + 16 * i, sizeof(d));
        if (d.flags & DESC_INDIRECT) {
            if (!indirect || d.flags & DESC_NEXT) {     /* 2.7.5.3.1 */
                virtio_broken(q->vdev, "queue %u: misplaced indirect descriptor", q->index);
                return false;
            }
            *indirect = d;
            return true;
        }
        if (!buf_add(b, d.addr, d.len, d.flags & DESC_WRITE))
            return false;
        if (!(d.flags & DESC_NEXT))
            return true;
        i = d.next;
    }
    virtio_broken(q->vdev, "queue %u: loop in a descriptor chain", q->index);
    return false;
}

static bool split_gather(struct virtq_buf *b, unsigned head)
{
    struct virtqueue *q = b->q;
    struct split_desc ind = { 0 };
    unsigned entries;
    void *copy;
    const void *table;
    bool ok;

    if (!split_chain(b, q->hdesc, q->size, head, &ind))
        return false;
    if (!(ind.flags & DESC_INDIRECT))
        return true;
    table = indirect_table(q, ind.addr, ind.len, &entries, &copy);
    ok = table && split_chain(b, table, entries, 0, NULL);
    g_free(copy);
    return ok;
}

static bool split_empty(struct virtqueue *q)
{
    return load16(&split_avail(q)->idx) == q->avail_idx;
}

static struct virtq_buf *split_pop(struct virtqueue *q)
{
    uint16_t idx = load16(&split_avail(q)->idx), head;
    struct virtq_buf *b;

    if (idx == q->avail_idx)
        return NULL;
    head = __atomic_load_n(&split_avail(q)->ring[q->avail_idx & (q->size - 1)], __ATOMIC_RELAXED);
    if ((uint16_t)(idx - q->avail_idx) > q->size || head >= q->size) {
        virtio_broken(q->vdev, "queue %u: available index %u after %u, head %u", q->index, idx, q->avail_idx, head);
        return NULL;
    }
    b = buf_new(q);
    if (!split_gather(b, head)) {
        buf_free(b);
        return NULL;
    }
    b->id = head;
    q->avail_idx++;
    if (queue_event_idx(q) && q->notify) {
        store16(split_avail_event(q), q->avail_idx);
        ring_written(q, split_avail_event(q), 2);
    }
    return b;
}

static void split_fill(struct virtqueue *q, struct virtq_buf *b, uint32_t len, unsigned i)
{
    struct split_used_elem *e = &split_used(q)->ring[(q->used_idx + i) & (q->size - 1)];

    e->id = b->id;
    e->len = len;
    ring_written(q, e, sizeof(*e));
}

static void split_publish(struct virtqueue *q, unsigned n)
{
    q->used_idx += n;
    q->unsignalled += n;
    store16(&split_used(q)->idx, q->used_idx);
    ring_written(q, split_used(q), 4);
}

static void split_set_notification(struct virtqueue *q, bool on)
{
    if (queue_event_idx(q)) {
        if (!on)
            return;             /* the old value has passed: the driver stays silent for a lap */
        store16(split_avail_event(q), q->avail_idx);
        ring_written(q, split_avail_event(q), 2);
    } else {
        store16(&split_used(q)->flags, on ? 0 : USED_F_NO_NOTIFY);
        ring_written(q, split_used(q), 2);
    }
}

/* 2.7.10.1's vring_need_event() */
static bool need_event(uint16_t event, uint16_t now, uint16_t before)
{
    return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

static bool split_wants_irq(struct virtqueue *q, unsigned added)
{
    if (virtio_has(q->vdev, VIRTIO_F_NOTIFY_ON_EMPTY) && !q->in_flight && split_empty(q))
        return true;
    if (queue_event_idx(q))
        return need_event(load16(split_used_event(q)), q->used_idx, q->used_idx - added);
    return !(load16(&split_avail(q)->flags) & AVAIL_F_NO_INTERRUPT);
}

/* ---- packed rings */

static bool packed_available(struct virtqueue *q, uint16_t flags)
{
    return !!(flags & DESC_AVAIL) == q->avail_wrap && !!(flags & DESC_USED) != q->avail_wrap;      /* 2.8.1 */
}

static bool packed_empty(struct virtqueue *q)
{
    return !packed_available(q, load16(&packed_desc(q, q->avail_idx)->flags));
}

static bool packed_indirect(struct virtq_buf *b, const struct packed_desc *d)
{
    unsigned entries;
    void *copy;
    const void *table = indirect_table(b->q, d->addr, d->len, &entries, &copy);
    bool ok = table;

    for (unsigned i = 0; ok && i < entries; i++) {
        struct packed_desc e;

        memcpy(&e, (const uint8_t *)table + 16 * i, sizeof(e));
        ok = buf_add(b, e.addr, e.len, e.flags & DESC_WRITE);   /* 2.8.7: other flags are reserved */
    }
    g_free(copy);
    return ok;
}

static bool packed_gather(struct virtq_buf *b)
{
    struct virtqueue *q = b->q;
    unsigned i = q->avail_idx;

    for (b->slots = 1; b->slots <= q->size; b->slots++) {
        struct packed_desc d;

        memcpy(&d, packed_desc(q, i), sizeof(d));
        b->id = d.id;
        if (d.flags & DESC_INDIRECT) {
            if (!(d.flags & DESC_NEXT) && b->slots == 1)
                return packed_indirect(b, &d);
            virtio_broken(q->vdev, "queue %u: misplaced indirect descriptor", q->index);
            return false;
        }
        if (!buf_add(b, d.addr, d.len, d.flags & DESC_WRITE))
            return false;
        if (!(d.flags & DESC_NEXT))
            return true;
        i = i + 1 == q->size ? 0 : i + 1;
    }
    virtio_broken(q->vdev, "queue %u: loop in a descriptor chain", q->index);
    return false;
}

static void packed_advance(uint16_t *idx, bool *wrap, unsigned slots, unsigned size)
{
    unsigned i = *idx + slots;

    if (i >= size) {
        i -= size;
        *wrap = !*wrap;
    }
    *idx = i;
}

static void packed_set_event(struct virtqueue *q, uint16_t flags)
{
    struct packed_event *e = (struct packed_event *)q->hdevice;

    if (flags == RING_EVENT_DESC)
        store16(&e->off_wrap, q->avail_idx | q->avail_wrap << 15);
    store16(&e->flags, flags);
    ring_written(q, e, sizeof(*e));
}

static void packed_set_notification(struct virtqueue *q, bool on)
{
    packed_set_event(q, !on ? RING_EVENT_DISABLE : queue_event_idx(q) ? RING_EVENT_DESC : RING_EVENT_ENABLE);
}

static struct virtq_buf *packed_pop(struct virtqueue *q)
{
    struct virtq_buf *b;

    if (packed_empty(q))
        return NULL;
    b = buf_new(q);
    if (!packed_gather(b)) {
        buf_free(b);
        return NULL;
    }
    packed_advance(&q->avail_idx, &q->avail_wrap, b->slots, q->size);
    if (queue_event_idx(q) && q->notify)
        packed_set_event(q, RING_EVENT_DESC);
    return b;
}

static void packed_fill(struct virtqueue *q, struct virtq_buf *b, uint32_t len, unsigned i)
{
    uint16_t idx = q->used_idx, flags;
    bool wrap = q->used_wrap;
    struct packed_desc *d;

    packed_advance(&idx, &wrap, q->filled, q->size);
    flags = (wrap ? DESC_AVAIL | DESC_USED : 0) | (len ? DESC_WRITE : 0);
    d = packed_desc(q, idx);
    d->id = b->id;
    d->len = len;
    if (i)
        store16(&d->flags, flags);      /* not seen before the first's */
    else
        q->first_flags = flags;
    q->filled += b->slots;
    ring_written(q, d, sizeof(*d));
}

static void packed_publish(struct virtqueue *q, unsigned n)
{
    struct packed_desc *d = packed_desc(q, q->used_idx);

    store16(&d->flags, q->first_flags);
    ring_written(q, d, sizeof(*d));
    packed_advance(&q->used_idx, &q->used_wrap, q->filled, q->size);
    q->unsignalled += q->filled;
}

static bool packed_wants_irq(struct virtqueue *q, unsigned added)
{
    struct packed_event *e = (struct packed_event *)q->hdriver;
    uint16_t flags = load16(&e->flags) & 3, off = load16(&e->off_wrap), event;

    if (flags == RING_EVENT_DISABLE)
        return false;
    if (flags != RING_EVENT_DESC || !queue_event_idx(q))
        return true;
    event = off & 0x7fff;
    if ((off >> 15) != q->used_wrap)
        event -= q->size;
    return need_event(event, q->used_idx, q->used_idx - added);
}

/* ---- what devices call */

bool virtqueue_empty(struct virtqueue *q)
{
    if (!virtqueue_ready(q))
        return true;
    return queue_packed(q) ? packed_empty(q) : split_empty(q);
}

void *virtqueue_pop(struct virtqueue *q)
{
    struct virtq_buf *b;

    if (!virtqueue_ready(q))
        return NULL;
    if (q->in_flight >= q->size) {      /* only with descriptors made available twice can there be more */
        if (!(queue_packed(q) ? packed_empty(q) : split_empty(q)))
            virtio_broken(q->vdev, "queue %u: more buffers than descriptors", q->index);
        return NULL;
    }
    b = queue_packed(q) ? packed_pop(q) : split_pop(q);
    if (!b)
        return NULL;
    buf_settle(b);
    q->in_flight++;
    return b;
}

static void buf_gone(struct virtq_buf *b)
{
    struct virtqueue *q = b->q;

    if (b->generation != q->generation)
        atomic_fetch_sub(&q->vdev->stale, 1);
    else
        q->in_flight--;
    buf_free(b);
}

void virtqueue_detach(struct virtqueue *q, void *buf)
{
    buf_gone(buf);
    if (q->resetting && !q->in_flight)
        virtqueue_reset(q);
}

void virtqueue_unpop(struct virtqueue *q, void *buf)
{
    struct virtq_buf *b = buf;

    if (b->generation == q->generation) {
        if (!queue_packed(q)) {
            q->avail_idx--;
        } else {
            if (q->avail_idx < b->slots)
                q->avail_wrap = !q->avail_wrap;
            q->avail_idx = q->avail_idx < b->slots ? q->avail_idx + q->size - b->slots : q->avail_idx - b->slots;
        }
    }
    virtqueue_detach(q, b);
}

static void mark_written(struct virtq_buf *b, size_t written)
{
    for (unsigned i = 0; written && i < b->nin; i++) {
        size_t n = MIN(written, b->in[i].iov_len);

        as_unmap(b->q->vdev->as, b->in[i].iov_base, b->in[i].iov_len, true, n);
        written -= n;
    }
}

void virtqueue_fill(struct virtqueue *q, void *buf, size_t written, unsigned i)
{
    struct virtq_buf *b = buf;

    written = MIN(written, MIN(b->in_len, UINT32_MAX));
    mark_written(b, written);
    if (i == 0)
        q->filled = 0;
    if (b->generation != q->generation || !virtqueue_ready(q)) {
        virtqueue_detach(q, b);
        return;
    }
    if (queue_packed(q)) {
        packed_fill(q, b, written, i);
    } else {
        split_fill(q, b, written, i);
        q->filled++;
    }
    buf_gone(b);
}

void virtqueue_publish(struct virtqueue *q, unsigned n)
{
    if (!q->filled || !virtqueue_ready(q))
        return;
    if (queue_packed(q))
        packed_publish(q, n);
    else
        split_publish(q, q->filled);
    q->filled = 0;
}

void virtqueue_push(struct virtqueue *q, void *buf, size_t written)
{
    virtqueue_fill(q, buf, written, 0);
    virtqueue_publish(q, 1);
}

void virtqueue_notify(struct virtqueue *q)
{
    unsigned added = q->unsignalled;

    if (!added || !virtqueue_ready(q))
        return;
    q->unsignalled = 0;
    /* The used entries are visible before we look whether the driver wants to hear of them: 2.7.7.1. */
    atomic_thread_fence(memory_order_seq_cst);
    if (queue_packed(q) ? packed_wants_irq(q, added) : split_wants_irq(q, added))
        q->vdev->transport->queue_irq(q->vdev, q);
}

void virtqueue_set_notification(struct virtqueue *q, bool on)
{
    if (!virtqueue_ready(q))
        return;
    q->notify = on;
    if (queue_packed(q))
        packed_set_notification(q, on);
    else
        split_set_notification(q, on);
    if (on)                     /* what the driver adds from here on it tells; the caller looks again */
        atomic_thread_fence(memory_order_seq_cst);
}

void virtqueue_drain(struct virtqueue *q, bool (*fn)(struct virtqueue *q, void *buf))
{
    unsigned left = DRAIN_SHARE;
    void *buf;

    do {
        virtqueue_set_notification(q, false);
        while (left && (buf = virtqueue_pop(q))) {
            left--;
            if (!fn(q, buf)) {
                virtqueue_set_notification(q, true);
                return;
            }
        }
        virtqueue_set_notification(q, true);
    } while (left && !virtqueue_empty(q));
    if (!left)
        virtqueue_kick(q);      /* others on this loop first */
}

/* ---- set-up */

void virtqueue_clear(struct virtqueue *q)
{
    atomic_fetch_add(&q->vdev->stale, q->in_flight);
    q->in_flight = 0;
    q->generation++;
    atomic_store(&q->enabled, false);
    q->resetting = false;
    q->size = q->size_max;
    q->vector = VIRTIO_NO_VECTOR;
    q->desc = q->driver = q->device = 0;
    q->avail_idx = q->used_idx = 0;
    q->unsignalled = q->filled = 0;
    q->avail_wrap = q->used_wrap = true;
    q->notify = true;
    virtqueue_unmap(q);
}

bool virtqueue_set_size(struct virtqueue *q, unsigned size)
{
    bool packed = queue_packed(q);

    if (!size || size > q->size_max || (!packed && size & (size - 1))) {
        guest_error(&q->vdev->dev, "queue %u: size %u, at most %u", q->index, size, q->size_max);
        return false;
    }
    q->size = size;
    virtqueue_unmap(q);
    return true;
}

void virtqueue_enable(struct virtqueue *q, bool on)
{
    virtqueue_unmap(q);
    if (on && q->resetting)
        return;
    atomic_store(&q->enabled, on);
    if (on && virtio_live(q->vdev))     /* 2.6.1: again after a queue reset */
        virtqueue_kick(q);
}

void virtqueue_set_legacy(struct virtqueue *q, uint64_t addr, unsigned align)
{
    uint64_t used;

    if (!addr) {
        virtqueue_clear(q);
        return;
    }
    used = addr + 16 * q->size + sizeof(struct split_avail) + 2 * q->size + 2;

    q->desc = addr;
    q->driver = addr + 16 * q->size;
    q->device = (used + align - 1) & ~(uint64_t)(align - 1);
    virtqueue_enable(q, true);
}

/* ---- scattered copies */

size_t iov_length(const struct iovec *iov, unsigned n)
{
    size_t len = 0;

    for (unsigned i = 0; i < n; i++)
        len += iov[i].iov_len;
    return len;
}

/* Calls for each piece of [offset, offset + len): buf NULL and `byte` set, to the list, or from it. */
enum iov_op { IOV_TO_BUF, IOV_FROM_BUF, IOV_SET };
static size_t iov_walk(const struct iovec *iov, unsigned n, size_t offset, void *buf, size_t len, enum iov_op op, uint8_t byte)
{
    size_t done = 0;

    for (unsigned i = 0; i < n && done < len; i++) {
        size_t piece;
        uint8_t *p;

        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        p = (uint8_t *)iov[i].iov_base + offset;
        piece = MIN(iov[i].iov_len - offset, len - done);
        switch (op) {
        case IOV_TO_BUF:   memcpy((uint8_t *)buf + done, p, piece); break;
        case IOV_FROM_BUF: memcpy(p, (uint8_t *)buf + done, piece); break;
        case IOV_SET:      memset(p, byte, piece); break;
        }
        done += piece;
        offset = 0;
    }
    return done;
}

size_t iov_to_buf(const struct iovec *iov, unsigned n, size_t offset, void *buf, size_t len)
{
    return iov_walk(iov, n, offset, buf, len, IOV_TO_BUF, 0);
}

size_t iov_from_buf(const struct iovec *iov, unsigned n, size_t offset, const void *buf, size_t len)
{
    return iov_walk(iov, n, offset, (void *)buf, len, IOV_FROM_BUF, 0);
}

size_t iov_set(const struct iovec *iov, unsigned n, size_t offset, uint8_t byte, size_t len)
{
    return iov_walk(iov, n, offset, NULL, len, IOV_SET, byte);
}

size_t iov_trim_front(struct iovec **iov, unsigned *n, size_t len)
{
    size_t done = 0;

    while (*n && done < len) {
        size_t piece = MIN((*iov)->iov_len, len - done);

        done += piece;
        if (piece == (*iov)->iov_len) {
            ++*iov;
            --*n;
        } else {
            (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + piece;
            (*iov)->iov_len -= piece;
        }
    }
    return done;
}

size_t iov_trim_back(struct iovec *iov, unsigned *n, size_t len)
{
    size_t done = 0;

    while (*n && done < len) {
        struct iovec *last = &iov[*n - 1];
        size_t piece = MIN(last->iov_len, len - done);

        done += piece;
        last->iov_len -= piece;
        if (!last->iov_len)
            --*n;
    }
    return done;
}
