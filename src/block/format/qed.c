/* QED: the QEMU Enhanced Disk format. A header, a first-level table of second-level tables of clusters; after its
 * specification (docs/interop/qed_spec.txt's published text). Numbers are little-endian.
 *
 * Tables and clusters are taken from the file's end, where they read as zeroes. While such changes may be lost the header
 * says NEED_CHECK. */
#include <errno.h>
#include "block/format/image.h"
#include "block/graph.h"
#include "rhea/base/options.h"

enum {
    QED_MAGIC = 0x00444551, /* "QED\0" */
    QED_BACKING = 1, QED_NEED_CHECK = 2, QED_NO_PROBE = 4, QED_FEATURES = 7,
    H_CLUSTER = 4, H_TABLE = 8, H_HEADER = 12, H_FEATURES = 16, H_COMPAT = 24, H_AUTOCLEAR = 32, H_L1 = 40, H_SIZE = 48,
    H_BACKING = 56, H_BACKING_LEN = 60, H_LENGTH = 64,
    CLUSTER_MIN = 4096, CLUSTER_MAX = 64 << 20, TABLE_MAX = 16, NAME_MAX_LEN = 1023, ZERO_CLUSTER = 1,
};

struct qed {
    struct blockmap map;
    struct table_cache *table;
    uint32_t cluster, entries, header_bytes;
    uint64_t l1, features, next, table_bytes;
    char *backing;
};

static const char *const qed_options[] = { "file", "backing", NULL };
static const char *const qed_create_options[] = { "size", "backing_file", "backing_fmt", "cluster_size", "table_size", NULL };
static const struct blockmap_ops qed_ops;

static int qed_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return len >= H_LENGTH && le32(buf) == QED_MAGIC ? 100 : 0;
}

/* ---- opening */

static bool table_place_ok(struct block_node *n, uint64_t off, uint64_t bytes)
{
    struct qed *s = n->state;

    return off >= s->header_bytes && !(off % s->cluster) && range_inside(off, bytes, round_up(n->file->size, s->cluster));
}

static bool header_take(struct block_node *n, const uint8_t *h, struct error *err)
{
    struct qed *s = n->state;
    uint64_t header = le32(h + H_HEADER), clusters = le32(h + H_TABLE);

    s->cluster = le32(h + H_CLUSTER);
    s->features = le64(h + H_FEATURES);
    s->l1 = le64(h + H_L1);
    n->size = le64(h + H_SIZE);
    if (le32(h) != QED_MAGIC)
        return image_corrupt(err, "QED", "no QED header");
    if (s->features & ~(uint64_t)QED_FEATURES)
        return error_setf(err, ERR_GENERIC, NULL, "unsupported QED features: %#" PRIx64, s->features & ~(uint64_t)QED_FEATURES);
    if (!is_power_of_2(s->cluster) || s->cluster < CLUSTER_MIN || s->cluster > CLUSTER_MAX)
        return image_corrupt(err, "QED", "cluster size %u", s->cluster);
    if (!is_power_of_2(clusters) || clusters > TABLE_MAX)
        return image_corrupt(err, "QED", "tables of %" PRIu64 " clusters", clusters);
    s->table_bytes = clusters * s->cluster;
    s->entries = s->table_bytes / 8;
    if (!header || header > UINT32_MAX / s->cluster)
        return image_corrupt(err, "QED", "a header of %" PRIu64 " clusters", header);
    s->header_bytes = header * s->cluster;
    if (n->size % 512 || n->size > INT64_MAX || n->size / s->cluster / s->entries > s->entries)
        return image_corrupt(err, "QED", "a disk of %" PRIu64 " bytes does not fit the tables", n->size);
    return table_place_ok(n, s->l1, s->table_bytes) || image_corrupt(err, "QED", "the L1 table lies outside the file");
}

static bool open_backing(struct block_node *n, const uint8_t *h, struct json_object *opts, struct error *err)
{
    struct qed *s = n->state;
    uint32_t at = le32(h + H_BACKING), len = le32(h + H_BACKING_LEN);
    struct json_object *v;
    bool given = json_object_object_get_ex(opts, "backing", &v);
    int ret;

    if (s->features & QED_BACKING) {
        if (!len || len > NAME_MAX_LEN || !range_inside(at, len, s->header_bytes))
            return image_corrupt(err, "QED", "the backing file's name lies outside the header");
        s->backing = g_malloc0(len + 1);
        ret = node_pread(n->file, at, s->backing, len);
        if (ret)
            return error_set_errno(err, -ret, NULL, "cannot read the backing file's name");
    }
    if (given ? !v : !s->backing)
        return true;
    n->backing = node_open_backing(n, opts, s->backing, s->features & QED_NO_PROBE ? "raw" : NULL, err);
    return n->backing != NULL;
}

