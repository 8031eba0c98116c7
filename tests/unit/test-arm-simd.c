/* Arm floating-point state, and what tests/isa can't ask of the oracle: Neon's standard FPSCR, its unfused steps, corners by
 * hand from the pseudocode of DDI 0487 J1.3.3. */
#include <glib.h>
#include <string.h>
#include "guest/arm/simd_ops.h"

enum { IOC = 1, DZC = 2, OFC = 4, UFC = 8, IXC = 16, IDC = 128, QC = 1 << 27 };

static struct arm_cpu *cpu_new(uint32_t fpcr)
{
    struct arm_cpu *c = g_malloc0(sizeof(*c));

    memset(&c->features, 0xff, sizeof(c->features));
    arm_set_fpcr(c, fpcr);
    return c;
}

static uint64_t two(struct arm_cpu *c, uint32_t desc, uint64_t a, uint64_t b)
{
    uint64_t n[2] = { a, 0 }, m[2] = { b, 0 }, r[2] = { 0 };

    arm_fp2(c, (uint8_t *)r, desc, (uint8_t *)n, (uint8_t *)m);
    return r[0];
}

static void test_control_sets_the_host_and_software(void)
{
    static const struct { uint32_t rmode, mxcsr; enum float_round soft; } modes[] = {
        { 0, 0x1f80, FLOAT_ROUND_NEAREST_EVEN }, { 1, 0x5f80, FLOAT_ROUND_UP }, { 2, 0x3f80, FLOAT_ROUND_DOWN },
        { 3, 0x7f80, FLOAT_ROUND_TO_ZERO },
    };

    for (unsigned n = 0; n < G_N_ELEMENTS(modes); n++) {
        struct arm_cpu *c = cpu_new(modes[n].rmode << 22);

        g_assert_cmphex(c->cpu.fp_control, ==, modes[n].mxcsr);
        g_assert_cmpint(c->fp_status.rounding, ==, modes[n].soft);
        g_free(c);
    }
}

static void test_status_is_gathered_from_everywhere_and_cleared(void)
{
    struct arm_cpu *c = cpu_new(0);

    c->cpu.fp_control |= 0x24;          /* PE, ZE */
    c->fp_status.flags = FLOAT_OVERFLOW | FLOAT_INPUT_DENORMAL_FLUSHED;
    c->qc[1] = 1;
    c->fpsr = UFC;
    g_assert_cmphex(arm_fpsr(c), ==, (uint32_t)(IXC | DZC | OFC | IDC | UFC) | QC);
    arm_set_fpsr(c, IOC);
    g_assert_cmphex(arm_fpsr(c), ==, IOC);
    g_assert_cmphex(c->cpu.fp_control & 0x3f, ==, 0);
    g_free(c);
}

static void test_fz16_needs_half_precision(void)
{
    struct arm_cpu *c = cpu_new(0);

    arm_set_fpcr(c, 1 << 19);
    g_assert_cmphex(c->fpcr, ==, 1 << 19);
    memset(&c->features, 0, sizeof(c->features));
    arm_set_fpcr(c, 1 << 19);
    g_assert_cmphex(c->fpcr, ==, 0);
    g_free(c);
}

/* Denormals are zero whatever FPCR.FZ says, and the default NaN replaces others. */
static void test_standard_status_flushes_and_has_default_nans(void)
{
    struct arm_cpu *c = cpu_new(0);
    uint32_t desc = SIMD_DESC(FP_ADD, 2, 0, 0) | SIMD_STANDARD;

    g_assert_cmphex(two(c, desc, 0x00000001, 0x80000001), ==, 0);
    g_assert_cmphex(arm_fpsr(c), ==, IDC);
    g_assert_cmphex(two(c, desc, 0xffc12345, 0x3f800000), ==, 0x7fc00000);
    g_assert_cmphex(two(c, SIMD_DESC(FP_ADD, 2, 0, 0), 0xffc12345, 0x3f800000), ==, 0xffc12345);
    g_free(c);
}

