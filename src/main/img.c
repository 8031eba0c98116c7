/* rhea-img: makes, looks at, checks, converts and changes disk images, by qemu-img's command line. */
#include "main/img.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "block/graph.h"
#include "main/tool.h"
#include "rhea/vm/object.h"
#include "rhea/vm/vm.h"

int img_fail(struct img *c, int code)
{
    error_report(&c->err);
    return code;
}

/* ---- opening */

/* A new image is written with the key, and the header, that it was created with. */
static void add_key_secrets(struct img *c, struct json_object *opts)
{
    const char *key = option_str(c->opts, "key-secret", NULL), *encrypt = option_str(c->opts, "encrypt.key-secret", NULL),
               *header = option_str(c->opts, "header", NULL);
    struct json_object *o;

    if (key)
        json_object_object_add(opts, "key-secret", json_object_new_string(key));
    if (key && header) {        /* of luks */
        o = json_object_new_object();
        json_object_object_add(o, "filename", json_object_new_string(header));
        json_object_object_add(opts, "header", o);
    }
    if (!encrypt)
        return;
    o = json_object_new_object();
    json_object_object_add(o, "key-secret", json_object_new_string(encrypt));
    json_object_object_add(opts, "encrypt", o);
}

struct block_node *img_open(struct img *c, const char *name, const char *format, bool write, const char *cache)
{
    struct block_inherit in = { .aio = c->aio ? c->aio : c->native ? "native" : NULL };
    struct json_object *opts;
    struct block_node *n = NULL;

    opts = json_object_new_object();
    if (!tool_cache(opts, cache ? cache : "writeback", &c->err)) {
        json_object_put(opts);
        return NULL;
    }
    json_object_object_add(opts, "read-only", json_object_new_boolean(!write));
    if (c->force_share && !write)
        json_object_object_add(opts, "force-share", json_object_new_boolean(true));
    if (write)
        json_object_object_add(opts, "discard", json_object_new_string("unmap"));
    if (c->no_backing)
        json_object_object_add(opts, "backing", NULL);
    if (write)
        add_key_secrets(c, opts);
    if (c->image_opts) {
        n = tool_open_by_options(c->graph, name, c->format, opts, &c->err);
    } else {
        c->graph->inherit = &in;
        n = node_open_file(c->graph, name, format, opts, &c->err);
        c->graph->inherit = NULL;
    }
    json_object_put(opts);
    return n;
}

struct block_node *img_open_source(struct img *c, const char *name, const char *format, const char *cache)
{
    struct block_node *n = img_open(c, name, format, false, cache);

    if (n && tool_readable(n, &c->err))
        return n;
    node_unref(n);
    return NULL;
}

bool img_call(struct img *c, struct block_node *n, void (*fn)(void *call), void *arg)
{
    struct img_call call = { .c = c, .n = n, .arg = arg, .ok = true };

    block_run(c->graph, fn, &call);
    return call.ok;
}

/* ---- what commands tell */

void img_print_json(struct json_object *o)
{
    g_autofree char *text = g_utf8_make_valid(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE), -1);

    printf("%s\n", text);      /* JSON is UTF-8, names of files need not be */
}

static volatile sig_atomic_t progress_asked;

static void on_usr1(int signal)
{
    progress_asked = 1;
}

void img_progress(struct img *c, uint64_t done, uint64_t all)
{
    static int last = -1;
    double percent = all ? done * 100.0 / all : 100;

    if (progress_asked) {
        progress_asked = 0;
        fprintf(stderr, "    (%3.2f/100%%)\n", percent);
    }
    if (!c->progress || (int)(percent * 10) == last)
        return;
    last = percent * 10;
    if (isatty(STDOUT_FILENO)) {
        static const char full[] = "##################################################", none[] = "..................................................";
        int n = percent / 2;

        printf("\r  [%.*s%.*s] %6.2f%%", n, full, 50 - n, none, percent);
    } else {
        printf("    (%3.2f/100%%)\r", percent);
    }
    fflush(stdout);
}

void img_progress_end(struct img *c)
{
    if (!c->progress)
        return;
    img_progress(c, 1, 1);
    printf(isatty(STDOUT_FILENO) ? "\n" : "    (100.00/100%%)\n");
}

