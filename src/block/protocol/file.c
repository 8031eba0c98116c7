/* Files and block devices of the host. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <glib.h>
#include "block/aio.h"
#include "block/protocol/filelock.h"
#include "rhea/base/options.h"
#include "rhea/block/node.h"

struct file {
    int fd;
    char *path;
    bool threads, locking, lock_needed;
    bool writable;              /* fd is open for writing */
    bool device;
    unsigned write_holds;
    atomic_bool no_zero_range, no_punch, no_unmap_zero;
};

static const char *const file_options[] = { "filename", "aio", "aio-max-batch", "locking", "pr-manager", "drop-cache",
                                            "x-check-cache-dropped", NULL };
static const char *const file_create_options[] = { "size", "preallocation", "nocow", "extent_size_hint", NULL };

/* ---- opening */

static const char *open_hint(int errnum, bool write, bool direct)
{
    switch (errnum) {
    case ENOENT: return "check the spelling; rhea-img create makes a new image";
    case EACCES:
    case EPERM:
        return write ? "open it with readonly=on, or change its owner or mode" : "change its owner or mode";
    case EROFS: return "its file system is mounted read-only: open it with readonly=on (rhea-io -r), or copy it elsewhere";
    case EINVAL: return direct ? "this file system has no O_DIRECT: use cache=writeback" : NULL;
    default: return NULL;
    }
}

static int file_open_fd(struct block_node *n, const char *path, bool write)
{
    return open(path,
                (write ? O_RDWR : O_RDONLY) | (n->direct ? O_DIRECT : 0) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

/* Alignment that O_DIRECT wants. */
static void file_limits(struct block_node *n, struct file *f)
{
    int sector = 512;

    n->limits.align = 1;
    n->limits.mem_align = 1;
    n->limits.discard_align = 4096;
    if (f->device && ioctl(f->fd, BLKSSZGET, &sector) < 0)
        sector = 512;
    if (n->direct) {
        n->limits.align = f->device ? sector : 4096;
        n->limits.mem_align = f->device ? MAX(sector, 512) : 4096;
#ifdef STATX_DIOALIGN
        struct statx sx;

        if (!statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) && (sx.stx_mask & STATX_DIOALIGN) &&
            sx.stx_dio_offset_align && sx.stx_dio_mem_align) {
            n->limits.align = sx.stx_dio_offset_align;
            n->limits.mem_align = sx.stx_dio_mem_align;
        }
#endif
    } else if (f->device) {
        n->limits.align = 1;
    }
}

static bool file_size_get(struct block_node *n, struct file *f, struct error *err)
{
    struct stat st;
    uint64_t bytes;

    if (fstat(f->fd, &st) < 0)
        return error_set_errno(err, errno, NULL, "%s", f->path);
    if (S_ISDIR(st.st_mode))
        return error_setf(err, ERR_GENERIC, "name a file, not a directory", "%s: is a directory", f->path);
    f->device = S_ISBLK(st.st_mode);
    if (f->device) {
        if (ioctl(f->fd, BLKGETSIZE64, &bytes) < 0)
            return error_set_errno(err, errno, NULL, "%s: cannot ask the size of the device", f->path);
    } else if (S_ISREG(st.st_mode)) {
        bytes = st.st_size;
    } else {
        return error_setf(err, ERR_GENERIC, "a disk image is a regular file or a block device",
                          "%s: neither a file nor a block device", f->path);
    }
    n->size = bytes;
    n->zero_past_end = !f->device;
    return true;
}

static bool file_aio(struct block_node *n, struct json_object *opts, struct file *f, struct error *err)
{
    const char *aio = option_str(opts, "aio", "io_uring");

    if (!strcmp(aio, "threads"))
        f->threads = true;
    else if (!strcmp(aio, "native") && !n->direct)
        return error_set(err, ERR_GENERIC, "aio=native was given, but it needs cache.direct=on",
                         "add cache=none, or use aio=io_uring, which takes any cache mode");
    else if (strcmp(aio, "native") && strcmp(aio, "io_uring"))
        return error_setf(err, ERR_GENERIC, "it is threads, native or io_uring", "unknown aio '%s'", aio);
    return true;
}

static bool file_locking(struct block_node *n, struct json_object *opts, struct file *f, struct error *err)
{
    const char *locking = option_str(opts, "locking", "auto");
    bool on = true;

    if (strcmp(locking, "auto") && !option_bool(opts, "locking", true, &on, err))
        return false;
    f->locking = on && !n->force_share;
    return true;
}

static bool file_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct file *f = n->state;
    const char *path = option_str(opts, "filename", NULL);
    uint64_t batch;

    f->fd = -1;
    if (!path || !*path)
        return error_set(err, ERR_GENERIC, "the file driver needs a filename", NULL);
    if (option_str(opts, "pr-manager", NULL))
        return error_set(err, ERR_GENERIC, "persistent reservations are not passed on to the host", "leave out pr-manager");
    if (strlen(path) >= 4096)
        return error_set(err, ERR_GENERIC, "file name is too long", NULL);
    f->path = g_strdup(path);
    g_free(n->filename);
    n->filename = g_strdup(path);
    /* a hint: one ring a loop submits all that is there */
    if (!option_size(opts, "aio-max-batch", 0, &batch, err) || !file_aio(n, opts, f, err) || !file_locking(n, opts, f, err))
        return false;
    /* with auto-read-only the file is opened for writing when somebody writes */
    f->writable = !n->read_only && !n->auto_read_only;
    f->fd = file_open_fd(n, path, f->writable);
    if (f->fd < 0) {
        return error_set_errno(err, errno, open_hint(errno, f->writable, n->direct), "cannot open '%s'%s", path,
                               f->writable ? " for writing" : "");
    }
    if (!file_size_get(n, f, err))
        return false;
    file_limits(n, f);
    return true;
}

