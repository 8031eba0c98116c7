/* Signals of a guest process. The host does what it can: it queues, masks (the host thread's mask is the guest's, but that
 * faults are never blocked) and applies default actions, since a host handler is installed only where the guest has one. The
 * handler notes one signal and blocks all others; the loop delivers it at the next instruction boundary, with a frame that the
 * guest's user.c lays out, and sets the mask again. signal(7), kernel/signal.c's rules by its documentation. */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "internal.h"
#include "rhea/base/log.h"

#define BIT_OF(sig) (UINT64_C(1) << ((sig) - 1))
#define FAULTS (BIT_OF(SIGSEGV) | BIT_OF(SIGBUS))
#define UNBLOCKABLE (BIT_OF(SIGKILL) | BIT_OF(SIGSTOP))
#define DEFAULT_IGNORED (BIT_OF(SIGCHLD) | BIT_OF(SIGCONT) | BIT_OF(SIGURG) | BIT_OF(SIGWINCH))
#define STOPS (BIT_OF(SIGTSTP) | BIT_OF(SIGTTIN) | BIT_OF(SIGTTOU))
enum { ACTION_DFL = 0, ACTION_IGN = 1 };
enum { NSIG_ALL = 64, ALTSTACK_DISABLE = 2, ALTSTACK_ON = 1, ALTSTACK_MIN = 2048 };
#define ALTSTACK_AUTODISARM (1u << 31)

void signal_process_init(struct signal_process *p)
{
    memset(p, 0, sizeof(*p));
    pthread_mutex_init(&p->lock, NULL);
    for (int sig = 1; sig <= NSIG_ALL; sig++) {
        struct kernel_sigaction a = { 0 };

        if (!host_sigaction(sig, NULL, &a) && (uintptr_t)a.handler == ACTION_IGN)
            p->action[sig].handler = ACTION_IGN;
    }
}

void signal_thread_init(struct signal_thread *t, const struct signal_thread *parent)
{
    memset(t, 0, sizeof(*t));
    t->mask = parent ? parent->mask : host_sigmask(SIG_BLOCK, 0);
    t->altstack.flags = ALTSTACK_DISABLE;
    t->info = g_new0(siginfo_t, NSIG_ALL);
}

void signal_thread_free(struct signal_thread *t) { g_clear_pointer(&t->info, g_free); }

/* Signals that the host never blocks. Its dispositions are the whole host process's, and so is whether a debugger wants them. */
static uint64_t never_blocked = FAULTS;
static bool all_handled;

uint64_t signal_host_mask(uint64_t guest_mask) { return guest_mask & ~never_blocked; }

/* Whose default is to end or stop the process: the debugger hears of it before that happens. */
static bool is_for_debugger(int sig) { return all_handled && !(BIT_OF(sig) & (FAULTS | UNBLOCKABLE | DEFAULT_IGNORED)); }

void signal_debug(bool all)
{
    all_handled |= all;
    never_blocked = FAULTS | BIT_OF(DEBUGGER_SIGNAL);
    for (int sig = 1; sig <= NSIG_ALL; sig++) {
        struct kernel_sigaction a = { 0 };

        if (sig == DEBUGGER_SIGNAL || (is_for_debugger(sig) && !host_sigaction(sig, NULL, &a) && (uintptr_t)a.handler == ACTION_DFL))
            host_handler_set(sig, SA_RESTART);
    }
}

/* From the host's handler. */
bool signal_take(struct thread *t, int sig, const siginfo_t *info)
{
    if (sig < 1 || sig > NSIG_ALL || !t->sig.info)
        return false;
    t->sig.info[sig - 1] = *info;
    atomic_fetch_or(&t->sig.pending, BIT_OF(sig));
    t->cpu->jit->masked = true;
    cpu_kick(t->cpu, CPU_EXIT_IRQ);
    return true;
}

/* ---- delivery */

_Noreturn void signal_die(struct thread *t, int sig)
{
    struct kernel_sigaction a = { 0 };

    if (t->process->engine->debugger)
        debugger_exit(t, true, sig);
    process_save(t);
    host_sigaction(sig, &a, NULL);
    host_sigmask(SIG_SETMASK, ~BIT_OF(sig));
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), sig);
    for (;;) {                          /* a SIGKILL'ed init, say */
        host_sigmask(SIG_SETMASK, ~BIT_OF(sig));
        _exit(128 + sig);
    }
}

