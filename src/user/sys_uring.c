/* io_uring of 64-bit programs: rings are memory that program and kernel share, and addresses in requests are the host's. What
 * the kernel would misunderstand (open()'s flags, struct epoll_event, paths below -L), or could not write to (pages with code),
 * is seen to when requests are submitted; so there is no submission without a call (SQPOLL).
 * A ring whose descriptor was made elsewhere (dup(), another program) is the kernel's alone. */
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include "user/syscall.h"

#ifndef IORING_SETUP_NO_SQARRAY
enum { IORING_SETUP_NO_MMAP = 1 << 14, IORING_SETUP_REGISTERED_FD_ONLY = 1 << 15, IORING_SETUP_NO_SQARRAY = 1 << 16 };   /* Linux 6.6 */
#endif

struct uring {
    int refs;                   /* guarded by the process's lock */
    uint32_t flags;
    struct io_uring_params params;
    uint8_t *sq, *sqes;         /* our view of the ring */
    size_t sq_bytes, sqes_bytes;
    pthread_mutex_t submitting; /* who changes requests that are not taken yet */
};

static void uring_unref(void *arg)
{
    struct uring *u = arg;

    if (--u->refs)
        return;
    munmap(u->sq, u->sq_bytes);
    munmap(u->sqes, u->sqes_bytes);
    pthread_mutex_destroy(&u->submitting);
    g_free(u);
}

static struct uring *uring_ref(struct process *p, int fd)
{
    struct uring *u;

    pthread_mutex_lock(&p->lock);
    u = p->urings ? g_hash_table_lookup(p->urings, GINT_TO_POINTER(fd)) : NULL;
    if (u)
        u->refs++;
    pthread_mutex_unlock(&p->lock);
    return u;
}

static void uring_done(struct process *p, struct uring *u)
{
    pthread_mutex_lock(&p->lock);
    uring_unref(u);
    pthread_mutex_unlock(&p->lock);
}

static gboolean is_closed(void *fd, void *value, void *range)
{
    const unsigned *r = range;

    return (unsigned)GPOINTER_TO_INT(fd) >= r[0] && (unsigned)GPOINTER_TO_INT(fd) <= r[1];
}

void uring_closed(struct thread *t, unsigned first, unsigned last)
{
    struct process *p = t->process;
    unsigned range[2] = { first, last };

    if (t->vfork_fd >= 0 || !p->urings)         /* descriptors of its own, but this memory is the parent's */
        return;
    pthread_mutex_lock(&p->lock);
    g_hash_table_foreach_remove(p->urings, is_closed, range);
    pthread_mutex_unlock(&p->lock);
}

static bool uring_map(struct uring *u, int fd)
{
    const struct io_uring_params *q = &u->params;

    u->sq_bytes = MAX(q->sq_off.array + (size_t)q->sq_entries * sizeof(uint32_t), 4096);
    u->sqes_bytes = (size_t)q->sq_entries * (q->flags & IORING_SETUP_SQE128 ? 128 : 64);
    u->sq = mmap(NULL, u->sq_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQ_RING);
    u->sqes = mmap(NULL, u->sqes_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQES);
    if (u->sq != MAP_FAILED && u->sqes != MAP_FAILED)
        return true;
    if (u->sq != MAP_FAILED)
        munmap(u->sq, u->sq_bytes);
    if (u->sqes != MAP_FAILED)
        munmap(u->sqes, u->sqes_bytes);
    return false;
}

SYS(io_uring_setup)
{
    struct process *p = t->process;
    struct io_uring_params q;
    struct uring *u;
    int64_t fd;

    if (is_32bit(t))
        return -ENOSYS;
    if (guest_read(t, &q, a[1], sizeof(q)))
        return -EFAULT;
    if (q.flags & (IORING_SETUP_NO_MMAP | IORING_SETUP_REGISTERED_FD_ONLY))
        return -EINVAL;         /* as kernels before 6.5 */
    if (q.flags & IORING_SETUP_SQPOLL)
        return -EPERM;
    fd = user_safe_syscall(t, SYS_io_uring_setup, (uint32_t)a[0], (uint64_t)&q, 0, 0, 0, 0);
    if (fd < 0)
        return fd;
    u = g_new0(struct uring, 1);
    u->refs = 1;
    u->params = q;
    if (!uring_map(u, fd) || guest_write(t, a[1], &q, sizeof(q))) {
        close(fd);
        g_free(u);
        return -EFAULT;
    }
    pthread_mutex_init(&u->submitting, NULL);
    pthread_mutex_lock(&p->lock);
    if (!p->urings)
        p->urings = g_hash_table_new_full(NULL, NULL, NULL, uring_unref);
    g_hash_table_replace(p->urings, GINT_TO_POINTER((int)fd), u);
    pthread_mutex_unlock(&p->lock);
    return fd;
}