/* One second's worth may go at once. */
void img_rate_limit(struct img *c, uint64_t bytes)
{
    static int64_t free_at;
    int64_t now = host_clock_ns();

    if (!c->rate)
        return;
    free_at = MAX(free_at, now - 100000000) + (int64_t)(bytes * 1e9 / c->rate);
    if (free_at > now)
        coroutine_sleep_ns(free_at - now);
}

/* ---- the command line */

#define AT(field) offsetof(struct img, field)
#define FORMAT { 'f', "format", "FMT", "format of the image; guessed where it is not given", OPT_TEXT, AT(format) }
#define IMAGE_OPTS { 0, "image-opts", NULL, "FILE is a list of options: driver=qcow2,file.filename=disk", OPT_FLAG, AT(image_opts) }
#define OBJECTS { 0, "object", "OPTIONS", "an object that options refer to: secret,id=sec0,file=key", OPT_OBJECT, 0 }
#define QUIET { 'q', "quiet", NULL, "say nothing but errors", OPT_FLAG, AT(quiet) }
#define PROGRESS { 'p', "progress", NULL, "show how far it is (SIGUSR1 asks too)", OPT_FLAG, AT(progress) }
#define CACHE(what) { 't', "cache", "CACHE", what, OPT_TEXT, AT(cache) }
#define SOURCE_CACHE(name) { 'T', name, "CACHE", "cache mode for what is read", OPT_TEXT, AT(source_cache) }
#define SHARE { 'U', "force-share", NULL, "read without locking, even if a machine writes to it", OPT_FLAG, AT(force_share) }
#define OUTPUT { 0, "output", "json|human", "how to print it", OPT_JSON, 0 }
#define CREATE_OPTIONS(name, ...) \
    { 'o', name, "OPTIONS", "options of the format: cluster_size=2M,...; -o help lists them", OPT_MERGE, 0, __VA_ARGS__ }
#define END { 0 }

static const struct img_option amend_options[] = {
    FORMAT, { 'o', "options", "OPTIONS", "what to change: compat=1.1,refcount_bits=8,...", OPT_MERGE, 0 }, PROGRESS, QUIET,
    CACHE("cache mode"), { 0, "force", NULL, "allow what may lock you out", OPT_FLAG, AT(force) }, IMAGE_OPTS, OBJECTS, END };
static const struct img_option bench_options[] = {
    { 'c', "count", "COUNT", "requests in all (75000)", OPT_SIZE, AT(count), INT32_MAX },
    { 'd', "depth", "DEPTH", "requests at a time (64)", OPT_SIZE, AT(depth), 1024 }, FORMAT,
    { 0, "flush-interval", "N", "flush after each N writes", OPT_SIZE, AT(flush_interval), INT32_MAX },
    { 'i', "aio", "AIO", "threads, native or io_uring", OPT_TEXT, AT(aio) },
    { 'n', "native", NULL, "as -i native", OPT_FLAG, AT(native) },
    { 0, "no-drain", NULL, "do not wait for flushes", OPT_FLAG, AT(no_drain) },
    { 'o', "offset", "OFFSET", "where to begin", OPT_SIZE, AT(offset), INT64_MAX },
    { 0, "pattern", "BYTE", "what to write", OPT_SIZE, AT(pattern), 255 }, QUIET,
    { 's', "buffer-size", "SIZE", "bytes of a request (4096)", OPT_SIZE, AT(size), 1 << 30 },
    { 'S', "step-size", "STEP", "from one request to the next (SIZE)", OPT_SIZE, AT(step), INT64_MAX },
    { 0, "random", NULL, "at random, not in steps", OPT_FLAG, AT(random) }, CACHE("cache mode (writeback)"),
    { 'w', "write", NULL, "write (the image's contents are lost)", OPT_FLAG, AT(write) }, SHARE, IMAGE_OPTS, OBJECTS, END };
