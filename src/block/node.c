/* Nodes of the block graph: opening by options, names, references, holds. */
#include "block/export.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include "rhea/base/options.h"
#include "rhea/block/bitmap.h"
#include "rhea/block/job.h"
#include "rhea/vm/vm.h"

enum { DEPTH_MAX = 200, PROBE_BYTES = 2048 };

extern const struct block_driver *const __start_rhea_block_drivers[];
extern const struct block_driver *const __stop_rhea_block_drivers[];

static const char *const common_options[] = { "driver", "node-name", "read-only", "auto-read-only", "force-share",
                                              "discard", "detect-zeroes", "cache", "active", NULL };
static const char *const cache_options[] = { "direct", "no-flush", NULL };

/* ---- drivers */

const struct block_driver *const *block_drivers(unsigned *count)
{
    *count = __stop_rhea_block_drivers - __start_rhea_block_drivers;
    return __start_rhea_block_drivers;
}

const struct block_driver *block_driver_find(const char *name)
{
    unsigned count;
    const struct block_driver *const *d = block_drivers(&count);

    for (unsigned i = 0; i < count; i++)
        if (!strcmp(d[i]->name, name))
            return d[i];
    return NULL;
}

/* Names that clients may know, and why they are not here (docs/block.md). */
static const struct { const char *name, *why; } missing[] = {
    { "blklogwrites", "crashlog records writes and flushes, for tests" },
    { "blkreplay", "it belongs to another record and replay" },
    { "gluster", "mount the volume and use driver file" },
    { "host_cdrom", "use host_device; the tray is the host's to move" },
    { "io_uring", "driver file submits by io_uring anyway" },
    { "nvme", "it takes a controller from the host through VFIO; use host_device" },
    { "nvme-io_uring", "use host_device" },
    { "qcow", "version 1 of the format is not read; convert with the program that wrote it" },
    { "replication", "COLO is not supported" },
    { "virtio-blk-vfio-pci", "libblkio is not used; use host_device" },
    { "virtio-blk-vhost-user", "libblkio is not used; give the guest a vhost-user-blk-pci device" },
    { "virtio-blk-vhost-vdpa", "libblkio is not used" },
};

bool block_driver_unknown(const char *name, struct error *err)
{
    unsigned count;
    const struct block_driver *const *d = block_drivers(&count);
    g_autofree const char **names = g_new0(const char *, count + 1);
    g_autofree char *hint = NULL, *list = NULL;
    const char *near;

    for (unsigned i = 0; i < G_N_ELEMENTS(missing); i++)
        if (!strcmp(name, missing[i].name))
            return error_setf(err, ERR_GENERIC, missing[i].why, "there is no block driver '%s' here", name);
    for (unsigned i = 0; i < count; i++)
        names[i] = d[i]->name;
    near = nearest_spelling(name, names);
    list = g_strjoinv(" ", (char **)names);
    hint = near ? g_strdup_printf("did you mean '%s'?", near) : g_strdup_printf("there are: %s", list);
    return error_setf(err, ERR_GENERIC, hint, "unknown block driver '%s'", name);
}

/* ---- graphs */

struct block_graph *block_graph_new(struct vm *vm, struct loop *loop)
{
    struct block_graph *g = g_new0(struct block_graph, 1);

    g->vm = g->objects = vm;
    g->loop = loop;
    g->nodes = g_hash_table_new(g_str_hash, g_str_equal);
    g->in_order = g_ptr_array_new();
    g->backends = g_ptr_array_new();
    g->opening = g_ptr_array_new();
    g->jobs = g_ptr_array_new();
    g_queue_init(&g->deferred);
    return g;
}

static struct block_node *any_user_owned(struct block_graph *g)
{
    for (unsigned i = g->in_order->len; i--;)
        if (((struct block_node *)g_ptr_array_index(g->in_order, i))->user_owned)
            return g_ptr_array_index(g->in_order, i);
    return NULL;
}

static void graph_close(void *arg)
{
    struct block_graph *g = arg;
    struct block_node *n;

    while ((n = any_user_owned(g))) {
        n->user_owned = false;
        node_unref(n);
    }
}

