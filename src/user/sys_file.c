/* System calls about files and waiting for them, where a guest's arguments are not the host's. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "rhea/base/log.h"
#include "user/mem.h"
#include "user/syscall.h"

/* ---- opening */

static int64_t do_open(struct thread *t, int dirfd, uint64_t va, int flags, uint64_t mode)
{
    char path[PATH_BYTES];
    int host_flags = open_flags_to_host(t->abi, flags);
    int64_t r = user_path(t, va, true, path);

    if (r < 0)
        return r;
    r = procfs_open(t, path, host_flags);
    return r != PROCFS_OTHER ? r : user_safe_syscall(t, SYS_openat, dirfd, (uint64_t)path, host_flags, mode, 0, 0);
}

SYS(open) { return do_open(t, AT_FDCWD, a[0], a[1], a[2]); }
SYS(openat) { return do_open(t, (int)a[0], a[1], a[2], a[3]); }
SYS(creat) { return do_open(t, AT_FDCWD, a[0], O_CREAT | O_WRONLY | O_TRUNC, a[1]); }

SYS(openat2)
{
    struct open_how how = { 0 };
    char path[PATH_BYTES];
    int64_t r;

    if (a[3] < sizeof(how))
        return -EINVAL;
    if (a[3] > sizeof(how))
        return -E2BIG;
    if (guest_read(t, &how, a[2], sizeof(how)))
        return -EFAULT;
    r = user_path(t, a[1], !(how.resolve & (RESOLVE_IN_ROOT | RESOLVE_BENEATH)), path);
    if (r < 0)
        return r;
    if (how.flags >> 31)
        return -EINVAL;
    how.flags = (unsigned)open_flags_to_host(t->abi, how.flags);
    r = procfs_open(t, path, how.flags);
    return r != PROCFS_OTHER ? r : user_safe_syscall(t, SYS_openat2, (int32_t)a[0], (uint64_t)path, (uint64_t)&how, sizeof(how), 0, 0);
}

SYS(close)
{
    if ((int32_t)a[0] == t->vfork_fd)
        return -EBADF;          /* ours */
    uring_closed(t, a[0], a[0]);
    return user_safe_syscall(t, SYS_close, (int32_t)a[0], 0, 0, 0, 0, 0);
}

SYS(dup2)
{
    if ((int32_t)a[0] != (int32_t)a[1])
        uring_closed(t, a[1], a[1]);
    return user_safe_syscall(t, SYS_dup2, (int32_t)a[0], (int32_t)a[1], 0, 0, 0, 0);
}

SYS(close_range)
{
    unsigned first = a[0], last = a[1], own = t->vfork_fd;
    int64_t r = 0;

    if (first > last)
        return -EINVAL;
    if (!(a[2] & CLOSE_RANGE_CLOEXEC))
        uring_closed(t, first, last);
    if (t->vfork_fd < 0 || own < first || own > last)
        return user_safe_syscall(t, SYS_close_range, first, last, (unsigned)a[2], 0, 0, 0);
    if (first < own)
        r = user_safe_syscall(t, SYS_close_range, first, own - 1, (unsigned)a[2], 0, 0, 0);
    return r == 0 && own < last ? user_safe_syscall(t, SYS_close_range, own + 1, last, (unsigned)a[2], 0, 0, 0) : r;
}

SYS(open_by_handle_at)
{
    return user_safe_syscall(t, SYS_open_by_handle_at, (int32_t)a[0], (uint64_t)user_ptr(t, a[1], 8),
                             open_flags_to_host(t->abi, a[2]), 0, 0, 0);
}

static int64_t with_flags(struct thread *t, long nr, uint64_t x, uint64_t y, uint64_t flags, unsigned at)
{
    uint64_t v[3] = { x, y, 0 };

    v[at] = open_flags_to_host(t->abi, flags);
    return user_safe_syscall(t, nr, v[0], v[1], v[2], 0, 0, 0);
}

SYS(dup3)
{
    uring_closed(t, a[1], a[1]);
    return with_flags(t, SYS_dup3, (int32_t)a[0], (int32_t)a[1], a[2], 2);
}
SYS(eventfd2) { return with_flags(t, SYS_eventfd2, (uint32_t)a[0], 0, a[1], 1); }
SYS(inotify_init1) { return with_flags(t, SYS_inotify_init1, 0, 0, a[0], 0); }
SYS(fanotify_init) { return with_flags(t, SYS_fanotify_init, (uint32_t)a[0], 0, a[1], 1); }
SYS(epoll_create1) { return with_flags(t, SYS_epoll_create1, 0, 0, a[0], 0); }
SYS(pipe2) { return with_flags(t, SYS_pipe2, (uint64_t)user_ptr_write(t, a[0], 8), 0, a[1], 1); }
SYS(mq_open)
{
    uint8_t attr[64];

    if (a[3] && user_get(t, LAYOUT_mq_attr, attr, a[3]))
        return -EFAULT;
    return user_safe_syscall(t, SYS_mq_open, (uint64_t)user_ptr(t, a[0], 1), open_flags_to_host(t->abi, a[1]), a[2],
                             a[3] ? (uint64_t)attr : 0, 0, 0);
}

