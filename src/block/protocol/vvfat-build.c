/* A folder of the host as a FAT file system: reading the folder, laying the tables out. */
#include "block/protocol/vvfat.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "rhea/base/log.h"

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = v;
    p[1] = v >> 8;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v);
    put16(p + 2, v >> 16);
}

/* ---- the folder */

static char *entry_path(const struct fat_entry *e)
{
    GString *s = g_string_new(e->name);

    for (e = e->parent; e && e->parent; e = e->parent) {
        g_string_prepend_c(s, '/');
        g_string_prepend(s, e->name);
    }
    if (!s->len)
        g_string_assign(s, ".");
    return g_string_free(s, FALSE);
}

int fat_open(const struct fat_entry *e, int dirfd, int flags)
{
    g_autofree char *path = entry_path(e);
    struct open_how how = { .flags = flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, .mode = flags & O_CREAT ? 0666 : 0,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };

    return syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
}

bool fat_name_ok(const char *name)
{
    if (!*name || !strcmp(name, ".") || !strcmp(name, "..") || !g_utf8_validate(name, -1, NULL) || name[strlen(name) - 1] == '.' ||
        name[strlen(name) - 1] == ' ')
        return false;
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < ' ' || strchr("\"*/:<>?\\|\x7f", *p))
            return false;
    return g_utf8_strlen(name, -1) <= FAT_NAME_MAX;
}

static void entry_free(void *arg)
{
    struct fat_entry *e = arg;

    if (e->children)
        g_ptr_array_free(e->children, TRUE);
    g_free(e->data);
    g_free(e->name);
    g_free(e);
}

static struct fat_entry *entry_new(struct fat_disk *d, struct fat_entry *parent, const char *name, const struct stat *st)
{
    struct fat_entry *e = g_new0(struct fat_entry, 1);

    e->parent = parent;
    e->name = g_strdup(name);
    e->directory = S_ISDIR(st->st_mode);
    e->read_only = !(st->st_mode & 0222);
    e->depth = parent ? parent->depth + 1 : 0;
    e->bytes = e->directory ? 0 : st->st_size;
    e->mtime = st->st_mtime;
    if (e->directory)
        e->children = g_ptr_array_new();
    if (parent)
        g_ptr_array_add(parent->children, e);
    g_ptr_array_add(d->entries, e);
    return e;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool add_child(struct fat_disk *d, struct fat_entry *dir, int fd, const char *name, GHashTable *folded, struct error *err)
{
    g_autofree char *fold = g_utf8_validate(name, -1, NULL) ? g_utf8_casefold(name, -1) : NULL;
    const char *why = NULL;
    struct stat st;

    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return true;                            /* gone meanwhile */
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        why = "is neither a file nor a folder";
    else if (!fat_name_ok(name))
        why = "has a name that FAT cannot have";
    else if (S_ISREG(st.st_mode) && st.st_size > UINT32_MAX)
        why = "is larger than FAT allows, 4 GiB";
    else if (S_ISDIR(st.st_mode) && dir->depth + 1 > FAT_DEPTH_MAX)
        why = "lies too deep";
    else if (!g_hash_table_add(folded, g_strdup(fold)))
        why = "differs from another only in upper and lower case";
    if (why) {
        warn_report("vvfat: '%s' %s: it is left out", name, why);
        return true;
    }
    if (d->entries->len >= FAT_ENTRIES_MAX)
        return error_setf(err, ERR_GENERIC, "give a folder with less in it", "more than %d files and folders", FAT_ENTRIES_MAX);
    entry_new(d, dir, name, &st);
    return true;
}

static bool scan_directory(struct fat_disk *d, struct fat_entry *dir, int dirfd, struct error *err)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) folded = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    int fd = fat_open(dir, dirfd, O_RDONLY | O_DIRECTORY);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *item;
    bool ok = true;

    if (!stream) {
        g_autofree char *path = entry_path(dir);
        int e = errno;

        if (fd >= 0)
            close(fd);
        return error_set_errno(err, e, NULL, "cannot read the folder '%s'", path);
    }
    while ((item = readdir(stream)) && names->len < FAT_ENTRIES_MAX)
        if (strcmp(item->d_name, ".") && strcmp(item->d_name, ".."))
            g_ptr_array_add(names, g_strdup(item->d_name));
    g_ptr_array_sort(names, by_name);
    for (unsigned i = 0; i < names->len && ok; i++)
        ok = add_child(d, dir, fd, names->pdata[i], folded, err);
    closedir(stream);
    return ok;
}

