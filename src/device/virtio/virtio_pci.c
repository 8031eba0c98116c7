/* Virtio over PCI: virtio 1.2, 4.1, with the legacy interface of 4.1.4.8 in an I/O BAR. The proxy holds what the PCI
 * function adds to a virtio device: BARs, capabilities, ISR, interrupt vectors. */
#include <stdatomic.h>
#include <string.h>
#include "rhea/device/virtio_pci.h"

enum { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE, CAP_PCI };      /* 4.1.4 cfg_type */
enum { COMMON_OFFSET = 0, ISR_OFFSET = 0x1000, CONFIG_OFFSET = 0x2000, NOTIFY_OFFSET = 0x3000, AREA = 0x1000 };
enum { BAR_LEGACY = 0, BAR_MSIX = 1, BAR_MODERN = 4 };
enum { ISR_QUEUE = 1, ISR_CONFIG = 2 };
enum { LEGACY_QUEUE_ALIGN = 4096, LEGACY_PFN_SHIFT = 12, VECTORS_AUTO = -1, VECTORS_MAX = 2048 };

/* 4.1.4.3 struct virtio_pci_common_cfg */
struct common_cfg {
    uint32_t device_feature_select, device_feature, driver_feature_select, driver_feature;
    uint16_t config_msix_vector, num_queues;
    uint8_t device_status, config_generation;
    uint16_t queue_select, queue_size, queue_msix_vector, queue_enable, queue_notify_off;
    uint64_t queue_desc, queue_driver, queue_device;
    uint16_t queue_notify_data, queue_reset;
} __attribute__((packed));

/* 4.1.4.8: registers before the device's configuration; the vectors only while MSI-X is enabled */
enum {
    LEGACY_HOST_FEATURES = 0,
    LEGACY_GUEST_FEATURES = 4,
    LEGACY_QUEUE_PFN = 8,
    LEGACY_QUEUE_SIZE = 12,
    LEGACY_QUEUE_SELECT = 14,
    LEGACY_QUEUE_NOTIFY = 16,
    LEGACY_STATUS = 18,
    LEGACY_ISR = 19,
    LEGACY_CONFIG_VECTOR = 20,
    LEGACY_QUEUE_VECTOR = 22,
    LEGACY_CONFIG = 20,
    LEGACY_CONFIG_MSIX = 24
};

struct virtio_pci {
    struct pci_device pci;
    const struct virtio_pci_class *cls;
    struct device *child;
    struct virtio_device *_Atomic vdev;         /* NULL: not yet, or no more */
    uint32_t disable_legacy;                    /* enum on_off_auto */
    bool disable_modern, page_per_vq, ats, ioeventfd;
    int32_t vectors;
    bool has_legacy, has_modern;
    uint32_t notify_multiplier;
    uint32_t device_feature_select, driver_feature_select, driver_features[2];
    uint16_t queue_select, config_vector;
    _Atomic uint8_t isr;
    int pci_cap;                                /* of CAP_PCI; 0: none */
    struct mem_region legacy, modern, common, isr_area, config, notify;
};
_Static_assert(sizeof(struct virtio_pci) <= VIRTIO_ROOM && sizeof(struct virtio_device) <= VIRTIO_ROOM,
               "properties follow");

/* ---- interrupts */

static void isr_raise(struct virtio_pci *p, uint8_t bits, uint16_t vector)
{
    if (msix_enabled(&p->pci)) {
        if (vector != VIRTIO_NO_VECTOR)
            msix_notify(&p->pci, vector);
        return;
    }
    atomic_fetch_or(&p->isr, bits);
    pci_set_irq(&p->pci, 1);
}

static void pci_queue_irq(struct virtio_device *v, struct virtqueue *q)
{
    isr_raise(device_cast(v->proxy, struct virtio_pci), ISR_QUEUE, q->vector);
}

