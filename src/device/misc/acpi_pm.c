/* ACPI power management registers of ICH9: PM1 event and control blocks, the PM timer, GPE0, SMI enable.
 * ICH9 data sheet, 13.8.3; ACPI specification 6.5, 4.8. One block of 128 I/O ports that the board maps at PMBASE. */
#include "rhea/device/acpi_pm.h"
#include "rhea/vm/clock.h"
#include "rhea/vm/vm.h"

enum { PM1_STS = 0x00, PM1_EN = 0x02, PM1_CNT = 0x04, PM_TMR = 0x08, GPE0_STS = 0x20, GPE0_EN = 0x28, SMI_EN = 0x30,
       SMI_STS = 0x34, PM_SIZE = 0x80, GPE_BYTES = 8 };
enum { SMI_EN_GLOBAL = 1, SMI_EN_APMC = 1 << 5, SMI_STS_APM = 1 << 5 };
enum { STS_TMR = 1 << 0, STS_GBL = 1 << 5, STS_PWRBTN = 1 << 8, STS_RTC = 1 << 10, STS_WAKE = 1 << 15 };
enum { CNT_SCI_EN = 1, CNT_SLP_EN = 1 << 13, PM_TIMER_HZ = 3579545, SLP_S5 = 0 };

struct acpi_pm {
    struct device dev;
    uint16_t sts, en, cnt;
    uint32_t smi_en, smi_sts;
    uint8_t gpe_sts[GPE_BYTES], gpe_en[GPE_BYTES];
    uint8_t s5_type;                    /* SLP_TYP that the board's \_S5 package names */
    int64_t overflow;                   /* virtual ns when bit 23 of the timer next changes */
    struct vm_timer *timer;
    void (*smi)(void *opaque);
    void *smi_opaque;
};

static uint64_t pm_ticks(const struct acpi_pm *p) { return muldiv64(vm_clock_ns(p->dev.vm), PM_TIMER_HZ, 1000000000); }

static void pm_update_sci(struct acpi_pm *p)
{
    bool level = p->sts & p->en & (STS_TMR | STS_GBL | STS_PWRBTN | STS_RTC);

    for (unsigned i = 0; i < GPE_BYTES; i++)
        level |= p->gpe_sts[i] & p->gpe_en[i];
    irq_set(p->dev.irq_out[0], level && p->cnt & CNT_SCI_EN);
}

/* TMR_STS is set whenever bit 23 changes; watched only while its interrupt is enabled. */
static void pm_arm_timer(struct acpi_pm *p)
{
    uint64_t next = (pm_ticks(p) & ~0x7fffffull) + 0x800000;

    if (!(p->en & STS_TMR)) {
        vm_timer_cancel(p->timer);
        return;
    }
    p->overflow = muldiv64(next, 1000000000, PM_TIMER_HZ) + 1;
    vm_timer_set(p->timer, p->overflow);
}

static void pm_timer_fired(void *opaque)
{
    struct acpi_pm *p = opaque;

    p->sts |= STS_TMR;
    pm_update_sci(p);
    pm_arm_timer(p);
}

static void pm_control(struct acpi_pm *p, uint16_t v)
{
    p->cnt = (p->cnt & CNT_SCI_EN) | (v & ~(CNT_SLP_EN | CNT_SCI_EN)) | (v & CNT_SCI_EN);
    if (v & CNT_SLP_EN) {
        if ((v >> 10 & 7) == p->s5_type)
            vm_request_stop(p->dev.vm, STOP_GUEST_SHUTDOWN, 0);
        else
            guest_unimp(&p->dev, "sleep type %u", v >> 10 & 7);
    }
    pm_update_sci(p);
}

/* The block as bytes: registers of 1, 2 and 4 bytes are all reached at their own widths and by parts. */
static uint8_t pm_read_byte(struct acpi_pm *p, unsigned o)
{
    uint32_t tmr;

    switch (o) {
    case PM1_STS: case PM1_STS + 1: return p->sts >> 8 * (o - PM1_STS);
    case PM1_EN: case PM1_EN + 1: return p->en >> 8 * (o - PM1_EN);
    case PM1_CNT: case PM1_CNT + 1: return p->cnt >> 8 * (o - PM1_CNT);
    case PM_TMR: case PM_TMR + 1: case PM_TMR + 2:
        tmr = pm_ticks(p) & 0xffffff;
        return tmr >> 8 * (o - PM_TMR);
    case SMI_EN: case SMI_EN + 1: case SMI_EN + 2: case SMI_EN + 3: return p->smi_en >> 8 * (o - SMI_EN);
    }
    if (o >= GPE0_STS && o < GPE0_STS + GPE_BYTES)
        return p->gpe_sts[o - GPE0_STS];
    if (o >= GPE0_EN && o < GPE0_EN + GPE_BYTES)
        return p->gpe_en[o - GPE0_EN];
    return 0;
}

static uint64_t pm_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct acpi_pm *p = device_cast(dev, struct acpi_pm);
    uint64_t v = 0;

    if (offset == PM_TMR && size == 4)
        return pm_ticks(p) & 0xffffff;
    for (unsigned i = 0; i < size; i++)
        v |= (uint64_t)pm_read_byte(p, offset + i) << 8 * i;
    return v;
}

