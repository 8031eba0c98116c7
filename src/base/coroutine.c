/* Stackful coroutines: a stack each, kept in a pool of the thread, and a switch of a few instructions. */
#include "rhea/base/coroutine.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <glib.h>

#if !defined(__x86_64__)
#include <ucontext.h>
#define CO_UCONTEXT 1
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define CO_ASAN 1
#endif

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define CO_TSAN 1
#endif

/* A stack is mapped with a guard page below; only touched pages cost memory. A chain of 200 images is opened and read
 * on one stack. */
enum { STACK_SIZE = 1 << 20, GUARD_SIZE = 4096, POOL_MAX = 256 };

struct coroutine {
    void *sp;                       /* saved stack pointer while it does not run */
    struct coroutine *caller;       /* who resumed it; NULL: the thread's own stack */
    void (*fn)(void *arg);
    void *arg;
    struct loop *loop;
    pthread_t thread;
    uint8_t *stack;
    struct coroutine *next_free;
    bool suspended, woken, done;
#ifdef CO_UCONTEXT
    ucontext_t context;
#endif
#ifdef CO_ASAN
    void *fake_stack;
#endif
#ifdef CO_TSAN
    void *fiber;
#endif
};

struct co_thread {
    struct coroutine *current;
    struct coroutine *free_list;
    unsigned free_count;
    struct coroutine root;          /* the thread's own stack, where no coroutine runs */
#ifdef CO_ASAN
    const void *root_bottom;
    size_t root_size;
#endif
};

static __thread struct co_thread *self_thread;
static pthread_key_t thread_key;
static pthread_once_t thread_once = PTHREAD_ONCE_INIT;

static void co_free(struct coroutine *co)
{
#ifdef CO_TSAN
    __tsan_destroy_fiber(co->fiber);
#endif
    munmap(co->stack, STACK_SIZE + GUARD_SIZE);
    g_free(co);
}

static void thread_exit(void *arg)
{
    struct co_thread *t = arg;
    struct coroutine *co;

    while ((co = t->free_list)) {
        t->free_list = co->next_free;
        co_free(co);
    }
    g_free(t);
    self_thread = NULL;
}

static void thread_key_init(void)
{
    pthread_key_create(&thread_key, thread_exit);
}

static struct co_thread *thread_get(void)
{
    if (!self_thread) {
        pthread_once(&thread_once, thread_key_init);
        self_thread = g_new0(struct co_thread, 1);
        pthread_setspecific(thread_key, self_thread);
    }
    return self_thread;
}

/* ---- the switch */

#ifndef CO_UCONTEXT
/* Saves what the System V ABI says a call preserves, and changes stacks. MXCSR and the x87 control word are not
 * saved: nothing in a loop's thread changes them. */
void rhea_co_switch(void **save_sp, void *to_sp);
__asm__(".text\n"
        ".p2align 4\n"
        ".globl rhea_co_switch\n"
        ".hidden rhea_co_switch\n"
        ".type rhea_co_switch, @function\n"
        "rhea_co_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size rhea_co_switch, .-rhea_co_switch\n");
#endif

static void co_switch(struct co_thread *t, struct coroutine *from, struct coroutine *to)
{
#ifdef CO_ASAN
    bool root = to == &t->root;

    /* a finished coroutine's fake stack is given up */
    __sanitizer_start_switch_fiber(from->done ? NULL : &from->fake_stack,
                                   root ? t->root_bottom : to->stack + GUARD_SIZE,
                                   root ? t->root_size : STACK_SIZE);
#endif
#ifdef CO_TSAN
    from->fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to->fiber, 0);
#endif
#ifdef CO_UCONTEXT
    swapcontext(&from->context, &to->context);
#else
    rhea_co_switch(&from->sp, to->sp);
#endif
#ifdef CO_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}

static void co_return(struct coroutine *co);

static void co_main(void)
{
    struct coroutine *co = self_thread->current;

#ifdef CO_ASAN
    const void *bottom;
    size_t size;

    __sanitizer_finish_switch_fiber(NULL, &bottom, &size);
    if (!co->caller) {
        self_thread->root_bottom = bottom;
        self_thread->root_size = size;
    }
#endif
    for (;;) {                      /* a pooled coroutine is entered again here */
        co->fn(co->arg);
        co->done = true;
#ifdef CO_ASAN
        co->fake_stack = NULL;      /* given up by the switch; the next life starts with none */
#endif
        co_return(co);
    }
}

