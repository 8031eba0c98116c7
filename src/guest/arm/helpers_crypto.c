/* Cryptography that host instructions do not do: SM3, SM4; and, for AArch32, the hashes' rounds. By the pseudocode of the
 * instructions, DDI 0487 C7.2 (SM3TT1A and others). Words of a vector are numbered from the bottom. */
#include <string.h>
#include "rhea/guest/sm4.h"
#include "simd_ops.h"

union vec {
    uint8_t b[16];
    uint32_t w[4];
    uint64_t d[2];
};
struct operands { union vec d, n, m; unsigned index; };
typedef union vec crypto_fn(const struct operands *o);

static uint32_t rol(uint32_t v, unsigned n) { return v << n | v >> (32 - n); }
#define CRYPTO(name) static union vec do_##name(const struct operands *o)

/* ---- SM3 */

CRYPTO(sm3partw1)
{
    union vec r;

    for (unsigned n = 0; n < 4; n++) {
        r.w[n] = o->d.w[n] ^ o->n.w[n] ^ rol(n < 3 ? o->m.w[n + 1] : r.w[0], 15);
        r.w[n] ^= rol(r.w[n], 15) ^ rol(r.w[n], 23);
    }
    return r;
}
CRYPTO(sm3partw2)
{
    union vec r;
    uint32_t t = rol(o->n.w[0] ^ rol(o->m.w[0], 7), 15);

    for (unsigned n = 0; n < 4; n++)
        r.w[n] = o->d.w[n] ^ o->n.w[n] ^ rol(o->m.w[n], 7);
    r.w[3] ^= t ^ rol(t, 15) ^ rol(t, 23);
    return r;
}
/* d stands for the register va */
CRYPTO(sm3ss1) { return (union vec){ .w = { 0, 0, 0, rol(rol(o->n.w[3], 12) + o->m.w[3] + o->d.w[3], 7) } }; }

static uint32_t parity(const union vec *v) { return v->w[1] ^ v->w[3] ^ v->w[2]; }
static uint32_t most(const union vec *v) { return (v->w[3] & v->w[1]) | (v->w[3] & v->w[2]) | (v->w[1] & v->w[2]); }
static uint32_t either(const union vec *v) { return (v->w[3] & v->w[2]) | (~v->w[3] & v->w[1]); }

static union vec tt1(const struct operands *o, uint32_t t)
{
    t += o->d.w[0] + (o->n.w[3] ^ rol(o->d.w[3], 12)) + o->m.w[o->index & 3];
    return (union vec){ .w = { o->d.w[1], rol(o->d.w[2], 9), o->d.w[3], t } };
}
static union vec tt2(const struct operands *o, uint32_t t)
{
    t += o->d.w[0] + o->n.w[3] + o->m.w[o->index & 3];
    return (union vec){ .w = { o->d.w[1], rol(o->d.w[2], 19), o->d.w[3], t ^ rol(t, 9) ^ rol(t, 17) } };
}
CRYPTO(sm3tt1a) { return tt1(o, parity(&o->d)); }
CRYPTO(sm3tt1b) { return tt1(o, most(&o->d)); }
CRYPTO(sm3tt2a) { return tt2(o, parity(&o->d)); }
CRYPTO(sm3tt2b) { return tt2(o, either(&o->d)); }

/* ---- SM4 */

static uint32_t substitute(uint32_t v)
{
    return sm4_box[v & 255] | (uint32_t)sm4_box[v >> 8 & 255] << 8 | (uint32_t)sm4_box[v >> 16 & 255] << 16 | (uint32_t)sm4_box[v >> 24] << 24;
}
static union vec sm4_rounds(union vec v, const union vec *keys, bool schedule)
{
    for (unsigned n = 0; n < 4; n++) {
        uint32_t t = substitute(v.w[3] ^ v.w[2] ^ v.w[1] ^ keys->w[n]);

        t ^= schedule ? rol(t, 13) ^ rol(t, 23) : rol(t, 2) ^ rol(t, 10) ^ rol(t, 18) ^ rol(t, 24);
        v = (union vec){ .w = { v.w[1], v.w[2], v.w[3], v.w[0] ^ t } };
    }
    return v;
}
CRYPTO(sm4e) { return sm4_rounds(o->d, &o->n, false); }
CRYPTO(sm4ekey) { return sm4_rounds(o->n, &o->m, true); }

