/* rbd: images of a Ceph cluster, through librbd and librados. Names and options as "rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT][:KEY=VALUE]..."
 * has them, with '\' before what shall not divide. What blocks (connecting, opening, resizing, the map of what is there) runs on a
 * thread of the pool; reads and writes end on the library's threads, which only post. */
#include <rados/librados.h>
#include <rbd/features.h>
#include <rbd/librbd.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include "block/aio.h"
#include "rhea/base/coroutine.h"
#include "rhea/base/library.h"
#include "rhea/base/options.h"
#include "rhea/block/crypto.h"
#include "rhea/block/node.h"

enum { STATUS_FOUND = 1 };                      /* ends a walk: the library hands it back */

#define RADOS_SYMBOLS(X)                                                                                                    \
    X(rados_create) X(rados_shutdown) X(rados_conf_read_file) X(rados_conf_set) X(rados_connect) X(rados_ioctx_create)       \
    X(rados_ioctx_destroy) X(rados_ioctx_set_namespace)
#define RBD_SYMBOLS(X)                                                                                                      \
    X(rbd_open) X(rbd_open_read_only) X(rbd_close) X(rbd_create) X(rbd_get_size) X(rbd_resize) X(rbd_get_features) \
    X(rbd_get_flags) X(rbd_diff_iterate2) X(rbd_aio_create_completion) X(rbd_aio_get_return_value) X(rbd_aio_release)        \
    X(rbd_aio_readv) X(rbd_aio_writev) X(rbd_aio_discard) X(rbd_aio_write_zeroes) X(rbd_aio_flush)
#define DECLARE(name) typeof(name) *name;
#define SYMBOL(name) { #name, (void **)&api.name },
static struct { RADOS_SYMBOLS(DECLARE) RBD_SYMBOLS(DECLARE) } api;
static const struct library_symbol rados_symbols[] = { RADOS_SYMBOLS(SYMBOL) { NULL, NULL } };
static const struct library_symbol rbd_symbols[] = { RBD_SYMBOLS(SYMBOL) { NULL, NULL } };
static struct library librados = { .sonames = { "librados.so.2" }, .hint = "install librados2", .symbols = rados_symbols };
static struct library librbd = { .sonames = { "librbd.so.1" }, .hint = "install librbd1", .symbols = rbd_symbols };

struct rbd {
    rados_t cluster;
    rados_ioctx_t io;
    rbd_image_t image;
    char *name;                 /* as shown: POOL[/NAMESPACE]/IMAGE[@SNAPSHOT] */
    atomic_uint_fast64_t size;
    struct co_mutex resizing;
    bool mapped;                /* the library knows which objects there are without asking for each */
};

static const char *const rbd_options[] = { "pool", "namespace", "image", "conf", "snapshot", "user", "auth-client-required", "key-secret",
                                           "server", "=keyvalue-pairs", NULL };
static const char *const rbd_create_options[] = { "size", NULL };

/* ---- names */

/* The text up to one of the dividers, which *at is set behind (NULL: there is none), without backslashes. */
static char *part(char **at, const char *dividers, char *divider)
{
    GString *out = g_string_new(NULL);
    char *p = *at;

    for (; *p && !strchr(dividers, *p); p++) {
        if (*p == '\\' && p[1])
            p++;
        g_string_append_c(out, *p);
    }
    *divider = *p;
    *at = *p ? p + 1 : NULL;
    return g_string_free(out, FALSE);
}

static void put_part(struct json_object *o, const char *key, char **at, const char *dividers, char *divider)
{
    g_autofree char *text = part(at, dividers, divider);

    json_object_object_add(o, key, json_object_new_string(text));
}

/* KEY=VALUE:...; what is not about whom we are is the cluster's configuration. */
static bool settings_take(struct json_object *o, char *at, struct error *err)
{
    struct json_object *rest = json_object_new_array();

    json_object_object_add(o, "=keyvalue-pairs", rest);
    while (at) {
        char divider;
        g_autofree char *key = part(&at, "=", &divider), *value = at ? part(&at, ":", &divider) : NULL;

        if (!value)
            return error_setf(err, ERR_GENERIC, ":KEY=VALUE", "conf option %s has no value", key);
        if (!strcmp(key, "id") || !strcmp(key, "conf")) {
            json_object_object_add(o, *key == 'i' ? "user" : key, json_object_new_string(value));
            continue;
        }
        json_object_array_add(rest, json_object_new_string(key));
        json_object_array_add(rest, json_object_new_string(value));
    }
    return true;
}

