/* The guest's address space: mmap, munmap, mprotect, mremap, brk and shmat over the host's, with a table of what is the
 * guest's. A 64-bit guest's addresses are the host's, shared with Rhea's own memory, which MAP_FIXED must not replace; a
 * 32-bit guest has 4 GiB that were reserved for it, in which we choose addresses ourselves. Code is never executable to
 * the host. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "user/limits.h"
#include "user/mem.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

/* maps: sorted by start, not overlapping, [start, end) whole pages and not empty. */
struct mm {
    pthread_mutex_t lock;
    struct map *maps;
    unsigned count, room;
    uint64_t low, end;          /* addresses that mmap may choose */
    uint64_t top;               /* where the search from above begins */
    bool reserved;              /* a 32-bit guest's: what is unmapped stays reserved */
};
enum { MAPS_MAX = 65530 };      /* as vm.max_map_count */

static uint64_t page_down(uint64_t v) { return v & -(uint64_t)CPU_PAGE_SIZE; }
static uint64_t page_up(uint64_t v) { return page_down(v + CPU_PAGE_SIZE - 1); }

struct mm *mm_new(struct process *p)
{
    struct mm *mm = g_new0(struct mm, 1);

    pthread_mutex_init(&mm->lock, NULL);
    mm->low = 0x10000;
    mm->end = p->guest->address_end;
    if (p->guest->bits == 32) {
        mm->reserved = true;
        mm->end = MIN(mm->end, 0xfffff000);     /* the last page is nobody's: -errno must not be an address */
        mm->top = mm->end > 0xf8000000 ? 0xf7fff000 : mm->end;
    } else {
        mm->top = MIN(mm->end, UINT64_C(0x7f0000000000));
    }
    return mm;
}

void mm_free(struct mm *mm)
{
    free(mm->maps);
    g_free(mm);
}

void mem_lock(struct mm *mm) { pthread_mutex_lock(&mm->lock); }
void mem_unlock(struct mm *mm) { pthread_mutex_unlock(&mm->lock); }

static inline void *host_of(struct process *p, uint64_t va) { return (void *)(p->base + va); }

/* ---- the table */

