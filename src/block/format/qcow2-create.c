/* qcow2: new images. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/format/qcow2.h"
#include "block/graph.h"
#include "rhea/base/options.h"

const char *const qcow2_create_options[] = { "size", "backing_file", "backing_fmt", "cluster_size", "compat", "refcount_bits",
                                             "lazy_refcounts", "compression_type", "preallocation", "extended_l2",
                                             "encryption", "data_file", "data_file_raw", "nocow",
                                             "encrypt.format", "encrypt.key-secret", "encrypt.cipher-alg", "encrypt.cipher-mode",
                                             "encrypt.ivgen-alg", "encrypt.ivgen-hash-alg", "encrypt.hash-alg", "encrypt.iter-time",
                                             NULL };

struct plan {
    uint64_t size, cluster_size, l1_entries, l1_clusters, reftable_clusters, refblocks, crypt_bytes, crypt_offset, total;
    unsigned cluster_bits, refcount_order, version, compression, l2_shift;
    bool lazy, extended, data_raw;
    const char *backing, *backing_format, *data_file, *preallocation;
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

static bool plan_preallocation(struct plan *p, struct json_object *opts, struct error *err)
{
    static const char *const modes[] = { "off", "metadata", "falloc", "full", NULL };

    p->preallocation = option_str(opts, "preallocation", p->data_raw ? "metadata" : "off");
    if (!g_strv_contains(modes, p->preallocation))
        return error_setf(err, ERR_GENERIC, "it is off, metadata, falloc or full",
                          "unknown preallocation '%s'", p->preallocation);
    if (strcmp(p->preallocation, "off") && p->backing && !p->extended)
        return error_set(
            err, ERR_GENERIC,
            "Backing file and preallocation can only be used at the same time if extended_l2 is enabled",
            "leave preallocation out");
    return true;
}

static bool plan_data_file(struct plan *p, struct json_object *opts, struct error *err)
{
    p->data_file = option_str(opts, "data_file", NULL);
    if (!option_bool(opts, "data_file_raw", false, &p->data_raw, err))
        return false;
    if (p->data_file && p->version < 3)
        return error_set(err, ERR_GENERIC, "External data files are only supported with compatibility level 1.1 and above",
                         "leave compat= out");
    if (p->data_raw && !p->data_file)
        return error_set(err, ERR_GENERIC, "data_file_raw requires data_file", "add data_file=NAME");
    if (p->data_raw && p->backing)
        return error_set(err, ERR_GENERIC, "Backing file and data-file-raw cannot be used at the same time",
                         "leave one out");
    return true;
}

static bool plan_clusters(struct plan *p, struct json_object *opts, struct error *err)
{
    uint64_t cluster;

    if (!option_bool(opts, "extended_l2", false, &p->extended, err) ||
        !option_size(opts, "cluster_size", 64 << 10, &cluster, err))
        return false;
    if (cluster < 1u << QCOW2_MIN_CLUSTER_BITS || cluster > 1u << QCOW2_MAX_CLUSTER_BITS ||
        (cluster & (cluster - 1)))
        return error_set(err, ERR_GENERIC, "Cluster size must be a power of two between 512 and 2048k", NULL);
    if (p->extended && (p->version < 3 || cluster < 1u << QCOW2_MIN_EXTENDED_BITS))
        return error_set(err, ERR_GENERIC, "Extended L2 entries need compat=1.1 and clusters of 16k at least", NULL);
    p->cluster_size = cluster;
    p->cluster_bits = __builtin_ctzll(cluster);
    p->l2_shift = p->extended ? 4 : 3;
    return true;
}

static bool plan_parse(struct plan *p, struct json_object *opts, struct error *err)
{
    const char *comp = option_str(opts, "compression_type", "zlib");
    int64_t bits;

    p->backing = option_str(opts, "backing_file", NULL);
    p->backing_format = option_str(opts, "backing_fmt", NULL);
    if (!plan_version(p, opts, err) || !plan_clusters(p, opts, err) || !plan_data_file(p, opts, err) ||
        !plan_preallocation(p, opts, err) || !option_size(opts, "size", 0, &p->size, err) ||
        !option_int(opts, "refcount_bits", 16, &bits, err) ||
        !option_bool(opts, "lazy_refcounts", false, &p->lazy, err))
        return false;
    if (option_str(opts, "encryption", NULL) && strcmp(option_str(opts, "encryption", ""), "off"))
        return error_set(err, ERR_GENERIC, "encryption=on (AES) is not supported any more: it is not safe", "use encrypt.format=luks");
    if (bits < 1 || bits > 64 || (bits & (bits - 1)))
        return error_set(err, ERR_GENERIC, "Refcount width must be a power of two and may not exceed 64 bits",
                         NULL);
    if (strcmp(comp, "zlib") && strcmp(comp, "zstd"))
        return error_setf(err, ERR_GENERIC, "it is zlib or zstd", "unknown compression_type '%s'", comp);
    if (p->version < 3 && (bits != 16 || p->lazy || strcmp(comp, "zlib")))
        return error_set(err, ERR_GENERIC,
                         "refcount_bits, lazy_refcounts and compression_type need compat=1.1", NULL);
    p->crypt_bytes = qcow2_crypt_plan(opts, err);
    if (error_is_set(err))
        return false;
    if (p->crypt_bytes && (!strcmp(p->preallocation, "metadata") || !strcmp(p->preallocation, "falloc")))
        return error_set(err, ERR_GENERIC, "an encrypted image is preallocated by writing it", "preallocation=full");
    p->refcount_order = __builtin_ctzll(bits);
    p->compression = strcmp(comp, "zstd") ? QCOW2_ZLIB : QCOW2_ZSTD;
    p->size = (p->size + 511) & ~511ull;
    if (p->backing && strlen(p->backing) > 1023)
        return error_set(err, ERR_GENERIC, "the name of the backing file is longer than 1023 bytes", NULL);
    return true;
}

static uint64_t div_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* header, refcount table, refcount blocks, L1 */
static bool plan_layout(struct plan *p, struct error *err)
{
    uint64_t per_l2 = p->cluster_size << (p->cluster_bits - p->l2_shift),
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

        p->crypt_offset = (1 + p->reftable_clusters + p->refblocks + p->l1_clusters) << p->cluster_bits;
        p->total = (p->crypt_offset >> p->cluster_bits) + div_up(p->crypt_bytes, p->cluster_size);
        blocks = div_up(p->total, per_block);
        table = div_up(blocks * 8, p->cluster_size);
        if (blocks <= p->refblocks && table <= p->reftable_clusters)
            return true;
        p->refblocks = blocks;
        p->reftable_clusters = table;
    }
}

