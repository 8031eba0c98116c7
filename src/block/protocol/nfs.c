/* nfs: files of a server, through libnfs (NFS version 3, RFC 1813; version 4, RFC 7530). The library connects again when the
 * connection breaks, unless it is refused; a server silent for a minute is given up. */
#include <nfsc/libnfs.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "block/protocol/session.h"
#include "rhea/base/library.h"
#include "rhea/base/options.h"
#include "rhea/block/node.h"

/* libnfs 4 has room for little more in a write by version 4 of the protocol. */
enum { WRITE_SMALL = 2048 };
enum { TRANSFER_MAX = 1 << 20, READAHEAD_MAX = 1 << 20, PAGECACHE_MAX = 8 << 20 };

#define SYMBOLS(X)                                                                                                          \
    X(nfs_init_context) X(nfs_destroy_context) X(nfs_get_error) X(nfs_get_fd) X(nfs_which_events) X(nfs_service)            \
    X(nfs_set_version) X(nfs_set_uid) X(nfs_set_gid) X(nfs_set_tcp_syncnt) X(nfs_set_readahead) X(nfs_set_pagecache)         \
    X(nfs_set_debug) X(nfs_get_readmax) X(nfs_get_writemax) X(nfs_mount_async) X(nfs_open2_async)                          \
    X(nfs_close_async) X(nfs_fstat64_async) X(nfs_pread_async) X(nfs_pwrite_async) X(nfs_fsync_async) X(nfs_ftruncate_async)  \
    X(nfs_parse_url_incomplete) X(nfs_destroy_url)
#define DECLARE(name) typeof(name) *name;
#define SYMBOL(name) { #name, (void **)&api.name },
static struct { SYMBOLS(DECLARE) } api;
static const struct library_symbol api_symbols[] = { SYMBOLS(SYMBOL) { NULL, NULL } };
static struct library libnfs = { .sonames = { "libnfs.so.13", "libnfs.so.14" }, .hint = "install libnfs13", .symbols = api_symbols };

struct nfs {
    struct session session;
    struct nfsfh *file;
    char *server, *export, *path;       /* path: below the export */
    uint64_t size, used;
    atomic_uint write_max;      /* bytes */
    char *error;                /* the library's own words */
};

static const char *const nfs_options[] = { "server", "path", "user", "group", "tcp-syn-count", "readahead-size", "page-cache-size", "debug",
                                           "version", "port", "mount-port", NULL };
static const char *const nfs_create_options[] = { "size", NULL };

/* ---- names */

static const struct { const char *query, *option; } parameters[] = {
    { "uid", "user" }, { "gid", "group" }, { "tcp-syncnt", "tcp-syn-count" }, { "readahead", "readahead-size" },
    { "pagecache", "page-cache-size" }, { "debug", "debug" }, { "version", "version" }, { "nfsport", "port" }, { "mountport", "mount-port" },
};

static void put(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, json_object_new_string(value));
}

static bool query_take(struct json_object *o, const char *text, struct error *err)
{
    g_autoptr(GHashTable) query = g_uri_parse_params(text, -1, "&;", G_URI_PARAMS_NONE, NULL);
    GHashTableIter it;
    void *key, *value;

    if (!query)
        return error_set(err, ERR_GENERIC, "cannot parse the query of the name", "NAME=VALUE&NAME=VALUE");
    g_hash_table_iter_init(&it, query);
    while (g_hash_table_iter_next(&it, &key, &value)) {
        unsigned i = 0;

        while (i < G_N_ELEMENTS(parameters) && strcmp(parameters[i].query, key))
            i++;
        if (i == G_N_ELEMENTS(parameters))
            return error_setf(err, ERR_GENERIC, "uid, gid, tcp-syncnt, readahead, pagecache, debug, version, nfsport, mountport",
                              "Unknown NFS parameter name: %s", (char *)key);
        put(o, parameters[i].option, value);
    }
    return true;
}

