/* blockdev-backup: a copy of the disk as it is when the job starts. What the guest overwrites is copied first.
 *
 *   source A (in use) ──before a write──> target B        fleecing: B has A as its backing image and sync=none; what B shows is A as
 *        └──────────the job, piece by piece──┘            it was, and B grows by what is written to A
 *
 * A bitmap says what has still to be copied. A range is copied by whoever holds it, alone; readers of a fleecing target share it, so
 * that what they are reading from A is not overwritten meanwhile. */
#include <errno.h>
#include <string.h>
#include "block/job/job.h"

enum { WORKERS_DEFAULT = 16, WORKERS_MAX = 64 };

struct backup_job {
    struct job job;
    struct block_hook hook, target_hook;
    struct block_node *source, *target;
    struct block_backend *from, *to;
    struct dirty_bitmap *todo;
    struct dirty_bitmap *bitmap, *taken;        /* the user's, and what it held at the start */
    struct range_lock lock;
    struct copy_pool pool;
    enum job_sync sync;
    enum job_bitmap_mode bitmap_mode;
    enum job_error_policy on_source_error, on_target_error;
    uint64_t cluster, bytes;    /* bytes: to be copied in all */
    unsigned flags;
    bool hooked, target_hooked, break_snapshot, discard_source;
    atomic_int broken;          /* an error of a copy before a guest's write: the backup is not whole */
};

static struct backup_job *of_hook(struct block_hook *h)
{
    return (struct backup_job *)((char *)h - offsetof(struct backup_job, hook));
}

static struct backup_job *of_target_hook(struct block_hook *h)
{
    return (struct backup_job *)((char *)h - offsetof(struct backup_job, target_hook));
}

/* ---- copying */

/* [co] What of the range is still to be copied. off is at a cluster's start. */
static int backup_copy(struct backup_job *b, uint64_t off, uint64_t bytes, bool *read)
{
    uint64_t end = off + bytes, n;
    int ret = 0;

    range_lock(&b->lock, off, bytes, false);
    for (uint64_t at = off; !ret && bitmap_next(b->todo, &at, &n) && at < end; at += n) {
        n = MIN(n, end - at);
        if (b->flags & COPY_COMPRESS)
            n = MIN(n, b->cluster);
        ret = block_copy(b->source, b->target, at, n, b->flags, read);
        if (!ret)
            bitmap_reset(b->todo, at, n);
    }
    range_unlock(&b->lock, off, bytes, false);
    return ret;
}

static int hook_write_begin(struct block_hook *h, const struct block_write *w)
{
    struct backup_job *b = of_hook(h);
    uint64_t start = w->off / b->cluster * b->cluster, end = MIN((w->off + w->bytes + b->cluster - 1) / b->cluster * b->cluster, b->todo->size);
    bool read;
    int ret;

    if (start >= end || atomic_load(&b->broken))
        return 0;
    ret = backup_copy(b, start, end - start, &read);
    if (!ret || !b->break_snapshot)
        return ret;
    atomic_store(&b->broken, ret);
    return 0;
}

static void target_read_begin(struct block_hook *h, uint64_t off, uint64_t bytes)
{
    range_lock(&of_target_hook(h)->lock, off, bytes, true);
}

static void target_read_end(struct block_hook *h, uint64_t off, uint64_t bytes)
{
    range_unlock(&of_target_hook(h)->lock, off, bytes, true);
}

struct backup_piece { struct backup_job *b; uint64_t off, bytes; };

static void backup_worker(void *arg)
{
    struct backup_piece *p = arg;
    struct backup_job *b = p->b;
    bool read = true;
    int ret;

    backend_co_enter_both(b->from, b->to);
    ret = backup_copy(b, p->off, p->bytes, &read);
    if (!ret && b->discard_source)
        ret = node_discard(b->source, p->off, p->bytes);
    backend_co_exit(b->to);
    backend_co_exit(b->from);
    copy_pool_done(&b->pool, ret, read);
    g_free(p);
}

/* sync=top: what only backing images hold is left out. */
static int backup_scan(struct backup_job *b)
{
    struct block_node *top = node_skip_filters(b->source);
    uint64_t n, looked = 0;

    for (uint64_t off = 0; off < b->source->size && !job_cancelled(&b->job); off += n) {
        int ret;

        backend_co_enter(b->from);
        ret = chain_allocated(top, top->backing, off, MIN(b->source->size - off, 1ull << 30), &n);
        backend_co_exit(b->from);
        if (ret < 0)
            return ret;
        if (!ret)               /* whole clusters: one that is in part its own is copied */
            bitmap_reset(b->todo, off, n);
        if (++looked % 256 == 0)
            job_sleep(&b->job, 1);
        job_pause_point(&b->job);
    }
    b->bytes = bitmap_count(b->todo);
    return 0;
}