static void default_action(struct thread *t, int sig)
{
    if (BIT_OF(sig) & DEFAULT_IGNORED)
        return;
    if (BIT_OF(sig) & STOPS) {
        syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGSTOP);
        return;
    }
    if (log_enabled(LOG_INT))
        log_printf("killed by signal %d at pc %#" G_GINT64_MODIFIER "x\n", sig, t->cpu->pc);
    signal_die(t, sig);
}

static bool on_altstack(const struct signal_thread *s, uint64_t sp)
{
    return s->altstack.size && !(s->altstack.flags & ALTSTACK_AUTODISARM) && sp - s->altstack.sp - 1 < s->altstack.size;
}

static struct signal_action action_take(struct thread *t, int sig)
{
    struct signal_process *p = &t->process->sig;
    struct signal_action a;

    pthread_mutex_lock(&p->lock);
    a = p->action[sig];
    if (a.handler > ACTION_IGN && a.flags & SA_RESETHAND) {
        p->action[sig].handler = ACTION_DFL;
        if (!(BIT_OF(sig) & FAULTS))
            host_sigaction(sig, &(struct kernel_sigaction){ 0 }, NULL);
    }
    pthread_mutex_unlock(&p->lock);
    return a;
}

static void frame_fill(struct thread *t, struct signal_frame *f, const struct signal_action *a, int sig, const uint8_t *siginfo)
{
    const struct guest_user *u = t->process->guest;
    struct signal_thread *s = &t->sig;
    uint64_t sp = u->stack_pointer(t->cpu);

    *f = (struct signal_frame){ .signal = sig, .siginfo = siginfo, .handler = a->handler, .flags = a->flags, .restorer = a->restorer,
                                .mask = s->has_saved_mask ? s->saved_mask : s->mask, .sp = sp, .trapno = s->trapno,
                                .error = s->error, .fault_addr = s->fault_addr, .trampoline = t->process->trampoline };
    f->altstack.sp = s->altstack.sp;
    f->altstack.size = s->altstack.size;
    f->altstack.flags = !s->altstack.size ? ALTSTACK_DISABLE : on_altstack(s, sp) ? ALTSTACK_ON : s->altstack.flags;
    if (a->flags & SA_ONSTACK && s->altstack.size && !on_altstack(s, sp)) {
        f->sp = s->altstack.sp + s->altstack.size;
        f->on_altstack = true;
    }
}

/* Frames are written and read by the functions of rhea/ir/cpu.h; a fault there comes back here. Translated code on the stack's
 * page (x86) is no fault. */
static bool frame_access(struct thread *t, const struct signal_frame *push, bool rt, struct signal_return *pop)
{
    struct cpu *cpu = t->cpu;
    sigjmp_buf *outer = cpu->loop_exit, out;
    volatile unsigned tries = 0;
    volatile bool ok = false;

    cpu->loop_exit = &out;
    if (!sigsetjmp(out, 0) || (cpu->exception == EXCEPTION_HOST && code_write_fault(cpu, cpu->jit->fault.va, 32) && tries++ < 64)) {
        cpu->exception = -1;
        ok = push ? t->process->guest->signal_push(cpu, push) : t->process->guest->signal_pop(cpu, rt, pop);
    }
    cpu->exception = -1;
    cpu->loop_exit = outer;
    return ok;
}

static bool frame_push(struct thread *t, const struct signal_frame *f) { return frame_access(t, f, false, NULL); }

static void handler_enter(struct thread *t, const struct signal_action *a, int sig, const siginfo_t *info)
{
    const struct guest_user *u = t->process->guest;
    struct jit_cpu *jc = t->cpu->jit;
    struct signal_thread *s = &t->sig;
    uint8_t siginfo[GUEST_SIGINFO_SIZE];
    struct signal_frame f;

    /* A call under a mask of its own began with that mask: what it let through has interrupted it. */
    if (jc->restart && s->has_saved_mask)
        u->syscall_result(t->cpu, -EINTR);
    else if (jc->restart)
        u->syscall_again(t->cpu);
    jc->restart = false;
    siginfo_to_guest(u, siginfo, info);
    frame_fill(t, &f, a, sig, siginfo);
    if (!frame_push(t, &f)) {
        log_at(LOG_GUEST_ERRORS, "no stack for signal %d at sp %#" G_GINT64_MODIFIER "x\n", sig, f.sp);
        signal_die(t, SIGSEGV);
    }
    if (s->altstack.flags & ALTSTACK_AUTODISARM && f.on_altstack) {
        s->altstack.size = 0;
        s->altstack.flags = ALTSTACK_DISABLE;
    }
    s->has_saved_mask = false;
    s->mask |= a->mask | (a->flags & SA_NODEFER ? 0 : BIT_OF(sig));
    s->mask &= ~UNBLOCKABLE;
    jc->masked = true;                  /* the host's follows */
}

