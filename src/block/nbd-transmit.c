/* The NBD server's transmission phase (doc/proto.md, "Transmission"): requests, each in a coroutine of its own, and their
 * replies in simple, structured or extended form. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/nbd-server.h"
#include "rhea/block/bitmap.h"

/* A client that sends and does not receive waits at these. */
enum { REQUESTS_MAX = 64, BYTES_MAX = 64 << 20, EXTENTS_MAX = 8192, CACHE_CHUNK = 1 << 20 };

struct request {
    struct nbd_client *c;
    uint64_t cookie, off, len;
    uint16_t type, flags;
    void *buf;
    uint64_t buf_size;                  /* of one that is kept for others, else 0 */
    uint64_t held;                      /* counted in c->bytes */
    uint32_t *ids;                      /* BLOCK_STATUS with a payload: contexts wanted, or NULL for all */
    unsigned id_count;
    int refused;                        /* errno found before it began */
    const char *why;
};

/* ---- buffers: powers of two, the last given back is the first taken (the processor's caches know it best) */

static bool buffer_take(struct request *q, uint64_t len)
{
    struct nbd_buffers *b = &q->c->server->buffers;
    struct block_backend *disk = q->c->export->e.b;
    unsigned order = MAX(len > 1 ? 64 - __builtin_clzll(len - 1) : 0, NBD_BUFFER_SMALLEST), class = order - NBD_BUFFER_SMALLEST;

    export_enter(disk);
    q->buf_size = class < NBD_BUFFER_CLASSES && disk->root->limits.mem_align <= 1 << NBD_BUFFER_SMALLEST ? 1ull << order : 0;
    g_mutex_lock(&b->lock);
    if (q->buf_size && b->unused[class]) {
        q->buf = b->unused[class];
        b->unused[class] = b->unused[class]->next;
        b->kept -= q->buf_size;
    }
    g_mutex_unlock(&b->lock);
    if (!q->buf)
        q->buf = node_buffer(disk->root, q->buf_size ? q->buf_size : len);
    export_leave(disk);
    return q->buf;
}

static void buffer_give_back(struct request *q)
{
    struct nbd_buffers *b = &q->c->server->buffers;
    struct nbd_buffer *unused = q->buf, **list;

    if (!unused || !q->buf_size) {
        free(q->buf);
        return;
    }
    g_mutex_lock(&b->lock);
    if (b->kept + q->buf_size <= NBD_BUFFERS_KEPT) {
        list = &b->unused[__builtin_ctzll(q->buf_size) - NBD_BUFFER_SMALLEST];
        unused->next = *list;
        *list = unused;
        b->kept += q->buf_size;
        unused = NULL;
    }
    g_mutex_unlock(&b->lock);
    free(unused);
}

void nbd_buffers_free(struct nbd_buffers *b)
{
    g_mutex_clear(&b->lock);
    for (unsigned i = 0; i < NBD_BUFFER_CLASSES; i++) {
        for (struct nbd_buffer *p = b->unused[i], *next; p; p = next) {
            next = p->next;
            free(p);
        }
    }
}

/* ---- replies */

/* One message: header, then iov[1..]; iov[0] is ours. */
static int send_message(struct request *q, bool done, uint16_t type, struct iovec *iov, int niov)
{
    struct nbd_client *c = q->c;
    uint64_t len = iov_bytes(iov + 1, niov - 1);
    uint8_t head[32];
    int ret;

    if (c->mode == NBD_EXTENDED) {
        nbd_put32(head, NBD_EXT_REPLY_MAGIC);
        nbd_put64(head + 16, q->off);
        nbd_put64(head + 24, len);
        iov[0] = (struct iovec){ head, 32 };
    } else {
        nbd_put32(head, NBD_STRUCT_REPLY_MAGIC);
        nbd_put32(head + 16, len);
        iov[0] = (struct iovec){ head, 20 };
    }
    nbd_put16(head + 4, done ? NBD_REPLY_FLAG_DONE : 0);
    nbd_put16(head + 6, type);
    nbd_put64(head + 8, q->cookie);
    co_mutex_lock(&c->send);
    ret = nbd_writev(c->ch, iov, niov);
    co_mutex_unlock(&c->send);
    return ret;
}

