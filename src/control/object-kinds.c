/* The classes of -object: I/O threads, random sources, memory back ends, secrets. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/aio.h"
#include "rhea/base/options.h"
#include "rhea/vm/object.h"
#include "rhea/vm/vm.h"

#define OPTION(n, t, d, h) { .name = n, .type = t, .def = d, .help = h }

/* ---- iothread */

struct iothread { struct object obj; struct loop *loop; };

static void iothread_started(void *opaque)
{
}

static bool iothread_tune(struct iothread *t, struct error *err)
{
    static const struct { const char *name; int64_t def; } options[] = {
        { "poll-max-ns", LOOP_POLL_MAX_NS }, { "poll-grow", 0 }, { "poll-shrink", 0 }, { "aio-max-batch", 0 }, { "thread-pool-min", 0 },
        { "thread-pool-max", 64 } };
    int64_t v[G_N_ELEMENTS(options)];

    for (unsigned i = 0; i < G_N_ELEMENTS(options); i++) {
        if (!option_int(t->obj.opts, options[i].name, options[i].def, &v[i], err))
            return false;
        if (v[i] < 0)
            return error_setf(err, ERR_GENERIC, NULL, "%s value must be in range [0, %" PRId64 "]", options[i].name, INT64_MAX);
    }
    if (v[5] < 1 || v[4] > v[5])
        return error_set(err, ERR_GENERIC, "bad thread-pool-min/thread-pool-max values", "at least one thread, and no fewer than thread-pool-min");
    loop_set_poll(t->loop, v[0], v[1], v[2]);
    loop_set_batch(t->loop, v[3]);
    pool_set_limits(t, MIN(v[4], UINT32_MAX), MIN(v[5], UINT32_MAX));
    return true;
}

static bool iothread_create(struct object *obj, struct error *err)
{
    struct iothread *t = (struct iothread *)obj;
    g_autofree char *name = g_strdup_printf("IO %s", obj->id);
    int64_t v;

    for (const struct prop *p = obj->cls->props; p->name; p++)
        if (!option_int(obj->opts, p->name, 0, &v, err))
            return false;
    t->loop = loop_new(name);
    if (!iothread_tune(t, err)) {
        loop_free(t->loop);
        t->loop = NULL;
        return false;
    }
    loop_thread_start(t->loop);
    loop_call(t->loop, iothread_started, NULL);         /* query-iothreads tells its id */
    return true;
}

static void iothread_destroy(struct object *obj)
{
    struct iothread *t = (struct iothread *)obj;

    if (!t->loop)
        return;
    pool_set_limits(t, 0, 0);
    loop_thread_stop(t->loop);
    loop_free(t->loop);
}

static bool iothread_set(struct object *obj, const char *prop, struct json_object *value, struct error *err)
{
    struct json_object *old;
    bool ok;

    if (!json_object_is_type(value, json_type_int))
        return error_setf(err, ERR_GENERIC, NULL, "%s is a number", prop);
    if (json_object_get_int64(value) < 0)
        return error_setf(err, ERR_GENERIC, NULL, "%s value must be in range [0, %" PRId64 "]", prop, INT64_MAX);
    old = json_object_get(json_object_object_get(obj->opts, prop));
    json_object_object_add(obj->opts, prop, json_object_get(value));
    ok = iothread_tune((struct iothread *)obj, err);
    if (!ok && old)
        json_object_object_add(obj->opts, prop, json_object_get(old));
    else if (!ok)
        json_object_object_del(obj->opts, prop);
    json_object_put(old);
    return ok;
}

OBJECT = {
    .name = "iothread", .parent = "event-loop-base", .summary = "a thread that runs devices' I/O",
    .size = sizeof(struct iothread), .create = iothread_create, .destroy = iothread_destroy, .set = iothread_set,
    .props = (const struct prop[]){
        OPTION("poll-max-ns", PROP_U64, "32768", "longest busy wait for a completion; 0: none"),
        OPTION("poll-grow", PROP_U64, "0", "the wait's growth when it was too short; 0: twofold"),
        OPTION("poll-shrink", PROP_U64, "0", "its divisor when it was in vain; 0: back to none"),
        OPTION("aio-max-batch", PROP_U64, "0", "requests handed to the host together at most; 0: all there are"),
        OPTION("thread-pool-min", PROP_U64, "0", "threads kept for calls that block, of the pool that all share"),
        OPTION("thread-pool-max", PROP_U64, "64", "how many the pool may have; never more than 16"), { 0 } },
};

