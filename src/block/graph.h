/* The block layer's own view of a graph. */
#ifndef RHEA_BLOCK_GRAPH_H
#define RHEA_BLOCK_GRAPH_H

#include <glib.h>
#include <pthread.h>
#include "rhea/block/node.h"

struct block_inherit;

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
    bool repairing;             /* a corrupt image may be opened for writing: rhea-img check -r */
    struct block_inherit *inherit;      /* what a child being opened takes from its parent */
};

/* Cache mode and the like of a parent, where the child's options say nothing. */
struct block_inherit {
    bool direct, no_flush, read_only, auto_read_only, discard, force_share;
    const char *aio, *locking;  /* for the file at the end */
};

void backends_free(struct block_graph *g);
struct json_object *node_image_info(struct block_node *n);

#endif
