/* qcow2: writing with copy-on-write, zeroing, discarding. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/format/qcow2.h"

enum { ALLOC_BYTES_MAX = 64 << 20 };
#define ALL_ZERO (0xffffffffull << QCOW2_SUBCLUSTERS)

struct write_step {
    uint64_t off, bytes;        /* of the guest; bytes is cut to what this step does */
    const struct iovec *iov;
    int niov;
};

struct qcow2_alloc *qcow2_alloc_find(struct qcow2 *q, uint64_t start, uint64_t end)
{
    for (struct qcow2_alloc *a = q->allocs; a; a = a->next)
        if (a->start < end && start < a->end)
            return a;
    return NULL;
}

static int write_in_place(struct qcow2 *q, struct write_step *s, uint64_t host, unsigned epoch)
{
    int ret = qcow2_data_pwritev(q, host, s->off, s->bytes, s->iov, s->niov);

    qcow2_epoch_end(&q->epochs[epoch]);
    return ret;
}

/* The cluster has a place that nobody shares. */
static bool own_place(const struct qcow2 *q, uint64_t desc)
{
    return !(desc & QCOW2_COMPRESSED) && (desc & QCOW2_COPIED) && qcow2_has_host(q, desc);
}

/* Bits of the subclusters that [lo, hi) touches in the cluster from `start` on. */
static uint64_t sub_bits(const struct qcow2 *q, uint64_t start, uint64_t lo, uint64_t hi)
{
    uint64_t from, to;

    lo = MAX(lo, start);
    hi = MIN(hi, start + q->cluster_size);
    if (lo >= hi)
        return 0;
    from = (lo - start) >> q->sub_bits;
    to = (hi - 1 - start) >> q->sub_bits;
    return ((1ull << (to + 1)) - 1) & ~((1ull << from) - 1);
}

/* How many clusters from entry i on one allocation may take. */
static unsigned alloc_run(struct qcow2 *q, struct meta_entry *e, unsigned i, uint64_t start, unsigned max)
{
    unsigned n = 1;

    if (own_place(q, l2_load(q, e->data, i).desc))
        return 1;
    max = MIN(max, ALLOC_BYTES_MAX >> q->cluster_bits);
    while (n < max) {
        uint64_t desc = l2_load(q, e->data, i + n).desc;

        if (own_place(q, desc) || qcow2_kind(q, desc) == QCOW2_BAD ||
            qcow2_alloc_find(q, start + n * q->cluster_size, start + (n + 1) * q->cluster_size))
            break;
        n++;
    }
    return n;
}

static bool kind_reads_zero(const struct qcow2 *q, enum qcow2_kind kind, uint64_t guest)
{
    const struct block_node *n = q->node;

    switch (kind) {
    case QCOW2_ZERO_PLAIN:
    case QCOW2_ZERO_ALLOC: return true;
    case QCOW2_UNALLOCATED: return !n->backing || guest >= n->backing->size || guest >= n->size;
    default: return false;
    }
}

static bool range_reads_zero(const struct qcow2 *q, const struct meta_entry *e, uint64_t guest, uint64_t bytes)
{
    struct l2_entry v = l2_load(q, e->data, qcow2_slice_index(q, guest));

    return !bytes || (kind_reads_zero(q, qcow2_sub_kind(q, v, qcow2_sub_index(q, guest)), guest) &&
                      qcow2_l2_run(q, e, guest, bytes) == bytes);
}

/* ---- copy-on-write */

struct cow {
    uint64_t lo, hi;            /* guest: what is written in all; the data lies in it */
    uint64_t head, tail_at, tail;               /* bytes before the data; where what follows it starts, and its bytes */
    bool head_zero, tail_zero;
    uint64_t host;              /* place of lo */
    bool fresh;                 /* the clusters read as zero before they are written */
};

/* What must be written when [from, to) of the cluster from `start` on is: all of it without subclusters; else whole
 * subclusters, and those that a shared place holds. */
