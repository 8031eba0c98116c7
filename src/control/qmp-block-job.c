/* QMP: jobs. */
#include <string.h>
#include "block/job/fleece.h"
#include "control/qmp-block.h"
#include "control/qmp-schema.h"
#include "rhea/base/options.h"
#include "rhea/block/bitmap.h"
#include "rhea/block/job.h"

/* ---- what is done to jobs */

bool qmp_query_jobs(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = jobs_query(block_graph_of(vm), false);
    return true;
}

bool qmp_query_block_jobs(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = jobs_query(block_graph_of(vm), true);
    return true;
}

static bool on_job(struct vm *vm, const char *id, bool (*fn)(struct job *j, struct error *err), struct error *err)
{
    struct job *j = job_find(block_graph_of(vm), id, err);

    return j && fn(j, err);
}

static bool on_block_job(struct vm *vm, const char *id, bool (*fn)(struct job *j, struct error *err), struct error *err)
{
    struct job *j = job_find_block(block_graph_of(vm), id, err);

    return j && fn(j, err);
}

static bool cancel_hard(struct job *j, struct error *err)
{
    return job_user_cancel(j, true, err);
}

#define JOB_COMMAND(name, on, member, fn)                                                                           \
    bool qmp_##name(struct vm *vm, const struct name##_args *args, struct error *err)                              \
    {                                                                                                               \
        return on(vm, args->member, fn, err);                                                                       \
    }

JOB_COMMAND(job_pause, on_job, id, job_user_pause)
JOB_COMMAND(job_resume, on_job, id, job_user_resume)
JOB_COMMAND(job_cancel, on_job, id, cancel_hard)
JOB_COMMAND(job_complete, on_job, id, job_user_complete)
JOB_COMMAND(job_finalize, on_job, id, job_finalize)
JOB_COMMAND(job_dismiss, on_job, id, job_dismiss)
JOB_COMMAND(block_job_pause, on_block_job, device, job_user_pause)
JOB_COMMAND(block_job_resume, on_block_job, device, job_user_resume)
JOB_COMMAND(block_job_complete, on_block_job, device, job_user_complete)
JOB_COMMAND(block_job_finalize, on_block_job, id, job_finalize)
JOB_COMMAND(block_job_dismiss, on_block_job, id, job_dismiss)

bool qmp_block_job_set_speed(struct vm *vm, const struct block_job_set_speed_args *args, struct error *err)
{
    struct job *j = job_find_block(block_graph_of(vm), args->device, err);

    return j && job_set_speed(j, args->speed, err);
}

bool qmp_block_job_change(struct vm *vm, const struct block_job_change_args *args, struct error *err)
{
    struct job *j = job_find(block_graph_of(vm), args->id, err);

    if (!j)
        return false;
    if (args->type != Q_JOBTYPE_MIRROR)
        return error_set(err, ERR_GENERIC, "only a mirror has options that change", "type=mirror");
    if (strcmp(option_str(args->all, "copy-mode", ""), "write-blocking"))
        return error_set(err, ERR_GENERIC, "a mirror's copy-mode can be changed to write-blocking only", NULL);
    return job_mirror_block_writes(j, err);
}

bool qmp_block_job_cancel(struct vm *vm, const struct block_job_cancel_args *args, struct error *err)
{
    struct job *j = job_find_block(block_graph_of(vm), args->device, err);

    return j && job_user_cancel(j, args->has_force && args->force, err);
}

/* ---- what the commands that start jobs share */

/* Members that all of them have, by their names. */
static bool job_options_take(struct json_object *all, struct job_options *o, struct error *err)
{
    bool finalize, dismiss;

    if (!option_bool(all, "auto-finalize", true, &finalize, err) || !option_bool(all, "auto-dismiss", true, &dismiss, err) ||
        !option_int(all, "speed", 0, &o->speed, err))
        return false;
    if (option_str(all, "filter-node-name", NULL))
        return error_set(err, ERR_GENERIC, "filter-node-name: jobs put no node of their own into the graph here", "leave it out");
    o->id = option_str(all, "job-id", NULL);
    o->manual_finalize = !finalize;
    o->manual_dismiss = !dismiss;
    return true;
}

