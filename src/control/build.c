/* From the parsed command line to a machine: back ends, board, devices, monitors, in this order. */
#include <stdio.h>
#include <string.h>
#include "cmdline-internal.h"
#include "rhea/base/options.h"
#include "rhea/block/block.h"
#include "rhea/chardev/chardev.h"
#include "rhea/device/semihosting.h"
#include "rhea/vm/fds.h"
#include "rhea/control/monitor.h"
#include "rhea/net/net.h"
#include "rhea/vm/object.h"
#include "rhea/vm/semihosting.h"

typedef bool add_fn(struct vm *vm, struct json_object *opts, struct error *err);

static bool add_each(struct vm *vm, struct json_object *array, const char *option, add_fn *add, struct error *err)
{
    for (size_t i = 0; i < json_object_array_length(array); i++) {
        struct json_object *o = json_object_array_get_idx(array, i);

        if (!add(vm, o, err)) {
            const char *id = option_str(o, "id", option_str(o, "node-name", NULL));

            if (id && error_is_set(err) && !strstr(err->msg, id))
                error_prepend(err, "-%s %s", option, id);
            else
                error_prepend(err, "-%s", option);
            return false;
        }
    }
    return true;
}

static bool add_fd(struct vm *vm, struct json_object *o, struct error *err)
{
    int64_t fd, set;

    return option_int(o, "fd", -1, &fd, err) && option_int(o, "set", -1, &set, err) &&
           fdset_add(vm, fd, set, option_str(o, "opaque", NULL), NULL, err);
}

/* Secrets first: a disk or a socket may need them. */
static bool add_objects(struct vm *vm, struct json_object *objects, struct error *err)
{
    struct json_object *ordered = json_object_new_array();
    bool ok;

    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < json_object_array_length(objects); i++) {
            struct json_object *o = json_object_array_get_idx(objects, i);

            if (!strcmp(option_str(o, "qom-type", ""), "secret") == !pass)
                json_object_array_add(ordered, json_object_get(o));
        }
    }
    ok = add_each(vm, ordered, "object", object_add, err);
    json_object_put(ordered);
    return ok;
}

/* A serial port's or monitor's short form; with "mon:" the monitor shares it. *id NULL: none was asked for. */
static bool short_form(struct cmdline *c, struct vm *vm, const char *option, const char *spec, const char *label,
                       char **id, struct error *err)
{
    bool monitor = false;

    *id = chardev_from_short(vm, spec, label, &monitor, err);
    if (!*id) {
        error_prepend(err, "-%s %s", option, spec);
        return false;
    }
    if (!**id)
        g_clear_pointer(id, g_free);
    if (*id && monitor) {
        struct json_object *o = json_object_new_object();

        json_object_object_add(o, "chardev", json_object_new_string(*id));
        json_object_object_add(o, "mode", json_object_new_string("readline"));
        json_object_array_add(c->monitors, o);
    }
    return true;
}

static bool add_serials(struct cmdline *c, struct vm *vm, struct error *err)
{
    struct json_object *ids = vm->config.serials;

    for (size_t i = 0; i < json_object_array_length(c->serials); i++) {
        const char *spec = json_object_get_string(json_object_array_get_idx(c->serials, i));
        g_autofree char *label = g_strdup_printf("serial%zu", i), *id = NULL;

        if (!short_form(c, vm, "serial", spec, label, &id, err))
            return false;
        json_object_array_add(ids, id ? json_object_new_string(id) : NULL);
    }
    return true;
}

static bool add_monitor_chardevs(struct cmdline *c, struct vm *vm, struct error *err)
{
    unsigned n = 0;

    for (size_t i = 0; i < json_object_array_length(c->monitors); i++) {
        struct json_object *o = json_object_array_get_idx(c->monitors, i);
        const char *spec = option_str(o, "spec", NULL);
        bool control = !strcmp(option_str(o, "mode", "readline"), "control");
        g_autofree char *label = g_strdup_printf("compat_monitor%u", n), *id = NULL;

        if (!spec)
            continue;
        n++;
        if (!short_form(c, vm, control ? "qmp" : "monitor", spec, label, &id, err))
            return false;
        if (id)
            json_object_object_add(o, "chardev", json_object_new_string(id));
    }
    return true;
}

