/* qcow2: random requests against a shadow of the disk, power cuts, hostile images. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/backend.h"
#include "block/format/qcow2.h"
#include "rhea/base/options.h"
#include "rhea/block/bitmap.h"
#include "node-options.h"
#include "power-cut.h"

static char *dir;
static struct loop *loop;
static struct block_graph *graph;

static char *path_of(const char *name)
{
    return g_build_filename(dir, name, NULL);
}

static void create(const char *path, const char *fmt, const char *options)
{
    struct error err = ERROR_INIT;
    struct json_object *o = json("%s", options);

    if (!block_create(graph, path, fmt, o, &err))
        g_error("%s: %s", path, err.msg);
    json_object_put(o);
}

static struct block_node *open_node(struct json_object *o)
{
    struct error err = ERROR_INIT;
    struct block_node *n = node_open(graph, o, &err);

    if (!n)
        g_error("%s: %s", json_object_to_json_string(o), err.msg);
    json_object_put(o);
    return n;
}

static struct block_node *open_image(const char *path)
{
    return open_node(json("{\"driver\":\"qcow2\",\"discard\":\"unmap\",\"cache\":{\"no-flush\":true},\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}", path));
}

/* ---- things done in coroutines */

struct job {
    struct block_node *n;
    uint64_t off, bytes;
    void *buf;
    int ret;
    struct block_check check;
    unsigned repair;
};

static void job_read(void *arg)
{
    struct job *j = arg;

    j->ret = node_pread(j->n, j->off, j->buf, j->bytes);
}

static void job_check(void *arg)
{
    struct job *j = arg;
    struct error err = ERROR_INIT;

    if (!j->n->drv->check(j->n, j->repair, &j->check, &err)) {
        error_clear(&err);
        j->ret = -EIO;
    }
}

static void job_flush(void *arg)
{
    ((struct job *)arg)->ret = node_flush(((struct job *)arg)->n);
}

static void job_compress(void *arg)
{
    struct job *j = arg;

    j->ret = node_pwrite_compressed(j->n, j->off, j->buf, j->bytes);
}

static void check_sound(struct block_node *n, bool leaks_too)
{
    struct job j = { .n = n };

    block_run(graph, job_check, &j);
    g_assert_cmpint(j.ret, ==, 0);
    g_assert_cmpuint(j.check.errors, ==, 0);
    g_assert_cmpuint(j.check.check_errors, ==, 0);
    if (leaks_too)
        g_assert_cmpuint(j.check.leaks, ==, 0);
}

static void check_same(struct block_node *n, const uint8_t *shadow, uint64_t size)
{
    g_autofree uint8_t *buf = g_malloc(size);
    struct job j = { .n = n, .bytes = size, .buf = buf };

    block_run(graph, job_read, &j);
    g_assert_cmpint(j.ret, ==, 0);
    for (uint64_t i = 0; i < size; i += 512)
        if (memcmp(buf + i, shadow + i, 512))
            g_error("sector %" PRIu64 " of %" PRIu64 " differs: %02x, not %02x", i / 512, size / 512, buf[i],
                    shadow[i]);
}

/* Debian's qemu-img must agree: no error, and the same contents. */
static void check_foreign(const char *path, const uint8_t *shadow, uint64_t size)
{
    g_autofree char *raw = path_of("shadow.raw");
    g_autofree char *cmd = g_strdup_printf("cd %s && qemu-img check -q %s >/dev/null && qemu-img compare -q -f qcow2 -F raw %s %s", dir,
                                           path, path, raw);

    g_assert_true(g_file_set_contents(raw, (const char *)shadow, size, NULL));
    g_assert_cmpint(system(cmd), ==, 0);
}

/* ---- random requests, several at once, on parts of the disk that do not overlap in flight */

struct storm {
    struct block_node *n;
    struct block_backend *b;    /* half of the reads and writes go through it, and its fast path */
    uint8_t *shadow;
    uint64_t base, size;        /* the part of the disk that is used */
    GRand *rand;
    unsigned left, running;
    bool *busy;                 /* sectors in flight */
    unsigned kinds;
};

static bool storm_claim(struct storm *s, uint64_t off, uint64_t bytes, bool value)
{
    for (uint64_t i = off / 512; value && i < (off + bytes) / 512; i++)
        if (s->busy[i])
            return false;
    for (uint64_t i = off / 512; i < (off + bytes) / 512; i++)
        s->busy[i] = value;
    return true;
}

struct wait { struct coroutine *co; int ret; };

static void wait_done(void *opaque, int ret)
{
    struct wait *w = opaque;

    w->ret = ret;
    coroutine_wake(w->co);
}

static int storm_transfer(struct storm *s, bool write, uint64_t off, uint64_t bytes, const struct iovec *iov, int n,
                          unsigned flags)
{
    struct wait w = { coroutine_self(), 0 };

    if (g_rand_boolean(s->rand))
        return write ? node_pwritev(s->n, s->base + off, bytes, iov, n, flags)
                     : node_preadv(s->n, s->base + off, bytes, iov, n);
    if (write)
        block_writev(s->b, s->base + off, iov, n, flags, wait_done, &w);
    else
        block_readv(s->b, s->base + off, iov, n, flags, wait_done, &w);
    coroutine_yield();
    return w.ret;
}

static int storm_write(struct storm *s, uint64_t off, uint64_t bytes)
{
    uint8_t *buf = g_malloc(bytes);
    unsigned pieces = 1 + g_rand_int_range(s->rand, 0, 3);
    struct iovec iov[4];
    uint64_t at = 0;
    int ret, n = 0;

    for (uint64_t i = 0; i < bytes; i += 512)
        memset(buf + i, g_rand_int_range(s->rand, 0, 256), 512);
    for (unsigned i = 0; i < pieces && at < bytes; i++) {
        uint64_t len = i + 1 == pieces ? bytes - at : MIN(bytes - at, bytes / pieces / 512 * 512 + 512);

        iov[n++] = (struct iovec){ buf + at, len };
        at += len;
    }
    ret = storm_transfer(s, true, off, bytes, iov, n, g_rand_int_range(s->rand, 0, 30) ? 0 : BLOCK_FUA);
    memcpy(s->shadow + off, buf, bytes);
    g_free(buf);
    return ret;
}

static int storm_read(struct storm *s, uint64_t off, uint64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    struct iovec iov = { buf, bytes };
    int ret = storm_transfer(s, false, off, bytes, &iov, 1, 0);

    if (!ret && memcmp(buf, s->shadow + off, bytes))
        g_error("read of %" PRIu64 "+%" PRIu64 " differs", off, bytes);
    return ret;
}

/* After a discard the guest may read anything of before or zeroes: what it is now is noted. */
static int storm_discard(struct storm *s, uint64_t off, uint64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    int ret = node_discard(s->n, s->base + off, bytes);

    if (!ret)
        ret = node_pread(s->n, s->base + off, buf, bytes);
    for (uint64_t i = 0; i < bytes && !ret; i += 512)
        g_assert_true(buffer_is_zero(buf + i, 512) || !memcmp(buf + i, s->shadow + off + i, 512));
    memcpy(s->shadow + off, buf, bytes);
    return ret;
}

