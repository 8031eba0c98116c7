/* The short forms of -serial, -monitor and -qmp, and the nested form of chardev-add: both become flat options. */
#include <stdio.h>
#include <string.h>
#include "chardev/internal.h"

static void put(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, json_object_new_string(value));
}

/* "HOST:PORT,more" or "[v6]:PORT,more": takes host and port, returns what follows the port */
static const char *host_port(struct json_object *o, const char *text, const char *host_key, const char *port_key,
                             const char *ends, struct error *err)
{
    const char *colon, *host = text;
    size_t host_len, port_len;

    if (*text == '[') {
        const char *close = strchr(text, ']');

        colon = close && close[1] == ':' ? close + 1 : NULL;
        host = text + 1;
        host_len = close ? (size_t)(close - host) : 0;
    } else {
        colon = strchr(text, ':');
        host_len = colon ? (size_t)(colon - text) : 0;
    }
    if (!colon) {
        error_setf(err, ERR_GENERIC, "write HOST:PORT, or :PORT for every address", "no port in '%s'", text);
        return NULL;
    }
    port_len = strcspn(colon + 1, ends);
    if (!port_len) {
        error_setf(err, ERR_GENERIC, "write HOST:PORT", "no port in '%s'", text);
        return NULL;
    }
    json_object_object_add(o, host_key, json_object_new_string_len(host, host_len));
    json_object_object_add(o, port_key, json_object_new_string_len(colon + 1, port_len));
    return colon + 1 + port_len;
}

static bool more_options(struct json_object *o, const char *text, struct error *err)
{
    struct json_object *more;

    if (*text == ',')
        text++;
    if (!*text)
        return true;
    more = options_parse(text, NULL, err);
    if (!more)
        return false;
    json_object_object_foreach(more, key, value)
        json_object_object_add(o, key, json_object_get(value));
    json_object_put(more);
    return true;
}

static bool parse_inet(struct json_object *o, const char *rest, struct error *err)
{
    put(o, "backend", "socket");
    rest = host_port(o, rest, "host", "port", ",", err);
    return rest && more_options(o, rest, err);
}

static bool parse_telnet(struct json_object *o, const char *rest, struct error *err)
{
    put(o, "telnet", "on");
    return parse_inet(o, rest, err);
}

static bool parse_path(struct json_object *o, const char *rest, const char *backend, struct error *err)
{
    size_t n = strcspn(rest, ",");

    while (rest[n] == ',' && rest[n + 1] == ',')
        n += 2 + strcspn(rest + n + 2, ",");
    g_autofree char *raw = g_strndup(rest, n);
    g_auto(GStrv) parts = g_strsplit(raw, ",,", -1);
    g_autofree char *path = g_strjoinv(",", parts);

    put(o, "backend", backend);
    put(o, "path", path);
    if (!*path)
        return error_set(err, ERR_GENERIC, "the path is missing", NULL);
    return more_options(o, rest + n, err);
}

static bool parse_unix(struct json_object *o, const char *rest, struct error *err)
{
    return parse_path(o, rest, "socket", err);
}

static bool parse_file(struct json_object *o, const char *rest, struct error *err)
{
    return parse_path(o, rest, "file", err);
}

static bool parse_pipe(struct json_object *o, const char *rest, struct error *err)
{
    return parse_path(o, rest, "pipe", err);
}

/* [HOST]:PORT[@[LOCALADDR]:LOCALPORT] */
static bool parse_udp(struct json_object *o, const char *rest, struct error *err)
{
    put(o, "backend", "udp");
    rest = host_port(o, rest, "host", "port", ",@", err);
    if (rest && *rest == '@')
        rest = host_port(o, rest + 1, "localaddr", "localport", ",", err);
    return rest && more_options(o, rest, err);
}

static const struct { const char *prefix; bool (*parse)(struct json_object *o, const char *rest, struct error *err); }
forms[] = {
    { "unix:", parse_unix }, { "tcp:", parse_inet }, { "telnet:", parse_telnet }, { "udp:", parse_udp },
    { "file:", parse_file }, { "pipe:", parse_pipe },
};
static const char *const words[] = { "null", "stdio", "pty", "ringbuf", "vc", NULL };

static bool parse_short(struct json_object *o, const char *spec, struct error *err)
{
    size_t word = strcspn(spec, ",:");
    g_autofree char *name = g_strndup(spec, word), *hint = NULL;
    static const char *const all[] = { "null", "none", "stdio", "mon:stdio", "pty", "unix:PATH", "tcp:HOST:PORT",
                                       "telnet:HOST:PORT", "udp:HOST:PORT", "file:PATH", "pipe:PATH", "chardev:ID",
                                       NULL };
    static const char *const heads[] = { "null", "none", "stdio", "mon", "pty", "unix", "tcp", "telnet", "udp", "file",
                                         "pipe", "chardev", "vc", NULL };
    const char *near;

    for (unsigned i = 0; i < G_N_ELEMENTS(forms); i++)
        if (g_str_has_prefix(spec, forms[i].prefix))
            return forms[i].parse(o, spec + strlen(forms[i].prefix), err);
    if (g_strv_contains(words, name)) {
        put(o, "backend", name);
        return !strcmp(name, "vc") || more_options(o, spec + word, err);
    }
    if (g_str_has_prefix(spec, "/dev/"))
        return parse_path(o, spec, "serial", err);
    near = nearest_spelling(name, heads);
    if (near) {
        hint = g_strdup_printf("did you mean %s?", near);
    } else {
        g_autofree char *list = g_strjoinv(", ", (char **)all);

        hint = g_strdup_printf("it takes %s", list);
    }
    return error_setf(err, ERR_GENERIC, hint, "'%s' is no character device", spec);
}

