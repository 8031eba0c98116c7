/* vCPU threads among each other: kicks, sleep, queued work, stopping the world. */
#include <glib.h>
#include <sched.h>
#include <time.h>
#include "accel.h"

void cpu_kick(struct cpu *cpu, uint32_t bits)
{
    atomic_fetch_or(&cpu->exit_request, bits);
    if (cpu->vcpu && cpu->jit)
        accel_kick(cpu->vcpu);
}

void accel_kick(struct vcpu *v)
{
    struct jit_cpu *jc = v->cpu->jit;

    if (!jc)
        return;
    if (!atomic_load(&v->cpu->exit_request))
        atomic_fetch_or(&v->cpu->exit_request, CPU_EXIT_KICK);
    if (atomic_load(&jc->sleeping)) {
        pthread_mutex_lock(&jc->sleep_lock);
        pthread_cond_signal(&jc->sleep_cond);
        pthread_mutex_unlock(&jc->sleep_lock);
    }
}

static int64_t monotonic_ns(void)
{
    struct timespec t = time_from_now(0);

    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* Who stores there kicks it (cpu_watch()), but before the store; and one that was under way has not. So it looks again: after
 * as long as it has slept so far, and at long last twenty times a second, which costs nothing. */
static void nap(struct jit_cpu *jc, int64_t start)
{
    enum { NAP_MIN_NS = 20000, NAP_MAX_NS = 50000000 };
    struct timespec until = time_from_now(CLAMP(monotonic_ns() - start, NAP_MIN_NS, NAP_MAX_NS));

    pthread_cond_timedwait(&jc->sleep_cond, &jc->sleep_lock, &until);
}

void vcpu_sleep(struct jit_cpu *jc)
{
    struct vcpu *v = jc->vcpu;
    int64_t start = v->cpu->sleeps_on_memory ? monotonic_ns() : 0;

    jc->sleeps++;
    sync_quiet(jc);
    pthread_mutex_lock(&jc->sleep_lock);
    atomic_store(&jc->sleeping, true);
    v->halted = true;
    while (!atomic_load(&v->cpu->exit_request) && !v->cpu->guest->has_work(v->cpu)) {
        if (v->cpu->sleeps_on_memory)
            nap(jc, start);
        else
            pthread_cond_wait(&jc->sleep_cond, &jc->sleep_lock);
    }
    v->halted = false;
    atomic_store(&jc->sleeping, false);
    pthread_mutex_unlock(&jc->sleep_lock);
    sync_run(jc);
}

/* ---- stores that are under way */

enum { SETTLE_WAIT_NS = 3000000, SETTLE_IMPATIENT = 64 };

void settle_notify(struct accel_vm *av)
{
    for (unsigned i = 0; i < av->vm->nvcpus; i++) {
        struct jit_cpu *jc = av->vm->vcpus[i]->cpu->jit;

        if (!jc || !atomic_load(&jc->settling))
            continue;
        pthread_mutex_lock(&jc->sleep_lock);
        pthread_cond_signal(&jc->sleep_cond);
        pthread_mutex_unlock(&jc->sleep_lock);
    }
}

/* Those waited for may be ready to run, but not running: more vCPUs than cores. They need the core more than we do. One that
 * stays away (it waits in the host, or the host has better to do) is not waited for longer than a moment. */
bool settle_wait(struct jit_cpu *jc, const struct settle *s)
{
    struct accel_vm *av = jc->av;
    struct timespec until;
    bool passed = false;
    int timed_out = 0;

    if (s->opening) {                   /* for as long as it takes another to go through the soft TLBs */
        sched_yield();
        return true;
    }
    if (jc->impatient || chaos_impatient(jc)) {
        jc->impatient -= jc->impatient > 0;
        return false;
    }
    until = time_from_now(SETTLE_WAIT_NS);
    jc->settles++;
    atomic_store(&jc->settling, true);
    atomic_fetch_add(&av->settling, 1);
    sync_quiet(jc);                     /* so that two may wait for each other */
    pthread_mutex_lock(&jc->sleep_lock);
    atomic_store(&jc->sleeping, true);  /* kicks end it */
    while (!atomic_load(&jc->vcpu->cpu->exit_request) && !(passed = settle_passed(av, jc, s, false)) && !timed_out)
        timed_out = pthread_cond_timedwait(&jc->sleep_cond, &jc->sleep_lock, &until);
    atomic_store(&jc->sleeping, false);
    pthread_mutex_unlock(&jc->sleep_lock);
    atomic_fetch_sub(&av->settling, 1);
    atomic_store(&jc->settling, false);
    sync_run(jc);
    if (timed_out && !passed)
        jc->impatient = SETTLE_IMPATIENT;
    return true;
}

/* ---- work */

void work_run(struct vcpu *v)
{
    for (;;) {
        struct work *w;

        pthread_mutex_lock(&v->work_lock);
        w = v->work_head;
        if (w)
            v->work_head = w->next;
        pthread_mutex_unlock(&v->work_lock);
        if (!w)
            return;
        w->fn(v, w->arg);
        if (w->done) {
            struct accel_vm *av = accel_of(v->vm);

            pthread_mutex_lock(&av->ex_lock);
            *w->done = true;
            pthread_cond_broadcast(&av->ex_cond);
            pthread_mutex_unlock(&av->ex_lock);
        }
        g_free(w);
    }
}

static void work_push(struct vcpu *v, struct work *w)
{
    struct work **at;

    pthread_mutex_lock(&v->work_lock);
    for (at = (struct work **)&v->work_head; *at; at = &(*at)->next)
        ;
    *at = w;
    pthread_mutex_unlock(&v->work_lock);
}

/* Whoever goes on after it was quiet does first what was asked of it meanwhile. */
static void sync_resume(struct jit_cpu *jc)
{
    sync_run(jc);
    work_run(jc->vcpu);
}

/* A vCPU that waits for another's work does its own meanwhile, so that two may wait for each other. */
static void work_wait(struct accel_vm *av, bool *done)
{
    struct vcpu *self = vcpu_current();
    struct jit_cpu *jc = self && self->vm == av->vm ? self->cpu->jit : NULL;

    if (jc)
        sync_quiet(jc);
    pthread_mutex_lock(&av->ex_lock);
    while (!*done) {
        if (jc && self->work_head) {
            pthread_mutex_unlock(&av->ex_lock);
            work_run(self);
            pthread_mutex_lock(&av->ex_lock);
            continue;
        }
        pthread_cond_wait(&av->ex_cond, &av->ex_lock);
    }
    pthread_mutex_unlock(&av->ex_lock);
    if (jc)
        sync_resume(jc);
}

void accel_run_on(struct vcpu *v, void (*fn)(struct vcpu *v, void *arg), void *arg, bool wait)
{
    struct accel_vm *av = accel_of(v->vm);
    struct work *w = g_new0(struct work, 1);
    bool done = false;

    *w = (struct work){ .fn = fn, .arg = arg, .done = wait ? &done : NULL };
    work_push(v, w);
    cpu_kick(v->cpu, CPU_EXIT_WORK);
    vcpu_wake(v);
    pthread_mutex_lock(&av->ex_lock);
    pthread_cond_broadcast(&av->ex_cond);
    pthread_mutex_unlock(&av->ex_lock);
    if (wait)
        work_wait(av, &done);
}

static bool acked(const struct jit_cpu *jc, uint64_t epoch)
{
    return atomic_load(&jc->quiet) || atomic_load(&jc->epoch) >= epoch;
}

void accel_ack(struct vcpu *self)
{
    struct accel_vm *av = accel_of(self->vm);
    struct jit_cpu *jc = self->cpu->jit;
    uint64_t epoch = atomic_fetch_add(&av->epoch, 1) + 1;
    bool waits = false;

    for (unsigned i = 0; i < self->vm->nvcpus; i++) {
        struct jit_cpu *other = self->vm->vcpus[i]->cpu->jit;

        if (!other || other == jc || acked(other, epoch))
            continue;
        cpu_kick(other->vcpu->cpu, CPU_EXIT_KICK);
        waits = true;
    }
    if (!waits)
        return;
    sync_quiet(jc);                     /* so that two may wait for each other */
    for (unsigned i = 0; i < self->vm->nvcpus; i++) {
        struct jit_cpu *other = self->vm->vcpus[i]->cpu->jit;

        for (unsigned spins = 0; other && other != jc && !acked(other, epoch); spins++) {
            if (spins > 200)
                sched_yield();
            else
                atomic_signal_fence(memory_order_seq_cst);
        }
    }
    sync_resume(jc);
}

/* ---- stop the world */

void sync_init(struct accel_vm *av)
{
    baton_init(&av->baton);
    pthread_mutex_init(&av->ex_turn, NULL);
    pthread_mutex_init(&av->ex_lock, NULL);
    pthread_cond_init(&av->ex_cond, NULL);
}

void sync_free(struct accel_vm *av)
{
    baton_free(&av->baton);
    pthread_mutex_destroy(&av->ex_turn);
    pthread_mutex_destroy(&av->ex_lock);
    pthread_cond_destroy(&av->ex_cond);
}

void sync_run(struct jit_cpu *jc)
{
    struct accel_vm *av = jc->av;

    if (!jc->quiet)
        return;
    if (av->single)
        baton_take(jc);
    pthread_mutex_lock(&av->ex_lock);
    while (atomic_load(&av->ex_pending))
        pthread_cond_wait(&av->ex_cond, &av->ex_lock);
    av->ex_running++;
    jc->quiet = false;
    pthread_mutex_unlock(&av->ex_lock);
    hot_wake(av->hot);
}

void sync_quiet(struct jit_cpu *jc)
{
    struct accel_vm *av = jc->av;

    if (jc->quiet)
        return;
    pthread_mutex_lock(&av->ex_lock);
    av->ex_running--;
    jc->quiet = true;
    pthread_cond_broadcast(&av->ex_cond);
    pthread_mutex_unlock(&av->ex_lock);
    if (av->single)
        baton_give(jc);
    if (atomic_load(&av->settling))
        settle_notify(av);
}

void sync_pause(struct jit_cpu *jc)
{
    if (!atomic_load(&jc->av->ex_pending) && !(jc->av->single && atomic_load(&jc->av->baton.wanted)))
        return;
    sync_quiet(jc);
    sync_run(jc);
}

void accel_exclusive(struct vm *vm, void (*fn)(struct vm *vm, void *arg), void *arg)
{
    struct accel_vm *av = accel_of(vm);
    struct vcpu *self = vcpu_current();
    struct jit_cpu *jc = self && self->vm == vm ? self->cpu->jit : NULL;
    bool was_running = jc && !jc->quiet;

    if (was_running)
        sync_quiet(jc);                 /* so that two who want this do not wait for each other */
    pthread_mutex_lock(&av->ex_turn);
    pthread_mutex_lock(&av->ex_lock);
    atomic_fetch_add(&av->ex_pending, 1);
    while (av->ex_running) {
        pthread_mutex_unlock(&av->ex_lock);
        for (unsigned i = 0; i < vm->nvcpus; i++)
            if (vm->vcpus[i] != self)
                cpu_kick(vm->vcpus[i]->cpu, CPU_EXIT_KICK);
        pthread_mutex_lock(&av->ex_lock);
        if (av->ex_running)
            pthread_cond_wait(&av->ex_cond, &av->ex_lock);
    }
    pthread_mutex_unlock(&av->ex_lock);
    fn(vm, arg);
    pthread_mutex_lock(&av->ex_lock);
    atomic_fetch_sub(&av->ex_pending, 1);
    pthread_cond_broadcast(&av->ex_cond);
    pthread_mutex_unlock(&av->ex_lock);
    pthread_mutex_unlock(&av->ex_turn);
    if (was_running)
        sync_resume(jc);
}
