/* rhea-img: makes, looks at, checks, converts and resizes disk images, by qemu-img's command line. */
#include "main/img.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "block/graph.h"
#include "rhea/control/version.h"

enum { EXIT_BAD = 1, EXIT_CORRUPT = 2, EXIT_LEAKS = 3, EXIT_UNSUPPORTED = 63 };
enum {
    OPT_OUTPUT = 256,
    OPT_IMAGE_OPTS,
    OPT_CHAIN,
    OPT_SHRINK,
    OPT_RANDOM,
    OPT_HELP,
    OPT_TARGET_IS_ZERO,
    OPT_IGNORED
};

static int fail(struct img *c)
{
    error_report(&c->err);
    return EXIT_BAD;
}

/* ---- opening */

static struct json_object *cache_options(const char *mode, bool write)
{
    struct json_object *o = json_object_new_object();
    bool direct = !strcmp(mode, "none") || !strcmp(mode, "off") || !strcmp(mode, "directsync");

    json_object_object_add(o, "direct", json_object_new_boolean(direct));
    json_object_object_add(o, "no-flush", json_object_new_boolean(!strcmp(mode, "unsafe")));
    return o;
}

struct block_node *img_open(struct img *c, const char *name, const char *format, bool write, const char *cache)
{
    struct block_inherit in = { .aio = c->aio };
    struct json_object *opts = json_object_new_object(), *given;
    struct block_node *n = NULL;

    json_object_object_add(opts, "read-only", json_object_new_boolean(!write));
    if (c->force_share && !write)
        json_object_object_add(opts, "force-share", json_object_new_boolean(true));
    if (write)
        json_object_object_add(opts, "discard", json_object_new_string("unmap"));
    json_object_object_add(opts, "cache", cache_options(cache ? cache : "writeback", write));
    if (c->no_backing)
        json_object_object_add(opts, "backing", NULL);
    if (c->image_opts) {
        given = options_parse(name, NULL, &c->err);
        if (given) {
            struct json_object *nested = options_nest(given, &c->err);

            json_object_put(given);
            given = nested;
        }
        if (given) {
            json_object_object_foreach(opts, key, v)
                if (!json_object_object_get_ex(given, key, NULL))
                    json_object_object_add(given, key, json_object_get(v));
            n = node_open(c->graph, given, &c->err);
            json_object_put(given);
        }
    } else {
        c->graph->inherit = &in;
        n = node_open_file(c->graph, name, format, opts, &c->err);
        c->graph->inherit = NULL;
    }
    json_object_put(opts);
    return n;
}

/* ---- create */

static char *size_text(uint64_t bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double v = bytes;
    unsigned u = 0;

    for (; v >= 1000 && u + 1 < G_N_ELEMENTS(units); u++)       /* three digits before the unit */
        v /= 1024;
    return g_strdup_printf("%0.3g %s", v, units[u]);
}

static bool backing_size(struct img *c, const char *image, const char *backing, const char *format, uint64_t *size)
{
    g_autofree char *path = block_resolve(image, backing);
    struct block_node *n;

    c->force_share = true;
    n = img_open(c, path, format, false, NULL);
    if (!n) {
        error_prepend(&c->err, "backing file of the new image");
        return false;
    }
    *size = n->size;
    node_unref(n);
    return true;
}

bool img_create_image(struct img *c, const char *name, const char *format, struct json_object *opts, uint64_t size,
                      bool has_size)
{
    const char *backing = option_str(opts, "backing_file", NULL),
               *backing_format = option_str(opts, "backing_fmt", NULL);

    if (backing && !backing_format)
        return error_set(&c->err, ERR_GENERIC, "Backing file specified without backing format",
                         "add -F qcow2 or -F raw");
    if (backing && !has_size && !backing_size(c, name, backing, backing_format, &size))
        return false;
    if (!backing && !has_size && !json_object_object_get_ex(opts, "size", NULL))
        return error_set(&c->err, ERR_GENERIC, "Image creation needs a size parameter",
                         "rhea-img create -f qcow2 FILE 10G");
    if (has_size || backing)
        json_object_object_add(opts, "size", json_object_new_uint64(size));
    return block_create(c->graph, name, format, opts, &c->err);
}

