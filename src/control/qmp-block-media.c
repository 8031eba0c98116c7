/* QMP: what is in a drive, and how fast it may be: trays, media, rate limits, write thresholds. */
#include <string.h>
#include "block/backend.h"
#include "block/filter/throttle.h"
#include "control/qmp-schema.h"
#include "rhea/base/options.h"
#include "rhea/block/job.h"
#include "rhea/vm/vm.h"

bool qmp_block_latency_histogram_set(struct vm *vm, const struct block_latency_histogram_set_args *args, struct error *err)
{
    static const char *const names[LATENCY_COUNT] = { "boundaries-read", "boundaries-write", "boundaries-zap", "boundaries-flush" };
    struct block_backend *b = backend_lookup(block_graph_of(vm), NULL, args->id, err);
    struct histogram *latency[LATENCY_COUNT] = { 0 };
    bool given[LATENCY_COUNT], any = json_object_object_get_ex(args->all, "boundaries", NULL), ok = b;

    for (unsigned i = 0; i < LATENCY_COUNT && ok; i++) {
        struct json_object *v = NULL;

        given[i] = json_object_object_get_ex(args->all, names[i], &v) || json_object_object_get_ex(args->all, "boundaries", &v);
        any |= given[i];
        ok = !given[i] || (latency[i] = histogram_new(v, err));
    }
    if (!ok) {
        for (unsigned i = 0; i < LATENCY_COUNT; i++)
            histogram_free(latency[i]);
        return false;
    }
    backend_quiesce(b);
    for (unsigned i = 0; i < LATENCY_COUNT; i++)
        if (!any || given[i]) {
            histogram_free(b->latency[i]);
            b->latency[i] = latency[i];
        }
    backend_resume(b);
    return true;
}

bool qmp_block_set_io_throttle(struct vm *vm, const struct block_set_io_throttle_args *args, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct block_backend *b = backend_lookup(g, args->device, args->id, err);
    struct throttle_group *group = NULL, *old;
    struct throttle_limits l;
    g_autofree char *qdev = NULL;
    const char *name;
    bool any;

    if (!b || graph_busy(g, err) || !throttle_drive_options(args->all, &l, &name, &any, err))
        return false;
    if (!b->root)
        return error_setf(err, ERR_GENERIC, NULL, "Device '%s' has no medium", args->device ? args->device : args->id);
    qdev = g_strdup(*b->name ? b->name : args->id);
    g_strdelimit(qdev, "/", '.');
    if (!name)
        name = b->throttle ? throttle_group_name(b->throttle) : *qdev == '.' ? qdev + 1 : qdev;
    if (any && !(group = throttle_group_join(vm, name, &l, err)))
        return false;
    backend_quiesce(b);
    old = b->throttle;
    b->throttle = group;
    backend_resume(b);
    if (old)
        throttle_group_leave(old);
    return true;
}

bool qmp_block_set_write_threshold(struct vm *vm, const struct block_set_write_threshold_args *args, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct block_node *n = node_find(g, args->node_name);

    if (!n)
        return error_setf(err, ERR_GENERIC, "query-named-block-nodes lists them", "Device '%s' not found", args->node_name);
    n->write_threshold = args->write_threshold;
    return true;
}

/* ---- trays and media */

static struct block_backend *removable(struct vm *vm, const char *device, const char *id, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct block_backend *b = backend_lookup(g, device, id, err);

    if (!b || graph_busy(g, err))
        return NULL;
    if (!b->removable) {
        error_setf(err, ERR_GENERIC, "it is a disk, not a drive with a tray", "Device '%s' is not removable", device ? device : id);
        return NULL;
    }
    return b;
}

static void tray_move(struct vm *vm, struct block_backend *b, bool open)
{
    struct json_object *o;
    g_autofree char *qdev = b->dev ? backend_qdev(b) : g_strdup("");

    if (b->tray_open == open)
        return;
    b->tray_open = open;
    o = json_object_new_object();
    json_object_object_add(o, "device", json_object_new_string(b->name));
    json_object_object_add(o, "id", json_object_new_string(qdev));
    json_object_object_add(o, "tray-open", json_object_new_boolean(open));
    vm_event(vm, "DEVICE_TRAY_MOVED", o);
}