/* ---- names of 8 and 3: FATGEN, "Short Directory Entries" and "Generating 8.3 names" */

static bool short_char(char c)
{
    return g_ascii_isupper(c) || g_ascii_isdigit(c) || (c && strchr("$%'-_@~`!(){}^#&", c));
}

/* The name as it is, if it is one already. */
static bool name_is_short(const char *name, uint8_t out[11])
{
    const char *dot = strchr(name, '.');
    size_t base = dot ? (size_t)(dot - name) : strlen(name), ext = dot ? strlen(dot + 1) : 0;

    if (!base || base > 8 || ext > 3 || (dot && !ext))
        return false;
    memset(out, ' ', 11);
    for (size_t i = 0; i < base; i++)
        if (!short_char(out[i] = name[i]))
            return false;
    for (size_t i = 0; i < ext; i++)
        if (!short_char(out[8 + i] = dot[1 + i]))
            return false;
    return true;
}

/* One that is not taken: BASE~N.EXT. */
static void name_shorten(const char *name, GHashTable *taken, uint8_t out[11])
{
    const char *dot = strrchr(name, '.');
    char base[9] = { 0 };
    unsigned n = 0, k = 0;

    for (const char *p = name; *p && p != dot && n < 6; p++) {
        char c = g_ascii_toupper(*p);

        if (c != ' ' && c != '.')
            base[n++] = short_char(c) ? c : '_';
    }
    memset(out, ' ', 11);
    for (const char *p = dot && dot != name ? dot + 1 : ""; *p && k < 3; p++) {
        char c = g_ascii_toupper(*p);

        if (c != ' ')
            out[8 + k++] = short_char(c) ? c : '_';
    }
    for (unsigned tail = 1; tail < 1000000; tail++) {
        g_autofree char *number = g_strdup_printf("~%u", tail);
        unsigned keep = MIN(n, 8 - strlen(number));

        memset(out, ' ', 8);
        memcpy(out, base, keep);
        memcpy(out + keep, number, strlen(number));
        if (!g_hash_table_contains(taken, out))
            return;
    }
}

static guint short_hash(gconstpointer p)
{
    const uint8_t *s = p;
    guint h = 5381;

    for (unsigned i = 0; i < 11; i++)
        h = h * 33 + s[i];
    return h;
}

static gboolean short_equal(gconstpointer a, gconstpointer b)
{
    return !memcmp(a, b, 11);
}

static void names_give(struct fat_entry *dir)
{
    g_autoptr(GHashTable) taken = g_hash_table_new(short_hash, short_equal);

    for (unsigned pass = 0; pass < 2; pass++)   /* those that are short already have the first choice */
        for (unsigned i = 0; i < dir->children->len; i++) {
            struct fat_entry *e = dir->children->pdata[i];

            if (name_is_short(e->name, e->short_name) == !!pass)
                continue;
            if (pass)
                name_shorten(e->name, taken, e->short_name);
            g_hash_table_add(taken, e->short_name);
        }
}

/* ---- directories: FATGEN, "FAT Directory Structure" and "FAT Long Directory Entries" */