static void cow_range(const struct qcow2 *q, struct l2_entry v, uint64_t start, uint64_t from, uint64_t to,
                      uint64_t *lo, uint64_t *hi)
{
    uint64_t sub = 1ull << q->sub_bits, end = start + q->cluster_size;
    uint32_t data = v.bitmap;

    *lo = start;
    *hi = end;
    if (!q->extended || (v.desc & QCOW2_COMPRESSED))
        return;
    *lo = from & ~(sub - 1);
    *hi = (to + sub - 1) & ~(sub - 1);
    if (own_place(q, v.desc)) {
        if (qcow2_sub_kind(q, v, qcow2_sub_index(q, from)) == QCOW2_NORMAL)
            *lo = from;
        if (qcow2_sub_kind(q, v, qcow2_sub_index(q, to - 1)) == QCOW2_NORMAL)
            *hi = to;
    } else if (data && qcow2_has_host(q, v.desc)) {
        *lo = MIN(*lo, start + ((uint64_t)__builtin_ctz(data) << q->sub_bits));
        *hi = MAX(*hi, start + ((uint64_t)(32 - __builtin_clz(data)) << q->sub_bits));
    }
}

static int cow_fill(struct qcow2 *q, uint64_t guest, uint64_t bytes, bool zero, void *buf)
{
    uint64_t end = guest >= qcow2_vmstate_start(q) ? UINT64_MAX : (uint64_t)q->node->size;
    struct iovec iov = { buf, bytes };

    if (!bytes)
        return 0;
    memset(buf, 0, bytes);
    if (zero || guest >= end)
        return 0;
    iov.iov_len = MIN(bytes, end - guest);
    return qcow2_read(q, guest, iov.iov_len, &iov, 1);
}

/* New clusters are written: what was in them before the guest's data and after it is copied, in one write. */
static int cow_write(struct qcow2 *q, struct cow *c, struct write_step *s)
{
    uint8_t *buf = NULL;
    struct iovec *iov;
    int n = 0, ret;

    if (c->fresh && (!c->head || c->head_zero) && (!c->tail || c->tail_zero))
        c->lo += c->head, c->host += c->head, c->head = c->tail = 0;
    if (!c->head && !c->tail)
        return qcow2_data_pwritev(q, c->host, s->off, s->bytes, s->iov, s->niov);
    buf = node_buffer(q->data, c->head + c->tail);
    if (!buf)
        return -ENOMEM;
    iov = g_new(struct iovec, s->niov + 2);
    ret = cow_fill(q, c->lo, c->head, c->head_zero, buf);
    if (!ret)
        ret = cow_fill(q, c->tail_at, c->tail, c->tail_zero, buf + c->head);
    if (c->head)
        iov[n++] = (struct iovec){ buf, c->head };
    memcpy(&iov[n], s->iov, s->niov * sizeof(iov[0]));
    n += s->niov;
    if (c->tail)
        iov[n++] = (struct iovec){ buf + c->head, c->tail };
    if (!ret)
        ret = qcow2_data_pwritev(q, c->host, c->lo, c->head + s->bytes + c->tail, iov, n);
    g_free(iov);
    free(buf);
    return ret;
}

