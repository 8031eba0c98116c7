/* JSON as the control protocol takes and gives it. In: RFC 8259 and single-quoted strings, strict otherwise, nesting
 * bounded. Out: ASCII, one line with ": " and ", ", or indented by four. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <glib.h>
#include "rhea/control/monitor.h"

enum { NESTING_MAX = 1024 };

struct parser { const char *p, *end, *start; unsigned depth; struct error *err; };

static bool parse_value(struct parser *ps, struct json_object **out);

static bool fail(struct parser *ps, const char *what)
{
    return error_setf(ps->err, ERR_GENERIC, NULL, "JSON parse error at byte %zu: %s", (size_t)(ps->p - ps->start), what);
}

static void skip_space(struct parser *ps)
{
    while (ps->p < ps->end && strchr(" \t\r\n", *ps->p) && *ps->p)
        ps->p++;
}

static bool parse_hex4(struct parser *ps, uint32_t *out)
{
    *out = 0;
    if (ps->end - ps->p < 4)
        return fail(ps, "a \\u escape is cut short");
    for (int i = 0; i < 4; i++) {
        int d = g_ascii_xdigit_value(ps->p[i]);

        if (d < 0)
            return fail(ps, "a \\u escape needs four hexadecimal digits");
        *out = *out << 4 | d;
    }
    ps->p += 4;
    return true;
}

static bool parse_escape(struct parser *ps, GString *text)
{
    static const char from[] = "\"'\\/bfnrt", to[] = "\"'\\/\b\f\n\r\t";
    const char *at;
    uint32_t c, low;

    if (ps->p == ps->end)
        return fail(ps, "an escape is cut short");
    if (*ps->p && (at = strchr(from, *ps->p))) {
        g_string_append_c(text, to[at - from]);
        ps->p++;
        return true;
    }
    if (*ps->p++ != 'u')
        return fail(ps, "unknown escape");
    if (!parse_hex4(ps, &c))
        return false;
    if (c >= 0xd800 && c < 0xdc00) {
        if (ps->end - ps->p < 2 || ps->p[0] != '\\' || ps->p[1] != 'u')
            return fail(ps, "half of a surrogate pair");
        ps->p += 2;
        if (!parse_hex4(ps, &low))
            return false;
        if (low < 0xdc00 || low > 0xdfff)
            return fail(ps, "half of a surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    } else if (!c || (c >= 0xdc00 && c < 0xe000)) {
        return fail(ps, "a \\u escape that is no character");
    }
    g_string_append_unichar(text, c);
    return true;
}

static bool parse_string(struct parser *ps, GString *text)
{
    char quote = *ps->p++;

    while (ps->p < ps->end && *ps->p != quote) {
        if ((unsigned char)*ps->p < 0x20)
            return fail(ps, "a control character in a string");
        if (*ps->p == '\\') {
            ps->p++;
            if (!parse_escape(ps, text))
                return false;
            continue;
        }
        g_string_append_c(text, *ps->p++);
    }
    if (ps->p == ps->end)
        return fail(ps, "a string without end");
    ps->p++;
    return g_utf8_validate(text->str, text->len, NULL) || fail(ps, "a string that is not UTF-8");
}

/* -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)? */
static bool parse_number(struct parser *ps, struct json_object **out)
{
    const char *s = ps->p;
    char text[64], *end;
    bool real = false;
    size_t n;

    if (ps->p < ps->end && *ps->p == '-')
        ps->p++;
    n = strspn(ps->p, "0123456789");
    if (!n || (n > 1 && *ps->p == '0'))
        return fail(ps, "a malformed number");
    ps->p += n;
    if (ps->p < ps->end && *ps->p == '.') {
        real = true;
        n = strspn(++ps->p, "0123456789");
        if (!n)
            return fail(ps, "a malformed number");
        ps->p += n;
    }
    if (ps->p < ps->end && (*ps->p == 'e' || *ps->p == 'E')) {
        real = true;
        ps->p++;
        ps->p += *ps->p == '+' || *ps->p == '-';
        n = strspn(ps->p, "0123456789");
        if (!n)
            return fail(ps, "a malformed number");
        ps->p += n;
    }
    n = ps->p - s;
    if (n >= sizeof(text))
        return fail(ps, "a number with too many digits");
    memcpy(text, s, n);
    text[n] = 0;
    errno = 0;
    if (!real && *text == '-') {
        int64_t v = g_ascii_strtoll(text, &end, 10);

        if (!errno) {
            *out = json_object_new_int64(v);
            return true;
        }
    } else if (!real) {
        uint64_t v = g_ascii_strtoull(text, &end, 10);

        if (!errno) {
            *out = v > INT64_MAX ? json_object_new_uint64(v) : json_object_new_int64(v);
            return true;
        }
    }
    double d = g_ascii_strtod(text, &end);

    if (!isfinite(d))
        return fail(ps, "a number out of range");
    *out = json_object_new_double(d);
    return true;
}

