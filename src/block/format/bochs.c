/* bochs: growing disks of Bochs ("Redolog", subtype "Growing"), read only. After the layout that Bochs' manual gives
 * for its redologs: a header, a catalog of extents, each a bitmap of its sectors and the sectors. Little-endian. */
#include <errno.h>
#include "block/format/image.h"

enum {
    H_TYPE = 32, H_SUBTYPE = 48, H_VERSION = 64, H_HEADER = 68, H_CATALOG = 72, H_BITMAP = 76, H_EXTENT = 80, H_DISK_1 = 84,
    H_DISK_2 = 88, H_LENGTH = 512, VERSION_1 = 0x10000, VERSION_2 = 0x20000, CATALOG_MAX = 1 << 20, EXTENT_MAX = 128 << 20,
};
#define CATALOG_NONE UINT32_MAX

struct bochs {
    struct blockmap map;
    struct table_cache *table;
    uint64_t catalog, data;
    uint32_t entries, extent, bitmap;   /* bytes of an extent's sectors, and of its bitmap in whole sectors */
};

static const char *const bochs_options[] = { "file", NULL };
static const struct blockmap_ops bochs_ops;

static int bochs_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return len >= H_LENGTH && !strncmp((const char *)buf, "Bochs Virtual HD Image", 32) &&
                   !strncmp((const char *)buf + H_TYPE, "Redolog", 16) &&
                   !strncmp((const char *)buf + H_SUBTYPE, "Growing", 16) &&
                   (le32(buf + H_VERSION) == VERSION_1 || le32(buf + H_VERSION) == VERSION_2)
               ? 100 : 0;
}

static bool bochs_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct bochs *s = n->state;
    uint8_t h[H_LENGTH];
    uint64_t bitmap;
    int ret;

    blockmap_init(&s->map, &bochs_ops);
    if (!image_read_only(n, err))
        return false;
    n->file = node_open_child(n, opts, "file", err);
    if (!n->file)
        return false;
    ret = node_pread(n->file, 0, h, sizeof(h));
    if (ret)
        return error_set_errno(err, -ret, NULL, "'%s': cannot read the header", n->file->filename);
    if (!bochs_probe(h, sizeof(h), ""))
        return image_corrupt(err, "Bochs", "no header of a growing disk");
    n->size = le64(h + (le32(h + H_VERSION) == VERSION_1 ? H_DISK_1 : H_DISK_2)) & ~511ull;
    s->catalog = le32(h + H_HEADER);
    s->entries = le32(h + H_CATALOG);
    s->extent = le32(h + H_EXTENT);
    bitmap = le32(h + H_BITMAP);
    if (s->entries > CATALOG_MAX || !is_power_of_2(s->extent) || s->extent < 512 || s->extent > EXTENT_MAX ||
        bitmap < (s->extent / 512 + 7) / 8 || bitmap > EXTENT_MAX)
        return image_corrupt(err, "Bochs", "a size in the header is out of range");
    if (n->size > (uint64_t)s->entries * s->extent)
        return image_corrupt(err, "Bochs", "the catalog is too small for the disk");
    if (!range_inside(s->catalog, 4ull * s->entries, n->file->size))
        return image_corrupt(err, "Bochs", "the catalog lies outside the file");
    s->bitmap = round_up(bitmap, 512);
    s->data = s->catalog + 4ull * s->entries;
    s->table = table_new(n->file);
    return true;
}

static void bochs_close(struct block_node *n)
{
    table_free(((struct bochs *)n->state)->table);
}

/* The run of sectors from off on that are alike in the extent's bitmap, in a step of a few. */
static int bochs_find(struct block_node *n, uint64_t off, struct place *p)
{
    struct bochs *s = n->state;
    uint64_t index = off / s->extent, sector = off % s->extent / 512, all = s->extent / 512, at, bits, run;
    uint8_t v[8] = { 0 };
    int ret = table_read(s->table, s->catalog + index * 4, v, 4);

    if (ret)
        return ret;
    if (le32(v) == CATALOG_NONE) {
        p->kind = PLACE_ZERO;
        p->start = index * s->extent;
        p->end = p->start + s->extent;
        return 0;
    }
    at = s->data + le32(v) * ((uint64_t)s->bitmap + s->extent);
    ret = table_read(s->table, at + sector / 8, v, MIN(8, (all + 7) / 8 - sector / 8));
    bits = le64(v) >> sector % 8;
    p->kind = bits & 1 ? PLACE_DATA : PLACE_ZERO;
    run = __builtin_ctzll((bits & 1 ? ~bits : bits) | 1ull << 63);
    run = MIN(MIN(MAX(run, 1), 64 - sector % 8), all - sector);
    p->start = off / 512 * 512;
    p->end = p->start + run * 512;
    p->host = at + s->bitmap + sector * 512;
    return ret;
}

static const struct blockmap_ops bochs_ops = { .find = bochs_find };

BLOCK_DRIVER = {
    .name = "bochs",
    .summary = "Bochs' growing disk image, read only",
    .kind = DRIVER_FORMAT,
    .size = sizeof(struct bochs),
    .options = bochs_options,
    .probe = bochs_probe,
    .open = bochs_open,
    .close = bochs_close,
    .preadv = blockmap_preadv,
    .block_status = blockmap_status,
    .allocated_size = image_allocated_size,
};