static const struct img_option bitmap_options[] = {
    { 0, "add", NULL, "make it", OPT_ACTION, 'a' }, { 0, "remove", NULL, "delete it", OPT_ACTION, 'r' },
    { 0, "clear", NULL, "forget what it notes", OPT_ACTION, 'c' }, { 0, "enable", NULL, "note writes from now on", OPT_ACTION, 'e' },
    { 0, "disable", NULL, "note writes no more", OPT_ACTION, 'd' },
    { 0, "merge", "SOURCE", "take in what bitmap SOURCE notes", OPT_ACTION, 'm' },
    { 'b', "source-file", "FILE", "SOURCE is in this image", OPT_TEXT, AT(source_file) },
    { 'F', "source-format", "FMT", "format of FILE", OPT_TEXT, AT(source_format) },
    { 'g', "granularity", "SIZE", "granularity of a new one", OPT_SIZE, AT(granularity), 1ull << 31 }, FORMAT, IMAGE_OPTS, OBJECTS, END };
static const struct img_option check_options[] = {
    FORMAT, QUIET, OUTPUT, { 'r', "repair", "leaks|all", "mend it", OPT_TEXT, AT(repair) }, SOURCE_CACHE("cache"), SHARE, IMAGE_OPTS, OBJECTS, END };
static const struct img_option commit_options[] = {
    FORMAT, { 'b', "base", "BASE", "commit down to this image of the chain, not only to the next", OPT_TEXT, AT(base) },
    { 'd', "drop", NULL, "do not empty the image afterwards", OPT_FLAG, AT(drop) },
    { 'r', "rate", "RATE", "bytes a second at most", OPT_SIZE, AT(rate), INT64_MAX }, PROGRESS, QUIET,
    CACHE("cache mode"), IMAGE_OPTS, OBJECTS, END };
static const struct img_option compare_options[] = {
    { 'f', "a-format", "FMT", "format of the first; guessed where it is not given", OPT_TEXT, AT(format) },
    { 'F', "b-format", "FMT", "format of the second", OPT_TEXT, AT(backing_format) }, PROGRESS, QUIET,
    { 's', "strict", NULL, "sizes must be the same, and what is allocated too", OPT_FLAG, AT(strict) }, SOURCE_CACHE("cache"), SHARE,
    IMAGE_OPTS, OBJECTS, END };
static const struct img_option convert_options[] = {
    { 'f', "source-format", "FMT", "format of the source; guessed where it is not given", OPT_TEXT, AT(format) },
    { 'O', "target-format", "FMT", "format of the output (raw)", OPT_TEXT, AT(output_format), .alias = "output-format" },
    CREATE_OPTIONS("target-options", .alias = "options"),
    { 'c', "compress", NULL, "compress", OPT_FLAG, AT(compress) }, PROGRESS, QUIET,
    { 'n', "no-create", NULL, "the output exists: write into it", OPT_FLAG, AT(no_create) },
    { 0, "target-is-zero", NULL, "with -n: it reads as zeroes", OPT_FLAG, AT(target_is_zero) },
    { 'B', "backing", "FILE", "backing file of the output: what is only in the source's is left out", OPT_TEXT, AT(backing) },
    { 'F', "backing-format", "FMT", "its format", OPT_TEXT, AT(backing_format) },
    { 'l', "source-snapshot", "SNAPSHOT", "convert an internal snapshot, by name, or snapshot.id=..,snapshot.name=..", OPT_TEXT,
      AT(snapshot), .alias = "snapshot" },
    { 'S', "sparse-size", "SIZE", "zeroes of at least so many bytes are left out (4k); 0: none", OPT_SIZE, AT(sparse), 1 << 30 },
    { 'm', "parallel", "N", "requests at a time (8; 4 where the page cache has the files)", OPT_SIZE, AT(workers), 16 },
    { 'W', "oob-writes", NULL, "writes need not be in order", OPT_FLAG, AT(out_of_order) },
    { 'r', "rate", "RATE", "bytes a second at most", OPT_SIZE, AT(rate), INT64_MAX },
    { 'C', "copy-range-offloading", NULL, "let the file system copy, where it can", OPT_FLAG, AT(copy_range) },
    { 0, "salvage", NULL, "what cannot be read is zeroes", OPT_FLAG, AT(salvage) },
    { 0, "bitmaps", NULL, "copy persistent bitmaps of the source", OPT_FLAG, AT(bitmaps) },
    { 0, "skip-broken-bitmaps", NULL, "with --bitmaps: leave out what is inconsistent", OPT_FLAG, AT(skip_broken_bitmaps) },
    { 't', "target-cache", "CACHE", "cache mode of the output (unsafe)", OPT_TEXT, AT(cache), .alias = "cache" },
    SOURCE_CACHE("source-cache"), SHARE, IMAGE_OPTS,
    { 0, "target-image-opts", NULL, "OUTPUT is a list of options", OPT_FLAG, AT(target_image_opts) }, OBJECTS, END };