static int img_create(struct img *c)
{
    const char *format = c->format ? c->format : "raw";
    uint64_t size = 0;

    if (c->nargs < 1 || c->nargs > 2) {
        error_set(&c->err, ERR_GENERIC, "create takes a file name and a size",
                  "rhea-img create -f qcow2 FILE 10G");
        return fail(c);
    }
    if (c->nargs == 2 && !parse_size(c->args[1], 1, &size, &c->err))
        return fail(c);
    if (c->backing)
        json_object_object_add(c->opts, "backing_file", json_object_new_string(c->backing));
    if (c->backing_format)
        json_object_object_add(c->opts, "backing_fmt", json_object_new_string(c->backing_format));
    if (!img_create_image(c, c->args[0], format, c->opts, size, c->nargs == 2)) {
        error_prepend(&c->err, "%s", c->args[0]);
        return fail(c);
    }
    if (!c->quiet) {
        printf("Formatting '%s', fmt=%s", c->args[0], format);
        json_object_object_foreach(c->opts, key, v)
            printf(" %s=%s", key, json_object_get_string(v));
        printf("\n");
    }
    return 0;
}

/* ---- info */

static void print_snapshots(struct json_object *list)
{
    printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *s = json_object_array_get_idx(list, i);
        int64_t date, secs, nsec, vm;
        g_autoptr(GDateTime) when = NULL;
        g_autofree char *text = NULL, *size = NULL, *clock = NULL;

        option_int(s, "date-sec", 0, &date, NULL);
        option_int(s, "vm-clock-sec", 0, &secs, NULL);
        option_int(s, "vm-clock-nsec", 0, &nsec, NULL);
        option_int(s, "vm-state-size", 0, &vm, NULL);
        when = g_date_time_new_from_unix_local(date);
        text = when ? g_date_time_format(when, "%Y-%m-%d %H:%M:%S") : g_strdup("?");
        size = size_text(vm);
        clock = g_strdup_printf("%02d:%02d:%02d.%03d", (int)(secs / 3600), (int)(secs / 60 % 60), (int)(secs % 60),
                                (int)(nsec / 1000000));
        printf("%-9s %-16s %8s%20s%13s%11s\n", option_str(s, "id", ""), option_str(s, "name", ""), size, text, clock,
               option_str(s, "icount", ""));
    }
}

static void print_specific(struct json_object *o)
{
    struct json_object *data;

    if (!json_object_object_get_ex(o, "data", &data))
        return;
    printf("Format specific information:\n");
    json_object_object_foreach(data, key, v) {
        g_autofree char *name = g_strdelimit(g_strdup(key), "-", ' ');

        printf("    %s: %s\n", name, json_object_get_string(v));
    }
}

static void print_info(struct json_object *o)
{
    struct json_object *v;
    uint64_t virtual, actual;
    const char *backing = option_str(o, "backing-filename", NULL),
               *full = option_str(o, "full-backing-filename", "");
    g_autofree char *text = NULL, *used = NULL;

    option_size(o, "virtual-size", 0, &virtual, NULL);
    option_size(o, "actual-size", 0, &actual, NULL);
    text = size_text(virtual);
    used = size_text(actual);
    printf("image: %s\nfile format: %s\nvirtual size: %s (%" PRIu64 " bytes)\n", option_str(o, "filename", ""),
           option_str(o, "format", ""), text, virtual);
    printf("disk size: %s\n", json_object_object_get_ex(o, "actual-size", NULL) ? used : "unavailable");
    if (json_object_object_get_ex(o, "cluster-size", &v))
        printf("cluster_size: %s\n", json_object_get_string(v));
    if (backing && strcmp(backing, full))
        printf("backing file: %s (actual path: %s)\n", backing, full);
    else if (backing)
        printf("backing file: %s\n", backing);
    if (json_object_object_get_ex(o, "backing-filename-format", &v))
        printf("backing file format: %s\n", json_object_get_string(v));
    if (json_object_object_get_ex(o, "snapshots", &v))
        print_snapshots(v);
    if (json_object_object_get_ex(o, "format-specific", &v))
        print_specific(v);
}