static unsigned lfn_entries(const struct fat_entry *e)
{
    uint8_t unused[11];
    glong units = 0;

    if (name_is_short(e->name, unused))
        return 0;
    g_free(g_utf8_to_utf16(e->name, -1, NULL, &units, NULL));
    return (units + FAT_LFN_CHARS - 1) / FAT_LFN_CHARS;
}

static uint64_t directory_bytes(const struct fat_entry *dir)
{
    uint64_t n = dir->parent ? 2 : 1;           /* "." and "..", or the label */

    for (unsigned i = 0; i < dir->children->len; i++)
        n += 1 + lfn_entries(dir->children->pdata[i]);
    return n * FAT_ENTRY;
}

static void entry_put(uint8_t *p, const uint8_t name[11], unsigned attr, uint32_t first, uint64_t bytes, time_t mtime)
{
    struct tm tm = { 0 };
    unsigned date, clock;

    localtime_r(&mtime, &tm);
    tm.tm_year = CLAMP(tm.tm_year, 80, 207);    /* 1980 to 2107 */
    date = (tm.tm_year - 80) << 9 | (tm.tm_mon + 1) << 5 | MAX(tm.tm_mday, 1);
    clock = tm.tm_hour << 11 | tm.tm_min << 5 | tm.tm_sec / 2;
    memcpy(p, name, 11);
    p[11] = attr;
    put16(p + 14, clock);
    put16(p + 16, date);
    put16(p + 18, date);
    put16(p + 20, first >> 16);
    put16(p + 22, clock);
    put16(p + 24, date);
    put16(p + 26, first);
    put32(p + 28, attr & FAT_ATTR_DIRECTORY ? 0 : bytes);
}

static uint8_t *lfn_put(uint8_t *p, const struct fat_entry *e)
{
    static const uint8_t places[FAT_LFN_CHARS] = { 1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30 };
    unsigned n = lfn_entries(e);
    uint8_t sum = 0;
    glong units = 0;
    g_autofree gunichar2 *text = g_utf8_to_utf16(e->name, -1, NULL, &units, NULL);

    for (unsigned i = 0; i < 11; i++)
        sum = (sum << 7 | sum >> 1) + e->short_name[i];
    for (unsigned k = n; k--; p += FAT_ENTRY) {
        p[0] = (k + 1) | (k == n - 1 ? 0x40 : 0);
        p[11] = FAT_ATTR_LONG_NAME;
        p[13] = sum;
        for (glong i = 0; i < FAT_LFN_CHARS; i++) {
            glong at = (glong)k * FAT_LFN_CHARS + i;

            put16(p + places[i], at < units ? text[at] : at == units ? 0 : 0xffff);
        }
    }
    return p;
}

static void directory_fill(const struct fat_disk *d, const struct fat_entry *dir, uint8_t *p)
{
    if (dir->parent) {
        /* ".." of the root's children names cluster 0, also in FAT32 */
        entry_put(p, (const uint8_t *)".          ", FAT_ATTR_DIRECTORY, dir->first, 0, dir->mtime);
        entry_put(p + FAT_ENTRY, (const uint8_t *)"..         ", FAT_ATTR_DIRECTORY, dir->parent->parent ? dir->parent->first : 0, 0,
                  dir->parent->mtime);
        p += 2 * FAT_ENTRY;
    } else {
        entry_put(p, (const uint8_t *)d->label, FAT_ATTR_VOLUME, 0, 0, dir->mtime);
        p += FAT_ENTRY;
    }
    for (unsigned i = 0; i < dir->children->len; i++) {
        const struct fat_entry *e = dir->children->pdata[i];

        p = lfn_put(p, e);
        entry_put(p, e->short_name, e->directory ? FAT_ATTR_DIRECTORY : FAT_ATTR_ARCHIVE | (e->read_only ? FAT_ATTR_READ_ONLY : 0), e->first,
                  e->bytes, e->mtime);
        p += FAT_ENTRY;
    }
}

/* ---- the layout */