static int backup_pass(struct backup_job *b, bool *read)
{
    struct job *job = &b->job;
    uint64_t off = 0, bytes;

    while (!job_cancelled(job) && !b->pool.ret && !atomic_load(&b->broken) && bitmap_next(b->todo, &off, &bytes)) {
        struct backup_piece *p = g_new(struct backup_piece, 1);

        bytes = MIN(bytes, MAX(job_rate_chunk(job, COPY_CHUNK), b->cluster));
        if (off + bytes < b->source->size)
            bytes -= bytes % b->cluster;
        *p = (struct backup_piece){ b, off, bytes };
        copy_pool_start(&b->pool, backup_worker, p);
        off += bytes;
        job_rate(job, bytes);
        job_pause_point(job);
    }
    return copy_pool_wait(&b->pool, read);
}

static int backup_all(struct backup_job *b)
{
    struct job *job = &b->job;
    uint64_t off = 0, n;

    while (!job_cancelled(job) && !atomic_load(&b->broken) && bitmap_next(b->todo, &off, &n)) {
        bool read = true;
        int ret = backup_pass(b, &read);

        if (ret && job_error(job, read ? b->on_source_error : b->on_target_error, read, ret) == JOB_FAIL)
            return ret;
        off = 0;
    }
    return atomic_load(&b->broken);
}

static int backup_run(struct job *job, struct error *err)
{
    struct backup_job *b = (struct backup_job *)job;
    int ret = b->sync == JOB_SYNC_TOP ? backup_scan(b) : 0;

    while (!ret && b->sync == JOB_SYNC_NONE && !job_cancelled(job)) {  /* only what the guest overwrites, until it is given up */
        job_pause_point(job);
        job_sleep(job, 100000000);
        ret = atomic_load(&b->broken);
    }
    if (!ret && b->sync != JOB_SYNC_NONE)
        ret = backup_all(b);
    if (!ret && !job_cancelled(job)) {
        backend_co_enter(b->to);
        ret = node_flush(b->target);
        backend_co_exit(b->to);
    }
    return ret;
}

static void backup_measure(struct job *job)
{
    struct backup_job *b = (struct backup_job *)job;

    if (!b->todo)
        return;
    job->total = MIN(b->bytes, b->source->size);
    job->progress = job->total - MIN(bitmap_count(b->todo), job->total);
}

/* ---- the end: the bitmap of an incremental backup has what is new since the start, and gets back what was not saved */

static void bitmap_settle(struct backup_job *b, bool success)
{
    if (!b->bitmap)
        return;
    if (b->bitmap_mode == JOB_BITMAP_NEVER || (b->bitmap_mode == JOB_BITMAP_ON_SUCCESS && !success))
        bitmap_merge(b->bitmap, b->taken);
    else if (b->bitmap_mode == JOB_BITMAP_ALWAYS && !success)
        bitmap_merge(b->bitmap, b->todo);
    b->bitmap->busy = false;
    b->bitmap = NULL;
}

static void backup_commit(struct job *job)
{
    bitmap_settle((struct backup_job *)job, true);
}

static void backup_abort(struct job *job)
{
    bitmap_settle((struct backup_job *)job, false);
}

static void backup_clean(struct job *job)
{
    struct backup_job *b = (struct backup_job *)job;

    graph_quiesce(job->graph);
    backup_measure(job);
    bitmap_settle(b, false);
    if (b->hooked)
        node_unhook(b->source, &b->hook);
    if (b->target_hooked)
        node_unhook(b->target, &b->target_hook);
    if (b->todo)
        bitmap_free(b->todo);
    if (b->taken)
        bitmap_free(b->taken);
    b->todo = b->taken = NULL;
    if (b->from)
        backend_free(b->from);
    if (b->to)
        backend_free(b->to);
    graph_resume(job->graph);
}

static const struct job_driver backup_driver = {
    .type = "backup",
    .size = sizeof(struct backup_job),
    .block = true,
    .run = backup_run,
    .commit = backup_commit,
    .abort = backup_abort,
    .clean = backup_clean,
    .measure = backup_measure,
};

/* ---- the start */

