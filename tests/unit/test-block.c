/* The block graph, the file driver and back ends. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "block/aio.h"
#include "block/backend.h"
#include "rhea/base/options.h"
#include "rhea/block/bitmap.h"
#include "rhea/vm/vm.h"

static char *dir;
static struct loop *loop;
static struct block_graph *graph;

static char *image_path(const char *name)
{
    return g_build_filename(dir, name, NULL);
}

static char *image_make(const char *name, size_t size)
{
    char *path = image_path(name), *data = g_malloc(size);

    for (size_t i = 0; i < size; i++)
        data[i] = (i / 512 * 7 + i) & 0xff;
    g_assert_true(g_file_set_contents(path, data, size, NULL));
    g_free(data);
    return path;
}

static struct block_node *open_json(const char *fmt, ...)
{
    struct error err = ERROR_INIT;
    struct json_object *o;
    struct block_node *n;
    char *text;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    o = options_parse(text, NULL, &err);
    g_assert_nonnull(o);
    n = node_open(graph, o, &err);
    if (!n)
        g_error("%s: %s", text, err.msg);
    json_object_put(o);
    g_free(text);
    return n;
}

static void expect_failure(const char *what, const char *fmt, ...)
{
    struct error err = ERROR_INIT;
    struct json_object *o;
    char *text;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    o = options_parse(text, NULL, &err);
    g_assert_null(node_open(graph, o, &err));
    if (!err.msg || (!strstr(err.msg, what) && !(err.hint && strstr(err.hint, what))))
        g_error("wanted '%s' in '%s' (%s)", what, err.msg, err.hint);
    error_clear(&err);
    json_object_put(o);
    g_free(text);
}

/* ---- synchronous use of a back end */

struct wait { bool done; int ret; };

static void wait_done(void *opaque, int ret)
{
    struct wait *w = opaque;

    w->done = true;
    w->ret = ret;
}

static int wait_for(struct wait *w)
{
    while (!w->done)
        loop_step(loop, true);
    return w->ret;
}

static int rd(struct block_backend *b, uint64_t off, void *buf, size_t len)
{
    struct wait w = { 0 };
    struct iovec iov = { buf, len };

    block_readv(b, off, &iov, 1, 0, wait_done, &w);
    return wait_for(&w);
}

static int wr(struct block_backend *b, uint64_t off, const void *buf, size_t len, unsigned flags)
{
    struct wait w = { 0 };
    struct iovec iov = { (void *)buf, len };

    block_writev(b, off, &iov, 1, flags, wait_done, &w);
    return wait_for(&w);
}