static struct json_object *rbd_name_options(const char *filename, struct error *err)
{
    g_autofree char *copy = g_strdup(filename + strlen("rbd:"));
    struct json_object *o = json_object_new_object();
    char *at = copy, divider;

    json_object_object_add(o, "driver", json_object_new_string("rbd"));
    put_part(o, "pool", &at, "/", &divider);
    if (at) {
        char *slash = at, end;
        g_autofree char *first = part(&slash, "/@:", &end);

        if (end == '/') {
            json_object_object_add(o, "namespace", json_object_new_string(first));
            at = slash;
        }
        put_part(o, "image", &at, "@:", &divider);
        if (divider == '@')
            put_part(o, "snapshot", &at, ":", &divider);
        if (settings_take(o, at, err))
            return o;
    } else {
        error_setf(err, ERR_GENERIC, "rbd:POOL/IMAGE", "%s: Pool name is required", filename);
    }
    json_object_put(o);
    return NULL;
}

/* ---- opening: all of it on a thread of the pool */

struct opening {
    struct rbd *s;
    struct json_object *opts;
    char *key;                  /* base64, or NULL */
    bool read_only, direct;
    bool create;
    uint64_t size;
    struct error *err;
};

static bool failed(struct opening *o, int ret, const char *what)
{
    const char *hint = ret == -ENOENT ? "check the spelling, or make it with rhea-img create"
                     : ret == -EACCES || ret == -EPERM ? "user=ID says who we are, key-secret=ID with which key"
                     : ret == -ETIMEDOUT ? "is a monitor reachable? conf=FILE or server.0.host=HOST says where" : NULL;

    return error_set_errno(o->err, -ret, hint, "rbd:%s: cannot %s", o->s->name, what);
}

static bool set(struct opening *o, const char *key, const char *value)
{
    int ret = api.rados_conf_set(o->s->cluster, key, value);

    return !ret || error_setf(o->err, ERR_GENERIC, "see the configuration reference of Ceph", "rbd: cannot set '%s': %s", key,
                              g_strerror(-ret));
}

/* server.N.host, server.N.port */
static bool monitors_set(struct opening *o)
{
    g_autoptr(GString) text = g_string_new(NULL);
    struct json_object *list = NULL;

    if (!json_object_object_get_ex(o->opts, "server", &list))
        return true;
    for (unsigned i = 0; json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
        struct json_object *a = json_object_array_get_idx(list, i);
        const char *host = option_str(a, "host", NULL), *port = option_str(a, "port", NULL);

        if (!host || !port)
            return error_setf(o->err, ERR_GENERIC, "server.0.host=HOST,server.0.port=6789", "Parameter 'server.%u.%s' is missing", i,
                              host ? "port" : "host");
        g_string_append_printf(text, strchr(host, ':') ? "%s[%s]:%s" : "%s%s:%s", i ? "," : "", host, port);
    }
    return !text->len || set(o, "mon_host", text->str);
}

static bool auth_set(struct opening *o)
{
    g_autoptr(GString) modes = g_string_new(NULL);
    struct json_object *list = NULL;

    json_object_object_get_ex(o->opts, "auth-client-required", &list);
    for (unsigned i = 0; json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++)
        g_string_append_printf(modes, "%s%s", i ? ";" : "", json_object_get_string(json_object_array_get_idx(list, i)));
    if (modes->len && !set(o, "auth_client_required", modes->str))
        return false;
    return !o->key || set(o, "key", o->key);
}

/* Least first: the file has the last word over our limit of time, options over the file. */
static bool configure(struct opening *o)
{
    const char *conf = option_str(o->opts, "conf", NULL);
    struct json_object *pairs = NULL;
    int ret;

    if (!set(o, "client_mount_timeout", "60"))
        return false;
    ret = api.rados_conf_read_file(o->s->cluster, conf);
    if (ret < 0 && conf)
        return error_setf(o->err, ERR_GENERIC, NULL, "error reading conf file %s: %s", conf, g_strerror(-ret));
    json_object_object_get_ex(o->opts, "=keyvalue-pairs", &pairs);
    if (pairs && !json_object_is_type(pairs, json_type_array))
        return error_set(o->err, ERR_GENERIC, "=keyvalue-pairs is for names", NULL);
    for (unsigned i = 0; pairs && i + 1 < json_object_array_length(pairs); i += 2) {
        const char *key = json_object_get_string(json_object_array_get_idx(pairs, i));
        const char *value = json_object_get_string(json_object_array_get_idx(pairs, i + 1));

        if (!key || !value)
            return error_set(o->err, ERR_GENERIC, "=keyvalue-pairs is for names", NULL);
        if (!set(o, key, value))
            return false;
    }
    return monitors_set(o) && auth_set(o) && set(o, "rbd_cache", o->direct ? "false" : "true");
}

