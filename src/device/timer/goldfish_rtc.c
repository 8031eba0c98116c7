/* Goldfish real-time clock: nanoseconds since 1970, and an alarm. Android's "Goldfish Virtual Hardware", section
 * "Goldfish real-time clock". */
#include "rhea/vm/clock.h"
#include "rhea/vm/vm.h"

enum { TIME_LOW = 0x00, TIME_HIGH = 0x04, ALARM_LOW = 0x08, ALARM_HIGH = 0x0c, IRQ_ENABLED = 0x10, CLEAR_ALARM = 0x14,
       ALARM_STATUS = 0x18, CLEAR_INTERRUPT = 0x1c };

struct goldfish_rtc {
    struct device dev;
    uint64_t offset;            /* what software set the clock ahead of the machine's */
    uint64_t alarm;
    uint32_t time_high;         /* latched by a read of the low half; the next write's */
    uint32_t alarm_high;
    bool running, pending, enabled;
    struct vm_timer *timer;
};

static uint64_t now(const struct goldfish_rtc *r) { return (uint64_t)vm_rtc_ns(r->dev.vm) + r->offset; }

static void update_line(struct goldfish_rtc *r) { irq_set(r->dev.irq_out[0], r->pending && r->enabled); }

static void alarm_cancel(struct goldfish_rtc *r)
{
    vm_timer_cancel(r->timer);
    r->running = false;
}

static void alarm_arm(struct goldfish_rtc *r)
{
    uint64_t t = now(r);

    if (r->alarm <= t) {
        alarm_cancel(r);
        r->pending = true;
        update_line(r);
        return;
    }
    r->running = true;
    if (r->alarm - t < INT64_MAX / 2)
        vm_timer_set(r->timer, vm_clock_ns(r->dev.vm) + (int64_t)(r->alarm - t));
}

static void alarm_fired(void *opaque)
{
    struct goldfish_rtc *r = opaque;

    if (r->running)
        alarm_arm(r);
}

static uint64_t rtc_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct goldfish_rtc *r = device_cast(dev, struct goldfish_rtc);
    uint64_t t;

    switch (offset) {
    case TIME_LOW:
        t = now(r);
        r->time_high = (uint32_t)(t >> 32);
        return (uint32_t)t;
    case TIME_HIGH: return r->time_high;
    case ALARM_LOW: return (uint32_t)r->alarm;
    case ALARM_HIGH: return r->alarm >> 32;
    case IRQ_ENABLED: return r->enabled;
    case ALARM_STATUS: return r->running;
    default: return 0;
    }
}

static void rtc_write(struct device *dev, uint64_t offset, uint64_t value, unsigned size)
{
    struct goldfish_rtc *r = device_cast(dev, struct goldfish_rtc);

    switch (offset) {
    case TIME_LOW:
        r->offset += ((uint64_t)r->time_high << 32 | (uint32_t)value) - now(r);
        if (r->running)
            alarm_arm(r);
        break;
    case TIME_HIGH:
        r->time_high = (uint32_t)value;
        break;
    case ALARM_LOW:
        r->alarm = (uint64_t)r->alarm_high << 32 | (uint32_t)value;
        alarm_arm(r);
        break;
    case ALARM_HIGH:
        r->alarm_high = (uint32_t)value;
        break;
    case IRQ_ENABLED:
        r->enabled = value & 1;
        update_line(r);
        break;
    case CLEAR_ALARM:
        alarm_cancel(r);
        break;
    case CLEAR_INTERRUPT:
        r->pending = false;
        update_line(r);
        break;
    default:
        guest_error(dev, "write at %#x", (unsigned)offset);
    }
}

static void rtc_reset(struct device *dev, enum reset_kind kind)
{
    struct goldfish_rtc *r = device_cast(dev, struct goldfish_rtc);

    alarm_cancel(r);
    r->alarm = r->alarm_high = 0;
    r->pending = r->enabled = false;
}

static void rtc_reset_hold(struct device *dev) { irq_lower(dev->irq_out[0]); }

static bool rtc_realize(struct device *dev, struct error *err)
{
    struct goldfish_rtc *r = device_cast(dev, struct goldfish_rtc);

    r->timer = vm_timer_new(dev->vm, dev, alarm_fired, r);
    return true;
}

static void rtc_unrealize(struct device *dev) { vm_timer_free(device_cast(dev, struct goldfish_rtc)->timer); }

DEVICE = {
    .name = "goldfish_rtc",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "Goldfish real-time clock",
    .size = sizeof(struct goldfish_rtc),
    .mmio = { { .name = "goldfish_rtc", .size = 0x24, .width = 4, .read = rtc_read, .write = rtc_write } },
    .state = (const struct state_field[]){
        STATE_U64(struct goldfish_rtc, offset), STATE_U64(struct goldfish_rtc, alarm), STATE_U32(struct goldfish_rtc, time_high),
        STATE_U32(struct goldfish_rtc, alarm_high), STATE_BOOL(struct goldfish_rtc, running),
        STATE_BOOL(struct goldfish_rtc, pending), STATE_BOOL(struct goldfish_rtc, enabled), { 0 } },
    .realize = rtc_realize,
    .unrealize = rtc_unrealize,
    .reset_enter = rtc_reset,
    .reset_hold = rtc_reset_hold,
};
