/* Far transfers: JMP, CALL, RET and IRET to another code segment, through call gates, to outer and inner levels, and
 * between modes. SDM vol. 2 (their pages), vol. 3, 5.8. Task gates and TSSs go to task.c.
 * Each helper leaves the new instruction pointer in cpu.pc and returns it. */
#include "system.h"

/* A code descriptor for a transfer that keeps cpl = `level`. */
static void check_code(struct x86_cpu *c, uint16_t selector, const struct x86_descriptor *d, unsigned level, bool rpl)
{
    unsigned dpl = attr_dpl(d->hi);

    if (!(d->hi & ATTR_S) || !(d->hi & ATTR_CODE))
        x86_fault(c, X_GP, selector);
    if ((d->hi & ATTR_L) && (d->hi & ATTR_D) && x86_long_mode(c))
        x86_fault(c, X_GP, selector);
    if (d->hi & ATTR_CE) {
        if (dpl > level)
            x86_fault(c, X_GP, selector);
    } else if (dpl != level || (rpl && (selector & 3u) > level)) {
        x86_fault(c, X_GP, selector);
    }
    if (!(d->hi & ATTR_P))
        x86_fault(c, X_NP, selector);
}

static bool to_long(const struct x86_cpu *c, const struct x86_descriptor *d)
{
    return x86_long_mode(c) && (d->hi & ATTR_L);
}

static void check_target(struct x86_cpu *c, const struct x86_descriptor *d, uint64_t ip)
{
    if (to_long(c, d) ? !x86_canonical(c, ip) : ip > desc_limit(d))
        x86_raise(c, X_GP, 0);
}

static void enter_code(struct x86_cpu *c, uint16_t selector, unsigned level, struct x86_descriptor *d, uint64_t ip)
{
    x86_descriptor_accessed(c, d);
    x86_segment_set(c, S_CS, (uint16_t)((selector & ~3u) | level), d);
    x86_set_cpl(c, level);
    x86_set_ip(c, ip);
}

static bool is_task(const struct x86_cpu *c, const struct x86_descriptor *d)
{
    unsigned type = attr_type(d->hi);

    return !x86_long_mode(c) && (type == DT_TSS16 || type == DT_TSS32 || type == DT_TASK_GATE);
}

/* A TSS or a task gate: the checks common to both. */
static uint16_t task_selector(struct x86_cpu *c, uint16_t selector, const struct x86_descriptor *d)
{
    if (attr_dpl(d->hi) < c->cpl || attr_dpl(d->hi) < (selector & 3u))
        x86_fault(c, X_GP, selector);
    if (!(d->hi & ATTR_P))
        x86_fault(c, X_NP, selector);
    return attr_type(d->hi) == DT_TASK_GATE ? (uint16_t)(d->lo >> 16) : selector;
}

struct gate { uint16_t selector; uint64_t offset; unsigned bytes, params; };

static struct gate read_gate(struct x86_cpu *c, uint16_t selector, const struct x86_descriptor *d)
{
    unsigned type = attr_type(d->hi);
    struct gate g = { .selector = (uint16_t)(d->lo >> 16), .bytes = type == DT_CALL16 ? 2 : 4, .params = d->hi & 31 };

    if ((d->hi & ATTR_S) || (type != DT_CALL32 && (type != DT_CALL16 || x86_long_mode(c))))
        x86_fault(c, X_GP, selector);
    if (attr_dpl(d->hi) < c->cpl || attr_dpl(d->hi) < (selector & 3u))
        x86_fault(c, X_GP, selector);
    if (!(d->hi & ATTR_P))
        x86_fault(c, X_NP, selector);
    g.offset = (d->lo & 0xffff) | (g.bytes == 2 ? 0 : d->hi & 0xffff0000);
    if (x86_long_mode(c)) {
        g.offset |= x86_system_load(c, d->va + 8, 4) << 32;
        if (x86_system_load(c, d->va + 12, 4) & 0x1f00)
            x86_fault(c, X_GP, selector);
        g.bytes = 8;
        g.params = 0;
    }
    return g;
}

