/* nbd: an export of an NBD server (https://github.com/NetworkBlockDevice/nbd, doc/proto.md).
 *
 * The connection belongs to the loop that opened the node. Requests of other threads hop there and back; one coroutine
 * reads all replies and puts what they carry where the request wants it. When the connection breaks, another coroutine
 * makes a new one; until then requests wait (for reconnect-delay seconds) or fail. */
#include <errno.h>
#include <string.h>
#include "block/graph.h"
#include "block/nbd-client.h"
#include "rhea/base/options.h"
#include "rhea/vm/object.h"
#include "rhea/vm/tls.h"

enum { SLOTS = 128, CHUNK_MAX = 16 << 20, RETRY_FIRST_S = 1, RETRY_MAX_S = 16, SECONDS_MAX = 1 << 20 };
#define LENGTH32_MAX 0xfffff000u        /* what a 32-bit length can say, in whole blocks */

struct nbd_request {
    uint16_t type, flags;
    uint64_t off, len;
    const struct iovec *iov;            /* of read and write */
    int niov;
    uint64_t extent;                    /* BLOCK_STATUS: of the first extent, 0: none came */
    uint32_t extent_flags;
    /* while it is under way */
    struct coroutine *co;
    uint64_t received;
    int error;
    bool done, waiting;                 /* waiting: nothing but `done` can wake it */
};

enum nbd_state { NBD_CONNECTED, NBD_WAITING /* requests wait */, NBD_FAILING /* requests fail; we go on trying */, NBD_QUIT };

struct nbd {
    struct block_node *node;
    struct loop *loop;
    struct nbd_connect connect;
    char *export, *tls_hostname, *context;
    bool dirty_bitmap;                  /* the context is not base:allocation: bit 0 means "not data" */
    int64_t reconnect_delay, open_timeout;
    struct nbd_peer peer;
    enum nbd_state state;
    struct co_mutex send;
    struct nbd_request *slots[SLOTS];
    uint32_t generation;                /* cookies of an old connection mean nothing on a new one */
    unsigned in_flight;
    struct co_queue room, changed;      /* a slot is free; the state has changed */
    bool receiving, reconnecting;
    struct coroutine *sleeper;          /* reconnecting, between two tries */
    struct loop_timer *give_up, *retry;
};

static const char *const nbd_options[] = { "server", "host", "port", "path", "export", "tls-creds", "tls-hostname",
                                           "x-dirty-bitmap", "reconnect-delay", "open-timeout", NULL };

/* ---- replies */

struct reply { uint32_t magic; uint16_t flags, type; uint32_t error; uint64_t cookie, len; };

static int read_head(struct nbd *s, struct reply *r)
{
    uint8_t head[32];
    int ret = nbd_read(s->peer.ch, head, 16);
    size_t rest = 0;

    if (ret)
        return ret;
    *r = (struct reply){ .magic = nbd_get32(head), .cookie = nbd_get64(head + 8) };
    if (r->magic == NBD_SIMPLE_REPLY_MAGIC && s->peer.mode < NBD_EXTENDED)
        r->error = nbd_get32(head + 4);
    else if (r->magic == NBD_STRUCT_REPLY_MAGIC && s->peer.mode == NBD_STRUCTURED)
        rest = 4;
    else if (r->magic == NBD_EXT_REPLY_MAGIC && s->peer.mode == NBD_EXTENDED)
        rest = 16;
    else
        return -EPROTO;
    if (!rest)
        return 0;
    r->flags = nbd_get16(head + 4);
    r->type = nbd_get16(head + 6);
    ret = nbd_read(s->peer.ch, head + 16, rest);
    r->len = rest == 4 ? nbd_get32(head + 16) : nbd_get64(head + 24);
    return ret;
}

/* One that still sends finds out by itself. */
static void request_wake(struct nbd_request *q)
{
    if (q->waiting)
        coroutine_wake(q->co);
}

static struct nbd_request *request_of(struct nbd *s, uint64_t cookie)
{
    return (cookie >> 32) == s->generation && (uint32_t)cookie < SLOTS ? s->slots[(uint32_t)cookie] : NULL;
}

