/* Who may come in: objects that allow or refuse a name (a TLS client's). */
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>
#include "rhea/base/options.h"
#include "rhea/vm/object.h"
#include "rhea/vm/tls.h"
#include "rhea/vm/vm.h"

enum { FILE_BYTES_MAX = 1 << 20 };

struct authz {
    struct object obj;
    char *identity, *filename;
    struct json_object *list;           /* { "policy":, "rules": [ { "match":, "policy":, "format": } ] } */
    bool refresh;
};

/* ---- rules */

static bool word_check(const char *word, const char *const *known, const char *what, struct error *err)
{
    return g_strv_contains(known, word) || error_setf(err, ERR_GENERIC, NULL, "%s cannot be '%s'", what, word);
}

static bool list_check(struct json_object *list, struct error *err)
{
    static const char *const policies[] = { "allow", "deny", NULL }, *const formats[] = { "exact", "glob", NULL };
    struct json_object *rules = NULL;

    json_object_object_get_ex(list, "rules", &rules);
    if (!word_check(option_str(list, "policy", "deny"), policies, "policy", err))
        return false;
    if (rules && !json_object_is_type(rules, json_type_array))
        return error_set(err, ERR_GENERIC, "rules is a list", "rules.0.match=NAME,rules.0.policy=allow");
    for (size_t i = 0; rules && i < json_object_array_length(rules); i++) {
        struct json_object *r = json_object_array_get_idx(rules, i);

        if (!json_object_is_type(r, json_type_object) || !option_str(r, "match", NULL))
            return error_set(err, ERR_GENERIC, "a rule needs match", NULL);
        if (!word_check(option_str(r, "policy", ""), policies, "a rule's policy", err) ||
            !word_check(option_str(r, "format", "exact"), formats, "a rule's format", err))
            return false;
    }
    return true;
}

/* The first rule that fits decides, else the list's policy. */
static bool list_allows(struct json_object *list, const char *name)
{
    struct json_object *rules = NULL;

    json_object_object_get_ex(list, "rules", &rules);
    for (size_t i = 0; rules && i < json_object_array_length(rules); i++) {
        struct json_object *r = json_object_array_get_idx(rules, i);
        const char *match = option_str(r, "match", "");

        if (!strcmp(option_str(r, "format", "exact"), "glob") ? !fnmatch(match, name, 0) : !strcmp(match, name))
            return !strcmp(option_str(r, "policy", "deny"), "allow");
    }
    return !strcmp(option_str(list, "policy", "deny"), "allow");
}

static struct json_object *file_load(const char *path, struct error *err)
{
    g_autofree char *text = NULL;
    struct json_object *o;
    struct stat st;

    if (stat(path, &st) || !S_ISREG(st.st_mode) || st.st_size > FILE_BYTES_MAX || !g_file_get_contents(path, &text, NULL, NULL)) {
        error_setf(err, ERR_GENERIC, NULL, "cannot read the list of '%s'", path);
        return NULL;
    }
    g_strstrip(text);
    o = *text == '{' ? options_parse(text, NULL, err) : NULL;
    if (!o || !list_check(o, err)) {
        error_setf(err, ERR_GENERIC, NULL, "'%s' holds no list of rules", path);
        json_object_put(o);
        return NULL;
    }
    return o;
}

/* ---- the objects */

static bool simple_create(struct object *obj, struct error *err)
{
    struct authz *a = (struct authz *)obj;

    a->identity = g_strdup(option_str(obj->opts, "identity", NULL));
    return a->identity || error_set(err, ERR_GENERIC, "authz-simple needs identity", "add identity=NAME");
}

static bool list_create(struct object *obj, struct error *err)
{
    struct authz *a = (struct authz *)obj;

    a->list = options_nest(obj->opts, err);
    return a->list && list_check(a->list, err);
}

static bool file_create(struct object *obj, struct error *err)
{
    struct authz *a = (struct authz *)obj;

    a->filename = g_strdup(option_str(obj->opts, "filename", NULL));
    if (!a->filename)
        return error_set(err, ERR_GENERIC, "authz-list-file needs filename", NULL);
    if (!option_bool(obj->opts, "refresh", true, &a->refresh, err))
        return false;
    a->list = file_load(a->filename, err);
    return a->list;
}

static void authz_destroy(struct object *obj)
{
    struct authz *a = (struct authz *)obj;

    g_free(a->identity);
    g_free(a->filename);
    json_object_put(a->list);
}

#define OPTION(n, t, d, h) { .name = n, .type = t, .def = d, .help = h }
OBJECT = {
    .name = "authz-simple", .parent = "authz", .summary = "lets in one name", .size = sizeof(struct authz),
    .create = simple_create, .destroy = authz_destroy,
    .props = (const struct prop[]){ OPTION("identity", PROP_STR, NULL, "the name"), { 0 } },
};
OBJECT = {
    .name = "authz-list", .parent = "authz", .summary = "lets in by a list of rules", .size = sizeof(struct authz),
    .create = list_create, .destroy = authz_destroy,
    .props = (const struct prop[]){ OPTION("policy", PROP_STR, "deny", "where no rule fits: allow or deny"),
                                    OPTION("rules", PROP_STR, NULL, "list of match, policy, format (exact, glob)"), { 0 } },
};
OBJECT = {
    .name = "authz-list-file", .parent = "authz", .summary = "lets in by rules of a JSON file", .size = sizeof(struct authz),
    .create = file_create, .destroy = authz_destroy,
    .props = (const struct prop[]){ OPTION("filename", PROP_STR, NULL, "the file"),
                                    OPTION("refresh", PROP_BOOL, "on", "read it anew for each client"), { 0 } },
};

bool authz_allowed(struct vm *vm, const char *id, const char *name, struct error *err)
{
    struct object *obj = object_get(vm, id, "authz", err);
    struct authz *a = (struct authz *)obj;
    struct json_object *list;
    bool ok;

    if (!obj)
        return false;
    if (a->identity) {
        ok = !strcmp(a->identity, name);
    } else {
        list = a->filename && a->refresh ? file_load(a->filename, NULL) : json_object_get(a->list);
        ok = list && list_allows(list, name);
        json_object_put(list);
    }
    object_put(obj);
    return ok || error_setf(err, ERR_GENERIC, NULL, "'%s' is not allowed by '%s'", name, id);
}
