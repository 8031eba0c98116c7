/* The block layer's own view of a graph. */
#ifndef RHEA_BLOCK_GRAPH_H
#define RHEA_BLOCK_GRAPH_H

#include <glib.h>
#include <pthread.h>
#include "rhea/block/node.h"

struct block_inherit;
struct nbd_server;

struct block_graph {
    struct vm *vm;
    struct vm *objects;         /* whose secrets images may name: the machine, or a tool's bare struct vm for --object */
    struct loop *loop;
    GHashTable *nodes;          /* name -> struct block_node */
    GPtrArray *in_order;        /* the nodes, as they were opened */
    GPtrArray *backends;        /* of struct block_backend, in order of making */
    unsigned next_name;
    unsigned depth;             /* of node_open() calls: bounds backing chains */
    GPtrArray *opening;         /* file names of the images being opened, outermost first */
    atomic_uint draining;       /* block_drain() calls: limits on rates do not hold requests back */
    unsigned changing;          /* graph_quiesce() calls: no request is in flight, jobs wait with their next step */
    atomic_uint background;     /* copies that go on when the request that needed them was given up */
    unsigned fleecing;          /* filters whose copies and readers end before they close */
    GQueue deferred;            /* of struct graph_step: what jobs wait to do */
    GPtrArray *jobs;            /* of struct job, in order of making */
    unsigned next_job;
    bool lost;                  /* a node could not write all that it had when it was closed */
    bool repairing;             /* a corrupt image may be opened for writing: rhea-img check -r */
    GPtrArray *exports;         /* of struct block_export, or NULL */
    struct nbd_server *nbd_server;      /* NULL: none runs */
    struct block_inherit *inherit;      /* what a child being opened takes from its parent */
};

/* Cache mode and the like of a parent, where the child's options say nothing. */
struct block_inherit {
    bool direct, no_flush, read_only, auto_read_only, discard, force_share;
    const char *aio, *locking;  /* for the file at the end */
};

/* Sets *err: no driver has that name. */
bool block_driver_unknown(const char *name, struct error *err);

/* ---- hooks: a job that takes part in the requests on a node. Added and removed while the graph is quiet; the functions run
 * in the request's coroutine, on any thread. */
struct block_write {
    enum { WRITE_DATA, WRITE_ZEROES, WRITE_DISCARD } kind;
    uint64_t off, bytes;
    const struct iovec *iov;    /* WRITE_DATA */
    int niov;
    unsigned flags;
};
struct block_hook {
    /* Before a write; an error fails it. NULL: nothing to do. */
    int (*write_begin)(struct block_hook *h, const struct block_write *w);
    /* After it, however it ended; what the request returns. Called if write_begin() returned 0. */
    int (*write_end)(struct block_hook *h, const struct block_write *w, int ret);
    void (*read_begin)(struct block_hook *h, uint64_t off, uint64_t bytes);
    void (*read_end)(struct block_hook *h, uint64_t off, uint64_t bytes);
    struct block_hook *next;
};
void node_hook(struct block_node *n, struct block_hook *h);
void node_unhook(struct block_node *n, struct block_hook *h);

/* ---- changes of the graph (change.c), on the main loop, outside coroutines */
/* No request is in flight from here on, of devices, exports and jobs; nests. */
void graph_quiesce(struct block_graph *g);
void graph_resume(struct block_graph *g);
/* Brackets of what is in flight without being a request of a back end. Any thread. */
void graph_background_begin(struct block_graph *g);
void graph_background_end(struct block_graph *g);
/* fn(arg) from the main loop, when the graph is not being changed. */
void graph_defer(struct block_graph *g, void (*fn)(void *arg), void *arg);
/* Whether somebody is changing it: another command has to wait. */
bool graph_busy(struct block_graph *g, struct error *err);
/* An inactive node opens (active.c); the node of its name is another afterwards. False: it is as it was. */
bool node_activate(struct block_node *n, struct error *err);
bool node_is_active(const struct block_node *n, struct error *err);
/* All who use `from` (but `to` itself, and what `to` is made of) use `to`. Nothing has changed if it fails. */
bool graph_replace(struct block_graph *g, struct block_node *from, struct block_node *to, struct error *err);
/* The backing node of n (NULL: none); the image's header is left as it is. */
bool node_set_backing(struct block_node *n, struct block_node *backing, struct error *err);
bool node_supports_backing(const struct block_node *n);
/* The image above `n` in the chain of `top`, or NULL. */
struct block_node *chain_overlay(struct block_node *top, const struct block_node *n);
bool chain_contains(const struct block_node *top, const struct block_node *n);
/* Whether the node holds its file for writing. */
bool node_writes_file(const struct block_node *n);
/* The last writer has gone. */
void node_unwritten(struct block_node *n);
/* What a node shows without the filters on it. */
struct block_node *node_skip_filters(struct block_node *n);
/* The chain with its filters counted: is `n` below `top` by any edge? */
bool node_reaches(const struct block_node *top, const struct block_node *n);
/* Whether a copy-before-write filter has it as its disk or target, of which size and chain stay: an error then. */
bool node_kept(struct block_graph *g, const struct block_node *n, struct error *err);
/* Adds a child to a node (a quorum), or takes out the one of that role. */
bool block_change_child(struct block_graph *g, struct block_node *parent, const char *role, struct block_node *child, struct error *err);

/* ---- external snapshots (snapshot.c) */
/* Whether node may get an overlay; whether overlay may be it. */
bool snapshot_node_check(struct block_graph *g, struct block_node *node, struct error *err);
bool snapshot_overlay_check(struct block_graph *g, struct block_node *node, struct block_node *overlay, struct error *err);
/* All who use node use overlay, which node backs; undone again by the second. */
bool snapshot_overlay(struct block_graph *g, struct block_node *node, struct block_node *overlay, struct error *err);
void snapshot_overlay_undo(struct block_graph *g, struct block_node *node, struct block_node *overlay);
/* A new image (or one that is there) opened as a node of its own. The caller gets a reference. */
struct new_image {
    const char *filename, *format, *node_name;
    bool existing;
    uint64_t size;
    struct block_node *like;    /* whose cache mode and the like it takes */
    struct block_node *backing; /* named in the image, too; NULL: none */
    bool attach;                /* the backing node is attached; else none is */
};
bool block_reopen(struct block_graph *g, struct json_object *list, struct error *err);
struct block_node *block_new_image(struct block_graph *g, const struct new_image *i, struct error *err);

void backends_free(struct block_graph *g);
struct json_object *node_image_info(struct block_node *n);

#endif