static const struct img_option create_options[] = {
    { 'f', "format", "FMT", "format of the image (raw)", OPT_TEXT, AT(format) }, CREATE_OPTIONS("options"),
    { 'b', "backing", "FILE", "backing file: what shows where nothing was written", OPT_TEXT, AT(backing) },
    { 'F', "backing-format", "FMT", "its format", OPT_TEXT, AT(backing_format) },
    { 'u', "backing-unsafe", NULL, "the backing file need not be there", OPT_FLAG, AT(unsafe) }, QUIET, OBJECTS, END };
static const struct img_option dd_options[] = {
    FORMAT, { 'O', "output-format", "FMT", "format of the output (raw)", OPT_TEXT, AT(output_format) }, SHARE, IMAGE_OPTS, OBJECTS, END };
static const struct img_option info_options[] = {
    FORMAT, OUTPUT, { 'b', "backing-chain", NULL, "all images below it too", OPT_FLAG, AT(chain) }, SOURCE_CACHE(NULL), CACHE("cache mode"),
    SHARE, IMAGE_OPTS, OBJECTS, END };
static const struct img_option map_options[] = {
    FORMAT, OUTPUT, { 's', "start-offset", "OFFSET", "from here on", OPT_SIZE, AT(start), INT64_MAX },
    { 'l', "max-length", "SIZE", "so many bytes", OPT_SIZE, AT(length), INT64_MAX }, SHARE, IMAGE_OPTS, OBJECTS, END };
static const struct img_option measure_options[] = {
    FORMAT, { 'O', "target-format", "FMT", "format of the image that is to be made (raw)", OPT_TEXT, AT(output_format) }, CREATE_OPTIONS("options"),
    { 's', "size", "SIZE", "of a disk of this size, instead of FILE", OPT_SIZE, AT(size), INT64_MAX }, OUTPUT,
    { 'l', "snapshot", "SNAPSHOT", "of an internal snapshot of FILE", OPT_TEXT, AT(snapshot) }, SHARE, IMAGE_OPTS, OBJECTS, END };
static const struct img_option rebase_options[] = {
    FORMAT, { 'b', "backing", "FILE", "the new backing file; '': none", OPT_TEXT, AT(backing) },
    { 'F', "backing-format", "FMT", "its format", OPT_TEXT, AT(backing_format) },
    { 'u', "backing-unsafe", NULL, "write the name only: the contents must be the same", OPT_FLAG, AT(unsafe) },
    { 'c', "compress", NULL, "compress what is copied", OPT_FLAG, AT(compress) }, PROGRESS, QUIET, CACHE("cache mode"), SOURCE_CACHE("backing-cache"),
    SHARE, IMAGE_OPTS, OBJECTS, END };
static const struct img_option resize_options[] = {
    FORMAT, { 0, "shrink", NULL, "the end may be lost", OPT_FLAG, AT(shrink) },
    { 0, "preallocation", "MODE", "of the new part: off, metadata, falloc, full", OPT_TEXT, AT(preallocation) }, QUIET,
    IMAGE_OPTS, OBJECTS, END };
static const struct img_option snapshot_options[] = {
    { 'l', "list", NULL, "list them", OPT_ACTION, 'l' }, { 'c', "create", "NAME", "make one", OPT_ACTION, 'c' },
    { 'a', "apply", "NAME", "go back to one", OPT_ACTION, 'a' }, { 'd', "delete", "NAME", "delete one", OPT_ACTION, 'd' }, FORMAT, QUIET,
    SHARE, IMAGE_OPTS, OBJECTS, END };

