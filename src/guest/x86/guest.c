/* The x86 guests as the rest of Rhea sees them: descriptors, reset, register dump and tables. */
#include <glib.h>
#include <string.h>
#include "rhea/base/log.h"
#define x86_insn cs_x86_insn    /* capstone has an enum of that name */
#include <capstone/capstone.h>
#undef x86_insn
#include "cpuid.h"
#include "rhea/guest/debug.h"

#define FIELD(f) offsetof(struct x86_cpu, f)

static const struct ir_slot slots[SLOT_COUNT] = {
#define GPR(n, name) [SLOT_REG + n] = { name, FIELD(regs[n]), T_I64, 4 }
    GPR(0, "rax"), GPR(1, "rcx"), GPR(2, "rdx"), GPR(3, "rbx"), GPR(4, "rsp"), GPR(5, "rbp"), GPR(6, "rsi"), GPR(7, "rdi"),
    GPR(8, "r8"), GPR(9, "r9"), GPR(10, "r10"), GPR(11, "r11"), GPR(12, "r12"), GPR(13, "r13"), GPR(14, "r14"),
    GPR(15, "r15"),
    [SLOT_CC_DST] = { "cc_dst", FIELD(cc_dst), T_I64, 0 }, [SLOT_CC_SRC] = { "cc_src", FIELD(cc_src), T_I64, 0 },
    [SLOT_CC_SRC2] = { "cc_src2", FIELD(cc_src2), T_I64, 0 }, [SLOT_CC_OP] = { "cc_op", FIELD(cc_op), T_I32, 0 },
    [SLOT_DF] = { "df", FIELD(df), T_I32, 0 },
    [SLOT_BASE_ES] = { "es_base", FIELD(seg[S_ES].base), T_I64, 1 },
    [SLOT_BASE_SS] = { "ss_base", FIELD(seg[S_SS].base), T_I64, 1 },
    [SLOT_BASE_DS] = { "ds_base", FIELD(seg[S_DS].base), T_I64, 1 },
    [SLOT_BASE_FS] = { "fs_base", FIELD(seg[S_FS].base), T_I64, 1 },
    [SLOT_BASE_GS] = { "gs_base", FIELD(seg[S_GS].base), T_I64, 1 },
#define XMM(n) [SLOT_XMM + n] = { "xmm" #n, FIELD(ymm[n].lo), T_V128, 2 }, \
               [SLOT_YMM_HI + n] = { "ymmh" #n, FIELD(ymm[n].hi), T_V128, 1 }, \
               [SLOT_YMM + n] = { "ymm" #n, FIELD(ymm[n].lo), T_V256, 2 }
    XMM(0), XMM(1), XMM(2), XMM(3), XMM(4), XMM(5), XMM(6), XMM(7), XMM(8), XMM(9), XMM(10), XMM(11), XMM(12), XMM(13),
    XMM(14), XMM(15),
};

#include "rhea/guest/helpers_table.h"

/* ---- reset: SDM vol. 3, table 9-1 */

static void reset_segments(struct x86_cpu *c)
{
    for (unsigned n = 0; n <= S_GS; n++)
        c->seg[n] = (struct x86_segment){ .attr = ATTR_P | ATTR_S | ATTR_RW | ATTR_ACCESSED, .limit = 0xffff };
    c->seg[S_CS].selector = 0xf000;
    c->seg[S_CS].base = 0xffff0000;
    c->seg[S_CS].attr |= ATTR_CODE;
    c->seg[S_LDT] = (struct x86_segment){ .attr = ATTR_P | DT_LDT << ATTR_TYPE_SHIFT, .limit = 0xffff };
    c->seg[S_TR] = (struct x86_segment){ .attr = ATTR_P | DT_TSS32_BUSY << ATTR_TYPE_SHIFT, .limit = 0xffff };
    c->gdt = c->idt = (struct x86_table){ .limit = 0xffff };
}

static void reset_core(struct x86_cpu *c)
{
    memset(c->regs, 0, sizeof(c->regs));
    c->regs[R_RDX] = c->reset_edx;
    c->cc_op = CC_EFLAGS;
    c->cc_src = c->cc_dst = c->cc_src2 = 0;
    c->df = 1;
    c->eflags = 2;
    reset_segments(c);
    c->cr0 = CR0_ET | CR0_CD | CR0_NW;
    c->cr2 = c->cr3 = c->cr4 = c->cr8 = 0;
    c->efer = 0;
    memset(c->dr, 0, sizeof(c->dr));
    c->dr[6] = 0xffff0ff0;
    c->dr[7] = 0x400;
    c->cpl = 0;
    c->trap_pending = c->shadow = c->watch_hits = 0;
    c->nmi_pending = c->nmi_masked = c->smi_pending = c->in_smm = false;
    c->cpu.memory = NULL;
    x86_mwait_end(c);
    c->monitor_armed = false;
    c->cpu.exception = -1;
    c->cpu.pc = 0xfffffff0;
    cpu_tlb_context(&c->cpu, ~0u, 0);
    cpu_tlb_flush(&c->cpu, ~0u);
}

static void reset_fpu(struct x86_cpu *c)
{
    c->fpcw = 0x40;
    c->fpsw = 0;
    c->fptop = 0;
    c->fptag = 0;
    c->fpop = c->fpcs = c->fpds = 0;
    c->fpip = c->fpdp = 0;
    memset(c->fpregs, 0, sizeof(c->fpregs));
    memset(c->ymm, 0, sizeof(c->ymm));
    c->mxcsr = 0x1f80;
    c->xcr0 = 1;
    x86_mxcsr_changed(c);
}

static void reset_msrs(struct x86_cpu *c)
{
    c->star = c->lstar = c->cstar = c->fmask = c->kernel_gs_base = c->tsc_aux = 0;
    c->sysenter_cs = c->sysenter_esp = c->sysenter_eip = 0;
    c->pat = UINT64_C(0x0007040600070406);
    c->apic_base = 0xfee00800 | (c->cpu.index == 0 ? 0x100 : 0);
    c->misc_enable = 1 | (x86_has(c->features, XF_MONITOR) ? 1 << 18 : 0);      /* ENABLE_MONITOR_FSM */
    c->tsc_offset = c->tsc_deadline = c->tsc_adjust = 0;
    c->mtrr_def = 0;
    memset(c->mtrr_fix, 0, sizeof(c->mtrr_fix));
    memset(c->mtrr_var, 0, sizeof(c->mtrr_var));
    c->mcg_cap = 0x10a;
    c->mcg_status = 0;
    c->mcg_ctl = UINT64_MAX;
    c->spec_ctrl = c->xss = 0;
    c->smbase = 0x30000;
    c->feature_control = 1;
    c->microcode = (uint64_t)0x1000065 << 32;
}

void x86_reset(struct cpu *cpu)
{
    struct x86_cpu *c = x86(cpu);

    reset_core(c);
    reset_fpu(c);
    reset_msrs(c);
    c->init_pending = c->sipi_pending = false;
    c->wait_for_sipi = cpu->index != 0;
    if (c->platform && c->platform->apic_base_set)
        c->platform->apic_base_set(c->platform_opaque, c, c->apic_base);
}

/* INIT keeps FPU and SSE state and MSRs. */
void x86_init_reset(struct x86_cpu *c)
{
    uint64_t cr0 = c->cr0;

    reset_core(c);
    c->cr0 = CR0_ET | (cr0 & (CR0_CD | CR0_NW));
    c->wait_for_sipi = !(c->apic_base & 0x100);
}

static bool cpu_init(struct cpu *cpu, struct vm *vm, const char *spec, struct error *err)
{
    struct x86_cpu *c = x86(cpu);
    struct x86_identity *id = g_new0(struct x86_identity, 1);

    if (!x86_identity_parse(id, spec, err)) {
        g_free(id);
        return false;
    }
    c->identity = id;
    c->model = id->base;
    if (cpu->guest == &guest_i386)
        id->features[FW_80000001_EDX] &= ~(1u << (XF_LM & 31));
    memcpy(c->features, id->features, sizeof(c->features));
    c->reset_edx = (uint32_t)((id->stepping & 15) | (id->model & 15) << 4 | (id->family > 15 ? 15 : id->family) << 8 |
                              (id->model >> 4) << 16);
    c->phys_mask = (UINT64_C(1) << id->phys_bits) - 1;
    cpu->exception = -1;
    return true;
}

static void cpu_free(struct cpu *cpu)
{
    g_free(x86(cpu)->identity);
    x86(cpu)->identity = NULL;
}

/* ---- info registers */

static void dump_general(const struct x86_cpu *c, GString *s)
{
    static const char *const wide[] = { "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8 ", "R9 ", "R10", "R11",
                                        "R12", "R13", "R14", "R15" };
    static const uint8_t order[] = { 0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15 };
    bool code64 = x86_code64(c);
    uint64_t f = x86_eflags(c);

    for (unsigned n = 0; n < (x86_has(c->features, XF_LM) && code64 ? 16 : 8); n++) {
        const char *name = wide[order[n]];

        if (code64)
            g_string_append_printf(s, "%s=%016" G_GINT64_MODIFIER "x%c", name, c->regs[order[n]], n % 4 == 3 ? '\n' : ' ');
        else
            g_string_append_printf(s, "E%s=%08x%c", name + 1, (uint32_t)c->regs[order[n]], n % 4 == 3 ? '\n' : ' ');
    }
    g_string_append_printf(s, code64 ? "RIP=%016" G_GINT64_MODIFIER "x" : "EIP=%08" G_GINT64_MODIFIER "x", x86_ip(c));
    g_string_append_printf(s, " %s=%08x [%c%c%c%c%c%c%c] CPL=%u II=%u A20=1 SMM=%u HLT=%u\n", code64 ? "RFL" : "EFL",
                           (uint32_t)f, f & EF_DF ? 'D' : '-', f & EF_OF ? 'O' : '-', f & EF_SF ? 'S' : '-',
                           f & EF_ZF ? 'Z' : '-', f & EF_AF ? 'A' : '-', f & EF_PF ? 'P' : '-', f & EF_CF ? 'C' : '-',
                           c->cpl, c->shadow != 0, c->in_smm, c->halted);
}

static void dump_system(const struct x86_cpu *c, GString *s)
{
    static const char *const names[] = { "ES ", "CS ", "SS ", "DS ", "FS ", "GS ", "LDT", "TR " };
    int width = x86_long_mode(c) ? 16 : 8;

    for (unsigned n = 0; n < S_COUNT; n++)
        g_string_append_printf(s, "%s=%04x %0*" G_GINT64_MODIFIER "x %08x %08x\n", names[n], c->seg[n].selector, width,
                               c->seg[n].base, c->seg[n].limit, c->seg[n].attr);
    g_string_append_printf(s, "GDT=     %0*" G_GINT64_MODIFIER "x %08x\n", width, c->gdt.base, c->gdt.limit);
    g_string_append_printf(s, "IDT=     %0*" G_GINT64_MODIFIER "x %08x\n", width, c->idt.base, c->idt.limit);
    g_string_append_printf(s, "CR0=%08x CR2=%0*" G_GINT64_MODIFIER "x CR3=%0*" G_GINT64_MODIFIER "x CR4=%08x\n",
                           (uint32_t)c->cr0, width, c->cr2, width, c->cr3, (uint32_t)c->cr4);
    for (unsigned n = 0; n < 4; n++)
        g_string_append_printf(s, "DR%u=%016" G_GINT64_MODIFIER "x ", n, c->dr[n]);
    g_string_append_printf(s, "\nDR6=%016" G_GINT64_MODIFIER "x DR7=%016" G_GINT64_MODIFIER "x\n", c->dr[6], c->dr[7]);
    g_string_append_printf(s, "EFER=%016" G_GINT64_MODIFIER "x\n", c->efer);
}

static void dump_fpu(const struct x86_cpu *c, GString *s)
{
    g_string_append_printf(s, "FCW=%04x FSW=%04x [ST=%u] FTW=%02x MXCSR=%08x\n", c->fpcw, c->fpsw, c->fptop & 7,
                           (uint8_t)~c->fptag, x86_mxcsr_read((struct x86_cpu *)c));
    for (unsigned n = 0; n < 8; n++) {
        uint64_t frac;
        uint16_t se;

        memcpy(&frac, &c->fpregs[n], 8);
        memcpy(&se, (const char *)&c->fpregs[n] + 8, 2);
        g_string_append_printf(s, "FPR%u=%016" G_GINT64_MODIFIER "x %04x%c", n, frac, se, n & 1 ? '\n' : ' ');
    }
    for (unsigned n = 0; n < (x86_code64(c) ? 16 : 8); n++)
        g_string_append_printf(s, "XMM%02u=%016" G_GINT64_MODIFIER "x%016" G_GINT64_MODIFIER "x%c", n, c->ymm[n].lo[1],
                               c->ymm[n].lo[0], n & 1 ? '\n' : ' ');
}

static char *registers(const struct cpu *cpu)
{
    const struct x86_cpu *c = (const struct x86_cpu *)cpu;
    GString *s = g_string_new(NULL);

    dump_general(c, s);
    dump_system(c, s);
    dump_fpu(c, s);
    return g_string_free(s, FALSE);
}

/* ---- registers by name: gdb's order first (groups: 0 general, 1 segment, 2 control, 3 x87, 4 vector, 5 MSR, 6 inner) */

#define R(name, field, bits, group) { name, FIELD(field), bits, group }
#define YMM(n) R("xmm" #n, ymm[n].lo, 128, 4)
#define YMMH(n) R("ymmh" #n, ymm[n].hi, 128, 4)
#define SEG(name, n) R(name, seg[n].selector, 16, 1), R(name "_base", seg[n].base, 64, 1), \
                     R(name "_limit", seg[n].limit, 32, 1), R(name "_attr", seg[n].attr, 32, 1)
static const struct guest_reg reg_table[] = {
    R("rax", regs[0], 64, 0), R("rbx", regs[3], 64, 0), R("rcx", regs[1], 64, 0), R("rdx", regs[2], 64, 0),
    R("rsi", regs[6], 64, 0), R("rdi", regs[7], 64, 0), R("rbp", regs[5], 64, 0), R("rsp", regs[4], 64, 0),
    R("r8", regs[8], 64, 0), R("r9", regs[9], 64, 0), R("r10", regs[10], 64, 0), R("r11", regs[11], 64, 0),
    R("r12", regs[12], 64, 0), R("r13", regs[13], 64, 0), R("r14", regs[14], 64, 0), R("r15", regs[15], 64, 0),
    { "pc", offsetof(struct cpu, pc), 64, 0 },
    R("eflags", eflags, 64, 0), R("cc_op", cc_op, 32, 6), R("cc_dst", cc_dst, 64, 6), R("cc_src", cc_src, 64, 6),
    R("cc_src2", cc_src2, 64, 6), R("df", df, 32, 6),
    SEG("es", S_ES), SEG("cs", S_CS), SEG("ss", S_SS), SEG("ds", S_DS), SEG("fs", S_FS), SEG("gs", S_GS),
    SEG("ldt", S_LDT), SEG("tr", S_TR),
    R("gdt_base", gdt.base, 64, 2), R("gdt_limit", gdt.limit, 16, 2), R("idt_base", idt.base, 64, 2),
    R("idt_limit", idt.limit, 16, 2),
    R("cr0", cr0, 64, 2), R("cr2", cr2, 64, 2), R("cr3", cr3, 64, 2), R("cr4", cr4, 64, 2), R("cr8", cr8, 64, 2),
    R("xcr0", xcr0, 64, 2), R("efer", efer, 64, 2), R("dr0", dr[0], 64, 2), R("dr1", dr[1], 64, 2), R("dr2", dr[2], 64, 2),
    R("dr3", dr[3], 64, 2), R("dr6", dr[6], 64, 2), R("dr7", dr[7], 64, 2), R("cpl", cpl, 8, 2),
    R("st0", fpregs[0], 80, 3), R("st1", fpregs[1], 80, 3), R("st2", fpregs[2], 80, 3), R("st3", fpregs[3], 80, 3),
    R("st4", fpregs[4], 80, 3), R("st5", fpregs[5], 80, 3), R("st6", fpregs[6], 80, 3), R("st7", fpregs[7], 80, 3),
    R("fctrl", fpcw, 16, 3), R("fstat", fpsw, 16, 3), R("ftag", fptag, 16, 3), R("ftop", fptop, 32, 3),
    YMM(0), YMM(1), YMM(2), YMM(3), YMM(4), YMM(5), YMM(6), YMM(7), YMM(8), YMM(9), YMM(10), YMM(11), YMM(12), YMM(13),
    YMM(14), YMM(15), YMMH(0), YMMH(1), YMMH(2), YMMH(3), YMMH(4), YMMH(5), YMMH(6), YMMH(7), YMMH(8), YMMH(9), YMMH(10),
    YMMH(11), YMMH(12), YMMH(13), YMMH(14), YMMH(15), R("mxcsr", mxcsr, 32, 4),
    R("star", star, 64, 5), R("lstar", lstar, 64, 5), R("cstar", cstar, 64, 5), R("fmask", fmask, 64, 5),
    R("kernel_gs_base", kernel_gs_base, 64, 5), R("tsc_aux", tsc_aux, 64, 5), R("pat", pat, 64, 5),
    R("sysenter_cs", sysenter_cs, 64, 5), R("sysenter_esp", sysenter_esp, 64, 5), R("sysenter_eip", sysenter_eip, 64, 5),
    R("apic_base", apic_base, 64, 5), R("misc_enable", misc_enable, 64, 5),
    { NULL, 0, 0, 0 },
};

/* ---- the rest */

static char *disassemble(const uint8_t *code, size_t n, uint64_t pc, uint64_t mode)
{
    unsigned width = mode & MODE_CODE_MASK;
    cs_mode m = width == MODE_CODE64 ? CS_MODE_64 : width == MODE_CODE32 ? CS_MODE_32 : CS_MODE_16;
    char *text = NULL;
    cs_insn *in;
    csh cs;

    if (cs_open(CS_ARCH_X86, m, &cs) != CS_ERR_OK)
        return g_strdup("?");
    if (cs_disasm(cs, code, n, pc, 1, &in)) {
        text = g_strdup_printf("%s %s", in->mnemonic, in->op_str);
        cs_free(in, 1);
    }
    cs_close(&cs);
    return text ? text : g_strdup("(bad)");
}

/* Alignment checks: AC with CR0.AM at level 3; else only what an instruction demands (#GP). */
static __attribute__((noreturn)) void unaligned(struct cpu *cpu, uint64_t va, enum mmu_access access)
{
    x86_raise(x86(cpu), cpu->mode & MODE_AC ? X_AC : X_GP, 0);
}

/* Reads give all ones, writes vanish. */
static void bus_error(struct cpu *cpu, uint64_t va, uint64_t phys, enum mmu_access access)
{
}

/* On the vCPU's thread (inject-nmi). */
static void raise_nmi(struct cpu *cpu)
{
    x86(cpu)->nmi_pending = true;
    cpu_kick(cpu, CPU_EXIT_IRQ);
}

static bool cpu_has(const struct cpu *cpu, const struct cpu_feature *f)
{
    return x86_has(((const struct x86_cpu *)cpu)->features, (unsigned)f->word << 5 | f->bit);
}

#define GUEST_COMMON                                                                                            \
    .slots = slots, .nslots = SLOT_COUNT, .helpers = helpers, .nhelpers = HELP_COUNT,                            \
    .cpu_size = sizeof(struct x86_cpu), .insn_size = sizeof(struct x86_insn), .page_bits = 12,                   \
    .decode = x86_decode, .emit_begin = x86_emit_begin, .emit_scan = x86_emit_scan, .emit_join = x86_emit_join, .emit = x86_emit,            \
    .emit_end = x86_emit_end, .disassemble = disassemble, .mode_bits = x86_mode_bits, .mmu_index = x86_mmu_index, \
    .translate = x86_translate, .unaligned = unaligned, .bus_error = bus_error, .deliver = x86_deliver,          \
    .has_work = x86_has_work, .cpu_init = cpu_init, .cpu_reset = x86_reset, .cpu_free = cpu_free,                \
    .fpu_home = helper_fpu_home, .fpu_control = offsetof(struct x86_cpu, fpcw), .registers = registers,          \
    .mmu_dump = x86_mmu_dump, .regs = reg_table, .models = x86_models,                                           \
    .features = x86_features, .nmi = raise_nmi, .cpu_has = cpu_has

const struct guest guest_x86_64 = { .name = "x86_64", GUEST_COMMON, .debug = &debug_x86_64, .default_model = "qemu64",
                                    .kept = { R_RSP, R_RAX, R_RDX, R_RBX, R_RDI }, .nkept = 5 };
const struct guest guest_i386 = { .name = "i386", GUEST_COMMON, .debug = &debug_i386, .default_model = "qemu32",
                                  .kept = { R_RSP, R_RAX, R_RDX, R_RBX, R_RCX }, .nkept = 5 };
