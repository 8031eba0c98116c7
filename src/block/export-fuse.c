/* Exports of type fuse: a node as the contents of a regular file of this host, through the kernel's FUSE and libfuse 3, which
 * is loaded when the first is made. The mount point is a file, so the root of the file system is the file itself. */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/export.h"
#include "rhea/base/library.h"
#include "rhea/base/options.h"

enum { REQUEST_MAX = 1 << 20, REQUESTS_MAX = 64 };

#define FUNCTIONS(X)                                                                                          \
    X(session_new) X(opt_free_args) X(session_mount) X(session_fd) X(session_receive_buf) X(session_process_buf) X(session_exit) \
    X(session_unmount) X(session_destroy) X(req_userdata) X(reply_attr) X(reply_err) X(reply_open) X(reply_buf) \
    X(reply_write) X(reply_lseek)
static struct {
#define X(name) typeof(fuse_##name) *name;
    FUNCTIONS(X)
#undef X
} api;
static const struct library_symbol api_symbols[] = {
#define X(name) { "fuse_" #name, (void **)&api.name },
    FUNCTIONS(X)
#undef X
    { NULL, NULL },
};
static struct library libfuse = { .sonames = { "libfuse3.so.3", "libfuse3.so.4" }, .hint = "install libfuse3-3 and fuse3", .symbols = api_symbols };

struct fuse_export {
    struct block_export e;
    char *mountpoint;
    struct fuse_session *session;
    struct loop_fd *watch;
    bool mounted, growable;
    unsigned requests;                  /* under way, on e.loop */
    struct stat st;                     /* of the file below, and what chmod and chown changed of it */
};

static const char *const fuse_export_options[] = { "mountpoint", "growable", "allow-other", NULL };

static struct fuse_export *export_of(fuse_req_t req)
{
    return api.req_userdata(req);
}

/* [co] */
static uint64_t size_of(const struct fuse_export *x)
{
    uint64_t size;

    export_enter(x->e.b);
    size = x->e.b->root ? x->e.b->root->size : 0;
    export_leave(x->e.b);
    return size;
}

/* ---- size */

struct grow { struct fuse_export *x; uint64_t size; struct coroutine *co; int ret; };

static void grow_run(void *arg)
{
    struct grow *g = arg;

    if (g->x->e.b->root)
        g->ret = node_truncate(g->x->e.b->root, g->size, NULL);
}

/* Outside of any request, so that all of them can be drained first. */
static void grow_post(void *arg)
{
    struct grow *g = arg;
    struct block_graph *graph = g->x->e.graph;
    struct block_node *n = g->x->e.b->root;

    backends_on_node(graph, n, backend_quiesce);
    block_run(graph, grow_run, g);
    backends_on_node(graph, n, backend_resume);
    if (!g->ret)
        backends_changed(graph, n);
    coroutine_wake(g->co);
}

static int resize(struct fuse_export *x, uint64_t size)
{
    struct grow g = { x, size, coroutine_self(), -ENOMEDIUM };

    if (size > INT64_MAX)
        return -EFBIG;
    loop_post(x->e.graph->loop, grow_post, &g);
    coroutine_yield();
    return g.ret;
}

/* ---- operations; each runs in a coroutine */

static void op_init(void *opaque, struct fuse_conn_info *conn)
{
    conn->max_write = MIN(conn->max_write, REQUEST_MAX);
    conn->max_read = REQUEST_MAX;       /* as the mount option says */
}

