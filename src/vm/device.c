/* Devices: classes, making and removing them, reset. See include/rhea/vm/device.h. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <glib.h>
#include "device_internal.h"
#include "memory_internal.h"
#include "rhea/base/options.h"
#include "rhea/vm/object.h"
#include "rhea/vm/vm.h"

/* ---- classes and kinds, from the linker's sections */

extern const struct device_class *const __start_rhea_devices[] __attribute__((weak));
extern const struct device_class *const __stop_rhea_devices[] __attribute__((weak));
extern const struct device_kind *const __start_rhea_device_kinds[] __attribute__((weak));
extern const struct device_kind *const __stop_rhea_device_kinds[] __attribute__((weak));

const struct device_class *const *device_classes(unsigned *count)
{
    *count = (unsigned)(__stop_rhea_devices - __start_rhea_devices);
    return __start_rhea_devices;
}

const struct device_kind *const *device_kinds(unsigned *count)
{
    *count = (unsigned)(__stop_rhea_device_kinds - __start_rhea_device_kinds);
    return __start_rhea_device_kinds;
}

const struct device_class *device_class_find(const char *name)
{
    unsigned n;
    const struct device_class *const *c = device_classes(&n);

    for (unsigned i = 0; i < n; i++)
        if (strcmp(c[i]->name, name) == 0)
            return c[i];
    for (unsigned i = 0; i < n; i++)
        if (c[i]->alias && strcmp(c[i]->alias, name) == 0)
            return c[i];
    return NULL;
}

const struct device_kind *device_kind_find(const char *name)
{
    unsigned n;
    const struct device_kind *const *k = device_kinds(&n);

    for (unsigned i = 0; name && i < n; i++)
        if (strcmp(k[i]->name, name) == 0)
            return k[i];
    return NULL;
}

bool device_class_is(const struct device_class *cls, const char *name)
{
    if (strcmp(cls->name, name) == 0)
        return true;
    if (!cls->parent)
        return false;
    if (strcmp(cls->parent, name) == 0)
        return true;
    for (const struct device_kind *k = device_kind_find(cls->parent); k; k = device_kind_find(k->parent))
        if (strcmp(k->name, name) == 0)
            return true;
    return false;
}

const char *device_class_nearest(const char *word)
{
    unsigned n;
    const struct device_class *const *c = device_classes(&n);
    g_autofree const char **names = g_new0(const char *, n + 1);
    unsigned k = 0;

    for (unsigned i = 0; i < n; i++)
        if (c[i]->user_creatable)
            names[k++] = c[i]->name;
    return nearest_spelling(word, names);
}

/* ---- properties of a class */

enum { KIND_DEPTH_MAX = 8 };

void device_class_each_prop(const struct device_class *cls, bool (*fn)(const struct prop *p, void *arg), void *arg)
{
    const struct device_kind *chain[KIND_DEPTH_MAX];
    int n = 0;

    for (const struct device_kind *k = device_kind_find(cls->parent); k && n < KIND_DEPTH_MAX; k = device_kind_find(k->parent))
        chain[n++] = k;
    while (n--)
        for (const struct prop *p = chain[n]->props; p && p->name; p++)
            if (!fn(p, arg))
                return;
    for (const struct prop *p = cls->props; p && p->name; p++)
        if (!fn(p, arg))
            return;
}

struct prop_search { const char *name; const struct prop *found; };

static bool prop_match(const struct prop *p, void *arg)
{
    struct prop_search *s = arg;

    /* The class's own come last and hide a kind's. */
    if (strcmp(p->name, s->name) == 0)
        s->found = p;
    return true;
}

const struct prop *device_prop_find(const struct device_class *cls, const char *name)
{
    struct prop_search s = { name, NULL };

    device_class_each_prop(cls, prop_match, &s);
    return s.found;
}

static bool prop_name_collect(const struct prop *p, void *arg)
{
    g_ptr_array_add(arg, (char *)p->name);
    return true;
}

