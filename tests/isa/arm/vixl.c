/* See vixl.h. */
#include <string.h>
#include "vixl.h"

static unsigned vd(uint32_t raw) { return raw & 31; }
static unsigned vn(uint32_t raw) { return raw >> 5 & 31; }
static unsigned vm(uint32_t raw) { return raw >> 16 & 31; }
static unsigned vm_half(uint32_t raw) { return raw >> 16 & 15; }

/* ---- rows */

/* in: words of the row's pattern, where the mnemonic does not tell it from others; NULL: all of this name. */
static const struct { const char *mnemonic, *in, *why; } lacks[] = {        /* why "": as the one before */
    { "bc.cond", NULL, "FEAT_HBC is younger" },
    { "aese", NULL, "the cryptographic instructions do nothing in it" }, { "aesd", NULL, "" }, { "aesmc", NULL, "" }, { "aesimc", NULL, "" },
    { "sha1c", NULL, "" }, { "sha1p", NULL, "" }, { "sha1m", NULL, "" }, { "sha1su0", NULL, "" }, { "sha1h", NULL, "" }, { "sha1su1", NULL, "" },
    { "sha256h", NULL, "" }, { "sha256h2", NULL, "" }, { "sha256su0", NULL, "" }, { "sha256su1", NULL, "" }, { "sha512h", NULL, "" },
    { "sha512h2", NULL, "" }, { "sha512su0", NULL, "" }, { "sha512su1", NULL, "" }, { "rax1", NULL, "" }, { "eor3", NULL, "" },
    { "bcax", NULL, "" }, { "xar", NULL, "" }, { "sm3partw1", NULL, "" }, { "sm3partw2", NULL, "" }, { "sm3ss1", NULL, "" },
    { "sm3tt1a", NULL, "" }, { "sm3tt1b", NULL, "" }, { "sm3tt2a", NULL, "" }, { "sm3tt2b", NULL, "" }, { "sm4e", NULL, "" }, { "sm4ekey", NULL, "" },
    { "pmull", "01110 11 1", "so does PMULL to 128 bits" },
    { "usdot", NULL, "and Advanced SIMD's FEAT_I8MM" }, { "sudot", NULL, "" }, { "smmla", NULL, "" }, { "usmmla", NULL, "" }, { "ummla", NULL, "" },
    { "bfdot", NULL, "and its FEAT_BF16" }, { "bfmlal", NULL, "" }, { "bfmmla", NULL, "" }, { "bfcvtn", NULL, "" }, { "bfcvt", NULL, "" },
    { "fcmla", "01111 01 index", "FCMLA by element has no halves" },
};

const char *vixl_lacks(const struct any_row *row)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(lacks); n++)
        if (!strcmp(row->mnemonic, lacks[n].mnemonic) && (!lacks[n].in || strstr(row->pattern, lacks[n].in)))
            return *lacks[n].why ? lacks[n].why : "vixl does nothing there";
    return NULL;
}

/* ---- encodings */

/* It writes elements of the destination before it has read all of a source that is the same register. */
static bool same_dm(uint32_t raw) { return vd(raw) == vm(raw) || vd(raw) == vm_half(raw); }
static bool same_dn(uint32_t raw) { return vd(raw) == vn(raw); }
static bool same(uint32_t raw) { return same_dn(raw) || same_dm(raw); }
static bool any(uint32_t raw) { return true; }

