/* What language runtimes rest on: that signals are exact wherever they come, that code which was just written runs, that threads
 * see memory as the architecture says. Prints "ok" or "FAILED" a check, and the number of failures. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
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

/* ---- registers, at any instruction */

static _Atomic unsigned shared_count;
static volatile double handler_x = 1.25;
static void on_tick_busy(int sig, siginfo_t *info, void *uc)
{
    double x = handler_x;
    uint8_t bytes[256];

    for (unsigned i = 0; i < sizeof(bytes); i++)        /* vector and floating-point registers are used */
        bytes[i] = (uint8_t)(i * 3 + ticks);
    for (unsigned i = 0; i < 20; i++)
        x = x * 0.75 + bytes[i];
    handler_x = x;
    shared_count++;
    ticks++;
}

__attribute__((noinline)) static uint64_t mixed(unsigned rounds)
{
    uint64_t h = 1469598103934665603u;
    double x = 0.5, y = 3;
    float v[32];

    for (unsigned i = 0; i < 32; i++)
        v[i] = i;
    for (unsigned k = 0; k < rounds; k++) {
        x = x * 0.999 + y / (k + 1);
        y = y + (x > 2 ? -0.125 : 0.25);
        for (unsigned i = 0; i < 32; i++)
            v[i] = v[i] * 0.5f + (float)((k ^ i) & 15);
        h = (h ^ (uint64_t)(x * 1e6) ^ (uint64_t)v[k & 31]) * 1099511628211u;
        h = (h << 7 | h >> 57) + k % 7 + (h & 1 ? k * 3 : k / 3);
    }
    return h;
}

static void *mixed_thread(void *arg) { return (void *)(uintptr_t)(mixed(60000) == *(uint64_t *)arg); }

static void registers(void)
{
    uint64_t want = mixed(60000);
    pthread_t t[3];
    bool same = true;

    handle(SIGALRM, SA_RESTART, on_tick_busy);
    tick_every(60);
    for (unsigned i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, mixed_thread, &want);
    same &= mixed(60000) == want;
    for (unsigned i = 0; i < 3; i++) {
        void *r;

        pthread_join(t[i], &r);
        same &= r != NULL;
    }
    tick_every(0);
    check(same, "registers survive signals at any instruction");
}

/* ---- handlers that edit the context */

static volatile unsigned edits;
#if defined __x86_64__
#define PC(uc) (uc)->uc_mcontext.gregs[REG_RIP]
#define RESULT(uc) (uc)->uc_mcontext.gregs[REG_RAX]
#define PROBE "mov (%1), %0\n"
#define RESULT_REG "rax"
#elif defined __i386__
#define PC(uc) (uc)->uc_mcontext.gregs[REG_EIP]
#define RESULT(uc) (uc)->uc_mcontext.gregs[REG_EAX]
#define PROBE "mov (%1), %0\n"
#define RESULT_REG "eax"
#elif defined __aarch64__
#define PC(uc) (uc)->uc_mcontext.pc
#define RESULT(uc) (uc)->uc_mcontext.regs[0]
#define PROBE "ldr %0, [%1]\n"
#define RESULT_REG "x0"
#elif defined __arm__
#define PC(uc) (uc)->uc_mcontext.arm_pc
#define RESULT(uc) (uc)->uc_mcontext.arm_r0
#define PROBE "ldr %0, [%1]\n"
#define RESULT_REG "r0"
#else
#define PC(uc) (uc)->uc_mcontext.__gregs[0]
#define RESULT(uc) (uc)->uc_mcontext.__gregs[REG_A0]
#define PROBE "ld %0, 0(%1)\n"
#define RESULT_REG "a0"
#endif

#ifdef __thumb__
enum { THUMB_BIT = 1 };
#else
enum { THUMB_BIT = 0 };
#endif
extern const char probe_insn[], probe_next[];
__attribute__((noinline, noclone)) static unsigned long probe(unsigned long *p)
{
    register unsigned long r __asm__(RESULT_REG);
    unsigned long *q = p + 1;

    __asm__ volatile(".globl probe_insn, probe_next\nprobe_insn:\n" PROBE "probe_next:\n" : "=r"(r) : "r"(q) : "memory");
    return r;
}

