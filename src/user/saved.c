/* Translations kept between runs. A directory holds a file for each file that code was mapped from, told by its first page and
 * length (which have the build id of an ELF file), and for each way that code is translated: the build of this program, the
 * guest, its CPU model, the host's features. In it, regions are found by their offset in the mapped file and their mode.
 *
 * What makes it safe:
 *  (1) Code is used only where the guest's bytes, all that it was made from, are those that are there now. So what the file was
 *      called, whether it changed, and what the guest did to its pages does not matter.
 *  (2) The directory and its files are the user's alone: others' are not looked at. Who can write there can run code as the user.
 *  (3) A file grows by whole segments, under a lock, behind what is there. Readers take none: they map the file, know a segment by
 *      its head and an entry by its checksum, and see what is torn, cut off or overwritten as not there. Reading it may fault:
 *      user_copy().
 *  (4) A file with many segments is written anew beside the old one, which it replaces under the same lock. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>
#include "internal.h"
#include "mem.h"
#include "rhea/base/log.h"
#include "rhea/jit/codegen.h"
#include "saved.h"

enum {
    KEY_BYTES = 32, NAME_BYTES = 48,
    SEGMENTS = 32,              /* a file with so many is written anew */
    ALIKE = 4,                  /* regions of one place with different bytes: code that changes from run to run */
    LOCK_TRIES = 10,
};
#define FILE_MOST (UINT64_C(256) << 20)         /* what is larger begins anew */
#define FRESH_MOST (UINT64_C(64) << 20)         /* of one file, in memory until the end */
#define DIR_MOST (UINT64_C(2) << 30)            /* beyond that, files not used for longest go */

struct file_head { char magic[8]; uint8_t key[KEY_BYTES]; uint64_t content[2]; uint64_t reserved; };
static const char file_magic[8] = "RheaTr01";
enum { SEGMENT_MAGIC = 0x67655352 };
/* Followed by 1 << log2_buckets places of entries, from the head on in units of SAVED_ALIGN (0: none), then the entries. */
struct segment_head { uint32_t magic, log2_buckets, nentries, reserved; uint64_t size, check; };
_Static_assert(sizeof(struct file_head) == 64 && sizeof(struct segment_head) == 32, "as in files");

/* The segments of a file that were there when it was opened. */
struct view {
    const uint8_t *map;
    uint64_t size;              /* mapped */
    uint64_t end;               /* of the last whole segment */
    unsigned nsegments;
    struct { uint64_t at; struct segment_head head; } segment[SEGMENTS];
};

struct saved_file {
    dev_t dev;                  /* of the mapped file */
    ino_t ino;
    uint64_t content[2];
    char name[NAME_BYTES];      /* in the directory; "": this file's code is not saved */
    struct view view;
    bool look_again;            /* others may have written since the view was made */
    GByteArray *fresh;          /* new regions */
    GHashTable *fresh_at;       /* key_hash() -> where, + 1 */
    guint unwritten;            /* from here on in fresh */
};

struct saved {
    pthread_mutex_t lock;       /* before the translator's */
    char *dir;
    uint8_t key[KEY_BYTES];
    GPtrArray *files;
    struct saved_file *last;
    struct saved_region *entry; /* a copy of one */
    size_t entry_size;
    uint64_t loaded, made, written;
};

static uint64_t key_hash(uint64_t key, uint64_t mode)
{
    uint64_t h = (key ^ mode * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xff51afd7ed558ccd);

    return h ^ h >> 32;
}

/* ---- what translations depend on */

static int find_build_id(struct dl_phdr_info *info, size_t size, void *key)
{
    for (unsigned n = 0; n < info->dlpi_phnum; n++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[n];
        const uint8_t *at = (const uint8_t *)(info->dlpi_addr + ph->p_vaddr), *end = at + ph->p_memsz;

        while (ph->p_type == PT_NOTE && (size_t)(end - at) >= sizeof(ElfW(Nhdr))) {
            const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)at;
            size_t name = (note->n_namesz + 3) & ~3u, desc = (note->n_descsz + 3) & ~3u;

            if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && !memcmp(note + 1, "GNU", 4)) {
                g_checksum_update(key, (const uint8_t *)(note + 1) + name, note->n_descsz);
                return 1;
            }
            if (sizeof(*note) + name + desc > (size_t)(end - at))
                break;
            at += sizeof(*note) + name + desc;
        }
    }
    return -1;                          /* the program itself comes first, and it has none */
}

