/* Power cuts beneath jobs: a guest writes and flushes while images beneath it are committed, streamed and mirrored; all files
 * log to one crashlog, which is cut anywhere. The chain that the disk was in must be sound and hold what the guest's flushes
 * had made durable: until the disk moved to another node the old chain, from then on the new one by itself. */
#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include "block/backend.h"
#include "block/job/job.h"
#include "rhea/base/options.h"
#include "node-options.h"
#include "power-cut.h"

enum { SIZE = 2 << 20, SECTORS = SIZE / 512, IMAGES = 4, TARGET = 3, BASE_TAG = 1 << 24 };

static char *dir, *log_path;
static struct loop *loop;
static struct block_graph *graph;

struct shape {
    const char *name;
    struct job *(*start)(struct error *err);
    bool completes;             /* ready, then told to complete */
    unsigned after;             /* the image that the disk is in then */
};

static struct block_node *nodes[IMAGES];
static struct block_backend *disk;

/* ---- the images: base, middle, active (each by its relative name above the last), and a target */

/* where: "." or, of what a cut leaves, "cut": under the same names, which stand in the images. */
static char *image_path(const char *where, unsigned i)
{
    g_autofree char *name = g_strdup_printf("n%u", i);

    return g_build_filename(dir, where, name, NULL);
}

static void image_create(unsigned i)
{
    static const char *const more[] = { "\"cluster_size\":4096", "\"cluster_size\":65536", "\"cluster_size\":16384,\"extended_l2\":true",
                                        "\"cluster_size\":8192" };
    g_autofree char *path = image_path(".", i);
    g_autofree char *backing = i && i < TARGET ? g_strdup_printf(",\"backing_file\":\"n%u\",\"backing_fmt\":\"qcow2\"", i - 1) : g_strdup("");

    unlink(path);
    create_qcow2(graph, path, json("{\"size\":%d,%s%s}", SIZE, more[i], backing));
}

/* logged: below a crashlog that all share. */
static struct block_node *image_open(unsigned i, bool logged)
{
    g_autofree char *path = image_path(".", i);
    g_autofree char *file = g_strdup_printf("{\"driver\":\"file\",\"cache\":{\"no-flush\":true},\"filename\":\"%s\"}", path);
    g_autofree char *log = g_strdup_printf("{\"driver\":\"crashlog\",\"log\":\"%s\",\"append\":true,\"id\":%u,\"file\":%s}", log_path, i, file);
    g_autofree char *backing = i && i < TARGET ? g_strdup_printf("\"n%u\"", i - 1) : g_strdup("null");

    return owned_node(graph, json("{\"driver\":\"qcow2\",\"node-name\":\"n%u\",\"backing\":%s,\"discard\":\"unmap\",\"file\":%s}", i, backing,
                                  logged ? log : file));
}

static void image_close(unsigned i)
{
    nodes[i]->user_owned = false;
    node_unref(nodes[i]);
    nodes[i] = NULL;
}

struct transfer { struct block_node *n; uint64_t off, bytes; void *buf; bool write; int ret; };

static void transfer_run(void *arg)
{
    struct transfer *t = arg;

    t->ret = t->write ? node_pwrite(t->n, t->off, t->buf, t->bytes) : node_pread(t->n, t->off, t->buf, t->bytes);
}

static void fill(unsigned i, GRand *rand, uint32_t *now)
{
    g_autofree uint32_t *buf = g_new(uint32_t, 200 * CUT_WORDS);

    for (unsigned k = 0; k < 12; k++) {
        uint32_t s = g_rand_int_range(rand, 0, SECTORS - 200), count = g_rand_int_range(rand, 1, 200), tag = BASE_TAG + i * 100 + k;
        struct transfer t = { nodes[i], s * 512ull, count * 512ull, buf, true, 0 };

        for (uint32_t w = 0; w < count * CUT_WORDS; w++)
            buf[w] = tag;
        for (uint32_t w = 0; w < count; w++)
            now[s + w] = tag;
        block_run(graph, transfer_run, &t);
        g_assert_cmpint(t.ret, ==, 0);
    }
}