/* Without a payload, or with a simple reply's data. */
static int send_simple(struct request *q, uint32_t error, void *data, uint64_t len)
{
    struct nbd_client *c = q->c;
    uint8_t head[16];
    struct iovec iov[] = { { head, sizeof(head) }, { data, len } };
    int ret;

    nbd_put32(head, NBD_SIMPLE_REPLY_MAGIC);
    nbd_put32(head + 4, error);
    nbd_put64(head + 8, q->cookie);
    co_mutex_lock(&c->send);
    ret = nbd_writev(c->ch, iov, 2);
    co_mutex_unlock(&c->send);
    return ret;
}

static int send_error(struct request *q, int err, const char *why)
{
    uint32_t wire = nbd_errno_to_wire(err);
    uint8_t body[6];
    struct iovec iov[] = { { 0 }, { body, 6 }, { (void *)why, why ? strlen(why) : 0 } };

    /* before structured replies, one error of fast zeroing and of draining is not known */
    if (q->c->mode == NBD_SIMPLE)
        return send_simple(q, wire == NBD_EOVERFLOW ? NBD_EINVAL : wire, NULL, 0);
    nbd_put32(body, wire);
    nbd_put16(body + 4, iov[2].iov_len);
    return send_message(q, true, NBD_REPLY_ERROR, iov, 3);
}

static int send_done(struct request *q)
{
    struct iovec iov[1];

    return q->c->mode == NBD_SIMPLE ? send_simple(q, 0, NULL, 0) : send_message(q, true, NBD_REPLY_NONE, iov, 1);
}

static int send_result(struct request *q, int ret)
{
    return ret ? send_error(q, -ret, NULL) : send_done(q);
}

/* ---- data */

static int do_read(struct request *q)
{
    struct nbd_client *c = q->c;
    struct iovec data = { q->buf, q->len }, iov[3] = { 0 };
    uint8_t body[12];
    int ret = export_preadv(c->export->e.b, q->off, &data, 1);

    if (ret)
        return send_error(q, -ret, "reading from file failed");
    if (c->mode == NBD_SIMPLE)
        return send_simple(q, 0, q->buf, q->len);
    if (!q->len)
        return send_done(q);
    nbd_put64(body, q->off);
    if (!(q->flags & NBD_CMD_FLAG_DF) && buffer_is_zero(q->buf, q->len)) {
        nbd_put32(body + 8, q->len);
        iov[1] = (struct iovec){ body, 12 };
        return send_message(q, true, NBD_REPLY_OFFSET_HOLE, iov, 2);
    }
    iov[1] = (struct iovec){ body, 8 };
    iov[2] = (struct iovec){ q->buf, q->len };
    return send_message(q, true, NBD_REPLY_OFFSET_DATA, iov, 3);
}

static int do_write(struct request *q)
{
    struct iovec data = { q->buf, q->len };
    int ret = export_pwritev(q->c->export->e.b, q->off, &data, 1, q->flags & NBD_CMD_FLAG_FUA ? BLOCK_FUA : 0);

    return send_result(q, ret);
}

static int do_flush(struct request *q)
{
    return send_result(q, export_flush(q->c->export->e.b));
}

static int do_trim(struct request *q)
{
    struct block_backend *b = q->c->export->e.b;
    int ret = q->len ? export_discard(b, q->off, q->len) : 0;

    if (!ret && (q->flags & NBD_CMD_FLAG_FUA))
        ret = export_flush(b);
    return send_result(q, ret);
}

static int do_write_zeroes(struct request *q)
{
    unsigned flags = (q->flags & NBD_CMD_FLAG_FUA ? BLOCK_FUA : 0) | (q->flags & NBD_CMD_FLAG_NO_HOLE ? 0 : BLOCK_MAY_UNMAP) |
                     (q->flags & NBD_CMD_FLAG_FAST_ZERO ? BLOCK_NO_FALLBACK : 0);

    return send_result(q, q->len ? export_write_zeroes(q->c->export->e.b, q->off, q->len, flags) : 0);
}

