/* qcow2: consistency. All references are counted into a table in memory and compared with the refcounts; on request
 * the refcounts are mended: leaks are freed, counts that are too small are raised, and where the refcount blocks
 * themselves cannot be trusted all of them are written anew. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/format/qcow2.h"

/* Bounds of what an image can make us do. Counts take 4 bytes a cluster: 4 GiB are 64 TiB of file in clusters of 64 KiB. Each L2
 * table of an L1 table has a place of its own in the file; a few may be named twice by mistake. */
enum { CENSUS_MAX_CLUSTERS = 1 << 30, TABLES_TWICE = 64 };

struct census {
    struct qcow2 *q;
    struct block_check *out;
    uint32_t *count;            /* references a cluster */
    uint64_t clusters;          /* of the file */
    uint64_t last_host;         /* of the data cluster before, for fragmentation */
    bool rebuild;               /* the refcount blocks overlap something, or lie outside */
    bool outside;               /* something refers to what lies behind the file's end */
};

static int census_begin(struct census *c)
{
    c->clusters = clusters_of(c->q, c->q->file->size);
    if (c->clusters > CENSUS_MAX_CLUSTERS)
        return -EFBIG;
    c->count = g_try_new0(uint32_t, MAX(c->clusters, 1));
    return c->count ? 0 : -ENOMEM;
}

/* References a range of the file; false: it lies outside. */
static bool census_add(void *arg, uint64_t offset, uint64_t bytes)
{
    struct census *c = arg;
    uint64_t first = offset >> c->q->cluster_bits, last;

    if (!bytes)
        return true;
    if (bytes > INT64_MAX || offset > INT64_MAX - bytes)
        goto outside;
    last = (offset + bytes - 1) >> c->q->cluster_bits;
    if (last >= c->clusters)
        goto outside;
    for (uint64_t i = first; i <= last; i++)
        if (c->count[i] < UINT32_MAX)
            c->count[i]++;
    return true;
outside:
    c->outside = true;
    c->out->errors++;
    return false;
}

static void census_place(struct census *c, uint64_t offset, bool active)
{
    struct qcow2 *q = c->q;

    if (!q->data_external)
        census_add(c, offset, q->cluster_size);
    if (!active)
        return;
    c->out->allocated_clusters++;
    if (c->last_host && offset != c->last_host + q->cluster_size)
        c->out->fragmented_clusters++;
    c->last_host = offset;
}

static void census_entry(struct census *c, struct l2_entry v, bool active)
{
    struct qcow2 *q = c->q;
    uint64_t offset, bytes;

    for (unsigned sub = 0; q->extended && sub < QCOW2_SUBCLUSTERS; sub++) {
        if (qcow2_sub_kind(q, v, sub) == QCOW2_BAD) {
            c->out->errors++;
            break;
        }
    }
    switch (qcow2_kind(q, v.desc)) {
    case QCOW2_NORMAL:
    case QCOW2_ZERO_ALLOC:
        census_place(c, v.desc & QCOW2_OFFSET_MASK, active);
        break;
    case QCOW2_COMPRESS:
        qcow2_compressed_range(q, v.desc, &offset, &bytes);
        bytes = MIN(bytes, offset < q->file->size ? q->file->size - offset : bytes);
        census_add(c, offset, bytes);
        if (active) {
            c->out->allocated_clusters++;
            c->out->compressed_clusters++;
            c->out->fragmented_clusters++;
        }
        break;
    case QCOW2_BAD:
        c->out->errors += !q->extended;         /* counted above */
        break;
    default:
        break;
    }
}

