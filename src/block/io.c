/* Requests on nodes, in coroutines: limits, alignment, read-modify-write, zeroes by hand where a driver has no better
 * way. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <glib.h>
#include "rhea/block/bitmap.h"
#include "block/graph.h"
#include "rhea/vm/vm.h"

enum { VECTOR_MAX = 1024, ZERO_CHUNK = 1 << 20, CHUNK_MAX = 1 << 30 };

static bool range_ok(uint64_t off, uint64_t bytes)
{
    return off <= INT64_MAX && bytes <= INT64_MAX - off;
}

void *node_buffer(struct block_node *n, uint64_t bytes)
{
    void *p = NULL;

    if (posix_memalign(&p, MAX(n->limits.mem_align, 4096), MAX(bytes, 1)))
        return NULL;
    return p;
}

static void atomic_max(_Atomic uint64_t *p, uint64_t v)
{
    uint64_t old = atomic_load_explicit(p, memory_order_relaxed);

    while (old < v && !atomic_compare_exchange_weak(p, &old, v))
        ;
}

static bool buffers_aligned(struct block_node *n, const struct iovec *iov, int niov)
{
    uint64_t bits = 0;

    if (n->limits.mem_align <= 1)
        return true;
    for (int i = 0; i < niov; i++)
        bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
    return !(bits & (MIN(n->limits.mem_align, n->limits.align) - 1)) &&
           !((uintptr_t)iov[0].iov_base & (n->limits.mem_align - 1));
}

static bool request_aligned(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    return !((off | bytes) & (n->limits.align - 1)) && niov <= VECTOR_MAX && buffers_aligned(n, iov, niov);
}

/* ---- hooks: jobs that take part in requests */

void node_hook(struct block_node *n, struct block_hook *h)
{
    h->next = n->hooks;
    n->hooks = h;
}

void node_unhook(struct block_node *n, struct block_hook *h)
{
    struct block_hook *first = n->hooks;

    if (first == h) {
        n->hooks = h->next;
        return;
    }
    while (first && first->next != h)
        first = first->next;
    if (first)
        first->next = h->next;
}

static int hooks_begin(struct block_node *n, const struct block_write *w)
{
    int ret = 0;

    for (struct block_hook *h = n->hooks; h; h = h->next) {
        ret = h->write_begin ? h->write_begin(h, w) : 0;
        for (struct block_hook *done = n->hooks; ret && done != h; done = done->next)
            if (done->write_end)
                done->write_end(done, w, ret);
        if (ret)
            break;
    }
    return ret;
}

static int hooks_end(struct block_node *n, const struct block_write *w, int ret)
{
    for (struct block_hook *h = n->hooks; h; h = h->next)
        if (h->write_end)
            ret = h->write_end(h, w, ret);
    return ret;
}

static bool hooked(const struct block_node *n, unsigned flags)
{
    return n->hooks && !(flags & BLOCK_UNCHANGED);
}

/* ---- reading */

/* Reads an aligned cover of the range into a buffer of our own. */
static int read_bounced(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    uint64_t align = n->limits.align, done = 0;
    int ret = 0;

    while (done < bytes && !ret) {
        uint64_t start = (off + done) & ~(align - 1), chunk = MIN(bytes - done, ZERO_CHUNK);
        uint64_t end = (off + done + chunk + align - 1) & ~(align - 1);
        g_autofree struct iovec *one = g_new(struct iovec, 1);
        void *buf = node_buffer(n, end - start);

        if (!buf)
            return -ENOMEM;
        *one = (struct iovec){ buf, end - start };
        ret = n->drv->preadv(n, start, end - start, one, 1);
        if (!ret)
            iov_write(iov, niov, done, (uint8_t *)buf + (off + done - start), chunk);
        free(buf);
        done += chunk;
    }
    return ret;
}

static int read_run(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);

static int read_split(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov,
                      uint64_t max)
{
    g_autofree struct iovec *part = g_new(struct iovec, niov);
    int ret = 0;

    for (uint64_t done = 0; done < bytes && !ret;) {
        uint64_t chunk = MIN(bytes - done, max);
        int k = iov_slice(part, iov, niov, done, chunk);

        ret = read_run(n, off + done, chunk, part, k);
        done += chunk;
    }
    return ret;
}