static bool connect_pool(struct opening *o)
{
    const char *pool = option_str(o->opts, "pool", ""), *space = option_str(o->opts, "namespace", NULL);
    struct rbd *s = o->s;
    int ret = api.rados_create(&s->cluster, option_str(o->opts, "user", NULL));

    if (ret < 0) {
        s->cluster = NULL;
        return failed(o, ret, "set up a client");
    }
    if (!configure(o))
        return false;
    ret = api.rados_connect(s->cluster);
    if (ret < 0)
        return failed(o, ret, "connect to the cluster");
    ret = api.rados_ioctx_create(s->cluster, pool, &s->io);
    if (ret < 0) {
        s->io = NULL;
        return failed(o, ret, "open the pool");
    }
    if (space && *space)
        api.rados_ioctx_set_namespace(s->io, space);
    return true;
}

static bool image_make(struct opening *o)
{
    int order = 0, ret = api.rbd_create(o->s->io, option_str(o->opts, "image", ""), o->size, &order);      /* 0: as configured */

    return ret >= 0 || failed(o, ret, "create the image");
}

static bool image_open(struct opening *o)
{
    const char *image = option_str(o->opts, "image", ""), *snap = option_str(o->opts, "snapshot", NULL);
    struct rbd *s = o->s;
    uint64_t size = 0, features = 0, flags = 0;
    int ret = o->read_only ? api.rbd_open_read_only(s->io, image, &s->image, snap) : api.rbd_open(s->io, image, &s->image, snap);

    if (ret < 0) {
        s->image = NULL;
        return failed(o, ret, "open the image");
    }
    ret = api.rbd_get_size(s->image, &size);
    if (!ret && size > INT64_MAX)
        ret = -EFBIG;
    if (ret < 0)
        return failed(o, ret, "ask for the size");
    s->size = size;
    s->mapped = !api.rbd_get_features(s->image, &features) && !api.rbd_get_flags(s->image, &flags) && features & RBD_FEATURE_FAST_DIFF &&
                !(flags & RBD_FLAG_FAST_DIFF_INVALID);
    return true;
}

static int opening_run(void *arg)
{
    struct opening *o = arg;

    return library_load(&librados, o->err) && library_load(&librbd, o->err) && connect_pool(o) &&
           (o->create ? image_make(o) : image_open(o));
}

static int end_run(void *arg)
{
    struct rbd *s = arg;

    if (s->image)
        api.rbd_close(s->image);
    if (s->io)
        api.rados_ioctx_destroy(s->io);
    if (s->cluster)
        api.rados_shutdown(s->cluster);
    return 0;
}

static bool key_take(struct opening *o, struct block_graph *g)
{
    const char *id = option_str(o->opts, "key-secret", NULL);
    char *data = NULL;
    size_t len;

    if (!id)
        return true;
    if (!block_secret(g, id, &data, &len, o->err))
        return false;
    o->key = g_base64_encode((uint8_t *)data, len);
    block_secret_drop(data, len);
    return true;
}

/* [co] */
static bool rbd_begin(struct opening *o, struct block_graph *g)
{
    const char *pool = option_str(o->opts, "pool", NULL), *image = option_str(o->opts, "image", NULL);
    const char *space = option_str(o->opts, "namespace", NULL), *snap = option_str(o->opts, "snapshot", NULL);
    bool ok;

    if (!pool || !*pool || !image || !*image)
        return error_setf(o->err, ERR_GENERIC, "pool=POOL,image=IMAGE", "Parameter '%s' is missing", pool && *pool ? "image" : "pool");
    o->s->name = g_strdup_printf("%s%s%s/%s%s%s", pool, space && *space ? "/" : "", space ? space : "", image, snap ? "@" : "",
                                 snap ? snap : "");
    ok = key_take(o, g) && pool_run(opening_run, o);
    if (o->key)
        block_secret_drop(o->key, strlen(o->key));
    return ok;
}

/* [co] */
static void rbd_end(struct rbd *s)
{
    pool_run(end_run, s);
    g_free(s->name);
}

