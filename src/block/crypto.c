/* Ciphers over sectors, keys from passphrases, the anti-forensic splitter. See crypto.h. */
#include "block/crypto.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <time.h>
#include "block/graph.h"
#include "rhea/vm/object.h"

static const struct crypto_alg ciphers[] = {
    { "aes-128", "aes", GCRY_CIPHER_AES128, 16 }, { "aes-192", "aes", GCRY_CIPHER_AES192, 24 },
    { "aes-256", "aes", GCRY_CIPHER_AES256, 32 }, { "des", "des", GCRY_CIPHER_DES, 8 },
    { "3des", "3des", GCRY_CIPHER_3DES, 24 }, { "cast5-128", "cast5", GCRY_CIPHER_CAST5, 16 },
    { "serpent-128", "serpent", GCRY_CIPHER_SERPENT128, 16 }, { "serpent-192", "serpent", GCRY_CIPHER_SERPENT192, 24 },
    { "serpent-256", "serpent", GCRY_CIPHER_SERPENT256, 32 }, { "twofish-128", "twofish", GCRY_CIPHER_TWOFISH128, 16 },
    { "twofish-256", "twofish", GCRY_CIPHER_TWOFISH, 32 }, { 0 },
};
static const struct crypto_alg hashes[] = {
    { "md5", NULL, GCRY_MD_MD5, 0, 16 }, { "sha1", NULL, GCRY_MD_SHA1, 0, 20 }, { "sha224", NULL, GCRY_MD_SHA224, 0, 28 },
    { "sha256", NULL, GCRY_MD_SHA256, 0, 32 }, { "sha384", NULL, GCRY_MD_SHA384, 0, 48 },
    { "sha512", NULL, GCRY_MD_SHA512, 0, 64 }, { "ripemd160", NULL, GCRY_MD_RMD160, 0, 20 }, { 0 },
};
static const struct { const char *name; int id; } modes[] = {
    { "ecb", GCRY_CIPHER_MODE_ECB }, { "cbc", GCRY_CIPHER_MODE_CBC }, { "xts", GCRY_CIPHER_MODE_XTS },
    { "ctr", GCRY_CIPHER_MODE_CTR },
};
static const char *const ivgens[] = { [IV_NONE] = "", [IV_PLAIN] = "plain", [IV_PLAIN64] = "plain64", [IV_ESSIV] = "essiv" };

/* The library wants to be told once a process that it may start, and that keys need no locked memory: images' keys have
 * to live as long as the images do. */
void crypto_start(void)
{
    static gsize once;

    if (!g_once_init_enter(&once))
        return;
    if (!gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P)) {
        gcry_check_version(NULL);
        gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
        gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
    }
    g_once_init_leave(&once, 1);
}

static const struct crypto_alg *alg_find(const struct crypto_alg *a, const char *name)
{
    for (; a->name; a++)
        if (!strcmp(a->name, name))
            return a;
    return NULL;
}

const struct crypto_alg *crypto_cipher(const char *name)
{
    return alg_find(ciphers, name);
}

const struct crypto_alg *crypto_cipher_of(const char *family, unsigned key_bytes)
{
    for (const struct crypto_alg *a = ciphers; a->name; a++)
        if (!strcmp(a->family, family) && a->key_bytes == key_bytes)
            return a;
    return NULL;
}

const struct crypto_alg *crypto_hash(const char *name)
{
    return alg_find(hashes, name);
}

int crypto_mode(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++)
        if (!strcmp(modes[i].name, name))
            return modes[i].id;
    return -1;
}

int crypto_ivgen(const char *name)
{
    for (unsigned i = IV_PLAIN; i < G_N_ELEMENTS(ivgens); i++)
        if (!strcmp(ivgens[i], name))
            return i;
    return -1;
}

const char *crypto_ivgen_name(enum ivgen g)
{
    return ivgens[g];
}

/* ---- sectors. A handle of the library holds the position of a stream, so each request takes one of its own. */

struct handles { gcry_cipher_hd_t data, essiv; struct handles *next; };

struct sector_cipher {
    const struct crypto_alg *cipher, *essiv;
    int mode;
    enum ivgen ivgen;
    unsigned key_bytes, iv_bytes;
    uint8_t key[CRYPTO_KEY_MAX], essiv_key[64];
    GMutex lock;
    struct handles *idle;
};

static void handles_free(struct handles *h)
{
    if (h->data)
        gcry_cipher_close(h->data);
    if (h->essiv)
        gcry_cipher_close(h->essiv);
    g_free(h);
}

/* A weak key of DES is a key. */
static bool open_with(gcry_cipher_hd_t *h, int id, int mode, const uint8_t *key, unsigned bytes)
{
    gcry_error_t e;

    if (gcry_cipher_open(h, id, mode, 0))
        return false;
    e = gcry_cipher_setkey(*h, key, bytes);
    return !e || gcry_err_code(e) == GPG_ERR_WEAK_KEY;
}

