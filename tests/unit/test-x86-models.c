/* -cpu of x86 guests: every model, features by all their names, refusals with a hint, nothing announced that the
 * translator lacks; CPUID of the result. */
#include <glib.h>
#include <string.h>
#include "../../src/guest/x86/cpuid.h"

static struct x86_cpu *cpu_of(const char *spec)
{
    struct x86_cpu *c = g_malloc0(sizeof(*c));
    struct error err = ERROR_INIT;

    c->cpu.guest = &guest_x86_64;
    g_assert_true(guest_x86_64.cpu_init(&c->cpu, NULL, spec, &err));
    return c;
}

static void cpu_done(struct x86_cpu *c)
{
    guest_x86_64.cpu_free(&c->cpu);
    g_free(c);
}

static void refused(const char *spec, const char *hint)
{
    struct x86_identity id;
    struct error err = ERROR_INIT;

    g_assert_false(x86_identity_parse(&id, spec, &err));
    g_assert_nonnull(err.msg);
    if (hint)
        g_assert_nonnull(strstr(err.hint, hint));
    error_clear(&err);
}

static void test_every_model(void)
{
    unsigned models, features;
    const struct cpu_model *m = guest_x86_64.models(&models);
    const struct cpu_feature *f = guest_x86_64.features(&features);

    g_assert_cmpuint(models, >, 20);
    for (unsigned n = 0; n < models; n++) {
        struct x86_cpu *c = cpu_of(m[n].name);

        for (unsigned k = 0; k < features; k++)
            if (!f[k].tcg)
                g_assert_false(c->features[f[k].word] >> f[k].bit & 1);
        cpu_done(c);
    }
}

/* CPUID 80000008H.EAX 7:0, which paging's reserved bits follow. */
static void phys_bits(const char *spec, unsigned bits)
{
    struct x86_cpu *c = cpu_of(spec);
    uint32_t out[4];

    x86_cpuid(c, 0x80000008, 0, out);
    if (x86_has(c->features, XF_LM))
        g_assert_cmpuint(out[0] & 0xff, ==, bits);
    g_assert_cmphex(c->phys_mask, ==, (UINT64_C(1) << bits) - 1);
    cpu_done(c);
}

static void test_phys_bits(void)
{
    phys_bits("qemu64", 40);
    phys_bits("Haswell,phys-bits=46", 46);
    phys_bits("max,phys-bits=52", 52);
    phys_bits("max,phys-bits=0", 40);
    phys_bits("max,host-phys-bits=on,host-phys-bits-limit=32", 32);
    phys_bits("qemu32", 36);
    phys_bits("pentium", 32);
    refused("max,phys-bits=53", NULL);
    refused("max,phys-bits=31", NULL);
    refused("max,phys-bits=many", NULL);
}

static void test_features(void)
{
    struct x86_cpu *c = cpu_of("qemu64,+avx,+xsave,-sse3,sse4.1=on,sse4_2=on,aes,pni=off,lahf_lm=off,check=off");

    g_assert_true(x86_has(c->features, XF_AVX));
    g_assert_true(x86_has(c->features, XF_SSE4_1));
    g_assert_true(x86_has(c->features, XF_SSE4_2));
    g_assert_true(x86_has(c->features, XF_AES));
    g_assert_false(x86_has(c->features, XF_SSE3));
    g_assert_false(x86_has(c->features, XF_LAHF_LM));
    cpu_done(c);
    c = cpu_of("Haswell,-xsave");       /* takes what needs it along */
    g_assert_false(x86_has(c->features, XF_AVX2));
    cpu_done(c);
    c = cpu_of("Haswell-v4");
    g_assert_true(x86_has(c->features, XF_AVX2));
    cpu_done(c);
}

static void test_refusals(void)
{
    refused("Haswel", "Haswell");
    refused("qemu64,+avxx", "avx");
    refused("qemu64,sse4.1=perhaps", NULL);
    refused("qemu64,vendor=short", NULL);
    refused("qemu64,vendor", NULL);
    refused("qemu64,family", NULL);
    refused("qemu64,+avx512f,enforce", NULL);
    refused("qemu64,level=many", NULL);
}

static void test_cpuid(void)
{
    struct x86_cpu *c = cpu_of("EPYC");
    uint32_t r[4];

    x86_cpuid(c, 0, 0, r);
    g_assert_cmpuint(r[0], ==, 0xd);
    g_assert_true(!memcmp(&r[1], "Auth", 4) && !memcmp(&r[3], "enti", 4) && !memcmp(&r[2], "cAMD", 4));
    x86_cpuid(c, 1, 0, r);
    g_assert_cmpuint(r[0], ==, 0x00800f12);
    x86_cpuid(c, 0xd, 0, r);
    g_assert_cmpuint(r[0], ==, 7);
    g_assert_cmpuint(r[2], ==, 832);
    x86_cpuid(c, 0xd, 2, r);
    g_assert_cmpuint(r[0], ==, 256);
    g_assert_cmpuint(r[1], ==, 576);
    x86_cpuid(c, 0x80000008, 0, r);
    g_assert_cmpuint(r[0], ==, 48 << 8 | 40);
    cpu_done(c);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x86/models/phys-bits", test_phys_bits);
    g_test_add_func("/x86/models/every", test_every_model);
    g_test_add_func("/x86/models/features", test_features);
    g_test_add_func("/x86/models/refusals", test_refusals);
    g_test_add_func("/x86/models/cpuid", test_cpuid);
    return g_test_run();
}
