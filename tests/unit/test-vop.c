/* Every row of vop.def against the processor we run on: the row's own encoding (VEX and, where there is one, SSE) is
 * put into a code buffer and run on random and corner operands; its result and MXCSR flags must be those of the row's C
 * function. So this tests the meanings and the encoding columns at once. Seed: RHEA_TEST_SEED, printed on failure. */
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "rhea/ir/cpu.h"
#include "rhea/ir/vop.h"

enum { ROUNDS = 3000, MXCSR_MASKS = 0x1f80, MXCSR_FLAGS = 0x3f };
enum { RAX = 0, R_A = 1, R_B = 2, R_C = 3, R_DST = 4 };         /* vector registers of the operands and the result */

typedef void native_fn(uint8_t *dst, const uint8_t *a, const uint8_t *b, const uint8_t *c, uint32_t *mxcsr);

static uint8_t *code;
static unsigned at;
static GRand *rnd;

static void put(const void *bytes, unsigned n)
{
    memcpy(code + at, bytes, n);
    at += n;
}
#define EMIT(...) put((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static bool host_has(enum host_feature f)
{
    switch (f) {
    case HF_SSE2: return true;
    case HF_SSSE3: return __builtin_cpu_supports("ssse3");
    case HF_SSE41: return __builtin_cpu_supports("sse4.1");
    case HF_SSE42: return __builtin_cpu_supports("sse4.2");
    case HF_AVX: return __builtin_cpu_supports("avx");
    case HF_AVX2: return __builtin_cpu_supports("avx2");
    case HF_FMA: return __builtin_cpu_supports("fma");
    case HF_F16C: return __builtin_cpu_supports("f16c");
    case HF_AES: return __builtin_cpu_supports("aes");
    case HF_PCLMUL: return __builtin_cpu_supports("pclmul");
    case HF_SHA: return __builtin_cpu_supports("sha");
    default: return false;
    }
}

/* One instruction with a modrm byte of two registers; vvvv < 0: unused. */
struct encoding { bool vex, l, w; uint8_t pp, map, opcode; int reg, vvvv, rm; };

static void emit_insn(const struct encoding *e)
{
    static const uint8_t prefix[4] = { 0, 0x66, 0xf3, 0xf2 };

    if (e->vex) {
        EMIT(0xc4, 0xe0 | e->map,
             (uint8_t)(e->w << 7 | (~(e->vvvv < 0 ? 0 : e->vvvv) & 15) << 3 | e->l << 2 | e->pp), e->opcode);
    } else {
        if (e->pp)
            EMIT(prefix[e->pp]);
        if (e->w)
            EMIT(0x48);
        EMIT(0x0f);
        if (e->map > 1)
            EMIT(e->map == 2 ? 0x38 : 0x3a);
        EMIT(e->opcode);
    }
    EMIT((uint8_t)(0xc0 | e->reg << 3 | e->rm));
}

static void emit_mov(unsigned to, unsigned from) { EMIT(0x0f, 0x28, (uint8_t)(0xc0 | to << 3 | from)); }

/* MULADDxx, MULSUBxx: the product in register 0, then the row's own opcode. */
static void emit_muladd(const struct vop_info *v)
{
    enum { MUL = 0x59 };
    struct encoding e = { .pp = v->pp, .map = v->map, .opcode = MUL, .reg = 0, .vvvv = -1, .rm = R_C };

    emit_mov(0, R_B);
    emit_insn(&e);
    emit_mov(R_DST, R_A);
    e.opcode = v->opcode;
    e.reg = R_DST;
    e.rm = 0;
    emit_insn(&e);
}

