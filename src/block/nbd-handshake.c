/* The NBD server's side of fixed newstyle negotiation (doc/proto.md, "Handshake" and "Option haggling"). */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include "block/nbd-server.h"
#include "rhea/base/log.h"
#include "rhea/block/bitmap.h"
#include "rhea/vm/tls.h"

/* More than any client needs; a name has 4096 bytes at most. */
enum { OPTION_MAX = 64 << 10, OPTION_SKIP_MAX = 1 << 20, OPTIONS_MAX = 4096 };
enum { GO_ON = 1, TRANSMIT = 0 };

struct option { uint32_t code, len; uint8_t *data; };

/* ---- replies */

static int reply(struct nbd_client *c, uint32_t option, uint32_t type, const void *data, uint32_t len)
{
    uint8_t head[20];
    struct iovec iov[] = { { head, sizeof(head) }, { (void *)data, len } };
    int ret;

    nbd_put64(head, NBD_REP_MAGIC);
    nbd_put32(head + 8, option);
    nbd_put32(head + 12, type);
    nbd_put32(head + 16, len);
    ret = nbd_writev(c->ch, iov, 2);
    return ret ? ret : GO_ON;
}

G_GNUC_PRINTF(4, 5) static int refuse(struct nbd_client *c, const struct option *o, uint32_t type, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return reply(c, o->code, type, text, MIN(strlen(text), NBD_MAX_STRING));
}

static int malformed(struct nbd_client *c, const struct option *o)
{
    return refuse(c, o, NBD_REP_ERR_INVALID, "malformed option");
}

static int acknowledge(struct nbd_client *c, const struct option *o)
{
    return reply(c, o->code, NBD_REP_ACK, NULL, 0);
}

/* ---- exports */

struct find { const char *name; struct nbd_export *found; };

static void find_one(struct block_export *e, void *arg)
{
    struct nbd_export *x = (struct nbd_export *)e;
    struct find *f = arg;

    if (!e->shutting_down && x->name && !strcmp(x->name, f->name))
        f->found = x;
}

struct nbd_export *nbd_export_find(struct block_graph *g, const char *name)
{
    struct find f = { name, NULL };

    exports_foreach(g, "nbd", find_one, &f);
    return f.found;
}

uint16_t nbd_export_flags(const struct nbd_client *c, const struct nbd_export *x)
{
    uint16_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE;

    /* all clients write through one node, and a flush of one flushes what all wrote; but who is told so and then kept
     * waiting for a second connection waits for ever */
    if (c->server->max_connections != 1)
        flags |= NBD_FLAG_CAN_MULTI_CONN;
    if (x->e.writable)
        flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    else
        flags |= NBD_FLAG_READ_ONLY;
    if (c->mode >= NBD_STRUCTURED)
        flags |= NBD_FLAG_SEND_DF;
    if (c->mode >= NBD_EXTENDED && c->contexts->len)
        flags |= NBD_FLAG_BLOCK_STAT_PAYLOAD;
    return flags;
}

static void choose(struct nbd_client *c, struct nbd_export *x)
{
    if (!c->contexts_for || strcmp(c->contexts_for, x->name))
        g_array_set_size(c->contexts, 0);
    c->export = x;
    export_ref(&x->e);
}

static int opt_export_name(struct nbd_client *c, const struct option *o)
{
    g_autofree char *name = g_strndup((char *)o->data, o->len);
    struct nbd_export *x = o->len <= NBD_MAX_STRING && strlen(name) == o->len ? nbd_export_find(c->server->graph, name) : NULL;
    uint8_t head[10 + 124] = { 0 };
    int ret;

    if (!x)
        return -ENOENT;                 /* the option has no way to say so */
    if (c->mode >= NBD_EXTENDED)
        return -EINVAL;
    choose(c, x);
    nbd_put64(head, x->e.b->root->size);
    nbd_put16(head + 8, nbd_export_flags(c, x));
    ret = nbd_write(c->ch, head, c->no_zeroes ? 10 : sizeof(head));
    return ret ? ret : TRANSMIT;
}

static int opt_abort(struct nbd_client *c, const struct option *o)
{
    acknowledge(c, o);
    return -ENOTCONN;
}

static void list_one(struct block_export *e, void *arg)
{
    if (!e->shutting_down && ((struct nbd_export *)e)->name)
        g_ptr_array_add(arg, e);
}