static void pci_config_irq(struct virtio_device *v)
{
    struct virtio_pci *p = device_cast(v->proxy, struct virtio_pci);

    isr_raise(p, ISR_CONFIG, p->config_vector);
}

/* Reading takes the bits and lowers the line; one set meanwhile raises it again. */
static uint8_t isr_take(struct virtio_pci *p)
{
    uint8_t bits = atomic_exchange(&p->isr, 0);

    pci_set_irq(&p->pci, 0);
    if (atomic_load(&p->isr))
        pci_set_irq(&p->pci, 1);
    return bits;
}

static void vector_set(struct virtio_pci *p, uint16_t *slot, uint16_t vector)
{
    *slot = vector < msix_vectors(&p->pci) ? vector : VIRTIO_NO_VECTOR;    /* 4.1.5.1.2: read back to see refusal */
}

/* ---- common configuration (4.1.4.3) */

static void proxy_reset(struct virtio_pci *p)
{
    p->device_feature_select = p->driver_feature_select = 0;
    p->driver_features[0] = p->driver_features[1] = 0;
    p->queue_select = 0;
    p->config_vector = VIRTIO_NO_VECTOR;
    atomic_store(&p->isr, 0);
    pci_set_irq(&p->pci, 0);
}

static void proxy_set_status(struct virtio_pci *p, struct virtio_device *v, uint8_t status)
{
    virtio_set_status(v, status);
    if (!status)
        proxy_reset(p);
}

static uint64_t common_read(void *opaque, uint64_t offset, unsigned size)
{
    struct virtio_pci *p = opaque;
    struct virtio_device *v = atomic_load(&p->vdev);
    struct virtqueue *q = v ? virtio_queue(v, p->queue_select) : NULL;
    struct common_cfg c = { 0 };
    uint64_t features, value = 0;

    if (!v || offset + size > sizeof(c))
        return 0;
    features = virtio_offered(v, false);
    c.device_feature_select = p->device_feature_select;
    c.device_feature = p->device_feature_select < 2 ? features >> 32 * p->device_feature_select : 0;
    c.driver_feature_select = p->driver_feature_select;
    c.driver_feature = p->driver_feature_select < 2 ? p->driver_features[p->driver_feature_select] : 0;
    c.config_msix_vector = p->config_vector;
    c.num_queues = v->nqueues;
    c.device_status = virtio_status(v);
    c.config_generation = atomic_load(&v->config_generation);
    c.queue_select = p->queue_select;
    if (q) {
        c.queue_size = q->size;
        c.queue_msix_vector = q->vector;
        c.queue_enable = atomic_load(&q->enabled);
        c.queue_notify_off = p->queue_select;
        c.queue_desc = q->desc;
        c.queue_driver = q->driver;
        c.queue_device = q->device;
        c.queue_notify_data = p->queue_select;
        c.queue_reset = q->resetting;
    } else {
        c.queue_msix_vector = VIRTIO_NO_VECTOR;
    }
    memcpy(&value, (uint8_t *)&c + offset, size);
    return value;
}

#define AT(field, bytes) case (offsetof(struct common_cfg, field) << 4 | (bytes))
#define AT_HIGH(field) case ((offsetof(struct common_cfg, field) + 4) << 4 | 4)
#define HALF(q_field, shift) q_field = (q_field & ~(0xffffffffull << (shift))) | value << (shift)

