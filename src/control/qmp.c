/* QMP sessions: bytes to requests, requests to functions, replies and events back. The wire rules are those of
 * QEMU's control protocol: CR LF after each message, requests back to back, one broken request does no harm. */
#include <stdio.h>
#include <string.h>
#include "control/monitor-internal.h"
#include "control/qmp-schema.h"
#include "rhea/control/version.h"

/* ---- replies */

static void qmp_send(struct monitor *mon, struct json_object *o)
{
    g_autofree char *text = json_print(o, mon->pretty);

    monitor_put(mon, text, strlen(text));
    monitor_put(mon, "\r\n", 2);
}

char *error_text(const struct error *err)
{
    g_autofree char *hint = g_strdup(err->hint);

    if (hint)
        g_strdelimit(hint, "\n", ' ');
    return hint ? g_strdup_printf("%s (%s)", err->msg, hint) : g_strdup(err->msg ? err->msg : "unknown error");
}

static struct json_object *error_reply(struct error *err)
{
    struct json_object *reply = json_object_new_object(), *e = json_object_new_object();
    g_autofree char *text = error_text(err);

    json_object_object_add(e, "class", json_object_new_string(error_class_name(err->cls)));
    json_object_object_add(e, "desc", json_object_new_string(text));
    json_object_object_add(reply, "error", e);
    error_clear(err);
    return reply;
}

void qmp_event(struct control_state *c, const char *name, struct json_object *data)
{
    struct json_object *event = json_object_new_object(), *stamp = json_object_new_object();
    int64_t us = g_get_real_time();

    json_object_object_add(stamp, "seconds", json_object_new_int64(us / G_USEC_PER_SEC));
    json_object_object_add(stamp, "microseconds", json_object_new_int64(us % G_USEC_PER_SEC));
    json_object_object_add(event, "timestamp", stamp);
    json_object_object_add(event, "event", json_object_new_string(name));
    if (data)
        json_object_object_add(event, "data", json_object_get(data));
    for (unsigned i = 0; i < c->monitors->len; i++) {
        struct monitor *mon = c->monitors->pdata[i];

        if (mon->control && mon->negotiated && mon->out->len < MONITOR_OUT_MAX)
            qmp_send(mon, event);
    }
    json_object_put(event);
}

/* ---- dispatch */

static bool check_request(struct json_object *request, struct error *err)
{
    struct json_object *v;

    if (!json_object_is_type(request, json_type_object))
        return error_set(err, ERR_GENERIC, "QMP input must be a JSON object", NULL);
    json_object_object_foreach(request, key, value) {
        if (!strcmp(key, "execute") && !json_object_is_type(value, json_type_string))
            return error_set(err, ERR_GENERIC, "QMP input member 'execute' must be a string", NULL);
        if (!strcmp(key, "arguments") && !json_object_is_type(value, json_type_object))
            return error_set(err, ERR_GENERIC, "QMP input member 'arguments' must be an object", NULL);
        if (!strcmp(key, "exec-oob"))
            return error_set(err, ERR_GENERIC, "QMP input member 'exec-oob' is unexpected",
                             "this build offers no out-of-band execution: use 'execute'");
        if (strcmp(key, "execute") && strcmp(key, "arguments") && strcmp(key, "id"))
            return error_setf(err, ERR_GENERIC, NULL, "QMP input member '%s' is unexpected", key);
    }
    return json_object_object_get_ex(request, "execute", &v) ||
           error_set(err, ERR_GENERIC, "QMP input lacks member 'execute'", NULL);
}

