/* Objects that the user makes: the table of classes, instances by id. The classes are in object-kinds.c. */
#include <stdio.h>
#include <string.h>
#include "rhea/base/options.h"
#include "rhea/vm/object.h"
#include "rhea/vm/vm.h"

extern const struct object_class *const __start_rhea_objects[], *const __stop_rhea_objects[];

const struct object_class *const *object_classes(unsigned *count)
{
    *count = __stop_rhea_objects - __start_rhea_objects;
    return __start_rhea_objects;
}

const struct object_class *object_class_find(const char *name)
{
    unsigned n;
    const struct object_class *const *all = object_classes(&n);

    for (unsigned i = 0; i < n; i++)
        if (!strcmp(all[i]->name, name))
            return all[i];
    return NULL;
}

struct object *object_find(struct vm *vm, const char *id)
{
    return vm->objects && id ? g_hash_table_lookup(vm->objects, id) : NULL;
}

struct object *object_get(struct vm *vm, const char *id, const char *kind, struct error *err)
{
    struct object *obj = object_find(vm, id);

    if (!obj) {
        error_setf(err, ERR_GENERIC, "make it first, with -object or object-add", "there is no object '%s'",
                   id ? id : "");
        return NULL;
    }
    if (strcmp(obj->cls->name, kind) && strcmp(obj->cls->parent, kind)) {
        error_setf(err, ERR_GENERIC, NULL, "object '%s' is a %s, not a %s", id, obj->cls->name, kind);
        return NULL;
    }
    obj->users++;
    return obj;
}

void object_put(struct object *obj)
{
    if (obj)
        obj->users--;
}

static void object_free(void *opaque)
{
    struct object *obj = opaque;

    if (obj->cls->destroy)
        obj->cls->destroy(obj);
    json_object_put(obj->opts);
    g_free(obj->id);
    g_free(obj);
}

static bool id_is_wellformed(const char *id)
{
    if (!g_ascii_isalpha(*id))
        return false;
    for (; *id; id++)
        if (!g_ascii_isalnum(*id) && !strchr("-._", *id))
            return false;
    return true;
}

static const struct object_class *class_of(struct json_object *opts, struct error *err)
{
    static const char *const later[] = {
        "authz-pam", "cryptodev-backend-builtin", "input-linux", "can-bus", "filter-dump",
        "filter-mirror", "filter-redirector", "filter-buffer", "filter-rewriter", "filter-replay", "colo-compare",
        "rng-egd", "sev-guest", "sev-snp-guest", "tdx-guest", "sgx-epc", "pr-manager-helper", "dbus-vmstate",
        "thread-context", "memory-backend-epc", "memory-backend-shm", "secret_keyring", "main-loop", NULL };
    const char *type = option_str(opts, "qom-type", NULL), *near;
    const struct object_class *cls = type ? object_class_find(type) : NULL;
    g_autoptr(GPtrArray) names = NULL;
    g_autofree char *hint = NULL;
    unsigned n;

    if (cls)
        return cls;
    if (!type) {
        error_set(err, ERR_GENERIC, "qom-type is missing", "write -object TYPE,id=ID; -object help lists the types");
        return NULL;
    }
    if (g_strv_contains(later, type)) {
        error_setf(err, ERR_GENERIC, "-object help lists what there is", "this build has no object type '%s' yet", type);
        return NULL;
    }
    names = g_ptr_array_new();
    for (const struct object_class *const *c = object_classes(&n); n; n--, c++)
        g_ptr_array_add(names, (void *)(*c)->name);
    g_ptr_array_add(names, NULL);
    near = nearest_spelling(type, (const char *const *)names->pdata);
    hint = near ? g_strdup_printf("did you mean %s? -object help lists them", near)
                : g_strdup("-object help lists them");
    error_setf(err, ERR_GENERIC, hint, "there is no object type '%s'", type);
    return NULL;
}

