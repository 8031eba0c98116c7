/* The engine of user mode, as the system-call layer sees it: running a thread's guest code, guest memory from C, code that
 * changes, blocking system calls, signals. struct process and struct thread are in process.h, which embeds what is here:
 *   struct process { struct engine *engine; struct signal_process sig; ... };
 *   struct thread { struct process *process; struct cpu *cpu; struct signal_thread sig; ... };
 *
 * Guest memory is host memory: host address = base + guest address. 32-bit guests have a range of 4 GiB reserved (and a guard
 * behind it), 64-bit guests have base 0. */
#ifndef RHEA_USER_ENGINE_H
#define RHEA_USER_ENGINE_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "rhea/base/error.h"
#include "rhea/user/guest_user.h"

struct process;
struct thread;
struct debugger;
struct engine;                  /* of a process: translated code, which pages it lies in */

struct engine_options {
    uint64_t cache_size;        /* 0: default */
    bool interp, one_insn, nochain, perfmap;
    bool eager;                 /* all code is translated, also what runs for the first time */
    const char *saved;          /* directory of translations of earlier runs, absolute; NULL: none */
    const char *cpu;            /* as the model of all CPUs is given; NULL: the default */
};
/* base: of guest memory. One engine a process; execve makes a new program anyway. */
struct engine *engine_new(const struct guest_user *user, uintptr_t base, const struct engine_options *opts, struct error *err);
void engine_free(struct engine *e);

/* ---- threads */
/* A CPU of the model (NULL: default), or a copy of another one's for clone(). engine_thread_free(): after its loop ended. */
struct cpu *engine_cpu_new(struct engine *e, const char *model, struct error *err);
struct cpu *engine_cpu_clone(struct engine *e, struct cpu *from);
void engine_cpu_free(struct engine *e, struct cpu *cpu);
/* On the host thread that is to run t, with all signals blocked: the host's side of it (alternate stack, handlers' pointer).
 * Then engine_thread_run() runs guest code and calls user_syscall() until the thread ends by thread_exit() (ussys's). It sets
 * the host's signal mask from t->sig.mask. */
bool engine_thread_begin(struct thread *t);
_Noreturn void engine_thread_run(struct thread *t);
void engine_thread_end(struct thread *t);       /* before pthread exit; all host signals blocked from here on */
/* Before a host thread is made, and before the guest takes one of the signals that the C library keeps for threads. */
void engine_threads_init(void);
/* fork(): around the host's call. child: in the child, where only this thread is left. All engine locks are held between. */
void engine_fork_prepare(struct engine *e);
void engine_fork_parent(struct engine *e);
void engine_fork_child(struct engine *e, struct thread *t);
/* Before the process ends or another program takes its place: translations are saved. Nobody else has its file descriptors. */
void engine_save(struct engine *e);
/* All other threads stop in their loops (a blocked one counts) until fn returned. */
void engine_exclusive(struct thread *t, void (*fn)(void *arg), void *arg);
void engine_kick(struct thread *t);             /* it looks at exit_request at its next poll; not at a blocked one */

/* What ussys gives: runs the system call that is in t->cpu's registers. USER_RESTART* as results are seen to by the loop. */
int64_t user_syscall(struct thread *t);
enum {
    USER_RESTART = -512,        /* interrupted, nothing was done: again after the handler, but EINTR after signal_during() */
    USER_NORESULT = -10000,     /* registers are as they should be (sigreturn, a new thread's) */
};

/* ---- guest memory from C. 0 or -EFAULT; never raises anything in the guest. */
int guest_read(struct thread *t, void *to, uint64_t va, size_t n);
int guest_write(struct thread *t, uint64_t va, const void *from, size_t n);
int64_t guest_strlen(struct thread *t, uint64_t va, size_t max);        /* without the NUL; -EFAULT; -ENAMETOOLONG: more than max */
/* Host address of [va, va + n) for passing to the host's kernel, which checks the mapping itself. NULL: outside of the guest's
 * addresses (EFAULT). A range that the kernel will write must be announced: code in it is dropped and its protection lifted. */
void *guest_host(struct engine *e, uint64_t va, size_t n);
void *guest_host_write(struct engine *e, uint64_t va, size_t n);
uint64_t guest_of_host(const struct engine *e, const void *host);
uintptr_t engine_base(const struct engine *e);
struct debugger *engine_debugger(const struct engine *e);       /* NULL: nobody debugs (src/user/gdb.h) */

