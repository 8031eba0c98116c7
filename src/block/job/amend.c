/* x-blockdev-amend: an image is changed in place. As QMP has it: the key slots of LUKS, in an image of its own or in a qcow2. */
#include <errno.h>
#include <string.h>
#include "block/job/job.h"
#include "rhea/base/options.h"

struct amend_job {
    struct job job;
    struct block_node *node;
    struct json_object *opts;   /* as the driver's amend() takes them */
    bool force;
};

static void amend_progress(void *arg, uint64_t done, uint64_t all)
{
    struct job *j = arg;

    j->progress = done;
    j->total = all;
}

static int amend_run(struct job *job, struct error *err)
{
    struct amend_job *a = (struct amend_job *)job;

    return a->node->drv->amend(a->node, a->opts, a->force, amend_progress, job, err) ? 0 : -EIO;
}

static void amend_clean(struct job *job)
{
    json_object_put(((struct amend_job *)job)->opts);
}

static const struct job_driver amend_driver = {
    .type = "amend",
    .size = sizeof(struct amend_job),
    .run = amend_run,
    .clean = amend_clean,
};

/* "driver" goes; "encrypt" becomes "encrypt.*"; the driver knows the rest. */
static bool options_take(const struct block_driver *drv, const char *prefix, struct json_object *from, struct json_object *to, struct error *err)
{
    json_object_object_foreach(from, key, v) {
        g_autofree char *name = g_strconcat(prefix, key, NULL);

        if (!*prefix && !strcmp(key, "driver"))
            continue;
        if (!*prefix && !strcmp(key, "encrypt") && json_object_is_type(v, json_type_object)) {
            if (!options_take(drv, "encrypt.", v, to, err))
                return false;
        } else if ((!*prefix && strcmp(drv->name, "luks")) || !g_strv_contains(drv->amend_options, name)) {
            return error_setf(err, ERR_GENERIC, "rhea-img amend changes more of an image that is not in use", "Parameter '%s' is unexpected", key);
        } else {
            json_object_object_add(to, name, json_object_get(v));
        }
    }
    return true;
}

static bool amend_check(struct block_graph *g, struct block_node *n, struct json_object *options, struct json_object *opts, struct error *err)
{
    const char *driver = option_str(options, "driver", "");

    if (!n->drv->amend)
        return error_setf(err, ERR_GENERIC, NULL, "Driver '%s' does not support amending", n->drv->name);
    if (strcmp(driver, n->drv->name))
        return error_setf(err, ERR_GENERIC, "options.driver is the node's", "node '%s' is of driver '%s', not '%s'", n->name, n->drv->name, driver);
    if (n->read_only)
        return error_setf(err, ERR_GENERIC, "blockdev-reopen it", "Block node is read-only: '%s'", n->name);
    return !job_on_node(g, n, err) && options_take(n->drv, "", options, opts, err);
}

struct job *job_amend(struct block_graph *g, const struct job_options *o, struct block_node *n, struct json_object *options, bool force, struct error *err)
{
    struct json_object *opts = json_object_new_object();
    struct amend_job *a = amend_check(g, n, options, opts, err) ? job_new(g, &amend_driver, o, err) : NULL;

    if (!a) {
        json_object_put(opts);
        return NULL;
    }
    a->node = n;
    a->opts = opts;
    a->force = force;
    a->job.total = 1;
    job_use_node(&a->job, n);
    job_start(&a->job);
    return &a->job;
}