static void test_steps(void)
{
    struct arm_cpu *c = cpu_new(0);
    uint64_t inf = 0x7f800000, two_s = 0x40000000, one_and_half = 0x3fc00000;

    g_assert_cmphex(two(c, SIMD_DESC(FP_RECPS, 2, 0, 0), inf, 0), ==, two_s);
    g_assert_cmphex(two(c, SIMD_DESC(FP_RSQRTS, 2, 0, 0), 0x80000000, inf), ==, one_and_half);
    g_assert_cmphex(two(c, SIMD_DESC(FP_RECPS_A32, 2, 0, 0) | SIMD_STANDARD, inf, 0), ==, two_s);
    g_assert_cmphex(arm_fpsr(c), ==, 0);
    /* 2 - (1 + 2^-23) (1 - 2^-23) = 1 + 2^-46, rounded once */
    g_assert_cmphex(two(c, SIMD_DESC(FP_RECPS, 2, 0, 0), 0x3f800001, 0x3f7ffffe), ==, 0x3f800000);
    g_assert_cmphex(arm_fpsr(c), ==, IXC);
    g_free(c);
}

/* The estimates' published corners: of 1, of powers of two, of what is beyond the range. */
static void test_estimates(void)
{
    struct arm_cpu *c = cpu_new(0);
    uint64_t n[2] = { 0x3f800000, 0 }, r[2] = { 0 };

    arm_fp1(c, (uint8_t *)r, SIMD_DESC(FP_RECPE, 2, 0, 0), (uint8_t *)n);
    g_assert_cmphex(r[0], ==, 0x3f7f8000);
    arm_fp1(c, (uint8_t *)r, SIMD_DESC(FP_RSQRTE, 2, 0, 0), (uint8_t *)n);
    g_assert_cmphex(r[0], ==, 0x3f7f8000);
    n[0] = 0x00100000;                  /* 2^-129 */
    arm_fp1(c, (uint8_t *)r, SIMD_DESC(FP_RECPE, 2, 0, 0), (uint8_t *)n);
    g_assert_cmphex(r[0], ==, 0x7f800000);
    g_assert_cmphex(arm_fpsr(c), ==, OFC | IXC);
    g_free(c);
}

static void test_javascript_conversion_wraps(void)
{
    static const struct { uint64_t in, out; uint32_t flags; } cases[] = {
        { UINT64_C(0x3ff0000000000000), 1 | UINT64_C(1) << 32, 0 },             /* 1: exact */
        { UINT64_C(0x8000000000000000), 0, 0 },                                 /* -0 is not */
        { UINT64_C(0x41f0000000100000), 1, IOC },                               /* 2^32 + 1 */
        { UINT64_C(0xc1e0000000200000), 0x7fffffff, IOC },                      /* -2^31 - 1 */
        { UINT64_C(0x3fe0000000000000), 0, IXC },
        { UINT64_C(0x7ff0000000000000), 0, IOC }, { UINT64_C(0x7ff8000000000000), 0, IOC },
    };

    for (unsigned n = 0; n < G_N_ELEMENTS(cases); n++) {
        struct arm_cpu *c = cpu_new(0);

        g_assert_cmphex(arm_fp_to_int(c, SIMD_DESC(FP_JCVT, 3, 0, 0), cases[n].in), ==, cases[n].out);
        g_assert_cmphex(arm_fpsr(c), ==, cases[n].flags);
        g_free(c);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/arm/fp/control_sets_the_host_and_software", test_control_sets_the_host_and_software);
    g_test_add_func("/arm/fp/status_is_gathered_from_everywhere_and_cleared", test_status_is_gathered_from_everywhere_and_cleared);
    g_test_add_func("/arm/fp/fz16_needs_half_precision", test_fz16_needs_half_precision);
    g_test_add_func("/arm/fp/standard_status_flushes_and_has_default_nans", test_standard_status_flushes_and_has_default_nans);
    g_test_add_func("/arm/fp/steps", test_steps);
    g_test_add_func("/arm/fp/estimates", test_estimates);
    g_test_add_func("/arm/fp/javascript_conversion_wraps", test_javascript_conversion_wraps);
    return g_test_run();
}
