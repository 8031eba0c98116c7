/* CPU models, their features, CPUID, and the text of -cpu. Intel SDM vol. 2, CPUID; AMD APM vol. 3, appendix E.
 *
 * A model is a row: identity, the levels of CPUID, and features on top of another model's. What this build does not
 * implement is never announced: a model asked for by name goes without it, with a warning once (an error with enforce). */
#include <string.h>
#include "rhea/base/options.h"
#include "rhea/vm/vm.h"
#include "system.h"

enum { TSC_KHZ = 1000000 };             /* the TSC counts virtual nanoseconds */

struct x86_model {
    const char *name, *summary;
    const struct x86_model *base;
    const char *vendor, *brand;
    uint8_t family, model, stepping;
    uint32_t level, xlevel;
    uint8_t phys_bits;
    uint16_t features[96];              /* added to the base's; ends with XF_NONE */
    uint16_t without[12];               /* taken from the base's */
};

static const char intel[] = "GenuineIntel", amd[] = "AuthenticAMD";

/* What every 64-bit processor has. */
#define BASE_486 XF_FPU, XF_DE, XF_PSE, XF_TSC, XF_MSR, XF_PAE, XF_MCE, XF_CX8, XF_APIC, XF_SEP, XF_PGE, XF_CMOV, XF_PAT, XF_MMX, XF_FXSR
#define BASE_64 BASE_486, XF_MTRR, XF_MCA, XF_PSE36, XF_CLFLUSH, XF_SSE, XF_SSE2, XF_SYSCALL, XF_NX, XF_LM

static const struct x86_model model_base = {
    .name = "base", .summary = "a CPU without features, to add to", .vendor = intel, .brand = "Rhea virtual CPU", .family = 6, .level = 1,
    .xlevel = 0x80000008 };
static const struct x86_model model_qemu32 = {
    .name = "qemu32", .summary = "a 32-bit virtual CPU", .vendor = intel, .brand = "QEMU Virtual CPU version 2.5+", .family = 6, .model = 6,
    .stepping = 3, .level = 4, .xlevel = 0x80000004, .features = { BASE_486, XF_SSE, XF_SSE2, XF_SSE3, XF_HYPERVISOR } };
static const struct x86_model model_qemu64 = {
    .name = "qemu64", .summary = "a plain 64-bit virtual CPU: runs anywhere", .vendor = amd, .brand = "QEMU Virtual CPU version 2.5+",
    .family = 15, .model = 107, .stepping = 1, .level = 13, .xlevel = 0x8000000a,
    .features = { BASE_64, XF_SSE3, XF_CX16, XF_LAHF_LM, XF_SVM, XF_HYPERVISOR } };
static const struct x86_model model_kvm64 = {
    .name = "kvm64", .summary = "the oldest 64-bit Intel-like CPU", .vendor = intel, .brand = "Common KVM processor", .family = 15,
    .model = 6, .stepping = 1, .level = 13, .xlevel = 0x80000008, .features = { BASE_64, XF_SSE3, XF_CX16, XF_HYPERVISOR } };
static const struct x86_model model_nehalem = {
    .name = "Nehalem", .summary = "Intel Core i7 9xx (Nehalem Core i7, 2008)", .vendor = intel, .brand = "Intel Core i7 9xx (Nehalem Class Core i7)",
    .family = 6, .model = 26, .stepping = 3, .level = 11, .xlevel = 0x80000008,
    .features = { BASE_64, XF_SSE3, XF_SSSE3, XF_CX16, XF_SSE4_1, XF_SSE4_2, XF_POPCNT, XF_LAHF_LM, XF_HYPERVISOR } };
static const struct x86_model model_westmere = {
    .name = "Westmere", .summary = "Westmere E56xx/L56xx/X56xx (2010)", .base = &model_nehalem, .vendor = intel,
    .brand = "Westmere E56xx/L56xx/X56xx (Nehalem-C)", .family = 6, .model = 44, .stepping = 1, .level = 11, .xlevel = 0x80000008,
    .features = { XF_AES, XF_PCLMULQDQ, XF_ARAT } };