/* Read into the host's cache: read, and forget. */
static int do_cache(struct request *q)
{
    uint64_t chunk = MIN(q->len, CACHE_CHUNK);
    struct iovec iov = { NULL, 0 };
    int ret = 0;

    export_enter(q->c->export->e.b);
    iov.iov_base = chunk ? node_buffer(q->c->export->e.b->root, chunk) : NULL;
    export_leave(q->c->export->e.b);
    if (chunk && !iov.iov_base)
        return send_error(q, ENOMEM, NULL);
    for (uint64_t done = 0; done < q->len && !ret && !q->c->closing; done += iov.iov_len) {
        iov.iov_len = MIN(chunk, q->len - done);
        ret = export_preadv(q->c->export->e.b, q->off + done, &iov, 1);
    }
    free(iov.iov_base);
    return send_result(q, ret);
}

/* ---- block status */

struct extent { uint64_t len; uint32_t flags; };

static bool extents_add(GArray *list, uint64_t len, uint32_t flags)
{
    struct extent *last = list->len ? &g_array_index(list, struct extent, list->len - 1) : NULL, e = { len, flags };

    if (last && last->flags == flags)
        last->len += len;
    else
        g_array_append_val(list, e);
    return list->len < EXTENTS_MAX;
}

static int status_flags(int status, int depth, bool want_depth)
{
    if (want_depth)
        return status & STATUS_ALLOCATED ? depth + 1 : 0;
    return (status & STATUS_DATA ? 0 : NBD_STATE_HOLE) | (status & STATUS_ZERO ? NBD_STATE_ZERO : 0);
}

static int node_extents(struct request *q, bool depth_wanted, bool one, GArray *list)
{
    struct block_backend *b = q->c->export->e.b;
    int ret = 0;

    for (uint64_t off = q->off, end = q->off + q->len, n, map; off < end && !q->c->closing; off += n) {
        struct block_node *file;
        int depth;

        export_enter(b);
        ret = node_status_above(b->root, off, end - off, &n, &map, &file, &depth, !depth_wanted);
        export_leave(b);
        if (ret < 0)
            return ret;
        n = MIN(n, end - off);
        if (!extents_add(list, n, status_flags(ret, depth, depth_wanted)) || (one && list->len > 1))
            break;
    }
    return 0;
}

static void bitmap_extents(struct request *q, struct dirty_bitmap *map, bool one, GArray *list)
{
    uint64_t off = q->off, end = q->off + q->len;

    while (off < end) {
        uint64_t next = off, bytes, n;
        bool dirty = bitmap_next(map, &next, &bytes);

        if (!dirty || next >= end)
            n = end - off;              /* clean to the end */
        else
            n = next > off ? next - off : MIN(bytes, end - off);
        if (!extents_add(list, n, dirty && next == off ? NBD_STATE_DIRTY : 0) || (one && list->len > 1))
            break;
        off += n;
    }
}

static int send_extents(struct request *q, unsigned context, bool done, GArray *list)
{
    bool ext = q->c->mode == NBD_EXTENDED;
    unsigned head = ext ? 8 : 4, each = ext ? 16 : 8;
    g_autofree uint8_t *body = g_malloc(head + each * list->len);
    struct iovec iov[] = { { 0 }, { body, head + each * list->len } };

    nbd_put32(body, context);
    if (ext)
        nbd_put32(body + 4, list->len);
    for (unsigned i = 0; i < list->len; i++) {
        const struct extent *e = &g_array_index(list, struct extent, i);
        uint8_t *p = body + head + each * i;

        if (ext) {
            nbd_put64(p, e->len);
            nbd_put64(p + 8, e->flags);
        } else {
            nbd_put32(p, e->len);       /* requests of this form have 32-bit lengths */
            nbd_put32(p + 4, e->flags);
        }
    }
    return send_message(q, done, ext ? NBD_REPLY_BLOCK_STATUS_EXT : NBD_REPLY_BLOCK_STATUS, iov, 2);
}

static bool context_asked(const struct request *q, unsigned context)
{
    for (unsigned i = 0; q->ids && i < q->id_count; i++)
        if (q->ids[i] == context)
            return true;
    return !q->ids;
}

