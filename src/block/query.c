/* The block layer's answers to QMP: query-block, query-blockstats, query-named-block-nodes. */
#include <string.h>
#include "block/backend.h"
#include "block/filter/throttle.h"
#include "rhea/base/options.h"
#include "rhea/block/bitmap.h"
#include "rhea/vm/vm.h"

static void add_str(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, json_object_new_string(value));
}

static void add_int(struct json_object *o, const char *key, uint64_t value)
{
    json_object_object_add(o, key, json_object_new_uint64(value));
}

static void add_bool(struct json_object *o, const char *key, bool value)
{
    json_object_object_add(o, key, json_object_new_boolean(value));
}

/* Clients find a disk by the object that owns its back end: for virtio that is the inner device of the transport. */
char *backend_qdev(const struct block_backend *b)
{
    const struct device *dev = b->dev;

    if (g_str_has_prefix(dev->cls->name, "virtio-") && dev->path)
        return g_str_has_suffix(dev->path, "/virtio-backend") ? g_strdup(dev->path)
                                                              : g_strdup_printf("%s/virtio-backend", dev->path);
    return g_strdup(dev->id ? dev->id : dev->path ? dev->path : "");
}

/* ---- images */

struct json_object *node_image_info(struct block_node *n)
{
    struct json_object *o = json_object_new_object(), *v;
    g_autofree char *format = NULL, *backing = NULL, *full = NULL;
    int64_t used = n->drv->allocated_size ? n->drv->allocated_size(n) : -1;

    if (n->drv->backing_filename)
        backing = n->drv->backing_filename(n, &format);
    add_int(o, "virtual-size", n->size);
    add_str(o, "filename", n->filename);
    if (n->drv->cluster_size && n->drv->cluster_size(n))
        add_int(o, "cluster-size", n->drv->cluster_size(n));
    add_str(o, "format", n->drv->name);
    if (n->encrypted)
        add_bool(o, "encrypted", true);
    if (used >= 0)
        add_int(o, "actual-size", used);
    if (backing) {
        full = block_resolve(n->filename, backing);
        add_str(o, "full-backing-filename", full);
        add_str(o, "backing-filename", backing);
        if (format)
            add_str(o, "backing-filename-format", format);
    }
    v = n->drv->snapshots ? n->drv->snapshots(n) : NULL;
    if (v)
        json_object_object_add(o, "snapshots", v);
    v = n->drv->info ? n->drv->info(n) : NULL;
    if (v)
        json_object_object_add(o, "format-specific", v);
    add_bool(o, "dirty-flag", false);
    return o;
}

static struct json_object *image_chain(struct block_node *n, bool flat)
{
    struct json_object *o = node_image_info(n);

    if (n->backing && !flat)
        json_object_object_add(o, "backing-image", image_chain(n->backing, false));
    return o;
}

static struct json_object *node_info(struct block_node *n, bool writeback, bool flat)
{
    static const char *const detect[] = { "off", "on", "unmap" };
    static const char *const limits[] = { "bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr" };
    struct json_object *o = json_object_new_object(), *cache = json_object_new_object();

    for (unsigned i = 0; i < G_N_ELEMENTS(limits); i++)
        add_int(o, limits[i], 0);
    json_object_object_add(o, "image", image_chain(n, flat));
    if (n->bitmaps)
        json_object_object_add(o, "dirty-bitmaps", bitmap_query(n));
    add_str(o, "detect_zeroes", detect[n->detect_zeroes]);
    add_int(o, "write_threshold", n->write_threshold);
    add_bool(o, "ro", n->read_only);
    add_bool(o, "active", !n->inactive);
    add_str(o, "node-name", n->name);
    add_int(o, "backing_file_depth", node_depth(n));
    if (n->backing)
        add_str(o, "backing_file", n->backing->filename);
    add_str(o, "drv", n->drv->name);
    add_bool(o, "encrypted", n->encrypted);
    add_bool(cache, "no-flush", n->no_flush);
    add_bool(cache, "direct", n->direct);
    add_bool(cache, "writeback", writeback);
    json_object_object_add(o, "cache", cache);
    add_str(o, "file", n->filename);
    return o;
}

static void throttle_info(struct json_object *o, const struct throttle_group *g)
{
    static const char *const names[THROTTLE_BUCKETS] = { "bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr" };
    struct throttle_limits l;

    throttle_group_limits(g, &l);
    for (unsigned i = 0; i < THROTTLE_BUCKETS; i++) {
        g_autofree char *max = g_strdup_printf("%s_max", names[i]), *length = g_strdup_printf("%s_max_length", names[i]);

        add_int(o, names[i], l.avg[i]);
        if (l.max[i]) {
            add_int(o, max, l.max[i]);
            add_int(o, length, l.max_length[i]);
        }
    }
    if (l.iops_size)
        add_int(o, "iops_size", l.iops_size);
    add_str(o, "group", throttle_group_name(g));
}

