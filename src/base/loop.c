/* Event loops over GMainContext, run by hand so that timers keep nanoseconds: the wait is one ppoll() up to the
 * first timer, with the thread's timer slack turned off. GLib's own sources work in the same context. */
#include "rhea/base/loop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct post {
    struct post *next;
    void (*fn)(void *arg);
    void *arg;
};

/* Timers whose callback runs, on the loop thread's stack (callbacks may step the loop again). */
struct firing {
    struct loop_timer *timer;
    struct firing *outer;
};

struct loop {
    char *name;
    GMainContext *context;
    GSource *source;
    gpointer event_tag;
    int event_fd;
    bool is_default;                    /* uses GLib's default context */
    bool single_task;

    _Atomic(struct post *) posted;      /* a stack, newest first: pushed from any thread */
    struct post *ready, *ready_tail;    /* a queue: taken from `posted`, popped one by one (a callback may step) */

    /* Invariant: whoever adds work makes it visible, then looks at `sleeping`; the loop sets `sleeping`, then looks
     * for work. So either sees the other, and a wake-up is written only when the loop is on its way to sleep. */
    atomic_bool sleeping;
    atomic_uint posters;                /* other threads that are in loop_post() */
    atomic_bool quit;
    atomic_int tid;
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t timer_lock;
    pthread_cond_t timer_done;
    struct loop_timer **heap;           /* binary heap by expiry */
    unsigned timers, heap_size;
    struct firing *firing;

    GPollFD *fds;
    int nfds;

    /* Busy waiting, see loop.h. window: what the next wait is given, 0 to poll_max. While it is 0 one wait of
     * `misses` tries the longest all the same: sleep itself makes waits look long. */
    atomic_llong poll_max, poll_grow, poll_shrink, batch;
    int64_t window;
    unsigned misses, misses_left;
};

struct loop_timer {
    struct loop *loop;
    void (*fn)(void *arg);
    void *arg;
    int64_t expiry;
    int index;                          /* in the heap, -1: not set */
};

struct loop_fd {
    GSource source;
    int fd;
    gpointer tag;                       /* NULL: paused (a poll for nothing would still report hang-ups) */
    void (*fn)(void *arg, unsigned events);
    void *arg;
};

struct loop_source {
    GSource source;
    struct loop *loop;
};

static __thread struct loop *current;
static __thread struct { struct loop *loop; const struct loop_poller *ops; void *arg; } poller;
static atomic_bool default_taken;

int64_t host_clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

struct loop *loop_current(void)
{
    return current;
}

GMainContext *loop_context(struct loop *l)
{
    return l->context;
}

void loop_set_single_task(struct loop *l, bool on)
{
    l->single_task = on;
}

bool loop_single_task(const struct loop *l)
{
    return l->single_task;
}

int loop_thread_id(const struct loop *l)
{
    return atomic_load(&((struct loop *)l)->tid);
}

void loop_enter(struct loop *l)
{
    if (current == l)
        return;
    current = l;
    atomic_store(&l->tid, (int)syscall(SYS_gettid));
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
}

static void loop_wake(struct loop *l)
{
    uint64_t one = 1;

    if (atomic_load(&l->sleeping) && write(l->event_fd, &one, sizeof(one)) < 0)
        return;                         /* EAGAIN: the counter is full, so it is awake already */
}

/* ---- the timer heap; timer_lock held */

static void heap_put(struct loop *l, unsigned i, struct loop_timer *t)
{
    l->heap[i] = t;
    t->index = i;
}

static void heap_up(struct loop *l, unsigned i)
{
    struct loop_timer *t = l->heap[i];

    for (; i && l->heap[(i - 1) / 2]->expiry > t->expiry; i = (i - 1) / 2)
        heap_put(l, i, l->heap[(i - 1) / 2]);
    heap_put(l, i, t);
}

static void heap_down(struct loop *l, unsigned i)
{
    struct loop_timer *t = l->heap[i];
    unsigned child;

    for (; (child = 2 * i + 1) < l->timers; i = child) {
        if (child + 1 < l->timers && l->heap[child + 1]->expiry < l->heap[child]->expiry)
            child++;
        if (l->heap[child]->expiry >= t->expiry)
            break;
        heap_put(l, i, l->heap[child]);
    }
    heap_put(l, i, t);
}

