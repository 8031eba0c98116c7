/* QMP: the size of a disk, and what it keeps beside its contents: dirty bitmaps, internal snapshots. */
#include <errno.h>
#include <string.h>
#include "block/backend.h"
#include "control/qmp-schema.h"
#include "rhea/base/options.h"
#include "rhea/block/bitmap.h"
#include "rhea/vm/object.h"

bool qmp_block_resize(struct vm *vm, const struct block_resize_args *args, struct error *err)
{
    if (!args->device == !args->node_name)
        return error_set(err, ERR_GENERIC, "Need exactly one of 'device' and 'node-name'", NULL);
    if (args->size < 0)
        return error_set(err, ERR_GENERIC, "Parameter 'size' expects a >0 size", NULL);
    return block_resize(vm, args->device ? args->device : args->node_name, args->size, err);
}

/* ---- nodes */

static struct block_node *node_named(struct vm *vm, const char *name, struct error *err)
{
    struct block_node *n = node_find(block_graph_of(vm), name);

    if (!n)
        error_setf(err, ERR_GENERIC, "query-named-block-nodes lists them", "Failed to find node with node-name='%s'", name);
    return n;
}

bool qmp_blockdev_set_active(struct vm *vm, const struct blockdev_set_active_args *args, struct error *err)
{
    return block_set_active(vm, args->node_name, args->active, err);
}

bool qmp_x_blockdev_set_iothread(struct vm *vm, const struct x_blockdev_set_iothread_args *args, struct error *err)
{
    const char *name = json_object_is_type(args->iothread, json_type_string) ? json_object_get_string(args->iothread) : NULL;
    struct object *o;

    if (!node_named(vm, args->node_name, err))
        return false;
    o = name ? object_find(vm, name) : NULL;
    if (name && (!o || strcmp(o->cls->name, "iothread")))
        return error_setf(err, ERR_GENERIC, "-object iothread,id=ID makes one", "Cannot find iothread %s", name);
    return true;
}

/* ---- dirty bitmaps */

/* Bitmaps come and go while nobody writes to their node. */
struct bitmap_call { struct block_node *n; struct dirty_bitmap *b; struct error *err; bool ok; };

static struct dirty_bitmap *bitmap_named(struct vm *vm, const char *node, const char *name, struct error *err)
{
    struct block_node *n = block_lookup(block_graph_of(vm), node, err);

    return n ? bitmap_find(n, name, err) : NULL;
}

bool qmp_block_dirty_bitmap_add(struct vm *vm, const struct block_dirty_bitmap_add_args *args, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct block_node *n = block_lookup(g, args->node, err);
    bool ok;

    if (!n)
        return false;
    if (args->has_granularity && args->granularity <= 0)
        return error_set(err, ERR_GENERIC, "Granularity must be a power of 2, at least 512, at most 2G", NULL);
    if (args->has_persistent && args->persistent && n->read_only)
        return error_setf(err, ERR_GENERIC, "open the image for writing", "'%s' is read-only and cannot keep a bitmap", args->node);
    backends_on_node(g, n, backend_quiesce);
    ok = bitmap_add(n, args->name, args->has_granularity ? args->granularity : 0, args->has_persistent && args->persistent,
                    !(args->has_disabled && args->disabled), err);
    backends_on_node(g, n, backend_resume);
    return ok;
}

static void remove_run(void *arg)
{
    struct bitmap_call *c = arg;

    c->ok = bitmap_remove(c->b, c->err);
}

bool qmp_block_dirty_bitmap_remove(struct vm *vm, const struct block_dirty_bitmap_remove_args *args, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct bitmap_call c = { .b = bitmap_named(vm, args->node, args->name, err), .err = err };

    if (!c.b)
        return false;
    c.n = c.b->node;
    backends_on_node(g, c.n, backend_quiesce);
    block_run(g, remove_run, &c);
    backends_on_node(g, c.n, backend_resume);
    return c.ok;
}

bool qmp_block_dirty_bitmap_clear(struct vm *vm, const struct block_dirty_bitmap_clear_args *args, struct error *err)
{
    struct dirty_bitmap *b = bitmap_named(vm, args->node, args->name, err);

    if (!b || !bitmap_usable(b, true, err))
        return false;
    bitmap_clear(b);
    return true;
}

static bool bitmap_enable(struct dirty_bitmap *b, bool on, struct error *err)
{
    if (!b || !bitmap_usable(b, true, err))
        return false;
    b->enabled = on;
    return true;
}

bool qmp_block_dirty_bitmap_enable(struct vm *vm, const struct block_dirty_bitmap_enable_args *args, struct error *err)
{
    return bitmap_enable(bitmap_named(vm, args->node, args->name, err), true, err);
}

bool qmp_block_dirty_bitmap_disable(struct vm *vm, const struct block_dirty_bitmap_disable_args *args, struct error *err)
{
    return bitmap_enable(bitmap_named(vm, args->node, args->name, err), false, err);
}

/* "name", or {"node": ..., "name": ...} */
static struct dirty_bitmap *merge_source(struct vm *vm, const char *node, struct json_object *v, struct error *err)
{
    struct dirty_bitmap *b;