/* ---- bytes */

static bool put_header(const struct plan *p, uint8_t *cluster)
{
    struct qcow2_header h = {
        .version = p->version, .cluster_bits = p->cluster_bits, .refcount_order = p->refcount_order,
        .compression = p->compression, .length = p->version < 3 ? QCOW2_HEADER_V2 : QCOW2_HEADER_KNOWN,
        .size = p->size, .l1_size = p->l1_entries, .reftable_offset = p->cluster_size,
        .reftable_clusters = p->reftable_clusters,
        .l1_offset = (1 + p->reftable_clusters + p->refblocks) << p->cluster_bits,
        .incompatible = (p->compression ? QCOW2_INCOMPAT_COMPRESSION : 0) | (p->extended ? QCOW2_INCOMPAT_EXTENDED_L2 : 0) |
                        (p->data_file ? QCOW2_INCOMPAT_DATA_FILE : 0),
        .compatible = p->lazy ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0,
        .autoclear = p->data_raw ? QCOW2_AUTOCLEAR_DATA_RAW : 0,
        .crypt_method = p->crypt_bytes ? QCOW2_CRYPT_LUKS : QCOW2_CRYPT_NONE,
        .crypt_offset = p->crypt_bytes ? p->crypt_offset : 0, .crypt_length = p->crypt_bytes,
        .backing = p->backing, .backing_format = p->backing_format, .data_file = p->data_file,
    };

    return qcow2_header_put(&h, cluster);
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
            be64_put(buf + b * 8, (1 + p->reftable_clusters + b) * cs);
        ret = node_pwrite(file, cs, buf, p->reftable_clusters * cs);
    }
    if (!ret)
        ret = node_write_zeroes(file, (1 + p->reftable_clusters + p->refblocks) * cs, p->l1_clusters * cs, 0);
    if (!ret)
        ret = node_flush(file);
    if (!ret) {                 /* the header comes last: before it, there is no image */
        ret = put_header(p, buf) ? node_pwrite(file, 0, buf, cs) : -ENAMETOOLONG;
    }
    if (!ret)
        ret = node_flush(file);
    free(buf);
    return ret;
}

