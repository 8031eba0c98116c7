/* What the command line left out, and what only the whole shows: machine, accelerator, topology, default devices. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cmdline-internal.h"
#include "rhea/base/options.h"

/* ---- CPUs: what is missing in sockets x dies x clusters x cores x threads follows from the rest; cores first */

bool cmdline_smp(struct cmdline *c, struct error *err)
{
    static const struct { const char *name; unsigned max; } levels[] = {
        { "cpus", 4096 }, { "maxcpus", 4096 }, { "sockets", 4096 }, { "dies", 4096 }, { "clusters", 4096 },
        { "cores", 4096 }, { "threads", 4096 }, { "modules", 1 }, { "drawers", 1 }, { "books", 1 },
    };
    enum { CPUS, MAXCPUS, SOCKETS, DIES, CLUSTERS, CORES, THREADS, COUNT = 10 };
    struct vm_config *cfg = &c->config;
    int64_t v[COUNT];
    uint64_t others;

    for (unsigned i = 0; i < COUNT; i++) {
        if (!option_int(c->cpu_topology, levels[i].name, 0, &v[i], err))
            return false;
        if (v[i] < 0 || v[i] > levels[i].max ||
            (!v[i] && json_object_object_get_ex(c->cpu_topology, levels[i].name, NULL)))
            return error_setf(err, ERR_GENERIC, NULL, "%s must be from 1 to %u", levels[i].name, levels[i].max);
    }
    v[DIES] = v[DIES] ? v[DIES] : 1;
    v[CLUSTERS] = v[CLUSTERS] ? v[CLUSTERS] : 1;
    int64_t max = v[MAXCPUS] ? v[MAXCPUS] : v[CPUS];

    others = v[DIES] * v[CLUSTERS];
    if (!max) {                         /* only the topology is given */
        v[SOCKETS] = v[SOCKETS] ? v[SOCKETS] : 1;
        v[CORES] = v[CORES] ? v[CORES] : 1;
        v[THREADS] = v[THREADS] ? v[THREADS] : 1;
        max = v[SOCKETS] * others * v[CORES] * v[THREADS];
    } else if (!v[CORES]) {
        v[SOCKETS] = v[SOCKETS] ? v[SOCKETS] : 1;
        v[THREADS] = v[THREADS] ? v[THREADS] : 1;
        v[CORES] = max / (v[SOCKETS] * others * v[THREADS]);
    } else if (!v[SOCKETS]) {
        v[THREADS] = v[THREADS] ? v[THREADS] : 1;
        v[SOCKETS] = max / (others * v[CORES] * v[THREADS]);
    } else if (!v[THREADS]) {
        v[THREADS] = max / (v[SOCKETS] * others * v[CORES]);
    }
    uint64_t product = v[SOCKETS] * others * v[CORES] * v[THREADS];

    if (product > 4096 || (int64_t)product != max)
        return error_setf(err, ERR_GENERIC, "their product must be maxcpus (or cpus)",
                          "sockets (%d) * dies (%d) * clusters (%d) * cores (%d) * threads (%d) is not %d CPUs",
                          (int)v[SOCKETS], (int)v[DIES], (int)v[CLUSTERS], (int)v[CORES], (int)v[THREADS], (int)max);
    v[CPUS] = v[CPUS] ? v[CPUS] : max;
    if (v[CPUS] > max)
        return error_setf(err, ERR_GENERIC, "make maxcpus larger", "%d CPUs are more than maxcpus=%d", (int)v[CPUS],
                          (int)max);
    cfg->cpus = v[CPUS];
    cfg->max_cpus = max;
    cfg->sockets = v[SOCKETS];
    cfg->dies = v[DIES];
    cfg->clusters = v[CLUSTERS];
    cfg->cores = v[CORES];
    cfg->threads = v[THREADS];
    return true;
}

/* ---- machine */