static bool prop_unknown(const struct device_class *cls, const char *name, struct error *err)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autofree char *hint = NULL;
    const char *near;

    device_class_each_prop(cls, prop_name_collect, names);
    g_ptr_array_add(names, NULL);
    near = nearest_spelling(name, (const char *const *)names->pdata);
    hint = near ? g_strdup_printf("did you mean '%s'? -device %s,help lists all", near, cls->name)
                : g_strdup_printf("-device %s,help lists what it takes", cls->name);
    return error_setf(err, ERR_GENERIC, hint, "Property '%s.%s' not found", cls->name, name);
}

bool device_set(struct device *dev, const char *name, const char *value, struct error *err)
{
    const struct prop *p = device_prop_find(dev->cls, name);

    if (!p)
        return prop_unknown(dev->cls, name, err);
    if (!prop_set(dev, p, value, err)) {
        error_prepend(err, "%s", dev->cls->name);
        return false;
    }
    return !p->check || p->check(dev, p, err);
}

char *device_get(struct device *dev, const char *name, struct error *err)
{
    const struct prop *p = device_prop_find(dev->cls, name);

    if (!p) {
        prop_unknown(dev->cls, name, err);
        return NULL;
    }
    return prop_get(dev, p);
}

static bool prop_default(const struct prop *p, void *arg)
{
    struct error err = ERROR_INIT;

    if (!p->def) {
        if (p->type == PROP_PCI_ADDR)
            *(int32_t *)((char *)arg + p->offset) = -1;
    } else if (!prop_set(arg, p, p->def, &err)) {
        g_warning("default of property '%s': %s", p->name, err.msg);
        error_clear(&err);
    }
    return true;
}

/* -global driver.property=value, in the order given; driver may be a kind. */
static bool globals_apply(struct device *dev, struct error *err)
{
    struct json_object *globals = dev->vm->config.globals;
    size_t n = globals ? json_object_array_length(globals) : 0;

    for (size_t i = 0; i < n; i++) {
        struct json_object *g = json_object_array_get_idx(globals, i);
        const char *driver = option_str(g, "driver", ""), *prop = option_str(g, "property", ""), *value = option_str(g, "value", "");

        if (!device_class_is(dev->cls, driver) && !(dev->cls->alias && strcmp(dev->cls->alias, driver) == 0))
            continue;
        if (!device_set(dev, prop, value, err)) {
            error_prepend(err, "-global");
            return false;
        }
    }
    return true;
}

/* ---- making */

static void *device_alloc(const struct device_class *cls)
{
    return g_malloc0(MAX(cls->size, sizeof(struct device)));
}

struct device *device_new(struct vm *vm, const char *class_name, const char *id, struct error *err)
{
    const struct device_class *cls = device_class_find(class_name);
    struct device *dev, **tail;

    if (!cls) {
        const char *near = device_class_nearest(class_name);
        g_autofree char *hint = near ? g_strdup_printf("did you mean '%s'? -device help lists all", near)
                                     : g_strdup("-device help lists what there is");

        error_setf(err, ERR_GENERIC, hint, "'%s' is not a valid device model name", class_name);
        return NULL;
    }
    if (id && device_find(vm, id)) {
        error_setf(err, ERR_GENERIC, "give each device an id of its own", "Duplicate device ID '%s'", id);
        return NULL;
    }
    dev = device_alloc(cls);
    dev->cls = cls;
    dev->kind = device_kind_find(cls->parent);
    dev->vm = vm;
    dev->id = g_strdup(id);
    dev->loop = vm->loop;
    dev->error_budget = 20;
    g_rec_mutex_init(&dev->lock);
    if (id)
        dev->path = g_strdup_printf("/machine/peripheral/%s", id);
    else
        dev->path = g_strdup_printf("/machine/unattached/device[%u]", vm->device_count++);
    device_class_each_prop(cls, prop_default, dev);
    for (tail = &vm->devices; *tail; tail = &(*tail)->next)
        ;
    *tail = dev;
    if (!globals_apply(dev, err)) {
        device_remove(dev);
        return NULL;
    }
    return dev;
}

