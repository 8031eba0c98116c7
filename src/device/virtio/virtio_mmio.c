/* Virtio over MMIO: virtio 1.2, 4.2; force-legacy=on gives the interface of 4.2.4. A board makes one for each slot;
 * devices named virtio-*-device plug into its bus. */
#include <stdatomic.h>
#include "rhea/device/virtio.h"

enum { MAGIC = 0x000, VERSION = 0x004, DEVICE_ID = 0x008, VENDOR_ID = 0x00c, DEVICE_FEATURES = 0x010,
       DEVICE_FEATURES_SEL = 0x014, DRIVER_FEATURES = 0x020, DRIVER_FEATURES_SEL = 0x024, GUEST_PAGE_SIZE = 0x028,
       QUEUE_SEL = 0x030, QUEUE_NUM_MAX = 0x034, QUEUE_NUM = 0x038, QUEUE_ALIGN = 0x03c, QUEUE_PFN = 0x040,
       QUEUE_READY = 0x044, QUEUE_NOTIFY = 0x050, INTERRUPT_STATUS = 0x060, INTERRUPT_ACK = 0x064, STATUS = 0x070,
       QUEUE_DESC = 0x080, QUEUE_DRIVER = 0x090, QUEUE_DEVICE = 0x0a0, SHM_LEN_LOW = 0x0b0, SHM_BASE_HIGH = 0x0bc,
       QUEUE_RESET = 0x0c0, CONFIG_GENERATION = 0x0fc, CONFIG = 0x100, MMIO_SIZE = 0x200 };
enum { INT_QUEUE = 1, INT_CONFIG = 2 };

struct virtio_mmio {
    struct device dev;
    struct virtio_device *_Atomic vdev;
    bool force_legacy;
    uint32_t device_features_sel, driver_features_sel, driver_features[2], queue_sel;
    uint32_t page_size, queue_align;    /* legacy */
    _Atomic uint32_t interrupt;
};

static void mmio_interrupt(struct device *proxy, uint32_t bit)
{
    struct virtio_mmio *m = device_cast(proxy, struct virtio_mmio);

    atomic_fetch_or(&m->interrupt, bit);
    irq_raise(m->dev.irq_out[0]);
}

static void mmio_queue_irq(struct virtio_device *v, struct virtqueue *q) { mmio_interrupt(v->proxy, INT_QUEUE); }
static void mmio_config_irq(struct virtio_device *v) { mmio_interrupt(v->proxy, INT_CONFIG); }

static void mmio_acknowledge(struct virtio_mmio *m, uint32_t bits)
{
    atomic_fetch_and(&m->interrupt, ~bits);
    irq_lower(m->dev.irq_out[0]);
    if (atomic_load(&m->interrupt))     /* others, or set meanwhile: a new edge, where edges count */
        irq_raise(m->dev.irq_out[0]);
}

/* A driver's reset leaves the legacy page size alone: it is written once, before the first reset. */
static void mmio_clear(struct virtio_mmio *m)
{
    m->device_features_sel = m->driver_features_sel = m->queue_sel = 0;
    m->driver_features[0] = m->driver_features[1] = 0;
    m->queue_align = 4096;
    mmio_acknowledge(m, ~0u);
}

static uint64_t queue_register(struct virtio_mmio *m, struct virtqueue *q, uint64_t offset)
{
    switch (offset) {
    case QUEUE_NUM_MAX: return q->size_max;
    case QUEUE_READY:   return !m->force_legacy && atomic_load(&q->enabled);
    case QUEUE_RESET:   return q->resetting;
    case QUEUE_PFN:     return m->force_legacy && m->page_size ? q->desc / m->page_size : 0;
    default:            return 0;
    }
}