static const struct img_command commands[] = {
    { "amend", "FILE", "changes options of an image in place", NULL, img_amend, amend_options, 1, 1 },
    { "bench", "FILE", "measures reading or writing", NULL, img_bench, bench_options, 1, 1 },
    { "bitmap", "FILE NAME", "makes and changes persistent dirty bitmaps", NULL, img_bitmap, bitmap_options, 2, 2 },
    { "check", "FILE", "tells whether an image is sound", "Exit status: 0 sound, 1 failed, 2 corrupt, 3 leaks, 63 no check for this format",
      img_check, check_options, 1, 1 },
    { "commit", "FILE", "writes what an image holds into its backing file", NULL, img_commit, commit_options, 1, 1 },
    { "compare", "FILE1 FILE2", "tells whether two images hold the same", "Exit status: 0 same, 1 different, 2 failed", img_compare,
      compare_options, 2, 2 },
    { "convert", "FILE... OUTPUT", "copies images into another format", NULL, img_convert, convert_options, 2, INT32_MAX },
    { "create", "FILE [SIZE]", "makes an empty image", "SIZE may be left out with a backing file: as large as that", img_create,
      create_options, 1, 2 },
    { "dd", "if=FILE of=OUTPUT [bs=SIZE] [count=N] [skip=N]", "copies a part of an image", NULL, img_dd, dd_options, 0, INT32_MAX },
    { "info", "FILE", "tells what an image is", NULL, img_info, info_options, 1, 1 },
    { "map", "FILE", "tells where the data of an image lies", NULL, img_map, map_options, 1, 1 },
    { "measure", "[FILE]", "tells how large a new image would be", NULL, img_measure, measure_options, 0, 1 },
    { "rebase", "FILE", "gives an image another backing file", NULL, img_rebase, rebase_options, 1, 1 },
    { "resize", "FILE [+-]SIZE", "makes a disk larger or smaller", NULL, img_resize, resize_options, 2, 2 },
    { "snapshot", "FILE", "makes, lists, deletes internal snapshots, or goes back to one", NULL, img_snapshot, snapshot_options, 1, 1 },
};

