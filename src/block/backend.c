/* Back ends: asynchronous requests of devices, their statistics and error policy.
 *
 * Where each node on the way only adds an offset (raw, an allocated cluster of qcow2) a request goes straight to the
 * ring of its thread; else it runs in a coroutine. */
#include "block/backend.h"
#include "block/filter/throttle.h"

#include <errno.h>
#include <string.h>
#include "rhea/vm/vm.h"

/* A guest may have tens of thousands of requests in flight; stacks of coroutines are bounded in each thread. */
enum { REQ_POOL_MAX = 512, FAST_DEPTH_MAX = 8, SLOW_MAX = 1024 };

struct block_req {
    struct aio_req aio;
    struct block_backend *b;
    enum block_op op;
    unsigned flags;
    uint64_t off, bytes;
    const struct iovec *iov;
    int niov;
    block_done_fn *done;
    void *opaque;
    int64_t start_ns;
    void (*end)(void *arg);
    void *end_arg;
    struct block_req *next;
};

static __thread struct block_req *req_pool;
static __thread unsigned req_pool_count;
static pthread_key_t req_pool_key;
static pthread_once_t req_pool_once = PTHREAD_ONCE_INIT;

static void req_pool_free(void *unused)
{
    struct block_req *r;

    while ((r = req_pool)) {
        req_pool = r->next;
        g_free(r);
    }
}

static void req_pool_init(void)
{
    pthread_key_create(&req_pool_key, req_pool_free);
}

static struct block_req *req_new(void)
{
    struct block_req *r = req_pool;

    if (!r) {
        pthread_once(&req_pool_once, req_pool_init);
        pthread_setspecific(req_pool_key, &req_pool_key);       /* any value: the pool is freed with the thread */
        return g_new(struct block_req, 1);
    }
    req_pool = r->next;
    req_pool_count--;
    return r;
}

static void req_free(struct block_req *r)
{
    if (req_pool_count >= REQ_POOL_MAX) {
        g_free(r);
        return;
    }
    r->next = req_pool;
    req_pool = r;
    req_pool_count++;
}

/* ---- completion */

static void drain_poke(void *arg)
{
}

void backend_put(struct block_backend *b)
{
    struct loop *drainer;

    if (atomic_fetch_sub(&b->in_flight, 1) != 1)
        return;
    drainer = atomic_load(&b->drainer);
    if (drainer && drainer != loop_current())
        loop_post(drainer, drain_poke, NULL);
}

static const uint8_t latency_kinds[OP_COUNT] = { LATENCY_READ, LATENCY_WRITE, LATENCY_FLUSH, LATENCY_COUNT, LATENCY_WRITE };

