/* rhea-img compare, bench: what reads much and keeps nothing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "block/backend.h"
#include "main/img.h"

enum { CHUNK = 256 << 10, READERS = 4, DEPTH_MAX = 1024 };

/* ---- compare: readers take the next part each; the first difference counts */

struct compare {
    struct img *c;
    struct block_node *a, *b;
    struct co_mutex lock;
    uint64_t next, all, done;
    _Atomic uint64_t differs;           /* first byte of the first sector that does; UINT64_MAX: none */
    bool status_differs;
    atomic_int ret;
};

static uint64_t first_difference(const uint8_t *x, const uint8_t *y, uint64_t bytes)
{
    if (!memcmp(x, y, bytes))
        return UINT64_MAX;
    for (uint64_t i = 0;; i += 512)
        if (memcmp(x + i, y + i, MIN(512, bytes - i)))
            return i;
}

/* The next part in which something must be read; 0 bytes: the end. */
static int compare_next(struct compare *k, uint64_t *off, uint64_t *bytes)
{
    uint64_t la, lb, map;
    struct block_node *file;
    int ret = 0, depth;

    co_mutex_lock(&k->lock);
    *bytes = 0;
    while (!ret && !*bytes && k->next < MIN(k->all, k->differs)) {
        int sa = node_status_above(k->a, k->next, k->all - k->next, &la, &map, &file, &depth, true),
            sb = node_status_above(k->b, k->next, k->all - k->next, &lb, &map, &file, &depth, true);
        uint64_t n = MIN(la, lb);

        if (sa < 0 || sb < 0) {
            ret = sa < 0 ? sa : sb;
            break;
        }
        *off = k->next;
        if (k->c->strict && ((sa ^ sb) & (STATUS_DATA | STATUS_ZERO | STATUS_ALLOCATED))) {
            k->status_differs = true;
            k->differs = k->next;
            break;
        }
        if (!(sa & sb & STATUS_ZERO))
            *bytes = n = MIN(n, CHUNK);
        k->next += n;
        k->done = k->next;
        img_progress(k->c, k->done, k->all);
    }
    co_mutex_unlock(&k->lock);
    return ret;
}

static void compare_differs(struct compare *k, uint64_t at)
{
    co_mutex_lock(&k->lock);
    if (at < k->differs) {
        k->differs = at;
        k->status_differs = false;
    }
    co_mutex_unlock(&k->lock);
}

static void compare_reader(void *arg)
{
    struct compare *k = arg;
    uint8_t *x = node_buffer(k->a, CHUNK), *y = node_buffer(k->b, CHUNK);
    uint64_t off, bytes, at;
    int ret = x && y ? 0 : -ENOMEM;

    while (!ret && !(ret = compare_next(k, &off, &bytes)) && bytes) {
        ret = node_pread(k->a, off, x, bytes);
        if (!ret)
            ret = node_pread(k->b, off, y, bytes);
        at = ret ? UINT64_MAX : first_difference(x, y, bytes);
        if (at != UINT64_MAX)
            compare_differs(k, off + at);
    }
    free(x);
    free(y);
    if (ret && !k->ret)
        k->ret = ret;
}

static int compare_images(struct compare *k)
{
    struct img *c = k->c;

    if (c->strict && k->a->size != k->b->size) {
        if (!c->quiet)
            printf("Strict mode: Image size mismatch!\n");
        return 1;
    }
    co_mutex_init(&k->lock);
    k->all = MAX(k->a->size, k->b->size);
    k->differs = UINT64_MAX;
    img_workers(c, READERS, img_on_host(k->a) && img_on_host(k->b), compare_reader, k);
    if (k->ret) {
        error_set_errno(&c->err, -k->ret, NULL, "cannot compare");
        return 2;
    }
    img_progress_end(c);
    if (k->differs != UINT64_MAX) {
        if (!c->quiet)
            printf(k->status_differs ? "Strict mode: Offset %" PRIu64 " block status mismatch!\n"
                                     : "Content mismatch at offset %" PRIu64 "!\n", k->differs);
        return 1;
    }
    if (!c->quiet && k->a->size != k->b->size)
        printf("Warning: Image size mismatch!\n");
    if (!c->quiet)
        printf("Images are identical.\n");
    return 0;
}

int img_compare(struct img *c)
{
    struct compare k = { .c = c };
    int ret = 2;

    k.a = img_open_source(c, c->args[0], c->format, c->source_cache);
    k.b = k.a ? img_open_source(c, c->args[1], c->backing_format, c->source_cache) : NULL;
    if (k.b)
        ret = compare_images(&k);
    node_unref(k.a);
    node_unref(k.b);
    return error_is_set(&c->err) ? img_fail(c, 2) : ret;
}

/* ---- bench */

