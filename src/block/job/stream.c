/* block-stream: what shows through from backing images is copied up, until those above `base` are not needed any more.
 *
 *   before   base ← mid ← top          after   base ← top
 */
#include <errno.h>
#include <string.h>
#include "block/job/job.h"

enum { STREAM_WORKERS = 8 };

struct stream_job {
    struct job job;
    struct block_hook hook;
    struct block_backend *backend;
    struct block_node *top, *base;      /* base: what backs top in the end, or NULL */
    struct range_lock lock;     /* guest's writes share, copies are alone: a copy must not undo a write */
    struct copy_pool pool;
    enum job_error_policy on_error;
    char *backing_file;
    bool was_read_only, hooked;
};

static struct stream_job *of_hook(struct block_hook *h)
{
    return (struct stream_job *)((char *)h - offsetof(struct stream_job, hook));
}

static int stream_write_begin(struct block_hook *h, const struct block_write *w)
{
    range_lock(&of_hook(h)->lock, w->off, w->bytes, true);
    return 0;
}

static int stream_write_end(struct block_hook *h, const struct block_write *w, int ret)
{
    range_unlock(&of_hook(h)->lock, w->off, w->bytes, true);
    return ret;
}

/* ---- copying */

struct stream_piece { struct stream_job *s; uint64_t off, bytes; };

/* What of the range top does not have, and an image above base does. */
static int stream_copy(struct stream_job *s, uint64_t off, uint64_t bytes, bool *read)
{
    uint64_t len;
    int ret = 0;

    for (uint64_t end = off + bytes; off < end && !ret; off += len) {
        ret = chain_allocated(s->top, s->top->backing, off, end - off, &len);
        *read = true;
        if (ret == 0)
            ret = chain_allocated(s->top->backing, s->base, off, len, &len) == 1 ? block_copy(s->top, s->top, off, len, COPY_UNCHANGED, read) : 0;
        else if (ret > 0)
            ret = 0;
    }
    return ret;
}

static void stream_worker(void *arg)
{
    struct stream_piece *p = arg;
    struct stream_job *s = p->s;
    bool read = true;
    int ret;

    backend_co_enter(s->backend);
    range_lock(&s->lock, p->off, p->bytes, false);
    ret = stream_copy(s, p->off, p->bytes, &read);
    range_unlock(&s->lock, p->off, p->bytes, false);
    backend_co_exit(s->backend);
    if (!ret)
        s->job.progress += p->bytes;
    copy_pool_done(&s->pool, ret, read);
    g_free(p);
}

/* Whether there is anything to do for the first *n bytes. */
static int stream_needed(struct stream_job *s, uint64_t off, uint64_t bytes, uint64_t *n)
{
    int ret;

    backend_co_enter(s->backend);
    ret = chain_allocated(s->top, s->top->backing, off, bytes, n);
    if (ret == 0)
        ret = chain_allocated(s->top->backing, s->base, off, *n, n);
    else if (ret > 0)
        ret = 0;
    backend_co_exit(s->backend);
    return ret;
}

/* From *off on, to the end or to an error. */
static int stream_pass(struct stream_job *s, uint64_t *off, bool *read)
{
    struct job *job = &s->job;
    unsigned looked = 0;
    uint64_t n;
    int ret = 0;

    while (*off < job->total && !job_cancelled(job) && ret >= 0 && !s->pool.ret) {
        job_pause_point(job);
        ret = stream_needed(s, *off, MIN(job->total - *off, job_rate_chunk(job, COPY_CHUNK)), &n);
        if (ret > 0) {
            struct stream_piece *p = g_new(struct stream_piece, 1);

            *p = (struct stream_piece){ s, *off, n };
            copy_pool_start(&s->pool, stream_worker, p);
            job_rate(job, n);
        } else if (ret == 0) {
            job->progress += n;
            if (++looked % 256 == 0)            /* looking alone never waits: let others run */
                job_sleep(job, 1);
        }
        if (ret >= 0)
            *off += n;
    }
    *read = true;
    if (ret < 0) {
        copy_pool_wait(&s->pool, read);
        *read = true;
        return ret;
    }
    return copy_pool_wait(&s->pool, read);
}

static int stream_run(struct job *job, struct error *err)
{
    struct stream_job *s = (struct stream_job *)job;
    uint64_t off = 0;
    int failed = 0;

    while (off < job->total && !job_cancelled(job)) {
        bool read;
        int ret = stream_pass(s, &off, &read);

        if (!ret)
            continue;
        switch (job_error(job, s->on_error, read, ret)) {
        case JOB_FAIL:
            return ret;
        case JOB_RETRY:
            off = job->progress = 0;            /* what is done is passed quickly */
            break;
        case JOB_SKIP:
            failed = ret;                       /* the rest is copied, the backing image stays */
            off += MIN(COPY_CHUNK, job->total - off);
            break;
        }
    }
    return failed;
}

