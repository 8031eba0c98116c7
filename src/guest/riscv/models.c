/* CPU models of the RISC-V guests: what -cpu names, "rv64,zba=off,+zicond,sv57=off", and the ISA strings of device trees.
 * A model lists its extensions; only what this build's translator implements may be asked for. */
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include "rhea/base/options.h"
#include "system.h"

#define GENERAL \
    "i m a f d c s u zicntr zicsr zifencei zihintntl zihintpause zihpm zawrs zfa zba zbb zbc zbs zicbom zicbop zicboz " \
    "sstc svadu svinval Pmp "
#define E_CORE "i m a c u zicntr zicsr zifencei zihpm Pmp "
struct riscv_model { const char *name, *summary, *extensions; bool rv32, rv64; };
static const struct riscv_model models[] = {
    { "rv64", "general purpose, 64 bits", GENERAL "Sv39 Sv48 Sv57", false, true },
    { "rv32", "general purpose, 32 bits", GENERAL "Sv32", true, false },
    { "max", "every extension this build has", "*", true, true },
    { "rv64i", "RV64I alone, to add to", "i zicsr", false, true },
    { "rv32i", "RV32I alone, to add to", "i zicsr", true, false },
    { "sifive-e31", "SiFive E31: RV32IMAC, machine and user mode", E_CORE, true, false },
    { "sifive-e34", "SiFive E34: RV32IMAFC, machine and user mode", E_CORE "f ", true, false },
    { "sifive-u34", "SiFive U34: RV32GC", E_CORE "f d s Sv32", true, false },
    { "sifive-e51", "SiFive E51: RV64IMAC, machine and user mode", E_CORE, false, true },
    { "sifive-u54", "SiFive U54: RV64GC", E_CORE "f d s Sv39", false, true },
    { "rva22u64", "profile RVA22U64", "i m a f d c u zicntr zicsr zihpm zihintpause zba zbb zbs zicbom zicbop zicboz zfhmin zkt",
      false, true },
    { "rva22s64", "profile RVA22S64", "i m a f d c s u zicntr zicsr zifencei zihpm zihintpause zba zbb zbs zicbom zicbop zicboz "
      "zfhmin zkt svade svpbmt svinval sscounterenw sstvala sstvecd ssccptr Sv39 Pmp", false, true },
};

/* Not in this build. */
static const uint8_t missing[] = { RVF_E, RVF_V, RVF_H, RVF_Zfinx, RVF_Zdinx, RVF_Sdtrig };
/* What main memory and supervisor mode do here whatever the model. */
static const uint8_t always[] = { RVF_Ziccamoa, RVF_Ziccif, RVF_Zicclsm, RVF_Ziccrse, RVF_Za64rs, RVF_Ssccptr,
                                  RVF_Sscounterenw, RVF_Sstvala, RVF_Sstvecd, RVF_Svvptc };