static void pm_write_byte(struct acpi_pm *p, unsigned o, uint8_t v)
{
    unsigned shift = 8 * (o & 1);

    switch (o) {
    case PM1_STS: case PM1_STS + 1: p->sts &= ~((uint16_t)v << shift); return;
    case PM1_EN: case PM1_EN + 1: p->en = (p->en & ~(0xff << shift)) | v << shift; return;
    case SMI_EN: case SMI_EN + 1: case SMI_EN + 2: case SMI_EN + 3:
        shift = 8 * (o - SMI_EN);
        p->smi_en = (p->smi_en & ~(0xffu << shift)) | (uint32_t)v << shift;
        return;
    }
    if (o >= GPE0_STS && o < GPE0_STS + GPE_BYTES)
        p->gpe_sts[o - GPE0_STS] &= ~v;
    else if (o >= GPE0_EN && o < GPE0_EN + GPE_BYTES)
        p->gpe_en[o - GPE0_EN] = v;
}

static void pm_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct acpi_pm *p = device_cast(dev, struct acpi_pm);

    if (offset == PM1_CNT) {
        pm_control(p, size == 1 ? (p->cnt & 0xff00) | (v & 0xff) : v);
        return;
    }
    if (offset == PM1_CNT + 1) {
        pm_control(p, (p->cnt & 0xff) | (v & 0xff) << 8);
        return;
    }
    for (unsigned i = 0; i < size; i++)
        pm_write_byte(p, offset + i, v >> 8 * i);
    pm_arm_timer(p);
    pm_update_sci(p);
}

void acpi_pm_power_button(struct device *dev)
{
    struct acpi_pm *p = device_cast(dev, struct acpi_pm);

    g_rec_mutex_lock(&dev->lock);
    p->sts |= STS_PWRBTN;
    pm_update_sci(p);
    g_rec_mutex_unlock(&dev->lock);
}

void acpi_pm_gpe(struct device *dev, unsigned gpe)
{
    struct acpi_pm *p = device_cast(dev, struct acpi_pm);

    if (gpe >= GPE_BYTES * 8)
        return;
    g_rec_mutex_lock(&dev->lock);
    p->gpe_sts[gpe / 8] |= 1 << (gpe % 8);
    pm_update_sci(p);
    g_rec_mutex_unlock(&dev->lock);
}

void acpi_pm_smi_command(struct device *dev, uint8_t v)
{
    struct acpi_pm *p = device_cast(dev, struct acpi_pm);
    bool smi;

    g_rec_mutex_lock(&dev->lock);
    smi = p->smi && (p->smi_en & (SMI_EN_APMC | SMI_EN_GLOBAL)) == (SMI_EN_APMC | SMI_EN_GLOBAL);
    if (smi)
        p->smi_sts |= SMI_STS_APM;
    else if (v == ACPI_ENABLE_COMMAND)
        p->cnt |= CNT_SCI_EN;
    else if (v == ACPI_DISABLE_COMMAND)
        p->cnt &= ~CNT_SCI_EN;
    pm_update_sci(p);
    g_rec_mutex_unlock(&dev->lock);
    if (smi)
        p->smi(p->smi_opaque);
}

void acpi_pm_on_smi(struct device *dev, void (*fn)(void *opaque), void *opaque)
{
    struct acpi_pm *p = device_cast(dev, struct acpi_pm);

    p->smi = fn;
    p->smi_opaque = opaque;
}

static void pm_powerdown(void *opaque)
{
    acpi_pm_power_button(opaque);
}

static void pm_reset(struct device *dev, enum reset_kind kind)
{
    struct acpi_pm *p = device_cast(dev, struct acpi_pm);

    p->sts = p->en = 0;
    /* Without firmware nobody else turns ACPI mode on: FADT says hardware-reduced-like "no SMI command". */
    p->cnt = CNT_SCI_EN;
    p->smi_en = p->smi_sts = 0;
    for (unsigned i = 0; i < GPE_BYTES; i++)
        p->gpe_sts[i] = p->gpe_en[i] = 0;
    vm_timer_cancel(p->timer);
}

static bool pm_realize(struct device *dev, struct error *err)
{
    struct acpi_pm *p = device_cast(dev, struct acpi_pm);

    p->timer = vm_timer_new(dev->vm, dev, pm_timer_fired, p);
    vm_powerdown_notifier(dev->vm, pm_powerdown, p);
    return true;
}

static void pm_unrealize(struct device *dev)
{
    vm_timer_free(device_cast(dev, struct acpi_pm)->timer);
}

DEVICE = {
    .name = "ICH9-PM",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "ACPI power management block",
    .size = sizeof(struct acpi_pm),
    .mmio = { { .name = "acpi-pm", .size = PM_SIZE, .width = 4, .min = 1, .max = 4, .unaligned = true, .read = pm_read, .write = pm_write } },
    .props = (const struct prop[]){ PROP(struct acpi_pm, s5_type, "s5-type", PROP_U8, "0", "sleep type that powers off (\\_S5)"), { 0 } },
    .state = (const struct state_field[]){
        STATE_U16(struct acpi_pm, sts), STATE_U16(struct acpi_pm, en), STATE_U16(struct acpi_pm, cnt),
        STATE_U32(struct acpi_pm, smi_en), STATE_U32(struct acpi_pm, smi_sts), STATE_BYTES(struct acpi_pm, gpe_sts),
        STATE_BYTES(struct acpi_pm, gpe_en), STATE_U64(struct acpi_pm, overflow), { 0 } },
    .realize = pm_realize,
    .unrealize = pm_unrealize,
    .reset_enter = pm_reset,
};
