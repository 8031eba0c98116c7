/* The machine: making it, running it, stopping it, and what its guest or its user ask for. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <glib.h>
#include "rhea/base/options.h"
#include "rhea/vm/object.h"
#include "rhea/vm/vm.h"
#include "vm_internal.h"

static const char *const run_state_names[] = {
    [RUN_PRELAUNCH] = "prelaunch", [RUN_RUNNING] = "running", [RUN_PAUSED] = "paused", [RUN_SHUTDOWN] = "shutdown",
    [RUN_INTERNAL_ERROR] = "internal-error", [RUN_IO_ERROR] = "io-error", [RUN_GUEST_PANICKED] = "guest-panicked",
    [RUN_WATCHDOG] = "watchdog", [RUN_SAVE_VM] = "save-vm", [RUN_RESTORE_VM] = "restore-vm", [RUN_INMIGRATE] = "inmigrate",
    [RUN_POSTMIGRATE] = "postmigrate", [RUN_DEBUG] = "debug", [RUN_SUSPENDED] = "suspended",
};

const char *run_state_name(enum run_state s)
{
    return (unsigned)s < G_N_ELEMENTS(run_state_names) ? run_state_names[s] : "internal-error";
}

/* ---- boards and accelerators, from the linker's sections */

extern const struct board *const __start_rhea_boards[] __attribute__((weak));
extern const struct board *const __stop_rhea_boards[] __attribute__((weak));
extern const struct accel *const __start_rhea_accels[] __attribute__((weak));
extern const struct accel *const __stop_rhea_accels[] __attribute__((weak));

const struct board *const *boards(unsigned *count)
{
    *count = (unsigned)(__stop_rhea_boards - __start_rhea_boards);
    return __start_rhea_boards;
}

static bool board_takes(const struct board *b, const char *guest)
{
    g_auto(GStrv) all = b->guest ? g_strsplit(b->guest, ",", -1) : NULL;

    return !guest || !all || g_strv_contains((const char *const *)all, guest);
}

/* name NULL: the default board of that guest. */
const struct board *board_find(const char *name, const char *guest)
{
    unsigned n;
    const struct board *const *b = boards(&n);

    for (unsigned i = 0; i < n; i++) {
        bool match = name ? strcmp(b[i]->name, name) == 0 || (b[i]->alias && strcmp(b[i]->alias, name) == 0) : b[i]->is_default;

        if (match && board_takes(b[i], guest))
            return b[i];
    }
    return NULL;
}

const struct accel *const *accels(unsigned *count)
{
    *count = (unsigned)(__stop_rhea_accels - __start_rhea_accels);
    return __start_rhea_accels;
}

const struct accel *accel_find(const char *name)
{
    unsigned n;
    const struct accel *const *a = accels(&n);

    for (unsigned i = 0; i < n; i++)
        if (strcmp(a[i]->name, name) == 0 || (a[i]->alias && strcmp(a[i]->alias, name) == 0))
            return a[i];
    return NULL;
}

/* ---- events */

struct listener { vm_event_fn *fn; void *opaque; };

void vm_listen(struct vm *vm, vm_event_fn *fn, void *opaque)
{
    struct listener l = { fn, opaque };

    pthread_mutex_lock(&vm->lock);
    g_array_append_val(vm->listeners, l);
    pthread_mutex_unlock(&vm->lock);
}

void vm_unlisten(struct vm *vm, vm_event_fn *fn, void *opaque)
{
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->listeners->len; i++) {
        struct listener *l = &g_array_index(vm->listeners, struct listener, i);

        if (l->fn == fn && l->opaque == opaque) {
            g_array_remove_index(vm->listeners, i);
            break;
        }
    }
    pthread_mutex_unlock(&vm->lock);
}

void vm_event(struct vm *vm, const char *name, struct json_object *data)
{
    g_autoptr(GArray) copy = g_array_new(FALSE, FALSE, sizeof(struct listener));

    /* Listeners run without the lock: one may take itself off the list. */
    pthread_mutex_lock(&vm->lock);
    g_array_append_vals(copy, vm->listeners->data, vm->listeners->len);
    pthread_mutex_unlock(&vm->lock);
    for (unsigned i = 0; i < copy->len; i++) {
        struct listener *l = &g_array_index(copy, struct listener, i);

        l->fn(l->opaque, name, data);
    }
    if (data)
        json_object_put(data);
}

