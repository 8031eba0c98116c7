/* qcow2: reference counts and the allocation of clusters. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "block/format/qcow2.h"
#include "block/graph.h"
#include "rhea/vm/vm.h"

/* ---- counts of 1 to 64 bits; those below a byte start at its least significant bit */

uint64_t refcount_read(const void *block, unsigned order, uint64_t index)
{
    const uint8_t *p = block;

    switch (order) {
    case 0: return p[index / 8] >> (index % 8) & 1;
    case 1: return p[index / 4] >> (2 * (index % 4)) & 3;
    case 2: return p[index / 2] >> (4 * (index % 2)) & 15;
    case 3: return p[index];
    case 4: return GUINT16_FROM_BE(((uint16_t *)block)[index]);
    case 5: return GUINT32_FROM_BE(((uint32_t *)block)[index]);
    default: return GUINT64_FROM_BE(((uint64_t *)block)[index]);
    }
}

static void bits_write(uint8_t *p, unsigned bits, uint64_t index, uint64_t value)
{
    unsigned per_byte = 8 / bits, shift = bits * (index % per_byte);
    uint8_t mask = ((1u << bits) - 1) << shift;

    p[index / per_byte] = (p[index / per_byte] & ~mask) | value << shift;
}

void refcount_write(void *block, unsigned order, uint64_t index, uint64_t value)
{
    switch (order) {
    case 0:
    case 1:
    case 2: bits_write(block, 1u << order, index, value); break;
    case 3: ((uint8_t *)block)[index] = value; break;
    case 4: ((uint16_t *)block)[index] = GUINT16_TO_BE(value); break;
    case 5: ((uint32_t *)block)[index] = GUINT32_TO_BE(value); break;
    default: ((uint64_t *)block)[index] = GUINT64_TO_BE(value); break;
    }
}

/* ---- corruption */

int qcow2_header_write(struct qcow2 *q, unsigned at, const void *data, unsigned bytes)
{
    return node_pwrite(q->file, at, data, bytes);
}

static void corrupt_event(struct qcow2 *q, const char *text)
{
    struct json_object *o;

    if (!q->node->graph->vm)
        return;
    o = json_object_new_object();
    json_object_object_add(o, "device", json_object_new_string(""));    /* the node is what we know */
    json_object_object_add(o, "node-name", json_object_new_string(q->node->name));
    json_object_object_add(o, "msg", json_object_new_string(text));
    json_object_object_add(o, "fatal", json_object_new_boolean(!q->node->read_only));
    vm_event(q->node->graph->vm, "BLOCK_IMAGE_CORRUPTED", o);
}

void qcow2_set_corrupt(struct qcow2 *q, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    uint64_t be;
    va_list ap;

    if (q->corrupt)
        return;
    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    q->corrupt = true;
    warn_report("%s: the image is corrupt (%s)%s", q->file->filename, text,
                q->node->read_only ? "" : "; no more is written to it: rhea-img check -r all may mend it");
    corrupt_event(q, text);
    if (q->node->read_only || q->version < 3)
        return;
    q->incompatible |= QCOW2_INCOMPAT_CORRUPT;
    be = GUINT64_TO_BE(q->incompatible);
    qcow2_header_write(q, QCOW2_H_INCOMPAT, &be, 8);
}

static bool ranges_meet(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

bool qcow2_overlaps_metadata(const struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    return offset < q->cluster_size || ranges_meet(offset, bytes, q->l1_offset, q->l1_size * 8ull) ||
           ranges_meet(offset, bytes, q->reftable_offset, (uint64_t)q->reftable_clusters << q->cluster_bits) ||
           (q->crypt_length && ranges_meet(offset, bytes, q->crypt_offset, q->crypt_length)) ||
           (q->snapshots_size && ranges_meet(offset, bytes, q->snapshots_offset, q->snapshots_size));
}

/* ---- refcount blocks */

/* Slice of the refcount block for `cluster`, pinned, and the index in it; *out NULL: there is none, all counts 0. */
static int refslice_get(struct qcow2 *q, uint64_t cluster, struct meta_entry **out, uint64_t *index)
{
    uint64_t table_index = cluster >> q->refblock_bits, block, in_block, per_slice;

    *out = NULL;
    if (table_index >= q->reftable_entries)
        return 0;
    block = q->reftable[table_index];
    if (!block)
        return 0;
    if ((block & (q->cluster_size - 1)) || block > INT64_MAX - q->cluster_size) {
        qcow2_set_corrupt(q, "refcount block %#" PRIx64 " is not aligned", block);
        return -EIO;
    }
    in_block = cluster & ((1ull << q->refblock_bits) - 1);
    per_slice = (uint64_t)q->refblocks.slice * 8 >> q->refcount_order;
    *index = in_block % per_slice;
    return meta_get(q, &q->refblocks, block + in_block / per_slice * q->refblocks.slice, true, out);
}

int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *value)
{
    struct meta_entry *e;
    uint64_t index;
    int ret = refslice_get(q, cluster, &e, &index);

    *value = 0;
    if (ret || !e)
        return ret;
    *value = refcount_read(e->data, q->refcount_order, index);
    meta_put(e);
    return 0;
}

