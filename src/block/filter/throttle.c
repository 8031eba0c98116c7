/* throttle: limits the rate of requests. Nodes name a group (-object throttle-group) and share its limits.
 *
 * Each limit is a leaky bucket: a request adds its bytes (or itself) and the bucket leaks at the limit's rate. A request
 * waits while the bucket is over its burst: a tenth of a second's worth, or what -max and -max-length allow. */
#include <errno.h>
#include <math.h>
#include "block/filter/filter.h"
#include "block/graph.h"
#include "rhea/base/options.h"
#include "rhea/vm/object.h"
#include "rhea/vm/vm.h"

enum { BPS_TOTAL, BPS_READ, BPS_WRITE, IOPS_TOTAL, IOPS_READ, IOPS_WRITE, BUCKETS };
static const char *const bucket_names[BUCKETS] = { "bps-total", "bps-read", "bps-write", "iops-total", "iops-read",
                                                   "iops-write" };

struct bucket { double avg, max, level, burst_level; uint64_t max_length; };

struct throttle_group {
    struct object obj;
    struct bucket buckets[BUCKETS];
    uint64_t iops_size;         /* a request larger than this counts as several */
    int64_t last_ns;
    struct co_mutex lock[2];    /* reads, writes: in order of arrival */
    GMutex mutex;               /* the levels */
};

/* ---- the group */

static bool limit_get(struct object *obj, const char *name, const char *suffix, uint64_t def, uint64_t *out, struct error *err)
{
    g_autofree char *key = g_strdup_printf("x-%s%s", name, suffix);

    return option_size(obj->opts, key, def, out, err);
}

static bool bucket_take(struct object *obj, struct bucket *b, const char *name, struct error *err)
{
    uint64_t avg, max;

    if (!limit_get(obj, name, "", 0, &avg, err) || !limit_get(obj, name, "-max", 0, &max, err) ||
        !limit_get(obj, name, "-max-length", 1, &b->max_length, err))
        return false;
    if (avg > 1000000000000000ull || max > 1000000000000000ull || !b->max_length || b->max_length > UINT32_MAX)
        return error_setf(err, ERR_GENERIC, "limits go up to 10^15 a second", "limit %s is out of range", name);
    if (max && (!avg || max < avg))
        return error_setf(err, ERR_GENERIC, NULL, "%s-max needs %s, and is not less", name, name);
    if (b->max_length > 1 && !max)
        return error_setf(err, ERR_GENERIC, NULL, "%s-max-length needs %s-max", name, name);
    b->avg = avg;
    b->max = max;
    return true;
}

static bool group_create(struct object *obj, struct error *err)
{
    struct throttle_group *g = (struct throttle_group *)obj;
    struct bucket *b = g->buckets;

    g_mutex_init(&g->mutex);
    for (unsigned i = 0; i < 2; i++)
        co_mutex_init(&g->lock[i]);
    g->last_ns = host_clock_ns();
    for (unsigned i = 0; i < BUCKETS; i++)
        if (!bucket_take(obj, &g->buckets[i], bucket_names[i], err))
            return false;
    if ((b[BPS_TOTAL].avg && (b[BPS_READ].avg || b[BPS_WRITE].avg)) ||
        (b[IOPS_TOTAL].avg && (b[IOPS_READ].avg || b[IOPS_WRITE].avg)))
        return error_set(err, ERR_GENERIC, "bps/iops/max total values and read/write values cannot be used at the same time",
                         "limit either the total, or reads and writes");
    return limit_get(obj, "iops-size", "", 0, &g->iops_size, err);
}

static void group_destroy(struct object *obj)
{
    g_mutex_clear(&((struct throttle_group *)obj)->mutex);
}

#define LIMIT(n, what) { .name = "x-" n, .type = PROP_SIZE, .def = "0", .help = what },                               \
                       { .name = "x-" n "-max", .type = PROP_SIZE, .def = "0", .help = "the same in a burst" },        \
                       { .name = "x-" n "-max-length", .type = PROP_U64, .def = "1", .help = "seconds of a burst" }

OBJECT = {
    .name = "throttle-group", .parent = "object", .summary = "limits that throttled disks share",
    .size = sizeof(struct throttle_group), .create = group_create, .destroy = group_destroy,
    .props = (const struct prop[]){
        LIMIT("bps-total", "bytes a second"), LIMIT("bps-read", "bytes read a second"),
        LIMIT("bps-write", "bytes written a second"), LIMIT("iops-total", "requests a second"),
        LIMIT("iops-read", "reads a second"), LIMIT("iops-write", "writes a second"),
        { .name = "x-iops-size", .type = PROP_SIZE, .def = "0", .help = "larger requests count as several" }, { 0 } },
};

