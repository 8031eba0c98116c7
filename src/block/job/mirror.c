/* blockdev-mirror: a copy that follows the disk, until it takes the disk's place or is left behind as it is then. The commit of an
 * active image is a mirror into one of its own backing images.
 *
 *   before   disk: A          after completion   disk: B, A unused
 *
 * A dirty bitmap on the source says what the target lacks: a guest's write sets it when it ends, a copy clears it before it reads.
 * With copy-mode=write-blocking the guest's writes go to both sides, and the bitmap only ever shrinks. The last of it is copied
 * while no request is in flight. */
#include "block/job/mirror.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WORKERS = 16, REST_MAX = 16 << 20, READY_REST = 4 << 20, READY_PASSES = 4 };

/* ---- the guest's writes, with write-blocking */

static struct mirror_job *of_hook(struct block_hook *h)
{
    return (struct mirror_job *)((char *)h - offsetof(struct mirror_job, hook));
}

static int hook_write_begin(struct block_hook *h, const struct block_write *w)
{
    range_lock(&of_hook(h)->lock, w->off, w->bytes, true);
    return 0;
}

static int write_target(struct mirror_job *m, const struct block_write *w)
{
    switch (w->kind) {
    case WRITE_DATA: return node_pwritev(m->target, w->off, w->bytes, w->iov, w->niov, w->flags);
    case WRITE_ZEROES: return node_write_zeroes(m->target, w->off, w->bytes, w->flags);
    default: return -ENOTSUP;   /* what a discard leaves is for the source to say: copied later */
    }
}

static int hook_write_end(struct block_hook *h, const struct block_write *w, int ret)
{
    struct mirror_job *m = of_hook(h);
    int done = ret ? ret : write_target(m, w);

    if (done)
        bitmap_set(m->dirty, w->off, w->bytes);
    if (done && !ret && done != -ENOTSUP)
        atomic_store(&m->write_error, done);
    range_unlock(&m->lock, w->off, w->bytes, true);
    return ret;                 /* the copy is the job's affair, not the guest's */
}

/* ---- copying */

struct mirror_piece { struct mirror_job *m; uint64_t off, bytes; };

static void mirror_worker(void *arg)
{
    struct mirror_piece *p = arg;
    struct mirror_job *m = p->m;
    bool read = true;
    int ret;

    backend_co_enter_both(m->from, m->to);
    if (m->write_blocking)
        range_lock(&m->lock, p->off, p->bytes, false);
    ret = block_copy(m->source, m->target, p->off, p->bytes, m->flags, &read);
    if (ret)
        bitmap_set(m->dirty, p->off, p->bytes);
    if (m->write_blocking)
        range_unlock(&m->lock, p->off, p->bytes, false);
    backend_co_exit(m->to);
    backend_co_exit(m->from);
    m->in_flight -= p->bytes;
    if (!ret)
        m->job.progress += p->bytes;
    copy_pool_done(&m->pool, ret, read);
    g_free(p);
}

static void piece_start(struct mirror_job *m, uint64_t off, uint64_t bytes)
{
    struct mirror_piece *p = g_new(struct mirror_piece, 1);

    *p = (struct mirror_piece){ m, off, bytes };
    bitmap_reset(m->dirty, off, bytes);         /* before it is read: what is written meanwhile sets it again */
    m->in_flight += bytes;
    copy_pool_start(&m->pool, mirror_worker, p);
}

/* Once over the disk. 0 when all that was dirty has been copied (other parts may be dirty by now), or an error. */
static int mirror_pass(struct mirror_job *m, bool *read)
{
    struct job *job = &m->job;
    uint64_t off = 0, bytes;

    while (!job_cancelled(job) && !m->pool.ret && bitmap_next(m->dirty, &off, &bytes)) {
        bytes = MIN(bytes, MAX(job_rate_chunk(job, MIN(COPY_CHUNK, m->buf_size)), m->granularity));
        if (off + bytes < m->source->size)
            bytes -= (off + bytes) % m->granularity;
        while (m->in_flight && m->in_flight + bytes > m->buf_size)
            job_wait(job);
        piece_start(m, off, bytes);
        off += bytes;
        job_rate(job, bytes);
        job_pause_point(job);
    }
    return copy_pool_wait(&m->pool, read);
}

