/* Image formats other than qcow2: random requests against a shadow of the disk, Debian's qemu-img as the second opinion,
 * hostile images by mutation. */
#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/format/image.h"
#include "block/graph.h"
#include "rhea/base/options.h"
#include "rhea/block/crypto.h"
#include "rhea/vm/object.h"
#include "rhea/vm/vm.h"
#include "node-options.h"

enum { WORKERS = 8, REQUESTS = 800, MiB = 1 << 20 };

static char *dir;
static struct loop *loop;
static struct block_graph *graph;
static struct vm tool;          /* holds the secrets */

static char *path_of(const char *name)
{
    return g_build_filename(dir, name, NULL);
}

static bool create(const char *path, const char *fmt, const char *options, struct error *err)
{
    struct json_object *o = json("{%s}", options);
    bool ok = block_create(graph, path, fmt, o, err);

    json_object_put(o);
    return ok;
}

static struct block_node *open_image(const char *path, const char *fmt, const char *more, bool write, struct error *err)
{
    struct json_object *o = json("{\"driver\":\"%s\",\"read-only\":%s,\"cache\":{\"no-flush\":true},\"file\":{\"driver\":\"file\","
                                 "\"filename\":\"%s\"}%s}", fmt, write ? "false" : "true", path, more);
    struct block_node *n = node_open(graph, o, err);

    json_object_put(o);
    return n;
}

static void check_ok(const struct error *err)
{
    if (error_is_set(err))
        g_error("%s", err->msg);
}

/* ---- shapes: a format, its options, how qemu-img is told to open it */

struct shape {
    const char *name, *format, *options;        /* of create, beside size */
    uint64_t size;
    const char *open;           /* more options of opening */
    bool backing;               /* over base.FORMAT */
    bool check;                 /* the format can be checked */
};

static const struct shape shapes[] = {
    { "vdi", "vdi", "", 9 * MiB + 512, "", .check = true },
    { "vdi-static", "vdi", ",\"static\":true", 5 * MiB, "", .check = true },
    { "vpc", "vpc", "", 17 * MiB, "" },
    { "vpc-force", "vpc", ",\"force_size\":true", 9 * MiB + 512 * 3, "" },
    { "vpc-fixed", "vpc", ",\"subformat\":\"fixed\"", 4 * MiB, "" },
    { "vmdk", "vmdk", "", 9 * MiB + 512, "" , .check = true },
    { "vmdk-zeroed", "vmdk", ",\"zeroed_grain\":true", 9 * MiB, "", .check = true },
    { "vmdk-flat", "vmdk", ",\"subformat\":\"monolithicFlat\"", 4 * MiB, "" },
    { "vmdk-split", "vmdk", ",\"subformat\":\"twoGbMaxExtentSparse\"", 9 * MiB, "", .check = true },
    { "vmdk-stream", "vmdk", ",\"subformat\":\"streamOptimized\"", 5 * MiB, "", .check = true },
    { "vmdk-backing", "vmdk", "", 9 * MiB, "", .backing = true, .check = true },
    { "vmdk-backing-zeroed", "vmdk", ",\"zeroed_grain\":true", 9 * MiB, "", .backing = true, .check = true },
    { "vhdx", "vhdx", "", 17 * MiB + 512, "", .check = true },
    { "vhdx-small", "vhdx", ",\"block_size\":\"1M\",\"block_state_zero\":false,\"log_size\":\"2M\"", 9 * MiB, "", .check = true },
    { "vhdx-fixed", "vhdx", ",\"subformat\":\"fixed\",\"block_size\":\"2M\"", 5 * MiB, "", .check = true },
    { "qed", "qed", "", 5 * MiB + 512, "", .check = true },
    { "qed-small", "qed", ",\"cluster_size\":4096,\"table_size\":2", 9 * MiB, "", .check = true },
    { "qed-backing", "qed", "", 9 * MiB, "", .backing = true, .check = true },
    { "parallels", "parallels", "", 9 * MiB + 512, "", .check = true },
    { "parallels-64k", "parallels", ",\"cluster_size\":\"64k\"", 5 * MiB, "", .check = true },
    { "luks", "luks", ",\"key-secret\":\"sec0\",\"iter-time\":10", 5 * MiB, ",\"key-secret\":\"sec0\"" },
    { "luks-essiv", "luks", ",\"key-secret\":\"sec0\",\"iter-time\":10,\"cipher-mode\":\"cbc\",\"ivgen-alg\":\"essiv\","
      "\"ivgen-hash-alg\":\"sha256\",\"hash-alg\":\"sha1\"", 2 * MiB, ",\"key-secret\":\"sec0\"" },
    { "luks-serpent", "luks", ",\"key-secret\":\"sec0\",\"iter-time\":10,\"cipher-alg\":\"serpent-256\",\"hash-alg\":\"sha512\"",
      2 * MiB, ",\"key-secret\":\"sec0\"" },
    { "luks-twofish", "luks", ",\"key-secret\":\"sec0\",\"iter-time\":10,\"cipher-alg\":\"twofish-128\",\"cipher-mode\":\"cbc\","
      "\"ivgen-alg\":\"plain\",\"hash-alg\":\"ripemd160\"", 2 * MiB, ",\"key-secret\":\"sec0\"" },
};