/* ---- the end */

struct stream_switch { struct stream_job *s; struct error *err; bool ok; };

static void stream_switch_run(void *arg)
{
    struct stream_switch *c = arg;
    struct stream_job *s = c->s;
    const char *name = s->base ? (s->backing_file ? s->backing_file : s->base->filename) : NULL;
    int ret = node_flush(s->top);               /* the data is safe before the header stops naming where it was */

    if (ret)
        c->ok = error_set_errno(c->err, -ret, NULL, "cannot write '%s'", s->top->filename);
    else
        c->ok = !s->top->drv->change_backing || s->top->drv->change_backing(s->top, name, s->base ? s->base->drv->name : NULL, c->err);
}

static bool stream_prepare(struct job *job, struct error *err)
{
    struct stream_job *s = (struct stream_job *)job;
    struct stream_switch c = { .s = s, .err = err };
    bool ok;

    graph_quiesce(job->graph);
    block_run(job->graph, stream_switch_run, &c);
    ok = c.ok && node_set_backing(s->top, s->base, err);
    graph_resume(job->graph);
    return ok;
}

static void stream_clean(struct job *job)
{
    struct stream_job *s = (struct stream_job *)job;

    graph_quiesce(job->graph);
    if (s->hooked)
        node_unhook(s->top, &s->hook);
    if (s->backend)
        backend_free(s->backend);
    if (s->was_read_only)
        node_set_read_only(s->top, true, NULL);
    graph_resume(job->graph);
    g_free(s->backing_file);
}

static const struct job_driver stream_driver = {
    .type = "stream",
    .size = sizeof(struct stream_job),
    .block = true,
    .run = stream_run,
    .prepare = stream_prepare,
    .clean = stream_clean,
};

/* ---- the start */

static bool stream_check(const struct stream_options *o, struct error *err)
{
    const char *name = o->base ? o->base->name : o->bottom ? o->bottom->name : NULL;

    if (!o->top->drv->change_backing)
        return error_setf(err, ERR_GENERIC, "qcow2 images can", "Node '%s' (format '%s') has no backing file to be merged", o->top->name,
                          o->top->drv->name);
    if ((o->base && (o->base == o->top || !chain_contains(o->top, o->base))) || (o->bottom && !chain_contains(o->top, o->bottom)))
        return error_setf(err, ERR_GENERIC, "query-named-block-nodes shows the chain", "Node '%s' is not a backing image of '%s'", name,
                          o->top->name);
    if (o->backing_file && !o->base && !o->bottom)
        return error_set(err, ERR_GENERIC, "backing file specified, but streaming the entire chain", "leave backing-file out, or give a base");
    return true;
}

/* The node, and those of the chain that go. */
static bool stream_take(struct stream_job *s, struct error *err)
{
    struct block_graph *g = s->job.graph;

    for (struct block_node *n = s->top; n && n != s->base; n = n->drv->kind == DRIVER_FILTER ? n->file : n->backing) {
        if (job_on_node(g, n, err))
            return false;
    }
    for (struct block_node *n = s->top; n && n != s->base; n = n->drv->kind == DRIVER_FILTER ? n->file : n->backing)
        job_use_node(&s->job, n);
    if (s->base)
        job_use_node(&s->job, s->base);
    return true;
}

struct job *job_stream(struct block_graph *g, const struct job_options *o, const struct stream_options *opts, struct error *err)
{
    struct stream_job *s;
    bool ok;

    if (graph_busy(g, err) || !stream_check(opts, err))
        return NULL;
    s = job_new(g, &stream_driver, o, err);
    if (!s)
        return NULL;
    s->top = opts->top;
    s->base = opts->bottom ? (opts->bottom->drv->kind == DRIVER_FILTER ? opts->bottom->file : opts->bottom->backing) : opts->base;
    s->on_error = opts->on_error;
    s->backing_file = g_strdup(opts->backing_file);
    s->job.total = s->top->size;
    s->hook = (struct block_hook){ .write_begin = stream_write_begin, .write_end = stream_write_end };
    range_lock_init(&s->lock);
    copy_pool_init(&s->pool, &s->job, STREAM_WORKERS);
    ok = stream_take(s, err);
    graph_quiesce(g);
    if (ok && s->top->read_only) {
        ok = node_set_read_only(s->top, false, err);
        s->was_read_only = ok;
    }
    if (ok) {
        s->backend = backend_open_job(g, s->top, true, false, err);
        ok = s->backend != NULL;
    }
    if (ok) {
        node_hook(s->top, &s->hook);
        s->hooked = true;
    }
    graph_resume(g);
    if (!ok) {
        stream_clean(&s->job);
        job_discard(&s->job);
        return NULL;
    }
    if (!o->paused)
        job_start(&s->job);
    return &s->job;
}
