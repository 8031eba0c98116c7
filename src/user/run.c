/* The loop of a guest thread: find the region at pc, run it, see why it came back, call the kernel, deliver signals. And what
 * brings threads to a halt: one of them flushing the cache, fork(). */
#include <asm/prctl.h>
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "internal.h"
#include "rhea/base/log.h"
#include "rhea/jit/codegen.h"

static const struct guest_user *const guests[] = { &user_x86_64, &user_i386, &user_aarch64, &user_arm, &user_riscv64, &user_riscv32 };

const struct guest_user *guest_user_find(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(guests); i++)
        if (!strcmp(guests[i]->name, name))
            return guests[i];
    return NULL;
}

const struct guest_user *guest_user_of_elf(uint16_t machine, unsigned bits, bool big_endian)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(guests) && !big_endian; i++)
        if (guests[i]->elf_machine == machine && guests[i]->bits == bits)
            return guests[i];
    return NULL;
}

/* ---- the engine */

struct engine *engine_new(const struct guest_user *user, uintptr_t base, const struct engine_options *opts, struct error *err)
{
    struct engine *e = g_new0(struct engine, 1);
    struct jit_options jo = { .guest = user->guest, .cache_size = opts->cache_size ? opts->cache_size : 128 << 20, .interp = opts->interp,
                              .nochain = opts->nochain, .perfmap = opts->perfmap };

    jo.memory = user->bits == 32 ? MEMORY_DIRECT_32 : base ? MEMORY_DIRECT : MEMORY_FLAT;
    if (opts->saved && !opts->interp && !opts->one_insn)
        e->saved = saved_new(opts->saved, user, opts->cpu);
    jo.movable = e->saved;
    if (user->bits == 32)               /* RV32's addresses are kept sign-extended */
        jo.pc_limit = UINT64_C(1) << (user->elf_machine == EM_RISCV ? 31 : 32);
    e->user = user;
    e->base = base;
    e->opts = *opts;
    e->vdso.va = UINT64_MAX;
    e->jit = jit_new(&jo, err);
    if (!e->jit) {
        saved_free(e->saved);
        g_free(e);
        return NULL;
    }
    pthread_mutex_init(&e->lock, NULL);
    pthread_mutex_init(&e->ex_turn, NULL);
    pthread_mutex_init(&e->ex_lock, NULL);
    pthread_cond_init(&e->ex_cond, NULL);
    code_init(e);
    return e;
}

void engine_free(struct engine *e)
{
    if (!e)
        return;
    code_free(e);
    saved_free(e->saved);
    jit_free(e->jit);
    g_free(e);
}

static void code_changed(struct cpu *cpu, uint64_t va, uint64_t n) { engine_code_changed(cpu->jit->engine, va, n); }

static struct cpu *cpu_alloc(struct engine *e)
{
    size_t size = (e->user->guest->cpu_size + 63) & ~(size_t)63;
    struct cpu *cpu = aligned_alloc(64, size);
    struct jit_cpu *jc = g_new0(struct jit_cpu, 1);

    memset(cpu, 0, size);
    cpu->guest = e->user->guest;
    cpu->jit = jc;
    cpu->fp_control = 0x1f80;
    cpu->code_changed = code_changed;
    cpu->host_fpu = e->opts.interp || e->opts.one_insn ? NULL : codegen_host_fpu();
    cpu->exception = -1;
    cpu->mode = UINT64_MAX;
    jc->cpu = cpu;
    jc->engine = e;
    jc->jump_bits = JUMP_CACHE_LEAST;
    jc->fetch = g_malloc(2 * CPU_PAGE_SIZE);
    return cpu;
}

static bool page_guarded(struct cpu *cpu, uint64_t va)
{
    struct process *p = cpu->jit->thread->process;
    int prot = mem_prot(p, va);

    return prot >= 0 && (unsigned)prot & p->guard_bits;
}

void engine_guard(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    for (struct jit_cpu *jc = e->guards ? NULL : e->cpus; jc; jc = jc->next) {
        e->user->guard(jc->cpu, page_guarded);
        if (atomic_load(&jc->running))  /* others look at their mode when they come back to the loop */
            cpu_kick(jc->cpu, CPU_EXIT_KICK);
    }
    e->guards = true;
    pthread_mutex_unlock(&e->lock);
}

