/* SiFive test finisher: a guest's write ends or resets the machine. SiFive FU540-C000 manual, chapter "Test Finisher". */
#include "rhea/vm/vm.h"

enum { FINISH_FAIL = 0x3333, FINISH_PASS = 0x5555, FINISH_RESET = 0x7777 };

static uint64_t test_read(struct device *dev, uint64_t offset, unsigned size)
{
    return 0;
}

static void test_write(struct device *dev, uint64_t offset, uint64_t value, unsigned size)
{
    if (offset)
        return;
    switch (value & 0xffff) {
    case FINISH_PASS: vm_request_stop(dev->vm, STOP_POWEROFF, 0); break;
    case FINISH_FAIL: vm_request_stop(dev->vm, STOP_POWEROFF, (int)(value >> 16 & 0xffff)); break;
    case FINISH_RESET: vm_request_reset(dev->vm, RESET_GUEST); break;
    default: guest_error(dev, "unknown finisher code %#x", (unsigned)value);
    }
}

DEVICE = {
    .name = "riscv.sifive.test",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "powers the machine off or resets it on a guest's write",
    .size = sizeof(struct device),
    .mmio = { { .name = "riscv.sifive.test", .size = 0x1000, .width = 4, .min = 2, .max = 4, .read = test_read, .write = test_write } },
};
