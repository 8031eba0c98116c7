/* CPU models: what -cpu names, its features and CPUID identity, parsing of "Haswell,+aes,-avx,vendor=...".
 * A model lists the features it adds to its parent; a leading minus takes one away. Only features this build's
 * translator implements are announced (features.def says which). */
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include "rhea/base/options.h"
#include "cpuid.h"

#define INTEL "GenuineIntel"
#define AMD "AuthenticAMD"
#define MODEL_BASE \
    "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 hypervisor "
#define LONG "lm nx syscall lahf-lm pni cx16 "

static const struct x86_model models[] = {
    { "qemu64", "64-bit baseline, QEMU's default", NULL, AMD, 15, 107, 1, "QEMU Virtual CPU version 2.5+", 0xd, 0x8000000a,
      MODEL_BASE LONG "x2apic invtsc tsc-deadline" },    /* clocks as the machine has them: nothing to calibrate */
    { "qemu32", "32-bit baseline", NULL, INTEL, 6, 6, 3, "QEMU Virtual CPU version 2.5+", 4, 0x80000004,
      MODEL_BASE "pni" },
    { "kvm64", "64-bit processor as all of KVM's can be", NULL, INTEL, 15, 6, 1, "Common KVM processor", 0xd, 0x80000008,
      MODEL_BASE "lm nx syscall pni cx16" },
    { "kvm32", "32-bit processor as all of KVM's can be", NULL, INTEL, 15, 6, 1, "Common 32-bit KVM processor", 5,
      0x80000008, MODEL_BASE "pni" },
    { "base", "no feature at all", NULL, AMD, 0, 0, 0, "base", 1, 0x80000001, "" },
    { "max", "every feature this build has", NULL, AMD, 15, 107, 1, "Rhea CPU, all features", 0xd, 0x8000001f, "*" },
    { "host", "as max (no KVM in this build)", "max", NULL, 0, 0, 0, NULL, 0, 0, "" },
    { "486", "Intel 486", NULL, INTEL, 4, 8, 0, "", 1, 0, "fpu pse hypervisor" },
    { "pentium", "Intel Pentium", NULL, INTEL, 5, 4, 3, "", 1, 0, "fpu de pse tsc msr mce cx8 hypervisor" },
    { "pentium3", "Intel Pentium III", NULL, INTEL, 6, 7, 3, "", 3, 0,
      "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 mmx fxsr sse hypervisor" },
    { "core2duo", "Intel Core 2 Duo", NULL, INTEL, 6, 15, 11, "Intel(R) Core(TM)2 Duo CPU     T7700  @ 2.40GHz", 0xa,
      0x80000008, MODEL_BASE LONG "ss ssse3" },
    { "Conroe", "Intel Celeron_4x0 (Conroe/Merom Class Core 2)", NULL, INTEL, 6, 15, 3,
      "Intel Celeron_4x0 (Conroe/Merom Class Core 2)", 0xa, 0x80000008, MODEL_BASE LONG "ssse3" },
    { "Penryn", "Intel Core 2 Duo P9xxx (Penryn Class Core 2)", "Conroe", NULL, 6, 23, 3,
      "Intel Core 2 Duo P9xxx (Penryn Class Core 2)", 0xa, 0x80000008, "sse4.1" },
    { "Nehalem", "Intel Core i7 9xx (Nehalem Class Core i7)", "Penryn", NULL, 6, 26, 3,
      "Intel Core i7 9xx (Nehalem Class Core i7)", 0xb, 0x80000008, "popcnt sse4.2", true },
    { "Westmere", "Westmere E56xx/L56xx/X56xx (Nehalem-C)", "Nehalem", NULL, 6, 44, 1,
      "Westmere E56xx/L56xx/X56xx (Nehalem-C)", 0xb, 0x80000008, "aes pclmulqdq arat", true },
    { "SandyBridge", "Intel Xeon E312xx (Sandy Bridge)", "Westmere", NULL, 6, 42, 1, "Intel Xeon E312xx (Sandy Bridge)",
      0xd, 0x80000008, "avx xsave xsaveopt tsc-deadline x2apic rdtscp", true },
    { "IvyBridge", "Intel Xeon E3-12xx v2 (Ivy Bridge)", "SandyBridge", NULL, 6, 58, 9,
      "Intel Xeon E3-12xx v2 (Ivy Bridge)", 0xd, 0x80000008, "rdrand f16c fsgsbase smep erms", true },
    { "Haswell", "Intel Core Processor (Haswell)", "IvyBridge", NULL, 6, 60, 4, "Intel Core Processor (Haswell)", 0xd,
      0x80000008, "movbe fma pcid bmi1 avx2 bmi2 invpcid abm hle rtm", true },
    { "Haswell-noTSX", "Intel Core Processor (Haswell, no TSX)", "Haswell", NULL, 6, 60, 1,
      "Intel Core Processor (Haswell, no TSX)", 0xd, 0x80000008, "-hle -rtm", true },
    { "Broadwell", "Intel Core Processor (Broadwell)", "Haswell", NULL, 6, 61, 2, "Intel Core Processor (Broadwell)", 0xd,
      0x80000008, "rdseed adx smap 3dnowprefetch", true },
    { "Broadwell-noTSX", "Intel Core Processor (Broadwell, no TSX)", "Broadwell", NULL, 6, 61, 2,
      "Intel Core Processor (Broadwell, no TSX)", 0xd, 0x80000008, "-hle -rtm", true },
    { "Skylake-Client", "Intel Core Processor (Skylake)", "Broadwell", NULL, 6, 94, 3, "Intel Core Processor (Skylake)",
      0xd, 0x80000008, "xsavec xgetbv1", true },
    { "Skylake-Client-noTSX-IBRS", "Intel Core Processor (Skylake, IBRS, no TSX)", "Skylake-Client", NULL, 6, 94, 3,
      "Intel Core Processor (Skylake, IBRS, no TSX)", 0xd, 0x80000008, "-hle -rtm spec-ctrl" },
    { "Skylake-Server", "Intel Xeon Processor (Skylake)", "Skylake-Client", NULL, 6, 85, 4,
      "Intel Xeon Processor (Skylake)", 0xd, 0x80000008,
      "pdpe1gb clwb clflushopt avx512f avx512dq avx512bw avx512cd avx512vl", true },
    { "Cascadelake-Server", "Intel Xeon Processor (Cascadelake)", "Skylake-Server", NULL, 6, 85, 6,
      "Intel Xeon Processor (Cascadelake)", 0xd, 0x80000008, "spec-ctrl ssbd", true },
    { "Icelake-Server", "Intel Xeon Processor (Icelake)", "Cascadelake-Server", NULL, 6, 134, 0,
      "Intel Xeon Processor (Icelake)", 0xd, 0x80000008, "sha-ni umip la57 rdpid gfni vaes vpclmulqdq avx512ifma avx512vbmi", true },
    { "EPYC", "AMD EPYC Processor", NULL, AMD, 23, 1, 2, "AMD EPYC Processor", 0xd, 0x8000001e,
      MODEL_BASE LONG "rdtscp pdpe1gb fxsr-opt mmxext ht x2apic avx f16c aes xsave popcnt movbe sse4.1 sse4.2 ssse3 "
      "pclmulqdq fma rdrand svm cr8legacy abm sse4a misalignsse 3dnowprefetch osvw topoext fsgsbase bmi1 avx2 smep bmi2 "
      "rdseed adx smap clflushopt sha-ni xsaveopt xsavec xgetbv1 arat invtsc", true },
    { "EPYC-Rome", "AMD EPYC-Rome Processor", "EPYC", NULL, 23, 49, 0, "AMD EPYC-Rome Processor", 0xd, 0x8000001e,
      "clwb umip rdpid wbnoinvd clzero xsaveerptr perfctr-core", true },
    { "EPYC-Milan", "AMD EPYC-Milan Processor", "EPYC-Rome", NULL, 25, 1, 1, "AMD EPYC-Milan Processor", 0xd, 0x8000001e,
      "pcid invpcid erms fsrm vaes vpclmulqdq", true },
    { "phenom", "AMD Phenom(tm) 9550 Quad-Core Processor", NULL, AMD, 16, 2, 3, "AMD Phenom(tm) 9550 Quad-Core Processor",
      5, 0x8000001a, MODEL_BASE LONG "rdtscp pdpe1gb popcnt abm sse4a fxsr-opt mmxext svm ht" },
    { "Opteron_G1", "AMD Opteron 240 (Gen 1 Class Opteron)", NULL, AMD, 15, 6, 1, "AMD Opteron 240 (Gen 1 Class Opteron)",
      5, 0x80000008, MODEL_BASE "lm nx syscall pni" },
    { "Opteron_G3", "AMD Opteron 23xx (Gen 3 Class Opteron)", "Opteron_G1", NULL, 16, 2, 3,
      "AMD Opteron 23xx (Gen 3 Class Opteron)", 5, 0x80000008, "cx16 lahf-lm popcnt abm sse4a misalignsse rdtscp monitor" },
};

