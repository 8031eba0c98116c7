/* vCPUs: their threads' start, parking and end. What a thread does in between is the accelerator's. */
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <glib.h>
#include "vm_internal.h"

static _Thread_local struct vcpu *current;

struct vcpu *vcpu_current(void)
{
    return current;
}

struct vm_private *vm_private_new(void)
{
    struct vm_private *p = g_new0(struct vm_private, 1);

    p->powerdown = g_array_new(FALSE, FALSE, sizeof(struct powerdown));
    p->state_watches = g_array_new(FALSE, FALSE, sizeof(struct state_watch));
    pthread_mutex_init(&p->park_lock, NULL);
    pthread_cond_init(&p->park_cond, NULL);
    return p;
}

void vm_private_free(struct vm_private *p)
{
    g_array_free(p->powerdown, TRUE);
    g_array_free(p->state_watches, TRUE);
    g_free(p->requests.panic_how);
    pthread_mutex_destroy(&p->park_lock);
    pthread_cond_destroy(&p->park_cond);
    g_free(p);
}

static unsigned bits_for(unsigned n)
{
    return n <= 1 ? 0 : 32 - (unsigned)__builtin_clz(n - 1);
}

/* Each level has a field of its own in the id, as wide as its largest number (SDM vol. 3, 9.9.1). */
static void place(struct vcpu *v, const struct vm_config *c)
{
    unsigned per_die = c->clusters * c->cores, per_socket = c->dies * per_die, i = (unsigned)v->index, core;

    v->thread = (int)(i % c->threads);
    core = i / c->threads % per_socket;
    v->socket = (int)(i / c->threads / per_socket);
    v->die = (int)(core / per_die);
    v->core = (int)(core % per_die);
    v->arch_id = ((uint32_t)v->socket << bits_for(per_socket) | core) << bits_for(c->threads) | (uint32_t)v->thread;
}

struct vcpu *vcpu_new(struct vm *vm, struct error *err)
{
    const struct vm_config *c = &vm->config;
    struct vcpu *v;
    unsigned i = vm->nvcpus;

    if (!vm->guest) {
        error_set(err, ERR_GENERIC, "this machine has no guest instruction set", NULL);
        return NULL;
    }
    v = g_new0(struct vcpu, 1);
    v->vm = vm;
    v->index = (int)i;
    place(v, c);
    v->stopped = true;
    v->stop_requested = true;
    pthread_mutex_init(&v->work_lock, NULL);
    v->cpu = aligned_alloc(64, (vm->guest->cpu_size + 63) & ~(size_t)63);
    memset(v->cpu, 0, vm->guest->cpu_size);
    v->cpu->guest = vm->guest;
    v->cpu->vcpu = v;
    v->cpu->index = v->index;
    v->cpu->exception = -1;
    /* Known to the machine first: cpu_init may ask for topology. */
    vm->vcpus = g_renew(struct vcpu *, vm->vcpus, i + 1);
    vm->vcpus[vm->nvcpus++] = v;
    if (vm->device_count <= i)
        vm->device_count = i + 1;       /* CPUs are /machine/unattached/device[0] and up */
    if (vm->guest->cpu_init && !vm->guest->cpu_init(v->cpu, vm, c->cpu ? c->cpu : vm->board->default_cpu, err))
        return NULL;
    if (vm->accel && vm->accel->vcpu_init && !vm->accel->vcpu_init(v, err))
        return NULL;
    v->ready = true;
    return v;
}

void vcpus_free(struct vm *vm)
{
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        struct vcpu *v = vm->vcpus[i];

        if (v->ready && vm->accel && vm->accel->vcpu_exit)
            vm->accel->vcpu_exit(v);
        if (vm->guest->cpu_free)
            vm->guest->cpu_free(v->cpu);
        pthread_mutex_destroy(&v->work_lock);
        free(v->cpu);
        g_free(v);
    }
    g_free(vm->vcpus);
    vm->vcpus = NULL;
    vm->nvcpus = 0;
}

/* ---- the thread */

static void *vcpu_thread(void *arg)
{
    struct vcpu *v = arg;
    g_autofree char *name = g_strdup_printf("CPU %d", v->index);

    current = v;
    v->tid = (int)syscall(SYS_gettid);
    pthread_setname_np(pthread_self(), name);
    v->vm->accel->vcpu_loop(v);
    pthread_mutex_lock(&v->vm->priv->park_lock);
    v->stopped = true;
    v->ended = true;
    pthread_cond_broadcast(&v->vm->priv->park_cond);
    pthread_mutex_unlock(&v->vm->priv->park_lock);
    return NULL;
}

bool vcpu_park(struct vcpu *v, void (*idle)(struct vcpu *v))
{
    struct vm_private *p = v->vm->priv;
    bool quit;

    pthread_mutex_lock(&p->park_lock);
    while (v->stop_requested && !v->quit) {
        if (!v->stopped) {
            v->stopped = true;
            pthread_cond_broadcast(&p->park_cond);
        }
        if (v->woken) {
            v->woken = false;
            pthread_mutex_unlock(&p->park_lock);
            if (idle)
                idle(v);
            pthread_mutex_lock(&p->park_lock);
            continue;
        }
        pthread_cond_wait(&p->park_cond, &p->park_lock);
    }
    v->stopped = false;
    quit = v->quit;
    pthread_mutex_unlock(&p->park_lock);
    return !quit;
}

