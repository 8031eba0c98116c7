/* riscv32 has no Debian, and no other C library there makes Linux programs: picolibc, with a start and system calls of our own.
 * Prints "FAILED NAME (line)" for what is not as Linux has it, and "N failures". (The incumbent refuses a thread that shares no
 * System V semaphores.) */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SYS_dup3 = 24, SYS_openat = 56, SYS_close = 57, SYS_pipe2 = 59, SYS_read = 63, SYS_write = 64, SYS_exit = 93, SYS_exit_group = 94,
       SYS_waitid = 95, SYS_sigaltstack = 132, SYS_rt_sigaction = 134, SYS_uname = 160, SYS_getpid = 172, SYS_gettid = 178, SYS_brk = 214,
       SYS_munmap = 215, SYS_clone = 220, SYS_mmap2 = 222, SYS_mprotect = 226, SYS_tgkill = 131, SYS_statx = 291, SYS_clock_gettime64 = 403,
       SYS_futex_time64 = 422, SYS_llseek = 62 };
enum { SIGUSR1 = 10, SIGSEGV = 11, SIGCHLD = 17, SA_SIGINFO = 4, SA_ONSTACK = 0x08000000 };
enum { AT_PHDR = 3, AT_PHNUM = 5, AT_PAGESZ = 6, AT_RANDOM = 25, PT_TLS = 7 };

static int failures, errno_kept;
static void check(bool ok, const char *name, int line)
{
    if (!ok)
        printf("FAILED %s (line %d, errno %d)\n", name, line, errno_kept);
    failures += !ok;
}
#define OK(name, condition) check(condition, name, __LINE__)

static long call(long nr, long a, long b, long c, long d, long e, long f)
{
    register long a0 asm("a0") = a, a1 asm("a1") = b, a2 asm("a2") = c, a3 asm("a3") = d, a4 asm("a4") = e, a5 asm("a5") = f;
    register long a7 asm("a7") = nr;

    asm volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5), "r"(a7) : "memory");
    errno_kept = a0 < 0 ? (int)-a0 : 0;
    return a0;
}
#define CALL(nr, ...) CALL_(nr, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define CALL_(nr, a, b, c, d, e, f, ...) call(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* ---- what picolibc asks of a system */

static char line[512];
static unsigned line_length;
static int put_flush(void)
{
    CALL(SYS_write, 1, line, line_length);
    line_length = 0;
    return 0;
}
static int put(char c, FILE *f)
{
    line[line_length++] = c;
    return c == '\n' || line_length == sizeof(line) ? put_flush() : (unsigned char)c;
}
static FILE terminal = FDEV_SETUP_STREAM(put, NULL, NULL, _FDEV_SETUP_WRITE);
FILE *const stdout = &terminal, *const stderr = &terminal;

void *sbrk(ptrdiff_t n)
{
    static uintptr_t end;
    uintptr_t old = end ? end : (uintptr_t)CALL(SYS_brk, 0);

    end = CALL(SYS_brk, old + n);
    return end == old + n ? (void *)old : (void *)-1;
}
void _exit(int status) { for (;;) CALL(SYS_exit_group, status); }

/* ---- the checks */

static _Thread_local int of_thread = 1234;
static int shared, child_tid;
static volatile uintptr_t fault_at;
static volatile int got, got_value;
static uint8_t handler_stack[16384] __attribute__((aligned(16)));
static void *volatile handler_sp;

struct siginfo { int number, error, code, pid, uid, value; };
struct action { void (*handler)(int, struct siginfo *, uint32_t *); unsigned long flags; uint32_t mask[2]; };

/* Steps over the 4-byte instruction that faulted: struct ucontext's registers begin with pc, 160 bytes on. */
static void on_fault(int sig, struct siginfo *info, uint32_t *context)
{
    fault_at = *(uintptr_t *)((char *)info + 12);
    handler_sp = __builtin_frame_address(0);
    context[40] += 4;
}
static void on_signal(int sig, struct siginfo *info, uint32_t *context) { got = sig, got_value = info->pid; }