void block_graph_free(struct block_graph *g)
{
    if (!g)
        return;
    jobs_end(g);
    nbd_server_stop(g);
    exports_close(g);
    backends_free(g);
    graph_quiesce(g);
    block_run(g, graph_close, g);
    graph_resume(g);
    g_hash_table_destroy(g->nodes);
    g_ptr_array_free(g->backends, TRUE);
    g_ptr_array_free(g->in_order, TRUE);
    g_ptr_array_free(g->opening, TRUE);
    g_ptr_array_free(g->jobs, TRUE);
    g_free(g);
}

struct block_graph *block_graph_of(struct vm *vm)
{
    if (!vm->block_graph) {
        vm->block_graph = block_graph_new(vm, vm->loop);
        if (vm->priv)           /* a machine, not a test's bare struct */
            vm_state_notifier(vm, backends_running, vm->block_graph);
    }
    return vm->block_graph;
}

struct block_node *node_find(struct block_graph *g, const char *name)
{
    return g_hash_table_lookup(g->nodes, name);
}

struct run { void (*fn)(void *arg); void *arg; bool done; };

static void run_co(void *opaque)
{
    struct run *r = opaque;

    r->fn(r->arg);
    r->done = true;
}

void block_run(struct block_graph *g, void (*fn)(void *arg), void *arg)
{
    struct run r = { fn, arg, false };
    struct loop *loop = loop_current();

    if (in_coroutine()) {
        fn(arg);
        return;
    }
    if (!loop) {
        loop = g->loop;
        loop_enter(loop);
    }
    coroutine_start(run_co, &r);
    while (!r.done)
        loop_step(loop, true);
}

/* ---- names */

static bool name_valid(const char *name)
{
    return g_ascii_isalpha(name[0]) && strlen(name) < 128 &&
           name[strspn(name, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "-._")] == 0;
}

static bool node_set_name(struct block_node *n, const char *name, struct error *err)
{
    if (!name) {
        n->name = g_strdup_printf("#block%03u", n->graph->next_name++);
    } else {
        if (!name_valid(name))
            return error_setf(err, ERR_GENERIC, "a letter, then letters, digits, '-', '.', '_'; at most 127",
                              "invalid node-name: '%s'", name);
        if (node_find(n->graph, name))
            return error_setf(err, ERR_GENERIC, "choose another", "Duplicate nodes with node-name='%s'", name);
        n->name = g_strdup(name);
        n->explicit_name = true;
    }
    g_hash_table_insert(n->graph->nodes, n->name, n);
    g_ptr_array_add(n->graph->in_order, n);
    return true;
}

char *block_resolve(const char *image, const char *name)
{
    g_autofree char *dir = NULL;
    const char *colon = strchr(name, ':'), *slash = strchr(name, '/');

    if (*name == '/' || (colon && (!slash || colon < slash)))
        return g_strdup(name);
    dir = g_path_get_dirname(image);
    return strcmp(dir, ".") ? g_build_filename(dir, name, NULL) : g_strdup(name);
}

/* ---- opening */

static bool parse_discard(const char *text, bool *out, struct error *err)
{
    bool unmap = !strcmp(text, "unmap") || !strcmp(text, "on");

    if (!unmap && strcmp(text, "ignore") && strcmp(text, "off"))
        return error_setf(err, ERR_GENERIC, "it is ignore or unmap", "unknown discard '%s'", text);
    *out = unmap;
    return true;
}

static bool parse_detect_zeroes(struct block_node *n, const char *text, struct error *err)
{
    static const char *const words[] = { "off", "on", "unmap" };

    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        if (!strcmp(text, words[i])) {
            if (i == DETECT_ZEROES_UNMAP && !n->discard)
                return error_set(err, ERR_GENERIC,
                                 "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap",
                                 "add discard=unmap");
            n->detect_zeroes = i;
            return true;
        }
    }
    return error_setf(err, ERR_GENERIC, "it is off, on or unmap", "unknown detect-zeroes '%s'", text);
}

