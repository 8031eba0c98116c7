/* VPC: the virtual hard disks (.vhd) of Virtual PC and Hyper-V, fixed and dynamic. After Microsoft's "Virtual Hard Disk
 * Image Format Specification", version 1.0. All numbers are big-endian.
 *
 * A dynamic disk: a copy of the footer, the dynamic header, the block allocation table (BAT), blocks (a bitmap of written
 * sectors, then data), the footer. The footer moves when a block is added; it is written at a flush, and until then its
 * copy at the front stands in, as the specification has it. */
#include <errno.h>
#include <time.h>
#include "block/format/image.h"
#include "rhea/base/options.h"

enum {
    VHD_FIXED = 2, VHD_DYNAMIC = 3, VHD_DIFFERENCING = 4,
    VHD_BLOCK = 2 << 20, VHD_BLOCK_MIN = 4096, VHD_BLOCK_MAX = 256 << 20, VHD_BAT = 1536, VHD_BAT_MAX = 1 << 24,
    VHD_EPOCH = 946684800,      /* 2000-01-01 00:00 UTC */
};
#define VHD_UNUSED UINT32_MAX
#define VHD_SECTORS_MAX 0xff000000ull           /* 2040 GiB */
#define VHD_GEOMETRY_MAX (65535ull * 16 * 255)

/* Footer; its copy */
enum {
    F_FEATURES = 8, F_VERSION = 12, F_DATA_OFFSET = 16, F_TIME = 24, F_CREATOR = 28, F_CREATOR_VERSION = 32, F_OS = 36,
    F_ORIGINAL_SIZE = 40, F_CURRENT_SIZE = 48, F_CYLINDERS = 56, F_HEADS = 58, F_SPT = 59, F_TYPE = 60, F_CHECKSUM = 64,
    F_UUID = 68, F_LENGTH = 512,
};
/* Dynamic header */
enum { D_DATA_OFFSET = 8, D_TABLE = 16, D_VERSION = 24, D_ENTRIES = 28, D_BLOCK_SIZE = 32, D_CHECKSUM = 36, D_LENGTH = 1024 };

struct vpc {
    struct blockmap map;
    struct table_cache *table;
    uint8_t footer[F_LENGTH];
    uint64_t bat, next;         /* next: where the next block goes, and the footer is now */
    uint32_t block_size, bitmap_size, entries;
    bool fixed, footer_dirty;
};

static const char *const vpc_options[] = { "file", "force_size_calc", NULL };
static const char *const vpc_create_options[] = { "size", "subformat", "force_size", NULL };
static const struct blockmap_ops vpc_ops;

static int vpc_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return len >= 8 && !memcmp(buf, "conectix", 8) ? 100 : 0;
}

static uint32_t checksum(const uint8_t *buf, size_t len, size_t at)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < len; i++)
        if (i < at || i >= at + 4)
            sum += buf[i];
    return ~sum;
}

static void checksum_put(uint8_t *buf, size_t len, size_t at)
{
    put_be32(buf + at, checksum(buf, len, at));
}

/* ---- opening */

/* Virtual PC goes by the geometry, others by the size field; those that went by the geometry are known by name. */
static bool size_by_geometry(const uint8_t *footer, const char *forced)
{
    if (!strcmp(forced, "chs"))
        return true;
    if (!strcmp(forced, "current_size"))
        return false;
    return !memcmp(footer + F_CREATOR, "vpc ", 4) || !memcmp(footer + F_CREATOR, "vs  ", 4) ||
           !memcmp(footer + F_CREATOR, "qemu", 4);
}

static bool disk_size(struct block_node *n, const char *forced, struct error *err)
{
    struct vpc *s = n->state;
    const uint8_t *f = s->footer;
    uint64_t geometry = (uint64_t)be16(f + F_CYLINDERS) * f[F_HEADS] * f[F_SPT], size = be64(f + F_CURRENT_SIZE);

    if (strcmp(forced, "") && strcmp(forced, "chs") && strcmp(forced, "current_size"))
        return error_setf(err, ERR_GENERIC, "it is chs or current_size", "unknown force_size_calc '%s'", forced);
    if (size_by_geometry(f, forced) && geometry < VHD_GEOMETRY_MAX)
        size = geometry * 512;
    if (size / 512 > VHD_SECTORS_MAX)
        return image_corrupt(err, "VPC", "a disk of %" PRIu64 " bytes", size);
    n->size = size / 512 * 512;
    return true;
}

