/* snapshot-access: the disk below a copy-before-write filter as it was when the filter came over it. To be read; what is discarded
 * need not be kept any more. */
#include <errno.h>
#include "block/filter/cbw.h"
#include "block/filter/filter.h"

static const char *const access_options[] = { "file", NULL };

static bool access_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    if (!filter_open(n, opts, "file", err))
        return false;
    if (!node_is_cbw(n->file))
        return error_setf(err, ERR_GENERIC, "its file is a node of driver copy-before-write", "'%s' (%s) keeps no moment of its disk", n->file->name,
                          n->file->drv->name);
    n->limits.discard_align = cbw_cluster(n->file);
    return true;
}

static int access_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    return cbw_moment_preadv(n->file, off, bytes, iov, niov);
}

static int access_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    return -EPERM;
}

static int access_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    return -EPERM;
}

static int access_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    return cbw_moment_discard(n->file, off, bytes);
}

static int access_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map, struct block_node **file)
{
    return cbw_moment_status(n->file, off, bytes, n_bytes, map, file);
}

static int access_flush(struct block_node *n)
{
    return 0;
}

BLOCK_DRIVER = {
    .name = "snapshot-access",
    .summary = "shows a disk as it was when copy-before-write came over it",
    .kind = DRIVER_FILTER,
    .file_hold = FILE_REFERRED,
    .file_stays = true,
    .options = access_options,
    .open = access_open,
    .preadv = access_preadv,
    .pwritev = access_pwritev,
    .write_zeroes = access_write_zeroes,
    .discard = access_discard,
    .flush = access_flush,
    .block_status = access_status,
    .allocated_size = filter_allocated_size,
};