static int opt_list(struct nbd_client *c, const struct option *o)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    g_autoptr(GPtrArray) records = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    int ret = GO_ON;

    if (o->len)
        return malformed(c, o);
    exports_foreach(c->server->graph, "nbd", list_one, all);
    for (unsigned i = all->len; i--;) { /* copied: exports may go while we write */
        struct nbd_export *x = g_ptr_array_index(all, i);
        const char *text = x->description ? x->description : "";
        size_t len = strlen(x->name);
        uint8_t *rec = g_malloc(4 + len + strlen(text));

        nbd_put32(rec, len);
        memcpy(rec + 4, x->name, len);
        memcpy(rec + 4 + len, text, strlen(text));
        g_ptr_array_add(records, g_bytes_new_take(rec, 4 + len + strlen(text)));
    }
    for (unsigned i = 0; i < records->len && ret == GO_ON; i++) {
        gsize len;
        const void *rec = g_bytes_get_data(g_ptr_array_index(records, i), &len);

        ret = reply(c, o->code, NBD_REP_SERVER, rec, len);
    }
    return ret == GO_ON ? acknowledge(c, o) : ret;
}

/* A string with its length before it, from *at on; NULL: it does not fit. Caller frees. */
static char *take_string(const struct option *o, uint32_t *at)
{
    uint32_t len;
    char *s;

    if (o->len - *at < 4)
        return NULL;
    len = nbd_get32(o->data + *at);
    if (len > NBD_MAX_STRING || len > o->len - *at - 4)
        return NULL;
    s = g_strndup((char *)o->data + *at + 4, len);
    *at += 4 + len;
    if (strlen(s) == len)
        return s;
    g_free(s);                          /* a NUL in it: no export is called so */
    return NULL;
}

static int send_info(struct nbd_client *c, const struct option *o, uint16_t info, const void *data, uint32_t len)
{
    g_autofree uint8_t *buf = g_malloc(2 + len);

    nbd_put16(buf, info);
    memcpy(buf + 2, data, len);
    return reply(c, o->code, NBD_REP_INFO, buf, 2 + len);
}

static int send_infos(struct nbd_client *c, const struct option *o, struct nbd_export *x, const uint8_t *wanted, unsigned count)
{
    bool name = false, description = false, sizes = false;
    struct block_node *n = x->e.b->root;
    uint32_t align = MAX(n->limits.align, 1);
    uint8_t buf[12];
    int ret = GO_ON;

    for (unsigned i = 0; i < count; i++) {
        uint16_t info = nbd_get16(wanted + 2 * i);

        name |= info == NBD_INFO_NAME;
        description |= info == NBD_INFO_DESCRIPTION;
        sizes |= info == NBD_INFO_BLOCK_SIZE;
    }
    if (name)
        ret = send_info(c, o, NBD_INFO_NAME, x->name, strlen(x->name));
    if (ret == GO_ON && description && x->description)
        ret = send_info(c, o, NBD_INFO_DESCRIPTION, x->description, strlen(x->description));
    if (ret != GO_ON)
        return ret;
    /* we take requests of any bytes; who did not ask need not know what would be better */
    nbd_put32(buf, sizes ? align : 1);
    nbd_put32(buf + 4, MAX(4096, align));
    nbd_put32(buf + 8, NBD_MAX_BUFFER);
    ret = send_info(c, o, NBD_INFO_BLOCK_SIZE, buf, 12);
    if (ret != GO_ON)
        return ret;
    nbd_put64(buf, n->size);
    nbd_put16(buf + 8, nbd_export_flags(c, x));
    return send_info(c, o, NBD_INFO_EXPORT, buf, 10);
}

static int opt_go(struct nbd_client *c, const struct option *o)
{
    uint32_t at = 0;
    g_autofree char *name = take_string(o, &at);
    struct nbd_export *x;
    unsigned count;
    int ret;

    if (!name || o->len - at < 2)
        return malformed(c, o);
    count = nbd_get16(o->data + at);
    if (o->len - at - 2 != 2 * count)
        return malformed(c, o);
    x = nbd_export_find(c->server->graph, name);
    if (!x)
        return refuse(c, o, NBD_REP_ERR_UNKNOWN, "export '%s' not present", name);
    export_ref(&x->e);                  /* while we write */
    if (o->code == NBD_OPT_GO && (!c->contexts_for || strcmp(c->contexts_for, name)))
        g_array_set_size(c->contexts, 0);
    ret = send_infos(c, o, x, o->data + at + 2, count);
    if (ret == GO_ON)
        ret = acknowledge(c, o);
    if (ret == GO_ON && o->code == NBD_OPT_GO) {
        if (x->e.shutting_down) {
            ret = -ESHUTDOWN;
        } else {
            choose(c, x);
            ret = TRANSMIT;
        }
    }
    export_unref(&x->e);
    return ret;
}

/* ---- TLS */

