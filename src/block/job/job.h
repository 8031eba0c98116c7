/* What jobs are made of. */
#ifndef RHEA_BLOCK_JOB_INTERNAL_H
#define RHEA_BLOCK_JOB_INTERNAL_H

#include "block/backend.h"
#include "rhea/block/bitmap.h"
#include "rhea/block/job.h"

struct job_driver {
    const char *type;           /* JobType */
    size_t size;                /* of the structure that starts with struct job */
    bool block;                 /* works on a disk: BLOCK_JOB_* events, query-block-jobs */
    /* [co] The work. 0, or -errno with perhaps a better text in err. Sees to job_pause_point(), job_cancelled(). */
    int (*run)(struct job *j, struct error *err);
    bool (*complete)(struct job *j, struct error *err);         /* a job that is ready: end. NULL: never ready */
    bool (*cancel_is_end)(struct job *j);       /* whether a cancel without force is an end in good order just now */
    /* These run on the loop outside coroutines, after run(): prepare of all jobs of a transaction, then commit of all, or
     * abort of all; clean in any case. */
    bool (*prepare)(struct job *j, struct error *err);
    void (*commit)(struct job *j);
    void (*abort)(struct job *j);
    void (*clean)(struct job *j);
    void (*query)(struct job *j, struct json_object *o);
    void (*measure)(struct job *j);     /* sets progress, total before somebody looks */
};

struct job {
    const struct job_driver *drv;
    struct block_graph *graph;
    char *id;
    enum job_status status;
    unsigned refs;
    bool auto_finalize, auto_dismiss;
    bool started, cancelled, force_cancelled, user_paused, done, in_run, finalizing;
    bool busy;
    unsigned pause_count;
    int64_t speed, rate_next_ns;
    int ret;
    struct error err;
    uint64_t progress, total;   /* bytes, or what the job counts in */
    enum { JOB_IO_OK, JOB_IO_FAILED, JOB_IO_NOSPACE } io_status;
    struct coroutine *co;
    bool waiting;               /* co has yielded in job_wait() */
    struct loop_timer *timer;
    struct job_txn *txn;
    GPtrArray *nodes;           /* of struct block_node, referenced: nobody else may change them */
};

void *job_new(struct block_graph *g, const struct job_driver *drv, const struct job_options *o, struct error *err);
/* A job that was never started goes away. */
void job_discard(struct job *j);
void job_use_node(struct job *j, struct block_node *n);
void job_drop_nodes(struct job *j);

/* ---- [co], for run() */
bool job_cancelled(const struct job *j);        /* to be given up now */
void job_pause_point(struct job *j);
void job_wait(struct job *j);                   /* until job_wake(); may come back early */
void job_wake(struct job *j);
void job_sleep(struct job *j, int64_t ns);      /* less when something happens to the job */
/* Waits as the speed asks after that many bytes. */
void job_rate(struct job *j, uint64_t bytes);
uint64_t job_rate_chunk(const struct job *j, uint64_t max);     /* the most to move at once */
void job_ready(struct job *j);                  /* from running to ready */
/* fn(j, err) on the loop outside coroutines, while nothing else changes the graph. */
bool job_step(struct job *j, bool (*fn)(struct job *j, struct error *err), struct error *err);
/* What an error of the host does. Retry: the job was paused meanwhile. */
enum job_error_answer { JOB_FAIL, JOB_RETRY, JOB_SKIP };
enum job_error_answer job_error(struct job *j, enum job_error_policy policy, bool read, int err);

/* ---- copying (copy.c) */
/* Ranges that are being worked on, and those that wait for them, in order of arrival; any thread. Who holds one takes no second. */
struct range_lock { struct co_mutex mutex; struct co_queue queue; GQueue ranges; };
void range_lock_init(struct range_lock *l);
/* [co] Waits until no other holds a part of it (of those that share: until nobody holds it alone). */
void range_lock(struct range_lock *l, uint64_t off, uint64_t bytes, bool shared);
void range_unlock(struct range_lock *l, uint64_t off, uint64_t bytes, bool shared);

enum { COPY_CHUNK = 1 << 20 };
/* SKIP_ZERO: what the target has as zeroes by itself is not written again (it will not get a backing image later). */
enum { COPY_UNMAP = 1, COPY_COMPRESS = 2, COPY_UNCHANGED = 4, COPY_SKIP_ZERO = 8 };
/* [co] What src shows of a range, in dst; zeroes stay zeroes. At most COPY_CHUNK is copied at once. *read: which side failed. */
int block_copy(struct block_node *src, struct block_node *dst, uint64_t off, uint64_t bytes, unsigned flags, bool *read);
/* [co] Whether a range of `top` is decided above `base` (NULL: by any image of the chain): 1, 0 or -errno; for its first *n bytes. */
int chain_allocated(struct block_node *top, struct block_node *base, uint64_t off, uint64_t bytes, uint64_t *n);

/* A pool of coroutines that work beside the job's own. */
struct copy_pool { struct job *job; unsigned running, max; int ret; bool read; };
void copy_pool_init(struct copy_pool *p, struct job *j, unsigned max);
/* [co] Starts fn(arg) when there is room for it; fn ends with copy_pool_done(). */
void copy_pool_start(struct copy_pool *p, void (*fn)(void *arg), void *arg);
void copy_pool_done(struct copy_pool *p, int ret, bool read);
/* [co] Waits until none runs; the first error since the last call. */
int copy_pool_wait(struct copy_pool *p, bool *read);

#endif