static uint64_t mmio_register(struct virtio_mmio *m, struct virtio_device *v, uint64_t offset)
{
    struct virtqueue *q = virtio_queue(v, m->queue_sel);

    switch (offset) {
    case MAGIC:         return 0x74726976;      /* "virt" */
    case VERSION:       return m->force_legacy ? 1 : 2;
    case DEVICE_ID:     return v->info->id;
    case VENDOR_ID:     return 0x41454852;      /* "RHEA" */
    case DEVICE_FEATURES:
        return m->device_features_sel > 1
                   ? 0
                   : (uint32_t)(virtio_offered(v, m->force_legacy) >> 32 * m->device_features_sel);
    case INTERRUPT_STATUS:      return atomic_load(&m->interrupt);
    case STATUS:                return virtio_status(v);
    case CONFIG_GENERATION:     return atomic_load(&v->config_generation);
    case SHM_LEN_LOW ... SHM_BASE_HIGH:         return 0xffffffff;      /* 4.2.2: no shared memory region */
    default:                    return q ? queue_register(m, q, offset) : 0;
    }
}

static uint64_t mmio_read_register(struct device *dev, uint64_t offset, unsigned size)
{
    struct virtio_mmio *m = device_cast(dev, struct virtio_mmio);
    struct virtio_device *v = atomic_load(&m->vdev);

    if (!v)                             /* 4.2.2.1: an empty slot has device id 0 */
        return offset == MAGIC ? 0x74726976 : offset == VERSION ? (m->force_legacy ? 1 : 2) : 0;
    if (offset >= CONFIG)
        return virtio_config_read(v, offset - CONFIG, size);
    if (size != 4 || offset & 3) {
        guest_error(dev, "read of %u bytes at %#x", size, (unsigned)offset);
        return 0;
    }
    return mmio_register(m, v, offset);
}

#define SET_LOW(field) field = (field & ~0xffffffffull) | value
#define SET_HIGH(field) field = (field & 0xffffffff) | value << 32

static void queue_register_write(struct virtio_mmio *m, struct virtqueue *q, uint64_t offset, uint64_t value)
{
    if (atomic_load(&q->enabled) && offset != QUEUE_READY && offset != QUEUE_RESET && offset != QUEUE_PFN) {
        guest_error(&m->dev, "queue %u is ready; its registers stay", q->index);
        return;
    }
    switch (offset) {
    case QUEUE_NUM:             virtqueue_set_size(q, value); break;
    case QUEUE_DESC:            SET_LOW(q->desc); break;
    case QUEUE_DESC + 4:        SET_HIGH(q->desc); break;
    case QUEUE_DRIVER:          SET_LOW(q->driver); break;
    case QUEUE_DRIVER + 4:      SET_HIGH(q->driver); break;
    case QUEUE_DEVICE:          SET_LOW(q->device); break;
    case QUEUE_DEVICE + 4:      SET_HIGH(q->device); break;
    case QUEUE_READY:
        if (!m->force_legacy)
            virtqueue_enable(q, value & 1);
        break;
    case QUEUE_RESET:
        if (value == 1 && virtio_has(q->vdev, VIRTIO_F_RING_RESET))
            virtqueue_reset(q);
        break;
    case QUEUE_PFN:
        if (m->force_legacy)
            virtqueue_set_legacy(q, value * m->page_size, m->queue_align);
        break;
    default:
        guest_error(&m->dev, "write at %#x", (unsigned)offset);
    }
}
#undef SET_LOW
#undef SET_HIGH

static bool power_of_two(uint64_t n) { return n && !(n & (n - 1)); }