/* Reads len bytes to [skip, skip + len) of the request's buffers. */
static int read_data(struct nbd *s, struct nbd_request *q, uint64_t skip, uint64_t len)
{
    g_autofree struct iovec *part = g_new(struct iovec, q->niov);
    int n = iov_slice(part, q->iov, q->niov, skip, len);

    return nbd_readv(s->peer.ch, part, n);
}

static bool part_of(const struct nbd_request *q, uint64_t off, uint64_t len)
{
    return q->type == NBD_CMD_READ && len && off >= q->off && off - q->off <= q->len && len <= q->len - (off - q->off) &&
           len <= q->len - q->received;
}

static int take_data(struct nbd *s, struct nbd_request *q, const struct reply *r)
{
    uint8_t head[8];
    uint64_t off;
    int ret;

    if (r->len <= 8)
        return -EPROTO;
    ret = nbd_read(s->peer.ch, head, 8);
    off = nbd_get64(head);
    if (ret || !part_of(q, off, r->len - 8))
        return ret ? ret : -EPROTO;
    q->received += r->len - 8;
    return read_data(s, q, off - q->off, r->len - 8);
}

static int take_hole(struct nbd *s, struct nbd_request *q, const struct reply *r)
{
    uint8_t body[12];
    int ret;

    if (r->len != 12)
        return -EPROTO;
    ret = nbd_read(s->peer.ch, body, 12);
    if (ret || !part_of(q, nbd_get64(body), nbd_get32(body + 8)))
        return ret ? ret : -EPROTO;
    iov_zero(q->iov, q->niov, nbd_get64(body) - q->off, nbd_get32(body + 8));
    q->received += nbd_get32(body + 8);
    return 0;
}

/* The first extent of our context is all that we asked for. */
static int take_status(struct nbd *s, struct nbd_request *q, const struct reply *r, bool wide)
{
    unsigned head = wide ? 8 : 4, each = wide ? 16 : 8;
    uint8_t body[24];
    int ret;

    if (q->type != NBD_CMD_BLOCK_STATUS || r->len < head + each || (r->len - head) % each || r->len > NBD_MAX_BUFFER)
        return -EPROTO;
    ret = nbd_read(s->peer.ch, body, head + each);
    if (!ret)
        ret = nbd_skip(s->peer.ch, r->len - head - each);
    if (ret || nbd_get32(body) != s->peer.context_id || q->extent)
        return ret;
    q->extent = wide ? nbd_get64(body + 8) : nbd_get32(body + 4);
    q->extent_flags = wide ? nbd_get64(body + 16) : nbd_get32(body + 8);
    return q->extent ? 0 : -EPROTO;
}

static int take_error(struct nbd *s, struct nbd_request *q, const struct reply *r)
{
    uint8_t head[6];
    int ret;

    if (r->len < 6 || r->len > 6 + NBD_MAX_STRING + 8)
        return -EPROTO;
    ret = nbd_read(s->peer.ch, head, 6);
    if (!ret && nbd_get16(head + 4) > r->len - 6)
        ret = -EPROTO;
    if (!q->error)
        q->error = nbd_errno_from_wire(nbd_get32(head));
    return ret ? ret : nbd_skip(s->peer.ch, r->len - 6);
}

static int take_chunk(struct nbd *s, struct nbd_request *q, const struct reply *r)
{
    switch (r->type) {
    case NBD_REPLY_NONE: return r->len ? -EPROTO : 0;
    case NBD_REPLY_OFFSET_DATA: return take_data(s, q, r);
    case NBD_REPLY_OFFSET_HOLE: return take_hole(s, q, r);
    case NBD_REPLY_BLOCK_STATUS: return take_status(s, q, r, false);
    case NBD_REPLY_BLOCK_STATUS_EXT: return take_status(s, q, r, true);
    default: break;
    }
    if (!(r->type & 0x8000))
        return -EPROTO;                 /* a chunk that we did not ask for */
    return take_error(s, q, r);
}

