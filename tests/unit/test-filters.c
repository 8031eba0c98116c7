/* Filters and nodes over several images: copy-on-read, throttle, blkdebug, quorum, blkverify. */
#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include "block/backend.h"
#include "block/filter/throttle.h"
#include "rhea/base/options.h"
#include "rhea/vm/object.h"
#include "rhea/vm/vm.h"
#include "node-options.h"

enum { SIZE = 1 << 20 };

static char *dir;
static struct loop *loop;
static struct block_graph *graph;
static struct vm tool;

static struct block_node *open_node(struct json_object *o)
{
    struct error err = ERROR_INIT;
    struct block_node *n = node_open(graph, o, &err);

    if (!n)
        g_error("%s: %s", json_object_to_json_string(o), err.msg);
    json_object_put(o);
    return n;
}

static void refused(struct json_object *o)
{
    struct error err = ERROR_INIT;

    g_assert_null(node_open(graph, o, &err));
    g_assert_nonnull(err.msg);
    error_clear(&err);
    json_object_put(o);
}

/* A file of SIZE bytes of `fill`. */
static char *file_of(const char *name, uint8_t fill)
{
    char *path = g_build_filename(dir, name, NULL);
    g_autofree char *data = g_malloc(SIZE);

    memset(data, fill, SIZE);
    g_assert_true(g_file_set_contents(path, data, SIZE, NULL));
    return path;
}

struct job { struct block_node *n; uint64_t off, bytes; void *buf; int ret; bool write; };

static void job_run(void *arg)
{
    struct job *j = arg;

    j->ret = j->write ? node_pwrite(j->n, j->off, j->buf, j->bytes) : node_pread(j->n, j->off, j->buf, j->bytes);
}

static int transfer(struct block_node *n, bool write, uint64_t off, void *buf, uint64_t bytes)
{
    struct job j = { n, off, bytes, buf, 0, write };

    block_run(graph, job_run, &j);
    return j.ret;
}

static void job_status(void *arg)
{
    struct job *j = arg;
    uint64_t n, map;
    struct block_node *file;

    j->ret = node_block_status(j->n, j->off, j->bytes, &n, &map, &file);
}

static int status(struct block_node *n, uint64_t off)
{
    struct job j = { .n = n, .off = off, .bytes = 512 };

    block_run(graph, job_status, &j);
    return j.ret;
}

static void job_flush(void *arg)
{
    ((struct job *)arg)->ret = node_flush(((struct job *)arg)->n);
}

static void test_copy_on_read(void)
{
    g_autofree char *base = file_of("base.raw", 0x11), *top = g_build_filename(dir, "top.qcow2", NULL);
    struct json_object *o = json("{\"size\":%d,\"backing_file\":\"base.raw\",\"backing_fmt\":\"raw\"}", SIZE);
    struct error err = ERROR_INIT;
    struct block_node *n;
    uint8_t buf[4096];

    g_assert_true(block_create(graph, top, "qcow2", o, &err));
    json_object_put(o);
    n = open_node(json("{\"driver\":\"copy-on-read\",\"file\":{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}}",
                       top));
    g_assert_false(status(n->file, 0) & STATUS_ALLOCATED);
    g_assert_true(status(n, 0) & STATUS_DATA);          /* the filter shows the chain */
    memset(buf, 0x22, sizeof(buf));
    g_assert_cmpint(transfer(n, true, 131072 + 512, buf, 512), ==, 0);
    g_assert_cmpint(transfer(n, false, 4096, buf, sizeof(buf)), ==, 0);
    g_assert_cmphex(buf[0], ==, 0x11);
    g_assert_true(status(n->file, 0) & STATUS_ALLOCATED);
    g_assert_false(status(n->file, 65536 * 4) & STATUS_ALLOCATED);
    g_assert_cmpint(transfer(n, false, 131072, buf, 4096), ==, 0);
    g_assert_cmphex(buf[0], ==, 0x11);
    g_assert_cmphex(buf[512], ==, 0x22);
    node_unref(n);
}

