/* Options of the command line: key=value lists and JSON, both as json-c objects. */
#include "rhea/base/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { JSON_DEPTH_MAX = 64, ARRAY_MAX = 1024 };

/* ---- parsing */

static struct json_object *json_parse(const char *text, struct error *err)
{
    struct json_tokener *tok = json_tokener_new_ex(JSON_DEPTH_MAX);
    size_t len = strlen(text);
    struct json_object *o = NULL;
    enum json_tokener_error code;
    size_t used;

    if (len >= INT32_MAX) {
        json_tokener_free(tok);
        error_set(err, ERR_GENERIC, "JSON text is too long", NULL);
        return NULL;
    }
    o = json_tokener_parse_ex(tok, text, len);
    code = json_tokener_get_error(tok);
    used = json_tokener_get_parse_end(tok);
    json_tokener_free(tok);
    if (code == json_tokener_continue) {
        error_set(err, ERR_GENERIC, "JSON text ends too early", "check that every brace and quote is closed");
        return NULL;
    }
    if (code != json_tokener_success) {
        error_setf(err, ERR_GENERIC, NULL, "JSON syntax error at offset %zu: %s", used,
                   json_tokener_error_desc(code));
        return NULL;
    }
    while (used < len && isspace((unsigned char)text[used]))
        used++;
    if (used != len || !json_object_is_type(o, json_type_object)) {
        json_object_put(o);
        error_setf(err, ERR_GENERIC, NULL, "unexpected text after the JSON object: '%.20s'", text + used);
        return NULL;
    }
    return o;
}

/* A value ends at a comma that is not doubled; returns where. */
static const char *value_get(const char *p, GString *value)
{
    g_string_truncate(value, 0);
    for (; *p; p++) {
        if (*p == ',') {
            if (p[1] != ',')
                break;
            p++;
        }
        g_string_append_c(value, *p);
    }
    return p;
}

static void value_add(struct json_object *o, const char *key, const char *value)
{
    struct json_object *string = json_object_new_string(value), *old, *list;

    if (!json_object_object_get_ex(o, key, &old)) {
        json_object_object_add(o, key, string);
    } else if (json_object_is_type(old, json_type_array)) {
        json_object_array_add(old, string);
    } else {
        list = json_object_new_array();
        json_object_array_add(list, json_object_get(old));
        json_object_array_add(list, string);
        json_object_object_add(o, key, list);
    }
}

struct json_object *options_parse(const char *text, const char *implied, struct error *err)
{
    struct json_object *o;
    GString *value;
    const char *p = text;

    if (*text == '{')
        return json_parse(text, err);
    o = json_object_new_object();
    value = g_string_new(NULL);
    while (*p) {
        size_t n = strcspn(p, "=,");
        g_autofree char *key = NULL;

        if (p[n] == '=') {
            key = g_strndup(p, n);
            p = value_get(p + n + 1, value);
        } else if (p == text && implied) {
            key = g_strdup(implied);
            p = value_get(p, value);
        } else {
            key = g_strndup(p, n);
            g_string_assign(value, "on");
            p += n;
        }
        if (!*key && (*p || value->len)) {
            error_setf(err, ERR_GENERIC, "write a comma inside a value twice: ',,'",
                       "an option without a name in '%s'", text);
            json_object_put(o);
            o = NULL;
            break;
        }
        if (*key)
            value_add(o, key, value->str);
        if (*p == ',')
            p++;
    }
    g_string_free(value, TRUE);
    return o;
}

/* ---- dotted keys */

/* Puts `value` (its reference is taken) at path `key` below `o`. */
static bool nest_insert(struct json_object *o, const char *key, struct json_object *value, struct error *err)
{
    g_auto(GStrv) parts = g_strsplit(key, ".", -1);
    struct json_object *child;
    char **p;

    for (p = parts; *p; p++) {
        if (!**p) {
            error_setf(err, ERR_GENERIC, NULL, "empty component in option name '%s'", key);
            goto fail;
        }
        if (!p[1])
            break;
        if (!json_object_object_get_ex(o, *p, &child)) {
            child = json_object_new_object();
            json_object_object_add(o, *p, child);
        }
        if (!json_object_is_type(child, json_type_object)) {
            error_setf(err, ERR_GENERIC, "use either the plain name or the dotted ones",
                       "option '%s' conflicts with '%s' as a plain value", key, *p);
            goto fail;
        }
        o = child;
    }
    if (!p || !*p) {
        error_setf(err, ERR_GENERIC, NULL, "empty option name");
        goto fail;
    }
    if (json_object_object_get_ex(o, *p, &child)) {
        error_setf(err, ERR_GENERIC, "use either the plain name or the dotted ones",
                   "option '%s' is given both as a value and with dotted names", key);
        goto fail;
    }
    json_object_object_add(o, *p, value);
    return true;
fail:
    json_object_put(value);
    return false;
}

