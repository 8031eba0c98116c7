/* Raw images: the bytes as they are, or a part of them (offset, size). */
#include <errno.h>
#include <string.h>
#include <glib.h>
#include "rhea/base/options.h"
#include "rhea/block/node.h"

struct raw {
    uint64_t offset;
    bool has_size;
};

static const char *const raw_options[] = { "file", "offset", "size", NULL };
static const char *const raw_create_options[] = { "size", "preallocation", "nocow", "extent_size_hint", NULL };

static int raw_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return 1;                   /* anything may be raw, but only if nobody knows better */
}

static bool raw_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct raw *r = n->state;
    uint64_t size, whole;

    n->file = node_open_child(n, opts, "file", err);
    if (!n->file)
        return false;
    whole = n->file->size;
    if (n->file->drv->growable)             /* a guest counts in sectors: the last one is filled up */
        whole = (whole + 511) & ~511ull;
    r->has_size = json_object_object_get_ex(opts, "size", NULL);
    if (!option_size(opts, "offset", 0, &r->offset, err) || !option_size(opts, "size", 0, &size, err))
        return false;
    if (r->offset > whole)
        return error_setf(err, ERR_GENERIC, NULL,
                          "offset %" PRIu64 " lies beyond the end of '%s' (%" PRIu64 " bytes)", r->offset,
                          n->file->filename, whole);
    if (!r->has_size)
        size = whole - r->offset;
    else if (size > whole - r->offset)
        return error_setf(err, ERR_GENERIC, NULL, "'%s' has only %" PRIu64 " bytes from offset %" PRIu64,
                          n->file->filename, whole - r->offset, r->offset);
    n->size = size;
    n->limits = n->file->limits;
    n->limits.align = MAX(n->limits.align, 1);
    n->zero_past_end = false;
    return true;
}

/* The guest of a disk whose format was guessed as raw must not turn it into another format's image that names files
 * of the host as its backing. */
static bool magic_refused(struct block_node *n, uint64_t off, const struct iovec *iov, int niov)
{
    uint8_t head[512];
    unsigned count;
    const struct block_driver *const *d = block_drivers(&count);
    size_t len = MIN(sizeof(head), iov_bytes(iov, niov));

    if (!n->probed_raw || off)
        return false;
    iov_read(iov, niov, 0, head, len);
    for (unsigned i = 0; i < count; i++)
        if (d[i] != n->drv && d[i]->probe && d[i]->probe(head, len, "") > 1)
            return true;
    return false;
}

static int raw_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    return node_preadv(n->file, off + ((struct raw *)n->state)->offset, bytes, iov, niov);
}

static int raw_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    if (magic_refused(n, off, iov, niov))
        return -EPERM;
    return node_pwritev(n->file, off + ((struct raw *)n->state)->offset, bytes, iov, niov, 0);
}

static int raw_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    return node_discard(n->file, off + ((struct raw *)n->state)->offset, bytes);
}

static int raw_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    return node_write_zeroes(n->file, off + ((struct raw *)n->state)->offset, bytes, flags);
}

static int raw_block_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                            struct block_node **file)
{
    int ret = node_block_status(n->file, off + ((struct raw *)n->state)->offset, bytes, n_bytes, map, file);

    *file = n->file;
    return ret;
}

static int raw_truncate(struct block_node *n, uint64_t size, struct error *err)
{
    struct raw *r = n->state;

    if (r->has_size || r->offset) {
        error_setf(err, ERR_GENERIC, NULL, "a part of a file cannot be resized");
        return -ENOTSUP;
    }
    return node_truncate(n->file, size, err);
}

static int64_t raw_allocated_size(struct block_node *n)
{
    return n->file->drv->allocated_size ? n->file->drv->allocated_size(n->file) : -ENOTSUP;
}

static struct block_node *raw_map_fast(struct block_node *n, struct block_fast *f)
{
    if (n->probed_raw && f->write && !f->offset)
        return NULL;
    f->offset += ((struct raw *)n->state)->offset;
    return n->file;
}

static bool raw_create(struct block_graph *g, const char *filename, struct json_object *opts, struct error *err)
{
    uint64_t size;

    if (!option_size(opts, "size", 0, &size, err))
        return false;
    json_object_object_add(opts, "size", json_object_new_uint64((size + 511) & ~511ull));      /* whole sectors */
    return block_create_file(g, filename, opts, err);
}

static bool raw_measure(struct json_object *opts, struct block_node *source, struct block_measure *out, struct error *err)
{
    uint64_t size;

    if (!option_size(opts, "size", source ? (uint64_t)source->size : 0, &size, err))
        return false;
    out->required = out->fully_allocated = (size + 511) & ~511ull;
    return true;
}

BLOCK_DRIVER = {
    .name = "raw",
    .summary = "the bytes of the disk as they are",
    .kind = DRIVER_FORMAT,
    .size = sizeof(struct raw),
    .options = raw_options,
    .create_options = raw_create_options,
    .probe = raw_probe,
    .open = raw_open,
    .reopen = node_reopen_plain,
    .preadv = raw_preadv,
    .pwritev = raw_pwritev,
    .discard = raw_discard,
    .write_zeroes = raw_write_zeroes,
    .block_status = raw_block_status,
    .truncate = raw_truncate,
    .allocated_size = raw_allocated_size,
    .map_fast = raw_map_fast,
    .create = raw_create,
    .measure = raw_measure,
};