static void queue_register_write(struct virtio_pci *p, struct virtqueue *q, unsigned where, uint64_t value)
{
    struct virtio_device *v = q->vdev;

    /* 4.1.4.3.2: places of a queue stand still while it is enabled */
    if (atomic_load(&q->enabled) && where >> 4 != offsetof(struct common_cfg, queue_reset) &&
        where >> 4 != offsetof(struct common_cfg, queue_msix_vector)) {
        guest_error(&v->dev, "queue %u is enabled; its registers stay", q->index);
        return;
    }
    switch (where) {
    AT(queue_size, 2):          virtqueue_set_size(q, value); break;
    AT(queue_msix_vector, 2):   vector_set(p, &q->vector, value); break;
    AT(queue_enable, 2):        if (value == 1) virtqueue_enable(q, true); break;
    AT(queue_desc, 4):          HALF(q->desc, 0); break;
    AT_HIGH(queue_desc):      HALF(q->desc, 32); break;
    AT(queue_driver, 4):        HALF(q->driver, 0); break;
    AT_HIGH(queue_driver):    HALF(q->driver, 32); break;
    AT(queue_device, 4):        HALF(q->device, 0); break;
    AT_HIGH(queue_device):    HALF(q->device, 32); break;
    AT(queue_reset, 2):
        if (value == 1 && virtio_has(v, VIRTIO_F_RING_RESET))
            virtqueue_reset(q);
        break;
    default:
        guest_error(&v->dev, "write of %u bytes at %#x of the common configuration", where & 15, where >> 4);
    }
}

static void common_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct virtio_pci *p = opaque;
    struct virtio_device *v = atomic_load(&p->vdev);
    unsigned where = offset << 4 | size;
    struct virtqueue *q;

    if (!v)
        return;
    switch (where) {
    AT(device_feature_select, 4):
        p->device_feature_select = value;
        return;
    AT(driver_feature_select, 4):
        p->driver_feature_select = value;
        return;
    AT(driver_feature, 4):
        if (p->driver_feature_select < 2) {
            p->driver_features[p->driver_feature_select] = value;
            virtio_set_driver_features(v, p->driver_features[0] | (uint64_t)p->driver_features[1] << 32);
        }
        return;
    AT(config_msix_vector, 2):
        vector_set(p, &p->config_vector, value);
        return;
    AT(device_status, 1):
        proxy_set_status(p, v, value);
        return;
    AT(queue_select, 2):
        p->queue_select = value;
        return;
    }
    q = virtio_queue(v, p->queue_select);
    if (!q)
        return;
    device_lock(&v->dev);
    queue_register_write(p, q, where, value);
    device_unlock(&v->dev);
}
#undef AT
#undef AT_HIGH
#undef HALF

/* ---- the other areas */

static uint64_t isr_read(void *opaque, uint64_t offset, unsigned size)
{
    return offset ? 0 : isr_take(opaque);
}

static void isr_write(void *opaque, uint64_t offset, uint64_t value, unsigned size) {}

static uint64_t config_read(void *opaque, uint64_t offset, unsigned size)
{
    struct virtio_device *v = atomic_load(&((struct virtio_pci *)opaque)->vdev);

    return v ? virtio_config_read(v, offset, size) : 0;
}

static void config_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct virtio_device *v = atomic_load(&((struct virtio_pci *)opaque)->vdev);

    if (v)
        virtio_config_write(v, offset, value, size);
}

static uint64_t notify_read(void *opaque, uint64_t offset, unsigned size) { return 0; }

static void notify_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct virtio_pci *p = opaque;
    struct virtio_device *v = atomic_load(&p->vdev);

    if (v)
        virtio_notify(v, offset / p->notify_multiplier);
}

/* ---- legacy interface: registers of 4.1.4.8, all little-endian on the machines that have PCI here */

static unsigned legacy_config_at(struct virtio_pci *p)
{
    return msix_enabled(&p->pci) ? LEGACY_CONFIG_MSIX : LEGACY_CONFIG;
}

