/* qcow2: header, opening with every field checked, what is told of an image. */
#include "block/format/image.h"
#include "block/format/qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/graph.h"
#include "rhea/base/options.h"
#include "rhea/block/crypto.h"

enum { SLICE_MAX = 16384, L2_CACHE_BYTES = 32 << 20, REFBLOCK_CACHE_BYTES = 4 << 20,
       AUTOCLEAR_KNOWN = QCOW2_AUTOCLEAR_BITMAPS | QCOW2_AUTOCLEAR_DATA_RAW };

static const char *const qcow2_options[] = { "file", "backing", "lazy-refcounts", "pass-discard-request",
                                             "pass-discard-snapshot", "pass-discard-other", "overlap-check", "cache-size",
                                             "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size",
                                             "cache-clean-interval", "data-file", "encrypt", "discard-no-unref", NULL };

static int qcow2_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return len >= 8 && be32_get(buf) == QCOW2_MAGIC && be32_get(buf + 4) >= 2 ? 100 : 0;
}

/* ---- tables */

static bool read_table(struct qcow2 *q, uint64_t offset, uint64_t entries, uint64_t **out, const char *what, struct error *err)
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
    uint64_t be;

    q->autoclear &= AUTOCLEAR_KNOWN;
    be64_put(&be, q->autoclear);
    return qcow2_header_write(q, QCOW2_H_AUTOCLEAR, &be, 8);
}