static void test_raw(const void *extra)
{
    g_autofree char *path = image_make("a.img", 1 << 20);
    struct block_node *n = open_json("{\"driver\":\"raw\",\"node-name\":\"n\",\"file\":{\"driver\":\"file\","
                                     "\"filename\":\"%s\"%s}}", path, (const char *)extra);
    struct error err = ERROR_INIT;
    struct block_backend *b = backend_open(graph, n, true, &err);
    uint8_t *buf = g_malloc(8192), want[512];
    struct block_info info;
    struct wait w = { 0 };
    char *text;
    gsize len;

    g_assert_nonnull(b);
    block_backend_info(b, &info);
    g_assert_cmpuint(info.size, ==, 1 << 20);
    g_assert_cmpint(rd(b, 512, buf, 512), ==, 0);
    for (int i = 0; i < 512; i++)
        want[i] = (7 + i + 512) & 0xff;
    g_assert_cmpmem(buf, 512, want, 512);
    memset(buf, 0x5a, 8192);
    g_assert_cmpint(wr(b, 4096, buf, 8192, 0), ==, 0);
    memset(buf, 0xa5, 512);
    g_assert_cmpint(wr(b, (1 << 20) - 512, buf, 512, BLOCK_FUA), ==, 0);
    g_assert_cmpint(wr(b, 1 << 20, buf, 512, 0), ==, -EIO);
    g_assert_cmpint(rd(b, UINT64_MAX - 511, buf, 512), ==, -EIO);
    block_write_zeroes(b, 8192, 1024, BLOCK_MAY_UNMAP, wait_done, &w);
    g_assert_cmpint(wait_for(&w), ==, 0);
    w.done = false;
    block_flush(b, wait_done, &w);
    g_assert_cmpint(wait_for(&w), ==, 0);
    g_assert_true(g_file_get_contents(path, &text, &len, NULL));
    g_assert_cmpuint(len, ==, 1 << 20);
    g_assert_cmphex((uint8_t)text[4096], ==, 0x5a);
    g_assert_cmphex((uint8_t)text[8192], ==, 0);
    g_assert_cmphex((uint8_t)text[9215], ==, 0);
    g_assert_cmphex((uint8_t)text[9216], ==, 0x5a);
    g_assert_cmphex((uint8_t)text[(1 << 20) - 512], ==, 0xa5);
    g_assert_cmpuint(b->stats[OP_WRITE].operations, ==, 3);
    g_assert_cmpuint(b->stats[OP_WRITE].invalid, ==, 1);
    g_assert_cmpuint(n->wr_highest, ==, 1 << 20);
    backend_free(b);
    node_unref(n);
    g_free(buf);
    g_free(text);
    g_assert_cmpuint(g_hash_table_size(graph->nodes), ==, 0);
}

/* A program with one task makes small buffered writes itself: nothing is waited for, and no chain of them deepens the stack. */
struct chain { struct block_backend *b; uint64_t off, end; uint8_t buf[512]; struct iovec iov; unsigned depth; int ret; };

static void chain_next(void *arg, int ret)
{
    struct chain *k = arg;

    g_assert_cmpuint(++k->depth, ==, 1);
    k->ret = ret;
    k->off += 512;
    memset(k->buf, k->off >> 9, 512);
    k->iov = (struct iovec){ k->buf, 512 };
    if (!ret && k->off < k->end)
        block_writev(k->b, k->off, &k->iov, 1, 0, chain_next, k);
    k->depth--;
}

static void write_in_coroutine(void *arg)
{
    struct block_node *n = arg;
    uint8_t buf[512];

    memset(buf, 0x77, sizeof(buf));
    g_assert_cmpint(node_pwrite(n, 0, buf, sizeof(buf)), ==, 0);
    n->write_threshold = 1;             /* the end was reached */
}

static void test_single_task(void)
{
    g_autofree char *path = image_make("a.img", 1 << 20);
    struct block_node *n = open_json("{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}", path);
    struct error err = ERROR_INIT;
    struct chain k = { .b = backend_open(graph, n, true, &err), .end = 1 << 20 };
    char *text;
    gsize len;

    g_assert_nonnull(k.b);
    loop_set_single_task(loop, true);
    coroutine_start(write_in_coroutine, n);
    g_assert_cmpuint(n->write_threshold, ==, aio_have_uring());
    while (!n->write_threshold)
        loop_step(loop, true);
    n->write_threshold = 0;
    chain_next(&k, 0);
    while (k.off < k.end)
        loop_step(loop, true);
    g_assert_cmpint(k.ret, ==, 0);
    loop_set_single_task(loop, false);
    backend_free(k.b);
    node_unref(n);
    g_assert_true(g_file_get_contents(path, &text, &len, NULL));
    g_assert_cmpuint(len, ==, 1 << 20);
    g_assert_cmphex((uint8_t)text[0], ==, 0x77);
    for (unsigned i = 512; i < len; i++)
        g_assert_cmphex((uint8_t)text[i], ==, (uint8_t)(i >> 9));
    g_free(text);
}

