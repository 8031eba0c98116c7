/* rhea-storage-daemon: disks, jobs and exports under QMP, without a guest, by qemu-storage-daemon's command line. It is the
 * system emulator with an empty machine that never runs. */
#include <stdio.h>
#include <string.h>
#include "block/export.h"
#include "main/tool.h"
#include "rhea/base/options.h"
#include "rhea/control/cmdline.h"

enum { CONNECTIONS = 100, HANDSHAKE_SECONDS = 10 };

struct daemon_options {
    char **blockdevs, **chardevs, **objects, **monitors, **nbd_servers, **exports, **rest;
    char *pidfile, *trace;
    gboolean daemonize, version;
};

/* ---- the NBD server and the exports, once the nodes are there */

static struct json_object *parse(const char *text, struct error *err)
{
    struct json_object *flat = options_parse(text, "type", err), *nested = flat ? options_nest(flat, err) : NULL;

    json_object_put(flat);
    return nested;
}

static bool start_nbd_server(struct block_graph *g, const char *text, struct error *err)
{
    static const char *const known[] = { "addr", "tls-creds", "tls-authz", "max-connections", "handshake-max-seconds", "max-conn", NULL };
    struct json_object *o = parse(text, err), *addr = NULL;
    struct nbd_server_options s = { .held = true };     /* until the exports are there */
    int64_t connections, seconds;
    bool ok;

    if (!o || !options_check(o, known, "--nbd-server", err)) {
        json_object_put(o);
        return false;
    }
    json_object_object_get_ex(o, "addr", &addr);
    s.addr = addr;
    s.tls_creds = option_str(o, "tls-creds", NULL);
    s.tls_authz = option_str(o, "tls-authz", NULL);
    ok = option_int(o, "max-connections", CONNECTIONS, &connections, err) &&
         option_int(o, "handshake-max-seconds", HANDSHAKE_SECONDS, &seconds, err);
    if (ok && (!addr || !json_object_is_type(addr, json_type_object)))
        ok = error_set(err, ERR_GENERIC, "--nbd-server needs an address", "addr.type=unix,addr.path=PATH, or addr.type=inet,addr.host=,addr.port=");
    if (ok && (connections < 0 || connections > UINT32_MAX || seconds < 0 || seconds > UINT32_MAX))
        ok = error_set(err, ERR_GENERIC, "max-connections and handshake-max-seconds are numbers from 0 up", NULL);
    s.max_connections = connections;
    s.handshake_seconds = seconds;
    ok = ok && nbd_server_start(g, &s, err);
    json_object_put(o);
    return ok;
}

static bool make_exports(struct vm *vm, void *opaque, struct error *err)
{
    struct daemon_options *d = opaque;
    struct block_graph *g = block_graph_of(vm);

    for (char **s = d->nbd_servers; s && *s; s++)
        if (!start_nbd_server(g, *s, err))
            return false;
    for (char **e = d->exports; e && *e; e++) {
        struct json_object *o = parse(*e, err);
        bool ok = o && export_add(g, o, err);

        json_object_put(o);
        if (!ok)
            return false;
    }
    if (nbd_server_running(g))
        nbd_server_admit(g);
    return true;
}

/* ---- the command line */

