/* Dirty bitmaps: which parts of a disk were written since some moment. A node has any number of them, by name; writes
 * through the node (and its fast path) set bits. Persistent ones are kept in the image by its format.
 *
 * Bits are set from any thread; all else happens on the graph's loop. */
#ifndef RHEA_BLOCK_BITMAP_H
#define RHEA_BLOCK_BITMAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <json-c/json.h>
#include "rhea/base/error.h"

struct block_node;

enum { BITMAP_MIN_GRANULARITY = 512, BITMAP_DEFAULT_GRANULARITY = 65536 };

struct dirty_bitmap {
    struct block_node *node;    /* or NULL */
    struct dirty_bitmap *_Atomic next;
    char *name;                 /* NULL: a job's own */
    unsigned granularity_bits;
    uint64_t size;              /* bytes of the disk */
    _Atomic uint64_t *words;
    uint64_t bits;
    atomic_bool enabled;
    bool persistent;
    bool inconsistent;          /* it was not closed in good order: may only be removed */
    bool busy;                  /* a job or export uses it */
    unsigned skip_store;        /* format's: must not be stored now */
};

/* granularity: a power of two of at least 512; 0: the default (the cluster size, within 4 KiB and 64 KiB). NULL with *err:
 * the name is taken, or the format cannot keep it. */
struct dirty_bitmap *bitmap_add(struct block_node *n, const char *name, uint64_t granularity, bool persistent, bool enabled,
                                struct error *err);
struct dirty_bitmap *bitmap_find(struct block_node *n, const char *name, struct error *err);
/* One that belongs to no node: only who made it sets bits. */
struct dirty_bitmap *bitmap_new(uint64_t size, uint64_t granularity, struct error *err);
/* [co] With its stored form. */
bool bitmap_remove(struct dirty_bitmap *b, struct error *err);
/* Forgets it; what is stored stays. NULL is allowed. */
void bitmap_free(struct dirty_bitmap *b);
/* False with *err if it is busy, or (unless allowed) inconsistent, or its node is read-only and it persistent. */
bool bitmap_usable(const struct dirty_bitmap *b, bool change, struct error *err);
void bitmap_clear(struct dirty_bitmap *b);
void bitmap_set(struct dirty_bitmap *b, uint64_t off, uint64_t bytes);
void bitmap_reset(struct dirty_bitmap *b, uint64_t off, uint64_t bytes);
/* Adds what `from` has; granularities and sizes may differ (the shorter counts). */
void bitmap_merge(struct dirty_bitmap *into, const struct dirty_bitmap *from);
uint64_t bitmap_count(const struct dirty_bitmap *b);    /* dirty bytes */
/* The first dirty range at or after *off: true with [*off, +*bytes), in whole granules, cut at the disk's end. */
bool bitmap_next(const struct dirty_bitmap *b, uint64_t *off, uint64_t *bytes);
bool bitmap_get(const struct dirty_bitmap *b, uint64_t off);
/* bitmap_get(), and how far what follows is like it: *bytes at most. */
bool bitmap_extent(const struct dirty_bitmap *b, uint64_t off, uint64_t *bytes);
/* Of the bits, 64 a little-endian word; caller frees. */
char *bitmap_sha256(const struct dirty_bitmap *b);
/* The list of query-block's dirty-bitmaps, or NULL when there are none. */
struct json_object *bitmap_query(struct block_node *n);

/* For the block layer: a write has ended; the disk's size has changed; the node goes away. */
void bitmaps_note(struct block_node *n, uint64_t off, uint64_t bytes);
void bitmaps_resize(struct block_node *n, uint64_t size);
void bitmaps_free(struct block_node *n);

#endif