static void heap_insert(struct loop *l, struct loop_timer *t)
{
    if (l->timers == l->heap_size) {
        l->heap_size = MAX(16, 2 * l->heap_size);
        l->heap = g_renew(struct loop_timer *, l->heap, l->heap_size);
    }
    heap_put(l, l->timers++, t);
    heap_up(l, t->index);
}

static void heap_remove(struct loop *l, struct loop_timer *t)
{
    unsigned i = t->index;
    struct loop_timer *last = l->heap[--l->timers];

    t->index = -1;
    if (last == t)
        return;
    heap_put(l, i, last);
    heap_up(l, i);
    heap_down(l, last->index);
}

/* ---- timers */

struct loop_timer *loop_timer_new(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct loop_timer *t = g_new0(struct loop_timer, 1);

    *t = (struct loop_timer){ .loop = l, .fn = fn, .arg = arg, .index = -1 };
    return t;
}

void loop_timer_set(struct loop_timer *t, int64_t host_ns)
{
    struct loop *l = t->loop;
    bool first;

    pthread_mutex_lock(&l->timer_lock);
    t->expiry = host_ns;
    if (t->index < 0) {
        heap_insert(l, t);
    } else {
        heap_up(l, t->index);
        heap_down(l, t->index);
    }
    first = t->index == 0;
    pthread_mutex_unlock(&l->timer_lock);
    if (first && current != l)
        loop_wake(l);
}

static bool timer_fires(struct loop *l, struct loop_timer *t)
{
    for (struct firing *f = l->firing; f; f = f->outer)
        if (f->timer == t)
            return true;
    return false;
}

void loop_timer_cancel(struct loop_timer *t)
{
    struct loop *l = t->loop;

    pthread_mutex_lock(&l->timer_lock);
    if (t->index >= 0)
        heap_remove(l, t);
    while (current != l && timer_fires(l, t))
        pthread_cond_wait(&l->timer_done, &l->timer_lock);
    if (t->index >= 0)                  /* the callback that we waited for has set it again */
        heap_remove(l, t);
    pthread_mutex_unlock(&l->timer_lock);
}

void loop_timer_free(struct loop_timer *t)
{
    if (!t)
        return;
    loop_timer_cancel(t);
    g_free(t);
}

static int64_t timers_next(struct loop *l)
{
    int64_t ns;

    pthread_mutex_lock(&l->timer_lock);
    ns = l->timers ? l->heap[0]->expiry : INT64_MAX;
    pthread_mutex_unlock(&l->timer_lock);
    return ns;
}

/* Runs what is due now, once each: a callback that sets itself in the past waits for the next round. */
static void timers_run(struct loop *l)
{
    int64_t now = host_clock_ns();
    unsigned budget;

    pthread_mutex_lock(&l->timer_lock);
    for (budget = l->timers; budget && l->timers && l->heap[0]->expiry <= now; budget--) {
        struct loop_timer *t = l->heap[0];
        struct firing frame = { t, l->firing };

        heap_remove(l, t);
        l->firing = &frame;
        pthread_mutex_unlock(&l->timer_lock);
        t->fn(t->arg);                  /* may free t */
        pthread_mutex_lock(&l->timer_lock);
        l->firing = frame.outer;
        pthread_cond_broadcast(&l->timer_done);
    }
    pthread_mutex_unlock(&l->timer_lock);
}

/* ---- posts */

void loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct post *p = g_new(struct post, 1);
    bool other = current != l;

    if (other)
        atomic_fetch_add(&l->posters, 1);
    *p = (struct post){ .fn = fn, .arg = arg };
    p->next = atomic_load_explicit(&l->posted, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&l->posted, &p->next, p))
        ;
    if (other) {
        loop_wake(l);
        atomic_fetch_sub(&l->posters, 1);
    }
}

static void posts_take(struct loop *l)
{
    struct post *p = atomic_exchange(&l->posted, NULL), *next, *list = NULL, *tail = p;

    if (!p)
        return;
    for (; p; p = next) {               /* newest first becomes oldest first */
        next = p->next;
        p->next = list;
        list = p;
    }
    if (l->ready)
        l->ready_tail->next = list;
    else
        l->ready = list;
    l->ready_tail = tail;
}