static const struct { const char *name; uint8_t feature; } aliases[] = {
    { "pmp", RVF_Pmp }, { "sv32", RVF_Sv32 }, { "sv39", RVF_Sv39 }, { "sv48", RVF_Sv48 }, { "sv57", RVF_Sv57 },
    { "debug", RVF_Sdtrig }, { "epmp", RVF_Smepmp }, { "Counters", RVF_Zicntr },
};
/* Options that stand for several */
static const struct { const char *name, *extensions; } groups[] = {
    { "g", "i m a f d zicsr zifencei" }, { "b", "zba zbb zbs" }, { "mmu", "Sv32 Sv39 Sv48 Sv57" },
    { "zkn", "zbkb zbkc zbkx zkne zknd zknh" }, { "zks", "zbkb zbkc zbkx zksed zksh" },
    { "zk", "zbkb zbkc zbkx zkne zknd zknh zkr zkt" },
};
/* The first needs the second. */
static const struct { uint8_t feature, needs; } needs[] = {
    { RVF_F, RVF_Zicsr }, { RVF_D, RVF_F }, { RVF_Zfh, RVF_F }, { RVF_Zfh, RVF_Zfhmin }, { RVF_Zfhmin, RVF_F }, { RVF_Zfa, RVF_F },
    { RVF_S, RVF_U }, { RVF_Zcb, RVF_Zca }, { RVF_Zcmop, RVF_Zca }, { RVF_Zacas, RVF_Zaamo }, { RVF_Zabha, RVF_Zaamo },
    { RVF_Zawrs, RVF_Zalrsc }, { RVF_Smepmp, RVF_Pmp }, { RVF_Sstc, RVF_S }, { RVF_Svadu, RVF_S }, { RVF_Svade, RVF_S },
    { RVF_Svinval, RVF_S }, { RVF_Svnapot, RVF_S }, { RVF_Svpbmt, RVF_S }, { RVF_Sv32, RVF_S }, { RVF_Sv39, RVF_S },
    { RVF_Sv48, RVF_Sv39 }, { RVF_Sv57, RVF_Sv48 }, { RVF_Ssccptr, RVF_S }, { RVF_Sscounterenw, RVF_S },
    { RVF_Sstvala, RVF_S }, { RVF_Sstvecd, RVF_S }, { RVF_Svvptc, RVF_S }, { RVF_Zihpm, RVF_Zicsr }, { RVF_Sscofpmf, RVF_Zihpm }, { RVF_Sscofpmf, RVF_S },
    { RVF_Zicntr, RVF_Zicsr }, { RVF_Ziccamoa, RVF_Zaamo }, { RVF_Ziccrse, RVF_Zalrsc }, { RVF_Za64rs, RVF_Zalrsc },
};
/* The first is, or has, the second. */
static const struct { uint8_t feature, has; } parts[] = {
    { RVF_M, RVF_Zmmul }, { RVF_A, RVF_Zaamo }, { RVF_A, RVF_Zalrsc }, { RVF_C, RVF_Zca },
};

static const struct { const char *name, *summary; } features[RVF_COUNT] = {
#define FEATURE(id, text, about) [RVF_##id] = { text, about },
#include "features.def"
#undef FEATURE
};

static void put(struct riscv_features *f, unsigned n, bool on)
{
    uint64_t bit = UINT64_C(1) << (n & 63);

    f->bits[n >> 6] = on ? f->bits[n >> 6] | bit : f->bits[n >> 6] & ~bit;
}

static bool implemented(unsigned n)
{
    return !memchr(missing, (int)n, sizeof(missing));
}

static bool same_name(const char *a, const char *b, size_t len)
{
    return !g_ascii_strncasecmp(a, b, len) && !b[len];
}

static int feature_find(const char *name, size_t len)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(aliases); n++)
        if (same_name(name, aliases[n].name, len))
            return aliases[n].feature;
    for (unsigned n = 0; n < RVF_COUNT; n++)
        if (features[n].name && same_name(name, features[n].name, len))
            return (int)n;
    return -1;
}

/* Extensions that only one register width has */
static bool of_width(unsigned n, bool rv32)
{
    switch (n) {
    case RVF_Sv39: case RVF_Sv48: case RVF_Sv57: case RVF_Svnapot: case RVF_Svpbmt: return !rv32;
    case RVF_Sv32: case RVF_Zcf: return rv32;
    default: return true;
    }
}

/* ---- -cpu: what the user wants on and off, beside the model */

struct spec {
    struct riscv_identity *id;
    struct riscv_features on, off;
    bool rv32;
};

static void model_apply(struct spec *s, const struct riscv_model *m)
{
    if (!strcmp(m->extensions, "*")) {
        for (unsigned n = RVF_I; n < RVF_COUNT; n++)
            if (implemented(n) && n != RVF_Svade)       /* A and D by hardware alone, as without a say */
                put(&s->id->features, n, of_width(n, s->rv32));
        return;
    }
    for (const char *p = m->extensions; *p; p += strspn(p, " ")) {
        size_t len = strcspn(p, " ");
        int n = feature_find(p, len);

        if (n >= 0)
            put(&s->id->features, (unsigned)n, of_width((unsigned)n, s->rv32));
        p += len;
    }
    for (unsigned n = 0; n < G_N_ELEMENTS(always); n++)
        put(&s->id->features, always[n], true);
}