static void on_segv_skip(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    if ((uintptr_t)PC(uc) != ((uintptr_t)probe_insn & ~(uintptr_t)THUMB_BIT))
        _exit(77);
    PC(uc) = (uintptr_t)probe_next & ~(uintptr_t)THUMB_BIT;
    RESULT(uc) = (uintptr_t)info->si_addr + 5;
    edits++;
}

static void contexts(void)
{
    unsigned long *none = mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), good[2] = { 1, 2 };
    bool ok = true;

    handle(SIGSEGV, SA_NODEFER, on_segv_skip);
    for (unsigned i = 0; i < 2000; i++) {
        ok &= probe(none + i) == (unsigned long)(uintptr_t)(none + i + 1) + 5;
        ok &= probe(good) == 2;
    }
    signal(SIGSEGV, SIG_DFL);
    check(ok && edits == 2000, "a handler skips the instruction and sets its result");
}

/* ---- stacks and pages */

static __thread sigjmp_buf overflow_buf;
static void on_overflow(int sig, siginfo_t *info, void *uc) { siglongjmp(overflow_buf, 1); }
#pragma GCC diagnostic ignored "-Winfinite-recursion"
__attribute__((noinline)) static unsigned recurse(volatile unsigned *p)
{
    volatile unsigned here[64] = { p[0] + 1 };

    return recurse(here) + here[0];
}

static void *overflow_thread(void *arg)
{
    stack_t s = { .ss_sp = malloc(65536), .ss_size = 65536 };
    static __thread volatile unsigned caught;
    unsigned zero = 0;

    sigaltstack(&s, NULL);
    for (unsigned i = 0; i < 20; i++)
        if (!sigsetjmp(overflow_buf, 1))
            recurse(&zero);
        else
            caught++;
    return (void *)(uintptr_t)(caught == 20);
}

static void overflows(void)
{
    pthread_t t[3];
    bool ok = true;
    void *r;

    handle(SIGSEGV, SA_ONSTACK, on_overflow);
    handle(SIGBUS, SA_ONSTACK, on_overflow);
    for (unsigned i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, overflow_thread, NULL);
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(t[i], &r);
        ok &= r != NULL;
    }
    signal(SIGSEGV, SIG_DFL);
    check(ok, "stacks that overflow are caught on the alternate stack");
}

static volatile char *poll_page;
static _Atomic unsigned polls;
static _Atomic bool polling;
static void on_poll(int sig, siginfo_t *info, void *uc)
{
    if (info->si_addr != poll_page)
        _exit(78);
    polls++;
}

static void *poller(void *arg)
{
    unsigned long n = 0;

    while (polling) {
        for (unsigned i = 0; i < 1000; i++)
            n += *poll_page + i;
        n ^= n >> 3;
    }
    return (void *)n;
}