static int take_reply(struct nbd *s)
{
    struct nbd_request *q;
    struct reply r;
    int ret = read_head(s, &r);

    if (ret)
        return ret;
    q = request_of(s, r.cookie);
    if (!q || q->done)
        return -EPROTO;
    if (r.magic != NBD_SIMPLE_REPLY_MAGIC) {
        ret = take_chunk(s, q, &r);
        q->done = !ret && (r.flags & NBD_REPLY_FLAG_DONE);
    } else if (s->peer.mode == NBD_STRUCTURED && (q->type == NBD_CMD_READ || q->type == NBD_CMD_BLOCK_STATUS)) {
        return -EPROTO;
    } else {
        q->error = r.error ? nbd_errno_from_wire(r.error) : 0;
        if (!r.error && q->type == NBD_CMD_READ) {
            ret = read_data(s, q, 0, q->len);
            q->received = q->len;
        }
        q->done = !ret;
    }
    if (ret || !q->done)
        return ret;
    if (!q->error && q->type == NBD_CMD_READ && q->received < q->len)
        return -EPROTO;
    request_wake(q);
    return 0;
}

/* ---- the connection */

static void reconnect_run(void *arg);

static void set_state(struct nbd *s, enum nbd_state state)
{
    if (s->state != NBD_QUIT)
        s->state = state;
    co_queue_wake_all(&s->changed);
    co_queue_wake_all(&s->room);
}

/* The state changes first: a request that is woken may try again at once, and must not find the connection as it was. */
static void connection_lost(struct nbd *s)
{
    bool quit = s->state == NBD_QUIT;

    s->reconnecting = !quit;
    if (!quit) {
        warn_report("%s: the connection is lost; trying to connect again", s->node->filename);
        set_state(s, s->reconnect_delay ? NBD_WAITING : NBD_FAILING);
        if (s->reconnect_delay)
            loop_timer_set(s->give_up, host_clock_ns() + s->reconnect_delay * 1000000000);
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        struct nbd_request *q = s->slots[i];

        if (q && !q->done) {
            q->done = true;
            q->error = ECONNRESET;
            request_wake(q);
        }
    }
    s->receiving = false;
    if (quit)
        co_queue_wake_all(&s->changed);         /* nbd_close() goes on, and s is no more */
    else
        coroutine_start(reconnect_run, s);
}

static void receive_run(void *arg)
{
    struct nbd *s = arg;
    int ret;

    do
        ret = take_reply(s);
    while (!ret);
    nbd_channel_shutdown(s->peer.ch);   /* senders fail too */
    connection_lost(s);
}

static void connected(struct nbd *s)
{
    s->generation++;
    s->receiving = true;
    set_state(s, NBD_CONNECTED);
    coroutine_start(receive_run, s);
}

static void retry_now(void *arg)
{
    struct nbd *s = arg;
    struct coroutine *co = s->sleeper;

    s->sleeper = NULL;
    if (co)
        coroutine_wake(co);
}

/* [co] Until it is over, or the node is closed. */
static void pause_seconds(struct nbd *s, int64_t seconds)
{
    loop_timer_set(s->retry, host_clock_ns() + seconds * 1000000000);
    s->sleeper = coroutine_self();
    coroutine_yield();
    loop_timer_cancel(s->retry);
}

static void stop_waiting(void *arg)
{
    struct nbd *s = arg;

    if (s->state == NBD_WAITING)
        set_state(s, NBD_FAILING);
}

/* What was promised for the disk must hold on. */
static bool still_fits(const struct nbd *s, const struct nbd_peer *p)
{
    return p->size >= s->node->size && (s->node->read_only || !(p->flags & NBD_FLAG_READ_ONLY)) &&
           (!p->min_block || p->min_block <= s->node->limits.align) && (!s->peer.has_context || p->has_context);
}

static void reconnect_run(void *arg)
{
    struct nbd *s = arg;
    int64_t pause = RETRY_FIRST_S;

    while (s->in_flight)                /* they still look at the old connection */
        co_queue_wait(&s->room, NULL);
    nbd_channel_free(s->peer.ch);
    s->peer.ch = NULL;
    while (s->state != NBD_QUIT) {
        struct nbd_peer p;

        if (nbd_connect(&s->connect, &p, NULL, NULL)) {
            if (s->state != NBD_QUIT && still_fits(s, &p)) {
                s->peer = p;
                break;
            }
            nbd_channel_free(p.ch);
        }
        if (s->state != NBD_QUIT)
            pause_seconds(s, pause);
        pause = MIN(2 * pause, RETRY_MAX_S);
    }
    loop_timer_cancel(s->give_up);
    s->reconnecting = false;
    if (s->state == NBD_QUIT)
        co_queue_wake_all(&s->changed);
    else
        connected(s);
}