static void test_raw_part(void)
{
    g_autofree char *path = image_make("a.img", 65536);
    struct block_node *n = open_json("{\"driver\":\"raw\",\"offset\":\"4K\",\"size\":8192,\"read-only\":true,"
                                     "\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}", path);
    struct error err = ERROR_INIT;
    struct block_backend *b;
    uint8_t buf[512];

    g_assert_null(backend_open(graph, n, true, &err));
    error_clear(&err);
    b = backend_open(graph, n, false, &err);
    g_assert_cmpint(rd(b, 0, buf, 512), ==, 0);
    g_assert_cmphex(buf[1], ==, (8 * 7 + 1) & 0xff);
    g_assert_cmpint(rd(b, 8192, buf, 512), ==, -EIO);
    g_assert_cmpint(wr(b, 0, buf, 512, 0), ==, -EPERM);
    backend_free(b);
    node_unref(n);
}

static void test_open_errors(void)
{
    g_autofree char *path = image_make("a.img", 65536), *missing = image_path("missing");

    expect_failure("check the spelling", "{\"driver\":\"file\",\"filename\":\"%s\"}", missing);
    expect_failure("did you mean 'raw'", "{\"driver\":\"rwa\",\"file\":{}}");
    expect_failure("did you mean 'filename'", "{\"driver\":\"file\",\"filenam\":\"%s\"}", path);
    expect_failure("is a directory", "{\"driver\":\"file\",\"read-only\":true,\"filename\":\"%s\"}", dir);
    expect_failure("Cannot find", "{\"driver\":\"raw\",\"file\":\"nobody\"}");
}

