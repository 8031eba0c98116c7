/* Random regions, run by the interpreter and by the host code of the back end from equal states: both must end alike,
 * also where the guest faults. RHEA_TEST_SEED=N starts elsewhere, SOAK=1 runs many more; a failure prints the seed, the
 * region and its host code. The second half is user mode's: memory is reached directly, faults are the host's. */
#include <asm/prctl.h>
#include <glib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "ir-random.h"
#include "rhea/jit/codegen.h"
#include "rhea/jit/jit.h"

enum { CODE_SIZE = 1 << 20, LEFT_FAULT = 2, ARENA = 1 << 30 };

static struct jit_env {
    bool direct, wrap_32;
    uint8_t *arena;             /* direct: the guest's addresses from 0 on; the run's memory is copied to TOY_BASE */
    struct compiled *running;
    struct cpu *cpu;
    uint8_t *code, *regions;
    struct codegen *backend;
    struct codegen_stubs stubs;
    struct jump_entry *jump_cache;
} env;

struct compiled { const uint8_t *entry; size_t size; uint32_t faults, nfaults; };

/* As the soft MMU tells it: the first byte that cannot be accessed. */
static void host_fault(int sig, siginfo_t *info, void *context)
{
    const struct compiled *code = env.running;
    struct toy_cpu *c = (struct toy_cpu *)env.cpu;
    struct code_fault f;
    uint64_t end;

    g_assert_true(codegen_fault(env.cpu, context, code->entry, code->entry + code->faults, code->nfaults, &f));
    env.cpu->exception = 14;
    end = TOY_BASE + (TOY_PAGES - (f.write ? 2 : 1)) * (uint64_t)CPU_PAGE_SIZE;
    c->fault_va = f.va < end && f.va >= TOY_BASE ? end : f.va;
    c->fault_access = f.write ? ACCESS_WRITE : ACCESS_READ;
    codegen_leave(&env.stubs, context, LEFT_FAULT);
}

