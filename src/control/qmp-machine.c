/* QMP: the machine as a whole, its CPUs and memory. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "control/control-state.h"
#include "control/hmp.h"
#include "control/qmp-schema.h"
#include "rhea/base/options.h"
#include "rhea/control/cmdline.h"
#include "rhea/vm/object.h"
#include "rhea/vm/pci.h"
#include "rhea/vm/qom.h"

static void put(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, json_object_new_string(value));
}

static void put_int(struct json_object *o, const char *key, int64_t value)
{
    json_object_object_add(o, key, json_object_new_int64(value));
}

static void put_bool(struct json_object *o, const char *key, bool value)
{
    json_object_object_add(o, key, json_object_new_boolean(value));
}

/* ---- run state */

bool qmp_query_status(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = json_object_new_object();
    put(*ret, "status", run_state_name(vm->state));
    put_bool(*ret, "running", vm_running(vm));
    return true;
}

bool qmp_stop(struct vm *vm, struct error *err)
{
    vm_stop(vm, RUN_PAUSED);
    return true;
}

bool qmp_cont(struct vm *vm, struct error *err)
{
    return vm_start(vm, err);
}

bool qmp_quit(struct vm *vm, struct error *err)
{
    vm_request_stop(vm, STOP_HOST_QUIT, 0);
    return true;
}

bool qmp_system_reset(struct vm *vm, struct error *err)
{
    vm_request_reset(vm, RESET_COLD);
    return true;
}

bool qmp_system_powerdown(struct vm *vm, struct error *err)
{
    vm_request_powerdown(vm);
    return true;
}

bool qmp_system_wakeup(struct vm *vm, struct error *err)
{
    return error_set(err, ERR_GENERIC, "Unable to wake up: guest is not in suspended state",
                     "this build has no suspend to RAM yet");
}

static void raise_nmi(struct vcpu *v, void *arg)
{
    v->vm->guest->nmi(v->cpu);
}

bool qmp_inject_nmi(struct vm *vm, struct error *err)
{
    if (!vm->nvcpus || !vm->guest->nmi)
        return error_set(err, ERR_GENERIC, "this machine has no non-maskable interrupt", NULL);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        vcpu_queue(vm->vcpus[i], raise_nmi, NULL);
    return true;
}

bool qmp_set_action(struct vm *vm, const struct set_action_args *args, struct error *err)
{
    static const char *const reboot[] = { "reset", "shutdown" }, *const shutdown[] = { "poweroff", "pause" },
                      *const panic[] = { "pause", "shutdown", "exit-failure", "none" },
                      *const watchdog[] = { "reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi" };

    if (args->has_reboot)
        vm->config.action_reboot = reboot[args->reboot];
    if (args->has_shutdown)
        vm->config.action_shutdown = shutdown[args->shutdown];
    if (args->has_panic)
        vm->config.action_panic = panic[args->panic];
    if (args->has_watchdog)
        vm->config.action_watchdog = watchdog[args->watchdog];
    return true;
}

bool qmp_watchdog_set_action(struct vm *vm, const struct watchdog_set_action_args *args, struct error *err)
{
    struct set_action_args a = { .has_watchdog = true, .watchdog = args->action };

    return qmp_set_action(vm, &a, err);
}

/* ---- what it is */

bool qmp_query_target(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = json_object_new_object();
    put(*ret, "arch", vm->guest->name);
    return true;
}

bool qmp_query_name(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = json_object_new_object();
    if (vm->config.name)
        put(*ret, "name", vm->config.name);
    return true;
}

bool qmp_query_uuid(struct vm *vm, struct json_object **ret, struct error *err)
{
    const uint8_t *u = vm->uuid;
    g_autofree char *text = g_strdup_printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0],
                                            u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
                                            u[13], u[14], u[15]);

    *ret = json_object_new_object();
    put(*ret, "UUID", text);
    return true;
}

bool qmp_query_kvm(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = json_object_new_object();
    put_bool(*ret, "enabled", vm->accel && !strcmp(vm->accel->name, "kvm"));
    put_bool(*ret, "present", accel_find("kvm"));
    return true;
}

bool qmp_query_current_machine(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = json_object_new_object();
    put_bool(*ret, "wakeup-suspend-support", false);
    return true;
}