static const struct x86_model model_sandybridge = {
    .name = "SandyBridge", .summary = "Intel Xeon E312xx (Sandy Bridge, 2011)", .base = &model_westmere, .vendor = intel,
    .brand = "Intel Xeon E312xx (Sandy Bridge)", .family = 6, .model = 42, .stepping = 1, .level = 13, .xlevel = 0x80000008,
    .features = { XF_AVX, XF_XSAVE, XF_TSC_DEADLINE, XF_X2APIC, XF_RDTSCP, XF_XSAVEOPT } };
static const struct x86_model model_ivybridge = {
    .name = "IvyBridge", .summary = "Intel Xeon E3-12xx v2 (Ivy Bridge, 2012)", .base = &model_sandybridge, .vendor = intel,
    .brand = "Intel Xeon E3-12xx v2 (Ivy Bridge)", .family = 6, .model = 58, .stepping = 9, .level = 13, .xlevel = 0x80000008,
    .features = { XF_F16C, XF_RDRAND, XF_FSGSBASE, XF_SMEP, XF_ERMS } };
static const struct x86_model model_haswell_notsx = {
    .name = "Haswell-noTSX", .summary = "Intel Core Processor (Haswell, no TSX, 2013)", .base = &model_ivybridge, .vendor = intel,
    .brand = "Intel Core Processor (Haswell, no TSX)", .family = 6, .model = 60, .stepping = 1, .level = 13, .xlevel = 0x80000008,
    .features = { XF_AVX2, XF_FMA, XF_BMI1, XF_BMI2, XF_ABM, XF_MOVBE, XF_INVPCID, XF_PCID } };
static const struct x86_model model_haswell = {
    .name = "Haswell", .summary = "Intel Core Processor (Haswell, 2013)", .base = &model_haswell_notsx, .vendor = intel,
    .brand = "Intel Core Processor (Haswell)", .family = 6, .model = 60, .stepping = 4, .level = 13, .xlevel = 0x80000008,
    .features = { XF_HLE, XF_RTM } };
static const struct x86_model model_broadwell = {
    .name = "Broadwell", .summary = "Intel Core Processor (Broadwell, 2014)", .base = &model_haswell, .vendor = intel,
    .brand = "Intel Core Processor (Broadwell)", .family = 6, .model = 61, .stepping = 2, .level = 13, .xlevel = 0x80000008,
    .features = { XF_RDSEED, XF_ADX, XF_SMAP, XF_3DNOWPREFETCH } };
static const struct x86_model model_skylake_client = {
    .name = "Skylake-Client", .summary = "Intel Core Processor (Skylake, 2015)", .base = &model_broadwell, .vendor = intel,
    .brand = "Intel Core Processor (Skylake)", .family = 6, .model = 94, .stepping = 3, .level = 13, .xlevel = 0x80000008,
    .features = { XF_XSAVEC, XF_XGETBV1 } };
static const struct x86_model model_skylake_server = {
    .name = "Skylake-Server", .summary = "Intel Xeon Processor (Skylake, 2017)", .base = &model_skylake_client, .vendor = intel,
    .brand = "Intel Xeon Processor (Skylake)", .family = 6, .model = 85, .stepping = 4, .level = 13, .xlevel = 0x80000008,
    .features = { XF_PDPE1GB, XF_CLWB, XF_CLFLUSHOPT, XF_PKU, XF_AVX512F, XF_AVX512DQ, XF_AVX512BW, XF_AVX512CD, XF_AVX512VL } };
static const struct x86_model model_cascadelake = {
    .name = "Cascadelake-Server", .summary = "Intel Xeon Processor (Cascade Lake, 2019)", .base = &model_skylake_server, .vendor = intel,
    .brand = "Intel Xeon Processor (Cascadelake)", .family = 6, .model = 85, .stepping = 6, .level = 13, .xlevel = 0x80000008,
    .features = { XF_SPEC_CTRL, XF_SSBD } };