/* The row's operands on registers; see vop.h for the forms. */
static void emit_row(const struct vop_info *v, bool vex, bool l, int64_t imm)
{
    struct encoding e = { .vex = vex, .l = l, .w = v->flags & VOPF_W1, .pp = v->pp, .map = v->map,
                          .opcode = v->opcode, .reg = R_DST, .vvvv = -1, .rm = R_A };
    int trailer = -1;
    bool two = false;           /* dst = a first in the SSE form */

    if (v->form == VF_CUSTOM && v->map == 1 && v->operands == 3) {
        emit_muladd(v);
        return;
    }
    switch ((enum vop_form)v->form) {
    case VF_RVM: two = true; e.rm = R_B; break;
    case VF_RVMI: two = true; e.rm = R_B; trailer = (uint8_t)imm; break;
    case VF_RM: break;
    case VF_RMI: trailer = (uint8_t)imm; break;
    case VF_MRI: e.reg = R_A; e.rm = R_DST; trailer = (uint8_t)imm; break;
    case VF_RG: e.rm = RAX; break;
    case VF_RVG: two = true; e.rm = RAX; break;
    case VF_RVGI: two = true; e.rm = RAX; trailer = (uint8_t)imm; break;
    case VF_GM: e.reg = RAX; break;
    case VF_MG: e.reg = R_A; e.rm = RAX; break;
    case VF_GMI: e.reg = R_A; e.rm = RAX; trailer = (uint8_t)imm; break;
    case VF_MI:
        e.reg = v->ext;
        trailer = (uint8_t)imm;
        if (vex) {
            e.vvvv = R_DST;
        } else {
            emit_mov(R_DST, R_A);
            e.rm = R_DST;
        }
        break;
    case VF_FMA:
        EMIT(0xc5, l ? 0xfc : 0xf8, 0x28, 0xc0 | R_DST << 3 | R_A);     /* vmovaps */
        e.opcode += imm << 4;
        e.vvvv = R_B;
        e.rm = R_C;
        break;
    case VF_RVMR:
        two = true;
        e.rm = R_B;
        if (vex) {
            trailer = R_C << 4;
        } else {
            emit_mov(0, R_C);
            e.map = 2;
            e.opcode = v->ext;
        }
        break;
    case VF_RVM0: two = true; e.rm = R_B; emit_mov(0, R_C); break;
    case VF_CUSTOM:
        e.reg = R_A;
        e.rm = R_B;
        e.w = false;
        if (v->map == 3)
            trailer = (uint8_t)imm;
        break;
    }
    if (two && vex)
        e.vvvv = R_A;
    else if (two)
        emit_mov(R_DST, R_A);
    emit_insn(&e);
    if (trailer >= 0)
        EMIT((uint8_t)trailer);
}

/* rdi dst, rsi a, rdx b, rcx c, r8 &mxcsr. */
static native_fn *emit_function(enum vop_id id, bool vex, bool l, int64_t imm)
{
    const struct vop_info *v = &vop_info[id];
    bool strings = v->form == VF_CUSTOM && v->map == 3, gpr_result = v->flags & VOPF_GPR_RESULT;

    at = 0;
    EMIT(0xc5, 0xfe, 0x6f, 0x0e);                               /* vmovdqu ymm1, [rsi] */
    EMIT(0xc5, 0xfe, 0x6f, 0x12);                               /* vmovdqu ymm2, [rdx] */
    EMIT(0xc5, 0xfe, 0x6f, 0x19);                               /* vmovdqu ymm3, [rcx] */
    if (v->flags & (VOPF_GPR_A | VOPF_GPR_B | VOPF_GPR_C))      /* mov rax, [rsi | rdx | rcx] */
        EMIT(0x48, 0x8b, v->flags & VOPF_GPR_A ? 0x06 : v->flags & VOPF_GPR_B ? 0x02 : 0x01);
    if (v->flags & VOPF_GPR_C)
        EMIT(0x48, 0x89, 0xc2, 0x48, 0xc1, 0xea, 0x20);         /* mov rdx, rax; shr rdx, 32 */
    EMIT(0x41, 0x0f, 0xae, 0x10);                               /* ldmxcsr [r8] */
    emit_row(v, vex, l, imm);
    EMIT(0x41, 0x0f, 0xae, 0x18);                               /* stmxcsr [r8] */
    if (v->form == VF_CUSTOM && gpr_result) {
        EMIT(0x9c, 0x58, 0x25, 0xd5, 0x08, 0x00, 0x00);         /* pushfq; pop rax; and eax, 0x8d5 */
        if (strings)
            EMIT(0x48, 0xc1, 0xe0, 0x20, 0x48, 0x09, 0xc8);     /* shl rax, 32; or rax, rcx */
    }
    if (gpr_result)
        EMIT(0x48, 0x89, 0x07);                                 /* mov [rdi], rax */
    else if (strings)
        EMIT(0xc5, 0xfe, 0x7f, 0x07);                           /* vmovdqu [rdi], ymm0 */
    else
        EMIT(0xc5, 0xfe, 0x7f, 0x27);                           /* vmovdqu [rdi], ymm4 */
    EMIT(0xc5, 0xf8, 0x77, 0xc3);                               /* vzeroupper; ret */
    return (native_fn *)(uintptr_t)code;
}

