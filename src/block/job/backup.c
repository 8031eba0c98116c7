/* blockdev-backup: a copy of the disk as it is when the job starts. What the guest overwrites is copied first (fleece.h).
 *
 *   source A (in use) ──before a write──> target B        B may have A as its backing image, with sync=none: what B shows is A as
 *        └──────────the job, piece by piece──┘            it was, and B grows by what is written to A */
#include <errno.h>
#include <string.h>
#include "block/job/fleece.h"

enum { WORKERS_DEFAULT = 16, WORKERS_MAX = 64 };

struct backup_job {
    struct job job;
    struct block_hook hook;
    struct fleece f;
    struct block_backend *from, *to;
    struct dirty_bitmap *bitmap, *taken;        /* the user's, and what it held at the start */
    struct copy_pool pool;
    enum job_sync sync;
    enum job_bitmap_mode bitmap_mode;
    enum job_error_policy on_source_error, on_target_error;
    uint64_t bytes;             /* to be copied in all */
    bool hooked, break_snapshot, discard_source;
    atomic_int broken;          /* an error of a copy before a guest's write: the backup is not whole */
};

static struct backup_job *of_hook(struct block_hook *h)
{
    return (struct backup_job *)((char *)h - offsetof(struct backup_job, hook));
}

/* ---- copying */

static int hook_write_begin(struct block_hook *h, const struct block_write *w)
{
    struct backup_job *b = of_hook(h);
    int ret;

    if (atomic_load(&b->broken))
        return 0;
    ret = fleece_before_write(&b->f, w->off, w->bytes);
    if (!ret || !b->break_snapshot)
        return ret;
    atomic_store(&b->broken, ret);
    return 0;
}

struct backup_piece { struct backup_job *b; uint64_t off, bytes; };

static void backup_worker(void *arg)
{
    struct backup_piece *p = arg;
    struct backup_job *b = p->b;
    bool read = true;
    int ret;

    backend_co_enter_both(b->from, b->to);
    ret = fleece_copy(&b->f, p->off, p->bytes, &read);
    if (!ret && b->discard_source)
        ret = node_discard(b->f.source, p->off, p->bytes);
    backend_co_exit(b->to);
    backend_co_exit(b->from);
    copy_pool_done(&b->pool, ret, read);
    g_free(p);
}

/* sync=top: what only backing images hold is left out. */
static int backup_scan(struct backup_job *b)
{
    struct block_node *top = node_skip_filters(b->f.source);
    uint64_t n, looked = 0;

    for (uint64_t off = 0; off < b->f.source->size && !job_cancelled(&b->job); off += n) {
        int ret;

        backend_co_enter(b->from);
        ret = chain_allocated(top, top->backing, off, MIN(b->f.source->size - off, 1ull << 30), &n);
        backend_co_exit(b->from);
        if (ret < 0)
            return ret;
        if (!ret)               /* whole clusters: one that is in part its own is copied */
            bitmap_reset(b->f.todo, off, n);
        if (++looked % 256 == 0)
            job_sleep(&b->job, 1);
        job_pause_point(&b->job);
    }
    b->bytes = bitmap_count(b->f.todo);
    return 0;
}

