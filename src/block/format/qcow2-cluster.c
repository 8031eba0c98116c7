/* qcow2: from guest offsets to host clusters; reading, the fast path, status. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/format/qcow2.h"

/* ---- L2 entries */

enum qcow2_kind qcow2_kind(const struct qcow2 *q, uint64_t desc)
{
    uint64_t offset = desc & QCOW2_OFFSET_MASK;

    if (desc & QCOW2_COMPRESSED)
        return q->data_external ? QCOW2_BAD : QCOW2_COMPRESS;
    if (offset & (q->cluster_size - 1))
        return QCOW2_BAD;
    if (desc & QCOW2_ZERO) {
        if (q->version < 3 || q->extended)
            return QCOW2_BAD;
        return qcow2_has_host(q, desc) ? QCOW2_ZERO_ALLOC : QCOW2_ZERO_PLAIN;
    }
    return qcow2_has_host(q, desc) ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
}

enum qcow2_kind qcow2_sub_kind(const struct qcow2 *q, struct l2_entry v, unsigned sub)
{
    enum qcow2_kind kind = qcow2_kind(q, v.desc);
    bool data = v.bitmap >> sub & 1, zero = v.bitmap >> (QCOW2_SUBCLUSTERS + sub) & 1;

    if (!q->extended || kind == QCOW2_COMPRESS || kind == QCOW2_BAD)
        return kind;
    if (data)
        return zero || kind != QCOW2_NORMAL ? QCOW2_BAD : QCOW2_NORMAL;
    if (zero)
        return kind == QCOW2_NORMAL ? QCOW2_ZERO_ALLOC : QCOW2_ZERO_PLAIN;
    return QCOW2_UNALLOCATED;
}

void qcow2_compressed_range(const struct qcow2 *q, uint64_t desc, uint64_t *offset, uint64_t *bytes)
{
    unsigned shift = 62 - (q->cluster_bits - 8);
    uint64_t sectors = ((desc >> shift) & ((1ull << (q->cluster_bits - 8)) - 1)) + 1;

    *offset = desc & ((1ull << shift) - 1);
    *bytes = sectors * 512 - (*offset & 511);
}

/* The slice of the L2 table that covers guest offset `off`, pinned; *out NULL: no table there. q->lock is held, and
 * may be let go for a while. */
int qcow2_l2_get(struct qcow2 *q, uint64_t off, struct meta_entry **out)
{
    uint64_t l1_index = off >> (q->cluster_bits + q->l2_bits), table, entry;
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
        ret = meta_get(q, &q->l2, table + qcow2_slice_offset(q, off), false, out);
        if (ret)
            return ret;
        if (q->l1[l1_index] == entry)
            return 0;
        meta_put(*out);         /* the table moved meanwhile */
    }
}

static uint64_t run_of_clusters(const struct qcow2 *q, const struct meta_entry *e, uint64_t off, uint64_t max)
{
    uint64_t mask = QCOW2_OFFSET_MASK | QCOW2_COPIED | QCOW2_ZERO | QCOW2_COMPRESSED, step = 0;
    uint64_t in = off & (q->cluster_size - 1), n = clusters_of(q, in + max), k;
    unsigned i = qcow2_slice_index(q, off);
    uint64_t first = l2_load(q, e->data, i).desc;
    enum qcow2_kind kind = qcow2_kind(q, first);

    if (kind == QCOW2_NORMAL)
        step = q->cluster_size;
    else if (kind == QCOW2_COMPRESS)
        n = 1;
    for (k = 1; k < n; k++) {
        uint64_t desc = l2_load(q, e->data, i + k).desc;

        if (kind == QCOW2_ZERO_ALLOC ? qcow2_kind(q, desc) != kind : (desc & mask) != (first & mask) + k * step)
            break;
    }
    return MIN(max, (k << q->cluster_bits) - in);
}

static uint64_t run_of_subclusters(const struct qcow2 *q, const struct meta_entry *e, uint64_t off, uint64_t max)
{
    struct l2_entry first = l2_load(q, e->data, qcow2_slice_index(q, off)), v = first;
    enum qcow2_kind kind = qcow2_sub_kind(q, first, qcow2_sub_index(q, off));
    uint64_t sub_size = 1ull << q->sub_bits, start = off & ~(q->cluster_size - 1), at;

    if (kind == QCOW2_COMPRESS)
        return MIN(max, start + q->cluster_size - off);
    for (at = (off | (sub_size - 1)) + 1; at < off + max; at += sub_size) {
        if (!(at & (q->cluster_size - 1))) {
            v = l2_load(q, e->data, qcow2_slice_index(q, at));
            if (kind == QCOW2_NORMAL && v.desc != first.desc + (at - start))
                break;
        }
        if (qcow2_sub_kind(q, v, qcow2_sub_index(q, at)) != kind)
            break;
    }
    return MIN(max, at - off);
}

