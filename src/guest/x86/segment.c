/* Segment descriptors: reading, checking, loading. SDM vol. 3, chapters 3 and 5; the checks of each load are those of
 * the MOV, LDS, LAR, LSL, VERR, LLDT and LTR pages of vol. 2. */
#include "rhea/base/log.h"
#include "system.h"

unsigned x86_level_mmu(const struct x86_cpu *c, unsigned cpl)
{
    if (!(c->cr0 & CR0_PG))
        return MMU_PHYS;
    if (cpl == 3)
        return MMU_USER;
    return (c->cr4 & CR4_SMAP) && !(c->eflags & EF_AC) ? MMU_KERNEL_SMAP : MMU_KERNEL;
}

unsigned x86_system_mmu(const struct x86_cpu *c)
{
    if (!(c->cr0 & CR0_PG))
        return MMU_PHYS;
    return c->cr4 & CR4_SMAP ? MMU_KERNEL_SMAP : MMU_KERNEL;
}

static memop size_memop(unsigned bytes, unsigned mmu)
{
    return (memop)__builtin_ctz(bytes) | mmu << MEM_MMU_SHIFT;
}

uint64_t x86_system_load(struct x86_cpu *c, uint64_t va, unsigned bytes)
{
    return cpu_load(&c->cpu, x86_long_mode(c) ? va : (uint32_t)va, size_memop(bytes, x86_system_mmu(c)));
}

void x86_system_store(struct x86_cpu *c, uint64_t va, unsigned bytes, uint64_t v)
{
    cpu_store(&c->cpu, x86_long_mode(c) ? va : (uint32_t)va, size_memop(bytes, x86_system_mmu(c)), v);
}

_Noreturn void x86_fault(struct x86_cpu *c, unsigned vector, uint16_t selector)
{
    x86_raise(c, vector, selector & 0xfffc);
}

/* ---- descriptors */

bool x86_descriptor_read(struct x86_cpu *c, uint16_t selector, struct x86_descriptor *d)
{
    bool local = selector & 4;
    uint64_t base = local ? c->seg[S_LDT].base : c->gdt.base;
    uint32_t limit = local ? c->seg[S_LDT].limit : c->gdt.limit;

    if (c->platform && c->platform->descriptor) {
        uint64_t raw;

        if (!c->platform->descriptor(c->platform_opaque, c, selector, &raw))
            return false;
        *d = (struct x86_descriptor){ .lo = (uint32_t)raw, .hi = (uint32_t)(raw >> 32) };
        return true;
    }
    if (local && !(c->seg[S_LDT].attr & ATTR_P))
        return false;
    if ((uint32_t)(selector | 7) > limit)
        return false;
    d->va = base + (selector & ~7u);
    d->lo = (uint32_t)x86_system_load(c, d->va, 4);
    d->hi = (uint32_t)x86_system_load(c, d->va + 4, 4);
    d->hi2 = 0;
    return true;
}

/* Sets the accessed bit in memory, atomically, if it is clear. */
void x86_descriptor_accessed(struct x86_cpu *c, struct x86_descriptor *d)
{
    if (!(d->hi & ATTR_S) || (d->hi & ATTR_ACCESSED))
        return;
    cpu_atomic(&c->cpu, IR_ATOMIC_OR, d->va + 4, size_memop(4, x86_system_mmu(c)), ATTR_ACCESSED, 0);
    d->hi |= ATTR_ACCESSED;
}

void x86_segment_set(struct x86_cpu *c, unsigned seg, uint16_t selector, const struct x86_descriptor *d)
{
    c->seg[seg] = (struct x86_segment){ selector, desc_attr(d), desc_limit(d), desc_base(d) };
}

void x86_segment_real(struct x86_cpu *c, unsigned seg, uint16_t selector)
{
    struct x86_segment *s = &c->seg[seg];

    s->selector = selector;
    s->base = (uint32_t)selector << 4;
    if (x86_vm86(c)) {
        s->limit = 0xffff;
        s->attr = ATTR_P | ATTR_S | ATTR_RW | ATTR_ACCESSED | 3u << ATTR_DPL_SHIFT;
    } else if (seg == S_CS) {
        s->attr = ATTR_P | ATTR_S | ATTR_RW | ATTR_ACCESSED;        /* limit is kept (unreal mode) */
    }
}