static void safepoints(void)
{
    pthread_t t[3];

    poll_page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    handle(SIGSEGV, SA_NODEFER, on_poll);
    polling = true;
    for (unsigned i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, poller, NULL);
    for (unsigned i = 0; i < 200; i++) {
        unsigned before = polls;

        mprotect((void *)poll_page, 4096, PROT_NONE);
        while (polls == before)
            sched_yield();
        mprotect((void *)poll_page, 4096, PROT_READ);
    }
    polling = false;
    for (unsigned i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    signal(SIGSEGV, SIG_DFL);
    check(polls >= 200, "threads stop at a page made unreadable");
}

/* ---- threads stopped by signals, as collectors do */

static _Atomic unsigned stopped, resumed_count;
static _Atomic bool resume;
static void on_stop(int sig, siginfo_t *info, void *uc)
{
    sigset_t set;

    stopped++;
    sigfillset(&set);
    sigdelset(&set, SIGUSR2);
    while (!resume)
        sigsuspend(&set);
    resumed_count++;
}
static void on_resume(int sig, siginfo_t *info, void *uc) { }

static void *mutator(void *arg)
{
    uint64_t want = *(uint64_t *)arg;
    bool same = true;

    while (polling) {
        free(malloc(100));
        same &= mixed(200) == want;
        syscall(SYS_getppid);
        atomic_fetch_add(&shared_count, 1);
    }
    return (void *)(uintptr_t)same;
}

static void collectors(void)
{
    uint64_t want = mixed(200);
    pthread_t t[4];
    bool ok = true;
    void *r;

    handle(SIGUSR1, SA_RESTART, on_stop);
    handle(SIGUSR2, SA_RESTART, on_resume);
    polling = true;
    for (unsigned i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, mutator, &want);
    for (unsigned round = 0; round < 150; round++) {
        unsigned before;

        stopped = resumed_count = 0;
        resume = false;
        for (unsigned i = 0; i < 4; i++)
            pthread_kill(t[i], SIGUSR1);
        while (stopped < 4)
            sched_yield();
        before = shared_count;
        sched_yield();
        ok &= before == shared_count;
        resume = true;
        while (resumed_count < 4) {
            for (unsigned i = 0; i < 4; i++)
                pthread_kill(t[i], SIGUSR2);
            sched_yield();
        }
    }
    polling = false;
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(t[i], &r);
        ok &= r != NULL;
    }
    check(ok, "threads are stopped and resumed by signals");
}

/* ---- many short threads, forks among them */

static void *short_thread(void *arg) { atomic_fetch_add((_Atomic unsigned *)arg, 1); return NULL; }
static void *spawner(void *arg)
{
    for (unsigned i = 0; i < 100; i++) {
        pthread_t t;

        if (pthread_create(&t, NULL, short_thread, arg))
            return NULL;
        pthread_join(t, NULL);
    }
    return arg;
}

static void *forker(void *arg)
{
    for (unsigned i = 0; i < 20; i++) {
        int status = -1;
        pid_t pid = fork();

        if (!pid) {
            free(malloc(1000));
            _exit(mixed(100) & 63);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != (int)(mixed(100) & 63))
            return NULL;
    }
    return arg;
}

static void spawns(void)
{
    _Atomic unsigned count = 0;
    pthread_t t[6];
    bool ok = true;
    void *r;

    handle(SIGALRM, SA_RESTART, on_tick);
    tick_every(500);
    for (unsigned i = 0; i < 6; i++)
        pthread_create(&t[i], NULL, i < 4 ? spawner : forker, &count);
    for (unsigned i = 0; i < 6; i++) {
        pthread_join(t[i], &r);
        ok &= r != NULL;
    }
    tick_every(0);
    check(ok && count == 400, "short threads, and forks among them");
}

/* ---- memory order: what acquire and release forbid is not seen */

static _Atomic int lx, ly, lr0, lr1, go[2], finished[2];
enum { LITMUS_ROUNDS = 20000 };
static void litmus_wait(_Atomic int *p, int v) { for (unsigned n = 0; *p != v; n++) if (n > 200) sched_yield(); }
static void *litmus_other(void *arg)
{
    for (int i = 1; i <= LITMUS_ROUNDS; i++) {
        litmus_wait(&go[1], i);
        ly = 1;                         /* both sequentially consistent: not both may read 0 */
        lr1 = lx;
        finished[1] = i;
    }
    return NULL;
}

static void litmus(void)
{
    unsigned bad = 0;
    pthread_t t;

    pthread_create(&t, NULL, litmus_other, NULL);
    for (int i = 1; i <= LITMUS_ROUNDS; i++) {
        lx = ly = 0;
        go[1] = i;
        lx = 1;
        lr0 = ly;
        litmus_wait(&finished[1], i);
        bad += !lr0 && !lr1;
    }
    pthread_join(t, NULL);
    check(!bad, "store, then load of another thread's store");
}

/* ---- code that is written */

