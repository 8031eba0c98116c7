/* The Arm guests as the rest of Rhea sees them: descriptors, tables of registers, register dump. */
#include <glib.h>
#include <string.h>
#define arm_cc cs_arm_cc        /* capstone has an enum of that name */
#include <capstone/capstone.h>
#undef arm_cc
#include "a64.h"
#include "a32.h"
#include "simd_ops.h"
#include "rhea/guest/debug.h"

#pragma weak arm_fpsr

#define FIELD(f) offsetof(struct arm_cpu, f)

#define TIMES31(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) \
                   X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30)
#define TIMES32(X) TIMES31(X) X(31)
#define TIMES15(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)

static const struct ir_slot slots[SLOT_COUNT] = {
#define X(n) [SLOT_X + n] = { "x" #n, FIELD(x[n]), T_I64, 4 },
    TIMES31(X)
#undef X
    [SLOT_SP] = { "sp", FIELD(sp), T_I64, 4 },
    [SLOT_CC_OP] = { "cc_op", FIELD(cc_op), T_I32, 0 },
    [SLOT_CC_A] = { "cc_a", FIELD(cc_a), T_I64, 0 }, [SLOT_CC_B] = { "cc_b", FIELD(cc_b), T_I64, 0 },
#define X(n) [SLOT_Q + n] = { "q" #n, FIELD(q[n]), T_V128, 2 },
    TIMES32(X)
#undef X
#define X(n) [SLOT_R + n] = { "r" #n, FIELD(x[n]), T_I32, 4 },          /* little-endian host floor */
    TIMES15(X)
#undef X
#define X(n) [SLOT_VT + n] = { "vt" #n, FIELD(vt[n]), T_V128, 0, .scratch = true },
    X(0) X(1) X(2) X(3)
#undef X
#define X(n) [SLOT_D + n] = { "d" #n, FIELD(q[0]) + 8 * n, T_V128, 2, .part = 8 },
    TIMES15(X) X(15)
#undef X
#define X(n) [SLOT_S + n] = { "s" #n, FIELD(q[0]) + 4 * n, T_V128, 2, .part = 4 },
    TIMES32(X)
#undef X
    [SLOT_IT] = { "it", FIELD(it), T_I32, 0 }, [SLOT_CC_NZ] = { "cc_nz", FIELD(cc_nz), T_I32, 0 },
    [SLOT_CC_C] = { "cc_c", FIELD(cc_c), T_I32, 0 }, [SLOT_TMP] = { "tmp", FIELD(tmp32), T_I32, 0 },
    [SLOT_COMPARED] = { "compared", FIELD(compared), T_I32, 0 }, [SLOT_GE] = { "ge", FIELD(ge), T_I32, 0 },
    [SLOT_QC] = { "qc", FIELD(qc), T_V128, 1 },
};

/* Areas land one by one: what is not there yet is a null pointer, and its instructions are not emitted. */
#define HELPER0(name, ...) __typeof__(HELPER_FN(name)) HELPER_FN(name) __attribute__((weak));
#define HELPER1 HELPER0
#define HELPER2 HELPER0
#define HELPER3 HELPER0
#define HELPER4 HELPER0
#include HELPERS_DEF
#undef HELPER0
#undef HELPER1
#undef HELPER2
#undef HELPER3
#undef HELPER4
#include "rhea/guest/helpers_table.h"

/* ---- info registers */

static void dump_flags64(const struct arm_cpu *c, GString *s)
{
    uint32_t f = arm_pstate_nzcv(c);

    g_string_append_printf(s, "PSTATE=%08x %c%c%c%c ", arm_cpsr(c), f >> 31 & 1 ? 'N' : '-', f >> 30 & 1 ? 'Z' : '-',
                           f >> 29 & 1 ? 'C' : '-', f >> 28 & 1 ? 'V' : '-');
    g_string_append_printf(s, "EL%u%c", c->el, c->spsel ? 'h' : 't');
    if (arm_has(&c->features, AF_BTI))
        g_string_append_printf(s, "  BTYPE=%u", c->btype);
}