static bool rbd_node_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct rbd *s = n->state;
    struct opening o = { .s = s, .opts = opts, .direct = n->direct, .err = err };

    co_mutex_init(&s->resizing);
    if (option_str(opts, "snapshot", NULL) && !n->read_only && !n->auto_read_only)
        return error_set(err, ERR_GENERIC, "a snapshot of an rbd image cannot be written", "add read-only=on");
    n->read_only |= option_str(opts, "snapshot", NULL) != NULL;
    o.read_only = n->read_only;
    if (!rbd_begin(&o, n->graph))
        return false;
    n->filename = g_strdup_printf("rbd:%s", s->name);
    n->size = s->size;
    n->zero_past_end = true;
    n->limits.align = 1;
    return true;
}

static void rbd_node_close(struct block_node *n)
{
    rbd_end(n->state);
}

/* ---- requests */

struct op {
    struct rbd *s;
    int (*start)(struct op *op, rbd_completion_t c);
    uint64_t off, bytes;
    const struct iovec *iov;
    int niov, flags;
    struct loop *loop;
    struct coroutine *co;
    int ret;
};

static void op_wake(void *co)
{
    coroutine_wake(co);
}

/* On a thread of the library's. */
static void op_done(rbd_completion_t c, void *arg)
{
    struct op *op = arg;

    op->ret = MIN(api.rbd_aio_get_return_value(c), 0);
    loop_post(op->loop, op_wake, op->co);
}

static int op_run(struct op op)
{
    rbd_completion_t c;
    int ret;

    op.loop = loop_current();
    op.co = coroutine_self();
    ret = api.rbd_aio_create_completion(&op, op_done, &c);
    if (ret < 0)
        return ret;
    ret = op.start(&op, c);
    if (ret >= 0) {
        coroutine_yield();
        ret = op.ret;
    }
    api.rbd_aio_release(c);
    return ret;
}

static int start_read(struct op *op, rbd_completion_t c) { return api.rbd_aio_readv(op->s->image, op->iov, op->niov, op->off, c); }
static int start_write(struct op *op, rbd_completion_t c) { return api.rbd_aio_writev(op->s->image, op->iov, op->niov, op->off, c); }
static int start_flush(struct op *op, rbd_completion_t c) { return api.rbd_aio_flush(op->s->image, c); }
static int start_discard(struct op *op, rbd_completion_t c) { return api.rbd_aio_discard(op->s->image, op->off, op->bytes, c); }
static int start_zeroes(struct op *op, rbd_completion_t c)
{
    return api.rbd_aio_write_zeroes(op->s->image, op->off, op->bytes, c, op->flags, 0);
}

struct sizing { struct rbd *s; uint64_t size; };

static int resize_run(void *arg)
{
    struct sizing *z = arg;
    int ret = api.rbd_resize(z->s->image, z->size);

    if (!ret)
        z->s->size = z->size;
    return MIN(ret, 0);
}

/* The library refuses what lies beyond the end. */
static int make_room(struct rbd *s, uint64_t end)
{
    struct sizing z = { s, end };
    int ret = 0;

    if (end <= s->size)
        return 0;
    co_mutex_lock(&s->resizing);
    if (end > s->size)
        ret = pool_run(resize_run, &z);
    co_mutex_unlock(&s->resizing);
    return ret;
}

static int rbd_node_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct rbd *s = n->state;
    uint64_t size = s->size, there = off >= size ? 0 : MIN(bytes, size - off);
    g_autofree struct iovec *some = there && there < bytes ? g_new(struct iovec, niov) : NULL;

    if (there < bytes)
        iov_zero(iov, niov, there, bytes - there);
    if (some) {
        niov = iov_slice(some, iov, niov, 0, there);
        iov = some;
    }
    return there ? op_run((struct op){ .s = s, .start = start_read, .off = off, .bytes = there, .iov = iov, .niov = niov }) : 0;
}

static int rbd_node_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct rbd *s = n->state;
    int ret = make_room(s, off + bytes);

    return ret ? ret : op_run((struct op){ .s = s, .start = start_write, .off = off, .bytes = bytes, .iov = iov, .niov = niov });
}

static int rbd_node_flush(struct block_node *n)
{
    return op_run((struct op){ .s = n->state, .start = start_flush });
}

static int rbd_node_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    struct rbd *s = n->state;
    uint64_t size = s->size;

    bytes = off >= size ? 0 : MIN(bytes, size - off);
    return bytes ? op_run((struct op){ .s = s, .start = start_discard, .off = off, .bytes = bytes }) : 0;
}

