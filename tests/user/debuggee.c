/* What test_gdb.py looks at: functions, a variable to be watched, signals, threads, a system call that blocks, fork and exec. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

volatile int watched, by_thread, calls, handled, release;
volatile double half = 0.5;
#define APART __attribute__((noinline, noclone))

APART int inner(int n)
{
    calls++;
    return n * 2;
}

APART int outer(int n)
{
    int v = inner(n + 1);

    watched = v;
    half = half * v;
    return v + 1;
}

static void handler(int sig) { handled += sig; }

static void *worker(void *arg)
{
    __atomic_fetch_add(&by_thread, 1, __ATOMIC_SEQ_CST);
    while (!release)
        usleep(1000);
    return arg;
}

APART void all_here(void) { calls += 100; }

APART void threads(void)
{
    pthread_t t[3];

    for (int n = 0; n < 3; n++)
        pthread_create(&t[n], NULL, worker, NULL);
    while (__atomic_load_n(&by_thread, __ATOMIC_SEQ_CST) < 3)
        usleep(1000);
    all_here();
    release = 1;
    for (int n = 0; n < 3; n++)
        pthread_join(t[n], NULL);
}

APART void child_work(void) { calls += 1000; }

static void forks(char **argv)
{
    int status = 0;
    pid_t pid = fork();

    if (!pid) {
        if (argv[2])
            printf("waits\n");
        while (argv[2])
            pause();
        inner(1);
        child_work();
        _exit(5);
    }
    waitpid(pid, &status, 0);
    printf("child %d\n", WEXITSTATUS(status));
    if (vfork() == 0) {
        execl(argv[0], argv[0], "hello", NULL);
        _exit(6);
    }
    wait(&status);
    printf("vfork child %d\n", WEXITSTATUS(status));
    inner(2);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGUSR1, handler);
    if (!strcmp(what, "hello"))
        return printf("hello\n") != 6;
    printf("outer %d\n", outer(20));
    if (!strcmp(what, "signal")) {
        raise(SIGUSR1);
        printf("handled %d\n", handled);
    } else if (!strcmp(what, "segv")) {
        *(volatile int *)16 = 1;
    } else if (!strcmp(what, "threads")) {
        threads();
        printf("joined %d\n", calls);
    } else if (!strcmp(what, "block")) {
        char c;
        ssize_t n = read(0, &c, 1);

        printf("read %zd\n", n);
    } else if (!strcmp(what, "fork")) {
        forks(argv);
    } else if (!strcmp(what, "exec")) {
        execl(argv[0], argv[0], "hello", NULL);
    } else if (!strcmp(what, "kill")) {
        kill(getpid(), SIGTERM);
    }
    return calls % 100;
}