static int read_run(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    uint64_t size = n->size, max = n->limits.max_transfer ? n->limits.max_transfer : CHUNK_MAX;

    if (!range_ok(off, bytes))
        return -EIO;
    if (!bytes)
        return 0;
    if (off >= size) {
        iov_zero(iov, niov, 0, bytes);
        return 0;
    }
    if (bytes > max)
        return read_split(n, off, bytes, iov, niov, max);
    if (bytes > size - off && !n->drv->growable) {
        uint64_t inside = size - off;
        g_autofree struct iovec *part = g_new(struct iovec, niov);
        int k = iov_slice(part, iov, niov, 0, inside);

        iov_zero(iov, niov, inside, bytes - inside);
        return read_run(n, off, inside, part, k);
    }
    if (!request_aligned(n, off, bytes, iov, niov))
        return read_bounced(n, off, bytes, iov, niov);
    return n->drv->preadv(n, off, bytes, iov, niov);
}

int node_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    int ret;

    if (!n->hooks)
        return read_run(n, off, bytes, iov, niov);
    for (struct block_hook *h = n->hooks; h; h = h->next)
        if (h->read_begin)
            h->read_begin(h, off, bytes);
    ret = read_run(n, off, bytes, iov, niov);
    for (struct block_hook *h = n->hooks; h; h = h->next)
        if (h->read_end)
            h->read_end(h, off, bytes);
    return ret;
}

int node_pread(struct block_node *n, uint64_t off, void *buf, uint64_t bytes)
{
    struct iovec iov = { buf, bytes };

    return node_preadv(n, off, bytes, &iov, 1);
}

/* ---- writing */

/* The aligned cover of the range is read, changed, written; rmw is held for writing. */
static int write_bounced(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    uint64_t align = n->limits.align, done = 0;
    int ret = 0;

    while (done < bytes && !ret) {
        uint64_t start = (off + done) & ~(align - 1), chunk = MIN(bytes - done, ZERO_CHUNK);
        uint64_t end = (off + done + chunk + align - 1) & ~(align - 1);
        uint8_t *buf = node_buffer(n, end - start);
        struct iovec one = { buf, end - start };

        if (!buf)
            return -ENOMEM;
        if (start != off + done || end != off + done + chunk)
            ret = n->drv->preadv(n, start, end - start, &one, 1);
        if (!ret) {
            iov_read(iov, niov, done, buf + (off + done - start), chunk);
            ret = n->drv->pwritev(n, start, end - start, &one, 1);
        }
        free(buf);
        done += chunk;
    }
    return ret;
}

static int write_aligned(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    bool aligned = request_aligned(n, off, bytes, iov, niov);
    int ret;

    if (n->limits.align <= 1 && aligned)
        return n->drv->pwritev(n, off, bytes, iov, niov);
    if (aligned) {
        co_rwlock_rdlock(&n->rmw);
        ret = n->drv->pwritev(n, off, bytes, iov, niov);
    } else {
        co_rwlock_wrlock(&n->rmw);
        ret = write_bounced(n, off, bytes, iov, niov);
    }
    co_rwlock_unlock(&n->rmw);
    return ret;
}

static bool vector_is_zero(const struct iovec *iov, int niov)
{
    for (int i = 0; i < niov; i++)
        if (!buffer_is_zero(iov[i].iov_base, iov[i].iov_len))
            return false;
    return true;
}

static int write_run(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags);
static int zeroes_run(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags);

static int write_split(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov,
                       unsigned flags, uint64_t max)
{
    g_autofree struct iovec *part = g_new(struct iovec, niov);
    int ret = 0;

    for (uint64_t done = 0; done < bytes && !ret;) {
        uint64_t chunk = MIN(bytes - done, max);
        int k = iov_slice(part, iov, niov, done, chunk);

        ret = write_run(n, off + done, chunk, part, k, flags);
        done += chunk;
    }
    return ret;
}

