/* A64 cryptography: AES, SHA1, SHA256 by the host's instructions, which name the same steps otherwise; SHA512 by arithmetic;
 * SM3, SM4 by C functions. DDI 0487 C7 and the shared pseudocode (AESMixColumns(), SHA256hash() ...). */
#include "a64_simd.h"

static bool begin(struct v_op *o, struct arm_t *t, const struct a64_insn *i)
{
    *o = (struct v_op){ .t = t, .ir = t->ir, .i = i, .size = 2, .q = true };
    return arm_check_fp(t);
}
static ir_val call(const struct v_op *o, unsigned op, ir_val d, ir_val n, ir_val m)
{
    return arm_call(o->t, ARM_HELP_crypto, ir_const(o->ir, T_I32, op), d, n, m);
}
static ir_val zero(const struct v_op *o) { return v_const(o, 0); }

/* What rotl by n is of 32-bit lanes. */
static ir_val rotl32(const struct v_op *o, ir_val v, unsigned n) { return v_or(o, v_shl(o, 2, v, n), v_shr(o, 2, v, 32 - n)); }
static ir_val rotr64(const struct v_op *o, ir_val v, unsigned n)
{
    return n ? v_or(o, v_shr(o, 3, v, n), v_shl(o, 3, v, 64 - n)) : v;
}

