/* x86 registers as GDB knows them: "Debugging with GDB", "i386 Features". */
#include <glib.h>
#include <string.h>
#include "rhea/guest/debug.h"
#include "system.h"

enum { KIND_GENERAL, KIND_IP, KIND_FLAGS, KIND_SEGMENT, KIND_BASE, KIND_ST, KIND_X87, KIND_XMM, KIND_YMMH, KIND_MXCSR, KIND_ORIG };
enum { X87_CTRL, X87_STAT, X87_TAG, X87_ISEG, X87_IOFF, X87_OSEG, X87_OOFF, X87_OP };
/* What a debugger may change: arithmetic flags, DF, TF, AC, ID. */
enum { FLAGS_USER = 0x240dd5 };

/* The tag word as FNSTENV has it: two bits each. 11 is empty; the others are told as valid, which is how FRSTOR takes them. */
static uint32_t tag_word(const struct x86_cpu *c)
{
    uint32_t v = 0;

    for (unsigned n = 0; n < 8; n++)
        if (c->fptag >> n & 1)
            v |= 3u << 2 * n;
    return v;
}

static uint64_t x87_get(const struct x86_cpu *c, unsigned index)
{
    switch (index) {
    case X87_CTRL: return c->fpcw;
    case X87_STAT: return (c->fpsw & ~0x3800u) | (c->fptop & 7) << 11;
    case X87_TAG: return tag_word(c);
    case X87_ISEG: return c->fpcs;
    case X87_IOFF: return (uint32_t)c->fpip;
    case X87_OSEG: return c->fpds;
    case X87_OOFF: return (uint32_t)c->fpdp;
    default: return c->fpop;
    }
}

static void x87_set(struct x86_cpu *c, unsigned index, uint32_t v)
{
    switch (index) {
    case X87_CTRL:
        c->fpcw = (v & 0x1f3f) | 0x40;
        break;
    case X87_STAT:
        c->fpsw = v & ~0x3800u;
        c->fptop = v >> 11 & 7;
        break;
    case X87_TAG:
        c->fptag = 0;
        for (unsigned n = 0; n < 8; n++)
            c->fptag |= (v >> 2 * n & 3) == 3 ? 1u << n : 0;
        break;
    case X87_ISEG: c->fpcs = (uint16_t)v; break;
    case X87_IOFF: c->fpip = v; break;
    case X87_OSEG: c->fpds = (uint16_t)v; break;
    case X87_OOFF: c->fpdp = v; break;
    default: c->fpop = v & 0x7ff;
    }
}

static void get(struct cpu *cpu, const struct debug_reg *r, uint8_t *out)
{
    struct x86_cpu *c = x86(cpu);
    uint64_t v = 0;

    memset(out, 0, r->bits / 8);
    switch (r->kind) {
    case KIND_ST: memcpy(out, &c->fpregs[(c->fptop + r->index) & 7], 10); return;
    case KIND_XMM: memcpy(out, &c->ymm[r->index].lo, 16); return;
    case KIND_YMMH: memcpy(out, &c->ymm[r->index].hi, 16); return;
    case KIND_GENERAL: v = c->regs[r->index]; break;
    case KIND_IP: v = cpu->pc - c->seg[S_CS].base; break;
    case KIND_FLAGS: v = x86_eflags(c); break;
    case KIND_SEGMENT: v = c->seg[r->index].selector; break;
    case KIND_BASE: v = c->seg[r->index].base; break;
    case KIND_X87: v = x87_get(c, r->index); break;
    case KIND_MXCSR: v = x86_mxcsr_read(c); break;
    case KIND_ORIG: v = UINT64_MAX; break;      /* not in a system call that would be made again */
    }
    memcpy(out, &v, MIN(r->bits / 8, 8));
}