/* nfs://SERVER/EXPORT/FILE[?uid=...&...] */
static struct json_object *nfs_name_options(const char *filename, struct error *err)
{
    g_autoptr(GUri) uri = g_uri_parse(filename, G_URI_FLAGS_NONE, NULL);
    struct json_object *o, *server;

    if (!uri || !g_uri_get_host(uri) || !*g_uri_get_host(uri) || strlen(g_uri_get_path(uri)) < 2) {
        error_setf(err, ERR_GENERIC, "nfs://SERVER/EXPORT/FILE", "%s: not the name of a file by NFS", filename);
        return NULL;
    }
    o = json_object_new_object();
    server = json_object_new_object();
    put(server, "type", "inet");
    put(server, "host", g_uri_get_host(uri));
    put(o, "driver", "nfs");
    json_object_object_add(o, "server", server);
    put(o, "path", g_uri_get_path(uri));
    if (!g_uri_get_query(uri) || query_take(o, g_uri_get_query(uri), err))
        return o;
    json_object_put(o);
    return NULL;
}

/* ---- calls */

struct call {
    struct nfs *s;
    int (*fn)(struct call *c, nfs_cb done);    /* hands it to the library */
    int (*take)(struct call *c, int ret, void *data);   /* or NULL: the answer, good only while this runs */
    uint64_t off, bytes;
    uint8_t *buf;
    int flags;                  /* open()'s */
    bool refused;               /* the library would not take it */
    struct session_call *call;
};

static void call_done(int ret, struct nfs_context *context, void *data, void *arg)
{
    struct call *c = arg;

    if (ret < 0) {
        g_free(c->s->error);
        c->s->error = g_strdup(data ? data : "");
    } else if (c->take) {
        ret = c->take(c, ret, data);
    }
    session_done(c->call, ret);
}

static bool call_start(struct session_call *call, void *arg)
{
    struct call *c = arg;

    c->call = call;
    c->refused = c->fn(c, call_done);
    return !c->refused;
}

static int call_here(void *arg)
{
    struct call *c = arg;

    return session_call(&c->s->session, call_start, c);
}

/* [co] From any thread. */
static int call_run(struct call *c)
{
    return session_run(&c->s->session, call_here, c);
}

static struct nfs_context *context_of(struct call *c)
{
    return c->s->session.context;
}

/* ---- opening */

static int do_mount(struct call *c, nfs_cb done)
{
    return api.nfs_mount_async(context_of(c), c->s->server, c->s->export, done, c);
}

static int do_open(struct call *c, nfs_cb done)
{
    return api.nfs_open2_async(context_of(c), c->s->path, c->flags, 0644, done, c);
}

static int take_file(struct call *c, int ret, void *data)
{
    c->s->file = data;
    return 0;
}

static int do_stat(struct call *c, nfs_cb done)
{
    return api.nfs_fstat64_async(context_of(c), c->s->file, done, c);
}

static int take_stat(struct call *c, int ret, void *data)
{
    const struct nfs_stat_64 *st = data;

    c->s->size = st->nfs_size;
    c->s->used = st->nfs_used;
    return S_ISREG(st->nfs_mode) && st->nfs_size <= INT64_MAX ? 0 : -EFBIG;
}

static int do_close(struct call *c, nfs_cb done)
{
    return api.nfs_close_async(context_of(c), c->s->file, done, c);
}

static int context_fd(void *context) { return api.nfs_get_fd(context); }
static int context_events(void *context) { return api.nfs_which_events(context); }
static int context_service(void *context, int revents) { return api.nfs_service(context, revents); }
static void context_destroy(void *context) { api.nfs_destroy_context(context); }
static const struct session_ops nfs_ops = { context_fd, context_events, context_service, context_destroy };

