/* fork() and execve() under -g. The client is told of a fork while both processes stand still: the child waits for a byte from its
 * parent's server. Then it runs without the debugger, or it takes the session over, or both stay (gdb_family.c): it has a copy of all
 * that the server knows, and the same connection. Nobody else may fork meanwhile as far as the client is concerned: such a child just runs. A vfork() is told as a
 * fork, for that is what it becomes, but that the parent waits. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gdb_server.h"
#include "internal.h"

static const char told_as[] = { [GDB_FORK_RUNS] = 'r', [GDB_FORK_FOLLOWED] = 'f', [GDB_FORK_KEPT] = 'k' };

static void fd_drop(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* With the lock held. */
static bool tells_forks(const struct debugger *d, const struct thread *t)
{
    return d->active && t->process == d->process && d->client_fd >= 0 && d->fork_fd < 0 && gdb_wants_forks(d->gdb);
}

bool debugger_tells_forks(struct debugger *d, struct thread *t)
{
    bool tells;

    pthread_mutex_lock(&d->lock);
    tells = tells_forks(d, t);
    pthread_mutex_unlock(&d->lock);
    return tells;
}

void debugger_fork_prepare(struct debugger *d, struct thread *t, bool told)
{
    int fd[2];

    pthread_mutex_lock(&d->lock);
    if (!told || !tells_forks(d, t) || !family_begin(d) || pipe2(fd, O_CLOEXEC) < 0)
        return;
    for (unsigned n = 0; n < 2; n++)
        d->fork_pipe[n] = debugger_fd(fd[n]);
}

void debugger_fork_parent(struct debugger *d, struct thread *t, int64_t pid)
{
    fd_drop(&d->fork_pipe[0]);
    if (pid > 0 && d->fork_pipe[1] >= 0) {
        d->fork_fd = d->fork_pipe[1];
        d->fork_child = (int)pid;
        d->fork_pipe[1] = -1;
        t->cpu->jit->debug.forked = (pid_t)pid;         /* it stops when the call is over */
    }
    fd_drop(&d->fork_pipe[1]);
    pthread_mutex_unlock(&d->lock);
}

void debugger_vforked(struct debugger *d, struct thread *t)
{
    if (!t->cpu->jit->debug.forked)
        return;
    engine_enter(t->cpu->jit);
    debugger_forked(d, t);
    engine_leave(t->cpu->jit);
}

void debugger_fork_end(struct debugger *d, enum gdb_fork how)
{
    char c = told_as[how];

    if (d->fork_fd < 0)
        return;
    if (how != GDB_FORK_RUNS)
        family_add(d, d->fork_child);
    if (how == GDB_FORK_FOLLOWED)
        family_leave(d, d->fork_child);
    while (write(d->fork_fd, &c, 1) < 0 && errno == EINTR)
        ;
    fd_drop(&d->fork_fd);
    d->fork_child = 0;
    if (how == GDB_FORK_FOLLOWED) {     /* the connection stays: it is the child's */
        fd_drop(&d->client_fd);
        gdb_disconnected(d->gdb);
        debugger_release(d);
    }
}

/* The session goes on here, at once or when it is this process's turn: this thread has just stopped, as far as the client knows, and
 * there are no breakpoints. */
static bool stay(struct debugger *d, struct thread *t, bool speaks)
{
    struct debug_thread *s = &t->cpu->jit->debug;
    struct gdb_stop why = { .kind = GDB_STOP_SIGNAL, .pid = getpid(), .tid = t->tid, .signal = SIGTRAP };

    pthread_mutex_init(&d->break_lock, NULL);           /* others may have been within these */
    pthread_cond_init(&d->cond, NULL);
    d->event_fd = debugger_fd(eventfd(0, EFD_CLOEXEC));
    g_array_set_size(d->breaks, 0);
    g_array_set_size(d->watches, 0);
    d->active = d->stopping = true;
    d->speaks = speaks;
    s->stop = why;
    s->has_stop = s->told = s->followed = true;
    atomic_store(&s->held, true);
    cpu_kick(t->cpu, CPU_EXIT_STOP);
    gdb_followed(d->gdb, &why);
    return d->event_fd >= 0 && debugger_serve(d) == 0;
}

