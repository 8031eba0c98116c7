/* The machine's clock and the timers on it. virtual = host - offset while the machine runs; it stands still while it
 * does not. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <glib.h>
#include "rhea/base/options.h"
#include "rhea/vm/vm.h"

enum rtc_clock { RTC_HOST, RTC_VM };

struct clock_state {
    /* Read without a lock under `seq` (odd: being changed). */
    _Atomic unsigned seq;
    _Atomic int64_t offset;     /* host - virtual while running */
    _Atomic int64_t frozen;     /* virtual time while not */
    _Atomic bool running;
    pthread_mutex_t lock;       /* writers, and the list of timers */
    struct vm_timer *timers;
    enum rtc_clock rtc_clock;
    int64_t rtc_base;           /* RTC_VM: at virtual 0; RTC_HOST: difference to the host's wall clock */
};

/* `lock` guards expiry and armed; the callback runs without it, under the device's lock. */
struct vm_timer {
    struct vm *vm;
    struct device *dev;
    void (*fn)(void *opaque);
    void *opaque;
    struct loop_timer *host;
    pthread_mutex_t lock;
    _Atomic int64_t expiry;     /* virtual; -1: not set */
    int64_t armed;              /* host time that the loop's timer is set to; INT64_MAX: it is not */
    struct vm_timer *next, **link;
};

int64_t vm_clock_ns(struct vm *vm)
{
    struct clock_state *c = vm->clock;
    unsigned seq;
    int64_t t;

    do {
        seq = atomic_load_explicit(&c->seq, memory_order_acquire);
        if (atomic_load_explicit(&c->running, memory_order_relaxed))
            t = host_clock_ns() - atomic_load_explicit(&c->offset, memory_order_relaxed);
        else
            t = atomic_load_explicit(&c->frozen, memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
    } while (seq & 1 || seq != atomic_load_explicit(&c->seq, memory_order_relaxed));
    return t;
}

static int64_t wall_clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t vm_rtc_ns(struct vm *vm)
{
    struct clock_state *c = vm->clock;

    return (c->rtc_clock == RTC_HOST ? wall_clock_ns() : vm_clock_ns(vm)) + c->rtc_base;
}

/* ---- timers */

/* Sets the loop's timer if it would fire too late. A timer that fires too early looks again, so that moving an expiry
 * forward (a tick that is re-armed) costs nothing. Under t->lock. */
static void timer_arm(struct vm_timer *t)
{
    struct clock_state *c = t->vm->clock;
    int64_t expiry = atomic_load(&t->expiry), host;

    if (expiry < 0 || !atomic_load(&c->running))
        return;
    if (__builtin_add_overflow(expiry, atomic_load(&c->offset), &host))
        return;                 /* centuries away: a comparator that a guest has set to its largest value */
    if (host < t->armed) {
        t->armed = host;
        loop_timer_set(t->host, host);
    }
}

static void timer_fired(void *arg)
{
    struct vm_timer *t = arg;
    int64_t expiry;
    bool due = false;

    if (t->dev)
        device_lock(t->dev);
    pthread_mutex_lock(&t->lock);
    t->armed = INT64_MAX;
    expiry = atomic_load(&t->expiry);
    if (expiry >= 0 && atomic_load(&t->vm->clock->running)) {
        if (vm_clock_ns(t->vm) >= expiry) {
            atomic_store(&t->expiry, -1);
            due = true;
        } else {
            timer_arm(t);
        }
    }
    pthread_mutex_unlock(&t->lock);
    if (due)
        t->fn(t->opaque);
    if (t->dev)
        device_unlock(t->dev);
}

struct vm_timer *vm_timer_new(struct vm *vm, struct device *dev, void (*fn)(void *opaque), void *opaque)
{
    struct vm_timer *t = g_new0(struct vm_timer, 1);
    struct clock_state *c = vm->clock;

    t->vm = vm;
    t->dev = dev;
    t->fn = fn;
    t->opaque = opaque;
    t->armed = INT64_MAX;
    atomic_init(&t->expiry, -1);
    pthread_mutex_init(&t->lock, NULL);
    t->host = loop_timer_new(dev && dev->loop ? dev->loop : vm->loop, timer_fired, t);
    pthread_mutex_lock(&c->lock);
    t->next = c->timers;
    t->link = &c->timers;
    if (t->next)
        t->next->link = &t->next;
    c->timers = t;
    pthread_mutex_unlock(&c->lock);
    return t;
}

void vm_timer_free(struct vm_timer *t)
{
    struct clock_state *c;

    if (!t)
        return;
    c = t->vm->clock;
    pthread_mutex_lock(&c->lock);
    *t->link = t->next;
    if (t->next)
        t->next->link = t->link;
    pthread_mutex_unlock(&c->lock);
    vm_timer_cancel(t);
    loop_timer_cancel(t->host);
    loop_timer_free(t->host);
    pthread_mutex_destroy(&t->lock);
    g_free(t);
}

void vm_timer_set(struct vm_timer *t, int64_t virtual_ns)
{
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->expiry, MAX(virtual_ns, 0));
    timer_arm(t);
    pthread_mutex_unlock(&t->lock);
}