/* The L2 entries of clusters of which [lo, hi) is written now. */
static int alloc_link(struct qcow2 *q, struct qcow2_alloc *a, uint64_t host, uint64_t lo, uint64_t hi)
{
    unsigned i, n = (a->end - a->start) >> q->cluster_bits;
    struct meta_entry *e;
    int ret = qcow2_l2_writable(q, a->start, &e);

    if (ret)
        return ret;
    i = qcow2_slice_index(q, a->start);
    for (unsigned k = 0; k < n; k++) {
        struct l2_entry old = l2_load(q, e->data, i + k), new = { (host + k * q->cluster_size) | QCOW2_COPIED, 0 };
        bool same = own_place(q, old.desc) && (old.desc & QCOW2_OFFSET_MASK) == (new.desc & QCOW2_OFFSET_MASK);
        uint64_t bits = sub_bits(q, a->start + k * q->cluster_size, lo, hi);

        if (q->extended && (old.desc & QCOW2_COMPRESSED))
            new.bitmap = bits;
        else if (q->extended)
            new.bitmap = (old.bitmap & ALL_ZERO & ~(bits << QCOW2_SUBCLUSTERS)) | bits | (same ? (uint32_t)old.bitmap : 0);
        if (!same)
            qcow2_free_entry_later(q, old.desc);
        l2_store(q, e, i + k, new);
    }
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

/* A place for *n clusters from guest offset `start` on. */
static int place_find(struct qcow2 *q, uint64_t start, bool reuse, uint64_t *n, uint64_t *host)
{
    if (q->data_external) {
        *host = start;
        return 0;
    }
    if (!reuse)
        return qcow2_alloc_some(q, n, host);
    if (!qcow2_data_overlaps(q, *host, q->cluster_size) && qcow2_host_in_file(q, *host, q->cluster_size))
        return 0;
    qcow2_set_corrupt(q, "a cluster lies over the image's tables");
    return -EIO;
}

/* Clusters from entry i of e on get a place, the data, and their L2 entries. Called with the lock held and e pinned;
 * returns with neither. */
static int write_allocating(struct qcow2 *q, struct write_step *s, struct meta_entry *e, unsigned i, struct iovec *part)
{
    uint64_t cs = q->cluster_size, start = s->off & ~(cs - 1), host, unused, end;
    uint64_t n = alloc_run(q, e, i, start, clusters_of(q, s->off + s->bytes - start));
    struct l2_entry first = l2_load(q, e->data, i), last;
    bool reuse = own_place(q, first.desc);
    struct qcow2_alloc a;
    struct cow c;
    int ret;

    host = first.desc & QCOW2_OFFSET_MASK;
    ret = place_find(q, start, reuse, &n, &host);
    if (ret) {
        meta_put(e);
        co_mutex_unlock(&q->lock);
        return ret;
    }
    if (s->bytes > start + n * cs - s->off) {
        s->bytes = start + n * cs - s->off;
        s->niov = iov_slice(part, s->iov, s->niov, 0, s->bytes);
        s->iov = part;
    }
    end = s->off + s->bytes;
    last = l2_load(q, e->data, i + n - 1);
    cow_range(q, first, start, s->off, MIN(end, start + cs), &c.lo, &unused);
    cow_range(q, last, start + (n - 1) * cs, MAX(s->off, start + (n - 1) * cs), end, &unused, &c.hi);
    c.head = s->off - c.lo;
    c.tail_at = end;
    c.tail = c.hi - end;
    c.head_zero = range_reads_zero(q, e, c.lo, c.head);
    c.tail_zero = range_reads_zero(q, e, c.tail_at, c.tail);
    meta_put(e);
    c.host = host + (c.lo - start);
    c.fresh = !reuse && !q->data_external && !q->crypt_method && q->file->zero_past_end && host >= q->fresh_start;
    if (!reuse && !q->data_external)
        q->fresh_start = MAX(q->fresh_start, host + n * cs);
    alloc_begin(q, &a, start, start + n * cs);
    co_mutex_unlock(&q->lock);

    unused = c.lo;
    ret = cow_write(q, &c, s);

    co_mutex_lock(&q->lock);
    if (!ret)
        ret = alloc_link(q, &a, host, unused, c.hi);
    if (ret && !reuse && !q->data_external)
        qcow2_refcount_add(q, host, n, -1);
    alloc_end(q, &a);
    co_mutex_unlock(&q->lock);
    return ret ? ret : qcow2_throttle(q);
}

/* The slice for s->off that may be written, with no one at work on its cluster. The lock is held after success. */
static int write_slice(struct qcow2 *q, uint64_t off, struct meta_entry **e)
{
    uint64_t start = off & ~(q->cluster_size - 1);
    struct qcow2_alloc *busy;
    int ret;

    co_mutex_lock(&q->lock);
    for (;;) {
        ret = qcow2_l2_writable(q, off, e);
        if (ret) {
            co_mutex_unlock(&q->lock);
            return ret;
        }
        busy = qcow2_alloc_find(q, start, start + q->cluster_size);
        if (!busy)
            return 0;
        meta_put(*e);
        co_queue_wait(&busy->waiters, &q->lock);
    }
}

/* One piece of a request that started `done` bytes before; part: room for two vectors of the request's length. */
static int write_step(struct qcow2 *q, struct write_step *s, struct iovec *part, uint64_t done)
{
    uint64_t host, asked = s->bytes, run;
    const struct iovec *iov = s->iov;
    enum qcow2_kind kind;
    struct meta_entry *e;
    struct l2_entry v;
    unsigned i, epoch;
    int niov = s->niov, ret;

    s->bytes = MIN(s->bytes, qcow2_slice_rest(q, s->off));
    ret = write_slice(q, s->off, &e);
    if (ret)
        return ret;
    i = qcow2_slice_index(q, s->off);
    v = l2_load(q, e->data, i);
    kind = qcow2_sub_kind(q, v, qcow2_sub_index(q, s->off));
    host = (v.desc & QCOW2_OFFSET_MASK) + (s->off & (q->cluster_size - 1));
    if (kind == QCOW2_BAD) {
        qcow2_set_corrupt(q, "L2 entry %#" PRIx64 " at guest offset %#" PRIx64, v.desc, s->off);
        meta_put(e);
        co_mutex_unlock(&q->lock);
        return -EIO;
    }
    if (done || s->bytes != asked) {
        s->niov = iov_slice(part, iov, niov, done, s->bytes);
        s->iov = part;
    }
    if (kind != QCOW2_NORMAL || !(v.desc & QCOW2_COPIED))
        return write_allocating(q, s, e, i, part + niov);
    run = qcow2_l2_run(q, e, s->off, s->bytes);
    if (!qcow2_host_in_file(q, host & ~(q->cluster_size - 1), q->cluster_size) || qcow2_data_overlaps(q, host, run)) {
        qcow2_set_corrupt(q, "a cluster lies outside of the file or over its tables");
        meta_put(e);
        co_mutex_unlock(&q->lock);
        return -EIO;
    }
    epoch = qcow2_epoch_begin(q);
    meta_put(e);
    co_mutex_unlock(&q->lock);
    if (run != s->bytes) {
        s->niov = iov_slice(part + niov, s->iov, s->niov, 0, run);
        s->iov = part + niov;
        s->bytes = run;
    }
    return write_in_place(q, s, host, epoch);
}

int qcow2_write(struct qcow2 *q, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
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

int qcow2_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct qcow2 *q = n->state;
    int ret;

    qcow2_request_begin(q);
    ret = qcow2_write(q, off, bytes, iov, niov);
    qcow2_request_end(q);
    return ret;
}

/* ---- zeroes and discard, on whole clusters */

/* What becomes of an entry. Same as before: nothing to do. */
static struct l2_entry zeroed_entry(const struct qcow2 *q, struct l2_entry v, enum qcow2_zero how)
{
    const struct l2_entry none = { 0, 0 },
                          zero = { q->version >= 3 && !q->extended ? QCOW2_ZERO : 0, q->extended ? ALL_ZERO : 0 };
    bool keep = how == QCOW2_ZERO_KEEP && (v.desc & QCOW2_COPIED) && q->version >= 3;

    if (how == QCOW2_ZERO_FORGET)
        return none;
    switch (qcow2_kind(q, v.desc)) {
    case QCOW2_UNALLOCATED:
        return how == QCOW2_ZERO_EXPLICIT || (how != QCOW2_ZERO_DISCARD && q->node->backing) ? zero : v;
    case QCOW2_ZERO_PLAIN:
    case QCOW2_BAD:
        return v;
    case QCOW2_ZERO_ALLOC:
        return how == QCOW2_ZERO_KEEP ? v : zero;
    case QCOW2_NORMAL:
        if (keep)               /* keeps its place */
            return (struct l2_entry){ v.desc | zero.desc, zero.bitmap };
        /* fall through */
    default:
        return zero;
    }
}

static void zero_entry(struct qcow2 *q, struct meta_entry *e, unsigned i, enum qcow2_zero how)
{
    struct l2_entry old = l2_load(q, e->data, i), new;
    bool stays = q->discard_no_unref && how != QCOW2_ZERO_KEEP && how != QCOW2_ZERO_FORGET && own_place(q, old.desc);

    new = zeroed_entry(q, old, stays ? QCOW2_ZERO_KEEP : how);
    if (new.desc == old.desc && new.bitmap == old.bitmap)
        return;
    if (!qcow2_has_host(q, new.desc))
        qcow2_free_entry_later(q, old.desc);
    l2_store(q, e, i, new);
    if (stays && q->node->discard && !q->keep_discards)         /* it reads as zeroes now whatever is there */
        node_discard(q->data, new.desc & QCOW2_OFFSET_MASK, q->cluster_size);
}

static int zero_slice(struct qcow2 *q, uint64_t off, uint64_t bytes, enum qcow2_zero how)
{
    unsigned n = bytes >> q->cluster_bits, i = qcow2_slice_index(q, off);
    struct qcow2_alloc *busy;
    struct meta_entry *e;
    int ret;

    co_mutex_lock(&q->lock);
    while ((busy = qcow2_alloc_find(q, off, off + bytes)))
        co_queue_wait(&busy->waiters, &q->lock);
    ret = qcow2_l2_get(q, off, &e);
    if (!ret && !e && (how >= QCOW2_ZERO_DISCARD || (!q->node->backing && how != QCOW2_ZERO_EXPLICIT))) {
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
    for (unsigned k = 0; k < n && !busy; k++)
        zero_entry(q, e, i + k, how);
    meta_put(e);
    co_mutex_unlock(&q->lock);
    if (busy)
        return zero_slice(q, off, bytes, how);
    return qcow2_throttle(q);
}

/* A raw data file holds what the guest reads, whatever the tables say. */
static int zero_data_file(struct qcow2 *q, uint64_t off, uint64_t bytes, enum qcow2_zero how)
{
    bytes = MIN(bytes, q->node->size > off ? q->node->size - off : 0);
    if (q->data_raw)
        return node_write_zeroes(q->data, off, bytes, how == QCOW2_ZERO_KEEP ? 0 : BLOCK_MAY_UNMAP);
    return how == QCOW2_ZERO_KEEP || !q->node->discard ? 0 : node_discard(q->data, off, bytes);
}

int qcow2_zero_clusters(struct qcow2 *q, uint64_t off, uint64_t bytes, enum qcow2_zero how)
{
    int ret = q->corrupt ? -EIO : 0;

    for (uint64_t done = 0; done < bytes && !ret;) {
        uint64_t chunk = MIN(bytes - done, qcow2_slice_rest(q, off + done));

        ret = zero_slice(q, off + done, chunk, how);
        done += chunk;
    }
    if (!ret && q->data_external)
        ret = zero_data_file(q, off, bytes, how);
    return ret;
}

/* off is aligned to clusters; bytes is, but at the end of the disk. */
int qcow2_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    struct qcow2 *q = n->state;
    int ret;

    if (q->version < 3 && n->backing)
        return -ENOTSUP;        /* the backing image would show through */
    qcow2_request_begin(q);
    ret = qcow2_zero_clusters(q, off, (bytes + q->cluster_size - 1) & ~(q->cluster_size - 1), QCOW2_ZERO_DISCARD);
    qcow2_request_end(q);
    return ret;
}

static int write_zero_data(struct qcow2 *q, uint64_t off, uint64_t bytes)
{
    struct qcow2_mapping m = { .bytes = bytes };
    struct iovec iov;
    void *buf;
    int ret;

    if (!bytes)
        return 0;
    ret = qcow2_map(q, off, &m);
    if (ret)
        return ret;
    qcow2_epoch_end(&q->epochs[m.epoch]);
    if (m.bytes == bytes && kind_reads_zero(q, m.kind, off) && !q->data_raw)
        return 0;
    buf = node_buffer(q->data, bytes);
    if (!buf)
        return -ENOMEM;
    memset(buf, 0, bytes);
    iov = (struct iovec){ buf, bytes };
    ret = qcow2_write(q, off, bytes, &iov, 1);
    free(buf);
    return ret;
}

/* Whole subclusters of one cluster; 1: the cluster is shared or compressed, data must be written. */
static int zero_subclusters(struct qcow2 *q, uint64_t off, uint64_t bytes)
{
    uint64_t start = off & ~(q->cluster_size - 1), bits = sub_bits(q, start, off, off + bytes);
    struct meta_entry *e;
    struct l2_entry v;
    int ret = write_slice(q, off, &e);

    if (ret)
        return ret;
    v = l2_load(q, e->data, qcow2_slice_index(q, off));
    if (qcow2_kind(q, v.desc) == QCOW2_UNALLOCATED || own_place(q, v.desc)) {
        v.bitmap = (v.bitmap & ~bits) | bits << QCOW2_SUBCLUSTERS;
        l2_store(q, e, qcow2_slice_index(q, off), v);
    } else {
        ret = 1;
    }
    meta_put(e);
    co_mutex_unlock(&q->lock);
    return ret ? ret : qcow2_throttle(q);
}

/* A part of one cluster. */
static int write_zero_bytes(struct qcow2 *q, uint64_t off, uint64_t bytes)
{
    uint64_t sub = 1ull << q->sub_bits, end = off + bytes, first = (off + sub - 1) & ~(sub - 1), last = end & ~(sub - 1);
    int ret;

    if (q->corrupt)
        return -EIO;
    if (!q->extended || q->data_raw || first >= last)
        return write_zero_data(q, off, bytes);
    ret = zero_subclusters(q, first, last - first);
    if (ret == 1)
        return write_zero_data(q, off, bytes);
    if (!ret)
        ret = write_zero_data(q, off, first - off);
    return ret ? ret : write_zero_data(q, last, end - last);
}

static int write_zeroes(struct qcow2 *q, uint64_t off, uint64_t bytes, unsigned flags)
{
    uint64_t cs = q->cluster_size, end = off + bytes, first = (off + cs - 1) & ~(cs - 1), last = end & ~(cs - 1);
    int ret;

    if (end == q->node->size)   /* the last cluster may be cut by the end of the disk */
        last = (end + cs - 1) & ~(cs - 1);
    if (first >= last) {        /* inside one cluster, or over one boundary */
        uint64_t cut = first > off && first < end ? first : end;

        ret = write_zero_bytes(q, off, cut - off);
        return ret || cut == end ? ret : write_zero_bytes(q, cut, end - cut);
    }
    ret = write_zero_bytes(q, off, first - off);
    if (!ret)
        ret = qcow2_zero_clusters(q, first, last - first,
                                  flags & BLOCK_EXPLICIT    ? QCOW2_ZERO_EXPLICIT
                                  : flags & BLOCK_MAY_UNMAP ? QCOW2_ZERO_UNMAP
                                                            : QCOW2_ZERO_KEEP);
    if (!ret && end > last)
        ret = write_zero_bytes(q, last, end - last);
    return ret;
}

int qcow2_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    struct qcow2 *q = n->state;
    int ret;

    if (q->version < 3 && (n->backing || (flags & BLOCK_EXPLICIT)))
        return -ENOTSUP;
    qcow2_request_begin(q);
    ret = write_zeroes(q, off, bytes, flags);
    qcow2_request_end(q);
    return ret;
}
