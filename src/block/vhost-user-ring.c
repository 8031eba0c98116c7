/* Split virtqueues in a vhost-user front end's memory: virtio 1.2, 2.7, little-endian as this host is (VIRTIO_F_VERSION_1). The
 * rings of our own machines are device/virtio/queue.c: they belong to a device on a bus of a machine, these to nobody. */
#include "block/vhost-user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
#include "rhea/base/log.h"

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4, AVAIL_NO_INTERRUPT = 1, SHARE = 256 };

struct desc { uint64_t addr; uint32_t len; uint16_t flags, next; };
struct avail { uint16_t flags, idx, ring[]; };          /* used_event behind it */
struct used_elem { uint32_t id, len; };
struct used { uint16_t flags, idx; struct used_elem ring[]; };         /* avail_event behind it */

static uint16_t load16(const uint16_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static void store16(uint16_t *p, uint16_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static struct avail *ring_avail(const struct vhost_ring *r) { return (struct avail *)r->avail; }
static struct used *ring_used(const struct vhost_ring *r) { return (struct used *)r->used; }

/* ---- file descriptors */

static void fd_replace(int *slot, int fd)
{
    if (*slot >= 0)
        close(*slot);
    *slot = fd;
}

static void fd_signal(int fd)
{
    uint64_t one = 1;

    if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
        return;                 /* EAGAIN: it is raised already */
}

static void ring_kicked(void *arg, unsigned events)
{
    struct vhost_ring *r = arg;
    uint64_t n;

    if (read(r->kick, &n, sizeof(n)) == sizeof(n))
        vhost_ring_run(r);
}

void vhost_ring_set_kick(struct vhost_ring *r, int fd)
{
    if (r->watch)
        loop_fd_remove(r->watch);
    r->watch = fd >= 0 ? loop_fd_add(r->x->e.loop, fd, LOOP_IN, ring_kicked, r) : NULL;
    fd_replace(&r->kick, fd);
}

void vhost_ring_set_call(struct vhost_ring *r, int fd)
{
    fd_replace(&r->call, fd);
}

void vhost_ring_set_err(struct vhost_ring *r, int fd)
{
    fd_replace(&r->err, fd);
}

/* ---- life */

void vhost_ring_init(struct vhost_ring *r, struct vhost_user *x, unsigned index)
{
    *r = (struct vhost_ring){ .x = x, .index = index, .kick = -1, .call = -1, .err = -1 };
}

void vhost_ring_reset(struct vhost_ring *r)
{
    bool posted = r->posted, notify_posted = r->notify_posted;

    vhost_ring_set_kick(r, -1);
    vhost_ring_set_call(r, -1);
    vhost_ring_set_err(r, -1);
    vhost_ring_init(r, r->x, r->index);
    r->posted = posted;
    r->notify_posted = notify_posted;
}

void vhost_ring_unmap(struct vhost_ring *r)
{
    r->desc = r->avail = r->used = NULL;
}

bool vhost_ring_map(struct vhost_ring *r)
{
    const struct vhost_memory *m = r->x->memory;

    vhost_ring_unmap(r);
    if (!r->size || r->desc_user % 16 || r->avail_user % 2 || r->used_user % 4)
        return false;
    r->desc = vhost_user_address(m, r->desc_user, sizeof(struct desc) * r->size);
    r->avail = vhost_user_address(m, r->avail_user, sizeof(struct avail) + 2 * r->size + 2);
    r->used = vhost_user_address(m, r->used_user, sizeof(struct used) + sizeof(struct used_elem) * r->size + 2);
    if (r->desc && r->avail && r->used && !((uintptr_t)r->desc % 16 | (uintptr_t)r->avail % 2 | (uintptr_t)r->used % 4))
        return true;
    vhost_ring_unmap(r);
    return false;
}

void vhost_ring_broken(struct vhost_ring *r, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (log_enabled(LOG_GUEST_ERRORS))
        log_printf("export %s: queue %u: %s\n", r->x->e.id, r->index, text);
    r->broken = true;
    fd_signal(r->err);
}

/* ---- buffers */

static void buf_free(struct vhost_buf *b)
{
    vhost_memory_unref(b->memory);
    g_free(b->iov);
    g_free(b);
}

static bool buf_append(struct vhost_buf *b, void *host, uint64_t len, bool write)
{
    unsigned n = b->nout + b->nin;

    if (n == VHOST_SEGMENTS_MAX)
        return false;
    if (n == b->cap) {
        b->cap = n ? 2 * n : 8;
        b->iov = g_renew(struct iovec, b->iov, b->cap);
    }
    b->iov[n] = (struct iovec){ host, len };
    b->nin += write;
    b->nout += !write;
    *(write ? &b->in_len : &b->out_len) += len;
    return true;
}

static bool buf_add(struct vhost_buf *b, const struct desc *d)
{
    uint64_t addr = d->addr, left = d->len;
    bool write = d->flags & DESC_WRITE;

    if (!write && b->nin) {
        vhost_ring_broken(b->ring, "readable descriptor after a writable one");
        return false;
    }
    while (left) {
        uint64_t n = left;
        void *host = addr + left - 1 < addr ? NULL : vhost_guest_address(b->memory, addr, &n);

        if (!host || !buf_append(b, host, n, write)) {
            vhost_ring_broken(b->ring, host ? "too many segments" : "a buffer is not in memory");
            return false;
        }
        addr += n;
        left -= n;
    }
    return true;
}

/* Follows a chain in a table; *indirect is filled if it ends in a descriptor of another table (2.7.5.3). */
static bool chain(struct vhost_buf *b, const uint8_t *table, unsigned entries, unsigned i, struct desc *indirect)
{
    for (unsigned n = 0; n < entries; n++) {
        struct desc d;

        if (i >= entries)
            break;
        memcpy(&d, table + sizeof(d) * i, sizeof(d));
        if (d.flags & DESC_INDIRECT) {
            if (!indirect || d.flags & DESC_NEXT)
                break;
            *indirect = d;
            return true;
        }
        if (!buf_add(b, &d))
            return false;
        if (!(d.flags & DESC_NEXT))
            return true;
        i = d.next;
    }
    vhost_ring_broken(b->ring, "a chain of descriptors that has no end, or leaves its table");
    return false;
}

static bool gather(struct vhost_buf *b)
{
    struct vhost_ring *r = b->ring;
    struct desc ind = { 0 };
    const uint8_t *table;
    uint64_t n;

    if (!chain(b, r->desc, r->size, b->head, &ind))
        return false;
    if (!(ind.flags & DESC_INDIRECT))
        return true;
    n = ind.len;
    table = vhost_guest_address(b->memory, ind.addr, &n);
    if (!vhost_has(r->x, VHOST_F_INDIRECT_DESC) || !ind.len || ind.len % sizeof(ind) || ind.len / sizeof(ind) > VHOST_RING_MAX || !table ||
        n != ind.len) {
        vhost_ring_broken(r, "indirect table of %u bytes", ind.len);
        return false;
    }
    return chain(b, table, ind.len / sizeof(ind), 0, NULL);
}

static bool pop(struct vhost_ring *r, struct vhost_buf **out)
{
    uint16_t idx = load16(&ring_avail(r)->idx), head;
    struct vhost_buf *b;

    *out = NULL;
    if (idx == r->avail_idx)
        return false;
    head = __atomic_load_n(&ring_avail(r)->ring[r->avail_idx % r->size], __ATOMIC_RELAXED);
    if ((uint16_t)(idx - r->avail_idx) > r->size || head >= r->size || r->in_flight >= r->size) {
        vhost_ring_broken(r, "available index %u after %u, head %u", idx, r->avail_idx, head);
        return false;
    }
    b = g_new0(struct vhost_buf, 1);
    b->ring = r;
    b->memory = vhost_memory_ref(r->x->memory);
    b->head = head;
    if (!gather(b)) {
        buf_free(b);
        return false;
    }
    r->avail_idx++;
    *out = b;
    return true;
}

/* ---- running */

static bool running(const struct vhost_ring *r)
{
    return r->desc && r->enabled && !r->broken && !r->x->ending;
}

/* The driver's next kick is wanted once all that is there has been seen (2.7.10). */
static void want_kick(struct vhost_ring *r)
{
    if (vhost_has(r->x, VHOST_F_EVENT_IDX))
        store16((uint16_t *)&ring_used(r)->ring[r->size], r->avail_idx);
    atomic_thread_fence(memory_order_seq_cst);
}

static void run_posted(void *arg)
{
    struct vhost_ring *r = arg;

    r->posted = false;
    vhost_ring_run(r);
    vhost_user_idle(r->x);
}

void vhost_ring_run(struct vhost_ring *r)
{
    unsigned left = SHARE;
    struct vhost_buf *b;

    while (running(r) && left) {
        if (!pop(r, &b)) {
            if (!running(r))
                return;
            want_kick(r);
            if (load16(&ring_avail(r)->idx) == r->avail_idx)
                return;
            left--;             /* one came meanwhile */
            continue;
        }
        left--;
        r->in_flight++;
        r->x->in_flight++;
        if (!vhost_blk_request(r->x, b)) {
            vhost_ring_broken(r, "a request without header or status");
            r->in_flight--;
            r->x->in_flight--;
            buf_free(b);
        }
    }
    if (!left && !r->posted) {                  /* others on this loop first */
        r->posted = true;
        loop_post(r->x->e.loop, run_posted, r);
    }
}

static bool wants_call(struct vhost_ring *r, uint16_t added)
{
    uint16_t event;

    if (!vhost_has(r->x, VHOST_F_EVENT_IDX))
        return !(load16(&ring_avail(r)->flags) & AVAIL_NO_INTERRUPT);
    event = load16(&ring_avail(r)->ring[r->size]);
    return (uint16_t)(r->used_idx - event - 1) < added;
}

/* Completions of one turn of the loop make one call. */
static void notify_posted(void *arg)
{
    struct vhost_ring *r = arg;
    uint16_t added = r->unsignalled;

    r->notify_posted = false;
    r->unsignalled = 0;
    if (added && r->desc && !r->broken) {
        atomic_thread_fence(memory_order_seq_cst);
        if (wants_call(r, added))
            fd_signal(r->call);
    }
    vhost_user_idle(r->x);
}

void vhost_ring_push(struct vhost_buf *b, uint32_t written)
{
    struct vhost_ring *r = b->ring;

    if (r->desc && !r->broken) {
        ring_used(r)->ring[r->used_idx % r->size] = (struct used_elem){ b->head, written };
        store16(&ring_used(r)->idx, ++r->used_idx);
        r->unsignalled++;
    }
    r->in_flight--;
    r->x->in_flight--;
    buf_free(b);
    if (!r->notify_posted) {
        r->notify_posted = true;
        loop_post(r->x->e.loop, notify_posted, r);
    }
}
