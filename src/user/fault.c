/* Signals of the host. SIGSEGV and SIGBUS in translated code, or in C code that accesses guest memory, are the guest's faults;
 * a region's table makes its state exact. Every other signal is the guest's own: noted here, delivered by the loop.
 *
 * Handlers take no lock and call nothing but what is async-signal-safe. Signals are raw: glibc hides two. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include "internal.h"
#include "rhea/jit/codegen.h"

void fault_raise(struct cpu *cpu, int sig, int code, uint64_t va, enum mmu_access access)
{
    cpu->jit->fault = (struct host_fault){ sig, code, va, access };
    cpu->exception = EXCEPTION_HOST;
}

/* ---- raw system calls */

static void restorer(void) __attribute__((naked, used));
static void restorer(void) { __asm__("mov $15, %eax\n\tsyscall"); }     /* rt_sigreturn */

enum { SA_RESTORER_ = 0x04000000 };
int host_sigaction(int sig, const struct kernel_sigaction *set, struct kernel_sigaction *old)
{
    return syscall(SYS_rt_sigaction, sig, set, old, 8) < 0 ? -errno : 0;
}

void host_handler_set(int sig, unsigned long flags)
{
    struct kernel_sigaction a = { .handler = host_signal, .flags = flags | SA_SIGINFO | SA_RESTORER_,
                                  .restorer = restorer, .mask = ~UINT64_C(0) };

    a.mask &= ~(UINT64_C(1) << (SIGSEGV - 1) | UINT64_C(1) << (SIGBUS - 1));
    host_sigaction(sig, &a, NULL);
}

uint64_t host_sigmask(int how, uint64_t mask)
{
    uint64_t old = 0;

    syscall(SYS_rt_sigprocmask, how, &mask, &old, 8);
    return old;
}

void host_handlers_init(void)
{
    host_handler_set(SIGSEGV, 0);
    host_handler_set(SIGBUS, 0);
}

/* The first pthread_create() of a process makes the C library take a signal for itself (SIGSETXID), whose handler the guest may have
 * set by then. So it comes before that, with a thread that does nothing, and the signal is given back. */
enum { SIGNAL_SETXID = 33 };
static void *do_nothing(void *arg) { return arg; }

static void threads_once(void)
{
    struct kernel_sigaction old = { 0 }, back = { 0 };
    uint64_t mask = host_sigmask(SIG_BLOCK, ~UINT64_C(0));
    pthread_t id;

    host_sigaction(SIGNAL_SETXID, NULL, &old);
    if (!pthread_create(&id, NULL, do_nothing, NULL))
        pthread_join(id, NULL);
    back.handler = (uintptr_t)old.handler == (uintptr_t)SIG_IGN ? old.handler : NULL;
    host_sigaction(SIGNAL_SETXID, &back, NULL);
    host_sigmask(SIG_SETMASK, mask);
}

void engine_threads_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, threads_once);
}

/* ---- copies that may fault: rep movsb, whose count is what is left */