static bool backup_check(struct block_graph *g, const struct backup_options *o, struct error *err)
{
    if (o->source == o->target)
        return error_set(err, ERR_GENERIC, "Source and target cannot be the same", NULL);
    if (o->source->size != o->target->size)
        return error_setf(err, ERR_GENERIC, "make the target as large as the disk",
                          "Source and target image have different sizes: %" PRIu64 " and %" PRIu64, (uint64_t)o->source->size, (uint64_t)o->target->size);
    if (o->compress && !o->target->drv->pwrite_compressed)
        return error_setf(err, ERR_GENERIC, "qcow2 images can", "Compression is not supported for this drive %s", o->target->name);
    if (o->bitmap && o->sync == JOB_SYNC_NONE)
        return error_set(err, ERR_GENERIC, "sync mode 'none' does not produce meaningful bitmap outputs", NULL);
    if ((o->sync == JOB_SYNC_BITMAP || o->sync == JOB_SYNC_INCREMENTAL) && !o->bitmap)
        return error_set(err, ERR_GENERIC, "must provide a valid bitmap name for this sync mode", NULL);
    if (o->bitmap && !bitmap_usable(o->bitmap, true, err))
        return false;
    return !job_on_node(g, o->source, err) && !job_on_node(g, o->target, err);
}

/* What is to be copied, by the disk's state now. */
static bool backup_plan(struct backup_job *b, struct error *err)
{
    b->todo = bitmap_add(b->source, NULL, b->cluster, false, false, err);
    if (!b->todo)
        return false;
    if (b->bitmap) {
        b->taken = bitmap_add(b->source, NULL, 1ull << b->bitmap->granularity_bits, false, false, err);
        if (!b->taken) {
            b->bitmap = NULL;
            return false;
        }
        bitmap_merge(b->taken, b->bitmap);
        bitmap_clear(b->bitmap);
        b->bitmap->busy = true;
    }
    if (b->sync == JOB_SYNC_BITMAP || b->sync == JOB_SYNC_INCREMENTAL)
        bitmap_merge(b->todo, b->taken);
    else
        bitmap_set(b->todo, 0, b->source->size);
    b->bytes = bitmap_count(b->todo);
    return true;
}

static bool backup_hold(struct backup_job *b, struct error *err)
{
    struct block_graph *g = b->job.graph;

    b->from = backend_open_job(g, b->source, b->discard_source, b->discard_source, err);
    if (b->from)
        b->to = backend_open_job(g, b->target, true, true, err);
    if (!b->to || !backup_plan(b, err)) {
        b->bitmap = NULL;
        return false;
    }
    node_hook(b->source, &b->hook);
    b->hooked = true;
    if (node_reaches(b->target, b->source)) {
        node_hook(b->target, &b->target_hook);
        b->target_hooked = true;
    }
    return true;
}

struct job *job_backup(struct block_graph *g, const struct job_options *o, const struct backup_options *opts, struct error *err)
{
    uint64_t cluster = opts->target->drv->cluster_size ? opts->target->drv->cluster_size(opts->target) : 0;
    struct backup_job *b;
    bool ok;

    if (!backup_check(g, opts, err))
        return NULL;
    b = job_new(g, &backup_driver, o, err);
    if (!b)
        return NULL;
    b->source = opts->source;
    b->target = opts->target;
    b->sync = opts->sync;
    b->bitmap = opts->bitmap;
    b->bitmap_mode = opts->bitmap_mode;
    b->on_source_error = opts->on_source_error;
    b->on_target_error = opts->on_target_error;
    b->break_snapshot = opts->break_snapshot;
    b->discard_source = opts->discard_source;
    b->cluster = opts->compress && cluster ? cluster : MAX(cluster, BITMAP_DEFAULT_GRANULARITY);
    b->flags = (opts->compress ? COPY_COMPRESS : 0) | COPY_UNMAP |
               (opts->sync == JOB_SYNC_FULL && !node_reaches(b->target, b->source) ? COPY_SKIP_ZERO : 0);
    b->hook = (struct block_hook){ .write_begin = hook_write_begin };
    b->target_hook = (struct block_hook){ .read_begin = target_read_begin, .read_end = target_read_end };
    range_lock_init(&b->lock);
    copy_pool_init(&b->pool, &b->job, MIN(opts->workers ? opts->workers : WORKERS_DEFAULT, WORKERS_MAX));
    job_use_node(&b->job, b->source);
    job_use_node(&b->job, b->target);
    graph_quiesce(g);
    ok = backup_hold(b, err);
    graph_resume(g);
    if (!ok) {
        backup_clean(&b->job);
        job_discard(&b->job);
        return NULL;
    }
    if (!o->paused)
        job_start(&b->job);
    return &b->job;
}
