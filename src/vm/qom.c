/* The tree of objects: paths, properties, types. See include/rhea/vm/qom.h. */
#include <string.h>
#include <glib.h>
#include "device_internal.h"
#include "rhea/base/options.h"
#include "rhea/vm/object.h"
#include "rhea/vm/qom.h"
#include "rhea/vm/vm.h"

enum node_kind { NODE_NONE, NODE_ROOT, NODE_MACHINE, NODE_CONTAINER, NODE_DEVICE, NODE_CPU, NODE_OBJECT };
struct node { enum node_kind kind; char path[256]; struct device *dev; struct vcpu *cpu; struct object *obj; };

static const struct { const char *path, *type; } containers[] = {
    { "/machine/peripheral", "container" }, { "/machine/peripheral-anon", "container" }, { "/machine/unattached", "container" },
    { "/objects", "container" },
};

char *qom_cpu_path(const struct vcpu *v)
{
    return g_strdup_printf("/machine/unattached/device[%d]", v->index);
}

static char *cpu_type(const struct vcpu *v)
{
    const char *spec = v->vm->config.cpu ? v->vm->config.cpu : v->vm->board->default_cpu;
    g_auto(GStrv) parts = g_strsplit(spec ? spec : "max", ",", 2);

    return g_strdup_printf("%s-%s-cpu", parts[0], v->vm->guest->name);
}

static char *node_type(struct vm *vm, const struct node *n)
{
    switch (n->kind) {
    case NODE_MACHINE: return g_strdup_printf("%s-machine", vm->board->name);
    case NODE_DEVICE:  return g_strdup(n->dev->cls->name);
    case NODE_CPU:     return cpu_type(n->cpu);
    case NODE_OBJECT:  return g_strdup(n->obj->cls->name);
    default:           return g_strdup("container");
    }
}

static bool node_is(struct node *n, enum node_kind kind)
{
    n->kind = kind;
    return true;
}

static bool node_absolute(struct vm *vm, const char *path, struct node *n)
{
    *n = (struct node){ 0 };
    if (strlen(path) >= sizeof(n->path))
        return false;
    strcpy(n->path, path);
    if (strlen(n->path) > 1 && g_str_has_suffix(n->path, "/"))
        n->path[strlen(n->path) - 1] = 0;
    if (strcmp(n->path, "/") == 0)
        return node_is(n, NODE_ROOT);
    if (strcmp(n->path, "/machine") == 0)
        return node_is(n, NODE_MACHINE);
    for (unsigned i = 0; i < G_N_ELEMENTS(containers); i++)
        if (strcmp(n->path, containers[i].path) == 0)
            return node_is(n, NODE_CONTAINER);
    for (struct device *d = vm->devices; d; d = d->next)
        if (strcmp(d->path, n->path) == 0) {
            n->dev = d;
            return node_is(n, NODE_DEVICE);
        }
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        g_autofree char *p = qom_cpu_path(vm->vcpus[i]);

        if (strcmp(p, n->path) == 0) {
            n->cpu = vm->vcpus[i];
            return node_is(n, NODE_CPU);
        }
    }
    if (g_str_has_prefix(n->path, "/objects/") && vm->objects && (n->obj = g_hash_table_lookup(vm->objects, n->path + 9)))
        return node_is(n, NODE_OBJECT);
    return false;
}

/* "net0", "peripheral/net0": the one object whose path ends so. */
static bool node_partial(struct vm *vm, const char *path, struct node *n)
{
    g_autofree char *tail = g_strdup_printf("/%s", path);
    const char *found = NULL;

    for (struct device *d = vm->devices; d; d = d->next)
        if (g_str_has_suffix(d->path, tail)) {
            if (found)
                return false;
            found = d->path;
        }
    if (found)
        return node_absolute(vm, found, n);
    if (strcmp(path, "machine") == 0)
        return node_absolute(vm, "/machine", n);
    tail = (g_free(tail), g_strdup_printf("/objects/%s", path));
    return node_absolute(vm, tail, n);
}

