/* qcow2: header, opening with every field checked, what is told of an image. */
#include "block/format/qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/graph.h"
#include "rhea/base/options.h"

enum { SLICE_MAX = 16384, L2_CACHE_BYTES = 32 << 20, REFBLOCK_CACHE_BYTES = 4 << 20, HEADER_BYTES = 112 };
enum { EXT_END = 0, EXT_BACKING_FORMAT = 0xe2792aca, EXT_FEATURES = 0x6803f857, EXT_CRYPT = 0x0537be77,
       EXT_DATA_FILE = 0x44415441 };

static const char *const qcow2_options[] = { "file", "backing", "lazy-refcounts", "pass-discard-request",
                                             "pass-discard-snapshot", "pass-discard-other", "overlap-check", "cache-size",
                                             "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size",
                                             "cache-clean-interval", NULL };

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return GUINT32_FROM_BE(v);
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return GUINT64_FROM_BE(v);
}

static int qcow2_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return len >= 8 && get32(buf) == QCOW2_MAGIC && get32(buf + 4) >= 2 ? 100 : 0;
}

/* ---- the header */

static bool bad(struct qcow2 *q, struct error *err, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
static bool bad(struct qcow2 *q, struct error *err, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return error_setf(err, ERR_GENERIC, NULL, "'%s' is not a sound qcow2 image: %s", q->file->filename, text);
}

static bool missing(struct qcow2 *q, struct error *err, const char *what)
{
    return error_setf(err, ERR_GENERIC, "convert it with the program that made it",
                      "'%s' uses %s, which this build does not support", q->file->filename, what);
}

/* A table must be aligned and lie in the file. */
static bool table_ok(struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    return !(offset & (q->cluster_size - 1)) && offset <= INT64_MAX - bytes && offset + bytes <= q->file->size;
}

static bool header_features(struct qcow2 *q, const uint8_t *h, uint32_t features_at, uint32_t features_len, struct error *err)
{
    static const struct { uint64_t bit; const char *name; } refused[] = {
        { QCOW2_INCOMPAT_DATA_FILE, "an external data file" }, { QCOW2_INCOMPAT_EXTENDED_L2, "extended L2 entries" },
    };
    uint64_t unknown = q->incompatible & ~0x1full;

    for (unsigned i = 0; i < G_N_ELEMENTS(refused); i++)
        if (q->incompatible & refused[i].bit)
            return missing(q, err, refused[i].name);
    if (!unknown)
        return true;
    for (uint32_t at = 0; features_len - at >= 48; at += 48) {
        const uint8_t *f = h + features_at + at;

        if (f[0] == 0 && f[1] < 64 && (unknown & (1ull << f[1]))) {
            g_autofree char *name = g_strndup((const char *)f + 2, 46);
            g_autofree char *safe = g_strescape(name, NULL);

            return missing(q, err, safe);
        }
    }
    return error_setf(err, ERR_GENERIC, NULL, "'%s' uses unknown features %#" PRIx64, q->file->filename, unknown);
}

static bool header_extensions(struct qcow2 *q, const uint8_t *h, uint64_t end, struct error *err)
{
    uint64_t at = q->header_length;
    uint32_t features_at = 0, features_len = 0;

    while (end - at >= 8) {
        uint32_t type = get32(h + at), len = get32(h + at + 4);

        at += 8;
        if (type == EXT_END)
            break;
        if (len > end - at)
            return bad(q, err, "a header extension of %u bytes does not fit", len);
        if (type == EXT_BACKING_FORMAT) {
            if (len > 64)
                return bad(q, err, "the name of the backing format is too long");
            g_free(q->backing_format);
            q->backing_format = g_strndup((const char *)h + at, len);
        } else if (type == EXT_FEATURES) {
            features_at = at;
            features_len = len;
        }
        at += MIN(((uint64_t)len + 7) & ~7ull, end - at);
    }
    return header_features(q, h, features_at, features_len, err);
}

static bool header_v3(struct qcow2 *q, const uint8_t *h, struct error *err)
{
    q->header_length = 72;
    q->refcount_order = 4;
    if (q->version < 3)
        return true;
    q->incompatible = get64(h + QCOW2_H_INCOMPAT);
    q->compatible = get64(h + 80);
    q->autoclear = get64(h + QCOW2_H_AUTOCLEAR);
    q->refcount_order = get32(h + 96);
    q->header_length = get32(h + 100);
    if (q->header_length < 104 || q->header_length > q->cluster_size || q->header_length & 7)
        return bad(q, err, "header length %u", q->header_length);
    if (q->refcount_order > 6)
        return bad(q, err, "refcount width 2^%u", q->refcount_order);
    if (q->header_length > 104)
        q->compression = h[104];
    if (q->incompatible & QCOW2_INCOMPAT_COMPRESSION ? q->compression == QCOW2_ZLIB
                                                     : q->compression != QCOW2_ZLIB)
        return bad(q, err, "compression type %u does not fit the feature bits", q->compression);
    if (q->compression > QCOW2_ZSTD)
        return missing(q, err, "an unknown compression");
    return true;
}

static bool header_tables(struct qcow2 *q, const uint8_t *h, struct error *err)
{
    uint64_t size = get64(h + QCOW2_H_SIZE), per_l2, needed;

    q->l2_bits = q->cluster_bits - 3;
    q->refblock_bits = q->cluster_bits + 3 - q->refcount_order;
    per_l2 = q->cluster_size << q->l2_bits;
    needed = size / per_l2 + (size % per_l2 != 0);
    q->l1_size = get32(h + QCOW2_H_L1_SIZE);
    q->l1_offset = get64(h + QCOW2_H_L1_OFFSET);
    if (size > INT64_MAX - q->cluster_size || needed * 8 > QCOW2_MAX_L1_BYTES)
        return bad(q, err, "virtual size %" PRIu64, size);
    if (q->l1_size > QCOW2_MAX_L1_BYTES / 8 || q->l1_size < needed)
        return bad(q, err, "L1 table of %u entries for a disk that needs %" PRIu64, q->l1_size, needed);
    if (!table_ok(q, q->l1_offset, q->l1_size * 8ull) || (q->l1_size && !q->l1_offset))
        return bad(q, err, "L1 table at %#" PRIx64, q->l1_offset);
    q->node->size = size;
    q->reftable_offset = get64(h + QCOW2_H_REFTABLE);
    q->reftable_clusters = get32(h + QCOW2_H_REFTABLE + 8);
    if (!q->reftable_clusters || q->reftable_clusters > QCOW2_MAX_REFTABLE_BYTES >> q->cluster_bits ||
        !q->reftable_offset ||
        !table_ok(q, q->reftable_offset, (uint64_t)q->reftable_clusters << q->cluster_bits))
        return bad(q, err, "refcount table of %u clusters at %#" PRIx64, q->reftable_clusters,
                   q->reftable_offset);
    q->reftable_entries = q->reftable_clusters << (q->cluster_bits - 3);
    q->snapshot_count = get32(h + 60);
    q->snapshots_offset = get64(h + 64);
    if (q->snapshot_count > QCOW2_MAX_SNAPSHOTS ||
        (q->snapshot_count &&
         (!q->snapshots_offset || !table_ok(q, q->snapshots_offset, q->snapshot_count * 40ull))))
        return bad(q, err, "%u snapshots at %#" PRIx64, q->snapshot_count, q->snapshots_offset);
    return true;
}

static bool header_backing(struct qcow2 *q, const uint8_t *h, uint64_t *extensions_end, struct error *err)
{
    uint64_t at = get64(h + 8);
    uint32_t len = get32(h + 16);

    *extensions_end = q->cluster_size;
    if (!at || !len)
        return true;
    if (len > 1023 || at < q->header_length || at > q->cluster_size || len > q->cluster_size - at)
        return bad(q, err, "backing file name of %u bytes at %#" PRIx64, len, at);
    *extensions_end = at;
    q->backing_name = g_strndup((const char *)h + at, len);
    return *q->backing_name || bad(q, err, "empty backing file name");
}

static bool header_read(struct qcow2 *q, struct error *err)
{
    g_autofree uint8_t *h = g_malloc0(1 << QCOW2_MAX_CLUSTER_BITS);
    uint64_t end;
    int ret = node_pread(q->file, 0, h, HEADER_BYTES);

    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot read '%s'", q->file->filename);
    if (get32(h) != QCOW2_MAGIC)
        return error_setf(err, ERR_GENERIC,
                          "rhea-img info tells what it is; leave format= out to have it guessed",
                          "'%s' is not a qcow2 image", q->file->filename);
    q->version = get32(h + 4);
    if (q->version != 2 && q->version != 3)
        return bad(q, err, "version %u", q->version);
    q->cluster_bits = get32(h + 20);
    if (q->cluster_bits < QCOW2_MIN_CLUSTER_BITS || q->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
        return bad(q, err, "clusters of 2^%u bytes", q->cluster_bits);
    q->cluster_size = 1ull << q->cluster_bits;
    if (get32(h + 32)) {
        q->node->encrypted = true;
        return missing(q, err, "encryption");
    }
    ret = node_pread(q->file, 0, h, MIN(q->cluster_size, q->file->size));
    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot read '%s'", q->file->filename);
    return header_v3(q, h, err) && header_backing(q, h, &end, err) && header_extensions(q, h, end, err) &&
           header_tables(q, h, err);
}

/* ---- tables */

static bool table_read(struct qcow2 *q, uint64_t offset, uint64_t entries, uint64_t **out, const char *what, struct error *err)
{
    int ret;

    *out = g_try_new0(uint64_t, MAX(entries, 1));
    ret = *out ? node_pread(q->file, offset, *out, entries * 8) : -ENOMEM;
    if (entries && ret)
        return error_set_errno(err, -ret, NULL, "'%s': cannot read the %s", q->file->filename, what);
    for (uint64_t i = 0; i < entries; i++)
        (*out)[i] = GUINT64_FROM_BE((*out)[i]);
    return true;
}

/* One entry of the snapshot table at *at, which is moved to the next. */
static bool snapshot_read(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t *at, struct error *err)
{
    uint8_t h[40], extra[24] = { 0 };
    uint32_t extra_len;
    uint16_t id_len, name_len;
    uint64_t end;

    if (node_pread(q->file, *at, h, sizeof(h)))
        return bad(q, err, "the snapshot table cannot be read");
    s->l1_offset = get64(h);
    s->l1_size = get32(h + 8);
    id_len = get32(h + 12) >> 16;
    name_len = get32(h + 12);
    s->date_sec = get32(h + 16);
    s->date_nsec = get32(h + 20);
    s->clock_ns = get64(h + 24);
    s->vm_state_size = get32(h + 32);
    extra_len = get32(h + 36);
    end = *at + 40 + extra_len + id_len + name_len;
    if (extra_len > 1024 || end > q->file->size)
        return bad(q, err, "a snapshot's entry lies outside of the file");
    if (node_pread(q->file, *at + 40, extra, MIN(extra_len, sizeof(extra))))
        return bad(q, err, "the snapshot table cannot be read");
    if (extra_len >= 8)
        s->vm_state_size = get64(extra);
    s->disk_size = extra_len >= 16 ? get64(extra + 8) : (uint64_t)q->node->size;
    s->icount = extra_len >= 24 ? get64(extra + 16) : UINT64_MAX;
    s->id = g_malloc0(id_len + 1);
    s->name = g_malloc0(name_len + 1);
    if (node_pread(q->file, *at + 40 + extra_len, s->id, id_len) ||
        node_pread(q->file, *at + 40 + extra_len + id_len, s->name, name_len))
        return bad(q, err, "the snapshot table cannot be read");
    if (s->l1_size > QCOW2_MAX_L1_BYTES / 8 || !table_ok(q, s->l1_offset, s->l1_size * 8ull))
        return bad(q, err, "L1 table of snapshot '%s' at %#" PRIx64, s->name, s->l1_offset);
    *at = (end + 7) & ~7ull;
    return true;
}

static bool snapshots_read(struct qcow2 *q, struct error *err)
{
    uint64_t at = q->snapshots_offset;

    q->snapshots = g_new0(struct qcow2_snapshot, q->snapshot_count);
    for (uint32_t i = 0; i < q->snapshot_count; i++)
        if (!snapshot_read(q, &q->snapshots[i], &at, err))
            return false;
    q->snapshots_size = at - q->snapshots_offset;
    return true;
}

/* ---- opening */

static bool open_backing(struct block_node *n, struct qcow2 *q, struct json_object *opts, struct error *err)
{
    struct json_object *v = NULL;
    bool given = json_object_object_get_ex(opts, "backing", &v);

    if (given && (!v || (json_object_is_type(v, json_type_string) && !*json_object_get_string(v))))
        return true;            /* "backing": null */
    if (!given && !q->backing_name)
        return true;
    n->backing = node_open_backing(n, opts, q->backing_name, q->backing_format, err);
    return n->backing != NULL;
}

static int clear_autoclear(struct qcow2 *q)
{
    uint64_t zero = 0;

    if (q->autoclear & QCOW2_AUTOCLEAR_BITMAPS)
        warn_report("%s: its dirty bitmaps are no longer valid, as this build does not keep them",
                    q->file->filename);
    q->autoclear = 0;
    return qcow2_header_write(q, QCOW2_H_AUTOCLEAR, &zero, 8);
}

/* An image that was not closed: its refcounts are to be made anew before anything is allocated. */
static bool open_for_writing(struct block_node *n, struct qcow2 *q, struct error *err)
{
    struct block_check check = { 0 };
    uint64_t be;
    int ret = 0;

    if (n->graph->repairing)
        return true;
    if (q->incompatible & QCOW2_INCOMPAT_CORRUPT)
        return error_setf(err, ERR_GENERIC, "mend it with rhea-img check -r all, or open it with readonly=on",
                          "'%s' is marked corrupt", q->file->filename);
    if (q->incompatible & QCOW2_INCOMPAT_DIRTY) {
        if (!qcow2_check(n, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS, &check, err))
            return false;
        q->incompatible &= ~(uint64_t)QCOW2_INCOMPAT_DIRTY;
        be = GUINT64_TO_BE(q->incompatible);
        ret = qcow2_header_write(q, QCOW2_H_INCOMPAT, &be, 8);
    }
    if (!ret && q->autoclear)
        ret = clear_autoclear(q);
    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot write '%s'", q->file->filename);
    return true;
}

static void init_state(struct block_node *n, struct qcow2 *q)
{
    uint64_t slice = MIN(q->cluster_size, SLICE_MAX), l2_bytes = clusters_of(q, n->size) * 8;

    co_mutex_init(&q->lock);
    co_mutex_init(&q->flush_lock);
    co_queue_init(&q->loads);
    meta_cache_init(&q->l2, slice, MIN(l2_bytes / slice + 16, L2_CACHE_BYTES / slice));
    meta_cache_init(&q->refblocks, slice, REFBLOCK_CACHE_BYTES / slice);
    q->frees = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    q->l1_dirty_from = UINT32_MAX;
    q->epochs[0].q = q->epochs[1].q = q;
    q->fresh_start = (q->file->size + q->cluster_size - 1) & ~(q->cluster_size - 1);
    n->limits.align = 1;
    n->limits.mem_align = q->file->limits.mem_align;
    n->limits.discard_align = q->cluster_size;
    if (q->file->limits.align > 1)              /* reads and writes in one cluster keep the file's alignment */
        n->limits.align = MIN(q->file->limits.align, q->cluster_size);
}

static bool qcow2_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct qcow2 *q = n->state;

    q->node = n;
    n->file = q->file = node_open_child(n, opts, "file", err);
    if (!n->file || !header_read(q, err))
        return false;
    init_state(n, q);
    return table_read(q, q->l1_offset, q->l1_size, &q->l1, "L1 table", err) &&
           table_read(q, q->reftable_offset, q->reftable_entries, &q->reftable, "refcount table", err) &&
           snapshots_read(q, err) && open_backing(n, q, opts, err) &&
           (n->read_only || open_for_writing(n, q, err));
}

static void qcow2_close(struct block_node *n)
{
    struct qcow2 *q = n->state;

    if (q->l2.hash) {
        if (!n->read_only && !q->corrupt && q->l1)
            qcow2_flush_cache(n);               /* what was freed since the last flush */
        if (!n->read_only && !q->corrupt && q->l1)
            qcow2_flush_cache(n);               /* and its refcounts */
        meta_cache_free(&q->l2);
        meta_cache_free(&q->refblocks);
        g_array_free(q->frees, TRUE);
    }
    for (uint32_t i = 0; q->snapshots && i < q->snapshot_count; i++) {
        g_free(q->snapshots[i].id);
        g_free(q->snapshots[i].name);
    }
    g_free(q->snapshots);
    g_free(q->l1);
    g_free(q->reftable);
    g_free(q->backing_name);
    g_free(q->backing_format);
    free(q->inflated);
}

/* ---- size */

struct l1_growth { uint64_t *table; uint32_t entries; uint64_t offset; };

static int l1_grow(struct qcow2 *q, uint32_t entries, struct l1_growth *g)
{
    uint64_t clusters = clusters_of(q, entries * 8ull), bytes = clusters << q->cluster_bits;
    g_autofree uint64_t *be = g_malloc0(bytes);
    int ret = qcow2_alloc_clusters(q, clusters, &g->offset);

    if (ret)
        return ret;
    q->fresh_start = MAX(q->fresh_start, g->offset + bytes);
    g->entries = entries;
    g->table = g_new0(uint64_t, entries);
    memcpy(g->table, q->l1, q->l1_size * 8ull);
    for (uint32_t i = 0; i < q->l1_size; i++)
        be[i] = GUINT64_TO_BE(q->l1[i]);
    return node_pwrite(q->file, g->offset, be, bytes);
}

/* Size and L1 stand side by side in the header: one write changes both. */
static int header_resize(struct qcow2 *q, uint64_t size, uint32_t l1_size, uint64_t l1_offset)
{
    uint64_t size_be = GUINT64_TO_BE(size), offset_be = GUINT64_TO_BE(l1_offset);
    uint32_t l1_be = GUINT32_TO_BE(l1_size);
    uint8_t field[24] = { 0 };  /* the crypt method between them is none */
    int ret = qcow2_flush_cache(q->node);

    memcpy(field, &size_be, 8);
    memcpy(field + 12, &l1_be, 4);
    memcpy(field + 16, &offset_be, 8);
    if (!ret)
        ret = node_flush(q->file);
    if (!ret)
        ret = qcow2_header_write(q, QCOW2_H_SIZE, field, sizeof(field));
    return ret ? ret : node_flush(q->file);
}

/* Of a backing image that is longer than the disk was, nothing shows through in the new part. */
static int cover_backing(struct block_node *n, uint64_t size)
{
    uint64_t old = n->size, end = n->backing ? MIN(size, n->backing->size) : 0;

    n->size = size;
    return end > old ? node_write_zeroes(n, old, end - old, 0) : 0;
}

static int qcow2_truncate(struct block_node *n, uint64_t size, struct error *err)
{
    struct qcow2 *q = n->state;
    uint64_t per_l2 = q->cluster_size << q->l2_bits, entries = size / per_l2 + (size % per_l2 != 0);
    uint64_t old_offset = q->l1_offset, old_size = q->l1_size;
    struct l1_growth g = { NULL, q->l1_size, q->l1_offset };
    int ret;

    if (size < n->size) {
        error_setf(err, ERR_GENERIC, "copy what is wanted with rhea-img convert",
                   "qcow2 images cannot be made smaller yet");
        return -ENOTSUP;
    }
    if (q->snapshot_count && q->version < 3) {
        error_setf(err, ERR_GENERIC, "delete its snapshots first",
                   "cannot resize a version 2 image with snapshots");
        return -ENOTSUP;
    }
    if ((size & 511) || entries * 8 > QCOW2_MAX_L1_BYTES) {
        error_setf(err, ERR_GENERIC, NULL,
                   "size %" PRIu64 " is no multiple of 512, or too large for its clusters", size);
        return -EINVAL;
    }
    ret = qcow2_flush_cache(n);
    if (!ret && entries > q->l1_size)
        ret = l1_grow(q, entries, &g);
    if (!ret)
        ret = header_resize(q, size, g.entries, g.offset);
    if (ret) {
        g_free(g.table);
        return ret;
    }
    if (g.table) {
        g_free(q->l1);
        q->l1 = g.table;
        q->l1_size = g.entries;
        q->l1_offset = g.offset;
        if (old_size)
            qcow2_refcount_add(q, old_offset, clusters_of(q, old_size * 8), -1);
    }
    return cover_backing(n, size);
}

/* ---- what is told */

static struct json_object *qcow2_info(struct block_node *n)
{
    struct qcow2 *q = n->state;
    struct json_object *o = json_object_new_object(), *d = json_object_new_object();

    json_object_object_add(o, "type", json_object_new_string("qcow2"));
    json_object_object_add(d, "compat", json_object_new_string(q->version < 3 ? "0.10" : "1.1"));
    json_object_object_add(d, "compression-type",
                           json_object_new_string(q->compression == QCOW2_ZSTD ? "zstd" : "zlib"));
    if (q->version >= 3)
        json_object_object_add(d, "lazy-refcounts",
                               json_object_new_boolean(q->compatible & QCOW2_COMPAT_LAZY_REFCOUNTS));
    json_object_object_add(d, "refcount-bits", json_object_new_int(1 << q->refcount_order));
    if (q->version >= 3) {
        json_object_object_add(
            d, "corrupt", json_object_new_boolean(q->corrupt || (q->incompatible & QCOW2_INCOMPAT_CORRUPT)));
        json_object_object_add(d, "extended-l2", json_object_new_boolean(false));
    }
    json_object_object_add(o, "data", d);
    return o;
}

static struct json_object *qcow2_snapshots(struct block_node *n)
{
    struct qcow2 *q = n->state;
    struct json_object *list;

    if (!q->snapshot_count)
        return NULL;
    list = json_object_new_array();
    for (uint32_t i = 0; i < q->snapshot_count; i++) {
        const struct qcow2_snapshot *s = &q->snapshots[i];
        struct json_object *o = json_object_new_object();

        if (s->icount != UINT64_MAX)
            json_object_object_add(o, "icount", json_object_new_uint64(s->icount));
        json_object_object_add(o, "vm-clock-nsec", json_object_new_uint64(s->clock_ns % 1000000000));
        json_object_object_add(o, "name", json_object_new_string(s->name));
        json_object_object_add(o, "date-sec", json_object_new_int64(s->date_sec));
        json_object_object_add(o, "date-nsec", json_object_new_int64(s->date_nsec));
        json_object_object_add(o, "vm-clock-sec", json_object_new_uint64(s->clock_ns / 1000000000));
        json_object_object_add(o, "id", json_object_new_string(s->id));
        json_object_object_add(o, "vm-state-size", json_object_new_uint64(s->vm_state_size));
        json_object_array_add(list, o);
    }
    return list;
}

static uint32_t qcow2_cluster_size(struct block_node *n)
{
    return ((struct qcow2 *)n->state)->cluster_size;
}

static char *qcow2_backing_filename(struct block_node *n, char **format)
{
    struct qcow2 *q = n->state;

    *format = g_strdup(q->backing_format);
    return g_strdup(q->backing_name);
}

static int64_t qcow2_allocated_size(struct block_node *n)
{
    return n->file->drv->allocated_size ? n->file->drv->allocated_size(n->file) : -ENOTSUP;
}

BLOCK_DRIVER = {
    .name = "qcow2",
    .summary = "an image that grows, with backing files, snapshots and compression",
    .kind = DRIVER_FORMAT,
    .size = sizeof(struct qcow2),
    .options = qcow2_options,
    .create_options = qcow2_create_options,
    .probe = qcow2_probe,
    .open = qcow2_open,
    .close = qcow2_close,
    .preadv = qcow2_preadv,
    .pwritev = qcow2_pwritev,
    .pwrite_compressed = qcow2_pwrite_compressed,
    .flush_cache = qcow2_flush_cache,
    .discard = qcow2_discard,
    .write_zeroes = qcow2_write_zeroes,
    .block_status = qcow2_block_status,
    .truncate = qcow2_truncate,
    .allocated_size = qcow2_allocated_size,
    .map_fast = qcow2_map_fast,
    .info = qcow2_info,
    .snapshots = qcow2_snapshots,
    .cluster_size = qcow2_cluster_size,
    .backing_filename = qcow2_backing_filename,
    .create = qcow2_create,
    .check = qcow2_check,
};
