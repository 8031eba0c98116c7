/* throttle: limits the rate of requests. Nodes name a group (-object throttle-group) and share its limits.
 *
 * Each limit is a leaky bucket: a request adds its bytes (or itself) and the bucket leaks at the limit's rate. A request
 * waits while the bucket is over its burst: a tenth of a second's worth, or what -max and -max-length allow. */
#include <errno.h>
#include <math.h>
#include "block/filter/filter.h"
#include "block/filter/throttle.h"
#include "block/graph.h"
#include "rhea/base/options.h"
#include "rhea/vm/object.h"
#include "rhea/vm/vm.h"

enum { BPS_TOTAL, BPS_READ, BPS_WRITE, IOPS_TOTAL, IOPS_READ, IOPS_WRITE, BUCKETS = THROTTLE_BUCKETS };
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

/* Of "limits", or by its older name. */
static bool limit_get(struct json_object *opts, struct json_object *limits, const char *name, const char *suffix, uint64_t *value,
                      struct error *err)
{
    g_autofree char *key = g_strdup_printf("x-%s%s", name, suffix);

    return option_size(opts, key, *value, value, err) && option_size(limits, key + strlen("x-"), *value, value, err);
}

static bool limits_known(struct json_object *limits, struct error *err)
{
    static const char *const known[] = {
        "bps-total", "bps-read", "bps-write", "iops-total", "iops-read", "iops-write", "bps-total-max", "bps-read-max",
        "bps-write-max", "iops-total-max", "iops-read-max", "iops-write-max", "bps-total-max-length", "bps-read-max-length",
        "bps-write-max-length", "iops-total-max-length", "iops-read-max-length", "iops-write-max-length", "iops-size", NULL };

    return !limits || (json_object_is_type(limits, json_type_object)
                           ? options_check(limits, known, "limits", err)
                           : error_set(err, ERR_GENERIC, "limits is an object", "\"limits\": { \"iops-total\": 100 }"));
}

static bool limits_take(struct json_object *opts, struct throttle_limits *l, struct error *err)
{
    struct json_object *limits = NULL;

    json_object_object_get_ex(opts, "limits", &limits);
    if (!limits_known(limits, err))
        return false;
    for (unsigned i = 0; i < BUCKETS; i++) {
        if (!limit_get(opts, limits, bucket_names[i], "", &l->avg[i], err) || !limit_get(opts, limits, bucket_names[i], "-max", &l->max[i], err) ||
            !limit_get(opts, limits, bucket_names[i], "-max-length", &l->max_length[i], err))
            return false;
        if (!l->max_length[i])
            return error_setf(err, ERR_GENERIC, NULL, "limit %s is out of range", bucket_names[i]);
    }
    return limit_get(opts, limits, "iops-size", "", &l->iops_size, err) && throttle_limits_check(l, err);
}

/* Nested, as QMP has them, or a command line's limits.iops-total=. */
static bool limits_get(struct json_object *opts, struct throttle_limits *l, struct error *err)
{
    struct json_object *nested = options_nest(opts, err);
    bool ok = nested && limits_take(nested, l, err);

    json_object_put(nested);
    return ok;
}

static bool bucket_check(uint64_t avg, uint64_t max, uint64_t max_length, const char *name, struct error *err)
{
    if (avg > 1000000000000000ull || max > 1000000000000000ull || max_length > UINT32_MAX)
        return error_setf(err, ERR_GENERIC, "limits go up to 10^15 a second", "limit %s is out of range", name);
    if (max && (!avg || max < avg))
        return error_setf(err, ERR_GENERIC, NULL, "%s-max needs %s, and is not less", name, name);
    return max_length <= 1 || max || error_setf(err, ERR_GENERIC, NULL, "%s-max-length needs %s-max", name, name);
}

bool throttle_limits_check(const struct throttle_limits *l, struct error *err)
{
    for (unsigned i = 0; i < BUCKETS; i++)
        if (!bucket_check(l->avg[i], l->max[i], l->max_length[i], bucket_names[i], err))
            return false;
    if ((l->avg[BPS_TOTAL] && (l->avg[BPS_READ] || l->avg[BPS_WRITE])) || (l->avg[IOPS_TOTAL] && (l->avg[IOPS_READ] || l->avg[IOPS_WRITE])))
        return error_set(err, ERR_GENERIC, "bps/iops/max total values and read/write values cannot be used at the same time",
                         "limit either the total, or reads and writes");
    return !l->iops_size || l->avg[IOPS_TOTAL] || l->avg[IOPS_READ] || l->avg[IOPS_WRITE] ||
           error_set(err, ERR_GENERIC, "iops size requires an iops value to be set", NULL);
}

bool throttle_limits_any(const struct throttle_limits *l)
{
    bool any = false;

    for (unsigned i = 0; i < BUCKETS; i++)
        any |= l->avg[i] != 0;
    return any;
}

static void group_set(struct throttle_group *g, const struct throttle_limits *l)
{
    g_mutex_lock(&g->mutex);
    for (unsigned i = 0; i < BUCKETS; i++)
        g->buckets[i] = (struct bucket){ .avg = l->avg[i], .max = l->max[i], .max_length = MAX(l->max_length[i], 1) };
    g->iops_size = l->iops_size;
    g->last_ns = host_clock_ns();
    g_mutex_unlock(&g->mutex);
}

