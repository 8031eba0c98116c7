/* The block graph: named nodes, each run by a driver, with edges to children (file: where the bytes lie; backing:
 * what shows through where nothing was written).
 *
 * Functions marked [co] run in a coroutine. A request stays in the thread that submitted it; nodes belong to no
 * thread: whatever a node shares between requests it guards with coroutine locks. The graph itself is changed on the
 * graph's (main) loop only, with the nodes concerned drained. */
#ifndef RHEA_BLOCK_NODE_H
#define RHEA_BLOCK_NODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include <json-c/json.h>
#include "rhea/base/coroutine.h"
#include "rhea/base/error.h"
#include "rhea/base/loop.h"
#include "rhea/block/block.h"

struct aio_req;
struct block_driver;
struct block_graph;
struct dirty_bitmap;
struct vm;

/* What a node asks of the requests it is given (0: no limit, or nothing known). */
struct block_limits {
    uint32_t align;             /* offset and length; 1: any byte */
    uint32_t mem_align;         /* of buffers; 1: any */
    uint32_t max_transfer;
    uint32_t discard_align;     /* whole units of this are given back to the host */
    uint32_t opt_transfer;
};

enum detect_zeroes { DETECT_ZEROES_OFF, DETECT_ZEROES_ON, DETECT_ZEROES_UNMAP };

struct block_node {
    const struct block_driver *drv;
    struct block_graph *graph;
    void *state;                /* drv->size bytes */
    char *name;                 /* node-name; "#blockNNN" where the user gave none */
    char *filename;             /* as the user knows it; "" where there is none */
    struct json_object *opts;   /* as it was opened */
    struct block_node *file, *backing;
    unsigned refs;              /* parents, back ends and the user's own hold (blockdev-add) */
    unsigned writers, readers;  /* holds: writers exclude all others but their own parent's (share-rw apart) */
    unsigned job_writers;       /* of the writers: jobs, whose target others may read */
    struct block_hook *_Atomic hooks;           /* block/graph.h: a job looks at requests */
    bool explicit_name, user_owned;
    bool inactive;              /* a name and options only, see active.c; cannot be held */
    bool opening;               /* no child for anybody yet */
    bool read_only, auto_read_only, force_share;
    bool direct, no_flush;      /* cache.direct, cache.no-flush */
    bool discard;               /* discard=unmap */
    bool zero_past_end;         /* bytes never written read as zero: a regular file */
    bool encrypted;
    bool probed_raw;            /* format guessed as raw: a guest must not write another format's magic to sector 0 */
    bool keyless;               /* encrypted, and opened without the key: it can be looked at, not read */
    enum detect_zeroes detect_zeroes;
    _Atomic uint64_t size;
    _Atomic uint64_t wr_highest;
    struct block_limits limits;
    struct dirty_bitmap *_Atomic bitmaps;       /* block/bitmap.h */
    struct co_rwlock rmw;       /* align > 1: aligned writes share it, a read-modify-write has it alone */
    _Atomic uint64_t write_threshold;   /* a write beyond it is told once; 0: none */
};

/* ---- drivers */
enum block_driver_kind { DRIVER_PROTOCOL, DRIVER_FORMAT, DRIVER_FILTER };
/* What hold a node has on its file: for reading or writing as it was opened; for writing only while somebody writes to the node
 * (it can be added over a disk in use); none, which leaves all to the node below. */
enum file_hold { FILE_HELD, FILE_HELD_IN_USE, FILE_REFERRED };

/* Status of a range (block_status). No bit: not here, ask the backing node. */
enum {
    STATUS_DATA = 1,            /* the file holds bytes for it */
    STATUS_ZERO = 2,            /* reads as zeroes */
    STATUS_ALLOCATED = 4,       /* decided by this node, not by its backing */
    STATUS_OFFSET = 8,          /* *map is its place in `file` */
    STATUS_COMPRESSED = 16,
};

/* A request that needs no coroutine: what map_fast() of each layer leaves is given to submit() of the last. */
struct block_fast {
    bool write;
    uint64_t offset, bytes;
    void (*end)(void *arg);     /* to call when the request is done (any one layer's), or NULL */
    void *end_arg;
};

