/* Asynchronous host I/O. Each thread that runs a loop has a ring of its own: requests are queued as they come and
 * handed to the kernel in one system call before the loop sleeps. */
#include "block/aio.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <glib.h>
#include "rhea/base/coroutine.h"

enum { RING_ENTRIES = 256, RING_MAX_INFLIGHT = 1024, POOL_THREADS_MAX = 16, POOL_IDLE_S = 10, ASYNC_BYTES = 512 << 10 };
enum { IN_PLACE_BYTES = 64 << 10, IN_PLACE_RUN_BYTES = 4 << 20, IN_PLACE_MAX = 32 };

struct ring {
    struct io_uring uring;
    struct loop *loop;
    GSource *source;
    unsigned unsubmitted, inflight;
    struct aio_req *backlog, *backlog_tail;     /* what did not fit */
    struct aio_req *done;                       /* made in place (at most one), done() not called yet */
    unsigned in_place;                          /* made in place since the loop last looked around */
};

struct ring_source {
    GSource source;
    struct ring *ring;
};

static __thread struct ring *thread_ring;
static __thread bool thread_no_ring;            /* io_uring is missing or forbidden */
static pthread_key_t ring_key;
static pthread_once_t ring_once = PTHREAD_ONCE_INIT;

/* ---- short transfers */

/* r->rest: the vector from r->progress on. */
static void req_advance(struct aio_req *r)
{
    struct iovec *old = r->rest;

    r->rest = g_new(struct iovec, r->niov);
    memcpy(r->rest, r->iov, r->niov * sizeof(r->iov[0]));
    g_free(old);
    for (uint64_t skip = r->progress, i = 0; skip && i < (uint64_t)r->niov; i++) {
        uint64_t n = MIN(skip, r->rest[i].iov_len);

        r->rest[i].iov_base = (uint8_t *)r->rest[i].iov_base + n;
        r->rest[i].iov_len -= n;
        skip -= n;
    }
}

static void req_zero_rest(struct aio_req *r)
{
    req_advance(r);
    for (int i = 0; i < r->niov; i++)
        memset(r->rest[i].iov_base, 0, r->rest[i].iov_len);
}

static void req_finish(struct aio_req *r, int ret)
{
    g_free(r->rest);
    r->rest = NULL;
    r->done(r, ret);
}

/* Takes the kernel's result; true when the request is over, with *ret. */
static bool req_result(struct aio_req *r, int res, int *ret)
{
    *ret = 0;
    if (res == -EINTR || res == -EAGAIN)
        return false;
    if (res < 0) {
        *ret = res;
        return true;
    }
    if (r->op != AIO_READ && r->op != AIO_WRITE)
        return true;
    if (res == 0 && r->op == AIO_READ) {        /* end of file */
        req_zero_rest(r);
        return true;
    }
    if (res == 0 && r->progress < r->bytes) {
        *ret = -ENOSPC;
        return true;
    }
    r->progress += res;
    if (r->progress >= r->bytes)
        return true;
    req_advance(r);
    return false;
}

/* ---- the ring */

static void ring_queue(struct ring *g, struct aio_req *r)
{
    r->next = NULL;
    if (g->backlog)
        g->backlog_tail->next = r;
    else
        g->backlog = r;
    g->backlog_tail = r;
}

static bool ring_push(struct ring *g, struct aio_req *r)
{
    const struct iovec *iov = r->rest ? r->rest : r->iov;
    struct io_uring_sqe *sqe;

    if (g->inflight >= RING_MAX_INFLIGHT)
        return false;
    sqe = io_uring_get_sqe(&g->uring);
    if (!sqe) {
        io_uring_submit(&g->uring);
        g->unsubmitted = 0;
        sqe = io_uring_get_sqe(&g->uring);
    }
    if (!sqe)
        return false;
    switch (r->op) {
    case AIO_READ:
        if (r->niov == 1)
            io_uring_prep_read(sqe, r->fd, iov->iov_base, iov->iov_len, r->off + r->progress);
        else
            io_uring_prep_readv(sqe, r->fd, iov, r->niov, r->off + r->progress);
        break;
    case AIO_WRITE:
        if (r->niov == 1)
            io_uring_prep_write(sqe, r->fd, iov->iov_base, iov->iov_len, r->off + r->progress);
        else
            io_uring_prep_writev(sqe, r->fd, iov, r->niov, r->off + r->progress);
        break;
    case AIO_FSYNC:
        io_uring_prep_fsync(sqe, r->fd, IORING_FSYNC_DATASYNC);
        break;
    case AIO_FALLOCATE:
        io_uring_prep_fallocate(sqe, r->fd, r->mode, r->off, r->bytes);
        break;
    }
    /* what the page cache has is copied when it is submitted: much of it on one of the kernel's threads instead */
    if (r->buffered && (r->op == AIO_READ || r->op == AIO_WRITE) && r->bytes - r->progress >= ASYNC_BYTES)
        io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
    io_uring_sqe_set_data(sqe, r);
    g->unsubmitted++;
    g->inflight++;
    if (loop_batch(g->loop) && g->unsubmitted >= loop_batch(g->loop) && io_uring_submit(&g->uring) >= 0)
        g->unsubmitted = 0;
    return true;
}

