/* What mirror and the commit of an active image share. */
#ifndef RHEA_BLOCK_JOB_MIRROR_H
#define RHEA_BLOCK_JOB_MIRROR_H

#include "block/job/job.h"

struct mirror_job {
    struct job job;
    struct block_hook hook;
    struct block_node *source, *target, *replaces;
    struct block_node *base;    /* sync=top: what lies here or below is not copied */
    struct block_backend *from, *to;
    struct dirty_bitmap *dirty; /* what the target does not have */
    struct range_lock lock;     /* write-blocking: the guest's writes share, copies are alone */
    struct copy_pool pool;
    enum job_sync sync;
    enum job_error_policy on_source_error, on_target_error;
    uint64_t in_flight, granularity, buf_size;
    unsigned flags;             /* of block_copy() */
    bool target_is_zero;        /* at the start */
    bool commit, write_blocking, complete, hooked, pivoted, target_was_read_only;
    atomic_int write_error;     /* of a guest's write to the target */
};

struct mirror_job *mirror_new(struct block_graph *g, const struct job_driver *drv, const struct job_options *o, const struct mirror_options *m,
                              struct error *err);
/* Takes hold of source and target; from then on writes are noted. False: the job is gone. */
bool mirror_begin(struct mirror_job *m, const struct job_options *o, struct error *err);

int mirror_run(struct job *job, struct error *err);
bool mirror_complete(struct job *job, struct error *err);
bool mirror_cancel_is_end(struct job *job);
bool mirror_prepare(struct job *job, struct error *err);
void mirror_clean(struct job *job);
void mirror_query(struct job *job, struct json_object *o);
void mirror_measure(struct job *job);

#endif