static void set(struct cpu *cpu, const struct debug_reg *r, const uint8_t *in)
{
    struct x86_cpu *c = x86(cpu);
    uint64_t v = 0;

    memcpy(&v, in, MIN(r->bits / 8, 8));
    switch (r->kind) {
    case KIND_ST: memcpy(&c->fpregs[(c->fptop + r->index) & 7], in, 10); break;
    case KIND_XMM: memcpy(&c->ymm[r->index].lo, in, 16); break;
    case KIND_YMMH: memcpy(&c->ymm[r->index].hi, in, 16); break;
    case KIND_GENERAL: c->regs[r->index] = v; break;
    case KIND_IP: cpu->pc = v + c->seg[S_CS].base; break;
    case KIND_FLAGS: x86_set_eflags(c, v, FLAGS_USER); break;
    case KIND_BASE: c->seg[r->index].base = v; break;
    case KIND_X87: x87_set(c, r->index, (uint32_t)v); break;
    case KIND_MXCSR:
        c->mxcsr = v & 0xffff;
        x86_mxcsr_changed(c);
        break;
    default:
        break;                          /* selectors: a load would need their descriptors */
    }
}

static uint64_t pc_of(const struct cpu *cpu) { return cpu->pc; }

static unsigned breakpoint(unsigned kind, uint8_t insn[4])
{
    insn[0] = 0xcc;
    return kind == 1 ? 1 : 0;
}

#define GENERAL(name, bits, type, index) { name, bits, type, KIND_GENERAL, index, NULL }
#define SEGMENT(name, index) { name, 32, "int32", KIND_SEGMENT, index, NULL }
#define ST(n) { "st" #n, 80, "i387_ext", KIND_ST, n, NULL }
#define X87(name, index) { name, 32, "int", KIND_X87, index, "float" }
#define AFTER_FLAGS                                                                                                                \
    SEGMENT("cs", S_CS), SEGMENT("ss", S_SS), SEGMENT("ds", S_DS), SEGMENT("es", S_ES), SEGMENT("fs", S_FS), SEGMENT("gs", S_GS),  \
    ST(0), ST(1), ST(2), ST(3), ST(4), ST(5), ST(6), ST(7), X87("fctrl", X87_CTRL), X87("fstat", X87_STAT), X87("ftag", X87_TAG),  \
    X87("fiseg", X87_ISEG), X87("fioff", X87_IOFF), X87("foseg", X87_OSEG), X87("fooff", X87_OOFF), X87("fop", X87_OP)
static const struct debug_reg core64[] = {
    GENERAL("rax", 64, "int64", 0), GENERAL("rbx", 64, "int64", 3), GENERAL("rcx", 64, "int64", 1), GENERAL("rdx", 64, "int64", 2),
    GENERAL("rsi", 64, "int64", 6), GENERAL("rdi", 64, "int64", 7), GENERAL("rbp", 64, "data_ptr", 5), GENERAL("rsp", 64, "data_ptr", 4),
    GENERAL("r8", 64, "int64", 8), GENERAL("r9", 64, "int64", 9), GENERAL("r10", 64, "int64", 10), GENERAL("r11", 64, "int64", 11),
    GENERAL("r12", 64, "int64", 12), GENERAL("r13", 64, "int64", 13), GENERAL("r14", 64, "int64", 14), GENERAL("r15", 64, "int64", 15),
    { "rip", 64, "code_ptr", KIND_IP, 0, NULL }, { "eflags", 32, "i386_eflags", KIND_FLAGS, 0, NULL }, AFTER_FLAGS,
};
static const struct debug_reg core32[] = {
    GENERAL("eax", 32, "int32", 0), GENERAL("ecx", 32, "int32", 1), GENERAL("edx", 32, "int32", 2), GENERAL("ebx", 32, "int32", 3),
    GENERAL("esp", 32, "data_ptr", 4), GENERAL("ebp", 32, "data_ptr", 5), GENERAL("esi", 32, "int32", 6), GENERAL("edi", 32, "int32", 7),
    { "eip", 32, "code_ptr", KIND_IP, 0, NULL }, { "eflags", 32, "i386_eflags", KIND_FLAGS, 0, NULL }, AFTER_FLAGS,
};
#define XMM(n) { "xmm" #n, 128, "vec128", KIND_XMM, n, NULL },
#define YMMH(n) { "ymm" #n "h", 128, "uint128", KIND_YMMH, n, NULL },
#define LOW(R) R(0) R(1) R(2) R(3) R(4) R(5) R(6) R(7)
#define HIGH(R) R(8) R(9) R(10) R(11) R(12) R(13) R(14) R(15)
#define MXCSR { "mxcsr", 32, "i386_mxcsr", KIND_MXCSR, 0, "vector" }
static const struct debug_reg sse64[] = { LOW(XMM) HIGH(XMM) MXCSR }, sse32[] = { LOW(XMM) MXCSR };
static const struct debug_reg avx64[] = { LOW(YMMH) HIGH(YMMH) }, avx32[] = { LOW(YMMH) };
static const struct debug_reg linux64[] = { { "orig_rax", 64, "int", KIND_ORIG, 0, NULL } };
static const struct debug_reg linux32[] = { { "orig_eax", 32, "int", KIND_ORIG, 0, NULL } };
static const struct debug_reg segments64[] = { { "fs_base", 64, "int", KIND_BASE, S_FS, NULL }, { "gs_base", 64, "int", KIND_BASE, S_GS, NULL } };

