/* qcow2: from guest offsets to host clusters; reading, writing, zeroing, discarding. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/format/qcow2.h"

enum { ALLOC_BYTES_MAX = 64 << 20 };

/* ---- L2 entries */

enum qcow2_kind qcow2_kind(const struct qcow2 *q, uint64_t entry)
{
    uint64_t offset = entry & QCOW2_OFFSET_MASK;

    if (entry & QCOW2_COMPRESSED)
        return QCOW2_COMPRESS;
    if (offset & (q->cluster_size - 1))
        return QCOW2_BAD;
    if (entry & QCOW2_ZERO) {
        if (q->version < 3)
            return QCOW2_BAD;
        return offset ? QCOW2_ZERO_ALLOC : QCOW2_ZERO_PLAIN;
    }
    return offset ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
}

void qcow2_compressed_range(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *bytes)
{
    unsigned shift = 62 - (q->cluster_bits - 8);
    uint64_t sectors = ((entry >> shift) & ((1ull << (q->cluster_bits - 8)) - 1)) + 1;

    *offset = entry & ((1ull << shift) - 1);
    *bytes = sectors * 512 - (*offset & 511);
}

/* The slice of the L2 table that covers guest offset `off`, pinned; *out NULL: no table there. q->lock is held, and
 * may be let go for a while. */
int qcow2_l2_get(struct qcow2 *q, uint64_t off, struct meta_entry **out)
{
    uint64_t l1_index = off >> (q->cluster_bits + q->l2_bits), table, entry;
    uint64_t l2_index = (off >> q->cluster_bits) & ((1ull << q->l2_bits) - 1);
    int ret;

    for (;;) {
        *out = NULL;
        if (l1_index >= q->l1_size)
            return 0;
        entry = q->l1[l1_index];
        table = entry & QCOW2_OFFSET_MASK;
        if (!table)
            return 0;
        if (table & (q->cluster_size - 1)) {
            qcow2_set_corrupt(q, "L2 table %#" PRIx64 " is not aligned", table);
            return -EIO;
        }
        ret = meta_get(q, &q->l2, table + l2_index / qcow2_slice_entries(q) * q->l2.slice, false, out);
        if (ret)
            return ret;
        if (q->l1[l1_index] == entry)
            return 0;
        meta_put(*out);         /* the table moved meanwhile */
    }
}

/* How many of the entries from i on, at most n, are of this kind and (where they have one) in a row on the host. */
static unsigned l2_run(const struct qcow2 *q, const struct meta_entry *e, unsigned i, unsigned n)
{
    uint64_t first = l2_load(e, i), step = 0,
             mask = QCOW2_OFFSET_MASK | QCOW2_COPIED | QCOW2_ZERO | QCOW2_COMPRESSED;
    unsigned k;

    if (qcow2_kind(q, first) == QCOW2_NORMAL)
        step = q->cluster_size;
    else if (qcow2_kind(q, first) == QCOW2_COMPRESS)
        return 1;
    else if (qcow2_kind(q, first) == QCOW2_ZERO_ALLOC) {
        for (k = 1; k < n && qcow2_kind(q, l2_load(e, i + k)) == QCOW2_ZERO_ALLOC; k++)
            ;
        return k;
    }
    for (k = 1; k < n && (l2_load(e, i + k) & mask) == (first & mask) + k * step; k++)
        ;
    return k;
}

/* Guest bytes from off to the end of its slice. */
static uint64_t slice_rest(const struct qcow2 *q, uint64_t off)
{
    uint64_t span = (uint64_t)qcow2_slice_entries(q) << q->cluster_bits;

    return span - (off & (span - 1));
}

static bool host_in_file(const struct qcow2 *q, uint64_t host, uint64_t bytes)
{
    return host + bytes <= ((q->file->size + q->cluster_size - 1) & ~(q->cluster_size - 1));
}

/* ---- reading */