static void refslice_store(struct qcow2 *q, struct meta_entry *e, uint64_t index, uint64_t value)
{
    uint64_t bit = index << q->refcount_order;

    refcount_write(e->data, q->refcount_order, index, value);
    meta_dirty(&q->refblocks, e, bit / 8, MAX(1u, (1u << q->refcount_order) / 8));
}

int qcow2_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t value)
{
    struct meta_entry *e;
    uint64_t index;
    int ret = refslice_get(q, cluster, &e, &index);

    if (ret)
        return ret;
    if (!e || value > refcount_max(q->refcount_order))
        ret = -EINVAL;
    else
        refslice_store(q, e, index, value);
    if (!ret && !value)
        q->free_hint = MIN(q->free_hint, cluster);
    if (e)
        meta_put(e);
    return ret;
}

int qcow2_refcount_add(struct qcow2 *q, uint64_t offset, uint64_t clusters, int delta)
{
    uint64_t cluster = offset >> q->cluster_bits, index, value;
    struct meta_entry *e;
    int ret = 0;

    for (; clusters; clusters--, cluster++) {
        ret = refslice_get(q, cluster, &e, &index);
        if (ret)
            return ret;
        value = e ? refcount_read(e->data, q->refcount_order, index) : 0;
        if (delta < 0 && !value) {
            qcow2_set_corrupt(q, "cluster %#" PRIx64 " is freed twice", cluster << q->cluster_bits);
            ret = -EIO;
        } else if (!e || (delta > 0 && value == refcount_max(q->refcount_order))) {
            ret = -EINVAL;
        } else {
            refslice_store(q, e, index, value + delta);
            if (value + delta == 0)
                q->free_hint = MIN(q->free_hint, cluster);
        }
        if (e)
            meta_put(e);
        if (ret)
            return ret;
    }
    return 0;
}

/* ---- new refcount blocks. Rare (one for 2 GiB of file by default), so they are written at once. */

static void claim_fresh(struct qcow2 *q, uint64_t first, uint64_t clusters)
{
    q->fresh_start = MAX(q->fresh_start, (first + clusters) << q->cluster_bits);
}

/* A block for the range that `cluster` lies in, placed at `cluster`, which is free as its whole range is. */
static int refblock_new(struct qcow2 *q, uint64_t cluster)
{
    uint64_t offset = cluster << q->cluster_bits, table_index = cluster >> q->refblock_bits,
             be = GUINT64_TO_BE(offset);
    void *block = node_buffer(q->file, q->cluster_size);
    int ret;

    if (!block)
        return -ENOMEM;
    memset(block, 0, q->cluster_size);
    refcount_write(block, q->refcount_order, cluster & ((1ull << q->refblock_bits) - 1), 1);
    ret = node_pwrite(q->file, offset, block, q->cluster_size);
    free(block);
    if (!ret)
        ret = node_flush(q->file);
    if (!ret)
        ret = node_pwrite(q->file, q->reftable_offset + table_index * 8, &be, 8);
    if (ret)
        return ret;
    meta_drop(&q->refblocks, offset, q->cluster_size);
    q->reftable[table_index] = offset;
    claim_fresh(q, cluster, 1);
    return 0;
}

struct growth { uint64_t first, blocks, table_clusters, entries; };

/* From `cluster` on: refcount blocks that cover themselves and the new table, then the table. */
static int growth_plan(struct qcow2 *q, uint64_t cluster, struct growth *g)
{
    uint64_t per_block = 1ull << q->refblock_bits, needed = (cluster >> q->refblock_bits) + 1;

    g->first = cluster;
    g->blocks = 1;
    for (;;) {
        uint64_t last;

        g->entries = MAX(needed + g->blocks, q->reftable_entries + q->reftable_entries / 2);
        g->table_clusters = clusters_of(q, g->entries * 8);
        g->entries = g->table_clusters << (q->cluster_bits - 3);
        last = cluster + g->blocks + g->table_clusters - 1;
        if ((last >> q->refblock_bits) - (cluster >> q->refblock_bits) + 1 <= g->blocks)
            break;
        g->blocks = (last >> q->refblock_bits) - (cluster >> q->refblock_bits) + 1;
        if (g->blocks > per_block)
            return -EFBIG;
    }
    return g->entries * 8 > QCOW2_MAX_REFTABLE_BYTES ? -EFBIG : 0;
}

