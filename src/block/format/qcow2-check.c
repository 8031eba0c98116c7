/* qcow2: consistency. All references are counted into a table in memory and compared with the refcounts; on request
 * the refcounts are mended: leaks are freed, counts that are too small are raised. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/format/qcow2.h"

struct census {
    struct qcow2 *q;
    struct block_check *out;
    uint32_t *count;            /* references a cluster */
    uint64_t clusters;          /* of the file */
    uint64_t last_host;         /* of the data cluster before, for fragmentation */
    bool fix;
};

/* References a range of the file; false: it lies outside. */
static bool census_add(struct census *c, uint64_t offset, uint64_t bytes)
{
    uint64_t first = offset >> c->q->cluster_bits, last;

    if (!bytes)
        return true;
    if (offset > INT64_MAX - bytes)
        goto outside;
    last = (offset + bytes - 1) >> c->q->cluster_bits;
    if (last >= c->clusters)
        goto outside;
    for (uint64_t i = first; i <= last; i++)
        if (c->count[i] < UINT32_MAX)
            c->count[i]++;
    return true;
outside:
    c->out->errors++;
    return false;
}

static void census_entry(struct census *c, uint64_t entry, bool active)
{
    struct qcow2 *q = c->q;
    uint64_t offset, bytes;

    switch (qcow2_kind(q, entry)) {
    case QCOW2_NORMAL:
    case QCOW2_ZERO_ALLOC:
        offset = entry & QCOW2_OFFSET_MASK;
        census_add(c, offset, q->cluster_size);
        if (!active)
            break;
        c->out->allocated_clusters++;
        if (c->last_host && offset != c->last_host + q->cluster_size)
            c->out->fragmented_clusters++;
        c->last_host = offset;
        break;
    case QCOW2_COMPRESS:
        qcow2_compressed_range(q, entry, &offset, &bytes);
        bytes = MIN(bytes, offset < q->file->size ? q->file->size - offset : bytes);
        census_add(c, offset, bytes);
        if (active) {
            c->out->allocated_clusters++;
            c->out->compressed_clusters++;
            c->out->fragmented_clusters++;
        }
        break;
    case QCOW2_BAD:
        c->out->errors++;
        break;
    default:
        break;
    }
}

/* An L1 table and all below it. */
static int census_l1(struct census *c, const uint64_t *l1, uint32_t entries, uint64_t offset, bool active)
{
    struct qcow2 *q = c->q;
    uint64_t *l2 = node_buffer(q->file, q->cluster_size);
    int ret = l2 ? 0 : -ENOMEM;

    census_add(c, offset, entries * 8ull);
    for (uint32_t i = 0; i < entries && !ret; i++) {
        uint64_t table = l1[i] & QCOW2_OFFSET_MASK;

        if (!table)
            continue;
        if ((table & (q->cluster_size - 1)) || table + q->cluster_size > c->clusters << q->cluster_bits) {
            c->out->errors++;
            continue;
        }
        census_add(c, table, q->cluster_size);
        ret = node_pread(q->file, table, l2, q->cluster_size);
        for (uint64_t k = 0; k < q->cluster_size / 8 && !ret; k++)
            census_entry(c, GUINT64_FROM_BE(l2[k]), active);
    }
    free(l2);
    return ret;
}

static int census_snapshots(struct census *c)
{
    struct qcow2 *q = c->q;
    int ret = 0;

    census_add(c, q->snapshots_offset, q->snapshots_size);
    for (uint32_t i = 0; i < q->snapshot_count && !ret; i++) {
        const struct qcow2_snapshot *s = &q->snapshots[i];
        g_autofree uint64_t *l1 = g_new0(uint64_t, MAX(s->l1_size, 1));

        ret = node_pread(q->file, s->l1_offset, l1, s->l1_size * 8ull);
        for (uint32_t k = 0; k < s->l1_size; k++)
            l1[k] = GUINT64_FROM_BE(l1[k]);
        if (!ret)
            ret = census_l1(c, l1, s->l1_size, s->l1_offset, false);
    }
    return ret;
}

static void census_refcounts(struct census *c)
{
    struct qcow2 *q = c->q;

    census_add(c, 0, q->cluster_size);
    census_add(c, q->reftable_offset, (uint64_t)q->reftable_clusters << q->cluster_bits);
    for (uint32_t i = 0; i < q->reftable_entries; i++) {
        if (q->reftable[i] & (q->cluster_size - 1))
            c->out->errors++;
        else if (q->reftable[i])
            census_add(c, q->reftable[i], q->cluster_size);
    }
}

/* ---- compared with the refcounts */

