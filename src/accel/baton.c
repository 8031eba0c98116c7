/* thread=single: vCPUs take turns. Each keeps a thread of its own, but only who has the baton is running; it is had from
 * sync_run() to sync_quiet(), so one that sleeps, is parked or waits for others has passed it on. First come, first
 * served; whoever waits longest asks for it when the holder has had its time slice, which that hears at its next poll. */
#include <glib.h>
#include <errno.h>
#include <time.h>
#include "accel.h"

enum { BATON_SLICE_NS = 5000000 };

void baton_init(struct baton *b)
{
    pthread_condattr_t monotonic;

    pthread_mutex_init(&b->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&b->cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void baton_free(struct baton *b)
{
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->cond);
}

struct timespec time_from_now(int64_t ns)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += ns;                    /* less than a second or so */
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

/* Under the lock. */
static void baton_ask(struct baton *b)
{
    atomic_store(&b->wanted, true);
    if (b->holder)
        cpu_kick(b->holder->vcpu->cpu, CPU_EXIT_KICK);
}

void baton_take(struct jit_cpu *jc)
{
    struct baton *b = &jc->av->baton;
    uint64_t ticket;

    pthread_mutex_lock(&b->lock);
    ticket = b->tickets++;
    while (b->turn != ticket) {
        struct timespec until = time_from_now(BATON_SLICE_NS);

        if (pthread_cond_timedwait(&b->cond, &b->lock, &until) == ETIMEDOUT && b->turn + 1 == ticket)
            baton_ask(b);
    }
    b->holder = jc;
    atomic_store(&b->wanted, false);
    pthread_mutex_unlock(&b->lock);
}

void baton_give(struct jit_cpu *jc)
{
    struct baton *b = &jc->av->baton;

    pthread_mutex_lock(&b->lock);
    b->holder = NULL;
    b->turn++;
    pthread_cond_broadcast(&b->cond);
    pthread_mutex_unlock(&b->lock);
}

/* The holder has nothing to do for now: a loop that waits for another vCPU. */
void baton_offer(struct jit_cpu *jc)
{
    struct baton *b = &jc->av->baton;

    pthread_mutex_lock(&b->lock);
    if (b->holder == jc && b->tickets > b->turn + 1)
        baton_ask(b);
    pthread_mutex_unlock(&b->lock);
}