static const struct { const char *name, *text; uint16_t word; uint8_t bit; bool have; } features[] = {
#define FEATURE(id, name, word, bit, implemented) { name, #id, word, bit, implemented },
#include "features.def"
#undef FEATURE
};
static const struct { const char *alias, *name; } aliases[] = {
    { "sse3", "pni" }, { "i64", "lm" }, { "xd", "nx" }, { "ffxsr", "fxsr-opt" },
    { "sha", "sha-ni" }, { "cmpxchg16b", "cx16" },
};

const struct x86_model *x86_model_find(const char *name)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(models); n++)
        if (!strcmp(models[n].name, name))
            return &models[n];
    return NULL;
}

static char fold(char ch) { return ch == '_' || ch == '.' ? '-' : g_ascii_tolower(ch); }

static bool same_name(const char *a, const char *b, size_t len)
{
    for (size_t n = 0; n < len; n++)
        if (!b[n] || fold(a[n]) != fold(b[n]))
            return false;
    return !b[len];
}

/* Index in features[], or -1. */
static int feature_find(const char *name, size_t len)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(aliases); n++)
        if (same_name(name, aliases[n].alias, len))
            return feature_find(aliases[n].name, strlen(aliases[n].name));
    for (unsigned n = 0; n < G_N_ELEMENTS(features); n++)
        if (same_name(name, features[n].name, len))
            return (int)n;
    return -1;
}