static bool add_semihosting(struct cmdline *c, struct vm *vm, struct error *err)
{
    if (!c->semihosting || semihosting_create(vm, c->semihosting, !c->sandbox, err))
        return true;
    error_prepend(err, "-semihosting-config");
    return false;
}

static bool make_backends(struct vm *vm, void *opaque, struct error *err)
{
    struct cmdline *c = opaque;

    if (c->snapshot) {
        for (size_t i = 0; i < json_object_array_length(c->drives); i++) {
            struct json_object *o = json_object_array_get_idx(c->drives, i);

            if (!json_object_object_get_ex(o, "snapshot", NULL))
                json_object_object_add(o, "snapshot", json_object_new_string("on"));
        }
    }
    return add_each(vm, c->fds, "add-fd", add_fd, err) && add_objects(vm, c->objects, err) &&
           add_each(vm, c->chardevs, "chardev", chardev_add, err) && add_serials(c, vm, err) &&
           add_monitor_chardevs(c, vm, err) && add_semihosting(c, vm, err) &&
           add_each(vm, c->blockdevs, "blockdev", block_add_node, err) &&
           add_each(vm, c->drives, "drive", block_add_drive, err) &&
           add_each(vm, c->netdevs, "netdev", netdev_add, err);
}

/* ---- devices */

/* virtio devices go on PCI where there is PCI, else on one of the board's virtio-mmio slots. */
static const char *virtio_driver(struct vm *vm, const char *pci, const char *mmio)
{
    return bus_find(vm, "PCI") ? pci : mmio;
}

struct drive_device { struct error *err; bool ok; };

static void add_virtio_drive(struct vm *vm, const char *drive, struct json_object *opts, void *opaque)
{
    struct drive_device *d = opaque;
    struct json_object *o;
    const char *serial = option_str(opts, "serial", NULL), *addr = option_str(opts, "addr", NULL);

    if (!d->ok)
        return;
    o = json_object_new_object();
    json_object_object_add(o, "driver", json_object_new_string(virtio_driver(vm, "virtio-blk-pci",
                                                                             "virtio-blk-device")));
    json_object_object_add(o, "drive", json_object_new_string(drive));
    if (serial)
        json_object_object_add(o, "serial", json_object_new_string(serial));
    if (addr)
        json_object_object_add(o, "addr", json_object_new_string(addr));
    d->ok = device_create(vm, o, false, d->err);
    if (!d->ok)
        error_prepend(d->err, "drive %s", drive);
    json_object_put(o);
}

static bool add_nics(struct vm *vm, struct error *err)
{
    for (size_t i = 0; i < json_object_array_length(vm->config.nics); i++) {
        struct json_object *o = json_object_array_get_idx(vm->config.nics, i);

        if (!device_class_find(option_str(o, "driver", "")) && !json_object_object_get_ex(o, "driver", NULL))
            json_object_object_add(o, "driver", json_object_new_string(
                                   virtio_driver(vm, "virtio-net-pci", "virtio-net-device")));
        if (!device_create(vm, o, false, err)) {
            error_prepend(err, "network card %zu", i);
            return false;
        }
    }
    return true;
}

/* Drives that nobody took: the board has no controller of that kind. */
struct orphan_search { const char *what, *mend; struct json_object *disks; struct error *err; bool ok; };