/* The first map that ends above addr. */
static unsigned map_find(const struct mm *mm, uint64_t addr)
{
    unsigned low = 0, high = mm->count;

    while (low < high) {
        unsigned mid = (low + high) / 2;

        if (mm->maps[mid].end <= addr)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static const struct map *map_at(const struct mm *mm, uint64_t addr)
{
    unsigned n = map_find(mm, addr);

    return n < mm->count && mm->maps[n].start <= addr ? &mm->maps[n] : NULL;
}

static void map_insert_at(struct mm *mm, unsigned n, const struct map *m)
{
    if (mm->count == mm->room) {
        mm->room = mm->room ? mm->room * 2 : 64;
        mm->maps = g_realloc_n(mm->maps, mm->room, sizeof(*mm->maps));
    }
    memmove(&mm->maps[n + 1], &mm->maps[n], (mm->count - n) * sizeof(*mm->maps));
    mm->maps[n] = *m;
    mm->count++;
}

static void map_remove_at(struct mm *mm, unsigned n, unsigned count)
{
    if (!count)
        return;                 /* perhaps there is no table yet */
    memmove(&mm->maps[n], &mm->maps[n + count], (mm->count - n - count) * sizeof(*mm->maps));
    mm->count -= count;
}

/* Makes addr a border between maps. */
static void map_split(struct mm *mm, uint64_t addr)
{
    unsigned n = map_find(mm, addr);
    struct map upper;

    if (n == mm->count || mm->maps[n].start >= addr)
        return;
    upper = mm->maps[n];
    if (upper.name)
        upper.offset += addr - upper.start;
    upper.start = addr;
    mm->maps[n].end = addr;
    map_insert_at(mm, n + 1, &upper);
}

static void map_clear(struct mm *mm, uint64_t start, uint64_t end)
{
    unsigned first, last;

    map_split(mm, start);
    map_split(mm, end);
    first = map_find(mm, start);
    last = map_find(mm, end);
    map_remove_at(mm, first, last - first);
}

static bool map_joins(const struct map *a, const struct map *b)
{
    return a->end == b->start && a->sealed == b->sealed && a->prot == b->prot && a->shared == b->shared && !a->shm && !b->shm && a->name == b->name
        && a->ino == b->ino && a->dev_major == b->dev_major && a->dev_minor == b->dev_minor
        && (!a->ino || a->offset + (a->end - a->start) == b->offset);
}

/* Joins the maps that meet at the border below n, if they are alike. */
static void map_join(struct mm *mm, unsigned n)
{
    if (n == 0 || n >= mm->count || !map_joins(&mm->maps[n - 1], &mm->maps[n]))
        return;
    mm->maps[n - 1].end = mm->maps[n].end;
    map_remove_at(mm, n, 1);
}

static void map_add(struct mm *mm, const struct map *m)
{
    unsigned n;

    map_clear(mm, m->start, m->end);
    n = map_find(mm, m->start);
    map_insert_at(mm, n, m);
    map_join(mm, n + 1);
    map_join(mm, n);
}

static bool map_covered(const struct mm *mm, uint64_t start, uint64_t end)
{
    for (unsigned n = map_find(mm, start); start < end; n++) {
        if (n == mm->count || mm->maps[n].start > start)
            return false;
        start = mm->maps[n].end;
    }
    return true;
}

static bool map_free_range(const struct mm *mm, uint64_t start, uint64_t end)
{
    unsigned n = map_find(mm, start);

    return n == mm->count || mm->maps[n].start >= end;
}

/* A gap of n bytes, the highest below `below`; 0: none. */
static uint64_t map_gap(const struct mm *mm, uint64_t n, uint64_t align, uint64_t below)
{
    uint64_t end = below;

    for (unsigned k = map_find(mm, below - 1) + 1; ; ) {
        uint64_t floor = 0;

        k = MIN(k, mm->count);
        while (k > 0 && mm->maps[k - 1].start >= end)
            k--;
        if (k > 0)
            floor = mm->maps[k - 1].end;
        if (floor < end && end - floor >= n) {
            uint64_t at = (end - n) & -align;

            if (at >= floor && at >= mm->low)
                return at;
        }
        if (k == 0)
            return 0;
        end = MIN(end, mm->maps[k - 1].start);
        k--;
    }
}

/* RLIMIT_AS counts all that is mapped, RLIMIT_DATA what is private and writable: may [addr, addr + n) be added? What it replaces
 * does not count. */
static bool limits_allow(struct process *p, uint64_t addr, uint64_t n, bool data)
{
    const struct mm *mm = p->mm;
    uint64_t most = limit_soft(p, LIMIT_AS), most_data = data ? limit_soft(p, LIMIT_DATA) : RLIM_INFINITY;
    uint64_t sum = n, sum_data = n;

    if (most == RLIM_INFINITY && most_data == RLIM_INFINITY)
        return true;
    for (unsigned k = 0; k < mm->count; k++) {
        const struct map *m = &mm->maps[k];
        uint64_t over = MIN(m->end, addr + n) > MAX(m->start, addr) ? MIN(m->end, addr + n) - MAX(m->start, addr) : 0;

        sum += m->end - m->start - over;
        sum_data += !m->shared && m->prot & PROT_WRITE ? m->end - m->start - over : 0;
    }
    return sum <= most && sum_data <= most_data;
}

/* mseal() forbids changes of a mapping; its contents may change. */
static bool any_sealed(const struct mm *mm, uint64_t start, uint64_t end)
{
    for (unsigned n = map_find(mm, start); n < mm->count && mm->maps[n].start < end; n++)
        if (mm->maps[n].sealed)
            return true;
    return false;
}

static uint64_t choose_address(const struct mm *mm, uint64_t hint, uint64_t n, uint64_t align)
{
    uint64_t at = 0;

    if (hint >= mm->low && hint < mm->end && n <= mm->end - hint && map_free_range(mm, hint, hint + n) && !(hint & (align - 1)))
        return hint;
    at = map_gap(mm, n, align, mm->top);
    return at ? at : map_gap(mm, n, align, mm->end);
}

/* ---- the host's side */

/* Code is read by the translator, never run by the host. */
static int host_prot(int prot)
{
    return (prot & PROT_EXEC ? PROT_READ : 0) | (prot & (PROT_READ | PROT_WRITE));
}

static uint8_t kept_prot(const struct process *p, int prot) { return (uint8_t)(prot & (PROT_ALL | (int)p->guard_bits)); }

static void mapped(struct process *p, uint64_t addr, uint64_t n, uint8_t prot)
{
    if (prot & ~PROT_ALL)
        engine_guard(p->engine);
    engine_mapped(p->engine, addr, n);
}

/* Makes sure that nothing in [start, end) is Rhea's own: what the table does not know is claimed. On failure nothing
 * changes. */
static bool host_claim(struct process *p, uint64_t start, uint64_t end)
{
    const struct mm *mm = p->mm;
    uint64_t at = start;

    if (mm->reserved)
        return true;
    for (unsigned n = map_find(mm, start); at < end; n++) {
        uint64_t gap_end = n < mm->count && mm->maps[n].start < end ? mm->maps[n].start : end;

        if (gap_end > at) {
            void *want = host_of(p, at);
            void *got = mmap(want, gap_end - at, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

            if (got != want) {
                int e = errno;

                if (got != MAP_FAILED)
                    munmap(got, gap_end - at);
                for (uint64_t undo = start, k = map_find(mm, start); undo < at; k++) {  /* the gaps that were claimed */
                    uint64_t stop = k < mm->count && mm->maps[k].start < at ? mm->maps[k].start : at;

                    if (stop > undo)
                        munmap(host_of(p, undo), stop - undo);
                    undo = k < mm->count ? mm->maps[k].end : at;
                }
                errno = got == MAP_FAILED && e == EPERM ? EPERM : ENOMEM;
                return false;
            }
        }
        at = n < mm->count ? MAX(mm->maps[n].end, gap_end) : end;
    }
    return true;
}

/* Gives the host's memory at guest addresses back: to the reservation, or to the host. */
static int64_t host_release(struct process *p, uint64_t start, uint64_t end)
{
    if (p->mm->reserved)
        return mmap(host_of(p, start), end - start, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0)
            == MAP_FAILED ? -errno : 0;
    return munmap(host_of(p, start), end - start) < 0 ? -errno : 0;
}

/* Fills in the file of a mapping. The path is what the host's kernel says; names live as long as the process. */
static void map_set_file(struct map *m, int fd)
{
    struct stat st;
    char link[64], path[4096];
    ssize_t n;

    if (fstat(fd, &st) < 0)
        return;
    m->ino = st.st_ino;
    m->dev_major = major(st.st_dev);
    m->dev_minor = minor(st.st_dev);
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path) - 1);
    path[MAX(n, 0)] = 0;
    m->name = n > 0 ? g_intern_string(path) : NULL;
}

/* Maps at an address that is known to be the guest's to use. Table, engine and host agree afterwards. */
static int64_t map_fixed(struct process *p, uint64_t addr, uint64_t n, int prot, int flags, int fd, uint64_t offset)
{
    struct map m = { .start = addr, .end = addr + n, .offset = offset, .prot = kept_prot(p, prot),
                     .shared = (flags & MAP_TYPE) != MAP_PRIVATE };
    void *got;

    got = mmap(host_of(p, addr), n, host_prot(prot), (flags & ~MAP_FIXED_NOREPLACE) | MAP_FIXED, fd, offset);
    if (got == MAP_FAILED) {
        int e = errno;

        if (map_free_range(p->mm, addr, addr + n) && !p->mm->reserved)
            munmap(host_of(p, addr), n);        /* what host_claim() took */
        return -e;
    }
    if (!(flags & MAP_ANONYMOUS))
        map_set_file(&m, fd);
    map_add(p->mm, &m);
    mapped(p, addr, n, m.prot);
    return addr;
}

static int64_t map_anywhere(struct process *p, uint64_t hint, uint64_t n, int prot, int flags, int fd, uint64_t offset)
{
    struct mm *mm = p->mm;
    uint64_t at;
    void *got;

    if (!mm->reserved) {        /* the host's kernel knows best what is free */
        if (hint >= mm->end)
            hint = 0;
        got = mmap((void *)hint, n, host_prot(prot), flags, fd, offset);
        if (got == MAP_FAILED)
            return -errno;
        at = (uint64_t)got;
        if (at + n <= mm->end) {
            struct map m = { .start = at, .end = at + n, .offset = offset, .prot = kept_prot(p, prot),
                             .shared = (flags & MAP_TYPE) != MAP_PRIVATE };

            if (!(flags & MAP_ANONYMOUS))
                map_set_file(&m, fd);
            map_add(mm, &m);
            mapped(p, at, n, m.prot);
            return at;
        }
        munmap(got, n);
        for (uint64_t below = mm->top; (at = map_gap(mm, n, CPU_PAGE_SIZE, below)); below = at) {
            if (host_claim(p, at, at + n))
                return map_fixed(p, at, n, prot, flags, fd, offset);
            if (at < n + mm->low)
                break;
        }
        return -ENOMEM;
    }
    at = choose_address(mm, page_down(hint), n, flags & MAP_HUGETLB ? 2 << 20 : CPU_PAGE_SIZE);
    return at ? map_fixed(p, at, n, prot, flags, fd, offset) : -ENOMEM;
}

int64_t mem_map(struct process *p, uint64_t addr, uint64_t n, int prot, int flags, int fd, uint64_t offset)
{
    struct mm *mm = p->mm;
    int64_t r;

    if (n == 0 || (offset & (CPU_PAGE_SIZE - 1)))
        return -EINVAL;
    n = page_up(n);
    if (n == 0 || n > mm->end)
        return -ENOMEM;
    mem_lock(mm);
    if (mm->count >= MAPS_MAX
        || !limits_allow(p, flags & MAP_FIXED ? addr : 0, n, (flags & MAP_TYPE) == MAP_PRIVATE && prot & PROT_WRITE)) {
        r = -ENOMEM;
    } else if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
        if (addr & (CPU_PAGE_SIZE - 1))
            r = -EINVAL;
        else if (addr > mm->end - n)
            r = -ENOMEM;
        else if (any_sealed(mm, addr, addr + n))
            r = flags & MAP_FIXED_NOREPLACE ? -EEXIST : -EPERM;
        else if (flags & MAP_FIXED_NOREPLACE && !map_free_range(mm, addr, addr + n))
            r = -EEXIST;
        else if (!host_claim(p, addr, addr + n))
            r = flags & MAP_FIXED_NOREPLACE ? -EEXIST : -errno;
        else
            r = map_fixed(p, addr, n, prot, flags, fd, offset);
    } else {
        r = map_anywhere(p, addr, n, prot, flags, fd, offset);
    }
    mem_unlock(mm);
    return r;
}