static const struct x86_model model_epyc = {
    .name = "EPYC", .summary = "AMD EPYC Processor (2017)", .vendor = amd, .brand = "AMD EPYC Processor", .family = 23, .model = 1,
    .stepping = 2, .level = 13, .xlevel = 0x8000001e,
    .features = { BASE_64, XF_SSE3, XF_PCLMULQDQ, XF_SSSE3, XF_FMA, XF_CX16, XF_SSE4_1, XF_SSE4_2, XF_MOVBE, XF_POPCNT, XF_AES,
                  XF_XSAVE, XF_AVX, XF_F16C, XF_RDRAND, XF_HYPERVISOR, XF_MMXEXT, XF_FXSR_OPT, XF_PDPE1GB, XF_RDTSCP, XF_LAHF_LM,
                  XF_SVM, XF_CR8LEGACY, XF_ABM, XF_SSE4A, XF_MISALIGNSSE, XF_3DNOWPREFETCH, XF_OSVW, XF_TOPOEXT, XF_FSGSBASE,
                  XF_BMI1, XF_AVX2, XF_SMEP, XF_BMI2, XF_RDSEED, XF_ADX, XF_SMAP, XF_CLFLUSHOPT, XF_SHA, XF_XSAVEOPT, XF_XSAVEC,
                  XF_XGETBV1, XF_ARAT, XF_XSAVEERPTR } };
static const struct x86_model model_epyc_rome = {
    .name = "EPYC-Rome", .summary = "AMD EPYC-Rome Processor (2019)", .base = &model_epyc, .vendor = amd, .brand = "AMD EPYC-Rome Processor",
    .family = 23, .model = 49, .stepping = 0, .level = 13, .xlevel = 0x8000001e,
    .features = { XF_CLWB, XF_RDPID, XF_UMIP, XF_CLZERO, XF_WBNOINVD, XF_IBPB, XF_AMD_STIBP } };
/* All that is implemented; filled from features.def. */
static const struct x86_model model_max = {
    .name = "max", .summary = "every feature that this accelerator has", .vendor = amd, .brand = "Rhea CPU, all features", .family = 23,
    .model = 49, .stepping = 0, .level = 0x16, .xlevel = 0x8000001e };
static const struct x86_model model_host = {
    .name = "host", .summary = "as max: translated code has no host's model", .base = &model_max, .vendor = amd,
    .brand = "Rhea CPU, all features", .family = 23, .model = 49, .stepping = 0, .level = 0x16, .xlevel = 0x8000001e };

static const struct cpu_model models[] = {
#define MODEL(text, m) { .name = text, .data = &m }
    MODEL("qemu64", model_qemu64), MODEL("max", model_max), MODEL("host", model_host), MODEL("base", model_base),
    MODEL("qemu32", model_qemu32), MODEL("kvm64", model_kvm64), MODEL("Nehalem", model_nehalem), MODEL("Westmere", model_westmere),
    MODEL("SandyBridge", model_sandybridge), MODEL("IvyBridge", model_ivybridge), MODEL("Haswell-noTSX", model_haswell_notsx),
    MODEL("Haswell", model_haswell), MODEL("Broadwell", model_broadwell), MODEL("Skylake-Client", model_skylake_client),
    MODEL("Skylake-Server", model_skylake_server), MODEL("Cascadelake-Server", model_cascadelake), MODEL("EPYC", model_epyc),
    MODEL("EPYC-Rome", model_epyc_rome),
#undef MODEL
};

static const struct cpu_feature feature_list[] = {
#define FEATURE(id, text, w, b, implemented) { .name = text, .word = w, .bit = b, .tcg = implemented },
#include "features.def"
#undef FEATURE
};

const struct cpu_model *x86_models(unsigned *count)
{
    *count = G_N_ELEMENTS(models);
    return models;
}

const struct cpu_feature *x86_feature_list(unsigned *count)
{
    *count = G_N_ELEMENTS(feature_list);
    return feature_list;
}

unsigned x86_phys_bits(const struct x86_cpu *c)
{
    return c->model && c->model->phys_bits ? c->model->phys_bits : 40;
}

/* ---- -cpu */
static void add_model_features(const struct x86_model *m, uint32_t *words)
{
    if (m->base)
        add_model_features(m->base, words);
    if (m == &model_max)
        for (unsigned i = 0; i < G_N_ELEMENTS(feature_list); i++)
            if (feature_list[i].tcg)
                words[feature_list[i].word] |= 1u << feature_list[i].bit;
    for (unsigned i = 0; i < G_N_ELEMENTS(m->features) && m->features[i]; i++)
        words[m->features[i] >> 5] |= 1u << (m->features[i] & 31);
    for (unsigned i = 0; i < G_N_ELEMENTS(m->without) && m->without[i]; i++)
        words[m->without[i] >> 5] &= ~(1u << (m->without[i] & 31));
}