static void co_prepare(struct coroutine *co)
{
#ifdef CO_UCONTEXT
    getcontext(&co->context);
    co->context.uc_stack.ss_sp = co->stack + GUARD_SIZE;
    co->context.uc_stack.ss_size = STACK_SIZE;
    co->context.uc_link = NULL;
    makecontext(&co->context, co_main, 0);
#else
    void **sp = (void **)(co->stack + GUARD_SIZE + STACK_SIZE);

    *--sp = NULL;                   /* co_main's return address (never used) keeps the stack 16-byte aligned */
    *--sp = (void *)co_main;        /* where the first switch returns to */
    for (int i = 0; i < 6; i++)
        *--sp = NULL;
    co->sp = sp;
#endif
}

static struct coroutine *co_new(struct co_thread *t)
{
    struct coroutine *co = t->free_list;

    if (co) {
        t->free_list = co->next_free;
        t->free_count--;
        return co;
    }
    co = g_new0(struct coroutine, 1);
    co->stack = mmap(NULL, STACK_SIZE + GUARD_SIZE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (co->stack == MAP_FAILED || mprotect(co->stack, GUARD_SIZE, PROT_NONE))
        g_error("no memory for a coroutine's stack: %s", g_strerror(errno));
    co->thread = pthread_self();
#ifdef CO_TSAN
    co->fiber = __tsan_create_fiber(0);
#endif
    co_prepare(co);
    return co;
}

/* Back to whoever resumed co. */
static void co_return(struct coroutine *co)
{
    struct co_thread *t = self_thread;
    struct coroutine *to = co->caller ? co->caller : &t->root;

    t->current = co->caller;
    co->caller = NULL;
    co_switch(t, co, to);
}

static void co_enter(struct coroutine *co)
{
    struct co_thread *t = self_thread;
    struct coroutine *from = t->current ? t->current : &t->root;

    co->caller = t->current;
    co->suspended = false;
    t->current = co;
    co_switch(t, from, co);
    if (!co->done)
        return;
    if (t->free_count < POOL_MAX) {
        co->next_free = t->free_list;
        t->free_list = co;
        t->free_count++;
    } else {
        co_free(co);
    }
}

void coroutine_start(void (*fn)(void *arg), void *arg)
{
    struct coroutine *co = co_new(thread_get());

    co->fn = fn;
    co->arg = arg;
    co->loop = loop_current();
    co->done = co->woken = false;
    co_enter(co);
}

struct coroutine *coroutine_self(void)
{
    return self_thread ? self_thread->current : NULL;
}

void coroutine_yield(void)
{
    struct coroutine *co = self_thread->current;

    if (co->woken) {
        co->woken = false;
        return;
    }
    co->suspended = true;
    co_return(co);
}

static void co_wake_here(void *arg)
{
    struct coroutine *co = arg;

    if (co->suspended)
        co_enter(co);
    else
        co->woken = true;
}

/* suspended and woken are touched by the coroutine's own thread only: a wake from elsewhere arrives as a post. */
void coroutine_wake(struct coroutine *co)
{
    if (pthread_equal(co->thread, pthread_self()))
        co_wake_here(co);
    else
        loop_post(co->loop, co_wake_here, co);
}

void coroutine_sleep_ns(int64_t ns)
{
    struct coroutine *co = coroutine_self();
    struct loop_timer *t = loop_timer_new(co->loop, co_wake_here, co);

    loop_timer_set(t, host_clock_ns() + ns);
    coroutine_yield();
    loop_timer_free(t);
}

/* ---- locks: a spinning guard over a list of waiters that live on their stacks */

struct waiter {
    struct coroutine *co;
    struct waiter *next;
    bool write;                     /* co_rwlock */
};

static void guard_lock(int *guard)
{
    unsigned spins = 0;

    while (__atomic_exchange_n(guard, 1, __ATOMIC_ACQUIRE)) {
        if (++spins > 100)
            sched_yield();          /* the holder may have lost its CPU */
    }
}

static void guard_unlock(int *guard)
{
    __atomic_store_n(guard, 0, __ATOMIC_RELEASE);
}

static void waiter_push(void **head, void **tail, struct waiter *w)
{
    w->next = NULL;
    if (*head)
        ((struct waiter *)*tail)->next = w;
    else
        *head = w;
    *tail = w;
}

static struct waiter *waiter_pop(void **head)
{
    struct waiter *w = *head;

