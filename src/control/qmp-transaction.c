/* QMP: external snapshots, and `transaction`: several actions at one moment of the guest's, or none. */
#include <string.h>
#include "block/backend.h"
#include "control/qmp-block.h"
#include "control/qmp-schema.h"
#include "rhea/base/options.h"
#include "rhea/block/bitmap.h"
#include "rhea/block/job.h"

/* ---- actions: done in order, undone in the opposite one. The graph is quiet from the first to the last. */

struct action {
    const struct action_kind *kind;
    struct vm *vm;
    struct block_graph *graph;
    struct json_object *data;
    struct job_txn *txn;
    /* what some need to go back, or on */
    struct block_node *node, *overlay;
    bool own_overlay;
    struct dirty_bitmap *bitmap, *saved;
    bool was_enabled;
    struct job *job;
};

struct action_kind {
    const char *type;           /* the command that does it alone */
    bool (*prepare)(struct action *a, struct error *err);
    void (*commit)(struct action *a);
    void (*abort)(struct action *a);
};

static bool command_run(struct action *a, struct error *err)
{
    const struct schema_command *cmd = schema_command_find(a->kind->type);
    struct json_object *ret = NULL;
    bool ok = cmd->call(NULL, a->vm, a->data, &ret, err);

    json_object_put(ret);
    return ok;
}

static struct dirty_bitmap *action_bitmap(struct action *a, const char *member, struct error *err)
{
    struct block_node *n = block_lookup(a->graph, option_str(a->data, "node", ""), err);

    return n ? bitmap_find(n, option_str(a->data, member, ""), err) : NULL;
}

static bool abort_prepare(struct action *a, struct error *err)
{
    return error_set(err, ERR_GENERIC, "Transaction aborted using Abort action", NULL);
}

/* ---- bitmaps */

static void bitmap_add_abort(struct action *a)
{
    const struct schema_command *cmd = schema_command_find("block-dirty-bitmap-remove");
    struct json_object *ret = NULL;

    cmd->call(NULL, a->vm, a->data, &ret, NULL);
    json_object_put(ret);
}

static bool bitmap_change(struct action *a, const char *member, struct error *err)
{
    a->bitmap = action_bitmap(a, member, err);
    if (!a->bitmap)
        return false;
    a->was_enabled = a->bitmap->enabled;
    a->saved = bitmap_add(a->bitmap->node, NULL, 1ull << a->bitmap->granularity_bits, false, false, err);
    if (!a->saved)
        return false;
    bitmap_merge(a->saved, a->bitmap);
    if (command_run(a, err))
        return true;
    bitmap_free(a->saved);
    a->saved = NULL;
    return false;
}

static bool bitmap_name_change(struct action *a, struct error *err) { return bitmap_change(a, "name", err); }
static bool bitmap_target_change(struct action *a, struct error *err) { return bitmap_change(a, "target", err); }

static void bitmap_change_commit(struct action *a)
{
    bitmap_free(a->saved);
}

static void bitmap_change_abort(struct action *a)
{
    bitmap_clear(a->bitmap);
    bitmap_merge(a->bitmap, a->saved);
    a->bitmap->enabled = a->was_enabled;
    bitmap_free(a->saved);
}

/* What an image keeps of a bitmap goes only when all is sure. */
static bool bitmap_remove_prepare(struct action *a, struct error *err)
{
    a->bitmap = action_bitmap(a, "name", err);
    if (!a->bitmap)
        return false;
    if (a->bitmap->busy)
        return bitmap_usable(a->bitmap, false, err);
    if (a->bitmap->persistent && a->bitmap->node->read_only)
        return error_setf(err, ERR_GENERIC, "open the image for writing", "Bitmap '%s' is readonly and cannot be modified", a->bitmap->name);
    a->bitmap->busy = true;
    return true;
}

static void bitmap_remove_commit(struct action *a)
{
    struct error err = ERROR_INIT;

    a->bitmap->busy = false;
    if (!command_run(a, &err))
        error_report(&err);
}

