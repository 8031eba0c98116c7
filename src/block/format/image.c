/* Helpers of image formats: new files, identifiers, geometry; requests over a map of blocks. */
#include "block/format/image.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/random.h>
#include <zlib.h>
#include "block/aio.h"
#include "rhea/base/options.h"

enum { STATUS_STEPS = 4096 };

/* ---- new files */

struct block_node *image_create_file(const char *filename, struct error *err)
{
    struct json_object *empty = json_object_new_object(), *opts = NULL;
    struct block_graph *g = block_graph_new(NULL, loop_current());
    struct block_node *file = NULL;

    if (block_create_file(g, filename, empty, err) && (opts = block_file_options(filename, err)))
        file = node_open(g, opts, err);
    if (file && !node_hold(file, true, false, err)) {
        node_unref(file);
        file = NULL;
    }
    if (!file)
        block_graph_free(g);
    json_object_put(opts);
    json_object_put(empty);
    return file;
}

void image_close_file(struct block_node *file)
{
    struct block_graph *g = file->graph;

    node_release(file, true);
    node_unref(file);
    block_graph_free(g);
}

bool image_create_size(struct json_object *opts, const char *format, uint64_t max, uint64_t *size, struct error *err)
{
    if (!option_size(opts, "size", 0, size, err))
        return false;
    if (*size > max)
        return error_setf(err, ERR_GENERIC, "qcow2 and raw hold larger ones",
                          "%s images hold %" PRIu64 " bytes at most", format, max);
    *size = round_up(*size, 512);
    return true;
}

static void random_bytes(void *buf, size_t len)
{
    if (getrandom(buf, len, 0) != (ssize_t)len)         /* cannot happen for so few */
        for (size_t i = 0; i < len; i++)
            ((uint8_t *)buf)[i] = g_random_int();
}

void image_random_uuid(uint8_t uuid[16])
{
    random_bytes(uuid, 16);
    uuid[6] = (uuid[6] & 0x0f) | 0x40;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
}

void image_random_guid(uint8_t guid[16])
{
    random_bytes(guid, 16);
    guid[7] = (guid[7] & 0x0f) | 0x40;
    guid[8] = (guid[8] & 0x3f) | 0x80;
}

int image_choice(struct json_object *opts, const char *key, const char *const *words, struct error *err)
{
    const char *word = option_str(opts, key, words[0]);
    g_autofree char *hint = NULL, *list = NULL;

    for (int i = 0; words[i]; i++)
        if (!g_ascii_strcasecmp(words[i], word))
            return i;
    list = g_strjoinv(", ", (char **)words);
    hint = g_strdup_printf("there are: %s", list);
    error_setf(err, ERR_GENERIC, hint, "unknown %s '%s'", key, word);
    return -1;
}

struct image_geometry image_geometry(uint64_t size)
{
    uint64_t cylinders = size / 512 / (16 * 63);

    return (struct image_geometry){ CLAMP(cylinders, 2, 16383), 16, 63 };
}

bool image_corrupt(struct error *err, const char *format, const char *fmt, ...)
{
    g_autofree char *what = NULL;
    va_list ap;

    va_start(ap, fmt);
    what = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return error_setf(err, ERR_GENERIC, "the file is damaged, or not what its name says", "invalid %s image: %s", format,
                      what);
}

int image_fresh(struct block_node *file, uint64_t off, uint64_t bytes)
{
    uint64_t size = file->size, inside = !file->zero_past_end ? bytes : off < size ? MIN(bytes, size - off) : 0;
    int ret = inside ? node_write_zeroes(file, off, inside, 0) : 0;

    if (!ret && file->drv->growable && off + bytes > file->size)
        ret = node_truncate(file, off + bytes, NULL);
    return ret == -ENOTSUP ? 0 : ret;
}

bool image_read_only(struct block_node *n, struct error *err)
{
    if (!n->read_only && !n->auto_read_only)
        return error_setf(err, ERR_GENERIC, "add read-only=on", "%s images are only read", n->drv->name);
    n->read_only = true;
    return true;
}