/* ---- the guest */

struct guest {
    GRand *rand;
    GArray *events;
    uint32_t tag;
    struct block_node *at;      /* where the disk was when it was last looked at */
    uint64_t old_until, new_from;       /* lengths of the log: the disk was in the old chain, in the new one */
    bool stop, stopped;
};

/* The disk moves while the loop runs: only that much is known of when. */
static void guest_look(struct guest *g)
{
    if (disk->root == g->at) {
        if (!g->new_from)
            g->old_until = log_size(log_path);
    } else {
        g->new_from = log_size(log_path);
        g->at = disk->root;
    }
}

struct wait { struct coroutine *co; int ret; };

static void wait_done(void *opaque, int ret)
{
    struct wait *w = opaque;

    w->ret = ret;
    coroutine_wake(w->co);
}

static void guest_request(struct guest *g)
{
    struct wait w = { coroutine_self(), 0 };
    struct cut_event e = { .sector = g_rand_int_range(g->rand, 0, SECTORS) };
    int kind = g_rand_int_range(g->rand, 0, 10);
    g_autofree uint32_t *buf = NULL;
    struct iovec iov;

    e.count = g_rand_int_range(g->rand, 1, 40);
    e.count = MIN(e.count, SECTORS - e.sector);
    if (kind < 2) {
        e.flush = true;
        block_flush(disk, wait_done, &w);
    } else if (kind < 3) {
        block_write_zeroes(disk, e.sector * 512ull, e.count * 512ull, BLOCK_MAY_UNMAP, wait_done, &w);
    } else {
        e.tag = ++g->tag;
        buf = g_new(uint32_t, e.count * CUT_WORDS);
        for (uint32_t k = 0; k < e.count * CUT_WORDS; k++)
            buf[k] = e.tag;
        iov = (struct iovec){ buf, e.count * 512ull };
        block_writev(disk, e.sector * 512ull, &iov, 1, 0, wait_done, &w);
    }
    coroutine_yield();
    if (w.ret)
        g_error("kind %d of %u+%u: %d", kind, e.sector, e.count, w.ret);
    e.log_end = log_size(log_path);
    g_array_append_val(g->events, e);
}

static void guest_run(void *arg)
{
    struct guest *g = arg;

    while (!g->stop) {
        guest_look(g);
        guest_request(g);
        guest_look(g);
        coroutine_sleep_ns(200000);
    }
    g->stopped = true;
}

static void guest_wait(struct guest *g, unsigned events)
{
    while (g->events->len < events) {
        loop_step(loop, true);
        guest_look(g);
    }
}

static void run_to(struct job *j, struct guest *g, unsigned states)
{
    while (!(states & 1u << j->status)) {
        loop_step(loop, true);
        guest_look(g);
    }
}

/* ---- jobs: slow enough that the guest writes between their steps */

static const struct job_options manual = { .id = "job", .manual_dismiss = true, .speed = 16 << 20 };

static struct job *start_commit(struct error *err)
{
    struct commit_options o = { .active = nodes[2], .top = nodes[1], .base = nodes[0], .backing_file = "n0" };

    return job_commit(graph, &manual, &o, err);
}

static struct job *start_commit_active(struct error *err)
{
    struct commit_options o = { .active = nodes[2], .top = nodes[2], .base = nodes[0] };

    return job_commit(graph, &manual, &o, err);
}

static struct job *start_stream(struct error *err)
{
    struct stream_options o = { .top = nodes[2] };

    return job_stream(graph, &manual, &o, err);
}

static struct job *start_stream_to(struct error *err)
{
    struct stream_options o = { .top = nodes[2], .base = nodes[0], .backing_file = "n0" };

    return job_stream(graph, &manual, &o, err);
}

static struct job *start_mirror(struct error *err)
{
    struct mirror_options o = { .source = nodes[2], .target = nodes[TARGET], .sync = JOB_SYNC_FULL };

    return job_mirror(graph, &manual, &o, err);
}

