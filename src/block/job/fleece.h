/* Fleecing: a disk as it was at a moment. What is about to be overwritten is copied to a target first, once.
 *
 *   source (in use) ──before a write──> target       what `todo` has is read from the source, all else from the target
 *
 * Bits of `todo` only fall. Who copies a range has it alone; who reads there what the source still holds of the moment shares it, so
 * that it is not overwritten meanwhile. */
#ifndef RHEA_BLOCK_FLEECE_H
#define RHEA_BLOCK_FLEECE_H

#include "block/job/job.h"

struct fleece {
    struct block_node *source, *target;
    struct dirty_bitmap *todo;  /* in the source only, and wanted */
    struct range_lock lock;
    uint64_t cluster;           /* copies are of whole ones */
    unsigned flags;             /* of block_copy() */
    struct block_hook reader;   /* in the target, where the source is a backing image of it */
    bool hooked;
};

/* A good size of clusters: none of the target's is written in parts. */
uint64_t fleece_cluster(struct block_node *target);
/* min-cluster-size of opts (may be NULL). */
bool fleece_min_cluster(struct json_object *opts, uint64_t *bytes, struct error *err);
/* Nothing is to do at first. The target is not being read. */
bool fleece_open(struct fleece *f, struct block_node *source, struct block_node *target, uint64_t cluster, unsigned flags, struct error *err);
/* While the graph is quiet. */
void fleece_close(struct fleece *f);
/* Whether something of the range is still to be copied. Any thread, never waits. */
bool fleece_wants(const struct fleece *f, uint64_t off, uint64_t bytes);
/* [co] Copies what of the range is still to be. off is at a cluster's start, the end at another or the disk's. *read: which side failed. */
int fleece_copy(struct fleece *f, uint64_t off, uint64_t bytes, bool *read);
/* [co] The same for any range, that a guest is about to overwrite. */
int fleece_before_write(struct fleece *f, uint64_t off, uint64_t bytes);

#endif
