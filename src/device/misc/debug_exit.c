/* isa-debug-exit: a guest's write v ends the program with status (v << 1) | 1. For test guests. */
#include "rhea/device/isa.h"
#include "rhea/vm/vm.h"

static void debug_exit_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    vm_request_stop(dev->vm, STOP_POWEROFF, (int)(v << 1 | 1) & 0xff);
}

static uint64_t debug_exit_read(struct device *dev, uint64_t offset, unsigned size)
{
    return 0;
}

struct debug_exit { struct isa_device isa; uint32_t iosize; };

static bool debug_exit_realize(struct device *dev, struct error *err)
{
    struct debug_exit *d = device_cast(dev, struct debug_exit);

    if (d->iosize == 0 || d->iosize > 4 || d->isa.iobase > 0x10000 - d->iosize)
        return error_setf(err, ERR_GENERIC, "iosize is 1 to 4, and iobase + iosize at most 0x10000",
                          "isa-debug-exit: no ports %#x+%u", d->isa.iobase, d->iosize);
    isa_map(dev, 0, d->isa.iobase);
    return true;
}

DEVICE = {
    .name = "isa-debug-exit",
    .parent = "isa-device",
    .bus = "ISA",
    .category = "Misc",
    .summary = "a guest's write ends the emulator with a status",
    .size = sizeof(struct debug_exit),
    .user_creatable = true,
    .mmio = { { .name = "debug-exit", .size = 4, .min = 1, .max = 4, .width = 4, .read = debug_exit_read, .write = debug_exit_write } },
    .props = (const struct prop[]){ PROP(struct debug_exit, isa.iobase, "iobase", PROP_U32, "0x501", "first I/O port"),
                                    PROP(struct debug_exit, iosize, "iosize", PROP_U32, "2", "number of ports"), { 0 } },
    .realize = debug_exit_realize,
};