static uint64_t legacy_register(struct virtio_pci *p, struct virtio_device *v, unsigned offset)
{
    struct virtqueue *q = virtio_queue(v, p->queue_select);

    switch (offset) {
    case LEGACY_HOST_FEATURES:  return virtio_offered(v, true);
    case LEGACY_GUEST_FEATURES: return p->driver_features[0];
    case LEGACY_QUEUE_PFN:      return q ? q->desc >> LEGACY_PFN_SHIFT : 0;
    case LEGACY_QUEUE_SIZE:     return q ? q->size_max : 0;
    case LEGACY_QUEUE_SELECT:   return p->queue_select;
    case LEGACY_STATUS:         return atomic_load(&v->status);
    case LEGACY_ISR:            return isr_take(p);
    case LEGACY_CONFIG_VECTOR:  return p->config_vector;
    case LEGACY_QUEUE_VECTOR:   return q ? q->vector : VIRTIO_NO_VECTOR;
    default:                    return 0;
    }
}

static uint64_t legacy_read(void *opaque, uint64_t offset, unsigned size)
{
    struct virtio_pci *p = opaque;
    struct virtio_device *v = atomic_load(&p->vdev);
    uint64_t value;

    if (!v)
        return 0;
    if (offset >= legacy_config_at(p))
        return virtio_config_read(v, offset - legacy_config_at(p), size);
    device_lock(&p->pci.dev);
    value = legacy_register(p, v, offset);
    device_unlock(&p->pci.dev);
    return value;
}

static void legacy_register_write(struct virtio_pci *p, struct virtio_device *v, unsigned offset, uint32_t value)
{
    struct virtqueue *q = virtio_queue(v, p->queue_select);

    switch (offset) {
    case LEGACY_GUEST_FEATURES:
        p->driver_features[0] = value & virtio_offered(v, true);
        virtio_set_driver_features(v, p->driver_features[0]);
        break;
    case LEGACY_QUEUE_PFN:
        if (q) {
            device_lock(&v->dev);
            virtqueue_set_legacy(q, (uint64_t)value << LEGACY_PFN_SHIFT, LEGACY_QUEUE_ALIGN);
            device_unlock(&v->dev);
        } else if (!value) {
            proxy_set_status(p, v, 0);
        }
        break;
    case LEGACY_QUEUE_SELECT:
        p->queue_select = value;
        break;
    case LEGACY_STATUS:
        proxy_set_status(p, v, value);
        break;
    case LEGACY_CONFIG_VECTOR:
        vector_set(p, &p->config_vector, value);
        break;
    case LEGACY_QUEUE_VECTOR:
        if (q)
            vector_set(p, &q->vector, value);
        break;
    }
}

static void legacy_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct virtio_pci *p = opaque;
    struct virtio_device *v = atomic_load(&p->vdev);

    if (!v)
        return;
    if (offset == LEGACY_QUEUE_NOTIFY) {
        virtio_notify(v, value & 0xffff);
    } else if (offset >= legacy_config_at(p)) {
        virtio_config_write(v, offset - legacy_config_at(p), value, size);
    } else {
        device_lock(&p->pci.dev);
        legacy_register_write(p, v, offset, value);
        device_unlock(&p->pci.dev);
    }
}

static const struct mmio_ops common_ops = { .read = common_read, .write = common_write, .min = 1, .max = 4 };
static const struct mmio_ops isr_ops = { .read = isr_read, .write = isr_write, .min = 1, .max = 4, .lockless = true };
static const struct mmio_ops config_ops = {
    .read = config_read, .write = config_write, .min = 1, .max = 8, .lockless = true};
static const struct mmio_ops notify_ops = {
    .read = notify_read, .write = notify_write, .min = 1, .max = 4, .lockless = true};
static const struct mmio_ops legacy_ops = {
    .read = legacy_read, .write = legacy_write, .min = 1, .max = 4, .lockless = true};

/* ---- 4.1.4.9: a window onto the areas through configuration space */