static int compare_one(struct census *c, uint64_t cluster, uint64_t have, uint64_t want, unsigned repair)
{
    struct qcow2 *q = c->q;
    bool leak = have > want;
    int ret = -ENOTSUP;

    if (have == want)
        return 0;
    if (repair & (leak ? BLOCK_FIX_LEAKS : BLOCK_FIX_ERRORS)) {
        for (ret = 0; have < want && !ret; have++)
            ret = qcow2_refcount_add(q, cluster << q->cluster_bits, 1, 1);
        for (; have > want && !ret; have--)
            ret = qcow2_refcount_add(q, cluster << q->cluster_bits, 1, -1);
    }
    if (ret)
        leak ? c->out->leaks++ : c->out->errors++;
    else
        leak ? c->out->leaks_fixed++ : c->out->errors_fixed++;
    return 0;
}

static int compare_all(struct census *c, unsigned repair)
{
    struct qcow2 *q = c->q;
    uint64_t have, limit = MIN((uint64_t)q->reftable_entries << q->refblock_bits, 1ull << (56 - q->cluster_bits));
    int ret = 0;

    for (uint64_t i = 0; i < MAX(c->clusters, limit) && !ret; i++) {
        uint64_t want = i < c->clusters ? c->count[i] : 0;

        if (i >= c->clusters && !q->reftable[i >> q->refblock_bits]) {
            i |= (1ull << q->refblock_bits) - 1;        /* a whole block is missing, and nothing is there */
            continue;
        }
        ret = qcow2_refcount_get(q, i, &have);
        if (ret) {                      /* a block that cannot be read */
            c->out->check_errors++;
            ret = ret == -EIO && q->corrupt ? ret : 0;
            continue;
        }
        if (want || have)
            c->out->end_offset = (i + 1) << q->cluster_bits;
        ret = compare_one(c, i, have, want, repair);
    }
    return ret;
}

/* The COPIED flag says that the refcount is exactly one. Only looked at; wrong ones cost a copy, or are errors. */
static int check_copied(struct census *c)
{
    struct qcow2 *q = c->q;
    uint64_t *l2 = node_buffer(q->file, q->cluster_size);
    int ret = l2 ? 0 : -ENOMEM;

    for (uint32_t i = 0; i < q->l1_size && !ret; i++) {
        uint64_t table = q->l1[i] & QCOW2_OFFSET_MASK;

        if (!table || (table >> q->cluster_bits) >= c->clusters || (table & (q->cluster_size - 1)))
            continue;
        if (!(q->l1[i] & QCOW2_COPIED) != (c->count[table >> q->cluster_bits] != 1))
            c->out->errors++;
        ret = node_pread(q->file, table, l2, q->cluster_size);
        for (uint64_t k = 0; k < q->cluster_size / 8 && !ret; k++) {
            uint64_t e = GUINT64_FROM_BE(l2[k]), host = (e & QCOW2_OFFSET_MASK) >> q->cluster_bits;
            enum qcow2_kind kind = qcow2_kind(q, e);

            if ((kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOC) && host < c->clusters &&
                !(e & QCOW2_COPIED) != (c->count[host] != 1))
                c->out->errors++;
        }
    }
    free(l2);
    return ret;
}

static int census_take(struct census *c)
{
    struct qcow2 *q = c->q;
    int ret = census_l1(c, q->l1, q->l1_size, q->l1_offset, true);

    if (!ret)
        ret = census_snapshots(c);
    if (!ret)
        census_refcounts(c);
    return ret;
}

/* After a repair that left nothing wrong the corrupt bit goes. */
static int clear_marks(struct qcow2 *q, const struct block_check *out)
{
    uint64_t be;

    if (out->errors || out->check_errors || !(q->incompatible & (QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_DIRTY)))
        return 0;
    q->incompatible &= ~(uint64_t)(QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_DIRTY);
    be = GUINT64_TO_BE(q->incompatible);
    return qcow2_header_write(q, QCOW2_H_INCOMPAT, &be, 8);
}

bool qcow2_check(struct block_node *n, unsigned repair, struct block_check *out, struct error *err)
{
    struct qcow2 *q = n->state;
    struct census c = { .q = q, .out = out };
    int ret = n->read_only ? 0 : qcow2_flush_cache(n);

    *out = (struct block_check){ .total_clusters = clusters_of(q, n->size) };
    c.clusters = clusters_of(q, q->file->size);
    c.count = g_try_new0(uint32_t, MAX(c.clusters, 1));
    if (!c.count)
        return error_setf(err, ERR_GENERIC, NULL, "'%s': no memory for %" PRIu64 " clusters", n->filename,
                          c.clusters);
    if (!ret)
        ret = census_take(&c);
    co_mutex_lock(&q->lock);
    if (!ret)
        ret = check_copied(&c);
    if (!ret)
        ret = compare_all(&c, repair);
    co_mutex_unlock(&q->lock);
    if (!ret && repair && !n->read_only) {
        q->free_hint = 0;
        ret = qcow2_flush_cache(n);
        if (!ret)
            ret = clear_marks(q, out);
        if (!ret)
            ret = node_flush(q->file);
    }
    g_free(c.count);
    if (ret)
        return error_set_errno(err, -ret, NULL, "'%s' cannot be checked", n->filename);
    return true;
}
