/* vvfat: a folder of the host as a disk (vvfat.h). */
#include "block/protocol/vvfat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "block/aio.h"
#include "block/graph.h"
#include "block/protocol/vvfat-sync.h"
#include "rhea/base/coroutine.h"
#include "rhea/base/log.h"
#include "rhea/base/options.h"
#include "rhea/block/node.h"

struct vvfat {
    struct fat_disk disk;
    int dirfd;
    /* For writing: the guest's sectors, which are so (a bit each), and which of them were written since the last sync. */
    int overlay;                /* -1: read-only */
    uint8_t *present, *touched;
    struct fat_sync sync;
    struct co_mutex lock;       /* one write, or a sync, at a time */
    bool changed;
    /* A guest's sync() of a FAT file system flushes no disk (Linux): what it wrote goes to the folder soon, unasked. */
    struct loop_timer *soon;    /* on the graph's loop, as what follows */
    _Atomic bool armed;
    bool syncing;
    struct co_queue synced;
};

enum { KEEP_BYTES = 1 << 20, SOON_NS = 500000000 };

static const char *const vvfat_options[] = { "dir", "fat-type", "floppy", "label", "rw", NULL };

/* ---- names */

/* fat:[rw:][floppy:][12:|16:|32:]FOLDER, the words in any order */
static struct json_object *vvfat_name_options(const char *filename, struct error *err)
{
    struct json_object *o = json_object_new_object();
    const char *dir = filename + strlen("fat:");

    for (;;) {
        if (g_str_has_prefix(dir, "rw:"))
            json_object_object_add(o, "rw", json_object_new_boolean(true));
        else if (g_str_has_prefix(dir, "floppy:"))
            json_object_object_add(o, "floppy", json_object_new_boolean(true));
        else if (g_str_has_prefix(dir, "12:") || g_str_has_prefix(dir, "16:") || g_str_has_prefix(dir, "32:"))
            json_object_object_add(o, "fat-type", json_object_new_int(atoi(dir)));
        else if (!g_str_has_prefix(dir, "ro:"))
            break;
        dir = strchr(dir, ':') + 1;
    }
    if (!*dir) {
        json_object_put(o);
        error_set(err, ERR_GENERIC, "fat: needs a folder", "fat:[rw:][floppy:][12:|16:|32:]FOLDER");
        return NULL;
    }
    json_object_object_add(o, "driver", json_object_new_string("vvfat"));
    json_object_object_add(o, "dir", json_object_new_string(dir));
    return o;
}

/* ---- reading */

/* What lies at a place of the disk: in memory (NULL: zeroes), or in an entry's file. */
struct place { const uint8_t *data; const struct fat_entry *file; uint64_t off, bytes; };

static struct place place_memory(const uint8_t *data, uint64_t start, uint64_t size, uint64_t off)
{
    return (struct place){ .data = data ? data + (off - start) : NULL, .bytes = start + size - off };
}

static struct place place_find(const struct fat_disk *d, uint64_t off)
{
    const struct fat_layout *l = &d->at;
    uint64_t cluster = (uint64_t)l->cluster_sectors * FAT_SECTOR, table = (uint64_t)l->fat_sectors * FAT_SECTOR, at = (uint64_t)l->fat * FAT_SECTOR, in;
    const struct fat_entry *e;

    if (off < at)
        return place_memory(d->boot, 0, at, off);
    for (unsigned i = 0; i < 2; i++, at += table)
        if (off < at + table)
            return place_memory(d->table, at, table, off);
    if (off < (uint64_t)l->data * FAT_SECTOR)
        return place_memory(d->root, at, (uint64_t)l->root_sectors * FAT_SECTOR, off);
    at = (uint64_t)l->data * FAT_SECTOR;
    e = fat_owner(d, 2 + (off - at) / cluster);
    if (!e)                                     /* free */
        return (struct place){ .bytes = cluster - (off - at) % cluster };
    in = off - at - (uint64_t)(e->first - 2) * cluster;
    if (e->directory)
        return place_memory(e->data, 0, (uint64_t)e->clusters * cluster, in);
    if (in >= e->bytes)                         /* the rest of the last cluster */
        return (struct place){ .bytes = (uint64_t)e->clusters * cluster - in };
    return (struct place){ .file = e, .off = in, .bytes = e->bytes - in };
}

