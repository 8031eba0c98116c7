/* qcow2 images, versions 2 and 3, after "Qcow2 Image File Format" (docs/interop/qcow2.txt of its authors).
 *
 * What of the image is in memory and not yet on disk: slices of L2 tables and refcount blocks (struct meta_cache),
 * entries of L1, and a list of clusters to be freed. The order in which it reaches the disk makes a loss of power
 * leak clusters at worst:
 *   I1  a refcount may grow on disk at any time;
 *   I2  an L2 entry is written when the refcount and the data of its cluster are on stable storage, an L1 entry when
 *       its L2 table is;
 *   I3  a refcount falls (and the cluster may be used again) only when nothing on stable storage refers to the
 *       cluster any more, and no request that was told its place is in flight.
 * qcow2_flush_cache() carries this out: refcounts, barrier, L2, barrier, L1, barrier, frees.
 *
 * Locks: q->lock guards all of it and is not held over data transfers; while a request allocates clusters for a range
 * of the guest, it is listed in q->allocs, and who wants the same clusters waits for it. */
#ifndef RHEA_BLOCK_QCOW2_H
#define RHEA_BLOCK_QCOW2_H

#include <glib.h>
#include <stdatomic.h>
#include "rhea/block/node.h"

#define QCOW2_MAGIC 0x514649fbu
#define QCOW2_COPIED (1ull << 63)
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO 1ull                         /* version 3 */
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ull

enum { QCOW2_MAX_L1_BYTES = 32 << 20, QCOW2_MAX_REFTABLE_BYTES = 8 << 20, QCOW2_MAX_SNAPSHOTS = 65536,
       QCOW2_MIN_CLUSTER_BITS = 9, QCOW2_MAX_CLUSTER_BITS = 21 };
enum {
    QCOW2_INCOMPAT_DIRTY = 1,
    QCOW2_INCOMPAT_CORRUPT = 2,
    QCOW2_INCOMPAT_DATA_FILE = 4,
    QCOW2_INCOMPAT_COMPRESSION = 8,
    QCOW2_INCOMPAT_EXTENDED_L2 = 16
};
enum { QCOW2_COMPAT_LAZY_REFCOUNTS = 1 };
enum { QCOW2_AUTOCLEAR_BITMAPS = 1 };
enum { QCOW2_ZLIB = 0, QCOW2_ZSTD = 1 };

/* Places of header fields that are rewritten. */
enum {
    QCOW2_H_SIZE = 24,
    QCOW2_H_L1_SIZE = 36,
    QCOW2_H_L1_OFFSET = 40,
    QCOW2_H_REFTABLE = 48,
    QCOW2_H_INCOMPAT = 72,
    QCOW2_H_AUTOCLEAR = 88
};

enum qcow2_kind {
    QCOW2_UNALLOCATED,
    QCOW2_ZERO_PLAIN,
    QCOW2_ZERO_ALLOC,
    QCOW2_NORMAL,
    QCOW2_COMPRESS,
    QCOW2_BAD
};

/* A part of a table, cached. */
struct meta_entry {
    uint64_t offset;            /* in the file; key */
    uint8_t *data;
    struct meta_entry *hash_next, *newer, *older;
    unsigned pins;              /* users and writes in flight: not evicted */
    bool loading;
    uint32_t dirty_from, dirty_to;      /* bytes; from >= to: clean */
};

struct meta_cache {
    uint32_t slice;             /* bytes an entry */
    unsigned count, limit, dirty, buckets;
    struct meta_entry **hash;
    struct meta_entry *newest, *oldest;
};

struct qcow2_alloc {            /* lives on the allocating coroutine's stack */
    uint64_t start, end;        /* guest bytes, whole clusters */
    struct co_queue waiters;
    struct qcow2_alloc *next;
};

struct qcow2_epoch { struct qcow2 *q; atomic_uint in_flight; };

struct qcow2_snapshot {
    uint64_t l1_offset, disk_size, vm_state_size, clock_ns, icount;
    uint32_t l1_size, date_sec, date_nsec;
    char *id, *name;
};

struct qcow2 {
    struct block_node *node, *file;
    unsigned version, cluster_bits, l2_bits, refcount_order, refblock_bits;
    uint64_t cluster_size;
    uint32_t header_length;
    uint64_t incompatible, compatible, autoclear;
    unsigned compression;
    char *backing_name, *backing_format;

    uint64_t l1_offset;
    uint32_t l1_size;
    uint64_t *l1;
    uint32_t l1_dirty_from, l1_dirty_to;        /* entries; from >= to: clean */
    uint64_t reftable_offset;
    uint32_t reftable_clusters, reftable_entries;
    uint64_t *reftable;
    uint32_t snapshot_count;
    uint64_t snapshots_offset, snapshots_size;
    struct qcow2_snapshot *snapshots;

    struct co_mutex lock, flush_lock;
    struct co_queue loads;                      /* who waits for a slice that another loads */
    struct meta_cache l2, refblocks;
    struct qcow2_alloc *allocs;
    uint64_t free_hint;                         /* cluster index: none below is free */
    uint64_t fresh_start;                       /* byte from where the file was never written */
    uint64_t compressed_next;                   /* where the next compressed cluster may go on; 0: none */
    GArray *frees;                              /* uint64_t cluster offsets, whose refcount is to fall */

