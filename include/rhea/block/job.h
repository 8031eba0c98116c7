/* Jobs: long work that goes on beside the guest. A job is a coroutine on the graph's loop; it can be paused, slowed down and
 * cancelled, and ends in two steps: its work is done (waiting, pending), then its result is made to count (finalize) or thrown
 * away. Names of states and events are those of the control protocol.
 *
 *   created ─ running ──────────── waiting ─ pending ─ concluded ─ null
 *                │ └ ready ────────┘  │         │          │
 *             paused   └ standby      └─ aborting ─────────┘
 */
#ifndef RHEA_BLOCK_JOB_H
#define RHEA_BLOCK_JOB_H

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json.h>
#include "rhea/base/error.h"

struct block_graph;
struct block_node;
struct dirty_bitmap;
struct job;
struct job_txn;                 /* jobs that succeed or fail together */

enum job_status {
    JOB_UNDEFINED, JOB_CREATED, JOB_RUNNING, JOB_PAUSED, JOB_READY, JOB_STANDBY, JOB_WAITING, JOB_PENDING, JOB_ABORTING,
    JOB_CONCLUDED, JOB_NULL,
};
enum job_error_policy { JOB_ON_ERROR_REPORT, JOB_ON_ERROR_IGNORE, JOB_ON_ERROR_ENOSPC, JOB_ON_ERROR_STOP, JOB_ON_ERROR_AUTO };

struct job_options {
    const char *id;             /* NULL: default_id */
    const char *default_id;
    int64_t speed;              /* bytes a second; 0: as fast as it goes */
    bool manual_finalize, manual_dismiss;
    struct job_txn *txn;        /* or NULL */
    bool paused;                /* created, not started: job_start() comes later */
};

/* ---- what the control protocol does to jobs; all on the graph's loop */
struct job *job_find(struct block_graph *g, const char *id, struct error *err);
/* As job_find(), for the block-job-* commands: only jobs on disks, another class of error. */
struct job *job_find_block(struct block_graph *g, const char *id, struct error *err);
void job_start(struct job *j);
bool job_user_pause(struct job *j, struct error *err);
bool job_user_resume(struct job *j, struct error *err);
bool job_set_speed(struct job *j, int64_t speed, struct error *err);
/* A job that is ready ends where it stands without force (a mirror keeps its copy), all others are given up. */
bool job_user_cancel(struct job *j, bool force, struct error *err);
bool job_user_complete(struct job *j, struct error *err);
bool job_finalize(struct job *j, struct error *err);
bool job_dismiss(struct job *j, struct error *err);
struct json_object *jobs_query(struct block_graph *g, bool block);      /* query-jobs; query-block-jobs */
/* Whether a job works on the node: an error then. */
bool job_on_node(struct block_graph *g, const struct block_node *n, struct error *err);
unsigned jobs_references(struct block_graph *g, const struct block_node *n);
/* Gives up all jobs; returns when none is left. */
void jobs_end(struct block_graph *g);

struct job_txn *job_txn_new(void);
void job_txn_unref(struct job_txn *t);

/* ---- the jobs. Each returns the job, created and (unless o->paused) started, or NULL. */
struct job *job_create_image(struct block_graph *g, const struct job_options *o, struct json_object *options, struct error *err);

/* options: BlockdevAmendOptions. force: also what may lock the user out. */
struct job *job_amend(struct block_graph *g, const struct job_options *o, struct block_node *n, struct json_object *options, bool force, struct error *err);

struct stream_options {
    struct block_node *top, *base, *bottom;     /* base (excluded) or bottom (included) or neither: the whole chain */
    const char *backing_file;   /* to be written into top; NULL: base's name */
    enum job_error_policy on_error;
};
struct job *job_stream(struct block_graph *g, const struct job_options *o, const struct stream_options *s, struct error *err);

struct commit_options {
    struct block_node *active, *top, *base;     /* the image in use; what goes; where to. top == active: ready, then pivots */
    const char *backing_file;   /* to be written into the image above top; NULL: base's name */
    enum job_error_policy on_error;
};
struct job *job_commit(struct block_graph *g, const struct job_options *o, const struct commit_options *c, struct error *err);

/* What an image holds goes into its backing image at once, and the image is emptied; the guest waits meanwhile. */
bool block_commit_now(struct block_graph *g, struct block_node *n, struct error *err);

enum job_sync { JOB_SYNC_TOP, JOB_SYNC_FULL, JOB_SYNC_NONE, JOB_SYNC_INCREMENTAL, JOB_SYNC_BITMAP };
struct mirror_options {
    struct block_node *source, *target;
    struct block_node *replaces;        /* NULL: source */
    enum job_sync sync;
    bool write_blocking, no_unmap;
    bool target_is_zero;        /* full: zeroes of the source need not be written */
    uint64_t granularity;       /* 0: default */
    uint64_t buf_size;          /* bytes being copied at a time, at least one granule; 0: default */
    enum job_error_policy on_source_error, on_target_error;
};
struct job *job_mirror(struct block_graph *g, const struct job_options *o, const struct mirror_options *m, struct error *err);
/* From now on the guest's writes go to both sides. j: any job. */
bool job_mirror_block_writes(struct job *j, struct error *err);

enum job_bitmap_mode { JOB_BITMAP_ON_SUCCESS, JOB_BITMAP_NEVER, JOB_BITMAP_ALWAYS };
struct backup_options {
    struct block_node *source, *target;
    enum job_sync sync;
    struct dirty_bitmap *bitmap;        /* or NULL */
    enum job_bitmap_mode bitmap_mode;
    bool compress, break_snapshot;      /* break_snapshot: an error of the target fails the job, not the guest's write */
    bool discard_source;        /* what was copied is discarded: nobody else may write to the source */
    unsigned workers;
    uint64_t min_cluster;       /* what is copied at least, a power of two; 0: as the target has it */
    enum job_error_policy on_source_error, on_target_error;
};
struct job *job_backup(struct block_graph *g, const struct job_options *o, const struct backup_options *b, struct error *err);

#endif
