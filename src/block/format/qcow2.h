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
 * of the guest, it is listed in q->allocs, and who wants the same clusters waits for it. What changes whole tables
 * (snapshots, resizing, amending) keeps all requests out meanwhile: qcow2_exclusive_begin().
 *
 * With an external data file q->data is another node than q->file: its clusters lie where the guest's do and are not
 * counted. With extended L2 entries an entry is two words, the second telling of 32 subclusters each. */
#ifndef RHEA_BLOCK_QCOW2_H
#define RHEA_BLOCK_QCOW2_H

#include <glib.h>
#include <stdatomic.h>
#include <string.h>
#include "rhea/block/node.h"

#define QCOW2_MAGIC 0x514649fbu
#define QCOW2_COPIED (1ull << 63)
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO 1ull                         /* version 3, not with extended L2 entries */
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ull

enum { QCOW2_MAX_L1_BYTES = 32 << 20, QCOW2_MAX_REFTABLE_BYTES = 8 << 20, QCOW2_MAX_SNAPSHOTS = 65536,
       QCOW2_MIN_CLUSTER_BITS = 9, QCOW2_MAX_CLUSTER_BITS = 21, QCOW2_MIN_EXTENDED_BITS = 14, QCOW2_SUBCLUSTERS = 32,
       QCOW2_MAX_BITMAPS = 65535, QCOW2_MAX_BITMAP_DIRECTORY = 64 << 20 };
enum {
    QCOW2_INCOMPAT_DIRTY = 1,
    QCOW2_INCOMPAT_CORRUPT = 2,
    QCOW2_INCOMPAT_DATA_FILE = 4,
    QCOW2_INCOMPAT_COMPRESSION = 8,
    QCOW2_INCOMPAT_EXTENDED_L2 = 16
};
enum { QCOW2_COMPAT_LAZY_REFCOUNTS = 1 };
enum { QCOW2_AUTOCLEAR_BITMAPS = 1, QCOW2_AUTOCLEAR_DATA_RAW = 2 };
enum { QCOW2_CRYPT_NONE = 0, QCOW2_CRYPT_AES = 1, QCOW2_CRYPT_LUKS = 2 };
enum { QCOW2_ZLIB = 0, QCOW2_ZSTD = 1 };

/* Places of header fields that are rewritten. */
enum {
    QCOW2_H_SIZE = 24,
    QCOW2_H_L1_SIZE = 36,
    QCOW2_H_L1_OFFSET = 40,
    QCOW2_H_REFTABLE = 48,
    QCOW2_H_SNAPSHOTS = 60,
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

struct luks;

struct qcow2_epoch { struct qcow2 *q; atomic_uint in_flight; };

struct qcow2_snapshot {
    uint64_t l1_offset, disk_size, vm_state_size, clock_ns, icount;
    uint32_t l1_size, date_sec, date_nsec;
    char *id, *name;
    GBytes *extra;              /* what follows the known extra data, kept as it is; NULL: nothing */
};

/* What the first cluster holds. */
struct qcow2_header {
    unsigned version, cluster_bits, refcount_order, compression, crypt_method;
    uint32_t length, l1_size, reftable_clusters, snapshot_count;
    uint64_t size, l1_offset, reftable_offset, snapshots_offset, incompatible, compatible, autoclear;
    const char *backing, *backing_format, *data_file;
    uint64_t backing_at;        /* where its name is best put; 0: anywhere */
    uint64_t avoid_from, avoid_to;              /* and where not: another name stands there */
    uint64_t crypt_offset, crypt_length;
    uint32_t bitmap_count;
    uint64_t bitmaps_offset, bitmaps_size;
    const GByteArray *unknown;  /* extensions, as they are written; or NULL */
    const uint8_t *more;        /* fields that this build does not know, from byte QCOW2_HEADER_KNOWN on */
};
enum { QCOW2_HEADER_V2 = 72, QCOW2_HEADER_KNOWN = 112 };

struct l2_entry { uint64_t desc, bitmap; };

struct qcow2 {
    struct block_node *node, *file;
    struct block_node *data;    /* where guest clusters lie: `file`, or an external data file */
    bool data_external, data_raw, extended;
    bool discard_no_unref;      /* discarded clusters keep their place, so that the file stays in order */
    bool keep_discards;         /* pass-discard-request=off: the host is told of none */
    unsigned l2_shift, sub_bits;                /* bytes an L2 entry: 1 << l2_shift; a subcluster: 1 << sub_bits */
    unsigned version, cluster_bits, l2_bits, refcount_order, refblock_bits;
    uint64_t cluster_size;
    uint32_t header_length;
    uint64_t incompatible, compatible, autoclear;
    unsigned compression;
    char *backing_name, *backing_format, *data_name;
    uint32_t crypt_method;
    uint64_t crypt_offset, crypt_length;
    struct luks *luks;
    bool locked;                /* no key was given: what lies in the image can't be read */
    uint32_t bitmap_count;
    uint64_t bitmaps_offset, bitmaps_size;
    GPtrArray *bitmaps;         /* as they are stored */
    GByteArray *unknown_extensions;
    uint8_t *more_fields;

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

