/* PrimeCell real-time clock (PL031). Arm DDI 0224: counts seconds since 1970, and interrupts at a match. */
#include "rhea/vm/clock.h"
#include "rhea/vm/vm.h"

enum { RTC_DR = 0x00, RTC_MR = 0x04, RTC_LR = 0x08, RTC_CR = 0x0c, RTC_IMSC = 0x10, RTC_RIS = 0x14, RTC_MIS = 0x18, RTC_ICR = 0x1c,
       PERIPH_ID = 0xfe0 };
#define NS_PER_S INT64_C(1000000000)

struct pl031 {
    struct device dev;
    uint32_t offset;            /* what LR's writes added to the host's seconds (mod 2^32) */
    uint32_t mr, lr, imsc, ris;
    struct vm_timer *alarm;
};

static uint32_t count(struct pl031 *s)
{
    return (uint32_t)(vm_rtc_ns(s->dev.vm) / NS_PER_S) + s->offset;
}

static void update_irq(struct pl031 *s)
{
    irq_set(s->dev.irq_out[0], (s->ris & s->imsc) != 0);
}

/* The match comes when the counter has gone round to it: at once if it is there already. */
static void set_alarm(struct pl031 *s)
{
    uint32_t left = s->mr - count(s);
    int64_t into_second = vm_rtc_ns(s->dev.vm) % NS_PER_S;

    if (left == 0) {
        vm_timer_cancel(s->alarm);
        s->ris = 1;
    } else {
        vm_timer_set(s->alarm, vm_clock_ns(s->dev.vm) + left * NS_PER_S - into_second);
    }
}

static void alarm_fired(void *opaque)
{
    struct pl031 *s = opaque;

    s->ris = 1;
    update_irq(s);
}

static uint64_t pl031_read(struct device *dev, uint64_t offset, unsigned size)
{
    static const uint8_t id[8] = { 0x31, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1 };
    struct pl031 *s = device_cast(dev, struct pl031);

    switch (offset & ~UINT64_C(3)) {
    case RTC_DR:   return count(s);
    case RTC_MR:   return s->mr;
    case RTC_LR:   return s->lr;
    case RTC_CR:   return 1;            /* runs always */
    case RTC_IMSC: return s->imsc;
    case RTC_RIS:  return s->ris;
    case RTC_MIS:  return s->ris & s->imsc;
    case PERIPH_ID ... PERIPH_ID + 0x1c:
        return id[(offset - PERIPH_ID) >> 2];
    default:
        guest_error(dev, "read of register %#x", (unsigned)offset);
        return 0;
    }
}

static void pl031_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct pl031 *s = device_cast(dev, struct pl031);

    switch (offset & ~UINT64_C(3)) {
    case RTC_MR:
        s->mr = (uint32_t)v;
        set_alarm(s);
        break;
    case RTC_LR:
        s->lr = (uint32_t)v;
        s->offset += s->lr - count(s);
        set_alarm(s);
        break;
    case RTC_CR:   break;               /* its one bit stays set once it is */
    case RTC_IMSC: s->imsc = v & 1; break;
    case RTC_ICR:  s->ris &= ~(uint32_t)v; break;
    default:       guest_error(dev, "write of register %#x", (unsigned)offset);
    }
    update_irq(s);
}

static void pl031_reset(struct device *dev, enum reset_kind kind)
{
    struct pl031 *s = device_cast(dev, struct pl031);

    s->mr = s->lr = s->imsc = s->ris = 0;
    if (kind == RESET_COLD)
        s->offset = 0;                  /* the time itself outlives a reset of the guest */
    vm_timer_cancel(s->alarm);
}

static void pl031_reset_hold(struct device *dev)
{
    update_irq(device_cast(dev, struct pl031));
}

static bool pl031_realize(struct device *dev, struct error *err)
{
    struct pl031 *s = device_cast(dev, struct pl031);

    s->alarm = vm_timer_new(dev->vm, dev, alarm_fired, s);
    return true;
}

static void pl031_unrealize(struct device *dev)
{
    vm_timer_free(device_cast(dev, struct pl031)->alarm);
}

DEVICE = {
    .name = "pl031",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "PrimeCell real-time clock (PL031)",
    .size = sizeof(struct pl031),
    .mmio = { { .name = "pl031", .size = 0x1000, .width = 4, .min = 1, .max = 4, .read = pl031_read, .write = pl031_write } },
    .state = (const struct state_field[]){ STATE_U32(struct pl031, offset), STATE_U32(struct pl031, mr), STATE_U32(struct pl031, lr),
                                           STATE_U32(struct pl031, imsc), STATE_U32(struct pl031, ris), { 0 } },
    .realize = pl031_realize,
    .unrealize = pl031_unrealize,
    .reset_enter = pl031_reset,
    .reset_hold = pl031_reset_hold,
};