static int backup_pass(struct backup_job *b, bool *read)
{
    struct job *job = &b->job;
    uint64_t off = 0, bytes;

    while (!job_cancelled(job) && !b->pool.ret && !atomic_load(&b->broken) && bitmap_next(b->f.todo, &off, &bytes)) {
        struct backup_piece *p = g_new(struct backup_piece, 1);

        bytes = MIN(bytes, MAX(job_rate_chunk(job, COPY_CHUNK), b->f.cluster));
        if (off + bytes < b->f.source->size)
            bytes -= bytes % b->f.cluster;
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

    while (!job_cancelled(job) && !atomic_load(&b->broken) && bitmap_next(b->f.todo, &off, &n)) {
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
        ret = node_flush(b->f.target);
        backend_co_exit(b->to);
    }
    return ret;
}

static void backup_measure(struct job *job)
{
    struct backup_job *b = (struct backup_job *)job;

    if (!b->f.todo)
        return;
    job->total = MIN(b->bytes, b->f.source->size);
    job->progress = job->total - MIN(bitmap_count(b->f.todo), job->total);
}

/* ---- the end: the bitmap of an incremental backup has what is new since the start, and gets back what was not saved */

static void bitmap_settle(struct backup_job *b, bool success)
{
    if (!b->bitmap)
        return;
    if (b->bitmap_mode == JOB_BITMAP_NEVER || (b->bitmap_mode == JOB_BITMAP_ON_SUCCESS && !success))
        bitmap_merge(b->bitmap, b->taken);
    else if (b->bitmap_mode == JOB_BITMAP_ALWAYS && !success)
        bitmap_merge(b->bitmap, b->f.todo);
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
        node_unhook(b->f.source, &b->hook);
    fleece_close(&b->f);
    bitmap_free(b->taken);
    b->taken = NULL;
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
    if (b->bitmap) {
        b->taken = bitmap_new(b->f.source->size, 1ull << b->bitmap->granularity_bits, err);
        if (!b->taken) {
            b->bitmap = NULL;
            return false;
        }
        bitmap_merge(b->taken, b->bitmap);
        bitmap_clear(b->bitmap);
        b->bitmap->busy = true;
    }
    if (b->sync == JOB_SYNC_BITMAP || b->sync == JOB_SYNC_INCREMENTAL)
        bitmap_merge(b->f.todo, b->taken);
    else
        bitmap_set(b->f.todo, 0, b->f.source->size);
    b->bytes = bitmap_count(b->f.todo);
    return true;
}

static bool backup_hold(struct backup_job *b, const struct backup_options *o, struct error *err)
{
    struct block_graph *g = b->job.graph;
    uint64_t own = o->target->drv->cluster_size ? o->target->drv->cluster_size(o->target) : 0;
    uint64_t cluster = o->compress && own ? own : MAX(fleece_cluster(o->target), o->min_cluster);
    unsigned flags = (o->compress ? COPY_COMPRESS : 0) | COPY_UNMAP |
                     (o->sync == JOB_SYNC_FULL && !node_reaches(o->target, o->source) ? COPY_SKIP_ZERO : 0);

    b->from = backend_open_job(g, o->source, b->discard_source, b->discard_source, err);
    if (b->from)
        b->to = backend_open_job(g, o->target, true, true, err);
    if (!b->to || !fleece_open(&b->f, o->source, o->target, cluster, flags, err) || !backup_plan(b, err)) {
        b->bitmap = NULL;
        return false;
    }
    node_hook(b->f.source, &b->hook);
    b->hooked = true;
    return true;
}

struct job *job_backup(struct block_graph *g, const struct job_options *o, const struct backup_options *opts, struct error *err)
{
    struct backup_job *b;
    bool ok;

    if (!backup_check(g, opts, err))
        return NULL;
    b = job_new(g, &backup_driver, o, err);
    if (!b)
        return NULL;
    b->sync = opts->sync;
    b->bitmap = opts->bitmap;
    b->bitmap_mode = opts->bitmap_mode;
    b->on_source_error = opts->on_source_error;
    b->on_target_error = opts->on_target_error;
    b->break_snapshot = opts->break_snapshot;
    b->discard_source = opts->discard_source;
    b->hook = (struct block_hook){ .write_begin = hook_write_begin };
    copy_pool_init(&b->pool, &b->job, MIN(opts->workers ? opts->workers : WORKERS_DEFAULT, WORKERS_MAX));
    job_use_node(&b->job, opts->source);
    job_use_node(&b->job, opts->target);
    graph_quiesce(g);
    ok = backup_hold(b, opts, err);
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