static bool make_key(struct saved *s, const struct guest_user *user, const char *cpu)
{
    GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
    g_autofree char *text = g_strdup_printf("%s|%s|%" PRIx64 "|", user->name, cpu ? cpu : "", codegen_host_key());
    gsize n = sizeof(s->key);
    bool ok = dl_iterate_phdr(find_build_id, sum) == 1;

    g_checksum_update(sum, (const guchar *)text, strlen(text));
    g_checksum_get_digest(sum, s->key, &n);
    g_checksum_free(sum);
    return ok;
}

/* ---- the directory */

static bool own(const struct stat *st) { return st->st_uid == geteuid() && !(st->st_mode & (S_IWGRP | S_IWOTH)); }

/* -1: not there, or not the user's alone. */
static int dir_open(const struct saved *s)
{
    int fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && own(&st))
        return fd;
    log_at(LOG_CACHE, "cache: %s: not used, since others than its owner may write there or it is somebody else's\n", s->dir);
    close(fd);
    return -1;
}

static int file_open(const struct saved *s, const char *name, int flags)
{
    int dir = dir_open(s), fd, error;
    struct stat st;

    if (dir < 0)
        return -1;
    fd = openat(dir, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    error = errno;
    close(dir);
    errno = error;
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && own(&st))
        return fd;
    log_at(LOG_CACHE, "cache: %s/%s: not used, since others than its owner may write it or it is somebody else's\n", s->dir, name);
    close(fd);
    errno = EPERM;
    return -1;
}

struct old_file { char *name; int64_t used; uint64_t size; };

static int by_use(const void *a, const void *b)
{
    const struct old_file *x = a, *y = b;

    return (x->used > y->used) - (x->used < y->used);
}

/* Before a file is added: those not used for longest go while there is too much. */
static void dir_trim(const struct saved *s)
{
    GDir *d = g_dir_open(s->dir, 0, NULL);
    GArray *files = g_array_new(FALSE, FALSE, sizeof(struct old_file));
    uint64_t total = 0;
    const char *name;
    struct stat st;

    while (d && (name = g_dir_read_name(d))) {
        g_autofree char *path = g_build_filename(s->dir, name, NULL);

        if (!strstr(name, ".rhea") || lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || !own(&st))
            continue;
        g_array_append_vals(files, &(struct old_file){ g_steal_pointer(&path), st.st_mtime, st.st_size }, 1);
        total += st.st_size;
    }
    if (d)
        g_dir_close(d);
    qsort(files->data, files->len, sizeof(struct old_file), by_use);
    for (unsigned n = 0, full = total > DIR_MOST; n < files->len; n++) {
        struct old_file *f = &g_array_index(files, struct old_file, n);

        if (full && total > DIR_MOST / 4 * 3 && unlink(f->name) == 0)
            total -= f->size;
        g_free(f->name);
    }
    g_array_free(files, TRUE);
}

/* ---- reading */

static bool view_get(const struct view *v, uint64_t at, void *to, size_t n)
{
    return at <= v->size && n <= v->size - at && !user_copy(to, v->map + at, n);
}

static bool segment_valid(const struct segment_head *h, uint64_t room)
{
    return h->magic == SEGMENT_MAGIC && h->check == jit_checksum(h, offsetof(struct segment_head, check)) && h->size <= room
        && h->size % SAVED_ALIGN == 0 && h->log2_buckets < 28 && h->nentries < 1u << h->log2_buckets
        && h->size >= sizeof(*h) + (UINT64_C(4) << h->log2_buckets);
}

static void view_close(struct view *v)
{
    if (v->map)
        munmap((void *)v->map, v->size);
    *v = (struct view){ 0 };
}

