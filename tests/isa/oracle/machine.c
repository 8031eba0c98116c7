/* See machine.h. */
#include <glib.h>
#include <setjmp.h>
#include <string.h>
#include <sys/mman.h>
#include <xmmintrin.h>
#include "machine.h"
#include "rhea/interp/interp.h"
#include "rhea/jit/codegen.h"
#include "rhea/jit/jit.h"

const char *const way_name[WAYS] = { "interpreted", "interpreted after the passes", "host code" };

static const struct machine_arch *arch;
static struct guest test_guest;
static struct tlb_entry tlb[256];
static struct cpu *cpu;
static struct ir *ir;
static struct ir_analysis *analysis;
static uint8_t *data, *code;            /* pages: the data area, the case's page of code */
static uint64_t pristine[DATA_BYTES / 8];

/* ---- host code */

enum { HOST_CODE_SIZE = 1 << 20 };
static uint8_t *host_code, *host_region;
static size_t host_region_size;
static struct codegen *codegen;
static struct codegen_stubs stubs;
static struct jump_entry jump_cache[1 << JUMP_CACHE_BITS];

static void host_create(void)
{
    struct code_out out = { 0 };

    host_code = mmap(NULL, HOST_CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(host_code != MAP_FAILED);
    codegen = codegen_new(MEMORY_TLB, &test_guest);
    out.rw = host_code;
    out.limit = host_code + HOST_CODE_SIZE;
    codegen_make_stubs(&test_guest, &out, &stubs);
    host_region = host_code + ((out.size + 63) & ~(size_t)63);
    jump_cache[0].pc = 1;               /* the others hold 0, which hashes to 0 */
}

static bool host_run(void)
{
    struct code_out out = { .rw = host_region, .limit = host_code + HOST_CODE_SIZE, .first_exit = JIT_EXIT_FIRST };
    uint64_t left;

    if (!codegen_compile(codegen, &stubs, ir, analysis, &out))
        return false;
    host_region_size = out.size;
    cpu->jump_cache = cpu->jump_sides[0] = cpu->jump_sides[1] = jump_cache;
    cpu->jump_mask = jump_mask(JUMP_CACHE_BITS);
    left = stubs.enter(cpu, host_region);
    if (left >= JIT_EXIT_FIRST)
        cpu->pc = cpu->pc_page + (uint64_t)ir->exits[left - JIT_EXIT_FIRST].target;
    return true;
}

/* ---- the machine */

static void tlb_fill(uint64_t va, uint8_t *host, bool writable)
{
    uint64_t page = va & ~(uint64_t)(CPU_PAGE_SIZE - 1);

    tlb[page >> CPU_PAGE_BITS & 255] =
        (struct tlb_entry){ page, writable ? page : TLB_INVALID, TLB_INVALID, (uintptr_t)host - (uintptr_t)page };
}

/* All that is mapped is in the TLB already, but under tags. */
static bool test_translate(struct cpu *c, uint64_t va, enum mmu_access access, unsigned mmu, bool probe, struct mmu_result *out)
{
    if (!probe)
        arch->fault(c, va, access);
    return false;
}

static bool no_next_page(struct code_fetch *f) { return false; }

struct code_fetch machine_fetch(const struct case_request *c, unsigned place)
{
    uint64_t at = case_place(arch, place);

    memset(code, 0, CPU_PAGE_SIZE);
    memcpy(code + (at & (CPU_PAGE_SIZE - 1)), c->code, CASE_BYTES);
    return (struct code_fetch){ .cpu = cpu, .page = { code, NULL }, .page_va = at & ~(uint64_t)(CPU_PAGE_SIZE - 1),
                                .first_pc = at + CASE_START, .next_page = no_next_page };
}

struct cpu *machine_new(const struct machine_arch *a)
{
    arch = a;
    test_guest = *a->guest;
    test_guest.translate = test_translate;
    cpu = g_malloc0(test_guest.cpu_size + 64);
    cpu->guest = &test_guest;
    cpu->fp_control = 0x1f80;
    for (unsigned n = 0; n < CPU_MMU_MODES; n++)
        cpu->tlb_view[n] = (struct tlb_view){ 255 << 5, tlb };
    for (unsigned n = 0; n < DATA_BYTES / 8; n++)
        pristine[n] = data_pattern(n);
    data = mmap(NULL, DATA_BYTES + CPU_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(data != MAP_FAILED);
    code = data + DATA_BYTES;
    ir = ir_new();
    analysis = ir_analysis_new();
    host_create();
    return cpu;
}

/* ---- a case */

static void memory_prepare(const struct case_request *c, unsigned place)
{
    memcpy(data, pristine, DATA_BYTES);
    memcpy(data + WINDOW_OFFSET, c->state.window, WINDOW_BYTES);
    for (unsigned n = 0; n < 256; n++)
        tlb[n] = (struct tlb_entry){ TLB_INVALID, TLB_INVALID, TLB_INVALID, 0 };
    tlb_fill(arch->data_base, data, true);
    tlb_fill(arch->data_base + CPU_PAGE_SIZE, data + CPU_PAGE_SIZE, true);
    tlb_fill(case_place(arch, place), code, false);
}

static void memory_result(struct case_state *out)
{
    memcpy(out->window, data + WINDOW_OFFSET, WINDOW_BYTES);
    memcpy(data + WINDOW_OFFSET, (uint8_t *)pristine + WINDOW_OFFSET, WINDOW_BYTES);
    out->stray = 0;
    for (unsigned n = 0; n < DATA_BYTES / 8 && memcmp(data, pristine, DATA_BYTES); n++)
        if (memcmp(data + 8 * n, &pristine[n], 8)) {
            out->stray = 8 * n + 1;
            break;
        }
}

/* Runs the region at ir; false: the back end refuses it. */
static bool run_region(enum way how)
{
    sigjmp_buf out;

    _mm_setcsr(0x1f80);                 /* cpu_loop_exit() collects flags from there: not those of the tests' own arithmetic */
    cpu->loop_exit = &out;
    if (!sigsetjmp(out, 0)) {
        if (how == HOST_CODE)
            return host_run();
        if (how == OPTIMIZED)
            interp_run_optimized(cpu, ir, analysis);
        else
            interp_run(cpu, ir);
    }
    return true;
}

static char *run_regions(const struct case_request *c, unsigned place, enum way how)
{
    uint64_t start = case_place(arch, place);
    char *why;

    for (unsigned n = 0; cpu->exception < 0 && cpu->pc - start < CASE_BYTES; n++) {
        struct code_fetch f = machine_fetch(c, place);
        struct jit_region_info info;

        f.first_pc = cpu->pc;
        cpu->mode = test_guest.mode_bits(cpu);
        cpu->pc_page = cpu->pc & ~(uint64_t)(CPU_PAGE_SIZE - 1);
        test_guest.emit_scan = how == WRITTEN ? NULL : arch->guest->emit_scan;
        if (n == 64)
            return g_strdup("runs without an end");
        if (!region_build(ir, &test_guest, &f, cpu->pc, cpu->mode, CASE_WORDS, NULL, &info))
            return g_strdup("the region can't be built");
        if (!ir_validate(ir, &why))
            return why;
        if (how != WRITTEN)
            ir_optimize(ir, analysis);
        if (!run_region(how))
            return g_strdup("the back end refuses it");
    }
    return NULL;
}

char *machine_run(const struct case_request *c, unsigned place, enum way how, struct case_state *out)
{
    enum { SIG_SEGV = 11 };
    char *why;

    memory_prepare(c, place);
    cpu->exception = -1;
    cpu->pc = c->state.pc;
    arch->load(cpu, &c->state);
    why = run_regions(c, place, how);
    if (why)
        return why;
    memset(out, 0, sizeof(*out));
    arch->store(cpu, out);
    out->pc = cpu->pc;
    if (cpu->exception >= 0) {
        out->signal = arch->signal(cpu, &out->address);
    } else {                            /* a jump to somewhere else, where nothing is */
        out->signal = SIG_SEGV;
        out->address = cpu->pc;
    }
    memory_result(out);
    return NULL;
}

char *machine_dump(enum way how)
{
    g_autofree char *p = ir_print(ir);
    g_autofree char *h = how == HOST_CODE ? codegen_disassemble(host_region, host_region_size, (uintptr_t)host_region) : NULL;

    return g_strdup_printf("%s\n%s", p, h ? h : "");
}