static bool node_find(struct vm *vm, const char *path, struct node *n, struct error *err)
{
    if (*path == '/' ? node_absolute(vm, path, n) : node_partial(vm, path, n))
        return true;
    return error_setf(err, ERR_DEVICE_NOT_FOUND, "qom-list shows what there is", "Device '%s' not found", path);
}

/* ---- qom-list */

static void entry(struct json_object *all, const char *name, const char *type)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "name", json_object_new_string(name));
    json_object_object_add(o, "type", json_object_new_string(type));
    json_object_array_add(all, o);
}

static bool entry_prop(const struct prop *p, void *arg)
{
    entry(arg, p->name, prop_type_name(p));
    return true;
}

/* Children directly below `path`. */
static void entry_children(struct vm *vm, const char *path, struct json_object *all)
{
    g_autofree char *prefix = strcmp(path, "/") == 0 ? g_strdup("/") : g_strdup_printf("%s/", path);
    size_t n = strlen(prefix);

    for (unsigned i = 0; i < G_N_ELEMENTS(containers); i++)
        if (g_str_has_prefix(containers[i].path, prefix) && !strchr(containers[i].path + n, '/'))
            entry(all, containers[i].path + n, "child<container>");
    if (strcmp(path, "/machine/unattached") == 0)
        for (unsigned i = 0; i < vm->nvcpus; i++) {
            g_autofree char *p = qom_cpu_path(vm->vcpus[i]), *type = cpu_type(vm->vcpus[i]);
            g_autofree char *child = g_strdup_printf("child<%s>", type);

            entry(all, p + n, child);
        }
    for (struct device *d = vm->devices; d; d = d->next)
        if (g_str_has_prefix(d->path, prefix) && !strchr(d->path + n, '/')) {
            g_autofree char *child = g_strdup_printf("child<%s>", d->cls->name);

            entry(all, d->path + n, child);
        }
    if (strcmp(path, "/objects") == 0 && vm->objects) {
        GHashTableIter it;
        gpointer id, obj;

        g_hash_table_iter_init(&it, vm->objects);
        while (g_hash_table_iter_next(&it, &id, &obj)) {
            g_autofree char *child = g_strdup_printf("child<%s>", ((struct object *)obj)->cls->name);

            entry(all, id, child);
        }
    }
}

/* The CPU's features are bools of its own: clients read each. */
static void cpu_feature_entries(struct vm *vm, struct json_object *all)
{
    unsigned n = 0;
    const struct cpu_feature *f = vm->guest->cpu_has ? vm->guest->features(&n) : NULL;

    for (; n; n--, f++)
        entry(all, f->name, "bool");
}

struct json_object *qom_list(struct vm *vm, const char *path, struct error *err)
{
    struct json_object *all;
    struct node n;

    if (!node_find(vm, path, &n, err))
        return NULL;
    all = json_object_new_array();
    entry(all, "type", "string");
    switch (n.kind) {
    case NODE_ROOT:
        entry(all, "machine", "child<container>");
        break;
    case NODE_MACHINE:
        for (const struct prop *p = vm->board->props; p && p->name; p++)
            entry_prop(p, all);
        break;
    case NODE_DEVICE:
        device_class_each_prop(n.dev->cls, entry_prop, all);
        for (const struct object_prop *p = n.dev->cls->object_props; p && p->name; p++)
            entry(all, p->name, p->type);
        entry(all, "realized", "bool");
        entry(all, "hotplugged", "bool");
        entry(all, "hotpluggable", "bool");
        break;
    case NODE_CPU:
        entry(all, "realized", "bool");
        entry(all, "hotplugged", "bool");
        entry(all, "hotpluggable", "bool");
        entry(all, "unavailable-features", "strList");
        cpu_feature_entries(vm, all);
        break;
    case NODE_OBJECT:
        for (const struct prop *p = n.obj->cls->props; p && p->name; p++)
            entry_prop(p, all);
        break;
    default:
        break;
    }
    entry_children(vm, n.path, all);
    return all;
}

