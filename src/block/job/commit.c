/* block-commit: what images of a chain hold is copied down into `base`, until those above it are not needed.
 *
 *   of images in the middle   base ← mid ← top ← active      base ← active
 *   of the active one         base ← mid ← active            base (active is unused)      see mirror.c
 */
#include <errno.h>
#include <string.h>
#include "block/job/mirror.h"

enum { COMMIT_WORKERS = 8 };

struct commit_job {
    struct job job;
    struct block_node *overlay, *top, *base;
    struct block_backend *from, *to;
    struct copy_pool pool;
    enum job_error_policy on_error;
    char *backing_file;
    bool base_was_read_only, overlay_was_read_only;
};

struct commit_piece { struct commit_job *c; uint64_t off, bytes; };

static void commit_worker(void *arg)
{
    struct commit_piece *p = arg;
    struct commit_job *c = p->c;
    bool read = true;
    int ret;

    backend_co_enter_both(c->from, c->to);
    ret = block_copy(c->top, c->base, p->off, p->bytes, COPY_UNMAP, &read);
    backend_co_exit(c->to);
    backend_co_exit(c->from);
    if (!ret)
        c->job.progress += p->bytes;
    copy_pool_done(&c->pool, ret, read);
    g_free(p);
}

static int commit_pass(struct commit_job *c, uint64_t *off, bool *read)
{
    struct job *job = &c->job;
    unsigned looked = 0;
    uint64_t n;
    int ret = 0, failed;

    while (*off < job->total && !job_cancelled(job) && ret >= 0 && !c->pool.ret) {
        job_pause_point(job);
        backend_co_enter(c->from);
        ret = chain_allocated(c->top, c->base, *off, MIN(job->total - *off, job_rate_chunk(job, COPY_CHUNK)), &n);
        backend_co_exit(c->from);
        if (ret > 0) {
            struct commit_piece *p = g_new(struct commit_piece, 1);

            *p = (struct commit_piece){ c, *off, n };
            copy_pool_start(&c->pool, commit_worker, p);
            job_rate(job, n);
        } else if (ret == 0) {
            job->progress += n;
            if (++looked % 256 == 0)
                job_sleep(job, 1);
        }
        if (ret >= 0)
            *off += n;
    }
    failed = copy_pool_wait(&c->pool, read);
    if (ret < 0)
        *read = true;
    return ret < 0 ? ret : failed;
}

/* The base is at least as long as what is put into it. */
static int commit_grow(struct commit_job *c, struct error *err)
{
    int ret = 0;

    backend_co_enter(c->to);
    if (c->base->size < c->top->size)
        ret = node_truncate(c->base, c->top->size, err);
    backend_co_exit(c->to);
    return ret;
}

static int commit_run(struct job *job, struct error *err)
{
    struct commit_job *c = (struct commit_job *)job;
    uint64_t off = 0;
    int ret = commit_grow(c, err);

    if (ret)
        return ret;
    while (off < job->total && !job_cancelled(job)) {
        bool read;

        ret = commit_pass(c, &off, &read);
        if (!ret)
            continue;
        if (job_error(job, c->on_error, read, ret) == JOB_FAIL)
            return ret;
        off = job->progress = 0;                /* nothing may be left out: once more */
    }
    return 0;
}

/* ---- the end */

struct commit_switch { struct commit_job *c; struct error *err; bool ok; };

static void commit_switch_run(void *arg)
{
    struct commit_switch *s = arg;
    struct commit_job *c = s->c;
    int ret = node_flush(c->base);              /* before the image above forgets where the data was */

    if (ret)
        s->ok = error_set_errno(s->err, -ret, NULL, "cannot write '%s'", c->base->filename);
    else
        s->ok = c->overlay->drv->change_backing(c->overlay, c->backing_file ? c->backing_file : c->base->filename, c->base->drv->name, s->err);
}