static void usage(void)
{
    g_autoptr(GString) formats = g_string_new(NULL);
    unsigned count;
    const struct block_driver *const *d = block_drivers(&count);

    for (unsigned i = 0; i < count; i++)
        if (d[i]->kind == DRIVER_FORMAT)
            g_string_append_printf(formats, " %s", d[i]->name);
    printf("usage: rhea-img COMMAND [OPTIONS] FILE...\n       rhea-img COMMAND --help\nMakes, checks, converts and changes disk images.\n\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++)
        printf("  %-10s %s\n", commands[i].name, commands[i].summary);
    printf("\nSizes take the suffixes K, M, G, T, P, E.\nSupported formats:%s\n", formats->str);
}

static void usage_command(const struct img_command *cmd)
{
    printf("usage: rhea-img %s [OPTIONS] %s\n%c%s.\n\n", cmd->name, cmd->args, g_ascii_toupper(*cmd->summary), cmd->summary + 1);
    for (const struct img_option *o = cmd->options; o->help; o++) {
        char letter[4] = { '-', o->letter, 0 };
        g_autofree char *text =
            g_strdup_printf("%s%s%s%s%s%s", o->letter ? letter : "    ", o->letter && o->name ? ", " : "", o->name ? "--" : "",
                            o->name ? o->name : "", o->arg ? (o->name ? "=" : " ") : "", o->arg ? o->arg : "");

        printf("  %-30s %s%s%s%s\n", text, o->help, o->alias ? " (or --" : "", o->alias ? o->alias : "", o->alias ? ")" : "");
    }
    if (cmd->details)
        printf("\n%s.\n", cmd->details);
}

static bool option_merge(struct img *c, const char *text)
{
    struct json_object *o = options_parse(text, NULL, &c->err);

    if (!o)
        return false;
    json_object_object_foreach(o, key, v)
        json_object_object_add(c->opts, key, json_object_get(v));
    json_object_put(o);
    return true;
}

static bool take_output(struct img *c, const char *text)
{
    c->json = !strcmp(text, "json");
    return c->json || !strcmp(text, "human") ||
           error_setf(&c->err, ERR_GENERIC, "--output is human or json", "unknown output format '%s'", text);
}

static bool take_size(struct img *c, const struct img_option *o, const char *text)
{
    uint64_t *at = (uint64_t *)((char *)c + o->at);

    if (!parse_size(text, 1, at, &c->err))
        return false;
    c->has_size |= at == &c->size;
    c->has_start |= at == &c->start;
    c->has_length |= at == &c->length;
    return *at <= o->max || error_setf(&c->err, ERR_GENERIC, NULL, "--%s takes %" PRIu64 " at most, not '%s'", o->name, o->max, text);
}

static bool take(struct img *c, const struct img_option *o, const char *text)
{
    struct img_action action = { o->at, text };
    struct json_object *object;

    switch (o->kind) {
    case OPT_FLAG: *(bool *)((char *)c + o->at) = true; return true;
    case OPT_TEXT: *(const char **)((char *)c + o->at) = text; return true;
    case OPT_SIZE: return take_size(c, o, text);
    case OPT_MERGE: return option_merge(c, text);
    case OPT_JSON: return take_output(c, text);
    case OPT_ACTION: g_array_append_val(c->actions, action); return true;
    default:
        object = options_parse(text, "qom-type", &c->err);
        if (object)
            g_ptr_array_add(c->objects, object);
        return object != NULL;
    }
}

static const struct img_option *option_by(const struct img_command *cmd, int code)
{
    for (const struct img_option *o = cmd->options; o->help; o++)
        if ((code < 256 && o->letter == code) || (code >= 256 && o - cmd->options == code - 256))
            return o;
    return NULL;
}

enum { CODE_HELP = 1 << 16 };

/* "resize FILE -1G": a size at the end is no option. */
static char *take_last_size(const struct img_command *cmd, int *argc, char **argv)
{
    char *last = argv[*argc - 1];

    if (cmd->run != img_resize || *argc < 4 || *last != '-' || !g_ascii_isdigit(last[1]))
        return NULL;
    --*argc;
    return last;
}

/* -o help with a format and no file. 1: it was not asked for; 0: listed; -1: *err. */
static int list_options(struct img *c, const struct img_command *cmd)
{
    const char *format = option_by(cmd, 'O') ? c->output_format : c->format;
    const struct block_driver *drv = block_driver_find(format ? format : "raw");
    bool amend = cmd->run == img_amend;

    if (!img_wants_options(c) || (amend && !format))
        return 1;
    if (!drv)
        return block_driver_unknown(format, &c->err) ? 0 : -1;
    if (!(amend ? drv->amend_options : drv->create_options))
        return error_setf(&c->err, ERR_GENERIC, NULL, "images of format '%s' cannot be %s", drv->name, amend ? "amended" : "created") ? 0 : -1;
    img_list_options(drv->name, amend ? drv->amend_options : drv->create_options);
    return 0;
}

static bool right_count(struct img *c, const struct img_command *cmd)
{
    if (c->nargs < cmd->min_args || c->nargs > cmd->max_args)
        error_setf(&c->err, ERR_GENERIC, NULL, "%s takes %s", cmd->name, cmd->args);
    return !error_is_set(&c->err);
}

/* 1: go on; 0: help was asked for, and given; -1: *err. */
static int parse(struct img *c, const struct img_command *cmd, int argc, char **argv)
{
    g_autoptr(GArray) longs = g_array_new(TRUE, TRUE, sizeof(struct option));
    g_autoptr(GString) letters = g_string_new(":h");
    struct option help = { "help", no_argument, NULL, CODE_HELP };
    char *size = take_last_size(cmd, &argc, argv);
    int code;

    g_array_append_val(longs, help);
    for (const struct img_option *o = cmd->options; o->help; o++) {
        struct option l = { o->name, o->arg ? required_argument : no_argument, NULL, 256 + (o - cmd->options) };

        if (o->name)
            g_array_append_val(longs, l);
        l.name = o->alias;
        if (l.name)
            g_array_append_val(longs, l);
        if (o->letter)
            g_string_append_printf(letters, "%c%s", o->letter, o->arg ? ":" : "");
    }
    optind = 2;
    while ((code = getopt_long(argc, argv, letters->str, (struct option *)longs->data, NULL)) != -1) {
        if (code == 'h' || code == CODE_HELP) {
            usage_command(cmd);
            return 0;
        }
        if (code == ':' || code == '?') {
            char letter[3] = { '-', optopt, 0 };        /* words may stand in another order now */
            bool is_short = code == '?' && optopt > 0 && optopt < 128;

            error_setf(&c->err, ERR_GENERIC, NULL, "%s '%s'", code == ':' ? "an argument is missing after" : "unknown option",
                       is_short ? letter : argv[optind - 1]);
            c->err.hint = is_short && g_ascii_isdigit(optopt) ? g_strdup("a number is not an option; of sizes only resize takes -SIZE, as its last word")
                                                              : g_strdup_printf("rhea-img %s --help lists them", cmd->name);
            return -1;
        }
        if (!take(c, option_by(cmd, code), optarg))
            return -1;
    }
    c->progress &= !c->quiet;
    c->args = argv + optind;
    c->nargs = argc - optind;
    if (size)
        c->args[c->nargs++] = size;     /* where it was */
    code = list_options(c, cmd);
    if (code < 1 || right_count(c, cmd))
        return code;
    c->err.hint = g_strdup_printf("rhea-img %s --help tells more", cmd->name);
    return -1;
}

static const struct img_command *command_find(struct img *c, const char *name)
{
    const char *names[G_N_ELEMENTS(commands) + 1] = { 0 }, *near;
    g_autofree char *hint = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (!strcmp(commands[i].name, name))
            return &commands[i];
        names[i] = commands[i].name;
    }
    near = nearest_spelling(name, names);
    hint = near ? g_strdup_printf("did you mean '%s'?", near) : g_strdup("rhea-img --help lists the commands");
    error_setf(&c->err, ERR_GENERIC, hint, "unknown command '%s'", name);
    return NULL;
}