static struct json_object *cause_data(bool guest, const char *reason)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "guest", json_object_new_boolean(guest));
    json_object_object_add(o, "reason", json_object_new_string(reason));
    return o;
}

/* ---- notifiers */

void vm_powerdown_notifier(struct vm *vm, void (*fn)(void *opaque), void *opaque)
{
    struct powerdown p = { fn, opaque };

    g_array_append_val(vm->priv->powerdown, p);
}

void vm_state_notifier(struct vm *vm, void (*fn)(void *opaque, bool running), void *opaque)
{
    struct state_watch w = { fn, opaque };

    g_array_append_val(vm->priv->state_watches, w);
}

void vm_state_unnotify(struct vm *vm, void (*fn)(void *opaque, bool running), void *opaque)
{
    GArray *a = vm->priv->state_watches;

    for (unsigned i = 0; i < a->len; i++) {
        struct state_watch *w = &g_array_index(a, struct state_watch, i);

        if (w->fn == fn && w->opaque == opaque) {
            g_array_remove_index(a, i);
            return;
        }
    }
}

static void state_notify(struct vm *vm, bool running)
{
    GArray *a = vm->priv->state_watches;

    for (unsigned i = 0; i < a->len; i++) {
        struct state_watch w = g_array_index(a, struct state_watch, i);

        w.fn(w.opaque, running);
    }
}

/* ---- running */

bool vm_running(const struct vm *vm)
{
    return vm->state == RUN_RUNNING;
}

bool vm_start(struct vm *vm, struct error *err)
{
    if (vm->state == RUN_RUNNING)
        return true;
    if (vm->quitting)
        return error_set(err, ERR_GENERIC, "the machine is being shut down", NULL);
    if (vm->state == RUN_INMIGRATE)
        return error_set(err, ERR_MIGRATION_EXPECTED, "an incoming migration is expected before this command can be executed",
                         "use 'migrate_incoming' first");
    if (vm->state == RUN_GUEST_PANICKED || vm->state == RUN_SHUTDOWN || vm->state == RUN_INTERNAL_ERROR)
        return error_set(err, ERR_GENERIC, "Resetting the Virtual Machine is required", "use system_reset first");
    if (!vcpus_start(vm, err))
        return false;
    vm->state = RUN_RUNNING;
    vm_clock_run(vm, true);
    state_notify(vm, true);
    vm_event(vm, "RESUME", NULL);
    vcpus_resume(vm);
    return true;
}

void vm_stop(struct vm *vm, enum run_state why)
{
    if (vm->state != RUN_RUNNING) {
        /* A machine that is stopped anyway may get a stronger reason. */
        if (why != RUN_PAUSED)
            vm->state = why;
        return;
    }
    vcpus_pause(vm);
    vm_clock_run(vm, false);
    vm->state = why;
    state_notify(vm, false);
    vm_event(vm, "STOP", NULL);
}

void vm_quit(struct vm *vm, int exit_code)
{
    vm->exit_code = exit_code;
    vm->quitting = true;
    loop_quit(vm->loop);
}

/* ---- reset */

static void cpus_reset(struct vm *vm)
{
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        struct vcpu *v = vm->vcpus[i];

        if (vm->guest && vm->guest->cpu_reset)
            vm->guest->cpu_reset(v->cpu);
        v->halted = false;
    }
}

static void machine_reset(struct vm *vm, enum reset_kind kind)
{
    cpus_reset(vm);
    device_reset_tree(vm, kind);
    if (vm->board->reset)
        vm->board->reset(vm);
}

void vm_reset(struct vm *vm, enum reset_kind kind, bool guest, const char *reason)
{
    bool running = vm->state == RUN_RUNNING;

    if (running)
        vcpus_pause(vm);
    machine_reset(vm, kind);
    vm_event(vm, "RESET", cause_data(guest, reason));
    if (running)
        vcpus_resume(vm);
    else if (vm->state != RUN_PRELAUNCH && vm->state != RUN_INMIGRATE)
        vm->state = RUN_PAUSED;
}

/* ---- requests: noted by whoever has them, carried out on the main loop */

static bool action_is(const char *action, const char *what)
{
    return action && strcmp(action, what) == 0;
}

