/* The NBD client's side of negotiation (doc/proto.md, "Handshake" and "Option haggling"): fixed newstyle, and what older
 * servers speak. */
#include "block/nbd-client.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <glib.h>
#include "block/aio.h"
#include "rhea/base/options.h"
#include "rhea/vm/tls.h"

/* A server that says more than this in one reply, or more often, is not heard out. */
enum { REPLY_MAX = 64 << 10, REPLIES_MAX = 4096, EXPORTS_MAX = 1024, CONNECT_MS = 30000 };

struct session {
    struct nbd_connect *o;
    struct nbd_peer *p;
    struct error *err;
    bool fixed, no_zeroes;
    bool lasting;
    /* the reply just read */
    uint32_t type, len;
    uint8_t *data;                      /* NUL-terminated beyond len */
    struct loop_timer *deadline;
};

/* ---- messages */

static bool broken(struct session *s, int ret, const char *what)
{
    return error_set_errno(s->err, -ret, ret == -ENOTCONN ? "the server closed the connection: look at its log" : NULL,
                           "NBD negotiation: cannot %s", what);
}

static bool violates(struct session *s, const char *what)
{
    s->lasting = true;
    return error_setf(s->err, ERR_GENERIC, "is it an NBD server?", "NBD negotiation: %s", what);
}

static bool ask(struct session *s, uint32_t option, const void *data, uint32_t len)
{
    uint8_t head[16];
    struct iovec iov[] = { { head, sizeof(head) }, { (void *)data, len } };
    int ret;

    nbd_put64(head, NBD_OPTS_MAGIC);
    nbd_put32(head + 8, option);
    nbd_put32(head + 12, len);
    ret = nbd_writev(s->p->ch, iov, 2);
    return !ret || broken(s, ret, "send an option");
}

static bool answer(struct session *s, uint32_t option)
{
    uint8_t head[20];
    int ret = nbd_read(s->p->ch, head, sizeof(head));

    g_clear_pointer(&s->data, g_free);
    if (ret)
        return broken(s, ret, "read the answer to an option");
    s->type = nbd_get32(head + 12);
    s->len = nbd_get32(head + 16);
    if (nbd_get64(head) != NBD_REP_MAGIC || nbd_get32(head + 8) != option || s->len > REPLY_MAX)
        return violates(s, "a malformed answer");
    s->data = g_malloc(s->len + 1);
    s->data[s->len] = 0;
    ret = nbd_read(s->p->ch, s->data, s->len);
    return !ret || broken(s, ret, "read the answer to an option");
}

static bool is_error(const struct session *s)
{
    return s->type & 0x80000000u;
}

/* What the server says about an error, made harmless for a terminal. */
static char *server_text(const struct session *s)
{
    char *text = g_strndup((char *)s->data, MIN(s->len, 512));

    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127)
            *c = ' ';
    if (!g_utf8_validate(text, -1, NULL)) {
        char *valid = g_utf8_make_valid(text, -1);

        g_free(text);
        text = valid;
    }
    return text;
}

static bool refused(struct session *s, const char *what)
{
    static const struct { uint32_t type; const char *text, *hint; } reasons[] = {
        { NBD_REP_ERR_UNSUP, "the server does not know it", NULL },
        { NBD_REP_ERR_POLICY, "the server does not allow it", NULL },
        { NBD_REP_ERR_INVALID, "the server finds it malformed", NULL },
        { NBD_REP_ERR_PLATFORM, "the server's platform has it not", NULL },
        { NBD_REP_ERR_TLS_REQD, "the server wants TLS", "add tls-creds=ID of an -object tls-creds-..." },
        { NBD_REP_ERR_UNKNOWN, "there is no such export", "rhea-nbd --list tells which there are" },
        { NBD_REP_ERR_SHUTDOWN, "the server is shutting down", NULL },
        { NBD_REP_ERR_BLOCK_SIZE_REQD, "the server wants its block sizes kept", NULL },
        { NBD_REP_ERR_TOO_BIG, "the server finds it too long", NULL },
    };
    g_autofree char *text = server_text(s);
    const char *why = "the server refuses", *hint = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(reasons); i++) {
        if (reasons[i].type == s->type) {
            why = reasons[i].text;
            hint = reasons[i].hint;
        }
    }
    s->lasting = s->type != NBD_REP_ERR_SHUTDOWN;
    return error_setf(s->err, ERR_GENERIC, hint, *text ? "NBD: %s: %s (\"%s\")" : "NBD: %s: %s", what, why, text);
}

/* An option without data, that is granted or not. */
static bool request_plain(struct session *s, uint32_t option, bool *granted)
{
    if (!ask(s, option, NULL, 0) || !answer(s, option))
        return false;
    *granted = s->type == NBD_REP_ACK;
    return *granted || is_error(s) || violates(s, "an answer that is none");
}