static bool parse_line(struct daemon_options *d, int argc, char **argv, struct error *err)
{
    const GOptionEntry entries[] = {
        { "blockdev", 0, 0, G_OPTION_ARG_STRING_ARRAY, &d->blockdevs, "a block node: driver=qcow2,node-name=disk,file.driver=file,file.filename=PATH", "OPTIONS" },
        { "nbd-server", 0, 0, G_OPTION_ARG_STRING_ARRAY, &d->nbd_servers, "listen: addr.type=unix,addr.path=PATH, or addr.type=inet,addr.host=,addr.port=", "OPTIONS" },
        { "export", 0, 0, G_OPTION_ARG_STRING_ARRAY, &d->exports, "offer a node: nbd,id=e0,node-name=disk,name=disk; fuse,id=e1,node-name=disk,mountpoint=FILE; or vhost-user-blk,id=e2,node-name=disk,addr.type=unix,addr.path=SOCKET", "OPTIONS" },
        { "chardev", 0, 0, G_OPTION_ARG_STRING_ARRAY, &d->chardevs, "a character device, for a monitor: socket,id=qmp,path=PATH,server=on,wait=off", "OPTIONS" },
        { "monitor", 0, 0, G_OPTION_ARG_STRING_ARRAY, &d->monitors, "QMP on it: chardev=qmp", "OPTIONS" },
        { "object", 0, 0, G_OPTION_ARG_STRING_ARRAY, &d->objects, "an object that others name: secret, tls-creds-x509, throttle-group, ...", "OPTIONS" },
        { "pidfile", 0, 0, G_OPTION_ARG_STRING, &d->pidfile, "write the process id there", "PATH" },
        { "daemonize", 0, 0, G_OPTION_ARG_NONE, &d->daemonize, "go to the background when all is ready", NULL },
        { "trace", 'T', 0, G_OPTION_ARG_STRING, &d->trace, "trace points to log, by pattern", "PATTERN" },
        { "version", 'V', 0, G_OPTION_ARG_NONE, &d->version, "print the version", NULL },
        { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_STRING_ARRAY, &d->rest, NULL, NULL },
        { 0 },
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) gerr = NULL;

    g_option_context_set_summary(context, "Offers disks to others, and runs jobs on them, under QMP.");
    g_option_context_set_description(context,
        "  rhea-storage-daemon --blockdev driver=file,node-name=f,filename=disk.raw \\\n"
        "      --nbd-server addr.type=unix,addr.path=/tmp/nbd.sock --export nbd,id=e,node-name=f,name=disk,writable=on\n");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &gerr))
        return error_setf(err, ERR_GENERIC, "rhea-storage-daemon --help lists the options", "%s", gerr->message);
    return !d->rest || error_setf(err, ERR_GENERIC, "rhea-storage-daemon --help lists the options", "Unexpected argument: %s", d->rest[0]);
}

static void add(GPtrArray *line, const char *option, const char *value)
{
    g_ptr_array_add(line, g_strdup(option));
    if (value)
        g_ptr_array_add(line, g_strdup(value));
}

static void add_all(GPtrArray *line, const char *option, char **values)
{
    for (; values && *values; values++)
        add(line, option, *values);
}

/* The system emulator's line for the same. */
static GPtrArray *system_line(const struct daemon_options *d, const char *argv0)
{
    GPtrArray *line = g_ptr_array_new_with_free_func(g_free);

    add(line, argv0, NULL);
    add(line, "-machine", "none");
    add(line, "-nodefaults", NULL);
    add(line, "-display", "none");
    add(line, "-S", NULL);
    add_all(line, "-object", d->objects);
    add_all(line, "-chardev", d->chardevs);
    add_all(line, "-blockdev", d->blockdevs);
    for (char **m = d->monitors; m && *m; m++) {
        g_autofree char *text = strstr(*m, "mode=") || **m == '{' ? g_strdup(*m) : g_strdup_printf("%s,mode=control", *m);

        add(line, "-mon", text);
    }
    if (d->pidfile)
        add(line, "-pidfile", d->pidfile);
    if (d->daemonize)
        add(line, "-daemonize", NULL);
    if (d->trace)
        add(line, "-trace", d->trace);
    return line;
}

static void options_free(struct daemon_options *d)
{
    char *texts[] = { d->pidfile, d->trace };
    char **lists[] = { d->blockdevs, d->nbd_servers, d->exports, d->chardevs, d->monitors, d->objects, d->rest };

    tool_options_free(texts, G_N_ELEMENTS(texts), lists, G_N_ELEMENTS(lists));
}

int main(int argc, char **argv)
{
    struct daemon_options d = { 0 };
    struct error err = ERROR_INIT;
    GPtrArray *line;
    int code;

    error_set_program(argv[0]);
    if (!parse_line(&d, argc, argv, &err)) {
        error_report(&err);
        options_free(&d);
        return 1;
    }
    if (d.version) {
        tool_print_version();
        options_free(&d);
        return 0;
    }
    line = system_line(&d, argv[0]);
    g_ptr_array_add(line, NULL);
    code = system_main_with(line->len - 1, (char **)line->pdata, make_exports, &d);
    g_ptr_array_free(line, TRUE);
    options_free(&d);
    return code;
}