static int opt_starttls(struct nbd_client *c, const struct option *o)
{
    struct nbd_server *s = c->server;
    struct error err = ERROR_INIT;
    struct tls_session *tls;
    int ret;

    if (o->len)
        return malformed(c, o);
    if (!s->creds)
        return refuse(c, o, NBD_REP_ERR_POLICY, "TLS not configured");
    if (c->tls)
        return refuse(c, o, NBD_REP_ERR_INVALID, "TLS is on already");
    /* what came in clear before the handshake must not be taken for something said within TLS */
    if (nbd_channel_buffered(c->ch))
        return -EPROTO;
    ret = acknowledge(c, o);
    if (ret != GO_ON)
        return ret;
    tls = tls_session_new(s->creds, nbd_channel_fd(c->ch), true, NULL, s->tls_authz, &err);
    if (!tls) {
        error_clear(&err);
        return -ENOMEM;
    }
    while ((ret = tls_handshake(tls, &err)) == -EAGAIN) {
        ret = nbd_channel_wait(c->ch, tls_wants_write(tls) ? LOOP_OUT : LOOP_IN);
        if (ret)
            break;
    }
    if (ret) {
        log_at(LOG_GUEST_ERRORS, "nbd: %s\n", err.msg ? err.msg : "a client went away");
        error_clear(&err);
        tls_session_free(tls);
        return ret;
    }
    nbd_channel_set_tls(c->ch, tls);
    c->tls = true;
    c->mode = NBD_SIMPLE;               /* nothing said before counts */
    g_array_set_size(c->contexts, 0);
    g_clear_pointer(&c->contexts_for, g_free);
    return GO_ON;
}

/* ---- headers */

static int opt_structured(struct nbd_client *c, const struct option *o)
{
    if (o->len)
        return malformed(c, o);
    if (c->mode >= NBD_EXTENDED)
        return refuse(c, o, NBD_REP_ERR_EXT_HEADER_REQD, "extended headers already negotiated");
    if (c->mode >= NBD_STRUCTURED)
        return refuse(c, o, NBD_REP_ERR_INVALID, "structured reply already negotiated");
    c->mode = NBD_STRUCTURED;
    return acknowledge(c, o);
}

static int opt_extended(struct nbd_client *c, const struct option *o)
{
    if (o->len)
        return malformed(c, o);
    if (c->mode >= NBD_EXTENDED)
        return refuse(c, o, NBD_REP_ERR_INVALID, "extended headers already negotiated");
    c->mode = NBD_EXTENDED;
    return acknowledge(c, o);
}

/* ---- metadata contexts */

static unsigned context_count(const struct nbd_export *x)
{
    return NBD_CONTEXT_BITMAP + (x->bitmaps ? x->bitmaps->len : 0);
}

/* Caller frees; NULL: the export does not have it. */
static char *context_name(const struct nbd_export *x, unsigned number)
{
    if (number == NBD_CONTEXT_BASE)
        return g_strdup("base:allocation");
    if (number == NBD_CONTEXT_DEPTH)
        return x->allocation_depth ? g_strdup("qemu:allocation-depth") : NULL;
    return g_strdup_printf("qemu:dirty-bitmap:%s", ((struct dirty_bitmap *)g_ptr_array_index(x->bitmaps, number - NBD_CONTEXT_BITMAP))->name);
}

/* A query is a whole name, or when listing also "base:", "qemu:", "qemu:dirty-bitmap:". */
static bool context_wanted(const char *name, const char *query, bool list)
{
    static const char *const prefixes[] = { "base:", "qemu:", "qemu:dirty-bitmap:", NULL };

    return !strcmp(name, query) || (list && g_strv_contains(prefixes, query) && g_str_has_prefix(name, query));
}

static int send_context(struct nbd_client *c, const struct option *o, unsigned number, const char *name)
{
    size_t len = strlen(name);
    g_autofree uint8_t *buf = g_malloc(4 + len);

    nbd_put32(buf, o->code == NBD_OPT_SET_META_CONTEXT ? number : 0);
    memcpy(buf + 4, name, len);
    return reply(c, o->code, NBD_REP_META_CONTEXT, buf, 4 + len);
}

/* wanted[]: which numbers any of the queries means. False: malformed. */
static bool take_queries(const struct option *o, uint32_t at, const struct nbd_export *x, bool *wanted)
{
    bool list = o->code == NBD_OPT_LIST_META_CONTEXT;
    uint32_t queries;

    if (o->len - at < 4)
        return false;
    queries = nbd_get32(o->data + at);
    at += 4;
    for (unsigned i = 0; list && !queries && i < context_count(x); i++)
        wanted[i] = true;
    for (; queries; queries--) {        /* each takes four bytes at least: bounded by the option's length */
        g_autofree char *query = take_string(o, &at);

        if (!query)
            return false;
        for (unsigned i = 0; i < context_count(x); i++) {
            g_autofree char *name = context_name(x, i);

            wanted[i] |= name && context_wanted(name, query, list);
        }
    }
    return at == o->len;
}

