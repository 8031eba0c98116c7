/* qcow2: what concerns whole tables: counting all that an L1 table refers to, COPIED flags, another L1 table, the size of
 * the disk. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/format/qcow2.h"

/* ---- walking an L1 table */

struct walk {
    struct qcow2 *q;
    int delta;
    bool clear;
    uint64_t limit, done;       /* units counted: an undo stops where the failure was */
    uint64_t run, run_clusters; /* clusters in a row that are still to be counted */
};

static int walk_count(struct walk *w, uint64_t offset, uint64_t clusters)
{
    int ret = 0;

    if (w->delta < 0 && w->limit == UINT64_MAX) {       /* safe against a loss of power: I3 */
        for (uint64_t i = 0; i < clusters; i++)
            qcow2_free_later(w->q, offset + (i << w->q->cluster_bits));
        return 0;
    }
    for (uint64_t i = 0; i < clusters && !ret && w->done < w->limit; i++) {
        ret = qcow2_refcount_add(w->q, offset + (i << w->q->cluster_bits), 1, w->delta);
        w->done += !ret;
    }
    return ret;
}

static int walk_flush(struct walk *w)
{
    int ret = w->run_clusters ? walk_count(w, w->run, w->run_clusters) : 0;

    w->run_clusters = 0;
    return ret;
}

static int walk_entry(struct walk *w, struct l2_entry v)
{
    struct qcow2 *q = w->q;
    uint64_t offset, bytes, first;
    int ret;

    switch (qcow2_kind(q, v.desc)) {
    case QCOW2_NORMAL:
    case QCOW2_ZERO_ALLOC:
        offset = v.desc & QCOW2_OFFSET_MASK;
        if (q->data_external)
            return 0;
        if (w->run_clusters && offset == w->run + (w->run_clusters << q->cluster_bits)) {
            w->run_clusters++;
            return 0;
        }
        ret = walk_flush(w);
        w->run = offset;
        w->run_clusters = 1;
        return ret;
    case QCOW2_COMPRESS:
        qcow2_compressed_range(q, v.desc, &offset, &bytes);
        first = offset & ~(q->cluster_size - 1);
        ret = walk_flush(w);
        if (!ret)
            ret = walk_count(w, first, clusters_of(q, offset + bytes - first));
        if (w->delta < 0 && q->compressed_next - first < q->cluster_size)
            q->compressed_next = 0;             /* do not write behind what is going away */
        return ret;
    default:
        return 0;
    }
}

static int walk_slice(struct walk *w, uint64_t offset)
{
    struct qcow2 *q = w->q;
    struct meta_entry *e;
    int ret;

    co_mutex_lock(&q->lock);
    ret = meta_get(q, &q->l2, offset, true, &e);
    for (unsigned i = 0; !ret && i < qcow2_slice_entries(q); i++) {
        struct l2_entry v = l2_load(q, e->data, i);

        ret = walk_entry(w, v);
        if (!ret && w->clear && (v.desc & QCOW2_COPIED)) {
            v.desc &= ~QCOW2_COPIED;
            l2_store(q, e, i, v);
        }
    }
    if (!ret)
        ret = walk_flush(w);
    w->run_clusters = 0;
    if (e)
        meta_put(e);
    co_mutex_unlock(&q->lock);
    return ret ? ret : qcow2_throttle(q);
}

static int walk_tree(struct walk *w, uint64_t *l1, uint32_t entries)
{
    struct qcow2 *q = w->q;
    int ret = 0;

    for (uint32_t i = 0; i < entries && !ret && w->done < w->limit; i++) {
        uint64_t table = l1[i] & QCOW2_OFFSET_MASK;

        if (!table)
            continue;
        if ((table & (q->cluster_size - 1)) || table + q->cluster_size > q->file->size + q->cluster_size)
            return -EIO;
        for (uint64_t at = 0; at < q->cluster_size && !ret; at += q->l2.slice)
            ret = walk_slice(w, table + at);
        co_mutex_lock(&q->lock);
        if (!ret)
            ret = walk_count(w, table, 1);
        co_mutex_unlock(&q->lock);
        if (w->clear)
            l1[i] &= ~QCOW2_COPIED;
    }
    return ret;
}

int qcow2_tree_count(struct qcow2 *q, uint64_t *l1, uint32_t entries, int delta, bool clear)
{
    struct walk w = { .q = q, .delta = delta, .clear = clear, .limit = UINT64_MAX }, undo;
    int ret = walk_tree(&w, l1, entries);

    if (!ret || delta < 0)
        return ret;
    undo = (struct walk){ .q = q, .delta = -delta, .limit = w.done };
    walk_tree(&undo, l1, entries);
    return ret;
}

/* ---- COPIED */

static int copied_of(struct qcow2 *q, uint64_t desc, const GByteArray *bias, uint64_t *out)
{
    uint64_t cluster = (desc & QCOW2_OFFSET_MASK) >> q->cluster_bits, count;
    int ret = qcow2_refcount_get(q, cluster, &count);

    if (bias && cluster / 8 < bias->len && (bias->data[cluster / 8] >> (cluster & 7) & 1))
        count--;
    *out = (desc & ~QCOW2_COPIED) | (count == 1 ? QCOW2_COPIED : 0);
    return ret;
}

