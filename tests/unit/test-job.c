/* Jobs under load: two threads write random patterns through a back end, as a device does, while images are streamed, committed,
 * mirrored and backed up beneath it, and cancelled anywhere. What the disk shows is compared with a shadow at the end, copies with
 * the shadow as it was at their moment; then qemu-img looks at the images. */
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include "block/job/job.h"
#include "rhea/base/options.h"
#include "node-options.h"

enum { SIZE = 16 << 20, HALF = SIZE / 2, WORKERS = 6, DEPTH = 4 };

static char *dir;
static struct loop *loop, *other;
static struct block_graph *graph;

/* ---- the guest: a half of the disk each for two threads; workers of a thread never overlap in flight */

struct guest {
    struct block_backend *b;
    uint8_t *shadow;            /* of this half */
    uint64_t base;
    GRand *rand;
    bool busy[HALF / 4096];
    atomic_bool stop;
    atomic_int running;
    struct loop *loop;
};

static struct guest guests[2];
static struct block_backend *disk;
static uint8_t *shadow;
static struct block_node *nodes[DEPTH + 1];
static char *paths[DEPTH + 1];

struct wait { struct coroutine *co; int ret; };

static void wait_done(void *opaque, int ret)
{
    struct wait *w = opaque;

    w->ret = ret;
    coroutine_wake(w->co);
}

static bool claim(struct guest *g, uint64_t off, uint64_t bytes, bool value)
{
    for (uint64_t i = off / 4096; value && i <= (off + bytes - 1) / 4096; i++)
        if (g->busy[i])
            return false;
    for (uint64_t i = off / 4096; i <= (off + bytes - 1) / 4096; i++)
        g->busy[i] = value;
    return true;
}

static void guest_request(struct guest *g)
{
    struct wait w = { coroutine_self(), 0 };
    uint64_t off, bytes;
    uint8_t *buf;
    struct iovec iov;
    int kind = g_rand_int_range(g->rand, 0, 10);

    do {
        off = g_rand_int_range(g->rand, 0, HALF / 512) * 512ull;
        bytes = g_rand_int_range(g->rand, 1, g_rand_int_range(g->rand, 0, 8) ? 32 : 512) * 512ull;
        bytes = MIN(bytes, HALF - off);
    } while (!claim(g, off, bytes, true));
    buf = g_malloc(bytes);
    iov = (struct iovec){ buf, bytes };
    if (kind < 6) {
        for (uint64_t i = 0; i < bytes; i += 512)
            memset(buf + i, g_rand_int_range(g->rand, 1, 256), 512);
        block_writev(g->b, g->base + off, &iov, 1, 0, wait_done, &w);
        coroutine_yield();
        memcpy(g->shadow + off, buf, bytes);
    } else if (kind < 7) {
        block_write_zeroes(g->b, g->base + off, bytes, BLOCK_MAY_UNMAP, wait_done, &w);
        coroutine_yield();
        memset(g->shadow + off, 0, bytes);
    } else {
        block_readv(g->b, g->base + off, &iov, 1, 0, wait_done, &w);
        coroutine_yield();
        if (!w.ret && memcmp(buf, g->shadow + off, bytes))
            g_error("a read of %" PRIu64 "+%" PRIu64 " differs", g->base + off, bytes);
    }
    g_assert_cmpint(w.ret, ==, 0);
    g_free(buf);
    claim(g, off, bytes, false);
}

static void guest_worker(void *arg)
{
    struct guest *g = arg;

    while (!atomic_load(&g->stop)) {
        guest_request(g);
        coroutine_sleep_ns(2000000);
    }
    atomic_fetch_sub(&g->running, 1);
}

static void guest_start(void *arg)
{
    struct guest *g = arg;

    for (int i = 0; i < WORKERS; i++)
        coroutine_start(guest_worker, g);
}

static void guests_start(void)
{
    for (int i = 0; i < 2; i++) {
        struct guest *g = &guests[i];

        g->b = disk;
        g->base = i * HALF;
        g->shadow = shadow + i * HALF;
        g->rand = g->rand ? g->rand : g_rand_new_with_seed(g_test_rand_int());
        g->loop = i ? other : loop;
        g->stop = false;
        g->running = WORKERS;
        loop_post(g->loop, guest_start, g);
    }
}

static void guests_stop(void)
{
    for (int i = 0; i < 2; i++)
        guests[i].stop = true;
    while (guests[0].running || guests[1].running)
        loop_step(loop, false);
}