struct mapping { enum qcow2_kind kind; uint64_t entry, host, bytes; unsigned epoch; };

/* What lies at off: the run that one request may take, at most m->bytes. An epoch is begun. */
static int map_read(struct qcow2 *q, uint64_t off, struct mapping *m)
{
    uint64_t in = off & (q->cluster_size - 1);
    struct meta_entry *e;
    unsigned i, run;
    int ret;

    co_mutex_lock(&q->lock);
    ret = qcow2_l2_get(q, off, &e);
    if (ret) {
        co_mutex_unlock(&q->lock);
        return ret;
    }
    m->kind = QCOW2_UNALLOCATED;
    m->entry = 0;
    if (!e) {
        uint64_t span = 1ull << (q->cluster_bits + q->l2_bits);

        m->bytes = MIN(m->bytes, span - (off & (span - 1)));
    } else {
        i = qcow2_slice_index(q, off);
        m->entry = l2_load(e, i);
        m->kind = qcow2_kind(q, m->entry);
        m->bytes = MIN(m->bytes, slice_rest(q, off));
        run = l2_run(q, e, i, clusters_of(q, in + m->bytes));
        m->bytes = MIN(m->bytes, ((uint64_t)run << q->cluster_bits) - in);
        m->host = (m->entry & QCOW2_OFFSET_MASK) + in;
        meta_put(e);
    }
    if (m->kind == QCOW2_BAD) {
        qcow2_set_corrupt(q, "L2 entry %#" PRIx64 " at guest offset %#" PRIx64, m->entry, off);
        ret = -EIO;
    } else {
        m->epoch = qcow2_epoch_begin(q);
    }
    co_mutex_unlock(&q->lock);
    return ret;
}

/* The cluster at `entry`, inflated; the last one is kept, as guests read it piece by piece. */
static int read_compressed(struct qcow2 *q, uint64_t entry, uint64_t in, uint64_t bytes, const struct iovec *iov,
                           int niov)
{
    uint64_t offset, len;
    uint8_t *raw, *cluster;
    int ret;

    co_mutex_lock(&q->lock);
    if (q->inflated_entry == entry) {
        iov_write(iov, niov, 0, q->inflated + in, bytes);
        co_mutex_unlock(&q->lock);
        return 0;
    }
    co_mutex_unlock(&q->lock);
    qcow2_compressed_range(q, entry, &offset, &len);
    if (offset >= q->file->size)
        return -EIO;
    raw = node_buffer(q->file, len);
    cluster = node_buffer(q->file, q->cluster_size);
    ret = raw && cluster ? node_pread(q->file, offset, raw, len) : -ENOMEM;
    if (!ret)
        ret = qcow2_inflate(q, raw, len, cluster);
    if (!ret) {
        iov_write(iov, niov, 0, cluster + in, bytes);
        co_mutex_lock(&q->lock);
        q->inflated_entry = entry;
        free(q->inflated);
        q->inflated = g_steal_pointer(&cluster);
        co_mutex_unlock(&q->lock);
    }
    free(raw);
    free(cluster);
    return ret;
}

static int read_mapped(struct qcow2 *q, const struct mapping *m, uint64_t off, const struct iovec *iov, int niov)
{
    struct block_node *backing = q->node->backing;

    switch (m->kind) {
    case QCOW2_NORMAL:
        return node_preadv(q->file, m->host, m->bytes, iov, niov);
    case QCOW2_COMPRESS:
        return read_compressed(q, m->entry, off & (q->cluster_size - 1), m->bytes, iov, niov);
    case QCOW2_UNALLOCATED:
        if (backing)
            return node_preadv(backing, off, m->bytes, iov, niov);
        /* fall through */
    default:
        iov_zero(iov, niov, 0, m->bytes);
        return 0;
    }
}

