/* Delivery of exceptions and interrupts: real-mode vector table, 16- and 32-bit gates, task gates, the 64-bit IDT with
 * its stack table; double and triple fault; what wakes and interrupts a CPU between regions. SDM vol. 3, chapter 6. */
#include <setjmp.h>
#include "rhea/base/log.h"
#include "system.h"

_Noreturn void x86_raise(struct x86_cpu *c, unsigned vector, int error_code)
{
    c->cpu.exception = (int)vector;
    c->has_error_code = error_code >= 0;
    c->error_code = error_code >= 0 ? (uint32_t)error_code : 0;
    cpu_loop_exit(&c->cpu);
}

void helper_raise(struct cpu *cpu, uint32_t vector, uint32_t code)
{
    x86_raise(x86(cpu), vector, (int)code);
}

/* ---- gates */

struct idt_gate { uint16_t selector; uint64_t offset; unsigned type, bytes, dpl, ist; };

/* Error code of a fault on an IDT entry: SDM vol. 3, 6.13 */
static _Noreturn void gate_fault(struct x86_cpu *c, unsigned code, unsigned vector, enum x86_event kind)
{
    x86_raise(c, code, (int)(vector * 8 + 2 + (kind == EVENT_EXCEPTION || kind == EVENT_INTERRUPT)));
}

static struct idt_gate read_gate(struct x86_cpu *c, unsigned vector, enum x86_event kind)
{
    bool long_mode = x86_long_mode(c);
    unsigned size = long_mode ? 16 : 8;
    uint64_t va = c->idt.base + vector * size;
    struct idt_gate g = { 0 };
    uint32_t lo, hi;

    if (vector * size + size - 1 > c->idt.limit)
        gate_fault(c, X_GP, vector, kind);
    lo = (uint32_t)x86_system_load(c, va, 4);
    hi = (uint32_t)x86_system_load(c, va + 4, 4);
    g.selector = (uint16_t)(lo >> 16);
    g.type = attr_type(hi);
    g.dpl = attr_dpl(hi);
    g.offset = (lo & 0xffff) | (hi & 0xffff0000);
    if ((hi & ATTR_S) || !(g.type == DT_INT32 || g.type == DT_TRAP32 ||
                           (!long_mode && (g.type == DT_INT16 || g.type == DT_TRAP16 || g.type == DT_TASK_GATE))))
        gate_fault(c, X_GP, vector, kind);
    if (kind == EVENT_SOFTWARE && g.dpl < c->cpl)
        gate_fault(c, X_GP, vector, kind);
    if (!(hi & ATTR_P))
        gate_fault(c, X_NP, vector, kind);
    g.bytes = long_mode ? 8 : g.type == DT_INT16 || g.type == DT_TRAP16 ? 2 : 4;
    if (g.bytes == 2)
        g.offset &= 0xffff;
    if (long_mode) {
        g.offset |= x86_system_load(c, va + 8, 4) << 32;
        g.ist = hi & 7;
    }
    return g;
}

static void gate_code(struct x86_cpu *c, const struct idt_gate *g, struct x86_descriptor *d)
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

/* Stack of privilege level dpl from the TSS: SDM vol. 3, 7.2.1 and 7.6 */
void x86_tss_stack(struct x86_cpu *c, unsigned dpl, uint16_t *ss, uint32_t *esp)
{
    const struct x86_segment *tr = &c->seg[S_TR];
    bool wide = attr_type(tr->attr) & 8;
    uint32_t at = wide ? 4 + 8 * dpl : 2 + 4 * dpl;

    if (at + (wide ? 5 : 3) > tr->limit)
        x86_fault(c, X_TS, tr->selector);
    *esp = (uint32_t)x86_system_load(c, tr->base + at, wide ? 4 : 2);
    *ss = (uint16_t)x86_system_load(c, tr->base + at + (wide ? 4 : 2), 2);
}

static uint64_t tss64_stack(struct x86_cpu *c, unsigned at)
{
    const struct x86_segment *tr = &c->seg[S_TR];
    uint64_t rsp;

    if (at + 7 > tr->limit)
        x86_fault(c, X_TS, tr->selector);
    rsp = x86_system_load(c, tr->base + at, 8);
    if (!x86_canonical(c, rsp))
        x86_raise(c, X_SS, 0);
    return rsp;
}