/* Maps the file and finds its segments. false: it is none of ours, or of something else. */
static bool view_open(struct view *v, const struct saved *s, const struct saved_file *f, int fd)
{
    struct file_head head;
    struct stat st;
    void *map;

    *v = (struct view){ 0 };
    if (fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(head) || (uint64_t)st.st_size > 2 * FILE_MOST)
        return false;
    map = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return false;
    v->map = map;
    v->size = st.st_size;
    v->end = sizeof(head);
    if (!view_get(v, 0, &head, sizeof(head)) || memcmp(head.magic, file_magic, 8) || memcmp(head.key, s->key, KEY_BYTES)
        || memcmp(head.content, f->content, sizeof(head.content))) {
        view_close(v);
        return false;
    }
    while (v->nsegments < SEGMENTS) {
        struct segment_head h;

        if (!view_get(v, v->end, &h, sizeof(h)) || !segment_valid(&h, v->size - v->end))
            break;
        v->segment[v->nsegments].at = v->end;
        v->segment[v->nsegments++].head = h;
        v->end += h.size;
    }
    return true;
}

/* A valid copy of the entry at `at` of a segment, in s->entry. */
static bool entry_get(struct saved *s, const struct view *v, unsigned segment, uint64_t at, const struct saved_region *head)
{
    uint64_t room = v->segment[segment].head.size;

    if (head->size < sizeof(*head) || head->size > SAVED_MOST || at > room || head->size > room - at)
        return false;
    if (s->entry_size < head->size) {
        s->entry_size = MAX(head->size, 16384);
        s->entry = g_realloc(s->entry, s->entry_size);
    }
    return view_get(v, v->segment[segment].at + at, s->entry, head->size) && jit_saved_valid(s->entry, head->size);
}

/* Goes through the valid entries of a place, newest segment first, until fn is content. */
typedef bool entry_fn(const struct saved_region *r, void *arg);
static bool view_find(struct saved *s, const struct view *v, uint64_t key, uint64_t mode, entry_fn *fn, void *arg)
{
    uint64_t hash = key_hash(key, mode);

    for (unsigned n = v->nsegments; n-- > 0;) {
        uint32_t mask = (1u << v->segment[n].head.log2_buckets) - 1;
        uint64_t at = v->segment[n].at;

        for (uint32_t tries = 0, b = hash & mask; tries <= mask; tries++, b = (b + 1) & mask) {
            struct saved_region head;
            uint32_t place;

            if (!view_get(v, at + sizeof(struct segment_head) + UINT64_C(4) * b, &place, 4) || !place)
                break;
            if (!view_get(v, at + (uint64_t)place * SAVED_ALIGN, &head, sizeof(head)) || head.key != key || head.mode != mode)
                continue;
            if (entry_get(s, v, n, (uint64_t)place * SAVED_ALIGN, &head) && fn(s->entry, arg))
                return true;
        }
    }
    return false;
}

static bool file_look(struct saved *s, struct saved_file *f)
{
    int fd = file_open(s, f->name, O_RDONLY);
    struct stat st;
    struct view v;

    f->look_again = false;
    if (fd < 0)
        return false;
    if (fstat(fd, &st) == 0 && st.st_mtime + 86400 < time(NULL))
        futimens(fd, NULL);             /* it is in use: dir_trim() */
    if (view_open(&v, s, f, fd)) {
        view_close(&f->view);
        f->view = v;
    }
    close(fd);
    return f->view.map;
}

/* The first page and the length of a file that code is mapped from. */
static bool file_identify(struct saved_file *f, const struct map *m)
{
    int fd = open(m->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    uint8_t page[CPU_PAGE_SIZE];
    struct stat st;
    ssize_t n = -1;

    if (fd < 0)
        return false;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_ino == f->ino && st.st_dev == f->dev)
        n = pread(fd, page, sizeof(page), 0);
    close(fd);
    if (n <= 0)
        return false;
    f->content[0] = jit_checksum(page, n) ^ (uint64_t)st.st_size;
    f->content[1] = jit_checksum(page + 1, n - 1) * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)st.st_size;
    return true;
}

static struct saved_file *file_get(struct saved *s, const struct map *m)
{
    dev_t dev = makedev(m->dev_major, m->dev_minor);
    struct saved_file *f = s->last;
    uint64_t key;