static void do_shutdown(struct vm *vm, bool guest, const char *reason, int code)
{
    bool pause = guest && (vm->config.no_shutdown || action_is(vm->config.action_shutdown, "pause"));

    vm_event(vm, "SHUTDOWN", cause_data(guest, reason));
    if (pause) {
        vm_stop(vm, RUN_SHUTDOWN);
    } else {
        if (vm->state == RUN_RUNNING) {
            vcpus_pause(vm);
            vm_clock_run(vm, false);
            vm->state = RUN_SHUTDOWN;
        }
        vm_quit(vm, code);
    }
}

static const struct { const char *reason; bool guest; } stop_reasons[] = {
    [STOP_HOST_QUIT] = { "host-qmp-quit", false }, [STOP_HOST_SIGNAL] = { "host-signal", false },
    [STOP_HOST_UI] = { "host-ui", false }, [STOP_GUEST_SHUTDOWN] = { "guest-shutdown", true },
    [STOP_GUEST_RESET] = { "guest-reset", true }, [STOP_GUEST_PANIC] = { "guest-panic", true },
};

static void do_panic(struct vm *vm, const char *how)
{
    const char *action = vm->config.action_panic ? vm->config.action_panic : "shutdown";
    struct json_object *data = json_object_new_object();
    bool pause = action_is(action, "pause");

    json_object_object_add(data, "action", json_object_new_string(pause ? "pause" : action_is(action, "none") ? "run" : "poweroff"));
    if (how)
        json_object_object_add(data, "info", json_object_new_string(how));
    vm_event(vm, "GUEST_PANICKED", data);
    if (pause || (vm->config.no_shutdown && action_is(action, "shutdown")))
        vm_stop(vm, RUN_GUEST_PANICKED);
    else if (action_is(action, "shutdown"))
        do_shutdown(vm, true, "guest-panic", 0);
    else if (action_is(action, "exit-failure"))
        do_shutdown(vm, true, "guest-panic", EXIT_FAILURE);
}

static void do_powerdown(struct vm *vm)
{
    GArray *a = vm->priv->powerdown;

    vm_event(vm, "POWERDOWN", NULL);
    for (unsigned i = 0; i < a->len; i++) {
        struct powerdown p = g_array_index(a, struct powerdown, i);

        p.fn(p.opaque);
    }
}

static void requests_run(void *arg)
{
    struct vm *vm = arg;
    struct vm_private *p = vm->priv;
    struct requests r;

    pthread_mutex_lock(&vm->lock);
    r = p->requests;
    p->requests = (struct requests){ 0 };
    pthread_mutex_unlock(&vm->lock);

    if (r.panic)
        do_panic(vm, r.panic_how);
    g_free(r.panic_how);
    if (r.stop) {
        do_shutdown(vm, stop_reasons[r.stop_reason].guest, stop_reasons[r.stop_reason].reason, r.exit_code);
    } else if (r.reset && !vm->quitting) {
        bool guest = r.reset_kind == RESET_GUEST;

        if (guest && (vm->config.no_reboot || action_is(vm->config.action_reboot, "shutdown")))
            do_shutdown(vm, true, "guest-reset", 0);
        else
            vm_reset(vm, r.reset_kind, guest, guest ? "guest-reset" : "host-qmp-system-reset");
    } else if (vm->state == RUN_RUNNING) {
        /* vcpu_request_pause() may have parked one for a request that came to nothing. */
        vcpus_resume(vm);
    }
    if (r.powerdown)
        do_powerdown(vm);
}

/* Under vm->lock: the first of several requests posts the work. */
static void requests_post(struct vm *vm)
{
    if (!vm->priv->requests.posted) {
        vm->priv->requests.posted = true;
        loop_post(vm->loop, requests_run, vm);
    }
}

void vm_request_stop(struct vm *vm, enum stop_reason why, int exit_code)
{
    pthread_mutex_lock(&vm->lock);
    if (!vm->priv->requests.stop) {
        vm->priv->requests.stop = true;
        vm->priv->requests.stop_reason = why;
        vm->priv->requests.exit_code = exit_code;
    }
    requests_post(vm);
    pthread_mutex_unlock(&vm->lock);
    vcpu_request_pause(vcpu_current());
}

void vm_request_reset(struct vm *vm, enum reset_kind kind)
{
    pthread_mutex_lock(&vm->lock);
    vm->priv->requests.reset = true;
    vm->priv->requests.reset_kind = kind;
    requests_post(vm);
    pthread_mutex_unlock(&vm->lock);
    vcpu_request_pause(vcpu_current());
}