/* A second program that opens the image is told who has it. */
static void test_lock(void)
{
    g_autofree char *path = image_make("a.img", 65536);
    struct error err = ERROR_INIT;
    struct block_node *n = node_open_file(graph, path, "raw", NULL, &err);
    pid_t child;
    int status;

    g_assert_nonnull(n);
    child = fork();
    if (!child) {
        struct loop *l = loop_new("child");
        struct block_graph *g;
        struct block_node *m;

        loop_enter(l);
        g = block_graph_new(NULL, l);
        m = node_open_file(g, path, "raw", NULL, &err);
        g_autofree char *pid = g_strdup_printf("locked by process %d", (int)getppid());

        _exit(m ? 1 : strstr(err.msg, pid) ? 0 : 2);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_cmpint(status, ==, 0);
    node_unref(n);
}

/* Requests of two loops on one back end at once, with drains in between. */
struct storm {
    struct block_backend *b;
    struct loop *l;
    uint8_t buf[4096];
    int left;
    uint64_t seed;
    atomic_int *running;
};

static void storm_next(void *opaque, int ret);

static void storm_go(void *arg)
{
    storm_next(arg, 0);
}

static void storm_next(void *opaque, int ret)
{
    struct storm *s = opaque;
    static struct iovec iov[64];
    struct iovec *v = &iov[s->seed % 64];

    g_assert_cmpint(ret, ==, 0);
    g_assert_true(loop_current() == s->l);
    if (!s->left--) {
        atomic_fetch_sub(s->running, 1);
        return;
    }
    *v = (struct iovec){ s->buf, 4096 };
    if (s->left & 1)
        block_writev(s->b, s->seed % 64 * 4096, v, 1, 0, storm_next, s);
    else
        block_readv(s->b, s->seed % 64 * 4096, v, 1, 0, storm_next, s);
}

static void test_threads(void)
{
    g_autofree char *path = image_make("a.img", 1 << 20);
    struct error err = ERROR_INIT;
    struct block_node *n = node_open_file(graph, path, "raw", NULL, &err);
    struct block_backend *b = backend_open(graph, n, true, &err);
    struct loop *other = loop_new("io");
    struct storm s[16];
    atomic_int running = 16;

    loop_thread_start(other);
    for (int i = 0; i < 16; i++) {
        s[i] = (struct storm){ b, i & 1 ? loop : other, { 0 }, 200, i, &running };
        loop_post(s[i].l, storm_go, &s[i]);
    }
    while (running) {
        backend_quiesce(b);
        g_assert_cmpuint(b->in_flight, ==, 0);
        backend_resume(b);
        loop_step(loop, false);
    }
    block_drain(b);
    loop_free(other);
    backend_free(b);
    node_unref(n);
}

/* More slow requests than may have a coroutine each. */
struct flood { int left, bad; };

static void flood_done(void *opaque, int ret)
{
    struct flood *f = opaque;

    f->left--;
    f->bad += ret != 0;
}

static void test_flood(void)
{
    struct block_node *n = open_json("{\"driver\":\"null-co\",\"latency-ns\":100000}");
    struct block_backend *b = backend_open(graph, n, true, NULL);
    struct flood f = { .left = 20000 };
    static uint8_t buf[512];
    struct iovec iov = { buf, 512 };

    for (int i = 0; i < 20000; i++)
        block_writev(b, i % 1000 * 512, &iov, 1, 0, flood_done, &f);
    block_drain(b);
    g_assert_cmpint(f.left, ==, 0);
    g_assert_cmpint(f.bad, ==, 0);
    backend_free(b);
    node_unref(n);
}

static void count_change(void *opaque)
{
    ++*(int *)opaque;
}

static void test_resize(void)
{
    g_autofree char *path = image_make("a.img", 65536);
    g_autofree char *text = g_strdup_printf("file=%s,if=none,id=hd0,format=raw", path);
    struct vm *vm = g_new0(struct vm, 1);
    struct error err = ERROR_INIT;
    struct json_object *o = options_parse(text, NULL, &err);
    struct block_backend *b;
    struct block_info info;
    int changes = 0;

    vm->loop = loop;
    g_assert_true(block_add_drive(vm, o, &err));
    b = backend_find(vm->block_graph, "hd0");
    block_backend_on_change(b, count_change, &changes);
    g_assert_true(block_resize(vm, "hd0", 131072, &err));
    block_backend_info(b, &info);
    g_assert_cmpuint(info.size, ==, 131072);
    g_assert_cmpint(changes, ==, 1);
    g_assert_false(block_resize(vm, "hd0", 1000, &err));
    error_clear(&err);
    g_assert_false(block_resize(vm, "hd1", 1024, &err));
    error_clear(&err);
    json_object_put(o);
    block_close_all(vm);
    g_free(vm);
}

static void test_drive(void)
{
    g_autofree char *path = image_make("a.img", 1 << 20);
    g_autofree char *text = g_strdup_printf("file=%s,if=none,id=hd0,format=raw,cache=none,discard=unmap", path);
    g_autofree char *bad = g_strdup_printf("file=%s,if=none,id=hd0", path);
    struct vm *vm = g_new0(struct vm, 1);
    struct error err = ERROR_INIT;
    struct json_object *o = options_parse(text, NULL, &err), *q, *v;

    vm->loop = loop;
    if (!block_add_drive(vm, o, &err))
        g_error("%s", err.msg);
    json_object_put(o);
    o = options_parse(bad, NULL, &err);
    g_assert_false(block_add_drive(vm, o, &err));
    error_clear(&err);
    json_object_put(o);
    q = block_query(vm);
    g_assert_cmpuint(json_object_array_length(q), ==, 1);
    g_assert_true(json_object_object_get_ex(json_object_array_get_idx(q, 0), "inserted", &v));
    g_assert_cmpstr(option_str(v, "file", ""), ==, path);
    g_assert_cmpstr(option_str(v, "drv", ""), ==, "raw");
    json_object_put(q);
    q = block_query_nodes(vm, true);
    g_assert_cmpuint(json_object_array_length(q), ==, 2);
    json_object_put(q);
    block_close_all(vm);
    g_free(vm);
}

/* ---- how many requests are handed over together */

static void batch_done(struct aio_req *r, int ret)
{
    g_assert_cmpint(ret, ==, 0);
    ++*(unsigned *)r->opaque;
}

/* Room for a file is made by the host's own thread: the size tells what it was given, whatever this loop does. */
static off_t batch_size(int fd)
{
    struct stat st;

    g_assert_cmpint(fstat(fd, &st), ==, 0);
    return st.st_size;
}

static void test_batch(void)
{
    g_autofree char *path = image_make("batch", 0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct aio_req r[3];
    unsigned done = 0;

    g_assert_cmpint(fd, >=, 0);
    loop_set_batch(loop, 2);
    for (unsigned i = 0; i < 3; i++) {
        r[i] = (struct aio_req){ .op = AIO_FALLOCATE, .fd = fd, .off = i * 4096, .bytes = 4096, .done = batch_done, .opaque = &done };
        aio_submit(&r[i]);
        if (i == 0 && aio_have_uring())
            g_assert_cmpint(batch_size(fd), ==, 0);
        for (unsigned n = 0; i == 1 && batch_size(fd) != 8192; n++) {   /* without a step of the loop */
            g_assert_cmpuint(n, <, 600000);
            g_usleep(1000);
        }
    }
    while (done < 3)
        loop_step(loop, true);
    g_assert_cmpint(batch_size(fd), ==, 3 * 4096);
    loop_set_batch(loop, 0);
    close(fd);
}

/* Ranges of random bitmaps, whose disks end anywhere, against their single bits. */
static void test_bitmap_ranges(void)
{
    for (unsigned round = 0; round < 2000; round++) {
        uint64_t size = g_test_rand_int_range(1, 300 * 512), off = g_test_rand_int_range(0, size), bytes = g_test_rand_int_range(1, size - off + 1), n = bytes, at = off;
        struct dirty_bitmap *b = bitmap_new(size, 512, NULL);
        bool value;

        for (int i = g_test_rand_int_range(0, 8); i > 0; i--) {
            bitmap_set(b, g_test_rand_int_range(0, size), g_test_rand_int_range(1, 20000));
            bitmap_reset(b, g_test_rand_int_range(0, size), g_test_rand_int_range(1, 20000));
        }
        value = bitmap_extent(b, off, &n);
        while (at < off + bytes && bitmap_get(b, at) == value)
            at++;
        g_assert_cmpuint(n, ==, at - off);
        g_assert_true(value == bitmap_get(b, off));
        for (at = off; at < size && !bitmap_get(b, at);)
            at++;
        g_assert_true(bitmap_next(b, &off, &n) == (at < size));
        g_assert_cmpuint(at < size ? off : at, ==, at);
        bitmap_free(b);
    }
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    dir = g_dir_make_tmp("rhea-block-XXXXXX", NULL);
    loop = loop_new("main");
    loop_enter(loop);
    graph = block_graph_new(NULL, loop);
    g_test_add_data_func("/block/raw/uring", "", test_raw);
    g_test_add_data_func("/block/raw/threads", ",\"aio\":\"threads\"", test_raw);
    g_test_add_data_func("/block/raw/direct", ",\"cache\":{\"direct\":true}", test_raw);
    g_test_add_func("/block/raw/single-task", test_single_task);
    g_test_add_func("/block/raw/part", test_raw_part);
    g_test_add_func("/block/batch", test_batch);
    g_test_add_func("/block/open-errors", test_open_errors);
    g_test_add_func("/block/lock", test_lock);
    g_test_add_func("/block/threads", test_threads);
    g_test_add_func("/block/drive", test_drive);
    g_test_add_func("/block/flood", test_flood);
    g_test_add_func("/block/resize", test_resize);
    g_test_add_func("/block/bitmap-ranges", test_bitmap_ranges);
    ret = g_test_run();
    block_graph_free(graph);
    loop_free(loop);
    g_autofree char *cmd = g_strdup_printf("rm -rf '%s'", dir);
    return system(cmd) || ret;
}