/* A file that has gone or become shorter: an error, zeroes. */
static int read_file(struct vvfat *s, const struct place *p, struct iovec *iov, int niov, uint64_t bytes)
{
    struct aio_req r = { .op = AIO_READ, .buffered = true, .off = p->off, .bytes = bytes, .iov = iov, .niov = niov };
    int ret;

    r.fd = fat_open(p->file, s->dirfd, O_RDONLY);
    if (r.fd < 0)
        return errno == ENOENT ? -EIO : -errno;
    ret = aio_run(&r);
    close(r.fd);
    return ret;
}

static bool bit(const uint8_t *bits, uint64_t sector)
{
    return __atomic_load_n(&bits[sector / 8], __ATOMIC_ACQUIRE) >> sector % 8 & 1;
}

/* How many bytes from off on, of at most `bytes`, are all the guest's own, or all not. */
static uint64_t alike(const struct vvfat *s, uint64_t off, uint64_t bytes, bool *own)
{
    uint64_t at = off / FAT_SECTOR * FAT_SECTOR;

    *own = s->overlay >= 0 && bit(s->present, off / FAT_SECTOR);
    if (s->overlay < 0)
        return bytes;
    while (at < off + bytes && bit(s->present, at / FAT_SECTOR) == *own)
        at += FAT_SECTOR;
    return MIN(at - off, bytes);
}

static int overlay_transfer(struct vvfat *s, enum aio_op op, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct aio_req r = { .op = op, .buffered = true, .fd = s->overlay, .off = off, .bytes = bytes, .iov = iov, .niov = niov };

    return aio_run(&r);
}

static int vvfat_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct vvfat *s = n->state;
    g_autofree struct iovec *part = g_new(struct iovec, niov);
    int ret = 0;

    for (uint64_t done = 0, k; done < bytes && !ret; done += k) {
        bool own;
        struct place p = place_find(&s->disk, off + done);

        k = alike(s, off + done, MIN(p.bytes, bytes - done), &own);
        if (own)
            ret = overlay_transfer(s, AIO_READ, off + done, k, part, iov_slice(part, iov, niov, done, k));
        else if (p.file)
            ret = read_file(s, &p, part, iov_slice(part, iov, niov, done, k), k);
        else if (p.data)
            iov_write(iov, niov, done, p.data, k);
        else
            iov_zero(iov, niov, done, k);
    }
    return ret;
}

static int vvfat_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map, struct block_node **file)
{
    struct vvfat *s = n->state;
    struct place p = place_find(&s->disk, off);
    bool zero = !p.file && !p.data;
    uint64_t end = off + bytes;

    *map = off;
    *file = n;
    *n_bytes = bytes;
    if (s->overlay >= 0)
        return STATUS_ALLOCATED | STATUS_DATA;
    *n_bytes = MIN(p.bytes, bytes);
    while (off + *n_bytes < end) {              /* neighbours of the same kind */
        p = place_find(&s->disk, off + *n_bytes);
        if (zero != (!p.file && !p.data))
            break;
        *n_bytes = MIN(*n_bytes + p.bytes, bytes);
    }
    return STATUS_ALLOCATED | (zero ? STATUS_ZERO : STATUS_DATA);
}

/* ---- writing */

static void bits_set(uint8_t *bits, uint64_t off, uint64_t bytes)
{
    for (uint64_t sector = off / FAT_SECTOR; sector < (off + bytes) / FAT_SECTOR; sector++)
        __atomic_fetch_or(&bits[sector / 8], 1 << sector % 8, __ATOMIC_RELEASE);
}