static void cpu_list(struct engine *e, struct cpu *cpu)
{
    pthread_mutex_lock(&e->lock);
    if (e->guards)
        e->user->guard(cpu, page_guarded);
    cpu->jit->next = e->cpus;
    e->cpus = cpu->jit;
    pthread_mutex_unlock(&e->lock);
}

struct cpu *engine_cpu_new(struct engine *e, const char *model, struct error *err)
{
    struct cpu *cpu = cpu_alloc(e);

    if (!e->user->cpu_init(cpu, model, err)) {
        g_free(cpu->jit->fetch);
        g_free(cpu->jit);
        free(cpu);
        return NULL;
    }
    cpu_list(e, cpu);
    return cpu;
}

struct cpu *engine_cpu_clone(struct engine *e, struct cpu *from)
{
    struct cpu *cpu = cpu_alloc(e);

    memcpy((uint8_t *)cpu + sizeof(struct cpu), (uint8_t *)from + sizeof(struct cpu), e->user->guest->cpu_size - sizeof(struct cpu));
    cpu->fp_control = from->fp_control;
    cpu->pc = from->pc;
    e->user->cpu_copy(cpu, from);
    cpu->jit->debug.watches = from->jit->debug.watches;
    cpu_list(e, cpu);
    return cpu;
}

static void jit_cpu_free(struct jit_cpu *jc)
{
    for (unsigned i = 0; i < JUMP_SLOTS; i++)
        if (jc->jump[i].entry)
            munmap(jc->jump[i].entry, sizeof(struct jump_entry) << jc->jump_bits);
    ir_free(jc->ir);
    g_free(jc->fetch);
    g_free(jc);
}

void engine_cpu_free(struct engine *e, struct cpu *cpu)
{
    struct jit_cpu **at = &e->cpus;

    pthread_mutex_lock(&e->lock);
    while (*at && *at != cpu->jit)
        at = &(*at)->next;
    if (*at)
        *at = cpu->jit->next;
    pthread_mutex_unlock(&e->lock);
    e->user->cpu_free(cpu);
    jit_cpu_free(cpu->jit);
    free(cpu);
}

/* ---- stopping the world */

/* running and ex_pending are each written before the other is read. */
void engine_enter(struct jit_cpu *jc)
{
    struct engine *e = jc->engine;

    for (;;) {
        atomic_store(&jc->running, true);
        if (!atomic_load(&e->ex_pending))
            return;
        pthread_mutex_lock(&e->ex_lock);
        atomic_store(&jc->running, false);
        pthread_cond_broadcast(&e->ex_cond);
        while (atomic_load(&e->ex_pending))
            pthread_cond_wait(&e->ex_cond, &e->ex_lock);
        pthread_mutex_unlock(&e->ex_lock);
    }
}

void engine_leave(struct jit_cpu *jc)
{
    struct engine *e = jc->engine;

    atomic_store(&jc->running, false);
    if (!atomic_load(&e->ex_pending))
        return;
    pthread_mutex_lock(&e->ex_lock);
    pthread_cond_broadcast(&e->ex_cond);
    pthread_mutex_unlock(&e->ex_lock);
}

static bool others_run(struct engine *e)
{
    bool some = false;

    pthread_mutex_lock(&e->lock);
    for (struct jit_cpu *jc = e->cpus; jc; jc = jc->next)
        if (atomic_load(&jc->running)) {
            cpu_kick(jc->cpu, CPU_EXIT_STOP);
            some = true;
        }
    pthread_mutex_unlock(&e->lock);
    return some;
}