static const char *nearest_board(const char *name)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    unsigned n;
    const struct board *const *all = boards(&n);

    for (unsigned i = 0; i < n; i++) {
        g_ptr_array_add(names, (void *)all[i]->name);
        if (all[i]->alias)
            g_ptr_array_add(names, (void *)all[i]->alias);
    }
    g_ptr_array_add(names, NULL);
    return nearest_spelling(name, (const char *const *)names->pdata);
}

/* Older versions of a machine stand for the present one until versions differ: pc-q35-7.2 -> pc-q35. */
static const struct board *board_by_version(const char *name, const char *guest)
{
    static const struct { const char *prefix, *board; } families[] = {
        { "pc-q35-", "q35" }, { "pc-i440fx-", "pc" },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(families); i++)
        if (g_str_has_prefix(name, families[i].prefix))
            return board_find(families[i].board, guest);
    return NULL;
}

static const struct board *default_board(const char *guest)
{
    static const char *const names[] = { "pc", "q35", "microvm", "virt" };
    const struct board *b;
    unsigned n;
    const struct board *const *all = boards(&n);

    for (unsigned i = 0; i < n; i++)
        if (all[i]->is_default && board_find(all[i]->name, guest) == all[i])
            return all[i];
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
        if ((b = board_find(names[i], guest)))
            return b;
    return NULL;
}

static const struct board *complete_board(struct cmdline *c, struct error *err)
{
    /* rhea DISK, without an old machine's name in the command: the newer PC */
    const char *name = c->config.machine ? c->config.machine
                       : !strcmp(c->program, "rhea") && board_find("q35", c->config.guest) ? "q35" : NULL;
    const char *near;
    const struct board *b = name ? board_find(name, c->config.guest) : default_board(c->config.guest);

    if (!b && name)
        b = board_by_version(name, c->config.guest);
    if (!b && name && !strcmp(name, "pc"))      /* asked for by habit: the newer PC serves */
        b = board_find("q35", c->config.guest);
    if (!b && !name) {
        error_setf(err, ERR_GENERIC, "-machine help lists what there is", "no machine for %s in this build",
                   c->config.guest);
    } else if (!b) {
        g_autofree char *hint = NULL;

        near = nearest_board(name);
        hint = near ? g_strdup_printf("did you mean %s? -machine help lists them", near)
                    : g_strdup("-machine help lists them");
        error_setf(err, ERR_GENERIC, hint, "there is no machine '%s'", name);
    } else {
        c->config.machine = b->name;
    }
    return b;
}

/* Common properties that this build has nothing for. off (or the value that means absent) is no promise broken. */
static const struct { const char *key, *ok, *why; } limits[] = {
    { "usb", "off", "this build has no USB yet" }, { "nvdimm", "off", "this build has no NVDIMM yet" },
    { "hmat", "off", "this build has no NUMA topology yet" },
    { "hpet", "off", "this machine has no HPET" }, { "smm", "off auto", "this machine has no system management mode" },
    { "vmport", "off auto", "this build has no VMware port" },
    { "pflash0", "", "this machine has no flash" }, { "pflash1", "", "this machine has no flash" },
    { "confidential-guest-support", "", "this build cannot protect guests from the host" },
    { "kernel-irqchip", "off", "this build has no KVM" }, { "kernel_irqchip", "off", "this build has no KVM" },
    { "acpi", "on auto", "this machine cannot do without" },
};

bool machine_property_is_void(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(limits); i++)
        if (!strcmp(name, limits[i].key))
            return true;
    return false;
}

static bool check_common_property(const char *key, const char *value, struct error *err)
{

    for (unsigned i = 0; i < G_N_ELEMENTS(limits); i++) {
        g_auto(GStrv) ok = g_strsplit(limits[i].ok, " ", -1);

        if (!strcmp(key, limits[i].key) && !g_strv_contains((const char *const *)ok, value))
            return error_setf(err, ERR_GENERIC, "leave it out, or set it to off", "-machine %s=%s: %s", key, value,
                              limits[i].why);
    }
    return true;
}