void device_set_parent(struct device *dev, struct device *parent, const char *name)
{
    dev->parent = parent;
    g_free(dev->child_name);
    dev->child_name = g_strdup(name);
    g_free(dev->path);
    dev->path = g_strdup_printf("%s/%s", parent->path, name);
}

/* Registers from the descriptor become regions; whoever wires the device maps them. */
static uint64_t desc_read(void *opaque, uint64_t offset, unsigned size);
static void desc_write(void *opaque, uint64_t offset, uint64_t value, unsigned size);

struct device_mmio { struct mmio_ops ops; struct device *dev; const struct mmio_desc *desc; };

static uint64_t desc_read(void *opaque, uint64_t offset, unsigned size)
{
    struct device_mmio *m = opaque;

    return m->desc->read ? m->desc->read(m->dev, offset, size) : 0;
}

static void desc_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct device_mmio *m = opaque;

    if (m->desc->write)
        m->desc->write(m->dev, offset, value, size);
}

static void mmio_init(struct device *dev)
{
    for (int i = 0; i < DEVICE_MMIO_MAX; i++) {
        const struct mmio_desc *d = &dev->cls->mmio[i];
        struct device_mmio *m;

        if (!d->size || dev->mmio[i].vm)
            continue;
        m = g_new0(struct device_mmio, 1);
        m->dev = dev;
        m->desc = d;
        m->ops = (struct mmio_ops){
            .read = desc_read, .write = desc_write,
            .min = d->min ? d->min : d->width, .max = d->max ? d->max : d->width,
            .unaligned = d->unaligned, .big_endian = d->big_endian, .lockless = d->lockless,
        };
        mem_region_init_mmio(&dev->mmio[i], dev->vm, dev, d->name, d->size, &m->ops, m);
    }
}

static void mmio_free(struct device *dev)
{
    for (int i = 0; i < DEVICE_MMIO_MAX; i++) {
        if (!dev->mmio[i].vm)
            continue;
        mem_region_remove(&dev->mmio[i]);
    }
}

static bool plug(struct device *dev, struct bus *bus, struct error *err)
{
    dev->parent_bus = bus;
    if (bus->cls->plug && !bus->cls->plug(bus, dev, err)) {
        dev->parent_bus = NULL;
        return false;
    }
    g_ptr_array_add(bus->devices, dev);
    return true;
}

/* First half: the bus does not reach it any more. */
static void detach(struct device *dev)
{
    struct bus *bus = dev->parent_bus;

    if (bus && bus->cls->unplug)
        bus->cls->unplug(bus, dev);
}

static void unplug(struct device *dev)
{
    if (!dev->parent_bus)
        return;
    g_ptr_array_remove(dev->parent_bus->devices, dev);
    dev->parent_bus = NULL;
}

static bool kind_realize(const struct device_kind *k, struct device *dev, struct error *err)
{
    if (!k)
        return true;
    return kind_realize(device_kind_find(k->parent), dev, err) && (!k->realize || k->realize(dev, err));
}

static bool kind_realized(const struct device_kind *k, struct device *dev, struct error *err)
{
    if (!k)
        return true;
    return kind_realized(device_kind_find(k->parent), dev, err) && (!k->realized || k->realized(dev, err));
}

static void kind_unrealize(struct device *dev)
{
    for (const struct device_kind *k = dev->kind; k; k = device_kind_find(k->parent))
        if (k->unrealize)
            k->unrealize(dev);
}

static const char *const opts_not_props[] = { "driver", "id", "bus", NULL };

static bool opts_apply(struct device *dev, struct error *err)
{
    if (!dev->opts)
        return true;
    json_object_object_foreach(dev->opts, key, value) {
        const struct prop *p;
        g_autofree char *text = NULL;

        if (g_strv_contains(opts_not_props, key) || !value)
            continue;
        p = device_prop_find(dev->cls, key);
        text = prop_text_of_json(p, value);
        if (!device_set(dev, key, text, err))
            return false;
    }
    return true;
}

static struct bus *bus_for(struct device *dev, struct error *err)
{
    const char *name = dev->opts ? option_str(dev->opts, "bus", NULL) : NULL;
    struct bus *bus = name ? bus_find(dev->vm, name) : bus_find(dev->vm, dev->cls->bus);