static void ring_reap(struct ring *g)
{
    struct io_uring_cqe *cqe;
    struct aio_req *done = g->done;

    g->done = NULL;
    if (done)
        req_finish(done, done->result);
    while (io_uring_peek_cqe(&g->uring, &cqe) == 0) {
        struct aio_req *r = io_uring_cqe_get_data(cqe);
        int res = cqe->res, ret;

        io_uring_cqe_seen(&g->uring, cqe);
        g->inflight--;
        if (req_result(r, res, &ret))
            req_finish(r, ret);                 /* may submit more */
        else if (!ring_push(g, r))
            ring_queue(g, r);
        while (g->backlog) {
            r = g->backlog;
            if (!ring_push(g, r))
                break;
            g->backlog = r->next;
        }
    }
}

static gboolean ring_prepare(GSource *source, gint *timeout)
{
    struct ring *g = ((struct ring_source *)source)->ring;

    *timeout = -1;
    g->in_place = 0;
    if (g->unsubmitted && io_uring_submit(&g->uring) >= 0)
        g->unsubmitted = 0;
    return g->done || io_uring_cq_ready(&g->uring) > 0;
}

static gboolean ring_check(GSource *source)
{
    struct ring *g = ((struct ring_source *)source)->ring;

    return g->done || io_uring_cq_ready(&g->uring) > 0;
}

/* ---- busy waiting for it */

static bool ring_poll_begin(void *arg)
{
    struct ring *g = arg;

    if (g->unsubmitted && io_uring_submit(&g->uring) >= 0)
        g->unsubmitted = 0;
    return g->inflight > 0 && !g->done;
}

/* With cooperative task running the kernel may have the result and wait for us to come by. */
static bool ring_poll_ready(void *arg)
{
    struct ring *g = arg;
    unsigned flags = __atomic_load_n(g->uring.sq.kflags, __ATOMIC_RELAXED);

    if (flags & IORING_SQ_TASKRUN)
        io_uring_get_events(&g->uring);
    return io_uring_cq_ready(&g->uring) > 0;
}

static const struct loop_poller ring_poller = { .begin = ring_poll_begin, .ready = ring_poll_ready };