/* Where the next block goes: after all that the table knows. */
static int find_end(struct block_node *n)
{
    struct vpc *s = n->state;
    uint8_t buf[4096];
    uint64_t end = round_up(s->bat + 4ull * s->entries, 512);
    int ret = 0;

    for (uint64_t i = 0; i < s->entries && !ret; i += sizeof(buf) / 4) {
        unsigned k = MIN(sizeof(buf) / 4, s->entries - i);

        ret = table_read(s->table, s->bat + i * 4, buf, k * 4);
        for (unsigned j = 0; j < k; j++)
            if (be32(buf + j * 4) != VHD_UNUSED)
                end = MAX(end, be32(buf + j * 4) * 512ull + s->bitmap_size + s->block_size);
    }
    s->next = end;
    return ret;
}

static bool dynamic_open(struct block_node *n, struct error *err)
{
    struct vpc *s = n->state;
    uint8_t d[D_LENGTH];
    uint64_t at = be64(s->footer + F_DATA_OFFSET);
    int ret;

    if (!range_inside(at, sizeof(d), n->file->size))
        return image_corrupt(err, "VPC", "the dynamic header lies outside the file");
    ret = node_pread(n->file, at, d, sizeof(d));
    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot read the dynamic header");
    if (memcmp(d, "cxsparse", 8))
        return image_corrupt(err, "VPC", "no dynamic header");
    s->bat = be64(d + D_TABLE);
    s->entries = be32(d + D_ENTRIES);
    s->block_size = be32(d + D_BLOCK_SIZE);
    if (!is_power_of_2(s->block_size) || s->block_size < VHD_BLOCK_MIN || s->block_size > VHD_BLOCK_MAX)
        return image_corrupt(err, "VPC", "block size %u", s->block_size);
    if (n->size > (uint64_t)s->entries * s->block_size)
        return image_corrupt(err, "VPC", "the block table is too short for the disk");
    s->entries = (n->size + s->block_size - 1) / s->block_size;
    if (s->entries > VHD_BAT_MAX || !range_inside(s->bat, 4ull * s->entries, n->file->size))
        return image_corrupt(err, "VPC", "the block table is too large, or lies outside the file");
    s->bitmap_size = round_up(s->block_size / 512 / 8, 512);
    s->table = table_new(n->file);
    ret = n->read_only ? 0 : find_end(n);
    return !ret || error_set_errno(err, -ret, NULL, "cannot read the block table");
}

static bool vpc_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct vpc *s = n->state;
    uint8_t *f = s->footer;
    int ret;

    blockmap_init(&s->map, &vpc_ops);
    n->file = node_open_child(n, opts, "file", err);
    if (!n->file)
        return false;
    ret = node_pread(n->file, 0, f, F_LENGTH);
    if (!ret && memcmp(f, "conectix", 8)) {     /* fixed disks have only the one at the end */
        s->fixed = true;
        ret = n->file->size < F_LENGTH ? -EINVAL : node_pread(n->file, n->file->size - F_LENGTH, f, F_LENGTH);
        if (!ret && (memcmp(f, "conectix", 8) || be32(f + F_TYPE) != VHD_FIXED))
            return image_corrupt(err, "VPC", "no footer");
    }
    if (ret)
        return error_set_errno(err, -ret, NULL, "'%s': cannot read the footer", n->file->filename);
    if (be32(f + F_CHECKSUM) != checksum(f, F_LENGTH, F_CHECKSUM))
        return image_corrupt(err, "VPC", "the footer's checksum is wrong");
    if (be32(f + F_TYPE) == VHD_DIFFERENCING)
        return error_set(err, ERR_GENERIC, "differencing VPC images are not supported", "merge it with its parent first");
    if (be32(f + F_TYPE) != (s->fixed ? VHD_FIXED : VHD_DYNAMIC))
        return image_corrupt(err, "VPC", "disk type %u", be32(f + F_TYPE));
    if (!disk_size(n, option_str(opts, "force_size_calc", ""), err))
        return false;
    if (!s->fixed)
        return dynamic_open(n, err);
    s->block_size = VHD_BLOCK;
    return n->size <= n->file->size - F_LENGTH || image_corrupt(err, "VPC", "the file is shorter than the disk");
}