static const struct schema_command *find_command(struct monitor *mon, const char *name, struct error *err)
{
    bool negotiation = mon && !mon->negotiated, caps = !strcmp(name, "qmp_capabilities");
    const struct schema_command *cmd = schema_command_find(name);
    static const struct { const char *wrong, *right; } meant[] = {
        { "savevm", "snapshot-save" }, { "loadvm", "snapshot-load" }, { "block-device-add", "blockdev-add" },
        { "block_add", "blockdev-add" }, { "device-add", "device_add" }, { "system-reset", "system_reset" },
        { "system-powerdown", "system_powerdown" }, { "netdev-add", "netdev_add" }, { "object_add", "object-add" },
    };

    if (negotiation && !caps) {
        error_set(err, ERR_COMMAND_NOT_FOUND, "Expecting capabilities negotiation with 'qmp_capabilities'", NULL);
        return NULL;
    }
    if (mon && mon->negotiated && caps) {
        error_set(err, ERR_COMMAND_NOT_FOUND, "Capabilities negotiation is already complete, command ignored", NULL);
        return NULL;
    }
    if (!cmd) {
        g_autofree char *hint = NULL;

        for (unsigned i = 0; i < G_N_ELEMENTS(meant); i++)
            if (!strcmp(meant[i].wrong, name))
                hint = g_strdup_printf("the command is '%s'", meant[i].right);
        error_setf(err, ERR_COMMAND_NOT_FOUND, hint, "The command %s has not been found", name);
    }
    return cmd;
}

static bool run_command(struct vm *vm, struct monitor *mon, struct json_object *request, struct json_object **ret,
                        struct error *err)
{
    struct json_object *name, *args = NULL;
    const struct schema_command *cmd;
    bool ok;

    if (!check_request(request, err))
        return false;
    json_object_object_get_ex(request, "execute", &name);
    cmd = find_command(mon, json_object_get_string(name), err);
    if (!cmd)
        return false;
    if (json_object_object_get_ex(request, "arguments", &args))
        json_object_get(args);
    else
        args = json_object_new_object();
    ok = (cmd->open || schema_check(&schema_types[cmd->arg_type], args, "", err)) &&
         cmd->call(mon, vm, args, ret, err);
    json_object_put(args);
    return ok;
}

struct json_object *qmp_dispatch(struct vm *vm, struct monitor *mon, struct json_object *request)
{
    struct json_object *reply, *ret = NULL, *id;
    struct error err = ERROR_INIT;

    if (run_command(vm, mon, request, &ret, &err)) {
        reply = json_object_new_object();
        json_object_object_add(reply, "return", ret ? ret : json_object_new_object());
        if (mon)
            audit_qmp(request, NULL);
    } else {
        json_object_put(ret);
        if (!error_is_set(&err))
            error_set(&err, ERR_GENERIC, "the command failed", NULL);
        if (mon)
            audit_qmp(request, &err);
        reply = error_reply(&err);
    }
    if (json_object_is_type(request, json_type_object) && json_object_object_get_ex(request, "id", &id))
        json_object_object_add(reply, "id", json_object_get(id));
    return reply;
}

struct json_object *qmp_run(struct vm *vm, struct json_object *request)
{
    return qmp_dispatch(vm, NULL, request);
}

/* ---- from bytes to requests. Only brackets and quotes are looked at: a request ends where they balance. After an
 * error the rest of the line is skipped, unless a '{' may open the next request. */

static void request_reset(struct monitor *mon)
{
    g_string_truncate(mon->in, 0);
    if (mon->in->allocated_len > 1 << 20) {             /* do not keep what one large request needed */
        g_string_free(mon->in, true);
        mon->in = g_string_new(NULL);
    }
    mon->depth = 0;
    mon->quote = 0;
    mon->escaped = false;
}

/* A flood of garbage gets as many answers as its sender reads. */
static void request_refuse(struct monitor *mon, const char *why)
{
    struct error err = ERROR_INIT;
    struct json_object *reply;

    request_reset(mon);
    mon->skipping = true;
    if (mon->out->len > MONITOR_OUT_STALL / 2)
        return;
    error_set(&err, ERR_GENERIC, why, NULL);
    reply = error_reply(&err);
    qmp_send(mon, reply);
    json_object_put(reply);
}

static void request_complete(struct monitor *mon)
{
    struct error err = ERROR_INIT;
    struct json_object *request = json_parse(mon->in->str, mon->in->len, &err), *reply;

    request_reset(mon);
    reply = error_is_set(&err) ? error_reply(&err) : qmp_dispatch(mon->vm, mon, request);
    json_object_put(request);
    qmp_send(mon, reply);
    json_object_put(reply);
}

