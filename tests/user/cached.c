/* What test_cache.py runs again and again: the same output each time and on each architecture, from code of several files, with
 * threads, faults and processes. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef OTHER
#define ANSWER 43
#else
#define ANSWER 42
#endif

/* Functions that a run may use or not. */
#define FUNCTION(n) static __attribute__((noinline)) uint32_t function_##n(uint32_t x) { x = x * 31 + n; return x ^ x >> (n % 13 + 1); }
#define TEN(X, t) X(t##0) X(t##1) X(t##2) X(t##3) X(t##4) X(t##5) X(t##6) X(t##7) X(t##8) X(t##9)
#define FIFTY(X) TEN(X, 1) TEN(X, 2) TEN(X, 3) TEN(X, 4) TEN(X, 5)
FIFTY(FUNCTION)
#define NAME(n) function_##n,
static uint32_t (*const functions[])(uint32_t) = { FIFTY(NAME) };

static sigjmp_buf after;
static volatile uintptr_t fault_at;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    fault_at = (uintptr_t)info->si_addr;
    siglongjmp(after, 1);
}

/* The store faults after registers have changed: what the handler's code sees must be exact. */
static int faults(void)
{
    struct sigaction a = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    uint8_t *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    volatile int n = 0;

    mprotect(p + 4096, 4096, PROT_NONE);
    sigaction(SIGSEGV, &a, NULL);
    if (sigsetjmp(after, 1) == 0)
        for (;; n++)
            p[n] = n;
    return n + (fault_at == (uintptr_t)p + 4096);
}

static void *work(void *arg)
{
    uint64_t x = (uintptr_t)arg;

    for (int n = 0; n < 20000; n++)
        x = x * 6364136223846793005u + functions[n % 50]((uint32_t)(x >> 33));
    return (void *)(uintptr_t)(uint32_t)(x >> 32);
}

static int compare(const void *a, const void *b) { return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1; }

static int children(const char *self, int n)
{
    while (n--) {
        pid_t pid = fork();

        if (pid == 0) {
            execle(self, self, "child", NULL, (char *[]){ NULL });
            _exit(1);
        }
        waitpid(pid, NULL, 0);
    }
    return 0;
}

#ifdef MARKED
/* A constant that is found in the file, not in its first page. */
static __attribute__((noinline, aligned(4096))) unsigned marked(void)
{
#ifdef __x86_64__
    unsigned x;

    __asm__("movl $0x44332211, %0" : "=a"(x));
    return x;
#else
    register unsigned x __asm__("w9");

    __asm__("movz w9, #0x3123" : "=r"(x));
    return x;
#endif
}
#endif

int main(int argc, char **argv)
{
    static uint32_t numbers[2000];
    pthread_t id[4];
    double sum = 0;

    if (argc > 2 && !strcmp(argv[1], "function"))
        return printf("function %s is %u\n", argv[2], functions[atoi(argv[2]) % 50](7)) < 0;
    if (argc > 2 && !strcmp(argv[1], "children"))
        return children(argv[0], atoi(argv[2]));
    if (argc > 1 && !strcmp(argv[1], "child"))
        return puts("child") < 0;
#ifdef MARKED
    printf("marked %x\n", marked());
#endif
    for (unsigned n = 0; n < 2000; n++)
        numbers[n] = n * 2654435761u;
    qsort(numbers, 2000, 4, compare);
    for (int n = 1; n < 300; n++)
        sum += strtod("1.25", NULL) / n;
    printf("answer %d, sorted %u %u, sum %.6f, faults %d\n", ANSWER, numbers[1], numbers[1000], sum, faults());
    for (uintptr_t n = 0; n < 4; n++)
        pthread_create(&id[n], NULL, work, (void *)n);
    for (unsigned n = 0; n < 4; n++) {
        void *result;

        pthread_join(id[n], &result);
        printf("thread %u: %lu\n", n, (unsigned long)(uintptr_t)result);
    }
    return 0;
}