static void storm_one(struct storm *s)
{
    uint64_t sectors = s->size / 512, off, bytes;
    int kind = g_rand_int_range(s->rand, 0, s->kinds), ret = 0;

    do {
        off = g_rand_int_range(s->rand, 0, sectors) * 512ull;
        bytes = g_rand_int_range(s->rand, 1, g_rand_int_range(s->rand, 0, 4) ? 16 : 600) * 512ull;
        bytes = MIN(bytes, s->size - off);
    } while (!storm_claim(s, off, bytes, true));
    switch (kind) {
    case 0:
    case 1:
    case 2: ret = storm_write(s, off, bytes); break;
    case 3:
    case 4: ret = storm_read(s, off, bytes); break;
    case 5:
        ret = node_write_zeroes(s->n, s->base + off, bytes, g_rand_boolean(s->rand) ? BLOCK_MAY_UNMAP : 0);
        memset(s->shadow + off, 0, bytes);
        break;
    case 6: ret = storm_discard(s, off, bytes); break;
    default: ret = g_rand_int_range(s->rand, 0, 8) ? 0 : node_flush(s->n); break;
    }
    g_assert_cmpint(ret, ==, 0);
    storm_claim(s, off, bytes, false);
}

static void storm_worker(void *arg)
{
    struct storm *s = arg;

    while (s->left) {
        s->left--;
        storm_one(s);
    }
    __atomic_sub_fetch(&s->running, 1, __ATOMIC_SEQ_CST);
}

static void storm_run(struct storm *s, unsigned requests, unsigned workers)
{
    s->left = requests;
    s->running = workers;
    s->busy = g_new0(bool, s->size / 512);
    s->b = backend_open(graph, s->n, true, NULL);
    g_assert_nonnull(s->b);
    for (unsigned i = 0; i < workers; i++)
        coroutine_start(storm_worker, s);
    while (s->running)
        loop_step(loop, true);
    backend_free(s->b);
    g_free(s->busy);
}

struct shape { const char *name, *options, *open; uint64_t size; bool backing; };
/* Waiting for the disk is left to the first; the order of writes is the same without. */
#define NO_FLUSH ",\"cache\":{\"no-flush\":true}"
static const struct shape shapes[] = {
    { "default", "{\"size\":16777216}", "", 16 << 20, false },
    { "512-clusters", "{\"size\":2097152,\"cluster_size\":512}", NO_FLUSH, 2 << 20, false },
    { "4k-refcount1", "{\"size\":4194304,\"cluster_size\":4096,\"refcount_bits\":1}", NO_FLUSH, 4 << 20, false },
    { "4k-refcount64", "{\"size\":4194304,\"cluster_size\":4096,\"refcount_bits\":64}", NO_FLUSH, 4 << 20, false },
    { "2M-clusters", "{\"size\":16777216,\"cluster_size\":2097152}", NO_FLUSH, 16 << 20, false },
    { "v2", "{\"size\":4194304,\"compat\":\"0.10\",\"cluster_size\":4096}", NO_FLUSH, 4 << 20, false },
    { "tiny-caches", "{\"size\":4194304,\"cluster_size\":4096}", ",\"l2-cache-size\":8192,\"l2-cache-entry-size\":512,\"refcount-cache-size\":4096" NO_FLUSH, 4 << 20, false },
    { "no-unref", "{\"size\":4194304,\"cluster_size\":4096}", ",\"discard-no-unref\":true" NO_FLUSH, 4 << 20, false },
    { "odd-size", "{\"size\":4195840,\"cluster_size\":16384}", NO_FLUSH, 4195840, false },
    { "direct", "{\"size\":4194304,\"cluster_size\":8192}", ",\"cache\":{\"direct\":true,\"no-flush\":true}", 4 << 20, false },
    { "backing", "{\"size\":8388608,\"cluster_size\":16384,\"backing_file\":\"base.raw\",\"backing_fmt\":\"raw\"}", NO_FLUSH, 8 << 20, true },
    { "extended", "{\"size\":8388608,\"extended_l2\":true}", NO_FLUSH, 8 << 20, false },
    { "extended-16k", "{\"size\":4194304,\"extended_l2\":true,\"cluster_size\":16384}", NO_FLUSH, 4 << 20, false },
    { "extended-backing", "{\"size\":8388608,\"extended_l2\":true,\"cluster_size\":65536,\"backing_file\":\"base.raw\",\"backing_fmt\":\"raw\"}", NO_FLUSH, 8 << 20, true },
    { "extended-prealloc", "{\"size\":8388608,\"extended_l2\":true,\"cluster_size\":65536,\"preallocation\":\"metadata\",\"backing_file\":\"base.raw\",\"backing_fmt\":\"raw\"}", NO_FLUSH, 8 << 20, true },
    { "data-file", "{\"size\":4194304,\"cluster_size\":16384,\"data_file\":\"storm.data\"}", NO_FLUSH, 4 << 20, false },
    { "data-file-backing", "{\"size\":8388608,\"data_file\":\"storm.data\",\"backing_file\":\"base.raw\",\"backing_fmt\":\"raw\"}", NO_FLUSH, 8 << 20, true },
    { "data-file-extended", "{\"size\":8388608,\"extended_l2\":true,\"data_file\":\"storm.data\"}", NO_FLUSH, 8 << 20, false },
    { "data-file-raw", "{\"size\":4194304,\"data_file\":\"storm.data\",\"data_file_raw\":true}", NO_FLUSH, 4 << 20, false },
    { "backing-v2", "{\"size\":8388608,\"compat\":\"0.10\",\"backing_file\":\"base.raw\",\"backing_fmt\":\"raw\"}", NO_FLUSH, 8 << 20, true },
};

static void fill_backing(uint8_t *shadow)
{
    g_autofree char *base = path_of("base.raw");

    for (uint64_t i = 0; i < 5 << 20; i++)      /* shorter than the overlay */
        shadow[i] = (i >> 9) * 31 + i;
    g_assert_true(g_file_set_contents(base, (const char *)shadow, 5 << 20, NULL));
}

static void test_storm(const void *arg)
{
    const struct shape *shape = arg;
    g_autofree char *path = path_of("storm.qcow2");
    struct storm s = { .size = shape->size, .shadow = g_malloc0(shape->size), .rand = g_rand_new_with_seed(g_test_rand_int()),
                       .kinds = 8 };

    if (shape->backing)
        fill_backing(s.shadow);
    create(path, "qcow2", shape->options);
    for (int round = 0; round < 3; round++) {
        s.n = open_node(json("{\"driver\":\"qcow2\",\"discard\":\"unmap\"%s,\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}",
                             shape->open, path));
        check_same(s.n, s.shadow, s.size);
        storm_run(&s, 600, round == 0 ? 1 : 12);
        check_same(s.n, s.shadow, s.size);
        node_unref(s.n);
        s.n = open_image(path);
        check_sound(s.n, true);
        check_same(s.n, s.shadow, s.size);
        node_unref(s.n);
        check_foreign(path, s.shadow, s.size);
        if (strstr(shape->options, "data_file_raw")) {          /* it can be read alone */
            g_autofree char *data = path_of("storm.data"), *bytes = NULL;
            gsize len;

            g_assert_true(g_file_get_contents(data, &bytes, &len, NULL));
            g_assert_cmpmem(bytes, len, s.shadow, s.size);
        }
    }
    g_rand_free(s.rand);
    g_free(s.shadow);
}