static void gate_code(struct x86_cpu *c, const struct gate *g, struct x86_descriptor *d)
{
    if (!(g->selector & 0xfffc))
        x86_raise(c, X_GP, 0);
    if (!x86_descriptor_read(c, g->selector, d) || !(d->hi & ATTR_S) || !(d->hi & ATTR_CODE) || attr_dpl(d->hi) > c->cpl)
        x86_fault(c, X_GP, g->selector);
    if (x86_long_mode(c) && (!(d->hi & ATTR_L) || (d->hi & ATTR_D)))
        x86_fault(c, X_GP, g->selector);
    if (!(d->hi & ATTR_P))
        x86_fault(c, X_NP, g->selector);
}

/* ---- JMP */

uint64_t helper_far_jump(struct cpu *cpu, uint32_t selector, uint64_t ip, uint32_t insn_len)
{
    struct x86_cpu *c = x86(cpu);
    struct x86_descriptor d;
    struct gate g;

    if (!x86_protected(c)) {
        if (ip > c->seg[S_CS].limit)
            x86_raise(c, X_GP, 0);
        x86_segment_real(c, S_CS, (uint16_t)selector);
        x86_set_ip(c, ip);
        return cpu->pc;
    }
    if (!(selector & 0xfffc) || !x86_descriptor_read(c, (uint16_t)selector, &d))
        x86_fault(c, X_GP, (uint16_t)selector);
    if (d.hi & ATTR_S) {
        check_code(c, (uint16_t)selector, &d, c->cpl, true);
        check_target(c, &d, ip);
        enter_code(c, (uint16_t)selector, c->cpl, &d, ip);
    } else if (is_task(c, &d)) {
        x86_task_switch(c, task_selector(c, (uint16_t)selector, &d), TASK_JMP, -1, x86_ip(c) + insn_len);
    } else {
        g = read_gate(c, (uint16_t)selector, &d);
        gate_code(c, &g, &d);
        check_code(c, g.selector, &d, c->cpl, false);
        check_target(c, &d, g.offset);
        enter_code(c, g.selector, c->cpl, &d, g.offset);
    }
    return cpu->pc;
}

/* ---- CALL */

static void call_same_level(struct x86_cpu *c, uint16_t selector, struct x86_descriptor *d, uint64_t target, unsigned bytes,
                            uint64_t next)
{
    struct x86_stack s = x86_stack_begin(c);

    x86_stack_push(&s, bytes, c->seg[S_CS].selector);
    x86_stack_push(&s, bytes, next);
    check_target(c, d, target);
    x86_stack_done(&s);
    enter_code(c, selector, c->cpl, d, target);
}

/* The stack of an inner level from the TSS: SDM vol. 3, 5.8.5. */
static void call_inner_long(struct x86_cpu *c, const struct gate *g, struct x86_descriptor *d, uint64_t next)
{
    unsigned level = attr_dpl(d->hi);
    uint64_t rsp = x86_system_load(c, c->seg[S_TR].base + 4 + 8 * level, 8);
    struct x86_stack s = { .c = c, .sp = rsp, .mask = UINT64_MAX, .flat = true, .mmu = x86_level_mmu(c, level) };

    x86_stack_push(&s, 8, c->seg[S_SS].selector);
    x86_stack_push(&s, 8, c->regs[R_RSP]);
    x86_stack_push(&s, 8, c->seg[S_CS].selector);
    x86_stack_push(&s, 8, next);
    check_target(c, d, g->offset);
    enter_code(c, g->selector, level, d, g->offset);
    c->seg[S_SS] = (struct x86_segment){ .selector = (uint16_t)level,
                                         .attr = level << ATTR_DPL_SHIFT | ATTR_S | ATTR_RW | ATTR_ACCESSED | ATTR_D };
    x86_stack_done(&s);
}

