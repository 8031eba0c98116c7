/* Arm registers as GDB knows them: "Debugging with GDB", "AArch64 Features" and "ARM Features". */
#include <glib.h>
#include <string.h>
#include "rhea/guest/debug.h"
#include "system.h"

enum { KIND_X, KIND_SP, KIND_PC, KIND_PSTATE, KIND_V, KIND_FPSR, KIND_FPCR, KIND_TLS, KIND_D, KIND_FPSCR };

static uint64_t value_of(struct arm_cpu *c, const struct debug_reg *r)
{
    switch (r->kind) {
    case KIND_X: return c->x[r->index];
    case KIND_SP: return c->sp;
    case KIND_PC: return c->cpu.pc;
    case KIND_PSTATE: return arm_cpsr(c);
    case KIND_FPSR: return arm_fpsr(c);
    case KIND_FPCR: return c->fpcr;
    case KIND_TLS: return c->aarch32 ? c->sys.tpidrro : c->sys.tpidr[0];
    case KIND_D: return r->index & 1 ? c->q[r->index / 2].hi : c->q[r->index / 2].lo;
    case KIND_FPSCR: return (arm_fpsr(c) & ~(uint32_t)FPSCR_CONTROL) | (c->fpcr & FPSCR_CONTROL);
    default: return 0;
    }
}

static void get(struct cpu *cpu, const struct debug_reg *r, uint8_t *out)
{
    uint64_t v;

    if (r->kind == KIND_V) {
        memcpy(out, &arm(cpu)->q[r->index], 16);
        return;
    }
    v = value_of(arm(cpu), r);
    memcpy(out, &v, r->bits / 8);
}

/* Neither mode nor masks: a debugger's mistake is not to leave what the guest was in. */
static void pstate_set(struct arm_cpu *c, uint32_t v)
{
    if (c->aarch32)
        arm_set_cpsr_raw(c, (v & ~0x1dfu) | (arm_cpsr(c) & 0x1df));
    else
        arm_pstate_set_nzcv(c, v & 0xf0000000);
}

static void set(struct cpu *cpu, const struct debug_reg *r, const uint8_t *in)
{
    struct arm_cpu *c = arm(cpu);
    uint64_t v = 0;

    if (r->kind == KIND_V) {
        memcpy(&c->q[r->index], in, 16);
        return;
    }
    memcpy(&v, in, r->bits / 8);
    switch (r->kind) {
    case KIND_X: c->x[r->index] = v; break;
    case KIND_SP: c->sp = v; break;
    case KIND_PC: cpu->pc = v; break;
    case KIND_PSTATE: pstate_set(c, (uint32_t)v); break;
    case KIND_FPSR: arm_set_fpsr(c, (uint32_t)v); break;
    case KIND_FPCR: arm_set_fpcr(c, (uint32_t)v); break;
    case KIND_TLS:
        if (c->aarch32)
            c->sys.tpidrro = v;
        else
            c->sys.tpidr[0] = v;
        break;
    case KIND_D:
        if (r->index & 1)
            c->q[r->index / 2].hi = v;
        else
            c->q[r->index / 2].lo = v;
        break;
    case KIND_FPSCR:
        arm_set_fpsr(c, (uint32_t)v & ~(uint32_t)FPSCR_CONTROL);
        arm_set_fpcr(c, (uint32_t)v & FPSCR_CONTROL);
        break;
    }
}

static uint64_t pc_of(const struct cpu *cpu) { return cpu->pc; }

#define EIGHT(R, n) R(n##0) R(n##1) R(n##2) R(n##3) R(n##4) R(n##5) R(n##6) R(n##7)
#define TEN(R, n) EIGHT(R, n) R(n##8) R(n##9)
#define FROM_10(R) TEN(R, 1) TEN(R, 2) R(30)
#define ONES(R) R(0) R(1) R(2) R(3) R(4) R(5) R(6) R(7) R(8) R(9)

/* ---- AArch64 */

#define X(n) { "x" #n, 64, "int", KIND_X, n, NULL },
#define V(n) { "v" #n, 128, "aarch64v", KIND_V, n, NULL },
static const struct debug_reg core64[] = {
    ONES(X) FROM_10(X)
    { "sp", 64, "data_ptr", KIND_SP, 0, NULL }, { "pc", 64, "code_ptr", KIND_PC, 0, NULL }, { "cpsr", 32, "cpsr_flags", KIND_PSTATE, 0, NULL },
};
static const struct debug_reg fpu64[] = {
    ONES(V) FROM_10(V) V(31)
    { "fpsr", 32, "int", KIND_FPSR, 0, NULL }, { "fpcr", 32, "int", KIND_FPCR, 0, NULL },
};
static const struct debug_reg tls64[] = { { "tpidr", 64, "data_ptr", KIND_TLS, 0, NULL } };
static const char types_core64[] =
    "<flags id=\"cpsr_flags\" size=\"4\"><field name=\"SP\" start=\"0\" end=\"0\"/><field name=\"EL\" start=\"2\" end=\"3\"/>"
    "<field name=\"nRW\" start=\"4\" end=\"4\"/><field name=\"F\" start=\"6\" end=\"6\"/><field name=\"I\" start=\"7\" end=\"7\"/>"
    "<field name=\"A\" start=\"8\" end=\"8\"/><field name=\"D\" start=\"9\" end=\"9\"/><field name=\"BTYPE\" start=\"10\" end=\"11\"/>"
    "<field name=\"SSBS\" start=\"12\" end=\"12\"/><field name=\"IL\" start=\"20\" end=\"20\"/><field name=\"SS\" start=\"21\" end=\"21\"/>"
    "<field name=\"PAN\" start=\"22\" end=\"22\"/><field name=\"UAO\" start=\"23\" end=\"23\"/><field name=\"DIT\" start=\"24\" end=\"24\"/>"
    "<field name=\"TCO\" start=\"25\" end=\"25\"/><field name=\"V\" start=\"28\" end=\"28\"/><field name=\"C\" start=\"29\" end=\"29\"/>"
    "<field name=\"Z\" start=\"30\" end=\"30\"/><field name=\"N\" start=\"31\" end=\"31\"/></flags>";