/* ---- images */

static struct block_node *image_open(const char *path, const char *name, const char *backing, bool read_only)
{
    g_autofree char *b = backing ? g_strdup_printf("\"%s\"", backing) : g_strdup("null");

    return owned_node(graph, json("{\"driver\":\"qcow2\",\"node-name\":\"%s\",\"read-only\":%s,\"backing\":%s,\"discard\":\"unmap\",\"cache\":{\"no-flush\":true},"
                                  "\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}",
                                  name, read_only ? "true" : "false", b, path));
}

static void image_create(const char *path, const char *backing, const char *more)
{
    g_autofree char *b = backing ? g_strdup_printf(",\"backing_file\":\"%s\",\"backing_fmt\":\"qcow2\"", backing) : g_strdup("");

    create_qcow2(graph, path, json("{\"size\":%d%s%s}", SIZE, b, more));
}

struct transfer { struct block_node *n; uint64_t off, bytes; void *buf; bool write; int ret; };

static void transfer_run(void *arg)
{
    struct transfer *t = arg;

    t->ret = t->write ? node_pwrite(t->n, t->off, t->buf, t->bytes) : node_pread(t->n, t->off, t->buf, t->bytes);
}

static void transfer(struct block_node *n, bool write, uint64_t off, void *buf, uint64_t bytes)
{
    struct transfer t = { n, off, bytes, buf, write, 0 };

    block_run(graph, transfer_run, &t);
    g_assert_cmpint(t.ret, ==, 0);
}

static void same(struct block_node *n, const uint8_t *expected)
{
    g_autofree uint8_t *buf = g_malloc(SIZE);

    transfer(n, false, 0, buf, SIZE);
    for (uint64_t i = 0; i < SIZE; i += 512)
        if (memcmp(buf + i, expected + i, 512))
            g_error("%s differs at %" PRIu64 ": %#x, not %#x", n->name, i, buf[i], expected[i]);
}

/* nodes[0] ← ... ← nodes[depth - 1], the last in use by `disk`. */
static void chain_make(unsigned depth)
{
    static const char *const more[] = { "", ",\"cluster_size\":4096", ",\"cluster_size\":131072", ",\"extended_l2\":true" };
    g_autofree uint8_t *buf = g_malloc(1 << 20);
    struct error err = ERROR_INIT;

    shadow = g_malloc0(SIZE);
    for (unsigned i = 0; i < depth; i++) {
        g_autofree char *name = g_strdup_printf("n%u", i);

        paths[i] = g_build_filename(dir, name, NULL);
        image_create(paths[i], i ? paths[i - 1] : NULL, more[i]);
        nodes[i] = image_open(paths[i], name, i ? nodes[i - 1]->name : NULL, false);
        for (unsigned k = 0; k < 6; k++) {
            uint64_t off = g_test_rand_int_range(0, SIZE / 512 - 2048) * 512ull, bytes = g_test_rand_int_range(1, 2048) * 512ull;

            memset(buf, 16 * (i + 1) + k, bytes);
            transfer(nodes[i], true, off, buf, bytes);
            memcpy(shadow + off, buf, bytes);
        }
        if (i + 1 < depth && !node_set_read_only(nodes[i], true, &err))
            g_error("%s", err.msg);
    }
    disk = backend_open(graph, nodes[depth - 1], true, &err);
    g_assert_nonnull(disk);
}

static int job_result;

/* A guest that writes faster than a mirror copies is made to wait for once. */
static void run_to(struct job *j, unsigned states)
{
    unsigned steps = 0;
    bool stopped = false;

    while (!(states & 1u << j->status)) {
        loop_step(loop, true);
        if (++steps == 2000 && !guests[0].stop) {
            guests_stop();
            stopped = true;
        }
    }
    if (stopped)
        guests_start();
}

/* To its end; auto-dismiss is off. */
static int job_finish(struct job *j)
{
    struct error err = ERROR_INIT;

    run_to(j, 1u << JOB_CONCLUDED);
    job_result = j->ret;
    if (j->ret && j->ret != -ECANCELED)
        g_test_message("job: %s", j->err.msg);
    g_assert_true(job_dismiss(j, &err));
    return job_result;
}

