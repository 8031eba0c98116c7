/* Runs in the oracle (Debian's qemu-user): reads batches of cases, runs each in this process, writes the states they end in.
 * Everything goes through one signal handler: a case is begun by returning from a signal into its state, and ends in a
 * signal, be it that of the trap behind its code or of a fault. So the kernel interface loads and stores all of the state,
 * and no instruction of the architecture under test is needed for it. Without a C library, for all four guests. */
#include <stddef.h>
#include <stdint.h>
#include "case.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
typedef struct { void *sp; int flags; size_t size; } stack_info;

/* ---- the architectures: system calls, signal frames */

#ifdef __aarch64__
enum { SYS_read = 63, SYS_write = 64, SYS_exit = 93, SYS_setitimer = 103, SYS_sigaltstack = 132, SYS_rt_sigaction = 134, SYS_mmap = 222 };
#define DATA_BASE DATA_BASE64
struct frame {
    uint64_t flags, link;
    stack_info stack;
    uint64_t mask[16];
    __attribute__((aligned(16))) struct {
        uint64_t fault, regs[31], sp, pc, pstate;
        __attribute__((aligned(16))) struct { uint32_t magic, size, fpsr, fpcr; uint64_t v[32][2]; } fp;
    } m;
};
struct action { void *handler; unsigned long flags; void *restorer; uint64_t mask; };
static long sys(long n, long a, long b, long c, long d, long e, long f)
{
    register long x8 asm("x8") = n, x0 asm("x0") = a, x1 asm("x1") = b, x2 asm("x2") = c, x3 asm("x3") = d, x4 asm("x4") = e,
                  x5 asm("x5") = f;

    asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
static void start_trap(void) { asm volatile("brk 0" ::: "memory"); }
enum { START_TRAP_BYTES = 4 };
static void flush_code(void *at, size_t n)
{
    for (size_t i = 0; i < n; i += 16)
        asm volatile("dc cvau, %0; dsb ish; ic ivau, %0" :: "r"((char *)at + i) : "memory");
    asm volatile("dsb ish; isb" ::: "memory");
}
static void drop_reservation(void) { asm volatile("clrex"); }

static void take(struct case_state *s, const struct frame *f)
{
    for (unsigned n = 0; n < 31; n++)
        s->r[n] = f->m.regs[n];
    s->r[31] = f->m.sp;
    s->pc = f->m.pc;
    s->flags = (uint32_t)f->m.pstate;
    s->fpcr = f->m.fp.fpcr;
    s->fpsr = f->m.fp.fpsr;
    __builtin_memcpy(s->v, f->m.fp.v, sizeof(s->v));
}

static void give(struct frame *f, const struct case_state *s)
{
    for (unsigned n = 0; n < 31; n++)
        f->m.regs[n] = s->r[n];
    f->m.sp = s->r[31];
    f->m.pc = s->pc;
    f->m.pstate = s->flags;
    f->m.fp.fpcr = s->fpcr;
    f->m.fp.fpsr = s->fpsr;
    __builtin_memcpy(f->m.fp.v, s->v, sizeof(s->v));
}
static uint64_t *frame_pc(struct frame *f) { return &f->m.pc; }

#elif defined(__arm__)
enum { SYS_read = 3, SYS_write = 4, SYS_exit = 1, SYS_setitimer = 104, SYS_sigaltstack = 186, SYS_rt_sigaction = 174, SYS_mmap = 192,
       SYS_cacheflush = 0xf0002 };
#define DATA_BASE DATA_BASE32
struct frame {
    uint32_t flags, link;
    stack_info stack;
    struct { uint32_t trap_no, error, oldmask, r[16], cpsr, fault; } m;
    uint32_t mask[32];
    __attribute__((aligned(8))) struct { uint32_t magic, size; uint64_t d[32]; uint32_t fpscr; } fp;
};
struct action { void *handler; unsigned long flags; void *restorer; uint64_t mask; };
static long sys(long n, long a, long b, long c, long d, long e, long f)
{
    register long r7 asm("r7") = n, r0 asm("r0") = a, r1 asm("r1") = b, r2 asm("r2") = c, r3 asm("r3") = d, r4 asm("r4") = e,
                  r5 asm("r5") = f;

    asm volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : "memory");
    return r0;
}
static void start_trap(void) { asm volatile("bkpt 0" ::: "memory"); }
enum { START_TRAP_BYTES = 4 };
static void flush_code(void *at, size_t n) { sys(SYS_cacheflush, (long)at, (long)at + (long)n, 0, 0, 0, 0); }
static void drop_reservation(void) { asm volatile("clrex"); }