    if (f && f->ino == m->ino && f->dev == dev)
        return f;
    for (unsigned n = 0; n < s->files->len; n++) {
        f = s->files->pdata[n];
        if (f->ino == m->ino && f->dev == dev)
            return s->last = f;
    }
    f = g_new0(struct saved_file, 1);
    f->dev = dev;
    f->ino = m->ino;
    g_ptr_array_add(s->files, f);
    if (file_identify(f, m)) {
        key = jit_checksum(s->key, sizeof(s->key)) ^ f->content[1];
        snprintf(f->name, sizeof(f->name), "%016" PRIx64 "%016" PRIx64 ".rhea", f->content[0], key);
        f->fresh = g_byte_array_new();
        f->fresh_at = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
        file_look(s, f);
    }
    return s->last = f;
}

/* ---- translating */

struct load { struct jit *j; const struct jit_source *src; struct region *r; };

static bool load_entry(const struct saved_region *r, void *arg)
{
    struct load *l = arg;

    l->r = jit_load(l->j, l->src, r);
    return l->r;
}

/* What the process made itself, and dropped: a library that is mapped again. */
static struct region *load_fresh(struct saved_file *f, struct load *l, uint64_t hash)
{
    guint at = GPOINTER_TO_UINT(g_hash_table_lookup(f->fresh_at, &hash));
    const struct saved_region *r = at ? (const struct saved_region *)(f->fresh->data + at - 1) : NULL;

    return r && r->key == l->src->save_key && r->mode == l->src->mode ? jit_load(l->j, l->src, r) : NULL;
}

static struct region *load(struct saved *s, struct saved_file *f, struct jit *j, const struct jit_source *src)
{
    struct load l = { .j = j, .src = src };
    struct region *r = load_fresh(f, &l, key_hash(src->save_key, src->mode));

    if (r)
        return r;
    if (view_find(s, &f->view, src->save_key, src->mode, load_entry, &l)
        || (f->look_again && file_look(s, f) && view_find(s, &f->view, src->save_key, src->mode, load_entry, &l)))
        s->loaded++;
    return l.r;
}

struct region *saved_translate(struct saved *s, struct process *p, struct jit *j, struct jit_source *src, enum jit_failure *why)
{
    struct saved_file *f;
    struct region *r;
    struct map m;
    guint start;