static int features_write(struct block_node *n, uint64_t features)
{
    struct qed *s = n->state;
    uint8_t v[8];
    int ret;

    put_le64(v, features);
    ret = node_pwrite(n->file, H_FEATURES, v, 8);
    if (!ret)
        ret = node_flush(n->file);
    if (!ret)
        s->features = features;
    return ret;
}

static bool qed_check(struct block_node *n, unsigned repair, struct block_check *out, struct error *err);

/* An image that was not closed is looked over before it is written to. */
static bool mend(struct block_node *n, struct error *err)
{
    struct qed *s = n->state;
    struct block_check check = { 0 };

    if (n->read_only || !(s->features & QED_NEED_CHECK) || n->graph->repairing)
        return true;
    if (!qed_check(n, BLOCK_FIX_ERRORS, &check, err))
        return false;
    return !check.errors || error_setf(err, ERR_GENERIC, "rhea-img check -r all mends what can be mended",
                                       "'%s' was not closed, and has errors", n->file->filename);
}

static bool qed_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct qed *s = n->state;
    uint8_t h[H_LENGTH], zero[8] = { 0 };
    int ret;

    blockmap_init(&s->map, &qed_ops);
    n->file = node_open_child(n, opts, "file", err);
    if (!n->file)
        return false;
    ret = node_pread(n->file, 0, h, sizeof(h));
    if (ret)
        return error_set_errno(err, -ret, NULL, "'%s': cannot read the header", n->file->filename);
    if (!header_take(n, h, err) || !open_backing(n, h, opts, err))
        return false;
    /* Features that a program does not know, but may ignore if it says so. */
    if (!n->read_only && le64(h + H_AUTOCLEAR) && (ret = node_pwrite(n->file, H_AUTOCLEAR, zero, 8)))
        return error_set_errno(err, -ret, NULL, "cannot write the header");
    s->next = round_up(n->file->size, s->cluster);
    s->table = table_new(n->file);
    return mend(n, err);
}

static void qed_close(struct block_node *n)
{
    struct qed *s = n->state;

    if (s->table && !n->read_only && (s->features & QED_NEED_CHECK) && !n->graph->repairing &&
        !table_flush(s->table, false) && !node_flush(n->file))
        features_write(n, s->features & ~(uint64_t)QED_NEED_CHECK);
    table_free(s->table);
    g_free(s->backing);
}

static int qed_flush_cache(struct block_node *n)
{
    return table_flush(((struct qed *)n->state)->table, n->backing != NULL);
}

/* ---- the map */

static int entry_get(struct qed *s, uint64_t table, uint64_t index, uint64_t *v)
{
    uint8_t b[8];
    int ret = table_read(s->table, table + index * 8, b, 8);

    *v = le64(b);
    return ret;
}

static int entry_put(struct qed *s, uint64_t table, uint64_t index, uint64_t v)
{
    uint8_t b[8];

    put_le64(b, v);
    return table_write(s->table, table + index * 8, b, 8);
}

static int qed_find(struct block_node *n, uint64_t off, struct place *p)
{
    struct qed *s = n->state;
    uint64_t cluster = off / s->cluster, l2, entry;
    int ret = entry_get(s, s->l1, cluster / s->entries, &l2);

    if (ret)
        return ret;
    p->kind = PLACE_ABSENT;
    if (!l2) {
        p->start = cluster / s->entries * s->entries * s->cluster;
        p->end = p->start + (uint64_t)s->entries * s->cluster;
        return 0;
    }
    if (!table_place_ok(n, l2, s->table_bytes))
        return -EIO;
    ret = entry_get(s, l2, cluster % s->entries, &entry);
    p->start = cluster * s->cluster;
    p->end = p->start + s->cluster;
    p->host = entry;
    if (entry == ZERO_CLUSTER)
        p->kind = PLACE_ZERO;
    else if (entry)
        p->kind = PLACE_DATA;
    return ret ? ret : entry > ZERO_CLUSTER && !table_place_ok(n, entry, 1) ? -EIO : 0;
}

static int qed_allocate(struct block_node *n, uint64_t off, struct place *p)
{
    struct qed *s = n->state;

    p->start = off / s->cluster * s->cluster;
    p->end = p->start + s->cluster;
    p->host = s->next;
    return s->features & QED_NEED_CHECK ? 0 : features_write(n, s->features | QED_NEED_CHECK);
}