static int copied_slice(struct qcow2 *q, uint64_t offset, const GByteArray *bias)
{
    struct meta_entry *e;
    int ret;

    co_mutex_lock(&q->lock);
    ret = meta_get(q, &q->l2, offset, true, &e);
    for (unsigned i = 0; !ret && !q->data_external && i < qcow2_slice_entries(q); i++) {
        struct l2_entry v = l2_load(q, e->data, i);
        enum qcow2_kind kind = qcow2_kind(q, v.desc);
        uint64_t desc = v.desc;

        if (kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOC)
            ret = copied_of(q, v.desc, bias, &desc);
        else if (kind != QCOW2_BAD)
            desc &= ~QCOW2_COPIED;
        if (!ret && desc != v.desc)
            l2_store(q, e, i, (struct l2_entry){ desc, v.bitmap });
    }
    if (e)
        meta_put(e);
    co_mutex_unlock(&q->lock);
    return ret ? ret : qcow2_throttle(q);
}

int qcow2_copied_update(struct qcow2 *q, const GByteArray *bias)
{
    int ret = 0;

    for (uint32_t i = 0; i < q->l1_size && !ret; i++) {
        uint64_t table = q->l1[i] & QCOW2_OFFSET_MASK, entry = 0;

        if (!table || (table & (q->cluster_size - 1)) || table >= q->file->size)
            continue;
        co_mutex_lock(&q->lock);
        ret = copied_of(q, q->l1[i], bias, &entry);
        if (!ret && entry != q->l1[i])
            qcow2_l1_set(q, i, entry);
        co_mutex_unlock(&q->lock);
        for (uint64_t at = 0; at < q->cluster_size && !ret; at += q->l2.slice)
            ret = copied_slice(q, table + at, bias);
    }
    return ret;
}

/* ---- another L1 table */

int qcow2_l1_write(struct qcow2 *q, const uint64_t *l1, uint32_t entries, uint64_t *offset)
{
    uint64_t clusters = MAX(1, clusters_of(q, entries * 8ull)), bytes = clusters << q->cluster_bits;
    g_autofree uint64_t *be = g_try_malloc0(bytes);
    int ret = -ENOMEM;

    if (!be)
        return ret;
    co_mutex_lock(&q->lock);
    ret = qcow2_alloc_clusters(q, clusters, offset);
    if (!ret)
        q->fresh_start = MAX(q->fresh_start, *offset + bytes);
    co_mutex_unlock(&q->lock);
    for (uint32_t i = 0; i < entries; i++)
        be[i] = GUINT64_TO_BE(l1[i]);
    return ret ? ret : node_pwrite(q->file, *offset, be, bytes);
}

/* Size and L1 stand side by side in the header: one write changes both. */
static int header_resize(struct qcow2 *q, uint64_t size, uint32_t l1_size, uint64_t l1_offset)
{
    uint8_t field[24];
    int ret = qcow2_flush_cache(q->node);

    be64_put(field, size);
    be32_put(field + 8, q->crypt_method);
    be32_put(field + 12, l1_size);
    be64_put(field + 16, l1_offset);
    if (!ret)
        ret = node_flush(q->file);
    if (!ret)
        ret = qcow2_header_write(q, QCOW2_H_SIZE, field, sizeof(field));
    return ret ? ret : node_flush(q->file);
}

static void free_range_later(struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    co_mutex_lock(&q->lock);
    for (uint64_t at = 0; at < bytes; at += q->cluster_size)
        qcow2_free_later(q, offset + at);
    co_mutex_unlock(&q->lock);
}

int qcow2_l1_switch(struct qcow2 *q, uint64_t **l1, uint32_t entries, uint64_t size)
{
    uint64_t offset = 0, old_offset = q->l1_offset, old_bytes = q->l1_size * 8ull;
    int ret = qcow2_l1_write(q, *l1, entries, &offset);

    if (!ret)
        ret = header_resize(q, size, entries, offset);
    if (ret) {
        if (offset)
            free_range_later(q, offset, MAX(1, entries * 8ull));
        return ret;
    }
    co_mutex_lock(&q->lock);
    g_free(q->l1);
    q->l1 = g_steal_pointer(l1);
    q->l1_size = entries;
    q->l1_offset = offset;
    q->l1_dirty_from = UINT32_MAX;
    q->l1_dirty_to = 0;
    q->node->size = size;
    co_mutex_unlock(&q->lock);
    free_range_later(q, old_offset, old_bytes);
    return 0;
}

/* What entries [from, to) of the active L1 table refer to is let go. */
static int l1_forget(struct qcow2 *q, uint32_t from, uint32_t to)
{
    int ret = from < to ? qcow2_tree_count(q, q->l1 + from, to - from, -1, false) : 0;

    co_mutex_lock(&q->lock);
    for (uint32_t i = from; i < to && !ret; i++)
        if (q->l1[i])
            qcow2_l1_set(q, i, 0);
    co_mutex_unlock(&q->lock);
    return ret;
}

