/* Which translated code is hot, and the thread that has it compiled again (src/jit/tier2.c). A counter in each region
 * would cost all of them; so while vCPUs run, the thread asks each of them now and then where it is. It answers at its
 * next poll: the region that is about to run is charged. When all vCPUs sleep the thread does too.
 *
 * What a region is made from is copied when it is asked for, with the count of writes to its page. It is published if the
 * page was not written since, under the lock that writers take. */
#include <glib.h>
#include <signal.h>
#include <string.h>
#include "accel.h"

enum { SAMPLE_NS = 2000000, HOT_SAMPLES = 8, IDLE_LOOKS = 2,
       HEAT_HALVES = 512 };             /* samples of all vCPUs after which what was counted counts half */

struct hot {
    struct accel_vm *av;
    pthread_t thread;
    bool started, stop;
    pthread_mutex_t lock;       /* a leaf: of what follows */
    pthread_cond_t cond;
    GPtrArray *cpus;            /* struct jit_cpu *, in their loops */
    struct hot_queue queue;
    struct jit_hot_source *current;     /* being compiled */
    pthread_cond_t done;        /* it was */
    _Atomic bool idle;          /* the thread waits for a vCPU to run */
    _Atomic uint64_t samples;
};

/* ---- a vCPU's part */

static struct region *region_at(struct cpu *cpu)
{
    struct region *r = jump_find(cpu, cpu->pc);
    struct ram_block *rb;
    uint64_t offset;
    uint8_t *host;

    if (r)
        return r;
    host = code_host(cpu, cpu->pc, true, &rb, &offset);
    return host ? jit_find(cpu->jit->av->jit, (uintptr_t)host, cpu->mode, UINT64_MAX) : NULL;
}

/* The region's bytes and all that is to be known of them. NULL: they are in motion just now. */
static struct jit_hot_source *source_new(struct cpu *cpu, struct region *r)
{
    struct accel_vm *av = cpu->jit->av;
    struct jit_hot_source *s = g_new(struct jit_hot_source, 1);
    struct ram_block *rb;

    s->cpu = cpu;
    s->pc = cpu->pc;
    s->phys = r->phys;
    s->mode = r->mode;
    s->insns = r->insns;
    s->heat = r->heat;
    s->old = r;
    s->generation = jit_generation(av->jit);
    if ((uintptr_t)code_host(cpu, cpu->pc, true, &rb, &s->place) != r->phys || !code_copy(cpu, rb, s->place, s->bytes, &s->writes)) {
        g_free(s);
        return NULL;
    }
    s->opaque = rb;
    return s;
}

void hot_ask(struct cpu *cpu, struct region *r)
{
    struct hot *h = cpu->jit->av->hot;
    struct jit_hot_source *s;

    if (!h || r->tried || r->dead || r->len2 || (r->phys ^ cpu->pc) & ~PAGE_MASK)
        return;
    s = source_new(cpu, r);
    if (!s)
        return;
    r->tried = true;
    pthread_mutex_lock(&h->lock);
    hot_queue_push(&h->queue, s);
    pthread_cond_signal(&h->cond);
    pthread_mutex_unlock(&h->lock);
}

void hot_sample(struct cpu *cpu)
{
    struct jit_cpu *jc = cpu->jit;
    struct hot *h = jc->av->hot;
    struct region *r = region_at(cpu);
    uint32_t age = atomic_fetch_add(&h->samples, 1) / HEAT_HALVES;

    atomic_store_explicit(&jc->sample, false, memory_order_relaxed);
    jc->samples++;
    if (!r)
        return;
    jc->samples_hot += r->hot;
    if (r->tried)
        return;
    if (r->heat_age != age) {
        r->heat >>= MIN(age - r->heat_age, 31);
        r->heat_age = age;
    }
    if (++r->heat >= HOT_SAMPLES)
        hot_ask(cpu, r);
}

/* ---- the thread */

/* The region goes into its page's list unless the page was written since its bytes were copied; what still finds the old
 * one, which stays right, comes to find it. */
