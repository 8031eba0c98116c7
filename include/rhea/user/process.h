/* A Linux process and its threads in user mode. One struct process hangs below the host's process (two for the time of a
 * vfork), a struct thread below each host thread that runs guest code. engine.h says how their code is run. */
#ifndef RHEA_USER_PROCESS_H
#define RHEA_USER_PROCESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "rhea/base/error.h"
#include "rhea/user/engine.h"
#include "rhea/user/guest_user.h"

struct abi;                     /* src/user/abi.h: system call numbers, layouts */
struct mm;                      /* src/user/mem.c: the guest's mappings */

/* The command line, and what of it an execve() hands on. */
struct user_options {
    const char *prefix;         /* -L: looked into before the root for absolute paths, or NULL */
    const char *cpu;            /* -cpu, NULL: default */
    const char *argv0;          /* -0 */
    const char *release;        /* -r: what uname says, or NULL */
    const char *log_items, *log_file;   /* -d, -D as given, or NULL */
    uint64_t stack_size;        /* -s, 0: RLIMIT_STACK */
    bool strace;
    const char *self;           /* path of Rhea, for where /proc is missing, or NULL */
    const char *limits;         /* limits.c: of the program before this one, or NULL */
    int seccomp_fd;             /* filters of the program before this one, 0: none */
    struct engine_options engine;
};

enum limit { LIMIT_AS, LIMIT_DATA, LIMIT_STACK, LIMIT_COUNT };
struct process_limit { bool set; uint64_t soft, hard; };

/* (1) engine and mm belong to the address space: a vfork child shares them with its parent until it ends or execs.
 * (2) `threads` and `nthreads` are guarded by lock; a thread takes itself off the list last.
 * (3) 32-bit guests: every guest address that C code computes is truncated to 32 bits before the base is added. */
struct process {
    struct engine *engine;
    struct mm *mm;
    struct signal_process sig;
    const struct guest_user *guest;
    const struct abi *abi, *compat_abi;         /* compat: of system calls that say so (guest_user.compat); NULL: there are none */
    const struct user_options *options;
    uintptr_t base;             /* host address = base + guest address */

    pthread_mutex_t lock;
    struct thread *threads;     /* by next */
    unsigned nthreads;
    uint64_t brk_start, brk_end;        /* guarded by mm's lock */
    unsigned guard_bits;        /* PROT_ of guarded pages (guest_user.guard_bits), 0: none */
    uint64_t vdso;              /* guest address */
    uint64_t vsyscall;          /* i386: of its __kernel_vsyscall, for AT_SYSINFO */
    uint64_t trampoline;        /* guest address of guest->trampoline in it, 0: none */
    uint64_t stack_start, stack_end, args_start, args_end, env_start, env_end, auxv_start, auxv_end;
    struct process_limit limit[LIMIT_COUNT];    /* limits.c; guarded by lock */
    bool has_mem_file;          /* procfs.c: it has opened /proc/self/mem, where offsets are not the host's (base) */
    struct dir_offsets *dir_offsets;    /* sys_file.c: of directories, for 32-bit guests; guarded by lock */
    struct aio_context *aio;    /* sys_aio.c: by next; guarded by lock */
    GHashTable *urings;         /* sys_uring.c: by descriptor; guarded by lock */
    bool interp_in_prefix;      /* the program's interpreter came from below -L */
    char *exe;                  /* absolute path of the program, as /proc/self/exe says */
    _Atomic bool ending;        /* exit_group: threads leave at their next look */
};

struct thread {
    struct process *process;
    const struct abi *abi;      /* of the system call that it makes: the process's, or that of its 32-bit calls */
    struct cpu *cpu;
    struct signal_thread sig;
    struct thread *next;
    pid_t tid;
    uint64_t clear_child_tid;   /* guest address: zeroed and woken when the thread ends; 0: none */
    uint64_t robust_list;       /* set_robust_list() */
    uint32_t robust_len;
    struct seccomp_filter *_Atomic seccomp;     /* seccomp.c; NULL: none */
    bool seccomp_strict;
    int vfork_fd;               /* the parent of a vfork() waits for its end; -1: none */
};

/* ---- process.c: a program in memory */
/* Loads `path` (already found by the host's rules) with its interpreter into a new process: engine, memory, first thread.
 * NULL with *err set. */
struct thread *process_load(const struct user_options *options, const struct guest_user *guest, const char *path,
                            char **argv, char **envp, struct error *err);
/* gdb_server.c: -g. Listens at `where`: a port of the local host, HOST:PORT, or the path of a socket; with ,suspend=n the program does not wait
 * for the client. Before the first thread runs. "fd:N:FLAGS": the session of the program that this one replaces. */
bool process_debug(struct thread *t, const char *where, struct error *err);
/* thread.c: ends this thread only, or the process with status. From the thread itself, in its loop or a system call. */
_Noreturn void thread_exit(struct thread *t, int status);
_Noreturn void process_exit(struct thread *t, int status);
/* Before the process dies, by whatever: what is to outlive it is written. The thread has its descriptors for itself from here on. */
void process_save(struct thread *t);
/* The thread that runs here, NULL: none. Async-signal-safe. */
struct thread *thread_self(void);
void thread_set_self(struct thread *t);

/* ---- mem.c: the guest's address space. Guest addresses; results: address or -errno. */
int64_t mem_map(struct process *p, uint64_t addr, uint64_t n, int prot, int flags, int fd, uint64_t offset);
int64_t mem_unmap(struct process *p, uint64_t addr, uint64_t n);
int64_t mem_protect(struct process *p, uint64_t addr, uint64_t n, int prot);
int64_t mem_remap(struct process *p, uint64_t addr, uint64_t old_n, uint64_t new_n, int flags, uint64_t to);
int64_t mem_brk(struct process *p, uint64_t end);
/* Protection that the guest asked for at an address, PROT_*; -1: nothing is mapped. */
int mem_prot(struct process *p, uint64_t addr);
bool mem_shared(struct process *p, uint64_t addr);       /* it is a shared mapping: others may write there */
void mem_lock(struct mm *mm);   /* around fork(), before engine_fork_prepare(): engine locks are taken below this one */
void mem_unlock(struct mm *mm);

#endif