static void request_byte(struct monitor *mon, unsigned char c)
{
    if (mon->skipping) {
        if (c != '\n' && c != '{')
            return;
        mon->skipping = false;
    }
    if (c >= 0xfe) {                    /* never in UTF-8: clients send it to begin afresh */
        request_refuse(mon, "JSON parse error: an impossible byte");
        return;
    }
    if (!mon->depth && !mon->in->len) {
        if (strchr(" \t\r\n", c) && c)
            return;
        if (c != '{' && c != '[') {
            request_refuse(mon, "QMP input must be a JSON object");
            return;
        }
    }
    if (mon->in->len >= QMP_REQUEST_MAX) {
        request_refuse(mon, "JSON parse error: the request is larger than 16 MiB");
        return;
    }
    if (c < 0x20 && (mon->quote || !strchr("\t\r\n", c) || !c)) {
        request_refuse(mon, "JSON parse error: a control character");
        mon->skipping = c != '\n';
        return;
    }
    g_string_append_c(mon->in, c);
    if (mon->quote) {
        if (mon->escaped)
            mon->escaped = false;
        else if (c == '\\')
            mon->escaped = true;
        else if (c == mon->quote)
            mon->quote = 0;
    } else if (c == '"' || c == '\'') {
        mon->quote = c;
    } else if (c == '{' || c == '[') {
        if (++mon->depth > QMP_NESTING_MAX)
            request_refuse(mon, "JSON parse error: nested too deeply");
    } else if ((c == '}' || c == ']') && !--mon->depth) {
        request_complete(mon);
    }
}

/* ---- the chardev's side */

static size_t qmp_can_read(void *opaque)
{
    struct monitor *mon = opaque;

    return mon->out->len < MONITOR_OUT_STALL ? 4096 : 0;
}

static void qmp_read(void *opaque, const uint8_t *buf, size_t len)
{
    struct monitor *mon = opaque;

    for (size_t i = 0; i < len; i++)
        request_byte(mon, buf[i]);
}

static struct json_object *version_info(void)
{
    struct json_object *o = json_object_new_object(), *triple = json_object_new_object();

    json_object_object_add(triple, "micro", json_object_new_int(COMPAT_MICRO));
    json_object_object_add(triple, "minor", json_object_new_int(COMPAT_MINOR));
    json_object_object_add(triple, "major", json_object_new_int(COMPAT_MAJOR));
    json_object_object_add(o, "qemu", triple);
    json_object_object_add(o, "package", json_object_new_string("Rhea " RHEA_VERSION));
    return o;
}

static void qmp_opened(void *opaque, enum chardev_event ev)
{
    struct monitor *mon = opaque;
    struct json_object *greeting, *body;

    if (ev == CHR_CLOSED || ev == CHR_OPENED) {
        mon->negotiated = false;
        mon->skipping = false;
        request_reset(mon);
        g_string_truncate(mon->out, 0);
    }
    if (ev != CHR_OPENED)
        return;
    greeting = json_object_new_object();
    body = json_object_new_object();
    json_object_object_add(body, "version", version_info());
    json_object_object_add(body, "capabilities", json_object_new_array());
    json_object_object_add(greeting, "QMP", body);
    qmp_send(mon, greeting);
    json_object_put(greeting);
}

const struct chardev_fe_ops qmp_ops = { .can_read = qmp_can_read, .read = qmp_read, .event = qmp_opened };

/* ---- commands of the protocol itself */

bool qmp_qmp_capabilities(struct monitor *mon, const struct qmp_capabilities_args *args, struct error *err)
{
    if (args->has_enable && json_object_array_length(args->enable))
        return error_set(err, ERR_GENERIC, "Capability 'oob' is not available", "this build offers no capabilities");
    if (mon)
        mon->negotiated = true;
    return true;
}

bool qmp_query_version(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = version_info();
    return true;
}

bool qmp_query_commands(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = json_object_new_array();
    for (unsigned i = 0; i < schema_command_count; i++) {
        struct json_object *o = json_object_new_object();

        json_object_object_add(o, "name", json_object_new_string(schema_commands[i].name));
        json_object_array_add(*ret, o);
    }
    return true;
}

bool qmp_query_events(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = json_object_new_array();
    for (unsigned i = 0; i < schema_event_count; i++) {
        struct json_object *o = json_object_new_object();

        json_object_object_add(o, "name", json_object_new_string(schema_events[i].name));
        json_object_array_add(*ret, o);
    }
    return true;
}

bool qmp_query_qmp_schema(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = schema_introspect();
    return true;
}
