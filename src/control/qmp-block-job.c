/* QMP: jobs. */
#include <string.h>
#include "block/backend.h"
#include "control/qmp-schema.h"
#include "rhea/base/options.h"
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

bool qmp_blockdev_create(struct vm *vm, const struct blockdev_create_args *args, struct error *err)
{
    struct job_options o = { .id = option_str(args->all, "job-id", NULL), .manual_dismiss = true };
    struct json_object *options = NULL;

    json_object_object_get_ex(args->all, "options", &options);
    if (!o.id || !options || !json_object_is_type(options, json_type_object))
        return error_setf(err, ERR_GENERIC, NULL, "Parameter '%s' is missing", o.id ? "options" : "job-id");
    return job_create_image(block_graph_of(vm), &o, options, err) != NULL;
}