/* A write that failed may have changed some of its range. */
static int write_done(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags, int ret)
{
    uint64_t end = off + bytes;

    if (n->bitmaps && !(flags & BLOCK_UNCHANGED))
        bitmaps_note(n, off, bytes);
    if (ret)
        return ret;
    atomic_max(&n->wr_highest, end);
    if (n->drv->growable)
        atomic_max(&n->size, end);
    return flags & BLOCK_FUA ? node_flush(n) : 0;
}

static void threshold_event(struct block_node *n, uint64_t threshold, uint64_t end)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "node-name", json_object_new_string(n->name));
    json_object_object_add(o, "amount-exceeded", json_object_new_uint64(end - threshold));
    json_object_object_add(o, "write-threshold", json_object_new_uint64(threshold));
    vm_event(n->graph->vm, "BLOCK_WRITE_THRESHOLD", o);
}

/* Told once, at the first write beyond it. */
static void threshold_check(struct block_node *n, uint64_t end)
{
    uint64_t threshold = atomic_load_explicit(&n->write_threshold, memory_order_relaxed);

    if (threshold && end > threshold && n->graph->vm && atomic_compare_exchange_strong(&n->write_threshold, &threshold, 0))
        threshold_event(n, threshold, end);
}

static int write_run(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    uint64_t max = n->limits.max_transfer ? n->limits.max_transfer : CHUNK_MAX;
    int ret;

    if (n->read_only)
        return -EPERM;
    if (!range_ok(off, bytes) || (!n->drv->growable && off + bytes > n->size))
        return -EIO;
    if (!bytes)
        return 0;
    if (bytes > max)
        return write_split(n, off, bytes, iov, niov, flags, max);
    if (n->detect_zeroes && vector_is_zero(iov, niov))
        return zeroes_run(n, off, bytes, flags | (n->detect_zeroes == DETECT_ZEROES_UNMAP ? BLOCK_MAY_UNMAP : 0));
    threshold_check(n, off + bytes);
    ret = write_aligned(n, off, bytes, iov, niov);
    return write_done(n, off, bytes, flags, ret);
}

int node_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    const struct block_write w = { .kind = WRITE_DATA, .off = off, .bytes = bytes, .iov = iov, .niov = niov, .flags = flags };
    int ret;

    if (!hooked(n, flags))
        return write_run(n, off, bytes, iov, niov, flags);
    ret = hooks_begin(n, &w);
    return ret ? ret : hooks_end(n, &w, write_run(n, off, bytes, iov, niov, flags));
}

int node_pwrite(struct block_node *n, uint64_t off, const void *buf, uint64_t bytes)
{
    struct iovec iov = { (void *)buf, bytes };

    return node_pwritev(n, off, bytes, &iov, 1, 0);
}

static int compressed_run(struct block_node *n, uint64_t off, const void *buf, uint64_t bytes)
{
    if (!n->drv->pwrite_compressed)
        return -ENOTSUP;
    if (n->read_only)
        return -EPERM;
    if (!range_ok(off, bytes) || off + bytes > n->size)
        return -EIO;
    return write_done(n, off, bytes, 0, n->drv->pwrite_compressed(n, off, buf, bytes));
}

int node_pwrite_compressed(struct block_node *n, uint64_t off, const void *buf, uint64_t bytes)
{
    const struct iovec iov = { (void *)buf, bytes };
    const struct block_write w = { .kind = WRITE_DATA, .off = off, .bytes = bytes, .iov = &iov, .niov = 1 };
    int ret = hooks_begin(n, &w);

    return ret ? ret : hooks_end(n, &w, compressed_run(n, off, buf, bytes));
}

int node_flush(struct block_node *n)
{
    int ret = 0;

    if (n->drv->flush_cache)
        ret = n->drv->flush_cache(n);
    if (ret || n->no_flush)
        return ret;
    if (n->drv->flush)
        return n->drv->flush(n);
    return n->file ? node_flush(n->file) : 0;
}

/* ---- discard, zeroes */