int qcow2_forget_from(struct qcow2 *q, uint64_t off)
{
    uint64_t span = 1ull << (q->cluster_bits + q->l2_bits), start = (off + q->cluster_size - 1) & ~(q->cluster_size - 1),
             first = (start + span - 1) / span;
    int ret = l1_forget(q, MIN(first, q->l1_size), q->l1_size);

    if (!ret && (start % span) && start / span < q->l1_size && q->l1[start / span])
        ret = qcow2_zero_clusters(q, start, first * span - start, QCOW2_ZERO_FORGET);
    return ret;
}

/* ---- size */

/* Where the last cluster in use ends. */
static int used_end(struct qcow2 *q, uint64_t *end)
{
    uint64_t cluster = clusters_of(q, q->file->size), count = 0;
    int ret = 0;

    co_mutex_lock(&q->lock);
    while (cluster && !ret) {
        ret = qcow2_refcount_get(q, cluster - 1, &count);
        if (ret || count)
            break;
        cluster--;
    }
    co_mutex_unlock(&q->lock);
    *end = cluster << q->cluster_bits;
    return ret;
}

/* The new size is durable before anything beyond it is let go: a loss of power in between leaves what nobody sees. */
static int shrink(struct block_node *n, uint64_t size)
{
    struct qcow2 *q = n->state;
    uint64_t end = 0;
    int ret = header_resize(q, size, q->l1_size, q->l1_offset);

    if (ret)
        return ret;
    n->size = size;
    ret = qcow2_forget_from(q, size);
    for (int i = 0; i < 2 && !ret; i++)         /* what is freed, then its counts */
        ret = qcow2_flush_cache(n);
    if (!ret)
        ret = used_end(q, &end);
    if (!ret && end < q->file->size && q->file->drv->truncate)
        ret = node_truncate(q->file, end, NULL);
    q->fresh_start = MAX(q->fresh_start, end);
    if (!ret && q->data_external)
        ret = node_truncate(q->data, size, NULL);
    return ret;
}

static int grow(struct block_node *n, uint64_t size, uint32_t entries)
{
    struct qcow2 *q = n->state;
    g_autofree uint64_t *l1 = NULL;
    int ret = qcow2_forget_from(q, n->size);    /* left from when the disk was larger, or state of the machine */

    if (!ret && q->data_external && q->data->size < size)
        ret = node_truncate(q->data, size, NULL);
    if (ret)
        return ret;
    if (entries <= q->l1_size) {
        ret = header_resize(q, size, q->l1_size, q->l1_offset);
        if (!ret)
            n->size = size;
        return ret;
    }
    l1 = g_new0(uint64_t, entries);
    memcpy(l1, q->l1, q->l1_size * 8ull);
    return qcow2_l1_switch(q, &l1, entries, size);
}

/* The end of the last cluster reads as zero from now on, and of a backing image that is longer than the disk was
 * nothing shows through in the new part. */
static int cover_new(struct block_node *n, uint64_t old)
{
    struct qcow2 *q = n->state;
    uint64_t cluster_end = (old + q->cluster_size - 1) & ~(q->cluster_size - 1),
             end = MAX(cluster_end, n->backing ? (uint64_t)n->backing->size : 0);

    end = MIN(end, n->size);
    return end > old ? node_write_zeroes(n, old, end - old, 0) : 0;
}

int qcow2_truncate(struct block_node *n, uint64_t size, struct error *err)
{
    struct qcow2 *q = n->state;
    uint64_t per_l2 = q->cluster_size << q->l2_bits, entries = size / per_l2 + (size % per_l2 != 0), old = n->size;
    int ret;

    if (q->snapshot_count && q->version < 3) {
        error_setf(err, ERR_GENERIC, "delete its snapshots first, or rhea-img amend -o compat=1.1",
                   "cannot resize a version 2 image with snapshots");
        return -ENOTSUP;
    }
    if ((size & 511) || entries * 8 > QCOW2_MAX_L1_BYTES) {
        error_setf(err, ERR_GENERIC, NULL,
                   "size %" PRIu64 " is no multiple of 512, or too large for its clusters", size);
        return -EINVAL;
    }
    qcow2_exclusive_begin(q);
    ret = qcow2_flush_cache(n);
    if (!ret && size < old)
        ret = shrink(n, size);
    else if (!ret)
        ret = grow(n, size, entries);
    qcow2_exclusive_end(q);
    return ret || size <= old ? ret : cover_new(n, old);
}

int qcow2_make_empty(struct block_node *n)
{
    struct qcow2 *q = n->state;
    int ret;

    qcow2_exclusive_begin(q);
    ret = q->corrupt ? -EIO : qcow2_flush_cache(n);
    if (!ret)
        ret = qcow2_forget_from(q, 0);
    for (int i = 0; i < 2 && !ret; i++)         /* what is freed, then its counts */
        ret = qcow2_flush_cache(n);
    qcow2_exclusive_end(q);
    return ret;
}
