/* Stackful coroutines for the block layer and long control work. A coroutine stays on the thread (loop) that
 * started it; coroutine_wake() may be called from any thread and resumes it there. */
#ifndef RHEA_BASE_COROUTINE_H
#define RHEA_BASE_COROUTINE_H

#include <stdbool.h>
#include <stdint.h>
#include "rhea/base/loop.h"

struct coroutine;

/* Starts fn(arg) at once, on the caller's thread; returns at its first yield or its end. */
void coroutine_start(void (*fn)(void *arg), void *arg);
struct coroutine *coroutine_self(void);         /* NULL outside one */
static inline bool in_coroutine(void) { return coroutine_self() != NULL; }
void coroutine_yield(void);                     /* until somebody wakes it */
/* Resumes co: at once when on its thread and outside it, else by a post to its loop. A wake before the yield is kept. */
void coroutine_wake(struct coroutine *co);
void coroutine_sleep_ns(int64_t ns);

/* Locks that yield instead of blocking. Fair. */
struct co_mutex { struct coroutine *holder; void *waiters_head, *waiters_tail; int guard; };
void co_mutex_init(struct co_mutex *m);
void co_mutex_lock(struct co_mutex *m);
/* Never waits, needs no coroutine; the holder must not yield before it unlocks if it is in none. */
bool co_mutex_trylock(struct co_mutex *m);
void co_mutex_unlock(struct co_mutex *m);
struct co_rwlock { struct co_mutex mutex; unsigned readers; bool writer; void *waiters_head, *waiters_tail; };
void co_rwlock_init(struct co_rwlock *l);
void co_rwlock_rdlock(struct co_rwlock *l);
void co_rwlock_wrlock(struct co_rwlock *l);
void co_rwlock_unlock(struct co_rwlock *l);
struct co_queue { void *head, *tail; int guard; };
void co_queue_init(struct co_queue *q);
/* Releases m (may be NULL) while waiting, as a condition variable does. */
void co_queue_wait(struct co_queue *q, struct co_mutex *m);
void co_queue_wake_one(struct co_queue *q);
void co_queue_wake_all(struct co_queue *q);

#endif