/* An internal snapshot to be made, or one that was found. */
struct block_snapshot {
    const char *name;
    uint64_t vm_state_size;     /* bytes written with vmstate() before */
    uint64_t date_sec;          /* since the epoch */
    uint32_t date_nsec;
    uint64_t clock_ns;          /* how long the guest has run */
    uint64_t icount;            /* UINT64_MAX: not counted */
};

/* What an image of a disk would take of its file. */
struct block_measure { uint64_t required, fully_allocated, bitmaps; bool has_bitmaps; };

typedef void block_progress_fn(void *opaque, uint64_t done, uint64_t all);

enum { BLOCK_FIX_LEAKS = 1, BLOCK_FIX_ERRORS = 2 };
struct block_check {
    uint64_t errors, leaks, errors_fixed, leaks_fixed, check_errors;
    uint64_t total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters, end_offset;
};

struct block_driver {
    const char *name;
    const char *summary;
    enum block_driver_kind kind;
    size_t size;
    const char *scheme;         /* "null-co://": file names that mean this driver */
    /* Where a name says more than one option can (or NULL): options of the node. */
    struct json_object *(*name_options)(const char *filename, struct error *err);
    bool one_connection;        /* a file that is opened twice at a time may be refused, or gone after the first */
    const char *const *options; /* its own, NULL-terminated, beside the common ones */
    const char *const *create_options;
    bool growable;              /* writes past the end extend it */
    enum file_hold file_hold;
    bool file_stays;            /* a filter that knows things of its file: no other node can take its place */
    bool fresh_noise;           /* what was never written of a new image does not read as zeroes (encryption of a whole disk) */
    /* How sure it is (0 to 100) that an image that starts with these bytes is its own. */
    int (*probe)(const uint8_t *buf, size_t len, const char *filename);
    bool (*open)(struct block_node *n, struct json_object *opts, struct error *err);    /* [co] */
    void (*close)(struct block_node *n);                                                /* [co] */
    /* [co] An open node becomes read-only (what it keeps in memory is stored) or writable; its file is held for writing in
     * both cases. NULL: a node that was opened read-only stays so. */
    bool (*reopen)(struct block_node *n, bool read_only, struct error *err);
    /* write: a parent begins to need it. Locks are taken here. Not write: a first reader, or the last writer is gone (which cannot
     * be refused). */
    bool (*set_writable)(struct block_node *n, bool write, struct error *err);
    int (*preadv)(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);       /* [co] */
    int (*pwritev)(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);      /* [co] */
    int (*pwrite_compressed)(struct block_node *n, uint64_t off, const void *buf, uint64_t bytes);              /* [co] */
    bool (*needs_compressed)(struct block_node *n);     /* each block is best written once, whole: it is compressed */
    bool (*can_compress)(struct block_node *n);         /* this image takes pwrite_compressed(), also over what was written before */
    int (*flush)(struct block_node *n);                                                 /* [co] to stable storage */
    int (*flush_cache)(struct block_node *n);           /* [co] its own metadata to its file, no barrier */
    int (*discard)(struct block_node *n, uint64_t off, uint64_t bytes);                 /* [co] -ENOTSUP: cannot */
    /* [co] The host copies, from another node of the driver. -ENOTSUP: it cannot, read and write. */
    int (*copy_range)(struct block_node *n, uint64_t off, struct block_node *from, uint64_t from_off, uint64_t bytes);
    int (*write_zeroes)(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags);    /* [co] -ENOTSUP */
    /* [co] For [off, off + bytes): the status of its first *n_bytes. */
    int (*block_status)(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                        struct block_node **file);
    int (*truncate)(struct block_node *n, uint64_t size, struct error *err);            /* [co] */
    int (*preallocate)(struct block_node *n, uint64_t off, uint64_t bytes);     /* [co] room for it; contents stay */
    /* [co] After the disk grew by [off, size): as create's preallocation=mode for that part ("metadata", "falloc", "full"). */
    bool (*preallocate_mode)(struct block_node *n, uint64_t off, const char *mode, struct error *err);
    int64_t (*allocated_size)(struct block_node *n);
    /* The node that has the bytes, f->offset adjusted; NULL: take the slow path. Must not block or yield. */
    struct block_node *(*map_fast)(struct block_node *n, struct block_fast *f);
    /* Protocols: starts r (fd, file offset and so on filled from r->off, iov); false: take the slow path. */
    bool (*submit)(struct block_node *n, struct aio_req *r);
    struct json_object *(*info)(struct block_node *n);          /* format-specific, or NULL */
    struct json_object *(*snapshots)(struct block_node *n);     /* list, or NULL */
    /* Internal snapshots, by name or id; all [co]. view: a read-only node shows the snapshot from now on. */
    bool (*snapshot_create)(struct block_node *n, const struct block_snapshot *s, struct error *err);
    bool (*snapshot_apply)(struct block_node *n, const char *name, struct error *err);
    bool (*snapshot_delete)(struct block_node *n, const char *name, struct error *err);
    bool (*snapshot_view)(struct block_node *n, const char *name, struct error *err);
    /* [co] The machine's state beside the disk, which the next snapshot takes in. */
    int (*vmstate_preadv)(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);
    int (*vmstate_pwritev)(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);
    /* Dirty bitmaps in the image: whether one more can be kept; [co] removes the stored form. */
    bool (*bitmap_can_store)(struct block_node *n, const char *name, uint64_t granularity, struct error *err);
    bool (*bitmap_remove)(struct block_node *n, const char *name, struct error *err);
    uint32_t (*cluster_size)(struct block_node *n);
    char *(*backing_filename)(struct block_node *n, char **format);     /* as written in the image; caller frees */
    /* [co] g: where other nodes (a backing file) and secrets are found. */
    bool (*create)(struct block_graph *g, const char *filename, struct json_object *opts, struct error *err);
    /* [co] Nothing is allocated any more: the backing image shows through everywhere. */
    int (*make_empty)(struct block_node *n);
    /* [co] Writes another name into the image (NULL: none); the graph stays as it is. */
    bool (*change_backing)(struct block_node *n, const char *filename, const char *format, struct error *err);
    /* Children beside file and backing, NULL behind the last; one more, one less while no request is in flight. */
    struct block_node *(*child)(struct block_node *n, unsigned i);
    bool (*child_add)(struct block_node *n, struct block_node *child, struct error *err);
    bool (*child_remove)(struct block_node *n, const char *role, struct error *err);
    const char *const *amend_options;
    /* [co] force: also what may make the image unreadable (the last key). */
    bool (*amend)(struct block_node *n, struct json_object *opts, bool force, block_progress_fn *progress, void *arg, struct error *err);
    /* [co] Of a new image with create's options for a disk of opts' size, or that holds what `source` (may be NULL) does. */
    bool (*measure)(struct json_object *opts, struct block_node *source, struct block_measure *out, struct error *err);
    /* [co] repair: bits of BLOCK_FIX_*. */
    bool (*check)(struct block_node *n, unsigned repair, struct block_check *out, struct error *err);
};