char *chardev_from_short(struct vm *vm, const char *spec, const char *label, bool *wants_mux_monitor,
                         struct error *err)
{
    struct json_object *o;
    bool ok, mon = g_str_has_prefix(spec, "mon:");

    if (!strcmp(spec, "none"))
        return g_strdup("");
    if (g_str_has_prefix(spec, "chardev:")) {
        const char *id = spec + strlen("chardev:");

        if (chardev_find(vm, id))
            return g_strdup(id);
        error_setf(err, ERR_GENERIC, "make it with -chardev BACKEND,id=...", "there is no chardev '%s'", id);
        return NULL;
    }
    o = json_object_new_object();
    put(o, "id", label);
    if (mon) {
        spec += strlen("mon:");
        put(o, "mux", "on");
        *wants_mux_monitor = true;
        if (!strcmp(spec, "stdio"))     /* Ctrl-C is the guest's */
            put(o, "signal", "off");
    }
    ok = parse_short(o, spec, err) && chardev_add(vm, o, err);
    json_object_put(o);
    return ok ? g_strdup(label) : NULL;
}

/* ---- chardev-add: {id, backend: {type, data: {addr: {type, data}, ...}}} */

static bool flatten_address(struct json_object *flat, struct json_object *addr, const char *prefix, struct error *err)
{
    struct json_object *type = NULL, *data = NULL;

    if (!json_object_object_get_ex(addr, "type", &type) || !json_object_object_get_ex(addr, "data", &data))
        return error_set(err, ERR_GENERIC, "the address needs type and data", NULL);
    const char *kind = json_object_get_string(type);

    if (!strcmp(kind, "fd")) {
        put(flat, "fd", option_str(data, "str", ""));
        return true;
    }
    if (strcmp(kind, "unix") && strcmp(kind, "inet"))
        return error_setf(err, ERR_GENERIC, "kinds are inet, unix and fd", "no socket address of kind '%s'", kind);
    json_object_object_foreach(data, key, value) {
        g_autofree char *name = NULL;

        if (!prefix)
            name = g_strdup(key);
        else
            name = g_strdup(!strcmp(key, "host") ? "localaddr" : !strcmp(key, "port") ? "localport" : key);
        json_object_object_add(flat, name, json_object_get(value));
    }
    return true;
}

static bool flatten_data(struct json_object *flat, const char *type, struct json_object *data, struct error *err)
{
    if (!json_object_is_type(data, json_type_object))
        return true;
    json_object_object_foreach(data, key, value) {
        const char *name = key;

        if (!strcmp(key, "addr") || !strcmp(key, "remote")) {
            if (!flatten_address(flat, value, NULL, err))
                return false;
            continue;
        }
        if (!strcmp(key, "local")) {
            if (!flatten_address(flat, value, "local", err))
                return false;
            continue;
        }
        if (!strcmp(key, "out") || !strcmp(key, "device"))
            name = "path";
        else if (!strcmp(key, "in"))
            name = "input-path";
        json_object_object_add(flat, name, json_object_get(value));
    }
    return true;
}

struct json_object *chardev_flatten(struct json_object *opts, struct error *err)
{
    struct json_object *backend, *type = NULL, *data = NULL, *id, *flat;

    if (!json_object_object_get_ex(opts, "backend", &backend) || !json_object_is_type(backend, json_type_object))
        return json_object_get(opts);
    if (!json_object_object_get_ex(backend, "type", &type)) {
        error_set(err, ERR_GENERIC, "the back end has no type", NULL);
        return NULL;
    }
    json_object_object_get_ex(backend, "data", &data);
    flat = json_object_new_object();
    if (json_object_object_get_ex(opts, "id", &id))
        json_object_object_add(flat, "id", json_object_get(id));
    json_object_object_add(flat, "backend", json_object_get(type));
    /* QAPI's default is to listen; the command line's is to connect */
    if (!strcmp(json_object_get_string(type), "socket")) {
        json_object_object_add(flat, "server", json_object_new_boolean(true));
        json_object_object_add(flat, "wait", json_object_new_boolean(false));   /* the monitor must go on */
    }
    if (!flatten_data(flat, json_object_get_string(type), data, err)) {
        json_object_put(flat);
        return NULL;
    }
    return flat;
}
