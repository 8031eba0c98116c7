/* SYSCALL, SYSRET, SYSENTER, SYSEXIT, ports, time, random small system helpers. SDM vol. 2; AMD APM vol. 2, 6.1. */
#include <sched.h>
#include <unistd.h>
#include "rhea/base/log.h"
#include "rhea/vm/vm.h"
#include "system.h"

static void flat_segment(struct x86_cpu *c, unsigned seg, uint16_t selector, uint32_t attr)
{
    c->seg[seg] = (struct x86_segment){ selector, attr | ATTR_P | ATTR_S | ATTR_ACCESSED | ATTR_RW | ATTR_G, 0xffffffff, 0 };
}

static void flat_pair(struct x86_cpu *c, uint16_t cs, uint16_t ss, unsigned level, bool code64)
{
    flat_segment(c, S_CS, cs, ATTR_CODE | level << ATTR_DPL_SHIFT | (code64 ? ATTR_L : ATTR_D));
    flat_segment(c, S_SS, ss, ATTR_D | level << ATTR_DPL_SHIFT);
    x86_set_cpl(c, level);
}

uint64_t helper_syscall(struct cpu *cpu, uint32_t insn_len)
{
    struct x86_cpu *c = x86(cpu);
    uint64_t next = x86_ip(c) + insn_len;
    uint16_t selector = (uint16_t)(c->star >> 32 & 0xfffc);

    if (!(c->efer & EFER_SCE))
        x86_raise(c, X_UD, -1);
    if (x86_long_mode(c)) {
        bool code64 = x86_code64(c);

        c->regs[R_RCX] = next;
        c->regs[R_R8 + 3] = x86_eflags(c) & ~(uint64_t)EF_RF;
        flat_pair(c, selector, selector + 8, 0, true);
        x86_set_eflags(c, x86_eflags(c) & ~(c->fmask | EF_RF), UINT64_MAX);
        x86_set_ip(c, code64 ? c->lstar : c->cstar);
    } else {
        c->regs[R_RCX] = (uint32_t)next;
        flat_pair(c, selector, selector + 8, 0, false);
        c->eflags &= ~(uint64_t)(EF_IF | EF_VM | EF_RF);
        x86_set_ip(c, (uint32_t)c->star);
    }
    c->trap_pending = 0;
    return cpu->pc;
}

uint64_t helper_sysret(struct cpu *cpu, uint32_t wide)
{
    struct x86_cpu *c = x86(cpu);
    uint16_t selector = (uint16_t)(c->star >> 48);

    if (!(c->efer & EFER_SCE))
        x86_raise(c, X_UD, -1);
    if (!(c->cr0 & CR0_PE))
        x86_raise(c, X_GP, 0);
    if (x86_long_mode(c)) {
        uint64_t flags = c->regs[R_R8 + 3];

        if (wide && !x86_canonical(c, c->regs[R_RCX]))
            x86_raise(c, X_GP, 0);
        flat_pair(c, (uint16_t)((wide ? selector + 16 : selector) | 3), (uint16_t)((selector + 8) | 3), 3, wide);
        x86_set_eflags(c, flags & ~(uint64_t)(EF_RF | EF_VM), 0x3c7fd7);
        x86_set_ip(c, wide ? c->regs[R_RCX] : (uint32_t)c->regs[R_RCX]);
    } else {
        flat_pair(c, (uint16_t)(selector | 3), (uint16_t)((selector + 8) | 3), 3, false);
        c->eflags |= EF_IF;
        x86_set_ip(c, (uint32_t)c->regs[R_RCX]);
    }
    return cpu->pc;
}

uint64_t helper_sysenter(struct cpu *cpu)
{
    struct x86_cpu *c = x86(cpu);
    uint16_t cs = (uint16_t)(c->sysenter_cs & 0xfffc);
    bool long_mode = x86_long_mode(c);

    if (!(c->cr0 & CR0_PE) || !cs)
        x86_raise(c, X_GP, 0);
    c->eflags &= ~(uint64_t)(EF_VM | EF_IF | EF_RF);
    flat_pair(c, cs, (uint16_t)(cs + 8), 0, long_mode);
    c->regs[R_RSP] = long_mode ? c->sysenter_esp : (uint32_t)c->sysenter_esp;
    x86_set_ip(c, long_mode ? c->sysenter_eip : (uint32_t)c->sysenter_eip);
    c->trap_pending = 0;
    return cpu->pc;
}