/* Sizes as such disks have had. root: entries of its own place. */
static const struct { unsigned bits; bool floppy; uint32_t sectors, start, cluster, root, heads, track; } shapes[] = {
    { 12, true, 2880, 0, 1, 224, 2, 18 },       /* 1.44 MB */
    { 12, true, 5760, 0, 2, 240, 2, 36 },       /* 2.88 MB */
    { 16, true, 5760, 0, 1, 240, 2, 36 },
    { 12, false, 64 * 16 * 63, 63, 16, 512, 16, 63 },
    { 16, false, 1024 * 16 * 63, 63, 16, 512, 16, 63 },
    { 16, false, 4161536, 63, 64, 512, 16, 63 },
    { 32, false, 1024 * 16 * 63, 63, 8, 0, 16, 63 },
    { 32, false, 16 << 20, 63, 8, 0, 16, 63 },
    { 32, false, 128 << 20, 63, 64, 0, 16, 63 },
};

/* FATGEN, "FAT Data Structure": tables for as many clusters as are left beside them. */
static void layout_make(struct fat_layout *l, unsigned shape)
{
    uint32_t size;

    *l = (struct fat_layout){ .bits = shapes[shape].bits, .floppy = shapes[shape].floppy, .sectors = shapes[shape].sectors,
                              .start = shapes[shape].start, .cluster_sectors = shapes[shape].cluster, .heads = shapes[shape].heads,
                              .track = shapes[shape].track, .reserved = shapes[shape].bits == 32 ? 32 : 1,
                              .root_sectors = shapes[shape].root * FAT_ENTRY / FAT_SECTOR };
    size = l->sectors - l->start - l->reserved - l->root_sectors;
    l->clusters = size / l->cluster_sectors;
    l->fat_sectors = ((uint64_t)(l->clusters + 2) * l->bits / 4 + 1) / 2 / FAT_SECTOR + 1;
    l->clusters = (size - 2 * l->fat_sectors) / l->cluster_sectors;
    l->fat = l->start + l->reserved;
    l->root = l->fat + 2 * l->fat_sectors;
    l->data = l->root + l->root_sectors;
}

static uint32_t clusters_for(const struct fat_layout *l, uint64_t bytes)
{
    uint32_t cluster = l->cluster_sectors * FAT_SECTOR;

    return (bytes + cluster - 1) / cluster;
}

/* Gives clusters to all entries; false: there are not enough. */
static bool place(struct fat_disk *d)
{
    uint64_t next = 2;

    g_ptr_array_set_size(d->by_cluster, 0);
    for (unsigned i = 0; i < d->entries->len; i++) {
        struct fat_entry *e = d->entries->pdata[i];

        if (!e->parent && d->at.root_sectors) {
            if (e->bytes > d->at.root_sectors * FAT_SECTOR)
                return false;
            continue;
        }
        e->clusters = e->directory ? MAX(clusters_for(&d->at, e->bytes), 1) : clusters_for(&d->at, e->bytes);
        e->first = e->clusters ? next : 0;
        next += e->clusters;
        if (e->clusters)
            g_ptr_array_add(d->by_cluster, e);
        if (next > (uint64_t)d->at.clusters + 2)
            return false;
    }
    return true;
}

static bool layout_choose(struct fat_disk *d, unsigned bits, bool floppy, struct error *err)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(shapes); i++) {
        if (shapes[i].bits != bits || shapes[i].floppy != floppy)
            continue;
        layout_make(&d->at, i);
        if (place(d))
            return true;
    }
    return error_setf(err, ERR_GENERIC, bits < 32 && !floppy ? "fat-type=32 holds more (fat:32:FOLDER)" : "give a folder with less in it",
                      "the folder does not fit in FAT%u%s", bits, floppy ? " on a floppy disk" : "");
}

/* ---- tables */

