/* What every virtio device has whatever carries it: status, features, configuration space, notifications, reset.
 * Virtio 1.2, chapters 2 and 3. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "rhea/device/virtio.h"
#include "rhea/vm/object.h"

/* ---- features */

#define FEATURE(feature, prop_name, default_text, help_text) \
    { .name = prop_name, .type = PROP_BIT, .offset = offsetof(struct virtio_front, vconf.features), .bit = feature, \
      .def = default_text, .help = help_text }

const struct prop virtio_common_props[] = {
    FEATURE(VIRTIO_F_INDIRECT_DESC, "indirect_desc", "on", "offer indirect descriptors"),
    FEATURE(VIRTIO_F_EVENT_IDX, "event_idx", "on", "offer notification suppression by event index"),
    FEATURE(VIRTIO_F_NOTIFY_ON_EMPTY, "notify_on_empty", "on", "offer it to legacy drivers"),
    FEATURE(VIRTIO_F_ANY_LAYOUT, "any_layout", "on", "offer it to legacy drivers"),
    FEATURE(VIRTIO_F_ACCESS_PLATFORM, "iommu_platform", "off", "the device's memory accesses pass the platform's IOMMU"),
    FEATURE(VIRTIO_F_RING_PACKED, "packed", "off", "offer packed queues"),
    FEATURE(VIRTIO_F_RING_RESET, "queue_reset", "on", "offer the reset of single queues"),
    { 0 }
};

static const uint64_t legacy_only = VIRTIO_BIT(VIRTIO_F_NOTIFY_ON_EMPTY) | VIRTIO_BIT(VIRTIO_F_ANY_LAYOUT);

uint64_t virtio_offered(struct virtio_device *v, bool legacy)
{
    if (legacy)
        return (uint32_t)(v->host_features | v->info->legacy_features);
    return v->host_features & ~legacy_only;
}

void virtio_offer(struct virtio_device *v, unsigned feature, bool on)
{
    v->host_features = on ? v->host_features | VIRTIO_BIT(feature) : v->host_features & ~VIRTIO_BIT(feature);
}

void virtio_set_driver_features(struct virtio_device *v, uint64_t features)
{
    device_lock(&v->dev);
    if (v->features_settled)
        guest_error(&v->dev, "features written after FEATURES_OK");
    else
        v->driver_features = features;
    device_unlock(&v->dev);
}

static bool features_settle(struct virtio_device *v)
{
    uint64_t acked = v->driver_features;

    v->legacy = !virtio_has(v, VIRTIO_F_VERSION_1);
    if (acked & ~virtio_offered(v, v->legacy)) {
        guest_error(&v->dev, "driver took features %#llx that were not offered",
                    (unsigned long long)(acked & ~virtio_offered(v, v->legacy)));
        return false;
    }
    if (v->info->check_features && !v->info->check_features(v, acked))
        return false;
    v->features_settled = true;
    if (v->info->features_ok)
        v->info->features_ok(v);
    return true;
}

/* ---- status */

uint8_t virtio_status(struct virtio_device *v)
{
    uint8_t status = atomic_load(&v->status);

    /* 2.4.1: reset is complete, and read as such, once no buffer is in use any more. */
    return !status && atomic_load(&v->stale) ? v->old_status : status;
}

void virtio_reset(struct virtio_device *v)
{
    uint8_t old;

    device_lock(&v->dev);
    old = atomic_exchange(&v->status, 0);
    if (old)
        v->old_status = old;
    for (unsigned i = 0; i < v->nqueues; i++)
        virtqueue_clear(v->queues[i]);
    if (v->info->reset)
        v->info->reset(v);
    v->driver_features = 0;
    v->features_settled = v->legacy = false;
    device_unlock(&v->dev);
}

static void kick_all(struct virtio_device *v)
{
    for (unsigned i = 0; i < v->nqueues; i++)
        if (atomic_load(&v->queues[i]->enabled))
            virtqueue_kick(v->queues[i]);
}

void virtio_set_status(struct virtio_device *v, uint8_t status)
{
    uint8_t old;

    if (!status) {
        virtio_reset(v);
        return;
    }
    device_lock(&v->dev);
    old = atomic_load(&v->status);
    if (status & VIRTIO_S_FEATURES_OK && !(old & VIRTIO_S_FEATURES_OK) && !features_settle(v))
        status &= ~VIRTIO_S_FEATURES_OK;        /* 3.1.1, step 6 */
    if (status & VIRTIO_S_DRIVER_OK && !v->features_settled && !features_settle(v))
        status = (status & ~VIRTIO_S_DRIVER_OK) | VIRTIO_S_NEEDS_RESET;        /* legacy: there is no FEATURES_OK */
    status |= old & VIRTIO_S_NEEDS_RESET;
    atomic_store(&v->status, status);
    if (v->info->set_status)
        v->info->set_status(v, old);
    if (status & VIRTIO_S_DRIVER_OK && !(old & VIRTIO_S_DRIVER_OK))
        kick_all(v);
    device_unlock(&v->dev);
}