static void chain_check(unsigned depth)
{
    guests_stop();
    same(disk->root, shadow);
    backend_free(disk);
    for (unsigned i = DEPTH + 1; i--;) {
        if (nodes[i]) {
            nodes[i]->user_owned = false;
            node_unref(nodes[i]);
        }
        nodes[i] = NULL;
    }
    g_assert_cmpuint(graph->in_order->len, ==, 0);
    g_assert_cmpuint(graph->backends->len, ==, 0);
    for (unsigned i = 0; i <= DEPTH; i++) {
        if (paths[i]) {
            const char *argv[] = { "qemu-img", "check", "-q", paths[i], NULL };
            int status = -1;

            g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, &status, NULL));
            g_assert_cmpint(status, ==, 0);
        }
    }
    for (unsigned i = 0; i <= DEPTH; i++) {
        if (paths[i])
            g_unlink(paths[i]);
        g_free(paths[i]);
        paths[i] = NULL;
    }
    g_free(shadow);
}

static struct job *started(struct job *j, struct error *err)
{
    if (!j)
        g_error("%s", err->msg);
    return j;
}

static unsigned rounds(void)
{
    return g_getenv("SOAK") ? 200 : 6;
}

/* Some are paused and go on, some are cancelled somewhere. True: cancelled. */
static bool job_disturb(struct job *j)
{
    struct error err = ERROR_INIT;
    unsigned what = g_test_rand_int_range(0, 4), steps = g_test_rand_int_range(0, 300);

    for (unsigned i = 0; i < steps && j->status <= JOB_RUNNING; i++)
        loop_step(loop, true);
    if (what == 0 && job_user_cancel(j, true, &err))
        return true;
    error_clear(&err);
    if (what == 1 && job_user_pause(j, &err)) {
        for (unsigned i = 0; i < 100; i++)
            loop_step(loop, true);
        job_set_speed(j, 50 << 20, &err);
        job_user_resume(j, &err);
    }
    error_clear(&err);
    return false;
}

static const struct job_options manual = { .id = "job", .manual_dismiss = true };

/* ---- stream, commit */

static void test_stream(void)
{
    struct error err = ERROR_INIT;

    for (unsigned i = 0; i < rounds(); i++) {
        struct stream_options o = { 0 };
        struct job *j;
        bool cancelled;

        chain_make(DEPTH);
        guests_start();
        o.top = nodes[3];
        o.base = i % 2 ? nodes[1] : NULL;
        j = started(job_stream(graph, &manual, &o, &err), &err);
        cancelled = job_disturb(j);
        g_assert_cmpint(job_finish(j), ==, cancelled ? -ECANCELED : 0);
        g_assert_true(nodes[3]->backing == (cancelled ? nodes[2] : o.base));
        chain_check(DEPTH);
    }
}

static void test_commit(void)
{
    struct error err = ERROR_INIT;

    for (unsigned i = 0; i < rounds(); i++) {
        struct commit_options o = { 0 };
        struct job *j;
        bool cancelled;

        chain_make(DEPTH);
        guests_start();
        o = (struct commit_options){ .active = nodes[3], .top = nodes[2], .base = nodes[i % 2] };
        j = started(job_commit(graph, &manual, &o, &err), &err);
        cancelled = job_disturb(j);
        g_assert_cmpint(job_finish(j), ==, cancelled ? -ECANCELED : 0);
        g_assert_true(nodes[3]->backing == (cancelled ? nodes[2] : o.base));
        g_assert_true(o.base->read_only);
        chain_check(DEPTH);
    }
}

static void test_commit_active(void)
{
    struct error err = ERROR_INIT;

    for (unsigned i = 0; i < rounds(); i++) {
        struct commit_options o = { 0 };
        struct job *j;
        bool cancelled;

        chain_make(DEPTH);
        guests_start();
        o = (struct commit_options){ .active = nodes[3], .top = nodes[3], .base = nodes[i % 3] };
        j = started(job_commit(graph, &manual, &o, &err), &err);
        cancelled = job_disturb(j);
        if (!cancelled) {
            run_to(j, 1u << JOB_READY);
            g_assert_true(job_user_complete(j, &err));
        }
        g_assert_cmpint(job_finish(j), ==, cancelled ? -ECANCELED : 0);
        g_assert_true(disk->root == (cancelled ? nodes[3] : o.base));
        g_assert_cmpint(o.base->read_only, ==, cancelled);
        for (unsigned k = 0; k < 50; k++)               /* the guest goes on, on the base */
            loop_step(loop, true);
        chain_check(DEPTH);
    }
}

/* ---- mirror */

