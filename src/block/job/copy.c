/* Copying from node to node, several pieces at once, and locks on the ranges that are being copied. */
#include <errno.h>
#include <stdlib.h>
#include "block/job/job.h"

/* ---- ranges */

struct range { uint64_t off, end; bool shared; };

void range_lock_init(struct range_lock *l)
{
    co_mutex_init(&l->mutex);
    co_queue_init(&l->queue);
    g_queue_init(&l->ranges);
}

/* In order of arrival: whoever came before and overlaps, be it that he waits himself, goes first. */
static bool range_free(const struct range_lock *l, const struct range *r)
{
    for (GList *at = l->ranges.head; at->data != r; at = at->next) {
        const struct range *o = at->data;

        if (o->off < r->end && r->off < o->end && !(o->shared && r->shared))
            return false;
    }
    return true;
}

void range_lock(struct range_lock *l, uint64_t off, uint64_t bytes, bool shared)
{
    struct range *r = g_new(struct range, 1);

    *r = (struct range){ off, off + bytes, shared };
    co_mutex_lock(&l->mutex);
    g_queue_push_tail(&l->ranges, r);
    while (!range_free(l, r))
        co_queue_wait(&l->queue, &l->mutex);
    co_mutex_unlock(&l->mutex);
}

void range_unlock(struct range_lock *l, uint64_t off, uint64_t bytes, bool shared)
{
    co_mutex_lock(&l->mutex);
    for (GList *at = l->ranges.head; at; at = at->next) {   /* of those alike, the first has it */
        struct range *r = at->data;

        if (r->off == off && r->end == off + bytes && r->shared == shared) {
            g_queue_delete_link(&l->ranges, at);
            g_free(r);
            break;
        }
    }
    co_mutex_unlock(&l->mutex);
    co_queue_wake_all(&l->queue);
}

/* ---- chains */

int chain_allocated(struct block_node *top, struct block_node *base, uint64_t off, uint64_t bytes, uint64_t *n)
{
    *n = bytes;
    for (struct block_node *at = top; at && at != base; at = at->drv->kind == DRIVER_FILTER ? at->file : at->backing) {
        struct block_node *file;
        uint64_t map, len;
        int ret;

        if (at->drv->kind == DRIVER_FILTER && at->file)
            continue;
        ret = node_block_status(at, off, *n, &len, &map, &file);
        if (ret < 0)
            return ret;
        if (ret & STATUS_ALLOCATED) {           /* the end of a short image, too: what is below does not show there */
            *n = len;
            return 1;
        }
        *n = MIN(*n, len);
    }
    return 0;
}

/* ---- copying */

static int copy_data(struct block_node *src, struct block_node *dst, uint64_t off, uint64_t bytes, unsigned flags, bool *read)
{
    void *buf = node_buffer(src->limits.mem_align > dst->limits.mem_align ? src : dst, bytes);
    struct iovec iov = { buf, bytes };
    int ret = buf ? node_preadv(src, off, bytes, &iov, 1) : -ENOMEM;

    *read = true;
    if (!ret) {
        *read = false;
        if (flags & COPY_COMPRESS)
            ret = node_pwrite_compressed(dst, off, buf, bytes);
        else
            ret = node_pwritev(dst, off, bytes, &iov, 1, flags & COPY_UNCHANGED ? BLOCK_UNCHANGED : 0);
    }
    free(buf);
    return ret;
}

/* Whether dst itself has zeroes there already: a fresh image stays small. *len is cut to what is alike. */
static bool reads_zero(struct block_node *dst, uint64_t off, uint64_t *len)
{
    struct block_node *file;
    uint64_t map, n;
    int ret = node_block_status(dst, off, *len, &n, &map, &file);

    if (ret < 0)
        return false;
    *len = MIN(*len, n);
    return ret & STATUS_ZERO;
}

static unsigned zero_flags(unsigned flags)
{
    return (flags & COPY_UNMAP ? BLOCK_MAY_UNMAP : 0) | (flags & COPY_UNCHANGED ? BLOCK_UNCHANGED : 0) |
           (flags & COPY_SKIP_ZERO ? 0 : BLOCK_EXPLICIT);
}

int block_copy(struct block_node *src, struct block_node *dst, uint64_t off, uint64_t bytes, unsigned flags, bool *read)
{
    uint64_t len;
    int ret = 0;

    for (uint64_t end = off + bytes; off < end && !ret; off += len) {
        struct block_node *file;
        uint64_t map;
        int depth, status = node_status_above(src, off, end - off, &len, &map, &file, &depth, true);

        *read = true;
        if (status < 0)
            return status;
        if ((flags & COPY_COMPRESS) && len < end - off)         /* a compressed cluster is written whole, once */
            status &= ~STATUS_ZERO;
        if (status & STATUS_ZERO) {
            *read = false;
            ret = (flags & COPY_SKIP_ZERO) && reads_zero(dst, off, &len) ? 0 : node_write_zeroes(dst, off, len, zero_flags(flags));
            continue;
        }
        len = flags & COPY_COMPRESS ? end - off : MIN(len, COPY_CHUNK);
        ret = copy_data(src, dst, off, len, flags, read);
    }
    return ret;
}

/* ---- several at once */

void copy_pool_init(struct copy_pool *p, struct job *j, unsigned max)
{
    *p = (struct copy_pool){ .job = j, .max = max };
}

void copy_pool_start(struct copy_pool *p, void (*fn)(void *arg), void *arg)
{
    while (p->running >= p->max)
        job_wait(p->job);
    p->running++;
    coroutine_start(fn, arg);
}

void copy_pool_done(struct copy_pool *p, int ret, bool read)
{
    if (ret && !p->ret) {
        p->ret = ret;
        p->read = read;
    }
    p->running--;
    job_wake(p->job);
}

int copy_pool_wait(struct copy_pool *p, bool *read)
{
    int ret;

    while (p->running)
        job_wait(p->job);
    ret = p->ret;
    *read = p->read;
    p->ret = 0;
    return ret;
}