void engine_exclusive(struct thread *t, void (*fn)(void *arg), void *arg)
{
    struct jit_cpu *jc = t->cpu->jit;
    struct engine *e = jc->engine;
    bool running = atomic_load(&jc->running);

    if (running)
        engine_leave(jc);
    pthread_mutex_lock(&e->ex_turn);
    pthread_mutex_lock(&e->ex_lock);
    atomic_store(&e->ex_pending, true);
    while (others_run(e)) {
        struct timespec until;

        /* One that enters just now may have missed the signal of its leaving: look again. */
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 2000000;
        if (until.tv_nsec >= 1000000000)
            until.tv_nsec -= 1000000000, until.tv_sec++;
        pthread_cond_timedwait(&e->ex_cond, &e->ex_lock, &until);
    }
    pthread_mutex_unlock(&e->ex_lock);
    fn(arg);
    pthread_mutex_lock(&e->ex_lock);
    atomic_store(&e->ex_pending, false);
    pthread_cond_broadcast(&e->ex_cond);
    pthread_mutex_unlock(&e->ex_lock);
    pthread_mutex_unlock(&e->ex_turn);
    if (running)
        engine_enter(jc);
}

struct debugger *engine_debugger(const struct engine *e) { return e->debugger; }
void engine_kick(struct thread *t) { cpu_kick(t->cpu, CPU_EXIT_KICK); }

void engine_fork_prepare(struct engine *e)
{
    pthread_mutex_lock(&e->ex_turn);
    pthread_mutex_lock(&e->lock);
    saved_fork_prepare(e->saved);
    jit_lock(e->jit);
}

void engine_fork_parent(struct engine *e)
{
    jit_unlock(e->jit);
    saved_fork_parent(e->saved);
    pthread_mutex_unlock(&e->lock);
    pthread_mutex_unlock(&e->ex_turn);
}

void engine_save(struct engine *e) { saved_write(e->saved); }

void engine_fork_child(struct engine *e, struct thread *t)
{
    e->cpus = t->cpu->jit;              /* the others' memory is lost: their owners may have been anywhere */
    e->cpus->next = NULL;
    pthread_mutex_init(&e->ex_lock, NULL);
    pthread_cond_init(&e->ex_cond, NULL);
    saved_fork_child(e->saved);
    engine_fork_parent(e);
}

/* ---- a thread */

bool engine_thread_begin(struct thread *t)
{
    struct jit_cpu *jc = t->cpu->jit;
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, host_handlers_init);
    jc->thread = t;
    if (!jump_begin(jc) || syscall(SYS_arch_prctl, ARCH_SET_GS, jc->engine->base) < 0)
        return false;
    jc->masked = true;                  /* the loop sets the mask */
    cpu_kick(t->cpu, CPU_EXIT_KICK);
    return true;
}

void engine_thread_end(struct thread *t)
{
    host_sigmask(SIG_SETMASK, ~UINT64_C(0));
    engine_leave(t->cpu->jit);
}

static void log_entry(struct cpu *cpu, const struct region *r)
{
    if (log_enabled(LOG_EXEC) && log_in_filter(cpu->pc))
        log_printf("exec: thread %d pc %#" PRIx64 " mode %#" PRIx64 " host %p\n", cpu->index, cpu->pc, cpu->mode, r->code);
    if (log_enabled(LOG_CPU) && log_in_filter(cpu->pc) && cpu->guest->registers) {
        g_autofree char *text = cpu->guest->registers(cpu);

        log_printf("%s\n", text);
    }
}

static struct ir *ir_of(struct jit_cpu *jc)
{
    if (!jc->ir) {
        jc->ir = ir_new();
        jc->ir->fixed_pc = true;
    }
    return jc->ir;
}

static void run_one(struct cpu *cpu)
{
    struct jit_cpu *jc = cpu->jit;
    struct jit_region_info info;
    struct code_fetch f;

    if (!code_fetch_fill(cpu, cpu->pc, &f))
        return;
    if (!region_build(ir_of(jc), cpu->guest, &f, cpu->pc, cpu->mode, 1, NULL, &info)) {
        fault_raise(cpu, SIGSEGV, SEGV_MAPERR, (cpu->pc & PAGE_MASK) + CPU_PAGE_SIZE, ACCESS_EXEC);
        return;
    }
    cpu->pc_page = cpu->pc & PAGE_MASK;
    interp_run(cpu, jc->ir);
    jc->one_insn = jc->debug.skip = false;
}

static bool has_loop(const struct ir *ir)
{
    for (unsigned i = 0; i < ir->nops; i++)
        if ((ir->ops[i].op == IR_BR || ir->ops[i].op == IR_BRCOND) && ir->label_op[ir->ops[i].aux] <= i)
            return true;
    return false;
}