/* The loop's timer is left to fire in vain: cancelling it could wait for a callback that waits for our caller's lock. */
void vm_timer_cancel(struct vm_timer *t)
{
    atomic_store(&t->expiry, -1);
}

int64_t vm_timer_expiry(const struct vm_timer *t)
{
    return atomic_load(&t->expiry);
}

/* ---- life */

void vm_clock_run(struct vm *vm, bool run)
{
    struct clock_state *c = vm->clock;
    int64_t now = vm_clock_ns(vm);

    pthread_mutex_lock(&c->lock);
    if (atomic_load(&c->running) != run) {
        atomic_fetch_add(&c->seq, 1);
        if (run)
            atomic_store(&c->offset, host_clock_ns() - now);
        else
            atomic_store(&c->frozen, now);
        atomic_store(&c->running, run);
        atomic_fetch_add(&c->seq, 1);
    }
    for (struct vm_timer *t = c->timers; run && t; t = t->next) {
        pthread_mutex_lock(&t->lock);
        t->armed = INT64_MAX;
        timer_arm(t);
        pthread_mutex_unlock(&t->lock);
    }
    pthread_mutex_unlock(&c->lock);
}

/* -rtc base=: "utc", "localtime", or a date "2006-06-17T16:01:21" or "2006-06-17". */
static bool rtc_base_parse(const char *text, int64_t *difference, struct error *err)
{
    struct tm tm = { 0 };
    int64_t wall = wall_clock_ns();
    time_t now = wall / 1000000000;
    const char *end;

    if (strcmp(text, "utc") == 0) {
        *difference = 0;
        return true;
    }
    if (strcmp(text, "localtime") == 0) {
        localtime_r(&now, &tm);
        *difference = (int64_t)tm.tm_gmtoff * 1000000000;
        return true;
    }
    end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!end) {
        tm = (struct tm){ 0 };
        end = strptime(text, "%Y-%m-%d", &tm);
    }
    if (!end || *end)
        return error_setf(err, ERR_GENERIC, "use base=utc, base=localtime, or a date like 2026-11-22T14:30:00",
                          "-rtc: '%s' is no date", text);
    *difference = (int64_t)timegm(&tm) * 1000000000 - wall;
    return true;
}

bool vm_clock_init(struct vm *vm, struct error *err)
{
    struct clock_state *c = g_new0(struct clock_state, 1);
    struct json_object *rtc = vm->config.rtc;
    const char *which = rtc ? option_str(rtc, "clock", "host") : "host";

    vm->clock = c;
    pthread_mutex_init(&c->lock, NULL);
    if (!rtc_base_parse(rtc ? option_str(rtc, "base", "utc") : "utc", &c->rtc_base, err))
        return false;
    if (strcmp(which, "vm") == 0) {
        c->rtc_clock = RTC_VM;
        c->rtc_base += wall_clock_ns();
    } else if (strcmp(which, "host") != 0 && strcmp(which, "rt") != 0) {
        return error_setf(err, ERR_GENERIC, "use clock=host, clock=rt or clock=vm", "-rtc: unknown clock '%s'", which);
    }
    return true;
}

void vm_clock_free(struct vm *vm)
{
    if (!vm->clock)
        return;
    pthread_mutex_destroy(&vm->clock->lock);
    g_free(vm->clock);
    vm->clock = NULL;
}
