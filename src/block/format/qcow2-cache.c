/* qcow2: tables in memory, and the order in which they reach the disk (qcow2.h, I1 to I3). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/format/qcow2.h"

enum { FREES_MAX = 4096 };

/* ---- the cache: a hash and a list by last use */

void meta_cache_init(struct meta_cache *c, uint32_t slice, unsigned limit)
{
    *c = (struct meta_cache){ .slice = slice, .limit = MAX(limit, 16) };
    for (c->buckets = 64; c->buckets < c->limit;)
        c->buckets *= 2;
    c->hash = g_new0(struct meta_entry *, c->buckets);
}

static struct meta_entry **meta_bucket(struct meta_cache *c, uint64_t offset)
{
    return &c->hash[(offset / c->slice * 0x9e3779b97f4a7c15ull >> 32) & (c->buckets - 1)];
}

static void lru_unlink(struct meta_cache *c, struct meta_entry *e)
{
    *(e->newer ? &e->newer->older : &c->newest) = e->older;
    *(e->older ? &e->older->newer : &c->oldest) = e->newer;
}

static void lru_push(struct meta_cache *c, struct meta_entry *e)
{
    e->newer = NULL;
    e->older = c->newest;
    *(c->newest ? &c->newest->newer : &c->oldest) = e;
    c->newest = e;
}

static bool meta_is_dirty(const struct meta_entry *e)
{
    return e->dirty_from < e->dirty_to;
}

static void meta_clean(struct meta_cache *c, struct meta_entry *e)
{
    if (meta_is_dirty(e))
        c->dirty--;
    e->dirty_from = UINT32_MAX;
    e->dirty_to = 0;
}

static void meta_remove(struct meta_cache *c, struct meta_entry *e)
{
    struct meta_entry **p = meta_bucket(c, e->offset);

    while (*p != e)
        p = &(*p)->hash_next;
    *p = e->hash_next;
    lru_unlink(c, e);
    meta_clean(c, e);
    c->count--;
    free(e->data);
    g_free(e);
}

void meta_cache_empty(struct meta_cache *c)
{
    while (c->newest)
        meta_remove(c, c->newest);
}

void meta_cache_free(struct meta_cache *c)
{
    meta_cache_empty(c);
    g_free(c->hash);
    c->hash = NULL;
}

struct meta_entry *meta_find(struct meta_cache *c, uint64_t offset)
{
    struct meta_entry *e = *meta_bucket(c, offset);

    while (e && e->offset != offset)
        e = e->hash_next;
    if (e && c->newest != e) {
        lru_unlink(c, e);
        lru_push(c, e);
    }
    return e;
}

/* Makes room, as far as clean entries that nobody uses allow; what is dirty stays until a flush. */
static void meta_evict(struct meta_cache *c)
{
    struct meta_entry *e = c->oldest, *newer;
    unsigned look = 64;

    for (; e && c->count >= c->limit && look; e = newer, look--) {
        newer = e->newer;
        if (!e->pins && !e->loading && !meta_is_dirty(e))
            meta_remove(c, e);
    }
}

static struct meta_entry *meta_insert(struct qcow2 *q, struct meta_cache *c, uint64_t offset)
{
    struct meta_entry *e, **bucket;
    void *data;

    meta_evict(c);
    data = node_buffer(q->file, c->slice);
    if (!data)
        return NULL;
    e = g_new0(struct meta_entry, 1);
    *e = (struct meta_entry){ .offset = offset, .data = data, .pins = 1, .loading = true, .dirty_from = UINT32_MAX };
    bucket = meta_bucket(c, offset);
    e->hash_next = *bucket;
    *bucket = e;
    lru_push(c, e);
    c->count++;
    return e;
}

int meta_get(struct qcow2 *q, struct meta_cache *c, uint64_t offset, bool keep_lock, struct meta_entry **out)
{
    struct meta_entry *e;
    int ret;

    while ((e = meta_find(c, offset)) && e->loading)
        co_queue_wait(&q->loads, &q->lock);
    if (e) {
        e->pins++;
        *out = e;
        return 0;
    }
    e = meta_insert(q, c, offset);
    if (!e)
        return -ENOMEM;
    if (!keep_lock)
        co_mutex_unlock(&q->lock);
    ret = node_pread(q->file, offset, e->data, c->slice);
    if (!keep_lock)
        co_mutex_lock(&q->lock);
    e->loading = false;
    co_queue_wake_all(&q->loads);
    if (ret) {
        e->pins--;
        meta_remove(c, e);
        return ret;
    }
    *out = e;
    return 0;
}

void meta_dirty(struct meta_cache *c, struct meta_entry *e, uint32_t from, uint32_t bytes)
{
    if (!meta_is_dirty(e))
        c->dirty++;
    e->dirty_from = MIN(e->dirty_from, from);
    e->dirty_to = MAX(e->dirty_to, from + bytes);
}

void meta_drop(struct meta_cache *c, uint64_t offset, uint64_t bytes)
{
    for (uint64_t o = offset; o < offset + bytes; o += c->slice) {
        struct meta_entry *e = meta_find(c, o);

        if (!e)
            continue;
        meta_clean(c, e);
        if (!e->pins && !e->loading)
            meta_remove(c, e);
    }
}