    if (!bus && name)
        error_setf(err, ERR_GENERIC, "info qtree shows the buses of the machine", "Bus '%s' not found", name);
    else if (!bus)
        error_setf(err, ERR_GENERIC, "choose a -machine that has one, or add its controller before the device",
                   "No '%s' bus found for device '%s'", dev->cls->bus, dev->cls->name);
    else if (!bus_takes(bus, dev->cls->bus))
        error_setf(err, ERR_GENERIC, NULL, "Device '%s' can't go on %s bus", dev->cls->name, bus->cls->name);
    else
        return bus;
    return NULL;
}

bool device_realize(struct device *dev, struct bus *bus, struct error *err)
{
    if (!opts_apply(dev, err))
        return false;
    if (!bus && dev->cls->bus && !(bus = bus_for(dev, err)))
        return false;
    if (bus && dev->hotplugged && !bus->hotplug)
        return error_setf(err, ERR_GENERIC, "plug into a bus that allows it, such as that of a pcie-root-port",
                          "Bus '%s' does not support hotplugging", bus->name);
    mmio_init(dev);
    if (bus && !plug(dev, bus, err))
        return false;
    if (!kind_realize(dev->kind, dev, err))
        goto fail_plugged;
    if (dev->cls->realize && !dev->cls->realize(dev, err)) {
        kind_unrealize(dev);
        goto fail_plugged;
    }
    dev->realized = true;
    if (!kind_realized(dev->kind, dev, err)) {
        dev->realized = false;
        if (dev->cls->unrealize)
            dev->cls->unrealize(dev);
        kind_unrealize(dev);
        goto fail_plugged;
    }
    return true;
fail_plugged:
    detach(dev);
    unplug(dev);
    return false;
}

struct device *device_create(struct vm *vm, struct json_object *opts, bool hotplug, struct error *err)
{
    const char *driver = option_str(opts, "driver", NULL), *id = option_str(opts, "id", NULL);
    const struct device_class *cls;
    struct device *dev;

    if (!driver) {
        error_set(err, ERR_GENERIC, "Parameter 'driver' is missing", "-device help lists the drivers");
        return NULL;
    }
    cls = device_class_find(driver);
    if (cls && !cls->user_creatable) {
        error_setf(err, ERR_GENERIC, "the machine makes it itself where it has one", "Device '%s' can not be created by the user",
                   driver);
        return NULL;
    }
    if (cls && hotplug && !cls->hotpluggable) {
        error_setf(err, ERR_GENERIC, "give it on the command line with -device", "Device '%s' does not support hotplugging", driver);
        return NULL;
    }
    dev = device_new(vm, driver, id, err);
    if (!dev)
        return NULL;
    if (!id) {
        vm->device_count--;
        g_free(dev->path);
        dev->path = g_strdup_printf("/machine/peripheral-anon/device[%u]", vm->anon_count++);
    }
    dev->opts = json_object_get(opts);
    dev->hotplugged = hotplug;
    if (!device_realize(dev, NULL, err)) {
        device_remove(dev);
        return NULL;
    }
    if (hotplug)
        device_reset_one(dev, RESET_COLD);
    return dev;
}

/* ---- removing */

static bool prop_free_cb(const struct prop *p, void *arg)
{
    prop_free(arg, p);
    return true;
}