bool mem_vectors(struct process *p, uint64_t addr, const uint8_t page[CPU_PAGE_SIZE])
{
    struct mm *mm = p->mm;
    bool ok;

    mem_lock(mm);
    ok = map_fixed(p, addr, CPU_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) >= 0;
    if (ok) {
        struct map *m = &mm->maps[map_find(mm, addr)];

        memcpy(host_of(p, addr), page, CPU_PAGE_SIZE);
        mprotect(host_of(p, addr), CPU_PAGE_SIZE, PROT_READ);
        m->prot = PROT_READ | PROT_EXEC;
        m->name = "[vectors]";
    }
    mem_unlock(mm);
    return ok;
}

/* Calls fn for each part of [start, end) that is the guest's. */
static int64_t unmap_locked(struct process *p, uint64_t start, uint64_t end)
{
    struct mm *mm = p->mm;

    if (map_free_range(mm, start, end))
        return 0;
    if (any_sealed(mm, start, end))
        return -EPERM;
    map_split(mm, start);
    map_split(mm, end);
    for (unsigned n = map_find(mm, start); n < mm->count && mm->maps[n].start < end; n++) {
        int64_t r = host_release(p, mm->maps[n].start, mm->maps[n].end);

        if (r < 0)
            return r;
    }
    map_clear(mm, start, end);
    engine_unmapped(p->engine, start, end - start);
    return 0;
}