static void table_put(struct fat_disk *d, uint32_t cluster, uint32_t v)
{
    uint8_t *p = d->table + (d->at.bits == 12 ? cluster + cluster / 2 : cluster * d->at.bits / 8);

    if (d->at.bits == 32)
        put32(p, v);
    else if (d->at.bits == 16)
        put16(p, v);
    else if (cluster & 1)
        put16(p, (p[0] & 15) | (v & 0xfff) << 4);
    else
        put16(p, (v & 0xfff) | (p[1] & 0xf0) << 8);
}

static void tables_fill(struct fat_disk *d)
{
    uint32_t end = 0x0fffffff, media = d->at.floppy ? 0xf0 : 0xf8;

    d->table = g_malloc0((size_t)d->at.fat_sectors * FAT_SECTOR + 4);
    table_put(d, 0, (end & ~0xffu) | media);
    table_put(d, 1, end);
    for (unsigned i = 0; i < d->by_cluster->len; i++) {
        const struct fat_entry *e = d->by_cluster->pdata[i];

        for (uint32_t k = 0; k < e->clusters; k++)
            table_put(d, e->first + k, k + 1 < e->clusters ? e->first + k + 1 : end);
    }
}

static void directories_fill(struct fat_disk *d)
{
    for (unsigned i = 0; i < d->entries->len; i++) {
        struct fat_entry *e = d->entries->pdata[i];

        if (!e->directory)
            continue;
        if (!e->parent && d->at.root_sectors) {
            d->root = g_malloc0(d->at.root_sectors * FAT_SECTOR);
            directory_fill(d, e, d->root);
        } else {
            e->data = g_malloc0((size_t)e->clusters * d->at.cluster_sectors * FAT_SECTOR);
            directory_fill(d, e, e->data);
        }
    }
}

/* Cylinder, head, sector as partition tables have them. */
static void chs_put(uint8_t *p, const struct fat_layout *l, uint32_t sector)
{
    uint32_t cylinder = sector / (l->heads * l->track);

    if (cylinder > 1023) {
        memcpy(p, (uint8_t []){ 0xfe, 0xff, 0xff }, 3);
        return;
    }
    p[0] = sector / l->track % l->heads;
    p[1] = (sector % l->track + 1) | (cylinder >> 8) << 6;
    p[2] = cylinder;
}

static void partition_put(uint8_t *mbr, const struct fat_layout *l)
{
    uint8_t *p = mbr + 446;
    uint32_t size = l->sectors - l->start;

    put32(mbr + 440, 0x52484541);               /* the disk's signature */
    p[0] = 0x80;
    chs_put(p + 1, l, l->start);
    p[4] = l->bits == 12 ? 1 : l->bits == 16 ? 6 : 12;
    chs_put(p + 5, l, l->sectors - 1);
    put32(p + 8, l->start);
    put32(p + 12, size);
    put16(mbr + 510, 0xaa55);
}

/* FATGEN, "Boot Sector and BPB Structure". */
static void boot_put(uint8_t *p, const struct fat_disk *d)
{
    const struct fat_layout *l = &d->at;
    uint32_t size = l->sectors - l->start;
    uint8_t *tail = p + (l->bits == 32 ? 64 : 36);

    memcpy(p, (uint8_t []){ 0xeb, l->bits == 32 ? 0x58 : 0x3c, 0x90 }, 3);
    memcpy(p + 3, "MSWIN4.1", 8);
    put16(p + 11, FAT_SECTOR);
    p[13] = l->cluster_sectors;
    put16(p + 14, l->reserved);
    p[16] = 2;
    put16(p + 17, l->root_sectors * FAT_SECTOR / FAT_ENTRY);
    put16(p + 19, size < 65536 && l->bits != 32 ? size : 0);
    p[21] = l->floppy ? 0xf0 : 0xf8;
    put16(p + 22, l->bits == 32 ? 0 : l->fat_sectors);
    put16(p + 24, l->track);
    put16(p + 26, l->heads);
    put32(p + 28, l->start);
    put32(p + 32, size < 65536 && l->bits != 32 ? 0 : size);
    if (l->bits == 32) {
        put32(p + 36, l->fat_sectors);
        put32(p + 44, 2);                       /* the root directory */
        put16(p + 48, 1);                       /* FSInfo */
        put16(p + 50, 6);                       /* the copy of this sector */
    }
    tail[0] = l->floppy ? 0 : 0x80;
    tail[2] = 0x29;
    put32(tail + 3, 0x52484541);
    memcpy(tail + 7, d->label, 11);
    memcpy(tail + 18, l->bits == 12 ? "FAT12   " : l->bits == 16 ? "FAT16   " : "FAT32   ", 8);
    put16(p + 510, 0xaa55);
}