/* ---- qom-get, qom-set */

static const struct object_prop *object_prop_find(const struct device_class *cls, const char *name)
{
    for (const struct object_prop *p = cls->object_props; p && p->name; p++)
        if (strcmp(p->name, name) == 0)
            return p;
    return NULL;
}

static bool no_property(struct vm *vm, const struct node *n, const char *prop, struct error *err)
{
    g_autofree char *type = node_type(vm, n);

    return error_setf(err, ERR_GENERIC, "qom-list shows what there is", "Property '%s.%s' not found", type, prop);
}

static struct json_object *device_qom_get(struct vm *vm, struct node *n, const char *prop, struct error *err)
{
    struct device *d = n->dev;
    const struct object_prop *op = object_prop_find(d->cls, prop);
    const struct prop *p = device_prop_find(d->cls, prop);
    struct json_object *v = NULL;

    if (strcmp(prop, "realized") == 0)
        return json_object_new_boolean(d->realized);
    if (strcmp(prop, "hotplugged") == 0)
        return json_object_new_boolean(d->hotplugged);
    if (strcmp(prop, "hotpluggable") == 0)
        return json_object_new_boolean(d->cls->hotpluggable);
    if (!op && !p) {
        no_property(vm, n, prop, err);
        return NULL;
    }
    device_lock(d);
    if (op && op->get)
        v = op->get(d, err);
    else if (p)
        v = prop_get_json(d, p);
    else
        error_setf(err, ERR_GENERIC, NULL, "Property '%s.%s' is not readable", d->cls->name, prop);
    device_unlock(d);
    return v;
}

static struct json_object *board_qom_get(struct vm *vm, struct node *n, const char *prop, struct error *err)
{
    for (const struct prop *p = vm->board->props; p && p->name; p++)
        if (strcmp(p->name, prop) == 0)
            return prop_get_json(vm->board_data, p);
    if (strcmp(prop, "rtc-time") == 0) {
        g_autoptr(GDateTime) t = g_date_time_new_from_unix_utc(vm_rtc_ns(vm) / 1000000000);
        struct json_object *o = json_object_new_object();

        json_object_object_add(o, "tm_year", json_object_new_int(g_date_time_get_year(t) - 1900));
        json_object_object_add(o, "tm_mon", json_object_new_int(g_date_time_get_month(t) - 1));
        json_object_object_add(o, "tm_mday", json_object_new_int(g_date_time_get_day_of_month(t)));
        json_object_object_add(o, "tm_hour", json_object_new_int(g_date_time_get_hour(t)));
        json_object_object_add(o, "tm_min", json_object_new_int(g_date_time_get_minute(t)));
        json_object_object_add(o, "tm_sec", json_object_new_int(g_date_time_get_second(t)));
        return o;
    }
    no_property(vm, n, prop, err);
    return NULL;
}

static struct json_object *cpu_qom_get(struct vm *vm, struct node *n, const char *prop, struct error *err)
{
    unsigned count = 0;
    const struct cpu_feature *f = vm->guest->cpu_has ? vm->guest->features(&count) : NULL;

    if (strcmp(prop, "realized") == 0)
        return json_object_new_boolean(n->cpu->ready);
    if (strcmp(prop, "hotplugged") == 0 || strcmp(prop, "hotpluggable") == 0)
        return json_object_new_boolean(false);
    if (strcmp(prop, "unavailable-features") == 0)
        return json_object_new_array();
    for (; count; count--, f++)
        if (strcmp(f->name, prop) == 0)
            return json_object_new_boolean(vm->guest->cpu_has(n->cpu->cpu, f));
    no_property(vm, n, prop, err);
    return NULL;
}

struct json_object *qom_get(struct vm *vm, const char *path, const char *prop, struct error *err)
{
    struct json_object *v;
    struct node n;