static bool common_parse(struct block_node *n, struct json_object *opts, struct error *err)
{
    const struct block_inherit none = { 0 }, *in = n->graph->inherit ? n->graph->inherit : &none;
    const char *discard = option_str(opts, "discard", NULL);
    struct json_object *cache = NULL;
    bool active;

    n->discard = in->discard;
    json_object_object_get_ex(opts, "cache", &cache);
    if (cache && !json_object_is_type(cache, json_type_object))
        return error_set(err, ERR_GENERIC, "cache is given as cache.direct and cache.no-flush", NULL);
    if (cache && !options_check(cache, cache_options, "cache", err))
        return false;
    if (!option_bool(opts, "active", true, &active, err))
        return false;
    n->inactive = !active;
    return option_bool(opts, "read-only", in->read_only, &n->read_only, err) &&
           option_bool(opts, "auto-read-only", in->auto_read_only, &n->auto_read_only, err) &&
           option_bool(opts, "force-share", in->force_share, &n->force_share, err) &&
           option_bool(cache, "direct", in->direct, &n->direct, err) &&
           option_bool(cache, "no-flush", in->no_flush, &n->no_flush, err) &&
           (!discard || parse_discard(discard, &n->discard, err)) &&
           parse_detect_zeroes(n, option_str(opts, "detect-zeroes", "off"), err);
}

static bool options_known(const struct block_driver *drv, struct json_object *opts, struct error *err)
{
    g_autoptr(GPtrArray) known = g_ptr_array_new();
    g_autofree char *what = g_strdup_printf("block driver '%s'", drv->name);

    for (const char *const *o = common_options; *o; o++)
        g_ptr_array_add(known, (void *)*o);
    for (const char *const *o = drv->options; o && *o; o++)
        g_ptr_array_add(known, (void *)*o);
    g_ptr_array_add(known, NULL);
    return options_check(opts, (const char *const *)known->pdata, what, err);
}

static void node_free(struct block_node *n)
{
    bitmaps_free(n);
    if (n->name && g_hash_table_lookup(n->graph->nodes, n->name) == n)
        g_hash_table_remove(n->graph->nodes, n->name);
    g_ptr_array_remove(n->graph->in_order, n);
    if (n->file) {
        if (n->drv->file_hold != FILE_REFERRED)
            node_release(n->file, node_writes_file(n));
        node_unref(n->file);
    }
    if (n->backing) {
        node_release(n->backing, false);
        node_unref(n->backing);
    }
    json_object_put(n->opts);
    g_free(n->state);
    g_free(n->filename);
    g_free(n->name);
    g_free(n);
}

static bool node_open_driver(struct block_node *n, struct json_object *opts, struct error *err)
{
    bool ok;

    n->opening = true;
    ok = n->drv->open(n, opts, err);
    n->opening = false;
    if (!ok) {
        if (n->drv->close)
            n->drv->close(n);
        return false;
    }
    if (!n->filename)
        n->filename = g_strdup(n->file ? n->file->filename : "");
    if (!n->limits.align)
        n->limits.align = 1;
    if (!n->limits.mem_align)
        n->limits.mem_align = 1;
    if (!n->limits.discard_align)
        n->limits.discard_align = 1;
    return true;
}

/* An inactive node has no driver but a name of one. */
static bool node_stay_closed(struct block_node *n, struct json_object *opts)
{
    struct block_driver *none = g_new0(struct block_driver, 1);

    none->name = n->drv->name;
    none->kind = DRIVER_PROTOCOL;
    g_free(n->state);
    n->drv = n->state = none;
    n->filename = g_strdup(option_str(opts, "filename", ""));
    n->limits = (struct block_limits){ .align = 1, .mem_align = 1, .discard_align = 1 };
    return true;
}

static struct block_node *node_open_locked(struct block_graph *g, struct json_object *opts, struct error *err)
{
    const char *driver = option_str(opts, "driver", NULL);
    const struct block_driver *drv;
    struct block_node *n;

    if (!driver) {
        error_set(err, ERR_GENERIC, "Parameter 'driver' is missing", NULL);
        return NULL;
    }
    drv = block_driver_find(driver);
    if (!drv) {
        block_driver_unknown(driver, err);
        return NULL;
    }
    n = g_new0(struct block_node, 1);
    n->drv = drv;
    n->graph = g;
    n->refs = 1;
    n->state = g_malloc0(MAX(drv->size, 1));
    n->opts = json_object_get(opts);
    co_rwlock_init(&n->rmw);
    if (!options_known(drv, opts, err) || !common_parse(n, opts, err) ||
        !node_set_name(n, option_str(opts, "node-name", NULL), err) ||
        !(n->inactive ? node_stay_closed(n, opts) : node_open_driver(n, opts, err))) {
        node_free(n);
        return NULL;
    }
    return n;
}