/* Flags as pushed: RF is set for faults, so that an instruction breakpoint does not fire again. SDM vol. 3, 17.3.1.1 */
static uint64_t pushed_flags(const struct x86_cpu *c, unsigned vector, enum x86_event kind)
{
    uint64_t f = x86_eflags(c);

    if (kind == EVENT_EXCEPTION && vector != X_DB && vector != X_BP && vector != X_OF && vector != X_DF)
        return f | EF_RF;
    return f;
}

static void enter_handler(struct x86_cpu *c, const struct idt_gate *g, struct x86_descriptor *d, unsigned level)
{
    uint64_t clear = EF_TF | EF_NT | EF_RF | EF_VM;

    if (!(g->type & 1))         /* interrupt gate */
        clear |= EF_IF;
    x86_descriptor_accessed(c, d);
    x86_segment_set(c, S_CS, (uint16_t)((g->selector & ~3u) | level), d);
    c->eflags &= ~clear;
    x86_set_cpl(c, level);
    x86_set_ip(c, g->offset);
}

static void interrupt_long(struct x86_cpu *c, unsigned vector, enum x86_event kind, int code, uint64_t ip)
{
    struct idt_gate g = read_gate(c, vector, kind);
    uint64_t flags = pushed_flags(c, vector, kind), rsp = c->regs[R_RSP];
    struct x86_stack s = { .c = c, .mask = UINT64_MAX, .flat = true };
    struct x86_descriptor d;
    unsigned level;

    gate_code(c, &g, &d);
    level = (d.hi & ATTR_CE) ? c->cpl : attr_dpl(d.hi);
    if (g.ist)
        s.sp = tss64_stack(c, 36 + 8 * (g.ist - 1));
    else
        s.sp = level < c->cpl ? tss64_stack(c, 4 + 8 * level) : rsp;
    s.sp &= ~UINT64_C(15);
    s.mmu = x86_level_mmu(c, level);
    if (!x86_canonical(c, g.offset))
        x86_raise(c, X_GP, 0);
    x86_stack_push(&s, 8, c->seg[S_SS].selector);
    x86_stack_push(&s, 8, rsp);
    x86_stack_push(&s, 8, flags);
    x86_stack_push(&s, 8, c->seg[S_CS].selector);
    x86_stack_push(&s, 8, ip);
    if (code >= 0)
        x86_stack_push(&s, 8, (uint32_t)code);
    if (level < c->cpl)
        c->seg[S_SS] = (struct x86_segment){ .selector = (uint16_t)level, .attr = level << ATTR_DPL_SHIFT | ATTR_S |
                                                                                  ATTR_RW | ATTR_ACCESSED | ATTR_D };
    enter_handler(c, &g, &d, level);
    x86_stack_done(&s);
}

static void push_vm86_segments(struct x86_cpu *c, struct x86_stack *s, unsigned bytes)
{
    x86_stack_push(s, bytes, c->seg[S_GS].selector);
    x86_stack_push(s, bytes, c->seg[S_FS].selector);
    x86_stack_push(s, bytes, c->seg[S_DS].selector);
    x86_stack_push(s, bytes, c->seg[S_ES].selector);
}

static void interrupt_protected(struct x86_cpu *c, unsigned vector, enum x86_event kind, int code, uint64_t ip)
{
    struct idt_gate g = read_gate(c, vector, kind);
    uint64_t flags = pushed_flags(c, vector, kind);
    bool vm86 = x86_vm86(c);
    struct x86_descriptor d, ssd;
    struct x86_segment ss;
    struct x86_stack s;
    unsigned level;
    uint16_t ss_sel;
    uint32_t esp;

    if (g.type == DT_TASK_GATE) {
        x86_task_switch(c, g.selector, TASK_INT, code, ip);
        return;
    }
    gate_code(c, &g, &d);
    level = (d.hi & ATTR_CE) ? c->cpl : attr_dpl(d.hi);
    if (vm86 && level != 0)
        x86_fault(c, X_GP, g.selector);
    if (g.offset > desc_limit(&d))
        x86_raise(c, X_GP, 0);
    if (level < c->cpl) {
        x86_tss_stack(c, level, &ss_sel, &esp);
        x86_ss_for_level(c, ss_sel, level, X_TS, &ssd);
        ss = (struct x86_segment){ ss_sel, desc_attr(&ssd), desc_limit(&ssd), desc_base(&ssd) };
        s = x86_stack_on(c, &ss, esp, level);
        if (vm86)
            push_vm86_segments(c, &s, g.bytes);
        x86_stack_push(&s, g.bytes, c->seg[S_SS].selector);
        x86_stack_push(&s, g.bytes, c->regs[R_RSP]);
    } else {
        s = x86_stack_begin(c);
    }
    x86_stack_push(&s, g.bytes, flags);
    x86_stack_push(&s, g.bytes, c->seg[S_CS].selector);
    x86_stack_push(&s, g.bytes, ip);
    if (code >= 0)
        x86_stack_push(&s, g.bytes, (uint32_t)code);
    if (level < c->cpl) {
        x86_descriptor_accessed(c, &ssd);
        x86_segment_set(c, S_SS, ss_sel, &ssd);
    }
    if (vm86) {
        static const uint8_t data[] = { S_ES, S_DS, S_FS, S_GS };

        for (unsigned n = 0; n < 4; n++)
            c->seg[data[n]] = (struct x86_segment){ 0 };
    }
    enter_handler(c, &g, &d, level);
    x86_stack_done(&s);
}