static void dump64(const struct arm_cpu *c, GString *s)
{
    g_string_append_printf(s, " PC=%016" G_GINT64_MODIFIER "x ", c->cpu.pc);
    for (unsigned n = 0; n < 31; n++)
        g_string_append_printf(s, "X%02u=%016" G_GINT64_MODIFIER "x%s", n, c->x[n],
                               n % 3 == 1 && n < 30 ? "\n" : n == 30 ? "  " : " ");
    g_string_append_printf(s, "SP=%016" G_GINT64_MODIFIER "x\n", c->sp);
    dump_flags64(c, s);
    g_string_append_printf(s, "     FPCR=%08x FPSR=%08x\n", c->fpcr, arm_fpsr ? arm_fpsr((struct arm_cpu *)c) : c->fpsr);
    for (unsigned n = 0; n < 32; n++)
        g_string_append_printf(s, "Q%02u=%016" G_GINT64_MODIFIER "x:%016" G_GINT64_MODIFIER "x%c", n, c->q[n].hi, c->q[n].lo,
                               n & 1 ? '\n' : ' ');
}

static const char *mode32_name(unsigned mode)
{
    static const char *const names[16] = { "usr", "fiq", "irq", "svc", "???", "???", "mon", "abt", "???", "???", "hyp", "und",
                                           "???", "???", "???", "sys" };

    return names[mode & 15];
}

static void dump32(const struct arm_cpu *c, GString *s)
{
    uint32_t psr = arm_cpsr(c);

    for (unsigned n = 0; n < 16; n++)
        g_string_append_printf(s, "R%02u=%08x%c", n, n == 15 ? (uint32_t)c->cpu.pc : (uint32_t)c->x[n], n % 4 == 3 ? '\n' : ' ');
    g_string_append_printf(s, "PSR=%08x %c%c%c%c %c %s%s32\n", psr, psr >> 31 & 1 ? 'N' : '-', psr >> 30 & 1 ? 'Z' : '-',
                           psr >> 29 & 1 ? 'C' : '-', psr >> 28 & 1 ? 'V' : '-', c->thumb ? 'T' : 'A',
                           arm_is_secure(c) ? "S " : "NS ", mode32_name(c->mode32));
    for (unsigned n = 0; n < 32; n++) {
        uint64_t d = n & 1 ? c->q[n / 2].hi : c->q[n / 2].lo;

        g_string_append_printf(s, "s%02u=%08x s%02u=%08x d%02u=%016" G_GINT64_MODIFIER "x\n", 2 * n, (uint32_t)d, 2 * n + 1,
                               (uint32_t)(d >> 32), n, d);
    }
}

static char *registers(const struct cpu *cpu)
{
    const struct arm_cpu *c = (const struct arm_cpu *)cpu;
    GString *s = g_string_new(NULL);

    if (c->aarch32)
        dump32(c, s);
    else
        dump64(c, s);
    return g_string_free(s, FALSE);
}

/* ---- registers by name, gdb's order first (groups: 0 general, 1 vector, 2 floating point, 3 inner, 4 system) */

#define R(name, field, bits, group) { name, FIELD(field), bits, group }
static const struct guest_reg regs64[] = {
#define X(n) R("x" #n, x[n], 64, 0),
    TIMES31(X)
#undef X
    R("sp", sp, 64, 0), { "pc", offsetof(struct cpu, pc), 64, 0 },
#define X(n) R("v" #n, q[n], 128, 1),
    TIMES32(X)
#undef X
    R("fpsr", fpsr, 32, 2), R("fpcr", fpcr, 32, 2),
    R("cc_op", cc_op, 32, 3), R("cc_a", cc_a, 64, 3), R("cc_b", cc_b, 64, 3), R("el", el, 8, 3), R("spsel", spsel, 8, 3),
    R("daif", daif, 8, 3), R("btype", btype, 8, 3), R("ex_addr", ex_addr, 64, 3), R("ex_bytes", ex_bytes, 64, 3),
    R("ex_value0", ex_value[0], 64, 3), R("ex_value1", ex_value[1], 64, 3),
    R("elr_el1", sys.elr[1], 64, 4), R("elr_el2", sys.elr[2], 64, 4), R("elr_el3", sys.elr[3], 64, 4),
    R("spsr_el1", sys.spsr[1], 64, 4), R("spsr_el2", sys.spsr[2], 64, 4), R("spsr_el3", sys.spsr[3], 64, 4),
    R("sp_el0", sys.sp[0], 64, 4), R("sp_el1", sys.sp[1], 64, 4), R("sp_el2", sys.sp[2], 64, 4), R("sp_el3", sys.sp[3], 64, 4),
    R("tpidr_el0", sys.tpidr[0], 64, 4), R("tpidr_el1", sys.tpidr[1], 64, 4), R("tpidrro_el0", sys.tpidrro, 64, 4),
    { NULL, 0, 0, 0 },
};

