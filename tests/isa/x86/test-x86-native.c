/* Every user-level row of isa/x86*.isa with random operands: natively, by the interpreter (as written, and after the
 * passes), and by the host code made of it. All state must be equal
 * afterwards: registers, flags but those the row calls undefined, vectors, x87, MXCSR, memory, and the exception raised.
 *   ROW=paddb  only rows whose mnemonic begins so     CASES=1000  a row     RHEA_TEST_SEED=1  elsewhere   VERBOSE=1 */
#include <glib.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xmmintrin.h>
#include "generate.h"
#include "rhea/guest/guest.h"
#include "rhea/interp/interp.h"
#include "rhea/jit/codegen.h"
#include "rhea/jit/jit.h"

static struct guest test_guest;
static struct tlb_entry tlb[256];
static struct x86_cpu *cpu;
static struct ir *ir;
static struct ir_analysis *analysis;

enum way { WRITTEN, OPTIMIZED, HOST_CODE, WAYS };
static const char *const way_name[WAYS] = { "interpreted", "interpreted after the passes", "host code" };

/* ---- host code */

enum { CODE_SIZE = 1 << 20 };
static uint8_t *host_code, *host_region;
static size_t host_region_size;
static struct codegen *codegen;
static struct codegen_stubs stubs;
static struct jump_entry jump_cache[1 << JUMP_CACHE_BITS];

static void host_create(void)
{
    struct code_out out = { 0 };

    host_code = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(host_code != MAP_FAILED);
    codegen = codegen_new();
    out.rw = host_code;
    out.limit = host_code + CODE_SIZE;
    codegen_make_stubs(&out, &stubs);
    host_region = host_code + ((out.size + 63) & ~(size_t)63);
    jump_cache[0].pc = 1;               /* the others hold 0, which hashes to 0 */
}

static bool host_run(struct cpu *c, const struct ir *region, const struct ir_analysis *an)
{
    struct code_out out = { .rw = host_region, .limit = host_code + CODE_SIZE, .first_exit = JIT_EXIT_FIRST };
    uint64_t left;

    if (!codegen_compile(codegen, &stubs, region, an, &out))
        return false;
    host_region_size = out.size;
    c->jump_cache = jump_cache;
    left = stubs.enter(c, host_region);
    if (left >= JIT_EXIT_FIRST)
        c->pc = c->pc_page + (uint64_t)region->exits[left - JIT_EXIT_FIRST].target;
    return true;
}

/* ---- Rhea's side */

static bool test_translate(struct cpu *c, uint64_t va, enum mmu_access access, unsigned mmu, bool probe,
                           struct mmu_result *out)
{
    if (!probe)
        c->exception = (int64_t)(va << 16) >> 16 == (int64_t)va ? X_PF : X_GP;
    return false;
}

static void cpu_create(void)
{
    uintptr_t page = (uintptr_t)native_data;

    test_guest = guest_x86_64;
    test_guest.translate = test_translate;
    cpu = g_malloc0(sizeof(*cpu));
    cpu->cpu.guest = &test_guest;
    for (unsigned n = 0; n < 256; n++)
        tlb[n] = (struct tlb_entry){ TLB_INVALID, TLB_INVALID, TLB_INVALID, 0 };
    tlb[page >> CPU_PAGE_BITS & 255] = (struct tlb_entry){ page, page, TLB_INVALID, 0 };
    for (unsigned n = 0; n < CPU_MMU_MODES; n++)
        cpu->cpu.tlb[n] = (struct tlb_view){ 255 << 5, tlb };
    ir = ir_new();
    analysis = ir_analysis_new();
}

static void cpu_from_image(const struct x86_image *img)
{
    uint16_t fsw;

    memcpy(cpu->regs, img->regs, sizeof(cpu->regs));
    cpu->cc_op = CC_EFLAGS;
    cpu->cc_src = img->rflags & EF_ARITH;
    cpu->df = 1;
    cpu->eflags = img->rflags & ~(uint64_t)(EF_ARITH | EF_DF);
    for (unsigned n = 0; n < 16; n++) {
        memcpy(cpu->ymm[n].lo, img->ymm[n], 16);
        memcpy(cpu->ymm[n].hi, img->ymm[n] + 16, 16);
    }
    memcpy(&cpu->mxcsr, img->fx + FX_MXCSR, 4);
    x86_mxcsr_changed(cpu);
    memcpy(&cpu->fpcw, img->fx + FX_FCW, 2);
    memcpy(&fsw, img->fx + FX_FSW, 2);
    cpu->fptop = fsw >> 11 & 7;
    cpu->fpsw = fsw & ~0x3800;
    cpu->fptag = (uint8_t)~img->fx[FX_FTW];
    for (unsigned n = 0; n < 8; n++) {
        unsigned reg = (n + cpu->fptop) & 7;

        memcpy(&cpu->fpregs[reg].v.frac, img->fx + FX_ST + 16 * n, 8);
        memcpy(&cpu->fpregs[reg].v.se, img->fx + FX_ST + 16 * n + 8, 2);
    }
    cpu->cr0 = 0x80050033;
    cpu->cr4 = 0x40670;
    cpu->xcr0 = 7;
    cpu->efer = 0x500;          /* LME, LMA */
    cpu->seg[S_CS].attr = 1 << 21;      /* L */
    cpu->cpl = 3;
    cpu->cpu.exception = -1;
    cpu->cpu.pc = img->rip;
    cpu->cpu.pc_page = cpu->cpu.pc & ~(uint64_t)(CPU_PAGE_SIZE - 1);
}