struct open_args { struct block_graph *g; struct json_object *opts; struct error *err; struct block_node *node; };

static void node_open_run(void *arg)
{
    struct open_args *a = arg;

    if (++a->g->depth > DEPTH_MAX)
        error_setf(a->err, ERR_GENERIC, "look for a loop in it with rhea-img info",
                   "more than %d images in one chain", DEPTH_MAX);
    else
        a->node = node_open_locked(a->g, a->opts, a->err);
    a->g->depth--;
}

struct block_node *node_open(struct block_graph *g, struct json_object *opts, struct error *err)
{
    struct open_args a = { g, opts, err, NULL };

    block_run(g, node_open_run, &a);
    return a.node;
}

static void node_close_run(void *arg)
{
    struct block_node *n = arg;

    if (!n->read_only)
        node_flush(n);
    if (n->drv->close)
        n->drv->close(n);
    node_free(n);
}

void node_ref(struct block_node *n)
{
    n->refs++;
}

void node_unref(struct block_node *n)
{
    struct block_graph *g = n ? n->graph : NULL;
    bool quiet;

    if (!n || --n->refs)
        return;
    quiet = g->fleecing && !in_coroutine();
    if (quiet)
        graph_quiesce(g);
    block_run(g, node_close_run, n);
    if (quiet)
        graph_resume(g);
}

int node_depth(const struct block_node *n)
{
    int depth = 0;

    for (; n->backing; n = n->backing)
        depth++;
    return depth;
}

/* ---- holds */

bool node_is_active(const struct block_node *n, struct error *err)
{
    return !n->inactive || error_setf(err, ERR_GENERIC, "blockdev-set-active makes it active", "Block node is inactive: '%s'", n->name);
}

bool node_writes_file(const struct block_node *n)
{
    return n->drv->file_hold == FILE_HELD ? !n->read_only : n->drv->file_hold == FILE_HELD_IN_USE && n->writers;
}

/* From reading the file to writing it. The hold that is there is no hindrance. */
static bool file_begin_write(struct block_node *n, bool share, struct error *err)
{
    bool ok;

    n->file->readers--;
    ok = node_hold(n->file, true, share, err);
    if (!ok)
        n->file->readers++;
    return ok;
}

void node_unwritten(struct block_node *n)
{
    if (n->drv->file_hold == FILE_HELD_IN_USE) {
        n->file->readers++;
        node_release(n->file, true);
    }
    if ((n->readers || n->drv->kind == DRIVER_FILTER) && n->drv->set_writable)
        n->drv->set_writable(n, false, NULL);
}

bool node_hold(struct block_node *n, bool write, bool share, struct error *err)
{
    if (!node_is_active(n, err))
        return false;
    if (write && n->read_only)
        return error_setf(err, ERR_GENERIC, "open it with read-only=off", "Block node is read-only: '%s'",
                          n->name);
    if (!share && (n->writers > (write ? 0 : n->job_writers) || (write && n->readers)))
        return error_setf(err, ERR_GENERIC,
                          "a disk has one writer; use share-rw=on on devices whose guests agree",
                          "block node '%s' is in use already", n->name);
    if (n->drv->file_hold == FILE_HELD_IN_USE && write && !n->writers && !file_begin_write(n, share, err))
        return false;
    if (n->drv->set_writable && !n->force_share &&
        (write ? !n->writers : !n->writers && !n->readers) && !n->drv->set_writable(n, write, err))
        return false;
    if (write)
        n->writers++;
    else
        n->readers++;
    return true;
}

void node_release(struct block_node *n, bool write)
{
    if (write)
        n->writers--;
    else
        n->readers--;
    if (write && !n->writers)
        node_unwritten(n);
}

/* ---- children */

static struct block_node *child_open(struct block_node *parent, struct json_object *opts, bool backing,
                                     struct error *err)
{
    struct block_graph *g = parent->graph;
    struct block_inherit in = {
        .direct = parent->direct, .no_flush = parent->no_flush, .discard = parent->discard || !backing,
        .read_only = backing || parent->read_only, .auto_read_only = parent->auto_read_only,
        .force_share = parent->force_share,
    }, *outer = g->inherit;
    struct block_node *n;