    if (json_object_is_type(v, json_type_object))
        b = bitmap_named(vm, option_str(v, "node", ""), option_str(v, "name", ""), err);
    else
        b = bitmap_named(vm, node, json_object_get_string(v), err);
    return b && bitmap_usable(b, false, err) ? b : NULL;
}

/* All of them or none. */
bool qmp_block_dirty_bitmap_merge(struct vm *vm, const struct block_dirty_bitmap_merge_args *args, struct error *err)
{
    struct dirty_bitmap *target = bitmap_named(vm, args->node, args->target, err);
    size_t count = json_object_array_length(args->bitmaps);

    if (!target || !bitmap_usable(target, true, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!merge_source(vm, args->node, json_object_array_get_idx(args->bitmaps, i), err))
            return false;
    for (size_t i = 0; i < count; i++)
        bitmap_merge(target, merge_source(vm, args->node, json_object_array_get_idx(args->bitmaps, i), err));
    return true;
}

bool qmp_x_debug_block_dirty_bitmap_sha256(struct vm *vm, const struct x_debug_block_dirty_bitmap_sha256_args *args,
                                           struct json_object **ret, struct error *err)
{
    struct dirty_bitmap *b = bitmap_named(vm, args->node, args->name, err);
    g_autofree char *sum = b ? bitmap_sha256(b) : NULL;

    if (!b)
        return false;
    *ret = json_object_new_object();
    json_object_object_add(*ret, "sha256", json_object_new_string(sum));
    return true;
}

/* ---- internal snapshots */

struct snapshot_call { struct block_node *n; const char *name; bool make; struct error *err; bool ok; };

static void snapshot_run(void *arg)
{
    struct snapshot_call *c = arg;
    int64_t now = g_get_real_time();
    struct block_snapshot s = { .name = c->name, .date_sec = now / 1000000, .date_nsec = now % 1000000 * 1000, .icount = UINT64_MAX };

    c->ok = c->make ? c->n->drv->snapshot_create(c->n, &s, c->err) : c->n->drv->snapshot_delete(c->n, c->name, c->err);
}

static bool snapshot_call(struct vm *vm, struct snapshot_call *c)
{
    struct block_graph *g = block_graph_of(vm);

    backends_on_node(g, c->n, backend_quiesce);
    block_run(g, snapshot_run, c);
    backends_on_node(g, c->n, backend_resume);
    return c->ok;
}

static struct block_node *snapshot_node(struct vm *vm, const char *device, struct error *err)
{
    struct block_node *n = block_lookup(block_graph_of(vm), device, err);

    if (n && !n->drv->snapshot_create)
        error_setf(err, ERR_GENERIC, "qcow2 has them", "Block format '%s' used by device '%s' does not support internal snapshots",
                   n->drv->name, device);
    else if (n && n->read_only)
        error_setf(err, ERR_GENERIC, "open it for writing", "Device '%s' is read only", device);
    return error_is_set(err) ? NULL : n;
}

/* The snapshot's description, or NULL; both that are given must fit. Caller puts. */
static struct json_object *snapshot_find(struct block_node *n, const char *id, const char *name)
{
    struct json_object *all = n->drv->snapshots(n), *found = NULL;

    for (size_t i = 0; all && !found && i < json_object_array_length(all); i++) {
        struct json_object *s = json_object_array_get_idx(all, i);

        if ((!id || !strcmp(option_str(s, "id", ""), id)) && (!name || !strcmp(option_str(s, "name", ""), name)))
            found = json_object_get(s);
    }
    json_object_put(all);
    return found;
}

bool qmp_blockdev_snapshot_internal_sync(struct vm *vm, const struct blockdev_snapshot_internal_sync_args *args, struct error *err)
{
    struct snapshot_call c = { .n = snapshot_node(vm, args->device, err), .name = args->name, .make = true, .err = err };
    struct json_object *there = c.n ? snapshot_find(c.n, NULL, args->name) : NULL;

    json_object_put(there);
    if (there)
        return error_setf(err, ERR_GENERIC, "choose another name", "Snapshot with name '%s' already exists on device '%s'", args->name,
                          args->device);
    return c.n && snapshot_call(vm, &c);
}

bool qmp_blockdev_snapshot_delete_internal_sync(struct vm *vm, const struct blockdev_snapshot_delete_internal_sync_args *args,
                                                struct json_object **ret, struct error *err)
{
    struct snapshot_call c = { .n = snapshot_node(vm, args->device, err), .err = err };
    g_autofree char *id = NULL;

    if (!c.n)
        return false;
    if (!args->id && !args->name)
        return error_set(err, ERR_GENERIC, "Name or id must be provided", NULL);
    *ret = snapshot_find(c.n, args->id, args->name);
    if (!*ret)
        return error_setf(err, ERR_GENERIC, "query-block lists them", "Snapshot with id '%s' and name '%s' does not exist on device '%s'",
                          args->id ? args->id : "null", args->name ? args->name : "null", args->device);
    c.name = id = g_strdup(option_str(*ret, "id", ""));
    if (snapshot_call(vm, &c))
        return true;
    json_object_put(*ret);
    *ret = NULL;
    return false;
}

bool qmp_query_pr_managers(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = json_object_new_array();
    return true;
}