#if defined __x86_64__ || defined __i386__
typedef uint8_t code_unit;
static void code_make(void *p, unsigned v) { uint8_t c[6] = { 0xb8, v, v >> 8, v >> 16, 0, 0xc3 }; memcpy(p, c, 6); }
#elif defined __aarch64__
typedef uint32_t code_unit;
static void code_make(void *p, unsigned v) { uint32_t c[2] = { 0x52800000 | (v & 0xffff) << 5, 0xd65f03c0 }; memcpy(p, c, 8); }
#elif defined __arm__
typedef uint32_t code_unit;
static void code_make(void *p, unsigned v) { uint32_t c[2] = { 0xe3000000 | (v & 0xf000) << 4 | (v & 0xfff), 0xe12fff1e }; memcpy(p, c, 8); }
#else
typedef uint32_t code_unit;
static void code_make(void *p, unsigned v) { uint32_t c[2] = { 0x00000513 | (v & 0x7ff) << 20, 0x00008067 }; memcpy(p, c, 8); }
#endif
typedef unsigned (*code_fn)(void);
#define CODE_MASK 0x7ffu

static bool code_rounds(uint8_t *write, uint8_t *run, unsigned rounds)
{
    bool ok = true;

    for (unsigned i = 0; i < rounds; i++) {
        uint8_t *at = write + i * 16 % 4096, *fn = run + i * 16 % 4096;

        code_make(at, i & CODE_MASK);
        __builtin___clear_cache((char *)fn, (char *)fn + 16);
        ok &= ((code_fn)(uintptr_t)fn)() == (i & CODE_MASK);
    }
    return ok;
}

/* Code that runs some times as it is, then is changed: by a store, or by another mapping in its place. */
static bool code_changes(void)
{
    uint8_t *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *mapped = p + 4096;
    int fd = memfd_create("changes", 0);
    bool ok = fd >= 0 && !ftruncate(fd, 64 * 4096);

    for (unsigned i = 0; i < 64 && ok; i++) {
        uint8_t page[16];

        code_make(page, i);
        ok &= pwrite(fd, page, sizeof(page), i * 4096) == sizeof(page);
    }
    for (unsigned i = 0; i < 64 && ok; i++) {
        code_make(p, i);
        __builtin___clear_cache((char *)p, (char *)p + 16);
        ok &= mmap(mapped, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, i * 4096) == mapped;
        for (unsigned runs = 0; runs <= i % 20; runs++)
            ok &= ((code_fn)(uintptr_t)p)() == i && ((code_fn)(uintptr_t)mapped)() == i;
    }
    munmap(p, 8192);
    close(fd);
    return ok;
}

static void *code_thread(void *arg)
{
    uint8_t *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return (void *)(uintptr_t)code_rounds(p, p, 2000);
}

/* A function that one thread rewrites, and another calls: it gives an old or a new value, and the last one once it was told. */
static uint8_t *patched;
static _Atomic unsigned patch_told, patch_seen;
static void *patch_caller(void *arg)
{
    bool ok = true;

    for (unsigned last = 0; last < 500;) {
        unsigned told = patch_told, v = ((code_fn)(uintptr_t)patched)();

        ok &= v >= last && v <= 500;
        if (told > last)
            last = told;
        patch_seen = last;
    }
    return (void *)(uintptr_t)ok;
}

/* Two threads store at once beside a function that has just been run: neither store may be refused. */
enum { BESIDE_PAGES = 1000 };
static uint8_t *beside_pages;
static _Atomic int beside_go, beside_done;
static void *beside_other(void *arg)
{
    for (int i = 1; i <= BESIDE_PAGES; i++) {
        litmus_wait(&beside_go, i);
        *(volatile int *)(beside_pages + (size_t)i * 4096 + 2048) = i;
        beside_done = i;
    }
    return NULL;
}