static void vpc_close(struct block_node *n)
{
    table_free(((struct vpc *)n->state)->table);
}

/* ---- the map */

static int vpc_find(struct block_node *n, uint64_t off, struct place *p)
{
    struct vpc *s = n->state;
    uint64_t index = off / MAX(s->block_size, 1);
    uint8_t v[4];
    int ret;

    p->kind = PLACE_DATA;
    if (s->fixed) {
        p->end = n->size;
        return 0;
    }
    ret = table_read(s->table, s->bat + index * 4, v, 4);
    p->start = index * s->block_size;
    p->end = p->start + s->block_size;
    p->host = be32(v) * 512ull + s->bitmap_size;
    if (be32(v) == VHD_UNUSED)
        p->kind = PLACE_ABSENT;
    return ret;
}

static int vpc_allocate(struct block_node *n, uint64_t off, struct place *p)
{
    struct vpc *s = n->state;

    if (s->next / 512 >= VHD_UNUSED)
        return -EFBIG;
    p->host = s->next + s->bitmap_size;
    return 0;
}

static int vpc_publish(struct block_node *n, const struct place *p)
{
    struct vpc *s = n->state;
    g_autofree uint8_t *bitmap = g_malloc(s->bitmap_size);
    uint64_t end = p->host + s->block_size;
    uint8_t v[4];
    int ret;

    memset(bitmap, 0xff, s->bitmap_size);               /* all sectors count as written */
    ret = node_pwrite(n->file, s->next, bitmap, s->bitmap_size);
    put_be32(v, s->next / 512);
    if (!ret)
        ret = table_write(s->table, s->bat + p->start / s->block_size * 4, v, 4);
    if (ret)
        return ret;
    s->next = end;
    s->footer_dirty = true;
    return 0;
}

static const struct blockmap_ops vpc_ops = { .find = vpc_find, .allocate = vpc_allocate, .publish = vpc_publish };

static int vpc_flush_cache(struct block_node *n)
{
    struct vpc *s = n->state;
    int ret;

    if (s->fixed)
        return 0;
    co_mutex_lock(&s->map.lock);
    ret = s->footer_dirty ? node_pwrite(n->file, s->next, s->footer, F_LENGTH) : 0;
    if (!ret)
        s->footer_dirty = false;
    co_mutex_unlock(&s->map.lock);
    return ret ? ret : table_flush(s->table, false);
}

static uint32_t vpc_cluster_size(struct block_node *n)
{
    return ((struct vpc *)n->state)->block_size;
}

/* ---- creation */

/* The geometry of so many sectors (the specification's appendix "CHS Calculation"); rounds down. */
static struct image_geometry geometry_of(uint64_t sectors)
{
    struct image_geometry g = { .heads = 16, .sectors = 255 };
    uint64_t tracks;

    sectors = MIN(sectors, VHD_GEOMETRY_MAX);
    tracks = sectors / 255;
    if (sectors <= 65535ull * 16 * 63) {
        g.sectors = 17;
        tracks = sectors / 17;
        g.heads = MAX((tracks + 1023) / 1024, 4);
        if (tracks >= g.heads * 1024 || g.heads > 16) {
            g.sectors = 31;
            g.heads = 16;
            tracks = sectors / 31;
        }
        if (tracks >= g.heads * 1024) {
            g.sectors = 63;
            g.heads = 16;
            tracks = sectors / 63;
        }
    }
    g.cylinders = tracks / g.heads;
    return g;
}

/* The least geometry that holds the disk, and by it the disk's size, unless force_size. */
static bool plan_size(struct json_object *opts, bool force, uint64_t *size, struct image_geometry *g, struct error *err)
{
    uint64_t sectors, whole = 0;

    if (!image_create_size(opts, "VPC", VHD_SECTORS_MAX * 512, size, err))
        return false;
    sectors = *size / 512;
    for (uint64_t more = 0; whole < MIN(sectors, VHD_GEOMETRY_MAX); more++) {
        *g = geometry_of(sectors + more);
        whole = (uint64_t)g->cylinders * g->heads * g->sectors;
        if (force || whole == VHD_GEOMETRY_MAX)
            return true;
    }
    if (!sectors)
        *g = geometry_of(0);
    *size = whole * 512;
    return true;
}