/* Names are taken with '_' or '.' for '-', as older command lines have them. */
static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        bool sep_a = strchr("-_.", *a), sep_b = strchr("-_.", *b);

        if (sep_a != sep_b || (!sep_a && g_ascii_tolower(*a) != g_ascii_tolower(*b)))
            return false;
    }
    return !*a && !*b;
}

static const struct cpu_feature *feature_named(const char *name)
{
    static const struct { const char *alias, *name; } aliases[] = {
        { "sse3", "pni" }, { "sse4-1", "sse4.1" }, { "sse4-2", "sse4.2" }, { "i64", "lm" }, { "xd", "nx" }, { "ffxsr", "fxsr-opt" },
        { "lzcnt", "abm" }, { "sha", "sha-ni" }, { "hypervisor", "hypervisor" }, { "tsc-deadline-timer", "tsc-deadline" } };

    for (unsigned i = 0; i < G_N_ELEMENTS(aliases); i++)
        if (same_name(name, aliases[i].alias))
            name = aliases[i].name;
    for (unsigned i = 0; i < G_N_ELEMENTS(feature_list); i++)
        if (same_name(name, feature_list[i].name))
            return &feature_list[i];
    return NULL;
}

static bool unknown_feature(const char *name, struct error *err)
{
    const char *names[G_N_ELEMENTS(feature_list) + 1] = { NULL };
    const char *near;
    g_autofree char *hint = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(feature_list); i++)
        names[i] = feature_list[i].name;
    near = nearest_spelling(name, names);
    hint = near ? g_strdup_printf("did you mean %s? -cpu help lists them", near) : g_strdup("-cpu help lists them");
    return error_setf(err, ERR_GENERIC, hint, "-cpu: no property '%s'", name);
}

static const struct x86_model *model_named(const char *name, struct error *err)
{
    const char *names[G_N_ELEMENTS(models) + 1] = { NULL };
    g_autofree char *plain = g_strdup(name), *hint = NULL;
    char *version = g_strrstr(plain, "-v");
    const char *near;

    for (unsigned i = 0; i < G_N_ELEMENTS(models); i++) {
        if (!g_ascii_strcasecmp(name, models[i].name))
            return models[i].data;
        names[i] = models[i].name;
    }
    if (version && g_ascii_isdigit(version[2])) {       /* "Haswell-v4": versions differ in mitigations only */
        *version = '\0';
        for (unsigned i = 0; i < G_N_ELEMENTS(models); i++)
            if (!g_ascii_strcasecmp(plain, models[i].name))
                return models[i].data;
    }
    if (g_str_has_suffix(plain, "-IBRS"))
        return plain[strlen(plain) - 5] = '\0', model_named(plain, err);
    near = nearest_spelling(name, names);
    hint = near ? g_strdup_printf("did you mean %s? -cpu help lists them", near) : g_strdup("-cpu help lists them");
    error_setf(err, ERR_GENERIC, hint, "unable to find CPU model '%s'", name);
    return NULL;
}

struct cpu_text { bool enforce, check; };

/* Properties that are not single features: true when `key` is one. */
static bool other_property(struct cpu_text *p, const char *key, const char *value, bool *ok, struct error *err)
{
    static const char *const accepted[] = { "migratable", "kvm", "pmu", "l3-cache", "host-cache-info", "full-cpuid-auto-level",
                                            "tcg-cpuid", "x-migrate-smi-count", "kvm-no-adjvtime", "fill-mtrr-mask", "vmware-cpuid-freq" };

    *ok = true;
    if (same_name(key, "enforce"))
        return *ok = parse_bool(value, &p->enforce, err), true;
    if (same_name(key, "check"))
        return *ok = parse_bool(value, &p->check, err), true;
    for (unsigned i = 0; i < G_N_ELEMENTS(accepted); i++)
        if (same_name(key, accepted[i]))
            return true;
    if (g_str_has_prefix(key, "hv-") || g_str_has_prefix(key, "hv_"))
        return *ok = error_setf(err, ERR_GENERIC, "leave it out: Windows guests run without enlightenments",
                                "-cpu: '%s' (Hyper-V enlightenments) is not in this build", key), true;
    return false;
}

