/* Nothing: writes vanish, reads give zeroes (or what was in the buffer, unless read-zeroes=on). For measuring. */
#include <errno.h>
#include <glib.h>
#include "rhea/base/options.h"
#include "rhea/block/node.h"

struct null {
    int64_t latency_ns;
    bool read_zeroes;
};

static const char *const null_options[] = { "size", "latency-ns", "read-zeroes", NULL };

static bool null_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct null *s = n->state;
    uint64_t size;

    if (!option_size(opts, "size", 1 << 30, &size, err) || !option_int(opts, "latency-ns", 0, &s->latency_ns, err) ||
        !option_bool(opts, "read-zeroes", false, &s->read_zeroes, err))
        return false;
    if (size > INT64_MAX || s->latency_ns < 0)
        return error_set(err, ERR_GENERIC, "size or latency-ns is out of range", NULL);
    n->size = size;
    n->filename = g_strdup_printf("%s://", n->drv->name);
    return true;
}

static void null_delay(struct block_node *n)
{
    struct null *s = n->state;

    if (s->latency_ns)
        coroutine_sleep_ns(s->latency_ns);
}

static int null_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    if (((struct null *)n->state)->read_zeroes)
        iov_zero(iov, niov, 0, bytes);
    null_delay(n);
    return 0;
}

static int null_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    null_delay(n);
    return 0;
}

static int null_flush(struct block_node *n)
{
    return 0;
}

static int null_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    return 0;
}

static int null_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    return 0;
}

static int null_block_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                             struct block_node **file)
{
    *file = n;
    return STATUS_ALLOCATED | STATUS_OFFSET | (((struct null *)n->state)->read_zeroes ? STATUS_ZERO : STATUS_DATA);
}

static int64_t null_allocated_size(struct block_node *n)
{
    return 0;
}

#define NULL_DRIVER(id)                                                                                              \
    BLOCK_DRIVER = {                                                                                                 \
        .name = id, .summary = "discards writes, reads as zeroes", .kind = DRIVER_PROTOCOL,                          \
        .size = sizeof(struct null), .scheme = id "://", .options = null_options, .open = null_open,                 \
        .reopen = node_reopen_plain, .preadv = null_preadv, .pwritev = null_pwritev, .flush = null_flush, .discard = null_discard,                \
        .write_zeroes = null_write_zeroes, .block_status = null_block_status, .allocated_size = null_allocated_size, \
    }

NULL_DRIVER("null-co");
NULL_DRIVER("null-aio");
