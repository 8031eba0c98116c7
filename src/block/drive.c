/* -drive, -blockdev and what of QMP adds and removes nodes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "block/backend.h"
#include "block/export.h"
#include "block/filter/throttle.h"
#include "rhea/base/options.h"
#include "rhea/block/job.h"
#include "rhea/vm/vm.h"

static const struct { const char *name; enum block_if iface; int units; } interfaces[] = {
    { "none", IF_NONE, 0 }, { "ide", IF_IDE, 2 }, { "scsi", IF_SCSI, 7 }, { "floppy", IF_FLOPPY, 0 },
    { "pflash", IF_PFLASH, 0 }, { "mtd", IF_MTD, 0 }, { "sd", IF_SD, 0 }, { "virtio", IF_VIRTIO, 0 }, { "xen", IF_XEN, 0 },
};

/* Of -drive itself; the rest goes to the node. */
static const char *const drive_options[] = {
    "file", "if", "bus", "unit", "index", "media", "id", "format", "snapshot", "cache", "aio", "readonly", "rerror",
    "werror", "copy-on-read", "serial", "addr", "boot", "detect-zeroes", "discard", "node-name", "read-only",
    "auto-read-only", "driver", "force-share", "share-rw", "__implicit", "backing", "locking", "size", "offset", "throttling", "bps",
    "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr", "bps_max", "bps_rd_max", "bps_wr_max", "iops_max", "iops_rd_max",
    "iops_wr_max", "bps_max_length", "bps_rd_max_length", "bps_wr_max_length", "iops_max_length", "iops_rd_max_length",
    "iops_wr_max_length", "iops_size", "group", NULL,
};
static const char *const drive_only[] = {
    "file", "if", "bus", "unit", "index", "media", "id", "format", "snapshot", "cache", "aio", "readonly", "rerror",
    "werror", "copy-on-read", "serial", "addr", "boot", "share-rw", "__implicit", "locking", "read-only",
    "auto-read-only", "throttling", "group", NULL,
};

struct cache_mode { const char *name; bool writeback, direct, no_flush; };
static const struct cache_mode cache_modes[] = {
    { "writeback", true, false, false }, { "none", true, true, false }, { "off", true, true, false },
    { "writethrough", false, false, false }, { "directsync", false, true, false }, { "unsafe", true, false, true },
};

static const struct cache_mode *cache_find(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(cache_modes); i++)
        if (!strcmp(cache_modes[i].name, name))
            return &cache_modes[i];
    return NULL;
}

static void put_str(struct json_object *o, const char *key, const char *value)
{
    if (value && !json_object_object_get_ex(o, key, NULL))
        json_object_object_add(o, key, json_object_new_string(value));
}

static void put_bool(struct json_object *o, const char *key, bool value)
{
    if (!json_object_object_get_ex(o, key, NULL))
        json_object_object_add(o, key, json_object_new_boolean(value));
}

/* ---- the node of a drive */

/* cache=MODE and cache.writeback, cache.direct, cache.no-flush beside it. */
static bool drive_cache(struct json_object *opts, struct json_object *node, bool *writeback, struct error *err)
{
    struct json_object *v = NULL, *cache = json_object_new_object();
    struct cache_mode mode = cache_modes[0];
    bool ok = true;

    json_object_object_get_ex(opts, "cache", &v);
    if (v && !json_object_is_type(v, json_type_object)) {
        const struct cache_mode *m = cache_find(json_object_get_string(v));

        if (!m) {
            json_object_put(cache);
            return error_setf(err, ERR_GENERIC, "it is none, writeback, writethrough, directsync or unsafe",
                              "invalid cache option '%s'", json_object_get_string(v));
        }
        mode = *m;
        v = NULL;
    }
    ok = option_bool(v, "writeback", mode.writeback, writeback, err) &&
         option_bool(v, "direct", mode.direct, &mode.direct, err) &&
         option_bool(v, "no-flush", mode.no_flush, &mode.no_flush, err);
    json_object_object_add(cache, "direct", json_object_new_boolean(mode.direct));
    json_object_object_add(cache, "no-flush", json_object_new_boolean(mode.no_flush));
    json_object_object_add(node, "cache", cache);
    return ok;
}

struct overlay { struct block_graph *g; struct block_node *base, *top; struct error *err; char *path; };

