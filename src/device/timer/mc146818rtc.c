/* MC146818A real-time clock and CMOS RAM, as in a PC (ports 70h, 71h, IRQ 8). Motorola data sheet.
 * Time of day is a function of the machine's RTC clock plus an offset that the guest's writes change. */
#include <string.h>
#include <time.h>
#include "rhea/base/options.h"
#include "rhea/device/isa.h"
#include "rhea/device/rtc.h"
#include "rhea/vm/clock.h"
#include "rhea/vm/vm.h"

enum { R_SECONDS, R_SECONDS_ALARM, R_MINUTES, R_MINUTES_ALARM, R_HOURS, R_HOURS_ALARM, R_WEEKDAY, R_DAY, R_MONTH, R_YEAR,
       R_A, R_B, R_C, R_D, R_CENTURY = 0x32 };
enum { A_UIP = 0x80, B_SET = 0x80, B_PIE = 0x40, B_AIE = 0x20, B_UIE = 0x10, B_BINARY = 0x04, B_24H = 0x02,
       C_IRQ = 0x80, C_PF = 0x40, C_AF = 0x20, C_UF = 0x10 };
static const int64_t second = 1000000000;

struct rtc {
    struct isa_device isa;
    uint8_t cmos[128], index;
    int64_t offset;                     /* guest's time - machine's RTC time, ns */
    int64_t last_update;                /* second (of guest time) that updates were last given for */
    struct vm_timer *periodic, *update;
    int64_t periodic_next;
    uint32_t policy, lost;              /* ticks still to be given, with POLICY_SLEW */
};

enum { POLICY_DISCARD, POLICY_SLEW, LOST_MAX = 1024 };
static const char *const policies[] = { "discard", "slew", NULL };

static int64_t rtc_now(const struct rtc *s) { return vm_rtc_ns(s->isa.dev.vm) + s->offset; }

static uint8_t rtc_encode(const struct rtc *s, unsigned v)
{
    return s->cmos[R_B] & B_BINARY ? v : v / 10 << 4 | v % 10;
}

static unsigned rtc_decode(const struct rtc *s, uint8_t v)
{
    return s->cmos[R_B] & B_BINARY ? v : (v >> 4) * 10 + (v & 15);
}

static uint8_t rtc_encode_hour(const struct rtc *s, unsigned hour)
{
    if (s->cmos[R_B] & B_24H)
        return rtc_encode(s, hour);
    return rtc_encode(s, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? 0x80 : 0);
}