/* Limits as QMP writes them, as a command line does, and changed while disks use them: what is not named stays. */
static void test_throttle_limits(void)
{
    static const struct { const char *text; bool ok; } groups[] = {
        { "{\"qom-type\":\"throttle-group\",\"id\":\"l0\",\"limits\":{\"iops-total\":100,\"iops-total-max\":200,\"bps-read\":5}}", true },
        { "{\"qom-type\":\"throttle-group\",\"id\":\"l1\",\"limits.iops-total\":\"100\"}", true },
        { "{\"qom-type\":\"throttle-group\",\"id\":\"l2\",\"limits\":{\"iops-totals\":100}}", false },
        { "{\"qom-type\":\"throttle-group\",\"id\":\"l2\",\"limits.iops-totals\":\"100\"}", false },
        { "{\"qom-type\":\"throttle-group\",\"id\":\"l2\",\"limits\":7}", false },
        { "{\"qom-type\":\"throttle-group\",\"id\":\"l2\",\"limits\":{\"bps-total\":1,\"bps-read\":1}}", false },
    };
    struct json_object *change = json("{\"iops-total\":150}"), *bad = json("{\"bps-total\":1}");
    struct throttle_limits l;
    struct object *g;

    for (unsigned i = 0; i < G_N_ELEMENTS(groups); i++) {
        struct error err = ERROR_INIT;
        struct json_object *o = json_tokener_parse(groups[i].text);

        g_assert_cmpint(object_add(&tool, o, &err), ==, groups[i].ok);
        error_clear(&err);
        json_object_put(o);
    }
    g = object_find(&tool, "l0");
    g_assert_true(g->cls->set(g, "limits", change, NULL));
    g_assert_false(g->cls->set(g, "limits", bad, NULL));        /* beside bps-read */
    throttle_group_limits((struct throttle_group *)g, &l);
    g_assert_cmpuint(l.avg[3], ==, 150);
    g_assert_cmpuint(l.max[3], ==, 200);
    g_assert_cmpuint(l.avg[1], ==, 5);
    throttle_group_limits((struct throttle_group *)object_find(&tool, "l1"), &l);
    g_assert_cmpuint(l.avg[3], ==, 100);
    g_assert_true(object_del(&tool, "l0", NULL) && object_del(&tool, "l1", NULL));
    json_object_put(change);
    json_object_put(bad);
}

static void test_throttle(void)
{
    g_autofree char *path = file_of("t.raw", 0);
    struct json_object *group = json("{\"qom-type\":\"throttle-group\",\"id\":\"g0\",\"x-iops-total\":100}"),
                       *bad = json("{\"qom-type\":\"throttle-group\",\"id\":\"g1\",\"x-bps-total\":100,\"x-bps-read\":1}");
    struct error err = ERROR_INIT;
    struct block_node *n;
    uint8_t buf[512];
    int64_t start;

    g_assert_true(object_add(&tool, group, &err));
    g_assert_false(object_add(&tool, bad, &err));
    error_clear(&err);
    json_object_put(group);
    json_object_put(bad);
    refused(json("{\"driver\":\"throttle\",\"throttle-group\":\"none\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}", path));
    n = open_node(json("{\"driver\":\"throttle\",\"throttle-group\":\"g0\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}", path));
    g_assert_false(object_del(&tool, "g0", &err));      /* in use */
    error_clear(&err);
    start = host_clock_ns();
    for (unsigned i = 0; i < 40; i++)
        g_assert_cmpint(transfer(n, false, i * 512, buf, 512), ==, 0);
    /* ten at once, the others a hundredth of a second each; no upper bound, machines are busy */
    g_assert_cmpint(host_clock_ns() - start, >, 250000000);
    node_unref(n);
    g_assert_true(object_del(&tool, "g0", &err));
}