static bool tray_open(struct vm *vm, struct block_backend *b, bool force, struct error *err)
{
    if (b->locked && !b->tray_open && !force)
        return error_setf(err, ERR_GENERIC, "force opens it", "Device '%s' is locked and force was not specified, wait for tray to open and try again",
                          b->name);
    tray_move(vm, b, true);
    return true;
}

static bool medium_remove(struct block_backend *b, struct error *err)
{
    if (!b->tray_open)
        return error_setf(err, ERR_GENERIC, "blockdev-open-tray opens it", "Tray of device '%s' is not open", b->name);
    if (!b->root)
        return true;
    if (job_on_node(b->graph, b->root, err))
        return false;
    backend_quiesce(b);
    backend_eject(b);
    backend_resume(b);
    if (b->on_change)
        b->on_change(b->on_change_arg);
    return true;
}

static bool medium_insert(struct block_backend *b, struct block_node *n, struct error *err)
{
    bool ok;

    if (!b->tray_open)
        return error_setf(err, ERR_GENERIC, "blockdev-open-tray opens it", "Tray of device '%s' is not open", b->name);
    if (b->root)
        return error_setf(err, ERR_GENERIC, "blockdev-remove-medium takes it out", "There already is a medium in device '%s'", b->name);
    backend_quiesce(b);
    ok = backend_insert(b, n, err);
    backend_resume(b);
    if (ok && b->on_change)
        b->on_change(b->on_change_arg);
    return ok;
}

bool qmp_blockdev_open_tray(struct vm *vm, const struct blockdev_open_tray_args *args, struct error *err)
{
    struct block_backend *b = removable(vm, args->device, args->id, err);

    return b && tray_open(vm, b, args->has_force && args->force, err);
}

bool qmp_blockdev_close_tray(struct vm *vm, const struct blockdev_close_tray_args *args, struct error *err)
{
    struct block_backend *b = removable(vm, args->device, args->id, err);

    if (b)
        tray_move(vm, b, false);
    return b != NULL;
}

bool qmp_blockdev_remove_medium(struct vm *vm, const struct blockdev_remove_medium_args *args, struct error *err)
{
    struct block_backend *b = removable(vm, NULL, args->id, err);

    return b && medium_remove(b, err);
}

bool qmp_blockdev_insert_medium(struct vm *vm, const struct blockdev_insert_medium_args *args, struct error *err)
{
    struct block_backend *b = removable(vm, NULL, args->id, err);
    struct block_node *n = b ? node_find(b->graph, args->node_name) : NULL;

    if (b && !n)
        return error_setf(err, ERR_GENERIC, "query-named-block-nodes lists them", "Node '%s' not found", args->node_name);
    return n && medium_insert(b, n, err);
}

bool qmp_eject(struct vm *vm, const struct eject_args *args, struct error *err)
{
    struct block_backend *b = removable(vm, args->device, args->id, err);

    return b && tray_open(vm, b, args->has_force && args->force, err) && medium_remove(b, err);
}

bool qmp_blockdev_change_medium(struct vm *vm, const struct blockdev_change_medium_args *args, struct error *err)
{
    struct block_backend *b = removable(vm, args->device, args->id, err);
    struct json_object *opts;
    struct block_node *n;
    bool read_only, ok;

    if (!b)
        return false;
    read_only = args->has_read_only_mode && args->read_only_mode != Q_BLOCKDEVCHANGEREADONLYMODE_RETAIN
                    ? args->read_only_mode == Q_BLOCKDEVCHANGEREADONLYMODE_READ_ONLY
                    : !b->root || b->root->read_only;
    opts = json_object_new_object();
    json_object_object_add(opts, "read-only", json_object_new_boolean(read_only));
    n = node_open_file(b->graph, args->filename, args->format, opts, err);
    json_object_put(opts);
    if (!n)
        return false;
    ok = tray_open(vm, b, args->has_force && args->force, err) && medium_remove(b, err) && medium_insert(b, n, err);
    node_unref(n);
    if (ok)
        tray_move(vm, b, false);
    return ok;
}
