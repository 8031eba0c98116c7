/* What filters share. */
#include "block/filter/filter.h"

#include <errno.h>

bool filter_open(struct block_node *n, struct json_object *opts, const char *role, struct error *err)
{
    n->file = node_open_child(n, opts, role, err);
    if (!n->file)
        return false;
    n->size = n->file->size;
    n->limits = n->file->limits;
    n->zero_past_end = n->file->zero_past_end;
    n->encrypted = n->file->encrypted;
    return true;
}

struct block_node *filter_child(struct block_node *n, struct json_object *opts, const char *role, struct error *err)
{
    return node_open_child(n, opts, role, err);
}

void filter_child_close(struct block_node *n, struct block_node *child)
{
    if (!child)
        return;
    node_release(child, !n->read_only);
    node_unref(child);
}

int filter_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    return node_preadv(n->file, off, bytes, iov, niov);
}

int filter_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    return node_pwritev(n->file, off, bytes, iov, niov, 0);
}

int filter_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    return node_discard(n->file, off, bytes);
}

int filter_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    return node_write_zeroes(n->file, off, bytes, flags);
}

int filter_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                  struct block_node **file)
{
    int depth, ret = node_status_above(n->file, off, bytes, n_bytes, map, file, &depth, false);

    return ret < 0 ? ret : ret | STATUS_ALLOCATED;
}

int filter_truncate(struct block_node *n, uint64_t size, struct error *err)
{
    return node_truncate(n->file, size, err);
}

int64_t filter_allocated_size(struct block_node *n)
{
    return n->file->drv->allocated_size ? n->file->drv->allocated_size(n->file) : -ENOTSUP;
}