static void storm_thread(void *arg)
{
    coroutine_start(storm_worker, arg);
}

/* Two threads on one image, each on its own half of the disk: tables, cache, allocation are shared. */
static void test_threads(void)
{
    g_autofree char *path = path_of("threads.qcow2");
    uint64_t half = 8 << 20;
    g_autofree uint8_t *shadow = g_malloc0(2 * half);
    struct loop *other = loop_new("other");
    struct storm s[2];
    struct block_node *n;

    create(path, "qcow2", "{\"size\":16777216,\"cluster_size\":4096}");
    n = open_image(path);
    loop_thread_start(other);
    for (int i = 0; i < 2; i++) {
        s[i] = (struct storm){ .n = n, .b = backend_new(graph, "", n), .shadow = shadow + i * half, .base = i * half, .size = half,
                               .rand = g_rand_new_with_seed(i), .kinds = 8, .left = 3000, .running = 8,
                               .busy = g_new0(bool, half / 512) };
        for (int k = 0; k < 8; k++)
            loop_post(i ? other : loop, storm_thread, &s[i]);
    }
    while (__atomic_load_n(&s[0].running, __ATOMIC_SEQ_CST) || __atomic_load_n(&s[1].running, __ATOMIC_SEQ_CST))
        loop_step(loop, false);
    loop_free(other);
    for (int i = 0; i < 2; i++) {
        backend_free(s[i].b);
        g_rand_free(s[i].rand);
        g_free(s[i].busy);
    }
    check_same(n, shadow, 2 * half);
    node_unref(n);
    n = open_image(path);
    check_sound(n, true);
    node_unref(n);
    check_foreign(path, shadow, 2 * half);
}

/* A disk larger than one refcount table of its first size: table and blocks grow. */
static void test_growth(void)
{
    g_autofree char *path = path_of("growth.qcow2");
    struct storm s = { .size = 24 << 20, .shadow = g_malloc0(24 << 20), .rand = g_rand_new_with_seed(7), .kinds = 3 };

    create(path, "qcow2", "{\"size\":25165824,\"cluster_size\":512,\"refcount_bits\":64}");
    s.n = open_image(path);
    storm_run(&s, 1500, 8);
    check_same(s.n, s.shadow, s.size);
    node_unref(s.n);
    s.n = open_image(path);
    g_assert_cmpuint(((struct qcow2 *)s.n->state)->reftable_clusters, >, 1);
    check_sound(s.n, true);
    node_unref(s.n);
    check_foreign(path, s.shadow, s.size);
    g_rand_free(s.rand);
    g_free(s.shadow);
}

static void test_compressed(const void *type)
{
    g_autofree char *path = path_of("compressed.qcow2");
    g_autofree char *options = g_strdup_printf("{\"size\":4194304,\"compression_type\":\"%s\"}", (const char *)type);
    uint64_t size = 4 << 20;
    struct storm s = { .size = size, .shadow = g_malloc0(size), .rand = g_rand_new_with_seed(3), .kinds = 8 };

    for (uint64_t i = 0; i < size; i++)
        s.shadow[i] = i % 3 ? i >> 12 : g_rand_int_range(s.rand, 0, 1 + (i >> 18));
    create(path, "qcow2", options);
    s.n = open_image(path);
    for (uint64_t off = 0; off < size; off += 65536) {
        struct job j = { .n = s.n, .off = off, .bytes = 65536, .buf = s.shadow + off };

        block_run(graph, job_compress, &j);
        g_assert_cmpint(j.ret, ==, 0);
    }
    check_same(s.n, s.shadow, size);
    node_unref(s.n);
    check_foreign(path, s.shadow, size);
    s.n = open_image(path);
    storm_run(&s, 300, 8);
    check_same(s.n, s.shadow, size);
    node_unref(s.n);
    s.n = open_image(path);
    check_sound(s.n, true);
    node_unref(s.n);
    check_foreign(path, s.shadow, size);
    g_rand_free(s.rand);
    g_free(s.shadow);
}

/* ---- internal snapshots */

enum { SNAPSHOTS_MAX = 4 };

struct snap_job { struct block_node *n; const char *name; int what; struct error err; bool ok; uint64_t size; void *buf; };

static void snap_run(void *arg)
{
    struct snap_job *j = arg;
    struct block_snapshot b = { .name = j->name, .date_sec = 1700000000, .icount = UINT64_MAX };
    struct iovec iov = { j->buf, j->size };

    switch (j->what) {
    case 'c': j->ok = j->n->drv->snapshot_create(j->n, &b, &j->err); break;
    case 'a': j->ok = j->n->drv->snapshot_apply(j->n, j->name, &j->err); break;
    case 'd': j->ok = j->n->drv->snapshot_delete(j->n, j->name, &j->err); break;
    case 't': j->ok = !node_truncate(j->n, j->size, &j->err); break;
    case 's':                   /* with the machine's state */
        b.vm_state_size = j->size;
        j->ok = !j->n->drv->vmstate_pwritev(j->n, 0, j->size, &iov, 1) && j->n->drv->snapshot_create(j->n, &b, &j->err);
        break;
    case 'r': j->ok = !j->n->drv->vmstate_preadv(j->n, 0, j->size, &iov, 1); break;
    }
}

static bool snap(struct block_node *n, int what, const char *name, uint64_t size, void *buf)
{
    struct snap_job j = { .n = n, .name = name, .what = what, .size = size, .buf = buf };

    block_run(graph, snap_run, &j);
    if (!j.ok && j.err.msg)
        g_test_message("%s", j.err.msg);
    error_clear(&j.err);
    return j.ok;
}

static bool snap_known(struct block_node *n, const char *name)
{
    struct json_object *list = n->drv->snapshots(n);
    bool found = false;

    for (size_t i = 0; list && i < json_object_array_length(list); i++)
        found |= !strcmp(option_str(json_object_array_get_idx(list, i), "name", ""), name);
    json_object_put(list);
    return found;
}

/* Random writes, and between them snapshots made, gone back to and deleted, each with a shadow of its own. */
static void test_snapshots(const void *options)
{
    g_autofree char *path = path_of("snapshots.qcow2");
    uint64_t size = 4 << 20;
    struct storm s = { .size = size, .shadow = g_malloc0(size), .rand = g_rand_new_with_seed(g_test_rand_int()), .kinds = 8 };
    uint8_t *kept[SNAPSHOTS_MAX] = { 0 };

    if (strstr(options, "backing"))
        fill_backing(s.shadow = g_realloc(s.shadow, 8 << 20));
    create(path, "qcow2", options);
    s.n = open_image(path);
    for (int round = 0; round < 25; round++) {
        int i = g_rand_int_range(s.rand, 0, SNAPSHOTS_MAX);
        g_autofree char *name = g_strdup_printf("snap%d", i);

        storm_run(&s, 40, 4);
        if (!kept[i]) {
            kept[i] = g_memdup2(s.shadow, size);
            g_assert_true(snap(s.n, 'c', name, 0, NULL));
        } else if (g_rand_boolean(s.rand)) {
            g_assert_true(snap(s.n, 'a', name, 0, NULL));
            memcpy(s.shadow, kept[i], size);
        } else {
            g_assert_true(snap(s.n, 'd', name, 0, NULL));
            g_clear_pointer(&kept[i], g_free);
        }
        check_same(s.n, s.shadow, size);
        check_sound(s.n, true);
        if (round % 5 == 4) {
            node_unref(s.n);
            check_foreign(path, s.shadow, size);
            s.n = open_image(path);
        }
    }
    for (int i = 0; i < SNAPSHOTS_MAX; i++) {
        g_autofree char *name = g_strdup_printf("snap%d", i);

        g_assert_cmpint(snap_known(s.n, name), ==, kept[i] != NULL);
        if (!kept[i])
            continue;
        g_assert_true(snap(s.n, 'a', name, 0, NULL));
        check_same(s.n, kept[i], size);
        g_assert_true(snap(s.n, 'd', name, 0, NULL));
        g_free(kept[i]);
    }
    check_sound(s.n, true);
    node_unref(s.n);
    g_rand_free(s.rand);
    g_free(s.shadow);
}

