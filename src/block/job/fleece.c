/* Copying what is about to be overwritten: see fleece.h. */
#include "block/job/fleece.h"
#include "rhea/base/options.h"

/* ---- readers of the target that see the source through it */

static struct fleece *of_reader(struct block_hook *h)
{
    return (struct fleece *)((char *)h - offsetof(struct fleece, reader));
}

static void reader_begin(struct block_hook *h, uint64_t off, uint64_t bytes)
{
    range_lock(&of_reader(h)->lock, off, bytes, true);
}

static void reader_end(struct block_hook *h, uint64_t off, uint64_t bytes)
{
    range_unlock(&of_reader(h)->lock, off, bytes, true);
}

/* ---- life */

uint64_t fleece_cluster(struct block_node *target)
{
    uint64_t cluster = target->drv->cluster_size ? target->drv->cluster_size(target) : 0;

    while (cluster & (cluster - 1))     /* of odd sizes, the next power of two */
        cluster = (cluster | (cluster - 1)) + 1;
    return MAX(cluster, BITMAP_DEFAULT_GRANULARITY);
}

bool fleece_min_cluster(struct json_object *opts, uint64_t *bytes, struct error *err)
{
    return option_size(opts, "min-cluster-size", 0, bytes, err) &&
           ((!(*bytes & (*bytes - 1)) && *bytes <= 1ull << 31) ||
            error_set(err, ERR_GENERIC, "min-cluster-size is a power of 2, at most 2G", "min-cluster-size=1M"));
}

bool fleece_open(struct fleece *f, struct block_node *source, struct block_node *target, uint64_t cluster, unsigned flags, struct error *err)
{
    *f = (struct fleece){ .source = source, .target = target, .cluster = cluster, .flags = flags,
                          .reader = { .read_begin = reader_begin, .read_end = reader_end } };
    range_lock_init(&f->lock);
    f->todo = bitmap_new(source->size, cluster, err);
    if (!f->todo)
        return false;
    f->hooked = node_reaches(target, source);
    if (f->hooked)
        node_hook(target, &f->reader);
    return true;
}

void fleece_close(struct fleece *f)
{
    if (f->hooked)
        node_unhook(f->target, &f->reader);
    f->hooked = false;
    bitmap_free(f->todo);
    f->todo = NULL;
}

/* ---- copying */

bool fleece_wants(const struct fleece *f, uint64_t off, uint64_t bytes)
{
    uint64_t n = bytes;

    return bitmap_extent(f->todo, off, &n) || n < bytes;
}

int fleece_copy(struct fleece *f, uint64_t off, uint64_t bytes, bool *read)
{
    uint64_t end = off + bytes, n;
    int ret = 0;

    range_lock(&f->lock, off, bytes, false);
    for (uint64_t at = off; !ret && at < end; at += n) {
        n = end - at;
        if (!bitmap_extent(f->todo, at, &n))
            continue;
        if (f->flags & COPY_COMPRESS)
            n = MIN(n, f->cluster);
        ret = block_copy(f->source, f->target, at, n, f->flags, read);
        if (!ret)
            bitmap_reset(f->todo, at, n);
    }
    range_unlock(&f->lock, off, bytes, false);
    return ret;
}

int fleece_before_write(struct fleece *f, uint64_t off, uint64_t bytes)
{
    uint64_t start = off / f->cluster * f->cluster, end = MIN((off + bytes + f->cluster - 1) / f->cluster * f->cluster, f->todo->size);
    bool read;

    /* a bit falls when the copy is in the target: nobody waits for one that is there */
    if (start >= end || !fleece_wants(f, start, end - start))
        return 0;
    return fleece_copy(f, start, end - start, &read);
}