/* The system call that the signal interrupted is made again, or was interrupted: a debugger is shown what is. */
static void restart_settle(struct thread *t, int sig)
{
    const struct signal_action *a = &t->process->sig.action[sig];

    if (!t->cpu->jit->restart)
        return;
    t->cpu->jit->restart = false;
    if (a->handler > ACTION_IGN && !(a->flags & SA_RESTART))
        t->process->guest->syscall_result(t->cpu, -EINTR);
    else
        t->process->guest->syscall_again(t->cpu);
}

static void deliver(struct thread *t, int sig, const siginfo_t *given)
{
    siginfo_t copy = *given, *info = &copy;
    struct signal_action a;

    if (t->process->engine->debugger) {
        restart_settle(t, sig);
        sig = debugger_signal(t, sig, info);
        if (!sig)
            return;
    }
    a = action_take(t, sig);

    if (log_enabled(LOG_INT))
        log_printf("signal %d code %d to handler %#" G_GINT64_MODIFIER "x at pc %#" G_GINT64_MODIFIER "x\n", sig, info->si_code,
                   a.handler, t->cpu->pc);
    if (a.handler == ACTION_DFL)
        default_action(t, sig);
    else if (a.handler != ACTION_IGN)
        handler_enter(t, &a, sig, info);
}

void signal_deliver_all(struct thread *t)
{
    struct signal_thread *s = &t->sig;
    struct jit_cpu *jc = t->cpu->jit;
    uint64_t ready;

    while ((ready = atomic_load(&s->pending) & ~s->mask)) {
        int sig = (ready & FAULTS ? __builtin_ctzll(ready & FAULTS) : __builtin_ctzll(ready)) + 1;
        siginfo_t info = s->info[sig - 1];

        atomic_fetch_and(&s->pending, ~BIT_OF(sig));
        deliver(t, sig, &info);
    }
    if (jc->restart) {
        jc->restart = false;
        t->process->guest->syscall_again(t->cpu);
    }
    if (s->has_saved_mask) {            /* nothing came, or what came has no handler */
        s->has_saved_mask = false;
        s->mask = s->saved_mask;
        jc->masked = true;
    }
    if (jc->masked) {
        jc->masked = false;
        host_sigmask(SIG_SETMASK, signal_host_mask(s->mask));
        if (atomic_load(&s->pending) & ~s->mask)
            cpu_kick(t->cpu, CPU_EXIT_IRQ);
    }
}

/* A fault whose signal is blocked or ignored kills all the same. */
void signal_force(struct thread *t, const siginfo_t *info)
{
    int sig = info->si_signo;
    bool ignored;

    pthread_mutex_lock(&t->process->sig.lock);
    ignored = t->process->sig.action[sig].handler == ACTION_IGN;
    pthread_mutex_unlock(&t->process->sig.lock);
    if (ignored || t->sig.mask & BIT_OF(sig))
        signal_die(t, sig);
    deliver(t, sig, info);
}

/* ---- system calls */

static void host_follow(int sig, const struct signal_action *a)
{
    struct kernel_sigaction k = { .flags = a->flags & (SA_NOCLDSTOP | SA_NOCLDWAIT) };

    /* SA_RESTART as the guest has it: whether a call begins anew is the kernel's to decide. */
    if (sig == DEBUGGER_SIGNAL && all_handled) {
        host_handler_set(sig, SA_RESTART);
        return;
    }
    if (a->handler > ACTION_IGN || BIT_OF(sig) & FAULTS || (a->handler == ACTION_DFL && is_for_debugger(sig))) {
        host_handler_set(sig, k.flags | (a->handler == ACTION_DFL ? SA_RESTART : a->flags & SA_RESTART));
        return;
    }
    k.handler = (void (*)(int, siginfo_t *, void *))(uintptr_t)a->handler;
    host_sigaction(sig, &k, NULL);
}

