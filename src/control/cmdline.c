/* Command line: options found in the table, argument by argument. What the options mean is in cmdline-options.c. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "cmdline-internal.h"
#include "rhea/base/options.h"

const char *cmdline_keep(struct cmdline *c, const char *text)
{
    char *copy = g_strdup(text);

    if (copy)
        g_ptr_array_add(c->strings, copy);
    return copy;
}

bool text_is_help(const char *text)
{
    return !strcmp(text, "help") || !strcmp(text, "?");
}

/* The instruction set that a program's name stands for: rhea-system-i386, qemu-system-x86_64; rhea: x86_64. */
static const char *guest_of_program(const char *program)
{
    const char *system = strstr(program, "-system-");

    return system ? system + strlen("-system-") : "x86_64";
}

struct cmdline *cmdline_new(const char *argv0)
{
    struct cmdline *c = g_new0(struct cmdline, 1);
    const char *slash = strrchr(argv0, '/');
    struct json_object **arrays[] = { &c->objects, &c->chardevs, &c->blockdevs, &c->drives, &c->netdevs, &c->devices,
                                      &c->monitors, &c->nics, &c->serials, &c->parallels, &c->fds,
                                      &c->config.accel, &c->config.globals, &c->config.smbios, &c->config.fw_cfg,
                                      &c->config.nics, &c->config.serials };

    c->strings = g_ptr_array_new_with_free_func(g_free);
    c->program = cmdline_keep(c, slash ? slash + 1 : argv0);
    for (unsigned i = 0; i < G_N_ELEMENTS(arrays); i++)
        *arrays[i] = json_object_new_array();
    c->config.machine_opts = json_object_new_object();
    c->config.guest = cmdline_keep(c, guest_of_program(c->program));
    return c;
}

void cmdline_free(struct cmdline *c)
{
    if (!c)
        return;
    struct json_object *owned[] = { c->objects, c->chardevs, c->blockdevs, c->drives, c->netdevs, c->devices,
                                    c->monitors, c->nics, c->serials, c->parallels, c->fds, c->sandbox, c->semihosting,
                                    c->cpu_topology, c->config.accel, c->config.globals, c->config.smbios,
                                    c->config.fw_cfg, c->config.nics, c->config.serials, c->config.machine_opts,
                                    c->config.boot, c->config.rtc, c->config.drives };
    char *texts[] = { c->display, c->vga, c->pidfile, c->runas, c->chroot_dir, c->log_file, c->log_spec,
                      c->log_filter, c->process_name };

    for (unsigned i = 0; i < G_N_ELEMENTS(owned); i++)
        json_object_put(owned[i]);
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++)
        g_free(texts[i]);
    g_ptr_array_free(c->strings, true);
    g_free(c);
}

const struct cmdline_option *cmdline_option_find(const char *name)
{
    for (const struct cmdline_option *o = cmdline_options; o->name || o->help; o++)
        if (o->name && !strcmp(o->name, name))
            return o->alias_of ? cmdline_option_find(o->alias_of) : o;
    return NULL;
}

static bool option_unknown(const char *name, struct error *err)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autofree char *hint = NULL;
    const char *near;

    for (const struct cmdline_option *o = cmdline_options; o->name || o->help; o++)
        if (o->name)
            g_ptr_array_add(names, (void *)o->name);
    g_ptr_array_add(names, NULL);
    near = nearest_spelling(name, (const char *const *)names->pdata);
    hint = near ? g_strdup_printf("did you mean -%s?", near) : g_strdup("-help lists the options");
    return error_setf(err, ERR_GENERIC, hint, "-%s: unknown option", name);
}