static void attributes(struct fuse_export *x, struct stat *st)
{
    int64_t allocated = -1;
    struct block_node *n;

    export_enter(x->e.b);
    n = x->e.b->root;
    if (n && n->drv->allocated_size)
        allocated = n->drv->allocated_size(n);
    export_leave(x->e.b);
    *st = x->st;
    st->st_ino = FUSE_ROOT_ID;
    st->st_nlink = 1;
    st->st_size = size_of(x);
    st->st_blksize = 4096;
    st->st_blocks = (allocated >= 0 ? (uint64_t)allocated : size_of(x)) / 512;
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;

    attributes(export_of(req), &st);
    api.reply_attr(req, &st, 1);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    api.reply_err(req, ENOENT);         /* a file has no entries */
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *want, int which, struct fuse_file_info *fi)
{
    const int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;
    struct fuse_export *x = export_of(req);
    int ret = 0;

    if (which & ~(FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | times))
        ret = -ENOTSUP;
    if (!ret && (which & FUSE_SET_ATTR_MODE) && !x->e.writable && (want->st_mode & 0222))
        ret = -EROFS;
    if (!ret && (which & FUSE_SET_ATTR_SIZE))
        ret = x->e.writable ? resize(x, want->st_size) : -EACCES;
    if (ret) {
        api.reply_err(req, -ret);
        return;
    }
    if (which & FUSE_SET_ATTR_MODE)
        x->st.st_mode = (want->st_mode & 07777) | S_IFREG;
    if (which & FUSE_SET_ATTR_UID)
        x->st.st_uid = want->st_uid;
    if (which & FUSE_SET_ATTR_GID)
        x->st.st_gid = want->st_gid;
    op_getattr(req, ino, fi);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    if (!export_of(req)->e.writable && (fi->flags & O_ACCMODE) != O_RDONLY)
        api.reply_err(req, EACCES);
    else
        api.reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t bytes, off_t off, struct fuse_file_info *fi)
{
    struct fuse_export *x = export_of(req);
    uint64_t size = size_of(x);
    struct iovec iov = { 0 };
    int ret;

    iov.iov_len = off < 0 || (uint64_t)off >= size ? 0 : MIN(MIN(bytes, REQUEST_MAX), size - off);
    if (!iov.iov_len) {
        api.reply_buf(req, NULL, 0);
        return;
    }
    bytes = iov.iov_len;
    export_enter(x->e.b);
    iov.iov_base = x->e.b->root ? node_buffer(x->e.b->root, bytes) : NULL;
    export_leave(x->e.b);
    ret = iov.iov_base ? export_preadv(x->e.b, off, &iov, 1) : -ENOMEM;
    if (ret)
        api.reply_err(req, -ret);
    else
        api.reply_buf(req, iov.iov_base, bytes);
    free(iov.iov_base);
}

/* Makes room for [off, off + bytes) if it may; bytes that fit, or -errno. */
static int64_t fit(struct fuse_export *x, uint64_t off, uint64_t bytes)
{
    uint64_t size = size_of(x);

    if (off > INT64_MAX || bytes > INT64_MAX - off)
        return -EFBIG;
    if (off + bytes <= size)
        return bytes;
    if (x->growable) {
        int ret = resize(x, off + bytes);

        return ret ? ret : (int64_t)bytes;
    }
    return off >= size ? -ENOSPC : (int64_t)(size - off);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t bytes, off_t off, struct fuse_file_info *fi)
{
    struct fuse_export *x = export_of(req);
    struct iovec iov = { (void *)buf, 0 };
    int64_t n = x->e.writable ? fit(x, off, bytes) : -EACCES;
    int ret = MIN(n, 0);

    if (n > 0) {
        iov.iov_len = n;
        ret = export_pwritev(x->e.b, off, &iov, 1, 0);
    }
    if (ret)
        api.reply_err(req, -ret);
    else
        api.reply_write(req, n);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t bytes, struct fuse_file_info *fi)
{
    struct fuse_export *x = export_of(req);
    int64_t n = off < 0 || bytes <= 0 ? -EINVAL : x->e.writable ? bytes : -EACCES;
    int ret;

    if (n > 0 && !(mode & FALLOC_FL_KEEP_SIZE))
        n = fit(x, off, bytes);
    else if (n > 0)
        n = (uint64_t)off >= size_of(x) ? 0 : MIN((uint64_t)n, size_of(x) - off);
    if (n <= 0)
        ret = n;
    else if (mode & FALLOC_FL_PUNCH_HOLE)
        ret = export_write_zeroes(x->e.b, off, n, BLOCK_MAY_UNMAP);
    else if (mode & FALLOC_FL_ZERO_RANGE)
        ret = export_write_zeroes(x->e.b, off, n, 0);
    else
        ret = mode & ~FALLOC_FL_KEEP_SIZE ? -EOPNOTSUPP : 0;
    api.reply_err(req, -ret);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    api.reply_err(req, -export_flush(export_of(req)->e.b));
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    api.reply_err(req, -export_flush(export_of(req)->e.b));
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
    struct fuse_export *x = export_of(req);
    struct block_backend *b = x->e.b;
    uint64_t size = size_of(x), at = off, n, map;
    struct block_node *file;
    int depth, ret;

    if (whence != SEEK_DATA && whence != SEEK_HOLE) {
        api.reply_err(req, EINVAL);
        return;
    }
    for (; off >= 0 && at < size; at += n) {
        export_enter(b);
        ret = !b->root ? -ENOMEDIUM : node_status_above(b->root, at, size - at, &n, &map, &file, &depth, true);
        export_leave(b);
        if (ret < 0) {
            api.reply_err(req, -ret);
            return;
        }
        if (!(ret & STATUS_DATA) == (whence == SEEK_HOLE)) {
            api.reply_lseek(req, at);
            return;
        }
    }
    if (whence == SEEK_HOLE && off >= 0 && (uint64_t)off < size)
        api.reply_lseek(req, size);     /* beyond the end is a hole */
    else
        api.reply_err(req, ENXIO);
}