static struct handles *handles_new(struct sector_cipher *c)
{
    struct handles *h = g_new0(struct handles, 1);

    if (open_with(&h->data, c->cipher->id, c->mode, c->key, c->key_bytes) &&
        (!c->essiv || open_with(&h->essiv, c->essiv->id, GCRY_CIPHER_MODE_ECB, c->essiv_key, c->essiv->key_bytes)))
        return h;
    handles_free(h);
    return NULL;
}

static struct handles *handles_take(struct sector_cipher *c)
{
    struct handles *h;

    g_mutex_lock(&c->lock);
    h = c->idle;
    if (h)
        c->idle = h->next;
    g_mutex_unlock(&c->lock);
    return h ? h : handles_new(c);
}

static void handles_give(struct sector_cipher *c, struct handles *h)
{
    g_mutex_lock(&c->lock);
    h->next = c->idle;
    c->idle = h;
    g_mutex_unlock(&c->lock);
}

/* ESSIV encrypts the sector's number with a hash of the key, by the same cipher with a key as long as the hash. */
static bool essiv_start(struct sector_cipher *c, const struct crypto_alg *hash, struct error *err)
{
    if (!hash)
        return error_set(err, ERR_GENERIC, "IV generator essiv needs a hash", "set ivgen-hash-alg=sha256");
    c->essiv = crypto_cipher_of(c->cipher->family, hash->digest_bytes);
    if (!c->essiv)
        return error_setf(err, ERR_GENERIC, "use ivgen-alg=plain64", "cipher %s has no keys as long as %s of essiv gives",
                          c->cipher->family, hash->name);
    gcry_md_hash_buffer(hash->id, c->essiv_key, c->key, c->key_bytes);
    return true;
}

struct sector_cipher *sector_cipher_new(const struct crypto_alg *cipher, int mode, enum ivgen ivgen,
                                        const struct crypto_alg *iv_hash, const uint8_t *key, unsigned key_bytes,
                                        struct error *err)
{
    struct sector_cipher *c = g_new0(struct sector_cipher, 1);
    struct handles *h = NULL;
    bool ok = true;

    crypto_start();
    g_mutex_init(&c->lock);
    c->cipher = cipher;
    c->mode = mode;
    c->ivgen = ivgen;
    c->key_bytes = MIN(key_bytes, CRYPTO_KEY_MAX);
    memcpy(c->key, key, c->key_bytes);
    c->iv_bytes = gcry_cipher_get_algo_blklen(cipher->id);
    if (mode == GCRY_CIPHER_MODE_XTS && c->iv_bytes != 16)
        ok = error_setf(err, ERR_GENERIC, "use cipher-mode=cbc", "mode xts needs blocks of 16 bytes; %s has %u",
                        cipher->name, c->iv_bytes);
    if (mode != GCRY_CIPHER_MODE_ECB && ivgen == IV_NONE)
        ok = error_set(err, ERR_GENERIC, "this cipher mode needs an IV generator", "set ivgen-alg=plain64");
    if (ok && ivgen == IV_ESSIV)
        ok = essiv_start(c, iv_hash, err);
    if (ok)
        h = handles_new(c);
    if (h) {
        handles_give(c, h);
        return c;
    }
    if (ok)
        error_setf(err, ERR_GENERIC, "use aes-256 and xts", "the library does not have cipher %s in this mode", cipher->name);
    sector_cipher_free(c);
    return NULL;
}

void sector_cipher_free(struct sector_cipher *c)
{
    if (!c)
        return;
    while (c->idle) {
        struct handles *h = c->idle;

        c->idle = h->next;
        handles_free(h);
    }
    explicit_bzero(c->key, sizeof(c->key));
    explicit_bzero(c->essiv_key, sizeof(c->essiv_key));
    g_mutex_clear(&c->lock);
    g_free(c);
}

static gcry_error_t sector_start(struct sector_cipher *c, struct handles *h, uint64_t sector)
{
    uint8_t iv[CRYPTO_IV_MAX] = { 0 };
    uint64_t v = GUINT64_TO_LE(c->ivgen == IV_PLAIN ? (uint32_t)sector : sector);
    gcry_error_t e = 0;

    if (c->mode == GCRY_CIPHER_MODE_ECB)
        return 0;
    memcpy(iv, &v, sizeof(v));
    if (c->ivgen == IV_ESSIV)
        e = gcry_cipher_encrypt(h->essiv, iv, c->iv_bytes, NULL, 0);
    if (e)
        return e;
    return c->mode == GCRY_CIPHER_MODE_CTR ? gcry_cipher_setctr(h->data, iv, c->iv_bytes)
                                           : gcry_cipher_setiv(h->data, iv, c->iv_bytes);
}

