/* rhea-img convert, compare, bench: what moves data. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "block/backend.h"
#include "main/img.h"

enum { CHUNK = 2 << 20 };

static int fail(struct img *c, int code)
{
    error_report(&c->err);
    return code;
}

static void progress(struct img *c, uint64_t done, uint64_t all)
{
    static int last = -1;
    double percent = all ? done * 100.0 / all : 100;

    if (!c->progress || (int)(percent * 10) == last)
        return;
    last = percent * 10;
    printf("    (%3.2f/100%%)\r", percent);
    fflush(stdout);
}

/* ---- convert: workers take the next part of the source each, in turn, and write where it belongs */

struct convert {
    struct img *c;
    struct block_node *source, *target;
    struct co_mutex lock;
    uint64_t next, done, cluster;
    bool target_zero;           /* what is not written reads as zero */
    bool target_backing;        /* the target has the source's backing image */
    int workers, ret;
};

/* The next part: [*off, +*bytes) and its status; 0 bytes: the end. */
static int convert_next(struct convert *v, uint64_t *off, uint64_t *bytes)
{
    uint64_t map, size = v->source->size, limit = v->c->compress ? v->cluster : CHUNK;
    struct block_node *file;
    int status, depth;

    co_mutex_lock(&v->lock);
    *off = v->next;
    *bytes = 0;
    status = v->ret;
    if (!status && v->next < size) {
        status = node_status_above(v->source, v->next, size - v->next, bytes, &map, &file, &depth, true);
        if (status >= 0 && v->target_backing && depth > 0)
            status = -EAGAIN;   /* the backing image has it */
        else if (status >= 0 && (status & STATUS_ZERO))
            status = STATUS_ZERO;
        else if (status >= 0) {
            *bytes = MIN(*bytes, limit - *off % limit);
            status = STATUS_DATA;
        }
        if (v->c->compress && *bytes > v->cluster)      /* a compressed cluster is written whole */
            *bytes = *bytes & ~(v->cluster - 1);
        else if (v->c->compress)
            *bytes = MIN(v->cluster, size - *off), status = STATUS_DATA;
        v->next += *bytes;
    }
    co_mutex_unlock(&v->lock);
    return status;
}

static int write_data(struct convert *v, uint64_t off, uint8_t *buf, uint64_t bytes)
{
    if (v->c->compress)
        return buffer_is_zero(buf, bytes) && v->target_zero
                   ? 0
                   : node_pwrite_compressed(v->target, off, buf, bytes);
    return node_pwrite(v->target, off, buf, bytes);
}

/* Runs of zeroes of at least -S bytes are left out or written as zeroes. */
static int write_sparse(struct convert *v, uint64_t off, uint8_t *buf, uint64_t bytes)
{
    uint64_t grain = v->c->sparse, at = 0;
    int ret = 0;

    if (!grain || v->c->compress)
        return write_data(v, off, buf, bytes);
    while (at < bytes && !ret) {
        bool zero = buffer_is_zero(buf + at, MIN(grain, bytes - at));
        uint64_t end = at;

        while (end < bytes && buffer_is_zero(buf + end, MIN(grain, bytes - end)) == zero)
            end += MIN(grain, bytes - end);
        if (!zero)
            ret = node_pwrite(v->target, off + at, buf + at, end - at);
        else if (!v->target_zero)
            ret = node_write_zeroes(v->target, off + at, end - at, BLOCK_MAY_UNMAP);
        at = end;
    }
    return ret;
}

static int convert_part(struct convert *v, int status, uint64_t off, uint64_t bytes, uint8_t *buf)
{
    int ret;

    if (status == -EAGAIN)
        return 0;
    if (status == STATUS_ZERO)
        return v->target_zero ? 0 : node_write_zeroes(v->target, off, bytes, BLOCK_MAY_UNMAP);
    ret = node_pread(v->source, off, buf, bytes);
    return ret ? ret : write_sparse(v, off, buf, bytes);
}

static void convert_worker(void *arg)
{
    struct convert *v = arg;
    uint8_t *buf = node_buffer(v->target, CHUNK);
    uint64_t off, bytes;
    int status, ret = buf ? 0 : -ENOMEM;

    while (!ret) {
        status = convert_next(v, &off, &bytes);
        if (status < 0 && status != -EAGAIN)
            ret = status;
        if (ret || !bytes)
            break;
        ret = convert_part(v, status, off, bytes, buf);
        v->done += bytes;
        progress(v->c, v->done, v->source->size);
    }
    free(buf);
    if (ret && !v->ret)
        v->ret = ret;
    v->workers--;
}

