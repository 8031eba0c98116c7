/* Control and debug registers, EFER, and the mode bits that key translations. SDM vol. 3, 2.5, 2.2.1, 17.2. */
#include "rhea/base/log.h"
#include "system.h"

void x86_set_cpl(struct x86_cpu *c, unsigned cpl) { c->cpl = (uint8_t)cpl; }

/* ---- mode bits */

/* A data segment through which every offset may be read and written, so that no check is needed. */
static bool segment_flat(const struct x86_segment *s, bool protected)
{
    if (!protected)
        return s->limit == 0xffffffff;
    return s->limit == 0xffffffff && (s->attr & (ATTR_P | ATTR_S | ATTR_CODE | ATTR_CE | ATTR_RW)) ==
                                         (ATTR_P | ATTR_S | ATTR_RW);
}

static uint64_t segment_bits(const struct x86_cpu *c)
{
    bool prot = x86_protected(c);
    uint64_t m = (uint64_t)(uint32_t)c->seg[S_CS].base << MODE_CS_BASE_SHIFT;

    if (c->seg[S_DS].base || c->seg[S_ES].base || c->seg[S_SS].base)
        m |= MODE_BASES;
    if (!segment_flat(&c->seg[S_DS], prot) || !segment_flat(&c->seg[S_ES], prot) || !segment_flat(&c->seg[S_SS], prot) ||
        c->seg[S_CS].limit != 0xffffffff)
        m |= MODE_LIMITS;
    if (!segment_flat(&c->seg[S_FS], prot))
        m |= MODE_LIMITS_FS;
    if (!segment_flat(&c->seg[S_GS], prot))
        m |= MODE_LIMITS_GS;
    if (c->seg[S_CS].limit != 0xffffffff && (prot || c->seg[S_CS].limit != 0xffff))
        m |= MODE_CS_LIMIT;
    if (c->seg[S_SS].attr & ATTR_D)
        m |= MODE_SS32;
    return m | (c->seg[S_CS].attr & ATTR_D ? MODE_CODE32 : MODE_CODE16);
}

/* Fields of DR7 for breakpoint n: enabled; what it waits for (0 execution, 1 writes, 2 ports, 3 accesses); its size. */
static bool dr_enabled(const struct x86_cpu *c, unsigned n) { return c->dr[7] >> (2 * n) & 3; }
static unsigned dr_kind(const struct x86_cpu *c, unsigned n) { return c->dr[7] >> (16 + 4 * n) & 3; }
static unsigned dr_bytes(const struct x86_cpu *c, unsigned n)
{
    static const uint8_t bytes[] = { 1, 2, 8, 4 };

    return bytes[c->dr[7] >> (18 + 4 * n) & 3];
}

static uint64_t breakpoint_bits(const struct x86_cpu *c)
{
    uint64_t m = 0;

    for (unsigned n = 0; n < 4; n++) {
        if (!dr_enabled(c, n))
            continue;
        if (dr_kind(c, n) == 0)
            m |= MODE_DE | (c->eflags & EF_RF ? MODE_RF : 0);
        else if (dr_kind(c, n) != 2)
            m |= MODE_WATCH;
    }
    return m;
}

static uint64_t control_bits(const struct x86_cpu *c)
{
    uint64_t m = 0;

    m |= c->cr0 & CR0_TS ? MODE_TS : 0;
    m |= c->cr0 & CR0_EM ? MODE_EM : 0;
    m |= c->cr0 & CR0_MP ? MODE_MP : 0;
    m |= c->cr4 & CR4_OSFXSR ? MODE_OSFXSR : 0;
    m |= (c->cr4 & CR4_OSXSAVE) && (c->xcr0 & 6) == 6 ? MODE_OSXSAVE_AVX : 0;
    m |= c->cr4 & CR4_UMIP ? MODE_UMIP : 0;
    m |= c->cr4 & CR4_TSD ? MODE_TSD : 0;
    m |= c->cr4 & CR4_PCE ? MODE_PCE : 0;
    m |= (c->mxcsr & 0x1f80) != 0x1f80 ? MODE_FPEXC : 0;
    return m;
}