static void segment_null(struct x86_cpu *c, unsigned seg, uint16_t selector)
{
    struct x86_segment *s = &c->seg[seg];

    /* AMD keeps the base of FS and GS, Intel clears it; Linux copes with both */
    *s = (struct x86_segment){ .selector = selector };
    if (seg == S_SS)
        s->attr = (uint32_t)c->cpl << ATTR_DPL_SHIFT | ATTR_S | ATTR_RW | ATTR_ACCESSED | ATTR_D;
}

/* Checks of SS at privilege level cpl; faults as `vector` (#GP for MOV, #TS for stacks from a TSS). */
void x86_ss_for_level(struct x86_cpu *c, uint16_t selector, unsigned cpl, unsigned vector, struct x86_descriptor *d)
{
    if (!(selector & 0xfffc))
        x86_fault(c, vector, vector == X_TS ? selector : 0);
    if ((selector & 3) != cpl || !x86_descriptor_read(c, selector, d))
        x86_fault(c, vector, selector);
    if (!(d->hi & ATTR_S) || (d->hi & ATTR_CODE) || !(d->hi & ATTR_RW) || attr_dpl(d->hi) != cpl)
        x86_fault(c, vector, selector);
    if (!(d->hi & ATTR_P))
        x86_fault(c, X_SS, selector);
}

static void load_ss(struct x86_cpu *c, uint16_t selector)
{
    struct x86_descriptor d;

    if (!(selector & 0xfffc) && x86_code64(c) && c->cpl != 3 && (selector & 3) == c->cpl) {
        segment_null(c, S_SS, selector);
        return;
    }
    x86_ss_for_level(c, selector, c->cpl, X_GP, &d);
    x86_descriptor_accessed(c, &d);
    x86_segment_set(c, S_SS, selector, &d);
}

static void load_data(struct x86_cpu *c, unsigned seg, uint16_t selector)
{
    struct x86_descriptor d;
    bool code;

    if (!(selector & 0xfffc)) {
        segment_null(c, seg, selector);
        return;
    }
    if (!x86_descriptor_read(c, selector, &d) || !(d.hi & ATTR_S))
        x86_fault(c, X_GP, selector);
    code = d.hi & ATTR_CODE;
    if (code && !(d.hi & ATTR_RW))
        x86_fault(c, X_GP, selector);
    if (!(code && (d.hi & ATTR_CE)) && (attr_dpl(d.hi) < c->cpl || attr_dpl(d.hi) < (selector & 3u)))
        x86_fault(c, X_GP, selector);
    if (!(d.hi & ATTR_P))
        x86_fault(c, X_NP, selector);
    x86_descriptor_accessed(c, &d);
    x86_segment_set(c, seg, selector, &d);
}

void x86_segment_load(struct x86_cpu *c, unsigned seg, uint16_t selector)
{
    if (!x86_protected(c))
        x86_segment_real(c, seg, selector);
    else if (seg == S_SS)
        load_ss(c, selector);
    else
        load_data(c, seg, selector);
}

/* A return to an outer level takes away data segments that level may not use. SDM vol. 2, RET and IRET. */
void x86_null_data_segments(struct x86_cpu *c, unsigned cpl)
{
    static const uint8_t segs[] = { S_ES, S_DS, S_FS, S_GS };

    for (unsigned n = 0; n < 4; n++) {
        struct x86_segment *s = &c->seg[segs[n]];
        bool conforming = (s->attr & ATTR_CODE) && (s->attr & ATTR_CE);

        if ((s->selector & 0xfffc) && !conforming && attr_dpl(s->attr) < cpl) {
            s->selector = 0;
            s->attr = 0;
            if (!x86_long_mode(c)) {
                s->base = 0;
                s->limit = 0;
            }
        }
    }
}

