/* copy-before-write: what is about to be overwritten in `file` is copied to `target` first, so that both together still have the
 * disk as it was when the filter came over it. A snapshot-access node shows that moment.
 *
 *   device ──> copy-before-write ──file──> disk
 *                  └──target──> tgt                    what was overwritten since
 *
 * The file is held for writing only while somebody writes to the filter: it is added beside a disk in use, the device then moves to
 * it by qom-set of its `drive`. */
#include <errno.h>
#include <string.h>
#include "block/filter/cbw.h"
#include "block/filter/filter.h"
#include "block/job/fleece.h"
#include "rhea/base/options.h"

/* LATE_MAX: copies that were given up and go on; with so many the target is not waited for. */
enum { TIMEOUT_MAX = 1 << 30, LATE_MAX = 64 };

struct cbw {
    struct fleece f;
    struct block_node *target;
    struct dirty_bitmap *wanted;        /* what can be asked for; todo is a part of it */
    bool break_snapshot, target_written;
    bool written;                       /* somebody writes through the filter */
    int64_t timeout_ns;                 /* 0: none */
    atomic_uint late;
    atomic_bool lost;                   /* something was overwritten that had not been copied */
};

static const char *const cbw_options[] = { "file", "target", "bitmap", "on-cbw-error", "cbw-timeout", "min-cluster-size", NULL };
static const char *const bitmap_options[] = { "node", "name", NULL };

/* ---- opening */

static bool options_take(struct cbw *s, struct json_object *opts, uint64_t *cluster, struct error *err)
{
    const char *on_error = option_str(opts, "on-cbw-error", "break-guest-write");
    int64_t timeout;

    s->break_snapshot = !strcmp(on_error, "break-snapshot");
    if (!s->break_snapshot && strcmp(on_error, "break-guest-write"))
        return error_setf(err, ERR_GENERIC, "it is break-guest-write or break-snapshot", "unknown on-cbw-error '%s'", on_error);
    if (!option_int(opts, "cbw-timeout", 0, &timeout, err) || !fleece_min_cluster(opts, cluster, err))
        return false;
    if (timeout < 0 || timeout > TIMEOUT_MAX)
        return error_set(err, ERR_GENERIC, "cbw-timeout is out of range", "seconds; 0: no limit");
    s->timeout_ns = timeout * 1000000000;
    return true;
}

static bool target_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct cbw *s = n->state;

    s->target = filter_child(n, opts, "target", err);
    if (!s->target)
        return false;
    s->target_written = !n->read_only;
    s->target->job_writers += s->target_written;        /* others may read it */
    return s->target->size >= n->size ||
           error_setf(err, ERR_GENERIC, "make the target as large as the disk", "The target of '%s' has %" PRIu64 " bytes, the disk %" PRIu64, n->name,
                      (uint64_t)s->target->size, (uint64_t)n->size);
}

/* All of the disk, or what the bitmap has now. */
static bool wanted_take(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct cbw *s = n->state;
    struct json_object *v = NULL;
    struct dirty_bitmap *given;
    struct block_node *of;

    s->wanted = bitmap_new(n->size, s->f.cluster, err);
    if (!s->wanted)
        return false;
    if (!json_object_object_get_ex(opts, "bitmap", &v)) {
        bitmap_set(s->wanted, 0, n->size);
        return true;
    }
    if (!json_object_is_type(v, json_type_object) || !options_check(v, bitmap_options, "bitmap", err))
        return error_is_set(err) ? false : error_set(err, ERR_GENERIC, "bitmap has a node and a name", "bitmap.node=..., bitmap.name=...");
    of = node_find(n->graph, option_str(v, "node", ""));
    if (!of)
        return error_setf(err, ERR_GENERIC, "query-named-block-nodes lists them", "Cannot find device='' nor node-name='%s'", option_str(v, "node", ""));
    given = bitmap_find(of, option_str(v, "name", ""), err);
    if (!given || !bitmap_usable(given, false, err))
        return false;
    if (given->size != n->size)
        return error_setf(err, ERR_GENERIC, "take one of the disk's own", "Bitmap '%s' is of a disk of another size", given->name);
    bitmap_merge(s->wanted, given);
    return true;
}

