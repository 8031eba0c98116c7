/* The portable meanings of the cryptographic vector operations (FIPS 197 AES, FIPS 180-4 SHA-1 and SHA-256, carry-less
 * multiplication) and of SSE4.2's string comparisons (SDM vol. 2, 4.1). Rows: vop.def. */
#include "vop_fn.h"

static const uint8_t sbox[256] = {
    0x63, 0x7c, 0x77, 0x7b, 0xf2, 0x6b, 0x6f, 0xc5, 0x30, 0x01, 0x67, 0x2b, 0xfe, 0xd7, 0xab, 0x76,
    0xca, 0x82, 0xc9, 0x7d, 0xfa, 0x59, 0x47, 0xf0, 0xad, 0xd4, 0xa2, 0xaf, 0x9c, 0xa4, 0x72, 0xc0,
    0xb7, 0xfd, 0x93, 0x26, 0x36, 0x3f, 0xf7, 0xcc, 0x34, 0xa5, 0xe5, 0xf1, 0x71, 0xd8, 0x31, 0x15,
    0x04, 0xc7, 0x23, 0xc3, 0x18, 0x96, 0x05, 0x9a, 0x07, 0x12, 0x80, 0xe2, 0xeb, 0x27, 0xb2, 0x75,
    0x09, 0x83, 0x2c, 0x1a, 0x1b, 0x6e, 0x5a, 0xa0, 0x52, 0x3b, 0xd6, 0xb3, 0x29, 0xe3, 0x2f, 0x84,
    0x53, 0xd1, 0x00, 0xed, 0x20, 0xfc, 0xb1, 0x5b, 0x6a, 0xcb, 0xbe, 0x39, 0x4a, 0x4c, 0x58, 0xcf,
    0xd0, 0xef, 0xaa, 0xfb, 0x43, 0x4d, 0x33, 0x85, 0x45, 0xf9, 0x02, 0x7f, 0x50, 0x3c, 0x9f, 0xa8,
    0x51, 0xa3, 0x40, 0x8f, 0x92, 0x9d, 0x38, 0xf5, 0xbc, 0xb6, 0xda, 0x21, 0x10, 0xff, 0xf3, 0xd2,
    0xcd, 0x0c, 0x13, 0xec, 0x5f, 0x97, 0x44, 0x17, 0xc4, 0xa7, 0x7e, 0x3d, 0x64, 0x5d, 0x19, 0x73,
    0x60, 0x81, 0x4f, 0xdc, 0x22, 0x2a, 0x90, 0x88, 0x46, 0xee, 0xb8, 0x14, 0xde, 0x5e, 0x0b, 0xdb,
    0xe0, 0x32, 0x3a, 0x0a, 0x49, 0x06, 0x24, 0x5c, 0xc2, 0xd3, 0xac, 0x62, 0x91, 0x95, 0xe4, 0x79,
    0xe7, 0xc8, 0x37, 0x6d, 0x8d, 0xd5, 0x4e, 0xa9, 0x6c, 0x56, 0xf4, 0xea, 0x65, 0x7a, 0xae, 0x08,
    0xba, 0x78, 0x25, 0x2e, 0x1c, 0xa6, 0xb4, 0xc6, 0xe8, 0xdd, 0x74, 0x1f, 0x4b, 0xbd, 0x8b, 0x8a,
    0x70, 0x3e, 0xb5, 0x66, 0x48, 0x03, 0xf6, 0x0e, 0x61, 0x35, 0x57, 0xb9, 0x86, 0xc1, 0x1d, 0x9e,
    0xe1, 0xf8, 0x98, 0x11, 0x69, 0xd9, 0x8e, 0x94, 0x9b, 0x1e, 0x87, 0xe9, 0xce, 0x55, 0x28, 0xdf,
    0x8c, 0xa1, 0x89, 0x0d, 0xbf, 0xe6, 0x42, 0x68, 0x41, 0x99, 0x2d, 0x0f, 0xb0, 0x54, 0xbb, 0x16,
};
static const uint8_t inverse_sbox[256] = {
    0x52, 0x09, 0x6a, 0xd5, 0x30, 0x36, 0xa5, 0x38, 0xbf, 0x40, 0xa3, 0x9e, 0x81, 0xf3, 0xd7, 0xfb,
    0x7c, 0xe3, 0x39, 0x82, 0x9b, 0x2f, 0xff, 0x87, 0x34, 0x8e, 0x43, 0x44, 0xc4, 0xde, 0xe9, 0xcb,
    0x54, 0x7b, 0x94, 0x32, 0xa6, 0xc2, 0x23, 0x3d, 0xee, 0x4c, 0x95, 0x0b, 0x42, 0xfa, 0xc3, 0x4e,
    0x08, 0x2e, 0xa1, 0x66, 0x28, 0xd9, 0x24, 0xb2, 0x76, 0x5b, 0xa2, 0x49, 0x6d, 0x8b, 0xd1, 0x25,
    0x72, 0xf8, 0xf6, 0x64, 0x86, 0x68, 0x98, 0x16, 0xd4, 0xa4, 0x5c, 0xcc, 0x5d, 0x65, 0xb6, 0x92,
    0x6c, 0x70, 0x48, 0x50, 0xfd, 0xed, 0xb9, 0xda, 0x5e, 0x15, 0x46, 0x57, 0xa7, 0x8d, 0x9d, 0x84,
    0x90, 0xd8, 0xab, 0x00, 0x8c, 0xbc, 0xd3, 0x0a, 0xf7, 0xe4, 0x58, 0x05, 0xb8, 0xb3, 0x45, 0x06,
    0xd0, 0x2c, 0x1e, 0x8f, 0xca, 0x3f, 0x0f, 0x02, 0xc1, 0xaf, 0xbd, 0x03, 0x01, 0x13, 0x8a, 0x6b,
    0x3a, 0x91, 0x11, 0x41, 0x4f, 0x67, 0xdc, 0xea, 0x97, 0xf2, 0xcf, 0xce, 0xf0, 0xb4, 0xe6, 0x73,
    0x96, 0xac, 0x74, 0x22, 0xe7, 0xad, 0x35, 0x85, 0xe2, 0xf9, 0x37, 0xe8, 0x1c, 0x75, 0xdf, 0x6e,
    0x47, 0xf1, 0x1a, 0x71, 0x1d, 0x29, 0xc5, 0x89, 0x6f, 0xb7, 0x62, 0x0e, 0xaa, 0x18, 0xbe, 0x1b,
    0xfc, 0x56, 0x3e, 0x4b, 0xc6, 0xd2, 0x79, 0x20, 0x9a, 0xdb, 0xc0, 0xfe, 0x78, 0xcd, 0x5a, 0xf4,
    0x1f, 0xdd, 0xa8, 0x33, 0x88, 0x07, 0xc7, 0x31, 0xb1, 0x12, 0x10, 0x59, 0x27, 0x80, 0xec, 0x5f,
    0x60, 0x51, 0x7f, 0xa9, 0x19, 0xb5, 0x4a, 0x0d, 0x2d, 0xe5, 0x7a, 0x9f, 0x93, 0xc9, 0x9c, 0xef,
    0xa0, 0xe0, 0x3b, 0x4d, 0xae, 0x2a, 0xf5, 0xb0, 0xc8, 0xeb, 0xbb, 0x3c, 0x83, 0x53, 0x99, 0x61,
    0x17, 0x2b, 0x04, 0x7e, 0xba, 0x77, 0xd6, 0x26, 0xe1, 0x69, 0x14, 0x63, 0x55, 0x21, 0x0c, 0x7d,
};