/* ---- limits: SDM vol. 3, 5.3. Not for 64-bit code. */

static bool limit_ok(const struct x86_cpu *c, const struct x86_segment *s, uint64_t off, unsigned bytes, bool write)
{
    bool real = !x86_protected(c);
    uint64_t last = off + bytes - 1;

    if (!real) {
        if (!(s->attr & ATTR_P) || !(s->attr & ATTR_S))
            return false;
        if (write ? (s->attr & ATTR_CODE) || !(s->attr & ATTR_RW) : (s->attr & ATTR_CODE) && !(s->attr & ATTR_RW))
            return false;
        if (!(s->attr & ATTR_CODE) && (s->attr & ATTR_CE))      /* expand-down: above the limit */
            return off > s->limit && last <= (s->attr & ATTR_D ? 0xffffffff : 0xffff);
    }
    return last <= s->limit;
}

void x86_check_limit(struct x86_cpu *c, unsigned seg, uint64_t off, unsigned bytes, bool write)
{
    if (!limit_ok(c, &c->seg[seg], off, bytes ? bytes : 1, write))
        x86_raise(c, seg == S_SS ? X_SS : X_GP, 0);
}

/* Code beyond the limit: SDM vol. 3, 5.3 */
void helper_check_fetch(struct cpu *cpu, uint64_t offset)
{
    struct x86_cpu *c = x86(cpu);

    if (offset > c->seg[S_CS].limit)
        x86_raise(c, X_GP, 0);
}

void helper_check_segment(struct cpu *cpu, uint32_t info, uint64_t off)
{
    x86_check_limit(x86(cpu), info & 7, off, info >> 4, info & 8);
}

/* ---- instructions */

void helper_load_segment(struct cpu *cpu, uint32_t seg, uint32_t selector)
{
    struct x86_cpu *c = x86(cpu);

    if (seg == S_CS)
        x86_raise(c, X_UD, -1);
    x86_segment_load(c, seg, (uint16_t)selector);
    if (seg == S_SS) {
        c->shadow = 1;
        c->trap_pending = 0;
    }
}

void helper_lldt(struct cpu *cpu, uint32_t selector)
{
    struct x86_cpu *c = x86(cpu);
    struct x86_descriptor d;

    if (!(selector & 0xfffc)) {
        c->seg[S_LDT] = (struct x86_segment){ .selector = (uint16_t)selector };
        return;
    }
    if ((selector & 4) || !x86_descriptor_read(c, (uint16_t)selector, &d) || (d.hi & ATTR_S) ||
        attr_type(d.hi) != DT_LDT)
        x86_fault(c, X_GP, (uint16_t)selector);
    if (!(d.hi & ATTR_P))
        x86_fault(c, X_NP, (uint16_t)selector);
    if (x86_long_mode(c))
        d.hi2 = (uint32_t)x86_system_load(c, d.va + 8, 4);
    x86_segment_set(c, S_LDT, (uint16_t)selector, &d);
}

void helper_ltr(struct cpu *cpu, uint32_t selector)
{
    struct x86_cpu *c = x86(cpu);
    struct x86_descriptor d;

    if (!(selector & 0xfffc) || (selector & 4) || !x86_descriptor_read(c, (uint16_t)selector, &d))
        x86_fault(c, X_GP, (uint16_t)selector);
    if ((d.hi & ATTR_S) || (attr_type(d.hi) != DT_TSS32 && (x86_long_mode(c) || attr_type(d.hi) != DT_TSS16)))
        x86_fault(c, X_GP, (uint16_t)selector);
    if (!(d.hi & ATTR_P))
        x86_fault(c, X_NP, (uint16_t)selector);
    if (x86_long_mode(c))
        d.hi2 = (uint32_t)x86_system_load(c, d.va + 8, 4);
    d.hi |= 2u << ATTR_TYPE_SHIFT;      /* busy */
    x86_system_store(c, d.va + 4, 4, d.hi);
    x86_segment_set(c, S_TR, (uint16_t)selector, &d);
}