int sector_cipher_run(struct sector_cipher *c, bool encrypt, uint64_t sector, uint8_t *buf, uint64_t bytes)
{
    struct handles *h = handles_take(c);
    gcry_error_t e = 0;

    if (!h)
        return -ENOMEM;
    for (uint64_t at = 0; at < bytes && !e; at += LUKS_SECTOR) {
        e = sector_start(c, h, sector + at / LUKS_SECTOR);
        if (!e)
            e = encrypt ? gcry_cipher_encrypt(h->data, buf + at, LUKS_SECTOR, NULL, 0)
                        : gcry_cipher_decrypt(h->data, buf + at, LUKS_SECTOR, NULL, 0);
    }
    handles_give(c, h);
    return e ? -EIO : 0;
}

/* ---- keys */

bool crypto_pbkdf(const struct crypto_alg *hash, const char *secret, size_t len, const uint8_t *salt, size_t salt_len,
                  uint32_t iterations, uint8_t *out, size_t out_len)
{
    crypto_start();
    return !gcry_kdf_derive(secret, len, GCRY_KDF_PBKDF2, hash->id, salt, salt_len, iterations, out_len, out);
}

static uint64_t thread_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

uint64_t crypto_pbkdf_iterations(const struct crypto_alg *hash, unsigned ms, size_t out_len)
{
    uint8_t out[CRYPTO_KEY_MAX], salt[32] = { 1 };
    uint64_t n = 1 << 13, ns = 0;

    for (; n < 1 << 28; n *= 2) {               /* long enough to measure */
        uint64_t t = thread_ns();

        if (!crypto_pbkdf(hash, "rhea", 4, salt, sizeof(salt), n, out, MIN(out_len, sizeof(out))))
            return 0;
        ns = thread_ns() - t;
        if (ns > 50000000)
            break;
    }
    return (double)n * ms * 1e6 / MAX(ns, 1);
}

/* ---- the splitter: all stripes are needed to get the key back, so that wiping a few sectors wipes it */

static bool diffuse(const struct crypto_alg *hash, uint8_t *block, size_t len)
{
    uint8_t digest[64];
    gcry_md_hd_t md;

    if (gcry_md_open(&md, hash->id, 0))
        return false;
    for (size_t at = 0, i = 0; at < len; at += hash->digest_bytes, i++) {
        uint32_t index = GUINT32_TO_BE(i);
        size_t n = MIN(hash->digest_bytes, len - at);

        gcry_md_reset(md);
        gcry_md_write(md, &index, sizeof(index));
        gcry_md_write(md, block + at, n);
        memcpy(digest, gcry_md_read(md, hash->id), hash->digest_bytes);
        memcpy(block + at, digest, n);
    }
    gcry_md_close(md);
    return true;
}

static void xor_into(uint8_t *a, const uint8_t *b, size_t len)
{
    for (size_t i = 0; i < len; i++)
        a[i] ^= b[i];
}

bool crypto_af_split(const struct crypto_alg *hash, const uint8_t *in, size_t len, unsigned stripes, uint8_t *out)
{
    g_autofree uint8_t *block = g_malloc0(len);
    bool ok = true;

    crypto_start();
    gcry_randomize(out, len * (stripes - 1), GCRY_STRONG_RANDOM);
    for (unsigned i = 0; i + 1 < stripes && ok; i++) {
        xor_into(block, out + i * len, len);
        ok = diffuse(hash, block, len);
    }
    xor_into(block, in, len);
    memcpy(out + (stripes - 1) * len, block, len);
    explicit_bzero(block, len);
    return ok;
}

bool crypto_af_merge(const struct crypto_alg *hash, const uint8_t *in, size_t len, unsigned stripes, uint8_t *out)
{
    bool ok = true;

    crypto_start();
    memset(out, 0, len);
    for (unsigned i = 0; i + 1 < stripes && ok; i++) {
        xor_into(out, in + i * len, len);
        ok = diffuse(hash, out, len);
    }
    xor_into(out, in + (stripes - 1) * len, len);
    return ok;
}

/* ---- secrets */

bool block_secret(struct block_graph *g, const char *id, char **data, size_t *len, struct error *err)
{
    *data = NULL;
    *len = 0;
    if (!id)
        return true;
    if (!g || !g->objects)
        return error_setf(err, ERR_GENERIC, "give --object secret,id=ID,file=PATH", "there is no secret '%s'", id);
    return secret_get(g->objects, id, data, len, err);
}

void block_secret_drop(char *data, size_t len)
{
    if (data)
        explicit_bzero(data, len);
    g_free(data);
}