static void target_make(const char *backing)
{
    paths[DEPTH] = g_build_filename(dir, "target", NULL);
    image_create(paths[DEPTH], NULL, "");
    nodes[DEPTH] = image_open(paths[DEPTH], "target", backing, false);
}

static void test_mirror(void)
{
    struct error err = ERROR_INIT;

    for (unsigned i = 0; i < rounds() + 2; i++) {
        struct mirror_options o = { .write_blocking = i & 1, .sync = i & 2 ? JOB_SYNC_TOP : JOB_SYNC_FULL, .granularity = i & 4 ? 4096 : 0 };
        struct job *j;
        bool cancelled;

        chain_make(2);
        target_make(o.sync == JOB_SYNC_TOP ? "n0" : NULL);
        guests_start();
        o.source = nodes[1];
        o.target = nodes[DEPTH];
        j = started(job_mirror(graph, &manual, &o, &err), &err);
        cancelled = job_disturb(j);
        if (!cancelled) {
            if ((i & 9) == 8)
                g_assert_true(job_mirror_block_writes(j, &err));
            run_to(j, 1u << JOB_READY);
            g_assert_true(job_user_complete(j, &err));
        }
        g_assert_cmpint(job_finish(j), ==, cancelled ? -ECANCELED : 0);
        g_assert_true(disk->root == (cancelled ? nodes[1] : nodes[DEPTH]));
        for (unsigned k = 0; k < 50; k++)
            loop_step(loop, true);
        chain_check(2);
    }
}

/* Cancelled when it is ready, a mirror leaves the disk as it is when it ends. */
static void test_mirror_left(void)
{
    struct job_options late = { .id = "job", .manual_dismiss = true, .manual_finalize = true };
    struct error err = ERROR_INIT;

    for (unsigned i = 0; i < 4; i++) {
        struct mirror_options o = { .write_blocking = i == 1, .sync = JOB_SYNC_FULL };
        struct job *j;

        chain_make(2);
        target_make(NULL);
        guests_start();
        o.source = nodes[1];
        o.target = nodes[DEPTH];
        j = started(job_mirror(graph, &late, &o, &err), &err);
        if (i == 2)
            g_assert_true(job_mirror_block_writes(j, &err));
        run_to(j, 1u << JOB_READY);
        if (i == 3)
            g_assert_true(job_mirror_block_writes(j, &err));
        g_assert_true(job_user_cancel(j, false, &err));
        run_to(j, 1u << JOB_PENDING);
        guests_stop();
        g_assert_true(job_finalize(j, &err));
        g_assert_cmpint(job_finish(j), ==, 0);
        g_assert_true(disk->root == nodes[1]);
        same(nodes[DEPTH], shadow);
        chain_check(2);
    }
}

/* ---- backup: the disk as it was at the start */

static void test_backup(void)
{
    struct error err = ERROR_INIT;

    for (unsigned i = 0; i < rounds(); i++) {
        struct backup_options o = { .sync = i % 3 == 2 ? JOB_SYNC_TOP : JOB_SYNC_FULL, .compress = i % 3 == 1 };
        g_autofree uint8_t *expected = g_malloc(SIZE);
        struct job *j;
        bool cancelled;

        chain_make(2);
        target_make(o.sync == JOB_SYNC_TOP ? "n0" : NULL);
        guests_start();
        for (unsigned k = 0; k < 50; k++)
            loop_step(loop, true);
        o.source = nodes[1];
        o.target = nodes[DEPTH];
        graph_quiesce(graph);
        memcpy(expected, shadow, SIZE);
        j = started(job_backup(graph, &manual, &o, &err), &err);
        graph_resume(graph);
        cancelled = job_disturb(j);
        g_assert_cmpint(job_finish(j), ==, cancelled ? -ECANCELED : 0);
        guests_stop();
        if (!cancelled)
            same(nodes[DEPTH], expected);
        chain_check(2);
    }
}

