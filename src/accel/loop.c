/* The body of a vCPU's thread: deliver what is pending, find the region at pc, run it, see why it came back. */
#include <glib.h>
#include <inttypes.h>
#include <string.h>
#include <xmmintrin.h>
#include "accel.h"
#include "rhea/base/log.h"

_Noreturn void cpu_loop_exit(struct cpu *cpu)
{
    /* Translated code runs under the guest's MXCSR; what it collected is kept, C goes on under the host's own. */
    if (cpu->jit && cpu->jit->interpreting)
        cpu->jit->interpreting = false;
    else
        cpu->fp_control |= _mm_getcsr() & 0x3f;
    _mm_setcsr(0x1f80);
    siglongjmp(*cpu->loop_exit, 1);
}

static void log_entry(struct cpu *cpu, const struct region *r)
{
    if (log_enabled(LOG_EXEC) && log_in_filter(cpu->pc))
        log_printf("exec: cpu %d pc %#" PRIx64 " mode %#" PRIx64 " host %p\n", cpu->index, cpu->pc, cpu->mode, r->code);
    if (log_enabled(LOG_CPU) && log_in_filter(cpu->pc) && cpu->guest->registers) {
        g_autofree char *text = cpu->guest->registers(cpu);

        log_printf("%s\n", text);
    }
}

/* One instruction by the interpreter: one that overwrites its own region, or code outside of memory. */
static void run_one(struct cpu *cpu)
{
    struct jit_cpu *jc = cpu->jit;
    struct code_fetch f;
    struct jit_region_info info;
    uint64_t key;

    jc->singles++;
    jc->one_insn = true;
    code_fetch_fill(cpu, cpu->pc, &f, &key);
    if (atomic_load_explicit(&cpu->exit_request, memory_order_relaxed))
        return;                         /* the fetch may have changed the mode: comes back with one_insn still set */
    if (!region_build(jc->ir, cpu->guest, &f, cpu->pc, cpu->mode, 1, NULL, &info)) {
        fault_fetch(cpu, (cpu->pc & PAGE_MASK) + CPU_PAGE_SIZE);
        jc->one_insn = false;
        return;
    }
    cpu->pc_page = cpu->pc & PAGE_MASK;
    jc->in_guest = jc->interpreting = true;
    interp_run(cpu, jc->ir);
    jc->in_guest = jc->interpreting = false;
    jc->one_insn = false;
}

static struct region *find_region(struct cpu *cpu)
{
    struct jit_cpu *jc = cpu->jit;
    struct ram_block *rb;
    uint64_t offset, phys2 = UINT64_MAX;
    uint8_t *host = code_host(cpu, cpu->pc, false, &rb, &offset);
    struct region *r;

    if (!host)
        return NULL;
    if ((cpu->pc & ~PAGE_MASK) > CPU_PAGE_SIZE - 16) {
        struct ram_block *rb2;

        phys2 = (uintptr_t)code_host(cpu, (cpu->pc & PAGE_MASK) + CPU_PAGE_SIZE, true, &rb2, &offset);
    }
    r = jit_find(jc->av->jit, (uintptr_t)host, cpu->mode, phys2);
    return r ? r : code_translate(cpu, cpu->pc, cpu->mode);
}

/* There is no region at pc. */
static void run_alone(struct cpu *cpu)
{
    if (!cpu->jit->again)
        run_one(cpu);
    cpu->jit->again = false;
}

