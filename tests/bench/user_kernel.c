/* What programs of user mode ask of the kernel: times by itself, a line each: name seconds. Its argument "child" is what the
 * fork and exec part runs: under the emulator in $RUNNER, where the one that this runs under does not run it by itself. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static volatile int handled;
static void handler(int sig) { handled++; }

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static int turn;

static void take_turns(int me, int count)
{
    for (int n = 0; n < count; n++) {
        pthread_mutex_lock(&lock);
        while (turn != me)
            pthread_cond_wait(&turned, &lock);
        turn = !me;
        pthread_cond_signal(&turned);
        pthread_mutex_unlock(&lock);
    }
}

static void *other(void *arg)
{
    take_turns(1, *(int *)arg);
    return NULL;
}

static void getppids(char **argv, int n) { while (n--) syscall(SYS_getppid); }
static void clocks(char **argv, int n) { struct timespec t; while (n--) clock_gettime(CLOCK_REALTIME, &t); }
static void signals(char **argv, int n) { signal(SIGUSR1, handler); while (n--) raise(SIGUSR1); }

static void mutexes(char **argv, int n)
{
    pthread_t t;

    pthread_create(&t, NULL, other, &n);
    take_turns(0, n);
    pthread_join(t, NULL);
}

static void forks(char **argv, int n)
{
    const char *runner = getenv("RUNNER");

    while (n--) {
        if (!fork()) {
            if (runner)
                execl(runner, runner, argv[0], "child", NULL);
            else
                execl("/proc/self/exe", argv[0], "child", NULL);
            _exit(1);
        }
        wait(NULL);
    }
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*run)(char **argv, int n); int n; } parts[] = {
        { "getppid", getppids, 200000 }, { "clock_gettime", clocks, 500000 }, { "signal", signals, 50000 },
        { "mutex", mutexes, 10000 }, { "fork-exec", forks, 500 },
    };

    if (argc > 1 && !strcmp(argv[1], "child"))
        return 0;
    for (unsigned n = 0; n < sizeof(parts) / sizeof(parts[0]); n++) {
        double start = now();

        parts[n].run(argv, parts[n].n);
        printf("%s %.6f\n", parts[n].name, now() - start);
        fflush(stdout);
    }
    return 0;
}