/* Multiplication in GF(2^8) by x, and by a constant (FIPS 197, 4.2). */
static uint8_t gf_double(uint8_t x)
{
    return (uint8_t)(x << 1 ^ (x & 0x80 ? 0x1b : 0));
}
static uint8_t gf_mul(uint8_t x, unsigned by)
{
    uint8_t r = 0;

    for (; by; by >>= 1, x = gf_double(x))
        if (by & 1)
            r ^= x;
    return r;
}

/* Each column times the circulant matrix whose first row is m. */
static union vec mix_columns(union vec s, const uint8_t m[4])
{
    union vec r = { .u64 = { 0 } };

    for (unsigned i = 0; i < 16; i++)
        for (unsigned k = 0; k < 4; k++)
            r.u8[i] ^= gf_mul(s.u8[(i & ~3u) + k], m[(k - i) & 3]);
    return r;
}
static const uint8_t mix[4] = { 2, 3, 1, 1 }, unmix[4] = { 14, 11, 13, 9 };

/* ShiftRows and SubBytes: byte `row` of column n comes from column n + row * step. */
static union vec shift_sub(const uint8_t *a, const uint8_t *table, unsigned step)
{
    union vec v = vec_of(a, 16), r = { .u64 = { 0 } };

    for (unsigned i = 0; i < 16; i++)
        r.u8[i] = table[v.u8[(i + (i & 3) * 4 * step) & 15]];
    return r;
}