extern const uint8_t user_copy_insn[], user_copy_end[];
__attribute__((noinline, noclone)) size_t user_copy(void *to, const void *from, size_t n)
{
    __asm__ volatile(".globl user_copy_insn, user_copy_end\n"
                     ".hidden user_copy_insn, user_copy_end\n"
                     "user_copy_insn: rep movsb\n"
                     "user_copy_end:\n"
                     : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return n;
}

/* ---- system calls that signals may interrupt before they begin: between look and syscall there is no gap, since the handler
 * takes whoever is in [user_syscall_begin, user_syscall_end) out. The kernel restarts a call (SA_RESTART) by going back to
 * its instruction, which is in there, too. Either way nothing was done, and it is made after the handler: only the kernel says
 * EINTR, since most calls never fail with it. */
extern const uint8_t user_syscall_begin[], user_syscall_end[], user_syscall_abort[];
int64_t user_syscall_asm(_Atomic uint32_t *look, uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f);
__asm__(".text\n"
        ".globl user_syscall_asm, user_syscall_begin, user_syscall_end, user_syscall_abort\n"
        ".hidden user_syscall_asm, user_syscall_begin, user_syscall_end, user_syscall_abort\n"
        ".type user_syscall_asm, @function\n"
        "user_syscall_asm:\n"
        "    mov %rdi, %r11\n"
        "    mov %rsi, %rax\n"
        "    mov %rdx, %rdi\n"
        "    mov %rcx, %rsi\n"
        "    mov %r8, %rdx\n"
        "    mov %r9, %r10\n"
        "    mov 8(%rsp), %r8\n"
        "    mov 16(%rsp), %r9\n"
        "user_syscall_begin:\n"
        "    cmpl $0, (%r11)\n"
        "    jne user_syscall_abort\n"
        "    syscall\n"
        "user_syscall_end:\n"
        "    ret\n"
        "user_syscall_abort:\n"
        "    mov $-512, %rax\n"
        "    ret\n"
        ".size user_syscall_asm, . - user_syscall_asm\n");

int64_t user_safe_syscall(struct thread *t, long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    return user_syscall_asm(&t->cpu->exit_request, (uint64_t)nr, a, b, c, d, e, f);
}

/* ---- the handler */

/* C code was accessing guest memory. */
static void access_fault(struct cpu *cpu)
{
    cpu->jit->accessing = false;
    cpu_loop_exit(cpu);
}

static void call_on_return(ucontext_t *uc, void (*fn)(struct cpu *), struct cpu *cpu)
{
    greg_t *r = uc->uc_mcontext.gregs;

    r[REG_RSP] = ((r[REG_RSP] - 128) & ~(greg_t)15) - 8;
    r[REG_RDI] = (greg_t)(uintptr_t)cpu;
    r[REG_RIP] = (greg_t)(uintptr_t)fn;
    r[REG_EFL] &= ~(greg_t)0x400;       /* DF: the ABI wants it clear */
}

static bool fault_in_guest(struct thread *t, int sig, const siginfo_t *info, ucontext_t *uc)
{
    struct cpu *cpu = t->cpu;
    struct jit_cpu *jc = cpu->jit;
    struct code_fault f;

    if (jit_fault(jc->engine->jit, cpu, uc, &f)) {
        fault_raise(cpu, sig, info->si_code, f.va, f.write ? ACCESS_WRITE : ACCESS_READ);
        jit_leave(jc->engine->jit, uc, JIT_LEFT_LOOP);
        return true;
    }
    if (!jc->accessing)
        return false;
    fault_raise(cpu, sig, info->si_code, jc->access_va, jc->access);
    call_on_return(uc, access_fault, cpu);
    return true;
}

static char *append_hex(char *at, uint64_t v)
{
    for (int shift = 60; shift >= 0; shift -= 4)
        if (v >> shift || !shift)
            *at++ = "0123456789abcdef"[v >> shift & 15];
    return at;
}

/* Says where, from the start of Rhea's code for addr2line: memory of the processes of others is not there to be looked at. */
static void die_by_host_fault(int sig, uintptr_t pc, const void *addr)
{
    extern const char __executable_start[];
    char text[160] = "rhea-user: a fault of its own, not the program's: code at 0x", *at = text + strlen(text);
    struct kernel_sigaction a = { 0 };
    ssize_t ignored;

    at = append_hex(at, pc - (uintptr_t)__executable_start);
    at = stpcpy(at, ", address 0x");
    at = append_hex(at, (uintptr_t)addr);
    *at++ = '\n';
    ignored = write(2, text, at - text);
    (void)ignored;
    host_sigaction(sig, &a, NULL);      /* returns to the same instruction */
}

void host_signal(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    struct thread *t = thread_self();
    uintptr_t pc = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
    int saved = errno;

    if ((sig == SIGSEGV || sig == SIGBUS) && info->si_code > 0) {
        if (pc == (uintptr_t)user_copy_insn)
            uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)user_copy_end;
        else if (!t || !fault_in_guest(t, sig, info, uc))
            die_by_host_fault(sig, pc, info->si_addr);
        return;
    }
    if (sig == DEBUGGER_SIGNAL && info->si_code == SI_QUEUE && info->si_ptr == debugger_kick) {
        if (t)
            cpu_kick(t->cpu, CPU_EXIT_STOP);
        if (pc >= (uintptr_t)user_syscall_begin && pc < (uintptr_t)user_syscall_end)
            uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)user_syscall_abort;
    } else if (t && signal_take(t, sig, info)) {
        uint64_t all = ~(UINT64_C(1) << (SIGSEGV - 1) | UINT64_C(1) << (SIGBUS - 1));

        memcpy(&uc->uc_sigmask, &all, sizeof(all));     /* until the loop has delivered it */
        if (pc >= (uintptr_t)user_syscall_begin && pc < (uintptr_t)user_syscall_end)
            uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)user_syscall_abort;
    }
    errno = saved;
}

/* ---- guest memory for the system-call layer */

uintptr_t engine_base(const struct engine *e) { return e->base; }
uint64_t guest_of_host(const struct engine *e, const void *host) { return (uintptr_t)host - e->base; }

void *guest_host(struct engine *e, uint64_t va, size_t n)
{
    uint64_t end = e->user->bits == 32 ? UINT64_C(1) << 32 : UINT64_C(1) << 47;

    if (e->user->bits == 32)
        va = (uint32_t)va;
    if (va > end || n > end - va)
        return NULL;
    return (void *)(e->base + va);
}

int guest_read(struct thread *t, void *to, uint64_t va, size_t n)
{
    const void *p = guest_host(t->process->engine, va, n);

    return p && !user_copy(to, p, n) ? 0 : -EFAULT;
}

int guest_write(struct thread *t, uint64_t va, const void *from, size_t n)
{
    for (unsigned tries = 0; tries < 4; tries++) {      /* another thread may run code there, which protects it again */
        void *p = guest_host_write(t->process->engine, va, n);

        if (p && !user_copy(p, from, n))
            return 0;
    }
    return -EFAULT;
}

int64_t guest_strlen(struct thread *t, uint64_t va, size_t max)
{
    uint8_t buf[256];
    size_t n = 0;

    while (n <= max) {
        size_t k = sizeof(buf), got;
        const uint8_t *nul;
        void *p = guest_host(t->process->engine, va + n, 1);

        if (!p)
            return -EFAULT;
        if (k > CPU_PAGE_SIZE - ((va + n) & (CPU_PAGE_SIZE - 1)))
            k = CPU_PAGE_SIZE - ((va + n) & (CPU_PAGE_SIZE - 1));
        got = k - user_copy(buf, p, k);
        nul = memchr(buf, 0, got);
        if (nul)
            return n + (size_t)(nul - buf) > max ? -ENAMETOOLONG : (int64_t)(n + (size_t)(nul - buf));
        if (got < k)
            return -EFAULT;
        n += k;
    }
    return -ENAMETOOLONG;
}