bool cmdline_check(struct json_object *o, const struct cmdline_param *params, const char *what, struct error *err)
{
    json_object_object_foreach(o, key, value) {
        const struct cmdline_param *p = params;

        (void)value;
        while (p->name && strcmp(p->name, key) != 0)
            p++;
        if (!p->name) {
            g_autoptr(GPtrArray) names = g_ptr_array_new();
            g_autofree char *hint = NULL;
            const char *near;

            for (p = params; p->name; p++)
                g_ptr_array_add(names, (void *)p->name);
            g_ptr_array_add(names, NULL);
            near = nearest_spelling(key, (const char *const *)names->pdata);
            if (near) {
                hint = g_strdup_printf("did you mean %s?", near);
            } else {
                g_ptr_array_remove_index(names, names->len - 1);
                GString *all = g_string_new("it takes");

                for (unsigned i = 0; i < names->len; i++)
                    g_string_append_printf(all, "%s %s", i ? "," : "", (char *)names->pdata[i]);
                hint = g_string_free(all, false);
            }
            return error_setf(err, ERR_GENERIC, hint, "%s: there is no option '%s'", what, key);
        }
    }
    return true;
}

static bool option_apply(struct cmdline *c, const struct cmdline_option *o, const char *arg, struct error *err)
{
    if (o->refusal)
        return error_setf(err, ERR_GENERIC, o->mend, "-%s: %s", o->name, o->refusal);
    if (!o->set(c, arg, err)) {
        if (arg && error_is_set(err))
            error_prepend(err, "-%s %s", o->name, arg);
        else
            error_prepend(err, "-%s", o->name);
        return false;
    }
    return true;
}

/* A disk image named without an option: a hard disk. */
static void image_add(struct cmdline *c, const char *path)
{
    struct json_object *drive = json_object_new_object();

    json_object_object_add(drive, "file", json_object_new_string(path));
    json_object_object_add(drive, "if", json_object_new_string("virtio"));
    json_object_object_add(drive, "media", json_object_new_string("disk"));
    json_object_array_add(c->drives, drive);
}

bool cmdline_parse(struct cmdline *c, int argc, char **argv, struct error *err)
{
    for (int i = 1; i < argc && !c->finished; i++) {
        const char *name = argv[i], *arg = NULL;
        const struct cmdline_option *o;

        if (name[0] != '-' || !name[1]) {
            image_add(c, name);
            continue;
        }
        name += name[1] == '-' ? 2 : 1;
        o = cmdline_option_find(name);
        if (!o)
            return option_unknown(name, err);
        if (o->arg) {
            if (i + 1 >= argc) {
                g_autofree char *hint = g_strdup_printf("write -%s %s", o->name, o->arg);

                return error_setf(err, ERR_GENERIC, hint, "-%s: an argument is missing", o->name);
            }
            arg = argv[++i];
        }
        if (!option_apply(c, o, arg, err))
            return false;
    }
    return true;
}

/* ---- -readconfig: the INI form, [group "id"] and key = "value" lines */

static bool config_group_apply(struct cmdline *c, const char *group, struct json_object *opts, struct error *err)
{
    const struct cmdline_option *o = cmdline_option_find(group);
    g_autoptr(GString) text = g_string_new(NULL);

    if (!o || !o->arg)
        return error_setf(err, ERR_GENERIC, "groups are named as options that take an argument are",
                          "unknown group [%s]", group);
    json_object_object_foreach(opts, key, value) {
        const char *v = json_object_get_string(value);

        g_string_append_printf(text, "%s%s=", text->len ? "," : "", key);
        for (; *v; v++) {
            if (*v == ',')
                g_string_append_c(text, ',');
            g_string_append_c(text, *v);
        }
    }
    return option_apply(c, o, text->str, err);
}

/* [device "net0"] -> group and id; false when malformed */
static bool config_header(const char *line, char **group, char **id)
{
    g_autofree char *inner = NULL;
    const char *end = strrchr(line, ']');
    char *quote;

    *id = NULL;
    if (!end || end[1])
        return false;
    inner = g_strndup(line + 1, end - line - 1);
    quote = strchr(inner, '"');
    if (quote) {
        char *close = strrchr(quote + 1, '"');

        if (!close)
            return false;
        *close = 0;
        *id = g_strdup(quote + 1);
        *quote = 0;
    }
    *group = g_strdup(g_strstrip(inner));
    return **group != 0;
}

