/* Values checked against the schema, and the schema told to clients in QAPI's wire format. */
#include <string.h>
#include <glib.h>
#include "control/schema.h"
#include "rhea/base/options.h"

const struct schema_command *schema_command_find(const char *name)
{
    unsigned lo = 0, hi = schema_command_count;

    while (lo < hi) {                   /* the generator sorts them by byte value */
        unsigned mid = (lo + hi) / 2;
        int c = strcmp(name, schema_commands[mid].name);

        if (!c)
            return &schema_commands[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

int schema_enum(const struct schema_type *t, const char *value)
{
    for (int i = 0; value && t->values && t->values[i]; i++)
        if (!strcmp(t->values[i], value))
            return i;
    return -1;
}

/* ---- checks */

static bool wrong_type(const char *path, const char *expected, struct error *err)
{
    return error_setf(err, ERR_GENERIC, NULL, "Invalid parameter type for '%s', expected: %s", path, expected);
}

static bool check_builtin(const struct schema_type *t, struct json_object *o, const char *path, struct error *err)
{
    enum json_type have = json_object_get_type(o);

    if (!strcmp(t->name, "any"))
        return true;
    if (!strcmp(t->name, "str"))
        return have == json_type_string || wrong_type(path, "string", err);
    if (!strcmp(t->name, "bool"))
        return have == json_type_boolean || wrong_type(path, "boolean", err);
    if (!strcmp(t->name, "null"))
        return have == json_type_null || wrong_type(path, "null", err);
    if (!strcmp(t->name, "number"))
        return have == json_type_int || have == json_type_double || wrong_type(path, "number", err);
    if (have != json_type_int)
        return wrong_type(path, "integer", err);
    if (!strcmp(t->name, "size") && json_object_get_int64(o) < 0)
        return error_setf(err, ERR_GENERIC, NULL, "Parameter '%s' expects a size, and that is not negative", path);
    return true;
}

static bool check_enum(const struct schema_type *t, struct json_object *o, const char *path, struct error *err)
{
    const char *value, *near;
    g_autofree char *hint = NULL;
    static const char *const none[] = { NULL };

    if (!json_object_is_type(o, json_type_string))
        return wrong_type(path, "string", err);
    value = json_object_get_string(o);
    if (schema_enum(t, value) >= 0)
        return true;
    near = nearest_spelling(value, t->values ? t->values : none);
    hint = near ? g_strdup_printf("did you mean '%s'?", near) : NULL;
    return error_setf(err, ERR_GENERIC, hint, "Parameter '%s' does not accept value '%s'", path, value);
}

/* The case of a union that o selects, or NULL when the tag is not there or has no case. */
static const struct schema_type *union_case(const struct schema_type *t, struct json_object *o)
{
    struct json_object *tag;

    if (t->kind != SCHEMA_UNION || !json_object_object_get_ex(o, t->tag, &tag) ||
        !json_object_is_type(tag, json_type_string))
        return NULL;
    for (unsigned i = 0; i < t->ncases; i++)
        if (!strcmp(t->cases[i].name, json_object_get_string(tag)))
            return &schema_types[t->cases[i].type];
    return NULL;
}

static char *join(const char *path, const char *name)
{
    return *path ? g_strdup_printf("%s.%s", path, name) : g_strdup(name);
}

static bool check_members(const struct schema_type *t, struct json_object *o, const char *path, struct error *err)
{
    for (unsigned i = 0; i < t->nmembers; i++) {
        const struct schema_member *m = &t->members[i];
        g_autofree char *name = join(path, m->name);
        struct json_object *v;

        if (json_object_object_get_ex(o, m->name, &v)) {
            if (!schema_check(&schema_types[m->type], v, name, err))
                return false;
        } else if (!m->optional) {
            return error_setf(err, ERR_GENERIC, NULL, "Parameter '%s' is missing", name);
        }
    }
    return true;
}

static bool has_member(const struct schema_type *t, const char *name)
{
    for (unsigned i = 0; t && i < t->nmembers; i++)
        if (!strcmp(t->members[i].name, name))
            return true;
    return false;
}

static bool check_unknown(const struct schema_type *t, const struct schema_type *extra, struct json_object *o,
                          const char *path, struct error *err)
{
    json_object_object_foreach(o, key, value) {
        const char *names[64], *near;
        g_autofree char *name = NULL, *hint = NULL;
        unsigned n = 0;

        (void)value;
        if (has_member(t, key) || has_member(extra, key))
            continue;
        for (unsigned i = 0; i < t->nmembers && n < 63; i++)
            names[n++] = t->members[i].name;
        for (unsigned i = 0; extra && i < extra->nmembers && n < 63; i++)
            names[n++] = extra->members[i].name;
        names[n] = NULL;
        near = nearest_spelling(key, names);
        hint = near ? g_strdup_printf("did you mean '%s'?", near) : NULL;
        name = join(path, key);
        return error_setf(err, ERR_GENERIC, hint, "Parameter '%s' is unexpected", name);
    }
    return true;
}

static bool check_alternate(const struct schema_type *t, struct json_object *o, const char *path, struct error *err)
{
    for (unsigned i = 0; i < t->ncases; i++) {
        const struct schema_type *c = &schema_types[t->cases[i].type];
        bool object = c->kind == SCHEMA_STRUCT || c->kind == SCHEMA_UNION;

        if (object && json_object_is_type(o, json_type_object))
            return schema_check(c, o, path, err);       /* its errors say more */
        if (!object && schema_check(c, o, path, NULL))
            return true;
    }
    return error_setf(err, ERR_GENERIC, NULL, "Invalid parameter type for '%s'", path);
}

bool schema_check(const struct schema_type *t, struct json_object *o, const char *path, struct error *err)
{
    const struct schema_type *extra;

    switch (t->kind) {
    case SCHEMA_BUILTIN: return check_builtin(t, o, path, err);
    case SCHEMA_ENUM: return check_enum(t, o, path, err);
    case SCHEMA_ALTERNATE: return check_alternate(t, o, path, err);
    case SCHEMA_LIST:
        if (!json_object_is_type(o, json_type_array))
            return wrong_type(path, "array", err);
        for (size_t i = 0; i < json_object_array_length(o); i++) {
            g_autofree char *name = g_strdup_printf("%s[%zu]", path, i);

            if (!schema_check(&schema_types[t->element], json_object_array_get_idx(o, i), name, err))
                return false;
        }
        return true;
    case SCHEMA_STRUCT:
    case SCHEMA_UNION:
        break;
    }
    if (!json_object_is_type(o, json_type_object))
        return wrong_type(path, "object", err);
    if (!check_members(t, o, path, err))
        return false;
    extra = union_case(t, o);
    return (!extra || check_members(extra, o, path, err)) && check_unknown(t, extra, o, path, err);
}

/* ---- introspection. Types are named by number, arrays "[N]", built-ins by their names; "size" is an "int" on the wire */

static const char *wire_builtin(const struct schema_type *t)
{
    return !strcmp(t->name, "size") ? "int" : t->name;
}

static char *wire_name(unsigned index)
{
    const struct schema_type *t = &schema_types[index];

    if (t->kind == SCHEMA_BUILTIN)
        return g_strdup(wire_builtin(t));
    if (t->kind == SCHEMA_LIST) {
        g_autofree char *element = wire_name(t->element);

        return g_strdup_printf("[%s]", element);
    }
    return g_strdup_printf("%u", index);
}

static void put(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, json_object_new_string(value));
}

static void put_type(struct json_object *o, const char *key, unsigned index)
{
    g_autofree char *name = wire_name(index);

    put(o, key, name);
}

static struct json_object *wire_members(const struct schema_type *t)
{
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < t->nmembers; i++) {
        struct json_object *m = json_object_new_object();

        put(m, "name", t->members[i].name);
        if (t->members[i].optional)
            json_object_object_add(m, "default", NULL);
        put_type(m, "type", t->members[i].type);
        json_object_array_add(list, m);
    }
    return list;
}

static struct json_object *wire_cases(const struct schema_type *t)
{
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < t->ncases; i++) {
        struct json_object *c = json_object_new_object();

        if (t->cases[i].name)
            put(c, "case", t->cases[i].name);
        put_type(c, "type", t->cases[i].type);
        json_object_array_add(list, c);
    }
    return list;
}