struct loop *iothread_loop(struct object *iothread)
{
    return ((struct iothread *)iothread)->loop;
}

/* ---- random sources. /dev/urandom never blocks; another file is read when it has something to give. */

struct rng_request { void *buf; size_t len; struct loop *loop; void (*done)(void *opaque, size_t got); void *opaque;
                     size_t got; };
struct rng { struct object obj; int fd; struct loop_fd *watch; GQueue queue; GMutex lock; };

static void rng_finish(void *opaque)
{
    struct rng_request *r = opaque;

    r->done(r->opaque, r->got);
    g_free(r);
}

static bool rng_builtin_create(struct object *obj, struct error *err)
{
    ((struct rng *)obj)->fd = -1;
    return true;
}

static void rng_readable(void *opaque, unsigned events)
{
    struct rng *g = opaque;
    struct rng_request *r;

    g_mutex_lock(&g->lock);
    r = g_queue_peek_head(&g->queue);
    if (r) {
        ssize_t n = read(g->fd, r->buf, r->len);

        if (n >= 0 || (errno != EAGAIN && errno != EINTR)) {
            r->got = MAX(n, 0);
            g_queue_pop_head(&g->queue);
            loop_post(r->loop, rng_finish, r);
        }
    }
    if (g_queue_is_empty(&g->queue))
        loop_fd_set(g->watch, 0);
    g_mutex_unlock(&g->lock);
}

static bool rng_random_create(struct object *obj, struct error *err)
{
    struct rng *g = (struct rng *)obj;
    const char *path = option_str(obj->opts, "filename", "/dev/urandom");

    g_mutex_init(&g->lock);
    g->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (g->fd < 0)
        return error_set_errno(err, errno, "use filename=/dev/urandom", "%s", path);
    if (strcmp(path, "/dev/urandom") && strcmp(path, "/dev/random"))
        g->watch = loop_fd_add(obj->vm->loop, g->fd, 0, rng_readable, g);
    return true;
}

static void rng_destroy(struct object *obj)
{
    struct rng *g = (struct rng *)obj;

    if (g->watch)
        loop_fd_remove(g->watch);
    if (g->fd >= 0)
        close(g->fd);
    while (!g_queue_is_empty(&g->queue))
        loop_post(((struct rng_request *)g_queue_peek_head(&g->queue))->loop, rng_finish, g_queue_pop_head(&g->queue));
}

static void rng_arm(void *opaque)
{
    struct rng *g = opaque;

    if (g->watch)
        loop_fd_set(g->watch, LOOP_IN);
}

void rng_read(struct object *obj, void *buf, size_t len, struct loop *loop, void (*done)(void *opaque, size_t got),
              void *opaque)
{
    struct rng *g = (struct rng *)obj;
    struct rng_request *r = g_new0(struct rng_request, 1);
    ssize_t n;

    *r = (struct rng_request){ buf, len, loop, done, opaque, 0 };
    if (g->watch) {
        g_mutex_lock(&g->lock);
        g_queue_push_tail(&g->queue, r);
        g_mutex_unlock(&g->lock);
        loop_post(obj->vm->loop, rng_arm, g);
        return;
    }
    n = g->fd >= 0 ? read(g->fd, buf, len) : getrandom(buf, len, GRND_NONBLOCK);
    r->got = MAX(n, 0);
    loop_post(loop, rng_finish, r);
}

OBJECT = {
    .name = "rng-random", .parent = "rng-backend", .summary = "random bytes from a file", .size = sizeof(struct rng),
    .create = rng_random_create, .destroy = rng_destroy,
    .props = (const struct prop[]){ OPTION("filename", PROP_STR, "/dev/urandom", "where they come from"), { 0 } },
};
OBJECT = {
    .name = "rng-builtin", .parent = "rng-backend", .summary = "random bytes from the host's kernel",
    .size = sizeof(struct rng), .create = rng_builtin_create, .destroy = rng_destroy,
    .props = (const struct prop[]){ { 0 } },
};

/* ---- memory back ends: the block is anonymous; files and memfds are mapped over its place */

struct memory_backend { struct object obj; struct ram_block *ram; };