    if (!node_find(vm, path, &n, err))
        return NULL;
    if (strcmp(prop, "type") == 0) {
        g_autofree char *type = node_type(vm, &n);

        return json_object_new_string(type);
    }
    switch (n.kind) {
    case NODE_DEVICE:  return device_qom_get(vm, &n, prop, err);
    case NODE_CPU:     return cpu_qom_get(vm, &n, prop, err);
    case NODE_MACHINE: return board_qom_get(vm, &n, prop, err);
    case NODE_OBJECT:
        if (n.obj->opts && json_object_object_get_ex(n.obj->opts, prop, &v))
            return json_object_get(v);
        break;
    default:
        break;
    }
    no_property(vm, &n, prop, err);
    return NULL;
}

bool qom_set(struct vm *vm, const char *path, const char *prop, struct json_object *value, struct error *err)
{
    const struct object_prop *op;
    const struct prop *p;
    struct node n;
    bool ok;

    if (!node_find(vm, path, &n, err))
        return false;
    if (n.kind == NODE_OBJECT && n.obj->cls->set)
        return n.obj->cls->set(n.obj, prop, value, err);
    if (n.kind != NODE_DEVICE)
        return no_property(vm, &n, prop, err);
    op = object_prop_find(n.dev->cls, prop);
    if (op && op->set) {
        device_lock(n.dev);
        ok = op->set(n.dev, value, err);
        device_unlock(n.dev);
        return ok;
    }
    p = device_prop_find(n.dev->cls, prop);
    if (!op && !p)
        return no_property(vm, &n, prop, err);
    if (p && p->change)
        return json_object_is_type(value, json_type_string) ? p->change(n.dev, json_object_get_string(value), err)
                                                            : error_setf(err, ERR_GENERIC, NULL, "Invalid parameter type for '%s', expected: string", prop);
    return error_setf(err, ERR_GENERIC, "it is set with -device or device_add", "Attempt to set property '%s' on device '%s' after it was realized",
                      prop, n.dev->id ? n.dev->id : n.dev->cls->name);
}

/* ---- types */

struct type_list { struct json_object *all; const char *implements; GHashTable *seen; };

static void type_add(struct type_list *l, const char *name, const char *parent, bool abstract)
{
    struct json_object *o;

    if (!g_hash_table_add(l->seen, g_strdup(name)))
        return;
    o = json_object_new_object();
    json_object_object_add(o, "name", json_object_new_string(name));
    if (parent)
        json_object_object_add(o, "parent", json_object_new_string(parent));
    if (abstract)
        json_object_object_add(o, "abstract", json_object_new_boolean(true));
    json_object_array_add(l->all, o);
}

static bool wanted(const struct type_list *l, const char *base)
{
    return !l->implements || strcmp(l->implements, base) == 0 || strcmp(l->implements, "object") == 0;
}

static void types_of_devices(struct type_list *l, bool abstract)
{
    unsigned n;
    const struct device_class *const *c = device_classes(&n);
    const struct device_kind *const *k;

    for (unsigned i = 0; i < n; i++)
        if (wanted(l, "device") || device_class_is(c[i], l->implements))
            type_add(l, c[i]->name, c[i]->parent ? c[i]->parent : "device", false);
    k = device_kinds(&n);
    for (unsigned i = 0; abstract && i < n; i++)
        if (wanted(l, "device"))
            type_add(l, k[i]->name, k[i]->parent ? k[i]->parent : "device", true);
}

