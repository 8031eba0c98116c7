/* blockdev-reopen: options of nodes that are in use. What can change: read-only, backing, discard, detect-zeroes, cache.no-flush;
 * everything else must be as it was. */
#include <errno.h>
#include <string.h>
#include "block/backend.h"
#include "rhea/base/options.h"
#include "rhea/block/job.h"

static const char *const changeable[] = { "read-only", "backing", "discard", "detect-zeroes", "cache", "auto-read-only", "node-name", "driver",
                                          "force-share", NULL };

/* "file": the name of the node that it is, or options that were given before. */
static bool value_same(const struct block_node *n, const char *key, struct json_object *v)
{
    struct json_object *old = NULL;

    if (!strcmp(key, "file") && json_object_is_type(v, json_type_string) && n->file)
        return !strcmp(json_object_get_string(v), n->file->name);
    json_object_object_get_ex(n->opts, key, &old);
    return json_object_equal(old, v);
}

static bool reopen_check(struct block_node *n, struct json_object *opts, struct error *err)
{
    const char *driver = option_str(opts, "driver", "");
    struct json_object *cache = NULL;
    bool direct;

    if (!node_is_active(n, err))
        return false;
    if (strcmp(driver, n->drv->name))
        return error_setf(err, ERR_GENERIC, "remove the node, and add it anew", "Cannot change the driver of node '%s'", n->name);
    json_object_object_foreach(opts, key, v)
        if (!g_strv_contains(changeable, key) && !value_same(n, key, v))
            return error_setf(err, ERR_GENERIC, "it can be set by blockdev-add only", "Cannot change the option '%s' of node '%s'", key, n->name);
    json_object_object_get_ex(opts, "cache", &cache);
    if (!option_bool(cache, "direct", n->direct, &direct, err))
        return false;
    return direct == n->direct || error_setf(err, ERR_GENERIC, "it can be set by blockdev-add only", "Cannot change the option 'cache.direct' of node '%s'",
                                             n->name);
}

/* null, or absent: as it is; a node. */
static bool reopen_backing(struct block_graph *g, struct block_node *n, struct json_object *opts, struct error *err)
{
    struct json_object *v = NULL;
    struct block_node *backing = NULL;

    if (!json_object_object_get_ex(opts, "backing", &v))
        return true;
    if (v && !json_object_is_type(v, json_type_string))
        return error_set(err, ERR_GENERIC, "Cannot change the backing file's options: name a node", "blockdev-add it first");
    if (v && *json_object_get_string(v) && !(backing = block_lookup(g, json_object_get_string(v), err)))
        return false;
    if (backing == n->backing)
        return true;
    return !job_on_node(g, n, err) && !node_kept(g, n, err) && node_set_backing(n, backing, err);
}

static bool reopen_words(struct block_node *n, struct json_object *opts, struct error *err)
{
    static const char *const detect[] = { "off", "on", "unmap" };
    const char *discard = option_str(opts, "discard", "ignore"), *zeroes = option_str(opts, "detect-zeroes", "off");
    bool unmap = !strcmp(discard, "unmap") || !strcmp(discard, "on");
    struct json_object *cache = NULL;
    unsigned i = 0;

    json_object_object_get_ex(opts, "cache", &cache);
    if (!unmap && strcmp(discard, "ignore") && strcmp(discard, "off"))
        return error_setf(err, ERR_GENERIC, "it is ignore or unmap", "unknown discard '%s'", discard);
    while (i < G_N_ELEMENTS(detect) && strcmp(detect[i], zeroes))
        i++;
    if (i == G_N_ELEMENTS(detect))
        return error_setf(err, ERR_GENERIC, "it is off, on or unmap", "unknown detect-zeroes '%s'", zeroes);
    if (i == DETECT_ZEROES_UNMAP && !unmap)
        return error_set(err, ERR_GENERIC, "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap",
                         "add discard=unmap");
    if (!option_bool(cache, "no-flush", n->no_flush, &n->no_flush, err))
        return false;
    n->discard = unmap;
    n->detect_zeroes = i;
    return true;
}

static bool reopen_node(struct block_graph *g, struct json_object *opts, struct error *err)
{
    struct block_node *n = node_find(g, option_str(opts, "node-name", ""));
    bool read_only;

    if (!n)
        return error_setf(err, ERR_GENERIC, "query-named-block-nodes lists them", "Failed to find node with node-name='%s'",
                          option_str(opts, "node-name", ""));
    return option_bool(opts, "read-only", false, &read_only, err) && reopen_check(n, opts, err) && node_set_read_only(n, read_only, err) &&
           reopen_words(n, opts, err) && reopen_backing(g, n, opts, err);
}

/* What a node was, so that it can be that again. */
struct before { struct block_node *n, *backing; bool read_only, discard, no_flush; unsigned detect_zeroes; };

static struct before reopen_remember(struct block_node *n)
{
    if (n->backing)
        node_ref(n->backing);
    return (struct before){ n, n->backing, n->read_only, n->discard, n->no_flush, n->detect_zeroes };
}

static void reopen_undo(const struct before *b)
{
    struct error err = ERROR_INIT;

    if (!node_set_read_only(b->n, b->read_only, &err) || !node_set_backing(b->n, b->backing, &err))
        warn_report("%s: cannot be what it was: %s", b->n->name, err.msg);
    error_clear(&err);
    b->n->discard = b->discard;
    b->n->no_flush = b->no_flush;
    b->n->detect_zeroes = b->detect_zeroes;
}

/* All are looked at before the first is changed; if one fails then, those before it become what they were. */
bool block_reopen(struct block_graph *g, struct json_object *list, struct error *err)
{
    size_t count = json_object_array_length(list), done = 0;
    g_autofree struct before *before = g_new0(struct before, MAX(count, 1));
    bool ok = true;

    if (graph_busy(g, err))
        return false;
    for (size_t k = 0; k < count && ok; k++) {
        struct block_node *n = node_find(g, option_str(json_object_array_get_idx(list, k), "node-name", ""));

        ok = !n || reopen_check(n, json_object_array_get_idx(list, k), err);
    }
    graph_quiesce(g);
    for (size_t k = 0; k < count && ok; k++) {
        struct block_node *n = node_find(g, option_str(json_object_array_get_idx(list, k), "node-name", ""));

        if (n)
            before[done++] = reopen_remember(n);
        ok = reopen_node(g, json_object_array_get_idx(list, k), err);
    }
    for (size_t k = done; k-- > 0;) {
        if (!ok)
            reopen_undo(&before[k]);
        if (before[k].backing)
            node_unref(before[k].backing);
    }
    graph_resume(g);
    return ok;
}