/* ---- epochs: which requests may still use a place that was freed */

unsigned qcow2_epoch_begin(struct qcow2 *q)
{
    unsigned e = atomic_load_explicit(&q->epoch, memory_order_relaxed);

    atomic_fetch_add(&q->epochs[e].in_flight, 1);
    return e;
}

void qcow2_epoch_end(void *arg)
{
    struct qcow2_epoch *e = arg;
    struct qcow2 *q = e->q;
    struct coroutine *co;

    if (atomic_fetch_sub(&e->in_flight, 1) != 1 || e == &q->epochs[atomic_load(&q->epoch)])
        return;
    co = atomic_exchange(&q->epoch_waiter, NULL);
    if (co)
        coroutine_wake(co);
}

/* Waits for the requests of the epoch before the current one. Whoever takes epoch_waiter must wake, or needs not. */
static void epoch_wait(struct qcow2 *q, unsigned old)
{
    atomic_store(&q->epoch_waiter, coroutine_self());
    if (atomic_load(&q->epochs[old].in_flight) || !atomic_exchange(&q->epoch_waiter, NULL))
        coroutine_yield();
}

void qcow2_epoch_drain(struct qcow2 *q)
{
    for (int i = 0; i < 2; i++) {
        unsigned old = atomic_load(&q->epoch);

        atomic_store(&q->epoch, !old);
        epoch_wait(q, old);
    }
}

/* ---- requests, and who must be alone */

static void exclusive_wake(struct qcow2 *q)
{
    co_mutex_lock(&q->lock);
    co_queue_wake_all(&q->exclusive_waiters);
    co_mutex_unlock(&q->lock);
}

/* Counted before `exclusive` is looked at: who sets that waits for the count to fall. */
void qcow2_request_begin(struct qcow2 *q)
{
    for (;;) {
        atomic_fetch_add(&q->requests, 1);
        if (!atomic_load(&q->exclusive))
            return;
        qcow2_request_end(q);
        co_mutex_lock(&q->lock);
        if (atomic_load(&q->exclusive))
            co_queue_wait(&q->exclusive_waiters, &q->lock);
        co_mutex_unlock(&q->lock);
    }
}

void qcow2_request_end(struct qcow2 *q)
{
    if (atomic_fetch_sub(&q->requests, 1) == 1 && atomic_load(&q->exclusive))
        exclusive_wake(q);
}

void qcow2_exclusive_begin(struct qcow2 *q)
{
    co_mutex_lock(&q->lock);
    while (atomic_load(&q->exclusive))
        co_queue_wait(&q->exclusive_waiters, &q->lock);
    atomic_store(&q->exclusive, true);
    while (atomic_load(&q->requests))
        co_queue_wait(&q->exclusive_waiters, &q->lock);
    co_mutex_unlock(&q->lock);
}

void qcow2_exclusive_end(struct qcow2 *q)
{
    atomic_store(&q->exclusive, false);
    exclusive_wake(q);
}

/* ---- writing it all */

struct piece { struct meta_entry *e; uint64_t offset; uint32_t from, bytes; uint8_t *data; };

struct snapshot_of_dirt {
    GArray *l2, *refblocks;     /* of struct piece */
    uint64_t *l1;               /* copy of the dirty entries, big-endian */
    uint32_t l1_from, l1_to;
    GArray *frees;
    unsigned old_epoch;
};

/* Copies what is dirty, in whole sectors, and calls it clean. The entries stay pinned: what is on disk is stale. */
static GArray *dirt_take(struct qcow2 *q, struct meta_cache *c)
{
    GArray *list = g_array_new(FALSE, FALSE, sizeof(struct piece));

    for (struct meta_entry *e = c->newest; e && c->dirty; e = e->older) {
        struct piece p = { .e = e };

        if (!meta_is_dirty(e))
            continue;
        p.from = e->dirty_from & ~511u;
        p.bytes = MIN((e->dirty_to + 511) & ~511u, c->slice) - p.from;
        p.offset = e->offset + p.from;
        p.data = node_buffer(q->file, p.bytes);
        if (!p.data)
            continue;           /* stays dirty; the flush fails */
        memcpy(p.data, e->data + p.from, p.bytes);
        e->pins++;
        meta_clean(c, e);
        g_array_append_val(list, p);
    }
    return list;
}

static void dirt_release(struct meta_cache *c, GArray *list, bool failed)
{
    for (unsigned i = 0; i < list->len; i++) {
        struct piece *p = &g_array_index(list, struct piece, i);

        if (failed)
            meta_dirty(c, p->e, p->from, p->bytes);
        meta_put(p->e);
        free(p->data);
    }
    g_array_free(list, TRUE);
}

static int dirt_write(struct qcow2 *q, GArray *list)
{
    int ret = 0;

    for (unsigned i = 0; i < list->len && !ret; i++) {
        struct piece *p = &g_array_index(list, struct piece, i);

        ret = node_pwrite(q->file, p->offset, p->data, p->bytes);
    }
    return ret;
}