int qcow2_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct qcow2 *q = n->state;
    g_autofree struct iovec *part = NULL;

    for (uint64_t done = 0; done < bytes;) {
        struct mapping m = { .bytes = bytes - done };
        const struct iovec *v = iov;
        int ret = map_read(q, off + done, &m), nv = niov;

        if (ret)
            return ret;
        if (m.bytes != bytes) {
            part = part ? part : g_new(struct iovec, niov);
            nv = iov_slice(part, iov, niov, done, m.bytes);
            v = part;
        }
        ret = read_mapped(q, &m, off + done, v, nv);
        qcow2_epoch_end(&q->epochs[m.epoch]);
        if (ret)
            return ret;
        done += m.bytes;
    }
    return 0;
}

/* A request for one allocated run needs no coroutine. The lock is only tried: nothing may wait here. */
struct block_node *qcow2_map_fast(struct block_node *n, struct block_fast *f)
{
    struct qcow2 *q = n->state;
    uint64_t in = f->offset & (q->cluster_size - 1), l1_index = f->offset >> (q->cluster_bits + q->l2_bits),
             table, entry;
    uint64_t l2_index = (f->offset >> q->cluster_bits) & ((1ull << q->l2_bits) - 1);
    struct block_node *to = NULL;
    struct meta_entry *e = NULL;
    unsigned i;

    if (f->end || f->bytes > slice_rest(q, f->offset) || !co_mutex_trylock(&q->lock))
        return NULL;
    table = l1_index < q->l1_size ? q->l1[l1_index] & QCOW2_OFFSET_MASK : 0;
    if (table && !(table & (q->cluster_size - 1)))
        e = meta_find(&q->l2, table + l2_index / qcow2_slice_entries(q) * q->l2.slice);
    if (e && !e->loading) {
        i = qcow2_slice_index(q, f->offset);
        entry = l2_load(e, i);
        if (qcow2_kind(q, entry) == QCOW2_NORMAL &&
            l2_run(q, e, i, clusters_of(q, in + f->bytes)) == clusters_of(q, in + f->bytes)) {
            uint64_t host = (entry & QCOW2_OFFSET_MASK) + in;

            if (!f->write || ((entry & QCOW2_COPIED) && !q->corrupt && host_in_file(q, host, f->bytes) &&
                              !qcow2_overlaps_metadata(q, host, f->bytes))) {
                f->offset = host;
                f->end = qcow2_epoch_end;
                f->end_arg = &q->epochs[qcow2_epoch_begin(q)];
                to = q->file;
            }
        } else if (qcow2_kind(q, entry) == QCOW2_UNALLOCATED && !f->write && n->backing &&
                   f->offset + f->bytes <= n->backing->size &&
                   l2_run(q, e, i, clusters_of(q, in + f->bytes)) == clusters_of(q, in + f->bytes)) {
            to = n->backing;
        }
    } else if (!table && !f->write && n->backing && f->offset + f->bytes <= n->backing->size) {
        to = n->backing;
    }
    co_mutex_unlock(&q->lock);
    return to;
}

/* ---- L2 tables */

struct qcow2_alloc *qcow2_alloc_find(struct qcow2 *q, uint64_t start, uint64_t end)
{
    for (struct qcow2_alloc *a = q->allocs; a; a = a->next)
        if (a->start < end && start < a->end)
            return a;
    return NULL;
}

static void l1_set(struct qcow2 *q, uint64_t index, uint64_t entry)
{
    q->l1[index] = entry;
    q->l1_dirty_from = MIN(q->l1_dirty_from, index);
    q->l1_dirty_to = MAX(q->l1_dirty_to, index + 1);
}

/* A table of our own for L1 entry `index`: a new one, or a copy of one that a snapshot shares. It is written whole
 * before anything can refer to it; rare, so the lock is kept. */