static int growth_write(struct qcow2 *q, const struct growth *g, uint64_t *table)
{
    uint64_t end = g->first + g->blocks + g->table_clusters, first_index = g->first >> q->refblock_bits;
    void *block = node_buffer(q->file, q->cluster_size);
    g_autofree uint64_t *be = g_new0(uint64_t, g->entries);
    int ret = block ? 0 : -ENOMEM;

    for (uint64_t b = 0; b < g->blocks && !ret; b++) {
        uint64_t base = (first_index + b) << q->refblock_bits;

        memset(block, 0, q->cluster_size);
        for (uint64_t c = MAX(base, g->first); c < MIN(end, base + (1ull << q->refblock_bits)); c++)
            refcount_write(block, q->refcount_order, c - base, 1);
        table[first_index + b] = (g->first + b) << q->cluster_bits;
        meta_drop(&q->refblocks, table[first_index + b], q->cluster_size);
        ret = node_pwrite(q->file, table[first_index + b], block, q->cluster_size);
    }
    free(block);
    for (uint64_t i = 0; i < g->entries; i++)
        be[i] = GUINT64_TO_BE(table[i]);
    if (!ret)
        ret = node_pwrite(q->file, (g->first + g->blocks) << q->cluster_bits, be, g->entries * 8);
    return ret ? ret : node_flush(q->file);
}

/* The refcount table is full: a larger one, and the header changed to it in one write. */
static int reftable_grow(struct qcow2 *q, uint64_t cluster)
{
    uint64_t old_offset = q->reftable_offset, old_clusters = q->reftable_clusters, offset;
    g_autofree uint64_t *table = NULL;
    struct growth g;
    uint8_t field[12];
    uint32_t n32;
    int ret = growth_plan(q, cluster, &g);

    if (ret)
        return ret;
    table = g_new0(uint64_t, g.entries);
    memcpy(table, q->reftable, q->reftable_entries * 8ull);
    ret = growth_write(q, &g, table);
    if (ret)
        return ret;
    offset = GUINT64_TO_BE((g.first + g.blocks) << q->cluster_bits);
    n32 = GUINT32_TO_BE(g.table_clusters);
    memcpy(field, &offset, 8);
    memcpy(field + 8, &n32, 4);
    ret = qcow2_header_write(q, QCOW2_H_REFTABLE, field, 12);
    if (!ret)
        ret = node_flush(q->file);
    if (ret)
        return ret;
    g_free(q->reftable);
    q->reftable = g_steal_pointer(&table);
    q->reftable_entries = g.entries;
    q->reftable_clusters = g.table_clusters;
    q->reftable_offset = (g.first + g.blocks) << q->cluster_bits;
    claim_fresh(q, g.first, g.blocks + g.table_clusters);
    return qcow2_refcount_add(q, old_offset, old_clusters, -1);
}

/* ---- allocation */

/* Whether n clusters from `first` are free: 1; else 0, and *busy: where the next search may start. A refcount block
 * that has to be made takes a cluster in the middle: *cut is then how many are free before it. */
static int free_run(struct qcow2 *q, uint64_t first, uint64_t n, uint64_t *busy, uint64_t *cut)
{
    uint64_t c = first, value;
    int ret;

    *cut = 0;
    while (c < first + n) {
        uint64_t per_slice = (uint64_t)q->refblocks.slice * 8 >> q->refcount_order, index = 0;
        struct meta_entry *e;

        if (c >> q->refblock_bits >= q->reftable_entries)
            ret = reftable_grow(q, c);
        else if (!q->reftable[c >> q->refblock_bits])
            ret = refblock_new(q, c);
        else
            ret = 1;
        if (ret <= 0) {                 /* c is in use now, or there is no more */
            *busy = c + 1;
            *cut = c - first;
            return ret;
        }
        ret = refslice_get(q, c, &e, &index);
        if (ret)
            return ret;
        for (; index < per_slice && c < first + n; index++, c++) {
            value = refcount_read(e->data, q->refcount_order, index);
            if (value)
                break;
        }
        meta_put(e);
        if (index < per_slice && c < first + n) {
            *busy = c + 1;
            return 0;
        }
    }
    return 1;
}

