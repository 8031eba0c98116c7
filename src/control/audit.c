/* -d audit: who asked for what. A line for each command of a control connection, with its outcome; secrets are left out. */
#include <string.h>
#include <time.h>
#include "monitor-internal.h"
#include "rhea/base/log.h"

enum { AUDIT_MAX = 1024 };      /* bytes of arguments that are kept: clients are not to fill disks */

/* A command line of human-monitor-command gets a line of its own. */
static const char *const secret_members[] = { "data", "password", "command-line", NULL };
static const char *const secret_lines[] = { "object_add", "set_password", "change", "ringbuf_write", NULL };

/* A copy of the arguments in which values that may be secret are hidden, at any depth. */
static struct json_object *without_secrets(struct json_object *v)
{
    struct json_object *out;

    if (json_object_is_type(v, json_type_array)) {
        out = json_object_new_array();
        for (size_t i = 0; i < json_object_array_length(v); i++)
            json_object_array_add(out, without_secrets(json_object_array_get_idx(v, i)));
        return out;
    }
    if (!json_object_is_type(v, json_type_object))
        return json_object_get(v);
    out = json_object_new_object();
    json_object_object_foreach(v, key, value)
        json_object_object_add(out, key, g_strv_contains(secret_members, key) ? json_object_new_string("...")
                                                                              : without_secrets(value));
    return out;
}

static void audit_line(const char *kind, const char *what, const char *outcome)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *when = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S.%f");
    int len = (int)MIN(strlen(what), AUDIT_MAX);

    log_printf("audit: %sZ %s: %.*s%s -> %s\n", when, kind, len, what, len == AUDIT_MAX ? "..." : "", outcome);
}

void audit_qmp(struct json_object *request, const struct error *err)
{
    struct json_object *name = NULL, *args = NULL, *shown;
    g_autofree char *text = NULL;

    if (!log_enabled(LOG_AUDIT) || !json_object_is_type(request, json_type_object) ||
        !json_object_object_get_ex(request, "execute", &name))
        return;
    json_object_object_get_ex(request, "arguments", &args);
    shown = args ? without_secrets(args) : NULL;
    /* As JSON both are without control characters, whatever the client sent. */
    text = g_strdup_printf("%s%s%s", json_object_to_json_string_ext(name, JSON_C_TO_STRING_PLAIN), shown ? " " : "",
                           shown ? json_object_to_json_string_ext(shown, JSON_C_TO_STRING_PLAIN) : "");
    json_object_put(shown);
    audit_line("qmp", text, err ? error_class_name(err->cls) : "ok");
}

void audit_hmp(const char *line)
{
    g_autofree char *text = NULL;
    size_t word;

    if (!log_enabled(LOG_AUDIT))
        return;
    line += strspn(line, " \t");
    word = strcspn(line, " \t");
    for (const char *const *p = secret_lines; *p; p++)
        if (!strncmp(line, *p, word) && !(*p)[word])
            text = g_strdup_printf("%s ...", *p);
    if (!text)
        text = g_strescape(line, NULL);
    audit_line("hmp", text, "run");
}