static void file_close(struct block_node *n)
{
    struct file *f = n->state;

    if (f->fd >= 0)
        close(f->fd);
    g_free(f->path);
}

/* Readers hold "consistent read" and forbid writers; writers hold that and "write", "resize". */
static bool file_set_writable(struct block_node *n, bool write, struct error *err)
{
    struct file *f = n->state;
    int fd;

    if (write && !f->writable) {
        fd = file_open_fd(n, f->path, true);
        if (fd < 0)
            return error_set_errno(err, errno, open_hint(errno, true, n->direct), "cannot open '%s' for writing",
                                   f->path);
        if (dup3(fd, f->fd, O_CLOEXEC) < 0) {   /* requests in flight keep the number */
            close(fd);
            return error_set_errno(err, errno, NULL, "%s", f->path);
        }
        close(fd);
        f->writable = true;
    }
    if (!f->locking)
        return true;
    return filelock_set(f->fd, f->path, true, write, err);
}

/* ---- I/O */

static int file_transfer(struct block_node *n, enum aio_op op, uint64_t off, uint64_t bytes, const struct iovec *iov,
                         int niov)
{
    struct file *f = n->state;
    struct aio_req r = { .op = op, .threads = f->threads, .buffered = !n->direct, .fd = f->fd, .off = off,
                         .bytes = bytes, .iov = iov, .niov = niov };

    return aio_run(&r);
}

static int file_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    return file_transfer(n, AIO_READ, off, bytes, iov, niov);
}

static int file_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    return file_transfer(n, AIO_WRITE, off, bytes, iov, niov);
}

static bool file_submit(struct block_node *n, struct aio_req *r)
{
    struct file *f = n->state;

    r->threads = f->threads;
    r->buffered = !n->direct;
    r->fd = f->fd;
    aio_submit(r);
    return true;
}

static int file_flush(struct block_node *n)
{
    struct file *f = n->state;
    struct aio_req r = { .op = AIO_FSYNC, .threads = f->threads, .fd = f->fd };

    return aio_run(&r);
}

static int file_fallocate(struct file *f, int mode, uint64_t off, uint64_t bytes)
{
    struct aio_req r = { .op = AIO_FALLOCATE, .threads = f->threads, .fd = f->fd, .mode = mode, .off = off,
                         .bytes = bytes };

    return aio_run(&r);
}

static int file_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    struct file *f = n->state;
    int ret;

    if (f->no_punch)
        return -ENOTSUP;
    ret = file_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, bytes);
    if (ret == -EOPNOTSUPP || ret == -ENOSYS) {
        f->no_punch = true;
        ret = -ENOTSUP;
    }
    return ret;
}

struct copy { int from, to; off_t from_off, off; uint64_t bytes; };

static int copy_job(void *arg)
{
    struct copy *c = arg;

    while (c->bytes) {
        ssize_t n = copy_file_range(c->from, &c->from_off, c->to, &c->off, MIN(c->bytes, 1 << 30), 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)                             /* another file system, an end of file: the long way tells what is wrong */
            return n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO) ? -errno : -ENOTSUP;
        c->bytes -= n;
    }
    return 0;
}

