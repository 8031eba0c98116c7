/* A server of GDB's remote protocol ("Debugging with GDB", appendix "Remote Serial Protocol"), without a transport and without
 * an idea of what is debugged: user mode and machines fill in struct gdb_target. Everything runs on the thread that calls;
 * what comes from the client is checked: a packet that makes no sense gets an error or the empty answer. */
#ifndef RHEA_DEBUG_GDB_H
#define RHEA_DEBUG_GDB_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "rhea/guest/debug.h"

enum { GDB_PACKET_MAX = 16 << 10, GDB_THREADS_MAX = 4096, GDB_ACTIONS_MAX = 64, GDB_SYSCALLS_MAX = 1024 };

enum gdb_stop_kind {
    GDB_STOP_SIGNAL,            /* also a step's end and an interrupt: signal */
    GDB_STOP_BREAK,             /* Z0, Z1: pc is that of the breakpoint */
    GDB_STOP_WATCH,             /* Z2 to Z4: type, address */
    GDB_STOP_SYSCALL, GDB_STOP_SYSRET,          /* number */
    GDB_STOP_FORK,              /* addr: the new process, which waits for fork_end() */
    GDB_STOP_EXEC,              /* a new program, before its first instruction */
    GDB_STOP_EXITED,            /* number: status; the process is gone */
    GDB_STOP_KILLED,            /* signal; likewise */
};
struct gdb_stop {
    enum gdb_stop_kind kind;
    int pid, tid;
    int signal;                 /* Linux's number */
    unsigned type;              /* of a watchpoint: 2 write, 3 read, 4 access */
    uint64_t addr;              /* of the watchpoint's data; number of a system call; process; exit status */
};

/* What resumed threads do: the first action whose pid and tid fit (-1: all). */
struct gdb_action {
    int pid, tid;
    bool step;
    int signal;                 /* Linux's, 0: none */
    uint64_t start, end;        /* step: until pc leaves [start, end); 0, 0: one instruction */
};
/* What becomes of a fork's two processes: the child runs without the debugger; the parent does; the client keeps both. */
enum gdb_fork { GDB_FORK_RUNS, GDB_FORK_FOLLOWED, GDB_FORK_KEPT };
enum gdb_result { GDB_OK, GDB_ERROR, GDB_UNSUPPORTED };

/* NULL functions: there is no such thing. All but send(), interrupt() and kill() are called while everything is stopped. */
struct gdb_target {
    const struct guest_debug *debug;
    const char *osabi;          /* "GNU/Linux", or NULL */
    bool created;               /* it ends when the client quits (qAttached: 0) */
    void (*send)(void *o, const void *data, size_t n);
    int (*pid)(void *o);
    unsigned (*threads)(void *o, int *tids, unsigned max);
    struct cpu *(*cpu)(void *o, int tid);               /* NULL: no such thread */
    char *(*thread_name)(void *o, int tid);             /* caller frees; NULL: none */
    void (*registers_written)(void *o, int tid);
    bool (*memory)(void *o, int tid, uint64_t va, void *buf, size_t n, bool write);
    enum gdb_result (*breakpoint)(void *o, unsigned type, uint64_t va, unsigned kind, bool set);   /* type: digit of Z */
    void (*resume)(void *o, const struct gdb_action *actions, unsigned n);
    void (*interrupt)(void *o);
    void (*detach)(void *o, int pid);                   /* breakpoints go, threads run; -1: all */
    void (*kill)(void *o, int pid);                     /* -1: all */
    /* After GDB_STOP_FORK. A child that is followed serves the client from here on; one that is kept stands still. */
    void (*fork_end)(void *o, enum gdb_fork how);
    unsigned (*others)(void *o, int *pids, int *tids, unsigned max);    /* threads of processes that were kept */
    /* The packet is for another process: that one answers it, and serves the client from here on; false: there is no such process. */
    bool (*hand_over)(void *o, int pid, const char *packet, size_t n);
    char *(*exec_file)(void *o);                        /* caller frees */
    bool (*auxv)(void *o, GByteArray *out);
    bool (*siginfo)(void *o, int tid, GByteArray *out); /* of the signal that it stopped with, as the guest has it */
    void (*pass_signals)(void *o, const bool pass[65]); /* these need not stop, Linux's numbers */
    void (*catch_syscalls)(void *o, bool on, const int *numbers, unsigned n);  /* n 0: all */
    int (*open)(void *o, const char *path);             /* a file of the target, read only; fd or -errno */
    ssize_t (*readlink)(void *o, const char *path, char *buf, size_t n);
    char *(*monitor)(void *o, const char *command);     /* the answer; caller frees; NULL: unknown */
};

struct gdb;
struct gdb *gdb_new(const struct gdb_target *target, void *opaque);
void gdb_free(struct gdb *g);
/* A client came, or went. At first everything is stopped for `why`. */
void gdb_connected(struct gdb *g, const struct gdb_stop *why);
void gdb_disconnected(struct gdb *g);
/* Bytes from the client. */
void gdb_receive(struct gdb *g, const uint8_t *data, size_t n);
/* Everything has stopped (but for ..EXITED and ..KILLED): the client is told. */
void gdb_stopped(struct gdb *g, const struct gdb_stop *why);
/* In the child of a fork that the client follows: the session goes on here, stopped for `why`. */
void gdb_followed(struct gdb *g, const struct gdb_stop *why);
/* A packet that was handed over to this process. */
void gdb_handed(struct gdb *g, const char *packet, size_t n);
/* In one that takes the client over: who served it is gone. asked: a packet waits for its answer, else the client for a stop. */
void gdb_died(struct gdb *g, int pid, bool asked);
/* What both sides have agreed upon, for a session that another program goes on with (an execve()); that one's beginning of it: the
 * client waits for a stop. */
unsigned gdb_agreed(const struct gdb *g);
void gdb_continued(struct gdb *g, unsigned agreed);
bool gdb_wants_execs(const struct gdb *g);
bool gdb_wants_forks(const struct gdb *g);
bool gdb_is_running(const struct gdb *g);               /* the client waits for a stop */
/* Signal numbers: GDB has its own. */
int gdb_signal_of(int linux_signal);
int gdb_signal_to_linux(int gdb_signal);                /* 0: none, or unknown */

#endif