uint64_t x86_mode_bits(const struct cpu *cpu)
{
    const struct x86_cpu *c = (const struct x86_cpu *)cpu;
    uint64_t m = control_bits(c);

    m |= x86_code64(c) ? MODE_CODE64 : segment_bits(c);
    m |= (uint64_t)c->cpl << MODE_CPL_SHIFT | (uint64_t)x86_iopl(c) << MODE_IOPL_SHIFT;
    m |= (uint64_t)x86_mmu_index(cpu, false) << MODE_MMU_SHIFT;
    m |= c->cr0 & CR0_PE ? MODE_PE : 0;
    m |= x86_vm86(c) ? MODE_VM86 : 0;
    m |= x86_long_mode(c) ? MODE_LMA : 0;
    m |= c->eflags & EF_TF ? MODE_TF : 0;
    m |= c->shadow ? MODE_SHADOW : 0;
    m |= (c->eflags & EF_AC) && (c->cr0 & CR0_AM) && c->cpl == 3 ? MODE_AC : 0;
    if (c->dr[7] & 0xff)
        m |= breakpoint_bits(c);
    return m;
}

unsigned x86_mmu_index(const struct cpu *cpu, bool code)
{
    const struct x86_cpu *c = (const struct x86_cpu *)cpu;

    if (code && (c->cr0 & CR0_PG))
        return c->cpl == 3 ? MMU_USER : MMU_KERNEL;
    return x86_level_mmu(c, c->cpl);
}

/* ---- control registers */

static void flush_all(struct x86_cpu *c) { cpu_tlb_flush(&c->cpu, ~0u); }

static void update_lma(struct x86_cpu *c)
{
    if ((c->cr0 & CR0_PG) && (c->efer & EFER_LME))
        c->efer |= EFER_LMA;
    else
        c->efer &= ~(uint64_t)EFER_LMA;
}

void x86_set_cr0(struct x86_cpu *c, uint64_t v)
{
    uint64_t old = c->cr0;

    c->cr0 = (v & 0xe005003f) | CR0_ET;
    update_lma(c);
    if ((old ^ c->cr0) & (CR0_PG | CR0_WP | CR0_PE))
        flush_all(c);
}

static void write_cr0(struct x86_cpu *c, uint64_t v)
{
    if (v >> 32 || ((v & CR0_PG) && !(v & CR0_PE)) || ((v & CR0_NW) && !(v & CR0_CD)))
        x86_raise(c, X_GP, 0);
    if ((v & CR0_PG) && !(c->cr0 & CR0_PG) && (c->efer & EFER_LME) &&
        (!(c->cr4 & CR4_PAE) || (c->seg[S_CS].attr & ATTR_L)))
        x86_raise(c, X_GP, 0);
    if (!(v & CR0_PG) && (c->cr0 & CR0_PG) && ((c->cr4 & CR4_PCIDE) || x86_code64(c)))
        x86_raise(c, X_GP, 0);
    if ((v & CR0_PG) && (c->cr4 & CR4_PAE) && !(c->efer & EFER_LME) && ((v ^ c->cr0) & (CR0_PG | CR0_CD | CR0_NW)))
        x86_load_pdptes(c, true);
    x86_set_cr0(c, v);
    if (!(c->cr0 & CR0_PE))
        x86_set_cpl(c, 0);
}

#define CR3_KEEP (UINT64_C(1) << 63)    /* of a load: translations of the PCID stay */

/* With PCIDs each has a soft TLB of its own, as many as there is room for: SDM vol. 3, 4.10.4.1. */
static void pcid_changed(struct x86_cpu *c)
{
    cpu_tlb_context(&c->cpu, ~0u, c->cr4 & CR4_PCIDE ? c->cr3 & 0xfff : 0);
}

void x86_set_cr3(struct x86_cpu *c, uint64_t v)
{
    bool keep = v & CR3_KEEP && c->cr4 & CR4_PCIDE;

    c->cr3 = v & ~CR3_KEEP;
    pcid_changed(c);
    if (!keep)
        cpu_tlb_flush_local(&c->cpu, ~0u);
}

static void write_cr3(struct x86_cpu *c, uint64_t v)
{
    uint64_t keep = x86_long_mode(c) ? v & CR3_KEEP : 0;

    if (x86_long_mode(c)) {
        if (keep && !(c->cr4 & CR4_PCIDE))
            x86_raise(c, X_GP, 0);
        v &= ~CR3_KEEP;
        if (v & ~c->phys_mask)
            x86_raise(c, X_GP, 0);
    } else {
        v = (uint32_t)v;
    }
    if ((c->cr0 & CR0_PG) && (c->cr4 & CR4_PAE) && !x86_long_mode(c)) {
        uint64_t old = c->cr3;

        c->cr3 = v;
        x86_load_pdptes(c, false);
        c->cr3 = old;
    }
    x86_set_cr3(c, v | keep);
}

