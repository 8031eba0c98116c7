/* VDI: VirtualBox's disk images, version 1.1. A header, a table of 32-bit block numbers, blocks of (mostly) 1 MiB.
 * After the layout that VirtualBox documents in its SDK (VDIHEADER1, "VDICore"). */
#include <errno.h>
#include "block/format/image.h"
#include "rhea/base/options.h"

enum {
    VDI_SIGNATURE = 0xbeda107f, VDI_VERSION_1_1 = 0x00010001,
    VDI_DYNAMIC = 1, VDI_STATIC = 2,
    VDI_BLOCK = 1 << 20, VDI_BLOCK_MIN = 4096, VDI_BLOCK_MAX = 64 << 20, VDI_BMAP = 512,
};
#define VDI_UNALLOCATED UINT32_MAX      /* never written: zeroes, or the parent's */
#define VDI_DISCARDED (UINT32_MAX - 1)  /* zeroes */
#define VDI_BLOCKS_MAX 0x1fffffffu      /* 512 TiB of 1 MiB blocks */

/* Offsets in the header */
enum {
    H_SIGNATURE = 64, H_VERSION = 68, H_SIZE = 72, H_TYPE = 76, H_BMAP = 340, H_DATA = 344, H_SECTOR = 360,
    H_DISK_SIZE = 368, H_BLOCK_SIZE = 376, H_BLOCK_EXTRA = 380, H_BLOCKS = 384, H_ALLOCATED = 388, H_UUID = 392,
    H_UUID_SNAP = 408, H_UUID_LINK = 424, H_UUID_PARENT = 440, H_LENGTH = 512,
};

struct vdi {
    struct blockmap map;
    struct table_cache *table;
    uint64_t bmap, data;
    uint32_t block_size, blocks, allocated;
    bool allocated_dirty;
};

static const char *const vdi_options[] = { "file", NULL };
static const char *const vdi_create_options[] = { "size", "static", "preallocation", NULL };

static int vdi_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return len >= H_LENGTH && le32(buf + H_SIGNATURE) == VDI_SIGNATURE ? 100 : 0;
}

static const struct blockmap_ops vdi_ops;

static bool uuid_is_nil(const uint8_t *uuid)
{
    return buffer_is_zero(uuid, 16);
}

static bool header_take(struct block_node *n, const uint8_t *h, struct error *err)
{
    struct vdi *s = n->state;
    uint64_t size = le64(h + H_DISK_SIZE);

    s->bmap = le32(h + H_BMAP);
    s->data = le32(h + H_DATA);
    s->block_size = le32(h + H_BLOCK_SIZE);
    s->blocks = le32(h + H_BLOCKS);
    s->allocated = le32(h + H_ALLOCATED);
    if (le32(h + H_SIGNATURE) != VDI_SIGNATURE)
        return image_corrupt(err, "VDI", "signature %08x, not beda107f", le32(h + H_SIGNATURE));
    if (le32(h + H_VERSION) != VDI_VERSION_1_1)
        return image_corrupt(err, "VDI", "version %u.%u is not known", le32(h + H_VERSION) >> 16,
                             le32(h + H_VERSION) & 0xffff);
    if (le32(h + H_SECTOR) != 512 || s->bmap % 512 || s->data % 512 || le32(h + H_BLOCK_EXTRA))
        return image_corrupt(err, "VDI", "unsupported sector size, alignment or block extra data");
    if (!is_power_of_2(s->block_size) || s->block_size < VDI_BLOCK_MIN || s->block_size > VDI_BLOCK_MAX)
        return image_corrupt(err, "VDI", "unsupported block size %u", s->block_size);
    if (s->blocks > VDI_BLOCKS_MAX || size > (uint64_t)s->blocks * s->block_size)
        return image_corrupt(err, "VDI", "disk size %" PRIu64 " does not fit %u blocks", size, s->blocks);
    if (s->bmap < H_LENGTH || s->data < s->bmap + 4ull * s->blocks || s->data > n->file->size + VDI_BLOCK_MAX)
        return image_corrupt(err, "VDI", "the block map overlaps data, or lies outside the file");
    if (!uuid_is_nil(h + H_UUID_LINK) || !uuid_is_nil(h + H_UUID_PARENT))
        return error_set(err, ERR_GENERIC, "unsupported VDI image: it depends on a parent image",
                         "merge it with VBoxManage clonemedium first");
    n->size = round_up(size, 512);
    return true;
}