static bool cbw_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct cbw *s = n->state;
    uint64_t cluster;

    n->graph->fleecing++;
    if (!options_take(s, opts, &cluster, err) || !filter_open(n, opts, "file", err) || !target_open(n, opts, err))
        return false;
    cluster = MAX(cluster, fleece_cluster(s->target));
    if (!fleece_open(&s->f, n->file, s->target, cluster, COPY_UNMAP | (node_reaches(s->target, n->file) ? 0 : COPY_SKIP_ZERO), err) ||
        !wanted_take(n, opts, err))
        return false;
    bitmap_merge(s->f.todo, s->wanted);
    return true;
}

/* The graph is quiet: g->fleecing. */
static void cbw_close(struct block_node *n)
{
    struct cbw *s = n->state;

    fleece_close(&s->f);
    bitmap_free(s->wanted);
    if (s->target) {
        s->target->job_writers -= s->target_written;
        filter_child_close(n, s->target);
    }
    n->graph->fleecing--;
}

/* Whoever wrote through the filter writes past it from now on. */
static bool cbw_set_writable(struct block_node *n, bool write, struct error *err)
{
    struct cbw *s = n->state;

    if (s->written && !write && n->file->writers)
        atomic_store(&s->lost, true);
    s->written = write;
    return true;
}

static struct block_node *cbw_child(struct block_node *n, unsigned i)
{
    return i ? NULL : ((struct cbw *)n->state)->target;
}

/* ---- before a write */

/* A copy that may take longer than its guest waits. It goes on when it is given up: its range is locked until it ends. */
struct timed_copy {
    struct block_node *n;
    uint64_t off, bytes;
    struct coroutine *guest;    /* waits; NULL: does not, or not any more */
    bool late, done;
    int ret;
};

static void timed_run(void *arg)
{
    struct timed_copy *t = arg;
    struct cbw *s = t->n->state;
    struct coroutine *guest;

    t->ret = fleece_before_write(&s->f, t->off, t->bytes);
    t->done = true;
    guest = t->guest;
    if (t->late)
        atomic_fetch_sub(&s->late, 1);
    graph_background_end(t->n->graph);
    if (t->late)
        g_free(t);
    else if (guest)
        coroutine_wake(guest);
}

static void timed_out(void *arg)
{
    struct timed_copy *t = arg;

    t->late = true;
    atomic_fetch_add(&((struct cbw *)t->n->state)->late, 1);
    coroutine_wake(t->guest);
}

static int copy_timed(struct block_node *n, uint64_t off, uint64_t bytes)
{
    struct cbw *s = n->state;
    struct timed_copy *t;
    struct loop_timer *timer;
    int ret;

    if (atomic_load(&s->late) >= LATE_MAX)
        return -ETIMEDOUT;
    t = g_new(struct timed_copy, 1);
    *t = (struct timed_copy){ .n = n, .off = off, .bytes = bytes };
    graph_background_begin(n->graph);
    coroutine_start(timed_run, t);
    if (!t->done) {
        timer = loop_timer_new(loop_current(), timed_out, t);
        t->guest = coroutine_self();
        loop_timer_set(timer, host_clock_ns() + s->timeout_ns);
        while (!t->done && !t->late)
            coroutine_yield();
        loop_timer_free(timer);
        if (!t->done)
            return -ETIMEDOUT;
    }
    ret = t->ret;
    g_free(t);
    return ret;
}

static int before_write(struct block_node *n, uint64_t off, uint64_t bytes)
{
    struct cbw *s = n->state;
    int ret;

    if (atomic_load(&s->lost) || !fleece_wants(&s->f, off, bytes))
        return 0;
    ret = s->timeout_ns ? copy_timed(n, off, bytes) : fleece_before_write(&s->f, off, bytes);
    if (!ret || !s->break_snapshot)
        return ret;
    atomic_store(&s->lost, true);
    return 0;
}

static int cbw_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    int ret = before_write(n, off, bytes);

    return ret ? ret : filter_pwritev(n, off, bytes, iov, niov);
}

static int cbw_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    int ret = before_write(n, off, bytes);

    return ret ? ret : filter_discard(n, off, bytes);
}

static int cbw_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    int ret = before_write(n, off, bytes);

    return ret ? ret : filter_write_zeroes(n, off, bytes, flags);
}

static struct block_node *cbw_map_fast(struct block_node *n, struct block_fast *f)
{
    return f->write && fleece_wants(&((struct cbw *)n->state)->f, f->offset, f->bytes) ? NULL : n->file;
}

