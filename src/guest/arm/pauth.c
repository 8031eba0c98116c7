/* Pointer authentication: DDI 0487 D8.10 and the shared pseudocode of J1.1, ComputePAC(), AddPAC(), Auth(), Strip().
 * The block cipher is QARMA (Avanzi, "The QARMA Block Cipher Family", 2017) with 5 or 3 rounds. Its state is kept as 16 bytes, a
 * cell each, so that shuffles and substitutions are one vector permutation. */
#ifdef __x86_64__
#include <immintrin.h>
#endif
#include <string.h>
#include "arm.h"

typedef uint8_t cells __attribute__((vector_size(16)));

#ifdef __x86_64__
#define PERMUTES __attribute__((target("ssse3")))       /* the host floor has it */
#else
#define PERMUTES
#endif

/* v's cells in the order that `order` names. */
static PERMUTES inline cells permute(cells v, cells order)
{
#ifdef __x86_64__
    return (cells)_mm_shuffle_epi8((__m128i)v, (__m128i)order);
#else
    cells r;

    for (unsigned n = 0; n < 16; n++)
        r[n] = v[order[n]];
    return r;
#endif
}

static PERMUTES cells cells_of(uint64_t v)
{
    cells c;

    for (unsigned n = 0; n < 16; n++)
        c[n] = v >> (4 * n) & 15;
    return c;
}

static PERMUTES uint64_t value_of(cells c)
{
    uint64_t v = 0;

    for (unsigned n = 0; n < 16; n++)
        v |= (uint64_t)c[n] << (4 * n);
    return v;
}

static PERMUTES inline cells shuffle(cells v)
{
    return permute(v, (cells){ 13, 6, 11, 0, 7, 12, 1, 10, 8, 3, 14, 5, 2, 9, 4, 15 });
}

static PERMUTES inline cells shuffle_back(cells v)
{
    return permute(v, (cells){ 3, 6, 12, 9, 14, 11, 1, 4, 8, 13, 7, 2, 5, 0, 10, 15 });
}

struct boxes { cells sub, back; };
static const struct boxes sigma1 = {            /* QARMA3; it is its own inverse */
    { 10, 13, 14, 6, 15, 7, 3, 5, 9, 8, 0, 12, 11, 1, 2, 4 }, { 10, 13, 14, 6, 15, 7, 3, 5, 9, 8, 0, 12, 11, 1, 2, 4 },
};
static const struct boxes sigma2 = {            /* QARMA5 */
    { 11, 6, 8, 15, 12, 0, 9, 14, 3, 7, 4, 5, 13, 2, 1, 10 }, { 5, 14, 13, 8, 10, 11, 1, 9, 2, 6, 15, 0, 4, 12, 7, 3 },
};

static PERMUTES inline cells rotate1(cells v) { return ((v << 1) | (v >> 3)) & 15; }
static PERMUTES inline cells rotate2(cells v) { return ((v << 2) | (v >> 2)) & 15; }

/* Each cell of a column is mixed from the other three. */
static PERMUTES inline cells mix(cells v)
{
    cells a = permute(v, (cells){ 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3 });
    cells b = permute(v, (cells){ 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7 });
    cells c = permute(v, (cells){ 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 });

    return rotate1(a) ^ rotate2(b) ^ rotate1(c);
}

static PERMUTES inline cells tweak(cells v)
{
    static const cells rotated = { 0, 0, 255, 0, 255, 0, 0, 255, 0, 0, 0, 255, 255, 0, 255, 255 };
    cells m = permute(v, (cells){ 4, 5, 6, 7, 11, 2, 3, 8, 12, 13, 14, 15, 0, 1, 10, 9 });
    cells r = (m >> 1) | (((m ^ (m >> 1)) & 1) << 3);

    return (m & ~rotated) | (r & rotated);
}

static PERMUTES inline cells tweak_back(cells v)
{
    static const cells rotated = { 255, 0, 0, 0, 0, 0, 255, 0, 255, 255, 255, 255, 0, 0, 0, 255 };
    cells m = permute(v, (cells){ 12, 13, 5, 6, 0, 1, 2, 3, 7, 15, 14, 4, 8, 9, 10, 11 });
    cells r = ((m << 1) & 14) | ((m ^ (m >> 3)) & 1);

    return (m & ~rotated) | (r & rotated);
}

static const uint64_t round_constant[5] = {
    0, UINT64_C(0x13198a2e03707344), UINT64_C(0xa4093822299f31d0), UINT64_C(0x082efa98ec4e6c89), UINT64_C(0x452821e638d01377),
};