    atomic_uint requests;                       /* under way */
    atomic_bool exclusive;
    struct co_queue exclusive_waiters;          /* who waits to begin, or for the last request to end */

    uint64_t inflated_entry;                    /* L2 entry whose contents are in `inflated`; 0: none */
    uint8_t *inflated;
    bool corrupt, opened;
};

/* qcow2-cache.c */
void meta_cache_init(struct meta_cache *c, uint32_t slice, unsigned limit);
void meta_cache_free(struct meta_cache *c);
void meta_cache_empty(struct meta_cache *c);    /* what is dirty is forgotten; nobody uses an entry */
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
/* [co] Waits for requests of the fast path too. */
void qcow2_epoch_drain(struct qcow2 *q);
/* [co] Around each request of the outside. */
void qcow2_request_begin(struct qcow2 *q);
void qcow2_request_end(struct qcow2 *q);
/* [co] No request is under way between the two but those of the fast path that write in place or read. q->lock is not
 * held. */
void qcow2_exclusive_begin(struct qcow2 *q);
void qcow2_exclusive_end(struct qcow2 *q);

/* qcow2-refcount.c; q->lock held throughout */
uint64_t refcount_read(const void *block, unsigned order, uint64_t index);
void refcount_write(void *block, unsigned order, uint64_t index, uint64_t value);
static inline uint64_t refcount_max(unsigned order)
{
    return order == 6 ? UINT64_MAX : (1ull << (1u << order)) - 1;
}
int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *value);
int qcow2_refcount_add(struct qcow2 *q, uint64_t offset, uint64_t clusters, int delta);
/* -EINVAL: there is no block to count in, or it does not fit. */
int qcow2_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t value);
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

/* qcow2-header.c */
bool qcow2_header_read(struct qcow2 *q, struct error *err);
/* Fills the first cluster; false: it does not fit. */
bool qcow2_header_put(const struct qcow2_header *h, uint8_t *cluster);
void qcow2_header_of(const struct qcow2 *q, struct qcow2_header *h);
/* [co] Writes what changed in *q to the first cluster, between barriers. */
bool qcow2_header_update(struct qcow2 *q, struct error *err);
bool qcow2_bad(struct qcow2 *q, struct error *err, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
/* A table must be aligned and lie in the file. */
bool qcow2_table_ok(const struct qcow2 *q, uint64_t offset, uint64_t bytes);

static inline uint32_t be32_get(const void *p) { uint32_t v; memcpy(&v, p, 4); return GUINT32_FROM_BE(v); }
static inline uint64_t be64_get(const void *p) { uint64_t v; memcpy(&v, p, 8); return GUINT64_FROM_BE(v); }
static inline void be16_put(void *p, uint16_t v) { v = GUINT16_TO_BE(v); memcpy(p, &v, 2); }
static inline void be32_put(void *p, uint32_t v) { v = GUINT32_TO_BE(v); memcpy(p, &v, 4); }
static inline void be64_put(void *p, uint64_t v) { v = GUINT64_TO_BE(v); memcpy(p, &v, 8); }

/* qcow2-cluster.c */
enum qcow2_kind qcow2_kind(const struct qcow2 *q, uint64_t desc);
/* Of one subcluster; without extended L2 entries, of the cluster. */
enum qcow2_kind qcow2_sub_kind(const struct qcow2 *q, struct l2_entry v, unsigned sub);
void qcow2_compressed_range(const struct qcow2 *q, uint64_t desc, uint64_t *offset, uint64_t *bytes);
int qcow2_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);
int qcow2_block_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                       struct block_node **file);
struct block_node *qcow2_map_fast(struct block_node *n, struct block_fast *f);
int qcow2_l2_get(struct qcow2 *q, uint64_t off, struct meta_entry **out);
int qcow2_l2_writable(struct qcow2 *q, uint64_t off, struct meta_entry **out);
void qcow2_l1_set(struct qcow2 *q, uint64_t index, uint64_t entry);
struct qcow2_mapping { enum qcow2_kind kind; struct l2_entry entry; uint64_t host, bytes; unsigned epoch; };
/* [co] What lies at off: the run that one request may take, at most m->bytes. An epoch is begun. */
int qcow2_map(struct qcow2 *q, uint64_t off, struct qcow2_mapping *m);
/* [co] As qcow2_preadv(), within a request. */
int qcow2_read(struct qcow2 *q, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);
/* [co] Guest data in q->data, through the cipher where there is one. */
int qcow2_data_preadv(struct qcow2 *q, uint64_t host, uint64_t guest, uint64_t bytes, const struct iovec *iov, int niov);
int qcow2_data_pwritev(struct qcow2 *q, uint64_t host, uint64_t guest, uint64_t bytes, const struct iovec *iov, int niov);
/* Bytes of the guest, at most max, from off (in entry i) on that are of one kind, and in a row on the host. */
uint64_t qcow2_l2_run(const struct qcow2 *q, const struct meta_entry *e, uint64_t off, uint64_t max);
bool qcow2_host_in_file(const struct qcow2 *q, uint64_t host, uint64_t bytes);
/* Guest bytes from off to the end of its slice. */
uint64_t qcow2_slice_rest(const struct qcow2 *q, uint64_t off);
/* Where the machine's state begins: behind the disk, at an L2 table of its own. */
uint64_t qcow2_vmstate_start(const struct qcow2 *q);