    if (!mem_file(p, src->pc, &m))
        return jit_translate(j, src, why);
    pthread_mutex_lock(&s->lock);
    f = file_get(s, &m);
    if (!f->name[0]) {
        pthread_mutex_unlock(&s->lock);
        return jit_translate(j, src, why);
    }
    src->save_key = m.offset + (src->pc - m.start);
    r = load(s, f, j, src);
    if (!r) {
        start = f->fresh->len;
        src->save = start < FRESH_MOST ? f->fresh : NULL;
        r = jit_translate(j, src, why);
        src->save = NULL;
        s->made += r != NULL;
        if (f->fresh->len > start) {
            uint64_t hash = key_hash(src->save_key, src->mode);

            g_hash_table_replace(f->fresh_at, g_memdup2(&hash, 8), GUINT_TO_POINTER(start + 1));
        }
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}

/* ---- writing */

struct writer {
    struct saved *s;
    struct saved_file *f;
    struct view view;           /* what is in the file */
    GByteArray *entries;
    GArray *index;              /* of struct writer_row */
};
struct writer_row { uint64_t hash; uint32_t at; };      /* place in entries */

struct alike { const struct saved_region *r; unsigned n; };

/* It is there already, or too many that are nearly it. */
static bool count_alike(const struct saved_region *r, void *arg)
{
    struct alike *a = arg;
    unsigned n, k;
    const uint8_t *x = jit_saved_bytes(r, &n), *y = jit_saved_bytes(a->r, &k);

    return (n == k && r->lo == a->r->lo && !memcmp(x, y, n)) || ++a->n >= ALIKE;
}

static void writer_add(struct writer *w, const struct saved_region *r)
{
    struct writer_row row = { key_hash(r->key, r->mode), w->entries->len };

    g_byte_array_append(w->entries, (const uint8_t *)r, r->size);
    g_array_append_val(w->index, row);
}

static void writer_add_fresh(struct writer *w)
{
    for (guint at = w->f->unwritten; at < w->f->fresh->len;) {
        const struct saved_region *r = (const struct saved_region *)(w->f->fresh->data + at);
        struct alike a = { .r = r };

        if (!view_find(w->s, &w->view, r->key, r->mode, count_alike, &a))
            writer_add(w, r);
        at += r->size;
    }
}

/* All that the file has: it is written anew. */
static void writer_add_old(struct writer *w)
{
    for (unsigned n = 0; n < w->view.nsegments; n++) {
        uint32_t buckets = 1u << w->view.segment[n].head.log2_buckets;

        for (uint32_t b = 0; b < buckets; b++) {
            uint64_t at = w->view.segment[n].at;
            struct saved_region head;
            uint32_t place;

            if (view_get(&w->view, at + sizeof(struct segment_head) + UINT64_C(4) * b, &place, 4) && place
                && view_get(&w->view, at + (uint64_t)place * SAVED_ALIGN, &head, sizeof(head))
                && entry_get(w->s, &w->view, n, (uint64_t)place * SAVED_ALIGN, &head))
                writer_add(w, w->s->entry);
        }
    }
}

static bool write_all(int fd, const void *data, size_t n, uint64_t at)
{
    while (n) {
        ssize_t k = pwrite(fd, data, n, at);

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return false;
        data = (const uint8_t *)data + k;
        at += k;
        n -= k;
    }
    return true;
}

/* The head comes last: without it there is nothing. */
static bool segment_write(struct writer *w, int fd, uint64_t at)
{
    struct segment_head h = { .magic = SEGMENT_MAGIC, .log2_buckets = 4, .nentries = w->index->len };
    g_autofree uint32_t *buckets = NULL;
    uint64_t first;

    while (UINT64_C(1) << h.log2_buckets < UINT64_C(2) * h.nentries)
        h.log2_buckets++;
    buckets = g_new0(uint32_t, UINT64_C(1) << h.log2_buckets);
    first = sizeof(h) + (UINT64_C(4) << h.log2_buckets);
    h.size = first + w->entries->len;
    h.check = jit_checksum(&h, offsetof(struct segment_head, check));
    for (unsigned n = 0; n < w->index->len; n++) {
        const struct writer_row *row = &g_array_index(w->index, struct writer_row, n);
        uint32_t mask = (1u << h.log2_buckets) - 1, b = row->hash & mask;

        while (buckets[b])
            b = (b + 1) & mask;
        buckets[b] = (first + row->at) / SAVED_ALIGN;
    }
    return write_all(fd, w->entries->data, w->entries->len, at + first)
        && write_all(fd, buckets, UINT64_C(4) << h.log2_buckets, at + sizeof(h)) && write_all(fd, &h, sizeof(h), at);
}

static bool head_write(const struct writer *w, int fd)
{
    struct file_head h = { .content = { w->f->content[0], w->f->content[1] } };

    memcpy(h.magic, file_magic, sizeof(h.magic));
    memcpy(h.key, w->s->key, sizeof(h.key));
    return write_all(fd, &h, sizeof(h), 0);
}

/* A new file in place of what has the name, if anything. */
static bool file_replace(struct writer *w)
{
    g_autofree char *temporary = g_strdup_printf("%s.%d", w->f->name, (int)getpid());
    int fd = file_open(w->s, temporary, O_RDWR | O_CREAT | O_EXCL), dir;
    bool ok = fd >= 0;

    if (!ok)
        return false;
    ok = head_write(w, fd) && segment_write(w, fd, sizeof(struct file_head));
    close(fd);
    dir = dir_open(w->s);
    if (ok)
        ok = dir >= 0 && renameat(dir, temporary, dir, w->f->name) == 0;
    if (!ok && dir >= 0)
        unlinkat(dir, temporary, 0);
    if (dir >= 0)
        close(dir);
    return ok;
}

static bool writer_room(const struct writer *w)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY;      /* SIGXFSZ would be the guest's */
}

/* The file is locked, and has w->view or nothing that is to be kept. */
static bool file_add(struct writer *w, int fd, bool known)
{
    bool anew = !known || w->view.nsegments == SEGMENTS;

    writer_add_fresh(w);
    if (!w->index->len)
        return true;
    if (w->view.end + w->entries->len > FILE_MOST)
        anew = true;
    else if (anew)
        writer_add_old(w);
    if (anew)
        return file_replace(w);
    /* What lies behind is the rest of a segment whose writer did not come to its end: nobody reads it. */
    if (w->view.end < w->view.size && ftruncate(fd, w->view.end) < 0)
        return false;
    if (segment_write(w, fd, w->view.end))
        return true;
    return ftruncate(fd, w->view.end) == 0 && false;
}