void vcpu_wake(struct vcpu *v)
{
    struct vm_private *p = v->vm->priv;

    pthread_mutex_lock(&p->park_lock);
    v->woken = true;
    pthread_cond_broadcast(&p->park_cond);
    pthread_mutex_unlock(&p->park_lock);
}

void vcpu_kick(struct vcpu *v, uint32_t exit_bits)
{
    atomic_fetch_or(&v->cpu->exit_request, exit_bits);
    if (v->vm->accel && v->vm->accel->kick)
        v->vm->accel->kick(v);
}

void vcpu_request_pause(struct vcpu *v)
{
    if (!v)
        return;
    v->stop_requested = true;
    vcpu_kick(v, CPU_EXIT_STOP);
}

/* ---- all of them; on the main loop's thread */

bool vcpus_start(struct vm *vm, struct error *err)
{
    if (vm->nvcpus && (!vm->accel || !vm->accel->vcpu_loop))
        return error_set(err, ERR_GENERIC, "this build has no accelerator that can run the machine", "see -accel help");
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        struct vcpu *v = vm->vcpus[i];
        int e;

        if (v->thread_started)
            continue;
        e = pthread_create(&v->thread_handle, NULL, vcpu_thread, v);
        if (e)
            return error_set_errno(err, e, NULL, "cannot start the thread of CPU %u", i);
        v->thread_started = true;
    }
    return true;
}

void vcpus_pause(struct vm *vm)
{
    struct vm_private *p = vm->priv;

    for (unsigned i = 0; i < vm->nvcpus; i++)
        vcpu_request_pause(vm->vcpus[i]);
    pthread_mutex_lock(&p->park_lock);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        while (vm->vcpus[i]->thread_started && !vm->vcpus[i]->stopped)
            pthread_cond_wait(&p->park_cond, &p->park_lock);
    pthread_mutex_unlock(&p->park_lock);
}

void vcpus_resume(struct vm *vm)
{
    struct vm_private *p = vm->priv;

    pthread_mutex_lock(&p->park_lock);
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        vm->vcpus[i]->stop_requested = false;
        /* Counted as running from here, so that a pause that follows waits for it. */
        if (vm->vcpus[i]->thread_started && !vm->vcpus[i]->ended)
            vm->vcpus[i]->stopped = false;
    }
    pthread_cond_broadcast(&p->park_cond);
    pthread_mutex_unlock(&p->park_lock);
}

void vcpus_stop(struct vm *vm)
{
    struct vm_private *p = vm->priv;

    pthread_mutex_lock(&p->park_lock);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        vm->vcpus[i]->quit = true;
    pthread_cond_broadcast(&p->park_cond);
    pthread_mutex_unlock(&p->park_lock);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        vcpu_request_pause(vm->vcpus[i]);
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        struct vcpu *v = vm->vcpus[i];

        if (v->thread_started)
            pthread_join(v->thread_handle, NULL);
        v->thread_started = false;
    }
}

/* ---- work, by the accelerator's means; before the threads run there is nobody to disturb */

void vcpu_run_on(struct vcpu *v, void (*fn)(struct vcpu *v, void *arg), void *arg)
{
    if (v == current || !v->thread_started || !v->vm->accel || !v->vm->accel->run_on)
        fn(v, arg);
    else
        v->vm->accel->run_on(v, fn, arg, true);
}

void vcpu_queue(struct vcpu *v, void (*fn)(struct vcpu *v, void *arg), void *arg)
{
    if (!v->thread_started || !v->vm->accel || !v->vm->accel->run_on)
        fn(v, arg);
    else
        v->vm->accel->run_on(v, fn, arg, false);
}

enum { STALL_PAUSES = 32 };     /* about a microsecond, less than it takes to wait for a host thread */

void cpu_pause(struct cpu *cpu)
{
    struct vcpu *v = cpu->vcpu;

#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
    if (!v || ++v->pauses % STALL_PAUSES)
        return;
    if (v->vm->accel && v->vm->accel->relax)
        v->vm->accel->relax(v);
    sched_yield();              /* who is waited for may be waiting for the core */
}

void cpu_stall(struct cpu *cpu)
{
    for (unsigned n = 0; n < STALL_PAUSES && !atomic_load_explicit(&cpu->exit_request, memory_order_relaxed); n++)
        cpu_pause(cpu);
}

void vcpus_ack(struct vcpu *self)
{
    if (self->vm->nvcpus > 1 && self->vm->accel && self->vm->accel->ack)
        self->vm->accel->ack(self);
}

void vcpus_exclusive(struct vm *vm, void (*fn)(struct vm *vm, void *arg), void *arg)
{
    bool threads = false;

    for (unsigned i = 0; i < vm->nvcpus; i++)
        threads |= vm->vcpus[i]->thread_started;
    if (!threads || !vm->accel || !vm->accel->exclusive)
        fn(vm, arg);
    else
        vm->accel->exclusive(vm, fn, arg);
}
