/* The software accelerators' own structures: jit and interp share all of this but how a region is run.
 *
 * Locks, outermost first: the memory map's, code_lock (which regions lie in which page), the translator's own, a vCPU's tlb_lock. */
#ifndef RHEA_ACCEL_ACCEL_H
#define RHEA_ACCEL_ACCEL_H

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include "rhea/guest/guest.h"
#include "rhea/interp/interp.h"
#include "rhea/ir/cpu.h"
#include "rhea/jit/jit.h"
#include "rhea/vm/memory.h"
#include "rhea/vm/vm.h"

#define PAGE_MASK (~(uint64_t)(CPU_PAGE_SIZE - 1))

/* Beside each soft TLB entry: what the slow path wants to know. */
struct tlb_full {
    uint64_t phys;              /* of the page */
    struct ram_block *ram;      /* NULL: not plain memory */
    uint64_t offset;            /* of the page in ram */
    uint8_t page_bits;          /* of the guest's mapping */
    bool global;
};
enum { TLB_LOCALS = 512 };
enum { TLB_MIN_BITS = 8, TLB_MAX_BITS = 16, TLB_VICTIMS = 8 };
enum { TLB_WRITERS = UINT16_MAX };      /* several */
struct tlb_mode {
    struct tlb_entry *table;    /* [1 << bits]; the view's while it is current */
    struct tlb_full *full;      /* [1 << bits], beside table */
    uint8_t bits;
    uint8_t victim_next;
    uint32_t used, used_max;    /* entries filled since the last flush; most of the flushes of this window */
    uint32_t flushes;
    uint32_t fills;             /* since it was made or flushed: many times its size means that it is too small */
    unsigned locals;            /* fills that are not global, listed up to TLB_LOCALS */
    uint16_t local[TLB_LOCALS];
    uint64_t large_sizes;       /* bit per page_bits of large mappings that were entered, and of which frames: */
    uint64_t large[16];         /* a bit per hash */
    uint16_t *writer;           /* [2 << bits], by hash of the host page: the entry that may store there + 1, or TLB_WRITERS */
    struct tlb_entry victim[TLB_VICTIMS];
    struct tlb_full victim_full[TLB_VICTIMS];
};

/* An address space that was current and may be again (an ASID, a PCID): its modes' soft TLBs; those of the current one are
 * in jit_cpu. */
enum { TLB_CONTEXTS = 8 };
struct tlb_context {
    uint64_t id, used;          /* used: when last left; 0: never */
    struct tlb_mode *mode[CPU_MMU_MODES];
    bool distrusted;            /* write entries may have to be taken away: see tlb_revoke() */
};

/* Which stores to a page with code may be under way: see code.c. */
struct settle {
    uint64_t epoch;             /* all vCPUs must have noted it */
    uint64_t writer_epoch;      /* this one that */
    unsigned writer;
    bool opening;               /* write entries are being taken away */
};

enum { JUMP_CACHES = 12, JUMP_FILLED = 4096, JUMP_PAGE_BITS = 10 };
/* Invariant: entry[h] has code exactly when h + 1 is in the list of its page's hash, whence a page's entries are found. */
struct jump_slot {
    uint64_t mode, used;        /* used: when last made current; 0: free */
    uint64_t context;           /* that its local entries belong to */
    struct jump_entry *entry;
    struct region **region;     /* of the entries */
    uint16_t *next;             /* of the lists: entry + 1; 0: the end */
    uint16_t head[1 << JUMP_PAGE_BITS];
    unsigned filled;            /* entries in lists */
    unsigned locals;            /* entries in pages that are not global, as listed; > JUMP_FILLED: not all are */
    uint16_t local[JUMP_FILLED];
    uint64_t listed[(1 << JUMP_CACHE_BITS) / 64];       /* in local[], bit per entry */
};

struct work {
    struct work *next;
    void (*fn)(struct vcpu *v, void *arg);
    void *arg;
    bool *done;                 /* of a waiting caller */
};