/* Interprets up to the next branch, if that is not worth translating yet. */
static bool run_cold(struct cpu *cpu)
{
    struct ir *ir = ir_of(cpu->jit);
    struct jit_region_info info;
    struct code_fetch f;

    if (!code_cold(cpu, &f) || !region_build_straight(ir, cpu->guest, &f, cpu->pc, cpu->mode, COLD_INSNS, &info) || has_loop(ir))
        return false;
    interp_run(cpu, ir);
    return true;
}

static uint64_t exit_pc(const struct region_exit *e) { return (e->from->phys & PAGE_MASK) + (uint64_t)e->target; }

/* Runs regions until one leaves for the loop, or something is to be looked at. */
static void run_regions(struct cpu *cpu)
{
    struct jit_cpu *jc = cpu->jit;
    struct engine *e = jc->engine;
    struct jit *jit = e->jit;
    bool nochain = jit_option_nochain(jit);
    struct region_exit *from = NULL;
    uint64_t generation = 0;

    while (!atomic_load_explicit(&cpu->exit_request, memory_order_relaxed)) {
        bool vdso = cpu->pc - e->vdso.va < VDSO_TEXT_SIZE;
        struct region *r;
        uint64_t left;

        if (vdso && vdso_run(cpu))
            return;                     /* perhaps to another mode (Thumb) */
        r = code_known(cpu, cpu->pc);
        if (!r && run_cold(cpu))
            return;
        r = r ? r : code_find(cpu, cpu->pc);
        if (!r) {
            if (cpu->exception < 0)
                run_one(cpu);
            return;
        }
        if (nochain || r->bytes || vdso)
            ;
        else if (from && generation == jit_generation(jit))
            jit_link(jit, from, r);
        else if (!from)
            jump_fill(cpu, cpu->pc, r);
        if (log_enabled(LOG_EXEC | LOG_CPU))
            log_entry(cpu, r);
        cpu->pc_page = cpu->pc & PAGE_MASK;
        left = jit_run(jit, cpu, r->code);
        from = NULL;
        if (left == JIT_LEFT_LOOP)
            return;
        if (left != JIT_LEFT_LOOKUP) {
            from = jit_exit(jit, left);
            from->count++;
            cpu->pc = exit_pc(from);
            from = from->patch ? from : NULL;
            generation = jit_generation(jit);
        }
    }
}

static void run_interp(struct cpu *cpu)
{
    while (!atomic_load_explicit(&cpu->exit_request, memory_order_relaxed)) {
        struct region *r = code_find(cpu, cpu->pc);
        struct interp_result result;

        if (!r) {
            if (cpu->exception < 0)
                run_one(cpu);
            return;
        }
        if (log_enabled(LOG_EXEC | LOG_CPU))
            log_entry(cpu, r);
        cpu->pc_page = cpu->pc & PAGE_MASK;
        result = interp_run(cpu, r->code);
        if (result.kind == EXIT_TO_LOOP)
            return;
    }
}

static void do_syscall(struct thread *t)
{
    struct jit_cpu *jc = t->cpu->jit;
    const struct guest_user *u = jc->engine->user;
    struct debugger *d = jc->engine->debugger;
    uint64_t nr = d ? u->syscall_number(t->cpu) : 0;
    int64_t r;

    if (d)
        debugger_syscall(t, true, nr);
    engine_leave(jc);
    r = user_syscall(t);
    engine_enter(jc);
    d = jc->engine->debugger;           /* a child has none */
    if (d && debugger_wrote(t))
        r = USER_NORESULT;
    if (d && r == -EINTR && !(atomic_load(&t->sig.pending) & ~t->sig.mask) && atomic_load(&jc->debug.held))
        r = USER_RESTART;               /* only the debugger interrupted it */
    if (r == USER_RESTART)
        jc->restart = true;
    else if (r != USER_NORESULT)
        u->syscall_result(t->cpu, r);
    if (d && r != USER_RESTART)
        debugger_syscall(t, false, nr);
}

