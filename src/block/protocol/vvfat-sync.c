/* vvfat for writing: what the guest made of the file system goes back to the folder.
 *
 * The guest's sectors are kept apart (vvfat.c) until it flushes. Then its file system is read as a whole. Only if all of it makes sense
 * (each cluster has one owner, each chain is as long as its file, names can be the host's) is the folder changed, so that a state
 * between two writes of the guest costs nothing but time. A file takes the place of the old one by a rename; what is removed is only
 * what was shown to the guest, or came from it. */
#include "block/protocol/vvfat.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/aio.h"
#include "block/protocol/vvfat-sync.h"
#include "rhea/base/log.h"

enum { COPY_BYTES = 1 << 20 };

static uint32_t get16(const uint8_t *p)
{
    return p[0] | p[1] << 8;
}

static uint32_t get32(const uint8_t *p)
{
    return get16(p) | get16(p + 2) << 16;
}

/* ---- the guest's file system */

struct reading {
    struct fat_sync *s;
    uint8_t *table;             /* its first FAT */
    uint8_t *taken;             /* a byte a cluster */
    GPtrArray *found;           /* of struct fat_entry; the first is the root */
    const char *wrong;          /* what makes no sense */
};

static uint32_t table_get(const struct reading *r, uint32_t cluster)
{
    const struct fat_layout *l = &r->s->disk->at;
    const uint8_t *p = r->table + (l->bits == 12 ? cluster + cluster / 2 : cluster * l->bits / 8);

    if (l->bits == 32)
        return get32(p) & 0x0fffffff;
    return l->bits == 16 ? get16(p) : cluster & 1 ? get16(p) >> 4 : get16(p) & 0xfff;
}

/* The clusters from `first` on, each of which nobody else has. NULL: that makes no sense. */
static GArray *chain_take(struct reading *r, uint32_t first, uint64_t max)
{
    const struct fat_layout *l = &r->s->disk->at;
    uint32_t end = (0x0ffffff8 & ((1ull << MIN(l->bits, 28)) - 1));
    GArray *chain = g_array_new(FALSE, FALSE, sizeof(uint32_t));

    for (uint32_t c = first; c < end; c = table_get(r, c)) {
        if (c < 2 || c - 2 >= l->clusters || r->taken[c] || chain->len >= max) {
            g_array_free(chain, TRUE);
            return NULL;
        }
        r->taken[c] = 1;
        g_array_append_val(chain, c);
    }
    return chain;
}

static void found_free(void *arg)
{
    struct fat_entry *e = arg;

    if (e->chain)
        g_array_free(e->chain, TRUE);
    g_free(e->path);
    g_free(e->name);
    g_free(e);
}

static char *short_text(const uint8_t *p)
{
    /* byte 12: bits 3 and 4 say that base and extension are lower case (Windows NT) */
    GString *s = memchr(p, '.', 11) ? NULL : g_string_new(NULL);

    for (unsigned i = 0; s && i < 11; i++) {
        unsigned char c = i || p[0] != 5 ? p[i] : 0xe5;

        if (i == 8 && memcmp(p + 8, "   ", 3))
            g_string_append_c(s, '.');
        if (c != ' ' || (i < 7 && memcmp(p + i, "        ", 8 - i)))
            g_string_append_c(s, p[12] & (i < 8 ? 8 : 16) ? g_ascii_tolower(c) : c);
    }
    return s ? g_string_free(s, FALSE) : NULL;
}

/* The long name that stands before a short one: its last part comes first. */
struct lfn { gunichar2 text[260]; unsigned next, parts; uint8_t sum; };

static void lfn_take(struct lfn *l, const uint8_t *p)
{
    static const uint8_t places[FAT_LFN_CHARS] = { 1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30 };
    unsigned k = p[0] & 63;

    if (p[0] & 0x40)
        *l = (struct lfn){ .next = k, .parts = k, .sum = p[13] };
    if (!k || k > 20 || k != l->next || p[13] != l->sum) {
        l->parts = 0;
        return;
    }
    for (unsigned i = 0; i < FAT_LFN_CHARS; i++)
        l->text[(k - 1) * FAT_LFN_CHARS + i] = get16(p + places[i]);
    l->next = k - 1;
}

static char *entry_name(const struct lfn *l, const uint8_t *p)
{
    uint8_t sum = 0;
    glong units = 0;

    for (unsigned i = 0; i < 11; i++)
        sum = (sum << 7 | sum >> 1) + p[i];
    if (!l->parts || l->next || l->sum != sum)
        return short_text(p);
    while (units < l->parts * FAT_LFN_CHARS && l->text[units])
        units++;
    return g_utf16_to_utf8(l->text, units, NULL, NULL, NULL);
}