uint64_t helper_sysexit(struct cpu *cpu, uint32_t wide)
{
    struct x86_cpu *c = x86(cpu);
    uint16_t cs = (uint16_t)(c->sysenter_cs & 0xfffc);

    if (!(c->cr0 & CR0_PE) || !cs)
        x86_raise(c, X_GP, 0);
    if (wide && (!x86_canonical(c, c->regs[R_RCX]) || !x86_canonical(c, c->regs[R_RDX])))
        x86_raise(c, X_GP, 0);
    flat_pair(c, (uint16_t)((wide ? cs + 32 : cs + 16) | 3), (uint16_t)((wide ? cs + 40 : cs + 24) | 3), 3, wide);
    c->regs[R_RSP] = wide ? c->regs[R_RCX] : (uint32_t)c->regs[R_RCX];
    x86_set_ip(c, wide ? c->regs[R_RDX] : (uint32_t)c->regs[R_RDX]);
    return cpu->pc;
}

/* ---- ports: SDM vol. 1, 19.5 */

void x86_io_check(struct x86_cpu *c, uint16_t port, unsigned bytes)
{
    const struct x86_segment *tr = &c->seg[S_TR];
    uint32_t map, bits;

    if (!(c->cr0 & CR0_PE) || (!x86_vm86(c) && c->cpl <= x86_iopl(c)))
        return;
    if (!(attr_type(tr->attr) & 8) || tr->limit < 103)
        x86_raise(c, X_GP, 0);
    map = (uint32_t)x86_system_load(c, tr->base + 102, 2) + port / 8;
    if (map + 1 > tr->limit)
        x86_raise(c, X_GP, 0);
    bits = (uint32_t)x86_system_load(c, tr->base + map, 2) >> (port & 7);
    if (bits & ((1u << bytes) - 1))
        x86_raise(c, X_GP, 0);
}

uint64_t x86_io_read(struct x86_cpu *c, uint16_t port, unsigned bytes)
{
    if (!c->platform || !c->platform->io_read)
        return UINT32_MAX;
    return c->platform->io_read(c->platform_opaque, c, port, bytes);
}

void x86_io_write(struct x86_cpu *c, uint16_t port, unsigned bytes, uint64_t v)
{
    if (c->platform && c->platform->io_write)
        c->platform->io_write(c->platform_opaque, c, port, bytes, v);
}

uint64_t helper_io_in(struct cpu *cpu, uint32_t port, uint32_t bytes)
{
    x86_io_check(x86(cpu), (uint16_t)port, bytes);
    return x86_io_read(x86(cpu), (uint16_t)port, bytes);
}

void helper_io_out(struct cpu *cpu, uint32_t port, uint32_t bytes, uint64_t v)
{
    x86_io_check(x86(cpu), (uint16_t)port, bytes);
    x86_io_write(x86(cpu), (uint16_t)port, bytes, v);
}

/* ---- time */

uint64_t x86_tsc(struct x86_cpu *c)
{
    uint64_t base = c->platform && c->platform->tsc ? c->platform->tsc(c->platform_opaque, c) : 0;

    return base + c->tsc_offset;
}

uint64_t helper_rdtsc(struct cpu *cpu)
{
    return x86_tsc(x86(cpu));
}

void helper_pause(struct cpu *cpu) { cpu_pause(cpu); }

/* No performance counter is announced. */
uint64_t helper_rdpmc(struct cpu *cpu)
{
    x86_raise(x86(cpu), X_GP, 0);
}

/* ---- ENTER: SDM vol. 2. info: operand size, level << 8, MMU index << 16, stack width at bit 20. */
void helper_enter(struct cpu *cpu, uint32_t info, uint32_t alloc)
{
    struct x86_cpu *c = x86(cpu);
    unsigned bytes = info & 0xff, level = info >> 8 & 31;
    struct x86_stack s = x86_stack_begin(c), frame = s;
    uint64_t fp;

    x86_stack_push(&s, bytes, c->regs[R_RBP]);
    fp = s.sp;
    frame.sp = (s.sp & ~s.mask) | (c->regs[R_RBP] & s.mask);
    for (unsigned n = 1; n < level; n++) {
        frame.sp = (frame.sp & ~s.mask) | ((frame.sp - bytes) & s.mask);
        x86_stack_push(&s, bytes, x86_stack_pop(&frame, bytes));
        frame.sp = (frame.sp & ~s.mask) | ((frame.sp - bytes) & s.mask);
    }
    if (level)
        x86_stack_push(&s, bytes, fp);
    s.sp = (s.sp & ~s.mask) | ((s.sp - alloc) & s.mask);
    /* The new top must be writable. */
    if (s.flat)
        cpu_probe(cpu, s.sp, bytes, true, s.mmu);
    x86_stack_done(&s);
    if (bytes == 2)
        c->regs[R_RBP] = (c->regs[R_RBP] & ~UINT64_C(0xffff)) | (fp & 0xffff);
    else
        c->regs[R_RBP] = bytes == 4 ? (uint32_t)fp : fp;
}