static void call_inner(struct x86_cpu *c, const struct gate *g, struct x86_descriptor *d, uint64_t next)
{
    unsigned level = attr_dpl(d->hi), bytes = g->bytes;
    struct x86_descriptor ssd;
    struct x86_segment ss;
    struct x86_stack old = x86_stack_begin(c), s;
    uint64_t params[31];
    uint16_t ss_sel;
    uint32_t esp;

    x86_tss_stack(c, level, &ss_sel, &esp);
    x86_ss_for_level(c, ss_sel, level, X_TS, &ssd);
    for (unsigned n = 0; n < g->params; n++)
        params[n] = x86_stack_pop(&old, bytes);
    ss = (struct x86_segment){ ss_sel, desc_attr(&ssd), desc_limit(&ssd), desc_base(&ssd) };
    s = x86_stack_on(c, &ss, esp, level);
    x86_stack_push(&s, bytes, c->seg[S_SS].selector);
    x86_stack_push(&s, bytes, c->regs[R_RSP]);
    for (unsigned n = g->params; n-- > 0;)
        x86_stack_push(&s, bytes, params[n]);
    x86_stack_push(&s, bytes, c->seg[S_CS].selector);
    x86_stack_push(&s, bytes, next);
    check_target(c, d, g->offset);
    enter_code(c, g->selector, level, d, g->offset);
    x86_descriptor_accessed(c, &ssd);
    x86_segment_set(c, S_SS, ss_sel, &ssd);
    x86_stack_done(&s);
}

/* bytes: operand size. */
uint64_t helper_far_call(struct cpu *cpu, uint32_t selector, uint64_t ip, uint32_t bytes, uint32_t insn_len)
{
    struct x86_cpu *c = x86(cpu);
    uint64_t next = x86_ip(c) + insn_len;
    struct x86_descriptor d;
    struct gate g;

    if (!x86_protected(c)) {
        struct x86_stack s = x86_stack_begin(c);

        x86_stack_push(&s, bytes, c->seg[S_CS].selector);
        x86_stack_push(&s, bytes, next);
        if (ip > c->seg[S_CS].limit)
            x86_raise(c, X_GP, 0);
        x86_stack_done(&s);
        x86_segment_real(c, S_CS, (uint16_t)selector);
        x86_set_ip(c, ip);
        return cpu->pc;
    }
    if (!(selector & 0xfffc) || !x86_descriptor_read(c, (uint16_t)selector, &d))
        x86_fault(c, X_GP, (uint16_t)selector);
    if (d.hi & ATTR_S) {
        check_code(c, (uint16_t)selector, &d, c->cpl, true);
        call_same_level(c, (uint16_t)selector, &d, ip, bytes, next);
        return cpu->pc;
    }
    if (is_task(c, &d)) {
        x86_task_switch(c, task_selector(c, (uint16_t)selector, &d), TASK_CALL, -1, next);
        return cpu->pc;
    }
    g = read_gate(c, (uint16_t)selector, &d);
    gate_code(c, &g, &d);
    if ((d.hi & ATTR_CE) || attr_dpl(d.hi) == c->cpl)
        call_same_level(c, g.selector, &d, g.offset, g.bytes, next);
    else if (x86_long_mode(c))
        call_inner_long(c, &g, &d, next);
    else
        call_inner(c, &g, &d, next);
    return cpu->pc;
}

/* ---- RET and IRET */

static void return_code(struct x86_cpu *c, uint16_t selector, struct x86_descriptor *d)
{
    unsigned rpl = selector & 3;

    if (!(selector & 0xfffc))
        x86_raise(c, X_GP, 0);
    if (!x86_descriptor_read(c, selector, d) || !(d->hi & ATTR_S) || !(d->hi & ATTR_CODE) || rpl < c->cpl)
        x86_fault(c, X_GP, selector);
    if (d->hi & ATTR_CE ? attr_dpl(d->hi) > rpl : attr_dpl(d->hi) != rpl)
        x86_fault(c, X_GP, selector);
    if ((d->hi & ATTR_L) && (d->hi & ATTR_D) && x86_long_mode(c))
        x86_fault(c, X_GP, selector);
    if (!(d->hi & ATTR_P))
        x86_fault(c, X_NP, selector);
}