static bool entry_take(struct reading *r, struct fat_entry *dir, const struct lfn *l, const uint8_t *p, GHashTable *folded)
{
    uint64_t cluster = (uint64_t)r->s->disk->at.cluster_sectors * FAT_SECTOR;
    struct fat_entry *e = g_new0(struct fat_entry, 1);
    struct tm tm = { .tm_year = (get16(p + 24) >> 9) + 80, .tm_mon = (get16(p + 24) >> 5 & 15) - 1, .tm_mday = get16(p + 24) & 31,
                     .tm_hour = get16(p + 22) >> 11, .tm_min = get16(p + 22) >> 5 & 63, .tm_sec = (get16(p + 22) & 31) * 2, .tm_isdst = -1 };
    uint32_t first = get16(p + 26) | (r->s->disk->at.bits == 32 ? get16(p + 20) << 16 : 0);

    g_ptr_array_add(r->found, e);
    e->parent = dir;
    e->depth = dir->depth + 1;
    e->directory = p[11] & FAT_ATTR_DIRECTORY;
    e->name = entry_name(l, p);
    e->bytes = e->directory ? 0 : get32(p + 28);
    e->first = first;
    e->mtime = mktime(&tm);
    if (!e->name || !fat_name_ok(e->name) || !g_hash_table_add(folded, g_utf8_casefold(e->name, -1)))
        r->wrong = "a name that the host cannot have";
    else if (e->depth > FAT_DEPTH_MAX || r->found->len > FAT_ENTRIES_MAX)
        r->wrong = "too much of it";
    else if (!first && !e->bytes && !e->directory)
        return true;
    else if (!(e->chain = chain_take(r, first, e->directory ? FAT_DIRECTORY_MAX / FAT_SECTOR : r->s->disk->at.clusters)))
        r->wrong = "clusters with two owners, or none";
    else if (!e->directory && e->bytes > e->chain->len * cluster)
        r->wrong = "a file longer than its clusters";
    return !r->wrong;
}

static bool directory_take(struct reading *r, struct fat_entry *dir, const uint8_t *data, uint64_t bytes)
{
    g_autoptr(GHashTable) folded = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    struct lfn l = { .parts = 0 };

    for (uint64_t at = 0; at + FAT_ENTRY <= bytes && data[at]; at += FAT_ENTRY) {
        const uint8_t *p = data + at;

        if (p[0] == 0xe5) {
            l.parts = 0;
        } else if ((p[11] & FAT_ATTR_LONG_MASK) == FAT_ATTR_LONG_NAME) {
            lfn_take(&l, p);
        } else {
            if (!(p[11] & FAT_ATTR_VOLUME) && memcmp(p, ".          ", 11) && memcmp(p, "..         ", 11) && !entry_take(r, dir, &l, p, folded))
                return false;
            l.parts = 0;
        }
    }
    return true;
}

/* [co] What e's clusters hold, from byte `off` on. */
static int chain_read(struct fat_sync *s, const struct fat_entry *e, uint64_t off, uint8_t *buf, uint64_t bytes)
{
    uint64_t cluster = (uint64_t)s->disk->at.cluster_sectors * FAT_SECTOR;
    int ret = 0;

    for (uint64_t done = 0, k; done < bytes && !ret; done += k) {
        uint64_t at = (off + done) / cluster, in = (off + done) % cluster, run = 1;
        uint32_t first = g_array_index(e->chain, uint32_t, at);

        while (at + run < e->chain->len && run * cluster < bytes && g_array_index(e->chain, uint32_t, at + run) == first + run)
            run++;
        k = MIN(run * cluster - in, bytes - done);
        ret = s->read(s->opaque, (uint64_t)s->disk->at.data * FAT_SECTOR + (uint64_t)(first - 2) * cluster + in, buf + done, k);
    }
    return ret;
}

