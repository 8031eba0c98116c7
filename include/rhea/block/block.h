/* The block layer as its users (devices, jobs, exports, tools) see it. Nodes and drivers: block/node.h.
 *
 * A request stays in the thread (loop) that submitted it; `done` runs there, perhaps before the submitting call
 * returns. Any loop thread may submit; a request from another thread runs in the back end's loop. */
#ifndef RHEA_BLOCK_BLOCK_H
#define RHEA_BLOCK_BLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include <json-c/json.h>
#include "rhea/base/error.h"
#include "rhea/base/loop.h"

struct vm;
struct device;
struct block_node;
struct block_backend;           /* a device's (or job's) hold on a node: permissions, error policy, statistics */

enum { BLOCK_FUA = 1, BLOCK_MAY_UNMAP = 2, BLOCK_NO_FALLBACK = 4,
       BLOCK_EXPLICIT = 16,     /* zeroes are noted in the image even where nothing shows through: it may get a backing image */
       BLOCK_UNCHANGED = 8 };   /* what the disk shows stays as it is (data moves up from a backing image): nobody is told */
typedef void block_done_fn(void *opaque, int ret);      /* 0, or -errno */

struct block_info {             /* what a guest may be told */
    uint64_t size;              /* bytes */
    uint32_t request_align, opt_transfer, max_transfer, discard_align, max_discard, max_write_zeroes;
    uint32_t logical_block, physical_block;
    bool read_only, can_discard, can_write_zeroes, write_cache, rotational;
};

/* -drive: id or node name -> a backend for dev. write: asks for write permission (refused for read-only nodes unless
 * the caller then offers a read-only disk). share: others may write, too (share-rw=on). Errors name the file and the cause. */
struct block_backend *block_backend_attach(struct vm *vm, const char *drive, struct device *dev, bool write, bool share, struct error *err);
void block_backend_detach(struct block_backend *b);     /* drains first */
/* Another node as the same disk, while the guest uses it: of the same size, with the same hold. Nothing has changed if it fails.
 * Main loop, without the device's lock. */
bool block_backend_change(struct block_backend *b, const char *node_name, struct error *err);
void block_backend_info(struct block_backend *b, struct block_info *out);
void block_backend_set_loop(struct block_backend *b, struct loop *loop);        /* default thread for completions */
/* Told when size or medium changes (resize, eject). */
void block_backend_on_change(struct block_backend *b, void (*fn)(void *opaque), void *opaque);
void block_readv(struct block_backend *b, uint64_t off, const struct iovec *iov, int niov, unsigned flags, block_done_fn *done, void *opaque);
void block_writev(struct block_backend *b, uint64_t off, const struct iovec *iov, int niov, unsigned flags, block_done_fn *done, void *opaque);
void block_flush(struct block_backend *b, block_done_fn *done, void *opaque);
void block_discard(struct block_backend *b, uint64_t off, uint64_t len, block_done_fn *done, void *opaque);
void block_write_zeroes(struct block_backend *b, uint64_t off, uint64_t len, unsigned flags, block_done_fn *done, void *opaque);
void block_drain(struct block_backend *b);      /* returns when no request is in flight */
/* What an error of the host does by rerror/werror: true: report it to the guest; false: the machine was stopped and
 * the device must retry the request when it goes on. */
bool block_backend_set_policy(struct block_backend *b, const char *rerror, const char *werror, struct error *err); /* NULL: as it is */
bool block_error_report(struct block_backend *b, bool write, int err);

/* Command line and QMP */
bool block_add_drive(struct vm *vm, struct json_object *opts, struct error *err);       /* -drive, flat options */
bool block_add_node(struct vm *vm, struct json_object *opts, struct error *err);        /* -blockdev, blockdev-add (nested) */
bool block_del_node(struct vm *vm, const char *node_name, struct error *err);
/* blockdev-set-active; node_name NULL: all. Main loop. */
bool block_set_active(struct vm *vm, const char *node_name, bool active, struct error *err);
/* drive_del: the drive is gone; a device that has it has no medium any more. */
bool block_del_drive(struct vm *vm, const char *id, struct error *err);
/* block_resize: by device or node name; devices on it are told. Main loop. */
bool block_resize(struct vm *vm, const char *name, uint64_t size, struct error *err);
void block_flush_all(struct vm *vm);    /* drains, then flushes: when the machine stops */
void block_close_all(struct vm *vm);
/* Drives that -drive if=IFACE left for the board: calls fn for each, in order of bus, unit. */
enum block_if { IF_NONE, IF_IDE, IF_SCSI, IF_FLOPPY, IF_PFLASH, IF_MTD, IF_SD, IF_VIRTIO, IF_XEN };
void block_foreach_drive(struct vm *vm, enum block_if iface, void (*fn)(struct vm *vm, const char *drive, struct json_object *opts, void *opaque), void *opaque);
struct json_object *block_query(struct vm *vm);                 /* query-block */
struct json_object *block_query_nodes(struct vm *vm, bool flat);        /* query-named-block-nodes */
struct json_object *block_query_stats(struct vm *vm, bool nodes);       /* query-blockstats */
struct json_object *block_query_graph(struct vm *vm);                   /* x-debug-query-block-graph */
/* Texts for people; caller frees. Three digits and a unit; the disks' internal snapshots; the lines of a list of them. */
char *block_size_text(uint64_t bytes);
char *block_snapshots_text(struct vm *vm);
char *snapshots_table(struct json_object *list);
/* Which snapshot of n is meant, as its driver takes it; NULL: none or *err. Caller frees. By name alone, since names may look like
 * others' ids; by what -l was given: a name, an id, "snapshot.id=..,snapshot.name=..". */
char *snapshot_named(struct block_node *n, const char *name);
char *snapshot_chosen(struct block_node *n, const char *text, struct error *err);
char *block_probe_format(const char *filename, struct error *err);      /* "raw", "qcow2", ...; caller frees */

#endif
