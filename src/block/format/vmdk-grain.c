/* VMDK: grains. Where a byte of the disk is, new grains, compressed grains. */
#include "block/format/vmdk.h"

#include <errno.h>
#include <zlib.h>
#include "block/aio.h"

static struct vmdk_extent *extent_of(struct vmdk *s, uint64_t off)
{
    unsigned low = 0, high = s->count;

    while (high - low > 1) {
        unsigned mid = (low + high) / 2;

        if (s->extents[mid].first <= off)
            low = mid;
        else
            high = mid;
    }
    return s->count && off - s->extents[low].first < s->extents[low].bytes ? &s->extents[low] : NULL;
}

static int entry_get(struct vmdk_extent *e, uint64_t at, uint32_t *v)
{
    uint8_t b[4];
    int ret = table_read(e->table, at, b, 4);

    *v = le32(b);
    return ret;
}

static int entry_put(struct vmdk_extent *e, uint64_t at, uint32_t v)
{
    uint8_t b[4];

    put_le32(b, v);
    return table_write(e->table, at, b, 4);
}

static int sparse_find(struct vmdk_extent *e, uint64_t off, struct place *p)
{
    uint64_t grain = (off - e->first) / e->grain, table = grain / e->gtes;
    uint32_t gt, gte;
    int ret = table < e->gdes ? entry_get(e, e->gd + table * 4, &gt) : -EIO;

    p->kind = PLACE_ABSENT;
    if (ret)
        return ret;
    if (!gt) {                  /* no table: none of its grains */
        p->start = e->first + table * e->gtes * e->grain;
        p->end = p->start + e->gtes * e->grain;
        return 0;
    }
    ret = entry_get(e, gt * 512ull + grain % e->gtes * 4, &gte);
    p->start = e->first + grain * e->grain;
    p->end = p->start + e->grain;
    p->host = gte * 512ull;
    if (gte == 1 && e->zeroed)
        p->kind = PLACE_ZERO;
    else if (gte)
        p->kind = e->compressed ? PLACE_PACKED : PLACE_DATA;
    return ret;
}

static int vmdk_find(struct block_node *n, uint64_t off, struct place *p)
{
    struct vmdk_extent *e = extent_of(n->state, off);
    int ret = 0;

    if (!e)
        return -EIO;
    p->file = e->file;
    p->start = e->first;
    p->end = e->first + e->bytes;
    switch (e->kind) {
    case VMDK_ZERO:
        p->kind = PLACE_ZERO;
        break;
    case VMDK_FLAT:
        p->kind = PLACE_DATA;
        p->host = e->flat;
        break;
    case VMDK_SPARSE:
        ret = sparse_find(e, off, p);
        p->end = MIN(p->end, e->first + e->bytes);
        break;
    }
    return ret;
}

static int vmdk_allocate(struct block_node *n, uint64_t off, struct place *p)
{
    struct vmdk_extent *e = extent_of(n->state, off);

    if (!e || e->kind != VMDK_SPARSE)
        return -ENOTSUP;        /* the zeroes of an extent of type ZERO stay */
    p->start = e->first + (off - e->first) / e->grain * e->grain;
    p->end = MIN(p->start + e->grain, e->first + e->bytes);
    p->host = e->next;
    if (e->compressed)
        p->kind = PLACE_PACKED;
    return e->next / 512 > UINT32_MAX ? -EFBIG : 0;
}

/* A grain table where there was none. */
static int table_make(struct vmdk_extent *e, uint64_t index, uint32_t *gt)
{
    uint64_t bytes = round_up(e->gtes * 4, 512);
    int ret = image_fresh(e->file, e->next, bytes);

    if (e->next / 512 > UINT32_MAX)
        return -EFBIG;
    *gt = e->next / 512;
    if (!ret)
        ret = entry_put(e, e->gd + index * 4, *gt);
    if (!ret)
        e->next += round_up(bytes, e->grain);
    return ret;
}