void throttle_group_limits(const struct throttle_group *g, struct throttle_limits *out)
{
    for (unsigned i = 0; i < BUCKETS; i++) {
        out->avg[i] = g->buckets[i].avg;
        out->max[i] = g->buckets[i].max;
        out->max_length[i] = g->buckets[i].max_length;
    }
    out->iops_size = g->iops_size;
}

static bool group_create(struct object *obj, struct error *err)
{
    struct throttle_group *g = (struct throttle_group *)obj;
    struct throttle_limits l = { 0 };

    g_mutex_init(&g->mutex);
    for (unsigned i = 0; i < 2; i++)
        co_mutex_init(&g->lock[i]);
    for (unsigned i = 0; i < BUCKETS; i++)
        l.max_length[i] = 1;
    if (!limits_get(obj->opts, &l, err))
        return false;
    group_set(g, &l);
    return true;
}

/* Limits of a group in use; those that are not named stay. */
static bool group_change(struct object *obj, const char *prop, struct json_object *value, struct error *err)
{
    struct throttle_group *g = (struct throttle_group *)obj;
    struct throttle_limits l;
    struct json_object *o;
    bool ok;

    if (strcmp(prop, "limits"))
        return error_setf(err, ERR_GENERIC, "set limits", "Property '%s' of a throttle group cannot be set", prop);
    throttle_group_limits(g, &l);
    o = json_object_new_object();
    json_object_object_add(o, "limits", json_object_get(value));
    ok = limits_get(o, &l, err);
    json_object_put(o);
    if (ok)
        group_set(g, &l);
    return ok;
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
    .size = sizeof(struct throttle_group), .create = group_create, .destroy = group_destroy, .set = group_change,
    .props = (const struct prop[]){
        { .name = "limits", .type = PROP_STR, .help = "limits.bps-total=..., the names below without x-" },
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
void throttle_group_wait(struct throttle_group *g, bool write, uint64_t bytes, const atomic_uint *drained)
{
    co_mutex_lock(&g->lock[write]);
    for (;;) {
        double wait;

        g_mutex_lock(&g->mutex);
        wait = atomic_load(drained) ? 0 : group_wait(g, write);
        if (wait <= 0)
            group_account(g, write, bytes);
        g_mutex_unlock(&g->mutex);
        if (wait <= 0)
            break;
        coroutine_sleep_ns(fmin(wait, 0.02) * 1e9 + 1);  /* a drain may begin meanwhile */
    }
    co_mutex_unlock(&g->lock[write]);
}

static void throttle_wait(struct block_node *n, bool write, uint64_t bytes)
{
    throttle_group_wait(((struct throttle *)n->state)->group, write, bytes, &n->graph->draining);
}

/* ---- drives that are limited themselves */

struct throttle_group *throttle_group_join(struct vm *vm, const char *name, const struct throttle_limits *l, struct error *err)
{
    struct throttle_group *g;

    if (!throttle_limits_check(l, err))
        return NULL;
    if (!object_find(vm, name)) {
        struct json_object *o = json_object_new_object();
        bool ok;

        json_object_object_add(o, "qom-type", json_object_new_string("throttle-group"));
        json_object_object_add(o, "id", json_object_new_string(name));
        ok = object_add(vm, o, err);
        json_object_put(o);
        if (!ok)
            return NULL;
    }
    g = (struct throttle_group *)object_get(vm, name, "throttle-group", err);
    if (g)
        group_set(g, l);
    return g;
}

void throttle_group_leave(struct throttle_group *g)
{
    object_put(&g->obj);
}

const char *throttle_group_name(const struct throttle_group *g)
{
    return g->obj.id;
}

static bool drive_limit(struct json_object *opts, struct json_object *nested, unsigned i, const char *suffix, uint64_t *out, struct error *err)
{
    static const char *const old_names[BUCKETS] = { "bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr" };
    g_autofree char *key = g_strdup_printf("%s%s", bucket_names[i], suffix), *old = g_strdup_printf("%s%s", old_names[i], suffix);

    g_strdelimit(old, "-", '_');
    return option_size(opts, old, *out, out, err) && option_size(nested, key, *out, out, err);
}

bool throttle_drive_options(struct json_object *opts, struct throttle_limits *out, const char **group, bool *any, struct error *err)
{
    struct json_object *nested = NULL;

    *out = (struct throttle_limits){ 0 };
    json_object_object_get_ex(opts, "throttling", &nested);
    for (unsigned i = 0; i < BUCKETS; i++)
        if (!drive_limit(opts, nested, i, "", &out->avg[i], err) || !drive_limit(opts, nested, i, "-max", &out->max[i], err) ||
            !drive_limit(opts, nested, i, "-max-length", &out->max_length[i], err))
            return false;
    if (!option_size(opts, "iops_size", 0, &out->iops_size, err) || !option_size(nested, "iops-size", out->iops_size, &out->iops_size, err))
        return false;
    *group = option_str(nested, "group", option_str(opts, "group", NULL));
    *any = throttle_limits_any(out);
    return throttle_limits_check(out, err);
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