    if (w)
        *head = w->next;
    return w;
}

void co_mutex_init(struct co_mutex *m)
{
    memset(m, 0, sizeof(*m));
}

void co_mutex_lock(struct co_mutex *m)
{
    struct waiter w = { .co = coroutine_self() };

    guard_lock(&m->guard);
    if (!m->holder) {
        m->holder = w.co;
        guard_unlock(&m->guard);
        return;
    }
    waiter_push(&m->waiters_head, &m->waiters_tail, &w);
    guard_unlock(&m->guard);
    coroutine_yield();              /* the unlocker makes us the holder */
}

bool co_mutex_trylock(struct co_mutex *m)
{
    struct coroutine *self = coroutine_self();
    bool free;

    guard_lock(&m->guard);
    free = !m->holder;
    if (free)
        m->holder = self ? self : (struct coroutine *)m;        /* any non-NULL value: held outside a coroutine */
    guard_unlock(&m->guard);
    return free;
}

void co_mutex_unlock(struct co_mutex *m)
{
    struct waiter *w;
    struct coroutine *co = NULL;

    guard_lock(&m->guard);
    w = waiter_pop(&m->waiters_head);
    if (w)
        co = w->co;
    m->holder = co;
    guard_unlock(&m->guard);
    if (co)
        coroutine_wake(co);
}

void co_rwlock_init(struct co_rwlock *l)
{
    memset(l, 0, sizeof(*l));
}

static void rwlock_take(struct co_rwlock *l, bool write)
{
    struct waiter w = { .co = coroutine_self(), .write = write };

    guard_lock(&l->mutex.guard);
    /* nobody overtakes a waiter, so that writers are not starved */
    if (!l->waiters_head && !l->writer && (!write || !l->readers)) {
        if (write)
            l->writer = true;
        else
            l->readers++;
        guard_unlock(&l->mutex.guard);
        return;
    }
    waiter_push(&l->waiters_head, &l->waiters_tail, &w);
    guard_unlock(&l->mutex.guard);
    coroutine_yield();
}

void co_rwlock_rdlock(struct co_rwlock *l)
{
    rwlock_take(l, false);
}

void co_rwlock_wrlock(struct co_rwlock *l)
{
    rwlock_take(l, true);
}

void co_rwlock_unlock(struct co_rwlock *l)
{
    struct waiter *w, *wake = NULL, **tail = &wake;

    guard_lock(&l->mutex.guard);
    if (l->writer)
        l->writer = false;
    else
        l->readers--;
    while ((w = l->waiters_head) && !l->writer && (!w->write || !l->readers)) {
        waiter_pop(&l->waiters_head);
        if (w->write)
            l->writer = true;
        else
            l->readers++;
        *tail = w;
        tail = &w->next;
        *tail = NULL;
    }
    guard_unlock(&l->mutex.guard);
    while ((w = wake)) {
        wake = w->next;             /* w lives on a stack that goes on now */
        coroutine_wake(w->co);
    }
}

void co_queue_init(struct co_queue *q)
{
    memset(q, 0, sizeof(*q));
}

void co_queue_wait(struct co_queue *q, struct co_mutex *m)
{
    struct waiter w = { .co = coroutine_self() };

    guard_lock(&q->guard);
    waiter_push(&q->head, &q->tail, &w);
    guard_unlock(&q->guard);
    if (m)
        co_mutex_unlock(m);
    coroutine_yield();
    if (m)
        co_mutex_lock(m);
}

void co_queue_wake_one(struct co_queue *q)
{
    struct waiter *w;
    struct coroutine *co = NULL;

    guard_lock(&q->guard);
    w = waiter_pop(&q->head);
    if (w)
        co = w->co;
    guard_unlock(&q->guard);
    if (co)
        coroutine_wake(co);
}

/* Those that wait now; who waits again meanwhile is not woken. */
void co_queue_wake_all(struct co_queue *q)
{
    struct waiter *w, *list;

    guard_lock(&q->guard);
    list = q->head;
    q->head = NULL;
    guard_unlock(&q->guard);
    while ((w = list)) {
        list = w->next;
        coroutine_wake(w->co);
    }
}
