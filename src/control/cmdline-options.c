/* The options of the system emulator, one row each: what it takes, what -help says, what it does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cmdline-internal.h"
#include "rhea/base/log.h"
#include "rhea/base/options.h"
#include "rhea/net/net.h"
#include "rhea/chardev/chardev.h"
#include "rhea/control/version.h"
#include "rhea/vm/object.h"

static struct json_object *text_object(const char *text) { return json_object_new_string(text); }

static void put_text(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, json_object_new_string(value));
}

/* ---- parameters that are checked, and listed by query-command-line-options */

#define STR(n, h)  { n, "string", h }
#define BOOL(n, h) { n, "boolean", h }
#define NUM(n, h)  { n, "number", h }
#define SIZE(n, h) { n, "size", h }

const struct cmdline_param machine_common_params[] = {
    STR("type", "machine, -machine help lists them"), STR("accel", "accelerators in order of preference, by ':'"),
    BOOL("usb", "have a USB controller"), BOOL("dump-guest-core", "guest RAM in core dumps"),
    BOOL("mem-merge", "let the host merge equal pages"), STR("memory-backend", "object that is the RAM"),
    STR("kernel", "as -kernel"), STR("initrd", "as -initrd"), STR("append", "as -append"), STR("dtb", "as -dtb"),
    STR("firmware", "as -bios"), BOOL("graphics", "on: a display, off: as -nographic"),
    STR("smm", "system management mode"), STR("vmport", "VMware port"), BOOL("hpet", "high precision timer"),
    BOOL("acpi", "ACPI tables and power management"), BOOL("nvdimm", "NVDIMM support"),
    BOOL("hmat", "heterogeneous memory tables"), STR("kernel-irqchip", "interrupt controllers in the kernel (KVM)"),
    STR("kernel_irqchip", "the same"),
    STR("pflash0", "node of the first flash"), STR("pflash1", "node of the second flash"),
    STR("confidential-guest-support", "object that protects the guest"), { 0 }
};
static const struct cmdline_param smp_params[] = {
    NUM("cpus", "CPUs at start"), NUM("maxcpus", "CPUs that may be there"), NUM("sockets", "sockets"),
    NUM("dies", "dies in a socket"), NUM("clusters", "clusters in a die"), NUM("modules", "modules in a die"),
    NUM("drawers", "drawers"), NUM("books", "books in a drawer"), NUM("cores", "cores in a cluster"),
    NUM("threads", "threads in a core"), { 0 }
};
static const struct cmdline_param memory_params[] = {
    SIZE("size", "RAM at start"), NUM("slots", "slots for hot-plugged memory"), SIZE("maxmem", "RAM at most"), { 0 }
};
static const struct cmdline_param name_params[] = {
    STR("guest", "the machine's name"), STR("process", "name of the process"),
    BOOL("debug-threads", "name the threads"), { 0 }
};
static const struct cmdline_param boot_params[] = {
    STR("order", "drives in order, a to z"), STR("once", "order of the first boot"), BOOL("menu", "show a boot menu"),
    STR("splash", "picture"), NUM("splash-time", "milliseconds"), NUM("reboot-timeout", "milliseconds, -1: never"),
    BOOL("strict", "boot from nothing else"), { 0 }
};
static const struct cmdline_param rtc_params[] = {
    STR("base", "utc, localtime or 2026-11-22T12:00:00"), STR("clock", "host, rt or vm"),
    STR("driftfix", "none or slew"), { 0 }
};
static const struct cmdline_param msg_params[] = {
    BOOL("timestamp", "time before messages"), BOOL("guest-name", "name of the machine before messages"), { 0 }
};
static const struct cmdline_param overcommit_params[] = {
    STR("mem-lock", "lock guest RAM: on, off, on-fault"), BOOL("cpu-pm", "let the guest's idle CPUs use the host's"),
    { 0 }
};
static const struct cmdline_param sandbox_params[] = {
    BOOL("enable", "filter system calls"), STR("obsolete", "allow, deny"),
    STR("elevateprivileges", "allow, deny, children"), STR("spawn", "allow, deny"), STR("resourcecontrol", "allow, deny"),
    { 0 }
};
static const struct cmdline_param mon_params[] = {
    STR("id", "name"), STR("mode", "readline or control"), STR("chardev", "character device"),
    STR("pretty", "indented replies"), { 0 }
};
static const struct cmdline_param action_params[] = {
    STR("reboot", "reset or shutdown"), STR("shutdown", "poweroff or pause"), STR("panic", "pause, shutdown, "
        "exit-failure or none"), STR("watchdog", "reset, shutdown, poweroff, inject-nmi, pause, debug or none"), { 0 }
};
static const struct cmdline_param semihosting_params[] = {
    BOOL("enable", "take the calls"), STR("target", "native, gdb or auto"), STR("chardev", "where the console is"),
    BOOL("userspace", "from unprivileged programs too"), STR("arg", "word of the program's command line"), { 0 }
};
static const struct cmdline_param add_fd_params[] = {
    NUM("fd", "inherited file descriptor"), NUM("set", "set it belongs to"), STR("opaque", "free text"), { 0 }
};
static const struct cmdline_param fw_cfg_params[] = {
    STR("name", "file in fw_cfg"), STR("file", "host file with the content"), STR("string", "the content"),
    STR("gen_id", "object that makes the content"), { 0 }
};
static const struct cmdline_param compat_params[] = {
    STR("deprecated-input", "accept, reject or crash"), STR("deprecated-output", "accept or hide"),
    STR("unstable-input", "accept, reject or crash"), STR("unstable-output", "accept or hide"), { 0 }
};
static const struct cmdline_param global_params[] = {
    STR("driver", "device"), STR("property", "property"), STR("value", "its default"), { 0 }
};
static const struct cmdline_param accel_params[] = {
    STR("accel", "accelerator"), STR("thread", "single or multi"), SIZE("tb-size", "translation cache"),
    BOOL("one-insn-per-tb", "a region an instruction"), BOOL("split-wx", "write and execute apart"),
    STR("verify", "run the interpreter beside"), BOOL("tier2", "compile hot code again"), NUM("chaos", "seed of forced rare timing"),
    BOOL("perfmap", "write /tmp/perf-PID.map"), STR("kernel-irqchip", "of KVM"), { 0 }
};
/* Listed for clients that look for them; the subsystems check them. */
static const struct cmdline_param drive_params[] = {
    STR("file", "image"), STR("if", "interface"), STR("id", "name"), STR("format", "image format"),
    STR("media", "disk or cdrom"), NUM("index", "place"), BOOL("readonly", "do not write"), STR("cache", "cache mode"),
    STR("aio", "threads, native or io_uring"), BOOL("snapshot", "keep no change"), STR("discard", "unmap or ignore"),
    STR("serial", "serial number"), { 0 }
};
static const struct cmdline_param chardev_params[] = {
    STR("backend", "kind"), STR("path", "file or socket"), STR("host", "address"), STR("port", "port"),
    STR("fd", "inherited socket"), BOOL("server", "listen"), BOOL("wait", "wait for the client"),
    BOOL("telnet", "telnet protocol"), NUM("reconnect", "seconds"), NUM("reconnect-ms", "milliseconds"),
    BOOL("mux", "shared by several"), STR("logfile", "copy of the output"), BOOL("logappend", "append to it"),
    SIZE("size", "of a ring buffer"), BOOL("append", "to the file"), STR("localaddr", "udp"), STR("localport", "udp"),
    { 0 }
};
static const struct cmdline_param object_params[] = { STR("qom-type", "kind"), STR("id", "name"), { 0 } };