static void publish(struct hot *h, struct region *r, struct jit_hot_source *s)
{
    struct accel_vm *av = h->av;

    if (!code_replace(av, r, s)) {
        jit_count_stale(av->jit);
        return;
    }
    pthread_mutex_lock(&h->lock);
    for (unsigned i = 0; s->old->jumped_to && i < h->cpus->len; i++)
        cpu_kick(((struct jit_cpu *)g_ptr_array_index(h->cpus, i))->vcpu->cpu, CPU_EXIT_FLUSH);
    pthread_mutex_unlock(&h->lock);
}

static void compile_all(struct hot *h)
{
    struct jit_hot_source *s;

    while (!h->stop && (s = hot_queue_pop(&h->queue))) {
        struct region *r;

        h->current = s;
        pthread_mutex_unlock(&h->lock);
        r = jit_recompile(h->av->jit, s);
        if (r)
            publish(h, r, s);
        pthread_mutex_lock(&h->lock);
        h->current = NULL;
        g_free(s);
        pthread_cond_broadcast(&h->done);
    }
}

/* Asks every vCPU that runs. false: none does. */
static bool ask_all(struct hot *h)
{
    bool any = false;

    for (unsigned i = 0; i < h->cpus->len; i++) {
        struct jit_cpu *jc = g_ptr_array_index(h->cpus, i);

        if (jc->quiet)
            continue;
        any = true;
        if (!atomic_exchange(&jc->sample, true))
            cpu_kick(jc->vcpu->cpu, CPU_EXIT_KICK);
    }
    return any;
}

static void *hot_thread(void *arg)
{
    struct hot *h = arg;
    unsigned idle = 0;

    pthread_mutex_lock(&h->lock);
    while (!h->stop) {
        struct timespec until = time_from_now(SAMPLE_NS);

        compile_all(h);
        idle = ask_all(h) ? 0 : idle + 1;
        if (idle > IDLE_LOOKS) {
            atomic_store(&h->idle, true);       /* before the look: see hot_wake() */
            while (!h->stop && !h->queue.n && !ask_all(h))
                pthread_cond_wait(&h->cond, &h->lock);
            atomic_store(&h->idle, false);
            idle = 0;
        }
        while (!h->stop && !h->queue.n && !pthread_cond_timedwait(&h->cond, &h->lock, &until))
            ;
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

/* A vCPU begins to run. */
void hot_wake(struct hot *h)
{
    if (!h || !atomic_load(&h->idle))
        return;
    pthread_mutex_lock(&h->lock);
    pthread_cond_signal(&h->cond);
    pthread_mutex_unlock(&h->lock);
}

/* ---- life */

struct hot *hot_new(struct accel_vm *av)
{
    struct hot *h = g_new0(struct hot, 1);
    pthread_condattr_t monotonic;

    h->av = av;
    h->cpus = g_ptr_array_new();
    pthread_mutex_init(&h->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&h->cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_cond_init(&h->done, NULL);
    return h;
}

void hot_free(struct hot *h)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    h->stop = true;
    pthread_cond_signal(&h->cond);
    pthread_mutex_unlock(&h->lock);
    if (h->started)
        pthread_join(h->thread, NULL);
    hot_queue_clear(&h->queue);
    g_ptr_array_free(h->cpus, TRUE);
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->cond);
    pthread_cond_destroy(&h->done);
    g_free(h);
}

/* Not before a vCPU runs, when the process has become what it stays (-daemonize). Without the thread all goes on by tier 1. */
static void thread_start(struct hot *h)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    h->started = !pthread_create(&h->thread, NULL, hot_thread, h);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (h->started)
        pthread_setname_np(h->thread, "tier2");
}

void hot_enter(struct hot *h, struct jit_cpu *jc)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    if (!h->started)
        thread_start(h);
    g_ptr_array_add(h->cpus, jc);
    pthread_mutex_unlock(&h->lock);
}

void hot_leave(struct hot *h, struct jit_cpu *jc)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    g_ptr_array_remove(h->cpus, jc);
    hot_queue_drop(&h->queue, jc->vcpu->cpu);
    while (h->current && h->current->cpu == jc->vcpu->cpu)
        pthread_cond_wait(&h->done, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

uint64_t hot_dropped(struct hot *h)
{
    uint64_t n;

    pthread_mutex_lock(&h->lock);
    n = h->queue.dropped;
    pthread_mutex_unlock(&h->lock);
    return n;
}
