/* blockdev-create: a new image, in a file that a node stands for. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include "block/job/job.h"
#include "rhea/base/options.h"

struct create_job {
    struct job job;
    const struct block_driver *driver;
    struct block_node *file;    /* NULL: the driver makes the file itself */
    char *filename;
    struct json_object *opts;   /* as block_create() takes them */
};

/* The file has another length now. */
static void file_refresh(struct block_node *file)
{
    struct stat st;

    if (!stat(file->filename, &st) && S_ISREG(st.st_mode))
        file->size = st.st_size;
}

static int create_run(struct job *job, struct error *err)
{
    struct create_job *c = (struct create_job *)job;
    bool ok = block_create(job->graph, c->filename, c->driver->name, c->opts, err);

    if (c->file)
        file_refresh(c->file);
    return ok ? 0 : -EIO;
}

static void create_clean(struct job *job)
{
    struct create_job *c = (struct create_job *)job;

    g_free(c->filename);
    json_object_put(c->opts);
}

static const struct job_driver create_driver = {
    .type = "create",
    .size = sizeof(struct create_job),
    .run = create_run,
    .clean = create_clean,
};

/* ---- options: those of the protocol's BlockdevCreateOptions to those of rhea-img create -o */

static const struct { const char *from, *to; } renamed[] = { { "version", "compat" }, { "data-file", "data_file" }, { "file", NULL }, { "driver", NULL },
                                                             { "filename", NULL } };

static char *option_name(const struct block_driver *drv, const char *prefix, const char *key)
{
    char *name = g_strdup_printf("%s%s", prefix, key);

    if (!drv->create_options || !g_strv_contains(drv->create_options, name))
        g_strdelimit(name, "-", '_');
    return name;
}

static bool options_map(struct block_graph *g, const struct block_driver *drv, const char *prefix, struct json_object *from, struct json_object *to,
                        struct error *err)
{
    json_object_object_foreach(from, key, v) {
        const char *as = key;

        for (unsigned i = 0; i < G_N_ELEMENTS(renamed) && !*prefix; i++)
            if (!strcmp(renamed[i].from, key))
                as = renamed[i].to;
        if (!as)
            continue;
        if (!strcmp(key, "data-file")) {
            struct block_node *n = json_object_is_type(v, json_type_string) ? block_lookup(g, json_object_get_string(v), err) : NULL;

            if (!n)
                return error_set(err, ERR_GENERIC, "'data-file' is the name of a node", NULL);
            json_object_object_add(to, as, json_object_new_string(n->filename));
        } else if (json_object_is_type(v, json_type_object)) {
            g_autofree char *deeper = g_strdup_printf("%s%s.", prefix, key);

            if (!options_map(g, drv, deeper, v, to, err))
                return false;
        } else {
            g_autofree char *name = option_name(drv, prefix, as);

            json_object_object_add(to, name, json_object_get(v));
        }
    }
    return true;
}

/* The node that the image is to be written into. */
static struct block_node *create_file(struct block_graph *g, struct json_object *options, struct error *err)
{
    struct json_object *v = NULL;
    struct block_node *n;

    json_object_object_get_ex(options, "file", &v);
    if (!v || !json_object_is_type(v, json_type_string)) {
        error_set(err, ERR_GENERIC, v ? "'file' is the name of a node here" : "Parameter 'file' is missing", "blockdev-add it first");
        return NULL;
    }
    n = block_lookup(g, json_object_get_string(v), err);
    if (!n)
        return NULL;
    if (strcmp(n->drv->name, "file") && strcmp(n->drv->name, "host_device")) {
        error_setf(err, ERR_GENERIC, "use a node of driver 'file' or 'host_device'", "images cannot be created on nodes of driver '%s'", n->drv->name);
        return NULL;
    }
    if (n->writers || n->readers) {
        error_setf(err, ERR_GENERIC, "remove what uses it first", "Node '%s' is in use", n->name);
        return NULL;
    }
    return job_on_node(g, n, err) ? NULL : n;
}

struct job *job_create_image(struct block_graph *g, const struct job_options *o, struct json_object *options, struct error *err)
{
    const char *driver = option_str(options, "driver", ""), *filename = option_str(options, "filename", NULL);
    const struct block_driver *drv = block_driver_find(driver);
    struct block_node *file = NULL;
    struct create_job *c;

    if (!drv || !drv->create) {
        error_setf(err, ERR_GENERIC, "rhea-img create --help lists those that can", "Driver '%s' does not support image creation", driver);
        return NULL;
    }
    if (drv->kind == DRIVER_PROTOCOL && !filename) {
        error_set(err, ERR_GENERIC, "Parameter 'filename' is missing", NULL);
        return NULL;
    }
    if (drv->kind != DRIVER_PROTOCOL) {
        file = create_file(g, options, err);
        if (!file)
            return NULL;
        filename = file->filename;
    }
    c = job_new(g, &create_driver, o, err);
    if (!c)
        return NULL;
    c->driver = drv;
    c->file = file;
    c->filename = g_strdup(filename);
    c->opts = json_object_new_object();
    c->job.total = 1;
    if (!options_map(g, drv, "", options, c->opts, err)) {
        create_clean(&c->job);
        job_discard(&c->job);
        return NULL;
    }
    if (file)
        job_use_node(&c->job, file);
    job_start(&c->job);
    return &c->job;
}