static int set_gte(struct vmdk_extent *e, uint64_t off, uint32_t gte)
{
    uint64_t grain = (off - e->first) / e->grain, table = grain / e->gtes;
    uint32_t gt, rgt = 0;
    int ret = entry_get(e, e->gd + table * 4, &gt);

    if (!ret && !gt)
        ret = table_make(e, table, &gt);
    if (!ret && e->rgd)
        ret = entry_get(e, e->rgd + table * 4, &rgt);
    if (!ret)
        ret = entry_put(e, gt * 512ull + grain % e->gtes * 4, gte);
    if (!ret && rgt)
        ret = entry_put(e, rgt * 512ull + grain % e->gtes * 4, gte);
    return ret;
}

static int vmdk_publish(struct block_node *n, const struct place *p)
{
    struct vmdk_extent *e = extent_of(n->state, p->start);

    e->next = p->host + e->grain;       /* before a new grain table takes that place */
    return set_gte(e, p->start, p->host / 512);
}

static int vmdk_publish_zero(struct block_node *n, const struct place *p)
{
    struct vmdk_extent *e = extent_of(n->state, p->start);

    return e->zeroed && !e->compressed ? set_gte(e, p->start, 1) : -ENOTSUP;
}

/* A compressed grain: its first sector (8 bytes), the bytes that follow (4), a zlib stream. Without markers only the
 * stream. */
static int vmdk_unpack(struct block_node *n, const struct place *p, uint8_t *buf)
{
    struct vmdk_extent *e = extent_of(n->state, p->start);
    uint64_t room = 2 * e->grain + 512, at = p->host;
    g_autofree uint8_t *in = g_try_malloc(room);
    uint8_t head[12];
    int ret = in ? 0 : -ENOMEM;

    if (!ret && e->markers) {
        ret = node_pread(e->file, at, head, sizeof(head));
        at += sizeof(head);
        if (!ret && (le32(head + 8) > room || !le32(head + 8)))
            ret = -EIO;
        room = le32(head + 8);
    }
    if (!ret)
        ret = node_pread(e->file, at, in, room);
    /* The last grain of a disk may have been compressed whole: what does not fit is past the disk's end. */
    return ret ? ret : inflate_block(in, room, buf, p->end - p->start, p->end - p->start < e->grain);
}

struct deflate { const uint8_t *in; uint8_t *out; uLongf in_bytes, out_bytes; };

static int deflate_job(void *arg)
{
    struct deflate *j = arg;

    return compress2(j->out, &j->out_bytes, j->in, j->in_bytes, Z_DEFAULT_COMPRESSION) == Z_OK ? 0 : -EIO;
}

static int vmdk_pack(struct block_node *n, const struct place *p, const uint8_t *buf)
{
    struct vmdk_extent *e = extent_of(n->state, p->start);
    uint64_t len = compressBound(e->grain);
    g_autofree uint8_t *out = g_malloc0(round_up(12 + len, 512)), *whole = g_malloc0(e->grain);
    unsigned head = e->markers ? 12 : 0;
    struct deflate j = { whole, out + head, e->grain, len };
    int ret;

    memcpy(whole, buf, p->end - p->start);
    ret = pool_run(deflate_job, &j);
    if (ret)
        return ret;
    len = j.out_bytes;
    if (head) {
        put_le64(out, p->start / 512);
        put_le32(out + 8, len);
    }
    memset(out + head + len, 0, round_up(head + len, 512) - head - len);
    ret = node_pwrite(e->file, p->host, out, round_up(head + len, 512));
    if (ret)
        return ret;
    e->next = p->host + round_up(head + len, 512);
    return set_gte(e, p->start, p->host / 512);
}

const struct blockmap_ops vmdk_ops = {
    .find = vmdk_find,
    .allocate = vmdk_allocate,
    .publish = vmdk_publish,
    .publish_zero = vmdk_publish_zero,
    .unpack = vmdk_unpack,
    .pack = vmdk_pack,
};
