/* qcow2: changing what an image is, in place, and measuring one that is not there yet. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/format/qcow2.h"
#include "rhea/base/options.h"
#include "rhea/block/bitmap.h"

const char *const qcow2_amend_options[] = { "compat", "lazy_refcounts", "refcount_bits", "backing_file", "backing_fmt", "size",
                                            "data_file", "data_file_raw", "cluster_size", "compression_type", "extended_l2",
                                            "preallocation", "encrypt.state", "encrypt.new-secret", "encrypt.old-secret",
                                            "encrypt.keyslot", "encrypt.iter-time", "encrypt.format", NULL };

/* ---- amend */

struct amend {
    struct block_node *n;
    struct qcow2 *q;
    block_progress_fn *progress;
    void *arg;
    unsigned version, refcount_order;
    bool lazy;
};

/* Version 2 has no zero flag: without a backing image "unallocated" says the same, else zeroes are written. */
static int zeroes_expand(struct amend *a)
{
    struct qcow2 *q = a->q;
    g_autofree uint8_t *zero = g_malloc0(q->cluster_size);
    struct iovec iov = { zero, q->cluster_size };
    int ret = 0;

    for (uint64_t off = 0, bytes; off < a->n->size && !ret; off += bytes) {
        struct qcow2_mapping m = { .bytes = a->n->size - off };

        ret = qcow2_map(q, off, &m);
        if (ret)
            break;
        qcow2_epoch_end(&q->epochs[m.epoch]);
        bytes = m.bytes;
        if (m.kind != QCOW2_ZERO_PLAIN && m.kind != QCOW2_ZERO_ALLOC)
            continue;
        bytes = MIN((bytes + q->cluster_size - 1) & ~(q->cluster_size - 1), 64 * q->cluster_size);
        if (!q->backing_name)
            ret = qcow2_zero_clusters(q, off, bytes, QCOW2_ZERO_FORGET);
        for (uint64_t at = 0; at < bytes && q->backing_name && !ret; at += q->cluster_size)
            ret = qcow2_write(q, off + at, q->cluster_size, &iov, 1);
        a->progress(a->arg, off, a->n->size);
    }
    return ret ? ret : qcow2_flush_cache(a->n);
}

static bool downgrade(struct amend *a, struct error *err)
{
    struct qcow2 *q = a->q;
    const char *why = q->data_external ? "an external data file" : q->extended ? "extended L2 entries"
                      : q->compression ? "zstd compression" : q->bitmap_count || a->n->bitmaps ? "dirty bitmaps"
                      : q->snapshot_count ? "snapshots" : a->refcount_order != 4 ? "refcounts that are not of 16 bits" : NULL;
    int ret;

    if (why)
        return error_setf(err, ERR_GENERIC, "rhea-img convert -o compat=0.10 makes another image",
                          "'%s' has %s, and can't become compat=0.10 in place", a->n->filename, why);
    ret = zeroes_expand(a);
    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot write '%s'", a->n->filename);
    q->incompatible = q->compatible = q->autoclear = 0;
    q->version = 2;
    return qcow2_header_update(q, err);
}

static bool parse_version(struct amend *a, struct json_object *opts, struct error *err)
{
    const char *compat = option_str(opts, "compat", NULL);

    a->version = !compat ? a->q->version : !strcmp(compat, "0.10") || !strcmp(compat, "v2") ? 2
                 : !strcmp(compat, "1.1") || !strcmp(compat, "v3") ? 3 : 0;
    return a->version || error_setf(err, ERR_GENERIC, "it is 0.10 (v2) or 1.1 (v3)", "Unknown compatibility level %s", compat);
}