static const struct mmio_ops *window(struct virtio_pci *p, unsigned *offset, unsigned *len)
{
    const uint8_t *cap = p->pci.config + p->pci_cap;
    uint32_t at = pci_long(cap + 8);

    *len = pci_long(cap + 12);
    if (cap[4] != BAR_MODERN || (*len != 1 && *len != 2 && *len != 4) || at & (*len - 1))
        return NULL;
    *offset = at >= NOTIFY_OFFSET ? at - NOTIFY_OFFSET : at & (AREA - 1);
    if (at >= NOTIFY_OFFSET)
        return at - NOTIFY_OFFSET < p->notify.size ? &notify_ops : NULL;
    return at >= CONFIG_OFFSET ? &config_ops : at >= ISR_OFFSET ? &isr_ops : &common_ops;
}

static bool window_touched(struct virtio_pci *p, unsigned offset, unsigned size)
{
    return p->pci_cap && offset < p->pci_cap + 20 && offset + size > p->pci_cap + 16;
}

void virtio_pci_config_read(struct pci_device *pd, unsigned offset, unsigned size)
{
    struct virtio_pci *p = (struct virtio_pci *)pd;
    const struct mmio_ops *ops;
    unsigned at, len;

    if (window_touched(p, offset, size) && (ops = window(p, &at, &len)))
        pci_put_long(pd->config + p->pci_cap + 16, ops->read(p, at, len));
}

void virtio_pci_config_written(struct pci_device *pd, unsigned offset, unsigned size, uint32_t value)
{
    struct virtio_pci *p = (struct virtio_pci *)pd;
    const struct mmio_ops *ops;
    unsigned at, len;

    if (window_touched(p, offset, size) && (ops = window(p, &at, &len)))
        ops->write(p, at, pci_long(pd->config + p->pci_cap + 16) & (0xffffffffu >> (32 - 8 * len)), len);
}

/* ---- life */

static int cap_add(struct virtio_pci *p, uint8_t type, uint32_t offset, uint32_t len, unsigned size, struct error *err)
{
    int at = pci_add_capability(&p->pci, PCI_CAP_VENDOR, 0, size, err);
    uint8_t *cap = p->pci.config + at;

    if (at < 0)
        return -1;
    cap[2] = size;
    cap[3] = type;
    cap[4] = BAR_MODERN;
    pci_put_long(cap + 8, offset);
    pci_put_long(cap + 12, len);
    return at;
}

static void area_add(struct virtio_pci *p, struct mem_region *area, const char *name, uint64_t offset, uint64_t size,
                     const struct mmio_ops *ops)
{
    mem_region_init_mmio(area, p->pci.dev.vm, &p->pci.dev, name, size, ops, p);
    mem_region_add(&p->modern, offset, area, 0);
}

static uint64_t pow2_above(uint64_t n)
{
    uint64_t p = 1;

    while (p < n)
        p <<= 1;
    return p;
}

static bool modern_add(struct virtio_pci *p, struct virtio_device *v, struct error *err)
{
    uint32_t notify_size;
    int at;

    p->notify_multiplier = p->page_per_vq ? AREA : 4;
    notify_size = (v->nqueues * p->notify_multiplier + AREA - 1) & ~(AREA - 1);
    mem_region_init_container(&p->modern, p->pci.dev.vm, &p->pci.dev, "virtio-pci-modern",
                              pow2_above(NOTIFY_OFFSET + notify_size));
    area_add(p, &p->common, "virtio-pci-common", COMMON_OFFSET, AREA, &common_ops);
    area_add(p, &p->isr_area, "virtio-pci-isr", ISR_OFFSET, AREA, &isr_ops);
    area_add(p, &p->config, "virtio-pci-device", CONFIG_OFFSET, AREA, &config_ops);
    area_add(p, &p->notify, "virtio-pci-notify", NOTIFY_OFFSET, notify_size, &notify_ops);
    pci_register_bar(&p->pci, BAR_MODERN, PCI_BAR_MEM64 | PCI_BAR_PREFETCH, &p->modern);
    at = cap_add(p, CAP_NOTIFY, NOTIFY_OFFSET, notify_size, 20, err);
    if (at < 0)
        return false;
    pci_put_long(p->pci.config + at + 16, p->notify_multiplier);
    if (cap_add(p, CAP_DEVICE, CONFIG_OFFSET, AREA, 16, err) < 0 ||
        cap_add(p, CAP_ISR, ISR_OFFSET, AREA, 16, err) < 0 ||
        cap_add(p, CAP_COMMON, COMMON_OFFSET, AREA, 16, err) < 0)
        return false;
    at = cap_add(p, CAP_PCI, 0, 0, 20, err);
    if (at < 0)
        return false;
    p->pci_cap = at;
    p->pci.config[at + 4] = 0;
    p->pci.wmask[at + 4] = 0xff;
    memset(p->pci.wmask + at + 8, 0xff, 12);
    return true;
}