static int thread(void *arg)
{
    __atomic_fetch_add(&shared, (int)(intptr_t)arg, __ATOMIC_SEQ_CST);
    return 0;
}

/* clone(flags, stack, parent's tid, tls, child's tid): the child runs fn(arg) on its own stack and ends. */
static long spawn(long flags, void *stack, int (*fn)(void *), void *arg, int *tid)
{
    void **top = (void **)((char *)stack - 16);
    register long a0 asm("a0") = flags, a1 asm("a1") = (long)top, a2 asm("a2") = (long)tid, a3 asm("a3") = 0, a4 asm("a4") = (long)tid;
    register long a7 asm("a7") = SYS_clone;

    top[0] = (void *)fn;
    top[1] = arg;
    asm volatile("ecall\n bnez a0, 1f\n lw t0, 0(sp)\n lw a0, 4(sp)\n jalr t0\n li a7, 93\n ecall\n1:"
                 : "+r"(a0) : "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a7) : "memory", "t0", "ra");
    return a0;
}

static void memory(void)
{
    char *p = (char *)CALL(SYS_mmap2, 0, 65536, 3, 0x22, -1, 0), *list[64];
    struct action a = { on_fault, SA_SIGINFO | SA_ONSTACK };
    struct { void *sp; int flags; unsigned long size; } stack = { handler_stack, 0, sizeof(handler_stack) };
    bool same = true;

    OK("mmap2", (long)p > 0 || (long)p < -4096);
    memset(p, 7, 65536);
    OK("mprotect", CALL(SYS_mprotect, p, 4096, 1) == 0);
    OK("sigaltstack", CALL(SYS_sigaltstack, &stack, 0) == 0);
    OK("rt_sigaction", CALL(SYS_rt_sigaction, SIGSEGV, &a, 0, 8) == 0);
    asm volatile(".option push\n.option norvc\n sw zero, 8(%0)\n.option pop" : : "r"(p) : "memory");
    OK("a fault's address", fault_at == (uintptr_t)p + 8 && p[8] == 7);
    OK("alternate stack", (uint8_t *)handler_sp > handler_stack && (uint8_t *)handler_sp < handler_stack + sizeof(handler_stack));
    OK("munmap", CALL(SYS_munmap, p, 65536) == 0);
    for (int n = 0; n < 64; n++)
        list[n] = memset(malloc(1000 + n * 331), n, 1000 + n * 331);
    for (int n = 0; n < 64; n++) {
        same &= list[n][0] == n && list[n][999 + n * 331] == n;
        free(list[n]);
    }
    OK("malloc", same);
}

static void processes(void)
{
    struct action a = { on_signal, SA_SIGINFO };
    struct { int number, error, code, pid, uid, status; char rest[104]; } info;
    void *stack = (char *)CALL(SYS_mmap2, 0, 65536, 3, 0x22, -1, 0) + 65536;
    int pipe[2], pid, tid = 0;
    char text[8] = "";

    OK("pipe2", CALL(SYS_pipe2, pipe, 0) == 0);
    pid = CALL(SYS_clone, SIGCHLD);
    if (pid == 0) {
        CALL(SYS_write, pipe[1], "child", 5);
        CALL(SYS_exit_group, 7);
    }
    OK("fork", pid > 0 && CALL(SYS_read, pipe[0], text, sizeof(text)) == 5 && !strcmp(text, "child"));
    OK("waitid", CALL(SYS_waitid, 1, pid, &info, 4, 0) == 0 && info.pid == pid && info.status == 7 && info.code == 1);
    child_tid = -1;
    tid = spawn(0x00010f00 | 0x00200000 | 0x00100000, stack, thread, (void *)41, &child_tid);      /* clears and wakes child_tid */
    OK("thread", tid > 0);
    for (int seen; (seen = __atomic_load_n(&child_tid, __ATOMIC_SEQ_CST)) != 0; )
        CALL(SYS_futex_time64, &child_tid, 0, seen, 0);
    OK("what the thread did", __atomic_add_fetch(&shared, 1, __ATOMIC_SEQ_CST) == 42);
    pid = CALL(SYS_getpid);
    tid = CALL(SYS_gettid);
    OK("signal", CALL(SYS_rt_sigaction, SIGUSR1, &a, 0, 8) == 0 && CALL(SYS_tgkill, pid, tid, SIGUSR1) == 0 && got == SIGUSR1
       && got_value == pid);
}

static void files(const char *self)
{
    struct { int64_t s; long ns, pad; } a = { 0 }, b = { 0 };
    uint32_t statx[64] = { 0 };
    int fd = CALL(SYS_openat, -100, self, 0, 0);
    int64_t at = 0;
    char head[4];
    char uname[6][65];

    OK("openat", fd >= 0 && CALL(SYS_read, fd, head, 4) == 4 && !memcmp(head, "\177ELF", 4));
    OK("llseek", CALL(SYS_llseek, fd, 1, 2, &at, 0) == 0 && at == 0x100000002);
    OK("statx", CALL(SYS_statx, fd, "", 0x1000, 0x7ff, statx) == 0 && (statx[7] & 0xf000) == 0x8000);
    OK("close", CALL(SYS_close, fd) == 0 && CALL(SYS_close, fd) == -9);
    OK("clock_gettime64", CALL(SYS_clock_gettime64, 1, &a) == 0 && CALL(SYS_clock_gettime64, 1, &b) == 0
       && b.s * 1000000000 + b.ns >= a.s * 1000000000 + a.ns && a.s + a.ns > 0);
    OK("no 32-bit time", CALL(113, 1, &a) == -38);
    OK("uname", CALL(SYS_uname, uname) == 0 && !strcmp(uname[4], "riscv32"));
}

static void arithmetic(void)
{
    volatile double x = 2;
    volatile float y = 3;
    volatile uint64_t big = UINT64_C(0x123456789abcdef1);
    char text[64];

    snprintf(text, sizeof(text), "%.12f %.6f", exp(sin(x)), (double)sqrtf(y));
    OK("libm", !strcmp(text, "2.482577728015 1.732051"));
    OK("64-bit arithmetic", big / 12345 == 106259090114523 && big % 12345 == 3886 && big * 3 == UINT64_C(0x369d0369d0369cd3));
    OK("thread-local data", of_thread == 1234);
}

/* The initial stack: argc, argv, environment, auxv. picolibc has thread-local data, which the start must lay out. */
static uint8_t tls[1024] __attribute__((aligned(16)));
__attribute__((used)) static void start(uintptr_t *sp)
{
    uintptr_t argc = sp[0], *auxv = sp + 1 + argc + 1, value[32] = { 0 };

    while (*auxv++)
        ;
    for (; *auxv; auxv += 2)
        if (*auxv < 32)
            value[*auxv] = auxv[1];
    for (uint32_t *ph = (uint32_t *)value[AT_PHDR], n = 0; n < value[AT_PHNUM]; n++, ph += 8)
        if (ph[0] == PT_TLS) {
            uint8_t *from = (uint8_t *)ph[2];

            for (uint32_t k = 0; k < ph[4] && k < sizeof(tls); k++)     /* no memcpy(): nothing of the library before this is done */
                tls[k] = from[k];
        }
    asm volatile("mv tp, %0" : : "r"(tls) : "memory");
    OK("arguments", argc == 2 && !strcmp((char *)sp[2], "word"));
    OK("auxv", value[AT_PAGESZ] == 4096 && value[AT_RANDOM]);
    arithmetic();
    memory();
    processes();
    files((char *)sp[1]);
    printf("%d failures\n", failures);
    _exit(failures != 0);
}
asm(".globl _start\n_start:\n.option push\n.option norelax\n la gp, __global_pointer$\n.option pop\n mv a0, sp\n andi sp, sp, -16\n call start");