int64_t mem_unmap(struct process *p, uint64_t addr, uint64_t n)
{
    int64_t r;

    if ((addr & (CPU_PAGE_SIZE - 1)) || n == 0 || n > p->mm->end || addr > p->mm->end - n)
        return -EINVAL;
    n = page_up(n);
    mem_lock(p->mm);
    r = unmap_locked(p, addr, addr + n);
    mem_unlock(p->mm);
    return r;
}

enum { GUEST_PROT_SEM = 8 };            /* uapi/asm-generic/mman-common.h: no effect */

int64_t mem_protect(struct process *p, uint64_t addr, uint64_t n, int prot)
{
    struct mm *mm = p->mm;
    int64_t r = 0;

    if (addr & (CPU_PAGE_SIZE - 1))
        return -EINVAL;
    n = page_up(n);
    if (n == 0)
        return 0;
    if (addr >= mm->end || n > mm->end - addr)
        return -ENOMEM;
    if (prot & ~(PROT_ALL | (int)p->guard_bits | GUEST_PROT_SEM | PROT_GROWSDOWN | PROT_GROWSUP))
        return -EINVAL;
    prot = kept_prot(p, prot);          /* PROT_GROWSDOWN: our stacks do not grow */
    mem_lock(mm);
    if (!map_covered(mm, addr, addr + n)) {     /* what lies before the hole is changed, as the kernel does */
        uint64_t end = addr;

        r = -ENOMEM;
        for (unsigned k = map_find(mm, addr); k < mm->count && mm->maps[k].start <= end; k++)
            end = mm->maps[k].end;
        n = end - addr;
    }
    if (n && any_sealed(mm, addr, addr + n)) {
        r = -EPERM;
    } else if (n) {
        if (mprotect(host_of(p, addr), n, host_prot(prot)) < 0) {
            r = -errno;
        } else {
            unsigned first, k;

            map_split(mm, addr);
            map_split(mm, addr + n);
            first = map_find(mm, addr);
            for (k = first; k < mm->count && mm->maps[k].start < addr + n; k++)
                mm->maps[k].prot = prot;
            for (; k + 1 > first; k--) {
                map_join(mm, k);
                if (k == 0)
                    break;
            }
            mapped(p, addr, n, prot);
        }
    }
    mem_unlock(mm);
    return r;
}