/* ---- requests that are about to be submitted */

static void written_list(struct thread *t, uint64_t va, uint64_t count)
{
    struct iovec v;

    for (uint64_t n = 0; n < MIN(count, IOV_MAX) && !guest_read(t, &v, va + n * sizeof(v), sizeof(v)); n++)
        guest_host_write(t->process->engine, (uint64_t)v.iov_base, v.iov_len);
}

static void written_message(struct thread *t, uint64_t va)
{
    struct msghdr m;

    if (guest_read(t, &m, va, sizeof(m)))
        return;
    guest_host_write(t->process->engine, (uint64_t)m.msg_name, m.msg_namelen);
    guest_host_write(t->process->engine, (uint64_t)m.msg_control, m.msg_controllen);
    written_list(t, (uint64_t)m.msg_iov, m.msg_iovlen);
}

/* A path as the host should see it, kept until the kernel has it. */
static void path_to_host(struct thread *t, struct io_uring_sqe *sqe, GPtrArray *kept)
{
    char path[PATH_BYTES];

    if (!t->process->options->prefix || user_path(t, sqe->addr, true, path))
        return;
    g_ptr_array_add(kept, g_strdup(path));
    sqe->addr = (uint64_t)kept->pdata[kept->len - 1];
}

static void how_to_host(struct thread *t, struct io_uring_sqe *sqe, GPtrArray *kept)
{
    struct open_how how;

    if (sqe->len != sizeof(how) || guest_read(t, &how, sqe->addr2, sizeof(how)) || how.flags >> 31)
        return;
    how.flags = (unsigned)open_flags_to_host(t->abi, how.flags);
    g_ptr_array_add(kept, g_memdup2(&how, sizeof(how)));
    sqe->addr2 = (uint64_t)kept->pdata[kept->len - 1];
}

static void event_to_host(struct thread *t, struct io_uring_sqe *sqe, GPtrArray *kept)
{
    struct epoll_event ev;
    uint64_t data;

    if (t->abi->packed_epoll || guest_read(t, &ev.events, sqe->addr, 4) || guest_read(t, &data, sqe->addr + 8, 8))
        return;
    ev.data.u64 = data;
    g_ptr_array_add(kept, g_memdup2(&ev, sizeof(ev)));
    sqe->addr = (uint64_t)kept->pdata[kept->len - 1];
}

static void request_to_host(struct thread *t, struct io_uring_sqe *sqe, GPtrArray *kept)
{
    switch (sqe->opcode) {
    case IORING_OP_READ: case IORING_OP_READ_FIXED: case IORING_OP_RECV:
        guest_host_write(t->process->engine, sqe->addr, sqe->len);
        break;
    case IORING_OP_READV: written_list(t, sqe->addr, sqe->len); break;
    case IORING_OP_RECVMSG: written_message(t, sqe->addr); break;
    case IORING_OP_STATX: path_to_host(t, sqe, kept); break;
    case IORING_OP_OPENAT:
        sqe->open_flags = open_flags_to_host(t->abi, sqe->open_flags);
        path_to_host(t, sqe, kept);
        break;
    case IORING_OP_OPENAT2:
        how_to_host(t, sqe, kept);
        path_to_host(t, sqe, kept);
        break;
    case IORING_OP_EPOLL_CTL: event_to_host(t, sqe, kept); break;
    }
}

/* The nth request from the head on; NULL: the ring makes no sense. */
static struct io_uring_sqe *request_at(const struct uring *u, uint32_t n)
{
    const struct io_uring_params *q = &u->params;
    uint32_t index = n & (q->sq_entries - 1);

    if (!(q->flags & IORING_SETUP_NO_SQARRAY))
        index = __atomic_load_n((uint32_t *)(u->sq + q->sq_off.array) + index, __ATOMIC_RELAXED);
    return index < q->sq_entries ? (struct io_uring_sqe *)(u->sqes + index * (u->sqes_bytes / q->sq_entries)) : NULL;
}