static bool number(struct json_object *opts, const char *key, int64_t min, int64_t max, int64_t def, int64_t *v, struct error *err)
{
    if (!option_int(opts, key, def, v, err))
        return false;
    return (*v >= min && *v <= max) || *v == def ||
           error_setf(err, ERR_GENERIC, NULL, "%s must be from %" PRId64 " to %" PRId64, key, min, max);
}

/* What the library takes only as part of a name. */
static bool ports_take(struct nfs *s, struct nfs_context *context, int64_t port, int64_t mount_port, struct error *err)
{
    g_autofree char *url = g_strdup_printf("nfs://%s/?nfsport=%d&mountport=%d", s->server, (int)port, (int)(mount_port ? mount_port : port));
    struct nfs_url *u = port ? api.nfs_parse_url_incomplete(context, url) : NULL;

    if (u)
        api.nfs_destroy_url(u);
    return u || !port || error_set(err, ERR_GENERIC, "cannot set the ports of the server", NULL);
}

static bool context_set(struct nfs *s, struct nfs_context *context, struct json_object *opts, struct error *err)
{
    int64_t user, group, syn, ahead, cache, debug, version, port, mount_port;

    if (!number(opts, "user", 0, UINT16_MAX * 65536ll, -1, &user, err) || !number(opts, "group", 0, UINT16_MAX * 65536ll, -1, &group, err) ||
        !number(opts, "tcp-syn-count", 1, 255, 0, &syn, err) || !number(opts, "readahead-size", 0, READAHEAD_MAX, 0, &ahead, err) ||
        !number(opts, "page-cache-size", 0, PAGECACHE_MAX / 4096, 0, &cache, err) || !number(opts, "debug", 0, 9, 0, &debug, err) ||
        !number(opts, "version", 3, 4, 3, &version, err) || !number(opts, "port", 1, 65535, 0, &port, err) ||
        !number(opts, "mount-port", 1, 65535, 0, &mount_port, err) || !ports_take(s, context, port, mount_port, err))
        return false;
    if (user >= 0)
        api.nfs_set_uid(context, user);
    if (group >= 0)
        api.nfs_set_gid(context, group);
    if (syn)
        api.nfs_set_tcp_syncnt(context, syn);
    if (ahead)
        api.nfs_set_readahead(context, ahead);
    if (cache)
        api.nfs_set_pagecache(context, cache);
    if (debug)
        api.nfs_set_debug(context, MIN(debug, 2));
    return !api.nfs_set_version(context, version) || error_set(err, ERR_GENERIC, "this libnfs does not know version 4", NULL);
}

static const char *shown_export(const struct nfs *s) { return strcmp(s->export, "/") ? s->export : ""; }

