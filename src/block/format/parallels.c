/* Parallels: the expandable disks of Parallels Desktop, after "Parallels Expandable Image File Format" (Parallels'
 * published description). A header, a block allocation table (BAT) of 32-bit entries, clusters. Little-endian. */
#include <errno.h>
#include "block/format/image.h"
#include "block/graph.h"
#include "rhea/base/options.h"

enum {
    H_VERSION = 16, H_HEADS = 20, H_CYLINDERS = 24, H_TRACKS = 28, H_ENTRIES = 32, H_SECTORS = 36, H_IN_USE = 44,
    H_DATA = 48, H_FLAGS = 52, H_EXTENSION = 56, H_LENGTH = 64,
    PRL_VERSION = 2, PRL_CLUSTER = 1 << 20, PRL_CLUSTER_MAX = 256 << 20, PRL_ENTRIES_MAX = 1 << 28, PRL_EMPTY = 1,
};
#define PRL_IN_USE 0x746f6e59u

static const char magic_plain[16] = "WithoutFreeSpace", magic_ext[16] = "WithouFreSpacExt";

struct parallels {
    struct blockmap map;
    struct table_cache *table;
    uint64_t cluster, unit, data, next;         /* unit: what a BAT entry counts in */
    uint32_t entries;
    bool marked;                /* we wrote that it is in use */
};

static const char *const parallels_options[] = { "file", NULL };
static const char *const parallels_create_options[] = { "size", "cluster_size", NULL };
static const struct blockmap_ops parallels_ops;

static bool is_magic(const uint8_t *buf)
{
    return !memcmp(buf, magic_plain, 16) || !memcmp(buf, magic_ext, 16);
}

static int parallels_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return len >= H_LENGTH && is_magic(buf) && le32(buf + H_VERSION) == PRL_VERSION ? 100 : 0;
}

/* ---- opening */

static bool header_take(struct block_node *n, const uint8_t *h, struct error *err)
{
    struct parallels *s = n->state;
    bool ext = !memcmp(h, magic_ext, 16);
    uint64_t sectors = le64(h + H_SECTORS), table;

    if (!is_magic(h) || le32(h + H_VERSION) != PRL_VERSION)
        return image_corrupt(err, "Parallels", "no header, or of an unknown version");
    if (!ext)
        sectors &= UINT32_MAX;          /* the upper half was not defined then */
    s->cluster = le32(h + H_TRACKS) * 512ull;
    s->entries = le32(h + H_ENTRIES);
    s->unit = ext ? s->cluster : 512;
    if (!s->cluster || s->cluster > PRL_CLUSTER_MAX)
        return image_corrupt(err, "Parallels", "clusters of %" PRIu64 " bytes", s->cluster);
    if (s->entries > PRL_ENTRIES_MAX || sectors > INT64_MAX / 512 || sectors * 512 > s->entries * s->cluster)
        return image_corrupt(err, "Parallels", "a disk of %" PRIu64 " sectors does not fit the table", sectors);
    table = H_LENGTH + 4ull * s->entries;
    if (table > n->file->size)
        return image_corrupt(err, "Parallels", "the table lies outside the file");
    s->data = le32(h + H_DATA) ? le32(h + H_DATA) * 512ull : round_up(table, 512);
    if (s->data < table)
        return image_corrupt(err, "Parallels", "data overlaps the table");
    n->size = sectors * 512;
    return true;
}

static int in_use_write(struct block_node *n, bool used)
{
    uint8_t v[4];
    int ret;

    put_le32(v, used ? PRL_IN_USE : 0);
    ret = node_pwrite(n->file, H_IN_USE, v, 4);
    return ret ? ret : node_flush(n->file);
}