/* Whether the target lacks what is at off, of which *n bytes are alike; or an error. */
static int target_lacks(struct mirror_job *m, uint64_t off, uint64_t bytes, uint64_t *n)
{
    struct block_node *file;
    uint64_t map;
    int depth, ret;

    if (m->sync == JOB_SYNC_TOP)
        return chain_allocated(m->source, m->base, off, bytes, n);
    ret = node_status_above(m->source, off, bytes, n, &map, &file, &depth, true);
    return ret < 0 ? ret : !(ret & STATUS_ZERO);
}

/* sync=top: what the images above base hold; full: all, or all but zeroes; none: what is written from now on. */
static int mirror_scan(struct mirror_job *m)
{
    bool look = m->sync == JOB_SYNC_TOP || (m->sync == JOB_SYNC_FULL && m->target_is_zero);
    uint64_t n, looked = 0;

    if (m->sync == JOB_SYNC_FULL && !look)
        bitmap_set(m->dirty, 0, m->source->size);
    for (uint64_t off = 0; look && off < m->source->size && !job_cancelled(&m->job); off += n) {
        int ret;

        backend_co_enter(m->from);
        ret = target_lacks(m, off, MIN(m->source->size - off, 1ull << 30), &n);
        backend_co_exit(m->from);
        if (ret < 0)
            return ret;
        if (ret)
            bitmap_set(m->dirty, off, n);
        if (++looked % 256 == 0)
            job_sleep(&m->job, 1);
        job_pause_point(&m->job);
    }
    return 0;
}

static int flush_target(struct mirror_job *m)
{
    int ret;

    backend_co_enter(m->to);
    ret = node_flush(m->target);
    backend_co_exit(m->to);
    return ret;
}

static bool mirror_failed(struct mirror_job *m, bool read, int ret)
{
    return job_error(&m->job, read ? m->on_source_error : m->on_target_error, read, ret) == JOB_FAIL;
}

static bool mirror_ready(const struct mirror_job *m)
{
    return m->job.status == JOB_READY || m->job.status == JOB_STANDBY;
}

int mirror_run(struct job *job, struct error *err)
{
    struct mirror_job *m = (struct mirror_job *)job;
    unsigned passes = 0;
    int ret = mirror_scan(m);

    if (ret)
        return ret;
    while (!job_cancelled(job)) {
        bool read = true;
        uint64_t rest;

        job_pause_point(job);
        ret = mirror_pass(m, &read);
        if (!ret) {
            ret = atomic_exchange(&m->write_error, 0);
            read = false;
        }
        rest = bitmap_count(m->dirty);
        if (!ret && !mirror_ready(m) && (!rest || (++passes > READY_PASSES && rest <= READY_REST))) {
            ret = flush_target(m);
            if (!ret && !job_cancelled(job))
                job_ready(job);
        }
        if (ret && mirror_failed(m, read, ret))
            return ret;
        if (ret)
            continue;
        /* what is left is copied at the end, while the guest waits: not much */
        if (mirror_ready(m) && (m->complete || job->cancelled) && (rest <= REST_MAX || passes++ > 100))
            break;
        if (!rest)
            job_sleep(job, 100000000);
    }
    return 0;
}

bool mirror_complete(struct job *job, struct error *err)
{
    ((struct mirror_job *)job)->complete = true;
    return true;
}

bool mirror_cancel_is_end(struct job *job)
{
    return mirror_ready((struct mirror_job *)job);
}

/* ---- the end */

struct mirror_rest { struct mirror_job *m; struct error *err; int ret; bool read; };