static bool memory_map(struct memory_backend *m, int fd, bool share, bool readonly, struct error *err)
{
    struct ram_block *rb = m->ram;
    int prot = PROT_READ | (readonly ? 0 : PROT_WRITE);

    if (mmap(rb->host, rb->size, prot, MAP_FIXED | (share ? MAP_SHARED : MAP_PRIVATE), fd, 0) == MAP_FAILED) {
        error_set_errno(err, errno, errno == ENOMEM ? "reserve huge pages (/proc/sys/vm/nr_hugepages), or ask for less"
                                                    : NULL, "%" PRIu64 " MiB cannot be mapped", rb->size >> 20);
        close(fd);
        return false;
    }
    rb->fd = fd;
    rb->shared = share;
    rb->readonly = readonly;
    return true;
}

static bool memory_common(struct memory_backend *m, bool *share, bool share_default, struct error *err)
{
    struct json_object *o = m->obj.opts;
    uint64_t size;
    bool ignored;

    for (const struct prop *p = m->obj.cls->props; p->name; p++)
        if (p->type == PROP_BOOL && !option_bool(o, p->name, false, &ignored, err))
            return false;
    if (json_object_object_get_ex(o, "host-nodes", NULL) || strcmp(option_str(o, "policy", "default"), "default"))
        return error_set(err, ERR_GENERIC, "this build does not bind memory to host nodes yet",
                         "leave host-nodes and policy out, or start under numactl");
    if (!option_size(o, "size", 0, &size, err) || !option_bool(o, "share", share_default, share, err))
        return false;
    if (!size)
        return error_set(err, ERR_GENERIC, "the size is missing", "add size=2G");
    m->ram = ram_block_new(m->obj.vm, m->obj.id, size, false, err);
    return m->ram;
}

/* Whether the host may merge equal pages (KSM, where it runs), and whether core dumps show the guest's memory. */
static void memory_advise(struct ram_block *rb, bool merge, bool dump)
{
    if (merge && !rb->shared)
        madvise(rb->host, rb->size, MADV_MERGEABLE);
    madvise(rb->host, rb->size, dump ? MADV_DODUMP : MADV_DONTDUMP);
}

/* After the memory is in place: what madvise() and touching do. */
static bool memory_finish(struct memory_backend *m, struct error *err)
{
    struct ram_block *rb = m->ram;
    bool merge, dump, prealloc;

    if (!option_bool(m->obj.opts, "merge", true, &merge, err) || !option_bool(m->obj.opts, "dump", true, &dump, err) ||
        !option_bool(m->obj.opts, "prealloc", false, &prealloc, err))
        return false;
    memory_advise(rb, merge, dump);
    if (prealloc && madvise(rb->host, rb->size, MADV_POPULATE_WRITE))
        return error_set_errno(err, errno, "there is not enough memory, or not enough huge pages: ask for less",
                               "%" PRIu64 " MiB cannot be allocated at once", rb->size >> 20);
    return true;
}

static bool memory_ram_create(struct object *obj, struct error *err)
{
    struct memory_backend *m = (struct memory_backend *)obj;
    bool share;

    if (!memory_common(m, &share, false, err))
        return false;
    if (share) {
        int fd = memfd_create(obj->id, MFD_CLOEXEC);

        if (fd < 0 || ftruncate(fd, m->ram->size))
            return error_set_errno(err, errno, NULL, "no shared memory");
        if (!memory_map(m, fd, true, false, err))
            return false;
    }
    return memory_finish(m, err);
}

static bool memory_memfd_create(struct object *obj, struct error *err)
{
    struct memory_backend *m = (struct memory_backend *)obj;
    bool share, huge;
    uint64_t huge_size;
    int fd;

    if (!option_bool(obj->opts, "hugetlb", false, &huge, err) ||
        !option_size(obj->opts, "hugetlbsize", 0, &huge_size, err) || !memory_common(m, &share, true, err))
        return false;
    if (huge_size && (huge_size & (huge_size - 1)))
        return error_set(err, ERR_GENERIC, "hugetlbsize is no power of two", "write 2M or 1G");
    fd = memfd_create(obj->id, MFD_CLOEXEC | (huge ? MFD_HUGETLB : 0) |
                      (huge && huge_size ? (unsigned)__builtin_ctzll(huge_size) << MAP_HUGE_SHIFT : 0));
    if (fd < 0 || ftruncate(fd, m->ram->size)) {
        error_set_errno(err, errno, huge ? "this host may not have huge pages of that size" : NULL, "no memfd");
        if (fd >= 0)
            close(fd);
        return false;
    }
    return memory_map(m, fd, share, false, err) && memory_finish(m, err);
}