static int tree_read(struct reading *r)
{
    struct fat_sync *s = r->s;
    const struct fat_layout *l = &s->disk->at;
    uint64_t table = (uint64_t)l->fat_sectors * FAT_SECTOR, bytes;
    struct fat_entry *root = g_new0(struct fat_entry, 1);
    int ret;

    g_ptr_array_add(r->found, root);
    root->name = g_strdup("");
    root->directory = true;
    r->table = g_malloc0(table + 4);
    r->taken = g_malloc0((size_t)l->clusters + 2);
    ret = s->read(s->opaque, (uint64_t)l->fat * FAT_SECTOR, r->table, table);
    if (!ret && l->bits == 32 && !(root->chain = chain_take(r, 2, FAT_DIRECTORY_MAX / FAT_SECTOR)))
        r->wrong = "a root without clusters";
    for (unsigned i = 0; i < r->found->len && !ret && !r->wrong; i++) {
        struct fat_entry *e = r->found->pdata[i];
        g_autofree uint8_t *data = NULL;

        if (!e->directory)
            continue;
        bytes = e->chain ? (uint64_t)e->chain->len * l->cluster_sectors * FAT_SECTOR : (uint64_t)l->root_sectors * FAT_SECTOR;
        data = g_malloc(bytes);
        ret = e->chain ? chain_read(s, e, 0, data, bytes) : s->read(s->opaque, (uint64_t)l->root * FAT_SECTOR, data, bytes);
        if (!ret)
            directory_take(r, e, data, bytes);
    }
    return ret;
}

/* ---- the folder */

static char *path_of(const struct fat_entry *e)
{
    return e->parent && e->parent->parent ? g_strdup_printf("%s/%s", e->parent->path, e->name) : g_strdup(e->name);
}

/* Whether the guest has changed a file since it was last looked at. */
static bool file_changed(struct fat_sync *s, const struct fat_entry *e, const struct fat_known *k)
{
    uint64_t cluster = (uint64_t)s->disk->at.cluster_sectors * FAT_SECTOR;

    if (!k || k->directory || k->bytes != e->bytes || k->first != e->first)
        return true;
    for (unsigned i = 0; e->chain && i < e->chain->len; i++)
        if (s->touched(s->opaque, (uint64_t)s->disk->at.data * FAT_SECTOR + (uint64_t)(g_array_index(e->chain, uint32_t, i) - 2) * cluster, cluster))
            return true;
    return false;
}

/* [co] The content, into a new file beside it. */
static int file_write(struct fat_sync *s, const struct fat_entry *e, int fd)
{
    g_autofree uint8_t *buf = g_malloc(COPY_BYTES);
    int ret = 0;

    for (uint64_t off = 0, k; off < e->bytes && !ret; off += k) {
        struct iovec iov = { buf, k = MIN(COPY_BYTES, e->bytes - off) };
        struct aio_req w = { .op = AIO_WRITE, .buffered = true, .fd = fd, .off = off, .bytes = k, .iov = &iov, .niov = 1 };

        ret = chain_read(s, e, off, buf, k);
        if (!ret)
            ret = aio_run(&w);
    }
    return ret;
}

static int file_store(struct fat_sync *s, const struct fat_entry *e, const struct fat_known *old)
{
    int dir = fat_open(e->parent, s->dirfd, O_RDONLY | O_DIRECTORY), fd = -1, ret = dir < 0 ? -errno : 0;
    struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, { .tv_sec = e->mtime } };
    static const char temporary[] = ".rhea-vvfat.tmp";
    struct stat st;

    if (!ret) {
        fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
        ret = fd < 0 ? -errno : file_write(s, e, fd);
    }
    if (!ret && old && !fstatat(dir, e->name, &st, AT_SYMLINK_NOFOLLOW) && fchmod(fd, st.st_mode & 0777) < 0)
        ret = -errno;
    if (!ret && e->mtime > 0)
        futimens(fd, times);
    if (!ret && (fsync(fd) < 0 || renameat2(dir, temporary, dir, e->name, old ? 0 : RENAME_NOREPLACE) < 0))
        ret = -errno;
    if (ret && fd >= 0)
        unlinkat(dir, temporary, 0);
    if (fd >= 0)
        close(fd);
    if (dir >= 0)
        close(dir);
    return ret;
}

static int directory_store(struct fat_sync *s, const struct fat_entry *e)
{
    int dir = fat_open(e->parent, s->dirfd, O_RDONLY | O_DIRECTORY), ret = dir < 0 ? -errno : 0;

    if (!ret && mkdirat(dir, e->name, 0777) < 0)
        ret = -errno;
    if (dir >= 0)
        close(dir);
    return ret;
}

static int remove_path(struct fat_sync *s, const char *path, bool directory)
{
    const char *slash = strrchr(path, '/');
    g_autofree char *parent = slash ? g_strndup(path, slash - path) : NULL;
    struct fat_entry at = { .parent = &(struct fat_entry){ .name = (char *)"" }, .name = parent };
    int dir = parent ? fat_open(&at, s->dirfd, O_RDONLY | O_DIRECTORY) : dup(s->dirfd), ret = dir < 0 ? -errno : 0;

    if (!ret && unlinkat(dir, slash ? slash + 1 : path, directory ? AT_REMOVEDIR : 0) < 0)
        ret = -errno;
    if (dir >= 0)
        close(dir);
    return ret;
}

