/* The portable meanings of vector operations that move lanes: between registers, shuffles, packs, conversions of width.
 * Rows: vop.def. Unless a row says otherwise each 128 bits are rearranged by themselves. */
#include "vop_fn.h"

VOP_FN(CAT)
{
    union vec r = vec_of(a, 16), high = vec_of(b, 16);

    memcpy(r.u8 + 16, high.u8, 16);
    vec_put(dst, &r, 32);
}
VOP_FN(ZEXT)
{
    union vec r = vec_of(a, 16);

    vec_put(dst, &r, bytes);
}
VOP_FN(LO) { memmove(dst, a, 16); }
VOP_FN(HI) { memmove(dst, a + 16, 16); }

/* Integer results are 8 bytes, zero-extended; nothing beyond them is written. */
static void put_int(uint8_t *dst, uint64_t v)
{
    memcpy(dst, &v, 8);
}

static uint64_t get_int(const uint8_t *a)
{
    uint64_t v;

    memcpy(&v, a, 8);
    return v;
}

VOP_FN(MOVD)
{
    union vec r = { .u64 = { (uint32_t)get_int(a) } };
    vec_put(dst, &r, 16);
}
VOP_FN(MOVQ)
{
    union vec r = { .u64 = { get_int(a) } };
    vec_put(dst, &r, 16);
}
VOP_FN(MOVQZ)
{
    union vec r = { .u64 = { get_int(a) } };
    vec_put(dst, &r, 16);
}
VOP_FN(TOD) { put_int(dst, vec_of(a, 16).u32[0]); }
VOP_FN(TOQ) { put_int(dst, vec_of(a, 16).u64[0]); }
VOP_FN(MOVSS)
{
    union vec r = vec_of(a, 16);

    r.u32[0] = vec_of(b, 16).u32[0];
    vec_put(dst, &r, 16);
}
VOP_FN(MOVSD)
{
    union vec r = vec_of(a, 16);

    r.u64[0] = vec_of(b, 16).u64[0];
    vec_put(dst, &r, 16);
}

VOP_FN(INS8)
{
    union vec r = vec_of(a, 16);

    r.u8[imm & 15] = (uint8_t)get_int(b);
    vec_put(dst, &r, 16);
}
VOP_FN(INS16)
{
    union vec r = vec_of(a, 16);

    r.u16[imm & 7] = (uint16_t)get_int(b);
    vec_put(dst, &r, 16);
}
VOP_FN(INS32)
{
    union vec r = vec_of(a, 16);

    r.u32[imm & 3] = (uint32_t)get_int(b);
    vec_put(dst, &r, 16);
}
VOP_FN(INS64)
{
    union vec r = vec_of(a, 16);

    r.u64[imm & 1] = get_int(b);
    vec_put(dst, &r, 16);
}
VOP_FN(EXT8) { put_int(dst, vec_of(a, 16).u8[imm & 15]); }
VOP_FN(EXT16) { put_int(dst, vec_of(a, 16).u16[imm & 7]); }
VOP_FN(EXT32) { put_int(dst, vec_of(a, 16).u32[imm & 3]); }
VOP_FN(EXT64) { put_int(dst, vec_of(a, 16).u64[imm & 1]); }

/* Sign bits of each lane of `size` bytes, lane 0 in bit 0. */
static uint64_t sign_mask(const uint8_t *a, unsigned bytes, unsigned size)
{
    uint64_t mask = 0;

    for (unsigned i = 0; i < bytes / size; i++)
        mask |= (uint64_t)(a[i * size + size - 1] >> 7) << i;
    return mask;
}
VOP_FN(MOVMSK8) { put_int(dst, sign_mask(a, bytes, 1)); }
VOP_FN(MOVMSKPS) { put_int(dst, sign_mask(a, bytes, 4)); }
VOP_FN(MOVMSKPD) { put_int(dst, sign_mask(a, bytes, 8)); }