static uint32_t corner32(void)
{
    static const uint32_t corners[] = {
        0, 0x80000000, 1, 0x80000001, 0x007fffff, 0x00800000, 0x80800000, 0x00800001, 0x3f800000, 0xbf800000,
        0x3f7fffff, 0x3f000000, 0x3fc00000, 0x40200000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000,
        0xffc00001, 0x7f800001, 0xffa12345, 0x7fffffff, 0x4f000000, 0xcf000000, 0x4effffff, 0x5f000000, 0xdf000000,
        0x4b000001, 0x477fe000, 0x477ff000, 0x38800000, 0x33000000, 0x33000001, 0x387fe000, 0x1f000000, 0x20000000,
    };

    return corners[g_rand_int_range(rnd, 0, G_N_ELEMENTS(corners))];
}

static uint64_t corner64(void)
{
    static const uint64_t corners[] = {
        0, 0x8000000000000000, 1, 0x800fffffffffffff, 0x0010000000000000, 0x8010000000000001, 0x3ff0000000000000,
        0xbff0000000000000, 0x3fe0000000000000, 0x3ff8000000000000, 0x4004000000000000, 0x7fefffffffffffff,
        0xffefffffffffffff, 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0xfff8000000000001,
        0x7ff0000000000001, 0xfff4123456789abc, 0x41dfffffffc00000, 0x41dfffffffe00000, 0xc1e0000000000000,
        0xc1e0000000200000, 0x43e0000000000000, 0xc3e0000000000000, 0x4330000000000001, 0x3810000000000000,
        0x380fffffffffffff, 0x36a0000000000000, 0x3690000000000000, 0x47efffffe0000000, 0x47effffff0000000,
        0x1ff0000000000000, 0x2000000000000000,
    };

    return corners[g_rand_int_range(rnd, 0, G_N_ELEMENTS(corners))];
}

/* An operand: each lane of 4 or 8 bytes random, a corner of floating point, or of near-unity exponent; or, in a third of
 * the cases, bytes from a few values, where integer and string ops have their corners. */
static void random_operand(uint8_t v[32])
{
    static const uint8_t few[] = { 0, 0, 1, 0x7f, 0x80, 0xff, 'a', 'b' };
    unsigned kind = (unsigned)g_rand_int_range(rnd, 0, 6), wide = g_rand_boolean(rnd);

    for (unsigned i = 0; i < 32; i += 4) {
        uint32_t x = g_rand_int(rnd);

        if (kind == 1)
            x = (x & 0x80ffffff) | 0x3f000000;
        else if (kind == 2)
            x = corner32();
        memcpy(v + i, &x, 4);
    }
    for (unsigned i = 0; i < 32 && (kind == 2 || kind == 1) && wide; i += 8) {
        uint64_t x = (uint64_t)g_rand_int(rnd) << 32 | g_rand_int(rnd);

        x = kind == 1 ? (x & 0x801fffffffffffff) | 0x3fe0000000000000 : corner64();
        memcpy(v + i, &x, 8);
    }
    if (kind == 3 || kind == 4)
        for (unsigned i = 0; i < 32; i++)
            v[i] = few[g_rand_int_range(rnd, 0, G_N_ELEMENTS(few))];
    if (kind == 5)              /* small counts and indices */
        for (unsigned i = 0; i < 32; i++)
            v[i] = i % 8 ? 0 : (uint8_t)g_rand_int_range(rnd, 0, 70);
}

static int64_t random_imm(const struct vop_info *v, bool vex)
{
    bool compare = v->map == 1 && v->opcode == 0xc2;

    if (v->form == VF_FMA)
        return g_rand_int_range(rnd, 0, 3);
    if (compare)
        return g_rand_int_range(rnd, 0, vex ? 32 : 8);
    if (v->map == 3 && v->opcode >= 0x08 && v->opcode <= 0x0b)  /* ROUND: the rest is reserved */
        return g_rand_int_range(rnd, 0, 16);
    return g_rand_int_range(rnd, 0, 256);
}

static char *hex(const uint8_t *p, unsigned n)
{
    GString *s = g_string_new(NULL);

    for (unsigned i = n; i-- > 0;)
        g_string_append_printf(s, "%02x%s", p[i], i % 8 ? "" : " ");
    return g_string_free(s, FALSE);
}

