/* copy-on-read: what is read from a backing image is written into the image above it, so that the next read finds it
 * there. */
#include <errno.h>
#include <stdlib.h>
#include "block/filter/filter.h"

enum { CHUNK = 1 << 20, ALIGN = 65536 };

struct copy_on_read {
    struct co_rwlock lock;      /* guest's writes share it; a copy has it alone, so that it cannot undo a write */
};

static const char *const cor_options[] = { "file", NULL };

static bool cor_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct copy_on_read *s = n->state;

    co_rwlock_init(&s->lock);
    return filter_open(n, opts, "file", err);
}

/* Copies what of the range lies below the top image. */
static int copy_up(struct block_node *n, uint64_t off, uint64_t bytes)
{
    uint64_t start = off / ALIGN * ALIGN, end = MIN((off + bytes + ALIGN - 1) / ALIGN * ALIGN, n->file->size), len;
    uint8_t *buf = NULL;
    int ret = 0;

    for (uint64_t at = start; at < end && ret >= 0; at += len) {
        struct block_node *file;
        uint64_t map;

        ret = node_block_status(n->file, at, MIN(end - at, CHUNK), &len, &map, &file);
        if (ret < 0 || (ret & STATUS_ALLOCATED))
            continue;
        buf = buf ? buf : node_buffer(n->file, CHUNK);
        ret = buf ? node_pread(n->file, at, buf, len) : -ENOMEM;
        if (!ret)
            ret = buffer_is_zero(buf, len) ? node_write_zeroes(n->file, at, len, 0) : node_pwrite(n->file, at, buf, len);
    }
    free(buf);
    return MIN(ret, 0);
}

static bool needs_copy(struct block_node *n, uint64_t off, uint64_t bytes)
{
    for (uint64_t done = 0, len; done < bytes; done += len) {
        struct block_node *file;
        uint64_t map;
        int st = node_block_status(n->file, off + done, bytes - done, &len, &map, &file);

        if (st < 0 || !(st & STATUS_ALLOCATED))
            return st >= 0;
    }
    return false;
}

static int cor_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct copy_on_read *s = n->state;
    int ret = 0;

    if (!n->read_only && needs_copy(n, off, bytes)) {
        co_rwlock_wrlock(&s->lock);
        ret = copy_up(n, off, bytes);
        co_rwlock_unlock(&s->lock);
    }
    return ret ? ret : node_preadv(n->file, off, bytes, iov, niov);
}

static int cor_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct copy_on_read *s = n->state;
    int ret;

    co_rwlock_rdlock(&s->lock);
    ret = node_pwritev(n->file, off, bytes, iov, niov, 0);
    co_rwlock_unlock(&s->lock);
    return ret;
}

static int cor_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    struct copy_on_read *s = n->state;
    int ret;

    co_rwlock_rdlock(&s->lock);
    ret = node_discard(n->file, off, bytes);
    co_rwlock_unlock(&s->lock);
    return ret;
}

static int cor_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    struct copy_on_read *s = n->state;
    int ret;

    co_rwlock_rdlock(&s->lock);
    ret = node_write_zeroes(n->file, off, bytes, flags);
    co_rwlock_unlock(&s->lock);
    return ret;
}

BLOCK_DRIVER = {
    .name = "copy-on-read",
    .summary = "copies what is read from a backing image into the image",
    .kind = DRIVER_FILTER,
    .size = sizeof(struct copy_on_read),
    .options = cor_options,
    .open = cor_open,
    .reopen = node_reopen_plain,
    .preadv = cor_preadv,
    .pwritev = cor_pwritev,
    .discard = cor_discard,
    .write_zeroes = cor_write_zeroes,
    .block_status = filter_status,
    .truncate = filter_truncate,
    .allocated_size = filter_allocated_size,
};
