/* Tables of an image file in memory: pages, least recently used first out, changed sectors written back. */
#include <errno.h>
#include "block/format/image.h"

enum { PAGE = 16384, SECTOR = 512, PAGES_MAX = 2048 };          /* 32 MiB */

struct page {
    uint64_t number;
    uint32_t dirty;             /* a bit a sector */
    struct page *prev, *next;   /* by use */
    uint8_t data[PAGE];
};

struct table_cache {
    struct block_node *file;
    struct co_mutex lock;
    GHashTable *pages;          /* &number -> struct page */
    struct page *newest, *oldest;
    unsigned count, dirty;      /* pages; those of them that changed */
    int (*log)(void *opaque, const struct table_change *c, unsigned n);
    void *opaque;
};

struct table_cache *table_new(struct block_node *file)
{
    struct table_cache *t = g_new0(struct table_cache, 1);

    t->file = file;
    t->pages = g_hash_table_new(g_int64_hash, g_int64_equal);
    co_mutex_init(&t->lock);
    return t;
}

void table_set_log(struct table_cache *t, int (*log)(void *opaque, const struct table_change *c, unsigned n), void *opaque)
{
    t->log = log;
    t->opaque = opaque;
}

static void page_unlink(struct table_cache *t, struct page *p)
{
    *(p->prev ? &p->prev->next : &t->newest) = p->next;
    *(p->next ? &p->next->prev : &t->oldest) = p->prev;
}

static void page_link(struct table_cache *t, struct page *p)
{
    p->prev = NULL;
    p->next = t->newest;
    *(t->newest ? &t->newest->prev : &t->oldest) = p;
    t->newest = p;
}

static void page_drop(struct table_cache *t, struct page *p)
{
    page_unlink(t, p);
    g_hash_table_remove(t->pages, &p->number);
    t->dirty -= p->dirty != 0;
    t->count--;
    g_free(p);
}

void table_forget(struct table_cache *t)
{
    while (t->oldest)
        page_drop(t, t->oldest);
}

void table_free(struct table_cache *t)
{
    if (!t)
        return;
    table_forget(t);
    g_hash_table_destroy(t->pages);
    g_free(t);
}

static int page_write(struct table_cache *t, struct page *p)
{
    for (unsigned s = 0, e; s < PAGE / SECTOR; s = e) {
        int ret;

        for (e = s; e < PAGE / SECTOR && (p->dirty >> e & 1); e++)
            ;
        if (e == s) {
            e++;
            continue;
        }
        ret = node_pwrite(t->file, p->number * PAGE + s * SECTOR, p->data + s * SECTOR, (e - s) * SECTOR);
        if (ret)
            return ret;
    }
    t->dirty -= p->dirty != 0;
    p->dirty = 0;
    return 0;
}

/* Some changes: to the log, then to their places. */
static int flush_some_logged(struct table_cache *t)
{
    enum { UNITS = PAGE / TABLE_UNIT, UNIT_MASK = (1 << TABLE_UNIT / SECTOR) - 1 };
    struct table_change c[TABLE_LOG_MAX] = { 0 };
    struct page *pages[TABLE_LOG_MAX] = { 0 };
    unsigned n = 0;
    int ret;

    for (struct page *p = t->oldest; p; p = p->prev)
        for (unsigned u = 0; u < UNITS && p->dirty && n < TABLE_LOG_MAX; u++) {
            if (!(p->dirty >> u * TABLE_UNIT / SECTOR & UNIT_MASK))
                continue;
            c[n] = (struct table_change){ p->number * PAGE + u * TABLE_UNIT, p->data + u * TABLE_UNIT };
            pages[n++] = p;
        }
    ret = t->log(t->opaque, c, n);
    for (unsigned i = 0; i < n && !ret; i++) {
        ret = node_pwrite(t->file, c[i].off, c[i].data, TABLE_UNIT);
        if (!ret)
            pages[i]->dirty &= ~((uint32_t)UNIT_MASK << c[i].off % PAGE / SECTOR);
        t->dirty -= !ret && !pages[i]->dirty;
    }
    return ret ? ret : node_flush(t->file);
}

static int flush_locked(struct table_cache *t, bool ordered)
{
    int ret = 0;

    while (t->log && t->dirty && !ret)
        ret = flush_some_logged(t);
    if (t->log)
        return ret;
    ret = t->dirty && ordered ? node_flush(t->file) : 0;

    for (struct page *p = t->oldest; p && !ret && t->dirty; p = p->prev)
        if (p->dirty)
            ret = page_write(t, p);
    return ret;
}

int table_flush(struct table_cache *t, bool ordered)
{
    int ret;

    co_mutex_lock(&t->lock);
    ret = flush_locked(t, ordered);
    co_mutex_unlock(&t->lock);
    return ret;
}

static int page_get(struct table_cache *t, uint64_t number, struct page **out)
{
    struct page *p = g_hash_table_lookup(t->pages, &number);
    int ret = 0;

    if (p && p != t->newest) {
        page_unlink(t, p);
        page_link(t, p);
    }
    *out = p;
    if (p)
        return 0;
    if (t->count >= PAGES_MAX) {
        if (t->oldest->dirty)
            ret = flush_locked(t, true);
        if (ret)
            return ret;
        page_drop(t, t->oldest);
    }
    p = g_new0(struct page, 1);
    p->number = number;
    ret = node_pread(t->file, number * PAGE, p->data, PAGE);
    if (ret) {
        g_free(p);
        return ret;
    }
    g_hash_table_insert(t->pages, &p->number, p);
    page_link(t, p);
    t->count++;
    *out = p;
    return 0;
}

static int table_access(struct table_cache *t, uint64_t off, uint8_t *in, const uint8_t *out, unsigned bytes)
{
    int ret = 0;

    if (off > INT64_MAX - PAGE - bytes)
        return -EIO;
    co_mutex_lock(&t->lock);
    for (unsigned done = 0, n; done < bytes && !ret; done += n) {
        unsigned at = (off + done) % PAGE;
        struct page *p;

        n = MIN(bytes - done, PAGE - at);
        ret = page_get(t, (off + done) / PAGE, &p);
        if (ret)
            break;
        if (in) {
            memcpy(in + done, p->data + at, n);
            continue;
        }
        memcpy(p->data + at, out + done, n);
        t->dirty += p->dirty == 0;
        for (unsigned s = at / SECTOR; s <= (at + n - 1) / SECTOR; s++)
            p->dirty |= 1u << s;
    }
    co_mutex_unlock(&t->lock);
    return ret;
}

int table_read(struct table_cache *t, uint64_t off, void *buf, unsigned bytes)
{
    return table_access(t, off, buf, NULL, bytes);
}

int table_write(struct table_cache *t, uint64_t off, const void *buf, unsigned bytes)
{
    return table_access(t, off, NULL, buf, bytes);
}
