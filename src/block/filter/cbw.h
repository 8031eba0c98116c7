/* What a copy-before-write filter knows of its disk's moment, for those that read it. All [co], on a node of that driver. */
#ifndef RHEA_BLOCK_CBW_H
#define RHEA_BLOCK_CBW_H

#include "rhea/block/node.h"

bool node_is_cbw(const struct block_node *n);
uint64_t cbw_cluster(const struct block_node *n);
/* -EACCES: the range is not all of the moment that is kept, or the moment is lost. */
int cbw_moment_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);
int cbw_moment_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map, struct block_node **file);
/* Whole clusters that nobody will ask for again: they are copied no more, and go from the target. */
int cbw_moment_discard(struct block_node *n, uint64_t off, uint64_t bytes);

#endif