struct accel_vm;
struct verify;
struct jit_cpu {
    struct accel_vm *av;
    struct vcpu *vcpu;
    pthread_spinlock_t tlb_lock;        /* against other vCPUs that revoke write entries */
    struct tlb_mode *mode[CPU_MMU_MODES];
    struct tlb_context contexts[TLB_CONTEXTS], *context;
    uint64_t context_clock;
    struct jump_slot jump[JUMP_CACHES];
    struct jump_slot *slot, *side;      /* the current one, or, where translated code changed its mode by itself, side */
    uint64_t jump_clock;
    _Atomic uintptr_t watched;          /* host page of cpu_watch(), 0: none */
    uint32_t grow;                      /* bit per mode whose TLB is to be made larger */
    bool in_guest;              /* a region or one instruction runs: a store to its code restarts the instruction */
    bool one_insn;              /* run just one, by the interpreter, next */
    bool interpreting;          /* the host's MXCSR is C's own, not the guest's */
    bool again;                 /* code_translate() waited: look anew */
    unsigned impatient;         /* unsettled instructions that are interpreted before it waits again */
    _Atomic bool settling;      /* waits in settle_wait() */
    _Atomic bool quiet;         /* not counted among the running vCPUs */
    _Atomic uint64_t epoch;     /* of accel_vm, seen at the last turn of the loop: no store from before is under way */
    pthread_mutex_t sleep_lock;
    pthread_cond_t sleep_cond;
    _Atomic bool sleeping;
    struct verify *verify;              /* -accel jit,verify=on, else NULL */
    bool verify_failed;
    uint64_t chaos;                     /* state of its random numbers, 0: off */
    struct ir *ir;              /* for single instructions */
    uint64_t gone[16];                  /* under tlb_lock, bit per hash: host pages with write entries evicted since */
    bool any_gone;                      /* the last turn of the loop */
    _Atomic bool sample;        /* hot.c asks where it is */
    uint64_t samples, samples_hot;      /* of them, in code of tier 2 */
    uint64_t left[3];           /* statistics: loop, lookup, exits */
    uint64_t tlb_fills, tlb_flushes, singles, sleeps, settles;
};

struct baton {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    uint64_t tickets, turn;     /* drawn; whose turn it is */
    struct jit_cpu *holder;
    _Atomic bool wanted;        /* the holder's time is up */
};

struct accel_vm {
    struct vm *vm;
    struct jit *jit;
    struct hot *hot;            /* NULL: without tier 2 */
    bool interp, nochain, verify;
    bool single;                /* thread=single */
    bool one_insn_per_region;
    struct baton baton;
    pthread_mutex_t code_lock;
    /* stop the world */
    pthread_mutex_t ex_turn;            /* one at a time */
    pthread_mutex_t ex_lock;
    pthread_cond_t ex_cond;
    _Atomic unsigned ex_pending;
    unsigned ex_running;                /* vCPUs that are not quiet */
    _Atomic uint64_t epoch;             /* see code.c, struct settle */
    _Atomic unsigned settling;          /* vCPUs that are */
    uint64_t chaos;
};

static inline struct accel_vm *accel_of(struct vm *vm) { return vm->accel_data; }

/* jump.c */
void jump_flush(struct jit_cpu *jc);
void jump_drop(struct jit_cpu *jc, const struct region *r);     /* one that jump caches hold in one place */
void jump_drop_dead(struct jit_cpu *jc);
void jump_flush_local(struct jit_cpu *jc);      /* of the current context */
void jump_flush_context(struct jit_cpu *jc, uint64_t id);
void jump_flush_page(struct jit_cpu *jc, uint64_t va);
void jump_select(struct cpu *cpu, uint64_t mode);
void jump_fill(struct cpu *cpu, uint64_t pc, struct region *r);
void jump_init(struct jit_cpu *jc);
void jump_free(struct jit_cpu *jc);
struct region *jump_find(struct cpu *cpu, uint64_t pc);         /* what the current cache knows, or NULL */

/* softmmu.c */
void tlb_init(struct jit_cpu *jc);
void tlb_free(struct jit_cpu *jc);
void tlb_grow(struct jit_cpu *jc);              /* those of .grow; nobody may hold an entry */
/* Write entries for that page of host memory lose their fast path. Any thread. true: a store there may be under way. */
bool tlb_revoke(struct jit_cpu *jc, uintptr_t host_page);
void tlb_forget_gone(struct jit_cpu *jc);       /* at a turn of the loop: no store is under way */
/* Code at va: host address of its byte. NULL: not plain memory. Raises fetch faults, unless probe (then NULL, too). */
uint8_t *code_host(struct cpu *cpu, uint64_t va, bool probe, struct ram_block **rb, uint64_t *offset);
bool code_global(struct cpu *cpu, uint64_t va);         /* after code_host() */
void fault_fetch(struct cpu *cpu, uint64_t va);

