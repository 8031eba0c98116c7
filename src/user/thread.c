/* Threads and processes: clone() in all its forms, futexes, the end of both. Threads are host threads; fork() is the
 * host's; a vfork() child shares the memory of its parent, which waits, as the kernel has it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "rhea/base/log.h"
#include "user/gdb.h"
#include "user/mem.h"
#include "user/seccomp.h"
#include "user/syscall.h"

enum { THREAD_STACK = 512 << 10 };

static __thread struct thread *current;

struct thread *thread_self(void) { return current; }
void thread_set_self(struct thread *t) { current = t; }

static struct debugger *thread_debugger(const struct thread *t) { return engine_debugger(t->process->engine); }

/* ---- ends */

static int futex_wake(struct thread *t, uint64_t va, int count)
{
    void *p = user_ptr(t, va, 4);

    return p && p != (void *)-1 ? syscall(SYS_futex, p, FUTEX_WAKE, count, NULL, NULL, 0) : -1;
}

/* One robust mutex of a thread that ends: kernel, Documentation/locking/robust-futexes. */
static void robust_release(struct thread *t, uint64_t futex, bool pending)
{
    _Atomic uint32_t *p = user_ptr_write(t, futex, 4);
    uint32_t v;

    if (!p || p == (void *)-1 || (futex & 3) || guest_read(t, &v, futex, 4))
        return;
    while ((v & FUTEX_TID_MASK) == (uint32_t)t->tid) {
        if (!atomic_compare_exchange_strong(p, &v, (v & FUTEX_WAITERS) | FUTEX_OWNER_DIED))
            continue;
        if (v & FUTEX_WAITERS)
            futex_wake(t, futex, 1);
        return;
    }
    if (pending && !(v & FUTEX_TID_MASK))
        futex_wake(t, futex, 1);
}

static uint64_t robust_word(struct thread *t, uint64_t va, bool *ok)
{
    uint64_t v = 0;

    *ok = !guest_read(t, &v, va, t->abi->bits / 8);
    return v;
}

/* The list is the guest's to write: it may be circular or lead anywhere. */
static void robust_list_walk(struct thread *t)
{
    unsigned word = t->abi->bits / 8;
    bool ok, ok2, ok3;
    uint64_t head = t->robust_list, at, offset, pending;

    if (!head)
        return;
    t->robust_list = 0;
    at = robust_word(t, head, &ok);
    offset = robust_word(t, head + word, &ok2);
    pending = robust_word(t, head + 2 * word, &ok3);
    if (!ok || !ok2 || !ok3)
        return;
    for (unsigned limit = ROBUST_LIST_LIMIT; at != head && limit; limit--) {
        uint64_t next = robust_word(t, at & ~UINT64_C(1), &ok);

        if ((at & ~UINT64_C(1)) != (pending & ~UINT64_C(1)))
            robust_release(t, (at & ~UINT64_C(1)) + offset, false);
        if (!ok)
            return;
        at = next;
    }
    if (pending)
        robust_release(t, (pending & ~UINT64_C(1)) + offset, true);
}

static void thread_unlist(struct process *p, struct thread *t)
{
    for (struct thread **at = &p->threads; *at; at = &(*at)->next)
        if (*at == t) {
            *at = t->next;
            p->nthreads--;
            break;
        }
}

static void thread_free(struct thread *t)
{
    engine_cpu_free(t->process->engine, t->cpu);
    signal_thread_free(&t->sig);
    seccomp_unref(t->seccomp);
    g_free(t);
}

void process_save(struct thread *t)
{
    /* Other threads may close descriptors of ours, and open their files under these numbers. */
    if (t->process->nthreads == 1 || unshare(CLONE_FILES) == 0)
        engine_save(t->process->engine);
}

_Noreturn void thread_exit(struct thread *t, int status)
{
    struct process *p = t->process;
    bool first = t->tid == getpid();
    uint32_t zero = 0;
    bool last;

    if (thread_debugger(t))
        debugger_thread_exit_begin(t);
    pthread_mutex_lock(&p->lock);
    last = p->nthreads == 1;
    if (!last)
        thread_unlist(p, t);
    pthread_mutex_unlock(&p->lock);
    if (thread_debugger(t))
        debugger_thread_exit_end(t);
    if (last)
        process_exit(t, status);
    engine_thread_end(t);
    robust_list_walk(t);
    if (t->clear_child_tid && !guest_write(t, t->clear_child_tid, &zero, sizeof(zero)))
        futex_wake(t, t->clear_child_tid, INT32_MAX);
    if (first)                  /* its host stack is the process's; the kernel keeps it until all have ended */
        for (;;)
            syscall(SYS_exit, status & 0xff);
    thread_free(t);
    current = NULL;
    pthread_exit(NULL);
}