static bool want(struct spec *s, unsigned n, bool on, struct error *err)
{
    if (on && !implemented(n))
        return error_setf(err, ERR_GENERIC, "leave it out", "this build does not implement the RISC-V extension '%s' (%s)",
                          features[n].name, features[n].summary);
    if (on && !of_width(n, s->rv32))
        return error_setf(err, ERR_GENERIC, NULL, "'%s' does not exist with %d-bit registers", features[n].name, s->rv32 ? 32 : 64);
    put(&s->id->features, n, on);
    put(&s->on, n, on);
    put(&s->off, n, !on);
    return true;
}

static bool want_group(struct spec *s, const char *extensions, bool on, struct error *err)
{
    for (const char *p = extensions; *p; p += strspn(p, " ")) {
        size_t len = strcspn(p, " ");
        int n = feature_find(p, len);

        if (n >= 0 && of_width((unsigned)n, s->rv32) && !want(s, (unsigned)n, on, err))
            return false;
        p += len;
    }
    return true;
}

/* What was asked for brings what it needs; what the model only had goes with what was taken away. */
static bool settle(struct spec *s, struct error *err)
{
    struct riscv_features *f = &s->id->features;

    for (bool changed = true; changed;) {
        changed = false;
        for (unsigned n = 0; n < G_N_ELEMENTS(parts); n++)
            if (riscv_has(f, parts[n].feature) && !riscv_has(f, parts[n].has)) {
                put(f, parts[n].has, true);
                changed = true;
            }
        for (unsigned n = 0; n < G_N_ELEMENTS(needs); n++) {
            unsigned a = needs[n].feature, b = needs[n].needs;

            if (!riscv_has(f, a) || riscv_has(f, b))
                continue;
            changed = true;
            if (!riscv_has(&s->on, a)) {
                put(f, a, false);
            } else if (riscv_has(&s->off, b)) {
                return error_setf(err, ERR_GENERIC, NULL, "-cpu: '%s' needs '%s', which is switched off", features[a].name,
                                  features[b].name);
            } else {
                put(f, b, true);
                put(&s->on, b, true);
            }
        }
    }
    put(f, RVF_Zcf, s->rv32 && RISCV_HAS(f, C) && RISCV_HAS(f, F));
    put(f, RVF_Zcd, RISCV_HAS(f, C) && RISCV_HAS(f, D));
    put(f, s->rv32 ? RVF_xlen32 : RVF_xlen64, true);
    if (!RISCV_HAS(f, I))
        return error_set(err, ERR_GENERIC, "-cpu: there is no CPU without 'i'", NULL);
    return true;
}

static bool number(const char *value, uint64_t *out, struct error *err)
{
    return parse_uint(value ? value : "", UINT64_MAX, out, err);
}

/* The programmable counters: how many, from the third on, or which. */
static bool counters(const char *key, const char *value, uint32_t *mask, struct error *err)
{
    enum { FIRST = 3, MAX = 29 };
    uint64_t n = 0, all = ((UINT64_C(1) << MAX) - 1) << FIRST;
    bool how_many = !strcmp(key, "pmu-num");

    if (!number(value, &n, err))
        return false;
    if (how_many ? n > MAX : n & ~all)
        return error_setf(err, ERR_GENERIC, how_many ? "at most 29" : "a mask of bits 3 to 31", "-cpu: %s=%s is too much", key, value);
    *mask = (uint32_t)(how_many ? ((UINT64_C(1) << n) - 1) << FIRST : n);
    return true;
}