/* ---- requests */

static int send_request(struct nbd *s, struct nbd_request *q, uint64_t cookie)
{
    bool ext = s->peer.mode == NBD_EXTENDED, data = q->type == NBD_CMD_WRITE;
    g_autofree struct iovec *iov = g_new(struct iovec, 1 + q->niov);
    uint8_t head[32];
    int ret;

    nbd_put32(head, ext ? NBD_EXT_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
    nbd_put16(head + 4, q->flags | (ext && data ? NBD_CMD_FLAG_PAYLOAD_LEN : 0));
    nbd_put16(head + 6, q->type);
    nbd_put64(head + 8, cookie);
    nbd_put64(head + 16, q->off);
    if (ext)
        nbd_put64(head + 24, q->len);
    else
        nbd_put32(head + 24, q->len);
    iov[0] = (struct iovec){ head, ext ? 32 : 28 };
    if (data)
        memcpy(iov + 1, q->iov, q->niov * sizeof(*iov));
    co_mutex_lock(&s->send);
    ret = nbd_writev(s->peer.ch, iov, data ? 1 + q->niov : 1);
    co_mutex_unlock(&s->send);
    return ret;
}

/* One try. -ECONNRESET: the connection broke before the answer. */
static int request_once(struct nbd *s, struct nbd_request *q)
{
    unsigned slot = 0;

    while (slot < SLOTS && s->slots[slot])
        slot++;
    q->co = coroutine_self();
    q->received = q->extent = q->error = 0;
    q->done = q->waiting = false;
    s->slots[slot] = q;
    if (send_request(s, q, (uint64_t)s->generation << 32 | slot))
        nbd_channel_shutdown(s->peer.ch);       /* the reader finds it broken, and ends all requests: this one too */
    q->waiting = true;
    while (!q->done)
        coroutine_yield();
    s->slots[slot] = NULL;
    return -q->error;
}

static int request_run(struct nbd *s, struct nbd_request *q)
{
    int ret;

    do {
        while (s->state == NBD_WAITING || (s->state == NBD_CONNECTED && s->in_flight >= SLOTS))
            co_queue_wait(s->state == NBD_WAITING ? &s->changed : &s->room, NULL);
        if (s->state != NBD_CONNECTED)
            return -EIO;
        s->in_flight++;
        ret = request_once(s, q);
        s->in_flight--;
        if (s->reconnecting && !s->in_flight)
            co_queue_wake_all(&s->room);
        else
            co_queue_wake_one(&s->room);
    } while (ret == -ECONNRESET && s->reconnect_delay);
    return ret == -ECONNRESET ? -EIO : ret;
}

struct hop { struct nbd *s; struct nbd_request *q; struct coroutine *co; int ret; };

static void hop_run(void *arg)
{
    struct hop *h = arg;

    h->ret = request_run(h->s, h->q);
    coroutine_wake(h->co);
}

static void hop_start(void *arg)
{
    coroutine_start(hop_run, arg);
}

/* From any thread. */
static int request(struct block_node *n, struct nbd_request *q)
{
    struct nbd *s = n->state;
    struct hop h = { s, q, coroutine_self(), 0 };

    if (loop_current() == s->loop)
        return request_run(s, q);
    loop_post(s->loop, hop_start, &h);
    coroutine_yield();
    return h.ret;
}

/* ---- the driver */

static int nbd_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct nbd_request q = { .type = NBD_CMD_READ, .off = off, .len = bytes, .iov = iov, .niov = niov };

    return request(n, &q);
}

static int nbd_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct nbd_request q = { .type = NBD_CMD_WRITE, .off = off, .len = bytes, .iov = iov, .niov = niov };

    return request(n, &q);
}

static int nbd_flush(struct block_node *n)
{
    struct nbd *s = n->state;
    struct nbd_request q = { .type = NBD_CMD_FLUSH };

    return s->peer.flags & NBD_FLAG_SEND_FLUSH ? request(n, &q) : 0;
}