_Noreturn void process_exit(struct thread *t, int status)
{
    if (thread_debugger(t))
        debugger_exit(t, false, status & 0xff);
    robust_list_walk(t);
    process_save(t);
    for (;;)
        syscall(SYS_exit_group, status & 0xff);
}

SYS(exit) { thread_exit(t, a[0]); }
SYS(exit_group) { process_exit(t, a[0]); }

/* ---- beginnings */

/* What clone() and clone3() have in common, as the kernel's struct clone_args. */
struct clone_request {
    uint64_t flags, stack, stack_size, parent_tid, child_tid, pidfd, tls, set_tid, set_tid_size, cgroup;
    int exit_signal;
};

/* A new thread: the parent waits until it has a tid and a CPU of its own. */
struct start {
    struct thread *t;
    const struct thread *parent;
    const struct clone_request *r;
    pthread_mutex_t lock;
    pthread_cond_t ready;
    bool is_ready, failed;
    pid_t tid;
};

static void thread_take_filters(struct thread *t, const struct thread *from)
{
    seccomp_unref(t->seccomp);
    t->seccomp = seccomp_ref(from->seccomp);
    t->seccomp_strict = from->seccomp_strict;
}

static struct thread *thread_copy(struct thread *from, struct process *p)
{
    struct thread *t = g_new0(struct thread, 1);

    t->process = p;
    t->abi = from->abi;
    t->vfork_fd = -1;
    signal_thread_init(&t->sig, &from->sig);
    t->cpu = engine_cpu_clone(p->engine, from->cpu);
    thread_take_filters(t, from);
    return t;
}

/* The child's registers: 0 from the call, its stack, its TLS. */
static void child_registers(struct thread *t, const struct clone_request *r)
{
    const struct guest_user *g = t->process->guest;

    g->syscall_result(t->cpu, 0);
    if (r->stack)
        g->set_stack_pointer(t->cpu, r->stack + r->stack_size);
    if (r->flags & CLONE_SETTLS && g->set_thread_area && t->abi->bits == 32) {
        uint32_t desc[4];

        if (!guest_read(t, desc, r->tls, sizeof(desc)))
            g->set_thread_area(t->cpu, desc);
    } else if (r->flags & CLONE_SETTLS) {
        g->set_tls(t->cpu, r->tls);
    }
}

static void *thread_start(void *opaque)
{
    struct start *s = opaque;
    struct thread *t = s->t;
    uint32_t tid = gettid();
    bool ok;

    t->tid = s->tid = tid;
    current = t;
    ok = engine_thread_begin(t);
    if (ok && !(s->r->flags & CLONE_FS))        /* odd, but allowed: pthread_create() shares them */
        ok = unshare(CLONE_FS) == 0;
    if (ok && !(s->r->flags & CLONE_FILES))
        ok = unshare(CLONE_FILES) == 0;
    if (ok && s->r->flags & CLONE_CHILD_SETTID)
        guest_write(t, s->r->child_tid, &tid, sizeof(tid));
    if (ok && s->r->flags & CLONE_PARENT_SETTID)
        guest_write(t, s->r->parent_tid, &tid, sizeof(tid));
    if (ok) {
        pthread_mutex_lock(&t->process->lock);
        thread_take_filters(t, s->parent);      /* again: others may have changed them meanwhile */
        t->next = t->process->threads;
        t->process->threads = t;
        t->process->nthreads++;
        pthread_mutex_unlock(&t->process->lock);
    }
    pthread_mutex_lock(&s->lock);
    s->is_ready = true;
    s->failed = !ok;
    pthread_cond_signal(&s->ready);
    pthread_mutex_unlock(&s->lock);         /* s is the parent's from here on */
    if (!ok)
        return NULL;
    engine_thread_run(t);
}

