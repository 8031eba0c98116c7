/* x-debug-query-block-graph: back ends, jobs and nodes, and what each may do to those below. */
#include "block/job/job.h"

struct dump { struct json_object *nodes, *edges; GHashTable *ids; };

enum { PERM_READ = 1, PERM_WRITE = 2, PERM_RESIZE = 4, PERM_UNCHANGED = 8, PERM_ALL = 15 };

/* Numbered as they are met. */
static int64_t id_of(struct dump *d, const void *of)
{
    int64_t id = GPOINTER_TO_SIZE(g_hash_table_lookup(d->ids, of));

    if (!id)
        g_hash_table_insert(d->ids, (void *)of, GSIZE_TO_POINTER(id = g_hash_table_size(d->ids) + 1));
    return id;
}

static void add_text(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, json_object_new_string(value));
}

static void add_id(struct dump *d, struct json_object *o, const char *key, const void *of)
{
    json_object_object_add(o, key, json_object_new_int64(id_of(d, of)));
}

static void dump_node(struct dump *d, const void *of, const char *type, const char *name)
{
    struct json_object *o = json_object_new_object();

    add_id(d, o, "id", of);
    add_text(o, "type", type);
    add_text(o, "name", name);
    json_object_array_add(d->nodes, o);
}

static struct json_object *permissions(unsigned bits)
{
    static const char *const names[] = { "consistent-read", "write", "resize", "write-unchanged" };
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
        if (bits & 1u << i)
            json_object_array_add(list, json_object_new_string(names[i]));
    return list;
}

static void dump_edge(struct dump *d, const void *parent, const void *child, const char *name, bool write, bool share)
{
    struct json_object *o;

    if (!child)
        return;
    o = json_object_new_object();
    add_id(d, o, "parent", parent);
    add_id(d, o, "child", child);
    add_text(o, "name", name);
    json_object_object_add(o, "perm", permissions(write ? PERM_READ | PERM_WRITE | PERM_RESIZE : PERM_READ));
    json_object_object_add(o, "shared-perm", permissions(share ? PERM_ALL : PERM_READ | PERM_UNCHANGED));
    json_object_array_add(d->edges, o);
}

static void dump_backend(struct dump *d, const struct block_backend *b)
{
    g_autofree char *qdev = b->dev && !*b->name ? backend_qdev(b) : NULL;

    dump_node(d, b, "block-backend", qdev ? qdev : b->name);
    dump_edge(d, b, b->root, "root", b->held_write, b->share || !b->held);
}

static void dump_job(struct dump *d, const struct job *j)
{
    dump_node(d, j, "block-job", j->id);
    for (unsigned i = 0; i < j->nodes->len; i++)
        dump_edge(d, j, g_ptr_array_index(j->nodes, i), "node", false, true);
}

static void dump_driver(struct dump *d, const struct block_node *n)
{
    dump_node(d, n, "block-driver", n->name);
    dump_edge(d, n, n->file, "file", node_writes_file(n), n->drv->file_hold != FILE_HELD);
    dump_edge(d, n, n->backing, "backing", false, true);
}

struct json_object *block_query_graph(struct vm *vm)
{
    struct block_graph *g = block_graph_of(vm);
    struct json_object *o = json_object_new_object();
    struct dump d = { json_object_new_array(), json_object_new_array(), g_hash_table_new(NULL, NULL) };

    for (unsigned i = 0; i < g->backends->len; i++)
        dump_backend(&d, g_ptr_array_index(g->backends, i));
    for (unsigned i = 0; i < g->jobs->len; i++)
        dump_job(&d, g_ptr_array_index(g->jobs, i));
    for (unsigned i = 0; i < g->in_order->len; i++)
        dump_driver(&d, g_ptr_array_index(g->in_order, i));
    g_hash_table_destroy(d.ids);
    json_object_object_add(o, "nodes", d.nodes);
    json_object_object_add(o, "edges", d.edges);
    return o;
}
