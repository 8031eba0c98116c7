/* The memory of a vhost-user front end: files of its own that it shares, mapped. */
#include <errno.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "block/vhost-user.h"

struct vhost_mapping {
    unsigned refs;
    struct vhost_region r;
    uint8_t *host;              /* of r.guest */
    void *base;
    size_t length;
    int guard;
};

/* ---- files that shrink
 *
 * The front end may cut its file off under us: the access then raises SIGBUS, and the process would end. Signals are the
 * process's, so this table is, too. A slot is free when its length is 0; the handler only reads. Exports in several threads take
 * slots: under a lock. */

enum { GUARDS = 1024 };
static struct { _Atomic uintptr_t base; _Atomic size_t length; } guards[GUARDS];
static struct sigaction before;
static GMutex guards_lock;

/* Zeroes in place of all of it; async-signal-safe calls only. */
static void on_sigbus(int sig, siginfo_t *si, void *context)
{
    uintptr_t at = (uintptr_t)si->si_addr;

    for (unsigned i = 0; i < GUARDS; i++) {
        size_t length = atomic_load(&guards[i].length);
        uintptr_t base = atomic_load(&guards[i].base);

        if (length && at - base < length &&
            mmap((void *)base, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED)
            return;
    }
    sigaction(SIGBUS, &before, NULL);           /* not ours: again, with what stood there before */
}

static int guard_add(void *base, size_t length)
{
    g_autoptr(GMutexLocker) G_GNUC_UNUSED locker = g_mutex_locker_new(&guards_lock);
    static bool installed;
    struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER };

    if (!installed)
        installed = !sigaction(SIGBUS, &sa, &before);
    for (int i = 0; i < GUARDS && installed; i++) {
        if (!atomic_load(&guards[i].length)) {
            atomic_store(&guards[i].base, (uintptr_t)base);
            atomic_store(&guards[i].length, length);
            return i;
        }
    }
    return -1;
}

/* ---- one region */

static void mapping_unref(struct vhost_mapping *m)
{
    if (--m->refs)
        return;
    atomic_store(&guards[m->guard].length, 0);
    munmap(m->base, m->length);
    g_free(m);
}

/* A file whose pages are the kernel's: a file system of the front end's own could make us wait for ever. */
static bool file_is_plain(int fd, const struct vhost_region *r, uint64_t *page, struct error *err)
{
    struct stat st;
    struct statfs fs;

    if (fd < 0 || fstat(fd, &st) || fstatfs(fd, &fs) || !S_ISREG(st.st_mode) || fs.f_type == FUSE_SUPER_MAGIC)
        return error_set(err, ERR_GENERIC, "the front end's memory is no file that can be shared", "use memory-backend-memfd,share=on");
    *page = fs.f_type == HUGETLBFS_MAGIC ? fs.f_bsize : sysconf(_SC_PAGESIZE);
    if (st.st_size < 0 || r->mmap_offset + r->size > (uint64_t)st.st_size)
        return error_set(err, ERR_GENERIC, "the front end's memory is larger than its file", NULL);
    return true;
}

static struct vhost_mapping *mapping_new(const struct vhost_region *r, int fd, struct error *err)
{
    struct vhost_mapping *m;
    uint64_t page, start;

    if (!r->size || r->guest + r->size < r->guest || r->user + r->size < r->user || r->size > INT64_MAX || r->mmap_offset > INT64_MAX) {
        error_set(err, ERR_GENERIC, "the front end's memory wraps around", NULL);
        return NULL;
    }
    if (!file_is_plain(fd, r, &page, err))
        return NULL;
    start = r->mmap_offset & ~(page - 1);
    m = g_new0(struct vhost_mapping, 1);
    m->refs = 1;
    m->r = *r;
    m->length = (r->mmap_offset - start + r->size + page - 1) & ~(page - 1);
    m->base = mmap(NULL, m->length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, start);
    if (m->base == MAP_FAILED) {
        error_set_errno(err, errno, NULL, "cannot map the front end's memory");
        g_free(m);
        return NULL;
    }
    m->guard = guard_add(m->base, m->length);
    if (m->guard < 0) {
        error_set(err, ERR_GENERIC, "too many regions of memory", NULL);
        munmap(m->base, m->length);
        g_free(m);
        return NULL;
    }
    m->host = (uint8_t *)m->base + (r->mmap_offset - start);
    return m;
}

/* ---- tables of them */

struct vhost_memory *vhost_memory_new(void)
{
    struct vhost_memory *m = g_new0(struct vhost_memory, 1);

    m->refs = 1;
    return m;
}

struct vhost_memory *vhost_memory_ref(struct vhost_memory *m)
{
    m->refs++;
    return m;
}

void vhost_memory_unref(struct vhost_memory *m)
{
    if (!m || --m->refs)
        return;
    for (unsigned i = 0; i < m->count; i++)
        mapping_unref(m->maps[i]);
    g_free(m);
}

static struct vhost_memory *memory_copy(const struct vhost_memory *m, unsigned skip)
{
    struct vhost_memory *copy = vhost_memory_new();

    for (unsigned i = 0; i < m->count; i++) {
        if (i == skip)
            continue;
        m->maps[i]->refs++;
        copy->maps[copy->count++] = m->maps[i];
    }
    return copy;
}

struct vhost_memory *vhost_memory_with(const struct vhost_memory *m, const struct vhost_region *r, int fd, struct error *err)
{
    struct vhost_mapping *map;
    struct vhost_memory *copy;

    if (m->count == VHOST_REGIONS_MAX) {
        error_set(err, ERR_GENERIC, "too many regions of memory", NULL);
        return NULL;
    }
    map = mapping_new(r, fd, err);
    if (!map)
        return NULL;
    copy = memory_copy(m, m->count);
    copy->maps[copy->count++] = map;
    return copy;
}

struct vhost_memory *vhost_memory_without(const struct vhost_memory *m, const struct vhost_region *r, struct error *err)
{
    for (unsigned i = 0; i < m->count; i++)
        if (m->maps[i]->r.guest == r->guest && m->maps[i]->r.user == r->user && m->maps[i]->r.size == r->size)
            return memory_copy(m, i);
    error_set(err, ERR_GENERIC, "there is no such region of memory", NULL);
    return NULL;
}

void *vhost_user_address(const struct vhost_memory *m, uint64_t addr, uint64_t bytes)
{
    for (unsigned i = 0; i < m->count; i++) {
        const struct vhost_mapping *map = m->maps[i];
        uint64_t off = addr - map->r.user;

        if (off < map->r.size && bytes <= map->r.size - off)
            return map->host + off;
    }
    return NULL;
}

void *vhost_guest_address(const struct vhost_memory *m, uint64_t addr, uint64_t *bytes)
{
    for (unsigned i = 0; i < m->count; i++) {
        const struct vhost_mapping *map = m->maps[i];
        uint64_t off = addr - map->r.guest;

        if (off < map->r.size) {
            *bytes = MIN(*bytes, map->r.size - off);
            return map->host + off;
        }
    }
    return NULL;
}