static int l2_table_new(struct qcow2 *q, uint64_t index)
{
    uint64_t old = q->l1[index] & QCOW2_OFFSET_MASK, offset;
    void *table = node_buffer(q->file, q->cluster_size);
    bool fresh;
    int ret = table ? qcow2_alloc_clusters(q, 1, &offset) : -ENOMEM;

    if (ret) {
        free(table);
        return ret;
    }
    fresh = q->file->zero_past_end && offset >= q->fresh_start;
    q->fresh_start = MAX(q->fresh_start, offset + q->cluster_size);
    memset(table, 0, q->cluster_size);
    if (old)
        ret = node_pread(q->file, old, table, q->cluster_size);     /* shared tables are never dirty here */
    if (!ret && (old || !fresh))
        ret = node_pwrite(q->file, offset, table, q->cluster_size);
    free(table);
    if (ret) {
        qcow2_refcount_add(q, offset, 1, -1);
        return ret;
    }
    meta_drop(&q->l2, offset, q->cluster_size);
    l1_set(q, index, offset | QCOW2_COPIED);
    if (old)
        qcow2_free_later(q, old);
    return 0;
}

/* As qcow2_l2_get(), making the table that may be written. */
int qcow2_l2_writable(struct qcow2 *q, uint64_t off, struct meta_entry **out)
{
    uint64_t l1_index = off >> (q->cluster_bits + q->l2_bits);
    int ret;

    if (l1_index >= q->l1_size)
        return -EIO;
    for (;;) {
        if (!(q->l1[l1_index] & QCOW2_COPIED) || !(q->l1[l1_index] & QCOW2_OFFSET_MASK)) {
            ret = l2_table_new(q, l1_index);
            if (ret)
                return ret;
        }
        ret = qcow2_l2_get(q, off, out);
        if (ret)
            return ret;
        if (q->corrupt || qcow2_overlaps_metadata(q, (*out)->offset, q->l2.slice)) {
            meta_put(*out);
            qcow2_set_corrupt(q, "an L2 table lies over the image's other tables");
            return -EIO;
        }
        if (q->l1[l1_index] & QCOW2_COPIED)
            return 0;
        meta_put(*out);
    }
}

/* ---- writing */

struct write_step {
    uint64_t off, bytes;        /* of the guest; bytes is cut to what this step does */
    const struct iovec *iov;
    int niov;
};

static int write_in_place(struct qcow2 *q, struct write_step *s, uint64_t host, unsigned epoch)
{
    int ret = node_pwritev(q->file, host, s->bytes, s->iov, s->niov, 0);

    qcow2_epoch_end(&q->epochs[epoch]);
    return ret;
}

static bool needs_alloc(const struct qcow2 *q, uint64_t entry)
{
    return !(entry & QCOW2_COPIED) || qcow2_kind(q, entry) != QCOW2_NORMAL;
}

/* How many clusters from entry i on one allocation may take. */
static unsigned alloc_run(struct qcow2 *q, struct meta_entry *e, unsigned i, uint64_t start, unsigned max)
{
    uint64_t first = l2_load(e, i);
    unsigned n = 1;

    if (qcow2_kind(q, first) == QCOW2_ZERO_ALLOC && (first & QCOW2_COPIED))
        return 1;               /* its own cluster is used */
    max = MIN(max, ALLOC_BYTES_MAX >> q->cluster_bits);
    while (n < max && needs_alloc(q, l2_load(e, i + n)) &&
           !(qcow2_kind(q, l2_load(e, i + n)) == QCOW2_ZERO_ALLOC && (l2_load(e, i + n) & QCOW2_COPIED)) &&
           !qcow2_alloc_find(q, start + n * q->cluster_size, start + (n + 1) * q->cluster_size))
        n++;
    return n;
}

/* Whether a cluster that is not in place yet reads as zero. */
static bool reads_zero(const struct qcow2 *q, uint64_t entry, uint64_t guest)
{
    switch (qcow2_kind(q, entry)) {
    case QCOW2_ZERO_PLAIN:
    case QCOW2_ZERO_ALLOC: return true;
    case QCOW2_UNALLOCATED: return !q->node->backing || guest >= q->node->backing->size;
    default: return false;
    }
}