static void put_with_key(uint8_t *dst, union vec s, const uint8_t *key)
{
    union vec k = vec_of(key, 16);

    s.u64[0] ^= k.u64[0];
    s.u64[1] ^= k.u64[1];
    vec_put(dst, &s, 16);
}

VOP_FN(AESENC) { put_with_key(dst, mix_columns(shift_sub(a, sbox, 1), mix), b); }
VOP_FN(AESENCL) { put_with_key(dst, shift_sub(a, sbox, 1), b); }
VOP_FN(AESDEC) { put_with_key(dst, mix_columns(shift_sub(a, inverse_sbox, 3), unmix), b); }
VOP_FN(AESDECL) { put_with_key(dst, shift_sub(a, inverse_sbox, 3), b); }
VOP_FN(AESIMC)
{
    union vec r = mix_columns(vec_of(a, 16), unmix);

    vec_put(dst, &r, 16);
}
VOP_FN(AESKEYGEN)
{
    union vec v = shift_sub(a, sbox, 0), r = { .u64 = { 0 } };

    for (unsigned i = 0; i < 2; i++) {
        uint32_t w = v.u32[2 * i + 1];

        r.u32[2 * i] = w;
        r.u32[2 * i + 1] = (w >> 8 | w << 24) ^ (uint8_t)imm;
    }
    vec_put(dst, &r, 16);
}

VOP_FN(CLMUL)
{
    uint64_t x = vec_of(a, 16).u64[imm & 1], y = vec_of(b, 16).u64[imm >> 4 & 1];
    union vec r = { .u64 = { 0 } };

    for (unsigned i = 0; i < 64; i++)
        if (y >> i & 1) {
            r.u64[0] ^= x << i;
            r.u64[1] ^= i ? x >> (64 - i) : 0;
        }
    vec_put(dst, &r, 16);
}

/* SHA. The Intel instructions keep the earlier word in the higher lane for SHA-1, in the lower for SHA-256. */
static uint32_t rol(uint32_t x, unsigned n) { return x << n | x >> (32 - n); }
static uint32_t ror(uint32_t x, unsigned n) { return x >> n | x << (32 - n); }
static uint32_t choose(uint32_t x, uint32_t y, uint32_t z) { return (x & y) ^ (~x & z); }
static uint32_t parity(uint32_t x, uint32_t y, uint32_t z) { return x ^ y ^ z; }
static uint32_t majority(uint32_t x, uint32_t y, uint32_t z) { return (x & y) ^ (x & z) ^ (y & z); }
static uint32_t sigma0(uint32_t x) { return ror(x, 7) ^ ror(x, 18) ^ x >> 3; }
static uint32_t sigma1(uint32_t x) { return ror(x, 17) ^ ror(x, 19) ^ x >> 10; }