/* EFLAGS of PTEST and VTEST: ZF (bit 6), CF (bit 0), the others clear. */
static void put_test(uint8_t *dst, const uint8_t *a, const uint8_t *b, unsigned bytes, uint64_t mask)
{
    union vec va = vec_of(a, bytes), vb = vec_of(b, bytes);
    uint64_t both = 0, only_b = 0;

    for (unsigned i = 0; i < bytes / 8; i++) {
        both |= va.u64[i] & vb.u64[i] & mask;
        only_b |= ~va.u64[i] & vb.u64[i] & mask;
    }
    put_int(dst, (both ? 0u : 0x40u) | (only_b ? 0u : 1u));
}
VOP_FN(PTEST) { put_test(dst, a, b, bytes, ~0ull); }
VOP_FN(TESTPS) { put_test(dst, a, b, bytes, 0x8000000080000000ull); }
VOP_FN(TESTPD) { put_test(dst, a, b, bytes, 0x8000000000000000ull); }

/* Lane i of the result is lane `from` of v; N lanes in 128 bits, `base` is the first of lane i's. */
#define VOP_PICK(id, L, v, from)                                                                             \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        enum { N = 16 / sizeof(((union vec *)0)->L[0]) };                                                    \
        union vec va = vec_of(a, bytes), vb = b ? vec_of(b, bytes) : va, r;                                  \
        (void)vb;                                                                                            \
        for (unsigned i = 0; i < bytes / 16 * N; i++) {                                                      \
            unsigned base = i / N * N, k = i % N;                                                            \
            (void)k;                                                                                         \
            r.L[i] = (v).L[base + (from)];                                                                   \
        }                                                                                                    \
        vec_put(dst, &r, bytes);                                                                             \
    }

VOP_PICK(UNPKL8, u8, k & 1 ? vb : va, k / 2)
VOP_PICK(UNPKL16, u16, k & 1 ? vb : va, k / 2)
VOP_PICK(UNPKL32, u32, k & 1 ? vb : va, k / 2)
VOP_PICK(UNPKL64, u64, k & 1 ? vb : va, k / 2)
VOP_PICK(UNPKH8, u8, k & 1 ? vb : va, N / 2 + k / 2)
VOP_PICK(UNPKH16, u16, k & 1 ? vb : va, N / 2 + k / 2)
VOP_PICK(UNPKH32, u32, k & 1 ? vb : va, N / 2 + k / 2)
VOP_PICK(UNPKH64, u64, k & 1 ? vb : va, N / 2 + k / 2)
VOP_PICK(UNPKLPS, u32, k & 1 ? vb : va, k / 2)
VOP_PICK(UNPKLPD, u64, k & 1 ? vb : va, k / 2)
VOP_PICK(UNPKHPS, u32, k & 1 ? vb : va, N / 2 + k / 2)
VOP_PICK(UNPKHPD, u64, k & 1 ? vb : va, N / 2 + k / 2)
VOP_PICK(SHUF32, u32, va, imm >> 2 * k & 3)
VOP_PICK(SHUFL16, u16, va, k < 4 ? (imm >> 2 * k & 3) : k)
VOP_PICK(SHUFH16, u16, va, k < 4 ? k : 4 + (imm >> 2 * (k - 4) & 3))
VOP_PICK(SHUFPS, u32, k < 2 ? va : vb, imm >> 2 * k & 3)
VOP_PICK(SHUFPD, u64, k < 1 ? va : vb, imm >> i & 1)
VOP_PICK(MOVDDUP, u64, va, 0)
VOP_PICK(MOVSLDUP, u32, va, k & ~1u)
VOP_PICK(MOVSHDUP, u32, va, k | 1)
VOP_PICK(PERMVPS, u32, va, vb.u32[i] & 3)
VOP_PICK(PERMVPD, u64, va, vb.u64[i] >> 1 & 1)
VOP_PICK(PERMIPS, u32, va, imm >> 2 * k & 3)
VOP_PICK(PERMIPD, u64, va, imm >> i & 1)
VOP_PICK(BLEND16, u16, imm >> k & 1 ? vb : va, k)
VOP_PICK(BLEND32, u32, imm >> i & 1 ? vb : va, k)
VOP_PICK(BLENDPS, u32, imm >> i & 1 ? vb : va, k)
VOP_PICK(BLENDPD, u64, imm >> i & 1 ? vb : va, k)