#define EMIT_CRYPTO(name)                                                                          \
    static ir_val crypto_##name(const struct v_op *o, ir_val d, ir_val n, ir_val m);               \
    EMIT(name) { run(t, i, crypto_##name); }                                                       \
    static ir_val crypto_##name(const struct v_op *o, ir_val d, ir_val n, ir_val m)
/* With two registers m is what the field vm happens to hold: not used. */
static void run(struct arm_t *t, const struct a64_insn *i, ir_val (*fn)(const struct v_op *o, ir_val d, ir_val n, ir_val m))
{
    struct v_op o;

    if (begin(&o, t, i))
        a64_put_q(t, i->vd, fn(&o, a64_q(t, i->vd), a64_q(t, i->vn), a64_q(t, i->vm & 31)));
}

/* ---- AES: the key is added first; the host's last round adds it last. MixColumns alone is a round that undoes the rest; right
 * behind the AESE of the same register it is the host's whole round. */
static ir_val aes_round(const struct v_op *o, bool inverse, ir_val d, ir_val n)
{
    d = v_xor(o, d, n);
    o->t->aes.added = d;
    o->t->aes.pc = o->i->pc;
    o->t->aes.vd = o->i->vd;
    o->t->aes.inverse = inverse;
    return v2(o, inverse ? VOP_AESDECL : VOP_AESENCL, d, zero(o));
}
/* The state that the instruction before this, of the same block, was to make n from; else 0. */
static ir_val aes_before(const struct v_op *o, bool inverse)
{
    const struct arm_t *t = o->t;

    return t->aes.added && t->aes.pc + 4 == o->i->pc && t->aes.vd == o->i->vn && t->aes.inverse == inverse &&
           t->ir->val_op[t->aes.added] >= t->ir->block_start ? t->aes.added : 0;
}
EMIT_CRYPTO(aese) { return aes_round(o, false, d, n); }
EMIT_CRYPTO(aesd) { return aes_round(o, true, d, n); }
EMIT_CRYPTO(aesmc)
{
    ir_val before = aes_before(o, false);

    return v2(o, VOP_AESENC, before ? before : v2(o, VOP_AESDECL, n, zero(o)), zero(o));
}
EMIT_CRYPTO(aesimc)
{
    ir_val before = aes_before(o, true);

    return before ? v2(o, VOP_AESDEC, before, zero(o)) : v1(o, VOP_AESIMC, n);
}

/* ---- SHA1: the host has A in the top lane, e added to the first word, and adds the round's constant itself */
static ir_val sha1_rounds(const struct v_op *o, unsigned function, uint32_t constant, ir_val d, ir_val n, ir_val m)
{
    ir_val words = v_sub(o, 2, m, v_splat(o, 2, constant)), e = v2i(o, VOP_INSERTPS, n, n, 0x0e);

    words = v1i(o, VOP_SHUF32, v_add(o, 2, words, e), 0x1b);
    return v1i(o, VOP_SHUF32, v2i(o, VOP_SHA1RNDS4, v1i(o, VOP_SHUF32, d, 0x1b), words, function), 0x1b);
}
EMIT_CRYPTO(sha1c) { return sha1_rounds(o, 0, 0x5a827999, d, n, m); }
EMIT_CRYPTO(sha1p) { return sha1_rounds(o, 1, 0x6ed9eba1, d, n, m); }
EMIT_CRYPTO(sha1m) { return sha1_rounds(o, 2, 0x8f1bbcdc, d, n, m); }
EMIT_CRYPTO(sha1h) { return v2i(o, VOP_INSERTPS, zero(o), rotl32(o, n, 30), 0x0e); }
EMIT_CRYPTO(sha1su0) { return v_xor(o, v_xor(o, v2i(o, VOP_ALIGNR, n, d, 8), d), m); }
EMIT_CRYPTO(sha1su1)
{
    ir_val x = v_xor(o, d, v1i(o, VOP_BYTESHR, n, 4));

    return v_xor(o, rotl32(o, x, 1), rotl32(o, v1i(o, VOP_BYTESHL, x, 12), 2));
}

/* ---- SHA256: four rounds are two of the host's steps, which keep A B E F and C D G H, A and C in the top lanes */
static void sha256_rounds(const struct v_op *o, ir_val abcd, ir_val efgh, ir_val words, ir_val *abef, ir_val *cdgh)
{
    /* lanes from the bottom: F E B A, H G D C */
    *abef = v1i(o, VOP_SHUF32, v2(o, VOP_UNPKL64, efgh, abcd), 0xb1);
    *cdgh = v1i(o, VOP_SHUF32, v2(o, VOP_UNPKH64, efgh, abcd), 0xb1);
    *cdgh = v3(o, VOP_SHA256RNDS2, *cdgh, *abef, words);
    *abef = v3(o, VOP_SHA256RNDS2, *abef, *cdgh, v1i(o, VOP_SHUF32, words, 0x0e));
    /* what the second step made is A B E F; what went into it, of the first, is C D G H */
}
EMIT_CRYPTO(sha256h)
{
    ir_val abef, cdgh;

    sha256_rounds(o, d, n, m, &abef, &cdgh);
    return v1i(o, VOP_SHUF32, v2(o, VOP_UNPKH64, cdgh, abef), 0x1b);            /* D C B A from the bottom, turned */
}
EMIT_CRYPTO(sha256h2)
{
    ir_val abef, cdgh;

    sha256_rounds(o, n, d, m, &abef, &cdgh);
    return v1i(o, VOP_SHUF32, v2(o, VOP_UNPKL64, cdgh, abef), 0x1b);
}
EMIT_CRYPTO(sha256su0) { return v2(o, VOP_SHA256MSG1, d, n); }
EMIT_CRYPTO(sha256su1) { return v2(o, VOP_SHA256MSG2, v_add(o, 2, d, v2i(o, VOP_ALIGNR, m, n, 4)), m); }

/* ---- SHA512: the rounds in general registers, whose rotations the host has; the schedule in vectors. DDI 0487 C7.2, SHA512H */
static ir_val i64(const struct v_op *o, enum ir_opcode op, ir_val a, ir_val b) { return ir_bin(o->ir, op, a, b); }
static ir_val half(const struct v_op *o, ir_val v, unsigned n)
{
    return ir_vop(o->ir, n ? VOP_EXT64 : VOP_TOQ, T_I64, v, 0, 0, n);
}
static ir_val halves(const struct v_op *o, ir_val low, ir_val high)
{
    return v2i(o, VOP_INS64, ir_vop(o->ir, VOP_MOVQ, T_V128, low, 0, 0, 0), high, 1);
}
static ir_val big_sigma(const struct v_op *o, ir_val v, unsigned a, unsigned b, unsigned c)
{
    return i64(o, IR_XOR, i64(o, IR_XOR, ir_bin_imm(o->ir, IR_ROTR, v, a), ir_bin_imm(o->ir, IR_ROTR, v, b)), ir_bin_imm(o->ir, IR_ROTR, v, c));
}
static ir_val choose(const struct v_op *o, ir_val x, ir_val y, ir_val z) { return i64(o, IR_XOR, z, i64(o, IR_AND, x, i64(o, IR_XOR, y, z))); }
static ir_val majority(const struct v_op *o, ir_val x, ir_val y, ir_val z)
{
    return i64(o, IR_XOR, i64(o, IR_AND, x, y), i64(o, IR_AND, z, i64(o, IR_XOR, x, y)));
}
static ir_val sum3(const struct v_op *o, ir_val a, ir_val b, ir_val c) { return i64(o, IR_ADD, i64(o, IR_ADD, a, b), c); }

EMIT_CRYPTO(sha512h)
{
    ir_val n0 = half(o, n, 0), n1 = half(o, n, 1), m1 = half(o, m, 1), high, t;

    high = sum3(o, choose(o, m1, n0, n1), big_sigma(o, m1, 14, 18, 41), half(o, d, 1));
    t = i64(o, IR_ADD, high, half(o, m, 0));
    return halves(o, sum3(o, choose(o, t, m1, n0), big_sigma(o, t, 14, 18, 41), half(o, d, 0)), high);
}
EMIT_CRYPTO(sha512h2)
{
    ir_val m0 = half(o, m, 0), m1 = half(o, m, 1), high;

    high = sum3(o, majority(o, half(o, n, 0), m1, m0), big_sigma(o, m0, 28, 34, 39), half(o, d, 1));
    return halves(o, sum3(o, majority(o, high, m0, m1), big_sigma(o, high, 28, 34, 39), half(o, d, 0)), high);
}
static ir_val small_sigma(const struct v_op *o, ir_val v, unsigned a, unsigned b, unsigned shift)
{
    return v_xor(o, v_xor(o, rotr64(o, v, a), rotr64(o, v, b)), v_shr(o, 3, v, shift));
}
EMIT_CRYPTO(sha512su0) { return v_add(o, 3, d, small_sigma(o, v2i(o, VOP_ALIGNR, n, d, 8), 1, 8, 7)); }
EMIT_CRYPTO(sha512su1) { return v_add(o, 3, v_add(o, 3, d, small_sigma(o, n, 19, 61, 6)), m); }

/* ---- SHA3 */
EMIT_CRYPTO(rax1) { return v_xor(o, n, rotr64(o, m, 63)); }
EMIT_CRYPTO(xar) { return rotr64(o, v_xor(o, n, m), o->i->imm6); }
EMIT_CRYPTO(eor3) { return v_xor(o, v_xor(o, n, m), a64_q(o->t, o->i->va)); }
EMIT_CRYPTO(bcax) { return v_xor(o, n, v_andn(o, a64_q(o->t, o->i->va), m)); }

/* ---- SM3 and SM4 */
EMIT_CRYPTO(sm3partw1) { return call(o, CRYPTO_SM3PARTW1, d, n, m); }
EMIT_CRYPTO(sm3partw2) { return call(o, CRYPTO_SM3PARTW2, d, n, m); }
EMIT_CRYPTO(sm3ss1) { return call(o, CRYPTO_SM3SS1, a64_q(o->t, o->i->va), n, m); }
EMIT_CRYPTO(sm3tt1a) { return call(o, CRYPTO_SM3TT1A | (unsigned)o->i->index << 8, d, n, m); }
EMIT_CRYPTO(sm3tt1b) { return call(o, CRYPTO_SM3TT1B | (unsigned)o->i->index << 8, d, n, m); }
EMIT_CRYPTO(sm3tt2a) { return call(o, CRYPTO_SM3TT2A | (unsigned)o->i->index << 8, d, n, m); }
EMIT_CRYPTO(sm3tt2b) { return call(o, CRYPTO_SM3TT2B | (unsigned)o->i->index << 8, d, n, m); }
EMIT_CRYPTO(sm4e) { return call(o, CRYPTO_SM4E, d, n, n); }
EMIT_CRYPTO(sm4ekey) { return call(o, CRYPTO_SM4EKEY, d, n, m); }