static bool parallels_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct parallels *s = n->state;
    uint8_t h[H_LENGTH];
    int ret;

    blockmap_init(&s->map, &parallels_ops);
    n->file = node_open_child(n, opts, "file", err);
    if (!n->file)
        return false;
    ret = node_pread(n->file, 0, h, sizeof(h));
    if (ret)
        return error_set_errno(err, -ret, NULL, "'%s': cannot read the header", n->file->filename);
    if (!header_take(n, h, err))
        return false;
    if (!n->read_only && le32(h + H_IN_USE) == PRL_IN_USE && !n->graph->repairing)
        return error_setf(err, ERR_GENERIC, "rhea-img check -r all mends it", "'%s' was not closed, or is in use",
                          n->file->filename);
    if (!n->read_only && le64(h + H_EXTENSION))
        return error_set(err, ERR_GENERIC, "Parallels images with extensions (dirty bitmaps) are only read",
                         "open it with read-only=on");
    s->next = round_up(MAX(n->file->size, s->data), s->unit);
    s->table = table_new(n->file);
    return true;
}

static void parallels_close(struct block_node *n)
{
    struct parallels *s = n->state;

    if (s->marked && !table_flush(s->table, false) && !node_flush(n->file))
        in_use_write(n, false);
    table_free(s->table);
}

static int parallels_flush_cache(struct block_node *n)
{
    return table_flush(((struct parallels *)n->state)->table, false);
}

/* ---- the map */

static int entry_get(struct parallels *s, uint64_t index, uint32_t *v)
{
    uint8_t b[4];
    int ret = table_read(s->table, H_LENGTH + index * 4, b, 4);

    *v = le32(b);
    return ret;
}

static int entry_put(struct parallels *s, uint64_t index, uint32_t v)
{
    uint8_t b[4];

    put_le32(b, v);
    return table_write(s->table, H_LENGTH + index * 4, b, 4);
}

static int parallels_find(struct block_node *n, uint64_t off, struct place *p)
{
    struct parallels *s = n->state;
    uint64_t index = off / s->cluster;
    uint32_t entry;
    int ret = entry_get(s, index, &entry);

    p->start = index * s->cluster;
    p->end = p->start + s->cluster;
    p->kind = entry ? PLACE_DATA : PLACE_ABSENT;
    p->host = entry * s->unit;
    return ret ? ret : entry && p->host < H_LENGTH + 4ull * s->entries ? -EIO : 0;
}

static int parallels_allocate(struct block_node *n, uint64_t off, struct place *p)
{
    struct parallels *s = n->state;
    int ret = s->marked ? 0 : in_use_write(n, true);

    s->marked |= !ret;
    p->host = s->next;
    return ret ? ret : s->next / s->unit > UINT32_MAX ? -EFBIG : 0;
}

static int parallels_publish(struct block_node *n, const struct place *p)
{
    struct parallels *s = n->state;
    int ret = entry_put(s, p->start / s->cluster, p->host / s->unit);

    if (!ret)
        s->next = p->host + s->cluster;
    return ret;
}

static const struct blockmap_ops parallels_ops = { .find = parallels_find, .allocate = parallels_allocate,
                                                   .publish = parallels_publish };

static uint32_t parallels_cluster_size(struct block_node *n)
{
    return ((struct parallels *)n->state)->cluster;
}

/* A cluster that has no place is told as such, as if a backing image could show through: some tools can set one. */
static char *parallels_backing_filename(struct block_node *n, char **format)
{
    return NULL;
}

/* ---- check: clusters lie in the file, each in one place */

struct used { uint64_t host; uint32_t index; };

static int by_host(const void *a, const void *b)
{
    const struct used *x = a, *y = b;

    return x->host < y->host ? -1 : x->host > y->host ? 1 : (x->index > y->index) - (x->index < y->index);
}

static int check_bad(struct block_node *n, uint32_t index, bool repair, struct block_check *out)
{
    if (!repair) {
        out->errors++;
        return 0;
    }
    out->errors_fixed++;
    return entry_put(n->state, index, 0);
}