static void feature_set(uint32_t *words, int n, bool on)
{
    uint32_t bit = UINT32_C(1) << features[n].bit;

    if (on)
        words[features[n].word] |= bit;
    else
        words[features[n].word] &= ~bit;
}

static void apply_list(uint32_t *words, const char *list)
{
    while (*list) {
        size_t len = strcspn(list, " ");
        bool off = *list == '-';
        int n = len > 1 ? feature_find(list + off, len - off) : -1;

        if (n >= 0)
            feature_set(words, n, !off);
        list += len;
        list += strspn(list, " ");
    }
}

static void all_features(uint32_t *words)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(features); n++)
        if (features[n].have && strcmp(features[n].name, "la57"))
            feature_set(words, (int)n, true);
}

static void apply_model(struct x86_identity *id, const struct x86_model *m)
{
    if (m->parent)
        apply_model(id, x86_model_find(m->parent));
    if (m->vendor)
        g_strlcpy(id->vendor, m->vendor, sizeof(id->vendor));
    if (m->family || m->model) {
        id->family = m->family;
        id->model = m->model;
        id->stepping = m->stepping;
    }
    if (m->brand)
        g_strlcpy(id->brand, m->brand, sizeof(id->brand));
    id->level = m->level ? m->level : id->level;
    id->xlevel = m->xlevel ? m->xlevel : id->xlevel;
    if (!strcmp(m->features, "*"))
        all_features(id->features);
    else
        apply_list(id->features, m->features);
}