static gboolean ring_dispatch(GSource *source, GSourceFunc fn, gpointer arg)
{
    ring_reap(((struct ring_source *)source)->ring);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs ring_source_funcs = {
    .prepare = ring_prepare, .check = ring_check, .dispatch = ring_dispatch,
};

static void ring_free(void *arg)
{
    struct ring *g = arg;

    loop_set_poller(g->loop, NULL, NULL);
    g_source_destroy(g->source);
    g_source_unref(g->source);
    io_uring_queue_exit(&g->uring);
    g_free(g);
    thread_ring = NULL;
}

static void ring_key_init(void)
{
    pthread_key_create(&ring_key, ring_free);
}

static struct ring *ring_new(struct loop *loop)
{
    struct ring *g = g_new0(struct ring, 1);
    int ret = io_uring_queue_init(RING_ENTRIES, &g->uring, IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                                  IORING_SETUP_SINGLE_ISSUER);

    if (ret == -EINVAL)                         /* before Linux 6.0 */
        ret = io_uring_queue_init(RING_ENTRIES, &g->uring, 0);
    if (ret < 0) {
        g_free(g);
        return NULL;
    }
    io_uring_ring_dontfork(&g->uring);
    g->loop = loop;
    g->source = g_source_new(&ring_source_funcs, sizeof(struct ring_source));
    ((struct ring_source *)g->source)->ring = g;
    g_source_add_unix_fd(g->source, g->uring.ring_fd, G_IO_IN);
    g_source_set_can_recurse(g->source, TRUE);
    g_source_attach(g->source, loop_context(loop));
    loop_set_poller(loop, &ring_poller, g);
    return g;
}

/* The thread's ring, or NULL where io_uring cannot be had. */
static struct ring *ring_get(void)
{
    struct loop *loop = loop_current();

    if (thread_ring && thread_ring->loop == loop && !g_source_is_destroyed(thread_ring->source))
        return thread_ring;
    if (thread_no_ring || !loop)
        return NULL;
    pthread_once(&ring_once, ring_key_init);
    if (thread_ring)
        ring_free(thread_ring);                 /* this thread runs another loop now */
    thread_ring = ring_new(loop);
    thread_no_ring = !thread_ring;
    pthread_setspecific(ring_key, thread_ring);
    return thread_ring;
}

bool aio_have_uring(void)
{
    return ring_get() != NULL;
}

/* ---- the pool of threads */

struct pool_task {
    struct pool_task *next;
    int (*fn)(void *arg);
    void *arg;
    int ret;
    struct coroutine *co;
    struct aio_req *req;                        /* or a request */
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct pool_task *head, *tail;
    unsigned threads, idle, queued;
    unsigned min, max;                          /* threads kept, and at most */
    GSList *limits;                             /* of struct pool_limits */
} pool = { .lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .max = POOL_THREADS_MAX };

static int req_blocking(struct aio_req *r)
{
    int ret;
    ssize_t n;

    do {
        const struct iovec *iov = r->rest ? r->rest : r->iov;

        switch (r->op) {
        case AIO_READ: n = preadv(r->fd, iov, r->niov, r->off + r->progress); break;
        case AIO_WRITE: n = pwritev(r->fd, iov, r->niov, r->off + r->progress); break;
        case AIO_FSYNC: n = fdatasync(r->fd); break;
        default: n = fallocate(r->fd, r->mode, r->off, r->bytes); break;
        }
        if (n < 0)
            n = -errno;
    } while (!req_result(r, MIN(n, INT32_MAX), &ret));
    return ret;
}

static void pool_req_done(void *arg)
{
    struct aio_req *r = arg;

    req_finish(r, r->result);
}

static void pool_do(struct pool_task *t)
{
    if (t->req) {
        t->req->result = req_blocking(t->req);
        loop_post(t->req->loop, pool_req_done, t->req);
        g_free(t);
    } else {
        t->ret = t->fn(t->arg);
        coroutine_wake(t->co);                  /* t lives on its stack */
    }
}

static void *pool_thread(void *arg)
{
    struct timespec until;
    struct pool_task *t;
    sigset_t pipes;
    int ret = 0;

    pthread_setname_np(pthread_self(), "pool");
    sigemptyset(&pipes);
    sigaddset(&pipes, SIGPIPE);                 /* a library's peer may go at any time */
    pthread_sigmask(SIG_BLOCK, &pipes, NULL);
    pthread_mutex_lock(&pool.lock);
    while (pool.threads <= pool.max && (ret != ETIMEDOUT || pool.head || pool.threads <= pool.min)) {
        t = pool.head;
        if (t) {
            pool.head = t->next;
            pool.queued--;
            pthread_mutex_unlock(&pool.lock);
            pool_do(t);
            pthread_mutex_lock(&pool.lock);
            ret = 0;
            continue;
        }
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += POOL_IDLE_S;
        pool.idle++;
        ret = pthread_cond_timedwait(&pool.work, &pool.lock, &until);
        pool.idle--;
    }
    pool.threads--;
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

static void pool_thread_start(void)
{
    pthread_attr_t attr;
    pthread_t thread;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attr, pool_thread, NULL))
        pool.threads--;
    pthread_attr_destroy(&attr);
}

/* A thread may do several tasks one after the other; one is started while tasks outnumber the idle. */
static void pool_add(struct pool_task *t)
{
    t->next = NULL;
    pthread_mutex_lock(&pool.lock);
    if (pool.head)
        pool.tail->next = t;
    else
        pool.head = t;
    pool.tail = t;
    pool.queued++;
    if (pool.idle)
        pthread_cond_signal(&pool.work);
    if (pool.queued > pool.idle && pool.threads < pool.max) {
        pool.threads++;
        pool_thread_start();
    }
    if (!pool.threads) {                        /* no thread to be had at all: do it here */
        pool.head = NULL;
        pool.queued = 0;
        pthread_mutex_unlock(&pool.lock);
        pool_do(t);
        return;
    }
    pthread_mutex_unlock(&pool.lock);
}