static int do_block_status(struct request *q)
{
    struct nbd_client *c = q->c;
    bool one = q->flags & NBD_CMD_FLAG_REQ_ONE;
    unsigned left = 0;
    int ret = 0;

    for (unsigned i = 0; i < c->contexts->len; i++)
        left += context_asked(q, g_array_index(c->contexts, unsigned, i));
    if (!left)
        return send_error(q, EINVAL, "CMD_BLOCK_STATUS not negotiated");
    for (unsigned i = 0; i < c->contexts->len && !ret; i++) {
        unsigned context = g_array_index(c->contexts, unsigned, i);
        g_autoptr(GArray) list = NULL;

        if (!context_asked(q, context))
            continue;
        list = g_array_new(FALSE, FALSE, sizeof(struct extent));
        if (context < NBD_CONTEXT_BITMAP)
            ret = node_extents(q, context == NBD_CONTEXT_DEPTH, one, list);
        else
            bitmap_extents(q, g_ptr_array_index(c->export->bitmaps, context - NBD_CONTEXT_BITMAP), one, list);
        if (ret || !list->len)
            return send_error(q, ret ? -ret : EIO, "can't get block status");
        if (one && list->len > 1)
            g_array_set_size(list, 1);
        ret = send_extents(q, context, --left == 0, list);
    }
    return ret;
}

/* ---- requests */

/* What each command may be: which flags it takes; whether its range counts, it changes the disk, it carries data. */
static const struct {
    const char *name;
    uint16_t flags;
    bool range, changes;
    int (*run)(struct request *q);
} commands[] = {
    [NBD_CMD_READ] = { "read", NBD_CMD_FLAG_DF | NBD_CMD_FLAG_FUA, true, false, do_read },
    [NBD_CMD_WRITE] = { "write", NBD_CMD_FLAG_FUA, true, true, do_write },
    [NBD_CMD_FLUSH] = { "flush", NBD_CMD_FLAG_FUA, false, false, do_flush },
    [NBD_CMD_TRIM] = { "trim", NBD_CMD_FLAG_FUA, true, true, do_trim },
    [NBD_CMD_CACHE] = { "cache", NBD_CMD_FLAG_FUA, true, false, do_cache },
    [NBD_CMD_WRITE_ZEROES] = { "write zeroes", NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO, true, true,
                               do_write_zeroes },
    [NBD_CMD_BLOCK_STATUS] = { "block status", NBD_CMD_FLAG_REQ_ONE | NBD_CMD_FLAG_FUA, true, false, do_block_status },
};

static int refuse(struct request *q, int err, const char *why)
{
    if (!q->refused) {
        q->refused = err;
        q->why = why;
    }
    return 0;
}

static void request_check(struct request *q, bool payload)
{
    struct block_backend *b = q->c->export->e.b;
    uint64_t size;
    uint16_t allowed;

    export_enter(b);
    size = b->root ? b->root->size : 0;
    export_leave(b);
    if (q->type >= G_N_ELEMENTS(commands) || !commands[q->type].run) {
        refuse(q, EINVAL, "invalid request type");
        return;
    }
    allowed = commands[q->type].flags | (payload ? NBD_CMD_FLAG_PAYLOAD_LEN : 0);
    if (q->c->mode == NBD_SIMPLE)
        allowed &= ~NBD_CMD_FLAG_DF;
    if (q->flags & ~allowed)
        refuse(q, EINVAL, "unsupported flags");
    if (q->c->mode == NBD_EXTENDED && q->type == NBD_CMD_WRITE && !payload)
        refuse(q, EINVAL, "write without payload flag");
    if (commands[q->type].changes && !q->c->export->e.writable)
        refuse(q, EPERM, "the export is read-only");
    if (!commands[q->type].range)
        return;
    if (q->type == NBD_CMD_BLOCK_STATUS && !q->len)
        refuse(q, EINVAL, "need non-zero length");
    if (q->off > size || q->len > size - q->off)
        refuse(q, commands[q->type].changes ? ENOSPC : EINVAL, "operation past EOF");
    if (q->type == NBD_CMD_READ && q->len > NBD_MAX_BUFFER)
        refuse(q, EINVAL, "the read is too long");
    /* so that a reply in 32 bits can say it, and none takes for ever by hand */
    if (q->c->mode != NBD_EXTENDED)
        return;
    if (q->type == NBD_CMD_BLOCK_STATUS)
        q->len = MIN(q->len, 1ull << 40);
}