/* mem-path: a file, or a directory (of hugetlbfs, or /dev/shm) in which an unnamed one is made. */
static int memory_file_open(const char *path, bool readonly, bool *made, struct error *err)
{
    struct stat st;
    int fd;

    if (!stat(path, &st) && S_ISDIR(st.st_mode)) {
        g_autofree char *name = g_strdup_printf("%s/rhea-ram-XXXXXX", path);

        fd = g_mkstemp_full(name, O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0)
            unlink(name);
        *made = true;
    } else {
        fd = open(path, (readonly ? O_RDONLY : O_RDWR | O_CREAT) | O_CLOEXEC, 0644);
    }
    if (fd < 0)
        error_set_errno(err, errno, "check the path and its rights", "%s", path);
    return fd;
}

static bool memory_file_create(struct object *obj, struct error *err)
{
    struct memory_backend *m = (struct memory_backend *)obj;
    const char *path = option_str(obj->opts, "mem-path", NULL);
    bool share, readonly, made = false;
    struct stat st;
    int fd;

    if (!path)
        return error_set(err, ERR_GENERIC, "the path is missing", "add mem-path=/dev/shm/FILE");
    if (option_str(obj->opts, "pmem", NULL) && strcmp(option_str(obj->opts, "pmem", ""), "off"))
        return error_set(err, ERR_GENERIC, "this build has no persistent memory yet", "leave pmem out");
    if (!option_bool(obj->opts, "readonly", false, &readonly, err) || !memory_common(m, &share, false, err))
        return false;
    fd = memory_file_open(path, readonly, &made, err);
    if (fd < 0)
        return false;
    if (fstat(fd, &st) || (!st.st_size && !readonly && ftruncate(fd, m->ram->size)) ||
        (made && ftruncate(fd, m->ram->size))) {
        error_set_errno(err, errno, "is there room for it?", "%s cannot be made %" PRIu64 " MiB large", path,
                        m->ram->size >> 20);
        close(fd);
        return false;
    }
    if (!made && st.st_size && (uint64_t)st.st_size < m->ram->size) {
        close(fd);
        return error_setf(err, ERR_GENERIC, "make the file larger, or the size smaller",
                          "%s holds %" PRId64 " bytes, fewer than the size", path, (int64_t)st.st_size);
    }
    return memory_map(m, fd, share, readonly, err) && memory_finish(m, err);
}

static void memory_destroy(struct object *obj)
{
    ram_block_free(((struct memory_backend *)obj)->ram);
}

#define MEMORY_OPTIONS                                                                                      \
    OPTION("size", PROP_SIZE, NULL, "bytes"), OPTION("share", PROP_BOOL, NULL, "others may map it"),        \
    OPTION("prealloc", PROP_BOOL, "off", "allocate all of it at once"),                                     \
    OPTION("prealloc-threads", PROP_U32, "1", "taken, not used"),                                           \
    OPTION("prealloc-context", PROP_STR, NULL, "taken, not used"),                                          \
    OPTION("merge", PROP_BOOL, "on", "the host may merge equal pages"),                                     \
    OPTION("dump", PROP_BOOL, "on", "in core dumps"), OPTION("reserve", PROP_BOOL, "on", "never reserved"),   \
    OPTION("host-nodes", PROP_STR, NULL, "host NUMA nodes"), OPTION("policy", PROP_STR, "default", "NUMA policy"), \
    OPTION("x-use-canonical-path-for-ramblock-id", PROP_BOOL, NULL, "taken, not used")

OBJECT = {
    .name = "memory-backend-ram", .parent = "memory-backend", .summary = "guest memory, anonymous",
    .size = sizeof(struct memory_backend), .create = memory_ram_create, .destroy = memory_destroy,
    .props = (const struct prop[]){ MEMORY_OPTIONS, { 0 } },
};
OBJECT = {
    .name = "memory-backend-memfd", .parent = "memory-backend", .summary = "guest memory in a memfd",
    .size = sizeof(struct memory_backend), .create = memory_memfd_create, .destroy = memory_destroy,
    .props = (const struct prop[]){ MEMORY_OPTIONS, OPTION("hugetlb", PROP_BOOL, "off", "of huge pages"),
                                    OPTION("hugetlbsize", PROP_SIZE, NULL, "their size"), { 0 } },
};
OBJECT = {
    .name = "memory-backend-file", .parent = "memory-backend", .summary = "guest memory in a file",
    .size = sizeof(struct memory_backend), .create = memory_file_create, .destroy = memory_destroy,
    .props = (const struct prop[]){ MEMORY_OPTIONS, OPTION("mem-path", PROP_STR, NULL, "file or directory"),
                                    OPTION("readonly", PROP_BOOL, "off", "the guest may not write"),
                                    OPTION("discard-data", PROP_BOOL, "off", "taken, not used"),
                                    OPTION("pmem", PROP_BOOL, "off", "persistent memory"), { 0 } },
};