/* Objects whose names are 0, 1, ... n-1 become arrays, bottom up. Returns a new reference in place of `o`. */
static struct json_object *nest_arrays(struct json_object *o, struct error *err)
{
    struct json_object *out = json_object_new_object(), *list;
    unsigned numeric = 0, total = 0;

    json_object_object_foreach(o, key, value) {
        struct json_object *v = json_object_is_type(value, json_type_object) ? nest_arrays(value, err)
                                                                               : json_object_get(value);
        if (!v && error_is_set(err)) {
            json_object_put(out);
            return NULL;
        }
        json_object_object_add(out, key, v);
        total++;
        numeric += isdigit((unsigned char)key[0]) && key[strspn(key, "0123456789")] == 0;
    }
    if (!numeric || numeric != total)
        return out;             /* names like "0" beside others stay names */
    list = json_object_new_array();
    for (unsigned i = 0; i < total && i < ARRAY_MAX; i++) {
        char name[16];
        struct json_object *v;

        g_snprintf(name, sizeof(name), "%u", i);
        if (!json_object_object_get_ex(out, name, &v)) {
            error_setf(err, ERR_GENERIC, "number the elements 0, 1, 2, ... without a gap",
                       "list element '%u' is missing", i);
            json_object_put(list);
            json_object_put(out);
            return NULL;
        }
        json_object_array_add(list, json_object_get(v));
    }
    json_object_put(out);
    return list;
}

struct json_object *options_nest(struct json_object *flat, struct error *err)
{
    struct json_object *tree = json_object_new_object(), *out;
    struct error local = ERROR_INIT;

    json_object_object_foreach(flat, key, value) {
        if (!nest_insert(tree, key, json_object_get(value), err)) {
            json_object_put(tree);
            return NULL;
        }
    }
    out = nest_arrays(tree, &local);
    json_object_put(tree);
    if (!out) {
        error_move(err, &local);
    } else if (!json_object_is_type(out, json_type_object)) {
        json_object_put(out);
        out = NULL;
        error_set(err, ERR_GENERIC, "option names must not be numbers", NULL);
    }
    return out;
}

/* ---- typed look-ups */

/* The member, or the last of a repeated one; NULL when absent or null. */
static struct json_object *option_get(struct json_object *o, const char *key)
{
    struct json_object *v;

    if (!o || !json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &v) || !v)
        return NULL;
    if (json_object_is_type(v, json_type_array)) {
        size_t n = json_object_array_length(v);

        v = n ? json_object_array_get_idx(v, n - 1) : NULL;
    }
    return v;
}

static bool option_bad(struct error *err, const char *key, const char *what, const char *hint)
{
    return error_setf(err, ERR_GENERIC, hint, "parameter '%s' takes %s", key, what);
}

bool option_bool(struct json_object *o, const char *key, bool def, bool *out, struct error *err)
{
    struct json_object *v = option_get(o, key);

    *out = def;
    if (!v)
        return true;
    if (json_object_is_type(v, json_type_boolean)) {
        *out = json_object_get_boolean(v);
        return true;
    }
    if (json_object_is_type(v, json_type_string) && parse_bool(json_object_get_string(v), out, NULL))
        return true;
    return option_bad(err, key, "'on' or 'off'", NULL);
}

bool option_int(struct json_object *o, const char *key, int64_t def, int64_t *out, struct error *err)
{
    struct json_object *v = option_get(o, key);
    const char *text;
    char *end;
    int64_t n;

    *out = def;
    if (!v)
        return true;
    if (json_object_is_type(v, json_type_int)) {
        *out = json_object_get_int64(v);
        return true;
    }
    if (json_object_is_type(v, json_type_string)) {
        text = json_object_get_string(v);
        errno = 0;
        n = strtoll(text, &end, 0);
        if (end != text && !*end && !errno) {
            *out = n;
            return true;
        }
    }
    return option_bad(err, key, "a whole number", NULL);
}

bool option_size(struct json_object *o, const char *key, uint64_t def, uint64_t *out, struct error *err)
{
    struct json_object *v = option_get(o, key);

    *out = def;
    if (!v)
        return true;
    if (json_object_is_type(v, json_type_int)) {
        if (json_object_get_int64(v) < 0)
            return option_bad(err, key, "a size of zero or more", NULL);
        *out = json_object_get_uint64(v);
        return true;
    }
    if (json_object_is_type(v, json_type_string) && parse_size(json_object_get_string(v), 1, out, NULL))
        return true;
    return option_bad(err, key, "a size",
                      "sizes are written 512, 64K, 1.5G (suffixes K M G T P E, powers of 1024)");
}