/* Full, then what is new since: the two over each other are the disk of the second moment. */
static void test_backup_incremental(void)
{
    struct error err = ERROR_INIT;
    struct backup_options o = { 0 };
    g_autofree uint8_t *expected = g_malloc(SIZE);
    struct dirty_bitmap *b;
    struct job *j;

    chain_make(1);
    target_make(NULL);
    graph_quiesce(graph);
    b = bitmap_add(nodes[0], "b", 0, false, true, &err);
    graph_resume(graph);
    o = (struct backup_options){ .source = nodes[0], .target = nodes[DEPTH], .sync = JOB_SYNC_FULL };
    guests_start();
    graph_quiesce(graph);
    bitmap_clear(b);
    j = started(job_backup(graph, &manual, &o, &err), &err);
    graph_resume(graph);
    g_assert_cmpint(job_finish(j), ==, 0);
    for (unsigned round = 0; round < 4; round++) {
        struct backup_options inc = { .source = nodes[0], .target = nodes[DEPTH], .sync = JOB_SYNC_INCREMENTAL, .bitmap = b };
        bool cancelled;

        graph_quiesce(graph);
        memcpy(expected, shadow, SIZE);
        j = started(job_backup(graph, &manual, &inc, &err), &err);
        graph_resume(graph);
        cancelled = round < 3 && job_disturb(j);
        g_assert_cmpint(job_finish(j), ==, cancelled ? -ECANCELED : 0);
        if (!cancelled)
            same(nodes[DEPTH], expected);
    }
    chain_check(1);
}

/* A target over the source shows the disk as it was, while it is written to. */
static void test_fleecing(void)
{
    struct error err = ERROR_INIT;
    struct backup_options o = { .sync = JOB_SYNC_NONE };
    g_autofree uint8_t *expected = g_malloc(SIZE);
    struct job *j;

    chain_make(2);
    target_make("n1");
    o.source = nodes[1];
    o.target = nodes[DEPTH];
    guests_start();
    graph_quiesce(graph);
    memcpy(expected, shadow, SIZE);
    j = started(job_backup(graph, &manual, &o, &err), &err);
    graph_resume(graph);
    for (unsigned i = 0; i < 5; i++)
        same(nodes[DEPTH], expected);
    g_assert_true(job_user_cancel(j, true, &err));
    g_assert_cmpint(job_finish(j), ==, -ECANCELED);
    chain_check(2);
}

/* ---- copy-before-write comes over a disk in use, and goes again */

static void node_gone(struct block_node *n)
{
    n->user_owned = false;
    node_unref(n);
}

static void disk_to(struct block_node *n, uint8_t *moment)
{
    struct error err = ERROR_INIT;

    graph_quiesce(graph);
    memcpy(moment, shadow, SIZE);
    if (!backend_move(disk, n, &err))
        g_error("%s", err.msg);
    graph_resume(graph);
}

static int read_of(struct block_node *n, uint64_t off, uint64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    struct transfer t = { n, off, bytes, buf, false, 0 };

    block_run(graph, transfer_run, &t);
    return t.ret;
}

/* The moment through snapshot-access, through the target where that lies over the disk, and as a backup. */
static void moment_check(struct block_node *access, bool over, const uint8_t *moment)
{
    struct error err = ERROR_INIT;
    struct backup_options o = { .source = access, .sync = JOB_SYNC_FULL };
    g_autofree char *path = g_build_filename(dir, "copy", NULL);

    for (unsigned i = 0; i < 4; i++) {
        same(access, moment);
        if (over)
            same(nodes[DEPTH], moment);
    }
    image_create(path, NULL, "");
    o.target = image_open(path, "copy", NULL, false);
    g_assert_cmpint(job_finish(started(job_backup(graph, &manual, &o, &err), &err)), ==, 0);
    same(o.target, moment);
    node_gone(o.target);
    unlink(path);
}

static void test_copy_before_write(void)
{
    static const char *const more[] = { "", ",\"cbw-timeout\":1000", ",\"min-cluster-size\":1048576,\"on-cbw-error\":\"break-snapshot\"" };
    g_autofree uint8_t *moment = g_malloc(SIZE), *left = g_malloc(SIZE);

    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(more); i++) {
        struct block_node *cbw, *access;
        bool over = i % 2;

        chain_make(2);
        target_make(over ? "n1" : NULL);
        guests_start();
        cbw = owned_node(graph, json("{\"driver\":\"copy-before-write\",\"node-name\":\"cbw\",\"file\":\"n1\",\"target\":\"%s\",\"discard\":\"unmap\"%s}",
                                     nodes[DEPTH]->name, more[i / 2]));
        access = owned_node(graph, json("{\"driver\":\"snapshot-access\",\"node-name\":\"access\",\"file\":\"cbw\"}"));
        for (unsigned k = 0; k < 50; k++)
            loop_step(loop, true);
        disk_to(cbw, moment);
        moment_check(access, over, moment);
        disk_to(nodes[1], left);
        g_assert_cmpint(read_of(access, 0, 512), ==, -EACCES);     /* its guest writes past the filter now */
        node_gone(access);
        node_gone(cbw);
        g_assert_cmpuint(nodes[1]->writers, ==, 1);
        g_assert_cmpuint(nodes[1]->readers, ==, over);
        chain_check(2);
    }
}

