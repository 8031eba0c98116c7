/* Model-specific registers: a table of those that are plain storage, functions for the rest. SDM vol. 4; AMD APM
 * vol. 2, appendix A. An unknown one is #GP, as on a processor, and logged under unimp. */
#include <glib.h>
#include "rhea/base/log.h"
#include "system.h"

/* Plain storage: writable bits; the rest must be as they are, else #GP (strict) or are dropped. */
struct msr_plain {
    uint32_t msr, last;         /* a range of consecutive 64-bit fields */
    uint16_t offset, feature;
    uint64_t writable;
    bool strict;
};
#define FIELD(f) offsetof(struct x86_cpu, f)
static const struct msr_plain plain[] = {
    { 0x3a, 0x3a, FIELD(feature_control), 0, 0, false },
    { 0x48, 0x48, FIELD(spec_ctrl), XF_SPEC_CTRL, 7, true },
    { 0x8b, 0x8b, FIELD(microcode), 0, 0, false },
    { 0x174, 0x174, FIELD(sysenter_cs), XF_SEP, UINT64_MAX, false },
    { 0x179, 0x179, FIELD(mcg_cap), XF_MCA, 0, true },
    { 0x17a, 0x17a, FIELD(mcg_status), XF_MCA, 7, false },
    { 0x17b, 0x17b, FIELD(mcg_ctl), XF_MCA, UINT64_MAX, false },
    { 0x1a0, 0x1a0, FIELD(misc_enable), 0, UINT64_MAX, false },
    { 0x200, 0x20f, FIELD(mtrr_var), XF_MTRR, UINT64_MAX, false },
    { 0x250, 0x250, FIELD(mtrr_fix[0]), XF_MTRR, UINT64_MAX, false },
    { 0x258, 0x259, FIELD(mtrr_fix[1]), XF_MTRR, UINT64_MAX, false },
    { 0x268, 0x26f, FIELD(mtrr_fix[3]), XF_MTRR, UINT64_MAX, false },
    { 0x2ff, 0x2ff, FIELD(mtrr_def), XF_MTRR, 0xcff, true },
    { 0xc0000081, 0xc0000081, FIELD(star), XF_SYSCALL, UINT64_MAX, false },
    { 0xc0000084, 0xc0000084, FIELD(fmask), XF_SYSCALL, UINT32_MAX, false },
    { 0xc0000103, 0xc0000103, FIELD(tsc_aux), XF_RDTSCP, UINT32_MAX, true },
};

/* Read as these values; writes are dropped. What Linux 6.1 and 6.12 touch on the models we announce, and firmware. */
static const struct { uint32_t msr, last; uint64_t value; } constant[] = {
    { 0x0, 0x1, 0 },                    /* P5_MC_ADDR, P5_MC_TYPE */
    { 0x17, 0x17, 0 },                  /* PLATFORM_ID */
    { 0x2a, 0x2a, 0 },                  /* EBL_CR_POWERON */
    { 0x33, 0x33, 0 },                  /* TEST_CTRL */
    { 0x34, 0x34, 0 },                  /* SMI_COUNT */
    { 0x49, 0x49, 0 },                  /* PRED_CMD: there is nothing to flush */
    { 0x79, 0x79, 0 },                  /* microcode update trigger */
    { 0xce, 0xce, 0 },                  /* PLATFORM_INFO */
    { 0xe2, 0xe2, 0 },                  /* PKG_CST_CONFIG_CONTROL */
    { 0xfe, 0xfe, 0x508 },              /* MTRRCAP: 8 variable, fixed, WC */
    { 0x119, 0x119, 0 },                /* BBL_CR_CTL */
    { 0x122, 0x122, 0 },                /* TSX_CTRL */
    { 0x140, 0x140, 0 },                /* MISC_FEATURES_ENABLES */
    { 0x186, 0x189, 0 },                /* PERFEVTSEL */
    { 0x198, 0x198, 0x100000000400 },   /* PERF_STATUS */
    { 0x199, 0x19b, 0 },
    { 0x19c, 0x19c, 0 },                /* THERM_STATUS */
    { 0x1a2, 0x1a2, 0 },
    { 0x1a4, 0x1a7, 0 },
    { 0x1ad, 0x1ad, 0 },
    { 0x1b0, 0x1b2, 0 },
    { 0x1c8, 0x1c9, 0 },
    { 0x1d9, 0x1d9, 0 },                /* DEBUGCTL */
    { 0x1db, 0x1de, 0 },
    { 0x1fc, 0x1fc, 0 },                /* POWER_CTL */
    { 0x345, 0x345, 0 },
    { 0x38d, 0x38f, 0 }, { 0x390, 0x390, 0 },
    { 0x3f1, 0x3f1, 0 },
    { 0x400, 0x47f, 0 },                /* machine check banks: see mcg_cap */
    { 0x606, 0x606, 0xa1003 },          /* RAPL_POWER_UNIT */
    { 0x611, 0x611, 0 }, { 0x619, 0x619, 0 }, { 0x639, 0x639, 0 }, { 0x641, 0x641, 0 },
    { 0x64e, 0x64e, 0 },
    { 0xc0000100 + 0x200, 0xc0000100 + 0x200, 0 },
    { 0xc0010000, 0xc0010007, 0 },      /* AMD performance counters */
    { 0xc0010010, 0xc0010010, 0 },      /* SYSCFG */
    { 0xc0010015, 0xc0010015, 0x01000000 },     /* HWCR: TscFreqSel */
    { 0xc0010016, 0xc001001d, 0 },      /* IORR, TOP_MEM */
    { 0xc001001f, 0xc001001f, 0 },      /* NB_CFG */
    { 0xc0010055, 0xc0010055, 0 },      /* INT_PENDING_MSG */
    { 0xc0010061, 0xc0010064, 0 },      /* P-states */
    { 0xc0010111, 0xc0010114, 0 },      /* SMM, VM_CR */
    { 0xc0010140, 0xc0010141, 0 },      /* OSVW */
    { 0xc0011004, 0xc0011005, 0 },
    { 0xc001100c, 0xc001100c, 0 },
    { 0xc0011020, 0xc0011023, 0 },      /* LS_CFG, IC_CFG, DC_CFG */
    { 0xc0011029, 0xc001102d, 0 },      /* DE_CFG */
    { 0xc0011030, 0xc001103d, 0 },      /* IBS */
    { 0xc0010200, 0xc001020b, 0 },
    { 0xc00000e7, 0xc00000e9, 0 },
};