static int discard_run(struct block_node *n, uint64_t off, uint64_t bytes)
{
    uint64_t unit = n->limits.discard_align, start = off, end = off + bytes;
    int ret;

    if (n->read_only)
        return -EPERM;
    if (!range_ok(off, bytes) || (!n->drv->growable && end > n->size))
        return -EIO;
    if (!n->discard || !n->drv->discard)
        return 0;                               /* a hint, and nobody wants it */
    start = (start + unit - 1) / unit * unit;
    if (end < n->size)
        end = end / unit * unit;
    if (start >= end)
        return 0;
    ret = n->drv->discard(n, start, end - start);
    if (n->bitmaps)
        bitmaps_note(n, start, end - start);
    return ret == -ENOTSUP ? 0 : ret;
}

int node_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    const struct block_write w = { .kind = WRITE_DISCARD, .off = off, .bytes = bytes };
    int ret;

    if (!n->hooks)
        return discard_run(n, off, bytes);
    ret = hooks_begin(n, &w);
    return ret ? ret : hooks_end(n, &w, discard_run(n, off, bytes));
}

static int zeroes_by_hand(struct block_node *n, uint64_t off, uint64_t bytes)
{
    uint64_t chunk = MIN(bytes, ZERO_CHUNK);
    void *buf = node_buffer(n, chunk);
    int ret = 0;

    if (!buf)
        return -ENOMEM;
    memset(buf, 0, chunk);
    for (uint64_t done = 0; done < bytes && !ret; done += chunk) {
        struct iovec iov = { buf, MIN(chunk, bytes - done) };

        ret = write_aligned(n, off + done, iov.iov_len, &iov, 1);
    }
    free(buf);
    return ret;
}

static int zeroes_run(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    uint64_t align = n->limits.align, head, tail;
    int ret = -ENOTSUP;

    if (n->read_only)
        return -EPERM;
    if (!range_ok(off, bytes) || (!n->drv->growable && off + bytes > n->size))
        return -EIO;
    if (!bytes)
        return 0;
    if (!n->discard)
        flags &= ~BLOCK_MAY_UNMAP;
    head = MIN(bytes, -off & (align - 1));
    tail = head < bytes ? (off + bytes) & (align - 1) : 0;
    if (n->drv->write_zeroes && bytes > head + tail) {
        ret = n->drv->write_zeroes(n, off + head, bytes - head - tail, flags);
        if (!ret && head)
            ret = zeroes_by_hand(n, off, head);
        if (!ret && tail)
            ret = zeroes_by_hand(n, off + bytes - tail, tail);
    }
    if (ret == -ENOTSUP && !(flags & BLOCK_NO_FALLBACK))
        ret = zeroes_by_hand(n, off, bytes);
    return write_done(n, off, bytes, flags, ret);
}

/* The node of a protocol that has the bytes, *off adjusted; NULL: no one node has. */
static struct block_node *node_where(struct block_node *n, bool write, uint64_t *off, uint64_t bytes)
{
    struct block_fast f = { .write = write, .offset = *off, .bytes = bytes };

    while (n && n->drv->kind != DRIVER_PROTOCOL) {
        n = n->drv->map_fast ? n->drv->map_fast(n, &f) : NULL;
        if (f.end)                              /* the range is still the caller's: nobody else uses the node */
            f.end(f.end_arg);
        f.end = NULL;
    }
    *off = f.offset;
    return n;
}

int node_copy_range(struct block_node *n, uint64_t off, struct block_node *from, uint64_t from_off, uint64_t bytes)
{
    if (off > n->size || bytes > n->size - off || from_off > from->size || bytes > from->size - from_off || n->read_only)
        return -EINVAL;
    n = node_where(n, true, &off, bytes);
    from = node_where(from, false, &from_off, bytes);
    if (!n || !from || n->drv != from->drv || !n->drv->copy_range)
        return -ENOTSUP;
    return n->drv->copy_range(n, off, from, from_off, bytes);
}

