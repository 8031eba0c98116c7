/* The common part of x86 boards. */
#include <string.h>
#include "common.h"
#include "rhea/device/rtc.h"
#include "rhea/vm/object.h"

static const uint64_t four_gib = UINT64_C(1) << 32;

/* ---- interrupts. A GSI reaches both kinds of controllers; the guest unmasks one. The PIT's line is input 0 of the
 * 8259 but pin 2 of the I/O APIC, as MADT and MP table say. */
static void gsi_set(void *opaque, int n, int level)
{
    struct x86_machine *m = opaque;

    if (m->pic && n < ISA_IRQS && n != 2)
        irq_set(i8259_line(m->pic, n), level);
    irq_set(ioapic_line(m->ioapic, n == 0 ? 2 : n), level);
}

static bool msi(void *opaque, uint64_t addr, uint32_t data, uint16_t requester)
{
    if ((addr & ~UINT64_C(0xfffff)) != X86_APIC_BASE)
        return false;
    apic_msi(opaque, addr, data);
    return true;
}

struct device *x86_sysbus_device(struct x86_machine *m, const char *name, uint64_t addr, struct error *err)
{
    struct device *d = device_new(m->vm, name, NULL, err);

    if (!d || !device_realize(d, NULL, err))
        return NULL;
    mem_region_add(&m->vm->system_memory, addr, &d->mmio[0], 0);
    return d;
}

struct device *x86_isa_device(struct x86_machine *m, const char *name, struct error *err)
{
    struct device *d = device_new(m->vm, name, NULL, err);

    return d && device_realize(d, m->isa, err) ? d : NULL;
}

static bool make_cpus(struct x86_machine *m, struct error *err)
{
    for (unsigned i = 0; i < m->vm->config.cpus; i++) {
        struct vcpu *v = vcpu_new(m->vm, err);
        struct device *apic = v ? device_new(m->vm, "apic", NULL, err) : NULL;

        if (!apic)
            return false;
        apic_connect(apic, v);
        if (!device_realize(apic, NULL, err))
            return false;
        /* One page serves all: it finds the APIC of whoever asks. */
        if (i == 0)
            mem_region_add(&m->vm->system_memory, X86_APIC_BASE, &apic->mmio[0], 10);
    }
    return true;
}

static bool make_ram(struct x86_machine *m, struct error *err)
{
    struct vm *vm = m->vm;
    uint64_t size = vm->config.ram_size;

    m->ram = vm_main_ram(vm, vm->board->default_ram_id, err);
    if (!m->ram)
        return false;
    m->low_size = MIN(size, m->hole_start);
    m->high_size = size - m->low_size;
    mem_region_init_ram(&m->ram_low, vm, NULL, "ram-below-4g", m->ram, 0, m->low_size);
    mem_region_add(&vm->system_memory, 0, &m->ram_low, -1);
    if (m->high_size) {
        mem_region_init_ram(&m->ram_high, vm, NULL, "ram-above-4g", m->ram, m->low_size, m->high_size);
        mem_region_add(&vm->system_memory, four_gib, &m->ram_high, -1);
    }
    x86_e820(m, 0, 0x9fc00, E820_RAM);
    x86_e820(m, 0x9fc00, 0x400, E820_RESERVED);
    x86_e820(m, 0xe0000, 0x20000, E820_RESERVED);
    x86_e820(m, 0x100000, m->low_size - 0x100000, E820_RAM);
    if (m->high_size)
        x86_e820(m, four_gib, m->high_size, E820_RAM);
    return true;
}

/* What firmware would find in CMOS: memory sizes, and how many processors. */
static void set_cmos(struct x86_machine *m)
{
    uint64_t kib = (MIN(m->low_size, 64 << 20) >> 10) - 1024, blocks = m->low_size > (16 << 20) ? (m->low_size - (16 << 20)) >> 16 : 0;
    uint64_t high = m->high_size >> 16;

    rtc_set_cmos(m->rtc, 0x15, 640 & 0xff);
    rtc_set_cmos(m->rtc, 0x16, 640 >> 8);
    rtc_set_cmos(m->rtc, 0x17, MIN(kib, 0xffff) & 0xff);
    rtc_set_cmos(m->rtc, 0x18, MIN(kib, 0xffff) >> 8);
    rtc_set_cmos(m->rtc, 0x30, MIN(kib, 0xffff) & 0xff);
    rtc_set_cmos(m->rtc, 0x31, MIN(kib, 0xffff) >> 8);
    rtc_set_cmos(m->rtc, 0x34, MIN(blocks, 0xffff) & 0xff);
    rtc_set_cmos(m->rtc, 0x35, MIN(blocks, 0xffff) >> 8);
    rtc_set_cmos(m->rtc, 0x5b, high);
    rtc_set_cmos(m->rtc, 0x5c, high >> 8);
    rtc_set_cmos(m->rtc, 0x5d, high >> 16);
    rtc_set_cmos(m->rtc, 0x5f, m->vm->config.cpus - 1);
}

static bool make_hpet(struct x86_machine *m, struct error *err)
{
    if (!(m->hpet = device_new(m->vm, "hpet", NULL, err)))
        return false;
    for (unsigned i = 0; i < X86_GSIS; i++)
        m->hpet->irq_out[i] = m->gsi[i == 2 ? 0 : i];   /* routes name I/O APIC pins */
    if (!device_realize(m->hpet, NULL, err))
        return false;
    mem_region_add(&m->vm->system_memory, X86_HPET_BASE, &m->hpet->mmio[0], 0);
    return true;
}