static int vvfat_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct vvfat *s = n->state;
    int ret;

    co_mutex_lock(&s->lock);
    ret = overlay_transfer(s, AIO_WRITE, off, bytes, iov, niov);
    if (!ret) {
        bits_set(s->present, off, bytes);
        bits_set(s->touched, off, bytes);
        s->changed = true;
        if (!atomic_exchange(&s->armed, true))
            loop_timer_set(s->soon, host_clock_ns() + SOON_NS);
    }
    co_mutex_unlock(&s->lock);
    return ret;
}

static int sync_read(void *opaque, uint64_t off, void *buf, uint64_t bytes)
{
    struct iovec iov = { buf, bytes };

    return vvfat_preadv(opaque, off, bytes, &iov, 1);
}

static bool sync_touched(void *opaque, uint64_t off, uint64_t bytes)
{
    struct vvfat *s = ((struct block_node *)opaque)->state;

    for (uint64_t at = off; at < off + bytes; at += FAT_SECTOR)
        if (bit(s->touched, at / FAT_SECTOR))
            return true;
    return false;
}

/* What the guest sees of a file becomes its own. */
static int sync_keep(void *opaque, const struct fat_entry *e)
{
    struct block_node *n = opaque;
    struct vvfat *s = n->state;
    uint64_t cluster = (uint64_t)s->disk.at.cluster_sectors * FAT_SECTOR, at = (uint64_t)s->disk.at.data * FAT_SECTOR + (e->first - 2ull) * cluster;
    g_autofree uint8_t *buf = g_malloc(KEEP_BYTES);
    int ret = 0;

    if (!e->clusters)
        return 0;
    for (uint64_t end = at + e->clusters * cluster, k; at < end && !ret; at += k) {
        struct iovec iov = { buf, 0 };
        bool own;

        iov.iov_len = k = alike(s, at, MIN(KEEP_BYTES, end - at), &own);
        if (own)
            continue;
        ret = vvfat_preadv(n, at, k, &iov, 1);
        if (ret == -EIO) {                      /* it has gone from the folder already */
            memset(buf, 0, k);
            ret = 0;
        }
        if (!ret)
            ret = overlay_transfer(s, AIO_WRITE, at, k, &iov, 1);
        if (!ret)
            bits_set(s->present, at, k);
    }
    return ret;
}

/* [co] A state amid a change of the guest's waits for the next time. */
static int vvfat_flush(struct block_node *n)
{
    struct vvfat *s = n->state;
    int ret = 0;

    if (s->overlay < 0)
        return 0;
    co_mutex_lock(&s->lock);
    if (s->changed) {
        s->sync.opaque = n;
        ret = fat_sync(&s->sync);
        if (!ret) {
            memset(s->touched, 0, n->size / FAT_SECTOR / 8 + 1);
            s->changed = false;
        }
    }
    co_mutex_unlock(&s->lock);
    return ret == -EAGAIN ? 0 : ret;
}

static void sync_run(void *arg)
{
    struct block_node *n = arg;
    struct vvfat *s = n->state;

    vvfat_flush(n);                             /* what failed was told, and is tried again */
    s->syncing = false;
    co_queue_wake_all(&s->synced);              /* vvfat_close() goes on, and s is no more */
}

static void sync_soon(void *arg)
{
    struct vvfat *s = ((struct block_node *)arg)->state;

    if (s->syncing) {                           /* the folder is slow */
        loop_timer_set(s->soon, host_clock_ns() + SOON_NS);
        return;
    }
    s->armed = false;
    s->syncing = true;
    coroutine_start(sync_run, arg);
}