/* An L1 table and all below it. */
static int census_l1(struct census *c, const uint64_t *l1, uint32_t entries, uint64_t offset, bool active)
{
    struct qcow2 *q = c->q;
    void *l2 = node_buffer(q->file, q->cluster_size);
    uint64_t tables = 0;
    int ret = l2 ? 0 : -ENOMEM;

    census_add(c, offset, entries * 8ull);
    for (uint32_t i = 0; i < entries && !ret; i++) {
        uint64_t table = l1[i] & QCOW2_OFFSET_MASK;

        if (!table)
            continue;
        if ((table & (q->cluster_size - 1)) || table + q->cluster_size > c->clusters << q->cluster_bits) {
            c->outside = true;
            c->out->errors++;
            continue;
        }
        if (++tables > c->clusters + TABLES_TWICE) {
            ret = -ELOOP;
            break;
        }
        census_add(c, table, q->cluster_size);
        ret = node_pread(q->file, table, l2, q->cluster_size);
        for (uint64_t k = 0; k < 1ull << q->l2_bits && !ret; k++)
            census_entry(c, l2_load(q, l2, k), active);
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

/* After everything else, so that what they overlap has been seen. */
static void census_refcounts(struct census *c)
{
    struct qcow2 *q = c->q;

    census_add(c, 0, q->cluster_size);
    census_add(c, q->reftable_offset, (uint64_t)q->reftable_clusters << q->cluster_bits);
    for (uint32_t i = 0; i < q->reftable_entries; i++) {
        uint64_t block = q->reftable[i];

        if (!block)
            continue;
        if (block & (q->cluster_size - 1)) {
            c->out->errors++;
            c->rebuild = true;
        } else if (!census_add(c, block, q->cluster_size) || c->count[block >> q->cluster_bits] > 1) {
            c->rebuild = true;
        }
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
    if (repair & (leak ? BLOCK_FIX_LEAKS : BLOCK_FIX_ERRORS))
        ret = qcow2_refcount_set(q, cluster, want);
    if (ret)
        leak ? c->out->leaks++ : c->out->errors++;
    else
        leak ? c->out->leaks_fixed++ : c->out->errors_fixed++;
    return 0;
}

/* Of the table's blocks that count clusters behind the file's end: none, one outside the file, or one named before. The least file
 * can name more of them than anybody could look at. */
static bool block_is_odd(const struct census *c, uint64_t block)
{
    return !block || block >> c->q->cluster_bits >= c->clusters || c->count[block >> c->q->cluster_bits] > 1;
}

static int compare_all(struct census *c, unsigned repair)
{
    struct qcow2 *q = c->q;
    uint64_t have, limit = MIN((uint64_t)q->reftable_entries << q->refblock_bits, 1ull << (56 - q->cluster_bits));
    int ret = 0;

    if (c->outside)                     /* of a file that was cut off: what is gone must not be given to others */
        limit = c->clusters;
    for (uint64_t i = 0; i < MAX(c->clusters, limit) && !ret; i++) {
        uint64_t want = i < c->clusters ? c->count[i] : 0;

        if (i >= c->clusters && block_is_odd(c, q->reftable[i >> q->refblock_bits])) {
            i |= (1ull << q->refblock_bits) - 1;
            continue;
        }
        ret = qcow2_refcount_get(q, i, &have);
        if (ret) {                      /* a block that cannot be read */
            c->out->check_errors++;
            c->rebuild = true;
            ret = ret == -EIO && q->corrupt ? ret : 0;
            continue;
        }
        if (want && !have && (i >> q->refblock_bits >= q->reftable_entries || !q->reftable[i >> q->refblock_bits]))
            c->rebuild = true;          /* there is no block to count in */
        if (want || have)
            c->out->end_offset = (i + 1) << q->cluster_bits;
        ret = compare_one(c, i, have, want, repair);
    }
    return ret;
}

/* ---- COPIED says that there is one reference, and lets it be written in place */

/* Set though there are more: an error. Missing: a copy is made for nothing; an error too, as the format has it, but
 * not where the count is too high as well, for then it is the leak that is wrong. */
static bool copied_wrong(struct census *c, uint64_t desc)
{
    uint64_t cluster = (desc & QCOW2_OFFSET_MASK) >> c->q->cluster_bits, have;

    if (cluster >= c->clusters)
        return false;
    if (desc & QCOW2_COPIED)
        return c->count[cluster] != 1;
    return c->count[cluster] == 1 && !qcow2_refcount_get(c->q, cluster, &have) && have == 1;
}

static int check_copied(struct census *c, uint64_t *wrong)
{
    struct qcow2 *q = c->q;
    void *l2 = node_buffer(q->file, q->cluster_size);
    int ret = l2 ? 0 : -ENOMEM;

    for (uint32_t i = 0; i < q->l1_size && !ret; i++) {
        uint64_t table = q->l1[i] & QCOW2_OFFSET_MASK;

        if (!table || (table >> q->cluster_bits) >= c->clusters || (table & (q->cluster_size - 1)))
            continue;
        *wrong += copied_wrong(c, q->l1[i]);
        ret = node_pread(q->file, table, l2, q->cluster_size);
        for (uint64_t k = 0; k < 1ull << q->l2_bits && !ret && !q->data_external; k++) {
            uint64_t desc = l2_load(q, l2, k).desc;
            enum qcow2_kind kind = qcow2_kind(q, desc);

            if (kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOC)
                *wrong += copied_wrong(c, desc);
        }
    }
    free(l2);
    return ret;
}

/* Without the refcount blocks and table: those are made anew. */
static int census_data(struct census *c)
{
    struct qcow2 *q = c->q;
    int ret = census_l1(c, q->l1, q->l1_size, q->l1_offset, true);

    if (!ret)
        ret = census_snapshots(c);
    if (!ret && q->bitmap_count)
        ret = qcow2_bitmaps_walk(q, census_add, c);
    if (q->crypt_offset)
        census_add(c, q->crypt_offset, q->crypt_length);
    return ret;
}

static int census_take(struct census *c)
{
    int ret = census_data(c);

    if (!ret)
        census_refcounts(c);
    return ret;
}

/* ---- refcounts made anew */

/* New blocks and a new table behind the end of the file, as the census has it; then the header names them. The old
 * ones are not referenced any more. */
static int rebuild(struct census *c, unsigned order)
{
    struct qcow2 *q = c->q;
    uint64_t per_block = q->cluster_size * 8 >> order, first = c->clusters, blocks = 1, table_clusters = 1, all;
    struct { uint64_t offset; uint32_t clusters; unsigned order; } old = { q->reftable_offset, q->reftable_clusters, q->refcount_order };
    void *block = node_buffer(q->file, q->cluster_size);
    g_autofree uint64_t *table = NULL;
    int ret = block ? 0 : -ENOMEM;

    for (;;) {
        uint64_t b, t;

        all = first + blocks + table_clusters;
        b = (all + per_block - 1) / per_block;
        t = clusters_of(q, b * 8);
        if (b <= blocks && t <= table_clusters)
            break;
        blocks = b;
        table_clusters = t;
    }
    if (table_clusters << q->cluster_bits > QCOW2_MAX_REFTABLE_BYTES)
        ret = -EFBIG;
    table = g_malloc0(table_clusters << q->cluster_bits);
    for (uint64_t b = 0; b < blocks && !ret; b++) {
        memset(block, 0, q->cluster_size);
        for (uint64_t i = b * per_block; i < MIN(all, (b + 1) * per_block) && !ret; i++) {
            uint64_t want = i < first ? c->count[i] : 1;

            if (want > refcount_max(order))
                ret = -EOVERFLOW;
            else
                refcount_write(block, order, i - b * per_block, want);
        }
        be64_put(&table[b], (first + b) << q->cluster_bits);
        if (!ret)
            ret = node_pwrite(q->file, (first + b) << q->cluster_bits, block, q->cluster_size);
    }
    free(block);
    if (!ret)
        ret = node_pwrite(q->file, (first + blocks) << q->cluster_bits, table, table_clusters << q->cluster_bits);
    if (ret)
        return ret;
    q->reftable_offset = (first + blocks) << q->cluster_bits;
    q->reftable_clusters = table_clusters;
    q->refcount_order = order;
    if (!qcow2_header_update(q, NULL)) {        /* place and width stand in one sector */
        q->reftable_offset = old.offset;
        q->reftable_clusters = old.clusters;
        q->refcount_order = old.order;
        return -EIO;
    }
    meta_cache_empty(&q->refblocks);
    q->refblock_bits = q->cluster_bits + 3 - order;
    q->reftable_entries = table_clusters << (q->cluster_bits - 3);
    g_free(q->reftable);
    q->reftable = g_steal_pointer(&table);
    for (uint32_t i = 0; i < q->reftable_entries; i++)
        q->reftable[i] = GUINT64_FROM_BE(q->reftable[i]);
    q->fresh_start = MAX(q->fresh_start, all << q->cluster_bits);
    q->free_hint = 0;
    return 0;
}

int qcow2_refcounts_rebuild(struct qcow2 *q, unsigned order)
{
    struct block_check out = { 0 };
    struct census c = { .q = q, .out = &out };
    int ret = qcow2_flush_cache(q->node);

    for (int i = 0; i < 2 && !ret; i++)         /* what is freed, and its counts */
        ret = qcow2_flush_cache(q->node);
    if (!ret)
        ret = census_begin(&c);
    if (!ret)
        ret = census_data(&c);
    if (!ret)
        census_add(&c, 0, q->cluster_size);
    if (!ret && out.errors)
        ret = -EIO;             /* mend it first */
    if (!ret)
        ret = rebuild(&c, order);
    g_free(c.count);
    return ret;
}

/* After the whole census: what the old blocks and table took is not counted any more. */
static int rebuild_without(struct census *c)
{
    struct qcow2 *q = c->q;

    for (uint32_t i = 0; i < q->reftable_entries; i++) {
        uint64_t cluster = q->reftable[i] >> q->cluster_bits;

        if (q->reftable[i] && !(q->reftable[i] & (q->cluster_size - 1)) && cluster < c->clusters && c->count[cluster])
            c->count[cluster]--;
    }
    for (uint32_t i = 0; i < q->reftable_clusters; i++)
        c->count[(q->reftable_offset >> q->cluster_bits) + i]--;
    return rebuild(c, q->refcount_order);
}

/* ---- one pass, as often as a repair needs */

static int pass(struct qcow2 *q, unsigned repair, struct block_check *out, uint64_t *wrong, bool *again)
{
    struct census c = { .q = q, .out = out };
    int ret;

    *wrong = 0;
    *out = (struct block_check){ .total_clusters = clusters_of(q, q->node->size) };
    ret = census_begin(&c);
    if (!ret)
        ret = census_take(&c);
    co_mutex_lock(&q->lock);
    if (!ret)
        ret = check_copied(&c, wrong);
    if (!ret && !(c.rebuild && (repair & BLOCK_FIX_ERRORS)))
        ret = compare_all(&c, repair);
    *again = false;
    co_mutex_unlock(&q->lock);
    if (!ret && c.rebuild && (repair & BLOCK_FIX_ERRORS)) {
        q->corrupt = false;
        *again = true;
        ret = rebuild_without(&c);
    }
    g_free(c.count);
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

/* The counts on disk first, then the flags that rest on them. */
static int repair_flags(struct qcow2 *q, unsigned repair, struct block_check *out, uint64_t wrong)
{
    int ret = qcow2_flush_cache(q->node);

    if (repair & BLOCK_FIX_ERRORS)
        out->errors_fixed += wrong;
    else
        out->errors += wrong;
    q->free_hint = 0;
    if (!ret && ((repair & BLOCK_FIX_ERRORS) || out->leaks_fixed))
        ret = qcow2_copied_update(q, NULL);
    return ret ? ret : qcow2_flush_cache(q->node);
}

static int check_exclusive(struct qcow2 *q, unsigned repair, struct block_check *out)
{
    uint64_t wrong = 0, rebuilt = 0;
    bool again = true;
    int ret = q->node->read_only ? 0 : qcow2_flush_cache(q->node);

    for (int i = 0; i < 3 && again && !ret; i++) {
        ret = pass(q, repair, out, &wrong, &again);
        rebuilt += again;
    }
    if (ret)
        return ret;
    out->errors_fixed += rebuilt;
    if (!repair || q->node->read_only) {
        out->errors += wrong;
        return 0;
    }
    ret = repair_flags(q, repair, out, wrong);
    if (!ret)
        ret = clear_marks(q, out);
    return ret ? ret : node_flush(q->file);
}

bool qcow2_check(struct block_node *n, unsigned repair, struct block_check *out, struct error *err)
{
    struct qcow2 *q = n->state;
    int ret;

    qcow2_exclusive_begin(q);
    ret = check_exclusive(q, repair, out);
    qcow2_exclusive_end(q);
    if (ret)
        return error_set_errno(err, -ret, ret == -EFBIG ? "its file has more clusters than can be counted: copy it with rhea-img convert"
                               : ret == -ELOOP ? "its L1 table names the same L2 tables again and again" : NULL,
                               "'%s' cannot be checked", n->filename);
    return true;
}