static void test_blkdebug(void)
{
    g_autofree char *path = file_of("d.raw", 0x33);
    struct block_node *n;
    uint8_t buf[1024];
    struct job flush;

    refused(json("{\"driver\":\"blkdebug\",\"inject-error\":[{\"event\":\"l2_load\"}],\"image\":{\"driver\":\"file\",\"filename\":\"%s\"}}", path));
    refused(json("{\"driver\":\"blkdebug\",\"inject-error\":[{\"event\":\"pwritev_done\"}],\"image\":{\"driver\":\"file\",\"filename\":\"%s\"}}", path));
    n = open_node(json("{\"driver\":\"blkdebug\",\"align\":1024,\"inject-error\":[{\"event\":\"read_aio\",\"sector\":4,\"errno\":28,"
                       "\"once\":true},{\"event\":\"flush_to_disk\",\"errno\":5,\"state\":2}],\"set-state\":[{\"event\":\"write_aio\","
                       "\"new_state\":2}],\"image\":{\"driver\":\"file\",\"filename\":\"%s\"}}", path));
    g_assert_cmpuint(n->limits.align, ==, 1024);
    g_assert_cmpint(transfer(n, false, 0, buf, 512), ==, 0);
    g_assert_cmpint(transfer(n, false, 2560, buf, 512), ==, -ENOSPC);   /* its unit has sector 4 */
    g_assert_cmpint(transfer(n, false, 2560, buf, 512), ==, 0);
    flush = (struct job){ .n = n };
    block_run(graph, job_flush, &flush);
    g_assert_cmpint(flush.ret, ==, 0);
    g_assert_cmpint(transfer(n, true, 0, buf, 1024), ==, 0);
    block_run(graph, job_flush, &flush);
    g_assert_cmpint(flush.ret, ==, -EIO);
    node_unref(n);
}

static void poke(const char *path, uint64_t off, uint8_t v)
{
    g_autofree char *data = NULL;
    gsize len;

    g_assert_true(g_file_get_contents(path, &data, &len, NULL));
    data[off] = v;
    g_assert_true(g_file_set_contents(path, data, len, NULL));
}

static uint8_t peek(const char *path, uint64_t off)
{
    g_autofree char *data = NULL;
    gsize len;

    g_assert_true(g_file_get_contents(path, &data, &len, NULL));
    return data[off];
}

static void test_quorum(void)
{
    g_autofree char *a = file_of("qa.raw", 1), *b = file_of("qb.raw", 1), *c = file_of("qc.raw", 1);
    g_autofree char *kids = g_strdup_printf("[{\"driver\":\"file\",\"filename\":\"%s\"},{\"driver\":\"file\",\"filename\":\"%s\"},"
                                            "{\"driver\":\"file\",\"filename\":\"%s\"}]", a, b, c);
    struct block_node *n;
    uint8_t buf[4096];

    poke(b, 1000, 9);
    refused(json("{\"driver\":\"quorum\",\"vote-threshold\":4,\"children\":%s}", kids));
    n = open_node(json("{\"driver\":\"quorum\",\"vote-threshold\":2,\"rewrite-corrupted\":true,\"children\":%s}", kids));
    g_assert_cmpint(transfer(n, false, 0, buf, 4096), ==, 0);
    g_assert_cmphex(buf[1000], ==, 1);
    memset(buf, 7, sizeof(buf));
    g_assert_cmpint(transfer(n, true, 8192, buf, 4096), ==, 0);
    node_unref(n);
    g_assert_cmphex(peek(b, 1000), ==, 1);              /* outvoted, and mended */
    g_assert_true(peek(a, 8192) == 7 && peek(b, 8192) == 7 && peek(c, 8192) == 7);
    poke(a, 5000, 2);
    poke(b, 5000, 3);
    n = open_node(json("{\"driver\":\"quorum\",\"vote-threshold\":2,\"children\":%s}", kids));
    g_assert_cmpint(transfer(n, false, 4096, buf, 4096), ==, -EIO);     /* three opinions */
    g_assert_cmpint(transfer(n, false, 8192, buf, 4096), ==, 0);
    node_unref(n);
    n = open_node(json("{\"driver\":\"quorum\",\"vote-threshold\":1,\"read-pattern\":\"fifo\",\"children\":%s}", kids));
    g_assert_cmpint(transfer(n, false, 4096, buf, 4096), ==, 0);
    g_assert_cmphex(buf[5000 - 4096], ==, 2);
    node_unref(n);
}