static bool apply_item(struct cpu_text *p, char *item, uint32_t *words, struct error *err)
{
    bool on = true, ok;
    char *eq;
    const struct cpu_feature *f;

    if (*item == '+' || *item == '-') {
        on = *item == '+';
        item++;
    } else if ((eq = strchr(item, '='))) {
        *eq = '\0';
        if (other_property(p, item, eq + 1, &ok, err))
            return ok;
        f = feature_named(item);
        if (!f)
            return unknown_feature(item, err);
        if (!parse_bool(eq + 1, &on, err))
            return false;
    } else if (other_property(p, item, "on", &ok, err)) {
        return ok;
    }
    f = feature_named(item);
    if (!f)
        return unknown_feature(item, err);
    if (on && !f->tcg) {
        if (p->enforce)
            return error_setf(err, ERR_GENERIC, "leave out enforce, or the feature", "-cpu: the JIT has no '%s'", f->name);
        warn_report("-cpu: the JIT has no '%s'; the guest will not see it", f->name);
        return true;
    }
    words[f->word] = on ? words[f->word] | 1u << f->bit : words[f->word] & ~(1u << f->bit);
    return true;
}

bool x86_cpu_init(struct cpu *cpu, struct vm *vm, const char *spec, struct error *err)
{
    struct x86_cpu *c = x86(cpu);
    g_auto(GStrv) items = g_strsplit(spec && *spec ? spec : "qemu64", ",", -1);
    const struct x86_model *m = model_named(items[0], err);
    struct cpu_text text = { 0 };

    if (!m)
        return false;
    c->model = m;
    memset(c->features, 0, sizeof(c->features));
    add_model_features(m, c->features);
    for (unsigned i = 1; items[i]; i++)         /* enforce counts for all items, wherever it stands */
        if (same_name(items[i], "enforce"))
            text.enforce = true;
    for (unsigned i = 0; i < G_N_ELEMENTS(feature_list); i++) {
        const struct cpu_feature *f = &feature_list[i];

        if (f->tcg || !(c->features[f->word] >> f->bit & 1))
            continue;
        if (text.enforce)
            return error_setf(err, ERR_GENERIC, "leave out enforce, or add -feature for each", "-cpu %s: the JIT has no '%s'",
                              m->name, f->name);
        c->features[f->word] &= ~(1u << f->bit);
    }
    for (unsigned i = 1; items[i]; i++)
        if (*items[i] && !apply_item(&text, items[i], c->features, err))
            return false;
    if (!strcmp(cpu->guest->name, "i386"))
        c->features[FW_80000001_EDX] &= ~(1u << (XF_LM & 31));
    return true;
}

void x86_cpu_free(struct cpu *cpu)
{
}

/* ---- CPUID */
static unsigned log2_ceil(unsigned n)
{
    return n > 1 ? 32 - __builtin_clz(n - 1) : 0;
}

struct topology { unsigned threads, cores, thread_bits, core_bits, package; };

static struct topology topology_of(const struct x86_cpu *c)
{
    const struct vm_config *cfg = c->cpu.vcpu ? &c->cpu.vcpu->vm->config : NULL;
    struct topology t = { .threads = cfg && cfg->threads ? cfg->threads : 1, .cores = cfg && cfg->cores ? cfg->cores : 1 };

    if (cfg && cfg->dies > 1)
        t.cores *= cfg->dies;
    t.package = t.threads * t.cores;
    t.thread_bits = log2_ceil(t.threads);
    t.core_bits = log2_ceil(t.cores);
    return t;
}