static int entry_set(struct block_node *n, uint64_t start, uint64_t v)
{
    struct qed *s = n->state;
    uint64_t cluster = start / s->cluster, l2;
    int ret = entry_get(s, s->l1, cluster / s->entries, &l2);

    if (!ret && !l2) {
        l2 = s->next;
        ret = image_fresh(n->file, l2, s->table_bytes);
        if (!ret)
            ret = entry_put(s, s->l1, cluster / s->entries, l2);
        if (!ret)
            s->next += s->table_bytes;
    }
    if (!ret && !table_place_ok(n, l2, s->table_bytes))
        ret = -EIO;
    return ret ? ret : entry_put(s, l2, cluster % s->entries, v);
}

static int qed_publish(struct block_node *n, const struct place *p)
{
    ((struct qed *)n->state)->next = p->host + (p->end - p->start);
    return entry_set(n, p->start, p->host);
}

static int qed_publish_zero(struct block_node *n, const struct place *p)
{
    return entry_set(n, p->start, ZERO_CLUSTER);
}

static const struct blockmap_ops qed_ops = { .find = qed_find, .allocate = qed_allocate, .publish = qed_publish,
                                             .publish_zero = qed_publish_zero };

/* ---- resizing: larger only; what is new was never written */

static int qed_truncate(struct block_node *n, uint64_t size, struct error *err)
{
    struct qed *s = n->state;
    uint8_t v[8];

    if (size < n->size) {
        error_set(err, ERR_GENERIC, "QED images cannot shrink", NULL);
        return -ENOTSUP;
    }
    if (size % 512 || size / s->cluster / s->entries >= s->entries) {
        error_set(err, ERR_GENERIC, "the image's tables cannot hold so large a disk", NULL);
        return -EFBIG;
    }
    if (n->backing && n->backing->size > n->size) {
        error_set(err, ERR_GENERIC, "the longer backing image would show through at the end", "commit or rebase it first");
        return -ENOTSUP;
    }
    put_le64(v, size);
    return node_pwrite(n->file, H_SIZE, v, 8);
}

/* ---- what is told of it */

static uint32_t qed_cluster_size(struct block_node *n)
{
    return ((struct qed *)n->state)->cluster;
}

static char *qed_backing_filename(struct block_node *n, char **format)
{
    struct qed *s = n->state;

    if (s->features & QED_NO_PROBE)
        *format = g_strdup("raw");
    return g_strdup(s->backing);
}

/* ---- check */

struct check { struct block_node *n; struct block_check *out; uint8_t *used; uint64_t clusters; bool repair; };

/* Takes the clusters; false: they lie outside the file, or another has them. */
static bool check_take(struct check *c, uint64_t off, uint64_t bytes)
{
    struct qed *s = c->n->state;
    uint64_t first = off / s->cluster, count = bytes / s->cluster;

    if (!table_place_ok(c->n, off, bytes))
        return false;
    for (uint64_t i = first; i < first + count; i++) {
        if (i >= c->clusters || (c->used[i / 8] >> i % 8 & 1))
            return false;
        c->used[i / 8] |= 1 << i % 8;
    }
    return true;
}

static int check_bad(struct check *c, uint64_t table, uint64_t index)
{
    int ret = c->repair ? entry_put(c->n->state, table, index, 0) : 0;

    if (c->repair && !ret)
        c->out->errors_fixed++;
    else
        c->out->errors++;
    return ret;
}

static int check_l2(struct check *c, uint64_t l2)
{
    struct qed *s = c->n->state;
    uint64_t entry;
    int ret = 0;

    for (uint64_t i = 0; i < s->entries && !ret; i++) {
        ret = entry_get(s, l2, i, &entry);
        if (ret || entry <= ZERO_CLUSTER)
            continue;
        c->out->allocated_clusters++;
        if (!check_take(c, entry, s->cluster))
            ret = check_bad(c, l2, i);
    }
    return ret;
}

static int check_tables(struct check *c)
{
    struct qed *s = c->n->state;
    uint64_t l2;
    int ret = 0;

    for (uint64_t i = 0; i < s->entries && !ret; i++) {
        ret = entry_get(s, s->l1, i, &l2);
        if (ret || !l2)
            continue;
        ret = check_take(c, l2, s->table_bytes) ? check_l2(c, l2) : check_bad(c, s->l1, i);
    }
    return ret;
}