static bool parse_object(struct parser *ps, struct json_object *o)
{
    skip_space(ps);
    if (ps->p < ps->end && *ps->p == '}') {
        ps->p++;
        return true;
    }
    for (;;) {
        g_autoptr(GString) key = g_string_new(NULL);
        struct json_object *v = NULL;

        skip_space(ps);
        if (ps->p == ps->end || (*ps->p != '"' && *ps->p != '\''))
            return fail(ps, "a member's name is expected");
        if (!parse_string(ps, key))
            return false;
        skip_space(ps);
        if (ps->p == ps->end || *ps->p != ':')
            return fail(ps, "':' is expected");
        ps->p++;
        if (!parse_value(ps, &v))
            return false;
        if (json_object_object_get_ex(o, key->str, NULL)) {
            json_object_put(v);
            return fail(ps, "a member is there twice");
        }
        json_object_object_add(o, key->str, v);
        skip_space(ps);
        if (ps->p < ps->end && *ps->p == ',') {
            ps->p++;
            continue;
        }
        if (ps->p == ps->end || *ps->p != '}')
            return fail(ps, "',' or '}' is expected");
        ps->p++;
        return true;
    }
}

static bool parse_array(struct parser *ps, struct json_object *a)
{
    skip_space(ps);
    if (ps->p < ps->end && *ps->p == ']') {
        ps->p++;
        return true;
    }
    for (;;) {
        struct json_object *v = NULL;

        if (!parse_value(ps, &v))
            return false;
        json_object_array_add(a, v);
        skip_space(ps);
        if (ps->p < ps->end && *ps->p == ',') {
            ps->p++;
            continue;
        }
        if (ps->p == ps->end || *ps->p != ']')
            return fail(ps, "',' or ']' is expected");
        ps->p++;
        return true;
    }
}

static bool parse_word(struct parser *ps, struct json_object **out)
{
    static const char *const words[] = { "true", "false", "null" };

    for (int i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);

        if ((size_t)(ps->end - ps->p) >= n && !memcmp(ps->p, words[i], n)) {
            ps->p += n;
            *out = i == 2 ? NULL : json_object_new_boolean(i == 0);
            return true;
        }
    }
    return fail(ps, "a value is expected");
}

static bool parse_value(struct parser *ps, struct json_object **out)
{
    bool ok;

    *out = NULL;
    skip_space(ps);
    if (ps->p == ps->end)
        return fail(ps, "a value is expected");
    if (*ps->p == '"' || *ps->p == '\'') {
        g_autoptr(GString) text = g_string_new(NULL);

        ok = parse_string(ps, text);
        if (ok)
            *out = json_object_new_string_len(text->str, text->len);
        return ok;
    }
    if (*ps->p == '-' || g_ascii_isdigit(*ps->p))
        return parse_number(ps, out);
    if (*ps->p != '{' && *ps->p != '[')
        return parse_word(ps, out);
    if (++ps->depth > NESTING_MAX)
        return fail(ps, "nested too deeply");
    if (*ps->p++ == '{') {
        *out = json_object_new_object();
        ok = parse_object(ps, *out);
    } else {
        *out = json_object_new_array();
        ok = parse_array(ps, *out);
    }
    ps->depth--;
    if (!ok) {
        json_object_put(*out);
        *out = NULL;
    }
    return ok;
}