#define BIT_FIELD(name, bit) "<field name=\"" name "\" start=\"" bit "\" end=\"" bit "\"/>"
static const char types_core[] =
    "<flags id=\"i386_eflags\" size=\"4\">" BIT_FIELD("CF", "0") BIT_FIELD("", "1") BIT_FIELD("PF", "2") BIT_FIELD("AF", "4")
    BIT_FIELD("ZF", "6") BIT_FIELD("SF", "7") BIT_FIELD("TF", "8") BIT_FIELD("IF", "9") BIT_FIELD("DF", "10") BIT_FIELD("OF", "11")
    BIT_FIELD("NT", "14") BIT_FIELD("RF", "16") BIT_FIELD("VM", "17") BIT_FIELD("AC", "18") BIT_FIELD("VIF", "19")
    BIT_FIELD("VIP", "20") BIT_FIELD("ID", "21") "</flags>";
#define VECTOR(id, type, count) "<vector id=\"" id "\" type=\"" type "\" count=\"" count "\"/>"
#define VIEW(name, type) "<field name=\"" name "\" type=\"" type "\"/>"
static const char types_sse[] =
    VECTOR("v8bf16", "bfloat16", "8") VECTOR("v8h", "ieee_half", "8") VECTOR("v4f", "ieee_single", "4") VECTOR("v2d", "ieee_double", "2")
    VECTOR("v16i8", "int8", "16") VECTOR("v8i16", "int16", "8") VECTOR("v4i32", "int32", "4") VECTOR("v2i64", "int64", "2")
    "<union id=\"vec128\">" VIEW("v8_bfloat16", "v8bf16") VIEW("v8_half", "v8h") VIEW("v4_float", "v4f") VIEW("v2_double", "v2d")
    VIEW("v16_int8", "v16i8") VIEW("v8_int16", "v8i16") VIEW("v4_int32", "v4i32") VIEW("v2_int64", "v2i64") VIEW("uint128", "uint128") "</union>"
    "<flags id=\"i386_mxcsr\" size=\"4\">" BIT_FIELD("IE", "0") BIT_FIELD("DE", "1") BIT_FIELD("ZE", "2") BIT_FIELD("OE", "3")
    BIT_FIELD("UE", "4") BIT_FIELD("PE", "5") BIT_FIELD("DAZ", "6") BIT_FIELD("IM", "7") BIT_FIELD("DM", "8") BIT_FIELD("ZM", "9")
    BIT_FIELD("OM", "10") BIT_FIELD("UM", "11") BIT_FIELD("PM", "12") BIT_FIELD("FZ", "15") "</flags>";

#define FEATURE(name, types, regs) { "org.gnu.gdb.i386." name, types, regs, G_N_ELEMENTS(regs) }
static const struct debug_feature features64[] = {
    FEATURE("core", types_core, core64), FEATURE("sse", types_sse, sse64), FEATURE("linux", NULL, linux64),
    FEATURE("segments", NULL, segments64), FEATURE("avx", NULL, avx64),
};
static const struct debug_feature features32[] = {
    FEATURE("core", types_core, core32), FEATURE("sse", types_sse, sse32), FEATURE("linux", NULL, linux32), FEATURE("avx", NULL, avx32),
};

#define COMMON .get = get, .set = set, .pc = pc_of, .breakpoint = breakpoint
const struct guest_debug debug_x86_64 = { .architecture = "i386:x86-64", .features = features64, .nfeatures = G_N_ELEMENTS(features64), COMMON };
const struct guest_debug debug_i386 = { .architecture = "i386", .features = features32, .nfeatures = G_N_ELEMENTS(features32), COMMON };