static void leaf_1(struct x86_cpu *c, uint32_t out[4])
{
    const struct x86_model *m = c->model;
    struct topology t = topology_of(c);
    unsigned family = MIN(m->family, 15);

    out[0] = m->stepping | (m->model & 15) << 4 | family << 8 | (uint32_t)(m->model >> 4) << 16 | (uint32_t)(m->family - family) << 20;
    out[1] = 8 << 8 | MIN(t.package, 255) << 16 | (uint32_t)c->cpu.index << 24;
    out[2] = c->features[FW_1_ECX];
    out[3] = c->features[FW_1_EDX];
    if (t.package > 1)
        out[3] |= 1u << (XF_HT & 31);
    if (c->cr4 & CR4_OSXSAVE)
        out[2] |= 1u << 27;
    if (c->cpu.vcpu && !(c->apic_base & 1 << 11))
        out[3] &= ~(1u << (XF_APIC & 31));
}

struct cache { uint8_t type, level; uint32_t ways, line, sets; bool inclusive, shared; };
static const struct cache caches[] = {
    { 1, 1, 8, 64, 64, false, false }, { 2, 1, 8, 64, 64, false, false }, { 3, 2, 16, 64, 4096, false, false },
    { 3, 3, 16, 64, 16384, true, true } };

static void leaf_4(struct x86_cpu *c, uint32_t sub, uint32_t out[4])
{
    struct topology t = topology_of(c);
    const struct cache *k = &caches[sub];

    if (sub >= G_N_ELEMENTS(caches))
        return;
    out[0] = k->type | k->level << 5 | 1 << 8 | ((k->shared ? 1u << (t.core_bits + t.thread_bits) : 1u << t.thread_bits) - 1) << 14 |
             ((1u << t.core_bits) - 1) << 26;
    out[1] = (k->line - 1) | (k->ways - 1) << 22;
    out[2] = k->sets - 1;
    out[3] = k->inclusive ? 2 : 0;
}

static void leaf_b(struct x86_cpu *c, uint32_t sub, uint32_t out[4])
{
    struct topology t = topology_of(c);

    out[2] = sub & 0xff;
    out[3] = c->cpu.index;
    if (sub == 0) {
        out[0] = t.thread_bits;
        out[1] = t.threads;
        out[2] |= 1 << 8;
    } else if (sub == 1) {
        out[0] = t.thread_bits + t.core_bits;
        out[1] = t.package;
        out[2] |= 2 << 8;
    }
}

/* The standard format of the XSAVE area: x87 and SSE in the legacy part, YMM halves after the header. */
static void leaf_d(struct x86_cpu *c, uint32_t sub, uint32_t out[4])
{
    bool avx = x86_has(c->features, XF_AVX);

    if (!x86_has(c->features, XF_XSAVE))
        return;
    if (sub == 0) {
        out[0] = XCR0_X87 | XCR0_SSE | (avx ? XCR0_AVX : 0);
        out[1] = c->xcr0 & XCR0_AVX ? 576 + 256 : 576;
        out[2] = avx ? 576 + 256 : 576;
    } else if (sub == 1) {
        out[0] = c->features[FW_D1_EAX];
        out[1] = c->xcr0 & XCR0_AVX ? 576 + 256 : 576;
    } else if (sub == 2 && avx) {
        out[0] = 256;
        out[1] = 576;
    }
}

static void put_text(uint32_t *out, const char *text, unsigned from)
{
    char part[16] = { 0 };
    size_t len = strlen(text);

    if (from < len)
        memcpy(part, text + from, MIN(len - from, sizeof(part)));
    memcpy(out, part, sizeof(part));
}

static void basic(struct x86_cpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    switch (leaf) {
    case 0:
        out[0] = c->model->level;
        memcpy(&out[1], c->model->vendor, 4);
        memcpy(&out[3], c->model->vendor + 4, 4);
        memcpy(&out[2], c->model->vendor + 8, 4);
        break;
    case 1: leaf_1(c, out); break;
    case 2:                             /* "see leaf 4" */
        out[0] = 0x00feff01;
        out[1] = out[2] = 0;
        out[3] = 0x00000000;
        break;
    case 4: leaf_4(c, sub, out); break;
    case 5:
        if (x86_has(c->features, XF_MONITOR)) {
            out[0] = out[1] = 64;       /* line sizes */
            out[2] = 3;
        }
        break;
    case 6: out[0] = c->features[FW_6_EAX]; break;
    case 7:
        if (sub == 0) {
            out[0] = 1;
            out[1] = c->features[FW_7_EBX];
            out[2] = c->features[FW_7_ECX];
            out[3] = c->features[FW_7_EDX];
        } else if (sub == 1) {
            out[0] = c->features[FW_7_1_EAX];
        }
        break;
    case 0xb: leaf_b(c, sub, out); break;
    case 0xd: leaf_d(c, sub, out); break;
    case 0x15: out[0] = out[1] = 1; out[2] = TSC_KHZ * 1000u; break;
    case 0x16: out[0] = out[1] = TSC_KHZ / 1000; out[2] = 100; break;
    }
}