static void bitmap_remove_abort(struct action *a)
{
    a->bitmap->busy = false;
}

/* ---- external snapshots */

static bool overlay_take(struct action *a, struct error *err)
{
    if (!snapshot_overlay_check(a->graph, a->node, a->overlay, err) || !snapshot_overlay(a->graph, a->node, a->overlay, err))
        return false;
    node_ref(a->node);
    return true;
}

static bool snapshot_prepare(struct action *a, struct error *err)
{
    a->node = block_lookup(a->graph, option_str(a->data, "node", ""), err);
    a->overlay = a->node ? block_lookup(a->graph, option_str(a->data, "overlay", ""), err) : NULL;
    return a->overlay && overlay_take(a, err);
}

static bool snapshot_sync_prepare(struct action *a, struct error *err)
{
    const char *device = option_str(a->data, "device", NULL), *node = option_str(a->data, "node-name", NULL),
               *mode = option_str(a->data, "mode", "absolute-paths");
    struct new_image i = { .filename = option_str(a->data, "snapshot-file", ""), .format = option_str(a->data, "format", "qcow2"),
                           .node_name = option_str(a->data, "snapshot-node-name", NULL), .existing = !strcmp(mode, "existing") };

    if (!device == !node)
        return error_set(err, ERR_GENERIC, "Need exactly one of 'device' and 'node-name'", NULL);
    a->node = node_skip_filters(block_lookup(a->graph, device ? device : node, err));
    if (!a->node || !snapshot_node_check(a->graph, a->node, err))
        return false;
    i.size = a->node->size;
    i.like = i.backing = a->node;
    a->overlay = block_new_image(a->graph, &i, err);
    if (!a->overlay)
        return false;
    if (!snapshot_overlay(a->graph, a->node, a->overlay, err)) {
        node_unref(a->overlay);
        return false;
    }
    node_ref(a->node);
    a->own_overlay = true;
    return true;
}

static void snapshot_settle(struct action *a)
{
    if (a->own_overlay)
        node_unref(a->overlay);
    node_unref(a->node);
}

/* The image below is written to no more: what it keeps in memory goes to disk. Some formats cannot change; they stay as they are. */
static void snapshot_commit(struct action *a)
{
    if (!a->node->writers)
        node_set_read_only(a->node, true, NULL);
    snapshot_settle(a);
}

static void snapshot_abort(struct action *a)
{
    snapshot_overlay_undo(a->graph, a->node, a->overlay);
    snapshot_settle(a);
}

static void internal_abort(struct action *a)
{
    const struct schema_command *cmd = schema_command_find("blockdev-snapshot-delete-internal-sync");
    struct json_object *ret = NULL;

    cmd->call(NULL, a->vm, a->data, &ret, NULL);
    json_object_put(ret);
}

/* ---- backups */

static bool backup_prepare(struct action *a, struct error *err)
{
    a->job = block_backup_start(a->graph, a->data, !strcmp(a->kind->type, "drive-backup"), a->txn, true, err);
    return a->job != NULL;
}

static void backup_commit(struct action *a)
{
    job_start(a->job);
}

static void backup_abort(struct action *a)
{
    g_autofree char *id = g_strdup(option_str(a->data, "job-id", option_str(a->data, "device", "")));
    struct job *j;

    if (job_find(a->graph, id, NULL) != a->job)
        return;                 /* it went with another of its group */
    job_user_cancel(a->job, true, NULL);
    j = job_find(a->graph, id, NULL);
    if (j)
        job_dismiss(j, NULL);
}