/* Those that were there at the start; what they post comes after the next poll. */
static void posts_run(struct loop *l)
{
    struct post *last, *p;
    bool more = true;

    posts_take(l);
    last = l->ready ? l->ready_tail : NULL;
    while (more && (p = l->ready)) {
        void (*fn)(void *arg) = p->fn;
        void *arg = p->arg;

        more = p != last;
        l->ready = p->next;
        g_free(p);
        fn(arg);
    }
}

struct call {
    void (*fn)(void *arg);
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};

static void call_run(void *opaque)
{
    struct call *c = opaque;

    c->fn(c->arg);
    pthread_mutex_lock(&c->lock);
    c->done = true;
    pthread_cond_signal(&c->cond);
    pthread_mutex_unlock(&c->lock);
}

void loop_call(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct call c = { .fn = fn, .arg = arg, .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

    if (current == l) {
        fn(arg);
        return;
    }
    loop_post(l, call_run, &c);
    pthread_mutex_lock(&c.lock);
    while (!c.done)
        pthread_cond_wait(&c.cond, &c.lock);
    pthread_mutex_unlock(&c.lock);
}

/* ---- the loop's own source in its context */

static bool loop_has_work(struct loop *l)
{
    return l->ready || atomic_load(&l->posted) || timers_next(l) <= host_clock_ns();
}

static gboolean loop_prepare(GSource *source, gint *timeout)
{
    struct loop *l = ((struct loop_source *)source)->loop;
    int64_t next, wait;

    atomic_store(&l->sleeping, true);
    *timeout = -1;
    if (l->ready || atomic_load(&l->posted))
        return TRUE;
    next = timers_next(l);
    if (next == INT64_MAX)
        return FALSE;
    wait = next - host_clock_ns();
    if (wait <= 0)
        return TRUE;
    /* Only for a foreign poll; loop_step() waits to the nanosecond. */
    *timeout = MIN((wait + 999999) / 1000000, INT32_MAX);
    return FALSE;
}

static gboolean loop_check(GSource *source)
{
    struct loop *l = ((struct loop_source *)source)->loop;
    uint64_t count;

    atomic_store(&l->sleeping, false);
    if ((g_source_query_unix_fd(source, l->event_tag) & G_IO_IN) && read(l->event_fd, &count, sizeof(count)) < 0)
        return loop_has_work(l);
    return loop_has_work(l);
}

static gboolean loop_dispatch(GSource *source, GSourceFunc fn, gpointer arg)
{
    struct loop *l = ((struct loop_source *)source)->loop;

    timers_run(l);
    posts_run(l);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs loop_source_funcs = {
    .prepare = loop_prepare, .check = loop_check, .dispatch = loop_dispatch,
};

struct loop *loop_new(const char *name)
{
    struct loop *l = g_new0(struct loop, 1);

    l->name = g_strdup(name);
    l->is_default = name && !strcmp(name, "main") && !atomic_exchange(&default_taken, true);
    l->context = l->is_default ? g_main_context_ref(g_main_context_default()) : g_main_context_new();
    l->poll_max = LOOP_POLL_MAX_NS;
    l->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->event_fd < 0)
        g_error("eventfd: %s", g_strerror(errno));      /* out of descriptors at start-up: nothing can work */
    pthread_mutex_init(&l->timer_lock, NULL);
    pthread_cond_init(&l->timer_done, NULL);
    l->source = g_source_new(&loop_source_funcs, sizeof(struct loop_source));
    ((struct loop_source *)l->source)->loop = l;
    l->event_tag = g_source_add_unix_fd(l->source, l->event_fd, G_IO_IN);
    g_source_set_can_recurse(l->source, TRUE);
    g_source_attach(l->source, l->context);
    return l;
}

void loop_free(struct loop *l)
{
    struct post *p;

    if (!l)
        return;
    loop_thread_stop(l);
    while (atomic_load(&l->posters))    /* what was posted has run, who posted it may still be waking us */
        sched_yield();
    posts_take(l);
    while ((p = l->ready)) {
        l->ready = p->next;
        g_free(p);
    }
    g_source_destroy(l->source);
    g_source_unref(l->source);
    g_main_context_unref(l->context);
    if (l->is_default)
        atomic_store(&default_taken, false);
    if (current == l)
        current = NULL;
    close(l->event_fd);
    g_free(l->heap);
    g_free(l->fds);
    g_free(l->name);
    pthread_mutex_destroy(&l->timer_lock);
    pthread_cond_destroy(&l->timer_done);
    g_free(l);
}

/* ---- running it */

/* The time to wait: GLib's milliseconds (-1: for ever) or up to our first timer, whichever is shorter. */
static struct timespec *wait_time(struct loop *l, int glib_ms, struct timespec *ts)
{
    int64_t next = timers_next(l), wait = INT64_MAX;

    if (next != INT64_MAX)
        wait = MAX(0, next - host_clock_ns());
    if (glib_ms >= 0)
        wait = MIN(wait, glib_ms * 1000000ll);
    if (wait == INT64_MAX)
        return NULL;
    *ts = (struct timespec){ wait / 1000000000, wait % 1000000000 };
    return ts;
}

/* ---- busy waiting */

enum { POLL_FIRST_NS = 4000, POLL_LIMIT_NS = 10000000, POLL_MISSES_MAX = 256 };

void loop_set_poller(struct loop *l, const struct loop_poller *ops, void *arg)
{
    poller.loop = ops ? l : NULL;
    poller.ops = ops;
    poller.arg = arg;
}

void loop_set_poll(struct loop *l, int64_t max_ns, int64_t grow, int64_t shrink)
{
    atomic_store(&l->poll_max, MIN(max_ns, POLL_LIMIT_NS));
    atomic_store(&l->poll_grow, grow);
    atomic_store(&l->poll_shrink, shrink);
}

void loop_set_batch(struct loop *l, int64_t max)
{
    atomic_store(&l->batch, max);
}

int64_t loop_batch(const struct loop *l)
{
    return atomic_load_explicit(&l->batch, memory_order_relaxed);
}

static void spin_hint(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");            /* YIELD does nothing on most */
#endif
}

/* Waits for the poller's answer, a post or the first timer as long as the window says. Returns when the wait began, 0:
 * nothing to be learnt from this one. */
static int64_t poll_spin(struct loop *l)
{
    int64_t max = atomic_load_explicit(&l->poll_max, memory_order_relaxed), window = MIN(l->window, max), start, end;

    if (!max || poller.loop != l || !poller.ops->begin(poller.arg) || l->ready)
        return 0;
    start = host_clock_ns();
    if (!window && l->misses_left) {
        l->misses_left--;
        return start;
    }
    end = MIN(start + (window ? window : max), timers_next(l));
    while (!poller.ops->ready(poller.arg) && !atomic_load_explicit(&l->posted, memory_order_relaxed) &&
           host_clock_ns() < end)
        spin_hint();
    return start;
}

/* After the wait: would spinning have caught it? */
static void poll_learn(struct loop *l, int64_t start)
{
    int64_t max = atomic_load_explicit(&l->poll_max, memory_order_relaxed), waited = host_clock_ns() - start;
    int64_t grow = atomic_load_explicit(&l->poll_grow, memory_order_relaxed),
            shrink = atomic_load_explicit(&l->poll_shrink, memory_order_relaxed);

    if (waited > max) {
        if (!l->window && !l->misses_left)
            l->misses_left = l->misses = MIN(2 * l->misses + 1, POLL_MISSES_MAX);
        l->window = shrink > 0 ? l->window / shrink : 0;
    } else if (poller.loop == l && poller.ops->ready(poller.arg)) {
        l->misses = l->misses_left = 0;
        if (waited > l->window)
            l->window = MIN(max, l->window ? l->window * (grow > 0 ? MIN(grow, 64) : 2) : MAX(waited, POLL_FIRST_NS));
    }
}

bool loop_step(struct loop *l, bool block)
{
    struct timespec ts;
    int priority, glib_ms, n;
    int64_t polled = 0;
    bool ready;

    loop_enter(l);
    if (!g_main_context_acquire(l->context))
        return false;
    if (block && !atomic_load_explicit(&l->posted, memory_order_relaxed))
        polled = poll_spin(l);
    g_main_context_prepare(l->context, &priority);
    while ((n = g_main_context_query(l->context, priority, &glib_ms, l->fds, l->nfds)) > l->nfds) {
        l->nfds = n + 8;
        l->fds = g_renew(GPollFD, l->fds, l->nfds);
    }
    if (!block)
        glib_ms = 0;
    G_STATIC_ASSERT(sizeof(GPollFD) == sizeof(struct pollfd));
    if (ppoll((struct pollfd *)l->fds, n, wait_time(l, glib_ms, &ts), NULL) < 0)
        for (int i = 0; i < n; i++)
            l->fds[i].revents = 0;
    if (polled)
        poll_learn(l, polled);
    ready = g_main_context_check(l->context, priority, l->fds, n);
    if (ready)
        g_main_context_dispatch(l->context);
    g_main_context_release(l->context);
    return ready;
}

void loop_run(struct loop *l)
{
    loop_enter(l);
    while (!atomic_exchange(&l->quit, false))
        loop_step(l, true);
}

void loop_quit(struct loop *l)
{
    atomic_store(&l->quit, true);
    g_main_context_wakeup(l->context);
}

static void *loop_thread(void *arg)
{
    struct loop *l = arg;
    char name[16];

    g_strlcpy(name, l->name ? l->name : "loop", sizeof(name));
    pthread_setname_np(pthread_self(), name);
    g_main_context_push_thread_default(l->context);
    loop_run(l);
    while (l->ready || atomic_load(&l->posted))
        posts_run(l);
    g_main_context_pop_thread_default(l->context);
    atomic_store(&l->tid, 0);
    return NULL;
}

void loop_thread_start(struct loop *l)
{
    int ret = pthread_create(&l->thread, NULL, loop_thread, l);

    if (ret)
        g_error("cannot start thread '%s': %s", l->name, g_strerror(ret));
    l->has_thread = true;
}

void loop_thread_stop(struct loop *l)
{
    if (!l->has_thread)
        return;
    loop_quit(l);
    pthread_join(l->thread, NULL);
    l->has_thread = false;
}

/* ---- file descriptors */

static GIOCondition fd_conditions(unsigned events)
{
    return (events & LOOP_IN ? G_IO_IN | G_IO_PRI : 0) | (events & LOOP_OUT ? G_IO_OUT : 0) |
           (events ? G_IO_HUP | G_IO_ERR : 0);
}

static unsigned fd_events(GIOCondition c)
{
    return (c & (G_IO_IN | G_IO_PRI) ? LOOP_IN : 0) | (c & G_IO_OUT ? LOOP_OUT : 0) |
           (c & (G_IO_HUP | G_IO_ERR | G_IO_NVAL) ? LOOP_HUP : 0);
}

static gboolean fd_ready(GSource *source)
{
    struct loop_fd *w = (struct loop_fd *)source;

    return w->tag && g_source_query_unix_fd(source, w->tag) != 0;
}

static gboolean fd_dispatch(GSource *source, GSourceFunc fn, gpointer arg)
{
    struct loop_fd *w = (struct loop_fd *)source;
    unsigned seen = w->tag ? fd_events(g_source_query_unix_fd(source, w->tag)) : 0;

    if (seen)
        w->fn(w->arg, seen);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs fd_source_funcs = { .check = fd_ready, .dispatch = fd_dispatch };

struct loop_fd *loop_fd_add(struct loop *l, int fd, unsigned events, void (*fn)(void *arg, unsigned events),
                            void *arg)
{
    GSource *source = g_source_new(&fd_source_funcs, sizeof(struct loop_fd));
    struct loop_fd *w = (struct loop_fd *)source;

    w->fn = fn;
    w->arg = arg;
    w->fd = fd;
    loop_fd_set(w, events);
    g_source_set_can_recurse(source, TRUE);
    g_source_attach(source, l->context);
    return w;
}

void loop_fd_set(struct loop_fd *w, unsigned events)
{
    if (!events && w->tag) {
        g_source_remove_unix_fd(&w->source, w->tag);
        w->tag = NULL;
    } else if (events && w->tag) {
        g_source_modify_unix_fd(&w->source, w->tag, fd_conditions(events));
    } else if (events) {
        w->tag = g_source_add_unix_fd(&w->source, w->fd, fd_conditions(events));
    }
}

void loop_fd_remove(struct loop_fd *w)
{
    if (!w)
        return;
    g_source_destroy(&w->source);
    g_source_unref(&w->source);
}
