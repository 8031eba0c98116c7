/* rhea-img: what its commands share. */
#ifndef RHEA_MAIN_IMG_H
#define RHEA_MAIN_IMG_H

#include <stdbool.h>
#include <json-c/json.h>
#include "rhea/base/options.h"
#include "rhea/block/node.h"

enum { EXIT_BAD = 1, EXIT_CORRUPT = 2, EXIT_LEAKS = 3, EXIT_UNSUPPORTED = 63 };

struct img {
    struct loop *loop;
    struct block_graph *graph;
    struct error err;
    /* options of the command line */
    const char *format, *output_format, *backing, *backing_format, *cache, *source_cache, *repair, *aio, *snapshot,
        *output, *preallocation, *base, *source_file, *source_format;
    struct json_object *opts;           /* -o, several merged */
    GPtrArray *objects;                 /* --object: struct json_object */
    bool json, quiet, progress, compress, no_create, force_share, image_opts, target_image_opts, chain, strict, shrink,
        write, random, unsafe, salvage, target_is_zero, bitmaps, skip_broken_bitmaps, drop, force, no_drain, native,
        copy_range, out_of_order;
    bool no_backing;                    /* the image alone: its backing file may be missing */
    uint64_t sparse;                    /* -S */
    uint64_t rate;                      /* -r: bytes a second, 0: no limit */
    uint64_t count, depth, size, step, offset, flush_interval, pattern; /* bench */
    uint64_t start, length;             /* map */
    uint64_t granularity;
    bool has_size, has_start, has_length;
    uint64_t workers;
    GArray *actions;                    /* of struct img_action: what snapshot and bitmap are to do, in order */
    char **args;
    int nargs;
};

struct img_action { int what; const char *arg; };

struct img_option {
    int letter;                 /* of the short form; 0: none */
    const char *name;           /* of the long form; NULL: none */
    const char *arg;            /* what its argument is called; NULL: takes none */
    const char *help;
    enum { OPT_FLAG, OPT_TEXT, OPT_SIZE, OPT_MERGE, OPT_OBJECT, OPT_ACTION, OPT_JSON } kind;
    size_t at;                  /* place in struct img; OPT_ACTION: the code */
    uint64_t max;               /* OPT_SIZE */
    const char *alias;          /* another long form; NULL: none */
};

struct img_command {
    const char *name, *args, *summary, *details;
    int (*run)(struct img *c);
    const struct img_option *options;   /* ends with one without help */
    int min_args, max_args;
};

/* img.c */
int img_fail(struct img *c, int code);
struct block_node *img_open(struct img *c, const char *name, const char *format, bool write, const char *cache);
/* One whose contents are wanted. */
struct block_node *img_open_source(struct img *c, const char *name, const char *format, const char *cache);
bool img_create_image(struct img *c, const char *name, const char *format, struct json_object *opts, uint64_t size,
                      bool has_size);
void img_print_json(struct json_object *o);
/* A line on a terminal, on SIGUSR1, or with -p. */
void img_progress(struct img *c, uint64_t done, uint64_t all);
void img_progress_end(struct img *c);
/* [co] Sleeps as -r demands, `bytes` having been moved. */
void img_rate_limit(struct img *c, uint64_t bytes);

/* A driver's function called in a coroutine: fn(n, arg). */
struct img_call { struct img *c; struct block_node *n; void *arg; int ret; bool ok; };
bool img_call(struct img *c, struct block_node *n, void (*fn)(void *call), void *arg);

/* img-workers.c */
/* Runs fn(arg) in `count` coroutines and returns when all have ended. threads: half of them on a second thread, if the host
 * has a core for it. */
void img_workers(struct img *c, unsigned count, bool threads, void (*fn)(void *arg), void *arg);
/* Requests on n end in files of the host: what they cost is copying. */
bool img_on_host(const struct block_node *n);

/* With -l, n shows that snapshot from now on. */
bool img_view_snapshot(struct img *c, struct block_node *n);

bool img_copy_bitmaps(struct img *c, struct block_node *from, struct block_node *to);

/* img-options.c: -o help, -o '?' */
bool img_wants_options(const struct img *c);
void img_list_options(const char *format, const char *const *names);

int img_info(struct img *c);
int img_check(struct img *c);
int img_map(struct img *c);
int img_measure(struct img *c);
int img_snapshot(struct img *c);
int img_bitmap(struct img *c);
int img_create(struct img *c);
int img_resize(struct img *c);
int img_amend(struct img *c);
int img_commit(struct img *c);
int img_rebase(struct img *c);
int img_convert(struct img *c);
int img_dd(struct img *c);
int img_compare(struct img *c);
int img_bench(struct img *c);

#endif