/* SS of the level returned to; null is allowed for 64-bit code below level 3. */
static void return_stack(struct x86_cpu *c, uint16_t selector, unsigned level, bool code64, uint64_t sp)
{
    struct x86_descriptor d;

    if (!(selector & 0xfffc) && code64 && level != 3) {
        c->seg[S_SS] = (struct x86_segment){ .selector = selector, .attr = level << ATTR_DPL_SHIFT | ATTR_S | ATTR_RW |
                                                                           ATTR_ACCESSED | ATTR_D };
    } else {
        x86_ss_for_level(c, selector, level, X_GP, &d);
        x86_descriptor_accessed(c, &d);
        x86_segment_set(c, S_SS, selector, &d);
    }
    if (code64)
        c->regs[R_RSP] = sp;
    else if (c->seg[S_SS].attr & ATTR_D)
        c->regs[R_RSP] = (uint32_t)sp;
    else
        c->regs[R_RSP] = (c->regs[R_RSP] & ~UINT64_C(0xffff)) | (sp & 0xffff);
}

uint64_t helper_far_return(struct cpu *cpu, uint32_t bytes, uint32_t release)
{
    struct x86_cpu *c = x86(cpu);
    struct x86_stack s = x86_stack_begin(c);
    uint64_t ip = x86_stack_pop(&s, bytes), sp;
    uint16_t selector = (uint16_t)x86_stack_pop(&s, bytes), ss;
    struct x86_descriptor d;
    unsigned level = selector & 3;

    if (!x86_protected(c)) {
        if (ip > c->seg[S_CS].limit)
            x86_raise(c, X_GP, 0);
        s.sp = (s.sp & ~s.mask) | ((s.sp + release) & s.mask);
        x86_stack_done(&s);
        x86_segment_real(c, S_CS, selector);
        x86_set_ip(c, ip);
        return cpu->pc;
    }
    return_code(c, selector, &d);
    check_target(c, &d, ip);
    s.sp = (s.sp & ~s.mask) | ((s.sp + release) & s.mask);
    if (level == c->cpl) {
        x86_stack_done(&s);
        enter_code(c, selector, level, &d, ip);
        return cpu->pc;
    }
    sp = x86_stack_pop(&s, bytes);
    ss = (uint16_t)x86_stack_pop(&s, bytes);
    return_stack(c, ss, level, to_long(c, &d), sp + release);
    enter_code(c, selector, level, &d, ip);
    x86_null_data_segments(c, level);
    return cpu->pc;
}

static void iret_real(struct x86_cpu *c, unsigned bytes)
{
    struct x86_stack s = x86_stack_begin(c);
    uint64_t ip = x86_stack_pop(&s, bytes), mask = EF_ARITH | EF_TF | EF_DF | EF_NT, flags;
    uint16_t selector = (uint16_t)x86_stack_pop(&s, bytes);
    bool virtual;

    flags = x86_stack_pop(&s, bytes);
    if (ip > c->seg[S_CS].limit)
        x86_raise(c, X_GP, 0);
    virtual = x86_vm86(c) && x86_iopl(c) < 3;
    if (virtual && bytes == 4)
        x86_raise(c, X_GP, 0);
    if (virtual)
        x86_virtual_flags_check(c, flags);
    mask |= EF_IF | (bytes == 4 ? EF_RF | EF_AC | EF_ID : 0) | (x86_vm86(c) ? 0 : EF_IOPL);
    x86_stack_done(&s);
    x86_segment_real(c, S_CS, selector);
    x86_set_ip(c, ip);
    if (virtual)
        x86_virtual_flags(c, flags);
    else
        x86_set_eflags(c, flags, mask);
}

