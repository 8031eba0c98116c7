/* What language runtimes rest on: that signals are exact wherever they come, that code which was just written runs, that threads
 * see memory as the architecture says. Prints "ok" or "FAILED" a check, and the number of failures. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static int failures;

static void check(bool ok, const char *name)
{
    printf("%s %s\n", ok ? "ok" : "FAILED", name);
    failures += !ok;
}

static void handle(int sig, int flags, void (*fn)(int, siginfo_t *, void *))
{
    struct sigaction a = { .sa_sigaction = fn, .sa_flags = flags | SA_SIGINFO };

    sigaction(sig, &a, NULL);
}

static void tick_every(int us) { setitimer(ITIMER_REAL, &(struct itimerval){ { 0, us }, { 0, us } }, NULL); }

static volatile sig_atomic_t ticks;
static void on_tick(int sig, siginfo_t *info, void *uc) { ticks++; }

/* Calls that never fail with EINTR do not when a signal comes just before they begin. */
static void calls_not_interrupted(void)
{
    unsigned bad = 0;
    int pipes[2];
    char c;

    handle(SIGALRM, 0, on_tick);
    if (pipe(pipes))
        return;
    ticks = 0;
    tick_every(100);
    for (unsigned i = 0; ticks < 2000 && i < 3000000; i++) {
        struct timespec ts;

        bad += syscall(SYS_getppid) < 0;
        bad += clock_getres(CLOCK_MONOTONIC, &ts) < 0;
        bad += write(pipes[1], "x", 1) != 1;
        bad += read(pipes[0], &c, 1) != 1;
    }
    tick_every(0);
    check(!bad, "calls that do not wait are not interrupted");
    /* those that wait are, without SA_RESTART only */
    tick_every(2000);
    check(read(pipes[0], &c, 1) == -1 && errno == EINTR, "a call that waits is interrupted");
    tick_every(0);
}

static const struct { const char *name; void (*run)(void); } areas[] = {
    { "calls", calls_not_interrupted },
};

int main(int argc, char **argv)
{
    for (unsigned i = 0; i < sizeof(areas) / sizeof(areas[0]); i++)
        if (argc < 2 || !strcmp(argv[1], areas[i].name))
            areas[i].run();
    printf("%d failures\n", failures);
    return failures != 0;
}