#define VECTOR(id, type, count) "<vector id=\"" id "\" type=\"" type "\" count=\"" count "\"/>"
#define VIEWS(name, u, s, fu, fs) "<union id=\"" name "\">" u s fu fs "</union>"
#define VIEW(name, type) "<field name=\"" name "\" type=\"" type "\"/>"
static const char types_fpu64[] =
    VECTOR("v2d", "ieee_double", "2") VECTOR("v2u", "uint64", "2") VECTOR("v2i", "int64", "2") VECTOR("v4f", "ieee_single", "4")
    VECTOR("v4u", "uint32", "4") VECTOR("v4i", "int32", "4") VECTOR("v8f", "ieee_half", "8") VECTOR("v8u", "uint16", "8")
    VECTOR("v8i", "int16", "8") VECTOR("v16u", "uint8", "16") VECTOR("v16i", "int8", "16") VECTOR("v1u", "uint128", "1")
    VECTOR("v1i", "int128", "1")
    VIEWS("vnd", VIEW("f", "v2d"), VIEW("u", "v2u"), VIEW("s", "v2i"), "") VIEWS("vns", VIEW("f", "v4f"), VIEW("u", "v4u"), VIEW("s", "v4i"), "")
    VIEWS("vnh", VIEW("f", "v8f"), VIEW("u", "v8u"), VIEW("s", "v8i"), "") VIEWS("vnb", VIEW("u", "v16u"), VIEW("s", "v16i"), "", "")
    VIEWS("vnq", VIEW("u", "v1u"), VIEW("s", "v1i"), "", "")
    "<union id=\"aarch64v\">" VIEW("d", "vnd") VIEW("s", "vns") VIEW("h", "vnh") VIEW("b", "vnb") VIEW("q", "vnq") "</union>";
static const struct debug_feature features64[] = {
    { "org.gnu.gdb.aarch64.core", types_core64, core64, G_N_ELEMENTS(core64) },
    { "org.gnu.gdb.aarch64.fpu", types_fpu64, fpu64, G_N_ELEMENTS(fpu64) },
    { "org.gnu.gdb.aarch64.tls", NULL, tls64, G_N_ELEMENTS(tls64) },
};

static unsigned breakpoint64(unsigned kind, uint8_t insn[4])
{
    memcpy(insn, (const uint8_t[]){ 0x00, 0x00, 0x20, 0xd4 }, 4);       /* BRK #0 */
    return kind == 4 ? 4 : 0;
}

const struct guest_debug debug_aarch64 = { .architecture = "aarch64", .features = features64, .nfeatures = G_N_ELEMENTS(features64),
                                           .get = get, .set = set, .pc = pc_of, .breakpoint = breakpoint64 };

/* ---- AArch32 */

#define GENERAL(n) { "r" #n, 32, "uint32", KIND_X, n, NULL },
#define D(n) { "d" #n, 64, "ieee_double", KIND_D, n, NULL },
static const struct debug_reg core32[] = {
    ONES(GENERAL) GENERAL(10) GENERAL(11) GENERAL(12)
    { "sp", 32, "data_ptr", KIND_X, 13, NULL }, { "lr", 32, "code_ptr", KIND_X, 14, NULL }, { "pc", 32, "code_ptr", KIND_PC, 0, NULL },
    { "cpsr", 32, "int", KIND_PSTATE, 0, NULL },
};
static const struct debug_reg vfp32[] = { ONES(D) FROM_10(D) D(31) { "fpscr", 32, "int", KIND_FPSCR, 0, "float" } };
static const struct debug_reg tls32[] = { { "tpidruro", 32, "data_ptr", KIND_TLS, 0, NULL } };
static const struct debug_feature features32[] = {
    { "org.gnu.gdb.arm.core", NULL, core32, G_N_ELEMENTS(core32) }, { "org.gnu.gdb.arm.vfp", NULL, vfp32, G_N_ELEMENTS(vfp32) },
    { "org.gnu.gdb.arm.neon", NULL, NULL, 0 }, { "org.gnu.gdb.arm.tls", NULL, tls32, G_N_ELEMENTS(tls32) },
};

/* Kinds: 2 and 3 Thumb (of a short and a long instruction), 4 A32. What Linux takes for breakpoints. */
static unsigned breakpoint32(unsigned kind, uint8_t insn[4])
{
    if (kind == 2 || kind == 3) {
        memcpy(insn, (const uint8_t[]){ 0x01, 0xde }, 2);
        return 2;
    }
    memcpy(insn, (const uint8_t[]){ 0xf0, 0x01, 0xf0, 0xe7 }, 4);
    return kind == 4 ? 4 : 0;
}

const struct guest_debug debug_arm = { .architecture = "arm", .features = features32, .nfeatures = G_N_ELEMENTS(features32),
                                       .get = get, .set = set, .pc = pc_of, .breakpoint = breakpoint32 };