void vm_request_powerdown(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->priv->requests.powerdown = true;
    requests_post(vm);
    pthread_mutex_unlock(&vm->lock);
}

void vm_request_panic(struct vm *vm, const char *how)
{
    pthread_mutex_lock(&vm->lock);
    if (!vm->priv->requests.panic) {
        vm->priv->requests.panic = true;
        vm->priv->requests.panic_how = g_strdup(how);
    }
    requests_post(vm);
    pthread_mutex_unlock(&vm->lock);
    vcpu_request_pause(vcpu_current());
}

/* ---- making */

static bool choose_board(struct vm *vm, struct error *err)
{
    const char *name = vm->config.machine;
    g_autoptr(GPtrArray) names = NULL;
    g_autofree char *hint = NULL;
    unsigned n;
    const struct board *const *b;
    const char *near;

    vm->board = board_find(name, vm->config.guest);
    if (vm->board)
        return true;
    if (!name)
        return error_set(err, ERR_GENERIC, "No machine specified, and there is no default", "use -machine help to list what there is");
    names = g_ptr_array_new();
    b = boards(&n);
    for (unsigned i = 0; i < n; i++) {
        if (!board_takes(b[i], vm->config.guest))
            continue;
        g_ptr_array_add(names, (char *)b[i]->name);
        if (b[i]->alias)
            g_ptr_array_add(names, (char *)b[i]->alias);
    }
    g_ptr_array_add(names, NULL);
    near = nearest_spelling(name, (const char *const *)names->pdata);
    hint = near ? g_strdup_printf("did you mean '%s'? -machine help lists all", near) : g_strdup("use -machine help to list what there is");
    return error_setf(err, ERR_GENERIC, hint, "unsupported machine type: \"%s\"", name);
}

static struct json_object *accel_opts(struct vm *vm, size_t i)
{
    struct json_object *a = vm->config.accel;

    return a && json_object_is_type(a, json_type_array) && i < json_object_array_length(a) ? json_object_array_get_idx(a, i) : NULL;
}

static bool try_accel(struct vm *vm, const char *name, struct json_object *opts, struct error *err)
{
    const struct accel *a = accel_find(name);

    if (!a)
        return error_setf(err, ERR_GENERIC, "use -accel help to list what there is", "invalid accelerator %s", name);
    vm->accel = a;
    if (!a->init || a->init(vm, opts, err))
        return true;
    vm->accel = NULL;
    return false;
}

/* The accelerators of -accel in their order; none given: the first that works of those in this build. */
static bool choose_accel(struct vm *vm, struct error *err)
{
    size_t n = vm->config.accel ? json_object_array_length(vm->config.accel) : 0;
    const struct accel *const *all;
    unsigned count;

    for (size_t i = 0; i < n; i++) {
        struct json_object *o = accel_opts(vm, i);
        const char *name = option_str(o, "accel", "");
        struct error e = ERROR_INIT;

        if (try_accel(vm, name, o, &e)) {
            return true;
        } else if (i + 1 == n) {
            error_move(err, &e);
            return false;
        }
        warn_report("accelerator %s: %s; trying the next", name, e.msg);
        error_clear(&e);
    }
    if (accel_find("jit"))
        return try_accel(vm, "jit", NULL, err);
    all = accels(&count);
    for (unsigned i = 0; i < count; i++)
        if (try_accel(vm, all[i]->name, NULL, i + 1 == count ? err : NULL))
            return true;
    return true;        /* a build without accelerators makes machines that cannot run */
}

static void config_copy(struct vm *vm, const struct vm_config *config)
{
    struct vm_config *c = &vm->config;

    *c = *config;
    if (c->cpus == 0)
        c->cpus = 1;
    if (c->max_cpus < c->cpus)
        c->max_cpus = c->cpus;
    if (c->sockets == 0)
        c->sockets = c->cores || c->threads ? 1 : c->max_cpus;
    if (c->dies == 0)
        c->dies = 1;
    if (c->clusters == 0)
        c->clusters = 1;
    if (c->cores == 0)
        c->cores = MAX(1u, c->max_cpus / MAX(1u, c->sockets * c->dies * MAX(1u, c->threads)));
    if (c->threads == 0)
        c->threads = MAX(1u, c->max_cpus / MAX(1u, c->sockets * c->dies * c->cores));
}