static struct json_object *wire_type(unsigned index)
{
    static const char *const meta[] = { "builtin", "enum", "object", "object", "alternate", "array" };
    const struct schema_type *t = &schema_types[index];
    struct json_object *o = json_object_new_object();

    put_type(o, "name", index);
    put(o, "meta-type", meta[t->kind]);
    switch (t->kind) {
    case SCHEMA_BUILTIN: put(o, "json-type", t->json_type); break;
    case SCHEMA_LIST: put_type(o, "element-type", t->element); break;
    case SCHEMA_ALTERNATE: json_object_object_add(o, "members", wire_cases(t)); break;
    case SCHEMA_ENUM: {
        struct json_object *members = json_object_new_array(), *values = json_object_new_array();

        for (unsigned i = 0; t->values && t->values[i]; i++) {
            struct json_object *m = json_object_new_object();

            put(m, "name", t->values[i]);
            json_object_array_add(members, m);
            json_object_array_add(values, json_object_new_string(t->values[i]));
        }
        json_object_object_add(o, "members", members);
        json_object_object_add(o, "values", values);
        break;
    }
    case SCHEMA_UNION:
        put(o, "tag", t->tag);
        json_object_object_add(o, "variants", wire_cases(t));
        /* fall through */
    case SCHEMA_STRUCT: json_object_object_add(o, "members", wire_members(t)); break;
    }
    return o;
}

struct json_object *schema_introspect(void)
{
    struct json_object *list = json_object_new_array();
    g_autoptr(GHashTable) told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (unsigned i = 0; i < schema_command_count; i++) {
        const struct schema_command *c = &schema_commands[i];
        struct json_object *o = json_object_new_object();

        put(o, "name", c->name);
        put(o, "meta-type", "command");
        put_type(o, "arg-type", c->arg_type);
        put_type(o, "ret-type", c->ret_type);
        if (c->features) {
            struct json_object *features = json_object_new_array();

            for (unsigned k = 0; c->features[k]; k++)
                json_object_array_add(features, json_object_new_string(c->features[k]));
            json_object_object_add(o, "features", features);
        }
        json_object_array_add(list, o);
    }
    for (unsigned i = 0; i < schema_event_count; i++) {
        struct json_object *o = json_object_new_object();

        put(o, "name", schema_events[i].name);
        put(o, "meta-type", "event");
        put_type(o, "arg-type", schema_events[i].arg_type);
        json_object_array_add(list, o);
    }
    for (unsigned i = 0; i < schema_type_count; i++)
        if (g_hash_table_add(told, wire_name(i)))       /* "int" and "size" have one, and so have lists of them */
            json_object_array_add(list, wire_type(i));
    return list;
}