/* The server has a hand in the text. */
static bool failure(struct nfs *s, int ret, const char *what, struct error *err)
{
    for (char *p = s->error; p && *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    return error_setf(err, ERR_GENERIC, ret == -ENOENT ? "check the spelling" : ret == -EACCES || ret == -EPERM ? "the export may want a port below 1024: "
                      "run as root, or export it with 'insecure'; user=UID,group=GID say who we are"
                      : ret == -EFAULT ? "does an NFS server run there, and does a firewall let us in?" : NULL,    /* libnfs: no connection */
                      "cannot %s nfs://%s%s%s: %s", what, s->server, shown_export(s), s->path,
                      s->error && *s->error ? s->error : ret == -EFAULT ? "no answer" : g_strerror(-ret));
}

/* PATH's last part is the file, the rest the export. */
static bool path_take(struct nfs *s, struct json_object *opts, struct error *err)
{
    const char *path = option_str(opts, "path", NULL), *slash = path ? strrchr(path, '/') : NULL;
    struct json_object *server = NULL;
    const char *host;

    json_object_object_get_ex(opts, "server", &server);
    host = server ? option_str(server, "host", NULL) : NULL;
    if (!host || !*host || strcmp(option_str(server, "type", "inet"), "inet"))
        return error_set(err, ERR_GENERIC, "driver nfs needs a server", "server.type=inet,server.host=HOST");
    if (!slash || !slash[1] || *path != '/')
        return error_set(err, ERR_GENERIC, "driver nfs needs a path", "path=/EXPORT/FILE");
    s->export = slash == path ? g_strdup("/") : g_strndup(path, slash - path);
    s->path = g_strdup(slash);
    s->server = session_resolve(host, err);
    return s->server != NULL;
}

/* [co] */
static bool connect_open(struct nfs *s, struct json_object *opts, int flags, bool create, struct error *err)
{
    struct call mount = { .s = s, .fn = do_mount }, open = { .s = s, .fn = do_open, .take = take_file, .flags = flags },
                stat = { .s = s, .fn = do_stat, .take = take_stat };
    struct nfs_context *context;
    int ret;

    if (!library_load(&libnfs, err) || !path_take(s, opts, err))
        return false;
    context = api.nfs_init_context();
    if (!context)
        return error_set(err, ERR_GENERIC, "cannot set up a session", NULL);
    session_begin(&s->session, &nfs_ops, context);
    if (!context_set(s, context, opts, err))
        return false;
    ret = call_run(&mount);
    if (ret < 0)
        return failure(s, ret, "mount the folder of", err);
    ret = call_run(&open);
    if (ret == -ENOENT && create) {             /* in two steps: by version 4 the library cannot create what is there */
        open.flags |= O_CREAT;
        ret = call_run(&open);
    }
    if (!ret)
        ret = call_run(&stat);
    return !ret || failure(s, ret, "open", err);
}

static int end_here(void *arg)
{
    struct nfs *s = arg;
    struct call c = { .s = s, .fn = do_close };

    s->session.silence_ns = 2000000000;
    if (s->session.context && s->file)
        call_here(&c);
    session_end(&s->session);
    return 0;
}

/* [co] */
static void connection_end(struct nfs *s)
{
    if (s->session.ops)
        session_run(&s->session, end_here, s);
    g_free(s->server);
    g_free(s->export);
    g_free(s->path);
    g_free(s->error);
}

static bool nfs_node_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct nfs *s = n->state;

    if (!connect_open(s, opts, n->read_only ? O_RDONLY : O_RDWR, false, err))
        return false;
    n->filename = g_strdup_printf("nfs://%s%s%s", s->server, shown_export(s), s->path);
    n->size = s->size;
    s->write_max = TRANSFER_MAX;
    n->zero_past_end = true;
    n->limits.align = 1;
    n->limits.max_transfer = MIN(MIN(api.nfs_get_readmax(s->session.context), api.nfs_get_writemax(s->session.context)), TRANSFER_MAX);
    n->limits.max_transfer = MAX(n->limits.max_transfer, 4096);
    return true;
}

static void nfs_node_close(struct block_node *n)
{
    connection_end(n->state);
}

/* ---- I/O */

static int do_read(struct call *c, nfs_cb done)
{
    return api.nfs_pread_async(context_of(c), c->s->file, c->off, c->bytes, done, c);
}

static int take_data(struct call *c, int ret, void *data)
{
    ret = MIN((uint64_t)ret, c->bytes);
    memcpy(c->buf, data, ret);
    return ret;
}

static int do_write(struct call *c, nfs_cb done)
{
    return api.nfs_pwrite_async(context_of(c), c->s->file, c->off, c->bytes, c->buf, done, c);
}

static int do_flush(struct call *c, nfs_cb done)
{
    return api.nfs_fsync_async(context_of(c), c->s->file, done, c);
}

static int do_resize(struct call *c, nfs_cb done)
{
    return api.nfs_ftruncate_async(context_of(c), c->s->file, c->off, done, c);
}