/* ---- machine */

static bool set_accel_list(struct cmdline *c, const char *list, struct error *err)
{
    g_auto(GStrv) names = g_strsplit(list, ":", -1);

    for (char **n = names; *n; n++) {
        struct json_object *a = json_object_new_object();

        put_text(a, "accel", *n);
        json_object_array_add(c->config.accel, a);
    }
    return true;
}

static bool set_machine(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o;
    const struct { const char *key; const char **to; } texts[] = {
        { "type", &c->config.machine }, { "kernel", &c->config.kernel }, { "initrd", &c->config.initrd },
        { "append", &c->config.append }, { "dtb", &c->config.dtb }, { "firmware", &c->config.bios },
        { "memory-backend", &c->config.memory_backend },
    };
    const char *accel;

    if (text_is_help(arg)) {
        help_machines(guest_find(c->config.guest));
        return c->finished = true;
    }
    o = options_parse(arg, "type", err);
    if (!o)
        return false;
    c->machine_help = json_object_object_get_ex(o, "help", NULL);
    json_object_object_del(o, "help");
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        const char *v = option_str(o, texts[i].key, NULL);

        if (v)
            *texts[i].to = cmdline_keep(c, v);
        json_object_object_del(o, texts[i].key);
    }
    accel = option_str(o, "accel", NULL);
    if (accel) {
        json_object_put(c->config.accel);
        c->config.accel = json_object_new_array();
        set_accel_list(c, accel, err);
        json_object_object_del(o, "accel");
    }
    json_object_object_foreach(o, key, value)
        json_object_object_add(c->config.machine_opts, key, json_object_get(value));
    json_object_put(o);
    if (c->machine_help) {
        help_machine_options(board_find(c->config.machine, c->config.guest));
        c->finished = true;
    }
    return true;
}

static bool set_accel(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o;

    if (text_is_help(arg)) {
        help_accels();
        return c->finished = true;
    }
    o = options_parse(arg, "accel", err);
    if (!o || !cmdline_check(o, accel_params, "-accel", err)) {
        json_object_put(o);
        return false;
    }
    json_object_array_add(c->config.accel, o);
    return true;
}

static bool set_enable_kvm(struct cmdline *c, const char *arg, struct error *err)
{
    for (size_t i = 0; i < json_object_array_length(c->config.accel); i++)
        if (!strcmp(option_str(json_object_array_get_idx(c->config.accel, i), "accel", ""), "kvm"))
            return true;
    return set_accel_list(c, "kvm", err);
}

static bool set_cpu(struct cmdline *c, const char *arg, struct error *err)
{
    if (text_is_help(arg)) {
        help_cpus(guest_find(c->config.guest));
        return c->finished = true;
    }
    c->config.cpu = cmdline_keep(c, arg);
    return true;
}

static bool set_smp(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o = options_parse(arg, "cpus", err);

    if (!o)
        return false;
    json_object_put(c->cpu_topology);
    c->cpu_topology = o;
    return cmdline_check(o, smp_params, "-smp", err) && cmdline_smp(c, err);
}

static bool set_memory(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o = options_parse(arg, "size", err);
    uint64_t slots = 0;
    bool ok = o && cmdline_check(o, memory_params, "-m", err);
    const char *size = o ? option_str(o, "size", NULL) : NULL, *max = o ? option_str(o, "maxmem", NULL) : NULL;
    const char *n = o ? option_str(o, "slots", NULL) : NULL;

    ok = ok && (!size || parse_size(size, 1 << 20, &c->config.ram_size, err)) &&
         (!max || parse_size(max, 1 << 20, &c->config.ram_max, err)) && (!n || parse_uint(n, 256, &slots, err));
    if (ok && max && c->config.ram_max < c->config.ram_size)
        ok = error_set(err, ERR_GENERIC, "maxmem is less than the size", "leave maxmem out, or make it larger");
    if (ok && size && !c->config.ram_size)
        ok = error_set(err, ERR_GENERIC, "a machine needs some RAM", "write for example -m 512 or -m 2G");
    c->config.ram_slots = slots;
    json_object_put(o);
    return ok;
}

