/* Monitors: sessions on character devices, and the machine's events on their way to them. */
#include <string.h>
#include "control/monitor-internal.h"

/* ---- output */

static void monitor_flush(void *opaque)
{
    struct monitor *mon = opaque;
    size_t n = chardev_write(mon->fe, mon->out->str, mon->out->len);

    g_string_erase(mon->out, 0, n);
    if (mon->out->len < MONITOR_OUT_STALL)
        chardev_accept_input(mon->fe);
}

void monitor_put(struct monitor *mon, const char *text, size_t len)
{
    bool idle = !mon->out->len;

    g_string_append_len(mon->out, text, len);
    if (idle)
        monitor_flush(mon);
}

/* ---- events. Guests cause some of them: those come at most once a second, the last one counts (QMP's habit). */

enum { EVENT_RATE_NS = 1000 * 1000 * 1000 };
static const struct { const char *name, *key; } limited[] = {
    { "BALLOON_CHANGE", NULL }, { "RTC_CHANGE", NULL }, { "WATCHDOG", NULL }, { "VSERPORT_CHANGE", "id" },
    { "MEMORY_DEVICE_SIZE_CHANGE", "qom-path" }, { "NIC_RX_FILTER_CHANGED", "path" },
};

struct event { struct vm *vm; char *name; struct json_object *data; };
/* The last event of a limited kind: `waiting` is sent when the timer fires */
struct event_limit { struct vm *vm; char *name; struct loop_timer *timer; bool armed; struct json_object *waiting;
                     bool has_waiting; };

static void limit_free(void *opaque)
{
    struct event_limit *l = opaque;

    loop_timer_free(l->timer);
    json_object_put(l->waiting);
    g_free(l->name);
    g_free(l);
}

static void limit_expired(void *opaque)
{
    struct event_limit *l = opaque;
    struct json_object *data = l->waiting;

    l->armed = l->has_waiting;
    if (!l->has_waiting)
        return;
    l->waiting = NULL;
    l->has_waiting = false;
    qmp_event(l->vm->control, l->name, data);
    json_object_put(data);
    loop_timer_set(l->timer, host_clock_ns() + EVENT_RATE_NS);
}

/* true: not now, it is kept for later */
static bool event_limited(struct vm *vm, const char *name, struct json_object *data)
{
    g_autofree char *key = NULL;
    struct json_object *v = NULL;
    struct event_limit *l;
    unsigned i = 0;

    while (i < G_N_ELEMENTS(limited) && strcmp(limited[i].name, name) != 0)
        i++;
    if (i == G_N_ELEMENTS(limited))
        return false;
    if (limited[i].key && data)
        json_object_object_get_ex(data, limited[i].key, &v);
    key = g_strdup_printf("%s %s", name, v ? json_object_get_string(v) : "");
    l = g_hash_table_lookup(vm->control->limits, key);
    if (!l) {
        l = g_new0(struct event_limit, 1);
        l->vm = vm;
        l->name = g_strdup(name);
        l->timer = loop_timer_new(vm->loop, limit_expired, l);
        g_hash_table_insert(vm->control->limits, g_steal_pointer(&key), l);
    }
    if (l->armed) {
        json_object_put(l->waiting);
        l->waiting = json_object_get(data);
        l->has_waiting = true;
        return true;
    }
    l->armed = true;
    loop_timer_set(l->timer, host_clock_ns() + EVENT_RATE_NS);
    return false;
}

static void event_deliver(struct vm *vm, const char *name, struct json_object *data)
{
    if (vm->control && !event_limited(vm, name, data))
        qmp_event(vm->control, name, data);
}

static void event_posted(void *opaque)
{
    struct event *e = opaque;

    event_deliver(e->vm, e->name, e->data);
    json_object_put(e->data);
    g_free(e->name);
    g_free(e);
}

/* Any thread. json-c counts references without atomics, so another thread's data is copied. */
static void event_seen(void *opaque, const char *name, struct json_object *data)
{
    struct vm *vm = opaque;
    struct event *e;

    if (loop_current() == vm->loop) {
        event_deliver(vm, name, data);
        return;
    }
    e = g_new0(struct event, 1);
    e->vm = vm;
    e->name = g_strdup(name);
    if (data)
        json_object_deep_copy(data, &e->data, NULL);
    loop_post(vm->loop, event_posted, e);
}

/* ---- sessions */

bool monitor_add(struct vm *vm, const char *chardev, bool control, bool pretty, struct error *err)
{
    struct control_state *c = control_state(vm);
    struct monitor *mon = g_new0(struct monitor, 1);

    mon->vm = vm;
    mon->control = control;
    mon->pretty = pretty;
    mon->out = g_string_new(NULL);
    mon->in = g_string_new(NULL);
    mon->fe = chardev_attach(vm, chardev, control ? &qmp_ops : &hmp_ops, mon, vm->loop, err);
    if (!mon->fe) {
        g_string_free(mon->out, true);
        g_string_free(mon->in, true);
        g_free(mon);
        return false;
    }
    chardev_on_writable(mon->fe, monitor_flush, mon);
    chardev_set_open(mon->fe, true);
    g_ptr_array_add(c->monitors, mon);
    if (!c->limits) {
        c->limits = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, limit_free);
        vm_listen(vm, event_seen, vm);
    }
    return true;
}

void monitor_cleanup(struct vm *vm)
{
    struct control_state *c = vm->control;

    if (!c)
        return;
    if (c->limits) {
        vm_unlisten(vm, event_seen, vm);
        g_clear_pointer(&c->limits, g_hash_table_destroy);
    }
    for (unsigned i = 0; i < c->monitors->len; i++) {
        struct monitor *mon = c->monitors->pdata[i];

        monitor_flush(mon);
        chardev_detach(mon->fe);
        hmp_session_free(mon);
        g_string_free(mon->out, true);
        g_string_free(mon->in, true);
        g_free(mon);
    }
    g_ptr_array_set_size(c->monitors, 0);
}
