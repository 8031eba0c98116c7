/* Exports of inactive nodes (allow-inactive): the node is closed and another process may write its disk. What clients read then comes
 * from a view, the same image opened a second time, read-only and without locks; it shows the disk as it was when it was opened. */
#include <string.h>
#include "block/export.h"
#include "rhea/base/options.h"

/* Members that may name a node instead of describing it. */
static const char *const roles[] = { "file", "backing", "data-file", "header", "image" };

static bool view_children(struct block_graph *g, struct json_object *opts, unsigned depth, struct error *err);

/* A copy of what the node was opened with, nameless. */
static struct json_object *view_options(struct block_graph *g, const struct block_node *n, unsigned depth, struct error *err)
{
    struct json_object *o = NULL;

    json_object_deep_copy(n->opts, &o, NULL);
    if (view_children(g, o, depth, err))
        return o;
    json_object_put(o);
    return NULL;
}

static bool view_children(struct block_graph *g, struct json_object *opts, unsigned depth, struct error *err)
{
    static const char *const own[] = { "node-name", "active", "read-only", "auto-read-only", "force-share" };

    if (json_object_object_get_ex(opts, "children", NULL) || json_object_object_get_ex(opts, "test", NULL))
        return error_set(err, ERR_GENERIC, "an image of several images cannot be read while it is inactive", "export it without allow-inactive");
    if (depth > 64)             /* inactive nodes may name each other */
        return error_set(err, ERR_GENERIC, "nodes refer to each other", NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(own); i++)
        json_object_object_del(opts, own[i]);
    for (unsigned i = 0; i < G_N_ELEMENTS(roles); i++) {
        struct json_object *v = NULL;
        const struct block_node *child;

        if (!json_object_object_get_ex(opts, roles[i], &v) || !v)
            continue;
        if (json_object_is_type(v, json_type_object)) {
            if (!view_children(g, v, depth + 1, err))
                return false;
            continue;
        }
        child = node_find(g, json_object_get_string(v));
        v = child ? view_options(g, child, depth + 1, err) : NULL;
        if (!v)
            return error_setf(err, ERR_GENERIC, NULL, "Cannot find node-name='%s'", option_str(opts, roles[i], ""));
        json_object_object_add(opts, roles[i], v);
    }
    return true;
}

static struct block_node *view_open(struct block_node *n, struct error *err)
{
    struct block_graph *g = n->graph;
    struct block_inherit *outer = g->inherit;
    struct json_object *opts = view_options(g, n, 0, err);
    struct block_node *view = NULL;

    if (!opts)
        return NULL;
    json_object_object_add(opts, "read-only", json_object_new_boolean(true));
    json_object_object_add(opts, "force-share", json_object_new_boolean(true));
    g->inherit = NULL;
    view = node_open(g, opts, err);
    g->inherit = outer;
    json_object_put(opts);
    return view;
}

/* An export is on a node that is to close, or away from one that has closed. */
static bool leaves(const struct block_export *e, const struct block_node *n)
{
    return e->allow_inactive && !e->away && e->b && e->b->root == n;
}

static bool move(struct block_export *e, struct block_node *to, const char *away, struct error *err)
{
    backend_eject(e->b);
    e->b->held_write = e->writable;
    g_free(e->away);
    e->away = g_strdup(away);
    return backend_insert(e->b, to, err);
}

unsigned exports_leaving(const struct block_node *n)
{
    const GPtrArray *all = n->graph->exports;
    unsigned count = 0;

    for (unsigned i = 0; all && i < all->len; i++)
        count += leaves(g_ptr_array_index(all, i), n);
    return count;
}

bool exports_away(struct block_graph *g, const char *name)
{
    for (unsigned i = 0; g->exports && i < g->exports->len; i++)
        if (!g_strcmp0(((struct block_export *)g_ptr_array_index(g->exports, i))->away, name))
            return true;
    return false;
}

bool exports_leave(struct block_node *n, struct error *err)
{
    struct block_graph *g = n->graph;
    struct block_node *view = exports_leaving(n) ? view_open(n, err) : NULL;

    if (!view)
        return !exports_leaving(n);
    for (unsigned i = 0; i < g->exports->len; i++) {
        struct block_export *e = g_ptr_array_index(g->exports, i);

        if (leaves(e, n))
            move(e, view, n->name, NULL);       /* cannot fail: the view is read-only and shared */
    }
    node_unref(view);
    return true;
}

bool exports_return(struct block_graph *g, struct error *err)
{
    bool ok = true;

    graph_quiesce(g);
    for (unsigned i = 0; g->exports && i < g->exports->len && ok; i++) {
        struct block_export *e = g_ptr_array_index(g->exports, i);
        struct block_node *n = e->away && e->b ? node_find(g, e->away) : NULL, *view;   /* one that is being made has no b yet */
        g_autofree char *away = g_strdup(e->away);

        if (!n || n->inactive)
            continue;
        view = e->b->root;
        node_ref(view);
        ok = move(e, n, NULL, err);
        if (!ok)
            move(e, view, away, NULL);
        node_unref(view);
    }
    graph_resume(g);
    return ok;
}

bool export_may_leave(const struct block_backend *b)
{
    const GPtrArray *all = b->graph->exports;

    for (unsigned i = 0; all && i < all->len; i++) {
        const struct block_export *e = g_ptr_array_index(all, i);

        if (e->b == b)
            return e->allow_inactive;
    }
    return false;
}

struct block_node *export_view(struct block_export *e, struct block_node *n, struct error *err)
{
    e->away = g_strdup(n->name);
    return view_open(n, err);
}