/* qcow2-write.c */
int qcow2_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);
int qcow2_write(struct qcow2 *q, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);
int qcow2_discard(struct block_node *n, uint64_t off, uint64_t bytes);
int qcow2_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags);
enum qcow2_zero { QCOW2_ZERO_KEEP, QCOW2_ZERO_UNMAP, QCOW2_ZERO_EXPLICIT, QCOW2_ZERO_DISCARD, QCOW2_ZERO_FORGET };
/* [co] Whole clusters become zeroes: in their place, giving it back, as a discard; forgotten: as if never written. */
int qcow2_zero_clusters(struct qcow2 *q, uint64_t off, uint64_t bytes, enum qcow2_zero how);
struct qcow2_alloc *qcow2_alloc_find(struct qcow2 *q, uint64_t start, uint64_t end);

static inline bool qcow2_has_host(const struct qcow2 *q, uint64_t desc)
{
    return (desc & QCOW2_OFFSET_MASK) || (q->data_external && (desc & QCOW2_COPIED));
}
/* A place of guest data that lies over the image's own tables. */
static inline bool qcow2_data_overlaps(const struct qcow2 *q, uint64_t host, uint64_t bytes)
{
    return !q->data_external && qcow2_overlaps_metadata(q, host, bytes);
}
static inline unsigned qcow2_slice_entries(const struct qcow2 *q) { return q->l2.slice >> q->l2_shift; }
static inline unsigned qcow2_slice_index(const struct qcow2 *q, uint64_t off)
{
    return (off >> q->cluster_bits) & (qcow2_slice_entries(q) - 1);
}
static inline unsigned qcow2_sub_index(const struct qcow2 *q, uint64_t off)
{
    return (off & (q->cluster_size - 1)) >> q->sub_bits;
}
/* Place of the slice for guest offset off in its L2 table. */
static inline uint64_t qcow2_slice_offset(const struct qcow2 *q, uint64_t off)
{
    uint64_t index = (off >> q->cluster_bits) & ((1ull << q->l2_bits) - 1);

    return (index << q->l2_shift) & ~(uint64_t)(q->l2.slice - 1);
}
static inline struct l2_entry l2_load(const struct qcow2 *q, const void *table, unsigned i)
{
    const uint64_t *p = (const uint64_t *)table + ((size_t)i << (q->l2_shift - 3));

    return (struct l2_entry){ GUINT64_FROM_BE(p[0]), q->extended ? GUINT64_FROM_BE(p[1]) : 0 };
}
static inline void l2_put(const struct qcow2 *q, void *table, unsigned i, struct l2_entry v)
{
    uint64_t *p = (uint64_t *)table + ((size_t)i << (q->l2_shift - 3));

    p[0] = GUINT64_TO_BE(v.desc);
    if (q->extended)
        p[1] = GUINT64_TO_BE(v.bitmap);
}
static inline void l2_store(struct qcow2 *q, struct meta_entry *e, unsigned i, struct l2_entry v)
{
    l2_put(q, e->data, i, v);
    meta_dirty(&q->l2, e, i << q->l2_shift, 1u << q->l2_shift);
}
static inline uint64_t clusters_of(const struct qcow2 *q, uint64_t bytes)
{
    return (bytes >> q->cluster_bits) + ((bytes & (q->cluster_size - 1)) != 0);
}

/* qcow2-table.c: whole tables */
/* [co] Counts all that an L1 table (as in memory) refers to up or down by one, itself not; in an exclusive section.
 * clear: COPIED goes from the entries. On failure what was done is undone. */
