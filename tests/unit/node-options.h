/* Options of a block node, written in tests as on a command line. */
#ifndef NODE_OPTIONS_H
#define NODE_OPTIONS_H

#include <glib.h>
#include <stdarg.h>
#include "rhea/base/error.h"
#include "rhea/base/options.h"
#include "rhea/block/node.h"

static struct json_object *json(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
static struct json_object *json(const char *fmt, ...)
{
    struct error err = ERROR_INIT;
    g_autofree char *text = NULL;
    struct json_object *o;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    o = options_parse(text, NULL, &err);
    if (!o)
        g_error("%s: %s", text, err.msg);
    return o;
}

/* A node as blockdev-add makes it. Takes o. */
static inline struct block_node *owned_node(struct block_graph *graph, struct json_object *o)
{
    struct error err = ERROR_INIT;
    struct block_node *n = node_open(graph, o, &err);

    if (!n)
        g_error("%s: %s", json_object_to_json_string(o), err.msg);
    json_object_put(o);
    n->user_owned = true;
    return n;
}

/* Takes o. */
static inline void create_qcow2(struct block_graph *graph, const char *path, struct json_object *o)
{
    struct error err = ERROR_INIT;

    if (!block_create(graph, path, "qcow2", o, &err))
        g_error("%s: %s", path, err.msg);
    json_object_put(o);
}

#endif
