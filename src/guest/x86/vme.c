/* Virtual-8086 mode extensions and protected-mode virtual interrupts (CR4.VME, CR4.PVI): below IOPL 3, VIF stands for IF,
 * and INT n goes through the program's own vector table where the TSS says so. SDM vol. 3, 21.3 and 21.4. */
#include "system.h"

static _Noreturn void refuse(struct x86_cpu *c) { x86_raise(c, X_GP, 0); }

static bool vme(const struct x86_cpu *c) { return x86_vm86(c) && c->cr4 & CR4_VME; }

static void set_vif(struct x86_cpu *c, bool on)
{
    c->eflags = on ? c->eflags | EF_VIF : c->eflags & ~(uint64_t)EF_VIF;
}

/* CLI and STI where CPL is above IOPL. */
void helper_virtual_if(struct cpu *cpu, uint32_t on)
{
    struct x86_cpu *c = x86(cpu);

    if (!vme(c) && !(x86_protected(c) && c->cpl == 3 && c->cr4 & CR4_PVI))
        refuse(c);
    if (on && c->eflags & EF_VIP)
        refuse(c);
    set_vif(c, on);
}

/* FLAGS as a program below IOPL 3 sees them: it seems to have IOPL 3, and VIF is IF. */
static uint64_t flags_seen(const struct x86_cpu *c)
{
    uint64_t f = x86_eflags(c) & 0xffff;

    if (x86_iopl(c) == 3)
        return f;
    return (f & ~(uint64_t)EF_IF) | EF_IOPL | (c->eflags & EF_VIF ? EF_IF : 0);
}

uint64_t helper_virtual_pushf(struct cpu *cpu)
{
    struct x86_cpu *c = x86(cpu);

    if (!vme(c))
        refuse(c);
    return flags_seen(c);
}

void x86_virtual_flags_check(struct x86_cpu *c, uint64_t flags)
{
    if (!vme(c) || flags & EF_TF || (flags & EF_IF && c->eflags & EF_VIP))
        refuse(c);
}

void x86_virtual_flags(struct x86_cpu *c, uint64_t flags)
{
    x86_set_eflags(c, flags, EF_ARITH | EF_TF | EF_DF | EF_NT);
    set_vif(c, flags & EF_IF);
}

void helper_virtual_popf(struct cpu *cpu, uint64_t flags)
{
    struct x86_cpu *c = x86(cpu);

    x86_virtual_flags_check(c, flags);
    x86_virtual_flags(c, flags);
    c->eflags &= ~(uint64_t)EF_RF;
}

/* ---- INT n: the 32 bytes below the I/O permission map hold a bit for each vector, 0: the program's own handler. */

static bool redirected(struct x86_cpu *c, unsigned vector)
{
    const struct x86_segment *tr = &c->seg[S_TR];
    uint32_t map;

    if (!vme(c) || !(attr_type(tr->attr) & 8) || tr->limit < 103)
        return false;
    map = (uint32_t)x86_system_load(c, tr->base + 102, 2);
    if (map < 32 || map - 32 + vector / 8 > tr->limit)
        refuse(c);
    return !(x86_system_load(c, tr->base + map - 32 + vector / 8, 1) >> vector % 8 & 1);
}

static void interrupt_8086(struct x86_cpu *c, unsigned vector, uint64_t ip)
{
    struct x86_stack s = x86_stack_begin(c);
    uint32_t entry = (uint32_t)cpu_load(&c->cpu, vector * 4, MEM_32 | x86_level_mmu(c, 3) << MEM_MMU_SHIFT);

    x86_stack_push(&s, 2, flags_seen(c));
    x86_stack_push(&s, 2, c->seg[S_CS].selector);
    x86_stack_push(&s, 2, ip);
    x86_stack_done(&s);
    c->eflags &= ~(uint64_t)(EF_TF | EF_RF | (x86_iopl(c) == 3 ? EF_IF : EF_VIF));
    x86_segment_real(c, S_CS, (uint16_t)(entry >> 16));
    x86_set_ip(c, entry & 0xffff);
}

/* INT n in virtual-8086 mode; not INT3, INTO and INT1, which go to the monitor always. Table 21-2. */
uint64_t helper_vm86_interrupt(struct cpu *cpu, uint32_t vector, uint32_t insn_len)
{
    struct x86_cpu *c = x86(cpu);
    uint64_t ip = x86_ip(c) + insn_len;

    if (redirected(c, vector)) {
        interrupt_8086(c, vector, ip);
        return cpu->pc;
    }
    if (x86_iopl(c) < 3)
        refuse(c);
    c->trap_pending = 0;
    x86_interrupt(c, vector, EVENT_SOFTWARE, -1, ip);
    return cpu->pc;
}