static void check_orphan(struct vm *vm, const char *drive, struct json_object *opts, void *opaque)
{
    struct orphan_search *s = opaque;

    for (size_t i = 0; s->ok && i < json_object_array_length(s->disks); i++) {
        struct json_object *o = json_object_array_get_idx(s->disks, i);

        if (!strcmp(option_str(o, "device", ""), drive) && !option_str(o, "qdev", NULL))
            s->ok = error_setf(s->err, ERR_GENERIC, s->mend,
                               "drive %s (%s): this machine has no %s in this build", drive,
                               option_str(opts, "file", "no image"), s->what);
    }
}

static bool check_drives(struct vm *vm, struct error *err)
{
    static const char virtio[] = "write -drive file=PATH,if=virtio, which Linux guests know";
    static const struct { enum block_if iface; const char *what, *mend; } kinds[] = {
        { IF_IDE, "IDE or SATA controller", virtio }, { IF_SCSI, "SCSI controller", virtio },
        { IF_FLOPPY, "floppy controller", virtio }, { IF_PFLASH, "flash", "give the firmware with -bios FILE" },
        { IF_MTD, "flash", virtio }, { IF_SD, "SD card slot", virtio }, { IF_XEN, "Xen disks", virtio },
    };
    struct orphan_search s = { .disks = block_query(vm), .err = err, .ok = true };

    for (unsigned i = 0; s.ok && i < G_N_ELEMENTS(kinds); i++) {
        s.what = kinds[i].what;
        s.mend = kinds[i].mend;
        block_foreach_drive(vm, kinds[i].iface, check_orphan, &s);
    }
    json_object_put(s.disks);
    return s.ok;
}

static bool add_device(struct vm *vm, struct json_object *o, struct error *err)
{
    return device_create(vm, o, false, err);
}

static bool make_devices(struct vm *vm, void *opaque, struct error *err)
{
    struct cmdline *c = opaque;
    struct drive_device d = { err, true };

    if (!add_nics(vm, err))
        return false;
    block_foreach_drive(vm, IF_VIRTIO, add_virtio_drive, &d);
    return d.ok && check_drives(vm, err) && add_each(vm, c->devices, "device", add_device, err);
}

static bool add_monitors(struct cmdline *c, struct vm *vm, struct error *err)
{
    for (size_t i = 0; i < json_object_array_length(c->monitors); i++) {
        struct json_object *o = json_object_array_get_idx(c->monitors, i);
        const char *id = option_str(o, "chardev", NULL);
        bool pretty;

        if (!id)
            continue;
        if (!option_bool(o, "pretty", false, &pretty, err) ||
            !monitor_add(vm, id, !strcmp(option_str(o, "mode", "readline"), "control"), pretty, err)) {
            error_prepend(err, "monitor on %s", id);
            return false;
        }
    }
    return true;
}

static void free_backends(struct vm *vm, void *opaque)
{
    block_flush_all(vm);
    monitor_cleanup(vm);
    net_cleanup(vm);
    if (vm->semihosting)
        vm->semihosting->free(vm->semihosting);
    vm->semihosting = NULL;
    block_close_all(vm);
    chardev_cleanup(vm);
    object_cleanup(vm);
    vm_fds_cleanup(vm);
}

struct vm *cmdline_make_vm(struct cmdline *c, struct loop *loop, struct error *err)
{
    struct vm *vm;

    c->config.make_backends = make_backends;
    c->config.make_devices = make_devices;
    c->config.free_backends = free_backends;
    c->config.flush_disks = block_flush_all;
    c->config.opaque = c;
    vm = vm_create(&c->config, loop, err);
    if (!vm)
        return NULL;
    if (!c->explain && ((c->made && !c->made(vm, c->made_arg, err)) || !add_monitors(c, vm, err))) {
        vm_destroy(vm);
        return NULL;
    }
    return vm;
}

/* ---- --explain */

static void explain_array(GString *out, const char *title, struct json_object *array, const char *first)
{
    for (size_t i = 0; i < json_object_array_length(array); i++) {
        struct json_object *o = json_object_array_get_idx(array, i);
        const char *what = option_str(o, first, "");

        g_string_append_printf(out, "%-12s %s", title, what);
        json_object_object_foreach(o, key, value)
            if (strcmp(key, first) != 0)
                g_string_append_printf(out, " %s=%s", key, json_object_get_string(value));
        g_string_append_c(out, '\n');
    }
}