/* ---- mremap */

static int64_t remap_move(struct process *p, const struct map *old, uint64_t addr, uint64_t old_n, uint64_t new_n, int flags,
                          uint64_t to, bool choose)
{
    struct map m = *old;
    bool keep = old_n == 0 || (flags & MREMAP_DONTUNMAP);
    void *got;

    if (choose && p->mm->reserved) {
        to = choose_address(p->mm, 0, new_n, CPU_PAGE_SIZE);
        if (!to)
            return -ENOMEM;
        choose = false;
    }
    if (!choose && !host_claim(p, to, to + new_n))
        return -errno;
    got = choose ? mremap(host_of(p, addr), old_n, new_n, MREMAP_MAYMOVE | (flags & MREMAP_DONTUNMAP))
        : mremap(host_of(p, addr), old_n, new_n, MREMAP_MAYMOVE | MREMAP_FIXED | (flags & MREMAP_DONTUNMAP), host_of(p, to));
    if (got == MAP_FAILED) {
        int e = errno;

        if (!choose && !p->mm->reserved && map_free_range(p->mm, to, to + new_n))
            munmap(host_of(p, to), new_n);
        return -e;
    }
    to = (uint64_t)got - p->base;
    if (m.name)
        m.offset += addr - m.start;
    if (!keep) {
        map_clear(p->mm, addr, addr + old_n);
        if (p->mm->reserved && (to >= addr + old_n || to + new_n <= addr))
            host_release(p, addr, addr + old_n);
        engine_unmapped(p->engine, addr, old_n);
    } else if (old_n) {
        engine_mapped(p->engine, addr, old_n);
    }
    m.start = to;
    m.end = to + new_n;
    map_add(p->mm, &m);
    engine_mapped(p->engine, to, new_n);
    return to;
}