/* The node of a device or node name; the device's name is the job's if it has no other. */
static struct block_node *job_node(struct block_graph *g, const char *device, struct job_options *o, struct error *err)
{
    struct block_backend *b = backend_find(g, device);

    o->default_id = b ? b->name : NULL;
    return block_lookup(g, device, err);
}

static struct block_node *node_named(struct block_graph *g, const char *name, struct error *err)
{
    struct block_node *n = node_find(g, name);

    if (!n)
        error_setf(err, ERR_GENERIC, "query-named-block-nodes lists them", "Cannot find device='' nor node-name='%s'", name);
    return n;
}

/* The image of a chain that a file name means. */
static struct block_node *chain_by_file(struct block_node *top, const char *name, struct error *err)
{
    for (struct block_node *n = top; n; n = n->drv->kind == DRIVER_FILTER ? n->file : n->backing) {
        g_autofree char *full = block_resolve(top->filename, name);

        if (!strcmp(n->filename, name) || !strcmp(n->filename, full))
            return n;
    }
    error_setf(err, ERR_GENERIC, "query-block shows the chain", "Can't find '%s' in the backing chain", name);
    return NULL;
}

/* ---- the jobs */

bool qmp_block_stream(struct vm *vm, const struct block_stream_args *args, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct job_options o = { 0 };
    struct stream_options s = { .backing_file = args->backing_file, .on_error = args->has_on_error ? (int)args->on_error : JOB_ON_ERROR_REPORT };

    if (!!args->base + !!args->base_node + !!args->bottom > 1)
        return error_set(err, ERR_GENERIC, "'base', 'base-node' and 'bottom' cannot be specified at the same time", NULL);
    if (!job_options_take(args->all, &o, err))
        return false;
    s.top = job_node(g, args->device, &o, err);
    if (!s.top)
        return false;
    if (args->base && !(s.base = chain_by_file(s.top, args->base, err)))
        return false;
    if (args->base_node && !(s.base = node_named(g, args->base_node, err)))
        return false;
    if (args->bottom && !(s.bottom = node_named(g, args->bottom, err)))
        return false;
    return job_stream(g, &o, &s, err) != NULL;
}

/* Whose options the format checks, the schema has not checked at all: the job's name and the options. NULL: error set. */
static struct json_object *open_options(struct json_object *args, struct job_options *o, struct error *err)
{
    struct json_object *options = NULL;

    *o = (struct job_options){ .id = option_str(args, "job-id", NULL), .manual_dismiss = true };
    json_object_object_get_ex(args, "options", &options);
    if (o->id && json_object_is_type(options, json_type_object))
        return options;
    error_setf(err, ERR_GENERIC, NULL, "Parameter '%s' is missing", o->id ? "options" : "job-id");
    return NULL;
}

bool qmp_blockdev_create(struct vm *vm, const struct blockdev_create_args *args, struct error *err)
{
    struct job_options o;
    struct json_object *options = open_options(args->all, &o, err);

    return options && job_create_image(block_graph_of(vm), &o, options, err) != NULL;
}

bool qmp_x_blockdev_amend(struct vm *vm, const struct x_blockdev_amend_args *args, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct job_options o;
    struct json_object *options = open_options(args->all, &o, err);
    const char *name = option_str(args->all, "node-name", NULL);
    struct block_node *n;
    bool force;

    if (!options || !option_bool(args->all, "force", false, &force, err))
        return false;
    if (!name)
        return error_set(err, ERR_GENERIC, "Parameter 'node-name' is missing", NULL);
    n = node_named(g, name, err);
    return n && job_amend(g, &o, n, options, force, err) != NULL;
}