static unsigned rtc_decode_hour(const struct rtc *s, uint8_t v)
{
    if (s->cmos[R_B] & B_24H)
        return rtc_decode(s, v);
    return rtc_decode(s, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

static void rtc_refresh(struct rtc *s)
{
    time_t t = rtc_now(s) / second;
    struct tm tm;

    if (s->cmos[R_B] & B_SET || !gmtime_r(&t, &tm))
        return;
    s->cmos[R_SECONDS] = rtc_encode(s, tm.tm_sec);
    s->cmos[R_MINUTES] = rtc_encode(s, tm.tm_min);
    s->cmos[R_HOURS] = rtc_encode_hour(s, tm.tm_hour);
    s->cmos[R_WEEKDAY] = rtc_encode(s, tm.tm_wday + 1);
    s->cmos[R_DAY] = rtc_encode(s, tm.tm_mday);
    s->cmos[R_MONTH] = rtc_encode(s, tm.tm_mon + 1);
    s->cmos[R_YEAR] = rtc_encode(s, tm.tm_year % 100);
    s->cmos[R_CENTURY] = (tm.tm_year / 100 + 19) / 10 << 4 | (tm.tm_year / 100 + 19) % 10;
}

static void rtc_take(struct rtc *s)             /* the guest wrote a time */
{
    struct tm tm = {
        .tm_sec = rtc_decode(s, s->cmos[R_SECONDS]), .tm_min = rtc_decode(s, s->cmos[R_MINUTES]),
        .tm_hour = rtc_decode_hour(s, s->cmos[R_HOURS]), .tm_mday = rtc_decode(s, s->cmos[R_DAY]),
        .tm_mon = (int)rtc_decode(s, s->cmos[R_MONTH]) - 1,
        .tm_year = rtc_decode(s, s->cmos[R_YEAR]) +
                   ((s->cmos[R_CENTURY] >> 4) * 10 + (s->cmos[R_CENTURY] & 15)) * 100 - 1900,
    };

    /* Any century can be written; nanoseconds hold some 146 years about 1970 with room to add. */
    s->offset = CLAMP((int64_t)timegm(&tm), -(INT64_MAX / 2 / second), INT64_MAX / 2 / second) * second - vm_rtc_ns(s->isa.dev.vm);
}

static void rtc_raise(struct rtc *s, uint8_t flag)
{
    s->cmos[R_C] |= flag;
    if (s->cmos[R_C] & s->cmos[R_B] & (C_PF | C_AF | C_UF)) {
        s->cmos[R_C] |= C_IRQ;
        irq_set(s->isa.dev.irq_out[0], 1);
    }
}

static int64_t rtc_period_ns(const struct rtc *s)
{
    unsigned rate = s->cmos[R_A] & 15;

    if (!rate || (s->cmos[R_A] >> 4 & 7) > 2)
        return 0;
    if (rate <= 2)
        rate += 7;
    return muldiv64(1ull << (rate - 1), second, 32768);
}

static void rtc_arm_periodic(struct rtc *s)
{
    int64_t period = rtc_period_ns(s);

    s->lost = 0;
    if (!period || !(s->cmos[R_B] & B_PIE)) {
        vm_timer_cancel(s->periodic);
        return;
    }
    s->periodic_next = vm_clock_ns(s->isa.dev.vm) + period;
    vm_timer_set(s->periodic, s->periodic_next);
}

static void rtc_periodic(void *opaque)
{
    struct rtc *s = opaque;
    int64_t period = rtc_period_ns(s), now = vm_clock_ns(s->isa.dev.vm);

    if (!period)
        return;
    if (s->policy == POLICY_SLEW)       /* one that the guest did not take yet is lost, and those that came late */
        s->lost = MIN(s->lost + !!(s->cmos[R_C] & C_PF) + (uint64_t)(now - s->periodic_next) / period, LOST_MAX);
    rtc_raise(s, C_PF);
    s->periodic_next += period;
    if (s->periodic_next <= now)
        s->periodic_next = now + period;
    vm_timer_set(s->periodic, s->periodic_next);
}

static bool rtc_alarm_matches(const struct rtc *s, unsigned reg, bool hour)
{
    uint8_t want = s->cmos[reg + 1];

    return (want & 0xc0) == 0xc0 || want == s->cmos[reg];
}

/* Update-ended and alarm flags are wanted only while somebody can see them change: their interrupts, or polling. */
static void rtc_arm_update(struct rtc *s)
{
    int64_t left = second - rtc_now(s) % second;

    if (s->cmos[R_B] & B_SET || !(s->cmos[R_B] & (B_UIE | B_AIE)))
        vm_timer_cancel(s->update);
    else
        vm_timer_set(s->update, vm_clock_ns(s->isa.dev.vm) + left);
}

static void rtc_catch_up(struct rtc *s)
{
    int64_t sec = rtc_now(s) / second;

    if (s->cmos[R_B] & B_SET || sec == s->last_update)
        return;
    s->last_update = sec;
    rtc_refresh(s);
    rtc_raise(s, C_UF);
    if (rtc_alarm_matches(s, R_SECONDS, false) && rtc_alarm_matches(s, R_MINUTES, false) &&
        rtc_alarm_matches(s, R_HOURS, true))
        rtc_raise(s, C_AF);
}

static void rtc_update(void *opaque)
{
    rtc_catch_up(opaque);
    rtc_arm_update(opaque);
}

static uint64_t rtc_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct rtc *s = device_cast(dev, struct rtc);
    uint8_t v;

    if (offset == 0)
        return 0xff;
    switch (s->index) {
    case R_SECONDS: case R_MINUTES: case R_HOURS: case R_WEEKDAY: case R_DAY: case R_MONTH: case R_YEAR: case R_CENTURY:
        rtc_refresh(s);
        return s->cmos[s->index];
    case R_A:
        /* An update takes the last 244 us before each second. */
        v = s->cmos[R_A];
        if (!(s->cmos[R_B] & B_SET) && second - rtc_now(s) % second < 244000)
            v |= A_UIP;
        return v;
    case R_C:
        rtc_catch_up(s);
        v = s->cmos[R_C];
        s->cmos[R_C] = 0;
        irq_set(dev->irq_out[0], 0);
        if (s->lost && v & C_PF && s->cmos[R_B] & B_PIE) {      /* made up for as fast as the guest takes them */
            s->lost--;
            rtc_raise(s, C_PF);
        }
        return v;
    default:
        return s->cmos[s->index];
    }
}

static void rtc_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct rtc *s = device_cast(dev, struct rtc);
    uint8_t old;

    if (offset == 0) {
        s->index = v & 0x7f;
        return;
    }
    switch (s->index) {
    case R_SECONDS: case R_MINUTES: case R_HOURS: case R_WEEKDAY: case R_DAY: case R_MONTH: case R_YEAR: case R_CENTURY:
        rtc_refresh(s);
        s->cmos[s->index] = v;
        if (!(s->cmos[R_B] & B_SET))
            rtc_take(s);
        break;
    case R_A:
        s->cmos[R_A] = v & 0x7f;
        rtc_arm_periodic(s);
        break;
    case R_B:
        old = s->cmos[R_B];
        if (v & ~old & B_SET) {
            rtc_refresh(s);
            v &= ~B_UIE;
        }
        s->cmos[R_B] = v;
        if (old & ~v & B_SET)
            rtc_take(s);
        s->last_update = rtc_now(s) / second;
        if ((old ^ v) & B_PIE)
            rtc_arm_periodic(s);
        rtc_arm_update(s);
        rtc_raise(s, 0);
        break;
    case R_C: case R_D:
        break;
    default:
        s->cmos[s->index] = v;
        if (s->index == R_SECONDS_ALARM || s->index == R_MINUTES_ALARM || s->index == R_HOURS_ALARM)
            rtc_arm_update(s);
    }
}