SYS(umount)
{
    uint64_t v[6] = { a[0], 0 };

    return call_run(t, CALL_umount2, v);
}

/* ---- offsets of 64 bits */

/* Positions in directories are hashes of 64 bits to a 64-bit process (ext4), which a 32-bit guest's off_t cannot hold: its
 * readdir() would fail. It gets a number of 31 bits, and lseek() finds what that stands for, of the last ones given. */
enum { DIR_OFFSETS = 4096, DIR_OFFSET_MARK = 0x40000000 };
struct dir_offsets { struct { uint32_t cookie; uint64_t real; } slot[DIR_OFFSETS]; };

static uint64_t dir_offset_to_guest(struct process *p, uint64_t real)
{
    uint32_t cookie = DIR_OFFSET_MARK | ((uint32_t)(real ^ real >> 30) & (DIR_OFFSET_MARK - 1));

    if (real < DIR_OFFSET_MARK || real == INT64_MAX)
        return real == INT64_MAX ? INT32_MAX : real;
    pthread_mutex_lock(&p->lock);
    if (!p->dir_offsets)
        p->dir_offsets = g_new0(struct dir_offsets, 1);
    p->dir_offsets->slot[cookie % DIR_OFFSETS].cookie = cookie;
    p->dir_offsets->slot[cookie % DIR_OFFSETS].real = real;
    pthread_mutex_unlock(&p->lock);
    return cookie;
}