/* An empty qcow2 image over base, in a file that nobody else can name. */
static bool overlay_create(struct overlay *o)
{
    const char *dir = getenv("TMPDIR");
    struct json_object *opts = json_object_new_object();
    bool ok;
    int fd;

    o->path = g_build_filename(dir && *dir ? dir : "/var/tmp", "rhea-snapshot-XXXXXX", NULL);
    fd = mkstemp(o->path);
    if (fd < 0) {
        json_object_put(opts);
        return error_set_errno(o->err, errno, "set TMPDIR to a directory with room", "cannot make '%s'", o->path);
    }
    close(fd);
    json_object_object_add(opts, "size", json_object_new_uint64(o->base->size));
    ok = block_create(o->g, o->path, "qcow2", opts, o->err);
    json_object_put(opts);
    return ok;
}

static void overlay_open(struct overlay *o, const char *node_name)
{
    struct json_object *top = json_object_new_object(), *file = json_object_new_object(),
                       *cache = json_object_new_object();

    json_object_object_add(file, "driver", json_object_new_string("file"));
    json_object_object_add(file, "filename", json_object_new_string(o->path));
    json_object_object_add(cache, "no-flush", json_object_new_boolean(true));
    json_object_object_add(top, "driver", json_object_new_string("qcow2"));
    put_str(top, "node-name", node_name);
    json_object_object_add(top, "file", file);
    json_object_object_add(top, "cache", cache);
    json_object_object_add(top, "discard", json_object_new_string("unmap"));
    json_object_object_add(top, "backing", json_object_new_string(o->base->name));
    o->top = node_open(o->g, top, o->err);
    json_object_put(top);
}

/* snapshot=on: writes go to a temporary overlay, which is gone from its directory at once. */
struct block_node *node_overlay(struct block_graph *g, struct block_node *base, const char *node_name, struct error *err)
{
    struct overlay o = { g, base, NULL, err, NULL };

    if (overlay_create(&o))
        overlay_open(&o, node_name);
    if (o.path)
        unlink(o.path);
    g_free(o.path);
    node_unref(base);           /* the overlay holds it now */
    return o.top;
}

/* What of the flat options belongs to the node. */
static struct json_object *drive_node_options(struct json_object *opts)
{
    struct json_object *node = json_object_new_object();

    json_object_object_foreach(opts, key, v)
        if (!g_strv_contains(drive_only, key) && !g_str_has_prefix(key, "bps") && !g_str_has_prefix(key, "iops"))
            json_object_object_add(node, key, json_object_get(v));
    return node;
}

static struct block_node *drive_open(struct block_graph *g, struct json_object *opts, struct json_object *node,
                                     struct error *err)
{
    const char *format = option_str(opts, "format", option_str(opts, "driver", NULL)),
               *aio = option_str(opts, "aio", NULL);
    const char *locking = option_str(opts, "locking", NULL);
    struct json_object *file = NULL;
    struct block_inherit in = { .aio = aio, .locking = locking };
    const struct block_driver *drv;
    struct block_node *n;

    json_object_object_get_ex(opts, "file", &file);
    json_object_object_del(node, "driver");
    if (json_object_is_type(file, json_type_object)) {
        put_str(file, "aio", aio);
        put_str(file, "locking", locking);
        json_object_object_add(node, "driver", json_object_new_string(format ? format : "raw"));
        json_object_object_add(node, "file", json_object_get(file));
        return node_open(g, node, err);
    }
    drv = format ? block_driver_find(format) : NULL;
    if (drv && drv->kind == DRIVER_PROTOCOL) {
        put_str(node, "driver", format);
        if (file)
            put_str(node, "filename", json_object_get_string(file));
        return node_open(g, node, err);
    }
    g->inherit = &in;
    n = node_open_file(g, json_object_get_string(file), format, node, err);
    g->inherit = NULL;
    return n;
}

/* ---- -drive */

static bool drive_interface(struct block_backend *b, struct json_object *opts, struct error *err)
{
    const char *name = option_str(opts, "if", "ide"), *names[G_N_ELEMENTS(interfaces) + 1] = { 0 }, *near;
    g_autofree char *hint = NULL;
    int64_t index, bus, unit;
    int units = 0;

    b->iface = -1;
    for (unsigned i = 0; i < G_N_ELEMENTS(interfaces); i++) {
        names[i] = interfaces[i].name;
        if (!strcmp(name, names[i])) {
            b->iface = interfaces[i].iface;
            units = interfaces[i].units;
        }
    }
    if ((int)b->iface == -1) {
        near = nearest_spelling(name, names);
        hint = near ? g_strdup_printf("did you mean '%s'?", near) : NULL;
        return error_setf(err, ERR_GENERIC, hint ? hint : "it is none, ide, scsi, floppy, pflash, sd, virtio",
                          "unsupported bus type '%s'", name);
    }
    if (!option_int(opts, "index", -1, &index, err) || !option_int(opts, "bus", -1, &bus, err) ||
        !option_int(opts, "unit", -1, &unit, err))
        return false;
    if (index > 1000 || bus > 1000 || unit > 1000)
        return error_set(err, ERR_GENERIC, "index, bus or unit is too large", NULL);
    if (index >= 0 && (bus >= 0 || unit >= 0))
        return error_set(err, ERR_GENERIC, "index cannot be used with bus and unit", NULL);
    b->bus = index >= 0 ? (units ? index / units : 0) : MAX(bus, 0);
    b->unit = index >= 0 ? (units ? index % units : index) : unit;
    return true;
}