/* Properties that are not extensions. -1: none of that name; else whether the value was good. */
static int property(struct spec *s, const char *key, const char *value, struct error *err)
{
    static const char *const accepted[] = { "priv_spec", "vext_spec", "vlen", "elen", "short-isa-string",
                                            "x-misa-w" };
    struct riscv_identity *id = s->id;
    uint64_t n = 0;

    if (!strcmp(key, "mvendorid"))
        return number(value, &id->mvendorid, err);
    if (!strcmp(key, "marchid"))
        return number(value, &id->marchid, err);
    if (!strcmp(key, "mimpid"))
        return number(value, &id->mimpid, err);
    if (!strcmp(key, "resetvec"))
        return number(value, &id->reset_vector, err);
    if (!strcmp(key, "pmu-num") || !strcmp(key, "pmu-mask"))
        return counters(key, value, &id->hpm_mask, err);
    if (g_str_has_prefix(key, "cbo") && g_str_has_suffix(key, "_blocksize")) {
        if (!number(value, &n, err))
            return 0;
        return n == id->cbo_bytes ? 1 : error_setf(err, ERR_GENERIC, NULL, "-cpu: cache blocks have %u bytes here", id->cbo_bytes);
    }
    for (unsigned k = 0; k < G_N_ELEMENTS(accepted); k++)
        if (!strcmp(key, accepted[k]))
            return 1;
    return -1;
}

static bool unknown_feature(const char *name, struct error *err)
{
    const char *names[RVF_COUNT + 1] = { NULL };
    g_autofree char *hint = NULL;
    const char *near;
    unsigned count = 0;

    for (unsigned n = 0; n < RVF_COUNT; n++)
        if (features[n].name)
            names[count++] = features[n].name;
    near = nearest_spelling(name, names);
    hint = near ? g_strdup_printf("did you mean %s? `-cpu help` lists all", near) : g_strdup("`-cpu help` lists all");
    return error_setf(err, ERR_GENERIC, hint, "-cpu: there is no extension or property '%s'", name);
}

static bool switch_on_off(struct spec *s, const char *name, bool on, struct error *err)
{
    int n = feature_find(name, strlen(name));

    for (unsigned k = 0; k < G_N_ELEMENTS(groups); k++)
        if (!strcmp(name, groups[k].name))
            return want_group(s, groups[k].extensions, on, err);
    return n >= 0 ? want(s, (unsigned)n, on, err) : unknown_feature(name, err);
}

static bool parse_option(struct spec *s, const char *opt, struct error *err)
{
    const char *eq = strchr(opt, '=');
    g_autofree char *key = eq ? g_strndup(opt, (gsize)(eq - opt)) : g_strdup(opt);
    bool on = true;
    int known;

    if (*opt == '+' || *opt == '-')
        return switch_on_off(s, opt + 1, *opt == '+', err);
    known = property(s, key, eq ? eq + 1 : NULL, err);
    if (known >= 0)
        return known;
    if (eq && !parse_bool(eq + 1, &on, err))
        return false;
    return switch_on_off(s, key, on, err);
}

static const struct riscv_model *model_find(const char *name, bool rv32)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(models); n++)
        if (!strcmp(models[n].name, name) && (rv32 ? models[n].rv32 : models[n].rv64))
            return &models[n];
    return NULL;
}

static bool unknown_model(const char *name, bool rv32, struct error *err)
{
    const char *names[G_N_ELEMENTS(models) + 1] = { NULL };
    g_autofree char *hint = NULL;
    const char *near;
    unsigned count = 0;

    for (unsigned n = 0; n < G_N_ELEMENTS(models); n++)
        if (rv32 ? models[n].rv32 : models[n].rv64)
            names[count++] = models[n].name;
    near = nearest_spelling(name, names);
    hint = near ? g_strdup_printf("did you mean %s? `-cpu help` lists all", near) : g_strdup("`-cpu help` lists all");
    return error_setf(err, ERR_GENERIC, hint, "there is no CPU model '%s'", name);
}