static bool check_machine_properties(struct cmdline *c, const struct board *b, struct error *err)
{
    g_autoptr(GArray) params = g_array_new(true, true, sizeof(struct cmdline_param));
    g_autofree char *what = g_strdup_printf("-machine %s", b->alias ? b->alias : b->name);

    for (const struct prop *p = b->props; p && p->name; p++)
        g_array_append_val(params, ((struct cmdline_param){ p->name, "string", p->help }));
    for (const struct cmdline_param *p = machine_common_params; p->name; p++)
        g_array_append_val(params, *p);
    if (!cmdline_check(c->config.machine_opts, (const struct cmdline_param *)params->data, what, err))
        return false;
    /* The board gets what it declares; the rest was checked and has nobody to tell. */
    struct json_object *own = json_object_new_object();
    bool ok = true;

    json_object_object_foreach(c->config.machine_opts, key, value) {
        const struct prop *p = b->props;

        while (p && p->name && strcmp(p->name, key) != 0)
            p++;
        if (p && p->name)
            json_object_object_add(own, key, json_object_get(value));
        else
            ok = ok && check_common_property(key, json_object_get_string(value), err);
    }
    json_object_put(c->config.machine_opts);
    c->config.machine_opts = own;
    return ok;
}

/* ---- accelerators: those of this build, in the user's order */

static bool complete_accels(struct cmdline *c, struct error *err)
{
    struct json_object *have = json_object_new_array();
    bool missing_kvm = false;

    if (!json_object_array_length(c->config.accel)) {
        struct json_object *a = json_object_new_object();

        json_object_object_add(a, "accel", json_object_new_string("jit"));
        json_object_array_add(c->config.accel, a);
    }
    for (size_t i = 0; i < json_object_array_length(c->config.accel); i++) {
        struct json_object *a = json_object_array_get_idx(c->config.accel, i);
        const char *name = option_str(a, "accel", "");

        if (accel_find(name)) {
            json_object_array_add(have, json_object_get(a));
        } else if (!strcmp(name, "kvm")) {
            missing_kvm = true;
        } else {
            g_autoptr(GPtrArray) names = g_ptr_array_new();
            g_autofree char *hint = NULL;
            unsigned n;
            const struct accel *const *all = accels(&n);

            for (unsigned k = 0; k < n; k++) {
                g_ptr_array_add(names, (void *)all[k]->name);
                if (all[k]->alias)
                    g_ptr_array_add(names, (void *)all[k]->alias);
            }
            g_ptr_array_add(names, NULL);
            const char *near = nearest_spelling(name, (const char *const *)names->pdata);

            hint = near ? g_strdup_printf("did you mean %s? -accel help lists them", near)
                        : g_strdup("-accel help lists them");
            json_object_put(have);
            return error_setf(err, ERR_GENERIC, hint, "there is no accelerator '%s'", name);
        }
    }
    json_object_put(c->config.accel);
    c->config.accel = have;
    if (missing_kvm && !json_object_array_length(have))
        return error_set(err, ERR_GENERIC, "this build has no KVM yet",
                         "leave -enable-kvm or accel=kvm out, or write -accel kvm -accel jit: the translator runs "
                         "the guest, slower");
    if (missing_kvm) {
        info_report("this build has no KVM yet: going on with the translator (jit)");
        if (c->config.cpu && (!strcmp(c->config.cpu, "host") || g_str_has_prefix(c->config.cpu, "host,"))) {
            g_autofree char *cpu = g_strdup_printf("max%s", c->config.cpu + strlen("host"));

            c->config.cpu = cmdline_keep(c, cpu);
        }
    }
    return true;
}