static void image_from_cpu(struct x86_image *img)
{
    uint32_t mxcsr = x86_mxcsr_read(cpu);
    uint16_t fsw = (uint16_t)(cpu->fpsw | (cpu->fptop & 7) << 11);

    memset(img, 0, sizeof(*img));
    memcpy(img->regs, cpu->regs, sizeof(cpu->regs));
    img->rflags = x86_eflags(cpu) | 2;
    img->rip = cpu->cpu.pc;
    img->trap = cpu->cpu.exception;
    for (unsigned n = 0; n < 16; n++) {
        memcpy(img->ymm[n], cpu->ymm[n].lo, 16);
        memcpy(img->ymm[n] + 16, cpu->ymm[n].hi, 16);
    }
    memcpy(img->fx + FX_MXCSR, &mxcsr, 4);
    memcpy(img->fx + FX_FCW, &cpu->fpcw, 2);
    memcpy(img->fx + FX_FSW, &fsw, 2);
    img->fx[FX_FTW] = (uint8_t)~cpu->fptag;
    for (unsigned n = 0; n < 8; n++) {
        unsigned reg = (n + cpu->fptop) & 7;

        memcpy(img->fx + FX_ST + 16 * n, &cpu->fpregs[reg].v.frac, 8);
        memcpy(img->fx + FX_ST + 16 * n + 8, &cpu->fpregs[reg].v.se, 2);
    }
}

/* Translates and runs. NULL, or what is wrong with the region. */
static char *rhea_run(const struct x86_insn *insn, bool code32, struct x86_image *img, enum way how)
{
    sigjmp_buf out;
    volatile uint32_t mxcsr = 0;
    uint64_t mode = test_mode(code32);
    char *why;

    if ((*(const uint32_t *)(img->fx + FX_MXCSR) & 0x1f80) != 0x1f80)
        mode |= MODE_FPEXC;
    img->rip = insn->pc;
    cpu_from_image(img);
    ir_begin(ir, &test_guest, insn->pc, mode);
    test_guest.emit_begin(ir);
    if (how != WRITTEN)                 /* as written, registers stay apart */
        test_guest.emit_scan(ir, insn);
    test_guest.emit(ir, insn);
    if (!ir->ended)
        ir_exit_loop(ir, insn->pc + insn->len);
    test_guest.emit_end(ir);
    if (!ir_validate(ir, &why))
        return why;
    if (how != WRITTEN)
        ir_optimize(ir, analysis);
    cpu->cpu.loop_exit = &out;
    mxcsr = _mm_getcsr();
    if (!sigsetjmp(out, 0)) {
        if (how == HOST_CODE && !host_run(&cpu->cpu, ir, analysis))
            return g_strdup("the back end refuses it");
        if (how == OPTIMIZED)
            interp_run_optimized(&cpu->cpu, ir, analysis);
        if (how == WRITTEN)
            interp_run(&cpu->cpu, ir);
    } else if (how == HOST_CODE) {      /* out of host code by way of C, as the run loop does it */
        cpu->cpu.fp_control |= _mm_getcsr() & 0x3f;
        _mm_setcsr(mxcsr);
    }
    image_from_cpu(img);
    return NULL;
}

/* ---- comparison */

static void differ(GString *s, const char *name, unsigned n, const void *was, const void *host, const void *ours, unsigned bytes)
{
    const uint8_t *p[3] = { was, host, ours };
    static const char *const label[3] = { "was ", "host", "ours" };

    for (unsigned k = 0; k < 3; k++) {
        g_string_append_printf(s, "  %s%u %s ", name, n, label[k]);
        for (unsigned b = bytes; b-- > 0;)
            g_string_append_printf(s, "%02x%s", p[k][b], b % 8 ? "" : " ");
        g_string_append_c(s, '\n');
    }
}