int64_t signal_set_action(struct thread *t, int sig, const struct signal_action *set, struct signal_action *old)
{
    struct signal_process *p = &t->process->sig;

    if (sig < 1 || sig > NSIG_ALL || (set && BIT_OF(sig) & UNBLOCKABLE))
        return -EINVAL;
    if (set && (sig == 32 || sig == 33))
        engine_threads_init();
    pthread_mutex_lock(&p->lock);
    if (old)
        *old = p->action[sig];
    if (set) {
        p->action[sig] = *set;
        p->action[sig].mask &= ~UNBLOCKABLE;
        host_follow(sig, set);
        if (set->handler == ACTION_IGN || (set->handler == ACTION_DFL && BIT_OF(sig) & DEFAULT_IGNORED))
            atomic_fetch_and(&t->sig.pending, ~BIT_OF(sig));
    }
    pthread_mutex_unlock(&p->lock);
    return 0;
}

static void mask_set(struct thread *t, uint64_t mask)
{
    t->sig.mask = mask & ~UNBLOCKABLE;
    if (!t->cpu->jit->masked)
        host_sigmask(SIG_SETMASK, signal_host_mask(t->sig.mask));
    if (atomic_load(&t->sig.pending) & ~t->sig.mask)
        cpu_kick(t->cpu, CPU_EXIT_IRQ);
}

int64_t signal_set_mask(struct thread *t, int how, const uint64_t *set, uint64_t *old)
{
    uint64_t now = t->sig.mask;

    if (old)
        *old = now;
    if (!set)
        return 0;
    switch (how) {
    case SIG_BLOCK: mask_set(t, now | *set); return 0;
    case SIG_UNBLOCK: mask_set(t, now & ~*set); return 0;
    case SIG_SETMASK: mask_set(t, *set); return 0;
    default: return -EINVAL;
    }
}

void signal_during(struct thread *t, uint64_t guest_mask)
{
    struct signal_thread *s = &t->sig;

    if (!s->has_saved_mask)
        s->saved_mask = s->mask;
    s->has_saved_mask = true;
    s->mask = guest_mask & ~UNBLOCKABLE;
}

int64_t signal_suspend(struct thread *t, uint64_t mask)
{
    uint64_t host = signal_host_mask(mask & ~UNBLOCKABLE);
    int64_t r = -EINTR;

    signal_during(t, mask);
    if (!(atomic_load(&t->sig.pending) & ~t->sig.mask))
        r = user_safe_syscall(t, SYS_rt_sigsuspend, (uintptr_t)&host, 8, 0, 0, 0, 0);
    return r == USER_RESTART && atomic_load(&t->sig.pending) & ~t->sig.mask ? -EINTR : r;
}

/* struct stack_t: sp, flags (int), size; 64 bits: padded. */
static int64_t stack_get(struct thread *t, uint64_t va, uint64_t *sp, uint32_t *flags, uint64_t *size)
{
    uint32_t small[3];
    struct { uint64_t sp; uint32_t flags, pad; uint64_t size; } large;

    if (t->process->guest->bits == 64) {
        if (guest_read(t, &large, va, sizeof(large)))
            return -EFAULT;
        *sp = large.sp, *flags = large.flags, *size = large.size;
        return 0;
    }
    if (guest_read(t, small, va, sizeof(small)))
        return -EFAULT;
    *sp = small[0], *flags = small[1], *size = small[2];
    return 0;
}

static int64_t stack_put(struct thread *t, uint64_t va, uint64_t sp, uint32_t flags, uint64_t size)
{
    uint32_t small[3] = { (uint32_t)sp, flags, (uint32_t)size };
    struct { uint64_t sp; uint32_t flags, pad; uint64_t size; } large = { sp, flags, 0, size };

    return t->process->guest->bits == 64 ? guest_write(t, va, &large, sizeof(large)) : guest_write(t, va, small, sizeof(small));
}

int64_t signal_altstack(struct thread *t, uint64_t set, uint64_t old)
{
    struct signal_thread *s = &t->sig;
    bool on = on_altstack(s, t->process->guest->stack_pointer(t->cpu));
    uint64_t sp = 0, size = 0, was_sp = s->altstack.sp, was_size = s->altstack.size;
    uint32_t flags = 0, was = !was_size ? ALTSTACK_DISABLE : on ? ALTSTACK_ON | (s->altstack.flags & ALTSTACK_AUTODISARM) : s->altstack.flags;

    if (set) {
        int64_t r = stack_get(t, set, &sp, &flags, &size);

        if (r)
            return r;
        if (on)
            return -EPERM;
        if ((flags & ~ALTSTACK_AUTODISARM) > ALTSTACK_DISABLE)
            return -EINVAL;
        if (flags & ALTSTACK_DISABLE)
            sp = size = 0;
        else if (size < ALTSTACK_MIN)
            return -ENOMEM;
        s->altstack.sp = sp;
        s->altstack.size = size;
        s->altstack.flags = size ? flags & ALTSTACK_AUTODISARM : ALTSTACK_DISABLE;
    }
    return old ? stack_put(t, old, was_sp, was, was_size) : 0;
}