static bool writing_begin(struct block_node *n, struct vvfat *s, uint64_t size, struct error *err)
{
    s->overlay = open(g_get_tmp_dir(), O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
    if (s->overlay < 0)
        s->overlay = memfd_create("vvfat", MFD_CLOEXEC);
    if (s->overlay < 0 || ftruncate(s->overlay, size) < 0)
        return error_set_errno(err, errno, "TMPDIR=FOLDER says where", "no room for what the guest writes");
    s->present = g_malloc0(size / FAT_SECTOR / 8 + 1);
    s->touched = g_malloc0(size / FAT_SECTOR / 8 + 1);
    co_mutex_init(&s->lock);
    co_queue_init(&s->synced);
    s->soon = loop_timer_new(n->graph->loop, sync_soon, n);
    s->sync = (struct fat_sync){ .disk = &s->disk, .dirfd = s->dirfd, .read = sync_read, .touched = sync_touched, .keep = sync_keep };
    fat_sync_known(&s->sync);
    return true;
}

/* ---- opening */

static bool vvfat_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct vvfat *s = n->state;
    const char *dir = option_str(opts, "dir", NULL), *label = option_str(opts, "label", "QEMU VVFAT");
    bool floppy, rw;
    int64_t bits;

    s->dirfd = s->overlay = -1;
    if (!dir || !*dir)
        return error_set(err, ERR_GENERIC, "vvfat block driver requires a 'dir' option", "dir=FOLDER");
    if (!option_int(opts, "fat-type", 0, &bits, err) || !option_bool(opts, "floppy", false, &floppy, err) || !option_bool(opts, "rw", false, &rw, err))
        return false;
    if (bits && bits != 12 && bits != 16 && bits != 32)
        return error_set(err, ERR_GENERIC, "Valid FAT types are only 12, 16 and 32", "fat-type=16");
    if (bits == 32 && floppy)
        return error_set(err, ERR_GENERIC, "a floppy disk has FAT12 or FAT16", "leave out fat-type");
    if (strlen(label) > 11)
        return error_set(err, ERR_GENERIC, "vvfat label cannot be longer than 11 bytes", NULL);
    if (!rw && !n->read_only && !n->auto_read_only)
        return error_set(err, ERR_GENERIC, "Unable to set VVFAT to 'rw' when drive is read-only", "fat:rw:FOLDER lets the guest write, read-only=on does not");
    n->read_only |= !rw;
    n->filename = g_strdup_printf("fat:%s", dir);
    s->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dirfd < 0)
        return error_set_errno(err, errno, errno == ENOTDIR ? "vvfat is for folders" : "check the spelling", "cannot open the folder '%s'", dir);
    if (!fat_build(&s->disk, s->dirfd, bits, floppy, label, err)) {
        error_prepend(err, "%s", dir);
        return false;
    }
    n->size = (uint64_t)s->disk.at.sectors * FAT_SECTOR;
    n->limits.align = FAT_SECTOR;
    return n->read_only || writing_begin(n, s, n->size, err);
}

static void vvfat_close(struct block_node *n)
{
    struct vvfat *s = n->state;

    if (s->soon)
        loop_timer_free(s->soon);
    while (s->syncing)
        co_queue_wait(&s->synced, NULL);
    if (s->overlay >= 0) {
        if (s->soon && vvfat_flush(n))
            warn_report("%s: not all of what the guest wrote is in the folder", n->filename);
        else if (s->changed)
            warn_report("%s: what the guest wrote last is not in the folder, for the file system has %s", n->filename, s->sync.wrong);
        close(s->overlay);
    }
    if (s->sync.known)
        g_hash_table_destroy(s->sync.known);
    g_free(s->present);
    g_free(s->touched);
    fat_free(&s->disk);
    if (s->dirfd >= 0)
        close(s->dirfd);
}

BLOCK_DRIVER = {
    .name = "vvfat", .summary = "a folder as a disk with a FAT file system", .kind = DRIVER_PROTOCOL, .size = sizeof(struct vvfat),
    .scheme = "fat:", .name_options = vvfat_name_options, .options = vvfat_options, .open = vvfat_open, .close = vvfat_close,
    .preadv = vvfat_preadv, .pwritev = vvfat_pwritev, .flush = vvfat_flush, .block_status = vvfat_status,
};