static void boot_fill(struct fat_disk *d)
{
    const struct fat_entry *last = d->by_cluster->len ? d->by_cluster->pdata[d->by_cluster->len - 1] : NULL;
    uint32_t used = last ? last->first + last->clusters - 2 : 0;
    uint8_t *first, *info;

    d->boot = g_malloc0((size_t)d->at.fat * FAT_SECTOR);
    first = d->boot + (size_t)d->at.start * FAT_SECTOR;
    if (d->at.start)
        partition_put(d->boot, &d->at);
    boot_put(first, d);
    if (d->at.bits != 32)
        return;
    info = first + FAT_SECTOR;
    put32(info, 0x41615252);
    put32(info + 484, 0x61417272);
    put32(info + 488, d->at.clusters - used);
    put32(info + 492, used + 2);
    put32(info + 508, 0xaa550000);
    memcpy(first + 6 * FAT_SECTOR, first, 2 * FAT_SECTOR);
}

/* ---- all of it */

const struct fat_entry *fat_owner(const struct fat_disk *d, uint32_t cluster)
{
    unsigned low = 0, high = d->by_cluster->len;

    while (low < high) {
        unsigned mid = (low + high) / 2;
        const struct fat_entry *e = d->by_cluster->pdata[mid];

        if (cluster < e->first)
            high = mid;
        else if (cluster - e->first >= e->clusters)
            low = mid + 1;
        else
            return e;
    }
    return NULL;
}

bool fat_build(struct fat_disk *d, int dirfd, unsigned bits, bool floppy, const char *label, struct error *err)
{
    struct stat st;

    d->entries = g_ptr_array_new_with_free_func(entry_free);
    d->by_cluster = g_ptr_array_new();
    memset(d->label, ' ', sizeof(d->label));
    memcpy(d->label, label, MIN(strlen(label), sizeof(d->label)));
    if (fstat(dirfd, &st) < 0)
        return error_set_errno(err, errno, NULL, "cannot look at the folder");
    entry_new(d, NULL, "", &st);
    for (unsigned i = 0; i < d->entries->len; i++) {    /* it grows meanwhile */
        struct fat_entry *e = d->entries->pdata[i];

        if (!e->directory)
            continue;
        if (!scan_directory(d, e, dirfd, err))
            return false;
        names_give(e);
        e->bytes = directory_bytes(e);
        if (e->bytes > FAT_DIRECTORY_MAX)
            return error_setf(err, ERR_GENERIC, "give a folder with less in it", "too many files in the folder '%s'", e->name);
    }
    if (!layout_choose(d, bits ? bits : floppy ? 12 : 16, floppy, err))
        return false;
    tables_fill(d);
    directories_fill(d);
    boot_fill(d);
    return true;
}

void fat_free(struct fat_disk *d)
{
    if (d->by_cluster)
        g_ptr_array_free(d->by_cluster, TRUE);
    if (d->entries)
        g_ptr_array_free(d->entries, TRUE);
    g_free(d->boot);
    g_free(d->table);
    g_free(d->root);
    memset(d, 0, sizeof(*d));
}