static bool commit_prepare(struct job *job, struct error *err)
{
    struct commit_job *c = (struct commit_job *)job;
    struct commit_switch s = { .c = c, .err = err };
    bool ok = true;

    graph_quiesce(job->graph);
    if (c->overlay->read_only) {
        ok = node_set_read_only(c->overlay, false, err);
        c->overlay_was_read_only = ok;
    }
    if (ok)
        block_run(job->graph, commit_switch_run, &s);
    ok = ok && s.ok && node_set_backing(c->overlay, c->base, err);
    graph_resume(job->graph);
    return ok;
}

static void commit_clean(struct job *job)
{
    struct commit_job *c = (struct commit_job *)job;

    graph_quiesce(job->graph);
    if (c->from)
        backend_free(c->from);
    if (c->to)
        backend_free(c->to);
    if (c->overlay_was_read_only)
        node_set_read_only(c->overlay, true, NULL);
    if (c->base_was_read_only)
        node_set_read_only(c->base, true, NULL);
    graph_resume(job->graph);
    g_free(c->backing_file);
}

static const struct job_driver commit_driver = {
    .type = "commit",
    .size = sizeof(struct commit_job),
    .block = true,
    .run = commit_run,
    .prepare = commit_prepare,
    .clean = commit_clean,
};

static const struct job_driver commit_active_driver = {
    .type = "commit",
    .size = sizeof(struct mirror_job),
    .block = true,
    .run = mirror_run,
    .complete = mirror_complete,
    .cancel_is_end = mirror_cancel_is_end,
    .prepare = mirror_prepare,
    .clean = mirror_clean,
    .measure = mirror_measure,
};

/* ---- the start */

static struct block_node *below(struct block_node *n)
{
    return n->drv->kind == DRIVER_FILTER ? n->file : n->backing;
}

static bool chain_idle(struct block_graph *g, struct block_node *top, const struct block_node *base, struct error *err)
{
    for (struct block_node *n = top; n; n = below(n)) {
        if (job_on_node(g, n, err))
            return false;
        if (n == base)
            break;
    }
    return true;
}

static void chain_use(struct job *j, struct block_node *top, const struct block_node *base)
{
    for (struct block_node *n = top; n; n = below(n)) {
        job_use_node(j, n);
        if (n == base)
            break;
    }
}

struct grow { struct block_node *n; uint64_t size; struct error *err; int ret; };

static void grow_run(void *arg)
{
    struct grow *w = arg;

    w->ret = node_truncate(w->n, w->size, w->err);
}

/* Made as long as the disk while it is quiet: its place is taken by it in the end. */
static bool base_grow(struct mirror_job *m, struct error *err)
{
    struct grow w = { m->target, m->source->size, err, 0 };

    if (m->target->size < m->source->size)
        block_run(m->job.graph, grow_run, &w);
    return !w.ret;
}

static struct job *commit_active(struct block_graph *g, const struct job_options *o, const struct commit_options *c, struct error *err)
{
    struct mirror_options opts = { .source = c->active, .target = c->base, .sync = JOB_SYNC_TOP, .on_source_error = c->on_error,
                                   .on_target_error = c->on_error };
    struct job_options created = *o;
    struct mirror_job *m;

    if (c->backing_file) {
        error_set(err, ERR_GENERIC, "'backing-file' specified, but 'top' is the active layer", "leave it out");
        return NULL;
    }
    m = mirror_new(g, &commit_active_driver, o, &opts, err);
    if (!m)
        return NULL;
    m->commit = true;
    m->base = c->base;
    chain_use(&m->job, below(c->active), NULL);
    created.paused = true;
    if (!mirror_begin(m, &created, err))
        return NULL;
    graph_quiesce(g);
    if (!base_grow(m, err)) {
        graph_resume(g);
        mirror_clean(&m->job);
        job_discard(&m->job);
        return NULL;
    }
    graph_resume(g);
    if (!o->paused)
        job_start(&m->job);
    return &m->job;
}

static bool commit_hold(struct commit_job *c, struct error *err)
{
    struct block_graph *g = c->job.graph;

    if (c->base->read_only) {
        if (!node_set_read_only(c->base, false, err))
            return false;
        c->base_was_read_only = true;
    }
    c->from = backend_open_job(g, c->top, false, false, err);
    if (c->from)
        c->to = backend_open_job(g, c->base, true, false, err);
    return c->to != NULL;
}