#define SET_TEXT(fn, field) \
    static bool fn(struct cmdline *c, const char *arg, struct error *err) \
    { \
        c->field = cmdline_keep(c, arg); \
        return true; \
    }
SET_TEXT(set_kernel, config.kernel)
SET_TEXT(set_initrd, config.initrd)
SET_TEXT(set_append, config.append)
SET_TEXT(set_dtb, config.dtb)
SET_TEXT(set_bios, config.bios)
SET_TEXT(set_firmware_path, config.firmware_path)

#define SET_OWNED(fn, field) \
    static bool fn(struct cmdline *c, const char *arg, struct error *err) \
    { \
        g_free(c->field); \
        c->field = g_strdup(arg); \
        return true; \
    }
SET_OWNED(set_pidfile, pidfile)
SET_OWNED(set_runas, runas)
SET_OWNED(set_chroot, chroot_dir)
SET_OWNED(set_log_file, log_file)
SET_OWNED(set_log_filter, log_filter)

#define SET_FLAG(fn, statement) \
    static bool fn(struct cmdline *c, const char *arg, struct error *err) \
    { \
        statement; \
        return true; \
    }
SET_FLAG(set_nothing, (void)c)
SET_FLAG(set_nographic, c->nographic = true)
SET_FLAG(set_daemonize, c->daemonize = true)
SET_FLAG(set_no_reboot, c->config.no_reboot = true)
SET_FLAG(set_no_shutdown, c->config.no_shutdown = true)
SET_FLAG(set_paused, c->config.start_paused = true)
SET_FLAG(set_snapshot, c->snapshot = true)
SET_FLAG(set_nodefaults, c->config.no_defaults = true)
SET_FLAG(set_explain, c->explain = true)
SET_FLAG(set_no_hpet, put_text(c->config.machine_opts, "hpet", "off"))
SET_FLAG(set_no_acpi, put_text(c->config.machine_opts, "acpi", "off"))

static bool set_uuid(struct cmdline *c, const char *arg, struct error *err)
{
    if (!g_uuid_string_is_valid(arg))
        return error_set(err, ERR_GENERIC, "not a UUID", "write it as 550e8400-e29b-41d4-a716-446655440000");
    c->config.uuid = cmdline_keep(c, arg);
    return true;
}

static bool set_name(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o = options_parse(arg, "guest", err);
    const char *guest, *process;

    if (!o || !cmdline_check(o, name_params, "-name", err)) {
        json_object_put(o);
        return false;
    }
    guest = option_str(o, "guest", NULL);
    process = option_str(o, "process", NULL);
    if (guest)
        c->config.name = cmdline_keep(c, guest);
    if (process) {
        g_free(c->process_name);
        c->process_name = g_strdup(process);
    }
    json_object_put(o);
    return true;
}

/* Options that are one object each, kept for those who need them; later ones are merged in. */
static bool merge(struct json_object **to, const char *arg, const char *implied, const struct cmdline_param *params,
                  const char *what, struct error *err)
{
    struct json_object *o = options_parse(arg, implied, err);

    if (!o || !cmdline_check(o, params, what, err)) {
        json_object_put(o);
        return false;
    }
    if (!*to)
        *to = json_object_new_object();
    json_object_object_foreach(o, key, value)
        json_object_object_add(*to, key, json_object_get(value));
    json_object_put(o);
    return true;
}

static bool set_boot(struct cmdline *c, const char *arg, struct error *err)
{
    bool flag;

    if (!merge(&c->config.boot, arg, "order", boot_params, "-boot", err))
        return false;
    if (option_str(c->config.boot, "splash", NULL))
        return error_set(err, ERR_GENERIC, "this build has no display to show a splash picture on", "leave splash out");
    return option_bool(c->config.boot, "menu", false, &flag, err) &&
           option_bool(c->config.boot, "strict", false, &flag, err);
}

static bool set_rtc(struct cmdline *c, const char *arg, struct error *err)
{
    static const char *const clocks[] = { "host", "rt", "vm", NULL }, *const drifts[] = { "none", "slew", NULL };
    const char *clock, *drift;

    if (!merge(&c->config.rtc, arg, "base", rtc_params, "-rtc", err))
        return false;
    clock = option_str(c->config.rtc, "clock", "host");
    drift = option_str(c->config.rtc, "driftfix", "none");
    if (!g_strv_contains(clocks, clock))
        return error_setf(err, ERR_GENERIC, "clocks are host, rt and vm", "unknown clock '%s'", clock);
    if (!g_strv_contains(drifts, drift))
        return error_setf(err, ERR_GENERIC, "driftfix is none or slew", "unknown driftfix '%s'", drift);
    return true;
}

static bool set_action(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o = options_parse(arg, NULL, err);
    static const struct { const char *key, *values; size_t to; } actions[] = {
        { "reboot", "reset shutdown", offsetof(struct vm_config, action_reboot) },
        { "shutdown", "poweroff pause", offsetof(struct vm_config, action_shutdown) },
        { "panic", "pause shutdown exit-failure none", offsetof(struct vm_config, action_panic) },
        { "watchdog", "reset shutdown poweroff inject-nmi pause debug none",
          offsetof(struct vm_config, action_watchdog) },
    };
    bool ok = o && cmdline_check(o, action_params, "-action", err);

    for (unsigned i = 0; ok && i < G_N_ELEMENTS(actions); i++) {
        const char *v = option_str(o, actions[i].key, NULL);
        g_auto(GStrv) allowed = g_strsplit(actions[i].values, " ", -1);

        if (v && !g_strv_contains((const char *const *)allowed, v))
            ok = error_setf(err, ERR_GENERIC, actions[i].values, "%s: unknown action '%s'", actions[i].key, v);
        else if (v)
            *(const char **)((char *)&c->config + actions[i].to) = cmdline_keep(c, v);
    }
    json_object_put(o);
    return ok;
}