int node_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    const struct block_write w = { .kind = WRITE_ZEROES, .off = off, .bytes = bytes, .flags = flags };
    int ret;

    if (!hooked(n, flags))
        return zeroes_run(n, off, bytes, flags);
    ret = hooks_begin(n, &w);
    return ret ? ret : hooks_end(n, &w, zeroes_run(n, off, bytes, flags));
}

/* ---- status */

int node_block_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                      struct block_node **file)
{
    int ret;

    *map = off;
    *file = NULL;
    *n_bytes = bytes;
    if (off >= n->size)
        return STATUS_ZERO | STATUS_ALLOCATED;
    bytes = *n_bytes = MIN(bytes, n->size - off);
    if (!n->drv->block_status)
        return STATUS_DATA | STATUS_ALLOCATED;
    ret = n->drv->block_status(n, off, bytes, n_bytes, map, file);
    if (ret >= 0 && !*n_bytes)
        return -EIO;
    return ret;
}

/* A format's data may be a hole of its file. */
static int status_refine(int status, uint64_t *n_bytes, uint64_t *map, struct block_node **file)
{
    struct block_node *f = *file, *unused;
    uint64_t len, there;
    int below;

    if (!(status & STATUS_DATA) || !(status & STATUS_OFFSET) || !f || f->drv->kind != DRIVER_PROTOCOL)
        return status;
    below = node_block_status(f, *map, *n_bytes, &len, &there, &unused);
    if (below >= 0 && (below & STATUS_ZERO) && !(below & STATUS_DATA)) {
        *n_bytes = len;
        return status | STATUS_ZERO;
    }
    if (below >= 0)
        *n_bytes = MIN(*n_bytes, len);
    return status;
}

int node_status_above(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                      struct block_node **file, int *depth, bool holes)
{
    int ret;

    *depth = 0;
    for (;; n = n->backing, (*depth)++) {
        bool past_end = off >= n->size;

        ret = node_block_status(n, off, bytes, n_bytes, map, file);
        if (ret < 0)
            return ret;
        if (past_end && *depth) {               /* beyond a short backing image: the one above shows zeroes */
            --*depth;
            return STATUS_ZERO;
        }
        if (ret & STATUS_ALLOCATED)
            return holes ? status_refine(ret, n_bytes, map, file) : ret;
        if (!n->backing)
            return STATUS_ZERO;
        bytes = *n_bytes;
    }
}

int node_truncate(struct block_node *n, uint64_t size, struct error *err)
{
    int ret;

    if (n->read_only || !n->drv->truncate || size > INT64_MAX) {
        error_setf(err, ERR_GENERIC, n->read_only ? "open it for writing" : "raw and qcow2 can: rhea-img convert makes such an image",
                   "'%s' cannot be resized", n->filename);
        return -ENOTSUP;
    }
    ret = n->drv->truncate(n, size, err);
    if (!ret) {
        n->size = size;
        bitmaps_resize(n, size);
    } else if (err && !error_is_set(err)) {
        error_set_errno(err, -ret, NULL, "'%s' cannot be resized", n->filename);
    }
    return ret;
}

bool node_preallocate(struct block_node *n, uint64_t from, const char *mode, struct error *err)
{
    enum { PIECE = 2 << 20 };
    struct block_node *file = n->file ? n->file : n;
    bool full = !strcmp(mode, "full");
    g_autofree uint8_t *zero = NULL;
    int ret;

    if (n->drv->preallocate_mode)
        return n->drv->preallocate_mode(n, from, mode, err);
    if (!strcmp(mode, "off"))
        return true;
    if (strcmp(mode, "falloc") && !full)
        return error_setf(err, ERR_GENERIC, "it is off, falloc or full", "no preallocation '%s' for format '%s'", mode, n->drv->name);
    ret = file->drv->preallocate ? file->drv->preallocate(file, from, n->size - from) : -ENOTSUP;
    zero = g_malloc0(PIECE);
    for (uint64_t off = from; off < n->size && !ret && full; off += PIECE)
        ret = node_pwrite(n, off, zero, MIN(PIECE, n->size - off));
    return !ret || error_set_errno(err, -ret, NULL, "the image was resized, but cannot be preallocated");
}
