/* The translator: regions of guest code, the cache that holds their host code, links between them. It rests on ir
 * alone: a guest's decode and emit, struct cpu, and the memory functions of rhea/ir/cpu.h for slow paths, so that
 * system and user mode share it. See docs/jit.md.
 *
 * A region's invariants:
 *  (1) it is found by the physical address of its first byte and its mode bits; all of its code but the tail of an
 *      instruction that straddles lies in that page; it may run at any virtual address with the same page offset;
 *  (2) a linked exit jumps only to a live region of the same mode that does not straddle (a straddling one is entered
 *      only by way of a jump cache or C, which check its second page);
 *  (3) a link is changed by one aligned store of four bytes; any thread may be running it;
 *  (4) host code of a dead region stays in place until the whole cache is flushed with all vCPUs parked. */
#ifndef RHEA_JIT_JIT_H
#define RHEA_JIT_JIT_H

#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "rhea/base/error.h"
#include "rhea/guest/guest.h"
#include "rhea/ir/cpu.h"
#include "rhea/ir/ir.h"

struct region;
struct jit;

/* What translated code returns to the loop, beside the number of an exit (JIT_EXIT_FIRST and up). */
enum { JIT_LEFT_LOOP,           /* cpu->pc is set: look at mode, interrupts */
       JIT_LEFT_LOOKUP,         /* cpu->pc is set: the jump cache did not know it */
       JIT_EXIT_FIRST = 16 };

struct region_exit {
    struct region *from;
    struct region *to;          /* linked with, or NULL */
    struct region_exit *next_in;        /* next link into `to` */
    int64_t target;             /* offset from pc_page */
    uint8_t *patch;             /* the four bytes of its jump, in the writable mapping; NULL: cannot be linked */
    uint32_t count;             /* times it came to C */
    uint8_t kind;               /* enum ir_exit_kind */
};

#define JUMP_PC_NONE UINT64_MAX        /* no region begins at the last byte */
struct region {
    _Alignas(64) struct region *hash_next;
    uint64_t phys, mode;
    uint64_t phys2;             /* page of the straddling tail, or ~0 */
    void *code;                 /* executable address of the entry */
    uint32_t code_size;
    uint32_t faults, nfaults;   /* of direct memory: see code_out */
    uint16_t lo, hi;            /* of its page, the bytes from lo to hi - 1 */
    uint16_t len2;              /* bytes in the second page */
    uint16_t insns;
    uint16_t nexits;
    uint32_t first_exit;        /* number of exit 0 */
    _Atomic bool dead;
    _Atomic bool jumped_to;     /* some jump cache may hold it */
    _Atomic uint32_t entries;   /* times entered from C */
    struct region_exit *links_in;
    struct region *_Atomic better;      /* tier 2's, that took its place and its links; it stays valid beside it */
    _Atomic uint32_t heat;      /* times it was about to run when a sample was taken; halved now and then */
    uint32_t heat_age;
    _Atomic bool tried;         /* tier 2 was asked for */
    bool hot;                   /* made by tier 2 */
    _Atomic uint64_t jump_pc;   /* where jump caches hold it, JUMP_PC_NONE: nowhere yet; jump_many: elsewhere too */
    _Atomic bool jump_many;
    struct ir *ir;              /* with jit_options.keep_ir: as the front end made it */
    struct region *page_next[2];        /* of the lists of their pages (the accelerator's) */
    uint8_t *bytes;             /* user mode: what it was made from, to be compared at each entry; NULL: not needed */
};

struct jit_options {
    const struct guest *guest;  /* NULL: nothing is going to be translated */
    uint64_t cache_size;        /* bytes of host code; 0: default */
    bool perfmap;
    bool interp;                /* regions are kept as IR: code is a struct ir *, jit_run() is not to be called */
    bool keep_ir;
    bool nochain;
    bool tier2;                 /* jit_recompile() is going to be called */
    /* User mode: guest memory is reached directly (enum codegen_memory), regions are found by virtual address (`phys`), and
     * the cache is private memory, so that a child of fork() has its own. */
    uint8_t memory;
    uint64_t chaos;             /* seed, 0: off */
    bool movable;               /* user mode: code is made so that jit_source.save works */
    uint64_t pc_limit;          /* what lies at this guest address or above is not moved: addresses wrap; 0: they do not */
};