static const struct guest_reg regs32[] = {
#define X(n) R("r" #n, x[n], 32, 0),
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#undef X
    R("sp", x[13], 32, 0), R("lr", x[14], 32, 0), { "pc", offsetof(struct cpu, pc), 32, 0 },
#define X(n) R("q" #n, q[n], 128, 1),
    TIMES15(X) X(15)
#undef X
    R("fpscr", fpsr, 32, 2), R("compared", compared, 32, 3), R("cc_op", cc_op, 32, 3), R("cc_a", cc_a, 64, 3), R("cc_b", cc_b, 64, 3), R("mode", mode32, 8, 3),
    R("cc_nz", cc_nz, 32, 3), R("cc_c", cc_c, 32, 3), R("thumb", thumb, 8, 3), R("it", it, 32, 3), R("ge", ge, 32, 3), R("daif", daif, 8, 3),
    { NULL, 0, 0, 0 },
};

/* ---- disassembly */

static char *disassemble(const uint8_t *code, size_t n, uint64_t pc, uint64_t mode)
{
    bool a32 = mode & MODE_AARCH32;
    char *text = NULL;
    cs_insn *in;
    csh cs;

    if (cs_open(a32 ? CS_ARCH_ARM : CS_ARCH_ARM64, a32 ? mode & MODE_THUMB ? CS_MODE_THUMB | CS_MODE_V8 : CS_MODE_ARM | CS_MODE_V8
                                                       : CS_MODE_ARM, &cs) != CS_ERR_OK)
        return g_strdup("?");
    if (cs_disasm(cs, code, n, pc, 1, &in)) {
        text = g_strdup_printf("%s %s", in->mnemonic, in->op_str);
        cs_free(in, 1);
    }
    cs_close(&cs);
    if (!text && n >= 4)                /* newer than capstone */
        text = g_strdup_printf(".inst 0x%08x", (unsigned)code[0] | (unsigned)code[1] << 8 | (unsigned)code[2] << 16 |
                               (unsigned)code[3] << 24);
    return text ? text : g_strdup("(bad)");
}

#define GUEST_COMMON                                                                                                     \
    .slots = slots, .nslots = SLOT_COUNT, .helpers = helpers, .nhelpers = ARM_HELP_COUNT,                                \
    .fixes = arm_fixes, .nfixes = ARM_FIX_COUNT,                                                                         \
    .cpu_size = sizeof(struct arm_cpu), .page_bits = 12, .linear_modes = MODE_AARCH32 /* IT blocks */,                   \
    .side_modes = MODE_AARCH32, .side_mode = MODE_THUMB,                                                                 \
    .insn_size = sizeof(struct a64_insn) > sizeof(struct a32_insn) ? sizeof(struct a64_insn) : sizeof(struct a32_insn),  \
    .decode = arm_decode, .emit_begin = arm_emit_begin, .emit_scan = arm_emit_scan, .emit_join = arm_emit_join, .emit = arm_emit,                    \
    .emit_end = arm_emit_end, .disassemble = disassemble, .mode_bits = arm_mode_bits, .mmu_index = arm_mmu_index,        \
    .translate = arm_translate, .unaligned = arm_unaligned, .bus_error = arm_bus_error, .deliver = arm_deliver,          \
    .has_work = arm_has_work, .cpu_init = arm_cpu_init, .cpu_reset = arm_cpu_reset, .cpu_free = arm_cpu_free,            \
    .registers = registers, .mmu_dump = arm_mmu_dump, .features = arm_feature_list, .cpu_has = arm_cpu_has

const struct guest guest_aarch64 = { .name = "aarch64", GUEST_COMMON, .regs = regs64, .debug = &debug_aarch64, .models = arm_models,
                                     .default_model = "cortex-a57",
                                     .kept = { SLOT_SP, SLOT_X, SLOT_X + 1, SLOT_X + 2, SLOT_X + 3 }, .nkept = 5,
                                     .unkept_modes = MODE_AARCH32 };
const struct guest guest_arm = { .name = "arm", GUEST_COMMON, .regs = regs32, .debug = &debug_arm, .models = arm_models32,
                                 .default_model = "cortex-a15",
                                 .kept = { SLOT_R + 13, SLOT_R, SLOT_R + 1, SLOT_R + 2, SLOT_R + 3 }, .nkept = 5 };