static int run(struct img *c, const struct img_command *cmd, int argc, char **argv)
{
    struct vm objects = { 0 };          /* for --object, no machine */
    int ret = parse(c, cmd, argc, argv);
    bool ok;

    if (ret <= 0)
        return ret ? img_fail(c, cmd->run == img_compare ? 2 : EXIT_BAD) : 0;
    c->loop = loop_new("main");
    loop_set_single_task(c->loop, true);
    loop_enter(c->loop);
    c->graph = block_graph_new(NULL, c->loop);
    c->graph->objects = &objects;
    ok = true;
    for (unsigned i = 0; i < c->objects->len && ok; i++)
        ok = object_add(&objects, g_ptr_array_index(c->objects, i), &c->err);
    ret = ok ? cmd->run(c) : img_fail(c, EXIT_BAD);
    if (c->graph->lost && !ret)
        ret = EXIT_BAD;
    block_graph_free(c->graph);
    object_cleanup(&objects);
    loop_free(c->loop);
    return ret;
}

static void object_free(void *o)
{
    json_object_put(o);
}

int main(int argc, char **argv)
{
    struct img c = { .sparse = 4096, .count = 75000, .depth = 64, .size = 4096, .pattern = 0x5a };
    const struct img_command *cmd;
    struct sigaction usr1 = { .sa_handler = on_usr1, .sa_flags = SA_RESTART };
    int ret;

    error_set_program(argv[0]);
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        usage();
        return argc < 2;
    }
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
        tool_print_version();
        return 0;
    }
    if (g_str_has_prefix(argv[1], "-T") || g_str_has_prefix(argv[1], "--trace")) {
        error_set(&c.err, ERR_GENERIC, "this build has no trace points yet", "leave out -T");
        return img_fail(&c, EXIT_BAD);
    }
    cmd = command_find(&c, argv[1]);
    if (!cmd)
        return img_fail(&c, EXIT_BAD);
    sigaction(SIGUSR1, &usr1, NULL);
    c.opts = json_object_new_object();
    c.actions = g_array_new(FALSE, FALSE, sizeof(struct img_action));
    c.objects = g_ptr_array_new_with_free_func(object_free);
    ret = run(&c, cmd, argc, argv);
    json_object_put(c.opts);
    g_array_free(c.actions, TRUE);
    g_ptr_array_free(c.objects, TRUE);
    return ret;
}
