/* Inactive nodes: a name and options, for a disk that another process has now. Such a node is closed, its file neither locked nor
 * looked at (node.c); becoming active opens it anew, so that what the other has written is seen. */
#include "block/backend.h"
#include "block/export.h"
#include "rhea/base/options.h"
#include "rhea/block/bitmap.h"

/* The node is closed, and one of the same name and options takes its place. */
static struct block_node *node_again(struct block_node *n, bool active, struct error *err)
{
    struct block_graph *g = n->graph;
    struct block_inherit *outer = g->inherit;
    struct json_object *opts = NULL;

    json_object_deep_copy(n->opts, &opts, NULL);
    json_object_object_add(opts, "active", json_object_new_boolean(active));
    n->user_owned = false;
    node_unref(n);
    g->inherit = NULL;
    n = node_open(g, opts, err);
    g->inherit = outer;
    if (n)
        n->user_owned = true;
    json_object_put(opts);
    return n;
}

bool node_activate(struct block_node *n, struct error *err)
{
    struct block_graph *g = n->graph;
    struct json_object *closed = json_object_get(n->opts);
    bool ok = node_again(n, true, err) != NULL;

    if (!ok) {                  /* it stays what it was */
        n = node_open(g, closed, NULL);
        if (n)
            n->user_owned = true;
    }
    json_object_put(closed);
    return ok;
}

static bool only_here(const struct block_node *n)
{
    return n->user_owned && n->refs == 1 + exports_leaving(n);
}

static bool can_inactivate(struct block_node *n, struct error *err)
{
    if (!n->user_owned)
        return error_setf(err, ERR_GENERIC, NULL, "Node %s is not owned by the monitor", n->name);
    if (!only_here(n))
        return error_setf(err, ERR_GENERIC, "an active node, a device, an export or a job has it", "Node %s is in use", n->name);
    for (struct dirty_bitmap *b = n->bitmaps; b; b = b->next) {
        if (b->busy)
            return error_setf(err, ERR_GENERIC, "a job or an export uses it", "Bitmap '%s' of node %s is in use", b->name ? b->name : "", n->name);
        if (!b->persistent)
            return error_setf(err, ERR_GENERIC, "block-dirty-bitmap-remove it; persistent ones stay in the image",
                              "Bitmap '%s' of node %s would be lost", b->name ? b->name : "", n->name);
    }
    return true;
}

struct flush { struct block_node *n; int ret; };

static void flush_run(void *arg)
{
    struct flush *f = arg;

    f->ret = f->n->read_only ? 0 : node_flush(f->n);
}

/* What was written is on the disk that somebody else has next. */
static bool flushed(struct block_node *n, struct error *err)
{
    struct flush f = { n };

    block_run(n->graph, flush_run, &f);
    return !f.ret || error_set_errno(err, -f.ret, NULL, "cannot write '%s'", n->filename);
}

/* With the children that nothing else has. */
static bool inactivate(struct block_node *n, struct error *err)
{
    struct block_graph *g = n->graph;
    struct block_node *children[] = { n->file, n->backing };
    bool ok;

    if (n->inactive)
        return true;
    if (!can_inactivate(n, err) || !flushed(n, err) || !exports_leave(n, err))
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(children); i++)
        if (children[i])
            node_ref(children[i]);
    ok = node_again(n, false, err) != NULL;
    for (unsigned i = 0; i < G_N_ELEMENTS(children); i++) {
        struct block_node *child = children[i];

        if (!child)
            continue;
        node_unref(child);
        if (ok && g_ptr_array_find(g->in_order, child, NULL) && only_here(child))
            ok = inactivate(child, err);
    }
    return ok;
}

static bool inactivate_all(struct block_graph *g, struct error *err)
{
    struct block_node *next;

    for (unsigned i = 0; i < g->backends->len; i++) {
        const struct block_backend *b = g_ptr_array_index(g->backends, i);

        if (b->root && !export_may_leave(b))
            return error_setf(err, ERR_GENERIC, "remove the device or export first", "Node %s is in use", b->root->name);
    }
    do {
        next = NULL;
        for (unsigned i = 0; i < g->in_order->len && !next; i++) {
            struct block_node *n = g_ptr_array_index(g->in_order, i);

            if (!n->inactive && only_here(n))
                next = n;
        }
    } while (next && inactivate(next, err));
    return !next;
}

static struct block_node *any_inactive(struct block_graph *g)
{
    for (unsigned i = 0; i < g->in_order->len; i++) {
        struct block_node *n = g_ptr_array_index(g->in_order, i);

        if (n->inactive)
            return n;
    }
    return NULL;
}

static bool set_active(struct block_graph *g, const char *node_name, bool active, struct error *err)
{
    struct block_node *n = node_name ? node_find(g, node_name) : NULL;

    if (node_name && !n)
        return error_setf(err, ERR_GENERIC, "query-named-block-nodes lists them", "Failed to find node with node-name='%s'", node_name);
    if (node_name)
        return active ? !n->inactive || node_activate(n, err) : inactivate(n, err);
    if (!active)
        return inactivate_all(g, err);
    while ((n = any_inactive(g)))
        if (!node_activate(n, err))
            return false;
    return true;
}

bool block_set_active(struct vm *vm, const char *node_name, bool active, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    bool ok;

    if (graph_busy(g, err))
        return false;
    graph_quiesce(g);           /* an export's client may be writing */
    ok = set_active(g, node_name, active, err) && exports_return(g, err);
    graph_resume(g);
    return ok;
}
