/* Inside the debugger of user mode: gdb.c says what stops and goes on, gdb_server.c talks to the client. */
#ifndef RHEA_SRC_USER_GDB_SERVER_H
#define RHEA_SRC_USER_GDB_SERVER_H

#include <pthread.h>
#include <sys/socket.h>
#include "rhea/debug/gdb.h"
#include "rhea/user/process.h"
#include "user/gdb.h"

struct breakpoint { uint64_t va; unsigned n; uint8_t insn[4]; };
struct watchpoint { uint64_t va; unsigned n, type; };

/* Locks: `lock`, then the process's and the engine's. The server has it all the time but while it waits for something. */
struct debugger {
    struct process *process;
    struct gdb_target target;
    struct gdb *gdb;
    int listen_fd, client_fd, event_fd;
    pthread_mutex_t lock;
    pthread_cond_t cond;        /* a thread parked; may go on; the end was told */
    int fork_pipe[2];           /* gdb_fork.c: while a fork() is under way that the client wants to know of; else -1 */
    int fork_fd, fork_child;    /* of the child that waits to be told; else -1, 0 */
    struct family *family;      /* gdb_family.c: the processes that share the connection, or NULL; */
    int family_fd;              /* its memory file, else -1; */
    bool speaks;                /* this is the one that has the client now */
    bool active;                /* there is a client */
    bool stopping;              /* everything stops, or has */
    bool pass[65];
    bool catches;
    int caught[GDB_SYSCALLS_MAX];
    unsigned ncaught;
    bool ended, end_told;
    struct gdb_stop end;
    pthread_mutex_t break_lock; /* of the next two: read while code is fetched */
    GArray *breaks, *watches;
};

extern const struct gdb_target debugger_target;
int debugger_fd(int fd);                        /* moved to where programs do not look for theirs */
int debugger_serve(struct debugger *d);         /* begins the server's thread; an errno */
/* Goes on with the session of the program before this one: what debugger_exec() said. */
bool debugger_continue(struct debugger *d, const char *session, struct thread *t);
void debugger_fork_end(struct debugger *d, enum gdb_fork how);
/* gdb.c: on a thread that has forked, not in a system call: the client is told of the child. */
void debugger_forked(struct debugger *d, struct thread *t);
void debugger_attach(struct debugger *d);
void debugger_release(struct debugger *d);
void debugger_events(struct debugger *d);
/* gdb_family.c: forks that the client keeps. With the lock held. begin: this process is the first of one, and there is room for
 * another; add: a child stands still and waits. */
bool family_begin(struct debugger *d);
bool family_add(struct debugger *d, int pid);
bool family_map(struct debugger *d, int fd);    /* of the program before this one */
void family_drop(struct debugger *d);           /* this process is none of them any more, or never was */
/* false: there is no such process, the packet is the caller's to answer. */
bool family_hand_over(struct debugger *d, int pid, const char *packet, size_t n);
/* This process goes, the heir speaks, 0: whoever; false: there is nobody else. */
bool family_leave(struct debugger *d, int heir);
void family_close(struct debugger *d);          /* the client is gone, for all */
void family_kill(struct debugger *d);           /* the others */
unsigned family_threads(struct debugger *d, int *pids, int *tids, unsigned max);       /* of the others */
void family_runs(struct debugger *d, bool running);     /* the client waits for a stop */
bool family_wait(struct debugger *d);           /* until this process speaks, or for a while; false: the client is gone */

#endif