/* Takes out what the translator lacks, and what depends on something absent. */
static void filter(uint32_t *words)
{
    static const struct { uint16_t feature, needs; } deps[] = {
        { XF_AVX, XF_XSAVE }, { XF_AVX2, XF_AVX }, { XF_FMA, XF_AVX }, { XF_F16C, XF_AVX }, { XF_XSAVEOPT, XF_XSAVE },
        { XF_XSAVEC, XF_XSAVE }, { XF_XGETBV1, XF_XSAVE }, { XF_LA57, XF_LM },
    };

    for (unsigned n = 0; n < G_N_ELEMENTS(features); n++)
        if (!features[n].have)
            feature_set(words, (int)n, false);
    for (unsigned n = 0; n < G_N_ELEMENTS(deps); n++)
        if (!x86_has(words, deps[n].needs))
            words[deps[n].feature >> 5] &= ~(UINT32_C(1) << (deps[n].feature & 31));
}

/* ---- -cpu options */

static bool unknown_feature(const char *name, struct error *err)
{
    const char *names[G_N_ELEMENTS(features) + 1] = { NULL };
    const char *near;
    g_autofree char *hint = NULL;

    for (unsigned n = 0; n < G_N_ELEMENTS(features); n++)
        names[n] = features[n].name;
    near = nearest_spelling(name, names);
    hint = near ? g_strdup_printf("did you mean %s? `-cpu help` lists all", near) : g_strdup("`-cpu help` lists all");
    return error_setf(err, ERR_GENERIC, hint, "-cpu: there is no feature or property '%s'", name);
}

static bool unknown_model(const char *name, struct error *err)
{
    const char *names[G_N_ELEMENTS(models) + 1] = { NULL };
    const char *near;
    g_autofree char *hint = NULL;

    for (unsigned n = 0; n < G_N_ELEMENTS(models); n++)
        names[n] = models[n].name;
    near = nearest_spelling(name, names);
    hint = near ? g_strdup_printf("did you mean %s? `-cpu help` lists all", near) : g_strdup("`-cpu help` lists all");
    return error_setf(err, ERR_GENERIC, hint, "there is no CPU model '%s'", name);
}

enum { PHYS_BITS_MIN = 32, PHYS_BITS_MAX = 52, PHYS_BITS_LONG = 40, PHYS_BITS_PSE36 = 36 };

static unsigned host_phys_bits(void)
{
#ifdef __x86_64__
    unsigned a = 0x80000008, c = 0;

    __asm__("cpuid" : "+a"(a), "+c"(c) : : "rbx", "rdx");       /* a 64-bit processor has the leaf */
    return CLAMP(a & 0xff, PHYS_BITS_MIN, PHYS_BITS_MAX);
#else
    return PHYS_BITS_LONG;
#endif
}

/* MAXPHYADDR: as told, the host's, or what processors of its kind have at least. */
static void settle_phys_bits(struct x86_identity *id)
{
    if (id->phys_bits)
        return;
    if (!x86_has(id->features, XF_LM))
        id->phys_bits = x86_has(id->features, XF_PSE36) || x86_has(id->features, XF_PAE) ? PHYS_BITS_PSE36 : PHYS_BITS_MIN;
    else
        id->phys_bits = id->host_phys_bits ? host_phys_bits() : PHYS_BITS_LONG;
    if (id->host_phys_bits && id->phys_limit && id->phys_bits > id->phys_limit)
        id->phys_bits = id->phys_limit;
}