#define BLOCK_DRIVER_(id)                                                                       \
    static const struct block_driver id;                                                        \
    static const struct block_driver *const BLOCK_CONCAT(id, _ptr)                              \
        __attribute__((section("rhea_block_drivers"), used)) = &id;                             \
    static const struct block_driver id
#define BLOCK_CONCAT_(a, b) a##b
#define BLOCK_CONCAT(a, b) BLOCK_CONCAT_(a, b)
#define BLOCK_DRIVER BLOCK_DRIVER_(BLOCK_CONCAT(block_driver_, __COUNTER__))
const struct block_driver *block_driver_find(const char *name);
const struct block_driver *const *block_drivers(unsigned *count);

/* ---- the graph */
struct block_graph *block_graph_new(struct vm *vm, struct loop *loop);  /* vm may be NULL (tools) */
void block_graph_free(struct block_graph *g);
struct block_graph *block_graph_of(struct vm *vm);                      /* made at the first use */
struct block_node *node_find(struct block_graph *g, const char *name);
/* Runs fn(arg) in a coroutine of the calling thread's loop (or the graph's) and waits for its end, stepping the loop;
 * directly when in a coroutine already. */
void block_run(struct block_graph *g, void (*fn)(void *arg), void *arg);

/* Opens a tree of nodes from nested options ({"driver":..., "file":{...}}); the caller gets one reference. */
struct block_node *node_open(struct block_graph *g, struct json_object *opts, struct error *err);
/* From a file name (or "json:{...}", "nbd://..."). format NULL: probed. opts: more options of the top node, or NULL. */
struct block_node *node_open_file(struct block_graph *g, const char *filename, const char *format,
                                  struct json_object *opts, struct error *err);