struct jit_stats {
    uint64_t regions, regions_total, flushes, invalidated, retries;
    uint64_t host_bytes /* in use */, made_bytes /* since the start */, cache_size, guest_bytes, guest_insns, ops;
    uint64_t translate_ns;
    uint64_t links;
    uint64_t loaded, saved;     /* regions from and to a file: jit_load(), jit_source.save */
    struct jit_hot_stats {      /* tier 2 */
        uint64_t made, insns, inlined, ns;
        uint64_t useless;       /* nothing to win: no more code than the first compile's */
        uint64_t refused;       /* the back end could not, or its part of the cache is full */
        uint64_t stale;         /* the code changed meanwhile, or all was flushed */
    } hot;
};

struct jit *jit_new(const struct jit_options *opts, struct error *err);
void jit_free(struct jit *j);
void jit_get_stats(struct jit *j, struct jit_stats *out);
bool jit_option_nochain(const struct jit *j);

/* Where a region's bytes come from and what it is keyed by, filled by the caller. */
struct jit_source {
    struct cpu *cpu;
    uint64_t pc, mode;
    uint64_t phys;              /* of pc */
    struct code_fetch fetch;    /* page[0] set */
    uint64_t (*phys_of_next)(struct code_fetch *f);     /* physical page of page[1], once next_page() filled it */
    unsigned max_insns;         /* 0: the default */
    /* What began there ran, if not as a region. NULL: all that ran is regions, since everything is translated at once. */
    bool (*ran)(const struct jit_source *src, uint64_t pc);
    GByteArray *save;           /* the region is added here, in the form that jit_load() takes; NULL: it is not wanted */
    uint64_t save_key;          /* saved_region.key, the caller's */
};
/* Finds a live region; any thread, no lock. phys2: page after the one of phys as the caller sees it, compared for
 * regions that straddle (UINT64_MAX: they are not found). */
struct region *jit_find(struct jit *j, uint64_t phys, uint64_t mode, uint64_t phys2);
/* Translates; NULL and why if not. Takes the translation lock. jit_find() knows the region once it is published. */
enum jit_failure { JIT_FULL,    /* flush, try again */
                   JIT_NO_FETCH,        /* the first instruction goes on in a page that cannot be fetched */
                   JIT_REFUSED };       /* the back end cannot do it: interpret */
struct region *jit_translate(struct jit *j, const struct jit_source *src, enum jit_failure *why);
void jit_publish(struct jit *j, struct region *r);
struct region_exit *jit_exit(struct jit *j, uint64_t number);
/* ---- saved regions (src/jit/saved.c): code, what it was made from, and what depends on where things lie. They fit programs with the
 * same build id on hosts with the same codegen_host_key(), for CPUs that were made alike. */
enum { SAVED_ALIGN = 8, SAVED_MOST = 1 << 20 };
struct saved_region {
    uint64_t check;             /* jit_checksum() of all that follows */
    uint32_t size;              /* of the whole, a multiple of SAVED_ALIGN */
    uint32_t code_size, faults, nfaults;
    uint64_t key, mode;
    uint16_t nexits, nrelocs, lo, hi, len2, insns;
    uint16_t reserved[2];
    /* struct saved_exit[nexits], uint32_t relocs[nrelocs], guest bytes, code */
};
uint64_t jit_checksum(const void *data, size_t n);
/* `s` has n bytes, of which nothing is known. It is a whole region, as it was written. */
bool jit_saved_valid(const struct saved_region *s, size_t n);
/* The guest bytes that it was made from; *n: how many. */
const uint8_t *jit_saved_bytes(const struct saved_region *s, unsigned *n);
/* A valid one becomes a region like a new one if the bytes at src are those it was made from. NULL: they are not, or there is no
 * room. Its code is trusted. */
struct region *jit_load(struct jit *j, const struct jit_source *src, const struct saved_region *s);

/* Links an exit to a region of the same page and mode. */
void jit_link(struct jit *j, struct region_exit *e, struct region *to);

