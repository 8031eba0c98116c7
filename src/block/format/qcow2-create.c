/* qcow2: new images. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/format/qcow2.h"
#include "rhea/base/options.h"

const char *const qcow2_create_options[] = { "size", "backing_file", "backing_fmt", "cluster_size", "compat", "refcount_bits",
                                             "lazy_refcounts", "compression_type", "preallocation", "extended_l2",
                                             "encryption", "data_file", "nocow", NULL };

enum { EXT_BACKING_FORMAT = 0xe2792aca, EXT_FEATURES = 0x6803f857, HEADER_V3 = 112, HEADER_V2 = 72 };

struct plan {
    uint64_t size, cluster_size, l1_entries, l1_clusters, reftable_clusters, refblocks, total;
    unsigned cluster_bits, refcount_order, version, compression;
    bool lazy;
    const char *backing, *backing_format;
};

/* ---- what was asked for */

static bool plan_version(struct plan *p, struct json_object *opts, struct error *err)
{
    const char *compat = option_str(opts, "compat", "1.1");

    if (!strcmp(compat, "1.1") || !strcmp(compat, "v3"))
        p->version = 3;
    else if (!strcmp(compat, "0.10") || !strcmp(compat, "v2"))
        p->version = 2;
    else
        return error_setf(err, ERR_GENERIC, "it is 0.10 (v2) or 1.1 (v3)", "unknown compat '%s'", compat);
    return true;
}

static bool plan_refused(struct json_object *opts, struct error *err)
{
    const char *prealloc = option_str(opts, "preallocation", "off");
    bool extended;

    if (!option_bool(opts, "extended_l2", false, &extended, err))
        return false;
    if (extended)
        return error_set(err, ERR_GENERIC, "extended_l2 is not supported yet", "leave it out");
    if (option_str(opts, "encryption", NULL))
        return error_set(err, ERR_GENERIC, "encrypted images are not supported yet", "leave it out");
    if (option_str(opts, "data_file", NULL))
        return error_set(err, ERR_GENERIC, "external data files are not supported yet", "leave it out");
    if (strcmp(prealloc, "off") && strcmp(prealloc, "metadata") && strcmp(prealloc, "falloc") &&
        strcmp(prealloc, "full"))
        return error_setf(err, ERR_GENERIC, "it is off, metadata, falloc or full",
                          "unknown preallocation '%s'", prealloc);
    if (strcmp(prealloc, "off") && option_str(opts, "backing_file", NULL))
        return error_set(
            err, ERR_GENERIC,
            "Backing file and preallocation can only be used at the same time if extended_l2 is enabled",
            "leave preallocation out");
    return true;
}

static bool plan_parse(struct plan *p, struct json_object *opts, struct error *err)
{
    const char *comp = option_str(opts, "compression_type", "zlib");
    uint64_t cluster;
    int64_t bits;

    if (!plan_refused(opts, err) || !plan_version(p, opts, err) ||
        !option_size(opts, "size", 0, &p->size, err) ||
        !option_size(opts, "cluster_size", 65536, &cluster, err) ||
        !option_int(opts, "refcount_bits", 16, &bits, err) ||
        !option_bool(opts, "lazy_refcounts", false, &p->lazy, err))
        return false;
    if (cluster < 1u << QCOW2_MIN_CLUSTER_BITS || cluster > 1u << QCOW2_MAX_CLUSTER_BITS ||
        (cluster & (cluster - 1)))
        return error_set(err, ERR_GENERIC, "Cluster size must be a power of two between 512 and 2048k", NULL);
    if (bits < 1 || bits > 64 || (bits & (bits - 1)))
        return error_set(err, ERR_GENERIC, "Refcount width must be a power of two and may not exceed 64 bits",
                         NULL);
    if (strcmp(comp, "zlib") && strcmp(comp, "zstd"))
        return error_setf(err, ERR_GENERIC, "it is zlib or zstd", "unknown compression_type '%s'", comp);
    if (p->version < 3 && (bits != 16 || p->lazy || strcmp(comp, "zlib")))
        return error_set(err, ERR_GENERIC,
                         "refcount_bits, lazy_refcounts and compression_type need compat=1.1", NULL);
    p->cluster_size = cluster;
    p->cluster_bits = __builtin_ctzll(cluster);
    p->refcount_order = __builtin_ctzll(bits);
    p->compression = strcmp(comp, "zstd") ? QCOW2_ZLIB : QCOW2_ZSTD;
    p->size = (p->size + 511) & ~511ull;
    p->backing = option_str(opts, "backing_file", NULL);
    p->backing_format = option_str(opts, "backing_fmt", NULL);
    if (p->backing && strlen(p->backing) > 1023)
        return error_set(err, ERR_GENERIC, "the name of the backing file is longer than 1023 bytes", NULL);
    if (p->backing &&
        HEADER_V3 + 512 + strlen(p->backing) + (p->backing_format ? strlen(p->backing_format) : 0) > cluster)
        return error_set(err, ERR_GENERIC, "the name of the backing file does not fit the first cluster",
                         "use a larger cluster_size");
    return true;
}