struct cow {
    uint64_t start, head, tail_at, tail;        /* guest; bytes before and after the data, in its clusters */
    bool head_zero, tail_zero;
    uint64_t host;
    bool fresh;                 /* the clusters read as zero before they are written */
};

static int cow_fill(struct qcow2 *q, uint64_t guest, uint64_t bytes, bool zero, void *buf)
{
    struct iovec iov = { buf, bytes };

    if (!bytes)
        return 0;
    memset(buf, 0, bytes);
    if (zero || guest >= q->node->size)
        return 0;
    iov.iov_len = MIN(bytes, q->node->size - guest);
    return qcow2_preadv(q->node, guest, iov.iov_len, &iov, 1);
}

/* New clusters are written: what was in them before the guest's data and after it is copied, in one write. */
static int cow_write(struct qcow2 *q, struct cow *c, struct write_step *s)
{
    uint8_t *buf = NULL;
    struct iovec *iov;
    int n = 0, ret;

    if (c->fresh && (!c->head || c->head_zero) && (!c->tail || c->tail_zero))
        c->start += c->head, c->host += c->head, c->head = c->tail = 0;
    if (!c->head && !c->tail)
        return node_pwritev(q->file, c->host, s->bytes, s->iov, s->niov, 0);
    buf = node_buffer(q->file, c->head + c->tail);
    if (!buf)
        return -ENOMEM;
    iov = g_new(struct iovec, s->niov + 2);
    ret = cow_fill(q, c->start, c->head, c->head_zero, buf);
    if (!ret)
        ret = cow_fill(q, c->tail_at, c->tail, c->tail_zero, buf + c->head);
    if (c->head)
        iov[n++] = (struct iovec){ buf, c->head };
    memcpy(&iov[n], s->iov, s->niov * sizeof(iov[0]));
    n += s->niov;
    if (c->tail)
        iov[n++] = (struct iovec){ buf + c->head, c->tail };
    if (!ret)
        ret = node_pwritev(q->file, c->host, c->head + s->bytes + c->tail, iov, n, 0);
    g_free(iov);
    free(buf);
    return ret;
}

/* The L2 entries of clusters that are written now. */
static int alloc_link(struct qcow2 *q, struct qcow2_alloc *a, uint64_t host)
{
    struct meta_entry *e;
    unsigned i, n = (a->end - a->start) >> q->cluster_bits;
    int ret = qcow2_l2_writable(q, a->start, &e);

    if (ret)
        return ret;
    i = qcow2_slice_index(q, a->start);
    for (unsigned k = 0; k < n; k++) {
        uint64_t old = l2_load(e, i + k), entry = (host + k * q->cluster_size) | QCOW2_COPIED;

        if ((old & QCOW2_OFFSET_MASK) != (entry & QCOW2_OFFSET_MASK) || (old & QCOW2_COMPRESSED))
            qcow2_free_entry_later(q, old);
        ((uint64_t *)e->data)[i + k] = GUINT64_TO_BE(entry);
    }
    meta_dirty(&q->l2, e, i * 8, n * 8);
    meta_put(e);
    return 0;
}

static void alloc_begin(struct qcow2 *q, struct qcow2_alloc *a, uint64_t start, uint64_t end)
{
    a->start = start;
    a->end = end;
    co_queue_init(&a->waiters);
    a->next = q->allocs;
    q->allocs = a;
}

static void alloc_end(struct qcow2 *q, struct qcow2_alloc *a)
{
    struct qcow2_alloc **p = &q->allocs;

    while (*p != a)
        p = &(*p)->next;
    *p = a->next;
    co_queue_wake_all(&a->waiters);
}

/* Clusters from entry i of e on get a place, the data, and their L2 entries. Called with the lock held and e pinned;
 * returns with neither. */