/* Longer, in place. -ENOMEM: something is in the way. */
static int64_t remap_grow(struct process *p, const struct map *old, uint64_t addr, uint64_t old_n, uint64_t new_n)
{
    struct map m = *old;
    uint64_t end = addr + old_n;

    if (old->end != end || new_n > p->mm->end - addr || !map_free_range(p->mm, end, addr + new_n))
        return -ENOMEM;
    if (p->mm->reserved)
        munmap(host_of(p, end), new_n - old_n);
    if (mremap(host_of(p, addr), old_n, new_n, 0) == MAP_FAILED) {
        int e = errno;

        if (p->mm->reserved)
            host_release(p, end, addr + new_n);
        return -e;
    }
    m.end = addr + new_n;
    map_add(p->mm, &m);
    engine_mapped(p->engine, end, new_n - old_n);
    return addr;
}

static int64_t remap_locked(struct process *p, uint64_t addr, uint64_t old_n, uint64_t new_n, int flags, uint64_t to)
{
    struct mm *mm = p->mm;
    const struct map *m = map_at(mm, addr);

    if (!m || !map_covered(mm, addr, addr + MAX(old_n, 1)) || (old_n && m->end < addr + old_n))
        return -EFAULT;
    if (any_sealed(mm, addr, addr + MAX(old_n, 1)) || (flags & MREMAP_FIXED && to <= mm->end - new_n && any_sealed(mm, to, to + new_n)))
        return -EPERM;
    if (new_n > old_n && !limits_allow(p, 0, new_n - old_n, !m->shared && m->prot & PROT_WRITE))
        return -ENOMEM;
    if (flags & MREMAP_FIXED) {
        if ((to & (CPU_PAGE_SIZE - 1)) || !(flags & MREMAP_MAYMOVE) || new_n > mm->end || to > mm->end - new_n
            || (to < addr + old_n && addr < to + new_n))
            return -EINVAL;
        return remap_move(p, m, addr, old_n, new_n, flags, to, false);
    }
    if (flags & MREMAP_DONTUNMAP)
        return flags & MREMAP_MAYMOVE && old_n == new_n ? remap_move(p, m, addr, old_n, new_n, flags, 0, true) : -EINVAL;
    if (new_n == old_n)
        return addr;
    if (new_n < old_n) {
        int64_t r = unmap_locked(p, addr + new_n, addr + old_n);

        return r < 0 ? r : (int64_t)addr;
    }
    if (old_n) {
        int64_t r = remap_grow(p, m, addr, old_n, new_n);

        if (r > 0 || !(flags & MREMAP_MAYMOVE))
            return r;
    }
    return flags & MREMAP_MAYMOVE ? remap_move(p, map_at(mm, addr), addr, old_n, new_n, flags, 0, true) : -ENOMEM;
}