static int compare_words(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Blocks of which each counts its own clusters can't be more than the file has room for; of a repeated one that is full, a search for
 * a free cluster would never see the end. */
static bool refblock_repeats(const struct qcow2 *q)
{
    g_autofree uint64_t *blocks = g_memdup2(q->reftable, q->reftable_entries * 8ull);

    qsort(blocks, q->reftable_entries, 8, compare_words);
    for (uint32_t i = 1; i < q->reftable_entries; i++)
        if (blocks[i] && blocks[i] == blocks[i - 1])
            return true;
    return false;
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
    if (!ret && refblock_repeats(q))
        return error_setf(err, ERR_GENERIC, "mend it with rhea-img check -r all, or open it with readonly=on",
                          "the refcount table of '%s' names a block twice", q->file->filename);
    if (!ret && (q->autoclear & ~(uint64_t)AUTOCLEAR_KNOWN))
        ret = clear_autoclear(q);
    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot write '%s'", q->file->filename);
    return qcow2_bitmaps_in_use(q, err);
}

static bool cache_sizes(struct qcow2 *q, struct json_object *opts, uint64_t *l2, uint64_t *refcounts, uint64_t *slice,
                        struct error *err)
{
    uint64_t both, needed = clusters_of(q, q->node->size) << q->l2_shift;

    if (!option_size(opts, "l2-cache-entry-size", MIN(q->cluster_size, SLICE_MAX), slice, err) ||
        !option_size(opts, "cache-size", 0, &both, err) ||
        !option_size(opts, "refcount-cache-size", REFBLOCK_CACHE_BYTES, refcounts, err) ||
        !option_size(opts, "l2-cache-size", both > *refcounts ? both - *refcounts : L2_CACHE_BYTES, l2, err))
        return false;
    if (*slice < 512 || *slice > q->cluster_size || (*slice & (*slice - 1)))
        return error_set(err, ERR_GENERIC,
                         "L2 cache entry size must be a power of two between 512 and the cluster size", NULL);
    *l2 = MIN(MIN(*l2, needed + 16 * *slice), 1ull << 36);
    *refcounts = MIN(*refcounts, 1ull << 32);
    return true;
}

/* Writes are checked against the tables that qcow2_overlaps_metadata() knows, whatever is asked for; that can only be wrong. */
static bool overlap_options(struct json_object *opts, struct error *err)
{
    static const char *const modes[] = { "none", "constant", "cached", "all", NULL };
    static const char *const known[] = { "template", "main-header", "active-l1", "active-l2", "refcount-table", "refcount-block",
                                         "snapshot-table", "inactive-l1", "inactive-l2", "bitmap-directory", NULL };
    struct json_object *v = NULL;
    const char *mode;

    if (!json_object_object_get_ex(opts, "overlap-check", &v))
        return true;
    if (json_object_is_type(v, json_type_object) && !options_check(v, known, "overlap-check", err))
        return false;
    mode = json_object_is_type(v, json_type_object) ? option_str(v, "template", "all") : option_str(opts, "overlap-check", "");
    return g_strv_contains(modes, mode) ||
           error_setf(err, ERR_GENERIC, "it is none, constant, cached or all", "Unsupported value '%s' for qcow2 option 'overlap-check'", mode);
}

static bool init_state(struct block_node *n, struct qcow2 *q, struct json_object *opts, struct error *err)
{
    uint64_t l2, refcounts, slice, align = MAX(q->file->limits.align, q->data->limits.align);

    bool pass;

    if (!option_bool(opts, "discard-no-unref", false, &q->discard_no_unref, err) ||
        !option_bool(opts, "pass-discard-request", true, &pass, err) || !overlap_options(opts, err))
        return false;
    q->keep_discards = !pass;
    if (q->discard_no_unref && q->version < 3)
        return error_set(err, ERR_GENERIC, "discard-no-unref is only supported since qcow2 version 3", "leave it out");
    if (!cache_sizes(q, opts, &l2, &refcounts, &slice, err))
        return false;
    co_mutex_init(&q->lock);
    co_mutex_init(&q->flush_lock);
    co_queue_init(&q->loads);
    co_queue_init(&q->exclusive_waiters);
    meta_cache_init(&q->l2, slice, l2 / slice);
    meta_cache_init(&q->refblocks, MIN(q->cluster_size, SLICE_MAX), refcounts / MIN(q->cluster_size, SLICE_MAX));
    q->frees = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    q->l1_dirty_from = UINT32_MAX;
    q->epochs[0].q = q->epochs[1].q = q;
    q->fresh_start = (q->file->size + q->cluster_size - 1) & ~(q->cluster_size - 1);
    n->limits.align = 1;
    n->limits.mem_align = MAX(q->file->limits.mem_align, q->data->limits.mem_align);
    n->limits.discard_align = q->cluster_size;
    if (q->crypt_method)
        align = MAX(align, 512);
    if (align > 1)              /* reads and writes in one cluster keep the file's alignment */
        n->limits.align = MIN(align, q->cluster_size);
    return true;
}

/* Relative names of data files start at the current directory, as they did when the image was made (backing files:
 * at the image); where nothing is there, at the image. */
static char *data_path(const struct qcow2 *q)
{
    return g_file_test(q->data_name, G_FILE_TEST_EXISTS) ? g_strdup(q->data_name)
                                                         : block_resolve(q->file->filename, q->data_name);
}

/* The data file: as the options say, or as the image does. */
static bool open_data(struct block_node *n, struct qcow2 *q, struct json_object *opts, struct error *err)
{
    struct json_object *own = NULL, *file;

    q->data = q->file;
    if (!q->data_external)
        return !json_object_object_get_ex(opts, "data-file", NULL) ||
               error_setf(err, ERR_GENERIC, NULL, "'data-file' can only be set for images with an external data file");
    q->data = NULL;
    if (!json_object_object_get_ex(opts, "data-file", NULL)) {
        g_autofree char *path = q->data_name ? data_path(q) : NULL;

        if (!path)
            return error_setf(err, ERR_GENERIC, "name it with data-file.filename=...",
                              "'data-file' is required for '%s', which does not name it", q->file->filename);
        own = json_object_new_object();
        file = json_object_new_object();
        json_object_object_add(file, "driver", json_object_new_string("file"));
        json_object_object_add(file, "filename", json_object_new_string(path));
        json_object_object_add(own, "data-file", file);
    }
    q->data = image_open_child(n, own ? own : opts, "data-file", err);
    json_object_put(own);
    return q->data != NULL;
}

static bool qcow2_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct qcow2 *q = n->state;

    q->node = n;
    n->file = q->file = node_open_child(n, opts, "file", err);
    if (!n->file || !qcow2_header_read(q, err) || !open_data(n, q, opts, err) || !init_state(n, q, opts, err) ||
        !qcow2_crypt_open(q, opts, err))
        return false;
    q->opened = read_table(q, q->l1_offset, q->l1_size, &q->l1, "L1 table", err) &&
           read_table(q, q->reftable_offset, q->reftable_entries, &q->reftable, "refcount table", err) &&
           qcow2_snapshots_read(q, err) && qcow2_bitmaps_load(q, err) && open_backing(n, q, opts, err) &&
           (n->read_only || open_for_writing(n, q, err));
    return q->opened;
}

static void close_bitmaps(struct qcow2 *q)
{
    struct error err = ERROR_INIT;

    if (!qcow2_bitmaps_store(q, &err)) {
        error_report(&err);
        q->node->graph->lost = true;
    }
}

static bool qcow2_reopen(struct block_node *n, bool read_only, struct error *err)
{
    struct qcow2 *q = n->state;
    int ret;

    if (q->data_external)
        return error_setf(err, ERR_GENERIC, NULL, "'%s' has a data file, and cannot be reopened", n->filename);
    if (!read_only)
        return open_for_writing(n, q, err);
    if (q->corrupt)
        return true;
    if (!qcow2_bitmaps_store(q, err))
        return false;
    ret = qcow2_flush_cache(n);                 /* what was freed since the last flush */
    if (!ret)
        ret = qcow2_flush_cache(n);             /* and its refcounts */
    return !ret || error_set_errno(err, -ret, NULL, "cannot write '%s'", n->filename);
}