static const struct msr_plain *plain_find(const struct x86_cpu *c, uint32_t msr)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(plain); n++)
        if (msr >= plain[n].msr && msr <= plain[n].last)
            return !plain[n].feature || x86_has(c->features, plain[n].feature) ? &plain[n] : NULL;
    return NULL;
}

static uint64_t *plain_field(struct x86_cpu *c, const struct msr_plain *p, uint32_t msr)
{
    return (uint64_t *)((char *)c + p->offset + 8 * (msr - p->msr));
}

static bool constant_find(uint32_t msr, uint64_t *v)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(constant); n++)
        if (msr >= constant[n].msr && msr <= constant[n].last) {
            *v = constant[n].value;
            return true;
        }
    return false;
}

static _Noreturn void unknown(struct x86_cpu *c, uint32_t msr, const char *what)
{
    log_at(LOG_UNIMP, "x86: %s of unknown MSR %#x\n", what, msr);
    x86_raise(c, X_GP, 0);
}

static bool is_apic(const struct x86_cpu *c, uint32_t msr)
{
    return msr >= 0x800 && msr <= 0x83f;
}

static uint64_t apic_read(struct x86_cpu *c, uint32_t msr)
{
    bool gp = false;
    uint64_t v;

    if (!c->platform || !c->platform->apic_msr_read)
        unknown(c, msr, "read");
    v = c->platform->apic_msr_read(c->platform_opaque, c, msr, &gp);
    if (gp)
        x86_raise(c, X_GP, 0);
    return v;
}

static void apic_write(struct x86_cpu *c, uint32_t msr, uint64_t v)
{
    bool gp = false;

    if (!c->platform || !c->platform->apic_msr_write)
        unknown(c, msr, "write");
    c->platform->apic_msr_write(c->platform_opaque, c, msr, v, &gp);
    if (gp)
        x86_raise(c, X_GP, 0);
}

static bool long_mode_msr(const struct x86_cpu *c, uint32_t msr)
{
    return msr >= 0xc0000082 && msr <= 0xc0000102 && x86_has(c->features, XF_LM);
}

static uint64_t msr_read(struct x86_cpu *c, uint32_t msr)
{
    const struct msr_plain *p;
    uint64_t v;

    if (is_apic(c, msr))
        return apic_read(c, msr);
    switch (msr) {
    case 0x10: return x86_tsc(c);
    case 0x1b: return c->apic_base;
    case 0x3b: return c->tsc_adjust;
    case 0x175: return c->sysenter_esp;
    case 0x176: return c->sysenter_eip;
    case 0x277: return c->pat;
    case 0x6e0: return c->tsc_deadline;
    case 0xda0: return c->xss;
    case 0xc0000080: return c->efer;
    default: break;
    }
    if (long_mode_msr(c, msr)) {
        switch (msr) {
        case 0xc0000082: return c->lstar;
        case 0xc0000083: return c->cstar;
        case 0xc0000100: return c->seg[S_FS].base;
        case 0xc0000101: return c->seg[S_GS].base;
        case 0xc0000102: return c->kernel_gs_base;
        default: break;
        }
    }
    p = plain_find(c, msr);
    if (p)
        return *plain_field(c, p, msr);
    if (constant_find(msr, &v) || x86_kvm_msr_read(c, msr, &v))
        return v;
    unknown(c, msr, "read");
}