/* ---- the moment */

bool node_is_cbw(const struct block_node *n)
{
    return n->drv->open == cbw_open;
}

uint64_t cbw_cluster(const struct block_node *n)
{
    return ((struct cbw *)n->state)->f.cluster;
}

static int moment_check(const struct cbw *s, uint64_t off, uint64_t bytes)
{
    uint64_t n = bytes;

    return atomic_load(&s->lost) || !bitmap_extent(s->wanted, off, &n) || n < bytes ? -EACCES : 0;
}

typedef int moment_fn(struct block_node *from, uint64_t off, uint64_t bytes, void *arg);

/* fn on whoever has the moment's bytes from off on: the source, which is not overwritten meanwhile, or the target, for as many as
 * are in the same place: *len. */
static int moment_part(struct cbw *s, uint64_t off, uint64_t bytes, uint64_t *len, moment_fn *fn, void *arg)
{
    uint64_t locked;
    bool todo;
    int ret;

    *len = bytes;
    if (!bitmap_extent(s->f.todo, off, len))
        return fn(s->target, off, *len, arg);
    locked = *len;
    range_lock(&s->f.lock, off, locked, true);
    todo = bitmap_extent(s->f.todo, off, len);     /* it may have been copied while this waited */
    ret = todo ? fn(s->f.source, off, *len, arg) : 0;
    range_unlock(&s->f.lock, off, locked, true);
    return todo ? ret : fn(s->target, off, *len, arg);
}

struct moment_read { const struct iovec *iov; int niov; uint64_t start; };

static int part_read(struct block_node *from, uint64_t off, uint64_t bytes, void *arg)
{
    struct moment_read *r = arg;
    g_autofree struct iovec *part = g_new(struct iovec, r->niov);
    int niov = iov_slice(part, r->iov, r->niov, off - r->start, bytes);

    return node_preadv(from, off, bytes, part, niov);
}

int cbw_moment_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct cbw *s = n->state;
    struct moment_read r = { iov, niov, off };
    int ret = moment_check(s, off, bytes);

    for (uint64_t at = off, len; at < off + bytes && !ret; at += len)
        ret = moment_part(s, at, off + bytes - at, &len, part_read, &r);
    return ret ? ret : atomic_load(&s->lost) ? -EACCES : 0;
}

struct moment_status { uint64_t n_bytes, *map; struct block_node **file; };

static int part_status(struct block_node *from, uint64_t off, uint64_t bytes, void *arg)
{
    struct moment_status *m = arg;
    int depth;

    return node_status_above(from, off, bytes, &m->n_bytes, m->map, m->file, &depth, true);
}

int cbw_moment_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map, struct block_node **file)
{
    struct cbw *s = n->state;
    struct moment_status m = { bytes, map, file };
    uint64_t len = bytes;
    int ret;

    if (!bitmap_extent(s->wanted, off, &len) || atomic_load(&s->lost))
        return -EACCES;
    ret = moment_part(s, off, len, &len, part_status, &m);
    *n_bytes = MIN(len, m.n_bytes);
    return ret < 0 ? ret : ret | STATUS_ALLOCATED;
}

int cbw_moment_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    struct cbw *s = n->state;
    int ret;

    range_lock(&s->f.lock, off, bytes, false);
    bitmap_reset(s->wanted, off, bytes);
    bitmap_reset(s->f.todo, off, bytes);
    ret = s->target_written ? node_discard(s->target, off, bytes) : 0;
    range_unlock(&s->f.lock, off, bytes, false);
    return ret;
}

BLOCK_DRIVER = {
    .name = "copy-before-write",
    .summary = "copies what is about to be overwritten to another image",
    .kind = DRIVER_FILTER,
    .file_hold = FILE_HELD_IN_USE,
    .file_stays = true,
    .size = sizeof(struct cbw),
    .options = cbw_options,
    .open = cbw_open,
    .close = cbw_close,
    .set_writable = cbw_set_writable,
    .preadv = filter_preadv,
    .pwritev = cbw_pwritev,
    .discard = cbw_discard,
    .write_zeroes = cbw_write_zeroes,
    .block_status = filter_status,
    .allocated_size = filter_allocated_size,
    .map_fast = cbw_map_fast,
    .child = cbw_child,
};
