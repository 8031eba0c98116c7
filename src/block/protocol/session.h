/* Connections that a library drives (libiscsi, libnfs): it says which descriptor it waits for, is called when that is ready, and
 * calls back when a request has ended. A connection belongs to the loop that opened it; requests of other threads hop there. */
#ifndef RHEA_BLOCK_PROTOCOL_SESSION_H
#define RHEA_BLOCK_PROTOCOL_SESSION_H

#include <glib.h>
#include "rhea/base/coroutine.h"
#include "rhea/base/error.h"

struct session_ops {            /* of the library's context */
    int (*fd)(void *context);   /* -1: none now */
    int (*events)(void *context);       /* poll()'s */
    int (*service)(void *context, int revents);         /* 0: only its clocks; < 0: the connection is lost for good */
    void (*destroy)(void *context);     /* callbacks of what is under way may be called, or not */
};

struct session {
    const struct session_ops *ops;
    struct loop *loop;
    void *context;              /* NULL: the connection is lost, or not there yet */
    struct loop_fd *watch;
    struct loop_timer *tick;
    int fd, events;
    GQueue calls;               /* of struct session_call, under way */
    int64_t progress_ns;        /* when one of them last ended, or the first began */
    int64_t silence_ns;         /* given up after so long without an answer */
};

struct session_call {
    struct session *session;
    struct coroutine *co;
    GList link;
    bool done, asleep;
    int ret;
};

/* On the loop that it shall belong to. context is the session's from here on. */
void session_begin(struct session *s, const struct session_ops *ops, void *context);
/* Also of one that was never begun. */
void session_end(struct session *s);
/* [co] On the session's loop: start() hands a request to the library (false: it was not taken), whose callback calls
 * session_done(). What that said, or -EIO. */
int session_call(struct session *s, bool (*start)(struct session_call *c, void *arg), void *arg);
void session_done(struct session_call *c, int ret);
/* [co] fn(arg) in a coroutine of the session's loop; what it returns. From any thread. */
int session_run(struct session *s, int (*fn)(void *arg), void *arg);
/* [co] The address of a host name, as digits; caller frees. */
char *session_resolve(const char *host, struct error *err);

#endif