static int alloc_run(struct qcow2 *q, uint64_t *count, bool exact, uint64_t *offset)
{
    uint64_t first = q->free_hint, busy = 0, cut, n = *count;
    bool first_gap = true;
    int ret;

    if (q->corrupt)
        return -EIO;
    if (exact && n >= 1ull << q->refblock_bits)     /* there may be a refcount block in every such run */
        return -EFBIG;
    for (;;) {
        if (first + n > 1ull << (56 - q->cluster_bits))
            return -EFBIG;
        ret = free_run(q, first, n, &busy, &cut);
        if (ret < 0)
            return ret;
        if (!ret && !exact && cut) {
            n = cut;
            break;
        }
        if (ret)
            break;
        if (busy == first + 1 && first_gap)
            q->free_hint = busy;        /* nothing free before */
        else
            first_gap = false;
        first = busy;
    }
    if (qcow2_overlaps_metadata(q, first << q->cluster_bits, n << q->cluster_bits)) {
        qcow2_set_corrupt(q, "refcounts call the image's own tables free");
        return -EIO;
    }
    for (uint64_t c = first; c < first + n; c++) {
        struct meta_entry *e;
        uint64_t index;

        ret = refslice_get(q, c, &e, &index);
        if (!ret && !e)
            ret = -EIO;
        if (ret)
            return ret;                 /* those before leak */
        refslice_store(q, e, index, 1);
        meta_put(e);
    }
    if (q->free_hint == first)
        q->free_hint = first + n;
    *offset = first << q->cluster_bits;
    *count = n;
    return 0;
}

int qcow2_alloc_clusters(struct qcow2 *q, uint64_t n, uint64_t *offset)
{
    return alloc_run(q, &n, true, offset);
}

int qcow2_alloc_some(struct qcow2 *q, uint64_t *n, uint64_t *offset)
{
    return alloc_run(q, n, false, offset);
}

int qcow2_alloc_bytes(struct qcow2 *q, uint64_t bytes, uint64_t *offset)
{
    uint64_t room = q->compressed_next ? -q->compressed_next & (q->cluster_size - 1) : 0,
             start = q->compressed_next, more, users;
    int ret;

    if (room && (qcow2_refcount_get(q, start >> q->cluster_bits, &users) || users >= refcount_max(q->refcount_order)))
        room = 0;                       /* narrow counts: no more can share this cluster */
    if (bytes <= room) {
        ret = qcow2_refcount_add(q, start, 1, 1);
        more = 0;
    } else {
        ret = qcow2_alloc_clusters(q, clusters_of(q, bytes - room), &more);
        if (ret)
            return ret;
        claim_fresh(q, more >> q->cluster_bits, clusters_of(q, bytes - room));
        if (room && more == start + room) {
            ret = qcow2_refcount_add(q, start, 1, 1);   /* goes on behind the last one */
        } else {
            start = more;
            if (room) {                 /* not in a row: a place of its own, from a new cluster */
                uint64_t extra = clusters_of(q, bytes) - clusters_of(q, bytes - room);

                if (extra) {
                    qcow2_refcount_add(q, more, clusters_of(q, bytes - room), -1);
                    ret = qcow2_alloc_clusters(q, clusters_of(q, bytes), &start);
                    if (!ret)
                        claim_fresh(q, start >> q->cluster_bits, clusters_of(q, bytes));
                }
            }
        }
    }
    if (ret)
        return ret;
    *offset = start;
    q->compressed_next = (start + bytes) & (q->cluster_size - 1) ? start + bytes : 0;
    return 0;
}

void qcow2_free_later(struct qcow2 *q, uint64_t offset)
{
    g_array_append_val(q->frees, offset);
}

/* The host clusters of an L2 entry that is overwritten. */
void qcow2_free_entry_later(struct qcow2 *q, uint64_t entry)
{
    uint64_t offset, bytes;

    if (q->data_external)
        return;                 /* not counted */
    switch (qcow2_kind(q, entry)) {
    case QCOW2_NORMAL:
    case QCOW2_ZERO_ALLOC:
        qcow2_free_later(q, entry & QCOW2_OFFSET_MASK);
        break;
    case QCOW2_COMPRESS:
        qcow2_compressed_range(q, entry, &offset, &bytes);
        for (uint64_t c = offset & ~(q->cluster_size - 1); c < offset + bytes; c += q->cluster_size) {
            if (q->compressed_next && (q->compressed_next & ~(q->cluster_size - 1)) == c)
                q->compressed_next = 0;         /* do not write behind what is going away */
            qcow2_free_later(q, c);
        }
        break;
    default:
        break;
    }
}