bool qmp_block_commit(struct vm *vm, const struct block_commit_args *args, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct job_options o = { 0 };
    struct commit_options c = { .backing_file = args->backing_file, .on_error = args->has_on_error ? (int)args->on_error : JOB_ON_ERROR_REPORT };

    if ((args->base && args->base_node) || (args->top && args->top_node))
        return error_setf(err, ERR_GENERIC, NULL, "'%s-node' and '%s' are mutually exclusive", args->base && args->base_node ? "base" : "top",
                          args->base && args->base_node ? "base" : "top");
    if (!job_options_take(args->all, &o, err))
        return false;
    c.active = node_skip_filters(job_node(g, args->device, &o, err));
    if (!c.active)
        return false;
    c.top = args->top_node ? node_named(g, args->top_node, err) : args->top ? chain_by_file(c.active, args->top, err) : c.active;
    if (!c.top)
        return false;
    if (args->base_node || args->base)
        c.base = args->base_node ? node_named(g, args->base_node, err) : chain_by_file(c.active, args->base, err);
    else
        for (c.base = c.top; c.base->backing;)
            c.base = node_skip_filters(c.base->backing);
    return c.base && job_commit(g, &o, &c, err);
}

/* ---- mirror */

static bool mirror_take(struct block_graph *g, struct json_object *all, struct mirror_options *m, struct error *err)
{
    const char *replaces = option_str(all, "replaces", NULL);
    int64_t buf_size;

    if (!option_size(all, "granularity", 0, &m->granularity, err) || !option_int(all, "buf-size", 0, &buf_size, err) ||
        !option_bool(all, "target-is-zero", false, &m->target_is_zero, err))
        return false;
    if (buf_size < 0)
        return error_set(err, ERR_GENERIC, "Invalid parameter 'buf-size'", "a number of bytes; 0: the default");
    m->buf_size = buf_size;
    if (m->granularity && (m->granularity < 512 || m->granularity > 64 << 20 || (m->granularity & (m->granularity - 1))))
        return error_set(err, ERR_GENERIC, "Parameter 'granularity' expects a power of 2 in range [512B, 64MB]", NULL);
    if (m->sync > JOB_SYNC_NONE)
        return error_set(err, ERR_GENERIC, "Sync mode 'incremental' and 'bitmap' are not supported by mirror", "blockdev-backup has them");
    if (replaces && !(m->replaces = node_named(g, replaces, err)))
        return false;
    return true;
}

bool qmp_blockdev_mirror(struct vm *vm, const struct blockdev_mirror_args *args, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct job_options o = { 0 };
    struct mirror_options m = {
        .sync = (int)args->sync,
        .write_blocking = args->has_copy_mode && args->copy_mode == Q_MIRRORCOPYMODE_WRITE_BLOCKING,
        .on_source_error = args->has_on_source_error ? (int)args->on_source_error : JOB_ON_ERROR_REPORT,
        .on_target_error = args->has_on_target_error ? (int)args->on_target_error : JOB_ON_ERROR_REPORT,
    };

    if (!job_options_take(args->all, &o, err) || !mirror_take(g, args->all, &m, err))
        return false;
    m.source = job_node(g, args->device, &o, err);
    m.target = m.source ? block_lookup(g, args->target, err) : NULL;
    return m.target && job_mirror(g, &o, &m, err);
}

/* The image that drive-mirror, drive-backup make or open; one reference is the caller's. */
static struct block_node *target_open(struct block_graph *g, struct block_node *source, enum job_sync sync, const char *filename, const char *format,
                                      const char *node_name, bool existing, struct error *err)
{
    struct block_node *image = node_skip_filters(source);
    struct new_image i = {
        .filename = filename, .format = format ? format : existing ? NULL : image->drv->name, .node_name = node_name, .existing = existing,
        .size = source->size, .like = image, .attach = true,
        .backing = sync == JOB_SYNC_NONE ? source : sync == JOB_SYNC_TOP ? image->backing : NULL,
    };

    if (sync != JOB_SYNC_FULL && !existing && image->backing && i.format && !block_driver_find(i.format)) {
        error_setf(err, ERR_GENERIC, "rhea-img --help lists the formats", "Unknown driver '%s'", i.format);
        return NULL;
    }
    return block_new_image(g, &i, err);
}