static uint64_t dir_offset_to_host(struct process *p, int fd, uint64_t offset)
{
    struct stat st;

    if (offset == INT32_MAX && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        return INT64_MAX;
    if (offset < DIR_OFFSET_MARK || offset > INT32_MAX || !p->dir_offsets || fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
        return offset;
    pthread_mutex_lock(&p->lock);
    if (p->dir_offsets->slot[offset % DIR_OFFSETS].cookie == offset)
        offset = p->dir_offsets->slot[offset % DIR_OFFSETS].real;
    pthread_mutex_unlock(&p->lock);
    return offset;
}

static int64_t seek_mem(struct thread *t, int fd, uint64_t offset, int whence)
{
    int64_t r = user_safe_syscall(t, SYS_lseek, fd, whence == SEEK_SET ? procfs_mem_offset(t, offset) : offset, whence, 0, 0, 0);

    return r < 0 ? r : r - (int64_t)procfs_mem_offset(t, 0);
}

static int64_t do_seek(struct thread *t, int fd, uint64_t offset, int whence)
{
    if (procfs_is_mem(t, fd))
        return seek_mem(t, fd, offset, whence);
    if (is_32bit(t) && whence == SEEK_SET)
        offset = dir_offset_to_host(t->process, fd, offset);
    return user_safe_syscall(t, SYS_lseek, fd, offset, whence, 0, 0, 0);
}

SYS(lseek) { return do_seek(t, (int)a[0], is_32bit(t) ? (uint64_t)(int32_t)a[1] : a[1], (int)a[2]); }

SYS(llseek)
{
    int64_t r = do_seek(t, (int)a[0], a[1] << 32 | (uint32_t)a[2], (int)a[4]);

    return r < 0 ? r : guest_write(t, a[3], &r, sizeof(r));
}

/* Where in the file; -1 is no place, but the file's own. */
static uint64_t place_to_host(struct thread *t, int fd, uint64_t offset)
{
    if (offset == UINT64_MAX || !procfs_is_mem(t, fd))
        return offset;
    /* What is reserved for the guest but not mapped could be read from this file; at 0 is nothing of the host's. */
    return mem_covered(t->process, offset, 1) ? procfs_mem_offset(t, offset) : 0;
}

SYS(pread64)
{
    unsigned n = 3;
    uint64_t at = place_to_host(t, (int)a[0], user_arg64(t, a, &n));

    return user_safe_syscall(t, SYS_pread64, (int32_t)a[0], (uint64_t)user_ptr_write(t, a[1], a[2]), a[2], at, 0, 0);
}

SYS(pwrite64)
{
    unsigned n = 3;
    uint64_t at = place_to_host(t, (int)a[0], user_arg64(t, a, &n));

    return user_safe_syscall(t, SYS_pwrite64, (int32_t)a[0], (uint64_t)user_ptr(t, a[1], a[2]), a[2], at, 0, 0);
}

static int64_t vector_io(struct thread *t, const uint64_t *a, long nr, bool reads, bool flags)
{
    int64_t r;
    g_autofree struct iovec *v = user_iovec(t, a[1], a[2], reads, &r);
    uint64_t at = is_32bit(t) ? (uint32_t)a[3] | a[4] << 32 : a[3];      /* 64 bits: the other half counts for nothing */

    if (!v)
        return r;
    if (nr != SYS_readv && nr != SYS_writev)
        at = place_to_host(t, (int)a[0], at);
    return user_safe_syscall(t, nr, (int32_t)a[0], (uint64_t)v, a[2], at, 0, flags ? a[5] : 0);
}

SYS(readv) { return vector_io(t, a, SYS_readv, true, false); }
SYS(writev) { return vector_io(t, a, SYS_writev, false, false); }
SYS(preadv) { return vector_io(t, a, SYS_preadv, true, false); }
SYS(pwritev) { return vector_io(t, a, SYS_pwritev, false, false); }
SYS(preadv2) { return vector_io(t, a, SYS_preadv2, true, true); }
SYS(pwritev2) { return vector_io(t, a, SYS_pwritev2, false, true); }

SYS(vmsplice)
{
    int64_t r;
    g_autofree struct iovec *v = user_iovec(t, a[1], a[2], true, &r);

    return v ? user_safe_syscall(t, SYS_vmsplice, (int32_t)a[0], (uint64_t)v, a[2], (uint32_t)a[3], 0, 0) : r;
}

SYS(truncate64)
{
    char path[PATH_BYTES];
    unsigned n = 1;
    int64_t r = user_path(t, a[0], true, path);

    return r < 0 ? r : user_safe_syscall(t, SYS_truncate, (uint64_t)path, user_arg64(t, a, &n), 0, 0, 0, 0);
}

SYS(ftruncate64)
{
    unsigned n = 1;

    return user_safe_syscall(t, SYS_ftruncate, (int32_t)a[0], user_arg64(t, a, &n), 0, 0, 0, 0);
}

SYS(fanotify_mark)
{
    char path[PATH_BYTES];
    unsigned n = 2;
    uint64_t mask = user_arg64(t, a, &n), dir = a[n], va = a[n + 1];
    int64_t r = va ? user_path(t, va, true, path) : 0;

    return r < 0 ? r : user_safe_syscall(t, SYS_fanotify_mark, (int32_t)a[0], (uint32_t)a[1], mask, (int32_t)dir, va ? (uint64_t)path : 0, 0);
}

SYS(fallocate)
{
    unsigned n = 2;
    uint64_t offset = user_arg64(t, a, &n), len = user_arg64(t, a, &n);

    return user_safe_syscall(t, SYS_fallocate, (int32_t)a[0], (int32_t)a[1], offset, len, 0, 0);
}

static int64_t advise(struct thread *t, uint64_t fd, uint64_t offset, uint64_t len, uint64_t advice)
{
    return user_safe_syscall(t, SYS_fadvise64, (int32_t)fd, offset, len, (int32_t)advice, 0, 0);
}

SYS(fadvise64)
{
    unsigned n = 1;
    uint64_t offset = user_arg64(t, a, &n);

    return advise(t, a[0], offset, a[n], a[n + 1]);
}

SYS(fadvise64_64)
{
    unsigned n = 1;
    uint64_t offset = user_arg64(t, a, &n), len = user_arg64(t, a, &n);

    return advise(t, a[0], offset, len, a[MIN(n, 5)]);
}

SYS(fadvise64_arm)
{
    unsigned n = 2;
    uint64_t offset = user_arg64(t, a, &n), len = user_arg64(t, a, &n);

    return advise(t, a[0], offset, len, a[1]);
}

SYS(readahead)
{
    unsigned n = 1;
    uint64_t offset = user_arg64(t, a, &n);

    return user_safe_syscall(t, SYS_readahead, (int32_t)a[0], offset, a[MIN(n, 5)], 0, 0, 0);
}

SYS(sync_file_range)
{
    unsigned n = 1;
    uint64_t offset = user_arg64(t, a, &n), len = user_arg64(t, a, &n);

    return user_safe_syscall(t, SYS_sync_file_range, (int32_t)a[0], offset, len, a[MIN(n, 5)], 0, 0);
}

SYS(sync_file_range2)
{
    unsigned n = 2;
    uint64_t offset = user_arg64(t, a, &n), len = user_arg64(t, a, &n);

    return user_safe_syscall(t, SYS_sync_file_range, (int32_t)a[0], offset, len, a[1], 0, 0);
}

SYS(sendfile) { return call_host(t, &(struct call){ .host = HOST_sendfile, .arg = { ARG_FD, ARG_FD,
                                 ARG(ARG_INOUT, LAYOUT_long_), ARG_ULONG } }, a); }

/* ---- struct stat, in six forms */

enum stat_form { STAT_FULL, STAT_64, STAT_OLD };

static int64_t stat_put(struct thread *t, uint64_t va, const struct stat *st, enum stat_form form)
{
    const struct abi *abi = t->abi;
    uint8_t out[160];
    size_t n;

    if (abi->column == ABI_X86_64)
        return guest_write(t, va, st, sizeof(*st));
    if (abi->stat_generic) {
        uint64_t v[] = { st->st_dev, st->st_ino, st->st_mode, st->st_nlink, st->st_uid, st->st_gid, st->st_rdev, 0, st->st_size,
            st->st_blksize, 0, st->st_blocks, st->st_atim.tv_sec, st->st_atim.tv_nsec, st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
            st->st_ctim.tv_sec, st->st_ctim.tv_nsec, 0, 0 };

        n = user_pack(abi, "2L4I2Llii7l2I", v, out);
    } else if (form == STAT_64) {
        uint64_t v[] = { st->st_dev, 0, st->st_ino, st->st_mode, st->st_nlink, st->st_uid, st->st_gid, st->st_rdev, 0, st->st_size,
            st->st_blksize, st->st_blocks, st->st_atim.tv_sec, st->st_atim.tv_nsec, st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
            st->st_ctim.tv_sec, st->st_ctim.tv_nsec, st->st_ino };

        n = user_pack(abi, "QIL2I2LQIqLQ6LQ", v, out);
    } else if (form == STAT_OLD) {
        uint64_t v[] = { st->st_dev, st->st_ino, st->st_mode, st->st_nlink, st->st_uid, st->st_gid, st->st_rdev, st->st_size,
            st->st_atim.tv_sec, st->st_mtim.tv_sec, st->st_ctim.tv_sec };

        if (st->st_size > INT32_MAX || st->st_ino > UINT16_MAX || st->st_nlink > UINT16_MAX)
            return -EOVERFLOW;
        n = user_pack(abi, "7H4L", v, out);
    } else {
        uint64_t v[] = { st->st_dev, st->st_ino, st->st_mode, st->st_nlink, MIN(st->st_uid, 65534), MIN(st->st_gid, 65534),
            st->st_rdev, st->st_size, st->st_blksize, st->st_blocks, st->st_atim.tv_sec, st->st_atim.tv_nsec,
            st->st_mtim.tv_sec, st->st_mtim.tv_nsec, st->st_ctim.tv_sec, st->st_ctim.tv_nsec, 0, 0 };

        if (st->st_size > INT32_MAX || st->st_ino > UINT32_MAX)
            return -EOVERFLOW;
        n = user_pack(abi, "2L4H4L6L2L", v, out);
    }
    return guest_write(t, va, out, n);
}

static int64_t do_stat(struct thread *t, int dirfd, uint64_t path_va, uint64_t va, int flags, enum stat_form form)
{
    char path[PATH_BYTES];
    struct stat st;
    int64_t r = 0;

    if (path_va || !(flags & AT_EMPTY_PATH))
        r = user_path(t, path_va, !(flags & AT_SYMLINK_NOFOLLOW) || t->process->options->prefix, path);
    else
        path[0] = 0;
    if (r == 0)
        r = user_safe_syscall(t, SYS_newfstatat, dirfd, (uint64_t)path, (uint64_t)&st, flags, 0, 0);
    return r < 0 ? r : stat_put(t, va, &st, form);
}

static int64_t do_fstat(struct thread *t, const uint64_t *a, enum stat_form form)
{
    struct stat st;
    int64_t r = user_safe_syscall(t, SYS_fstat, (int32_t)a[0], (uint64_t)&st, 0, 0, 0, 0);

    return r < 0 ? r : stat_put(t, a[1], &st, form);
}

SYS(stat) { return do_stat(t, AT_FDCWD, a[0], a[1], 0, STAT_FULL); }
SYS(lstat) { return do_stat(t, AT_FDCWD, a[0], a[1], AT_SYMLINK_NOFOLLOW, STAT_FULL); }
SYS(fstat) { return do_fstat(t, a, STAT_FULL); }
SYS(fstatat) { return do_stat(t, (int)a[0], a[1], a[2], (int)a[3], STAT_FULL); }
SYS(stat64) { return do_stat(t, AT_FDCWD, a[0], a[1], 0, STAT_64); }
SYS(lstat64) { return do_stat(t, AT_FDCWD, a[0], a[1], AT_SYMLINK_NOFOLLOW, STAT_64); }
SYS(fstat64) { return do_fstat(t, a, STAT_64); }
SYS(oldstat) { return do_stat(t, AT_FDCWD, a[0], a[1], 0, STAT_OLD); }
SYS(oldlstat) { return do_stat(t, AT_FDCWD, a[0], a[1], AT_SYMLINK_NOFOLLOW, STAT_OLD); }
SYS(oldfstat) { return do_fstat(t, a, STAT_OLD); }
SYS(fstatat64) { return do_stat(t, (int)a[0], a[1], a[2], (int)a[3], STAT_64); }

/* ---- struct statfs */

static int64_t statfs_put(struct thread *t, uint64_t va, const struct statfs *s, bool wide)
{
    struct abi abi = *t->abi;
    uint32_t id[2];
    uint8_t out[160];
    size_t n;

    memcpy(id, &s->f_fsid, sizeof(id));
    {
        uint64_t v[16] = { s->f_type, s->f_bsize, s->f_blocks, s->f_bfree, s->f_bavail, s->f_files, s->f_ffree, id[0], id[1],
                           s->f_namelen, s->f_frsize, s->f_flags };

        if (!wide && abi.bits == 32 && (s->f_blocks | s->f_bfree | s->f_bavail) > UINT32_MAX)
            return -EOVERFLOW;
        if (wide && abi.column == ABI_ARM)
            abi.align64 = 4;    /* packed there: 84 bytes, as i386's */
        n = user_pack(&abi, wide ? "2I5Q2i3I4I" : "7L2i3L4L", v, out);
    }
    return guest_write(t, va, out, n);
}

static int64_t do_statfs(struct thread *t, uint64_t path_va, uint64_t va, bool wide)
{
    char path[PATH_BYTES];
    struct statfs s;
    int64_t r = user_path(t, path_va, true, path);

    if (r == 0)
        r = user_safe_syscall(t, SYS_statfs, (uint64_t)path, (uint64_t)&s, 0, 0, 0, 0);
    return r < 0 ? r : statfs_put(t, va, &s, wide);
}

static int64_t do_fstatfs(struct thread *t, uint64_t fd, uint64_t va, bool wide)
{
    struct statfs s;
    int64_t r = user_safe_syscall(t, SYS_fstatfs, (int32_t)fd, (uint64_t)&s, 0, 0, 0, 0);

    return r < 0 ? r : statfs_put(t, va, &s, wide);
}

static bool statfs64_size_ok(struct thread *t, uint64_t n)
{
    return t->abi->column == ABI_ARM ? n == 84 || n == 88 : n == (t->abi->align64 == 4 ? 84 : 88);
}

SYS(statfs) { return do_statfs(t, a[0], a[1], false); }
SYS(fstatfs) { return do_fstatfs(t, a[0], a[1], false); }
SYS(statfs64) { return statfs64_size_ok(t, a[1]) ? do_statfs(t, a[0], a[2], true) : -EINVAL; }
SYS(fstatfs64) { return statfs64_size_ok(t, a[1]) ? do_fstatfs(t, a[0], a[2], true) : -EINVAL; }

/* struct ustat: blocks, inodes, two names of six bytes */
SYS(ustat)
{
    struct { int32_t blocks; uint64_t inodes; char names[12]; } u = { 0 };
    int64_t r = user_safe_syscall(t, SYS_ustat, (uint32_t)a[0], (uint64_t)&u, 0, 0, 0, 0);
    uint64_t v[] = { u.blocks, u.inodes };
    uint8_t out[32] = { 0 };
    size_t n;

    if (r < 0)
        return r;
    n = user_pack(t->abi, "iL", v, out);
    return guest_write(t, a[1], out, n + 12);
}

/* ---- links and directories */

static int64_t do_readlink(struct thread *t, int dirfd, uint64_t path_va, uint64_t va, int size)
{
    char path[PATH_BYTES], out[PATH_BYTES];
    int64_t r;

    if (size <= 0)
        return -EINVAL;
    r = user_path(t, path_va, false, path);
    if (r < 0)
        return r;
    r = procfs_readlink(t, path, out, MIN(size, sizeof(out)));
    if (r == PROCFS_OTHER) {
        r = user_path(t, path_va, true, path);
        if (r == 0)
            r = user_safe_syscall(t, SYS_readlinkat, dirfd, (uint64_t)path, (uint64_t)out, MIN(size, sizeof(out)), 0, 0);
    }
    return r > 0 && guest_write(t, va, out, r) ? -EFAULT : r;
}

SYS(readlink) { return do_readlink(t, AT_FDCWD, a[0], a[1], (int)a[2]); }
SYS(readlinkat) { return do_readlink(t, (int)a[0], a[1], a[2], (int)a[3]); }

SYS(getcwd)
{
    char path[PATH_BYTES];
    int64_t r = user_safe_syscall(t, SYS_getcwd, (uint64_t)path, sizeof(path), 0, 0, 0, 0);

    if (r < 0)
        return r;
    return (uint64_t)r > a[1] ? -ERANGE : guest_write(t, a[0], path, r) ? -EFAULT : r;
}

struct host_dirent { uint64_t ino, off; uint16_t reclen; uint8_t type; char name[]; };

SYS(getdents64)
{
    unsigned count = MIN((unsigned)a[2], 65536);
    g_autofree uint8_t *buf = NULL;
    int64_t r;

    if (!is_32bit(t))
        return user_safe_syscall(t, SYS_getdents64, (int32_t)a[0], (uint64_t)user_ptr_write(t, a[1], a[2]), (uint32_t)a[2], 0, 0, 0);
    buf = g_malloc(count + 8);
    r = user_safe_syscall(t, SYS_getdents64, (int32_t)a[0], (uint64_t)buf, count, 0, 0, 0);
    for (int64_t at = 0; at < r; at += ((struct host_dirent *)(buf + at))->reclen) {
        struct host_dirent *d = (struct host_dirent *)(buf + at);

        d->off = dir_offset_to_guest(t->process, d->off);
    }
    return r > 0 && guest_write(t, a[1], buf, r) ? -EFAULT : r;
}

/* struct linux_dirent of 32-bit guests: ino, off, reclen, name, and the type in the record's last byte. Records shrink, so
 * what the host gave fits. */
SYS(getdents)
{
    struct host_dirent *d;
    unsigned count = MIN((unsigned)a[2], 65536), at = 0, out = 0;
    g_autofree uint8_t *buf = NULL, *guest = NULL;
    int64_t r;

    if (!is_32bit(t))
        return user_safe_syscall(t, SYS_getdents, (int32_t)a[0], (uint64_t)user_ptr_write(t, a[1], a[2]), (uint32_t)a[2], 0, 0, 0);
    buf = g_malloc(count + 8);
    guest = g_malloc(count + 8);
    r = user_safe_syscall(t, SYS_getdents64, (int32_t)a[0], (uint64_t)buf, count, 0, 0, 0);
    for (; r > 0 && at < r; at += d->reclen) {
        unsigned len, size;
        uint32_t v[2];

        d = (struct host_dirent *)(buf + at);
        len = strlen(d->name);
        size = (10 + len + 2 + 3) & ~3u;
        v[0] = d->ino, v[1] = dir_offset_to_guest(t->process, d->off);
        memset(guest + out, 0, size);
        memcpy(guest + out, v, 8);
        memcpy(guest + out + 8, &(uint16_t){ size }, 2);
        memcpy(guest + out + 10, d->name, len);
        guest[out + size - 1] = d->type;
        out += size;
    }
    return r <= 0 ? r : guest_write(t, a[1], guest, out) ? -EFAULT : (int64_t)out;
}

/* ---- fcntl */

enum { GUEST_F_GETLK = 5, GUEST_F_SETLK, GUEST_F_SETLKW, GUEST_F_GETLK64 = 12, GUEST_F_SETLK64, GUEST_F_SETLKW64 };

static int64_t fcntl_lock(struct thread *t, const uint64_t *a, int host_command, enum layout l)
{
    struct flock lock;
    int64_t r;

    if (user_get(t, l, &lock, a[2]))
        return -EFAULT;
    r = user_safe_syscall(t, SYS_fcntl, (int32_t)a[0], host_command, (uint64_t)&lock, 0, 0, 0);
    if (r < 0 || (host_command != F_GETLK && host_command != F_OFD_GETLK))
        return r;
    if (l == LAYOUT_flock && is_32bit(t) && lock.l_start > INT32_MAX)
        return -EOVERFLOW;
    return user_put(t, l, a[2], &lock);
}

SYS(fcntl)
{
    int command = (int)a[1];
    int64_t r;

    switch (command) {
    case GUEST_F_GETLK: case GUEST_F_SETLK: case GUEST_F_SETLKW:
        return fcntl_lock(t, a, command, LAYOUT_flock);
    case GUEST_F_GETLK64: case GUEST_F_SETLK64: case GUEST_F_SETLKW64:
        return is_32bit(t) ? fcntl_lock(t, a, command - GUEST_F_GETLK64 + F_GETLK, LAYOUT_flock64) : -EINVAL;
    case F_OFD_GETLK: case F_OFD_SETLK: case F_OFD_SETLKW:
        return fcntl_lock(t, a, command, LAYOUT_flock64);
    case F_GETFL:
        r = user_safe_syscall(t, SYS_fcntl, (int32_t)a[0], command, 0, 0, 0, 0);
        return r < 0 ? r : open_flags_to_guest(t->abi, r);
    case F_SETFL:
        return user_safe_syscall(t, SYS_fcntl, (int32_t)a[0], command, open_flags_to_host(t->abi, a[2]), 0, 0, 0);
    case F_GETOWN_EX: case F_GET_RW_HINT: case F_GET_FILE_RW_HINT:
        return user_safe_syscall(t, SYS_fcntl, (int32_t)a[0], command, (uint64_t)user_ptr_write(t, a[2], 8), 0, 0, 0);
    case F_SETOWN_EX: case F_SET_RW_HINT: case F_SET_FILE_RW_HINT:
        return user_safe_syscall(t, SYS_fcntl, (int32_t)a[0], command, (uint64_t)user_ptr(t, a[2], 8), 0, 0, 0);
    case F_DUPFD: case F_DUPFD_CLOEXEC: case F_GETFD: case F_SETFD: case F_GETOWN: case F_SETOWN: case F_GETSIG: case F_SETSIG:
    case F_GETLEASE: case F_SETLEASE: case F_NOTIFY: case F_GETPIPE_SZ: case F_SETPIPE_SZ: case F_ADD_SEALS: case F_GET_SEALS:
        return user_safe_syscall(t, SYS_fcntl, (int32_t)a[0], command, is_32bit(t) ? (uint64_t)(int32_t)a[2] : a[2], 0, 0, 0);
    default:
        log_at(LOG_UNIMP, "fcntl: command %d is not implemented\n", command);
        return -EINVAL;
    }
}

SYS(fcntl64) { return sys_fcntl(t, a); }

/* ---- waiting */

/* The signal mask of ppoll, pselect and epoll_pwait: the host's for the call; NULL: none given. *r: -errno. */
static uint64_t *wait_mask(struct thread *t, uint64_t va, uint64_t bytes, uint64_t *mask, int64_t *r)
{
    *r = 0;
    if (!va)
        return NULL;
    if (bytes != sizeof(*mask))
        *r = -EINVAL;
    else if (guest_read(t, mask, va, sizeof(*mask)))
        *r = -EFAULT;
    else {
        signal_during(t, *mask);
        *mask = signal_host_mask(*mask);
    }
    return mask;
}

static int64_t do_ppoll(struct thread *t, const uint64_t *a, enum layout l)
{
    struct timespec ts;
    uint64_t mask, *m;
    int64_t r;

    if (a[2] && user_get(t, l, &ts, a[2]))
        return -EFAULT;
    m = wait_mask(t, a[3], a[4], &mask, &r);
    if (r < 0)
        return r;
    r = user_safe_syscall(t, SYS_ppoll, (uint64_t)user_ptr_write(t, a[0], MIN(a[1], 65536) * sizeof(struct pollfd)), (uint32_t)a[1],
                          a[2] ? (uint64_t)&ts : 0, (uint64_t)m, sizeof(mask), 0);
    if (a[2] && r != USER_RESTART)
        user_put(t, l, a[2], &ts);
    return r;
}

SYS(ppoll) { return do_ppoll(t, a, LAYOUT_timespec); }
SYS(ppoll_time64) { return do_ppoll(t, a, LAYOUT_timespec64); }

/* Sets are words of the guest's size in order: the same bytes on little-endian machines. mask: address and size in memory. */
static int64_t do_select(struct thread *t, const uint64_t *a, struct timespec *ts, uint64_t mask_va, uint64_t mask_bytes)
{
    unsigned bytes = (MIN((unsigned)a[0], 65536) + 7) / 8;
    struct { uint64_t *mask; uint64_t size; } arg = { NULL, sizeof(uint64_t) };
    uint64_t mask, pad[3][1024];
    void *sets[3];
    int64_t r;

    if ((int)a[0] < 0)
        return -EINVAL;
    for (unsigned n = 0; n < 3; n++) {
        sets[n] = user_ptr_write(t, a[n + 1], bytes);
        /* the kernel works in words of 64 bits, the guest's set may end in half a one */
        if (sets[n] && is_32bit(t) && bytes <= sizeof(pad[n])) {
            pad[n][bytes ? (bytes - 1) / 8 : 0] = 0;
            if (guest_read(t, pad[n], a[n + 1], (bytes + 3) & ~3u))
                return -EFAULT;
            sets[n] = pad[n];
        }
    }
    arg.mask = wait_mask(t, mask_va, mask_bytes, &mask, &r);
    if (r < 0)
        return r;
    r = user_safe_syscall(t, SYS_pselect6, (int32_t)a[0], (uint64_t)sets[0], (uint64_t)sets[1], (uint64_t)sets[2], (uint64_t)ts,
                          arg.mask ? (uint64_t)&arg : 0);
    for (unsigned n = 0; r >= 0 && n < 3; n++)
        if (sets[n] == pad[n] && guest_write(t, a[n + 1], pad[n], (bytes + 3) & ~3u))
            return -EFAULT;
    return r;
}

SYS(select)
{
    struct timeval tv = { 0 };
    struct timespec ts;
    int64_t r;

    if (a[4]) {
        if (user_get(t, LAYOUT_timeval, &tv, a[4]))
            return -EFAULT;
        if (tv.tv_sec < 0 || tv.tv_usec < 0)
            return -EINVAL;
        ts = (struct timespec){ tv.tv_sec + tv.tv_usec / 1000000, tv.tv_usec % 1000000 * 1000 };
    }
    r = do_select(t, a, a[4] ? &ts : NULL, 0, 0);
    if (a[4] && r != USER_RESTART) {
        tv = (struct timeval){ ts.tv_sec, ts.tv_nsec / 1000 };
        user_put(t, LAYOUT_timeval, a[4], &tv);
    }
    return r;
}

static int64_t do_pselect(struct thread *t, const uint64_t *a, enum layout l)
{
    unsigned word = t->abi->bits / 8;
    uint64_t mask[2] = { 0 };
    struct timespec ts;
    int64_t r;

    if (a[4] && user_get(t, l, &ts, a[4]))
        return -EFAULT;
    if (a[5] && (guest_read(t, &mask[0], a[5], word) || guest_read(t, &mask[1], a[5] + word, word)))
        return -EFAULT;
    r = do_select(t, a, a[4] ? &ts : NULL, mask[0], mask[1]);
    if (a[4] && r != USER_RESTART)
        user_put(t, l, a[4], &ts);
    return r;
}

SYS(pselect6) { return do_pselect(t, a, LAYOUT_timespec); }
SYS(pselect6_time64) { return do_pselect(t, a, LAYOUT_timespec64); }

/* struct epoll_event is 12 bytes on x86 and 16 elsewhere. */
enum { EPOLL_EVENTS_MAX = 1 << 20 };      /* no process has more files, but by a limit that was raised */

SYS(epoll_ctl)
{
    struct epoll_event ev = { 0 };
    unsigned data_at = t->abi->packed_epoll ? 4 : 8;
    uint64_t data;

    if (a[3]) {
        if (guest_read(t, &ev.events, a[3], 4) || guest_read(t, &data, a[3] + data_at, 8))
            return -EFAULT;
        ev.data.u64 = data;
    }
    return user_safe_syscall(t, SYS_epoll_ctl, (int32_t)a[0], (int32_t)a[1], (int32_t)a[2], a[3] ? (uint64_t)&ev : 0, 0, 0);
}

static int64_t do_epoll(struct thread *t, const uint64_t *a, const struct timespec *ts, bool nanoseconds, uint64_t mask_va, uint64_t bytes)
{
    int count = (int)a[2];
    bool packed = t->abi->packed_epoll;
    g_autofree struct epoll_event *ev = NULL;
    uint64_t mask, *m;
    int64_t r;

    if (count <= 0 || count > INT_MAX / (packed ? 12 : 16))     /* EP_MAX_EVENTS */
        return -EINVAL;
    count = MIN(count, EPOLL_EVENTS_MAX);
    m = wait_mask(t, mask_va, bytes, &mask, &r);
    if (r < 0)
        return r;
    ev = g_new(struct epoll_event, count);
    if (nanoseconds)
        r = user_safe_syscall(t, SYS_epoll_pwait2, (int32_t)a[0], (uint64_t)ev, count, (uint64_t)ts, (uint64_t)m, sizeof(mask));
    else
        r = user_safe_syscall(t, SYS_epoll_pwait, (int32_t)a[0], (uint64_t)ev, count, (int32_t)a[3], (uint64_t)m, sizeof(mask));
    for (int64_t n = 0; n < r; n++) {
        uint64_t at = a[1] + n * (packed ? 12 : 16), data = ev[n].data.u64;
        uint32_t words[4] = { ev[n].events };

        memcpy(packed ? &words[1] : &words[2], &data, 8);
        if (guest_write(t, at, words, packed ? 12 : 16))
            return -EFAULT;
    }
    return r;
}

SYS(epoll_wait) { return do_epoll(t, a, NULL, false, 0, 0); }
SYS(epoll_pwait) { return do_epoll(t, a, NULL, false, a[4], a[5]); }

SYS(epoll_pwait2)
{
    struct timespec ts;

    if (a[3] && user_get(t, LAYOUT_timespec64, &ts, a[3]))
        return -EFAULT;
    return do_epoll(t, a, a[3] ? &ts : NULL, true, a[4], a[5]);
}

/* ---- chown() with ids of 16 bits */

static uint32_t owner(struct thread *t, uint64_t v)
{
    return is_32bit(t) && t->abi->column != ABI_RISCV32 ? ((uint16_t)v == 0xffff ? UINT32_MAX : (uint16_t)v) : (uint32_t)v;
}

static int64_t do_chown(struct thread *t, const uint64_t *a, enum call_id id)
{
    uint64_t v[6] = { a[0], owner(t, a[1]), owner(t, a[2]) };

    return call_run(t, id, v);
}

SYS(chown16) { return do_chown(t, a, CALL_chown32); }
SYS(lchown16) { return do_chown(t, a, CALL_lchown32); }
SYS(fchown16) { return do_chown(t, a, CALL_fchown32); }