/* ---- TLS */

static bool start_tls(struct session *s)
{
    const char *host = s->o->tls_hostname;
    struct tls_session *tls;
    bool granted;
    int ret;

    if (!s->fixed)
        return violates(s, "the server is too old for TLS");
    if (!request_plain(s, NBD_OPT_STARTTLS, &granted))
        return false;
    if (!granted)
        return refused(s, "STARTTLS");
    if (nbd_channel_buffered(s->p->ch))
        return violates(s, "something in clear follows the start of TLS");
    if (!host && !strcmp(option_str(s->o->addr, "type", ""), "inet"))
        host = option_str(s->o->addr, "host", NULL);
    tls = tls_session_new(s->o->creds, nbd_channel_fd(s->p->ch), false, host, NULL, s->err);
    if (!tls)
        return false;
    while ((ret = tls_handshake(tls, s->err)) == -EAGAIN) {
        ret = nbd_channel_wait(s->p->ch, tls_wants_write(tls) ? LOOP_OUT : LOOP_IN);
        if (ret)
            break;
    }
    if (!ret) {
        nbd_channel_set_tls(s->p->ch, tls);
        return true;
    }
    s->lasting = ret == -EACCES;
    tls_session_free(tls);
    return broken(s, ret, "begin TLS");
}

/* ---- contexts, export */

static uint8_t *put_string(uint8_t *p, const char *s)
{
    size_t len = strlen(s);

    nbd_put32(p, len);
    memcpy(p + 4, s, len);
    return p + 4 + len;
}

static bool set_context(struct session *s)
{
    const char *export = s->o->export, *context = s->o->context;
    g_autofree uint8_t *data = g_malloc(12 + strlen(export) + strlen(context));
    uint8_t *p = put_string(data, export);

    nbd_put32(p, 1);
    p = put_string(p + 4, context);
    if (!ask(s, NBD_OPT_SET_META_CONTEXT, data, p - data))
        return false;
    for (unsigned i = 0; i < REPLIES_MAX; i++) {
        if (!answer(s, NBD_OPT_SET_META_CONTEXT))
            return false;
        if (s->type == NBD_REP_ACK || is_error(s))
            return true;
        if (s->type != NBD_REP_META_CONTEXT || s->len < 4 || strcmp((char *)s->data + 4, context))
            return violates(s, "a metadata context that was not asked for");
        s->p->has_context = true;
        s->p->context_id = nbd_get32(s->data);
    }
    return violates(s, "too many answers");
}

static bool take_sizes(struct session *s)
{
    struct nbd_peer *p = s->p;

    if (s->len != 14)
        return violates(s, "malformed block sizes");
    p->min_block = nbd_get32(s->data + 2);
    p->opt_block = nbd_get32(s->data + 6);
    p->max_block = nbd_get32(s->data + 10);
    if (!p->min_block || p->min_block > 65536 || p->min_block & (p->min_block - 1) || p->max_block < p->min_block ||
        (p->max_block != UINT32_MAX && p->max_block % p->min_block))
        return violates(s, "block sizes that make no sense");
    return true;
}

/* NBD_OPT_GO or INFO. *known false: the server does not know the option. description: where it goes, or NULL. */
static bool request_info(struct session *s, uint32_t option, const char *name, char **description, bool *known)
{
    g_autofree uint8_t *data = g_malloc(4 + strlen(name) + 2 + 4);
    uint8_t *p = put_string(data, name);
    bool have = false;

    *known = true;
    nbd_put16(p, description ? 2 : 1);
    nbd_put16(p + 2, NBD_INFO_BLOCK_SIZE);
    nbd_put16(p + 4, NBD_INFO_DESCRIPTION);
    if (!ask(s, option, data, p + (description ? 6 : 4) - data))
        return false;
    for (unsigned i = 0; i < REPLIES_MAX; i++) {
        if (!answer(s, option))
            return false;
        if (s->type == NBD_REP_ACK)
            return have || violates(s, "the export's size is missing");
        *known = s->type != NBD_REP_ERR_UNSUP;
        if (!*known)
            return true;
        if (is_error(s)) {
            g_autofree char *what = g_strdup_printf("export '%s'", name);

            return refused(s, what);
        }
        if (s->type != NBD_REP_INFO || s->len < 2)
            return violates(s, "a malformed answer");
        switch (nbd_get16(s->data)) {
        case NBD_INFO_EXPORT:
            if (s->len != 12)
                return violates(s, "a malformed export");
            s->p->size = nbd_get64(s->data + 2);
            s->p->flags = nbd_get16(s->data + 10);
            have = true;
            break;
        case NBD_INFO_BLOCK_SIZE:
            if (!take_sizes(s))
                return false;
            break;
        case NBD_INFO_DESCRIPTION:
            if (description) {
                g_free(*description);
                *description = g_strndup((char *)s->data + 2, MIN(s->len - 2, NBD_MAX_STRING));
            }
            break;
        default:
            break;
        }
    }
    return violates(s, "too many answers");
}