/* ---- preallocation: every cluster gets its place now; they read as zeroes, as the file does. Under a backing image
 * (extended L2 entries alone) their subclusters stay unallocated. */

static int preallocate_slice(struct qcow2 *q, uint64_t off, uint64_t clusters, uint64_t fresh, uint64_t *end)
{
    uint64_t bitmap = q->extended && !q->node->backing ? 0xffffffff : 0, host, n;
    struct meta_entry *e;
    int ret;

    co_mutex_lock(&q->lock);
    ret = qcow2_l2_writable(q, off, &e);
    if (ret) {
        co_mutex_unlock(&q->lock);
        return ret;
    }
    q->free_hint = MAX(q->free_hint, fresh);    /* what was used before may hold anything */
    for (unsigned i = qcow2_slice_index(q, off); clusters && !ret; clusters -= n, i += n, off += n << q->cluster_bits) {
        n = qcow2_has_host(q, l2_load(q, e->data, i).desc) ? 0 : clusters;
        if (!n) {
            n = 1;              /* the last cluster of before */
            continue;
        }
        host = off;
        ret = q->data_external ? 0 : qcow2_alloc_some(q, &n, &host);
        if (ret)
            break;
        if (!q->data_external)
            *end = MAX(*end, host + (n << q->cluster_bits));
        for (uint64_t k = 0; k < n; k++)
            l2_store(q, e, i + k, (struct l2_entry){ (host + (k << q->cluster_bits)) | QCOW2_COPIED, bitmap });
    }
    meta_put(e);
    co_mutex_unlock(&q->lock);
    return ret ? ret : qcow2_throttle(q);
}

static int preallocate(struct qcow2 *q, uint64_t from, bool allocate, bool write)
{
    struct block_node *n = q->node, *data = q->data;
    uint64_t cs = q->cluster_size, end = q->file->size, first = from & ~(cs - 1), rest,
             fresh = q->fresh_start >> q->cluster_bits;
    int ret = data->zero_past_end ? 0 : -ENOTSUP;

    for (uint64_t off = first; off < n->size && !ret; off += rest) {
        rest = MIN(qcow2_slice_rest(q, off), (n->size - off + cs - 1) & ~(cs - 1));
        ret = preallocate_slice(q, off, rest >> q->cluster_bits, fresh, &end);
    }
    q->fresh_start = MAX(q->fresh_start, end);
    if (!ret)
        ret = qcow2_flush_cache(n);
    if (!ret && end > q->file->size)
        ret = node_truncate(q->file, end, NULL);
    if (!ret && q->data_external && data->size < n->size)
        ret = node_truncate(data, n->size, NULL);
    if (!ret && write && !n->backing) {
        g_autofree void *zero = g_malloc0(1 << 20);

        for (uint64_t off = from; off < n->size && !ret; off += 1 << 20)
            ret = node_pwrite(n, off, zero, MIN(1 << 20, n->size - off));
    } else if (!ret && (allocate || write)) {
        ret = data->drv->preallocate ? data->drv->preallocate(data, 0, q->data_external ? (uint64_t)n->size : end) : -ENOTSUP;
    }
    return ret;
}