static void rest_run(void *arg)
{
    struct mirror_rest *r = arg;
    struct mirror_job *m = r->m;
    uint64_t off = 0, bytes;

    while (!r->ret && bitmap_next(m->dirty, &off, &bytes)) {
        bytes = MIN(bytes, COPY_CHUNK);
        r->ret = block_copy(m->source, m->target, off, bytes, m->flags, &r->read);
        off += bytes;
    }
    r->read = r->ret && r->read;
    /* what of a larger base lies beyond the disk was hidden by it, and is no part of the disk now */
    if (!r->ret && m->commit && m->complete && !m->job.cancelled && m->target->size > m->source->size)
        r->ret = node_truncate(m->target, m->source->size, r->err);
    if (!r->ret)
        r->ret = node_flush(m->target);
}

/* Gives back what the job holds. Quiet. */
static void mirror_let_go(struct mirror_job *m)
{
    if (m->hooked)
        node_unhook(m->source, &m->hook);
    m->hooked = false;
    if (m->dirty)
        bitmap_free(m->dirty);
    m->dirty = NULL;
    if (m->from)
        backend_free(m->from);
    if (m->to)
        backend_free(m->to);
    m->from = m->to = NULL;
}

static bool mirror_pivot(struct mirror_job *m, struct error *err)
{
    if (!graph_replace(m->job.graph, m->replaces, m->target, err))
        return false;
    m->pivoted = true;
    return true;
}

bool mirror_prepare(struct job *job, struct error *err)
{
    struct mirror_job *m = (struct mirror_job *)job;
    struct mirror_rest r = { .m = m, .err = err };
    bool ok = true;

    graph_quiesce(job->graph);
    block_run(job->graph, rest_run, &r);
    if (r.ret)
        ok = error_is_set(err) ? false : error_set_errno(err, -r.ret, NULL, "cannot %s '%s'", r.read ? "read" : "write", r.read ? m->source->filename : m->target->filename);
    mirror_measure(job);
    job->progress = job->total;
    if (ok) {
        mirror_let_go(m);
        ok = !m->complete || job->cancelled || mirror_pivot(m, err);
    }
    graph_resume(job->graph);
    return ok;
}

void mirror_clean(struct job *job)
{
    struct mirror_job *m = (struct mirror_job *)job;

    graph_quiesce(job->graph);
    mirror_measure(job);
    mirror_let_go(m);
    if (m->target_was_read_only && !m->pivoted)
        node_set_read_only(m->target, true, NULL);
    graph_resume(job->graph);
}

void mirror_measure(struct job *job)
{
    struct mirror_job *m = (struct mirror_job *)job;

    if (m->dirty)
        job->total = job->progress + m->in_flight + bitmap_count(m->dirty);
}

void mirror_query(struct job *job, struct json_object *o)
{
    struct mirror_job *m = (struct mirror_job *)job;

    if (!m->commit)
        json_object_object_add(o, "actively-synced", json_object_new_boolean(m->write_blocking && mirror_ready(m) && m->dirty &&
                                                                             !m->in_flight && !bitmap_count(m->dirty)));
}

static const struct job_driver mirror_driver = {
    .type = "mirror",
    .size = sizeof(struct mirror_job),
    .block = true,
    .run = mirror_run,
    .complete = mirror_complete,
    .cancel_is_end = mirror_cancel_is_end,
    .prepare = mirror_prepare,
    .clean = mirror_clean,
    .query = mirror_query,
    .measure = mirror_measure,
};

/* ---- the start */

/* Whole clusters of the target are copied: none is filled up from what it does not show yet. */
static uint64_t target_cluster(struct block_node *target)
{
    uint64_t cluster = target->drv->cluster_size ? target->drv->cluster_size(target) : 0;

    return MAX(cluster, BITMAP_DEFAULT_GRANULARITY);
}

struct mirror_job *mirror_new(struct block_graph *g, const struct job_driver *drv, const struct job_options *o, const struct mirror_options *opts,
                              struct error *err)
{
    struct mirror_job *m;