static void mmio_register_write(struct virtio_mmio *m, struct virtio_device *v, uint64_t offset, uint64_t value)
{
    struct virtqueue *q;

    switch (offset) {
    case DEVICE_FEATURES_SEL:
        m->device_features_sel = value;
        return;
    case DRIVER_FEATURES_SEL:
        m->driver_features_sel = value;
        return;
    case DRIVER_FEATURES:
        if (m->driver_features_sel > 1)
            return;
        m->driver_features[m->driver_features_sel] = value;
        virtio_set_driver_features(v, m->force_legacy ? m->driver_features[0] & virtio_offered(v, true)
                                                      : m->driver_features[0] | (uint64_t)m->driver_features[1] << 32);
        return;
    case GUEST_PAGE_SIZE:
        if (m->force_legacy)
            m->page_size = power_of_two(value) ? value : 0;
        return;
    case QUEUE_ALIGN:
        if (m->force_legacy && power_of_two(value) && value >= 16 && value <= 65536)
            m->queue_align = value;
        return;
    case QUEUE_SEL:
        m->queue_sel = value;
        return;
    case INTERRUPT_ACK:
        mmio_acknowledge(m, value);
        return;
    case STATUS:
        virtio_set_status(v, value);
        if (!(value & 0xff))
            mmio_clear(m);
        return;
    }
    q = virtio_queue(v, m->queue_sel);
    if (!q)
        return;
    device_lock(&v->dev);
    queue_register_write(m, q, offset, value);
    device_unlock(&v->dev);
}

static void mmio_write_register(struct device *dev, uint64_t offset, uint64_t value, unsigned size)
{
    struct virtio_mmio *m = device_cast(dev, struct virtio_mmio);
    struct virtio_device *v = atomic_load(&m->vdev);

    if (!v)
        return;
    if (offset == QUEUE_NOTIFY) {       /* the hot one: without a lock */
        virtio_notify(v, value);
        return;
    }
    if (offset >= CONFIG) {
        virtio_config_write(v, offset - CONFIG, value, size);
        return;
    }
    if (size != 4 || offset & 3) {
        guest_error(dev, "write of %u bytes at %#x", size, (unsigned)offset);
        return;
    }
    device_lock(dev);
    mmio_register_write(m, v, offset, value);
    device_unlock(dev);
}

static void mmio_plugged(struct virtio_device *v)
{
    struct virtio_mmio *m = device_cast(v->proxy, struct virtio_mmio);

    if (m->force_legacy)
        v->host_features &= 0xffffffff;
    atomic_store(&m->vdev, v);
}

static void mmio_unplugged(struct virtio_device *v)
{
    atomic_store(&device_cast(v->proxy, struct virtio_mmio)->vdev, NULL);
    mem_synchronize();
}

static const struct virtio_transport mmio_transport = {
    .name = "virtio-mmio", .plugged = mmio_plugged, .unplugged = mmio_unplugged,
    .queue_irq = mmio_queue_irq, .config_irq = mmio_config_irq,
};

static bool mmio_realize(struct device *dev, struct error *err)
{
    g_autofree char *name = NULL;
    unsigned n = 0;

    for (struct device *d = NULL; (d = device_find_class(dev->vm, "virtio-mmio", d)) && d != dev;)
        n++;
    name = g_strdup_printf("virtio-mmio-bus.%u", n);
    virtio_bus_new(dev, &mmio_transport, name);
    mmio_clear(device_cast(dev, struct virtio_mmio));
    return true;
}

static void mmio_reset(struct device *dev, enum reset_kind kind)
{
    device_cast(dev, struct virtio_mmio)->page_size = 0;
    mmio_clear(device_cast(dev, struct virtio_mmio));
}

static void mmio_reset_hold(struct device *dev)
{
    struct virtio_device *v = atomic_load(&device_cast(dev, struct virtio_mmio)->vdev);

    if (v && v->info->drain)
        v->info->drain(v);
}

DEVICE = {
    .name = "virtio-mmio",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "slot for a virtio device, by memory-mapped registers",
    .size = sizeof(struct virtio_mmio),
    .mmio = { { .name = "virtio-mmio", .size = MMIO_SIZE, .width = 4, .min = 1, .max = 8, .lockless = true,
                .read = mmio_read_register, .write = mmio_write_register } },
    .props = (const struct prop[]){ PROP(struct virtio_mmio, force_legacy, "force-legacy", PROP_BOOL, "off",
                                         "the interface of before virtio 1.0"), { 0 } },
    .realize = mmio_realize,
    .reset_enter = mmio_reset,
    .reset_hold = mmio_reset_hold,
};