static void direct_init(void)
{
    struct sigaction a = { .sa_sigaction = host_fault, .sa_flags = SA_SIGINFO };

    env.direct = true;
    env.arena = mmap(NULL, ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert_true(env.arena != MAP_FAILED);
    g_assert_cmpint(syscall(SYS_arch_prctl, ARCH_SET_GS, env.arena), ==, 0);
    sigaction(SIGSEGV, &a, NULL);
}

static uint64_t enter_direct(struct cpu *cpu, struct compiled *code)
{
    uint8_t *memory = env.arena + TOY_BASE;
    struct toy_cpu *c = (struct toy_cpu *)cpu;

    mprotect(memory, TOY_PAGES * CPU_PAGE_SIZE, PROT_READ | PROT_WRITE);
    memcpy(memory, c->memory, TOY_PAGES * CPU_PAGE_SIZE);
    mprotect(memory + (TOY_PAGES - 2) * CPU_PAGE_SIZE, CPU_PAGE_SIZE, PROT_READ);
    mprotect(memory + (TOY_PAGES - 1) * CPU_PAGE_SIZE, CPU_PAGE_SIZE, PROT_NONE);
    env.cpu = cpu;
    env.running = code;
    return env.stubs.enter(cpu, code->entry);
}

static void env_init(enum codegen_memory kind)
{
    struct code_out out = { 0 };

    env.code = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(env.code != MAP_FAILED);
    env.backend = codegen_new(kind, &guest_toy);
    out.rw = env.code;
    out.limit = env.code + CODE_SIZE;
    codegen_make_stubs(&guest_toy, &out, &env.stubs);
    env.regions = env.code + ((out.size + 63) & ~(size_t)63);
    env.jump_cache = g_new0(struct jump_entry, 1 << JUMP_CACHE_BITS);
    env.jump_cache[0].pc = 1;           /* the others hold 0, which hashes to 0 */
}

static struct interp_result run_host(struct cpu *cpu, const struct ir *ir, void *opaque)
{
    struct compiled *code = opaque;
    struct interp_result result = { .exit = -1, .kind = EXIT_TO_LOOP };
    uint64_t left;

    cpu->jump_cache = env.jump_cache;
    cpu->jump_mask = jump_mask(JUMP_CACHE_BITS);
    cpu->fp_control = 0x1f80;
    left = env.direct ? enter_direct(cpu, code) : env.stubs.enter(cpu, code->entry);
    if (left == LEFT_FAULT)
        cpu_loop_exit(cpu);
    if (left >= JIT_EXIT_FIRST) {
        const struct ir_exit *e = &ir->exits[left - JIT_EXIT_FIRST];

        result.kind = e->kind;
        cpu->pc = (env.direct ? ir->page : cpu->pc_page) + (uint64_t)e->target;
    } else if (left == JIT_LEFT_LOOKUP) {
        result.kind = EXIT_INDIRECT_JUMP;
    }
    cpu->pc_page = cpu->pc & ~(uint64_t)(CPU_PAGE_SIZE - 1);
    return result;
}

static struct interp_result run_plain(struct cpu *cpu, const struct ir *ir, void *opaque)
{
    return interp_run(cpu, ir);
}

static void compare(uint64_t seed, uint64_t state, uint64_t slide, uint32_t request, const struct ir *built,
                    const struct ir *ir, struct ir_analysis *an, struct compiled *code)
{
    struct toy_cpu *a = toy_cpu_new(state), *b = toy_cpu_new(state);
    struct toy_result ra, rb;
    g_autofree char *why = NULL;

    a->cpu.exit_request = b->cpu.exit_request = request;
    if (request) {                      /* only the host code looks at the entry: both stop before the first op */
        rb = toy_run(b, ir, slide, run_host, code);
        g_assert_cmpuint(b->cpu.pc, ==, ir->pc + slide);
        g_assert_cmpint(rb.kind, ==, EXIT_TO_LOOP);
        goto out;
    }
    ra = toy_run(a, built, slide, run_plain, NULL);
    rb = toy_run(b, ir, slide, run_host, code);
    if (env.direct)
        memcpy(b->memory, env.arena + TOY_BASE, (TOY_PAGES - 1) * CPU_PAGE_SIZE);
    rb.icount = ra.icount;              /* host code does not count */
    b->cpu.icount_left = a->cpu.icount_left;
    if (rb.kind == EXIT_INDIRECT_JUMP && ra.kind != EXIT_TO_LOOP)
        rb.kind = ra.kind;              /* left by the jump cache, which does not say */
    if (!toy_same(a, &ra, b, &rb, &why)) {
        g_autofree char *ops = ir_print_optimized(ir, an);
        g_autofree char *host = codegen_disassemble(code->entry, code->size, (uintptr_t)code->entry);

        g_printerr("%s\n%s\n", ops, host);
        g_error("seed %" G_GUINT64_FORMAT ": %s", seed, why);
    }
out:
    toy_cpu_free(a);
    toy_cpu_free(b);
}

static struct compiled compile(const struct ir *ir, const struct ir_analysis *an)
{
    struct code_out out = { .rw = env.regions, .limit = env.code + CODE_SIZE, .first_exit = JIT_EXIT_FIRST };

    if (!codegen_compile(env.backend, &env.stubs, ir, an, &out))
        return (struct compiled){ 0 };
    return (struct compiled){ env.regions, out.size, out.faults, out.nfaults };
}

static void check_many(struct ir_random options)
{
    struct ir *built = ir_new(), *optimized = ir_new();
    struct ir_analysis *an = ir_analysis_new();
    const char *first = g_getenv("RHEA_TEST_SEED"), *many = g_getenv("RHEA_TEST_COUNT");
    unsigned count = many ? strtoul(many, NULL, 0) : g_getenv("SOAK") ? 200000 : 1500, refused = 0;

    options.seed = first ? strtoull(first, NULL, 0) : 1;
    for (unsigned i = 0; i < count; i++, options.seed++) {
        struct compiled code;

        ir_random_region(built, &options);
        ir_random_region(optimized, &options);
        optimized->wrap_32 = env.wrap_32;
        ir_optimize(optimized, an);
        code = compile(optimized, an);
        if (!code.size) {
            refused++;
            continue;
        }
        if (options.seed % 16 == 0)
            compare(options.seed, options.seed, 0, CPU_EXIT_KICK, built, optimized, an, &code);
        for (unsigned k = 0; k < 3; k++)
            compare(options.seed, options.seed * 3 + k, env.direct ? 0 : k * 0x20000, 0, built, optimized, an, &code);
    }
    g_assert_cmpuint(refused * 100, <=, count);
    ir_free(built);
    ir_free(optimized);
    ir_analysis_free(an);
}

static void test_integer(void) { check_many((struct ir_random){ .no_vectors = true, .no_helpers = true }); }
static void test_straight(void) { check_many((struct ir_random){ .no_vectors = true, .no_loops = true }); }
static void test_faults(void) { check_many((struct ir_random){ .faults = true }); }
static void test_vectors(void) { check_many((struct ir_random){ .all_vops = true }); }
static void test_short(void) { check_many((struct ir_random){ .ninsns = 2, .faults = true }); }
static void test_long(void) { check_many((struct ir_random){ .ninsns = 60, .faults = true }); }

int main(int argc, char **argv)
{
    const char *direct = g_getenv("RHEA_TEST_MEMORY");     /* direct, direct32, or none */

    g_test_init(&argc, &argv, NULL);
    env_init(!direct ? MEMORY_TLB : strcmp(direct, "direct") ? MEMORY_DIRECT_32 : MEMORY_DIRECT);
    if (direct)
        direct_init();
    env.wrap_32 = direct && strcmp(direct, "direct");
    g_test_add_func("/jit/random/integer", test_integer);
    g_test_add_func("/jit/random/straight", test_straight);
    g_test_add_func("/jit/random/faults", test_faults);
    g_test_add_func("/jit/random/vectors", test_vectors);
    g_test_add_func("/jit/random/short", test_short);
    g_test_add_func("/jit/random/long", test_long);
    return g_test_run();
}