static void extended(struct x86_cpu *c, uint32_t leaf, uint32_t out[4])
{
    const struct x86_model *m = c->model;
    struct topology t = topology_of(c);

    switch (leaf & 0xff) {
    case 0:
        out[0] = m->xlevel;
        if (m->vendor == amd) {
            memcpy(&out[1], m->vendor, 4);
            memcpy(&out[3], m->vendor + 4, 4);
            memcpy(&out[2], m->vendor + 8, 4);
        }
        break;
    case 1:
        if (m->vendor == amd)
            out[0] = m->stepping | (m->model & 15) << 4 | MIN(m->family, 15) << 8 | (uint32_t)(m->model >> 4) << 16 |
                     (uint32_t)(m->family - MIN(m->family, 15)) << 20;
        out[2] = c->features[FW_80000001_ECX];
        out[3] = c->features[FW_80000001_EDX];
        if (m->vendor == amd)           /* AMD repeats bits of leaf 1 */
            out[3] |= c->features[FW_1_EDX] & 0x0183f3ff;
        if (t.package > 1 && m->vendor == amd)
            out[2] |= 1u << (XF_CMP_LEGACY & 31);
        break;
    case 2: case 3: case 4: put_text(out, m->brand, ((leaf & 0xff) - 2) * 16); break;
    case 5:                             /* L1: TLBs, then 64 KiB as leaf 4 has it */
        out[0] = 0x01ff01ff;
        out[1] = 0x01ff01ff;
        out[2] = out[3] = 32u << 24 | 8 << 16 | 1 << 8 | 64;
        break;
    case 6:
        out[1] = 0x42004200;
        out[2] = 4096u << 16 | 8u << 12 | 1 << 8 | 64;
        out[3] = 32u << 18 | 8u << 12 | 1 << 8 | 64;
        break;
    case 7: out[3] = c->features[FW_80000007_EDX]; break;
    case 8:
        out[0] = x86_phys_bits(c) | (x86_has(c->features, XF_LA57) ? 57u : x86_has(c->features, XF_LM) ? 48u : 32u) << 8;
        out[1] = c->features[FW_80000008_EBX];
        if (t.package > 1)
            out[2] = (t.package - 1) | (t.core_bits + t.thread_bits) << 12;
        break;
    case 0x1e:
        if (x86_has(c->features, XF_TOPOEXT)) {
            out[0] = c->cpu.index;
            out[1] = (c->cpu.index >> t.thread_bits) | (t.threads - 1) << 8;
        }
        break;
    }
}

void x86_cpuid(struct x86_cpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    uint32_t max = c->model->level;

    memset(out, 0, 16);
    if (x86_has(c->features, XF_XSAVE) && max < 0xd)
        max = 0xd;
    if (c->features[FW_7_EBX] && max < 7)
        max = 7;
    if (leaf >= 0x80000000) {
        if (leaf <= c->model->xlevel) {
            extended(c, leaf, out);
            return;
        }
    } else if (leaf >= 0x40000000) {
        if (x86_has(c->features, XF_HYPERVISOR)) {
            if (leaf == 0x40000000) {   /* the signature that detection tools know translators by */
                out[0] = 0x40000001;
                memcpy(&out[1], "TCGTCGTCGTCG", 12);
            }
            return;
        }
    }
    if (leaf > max) {                   /* beyond the last leaf: Intel's give that leaf's, AMD's zeros */
        if (c->model->vendor == amd)
            return;
        leaf = max;
    }
    basic(c, leaf, sub, out);
    if (leaf == 0)
        out[0] = max;
}