/* To virtual-8086 mode: SDM vol. 3, 21.2.4 */
static void iret_to_vm86(struct x86_cpu *c, struct x86_stack *s, uint64_t ip, uint16_t cs, uint64_t flags)
{
    uint32_t esp = (uint32_t)x86_stack_pop(s, 4);
    uint16_t ss = (uint16_t)x86_stack_pop(s, 4), es = (uint16_t)x86_stack_pop(s, 4), ds = (uint16_t)x86_stack_pop(s, 4);
    uint16_t fs = (uint16_t)x86_stack_pop(s, 4), gs = (uint16_t)x86_stack_pop(s, 4);

    x86_set_eflags(c, flags, EF_ARITH | EF_TF | EF_IF | EF_DF | EF_IOPL | EF_NT | EF_RF | EF_VM | EF_AC | EF_ID | EF_VIF |
                             EF_VIP);
    x86_segment_real(c, S_CS, cs);
    x86_segment_real(c, S_SS, ss);
    x86_segment_real(c, S_ES, es);
    x86_segment_real(c, S_DS, ds);
    x86_segment_real(c, S_FS, fs);
    x86_segment_real(c, S_GS, gs);
    x86_set_cpl(c, 3);
    c->regs[R_RSP] = esp;
    x86_set_ip(c, ip & 0xffff);
}

static uint64_t iret_flags_mask(const struct x86_cpu *c, unsigned bytes)
{
    uint64_t mask = EF_ARITH | EF_TF | EF_DF | EF_NT;

    if (bytes > 2)
        mask |= EF_RF | EF_AC | EF_ID;
    if (c->cpl <= x86_iopl(c))
        mask |= EF_IF;
    if (c->cpl == 0)
        mask |= EF_IOPL | (bytes > 2 ? EF_VIF | EF_VIP : 0);
    return mask;
}

uint64_t helper_iret(struct cpu *cpu, uint32_t bytes, uint32_t insn_len)
{
    struct x86_cpu *c = x86(cpu);
    struct x86_stack s;
    struct x86_descriptor d;
    uint64_t ip, flags, sp = 0, mask;
    uint16_t selector, ss = 0;
    unsigned level;
    bool stack_too;

    c->nmi_masked = false;
    if (!x86_protected(c)) {
        iret_real(c, bytes);
        return cpu->pc;
    }
    if (c->eflags & EF_NT) {
        if (x86_long_mode(c))
            x86_raise(c, X_GP, 0);
        x86_task_switch(c, (uint16_t)x86_system_load(c, c->seg[S_TR].base, 2), TASK_IRET, -1, x86_ip(c) + insn_len);
        return cpu->pc;
    }
    s = x86_stack_begin(c);
    ip = x86_stack_pop(&s, bytes);
    selector = (uint16_t)x86_stack_pop(&s, bytes);
    flags = x86_stack_pop(&s, bytes);
    if (bytes == 4 && (flags & EF_VM) && c->cpl == 0 && !x86_long_mode(c)) {
        iret_to_vm86(c, &s, ip, selector, flags);
        return cpu->pc;
    }
    return_code(c, selector, &d);
    check_target(c, &d, ip);
    level = selector & 3;
    stack_too = level != c->cpl || x86_code64(c);
    if (stack_too) {
        sp = x86_stack_pop(&s, bytes);
        ss = (uint16_t)x86_stack_pop(&s, bytes);
    }
    mask = iret_flags_mask(c, bytes);
    if (stack_too)
        return_stack(c, ss, level, to_long(c, &d), sp);
    else
        x86_stack_done(&s);
    if (level != c->cpl)
        x86_null_data_segments(c, level);
    enter_code(c, selector, level, &d, ip);
    x86_set_eflags(c, flags, mask);
    return cpu->pc;
}