bool riscv_identity_parse(struct riscv_identity *id, const char *spec, bool rv32, struct error *err)
{
    g_auto(GStrv) words = g_strsplit(spec && *spec ? spec : rv32 ? "rv32" : "rv64", ",", -1);
    struct spec s = { .id = id, .rv32 = rv32 };
    const struct riscv_model *m;
    const struct cpu_model *list;
    unsigned count;

    if (g_str_has_suffix(words[0], "-riscv-cpu"))
        words[0][strlen(words[0]) - strlen("-riscv-cpu")] = 0;
    m = model_find(words[0], rv32);
    if (!m)
        return unknown_model(words[0], rv32, err);
    *id = (struct riscv_identity){ .reset_vector = 0x1000, .cbo_bytes = 64, .hpm_mask = 0x7fff8 };
    list = rv32 ? riscv32_models(&count) : riscv64_models(&count);
    for (unsigned n = 0; n < count; n++)
        if (list[n].data == m)
            id->model = &list[n];
    model_apply(&s, m);
    for (unsigned n = 1; words[n]; n++)
        if (*words[n] && !parse_option(&s, words[n], err))
            return false;
    if (!settle(&s, err))
        return false;
    if (!RISCV_HAS(&id->features, Zihpm))
        id->hpm_mask = 0;
    return true;
}

uint32_t riscv_hpm_counters(const struct cpu *cpu) { return riscv_identity((const struct riscv_cpu *)cpu)->hpm_mask; }
unsigned riscv_cbo_bytes(const struct cpu *cpu) { return riscv_identity((const struct riscv_cpu *)cpu)->cbo_bytes; }

/* ---- ISA strings: single letters, then the others in the order of features.def. Options that are no extensions begin
 * with a capital; supervisor and user mode are not written. */

static bool in_string(const struct riscv_features *f, unsigned n)
{
    const char *name = features[n].name;

    return name && riscv_has(f, n) && g_ascii_islower(*name) && n != RVF_S && n != RVF_U;
}

char *riscv_isa_string(const struct riscv_features *f)
{
    GString *s = g_string_new(RISCV_HAS(f, xlen32) ? "rv32" : "rv64");

    for (unsigned n = 0; n < RVF_COUNT; n++)
        if (in_string(f, n))
            g_string_append_printf(s, features[n].name[1] ? "_%s" : "%s", features[n].name);
    return g_string_free(s, FALSE);
}

char **riscv_isa_list(const struct riscv_features *f)
{
    GPtrArray *list = g_ptr_array_new();

    for (unsigned n = 0; n < RVF_COUNT; n++)
        if (in_string(f, n))
            g_ptr_array_add(list, g_strdup(features[n].name));
    g_ptr_array_add(list, NULL);
    return (char **)g_ptr_array_free(list, FALSE);
}

/* ---- lists for -cpu help and QMP: built once, the same for every machine */

struct model_list { struct cpu_model list[G_N_ELEMENTS(models)]; unsigned count; };

static void list_fill(struct model_list *l, bool rv32)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(models); n++)
        if (rv32 ? models[n].rv32 : models[n].rv64)
            l->list[l->count++] = (struct cpu_model){ .name = models[n].name, .summary = models[n].summary, .data = &models[n] };
}

const struct cpu_model *riscv32_models(unsigned *count)
{
    static struct model_list l;
    static gsize once;

    if (g_once_init_enter(&once)) {
        list_fill(&l, true);
        g_once_init_leave(&once, 1);
    }
    *count = l.count;
    return l.list;
}

const struct cpu_model *riscv64_models(unsigned *count)
{
    static struct model_list l;
    static gsize once;

    if (g_once_init_enter(&once)) {
        list_fill(&l, false);
        g_once_init_leave(&once, 1);
    }
    *count = l.count;
    return l.list;
}

const struct cpu_feature *riscv_features(unsigned *count)
{
    static struct cpu_feature list[RVF_COUNT];
    static unsigned used;
    static gsize once;

    if (g_once_init_enter(&once)) {
        for (unsigned n = RVF_I; n < RVF_COUNT; n++)
            if (features[n].name)
                list[used++] = (struct cpu_feature){ features[n].name, (uint16_t)(n >> 6), (uint8_t)(n & 63), implemented(n) };
        g_once_init_leave(&once, 1);
    }
    *count = used;
    return list;
}

bool riscv_cpu_has(const struct cpu *cpu, const struct cpu_feature *f)
{
    return riscv_has(&((const struct riscv_cpu *)cpu)->features, (unsigned)f->word << 6 | f->bit);
}