    if (graph_busy(g, err) || job_on_node(g, opts->source, err) || job_on_node(g, opts->target, err))
        return NULL;
    m = job_new(g, drv, o, err);
    if (!m)
        return NULL;
    m->source = opts->source;
    m->target = opts->target;
    m->replaces = opts->replaces ? opts->replaces : opts->source;
    m->base = opts->sync == JOB_SYNC_TOP ? node_skip_filters(opts->source)->backing : NULL;
    m->sync = opts->sync;
    m->write_blocking = opts->write_blocking;
    m->target_is_zero = opts->target_is_zero;
    m->buf_size = opts->buf_size ? opts->buf_size : WORKERS * COPY_CHUNK;
    m->flags = (opts->no_unmap ? 0 : COPY_UNMAP) | (m->sync == JOB_SYNC_FULL && !node_reaches(m->target, m->source) ? COPY_SKIP_ZERO : 0);
    m->granularity = opts->granularity ? opts->granularity : target_cluster(opts->target);
    m->on_source_error = opts->on_source_error;
    m->on_target_error = opts->on_target_error;
    m->hook = (struct block_hook){ .write_begin = hook_write_begin, .write_end = hook_write_end };
    range_lock_init(&m->lock);
    copy_pool_init(&m->pool, &m->job, WORKERS);
    job_use_node(&m->job, m->source);
    job_use_node(&m->job, m->target);
    if (m->replaces != m->source)
        job_use_node(&m->job, m->replaces);
    return m;
}

static bool mirror_hold(struct mirror_job *m, struct error *err)
{
    struct block_graph *g = m->job.graph;

    if (m->commit && m->target->read_only) {
        if (!node_set_read_only(m->target, false, err))
            return false;
        m->target_was_read_only = true;
    }
    m->from = backend_open_job(g, m->source, false, false, err);
    if (m->from)
        m->to = backend_open_job(g, m->target, true, !m->commit, err);
    if (m->to)
        m->dirty = bitmap_add(m->source, NULL, m->granularity, false, !m->write_blocking, err);
    if (!m->dirty)
        return false;
    m->granularity = 1ull << m->dirty->granularity_bits;
    if (m->write_blocking)
        node_hook(m->source, &m->hook);
    m->hooked = m->write_blocking;
    return true;
}

bool mirror_begin(struct mirror_job *m, const struct job_options *o, struct error *err)
{
    bool ok;

    graph_quiesce(m->job.graph);
    ok = mirror_hold(m, err);
    graph_resume(m->job.graph);
    if (!ok) {
        mirror_clean(&m->job);
        job_discard(&m->job);
        return false;
    }
    if (!o->paused)
        job_start(&m->job);
    return true;
}

struct job *job_mirror(struct block_graph *g, const struct job_options *o, const struct mirror_options *opts, struct error *err)
{
    struct mirror_job *m;

    if (opts->source == opts->target) {
        error_set(err, ERR_GENERIC, "Can't mirror node into itself", NULL);
        return NULL;
    }
    if (opts->source->size != opts->target->size) {
        error_setf(err, ERR_GENERIC, "make the target as large as the disk", "Source and target image have different sizes: %" PRIu64 " and %" PRIu64,
                   (uint64_t)opts->source->size, (uint64_t)opts->target->size);
        return NULL;
    }
    if (opts->replaces && opts->replaces != opts->source && opts->replaces->size != opts->source->size) {
        error_set(err, ERR_GENERIC, "cannot replace image with a mirror image of different size", NULL);
        return NULL;
    }
    m = mirror_new(g, &mirror_driver, o, opts, err);
    return m && mirror_begin(m, o, err) ? &m->job : NULL;
}

bool job_mirror_block_writes(struct job *j, struct error *err)
{
    struct mirror_job *m = (struct mirror_job *)j;

    if (j->drv != &mirror_driver)
        return error_setf(err, ERR_GENERIC, "only a mirror has options that change", "Job '%s' is of type %s", j->id, j->drv->type);
    if (m->write_blocking)
        return true;
    graph_quiesce(j->graph);            /* no write is under way that only one of hook and bitmap would see */
    if (m->dirty && !m->pivoted) {
        m->write_blocking = m->hooked = true;
        m->dirty->enabled = false;
        node_hook(m->source, &m->hook);
    }
    graph_resume(j->graph);
    return m->hooked || error_setf(err, ERR_GENERIC, NULL, "Job '%s' has ended", j->id);
}
