/* RISC-V registers as GDB knows them: "Debugging with GDB", "RISC-V Features". */
#include <glib.h>
#include <string.h>
#include "rhea/guest/debug.h"
#include "system.h"

enum { KIND_X, KIND_PC, KIND_F, KIND_FFLAGS, KIND_FRM, KIND_FCSR };

static void get(struct cpu *cpu, const struct debug_reg *r, uint8_t *out)
{
    struct riscv_cpu *c = riscv(cpu);
    uint64_t v = 0;

    switch (r->kind) {
    case KIND_X: v = c->x[r->index]; break;
    case KIND_PC: v = cpu->pc; break;
    case KIND_F: v = c->f[r->index].lo; break;
    case KIND_FFLAGS: v = riscv_fflags(c) & 31; break;
    case KIND_FRM: v = c->frm & 7; break;
    case KIND_FCSR: v = (riscv_fflags(c) & 31) | (c->frm & 7) << 5; break;
    }
    memcpy(out, &v, r->bits / 8);
}

static void set(struct cpu *cpu, const struct debug_reg *r, const uint8_t *in)
{
    struct riscv_cpu *c = riscv(cpu);
    uint64_t v = 0;

    memcpy(&v, in, r->bits / 8);
    switch (r->kind) {
    case KIND_X:
        if (r->index)
            c->x[r->index] = c->xlen == 32 ? (uint64_t)(int64_t)(int32_t)v : v;
        break;
    case KIND_PC: cpu->pc = v; break;
    case KIND_F: c->f[r->index].lo = v; break;
    case KIND_FFLAGS: riscv_set_fflags(c, v & 31); break;
    case KIND_FRM: riscv_set_frm(c, v & 7); break;
    case KIND_FCSR:
        riscv_set_fflags(c, v & 31);
        riscv_set_frm(c, v >> 5 & 7);
        break;
    }
}

static uint64_t pc_of(const struct cpu *cpu) { return cpu->pc; }

/* Kinds: 2 C.EBREAK, 4 EBREAK. */
static unsigned breakpoint(unsigned kind, uint8_t insn[4])
{
    memcpy(insn, kind == 2 ? (const uint8_t[]){ 0x02, 0x90, 0, 0 } : (const uint8_t[]){ 0x73, 0x00, 0x10, 0x00 }, 4);
    return kind == 2 || kind == 4 ? kind : 0;
}

#define X(n, name, bits, type) { name, bits, type, KIND_X, n, NULL }
#define CPU(bits)                                                                                                                 \
    X(0, "zero", bits, "int"), X(1, "ra", bits, "code_ptr"), X(2, "sp", bits, "data_ptr"), X(3, "gp", bits, "data_ptr"),          \
    X(4, "tp", bits, "data_ptr"), X(5, "t0", bits, "int"), X(6, "t1", bits, "int"), X(7, "t2", bits, "int"),                      \
    X(8, "fp", bits, "data_ptr"), X(9, "s1", bits, "int"), X(10, "a0", bits, "int"), X(11, "a1", bits, "int"),                    \
    X(12, "a2", bits, "int"), X(13, "a3", bits, "int"), X(14, "a4", bits, "int"), X(15, "a5", bits, "int"),                       \
    X(16, "a6", bits, "int"), X(17, "a7", bits, "int"), X(18, "s2", bits, "int"), X(19, "s3", bits, "int"),                       \
    X(20, "s4", bits, "int"), X(21, "s5", bits, "int"), X(22, "s6", bits, "int"), X(23, "s7", bits, "int"),                       \
    X(24, "s8", bits, "int"), X(25, "s9", bits, "int"), X(26, "s10", bits, "int"), X(27, "s11", bits, "int"),                     \
    X(28, "t3", bits, "int"), X(29, "t4", bits, "int"), X(30, "t5", bits, "int"), X(31, "t6", bits, "int"),                       \
    { "pc", bits, "code_ptr", KIND_PC, 0, NULL }
#define F(n, name) { name, 64, "riscv_double", KIND_F, n, NULL }
static const struct debug_reg cpu64[] = { CPU(64) }, cpu32[] = { CPU(32) };
static const struct debug_reg fpu[] = {
    F(0, "ft0"), F(1, "ft1"), F(2, "ft2"), F(3, "ft3"), F(4, "ft4"), F(5, "ft5"), F(6, "ft6"), F(7, "ft7"), F(8, "fs0"), F(9, "fs1"),
    F(10, "fa0"), F(11, "fa1"), F(12, "fa2"), F(13, "fa3"), F(14, "fa4"), F(15, "fa5"), F(16, "fa6"), F(17, "fa7"), F(18, "fs2"),
    F(19, "fs3"), F(20, "fs4"), F(21, "fs5"), F(22, "fs6"), F(23, "fs7"), F(24, "fs8"), F(25, "fs9"), F(26, "fs10"), F(27, "fs11"),
    F(28, "ft8"), F(29, "ft9"), F(30, "ft10"), F(31, "ft11"),
    { "fflags", 32, "int", KIND_FFLAGS, 0, NULL }, { "frm", 32, "int", KIND_FRM, 0, NULL }, { "fcsr", 32, "int", KIND_FCSR, 0, NULL },
};
static const char types_fpu[] = "<union id=\"riscv_double\"><field name=\"float\" type=\"ieee_single\"/>"
                                "<field name=\"double\" type=\"ieee_double\"/></union>";
#define FEATURES(cpu_regs)                                                                   \
    { "org.gnu.gdb.riscv.cpu", NULL, cpu_regs, G_N_ELEMENTS(cpu_regs) },                     \
    { "org.gnu.gdb.riscv.fpu", types_fpu, fpu, G_N_ELEMENTS(fpu) }
static const struct debug_feature features64[] = { FEATURES(cpu64) }, features32[] = { FEATURES(cpu32) };

#define COMMON .get = get, .set = set, .pc = pc_of, .breakpoint = breakpoint, .nfeatures = 2
const struct guest_debug debug_riscv64 = { .architecture = "riscv:rv64", .features = features64, COMMON };
const struct guest_debug debug_riscv32 = { .architecture = "riscv:rv32", .features = features32, COMMON };