static struct block_backend *drive_at(struct block_graph *g, const struct block_backend *self, int bus, int unit)
{
    for (unsigned i = 0; i < g->backends->len; i++) {
        struct block_backend *b = g_ptr_array_index(g->backends, i);

        if (b != self && b->drive && b->iface == self->iface && b->bus == bus && b->unit == unit)
            return b;
    }
    return NULL;
}

/* The place that was asked for, or the first free one; and a name after it, as "virtio0", "ide1-cd0". */
static bool drive_place(struct block_backend *b, const char *id, struct error *err)
{
    struct block_graph *g = b->graph;
    const char *iface = "";
    int units = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(interfaces); i++) {
        if (interfaces[i].iface == b->iface) {
            iface = interfaces[i].name;
            units = interfaces[i].units;
        }
    }
    if (b->unit < 0) {
        for (b->unit = 0; drive_at(g, b, b->bus, b->unit);) {
            if (++b->unit >= units && units) {
                b->unit = 0;
                b->bus++;
            }
        }
    }
    if (b->iface != IF_NONE && drive_at(g, b, b->bus, b->unit))
        return error_setf(err, ERR_GENERIC, "give another index=, or leave it out",
                          "drive with bus=%d, unit=%d (index=%d) exists", b->bus, b->unit,
                          units ? b->bus * units + b->unit : b->unit);
    g_free(b->name);
    if (id)
        b->name = g_strdup(id);
    else if (units)
        b->name = g_strdup_printf("%s%d-%s%d", iface, b->bus, b->removable ? "cd" : "hd", b->unit);
    else
        b->name = g_strdup_printf("%s%d", iface, b->unit);
    return true;
}

static bool drive_media(struct block_backend *b, struct json_object *opts, struct error *err)
{
    const char *media = option_str(opts, "media", "disk");

    if (strcmp(media, "disk") && strcmp(media, "cdrom"))
        return error_setf(err, ERR_GENERIC, "it is disk or cdrom", "'%s' invalid media", media);
    b->removable = !strcmp(media, "cdrom") || b->iface == IF_FLOPPY;
    return true;
}

static bool drive_read_only(struct block_backend *b, struct json_object *opts, struct json_object *node,
                            struct error *err)
{
    bool read_only, auto_ro, cdrom = !strcmp(option_str(opts, "media", "disk"), "cdrom");

    if (!option_bool(opts, "readonly", cdrom, &read_only, err) ||
        !option_bool(opts, "read-only", read_only, &read_only, err) ||
        !option_bool(opts, "auto-read-only", false, &auto_ro, err))
        return false;
    put_bool(node, "read-only", read_only);
    put_bool(node, "auto-read-only", auto_ro);
    return true;
}

static bool drive_refused(struct json_object *opts, struct error *err)
{
    json_object_object_foreach(opts, key, v) {
        (void)v;
        if (!strcmp(key, "serial") || !strcmp(key, "addr"))
            return error_setf(err, ERR_GENERIC,
                              "use -drive if=none,id=X and -device virtio-blk-pci,drive=X,serial=...",
                              "-drive has no parameter '%s' any more", key);
    }
    return true;
}

struct block_node *node_copy_on_read(struct block_graph *g, struct block_node *n, struct error *err)
{
    struct json_object *opts = json_object_new_object();
    struct block_node *filter = NULL;

    json_object_object_add(opts, "driver", json_object_new_string("copy-on-read"));
    json_object_object_add(opts, "file", json_object_new_string(n->name));
    if (n->read_only)
        error_set(err, ERR_GENERIC, "Can't use copy-on-read on read-only device", "leave copy-on-read out, or readonly");
    else
        filter = node_open(g, opts, err);
    json_object_put(opts);
    node_unref(n);              /* the filter holds it */
    return filter;
}