static int64_t clone_thread(struct thread *t, const struct clone_request *r)
{
    struct start s = { .t = thread_copy(t, t->process), .parent = t, .r = r, .lock = PTHREAD_MUTEX_INITIALIZER, .ready = PTHREAD_COND_INITIALIZER };
    sigset_t all, old;
    pthread_attr_t attr;
    pthread_t id;
    pid_t tid;
    int e;

    child_registers(s.t, r);
    if (r->flags & CLONE_CHILD_CLEARTID)
        s.t->clear_child_tid = r->child_tid;
    engine_threads_init();
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, THREAD_STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    e = pthread_create(&id, &attr, thread_start, &s);
    if (!e) {
        pthread_mutex_lock(&s.lock);
        while (!s.is_ready)
            pthread_cond_wait(&s.ready, &s.lock);
        pthread_mutex_unlock(&s.lock);
    }
    tid = s.tid;                /* s.t may have ended, and is its own */
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (!e && !s.failed)
        return tid;
    thread_free(s.t);
    return -EAGAIN;
}

/* In the child of a fork(): only this thread is left. */
static void child_process(struct thread *t, const struct clone_request *r)
{
    struct process *p = t->process;
    uint32_t tid = gettid();

    t->tid = tid;
    t->next = NULL;             /* the others' memory stays: whatever they held may be half done */
    p->threads = t;
    p->nthreads = 1;
    t->robust_list = 0;
    t->clear_child_tid = r->flags & CLONE_CHILD_CLEARTID ? r->child_tid : 0;
    engine_fork_child(p->engine, t);
    pthread_mutex_unlock(&p->lock);
    mem_unlock(p->mm);
    if (r->flags & CLONE_CHILD_SETTID)
        guest_write(t, r->child_tid, &tid, sizeof(tid));
    child_registers(t, r);
}

/* The parent of a vfork() waits until the child ends or execs: the child's end of a pipe closes then. */
static void vfork_wait(int fd)
{
    char c;

    while (read(fd, &c, 1) < 0 && errno == EINTR)
        ;
    close(fd);
}

static int64_t clone_process(struct thread *t, const struct clone_request *r)
{
    /* What glibc's fork() does not know is asked of the kernel directly. */
    uint64_t special = r->flags & ~(uint64_t)(CLONE_VM | CLONE_VFORK | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID
                                              | CLONE_CHILD_CLEARTID | CLONE_DETACHED | CLONE_SYSVSEM | CLONE_CLEAR_SIGHAND);
    struct process *p = t->process;
    struct debugger *debugger;
    int pipe_fd[2] = { -1, -1 };
    int64_t pid;

    if (r->flags & CLONE_VFORK && pipe2(pipe_fd, O_CLOEXEC) < 0)
        return -errno;
    debugger = thread_debugger(t);
    if (debugger)
        debugger_fork_prepare(debugger, t, !special && r->exit_signal == SIGCHLD);
    mem_lock(p->mm);
    pthread_mutex_lock(&p->lock);
    engine_fork_prepare(p->engine);
    if (!special && r->exit_signal == SIGCHLD) {
        pid = fork();
        pid = pid < 0 ? -errno : pid;
    } else {
        struct clone_args args = { .flags = special | (r->flags & CLONE_CLEAR_SIGHAND), .exit_signal = r->exit_signal,
                                   .pidfd = r->flags & CLONE_PIDFD ? (uint64_t)user_ptr_write(t, r->pidfd, 4) : 0,
                                   .set_tid = (uint64_t)user_ptr(t, r->set_tid, 4 * r->set_tid_size),
                                   .set_tid_size = r->set_tid_size, .cgroup = r->cgroup };

        pid = syscall(SYS_clone3, &args, sizeof(args));
        pid = pid < 0 ? -errno : pid;
    }
    if (pid == 0) {
        if (pipe_fd[0] >= 0)
            close(pipe_fd[0]);
        t->vfork_fd = pipe_fd[1];
        child_process(t, r);
        if (debugger)
            debugger_fork_child(debugger, t);
        return USER_NORESULT;
    }
    engine_fork_parent(p->engine);
    pthread_mutex_unlock(&p->lock);
    mem_unlock(p->mm);
    if (debugger)
        debugger_fork_parent(debugger, t, pid);
    if (pid > 0 && r->flags & CLONE_PARENT_SETTID) {
        uint32_t id = pid;

        guest_write(t, r->parent_tid, &id, sizeof(id));
    }
    if (pipe_fd[1] >= 0) {
        close(pipe_fd[1]);
        if (pid > 0 && debugger)
            debugger_vforked(debugger, t);
        if (pid > 0)
            vfork_wait(pipe_fd[0]);
        else
            close(pipe_fd[0]);
    }
    return pid;
}