void virtio_broken(struct virtio_device *v, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    guest_error(&v->dev, "%s", text);
    if (atomic_fetch_or(&v->status, VIRTIO_S_NEEDS_RESET) & VIRTIO_S_NEEDS_RESET)
        return;
    virtio_config_changed(v);           /* 2.1.2: a driver that is there is told */
}

/* ---- configuration space */

void virtio_config_changed(struct virtio_device *v)
{
    atomic_fetch_add(&v->config_generation, 1);
    if (atomic_load(&v->status) & VIRTIO_S_DRIVER_OK && v->transport)
        v->transport->config_irq(v);
}

uint64_t virtio_config_read(struct virtio_device *v, unsigned offset, unsigned size)
{
    uint8_t config[VIRTIO_CONFIG_MAX + 8] = { 0 };
    uint64_t value = 0;

    if (offset >= v->config_size || !v->info->get_config)
        return 0;
    device_lock(&v->dev);
    v->info->get_config(v, config);
    device_unlock(&v->dev);
    memcpy(&value, config + offset, MIN(size, v->config_size - offset));
    return value;
}

void virtio_config_write(struct virtio_device *v, unsigned offset, uint64_t value, unsigned size)
{
    if (offset >= v->config_size || size > v->config_size - offset || !v->info->set_config)
        return;
    device_lock(&v->dev);
    v->info->set_config(v, offset, (const uint8_t *)&value, size);
    device_unlock(&v->dev);
}

/* ---- notifications */

static void queue_run(void *arg)
{
    struct virtqueue *q = arg;
    struct virtio_device *v = q->vdev;

    if (!v) {                           /* the device has gone meanwhile: queue_release() */
        g_free(q);
        return;
    }
    atomic_store(&q->kicked, false);
    if (atomic_load(&v->paused))
        return;                         /* state_changed() kicks all */
    device_lock(&v->dev);
    if (q->handler && virtqueue_ready(q))
        q->handler(q);
    device_unlock(&v->dev);
}

void virtqueue_kick(struct virtqueue *q)
{
    struct virtio_device *v = q->vdev;

    if (!atomic_load(&v->unplugging) && !atomic_exchange(&q->kicked, true))
        loop_post(v->dev.loop, queue_run, q);
}

void virtio_notify(struct virtio_device *v, unsigned n)
{
    if (n < v->nqueues && virtio_live(v) && atomic_load(&v->queues[n]->enabled))
        virtqueue_kick(v->queues[n]);
}

struct virtqueue *virtio_queue(struct virtio_device *v, unsigned n)
{
    return n < v->nqueues ? v->queues[n] : NULL;
}

/* 2.6.1: done at once, or when the last buffer comes back (virtqueue_detach). */
void virtqueue_reset(struct virtqueue *q)
{
    struct virtio_device *v = q->vdev;

    device_lock(&v->dev);
    if (!q->resetting && atomic_load(&q->enabled)) {
        q->resetting = true;
        atomic_store(&q->enabled, false);
        if (v->info->queue_reset)
            v->info->queue_reset(v, q); /* may come back here with the last buffer */
    }
    if (!q->in_flight && !atomic_load(&q->enabled)) {
        uint16_t vector = q->vector;

        virtqueue_clear(q);
        q->vector = vector;
    }
    device_unlock(&v->dev);
}

/* ---- life */

struct virtqueue *virtio_add_queue(struct virtio_device *v, unsigned size, size_t item_size,
                                   void (*handler)(struct virtqueue *q))
{
    struct virtqueue *q = g_new0(struct virtqueue, 1);

    q->vdev = v;
    q->index = v->nqueues;
    q->size_max = MIN(size, VIRTQUEUE_SIZE_MAX);
    q->item_size = MAX(item_size, sizeof(struct virtq_buf));
    q->handler = handler;
    virtqueue_clear(q);
    v->queues = g_renew(struct virtqueue *, v->queues, v->nqueues + 1);
    v->queues[v->nqueues++] = q;
    return q;
}

static void buf_list_free(struct virtq_buf *b)
{
    for (struct virtq_buf *next; b; b = next) {
        next = b->next;
        g_free(b->iov);
        g_free(b);
    }
}