static struct job *commit_middle(struct block_graph *g, const struct job_options *o, const struct commit_options *opts, struct error *err)
{
    struct block_node *overlay = chain_overlay(opts->active, opts->top);
    struct commit_job *c;
    bool ok;

    while (overlay && overlay->drv->kind == DRIVER_FILTER)
        overlay = chain_overlay(opts->active, overlay);
    if (!overlay || !overlay->drv->change_backing || overlay->backing != opts->top) {
        error_setf(err, ERR_GENERIC, "qcow2 images can", "the image above '%s' cannot be given another backing file", opts->top->name);
        return NULL;
    }
    c = job_new(g, &commit_driver, o, err);
    if (!c)
        return NULL;
    c->overlay = overlay;
    c->top = opts->top;
    c->base = opts->base;
    c->on_error = opts->on_error;
    c->backing_file = g_strdup(opts->backing_file);
    c->job.total = MAX(c->top->size, c->base->size);    /* what of base lies beyond top is hidden by it: zeroes */
    copy_pool_init(&c->pool, &c->job, COMMIT_WORKERS);
    chain_use(&c->job, overlay, c->base);
    graph_quiesce(g);
    ok = commit_hold(c, err);
    graph_resume(g);
    if (!ok) {
        commit_clean(&c->job);
        job_discard(&c->job);
        return NULL;
    }
    if (!o->paused)
        job_start(&c->job);
    return &c->job;
}

struct job *job_commit(struct block_graph *g, const struct job_options *o, const struct commit_options *c, struct error *err)
{
    if (graph_busy(g, err))
        return NULL;
    if (c->top == c->base || !chain_contains(c->active, c->top) || !chain_contains(c->top, c->base)) {
        error_setf(err, ERR_GENERIC, "query-named-block-nodes shows the chain", "Node '%s' is not a backing image of '%s'", c->base->name,
                   c->top->name);
        return NULL;
    }
    if (!chain_idle(g, c->top == c->active ? c->active : chain_overlay(c->active, c->top), c->base, err))
        return NULL;
    return c->top == c->active ? commit_active(g, o, c, err) : commit_middle(g, o, c, err);
}

/* ---- HMP's commit: at once */

struct commit_now { struct block_node *n; struct error *err; int ret; };

static void commit_now_run(void *arg)
{
    struct commit_now *c = arg;
    struct block_node *n = c->n, *base = n->backing;
    uint64_t len;
    bool read;

    if (base->size < n->size)
        c->ret = node_truncate(base, n->size, c->err);
    for (uint64_t off = 0; off < n->size && !c->ret; off += len) {
        int status = chain_allocated(n, base, off, MIN(n->size - off, COPY_CHUNK), &len);

        c->ret = status > 0 ? block_copy(n, base, off, len, COPY_UNMAP, &read) : status;
    }
    if (!c->ret)
        c->ret = node_flush(base);              /* nothing is given up before it is safe there */
    if (!c->ret && n->drv->make_empty && !n->read_only)
        c->ret = n->drv->make_empty(n);
    if (!c->ret)
        c->ret = node_flush(n);
}

bool block_commit_now(struct block_graph *g, struct block_node *n, struct error *err)
{
    struct commit_now c = { n, err, 0 };
    struct block_node *base = n ? n->backing : NULL;
    bool was_read_only;

    if (!base)
        return error_set(err, ERR_GENERIC, "the disk has no backing image", "commit goes into one");
    if (graph_busy(g, err) || job_on_node(g, n, err) || job_on_node(g, base, err))
        return false;
    graph_quiesce(g);
    was_read_only = base->read_only;
    if (node_set_read_only(base, false, err)) {
        block_run(g, commit_now_run, &c);
        if (was_read_only)
            node_set_read_only(base, true, NULL);
    } else {
        c.ret = -EPERM;
    }
    graph_resume(g);
    if (c.ret && !error_is_set(err))
        error_set_errno(err, -c.ret, "nothing is lost: the image holds what it did", "cannot commit '%s'", n->filename);
    return !c.ret;
}
