/* io_uring without a library: requests whose arguments differ between ABIs, data read into a page with code, waiting. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int failures;
static void check(bool ok, const char *what)
{
    printf("%s %s\n", ok ? "ok" : "FAILED", what);
    failures += !ok;
}

static struct io_uring_params q;
static uint8_t *sq, *cq;
static struct io_uring_sqe *sqes;
static int ring;

static uint32_t *at(uint8_t *base, uint32_t off) { return (uint32_t *)(base + off); }

static bool begin(void)
{
    ring = syscall(SYS_io_uring_setup, 8, &q);
    if (ring < 0)
        return false;
    sq = mmap(NULL, q.sq_off.array + q.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
    cq = mmap(NULL, q.cq_off.cqes + q.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
    sqes = mmap(NULL, q.sq_entries * sizeof(*sqes), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
    return sq != MAP_FAILED && cq != MAP_FAILED && sqes != MAP_FAILED;
}

static void put(struct io_uring_sqe sqe)
{
    uint32_t tail = *at(sq, q.sq_off.tail), index = tail & (q.sq_entries - 1);

    sqes[index] = sqe;
    at(sq, q.sq_off.array)[index] = index;
    __atomic_store_n(at(sq, q.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
}

/* The result of the next completion, whose name must be this one. */
static int take(uint64_t name)
{
    uint32_t head = *at(cq, q.cq_off.head);
    struct io_uring_cqe *c = (struct io_uring_cqe *)(cq + q.cq_off.cqes) + (head & (q.cq_entries - 1));
    int res = c->res;

    if (head == __atomic_load_n(at(cq, q.cq_off.tail), __ATOMIC_ACQUIRE) || c->user_data != name)
        return -12345;
    __atomic_store_n(at(cq, q.cq_off.head), head + 1, __ATOMIC_RELEASE);
    return res;
}

static int enter(unsigned count, unsigned wait) { return syscall(SYS_io_uring_enter, ring, count, wait, wait ? IORING_ENTER_GETEVENTS : 0, NULL, 0); }

static int one(struct io_uring_sqe sqe)
{
    static uint64_t name;

    sqe.user_data = ++name;
    put(sqe);
    return enter(1, 1) == 1 ? take(name) : -12346;
}

static void code(void)
{
#ifdef __x86_64__
    static const uint8_t first[] = { 0xb8, 1, 0, 0, 0, 0xc3 }, second[] = { 0xb8, 2, 0, 0, 0, 0xc3 };   /* mov eax, N; ret */
    uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int (*fn)(void) = (int (*)(void))page, p[2], sum = 0;
    struct iovec v = { page, sizeof(first) };

    memcpy(page, first, sizeof(first));
    for (int n = 0; n < 100; n++)
        sum += fn();
    if (pipe(p) || write(p[1], second, sizeof(second)) != sizeof(second))
        return;
    check(one((struct io_uring_sqe){ .opcode = IORING_OP_READ, .fd = p[0], .addr = (uintptr_t)page, .len = sizeof(second), .off = -1 }) == sizeof(second)
          && sum == 100 && fn() == 2, "read over code");
    if (write(p[1], first, sizeof(first)) != sizeof(first))
        return;
    check(one((struct io_uring_sqe){ .opcode = IORING_OP_READV, .fd = p[0], .addr = (uintptr_t)&v, .len = 1, .off = -1 }) == sizeof(first) && fn() == 1,
          "read over code, by a list");
#endif
}

static void files(void)
{
    struct epoll_event ev = { EPOLLIN, { .u64 = 0x123456789abcdef0 } }, out = { 0 };
    int p[2], ep = epoll_create1(0), fd;
    char data[16] = "";
    struct statx st = { 0 };

    check(one((struct io_uring_sqe){ .opcode = IORING_OP_NOP }) == 0, "nop");
    fd = one((struct io_uring_sqe){ .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t)"/proc", .open_flags = O_RDONLY | O_DIRECTORY });
    check(fd >= 0, "a folder");
    check(one((struct io_uring_sqe){ .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t)"/proc/version", .open_flags = O_RDONLY | O_DIRECTORY })
          == -ENOTDIR, "no folder");
    check(one((struct io_uring_sqe){ .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t)"/proc/self", .open_flags = O_RDONLY | O_NOFOLLOW })
          == -ELOOP, "a link");
    fd = one((struct io_uring_sqe){ .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t)"/proc/version", .open_flags = O_RDONLY });
    check(one((struct io_uring_sqe){ .opcode = IORING_OP_READ, .fd = fd, .addr = (uintptr_t)data, .len = 5 }) == 5 && !memcmp(data, "Linux", 5), "read");
    check(one((struct io_uring_sqe){ .opcode = IORING_OP_STATX, .fd = AT_FDCWD, .addr = (uintptr_t)"/proc", .len = STATX_TYPE, .off = (uintptr_t)&st }) == 0
          && S_ISDIR(st.stx_mode), "statx");
    if (pipe(p))
        return;
    check(one((struct io_uring_sqe){ .opcode = IORING_OP_EPOLL_CTL, .fd = ep, .addr = (uintptr_t)&ev, .len = EPOLL_CTL_ADD, .off = p[0] }) == 0, "epoll_ctl");
    check(one((struct io_uring_sqe){ .opcode = IORING_OP_WRITE, .fd = p[1], .addr = (uintptr_t)"x", .len = 1, .off = -1 }) == 1
          && epoll_wait(ep, &out, 1, 5000) == 1 && out.data.u64 == ev.data.u64, "write, and what epoll says");
}

static void waiting(void)
{
    struct { int64_t sec, nsec; } soon = { 0, 20000000 };
    struct timespec a, b;
    int r;

    put((struct io_uring_sqe){ .opcode = IORING_OP_NOP, .user_data = 1000 });
    put((struct io_uring_sqe){ .opcode = IORING_OP_NOP, .user_data = 1001 });
    r = enter(1, 0);
    check(r == 1 && enter(1, 0) == 1 && take(1000) == 0 && take(1001) == 0, "one of two at a time");
    clock_gettime(CLOCK_MONOTONIC, &a);
    r = one((struct io_uring_sqe){ .opcode = IORING_OP_TIMEOUT, .addr = (uintptr_t)&soon, .len = 1 });
    clock_gettime(CLOCK_MONOTONIC, &b);
    check(r == -ETIME && (b.tv_sec - a.tv_sec) * 1000000000LL + b.tv_nsec - a.tv_nsec >= 20000000, "a timeout");
}

/* A ring that makes no sense: indices out of it, a head far away. What the kernel says is its own affair. */
static void nonsense(void)
{
    for (int n = 0; n < 64; n++) {
        at(sq, q.sq_off.array)[n % q.sq_entries] = n * 0x01234567u;
        *at(sq, q.sq_off.tail) += n % 3;
        if (n % 5 == 4)
            *at(sq, q.sq_off.head) -= n;
        enter(1 + n % 8, 0);
    }
    check(true, "nonsense");
}

int main(void)
{
    if (!begin()) {
        printf("no io_uring: %s\n", strerrorname_np(errno));
        return errno == ENOSYS || errno == EPERM ? 0 : 1;
    }
    files();
    code();
    waiting();
    ring = dup(ring);
    check(one((struct io_uring_sqe){ .opcode = IORING_OP_NOP }) == 0, "through another descriptor");
    nonsense();
    printf("%d failures\n", failures);
    return failures != 0;
}
