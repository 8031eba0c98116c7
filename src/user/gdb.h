/* The debugger of user mode (-g), as the loop and the system calls see it. Each hook is called on a guest thread, and only
 * where engine->debugger is not NULL. A thread that stops parks in its loop, with the world's state exact; one that is in a
 * system call is interrupted and parks before it would be made again. */
#ifndef RHEA_SRC_USER_GDB_H
#define RHEA_SRC_USER_GDB_H

#include <signal.h>
#include "rhea/base/error.h"
#include "rhea/debug/gdb.h"

struct cpu;
struct debugger;
struct engine;
struct thread;

/* Of a thread: part of struct jit_cpu. Guarded by the debugger's lock, but for what only its owner touches. */
struct debug_thread {
    _Atomic bool held;          /* it parks at its next look */
    bool parked;
    bool has_stop, told;        /* `stop` is to be reported; was */
    struct gdb_stop stop;
    siginfo_t info;             /* of a signal's stop */
    int resume_signal;          /* what it goes on with: 0 none */
    int injected;               /* raised for the client: does not stop again */
    bool step;                  /* one instruction, or out of [start, end) */
    uint64_t start, end;
    bool entered;               /* stopped at a system call's entry, which may be made again before it returns */
    pid_t forked;               /* the child that the client is to be told of; 0: none */
    bool followed;              /* this is that child, which the client went on with */
    bool written;               /* registers were changed during a system call: its result is dropped */
    /* the owner's */
    bool stepped;               /* an instruction was run by itself */
    bool skip;                  /* and that without breakpoints */
    bool watches;               /* accesses are compared with the watchpoints */
    unsigned hit_type;          /* of the watchpoint that the instruction met, 0: none */
    uint64_t hit_addr;
};

bool debugger_break(struct thread *t);          /* an exception at pc: true if it was that of a breakpoint */
void debugger_step(struct thread *t);           /* an instruction was run by itself and is over */
void debugger_look(struct thread *t);           /* parks if it is to be held */
/* A signal is about to be delivered: what shall be instead, 0: nothing. */
int debugger_signal(struct thread *t, int sig, siginfo_t *info);
void debugger_syscall(struct thread *t, bool entry, uint64_t nr);
bool debugger_wrote(struct thread *t);          /* registers are the client's: the system call's result is not wanted; once */
void debugger_access(struct cpu *cpu, uint64_t va, unsigned n, bool write);
void debugger_patch(struct debugger *d, uint64_t page, uint8_t *code);  /* breakpoints into a copy of the page */
/* The process is about to end; returns when the client was told. */
void debugger_exit(struct thread *t, bool killed, int status);
/* Around a thread's leaving the process's list. */
void debugger_thread_exit_begin(struct thread *t);
void debugger_thread_exit_end(struct thread *t);
/* gdb_fork.c: around fork(). told: the client may want to know of it. parent: pid is the child's, or -errno. child: nobody debugs it
 * from here on, unless the client goes on with it: it may wait here for that. */
void debugger_fork_prepare(struct debugger *d, struct thread *t, bool told);
void debugger_fork_parent(struct debugger *d, struct thread *t, int64_t pid);
void debugger_fork_child(struct debugger *d, struct thread *t);
bool debugger_tells_forks(struct debugger *d, struct thread *t);        /* the client would be told of one now */
void debugger_vforked(struct debugger *d, struct thread *t);    /* the parent, before it waits: the client is told here */
/* Around execve(): what -g shall say for the new program to go on with the session, NULL: it ends. The caller frees it, and then calls
 * the second if there is still the old program. */
char *debugger_exec(struct thread *t);
void debugger_exec_failed(struct thread *t);
extern const char debugger_kick[];              /* si_ptr of a signal that only interrupts */
enum { DEBUGGER_SIGNAL = 63 };

#endif