void watch_written(struct accel_vm *av, struct ram_block *rb, uint64_t offset);

/* code.c */
struct region *code_translate(struct cpu *cpu, uint64_t pc, uint64_t mode);
/* Drops the regions that overlap the bytes. cpu: whose store it is, or NULL; does not return if that has to begin its
 * instruction anew because it overwrites itself. */
void code_written(struct accel_vm *av, struct cpu *cpu, struct ram_block *rb, uint64_t offset, uint64_t len);
/* Nobody's store to the page is under way. kick: makes those that have not noted it come to a turn of their loop. */
bool settle_passed(struct accel_vm *av, const struct jit_cpu *self, const struct settle *s, bool kick);
void code_tables_free(struct accel_vm *av);
void code_flush_all(struct vm *vm, void *arg);
bool code_fetch_fill(struct cpu *cpu, uint64_t pc, struct code_fetch *f, uint64_t *key);

/* The page's bytes as they are, and how often it was written. false: stores to it may be under way, or it has no code. */
bool code_copy(struct cpu *cpu, struct ram_block *rb, uint64_t offset, uint8_t *bytes, uint64_t *writes);
/* Publishes tier 2's region r. false: the page was written since code_copy(), or the old region is no more. Any thread. */
bool code_replace(struct accel_vm *av, struct region *r, struct jit_hot_source *s);

/* hot.c. All take h == NULL. */
struct hot *hot_new(struct accel_vm *av);
void hot_free(struct hot *h);           /* no vCPU runs any more */
void hot_enter(struct hot *h, struct jit_cpu *jc);
void hot_leave(struct hot *h, struct jit_cpu *jc);
void hot_wake(struct hot *h);
void hot_sample(struct cpu *cpu);       /* cpu->pc is about to run, under cpu->mode */
void hot_ask(struct cpu *cpu, struct region *r);        /* r is at cpu->pc */
uint64_t hot_dropped(struct hot *h);

/* verify.c */
void verify_new(struct jit_cpu *jc);
void verify_free(struct jit_cpu *jc);
void verify_store(struct jit_cpu *jc, void *host, unsigned n);          /* before it changes */
void verify_abandon(struct jit_cpu *jc);        /* something that cannot be undone is about to happen */
uint64_t verify_run(struct cpu *cpu, struct region *r);
void verify_counts(const struct jit_cpu *jc, uint64_t *checked, uint64_t *skipped);

/* chaos.c */
unsigned chaos_max_insns(struct jit_cpu *jc);   /* of the region about to be made; 0: as usual */
void chaos_step(struct cpu *cpu);               /* between regions */
bool chaos_keep_notice(struct jit_cpu *jc);
bool chaos_impatient(struct jit_cpu *jc);
bool chaos_no_link(struct jit_cpu *jc);
bool chaos_tier_up(struct jit_cpu *jc);
void chaos_store(struct jit_cpu *jc, const struct ram_block *rb, uint64_t offset);

/* loop.c */
void accel_vcpu_loop(struct vcpu *v);
/* baton.c */
void baton_init(struct baton *b);
void baton_free(struct baton *b);
void baton_take(struct jit_cpu *jc);
void baton_give(struct jit_cpu *jc);
void baton_offer(struct jit_cpu *jc);
struct timespec time_from_now(int64_t ns);      /* of the monotonic clock */

/* sync.c */
void accel_kick(struct vcpu *v);
void accel_run_on(struct vcpu *v, void (*fn)(struct vcpu *v, void *arg), void *arg, bool wait);
void accel_exclusive(struct vm *vm, void (*fn)(struct vm *vm, void *arg), void *arg);
void accel_ack(struct vcpu *self);
void sync_init(struct accel_vm *av);
void sync_free(struct accel_vm *av);
void sync_run(struct jit_cpu *jc);              /* counted as running again; waits while somebody has the world stopped */
void sync_quiet(struct jit_cpu *jc);
void sync_pause(struct jit_cpu *jc);            /* lets a pending stop of the world pass */
void work_run(struct vcpu *v);
void vcpu_sleep(struct jit_cpu *jc);
/* Lets those run whose stores are under way. false: the instruction had better be interpreted. */
bool settle_wait(struct jit_cpu *jc, const struct settle *s);
void settle_notify(struct accel_vm *av);        /* an epoch was noted */

#endif
