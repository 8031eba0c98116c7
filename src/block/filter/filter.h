/* What filters share: nodes that show what their `file` child shows. */
#ifndef RHEA_BLOCK_FILTER_H
#define RHEA_BLOCK_FILTER_H

#include <glib.h>
#include "rhea/block/node.h"

/* [co] The child by opts[role] becomes n->file, its size and limits n's. */
bool filter_open(struct block_node *n, struct json_object *opts, const char *role, struct error *err);
/* [co] Holds another child; given back by filter_child_close(). */
struct block_node *filter_child(struct block_node *n, struct json_object *opts, const char *role, struct error *err);
void filter_child_close(struct block_node *n, struct block_node *child);

int filter_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);
int filter_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);
int filter_discard(struct block_node *n, uint64_t off, uint64_t bytes);
int filter_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags);
/* As the whole chain below shows it. */
int filter_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                  struct block_node **file);
int filter_truncate(struct block_node *n, uint64_t size, struct error *err);
int64_t filter_allocated_size(struct block_node *n);

#endif