static bool set_watchdog_action(struct cmdline *c, const char *arg, struct error *err)
{
    g_autofree char *text = g_strdup_printf("watchdog=%s", arg);

    return set_action(c, text, err);
}

/* driver.property=value, or driver=,property=,value= */
static bool set_global(struct cmdline *c, const char *arg, struct error *err)
{
    const char *eq = strchr(arg, '='), *dot = eq ? memchr(arg, '.', eq - arg) : NULL;
    struct json_object *o;

    if (dot && !g_str_has_prefix(arg, "driver=")) {
        g_autofree char *driver = g_strndup(arg, dot - arg), *prop = g_strndup(dot + 1, eq - dot - 1);

        o = json_object_new_object();
        put_text(o, "driver", driver);
        put_text(o, "property", prop);
        put_text(o, "value", eq + 1);
    } else {
        o = options_parse(arg, NULL, err);
        if (!o || !cmdline_check(o, global_params, "-global", err)) {
            json_object_put(o);
            return false;
        }
        if (!option_str(o, "driver", NULL) || !option_str(o, "property", NULL) || !option_str(o, "value", NULL)) {
            json_object_put(o);
            return error_set(err, ERR_GENERIC, "driver, property or value is missing",
                             "write -global DRIVER.PROPERTY=VALUE");
        }
    }
    json_object_array_add(c->config.globals, o);
    return true;
}

static bool set_smbios(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o = options_parse(arg, NULL, err);

    if (!o)
        return false;
    json_object_array_add(c->config.smbios, o);
    if (!option_str(o, "type", NULL) && !option_str(o, "file", NULL))
        return error_set(err, ERR_GENERIC, "neither type nor file is given", "write for example type=1,product=NAME");
    return true;
}

static bool set_fw_cfg(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o = options_parse(arg, "name", err);

    if (!o || !cmdline_check(o, fw_cfg_params, "-fw_cfg", err)) {
        json_object_put(o);
        return false;
    }
    json_object_array_add(c->config.fw_cfg, o);
    if (option_str(o, "gen_id", NULL))
        return error_set(err, ERR_GENERIC, "gen_id is not in this build", "use file= or string=");
    if (!option_str(o, "name", NULL) || !option_str(o, "file", NULL) == !option_str(o, "string", NULL))
        return error_set(err, ERR_GENERIC, "it needs a name, and either file or string",
                         "write name=opt/ORG/NAME,file=PATH");
    return true;
}

/* ---- storage */

static bool drive_add(struct cmdline *c, const char *file, const char *iface, const char *media, int index)
{
    struct json_object *o = json_object_new_object();

    put_text(o, "file", file);
    if (iface)
        put_text(o, "if", iface);
    if (media)
        put_text(o, "media", media);
    json_object_object_add(o, "index", json_object_new_int(index));
    json_object_array_add(c->drives, o);
    return true;
}
#define SET_DRIVE(fn, iface, media, index) \
    static bool fn(struct cmdline *c, const char *arg, struct error *err) \
    { \
        return drive_add(c, arg, iface, media, index); \
    }
SET_DRIVE(set_hda, NULL, "disk", 0)
SET_DRIVE(set_hdb, NULL, "disk", 1)
SET_DRIVE(set_hdc, NULL, "disk", 2)
SET_DRIVE(set_hdd, NULL, "disk", 3)
SET_DRIVE(set_cdrom, NULL, "cdrom", 2)
SET_DRIVE(set_fda, "floppy", NULL, 0)
SET_DRIVE(set_fdb, "floppy", NULL, 1)
SET_DRIVE(set_pflash, "pflash", NULL, 0)

static bool append_parsed(struct json_object *array, const char *arg, const char *implied, struct error *err)
{
    struct json_object *o = options_parse(arg, implied, err);

    return o && !json_object_array_add(array, o);
}

static bool set_drive(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o = options_parse(arg, NULL, err);

    if (!o)
        return false;
    json_object_array_add(c->drives, o);
    if (json_object_object_get_ex(o, "io", NULL))
        return error_set(err, ERR_GENERIC, "there is no option 'io'", "say aio=io_uring, aio=native or aio=threads");
    return true;
}

static bool set_blockdev(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *flat = options_parse(arg, "driver", err), *o = flat;

    if (flat && arg[0] != '{') {
        o = options_nest(flat, err);
        json_object_put(flat);
    }
    if (!o)
        return false;
    json_object_array_add(c->blockdevs, o);
    if (!option_str(o, "driver", NULL))
        return error_set(err, ERR_GENERIC, "driver is missing", "write driver=qcow2,node-name=...,file=...");
    return true;
}

/* ---- devices and objects */

static bool has_help(const char *arg)
{
    size_t n = strlen(arg);

    return (n > 5 && !strcmp(arg + n - 5, ",help")) || (n > 2 && !strcmp(arg + n - 2, ",?"));
}

static bool print_class_help(struct cmdline *c, const char *arg, char *(*help)(const char *name), const char *what,
                             const char *const *names, struct error *err)
{
    g_autofree char *name = g_strndup(arg, strcspn(arg, ","));
    g_autofree char *text = help(name), *hint = NULL;
    const char *near;

    if (text) {
        fputs(text, stdout);
        return c->finished = true;
    }
    near = nearest_spelling(name, names);
    hint = near ? g_strdup_printf("did you mean %s?", near) : g_strdup_printf("-%.6s help lists them", what);      /* device, object type */
    return error_setf(err, ERR_GENERIC, hint, "there is no %s '%s'", what, name);
}