bool qmp_drive_mirror(struct vm *vm, const struct drive_mirror_args *args, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct job_options o = { 0 };
    struct mirror_options m = {
        .sync = (int)args->sync,
        .write_blocking = args->has_copy_mode && args->copy_mode == Q_MIRRORCOPYMODE_WRITE_BLOCKING,
        .no_unmap = args->has_unmap && !args->unmap,
        .on_source_error = args->has_on_source_error ? (int)args->on_source_error : JOB_ON_ERROR_REPORT,
        .on_target_error = args->has_on_target_error ? (int)args->on_target_error : JOB_ON_ERROR_REPORT,
    };
    struct job *j;

    if (!job_options_take(args->all, &o, err) || !mirror_take(g, args->all, &m, err))
        return false;
    m.source = job_node(g, args->device, &o, err);
    if (!m.source || job_on_node(g, m.source, err))
        return false;
    m.target = target_open(g, m.source, m.sync, args->target, args->format, args->node_name, args->has_mode && args->mode == Q_NEWIMAGEMODE_EXISTING, err);
    if (!m.target)
        return false;
    j = job_mirror(g, &o, &m, err);
    node_unref(m.target);
    return j != NULL;
}

/* ---- backup */

static int word_in(const char *const *words, struct json_object *all, const char *key, int def)
{
    const char *v = option_str(all, key, NULL);

    for (int i = 0; v && words[i]; i++)
        if (!strcmp(words[i], v))
            return i;
    return def;
}

/* For a transaction, too: the members were checked against the schema. */
struct job *block_backup_start(struct block_graph *g, struct json_object *all, bool drive, struct job_txn *txn, bool paused, struct error *err)
{
    static const char *const on_error[] = { "report", "ignore", "enospc", "stop", "auto", NULL }, *const syncs[] = { "top", "full", "none", "incremental", "bitmap", NULL },
                      *const modes[] = { "on-success", "never", "always", NULL };
    const char *bitmap = option_str(all, "bitmap", NULL);
    struct json_object *perf = NULL;
    struct job_options o = { .txn = txn, .paused = paused };
    struct backup_options b = {
        .sync = word_in(syncs, all, "sync", JOB_SYNC_FULL), .bitmap_mode = word_in(modes, all, "bitmap-mode", -1),
        .on_source_error = word_in(on_error, all, "on-source-error", JOB_ON_ERROR_REPORT),
        .on_target_error = word_in(on_error, all, "on-target-error", JOB_ON_ERROR_REPORT),
        .break_snapshot = !strcmp(option_str(all, "on-cbw-error", ""), "break-snapshot"),
    };
    bool has_mode = (int)b.bitmap_mode >= 0;
    int64_t workers;
    struct job *j;

    json_object_object_get_ex(all, "x-perf", &perf);
    if (!job_options_take(all, &o, err) || !option_bool(all, "compress", false, &b.compress, err) ||
        !option_bool(all, "discard-source", false, &b.discard_source, err) || !option_int(perf, "max-workers", 0, &workers, err) ||
        !fleece_min_cluster(perf, &b.min_cluster, err))
        return NULL;
    if (has_mode && !bitmap) {
        error_set(err, ERR_GENERIC, "Cannot specify bitmap sync mode without a bitmap", NULL);
        return NULL;
    }
    if (b.sync == JOB_SYNC_INCREMENTAL && has_mode && b.bitmap_mode != JOB_BITMAP_ON_SUCCESS) {
        error_set(err, ERR_GENERIC, "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'", NULL);
        return NULL;
    }
    if (bitmap && !has_mode && b.sync != JOB_SYNC_INCREMENTAL) {
        error_set(err, ERR_GENERIC, "Bitmap sync mode must be given when providing a bitmap", "add bitmap-mode");
        return NULL;
    }
    b.bitmap_mode = has_mode ? b.bitmap_mode : JOB_BITMAP_ON_SUCCESS;
    b.workers = CLAMP(workers, 0, 1024);
    b.source = job_node(g, option_str(all, "device", ""), &o, err);
    if (!b.source || (bitmap && !(b.bitmap = bitmap_find(b.source, bitmap, err))))
        return NULL;
    if (!drive) {
        b.target = block_lookup(g, option_str(all, "target", ""), err);
        return b.target ? job_backup(g, &o, &b, err) : NULL;
    }
    b.target = target_open(g, b.source, b.sync, option_str(all, "target", ""), option_str(all, "format", NULL), NULL,
                           !strcmp(option_str(all, "mode", ""), "existing"), err);
    if (!b.target)
        return NULL;
    j = job_backup(g, &o, &b, err);
    node_unref(b.target);
    return j;
}