VOP_FN(SHA1NEXTE)
{
    union vec r = vec_of(b, 16);

    r.u32[3] += rol(vec_of(a, 16).u32[3], 30);
    vec_put(dst, &r, 16);
}
VOP_FN(SHA1MSG1)
{
    union vec r = vec_of(a, 16), next = vec_of(b, 16);

    r.u64[1] ^= r.u64[0];
    r.u64[0] ^= next.u64[1];
    vec_put(dst, &r, 16);
}
VOP_FN(SHA1MSG2)
{
    union vec r = vec_of(a, 16), w = vec_of(b, 16);

    r.u32[3] = rol(r.u32[3] ^ w.u32[2], 1);
    r.u32[2] = rol(r.u32[2] ^ w.u32[1], 1);
    r.u32[1] = rol(r.u32[1] ^ w.u32[0], 1);
    r.u32[0] = rol(r.u32[0] ^ r.u32[3], 1);
    vec_put(dst, &r, 16);
}
VOP_FN(SHA1RNDS4)
{
    static uint32_t (*const f[4])(uint32_t, uint32_t, uint32_t) = { choose, parity, majority, parity };
    static const uint32_t k[4] = { 0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6 };
    union vec s = vec_of(a, 16), w = vec_of(b, 16);
    uint32_t e = 0;             /* the first is already in w's highest lane */

    for (unsigned i = 4; i-- > 0;) {
        uint32_t t = f[imm & 3](s.u32[2], s.u32[1], s.u32[0]) + rol(s.u32[3], 5) + w.u32[i] + e + k[imm & 3];

        e = s.u32[0];
        s.u32[0] = s.u32[1];
        s.u32[1] = rol(s.u32[2], 30);
        s.u32[2] = s.u32[3];
        s.u32[3] = t;
    }
    vec_put(dst, &s, 16);
}
VOP_FN(SHA256RNDS2)
{
    union vec cdgh = vec_of(a, 16), abef = vec_of(b, 16), wk = vec_of(c, 16);

    for (unsigned i = 0; i < 2; i++) {
        uint32_t A = abef.u32[3], B = abef.u32[2], E = abef.u32[1], F = abef.u32[0];
        uint32_t t = choose(E, F, cdgh.u32[1]) + (ror(E, 6) ^ ror(E, 11) ^ ror(E, 25)) + wk.u32[i] + cdgh.u32[0];
        uint32_t m = majority(A, B, cdgh.u32[3]) + (ror(A, 2) ^ ror(A, 13) ^ ror(A, 22));

        abef = (union vec){ .u32 = { E, t + cdgh.u32[2], A, t + m } };
        cdgh = (union vec){ .u32 = { cdgh.u32[1], F, cdgh.u32[3], B } };
    }
    vec_put(dst, &abef, 16);
}
VOP_FN(SHA256MSG1)
{
    union vec r = vec_of(a, 16), next = vec_of(b, 16);

    for (unsigned i = 0; i < 4; i++)
        r.u32[i] += sigma0(i < 3 ? r.u32[i + 1] : next.u32[0]);
    vec_put(dst, &r, 16);
}
VOP_FN(SHA256MSG2)
{
    union vec r = vec_of(a, 16), w = vec_of(b, 16);

    for (unsigned i = 0; i < 4; i++)
        r.u32[i] += sigma1(i < 2 ? w.u32[i + 2] : r.u32[i - 2]);
    vec_put(dst, &r, 16);
}

/* SSE4.2 string comparison. imm: 1:0 element type, 3:2 aggregation, 5:4 polarity, 6 index or mask form. */
struct strings {
    int a[16], b[16];
    unsigned n, la, lb;         /* elements in a vector; valid ones of a and b */
};

static int element(const union vec *v, unsigned i, int64_t imm)
{
    switch (imm & 3) {
    case 0: return v->u8[i];
    case 1: return v->u16[i];
    case 2: return v->s8[i];
    default: return v->s16[i];
    }
}

static unsigned explicit_length(int32_t len, unsigned n)
{
    unsigned magnitude = len < 0 ? 0u - (unsigned)len : (unsigned)len;

    return magnitude < n ? magnitude : n;
}