static PERMUTES uint64_t qarma(uint64_t data, uint64_t modifier, uint64_t w0, uint64_t core, const struct boxes *box, unsigned rounds)
{
    uint64_t w1 = (w0 >> 1 | w0 << 63) ^ w0 >> 63;
    cells k0 = cells_of(w0), k1 = cells_of(core), w = cells_of(data) ^ k0, mod = cells_of(modifier);
    cells reflect_key = k1, alpha = cells_of(UINT64_C(0xc0ac29b7c97c50dd));

    for (unsigned n = 0; n < rounds; n++) {
        w ^= k1 ^ mod ^ cells_of(round_constant[n]);
        if (n)
            w = mix(shuffle(w));
        w = permute(box->sub, w);
        mod = tweak(mod);
    }
    w ^= cells_of(w1) ^ mod;
    w = permute(box->sub, mix(shuffle(w)));
    w = mix(shuffle(w)) ^ reflect_key;
    w = permute(box->back, shuffle_back(w));
    w = shuffle_back(mix(w)) ^ k0 ^ mod;
    for (unsigned n = 0; n < rounds; n++) {
        w = permute(box->back, w);
        if (n < rounds - 1)
            w = shuffle_back(mix(w));
        mod = tweak_back(mod);
        w ^= k1 ^ mod ^ alpha ^ cells_of(round_constant[rounds - 1 - n]);
    }
    return value_of(w ^ cells_of(w1));
}

uint64_t arm_qarma5(uint64_t data, uint64_t modifier, uint64_t key0, uint64_t key1)
{
    return qarma(data, modifier, key0, key1, &sigma2, 5);
}

/* An implementation's own algorithm (FEAT_PACIMP): a mixing of all inputs, meant to be fast. */
static uint64_t own_hash(uint64_t data, uint64_t modifier, uint64_t key0, uint64_t key1)
{
    uint64_t h = (data ^ key0) * UINT64_C(0x9e3779b97f4a7c15);

    h = (h ^ h >> 32 ^ modifier ^ key1) * UINT64_C(0xd6e8feb86659fd93);
    h = (h ^ h >> 29 ^ key0) * UINT64_C(0xbf58476d1ce4e5b9);
    return h ^ h >> 32;
}

/* key[0] is the low half of the key register pair. */
static uint64_t compute(struct arm_cpu *c, uint64_t data, uint64_t modifier, const uint64_t key[2])
{
    struct arm_pac *e;

    if (arm_has(&c->features, AF_PACIMP))
        return own_hash(data, modifier, key[1], key[0]);
    /* What is signed is mostly authenticated soon, and again. */
    e = &c->pac[(data ^ data >> 12 ^ modifier >> 4) % G_N_ELEMENTS(c->pac)];
    if (!e->valid || e->data != data || e->modifier != modifier || e->key[0] != key[0] || e->key[1] != key[1]) {
        *e = (struct arm_pac){ .data = data, .modifier = modifier, .key = { key[0], key[1] }, .valid = true };
        e->pac = arm_has(&c->features, AF_PACQARMA3) ? qarma(data, modifier, key[1], key[0], &sigma1, 3)
                                                     : qarma(data, modifier, key[1], key[0], &sigma2, 5);
    }
    return e->pac;
}

/* ---- where the code lies in a pointer */

struct layout { bool tbi, select_55; unsigned bottom; };

static unsigned address_bits(const struct arm_cpu *c, uint64_t tcr, bool upper)
{
    unsigned tsz = (unsigned)(tcr >> (upper ? 16 : 0) & 63), granule = (unsigned)(tcr >> (upper ? 30 : 14) & 3), bits, most = 48;
    bool is64k = granule == (upper ? 3u : 1u);

    if (arm_has(&c->features, AF_LVA) && is64k)
        most = 52;
    bits = 64 - tsz;
    return bits > most ? most : bits < 16 ? 16 : bits;
}

static struct layout layout_of(const struct arm_cpu *c, bool data, bool upper)
{
    uint64_t hcr = c->sys.hcr, tcr;
    bool host = (hcr >> 34 & 1) && (hcr >> 27 & 1);             /* E2H, TGE */
    unsigned regime = c->el ? c->el : host ? 2 : 1;
    struct layout l;