struct bench {
    struct img *c;
    struct block_backend *b;
    uint64_t next, size, started, left, in_flight, since_flush;
    bool flushing;
    int ret;
    struct bench_slot *slots;
};

struct bench_slot { struct bench *k; struct iovec iov; bool idle; };

static uint64_t bench_offset(struct bench *k)
{
    uint64_t at = k->next;

    if (k->c->random) {
        k->next = k->next * 6364136223846793005ull + 1442695040888963407ull;
        return (k->next >> 16) % (k->size / k->c->size) * k->c->size;
    }
    k->next += k->c->step;
    if (k->next + k->c->size > k->size)
        k->next = 0;
    return at;
}

static void bench_done(void *arg, int ret);

static void bench_go(struct bench_slot *s)
{
    struct bench *k = s->k;

    s->idle = k->started == k->c->count || k->flushing;
    if (s->idle)
        return;
    k->started++;
    k->in_flight++;
    if (k->c->write)
        block_writev(k->b, bench_offset(k), &s->iov, 1, 0, bench_done, s);
    else
        block_readv(k->b, bench_offset(k), &s->iov, 1, 0, bench_done, s);
}

static void bench_flushed(void *arg, int ret)
{
    struct bench *k = arg;

    if (ret)
        k->ret = ret;
    if (!k->flushing)
        return;
    k->flushing = false;
    for (uint64_t i = 0; i < k->c->depth; i++)
        if (k->slots[i].idle)
            bench_go(&k->slots[i]);
}

/* After each interval: a flush, for which the requests in flight are waited for unless --no-drain. */
static void bench_flush(struct bench *k)
{
    if (!k->c->flush_interval || !k->c->write)
        return;
    if (++k->since_flush >= k->c->flush_interval && !k->flushing) {
        k->since_flush = 0;
        if (k->c->no_drain)
            block_flush(k->b, bench_flushed, k);
        else
            k->flushing = true;
    }
    if (k->flushing && !k->in_flight)
        block_flush(k->b, bench_flushed, k);
}

static void bench_done(void *arg, int ret)
{
    struct bench_slot *s = arg;
    struct bench *k = s->k;

    if (ret)
        k->ret = ret;
    k->left--;
    k->in_flight--;
    bench_flush(k);
    bench_go(s);
}

static void bench_run(struct bench *k, struct block_node *n)
{
    struct img *c = k->c;
    int64_t start = host_clock_ns();

    for (uint64_t i = 0; i < c->depth; i++) {
        k->slots[i] = (struct bench_slot){ .k = k, .iov = { node_buffer(n, c->size), c->size } };
        memset(k->slots[i].iov.iov_base, c->pattern, c->size);
    }
    for (uint64_t i = 0; i < c->depth; i++)
        bench_go(&k->slots[i]);
    while (k->left)
        loop_step(c->loop, true);
    block_drain(k->b);
    if (!c->quiet)
        printf("Run completed in %.3f seconds. (%.0f requests a second)\n", (host_clock_ns() - start) / 1e9,
               c->count * 1e9 / (host_clock_ns() - start));
    for (uint64_t i = 0; i < c->depth; i++)
        free(k->slots[i].iov.iov_base);
}

int img_bench(struct img *c)
{
    struct bench k = { .c = c, .next = c->offset, .left = c->count };
    g_autofree struct bench_slot *slots = g_new0(struct bench_slot, MAX(c->depth, 1));
    struct block_node *n;

    if (c->flush_interval && !c->write)
        error_set(&c->err, ERR_GENERIC, "--flush-interval is only available in write tests", NULL);
    else if (!c->size || !c->depth)
        error_set(&c->err, ERR_GENERIC, "size and depth are at least 1", NULL);
    n = error_is_set(&c->err) ? NULL : img_open(c, c->args[0], c->format, c->write, c->cache);
    if (!n)
        return img_fail(c, EXIT_BAD);
    k.size = n->size;
    k.slots = slots;
    c->step = c->step ? c->step : c->size;
    if (k.size < c->size || c->offset > k.size - c->size)
        error_set(&c->err, ERR_GENERIC, "the image is smaller than one request", NULL);
    else
        k.b = backend_open(c->graph, n, c->write, &c->err);
    if (k.b) {
        if (!c->quiet)
            printf("Sending %" PRIu64 " %s requests, %" PRIu64 " bytes each, %" PRIu64 " in parallel (%s %" PRIu64 ")\n", c->count,
                   c->write ? "write" : "read", c->size, c->depth, c->random ? "at random in" : "step",
                   c->random ? k.size : c->step);
        bench_run(&k, n);
        if (k.ret)
            error_set_errno(&c->err, -k.ret, NULL, "a request failed");
        backend_free(k.b);
    }
    node_unref(n);
    return error_is_set(&c->err) ? img_fail(c, EXIT_BAD) : 0;
}