/* ---- waiting */

static void leak(struct throttle_group *g)
{
    int64_t now = host_clock_ns();
    double s = (now - g->last_ns) / 1e9;

    g->last_ns = now;
    for (unsigned i = 0; i < BUCKETS; i++) {
        struct bucket *b = &g->buckets[i];

        b->level = fmax(0, b->level - b->avg * s);
        b->burst_level = fmax(0, b->burst_level - b->max * s);
    }
}

/* Seconds until the bucket takes another request. */
static double bucket_wait(const struct bucket *b)
{
    double room = b->max ? b->max * b->max_length : b->avg / 10, wait;

    if (!b->avg)
        return 0;
    wait = (b->level - room) / b->avg;
    if (b->max && b->max_length > 1)
        wait = fmax(wait, (b->burst_level - b->max / 10) / b->max);
    return fmax(0, wait);
}

struct throttle { struct throttle_group *group; };

static double group_wait(struct throttle_group *g, bool write)
{
    static const int mine[2][4] = { { BPS_TOTAL, BPS_READ, IOPS_TOTAL, IOPS_READ },
                                    { BPS_TOTAL, BPS_WRITE, IOPS_TOTAL, IOPS_WRITE } };
    double wait = 0;

    leak(g);
    for (unsigned i = 0; i < 4; i++)
        wait = fmax(wait, bucket_wait(&g->buckets[mine[write][i]]));
    return wait;
}

static void group_account(struct throttle_group *g, bool write, uint64_t bytes)
{
    double units = g->iops_size && bytes > g->iops_size ? (double)bytes / g->iops_size : 1;
    const struct { int bucket; double v; } add[] = {
        { BPS_TOTAL, bytes }, { write ? BPS_WRITE : BPS_READ, bytes }, { IOPS_TOTAL, units },
        { write ? IOPS_WRITE : IOPS_READ, units },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(add); i++) {
        g->buckets[add[i].bucket].level += add[i].v;
        g->buckets[add[i].bucket].burst_level += add[i].v;
    }
}

/* One request of a direction waits at a time, the others behind it. */
static void throttle_wait(struct block_node *n, bool write, uint64_t bytes)
{
    struct throttle_group *g = ((struct throttle *)n->state)->group;

    co_mutex_lock(&g->lock[write]);
    for (;;) {
        double wait;

        g_mutex_lock(&g->mutex);
        wait = group_wait(g, write);
        if (wait <= 0)
            group_account(g, write, bytes);
        g_mutex_unlock(&g->mutex);
        if (wait <= 0)
            break;
        coroutine_sleep_ns(fmin(wait, 3600) * 1e9 + 1);
    }
    co_mutex_unlock(&g->lock[write]);
}

/* ---- the node */

static const char *const throttle_options[] = { "file", "throttle-group", NULL };

static bool throttle_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct throttle *s = n->state;
    const char *id = option_str(opts, "throttle-group", NULL);

    if (!id)
        return error_set(err, ERR_GENERIC, "Parameter 'throttle-group' is missing",
                         "-object throttle-group,id=ID,x-iops-total=100, then throttle-group=ID");
    if (!n->graph->objects)
        return error_setf(err, ERR_GENERIC, NULL, "there is no throttle group '%s'", id);
    s->group = (struct throttle_group *)object_get(n->graph->objects, id, "throttle-group", err);
    return s->group && filter_open(n, opts, "file", err);
}

static void throttle_close(struct block_node *n)
{
    object_put((struct object *)((struct throttle *)n->state)->group);
}

static int throttle_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    throttle_wait(n, false, bytes);
    return filter_preadv(n, off, bytes, iov, niov);
}

static int throttle_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    throttle_wait(n, true, bytes);
    return filter_pwritev(n, off, bytes, iov, niov);
}

static int throttle_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    throttle_wait(n, true, bytes);
    return filter_discard(n, off, bytes);
}

static int throttle_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    throttle_wait(n, true, bytes);
    return filter_write_zeroes(n, off, bytes, flags);
}

BLOCK_DRIVER = {
    .name = "throttle",
    .summary = "limits the rate of requests",
    .kind = DRIVER_FILTER,
    .size = sizeof(struct throttle),
    .growable = true,           /* if the child is: it says no otherwise */
    .options = throttle_options,
    .open = throttle_open,
    .close = throttle_close,
    .reopen = node_reopen_plain,
    .preadv = throttle_preadv,
    .pwritev = throttle_pwritev,
    .discard = throttle_discard,
    .write_zeroes = throttle_write_zeroes,
    .block_status = filter_status,
    .truncate = filter_truncate,
    .allocated_size = filter_allocated_size,
};
