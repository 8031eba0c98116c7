/* blockdev-create: a new image, in a file that a node stands for. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include "block/job/job.h"
#include "rhea/base/options.h"

struct create_job {
    struct job job;
    const struct block_driver *driver;
    struct block_node *file, *header;   /* NULL: the driver makes the file itself; there is no other for the header */
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
    if (c->header)
        file_refresh(c->header);
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

static const struct { const char *from, *to; } renamed[] = { { "version", "compat" }, { "data-file", "data_file" }, { "file", NULL }, { "header", NULL }, { "driver", NULL },
                                                             { "filename", NULL }, { "location", NULL } };

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

/* The node that the image (role "file") or its header is to be written into. */
static struct block_node *create_file(struct block_graph *g, struct json_object *options, const char *role, struct error *err)
{
    struct json_object *v = NULL;
    struct block_node *n;

    json_object_object_get_ex(options, role, &v);
    if (!v || !json_object_is_type(v, json_type_string)) {
        error_setf(err, ERR_GENERIC, "blockdev-add it first", v ? "'%s' is the name of a node here" : "Parameter '%s' is missing", role);
        return NULL;
    }
    n = block_lookup(g, json_object_get_string(v), err);
    if (!n)
        return NULL;
    if (strcmp(n->drv->name, "file") && (n->drv->kind != DRIVER_PROTOCOL || n->drv->create)) {
        error_setf(err, ERR_GENERIC, "use a node of driver file, host_device, nbd or iscsi", "images cannot be created on nodes of driver '%s'", n->drv->name);
        return NULL;
    }
    if (n->writers || n->readers) {
        error_setf(err, ERR_GENERIC, "remove what uses it first", "Node '%s' is in use", n->name);
        return NULL;
    }
    return job_on_node(g, n, err) ? NULL : n;
}

/* What is there already need not be named beside a new header: then *file is NULL. */
static bool create_files(struct block_graph *g, struct json_object *options, struct block_node **file, struct block_node **header,
                         struct error *err)
{
    bool detached = json_object_object_get_ex(options, "header", NULL);

    if (detached && !(*header = create_file(g, options, "header", err)))
        return false;
    if ((!detached || json_object_object_get_ex(options, "file", NULL)) && !(*file = create_file(g, options, "file", err)))
        return false;
    return *file != *header || error_set(err, ERR_GENERIC, "'header' and 'file' are the same node", "leave 'header' out");
}

/* The node's file as block_create() opens it once more; what a name cannot say is in the options that the node was made of. */
static char *file_name(struct block_node *n)
{
    struct json_object *o;
    g_autofree char *text = NULL;

    if (!strcmp(n->drv->name, "file") || !strcmp(n->drv->name, "host_device"))
        return g_strdup(n->filename);
    o = json_object_new_object();
    json_object_object_foreach(n->opts, key, v)
        if (strcmp(key, "node-name"))
            json_object_object_add(o, key, json_object_get(v));
    text = g_strdup_printf("json:%s", json_object_to_json_string(o));
    json_object_put(o);
    return g_steal_pointer(&text);
}

/* ---- where a protocol's new image is to be */

static void add_escaped(GString *s, const char *text)
{
    for (; *text; text++)
        g_string_append_printf(s, strchr("\\/@:=", *text) ? "\\%c" : "%c", *text);
}

static char *rbd_location(struct json_object *at)
{
    static const struct { const char *key, *before; bool needed; } parts[] = {
        { "pool", "rbd:", true }, { "namespace", "/", false }, { "image", "/", true }, { "conf", ":conf=", false }, { "user", ":id=", false },
    };
    g_autoptr(GString) s = g_string_new(NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(parts); i++) {
        const char *v = option_str(at, parts[i].key, NULL);

        if (!v && parts[i].needed)
            return NULL;
        if (!v)
            continue;
        g_string_append(s, parts[i].before);
        add_escaped(s, v);
    }
    return g_strdup(s->str);
}