/* ---- tier 2: hot regions again, with what they go on to (src/jit/graph.c). The caller finds them, calls jit_recompile()
 * on a thread of its own (one at a time), sees that the bytes are still the same, and publishes by jit_supersede(). */
struct jit_hot_source {
    struct cpu *cpu;            /* its features, no more */
    uint64_t pc, phys, mode;    /* of the region's first byte */
    unsigned insns;             /* of the first compile */
    uint64_t generation;        /* jit_generation() when the bytes were read */
    uint32_t heat;
    struct region *old;
    void *opaque;               /* the caller's */
    uint64_t place, writes;
    uint8_t bytes[CPU_PAGE_SIZE];       /* of its page */
};
/* NULL: nothing won. Takes the lock for moments only. */
struct region *jit_recompile(struct jit *j, const struct jit_hot_source *src);
/* Found from here on in place of `old`, whose links go to it by one store each. false: old is no more; r is void. */
bool jit_supersede(struct jit *j, struct region *r, const struct jit_hot_source *src);
void jit_count_stale(struct jit *j);

/* What waits to be compiled: at most HOT_QUEUE, the hottest first. Locking is the caller's. */
enum { HOT_QUEUE = 32 };
struct hot_queue { struct jit_hot_source *entry[HOT_QUEUE]; unsigned n; uint64_t dropped; };
void hot_queue_push(struct hot_queue *q, struct jit_hot_source *s);     /* takes it; if full, the coldest is freed */
struct jit_hot_source *hot_queue_pop(struct hot_queue *q);      /* NULL: empty; the caller's to free */
void hot_queue_drop(struct hot_queue *q, const struct cpu *cpu);        /* what that CPU asked for */
void hot_queue_clear(struct hot_queue *q);

/* Makes it unreachable but by jump caches, which the caller sees to. Under the lock. */
void jit_kill_locked(struct jit *j, struct region *r);
/* All regions go. Nobody may be running translated code. */
void jit_flush(struct jit *j);
uint64_t jit_generation(const struct jit *j);   /* changes with each flush: regions and exits known before are void */
uint64_t jit_run(struct jit *j, struct cpu *cpu, void *code);
/* Direct memory, from a host signal's handler: see codegen_fault(). jit_fault() finds the region; no locks. */
struct code_fault;
bool jit_fault(struct jit *j, struct cpu *cpu, void *context, struct code_fault *out);
void jit_leave(struct jit *j, void *context, uint64_t why);
bool jit_code_contains(const struct jit *j, uintptr_t host_pc);
void jit_lock(struct jit *j);
void jit_unlock(struct jit *j);

/* What is known of code that ran. */
struct region_profile {
    bool (*ran)(const struct region_profile *p, uint64_t pc);   /* from pc on */
    bool complete;              /* what has not run that way has not run: it is not worth much code */
};
/* Builds the IR of one region as jit_translate() does (the interpreter's cache uses it). Length and other facts in
 * *info. profile: loops of which one part is laid out of line are made whole; may be NULL. false: nothing fetchable, or too
 * large. */
struct jit_region_info {
    uint64_t lo, hi;            /* guest code it covers, lo to hi - 1 */
    unsigned insns;
    unsigned inlined;           /* calls */
    bool straddles;
};
bool region_build(struct ir *ir, const struct guest *guest, struct code_fetch *f, uint64_t pc, uint64_t mode,
                  unsigned max_insns, const struct region_profile *profile, struct jit_region_info *info);
enum { REGION_MAX_INSNS = 96 };
/* The same of what comes before the first branch, that included: for code that is interpreted since it may run just once. */
bool region_build_straight(struct ir *ir, const struct guest *guest, struct code_fetch *f, uint64_t pc, uint64_t mode,
                           unsigned max_insns, struct jit_region_info *info);

/* The same for tier 2: see src/jit/graph.c. `g` is working memory of one thread. false also where the guest's mode forbids
 * it. */
struct graph;
struct graph *graph_new(void);
void graph_free(struct graph *g);
bool region_build_hot(struct graph *g, struct ir *ir, const struct guest *guest, struct code_fetch *f, uint64_t pc,
                      uint64_t mode, unsigned max_insns, const struct region_profile *profile, struct jit_region_info *info);

#endif
