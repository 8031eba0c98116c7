/* External snapshots: the disk goes on in a new image, over the old one.
 *
 *   before   disk: A          after   disk: B, A ← B
 */
#include <errno.h>
#include <string.h>
#include "block/backend.h"
#include "rhea/block/job.h"

static const struct block_node *overlay_of(const struct block_graph *g, const struct block_node *n)
{
    for (unsigned i = 0; i < g->in_order->len; i++) {
        const struct block_node *p = g_ptr_array_index(g->in_order, i);

        if (p->backing == n)
            return p;
    }
    return NULL;
}

bool snapshot_node_check(struct block_graph *g, struct block_node *node, struct error *err)
{
    const struct block_node *above = overlay_of(g, node);

    return !job_on_node(g, node, err) &&
           (!above || error_setf(err, ERR_GENERIC, "snapshots are made of the image in use", "Node '%s' is busy: node is used as backing hd of '%s'",
                                 node->name, above->name));
}

bool snapshot_overlay_check(struct block_graph *g, struct block_node *node, struct block_node *overlay, struct error *err)
{
    unsigned jobs = jobs_references(g, overlay), users = overlay->refs - overlay->user_owned - jobs;

    for (unsigned i = 0; i < g->backends->len; i++) {
        const struct block_backend *b = g_ptr_array_index(g->backends, i);

        users -= b->root == overlay && b->job;
    }
    if (overlay == node || users)
        return error_setf(err, ERR_GENERIC, "make a node for it", "The overlay is already in use");
    if (overlay->backing)
        return error_setf(err, ERR_GENERIC, "open it with backing=null", "The overlay already has a backing image");
    if (!node_supports_backing(overlay))
        return error_setf(err, ERR_GENERIC, "use qcow2", "The overlay does not support backing images");
    return jobs || snapshot_node_check(g, node, err);   /* the target of a mirror only gets what backs it */
}

bool snapshot_overlay(struct block_graph *g, struct block_node *node, struct block_node *overlay, struct error *err)
{
    if (!node_set_backing(overlay, node, err))
        return false;
    if (jobs_references(g, overlay))
        return true;
    if (graph_replace(g, node, overlay, err))
        return true;
    node_set_backing(overlay, NULL, NULL);
    return false;
}

void snapshot_overlay_undo(struct block_graph *g, struct block_node *node, struct block_node *overlay)
{
    struct error err = ERROR_INIT;

    node_ref(node);
    node_set_backing(overlay, NULL, NULL);
    if (!jobs_references(g, overlay) && !graph_replace(g, overlay, node, &err))
        error_report(&err);
    node_unref(node);
}

/* ---- new images */

static bool image_make(struct block_graph *g, const struct new_image *i, struct error *err)
{
    struct json_object *opts = json_object_new_object();
    const struct block_driver *drv = block_driver_find(i->format);
    bool ok;

    json_object_object_add(opts, "size", json_object_new_uint64(i->size));
    if (i->backing && drv && drv->create_options && g_strv_contains(drv->create_options, "backing_file")) {
        json_object_object_add(opts, "backing_file", json_object_new_string(i->backing->filename));
        json_object_object_add(opts, "backing_fmt", json_object_new_string(i->backing->drv->name));
    }
    ok = block_create(g, i->filename, i->format, opts, err);
    json_object_put(opts);
    return ok;
}

struct block_node *block_new_image(struct block_graph *g, const struct new_image *i, struct error *err)
{
    static const char *const detect[] = { "off", "on", "unmap" };
    struct json_object *opts, *cache;
    struct block_node *n;

    if (!i->existing && !image_make(g, i, err))
        return NULL;
    opts = json_object_new_object();
    cache = json_object_new_object();
    json_object_object_add(cache, "direct", json_object_new_boolean(i->like->direct));
    json_object_object_add(cache, "no-flush", json_object_new_boolean(i->like->no_flush));
    json_object_object_add(opts, "cache", cache);
    json_object_object_add(opts, "read-only", json_object_new_boolean(false));
    json_object_object_add(opts, "discard", json_object_new_string(i->like->discard ? "unmap" : "ignore"));
    json_object_object_add(opts, "detect-zeroes", json_object_new_string(detect[i->like->detect_zeroes]));
    if (i->node_name)
        json_object_object_add(opts, "node-name", json_object_new_string(i->node_name));
    json_object_object_add(opts, "backing", i->backing && i->attach ? json_object_new_string(i->backing->name) : NULL);
    n = node_open_file(g, i->filename, i->format, opts, err);
    json_object_put(opts);
    return n;
}
