/* Commands of the monitor for people that are more than a QMP command in words. */
#include <string.h>
#include "control/hmp.h"
#include "rhea/base/log.h"
#include "rhea/base/options.h"
#include "rhea/block/block.h"
#include "rhea/chardev/chardev.h"
#include "rhea/net/net.h"
#include "rhea/vm/object.h"

static void add_by_options(struct hmp *h, struct json_object *args, const char *implied,
                           bool (*add)(struct vm *vm, struct json_object *o, struct error *err))
{
    struct error err = ERROR_INIT;
    struct json_object *o = options_parse(option_str(args, "options", ""), implied, &err);

    if (!o || !add(h->vm, o, &err))
        hmp_error(h, &err);
    json_object_put(o);
}

static bool hotplug(struct vm *vm, struct json_object *o, struct error *err)
{
    if (!option_str(o, "driver", NULL))
        return error_set(err, ERR_GENERIC, "Parameter 'driver' is missing", "write device_add DRIVER,id=ID,...");
    return device_create(vm, o, true, err);
}

static void hmp_device_add(struct hmp *h, struct json_object *args)
{
    const char *text = option_str(args, "options", "");

    if (!strcmp(text, "help") || !strcmp(text, "?") || g_str_has_suffix(text, ",help")) {
        g_autofree char *name = g_strndup(text, strcspn(text, ","));
        g_autofree char *help = device_help(strchr(text, ',') ? name : NULL);

        hmp_printf(h, "%s", help ? help : "there is no such device\n");
        return;
    }
    add_by_options(h, args, "driver", hotplug);
}

static void hmp_netdev_add(struct hmp *h, struct json_object *args)
{
    add_by_options(h, args, "type", netdev_add);
}

/* "[NETDEV] RULE" */
static void hmp_hostfwd(struct hmp *h, struct json_object *args, bool add)
{
    const char *first = option_str(args, "first", ""), *second = option_str(args, "second", NULL);
    struct error err = ERROR_INIT;

    if (!net_hostfwd(h->vm, second ? first : NULL, second ? second : first, add, &err))
        hmp_error(h, &err);
}

static void hmp_hostfwd_add(struct hmp *h, struct json_object *args) { hmp_hostfwd(h, args, true); }
static void hmp_hostfwd_remove(struct hmp *h, struct json_object *args) { hmp_hostfwd(h, args, false); }

static void hmp_object_add(struct hmp *h, struct json_object *args)
{
    add_by_options(h, args, "qom-type", object_add);
}

static void hmp_chardev_add(struct hmp *h, struct json_object *args)
{
    add_by_options(h, args, "backend", chardev_add);
}

/* The first argument is a PCI address of old; it must be there, and says nothing with if=none. */
static void hmp_drive_add(struct hmp *h, struct json_object *args)
{
    const char *first = option_str(args, "address", ""), *options = option_str(args, "options", NULL);
    struct error err = ERROR_INIT;
    struct json_object *o;

    if (!options || strchr(first, '=')) {
        hmp_printf(h, "Error: drive_add takes an address before the options\n"
                      "write drive_add 0 file=PATH,if=none,id=ID\n");
        return;
    }
    o = options_parse(options, NULL, &err);
    if (o && strcmp(option_str(o, "if", "none"), "none"))
        error_set(&err, ERR_GENERIC, "only if=none can be added to a running machine",
                  "add it with if=none,id=ID, then device_add virtio-blk-pci,drive=ID");
    if (o && !error_is_set(&err))
        json_object_object_add(o, "if", json_object_new_string("none"));
    if (!o || error_is_set(&err) || !block_add_drive(h->vm, o, &err))
        hmp_error(h, &err);
    else
        hmp_printf(h, "OK\n");
    json_object_put(o);
}

static void hmp_cpu_select(struct hmp *h, struct json_object *args)
{
    struct json_object *v;

    json_object_object_get_ex(args, "index", &v);
    if (json_object_get_int64(v) < 0 || json_object_get_int64(v) >= (int64_t)h->vm->nvcpus)
        hmp_printf(h, "invalid CPU index; info cpus lists them\n");
    else
        *h->cpu = json_object_get_int64(v);
}

static void hmp_log(struct hmp *h, struct json_object *args)
{
    const char *items = option_str(args, "items", "");
    struct error err = ERROR_INIT;
    uint32_t mask = 0;

    if (!strcmp(items, "help") || !strcmp(items, "?")) {
#define X(id, name, help) hmp_printf(h, "%-14s %s\n", name, help);
        LOG_CATEGORIES(X)
#undef X
        return;
    }
    if (strcmp(items, "none") && !log_parse(items, &mask, &err))
        hmp_error(h, &err);
    else
        log_set(mask);
}

static void hmp_logfile(struct hmp *h, struct json_object *args)
{
    struct error err = ERROR_INIT;

    if (!log_open(option_str(args, "filename", NULL), &err))
        hmp_error(h, &err);
}

static void hmp_later(struct hmp *h, struct json_object *args)
{
    hmp_printf(h, "Error: this build does not have this command yet\n");
}

const struct hmp_command hmp_commands[] = {
    { "help|?", "command:S?", "[COMMAND]", "this list, or one command of it", hmp_help },
    { "info", "subcommand:S?", "[SUBCOMMAND]", "show something; alone: what there is to show", hmp_info },
    { "device_add", "options:S", "DRIVER[,PROP=VALUE]...", "plug a device in", hmp_device_add },
    { "netdev_add", "options:S", "TYPE,id=ID[,PROP=VALUE]...", "make a network back end", hmp_netdev_add },
    { "hostfwd_add", "first:s second:s?", "[NETDEV] tcp|udp:[ADDR]:PORT-[ADDR]:PORT", "forward a host port to the guest",
      hmp_hostfwd_add },
    { "hostfwd_remove", "first:s second:s?", "[NETDEV] tcp|udp:[ADDR]:PORT", "forward it no more", hmp_hostfwd_remove },
    { "object_add", "options:S", "TYPE,id=ID[,PROP=VALUE]...", "make an object", hmp_object_add },
    { "chardev-add", "options:S", "BACKEND,id=ID[,PROP=VALUE]...", "make a character device", hmp_chardev_add },
    { "drive_add", "address:s options:S?", "0 file=PATH,if=none,id=ID[,PROP=VALUE]...", "make a drive for device_add",
      hmp_drive_add },
    { "cpu", "index:i", "INDEX", "the CPU that x, info registers and others look at", hmp_cpu_select },
    { "log", "items:s", "CATEGORY,...|none", "log these (log help lists them)", hmp_log },
    { "logfile", "filename:F?", "[FILE]", "log to this file", hmp_logfile },
    { "savevm", "name:s?", "[NAME]", "save the machine in its images (not in this build yet)", hmp_later },
    { "loadvm", "name:s", "NAME", "bring a saved machine back (not in this build yet)", hmp_later },
    { "delvm", "name:s", "NAME", "remove a saved machine (not in this build yet)", hmp_later },
    { "migrate", "uri:S", "URI", "move the machine (not in this build yet)", hmp_later },
    { "gdbserver", "device:S?", "[DEVICE]", "wait for gdb (not in this build yet)", hmp_later },
    { 0 }
};