struct block_node *image_open_child(struct block_node *n, struct json_object *opts, const char *role, struct error *err)
{
    bool writable = !n->read_only;
    struct block_node *child = node_open_child(n, opts, role, err);

    if (!child || n->read_only == !writable)
        return child;
    error_setf(err, ERR_GENERIC, "open the image with read-only=on", "'%s' (%s) is read-only", child->filename, role);
    image_close_child(n, child);
    n->read_only = false;       /* as which it holds its file */
    return NULL;
}

void image_close_child(struct block_node *n, struct block_node *child)
{
    if (!child)
        return;
    node_release(child, !n->read_only);
    node_unref(child);
}

int64_t image_allocated_size(struct block_node *n)
{
    int64_t used = n->file && n->file->drv->allocated_size ? n->file->drv->allocated_size(n->file) : -ENOTSUP;
    struct block_node *child;

    for (unsigned i = 0; used >= 0 && n->drv->child && (child = n->drv->child(n, i)); i++)
        used += child->drv->allocated_size ? MAX(child->drv->allocated_size(child), 0) : 0;
    return used;
}

uint32_t image_crc32c(uint32_t crc, const void *buf, size_t len)
{
    static uint32_t table[256];
    static gsize once;
    const uint8_t *p = buf;

    if (g_once_init_enter(&once)) {
        for (unsigned i = 0; i < 256; i++) {
            table[i] = i;
            for (unsigned k = 0; k < 8; k++)
                table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78 : 0);     /* the polynomial, bits reversed */
        }
        g_once_init_leave(&once, 1);
    }
    crc = ~crc;
    while (len--)
        crc = crc >> 8 ^ table[(crc ^ *p++) & 0xff];
    return ~crc;
}

/* ---- block maps */

void blockmap_init(struct blockmap *m, const struct blockmap_ops *ops)
{
    m->ops = ops;
    co_mutex_init(&m->lock);
    co_mutex_init(&m->last_lock);
}

void blockmap_clear(struct blockmap *m)
{
    g_clear_pointer(&m->last, g_free);
}

/* find(), with what it must hold to */
static int place_find(struct block_node *n, uint64_t off, struct place *p)
{
    struct blockmap *m = n->state;
    int ret;

    *p = (struct place){ .file = n->file };
    ret = m->ops->find(n, off, p);
    if (!ret && (off < p->start || off >= p->end))
        return -EIO;
    return ret;
}

struct inflate { const void *in; uint64_t in_bytes; void *out; uint64_t out_bytes; bool longer_ok; };

static int inflate_job(void *arg)
{
    struct inflate *j = arg;
    uLongf len = j->out_bytes;
    int z = uncompress(j->out, &len, j->in, j->in_bytes);

    return (z == Z_OK && len == j->out_bytes) || (z == Z_BUF_ERROR && j->longer_ok && len == j->out_bytes) ? 0 : -EIO;
}

int inflate_block(const void *in, uint64_t in_bytes, void *out, uint64_t out_bytes, bool longer_ok)
{
    struct inflate j = { in, in_bytes, out, out_bytes, longer_ok };

    return pool_run(inflate_job, &j);
}

static bool last_copy(struct blockmap *m, const struct place *p, uint64_t off, uint64_t bytes, const struct iovec *iov,
                      int niov)
{
    bool hit;

    co_mutex_lock(&m->last_lock);
    hit = m->last && m->last_start == p->start && m->last_end == p->end;
    if (hit)
        iov_write(iov, niov, 0, m->last + (off - p->start), bytes);
    co_mutex_unlock(&m->last_lock);
    return hit;
}

static int read_packed(struct block_node *n, const struct place *p, uint64_t off, uint64_t bytes,
                       const struct iovec *iov, int niov)
{
    struct blockmap *m = n->state;
    uint64_t packed = m->packed;
    uint8_t *buf;
    int ret;

    if (last_copy(m, p, off, bytes, iov, niov))
        return 0;
    buf = g_try_malloc(p->end - p->start);
    ret = buf ? m->ops->unpack(n, p, buf) : -ENOMEM;
    if (!ret) {
        iov_write(iov, niov, 0, buf + (off - p->start), bytes);
        co_mutex_lock(&m->last_lock);
        if (packed == m->packed) {              /* it cannot have been replaced meanwhile */
            uint8_t *old = m->last;

            m->last = buf;
            m->last_start = p->start;
            m->last_end = p->end;
            buf = old;
        }
        co_mutex_unlock(&m->last_lock);
    }
    g_free(buf);
    return ret;
}

