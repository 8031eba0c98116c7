/* System control port A (92h): fast A20 gate and fast reset of PS/2 machines. A20 is always open here; the bit reads
 * back as written. IBM PS/2 Hardware Interface Technical Reference. */
#include "rhea/device/isa.h"
#include "rhea/vm/vm.h"

struct port92 { struct isa_device isa; uint8_t value; };

static uint64_t port92_read(struct device *dev, uint64_t offset, unsigned size)
{
    return device_cast(dev, struct port92)->value;
}

static void port92_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct port92 *p = device_cast(dev, struct port92);
    uint8_t old = p->value;

    p->value = v & ~1;
    if (v & ~old & 1)
        vm_request_reset(dev->vm, RESET_GUEST);
}

static void port92_reset(struct device *dev, enum reset_kind kind)
{
    device_cast(dev, struct port92)->value = 2;
}

static bool port92_realize(struct device *dev, struct error *err)
{
    isa_map(dev, 0, 0x92);
    return true;
}

DEVICE = {
    .name = "port92",
    .parent = "isa-device",
    .category = "Misc",
    .summary = "system control port A: fast reset",
    .size = sizeof(struct port92),
    .mmio = { { .name = "port92", .size = 1, .width = 1, .read = port92_read, .write = port92_write } },
    .state = (const struct state_field[]){ STATE_U8(struct port92, value), { 0 } },
    .realize = port92_realize,
    .reset_enter = port92_reset,
};