uint64_t x86_cr4_allowed(const struct x86_cpu *c)
{
    static const struct { uint32_t bit; uint16_t feature; } bits[] = {
        { CR4_VME | CR4_PVI, XF_VME }, { CR4_TSD, XF_TSC }, { CR4_DE, XF_DE }, { CR4_PSE, XF_PSE }, { CR4_PAE, XF_PAE },
        { CR4_MCE, XF_MCE }, { CR4_PGE, XF_PGE }, { CR4_OSFXSR, XF_FXSR }, { CR4_OSXMMEXCPT, XF_SSE },
        { CR4_UMIP, XF_UMIP }, { CR4_LA57, XF_LA57 }, { CR4_FSGSBASE, XF_FSGSBASE }, { CR4_PCIDE, XF_PCID },
        { CR4_OSXSAVE, XF_XSAVE }, { CR4_SMEP, XF_SMEP }, { CR4_SMAP, XF_SMAP },
    };
    uint64_t allowed = CR4_PCE;

    for (unsigned n = 0; n < sizeof(bits) / sizeof(bits[0]); n++)
        if (x86_has(c->features, bits[n].feature))
            allowed |= bits[n].bit;
    return allowed;
}

void x86_set_cr4(struct x86_cpu *c, uint64_t v)
{
    uint64_t changed = c->cr4 ^ v;

    c->cr4 = v;
    if (changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_LA57)) {
        flush_all(c);
        pcid_changed(c);
    }
}

static void write_cr4(struct x86_cpu *c, uint64_t v)
{
    uint64_t changed = c->cr4 ^ v;

    if (v & ~x86_cr4_allowed(c))
        x86_raise(c, X_GP, 0);
    if (x86_long_mode(c) && ((changed & CR4_LA57) || !(v & CR4_PAE)))
        x86_raise(c, X_GP, 0);
    if ((v & changed & CR4_PCIDE) && (!x86_long_mode(c) || (c->cr3 & 0xfff)))
        x86_raise(c, X_GP, 0);
    if ((c->cr0 & CR0_PG) && (v & CR4_PAE) && !x86_long_mode(c) && (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)))
        x86_load_pdptes(c, true);
    x86_set_cr4(c, v);
}

static void write_cr8(struct x86_cpu *c, uint64_t v)
{
    if (v >> 4)
        x86_raise(c, X_GP, 0);
    c->cr8 = v;
    if (c->platform && c->platform->tpr_set)
        c->platform->tpr_set(c->platform_opaque, c, (uint8_t)(v << 4));
}

void helper_write_cr(struct cpu *cpu, uint32_t n, uint64_t v)
{
    struct x86_cpu *c = x86(cpu);

    switch (n) {
    case 0: write_cr0(c, v); break;
    case 2: c->cr2 = v; break;
    case 3: write_cr3(c, v); break;
    case 4: write_cr4(c, v); break;
    case 8: write_cr8(c, v); break;
    default: x86_raise(c, X_UD, -1);
    }
}

uint64_t helper_read_cr(struct cpu *cpu, uint32_t n)
{
    struct x86_cpu *c = x86(cpu);

    switch (n) {
    case 0: return c->cr0;
    case 2: return c->cr2;
    case 3: return c->cr3;
    case 4: return c->cr4;
    case 8:
        if (c->platform && c->platform->tpr_get)
            return c->platform->tpr_get(c->platform_opaque, c) >> 4;
        return c->cr8;
    default: x86_raise(c, X_UD, -1);
    }
}

/* LMSW sets MP, EM, TS, and PE but does not clear it. */
void helper_lmsw(struct cpu *cpu, uint32_t v)
{
    struct x86_cpu *c = x86(cpu);

    write_cr0(c, (c->cr0 & ~UINT64_C(14)) | (v & 15));
}

void helper_clts(struct cpu *cpu)
{
    x86(cpu)->cr0 &= ~(uint64_t)CR0_TS;
}

void helper_invlpg(struct cpu *cpu, uint64_t va)
{
    cpu_tlb_flush_page(cpu, va, ~0u);
}