static void interrupt_real(struct x86_cpu *c, unsigned vector, uint64_t ip)
{
    struct x86_stack s = x86_stack_begin(c);
    uint32_t entry;

    if (vector * 4 + 3 > c->idt.limit)
        x86_raise(c, X_GP, (int)(vector * 8 + 2));
    entry = (uint32_t)x86_system_load(c, c->idt.base + vector * 4, 4);
    x86_stack_push(&s, 2, x86_eflags(c));
    x86_stack_push(&s, 2, c->seg[S_CS].selector);
    x86_stack_push(&s, 2, ip);
    x86_stack_done(&s);
    c->eflags &= ~(uint64_t)(EF_IF | EF_TF | EF_AC | EF_RF);
    x86_segment_real(c, S_CS, (uint16_t)(entry >> 16));
    x86_set_ip(c, entry & 0xffff);
}

void x86_interrupt(struct x86_cpu *c, unsigned vector, enum x86_event kind, int code, uint64_t ip)
{
    log_at(LOG_INT, "x86 cpu %d: vector %#x %s code %d cs:ip %04x:%" G_GINT64_MODIFIER "x cpl %u sp %" G_GINT64_MODIFIER
           "x cr2 %" G_GINT64_MODIFIER "x\n", c->cpu.index, vector, kind == EVENT_INTERRUPT ? "interrupt" :
           kind == EVENT_EXCEPTION ? "exception" : "software", code, c->seg[S_CS].selector, ip, c->cpl, c->regs[R_RSP],
           c->cr2);
    if (!(c->cr0 & CR0_PE))
        interrupt_real(c, vector, ip);
    else if (x86_long_mode(c))
        interrupt_long(c, vector, kind, code, ip);
    else
        interrupt_protected(c, vector, kind, code, ip);
}

/* INT n, INT3, INTO, INT1: kind in bits 8-9, length of the instruction above. */
uint64_t helper_interrupt(struct cpu *cpu, uint32_t vector, uint32_t kind, uint32_t insn_len)
{
    struct x86_cpu *c = x86(cpu);

    c->trap_pending = 0;
    x86_interrupt(c, vector, kind, -1, x86_ip(c) + insn_len);
    return cpu->pc;
}

/* ---- delivery between regions */

/* Exceptions while delivering one: SDM vol. 3, table 6-5 */
static unsigned combine(unsigned first, unsigned second)
{
    static const uint32_t contributory = 1u << X_DE | 1u << X_TS | 1u << X_NP | 1u << X_SS | 1u << X_GP;
    bool second_hard = (contributory >> second & 1) || second == X_PF;

    if (first < 32 && (((contributory >> first & 1) && (contributory >> second & 1)) || (first == X_PF && second_hard)))
        return X_DF;
    return second;
}

void x86_shutdown(struct x86_cpu *c)
{
    log_at(LOG_INT | LOG_CPU_RESET, "x86 cpu %d: triple fault\n", c->cpu.index);
    c->cpu.exception = -1;
    c->halted = true;
    if (c->platform && c->platform->triple_fault)
        c->platform->triple_fault(c->platform_opaque, c);
}

/* Runs the delivery under a jump buffer of its own, since it reads and writes guest memory: what faults on the way
 * replaces the event or makes it a double fault. */
