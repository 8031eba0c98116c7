/* Hardware task switching: SDM vol. 3, chapter 7. Layouts of the TSS: figures 7-2 (32-bit) and 7-10 (16-bit). */
#include "system.h"

struct task_state {
    uint32_t cr3, ip, flags, regs[8];
    uint16_t seg[6];            /* ES CS SS DS FS GS */
    uint16_t ldt, trap;
};

static uint32_t load(struct x86_cpu *c, uint64_t base, unsigned at, unsigned bytes)
{
    return (uint32_t)x86_system_load(c, base + at, bytes);
}

static void read_state(struct x86_cpu *c, uint64_t base, bool wide, struct task_state *s)
{
    *s = (struct task_state){ 0 };
    if (wide) {
        s->cr3 = load(c, base, 28, 4);
        s->ip = load(c, base, 32, 4);
        s->flags = load(c, base, 36, 4);
        for (unsigned n = 0; n < 8; n++)
            s->regs[n] = load(c, base, 40 + 4 * n, 4);
        for (unsigned n = 0; n < 6; n++)
            s->seg[n] = (uint16_t)load(c, base, 72 + 4 * n, 2);
        s->ldt = (uint16_t)load(c, base, 96, 2);
        s->trap = (uint16_t)load(c, base, 100, 2);
        return;
    }
    s->ip = load(c, base, 14, 2);
    s->flags = load(c, base, 16, 2);
    for (unsigned n = 0; n < 8; n++)
        s->regs[n] = load(c, base, 18 + 2 * n, 2) | 0xffff0000;
    for (unsigned n = 0; n < 4; n++)
        s->seg[n] = (uint16_t)load(c, base, 34 + 2 * n, 2);
    s->ldt = (uint16_t)load(c, base, 42, 2);
}

static void write_state(struct x86_cpu *c, uint64_t base, bool wide, uint64_t ip, uint64_t flags)
{
    if (wide) {
        x86_system_store(c, base + 32, 4, ip);
        x86_system_store(c, base + 36, 4, flags);
        for (unsigned n = 0; n < 8; n++)
            x86_system_store(c, base + 40 + 4 * n, 4, c->regs[n]);
        for (unsigned n = 0; n < 6; n++)
            x86_system_store(c, base + 72 + 4 * n, 2, c->seg[n].selector);
        return;
    }
    x86_system_store(c, base + 14, 2, ip);
    x86_system_store(c, base + 16, 2, flags);
    for (unsigned n = 0; n < 8; n++)
        x86_system_store(c, base + 18 + 2 * n, 2, c->regs[n]);
    for (unsigned n = 0; n < 4; n++)
        x86_system_store(c, base + 34 + 2 * n, 2, c->seg[n].selector);
}

static void set_busy(struct x86_cpu *c, uint16_t selector, bool busy)
{
    struct x86_descriptor d;

    if (!x86_descriptor_read(c, selector, &d))
        return;
    d.hi = busy ? d.hi | 2u << ATTR_TYPE_SHIFT : d.hi & ~(2u << ATTR_TYPE_SHIFT);
    x86_system_store(c, d.va + 4, 4, d.hi);
}

static void check_tss(struct x86_cpu *c, uint16_t selector, enum x86_task_reason why, struct x86_descriptor *d)
{
    unsigned vector = why == TASK_IRET ? X_TS : X_GP, type;

    if ((selector & 4) || !(selector & 0xfffc) || !x86_descriptor_read(c, selector, d))
        x86_fault(c, vector, selector);
    type = attr_type(d->hi);
    if ((d->hi & ATTR_S) || (type & ~10u) != 1)
        x86_fault(c, vector, selector);
    if (((type & 2) != 0) != (why == TASK_IRET))
        x86_fault(c, vector, selector);
    if (!(d->hi & ATTR_P))
        x86_fault(c, X_NP, selector);
    if (desc_limit(d) < (type & 8 ? 0x67u : 0x2bu))
        x86_fault(c, X_TS, selector);
}

static void load_code(struct x86_cpu *c, uint16_t selector)
{
    struct x86_descriptor d;
    unsigned rpl = selector & 3;

    if (!(selector & 0xfffc) || !x86_descriptor_read(c, selector, &d) || !(d.hi & ATTR_S) || !(d.hi & ATTR_CODE))
        x86_fault(c, X_TS, selector);
    if (d.hi & ATTR_CE ? attr_dpl(d.hi) > rpl : attr_dpl(d.hi) != rpl)
        x86_fault(c, X_TS, selector);
    if (!(d.hi & ATTR_P))
        x86_fault(c, X_NP, selector);
    x86_descriptor_accessed(c, &d);
    x86_segment_set(c, S_CS, selector, &d);
    x86_set_cpl(c, rpl);
}

