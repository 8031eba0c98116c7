/* preallocate: between a format and its file. A write at the file's end has the host make room for more than it needs, so that the
 * file grows in few large pieces; what nobody wrote is given back when the node is closed. The node's size is where data ends, the
 * file's where room does. */
#include <errno.h>
#include "block/filter/filter.h"
#include "rhea/base/options.h"

struct preallocate {
    struct co_mutex lock;       /* growing */
    uint64_t align, ahead;
};

static const char *const preallocate_options[] = { "file", "prealloc-align", "prealloc-size", NULL };

static bool options_take(struct preallocate *s, struct json_object *opts, struct error *err)
{
    if (!option_size(opts, "prealloc-align", 1 << 20, &s->align, err) || !option_size(opts, "prealloc-size", 128 << 20, &s->ahead, err))
        return false;
    if (!s->align || s->align % 512 || s->align > 1ull << 40)
        return error_set(err, ERR_GENERIC, "prealloc-align is a multiple of 512, at most 1T", "prealloc-align=1M");
    return s->ahead <= 1ull << 50 || error_set(err, ERR_GENERIC, "prealloc-size is 1P at most", "prealloc-size=128M");
}

static bool preallocate_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct preallocate *s = n->state;

    co_mutex_init(&s->lock);
    if (!options_take(s, opts, err) || !filter_open(n, opts, "file", err))
        return false;
    return n->file->drv->preallocate ||
           error_setf(err, ERR_GENERIC, "put it between the format and a node of driver file", "room cannot be made ahead in '%s' (%s)", n->file->name,
                      n->file->drv->name);
}

/* The file ends where data does. */
static int give_back(struct block_node *n, struct error *err)
{
    return n->file->size > n->size ? node_truncate(n->file, n->size, err) : 0;
}

static bool preallocate_reopen(struct block_node *n, bool read_only, struct error *err)
{
    return !read_only || !give_back(n, err);
}

static void preallocate_close(struct block_node *n)
{
    struct error err = ERROR_INIT;

    if (n->file && !n->read_only && give_back(n, &err))
        warn_report("%s: stays longer than it need be: %s", n->file->filename, err.msg);
    error_clear(&err);
}

/* Before a write that ends there. Where no room can be made ahead, the write itself tells whether there is any. */
static void make_room(struct block_node *n, uint64_t end)
{
    struct preallocate *s = n->state;
    uint64_t have, want;

    if (end <= n->file->size)
        return;
    co_mutex_lock(&s->lock);
    have = n->file->size;
    want = (end + s->ahead + s->align - 1) / s->align * s->align;
    if (end > have && want <= INT64_MAX && !n->file->drv->preallocate(n->file, have, want - have))
        n->file->size = want;
    co_mutex_unlock(&s->lock);
}

static int preallocate_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    make_room(n, off + bytes);
    return node_pwritev(n->file, off, bytes, iov, niov, 0);
}

static int preallocate_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    make_room(n, off + bytes);
    return node_write_zeroes(n->file, off, bytes, flags);
}

/* What a format asks room for is there for good. */
static int preallocate_range(struct block_node *n, uint64_t off, uint64_t bytes)
{
    int ret = n->file->drv->preallocate(n->file, off, bytes);

    if (!ret)
        n->size = MAX(n->size, off + bytes);
    return ret;
}

static struct block_node *preallocate_map_fast(struct block_node *n, struct block_fast *f)
{
    return f->write && f->offset + f->bytes > n->size ? NULL : n->file;
}

BLOCK_DRIVER = {
    .name = "preallocate",
    .summary = "grows the file below in large pieces, ahead of writes",
    .kind = DRIVER_FILTER,
    .file_stays = true,
    .size = sizeof(struct preallocate),
    .growable = true,
    .options = preallocate_options,
    .open = preallocate_open,
    .close = preallocate_close,
    .reopen = preallocate_reopen,
    .preadv = filter_preadv,
    .pwritev = preallocate_pwritev,
    .discard = filter_discard,
    .write_zeroes = preallocate_write_zeroes,
    .block_status = filter_status,
    .truncate = filter_truncate,
    .preallocate = preallocate_range,
    .allocated_size = filter_allocated_size,
    .map_fast = preallocate_map_fast,
};