/* Properties that are not feature bits. -1: none of that name; else whether the value was good. */
static int identity_option(struct x86_identity *id, const char *key, const char *value)
{
    static const char *const accepted[] = { "check", "migratable", "kvm", "pmu", "l3-cache", "host-cache-info",
                                            "fill-mtrr-mask", "legacy-cache", "tcg-cpuid", "vmware-cpuid-freq",
                                            "kvm-pv-enforce-cpuid", "x-force-features" };
    uint64_t n;
    char *end;

    if (!value && (!strcmp(key, "vendor") || !strcmp(key, "model-id")))
        return 0;
    if (!strcmp(key, "vendor")) {
        g_strlcpy(id->vendor, value, sizeof(id->vendor));
        return strlen(value) == 12;
    }
    if (!strcmp(key, "model-id")) {
        g_strlcpy(id->brand, value, sizeof(id->brand));
        return 1;
    }
    if (!strcmp(key, "enforce"))
        return parse_bool(value ? value : "on", &id->enforce, NULL);
    if (!strcmp(key, "host-phys-bits"))
        return parse_bool(value ? value : "on", &id->host_phys_bits, NULL);
    n = value ? strtoull(value, &end, 0) : 0;
    if (!strcmp(key, "family") || !strcmp(key, "model") || !strcmp(key, "stepping") || !strcmp(key, "level") ||
        !strcmp(key, "xlevel") || !strcmp(key, "phys-bits") || !strcmp(key, "host-phys-bits-limit") ||
        !strcmp(key, "tsc-frequency")) {
        if (!value || *end || end == value)
            return 0;
        if (g_str_has_suffix(key, "phys-bits") || g_str_has_suffix(key, "bits-limit")) {
            if (n && (n < PHYS_BITS_MIN || n > PHYS_BITS_MAX))
                return 0;
            *(key[0] == 'p' ? &id->phys_bits : &id->phys_limit) = (unsigned)n;
            return 1;
        }
        if (!strcmp(key, "family"))
            id->family = (unsigned)n;
        else if (!strcmp(key, "model"))
            id->model = (unsigned)n;
        else if (!strcmp(key, "stepping"))
            id->stepping = (unsigned)n;
        else if (!strcmp(key, "level"))
            id->level = (uint32_t)n;
        else if (!strcmp(key, "xlevel"))
            id->xlevel = (uint32_t)n;
        return 1;
    }
    for (unsigned k = 0; k < G_N_ELEMENTS(accepted); k++)
        if (!strcmp(key, accepted[k]))
            return 1;
    return g_str_has_prefix(key, "hv-") || g_str_has_prefix(key, "hv_") || g_str_has_prefix(key, "kvm-") ? 1 : -1;
}

static bool request(struct x86_identity *id, int n, bool on, struct error *err)
{
    feature_set(id->features, n, on);
    if (!on || features[n].have)
        return true;
    if (id->enforce)
        return error_setf(err, ERR_GENERIC, "leave enforce out to start without it",
                          "this build's translator does not implement the CPU feature '%s'", features[n].name);
    warn_report("this build's translator does not implement the CPU feature '%s': left out", features[n].name);
    return true;
}

static bool parse_option(struct x86_identity *id, const char *opt, struct error *err)
{
    const char *eq = strchr(opt, '=');
    g_autofree char *key = eq ? g_strndup(opt, (gsize)(eq - opt)) : g_strdup(opt);
    const char *value = eq ? eq + 1 : NULL;
    int n, known;
    bool on;

    if (*opt == '+' || *opt == '-') {
        n = feature_find(opt + 1, strlen(opt + 1));
        if (n >= 0)
            return request(id, n, *opt == '+', err);
        return unknown_feature(opt + 1, err);
    } else {
        known = identity_option(id, key, value);
        if (known > 0)
            return true;
        n = feature_find(key, strlen(key));
        if (n >= 0 && parse_bool(value ? value : "on", &on, NULL))
            return request(id, n, on, err);
        if (known == 0 || n >= 0)
            return error_setf(err, ERR_GENERIC, NULL, "-cpu: bad value '%s' for '%s'", value ? value : "", key);
    }
    return unknown_feature(key, err);
}

