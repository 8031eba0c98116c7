/* A back end: what a device, a job or a tool holds of a node. */
#ifndef RHEA_BLOCK_BACKEND_H
#define RHEA_BLOCK_BACKEND_H

#include "block/aio.h"
#include "block/graph.h"
#include "block/histogram.h"

enum block_op { OP_READ, OP_WRITE, OP_FLUSH, OP_DISCARD, OP_ZEROES, OP_COUNT };

/* Counted from any thread. */
struct op_stats {
    atomic_uint_fast64_t bytes, operations, time_ns, failed, invalid;
};

enum latency_kind { LATENCY_READ, LATENCY_WRITE, LATENCY_ZONE_APPEND, LATENCY_FLUSH, LATENCY_COUNT };

enum error_policy { POLICY_REPORT, POLICY_IGNORE, POLICY_STOP, POLICY_ENOSPC };

struct block_backend {
    struct block_graph *graph;
    char *name;                 /* of -drive id=, "" for a device's own hold on a node */
    struct block_node *root;    /* NULL: no medium */
    struct device *dev;
    bool held, held_write;
    bool drive;                 /* made by -drive: stays when the device goes */
    bool removable, tray_open, locked;
    bool writeback;
    bool share;                 /* others may write too: the drive's word, or its device's for as long as it has it */
    bool device_shares;
    bool job;                   /* a job's: graph_replace() leaves it */
    enum block_if iface;
    int bus, unit;
    struct json_object *opts;
    enum error_policy rerror, werror;
    enum { IO_OK, IO_FAILED, IO_NOSPACE } io_status;
    struct loop *loop;
    void (*on_change)(void *opaque);
    void *on_change_arg;

    atomic_uint in_flight;
    atomic_uint quiesced;       /* requests wait in `waiting` */
    GMutex lock;                /* guards waiting */
    struct block_req *waiting, *waiting_tail;
    struct loop *_Atomic drainer;
    struct throttle_group *throttle;    /* or NULL; changes while quiet */
    struct co_queue resumed;    /* jobs' requests that wait for the end of a drain */
    struct op_stats stats[OP_COUNT];
    struct histogram *latency[LATENCY_COUNT];   /* or NULL; change while quiet */
    atomic_uint_fast64_t last_access_ns;
};

struct block_backend *backend_new(struct block_graph *g, const char *name, struct block_node *root);
void backend_free(struct block_backend *b);
/* Whether some device has the node for itself. */
bool backend_claims(const struct block_graph *g, const struct block_node *n);
/* No medium any more, or another one; quiet. The device is not told. */
void backend_eject(struct block_backend *b);
bool backend_insert(struct block_backend *b, struct block_node *root, struct error *err);
/* Another node as the root, with the same hold; quiet. False: it is as it was. */
bool backend_move(struct block_backend *b, struct block_node *to, struct error *err);
struct block_backend *backend_find(struct block_graph *g, const char *name);
void backend_quiesce(struct block_backend *b);  /* no new requests start; returns when none is in flight */
void backend_resume(struct block_backend *b);
void backend_put(struct block_backend *b);      /* one less in flight, from any thread */
/* [co], main loop: brackets of a request that a job makes on b->root by itself. */
void backend_co_enter(struct block_backend *b);
void backend_co_enter_both(struct block_backend *a, struct block_backend *b);
void backend_co_exit(struct block_backend *b);
/* For jobs. exclusive: nobody else may write. */
struct block_backend *backend_open_job(struct block_graph *g, struct block_node *root, bool write, bool exclusive, struct error *err);
void backends_running(void *graph, bool running);
char *backend_qdev(const struct block_backend *b);      /* as query-block names its device; caller frees */
/* By the drive's name, or by a device's id or path. */
struct block_backend *backend_lookup(struct block_graph *g, const char *device, const char *id, struct error *err);
/* The node that a device's or node's name means. */
struct block_node *block_lookup(struct block_graph *g, const char *name, struct error *err);
void backends_on_node(struct block_graph *g, const struct block_node *n, void (*fn)(struct block_backend *b));
void backends_changed(struct block_graph *g, const struct block_node *n);
/* For tools: a back end without a device. */
struct block_backend *backend_open(struct block_graph *g, struct block_node *root, bool write, struct error *err);

/* A temporary qcow2 overlay over base, whose reference it takes. */
struct block_node *node_overlay(struct block_graph *g, struct block_node *base, const char *node_name, struct error *err);
/* A copy-on-read filter over n, whose reference it takes. */
struct block_node *node_copy_on_read(struct block_graph *g, struct block_node *n, struct error *err);

#endif