static void blendv(uint8_t *dst, const uint8_t *a, const uint8_t *b, const uint8_t *c, unsigned bytes, unsigned size)
{
    union vec va = vec_of(a, bytes), vb = vec_of(b, bytes), vc = vec_of(c, bytes);

    for (unsigned i = 0; i < bytes; i++)
        dst[i] = vc.u8[i | (size - 1)] & 0x80 ? vb.u8[i] : va.u8[i];
}
VOP_FN(BLENDV8) { blendv(dst, a, b, c, bytes, 1); }
VOP_FN(BLENDVPS) { blendv(dst, a, b, c, bytes, 4); }
VOP_FN(BLENDVPD) { blendv(dst, a, b, c, bytes, 8); }

VOP_FN(INSERTPS)
{
    union vec r = vec_of(a, 16);

    r.u32[imm >> 4 & 3] = vec_of(b, 16).u32[imm >> 6 & 3];
    for (unsigned i = 0; i < 4; i++)
        if (imm >> i & 1)
            r.u32[i] = 0;
    vec_put(dst, &r, 16);
}

VOP_FN(SHUF8)
{
    union vec va = vec_of(a, bytes), vb = vec_of(b, bytes), r;

    for (unsigned i = 0; i < bytes; i++)
        r.u8[i] = vb.u8[i] & 0x80 ? 0 : va.u8[(i & ~15u) + (vb.u8[i] & 15)];
    vec_put(dst, &r, bytes);
}

/* Bytes n.. of each 128 bits of high:low, zero beyond them. */
static void bytes_from(uint8_t *dst, const uint8_t *low, const uint8_t *high, unsigned n, unsigned bytes)
{
    union vec vl = vec_of(low, bytes), vh = vec_of(high, bytes), r;

    for (unsigned i = 0; i < bytes; i++) {
        unsigned base = i & ~15u, from = (i & 15) + n;
        r.u8[i] = from < 16 ? vl.u8[base + from] : from < 32 ? vh.u8[base + from - 16] : 0;
    }
    vec_put(dst, &r, bytes);
}
static const uint8_t zeros[32];

VOP_FN(ALIGNR) { bytes_from(dst, b, a, imm & 0xff, bytes); }
VOP_FN(BYTESHR) { bytes_from(dst, a, zeros, imm & 0xff, bytes); }
VOP_FN(BYTESHL)
{
    unsigned n = imm & 0xff;

    bytes_from(dst, zeros, a, n > 16 ? 32 : 16 - n, bytes);
}

/* Lanes of a, then of b, narrowed with saturation, within each 128 bits. */
#define VOP_PACK(id, from, to, low, high)                                                                    \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        enum { N = 16 / sizeof(((union vec *)0)->from[0]) };                                                 \
        union vec va = vec_of(a, bytes), vb = vec_of(b, bytes), r;                                           \
        for (unsigned i = 0; i < bytes / 16 * N * 2; i++) {                                                  \
            const union vec *v = i % (2 * N) < N ? &va : &vb;                                                \
            __typeof__(r.from[0]) x = v->from[i / (2 * N) * N + i % N];                                      \
            r.to[i] = (__typeof__(r.to[0]))(x < (low) ? (low) : x > (high) ? (high) : x);                    \
        }                                                                                                    \
        vec_put(dst, &r, bytes);                                                                             \
    }
VOP_PACK(PACKS16, s16, s8, INT8_MIN, INT8_MAX)
VOP_PACK(PACKU16, s16, u8, 0, UINT8_MAX)
VOP_PACK(PACKS32, s32, s16, INT16_MIN, INT16_MAX)
VOP_PACK(PACKU32, s32, u16, 0, UINT16_MAX)