bool qmp_query_command_line_options(struct vm *vm, const struct query_command_line_options_args *args,
                                    struct json_object **ret, struct error *err)
{
    *ret = cmdline_query_options(args->has_option ? args->option : NULL, err);
    return *ret;
}

static char *cpu_type(const char *model, const char *guest)
{
    return g_strdup_printf("%.*s-%s-cpu", (int)strcspn(model, ","), model, guest);
}

static struct json_object *machine_info(const struct board *b, const struct guest *g)
{
    struct json_object *o = json_object_new_object();

    put(o, "name", b->name);
    if (b->alias)
        put(o, "alias", b->alias);
    if (b->is_default)
        put_bool(o, "is-default", true);
    put_int(o, "cpu-max", b->max_cpus ? b->max_cpus : 1);
    put_bool(o, "hotpluggable-cpus", b->hotpluggable_cpus);
    put_bool(o, "numa-mem-supported", false);
    put_bool(o, "deprecated", b->deprecated);
    put_bool(o, "acpi", strcmp(b->name, "none"));
    if (b->default_cpu) {
        g_autofree char *type = cpu_type(b->default_cpu, g->name);

        put(o, "default-cpu-type", type);
    }
    if (b->default_ram_id)
        put(o, "default-ram-id", b->default_ram_id);
    return o;
}

bool qmp_query_machines(struct vm *vm, const struct query_machines_args *args, struct json_object **ret,
                        struct error *err)
{
    unsigned n;
    const struct board *const *all = boards(&n);

    *ret = json_object_new_array();
    for (unsigned i = 0; i < n; i++)
        if (board_find(all[i]->name, vm->guest->name) == all[i])
            json_object_array_add(*ret, machine_info(all[i], vm->guest));
    return true;
}

/* ---- CPUs */

static struct json_object *cpu_place(const struct vm_config *c, unsigned index)
{
    struct json_object *o = json_object_new_object();
    unsigned threads = MAX(c->threads, 1), cores = MAX(c->cores, 1), dies = MAX(c->dies, 1);

    put_int(o, "core-id", index / threads % cores);
    put_int(o, "thread-id", index % threads);
    put_int(o, "die-id", index / threads / cores % dies);
    put_int(o, "socket-id", index / threads / cores / dies);
    return o;
}

bool qmp_query_cpus_fast(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = json_object_new_array();
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        struct vcpu *v = vm->vcpus[i];
        struct json_object *o = json_object_new_object();
        g_autofree char *path = qom_cpu_path(v);

        put_int(o, "cpu-index", v->index);
        put(o, "qom-path", path);
        put_int(o, "thread-id", v->tid ? v->tid : getpid());
        json_object_object_add(o, "props", cpu_place(&vm->config, i));
        put(o, "target", vm->guest->name);
        json_object_array_add(*ret, o);
    }
    return true;
}

bool qmp_query_hotpluggable_cpus(struct vm *vm, struct json_object **ret, struct error *err)
{
    const char *model = vm->config.cpu ? vm->config.cpu : vm->board->default_cpu;
    g_autofree char *type = NULL;

    if (!vm->board->hotpluggable_cpus)
        return error_set(err, ERR_GENERIC, "The feature 'query-hotpluggable-cpus' is not enabled",
                         "this machine's CPUs cannot be hot-plugged");
    type = cpu_type(model ? model : vm->guest->default_model, vm->guest->name);
    *ret = json_object_new_array();
    for (unsigned i = vm->config.max_cpus; i-- > 0;) {
        struct json_object *o = json_object_new_object();

        json_object_object_add(o, "props", cpu_place(&vm->config, i));
        put_int(o, "vcpus-count", 1);
        if (i < vm->nvcpus) {
            g_autofree char *path = qom_cpu_path(vm->vcpus[i]);

            put(o, "qom-path", path);
        }
        put(o, "type", type);
        json_object_array_add(*ret, o);
    }
    return true;
}

bool qmp_query_cpu_definitions(struct vm *vm, struct json_object **ret, struct error *err)
{
    unsigned n = 0;
    const struct cpu_model *models = vm->guest->models ? vm->guest->models(&n) : NULL;

    *ret = json_object_new_array();
    for (unsigned i = 0; i < n; i++) {
        struct json_object *o = json_object_new_object();
        g_autofree char *type = cpu_type(models[i].name, vm->guest->name);

        put(o, "name", models[i].name);
        put(o, "typename", type);
        json_object_object_add(o, "unavailable-features", json_object_new_array());
        put_bool(o, "migration-safe", strcmp(models[i].name, "max"));
        put_bool(o, "static", false);
        if (models[i].alias_of)
            put(o, "alias-of", models[i].alias_of);
        put_bool(o, "deprecated", models[i].deprecated);
        json_object_array_add(*ret, o);
    }
    return true;
}