static void deliver_event(struct x86_cpu *c, unsigned vector, enum x86_event kind, int code)
{
    sigjmp_buf *outer = c->cpu.loop_exit, here;
    volatile unsigned v = vector;
    volatile enum x86_event k = kind;
    volatile int err = code;

    for (;;) {
        if (!sigsetjmp(here, 0)) {
            c->cpu.loop_exit = &here;
            c->cpu.exception = -1;
            if (k == EVENT_EXCEPTION && v == X_PF)
                c->cr2 = c->fault_cr2;
            x86_interrupt(c, v, k, err, x86_ip(c));
            break;
        }
        if (c->cpu.exception < 0)
            break;
        if (k == EVENT_EXCEPTION && v == X_DF && !(c->cpu.exception == X_DB)) {
            x86_shutdown(c);
            break;
        }
        if (c->cpu.exception == X_GP && c->noncanonical)    /* what delivery touches outside of tables is a stack */
            c->cpu.exception = c->noncanonical - c->regs[R_RSP] + 512 < 1024 ? X_SS : X_GP;
        c->noncanonical = 0;
        v = k == EVENT_EXCEPTION ? combine(v, (unsigned)c->cpu.exception) : (unsigned)c->cpu.exception;
        k = EVENT_EXCEPTION;
        err = v == X_DF ? 0 : c->has_error_code ? (int)c->error_code : -1;
    }
    c->cpu.exception = -1;
    c->cpu.loop_exit = outer;
}

static bool deliver_exception(struct x86_cpu *c)
{
    unsigned vector = (unsigned)c->cpu.exception;
    int code = c->has_error_code ? (int)c->error_code : -1;

    c->trap_pending = c->shadow = c->watch_hits = 0;
    if (vector == X_GP && c->noncanonical && x86_is_stack_fault(c, c->noncanonical))
        vector = X_SS;
    c->noncanonical = 0;
    /* Outside protected mode nothing is pushed for error codes. */
    deliver_event(c, vector, EVENT_EXCEPTION, c->cr0 & CR0_PE ? code : -1);
    return true;
}

static bool irq_ready(const struct x86_cpu *c)
{
    return (c->eflags & EF_IF) && c->platform && c->platform->irq_pending(c->platform_opaque, (struct x86_cpu *)c);
}

bool x86_has_work(const struct cpu *cpu)
{
    const struct x86_cpu *c = (const struct x86_cpu *)cpu;

    if (c->wait_for_sipi)
        return c->sipi_pending || c->init_pending;
    if (!c->halted || cpu->exception >= 0 || c->trap_pending || x86_mwait_over(c))
        return true;
    return (c->nmi_pending && !c->nmi_masked) || (c->init_pending && !c->in_smm) || x86_smi_ready(c) || irq_ready(c);
}

/* INIT: everything but what SDM vol. 3, table 9-1 keeps; application processors then wait for a start-up message. */
static bool deliver_init(struct x86_cpu *c)
{
    c->init_pending = false;
    x86_init_reset(c);
    return true;
}

static bool deliver_sipi(struct x86_cpu *c)
{
    c->sipi_pending = false;
    if (!c->wait_for_sipi)
        return false;
    c->wait_for_sipi = false;
    c->halted = false;
    x86_segment_real(c, S_CS, (uint16_t)(c->sipi_vector << 8));
    x86_set_ip(c, 0);
    return true;
}

bool x86_deliver(struct cpu *cpu)
{
    struct x86_cpu *c = x86(cpu);
    int vector;

    if (cpu->exception >= 0)
        return deliver_exception(c);
    if (c->init_pending && !c->in_smm)
        return deliver_init(c);
    if (c->sipi_pending && deliver_sipi(c))
        return true;
    if (c->wait_for_sipi)
        return false;
    if (x86_smi_ready(c)) {                 /* before traps: SDM vol. 3, table 6-2; those are lost, as debuggers know */
        c->smi_pending = false;
        x86_smm_enter(c);
        return true;
    }
    if (c->trap_pending || c->watch_hits) {
        c->dr[6] |= (c->trap_pending ? 1 << 14 : 0) | c->watch_hits;
        c->trap_pending = c->watch_hits = 0;
        x86_mwait_end(c);
        deliver_event(c, X_DB, EVENT_EXCEPTION, -1);
        return true;
    }
    if (x86_mwait_over(c))
        x86_mwait_end(c);
    if (c->shadow)
        return false;
    if (c->nmi_pending && !c->nmi_masked) {
        c->nmi_pending = false;
        c->nmi_masked = true;
        x86_mwait_end(c);
        deliver_event(c, X_NMI, EVENT_INTERRUPT, -1);
        return true;
    }
    if (!irq_ready(c) || (vector = c->platform->irq_acknowledge(c->platform_opaque, c)) < 0)
        return false;
    x86_mwait_end(c);
    deliver_event(c, (unsigned)vector, EVENT_INTERRUPT, -1);
    return true;
}