/* ---- SHA1 and SHA256: four rounds */

static union vec sha1(const struct operands *o, uint32_t (*f)(uint32_t x, uint32_t y, uint32_t z))
{
    union vec x = o->d;
    uint32_t y = o->n.w[0], t;

    for (unsigned n = 0; n < 4; n++) {
        t = y + rol(x.w[0], 5) + f(x.w[1], x.w[2], x.w[3]) + o->m.w[n];
        y = x.w[3];
        x = (union vec){ .w = { t, x.w[0], rol(x.w[1], 30), x.w[2] } };
    }
    return x;
}
static uint32_t f_choose(uint32_t x, uint32_t y, uint32_t z) { return (x & y) ^ (~x & z); }
static uint32_t f_parity(uint32_t x, uint32_t y, uint32_t z) { return x ^ y ^ z; }
static uint32_t f_majority(uint32_t x, uint32_t y, uint32_t z) { return (x & y) ^ (x & z) ^ (y & z); }
CRYPTO(sha1c) { return sha1(o, f_choose); }
CRYPTO(sha1p) { return sha1(o, f_parity); }
CRYPTO(sha1m) { return sha1(o, f_majority); }

static uint32_t ror32(uint32_t v, unsigned n) { return rol(v, 32 - n); }
static void sha256(union vec *x, union vec *y, const union vec *w)
{
    for (unsigned n = 0; n < 4; n++) {
        uint32_t s1 = ror32(y->w[0], 6) ^ ror32(y->w[0], 11) ^ ror32(y->w[0], 25);
        uint32_t s0 = ror32(x->w[0], 2) ^ ror32(x->w[0], 13) ^ ror32(x->w[0], 22);
        uint32_t t = y->w[3] + s1 + f_choose(y->w[0], y->w[1], y->w[2]) + w->w[n], d = x->w[3];

        *x = (union vec){ .w = { t + s0 + f_majority(x->w[0], x->w[1], x->w[2]), x->w[0], x->w[1], x->w[2] } };
        *y = (union vec){ .w = { d + t, y->w[0], y->w[1], y->w[2] } };
    }
}
CRYPTO(sha256h)
{
    union vec x = o->d, y = o->n;

    sha256(&x, &y, &o->m);
    return x;
}
CRYPTO(sha256h2)
{
    union vec x = o->n, y = o->d;

    sha256(&x, &y, &o->m);
    return y;
}

static crypto_fn *const functions[CRYPTO_COUNT] = {
    [CRYPTO_SM3PARTW1] = do_sm3partw1, [CRYPTO_SM3PARTW2] = do_sm3partw2, [CRYPTO_SM3SS1] = do_sm3ss1,
    [CRYPTO_SM3TT1A] = do_sm3tt1a, [CRYPTO_SM3TT1B] = do_sm3tt1b, [CRYPTO_SM3TT2A] = do_sm3tt2a, [CRYPTO_SM3TT2B] = do_sm3tt2b,
    [CRYPTO_SM4E] = do_sm4e, [CRYPTO_SM4EKEY] = do_sm4ekey,
    [CRYPTO_SHA1C] = do_sha1c, [CRYPTO_SHA1P] = do_sha1p, [CRYPTO_SHA1M] = do_sha1m,
    [CRYPTO_SHA256H] = do_sha256h, [CRYPTO_SHA256H2] = do_sha256h2,
};

void arm_helper_crypto(struct cpu *c, uint8_t *result, uint32_t op, const uint8_t *d, const uint8_t *n, const uint8_t *m)
{
    struct operands o = { .index = op >> 8 };
    union vec r;

    memcpy(&o.d, d, 16);
    memcpy(&o.n, n, 16);
    memcpy(&o.m, m, 16);
    r = functions[op & 0xff](&o);
    memcpy(result, &r, 16);
}