static const struct fuse_lowlevel_ops operations = {
    .init = op_init, .lookup = op_lookup, .getattr = op_getattr, .setattr = op_setattr, .open = op_open, .read = op_read,
    .write = op_write, .fallocate = op_fallocate, .flush = op_flush, .fsync = op_fsync, .lseek = op_lseek,
};

/* ---- requests */

struct message { struct fuse_export *x; struct fuse_buf buf; };

static void fuse_unwatch(void *arg)
{
    struct fuse_export *x = arg;

    if (x->watch)
        loop_fd_remove(x->watch);
    x->watch = NULL;
}

static void message_run(void *arg)
{
    struct message *m = arg;
    struct fuse_export *x = m->x;

    api.session_process_buf(x->session, &m->buf);
    free(m->buf.mem);
    g_free(m);
    if (x->requests-- == REQUESTS_MAX && x->watch)
        loop_fd_set(x->watch, LOOP_IN);
    export_unref(&x->e);
}

static void fuse_over(void *arg)
{
    struct fuse_export *x = arg;

    export_del(&x->e, true, NULL);
    export_unref(&x->e);
}

static void fuse_readable(void *arg, unsigned events)
{
    struct fuse_export *x = arg;
    struct message *m = g_new0(struct message, 1);
    int ret = api.session_receive_buf(x->session, &m->buf);

    if (ret > 0) {
        m->x = x;
        export_ref(&x->e);
        if (++x->requests == REQUESTS_MAX)
            loop_fd_set(x->watch, 0);
        coroutine_start(message_run, m);
        return;
    }
    free(m->buf.mem);
    g_free(m);
    if (ret == -EINTR || ret == -EAGAIN)
        return;
    fuse_unwatch(x);                    /* somebody unmounted it: the export is over */
    export_ref(&x->e);
    loop_post(x->e.graph->loop, fuse_over, x);
}

static void fuse_watch(void *arg)
{
    struct fuse_export *x = arg;

    x->watch = loop_fd_add(x->e.loop, api.session_fd(x->session), LOOP_IN, fuse_readable, x);
}

/* ---- the export */