static struct job *start_mirror_blocking(struct error *err)
{
    struct mirror_options o = { .source = nodes[2], .target = nodes[TARGET], .sync = JOB_SYNC_FULL, .write_blocking = true };

    return job_mirror(graph, &manual, &o, err);
}

static const struct shape shapes[] = {
    { "commit", start_commit, false, 2 }, { "commit-active", start_commit_active, true, 0 }, { "stream", start_stream, false, 2 },
    { "stream-to", start_stream_to, false, 2 }, { "mirror", start_mirror, true, TARGET },
    { "mirror-blocking", start_mirror_blocking, true, TARGET },
};

/* ---- what a cut leaves */

static void check_chain(GArray *events, const uint32_t *first, unsigned top, uint64_t end, bool content)
{
    g_autofree uint32_t *seen = g_new(uint32_t, SIZE / 4), *durable = g_memdup2(first, SECTORS * sizeof(*first));
    g_autofree char *path = image_path("cut", top);
    struct error err = ERROR_INIT;
    struct block_node *n = node_open_file(graph, path, "qcow2", NULL, &err);
    struct transfer t = { n, 0, SIZE, seen, false, 0 };

    if (!n)
        g_error("cut at %" PRIu64 ": %s: %s", end, path, err.msg);
    block_run(graph, transfer_run, &t);
    g_assert_cmpint(t.ret, ==, 0);
    if (content)
        cut_verify(events, durable, seen, SECTORS, end);
    node_unref(n);
}

struct check { struct block_node *n; struct block_check result; bool ok; };

static void check_run(void *arg)
{
    struct check *c = arg;

    c->ok = c->n->drv->check(c->n, 0, &c->result, NULL);
}

static void check_sound(unsigned i, uint64_t end)
{
    g_autofree char *path = image_path("cut", i);
    struct json_object *o = json("{\"driver\":\"qcow2\",\"read-only\":true,\"backing\":null,\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}", path);
    struct error err = ERROR_INIT;
    struct check c = { .n = node_open(graph, o, &err) };

    json_object_put(o);
    if (!c.n)
        g_error("cut at %" PRIu64 ": %s: %s", end, path, err.msg);
    block_run(graph, check_run, &c);
    g_assert_true(c.ok);
    g_assert_cmpuint(c.result.errors + c.result.check_errors, ==, 0);
    node_unref(c.n);
}

static void cut_once(const struct shape *shape, struct guest *g, const uint32_t *first, GByteArray **base, const uint8_t *log, uint64_t end)
{
    bool old = end <= g->old_until || shape->after == 2, new = shape->after != 2 && g->new_from && end >= g->new_from;
    GByteArray *images[IMAGES];

    for (unsigned i = 0; i < IMAGES; i++) {
        images[i] = g_byte_array_sized_new(base[i]->len);
        g_byte_array_append(images[i], base[i]->data, base[i]->len);
    }
    cut_replay(g->rand, images, IMAGES, log, end);
    for (unsigned i = 0; i < IMAGES; i++) {
        g_autofree char *path = image_path("cut", i);

        put_file(path, images[i]->data, images[i]->len);
        g_byte_array_unref(images[i]);
    }
    for (unsigned i = 0; i < IMAGES; i++)
        check_sound(i, end);
    check_chain(g->events, first, new ? shape->after : 2, end, old || new);
}

static GByteArray *file_bytes(unsigned i)
{
    g_autofree char *path = image_path(".", i);
    char *data;
    gsize len;

    g_assert_true(g_file_get_contents(path, &data, &len, NULL));
    return g_byte_array_new_take((guint8 *)data, len);
}