static uint64_t div_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* header, refcount table, refcount blocks, L1 */
static bool plan_layout(struct plan *p, struct error *err)
{
    uint64_t per_l2 = p->cluster_size << (p->cluster_bits - 3),
             per_block = p->cluster_size * 8 >> p->refcount_order;

    p->l1_entries = div_up(p->size, per_l2);
    if (p->size > INT64_MAX || p->l1_entries * 8 > QCOW2_MAX_L1_BYTES)
        return error_setf(err, ERR_GENERIC, "use a larger cluster_size",
                          "image size %" PRIu64 " is too large for clusters of %" PRIu64 " bytes", p->size,
                          p->cluster_size);
    p->l1_clusters = MAX(1, div_up(p->l1_entries * 8, p->cluster_size));
    p->refblocks = p->reftable_clusters = 1;
    for (;;) {
        uint64_t blocks, table;

        p->total = 1 + p->reftable_clusters + p->refblocks + p->l1_clusters;
        blocks = div_up(p->total, per_block);
        table = div_up(blocks * 8, p->cluster_size);
        if (blocks <= p->refblocks && table <= p->reftable_clusters)
            return true;
        p->refblocks = blocks;
        p->reftable_clusters = table;
    }
}

/* ---- bytes */

static void put32(uint8_t *p, uint32_t v)
{
    v = GUINT32_TO_BE(v);
    memcpy(p, &v, 4);
}

static void put64(uint8_t *p, uint64_t v)
{
    v = GUINT64_TO_BE(v);
    memcpy(p, &v, 8);
}

static uint8_t *put_extension(uint8_t *p, uint32_t type, const void *data, uint32_t len)
{
    put32(p, type);
    put32(p + 4, len);
    memcpy(p + 8, data, len);
    return p + 8 + ((len + 7) & ~7u);
}

/* Names of feature bits, so that programs that do not know them can say what they miss. */
static uint8_t *put_features(uint8_t *p)
{
    static const struct { uint8_t type, bit; const char *name; } features[] = {
        { 0, 0, "dirty bit" }, { 0, 1, "corrupt bit" }, { 0, 2, "external data file" }, { 0, 3, "compression type" },
        { 0, 4, "extended L2 entries" }, { 1, 0, "lazy refcounts" }, { 2, 0, "bitmaps" }, { 2, 1, "raw external data" },
    };
    uint8_t table[G_N_ELEMENTS(features)][48] = { 0 };

    for (unsigned i = 0; i < G_N_ELEMENTS(features); i++) {
        table[i][0] = features[i].type;
        table[i][1] = features[i].bit;
        memcpy(&table[i][2], features[i].name, strlen(features[i].name));
    }
    return put_extension(p, EXT_FEATURES, table, sizeof(table));
}

static void put_header(const struct plan *p, uint8_t *h)
{
    uint8_t *ext = h + (p->version >= 3 ? HEADER_V3 : HEADER_V2);

    put32(h, QCOW2_MAGIC);
    put32(h + 4, p->version);
    put32(h + 20, p->cluster_bits);
    put64(h + QCOW2_H_SIZE, p->size);
    put32(h + QCOW2_H_L1_SIZE, p->l1_entries);
    put64(h + QCOW2_H_L1_OFFSET, (1 + p->reftable_clusters + p->refblocks) << p->cluster_bits);
    put64(h + QCOW2_H_REFTABLE, p->cluster_size);
    put32(h + QCOW2_H_REFTABLE + 8, p->reftable_clusters);
    if (p->version >= 3) {
        put64(h + QCOW2_H_INCOMPAT, p->compression ? QCOW2_INCOMPAT_COMPRESSION : 0);
        put64(h + 80, p->lazy ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0);
        put32(h + 96, p->refcount_order);
        put32(h + 100, HEADER_V3);
        h[104] = p->compression;
    }
    if (p->backing && p->backing_format)
        ext = put_extension(ext, EXT_BACKING_FORMAT, p->backing_format, strlen(p->backing_format));
    if (p->version >= 3 && p->cluster_size >= 2048)
        ext = put_features(ext);
    ext += 8;                   /* end of extensions: type 0, length 0 */
    if (p->backing) {
        put64(h + 8, ext - h);
        put32(h + 16, strlen(p->backing));
        memcpy(ext, p->backing, strlen(p->backing));
    }
}