static bool mount_with(struct fuse_export *x, bool allow_other, struct error *err)
{
    g_autofree char *options = g_strdup_printf("max_read=%d,default_permissions%s", REQUEST_MAX, allow_other ? ",allow_other" : "");
    char *argv[] = { (char *)"", (char *)"-o", options, NULL };
    struct fuse_args args = { .argc = 3, .argv = argv };

    x->session = api.session_new(&args, &operations, sizeof(operations), x);
    api.opt_free_args(&args);           /* it may have changed them */
    if (!x->session)
        return error_set(err, ERR_GENERIC, "Failed to set up FUSE session", NULL);
    if (!api.session_mount(x->session, x->mountpoint)) {
        x->mounted = true;
        return true;
    }
    api.session_destroy(x->session);
    x->session = NULL;
    return error_setf(err, ERR_GENERIC, "is there /dev/fuse, and may you use it? allow-other needs user_allow_other in /etc/fuse.conf",
                      "Failed to mount FUSE session to export at '%s'", x->mountpoint);
}

struct same { const char *path; bool found; };

static void find_same(struct block_export *e, void *arg)
{
    struct same *s = arg;
    struct fuse_export *x = (struct fuse_export *)e;

    s->found |= x->mounted && !strcmp(x->mountpoint, s->path);
}

static bool fuse_export_start(struct block_export *e, struct json_object *opts, struct error *err)
{
    struct fuse_export *x = (struct fuse_export *)e;
    const char *path = option_str(opts, "mountpoint", NULL), *other = option_str(opts, "allow-other", "auto");
    struct same same = { NULL, false };

    if (!path)
        return error_set(err, ERR_GENERIC, "Parameter 'mountpoint' is missing", "an existing regular file");
    x->mountpoint = realpath(path, NULL);
    if (!x->mountpoint || stat(x->mountpoint, &x->st))
        return error_set_errno(err, errno, "it must be there: make an empty file", "Failed to stat '%s'", path);
    if (!S_ISREG(x->st.st_mode))
        return error_setf(err, ERR_GENERIC, "make an empty file", "'%s' is not a regular file", path);
    same.path = x->mountpoint;
    exports_foreach(e->graph, "fuse", find_same, &same);
    if (same.found)
        return error_setf(err, ERR_GENERIC, NULL, "There already is a FUSE export on '%s'", path);
    if (!option_bool(opts, "growable", false, &x->growable, err))
        return false;
    if (strcmp(other, "auto") && strcmp(other, "on") && strcmp(other, "off"))
        return error_setf(err, ERR_GENERIC, "it is off, on or auto", "invalid allow-other '%s'", other);
    if (x->growable && !e->writable)
        return error_set(err, ERR_GENERIC, "a growable export is writable", "add writable=on");
    x->st.st_mode = S_IFREG | (e->writable ? 0600 : 0400);
    x->st.st_uid = getuid();
    x->st.st_gid = getgid();
    if (!library_load(&libfuse, err))
        return false;
    if (!(strcmp(other, "off") && mount_with(x, true, strcmp(other, "on") ? NULL : err)) &&
        (!strcmp(other, "on") || !mount_with(x, false, err)))
        return false;
    fcntl(api.session_fd(x->session), F_SETFL, O_NONBLOCK);
    loop_call(e->loop, fuse_watch, x);
    return true;
}

/* Where answers are sent: unmounting closes the descriptor that they go to. */
static void fuse_end(void *arg)
{
    struct fuse_export *x = arg;

    fuse_unwatch(x);
    if (!x->mounted)
        return;
    api.session_exit(x->session);
    api.session_unmount(x->session);
    x->mounted = false;
}

static void fuse_export_shut(struct block_export *e)
{
    loop_call(e->loop, fuse_end, e);
}

static void fuse_export_destroy(struct block_export *e)
{
    struct fuse_export *x = (struct fuse_export *)e;

    fuse_export_shut(e);
    if (x->session)
        api.session_destroy(x->session);
    free(x->mountpoint);
}

EXPORT_TYPE = {
    .name = "fuse", .options = fuse_export_options, .size = sizeof(struct fuse_export),
    .start = fuse_export_start, .shut = fuse_export_shut, .destroy = fuse_export_destroy,
};