static int convert_run(struct convert *v)
{
    co_mutex_init(&v->lock);
    v->workers = v->c->workers;
    for (int i = 0; i < v->c->workers; i++)
        coroutine_start(convert_worker, v);
    while (v->workers)
        loop_step(v->c->loop, true);
    if (v->c->progress)
        printf("    (100.00/100%%)\n");
    return v->ret;
}

static bool convert_create(struct convert *v, const char *name, const char *format)
{
    struct img *c = v->c;

    if (c->backing) {
        json_object_object_add(c->opts, "backing_file", json_object_new_string(c->backing));
        if (c->backing_format)
            json_object_object_add(c->opts, "backing_fmt", json_object_new_string(c->backing_format));
    }
    v->target_backing = option_str(c->opts, "backing_file", NULL) != NULL;
    return img_create_image(c, name, format, c->opts, v->source->size, true);
}

static bool convert_open(struct convert *v)
{
    struct img *c = v->c;
    const char *format = c->output_format ? c->output_format : "raw", *name = c->args[1];

    v->source = img_open(c, c->args[0], c->format, false, c->source_cache);
    if (!v->source)
        return false;
    if (!c->no_create && !convert_create(v, name, format)) {
        error_prepend(&c->err, "%s", name);
        return false;
    }
    c->image_opts = false;
    v->target = img_open(c, name, format, true, c->cache ? c->cache : "unsafe");
    if (!v->target)
        return false;
    if (v->target->size < v->source->size)
        return error_setf(&c->err, ERR_GENERIC, NULL, "'%s' is smaller than the source", name);
    if (c->compress && !v->target->drv->pwrite_compressed)
        return error_setf(&c->err, ERR_GENERIC, "use -O qcow2", "Compression not supported for this file format");
    v->target_zero = !c->no_create && !v->target_backing && v->target->file && v->target->file->zero_past_end;
    v->cluster = v->target->drv->cluster_size ? v->target->drv->cluster_size(v->target) : 65536;
    return true;
}

int img_convert(struct img *c)
{
    struct convert v = { .c = c };
    int ret = 0;

    if (c->nargs != 2) {
        error_set(&c->err, ERR_GENERIC, "convert takes a source and an output file",
                  "rhea-img convert -O qcow2 disk.raw disk.qcow2");
        return fail(c, 1);
    }
    if (convert_open(&v)) {
        ret = convert_run(&v);
        if (ret)
            error_set_errno(&c->err, -ret, NULL, "cannot convert '%s'", c->args[0]);
    }
    node_unref(v.target);
    node_unref(v.source);
    return error_is_set(&c->err) ? fail(c, 1) : 0;
}

/* ---- compare */

struct compare { struct img *c; struct block_node *a, *b; int64_t differs; int ret; };

static int compare_part(struct compare *k, uint64_t off, uint64_t bytes, uint8_t *x, uint8_t *y)
{
    int ret = node_pread(k->a, off, x, bytes);

    if (!ret)
        ret = node_pread(k->b, off, y, bytes);
    for (uint64_t i = 0; !ret && memcmp(x + i, y + i, MIN(512, bytes - i));) {
        k->differs = off + i;
        return 1;
    }
    for (uint64_t i = 512; !ret && i < bytes; i += 512) {
        if (memcmp(x + i, y + i, MIN(512, bytes - i))) {
            k->differs = off + i;
            return 1;
        }
    }
    return ret;
}

static void compare_run(void *arg)
{
    struct compare *k = arg;
    uint64_t all = MAX(k->a->size, k->b->size), la, lb, map, n;
    uint8_t *x = node_buffer(k->a, CHUNK), *y = node_buffer(k->b, CHUNK);
    struct block_node *file;
    int sa, sb, depth;

    k->ret = x && y ? 0 : -ENOMEM;
    for (uint64_t off = 0; off < all && !k->ret; off += n) {
        sa = node_status_above(k->a, off, all - off, &la, &map, &file, &depth, true);
        sb = node_status_above(k->b, off, all - off, &lb, &map, &file, &depth, true);
        n = MIN(la, lb);
        if (sa < 0 || sb < 0) {
            k->ret = sa < 0 ? sa : sb;
            break;
        }
        if (!((sa & STATUS_ZERO) && (sb & STATUS_ZERO))) {
            n = MIN(n, CHUNK);
            k->ret = compare_part(k, off, n, x, y);
        }
        progress(k->c, off + n, all);
    }
    free(x);
    free(y);
}