static void trouble(const char *what, const char *path, int ret)
{
    warn_report("vvfat: cannot %s '%s': %s", what, path, g_strerror(-ret));
}

static struct fat_known *known_new(const struct fat_entry *e)
{
    struct fat_known *k = g_new(struct fat_known, 1);

    *k = (struct fat_known){ .directory = e->directory, .first = e->first, .bytes = e->bytes };
    return k;
}

static int longest_first(const void *a, const void *b)
{
    size_t x = strlen(*(char *const *)a), y = strlen(*(char *const *)b);

    return x < y ? 1 : x > y ? -1 : 0;
}

/* The folder's file is about to go: the guest may have its clusters in another one. */
static int keep(struct fat_sync *s, struct fat_known *k)
{
    int ret = k && k->shown ? s->keep(s->opaque, k->shown) : 0;

    if (k && !ret)
        k->shown = NULL;
    return ret;
}

/* What the guest no longer has; the innermost first. */
static int remove_gone(struct fat_sync *s, GHashTable *now)
{
    g_autoptr(GPtrArray) gone = g_ptr_array_new();
    GHashTableIter it;
    void *path, *known;
    int first = 0;

    g_hash_table_iter_init(&it, s->known);
    while (g_hash_table_iter_next(&it, &path, &known))
        if (!g_hash_table_contains(now, path))
            g_ptr_array_add(gone, path);
    g_ptr_array_sort(gone, longest_first);
    for (unsigned i = 0; i < gone->len; i++) {
        struct fat_known *k = g_hash_table_lookup(s->known, gone->pdata[i]);
        int ret = keep(s, k);

        ret = ret ? ret : remove_path(s, gone->pdata[i], k->directory);
        if (ret && ret != -ENOENT && ret != -ENOTEMPTY) {   /* a folder may hold what the guest was never shown */
            trouble("remove", gone->pdata[i], ret);
            first = first ? first : ret;
        } else {
            g_hash_table_remove(s->known, gone->pdata[i]);
        }
    }
    return first;
}

static int entry_store(struct fat_sync *s, const struct fat_entry *e, struct fat_known *k)
{
    bool other = k && k->directory != e->directory;
    int ret = 0;

    if (e->directory ? k && !other : !file_changed(s, e, k))
        return 0;
    ret = keep(s, k);
    if (!ret && other)
        ret = remove_path(s, e->path, k->directory);
    if (!ret)
        ret = e->directory ? directory_store(s, e) : file_store(s, e, other ? NULL : k);
    if (!ret)
        g_hash_table_replace(s->known, g_strdup(e->path), known_new(e));
    return ret;
}

/* Folders before what is in them: parents were found first. What is new is there before the old goes. */
static int folder_change(struct fat_sync *s, GPtrArray *found)
{
    g_autoptr(GHashTable) now = g_hash_table_new(g_str_hash, g_str_equal);
    int first = 0, ret;

    for (unsigned i = 1; i < found->len; i++) {
        struct fat_entry *e = found->pdata[i];

        e->path = path_of(e);
        g_hash_table_add(now, e->path);
        ret = entry_store(s, e, g_hash_table_lookup(s->known, e->path));
        if (ret)
            trouble("write", e->path, ret);
        first = first ? first : ret;
    }
    if (first)
        return first;
    return remove_gone(s, now);
}

int fat_sync(struct fat_sync *s)
{
    struct reading r = { .s = s, .found = g_ptr_array_new_with_free_func(found_free) };
    int ret = tree_read(&r);

    s->wrong = r.wrong;
    if (!ret && !r.wrong)
        ret = folder_change(s, r.found);
    g_ptr_array_free(r.found, TRUE);
    g_free(r.table);
    g_free(r.taken);
    return !ret && r.wrong ? -EAGAIN : ret;
}

void fat_sync_known(struct fat_sync *s)
{
    s->known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (unsigned i = 1; i < s->disk->entries->len; i++) {
        const struct fat_entry *e = s->disk->entries->pdata[i];
        GString *path = g_string_new(e->name);
        struct fat_known *k;

        for (const struct fat_entry *p = e->parent; p->parent; p = p->parent) {
            g_string_prepend_c(path, '/');
            g_string_prepend(path, p->name);
        }
        k = known_new(e);
        k->shown = e->directory ? NULL : e;
        g_hash_table_insert(s->known, g_string_free(path, FALSE), k);
    }
}