/* ---- mappings changed: call after the change, whatever it was. Code there is dropped; what the guest may do with a page is asked
 * of mem_prot() when code is fetched. The host's mapping of a page that is executable to the guest needs PROT_READ, never
 * PROT_EXEC. (The engine's locks come after mm's: with mm locked these may be called, and mem_prot() is never called with an
 * engine lock held. fork() takes mm's first.) A page that x86 code was translated from has lost its PROT_WRITE on the host until
 * something is written there: a mprotect() of ussys may give it back too early only together with engine_mapped(). */
void engine_mapped(struct engine *e, uint64_t va, uint64_t n);   /* mmap, mremap, brk, shmat, mprotect */
void engine_unmapped(struct engine *e, uint64_t va, uint64_t n);
/* There is a mapping with guest_user.guard_bits: all CPUs look for such pages from now on. */
void engine_guard(struct engine *e);
/* The guest says that it wrote code: cacheflush(), riscv_flush_icache(). Other threads see it too when this returns. */
void engine_code_changed(struct engine *e, uint64_t va, uint64_t n);

/* ---- system calls that may block. As syscall(2), with -errno as result; USER_RESTART if a signal came before it began or the
 * kernel restarts it (the host's handlers have SA_RESTART where the guest's have): then nothing was done. */
int64_t user_safe_syscall(struct thread *t, long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f);

/* ---- signals. Guest signal numbers are the host's. Masks are 64 bits, bit sig - 1. */
struct signal_action { uint64_t handler, flags, restorer, mask; };      /* handler 0: SIG_DFL, 1: SIG_IGN */
struct signal_process { pthread_mutex_t lock; struct signal_action action[65]; };       /* CLONE_SIGHAND: all threads' */
struct signal_thread {
    uint64_t mask;              /* the guest's; the host's follows it, but that faults are never blocked there */
    uint64_t saved_mask;        /* of sigsuspend(), for the frame */
    bool has_saved_mask;
    struct { uint64_t sp, size; uint32_t flags; } altstack;
    _Atomic uint64_t pending;   /* taken by the host's handler, to be delivered; info[sig - 1] */
    siginfo_t *info;            /* [64] */
    uint32_t trapno, error;     /* of the last fault */
    uint64_t fault_addr;
};
void signal_process_init(struct signal_process *p);     /* takes over what the host's exec left ignored */
void signal_thread_init(struct signal_thread *t, const struct signal_thread *parent);
void signal_thread_free(struct signal_thread *t);
/* What the system calls of these names do, on values already fetched; -errno. */
int64_t signal_set_action(struct thread *t, int sig, const struct signal_action *set, struct signal_action *old);
int64_t signal_set_mask(struct thread *t, int how, const uint64_t *set, uint64_t *old);
int64_t signal_suspend(struct thread *t, uint64_t mask);                /* USER_RESTART never: -EINTR */
int64_t signal_altstack(struct thread *t, uint64_t set, uint64_t old);  /* guest addresses of struct stack_t, or 0 */
int64_t signal_return(struct thread *t, bool rt);                       /* USER_NORESULT */
/* A mask for ppoll, pselect, epoll_pwait while they run: pass the host mask of `mask` to the host's call. The handlers of
 * what it lets through run under `mask`'s successor as the kernel does it: call signal_mask_around() before. */
uint64_t signal_host_mask(uint64_t guest_mask);
void signal_during(struct thread *t, uint64_t guest_mask);      /* if the call is interrupted, frames save t->sig.mask */
/* Raises a synchronous signal, as a fault does. */
void signal_force(struct thread *t, const siginfo_t *info);
_Noreturn void signal_die(struct thread *t, int sig);    /* as if its action were the default */
/* Guest layout, both ways; size of it. 64-bit guests have the host's own. */
enum { GUEST_SIGINFO_SIZE = 128 };
void siginfo_to_guest(const struct guest_user *u, uint8_t out[GUEST_SIGINFO_SIZE], const siginfo_t *info);
void siginfo_from_guest(const struct guest_user *u, siginfo_t *info, const uint8_t in[GUEST_SIGINFO_SIZE]);

#endif