static bool check_props(const struct object_class *cls, struct json_object *opts, struct error *err)
{
    json_object_object_foreach(opts, key, value) {
        const struct prop *p = cls->props;
        const char *names[32], *near;
        g_autofree char *hint = NULL;
        unsigned n = 0;

        (void)value;
        if (!strcmp(key, "qom-type") || !strcmp(key, "id"))
            continue;
        while (p && p->name && (strncmp(p->name, key, strcspn(key, ".")) || p->name[strcspn(key, ".")]))    /* "rules.0.match" */
            p++;
        if (p && p->name)
            continue;
        for (p = cls->props; p && p->name && n < 31; p++)
            names[n++] = p->name;
        names[n] = NULL;
        near = nearest_spelling(key, names);
        hint = near ? g_strdup_printf("did you mean %s?", near)
                    : g_strdup_printf("-object %s,help lists the properties", cls->name);
        return error_setf(err, ERR_GENERIC, hint, "%s has no property '%s'", cls->name, key);
    }
    return true;
}

bool object_add(struct vm *vm, struct json_object *opts, struct error *err)
{
    const char *id = option_str(opts, "id", NULL);
    const struct object_class *cls = class_of(opts, err);
    struct object *obj;

    if (!cls || !check_props(cls, opts, err))
        return false;
    if (!id)
        return error_set(err, ERR_GENERIC, "an object needs an id", "add id=NAME");
    if (!id_is_wellformed(id))
        return error_setf(err, ERR_GENERIC, "an id opens with a letter and holds letters, digits, '-', '.', '_'",
                          "'%s' cannot be an id", id);
    if (!vm->objects)
        vm->objects = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, object_free);
    if (object_find(vm, id))
        return error_setf(err, ERR_GENERIC, "choose another id", "object '%s' exists already", id);
    obj = g_malloc0(cls->size);
    obj->cls = cls;
    obj->vm = vm;
    obj->id = g_strdup(id);
    obj->opts = json_object_get(opts);
    if (cls->create && !cls->create(obj, err)) {
        error_prepend(err, "object %s", id);
        object_free(obj);
        return false;
    }
    g_hash_table_insert(vm->objects, obj->id, obj);
    return true;
}

bool object_del(struct vm *vm, const char *id, struct error *err)
{
    struct object *obj = object_find(vm, id);

    if (!obj)
        return error_setf(err, ERR_GENERIC, "qom-list /objects lists them", "there is no object '%s'", id);
    if (obj->users)
        return error_setf(err, ERR_GENERIC, "remove the devices that use it first", "object '%s' is in use", id);
    g_hash_table_remove(vm->objects, id);
    return true;
}

void object_cleanup(struct vm *vm)
{
    if (vm->objects)
        g_hash_table_destroy(vm->objects);
    vm->objects = NULL;
}

static const char *prop_type_text(enum prop_type t)
{
    switch (t) {
    case PROP_BOOL: return "bool";
    case PROP_SIZE: return "size";
    case PROP_U8: case PROP_U16: case PROP_U32: case PROP_U64: case PROP_I32: return "int";
    case PROP_ENUM: return "enum";
    default: return "str";
    }
}

char *object_help(const char *class_name)
{
    GString *out = g_string_new(NULL);
    const struct object_class *cls;
    unsigned n;

    if (!class_name) {
        g_string_append(out, "Object types:\n");
        for (const struct object_class *const *c = object_classes(&n); n; n--, c++)
            g_string_append_printf(out, "  %-24s %s\n", (*c)->name, (*c)->summary);
        return g_string_free(out, false);
    }
    cls = object_class_find(class_name);
    if (!cls) {
        g_string_free(out, true);
        return NULL;
    }
    g_string_append_printf(out, "%s: %s. Properties:\n", cls->name, cls->summary);
    for (const struct prop *p = cls->props; p && p->name; p++)
        g_string_append_printf(out, "  %s=<%s>%*s %s%s%s%s\n", p->name, prop_type_text(p->type),
                               (int)MAX(1, 26 - (int)(strlen(p->name) + strlen(prop_type_text(p->type)))), "",
                               p->help ? p->help : "", p->def ? " (default: " : "", p->def ? p->def : "",
                               p->def ? ")" : "");
    return g_string_free(out, false);
}