bool cmdline_read_config(struct cmdline *c, const char *path, struct error *err)
{
    g_autofree char *text = NULL, *group = NULL;
    g_autoptr(GError) gerr = NULL;
    g_auto(GStrv) lines = NULL;
    struct json_object *opts = NULL;
    bool ok = true;

    if (!g_file_get_contents(path, &text, NULL, &gerr))
        return error_setf(err, ERR_GENERIC, NULL, "%s", gerr->message);
    lines = g_strsplit(text, "\n", -1);
    for (unsigned n = 0; ok && lines[n]; n++) {
        char *line = g_strstrip(lines[n]);

        if (!*line || *line == '#')
            continue;
        if (*line == '[') {
            char *id;

            if (group)
                ok = config_group_apply(c, group, opts, err);
            json_object_put(opts);
            g_clear_pointer(&group, g_free);
            opts = json_object_new_object();
            if (ok && !config_header(line, &group, &id)) {
                ok = error_setf(err, ERR_GENERIC, "write [group] or [group \"id\"]", "%s:%u: malformed group", path,
                                n + 1);
            } else if (ok && id) {
                json_object_object_add(opts, "id", json_object_new_string(id));
                g_free(id);
            }
            continue;
        }
        char *eq = strchr(line, '=');

        if (!eq || !group) {
            ok = error_setf(err, ERR_GENERIC, "write key = \"value\" below a [group]", "%s:%u: not understood", path,
                            n + 1);
            break;
        }
        *eq = 0;
        char *value = g_strstrip(eq + 1);
        size_t len = strlen(value);

        if (len >= 2 && value[0] == '"' && value[len - 1] == '"') {
            value[len - 1] = 0;
            value++;
        }
        json_object_object_add(opts, g_strstrip(line), json_object_new_string(value));
    }
    if (ok && group)
        ok = config_group_apply(c, group, opts, err);
    json_object_put(opts);
    return ok;
}

/* ---- help */

void cmdline_print_help(void)
{
    printf("Rhea: a machine emulator. Usage: rhea [OPTION]... [DISK-IMAGE]\n"
           "Options may be written with one dash or two. In KEY=VALUE lists a comma inside a value is doubled.\n");
    for (const struct cmdline_option *o = cmdline_options; o->name || o->help; o++) {
        char head[160];

        if (!o->name) {
            printf("\n%s\n", o->help);
            continue;
        }
        if (!o->help)
            continue;
        snprintf(head, sizeof(head), "-%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
        if (strlen(head) <= 26)
            printf("  %-26s %s\n", head, o->help);
        else
            printf("  %s\n  %-26s %s\n", head, "", o->help);
    }
    printf("\nMost options that take a list explain themselves: -machine help, -cpu help, -device help,\n"
           "-device virtio-blk-pci,help. With the serial console on the terminal, Ctrl-a h shows its keys.\n");
}

static struct json_object *describe_option(const struct cmdline_option *o)
{
    struct json_object *entry = json_object_new_object(), *params = json_object_new_array();

    json_object_object_add(entry, "parameters", params);
    json_object_object_add(entry, "option", json_object_new_string(o->name));
    for (const struct cmdline_param *p = o->params; p && p->name; p++) {
        struct json_object *param = json_object_new_object();

        json_object_object_add(param, "name", json_object_new_string(p->name));
        if (p->help)
            json_object_object_add(param, "help", json_object_new_string(p->help));
        json_object_object_add(param, "type", json_object_new_string(p->type));
        json_object_array_add(params, param);
    }
    return entry;
}

struct json_object *cmdline_query_options(const char *option, struct error *err)
{
    struct json_object *list = json_object_new_array();

    for (const struct cmdline_option *o = cmdline_options; o->name || o->help; o++)
        if (o->name && o->arg && !o->refusal && !o->alias_of && (!option || !strcmp(o->name, option)))
            json_object_array_add(list, describe_option(o));
    if (option && !json_object_array_length(list)) {
        json_object_put(list);
        error_setf(err, ERR_GENERIC, NULL, "there is no option '%s' that takes parameters", option);
        return NULL;
    }
    return list;
}