/* {"name": "max", "props": {"avx2": false}} -> "max,avx2=off"; only bools, numbers and strings are features */
static char *model_spec(struct json_object *model, const char *name)
{
    GString *spec = g_string_new(name);
    struct json_object *props;

    if (!json_object_object_get_ex(model, "props", &props) || !json_object_is_type(props, json_type_object))
        return g_string_free(spec, false);
    json_object_object_foreach(props, key, value) {
        if (!strcmp(key, "migratable") || !strcmp(key, "hv-passthrough"))
            continue;                   /* every feature of the translator is migratable; there are no hv- ones */
        if (json_object_is_type(value, json_type_boolean))
            g_string_append_printf(spec, ",%s=%s", key, json_object_get_boolean(value) ? "on" : "off");
        else
            g_string_append_printf(spec, ",%s=%s", key, json_object_get_string(value));
    }
    return g_string_free(spec, false);
}

bool qmp_query_cpu_model_expansion(struct vm *vm, const struct query_cpu_model_expansion_args *args,
                                   struct json_object **ret, struct error *err)
{
    const struct guest *g = vm->guest;
    const char *name = option_str(args->model, "name", "");
    g_autofree char *spec = model_spec(args->model, name);
    const struct cpu_feature *features;
    struct json_object *model, *props;
    struct cpu *cpu;
    unsigned n;

    if (!g->cpu_has)
        return error_set(err, ERR_GENERIC, "the models of this guest cannot be expanded", NULL);
    cpu = g_malloc0(g->cpu_size);
    cpu->guest = g;
    if (!g->cpu_init(cpu, vm, spec, err)) {
        g_free(cpu);
        return false;
    }
    model = json_object_new_object();
    props = json_object_new_object();
    features = g->features(&n);
    for (unsigned i = 0; i < n; i++)
        put_bool(props, features[i].name, g->cpu_has(cpu, &features[i]));
    if (g->cpu_free)
        g->cpu_free(cpu);
    g_free(cpu);
    put(model, "name", args->type == Q_CPUMODELEXPANSIONTYPE_STATIC ? "base" : name);
    json_object_object_add(model, "props", props);
    *ret = json_object_new_object();
    json_object_object_add(*ret, "model", model);
    return true;
}

/* ---- memory */

bool qmp_query_memory_size_summary(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = json_object_new_object();
    put_int(*ret, "base-memory", vm->config.ram_size);
    put_int(*ret, "plugged-memory", 0);
    return true;
}

bool qmp_query_memory_devices(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = json_object_new_array();
    return true;
}

static struct device *find_balloon(struct vm *vm, struct error *err)
{
    struct device *d = device_find_class(vm, "virtio-balloon-device", NULL);

    if (!d)
        error_set(err, ERR_DEVICE_NOT_ACTIVE, "No balloon device has been activated",
                  "start with -device virtio-balloon-pci, or hot-plug one");
    return d;
}

bool qmp_balloon(struct vm *vm, const struct balloon_args *args, struct error *err)
{
    struct device *d = find_balloon(vm, err);
    struct json_object *v;
    bool ok;

    if (!d)
        return false;
    if (!args->value)
        return error_set(err, ERR_GENERIC, "Parameter 'value' expects a size", "the guest needs some memory");
    v = json_object_new_uint64(args->value);
    ok = qom_set(vm, d->path, "target", v, err);
    json_object_put(v);
    return ok;
}

bool qmp_query_balloon(struct vm *vm, struct json_object **ret, struct error *err)
{
    struct device *d = find_balloon(vm, err);
    struct json_object *actual = d ? qom_get(vm, d->path, "actual", err) : NULL;

    if (!actual)
        return false;
    *ret = json_object_new_object();
    json_object_object_add(*ret, "actual", actual);
    return true;
}