static void need_canonical(struct x86_cpu *c, uint64_t v)
{
    if (x86_has(c->features, XF_LM) && !x86_canonical(c, v))
        x86_raise(c, X_GP, 0);
}

static void write_efer(struct x86_cpu *c, uint64_t v)
{
    uint64_t allowed = 0;

    allowed |= x86_has(c->features, XF_SYSCALL) ? EFER_SCE : 0;
    allowed |= x86_has(c->features, XF_LM) ? EFER_LME | EFER_LMA : 0;
    allowed |= x86_has(c->features, XF_NX) ? EFER_NXE : 0;
    allowed |= x86_has(c->features, XF_FXSR_OPT) ? EFER_FFXSR : 0;
    if ((v & ~allowed) || ((c->cr0 & CR0_PG) && ((v ^ c->efer) & EFER_LME)))
        x86_raise(c, X_GP, 0);
    v = (v & ~(uint64_t)EFER_LMA) | (c->efer & EFER_LMA);
    if ((v ^ c->efer) & EFER_NXE)
        cpu_tlb_flush(&c->cpu, ~0u);
    c->efer = v;
}

static void write_pat(struct x86_cpu *c, uint64_t v)
{
    for (unsigned n = 0; n < 8; n++) {
        unsigned type = v >> (8 * n) & 0xff;

        if (type > 7 || type == 2 || type == 3)
            x86_raise(c, X_GP, 0);
    }
    c->pat = v;
}

static void write_apic_base(struct x86_cpu *c, uint64_t v)
{
    bool x2apic = v & 1 << 10, enabled = v & 1 << 11;

    if ((x2apic && (!enabled || !x86_has(c->features, XF_X2APIC))) || (v & 0x2ff) || v >> 40)
        x86_raise(c, X_GP, 0);
    if (enabled && !x2apic && (c->apic_base & 1 << 10))
        x86_raise(c, X_GP, 0);
    c->apic_base = (v & ~UINT64_C(0x100)) | (c->apic_base & 0x100);
    if (c->platform && c->platform->apic_base_set)
        c->platform->apic_base_set(c->platform_opaque, c, c->apic_base);
}

static void msr_write(struct x86_cpu *c, uint32_t msr, uint64_t v)
{
    const struct msr_plain *p;
    uint64_t ignored;

    if (is_apic(c, msr)) {
        apic_write(c, msr, v);
        return;
    }
    switch (msr) {
    case 0x10:
        ignored = x86_tsc(c);
        c->tsc_offset += v - ignored;
        c->tsc_adjust += v - ignored;
        x86_kvm_clock_update(c);
        return;
    case 0x1b: write_apic_base(c, v); return;
    case 0x3b:
        c->tsc_offset += v - c->tsc_adjust;
        c->tsc_adjust = v;
        x86_kvm_clock_update(c);
        return;
    case 0x175: need_canonical(c, v); c->sysenter_esp = v; return;
    case 0x176: need_canonical(c, v); c->sysenter_eip = v; return;
    case 0x277: write_pat(c, v); return;
    case 0x6e0:
        c->tsc_deadline = v;
        if (c->platform && c->platform->deadline_set)
            c->platform->deadline_set(c->platform_opaque, c, v);
        return;
    case 0xda0:
        if (v)
            x86_raise(c, X_GP, 0);
        return;
    case 0xc0000080: write_efer(c, v); return;
    default: break;
    }
    if (long_mode_msr(c, msr)) {
        switch (msr) {
        case 0xc0000082: need_canonical(c, v); c->lstar = v; return;
        case 0xc0000083: need_canonical(c, v); c->cstar = v; return;
        case 0xc0000100: need_canonical(c, v); c->seg[S_FS].base = v; return;
        case 0xc0000101: need_canonical(c, v); c->seg[S_GS].base = v; return;
        case 0xc0000102: need_canonical(c, v); c->kernel_gs_base = v; return;
        default: break;
        }
    }
    p = plain_find(c, msr);
    if (p) {
        uint64_t *field = plain_field(c, p, msr);

        if (p->strict && (v & ~p->writable) != (*field & ~p->writable))
            x86_raise(c, X_GP, 0);
        *field = (*field & ~p->writable) | (v & p->writable);
        return;
    }
    if (constant_find(msr, &ignored) || x86_kvm_msr_write(c, msr, v))
        return;
    unknown(c, msr, "write");
}

void helper_rdmsr(struct cpu *cpu)
{
    struct x86_cpu *c = x86(cpu);
    uint64_t v = msr_read(c, (uint32_t)c->regs[R_RCX]);

    c->regs[R_RAX] = (uint32_t)v;
    c->regs[R_RDX] = v >> 32;
}

void helper_wrmsr(struct cpu *cpu)
{
    struct x86_cpu *c = x86(cpu);

    msr_write(c, (uint32_t)c->regs[R_RCX], c->regs[R_RDX] << 32 | (uint32_t)c->regs[R_RAX]);
}