/* New contents of a block, and the old ones forgotten. */
static int write_packed(struct block_node *n, const struct place *p, const uint8_t *buf)
{
    struct blockmap *m = n->state;
    int ret = m->ops->pack(n, p, buf);

    co_mutex_lock(&m->last_lock);
    m->packed++;
    g_clear_pointer(&m->last, g_free);
    co_mutex_unlock(&m->last_lock);
    return ret;
}

static int read_place(struct block_node *n, const struct place *p, uint64_t off, uint64_t bytes,
                      const struct iovec *iov, int niov)
{
    switch (p->kind) {
    case PLACE_DATA: return node_preadv(p->file, p->host + (off - p->start), bytes, iov, niov);
    case PLACE_PACKED: return read_packed(n, p, off, bytes, iov, niov);
    case PLACE_ABSENT:
        if (n->backing)
            return node_preadv(n->backing, off, bytes, iov, niov);
        /* fall through */
    default: iov_zero(iov, niov, 0, bytes); return 0;
    }
}

int blockmap_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    g_autofree struct iovec *part = g_new(struct iovec, niov);
    struct place p;

    for (uint64_t done = 0, chunk; done < bytes; done += chunk) {
        int ret = place_find(n, off + done, &p);

        if (ret)
            return ret;
        chunk = MIN(bytes - done, p.end - (off + done));
        ret = read_place(n, &p, off + done, chunk, part, iov_slice(part, iov, niov, done, chunk));
        if (ret)
            return ret;
    }
    return 0;
}

/* The whole block with the new bytes over what was there, written to its new place. iov NULL: zeroes. */
static int write_merged(struct block_node *n, const struct place *old, const struct place *new, uint64_t off,
                        uint64_t bytes, const struct iovec *iov, int niov)
{
    uint64_t len = new->end - new->start;
    struct iovec one = { g_try_malloc(len), len };
    g_autofree uint8_t *buf = one.iov_base;
    int ret = buf ? 0 : -ENOMEM;

    if (!ret && bytes < len)
        ret = read_place(n, old, new->start, len, &one, 1);
    if (ret)
        return ret;
    if (iov)
        iov_read(iov, niov, 0, buf + (off - new->start), bytes);
    else
        memset(buf + (off - new->start), 0, bytes);
    return new->kind == PLACE_PACKED ? write_packed(n, new, buf) : node_pwrite(new->file, new->host, buf, len);
}

/* Whether a fresh place reads as what the block was: then the map can change before the data is there. */
static bool can_publish_first(struct block_node *n, const struct place *old, const struct place *new)
{
    return new->kind == PLACE_DATA && old->kind != PLACE_PACKED && !(old->kind == PLACE_ABSENT && n->backing);
}

/* [off, off + bytes) lies in p's run and has no place of its own; the lock is held, and released. *done: how much. */
static int write_new(struct block_node *n, struct place *old, uint64_t off, uint64_t bytes, const struct iovec *iov,
                     int niov, uint64_t *done)
{
    struct blockmap *m = n->state;
    g_autofree struct iovec *part = g_new(struct iovec, MAX(niov, 1));
    struct place p = *old;
    int ret, k;

    *done = bytes;
    p.kind = PLACE_DATA;
    ret = m->ops->allocate ? m->ops->allocate(n, off, &p) : -ENOTSUP;
    if (ret) {
        co_mutex_unlock(&m->lock);
        return ret;
    }
    *done = bytes = MIN(bytes, p.end - off);
    k = iov ? iov_slice(part, iov, niov, 0, bytes) : 0;
    if (can_publish_first(n, old, &p)) {
        ret = image_fresh(p.file, p.host, p.end - p.start);
        if (!ret)
            ret = m->ops->publish(n, &p);
        co_mutex_unlock(&m->lock);
        if (!ret && iov)
            ret = node_pwritev(p.file, p.host + (off - p.start), bytes, part, k, 0);
        return ret;
    }
    ret = write_merged(n, old, &p, off, bytes, iov ? part : NULL, k);
    if (!ret && p.kind == PLACE_DATA)
        ret = m->ops->publish(n, &p);
    co_mutex_unlock(&m->lock);
    return ret;
}