/* lengths: NULL when they end at a zero element. */
static void strings_read(struct strings *s, const uint8_t *a, const uint8_t *b, const uint8_t *lengths, int64_t imm)
{
    union vec va = vec_of(a, 16), vb = vec_of(b, 16);

    s->n = imm & 1 ? 8 : 16;
    s->la = s->lb = s->n;
    for (unsigned i = s->n; i-- > 0;) {
        s->a[i] = element(&va, i, imm);
        s->b[i] = element(&vb, i, imm);
        if (!lengths && !s->a[i])
            s->la = i;
        if (!lengths && !s->b[i])
            s->lb = i;
    }
    if (lengths) {
        union vec l = vec_of(lengths, 8);
        s->la = explicit_length(l.s32[0], s->n);
        s->lb = explicit_length(l.s32[1], s->n);
    }
}

/* Whether element j of b satisfies the aggregation; invalid elements as table 4-7 ("comparison result for each
 * element pair") has them. */
static bool string_match(const struct strings *s, unsigned j, unsigned aggregation)
{
    switch (aggregation) {
    case 0:             /* equal any */
        for (unsigned i = 0; i < s->la; i++)
            if (j < s->lb && s->a[i] == s->b[j])
                return true;
        return false;
    case 1:             /* ranges */
        for (unsigned i = 0; i + 1 < s->la; i += 2)
            if (j < s->lb && s->b[j] >= s->a[i] && s->b[j] <= s->a[i + 1])
                return true;
        return false;
    case 2:             /* equal each */
        return j < s->la && j < s->lb ? s->a[j] == s->b[j] : j >= s->la && j >= s->lb;
    default:            /* equal ordered: a is found at j */
        for (unsigned i = 0; i < s->la && i + j < s->n; i++)
            if (i + j >= s->lb || s->a[i] != s->b[i + j])
                return false;
        return true;
    }
}

static unsigned strings_compare(const struct strings *s, int64_t imm)
{
    unsigned r = 0;

    for (unsigned j = 0; j < s->n; j++)
        r |= (unsigned)string_match(s, j, imm >> 2 & 3) << j;
    if (imm & 0x10)             /* negative; masked: of the valid elements of b */
        r ^= (1u << (imm & 0x20 ? s->lb : s->n)) - 1;
    return r;
}

/* ECX in the low half, EFLAGS in the high one. */
static void strings_index(uint8_t *dst, const struct strings *s, int64_t imm)
{
    unsigned r = strings_compare(s, imm);
    uint64_t index = !r ? s->n : imm & 0x40 ? 31u - (unsigned)__builtin_clz(r) : (unsigned)__builtin_ctz(r);
    uint64_t flags = (r ? 1u : 0) | (s->lb < s->n ? 0x40u : 0) | (s->la < s->n ? 0x80u : 0) | (r & 1 ? 0x800u : 0);

    index |= flags << 32;
    memcpy(dst, &index, 8);
}

static void strings_mask(uint8_t *dst, const struct strings *s, int64_t imm)
{
    unsigned r = strings_compare(s, imm);
    union vec v = { .u64 = { 0 } };

    if (!(imm & 0x40))
        v.u64[0] = r;
    else
        for (unsigned i = 0; i < 16; i++)
            v.u8[i] = r >> (s->n == 8 ? i / 2 : i) & 1 ? 0xff : 0;
    vec_put(dst, &v, 16);
}

#define VOP_STRINGS(id, lengths, put)                                                                        \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        struct strings s;                                                                                    \
        strings_read(&s, a, b, lengths, imm);                                                                \
        put(dst, &s, imm);                                                                                   \
    }
VOP_STRINGS(PCMPISTRI, NULL, strings_index)
VOP_STRINGS(PCMPISTRM, NULL, strings_mask)
VOP_STRINGS(PCMPESTRI, c, strings_index)
VOP_STRINGS(PCMPESTRM, c, strings_mask)