/* Opens and locks the file that has the name now; -1: others keep it locked. */
static int file_lock(const struct saved *s, const struct saved_file *f, bool *created)
{
    for (unsigned tries = 0; tries < LOCK_TRIES; tries++) {
        int fd = file_open(s, f->name, O_RDWR), again;
        struct stat mine, named = { 0 };

        if (fd < 0 && errno == ENOENT) {
            dir_trim(s);
            fd = file_open(s, f->name, O_RDWR | O_CREAT);
            *created = true;
        }
        if (fd < 0)
            return -1;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &mine) == 0) {
            again = file_open(s, f->name, O_RDONLY);
            if (again >= 0) {
                if (fstat(again, &named) < 0)
                    named.st_ino = 0;
                close(again);
            }
            if (named.st_ino == mine.st_ino && named.st_dev == mine.st_dev)
                return fd;
        }
        close(fd);
        nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
    }
    return -1;
}

static void file_write(struct saved *s, struct saved_file *f)
{
    struct writer w = { .s = s, .f = f };
    bool created = false;
    int fd;

    if (!f->name[0] || f->unwritten >= f->fresh->len || !writer_room(&w))
        return;
    fd = file_lock(s, f, &created);
    if (fd < 0)
        return;
    w.entries = g_byte_array_new();
    w.index = g_array_new(FALSE, FALSE, sizeof(struct writer_row));
    if (file_add(&w, fd, view_open(&w.view, s, f, fd))) {
        s->written += w.index->len;
        f->unwritten = f->fresh->len;
    }
    view_close(&w.view);
    g_byte_array_free(w.entries, TRUE);
    g_array_free(w.index, TRUE);
    close(fd);                          /* and unlocks */
}

void saved_write(struct saved *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    for (unsigned n = 0; n < s->files->len; n++)
        file_write(s, s->files->pdata[n]);
    log_at(LOG_CACHE, "cache: regions from files: %" PRIu64 " loaded, %" PRIu64 " translated, %" PRIu64 " written\n", s->loaded, s->made,
           s->written);
    s->loaded = s->made = s->written = 0;
    pthread_mutex_unlock(&s->lock);
}

/* ---- */

void saved_fork_prepare(struct saved *s)
{
    if (s)
        pthread_mutex_lock(&s->lock);
}

void saved_fork_parent(struct saved *s)
{
    if (s)
        pthread_mutex_unlock(&s->lock);
}

void saved_fork_child(struct saved *s)
{
    if (!s)
        return;
    for (unsigned n = 0; n < s->files->len; n++) {
        struct saved_file *f = s->files->pdata[n];

        if (!f->name[0])
            continue;
        f->unwritten = f->fresh->len;
        f->look_again = true;
    }
    s->loaded = s->made = s->written = 0;
}

static void file_free(gpointer p)
{
    struct saved_file *f = p;

    view_close(&f->view);
    if (f->fresh)
        g_byte_array_free(f->fresh, TRUE);
    if (f->fresh_at)
        g_hash_table_destroy(f->fresh_at);
    g_free(f);
}

struct saved *saved_new(const char *dir, const struct guest_user *user, const char *cpu)
{
    struct saved *s;
    int fd;

    if (getauxval(AT_SECURE))           /* who calls a set-user-id program does not choose what it runs */
        return NULL;
    s = g_new0(struct saved, 1);
    pthread_mutex_init(&s->lock, NULL);
    s->dir = g_strdup(dir);
    s->files = g_ptr_array_new_with_free_func(file_free);
    mkdir(dir, 0700);
    fd = dir_open(s);
    if (fd < 0 || !make_key(s, user, cpu)) {
        log_at(LOG_CACHE, "cache: %s: %s\n", dir, fd < 0 ? "cannot be used" : "this build has no id");
        if (fd >= 0)
            close(fd);
        saved_free(s);
        return NULL;
    }
    close(fd);
    return s;
}

void saved_free(struct saved *s)
{
    if (!s)
        return;
    g_ptr_array_free(s->files, TRUE);
    pthread_mutex_destroy(&s->lock);
    g_free(s->entry);
    g_free(s->dir);
    g_free(s);
}