static void take(struct case_state *s, const struct frame *f)
{
    for (unsigned n = 0; n < 15; n++)
        s->r[n] = f->m.r[n];
    s->pc = f->m.r[15];
    s->flags = f->m.cpsr;
    s->fpcr = f->fp.fpscr;
    __builtin_memcpy(s->v, f->fp.d, sizeof(f->fp.d));
}

static void give(struct frame *f, const struct case_state *s)
{
    for (unsigned n = 0; n < 15; n++)
        f->m.r[n] = (uint32_t)s->r[n];
    f->m.r[15] = (uint32_t)s->pc;
    f->m.cpsr = s->flags;
    f->fp.fpscr = s->fpcr;
    __builtin_memcpy(f->fp.d, s->v, sizeof(f->fp.d));
}
static uint32_t *frame_pc(struct frame *f) { return &f->m.r[15]; }

#elif defined(__riscv)
enum { SYS_read = 63, SYS_write = 64, SYS_exit = 93, SYS_setitimer = 103, SYS_sigaltstack = 132, SYS_rt_sigaction = 134, SYS_mmap = 222 };
#define DATA_BASE (sizeof(long) == 8 ? DATA_BASE64 : DATA_BASE32)
struct frame {
    unsigned long flags, link;
    stack_info stack;
    uint64_t mask[16];
    __attribute__((aligned(16))) struct { unsigned long pc, x[31]; uint64_t f[32]; uint32_t fcsr; } m;
};
struct action { void *handler; unsigned long flags; uint64_t mask; };
static long sys(long n, long a, long b, long c, long d, long e, long f)
{
    register long a7 asm("a7") = n, a0 asm("a0") = a, a1 asm("a1") = b, a2 asm("a2") = c, a3 asm("a3") = d, a4 asm("a4") = e,
                  a5 asm("a5") = f;

    asm volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5) : "memory");
    return a0;
}
static void start_trap(void) { asm volatile(".option push; .option norvc; ebreak; .option pop" ::: "memory"); }
enum { START_TRAP_BYTES = 4 };
static void flush_code(void *at, size_t n) { asm volatile("fence.i" ::: "memory"); }
static void drop_reservation(void)
{
    static int word;
    long failed;

    asm volatile("sc.w %0, zero, (%1)" : "=r"(failed) : "r"(&word) : "memory");
}

static void take(struct case_state *s, const struct frame *f)
{
    for (unsigned n = 1; n < 32; n++)
        s->r[n] = (uint64_t)(long)f->m.x[n - 1];
    s->r[0] = 0;
    s->pc = f->m.pc;
    s->fpcr = f->m.fcsr;
    for (unsigned n = 0; n < 32; n++) {
        s->v[n][0] = f->m.f[n];
        s->v[n][1] = 0;
    }
}

static void give(struct frame *f, const struct case_state *s)
{
    for (unsigned n = 1; n < 32; n++)
        f->m.x[n - 1] = (unsigned long)s->r[n];
    f->m.pc = (unsigned long)s->pc;
    f->m.fcsr = s->fpcr;
    for (unsigned n = 0; n < 32; n++)
        f->m.f[n] = s->v[n][0];
}
static unsigned long *frame_pc(struct frame *f) { return &f->m.pc; }
#endif

/* What the compiler calls; all that is copied here is whole aligned words. */
void *memcpy(void *to, const void *from, size_t n)
{
    for (size_t i = 0; i < n / sizeof(long); i++)
        ((volatile long *)to)[i] = ((const long *)from)[i];
    return to;
}
void *memset(void *at, int byte, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((volatile char *)at)[i] = (char)byte;
    return at;
}

/* ---- the data area */

static uint64_t *data_words(void) { return (uint64_t *)(uintptr_t)DATA_BASE; }
static uint8_t *data_window(void) { return (uint8_t *)data_words() + WINDOW_OFFSET; }

/* What a case changed outside the window, put right again. */
static uint32_t data_stray(uint64_t *words, unsigned from, unsigned to)
{
    uint32_t stray = 0;

    for (unsigned n = from; n < to; n++) {
        if (words[n] != data_pattern(n)) {
            words[n] = data_pattern(n);
            stray = stray ? stray : 8 * n + 1;
        }
    }
    return stray;
}

static uint32_t data_check(void)
{
    uint32_t below = data_stray(data_words(), 0, WINDOW_OFFSET / 8);
    uint32_t above = data_stray(data_words(), (WINDOW_OFFSET + WINDOW_BYTES) / 8, DATA_BYTES / 8);

    return below ? below : above;
}

/* ---- the cases */