static int write_tables(const struct plan *p, struct block_node *file)
{
    uint64_t cs = p->cluster_size, per_block = cs * 8 >> p->refcount_order;
    uint8_t *buf = node_buffer(file, MAX(cs, p->reftable_clusters * cs));
    int ret = buf ? 0 : -ENOMEM;

    for (uint64_t b = 0; b < p->refblocks && !ret; b++) {
        memset(buf, 0, cs);
        for (uint64_t c = b * per_block; c < MIN(p->total, (b + 1) * per_block); c++)
            refcount_write(buf, p->refcount_order, c - b * per_block, 1);
        ret = node_pwrite(file, (1 + p->reftable_clusters + b) * cs, buf, cs);
    }
    if (!ret) {
        memset(buf, 0, p->reftable_clusters * cs);
        for (uint64_t b = 0; b < p->refblocks; b++)
            put64(buf + b * 8, (1 + p->reftable_clusters + b) * cs);
        ret = node_pwrite(file, cs, buf, p->reftable_clusters * cs);
    }
    if (!ret)
        ret = node_write_zeroes(file, (1 + p->reftable_clusters + p->refblocks) * cs, p->l1_clusters * cs, 0);
    if (!ret)
        ret = node_flush(file);
    if (!ret) {                 /* the header comes last: before it, there is no image */
        memset(buf, 0, cs);
        put_header(p, buf);
        ret = node_pwrite(file, 0, buf, cs);
    }
    if (!ret)
        ret = node_flush(file);
    free(buf);
    return ret;
}

/* ---- preallocation: every cluster gets its place now; they read as zeroes, as the file does */

static int preallocate_slice(struct qcow2 *q, uint64_t off, uint64_t clusters, uint64_t *end)
{
    struct meta_entry *e;
    uint64_t host, n;
    int ret;

    co_mutex_lock(&q->lock);
    ret = qcow2_l2_writable(q, off, &e);
    if (ret) {
        co_mutex_unlock(&q->lock);
        return ret;
    }
    for (unsigned i = qcow2_slice_index(q, off); clusters && !ret; clusters -= n, i += n) {
        n = clusters;
        ret = qcow2_alloc_some(q, &n, &host);
        if (ret)
            break;
        *end = host + (n << q->cluster_bits);
        for (uint64_t k = 0; k < n; k++)
            ((uint64_t *)e->data)[i + k] = GUINT64_TO_BE((host + (k << q->cluster_bits)) | QCOW2_COPIED);
        meta_dirty(&q->l2, e, i * 8, n * 8);
    }
    meta_put(e);
    co_mutex_unlock(&q->lock);
    return ret ? ret : qcow2_throttle(q);
}

static int preallocate(struct block_node *n, bool allocate, bool write)
{
    struct qcow2 *q = n->state;
    uint64_t end = q->fresh_start, all = clusters_of(q, n->size), per_slice = qcow2_slice_entries(q);
    int ret = q->file->zero_past_end ? 0 : -ENOTSUP;

    for (uint64_t c = 0; c < all && !ret; c += per_slice)
        ret = preallocate_slice(q, c << q->cluster_bits, MIN(per_slice, all - c), &end);
    if (!ret)
        ret = qcow2_flush_cache(n);
    if (!ret && end > q->file->size)
        ret = node_truncate(q->file, end, NULL);
    if (!ret && write) {
        void *zero = g_malloc0(1 << 20);

        for (uint64_t off = 0; off < n->size && !ret; off += 1 << 20)
            ret = node_pwrite(n, off, zero, MIN(1 << 20, n->size - off));
        g_free(zero);
    } else if (!ret && allocate) {
        ret = q->file->drv->preallocate ? q->file->drv->preallocate(q->file, 0, end) : -ENOTSUP;
    }
    return ret;
}

static bool preallocate_image(struct block_graph *g, const char *filename, const char *mode, struct error *err)
{
    struct block_node *n = node_open_file(g, filename, "qcow2", NULL, err);
    int ret;

    if (!n)
        return false;
    ret = preallocate(n, !strcmp(mode, "falloc"), !strcmp(mode, "full"));
    if (ret)
        error_set_errno(err, -ret, "use preallocation=off", "cannot preallocate '%s'", filename);
    node_unref(n);
    return ret == 0;
}

bool qcow2_create(struct block_graph *outer, const char *filename, struct json_object *opts, struct error *err)
{
    const char *prealloc = option_str(opts, "preallocation", "off");
    struct plan p = { 0 };
    struct json_object *empty;
    struct block_graph *g;
    struct block_node *file;
    int ret;

    if (!plan_parse(&p, opts, err) || !plan_layout(&p, err))
        return false;
    empty = json_object_new_object();
    if (!block_driver_find("file")->create(outer, filename, empty, err)) {
        json_object_put(empty);
        return false;
    }
    g = block_graph_new(NULL, loop_current());
    json_object_object_add(empty, "driver", json_object_new_string("file"));
    json_object_object_add(empty, "filename", json_object_new_string(filename));
    file = node_open(g, empty, err);
    json_object_put(empty);
    if (file && node_hold(file, true, false, err)) {
        ret = write_tables(&p, file);
        if (ret)
            error_set_errno(err, -ret, NULL, "cannot write '%s'", filename);
        node_release(file, true);
    } else {
        ret = -EIO;
    }
    node_unref(file);
    if (!ret && strcmp(prealloc, "off"))
        ret = preallocate_image(g, filename, prealloc, err) ? 0 : -EIO;
    block_graph_free(g);
    return ret == 0;
}