/* What is fixed for the life of an image may be named, but not changed. */
static bool fixed_same(struct amend *a, struct json_object *opts, struct error *err)
{
    const struct qcow2 *q = a->q;
    uint64_t cluster;
    bool extended, raw;
    const char *comp = option_str(opts, "compression_type", NULL), *what = NULL;

    if (!option_size(opts, "cluster_size", q->cluster_size, &cluster, err) ||
        !option_bool(opts, "extended_l2", q->extended, &extended, err) ||
        !option_bool(opts, "data_file_raw", q->data_raw, &raw, err))
        return false;
    if (cluster != q->cluster_size)
        what = "cluster_size";
    else if (extended != q->extended)
        what = "extended_l2";
    else if (comp && strcmp(comp, q->compression == QCOW2_ZSTD ? "zstd" : "zlib"))
        what = "compression_type";
    else if (raw != q->data_raw)
        what = "data_file_raw";
    else if (option_str(opts, "preallocation", NULL))
        what = "preallocation";
    return !what || error_setf(err, ERR_GENERIC, "rhea-img convert makes another image", "Changing %s is not supported", what);
}

static bool amend_parse(struct amend *a, struct json_object *opts, struct error *err)
{
    const struct qcow2 *q = a->q;
    int64_t bits;

    if (!parse_version(a, opts, err) || !fixed_same(a, opts, err) ||
        !option_bool(opts, "lazy_refcounts", a->version >= 3 && (q->compatible & QCOW2_COMPAT_LAZY_REFCOUNTS), &a->lazy, err) ||
        !option_int(opts, "refcount_bits", 1 << q->refcount_order, &bits, err))
        return false;
    if (bits < 1 || bits > 64 || (bits & (bits - 1)))
        return error_set(err, ERR_GENERIC, "Refcount width must be a power of two and may not exceed 64 bits", NULL);
    a->refcount_order = __builtin_ctzll(bits);
    if (a->version < 3 && (bits != 16 || a->lazy))
        return error_set(err, ERR_GENERIC, "refcount_bits other than 16 and lazy_refcounts need compat=1.1", NULL);
    if (option_str(opts, "data_file", NULL) && !q->data_external)
        return error_set(err, ERR_GENERIC, "data_file can only be set for images that use an external data file", NULL);
    return true;
}

static bool amend_refcounts(struct amend *a, struct error *err)
{
    int ret;

    qcow2_exclusive_begin(a->q);
    ret = qcow2_refcounts_rebuild(a->q, a->refcount_order);
    qcow2_exclusive_end(a->q);
    if (ret == -EOVERFLOW)
        return error_setf(err, ERR_GENERIC, "delete snapshots first", "a reference count does not fit %u bits", 1u << a->refcount_order);
    return !ret || error_set_errno(err, -ret, NULL, "cannot change the refcounts of '%s'", a->n->filename);
}

static bool amend_header(struct amend *a, struct json_object *opts, struct error *err)
{
    struct qcow2 *q = a->q;
    const char *data = option_str(opts, "data_file", NULL);

    if (a->version >= 3) {
        q->version = 3;
        q->compatible = (q->compatible & ~(uint64_t)QCOW2_COMPAT_LAZY_REFCOUNTS) | (a->lazy ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0);
    }
    if (data) {
        g_free(q->data_name);
        q->data_name = *data ? g_strdup(data) : NULL;
    }
    return qcow2_header_update(q, err);
}

bool qcow2_amend(struct block_node *n, struct json_object *opts, bool force, block_progress_fn *progress, void *arg, struct error *err)
{
    struct amend a = { .n = n, .q = n->state, .progress = progress, .arg = arg };
    const char *backing = option_str(opts, "backing_file", NULL);
    uint64_t size;

    if (!amend_parse(&a, opts, err) || !option_size(opts, "size", n->size, &size, err))
        return false;
    if (qcow2_crypt_amends(opts))
        return qcow2_crypt_amend(a.q, opts, force, err);
    if (a.version >= 3 && !amend_header(&a, opts, err))         /* first, for what it allows */
        return false;
    if (a.refcount_order != a.q->refcount_order && !amend_refcounts(&a, err))
        return false;
    if ((backing || option_str(opts, "backing_fmt", NULL)) &&
        !n->drv->change_backing(n, backing ? backing : a.q->backing_name, option_str(opts, "backing_fmt", a.q->backing_format), err))
        return false;
    if (size != n->size && node_truncate(n, size, err))
        return false;
    return a.version >= 3 || a.q->version == 2 || downgrade(&a, err);
}