static bool uuid_parse(const char *text, uint8_t out[16])
{
    unsigned n = 0;

    for (const char *s = text; *s; s++) {
        if (*s == '-')
            continue;
        if (n >= 32 || !g_ascii_isxdigit(*s))
            return false;
        out[n / 2] = (uint8_t)(out[n / 2] << 4 | g_ascii_xdigit_value(*s));
        n++;
    }
    return n == 32;
}

static bool config_check(struct vm *vm, struct error *err)
{
    struct vm_config *c = &vm->config;

    if (vm->board->max_cpus && c->max_cpus > vm->board->max_cpus) {
        g_autofree char *hint = g_strdup_printf("use at most -smp %u", vm->board->max_cpus);

        return error_setf(err, ERR_GENERIC, hint, "Invalid SMP CPUs %u. The max CPUs supported by machine '%s' is %u",
                          c->max_cpus, vm->board->name, vm->board->max_cpus);
    }
    if (c->ram_size == 0)
        c->ram_size = vm->board->default_ram ? vm->board->default_ram : (uint64_t)128 << 20;
    if (c->uuid && !uuid_parse(c->uuid, vm->uuid))
        return error_setf(err, ERR_GENERIC, "write it as 12345678-9abc-def0-1234-56789abcdef0", "'%s' is no UUID", c->uuid);
    return true;
}

static bool vm_build(struct vm *vm, struct error *err)
{
    const struct vm_config *c = &vm->config;

    if (c->guest && !vm->guest)
        return error_setf(err, ERR_GENERIC, NULL, "this build cannot run '%s' guests", c->guest);
    if (!choose_board(vm, err) || !config_check(vm, err) || !vm_clock_init(vm, err))
        return false;
    if (vm->board->data_size)
        vm->board_data = g_malloc0(vm->board->data_size);
    if (!board_props_apply(vm, err) || !choose_accel(vm, err))
        return false;
    if (c->make_backends && !c->make_backends(vm, c->opaque, err))
        return false;
    if (vm->board->init && !vm->board->init(vm, err))
        return false;
    if (c->make_devices && !c->make_devices(vm, c->opaque, err))
        return false;
    if (vm->board->done && !vm->board->done(vm, err))
        return false;
    machine_reset(vm, RESET_COLD);
    return true;
}

struct vm *vm_create(const struct vm_config *config, struct loop *loop, struct error *err)
{
    struct vm *vm = g_new0(struct vm, 1);

    vm->loop = loop;
    config_copy(vm, config);
    pthread_mutex_init(&vm->lock, NULL);
    vm->listeners = g_array_new(FALSE, FALSE, sizeof(struct listener));
    vm->priv = vm_private_new();
    vm->state = RUN_PRELAUNCH;
    vm->guest = config->guest ? guest_find(config->guest) : NULL;
    mem_state_init(vm);
    if (!vm_build(vm, err)) {
        vm_destroy(vm);
        return NULL;
    }
    return vm;
}

static void nothing(void *arg)
{
}

/* What was posted for a machine must not find it gone. */
static void settle(struct loop *loop)
{
    if (loop_current() != loop && loop_thread_id(loop))
        loop_call(loop, nothing, NULL);
    else
        for (int i = 0; i < 1000 && loop_step(loop, false); i++)
            ;
}

void vm_destroy(struct vm *vm)
{
    if (!vm)
        return;
    vm->quitting = true;
    vcpus_stop(vm);
    while (vm->devices) {
        struct device *last = vm->devices;

        while (last->next)
            last = last->next;
        while (last->parent)
            last = last->parent;
        device_remove(last);
    }
    vcpus_free(vm);
    while (vm->buses)
        bus_free(vm->buses);
    if (vm->board && vm->board->free && (vm->board_data || !vm->board->data_size))   /* else it never got as far */
        vm->board->free(vm);
    if (vm->config.free_backends)
        vm->config.free_backends(vm, vm->config.opaque);
    if (vm->accel && vm->accel->exit)
        vm->accel->exit(vm);
    vm->accel = NULL;
    board_props_free(vm);
    g_free(vm->board_data);
    settle(vm->loop);
    mem_state_free(vm);
    vm_clock_free(vm);
    vm_private_free(vm->priv);
    g_array_free(vm->listeners, TRUE);
    pthread_mutex_destroy(&vm->lock);
    g_free(vm);
}