struct under_load { struct block_node *n; bool done; };

static void under_load_run(void *arg)
{
    struct under_load *u = arg;
    struct block_snapshot b = { .name = "load", .icount = UINT64_MAX };

    for (int i = 0; i < 20; i++) {
        g_assert_true(u->n->drv->snapshot_create(u->n, &b, NULL));
        coroutine_sleep_ns(2000000);
        g_assert_true(u->n->drv->snapshot_delete(u->n, "load", NULL));
        g_assert_cmpint(node_truncate(u->n, (17 + i % 2) << 20, NULL), ==, 0);
    }
    u->done = true;
}

/* Snapshots and resizing while two threads write: each waits for the other, and nothing is mixed up. */
static void test_snapshots_under_load(void)
{
    g_autofree char *path = path_of("load.qcow2");
    uint64_t half = 8 << 20;
    g_autofree uint8_t *shadow = g_malloc0(2 * half);
    struct loop *other = loop_new("other");
    struct under_load u = { 0 };
    struct storm s[2];

    create(path, "qcow2", "{\"size\":16777216,\"cluster_size\":16384,\"extended_l2\":true}");
    u.n = open_image(path);
    loop_thread_start(other);
    for (int i = 0; i < 2; i++) {
        s[i] = (struct storm){ .n = u.n, .b = backend_new(graph, "", u.n), .shadow = shadow + i * half, .base = i * half, .size = half,
                               .rand = g_rand_new_with_seed(i + 10), .kinds = 8, .left = 1500, .running = 6,
                               .busy = g_new0(bool, half / 512) };
        for (int k = 0; k < 6; k++)
            loop_post(i ? other : loop, storm_thread, &s[i]);
    }
    coroutine_start(under_load_run, &u);
    while (!u.done || __atomic_load_n(&s[0].running, __ATOMIC_SEQ_CST) || __atomic_load_n(&s[1].running, __ATOMIC_SEQ_CST))
        loop_step(loop, false);
    loop_free(other);
    for (int i = 0; i < 2; i++) {
        backend_free(s[i].b);
        g_rand_free(s[i].rand);
        g_free(s[i].busy);
    }
    check_same(u.n, shadow, 2 * half);
    check_sound(u.n, true);
    node_unref(u.n);
}

/* Counts of one bit have no room for a second reference: refused, and all is as it was. */
static void test_snapshot_overflow(void)
{
    g_autofree char *path = path_of("overflow.qcow2");
    struct storm s = { .size = 1 << 20, .shadow = g_malloc0(1 << 20), .rand = g_rand_new_with_seed(2), .kinds = 3 };

    create(path, "qcow2", "{\"size\":1048576,\"cluster_size\":4096,\"refcount_bits\":1}");
    s.n = open_image(path);
    storm_run(&s, 40, 4);
    g_assert_false(snap(s.n, 'c', "no", 0, NULL));
    check_sound(s.n, true);
    check_same(s.n, s.shadow, s.size);
    storm_run(&s, 40, 4);
    check_same(s.n, s.shadow, s.size);
    node_unref(s.n);
    check_foreign(path, s.shadow, s.size);
    g_rand_free(s.rand);
    g_free(s.shadow);
}

/* The machine's state lies behind the disk, goes with its snapshot, and does not show when the disk grows. */
static void test_vmstate(void)
{
    g_autofree char *path = path_of("vmstate.qcow2");
    g_autofree uint8_t *state = g_malloc(300000), *back = g_malloc(300000), *shadow = g_malloc0(8 << 20);
    struct block_node *n;

    for (unsigned i = 0; i < 300000; i++)
        state[i] = i * 7 + 1;
    create(path, "qcow2", "{\"size\":1048576,\"cluster_size\":4096}");
    n = open_image(path);
    g_assert_true(snap(n, 's', "state", 300000, state));
    check_sound(n, true);
    node_unref(n);
    n = open_image(path);
    g_assert_true(snap(n, 'a', "state", 0, NULL));
    g_assert_true(snap(n, 'r', "state", 300000, back));
    g_assert_cmpmem(state, 300000, back, 300000);
    g_assert_true(snap(n, 't', NULL, 8 << 20, NULL));
    check_same(n, shadow, 8 << 20);
    g_assert_true(snap(n, 'd', "state", 0, NULL));
    check_sound(n, true);
    node_unref(n);
    check_foreign(path, shadow, 8 << 20);
}

/* What was cut off does not come back. */
static void test_shrink(const void *options)
{
    g_autofree char *path = path_of("shrink.qcow2");
    struct storm s = { .size = 4 << 20, .shadow = g_malloc0(4 << 20), .rand = g_rand_new_with_seed(4), .kinds = 8 };

    create(path, "qcow2", options);
    s.n = open_image(path);
    for (int round = 0; round < 6; round++) {
        uint64_t small = g_rand_int_range(s.rand, 0, s.size / 512) * 512ull;

        storm_run(&s, 60, 4);
        g_assert_true(snap(s.n, 't', NULL, small, NULL));
        check_sound(s.n, true);
        g_assert_true(snap(s.n, 't', NULL, s.size, NULL));
        memset(s.shadow + small, 0, s.size - small);
        check_same(s.n, s.shadow, s.size);
        check_sound(s.n, true);
    }
    node_unref(s.n);
    check_foreign(path, s.shadow, s.size);
    g_rand_free(s.rand);
    g_free(s.shadow);
}

/* ---- power cuts: a log of what reached the file is cut anywhere; what came after the last flush is kept, lost or torn
 * at random. The image must be sound, and hold every sector that a guest's flush had made durable. */

enum { CUT_SIZE = 2 << 20, CUT_SECTORS = CUT_SIZE / 512, CUT_STEPS = 400, CUT_BACKING = 1000000 };

struct cut {
    struct block_node *n;
    GRand *rand;
    GArray *events;             /* the guest's view: of struct cut_event */
    char *log;
    uint32_t tag;
    bool snapshots;             /* and resizing */
    bool compressed;            /* an image being filled: convert -c */
    uint32_t now[CUT_SECTORS], *kept[SNAPSHOTS_MAX];
};