static void code_beside(void)
{
    bool ok = true;
    pthread_t t;

    beside_pages = mmap(NULL, (BESIDE_PAGES + 1) * 4096u, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_create(&t, NULL, beside_other, NULL);
    for (int i = 1; i <= BESIDE_PAGES; i++) {
        uint8_t *fn = beside_pages + (size_t)i * 4096;
        volatile int *word = (int *)(fn + 2048);

        code_make(fn, i & CODE_MASK);
        __builtin___clear_cache((char *)fn, (char *)fn + 16);
        ok &= ((code_fn)(uintptr_t)fn)() == (i & CODE_MASK);
        beside_go = i;
        word[1] = i;
        litmus_wait(&beside_done, i);
        ok &= word[0] == i && word[1] == i;
    }
    pthread_join(t, NULL);
    check(ok, "threads store beside code");
    munmap(beside_pages, (BESIDE_PAGES + 1) * 4096u);
}

/* Threads run new code that goes on in the next page, while another changes what is mapped. */
static _Atomic int astride_left;
static void *astride_thread(void *arg)
{
    enum { PAIRS = 400 };
    uint8_t *pages = mmap(NULL, PAIRS * 8192u, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool ok = true;

    for (unsigned i = 0; i < PAIRS; i++) {
        uint8_t *fn = pages + i * 8192u + 4096 - (sizeof(code_unit) == 1 ? 3 : 4);

        code_make(fn, i & CODE_MASK);
        __builtin___clear_cache((char *)fn, (char *)fn + 16);
        ok &= ((code_fn)(uintptr_t)fn)() == (i & CODE_MASK);
    }
    munmap(pages, PAIRS * 8192u);
    astride_left--;
    return (void *)(uintptr_t)ok;
}

static void code_astride(void)
{
    pthread_t t[3];
    bool ok = true;
    void *r;

    for (unsigned round = 0; round < 10; round++) {
        astride_left = 3;
        for (unsigned i = 0; i < 3; i++)
            pthread_create(&t[i], NULL, astride_thread, NULL);
        while (astride_left)
            munmap(mmap(NULL, 16384, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 16384);
        for (unsigned i = 0; i < 3; i++) {
            pthread_join(t[i], &r);
            ok &= r != NULL;
        }
    }
    check(ok, "code goes on in the next page, while mappings change");
}

/* A thread waits in a loop of code for that code to be changed, as the JVM's callers do at a method that another thread takes out of
 * use. `turn`: the word that is the loop, or its end; at its place come words that do nothing, then a function. */
#if defined __x86_64__ || defined __i386__
enum { WAIT_NOP = 0x90909090u, WAIT_SELF = 0x9090feebu, WAIT_BACK = 0x9090faebu };
#elif defined __aarch64__
enum { WAIT_NOP = 0xd503201fu, WAIT_SELF = 0x14000000u, WAIT_BACK = 0x17ffffffu };
#elif defined __arm__
enum { WAIT_NOP = 0xe320f000u, WAIT_SELF = 0xeafffffeu, WAIT_BACK = 0xeafffffdu };
#else
enum { WAIT_NOP = 0x00000013u, WAIT_SELF = 0x0000006fu, WAIT_BACK = 0xffdff06fu };
#endif
static uint8_t *waited;
static _Atomic bool waiting;
static void *wait_caller(void *arg)
{
    waiting = true;
    return (void *)(uintptr_t)((code_fn)(uintptr_t)waited)();
}

static bool code_waits(uint8_t *write, uint8_t *run, uint32_t turn)
{
    bool ok = true;

    waited = run;
    for (unsigned round = 1; round <= 20 && ok; round++) {
        pthread_t t;
        void *r;

        waiting = false;
        memcpy(write, (uint32_t[]){ WAIT_NOP, turn }, 8);
        code_make(write + 8, round);
        __builtin___clear_cache((char *)run, (char *)run + 32);
        pthread_create(&t, NULL, wait_caller, NULL);
        while (!waiting)
            sched_yield();
        nanosleep(&(struct timespec){ 0, 3000000 }, NULL);
        __atomic_store_n((uint32_t *)(write + 4), WAIT_NOP, __ATOMIC_SEQ_CST);
        __builtin___clear_cache((char *)run, (char *)run + 32);
        pthread_join(t, &r);
        ok &= (uintptr_t)r == round;
    }
    return ok;
}

static void code(void)
{
    uint8_t *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *w, *x;
    uint8_t *fresh = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = memfd_create("code", 0);
    bool ok = true;
    pthread_t t[3];
    void *r;

    code_beside();
    code_astride();
    check(code_rounds(p, p, 5000), "code is written and run, again and again");
    check(code_changes(), "code that has run some times is changed");
    if (fd < 0 || ftruncate(fd, 4096))
        return;
    w = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    x = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    check(code_rounds(w, x, 3000), "code is written by one mapping and run by another");
    check(code_waits(fresh, fresh, WAIT_BACK) && code_waits(p, p, WAIT_SELF), "a loop is left when another thread has changed it");
    check(code_waits(w, x, WAIT_SELF), "... by another mapping");
    for (unsigned i = 0; i < 300 && ok; i++) {
        mprotect(p, 4096, PROT_READ | PROT_WRITE);
        code_make(p, i);
        mprotect(p, 4096, PROT_READ | PROT_EXEC);
        __builtin___clear_cache((char *)p, (char *)p + 16);
        ok &= ((code_fn)(uintptr_t)p)() == i;
    }
    check(ok, "code is written while it is not executable");
    for (unsigned i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, code_thread, NULL);
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(t[i], &r);
        ok &= r != NULL;
    }
    check(ok, "threads write code of their own");
    mprotect(p, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    patched = p;
    code_make(p, 0);
    __builtin___clear_cache((char *)p, (char *)p + 16);
    pthread_create(&t[0], NULL, patch_caller, NULL);
    for (unsigned i = 1; i <= 500; i++) {
        uint32_t word[2];

        code_make(word, i);
#if defined __x86_64__ || defined __i386__
        __atomic_store_n((uint16_t *)(p + 1), (uint16_t)i, __ATOMIC_SEQ_CST);   /* its operand: one aligned word below */
#else
        __atomic_store_n((uint32_t *)p, word[0], __ATOMIC_SEQ_CST);
#endif
        __builtin___clear_cache((char *)p, (char *)p + 16);
        patch_told = i;
        while (i % 10 == 0 && patch_seen < i)
            sched_yield();
    }
    pthread_join(t[0], &r);
    check(r != NULL, "code is patched under a thread that runs it");
}

/* Arm's page of helpers: kernel_user_helpers.rst. */
#ifdef __arm__
static void helpers(void)
{
    int (*cmpxchg)(int, int, volatile int *) = (void *)0xffff0fc0;
    int (*cmpxchg64)(const int64_t *, const int64_t *, volatile int64_t *) = (void *)0xffff0f60;
    void *(*get_tls)(void) = (void *)0xffff0fe0;
    void (*barrier)(void) = (void *)0xffff0fa0;
    int64_t old = 0x500000005, new = 0x900000007, word64 = old;
    int word = 5;

    check(*(int *)0xffff0ffc == 5, "helpers: version");
    check(cmpxchg(4, 6, &word) != 0 && word == 5 && cmpxchg(5, 6, &word) == 0 && word == 6, "helpers: cmpxchg");
    check(cmpxchg64(&new, &old, &word64) != 0 && word64 == old && cmpxchg64(&old, &new, &word64) == 0 && word64 == new, "helpers: cmpxchg64");
    barrier();
    check(get_tls() == __builtin_thread_pointer(), "helpers: get_tls");
}
#else
static void helpers(void) { }
#endif

/* A32 and T32 call each other in all ways; a signal that comes meanwhile finds PSTATE.T as the code is. */
#ifdef __arm__
__asm__(".pushsection .text\n.syntax unified\n.balign 4\n"
        ".arm\n.type a32_begin, %function\na32_begin:\na32_leaf: add r0, r0, #1\nbx lr\n"
        "a32_pops: push {r4, lr}\nadd r0, r0, #1\npop {r4, pc}\n"
        ".type a32_calls, %function\na32_calls: push {r4, r5, r6, lr}\nmov r4, r0\nmov r0, #0\nldr r5, =t32_pops + 1\n"
        "1: blx t32_leaf\nblx r5\nbl a32_leaf\nsubs r4, r4, #1\nbne 1b\npop {r4, r5, r6, pc}\n.ltorg\na32_end:\n"
        ".thumb\nt32_begin:\nt32_leaf: adds r0, #1\nbx lr\n"
        "t32_pops: push {r4, lr}\nadds r0, #1\npop {r4, pc}\n"
        ".thumb_func\nt32_calls: push {r4, r5, r6, lr}\nmov r4, r0\nmov r0, #0\nldr r5, =a32_pops\n"
        "1: blx a32_leaf\nblx r5\nbl t32_leaf\nsubs r4, #1\nbne 1b\npop {r4, r5, r6, pc}\n.balign 4\n.ltorg\nt32_end:\n"
        ".popsection\n");
extern const char a32_begin[], a32_end[], t32_begin[], t32_end[];
unsigned a32_calls(unsigned n), t32_calls(unsigned n);
static volatile sig_atomic_t wrong_states;

static void on_state(int sig, siginfo_t *info, void *context)
{
    const ucontext_t *uc = context;
    uintptr_t pc = PC(uc);
    bool thumb = uc->uc_mcontext.arm_cpsr & 0x20;

    wrong_states += (pc >= (uintptr_t)a32_begin && pc < (uintptr_t)a32_end && thumb) ||
                    (pc >= (uintptr_t)t32_begin && pc < (uintptr_t)t32_end && !thumb);
}

static void states(void)
{
    unsigned n = 0;

    handle(SIGALRM, SA_RESTART, on_state);
    tick_every(100);
    for (unsigned i = 0; i < 20; i++)
        n += a32_calls(2000) + t32_calls(2000);
    tick_every(0);
    check(n == 20 * 2 * 2000 * 3 && !wrong_states, "A32 and T32 call each other");
}
#else
static void states(void) { }
#endif

/* setuid() of a threaded program reaches all threads by a signal that the guest's C library keeps for itself, as the host's does. */
static void *idle(void *arg)
{
    while (polling)
        usleep(1000);
    return NULL;
}

static void identities(void)
{
    pthread_t t[2];

    polling = true;
    for (unsigned i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, idle, NULL);
    check(setuid(getuid()) == 0 && setgid(getgid()) == 0, "setuid with threads");
    polling = false;
    for (unsigned i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
}

#if defined __riscv && __riscv_xlen == 64
static void probes(void)
{
    struct { int64_t key; uint64_t value; } pair[] = { { 3, 9 }, { 4, 0 }, { 5, 0 }, { 1000, 7 } };

    check(syscall(258, pair, 4, 0, NULL, 0) == 0 && pair[0].key == 3 && pair[0].value == 1 && (pair[1].value & 3) == 3 && pair[2].value
          && pair[3].key == -1 && pair[3].value == 0, "riscv_hwprobe: base, extensions, speed, an unknown key");
}
#else
static void probes(void) { }
#endif

/* A call from the end of a 32-bit address space to its beginning. */
#if defined __arm__ || defined __i386__
static int callee_ran;
__attribute__((noinline)) static void callee(void) { callee_ran++; }
static void wrapping(void)
{
    uint8_t *p = mmap((void *)0xff000000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
#ifdef __arm__
    uint32_t to = (uint32_t)(uintptr_t)callee, off = (to & ~1u) - ((uint32_t)(uintptr_t)p + 12);
    uint32_t code_words[] = { 0xe92d4010, (to & 1 ? 0xfa000000 | (off & 2) << 23 : 0xeb000000) | (off >> 2 & 0xffffff), 0xe8bd8010 };

    memcpy(p, code_words, sizeof(code_words));
#else
    uint32_t off = (uint32_t)(uintptr_t)callee - ((uint32_t)(uintptr_t)p + 5);

    p[0] = 0xe8;
    memcpy(p + 1, &off, 4);
    p[5] = 0xc3;
#endif
    __builtin___clear_cache((char *)p, (char *)p + 16);
    for (unsigned i = 0; i < 100; i++)
        ((void (*)(void))(uintptr_t)p)();
    check(callee_ran == 100, "a call over the end of the address space");
}
#else
static void wrapping(void) { }
#endif

/* The x87: its registers are kept over calls, signals and MMX; exceptions that are unmasked come with the next instruction. */
#if defined __i386__ || defined __x86_64__
#define ALL_ST "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"
static volatile sig_atomic_t traps, trap_code;
static void on_fpe(int sig, siginfo_t *info, void *context)
{
    traps++;
    trap_code = info->si_code;
#ifdef __i386__
    ((ucontext_t *)context)->uc_mcontext.fpregs->sw &= ~0x80ffu;
    ((ucontext_t *)context)->uc_mcontext.fpregs->cw |= 0x3f;
#else
    ((ucontext_t *)context)->uc_mcontext.fpregs->swd &= (uint16_t)~0x80ffu;
    ((ucontext_t *)context)->uc_mcontext.fpregs->cwd |= 0x3f;
#endif
}

static void on_tick_x87(int sig, siginfo_t *info, void *context)
{
    long double x = 3;

    for (unsigned i = 0; i < 10; i++)
        x = x / 7 + i;
    __asm__ volatile("pcmpeqb %%mm3, %%mm3; emms" : : : ALL_ST);
    handler_x = (double)x;
    ticks++;
}

/* Eight registers in use; sums with a rounding of their own; what MMX writes is seen by the x87. */
__attribute__((noinline)) static long double stack_of_eight(unsigned rounds)
{
    const uint16_t up = 0xb7f, nearest = 0x37f;
    const long double third = 1 / 3.0L;
    long double sum = 0, part;
    uint64_t bits;

    for (unsigned i = 0; i < rounds; i++) {
        __asm__ volatile("fldcw %1; fld1; fldt %3; fldpi; fldl2e; fldt %3; fldln2; fldlg2; fld1; fldcw %2;"
                         "faddp; fmulp; faddp; fmulp; fsubrp; fdivp; faddp; fldt %3; faddp; fstpt %0" : "=m"(part) : "m"(up), "m"(nearest), "m"(third)
                         : ALL_ST);
        __asm__ volatile("fldz; fldt %1; movq %%mm6, %0; emms" : "=m"(bits) : "m"(third) : ALL_ST);
        sum += part + (long double)(bits >> 40 & 0xff) + (i % 64 ? 0 : (long double)(getppid() > 0));
    }
    return sum;
}

static void coprocessor(void)
{
    long double want, got;
    uint16_t unmasked = 0x37f & ~4, sw = 0;
    bool same = true;

    want = stack_of_eight(4000);
    handle(SIGALRM, SA_RESTART, on_tick_x87);
    tick_every(50);
    for (unsigned i = 0; i < 40; i++) {
        got = stack_of_eight(4000);
        same = same && got == want;
    }
    tick_every(0);
    check(same && want > 4000, "the x87's registers outlast signals, MMX and calls");
    handle(SIGFPE, 0, on_fpe);
    __asm__ volatile("fninit; fldcw %1; fld1; fldz; fdivrp; fwait; fnstsw %0; fninit" : "=m"(sw) : "m"(unmasked));
    check(traps == 1 && trap_code == FPE_FLTDIV && !(sw & 0x80ff), "a division by zero that is not masked");
    __asm__ volatile("fninit; fld1; fldz; fdivrp; fldcw %1; fnop; fnstsw %0; fninit" : "=m"(sw) : "m"(unmasked));
    check(traps == 2 && trap_code == FPE_FLTDIV, "unmasked after the fact");
}
#else
static void coprocessor(void) { }
#endif

static const struct { const char *name; void (*run)(void); } areas[] = {
    { "calls", calls_not_interrupted }, { "registers", registers }, { "contexts", contexts }, { "overflows", overflows },
    { "safepoints", safepoints }, { "collectors", collectors }, { "spawns", spawns }, { "litmus", litmus }, { "code", code },
    { "wrapping", wrapping }, { "helpers", helpers }, { "states", states }, { "probes", probes }, { "identities", identities },
    { "coprocessor", coprocessor },
};

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    for (unsigned i = 0; i < sizeof(areas) / sizeof(areas[0]); i++)
        if (argc < 2 || !strcmp(argv[1], areas[i].name))
            areas[i].run();
    printf("%d failures\n", failures);
    return failures != 0;
}