static void run_case(enum vop_id id, bool vex, bool l)
{
    const struct vop_info *v = &vop_info[id];
    static struct cpu cpu;
    uint8_t op[3][32], native[32] = { 0 }, ours[32] = { 0 };
    int64_t imm = random_imm(v, vex);
    uint32_t mxcsr = MXCSR_MASKS | (g_rand_int(rnd) & 0xe040), old, before;
    unsigned bytes = l ? 32 : 16, n = v->flags & VOPF_GPR_RESULT ? 8 : v->flags & VOPF_R128 ? 16 : bytes;

    for (unsigned i = 0; i < 3; i++)
        random_operand(op[i]);
    if (g_rand_int_range(rnd, 0, 8) == 0)
        memcpy(op[1], op[0], 32);
    if (v->flags & VOPF_GPR_C)  /* lengths near those of a vector */
        for (unsigned i = 0; i < 8; i += 4)
            *(int32_t *)(op[2] + i) = g_rand_int_range(rnd, -20, 20);
    before = mxcsr;
    old = __builtin_ia32_stmxcsr();
    emit_function(id, vex, l, imm)(native, op[0], op[1], op[2], &mxcsr);
    __builtin_ia32_ldmxcsr(old);
    cpu.fp_control = before;
    v->fn(&cpu, ours, op[0], op[1], op[2], imm, bytes);
    if (v->flags & VOPF_GPR_RESULT && !(v->flags & VOPF_W1))    /* I32: the rest is nobody's */
        n = 4;
    if (memcmp(ours, native, n) || cpu.fp_control != mxcsr) {
        g_autofree char *a = hex(op[0], 32), *b = hex(op[1], 32), *c = hex(op[2], 32);
        g_autofree char *got = hex(ours, n), *want = hex(native, n);

        g_test_message("%s %s %u imm %#x mxcsr %#x\n a %s\n b %s\n c %s\n host %s mxcsr %#x\n ours %s mxcsr %#x", v->text,
                       vex ? "VEX" : "SSE", bytes, (unsigned)imm, before, a, b, c, want, mxcsr, got, cpu.fp_control);
        g_test_fail();
    }
}

static bool only_256(enum vop_id id)
{
    return id == VOP_PERM32 || id == VOP_PERMI64 || id == VOP_PERM128 || id == VOP_PERMPS || id == VOP_PERMPD ||
           id == VOP_PERMF128 || id == VOP_DUPPD;
}

static void test_row(gconstpointer data)
{
    enum vop_id id = (enum vop_id)GPOINTER_TO_UINT(data);
    const struct vop_info *v = &vop_info[id];
    bool sse = v->feature != HF_AVX && v->feature != HF_AVX2 && v->feature != HF_FMA && v->feature != HF_F16C;
    bool vex = !(v->flags & VOPF_LEGACY);
    bool wide = vex && !(v->flags & (VOPF_NO256 | VOPF_SCALAR)) && host_has(HF_AVX2);

    if (!host_has(v->feature)) {
        g_test_skip("the host lacks it");
        return;
    }
    for (unsigned i = 0; i < ROUNDS && !g_test_failed(); i++) {
        if (sse)
            run_case(id, false, false);
        if (vex && !only_256(id))
            run_case(id, true, false);
        if (wide)
            run_case(id, true, true);
    }
}

/* Those that structure V256 have no instruction of their own. */
static void test_structure(void)
{
    uint8_t a[32], b[32], v[32];

    random_operand(a);
    random_operand(b);
    vop_info[VOP_CAT].fn(NULL, v, a, b, NULL, 0, 32);
    g_assert_cmpmem(v, 16, a, 16);
    g_assert_cmpmem(v + 16, 16, b, 16);
    memset(v, 0xff, 32);
    vop_info[VOP_ZEXT].fn(NULL, v, a, NULL, NULL, 0, 32);
    g_assert_cmpmem(v, 16, a, 16);
    for (unsigned n = 16; n < 32; n++)
        g_assert_cmpuint(v[n], ==, 0);
    memcpy(v, a, 32);
    vop_info[VOP_HI].fn(NULL, v, v, NULL, NULL, 0, 32);
    g_assert_cmpmem(v, 16, a + 16, 16);
    vop_info[VOP_LO].fn(NULL, v, b, NULL, NULL, 0, 32);
    g_assert_cmpmem(v, 16, b, 16);
    memcpy(v, a, 32);
    vop_info[VOP_CAT].fn(NULL, v, b, v, NULL, 0, 32);           /* aliased */
    g_assert_cmpmem(v + 16, 16, a, 16);
}

int main(int argc, char **argv)
{
    const char *seed = g_getenv("RHEA_TEST_SEED");

    g_test_init(&argc, &argv, NULL);
    rnd = g_rand_new_with_seed(seed ? (guint32)strtoul(seed, NULL, 0) : 20260101);
    code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(code != MAP_FAILED);
    g_test_add_func("/vop/structure", test_structure);
    for (unsigned id = VOP_ZEXT + 1; id < VOP_COUNT; id++)
        if (id != VOP_EXTRQ && id != VOP_INSERTQ) {
            g_autofree char *path = g_strdup_printf("/vop/%s", vop_info[id].text);
            g_test_add_data_func(path, GUINT_TO_POINTER(id), test_row);
        }
    return g_test_run();
}