uint64_t qcow2_l2_run(const struct qcow2 *q, const struct meta_entry *e, uint64_t off, uint64_t max)
{
    return q->extended ? run_of_subclusters(q, e, off, max) : run_of_clusters(q, e, off, max);
}

uint64_t qcow2_slice_rest(const struct qcow2 *q, uint64_t off)
{
    uint64_t span = (uint64_t)qcow2_slice_entries(q) << q->cluster_bits;

    return span - (off & (span - 1));
}

bool qcow2_host_in_file(const struct qcow2 *q, uint64_t host, uint64_t bytes)
{
    return q->data_external || host + bytes <= ((q->file->size + q->cluster_size - 1) & ~(q->cluster_size - 1));
}

uint64_t qcow2_vmstate_start(const struct qcow2 *q)
{
    uint64_t span = 1ull << (q->cluster_bits + q->l2_bits);

    return (q->node->size + span - 1) / span * span;
}

/* ---- reading */

/* Bytes from off to the next guest offset that has an L2 table, or to the end of what L1 covers. */
static uint64_t hole_from(const struct qcow2 *q, uint64_t off)
{
    unsigned shift = q->cluster_bits + q->l2_bits;
    uint64_t index = (off >> shift) + 1;

    while (index < q->l1_size && !(q->l1[index] & QCOW2_OFFSET_MASK))
        index++;
    return (index << shift) - off;
}

int qcow2_map(struct qcow2 *q, uint64_t off, struct qcow2_mapping *m)
{
    struct meta_entry *e;
    int ret;

    co_mutex_lock(&q->lock);
    ret = qcow2_l2_get(q, off, &e);
    if (ret) {
        co_mutex_unlock(&q->lock);
        return ret;
    }
    m->kind = QCOW2_UNALLOCATED;
    m->entry = (struct l2_entry){ 0, 0 };
    if (!e) {
        m->bytes = MIN(m->bytes, hole_from(q, off));
    } else {
        m->entry = l2_load(q, e->data, qcow2_slice_index(q, off));
        m->kind = qcow2_sub_kind(q, m->entry, qcow2_sub_index(q, off));
        m->bytes = qcow2_l2_run(q, e, off, MIN(m->bytes, qcow2_slice_rest(q, off)));
        m->host = (m->entry.desc & QCOW2_OFFSET_MASK) + (off & (q->cluster_size - 1));
        meta_put(e);
    }
    if (m->kind == QCOW2_BAD) {
        qcow2_set_corrupt(q, "L2 entry %#" PRIx64 " at guest offset %#" PRIx64, m->entry.desc, off);
        ret = -EIO;
    } else {
        m->epoch = qcow2_epoch_begin(q);
    }
    co_mutex_unlock(&q->lock);
    return ret;
}

/* The cluster at `desc`, inflated; the last one is kept, as guests read it piece by piece. */
static int read_compressed(struct qcow2 *q, uint64_t desc, uint64_t in, uint64_t bytes, const struct iovec *iov,
                           int niov)
{
    uint64_t offset, len;
    uint8_t *raw, *cluster;
    int ret;

    co_mutex_lock(&q->lock);
    if (q->inflated_entry == desc) {
        iov_write(iov, niov, 0, q->inflated + in, bytes);
        co_mutex_unlock(&q->lock);
        return 0;
    }
    co_mutex_unlock(&q->lock);
    qcow2_compressed_range(q, desc, &offset, &len);
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
        q->inflated_entry = desc;
        free(q->inflated);
        q->inflated = g_steal_pointer(&cluster);
        co_mutex_unlock(&q->lock);
    }
    free(raw);
    free(cluster);
    return ret;
}

static int read_mapped(struct qcow2 *q, const struct qcow2_mapping *m, uint64_t off, const struct iovec *iov, int niov)
{
    struct block_node *backing = q->node->backing;

    switch (m->kind) {
    case QCOW2_NORMAL:
        return qcow2_data_preadv(q, m->host, off, m->bytes, iov, niov);
    case QCOW2_COMPRESS:
        return read_compressed(q, m->entry.desc, off & (q->cluster_size - 1), m->bytes, iov, niov);
    case QCOW2_UNALLOCATED:
        if (backing && off < q->node->size)     /* behind the disk lies the machine's state */
            return node_preadv(backing, off, m->bytes, iov, niov);
        /* fall through */
    default:
        iov_zero(iov, niov, 0, m->bytes);
        return 0;
    }
}