static const struct { const char *mnemonic; uint32_t mask, value; bool (*when)(uint32_t raw); const char *why; } wrong[] = {
    { "movk", 0x80000000, 0, any, "sign-extends a W register (C6.2 MOVK: X[d, 32] clears the upper half)" },
    { "ldr", 0x3b200c00, 0x38000800, any, "LDTR does nothing (C6.2 LDTR)" },
    { "str", 0x3b200c00, 0x38000800, any, "nor STTR (C6.2 STTR)" },
    { "ldminmax", 0x80002000, 0, any, "LDSMAX, LDSMIN of bytes and halves sign-extend what they load (C6.2 LDSMAXB: ZeroExtend)" },
    { "fmlal", 0, 0, same, "overlap" }, { "fmlsl", 0, 0, same, "" }, { "fmlal2", 0, 0, same, "" }, { "fmlsl2", 0, 0, same, "" },
    { "pmull", 0, 0, same, "overlap" },
    { "fmla", 0x01000000, 0x01000000, same_dm, "overlap, by element" }, { "fmls", 0x01000000, 0x01000000, same_dm, "" },
    { "fmul", 0x01000000, 0x01000000, same_dm, "" }, { "fmulx", 0x01000000, 0x01000000, same_dm, "" },
    { "fcmla", 0x01000000, 0x01000000, same_dm, "" },
    { "fcvtxn", 0, 0, same_dn, "overlap" },
};

/* LD1 to ST4, post-indexed with SP: it writes XZR instead (C7.2 LD1: SP[] is written). */
static bool is_structure_post_sp(uint32_t raw) { return (raw & 0xbe800000) == 0x0c800000 && vn(raw) == 31; }

bool vixl_wrong(const struct any_row *row, uint32_t raw)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(wrong); n++)
        if (!strcmp(row->mnemonic, wrong[n].mnemonic) && (raw & wrong[n].mask) == wrong[n].value && wrong[n].when(raw))
            return true;
    return is_structure_post_sp(raw);
}

/* ---- results */

/* Conversions that leave the destination's upper part as it was (C1.2.4: a write to a part of a SIMD&FP register clears the
 * rest); fixed numbers to floating point, and narrowing. */
static bool leaves_upper(const struct any_row *row, uint32_t raw)
{
    bool vector = (raw & 0x9f000000) == 0x0e000000 || (raw & 0x9f000000) == 0x0f000000 || (raw & 0xdf000000) == 0x5e000000 ||
                  (raw & 0xdf000000) == 0x5f000000;

    return vector && (g_str_has_suffix(row->mnemonic, "cvtf") || !strcmp(row->mnemonic, "fcvtn"));
}

static unsigned result_bits(uint32_t raw)
{
    unsigned immh = raw >> 19 & 15;

    if (!(raw >> 28 & 1))
        return raw >> 30 & 1 ? 128 : 64;
    if (raw >> 24 & 1)
        return immh & 8 ? 64 : immh & 4 ? 32 : 16;
    return (raw >> 17 & 0x3f) == 0x3c ? 16 : raw >> 22 & 1 ? 64 : 32;
}

/* FMLAL and its kin widen the halves first, so that a signaling NaN among them no longer precedes a quiet one of the addend
 * (FPMulAddH(), FPProcessNaNs3H()). */
static bool widens_first(const struct any_row *row) { return g_str_has_prefix(row->mnemonic, "fmlal") || g_str_has_prefix(row->mnemonic, "fmlsl"); }

bool vixl_has_leftovers(const struct any_row *row) { return leaves_upper(row, row->value) || widens_first(row); }

static bool is_nan32(uint32_t v) { return (v & INT32_MAX) > 0x7f800000; }

static void take_nans(uint32_t *oracle, const uint32_t *ours)
{
    for (unsigned n = 0; n < 4; n++)
        if (is_nan32(oracle[n]) && is_nan32(ours[n]))
            oracle[n] = ours[n];
}

void vixl_even_out(const struct any_row *row, uint32_t raw, struct case_state *oracle, const struct case_state *ours)
{
    uint64_t *d = oracle->v[vd(raw)];

    if (leaves_upper(row, raw)) {
        unsigned bits = result_bits(raw);

        d[1] = bits == 128 ? d[1] : 0;
        d[0] &= bits < 64 ? (UINT64_C(1) << bits) - 1 : UINT64_MAX;
    }
    if (widens_first(row))
        take_nans((uint32_t *)d, (const uint32_t *)ours->v[vd(raw)]);
}