static int file_copy_range(struct block_node *n, uint64_t off, struct block_node *from, uint64_t from_off, uint64_t bytes)
{
    struct file *f = n->state, *source = from->state;
    struct copy c = { source->fd, f->fd, from_off, off, bytes };

    return f->device || source->device ? -ENOTSUP : pool_run(copy_job, &c);
}

static int file_extend(struct file *f, uint64_t end)
{
    struct stat st;

    if (fstat(f->fd, &st) < 0)
        return -errno;
    return (uint64_t)st.st_size >= end || !ftruncate(f->fd, end) ? 0 : -errno;
}

static int file_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    struct file *f = n->state;
    int ret = -EOPNOTSUPP;

    if (!f->device && off >= n->size)           /* beyond the end: longer is enough */
        return file_extend(f, off + bytes);
    if ((flags & BLOCK_MAY_UNMAP) && !f->no_punch) {
        ret = file_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, bytes);
        if (!ret && !f->device && off + bytes > n->size)
            ret = file_extend(f, off + bytes);
        if (ret == -EOPNOTSUPP || ret == -ENOSYS)
            f->no_punch = true;
        else
            return ret;
    }
    if (!f->no_zero_range) {
        ret = file_fallocate(f, FALLOC_FL_ZERO_RANGE, off, bytes);
        if (ret == -EOPNOTSUPP || ret == -ENOSYS || ret == -EINVAL)
            f->no_zero_range = true;
        else
            return ret;
    }
    return -ENOTSUP;
}

static int file_preallocate_range(struct block_node *n, uint64_t off, uint64_t bytes)
{
    return file_fallocate(n->state, 0, off, bytes);
}

static int file_block_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                             struct block_node **file)
{
    struct file *f = n->state;
    off_t data, hole;

    *map = off;
    *file = n;
    *n_bytes = bytes;
    if (off >= n->size)
        return STATUS_ZERO | STATUS_ALLOCATED;
    if (f->device)
        return STATUS_DATA | STATUS_ALLOCATED | STATUS_OFFSET;
    data = lseek(f->fd, off, SEEK_DATA);
    if (data < 0) {
        if (errno != ENXIO)                     /* cannot tell */
            return STATUS_DATA | STATUS_ALLOCATED | STATUS_OFFSET;
        return STATUS_ZERO | STATUS_ALLOCATED | STATUS_OFFSET;      /* a hole up to the end */
    }
    if ((uint64_t)data > off) {
        *n_bytes = MIN(bytes, (uint64_t)data - off);
        return STATUS_ZERO | STATUS_ALLOCATED | STATUS_OFFSET;
    }
    hole = lseek(f->fd, off, SEEK_HOLE);
    if (hole > 0 && (uint64_t)hole > off)
        *n_bytes = MIN(bytes, (uint64_t)hole - off);
    return STATUS_DATA | STATUS_ALLOCATED | STATUS_OFFSET;
}

static int file_truncate(struct block_node *n, uint64_t size, struct error *err)
{
    struct file *f = n->state;

    if (f->device) {
        if (size <= n->size)
            return 0;
        error_setf(err, ERR_GENERIC, "enlarge the device itself first", "%s: a device cannot grow", f->path);
        return -ENOTSUP;
    }
    if (ftruncate(f->fd, size) < 0) {
        int ret = -errno;

        error_set_errno(err, errno, NULL, "%s: cannot resize", f->path);
        return ret;
    }
    n->size = size;
    return 0;
}

static int64_t file_allocated_size(struct block_node *n)
{
    struct file *f = n->state;
    struct stat st;

    return fstat(f->fd, &st) < 0 ? -errno : (int64_t)st.st_blocks * 512;
}

/* ---- creation */

static bool file_preallocate(int fd, const char *path, uint64_t size, const char *mode, struct error *err)
{
    if (!strcmp(mode, "off"))
        return true;
    if (strcmp(mode, "falloc") && strcmp(mode, "full"))
        return error_setf(err, ERR_GENERIC, "it is off, falloc or full", "unknown preallocation '%s'", mode);
    if (size && posix_fallocate(fd, 0, size))
        return error_set_errno(err, ENOSPC, "free some space, or use preallocation=off",
                               "%s: cannot preallocate", path);
    if (!strcmp(mode, "full")) {
        g_autofree uint8_t *zero = g_malloc0(1 << 20);

        for (uint64_t off = 0; off < size; off += 1 << 20)
            if (pwrite(fd, zero, MIN(size - off, 1 << 20), off) < 0)
                return error_set_errno(err, errno, NULL, "%s: cannot preallocate", path);
    }
    return true;
}