static int write_allocating(struct qcow2 *q, struct write_step *s, struct meta_entry *e, unsigned i, struct iovec *part)
{
    uint64_t cs = q->cluster_size, start = s->off & ~(cs - 1), first = l2_load(e, i), last, host;
    uint64_t n = alloc_run(q, e, i, start, clusters_of(q, s->off + s->bytes - start));
    bool reuse = qcow2_kind(q, first) == QCOW2_ZERO_ALLOC && (first & QCOW2_COPIED);
    struct cow c = { .start = start, .host = first & QCOW2_OFFSET_MASK, .head = s->off - start };
    struct qcow2_alloc a;
    int ret = 0;

    if (reuse && (qcow2_overlaps_metadata(q, c.host, cs) || !host_in_file(q, c.host, cs))) {
        qcow2_set_corrupt(q, "a cluster lies over the image's tables");
        ret = -EIO;
    } else if (!reuse) {
        ret = qcow2_alloc_some(q, &n, &c.host);
    }
    last = l2_load(e, i + n - 1);
    meta_put(e);
    if (ret) {
        co_mutex_unlock(&q->lock);
        return ret;
    }
    if (s->bytes > start + n * cs - s->off) {
        s->bytes = start + n * cs - s->off;
        s->niov = iov_slice(part, s->iov, s->niov, 0, s->bytes);
        s->iov = part;
    }
    c.tail_at = s->off + s->bytes;
    c.tail = start + n * cs - c.tail_at;
    c.head_zero = reads_zero(q, first, start);
    c.tail_zero = reads_zero(q, last, c.tail_at);
    c.fresh = !reuse && q->file->zero_past_end && c.host >= q->fresh_start;
    if (!reuse)
        q->fresh_start = MAX(q->fresh_start, c.host + n * cs);
    host = c.host;
    alloc_begin(q, &a, start, start + n * cs);
    co_mutex_unlock(&q->lock);

    ret = cow_write(q, &c, s);

    co_mutex_lock(&q->lock);
    if (!ret)
        ret = alloc_link(q, &a, host);
    if (ret && !reuse)
        qcow2_refcount_add(q, host, n, -1);
    alloc_end(q, &a);
    co_mutex_unlock(&q->lock);
    return ret ? ret : qcow2_throttle(q);
}

/* One piece of a request that started `done` bytes before; part: room for two vectors of the request's length. */
static int write_step(struct qcow2 *q, struct write_step *s, struct iovec *part, uint64_t done)
{
    uint64_t cs = q->cluster_size, in = s->off & (cs - 1), entry, host, asked = s->bytes;
    const struct iovec *iov = s->iov;
    struct qcow2_alloc *busy;
    struct meta_entry *e;
    unsigned i, run, epoch;
    int ret, niov = s->niov;

    s->bytes = MIN(s->bytes, slice_rest(q, s->off));
    co_mutex_lock(&q->lock);
    for (;;) {
        ret = qcow2_l2_writable(q, s->off, &e);
        if (ret) {
            co_mutex_unlock(&q->lock);
            return ret;
        }
        busy = qcow2_alloc_find(q, s->off & ~(cs - 1), (s->off & ~(cs - 1)) + cs);
        if (!busy)
            break;
        meta_put(e);
        co_queue_wait(&busy->waiters, &q->lock);
    }
    i = qcow2_slice_index(q, s->off);
    entry = l2_load(e, i);
    host = (entry & QCOW2_OFFSET_MASK) + in;
    if (qcow2_kind(q, entry) == QCOW2_BAD ||
        (!needs_alloc(q, entry) && qcow2_overlaps_metadata(q, host - in, cs))) {
        qcow2_set_corrupt(q, "L2 entry %#" PRIx64 " at guest offset %#" PRIx64, entry, s->off);
        meta_put(e);
        co_mutex_unlock(&q->lock);
        return -EIO;
    }
    if (done || s->bytes != asked) {
        s->niov = iov_slice(part, iov, niov, done, s->bytes);
        s->iov = part;
    }
    if (needs_alloc(q, entry))
        return write_allocating(q, s, e, i, part + niov);
    run = l2_run(q, e, i, clusters_of(q, in + s->bytes));
    asked = s->bytes;
    s->bytes = MIN(s->bytes, run * cs - in);
    if (!host_in_file(q, host - in, cs) || qcow2_overlaps_metadata(q, host, s->bytes)) {
        qcow2_set_corrupt(q, "a cluster lies outside of the file or over its tables");
        meta_put(e);
        co_mutex_unlock(&q->lock);
        return -EIO;
    }
    epoch = qcow2_epoch_begin(q);
    meta_put(e);
    co_mutex_unlock(&q->lock);
    if (s->bytes != asked) {
        s->niov = iov_slice(part + niov, s->iov, s->niov, 0, s->bytes);
        s->iov = part + niov;
    }
    return write_in_place(q, s, host, epoch);
}