static bool set_device(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o;

    if (text_is_help(arg)) {
        g_autofree char *text = device_help(NULL);

        fputs(text ? text : "", stdout);
        return c->finished = true;
    }
    if (has_help(arg)) {
        g_autoptr(GPtrArray) names = g_ptr_array_new();
        unsigned n;
        const struct device_class *const *classes = device_classes(&n);

        for (unsigned i = 0; i < n; i++)
            g_ptr_array_add(names, (void *)classes[i]->name);
        g_ptr_array_add(names, NULL);
        return print_class_help(c, arg, device_help, "device", (const char *const *)names->pdata, err);
    }
    o = options_parse(arg, "driver", err);
    if (!o)
        return false;
    json_object_array_add(c->devices, o);
    if (!option_str(o, "driver", NULL))
        return error_set(err, ERR_GENERIC, "driver is missing", "write -device DRIVER,..., -device help lists them");
    return true;
}

static bool set_object(struct cmdline *c, const char *arg, struct error *err)
{
    if (text_is_help(arg)) {
        g_autofree char *text = object_help(NULL);

        fputs(text ? text : "", stdout);
        return c->finished = true;
    }
    if (has_help(arg)) {
        g_autoptr(GPtrArray) names = g_ptr_array_new();
        unsigned n;
        const struct object_class *const *classes = object_classes(&n);

        for (unsigned i = 0; i < n; i++)
            g_ptr_array_add(names, (void *)classes[i]->name);
        g_ptr_array_add(names, NULL);
        return print_class_help(c, arg, object_help, "object type", (const char *const *)names->pdata, err);
    }
    return append_parsed(c->objects, arg, "qom-type", err);
}

static bool set_mem_path(struct cmdline *c, const char *arg, struct error *err)
{
    put_text(c->config.machine_opts, "mem-path", arg);
    return true;
}

static bool set_mem_prealloc(struct cmdline *c, const char *arg, struct error *err)
{
    put_text(c->config.machine_opts, "mem-prealloc", "on");
    return true;
}

/* ---- network */

static bool set_netdev(struct cmdline *c, const char *arg, struct error *err)
{
    if (text_is_help(arg)) {
        g_autofree char *help = netdev_help();

        printf("%s", help);
        return c->finished = true;
    }
    return append_parsed(c->netdevs, arg, "type", err);
}

static bool set_nic(struct cmdline *c, const char *arg, struct error *err)
{
    c->no_defaults_net = true;
    return !strcmp(arg, "none") || append_parsed(c->nics, arg, "type", err);
}

/* -net user / -net nic: the old pair that meets on a hub. One back end and one card are joined by cmdline_complete(). */
static bool set_net(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o;

    c->no_defaults_net = true;
    if (!strcmp(arg, "none"))
        return true;
    o = options_parse(arg, "type", err);
    if (!o)
        return false;
    json_object_object_add(o, "legacy", json_object_new_boolean(true));
    json_object_array_add(c->nics, o);
    return true;
}

/* ---- character devices and monitors */

static bool set_chardev(struct cmdline *c, const char *arg, struct error *err)
{
    if (text_is_help(arg)) {
        fputs(chardev_help(), stdout);
        return c->finished = true;
    }
    return append_parsed(c->chardevs, arg, "backend", err);
}

static bool set_serial(struct cmdline *c, const char *arg, struct error *err)
{
    c->have_serial = true;
    return !json_object_array_add(c->serials, text_object(arg));
}

static bool set_parallel(struct cmdline *c, const char *arg, struct error *err)
{
    c->have_parallel = true;
    if (!strcmp(arg, "none"))
        return true;
    return error_set(err, ERR_GENERIC, "this build has no parallel port", "leave it out, or write -parallel none");
}

static bool add_monitor(struct cmdline *c, const char *spec, const char *mode, const char *pretty)
{
    struct json_object *o = json_object_new_object();

    put_text(o, "spec", spec);
    put_text(o, "mode", mode);
    put_text(o, "pretty", pretty);
    json_object_array_add(c->monitors, o);
    c->have_monitor = true;
    return true;
}

static bool set_monitor(struct cmdline *c, const char *arg, struct error *err)
{
    c->have_monitor = true;
    return !strcmp(arg, "none") || add_monitor(c, arg, "readline", "off");
}

static bool set_qmp(struct cmdline *c, const char *arg, struct error *err)
{
    return add_monitor(c, arg, "control", "off");
}

static bool set_qmp_pretty(struct cmdline *c, const char *arg, struct error *err)
{
    return add_monitor(c, arg, "control", "on");
}

static bool set_mon(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o = options_parse(arg, "chardev", err);
    const char *mode;

    if (!o || !cmdline_check(o, mon_params, "-mon", err)) {
        json_object_put(o);
        return false;
    }
    json_object_array_add(c->monitors, o);
    c->have_monitor = true;
    mode = option_str(o, "mode", "readline");
    if (strcmp(mode, "readline") && strcmp(mode, "control"))
        return error_setf(err, ERR_GENERIC, "modes are readline and control", "unknown mode '%s'", mode);
    if (!option_str(o, "chardev", NULL))
        return error_set(err, ERR_GENERIC, "chardev is missing", "write -mon chardev=ID,mode=control");
    return true;
}

static bool set_echr(struct cmdline *c, const char *arg, struct error *err)
{
    uint64_t v;

    if (!parse_uint(arg, 255, &v, err))
        return false;
    c->config.escape_char = v;
    return true;
}

/* ---- display */