void debugger_fork_child(struct debugger *d, struct thread *t)
{
    struct engine *e = t->process->engine;
    char told = told_as[GDB_FORK_RUNS];

    memset(&t->cpu->jit->debug, 0, sizeof(t->cpu->jit->debug));
    close(d->event_fd);
    fd_drop(&d->listen_fd);
    fd_drop(&d->fork_fd);
    fd_drop(&d->fork_pipe[1]);
    if (d->fork_pipe[0] >= 0)
        while (read(d->fork_pipe[0], &told, 1) < 0 && errno == EINTR)   /* its end: the parent is gone */
            ;
    fd_drop(&d->fork_pipe[0]);
    if (told != told_as[GDB_FORK_RUNS] && stay(d, t, told == told_as[GDB_FORK_FOLLOWED])) {
        code_flush(e);
        pthread_mutex_unlock(&d->lock);
        return;
    }
    e->debugger = NULL;                 /* what it holds stays: the server's thread may have been anywhere */
    fd_drop(&d->client_fd);
    family_drop(d);
    memset(&t->cpu->jit->debug, 0, sizeof(t->cpu->jit->debug));
    code_flush(e);
}

/* ---- execve(): the new program is another process of Rhea's with the same number. "fd:CONNECTION:AGREED:SIGNALS:FAMILY", the middle
 * two in hexadecimal: what gdb_agreed() says, and the signals that need not stop; the last is the family's memory file, or -1. */

char *debugger_exec(struct thread *t)
{
    struct debugger *d = t->process->engine->debugger;
    uint64_t pass = 0;

    if (!d)
        return NULL;
    pthread_mutex_lock(&d->lock);       /* until there is nobody left who could send anything */
    if (!d->active || t->process != d->process || d->client_fd < 0 || !gdb_wants_execs(d->gdb)) {
        pthread_mutex_unlock(&d->lock);
        return NULL;
    }
    for (unsigned sig = 1; sig <= 64; sig++)
        pass |= (uint64_t)d->pass[sig] << (sig - 1);
    fcntl(d->client_fd, F_SETFD, 0);
    fcntl(d->family_fd, F_SETFD, 0);
    return g_strdup_printf("fd:%d:%x:%" PRIx64 ":%d", d->client_fd, gdb_agreed(d->gdb), pass, d->family_fd);
}

void debugger_exec_failed(struct thread *t)
{
    struct debugger *d = t->process->engine->debugger;

    fcntl(d->client_fd, F_SETFD, FD_CLOEXEC);
    fcntl(d->family_fd, F_SETFD, FD_CLOEXEC);
    pthread_mutex_unlock(&d->lock);
}

bool debugger_continue(struct debugger *d, const char *session, struct thread *t)
{
    struct debug_thread *s = &t->cpu->jit->debug;
    uint64_t pass, one = 1;
    unsigned agreed;
    struct stat st;
    int fd, family;

    if (sscanf(session, "fd:%d:%x:%" SCNx64 ":%d", &fd, &agreed, &pass, &family) != 4 || fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    d->client_fd = fd;
    if (family_map(d, family)) {
        fcntl(family, F_SETFD, FD_CLOEXEC);
        d->speaks = true;
    }
    for (unsigned sig = 1; sig <= 64; sig++)
        d->pass[sig] = pass >> (sig - 1) & 1;
    d->active = d->stopping = true;
    s->stop = (struct gdb_stop){ .kind = GDB_STOP_EXEC, .pid = getpid(), .tid = t->tid };
    s->has_stop = true;
    atomic_store(&s->held, true);
    gdb_continued(d->gdb, agreed);
    return write(d->event_fd, &one, sizeof(one)) == sizeof(one);
}