/* The low lanes of a 128-bit a, widened to fill the result. */
#define VOP_WIDEN(id, from, to)                                                                              \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        union vec va = vec_of(a, 16), r;                                                                     \
        for (unsigned i = 0; i < bytes / sizeof(r.to[0]); i++)                                               \
            r.to[i] = va.from[i];                                                                            \
        vec_put(dst, &r, bytes);                                                                             \
    }
VOP_WIDEN(SX8_16, s8, s16)
VOP_WIDEN(SX8_32, s8, s32)
VOP_WIDEN(SX8_64, s8, s64)
VOP_WIDEN(SX16_32, s16, s32)
VOP_WIDEN(SX16_64, s16, s64)
VOP_WIDEN(SX32_64, s32, s64)
VOP_WIDEN(ZX8_16, u8, u16)
VOP_WIDEN(ZX8_32, u8, u32)
VOP_WIDEN(ZX8_64, u8, u64)
VOP_WIDEN(ZX16_32, u16, u32)
VOP_WIDEN(ZX16_64, u16, u64)
VOP_WIDEN(ZX32_64, u32, u64)

#define VOP_DUP(id, L)                                                                                       \
    VOP_FN(id)                                                                                               \
    {                                                                                                        \
        union vec va = vec_of(a, 16), r;                                                                     \
        for (unsigned i = 0; i < bytes / sizeof(r.L[0]); i++)                                                \
            r.L[i] = va.L[0];                                                                                \
        vec_put(dst, &r, bytes);                                                                             \
    }
VOP_DUP(DUP8, u8)
VOP_DUP(DUP16, u16)
VOP_DUP(DUP32, u32)
VOP_DUP(DUP64, u64)
VOP_DUP(DUPPS, u32)
VOP_DUP(DUPPD, u64)

/* Across all 256 bits. */
VOP_FN(PERM32)
{
    union vec va = vec_of(a, 32), vb = vec_of(b, 32), r;

    for (unsigned i = 0; i < 8; i++)
        r.u32[i] = vb.u32[va.u32[i] & 7];
    vec_put(dst, &r, 32);
}
VOP_FN(PERMPS) { vop_fn_PERM32(cpu, dst, a, b, c, imm, bytes); }

VOP_FN(PERMI64)
{
    union vec va = vec_of(a, 32), r;

    for (unsigned i = 0; i < 4; i++)
        r.u64[i] = va.u64[imm >> 2 * i & 3];
    vec_put(dst, &r, 32);
}
VOP_FN(PERMPD) { vop_fn_PERMI64(cpu, dst, a, b, c, imm, bytes); }

VOP_FN(PERM128)
{
    union vec v[2] = { vec_of(a, 32), vec_of(b, 32) }, r = { .u64 = { 0 } };

    for (unsigned i = 0; i < 2; i++) {
        unsigned sel = (unsigned)imm >> 4 * i;
        if (!(sel & 8))
            memcpy(r.u8 + 16 * i, v[sel >> 1 & 1].u8 + 16 * (sel & 1), 16);
    }
    vec_put(dst, &r, 32);
}
VOP_FN(PERMF128) { vop_fn_PERM128(cpu, dst, a, b, c, imm, bytes); }

/* SSE4a (AMD APM vol. 4). A field length of 0 is 64; a field that leaves the quadword is undefined: it is cut there. */
static uint64_t field_mask(unsigned length)
{
    return length & 63 ? (1ull << (length & 63)) - 1 : ~0ull;
}
VOP_FN(EXTRQ)
{
    union vec r = vec_of(a, 16), vb = vec_of(b, 16);

    r.u64[0] = r.u64[0] >> (vb.u8[1] & 63) & field_mask(vb.u8[0]);
    r.u64[1] = 0;
    vec_put(dst, &r, 16);
}
VOP_FN(INSERTQ)
{
    union vec r = vec_of(a, 16), vb = vec_of(b, 16);
    unsigned index = vb.u8[9] & 63;
    uint64_t mask = field_mask(vb.u8[8]);

    r.u64[0] = (r.u64[0] & ~(mask << index)) | (vb.u64[0] & mask) << index;
    r.u64[1] = 0;
    vec_put(dst, &r, 16);
}