    if (backing)
        in.discard = in.auto_read_only = false;
    if (option_str(opts, "filename", NULL) && !json_object_object_get_ex(opts, "driver", NULL))
        json_object_object_add(opts, "driver", json_object_new_string(block_file_driver(option_str(opts, "filename", ""))));
    g->inherit = &in;
    n = node_open(g, opts, err);
    g->inherit = outer;
    return n;
}

/* By name or by options. */
static struct block_node *child_get(struct block_node *parent, struct json_object *v, bool backing, struct error *err)
{
    struct block_node *n;
    const char *name;

    if (json_object_is_type(v, json_type_object))
        return child_open(parent, v, backing, err);
    name = json_object_get_string(v);
    n = node_find(parent->graph, name);
    if (n && n->inactive) {     /* an active node has active children */
        if (!node_activate(n, err))
            return NULL;
        n = node_find(parent->graph, name);
    }
    if (!n || n->opening) {
        error_setf(err, ERR_GENERIC, "-blockdev of the child comes first",
                   "Cannot find device='' nor node-name='%s'", name);
        return NULL;
    }
    node_ref(n);
    return n;
}

struct block_node *node_open_child(struct block_node *parent, struct json_object *opts, const char *role,
                                   struct error *err)
{
    struct json_object *v;
    struct block_node *n;
    bool in_use;

    if (!json_object_object_get_ex(opts, role, &v) || !v) {
        error_setf(err, ERR_GENERIC, "give the image with file=... or file.filename=...",
                   "A block device must be specified for \"%s\"", role);
        return NULL;
    }
    n = child_get(parent, v, false, err);
    if (!n)
        return NULL;
    if (parent->drv->file_hold == FILE_REFERRED && !strcmp(role, "file"))
        return n;
    /* auto-read-only of the file is for formats that are told to write, and cannot */
    if (!parent->read_only && n->read_only) {
        if (!parent->auto_read_only) {
            error_setf(err, ERR_GENERIC, "open the image with read-only=on too", "Block node is read-only: '%s'",
                       n->name);
            node_unref(n);
            return NULL;
        }
        parent->read_only = true;
    }
    in_use = parent->drv->file_hold == FILE_HELD_IN_USE && !strcmp(role, "file");
    if (!node_hold(n, !in_use && !parent->read_only, in_use, err)) {
        node_unref(n);
        return NULL;
    }
    return n;
}

struct block_node *node_open_backing(struct block_node *parent, struct json_object *opts, const char *filename,
                                     const char *format, struct error *err)
{
    struct block_graph *g = parent->graph;
    struct json_object *v = NULL;
    struct block_node *n;
    g_autofree char *path = NULL;

    if (json_object_object_get_ex(opts, "backing", &v) && v) {
        n = child_get(parent, v, true, err);
    } else {
        struct block_inherit in = { .direct = parent->direct, .no_flush = parent->no_flush, .read_only = true,
                                    .force_share = parent->force_share }, *outer = g->inherit;

        path = block_resolve(parent->file->filename, filename);
        for (unsigned i = 0; i < g->opening->len; i++) {
            if (!strcmp(g_ptr_array_index(g->opening, i), path)) {
                error_setf(err, ERR_GENERIC,
                           "one of the images names a wrong backing file: rhea-img info shows which",
                           "the backing chain of '%s' comes back to '%s'", parent->file->filename, path);
                return NULL;
            }
        }
        g_ptr_array_add(g->opening, parent->file->filename);
        g->inherit = &in;
        n = node_open_file(g, path, format, NULL, err);
        g->inherit = outer;
        g_ptr_array_remove_index(g->opening, g->opening->len - 1);
        if (!n && error_is_set(err) && !g_str_has_prefix(err->msg, "backing file of"))
            error_prepend(err, "backing file of '%s'", parent->file->filename);     /* the nearest is enough */
    }
    if (n && !node_hold(n, false, true, err)) {
        node_unref(n);
        return NULL;
    }
    return n;
}

/* ---- file names */

const char *block_file_driver(const char *filename)
{
    struct stat st;

    return !stat(filename, &st) && S_ISBLK(st.st_mode) ? "host_device" : "file";
}

/* Dotted names stand for objects, within others, too. NULL with *err. */
static struct json_object *json_nest(struct json_object *o, struct error *err)
{
    struct json_object *flat = json_object_new_object(), *nested = NULL;