int64_t mem_remap(struct process *p, uint64_t addr, uint64_t old_n, uint64_t new_n, int flags, uint64_t to)
{
    int64_t r;

    old_n = page_up(old_n);
    new_n = page_up(new_n);
    if ((addr & (CPU_PAGE_SIZE - 1)) || new_n == 0 || flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP))
        return -EINVAL;
    if (new_n > p->mm->end || old_n > p->mm->end || addr > p->mm->end - old_n)
        return -EINVAL;
    mem_lock(p->mm);
    r = remap_locked(p, addr, old_n, new_n, flags, to);
    mem_unlock(p->mm);
    return r;
}

/* ---- brk */

int64_t mem_brk(struct process *p, uint64_t end)
{
    uint64_t old, new;

    mem_lock(p->mm);
    old = page_up(p->brk_end);
    new = page_up(end);
    if (end >= p->brk_start && end < p->mm->end) {
        bool ok = true;

        if (new > old)
            ok = map_free_range(p->mm, old, new) && limits_allow(p, 0, new - old, true) && host_claim(p, old, new)
                && map_fixed(p, old, new - old, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) >= 0;
        else if (new < old)
            ok = unmap_locked(p, new, old) >= 0;
        if (ok) {
            /* what lies above a break that shrank reads as zeroes when it grows again: only whole pages were given back */
            p->brk_end = end;
        }
    }
    end = p->brk_end;
    mem_unlock(p->mm);
    return end;
}

int mem_prot(struct process *p, uint64_t addr)
{
    const struct map *m;
    int prot;

    mem_lock(p->mm);
    m = map_at(p->mm, addr);
    prot = m ? m->prot : -1;
    mem_unlock(p->mm);
    return prot;
}

int64_t mem_seal(struct process *p, uint64_t addr, uint64_t n)
{
    struct mm *mm = p->mm;
    uint64_t bytes = page_up(n);

    if ((addr & (CPU_PAGE_SIZE - 1)) || bytes < n || addr + bytes < addr)
        return -EINVAL;
    if (n == 0)
        return 0;
    if (addr + bytes > mm->end)
        return -ENOMEM;
    mem_lock(mm);
    if (!map_covered(mm, addr, addr + bytes)) {
        mem_unlock(mm);
        return -ENOMEM;
    }
    map_split(mm, addr);
    map_split(mm, addr + bytes);
    for (unsigned k = map_find(mm, addr); k < mm->count && mm->maps[k].start < addr + bytes; k++)
        mm->maps[k].sealed = true;
    mem_unlock(mm);
    return 0;
}

bool mem_sealed(struct process *p, uint64_t addr, uint64_t n)
{
    bool r = false;

    mem_lock(p->mm);
    for (unsigned k = map_find(p->mm, addr); k < p->mm->count && p->mm->maps[k].start < addr + n; k++) {
        const struct map *m = &p->mm->maps[k];

        r |= m->sealed && !m->shared && !m->name && !(m->prot & PROT_WRITE);
    }
    mem_unlock(p->mm);
    return r;
}

bool mem_file(struct process *p, uint64_t addr, struct map *out)
{
    const struct map *m;
    bool is;

    mem_lock(p->mm);
    m = map_at(p->mm, addr);
    is = m && m->ino && m->name && !m->shared;
    if (is)
        *out = *m;
    mem_unlock(p->mm);
    return is;
}

bool mem_shared(struct process *p, uint64_t addr)
{
    const struct map *m;
    bool shared;

    mem_lock(p->mm);
    m = map_at(p->mm, addr);
    shared = m && (m->shared || m->shm);
    mem_unlock(p->mm);
    return shared;
}

bool mem_covered(struct process *p, uint64_t addr, uint64_t n)
{
    bool r;

    if (n > p->mm->end || addr > p->mm->end - n)
        return false;
    mem_lock(p->mm);
    r = map_covered(p->mm, page_down(addr), page_up(addr + n));
    mem_unlock(p->mm);
    return r;
}

/* ---- System V shared memory */