static void legacy_add(struct virtio_pci *p, struct virtio_device *v)
{
    uint64_t size = pow2_above(MAX(LEGACY_CONFIG_MSIX + v->config_size, 32));

    mem_region_init_mmio(&p->legacy, p->pci.dev.vm, &p->pci.dev, "virtio-pci-legacy", size, &legacy_ops, p);
    pci_register_bar(&p->pci, BAR_LEGACY, PCI_BAR_IO, &p->legacy);
}

/* 4.1.2: which interfaces, and so which ids. Legacy is of no use behind an express port, where I/O space is scarce. */
static bool choose_interfaces(struct virtio_pci *p, struct error *err)
{
    const struct virtio_info *info = p->cls->info;
    bool behind_port = p->pci.bus && p->pci.bus->express && p->pci.bus->bridge;

    p->has_modern = !p->disable_modern;
    p->has_legacy = p->disable_legacy == OOA_AUTO ? !behind_port : p->disable_legacy == OOA_OFF;
    if (p->cls->mode == VIRTIO_PCI_TRANSITIONAL)
        p->has_modern = p->has_legacy = true;
    else if (p->cls->mode == VIRTIO_PCI_MODERN) {
        p->has_modern = true;
        p->has_legacy = false;
    }
    if (!info->legacy_pci_id)
        p->has_legacy = false;
    if (!p->has_modern && !p->has_legacy)
        return error_set(err, ERR_GENERIC, "the device has neither a legacy nor a modern interface",
                         "leave out disable-legacy=on or disable-modern=on");
    pci_put_word(p->pci.config + PCI_DEVICE_ID, p->has_legacy ? info->legacy_pci_id : 0x1040 + info->id);
    if (p->has_legacy)
        pci_put_word(p->pci.config + PCI_SUBSYSTEM_ID, info->id);
    p->pci.config[PCI_REVISION] = p->has_legacy ? 0 : 1;
    return true;
}

/* The device is realized on our bus: its queues and features are known. */
static void pci_plugged(struct virtio_device *v)
{
    struct virtio_pci *p = device_cast(v->proxy, struct virtio_pci);

    if (!p->has_modern)
        v->host_features &= 0xffffffff;
    if (p->vectors == VECTORS_AUTO)
        p->vectors = v->info->vectors ? v->info->vectors : MIN(v->nqueues + 1, VECTORS_MAX);
}

static void pci_unplugged(struct virtio_device *v)
{
    struct virtio_pci *p = device_cast(v->proxy, struct virtio_pci);

    atomic_store(&p->vdev, NULL);
    mem_synchronize();          /* no vCPU is in our areas with the old pointer */
}

static const struct virtio_transport pci_transport = {
    .name = "virtio-pci", .plugged = pci_plugged, .unplugged = pci_unplugged,
    .queue_irq = pci_queue_irq, .config_irq = pci_config_irq,
};

/* The properties were set on the proxy: the device has the same, by the same names. */
static bool forward_props(struct device *from, struct device *to, const struct prop *props, struct error *err)
{
    for (const struct prop *p = props; p && p->name; p++) {
        g_autofree char *text = device_get(from, p->name, NULL), *old = device_get(to, p->name, NULL);

        if (text && g_strcmp0(text, old) != 0 && !device_set(to, p->name, text, err))
            return false;
    }
    return true;
}