static void types_of_machine(struct type_list *l, struct vm *vm)
{
    unsigned n;
    const struct board *const *b = boards(&n);
    const struct accel *const *a;
    const struct cpu_model *m;

    for (unsigned i = 0; wanted(l, "machine") && i < n; i++) {
        g_autofree char *name = g_strdup_printf("%s-machine", b[i]->name);

        type_add(l, name, "machine", false);
    }
    a = accels(&n);
    for (unsigned i = 0; wanted(l, "accel") && i < n; i++) {
        g_autofree char *name = g_strdup_printf("%s-accel", a[i]->name);

        type_add(l, name, "accel", false);
        if (a[i]->alias) {
            g_autofree char *alias = g_strdup_printf("%s-accel", a[i]->alias);

            type_add(l, alias, "accel", false);
        }
    }
    m = vm->guest && vm->guest->models ? vm->guest->models(&n) : NULL;
    for (unsigned i = 0; wanted(l, "cpu") && m && i < n; i++) {
        g_autofree char *name = g_strdup_printf("%s-%s-cpu", m[i].name, vm->guest->name);

        type_add(l, name, "cpu", false);
    }
}

struct json_object *qom_list_types(struct vm *vm, const char *implements, bool abstract)
{
    struct type_list l = { json_object_new_array(), implements, g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL) };
    unsigned n;
    const struct object_class *const *o = object_classes(&n);

    types_of_devices(&l, abstract);
    types_of_machine(&l, vm);
    for (unsigned i = 0; i < n; i++)
        if (wanted(&l, "object") || (o[i]->parent && strcmp(o[i]->parent, implements) == 0))
            type_add(&l, o[i]->name, o[i]->parent, false);
    g_hash_table_destroy(l.seen);
    return l.all;
}

static void prop_default_json(struct json_object *o, const struct prop *p)
{
    if (!p->def)
        return;
    switch (p->type) {
    case PROP_BOOL: case PROP_BIT:
        json_object_object_add(o, "default-value", json_object_new_boolean(strcmp(p->def, "on") == 0 || strcmp(p->def, "true") == 0));
        break;
    case PROP_U8: case PROP_U16: case PROP_U32: case PROP_U64: case PROP_I32:
        json_object_object_add(o, "default-value", json_object_new_int64(g_ascii_strtoll(p->def, NULL, 0)));
        break;
    case PROP_SIZE: {
        uint64_t v;

        if (parse_size(p->def, 1, &v, NULL))
            json_object_object_add(o, "default-value", json_object_new_uint64(v));
        break;
    }
    default:
        json_object_object_add(o, "default-value", json_object_new_string(p->def));
        break;
    }
}

static bool prop_describe(const struct prop *p, void *arg)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "name", json_object_new_string(p->name));
    json_object_object_add(o, "type", json_object_new_string(prop_type_name(p)));
    if (p->help)
        json_object_object_add(o, "description", json_object_new_string(p->help));
    prop_default_json(o, p);
    json_object_array_add(arg, o);
    return true;
}

struct json_object *qom_device_properties(struct vm *vm, const char *type_name, struct error *err)
{
    const struct device_class *c = device_class_find(type_name);
    struct json_object *all;

    if (!c) {
        error_setf(err, ERR_DEVICE_NOT_FOUND, "qom-list-types shows what there is", "Device '%s' not found", type_name);
        return NULL;
    }
    all = json_object_new_array();
    device_class_each_prop(c, prop_describe, all);
    for (const struct object_prop *p = c->object_props; p && p->name; p++)
        entry(all, p->name, p->type);
    return all;
}

static const struct board *board_of_type(const char *type_name)
{
    unsigned n;
    const struct board *const *b = boards(&n);

    for (unsigned i = 0; i < n; i++) {
        g_autofree char *name = g_strdup_printf("%s-machine", b[i]->name);

        if (strcmp(name, type_name) == 0)
            return b[i];
    }
    return NULL;
}

static bool is_cpu_type(struct vm *vm, const char *type_name)
{
    unsigned n;
    const struct cpu_model *m = vm->guest && vm->guest->models ? vm->guest->models(&n) : NULL;

    for (unsigned i = 0; m && i < n; i++) {
        g_autofree char *name = g_strdup_printf("%s-%s-cpu", m[i].name, vm->guest->name);

        if (strcmp(name, type_name) == 0)
            return true;
    }
    return false;
}