int qcow2_tree_count(struct qcow2 *q, uint64_t *l1, uint32_t entries, int delta, bool clear);
/* [co] The COPIED flags of the active tables are made to fit the counts. bias: whose count is taken for one less
 * (a bit a cluster), or NULL. */
int qcow2_copied_update(struct qcow2 *q, const GByteArray *bias);
/* [co] Makes a new L1 table of `entries` the active one, with the size of the disk, in one write. *l1 is taken over. */
int qcow2_l1_switch(struct qcow2 *q, uint64_t **l1, uint32_t entries, uint64_t size);
int qcow2_l1_write(struct qcow2 *q, const uint64_t *l1, uint32_t entries, uint64_t *offset);
/* [co] All that lies behind `off` in the active tables is let go; in an exclusive section. */
int qcow2_forget_from(struct qcow2 *q, uint64_t off);
int qcow2_make_empty(struct block_node *n);
int qcow2_truncate(struct block_node *n, uint64_t size, struct error *err);

/* qcow2-snapshot.c */
bool qcow2_snapshots_read(struct qcow2 *q, struct error *err);
void qcow2_snapshots_free(struct qcow2 *q);
struct json_object *qcow2_snapshots(struct block_node *n);
bool qcow2_snapshot_create(struct block_node *n, const struct block_snapshot *s, struct error *err);
bool qcow2_snapshot_apply(struct block_node *n, const char *name, struct error *err);
bool qcow2_snapshot_delete(struct block_node *n, const char *name, struct error *err);
bool qcow2_snapshot_view(struct block_node *n, const char *name, struct error *err);
int qcow2_vmstate_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);
int qcow2_vmstate_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);

/* qcow2-compress.c */
int qcow2_pwrite_compressed(struct block_node *n, uint64_t off, const void *buf, uint64_t bytes);
bool qcow2_can_compress(struct block_node *n);
int qcow2_inflate(struct qcow2 *q, const void *in, uint64_t in_bytes, void *out);   /* [co] */

/* qcow2-bitmap.c: dirty bitmaps in the image */
bool qcow2_bitmaps_load(struct qcow2 *q, struct error *err);
bool qcow2_bitmaps_in_use(struct qcow2 *q, struct error *err);
bool qcow2_bitmaps_store(struct qcow2 *q, struct error *err);
bool qcow2_bitmap_can_store(struct block_node *n, const char *name, uint64_t granularity, struct error *err);
bool qcow2_bitmap_remove(struct block_node *n, const char *name, struct error *err);
struct json_object *qcow2_bitmaps_info(const struct qcow2 *q);
/* [co] Calls fn for each range of the file that they take. */
int qcow2_bitmaps_walk(struct qcow2 *q, bool (*fn)(void *arg, uint64_t offset, uint64_t bytes), void *arg);

/* qcow2-crypt.c: LUKS in the image */
/* [co] Options of open(): {"encrypt": {"key-secret": ID}}. */
bool qcow2_crypt_open(struct qcow2 *q, struct json_object *opts, struct error *err);
/* Create's options: bytes of the header, 0 with no *err: no encryption is asked for. */
uint64_t qcow2_crypt_plan(struct json_object *opts, struct error *err);
/* [co] Writes it to its place in the new file. */
bool qcow2_crypt_create(struct block_graph *g, struct block_node *file, uint64_t offset, uint64_t bytes,
                        struct json_object *opts, struct error *err);
/* [co] amend: keys added or erased. */
bool qcow2_crypt_amend(struct qcow2 *q, struct json_object *opts, bool force, struct error *err);
bool qcow2_crypt_amends(struct json_object *opts);
struct json_object *qcow2_crypt_info(const struct qcow2 *q);

/* qcow2-check.c */
bool qcow2_check(struct block_node *n, unsigned repair, struct block_check *out, struct error *err);

/* [co] New refcount blocks and table, of another width perhaps, as references are counted; in an exclusive section.
 * -EOVERFLOW: a count does not fit, and all is as it was. */
int qcow2_refcounts_rebuild(struct qcow2 *q, unsigned order);

/* qcow2-amend.c */
bool qcow2_amend(struct block_node *n, struct json_object *opts, bool force, block_progress_fn *progress, void *arg, struct error *err);
bool qcow2_measure(struct json_object *opts, struct block_node *source, struct block_measure *out, struct error *err);
extern const char *const qcow2_amend_options[];

/* qcow2-create.c */
bool qcow2_create(struct block_graph *outer, const char *filename, struct json_object *opts, struct error *err);
bool qcow2_preallocate_mode(struct block_node *n, uint64_t off, const char *mode, struct error *err);
extern const char *const qcow2_create_options[];

#endif