    struct qcow2_epoch epochs[2];
    atomic_uint epoch;
    struct coroutine *_Atomic epoch_waiter;

    uint64_t inflated_entry;                    /* L2 entry whose contents are in `inflated`; 0: none */
    uint8_t *inflated;
    bool corrupt;
};

/* qcow2-cache.c */
void meta_cache_init(struct meta_cache *c, uint32_t slice, unsigned limit);
void meta_cache_free(struct meta_cache *c);
/* A slice that is in memory, or NULL. */
struct meta_entry *meta_find(struct meta_cache *c, uint64_t offset);
/* [co] The slice, pinned. q->lock is held; it is let go while loading unless keep_lock. */
int meta_get(struct qcow2 *q, struct meta_cache *c, uint64_t offset, bool keep_lock, struct meta_entry **out);
static inline void meta_put(struct meta_entry *e) { e->pins--; }
void meta_dirty(struct meta_cache *c, struct meta_entry *e, uint32_t from, uint32_t bytes);
/* Forgets what lies in the range, which must be clean or no longer wanted. */
void meta_drop(struct meta_cache *c, uint64_t offset, uint64_t bytes);
int qcow2_flush_cache(struct block_node *n);
/* Flushes if much waits to be written. */
int qcow2_throttle(struct qcow2 *q);
unsigned qcow2_epoch_begin(struct qcow2 *q);    /* q->lock held */
void qcow2_epoch_end(void *epoch);              /* a struct qcow2_epoch */

/* qcow2-refcount.c; q->lock held throughout */
uint64_t refcount_read(const void *block, unsigned order, uint64_t index);
void refcount_write(void *block, unsigned order, uint64_t index, uint64_t value);
static inline uint64_t refcount_max(unsigned order)
{
    return order == 6 ? UINT64_MAX : (1ull << (1u << order)) - 1;
}
int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *value);
int qcow2_refcount_add(struct qcow2 *q, uint64_t offset, uint64_t clusters, int delta);
/* n clusters in a row, refcount 1. */
int qcow2_alloc_clusters(struct qcow2 *q, uint64_t n, uint64_t *offset);
/* As that, but *n is made smaller if the run would otherwise have to start further on. */
int qcow2_alloc_some(struct qcow2 *q, uint64_t *n, uint64_t *offset);
/* Bytes for a compressed cluster, perhaps behind the last. */
int qcow2_alloc_bytes(struct qcow2 *q, uint64_t bytes, uint64_t *offset);
void qcow2_free_later(struct qcow2 *q, uint64_t offset);
void qcow2_free_entry_later(struct qcow2 *q, uint64_t entry);
/* Whether the range touches header, L1, refcount table or snapshot table. */
bool qcow2_overlaps_metadata(const struct qcow2 *q, uint64_t offset, uint64_t bytes);
int qcow2_header_write(struct qcow2 *q, unsigned at, const void *data, unsigned bytes);
void qcow2_set_corrupt(struct qcow2 *q, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* qcow2-cluster.c */
enum qcow2_kind qcow2_kind(const struct qcow2 *q, uint64_t entry);
void qcow2_compressed_range(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *bytes);
int qcow2_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);
int qcow2_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);
int qcow2_discard(struct block_node *n, uint64_t off, uint64_t bytes);
int qcow2_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags);
int qcow2_block_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                       struct block_node **file);
struct block_node *qcow2_map_fast(struct block_node *n, struct block_fast *f);
int qcow2_l2_get(struct qcow2 *q, uint64_t off, struct meta_entry **out);
struct qcow2_alloc *qcow2_alloc_find(struct qcow2 *q, uint64_t start, uint64_t end);
int qcow2_l2_writable(struct qcow2 *q, uint64_t off, struct meta_entry **out);
static inline unsigned qcow2_slice_entries(const struct qcow2 *q) { return q->l2.slice / 8; }
static inline unsigned qcow2_slice_index(const struct qcow2 *q, uint64_t off)
{
    return (off >> q->cluster_bits) & (qcow2_slice_entries(q) - 1);
}
static inline uint64_t l2_load(const struct meta_entry *e, unsigned i)
{
    return GUINT64_FROM_BE(((uint64_t *)e->data)[i]);
}
static inline uint64_t clusters_of(const struct qcow2 *q, uint64_t bytes)
{
    return (bytes >> q->cluster_bits) + ((bytes & (q->cluster_size - 1)) != 0);
}

/* qcow2-compress.c */
int qcow2_pwrite_compressed(struct block_node *n, uint64_t off, const void *buf, uint64_t bytes);
int qcow2_inflate(struct qcow2 *q, const void *in, uint64_t in_bytes, void *out);   /* [co] */

/* qcow2-check.c */
bool qcow2_check(struct block_node *n, unsigned repair, struct block_check *out, struct error *err);

/* qcow2-create.c */
bool qcow2_create(struct block_graph *outer, const char *filename, struct json_object *opts, struct error *err);
extern const char *const qcow2_create_options[];

#endif