/* "Haswell-v4", "EPYC-IBPB", "Westmere-IBRS": versions of a model differ in mitigations, which need no processor here. */
static const struct x86_model *model_of_version(const char *name)
{
    const struct x86_model *m = x86_model_find(name);
    g_autofree char *plain = g_strdup(name);
    char *dash = strrchr(plain, '-');

    if (m || !dash)
        return m;
    if ((dash[1] == 'v' && g_ascii_isdigit(dash[2])) || !strcmp(dash, "-IBRS") || !strcmp(dash, "-IBPB")) {
        *dash = 0;
        return x86_model_find(plain);
    }
    return NULL;
}

bool x86_identity_parse(struct x86_identity *id, const char *spec, struct error *err)
{
    g_auto(GStrv) parts = g_strsplit(spec && *spec ? spec : "qemu64", ",", -1);
    const char *name = parts[0];
    const struct x86_model *m;

    if (g_str_has_suffix(name, "-x86_64-cpu"))
        parts[0][strlen(name) - strlen("-x86_64-cpu")] = 0;
    m = model_of_version(name);
    if (!m)
        return unknown_model(name, err);
    *id = (struct x86_identity){ .level = 1, .base = m };
    apply_model(id, m);
    for (unsigned n = 1; parts[n]; n++)
        if (!strcmp(parts[n], "enforce") || !strcmp(parts[n], "enforce=on"))
            id->enforce = true;
    for (unsigned n = 1; parts[n]; n++)
        if (*parts[n] && !parse_option(id, parts[n], err))
            return false;
    filter(id->features);
    if ((id->features[FW_7_EBX] || id->features[FW_7_ECX]) && id->level < 7)
        id->level = 7;
    if (x86_has(id->features, XF_XSAVE) && id->level < 0xd)
        id->level = 0xd;
    if (id->features[FW_80000001_EDX] && id->xlevel < 0x80000001)
        id->xlevel = 0x80000001;
    if (x86_has(id->features, XF_LM) && id->xlevel < 0x80000008)
        id->xlevel = 0x80000008;
    settle_phys_bits(id);
    return true;
}

/* The names and their versions, as libvirt and old command lines write them. Built once, the same for every machine. */
const struct cpu_model *x86_models(unsigned *count)
{
    static const char *const versions[] = { "-v1", "-v2", "-v3", "-v4", "-IBRS", "-IBPB" };
    static struct cpu_model list[G_N_ELEMENTS(models) * (1 + G_N_ELEMENTS(versions))];
    static unsigned used;
    static gsize once;

    if (g_once_init_enter(&once)) {
        for (unsigned n = 0; n < G_N_ELEMENTS(models); n++) {
            list[used++] = (struct cpu_model){ .name = models[n].name, .summary = models[n].summary, .data = &models[n] };
            for (unsigned v = 0; models[n].versioned && v < G_N_ELEMENTS(versions); v++)
                list[used++] = (struct cpu_model){ .name = g_strconcat(models[n].name, versions[v], NULL),
                                                   .summary = models[n].summary, .data = &models[n],
                                                   .alias_of = models[n].name };
        }
        g_once_init_leave(&once, 1);
    }
    *count = used;
    return list;
}

const struct cpu_feature *x86_features(unsigned *count)
{
    static struct cpu_feature list[G_N_ELEMENTS(features)];
    static gsize once;

    if (g_once_init_enter(&once)) {
        for (unsigned n = 0; n < G_N_ELEMENTS(features); n++)
            list[n] = (struct cpu_feature){ features[n].name, features[n].word, features[n].bit, features[n].have };
        g_once_init_leave(&once, 1);
    }
    *count = G_N_ELEMENTS(features);
    return list;
}