/* The only way before NBD_OPT_GO; a server that has no such export hangs up. */
static bool export_name(struct session *s)
{
    uint8_t head[10];
    int ret;

    if (!ask(s, NBD_OPT_EXPORT_NAME, s->o->export, strlen(s->o->export)))
        return false;
    ret = nbd_read(s->p->ch, head, sizeof(head));
    if (!ret && !s->no_zeroes)
        ret = nbd_skip(s->p->ch, 124);
    if (ret)
        return broken(s, ret, "get the export");
    s->p->size = nbd_get64(head);
    s->p->flags = nbd_get16(head + 8);
    return true;
}

static bool headers(struct session *s)
{
    bool granted;

    if (!request_plain(s, NBD_OPT_EXTENDED_HEADERS, &granted))
        return false;
    if (granted) {
        s->p->mode = NBD_EXTENDED;
        return true;
    }
    if (s->type == NBD_REP_ERR_TLS_REQD)
        return refused(s, "negotiation");
    if (!request_plain(s, NBD_OPT_STRUCTURED_REPLY, &granted))
        return false;
    s->p->mode = granted ? NBD_STRUCTURED : NBD_SIMPLE;
    return true;
}

/* ---- the greeting */

/* Before 2012: no options, one export. */
static bool oldstyle(struct session *s)
{
    uint8_t body[12];
    int ret;

    if (*s->o->export || s->o->creds)
        return violates(s, "the server is too old for names of exports and TLS");
    ret = nbd_read(s->p->ch, body, sizeof(body));
    if (!ret)
        ret = nbd_skip(s->p->ch, 124);
    if (ret)
        return broken(s, ret, "read the greeting");
    s->p->size = nbd_get64(body);
    s->p->flags = nbd_get32(body + 8);
    return true;
}

/* *old: there is nothing to negotiate any more. */
static bool greeting(struct session *s, bool *old)
{
    uint8_t head[18];
    uint16_t flags;
    int ret = nbd_read(s->p->ch, head, 16);

    *old = false;
    if (ret)
        return broken(s, ret, "read the greeting");
    if (nbd_get64(head) != NBD_MAGIC)
        return violates(s, "the greeting is not NBD's");
    if (nbd_get64(head + 8) == NBD_OLDSTYLE_MAGIC) {
        *old = true;
        return oldstyle(s);
    }
    if (nbd_get64(head + 8) != NBD_OPTS_MAGIC)
        return violates(s, "the greeting is not NBD's");
    ret = nbd_read(s->p->ch, head + 16, 2);
    if (ret)
        return broken(s, ret, "read the greeting");
    flags = nbd_get16(head + 16);
    s->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
    s->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    nbd_put32(head, flags & (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES));
    ret = nbd_write(s->p->ch, head, 4);
    return !ret || broken(s, ret, "answer the greeting");
}

static bool negotiate(struct session *s)
{
    bool known = false, old;

    if (!greeting(s, &old))
        return false;
    if (old)
        return true;
    if (s->o->creds && !start_tls(s))
        return false;
    if (!s->fixed)
        return export_name(s);
    if (!s->o->simple && !headers(s))
        return false;
    if (s->p->mode >= NBD_STRUCTURED && s->o->context && !set_context(s))
        return false;
    if (!request_info(s, NBD_OPT_GO, s->o->export, NULL, &known))
        return false;
    if (known)
        return true;
    if (s->p->mode == NBD_EXTENDED)
        return violates(s, "extended headers without NBD_OPT_GO");
    return export_name(s);
}

/* ---- connections */

struct dial { struct nbd_connect *o; struct error *err; int fd; };

static int dial_job(void *arg)
{
    struct dial *d = arg;

    d->fd = nbd_address_connect(d->o->addr, CONNECT_MS, &d->o->cancel, d->err);
    return 0;
}

static void too_late(void *arg)
{
    nbd_channel_shutdown(arg);
}

static bool session_open(struct session *s)
{
    struct dial d = { s->o, s->err, -1 };

    if (strlen(s->o->export) > NBD_MAX_STRING || (s->o->context && strlen(s->o->context) > NBD_MAX_STRING)) {
        s->lasting = true;
        return error_set(s->err, ERR_GENERIC, "export name too long to send to server", "4096 bytes at most");
    }
    pool_run(dial_job, &d);
    if (d.fd < 0)
        return false;
    if (s->o->cancel) {
        close(d.fd);
        return error_set(s->err, ERR_GENERIC, "the connection was given up", NULL);
    }
    s->o->ch = s->p->ch = nbd_channel_new(d.fd, loop_current());
    s->deadline = loop_timer_new(loop_current(), too_late, s->p->ch);
    loop_timer_set(s->deadline, host_clock_ns() + CONNECT_MS * 1000000ll);
    return true;
}