    json_object_object_foreach(o, key, v) {
        struct json_object *value = json_object_is_type(v, json_type_object) ? json_nest(v, err) : json_object_get(v);

        if (error_is_set(err))
            break;
        json_object_object_add(flat, key, value);
    }
    if (!error_is_set(err))
        nested = options_nest(flat, err);
    json_object_put(flat);
    return nested;
}

/* What follows "json:". */
static struct json_object *json_name(const char *text, struct error *err)
{
    struct json_object *given, *o;

    text += strspn(text, " \t\r\n");
    if (*text != '{')
        return error_set(err, ERR_GENERIC, "json:{\"driver\":\"qcow2\",\"file.filename\":\"disk.qcow2\"}",
                         "the JSON of an image's name is not an object"), NULL;
    given = options_parse(text, NULL, err);
    o = given ? json_nest(given, err) : NULL;
    json_object_put(given);
    return o;
}

struct json_object *block_file_options(const char *filename, struct error *err)
{
    struct json_object *o;
    const char *colon = strchr(filename, ':'), *slash = strchr(filename, '/');
    unsigned count;
    const struct block_driver *const *d = block_drivers(&count);
    g_autoptr(GString) hint = g_string_new("a file whose name has a colon is written ./a:b; of protocols there are:");

    if (g_str_has_prefix(filename, "json:"))
        return json_name(filename + 5, err);
    o = json_object_new_object();
    if (!colon || (slash && slash < colon)) {
        json_object_object_add(o, "driver", json_object_new_string(block_file_driver(filename)));
        json_object_object_add(o, "filename", json_object_new_string(filename));
        return o;
    }
    for (unsigned i = 0; i < count; i++) {
        if (d[i]->scheme && g_str_has_prefix(filename, d[i]->scheme)) {
            if (d[i]->name_options) {
                json_object_put(o);
                return d[i]->name_options(filename, err);
            }
            json_object_object_add(o, "driver", json_object_new_string(d[i]->name));
            if (filename[strlen(d[i]->scheme)] && !g_str_has_prefix(d[i]->name, "null"))
                json_object_object_add(o, "filename", json_object_new_string(filename + strlen(d[i]->scheme)));
            return o;
        }
    }
    json_object_put(o);
    for (unsigned i = 0; i < count; i++)
        if (d[i]->scheme)
            g_string_append_printf(hint, " %s", d[i]->scheme);
    error_setf(err, ERR_GENERIC, hint->str, "Unknown protocol '%.*s'", (int)(colon - filename), filename);
    return NULL;
}

struct probe_args { struct block_node *n; uint8_t buf[PROBE_BYTES]; size_t len; int ret; };

static void probe_read(void *arg)
{
    struct probe_args *a = arg;

    a->len = MIN(a->n->size, sizeof(a->buf));
    a->ret = node_pread(a->n, 0, a->buf, a->len);
}

/* The format that claims the bytes of `n` with the greatest certainty. */
static const struct block_driver *probe(struct block_node *n, struct error *err)
{
    struct probe_args *a = g_new0(struct probe_args, 1);
    const struct block_driver *best = NULL, *const *d;
    int best_score = 0;
    unsigned count;

    a->n = n;
    block_run(n->graph, probe_read, a);
    d = block_drivers(&count);
    if (a->ret < 0) {
        error_set_errno(err, -a->ret, NULL, "%s: cannot read", n->filename);
        count = 0;
    }
    for (unsigned i = 0; i < count; i++) {
        int score = d[i]->probe ? d[i]->probe(a->buf, a->len, n->filename) : 0;

        if (score > best_score) {
            best_score = score;
            best = d[i];
        }
    }
    g_free(a);
    return best;
}

static void inherit_file(struct json_object *file, const struct block_inherit *in)
{
    const struct block_driver *drv = block_driver_find(option_str(file, "driver", ""));

    if (!in || !drv || !drv->options)
        return;
    if (in->aio && g_strv_contains(drv->options, "aio") && !json_object_object_get_ex(file, "aio", NULL))
        json_object_object_add(file, "aio", json_object_new_string(in->aio));
    if (in->locking && g_strv_contains(drv->options, "locking") &&
        !json_object_object_get_ex(file, "locking", NULL))
        json_object_object_add(file, "locking", json_object_new_string(in->locking));
}

