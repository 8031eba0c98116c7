/* Random regions, run three ways from equal states: as the front end might have written them without the builder's
 * folding, as the builder made them, and after the passes (with dead ops left out and PUTs sunk, as a back end does).
 * All must end alike, also where the guest faults: same registers, memory, pc, fault, exit and count.
 * RHEA_TEST_SEED=N starts elsewhere, SOAK=1 runs many more; a failure prints the seed and the region. */
#include <glib.h>
#include <stdlib.h>
#include "ir-random.h"

struct regions {
    struct ir *raw, *built, *optimized;
    struct ir_analysis *an;
};

static struct interp_result run_plain(struct cpu *cpu, const struct ir *ir, void *opaque)
{
    return interp_run(cpu, ir);
}

static struct interp_result run_optimized(struct cpu *cpu, const struct ir *ir, void *opaque)
{
    return interp_run_optimized(cpu, ir, opaque);
}

static void validate(const struct ir *ir, const char *what, uint64_t seed)
{
    g_autofree char *why = NULL;

    if (ir_validate(ir, &why))
        return;
    g_autofree char *text = ir_print(ir);
    g_error("seed %" G_GUINT64_FORMAT ", %s: %s\n%s", seed, what, why, text);
}

static void compare(uint64_t seed, uint64_t state, uint64_t slide, const struct ir *a, toy_run_fn *run_a,
                    const struct ir *b, toy_run_fn *run_b, struct ir_analysis *an, const char *what)
{
    struct toy_cpu *ca = toy_cpu_new(state), *cb = toy_cpu_new(state);
    struct toy_result ra = toy_run(ca, a, slide, run_a, NULL), rb = toy_run(cb, b, slide, run_b, an);
    g_autofree char *why = NULL;

    if (!toy_same(ca, &ra, cb, &rb, &why)) {
        g_autofree char *ta = ir_print(a), *tb = an ? ir_print_optimized(b, an) : ir_print(b);

        g_error("seed %" G_GUINT64_FORMAT ", %s: %s\n%s\n%s", seed, what, why, ta, tb);
    }
    toy_cpu_free(ca);
    toy_cpu_free(cb);
}

/* Back ends free a value's register after last_use. */
static void check_last_uses(const struct ir *ir, const struct ir_analysis *an)
{
    for (unsigned i = 0; i < ir->nops; i++) {
        const struct ir_op *op = &ir->ops[i];

        if (an->use[i].flags & OPX_DEAD)
            continue;
        for (unsigned k = 0; k < ir_opinfo[op->op].operands; k++)
            if (op->arg[k])
                g_assert_cmpuint(an->last_use[op->arg[k]], >=, i);
        if (an->use[i].flags & OPX_SUNK) {
            g_assert_cmpuint(an->last_use[op->a], >=, an->use[i].sunk_end);
            g_assert_cmpuint(ir->ops[an->use[i].sunk_end].op, ==, IR_PUT);
            g_assert_cmpuint(ir->ops[an->use[i].sunk_end].aux, ==, op->aux);
        }
    }
}

static void check_seed(struct regions *r, struct ir_random options)
{
    uint64_t seed = options.seed;

    options.raw = true;
    ir_random_region(r->raw, &options);
    options.raw = false;
    ir_random_region(r->built, &options);
    ir_random_region(r->optimized, &options);
    r->optimized->wrap_32 = seed & 1;
    g_assert_false(r->raw->overflow);
    validate(r->raw, "raw", seed);
    validate(r->built, "built", seed);
    ir_optimize(r->optimized, r->an);
    validate(r->optimized, "optimized", seed);
    check_last_uses(r->optimized, r->an);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t state = seed * 3 + i, slide = i * 0x20000;

        compare(seed, state, slide, r->raw, run_plain, r->built, run_plain, NULL, "raw against built");
        compare(seed, state, slide, r->built, run_plain, r->optimized, run_plain, NULL, "built against rewritten");
        compare(seed, state, slide, r->built, run_plain, r->optimized, run_optimized, r->an, "built against optimized");
    }
    ir_optimize(r->raw, r->an);         /* the passes' folding, which can't make constants */
    validate(r->raw, "raw optimized", seed);
    compare(seed, seed, 0, r->built, run_plain, r->raw, run_optimized, r->an, "built against raw optimized");
}

static void check_many(struct ir_random options)
{
    struct regions r = { ir_new(), ir_new(), ir_new(), ir_analysis_new() };
    const char *first = g_getenv("RHEA_TEST_SEED");
    unsigned count = g_getenv("SOAK") ? 200000 : 1500;

    options.seed = first ? strtoull(first, NULL, 0) : 1;
    for (unsigned i = 0; i < count; i++, options.seed++)
        check_seed(&r, options);
    ir_free(r.raw);
    ir_free(r.built);
    ir_free(r.optimized);
    ir_analysis_free(r.an);
}

static void test_faults(void) { check_many((struct ir_random){ .faults = true }); }
static void test_no_faults(void) { check_many((struct ir_random){ .faults = false }); }
static void test_integer_blocks(void) { check_many((struct ir_random){ .no_vectors = true, .no_helpers = true }); }
static void test_vectors(void) { check_many((struct ir_random){ .all_vops = true, .no_loops = true }); }
static void test_short(void) { check_many((struct ir_random){ .ninsns = 2, .faults = true }); }

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ir/random/faults", test_faults);
    g_test_add_func("/ir/random/no_faults", test_no_faults);
    g_test_add_func("/ir/random/integer", test_integer_blocks);
    g_test_add_func("/ir/random/vectors", test_vectors);
    g_test_add_func("/ir/random/short", test_short);
    return g_test_run();
}
