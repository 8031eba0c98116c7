/* Epoch-based reclamation for the flat memory tables: a reader announces the epoch that it entered in, a writer frees
 * what it replaced once no reader of that epoch or an earlier one is left. Readers never wait.
 *
 * The readers' list belongs to the process: threads serve several machines. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <glib.h>
#include "epoch.h"
#include "rhea/vm/memory.h"

struct reader {
    _Atomic uint64_t epoch;     /* entered in; 0: outside */
    unsigned nesting;           /* the thread's own */
    struct reader *next;
    _Atomic bool dead;          /* its thread has ended; may be taken over */
};

static _Atomic uint64_t global_epoch = 1;
static struct reader *_Atomic readers;
static pthread_key_t reader_key;
static pthread_once_t reader_once = PTHREAD_ONCE_INIT;
static _Thread_local struct reader *self;

static void reader_exit(void *arg)
{
    struct reader *r = arg;

    atomic_store(&r->epoch, 0);
    atomic_store(&r->dead, true);
}

static void reader_key_make(void)
{
    pthread_key_create(&reader_key, reader_exit);
}

static struct reader *reader_make(void)
{
    struct reader *r;

    pthread_once(&reader_once, reader_key_make);
    for (r = atomic_load(&readers); r; r = r->next) {
        bool dead = true;

        if (atomic_compare_exchange_strong(&r->dead, &dead, false))
            break;
    }
    if (!r) {
        r = g_new0(struct reader, 1);
        r->next = atomic_load(&readers);
        while (!atomic_compare_exchange_weak(&readers, &r->next, r))
            ;
    }
    r->nesting = 0;
    pthread_setspecific(reader_key, r);
    self = r;
    return r;
}

unsigned mem_read_begin(void)
{
    struct reader *r = self ? self : reader_make();

    if (r->nesting++ == 0)
        /* Sequentially consistent: the announcement is seen before anything that this reader loads. */
        atomic_store(&r->epoch, atomic_load_explicit(&global_epoch, memory_order_relaxed));
    return r->nesting;
}

void mem_read_end(unsigned token)
{
    struct reader *r = self;

    (void)token;
    if (--r->nesting == 0)
        atomic_store_explicit(&r->epoch, 0, memory_order_release);
}

uint64_t epoch_advance(void)
{
    return atomic_fetch_add(&global_epoch, 1);
}

bool epoch_passed(uint64_t epoch)
{
    for (struct reader *r = atomic_load(&readers); r; r = r->next) {
        uint64_t e = atomic_load(&r->epoch);

        if (e && e <= epoch)
            return false;
    }
    return true;
}

void mem_synchronize(void)
{
    uint64_t epoch = epoch_advance();

    g_return_if_fail(!self || self->nesting == 0);
    while (!epoch_passed(epoch))
        sched_yield();
}