static void test_blkverify(void)
{
    g_autofree char *a = file_of("va.raw", 1), *b = file_of("vb.raw", 1);
    struct block_node *n;
    uint8_t buf[512];

    poke(b, 2000, 2);
    n = open_node(json("{\"driver\":\"blkverify\",\"raw\":{\"driver\":\"file\",\"filename\":\"%s\"},\"test\":{\"driver\":\"file\",\"filename\":\"%s\"}}", a, b));
    g_assert_cmpint(transfer(n, false, 0, buf, 512), ==, 0);
    g_assert_cmpint(transfer(n, false, 1536, buf, 512), ==, -EIO);
    g_assert_cmpint(transfer(n, true, 1536, buf, 512), ==, 0);
    g_assert_cmpint(transfer(n, false, 1536, buf, 512), ==, 0);
    node_unref(n);
}

static void count_done(void *opaque, int ret)
{
    g_assert_cmpint(ret, ==, 0);
    ++*(unsigned *)opaque;
}

/* A machine that stops does not wait for what a disk's limits hold back. */
static void test_throttle_drain(void)
{
    g_autofree char *path = file_of("d.raw", 0);
    struct json_object *group = json("{\"qom-type\":\"throttle-group\",\"id\":\"g2\",\"x-iops-total\":1}");
    struct error err = ERROR_INIT;
    struct block_backend *b;
    struct block_node *n;
    uint8_t buf[512] = { 0 };
    struct iovec iov = { buf, sizeof(buf) };
    unsigned done = 0;
    int64_t start = host_clock_ns();

    g_assert_true(object_add(&tool, group, &err));
    json_object_put(group);
    n = open_node(json("{\"driver\":\"throttle\",\"throttle-group\":\"g2\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}", path));
    b = backend_open(graph, n, true, &err);
    for (unsigned i = 0; i < 120; i++)
        block_writev(b, i * 512, &iov, 1, 0, count_done, &done);
    block_drain(b);
    g_assert_cmpuint(done, ==, 120);
    g_assert_cmpint(host_clock_ns() - start, <, 60000000000);
    backend_free(b);
    node_unref(n);
    g_assert_true(object_del(&tool, "g2", &err));
}

int main(int argc, char **argv)
{
    g_autofree char *template = g_strdup("/tmp/rhea-filters-XXXXXX"), *cleanup = NULL;
    int ret;

    g_test_init(&argc, &argv, NULL);
    dir = g_mkdtemp(template);
    loop = loop_new("test");
    loop_enter(loop);
    graph = block_graph_new(NULL, loop);
    graph->objects = &tool;
    g_test_add_func("/filters/copy-on-read", test_copy_on_read);
    g_test_add_func("/filters/throttle", test_throttle);
    g_test_add_func("/filters/throttle-limits", test_throttle_limits);
    g_test_add_func("/filters/throttle-drain", test_throttle_drain);
    g_test_add_func("/filters/blkdebug", test_blkdebug);
    g_test_add_func("/filters/quorum", test_quorum);
    g_test_add_func("/filters/blkverify", test_blkverify);
    ret = g_test_run();
    block_graph_free(graph);
    object_cleanup(&tool);
    loop_free(loop);
    cleanup = g_strdup_printf("rm -rf %s", dir);
    return system(cleanup) ? 1 : ret;
}