static bool set_display(struct cmdline *c, const char *arg, struct error *err)
{
    if (text_is_help(arg)) {
        printf("Displays in this build:\n  none\n");
        return c->finished = true;
    }
    if (strcmp(arg, "none") != 0)
        return error_setf(err, ERR_GENERIC, "use -display none, or -nographic for a serial console on the terminal",
                          "this build has no display '%.*s'", (int)strcspn(arg, ",="), arg);
    g_free(c->display);
    c->display = g_strdup("none");
    return true;
}

static bool set_vga(struct cmdline *c, const char *arg, struct error *err)
{
    static const struct { const char *name, *device; } cards[] = {
        { "std", "VGA" }, { "cirrus", "cirrus-vga" }, { "qxl", "qxl-vga" }, { "virtio", "virtio-vga" },
        { "vmware", "vmware-svga" },
    };

    if (!strcmp(arg, "none"))
        return true;
    for (unsigned i = 0; i < G_N_ELEMENTS(cards); i++) {
        struct json_object *o;

        if (strcmp(arg, cards[i].name) != 0)
            continue;
        if (!device_class_find(cards[i].device))
            return error_setf(err, ERR_GENERIC, "use -vga none with a serial console (-nographic)",
                              "this build has no %s graphics card", arg);
        o = json_object_new_object();
        put_text(o, "driver", cards[i].device);
        json_object_array_add(c->devices, o);
        return true;
    }
    return error_setf(err, ERR_GENERIC, "cards are none, std, cirrus, qxl, virtio and vmware", "unknown card");
}

static bool set_audiodev(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o = options_parse(arg, "driver", err);
    bool none = o && !strcmp(option_str(o, "driver", ""), "none");

    json_object_put(o);
    if (o && !none)
        return error_set(err, ERR_GENERIC, "this build has no audio but the driver 'none'", "write -audiodev none,id=ID");
    return o;
}

/* ---- debugging */

static bool set_log(struct cmdline *c, const char *arg, struct error *err)
{
    uint32_t mask;

    if (text_is_help(arg)) {
        printf("Categories of -d, by commas:\n");
#define X(id, name, help) printf("  %-14s %s\n", name, help);
        LOG_CATEGORIES(X)
#undef X
        return c->finished = true;
    }
    if (!log_parse(arg, &mask, err))
        return false;
    char *joined = c->log_spec ? g_strdup_printf("%s,%s", c->log_spec, arg) : g_strdup(arg);

    g_free(c->log_spec);
    c->log_spec = joined;
    return true;
}

static bool set_trace(struct cmdline *c, const char *arg, struct error *err)
{
    if (text_is_help(arg)) {
        printf("This build has no trace points yet; -d help lists the log's categories.\n");
        return c->finished = true;
    }
    return error_set(err, ERR_GENERIC, "this build has no trace points yet", "use -d, -d help lists what it shows");
}

/* ---- process */

static bool set_msg(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o = options_parse(arg, "timestamp", err);
    bool on = false, name_in_messages = false;
    bool ok = o && cmdline_check(o, msg_params, "-msg", err) && option_bool(o, "timestamp", false, &on, err) &&
              option_bool(o, "guest-name", false, &name_in_messages, err);

    if (ok)
        report_set_style(on, name_in_messages ? c->config.name : NULL);
    json_object_put(o);
    return ok;
}

static bool set_overcommit(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o = options_parse(arg, NULL, err);
    bool ok = o && cmdline_check(o, overcommit_params, "-overcommit", err) &&
              option_bool(o, "mem-lock", false, &c->mem_lock, err) && option_bool(o, "cpu-pm", false, &c->cpu_pm, err);

    if (ok && c->cpu_pm)
        ok = error_set(err, ERR_GENERIC, "cpu-pm=on is for KVM, which this build has not", "leave it out");

    json_object_put(o);
    return ok;
}

/* Nothing in this build is deprecated or unstable: there is nothing to refuse or to hide. */
static bool set_compat(struct cmdline *c, const char *arg, struct error *err)
{
    static const char *const in[] = { "accept", "reject", "crash", NULL }, *const out[] = { "accept", "hide", NULL };
    struct json_object *o = options_parse(arg, NULL, err);
    bool ok = o && cmdline_check(o, compat_params, "-compat", err);

    for (const struct cmdline_param *p = compat_params; ok && p->name; p++) {
        bool input = g_str_has_suffix(p->name, "-input");
        const char *v = option_str(o, p->name, "accept");

        if (!g_strv_contains(input ? in : out, v))
            ok = error_setf(err, ERR_GENERIC, input ? "say accept, reject or crash" : "say accept or hide",
                            "-compat %s=%s: not understood", p->name, v);
    }
    json_object_put(o);
    return ok;
}

static bool set_sandbox(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o = options_parse(arg, "enable", err);
    bool on = false;
    bool ok = o && cmdline_check(o, sandbox_params, "-sandbox", err) && option_bool(o, "enable", false, &on, err);

    json_object_put(c->sandbox);
    c->sandbox = ok && on ? json_object_get(o) : NULL;
    json_object_put(o);
    return ok;
}

static bool set_semihosting(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o = options_parse(arg ? arg : "enable=on", "enable", err);
    bool on = false;
    bool ok = o && cmdline_check(o, semihosting_params, "-semihosting-config", err) &&
              option_bool(o, "enable", true, &on, err);

    json_object_put(c->semihosting);
    c->semihosting = ok && on ? json_object_get(o) : NULL;
    json_object_put(o);
    return ok;
}

static bool set_add_fd(struct cmdline *c, const char *arg, struct error *err)
{
    struct json_object *o = options_parse(arg, NULL, err);

    if (!o || !cmdline_check(o, add_fd_params, "-add-fd", err)) {
        json_object_put(o);
        return false;
    }
    json_object_array_add(c->fds, o);
    if (!option_str(o, "fd", NULL) || !option_str(o, "set", NULL))
        return error_set(err, ERR_GENERIC, "fd or set is missing", "write -add-fd fd=N,set=N");
    return true;
}