static bool check_cpu(struct cmdline *c, const struct guest *g, struct error *err)
{
    g_autofree char *name = c->config.cpu ? g_strndup(c->config.cpu, strcspn(c->config.cpu, ",")) : NULL, *hint = NULL;
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *near;
    unsigned n;
    const struct cpu_model *models;

    if (!name)
        return true;
    models = g->models(&n);
    for (unsigned i = 0; i < n; i++) {
        size_t len = strlen(models[i].name);

        /* libvirt names the type as well: qemu64-x86_64-cpu */
        if (!strcmp(models[i].name, name) || (g_str_has_prefix(name, models[i].name) && name[len] == '-' &&
                                              g_str_has_suffix(name, "-cpu")))
            return true;
        g_ptr_array_add(names, (void *)models[i].name);
    }
    if (!strcmp(name, "host"))
        return error_set(err, ERR_GENERIC, "-cpu host needs KVM, which this build does not have yet",
                         "write -cpu max: all that the translator can do");
    g_ptr_array_add(names, NULL);
    near = nearest_spelling(name, (const char *const *)names->pdata);
    hint = near ? g_strdup_printf("did you mean %s? -cpu help lists them", near) : g_strdup("-cpu help lists them");
    return error_setf(err, ERR_GENERIC, hint, "-cpu %s: there is no such model", name);
}

/* ---- default devices */

static bool is_stdio(const char *spec)
{
    return !strcmp(spec, "stdio") || !strcmp(spec, "mon:stdio") || g_str_has_prefix(spec, "stdio,");
}

bool cmdline_uses_stdio(const struct cmdline *c)
{
    for (size_t i = 0; i < json_object_array_length(c->serials); i++)
        if (is_stdio(json_object_get_string(json_object_array_get_idx(c->serials, i))))
            return true;
    for (size_t i = 0; i < json_object_array_length(c->monitors); i++)
        if (is_stdio(option_str(json_object_array_get_idx(c->monitors, i), "spec", "")))
            return true;
    for (size_t i = 0; i < json_object_array_length(c->chardevs); i++)
        if (!strcmp(option_str(json_object_array_get_idx(c->chardevs, i), "backend", ""), "stdio"))
            return true;
    return false;
}

static bool uses_serial_device(const struct cmdline *c)
{
    static const char *const drivers[] = { "isa-serial", "pci-serial", NULL };

    for (size_t i = 0; i < json_object_array_length(c->devices); i++)
        if (g_strv_contains(drivers, option_str(json_object_array_get_idx(c->devices, i), "driver", "")))
            return true;
    return false;
}

/* The terminal gets the serial console and the monitor, as far as nothing else wants it. With "-display none" said
 * aloud, or in the background, there is no terminal to speak of. */
static void default_terminal(struct cmdline *c)
{
    bool serial = !c->have_serial && !c->config.no_defaults && !uses_serial_device(c);
    bool monitor = !c->have_monitor && !c->config.no_defaults;

    if (!c->nographic && (c->display || c->daemonize || cmdline_uses_stdio(c)))
        return;
    if (serial)
        json_object_array_add(c->serials, json_object_new_string(monitor ? "mon:stdio" : "stdio"));
    else if (monitor && !cmdline_uses_stdio(c)) {
        struct json_object *o = json_object_new_object();

        json_object_object_add(o, "spec", json_object_new_string("stdio"));
        json_object_object_add(o, "mode", json_object_new_string("readline"));
        json_object_array_add(c->monitors, o);
    }
}

