/* Signals of a program, at any instruction: faults told exactly, timers in the middle of arithmetic, alternate stacks, nesting,
 * masks, queues, interrupted system calls, storms on threads, contexts that handlers edit, default actions. Runs natively, too. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static int fails;
#define CHECK(c) do { if (!(c)) { printf("FAIL %s:%d %s\n", __func__, __LINE__, #c); fails++; } } while (0)

static volatile int got, got_code;
static void *volatile got_addr;
static sigjmp_buf out;

static void set(int sig, void (*fn)(int, siginfo_t *, void *), int flags)
{
    struct sigaction a = { .sa_flags = SA_SIGINFO | flags };

    a.sa_sigaction = fn;
    CHECK(!sigaction(sig, &a, NULL));
}

static void note(int sig, siginfo_t *i, void *context)
{
    got = sig;
    got_code = i->si_code;
    got_addr = i->si_addr;
}

/* ---- faults */

static void leave(int sig, siginfo_t *i, void *context)
{
    note(sig, i, context);
    siglongjmp(out, 1);
}

static char *pages(int prot)
{
    return mmap(NULL, 8192, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

#define FAULTS(what) do { if (!sigsetjmp(out, 1)) { what; CHECK(!#what); } } while (0)

static void test_faults(void)
{
    char *p = pages(PROT_READ);
    FILE *f = tmpfile();

    set(SIGSEGV, leave, SA_NODEFER);
    set(SIGBUS, leave, SA_NODEFER);
    FAULTS(*(volatile int *)(p + 100) = 1);
    CHECK(got == SIGSEGV && got_code == SEGV_ACCERR && got_addr == p + 100);
    munmap(p, 8192);
    FAULTS((void)*(volatile int *)(p + 4));
    CHECK(got == SIGSEGV && got_code == SEGV_MAPERR && got_addr == p + 4);
    FAULTS(memset(p, 0, 100));
    CHECK(got_addr >= (void *)p && got_addr < (void *)(p + 100));
    FAULTS(((void (*)(void))(p + 8))());
    CHECK(got == SIGSEGV && got_addr == p + 8);
    p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(f), 0);     /* the file is empty */
    FAULTS(*(volatile char *)p = 1);
    CHECK(got == SIGBUS && got_code == BUS_ADRERR && got_addr == p);
    fclose(f);
}

/* ---- asynchronous ones */

static volatile double noise;

static void tick(int sig, siginfo_t *i, void *context)
{
    got++;
    noise = noise * 1.5 + got;          /* floating point in the handler is not to be seen outside */
}

/* i386: the result of x87 is rounded by the store. */
static double arithmetic(unsigned rounds)
{
    volatile double result;
    double y = 1.0;

    for (unsigned n = 0; n < rounds; n++)
        y = y > 1e6 ? 1 : y * 1.0000001 + 0.25;
    result = y;
    return result;
}

static void test_timer(void)
{
    struct itimerval it = { { 0, 1000 }, { 0, 1000 } };
    double want = arithmetic(20000);

    got = 0;
    set(SIGALRM, tick, SA_RESTART);
    setitimer(ITIMER_REAL, &it, NULL);
    while (got < 100)
        CHECK(arithmetic(20000) == want);
    memset(&it, 0, sizeof(it));
    setitimer(ITIMER_REAL, &it, NULL);
}

static char alternate[65536];
static volatile char *handler_sp;

static void on_alternate(int sig, siginfo_t *i, void *context)
{
    char here;
    stack_t now;

    handler_sp = &here;
    sigaltstack(NULL, &now);
    CHECK(now.ss_flags & SS_ONSTACK);
    CHECK(i->si_code == SI_TKILL);
    got = sig;
}

static void test_alternate_stack(void)
{
    stack_t st = { .ss_sp = alternate, .ss_size = sizeof(alternate) };

    CHECK(!sigaltstack(&st, NULL));
    set(SIGUSR1, on_alternate, SA_ONSTACK);
    got = 0;
    raise(SIGUSR1);
    CHECK(got == SIGUSR1 && handler_sp >= alternate && handler_sp < alternate + sizeof(alternate));
    st.ss_flags = SS_DISABLE;
    CHECK(!sigaltstack(&st, NULL));
}

static void nest(int sig, siginfo_t *i, void *context)
{
    if (++got < 20)
        raise(sig);
}

static void test_nested(void)
{
    got = 0;
    set(SIGUSR2, nest, SA_NODEFER);
    raise(SIGUSR2);
    CHECK(got == 20);
}

static void test_reset(void)
{
    struct sigaction a;

    set(SIGUSR1, note, SA_RESETHAND);
    raise(SIGUSR1);
    sigaction(SIGUSR1, NULL, &a);
    CHECK(a.sa_handler == SIG_DFL);
}

static void see_mask(int sig, siginfo_t *i, void *context)
{
    sigset_t now;

    sigprocmask(0, NULL, &now);
    CHECK(sigismember(&now, SIGUSR1) && sigismember(&now, SIGTERM));
    got = sig;
}

static void test_masks(void)
{
    struct sigaction a = { .sa_flags = SA_SIGINFO };
    sigset_t now, usr1, none;

    a.sa_sigaction = see_mask;
    sigaddset(&a.sa_mask, SIGTERM);
    sigaction(SIGUSR1, &a, NULL);
    got = 0;
    raise(SIGUSR1);
    sigprocmask(0, NULL, &now);
    CHECK(got == SIGUSR1 && !sigismember(&now, SIGUSR1) && !sigismember(&now, SIGTERM));
    sigemptyset(&none);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    got = 0;
    raise(SIGUSR1);
    sigpending(&now);
    CHECK(!got && sigismember(&now, SIGUSR1));
    sigprocmask(SIG_UNBLOCK, &usr1, NULL);
    CHECK(got == SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    raise(SIGUSR1);
    got = 0;
    CHECK(sigsuspend(&none) == -1 && errno == EINTR && got == SIGUSR1);
    sigprocmask(0, NULL, &now);
    CHECK(sigismember(&now, SIGUSR1));
    sigprocmask(SIG_UNBLOCK, &usr1, NULL);
}

static void queued(int sig, siginfo_t *i, void *context)
{
    CHECK(i->si_code == SI_QUEUE && i->si_value.sival_int == got && i->si_pid == getpid());
    got++;
}

static void test_queue(void)
{
    int sig = SIGRTMIN + 3;
    sigset_t rt;

    got = 0;
    set(sig, queued, 0);
    sigemptyset(&rt);
    sigaddset(&rt, sig);
    sigprocmask(SIG_BLOCK, &rt, NULL);
    for (int n = 0; n < 50; n++)
        CHECK(!sigqueue(getpid(), sig, (union sigval){ .sival_int = n }));
    CHECK(got == 0);
    sigprocmask(SIG_UNBLOCK, &rt, NULL);
    CHECK(got == 50);
}

/* ---- system calls that are interrupted */

struct interrupt { pthread_t whom; int fd[2]; volatile bool returned; };

static void *interrupt(void *arg)
{
    struct interrupt *s = arg;

    do {                                /* the first may come before the read */
        usleep(10000);
        pthread_kill(s->whom, SIGUSR1);
    } while (!s->returned || got != SIGUSR1);
    CHECK(write(s->fd[1], "x", 1) == 1);
    return NULL;
}

static void test_interrupted(void)
{
    struct interrupt s = { .whom = pthread_self() };
    pthread_t k;
    ssize_t n;
    char c;

    CHECK(!pipe(s.fd));
    for (int restart = 0; restart < 2; restart++) {
        set(SIGUSR1, note, restart ? SA_RESTART : 0);
        got = 0;
        s.returned = restart;
        pthread_create(&k, NULL, interrupt, &s);
        if (!restart) {
            CHECK(read(s.fd[0], &c, 1) == -1 && errno == EINTR);
            s.returned = true;
        }
        do                              /* one more may be on its way */
            n = read(s.fd[0], &c, 1);
        while (!restart && n < 0 && errno == EINTR);
        CHECK(n == 1 && got == SIGUSR1);
        pthread_join(k, NULL);
    }
}

/* ---- threads */

static volatile int storm, stop;

static void count(int sig, siginfo_t *i, void *context) { __sync_fetch_and_add(&storm, 1); }

static void *work(void *arg)
{
    double want = arithmetic(1000);
    intptr_t wrong = 0;

    while (!stop)
        wrong += arithmetic(1000) != want;
    return (void *)wrong;
}

static void test_storm(void)
{
    pthread_t t[4];
    void *wrong;

    set(SIGUSR2, count, SA_RESTART);
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, work, NULL);
    for (int n = 0; n < 2000 || storm <= 10; n++)
        pthread_kill(t[n & 3], SIGUSR2);
    stop = 1;
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], &wrong);
        CHECK(!wrong);
    }
}