static char *create_options(const struct shape *s)
{
    return g_strdup_printf("\"size\":%" PRIu64 "%s%s%s%s%s%s", s->size, s->options,
                           s->backing ? ",\"backing_file\":\"base." : "", s->backing ? s->format : "",
                           s->backing ? "\",\"backing_fmt\":\"" : "", s->backing ? s->format : "",
                           s->backing ? "\"" : "");
}

/* ---- jobs in coroutines */

struct job { struct block_node *n; uint64_t off, bytes; void *buf; int ret; struct block_check check; uint64_t size; };

static void job_read(void *arg)
{
    struct job *j = arg;

    j->ret = node_pread(j->n, j->off, j->buf, j->bytes);
}

static void job_write(void *arg)
{
    struct job *j = arg;

    j->ret = node_pwrite(j->n, j->off, j->buf, j->bytes);
}

static void job_check(void *arg)
{
    struct job *j = arg;
    struct error err = ERROR_INIT;

    if (!j->n->drv->check(j->n, 0, &j->check, &err))
        j->ret = -EIO;
    error_clear(&err);
}

static void check_same(struct block_node *n, const uint8_t *shadow, uint64_t size)
{
    g_autofree uint8_t *buf = g_malloc(size);
    struct job j = { .n = n, .bytes = size, .buf = buf };

    block_run(graph, job_read, &j);
    g_assert_cmpint(j.ret, ==, 0);
    for (uint64_t i = 0; i < size; i += 512)
        if (memcmp(buf + i, shadow + i, MIN(512, size - i)))
            g_error("sector %" PRIu64 " of %" PRIu64 " differs: %02x, not %02x", i / 512, size / 512, buf[i], shadow[i]);
}

/* ---- random requests, several at once, on parts of the disk that do not overlap in flight */

struct storm { struct block_node *n; uint8_t *shadow; uint64_t size; GRand *rand; unsigned left, running; bool *busy; };

static bool storm_claim(struct storm *s, uint64_t off, uint64_t bytes, bool value)
{
    for (uint64_t i = off / 512; value && i < (off + bytes) / 512; i++)
        if (s->busy[i])
            return false;
    for (uint64_t i = off / 512; i < (off + bytes) / 512; i++)
        s->busy[i] = value;
    return true;
}

static int storm_write(struct storm *s, uint64_t off, uint64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    struct iovec iov[2] = { { buf, bytes / 1024 * 512 }, { buf + bytes / 1024 * 512, bytes - bytes / 1024 * 512 } };
    int ret;

    for (uint64_t i = 0; i < bytes; i += 512)
        memset(buf + i, g_rand_int_range(s->rand, 0, 256), 512);
    ret = node_pwritev(s->n, off, bytes, iov, 2, 0);
    memcpy(s->shadow + off, buf, bytes);
    return ret;
}

static int storm_read(struct storm *s, uint64_t off, uint64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc(bytes);
    struct iovec iov = { buf, bytes };
    int ret = node_preadv(s->n, off, bytes, &iov, 1);

    if (!ret && memcmp(buf, s->shadow + off, bytes))
        g_error("read of %" PRIu64 "+%" PRIu64 " differs", off, bytes);
    return ret;
}

/* What the map says to be zero, is. */
static int storm_status(struct storm *s, uint64_t off, uint64_t bytes)
{
    uint64_t n, map;
    struct block_node *file;
    int depth, st = node_status_above(s->n, off, bytes, &n, &map, &file, &depth, false);

    if (st >= 0 && (st & STATUS_ZERO))
        g_assert_true(buffer_is_zero(s->shadow + off, MIN(n, bytes)));
    return MIN(st, 0);
}

