/* seccomp as a program sees it: filters of its own numbers, each action, threads, fork and exec. Prints as calls.c does; run
 * natively, too, so that a check that is wrong itself is found. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__i386__)
#define ARCH AUDIT_ARCH_I386
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#elif defined(__arm__)
#define ARCH AUDIT_ARCH_ARM
#else
#define ARCH AUDIT_ARCH_RISCV64
#endif
#define FIELD(name) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, name))
#define RETURN(v) BPF_STMT(BPF_RET | BPF_K, v)
#define UNLESS(v, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, v, 0, skip)

static int failures;

static void check(bool ok, const char *name, int line)
{
    printf(ok ? "ok %s\n" : "FAILED %s (line %d, errno %d)\n", name, line, errno);
    fflush(stdout);
    failures += !ok;
}
#define OK(name, condition) check(condition, name, __LINE__)

static int install(struct sock_filter *f, unsigned n, unsigned flags)
{
    struct sock_fprog p = { n, f };

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p);
}
#define INSTALL(flags, ...) ({ struct sock_filter f_[] = { __VA_ARGS__ }; install(f_, sizeof(f_) / sizeof(f_[0]), flags); })
/* getppid() has the action, all else is allowed, unless the architecture is another one. */
#define ON_GETPPID(flags, action) INSTALL(flags, FIELD(arch), UNLESS(ARCH, 3), FIELD(nr), UNLESS(SYS_getppid, 1), RETURN(action), \
                                          RETURN(SECCOMP_RET_ALLOW))

/* Exit status of fn in a child, -N if signal N ended it. */
static int in_child(void (*fn)(void))
{
    int status;
    pid_t pid = fork();

    if (!pid) {
        fn();
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void refused(void)
{
    bool before = prctl(PR_GET_SECCOMP) == 0;

    if (ON_GETPPID(0, SECCOMP_RET_ERRNO | 77))
        _exit(1);
    errno = 0;
    _exit(before && syscall(SYS_getppid) == -1 && errno == 77 && getpid() > 0 && prctl(PR_GET_SECCOMP) == 2 ? 42 : 2);
}

/* The strictest of several counts, the newest of equal ones. */
static void several(void)
{
    if (ON_GETPPID(0, SECCOMP_RET_ERRNO | 1) || ON_GETPPID(0, SECCOMP_RET_ERRNO | 2) || ON_GETPPID(0, SECCOMP_RET_LOG))
        _exit(1);
    syscall(SYS_getppid);
    _exit(errno == 2 ? 42 : 2);
}

static void by_argument(void)
{
    if (INSTALL(0, FIELD(nr), UNLESS(SYS_dup, 4), FIELD(args[0]), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff), UNLESS(77, 1),
                RETURN(SECCOMP_RET_ERRNO | 5), RETURN(SECCOMP_RET_ALLOW)))
        _exit(1);
    _exit(dup(77) == -1 && errno == 5 && dup(76) == -1 && errno == EBADF ? 42 : 2);
}

static volatile int trapped, trap_ok;
static void on_sys(int sig, siginfo_t *info, void *uc)
{
    trapped++;
    trap_ok = info->si_code == 1 && info->si_errno == 9 && info->si_syscall == SYS_getppid && info->si_arch == (unsigned)ARCH
        && info->si_call_addr;
}

static void traps(void)
{
    struct sigaction a = { .sa_sigaction = on_sys, .sa_flags = SA_SIGINFO };

    sigaction(SIGSYS, &a, NULL);
    if (ON_GETPPID(0, SECCOMP_RET_TRAP | 9))
        _exit(1);
    syscall(SYS_getppid);
    _exit(trapped == 1 && trap_ok ? 42 : 2);
}

static void killed(void) { ON_GETPPID(0, SECCOMP_RET_KILL_PROCESS); syscall(SYS_getppid); }
static void unheard(void) { ON_GETPPID(0, SECCOMP_RET_TRACE); _exit(syscall(SYS_getppid) == -1 && errno == ENOSYS ? 42 : 2); }
static void strict(void) { prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT); syscall(SYS_exit, 42); }
static void strict_killed(void) { prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT); syscall(SYS_getppid); }