static uint64_t flags_mask(const struct x86_row *row) { return EF_ARITH & ~(uint64_t)row->undefined_flags; }

static GString *compare(const struct x86_insn *i, bool code32, const struct x86_image *was, const struct x86_image *host,
                        const struct x86_image *ours, const uint8_t *mem_was, const uint8_t *mem_host)
{
    GString *s = g_string_new(NULL);
    uint32_t mxcsr_host, mxcsr_ours;

    /* The TLB does not know that a non-canonical address is of the stack; and an access across 4 GiB is not held against
     * the limit of a flat segment, but wraps. */
    if (host->trap != ours->trap && !(host->trap == X_SS && ours->trap == X_GP) &&
        !(code32 && (host->trap == X_SS || host->trap == X_GP) && ours->trap == X_PF))
        g_string_append_printf(s, "  trap host %d ours %d\n", host->trap, ours->trap);
    if (host->rip != ours->rip)
        g_string_append_printf(s, "  rip host +%d ours +%d\n", (int)(host->rip - i->pc), (int)(ours->rip - i->pc));
    for (unsigned n = 0; n < 16; n++) {
        if (code32 ? n < 8 && (uint32_t)host->regs[n] != (uint32_t)ours->regs[n] : host->regs[n] != ours->regs[n])
            differ(s, "r", n, &was->regs[n], &host->regs[n], &ours->regs[n], 8);
        if (memcmp(host->ymm[n], ours->ymm[n], 32))
            differ(s, "ymm", n, was->ymm[n], host->ymm[n], ours->ymm[n], 32);
    }
    if ((host->rflags ^ ours->rflags) & flags_mask(i->row))
        g_string_append_printf(s, "  flags were %#x host %#x ours %#x\n", (unsigned)was->rflags & EF_ARITH,
                               (unsigned)(host->rflags & flags_mask(i->row)), (unsigned)(ours->rflags & flags_mask(i->row)));
    memcpy(&mxcsr_host, host->fx + FX_MXCSR, 4);
    memcpy(&mxcsr_ours, ours->fx + FX_MXCSR, 4);
    if (host->trap == X_XM && (mxcsr_host & ~mxcsr_host >> 7 & 0x18))   /* PE beside unmasked OE or UE: see fp_run() */
        mxcsr_ours = (mxcsr_ours & ~0x20u) | (mxcsr_host & 0x20);
    if (mxcsr_host != mxcsr_ours)
        differ(s, "mxcsr", 0, was->fx + FX_MXCSR, host->fx + FX_MXCSR, ours->fx + FX_MXCSR, 4);
    if (memcmp(host->fx, ours->fx, 5))
        differ(s, "fcw/fsw/ftw", 0, was->fx, host->fx, ours->fx, 5);
    for (unsigned n = 0; n < 8; n++)
        if (memcmp(host->fx + FX_ST + 16 * n, ours->fx + FX_ST + 16 * n, 10) || (s->len && n < 2))
            differ(s, "st", n, was->fx + FX_ST + 16 * n, host->fx + FX_ST + 16 * n, ours->fx + FX_ST + 16 * n, 10);
    for (unsigned n = 0; n < NATIVE_DATA_SIZE; n += 32)
        if (memcmp(mem_host + n, native_data + n, 32))
            differ(s, "mem+", n, mem_was + n, mem_host + n, native_data + n, 32);
    if (!s->len) {
        g_string_free(s, TRUE);
        return NULL;
    }
    return s;
}

static char *describe(const struct x86_insn *i, bool code32)
{
    g_autofree char *text = guest_x86_64.disassemble ? guest_x86_64.disassemble(native_code + 64, i->len, i->pc, test_mode(code32)) : NULL;
    GString *s = g_string_new(NULL);

    for (unsigned n = 0; n < i->len; n++)
        g_string_append_printf(s, "%02x ", native_code[64 + n]);
    g_string_append_printf(s, "%s", text ? text : i->row->mnemonic);
    return g_string_free(s, FALSE);
}

/* 16-bit double shifts by more than 16 (SDM vol. 2, SHLD). */
static bool undefined_result(const struct x86_insn *i, const struct x86_image *was)
{
    uint64_t count = i->op[2].kind == XO_IMM ? (uint64_t)i->imm : was->regs[R_RCX];

    return i->map == 1 && (i->opcode & 0xf6) == 0xa4 && i->opsize == 2 && (count & 31) > 16;
}

/* BT of a bit string may read as much around the bit as it likes (the processor a byte, Rhea the operand size). ENTER
 * touches the new top of the stack, where this process may have something. */
static bool reads_elsewhere(const struct x86_row *row)
{
    return g_str_has_prefix(row->mnemonic, "bt") || !strcmp(row->mnemonic, "enter");
}