static void cut_add(struct cut *c, struct cut_event e)
{
    for (uint32_t k = 0; !e.flush && k < e.count; k++)
        c->now[e.sector + k] = e.tags ? e.tags[k] : e.tag;
    e.log_end = log_size(c->log);
    g_array_append_val(c->events, e);
}

/* Snapshots come and go, the disk grows and shrinks; all of them end in a flush. */
static void cut_snapshot(struct cut *c)
{
    int i = g_rand_int_range(c->rand, 0, SNAPSHOTS_MAX + 1);
    g_autofree char *name = g_strdup_printf("snap%d", i);
    struct cut_event all = { .count = CUT_SECTORS };

    if (i == SNAPSHOTS_MAX) {
        g_assert_true(snap(c->n, 't', NULL, CUT_SIZE * (c->n->size > CUT_SIZE ? 1 : 3), NULL));
    } else if (!c->kept[i]) {
        g_assert_true(snap(c->n, 'c', name, 0, NULL));
        c->kept[i] = g_memdup2(c->now, sizeof(c->now));
    } else if (g_rand_boolean(c->rand)) {
        all.tags = g_memdup2(c->kept[i], sizeof(c->now));
        cut_add(c, all);
        g_array_index(c->events, struct cut_event, c->events->len - 1).log_end++;       /* not done yet */
        g_assert_true(snap(c->n, 'a', name, 0, NULL));
    } else {
        g_assert_true(snap(c->n, 'd', name, 0, NULL));
        g_clear_pointer(&c->kept[i], g_free);
    }
    cut_add(c, (struct cut_event){ .flush = true });
}

/* Each write puts its number in every sector; 0 is "zeroes". */
static void cut_workload(void *arg)
{
    struct cut *c = arg;
    g_autofree uint32_t *buf = g_new(uint32_t, 128 * 200);

    for (uint32_t s = 0; c->n->backing && s < CUT_SECTORS; s++)
        c->now[s] = CUT_BACKING + s;
    for (int i = 0; c->compressed && i < CUT_SECTORS / 8; i++) {        /* clusters of 4 KiB in any order, each once */
        struct cut_event e = { .sector = (i * 37u) % (CUT_SECTORS / 8) * 8, .count = 8, .tag = ++c->tag };

        for (uint32_t k = 0; k < 8 * 128; k++)
            buf[k] = e.tag;
        g_assert_cmpint(node_pwrite_compressed(c->n, e.sector * 512ull, buf, 4096), ==, 0);
        cut_add(c, e);
        if (i % 50 == 49) {
            g_assert_cmpint(node_flush(c->n), ==, 0);
            cut_add(c, (struct cut_event){ .flush = true });
        }
    }
    for (int i = 0; i < (c->compressed ? 50 : CUT_STEPS); i++) {
        struct cut_event e = { .sector = g_rand_int_range(c->rand, 0, CUT_SECTORS) };
        int kind = g_rand_int_range(c->rand, 0, 10), ret;

        e.count = g_rand_int_range(c->rand, 1, 60);
        e.count = MIN(e.count, CUT_SECTORS - e.sector);
        if (c->snapshots && !g_rand_int_range(c->rand, 0, 12)) {
            cut_snapshot(c);
            continue;
        }
        if (kind == 0) {
            e.flush = true;
            ret = node_flush(c->n);
        } else if (kind < 3) {
            e.tag = 0;
            ret = node_write_zeroes(c->n, e.sector * 512ull, e.count * 512ull, kind & 1 ? BLOCK_MAY_UNMAP : 0);
        } else {
            e.tag = ++c->tag;
            for (uint32_t k = 0; k < e.count * 128; k++)
                buf[k] = e.tag;
            ret = node_pwrite(c->n, e.sector * 512ull, buf, e.count * 512ull);
        }
        g_assert_cmpint(ret, ==, 0);
        cut_add(c, e);
    }
}

static void cut_check_content(const struct cut *c, struct block_node *n, uint64_t end)
{
    g_autofree uint32_t *buf = g_new(uint32_t, CUT_SIZE / 4), *first = g_new0(uint32_t, CUT_SECTORS);
    struct job j = { .n = n, .bytes = CUT_SIZE, .buf = buf };

    for (uint32_t s = 0; n->backing && s < CUT_SECTORS; s++)
        first[s] = CUT_BACKING + s;
    block_run(graph, job_read, &j);
    g_assert_cmpint(j.ret, ==, 0);
    cut_verify(c->events, first, buf, CUT_SECTORS, end);
}

/* The backing image of some: each sector holds its number. */
static void cut_backing(void)
{
    g_autofree char *path = path_of("cut.raw");
    g_autofree uint32_t *data = g_new(uint32_t, CUT_SIZE / 4);

    for (uint32_t i = 0; i < CUT_SIZE / 4; i++)
        data[i] = CUT_BACKING + i / 128;
    g_assert_true(g_file_set_contents(path, (char *)data, CUT_SIZE, NULL));
}

/* Sound but for leaks; once those are mended, by qemu-img's measure too. */
static void cut_check(struct block_node *n, const char *path, bool foreign)
{
    g_autofree char *cmd = g_strdup_printf("qemu-img check -q -U %s >/dev/null", path);
    struct job j = { .n = n, .repair = BLOCK_FIX_LEAKS };

    check_sound(n, false);
    if (!foreign)
        return;
    block_run(graph, job_check, &j);
    g_assert_cmpint(j.ret, ==, 0);
    block_run(graph, job_flush, &j);
    g_assert_cmpint(system(cmd), ==, 0);
}

struct cut_shape { const char *name, *options; bool snapshots, compressed; };

static void test_power_cut(const void *arg)
{
    const struct cut_shape *shape = arg;
    g_autofree char *path = path_of("cut.qcow2"), *log = path_of("cut.log"), *out = path_of("cut.out");
    struct cut *c = g_new0(struct cut, 1);
    g_autoptr(GArray) ends = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    g_autofree char *bytes = NULL, *base = NULL;
    unsigned cuts = g_test_thorough() ? 2000 : g_getenv("SOAK") ? 500 : shape->snapshots ? 50 : 100;
    gsize len, base_len;

    c->rand = g_rand_new_with_seed(g_test_rand_int());
    c->log = log;
    c->events = g_array_new(FALSE, FALSE, sizeof(struct cut_event));
    c->snapshots = shape->snapshots;
    c->compressed = shape->compressed;
    cut_backing();
    create(path, "qcow2", shape->options);
    g_assert_true(g_file_get_contents(path, &base, &base_len, NULL));
    c->n = open_node(json("{\"driver\":\"qcow2\",\"discard\":\"unmap\",\"file\":{\"driver\":\"crashlog\",\"log\":\"%s\",\"file\":"
                          "{\"driver\":\"file\",\"cache\":{\"no-flush\":true},\"filename\":\"%s\"}}}", log, path));
    block_run(graph, cut_workload, c);
    g_assert_true(g_file_get_contents(log, &bytes, &len, NULL));
    for (uint64_t at = 0; at < len; g_array_append_val(ends, at))
        at = record_end((uint8_t *)bytes, at);
    for (unsigned i = 0; i < cuts; i++) {
        uint64_t end = g_array_index(ends, uint64_t, g_rand_int_range(c->rand, 0, ends->len));
        g_autoptr(GByteArray) image = g_byte_array_new();
        struct block_node *n;

        g_byte_array_append(image, (guint8 *)base, base_len);
        cut_replay(c->rand, &image, 1, (const uint8_t *)bytes, end);
        put_file(out, image->data, image->len);
        n = open_node(json("{\"driver\":\"qcow2\",\"cache\":{\"no-flush\":true},\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}",
                           out));
        cut_check(n, out, i % 8 == 0);
        cut_check_content(c, n, end);
        node_unref(n);
    }
    node_unref(c->n);
    for (unsigned i = 0; i < c->events->len; i++)
        g_free(g_array_index(c->events, struct cut_event, i).tags);
    for (int i = 0; i < SNAPSHOTS_MAX; i++)
        g_free(c->kept[i]);
    g_array_free(c->events, TRUE);
    g_rand_free(c->rand);
    g_free(c);
}