struct request { struct io_uring_sqe *at, was; };

/* Requests are changed in place; those that the kernel has not taken are given back as they were. */
static int64_t submit(struct thread *t, struct uring *u, int fd, uint32_t count, uint32_t flags)
{
    const uint32_t *heads = (const uint32_t *)(u->sq + u->params.sq_off.head), *tails = (const uint32_t *)(u->sq + u->params.sq_off.tail);
    uint32_t head, n = 0;
    g_autoptr(GPtrArray) kept = g_ptr_array_new_with_free_func(g_free);
    g_autofree struct request *were = NULL;
    int64_t r;

    pthread_mutex_lock(&u->submitting);
    head = __atomic_load_n(heads, __ATOMIC_ACQUIRE);
    count = MIN(count, MIN(__atomic_load_n(tails, __ATOMIC_ACQUIRE) - head, u->params.sq_entries));
    were = g_new(struct request, count + 1);
    for (; n < count && (were[n].at = request_at(u, head + n)); n++) {
        were[n].was = *were[n].at;
        request_to_host(t, were[n].at, kept);
    }
    r = user_safe_syscall(t, SYS_io_uring_enter, fd, count, 0, flags & ~(IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG), 0, 0);
    for (uint32_t k = __atomic_load_n(heads, __ATOMIC_ACQUIRE) - head; k < n; k++)
        *were[k].at = were[k].was;
    pthread_mutex_unlock(&u->submitting);
    return r;
}

/* sigmask and time of IORING_ENTER_EXT_ARG, or a mask. */
static int64_t wait_for(struct thread *t, const uint64_t *a)
{
    struct io_uring_getevents_arg ext = { 0 };
    uint32_t flags = a[3] | IORING_ENTER_EXT_ARG;
    uint64_t mask;

    if (a[3] & IORING_ENTER_EXT_ARG) {
        if (a[5] != sizeof(ext))
            return -EINVAL;
        if (a[4] && guest_read(t, &ext, a[4], sizeof(ext)))
            return -EFAULT;
    } else if (a[4]) {
        ext = (struct io_uring_getevents_arg){ .sigmask = a[4], .sigmask_sz = a[5] };
    }
    if (ext.sigmask) {
        if (ext.sigmask_sz != sizeof(mask))
            return -EINVAL;
        if (guest_read(t, &mask, ext.sigmask, sizeof(mask)))
            return -EFAULT;
        signal_during(t, mask);
        mask = signal_host_mask(mask);
        ext.sigmask = (uint64_t)&mask;
    }
    return user_safe_syscall(t, SYS_io_uring_enter, (int32_t)a[0], 0, (uint32_t)a[2], flags, (uint64_t)&ext, sizeof(ext));
}

SYS(io_uring_enter)
{
    uint32_t count = a[1], flags = a[3];
    struct uring *u;
    int64_t r = 0, waited;

    if (is_32bit(t))
        return -ENOSYS;
    u = count ? uring_ref(t->process, (int32_t)a[0]) : NULL;
    if (u) {
        r = submit(t, u, (int32_t)a[0], count, flags);
        uring_done(t->process, u);
    } else if (count) {
        r = user_safe_syscall(t, SYS_io_uring_enter, (int32_t)a[0], count, 0, flags & ~(IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG), 0, 0);
    }
    if (r < 0 || r != count || !(flags & IORING_ENTER_GETEVENTS))
        return r;
    waited = wait_for(t, a);
    return r ? r : waited;
}

SYS(io_uring_register)
{
    uint32_t op = a[1], count = a[3];

    if (is_32bit(t))
        return -ENOSYS;
    if (op == IORING_REGISTER_RING_FDS)
        return -EINVAL;         /* a descriptor that only the kernel knows */
    if (op == IORING_REGISTER_BUFFERS)
        written_list(t, a[2], count);
    if (op == IORING_REGISTER_PROBE)
        guest_host_write(t->process->engine, a[2], sizeof(struct io_uring_probe) + count * sizeof(struct io_uring_probe_op));
    return user_safe_syscall(t, SYS_io_uring_register, (int32_t)a[0], op, (uint64_t)user_ptr(t, a[2], 1), count, 0, 0);
}