bool qcow2_preallocate_mode(struct block_node *n, uint64_t off, const char *mode, struct error *err)
{
    struct qcow2 *q = n->state;
    int ret;

    if (!strcmp(mode, "off"))
        return true;
    if (strcmp(mode, "metadata") && strcmp(mode, "falloc") && strcmp(mode, "full"))
        return error_setf(err, ERR_GENERIC, "it is off, metadata, falloc or full", "unknown preallocation '%s'", mode);
    if (n->backing && !q->extended)
        return error_set(err, ERR_GENERIC, "an image with a backing file can be preallocated with extended_l2 only",
                         "leave preallocation out");
    ret = preallocate(q, off, !strcmp(mode, "falloc"), !strcmp(mode, "full"));
    return !ret || error_set_errno(err, -ret, "use preallocation=off", "cannot preallocate '%s'", n->filename);
}

static bool preallocate_image(struct block_graph *g, const char *filename, const char *mode, struct json_object *opts,
                              struct error *err)
{
    const char *key = option_str(opts, "encrypt.key-secret", NULL);
    struct json_object *open = json_object_new_object(), *encrypt = json_object_new_object();
    struct block_node *n;
    bool ok;

    if (key)
        json_object_object_add(encrypt, "key-secret", json_object_new_string(key));
    json_object_object_add(open, "encrypt", encrypt);
    n = node_open_file(g, filename, "qcow2", open, err);
    json_object_put(open);
    ok = n && qcow2_preallocate_mode(n, 0, mode, err);
    node_unref(n);
    return ok;
}

static bool create_data_file(struct block_graph *g, const struct plan *p, struct error *err)
{
    struct json_object *o;
    bool ok;

    if (!p->data_file)
        return true;
    o = json_object_new_object();
    json_object_object_add(o, "size", json_object_new_uint64(p->size));
    ok = block_create_file(g, p->data_file, o, err);
    json_object_put(o);
    return ok;
}

bool qcow2_create(struct block_graph *outer, const char *filename, struct json_object *opts, struct error *err)
{
    struct plan p = { 0 };
    struct json_object *empty, *opts_file;
    struct block_graph *g;
    struct block_node *file;
    int ret;

    if (!plan_parse(&p, opts, err) || !plan_layout(&p, err) || !create_data_file(outer, &p, err))
        return false;
    empty = json_object_new_object();
    opts_file = block_create_file(outer, filename, empty, err) ? block_file_options(filename, err) : NULL;
    json_object_put(empty);
    if (!opts_file)
        return false;
    g = block_graph_new(NULL, loop_current());
    g->objects = outer->objects;
    file = node_open(g, opts_file, err);
    json_object_put(opts_file);
    if (file && node_hold(file, true, false, err)) {
        ret = p.crypt_bytes && !qcow2_crypt_create(outer, file, p.crypt_offset, p.crypt_bytes, opts, err) ? -EIO : 0;
        if (!ret)
            ret = write_tables(&p, file);
        if (ret == -ENAMETOOLONG)
            error_setf(err, ERR_GENERIC, "use a larger cluster_size",
                       "the names of backing and data file do not fit the first cluster of '%s'", filename);
        else if (ret && !error_is_set(err))
            error_set_errno(err, -ret, NULL, "cannot write '%s'", filename);
        node_release(file, true);
    } else {
        ret = -EIO;
    }
    node_unref(file);
    if (!ret && strcmp(p.preallocation, "off"))
        ret = preallocate_image(g, filename, p.preallocation, opts, err) ? 0 : -EIO;
    block_graph_free(g);
    return ret == 0;
}
