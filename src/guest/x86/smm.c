/* System management mode: AMD APM vol. 2, chapter 10, with its 64-bit state-save area (table 10-2), which firmware knows by
 * the revision; SDM vol. 3, chapter 32 says the rest. A CPU in it sees vm->smm_memory. Not modelled: restart of I/O
 * instructions, whose flag reads 0. */
#include "rhea/base/log.h"
#include "rhea/vm/vm.h"
#include "system.h"

enum { SMM_ENTRY = 0x8000, SMM_REVISION = 0x00020064 /* with SMBASE relocation */ };
/* The save area, from SMBASE + FE00H */
enum { SAVE_AREA = 0xfe00, SAVE_SEGMENTS = 0x00, SAVE_GDT = 0x60, SAVE_LDT = 0x70, SAVE_IDT = 0x80, SAVE_TR = 0x90,
       SAVE_IO_RESTART = 0xc8, SAVE_HALT_RESTART = 0xc9, SAVE_EFER = 0xd0, SAVE_REVISION = 0xfc, SAVE_SMBASE = 0x100,
       SAVE_CR4 = 0x148, SAVE_CR3 = 0x150, SAVE_CR0 = 0x158, SAVE_DR7 = 0x160, SAVE_DR6 = 0x168, SAVE_RFLAGS = 0x170,
       SAVE_RIP = 0x178, SAVE_REGS = 0x1f8 /* RAX, and on down */, SAVE_BYTES = 0x200 };

struct save { uint8_t b[SAVE_BYTES]; };

static void put(struct save *s, unsigned at, unsigned bytes, uint64_t v)
{
    for (unsigned n = 0; n < bytes; n++)
        s->b[at + n] = (uint8_t)(v >> 8 * n);
}

static uint64_t get(const struct save *s, unsigned at, unsigned bytes)
{
    uint64_t v = 0;

    for (unsigned n = 0; n < bytes; n++)
        v |= (uint64_t)s->b[at + n] << 8 * n;
    return v;
}

static void save_transfer(const struct x86_cpu *c, struct save *s, bool write)
{
    struct vm *vm = c->cpu.vcpu->vm;

    for (unsigned n = 0; n < SAVE_BYTES; n += 8) {
        uint64_t at = (c->smbase + SAVE_AREA + n) & UINT32_MAX;

        if (write)
            as_write(vm->smm_memory, at, &s->b[n], 8, MEM_ATTRS_NONE);
        else
            put(s, n, 8, as_load(vm->smm_memory, at, 8, MEM_ATTRS_NONE, NULL));
    }
}

/* Attributes are saved as 12 bits: those of the descriptor's second word from bit 8, without the limit's. */
static void put_segment(struct save *s, unsigned at, const struct x86_segment *seg)
{
    put(s, at, 2, seg->selector);
    put(s, at + 2, 2, seg->attr >> 8 & 0xf0ff);
    put(s, at + 4, 4, seg->limit);
    put(s, at + 8, 8, seg->base);
}

static struct x86_segment get_segment(const struct save *s, unsigned at)
{
    return (struct x86_segment){ .selector = (uint16_t)get(s, at, 2), .attr = (uint32_t)(get(s, at + 2, 2) & 0xf0ff) << 8,
                                 .limit = (uint32_t)get(s, at + 4, 4), .base = get(s, at + 8, 8) };
}

static void save_state(const struct x86_cpu *c, struct save *s)
{
    for (unsigned n = S_ES; n <= S_GS; n++)
        put_segment(s, SAVE_SEGMENTS + 16 * n, &c->seg[n]);
    put_segment(s, SAVE_LDT, &c->seg[S_LDT]);
    put_segment(s, SAVE_TR, &c->seg[S_TR]);
    put(s, SAVE_GDT + 4, 4, c->gdt.limit);
    put(s, SAVE_GDT + 8, 8, c->gdt.base);
    put(s, SAVE_IDT + 4, 4, c->idt.limit);
    put(s, SAVE_IDT + 8, 8, c->idt.base);
    put(s, SAVE_HALT_RESTART, 1, c->halted);
    put(s, SAVE_EFER, 8, c->efer);
    put(s, SAVE_REVISION, 4, SMM_REVISION);
    put(s, SAVE_SMBASE, 4, c->smbase);
    put(s, SAVE_CR4, 8, c->cr4);
    put(s, SAVE_CR3, 8, c->cr3);
    put(s, SAVE_CR0, 8, c->cr0);
    put(s, SAVE_DR7, 8, c->dr[7]);
    put(s, SAVE_DR6, 8, c->dr[6]);
    put(s, SAVE_RFLAGS, 8, x86_eflags(c));
    put(s, SAVE_RIP, 8, x86_ip(c));
    for (unsigned n = 0; n < 16; n++)
        put(s, SAVE_REGS - 8 * n, 8, c->regs[n]);
}

/* What addresses mean changes. */
static void switch_memory(struct x86_cpu *c, bool in)
{
    c->in_smm = in;
    c->cpu.memory = in ? c->cpu.vcpu->vm->smm_memory : NULL;
    cpu_tlb_flush(&c->cpu, ~0u);
    c->trap_pending = c->shadow = c->watch_hits = 0;
}

