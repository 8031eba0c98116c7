/* Internal snapshots, listed for people: rhea-img snapshot -l, and "info snapshots", which looks at all disks. */
#include <string.h>
#include "block/backend.h"
#include "rhea/base/options.h"

char *block_size_text(uint64_t bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double v = bytes;
    unsigned u = 0;

    for (; v >= 1000 && u + 1 < G_N_ELEMENTS(units); u++)       /* three digits before the unit */
        v /= 1024;
    return g_strdup_printf("%0.3g %s", v, units[u]);
}

static void table_line(GString *t, struct json_object *s, const char *id)
{
    int64_t date, secs, nsec, vm;
    g_autoptr(GDateTime) when = NULL;
    g_autofree char *text = NULL, *size = NULL, *clock = NULL;

    option_int(s, "date-sec", 0, &date, NULL);
    option_int(s, "vm-clock-sec", 0, &secs, NULL);
    option_int(s, "vm-clock-nsec", 0, &nsec, NULL);
    option_int(s, "vm-state-size", 0, &vm, NULL);
    when = g_date_time_new_from_unix_local(date);
    text = when ? g_date_time_format(when, "%Y-%m-%d %H:%M:%S") : g_strdup("?");
    size = block_size_text(vm);
    clock = g_strdup_printf("%02d:%02d:%02d.%03d", (int)(secs / 3600), (int)(secs / 60 % 60), (int)(secs % 60),
                            (int)(nsec / 1000000));
    g_string_append_printf(t, "%-9s %-16s %8s%20s%13s%11s\n", id ? id : option_str(s, "id", ""), option_str(s, "name", ""), size,
                           text, clock, option_str(s, "icount", ""));
}

static void table_head(GString *t)
{
    g_string_append_printf(t, "%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
}

char *snapshots_table(struct json_object *list)
{
    GString *t = g_string_new(NULL);

    table_head(t);
    for (size_t i = 0; i < json_object_array_length(list); i++)
        table_line(t, json_object_array_get_idx(list, i), NULL);
    return g_string_free(t, FALSE);
}

/* ---- one of them */

char *snapshot_named(struct block_node *n, const char *name)
{
    struct json_object *all = n->drv->snapshots ? n->drv->snapshots(n) : NULL;
    char *id = NULL;

    for (size_t i = 0; all && !id && i < json_object_array_length(all); i++) {
        struct json_object *s = json_object_array_get_idx(all, i);

        if (!strcmp(option_str(s, "name", ""), name))
            id = g_strdup(option_str(s, "id", ""));
    }
    json_object_put(all);
    return id;
}

char *snapshot_chosen(struct block_node *n, const char *text, struct error *err)
{
    struct json_object *o;
    const char *id, *name;
    char *chosen;

    if (!g_str_has_prefix(text, "snapshot."))
        return g_strdup(text);
    o = options_parse(text, NULL, err);
    if (!o)
        return NULL;
    id = option_str(o, "snapshot.id", NULL);
    name = option_str(o, "snapshot.name", NULL);
    chosen = id || !name ? g_strdup(id) : snapshot_named(n, name);
    if (!chosen)
        error_setf(err, ERR_GENERIC, "rhea-img snapshot -l lists those of an image", "'%s' has no snapshot '%s'", n->filename,
                   name ? name : text);
    json_object_put(o);
    return chosen;
}

/* ---- of all disks: a machine's state can go back to what every disk that can be written has, by its name */

struct disk { const char *name; struct json_object *list; };

static void disk_clear(void *arg)
{
    json_object_put(((struct disk *)arg)->list);
}

static bool has_name(struct json_object *list, const char *name)
{
    for (size_t i = 0; list && i < json_object_array_length(list); i++)
        if (!strcmp(option_str(json_object_array_get_idx(list, i), "name", ""), name))
            return true;
    return false;
}

static GArray *disks_of(struct block_graph *g, bool *any)
{
    GArray *disks = g_array_new(FALSE, TRUE, sizeof(struct disk));

    g_array_set_clear_func(disks, disk_clear);
    for (unsigned i = 0; i < g->backends->len; i++) {
        const struct block_backend *b = g_ptr_array_index(g->backends, i);
        struct block_node *n = b->job || (!b->drive && !b->dev) ? NULL : node_skip_filters(b->root);
        struct disk d = { b->name };

        if (!n || n->read_only)
            continue;
        if (n->drv->snapshots)
            d.list = n->drv->snapshots(n);
        *any |= n->drv->snapshot_create != NULL;
        if (!*d.name)
            d.name = n->name;
        g_array_append_val(disks, d);
    }
    return disks;
}

static bool on_all(const GArray *disks, struct json_object *s)
{
    for (unsigned i = 0; i < disks->len; i++)
        if (!has_name(g_array_index(disks, struct disk, i).list, option_str(s, "name", "")))
            return false;
    return true;
}

static size_t count_of(const struct disk *d)
{
    return d->list ? json_object_array_length(d->list) : 0;
}

/* Those that are on all disks, or those that are not. */
static char *pick(const GArray *disks, const struct disk *d, bool all)
{
    GString *t = g_string_new(NULL);
    size_t none;

    table_head(t);
    none = t->len;
    for (size_t i = 0; i < count_of(d); i++) {
        struct json_object *s = json_object_array_get_idx(d->list, i);

        if (on_all(disks, s) == all)
            table_line(t, s, all ? "--" : NULL);
    }
    if (t->len == none)
        g_string_truncate(t, 0);
    return g_string_free(t, FALSE);
}

char *block_snapshots_text(struct vm *vm)
{
    bool any = false;
    g_autoptr(GArray) disks = disks_of(block_graph_of(vm), &any);
    GString *t = g_string_new(NULL);
    size_t count = 0;

    for (unsigned i = 0; i < disks->len; i++)
        count += count_of(&g_array_index(disks, struct disk, i));
    if (!any)
        g_string_append(t, "no block device can store vmstate for snapshot\n");
    else if (!count)
        g_string_append(t, "There is no snapshot available.\n");
    for (unsigned i = 0; count && i < disks->len; i++) {
        const struct disk *d = &g_array_index(disks, struct disk, i);
        g_autofree char *all = i ? NULL : pick(disks, d, true), *rest = pick(disks, d, false);

        if (all)
            g_string_append_printf(t, "List of snapshots present on all disks:\n%s", *all ? all : "None\n");
        if (*rest)
            g_string_append_printf(t, "\nList of partial (non-loadable) snapshots on '%s':\n%s", d->name, rest);
    }
    return g_string_free(t, FALSE);
}
