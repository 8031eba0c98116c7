/* System calls with random arguments, in children: whatever they do to themselves, the emulator must end as the kernel would end
 * them. usage: sysfuzz SEED CHILDREN CALLS. Run in an empty folder, as nobody's user: test_user.py does.
 * Prints the seed and the signal of each child that ended otherwise than a program may by its own doing. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t state;
static uint32_t rnd(uint32_t n)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 33) % n;
}

/* Calls that reach beyond the child, or only wait or end. */
static const int left_out[] = {
    SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, 424 /* pidfd_send_signal */, SYS_reboot, SYS_exit,
    SYS_exit_group, SYS_rt_sigsuspend, SYS_setpgid, SYS_setsid, SYS_rt_sigtimedwait, SYS_clone, 435 /* clone3 */, SYS_ptrace,
    SYS_setpriority, SYS_ioprio_set, SYS_sched_setscheduler, SYS_sched_setattr, SYS_sched_setparam, SYS_syslog, SYS_vhangup, SYS_shmctl,
    SYS_msgctl, SYS_semctl, SYS_shmget, SYS_msgget, SYS_semget, SYS_prlimit64, 440 /* process_madvise */, 448 /* process_mrelease */,
    SYS_setns, SYS_sync, SYS_syncfs,
#ifdef SYS_fork
    SYS_fork, SYS_vfork, SYS_pause,
#endif
#ifdef SYS_setrlimit
    SYS_setrlimit,
#endif
#ifdef SYS_ipc
    SYS_ipc,
#endif
#ifdef SYS_sigsuspend
    SYS_sigsuspend,
#endif
#ifdef __i386__
    7 /* waitpid */, 113 /* vm86old */, 166 /* vm86 */,
#endif
};

/* Calls that mostly end the child at once, or make it sleep until its alarm: in few children only. */
static const int deadly[] = {
    SYS_rt_sigreturn, SYS_munmap, SYS_mremap, SYS_brk, SYS_mprotect, SYS_nanosleep, SYS_clock_nanosleep,
#ifdef SYS_sigreturn
    SYS_sigreturn,
#endif
#ifdef SYS_arch_prctl
    SYS_arch_prctl,
#endif
#ifdef __x86_64__
    335 /* uretprobe */,
#endif
#ifdef __arm__
    0xf0005 /* set_tls */, 0xf0001 /* breakpoint */,
#endif
};
static bool with_deadly;

static bool is_left_out(int nr)
{
    for (unsigned n = 0; !with_deadly && n < sizeof(deadly) / sizeof(deadly[0]); n++)
        if (deadly[n] == nr)
            return true;
    for (unsigned n = 0; n < sizeof(left_out) / sizeof(left_out[0]); n++)
        if (left_out[n] == nr)
            return true;
    return false;
}

static char *area;              /* 64 pages: written, read only, none, free */
static int fds[8];

static long value(void)
{
    static const long odd[] = { 0, 1, -1, 2, 3, 7, 8, 16, 64, 127, 128, 255, 256, 4095, 4096, 4097, 65535, 65536, 1 << 20, 0x7fffffff,
                                (long)0x80000000, -4095, -4096, -100, 0x101010, (long)0xfffff000 };

    switch (rnd(16)) {
    case 0: case 1: case 2: case 3: return (long)(area + rnd(4096 * 4) * 4);            /* memory of any kind */
    case 4: case 5: return (long)(area + rnd(16) * 4096);
    case 6: return (long)(area + rnd(64) * 4096 - rnd(16));
    case 7: case 8: return fds[rnd(8)];
    case 9: return rnd(64);
    case 10: return 1L << rnd(sizeof(long) * 8 - 1);
    case 11: return (long)((uint64_t)rnd(0x7fffffff) << 32 | rnd(0x7fffffff));
    case 12: return (long)rnd(0x7fffffff) & 0xfff;
    default: return odd[rnd(sizeof(odd) / sizeof(odd[0]))];
    }
}

static void fill(void)
{
    for (unsigned n = 0; n < 16 * 4096 / sizeof(long); n++)
        ((long *)area)[n] = value();
    strcpy(area + 128, "file");
    strcpy(area + 256, "/proc/self/maps");
    strcpy(area + 4096 - 5, "edge");
}

static void child(unsigned calls)
{
    struct rlimit files = { 256, 256 }, size = { 1 << 20, 1 << 20 };
    bool show = getenv("SYSFUZZ_SHOW");

    with_deadly = rnd(8) == 0;
    alarm(5);
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_FSIZE, &size);
    area = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fill();
    mprotect(area + 16 * 4096, 16 * 4096, PROT_READ);
    mprotect(area + 32 * 4096, 16 * 4096, PROT_NONE);
    munmap(area + 48 * 4096, 16 * 4096);
    fds[0] = open("file", O_RDWR | O_CREAT, 0600);
    fds[1] = open(".", O_RDONLY | O_DIRECTORY);
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds + 2);
    pipe2(fds + 4, O_NONBLOCK);
    fds[6] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    fds[7] = -1;
    while (calls--) {
        int nr = rnd(24) ? rnd(472) : rnd(16) + 0xf0000;
        long a[6];

        for (int n = 0; n < 6; n++)
            a[n] = value();
        if (is_left_out(nr))
            continue;
        if (show) {
            char line[200];
            int n = snprintf(line, sizeof(line), "%d(%lx, %lx, %lx, %lx, %lx, %lx)\n", nr, a[0], a[1], a[2], a[3], a[4], a[5]);

            syscall(SYS_write, 2, line, n);
        }
        syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
    _exit(0);
}

/* What a program may bring upon itself. */
static bool is_own_end(int status)
{
    int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

    return !sig || sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGALRM || sig == SIGXFSZ || sig == SIGPIPE || sig == SIGSYS
        || sig == SIGVTALRM || sig == SIGPROF || sig == SIGIO || sig == SIGUSR1 || sig == SIGUSR2 || sig >= 32 || sig == SIGKILL
        || sig == SIGXCPU || sig == SIGTRAP || sig == SIGFPE;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    unsigned by[64] = { 0 };
    unsigned children = argc > 2 ? atoi(argv[2]) : 20, calls = argc > 3 ? atoi(argv[3]) : 500, bad = 0, killed = 0, hung = 0;

    for (unsigned n = 0; n < children; n++) {
        time_t until = time(NULL) + 12;
        int status = 0;
        pid_t pid = fork(), r;

        if (!pid) {
            state = seed + n;
            child(calls);
        }
        while ((r = waitpid(pid, &status, WNOHANG | WUNTRACED)) == 0 && time(NULL) < until)
            usleep(2000);
        if (r == 0 || WIFSTOPPED(status)) {
            hung += r == 0;
            printf(r ? "seed %llu: stopped\n" : "seed %llu: no end\n", (unsigned long long)(seed + n));
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
        }
        killed += WIFSIGNALED(status);
        by[WIFSIGNALED(status) ? WTERMSIG(status) & 63 : 0]++;
        if (!is_own_end(status)) {
            printf("seed %llu: status %#x\n", (unsigned long long)(seed + n), status);
            bad++;
        }
    }
    printf("%u children, %u ended by a signal, %u without an end, %u bad\n", children, killed, hung, bad);
    for (unsigned n = 0; n < 64; n++)
        if (by[n])
            printf("%u:%u ", n, by[n]);
    printf("\n");
    return bad != 0;
}