/* Another backing file is named: cut anywhere, the old name stands there or the new one. */
struct renaming { struct block_node *n; const char *name; };

static void renaming_run(void *arg)
{
    struct renaming *r = arg;

    g_assert_true(r->n->drv->change_backing(r->n, r->name, "raw", NULL));
}

static void test_power_cut_renaming(void)
{
    static const char *const names[] = { "a.raw", "a-much-longer-name-of-a-backing-file-than-the-first.raw", "b.raw", NULL, "c.raw" };
    g_autofree char *path = path_of("rename.qcow2"), *log = path_of("rename.log"), *out = path_of("cut.out");
    GRand *rand = g_rand_new_with_seed(g_test_rand_int());
    const char *before = "first.raw";

    create(path, "qcow2", "{\"size\":2097152,\"cluster_size\":4096,\"backing_file\":\"first.raw\",\"backing_fmt\":\"raw\"}");
    for (unsigned i = 0; i < G_N_ELEMENTS(names); before = names[i++]) {
        g_autofree char *bytes = NULL, *base = NULL;
        struct renaming r = { .name = names[i] };
        gsize len, base_len;

        g_assert_true(g_file_get_contents(path, &base, &base_len, NULL));
        r.n = open_node(json("{\"driver\":\"qcow2\",\"backing\":\"\",\"file\":{\"driver\":\"crashlog\",\"log\":\"%s\",\"file\":"
                             "{\"driver\":\"file\",\"cache\":{\"no-flush\":true},\"filename\":\"%s\"}}}", log, path));
        block_run(graph, renaming_run, &r);
        node_unref(r.n);
        g_assert_true(g_file_get_contents(log, &bytes, &len, NULL));
        for (uint64_t at = 0, k = 0; at < len; at = ++k % 8 ? at : record_end((uint8_t *)bytes, at)) {
            g_autoptr(GByteArray) image = g_byte_array_new();
            g_autofree char *seen = NULL, *format = NULL;
            struct block_node *n;

            g_byte_array_append(image, (guint8 *)base, base_len);
            cut_replay(rand, &image, 1, (const uint8_t *)bytes, record_end((uint8_t *)bytes, at));
            put_file(out, image->data, image->len);
            n = open_node(json("{\"driver\":\"qcow2\",\"backing\":\"\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}", out));
            seen = n->drv->backing_filename(n, &format);
            if (g_strcmp0(seen, before) && g_strcmp0(seen, names[i]))
                g_error("the backing file is '%s', neither '%s' nor '%s'", seen, before, names[i]);
            node_unref(n);
        }
    }
    g_rand_free(rand);
}

/* The end of a commit: the base holds all that the overlay does, which is emptied. Cut anywhere, the same shows. */
struct emptying { struct block_node *n; uint8_t *data; };

static void emptying_run(void *arg)
{
    struct emptying *e = arg;

    g_assert_cmpint(node_pwrite(e->n, 0, e->data, CUT_SIZE), ==, 0);
    g_assert_cmpint(node_flush(e->n), ==, 0);
    g_assert_cmpint(e->n->drv->make_empty(e->n), ==, 0);
}

static void test_power_cut_emptying(void)
{
    g_autofree char *path = path_of("empty.qcow2"), *log = path_of("empty.log"), *out = path_of("cut.out");
    g_autofree char *bytes = NULL, *base = NULL, *raw = path_of("cut.raw"), *data = NULL;
    struct emptying e = { 0 };
    uint64_t written = 0;
    gsize len, base_len;
    GRand *rand = g_rand_new_with_seed(g_test_rand_int());

    cut_backing();
    g_assert_true(g_file_get_contents(raw, &data, NULL, NULL));
    e.data = (uint8_t *)data;
    create(path, "qcow2", "{\"size\":2097152,\"cluster_size\":4096,\"backing_file\":\"cut.raw\",\"backing_fmt\":\"raw\"}");
    g_assert_true(g_file_get_contents(path, &base, &base_len, NULL));
    e.n = open_node(json("{\"driver\":\"qcow2\",\"file\":{\"driver\":\"crashlog\",\"log\":\"%s\",\"file\":"
                         "{\"driver\":\"file\",\"cache\":{\"no-flush\":true},\"filename\":\"%s\"}}}", log, path));
    block_run(graph, emptying_run, &e);
    node_unref(e.n);
    g_assert_true(g_file_get_contents(log, &bytes, &len, NULL));
    for (uint64_t at = 0; at < len; at = record_end((uint8_t *)bytes, at)) {
        g_autoptr(GByteArray) image = g_byte_array_new();
        struct block_node *n;

        g_byte_array_append(image, (guint8 *)base, base_len);
        cut_replay(rand, &image, 1, (const uint8_t *)bytes, at);
        put_file(out, image->data, image->len);
        n = open_image(out);
        cut_check(n, out, written++ % 8 == 0);
        check_same(n, e.data, CUT_SIZE);
        node_unref(n);
    }
    g_assert_cmpuint(written, >, 10);
    g_rand_free(rand);
}

/* ---- hostile images: anything may stand in the tables; nothing may crash, hang or reach out of the file */

static void hostile_use(void *arg)
{
    struct job *j = arg;
    struct block_snapshot snapshot = { .name = "new", .icount = UINT64_MAX };
    const struct block_driver *drv = j->n->drv;
    g_autofree uint8_t *buf = g_malloc0(1 << 20);

    for (int i = 0; i < 24; i++) {
        uint64_t size = j->n->size ? j->n->size : 1, off = g_test_rand_double() * size,
                 bytes = MIN(size - off, 100000);

        switch (i % 4) {
        case 0: node_pread(j->n, off, buf, bytes); break;
        case 1: node_pwrite(j->n, off, buf, bytes); break;
        case 2: node_write_zeroes(j->n, off, bytes, i & 4 ? BLOCK_MAY_UNMAP : 0); break;
        default: node_discard(j->n, off, bytes); break;
        }
    }
    node_flush(j->n);
    switch (g_test_rand_int_range(0, 8)) {
    case 0: drv->snapshot_create(j->n, &snapshot, NULL); break;
    case 1: drv->snapshot_apply(j->n, "one", NULL); break;
    case 2: drv->snapshot_delete(j->n, "one", NULL); break;
    case 3: node_truncate(j->n, g_test_rand_int_range(0, 4000) * 512ull, NULL); break;
    case 4: drv->make_empty(j->n); break;
    case 5: drv->change_backing(j->n, "some.raw", "raw", NULL); break;
    case 6:
        if (bitmap_find(j->n, "bitmap", NULL))
            bitmap_remove(bitmap_find(j->n, "bitmap", NULL), NULL);
        break;
    default: break;
    }
    json_object_put(drv->info(j->n));
    json_object_put(drv->snapshots(j->n));
}