static void stats_add(struct block_req *r, int ret)
{
    unsigned kind = latency_kinds[r->op];
    struct op_stats *s = &r->b->stats[r->op == OP_ZEROES ? OP_WRITE : r->op];
    int64_t now = host_clock_ns();

    if (ret) {
        atomic_fetch_add_explicit(&s->failed, 1, memory_order_relaxed);
    } else {
        atomic_fetch_add_explicit(&s->bytes, r->bytes, memory_order_relaxed);
        atomic_fetch_add_explicit(&s->operations, 1, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&s->time_ns, now - r->start_ns, memory_order_relaxed);
    if (kind != LATENCY_COUNT && r->b->latency[kind])
        histogram_add(r->b->latency[kind], now - r->start_ns);
    atomic_store_explicit(&r->b->last_access_ns, now, memory_order_relaxed);
}

static void req_finish(struct block_req *r, int ret)
{
    struct block_backend *b = r->b;

    stats_add(r, ret);
    r->done(r->opaque, ret);
    req_free(r);
    backend_put(b);
}

static void req_fast_done(struct aio_req *aio, int ret)
{
    struct block_req *r = (struct block_req *)aio;

    if (r->end)
        r->end(r->end_arg);
    req_finish(r, ret);
}

/* ---- ways to run a request */

static int req_execute(struct block_req *r)
{
    struct block_node *n = r->b->root;

    if (r->b->throttle && r->op != OP_FLUSH)
        throttle_group_wait(r->b->throttle, r->op != OP_READ, r->bytes, &r->b->graph->draining);
    switch (r->op) {
    case OP_READ: return node_preadv(n, r->off, r->bytes, r->iov, r->niov);
    case OP_WRITE: return node_pwritev(n, r->off, r->bytes, r->iov, r->niov, r->flags);
    case OP_FLUSH: return node_flush(n);
    case OP_DISCARD: return node_discard(n, r->off, r->bytes);
    case OP_ZEROES: return node_write_zeroes(n, r->off, r->bytes, r->flags);
    default: return -ENOTSUP;
    }
}

static __thread unsigned slow_running;
static __thread struct block_req *slow_waiting, *slow_waiting_tail;

/* A coroutine carries out its request, then those that found too many of them running. */
static void req_run(void *arg)
{
    struct block_req *r = arg;

    for (;;) {
        req_finish(r, req_execute(r));
        r = slow_waiting;
        if (!r)
            break;
        slow_waiting = r->next;
    }
    slow_running--;
}

static void req_slow(struct block_req *r)
{
    if (slow_running < SLOW_MAX) {
        slow_running++;
        coroutine_start(req_run, r);
        return;
    }
    r->next = NULL;
    if (slow_waiting)
        slow_waiting_tail->next = r;
    else
        slow_waiting = r;
    slow_waiting_tail = r;
}

/* Whether n takes the request as it is. */
static bool fast_takes(struct block_node *n, struct block_req *r, const struct block_fast *f)
{
    if (f->offset > n->size || f->bytes > n->size - f->offset ||
        ((f->offset | f->bytes) & (n->limits.align - 1)) ||
        (n->limits.max_transfer && f->bytes > n->limits.max_transfer))
        return false;
    /* writes of 4K-sector hosts meet read-modify-writes under the node's lock */
    if (f->write && (n->write_threshold || n->read_only || n->detect_zeroes || n->bitmaps || n->limits.align > 512))
        return false;
    if (n->hooks)
        return false;
    if (n->limits.mem_align > 1) {
        for (int i = 0; i < r->niov; i++)
            if (((uintptr_t)r->iov[i].iov_base & (n->limits.mem_align - 1)) ||
                (r->iov[i].iov_len & (n->limits.align - 1)))
                return false;
    }
    return true;
}

static void note_written(struct block_node *n, uint64_t end)
{
    uint64_t old = atomic_load_explicit(&n->wr_highest, memory_order_relaxed);

    while (old < end && !atomic_compare_exchange_weak(&n->wr_highest, &old, end))
        ;
}

static bool req_fast(struct block_req *r)
{
    struct block_fast f = { .write = r->op == OP_WRITE, .offset = r->off, .bytes = r->bytes };
    struct block_node *n = r->b->root;

    if (r->op > OP_WRITE || r->b->throttle || (r->flags & BLOCK_FUA) || !r->bytes || r->niov > 1024 || r->bytes > 1 << 30)
        return false;
    for (int depth = 0; n && depth < FAST_DEPTH_MAX && fast_takes(n, r, &f); depth++) {
        if (n->drv->submit) {
            r->aio = (struct aio_req){ .op = f.write ? AIO_WRITE : AIO_READ, .off = f.offset, .bytes = f.bytes,
                                       .iov = r->iov, .niov = r->niov, .done = req_fast_done };
            r->end = f.end;
            r->end_arg = f.end_arg;
            if (f.write) {
                note_written(n, f.offset + f.bytes);
                note_written(r->b->root, r->off + r->bytes);
            }
            return n->drv->submit(n, &r->aio);
        }
        if (!n->drv->map_fast)
            break;
        n = n->drv->map_fast(n, &f);
    }
    if (f.end)
        f.end(f.end_arg);
    return false;
}

static bool req_valid(struct block_req *r)
{
    struct block_node *n = r->b->root;
    uint64_t size;

    if (!n)
        return false;
    size = n->size;
    return r->op == OP_FLUSH || (r->off <= size && r->bytes <= size - r->off);
}

static void req_start(struct block_req *r)
{
    struct block_backend *b = r->b;

    if (!req_valid(r)) {
        int ret = b->root ? -EIO : -ENOMEDIUM;

        atomic_fetch_add_explicit(&b->stats[r->op].invalid, 1, memory_order_relaxed);
        r->done(r->opaque, ret);
        req_free(r);
        backend_put(b);
        return;
    }
    if (!req_fast(r))
        req_slow(r);
}

static void req_enter(void *arg)
{
    struct block_req *r = arg;
    struct block_backend *b = r->b;

    if (atomic_load(&b->quiesced)) {
        g_mutex_lock(&b->lock);
        if (atomic_load(&b->quiesced)) {
            r->next = NULL;
            r->aio.loop = loop_current();
            if (b->waiting)
                b->waiting_tail->next = r;
            else
                b->waiting = r;
            b->waiting_tail = r;
            g_mutex_unlock(&b->lock);
            backend_put(b);
            return;
        }
        g_mutex_unlock(&b->lock);
    }
    req_start(r);
}

static void req_submit(struct block_backend *b, enum block_op op, uint64_t off, uint64_t bytes,
                       const struct iovec *iov, int niov, unsigned flags, block_done_fn *done, void *opaque)
{
    struct block_req *r = req_new();

    *r = (struct block_req){ .b = b, .op = op, .off = off, .bytes = bytes, .iov = iov, .niov = niov, .flags = flags,
                             .done = done, .opaque = opaque, .start_ns = host_clock_ns() };
    if ((op == OP_WRITE || op == OP_ZEROES) && !b->writeback)
        r->flags |= BLOCK_FUA;
    /* counted before `quiesced` is looked at: who quiesces sets that first, then waits for this to fall to zero */
    atomic_fetch_add(&b->in_flight, 1);
    if (loop_current())
        req_enter(r);
    else
        loop_post(b->loop, req_enter, r);       /* not a loop's thread: the back end's own */
}

void block_readv(struct block_backend *b, uint64_t off, const struct iovec *iov, int niov, unsigned flags,
                 block_done_fn *done, void *opaque)
{
    req_submit(b, OP_READ, off, iov_bytes(iov, niov), iov, niov, flags, done, opaque);
}

void block_writev(struct block_backend *b, uint64_t off, const struct iovec *iov, int niov, unsigned flags,
                  block_done_fn *done, void *opaque)
{
    req_submit(b, OP_WRITE, off, iov_bytes(iov, niov), iov, niov, flags, done, opaque);
}

void block_flush(struct block_backend *b, block_done_fn *done, void *opaque)
{
    req_submit(b, OP_FLUSH, 0, 0, NULL, 0, 0, done, opaque);
}

void block_discard(struct block_backend *b, uint64_t off, uint64_t len, block_done_fn *done, void *opaque)
{
    req_submit(b, OP_DISCARD, off, len, NULL, 0, 0, done, opaque);
}

void block_write_zeroes(struct block_backend *b, uint64_t off, uint64_t len, unsigned flags, block_done_fn *done,
                        void *opaque)
{
    req_submit(b, OP_ZEROES, off, len, NULL, 0, flags, done, opaque);
}

/* ---- drain */

/* One drainer at a time: drains happen on the main loop. */
void block_drain(struct block_backend *b)
{
    struct loop *loop = loop_current();

    atomic_fetch_add(&b->graph->draining, 1);
    if (loop)
        atomic_store(&b->drainer, loop);
    while (atomic_load(&b->in_flight)) {
        if (loop)
            loop_step(loop, true);
        else
            g_usleep(50);
    }
    if (loop)
        atomic_store(&b->drainer, NULL);
    atomic_fetch_sub(&b->graph->draining, 1);
}

void backend_quiesce(struct block_backend *b)
{
    atomic_fetch_add(&b->quiesced, 1);
    block_drain(b);
}

void backend_resume(struct block_backend *b)
{
    struct block_req *r, *next;

    g_mutex_lock(&b->lock);
    r = NULL;
    if (atomic_fetch_sub(&b->quiesced, 1) == 1) {
        r = b->waiting;
        b->waiting = NULL;
    }
    g_mutex_unlock(&b->lock);
    if (!atomic_load(&b->quiesced))
        co_queue_wake_all(&b->resumed);
    for (; r; r = next) {
        struct loop *loop = r->aio.loop;

        next = r->next;
        atomic_fetch_add(&b->in_flight, 1);
        if (loop == loop_current())
            req_enter(r);
        else
            loop_post(loop, req_enter, r);
    }
}

/* Quiescing and these both happen on the main loop: what is seen of `quiesced` stays until the coroutine yields. */
void backend_co_enter(struct block_backend *b)
{
    while (atomic_load(&b->quiesced))
        co_queue_wait(&b->resumed, NULL);
    atomic_fetch_add(&b->in_flight, 1);
}

/* Never waits with one of them counted, which would keep a drain of that one waiting. */
void backend_co_enter_both(struct block_backend *a, struct block_backend *b)
{
    while (atomic_load(&a->quiesced) || atomic_load(&b->quiesced))
        co_queue_wait(atomic_load(&a->quiesced) ? &a->resumed : &b->resumed, NULL);
    atomic_fetch_add(&a->in_flight, 1);
    atomic_fetch_add(&b->in_flight, 1);
}

void backend_co_exit(struct block_backend *b)
{
    backend_put(b);
}

/* ---- back ends */

struct block_backend *backend_new(struct block_graph *g, const char *name, struct block_node *root)
{
    struct block_backend *b = g_new0(struct block_backend, 1);

    b->graph = g;
    b->name = g_strdup(name);
    b->root = root;
    b->loop = g->loop;
    b->writeback = true;
    b->quiesced = g->changing;
    b->werror = POLICY_ENOSPC;
    b->rerror = POLICY_REPORT;
    g_mutex_init(&b->lock);
    co_queue_init(&b->resumed);
    if (root)
        node_ref(root);
    g_ptr_array_add(g->backends, b);
    return b;
}

static void backend_drop_hold(struct block_backend *b)
{
    if (b->held && b->root) {
        b->root->job_writers -= b->job && b->held_write;
        node_release(b->root, b->held_write);
    }
    b->held = false;
}

void backend_free(struct block_backend *b)
{
    block_drain(b);
    backend_drop_hold(b);
    g_ptr_array_remove(b->graph->backends, b);
    if (b->root)
        node_unref(b->root);
    if (b->throttle)
        throttle_group_leave(b->throttle);
    for (unsigned i = 0; i < LATENCY_COUNT; i++)
        histogram_free(b->latency[i]);
    json_object_put(b->opts);
    g_mutex_clear(&b->lock);
    g_free(b->name);
    g_free(b);
}

void backends_free(struct block_graph *g)
{
    while (g->backends->len)
        backend_free(g_ptr_array_index(g->backends, g->backends->len - 1));
}

struct block_backend *backend_find(struct block_graph *g, const char *name)
{
    for (unsigned i = 0; i < g->backends->len; i++) {
        struct block_backend *b = g_ptr_array_index(g->backends, i);

        if (*b->name && !strcmp(b->name, name))
            return b;
    }
    return NULL;
}

static bool qdev_is(const struct block_backend *b, const char *id)
{
    g_autofree char *qdev = b->dev ? backend_qdev(b) : NULL;

    return b->dev && (!strcmp(qdev, id) || !g_strcmp0(b->dev->id, id) || !g_strcmp0(b->dev->path, id));
}

struct block_backend *backend_lookup(struct block_graph *g, const char *device, const char *id, struct error *err)
{
    struct block_backend *b = NULL;

    if (!device == !id) {
        error_set(err, ERR_GENERIC, "Need exactly one of 'device' and 'id'", NULL);
        return NULL;
    }
    for (unsigned i = 0; id && i < g->backends->len && !b; i++)
        if (qdev_is(g_ptr_array_index(g->backends, i), id))
            b = g_ptr_array_index(g->backends, i);
    if (device)
        b = backend_find(g, device);
    if (!b)
        error_setf(err, ERR_DEVICE_NOT_FOUND, "query-block lists them", "Device '%s' not found", device ? device : id);
    return b;
}

static bool backend_hold(struct block_backend *b, bool write, struct error *err)
{
    if (b->root && !node_hold(b->root, write, b->share, err))
        return false;
    b->held = true;
    b->held_write = write;
    return true;
}

void backend_eject(struct block_backend *b)
{
    struct block_node *n = b->root;
    bool held = b->held;

    backend_drop_hold(b);
    b->held = held;             /* the device's wish stays for the next medium */
    b->root = NULL;
    node_unref(n);
}

bool backend_insert(struct block_backend *b, struct block_node *root, struct error *err)
{
    bool write = b->held_write && !root->read_only;

    if (b->held && !node_hold(root, write, b->share, err))
        return false;
    b->held_write = write;
    node_ref(root);
    b->root = root;
    return true;
}

struct block_backend *backend_open(struct block_graph *g, struct block_node *root, bool write, struct error *err)
{
    struct block_backend *b = backend_new(g, "", root);

    if (backend_hold(b, write, err))
        return b;
    backend_free(b);
    return NULL;
}

struct block_backend *backend_open_job(struct block_graph *g, struct block_node *root, bool write, bool exclusive, struct error *err)
{
    struct block_backend *b = backend_new(g, "", root);

    b->job = true;
    b->share = !exclusive;
    if (backend_hold(b, write, err)) {
        root->job_writers += write;
        return b;
    }
    backend_free(b);
    return NULL;
}

bool backend_claims(const struct block_graph *g, const struct block_node *n)
{
    for (unsigned i = 0; i < g->backends->len; i++) {
        const struct block_backend *b = g_ptr_array_index(g->backends, i);

        if (b->root == n && b->held && b->held_write && !b->share)
            return true;
    }
    return false;
}

/* What the device says of sharing adds to what its drive does. */
static bool device_hold(struct block_backend *b, bool write, bool share, struct error *err)
{
    bool ok;

    b->device_shares = share && !b->share;
    b->share = b->share || share;
    if (write && b->share && b->root && backend_claims(b->graph, b->root))
        ok = error_setf(err, ERR_GENERIC, "share-rw=on on that device, too, if its guest agrees", "block node '%s' is in use already", b->root->name);
    else
        ok = backend_hold(b, write, err);
    if (!ok && b->device_shares)
        b->share = false;
    return ok;
}

struct block_backend *block_backend_attach(struct vm *vm, const char *drive, struct device *dev, bool write, bool share,
                                           struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct block_backend *b = backend_find(g, drive);
    struct block_node *n = b ? NULL : node_find(g, drive);

    if (!b && !n) {
        error_setf(err, ERR_GENERIC, "define it with -drive if=none,id=... or -blockdev node-name=...",
                   "Property drive can't find value '%s'", drive);
        return NULL;
    }
    if (b && b->dev) {
        error_setf(err, ERR_GENERIC, "a drive belongs to one device",
                   "Drive '%s' is already in use by another block device", drive);
        return NULL;
    }
    if (!b)
        b = backend_new(g, "", n);
    if (!device_hold(b, write, share, err)) {
        if (!b->drive)
            backend_free(b);
        return NULL;
    }
    b->dev = dev;
    return b;
}

void block_backend_detach(struct block_backend *b)
{
    if (!b)
        return;
    block_drain(b);
    b->dev = NULL;
    b->on_change = NULL;
    b->share = b->share && !b->device_shares;
    if (b->drive)
        backend_drop_hold(b);
    else
        backend_free(b);
}

void block_backend_info(struct block_backend *b, struct block_info *out)
{
    struct block_node *n = b->root;

    *out = (struct block_info){ .logical_block = 512, .physical_block = 512, .write_cache = b->writeback,
                                .request_align = 1, .read_only = true };
    if (!n)
        return;
    out->size = n->size;
    out->request_align = n->limits.align;
    out->opt_transfer = n->limits.opt_transfer;
    out->max_transfer = n->limits.max_transfer;
    out->discard_align = n->limits.discard_align;
    out->read_only = n->read_only;
    out->can_discard = !n->read_only;
    out->can_write_zeroes = !n->read_only;
}

void block_backend_set_loop(struct block_backend *b, struct loop *loop)
{
    b->loop = loop;
}

void backends_changed(struct block_graph *g, const struct block_node *n)
{
    for (unsigned i = 0; i < g->backends->len; i++) {
        struct block_backend *b = g_ptr_array_index(g->backends, i);

        if (b->root == n && b->on_change)
            b->on_change(b->on_change_arg);
    }
}

void block_backend_on_change(struct block_backend *b, void (*fn)(void *opaque), void *opaque)
{
    b->on_change_arg = opaque;
    b->on_change = fn;
}

/* ---- errors of the host */

static bool policy_parse(const char *text, bool write, enum error_policy *out)
{
    static const struct { const char *word; enum error_policy policy; bool write_only; } words[] = {
        { "report", POLICY_REPORT, false }, { "ignore", POLICY_IGNORE, false }, { "stop", POLICY_STOP, false },
        { "enospc", POLICY_ENOSPC, true },
    };

    if (!strcmp(text, "auto")) {
        *out = write ? POLICY_ENOSPC : POLICY_REPORT;
        return true;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        if (!strcmp(text, words[i].word) && (write || !words[i].write_only)) {
            *out = words[i].policy;
            return true;
        }
    }
    return false;
}

bool block_backend_set_policy(struct block_backend *b, const char *rerror, const char *werror, struct error *err)
{
    if (rerror && !policy_parse(rerror, false, &b->rerror))
        return error_setf(err, ERR_GENERIC, "it is report, ignore, stop or auto",
                          "'%s' invalid read error action", rerror);
    if (werror && !policy_parse(werror, true, &b->werror))
        return error_setf(err, ERR_GENERIC, "it is report, ignore, stop, enospc or auto",
                          "'%s' invalid write error action", werror);
    return true;
}

/* The machine goes on: what failed is tried again. */
void backends_running(void *opaque, bool running)
{
    struct block_graph *g = opaque;

    for (unsigned i = 0; running && i < g->backends->len; i++)
        ((struct block_backend *)g_ptr_array_index(g->backends, i))->io_status = IO_OK;
}

static void error_stop(void *arg)
{
    struct vm *vm = arg;

    if (vm_running(vm))
        vm_stop(vm, RUN_IO_ERROR);
}

static void error_event(struct block_backend *b, bool write, int err, const char *action)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "device", json_object_new_string(b->name));
    if (b->dev && b->dev->path)
        json_object_object_add(o, "qom-path", json_object_new_string(b->dev->path));
    if (b->root)
        json_object_object_add(o, "node-name", json_object_new_string(b->root->name));
    json_object_object_add(o, "operation", json_object_new_string(write ? "write" : "read"));
    json_object_object_add(o, "action", json_object_new_string(action));
    json_object_object_add(o, "nospace", json_object_new_boolean(err == ENOSPC));
    json_object_object_add(o, "reason", json_object_new_string(g_strerror(err)));
    vm_event(b->graph->vm, "BLOCK_IO_ERROR", o);
}

bool block_error_report(struct block_backend *b, bool write, int err)
{
    enum error_policy policy = write ? b->werror : b->rerror;

    if (err < 0)
        err = -err;
    if (policy == POLICY_ENOSPC)
        policy = err == ENOSPC ? POLICY_STOP : POLICY_REPORT;
    if (!b->graph->vm)
        return true;
    if (policy == POLICY_STOP) {
        b->io_status = err == ENOSPC ? IO_NOSPACE : IO_FAILED;
        error_event(b, write, err, "stop");
        loop_post(b->graph->vm->loop, error_stop, b->graph->vm);
        return false;
    }
    error_event(b, write, err, policy == POLICY_IGNORE ? "ignore" : "report");
    return true;
}