static bool set_readconfig(struct cmdline *c, const char *arg, struct error *err)
{
    return cmdline_read_config(c, arg, err);
}

static bool set_version(struct cmdline *c, const char *arg, struct error *err)
{
    printf("QEMU emulator version %s (Rhea %s)\nRhea is free software under the GNU GPL, version 2 or later.\n",
           COMPAT_VERSION, RHEA_VERSION);
    return c->finished = true;
}

static bool set_help(struct cmdline *c, const char *arg, struct error *err)
{
    cmdline_print_help();
    return c->finished = true;
}

#define HEAD(text) { .help = text }
#define NO(n, a, why, hint) { n, a, NULL, NULL, why, hint }
#define SAME(n, as) { .name = n, .alias_of = as }
#define NO_DISPLAY "use -nographic: the serial console is on the terminal"

const struct cmdline_option cmdline_options[] = {
    HEAD("Machine"),
    { "machine", "TYPE[,PROP=VALUE]...", "the machine to emulate (-machine help lists them)", set_machine,
      .params = machine_common_params },
    SAME("M", "machine"),
    { "accel", "NAME[,PROP=VALUE]...", "how its CPUs run; give several in order of preference", set_accel,
      .params = accel_params },
    { "enable-kvm", NULL, "as -accel kvm", set_enable_kvm },
    { "cpu", "MODEL[,+FEATURE,-FEATURE]", "CPU model (-cpu help lists them)", set_cpu },
    { "smp", "[cpus=]N[,maxcpus=N][,sockets=N][,dies=N][,cores=N][,threads=N]", "number of CPUs and their topology",
      set_smp, .params = smp_params },
    { "m", "[size=]MEGS[,slots=N,maxmem=SIZE]", "RAM; in MiB without a suffix", set_memory, .params = memory_params },
    { "device", "DRIVER[,PROP=VALUE]...", "add a device (-device help, -device DRIVER,help)", set_device },
    { "global", "DRIVER.PROP=VALUE", "change a property's default", set_global, .params = global_params },
    { "object", "TYPE,id=ID[,PROP=VALUE]...", "add an object: RAM, I/O thread, secret (-object help)", set_object,
      .params = object_params },
    { "name", "NAME[,process=NAME][,debug-threads=on]", "name of the machine", set_name, .params = name_params },
    { "uuid", "UUID", "UUID of the machine", set_uuid },
    { "smbios", "type=N[,FIELD=VALUE]...", "fields of the SMBIOS tables", set_smbios },
    { "fw_cfg", "[name=]NAME,file=PATH|string=TEXT", "a file for the guest's firmware", set_fw_cfg,
      .params = fw_cfg_params },
    { "rtc", "[base=utc|localtime|DATE][,clock=host|vm]", "the machine's clock", set_rtc, .params = rtc_params },
    { "action", "reboot|shutdown|panic|watchdog=ACTION", "what such an event does", set_action,
      .params = action_params },
    { "watchdog-action", "ACTION", "as -action watchdog=ACTION", set_watchdog_action },
    { "no-reboot", NULL, "end instead of rebooting", set_no_reboot },
    { "no-shutdown", NULL, "stay, paused, when the guest powers off", set_no_shutdown },
    { "mem-path", "PATH", "RAM from a file or a directory of huge pages", set_mem_path },
    { "mem-prealloc", NULL, "touch all RAM at start", set_mem_prealloc },
    { "nodefaults", NULL, "no default devices", set_nodefaults },
    { "no-user-config", NULL, "read no configuration files (none are read)", set_nothing },
    { "no-hpet", NULL, NULL, set_no_hpet },
    { "no-acpi", NULL, NULL, set_no_acpi },
    { "no-fd-bootchk", NULL, NULL, set_nothing },
    NO("numa", "ARG", "this build has no NUMA topology yet", "leave it out: the machine is one node"),
    NO("tpmdev", "ARG", "this build has no TPM yet", "leave -tpmdev and its device out"),
    NO("fsdev", "ARG", "this build has no 9p file sharing yet", "share files over the network for now"),
    NO("virtfs", "ARG", "this build has no 9p file sharing yet", "share files over the network for now"),
    NO("usb", NULL, "this build has no USB yet", "leave it out"),
    NO("usbdevice", "ARG", "this build has no USB yet", "leave it out"),
    NO("watchdog", "MODEL", "this build has no watchdog device yet", "leave it out"),
    NO("icount", "ARG", "this build does not count instructions yet", "leave it out"),
    NO("acpitable", "ARG", "this build takes no further ACPI tables yet", "leave it out"),

    HEAD("Boot"),
    { "kernel", "FILE", "boot this Linux kernel, without firmware", set_kernel },
    { "initrd", "FILE", "its initial RAM disk", set_initrd },
    { "append", "TEXT", "its command line", set_append },
    { "dtb", "FILE", "device tree (boards that have one)", set_dtb },
    { "bios", "FILE", "firmware", set_bios },
    { "L", "DIR", "look for firmware there", set_firmware_path },
    { "boot", "[order=]DRIVES[,once=DRIVES][,menu=on][,strict=on]", "order of boot devices", set_boot,
      .params = boot_params },
    { "snapshot", NULL, "write to temporary files, not to the images", set_snapshot },
    { "S", NULL, "do not start the CPUs (monitor command: cont)", set_paused },
    NO("loadvm", "NAME", "this build has no snapshots of machines yet", "start without it"),
    NO("incoming", "URI", "this build has no migration yet", "start without it"),
    NO("preconfig", NULL, "this build has no state before the machine is made", "use -S"),
    NO("only-migratable", NULL, "this build has no migration yet", "leave it out"),

    HEAD("Disks"),
    { "drive", "file=PATH[,if=TYPE][,format=FORMAT][,PROP=VALUE]...", "a disk image and where it is seen", set_drive,
      .params = drive_params },
    { "blockdev", "DRIVER,node-name=NAME[,PROP=VALUE]...", "a block node (for -device ...,drive=NAME)", set_blockdev },
    { "hda", "FILE", "image of the first hard disk", set_hda },
    { "hdb", "FILE", "second", set_hdb },
    { "hdc", "FILE", "third", set_hdc },
    { "hdd", "FILE", "fourth", set_hdd },
    { "cdrom", "FILE", "image in the CD-ROM drive", set_cdrom },
    { "fda", "FILE", "image in the first floppy drive", set_fda },
    { "fdb", "FILE", "in the second", set_fdb },
    { "pflash", "FILE", "image of the flash with the firmware", set_pflash },
    NO("mtdblock", "FILE", "this build has no such flash", "use -drive if=pflash"),
    NO("sd", "FILE", "this build has no SD cards yet", "use -drive if=virtio"),

    HEAD("Network"),
    { "netdev", "user,id=ID[,hostfwd=RULE]...", "the host's end of a network (-netdev help)", set_netdev },
    { "nic", "user|none[,model=DEVICE][,mac=MAC]...", "a network card and its host end in one", set_nic },
    { "net", "nic|user|none[,PROP=VALUE]...", "the old spelling of -nic", set_net },

    HEAD("Character devices and monitors"),
    { "chardev", "BACKEND,id=ID[,PROP=VALUE]...", "a character device (-chardev help)", set_chardev,
      .params = chardev_params },
    { "serial", "DEV", "where a serial port leads: stdio, mon:stdio, pty, file:PATH, unix:PATH,server=on, none",
      set_serial },
    { "parallel", "DEV", "where a parallel port leads (none)", set_parallel },
    { "monitor", "DEV", "where the monitor for people is", set_monitor },
    { "qmp", "DEV", "where the monitor for programs is, as unix:PATH,server=on,wait=off", set_qmp },
    { "qmp-pretty", "DEV", "the same with indented replies", set_qmp_pretty },
    { "mon", "[chardev=]ID[,mode=readline|control]", "a monitor on a character device", set_mon,
      .params = mon_params },
    { "echr", "N", "escape character of the terminal, instead of Ctrl-a", set_echr },

    HEAD("Display"),
    { "nographic", NULL, "serial console and monitor on the terminal (Ctrl-a h for help)", set_nographic },
    { "display", "none", "kind of display", set_display },
    { "vga", "none|std", "graphics card", set_vga },
    NO("k", "LANGUAGE", "this build has no display, and no keyboard to lay out", "leave it out"),
    { "audiodev", "none,id=ID", "audio back end", set_audiodev },
    NO("vnc", "ARG", "this build has no VNC server yet", NO_DISPLAY),
    NO("spice", "ARG", "this build has no SPICE server yet", NO_DISPLAY),
    NO("curses", NULL, "this build has no display yet", NO_DISPLAY),
    NO("sdl", NULL, "this build has no display yet", NO_DISPLAY),
    NO("gtk", NULL, "this build has no display yet", NO_DISPLAY),
    NO("full-screen", NULL, "this build has no display yet", NO_DISPLAY),

    HEAD("Debugging"),
    { "d", "CATEGORY[,CATEGORY]...", "log these (-d help lists them)", set_log },
    { "D", "FILE", "log to this file, not to the terminal", set_log_file },
    { "dfilter", "RANGE[,RANGE]...", "log only these guest addresses (START..END, START+SIZE)", set_log_filter },
    { "trace", "help", "trace points", set_trace },
    { "semihosting", NULL, "let programs in the guest use the host's files and console", set_semihosting },
    { "semihosting-config", "[enable=]on|off[,target=native|auto][,chardev=ID][,userspace=on|off][,arg=WORD]...",
      "the same, with its settings", set_semihosting, .params = semihosting_params },
    NO("s", NULL, "this build has no gdb stub yet", "use -d in_asm,cpu and the monitor's info registers, x/i"),
    NO("gdb", "DEV", "this build has no gdb stub yet", "use -d in_asm,cpu and the monitor's info registers, x/i"),
    NO("plugin", "FILE", "this build has no plugins yet", "leave it out"),

    HEAD("Process"),
    { "daemonize", NULL, "go to the background once the machine is made", set_daemonize },
    { "pidfile", "FILE", "write the process id there", set_pidfile },
    { "msg", "timestamp=on", "how messages look", set_msg, .params = msg_params },
    { "overcommit", "mem-lock=on|off,cpu-pm=on|off", "host resources", set_overcommit, .params = overcommit_params },
    { "sandbox", "on[,obsolete=deny][,elevateprivileges=deny][,spawn=deny][,resourcecontrol=deny]",
      "refuse system calls that an emulator does not need", set_sandbox, .params = sandbox_params },
    { "runas", "USER", "give up root's rights and be this user", set_runas },
    { "chroot", "DIR", "give up the file system but this directory", set_chroot },
    { "readconfig", "FILE", "read options from a file", set_readconfig },
    { "add-fd", "fd=N,set=N[,opaque=TEXT]", "let /dev/fdset/N name an inherited descriptor", set_add_fd,
      .params = add_fd_params },
    { "compat", "deprecated-input=accept", "what to do about interfaces that will go (this build has none)", set_compat,
      .params = compat_params },
    NO("writeconfig", "FILE", "this build does not write configurations", "keep the command line"),

    HEAD("Information"),
    { "explain", NULL, "print the machine these options make, and end", set_explain },
    { "version", NULL, "print the version", set_version },
    { "help", NULL, "print this", set_help },
    SAME("h", "help"),
    { 0 }
};