void rtc_set_cmos(struct device *dev, unsigned index, uint8_t value)
{
    if (index > R_D && index < 128)
        device_cast(dev, struct rtc)->cmos[index] = value;
}

static void rtc_reset(struct device *dev, enum reset_kind kind)
{
    struct rtc *s = device_cast(dev, struct rtc);

    s->cmos[R_B] &= ~(B_PIE | B_AIE | B_UIE | 0x08);
    s->cmos[R_C] = 0;
    s->lost = 0;
    vm_timer_cancel(s->periodic);
    vm_timer_cancel(s->update);
}

static bool rtc_realize(struct device *dev, struct error *err)
{
    struct rtc *s = device_cast(dev, struct rtc);

    if (dev->vm->config.rtc && !strcmp(option_str(dev->vm->config.rtc, "driftfix", "none"), "slew"))
        s->policy = POLICY_SLEW;
    isa_map(dev, 0, s->isa.iobase);
    if (!dev->irq_out[0])
        dev->irq_out[0] = isa_line(dev, s->isa.irq);
    s->cmos[R_A] = 0x26;
    s->cmos[R_B] = B_24H;
    s->cmos[R_D] = 0x80;                /* battery good */
    s->periodic = vm_timer_new(dev->vm, dev, rtc_periodic, s);
    s->update = vm_timer_new(dev->vm, dev, rtc_update, s);
    s->last_update = rtc_now(s) / second;
    return true;
}

static void rtc_unrealize(struct device *dev)
{
    vm_timer_free(device_cast(dev, struct rtc)->periodic);
    vm_timer_free(device_cast(dev, struct rtc)->update);
}

DEVICE = {
    .name = "mc146818rtc",
    .parent = "isa-device",
    .category = "Misc",
    .summary = "real-time clock and CMOS RAM",
    .size = sizeof(struct rtc),
    .mmio = { { .name = "rtc", .size = 2, .width = 1, .read = rtc_read, .write = rtc_write } },
    .props = (const struct prop[]){ PROP(struct rtc, isa.iobase, "iobase", PROP_U32, "0x70", "first I/O port"),
                                    PROP(struct rtc, isa.irq, "irq", PROP_U32, "8", "interrupt line"),
                                    { .name = "lost_tick_policy", .type = PROP_ENUM, .offset = offsetof(struct rtc, policy),
                                      .values = policies, .def = "discard",
                                      .help = "slew (as -rtc driftfix=slew): periodic ticks that came late are made up for" },
                                    { 0 } },
    .state = (const struct state_field[]){ STATE_BYTES(struct rtc, cmos), STATE_U8(struct rtc, index),
                                           STATE_U64(struct rtc, offset), STATE_U64(struct rtc, last_update),
                                           STATE_U64(struct rtc, periodic_next), STATE_U32(struct rtc, lost), { 0 } },
    .realize = rtc_realize,
    .unrealize = rtc_unrealize,
    .reset_enter = rtc_reset,
};