/* ---- external snapshots under load, then all merged again */

static void test_snapshots(void)
{
    struct error err = ERROR_INIT;
    struct stream_options o = { 0 };
    struct job *j;

    chain_make(1);
    guests_start();
    for (unsigned i = 1; i <= DEPTH; i++) {
        g_autofree char *name = g_strdup_printf("n%u", i);
        struct new_image image = { 0 };

        for (unsigned k = 0; k < 50; k++)
            loop_step(loop, true);
        paths[i] = g_build_filename(dir, name, NULL);
        image = (struct new_image){ .filename = paths[i], .format = "qcow2", .node_name = name, .size = SIZE, .like = nodes[i - 1], .backing = nodes[i - 1] };
        graph_quiesce(graph);
        nodes[i] = block_new_image(graph, &image, &err);
        g_assert_nonnull(nodes[i]);
        nodes[i]->user_owned = true;
        if (!snapshot_overlay(graph, nodes[i - 1], nodes[i], &err))
            g_error("%s", err.msg);
        g_assert_true(node_set_read_only(nodes[i - 1], true, &err));
        graph_resume(graph);
        g_assert_true(disk->root == nodes[i]);
    }
    o.top = nodes[DEPTH];
    j = started(job_stream(graph, &manual, &o, &err), &err);
    g_assert_cmpint(job_finish(j), ==, 0);
    chain_check(DEPTH + 1);
}

/* ---- ranges: who comes first goes first */

static struct range_lock ranges;
static GString *order;

struct taker { char name; uint64_t off, bytes; bool shared; };

static void take_range(void *arg)
{
    struct taker *t = arg;

    range_lock(&ranges, t->off, t->bytes, t->shared);
    g_string_append_c(order, t->name);
}

static void give_range(void *arg)
{
    struct taker *t = arg;

    range_unlock(&ranges, t->off, t->bytes, t->shared);
}

static void expect_order(const char *names)
{
    while (loop_step(loop, false))
        ;
    g_assert_cmpstr(order->str, ==, names);
}

static void test_ranges_are_fair(void)
{
    struct taker a = { 'a', 0, 10, true }, b = { 'b', 5, 10, false }, c = { 'c', 0, 10, true }, d = { 'd', 20, 10, false }, e = { 'e', 0, 5, true };

    range_lock_init(&ranges);
    order = g_string_new(NULL);
    for (struct taker **t = (struct taker *[]){ &a, &b, &c, &d, &e, NULL }; *t; t++)
        coroutine_start(take_range, *t);
    expect_order("ade");        /* b waits for a; c, which could share with a, for b */
    coroutine_start(give_range, &e);
    coroutine_start(give_range, &a);
    expect_order("adeb");
    coroutine_start(give_range, &b);
    expect_order("adebc");
    coroutine_start(give_range, &c);
    coroutine_start(give_range, &d);
    g_assert_cmpuint(ranges.ranges.length, ==, 0);
    g_string_free(order, TRUE);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    dir = g_dir_make_tmp("rhea-job-XXXXXX", NULL);
    loop = loop_new("test");
    loop_enter(loop);
    other = loop_new("iothread");
    loop_thread_start(other);
    graph = block_graph_new(NULL, loop);
    g_test_add_func("/job/ranges-are-fair", test_ranges_are_fair);
    g_test_add_func("/job/stream", test_stream);
    g_test_add_func("/job/commit", test_commit);
    g_test_add_func("/job/commit-active", test_commit_active);
    g_test_add_func("/job/mirror", test_mirror);
    g_test_add_func("/job/mirror-left", test_mirror_left);
    g_test_add_func("/job/backup", test_backup);
    g_test_add_func("/job/backup-incremental", test_backup_incremental);
    g_test_add_func("/job/fleecing", test_fleecing);
    g_test_add_func("/job/copy-before-write", test_copy_before_write);
    g_test_add_func("/job/snapshots", test_snapshots);
    ret = g_test_run();
    block_graph_free(graph);
    loop_thread_stop(other);
    loop_free(other);
    loop_free(loop);
    g_rmdir(dir);
    g_free(dir);
    return ret;
}