static void qcow2_close(struct block_node *n)
{
    struct qcow2 *q = n->state;

    if (q->l2.hash) {
        if (!n->read_only && !q->corrupt && q->l1 && q->opened && !n->graph->repairing)
            close_bitmaps(q);
        if (!n->read_only && !q->corrupt && q->l1)
            qcow2_flush_cache(n);               /* what was freed since the last flush */
        if (!n->read_only && !q->corrupt && q->l1)
            qcow2_flush_cache(n);               /* and its refcounts */
        meta_cache_free(&q->l2);
        meta_cache_free(&q->refblocks);
        g_array_free(q->frees, TRUE);
    }
    if (q->data_external)
        image_close_child(n, q->data);
    qcow2_snapshots_free(q);
    g_free(q->l1);
    g_free(q->reftable);
    g_free(q->backing_name);
    g_free(q->backing_format);
    luks_free(q->luks);
    g_free(q->data_name);
    if (q->bitmaps)
        g_ptr_array_free(q->bitmaps, TRUE);
    g_free(q->more_fields);
    if (q->unknown_extensions)
        g_byte_array_free(q->unknown_extensions, TRUE);
    free(q->inflated);
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
        json_object_object_add(d, "extended-l2", json_object_new_boolean(q->extended));
    }
    if (q->bitmaps->len)
        json_object_object_add(d, "bitmaps", qcow2_bitmaps_info(q));
    if (q->crypt_method)
        json_object_object_add(d, "encrypt", qcow2_crypt_info(q));
    if (q->data_external) {
        json_object_object_add(d, "data-file", json_object_new_string(q->data_name ? q->data_name : ""));
        json_object_object_add(d, "data-file-raw", json_object_new_boolean(q->data_raw));
    }
    json_object_object_add(o, "data", d);
    return o;
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

static struct block_node *qcow2_child(struct block_node *n, unsigned i)
{
    struct qcow2 *q = n->state;

    return !i && q->data != q->file ? q->data : NULL;
}

static int qcow2_flush(struct block_node *n)
{
    struct qcow2 *q = n->state;
    int ret = q->data == q->file ? 0 : node_flush(q->data);

    return ret ? ret : node_flush(q->file);
}

static bool qcow2_change_backing(struct block_node *n, const char *filename, const char *format, struct error *err)
{
    struct qcow2 *q = n->state;
    g_autofree char *name = q->backing_name, *fmt = q->backing_format;

    if (filename && strlen(filename) > 1023)
        return error_set(err, ERR_GENERIC, "the name of the backing file is longer than 1023 bytes", NULL);
    if (filename && q->data_raw)
        return error_set(err, ERR_GENERIC, "an image with a raw data file cannot have a backing file", NULL);
    q->backing_name = g_strdup(filename && *filename ? filename : NULL);
    q->backing_format = g_strdup(q->backing_name ? format : NULL);
    if (qcow2_header_update(q, err))
        return true;
    g_free(q->backing_name);
    g_free(q->backing_format);
    q->backing_name = g_steal_pointer(&name);
    q->backing_format = g_steal_pointer(&fmt);
    return false;
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
    .reopen = qcow2_reopen,
    .preadv = qcow2_preadv,
    .pwritev = qcow2_pwritev,
    .pwrite_compressed = qcow2_pwrite_compressed,
    .can_compress = qcow2_can_compress,
    .flush_cache = qcow2_flush_cache,
    .flush = qcow2_flush,
    .discard = qcow2_discard,
    .write_zeroes = qcow2_write_zeroes,
    .block_status = qcow2_block_status,
    .truncate = qcow2_truncate,
    .allocated_size = image_allocated_size,
    .child = qcow2_child,
    .map_fast = qcow2_map_fast,
    .info = qcow2_info,
    .bitmap_can_store = qcow2_bitmap_can_store,
    .bitmap_remove = qcow2_bitmap_remove,
    .snapshots = qcow2_snapshots,
    .snapshot_create = qcow2_snapshot_create,
    .snapshot_apply = qcow2_snapshot_apply,
    .snapshot_delete = qcow2_snapshot_delete,
    .snapshot_view = qcow2_snapshot_view,
    .vmstate_preadv = qcow2_vmstate_preadv,
    .vmstate_pwritev = qcow2_vmstate_pwritev,
    .cluster_size = qcow2_cluster_size,
    .backing_filename = qcow2_backing_filename,
    .make_empty = qcow2_make_empty,
    .amend_options = qcow2_amend_options,
    .amend = qcow2_amend,
    .measure = qcow2_measure,
    .change_backing = qcow2_change_backing,
    .preallocate_mode = qcow2_preallocate_mode,
    .create = qcow2_create,
    .check = qcow2_check,
};