int64_t signal_return(struct thread *t, bool rt)
{
    struct signal_return r = { 0 };
    struct signal_thread *s = &t->sig;

    if (!frame_access(t, NULL, rt, &r)) {
        siginfo_t info = { .si_signo = SIGSEGV, .si_code = SI_KERNEL };

        signal_force(t, &info);
        return USER_NORESULT;
    }
    mask_set(t, r.mask);
    if (r.has_altstack && !(r.altstack.flags & ~(ALTSTACK_AUTODISARM | ALTSTACK_DISABLE | ALTSTACK_ON))) {
        bool off = r.altstack.flags & ALTSTACK_DISABLE;

        s->altstack.sp = off ? 0 : r.altstack.sp;
        s->altstack.size = off ? 0 : r.altstack.size;
        s->altstack.flags = off ? ALTSTACK_DISABLE : r.altstack.flags & ALTSTACK_AUTODISARM;
    }
    return USER_NORESULT;
}

/* ---- siginfo of 32-bit guests: three ints, then the union's member that signal and code say, packed */

enum kind { KIND_KILL, KIND_TIMER, KIND_POLL, KIND_FAULT, KIND_CHILD, KIND_QUEUE, KIND_SYS };

static enum kind kind_of(int sig, int code)
{
    if (code == SI_TIMER)
        return KIND_TIMER;
    if (code == SI_QUEUE || code == SI_MESGQ || code == SI_ASYNCIO)
        return KIND_QUEUE;
    if (code <= 0)
        return code == SI_SIGIO ? KIND_POLL : KIND_KILL;
    switch (sig) {
    case SIGSEGV: case SIGBUS: case SIGILL: case SIGFPE: case SIGTRAP: return code == SI_KERNEL ? KIND_KILL : KIND_FAULT;
    case SIGCHLD: return KIND_CHILD;
    case SIGPOLL: return KIND_POLL;
    case SIGSYS: return KIND_SYS;
    default: return KIND_KILL;
    }
}

void siginfo_to_guest(const struct guest_user *u, uint8_t out[GUEST_SIGINFO_SIZE], const siginfo_t *info)
{
    uint32_t w[32] = { (uint32_t)info->si_signo, (uint32_t)info->si_errno, (uint32_t)info->si_code };

    if (u->bits == 64) {
        memcpy(out, info, GUEST_SIGINFO_SIZE);
        return;
    }
    switch (kind_of(info->si_signo, info->si_code)) {
    case KIND_TIMER:
        w[3] = (uint32_t)info->si_timerid, w[4] = (uint32_t)info->si_overrun, w[5] = (uint32_t)(uintptr_t)info->si_ptr;
        break;
    case KIND_POLL:
        w[3] = (uint32_t)info->si_band, w[4] = (uint32_t)info->si_fd;
        break;
    case KIND_FAULT:
        w[3] = (uint32_t)(uintptr_t)info->si_addr;
        break;
    case KIND_CHILD:
        w[3] = (uint32_t)info->si_pid, w[4] = info->si_uid, w[5] = (uint32_t)info->si_status;
        w[6] = (uint32_t)info->si_utime, w[7] = (uint32_t)info->si_stime;
        break;
    case KIND_SYS:
        w[3] = (uint32_t)(uintptr_t)info->si_call_addr, w[4] = (uint32_t)info->si_syscall, w[5] = info->si_arch;
        break;
    default:
        w[3] = (uint32_t)info->si_pid, w[4] = info->si_uid, w[5] = (uint32_t)(uintptr_t)info->si_ptr;
    }
    memcpy(out, w, GUEST_SIGINFO_SIZE);
}

void siginfo_from_guest(const struct guest_user *u, siginfo_t *info, const uint8_t in[GUEST_SIGINFO_SIZE])
{
    uint32_t w[32];

    memset(info, 0, sizeof(*info));
    if (u->bits == 64) {
        memcpy(info, in, GUEST_SIGINFO_SIZE);
        return;
    }
    memcpy(w, in, sizeof(w));
    info->si_signo = (int)w[0];
    info->si_errno = (int)w[1];
    info->si_code = (int)w[2];
    info->si_pid = (int)w[3];
    info->si_uid = w[4];
    info->si_ptr = (void *)(uintptr_t)w[5];
}