static struct case_request requests[CASE_MAX];
static struct case_state results[CASE_MAX];
static struct { uint32_t first, end; } batch;
static int32_t current = -1;            /* case that runs; -1: the runner itself */
static struct frame resume;             /* the runner's own state while cases run */
static uint8_t handler_stack[65536] __attribute__((aligned(16)));
enum { SIG_TRAP = 5, SIG_VTALRM = 26, ITIMER_VIRTUAL = 1, SA_SIGINFO = 4, SA_ONSTACK = 0x08000000 };
struct siginfo { int signo, error, code; void *address __attribute__((aligned(sizeof(long)))); };

static void case_end(int signo, const struct siginfo *info, const struct frame *f)
{
    struct case_state *s = &results[current];
    uint64_t code = DATA_BASE + CODE_OFFSET + (uint64_t)current * CASE_BYTES;

    take(s, f);
    s->signal = signo == SIG_TRAP && s->pc >= code && s->pc < code + CASE_BYTES ? 0 : signo;
    s->address = (uintptr_t)info->address;
    __builtin_memcpy(s->window, data_window(), WINDOW_BYTES);
    s->stray = data_check();
}

static void handler(int signo, const struct siginfo *info, struct frame *f)
{
    drop_reservation();
    if (current >= 0) {
        case_end(signo, info, f);
    } else {
        resume = *f;
        if (signo != SIG_TRAP)          /* the runner's own fault */
            sys(SYS_exit, 100 + signo, 0, 0, 0, 0, 0);
        *frame_pc(&resume) += START_TRAP_BYTES;
    }
    current = current < 0 ? (int32_t)batch.first : current + 1;
    if (current < (int32_t)batch.end) {
        __builtin_memcpy(data_window(), requests[current].state.window, WINDOW_BYTES);
        give(f, &requests[current].state);
    } else {
        *f = resume;
        current = -1;
    }
}

static void transfer(long call, int fd, void *at, size_t n)
{
    for (size_t done = 0; done < n;) {
        long r = sys(call, fd, (long)at + (long)done, (long)(n - done), 0, 0, 0);

        if (r == -4)                    /* EINTR */
            continue;
        if (r <= 0)
            sys(SYS_exit, r < 0, 0, 0, 0, 0, 0);
        done += (size_t)r;
    }
}

static void map(uint64_t at, size_t n, int protection)
{
    enum { PRIVATE = 2, FIXED = 16, ANONYMOUS = 32 };

    if (sys(SYS_mmap, (long)at, (long)n, protection, PRIVATE | FIXED | ANONYMOUS, -1, 0) != (long)at)
        sys(SYS_exit, 2, 0, 0, 0, 0, 0);
}

static void prepare(void)
{
    static const int signals[] = { 4, 5, 7, 8, 11, SIG_VTALRM };
    stack_info stack = { handler_stack, 0, sizeof(handler_stack) };
    struct action a = { .handler = (void *)handler, .flags = SA_SIGINFO | SA_ONSTACK, .mask = ~UINT64_C(0) };

    map(DATA_BASE, DATA_BYTES, 3);
    map(DATA_BASE + CODE_OFFSET, CASE_MAX * CASE_BYTES, 7);
    data_check();
    sys(SYS_sigaltstack, (long)&stack, 0, 0, 0, 0, 0);
    for (unsigned n = 0; n < ARRAY_SIZE(signals); n++)
        sys(SYS_rt_sigaction, signals[n], (long)&a, 0, 8, 0, 0);
}

static void run_batch(void)
{
    static const long seconds[2][4] = { { 0 }, { 1, 0, 1, 0 } };        /* of processor time: a case that never ends is ended */
    uint32_t *code = (uint32_t *)(uintptr_t)(DATA_BASE + CODE_OFFSET);

    for (unsigned n = batch.first; n < batch.end; n++)
        for (unsigned w = 0; w < CASE_WORDS; w++)
            code[n * CASE_WORDS + w] = requests[n].code[w];
    flush_code(code, CASE_MAX * CASE_BYTES);
    sys(SYS_setitimer, ITIMER_VIRTUAL, (long)seconds[1], 0, 0, 0, 0);
    start_trap();
    sys(SYS_setitimer, ITIMER_VIRTUAL, (long)seconds[0], 0, 0, 0, 0);
}

__attribute__((used, noreturn)) void runner(void)
{
    prepare();
    for (;;) {
        transfer(SYS_read, 0, &batch, sizeof(batch));
        if (batch.end > CASE_MAX || batch.first >= batch.end)
            sys(SYS_exit, 3, 0, 0, 0, 0, 0);
        transfer(SYS_read, 0, &requests[batch.first], (batch.end - batch.first) * sizeof(requests[0]));
        run_batch();
        transfer(SYS_write, 1, &results[batch.first], (batch.end - batch.first) * sizeof(results[0]));
    }
}

asm(".globl _start\n_start:\n"
#ifdef __riscv
    "call runner\n");
#else
    "bl runner\n");
#endif