/* Words of the header, of the first clusters (tables), or anywhere. */
static uint64_t hostile_place(gsize len)
{
    switch (g_test_rand_int_range(0, 4)) {
    case 0: return g_test_rand_int_range(0, len / 8) * 8;
    case 1: return g_test_rand_int_range(0, MIN(len, 16 * 4096) / 8) * 8;
    case 2: return g_test_rand_int_range(0, 300) & ~3;          /* and extensions */
    default: return g_test_rand_int_range(0, 112) & ~3;
    }
}

static void hostile_mutate(uint8_t *data, gsize len)
{
    static const uint64_t evil[] = {0,
                                    1,
                                    0xffff,
                                    0x10000,
                                    0x7fffffffffffffffull,
                                    UINT64_MAX,
                                    0x8000000000000000ull,
                                    0x4000000000000000ull,
                                    0x00fffffffffffe00ull,
                                    0x30000,
                                    0x8000000000030000ull};
    int n = g_test_rand_int_range(1, 6);

    while (n--) {
        uint64_t at = hostile_place(len);
        uint64_t v = evil[g_test_rand_int_range(0, G_N_ELEMENTS(evil))];

        if (at + 8 > len)
            continue;
        v = GUINT64_TO_BE(g_test_rand_int_range(0, 4) ? v : v ^ (uint32_t)g_test_rand_int());
        memcpy(data + at, &v, at < 112 && g_test_rand_bit() ? 4 : 8);
        if (at < 8) {           /* keep it qcow2 */
            uint32_t magic = GUINT32_TO_BE(QCOW2_MAGIC), version = GUINT32_TO_BE(2 + g_test_rand_bit());

            memcpy(data, &magic, 4);
            memcpy(data + 4, &version, 4);
        }
    }
}

static void test_hostile(const void *options)
{
    g_autofree char *path = path_of("hostile.qcow2"), *bytes = NULL;
    struct storm s = { .size = 1 << 20, .shadow = g_malloc0(1 << 20), .rand = g_rand_new_with_seed(5), .kinds = 8 };
    struct stat st;
    unsigned opened = 0, rounds = g_test_thorough() ? 20000 : g_getenv("SOAK") ? 4000 : 300;
    gsize len;

    create(path, "qcow2", options);
    s.n = open_image(path);
    g_assert_true(!strstr(options, "0.10") ? bitmap_add(s.n, "bitmap", 0, true, true, NULL) != NULL : true);
    storm_run(&s, 50, 4);
    g_assert_true(snap(s.n, 'c', "one", 0, NULL));
    storm_run(&s, 50, 4);
    node_unref(s.n);
    g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
    for (unsigned i = 0; i < rounds; i++) {
        g_autofree uint8_t *copy = g_memdup2(bytes, len);
        struct error err = ERROR_INIT;
        struct json_object *o = json("{\"driver\":\"qcow2\",\"discard\":\"unmap\",\"cache\":{\"no-flush\":true},\"file\":"
                                     "{\"driver\":\"file\",\"filename\":\"%s\"}}", path);
        struct job j = { .repair = 3 };

        hostile_mutate(copy, len);
        put_file(path, copy, len);
        j.n = node_open(graph, o, &err);
        json_object_put(o);
        if (!j.n) {
            g_assert_nonnull(err.msg);
            error_clear(&err);
            continue;
        }
        opened++;
        block_run(graph, hostile_use, &j);
        if (i & 1)
            block_run(graph, job_check, &j);
        node_unref(j.n);
        g_assert_cmpint(stat(path, &st), ==, 0);
        g_assert_cmpuint(st.st_blocks * 512ull, <, 1 << 30);    /* a cluster may lie anywhere: its file is sparse */
    }
    g_assert_cmpuint(opened, >, rounds / 20);
    g_assert_cmpuint(opened, <, rounds);
    g_rand_free(s.rand);
    g_free(s.shadow);
}

/* ---- chains */

static void expect_open_failure(struct json_object *o, const char *what)
{
    struct error err = ERROR_INIT;

    g_assert_null(node_open(graph, o, &err));
    if (!strstr(err.msg, what))
        g_error("wanted '%s' in '%s'", what, err.msg);
    error_clear(&err);
    json_object_put(o);
}

static void test_backing_loop(void)
{
    g_autofree char *a = path_of("a.qcow2"), *b = path_of("b.qcow2");

    create(a, "qcow2", "{\"size\":1048576,\"backing_file\":\"b.qcow2\",\"backing_fmt\":\"qcow2\"}");
    create(b, "qcow2", "{\"size\":1048576,\"backing_file\":\"a.qcow2\",\"backing_fmt\":\"qcow2\"}");
    expect_open_failure(json("{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}", a), "comes back to");
}

static void test_chain(void)
{
    g_autofree uint8_t *shadow = g_malloc0(8 << 20);
    g_autofree char *top = path_of("top.qcow2");
    struct block_node *n;

    fill_backing(shadow);
    for (int i = 0; i < 5; i++) {
        g_autofree char *name = g_strdup_printf("chain%d.qcow2", i), *path = path_of(name), *buf = g_malloc(70000);
        g_autofree char *options =
            i ? g_strdup_printf(
                    "{\"size\":8388608,\"backing_file\":\"chain%d.qcow2\",\"backing_fmt\":\"qcow2\"}", i - 1)
              : g_strdup("{\"size\":8388608,\"backing_file\":\"base.raw\",\"backing_fmt\":\"raw\"}");
        struct storm s = { .size = 8 << 20, .shadow = shadow, .rand = g_rand_new_with_seed(i), .kinds = 3 };

        create(path, "qcow2", options);
        s.n = open_image(path);
        g_assert_cmpint(node_depth(s.n), ==, i + 1);
        storm_run(&s, 20, 4);
        check_same(s.n, shadow, 8 << 20);
        node_unref(s.n);
        check_foreign(path, shadow, 8 << 20);
        g_rand_free(s.rand);
    }
    /* the backing chain as -blockdev names it */
    create(top, "qcow2", "{\"size\":8388608}");
    {
        g_autofree char *path = path_of("chain4.qcow2");
        struct block_node *base = open_node(json("{\"driver\":\"qcow2\",\"node-name\":\"base\",\"read-only\":true,\"file\":{\"driver\":"
                                                 "\"file\",\"filename\":\"%s\"}}", path));

        n = open_node(json("{\"driver\":\"qcow2\",\"backing\":\"base\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}", top));
        node_unref(base);
    }
    check_same(n, shadow, 8 << 20);
    node_unref(n);
    g_assert_cmpuint(g_hash_table_size(graph->nodes), ==, 0);
}

/* ---- leaks are found and mended */

struct leak { const char *options; unsigned bytes; uint64_t count; };
static const struct leak small_leak = { "{\"size\":1048576}", 2, 3 },
                         huge_leak = { "{\"size\":1048576,\"refcount_bits\":64}", 8, 1ull << 63 };