static void l1_take(struct qcow2 *q, struct snapshot_of_dirt *s)
{
    s->l1_from = q->l1_dirty_from;
    s->l1_to = q->l1_dirty_to;
    if (s->l1_from >= s->l1_to)
        return;
    s->l1 = g_new(uint64_t, s->l1_to - s->l1_from);
    for (uint32_t i = s->l1_from; i < s->l1_to; i++)
        s->l1[i - s->l1_from] = GUINT64_TO_BE(q->l1[i]);
    q->l1_dirty_from = UINT32_MAX;
    q->l1_dirty_to = 0;
}

static int barrier(struct qcow2 *q)
{
    int ret = q->data == q->file ? 0 : node_flush(q->data);

    return ret ? ret : node_flush(q->file);
}

static int dirt_write_all(struct qcow2 *q, struct snapshot_of_dirt *s)
{
    int ret = dirt_write(q, s->refblocks);

    if (!ret && (s->l2->len || s->l1))
        ret = barrier(q);
    if (!ret)
        ret = dirt_write(q, s->l2);
    if (!ret && s->l1) {
        ret = barrier(q);
        if (!ret)
            ret = node_pwrite(q->file, q->l1_offset + s->l1_from * 8ull, s->l1, (s->l1_to - s->l1_from) * 8ull);
    }
    if (!ret && s->frees)
        ret = barrier(q);
    return ret;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Refcounts fall; what nobody uses any more is given back to the host in runs. */
static void frees_apply(struct qcow2 *q, GArray *frees)
{
    g_autoptr(GArray) gone = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    uint64_t value;

    co_mutex_lock(&q->lock);
    for (unsigned i = 0; i < frees->len; i++) {
        uint64_t offset = g_array_index(frees, uint64_t, i);

        if (qcow2_refcount_add(q, offset, 1, -1) ||
            qcow2_refcount_get(q, offset >> q->cluster_bits, &value) || value)
            continue;
        g_array_append_val(gone, offset);
    }
    q->inflated_entry = 0;
    if (!q->node->discard || q->keep_discards || !gone->len) {
        co_mutex_unlock(&q->lock);
        return;
    }
    /* under the lock: the clusters may be given to another as soon as it is free */
    g_array_sort(gone, compare_u64);
    for (unsigned i = 0, n; i < gone->len; i += n) {
        uint64_t first = g_array_index(gone, uint64_t, i);

        for (n = 1; i + n < gone->len && g_array_index(gone, uint64_t, i + n) == first + n * q->cluster_size; n++)
            ;
        node_discard(q->file, first, n * q->cluster_size);
    }
    co_mutex_unlock(&q->lock);
}

static bool qcow2_is_dirty(const struct qcow2 *q)
{
    return q->l2.dirty || q->refblocks.dirty || q->l1_dirty_from < q->l1_dirty_to || q->frees->len;
}

int qcow2_flush_cache(struct block_node *n)
{
    struct qcow2 *q = n->state;
    struct snapshot_of_dirt s = { 0 };
    int ret;

    co_mutex_lock(&q->flush_lock);
    co_mutex_lock(&q->lock);
    if (!qcow2_is_dirty(q)) {
        co_mutex_unlock(&q->lock);
        co_mutex_unlock(&q->flush_lock);
        return 0;
    }
    s.refblocks = dirt_take(q, &q->refblocks);
    s.l2 = dirt_take(q, &q->l2);
    l1_take(q, &s);
    if (q->frees->len) {
        s.frees = q->frees;
        q->frees = g_array_new(FALSE, FALSE, sizeof(uint64_t));
        s.old_epoch = atomic_load(&q->epoch);
        atomic_store(&q->epoch, !s.old_epoch);
    }
    ret = q->refblocks.dirty || q->l2.dirty ? -ENOMEM : 0;
    co_mutex_unlock(&q->lock);

    if (!ret)
        ret = dirt_write_all(q, &s);
    if (s.frees)
        epoch_wait(q, s.old_epoch);

    co_mutex_lock(&q->lock);
    dirt_release(&q->refblocks, s.refblocks, ret != 0);
    dirt_release(&q->l2, s.l2, ret != 0);
    if (ret && s.l1) {
        q->l1_dirty_from = MIN(q->l1_dirty_from, s.l1_from);
        q->l1_dirty_to = MAX(q->l1_dirty_to, s.l1_to);
    }
    if (ret && s.frees)
        g_array_append_vals(q->frees, s.frees->data, s.frees->len);
    co_mutex_unlock(&q->lock);
    if (!ret && s.frees)
        frees_apply(q, s.frees);
    if (s.frees)
        g_array_free(s.frees, TRUE);
    g_free(s.l1);
    co_mutex_unlock(&q->flush_lock);
    return ret;
}

int qcow2_throttle(struct qcow2 *q)
{
    bool much;

    co_mutex_lock(&q->lock);
    much = q->l2.dirty >= q->l2.limit / 2 || q->refblocks.dirty >= q->refblocks.limit / 2 ||
           q->frees->len >= FREES_MAX;
    co_mutex_unlock(&q->lock);
    return much ? qcow2_flush_cache(q->node) : 0;
}