const char *option_str(struct json_object *o, const char *key, const char *def)
{
    struct json_object *v = option_get(o, key);

    return v && !json_object_is_type(v, json_type_object) ? json_object_get_string(v) : def;
}

bool options_check(struct json_object *o, const char *const *known, const char *what, struct error *err)
{
    json_object_object_foreach(o, key, value) {
        g_autofree char *hint = NULL;
        const char *near;

        (void)value;
        if (g_strv_contains(known, key))
            continue;
        near = nearest_spelling(key, known);
        if (near)
            hint = g_strdup_printf("did you mean '%s'?", near);
        return error_setf(err, ERR_GENERIC, hint, "%s has no parameter '%s'", what, key);
    }
    return true;
}

/* ---- scalars */

static bool suffix_shift(char c, unsigned *shift)
{
    static const char suffixes[] = "bkmgtpe";
    const char *p = c ? strchr(suffixes, tolower((unsigned char)c)) : NULL;

    *shift = p ? 10 * (p - suffixes) : 0;
    return p != NULL;
}

bool parse_size(const char *text, uint64_t unit, uint64_t *out, struct error *err)
{
    const char *p = text;
    bool hex = p[0] == '0' && tolower((unsigned char)p[1]) == 'x';
    double fraction = 0;
    uint64_t whole, bytes;
    unsigned shift;
    char *end;

    if (!isdigit((unsigned char)*p))
        goto bad;
    errno = 0;
    whole = strtoull(p, &end, hex ? 16 : 10);
    if (errno)
        goto range;
    if (*end == '.' && !hex) {
        double scale = 0.1;

        for (end++; isdigit((unsigned char)*end); end++, scale /= 10)
            fraction += (*end - '0') * scale;
    }
    if (*end && suffix_shift(*end, &shift) && !(hex && tolower((unsigned char)*end) == 'b')) {
        unit = 1ull << shift;
        end++;
    }
    if (*end || (fraction != 0 && unit == 1))
        goto bad;
    if (__builtin_mul_overflow(whole, unit, &bytes) ||
        __builtin_add_overflow(bytes, (uint64_t)(fraction * (double)unit), out))
        goto range;
    return true;
bad:
    return error_setf(err, ERR_GENERIC, "sizes are written 512, 64K, 1.5G (suffixes K M G T P E, powers of 1024)",
                      "'%s' is not a size", text);
range:
    return error_setf(err, ERR_GENERIC, NULL, "size '%s' is too large", text);
}

bool parse_bool(const char *text, bool *out, struct error *err)
{
    static const struct { const char *word; bool value; } words[] = {
        { "on", true }, { "yes", true }, { "true", true }, { "y", true },
        { "off", false }, { "no", false }, { "false", false }, { "n", false },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        if (!strcmp(text, words[i].word)) {
            *out = words[i].value;
            return true;
        }
    }
    return error_setf(err, ERR_GENERIC, NULL, "'%s' is neither 'on' nor 'off'", text);
}

bool parse_uint(const char *text, uint64_t max, uint64_t *out, struct error *err)
{
    uint64_t n;
    char *end;

    if (!isdigit((unsigned char)*text))
        return error_setf(err, ERR_GENERIC, NULL, "'%s' is not a number", text);
    errno = 0;
    n = strtoull(text, &end, 0);
    if (*end)
        return error_setf(err, ERR_GENERIC, NULL, "'%s' is not a number", text);
    if (errno || n > max)
        return error_setf(err, ERR_GENERIC, NULL, "number '%s' is too large (at most %" PRIu64 ")", text, max);
    *out = n;
    return true;
}

/* ---- spelling */

/* Edit distance with transpositions of neighbours (optimal string alignment). */
static unsigned edit_distance(const char *a, const char *b)
{
    enum { MAX = 64 };
    unsigned d[3][MAX + 1];
    size_t n = strlen(a), m = strlen(b);

    if (n > MAX || m > MAX)
        return MAX;
    for (size_t j = 0; j <= m; j++)
        d[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        unsigned *row = d[i % 3], *up = d[(i + 2) % 3], *up2 = d[(i + 1) % 3];

        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            unsigned best = MIN(MIN(up[j], row[j - 1]) + 1, up[j - 1] + !same);

            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = MIN(best, up2[j - 2] + 1);
            row[j] = best;
        }
    }
    return d[n % 3][m];
}

const char *nearest_spelling(const char *word, const char *const *candidates)
{
    unsigned limit = MAX(1, strlen(word) / 3), best = limit + 1;
    const char *near = NULL;

    for (; *candidates; candidates++) {
        unsigned d = edit_distance(word, *candidates);

        if (d < best) {
            best = d;
            near = *candidates;
        }
    }
    return near;
}