static bool visible(const struct x86_cpu *c, uint16_t selector, const struct x86_descriptor *d)
{
    if ((d->hi & ATTR_S) && (d->hi & ATTR_CODE) && (d->hi & ATTR_CE))
        return true;
    return attr_dpl(d->hi) >= c->cpl && attr_dpl(d->hi) >= (selector & 3u);
}

/* LAR, or LSL when limit: bit 32 of the result says whether there is one (ZF). SDM vol. 2, tables of LAR and LSL. */
uint64_t helper_lar(struct cpu *cpu, uint32_t selector, uint32_t limit)
{
    struct x86_cpu *c = x86(cpu);
    static const uint16_t lar_types = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 11 | 1 << 12;
    static const uint16_t lsl_types = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 11;
    static const uint16_t long_types = 1 << 2 | 1 << 9 | 1 << 11 | 1 << 12;
    uint16_t types = limit ? lsl_types : lar_types;
    struct x86_descriptor d;

    if (!(selector & 0xfffc) || !x86_descriptor_read(c, (uint16_t)selector, &d))
        return 0;
    if (x86_long_mode(c))
        types &= long_types;
    if (!(d.hi & ATTR_S) && !(types >> attr_type(d.hi) & 1))
        return 0;
    if (!visible(c, (uint16_t)selector, &d))
        return 0;
    return UINT64_C(1) << 32 | (limit ? desc_limit(&d) : desc_attr(&d) | (d.hi & 0xf0000));
}

uint32_t helper_verify(struct cpu *cpu, uint32_t selector, uint32_t write)
{
    struct x86_cpu *c = x86(cpu);
    struct x86_descriptor d;

    if (!(selector & 0xfffc) || !x86_descriptor_read(c, (uint16_t)selector, &d) || !(d.hi & ATTR_S) ||
        !visible(c, (uint16_t)selector, &d))
        return 0;
    if (d.hi & ATTR_CODE)
        return !write && (d.hi & ATTR_RW);
    return !write || (d.hi & ATTR_RW);
}

/* ---- stacks */

struct x86_stack x86_stack_on(struct x86_cpu *c, const struct x86_segment *ss, uint64_t sp, unsigned cpl)
{
    struct x86_stack s = { .c = c, .sp = sp, .mmu = x86_level_mmu(c, cpl), .limit = ss };

    s.mask = ss->attr & ATTR_D ? 0xffffffff : 0xffff;
    s.base = ss->base;
    return s;
}

/* The current one. In 64-bit mode it is flat. */
struct x86_stack x86_stack_begin(struct x86_cpu *c)
{
    struct x86_stack s = x86_stack_on(c, &c->seg[S_SS], c->regs[R_RSP], c->cpl);

    if (x86_code64(c)) {
        s.flat = true;
        s.base = 0;
        s.mask = UINT64_MAX;
    }
    return s;
}

static uint64_t stack_linear(const struct x86_stack *s, unsigned bytes, bool write)
{
    uint64_t off = s->sp & s->mask;

    if (s->flat)
        return off;
    if (!limit_ok(s->c, s->limit, off, bytes, write))
        x86_raise(s->c, X_SS, s->limit == &s->c->seg[S_SS] ? 0 : s->limit->selector & 0xfffc);
    return (uint32_t)(s->base + off);
}

void x86_stack_push(struct x86_stack *s, unsigned bytes, uint64_t v)
{
    s->sp = (s->sp & ~s->mask) | ((s->sp - bytes) & s->mask);
    cpu_store(&s->c->cpu, stack_linear(s, bytes, true), size_memop(bytes, s->mmu), v);
}

uint64_t x86_stack_pop(struct x86_stack *s, unsigned bytes)
{
    uint64_t v = cpu_load(&s->c->cpu, stack_linear(s, bytes, false), size_memop(bytes, s->mmu));

    s->sp = (s->sp & ~s->mask) | ((s->sp + bytes) & s->mask);
    return v;
}

void x86_stack_done(struct x86_stack *s)
{
    s->c->regs[R_RSP] = s->sp;
}