static bool qed_check(struct block_node *n, unsigned repair, struct block_check *out, struct error *err)
{
    struct qed *s = n->state;
    struct check c = { .n = n, .out = out, .repair = repair & BLOCK_FIX_ERRORS,
                       .clusters = round_up(n->file->size, s->cluster) / s->cluster };
    int ret;

    c.used = g_try_malloc0(c.clusters / 8 + 1);
    if (!c.used)
        return error_set_errno(err, ENOMEM, NULL, "cannot check");
    out->total_clusters = (n->size + s->cluster - 1) / s->cluster;
    check_take(&c, s->l1, s->table_bytes);
    ret = check_tables(&c);
    for (uint64_t i = s->header_bytes / s->cluster; i < c.clusters; i++)
        out->leaks += !(c.used[i / 8] >> i % 8 & 1);
    if (!ret && repair)
        ret = table_flush(s->table, false);
    if (!ret && repair && !out->errors && (s->features & QED_NEED_CHECK) && !node_flush(n->file))
        ret = features_write(n, s->features & ~(uint64_t)QED_NEED_CHECK);
    g_free(c.used);
    return !ret || error_set_errno(err, -ret, NULL, "cannot check");
}

/* ---- creation */

struct plan { uint64_t size, cluster, table; const char *backing, *format; };

static bool plan_parse(struct plan *p, struct json_object *opts, struct error *err)
{
    uint64_t entries;

    p->backing = option_str(opts, "backing_file", NULL);
    p->format = option_str(opts, "backing_fmt", "");
    if (!image_create_size(opts, "QED", INT64_MAX / 2, &p->size, err) ||
        !option_size(opts, "cluster_size", 64 << 10, &p->cluster, err) || !option_size(opts, "table_size", 4, &p->table, err))
        return false;
    if (!is_power_of_2(p->cluster) || p->cluster < CLUSTER_MIN || p->cluster > CLUSTER_MAX)
        return error_set(err, ERR_GENERIC, "QED cluster size must be within range [4096, 67108864] and power of 2", NULL);
    if (!is_power_of_2(p->table) || p->table > TABLE_MAX)
        return error_set(err, ERR_GENERIC, "QED table size must be within range [1, 16] and power of 2", NULL);
    entries = p->table * p->cluster / 8;
    if (p->size / p->cluster / entries >= entries)
        return error_setf(err, ERR_GENERIC, "larger clusters or tables hold more",
                          "QED image size must be a non-zero multiple of cluster size and less than %" PRIu64 " bytes",
                          entries * entries * p->cluster);
    return !p->backing || strlen(p->backing) <= NAME_MAX_LEN ||
           error_set(err, ERR_GENERIC, "the backing file's name is too long", NULL);
}

static bool qed_create(struct block_graph *g, const char *filename, struct json_object *opts, struct error *err)
{
    uint8_t h[H_LENGTH + NAME_MAX_LEN] = { 0 };
    struct plan p = { 0 };
    struct block_node *file;
    int ret;

    if (!plan_parse(&p, opts, err))
        return false;
    put_le32(h, QED_MAGIC);
    put_le32(h + H_CLUSTER, p.cluster);
    put_le32(h + H_TABLE, p.table);
    put_le32(h + H_HEADER, 1);
    put_le64(h + H_FEATURES, (p.backing ? QED_BACKING : 0) | (p.backing && !strcmp(p.format, "raw") ? QED_NO_PROBE : 0));
    put_le64(h + H_L1, p.cluster);
    put_le64(h + H_SIZE, p.size);
    if (p.backing) {
        put_le32(h + H_BACKING, H_LENGTH);
        put_le32(h + H_BACKING_LEN, strlen(p.backing));
        memcpy(h + H_LENGTH, p.backing, strlen(p.backing));
    }
    file = image_create_file(filename, err);
    if (!file)
        return false;
    ret = node_truncate(file, p.cluster + p.table * p.cluster, NULL);
    if (!ret)
        ret = node_pwrite(file, 0, h, sizeof(h));
    if (!ret)
        ret = node_flush(file);
    if (ret)
        error_set_errno(err, -ret, NULL, "cannot write '%s'", filename);
    image_close_file(file);
    return ret == 0;
}

BLOCK_DRIVER = {
    .name = "qed",
    .summary = "the QEMU Enhanced Disk format, qcow2's rival of its day",
    .kind = DRIVER_FORMAT,
    .size = sizeof(struct qed),
    .options = qed_options,
    .create_options = qed_create_options,
    .probe = qed_probe,
    .open = qed_open,
    .close = qed_close,
    .preadv = blockmap_preadv,
    .pwritev = blockmap_pwritev,
    .write_zeroes = blockmap_write_zeroes,
    .flush_cache = qed_flush_cache,
    .block_status = blockmap_status,
    .truncate = qed_truncate,
    .allocated_size = image_allocated_size,
    .cluster_size = qed_cluster_size,
    .backing_filename = qed_backing_filename,
    .create = qed_create,
    .check = qed_check,
};