struct json_object *block_query(struct vm *vm)
{
    static const char *const io_status[] = { "ok", "failed", "nospace" };
    struct block_graph *g = block_graph_of(vm);
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < g->backends->len; i++) {
        struct block_backend *b = g_ptr_array_index(g->backends, i);
        struct json_object *o;
        g_autofree char *qdev = NULL;

        if (!b->drive && !b->dev)
            continue;
        o = json_object_new_object();
        if (b->dev && !b->removable)
            add_str(o, "io-status", io_status[b->io_status]);
        add_str(o, "device", b->name);
        add_bool(o, "locked", b->locked);
        add_bool(o, "removable", b->removable);
        if (b->root) {
            struct json_object *in = node_info(b->root, b->writeback, false);

            if (b->throttle)
                throttle_info(in, b->throttle);
            json_object_object_add(o, "inserted", in);
        }
        if (b->removable)
            add_bool(o, "tray_open", b->tray_open);
        if (b->dev) {
            qdev = backend_qdev(b);
            add_str(o, "qdev", qdev);
        }
        add_str(o, "type", "unknown");
        json_object_array_add(list, o);
    }
    return list;
}

struct json_object *block_query_nodes(struct vm *vm, bool flat)
{
    GPtrArray *nodes = block_graph_of(vm)->in_order;
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < nodes->len; i++)
        json_object_array_add(list, node_info(g_ptr_array_index(nodes, i), true, flat));
    return list;
}

/* ---- statistics */

static const struct { enum block_op op; const char *prefix; bool bytes; } stat_names[] = {
    { OP_READ, "rd", true }, { OP_WRITE, "wr", true }, { OP_FLUSH, "flush", false }, { OP_DISCARD, "unmap", true },
    { OP_COUNT, "zone_append", true },          /* always 0: zoned devices are not supported */
};

static void stat_add(struct json_object *o, const char *prefix, const char *suffix, uint64_t value)
{
    char name[64];

    g_snprintf(name, sizeof(name), "%s%s", prefix, suffix);
    add_int(o, name, value);
}

static struct json_object *stats_of(const struct op_stats *s, const struct block_node *n, int64_t last_ns)
{
    static const struct op_stats zero[OP_COUNT];
    struct json_object *o = json_object_new_object();

    if (!s)
        s = zero;
    for (unsigned i = 0; i < G_N_ELEMENTS(stat_names); i++) {
        const struct op_stats *op = stat_names[i].op == OP_COUNT ? zero : &s[stat_names[i].op];
        const char *p = stat_names[i].prefix;
        char name[64];

        if (stat_names[i].bytes) {
            stat_add(o, p, "_bytes", op->bytes);
            stat_add(o, p, "_merged", 0);
        }
        stat_add(o, p, "_operations", op->operations);
        stat_add(o, p, "_total_time_ns", op->time_ns);
        g_snprintf(name, sizeof(name), "failed_%s_operations", p);
        add_int(o, name, op->failed);
        g_snprintf(name, sizeof(name), "invalid_%s_operations", p);
        add_int(o, name, op->invalid);
    }
    add_int(o, "wr_highest_offset", n ? n->wr_highest : 0);
    if (last_ns)
        add_int(o, "idle_time_ns", MAX(0, host_clock_ns() - last_ns));
    add_bool(o, "account_invalid", true);
    add_bool(o, "account_failed", true);
    json_object_object_add(o, "timed_stats", json_object_new_array());
    return o;
}

static void latencies_add(struct json_object *entry, struct histogram *const *latency)
{
    static const char *const names[LATENCY_COUNT] = { "rd_latency_histogram", "wr_latency_histogram", "zone_append_latency_histogram",
                                                      "flush_latency_histogram" };
    struct json_object *o = json_object_object_get(entry, "stats");

    for (unsigned i = 0; i < LATENCY_COUNT; i++)
        if (latency[i])
            json_object_object_add(o, names[i], histogram_info(latency[i]));
}

static struct json_object *node_stats(struct block_node *n, const struct op_stats *s, int64_t last_ns)
{
    struct json_object *o = json_object_new_object();

    if (n && n->file)
        json_object_object_add(o, "parent", node_stats(n->file, NULL, 0));
    json_object_object_add(o, "stats", stats_of(s, n, last_ns));
    if (n && n->backing)
        json_object_object_add(o, "backing", node_stats(n->backing, NULL, 0));
    if (n)
        add_str(o, "node-name", n->name);
    return o;
}

struct json_object *block_query_stats(struct vm *vm, bool nodes)
{
    struct block_graph *g = block_graph_of(vm);
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; nodes && i < g->in_order->len; i++)
        json_object_array_add(list, node_stats(g_ptr_array_index(g->in_order, i), NULL, 0));
    for (unsigned i = 0; !nodes && i < g->backends->len; i++) {
        struct block_backend *b = g_ptr_array_index(g->backends, i);
        struct json_object *o;

        if (!b->drive && !b->dev)
            continue;
        o = node_stats(b->root, b->stats, b->last_access_ns);
        latencies_add(o, b->latency);
        add_str(o, "device", b->name);
        if (b->dev) {
            g_autofree char *qdev = backend_qdev(b);

            add_str(o, "qdev", qdev);
        }
        json_object_array_add(list, o);
    }
    return list;
}