static int rbd_node_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    struct rbd *s = n->state;
    int ret = make_room(s, off + bytes);

    return ret ? ret : op_run((struct op){ .s = s, .start = start_zeroes, .off = off, .bytes = bytes,
                                           .flags = flags & BLOCK_MAY_UNMAP ? 0 : RBD_WRITE_ZEROES_FLAG_THICK_PROVISION });
}

static int rbd_node_truncate(struct block_node *n, uint64_t size, struct error *err)
{
    struct sizing z = { n->state, size };
    int ret = pool_run(resize_run, &z);

    if (ret)
        error_set_errno(err, -ret, NULL, "%s: cannot resize", n->filename);
    else
        n->size = size;
    return ret;
}

/* ---- what is there */

struct walk {
    struct rbd *s;
    uint64_t off, bytes;
    bool all;                   /* to the end, for the sum */
    uint64_t start, end;        /* of the first data; none: start == end */
    uint64_t sum;
};

static int walk_one(uint64_t off, size_t bytes, int exists, void *arg)
{
    struct walk *w = arg;

    if (!exists || !bytes)
        return 0;
    w->sum += bytes;
    if (w->start == w->end) {
        w->start = off;
        w->end = off + bytes;
    } else if (off == w->end) {
        w->end += bytes;
    } else if (!w->all) {
        return -STATUS_FOUND;
    }
    return 0;
}

static int walk_run(void *arg)
{
    struct walk *w = arg;
    int ret = api.rbd_diff_iterate2(w->s->image, NULL, w->off, w->bytes, 1, 1, walk_one, w);

    return ret == -STATUS_FOUND ? 0 : MIN(ret, 0);
}

static int rbd_node_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map, struct block_node **file)
{
    struct rbd *s = n->state;
    uint64_t size = s->size;
    struct walk w = { .s = s, .off = off, .bytes = off >= size ? 0 : MIN(bytes, size - off) };

    *n_bytes = bytes;
    *map = off;
    *file = n;
    if (!s->mapped || !w.bytes || pool_run(walk_run, &w))
        return STATUS_DATA | STATUS_OFFSET | STATUS_ALLOCATED;
    if (w.start == w.end || w.start >= off + bytes)
        return STATUS_ZERO | STATUS_OFFSET | STATUS_ALLOCATED;
    if (w.start > off) {
        *n_bytes = w.start - off;
        return STATUS_ZERO | STATUS_OFFSET | STATUS_ALLOCATED;
    }
    *n_bytes = CLAMP(w.end - off, 1, bytes);
    return STATUS_DATA | STATUS_OFFSET | STATUS_ALLOCATED;
}

static void allocated_run(void *arg)
{
    struct walk *w = arg;
    int ret = pool_run(walk_run, w);

    w->all = ret == 0;
}

static int64_t rbd_node_allocated(struct block_node *n)
{
    struct rbd *s = n->state;
    struct walk w = { .s = s, .bytes = s->size, .all = true };

    if (!s->mapped)
        return -ENOTSUP;
    block_run(n->graph, allocated_run, &w);
    return w.all ? (int64_t)MIN(w.sum, INT64_MAX) : -EIO;
}

static bool rbd_node_create(struct block_graph *g, const char *filename, struct json_object *opts, struct error *err)
{
    struct json_object *names = rbd_name_options(filename, err);
    struct rbd s = { 0 };
    struct opening o = { .s = &s, .opts = names, .create = true, .err = err };
    bool ok;

    if (!names)
        return false;
    ok = option_size(opts, "size", 0, &o.size, err);
    if (ok && option_str(names, "snapshot", NULL))
        ok = error_set(err, ERR_GENERIC, "an image is made, not its snapshot", "leave out @SNAPSHOT");
    ok = ok && rbd_begin(&o, g);
    rbd_end(&s);
    json_object_put(names);
    return ok;
}

BLOCK_DRIVER = {
    .name = "rbd", .summary = "an image of a Ceph cluster", .kind = DRIVER_PROTOCOL, .size = sizeof(struct rbd), .scheme = "rbd:",
    .name_options = rbd_name_options, .options = rbd_options, .create_options = rbd_create_options, .growable = true,
    .open = rbd_node_open, .close = rbd_node_close, .preadv = rbd_node_preadv, .pwritev = rbd_node_pwritev, .flush = rbd_node_flush,
    .discard = rbd_node_discard, .write_zeroes = rbd_node_write_zeroes, .block_status = rbd_node_status, .truncate = rbd_node_truncate,
    .allocated_size = rbd_node_allocated, .create = rbd_node_create,
};
