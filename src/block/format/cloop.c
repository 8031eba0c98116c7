/* cloop: compressed loop-back images (Knoppix), version 2, read only. A shell script of 128 bytes, the block size, the
 * number of blocks, their places, zlib streams. Big-endian. */
#include <errno.h>
#include "block/format/image.h"

enum { H_BLOCK = 128, H_BLOCKS = 132, H_OFFSETS = 136, BLOCK_MAX = 64 << 20 };

static const char magic[] = "#!/bin/sh\n#V2.0 Format\n";

struct cloop {
    struct blockmap map;
    struct table_cache *table;
    uint32_t block, blocks;
};

static const char *const cloop_options[] = { "file", NULL };
static const struct blockmap_ops cloop_ops;

static int cloop_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return len >= H_OFFSETS && !memcmp(buf, magic, sizeof(magic) - 1) ? 2 : 0;
}

static bool cloop_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct cloop *s = n->state;
    uint8_t h[8];
    int ret;

    blockmap_init(&s->map, &cloop_ops);
    if (!image_read_only(n, err))
        return false;
    n->file = node_open_child(n, opts, "file", err);
    if (!n->file)
        return false;
    ret = node_pread(n->file, H_BLOCK, h, sizeof(h));
    if (ret)
        return error_set_errno(err, -ret, NULL, "'%s': cannot read the header", n->file->filename);
    s->block = be32(h);
    s->blocks = be32(h + 4);
    if (!s->block || s->block % 512 || s->block > BLOCK_MAX)
        return image_corrupt(err, "cloop", "block size %u", s->block);
    if (!range_inside(H_OFFSETS, 8ull * s->blocks + 8, n->file->size))
        return image_corrupt(err, "cloop", "the table of %u blocks lies outside the file", s->blocks);
    n->size = (uint64_t)s->blocks * s->block;
    s->table = table_new(n->file);
    return true;
}

static void cloop_close(struct block_node *n)
{
    struct cloop *s = n->state;

    blockmap_clear(&s->map);
    table_free(s->table);
}

static int cloop_find(struct block_node *n, uint64_t off, struct place *p)
{
    struct cloop *s = n->state;

    p->kind = PLACE_PACKED;
    p->start = off / s->block * s->block;
    p->end = p->start + s->block;
    return 0;
}

static int cloop_unpack(struct block_node *n, const struct place *p, uint8_t *buf)
{
    struct cloop *s = n->state;
    g_autofree uint8_t *in = NULL;
    uint8_t v[16];
    uint64_t at, end;
    int ret = table_read(s->table, H_OFFSETS + p->start / s->block * 8, v, 16);

    at = be64(v);
    end = be64(v + 8);
    if (ret || end < at || end - at > 2ull * s->block + 4096 || end > n->file->size)
        return ret ? ret : -EIO;
    in = g_try_malloc(MAX(end - at, 1));
    ret = in ? node_pread(n->file, at, in, end - at) : -ENOMEM;
    return ret ? ret : inflate_block(in, end - at, buf, s->block, false);
}

static const struct blockmap_ops cloop_ops = { .find = cloop_find, .unpack = cloop_unpack };

static uint32_t cloop_cluster_size(struct block_node *n)
{
    return ((struct cloop *)n->state)->block;
}

BLOCK_DRIVER = {
    .name = "cloop",
    .summary = "a compressed loop-back image, read only",
    .kind = DRIVER_FORMAT,
    .size = sizeof(struct cloop),
    .options = cloop_options,
    .probe = cloop_probe,
    .open = cloop_open,
    .close = cloop_close,
    .preadv = blockmap_preadv,
    .block_status = blockmap_status,
    .allocated_size = image_allocated_size,
    .cluster_size = cloop_cluster_size,
};