static const struct block_driver *probe_file(struct block_graph *g, struct json_object *file, struct error *err)
{
    struct json_object *o = json_object_new_object();
    const struct block_driver *drv;
    struct block_node *n;

    json_object_object_foreach(file, key, v)
        if (strcmp(key, "node-name") && strcmp(key, "cache"))
            json_object_object_add(o, key, json_object_get(v));
    json_object_object_add(o, "read-only", json_object_new_boolean(true));
    json_object_object_add(o, "auto-read-only", json_object_new_boolean(false));
    n = node_open(g, o, err);
    json_object_put(o);
    if (!n)
        return NULL;
    drv = probe(n, err);
    node_unref(n);
    return drv;
}

/* Opens the file as its format will have it, and asks it there: *drv is the format. NULL with *err. */
static struct block_node *probe_open(struct block_graph *g, struct json_object *file, struct json_object *opts,
                                     const struct block_driver **drv, struct error *err)
{
    struct block_inherit in = g->inherit ? *g->inherit : (struct block_inherit){ 0 }, *outer = g->inherit;
    struct block_node *n = NULL;

    in.discard = true;
    g->inherit = &in;
    if (option_bool(opts, "read-only", in.read_only, &in.read_only, err) &&
        option_bool(opts, "auto-read-only", in.auto_read_only, &in.auto_read_only, err))
        n = node_open(g, file, err);
    g->inherit = outer;
    *drv = n ? probe(n, err) : NULL;
    if (n && !*drv) {
        node_unref(n);
        return NULL;
    }
    return n;
}

static void opts_merge(struct json_object *into, struct json_object *from)
{
    if (!from)
        return;
    json_object_object_foreach(from, key, v)
        json_object_object_add(into, key, json_object_get(v));
}

/* "backing": null, which callers give for whatever the format turns out to be, is nothing to formats without backing images. */
static void drop_no_backing(struct json_object *o, const struct block_driver *drv)
{
    struct json_object *v;

    if (drv && drv->options && !g_strv_contains(drv->options, "backing") && json_object_object_get_ex(o, "backing", &v) && !v)
        json_object_object_del(o, "backing");
}

/* "json:" may leave out the format, and name its file and options only: *more is what is not the file's. */
static struct json_object *take_file(struct json_object *o, struct json_object **more)
{
    struct json_object *file;
    const char *name;

    if (json_object_object_get_ex(o, "driver", NULL) || !json_object_object_get_ex(o, "file", &file) ||
        !json_object_is_type(file, json_type_object))
        return o;
    json_object_get(file);
    json_object_object_del(o, "file");
    *more = o;
    name = option_str(file, "filename", NULL);
    if (name && !json_object_object_get_ex(file, "driver", NULL))
        json_object_object_add(file, "driver", json_object_new_string(block_file_driver(name)));
    return file;
}

static bool format_is_protocol(const char *format, struct error *err)
{
    const struct block_driver *drv = block_driver_find(format);

    return drv && drv->kind == DRIVER_PROTOCOL &&
           !error_setf(err, ERR_GENERIC, "use raw, or leave the format out to have it guessed", "'%s' is not a format of images", format);
}

struct block_node *node_open_file(struct block_graph *g, const char *filename, const char *format,
                                  struct json_object *opts, struct error *err)
{
    struct json_object *file = block_file_options(filename, err), *top, *more = NULL;
    const struct block_driver *drv;
    struct block_node *n, *opened = NULL;
    bool guessed = !format;

    if (!file)
        return NULL;
    file = take_file(file, &more);
    inherit_file(file, g->inherit);
    drv = block_driver_find(option_str(file, "driver", ""));
    if (drv && drv->kind != DRIVER_PROTOCOL) {  /* json: names the format itself */
        opts_merge(file, opts);
        drop_no_backing(file, drv);
        n = node_open(g, file, err);
        json_object_put(file);
        return n;
    }
    if (!format) {
        if (drv && drv->one_connection)
            opened = probe_open(g, file, opts, &drv, err);
        else
            drv = probe_file(g, file, err);
        if (!drv) {
            json_object_put(file);
            json_object_put(more);
            return NULL;
        }
        format = drv->name;
        if (!strcmp(format, "raw") && !(g->inherit ? g->inherit->read_only : false) && g->vm)
            warn_report(
                "%s: image format was not given, and is taken for raw; writing to it another format's header "
                "is refused. Give format=raw to allow it",
                filename);
    }
    if (format_is_protocol(format, err)) {
        node_unref(opened);
        json_object_put(file);
        json_object_put(more);
        return NULL;
    }
    top = more ? more : json_object_new_object();
    opts_merge(top, opts);
    drop_no_backing(top, block_driver_find(format));
    json_object_object_add(top, "driver", json_object_new_string(format));
    if (opened) {
        json_object_put(file);
        file = json_object_new_string(opened->name);
    }
    json_object_object_add(top, "file", file);
    n = node_open(g, top, err);
    node_unref(opened);
    json_object_put(top);
    if (n && guessed && !strcmp(format, "raw"))
        n->probed_raw = true;
    return n;
}