static void session_close(struct session *s, bool ok)
{
    loop_timer_free(s->deadline);
    g_free(s->data);
    s->o->ch = NULL;
    if (ok)
        return;
    nbd_channel_free(s->p->ch);
    s->p->ch = NULL;
}

bool nbd_connect(struct nbd_connect *o, struct nbd_peer *p, bool *lasting, struct error *err)
{
    struct session s = { .o = o, .p = p, .err = err };
    bool ok;

    *p = (struct nbd_peer){ 0 };
    ok = session_open(&s) && negotiate(&s);
    if (ok && p->size > INT64_MAX)
        ok = violates(&s, "the export is too large");
    session_close(&s, ok);
    if (lasting)
        *lasting = s.lasting;
    return ok;
}

/* ---- listing */

struct entry { char *name, *description; };

static void entry_free(void *arg)
{
    struct entry *e = arg;

    g_free(e->name);
    g_free(e->description);
    g_free(e);
}

static bool list_names(struct session *s, GPtrArray *out)
{
    if (!ask(s, NBD_OPT_LIST, NULL, 0))
        return false;
    for (unsigned i = 0; i < EXPORTS_MAX; i++) {
        struct entry *e;
        uint32_t len;

        if (!answer(s, NBD_OPT_LIST))
            return false;
        if (s->type == NBD_REP_ACK)
            return true;
        if (is_error(s))
            return refused(s, "list");
        len = s->len >= 4 ? nbd_get32(s->data) : UINT32_MAX;
        if (s->type != NBD_REP_SERVER || len > s->len - 4 || len > NBD_MAX_STRING)
            return violates(s, "a malformed list");
        e = g_new0(struct entry, 1);
        e->name = g_strndup((char *)s->data + 4, len);
        e->description = g_strndup((char *)s->data + 4 + len, MIN(s->len - 4 - len, NBD_MAX_STRING));
        g_ptr_array_add(out, e);
    }
    return violates(s, "too many exports");
}

static bool list_contexts(struct session *s, const char *name, GPtrArray *out)
{
    g_autofree uint8_t *data = g_malloc(8 + strlen(name));
    uint8_t *p = put_string(data, name);

    nbd_put32(p, 0);
    if (!ask(s, NBD_OPT_LIST_META_CONTEXT, data, p + 4 - data))
        return false;
    for (unsigned i = 0; i < REPLIES_MAX; i++) {
        if (!answer(s, NBD_OPT_LIST_META_CONTEXT))
            return false;
        if (s->type == NBD_REP_ACK || is_error(s))
            return true;
        if (s->type != NBD_REP_META_CONTEXT || s->len < 4)
            return violates(s, "a malformed metadata context");
        g_ptr_array_add(out, g_strndup((char *)s->data + 4, MIN(s->len - 4, NBD_MAX_STRING)));
    }
    return violates(s, "too many answers");
}

static bool list_one(struct session *s, struct entry *e, void (*fn)(const struct nbd_listed *e, void *arg), void *arg)
{
    g_autoptr(GPtrArray) contexts = g_ptr_array_new_with_free_func(g_free);
    struct nbd_peer *p = s->p;
    bool known;

    p->size = p->flags = p->min_block = p->opt_block = p->max_block = 0;
    if (!request_info(s, NBD_OPT_INFO, e->name, &e->description, &known))
        return false;
    if (p->mode >= NBD_STRUCTURED && !list_contexts(s, e->name, contexts))
        return false;
    g_ptr_array_add(contexts, NULL);
    fn(&(struct nbd_listed){ e->name, *e->description ? e->description : NULL, p, (char **)contexts->pdata }, arg);
    return true;
}

bool nbd_list(struct nbd_connect *o, unsigned *count, void (*fn)(const struct nbd_listed *e, void *arg), void *arg, struct error *err)
{
    struct nbd_peer peer = { 0 };
    struct session s = { .o = o, .p = &peer, .err = err };
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func(entry_free);
    bool old = false, ok = session_open(&s) && greeting(&s, &old);

    if (ok && (old || !s.fixed))
        ok = violates(&s, "the server is too old to list its exports");
    ok = ok && (!o->creds || start_tls(&s)) && headers(&s) && list_names(&s, entries);
    if (ok && count)
        *count = entries->len;
    for (unsigned i = 0; ok && i < entries->len; i++)
        ok = list_one(&s, g_ptr_array_index(entries, i), fn, arg);
    if (ok)
        ask(&s, NBD_OPT_ABORT, NULL, 0);
    session_close(&s, false);
    return ok;
}