void node_ref(struct block_node *n);
void node_unref(struct block_node *n);
/* Holds for reading or writing: locks the host's file, refuses a second writer. */
bool node_hold(struct block_node *n, bool write, bool share, struct error *err);
void node_release(struct block_node *n, bool write);
/* Makes an open node, and the file below it, read-only or writable. Main loop, no request in flight. */
bool node_set_read_only(struct block_node *n, bool read_only, struct error *err);
bool node_reopen_plain(struct block_node *n, bool read_only, struct error *err);        /* a driver that keeps nothing */
/* For drivers' open(): the child from opts[role], or NULL with *err. */
struct block_node *node_open_child(struct block_node *parent, struct json_object *opts, const char *role,
                                   struct error *err);
struct block_node *node_open_backing(struct block_node *parent, struct json_object *opts, const char *filename,
                                     const char *format, struct error *err);
/* A name in an image made absolute: relative ones start at the image's directory. Caller frees. */
char *block_resolve(const char *image, const char *name);
bool block_create(struct block_graph *g, const char *filename, const char *format, struct json_object *opts,
                  struct error *err);
/* [co] A new file by the protocol that the name means, opts as create's. What no protocol can make (a device, an NBD export)
 * must be there, large enough; its first sector is emptied. */
bool block_create_file(struct block_graph *g, const char *filename, struct json_object *opts, struct error *err);
/* What serves a path of the host: "file", or "host_device". A child with a file name and no driver is that. */
const char *block_file_driver(const char *filename);
/* Options of the protocol node that a name means. */
struct json_object *block_file_options(const char *filename, struct error *err);
int node_depth(const struct block_node *n);

/* ---- I/O on nodes, all [co]; 0 or -errno */
int node_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);
int node_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags);
int node_pread(struct block_node *n, uint64_t off, void *buf, uint64_t bytes);
int node_pwrite(struct block_node *n, uint64_t off, const void *buf, uint64_t bytes);
int node_pwrite_compressed(struct block_node *n, uint64_t off, const void *buf, uint64_t bytes);
int node_flush(struct block_node *n);
int node_discard(struct block_node *n, uint64_t off, uint64_t bytes);
/* The host copies, without data passing through here. -ENOTSUP: it cannot do that for all of the range; then some of it may have
 * been copied. For nodes that nobody else uses: no job is told. */
int node_copy_range(struct block_node *n, uint64_t off, struct block_node *from, uint64_t from_off, uint64_t bytes);
int node_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags);
int node_block_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                      struct block_node **file);
/* As node_block_status(), down the backing chain until some node decides; *depth: how far. holes: data of a format that
 * lies in a hole of its file counts as zeroes. */
int node_status_above(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                      struct block_node **file, int *depth, bool holes);
int node_truncate(struct block_node *n, uint64_t size, struct error *err);
/* After that: room on the host for all from there on, as preallocation=mode says. */
bool node_preallocate(struct block_node *n, uint64_t from, const char *mode, struct error *err);
void *node_buffer(struct block_node *n, uint64_t bytes);        /* aligned for n; free() */

/* ---- vectors */
uint64_t iov_bytes(const struct iovec *iov, int niov);
/* The part [skip, skip + bytes) of iov, in dst (at most niov entries). Returns its count. */
int iov_slice(struct iovec *dst, const struct iovec *iov, int niov, uint64_t skip, uint64_t bytes);
void iov_read(const struct iovec *iov, int niov, uint64_t skip, void *buf, uint64_t bytes);
void iov_write(const struct iovec *iov, int niov, uint64_t skip, const void *buf, uint64_t bytes);
void iov_zero(const struct iovec *iov, int niov, uint64_t skip, uint64_t bytes);
bool buffer_is_zero(const void *buf, uint64_t bytes);

#endif
