/* The RISC-V guests as the rest of Rhea sees them: descriptors, register tables and dump. */
#include <inttypes.h>
#include <string.h>
#include "rhea/guest/debug.h"
#include "riscv.h"

#define FIELD(f) offsetof(struct riscv_cpu, f)

#define EACH32(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18) \
    X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31)

/* The stack pointer, arguments and saved registers of the ABI first; gp and tp are read seldom. */
#define X_WEIGHT(n) ((n) == 2 || ((n) >= 8 && (n) <= 15) ? 4 : (n) == 3 || (n) == 4 ? 2 : 3)
#define X_SLOT(n) [SLOT_X + n] = { "x" #n, FIELD(x[n]), T_I64, X_WEIGHT(n) },
#define F_SLOT(n) [SLOT_F + n] = { "f" #n, FIELD(f[n]), T_V128, 2 },
static const struct ir_slot slots[SLOT_COUNT] = { EACH32(X_SLOT) EACH32(F_SLOT) };

#include "rhea/guest/helpers_table.h"

/* ---- info registers */

static const char *const x_abi[32] = {
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "s2", "s3",
    "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
};
static const char *const f_abi[32] = {
    "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0", "fa1", "fa2", "fa3", "fa4", "fa5", "fa6",
    "fa7", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9", "fs10", "fs11", "ft8", "ft9", "ft10", "ft11",
};

static void dump_line(GString *s, const struct riscv_cpu *c, const char *name, uint64_t v)
{
    if (c->cpu.guest == &guest_riscv32)
        g_string_append_printf(s, " %-8s %08" PRIx32 "\n", name, (uint32_t)v);
    else
        g_string_append_printf(s, " %-8s %016" PRIx64 "\n", name, v);
}

static void dump_row_end(GString *s, unsigned n) { g_string_append_c(s, n % 4 == 3 ? '\n' : ' '); }

static char *registers(const struct cpu *cpu)
{
    const struct riscv_cpu *c = (const struct riscv_cpu *)cpu;
    GString *s = g_string_new(NULL);
    const struct { const char *name; uint64_t v; } system[] = {
        { "pc", cpu->pc }, { "mhartid", (uint64_t)cpu->index }, { "mstatus", c->mstatus }, { "mip", c->mip },
        { "mie", c->mie }, { "mideleg", c->mideleg }, { "medeleg", c->medeleg }, { "mtvec", c->mtvec },
        { "stvec", c->stvec }, { "mepc", c->mepc }, { "sepc", c->sepc }, { "mcause", c->mcause }, { "scause", c->scause },
        { "mtval", c->mtval }, { "stval", c->stval }, { "mscratch", c->mscratch }, { "sscratch", c->sscratch },
        { "satp", c->satp },
    };
    bool narrow = cpu->guest == &guest_riscv32;

    for (unsigned n = 0; n < G_N_ELEMENTS(system); n++)
        dump_line(s, c, system[n].name, system[n].v);
    g_string_append_printf(s, " %-8s %u\n", "priv", c->priv);
    for (unsigned n = 0; n < 32; n++) {
        g_string_append_printf(s, " x%u/%-4s%s %0*" PRIx64, n, x_abi[n], n < 10 ? " " : "", narrow ? 8 : 16,
                               narrow ? (uint32_t)c->x[n] : c->x[n]);
        dump_row_end(s, n);
    }
    for (unsigned n = 0; n < 32; n++) {
        g_string_append_printf(s, " f%u/%-4s%s %016" PRIx64, n, f_abi[n], n < 10 ? " " : "", c->f[n].lo);
        dump_row_end(s, n);
    }
    return g_string_free(s, FALSE);
}

/* ---- registers by name: gdb's order first (groups: 0 general, 2 control, 4 floating point, 6 inner, 7 shared) */

#define R(name, field, bits, group) { name, FIELD(field), bits, group }
#define X_REGS(bits)                                                                                                  \
    R("zero", x[0], bits, 0), R("ra", x[1], bits, 0), R("sp", x[2], bits, 0), R("gp", x[3], bits, 0),                 \
    R("tp", x[4], bits, 0), R("t0", x[5], bits, 0), R("t1", x[6], bits, 0), R("t2", x[7], bits, 0),                   \
    R("fp", x[8], bits, 0), R("s1", x[9], bits, 0), R("a0", x[10], bits, 0), R("a1", x[11], bits, 0),                 \
    R("a2", x[12], bits, 0), R("a3", x[13], bits, 0), R("a4", x[14], bits, 0), R("a5", x[15], bits, 0),               \
    R("a6", x[16], bits, 0), R("a7", x[17], bits, 0), R("s2", x[18], bits, 0), R("s3", x[19], bits, 0),               \
    R("s4", x[20], bits, 0), R("s5", x[21], bits, 0), R("s6", x[22], bits, 0), R("s7", x[23], bits, 0),               \
    R("s8", x[24], bits, 0), R("s9", x[25], bits, 0), R("s10", x[26], bits, 0), R("s11", x[27], bits, 0),             \
    R("t3", x[28], bits, 0), R("t4", x[29], bits, 0), R("t5", x[30], bits, 0), R("t6", x[31], bits, 0),               \
    { "pc", offsetof(struct cpu, pc), bits, 0 }