bool x86_machine_init(struct x86_machine *m, struct error *err)
{
    struct vm *vm = m->vm;
    struct irq *lines[ISA_IRQS];

    if (vm->config.ram_size < 2 << 20)
        return error_set(err, ERR_GENERIC, "an x86 machine needs at least 2 MiB of memory", "give more with -m");
    if (!make_ram(m, err) || !make_cpus(m, err))
        return false;
    vm->msi = msi;
    vm->msi_opaque = vm;
    m->ioapic = x86_sysbus_device(m, "ioapic", X86_IOAPIC_BASE, err);
    if (!m->ioapic)
        return false;
    for (int i = 0; i < X86_GSIS; i++)
        m->gsi[i] = irq_new(gsi_set, m, i);
    memcpy(lines, m->gsi, sizeof(lines));
    m->isa = isa_bus_new(vm, NULL, lines);
    if (m->has_pic) {
        if (!(m->pic = device_new(vm, "isa-i8259", NULL, err)))
            return false;
        m->pic->irq_out[0] = apic_pic_line(vm, m->pic);
        if (!device_realize(m->pic, m->isa, err))
            return false;
    }
    if (m->has_pit && !(m->pit = x86_isa_device(m, "isa-pit", err)))
        return false;
    if (m->has_rtc) {
        if (!(m->rtc = x86_isa_device(m, "mc146818rtc", err)))
            return false;
        set_cmos(m);
    }
    return !m->has_hpet || make_hpet(m, err);
}

bool x86_serials(struct x86_machine *m, struct error *err)
{
    struct json_object *list = m->vm->config.serials;

    for (size_t i = 0; list && i < json_object_array_length(list); i++) {
        struct json_object *id = json_object_array_get_idx(list, i);
        struct device *d;

        if (!id)
            continue;
        d = device_new(m->vm, "isa-serial", NULL, err);
        if (!d || !device_set(d, "chardev", json_object_get_string(id), err) || !device_realize(d, m->isa, err))
            return false;
    }
    return true;
}

void x86_blob(struct x86_machine *m, uint64_t addr, void *data, size_t len)
{
    if (m->nblobs == X86_BLOBS) {       /* a board's own mistake, not a user's */
        g_critical("too many tables for memory");
        g_free(data);
        return;
    }
    m->blob[m->nblobs++] = (struct x86_blob){ .addr = addr, .data = data, .len = len };
}

void x86_e820(struct x86_machine *m, uint64_t addr, uint64_t size, enum x86_e820_type type)
{
    if (size && m->ne820 < G_N_ELEMENTS(m->e820))
        m->e820[m->ne820++] = (struct x86_e820){ addr, size, type };
}

/* ---- state of the boot processor at the kernel's entry */
static struct x86_segment flat(uint16_t selector, uint32_t attr)
{
    return (struct x86_segment){ .selector = selector, .attr = attr, .limit = 0xffffffff };
}

enum { CODE32 = 0xc09b00, CODE64 = 0xa09b00, DATA = 0xc09300, TSS = 0x8b00 };

static void enter_protected(struct x86_cpu *c, bool wide)
{
    static const enum x86_seg data[] = { S_ES, S_SS, S_DS, S_FS, S_GS };

    c->cr0 |= 1;                        /* PE */
    c->seg[S_CS] = flat(0x10, wide ? CODE64 : CODE32);
    for (unsigned i = 0; i < G_N_ELEMENTS(data); i++)
        c->seg[data[i]] = flat(0x18, DATA);
    c->seg[S_TR] = (struct x86_segment){ .selector = 0x20, .attr = TSS, .limit = 0x67 };
    c->gdt = (struct x86_table){ .base = X86_GDT_ADDR, .limit = 0x27 };
    c->eflags = 2;
    if (wide) {
        c->cr3 = X86_TABLES_ADDR;
        c->cr4 |= 0x20;                 /* PAE */
        c->efer |= 1 << 8 | 1 << 10;    /* LME, LMA */
        c->cr0 |= UINT64_C(1) << 31;
    }
}

static void enter_kernel(struct x86_machine *m)
{
    struct x86_cpu *c = (struct x86_cpu *)m->vm->vcpus[0]->cpu;

    if (m->boot.how == ENTRY_FIRMWARE)
        return;
    enter_protected(c, m->boot.how == ENTRY_LINUX64);
    c->cpu.pc = m->boot.entry;
    switch (m->boot.how) {
    case ENTRY_LINUX64: case ENTRY_LINUX32:
        c->regs[R_RSI] = m->boot.argument;
        break;
    case ENTRY_MULTIBOOT:
        c->regs[R_RAX] = 0x2badb002;
        c->regs[R_RBX] = m->boot.argument;
        break;
    default:
        c->regs[R_RBX] = m->boot.argument;
    }
}

void x86_machine_reset(struct x86_machine *m)
{
    for (unsigned i = 0; i < m->nblobs; i++)
        as_write(&m->vm->memory, m->blob[i].addr, m->blob[i].data, m->blob[i].len, MEM_ATTRS_NONE);
    enter_kernel(m);
    for (unsigned i = 1; i < m->vm->nvcpus; i++) {
        struct x86_cpu *c = (struct x86_cpu *)m->vm->vcpus[i]->cpu;

        c->wait_for_sipi = c->halted = true;
    }
}

void x86_machine_free(struct x86_machine *m)
{
    for (unsigned i = 0; i < m->nblobs; i++)
        g_free(m->blob[i].data);
    for (unsigned i = 0; i < X86_GSIS; i++)
        if (m->gsi[i])
            irq_free(m->gsi[i]);
    g_free(m->append);
    g_free(m->append_extra);
}