static const struct action_kind kinds[] = {
    { "abort", abort_prepare, NULL, NULL },
    { "block-dirty-bitmap-add", command_run, NULL, bitmap_add_abort },
    { "block-dirty-bitmap-remove", bitmap_remove_prepare, bitmap_remove_commit, bitmap_remove_abort },
    { "block-dirty-bitmap-clear", bitmap_name_change, bitmap_change_commit, bitmap_change_abort },
    { "block-dirty-bitmap-enable", bitmap_name_change, bitmap_change_commit, bitmap_change_abort },
    { "block-dirty-bitmap-disable", bitmap_name_change, bitmap_change_commit, bitmap_change_abort },
    { "block-dirty-bitmap-merge", bitmap_target_change, bitmap_change_commit, bitmap_change_abort },
    { "blockdev-backup", backup_prepare, backup_commit, backup_abort },
    { "blockdev-snapshot", snapshot_prepare, snapshot_commit, snapshot_abort },
    { "blockdev-snapshot-internal-sync", command_run, NULL, internal_abort },
    { "blockdev-snapshot-sync", snapshot_sync_prepare, snapshot_commit, snapshot_abort },
    { "drive-backup", backup_prepare, backup_commit, backup_abort },
};

/* ---- the transaction */

static const struct action_kind *kind_find(const char *type)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (!strcmp(kinds[i].type, type))
            return &kinds[i];
    return NULL;
}

static bool action_parse(struct action *a, struct json_object *o, struct error *err)
{
    const struct schema_command *cmd;

    a->kind = kind_find(option_str(o, "type", ""));
    json_object_object_get_ex(o, "data", &a->data);
    if (!a->kind || !a->data || !json_object_is_type(a->data, json_type_object))
        return error_set(err, ERR_GENERIC, "an action has a type and its data", NULL);
    cmd = schema_command_find(a->kind->type);
    return !cmd || schema_check(&schema_types[cmd->arg_type], a->data, "data", err);
}

static bool actions_run(struct block_graph *g, struct action *actions, size_t count, struct error *err)
{
    size_t done = 0;
    bool ok = true;

    graph_quiesce(g);
    while (done < count && ok) {
        ok = actions[done].kind->prepare(&actions[done], err);
        done += ok;
    }
    for (size_t i = 0; i < done; i++) {
        struct action *a = &actions[ok ? i : done - 1 - i];
        void (*fn)(struct action *) = ok ? a->kind->commit : a->kind->abort;

        if (fn)
            fn(a);
    }
    graph_resume(g);
    return ok;
}

static bool transaction(struct vm *vm, struct json_object *list, bool grouped, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    size_t count = json_object_array_length(list);
    g_autofree struct action *actions = g_new0(struct action, count + 1);
    struct job_txn *txn = NULL;
    bool ok = !graph_busy(g, err);

    for (size_t i = 0; i < count && ok; i++) {
        actions[i].vm = vm;
        actions[i].graph = g;
        ok = action_parse(&actions[i], json_object_array_get_idx(list, i), err);
    }
    if (!ok)
        return false;
    txn = grouped ? job_txn_new() : NULL;
    for (size_t i = 0; i < count; i++)
        actions[i].txn = txn;
    ok = actions_run(g, actions, count, err);
    job_txn_unref(txn);
    return ok;
}

bool qmp_transaction(struct vm *vm, const struct transaction_args *args, struct error *err)
{
    bool grouped = args->has_properties && !strcmp(option_str(args->properties, "completion-mode", "individual"), "grouped");

    return transaction(vm, args->actions, grouped, err);
}

/* One action alone. */
static bool single(struct vm *vm, const char *type, struct json_object *data, struct error *err)
{
    struct json_object *list = json_object_new_array(), *o = json_object_new_object();
    bool ok;

    json_object_object_add(o, "type", json_object_new_string(type));
    json_object_object_add(o, "data", json_object_get(data));
    json_object_array_add(list, o);
    ok = transaction(vm, list, false, err);
    json_object_put(list);
    return ok;
}

bool qmp_blockdev_snapshot(struct vm *vm, const struct blockdev_snapshot_args *args, struct error *err)
{
    return single(vm, "blockdev-snapshot", args->all, err);
}

bool qmp_blockdev_snapshot_sync(struct vm *vm, const struct blockdev_snapshot_sync_args *args, struct error *err)
{
    return single(vm, "blockdev-snapshot-sync", args->all, err);
}