int qcow2_read(struct qcow2 *q, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    g_autofree struct iovec *part = NULL;

    for (uint64_t done = 0; done < bytes;) {
        struct qcow2_mapping m = { .bytes = bytes - done };
        const struct iovec *v = iov;
        int ret = qcow2_map(q, off + done, &m), nv = niov;

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

int qcow2_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct qcow2 *q = n->state;
    int ret;

    qcow2_request_begin(q);
    ret = qcow2_read(q, off, bytes, iov, niov);
    qcow2_request_end(q);
    return ret;
}

/* Where a run of one kind goes without help: the data, or the backing image; NULL: neither. */
static struct block_node *fast_target(struct qcow2 *q, const struct meta_entry *e, struct block_fast *f)
{
    struct l2_entry v = l2_load(q, e->data, qcow2_slice_index(q, f->offset));
    enum qcow2_kind kind = qcow2_sub_kind(q, v, qcow2_sub_index(q, f->offset));
    uint64_t host = (v.desc & QCOW2_OFFSET_MASK) + (f->offset & (q->cluster_size - 1));
    struct block_node *backing = q->node->backing;

    if ((kind != QCOW2_NORMAL && kind != QCOW2_UNALLOCATED) || qcow2_l2_run(q, e, f->offset, f->bytes) != f->bytes)
        return NULL;
    if (kind == QCOW2_UNALLOCATED)
        return !f->write && backing && f->offset + f->bytes <= backing->size ? backing : NULL;
    if (f->write && (!(v.desc & QCOW2_COPIED) || q->corrupt || !qcow2_host_in_file(q, host, f->bytes) ||
                     qcow2_data_overlaps(q, host, f->bytes)))
        return NULL;
    f->offset = host;
    f->end = qcow2_epoch_end;
    f->end_arg = &q->epochs[qcow2_epoch_begin(q)];
    return q->data;
}

/* A request for one allocated run needs no coroutine. The lock is only tried: nothing may wait here. */
struct block_node *qcow2_map_fast(struct block_node *n, struct block_fast *f)
{
    struct qcow2 *q = n->state;
    uint64_t l1_index = f->offset >> (q->cluster_bits + q->l2_bits), table;
    struct block_node *to = NULL;
    struct meta_entry *e = NULL;

    if (f->end || q->crypt_method || f->bytes > qcow2_slice_rest(q, f->offset) || atomic_load(&q->exclusive) ||
        !co_mutex_trylock(&q->lock))
        return NULL;
    table = l1_index < q->l1_size ? q->l1[l1_index] & QCOW2_OFFSET_MASK : 0;
    if (table && !(table & (q->cluster_size - 1)))
        e = meta_find(&q->l2, table + qcow2_slice_offset(q, f->offset));
    if (atomic_load(&q->exclusive))
        to = NULL;
    else if (e && !e->loading)
        to = fast_target(q, e, f);
    else if (!table && !f->write && n->backing && f->offset + f->bytes <= n->backing->size)
        to = n->backing;
    co_mutex_unlock(&q->lock);
    return to;
}

/* ---- L2 tables */

void qcow2_l1_set(struct qcow2 *q, uint64_t index, uint64_t entry)
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
    qcow2_l1_set(q, index, offset | QCOW2_COPIED);
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

/* ---- status */

static int status_of(struct qcow2 *q, const struct qcow2_mapping *m, uint64_t *map)
{
    int offset = q->crypt_method ? 0 : STATUS_OFFSET;   /* what lies there is not what the guest reads */

    switch (m->kind) {
    case QCOW2_NORMAL:
        *map = m->host;
        return STATUS_DATA | offset | STATUS_ALLOCATED;
    case QCOW2_COMPRESS:
        return STATUS_DATA | STATUS_ALLOCATED | STATUS_COMPRESSED;
    case QCOW2_ZERO_ALLOC:
        *map = m->host;
        return STATUS_ZERO | STATUS_ALLOCATED | offset;
    case QCOW2_ZERO_PLAIN:
        return STATUS_ZERO | STATUS_ALLOCATED;
    default:
        return q->node->backing ? 0 : STATUS_ZERO;
    }
}

int qcow2_block_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                       struct block_node **file)
{
    struct qcow2 *q = n->state;
    struct qcow2_mapping m = { .bytes = bytes };
    int ret;

    qcow2_request_begin(q);
    ret = qcow2_map(q, off, &m);
    if (!ret) {
        qcow2_epoch_end(&q->epochs[m.epoch]);
        *n_bytes = m.bytes;
        *file = q->data;
        ret = status_of(q, &m, map);
    }
    qcow2_request_end(q);
    return ret;
}