/* In as many calls as the server wants. A read past the end gives zeroes. */
static int transfer(struct call c)
{
    uint64_t rest = c.bytes;

    while (rest) {
        int ret;

        c.bytes = c.take ? rest : MIN(rest, c.s->write_max);
        ret = call_run(&c);
        if (c.refused && !c.take && c.bytes > WRITE_SMALL) {
            c.s->write_max = WRITE_SMALL;
            continue;
        }
        if (ret < 0)
            return ret;
        if (!ret && !c.take)
            return -EIO;
        if (!ret) {
            memset(c.buf, 0, rest);
            return 0;
        }
        ret = MIN((uint64_t)ret, c.bytes);
        c.off += ret;
        c.buf += ret;
        rest -= ret;
    }
    return 0;
}

static int nfs_node_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    g_autofree uint8_t *bounce = niov == 1 ? NULL : g_malloc(bytes);
    int ret = transfer((struct call){ .s = n->state, .fn = do_read, .take = take_data, .off = off, .bytes = bytes,
                                      .buf = bounce ? bounce : iov->iov_base });

    if (bounce && !ret)
        iov_write(iov, niov, 0, bounce, bytes);
    return ret;
}

static int nfs_node_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    g_autofree uint8_t *bounce = niov == 1 ? NULL : g_malloc(bytes);

    if (bounce)
        iov_read(iov, niov, 0, bounce, bytes);
    return transfer((struct call){ .s = n->state, .fn = do_write, .off = off, .bytes = bytes, .buf = bounce ? bounce : iov->iov_base });
}

static int nfs_node_flush(struct block_node *n)
{
    struct call c = { .s = n->state, .fn = do_flush };

    return MIN(call_run(&c), 0);
}

static int nfs_node_truncate(struct block_node *n, uint64_t size, struct error *err)
{
    struct call c = { .s = n->state, .fn = do_resize, .off = size };
    int ret = MIN(call_run(&c), 0);

    if (ret)
        error_set_errno(err, -ret, NULL, "%s: cannot resize", n->filename);
    else
        n->size = size;
    return ret;
}

struct used { struct nfs *s; int64_t bytes; };

static void used_run(void *arg)
{
    struct used *u = arg;
    struct call c = { .s = u->s, .fn = do_stat, .take = take_stat };
    uint64_t size = u->s->size;
    int ret = call_run(&c);

    u->bytes = ret < 0 ? ret : (int64_t)MIN(u->s->used, INT64_MAX);
    u->s->size = size;
}

static int64_t nfs_node_allocated(struct block_node *n)
{
    struct used u = { .s = n->state };

    block_run(n->graph, used_run, &u);
    return u.bytes;
}

static bool nfs_node_create(struct block_graph *g, const char *filename, struct json_object *opts, struct error *err)
{
    struct nfs s = { 0 };
    struct call c = { .s = &s, .fn = do_resize };
    struct json_object *o = nfs_name_options(filename, err);
    uint64_t size;
    int ret;
    bool ok;

    if (!o)
        return false;
    ok = option_size(opts, "size", 0, &size, err) && connect_open(&s, o, O_RDWR, true, err);
    if (ok) {
        ret = call_run(&c);                     /* to nothing, then to its size: what was there is gone */
        c.off = size;
        ret = ret < 0 ? ret : call_run(&c);
        ok = ret >= 0 || failure(&s, ret, "create", err);
    }
    connection_end(&s);
    json_object_put(o);
    return ok;
}

BLOCK_DRIVER = {
    .name = "nfs", .summary = "a file of a server, by NFS", .kind = DRIVER_PROTOCOL, .size = sizeof(struct nfs),
    .scheme = "nfs://", .name_options = nfs_name_options, .options = nfs_options, .create_options = nfs_create_options,
    .growable = true, .open = nfs_node_open, .close = nfs_node_close, .preadv = nfs_node_preadv, .pwritev = nfs_node_pwritev,
    .flush = nfs_node_flush, .truncate = nfs_node_truncate, .allocated_size = nfs_node_allocated, .create = nfs_node_create,
};
