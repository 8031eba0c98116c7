/* Connections that a library drives. */
#include "block/protocol/session.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include "block/aio.h"

enum { TICK_NS = 500000000 };
static const int64_t SILENCE_NS = 60000000000;

/* ---- the library's descriptor */

static void session_lose(struct session *s)
{
    void *context = s->context;

    if (s->watch)
        loop_fd_remove(s->watch);
    s->watch = NULL;
    s->context = NULL;
    if (context)
        s->ops->destroy(context);
    for (GList *at = s->calls.head; at; at = at->next)
        session_done(at->data, -EIO);
}

static void session_ready(void *arg, unsigned events);

/* The library may have another descriptor, or wait for something else, after each call. */
static void session_watch(struct session *s)
{
    int fd = s->ops->fd(s->context), events = fd < 0 ? 0 : s->ops->events(s->context);
    unsigned wanted = (events & POLLIN ? LOOP_IN : 0) | (events & POLLOUT ? LOOP_OUT : 0);

    if (s->watch && fd == s->fd && events == s->events)
        return;
    if (s->watch && fd == s->fd) {
        loop_fd_set(s->watch, wanted);
    } else {
        if (s->watch)
            loop_fd_remove(s->watch);
        s->watch = fd < 0 ? NULL : loop_fd_add(s->loop, fd, wanted, session_ready, s);
    }
    s->fd = fd;
    s->events = events;
}

static void session_service(struct session *s, int revents)
{
    if (s->ops->service(s->context, revents) < 0)
        session_lose(s);
    else
        session_watch(s);
}

static void session_ready(void *arg, unsigned events)
{
    session_service(arg, (events & LOOP_IN ? POLLIN : 0) | (events & LOOP_OUT ? POLLOUT : 0) | (events & LOOP_HUP ? POLLHUP : 0));
}

/* The library's own limits of time, and ours. */
static void session_tick(void *arg)
{
    struct session *s = arg;

    if (!s->context)
        return;
    if (s->calls.length && host_clock_ns() - s->progress_ns > s->silence_ns)
        session_lose(s);
    else
        session_service(s, 0);
    if (s->context)
        loop_timer_set(s->tick, host_clock_ns() + TICK_NS);
}

void session_begin(struct session *s, const struct session_ops *ops, void *context)
{
    s->ops = ops;
    s->loop = loop_current();
    s->context = context;
    s->silence_ns = SILENCE_NS;
    s->fd = -1;
    s->tick = loop_timer_new(s->loop, session_tick, s);
    loop_timer_set(s->tick, host_clock_ns() + TICK_NS);
}

void session_end(struct session *s)
{
    session_lose(s);
    if (s->tick)
        loop_timer_free(s->tick);
    s->tick = NULL;
}

/* ---- requests */

static void call_wake(void *co)
{
    coroutine_wake(co);
}

/* Within the library: the coroutine goes on when the library is left. */
void session_done(struct session_call *c, int ret)
{
    if (c->done)
        return;
    c->ret = ret;
    c->done = true;
    if (c->asleep)
        loop_post(c->session->loop, call_wake, c->co);
}

int session_call(struct session *s, bool (*start)(struct session_call *c, void *arg), void *arg)
{
    struct session_call c = { .session = s, .co = coroutine_self(), .link.data = &c };

    if (!s->context)
        return -EIO;
    if (!s->calls.length)
        s->progress_ns = host_clock_ns();
    g_queue_push_tail_link(&s->calls, &c.link);
    if (!start(&c, arg)) {
        c.done = true;
        c.ret = -EIO;
    } else if (s->context) {
        session_watch(s);
    }
    if (!c.done) {
        c.asleep = true;
        coroutine_yield();
    }
    g_queue_unlink(&s->calls, &c.link);
    s->progress_ns = host_clock_ns();
    return c.ret;
}

struct hop { int (*fn)(void *arg); void *arg; struct coroutine *co; int ret; };

static void hop_run(void *arg)
{
    struct hop *h = arg;

    h->ret = h->fn(h->arg);
    coroutine_wake(h->co);
}

static void hop_start(void *arg)
{
    coroutine_start(hop_run, arg);
}

int session_run(struct session *s, int (*fn)(void *arg), void *arg)
{
    struct hop h = { fn, arg, coroutine_self(), 0 };

    if (loop_current() == s->loop)
        return fn(arg);
    loop_post(s->loop, hop_start, &h);
    coroutine_yield();
    return h.ret;
}

/* ---- names */

struct resolve { const char *host; char digits[NI_MAXHOST]; };

static int resolve_job(void *arg)
{
    struct resolve *r = arg;
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
    int ret = getaddrinfo(r->host, NULL, &hints, &list);

    if (!ret)
        ret = getnameinfo(list->ai_addr, list->ai_addrlen, r->digits, sizeof(r->digits), NULL, 0, NI_NUMERICHOST);
    if (list)
        freeaddrinfo(list);
    return ret;
}

char *session_resolve(const char *host, struct error *err)
{
    struct resolve r = { .host = host };
    int ret = pool_run(resolve_job, &r);

    if (!ret)
        return g_strdup(r.digits);
    error_setf(err, ERR_GENERIC, "check the spelling", "cannot find the host '%s': %s", host, gai_strerror(ret));
    return NULL;
}