/* One case; false: it could not be made. */
static bool run_case(GRand *rnd, bool code32, const struct x86_row *row, bool *failed)
{
    static uint8_t before[NATIVE_DATA_SIZE], after[NATIVE_DATA_SIZE];
    struct x86_insn insn;
    struct x86_image was, host, ours;

    if (!generate(rnd, code32, row, &insn, &was))
        return false;
    memcpy(before, native_data, NATIVE_DATA_SIZE);
    host = was;
    native_run(insn.len, code32, &host);
    memcpy(after, native_data, NATIVE_DATA_SIZE);
    if (undefined_result(&insn, &was))
        return true;
    if (host.fx[FX_MXCSR + 2])  /* AMD's MXCSR.MM, which no model of ours has */
        return true;
    for (enum way how = WRITTEN; how < WAYS && !*failed; how++) {
        g_autofree char *why = NULL, *text = NULL;
        GString *s;

        memcpy(native_data, before, NATIVE_DATA_SIZE);
        ours = was;
        why = rhea_run(&insn, code32, &ours, how);
        if (!why && host.trap < 0 && ours.trap == X_PF && reads_elsewhere(row))
            break;
        s = why ? g_string_new(why) : compare(&insn, code32, &was, &host, &ours, before, after);
        if (!s)
            continue;
        text = describe(&insn, code32);
        g_test_message("%s (%s)\n%s", text, way_name[how], s->str);
        if (g_getenv("VERBOSE")) {
            g_autofree char *p = ir_print(ir);
            g_autofree char *h = codegen_disassemble(host_region, host_region_size, (uintptr_t)host_region);
            g_test_message("%s\n%s", p, how == HOST_CODE ? h : "");
        }
        g_string_free(s, TRUE);
        *failed = true;
    }
    return true;
}

enum group { INTEGER, X87, VECTOR, CODE32 = 4 };

static enum group group_of(const struct x86_row *row)
{
    if (!row->vex && !row->map && row->opcode >= 0xd8 && row->opcode <= 0xdf)
        return X87;
    for (unsigned n = 0; n < 4; n++)
        switch (row->operands[n].am) {
        case AM_V: case AM_W: case AM_U: case AM_H: case AM_L: case AM_P: case AM_Q: case AM_N: return VECTOR;
        default: break;
        }
    return row->map == 1 && (row->opcode == 0x77 || (row->opcode == 0xae && (row->ext == 2 || row->ext == 3))) ? VECTOR
                                                                                                              : INTEGER;
}

static void test_rows(gconstpointer data)
{
    unsigned what = GPOINTER_TO_UINT(data);
    bool code32 = what & CODE32;
    const char *only = g_getenv("ROW"), *seed = g_getenv("RHEA_TEST_SEED"), *cases = g_getenv("CASES");
    unsigned per_row = cases ? (unsigned)atoi(cases) : g_getenv("SOAK") ? 5000 : 100, bad = 0, rows = 0, total = 0;
    g_autoptr(GRand) rnd = g_rand_new_with_seed(seed ? (guint32)strtoul(seed, NULL, 0) : 42);

    for (unsigned n = 0; n < x86_row_count; n++) {
        const struct x86_row *row = &x86_rows[n];
        bool failed = false;
        unsigned done = 0;

        if ((only && !g_str_has_prefix(row->mnemonic, only)) || group_of(row) != (what & 3) ||
            !generate_can(row, code32))
            continue;
        rows++;
        for (unsigned tries = 0; done < per_row && tries < 20 * per_row && !failed; tries++)
            done += run_case(rnd, code32, row, &failed);
        if (!done) {
            g_test_message("%s (map %u opcode %02x): no case could be made", row->mnemonic, row->map, row->opcode);
            failed = true;
        }
        total += done;
        bad += failed;
    }
    g_test_message("%u cases of %u rows, %u rows differ", total, rows, bad);
    g_assert_cmpuint(bad, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    native_init();
    cpu_create();
    host_create();
    g_test_add_data_func("/isa/x86/native/integer", GINT_TO_POINTER(INTEGER), test_rows);
    g_test_add_data_func("/isa/x86/native/x87", GINT_TO_POINTER(X87), test_rows);
    g_test_add_data_func("/isa/x86/native/vector", GINT_TO_POINTER(VECTOR), test_rows);
    g_test_add_data_func("/isa/x86/native32/integer", GINT_TO_POINTER(CODE32 | INTEGER), test_rows);
    g_test_add_data_func("/isa/x86/native32/x87", GINT_TO_POINTER(CODE32 | X87), test_rows);
    g_test_add_data_func("/isa/x86/native32/vector", GINT_TO_POINTER(CODE32 | VECTOR), test_rows);
    return g_test_run();
}