int64_t mem_shmat(struct process *p, int id, uint64_t addr, int flags)
{
    struct mm *mm = p->mm;
    struct map m = { .shared = true, .shm = true, .prot = flags & SHM_RDONLY ? PROT_READ : PROT_READ | PROT_WRITE };
    struct shmid_ds ds;
    uint64_t n;
    void *got;
    int64_t r;

    if (shmctl(id, IPC_STAT, &ds) < 0)
        return -errno;
    n = page_up(ds.shm_segsz);
    if (addr & (CPU_PAGE_SIZE - 1)) {
        if (!(flags & SHM_RND))
            return -EINVAL;
        addr = page_down(addr);
    }
    if (n == 0 || n > mm->end || addr > mm->end - n)
        return -EINVAL;
    mem_lock(mm);
    if (addr && !(flags & SHM_REMAP) && !map_free_range(mm, addr, addr + n)) {
        r = -EINVAL;
        goto out;
    }
    if (addr && !host_claim(p, addr, addr + n)) {
        r = -EINVAL;
        goto out;
    }
    if (!addr && mm->reserved && !(addr = choose_address(mm, 0, n, CPU_PAGE_SIZE))) {
        r = -ENOMEM;
        goto out;
    }
    got = shmat(id, addr ? host_of(p, addr) : NULL, (flags & SHM_RDONLY) | (addr ? SHM_REMAP : 0));
    if (got == (void *)-1) {
        r = -errno;
        goto out;
    }
    m.start = (uint64_t)got - p->base;
    m.end = m.start + n;
    m.name = g_intern_string("/SYSV");
    m.ino = id;
    map_add(mm, &m);
    engine_mapped(p->engine, m.start, n);
    r = m.start;
out:
    mem_unlock(mm);
    return r;
}

int64_t mem_shmdt(struct process *p, uint64_t addr)
{
    const struct map *m;
    int64_t r = -EINVAL;

    mem_lock(p->mm);
    m = map_at(p->mm, addr);
    if (m && m->shm && m->start == addr) {
        uint64_t end = m->end;

        r = shmdt(host_of(p, addr)) < 0 ? -errno : 0;
        if (!r) {
            map_clear(p->mm, addr, end);
            engine_unmapped(p->engine, addr, end - addr);
            if (p->mm->reserved)
                host_release(p, addr, end);
        }
    }
    mem_unlock(p->mm);
    return r;
}

/* ---- what the guest sees of it */

void mem_name(struct process *p, uint64_t addr, const char *name)
{
    unsigned n;

    mem_lock(p->mm);
    n = map_find(p->mm, addr);
    if (n < p->mm->count && p->mm->maps[n].start <= addr)
        p->mm->maps[n].name = g_intern_string(name);
    mem_unlock(p->mm);
}

char *mem_maps_text(struct process *p)
{
    GString *s = g_string_new(NULL);
    struct mm *mm = p->mm;

    mem_lock(mm);
    for (unsigned n = 0; n < mm->count; n++) {
        const struct map *m = &mm->maps[n];
        const char *name = m->name;
        int width = p->guest->bits == 64 ? 12 : 8;
        gsize at = s->len;

        if (!name && m->start < p->brk_end && m->end > p->brk_start)
            name = "[heap]";
        g_string_append_printf(s, "%0*" PRIx64 "-%0*" PRIx64 " %c%c%c%c %08" PRIx64 " %02x:%02x %" PRIu64 " ", width, m->start,
                               width, m->end, m->prot & PROT_READ ? 'r' : '-', m->prot & PROT_WRITE ? 'w' : '-',
                               m->prot & PROT_EXEC ? 'x' : '-', m->shared ? 's' : 'p', m->ino ? m->offset : 0, m->dev_major,
                               m->dev_minor, m->ino);
        if (name) {
            while (s->len - at < 73)
                g_string_append_c(s, ' ');
            g_string_append(s, name);
        }
        g_string_append_c(s, '\n');
    }
    mem_unlock(mm);
    return g_string_free(s, FALSE);
}