static bool vdi_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct vdi *s = n->state;
    uint8_t h[H_LENGTH];
    int ret;

    blockmap_init(&s->map, &vdi_ops);
    n->file = node_open_child(n, opts, "file", err);
    if (!n->file)
        return false;
    ret = node_pread(n->file, 0, h, sizeof(h));
    if (ret)
        return error_set_errno(err, -ret, NULL, "'%s': cannot read the header", n->file->filename);
    if (!header_take(n, h, err))
        return false;
    s->table = table_new(n->file);
    return true;
}

static int vdi_flush_cache(struct block_node *n)
{
    struct vdi *s = n->state;
    int ret = 0;

    if (s->allocated_dirty) {
        uint8_t v[4];

        put_le32(v, s->allocated);
        s->allocated_dirty = false;
        ret = table_write(s->table, H_ALLOCATED, v, 4);
    }
    return ret ? ret : table_flush(s->table, false);
}

static void vdi_close(struct block_node *n)
{
    table_free(((struct vdi *)n->state)->table);
}

static int entry_read(struct vdi *s, uint64_t index, uint32_t *entry)
{
    uint8_t v[4];
    int ret = table_read(s->table, s->bmap + index * 4, v, 4);

    *entry = le32(v);
    return ret;
}

static int vdi_find(struct block_node *n, uint64_t off, struct place *p)
{
    struct vdi *s = n->state;
    uint64_t index = off / s->block_size;
    uint32_t entry;
    int ret = entry_read(s, index, &entry);

    p->start = index * s->block_size;
    p->end = p->start + s->block_size;
    p->kind = entry == VDI_UNALLOCATED ? PLACE_ABSENT : entry == VDI_DISCARDED ? PLACE_ZERO : PLACE_DATA;
    p->host = s->data + (uint64_t)entry * s->block_size;
    if (!ret && p->kind == PLACE_DATA && entry >= s->blocks)
        return -EIO;            /* more blocks than the disk has */
    return ret;
}

static int vdi_allocate(struct block_node *n, uint64_t off, struct place *p)
{
    struct vdi *s = n->state;

    if (s->allocated >= s->blocks)
        return -EIO;            /* the count lies */
    p->host = s->data + (uint64_t)s->allocated * s->block_size;
    return 0;
}

static int vdi_publish(struct block_node *n, const struct place *p)
{
    struct vdi *s = n->state;
    uint8_t v[4];
    int ret;

    put_le32(v, s->allocated);
    ret = table_write(s->table, s->bmap + p->start / s->block_size * 4, v, 4);
    if (!ret) {
        s->allocated++;
        s->allocated_dirty = true;
    }
    return ret;
}

static const struct blockmap_ops vdi_ops = { .find = vdi_find, .allocate = vdi_allocate, .publish = vdi_publish };

static uint32_t vdi_cluster_size(struct block_node *n)
{
    return ((struct vdi *)n->state)->block_size;
}

/* ---- check: no block is mapped twice or past those that the header counts */

static bool vdi_check(struct block_node *n, unsigned repair, struct block_check *out, struct error *err)
{
    struct vdi *s = n->state;
    g_autofree uint8_t *seen = g_try_malloc0(s->blocks / 8 + 1);
    uint32_t entry;

    if (repair)
        return error_set(err, ERR_GENERIC, "VDI images cannot be repaired", NULL);
    if (!seen)
        return error_set_errno(err, ENOMEM, NULL, "cannot check");
    out->total_clusters = s->blocks;
    for (uint32_t i = 0; i < s->blocks; i++) {
        int ret = entry_read(s, i, &entry);

        if (ret)
            return error_set_errno(err, -ret, NULL, "cannot read the block map");
        if (entry >= VDI_DISCARDED)
            continue;
        if (entry >= s->allocated || entry >= s->blocks || (seen[entry / 8] >> entry % 8 & 1)) {
            out->errors++;
            continue;
        }
        seen[entry / 8] |= 1 << entry % 8;
        out->allocated_clusters++;
    }
    if (out->allocated_clusters != s->allocated)
        out->errors++;
    return true;
}

