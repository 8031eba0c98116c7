/* compress: what is written reaches the image compressed, a cluster at a time. A write of a part of a cluster reads the rest. */
#include <errno.h>
#include <stdlib.h>
#include "block/filter/filter.h"
#include "block/job/job.h"

struct compress {
    struct range_lock lock;     /* whoever changes clusters has them alone */
    uint64_t cluster;
};

static const char *const compress_options[] = { "file", NULL };

static bool compress_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct compress *s = n->state;

    range_lock_init(&s->lock);
    if (!filter_open(n, opts, "file", err))
        return false;
    if (!n->file->drv->can_compress || !n->file->drv->can_compress(n->file))
        return error_setf(err, ERR_GENERIC, "put it over qcow2 without encryption and data file, or streamOptimized vmdk",
                          "'%s' (%s) cannot hold compressed data", n->file->name, n->file->drv->name);
    s->cluster = n->file->drv->cluster_size(n->file);
    return true;
}

struct span { uint64_t off, bytes; };

/* The clusters of a range, held alone until clusters_put(). */
static struct span clusters_get(struct block_node *n, uint64_t off, uint64_t bytes)
{
    struct compress *s = n->state;
    uint64_t start = off / s->cluster * s->cluster;
    struct span p = { start, MIN((off + bytes + s->cluster - 1) / s->cluster * s->cluster, n->size) - start };

    range_lock(&s->lock, p.off, p.bytes, false);
    return p;
}

static void clusters_put(struct block_node *n, struct span p)
{
    range_unlock(&((struct compress *)n->state)->lock, p.off, p.bytes, false);
}

static int compress_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct compress *s = n->state;
    struct span p = clusters_get(n, off, bytes);
    uint8_t *buf = node_buffer(n->file, s->cluster);
    int ret = buf ? 0 : -ENOMEM;

    for (uint64_t at = p.off, len; at < p.off + p.bytes && !ret; at += len) {
        uint64_t from = MAX(off, at), to;

        len = MIN(s->cluster, p.off + p.bytes - at);
        to = MIN(off + bytes, at + len);
        if (from != at || to != at + len)
            ret = node_pread(n->file, at, buf, len);
        iov_read(iov, niov, from - off, buf + (from - at), to - from);
        if (!ret)
            ret = node_pwrite_compressed(n->file, at, buf, len);
    }
    clusters_put(n, p);
    free(buf);
    return ret;
}

static int compress_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    struct span p = clusters_get(n, off, bytes);
    int ret = node_discard(n->file, off, bytes);

    clusters_put(n, p);
    return ret;
}

static int compress_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    struct span p = clusters_get(n, off, bytes);
    int ret = node_write_zeroes(n->file, off, bytes, flags | BLOCK_NO_FALLBACK);

    clusters_put(n, p);
    return ret;
}

static struct block_node *compress_map_fast(struct block_node *n, struct block_fast *f)
{
    return f->write ? NULL : n->file;
}

BLOCK_DRIVER = {
    .name = "compress",
    .summary = "writes to the image compressed",
    .kind = DRIVER_FILTER,
    .file_stays = true,
    .size = sizeof(struct compress),
    .options = compress_options,
    .open = compress_open,
    .reopen = node_reopen_plain,
    .preadv = filter_preadv,
    .pwritev = compress_pwritev,
    .discard = compress_discard,
    .write_zeroes = compress_write_zeroes,
    .block_status = filter_status,
    .truncate = filter_truncate,
    .allocated_size = filter_allocated_size,
    .map_fast = compress_map_fast,
};