/* Runs regions until one leaves for the loop. */
static void run_regions(struct cpu *cpu)
{
    struct jit_cpu *jc = cpu->jit;
    struct accel_vm *av = jc->av;
    struct region_exit *from = NULL;
    uint64_t generation = 0;

    for (;;) {
        struct region *r;
        uint64_t left;

        chaos_step(cpu);
        if (jc->one_insn)
            return;
        r = jump_find(cpu, cpu->pc);
        if (!r) {
            r = find_region(cpu);
            if (!r) {
                run_alone(cpu);
                return;
            }
            if (!from && !av->nochain)
                jump_fill(cpu, cpu->pc, r);
        }
        if (from && generation == jit_generation(av->jit) && !r->len2 && !av->nochain && !chaos_no_link(jc))
            jit_link(av->jit, from, r);
        if (chaos_tier_up(jc))
            hot_ask(cpu, r);
        if (log_enabled(LOG_EXEC | LOG_CPU))
            log_entry(cpu, r);
        cpu->pc_page = cpu->pc & PAGE_MASK;
        jc->in_guest = true;
        left = jc->verify ? verify_run(cpu, r) : jit_run(av->jit, cpu, r->code);
        jc->in_guest = false;
        from = NULL;
        if (left == JIT_LEFT_LOOP) {
            jc->left[0]++;
            return;
        }
        if (left == JIT_LEFT_LOOKUP) {
            jc->left[1]++;
        } else {
            struct region_exit *e = jit_exit(av->jit, left);

            jc->left[2]++;
            e->count++;
            cpu->pc = cpu->pc_page + e->target;
            from = e->patch ? e : NULL;
            generation = jit_generation(av->jit);
        }
        if (atomic_load_explicit(&cpu->exit_request, memory_order_relaxed))
            return;
    }
}

static void run_interp(struct cpu *cpu)
{
    struct jit_cpu *jc = cpu->jit;

    do {
        struct region *r = find_region(cpu);
        struct interp_result result;

        if (!r) {
            run_alone(cpu);
            return;
        }
        if (atomic_load_explicit(&cpu->exit_request, memory_order_relaxed))
            return;                     /* as translated code does first: the fetch may have changed the mode */
        if (log_enabled(LOG_EXEC | LOG_CPU))
            log_entry(cpu, r);
        cpu->pc_page = cpu->pc & PAGE_MASK;
        jc->in_guest = jc->interpreting = true;
        result = interp_run(cpu, r->code);
        jc->in_guest = jc->interpreting = false;
        if (result.kind == EXIT_TO_LOOP)
            return;
    } while (!atomic_load_explicit(&cpu->exit_request, memory_order_relaxed));
}

/* false: the thread is to end. */
static bool handle_requests(struct cpu *cpu)
{
    struct jit_cpu *jc = cpu->jit;
    uint32_t request = atomic_exchange(&cpu->exit_request, 0);
    bool go_on = true;

    sync_pause(jc);
    if (jc->grow)
        tlb_grow(jc);
    if (request & CPU_EXIT_FLUSH)
        jump_drop_dead(jc);
    if (request & CPU_EXIT_WORK)
        work_run(jc->vcpu);
    if (request & CPU_EXIT_STOP || jc->vcpu->stop_requested) {
        sync_quiet(jc);
        go_on = vcpu_park(jc->vcpu, work_run);
        sync_run(jc);
    }
    return go_on;
}

void accel_vcpu_loop(struct vcpu *v)
{
    struct cpu *cpu = v->cpu;
    struct jit_cpu *jc = cpu->jit;
    sigjmp_buf out;

    cpu->loop_exit = &out;
    if (!vcpu_park(v, work_run))
        return;
    hot_enter(jc->av->hot, jc);
    sync_run(jc);
    sigsetjmp(out, 0);
    jc->in_guest = false;
    for (;;) {
        uint64_t mode, epoch;

        if (jc->verify_failed)
            break;
        epoch = atomic_load(&jc->av->epoch);    /* of before the work that is done now */
        if (atomic_load(&cpu->exit_request) && !handle_requests(cpu))
            break;
        atomic_store(&jc->epoch, epoch);
        if (jc->any_gone)
            tlb_forget_gone(jc);
        if (atomic_load_explicit(&jc->sample, memory_order_relaxed))
            hot_sample(cpu);
        if (atomic_load(&jc->av->settling))
            settle_notify(jc->av);
        if (!cpu->guest->has_work(cpu)) {
            vcpu_sleep(jc);
            continue;
        }
        /* In this order: an event that arrives after deliver() looked must not make a CPU run that still waits for it
         * (a processor that waits for its start-up message ran from its reset vector). And what is delivered may stop
         * the CPU (INIT), so look again. */
        if (cpu->guest->deliver(cpu))
            continue;
        mode = cpu->guest->mode_bits(cpu);
        if (mode != cpu->mode)
            jump_select(cpu, mode);
        if (jc->one_insn)
            run_one(cpu);
        else if (jc->av->interp)
            run_interp(cpu);
        else
            run_regions(cpu);
    }
    sync_quiet(jc);
    hot_leave(jc->av->hot, jc);
    cpu->loop_exit = NULL;
}