static int opt_contexts(struct nbd_client *c, const struct option *o)
{
    uint32_t at = 0;
    g_autofree char *export = take_string(o, &at);
    g_autofree bool *wanted = NULL;
    struct nbd_export *x;
    bool set = o->code == NBD_OPT_SET_META_CONTEXT;
    int ret = GO_ON;

    if (set) {
        g_array_set_size(c->contexts, 0);
        g_clear_pointer(&c->contexts_for, g_free);
    }
    if (!export)
        return malformed(c, o);
    if (c->mode < NBD_STRUCTURED)
        return refuse(c, o, NBD_REP_ERR_INVALID, "structured replies come first");
    x = nbd_export_find(c->server->graph, export);
    if (!x)
        return refuse(c, o, NBD_REP_ERR_UNKNOWN, "export '%s' not present", export);
    wanted = g_new0(bool, context_count(x));
    if (!take_queries(o, at, x, wanted))
        return malformed(c, o);
    export_ref(&x->e);
    for (unsigned i = 0; i < context_count(x) && ret == GO_ON; i++) {
        g_autofree char *name = wanted[i] ? context_name(x, i) : NULL;

        if (!name)
            continue;
        if (set)
            g_array_append_val(c->contexts, i);
        ret = send_context(c, o, i, name);
    }
    export_unref(&x->e);
    if (set)
        c->contexts_for = g_steal_pointer(&export);
    return ret == GO_ON ? acknowledge(c, o) : ret;
}

/* ---- the loop */

static const struct {
    uint32_t code;
    bool before_tls;                    /* also where the server wants TLS first */
    int (*take)(struct nbd_client *c, const struct option *o);
} options[] = {
    { NBD_OPT_EXPORT_NAME, false, opt_export_name },
    { NBD_OPT_ABORT, true, opt_abort },
    { NBD_OPT_LIST, false, opt_list },
    { NBD_OPT_STARTTLS, true, opt_starttls },
    { NBD_OPT_INFO, false, opt_go },
    { NBD_OPT_GO, false, opt_go },
    { NBD_OPT_STRUCTURED_REPLY, false, opt_structured },
    { NBD_OPT_LIST_META_CONTEXT, false, opt_contexts },
    { NBD_OPT_SET_META_CONTEXT, false, opt_contexts },
    { NBD_OPT_EXTENDED_HEADERS, false, opt_extended },
};

static int take_option(struct nbd_client *c, const struct option *o, bool fixed)
{
    if (!fixed && o->code != NBD_OPT_EXPORT_NAME)
        return -EPROTO;
    for (unsigned i = 0; i < G_N_ELEMENTS(options); i++) {
        if (options[i].code != o->code)
            continue;
        if (!c->server->creds || c->tls || options[i].before_tls)
            return options[i].take(c, o);
        if (o->code == NBD_OPT_EXPORT_NAME)
            return -EPROTO;             /* cannot be answered */
        return refuse(c, o, NBD_REP_ERR_TLS_REQD, "Option 0x%x not permitted before TLS", o->code);
    }
    return refuse(c, o, NBD_REP_ERR_UNSUP, "Unsupported option %u", o->code);
}

int nbd_negotiate(struct nbd_client *c)
{
    uint8_t head[18];
    uint32_t flags;
    int ret;

    nbd_put64(head, NBD_MAGIC);
    nbd_put64(head + 8, NBD_OPTS_MAGIC);
    nbd_put16(head + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    ret = nbd_write(c->ch, head, 18);
    if (!ret)
        ret = nbd_read(c->ch, head, 4);
    if (ret)
        return ret;
    flags = nbd_get32(head);
    if (flags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES))
        return -EPROTO;
    c->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    ret = GO_ON;
    for (unsigned i = 0; ret == GO_ON && i < OPTIONS_MAX; i++) {
        struct option o;

        ret = nbd_read(c->ch, head, 16);
        if (ret)
            return ret;
        o = (struct option){ .code = nbd_get32(head + 8), .len = nbd_get32(head + 12) };
        if (nbd_get64(head) != NBD_OPTS_MAGIC || o.len > OPTION_SKIP_MAX)
            return -EPROTO;
        if (o.len > OPTION_MAX) {
            ret = nbd_skip(c->ch, o.len);
            if (!ret)
                ret = o.code == NBD_OPT_EXPORT_NAME ? -EPROTO : refuse(c, &o, NBD_REP_ERR_TOO_BIG, "the option is too long");
            continue;
        }
        o.data = g_malloc(o.len + 1);
        ret = nbd_read(c->ch, o.data, o.len);
        if (!ret)
            ret = take_option(c, &o, flags & NBD_FLAG_FIXED_NEWSTYLE);
        g_free(o.data);
    }
    return ret == GO_ON ? -EPROTO : ret;
}