static void test_repair(const void *arg)
{
    g_autofree char *path = path_of("repair.qcow2");
    const struct leak *leak = arg;
    struct job j = { 0 };
    uint64_t count = GUINT64_TO_BE(leak->count << (64 - 8 * leak->bytes));
    int fd;

    create(path, "qcow2", leak->options);
    fd = open(path, O_RDWR);
    /* refcount of cluster 100 */
    g_assert_cmpint(pwrite(fd, &count, leak->bytes, 2 * 65536 + 100 * leak->bytes), ==, leak->bytes);
    close(fd);
    j.n = open_image(path);
    block_run(graph, job_check, &j);
    g_assert_cmpuint(j.check.leaks, ==, 1);
    j.repair = BLOCK_FIX_LEAKS;
    block_run(graph, job_check, &j);
    g_assert_cmpuint(j.check.leaks_fixed, ==, 1);
    j.repair = 0;
    block_run(graph, job_check, &j);
    g_assert_cmpuint(j.check.leaks, ==, 0);
    block_run(graph, job_flush, &j);
    node_unref(j.n);
}

/* A table of eight mebibytes, all of it one block: 30 thousand million clusters are counted there. */
static void test_repeated_block(void)
{
    enum { AT = 1 << 20, BYTES = 8 << 20 };
    g_autofree char *path = path_of("repeated.qcow2");
    g_autofree uint64_t *table = g_new(uint64_t, BYTES / 8);
    uint64_t offset = GUINT64_TO_BE(AT);
    uint32_t clusters = GUINT32_TO_BE(BYTES / 65536);
    struct error err = ERROR_INIT;
    struct json_object *o;
    struct job j = { 0 };
    int fd;

    for (unsigned i = 0; i < BYTES / 8; i++)
        table[i] = GUINT64_TO_BE(2 * 65536);
    create(path, "qcow2", "{\"size\":1048576}");
    fd = open(path, O_RDWR);
    g_assert_cmpint(pwrite(fd, table, BYTES, AT), ==, BYTES);
    g_assert_cmpint(pwrite(fd, &offset, 8, 48), ==, 8);
    g_assert_cmpint(pwrite(fd, &clusters, 4, 56), ==, 4);
    close(fd);
    o = json("{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}", path);
    g_assert_null(node_open(graph, o, &err));
    json_object_put(o);
    g_assert_nonnull(strstr(err.msg, "names a block twice"));
    error_clear(&err);
    j.n = open_node(json("{\"driver\":\"qcow2\",\"read-only\":true,\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}", path));
    block_run(graph, job_check, &j);
    g_assert_cmpuint(j.check.errors, >, 0);
    node_unref(j.n);
}

static const char *const snapshot_shapes[] = {
    "{\"size\":4194304}", "{\"size\":4194304,\"cluster_size\":512}", "{\"size\":4194304,\"cluster_size\":4096,\"refcount_bits\":8}",
    "{\"size\":4194304,\"cluster_size\":16384,\"extended_l2\":true}",
    "{\"size\":4194304,\"cluster_size\":65536,\"extended_l2\":true,\"backing_file\":\"base.raw\",\"backing_fmt\":\"raw\"}",
};
static const struct cut_shape cut_shapes[] = {
    { "64k", "{\"size\":2097152}", false },
    { "512", "{\"size\":2097152,\"cluster_size\":512}", false },
    { "4k", "{\"size\":2097152,\"cluster_size\":4096,\"refcount_bits\":8}", false },
    { "backing", "{\"size\":2097152,\"cluster_size\":16384,\"backing_file\":\"cut.raw\",\"backing_fmt\":\"raw\"}", false },
    { "extended", "{\"size\":2097152,\"cluster_size\":16384,\"extended_l2\":true}", false },
    { "compressed", "{\"size\":2097152,\"cluster_size\":4096}", false, true },
    { "snapshots", "{\"size\":2097152,\"cluster_size\":4096}", true },
    { "snapshots-512", "{\"size\":2097152,\"cluster_size\":512}", true },
    { "snapshots-extended", "{\"size\":2097152,\"cluster_size\":16384,\"extended_l2\":true}", true },
};

int main(int argc, char **argv)
{
    g_autofree char *cmd = NULL;
    int ret;

    g_test_init(&argc, &argv, NULL);
    dir = g_dir_make_tmp("rhea-qcow2-XXXXXX", NULL);
    cmd = g_strdup_printf("rm -rf '%s'", dir);
    g_assert_cmpint(chdir(dir), ==, 0);         /* data files are named from there */
    loop = loop_new("main");
    loop_enter(loop);
    graph = block_graph_new(NULL, loop);
    for (unsigned i = 0; i < G_N_ELEMENTS(shapes); i++) {
        g_autofree char *name = g_strdup_printf("/qcow2/storm/%s", shapes[i].name);

        g_test_add_data_func(name, &shapes[i], test_storm);
    }
    g_test_add_func("/qcow2/threads", test_threads);
    g_test_add_func("/qcow2/growth", test_growth);
    g_test_add_data_func("/qcow2/compressed/zlib", "zlib", test_compressed);
    g_test_add_data_func("/qcow2/compressed/zstd", "zstd", test_compressed);
    for (unsigned i = 0; i < G_N_ELEMENTS(cut_shapes); i++) {
        g_autofree char *name = g_strdup_printf("/qcow2/power-cut/%s", cut_shapes[i].name);

        g_test_add_data_func(name, &cut_shapes[i], test_power_cut);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(snapshot_shapes); i++) {
        g_autofree char *name = g_strdup_printf("/qcow2/snapshots/%u", i), *shrink = g_strdup_printf("/qcow2/shrink/%u", i);

        g_test_add_data_func(name, snapshot_shapes[i], test_snapshots);
        if (!strstr(snapshot_shapes[i], "backing"))
            g_test_add_data_func(shrink, snapshot_shapes[i], test_shrink);
    }
    g_test_add_func("/qcow2/power-cut-renaming", test_power_cut_renaming);
    g_test_add_func("/qcow2/power-cut-emptying", test_power_cut_emptying);
    g_test_add_func("/qcow2/snapshot-overflow", test_snapshot_overflow);
    g_test_add_func("/qcow2/vmstate", test_vmstate);
    g_test_add_func("/qcow2/snapshots-under-load", test_snapshots_under_load);
    g_test_add_data_func("/qcow2/hostile/4k", "{\"size\":1048576,\"cluster_size\":4096}", test_hostile);
    g_test_add_data_func("/qcow2/hostile/extended", "{\"size\":1048576,\"cluster_size\":16384,\"extended_l2\":true}", test_hostile);
    g_test_add_data_func("/qcow2/hostile/v2", "{\"size\":1048576,\"cluster_size\":512,\"compat\":\"0.10\"}", test_hostile);
    g_test_add_func("/qcow2/backing-loop", test_backing_loop);
    g_test_add_func("/qcow2/chain", test_chain);
    g_test_add_data_func("/qcow2/repair", &small_leak, test_repair);
    g_test_add_data_func("/qcow2/repair/64-bit", &huge_leak, test_repair);
    g_test_add_func("/qcow2/repair/repeated-block", test_repeated_block);
    ret = g_test_run();
    block_graph_free(graph);
    loop_free(loop);
    return system(cmd) || ret;
}