/* On the device's loop, so that no handler runs: a queue whose post is still under way is freed by it. */
static void queues_release(void *arg)
{
    struct virtio_device *v = arg;

    for (unsigned i = 0; i < v->nqueues; i++) {
        struct virtqueue *q = v->queues[i];

        buf_list_free(q->free);
        q->free = NULL;
        q->vdev = NULL;
        if (!atomic_load(&q->kicked))
            g_free(q);
    }
    g_clear_pointer(&v->queues, g_free);
    v->nqueues = 0;
}

void virtio_set_loop(struct virtio_device *v, struct loop *loop)
{
    v->dev.loop = loop;
}

struct loop *virtio_iothread(struct virtio_device *v, const char *id, struct object **hold, struct error *err)
{
    *hold = object_get(v->dev.vm, id, "iothread", err);
    return *hold ? iothread_loop(*hold) : NULL;
}

static void state_changed(void *opaque, bool running)
{
    struct virtio_device *v = opaque;

    atomic_store(&v->paused, !running);
    if (!running)
        return;
    device_lock(&v->dev);
    if (v->info->resume && virtio_live(v))
        v->info->resume(v);
    kick_all(v);
    device_unlock(&v->dev);
}

static bool kind_realize(struct device *dev, struct error *err)
{
    struct virtio_device *v = device_cast(dev, struct virtio_device);

    v->info = dev->cls->kind_data;
    if (!dev->parent_bus || dev->parent_bus->cls != &virtio_bus_class)
        return error_setf(err, ERR_GENERIC, "use the -pci name of the device, or a machine with virtio-mmio",
                          "'%s' needs a bus of kind 'virtio-bus'", dev->cls->name);
    v->transport = dev->parent_bus->priv;
    v->proxy = dev->parent_bus->owner;
    v->as = &dev->vm->memory;
    v->host_features = v->info->features;
    return true;
}

static bool kind_realized(struct device *dev, struct error *err)
{
    struct virtio_device *v = device_cast(dev, struct virtio_device);

    v->host_features |= virtio_front(v)->vconf.features | VIRTIO_BIT(VIRTIO_F_VERSION_1);
    if (v->host_features & VIRTIO_BIT(VIRTIO_F_ACCESS_PLATFORM))
        v->as = device_as(v->proxy);
    vm_state_notifier(dev->vm, state_changed, v);
    v->transport->plugged(v);
    return true;
}

/* Before this the class's own unrealize has let its back end go: nothing completes any more. */
static void kind_unrealize(struct device *dev)
{
    struct virtio_device *v = device_cast(dev, struct virtio_device);

    vm_state_unnotify(dev->vm, state_changed, v);
    atomic_store(&v->unplugging, true);
    if (v->transport && v->transport->unplugged)
        v->transport->unplugged(v);
    loop_call(dev->loop, queues_release, v);
}

static void kind_reset(struct device *dev, enum reset_kind kind)
{
    struct virtio_device *v = device_cast(dev, struct virtio_device);

    virtio_reset(v);            /* the transport drains, outside our lock: its reset_hold */
}

DEVICE_KIND = {
    .name = "virtio-device",
    .parent = "device",
    .props = virtio_common_props,
    .realize = kind_realize,
    .realized = kind_realized,
    .unrealize = kind_unrealize,
    .reset_enter = kind_reset,
};

/* ---- the bus between a transport and its one device */

static bool bus_plug(struct bus *bus, struct device *dev, struct error *err)
{
    if (virtio_bus_device(bus) && virtio_bus_device(bus) != device_cast(dev, struct virtio_device))
        return error_setf(err, ERR_GENERIC, NULL, "bus '%s' has its device already", bus->name);
    return true;
}

static bool bus_full(struct bus *bus)
{
    return virtio_bus_device(bus);
}

const struct bus_class virtio_bus_class = { .name = "virtio-bus", .plug = bus_plug, .full = bus_full };

struct bus *virtio_bus_new(struct device *proxy, const struct virtio_transport *t, const char *name)
{
    g_autofree char *own = g_strdup_printf("%s.virtio-bus", proxy->id ? proxy->id : proxy->cls->name);
    struct bus *bus = bus_new(proxy->vm, &virtio_bus_class, proxy, name ? name : own);

    bus->priv = (void *)t;
    return bus;
}

struct virtio_device *virtio_bus_device(struct bus *bus)
{
    return bus && bus->devices->len ? g_ptr_array_index(bus->devices, 0) : NULL;
}