/* SDM vol. 2, INVPCID. An address is dropped in all PCIDs. */
void helper_invpcid(struct cpu *cpu, uint64_t type, uint64_t va)
{
    struct x86_cpu *c = x86(cpu);
    unsigned mmu = x86_level_mmu(c, c->cpl);
    uint64_t lo, hi;

    if (type > 3)
        x86_raise(c, X_GP, 0);
    lo = cpu_load(cpu, va, MEM_64 | mmu << MEM_MMU_SHIFT);
    hi = cpu_load(cpu, va + 8, MEM_64 | mmu << MEM_MMU_SHIFT);
    if (type < 2 && (lo >> 12 || (type == 0 && !x86_canonical(c, hi))))
        x86_raise(c, X_GP, 0);
    if (type < 2 && lo && !(c->cr4 & CR4_PCIDE))
        x86_raise(c, X_GP, 0);
    if (type == 0)
        cpu_tlb_flush_page(cpu, hi, ~0u);
    else if (type == 1)
        cpu_tlb_flush_context(cpu, ~0u, lo);
    else
        flush_all(c);
}

/* ---- debug registers */

static unsigned debug_register(struct x86_cpu *c, unsigned n)
{
    if (n == 4 || n == 5) {
        if (c->cr4 & CR4_DE)
            x86_raise(c, X_UD, -1);
        n += 2;
    }
    if (n > 7)
        x86_raise(c, X_UD, -1);
    if (c->dr[7] & 1 << 13) {           /* GD: SDM vol. 3, 17.2.4 */
        c->dr[7] &= ~(uint64_t)(1 << 13);
        c->dr[6] |= 1 << 13;
        x86_raise(c, X_DB, -1);
    }
    return n;
}

uint64_t helper_read_dr(struct cpu *cpu, uint32_t n)
{
    struct x86_cpu *c = x86(cpu);

    n = debug_register(c, n);
    return c->dr[n];
}

void helper_write_dr(struct cpu *cpu, uint32_t n, uint64_t v)
{
    struct x86_cpu *c = x86(cpu);

    n = debug_register(c, n);
    if (n >= 6 && v >> 32)
        x86_raise(c, X_GP, 0);
    if (n == 6)
        v = (v & 0xe00f) | 0xffff0ff0;
    else if (n == 7)
        v = (v & 0xffff2bff) | 0x400;
    c->dr[n] = v;
}

/* Fires before the instruction, as a fault. */
void helper_check_breakpoint(struct cpu *cpu)
{
    struct x86_cpu *c = x86(cpu);
    uint64_t hit = 0;

    for (unsigned n = 0; n < 4; n++)
        if (dr_enabled(c, n) && dr_kind(c, n) == 0 && c->dr[n] == cpu->pc)
            hit |= 1u << n;
    if (!hit)
        return;
    c->dr[6] = (c->dr[6] & ~UINT64_C(15)) | hit;
    c->eflags |= EF_RF;         /* pushed, so that IRET gets past it */
    x86_raise(c, X_DB, -1);
}

/* A trap after the instruction: SDM vol. 3, 17.3.1.2. */
void x86_watch(struct x86_cpu *c, uint64_t va, unsigned bytes, bool write)
{
    for (unsigned n = 0; n < 4; n++) {
        uint64_t start = c->dr[n] & ~(uint64_t)(dr_bytes(c, n) - 1);
        bool wanted = dr_kind(c, n) == 3 || (dr_kind(c, n) == 1 && write);

        if (dr_enabled(c, n) && wanted && va < start + dr_bytes(c, n) && va + bytes > start)
            c->watch_hits |= (uint8_t)(1 << n);
    }
}

void helper_watch(struct cpu *cpu, uint64_t va, uint32_t info)
{
    x86_watch(x86(cpu), va, info >> 1, info & 1);
}

/* ---- flags as an instruction sees them */

uint64_t helper_read_eflags(struct cpu *cpu)
{
    return x86_eflags(x86(cpu)) & ~(uint64_t)(EF_RF | EF_VM);
}

void helper_write_eflags(struct cpu *cpu, uint64_t v, uint32_t bytes)
{
    struct x86_cpu *c = x86(cpu);
    uint64_t mask = EF_ARITH | EF_TF | EF_DF | EF_NT | (bytes > 2 ? EF_AC | EF_ID : 0);

    if (!(c->cr0 & CR0_PE) || c->cpl == 0)
        mask |= EF_IOPL;
    if (!(c->cr0 & CR0_PE) || c->cpl <= x86_iopl(c))
        mask |= EF_IF;
    x86_set_eflags(c, v, mask);
    c->eflags &= ~(uint64_t)EF_RF;
}