char *block_probe_format(const char *filename, struct error *err)
{
    struct loop *loop = loop_current() ? loop_current() : loop_new("probe");
    bool own = !loop_current();
    struct block_graph *g = block_graph_new(NULL, loop);
    struct json_object *file = block_file_options(filename, err);
    const struct block_driver *drv = file ? probe_file(g, file, err) : NULL;

    json_object_put(file);
    block_graph_free(g);
    if (own)
        loop_free(loop);
    return drv ? g_strdup(drv->name) : NULL;
}

/* ---- creation */

static bool take_existing(struct block_graph *g, struct json_object *file, uint64_t size, struct error *err)
{
    struct block_node *n = node_open(g, file, err);
    uint8_t zero[512] = { 0 };
    int ret;

    if (!n || !node_hold(n, true, false, err)) {
        node_unref(n);
        return false;
    }
    ret = n->size >= size ? 0 : n->drv->truncate ? node_truncate(n, size, err) : -ENOSPC;
    if (ret && !error_is_set(err))
        error_setf(err, ERR_GENERIC, "give a smaller size", "'%s' has %" PRIu64 " bytes only", n->filename, (uint64_t)n->size);
    if (!ret && n->size) {
        ret = node_pwrite(n, 0, zero, MIN(n->size, sizeof(zero)));
        if (ret)
            error_set_errno(err, -ret, NULL, "cannot write '%s'", n->filename);
    }
    node_release(n, true);
    node_unref(n);
    return !ret;
}

bool block_create_file(struct block_graph *g, const char *filename, struct json_object *opts, struct error *err)
{
    struct json_object *file = block_file_options(filename, err);
    const struct block_driver *drv = file ? block_driver_find(option_str(file, "driver", "")) : NULL;
    const char *path = file ? option_str(file, "filename", filename) : NULL;
    uint64_t size;
    bool ok = false;

    if (file && (!drv || drv->kind != DRIVER_PROTOCOL || (drv->create && g_str_has_prefix(path, "json:"))))
        error_setf(err, ERR_GENERIC, "give a plain name", "cannot create '%s'", filename);
    else if (drv && drv->create)
        ok = options_check(opts, drv->create_options, filename, err) && drv->create(g, path, opts, err);
    else if (drv)
        ok = option_size(opts, "size", 0, &size, err) && take_existing(g, file, size, err);
    json_object_put(file);
    return ok;
}

struct create_args {
    struct block_graph *g;
    const struct block_driver *drv;
    const char *filename;
    struct json_object *opts;
    struct error *err;
    bool ok;
};

static void create_run(void *arg)
{
    struct create_args *a = arg;

    a->ok = a->drv->create(a->g, a->filename, a->opts, a->err);
}

bool block_create(struct block_graph *g, const char *filename, const char *format, struct json_object *opts,
                  struct error *err)
{
    struct create_args a = { g, block_driver_find(format), filename, opts, err, false };
    g_autofree char *what = g_strdup_printf("format '%s'", format);
    uint64_t size;

    if (!a.drv)
        return block_driver_unknown(format, err);
    if (!option_size(opts, "size", 0, &size, err))
        return false;
    if (size > INT64_MAX - 511)
        return error_setf(err, ERR_GENERIC, "an image has less than 8E", "image size %" PRIu64 " is too large", size);
    if (!a.drv->create)
        return error_setf(err, ERR_GENERIC, "qcow2 and raw can", "images of format '%s' cannot be created", format);
    if (!options_check(opts, a.drv->create_options, what, err))
        return false;
    block_run(g, create_run, &a);
    return a.ok;
}