struct json_object *json_parse(const char *text, size_t len, struct error *err)
{
    g_autofree char *copy = g_malloc(len + 1);  /* ended by NUL, for strspn() */
    struct parser ps = { copy, copy + len, copy, 0, err };
    struct json_object *o;

    memcpy(copy, text, len);
    copy[len] = 0;
    if (!parse_value(&ps, &o))
        return NULL;
    skip_space(&ps);
    if (ps.p != ps.end) {
        json_object_put(o);
        fail(&ps, "text after the value");
        return NULL;
    }
    return o;
}

/* ---- output */

static void print_string(GString *out, const char *s, size_t len)
{
    const char *end = s + len;

    g_string_append_c(out, '"');
    while (s < end) {
        static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
        gunichar c = g_utf8_get_char_validated(s, end - s);
        const char *at;

        if (c == (gunichar)-1 || c == (gunichar)-2) {   /* not UTF-8: the replacement character */
            g_string_append(out, "\\uFFFD");
            s++;
            continue;
        }
        if (c && c < 0x80 && (at = strchr(from, c)))
            g_string_append_printf(out, "\\%c", to[at - from]);
        else if (c >= 0x20 && c < 0x7f)
            g_string_append_c(out, c);
        else if (c < 0x10000)
            g_string_append_printf(out, "\\u%04X", c);
        else
            g_string_append_printf(out, "\\u%04X\\u%04X", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + (c & 0x3ff));
        s = *s ? g_utf8_next_char(s) : s + 1;
    }
    g_string_append_c(out, '"');
}

static void newline(GString *out, int indent)
{
    if (indent >= 0)
        g_string_append_printf(out, "\n%*s", indent, "");
}

/* indent < 0: one line */
static void print_value(GString *out, struct json_object *o, int indent)
{
    int inner = indent < 0 ? -1 : indent + 4;
    const char *comma = indent < 0 ? ", " : ",";
    char number[G_ASCII_DTOSTR_BUF_SIZE];
    bool first = true;

    switch (json_object_get_type(o)) {
    case json_type_null: g_string_append(out, "null"); return;
    case json_type_boolean: g_string_append(out, json_object_get_boolean(o) ? "true" : "false"); return;
    case json_type_int: {
        int64_t v = json_object_get_int64(o);

        if (v == INT64_MAX)             /* perhaps more: json-c tells only through the other getter */
            g_string_append_printf(out, "%" G_GUINT64_FORMAT, (guint64)json_object_get_uint64(o));
        else
            g_string_append_printf(out, "%" G_GINT64_FORMAT, (gint64)v);
        return;
    }
    case json_type_double:
        g_string_append(out, g_ascii_dtostr(number, sizeof(number), json_object_get_double(o)));
        return;
    case json_type_string:
        print_string(out, json_object_get_string(o), json_object_get_string_len(o));
        return;
    case json_type_array:
        g_string_append_c(out, '[');
        for (size_t i = 0; i < json_object_array_length(o); i++, first = false) {
            g_string_append(out, first ? "" : comma);
            newline(out, inner);
            print_value(out, json_object_array_get_idx(o, i), inner);
        }
        if (!first)
            newline(out, indent);
        g_string_append_c(out, ']');
        return;
    case json_type_object:
        g_string_append_c(out, '{');
        json_object_object_foreach(o, key, value) {
            g_string_append(out, first ? "" : comma);
            newline(out, inner);
            print_string(out, key, strlen(key));
            g_string_append(out, ": ");
            print_value(out, value, inner);
            first = false;
        }
        if (!first)
            newline(out, indent);
        g_string_append_c(out, '}');
        return;
    }
}

char *json_print(struct json_object *o, bool pretty)
{
    GString *out = g_string_new(NULL);

    print_value(out, o, pretty ? 0 : -1);
    return g_string_free(out, false);
}