#define F_REG(n) R("f" #n, f[n].lo, 64, 4),
#define CSRS(bits)                                                                                                    \
    R("priv", priv, 8, 2), R("mstatus", mstatus, 64, 2), R("medeleg", medeleg, bits, 2), R("mideleg", mideleg, bits, 2), \
    R("mie", mie, bits, 2), R("mip", mip, 64, GUEST_REG_SHARED), R("mtvec", mtvec, bits, 2), R("mepc", mepc, bits, 2),             \
    R("mcause", mcause, bits, 2), R("mtval", mtval, bits, 2), R("mscratch", mscratch, bits, 2),                       \
    R("mcounteren", mcounteren, 32, 2), R("mcountinhibit", mcountinhibit, 32, 2), R("menvcfg", menvcfg, 64, 2),       \
    R("stvec", stvec, bits, 2), R("sepc", sepc, bits, 2), R("scause", scause, bits, 2), R("stval", stval, bits, 2),   \
    R("sscratch", sscratch, bits, 2), R("scounteren", scounteren, 32, 2), R("senvcfg", senvcfg, 64, 2),               \
    R("satp", satp, bits, 2), R("stimecmp", stimecmp, 64, 2), R("misa", misa, bits, 2)
#define INNER                                                                                                         \
    R("frm", frm, 32, 4), R("float_flags", fp_status.flags, 32, 6), R("reserved_addr", reserved_addr, 64, 6),         \
    R("reserved_value", reserved_value, 64, 6), { NULL, 0, 0, 0 }
static const struct guest_reg regs64[] = { X_REGS(64), EACH32(F_REG) CSRS(64), INNER };
static const struct guest_reg regs32[] = { X_REGS(32), EACH32(F_REG) CSRS(32), INNER };

#define GUEST_COMMON                                                                                                  \
    .slots = slots, .nslots = SLOT_COUNT, .helpers = helpers, .nhelpers = RISCV_HELP_COUNT,                           \
    .fixes = riscv_fixes, .nfixes = RISCV_FIX_COUNT,                                                                  \
    .cpu_size = sizeof(struct riscv_cpu), .insn_size = sizeof(struct riscv_insn), .page_bits = 12,                    \
    .decode = riscv_decode, .emit_begin = riscv_emit_begin, .emit_join = riscv_emit_join, .emit = riscv_emit,         \
    .emit_end = riscv_emit_end, .mode_bits = riscv_mode_bits, .mmu_index = riscv_mmu_index,                           \
    .translate = riscv_translate, .access_allowed = riscv_access_allowed, .unaligned = riscv_unaligned, .bus_error = riscv_bus_error,                         \
    .deliver = riscv_deliver, .has_work = riscv_has_work, .cpu_init = riscv_cpu_init, .cpu_reset = riscv_reset,       \
    .cpu_free = riscv_cpu_free, .registers = registers, .mmu_dump = riscv_mmu_dump, .features = riscv_features,       \
    .cpu_has = riscv_cpu_has

static char *disassemble64(const uint8_t *code, size_t n, uint64_t pc, uint64_t mode)
{
    return riscv_disassemble(code, n, pc, mode);
}

static char *disassemble32(const uint8_t *code, size_t n, uint64_t pc, uint64_t mode)
{
    return riscv_disassemble(code, n, pc, mode | MODE_XLEN32);
}

const struct guest guest_riscv64 = { .name = "riscv64", GUEST_COMMON, .disassemble = disassemble64, .regs = regs64,
                                     .debug = &debug_riscv64, .models = riscv64_models, .default_model = "rv64",
                                     .kept = { SLOT_X + 2, SLOT_X + 10, SLOT_X + 11, SLOT_X + 14, SLOT_X + 15 }, .nkept = 5 };
const struct guest guest_riscv32 = { .name = "riscv32", GUEST_COMMON, .disassemble = disassemble32, .regs = regs32,
                                     .debug = &debug_riscv32, .models = riscv32_models, .default_model = "rv32",
                                     .kept = { SLOT_X + 2, SLOT_X + 10, SLOT_X + 11, SLOT_X + 14, SLOT_X + 15 }, .nkept = 5 };