int blockmap_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct blockmap *m = n->state;
    g_autofree struct iovec *part = g_new(struct iovec, niov);
    struct place p;

    for (uint64_t done = 0, chunk; done < bytes; done += chunk) {
        uint64_t at = off + done;
        int ret = place_find(n, at, &p), k;

        if (!ret && p.kind != PLACE_DATA) {
            co_mutex_lock(&m->lock);
            ret = place_find(n, at, &p);        /* another request may have been first */
            if (ret || p.kind == PLACE_DATA)
                co_mutex_unlock(&m->lock);
        }
        if (ret)
            return ret;
        chunk = MIN(bytes - done, p.end - at);
        k = iov_slice(part, iov, niov, done, chunk);
        if (p.kind == PLACE_DATA)
            ret = node_pwritev(p.file, p.host + (at - p.start), chunk, part, k, 0);
        else
            ret = write_new(n, &p, at, chunk, part, k, &chunk);
        if (ret)
            return ret;
    }
    return 0;
}

/* Zeroes for what is in p from off on; whatever is zero already stays as it is. */
static int zero_place(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags, uint64_t *done)
{
    struct blockmap *m = n->state;
    struct place p;
    int ret;

    co_mutex_lock(&m->lock);
    ret = place_find(n, off, &p);
    *done = ret ? bytes : MIN(bytes, p.end - off);
    if (ret || p.kind == PLACE_ZERO || (p.kind == PLACE_ABSENT && !n->backing)) {
        co_mutex_unlock(&m->lock);
        return ret;
    }
    if (p.kind == PLACE_DATA) {
        co_mutex_unlock(&m->lock);
        return node_write_zeroes(p.file, p.host + (off - p.start), *done, flags & ~BLOCK_MAY_UNMAP);
    }
    if (m->ops->publish_zero && p.kind == PLACE_ABSENT) {
        struct place one = p;

        ret = m->ops->allocate(n, off, &one);           /* for its bounds: its place is not used */
        if (!ret && off == one.start && *done >= one.end - one.start) {
            *done = one.end - one.start;
            ret = m->ops->publish_zero(n, &one);
            co_mutex_unlock(&m->lock);
            return ret;
        }
    }
    return write_new(n, &p, off, *done, NULL, 0, done);
}

int blockmap_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    for (uint64_t done = 0, chunk; done < bytes; done += chunk) {
        int ret = zero_place(n, off + done, bytes - done, flags, &chunk);

        if (ret)
            return ret;
    }
    return 0;
}

int blockmap_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                    struct block_node **file)
{
    static const int statuses[] = {
        [PLACE_ABSENT] = 0, [PLACE_ZERO] = STATUS_ZERO | STATUS_ALLOCATED,
        [PLACE_DATA] = STATUS_DATA | STATUS_ALLOCATED | STATUS_OFFSET,
        [PLACE_PACKED] = STATUS_DATA | STATUS_ALLOCATED | STATUS_COMPRESSED,
    };
    struct place first, p;
    int ret = place_find(n, off, &first);

    if (ret)
        return ret;
    *n_bytes = MIN(bytes, first.end - off);
    for (int i = 0; i < STATUS_STEPS && *n_bytes < bytes; i++) {
        ret = place_find(n, off + *n_bytes, &p);
        if (ret || p.kind != first.kind)
            break;
        if (p.kind == PLACE_DATA && (p.file != first.file || p.host - p.start != first.host - first.start))
            break;
        *n_bytes = MIN(bytes, p.end - off);
    }
    if (first.kind == PLACE_DATA) {
        *map = first.host + (off - first.start);
        *file = first.file;
    }
    if (first.kind == PLACE_ABSENT && !n->drv->backing_filename)
        return statuses[PLACE_ZERO];            /* nothing could show through */
    return statuses[first.kind];
}