/* A range of guest memory to a file, in pieces. */
static bool save_range(struct vm *vm, struct vcpu *v, uint64_t addr, uint64_t size, const char *path,
                       struct error *err)
{
    g_autofree uint8_t *buf = g_malloc(1 << 16);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool ok = true;

    if (fd < 0)
        return error_set_errno(err, errno, "check the path and its rights", "%s", path);
    while (ok && size) {
        size_t n = MIN(size, 1 << 16);

        if (!guest_memory_read(vm, v, addr, buf, n))
            ok = error_setf(err, ERR_GENERIC, NULL, "Invalid addr 0x%016" PRIx64 "/size %zu specified", addr, n);
        else if (write(fd, buf, n) != (ssize_t)n)
            ok = error_set_errno(err, errno, "is there room for it?", "%s", path);
        addr += n;
        size -= n;
    }
    close(fd);
    return ok;
}

bool qmp_memsave(struct vm *vm, const struct memsave_args *args, struct error *err)
{
    int64_t cpu = args->has_cpu_index ? args->cpu_index : 0;

    if (cpu < 0 || cpu >= (int64_t)vm->nvcpus)
        return error_set(err, ERR_GENERIC, "Parameter 'cpu-index' expects a CPU number", "query-cpus-fast lists them");
    return save_range(vm, vm->vcpus[cpu], args->val, args->size, args->filename, err);
}

bool qmp_pmemsave(struct vm *vm, const struct pmemsave_args *args, struct error *err)
{
    return save_range(vm, NULL, args->val, args->size, args->filename, err);
}

/* ---- threads, translator, what is not there yet */

static int64_t iothread_option(struct object *obj, const char *name)
{
    int64_t v;

    return option_int(obj->opts, name, strcmp(name, "poll-max-ns") ? 0 : LOOP_POLL_MAX_NS, &v, NULL) ? v : 0;
}

bool qmp_query_iothreads(struct vm *vm, struct json_object **ret, struct error *err)
{
    static const char *const tunables[] = { "poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch" };
    GHashTableIter it;
    void *value;

    *ret = json_object_new_array();
    if (!vm->objects)
        return true;
    g_hash_table_iter_init(&it, vm->objects);
    while (g_hash_table_iter_next(&it, NULL, &value)) {
        struct object *obj = value;
        struct json_object *o;

        if (strcmp(obj->cls->name, "iothread"))
            continue;
        o = json_object_new_object();
        put(o, "id", obj->id);
        put_int(o, "thread-id", loop_thread_id(iothread_loop(obj)));
        for (unsigned i = 0; i < G_N_ELEMENTS(tunables); i++)
            put_int(o, tunables[i], iothread_option(obj, tunables[i]));
        json_object_array_add(*ret, o);
    }
    return true;
}

bool qmp_x_query_jit(struct vm *vm, struct json_object **ret, struct error *err)
{
    g_autofree char *text = vm->accel && vm->accel->info ? vm->accel->info(vm) : NULL;

    if (!text)
        return error_set(err, ERR_GENERIC, "this machine does not run under the translator", "start with -accel jit");
    *ret = json_object_new_object();
    put(*ret, "human-readable-text", text);
    return true;
}

bool qmp_query_pci(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = pci_query(vm);
    return *ret || error_set(err, ERR_GENERIC, "this machine has no PCI", NULL);
}

bool qmp_query_migrate_capabilities(struct vm *vm, struct json_object **ret, struct error *err)
{
    struct json_object *o = json_object_new_object();

    put(o, "capability", "events");
    put_bool(o, "state", control_state(vm)->migration_events);
    *ret = json_object_new_array();
    json_object_array_add(*ret, o);
    return true;
}

bool qmp_migrate_set_capabilities(struct vm *vm, const struct migrate_set_capabilities_args *args, struct error *err)
{
    for (size_t i = 0; i < json_object_array_length(args->capabilities); i++) {
        struct json_object *state;

        json_object_object_get_ex(json_object_array_get_idx(args->capabilities, i), "state", &state);
        control_state(vm)->migration_events = json_object_get_boolean(state);
    }
    return true;
}

#define EMPTY_LIST(fn) \
    bool fn(struct vm *vm, struct json_object **ret, struct error *err) \
    { \
        *ret = json_object_new_array(); \
        return true; \
    }
EMPTY_LIST(qmp_query_tpm_models)
EMPTY_LIST(qmp_query_tpm_types)