/* A process in the memory of another, with a thread and signal actions of its own. The kernel holds the host thread that made it
 * until it ends or execs (CLONE_VFORK), so that it may use that thread's thread-local data (fs) meanwhile: the parent's own in a
 * vfork(), else that of a thread made for it. */
struct sharer {
    struct process process;
    struct thread *t;
    struct clone_request r;
    int flags;                  /* of the host's clone() */
    int32_t pidfd;
    int64_t pid;
    /* CLONE_VFORK is not the guest's wish: the parent goes on once the child has begun. */
    bool has_lender, has_begun;
    pthread_mutex_t lock;
    pthread_cond_t begun;
};

static void sharer_begun(struct sharer *s, int64_t pid)
{
    pthread_mutex_lock(&s->lock);
    if (!s->has_begun)
        s->pid = pid;
    s->has_begun = true;
    pthread_cond_signal(&s->begun);
    pthread_mutex_unlock(&s->lock);
}

static int shared_child(void *opaque)
{
    struct sharer *s = opaque;
    struct thread *t = s->t;

    t->tid = gettid();
    thread_set_self(t);
    if (!engine_thread_begin(t))
        _exit(127);
    for (int sig = 1; s->r.flags & CLONE_CLEAR_SIGHAND && sig <= 64; sig++) {
        struct signal_action set = { 0 }, old;

        if (!signal_set_action(t, sig, NULL, &old) && old.handler > 1)
            signal_set_action(t, sig, &set, NULL);
    }
    if (s->has_lender)
        sharer_begun(s, t->tid);
    engine_thread_run(t);
}

static struct sharer *sharer_new(struct thread *t, const struct clone_request *r)
{
    uint64_t ours = CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_DETACHED | CLONE_CLEAR_SIGHAND;
    struct process *p = t->process;
    struct sharer *s = g_new0(struct sharer, 1);

    s->process = *p;
    s->r = *r;
    s->flags = (int)((r->flags & ~ours) | CLONE_VFORK | r->exit_signal);
    s->pidfd = -1;
    s->has_lender = !(r->flags & CLONE_VFORK);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->begun, NULL);
    pthread_mutex_init(&s->process.lock, NULL);
    pthread_mutex_lock(&p->sig.lock);
    s->process.sig = p->sig;
    pthread_mutex_unlock(&p->sig.lock);
    pthread_mutex_init(&s->process.sig.lock, NULL);
    s->t = thread_copy(t, &s->process);
    s->process.threads = s->t;
    s->process.nthreads = 1;
    child_registers(s->t, r);
    return s;
}

static void sharer_free(struct sharer *s)
{
    thread_free(s->t);
    pthread_cond_destroy(&s->begun);
    g_free(s);
}

/* Returns when the child has ended or runs another program. All signals are blocked: the child's loop sets its own mask. */
static int64_t sharer_run(struct sharer *s)
{
    void *stack = mmap(NULL, THREAD_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    void *child_tid = user_ptr_write(s->t, s->r.child_tid, 4);
    int64_t pid;

    if (stack == MAP_FAILED)
        return -errno;
    pid = clone(shared_child, (char *)stack + THREAD_STACK, s->flags, s, &s->pidfd, NULL, child_tid);
    pid = pid < 0 ? -errno : pid;
    munmap(stack, THREAD_STACK);
    return pid;
}

static void *lender(void *opaque)
{
    struct sharer *s = opaque;
    int64_t pid = sharer_run(s);

    sharer_begun(s, pid);       /* if the child never did */
    pthread_mutex_lock(&s->lock);
    while (s->has_lender)       /* until the parent has read the answer */
        pthread_cond_wait(&s->begun, &s->lock);
    pthread_mutex_unlock(&s->lock);
    sharer_free(s);
    return NULL;
}

/* By a thread of its own. The answers are read while that waits. */
static int64_t sharer_lend(struct sharer *s, int32_t *pidfd)
{
    pthread_attr_t attr;
    pthread_t id;
    int64_t pid;
    int e;

    engine_threads_init();
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, THREAD_STACK);
    e = pthread_create(&id, &attr, lender, s);
    pthread_attr_destroy(&attr);
    if (e) {
        sharer_free(s);
        return -EAGAIN;
    }
    pthread_mutex_lock(&s->lock);
    while (!s->has_begun)
        pthread_cond_wait(&s->begun, &s->lock);
    pid = s->pid;
    *pidfd = s->pidfd;
    s->has_lender = false;
    pthread_cond_signal(&s->begun);
    pthread_mutex_unlock(&s->lock);
    return pid;
}

