/* Event loops: one a thread (the main thread, each iothread), over a GMainContext. Everything a device or back end
 * does asynchronously is posted to, or watched by, a loop that it was given; nothing else knows which thread that is. */
#ifndef RHEA_BASE_LOOP_H
#define RHEA_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

struct loop;
struct loop_timer;
struct loop_fd;

enum { LOOP_IN = 1, LOOP_OUT = 2, LOOP_HUP = 4 };

/* name: for the thread and diagnostics. loop_new() makes the loop, loop_thread_start() a thread that runs it;
 * the main thread calls loop_run() on its own. */
struct loop *loop_new(const char *name);
void loop_free(struct loop *l);
void loop_thread_start(struct loop *l);
void loop_thread_stop(struct loop *l);          /* runs what is posted, then joins */
int loop_thread_id(const struct loop *l);       /* kernel tid of the thread that runs it, 0: none */
void loop_run(struct loop *l);                  /* until loop_quit() */
void loop_quit(struct loop *l);                 /* any thread */
bool loop_step(struct loop *l, bool block);     /* dispatches what is ready once; true if anything was */
struct loop *loop_current(void);                /* loop run by this thread, or NULL */
/* Declares that this thread runs l. loop_run(), loop_step() do so; needed only for what comes before them. */
void loop_enter(struct loop *l);
GMainContext *loop_context(struct loop *l);
/* For programs that do one thing: nothing waits for the loop but the work itself, so short host calls that seldom block
 * (a buffered write) are best made in place, without a thread. Set before l runs. */
void loop_set_single_task(struct loop *l, bool on);
bool loop_single_task(const struct loop *l);

/* fn(arg) soon, on l's thread; any thread and signal-free code may call. In order of posting. */
void loop_post(struct loop *l, void (*fn)(void *arg), void *arg);
/* As loop_post(), and waits until it ran; runs it at once when on l's thread. */
void loop_call(struct loop *l, void (*fn)(void *arg), void *arg);

/* One-shot timers on the host's monotonic clock, in nanoseconds; set, cancel from any thread. cancel returns when
 * the callback cannot be running on another thread any more, unless called from the callback itself. */
struct loop_timer *loop_timer_new(struct loop *l, void (*fn)(void *arg), void *arg);
void loop_timer_free(struct loop_timer *t);
void loop_timer_set(struct loop_timer *t, int64_t host_ns);
void loop_timer_cancel(struct loop_timer *t);
int64_t host_clock_ns(void);                    /* CLOCK_MONOTONIC */

/* Busy waiting: falling asleep and being woken takes longer than many a request. While the poller expects something the
 * loop asks it for up to a window of time before it sleeps. The window grows (times `grow`, 0: 2) when the wait was
 * short enough to be spent so, and shrinks (by `shrink`, 0: to nothing) when it was longer than max_ns. */
struct loop_poller {
    bool (*begin)(void *arg);   /* hands over what waits to be submitted; true: an answer is expected */
    bool (*ready)(void *arg);   /* it is there */
};
enum { LOOP_POLL_MAX_NS = 32768 };              /* unless loop_set_poll() says otherwise */
/* Of this thread while it runs l; NULL: none. */
void loop_set_poller(struct loop *l, const struct loop_poller *poller, void *arg);
void loop_set_poll(struct loop *l, int64_t max_ns, int64_t grow, int64_t shrink);       /* max_ns 0: never; any thread */
/* How many requests may wait to be handed to the host together; 0: until the loop is about to sleep. Any thread. */
void loop_set_batch(struct loop *l, int64_t max);
int64_t loop_batch(const struct loop *l);

/* Watches a file descriptor; events 0 pauses it. fn gets the events seen. On l's thread, or before it runs. */
struct loop_fd *loop_fd_add(struct loop *l, int fd, unsigned events, void (*fn)(void *arg, unsigned events),
                            void *arg);
void loop_fd_set(struct loop_fd *w, unsigned events);
void loop_fd_remove(struct loop_fd *w);

#endif