static void put_footer(uint8_t *f, uint64_t size, const struct image_geometry *g, bool fixed, bool force)
{
    memcpy(f, "conectix", 8);
    put_be32(f + F_FEATURES, 2);                /* always set */
    put_be32(f + F_VERSION, 0x00010000);
    put_be64(f + F_DATA_OFFSET, fixed ? UINT64_MAX : F_LENGTH);
    put_be32(f + F_TIME, time(NULL) - VHD_EPOCH);
    /* These names tell other software how to compute the size. */
    memcpy(f + F_CREATOR, force ? "qem2" : "qemu", 4);
    put_be16(f + F_CREATOR_VERSION, 5);
    put_be16(f + F_CREATOR_VERSION + 2, 3);
    memcpy(f + F_OS, "Wi2k", 4);
    put_be64(f + F_ORIGINAL_SIZE, size);
    put_be64(f + F_CURRENT_SIZE, size);
    put_be16(f + F_CYLINDERS, g->cylinders);
    f[F_HEADS] = g->heads;
    f[F_SPT] = g->sectors;
    put_be32(f + F_TYPE, fixed ? VHD_FIXED : VHD_DYNAMIC);
    image_random_uuid(f + F_UUID);
    checksum_put(f, F_LENGTH, F_CHECKSUM);
}

static int write_dynamic(struct block_node *file, const uint8_t *footer, uint64_t size)
{
    uint32_t entries = (size + VHD_BLOCK - 1) / VHD_BLOCK;
    uint64_t bat_bytes = round_up(4ull * entries, 512);
    g_autofree uint8_t *bat = g_malloc(bat_bytes + 1);
    uint8_t d[D_LENGTH] = "cxsparse";
    int ret;

    memset(bat, 0xff, bat_bytes);
    put_be64(d + D_DATA_OFFSET, UINT64_MAX);
    put_be64(d + D_TABLE, VHD_BAT);
    put_be32(d + D_VERSION, 0x00010000);
    put_be32(d + D_ENTRIES, entries);
    put_be32(d + D_BLOCK_SIZE, VHD_BLOCK);
    checksum_put(d, sizeof(d), D_CHECKSUM);
    ret = node_pwrite(file, 0, footer, F_LENGTH);
    if (!ret)
        ret = node_pwrite(file, F_LENGTH, d, sizeof(d));
    if (!ret && bat_bytes)
        ret = node_pwrite(file, VHD_BAT, bat, bat_bytes);
    return ret ? ret : node_pwrite(file, VHD_BAT + bat_bytes, footer, F_LENGTH);
}

static bool vpc_create(struct block_graph *graph, const char *filename, struct json_object *opts, struct error *err)
{
    static const char *const formats[] = { "dynamic", "fixed", NULL };
    int fixed = image_choice(opts, "subformat", formats, err), ret;
    struct image_geometry g = { 0 };
    uint8_t footer[F_LENGTH] = { 0 };
    struct block_node *file;
    uint64_t size;
    bool force;

    if (fixed < 0 || !option_bool(opts, "force_size", false, &force, err) || !plan_size(opts, force, &size, &g, err))
        return false;
    put_footer(footer, size, &g, fixed, force);
    file = image_create_file(filename, err);
    if (!file)
        return false;
    ret = fixed ? node_pwrite(file, size, footer, F_LENGTH) : write_dynamic(file, footer, size);
    if (!ret)
        ret = node_flush(file);
    if (ret)
        error_set_errno(err, -ret, NULL, "cannot write '%s'", filename);
    image_close_file(file);
    return ret == 0;
}

BLOCK_DRIVER = {
    .name = "vpc",
    .summary = "Virtual PC's and Hyper-V's disk image (.vhd)",
    .kind = DRIVER_FORMAT,
    .size = sizeof(struct vpc),
    .options = vpc_options,
    .create_options = vpc_create_options,
    .probe = vpc_probe,
    .open = vpc_open,
    .close = vpc_close,
    .preadv = blockmap_preadv,
    .pwritev = blockmap_pwritev,
    .write_zeroes = blockmap_write_zeroes,
    .flush_cache = vpc_flush_cache,
    .block_status = blockmap_status,
    .allocated_size = image_allocated_size,
    .cluster_size = vpc_cluster_size,
    .create = vpc_create,
};