int qcow2_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct qcow2 *q = n->state;
    g_autofree struct iovec *part = g_new(struct iovec, 2 * niov);

    if (q->corrupt)
        return -EIO;
    for (uint64_t done = 0; done < bytes;) {
        struct write_step s = { .off = off + done, .bytes = bytes - done, .iov = iov, .niov = niov };
        int ret = write_step(q, &s, part, done);

        if (ret)
            return ret;
        done += s.bytes;
    }
    return 0;
}

/* ---- zeroes and discard, on whole clusters */

/* What becomes of an entry. *host_goes: its clusters are freed. Same as before: nothing to do. */
static uint64_t zeroed_entry(const struct qcow2 *q, uint64_t entry, bool discard, bool unmap)
{
    bool backing = q->node->backing != NULL;

    switch (qcow2_kind(q, entry)) {
    case QCOW2_UNALLOCATED:
        return !discard && backing ? QCOW2_ZERO : entry;
    case QCOW2_ZERO_PLAIN:
        return entry;
    case QCOW2_ZERO_ALLOC:
        return discard || unmap ? QCOW2_ZERO : entry;
    case QCOW2_NORMAL:
        if (!discard && !unmap && (entry & QCOW2_COPIED) && q->version >= 3)
            return entry | QCOW2_ZERO;          /* keeps its place */
        /* fall through */
    default:
        return q->version >= 3 ? QCOW2_ZERO : 0;
    }
}

static int zero_slice(struct qcow2 *q, uint64_t off, uint64_t bytes, bool discard, bool unmap)
{
    unsigned n = bytes >> q->cluster_bits, i = qcow2_slice_index(q, off);
    struct qcow2_alloc *busy;
    struct meta_entry *e;
    int ret;

    co_mutex_lock(&q->lock);
    while ((busy = qcow2_alloc_find(q, off, off + bytes)))
        co_queue_wait(&busy->waiters, &q->lock);
    ret = qcow2_l2_get(q, off, &e);
    if (!ret && !e && (discard || !q->node->backing)) {
        co_mutex_unlock(&q->lock);              /* no table: nothing is there */
        return 0;
    }
    if (e)
        meta_put(e);
    if (!ret)
        ret = qcow2_l2_writable(q, off, &e);
    if (ret) {
        co_mutex_unlock(&q->lock);
        return ret;
    }
    busy = qcow2_alloc_find(q, off, off + bytes);       /* the lock may have been let go */
    for (unsigned k = 0; k < n && !busy; k++) {
        uint64_t old = l2_load(e, i + k), new = zeroed_entry(q, old, discard, unmap);

        if (qcow2_kind(q, old) == QCOW2_BAD || new == old)
            continue;
        if (!(new & QCOW2_OFFSET_MASK))
            qcow2_free_entry_later(q, old);
        ((uint64_t *)e->data)[i + k] = GUINT64_TO_BE(new);
        meta_dirty(&q->l2, e, (i + k) * 8, 8);
    }
    meta_put(e);
    co_mutex_unlock(&q->lock);
    if (busy)
        return zero_slice(q, off, bytes, discard, unmap);
    return qcow2_throttle(q);
}