static void load_ldt(struct x86_cpu *c, uint16_t selector)
{
    struct x86_descriptor d;

    c->seg[S_LDT] = (struct x86_segment){ .selector = selector };
    if (!(selector & 0xfffc))
        return;
    if ((selector & 4) || !x86_descriptor_read(c, selector, &d) || (d.hi & ATTR_S) || attr_type(d.hi) != DT_LDT ||
        !(d.hi & ATTR_P))
        x86_fault(c, X_TS, selector);
    x86_segment_set(c, S_LDT, selector, &d);
}

static void load_data(struct x86_cpu *c, unsigned seg, uint16_t selector)
{
    struct x86_descriptor d;

    c->seg[seg] = (struct x86_segment){ .selector = selector };
    if (!(selector & 0xfffc))
        return;
    if (!x86_descriptor_read(c, selector, &d) || !(d.hi & ATTR_S) || ((d.hi & ATTR_CODE) && !(d.hi & ATTR_RW)))
        x86_fault(c, X_TS, selector);
    if (!((d.hi & ATTR_CODE) && (d.hi & ATTR_CE)) && (attr_dpl(d.hi) < c->cpl || attr_dpl(d.hi) < (selector & 3u)))
        x86_fault(c, X_TS, selector);
    if (!(d.hi & ATTR_P))
        x86_fault(c, X_NP, selector);
    x86_descriptor_accessed(c, &d);
    x86_segment_set(c, seg, selector, &d);
}

/* Faults from here on are in the new task. */
static void load_segments(struct x86_cpu *c, const struct task_state *s)
{
    struct x86_descriptor d;

    if (c->eflags & EF_VM) {
        for (unsigned n = 0; n < 6; n++)
            x86_segment_real(c, n, s->seg[n]);
        x86_set_cpl(c, 3);
        load_ldt(c, s->ldt);
        return;
    }
    load_ldt(c, s->ldt);
    load_code(c, s->seg[S_CS]);
    x86_ss_for_level(c, s->seg[S_SS], c->cpl, X_TS, &d);
    x86_descriptor_accessed(c, &d);
    x86_segment_set(c, S_SS, s->seg[S_SS], &d);
    load_data(c, S_ES, s->seg[S_ES]);
    load_data(c, S_DS, s->seg[S_DS]);
    load_data(c, S_FS, s->seg[S_FS]);
    load_data(c, S_GS, s->seg[S_GS]);
}

void x86_task_switch(struct x86_cpu *c, uint16_t selector, enum x86_task_reason why, int code, uint64_t ip)
{
    uint16_t old = c->seg[S_TR].selector;
    bool old_wide = attr_type(c->seg[S_TR].attr) & 8, wide;
    uint64_t flags = x86_eflags(c);
    struct x86_descriptor d;
    struct task_state s;

    check_tss(c, selector, why, &d);
    wide = attr_type(d.hi) & 8;
    read_state(c, desc_base(&d), wide, &s);
    if (why == TASK_IRET)
        flags &= ~(uint64_t)EF_NT;
    write_state(c, c->seg[S_TR].base, old_wide, ip, flags);
    if (why == TASK_JMP || why == TASK_IRET)
        set_busy(c, old, false);
    if (why != TASK_IRET)
        set_busy(c, selector, true);
    if (why == TASK_CALL || why == TASK_INT) {
        x86_system_store(c, desc_base(&d), 2, old);
        s.flags |= EF_NT;
    }
    d.hi |= 2u << ATTR_TYPE_SHIFT;
    x86_segment_set(c, S_TR, selector, &d);
    c->cr0 |= CR0_TS;
    if (wide && (c->cr0 & CR0_PG))
        x86_set_cr3(c, s.cr3);
    for (unsigned n = 0; n < 8; n++)
        c->regs[n] = s.regs[n];
    x86_set_eflags(c, s.flags, EF_ARITH | EF_TF | EF_IF | EF_DF | EF_IOPL | EF_NT | EF_RF | EF_VM | EF_AC | EF_ID | EF_VIF |
                               EF_VIP);
    c->dr[7] &= ~UINT64_C(0x155);       /* local enables */
    load_segments(c, &s);
    x86_set_ip(c, s.ip);
    if (code >= 0) {
        struct x86_stack st = x86_stack_begin(c);

        x86_stack_push(&st, wide ? 4 : 2, (uint32_t)code);
        x86_stack_done(&st);
    }
    if (s.trap & 1) {
        c->dr[6] |= 1 << 15;
        x86_raise(c, X_DB, -1);
    }
}