/* Hints to the host's file system, which need not know them: in place without copy-on-write (btrfs), extents of a size (xfs). */
static bool file_hints(int fd, struct json_object *opts, struct error *err)
{
    struct fsxattr x;
    uint64_t extent;
    bool nocow;
    int flags;

    if (!option_bool(opts, "nocow", false, &nocow, err) || !option_size(opts, "extent_size_hint", 0, &extent, err))
        return false;
    if (extent > UINT32_MAX)
        return error_set(err, ERR_GENERIC, "extent_size_hint is at most 4G - 1", NULL);
    if (nocow && !ioctl(fd, FS_IOC_GETFLAGS, &flags)) {
        flags |= FS_NOCOW_FL;
        ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
    if (extent && !ioctl(fd, FS_IOC_FSGETXATTR, &x)) {
        x.fsx_xflags |= FS_XFLAG_EXTSIZE;
        x.fsx_extsize = extent;
        ioctl(fd, FS_IOC_FSSETXATTR, &x);
    }
    return true;
}

static const char *create_hint(int errnum)
{
    switch (errnum) {
    case EISDIR: return "name a file in it";
    case EINVAL: return "a disk image is a regular file or a block device";
    case ENOENT: return "its folder is not there: mkdir -p makes it";
    case EACCES:
    case EPERM: return "choose a folder that you may write to";
    case EROFS: return "its file system is mounted read-only: choose another folder";
    case ENOSPC: return "free some space, or choose another folder";
    default: return NULL;
    }
}

static bool file_create(struct block_graph *g, const char *path, struct json_object *opts, struct error *err)
{
    uint64_t size;
    struct stat st;
    bool ok;
    int fd;

    if (!option_size(opts, "size", 0, &size, err))
        return false;
    if (size > INT64_MAX)
        return error_set(err, ERR_GENERIC, "the image would be too large", NULL);
    if (!stat(path, &st) && S_ISBLK(st.st_mode))
        return true;                            /* a device is there already */
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return error_set_errno(err, errno, create_hint(errno), "cannot create '%s'", path);
    /* never empty a file that a machine has in use */
    ok = filelock_set(fd, path, true, true, err);
    if (ok && ftruncate(fd, 0) < 0)
        ok = error_set_errno(err, errno, create_hint(errno), "cannot create '%s'", path);
    ok = ok && file_hints(fd, opts, err);       /* while the file is empty */
    if (ok && ftruncate(fd, size) < 0)
        ok = error_set_errno(err, errno, NULL, "cannot create '%s'", path);
    ok = ok && file_preallocate(fd, path, size, option_str(opts, "preallocation", "off"), err);
    close(fd);
    return ok;
}

BLOCK_DRIVER = {
    .name = "file",
    .summary = "a file of the host",
    .kind = DRIVER_PROTOCOL,
    .size = sizeof(struct file),
    .scheme = "file:",
    .options = file_options,
    .create_options = file_create_options,
    .growable = true,
    .open = file_open,
    .close = file_close,
    .set_writable = file_set_writable,
    .preadv = file_preadv,
    .pwritev = file_pwritev,
    .submit = file_submit,
    .flush = file_flush,
    .discard = file_discard,
    .copy_range = file_copy_range,
    .write_zeroes = file_write_zeroes,
    .block_status = file_block_status,
    .truncate = file_truncate,
    .preallocate = file_preallocate_range,
    .allocated_size = file_allocated_size,
    .create = file_create,
};

BLOCK_DRIVER = {
    .name = "host_device",
    .summary = "a block device of the host",
    .kind = DRIVER_PROTOCOL,
    .size = sizeof(struct file),
    .scheme = "host_device:",
    .options = file_options,
    .open = file_open,
    .close = file_close,
    .set_writable = file_set_writable,
    .preadv = file_preadv,
    .pwritev = file_pwritev,
    .submit = file_submit,
    .flush = file_flush,
    .discard = file_discard,
    .write_zeroes = file_write_zeroes,
    .block_status = file_block_status,
    .truncate = file_truncate,
    .allocated_size = file_allocated_size,
};