/* Without SMM in the machine an SMI has no effect. */
bool x86_smi_ready(const struct x86_cpu *c)
{
    return c->smi_pending && !c->in_smm && c->cpu.vcpu && c->cpu.vcpu->vm->smm_memory;
}

/* APM vol. 2, 10.3.5: flat segments in real mode, interrupts and NMI masked. */
void x86_smm_enter(struct x86_cpu *c)
{
    struct save s = { 0 };

    log_at(LOG_INT, "x86 cpu %d: SMI at ip %#" G_GINT64_MODIFIER "x smbase %#" G_GINT64_MODIFIER "x\n", c->cpu.index,
           x86_ip(c), c->smbase);
    save_state(c, &s);
    c->smm_nmi_masked = c->nmi_masked;
    c->nmi_masked = true;
    x86_mwait_end(c);
    switch_memory(c, true);
    save_transfer(c, &s, true);
    c->efer &= ~(uint64_t)(EFER_LME | EFER_LMA);
    x86_set_cr0(c, c->cr0 & ~(uint64_t)(CR0_PE | CR0_EM | CR0_TS | CR0_PG));
    x86_set_cr4(c, 0);
    c->efer = 0;
    c->dr[7] = 0x400;
    x86_set_eflags(c, 2, ~UINT64_C(0));
    for (unsigned n = S_ES; n <= S_GS; n++)
        c->seg[n] = (struct x86_segment){ .attr = ATTR_P | ATTR_S | ATTR_RW | ATTR_ACCESSED | ATTR_G, .limit = UINT32_MAX };
    c->seg[S_CS].base = c->smbase;
    c->seg[S_CS].selector = (uint16_t)(c->smbase >> 4);
    x86_set_cpl(c, 0);
    x86_set_ip(c, SMM_ENTRY);
}

/* What no processor could have been in is a shutdown: APM vol. 2, 10.3.8. */
static bool state_possible(const struct x86_cpu *c, const struct save *s)
{
    uint64_t cr0 = get(s, SAVE_CR0, 8), cr4 = get(s, SAVE_CR4, 8), efer = get(s, SAVE_EFER, 8);

    if (cr0 >> 32 || ((cr0 & CR0_PG) && !(cr0 & CR0_PE)) || ((cr0 & CR0_NW) && !(cr0 & CR0_CD)))
        return false;
    if (cr4 & ~x86_cr4_allowed(c))
        return false;
    return !(efer & EFER_LMA) || (cr0 & CR0_PG && cr4 & CR4_PAE && x86_has(c->features, XF_LM));
}

static void restore_state(struct x86_cpu *c, const struct save *s)
{
    c->efer = get(s, SAVE_EFER, 8) & (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_FFXSR);
    x86_set_cr4(c, get(s, SAVE_CR4, 8));
    c->cr3 = get(s, SAVE_CR3, 8) & (c->phys_mask | UINT32_MAX);
    x86_set_cr0(c, get(s, SAVE_CR0, 8));
    for (unsigned n = S_ES; n <= S_GS; n++)
        c->seg[n] = get_segment(s, SAVE_SEGMENTS + 16 * n);
    c->seg[S_LDT] = get_segment(s, SAVE_LDT);
    c->seg[S_TR] = get_segment(s, SAVE_TR);
    c->gdt = (struct x86_table){ get(s, SAVE_GDT + 8, 8), (uint16_t)get(s, SAVE_GDT + 4, 4) };
    c->idt = (struct x86_table){ get(s, SAVE_IDT + 8, 8), (uint16_t)get(s, SAVE_IDT + 4, 4) };
    c->dr[7] = (get(s, SAVE_DR7, 8) & 0xffff2bff) | 0x400;
    c->dr[6] = (get(s, SAVE_DR6, 8) & 0xe00f) | 0xffff0ff0;
    x86_set_eflags(c, get(s, SAVE_RFLAGS, 8) | 2, ~UINT64_C(0));
    for (unsigned n = 0; n < 16; n++)
        c->regs[n] = get(s, SAVE_REGS - 8 * n, 8);
    x86_set_cpl(c, !(c->cr0 & CR0_PE) ? 0 : c->eflags & EF_VM ? 3 : attr_dpl(c->seg[S_SS].attr));
    x86_set_ip(c, get(s, SAVE_RIP, 8));
    c->smbase = get(s, SAVE_SMBASE, 4);
    c->halted = get(s, SAVE_HALT_RESTART, 1) & 1;
}

uint64_t helper_rsm(struct cpu *cpu)
{
    struct x86_cpu *c = x86(cpu);
    struct save s;

    if (!c->in_smm)
        x86_raise(c, X_UD, -1);
    save_transfer(c, &s, false);
    if (!state_possible(c, &s)) {
        log_at(LOG_GUEST_ERRORS, "x86 cpu %d: RSM to an impossible state\n", cpu->index);
        x86_shutdown(c);
        cpu_loop_exit(cpu);
    }
    restore_state(c, &s);
    c->nmi_masked = c->smm_nmi_masked;
    switch_memory(c, false);
    log_at(LOG_INT, "x86 cpu %d: RSM to ip %#" G_GINT64_MODIFIER "x\n", cpu->index, x86_ip(c));
    return cpu->pc;
}
