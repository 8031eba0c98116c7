/* The engine's own structures: what run.c, cpu.c, code.c, fault.c and signal.c share. See engine.h for the rest of user mode.
 *
 * Locks, outermost first: ussys's (memory map), engine.lock, the translator's own. The handlers of host signals take none. */
#ifndef RHEA_USER_INTERNAL_H
#define RHEA_USER_INTERNAL_H

#include <glib.h>
#include <pthread.h>
#include <setjmp.h>
#include "rhea/interp/interp.h"
#include "rhea/ir/cpu.h"
#include "rhea/jit/jit.h"
#include "rhea/user/engine.h"
#include "rhea/user/process.h"
#include "user/gdb.h"
#include "user/saved.h"
#include "user/vdso.h"

#define PAGE_MASK (~(uint64_t)(CPU_PAGE_SIZE - 1))

/* cpu->exception beside the guest's own numbers: the host refused an access; jit_cpu.fault says which. */
enum { EXCEPTION_HOST = 1 << 29 };
struct host_fault { int signal, code; uint64_t va; enum mmu_access access; };

/* Guest pages with translated code. Unlike in system mode a region's key is its virtual address. */
struct code_page {
    uint64_t va;
    struct region *regions;     /* by page_next[0], those that straddle into it by page_next[1] */
    uint32_t writes;            /* changes whenever something there may have changed */
    uint16_t thrash;            /* times that its protection was lifted by a store */
    bool is_protected;          /* PROT_WRITE is taken away on the host */
    bool checked;               /* its regions compare their bytes instead: shared memory, or written all the time */
    bool writes_itself;         /* by code of its own, all the time: checked at each instruction */
};

enum { JUMP_SLOTS = 8 };
struct jump_slot { uint64_t mode, used; struct jump_entry *entry; };

struct jit_cpu {                /* cpu->jit in user mode */
    struct cpu *cpu;
    struct engine *engine;
    struct thread *thread;
    struct jit_cpu *next;       /* engine.cpus */
    struct jump_slot jump[JUMP_SLOTS];
    uint64_t jump_clock;
    unsigned jump_bits, jump_conflicts;         /* of each of them; fills that drove another entry out since it has that size */
    struct ir *ir;              /* for single instructions */
    bool one_insn;              /* run just one, by the interpreter, next */
    _Atomic bool running;       /* in translated code, or in the loop: not in a system call */
    /* C code is accessing guest memory: a fault there is the guest's. */
    volatile bool accessing;
    volatile uint64_t access_va;
    volatile enum mmu_access access;
    struct host_fault fault;    /* EXCEPTION_HOST */
    uint64_t again_va;          /* of the last store that began anew, though its page was not protected; and the page's `writes` then */
    uint32_t again_writes;
    bool masked;                /* the handler took a signal and left all others blocked */
    bool restart;               /* the system call before pc answered USER_RESTART */
    struct debug_thread debug;
    uint8_t *fetch;             /* two pages: a copy of the code being translated */
};

struct engine {
    const struct guest_user *user;
    uintptr_t base;
    uint64_t size;              /* of the guest's addresses; 0: 2^64 */
    struct engine_options opts;
    struct jit *jit;
    struct saved *saved;        /* -cache, or NULL */
    struct vdso_text vdso;
    struct debugger *debugger;  /* -g, or NULL */
    pthread_mutex_t lock;
    GHashTable *pages;          /* va of the page -> struct code_page; under lock */
    uint8_t *cold;              /* how often code was interpreted, by its place (code_cold()); NULL: it is translated at once */
    GPtrArray *copies;          /* region.bytes of all regions, dead ones too: until the next flush */
    struct jit_cpu *cpus;       /* under lock */
    /* stop the world */
    pthread_mutex_t ex_turn;
    pthread_mutex_t ex_lock;
    pthread_cond_t ex_cond;
    _Atomic bool ex_pending;
    bool guards;                /* CPUs look for guarded pages; under lock */
};

static inline uint8_t *host_of(const struct engine *e, uint64_t va)
{
    if (e->user->bits == 32)
        va = (uint32_t)va;
    else if (e->user->tag_bits)
        va = va << e->user->tag_bits >> e->user->tag_bits;
    return (uint8_t *)(e->base + va);
}

/* code.c */
struct region *code_known(struct cpu *cpu, uint64_t pc);        /* NULL: it is not translated */
struct region *code_find(struct cpu *cpu, uint64_t pc);         /* translated if need be; NULL: one instruction by the interpreter,
                                                                 * or cpu->exception is set */
bool code_cold(struct cpu *cpu, struct code_fetch *f);          /* not worth translating yet: f gives some bytes from cpu->pc on */
enum { COLD_INSNS = 32 };                                       /* so many instructions at most */
bool code_fetch_fill(struct cpu *cpu, uint64_t pc, struct code_fetch *f);       /* false: cpu->exception is set */
bool code_write_fault(struct cpu *cpu, uint64_t va, unsigned n);        /* true: it was our protection; try again */
void code_drop(struct engine *e, uint64_t va, uint64_t n);
void code_flush(void *engine);                                  /* all of it; with the world stopped */
bool jump_begin(struct jit_cpu *jc);    /* before the first of these; false: there is no memory */
void jump_select(struct cpu *cpu, uint64_t mode);
void jump_fill(struct cpu *cpu, uint64_t pc, struct region *r);
void code_init(struct engine *e);
void code_free(struct engine *e);

/* run.c */
void engine_enter(struct jit_cpu *jc);          /* counted as running; waits while the world is stopped */
void engine_leave(struct jit_cpu *jc);

/* fault.c */
void fault_raise(struct cpu *cpu, int sig, int code, uint64_t va, enum mmu_access access);       /* sets cpu->exception */
void host_handlers_init(void);                  /* SIGSEGV, SIGBUS: once a host process */
void host_signal(int sig, siginfo_t *info, void *context);      /* the handler of all */
struct kernel_sigaction { void (*handler)(int, siginfo_t *, void *); unsigned long flags; void (*restorer)(void); uint64_t mask; };
int host_sigaction(int sig, const struct kernel_sigaction *set, struct kernel_sigaction *old);   /* raw, all 64; -errno */
void host_handler_set(int sig, unsigned long flags);
uint64_t host_sigmask(int how, uint64_t mask);  /* raw; the old one */
/* Copies; bytes that could not be. Faults end it. */
size_t user_copy(void *to, const void *from, size_t n);

/* signal.c */
bool signal_take(struct thread *t, int sig, const siginfo_t *info);     /* from the handler */
/* From now on the debugger's own signal comes to us, and all others do first if `all`. */
void signal_debug(bool all);
void signal_deliver_all(struct thread *t);      /* in the loop */

#endif