/* Every bus with what is plugged into it: address, kind, what the user said. */
static void explain_buses(GString *out, struct vm *vm)
{
    for (struct bus *b = vm->buses; b; b = b->next) {
        if (!b->devices->len)
            continue;
        g_string_append_printf(out, "bus          %s (%s)\n", b->name, b->cls->name);
        for (unsigned i = 0; i < b->devices->len; i++) {
            struct device *d = b->devices->pdata[i];
            g_autofree char *addr = device_prop_find(d->cls, "addr") ? device_get(d, "addr", NULL) : NULL;

            g_string_append_printf(out, "             %-6s %s", addr ? addr : "", d->cls->name);
            if (d->opts) {
                json_object_object_foreach(d->opts, key, value)
                    if (strcmp(key, "driver") && strcmp(key, "addr"))
                        g_string_append_printf(out, " %s=%s", key, json_object_get_string(value));
            }
            g_string_append_c(out, '\n');
        }
    }
}

char *cmdline_explain(struct cmdline *c, struct vm *vm)
{
    const struct vm_config *cfg = &vm->config;
    GString *out = g_string_new(NULL);

    g_string_append_printf(out, "%-12s %s (%s), guest %s\n", "machine", vm->board->name, vm->board->summary,
                           vm->guest->name);
    for (size_t i = 0; i < json_object_array_length(cfg->accel); i++)
        g_string_append_printf(out, "%-12s %s\n", i ? "" : "accelerator",
                               option_str(json_object_array_get_idx(cfg->accel, i), "accel", ""));
    if (vm->nvcpus)
        g_string_append_printf(out, "%-12s %u x %s (sockets %u, dies %u, cores %u, threads %u; at most %u)\n", "CPUs",
                               cfg->cpus, cfg->cpu ? cfg->cpu : vm->board->default_cpu, cfg->sockets, cfg->dies,
                               cfg->cores, cfg->threads, cfg->max_cpus);
    g_string_append_printf(out, "%-12s %" PRIu64 " MiB%s%s\n", "RAM", cfg->ram_size >> 20,
                           cfg->memory_backend ? " from object " : "",
                           cfg->memory_backend ? cfg->memory_backend : "");
    if (cfg->kernel)
        g_string_append_printf(out, "%-12s %s%s%s\n", "kernel", cfg->kernel, cfg->initrd ? ", initrd " : "",
                               cfg->initrd ? cfg->initrd : "");
    if (cfg->append)
        g_string_append_printf(out, "%-12s %s\n", "kernel line", cfg->append);
    if (cfg->bios)
        g_string_append_printf(out, "%-12s %s\n", "firmware", cfg->bios);
    explain_array(out, "object", c->objects, "qom-type");
    explain_array(out, "blockdev", c->blockdevs, "driver");
    explain_array(out, "disk", c->drives, "file");
    explain_array(out, "network", c->netdevs, "type");
    explain_array(out, "card", cfg->nics, "driver");
    explain_array(out, "chardev", c->chardevs, "backend");
    for (size_t i = 0; i < json_object_array_length(c->serials); i++)
        g_string_append_printf(out, "serial port  %s\n",
                               json_object_get_string(json_object_array_get_idx(c->serials, i)));
    for (size_t i = 0; i < json_object_array_length(c->monitors); i++) {
        struct json_object *o = json_object_array_get_idx(c->monitors, i);

        g_string_append_printf(out, "%-12s %s on %s\n", "monitor",
                               strcmp(option_str(o, "mode", "readline"), "control") ? "for people" : "QMP",
                               option_str(o, "spec", option_str(o, "chardev", "")));
    }
    explain_array(out, "device", c->devices, "driver");
    explain_buses(out, vm);
    return g_string_free(out, false);
}
