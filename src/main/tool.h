/* What the programs for disk images share. */
#ifndef RHEA_MAIN_TOOL_H
#define RHEA_MAIN_TOOL_H

#include <stdbool.h>
#include <json-c/json.h>
#include "rhea/block/node.h"

/* Adds a cache mode's options of a node: none, writeback, writethrough, directsync, unsafe. */
bool tool_cache(struct json_object *opts, const char *mode, struct error *err);
/* --image-opts: driver=qcow2,file.filename=...; format: where they name none, or NULL. more: options that hold where
 * `text` does not say otherwise. */
struct block_node *tool_open_by_options(struct block_graph *g, const char *text, const char *format, struct json_object *more,
                                        struct error *err);
/* Whether data can be read: an encrypted image that was opened without its key only tells what it is. */
bool tool_readable(const struct block_node *n, struct error *err);
/* What GOption made of a command line; NULL stands for what was not given. */
void tool_options_free(char *const *texts, unsigned ntexts, char **const *lists, unsigned nlists);

/* --version: by the name it was called by, and with the version that clients look for in it. */
void tool_print_version(void);

#endif