static bool drive_throttle(struct block_backend *b, struct json_object *opts, struct error *err)
{
    struct throttle_limits l;
    const char *group;
    bool any;

    if (!throttle_drive_options(opts, &l, &group, &any, err))
        return false;
    if (any)
        b->throttle = throttle_group_join(b->graph->vm, group ? group : b->name, &l, err);
    return !any || b->throttle;
}

static struct block_node *drive_root(struct block_backend *b, struct json_object *opts, struct json_object *node,
                                     struct error *err)
{
    const char *name = option_str(node, "node-name", NULL);
    g_autofree char *overlay_name = g_strdup(name);
    struct block_node *n;
    bool snapshot, copy_on_read;

    if (!option_bool(opts, "snapshot", false, &snapshot, err) || !option_bool(opts, "copy-on-read", false, &copy_on_read, err))
        return NULL;
    if (snapshot) {
        json_object_object_del(node, "node-name");
        json_object_object_del(node, "read-only");
        put_bool(node, "read-only", true);
    }
    n = drive_open(b->graph, opts, node, err);
    if (n && snapshot)
        n = node_overlay(b->graph, n, overlay_name, err);
    return n && copy_on_read ? node_copy_on_read(b->graph, n, err) : n;
}

static bool drive_setup(struct block_backend *b, struct json_object *opts, struct error *err)
{
    struct json_object *node = NULL, *file = NULL;
    const char *id = option_str(opts, "id", NULL);
    bool ok;

    if (!drive_refused(opts, err) || !options_check(opts, drive_options, "-drive", err) ||
        !drive_interface(b, opts, err) || !drive_media(b, opts, err) ||
        !block_backend_set_policy(b, option_str(opts, "rerror", NULL), option_str(opts, "werror", NULL), err) ||
        !option_bool(opts, "share-rw", false, &b->share, err))
        return false;
    if (id && (backend_find(b->graph, id) || node_find(b->graph, id)))
        return error_setf(err, ERR_GENERIC, "choose another id", "Device with id '%s' already exists", id);
    if (!drive_place(b, id, err) || !drive_throttle(b, opts, err))
        return false;
    node = drive_node_options(opts);
    json_object_object_get_ex(opts, "file", &file);
    ok = drive_cache(opts, node, &b->writeback, err) && drive_read_only(b, opts, node, err);
    /* no file: an empty drive */
    if (ok && (file || option_str(opts, "driver", NULL))) {
        b->root = drive_root(b, opts, node, err);
        ok = b->root != NULL;
    } else if (ok && !b->removable) {
        ok = error_setf(err, ERR_GENERIC, "give file=..., or media=cdrom for an empty drive",
                        "drive '%s' has no image", b->name);
    }
    json_object_put(node);
    return ok;
}

bool block_add_drive(struct vm *vm, struct json_object *flat, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct json_object *opts = options_nest(flat, err);
    struct block_backend *b;

    if (!opts)
        return false;
    b = backend_new(g, "", NULL);
    b->drive = true;
    b->opts = opts;
    if (drive_setup(b, opts, err))
        return true;
    backend_free(b);
    return false;
}

void block_foreach_drive(struct vm *vm, enum block_if iface,
                         void (*fn)(struct vm *vm, const char *drive, struct json_object *opts, void *opaque),
                         void *opaque)
{
    struct block_graph *g = block_graph_of(vm);
    g_autoptr(GPtrArray) list = g_ptr_array_new();

    for (unsigned i = 0; i < g->backends->len; i++) {
        struct block_backend *b = g_ptr_array_index(g->backends, i);
        unsigned at = list->len;

        if (!b->drive || b->iface != iface)
            continue;
        while (at) {
            const struct block_backend *before = g_ptr_array_index(list, at - 1);

            if (before->bus < b->bus || (before->bus == b->bus && before->unit <= b->unit))
                break;
            at--;
        }
        g_ptr_array_insert(list, at, b);
    }
    for (unsigned i = 0; i < list->len; i++) {
        struct block_backend *b = g_ptr_array_index(list, i);

        fn(vm, b->name, b->opts, opaque);
    }
}

/* ---- -blockdev */

bool block_add_node(struct vm *vm, struct json_object *opts, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    const char *name = option_str(opts, "node-name", NULL);
    struct block_node *n;

    if (!name)
        return error_set(err, ERR_GENERIC, "'node-name' must be specified for the root node",
                         "add node-name=NAME");
    if (backend_find(g, name))
        return error_setf(err, ERR_GENERIC, "choose another", "node-name=%s is conflicting with a device id",
                          name);
    n = node_open(g, opts, err);
    if (!n)
        return false;
    n->user_owned = true;
    return exports_return(g, err);      /* its children are active now */
}