static int zero_clusters(struct qcow2 *q, uint64_t off, uint64_t bytes, bool discard, bool unmap)
{
    int ret = 0;

    if (q->corrupt)
        return -EIO;
    for (uint64_t done = 0; done < bytes && !ret;) {
        uint64_t chunk = MIN(bytes - done, slice_rest(q, off + done));

        ret = zero_slice(q, off + done, chunk, discard, unmap);
        done += chunk;
    }
    return ret;
}

/* off is aligned to clusters; bytes is, but at the end of the disk. */
int qcow2_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    struct qcow2 *q = n->state;

    if (q->version < 3 && n->backing)
        return -ENOTSUP;        /* the backing image would show through */
    return zero_clusters(q, off, (bytes + q->cluster_size - 1) & ~(q->cluster_size - 1), true, true);
}

static int write_zero_bytes(struct block_node *n, uint64_t off, uint64_t bytes)
{
    struct qcow2 *q = n->state;
    void *buf;
    struct iovec iov;
    struct mapping m = { .bytes = bytes };
    int ret;

    if (!bytes)
        return 0;
    ret = map_read(q, off, &m);
    if (ret)
        return ret;
    qcow2_epoch_end(&q->epochs[m.epoch]);
    if (m.bytes == bytes && reads_zero(q, m.entry, off))
        return 0;
    buf = node_buffer(q->file, bytes);
    if (!buf)
        return -ENOMEM;
    memset(buf, 0, bytes);
    iov = (struct iovec){ buf, bytes };
    ret = qcow2_pwritev(n, off, bytes, &iov, 1);
    free(buf);
    return ret;
}

int qcow2_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    struct qcow2 *q = n->state;
    uint64_t cs = q->cluster_size, end = off + bytes, first = (off + cs - 1) & ~(cs - 1), last = end & ~(cs - 1);
    int ret;

    if (q->version < 3 && n->backing)
        return -ENOTSUP;
    if (end == n->size)         /* the last cluster may be cut by the end of the disk */
        last = (end + cs - 1) & ~(cs - 1);
    if (first >= last) {        /* inside one cluster, or over one boundary */
        uint64_t cut = first > off && first < end ? first : end;

        ret = write_zero_bytes(n, off, cut - off);
        return ret || cut == end ? ret : write_zero_bytes(n, cut, end - cut);
    }
    ret = write_zero_bytes(n, off, first - off);
    if (!ret)
        ret = zero_clusters(q, first, last - first, false, flags & BLOCK_MAY_UNMAP);
    if (!ret && end > last)
        ret = write_zero_bytes(n, last, end - last);
    return ret;
}

/* ---- status */

int qcow2_block_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                       struct block_node **file)
{
    struct qcow2 *q = n->state;
    struct mapping m = { .bytes = bytes };
    int ret = map_read(q, off, &m);

    if (ret)
        return ret;
    qcow2_epoch_end(&q->epochs[m.epoch]);
    *n_bytes = m.bytes;
    *file = q->file;
    switch (m.kind) {
    case QCOW2_NORMAL:
        *map = m.host;
        return STATUS_DATA | STATUS_OFFSET | STATUS_ALLOCATED;
    case QCOW2_COMPRESS:
        return STATUS_DATA | STATUS_ALLOCATED | STATUS_COMPRESSED;
    case QCOW2_ZERO_ALLOC:
        *map = m.host;
        return STATUS_ZERO | STATUS_ALLOCATED | STATUS_OFFSET;
    case QCOW2_ZERO_PLAIN:
        return STATUS_ZERO | STATUS_ALLOCATED;
    default:
        return n->backing ? 0 : STATUS_ZERO;
    }
}
