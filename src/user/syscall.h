/* System calls: a row each (syscalls.def), numbers by guest (syscall_numbers.def). A row without a function of its own goes
 * to the host's kernel with its arguments converted by their kinds. */
#ifndef RHEA_SRC_USER_SYSCALL_H
#define RHEA_SRC_USER_SYSCALL_H

#include <errno.h>
#include "rhea/user/process.h"
#include "user/abi.h"

enum arg_kind {
    ARG_END,
    ARG_INT, ARG_UINT,          /* 32 bits */
    ARG_LONG, ARG_ULONG,        /* the guest's long */
    ARG_HEX,                    /* flags: ulong, shown in hexadecimal */
    ARG_MODE,                   /* shown in octal */
    ARG_FD, ARG_ATFD,
    ARG_ADDR,                   /* a guest address that is not given to the host */
    ARG_PTR,                    /* memory that the kernel reads, same for all guests */
    ARG_PTRW,                   /* memory that it writes (up to PTRW_BYTES) */
    ARG_BUF, ARG_BUFW,          /* likewise, of as many bytes as the next argument says */
    ARG_STR,
    ARG_PATH,                   /* of a file that should exist: looked for below -L first */
    ARG_NEWPATH,
    ARG_OFLAGS,                 /* of open() */
    ARG_REQUEST,                /* of ioctl() */
    ARG_SIGNAL,
    ARG_IN, ARG_OUT, ARG_INOUT, /* structures of a layout, or NULL */
};
enum { PTRW_BYTES = 256, ARG_KIND_MASK = 0xff };
#define ARG(kind, layout) ((kind) | (layout) << 8)

enum call_id {
    CALL_NONE,
#define NR(name, ...) CALL_##name,
#include "user/syscall_numbers.def"
#undef NR
    CALL_COUNT
};
enum host_call {
#define NR(name, x86_64, ...) HOST_##name = x86_64,
#include "user/syscall_numbers.def"
#undef NR
};

struct call {
    const char *name;
    int64_t (*fn)(struct thread *t, const uint64_t *a); /* NULL: to the host's kernel */
    int16_t host;
    uint16_t arg[6];
    bool known;                 /* false: ENOSYS */
};
extern const struct call calls[CALL_COUNT];

void syscall_init(const struct abi *abi);       /* before its calls are made */
int32_t syscall_number(const struct abi *abi, enum call_id id);        /* -1: the guest has none */
/* What `fn`-less rows do; for functions that only change an argument first. */
int64_t call_host(struct thread *t, const struct call *c, const uint64_t *a);
/* Runs another row of the table: socketcall(), ipc(). */
int64_t call_run(struct thread *t, enum call_id id, const uint64_t *a);

/* strace.c */
void strace_enter(struct thread *t, const struct call *c, uint64_t nr, const uint64_t *a);
void strace_leave(struct thread *t, const struct call *c, int64_t r);

/* ---- memory, for the functions of calls */
enum { PATH_BYTES = 4096 };
static inline bool is_32bit(const struct thread *t) { return t->abi->bits == 32; }
/* NULL for 0; (void *)-1 where no guest address is: the kernel says EFAULT. */
void *user_ptr(struct thread *t, uint64_t va, size_t n);
void *user_ptr_write(struct thread *t, uint64_t va, size_t n);
int user_get(struct thread *t, enum layout l, void *host, uint64_t va);
int user_put(struct thread *t, enum layout l, uint64_t va, const void *host);
/* A path as the host should see it: -L, and /proc/self/exe. -errno. */
int user_path(struct thread *t, uint64_t va, bool existing, char buf[PATH_BYTES]);
/* The guest's iovec as the host's; NULL with *r = -errno. Caller frees. write: the kernel writes the buffers. */
struct iovec *user_iovec(struct thread *t, uint64_t va, uint64_t count, bool write, int64_t *r);
/* Packs values into a guest's structure by a layout string (abi.h). Bytes written. */
size_t user_pack(const struct abi *abi, const char *fields, const uint64_t *values, uint8_t *out);
/* sys_uring.c: before descriptors are closed. */
void uring_closed(struct thread *t, unsigned first, unsigned last);
/* sys_ioctl.c: a request's name, NULL: not known. */
const char *ioctl_name(const struct abi *abi, uint32_t request);
/* A 64-bit argument: two of a 32-bit guest's from *n on; *n goes behind it. */
uint64_t user_arg64(struct thread *t, const uint64_t *a, unsigned *n);

/* procfs.c: files that must be the guest's own. open: fd or -errno, PROCFS_OTHER: not such a file. */
enum { PROCFS_OTHER = -100000 };
int64_t procfs_open(struct thread *t, const char *path, int flags);
/* fd is /proc/self/mem, whose offsets are not the host's; the host's for one. */
bool procfs_is_mem(struct thread *t, int fd);
uint64_t procfs_mem_offset(const struct thread *t, uint64_t offset);
/* readlink: bytes, -errno or PROCFS_OTHER. */
int64_t procfs_readlink(struct thread *t, const char *path, char *buf, size_t n);
/* "/proc/self/exe" in any of its spellings. */
bool procfs_is_exe(struct thread *t, const char *path);

/* exec.c: replaces this process; returns only -errno. */
int64_t user_exec(struct thread *t, int dirfd, const char *path, char **argv, char **envp, int flags);

/* Functions of calls, by file. */
#define SYS(name) int64_t sys_##name(struct thread *t, const uint64_t *a)
#define CALL(name, fn, ...) SYS(fn);
#define PASS(...)
#define MISSING(...)
#include "user/syscalls.def"
#undef CALL
#undef PASS
#undef MISSING

#endif