struct ram_block *memory_backend_ram(struct object *backend)
{
    return ((struct memory_backend *)backend)->ram;
}

struct ram_block *vm_main_ram(struct vm *vm, const char *block_id, struct error *err)
{
    const char *id = vm->config.memory_backend;
    struct object *obj;

    if (!id) {
        struct ram_block *rb = ram_block_new(vm, block_id, vm->config.ram_size, false, err);

        if (rb)
            memory_advise(rb, vm->config.mem_merge, vm->config.dump_guest_core);
        return rb;
    }
    obj = object_get(vm, id, "memory-backend", err);
    if (!obj)
        return NULL;
    if (memory_backend_ram(obj)->size != vm->config.ram_size) {
        error_setf(err, ERR_GENERIC, "make both the same", "memory backend '%s' has %" PRIu64 " MiB, but -m says %"
                   PRIu64 " MiB", id, memory_backend_ram(obj)->size >> 20, vm->config.ram_size >> 20);
        object_put(obj);
        return NULL;
    }
    return memory_backend_ram(obj);
}

/* ---- secrets */

struct secret { struct object obj; char *data; size_t len; };
enum { SECRET_MAX = 1 << 20 };

static bool secret_create(struct object *obj, struct error *err)
{
    struct secret *s = (struct secret *)obj;
    const char *data = option_str(obj->opts, "data", NULL), *file = option_str(obj->opts, "file", NULL);
    const char *format = option_str(obj->opts, "format", "raw");
    g_autoptr(GError) gerr = NULL;

    if (option_str(obj->opts, "keyid", NULL))
        return error_set(err, ERR_GENERIC, "this build does not take encrypted secrets yet",
                         "pass it by file=, which only you can read");
    if (!data == !file)
        return error_set(err, ERR_GENERIC, "it needs either data or file", "write -object secret,id=ID,file=PATH");
    if (file && !g_file_get_contents(file, &s->data, &s->len, &gerr))
        return error_setf(err, ERR_GENERIC, NULL, "%s", gerr->message);
    if (data) {
        s->data = g_strdup(data);
        s->len = strlen(data);
    }
    if (s->len > SECRET_MAX)
        return error_set(err, ERR_GENERIC, "the secret is larger than 1 MiB", NULL);
    if (!strcmp(format, "base64")) {
        g_autofree char *text = s->data;

        s->data = (char *)g_base64_decode(text, &s->len);
        s->data = g_realloc(s->data, s->len + 1);
        s->data[s->len] = 0;
    } else if (strcmp(format, "raw")) {
        return error_setf(err, ERR_GENERIC, "formats are raw and base64", "unknown format '%s'", format);
    }
    json_object_object_del(obj->opts, "data");
    return true;
}

static void secret_destroy(struct object *obj)
{
    struct secret *s = (struct secret *)obj;

    if (s->data)
        explicit_bzero(s->data, s->len);
    g_free(s->data);
}

OBJECT = {
    .name = "secret", .parent = "secret_common", .summary = "a password or a key", .size = sizeof(struct secret),
    .create = secret_create, .destroy = secret_destroy,
    .props = (const struct prop[]){
        OPTION("data", PROP_STR, NULL, "the secret (seen in the process list)"),
        OPTION("file", PROP_STR, NULL, "file that holds it"), OPTION("format", PROP_STR, "raw", "raw or base64"),
        OPTION("keyid", PROP_STR, NULL, "secret it is encrypted with"), OPTION("iv", PROP_STR, NULL, "start vector"),
        { 0 } },
};

bool secret_get(struct vm *vm, const char *id, char **data, size_t *len, struct error *err)
{
    struct object *obj = object_get(vm, id, "secret", err);
    struct secret *s = (struct secret *)obj;

    if (!obj)
        return false;
    *data = g_malloc(s->len + 1);
    memcpy(*data, s->data, s->len);
    (*data)[s->len] = 0;
    *len = s->len;
    object_put(obj);
    return true;
}