/* ---- measure */

static uint64_t div_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* Bytes of refcount blocks and table that count `clusters` and themselves. */
static uint64_t refcount_bytes(uint64_t clusters, uint64_t cs, unsigned order)
{
    uint64_t per_block = cs * 8 >> order, blocks = 0, table = 0, last;

    do {
        last = blocks + table;
        blocks = div_up(clusters + last, per_block);
        table = div_up(blocks, cs / 8);
    } while (blocks + table != last);
    return (blocks + table) * cs;
}

/* Clusters that hold data, zeroes not counted. */
static int data_clusters(struct block_node *source, uint64_t cs, uint64_t *out)
{
    uint64_t counted = 0, n, map;       /* bytes up to which clusters are counted */
    struct block_node *file;
    int depth;

    *out = 0;
    for (uint64_t off = 0; off < source->size; off += n) {
        int status = node_status_above(source, off, source->size - off, &n, &map, &file, &depth, true);

        if (status < 0)
            return status;
        if (!(status & STATUS_ZERO) && (status & STATUS_DATA)) {
            uint64_t from = MAX(off & ~(cs - 1), counted), to = (off + n + cs - 1) & ~(cs - 1);

            *out += to > from ? (to - from) / cs : 0;
            counted = MAX(counted, to);
        }
    }
    return 0;
}

static uint64_t bitmaps_bytes(struct block_node *source, uint64_t cs)
{
    uint64_t total = 0, directory = 0;

    for (struct dirty_bitmap *b = source->bitmaps; b; b = b->next) {
        uint64_t clusters = div_up(div_up(b->bits, 8), cs);

        if (!b->persistent || b->inconsistent)
            continue;
        total += clusters * cs + div_up(clusters * 8, cs) * cs;
        directory += (24 + strlen(b->name) + 7) & ~7ull;
    }
    return total + div_up(directory, cs) * cs;
}

bool qcow2_measure(struct json_object *opts, struct block_node *source, struct block_measure *out, struct error *err)
{
    uint64_t size, cs, l2, l1, meta, data = 0;
    bool extended;
    const char *mode = option_str(opts, "preallocation", "off");
    int64_t bits;
    int ret;

    if (!option_bool(opts, "extended_l2", false, &extended, err) ||
        !option_size(opts, "cluster_size", 64 << 10, &cs, err) ||
        !option_int(opts, "refcount_bits", 16, &bits, err) || !option_size(opts, "size", source ? (uint64_t)source->size : 0, &size, err))
        return false;
    if (cs < 512 || cs > 2 << 20 || (cs & (cs - 1)) || bits < 1 || bits > 64 || (bits & (bits - 1)) || size > INT64_MAX - cs)
        return error_set(err, ERR_GENERIC, "cluster_size, refcount_bits or size cannot be had", NULL);
    size = (size + cs - 1) & ~(cs - 1);
    l2 = div_up(size / cs, cs >> (extended ? 4 : 3));
    if (l2 * 8 > QCOW2_MAX_L1_BYTES)
        return error_setf(err, ERR_GENERIC, "use a larger cluster_size", "The image size is too large for clusters of %" PRIu64 " bytes", cs);
    l1 = div_up(l2 * 8, cs) * cs;
    meta = cs + l2 * cs + l1;
    meta += refcount_bytes((meta + size) / cs, cs, __builtin_ctzll(bits));
    if (source && (ret = data_clusters(source, cs, &data)))
        return error_set_errno(err, -ret, NULL, "cannot read '%s'", source->filename);
    out->fully_allocated = meta + size;
    out->required = meta + (!strcmp(mode, "falloc") || !strcmp(mode, "full") ? size : data * cs);
    out->has_bitmaps = source && source->drv->bitmap_can_store;
    out->bitmaps = out->has_bitmaps ? bitmaps_bytes(source, cs) : 0;
    return true;
}