/* In parts that a length can say. */
static int request_long(struct block_node *n, uint16_t type, uint16_t flags, uint64_t off, uint64_t bytes)
{
    struct nbd *s = n->state;
    int ret = 0;

    for (uint64_t k; bytes && !ret; off += k, bytes -= k) {
        struct nbd_request q = { .type = type, .flags = flags, .off = off };

        k = q.len = s->peer.mode == NBD_EXTENDED ? bytes : MIN(bytes, LENGTH32_MAX & ~(uint64_t)(n->limits.align - 1));
        ret = request(n, &q);
    }
    return ret;
}

static int nbd_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    struct nbd *s = n->state;

    return s->peer.flags & NBD_FLAG_SEND_TRIM ? request_long(n, NBD_CMD_TRIM, 0, off, bytes) : -ENOTSUP;
}

static int nbd_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    struct nbd *s = n->state;
    uint16_t wire = flags & BLOCK_MAY_UNMAP ? 0 : NBD_CMD_FLAG_NO_HOLE;

    if (!(s->peer.flags & NBD_FLAG_SEND_WRITE_ZEROES) ||
        ((flags & BLOCK_NO_FALLBACK) && !(s->peer.flags & NBD_FLAG_SEND_FAST_ZERO)))
        return -ENOTSUP;
    if (flags & BLOCK_NO_FALLBACK)
        wire |= NBD_CMD_FLAG_FAST_ZERO;
    return request_long(n, NBD_CMD_WRITE_ZEROES, wire, off, bytes);
}

static int nbd_block_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                            struct block_node **file)
{
    struct nbd *s = n->state;
    struct nbd_request q = { .type = NBD_CMD_BLOCK_STATUS, .flags = NBD_CMD_FLAG_REQ_ONE, .off = off,
                             .len = MIN(bytes, LENGTH32_MAX & ~(uint64_t)(n->limits.align - 1)) };
    int status = STATUS_ALLOCATED | STATUS_OFFSET, ret;

    *map = off;
    *file = n;
    if (!s->peer.has_context) {
        *n_bytes = bytes;
        return status | STATUS_DATA;
    }
    ret = request(n, &q);
    if (ret || !q.extent)
        return ret ? ret : -EIO;
    *n_bytes = MIN(q.extent, q.len);
    if (s->dirty_bitmap)
        return status | (q.extent_flags & NBD_STATE_DIRTY ? 0 : STATUS_DATA);
    if (q.extent_flags & NBD_STATE_ZERO)
        status |= STATUS_ZERO;
    /* a hole that need not read as zeroes is data like any other to us */
    return status | ((q.extent_flags & (NBD_STATE_HOLE | NBD_STATE_ZERO)) == (NBD_STATE_HOLE | NBD_STATE_ZERO) ? 0 : STATUS_DATA);
}

/* ---- opening */

static bool options_take(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct nbd *s = n->state;
    const char *creds = option_str(opts, "tls-creds", NULL), *bitmap = option_str(opts, "x-dirty-bitmap", NULL);

    s->connect.addr = nbd_address_from_options(opts, err);
    if (!s->connect.addr)
        return false;
    s->connect.export = s->export = g_strdup(option_str(opts, "export", ""));
    s->connect.tls_hostname = s->tls_hostname = g_strdup(option_str(opts, "tls-hostname", NULL));
    s->connect.context = s->context = g_strdup(bitmap ? bitmap : "base:allocation");
    s->dirty_bitmap = bitmap;
    if (s->tls_hostname && !creds)
        return error_set(err, ERR_GENERIC, "tls-hostname is for TLS only", "add tls-creds");
    if (creds && !n->graph->objects)
        return error_set(err, ERR_GENERIC, "there are no TLS credentials here", NULL);
    if (creds && !(s->connect.creds = tls_creds_get(n->graph->objects, creds, false, err)))
        return false;
    if (!option_int(opts, "reconnect-delay", 0, &s->reconnect_delay, err) || !option_int(opts, "open-timeout", 0, &s->open_timeout, err))
        return false;
    if (s->reconnect_delay < 0 || s->reconnect_delay > SECONDS_MAX || s->open_timeout < 0 || s->open_timeout > SECONDS_MAX)
        return error_set(err, ERR_GENERIC, "reconnect-delay and open-timeout are seconds, from 0 up", NULL);
    return true;
}

