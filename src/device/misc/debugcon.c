/* isa-debugcon: bytes written to a port go to a character back end; reads give a value that guests probe for. */
#include "rhea/chardev/chardev.h"
#include "rhea/device/isa.h"
#include "rhea/vm/vm.h"

struct debugcon { struct isa_device isa; char *chardev; uint32_t readback; struct chardev_fe *fe; };

static uint64_t debugcon_read(struct device *dev, uint64_t offset, unsigned size)
{
    return device_cast(dev, struct debugcon)->readback & 0xff;
}

static void debugcon_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct debugcon *d = device_cast(dev, struct debugcon);
    uint8_t byte = v;

    if (d->fe)
        chardev_write(d->fe, &byte, 1);
}

static const struct chardev_fe_ops debugcon_fe_ops = { 0 };

static bool debugcon_realize(struct device *dev, struct error *err)
{
    struct debugcon *d = device_cast(dev, struct debugcon);

    if (d->chardev && *d->chardev) {
        d->fe = chardev_attach(dev->vm, d->chardev, &debugcon_fe_ops, d, dev->loop, err);
        if (!d->fe)
            return false;
    }
    isa_map(dev, 0, d->isa.iobase);
    return true;
}

static void debugcon_unrealize(struct device *dev)
{
    if (device_cast(dev, struct debugcon)->fe)
        chardev_detach(device_cast(dev, struct debugcon)->fe);
}

DEVICE = {
    .name = "isa-debugcon",
    .parent = "isa-device",
    .bus = "ISA",
    .category = "Misc",
    .summary = "debug console port of firmware",
    .size = sizeof(struct debugcon),
    .user_creatable = true,
    .mmio = { { .name = "debugcon", .size = 1, .width = 1, .read = debugcon_read, .write = debugcon_write } },
    .props = (const struct prop[]){ PROP(struct debugcon, chardev, "chardev", PROP_CHARDEV, NULL, "character back end"),
                                    PROP(struct debugcon, isa.iobase, "iobase", PROP_U32, "0xe9", "I/O port"),
                                    PROP(struct debugcon, readback, "readback", PROP_U32, "0xe9", "value that reads give"), { 0 } },
    .realize = debugcon_realize,
    .unrealize = debugcon_unrealize,
};