/* -nic TYPE,... is a netdev and a card; -net nic and -net user are one each, joined in order. */
static bool complete_nics(struct cmdline *c, const struct board *b, struct error *err)
{
    g_autoptr(GQueue) backends = g_queue_new();
    size_t cards = 0;

    if (!c->no_defaults_net && !c->config.no_defaults && b->default_nic &&
        !json_object_array_length(c->netdevs) && !json_object_array_length(c->nics))
        json_object_array_add(c->nics, options_parse("user", "type", NULL));
    for (size_t i = 0; i < json_object_array_length(c->nics); i++) {
        struct json_object *nic = json_object_array_get_idx(c->nics, i), *netdev, *card = NULL;
        const char *type = option_str(nic, "type", ""), *id;
        bool legacy = json_object_object_get_ex(nic, "legacy", NULL), is_card = legacy && !strcmp(type, "nic");
        g_autofree char *made = g_strdup_printf("#net%zu", i);
        static const struct { const char *from, *to; } card_keys[] = {
            { "model", "driver" }, { "macaddr", "mac" }, { "mac", "mac" }, { "addr", "addr" },
        };

        netdev = is_card ? NULL : json_object_new_object();
        if (is_card || !legacy)
            card = json_object_new_object();
        json_object_object_foreach(nic, key, value) {
            struct json_object *to = netdev;
            const char *name = key;

            for (unsigned k = 0; card && k < G_N_ELEMENTS(card_keys); k++) {
                if (!strcmp(key, card_keys[k].from)) {
                    to = card;
                    name = card_keys[k].to;
                }
            }
            if (to && strcmp(key, "legacy") && !(is_card && !strcmp(key, "type")))
                json_object_object_add(to, name, json_object_get(value));
            else if (is_card && strcmp(key, "type") && strcmp(key, "legacy") && strcmp(key, "netdev"))
                json_object_object_add(card, key, json_object_get(value));
        }
        if (netdev) {
            id = option_str(netdev, "id", NULL);
            if (!id)
                json_object_object_add(netdev, "id", json_object_new_string(made));
            id = option_str(netdev, "id", made);
            json_object_array_add(c->netdevs, netdev);
            g_queue_push_tail(backends, (void *)id);
        }
        if (card) {
            if (!json_object_object_get_ex(card, "driver", NULL) && b->default_nic)
                json_object_object_add(card, "driver", json_object_new_string(b->default_nic));
            json_object_array_add(c->config.nics, card);
        }
    }
    for (; cards < json_object_array_length(c->config.nics); cards++) {
        const char *id = g_queue_pop_head(backends);
        struct json_object *card = json_object_array_get_idx(c->config.nics, cards);

        if (id)
            json_object_object_add(card, "netdev", json_object_new_string(id));
        if (!strcmp(option_str(card, "driver", ""), "virtio"))
            json_object_object_add(card, "driver", json_object_new_string("virtio-net-pci"));
    }
    return true;
}

/* -mem-path and -mem-prealloc make a memory backend that the machine uses. */
/* Under QEMU's names, what scripts rely on; `rhea disk.img` gets what a system of today wants, or half of the host's. */
static uint64_t default_ram(const struct cmdline *c, const struct board *b)
{
    uint64_t ram = b->default_ram ? b->default_ram : 128ull << 20, half;

    if (strcmp(c->program, "rhea") != 0)
        return ram;
    half = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
    return MAX(ram, MIN(2ull << 30, half & ~((128ull << 20) - 1)));
}

static bool complete_memory(struct cmdline *c, const struct board *b, struct error *err)
{
    struct json_object *opts = c->config.machine_opts, *o;
    const char *path = option_str(opts, "mem-path", NULL), *prealloc = option_str(opts, "mem-prealloc", NULL);
    g_autofree char *size = NULL;

    if (!c->config.ram_size)
        c->config.ram_size = default_ram(c, b);
    if (!c->config.ram_max)
        c->config.ram_max = c->config.ram_size;
    if (!path && !prealloc)
        return true;
    if (c->config.memory_backend)
        return error_set(err, ERR_GENERIC, "-mem-path and -machine memory-backend= are both given", "drop one");
    size = g_strdup_printf("%" PRIu64, c->config.ram_size);
    o = json_object_new_object();
    json_object_object_add(o, "qom-type", json_object_new_string(path ? "memory-backend-file" : "memory-backend-ram"));
    json_object_object_add(o, "id", json_object_new_string("mem-path"));
    json_object_object_add(o, "size", json_object_new_string(size));
    if (path)
        json_object_object_add(o, "mem-path", json_object_new_string(path));
    if (prealloc)
        json_object_object_add(o, "prealloc", json_object_new_string("on"));
    json_object_array_add(c->objects, o);
    c->config.memory_backend = "mem-path";
    json_object_object_del(opts, "mem-path");
    json_object_object_del(opts, "mem-prealloc");
    return true;
}