bool qmp_blockdev_backup(struct vm *vm, const struct blockdev_backup_args *args, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);

    return !graph_busy(g, err) && block_backup_start(g, args->all, false, NULL, false, err);
}

bool qmp_drive_backup(struct vm *vm, const struct drive_backup_args *args, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);

    return !graph_busy(g, err) && block_backup_start(g, args->all, true, NULL, false, err);
}

/* ---- what a header says of its backing file */

struct backing_call { struct block_node *n; const char *name; struct error *err; bool ok; };

static void backing_run(void *arg)
{
    struct backing_call *c = arg;
    int ret;

    c->ok = c->n->drv->change_backing(c->n, *c->name ? c->name : NULL, c->n->backing ? c->n->backing->drv->name : NULL, c->err);
    ret = c->ok ? node_flush(c->n) : 0;
    if (ret)
        c->ok = error_set_errno(c->err, -ret, NULL, "cannot write '%s'", c->n->filename);
}

bool qmp_change_backing_file(struct vm *vm, const struct change_backing_file_args *args, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct block_node *top = block_lookup(g, args->device, err), *n = top ? node_named(g, args->image_node_name, err) : NULL;
    struct backing_call c = { .n = n, .name = args->backing_file, .err = err };
    bool was_read_only;

    if (!n || graph_busy(g, err) || job_on_node(g, n, err))
        return false;
    if (!chain_contains(top, n))
        return error_setf(err, ERR_GENERIC, NULL, "'%s' and image file are not in the same chain", args->device);
    if (!n->drv->change_backing || !n->backing)
        return error_set(err, ERR_GENERIC, "not allowing backing file change on an image without a backing file", NULL);
    graph_quiesce(g);
    was_read_only = n->read_only;
    if (node_set_read_only(n, false, err)) {
        block_run(g, backing_run, &c);
        if (was_read_only)
            node_set_read_only(n, true, NULL);
    }
    graph_resume(g);
    return c.ok;
}

bool qmp_x_blockdev_change(struct vm *vm, const struct x_blockdev_change_args *args, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct block_node *parent = block_lookup(g, args->parent, err), *node = NULL;

    if (!parent)
        return false;
    if (!args->child == !args->node)
        return error_set(err, ERR_GENERIC, args->child ? "The parameters child and node are in conflict" : "Either child or node must be specified",
                         "node adds one, child takes one out");
    if (args->node && !(node = node_find(g, args->node)))
        return error_setf(err, ERR_GENERIC, "blockdev-add it first", "Node '%s' not found", args->node);
    return block_change_child(g, parent, args->child, node, err);
}

bool qmp_blockdev_reopen(struct vm *vm, const struct blockdev_reopen_args *args, struct error *err)
{
    struct json_object *list = NULL;

    json_object_object_get_ex(args->all, "options", &list);
    if (!list || !json_object_is_type(list, json_type_array))
        return error_set(err, ERR_GENERIC, "Parameter 'options' is missing", "a list of the options of each node");
    return block_reopen(block_graph_of(vm), list, err);
}