/* ---- contexts that a handler edits */

static int skip;                        /* bytes of the instruction */

static void step_over(int sig, siginfo_t *i, void *context)
{
    ucontext_t *u = context;

    got = sig;
    got_code = i->si_code;
#if defined(__x86_64__)
    u->uc_mcontext.gregs[REG_RIP] += skip;
#elif defined(__i386__)
    u->uc_mcontext.gregs[REG_EIP] += skip;
#elif defined(__aarch64__)
    u->uc_mcontext.pc += skip;
#elif defined(__arm__)
    u->uc_mcontext.arm_pc += skip;
#elif defined(__riscv)
    u->uc_mcontext.__gregs[0] += skip;
#endif
}

static void test_edited(void)
{
    set(SIGILL, step_over, 0);
    set(SIGTRAP, step_over, 0);
    set(SIGFPE, step_over, 0);
    got = 0;
#if defined(__x86_64__) || defined(__i386__)
    int a = 1, d = 0;

    skip = 2;
    __asm__ volatile("ud2");
    CHECK(got == SIGILL && got_code == ILL_ILLOPN);
    __asm__ volatile("idivl %%ecx" : "+a"(a), "+d"(d) : "c"(0));
    CHECK(got == SIGFPE && got_code == FPE_INTDIV);
    skip = 0;                           /* the trap comes after its instruction */
    __asm__ volatile("int3");
    CHECK(got == SIGTRAP && got_code == SI_KERNEL);
#elif defined(__aarch64__)
    skip = 4;
    __asm__ volatile(".inst 0");
    CHECK(got == SIGILL && got_code == ILL_ILLOPC);
    __asm__ volatile("brk #1");
    CHECK(got == SIGTRAP && got_code == TRAP_BRKPT);
#elif defined(__riscv)
    skip = 4;
    __asm__ volatile(".word 0xffffffff");
    CHECK(got == SIGILL);
    __asm__ volatile(".option push\n.option norvc\nebreak\n.option pop");
    CHECK(got == SIGTRAP && got_code == TRAP_BRKPT);
#elif defined(__thumb__)
    skip = 2;
    __asm__ volatile(".inst.n 0xdeff");
    CHECK(got == SIGILL);
    __asm__ volatile(".inst.n 0xde01");
    CHECK(got == SIGTRAP);
#elif defined(__arm__)
    skip = 4;
    __asm__ volatile(".inst 0xe7f000f0");
    CHECK(got == SIGILL);
    __asm__ volatile(".inst 0xe7f001f0");
    CHECK(got == SIGTRAP);
#endif
}

/* ---- default actions */

static int death_by(int sig)
{
    int status;
    pid_t p = fork();

    if (!p) {
        signal(sig, SIG_DFL);
        if (sig == SIGSEGV)
            *(volatile int *)8 = 0;
        raise(sig);
        _exit(0);
    }
    waitpid(p, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_default(void)
{
    CHECK(death_by(SIGSEGV) == SIGSEGV);
    CHECK(death_by(SIGTERM) == SIGTERM);
    CHECK(death_by(SIGABRT) == SIGABRT);
    CHECK(death_by(SIGCHLD) == 0);
}

int main(void)
{
    test_faults();
    test_timer();
    test_alternate_stack();
    test_nested();
    test_reset();
    test_masks();
    test_queue();
    test_edited();
    test_default();
    test_interrupted();
    test_storm();
    printf("signals done %d\n", fails);
    return fails != 0;
}
