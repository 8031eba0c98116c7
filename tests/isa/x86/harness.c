/* See harness.h. */
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <xmmintrin.h>
#include "harness.h"
#include "rhea/guest/guest.h"
#include "rhea/interp/interp.h"
#include "rhea/jit/codegen.h"
#include "rhea/jit/jit.h"

const char *const way_name[WAYS] = { "interpreted", "interpreted after the passes", "host code", "host code, direct memory" };

static struct guest test_guest;
static struct tlb_entry tlb[256];
static struct x86_cpu *cpu;
static struct ir *ir;
static struct ir_analysis *analysis;

/* ---- host code */

enum { CODE_SIZE = 1 << 20 };
static uint8_t *host_code, *host_region;
static size_t host_region_size;
static struct codegen *codegen[3];      /* by enum codegen_memory: soft TLB; of 32-bit and 64-bit code, direct */
static struct code_out made;
static struct codegen_stubs stubs;
static struct jump_entry jump_cache[1 << JUMP_CACHE_BITS];

static void host_create(void)
{
    struct code_out out = { 0 };

    host_code = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(host_code != MAP_FAILED);
    codegen[0] = codegen_new(MEMORY_TLB, &guest_x86_64);
    codegen[1] = codegen_new(MEMORY_DIRECT_32, &guest_x86_64);         /* GS has no base in this process */
    codegen[2] = codegen_new(MEMORY_FLAT, &guest_x86_64);
    out.rw = host_code;
    out.limit = host_code + CODE_SIZE;
    codegen_make_stubs(&guest_x86_64, &out, &stubs);
    host_region = host_code + ((out.size + 63) & ~(size_t)63);
    jump_cache[0].pc = 1;               /* the others hold 0, which hashes to 0 */
}

static bool test_translate(struct cpu *c, uint64_t va, enum mmu_access access, unsigned mmu, bool probe,
                           struct mmu_result *out);

static bool host_run(struct cpu *c, const struct ir *region, const struct ir_analysis *an)
{
    struct code_out out = { .rw = host_region, .limit = host_code + CODE_SIZE, .first_exit = JIT_EXIT_FIRST };
    uint64_t left;

    if (!codegen_compile(codegen[!region->fixed_pc ? 0 : region->wrap_32 ? 1 : 2], &stubs, region, an, &out))
        return false;
    made = out;
    host_region_size = out.size;
    c->jump_cache = jump_cache;
    c->jump_mask = jump_mask(JUMP_CACHE_BITS);
    left = stubs.enter(c, host_region);
    if (left >= JIT_EXIT_FIRST)
        c->pc = c->pc_page + (uint64_t)region->exits[left - JIT_EXIT_FIRST].target;
    return true;
}