struct json_object *qom_type_properties(struct vm *vm, const char *type_name, struct error *err)
{
    const struct board *b = board_of_type(type_name);
    const struct object_class *oc = object_class_find(type_name);
    const struct prop *props = b ? b->props : oc ? oc->props : NULL;
    struct json_object *all;

    if (!b && !oc && !is_cpu_type(vm, type_name))
        return qom_device_properties(vm, type_name, err);
    all = json_object_new_array();
    entry(all, "type", "string");
    for (const struct prop *p = props; p && p->name; p++)
        prop_describe(p, all);
    if (!b && !oc) {
        const struct cpu_feature *f;
        unsigned n = 0;

        entry(all, "unavailable-features", "strList");
        f = vm->guest->features ? vm->guest->features(&n) : NULL;
        for (unsigned i = 0; i < n; i++)
            entry(all, f[i].name, "bool");
    }
    return all;
}

/* ---- text */

static bool prop_text(const struct prop *p, void *arg)
{
    void **a = arg;
    g_autofree char *value = prop_get(a[1], p);
    bool quote = prop_is_string(p);

    g_string_append_printf(a[0], "%*s%s = %s%s%s\n", GPOINTER_TO_INT(a[2]), "", p->name, quote ? "\"" : "", value, quote ? "\"" : "");
    return true;
}

static void qtree_bus(GString *s, struct bus *b, int indent);

static void qtree_device(GString *s, struct device *d, int indent)
{
    void *arg[3] = { s, d, GINT_TO_POINTER(indent + 2) };

    g_string_append_printf(s, "%*sdev: %s, id \"%s\"\n", indent, "", d->cls->name, d->id ? d->id : "");
    device_class_each_prop(d->cls, prop_text, arg);
    for (int i = 0; i < DEVICE_MMIO_MAX; i++)
        if (d->mmio[i].vm && d->mmio[i].parent)
            g_string_append_printf(s, "%*smmio %016llx/%016llx\n", indent + 2, "", (unsigned long long)d->mmio[i].addr,
                                   (unsigned long long)d->mmio[i].size);
    for (unsigned i = 0; i < G_N_ELEMENTS(d->child_bus); i++)
        if (d->child_bus[i] && indent < 60)
            qtree_bus(s, d->child_bus[i], indent + 2);
}

static void qtree_bus(GString *s, struct bus *b, int indent)
{
    g_string_append_printf(s, "%*sbus: %s\n%*stype %s\n", indent, "", b->name, indent + 2, "", b->cls->name);
    for (unsigned i = 0; i < b->devices->len; i++)
        qtree_device(s, g_ptr_array_index(b->devices, i), indent + 2);
}

char *qtree_text(struct vm *vm)
{
    GString *s = g_string_new("bus: main-system-bus\n  type System\n");

    for (struct device *d = vm->devices; d; d = d->next)
        if (!d->parent_bus)
            qtree_device(s, d, 2);
    for (struct bus *b = vm->buses; b; b = b->next)
        if (!b->owner)
            qtree_bus(s, b, 0);
    return g_string_free(s, FALSE);
}

static void tree_below(GString *s, struct vm *vm, const char *path, int indent)
{
    struct json_object *all = json_object_new_array();

    entry_children(vm, path, all);
    for (size_t i = 0; i < json_object_array_length(all) && indent < 40; i++) {
        struct json_object *o = json_object_array_get_idx(all, i);
        const char *name = option_str(o, "name", ""), *type = option_str(o, "type", "");
        g_autofree char *below = g_strdup_printf("%s/%s", path, name), *bare = g_strndup(type + 6, strlen(type) - 7);

        g_string_append_printf(s, "%*s/%s (%s)\n", indent, "", name, bare);
        tree_below(s, vm, below, indent + 2);
    }
    json_object_put(all);
}

char *qom_tree_text(struct vm *vm)
{
    GString *s = g_string_new(NULL);

    g_string_append_printf(s, "/machine (%s-machine)\n", vm->board->name);
    tree_below(s, vm, "/machine", 2);
    return g_string_free(s, FALSE);
}