/* -machine graphics=off is -nographic's half without the terminal; libguestfs writes it beside -serial stdio. */
static bool complete_graphics(struct cmdline *c, struct error *err)
{
    bool graphics;

    if (!option_bool(c->config.machine_opts, "graphics", true, &graphics, err))
        return false;
    if (!graphics && !c->display)
        c->nographic = true;
    return true;
}

/* -global of what is not there changes nothing. Clients give it for devices of other builds (kvm-pit): no error. */
static void warn_of_globals(struct cmdline *c)
{
    for (size_t i = 0; i < json_object_array_length(c->config.globals); i++) {
        struct json_object *g = json_object_array_get_idx(c->config.globals, i);
        const char *driver = option_str(g, "driver", "");

        if (!device_class_find(driver) && !device_kind_find(driver))
            warn_report("-global %s.%s: there is no device '%s' in this build, so it changes nothing", driver,
                           option_str(g, "property", ""), driver);
    }
}

/* Room for what can be plugged in later is no use where nothing can. */
static bool check_hotplug(struct cmdline *c, struct error *err)
{
    if (c->config.max_cpus > c->config.cpus)
        return error_setf(err, ERR_GENERIC, "leave maxcpus out, or start all of them",
                          "-smp maxcpus=%u: this build cannot add CPUs to a running machine", c->config.max_cpus);
    if (c->config.ram_max > c->config.ram_size || c->config.ram_slots)
        return error_set(err, ERR_GENERIC, "-m slots, maxmem: this build cannot add memory to a running machine",
                         "leave them out, and give all the memory at once");
    return true;
}

bool cmdline_complete(struct cmdline *c, struct error *err)
{
    const struct guest *g = guest_find(c->config.guest);
    const struct board *b;

    if (!g)
        return error_setf(err, ERR_GENERIC, "the program's name says which: rhea-system-x86_64, rhea-system-aarch64, ...",
                          "%s: this build has no guest '%s'", c->program, c->config.guest);
    if (!c->config.cpus)
        c->config.cpus = c->config.max_cpus = c->config.sockets = c->config.dies = c->config.clusters =
            c->config.cores = c->config.threads = 1;
    b = complete_board(c, err);
    if (!b || !complete_memory(c, b, err) || !complete_graphics(c, err) ||
        !option_bool(c->config.machine_opts, "mem-merge", true, &c->config.mem_merge, err) ||
        !option_bool(c->config.machine_opts, "dump-guest-core", false, &c->config.dump_guest_core, err) ||
        !check_machine_properties(c, b, err) || !complete_accels(c, err))
        return false;
    if (b->max_cpus && c->config.max_cpus > b->max_cpus)
        return error_setf(err, ERR_GENERIC, NULL, "-smp: %s takes at most %u CPUs", b->name, b->max_cpus);
    warn_of_globals(c);
    if (!strcmp(b->name, "none"))
        return true;
    if (!check_hotplug(c, err))
        return false;
    default_terminal(c);
    if (c->daemonize && cmdline_uses_stdio(c))
        return error_set(err, ERR_GENERIC, "-daemonize has no terminal, but stdio is used",
                         "lead the serial port and the monitor elsewhere: -serial file:PATH, -monitor none");
    if (c->config.append && !c->config.kernel)
        return error_set(err, ERR_GENERIC, "-append is only for a kernel", "add -kernel FILE");
    if (c->config.initrd && !c->config.kernel)
        return error_set(err, ERR_GENERIC, "-initrd is only for a kernel", "add -kernel FILE");
    return check_cpu(c, g, err) && complete_nics(c, b, err);
}