    tcr = c->sys.tcr[regime];
    if (regime == 1 || (regime == 2 && hcr >> 34 & 1)) {
        bool tbi0 = (tcr >> 37 & 1) && (data || !(tcr >> 51 & 1)), tbi1 = (tcr >> 38 & 1) && (data || !(tcr >> 52 & 1));

        l.tbi = upper ? tbi1 : tbi0;
        l.select_55 = tbi0 || tbi1;
        l.bottom = address_bits(c, tcr, upper);
    } else {
        l.tbi = (tcr >> 20 & 1) && (data || !(tcr >> 29 & 1));
        l.select_55 = l.tbi;
        l.bottom = address_bits(c, tcr, false);
    }
    return l;
}

static uint64_t mask_of(unsigned pos, unsigned len) { return ((UINT64_C(1) << len) - 1) << pos; }

/* The bits of a pointer that hold the code: without bit 55 and, where the top byte is ignored, without that. */
static uint64_t code_bits(const struct layout *l)
{
    return mask_of(l->bottom, 55 - l->bottom) | (l->tbi ? 0 : mask_of(56, 8));
}

static uint64_t extended(const struct layout *l, uint64_t ptr, bool ones)
{
    uint64_t m = mask_of(l->bottom, 55 - l->bottom) | UINT64_C(1) << 55 | (l->tbi ? 0 : mask_of(56, 8));

    return ones ? ptr | m : ptr & ~m;
}

uint64_t arm_helper_pac(struct cpu *cpu, uint64_t ptr, uint64_t modifier, uint32_t key)
{
    struct arm_cpu *c = arm(cpu);
    bool data = key >= 2, select, bad;
    struct layout l = layout_of(c, data, ptr >> 63), other;
    uint64_t ext, code, top, m;

    select = l.select_55 ? ptr >> 55 & 1 : ptr >> 63;
    other = layout_of(c, data, select);
    l.tbi = other.tbi;
    l.bottom = other.bottom;
    ext = extended(&l, ptr, select);
    code = compute(c, ext, modifier, c->sys.key[key & 3]);
    m = code_bits(&l);
    if (arm_has(&c->features, AF_PAuth2))
        return ((ptr ^ code) & m) | (ptr & ~m & ~(UINT64_C(1) << 55)) | (uint64_t)select << 55;
    top = ptr & (l.tbi ? mask_of(l.bottom, 56 - l.bottom) : ~UINT64_C(0) << l.bottom);
    bad = top && top != (l.tbi ? mask_of(l.bottom, 56 - l.bottom) : ~UINT64_C(0) << l.bottom);
    if (bad)                            /* not a pointer: its code shall not authenticate */
        code = arm_has(&c->features, AF_EPAC) ? 0 : code ^ UINT64_C(1) << (l.tbi ? 54 : 62);
    return (code & m) | (ptr & ~m & ~(UINT64_C(1) << 55)) | (uint64_t)select << 55;
}

uint64_t arm_helper_aut(struct cpu *cpu, uint64_t ptr, uint64_t modifier, uint32_t key)
{
    struct arm_cpu *c = arm(cpu);
    bool combined = key & 8, data, upper = ptr >> 55 & 1;
    struct layout l;
    uint64_t original, code, m, r;

    key &= 3;
    data = key >= 2;
    l = layout_of(c, data, upper);
    original = extended(&l, ptr, upper);
    code = compute(c, original, modifier, c->sys.key[key]);
    m = code_bits(&l);
    if (!arm_has(&c->features, AF_PAuth2)) {
        if (!((code ^ ptr) & m))
            return original;
        r = key & 1 ? 2 : 1;            /* an address that faults wherever it is used */
        return l.tbi ? (original & ~mask_of(53, 2)) | r << 53 : (original & ~mask_of(61, 2)) | r << 61;
    }
    r = ptr ^ (code & m);
    if (r != original && arm_has(&c->features, combined ? AF_FPACCOMBINE : AF_FPAC))
        arm_raise(c, ARM_SYNDROME(EC_FPAC, (data ? 2 : 0) | (key & 1)), 0);
    return r;
}

uint64_t arm_helper_xpac(struct cpu *cpu, uint64_t ptr, uint32_t data)
{
    bool upper = ptr >> 55 & 1;
    struct layout l = layout_of(arm(cpu), data, upper);

    return extended(&l, ptr, upper);
}

uint64_t arm_helper_pacga(struct cpu *cpu, uint64_t n, uint64_t m)
{
    struct arm_cpu *c = arm(cpu);

    return compute(c, n, m, c->sys.key[4]) & ~(uint64_t)UINT32_MAX;
}