static void children_remove(struct device *dev)
{
    for (struct device *c = dev->vm->devices; c;) {
        if (c->parent == dev) {
            device_remove(c);
            c = dev->vm->devices;       /* the list changed, perhaps by more than one */
        } else {
            c = c->next;
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(dev->child_bus); i++) {
        struct bus *b = dev->child_bus[i];

        while (b && b->devices->len)
            device_remove(g_ptr_array_index(b->devices, b->devices->len - 1));
    }
}

static void device_free(struct device *dev)
{
    for (const struct device_kind *k = dev->kind; k; k = device_kind_find(k->parent))
        if (k->free)
            k->free(dev);
    for (int i = 0; i < DEVICE_MMIO_MAX; i++)
        if (dev->mmio[i].vm && dev->mmio[i].ops && dev->mmio[i].ops->read == desc_read)
            g_free(dev->mmio[i].opaque);
    for (unsigned i = 0; i < G_N_ELEMENTS(dev->child_bus); i++)
        bus_free(dev->child_bus[i]);
    device_class_each_prop(dev->cls, prop_free_cb, dev);
    if (dev->opts)
        json_object_put(dev->opts);
    g_free(dev->id);
    g_free(dev->path);
    g_free(dev->child_name);
    g_rec_mutex_clear(&dev->lock);
    g_free(dev);
}

void device_remove(struct device *dev)
{
    if (!dev)
        return;
    children_remove(dev);
    if (dev->realized) {
        detach(dev);
        mmio_free(dev);
        mem_synchronize();      /* nobody is in its callbacks from here on */
        dev->realized = false;
        if (dev->cls->unrealize)
            dev->cls->unrealize(dev);
        kind_unrealize(dev);
    } else {
        mmio_free(dev);
    }
    unplug(dev);
    for (struct device **p = &dev->vm->devices; *p; p = &(*p)->next) {
        if (*p == dev) {
            *p = dev->next;
            break;
        }
    }
    mem_synchronize();
    device_free(dev);
}

struct removal { struct vm *vm; char *path; };

static void remove_posted(void *arg)
{
    struct removal *r = arg;
    struct device *dev = device_find(r->vm, r->path);

    if (dev) {
        struct json_object *data = json_object_new_object();

        if (dev->id)
            json_object_object_add(data, "device", json_object_new_string(dev->id));
        json_object_object_add(data, "path", json_object_new_string(dev->path));
        device_remove(dev);
        vm_event(r->vm, "DEVICE_DELETED", data);
    }
    g_free(r->path);
    g_free(r);
}

void device_remove_later(struct device *dev)
{
    struct removal *r = g_new(struct removal, 1);

    r->vm = dev->vm;
    r->path = g_strdup(dev->path);
    loop_post(dev->vm->loop, remove_posted, r);
}

bool device_unplug(struct vm *vm, const char *id, struct error *err)
{
    struct device *dev = device_find(vm, id);

    if (!dev)
        return error_setf(err, ERR_DEVICE_NOT_FOUND, NULL, "Device '%s' not found", id);
    if (!dev->cls->hotpluggable)
        return error_setf(err, ERR_GENERIC, NULL, "Device '%s' does not support hotplugging", id);
    if (!dev->parent_bus || !dev->parent_bus->hotplug)
        return error_setf(err, ERR_GENERIC, NULL, "Bus '%s' does not support hotplugging",
                          dev->parent_bus ? dev->parent_bus->name : "none");
    if (dev->parent_bus->cls->unplug_request && vm->state == RUN_RUNNING)
        return dev->parent_bus->cls->unplug_request(dev->parent_bus, dev, err);
    device_remove_later(dev);
    return true;
}

/* ---- finding */

struct device *device_find(struct vm *vm, const char *id_or_path)
{
    for (struct device *d = vm->devices; d; d = d->next)
        if ((d->id && strcmp(d->id, id_or_path) == 0) || strcmp(d->path, id_or_path) == 0)
            return d;
    return NULL;
}

struct device *device_find_class(struct vm *vm, const char *class_name, struct device *prev)
{
    for (struct device *d = prev ? prev->next : vm->devices; d; d = d->next)
        if (device_class_is(d->cls, class_name))
            return d;
    return NULL;
}

/* ---- reset: three phases over all (DESIGN.md), so that no device sees another half reset */

static void phase_enter(struct device *dev, enum reset_kind kind)
{
    device_lock(dev);
    for (const struct device_kind *k = dev->kind; k; k = device_kind_find(k->parent))
        if (k->reset_enter)
            k->reset_enter(dev, kind);
    if (dev->cls->reset_enter)
        dev->cls->reset_enter(dev, kind);
    device_unlock(dev);
}

static void phase_hold(struct device *dev)
{
    device_lock(dev);
    for (const struct device_kind *k = dev->kind; k; k = device_kind_find(k->parent))
        if (k->reset_hold)
            k->reset_hold(dev);
    if (dev->cls->reset_hold)
        dev->cls->reset_hold(dev);
    device_unlock(dev);
}

static void phase_exit(struct device *dev)
{
    device_lock(dev);
    for (const struct device_kind *k = dev->kind; k; k = device_kind_find(k->parent))
        if (k->reset_exit)
            k->reset_exit(dev);
    if (dev->cls->reset_exit)
        dev->cls->reset_exit(dev);
    device_unlock(dev);
}

/* Is d `top`, or a part of it, or behind one of its buses? */
static bool within(const struct device *d, const struct device *top)
{
    for (int depth = 0; d && depth < 64; depth++) {
        if (!top || d == top)
            return true;
        d = d->parent ? d->parent : d->parent_bus ? d->parent_bus->owner : NULL;
    }
    return false;
}

static void reset_within(struct vm *vm, struct device *top, enum reset_kind kind)
{
    for (struct device *d = vm->devices; d; d = d->next)
        if (d->realized && within(d, top))
            phase_enter(d, kind);
    for (struct device *d = vm->devices; d; d = d->next)
        if (d->realized && within(d, top))
            phase_hold(d);
    for (struct device *d = vm->devices; d; d = d->next)
        if (d->realized && within(d, top))
            phase_exit(d);
}

void device_reset_tree(struct vm *vm, enum reset_kind kind)
{
    reset_within(vm, NULL, kind);
}

void device_reset_one(struct device *dev, enum reset_kind kind)
{
    reset_within(dev->vm, dev, kind);
}

/* ---- locks, DMA, complaints */

_Thread_local struct device *device_current;

void device_lock(struct device *dev)
{
    g_rec_mutex_lock(&dev->lock);
    if (dev->lock_depth++ == 0) {
        dev->lock_outer = device_current;
        device_current = dev;
    }
}

void device_unlock(struct device *dev)
{
    if (--dev->lock_depth == 0)
        device_current = dev->lock_outer;
    g_rec_mutex_unlock(&dev->lock);
}

struct address_space *device_as(struct device *dev)
{
    struct address_space *as = atomic_load_explicit(&dev->as, memory_order_relaxed);

    return as ? as : &dev->vm->memory;
}

/* While DMA of dev runs, other devices' registers are out of reach even where its lock is not held. */
static enum mem_result dma_rw(struct device *dev, uint64_t addr, void *buf, uint64_t len, bool write)
{
    struct mem_attrs attrs = { .requester = dev->requester };
    struct device *outer = device_current;
    enum mem_result res;

    device_current = dev;
    res = write ? as_write(device_as(dev), addr, buf, len, attrs) : as_read(device_as(dev), addr, buf, len, attrs);
    device_current = outer;
    return res;
}

enum mem_result dma_read(struct device *dev, uint64_t addr, void *buf, uint64_t len)
{
    return dma_rw(dev, addr, buf, len, false);
}

enum mem_result dma_write(struct device *dev, uint64_t addr, const void *buf, uint64_t len)
{
    return dma_rw(dev, addr, (void *)buf, len, true);
}

/* A guest in a loop must not fill the log: each device has a budget of lines. */
static void complain(struct device *dev, uint32_t category, const char *what, const char *fmt, va_list ap)
{
    g_autofree char *text = NULL;

    if (!log_enabled(category) || dev->error_budget == 0)
        return;
    dev->error_budget--;
    text = g_strdup_vprintf(fmt, ap);
    log_printf("%s: %s: %s%s\n", dev->id ? dev->id : dev->cls->name, what, text,
               dev->error_budget == 0 ? " (further ones are not shown)" : "");
}

void guest_error(struct device *dev, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    complain(dev, LOG_GUEST_ERRORS, "guest error", fmt, ap);
    va_end(ap);
}

void guest_unimp(struct device *dev, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    complain(dev, LOG_UNIMP, "not modelled", fmt, ap);
    va_end(ap);
}