static volatile int stage, other_answer;
static void *doomed(void *arg) { ON_GETPPID(0, SECCOMP_RET_KILL_THREAD); syscall(SYS_getppid); return (void *)1; }

static void thread_killed(void)
{
    pthread_t id;

    pthread_create(&id, NULL, doomed, NULL);
    sleep(1);                   /* it is never joined: its end wakes nobody */
    _exit(getppid() > 0 ? 42 : 2);
}

static void *other(void *arg)
{
    while (!__atomic_load_n(&stage, __ATOMIC_ACQUIRE))
        usleep(1000);
    other_answer = syscall(SYS_getppid) == -1 && errno == 66;
    return NULL;
}

static void synchronised(void)
{
    pthread_t id;

    pthread_create(&id, NULL, other, NULL);
    if (ON_GETPPID(SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_RET_ERRNO | 66))
        _exit(1);
    __atomic_store_n(&stage, 1, __ATOMIC_RELEASE);
    pthread_join(id, NULL);
    _exit(other_answer ? 42 : 2);
}

static const char *self;
static void over_exec(void)
{
    if (ON_GETPPID(0, SECCOMP_RET_ERRNO | 55))
        _exit(1);
    execl(self, self, "inherited", NULL);
}

static void invalid(void)
{
    struct sock_filter loop[] = { BPF_STMT(BPF_JMP | BPF_JA, (uint32_t)-1), RETURN(0) };
    bool ok = install(loop, 2, 0) == -1 && errno == EINVAL;

    ok = ok && INSTALL(0, FIELD(nr)) == -1 && errno == EINVAL;                          /* no return */
    ok = ok && INSTALL(0, BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), RETURN(0)) == -1 && errno == EINVAL;  /* outside of the data */
    ok = ok && INSTALL(0, BPF_STMT(BPF_LD | BPF_MEM, 16), RETURN(0)) == -1 && errno == EINVAL;
    ok = ok && INSTALL(0, BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), RETURN(0)) == -1 && errno == EINVAL;
    ok = ok && INSTALL(0, BPF_STMT(BPF_LD | BPF_B | BPF_IND, 0), RETURN(0)) == -1 && errno == EINVAL;
    ok = ok && install(NULL, 1, 0) == -1 && errno == EINVAL && install((void *)8, 1, 0) == -1 && errno == EFAULT;
    ok = ok && prctl(PR_GET_SECCOMP) == 0;
    _exit(ok ? 42 : 2);
}

static void shown(void)
{
    char text[8192] = "";
    FILE *f;

    if (ON_GETPPID(0, SECCOMP_RET_LOG) || !(f = fopen("/proc/self/status", "r")))
        _exit(1);
    text[fread(text, 1, sizeof(text) - 1, f)] = 0;
    _exit(strstr(text, "\nSeccomp:\t2\n") ? 42 : 2);
}

int main(int argc, char **argv)
{
    uint32_t action = SECCOMP_RET_KILL_PROCESS, none = 0x12340000;

    self = argv[0];
    if (argc > 1)
        return syscall(SYS_getppid) == -1 && errno == 55 && prctl(PR_GET_SECCOMP) == 2 ? 42 : 2;
    OK("an error instead of a call", in_child(refused) == 42);
    OK("several filters", in_child(several) == 42);
    OK("arguments are looked at", in_child(by_argument) == 42);
    OK("SIGSYS tells of the call", in_child(traps) == 42);
    OK("the process is killed", in_child(killed) == -SIGSYS);
    OK("a thread is killed", in_child(thread_killed) == 42);
    OK("nobody traces", in_child(unheard) == 42);
    OK("strict mode", in_child(strict) == 42);
    OK("strict mode kills", in_child(strict_killed) == -SIGKILL);
    OK("all threads take a filter", in_child(synchronised) == 42);
    OK("filters outlive exec", in_child(over_exec) == 42);
    OK("invalid filters are refused", in_child(invalid) == 42);
    OK("/proc/self/status says so", in_child(shown) == 42);
    OK("actions that there are", syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0
       && syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &none) == -1 && errno == EOPNOTSUPP);
    printf("\n%d failures\n", failures);
    return failures != 0;
}