static bool parallels_check(struct block_node *n, unsigned repair, struct block_check *out, struct error *err)
{
    struct parallels *s = n->state;
    g_autoptr(GArray) all = g_array_new(false, false, sizeof(struct used));
    bool fix = repair & BLOCK_FIX_ERRORS;
    uint64_t end = s->data;
    uint32_t entry;
    int ret = 0;

    out->total_clusters = (n->size + s->cluster - 1) / s->cluster;
    for (uint32_t i = 0; i < s->entries && !ret; i++) {
        struct used u = { 0, i };

        ret = entry_get(s, i, &entry);
        u.host = entry * s->unit;
        if (ret || !entry)
            continue;
        if (u.host < s->data || !range_inside(u.host, 1, n->file->size))
            ret = check_bad(n, i, fix, out);
        else
            g_array_append_val(all, u);
    }
    g_array_sort(all, by_host);
    for (unsigned i = 0; i < all->len && !ret; i++) {
        struct used *u = &g_array_index(all, struct used, i);

        if (i && u->host < end)
            ret = check_bad(n, u->index, fix, out);
        else
            end = u->host + s->cluster;
        out->allocated_clusters++;
    }
    if (n->file->size > end)
        out->leaks = (n->file->size - end) / s->cluster;
    out->end_offset = end;
    if (!ret && fix) {
        ret = table_flush(s->table, false);
        if (!ret)
            ret = in_use_write(n, false);
    }
    return !ret || error_set_errno(err, -ret, NULL, "cannot check");
}

/* ---- creation */

static int write_image(struct block_node *file, uint64_t size, uint64_t cluster)
{
    uint64_t entries = (size + cluster - 1) / cluster, data = round_up(H_LENGTH + 4 * entries, cluster);
    struct image_geometry g = image_geometry(size);
    uint8_t h[H_LENGTH] = { 0 };
    int ret;

    memcpy(h, magic_ext, 16);
    put_le32(h + H_VERSION, PRL_VERSION);
    put_le32(h + H_HEADS, g.heads);
    put_le32(h + H_CYLINDERS, g.cylinders);
    put_le32(h + H_TRACKS, cluster / 512);
    put_le32(h + H_ENTRIES, entries);
    put_le64(h + H_SECTORS, size / 512);
    put_le32(h + H_DATA, data / 512);
    put_le32(h + H_FLAGS, PRL_EMPTY);
    ret = node_truncate(file, data, NULL);
    if (!ret)
        ret = node_pwrite(file, 0, h, sizeof(h));
    return ret ? ret : node_flush(file);
}

static bool parallels_create(struct block_graph *g, const char *filename, struct json_object *opts, struct error *err)
{
    struct block_node *file;
    uint64_t size, cluster;
    int ret;

    if (!option_size(opts, "cluster_size", PRL_CLUSTER, &cluster, err))
        return false;
    if (cluster % 512 || !cluster || cluster > PRL_CLUSTER_MAX)
        return error_set(err, ERR_GENERIC, "cluster_size is a multiple of 512, up to 256 MiB", NULL);
    if (!image_create_size(opts, "Parallels", MIN(PRL_ENTRIES_MAX * cluster, 1ull << 56), &size, err))
        return false;
    file = image_create_file(filename, err);
    if (!file)
        return false;
    ret = write_image(file, size, cluster);
    if (ret)
        error_set_errno(err, -ret, NULL, "cannot write '%s'", filename);
    image_close_file(file);
    return ret == 0;
}

BLOCK_DRIVER = {
    .name = "parallels",
    .summary = "Parallels Desktop's disk image",
    .kind = DRIVER_FORMAT,
    .size = sizeof(struct parallels),
    .options = parallels_options,
    .create_options = parallels_create_options,
    .probe = parallels_probe,
    .open = parallels_open,
    .close = parallels_close,
    .preadv = blockmap_preadv,
    .pwritev = blockmap_pwritev,
    .write_zeroes = blockmap_write_zeroes,
    .flush_cache = parallels_flush_cache,
    .block_status = blockmap_status,
    .allocated_size = image_allocated_size,
    .cluster_size = parallels_cluster_size,
    .backing_filename = parallels_backing_filename,
    .create = parallels_create,
    .check = parallels_check,
};