static int img_info(struct img *c)
{
    struct json_object *list;
    struct block_node *n;

    if (c->nargs != 1) {
        error_set(&c->err, ERR_GENERIC, "info takes one file name", "rhea-img info disk.qcow2");
        return fail(c);
    }
    c->no_backing = !c->chain;
    n = img_open(c, c->args[0], c->format, false, NULL);
    if (!n)
        return fail(c);
    list = json_object_new_array();
    for (struct block_node *i = n; i; i = c->chain ? i->backing : NULL)
        json_object_array_add(list, node_image_info(i));
    if (c->json) {
        struct json_object *what = c->chain ? list : json_object_array_get_idx(list, 0);

        printf("%s\n", json_object_to_json_string_ext(what, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
    } else {
        for (size_t i = 0; i < json_object_array_length(list); i++) {
            printf("%s", i ? "\n" : "");
            print_info(json_object_array_get_idx(list, i));
        }
    }
    json_object_put(list);
    node_unref(n);
    return 0;
}

/* ---- check */

struct check_run { struct img *c; struct block_node *n; unsigned repair; struct block_check out; bool ok; };

static void check_run(void *arg)
{
    struct check_run *r = arg;

    r->ok = r->n->drv->check(r->n, r->repair, &r->out, &r->c->err);
}

static void print_check_json(struct block_node *n, const struct block_check *k)
{
    struct json_object *o = json_object_new_object();
    const struct { const char *name; uint64_t v; bool always; } fields[] = {
        { "image-end-offset", k->end_offset, true }, { "total-clusters", k->total_clusters, true },
        { "check-errors", k->check_errors, true }, { "allocated-clusters", k->allocated_clusters, true },
        { "fragmented-clusters", k->fragmented_clusters, false }, { "compressed-clusters", k->compressed_clusters, false },
        { "corruptions", k->errors, false }, { "leaks", k->leaks, false },
        { "corruptions-fixed", k->errors_fixed, false }, { "leaks-fixed", k->leaks_fixed, false },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++)
        if (fields[i].always || fields[i].v)
            json_object_object_add(o, fields[i].name, json_object_new_uint64(fields[i].v));
    json_object_object_add(o, "filename", json_object_new_string(n->filename));
    json_object_object_add(o, "format", json_object_new_string(n->drv->name));
    printf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(o);
}

static void print_check(const struct block_check *k)
{
    if (k->leaks_fixed || k->errors_fixed)
        printf("The following inconsistencies were found and repaired:\n\n    %" PRIu64 " leaked clusters\n    %" PRIu64
               " corruptions\n\n", k->leaks_fixed, k->errors_fixed);
    if (!k->errors && !k->leaks && !k->check_errors)
        printf("No errors were found on the image.\n");
    if (k->errors)
        printf("\n%" PRIu64 " errors were found on the image.\nData may be corrupted, or further writes to the image may "
               "corrupt it.\n", k->errors);
    if (k->leaks)
        printf("\n%" PRIu64 " leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.\n",
               k->leaks);
    if (k->check_errors)
        printf("\n%" PRIu64 " internal errors have occurred during the check.\n", k->check_errors);
    if (k->total_clusters)
        printf("%" PRIu64 "/%" PRIu64 " = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed clusters\n",
               k->allocated_clusters, k->total_clusters, k->allocated_clusters * 100.0 / k->total_clusters,
               k->allocated_clusters ? k->fragmented_clusters * 100.0 / k->allocated_clusters : 0,
               k->allocated_clusters ? k->compressed_clusters * 100.0 / k->allocated_clusters : 0);
    if (k->end_offset)
        printf("Image end offset: %" PRIu64 "\n", k->end_offset);
}

static int img_check(struct img *c)
{
    struct check_run r = { .c = c };
    bool write = c->repair != NULL;

    if (c->nargs != 1) {
        error_set(&c->err, ERR_GENERIC, "check takes one file name", "rhea-img check disk.qcow2");
        return fail(c);
    }
    if (write && strcmp(c->repair, "leaks") && strcmp(c->repair, "all")) {
        error_set(&c->err, ERR_GENERIC, "-r takes 'leaks' or 'all'", NULL);
        return fail(c);
    }
    r.repair = !write ? 0 : !strcmp(c->repair, "all") ? BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS : BLOCK_FIX_LEAKS;
    c->graph->repairing = write;
    c->no_backing = true;
    r.n = img_open(c, c->args[0], c->format, write, NULL);
    if (!r.n)
        return fail(c);
    if (!r.n->drv->check) {
        error_setf(&c->err, ERR_GENERIC, NULL, "This image format does not support checks");
        node_unref(r.n);
        fail(c);
        return EXIT_UNSUPPORTED;
    }
    block_run(c->graph, check_run, &r);
    if (r.ok && c->json)
        print_check_json(r.n, &r.out);
    else if (r.ok && !c->quiet)
        print_check(&r.out);
    node_unref(r.n);
    if (!r.ok)
        return fail(c);
    return r.out.check_errors ? EXIT_BAD : r.out.errors ? EXIT_CORRUPT : r.out.leaks ? EXIT_LEAKS : 0;
}

/* ---- map */

struct extent { uint64_t start, length, offset; int depth, status; const char *file; };

static void extent_print(struct img *c, const struct extent *e, bool first)
{
    bool data = (e->status & STATUS_DATA) != 0, zero = (e->status & STATUS_ZERO) != 0;

    if (!e->length)
        return;
    if (!c->json) {
        if (data && !zero)
            printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", e->start, e->length, e->offset, e->file);
        return;
    }
    printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": %d, \"present\": %s, \"zero\": %s, \"data\": %s, "
           "\"compressed\": %s", first ? "[" : ",\n", e->start, e->length, e->depth,
           e->status & STATUS_ALLOCATED ? "true" : "false", zero ? "true" : "false", data ? "true" : "false",
           e->status & STATUS_COMPRESSED ? "true" : "false");
    if (e->status & STATUS_OFFSET)
        printf(", \"offset\": %" PRIu64, e->offset);
    printf("}");
}

struct map_run { struct img *c; struct block_node *n; int ret; };

static bool extent_joins(const struct extent *a, const struct extent *b)
{
    return a->status == b->status && a->depth == b->depth && a->file == b->file &&
           (!(a->status & STATUS_OFFSET) || a->offset + a->length == b->offset);
}

static void map_run(void *arg)
{
    struct map_run *r = arg;
    struct extent cur = { 0 }, e;
    bool first = true;

    for (uint64_t off = 0; off < r->n->size; off += e.length) {
        struct block_node *file = NULL;

        e = (struct extent){ .start = off };
        r->ret = node_status_above(r->n, off, r->n->size - off, &e.length, &e.offset, &file, &e.depth, false);
        if (r->ret < 0)
            return;
        e.status = r->ret;
        e.file = file ? file->filename : "";
        if (cur.length && extent_joins(&cur, &e)) {
            cur.length += e.length;
            continue;
        }
        extent_print(r->c, &cur, first);
        first = first && !cur.length;
        cur = e;
    }
    extent_print(r->c, &cur, first);
    if (r->c->json)
        printf("%s]\n", first && !cur.length ? "[" : "");
}

static int img_map(struct img *c)
{
    struct map_run r = { .c = c };

    if (c->nargs != 1) {
        error_set(&c->err, ERR_GENERIC, "map takes one file name", "rhea-img map disk.qcow2");
        return fail(c);
    }
    r.n = img_open(c, c->args[0], c->format, false, NULL);
    if (!r.n)
        return fail(c);
    if (!c->json)
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    block_run(c->graph, map_run, &r);
    if (r.ret < 0)
        error_set_errno(&c->err, -r.ret, NULL, "cannot map '%s'", c->args[0]);
    node_unref(r.n);
    return r.ret < 0 ? fail(c) : 0;
}

/* ---- resize */

struct resize_run { struct img *c; struct block_node *n; uint64_t size; int ret; };

static void resize_run(void *arg)
{
    struct resize_run *r = arg;

    r->ret = node_truncate(r->n, r->size, &r->c->err);
}

static int img_resize(struct img *c)
{
    struct resize_run r = { .c = c };
    const char *text = c->nargs == 2 ? c->args[1] : "";
    char sign = *text == '+' || *text == '-' ? *text++ : 0;
    uint64_t by;

    if (c->nargs != 2) {
        error_set(&c->err, ERR_GENERIC, "resize takes a file name and a size", "rhea-img resize disk.qcow2 +10G");
        return fail(c);
    }
    if (!parse_size(text, 1, &by, &c->err))
        return fail(c);
    r.n = img_open(c, c->args[0], c->format, true, NULL);
    if (!r.n)
        return fail(c);
    r.size = sign == '+' ? r.n->size + by : sign == '-' ? (by < r.n->size ? r.n->size - by : 0) : by;
    r.size = (r.size + 511) & ~511ull;
    if (r.size < r.n->size && !c->shrink) {
        error_set(&c->err, ERR_GENERIC, "shrinking an image deletes its end", "add --shrink if that is wanted");
        r.ret = -EINVAL;
    } else {
        block_run(c->graph, resize_run, &r);
    }
    node_unref(r.n);
    if (r.ret)
        return fail(c);
    if (!c->quiet)
        printf("Image resized.\n");
    return 0;
}

/* ---- the command line */

static const struct option long_options[] = {
    { "output", required_argument, NULL, OPT_OUTPUT }, { "image-opts", no_argument, NULL, OPT_IMAGE_OPTS },
    { "backing-chain", no_argument, NULL, OPT_CHAIN }, { "shrink", no_argument, NULL, OPT_SHRINK },
    { "force-share", no_argument, NULL, 'U' }, { "random", no_argument, NULL, OPT_RANDOM },
    { "help", no_argument, NULL, OPT_HELP }, { "quiet", no_argument, NULL, 'q' }, { "object", required_argument, NULL, OPT_IGNORED },
    { "pattern", required_argument, NULL, OPT_IGNORED }, { "target-is-zero", no_argument, NULL, OPT_TARGET_IS_ZERO }, { 0 },
};

static const struct command {
    const char *name, *letters, *synopsis;
    int (*run)(struct img *c);
} commands[] = {
    { "create", "qf:b:F:o:u", "[-q] [-f FMT] [-b BACKING -F FMT] [-o OPTIONS] FILE [SIZE]", img_create },
    { "info", "f:UT:", "[-f FMT] [--output=json] [--backing-chain] [-U] FILE", img_info },
    { "check", "qf:r:UT:", "[-q] [-f FMT] [--output=json] [-r leaks|all] [-U] FILE", img_check },
    { "convert", "qf:O:co:pnB:F:S:t:T:m:WUi:", "[-cnpqW] [-f FMT] [-O FMT] [-B BACKING -F FMT] [-o OPTIONS] [-S SIZE] "
      "[-m WORKERS] [-t CACHE] FILE OUTPUT", img_convert },
    { "compare", "qf:F:psT:U", "[-pqsU] [-f FMT] [-F FMT] FILE FILE", img_compare },
    { "map", "f:U", "[-f FMT] [--output=json] [-U] FILE", img_map },
    { "resize", "qf:", "[-q] [-f FMT] [--shrink] FILE [+-]SIZE", img_resize },
    { "bench", "c:d:f:i:ns:S:t:wqU", "[-c COUNT] [-d DEPTH] [-f FMT] [-i AIO] [-s SIZE] [-S STEP | --random] [-t CACHE] [-w] FILE",
      img_bench },
};
static const char *const not_yet[] = { "amend", "bitmap", "commit", "dd", "measure", "rebase", "snapshot", NULL };

static void usage(void)
{
    printf("usage: rhea-img COMMAND ...\nMakes, checks and converts disk images.\n\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++)
        printf("  %s %s\n", commands[i].name, commands[i].synopsis);
    printf("\nSizes take the suffixes K, M, G, T. Formats: raw, qcow2.\n");
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

static bool number(struct img *c, const char *text, uint64_t max, uint64_t *out)
{
    if (!parse_size(text, 1, out, &c->err))
        return false;
    return *out <= max || error_setf(&c->err, ERR_GENERIC, NULL, "'%s' is too large", text);
}

static bool take(struct img *c, const struct command *cmd, int letter)
{
    uint64_t n;

    switch (letter) {
    case 'f': c->format = optarg; return true;
    case 'F': c->backing_format = optarg; return true;
    case 'O': c->output_format = optarg; return true;
    case 'b':
    case 'B': c->backing = optarg; return true;
    case 'o': return option_merge(c, optarg);
    case 'q': c->quiet = true; return true;
    case 'p': c->progress = true; return true;
    case 'n': c->no_create = true; return true;
    case 'U': c->force_share = true; return true;
    case 's':
        if (strchr(cmd->letters, 's')[1] == ':')
            return number(c, optarg, 1 << 30, &c->size);
        c->strict = true;
        return true;
    case 'S':
        return cmd->run == img_bench ? number(c, optarg, INT64_MAX, &c->step)
                                     : number(c, optarg, 1 << 30, &c->sparse);
    case 't': c->cache = optarg; return true;
    case 'T': c->source_cache = optarg; return true;
    case 'r': c->repair = optarg; return true;
    case 'i': c->aio = optarg; return true;
    case 'w': c->write = true; return true;
    case 'W': return true;              /* writes are never kept in order */
    case 'c':
        if (cmd->run == img_bench)
            return number(c, optarg, INT32_MAX, &c->count);
        c->compress = true;
        return true;
    case 'd': return number(c, optarg, 1024, &c->depth);
    case 'm':
        if (!number(c, optarg, 16, &n))
            return false;
        c->workers = MAX(1, n);
        return true;
    case 'u': return true;
    case OPT_OUTPUT: c->json = !strcmp(optarg, "json"); return true;
    case OPT_IMAGE_OPTS: c->image_opts = true; return true;
    case OPT_CHAIN: c->chain = true; return true;
    case OPT_SHRINK: c->shrink = true; return true;
    case OPT_RANDOM: c->random = true; return true;
    case OPT_TARGET_IS_ZERO: return true;
    case OPT_IGNORED: return true;
    case OPT_HELP: usage(); exit(0);
    default:
        return error_set(&c->err, ERR_GENERIC, "unknown option",
                         "rhea-img --help lists what each command takes");
    }
}

static const struct command *command_find(struct img *c, const char *name)
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
    if (g_strv_contains(not_yet, name))
        error_setf(&c->err, ERR_GENERIC, NULL, "'%s' is not in this build yet", name);
    else
        error_setf(&c->err, ERR_GENERIC, hint, "unknown command '%s'", name);
    return NULL;
}

int main(int argc, char **argv)
{
    struct img c = { .sparse = 4096, .workers = 8, .count = 75000, .depth = 64, .size = 4096 };
    const struct command *cmd;
    int letter, ret;

    error_set_program(argv[0]);
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        usage();
        return argc < 2;
    }
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
        printf("rhea-img version " RHEA_VERSION "\n");
        return 0;
    }
    cmd = command_find(&c, argv[1]);
    if (!cmd)
        return fail(&c);
    c.opts = json_object_new_object();
    opterr = 1;
    optind = 2;
    while ((letter = getopt_long(argc, argv, cmd->letters, long_options, NULL)) != -1)
        if (!take(&c, cmd, letter))
            return fail(&c);
    c.args = argv + optind;
    c.nargs = argc - optind;
    c.loop = loop_new("main");
    loop_enter(c.loop);
    c.graph = block_graph_new(NULL, c.loop);
    ret = cmd->run(&c);
    json_object_put(c.opts);
    block_graph_free(c.graph);
    loop_free(c.loop);
    return ret;
}