/* ---- creation */

static void put_header(uint8_t *h, uint64_t size, uint32_t blocks, bool fixed)
{
    strcpy((char *)h, "<<< Rhea Virtual Disk Image >>>\n");
    put_le32(h + H_SIGNATURE, VDI_SIGNATURE);
    put_le32(h + H_VERSION, VDI_VERSION_1_1);
    put_le32(h + H_SIZE, 0x180);
    put_le32(h + H_TYPE, fixed ? VDI_STATIC : VDI_DYNAMIC);
    put_le32(h + H_BMAP, VDI_BMAP);
    put_le32(h + H_DATA, round_up(VDI_BMAP + 4ull * blocks, 512));
    put_le32(h + H_SECTOR, 512);
    put_le64(h + H_DISK_SIZE, size);
    put_le32(h + H_BLOCK_SIZE, VDI_BLOCK);
    put_le32(h + H_BLOCKS, blocks);
    put_le32(h + H_ALLOCATED, fixed ? blocks : 0);
    image_random_uuid(h + H_UUID);
    image_random_uuid(h + H_UUID_SNAP);
}

static int write_bmap(struct block_node *file, uint64_t blocks, bool fixed)
{
    enum { CHUNK = 16384 };
    g_autofree uint8_t *v = g_malloc(CHUNK * 4);
    int ret = 0;

    for (uint64_t i = 0, k; i < blocks && !ret; i += k) {
        k = MIN(blocks - i, CHUNK);
        for (uint64_t j = 0; j < k; j++)
            put_le32(v + j * 4, fixed ? i + j : VDI_UNALLOCATED);
        ret = node_pwrite(file, VDI_BMAP + i * 4, v, k * 4);
    }
    return ret;
}

static bool vdi_create(struct block_graph *g, const char *filename, struct json_object *opts, struct error *err)
{
    static const char *const modes[] = { "off", "metadata", NULL };
    uint64_t size, blocks;
    uint8_t h[H_LENGTH] = { 0 };
    struct block_node *file;
    bool fixed;
    int ret, mode = image_choice(opts, "preallocation", modes, err);

    if (mode < 0 || !image_create_size(opts, "VDI", (uint64_t)VDI_BLOCKS_MAX * VDI_BLOCK, &size, err) ||
        !option_bool(opts, "static", mode == 1, &fixed, err))
        return false;
    blocks = (size + VDI_BLOCK - 1) / VDI_BLOCK;
    put_header(h, size, blocks, fixed);
    file = image_create_file(filename, err);
    if (!file)
        return false;
    ret = write_bmap(file, blocks, fixed);
    if (!ret)
        ret = node_pwrite(file, 0, h, sizeof(h));
    if (!ret)
        ret = node_truncate(file, le32(h + H_DATA) + (fixed ? blocks * VDI_BLOCK : 0), err);
    if (!ret)
        ret = node_flush(file);
    if (ret)
        error_set_errno(err, -ret, NULL, "cannot write '%s'", filename);
    image_close_file(file);
    return ret == 0;
}

BLOCK_DRIVER = {
    .name = "vdi",
    .summary = "VirtualBox's disk image",
    .kind = DRIVER_FORMAT,
    .size = sizeof(struct vdi),
    .options = vdi_options,
    .create_options = vdi_create_options,
    .probe = vdi_probe,
    .open = vdi_open,
    .close = vdi_close,
    .preadv = blockmap_preadv,
    .pwritev = blockmap_pwritev,
    .write_zeroes = blockmap_write_zeroes,
    .flush_cache = vdi_flush_cache,
    .block_status = blockmap_status,
    .allocated_size = image_allocated_size,
    .cluster_size = vdi_cluster_size,
    .create = vdi_create,
    .check = vdi_check,
};