struct pool_limits { const void *owner; unsigned min, max; };

/* One pool serves all loops: it holds to the strictest of what they want. */
static void limits_apply(void)
{
    pool.min = 0;
    pool.max = POOL_THREADS_MAX;
    for (GSList *at = pool.limits; at; at = at->next) {
        const struct pool_limits *l = at->data;

        pool.min = MAX(pool.min, l->min);
        pool.max = MIN(pool.max, l->max);
    }
    pool.min = MIN(pool.min, pool.max);
    while (pool.threads < pool.min) {
        unsigned before = pool.threads++;

        pool_thread_start();
        if (pool.threads == before)             /* the host has none to give */
            break;
    }
    pthread_cond_broadcast(&pool.work);         /* who is too many ends */
}

void pool_set_limits(const void *owner, unsigned min, unsigned max)
{
    struct pool_limits *l = NULL;

    pthread_mutex_lock(&pool.lock);
    for (GSList *at = pool.limits; at && !l; at = at->next)
        if (((struct pool_limits *)at->data)->owner == owner)
            l = at->data;
    if (l)
        pool.limits = g_slist_remove(pool.limits, l);
    g_free(l);
    if (max) {
        l = g_new(struct pool_limits, 1);
        *l = (struct pool_limits){ owner, min, max };
        pool.limits = g_slist_prepend(pool.limits, l);
    }
    limits_apply();
    pthread_mutex_unlock(&pool.lock);
}

int pool_run(int (*fn)(void *arg), void *arg)
{
    struct pool_task t = { .fn = fn, .arg = arg, .co = coroutine_self() };

    pool_add(&t);
    coroutine_yield();
    return t.ret;
}

/* ---- both */

/* Most file systems take a buffered write only where it may block, so the ring passes it to a thread of the kernel: two
 * wake-ups for a copy of a few microseconds, and a buffer that another core has in its caches. A program that has nothing
 * else to do makes it itself: writes to a file wait for each other anyway. */
static bool in_place_allowed(struct ring *g, const struct aio_req *r)
{
    return r->buffered && loop_single_task(g->loop) && g->in_place < IN_PLACE_MAX;
}

static bool req_in_place(struct ring *g, struct aio_req *r)
{
    /* others under way could go on meanwhile */
    if (r->op != AIO_WRITE || r->bytes > IN_PLACE_BYTES || g->inflight || g->backlog || g->done || !in_place_allowed(g, r))
        return false;
    g->in_place++;
    r->result = req_blocking(r);
    return true;
}

/* What the page cache has is copied now, while the buffer is in this core's caches; true when that was all. */
static bool read_cached(struct aio_req *r)
{
    ssize_t n = preadv2(r->fd, r->iov, r->niov, r->off, RWF_NOWAIT);

    return n > 0 && req_result(r, n, &r->result);
}

/* The same for a coroutine, which goes on at once: it may have read what it writes next. */
static bool run_in_place(struct ring *g, struct aio_req *r)
{
    if (!in_place_allowed(g, r))
        return false;
    g->in_place++;
    if (r->op == AIO_READ)
        return read_cached(r);
    if (r->op != AIO_WRITE || r->bytes > IN_PLACE_RUN_BYTES)
        return false;
    r->result = req_blocking(r);
    return true;
}

static void pool_submit(struct aio_req *r)
{
    struct pool_task *t = g_new0(struct pool_task, 1);

    r->loop = loop_current();
    t->req = r;
    pool_add(t);
}

static void req_start(struct aio_req *r, struct ring *g)
{
    if (!g)
        pool_submit(r);
    else if (g->backlog || !ring_push(g, r))
        ring_queue(g, r);
}

static struct ring *req_init(struct aio_req *r)
{
    r->progress = 0;
    r->rest = NULL;
    return r->threads ? NULL : ring_get();
}

void aio_submit(struct aio_req *r)
{
    struct ring *g = req_init(r);

    if (g && req_in_place(g, r))
        g->done = r;
    else
        req_start(r, g);
}

static void aio_wake(struct aio_req *r, int ret)
{
    r->result = ret;
    coroutine_wake(r->opaque);
}

int aio_run(struct aio_req *r)
{
    struct ring *g = req_init(r);

    if (g && run_in_place(g, r)) {
        g_free(r->rest);
        return r->result;
    }
    r->done = aio_wake;
    r->opaque = coroutine_self();
    req_start(r, g);
    coroutine_yield();
    return r->result;
}