static char *url_location(struct json_object *at, const char *scheme)
{
    const char *path = option_str(at, "path", NULL), *user = option_str(at, "user", NULL), *host, *port;
    g_autofree char *query = NULL;
    struct json_object *server = NULL;
    bool ssh = !strcmp(scheme, "ssh");

    json_object_object_get_ex(at, "server", &server);
    host = server ? option_str(server, "host", NULL) : NULL;
    port = server ? option_str(server, "port", NULL) : NULL;
    if (!path || *path != '/' || !host)
        return NULL;
    if (!ssh && (user || option_str(at, "group", NULL)))
        query = g_strdup_printf("%s%s%s%s", user ? "uid=" : "", user ? user : "", option_str(at, "group", NULL) ? "&gid=" : "",
                                option_str(at, "group", ""));
    return g_uri_join(G_URI_FLAGS_NONE, scheme, ssh ? user : NULL, host, ssh && port ? (int)g_ascii_strtoull(port, NULL, 10) & 0xffff : -1, path,
                      query, NULL);
}

/* NULL with *err. Members that only a node can have are refused: they would have no effect. */
static char *location_name(const char *driver, struct json_object *at, struct error *err)
{
    static const char *const known[] = { "pool", "namespace", "image", "conf", "user", "server", "path", "group", NULL };
    bool rbd = !strcmp(driver, "rbd");
    char *name;

    if (!options_check(at, known, "location", err))
        return NULL;
    if (rbd && json_object_object_get_ex(at, "server", NULL)) {
        error_set(err, ERR_GENERIC, "a location of rbd has no 'server' here", "conf=FILE says where the monitors are");
        return NULL;
    }
    name = rbd ? rbd_location(at) : !strcmp(driver, "ssh") || !strcmp(driver, "nfs") ? url_location(at, driver) : NULL;
    if (!name)
        error_setf(err, ERR_GENERIC, rbd ? "pool and image" : "server.host and path", "Parameter 'location' does not say where");
    return name;
}

static void header_options(struct block_node *file, struct block_node *header, struct json_object *opts)
{
    g_autofree char *name = header ? file_name(header) : NULL;

    if (header && file)
        json_object_object_add(opts, "header", json_object_new_string(name));
    else if (header)
        json_object_object_add(opts, "detached-header", json_object_new_boolean(true));
}

struct job *job_create_image(struct block_graph *g, const struct job_options *o, struct json_object *options, struct error *err)
{
    const char *driver = option_str(options, "driver", ""), *filename = option_str(options, "filename", NULL);
    const struct block_driver *drv = block_driver_find(driver);
    g_autofree char *name = g_strdup(filename);
    struct json_object *location = NULL;
    struct block_node *file = NULL, *header = NULL;
    struct create_job *c;

    if (!drv || !drv->create) {
        error_setf(err, ERR_GENERIC, "rhea-img create --help lists those that can", "Driver '%s' does not support image creation", driver);
        return NULL;
    }
    if (drv->kind == DRIVER_PROTOCOL && !name && json_object_object_get_ex(options, "location", &location) &&
        json_object_is_type(location, json_type_object)) {
        name = location_name(driver, location, err);
        if (!name)
            return NULL;
    }
    if (drv->kind == DRIVER_PROTOCOL && !name) {
        error_setf(err, ERR_GENERIC, NULL, "Parameter '%s' is missing", strcmp(driver, "file") ? "location" : "filename");
        return NULL;
    }
    if (drv->kind != DRIVER_PROTOCOL) {
        if (!create_files(g, options, &file, &header, err))
            return NULL;
        name = file_name(file ? file : header);
    }
    c = job_new(g, &create_driver, o, err);
    if (!c)
        return NULL;
    c->driver = drv;
    c->file = file;
    c->header = header;
    c->filename = g_steal_pointer(&name);
    c->opts = json_object_new_object();
    c->job.total = 1;
    if (!options_map(g, drv, "", options, c->opts, err)) {
        create_clean(&c->job);
        job_discard(&c->job);
        return NULL;
    }
    header_options(file, header, c->opts);
    if (file)
        job_use_node(&c->job, file);
    if (header)
        job_use_node(&c->job, header);
    job_start(&c->job);
    return &c->job;
}