static bool is_tagged(const struct guest_user *u, uint64_t va) { return u->tag_bits && va >> (64 - u->tag_bits); }

/* The host refused an access. false: it is not the guest's fault, the instruction begins anew. */
static bool host_fault(struct cpu *cpu, struct user_event *ev)
{
    struct jit_cpu *jc = cpu->jit;
    const struct guest_user *u = jc->engine->user;
    const struct host_fault f = jc->fault;

    if (f.access == ACCESS_WRITE && f.signal == SIGSEGV && code_write_fault(cpu, f.va, 32))
        return false;
    if (is_tagged(u, f.va) && f.access != ACCESS_EXEC && !jc->one_insn) {
        jc->one_insn = true;            /* C code takes the tag off */
        return false;
    }
    jc->one_insn = false;
    *ev = (struct user_event){ .kind = EVENT_SIGNAL, .signal = f.signal, .code = f.code, .addr = u->bits == 32 ? (uint32_t)f.va : f.va };
    if (f.signal == SIGSEGV)            /* what is free is reserved on the host where the guest has 32 bits */
        ev->code = mem_prot(jc->thread->process, ev->addr) < 0 ? SEGV_MAPERR : SEGV_ACCERR;
    u->fault(cpu, ev, f.access);
    return true;
}

static void event_signal(struct thread *t, const struct user_event *ev)
{
    siginfo_t info = { .si_signo = ev->signal, .si_code = ev->code };

    info.si_addr = (void *)(uintptr_t)ev->addr;
    t->sig.trapno = ev->trapno;
    t->sig.error = ev->error;
    t->sig.fault_addr = ev->addr;
    signal_force(t, &info);
}

static void handle_exception(struct thread *t)
{
    struct cpu *cpu = t->cpu;
    struct user_event ev = { .kind = EVENT_NONE };
    bool host = cpu->exception == EXCEPTION_HOST;

    if (!host && cpu->jit->engine->debugger && debugger_break(t)) {
        cpu->exception = -1;
        return;
    }
    if (!host)
        cpu->jit->engine->user->event(cpu, &ev);
    else if (!host_fault(cpu, &ev))
        ev.kind = EVENT_NONE;
    cpu->exception = -1;
    if (ev.kind == EVENT_NONE)
        cpu->jit->debug.stepped = false;        /* it begins anew */
    if (ev.kind == EVENT_SYSCALL)
        do_syscall(t);
    else if (ev.kind == EVENT_SIGNAL)
        event_signal(t, &ev);
}

static bool look(struct thread *t)
{
    struct jit_cpu *jc = t->cpu->jit;

    return atomic_load_explicit(&t->cpu->exit_request, memory_order_relaxed) || jc->restart || jc->masked || t->sig.has_saved_mask;
}

_Noreturn void engine_thread_run(struct thread *t)
{
    struct cpu *cpu = t->cpu;
    struct jit_cpu *jc = cpu->jit;
    const struct guest_user *u = jc->engine->user;
    struct user_event ev;
    sigjmp_buf out;

    cpu->loop_exit = &out;
    engine_enter(jc);
    sigsetjmp(out, 0);
    for (;;) {
        uint64_t mode;

        if (cpu->fpu_on_host)           /* whatever looks at the guest's registers comes after this */
            cpu->guest->fpu_home(cpu);
        if (cpu->exception >= 0)
            handle_exception(t);
        if (jc->debug.stepped)
            debugger_step(t);
        if (look(t)) {
            atomic_store(&cpu->exit_request, 0);
            engine_enter(jc);
            signal_deliver_all(t);
            if (jc->engine->debugger)
                debugger_look(t);
            continue;
        }
        mode = cpu->guest->mode_bits(cpu);
        if (mode != cpu->mode)
            jump_select(cpu, mode);
        if (jc->debug.step || jc->debug.watches) {
            jc->debug.stepped = true;
            run_one(cpu);
        } else if (jc->one_insn || jc->engine->opts.one_insn)
            run_one(cpu);
        else if (jc->engine->opts.interp)
            run_interp(cpu);
        else
            run_regions(cpu);
        if (cpu->exception < 0 && u->trap && u->trap(cpu, &ev))
            event_signal(t, &ev);
    }
}