static int64_t clone_shared(struct thread *t, const struct clone_request *r)
{
    struct sharer *s = sharer_new(t, r);
    int32_t pidfd = -1;
    sigset_t all, old;
    int64_t pid;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (s->has_lender) {
        pid = sharer_lend(s, &pidfd);
    } else {
        pid = sharer_run(s);
        thread_set_self(t);
        pidfd = s->pidfd;
        sharer_free(s);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (pid > 0 && r->flags & CLONE_PARENT_SETTID) {
        uint32_t id = pid;

        guest_write(t, r->parent_tid, &id, sizeof(id));
    }
    if (pid > 0 && r->flags & CLONE_PIDFD)
        guest_write(t, r->pidfd, &pidfd, sizeof(pidfd));
    return pid;
}

/* A client that wants to know of forks is told of a vfork() too, whose child it can go on with: then it gets a copy of the memory. */
static bool vfork_is_told(struct thread *t, const struct clone_request *r)
{
    struct debugger *d = thread_debugger(t);

    return r->flags & CLONE_VFORK && r->exit_signal == SIGCHLD && d && debugger_tells_forks(d, t);
}

static int64_t do_clone(struct thread *t, const struct clone_request *r)
{
    if ((r->flags & CLONE_THREAD && !(r->flags & CLONE_SIGHAND)) || (r->flags & CLONE_SIGHAND && !(r->flags & CLONE_VM))
        || (r->flags & CLONE_FS && r->flags & CLONE_NEWNS))
        return -EINVAL;
    if (r->flags & CLONE_THREAD)
        return clone_thread(t, r);
    return r->flags & CLONE_VM && !r->set_tid_size && !vfork_is_told(t, r) ? clone_shared(t, r) : clone_process(t, r);
}

SYS(clone)
{
    bool tls_last = t->abi->clone_tls_last;
    struct clone_request r = { .flags = a[0] & ~(uint64_t)CSIGNAL, .exit_signal = a[0] & CSIGNAL, .stack = a[1], .parent_tid = a[2],
                               .pidfd = a[2], .tls = a[tls_last ? 4 : 3], .child_tid = a[tls_last ? 3 : 4] };

    r.flags &= UINT32_MAX;
    return do_clone(t, &r);
}

SYS(clone3)
{
    struct clone_args args = { 0 };
    struct clone_request r;

    if (a[1] < 64)
        return -EINVAL;
    if (a[1] > CPU_PAGE_SIZE)
        return -E2BIG;
    if (guest_read(t, &args, a[0], MIN(a[1], sizeof(args))))
        return -EFAULT;
    for (uint64_t at = sizeof(args); at < a[1]; at++) {
        uint8_t byte;

        if (guest_read(t, &byte, a[0] + at, 1))
            return -EFAULT;
        if (byte)
            return -E2BIG;
    }
    if (args.exit_signal > 64 || args.flags & CSIGNAL || (!args.stack) != (!args.stack_size) || args.set_tid_size > 32)
        return -EINVAL;
    r = (struct clone_request){ .flags = args.flags, .exit_signal = args.exit_signal, .stack = args.stack,
                                .stack_size = args.stack_size, .parent_tid = args.parent_tid, .child_tid = args.child_tid,
                                .pidfd = args.pidfd, .tls = args.tls, .set_tid = args.set_tid,
                                .set_tid_size = args.set_tid_size, .cgroup = args.cgroup };
    return do_clone(t, &r);
}

SYS(fork)
{
    struct clone_request r = { .exit_signal = SIGCHLD };

    return do_clone(t, &r);
}

SYS(vfork)
{
    struct clone_request r = { .flags = CLONE_VM | CLONE_VFORK, .exit_signal = SIGCHLD };

    return do_clone(t, &r);
}

SYS(set_tid_address)
{
    t->clear_child_tid = a[0];
    return gettid();
}

/* The kernel walks the list of a 64-bit guest itself, even when the process is killed. */
static bool robust_is_host(const struct thread *t) { return t->process->abi->bits == 64 && t->process->base == 0; }

SYS(set_robust_list)
{
    unsigned size = 3 * t->abi->bits / 8;

    if (t->abi != t->process->abi)      /* a 32-bit list of a 64-bit program */
        return -ENOSYS;
    if (a[1] != size)
        return -EINVAL;
    if (robust_is_host(t))
        return syscall(SYS_set_robust_list, a[0], a[1]) < 0 ? -errno : 0;
    t->robust_list = a[0];
    return 0;
}

SYS(get_robust_list)
{
    uint64_t head = t->robust_list, len = 3 * t->abi->bits / 8;
    unsigned word = t->abi->bits / 8;
    bool own = (int32_t)a[0] == 0 || (int32_t)a[0] == t->tid;

    if (t->abi != t->process->abi)
        return -ENOSYS;
    if (robust_is_host(t) && syscall(SYS_get_robust_list, (pid_t)a[0], &head, &len) < 0)
        return -errno;
    if (!robust_is_host(t) && !own)     /* the list of another thread is known to it alone */
        return -EPERM;
    return guest_write(t, a[1], &head, word) || guest_write(t, a[2], &len, word) ? -EFAULT : 0;
}

/* ---- futexes: the host's, on the guest's words */

static bool futex_has_timeout(int command)
{
    return command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET || command == FUTEX_LOCK_PI || command == FUTEX_LOCK_PI2
        || command == FUTEX_WAIT_REQUEUE_PI;
}

static int64_t do_futex(struct thread *t, const uint64_t *a, enum layout time)
{
    int op = a[1], command = op & FUTEX_CMD_MASK;
    struct timespec ts;
    uint64_t fourth = a[3];
    void *word2 = user_ptr(t, a[4], 4);

    if (futex_has_timeout(command) && a[3]) {
        if (user_get(t, time, &ts, a[3]))
            return -EFAULT;
        fourth = (uint64_t)&ts;
    }
    return user_safe_syscall(t, SYS_futex, (uint64_t)user_ptr_write(t, a[0], 4), op, (uint32_t)a[2], fourth, (uint64_t)word2,
                             (uint32_t)a[5]);
}

SYS(futex) { return do_futex(t, a, LAYOUT_timespec); }
SYS(futex_time64) { return do_futex(t, a, LAYOUT_timespec64); }

/* struct futex_waitv holds addresses, so it is copied. */
static int64_t futex_list(struct thread *t, struct futex_waitv *v, uint64_t va, unsigned count)
{
    if (guest_read(t, v, va, count * sizeof(*v)))
        return -EFAULT;
    for (unsigned n = 0; n < count; n++)
        v[n].uaddr = (uint64_t)user_ptr(t, v[n].uaddr, 4);
    return 0;
}

SYS(futex_waitv)
{
    struct futex_waitv v[FUTEX_WAITV_MAX];
    struct timespec ts;

    if (a[1] == 0 || a[1] > FUTEX_WAITV_MAX)
        return -EINVAL;
    if (futex_list(t, v, a[0], a[1]) || (a[3] && user_get(t, LAYOUT_timespec64, &ts, a[3])))
        return -EFAULT;
    return user_safe_syscall(t, SYS_futex_waitv, (uint64_t)v, a[1], a[2], a[3] ? (uint64_t)&ts : 0, a[4], 0);
}

SYS(futex_requeue)
{
    struct futex_waitv v[2];
    int64_t r = futex_list(t, v, a[0], G_N_ELEMENTS(v));

    return r ? r : user_safe_syscall(t, HOST_futex_requeue, (uint64_t)v, (uint32_t)a[1], (int32_t)a[2], (int32_t)a[3], 0, 0);
}