static void request_run(void *arg)
{
    struct request *q = arg;
    struct nbd_client *c = q->c;
    struct coroutine *waiting;
    int ret;

    ret = q->refused ? send_error(q, q->refused, q->why) : commands[q->type].run(q);
    if (ret)
        nbd_channel_shutdown(c->ch);
    buffer_give_back(q);
    g_free(q->ids);
    c->requests--;
    c->bytes -= q->held;
    g_free(q);
    waiting = c->waiting;
    c->waiting = NULL;
    if (waiting)
        coroutine_wake(waiting);
}

/* [co] Until fewer than `requests` are under way, and room for `bytes` more. */
static void wait_room(struct nbd_client *c, unsigned requests, uint64_t bytes)
{
    while (c->requests && (c->requests >= requests || c->bytes + bytes > BYTES_MAX)) {
        c->waiting = coroutine_self();
        coroutine_yield();
    }
}

/* [co] What follows the header: a write's data, or the list of contexts. */
static int take_payload(struct nbd_client *c, struct request *q, uint64_t len)
{
    int ret;

    if (q->type == NBD_CMD_WRITE || !len) {
        if (!len)
            return 0;
        if (!buffer_take(q, len))
            return -ENOMEM;
        return nbd_read(c->ch, q->buf, len);
    }
    if (q->type == NBD_CMD_BLOCK_STATUS && len >= 12 && len % 4 == 0 && len <= 8 + 4 * 1024) {
        g_autofree uint8_t *body = g_malloc(len);

        ret = nbd_read(c->ch, body, len);
        q->len = nbd_get64(body);
        q->id_count = (len - 8) / 4;
        q->ids = g_new(uint32_t, q->id_count);
        for (unsigned i = 0; i < q->id_count; i++)
            q->ids[i] = nbd_get32(body + 8 + 4 * i);
        return ret;
    }
    refuse(q, EINVAL, "unexpected payload");
    return nbd_skip(c->ch, len);
}

/* [co] 0: *out is a request; else the connection ends. */
static int request_take(struct nbd_client *c, struct request **out)
{
    uint32_t magic = c->mode == NBD_EXTENDED ? NBD_EXT_REQUEST_MAGIC : NBD_REQUEST_MAGIC;
    uint64_t payload = 0;
    struct request *q;
    uint8_t head[32];
    bool flagged;
    int ret = nbd_read(c->ch, head, c->mode == NBD_EXTENDED ? 32 : 28);

    *out = NULL;
    if (ret)
        return ret;
    if (nbd_get32(head) != magic)
        return -EPROTO;
    q = g_new0(struct request, 1);
    *out = q;
    *q = (struct request){ .c = c, .flags = nbd_get16(head + 4), .type = nbd_get16(head + 6), .cookie = nbd_get64(head + 8),
                           .off = nbd_get64(head + 16),
                           .len = c->mode == NBD_EXTENDED ? nbd_get64(head + 24) : nbd_get32(head + 24) };
    if (q->type == NBD_CMD_DISC)
        return -ENOTCONN;
    flagged = c->mode == NBD_EXTENDED && (q->flags & NBD_CMD_FLAG_PAYLOAD_LEN);
    if (q->type == NBD_CMD_WRITE || flagged)
        payload = q->len;
    if (payload > NBD_MAX_BUFFER)
        return -EPROTO;                 /* there is no going on behind it */
    q->held = q->type == NBD_CMD_READ ? MIN(q->len, NBD_MAX_BUFFER) : payload;
    wait_room(c, REQUESTS_MAX, q->held);
    ret = take_payload(c, q, payload);
    if (ret)
        return ret;
    request_check(q, flagged);
    if (q->type == NBD_CMD_READ && !q->refused && q->len) {
        if (!buffer_take(q, q->len))
            refuse(q, ENOMEM, NULL);
    }
    return 0;
}

void nbd_transmit(struct nbd_client *c)
{
    struct request *q;

    while (!c->closing && !request_take(c, &q)) {
        c->requests++;
        c->bytes += q->held;
        coroutine_start(request_run, q);
        q = NULL;
    }
    c->closing = true;                  /* nobody waits for the end of what takes long */
    if (q) {
        buffer_give_back(q);
        g_free(q->ids);
        g_free(q);
    }
    /* what was asked before the end is carried out and answered: only then the connection goes */
    wait_room(c, 1, 0);
}