/* An access of host code that the host refused. */
static bool host_fault(int signal, void *context)
{
    struct code_fault f;

    if ((signal != SIGSEGV && signal != SIGBUS) || codegen_context_pc(context) - (uintptr_t)host_region >= host_region_size ||
        !codegen_fault(&cpu->cpu, context, host_region, host_region + made.faults, made.nfaults, &f))
        return false;
    test_translate(&cpu->cpu, f.va, f.write ? ACCESS_WRITE : ACCESS_READ, 0, false, NULL);
    codegen_leave(&stubs, context, JIT_LEFT_LOOP);
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
    tlb[page >> CPU_PAGE_BITS & 255] = (struct tlb_entry){ page, page, TLB_INVALID, (uintptr_t)native_mirror - page };
    for (unsigned n = 0; n < CPU_MMU_MODES; n++)
        cpu->cpu.tlb_view[n] = (struct tlb_view){ 255 << 5, tlb };
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

static bool no_next_page(struct code_fetch *f) { return false; }

/* Runs the region at ir; false: the back end refuses it. */
static bool run_anyhow(enum way how)
{
    sigjmp_buf out;
    volatile uint32_t mxcsr = _mm_getcsr();

    cpu->cpu.loop_exit = &out;
    if (!sigsetjmp(out, 0)) {
        if (how >= HOST_CODE)
            return host_run(&cpu->cpu, ir, analysis);
        if (how == OPTIMIZED)
            interp_run_optimized(&cpu->cpu, ir, analysis);
        else
            interp_run(&cpu->cpu, ir);
    } else if (how >= HOST_CODE) {      /* out of host code by way of C, as the run loop does it */
        cpu->cpu.fp_control |= _mm_getcsr() & 0x3f;
        _mm_setcsr(mxcsr);
    }
    return true;
}

static bool run_region(enum way how)
{
    bool done;

    cpu->cpu.host_fpu = how == HOST_DIRECT ? codegen_host_fpu() : NULL;
    x86_fpu_to_host(&cpu->cpu);
    done = run_anyhow(how);
    test_guest.fpu_home(&cpu->cpu);
    return done;
}

char *harness_run(const uint64_t *pc, unsigned n, bool code32, struct x86_image *img, enum way how)
{
    char *why;

    img->rip = pc[0];
    cpu_from_image(img);
    /* As written, the halves of vector registers stay apart. */
    test_guest.emit_scan = how == WRITTEN ? NULL : guest_x86_64.emit_scan;
    for (unsigned at = 0; at < n && cpu->cpu.exception < 0;) {
        struct code_fetch f = { .page = { native_code, NULL }, .page_va = (uintptr_t)native_code, .first_pc = pc[at],
                                .next_page = no_next_page };
        struct jit_region_info info;
        uint64_t mode = test_mode(code32) | ((cpu->mxcsr & 0x1f80) != 0x1f80 ? MODE_FPEXC : 0);

        ir->fixed_pc = ir->host_x87 = how == HOST_DIRECT;
        ir->wrap_32 = how == HOST_DIRECT && code32;
        if (!region_build(ir, &test_guest, &f, pc[at], mode, n - at, NULL, &info))
            return g_strdup("the region can't be built");
        if (!ir_validate(ir, &why))
            return why;
        if (how != WRITTEN)
            ir_optimize(ir, analysis);
        if (!run_region(how))
            return g_strdup("the back end refuses it");
        for (at = 0; at < n && pc[at] != cpu->cpu.pc; at++) /* a region may end early: where MXCSR changes, say */
            ;
        cpu->cpu.pc_page = cpu->cpu.pc & ~(uint64_t)(CPU_PAGE_SIZE - 1);
    }
    image_from_cpu(img);
    return NULL;
}

char *harness_dump(enum way how)
{
    g_autofree char *p = ir_print(ir);
    g_autofree char *h = how >= HOST_CODE ? codegen_disassemble(host_region, host_region_size, (uintptr_t)host_region) : NULL;

    return g_strdup_printf("%s\n%s", p, h ? h : "");
}

void harness_init(void)
{
    native_init();
    native_signal = host_fault;
    cpu_create();
    host_create();
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

GString *harness_compare(uint64_t pc, bool code32, uint32_t undefined, const struct x86_image *was,
                         const struct x86_image *host, const struct x86_image *ours, const uint8_t *mem_was,
                         const uint8_t *mem_host)
{
    uint64_t flags = EF_ARITH & ~(uint64_t)undefined;
    GString *s = g_string_new(NULL);
    uint32_t mxcsr_host, mxcsr_ours;

    /* The TLB does not know that a non-canonical address is of the stack; and an access across 4 GiB is not held against
     * the limit of a flat segment, but wraps. */
    if (host->trap != ours->trap && !(host->trap == X_SS && ours->trap == X_GP) &&
        !(code32 && (host->trap == X_SS || host->trap == X_GP) && ours->trap == X_PF))
        g_string_append_printf(s, "  trap host %d ours %d\n", host->trap, ours->trap);
    if (host->rip != ours->rip)
        g_string_append_printf(s, "  rip host +%d ours +%d\n", (int)(host->rip - pc), (int)(ours->rip - pc));
    for (unsigned n = 0; n < 16; n++) {
        if (code32 ? n < 8 && (uint32_t)host->regs[n] != (uint32_t)ours->regs[n] : host->regs[n] != ours->regs[n])
            differ(s, "r", n, &was->regs[n], &host->regs[n], &ours->regs[n], 8);
        if (memcmp(host->ymm[n], ours->ymm[n], 32))
            differ(s, "ymm", n, was->ymm[n], host->ymm[n], ours->ymm[n], 32);
    }
    if ((host->rflags ^ ours->rflags) & flags)
        g_string_append_printf(s, "  flags were %#x host %#x ours %#x\n", (unsigned)was->rflags & EF_ARITH,
                               (unsigned)(host->rflags & flags), (unsigned)(ours->rflags & flags));
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
