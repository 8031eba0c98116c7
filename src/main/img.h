/* rhea-img: what its commands share. */
#ifndef RHEA_MAIN_IMG_H
#define RHEA_MAIN_IMG_H

#include <stdbool.h>
#include <json-c/json.h>
#include "rhea/base/options.h"
#include "rhea/block/node.h"

struct img {
    struct loop *loop;
    struct block_graph *graph;
    struct error err;
    /* options, by the letters of the command line */
    const char *format, *output_format, *backing, *backing_format, *cache, *source_cache, *repair, *aio;
    struct json_object *opts;           /* -o, several merged */
    bool json, quiet, progress, compress, no_create, force_share, image_opts, chain, strict, shrink;
    bool no_backing;                    /* the image alone: its backing file may be missing */
    bool write, random;
    uint64_t sparse;                    /* -S */
    uint64_t count, depth, size, step;  /* bench */
    int workers;
    char **args;
    int nargs;
};

struct block_node *img_open(struct img *c, const char *name, const char *format, bool write, const char *cache);
bool img_create_image(struct img *c, const char *name, const char *format, struct json_object *opts, uint64_t size,
                      bool has_size);
int img_convert(struct img *c);
int img_compare(struct img *c);
int img_bench(struct img *c);

#endif
