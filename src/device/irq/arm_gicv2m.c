/* GICv2m: a frame of registers by which messages become shared interrupts of a GICv2. Arm Server Base System
 * Architecture (DEN0029), appendix E. */
#include "arm_gic_internal.h"

enum { MSI_TYPER = 0x008, MSI_SETSPI_NS = 0x040, MSI_IIDR = 0xfcc };

struct gicv2m {
    struct device dev;
    struct device *gic;
    uint32_t base, count;       /* SPIs */
};

bool gicv2m_message(struct device *dev, uint64_t offset, uint32_t data)
{
    struct gicv2m *m = device_cast(dev, struct gicv2m);
    uint32_t n = data - GIC_INTERNAL - m->base;

    if (offset != MSI_SETSPI_NS)
        return false;
    if (n < m->count)
        gic_spi_edge(m->gic, m->base + n);
    return true;
}

static uint64_t gicv2m_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct gicv2m *m = device_cast(dev, struct gicv2m);

    switch (offset) {
    case MSI_TYPER: return (m->base + GIC_INTERNAL) << 16 | m->count;
    case MSI_IIDR:  return 0x0053 << 20;        /* product 'S'; no architecture revision */
    default:        return 0;
    }
}

static void gicv2m_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    gicv2m_message(dev, offset, (uint32_t)v);
}

void gicv2m_connect(struct device *dev, struct device *gic)
{
    device_cast(dev, struct gicv2m)->gic = gic;
}

static bool gicv2m_realize(struct device *dev, struct error *err)
{
    struct gicv2m *m = device_cast(dev, struct gicv2m);

    if (!m->gic || m->count == 0 || m->base > GIC_SPECIAL || m->base + m->count > device_cast(m->gic, struct gic_inputs)->nspis)
        return error_set(err, ERR_GENERIC, "arm-gicv2m: base-spi and num-spi are not those of an interrupt controller", NULL);
    return true;
}

DEVICE = {
    .name = "arm-gicv2m",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "messages for GICv2 (GICv2m)",
    .size = sizeof(struct gicv2m),
    .mmio = { { .name = "gicv2m", .size = 0x1000, .width = 4, .lockless = true, .read = gicv2m_read, .write = gicv2m_write } },
    .props = (const struct prop[]){ PROP(struct gicv2m, base, "base-spi", PROP_U32, "0", "first shared interrupt of the frame"),
                                    PROP(struct gicv2m, count, "num-spi", PROP_U32, "64", "how many"), { 0 } },
    .realize = gicv2m_realize,
};