static void name_node(struct block_node *n)
{
    struct nbd *s = n->state;
    g_autofree char *where = nbd_address_text(s->connect.addr), *export = g_uri_escape_string(s->export, "/", TRUE);

    if (!strcmp(option_str(s->connect.addr, "type", ""), "unix"))
        n->filename = g_strdup_printf("nbd+unix:///%s?socket=%s", export, where);
    else
        n->filename = g_strdup_printf(*export ? "nbd://%s/%s" : "nbd://%s", where, export);
}

/* A server that is not there yet may come within open-timeout. */
static bool first_connection(struct nbd *s, struct error *err)
{
    int64_t until = host_clock_ns() + s->open_timeout * 1000000000;
    struct error why = ERROR_INIT;
    bool lasting = false;

    while (!nbd_connect(&s->connect, &s->peer, &lasting, &why)) {
        if (lasting || host_clock_ns() >= until) {
            error_move(err, &why);
            return false;
        }
        error_clear(&why);
        pause_seconds(s, RETRY_FIRST_S);
    }
    return true;
}

static bool export_fits(struct block_node *n, struct error *err)
{
    struct nbd *s = n->state;

    if ((s->peer.flags & NBD_FLAG_READ_ONLY) && !n->read_only) {
        if (!n->auto_read_only)
            return error_setf(err, ERR_GENERIC, "add read-only=on", "%s: the server allows no writing", n->filename);
        n->read_only = true;
    }
    if (s->dirty_bitmap && !s->peer.has_context)
        return error_setf(err, ERR_GENERIC, "rhea-nbd --list tells which contexts there are", "requested x-dirty-bitmap %s not found", s->context);
    return true;
}

static bool nbd_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct nbd *s = n->state;

    s->node = n;
    s->loop = loop_current();
    co_mutex_init(&s->send);
    co_queue_init(&s->room);
    co_queue_init(&s->changed);
    s->state = NBD_WAITING;
    s->give_up = loop_timer_new(s->loop, stop_waiting, s);
    s->retry = loop_timer_new(s->loop, retry_now, s);
    if (!options_take(n, opts, err))
        return false;
    name_node(n);
    if (!first_connection(s, err) || !export_fits(n, err))
        return false;
    n->size = s->peer.size;
    n->limits.align = s->peer.min_block ? s->peer.min_block : 1;
    n->limits.max_transfer = MIN(s->peer.max_block ? s->peer.max_block : NBD_MAX_BUFFER, CHUNK_MAX);
    n->limits.opt_transfer = s->peer.opt_block <= CHUNK_MAX ? s->peer.opt_block : 0;
    connected(s);
    return true;
}

static void nbd_close(struct block_node *n)
{
    struct nbd *s = n->state;
    struct nbd_request bye = { .type = NBD_CMD_DISC };

    if (s->state == NBD_CONNECTED)
        send_request(s, &bye, 0);
    s->state = NBD_QUIT;
    s->connect.cancel = true;
    if (s->connect.ch)
        nbd_channel_shutdown(s->connect.ch);
    if (s->receiving)
        nbd_channel_shutdown(s->peer.ch);
    retry_now(s);
    while (s->receiving || s->reconnecting)
        co_queue_wait(&s->changed, NULL);
    nbd_channel_free(s->peer.ch);
    loop_timer_free(s->give_up);
    loop_timer_free(s->retry);
    object_put(s->connect.creds);
    json_object_put(s->connect.addr);
    g_free(s->export);
    g_free(s->tls_hostname);
    g_free(s->context);
}

BLOCK_DRIVER = {
    .name = "nbd", .summary = "an export of an NBD server", .kind = DRIVER_PROTOCOL, .size = sizeof(struct nbd),
    .scheme = "nbd", .name_options = nbd_options_from_name, .one_connection = true, .options = nbd_options,
    .open = nbd_open, .close = nbd_close,
    .preadv = nbd_preadv, .pwritev = nbd_pwritev, .flush = nbd_flush, .discard = nbd_discard,
    .write_zeroes = nbd_write_zeroes, .block_status = nbd_block_status,
};