static void storm_one(struct storm *s)
{
    uint64_t sectors = s->size / 512, off, bytes;
    int ret = 0;

    do {
        off = g_rand_int_range(s->rand, 0, sectors) * 512ull;
        bytes = g_rand_int_range(s->rand, 1, g_rand_int_range(s->rand, 0, 6) ? 16 : 3000) * 512ull;
        bytes = MIN(bytes, s->size - off);
    } while (!storm_claim(s, off, bytes, true));
    switch (g_rand_int_range(s->rand, 0, 8)) {
    case 0 ... 2: ret = storm_write(s, off, bytes); break;
    case 3 ... 4: ret = storm_read(s, off, bytes); break;
    case 5:
        ret = node_write_zeroes(s->n, off, bytes, g_rand_boolean(s->rand) ? BLOCK_MAY_UNMAP : 0);
        memset(s->shadow + off, 0, bytes);
        break;
    case 6: ret = storm_status(s, off, bytes); break;
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
    s->running--;
}

static void storm_run(struct storm *s, unsigned requests)
{
    s->left = requests;
    s->running = WORKERS;
    s->busy = g_new0(bool, s->size / 512);
    for (unsigned i = 0; i < WORKERS; i++)
        coroutine_start(storm_worker, s);
    while (s->running)
        loop_step(loop, true);
    g_free(s->busy);
}

/* ---- against Debian's qemu-img */

#define SECRET "--object secret,id=sec0,data=123456"

static void shell(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
static void shell(const char *fmt, ...)
{
    g_autofree char *cmd = NULL, *all = NULL;
    va_list ap;

    va_start(ap, fmt);
    cmd = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    all = g_strdup_printf("cd %s && %s", dir, cmd);
    if (system(all))
        g_error("failed: %s", cmd);
}

static void foreign_check(const struct shape *shape, const char *path, const uint8_t *shadow, uint64_t size)
{
    g_autofree char *raw = path_of("shadow.raw");
    bool secret = *shape->open;

    g_assert_true(g_file_set_contents(raw, (const char *)shadow, size, NULL));
    shell("qemu-img compare -q %s --image-opts driver=raw,file.filename=shadow.raw driver=%s,file.filename=%s%s",
          secret ? SECRET : "", shape->format, path, secret ? ",key-secret=sec0" : "");
    if (shape->check)
        shell("qemu-img check -q -f %s %s", shape->format, path);
}

static void make_base(const struct shape *shape, uint8_t *shadow)
{
    uint64_t len = 5 * MiB;
    g_autofree char *path = g_strdup_printf("%s/base.%s", dir, shape->format), *opts = g_strdup_printf("\"size\":%d", 5 * MiB);
    struct error err = ERROR_INIT;
    struct block_node *n;
    struct job j = { .bytes = 4 * MiB, .buf = shadow };

    for (uint64_t i = 0; i < 4 * MiB; i++)
        shadow[i] = (i >> 9) * 31 + i;
    memset(shadow + len - MiB, 0, MiB);
    create(path, shape->format, opts, &err);
    check_ok(&err);
    n = open_image(path, shape->format, "", true, &err);
    check_ok(&err);
    j.n = n;
    block_run(graph, job_write, &j);
    g_assert_cmpint(j.ret, ==, 0);
    node_unref(n);
}

static struct block_node *open_shape(const struct shape *shape, const char *path, bool write)
{
    struct error err = ERROR_INIT;
    struct block_node *n = open_image(path, shape->format, shape->open, write, &err);

    check_ok(&err);
    return n;
}

static void storm_on(const struct shape *shape, const char *path, struct storm *s, bool first)
{
    s->n = open_shape(shape, path, true);
    s->size = MIN(s->size, s->n->size);
    if (s->n->encrypted && first) {             /* what was never written is noise */
        struct job j = { s->n, 0, s->size, s->shadow };

        block_run(graph, job_write, &j);
        g_assert_cmpint(j.ret, ==, 0);
    }
    storm_run(s, REQUESTS);
    check_same(s->n, s->shadow, s->size);
    node_unref(s->n);
    s->n = open_shape(shape, path, false);
    check_same(s->n, s->shadow, s->size);
    if (shape->check) {
        struct job j = { .n = s->n };

        block_run(graph, job_check, &j);
        g_assert_cmpint(j.ret, ==, 0);
        g_assert_cmpuint(j.check.errors, ==, 0);
    }
    node_unref(s->n);
    foreign_check(shape, path, s->shadow, s->size);
}

static void test_storm(const void *arg)
{
    const struct shape *shape = arg;
    g_autofree char *path = g_strdup_printf("%s/storm.%s", dir, shape->format), *opts = create_options(shape);
    struct storm s = { .shadow = g_malloc0(shape->size), .size = shape->size,
                       .rand = g_rand_new_with_seed(g_test_rand_int()) };
    struct error err = ERROR_INIT;

    if (shape->backing)
        make_base(shape, s.shadow);
    create(path, shape->format, opts, &err);
    check_ok(&err);
    storm_on(shape, path, &s, true);
    storm_on(shape, path, &s, false);          /* opened again, it goes on where it was */
    g_rand_free(s.rand);
    g_free(s.shadow);
}

/* An image that qemu-img made is used on. */
static void test_foreign(const void *arg)
{
    const struct shape *shape = arg;
    g_autofree char *path = g_strdup_printf("%s/foreign.%s", dir, shape->format), *opts = NULL, *text = create_options(shape);
    g_autoptr(GString) list = g_string_new("");
    struct storm s = { .shadow = g_malloc0(shape->size), .size = shape->size,
                       .rand = g_rand_new_with_seed(g_test_rand_int()) };
    struct json_object *o = json("{%s}", text);

    json_object_object_foreach(o, key, v) {
        bool flag = json_object_is_type(v, json_type_boolean);

        if (strcmp(key, "size"))
            g_string_append_printf(list, "%s%s=%s", list->len ? "," : "", key,
                                   flag ? json_object_get_boolean(v) ? "on" : "off" : json_object_get_string(v));
    }
    json_object_put(o);
    if (shape->backing)
        make_base(shape, s.shadow);
    /* "Unable to get accurate CPU usage": on a fast or busy machine qemu-img 7.2 fails to time its key derivation */
    shell("for i in $(seq 100); do qemu-img create -q %s -f %s %s%s foreign.%s %" PRIu64 " && exit 0; done; exit 1", *shape->open ? SECRET : "", shape->format,
          list->len ? "-o " : "", list->str, shape->format, shape->size);
    storm_on(shape, path, &s, true);
    g_rand_free(s.rand);
    g_free(s.shadow);
}

/* ---- hostile images: anything may stand in headers and tables; nothing may crash, hang, or grow without bound */

static void hostile_use(void *arg)
{
    struct job *j = arg;
    uint64_t size = j->n->size;
    g_autofree uint8_t *buf = g_malloc0(256 << 10);

    for (unsigned i = 0; i < 24; i++) {
        uint64_t sectors = MAX(size / 512, 1), n, map;
        uint64_t off = (i < 4 ? i * 100 : (uint64_t)g_test_rand_int() * 977 % sectors) * 512;
        uint64_t bytes = MIN(256u << 10, size > off ? size - off : 0);
        struct block_node *file;
        int depth;

        if (!bytes)
            continue;
        node_pread(j->n, off, buf, bytes);
        node_status_above(j->n, off, size - off, &n, &map, &file, &depth, true);
        if (!j->n->read_only && i % 3 == 0)
            node_pwrite(j->n, off, buf, MIN(bytes, 4096));
        if (!j->n->read_only && i % 5 == 0)
            node_write_zeroes(j->n, off, bytes, BLOCK_MAY_UNMAP);
    }
    if (!j->n->read_only)
        node_flush(j->n);
}

static void mutate(uint8_t *data, size_t len)
{
    static const uint64_t evil[] = { 0, 1, 2, 0xff, 0xffff, 0x7fffffff, 0x80000000, UINT32_MAX, INT64_MAX, UINT64_MAX,
                                     0x8000000000000000ull, 0x00fffffffffffe00ull, 0x100000, 0x200000 };
    unsigned n = g_test_rand_int_range(1, 5);

    while (n--) {
        size_t at = g_test_rand_int_range(0, g_test_rand_int_range(0, 3) ? MIN(len, 2048) : MIN(len, 1 << 20)) & ~3;
        uint64_t v = evil[g_test_rand_int_range(0, G_N_ELEMENTS(evil))];
        size_t bytes = 1 << g_test_rand_int_range(0, 4);

        if (at + 8 > len)
            continue;
        if (g_test_rand_bit())
            v ^= 1ull << g_test_rand_int_range(0, 64);
        if (g_test_rand_bit())
            v = GUINT64_SWAP_LE_BE(v) >> (64 - bytes * 8);
        memcpy(data + at, &v, bytes);
    }
}

static uint64_t cpu_ms(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec * 1000 + u.ru_utime.tv_usec / 1000 + u.ru_stime.tv_sec * 1000 + u.ru_stime.tv_usec / 1000;
}

static long peak_kib(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

static void test_hostile(const void *arg)
{
    const struct shape *shape = arg;
    g_autofree char *path = g_strdup_printf("%s/hostile.%s", dir, shape->format), *opts = create_options(shape), *bytes = NULL;
    unsigned rounds = g_test_slow() ? 2000 : *shape->open ? 20 : 60, opened = 0, refused = 0;
    struct error err = ERROR_INIT;
    long before;
    gsize len;

    if (shape->backing) {
        g_autofree uint8_t *shadow = g_malloc(shape->size);

        make_base(shape, shadow);
    }
    create(path, shape->format, opts, &err);
    check_ok(&err);
    before = peak_kib();
    g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
    for (unsigned i = 0; i < rounds; i++) {
        g_autofree uint8_t *copy = g_memdup2(bytes, len);
        uint64_t start = cpu_ms();
        struct job j = { 0 };

        mutate(copy, len);
        g_assert_true(g_file_set_contents(path, (char *)copy, len, NULL));
        j.n = open_image(path, shape->format, shape->open, i & 1, &err);
        if (!j.n) {
            g_assert_nonnull(err.msg);
            error_clear(&err);
            refused++;
        } else {
            opened++;
            block_run(graph, hostile_use, &j);
            if (j.n->drv->check && j.n->size < 1ull << 34)
                block_run(graph, job_check, &j);
            node_unref(j.n);
        }
        g_assert_cmpuint(cpu_ms() - start, <, 4000);    /* a second, and a loaded machine */
    }
    g_assert_cmpuint(opened, >, 0);
    g_assert_cmpuint(opened + refused, ==, rounds);
    g_assert_cmpint(peak_kib() - before, <, 400 << 10);
}

/* ---- a guest must not turn a disk whose format was guessed as raw into an image that names files of the host */

static int write_head(const char *path, const char *format, const char *image)
{
    struct error err = ERROR_INIT;
    g_autofree char *bytes = NULL;
    struct block_node *n = node_open_file(graph, path, format, NULL, &err);
    struct job j = { .n = n, .bytes = 512 };
    gsize len;

    check_ok(&err);
    g_assert_true(g_file_get_contents(image, &bytes, &len, NULL));
    j.buf = bytes;
    block_run(graph, job_write, &j);
    node_unref(n);
    return j.ret;
}

static void test_raw_stays_raw(void)
{
    static const char *const formats[] = { "qcow2", "vmdk", "vdi", "vpc", "vhdx", "qed", "parallels" };
    g_autofree char *raw = path_of("guessed.raw"), *image = path_of("image");

    for (unsigned i = 0; i < G_N_ELEMENTS(formats); i++) {
        struct error err = ERROR_INIT;

        create(raw, "raw", "\"size\":\"1M\"", &err);
        create(image, formats[i], "\"size\":\"1M\"", &err);
        check_ok(&err);
        g_assert_cmpint(write_head(raw, NULL, image), ==, -EPERM);
        g_assert_cmpint(write_head(raw, "raw", image), ==, 0);
    }
}

/* ---- sizes */

static void test_large(const void *arg)
{
    const char *format = arg;
    g_autofree char *path = g_strdup_printf("%s/large.%s", dir, format);
    uint64_t size = !strcmp(format, "vpc") ? 2040ull << 30 : 8ull << 40, sizes[2];
    g_autofree char *opts = g_strdup_printf("\"size\":%" PRIu64, size);
    uint8_t buf[4096], got[4096];
    struct error err = ERROR_INIT;
    struct block_node *n;

    create(path, format, opts, &err);
    check_ok(&err);
    n = open_image(path, format, "", true, &err);
    check_ok(&err);
    sizes[0] = n->size;
    g_assert_cmpuint(n->size, >=, size - MiB);
    for (unsigned i = 0; i < 3; i++) {
        struct job j = { n, i * (n->size / 2 - 2048), sizeof(buf), buf };

        memset(buf, 0x11 * (i + 1), sizeof(buf));
        block_run(graph, job_write, &j);
        g_assert_cmpint(j.ret, ==, 0);
    }
    node_unref(n);
    n = open_image(path, format, "", false, &err);
    check_ok(&err);
    sizes[1] = n->size;
    g_assert_cmpuint(sizes[0], ==, sizes[1]);
    for (unsigned i = 0; i < 3; i++) {
        struct job j = { n, i * (n->size / 2 - 2048), sizeof(got), got };

        memset(buf, 0x11 * (i + 1), sizeof(buf));
        block_run(graph, job_read, &j);
        g_assert_cmpint(j.ret, ==, 0);
        g_assert_cmpmem(got, sizeof(got), buf, sizeof(buf));
    }
    node_unref(n);
    shell("qemu-io -f %s -r -c 'read -P 0x11 0 4k' -c 'read -P 0x33 %" PRIu64 " 4k' large.%s >/dev/null", format, sizes[0] - 4096,
          format);
    unlink(path);
}

static void test_sizes_refused(void)
{
    static const struct { const char *format, *options; } bad[] = {
        { "vpc", "\"size\":\"3T\"" }, { "vdi", "\"size\":\"1E\"" }, { "vmdk", "\"size\":\"128T\"" },
        { "vmdk", "\"size\":\"1M\",\"subformat\":\"twoGb\"" }, { "vmdk", "\"size\":\"1M\",\"backing_file\":\"nothing\"" },
        { "vmdk", "\"size\":\"1M\",\"hwversion\":\"7\",\"compat6\":true" },
        { "vpc", "\"size\":\"1M\",\"subformat\":\"diff\"" }, { "luks", "\"size\":\"1M\"" },
        { "luks", "\"size\":\"1M\",\"key-secret\":\"nothing\"" },
        { "luks", "\"size\":\"1M\",\"key-secret\":\"sec0\",\"cipher-alg\":\"rot13\"" },
        { "luks", "\"size\":\"1M\",\"key-secret\":\"sec0\",\"cipher-alg\":\"cast5-128\"" },
    };
    g_autofree char *path = path_of("refused");

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct error err = ERROR_INIT;

        g_assert_false(create(path, bad[i].format, bad[i].options, &err));
        g_assert_nonnull(err.msg);
        error_clear(&err);
    }
}

/* ---- what parsers of these formats were caught with elsewhere, one field at a time (docs/block.md) */

struct patch { const char *what, *format; uint64_t at; const char *bytes; unsigned len; };
#define P(what, format, at, bytes) { what, format, at, bytes, sizeof(bytes) - 1 }
static const struct patch patches[] = {
    P("division by zero: clusters of 0 sectors", "parallels", 28, "\0\0\0\0"),
    P("division by zero: block size 0", "vdi", 376, "\0\0\0\0"),
    P("division by zero: block size 0", "vpc", 512 + 32, "\0\0\0\0"),
    P("division by zero: block size 0", "vhdx", (2 << 20) + (64 << 10), "\0\0\0\0"),
    P("division by zero: cluster size 0", "qed", 4, "\0\0\0\0"),
    P("division by zero: grain size 0", "vmdk", 20, "\0\0\0\0\0\0\0\0"),
    P("division by zero: tables of 0 entries", "vmdk", 44, "\0\0\0\0"),
    P("table larger than memory", "vdi", 384, "\xff\xff\xff\xff"),
    P("table larger than memory", "vpc", 512 + 32, "\0\0\2\0"),
    P("table larger than memory", "parallels", 32, "\xff\xff\xff\x7f"),
    P("table larger than memory", "vmdk", 12, "\xff\xff\xff\xff\xff\xff\xff\x7f"),
    P("table larger than memory", "qed", 48, "\0\xfe\xff\xff\xff\xff\xff\x7f"),
    P("size wraps around", "parallels", 36, "\0\0\0\0\0\0\0\x80"),
    P("size wraps around", "vhdx", (2 << 20) + (64 << 10) + 8, "\0\xfe\xff\xff\xff\xff\xff\xff"),
    P("size wraps around", "vdi", 368, "\xff\xff\xff\xff\xff\xff\xff\xff"),
    P("table outside the file", "qed", 40, "\0\0\0\0\1\0\0\0"),
    P("table outside the file", "vmdk", 56, "\0\0\0\0\1\0\0\0"),
    P("table outside the file", "vpc", 512 + 16, "\0\0\0\1\0\0\0\0"),
    P("table over the header", "vdi", 340, "\0\0\0\0"),
    P("descriptor outside the file", "vmdk", 28, "\0\0\0\0\0\0\1\0"),
    P("descriptor too long", "vmdk", 36, "\xff\xff\xff\x7f\0\0\0\0"),
    P("footer that is not there", "vmdk", 56, "\xff\xff\xff\xff\xff\xff\xff\xff"),
    P("backing file's name outside the header", "qed", 16, "\1\0\0\0\0\0\0\0"),
    P("metadata item outside its region", "vhdx", (2 << 20) + 32 + 16, "\xff\xff\xff\xff"),
    P("header fields that do not end", "luks", 8, "aesaesaesaesaesaesaesaesaesaesaesaesaes"),
    P("key of 0 bytes", "luks", 108, "\0\0\0\0"),
    P("key larger than its buffer", "luks", 108, "\0\0\x10\0"),
    P("iterations without end", "luks", 208 + 4, "\xff\xff\xff\xff"),
    P("stripes without end", "luks", 208 + 44, "\xff\xff\xff\xff"),
    P("key material over the header", "luks", 208 + 40, "\0\0\0\0"),
    P("key material over the payload", "luks", 208 + 48 + 40, "\0\1\0\0"),
    P("key slots that overlap", "luks", 208 + 48 + 40, "\0\0\0\x08"),
    P("payload outside the file", "luks", 104, "\xff\xff\xff\xff"),
};

static void test_patch(const void *arg)
{
    const struct patch *p = arg;
    bool luks = !strcmp(p->format, "luks");
    g_autofree char *path = g_strdup_printf("%s/patch.%s", dir, p->format), *bytes = NULL;
    struct error err = ERROR_INIT;
    gsize len;

    g_test_message("%s: %s", p->format, p->what);
    create(path, p->format, luks ? "\"size\":\"1M\",\"key-secret\":\"sec0\",\"iter-time\":1" : "\"size\":\"9M\"", &err);
    check_ok(&err);
    g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
    g_assert_cmpuint(p->at + p->len, <=, len);
    memcpy(bytes + p->at, p->bytes, p->len);
    g_assert_true(g_file_set_contents(path, bytes, len, NULL));
    for (unsigned write = 0; write < 2; write++) {
        g_assert_null(open_image(path, p->format, luks ? ",\"key-secret\":\"sec0\"" : "", write, &err));
        g_assert_nonnull(err.msg);
        error_clear(&err);
    }
}

/* Tables that open lets pass are an error of the request that meets them. */
static void test_bad_entries(void)
{
    static const struct patch bad[] = {
        P("more blocks than the disk has", "vdi", 512, "\xff\xff\xff\x7f"),
        P("a block over the log", "vhdx", 3 << 20, "\6\0\x10\0\0\0\0\0"),
        P("a block over the headers", "vhdx", 3 << 20, "\6\0\0\0\0\0\0\0"),
        P("a table outside the file", "qed", 65536, "\0\0\xff\xff\0\0\0\0"),
        P("a table that is not aligned", "qed", 65536, "\1\2\3\0\0\0\0\0"),
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *path = g_strdup_printf("%s/bad.%s", dir, bad[i].format), *bytes = NULL;
        struct error err = ERROR_INIT;
        uint8_t buf[4096];
        struct job j = { .bytes = sizeof(buf), .buf = buf };
        gsize len;

        create(path, bad[i].format, "\"size\":\"9M\"", &err);
        check_ok(&err);
        g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
        memcpy(bytes + bad[i].at, bad[i].bytes, bad[i].len);
        g_assert_true(g_file_set_contents(path, bytes, len, NULL));
        j.n = open_image(path, bad[i].format, "", true, &err);
        check_ok(&err);
        block_run(graph, job_read, &j);
        g_assert_cmpint(j.ret, ==, -EIO);
        block_run(graph, job_write, &j);
        g_assert_cmpint(j.ret, ==, -EIO);
        node_unref(j.n);
    }
}

/* ---- VHDX's log: power is lost after the log came to rest, before the table did */

static void job_flush(void *arg)
{
    ((struct job *)arg)->ret = node_flush(((struct job *)arg)->n);
}

static void test_vhdx_log(void)
{
    enum { BAT = 3 * MiB };     /* of an image with a log of 1 MiB */
    g_autofree char *path = path_of("log.vhdx"), *cut = path_of("cut.vhdx"), *theirs = path_of("theirs.vhdx"), *bytes = NULL;
    g_autofree uint8_t *shadow = g_malloc0(9 * MiB);
    struct error err = ERROR_INIT;
    struct block_node *n;
    struct job j = { .bytes = MiB, .buf = shadow + 8 * MiB, .off = 8 * MiB };
    gsize len;

    memset(shadow + 8 * MiB, 0x5a, MiB);
    create(path, "vhdx", "\"size\":\"9M\",\"block_size\":\"1M\"", &err);
    check_ok(&err);
    n = j.n = open_image(path, "vhdx", "", true, &err);
    check_ok(&err);
    block_run(graph, job_write, &j);
    g_assert_cmpint(j.ret, ==, 0);
    block_run(graph, job_flush, &j);
    g_assert_cmpint(j.ret, ==, 0);
    g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
    node_unref(n);
    g_assert_cmphex(le64(bytes + BAT + 8 * 8) & 7, ==, 6);
    memset(bytes + BAT, 0, 4096);
    g_assert_true(g_file_set_contents(cut, bytes, len, NULL));
    g_assert_true(g_file_set_contents(theirs, bytes, len, NULL));
    g_assert_null(open_image(cut, "vhdx", "", false, &err));    /* read-only, it cannot be mended */
    g_assert_nonnull(strstr(err.msg, "log"));
    error_clear(&err);
    n = open_image(cut, "vhdx", "", true, &err);
    check_ok(&err);
    check_same(n, shadow, 9 * MiB);
    node_unref(n);
    n = open_image(cut, "vhdx", "", false, &err);
    check_ok(&err);
    check_same(n, shadow, 9 * MiB);
    node_unref(n);
    shell("qemu-img check -q cut.vhdx && qemu-img check -q -r all theirs.vhdx && qemu-img compare -q cut.vhdx theirs.vhdx");
    bytes[MiB + 4096 + 100] ^= 1;               /* a log that is torn itself */
    g_assert_true(g_file_set_contents(cut, bytes, len, NULL));
    g_assert_null(open_image(cut, "vhdx", "", true, &err));
    error_clear(&err);
}

/* ---- key slots */

static int slot_read(void *opaque, uint64_t off, void *buf, uint64_t bytes)
{
    memcpy(buf, (uint8_t *)opaque + off, bytes);
    return 0;
}

static int slot_write(void *opaque, uint64_t off, const void *buf, uint64_t bytes)
{
    memcpy((uint8_t *)opaque + off, buf, bytes);
    return 0;
}

static bool opens(const struct luks_io *io, const char *secret)
{
    struct error err = ERROR_INIT;
    struct luks *l = luks_open(io, secret, strlen(secret), &err);

    luks_free(l);
    error_clear(&err);
    return l != NULL;
}

static void luks_slots(void *arg)
{
    struct json_object *opts = json("{\"iter-time\":1}");
    struct error err = ERROR_INIT;
    uint64_t size = luks_header_bytes(opts, &err);
    g_autofree uint8_t *area = g_malloc0(size);
    struct luks_io io = { slot_read, slot_write, area, size };
    struct luks *l = luks_create(&io, opts, "one", 3, &err);

    check_ok(&err);
    g_assert_true(opens(&io, "one"));
    g_assert_false(opens(&io, "two"));
    g_assert_true(luks_add_key(l, &io, -1, "two", 3, 1, false, &err));
    g_assert_false(luks_add_key(l, &io, 1, "three", 5, 1, false, &err));
    error_clear(&err);
    g_assert_true(luks_add_key(l, &io, 7, "three", 5, 1, false, &err));
    g_assert_true(opens(&io, "one") && opens(&io, "two") && opens(&io, "three"));
    g_assert_true(luks_erase_key(l, &io, -1, "one", 3, false, &err));
    g_assert_false(opens(&io, "one"));
    g_assert_true(luks_erase_key(l, &io, 7, NULL, 0, false, &err));
    g_assert_false(opens(&io, "three"));
    g_assert_false(luks_erase_key(l, &io, 1, NULL, 0, false, &err));    /* the last one */
    error_clear(&err);
    g_assert_true(opens(&io, "two"));
    luks_free(l);
    json_object_put(opts);
}

static void test_luks_slots(void)
{
    block_run(graph, luks_slots, NULL);
}

int main(int argc, char **argv)
{
    static const char *const large[] = { "vdi", "vpc", "vmdk", "vhdx", "qed", "parallels" };
    g_autofree char *template = g_strdup("/tmp/rhea-formats-XXXXXX");
    struct json_object *secret;
    struct error err = ERROR_INIT;
    int ret;

    g_test_init(&argc, &argv, NULL);
    dir = g_mkdtemp(template);
    loop = loop_new("test");
    loop_enter(loop);
    graph = block_graph_new(NULL, loop);
    secret = json("{\"qom-type\":\"secret\",\"id\":\"sec0\",\"data\":\"123456\"}");
    g_assert_true(object_add(&tool, secret, &err));
    json_object_put(secret);
    graph->objects = &tool;
    for (unsigned i = 0; i < G_N_ELEMENTS(shapes); i++) {
        g_autofree char *storm = g_strdup_printf("/formats/storm/%s", shapes[i].name);
        g_autofree char *foreign = g_strdup_printf("/formats/foreign/%s", shapes[i].name);
        g_autofree char *hostile = g_strdup_printf("/formats/hostile/%s", shapes[i].name);

        g_test_add_data_func(storm, &shapes[i], test_storm);
        g_test_add_data_func(foreign, &shapes[i], test_foreign);
        if (!g_str_has_prefix(shapes[i].name, "luks-"))         /* one header is as the other */
            g_test_add_data_func(hostile, &shapes[i], test_hostile);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(patches); i++) {
        g_autofree char *name = g_strdup_printf("/formats/patch/%s-%u", patches[i].format, i);

        g_test_add_data_func(name, &patches[i], test_patch);
    }
    g_test_add_func("/formats/bad-entries", test_bad_entries);
    for (unsigned i = 0; i < G_N_ELEMENTS(large); i++) {
        g_autofree char *name = g_strdup_printf("/formats/large/%s", large[i]);

        g_test_add_data_func(name, large[i], test_large);
    }
    g_test_add_func("/formats/refused", test_sizes_refused);
    g_test_add_func("/formats/luks-slots", test_luks_slots);
    g_test_add_func("/formats/raw-stays-raw", test_raw_stays_raw);
    g_test_add_func("/formats/vhdx-log", test_vhdx_log);
    ret = g_test_run();
    block_graph_free(graph);
    object_cleanup(&tool);
    loop_free(loop);
    shell("rm -rf %s", dir);
    return ret;
}