bool block_del_node(struct vm *vm, const char *node_name, struct error *err)
{
    struct block_node *n = node_find(block_graph_of(vm), node_name);

    if (!n)
        return error_setf(err, ERR_GENERIC, "query-named-block-nodes lists them",
                          "Failed to find node with node-name='%s'", node_name);
    if (!n->user_owned)
        return error_setf(err, ERR_GENERIC, NULL, "Node %s is not owned by the monitor", node_name);
    if (n->refs > 1 || exports_away(n->graph, node_name))
        return error_setf(err, ERR_GENERIC, "remove what uses it first", "Node %s is in use", node_name);
    n->user_owned = false;
    node_unref(n);
    return true;
}

bool block_del_drive(struct vm *vm, const char *id, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct block_backend *b = backend_find(g, id);

    if (!b || !b->drive)
        return error_setf(err, ERR_DEVICE_NOT_FOUND, "info block lists them", "Device '%s' not found", id);
    if (graph_busy(g, err) || (b->root && job_on_node(g, b->root, err)))
        return false;
    if (!b->dev) {
        backend_free(b);
        return true;
    }
    backend_quiesce(b);
    backend_eject(b);
    b->drive = false;           /* it goes with its device */
    g_free(b->name);
    b->name = g_strdup("");
    backend_resume(b);
    return true;
}

struct resize { struct block_node *n; uint64_t size; struct error *err; int ret; };

static void resize_run(void *arg)
{
    struct resize *r = arg;

    r->ret = node_truncate(r->n, r->size, r->err);
}

struct block_node *block_lookup(struct block_graph *g, const char *name, struct error *err)
{
    struct block_backend *b = backend_find(g, name);
    struct block_node *n = b ? b->root : node_find(g, name);

    if (!n)
        error_setf(err, ERR_GENERIC, "query-block lists them", "Cannot find device='%s' nor node-name='%s'", name, name);
    return n && node_is_active(n, err) ? n : NULL;
}

void backends_on_node(struct block_graph *g, const struct block_node *n, void (*fn)(struct block_backend *b))
{
    for (unsigned i = 0; i < g->backends->len; i++) {
        struct block_backend *b = g_ptr_array_index(g->backends, i);

        if (b->root == n)
            fn(b);
    }
}

bool block_resize(struct vm *vm, const char *name, uint64_t size, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct resize r = { block_lookup(g, name, err), size, err, 0 };

    if (!r.n)
        return false;
    if (job_on_node(g, r.n, err) || node_kept(g, r.n, err))
        return false;
    if (size & 511 || size > INT64_MAX)
        return error_setf(err, ERR_GENERIC, "disks have whole sectors of 512 bytes",
                          "cannot resize to %" PRIu64 " bytes", size);
    backends_on_node(g, r.n, backend_quiesce);
    block_run(g, resize_run, &r);
    backends_on_node(g, r.n, backend_resume);
    if (!r.ret)
        backends_changed(g, r.n);
    return r.ret == 0;
}

/* ---- the whole machine */

static void flush_run(void *arg)
{
    struct block_graph *g = arg;

    for (unsigned i = 0; i < g->backends->len; i++) {
        struct block_backend *b = g_ptr_array_index(g->backends, i);
        int ret = b->root && !b->root->read_only ? node_flush(b->root) : 0;

        if (ret)
            warn_report("%s: flush failed: %s", b->root->filename, g_strerror(-ret));
    }
}

void block_flush_all(struct vm *vm)
{
    if (!vm->block_graph)
        return;
    for (unsigned i = 0; i < vm->block_graph->backends->len; i++) {
        struct block_backend *b = g_ptr_array_index(vm->block_graph->backends, i);

        if (b->dev)             /* what the guest has asked for is done, not queued */
            block_drain(b);
    }
    graph_quiesce(vm->block_graph);
    block_run(vm->block_graph, flush_run, vm->block_graph);
    graph_resume(vm->block_graph);
}

void block_close_all(struct vm *vm)
{
    if (!vm->block_graph)
        return;
    block_flush_all(vm);
    if (vm->priv)
        vm_state_unnotify(vm, backends_running, vm->block_graph);
    block_graph_free(vm->block_graph);
    vm->block_graph = NULL;
}