static bool child_make(struct virtio_pci *p, struct error *err)
{
    struct device *dev = &p->pci.dev;
    struct bus *bus = virtio_bus_new(dev, &pci_transport, NULL);

    p->child = device_new(dev->vm, p->cls->backend, NULL, err);
    if (!p->child)
        return false;
    device_set_parent(p->child, dev, "virtio-backend");
    return forward_props(dev, p->child, virtio_common_props, err) &&
           forward_props(dev, p->child, dev->cls->props, err) && device_realize(p->child, bus, err);
}

static bool virtio_pci_realize(struct device *dev, struct error *err)
{
    struct virtio_pci *p = device_cast(dev, struct virtio_pci);
    struct virtio_device *v;

    p->cls = dev->cls->kind_data;
    if (p->ats)
        return error_set(err, ERR_GENERIC, "ats=on is not supported by this build", "leave it out");
    if (p->vectors < VECTORS_AUTO || p->vectors > VECTORS_MAX)
        return error_setf(err, ERR_GENERIC, NULL, "vectors=%d is not between 0 and %d", p->vectors, VECTORS_MAX);
    if (!choose_interfaces(p, err))
        return false;
    if (!child_make(p, err))
        goto fail;
    v = device_cast(p->child, struct virtio_device);
    proxy_reset(p);
    if (p->vectors && !msix_init_bar(&p->pci, p->vectors, BAR_MSIX, err))
        goto fail;
    if (p->has_modern && !modern_add(p, v, err))
        goto fail;
    if (p->has_legacy)
        legacy_add(p, v);
    atomic_store(&p->vdev, v);
    return true;
fail:
    device_remove(p->child);
    p->child = NULL;
    return false;
}

static void virtio_pci_reset_enter(struct device *dev, enum reset_kind kind)
{
    proxy_reset(device_cast(dev, struct virtio_pci));
}

/* After every device was reset, and outside the device's own lock, which completions on its thread take. */
static void virtio_pci_reset_hold(struct device *dev)
{
    struct virtio_device *v = atomic_load(&device_cast(dev, struct virtio_pci)->vdev);

    if (v && v->info->drain)
        v->info->drain(v);
}

struct virtio_device *virtio_backend(struct device *dev)
{
    if (device_class_is(dev->cls, "virtio-pci"))
        return atomic_load(&device_cast(dev, struct virtio_pci)->vdev);
    return device_cast(dev, struct virtio_device);
}

static const struct prop virtio_pci_props[] = {
    PROP(struct virtio_pci, disable_legacy, "disable-legacy", PROP_ON_OFF_AUTO, "auto", "no interface for drivers of before virtio 1.0"),
    PROP(struct virtio_pci, disable_modern, "disable-modern", PROP_BOOL, "off", "no virtio 1 interface"),
    PROP(struct virtio_pci, page_per_vq, "page-per-vq", PROP_BOOL, "off", "a page of notification registers for each queue"),
    PROP(struct virtio_pci, vectors, "vectors", PROP_I32, "-1", "MSI-X vectors; -1: one a queue and one for configuration"),
    PROP(struct virtio_pci, ioeventfd, "ioeventfd", PROP_BOOL, "on", "taken for compatibility: notifications never wait for the device"),
    PROP(struct virtio_pci, ats, "ats", PROP_BOOL, "off", "address translation service"),
    { 0 }
};

DEVICE_KIND = {
    .name = "virtio-pci-base",
    .parent = "pci-device",
    .props = virtio_pci_props,
};

DEVICE_KIND = {
    .name = "virtio-pci",
    .parent = "virtio-pci-base",
    .props = virtio_common_props,
    .realize = virtio_pci_realize,
    .reset_enter = virtio_pci_reset_enter,
    .reset_hold = virtio_pci_reset_hold,
};