static void cuts(const struct shape *shape, struct guest *g, const uint32_t *first, GByteArray **base, unsigned count)
{
    g_autoptr(GArray) ends = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    g_autofree char *bytes = NULL;
    unsigned moved = 0;
    gsize len;

    g_assert_true(g_file_get_contents(log_path, &bytes, &len, NULL));
    for (uint64_t at = 0; at < len; g_array_append_val(ends, at)) {
        at = record_end((uint8_t *)bytes, at);
        if (at < g->new_from)
            moved = ends->len + 1;
    }
    for (unsigned i = 0; i < count; i++) {      /* half of them soon after the disk moved, if it did */
        unsigned first_end = i & 1 ? moved : 0, n = moved && i & 1 ? MIN(8, ends->len - moved) : ends->len - first_end;

        cut_once(shape, g, first, base, (uint8_t *)bytes, g_array_index(ends, uint64_t, first_end + g_rand_int_range(g->rand, 0, n)));
    }
}

static void round_of(const struct shape *shape, unsigned count)
{
    g_autofree uint32_t *first = g_new0(uint32_t, SECTORS);
    struct guest g = { .rand = g_rand_new_with_seed(g_test_rand_int()), .events = g_array_new(FALSE, FALSE, sizeof(struct cut_event)) };
    GByteArray *base[IMAGES];
    struct error err = ERROR_INIT;
    struct job *j;

    unlink(log_path);
    for (unsigned i = 0; i < IMAGES; i++)
        image_create(i);
    for (unsigned i = 0; i < TARGET; i++) {
        nodes[i] = image_open(i, false);
        fill(i, g.rand, first);
    }
    for (unsigned i = TARGET; i--;)
        image_close(i);
    for (unsigned i = 0; i < IMAGES; i++) {
        base[i] = file_bytes(i);
        nodes[i] = image_open(i, true);
        if (i < 2 && !node_set_read_only(nodes[i], true, &err))
            g_error("%s", err.msg);
    }
    disk = backend_open(graph, nodes[2], true, &err);
    g_assert_nonnull(disk);
    g.at = nodes[2];
    coroutine_start(guest_run, &g);
    guest_wait(&g, 20);
    j = shape->start(&err);
    if (!j)
        g_error("%s", err.msg);
    if (shape->completes) {
        run_to(j, &g, 1u << JOB_READY);
        guest_wait(&g, g.events->len + 30);
        g_assert_true(job_user_complete(j, &err));
    }
    run_to(j, &g, 1u << JOB_CONCLUDED);
    g_assert_cmpint(j->ret, ==, 0);
    g_assert_true(job_dismiss(j, &err));
    g_assert_true(disk->root == nodes[shape->after]);
    guest_wait(&g, g.events->len + 60);
    g.stop = true;
    while (!g.stopped)
        loop_step(loop, true);
    backend_free(disk);
    for (unsigned i = IMAGES; i--;)
        image_close(i);
    cuts(shape, &g, first, base, count);
    for (unsigned i = 0; i < IMAGES; i++)
        g_byte_array_unref(base[i]);
    g_array_free(g.events, TRUE);
    g_rand_free(g.rand);
}

static void test_cut(const void *arg)
{
    for (unsigned i = 0; i < (g_getenv("SOAK") ? 10 : 1); i++)
        round_of(arg, g_getenv("SOAK") ? 50 : 25);
}

int main(int argc, char **argv)
{
    g_autofree char *cmd = NULL, *cut_dir = NULL;
    int ret;

    g_test_init(&argc, &argv, NULL);
    dir = g_dir_make_tmp("rhea-job-cut-XXXXXX", NULL);
    cmd = g_strdup_printf("rm -rf '%s'", dir);
    cut_dir = g_build_filename(dir, "cut", NULL);
    g_assert_cmpint(mkdir(cut_dir, 0700), ==, 0);
    log_path = g_build_filename(dir, "log", NULL);
    loop = loop_new("test");
    loop_enter(loop);
    graph = block_graph_new(NULL, loop);
    for (unsigned i = 0; i < G_N_ELEMENTS(shapes); i++) {
        g_autofree char *name = g_strdup_printf("/job-cut/%s", shapes[i].name);

        g_test_add_data_func(name, &shapes[i], test_cut);
    }
    ret = g_test_run();
    block_graph_free(graph);
    loop_free(loop);
    g_assert_cmpint(system(cmd), ==, 0);
    g_free(log_path);
    g_free(dir);
    return ret;
}
