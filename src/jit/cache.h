/* The cache's own structures, shared by the two compiles. */
#ifndef RHEA_JIT_CACHE_H
#define RHEA_JIT_CACHE_H

#include <stdio.h>
#include "rhea/jit/codegen.h"
#include "rhea/jit/jit.h"

enum { HASH_BITS = 17, MAX_REGIONS = 1 << 20, MAX_EXITS = 3 << 20, CODE_ALIGN = 32,
       REGION_ROOM = 256 * 1024 };      /* the most that one region's code may take */

/* What the second compile has for itself, so that it need not hold the lock meanwhile: working memory, and the last
 * eighth of the cache. Its exits have the numbers from MAX_EXITS on. */
enum { HOT_REGIONS = 1 << 16, HOT_EXITS = 1 << 19, HOT_SHARE = 8 };
struct jit_hot_part {
    struct graph *graph;
    struct ir *ir;
    struct ir_analysis *an;
    struct codegen *backend;
    struct region *regions;
    struct region_exit *exits;
    uint32_t nregions, nexits;
    size_t start, used;         /* from there on in the cache, of it */
};

struct jit {
    struct jit_options opts;
    pthread_mutex_t lock;
    uint8_t *rw, *rx;
    size_t size, stubs_size, used;
    size_t limit;               /* of the first compile's part */
    size_t ahead;               /* user mode: up to there memory was asked for */
    struct codegen_stubs stubs;
    struct region *regions;
    uint32_t nregions;
    struct region_exit *exits;
    uint32_t nexits;
    struct region *_Atomic *hash;
    struct ir *ir;
    struct ir_analysis *an;
    struct codegen *backend;
    struct code_relocs *relocs; /* with jit_options.movable */
    struct code_fetch fetched;  /* what the last region was built from */
    struct jit_stats stats;
    FILE *perfmap;
    uint64_t chaos;
    struct jit_hot_part hot;    /* with jit_options.tier2 */
};

static inline size_t code_round(size_t size) { return (size + CODE_ALIGN - 1) & ~(size_t)(CODE_ALIGN - 1); }
/* cache.c. Under the lock: makes the region known, before others of its address. */
void cache_insert(struct jit *j, struct region *r);
void cache_log_text(const char *title, const struct region *r, char *text);     /* frees the text */
void cache_log_code(struct jit *j, const struct region *r, uint64_t pc, const char *kind);
void cache_exits_fill(struct region_exit *to, struct region *r, const struct ir *ir, const struct code_out *out);
int64_t cache_now_ns(void);
/* Enters what lies at j->used as the next region. */
void cache_record(struct jit *j, struct region *r, void *code, size_t size);
/* Adds the region, which was compiled just now, to src->save. */
void saved_add(struct jit *j, const struct jit_source *src, const struct region *r);

/* tier2.c */
bool hot_part_init(struct jit *j, struct error *err);
void hot_part_free(struct jit *j);
void hot_part_flush(struct jit *j);          /* under the lock */

#endif