int img_compare(struct img *c)
{
    struct compare k = { .c = c };
    int ret = 2;

    if (c->nargs != 2) {
        error_set(&c->err, ERR_GENERIC, "compare takes two file names", "rhea-img compare a.raw b.qcow2");
        return fail(c, 2);
    }
    k.a = img_open(c, c->args[0], c->format, false, c->source_cache);
    k.b = k.a ? img_open(c, c->args[1], c->backing_format, false, c->source_cache) : NULL;
    if (k.b && c->strict && k.a->size != k.b->size) {
        printf("Strict mode: Image size mismatch!\n");
        ret = 1;
    } else if (k.b) {
        block_run(c->graph, compare_run, &k);
        if (k.ret < 0)
            error_set_errno(&c->err, -k.ret, NULL, "cannot compare");
        else
            ret = k.ret;
        if (!ret && !c->quiet && k.a->size != k.b->size)
            printf("Warning: Image size mismatch!\n");
        if (!ret && !c->quiet)
            printf("Images are identical.\n");
        else if (ret == 1 && !c->quiet)
            printf("Content mismatch at offset %" PRId64 "!\n", k.differs);
    }
    node_unref(k.a);
    node_unref(k.b);
    return error_is_set(&c->err) ? fail(c, 2) : ret;
}

/* ---- bench */

struct bench {
    struct img *c;
    struct block_backend *b;
    uint64_t next, size, started, left;
    int ret;
    struct iovec iov[1024];
};

struct bench_slot { struct bench *k; struct iovec *iov; };

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

    if (k->started == k->c->count) {
        return;
    }
    k->started++;
    if (k->c->write)
        block_writev(k->b, bench_offset(k), s->iov, 1, 0, bench_done, s);
    else
        block_readv(k->b, bench_offset(k), s->iov, 1, 0, bench_done, s);
}

static void bench_done(void *arg, int ret)
{
    struct bench_slot *s = arg;

    if (ret)
        s->k->ret = ret;
    s->k->left--;
    bench_go(s);
}

int img_bench(struct img *c)
{
    struct bench *k = g_new0(struct bench, 1);
    g_autofree struct bench_slot *slots = g_new0(struct bench_slot, c->depth);
    struct block_node *n = c->nargs == 1 ? img_open(c, c->args[0], c->format, c->write, c->cache) : NULL;
    int64_t start;

    if (!n || !(k->b = backend_open(c->graph, n, c->write, &c->err)))
        return fail(c, 1);
    c->step = c->step ? c->step : c->size;
    k->c = c;
    k->size = n->size;
    k->left = c->count;
    if (!c->size || k->size < c->size || !c->depth) {
        error_set(&c->err, ERR_GENERIC, "the image is smaller than one request", NULL);
        return fail(c, 1);
    }
    printf("Sending %" PRIu64 " %s requests, %" PRIu64 " bytes each, %" PRIu64 " in parallel (%s %" PRIu64 ")\n", c->count,
           c->write ? "write" : "read", c->size, c->depth, c->random ? "at random in" : "step",
           c->random ? k->size : c->step);
    start = host_clock_ns();
    for (uint64_t i = 0; i < c->depth; i++) {
        k->iov[i] = (struct iovec){ node_buffer(n, c->size), c->size };
        memset(k->iov[i].iov_base, 0x5a, c->size);
        slots[i] = (struct bench_slot){ k, &k->iov[i] };
    }
    for (uint64_t i = 0; i < c->depth; i++)
        bench_go(&slots[i]);
    while (k->left)
        loop_step(c->loop, true);
    printf("Run completed in %.3f seconds. (%.0f requests a second)\n", (host_clock_ns() - start) / 1e9,
           c->count * 1e9 / (host_clock_ns() - start));
    if (k->ret)
        error_set_errno(&c->err, -k->ret, NULL, "a request failed");
    for (uint64_t i = 0; i < c->depth; i++)
        free(k->iov[i].iov_base);
    backend_free(k->b);
    node_unref(n);
    g_free(k);
    return error_is_set(&c->err) ? fail(c, 1) : 0;
}
