/* LUKS headers, version 1: which cipher, and the master key in up to eight slots, each under a passphrase of its own.
 * After the "LUKS On-Disk Format Specification", version 1.2.3. Numbers are big-endian; places are sectors. */
#include "block/crypto.h"

#include <errno.h>
#include "block/aio.h"
#include "block/format/image.h"
#include "rhea/base/options.h"

enum {
    P_VERSION = 6, P_CIPHER = 8, P_MODE = 40, P_HASH = 72, P_PAYLOAD = 104, P_KEY_BYTES = 108, P_DIGEST = 112, P_SALT = 132,
    P_ITERATIONS = 164, P_UUID = 168, P_SLOTS = 208, P_LENGTH = 592,
    S_ACTIVE = 0, S_ITERATIONS = 4, S_SALT = 8, S_OFFSET = 40, S_STRIPES = 44, S_LENGTH = 48,
    NAME_LEN = 32, SALT_LEN = 32, DIGEST_LEN = 20, UUID_LEN = 40,
    STRIPES = 4000, ALIGN_SECTORS = 8, STRIPES_MAX = 1 << 16, ITERATIONS_MIN = 1000, ITER_TIME_MS = 2000,
};
#define SLOT_ACTIVE 0x00ac71f3u
#define SLOT_INACTIVE 0x0000deadu
/* A hostile header must not keep the processor for long: some minutes at the worst. */
#define ITERATIONS_MAX 500000000u

static const uint8_t luks_magic[6] = { 'L', 'U', 'K', 'S', 0xba, 0xbe };

const char *const luks_create_options[] = { "key-secret", "cipher-alg", "cipher-mode", "ivgen-alg", "ivgen-hash-alg",
                                            "hash-alg", "iter-time", NULL };

struct luks {
    uint8_t head[P_LENGTH];     /* as on disk */
    const struct crypto_alg *cipher, *hash, *iv_hash;
    const char *mode_name;
    int mode;
    enum ivgen ivgen;
    unsigned key_bytes;
    uint8_t key[CRYPTO_KEY_MAX];
    struct sector_cipher *data; /* NULL: opened without a passphrase */
    bool detached;
};

bool luks_probe(const uint8_t *buf, size_t len)
{
    return len >= 8 && !memcmp(buf, luks_magic, sizeof(luks_magic));
}

static uint8_t *slot_of(struct luks *l, unsigned i)
{
    return l->head + P_SLOTS + i * S_LENGTH;
}

static uint64_t material_bytes(const struct luks *l, unsigned stripes)
{
    return (uint64_t)l->key_bytes * stripes;
}

/* ---- what a header says */

static bool header_string(const uint8_t *at, size_t room, char *out)
{
    memcpy(out, at, room);
    return memchr(out, 0, room) != NULL;
}

/* "xts-plain64", "cbc-essiv:sha256", "ecb" */
static bool take_mode(struct luks *l, char *mode, struct error *err)
{
    char *gen = strchr(mode, '-'), *hash;

    if (gen)
        *gen++ = 0;
    l->mode = crypto_mode(mode);
    if (l->mode < 0)
        return error_setf(err, ERR_GENERIC, NULL, "LUKS cipher mode '%s' is not known", mode);
    l->ivgen = IV_NONE;
    if (!gen)
        return l->mode == GCRY_CIPHER_MODE_ECB || image_corrupt(err, "LUKS", "no IV generator");
    hash = strchr(gen, ':');
    if (hash)
        *hash++ = 0;
    if (crypto_ivgen(gen) < 0)
        return error_setf(err, ERR_GENERIC, NULL, "LUKS IV generator '%s' is not known", gen);
    l->ivgen = crypto_ivgen(gen);
    l->iv_hash = hash ? crypto_hash(hash) : NULL;
    if (hash && !l->iv_hash)
        return error_setf(err, ERR_GENERIC, NULL, "LUKS IV hash '%s' is not known", hash);
    return true;
}

static bool take_slots(struct luks *l, uint64_t size, struct error *err)
{
    uint64_t room = l->detached ? size : MIN(size, luks_payload_offset(l));

    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        const uint8_t *s = slot_of(l, i);
        uint64_t at = be32(s + S_OFFSET) * 512ull, bytes = round_up(material_bytes(l, be32(s + S_STRIPES)), 512);

        if (be32(s + S_ACTIVE) != SLOT_ACTIVE && be32(s + S_ACTIVE) != SLOT_INACTIVE)
            return image_corrupt(err, "LUKS", "key slot %u is neither in use nor free", i);
        if (!be32(s + S_STRIPES) || be32(s + S_STRIPES) > STRIPES_MAX || at < P_LENGTH || at + bytes > room)
            return image_corrupt(err, "LUKS", "key slot %u overlaps the header or the payload", i);
        if (be32(s + S_ACTIVE) == SLOT_ACTIVE && (!be32(s + S_ITERATIONS) || be32(s + S_ITERATIONS) > ITERATIONS_MAX))
            return image_corrupt(err, "LUKS", "key slot %u asks for %u iterations", i, be32(s + S_ITERATIONS));
        for (unsigned k = 0; k < i; k++) {
            const uint8_t *o = slot_of(l, k);
            uint64_t from = be32(o + S_OFFSET) * 512ull,
                     len = round_up(material_bytes(l, be32(o + S_STRIPES)), 512);

            if (at < from + len && from < at + bytes)
                return image_corrupt(err, "LUKS", "key slots %u and %u overlap", k, i);
        }
    }
    return true;
}

static bool header_take(struct luks *l, const struct luks_io *io, struct error *err)
{
    char family[NAME_LEN], mode[NAME_LEN], hash[NAME_LEN];

    if (memcmp(l->head, luks_magic, sizeof(luks_magic)))
        return image_corrupt(err, "LUKS", "no LUKS header");
    if (be16(l->head + P_VERSION) != 1)
        return error_setf(err, ERR_GENERIC, "cryptsetup convert --type luks1 makes it version 1",
                          "LUKS version %u is not supported", be16(l->head + P_VERSION));
    if (!header_string(l->head + P_CIPHER, NAME_LEN, family) || !header_string(l->head + P_MODE, NAME_LEN, mode) ||
        !header_string(l->head + P_HASH, NAME_LEN, hash))
        return image_corrupt(err, "LUKS", "a name in the header does not end");
    l->key_bytes = be32(l->head + P_KEY_BYTES);
    if (!l->key_bytes || l->key_bytes > CRYPTO_KEY_MAX || !be32(l->head + P_ITERATIONS) ||
        be32(l->head + P_ITERATIONS) > ITERATIONS_MAX)
        return image_corrupt(err, "LUKS", "the key's length or the iterations are out of range");
    if (!take_mode(l, mode, err))
        return false;
    l->cipher = crypto_cipher_of(family, l->mode == GCRY_CIPHER_MODE_XTS ? l->key_bytes / 2 : l->key_bytes);
    if (!l->cipher)
        return error_setf(err, ERR_GENERIC, NULL, "LUKS cipher '%s' with a key of %u bits is not known", family,
                          l->key_bytes * 8);
    l->hash = crypto_hash(hash);
    if (!l->hash)
        return error_setf(err, ERR_GENERIC, NULL, "LUKS hash '%s' is not known", hash);
    l->detached = io->detached || !luks_payload_offset(l);
    return take_slots(l, io->size, err);
}

uint64_t luks_payload_offset(const struct luks *l)
{
    return be32(l->head + P_PAYLOAD) * 512ull;
}

/* ---- slots. Deriving keys is work for a thread of the pool. */

struct slot_job {
    struct luks *l;
    uint8_t *slot;
    const char *secret;
    size_t len;
    uint8_t *material;          /* key material of the slot, as on disk */
    uint64_t bytes;
    uint8_t *key;               /* master key, in or out */
    unsigned iter_ms;           /* of a new slot */
    struct error *err;
};

static struct sector_cipher *slot_cipher(const struct slot_job *j)
{
    uint8_t derived[CRYPTO_KEY_MAX];
    struct sector_cipher *c = NULL;

    if (crypto_pbkdf(j->l->hash, j->secret, j->len, j->slot + S_SALT, SALT_LEN, be32(j->slot + S_ITERATIONS), derived,
                     j->l->key_bytes))
        c = sector_cipher_new(j->l->cipher, j->l->mode, j->l->ivgen, j->l->iv_hash, derived, j->l->key_bytes, j->err);
    else
        error_set(j->err, ERR_GENERIC, "cannot derive a key from the secret", "an empty secret is none");
    explicit_bzero(derived, sizeof(derived));
    return c;
}

/* 0: it is the key, -EACCES: another passphrase, -EIO with j->err. */
static int slot_unlock(void *arg)
{
    struct slot_job *j = arg;
    struct luks *l = j->l;
    uint8_t digest[DIGEST_LEN];
    struct sector_cipher *c = slot_cipher(j);
    bool ok = c && !sector_cipher_run(c, false, 0, j->material, j->bytes) &&
              crypto_af_merge(l->hash, j->material, l->key_bytes, be32(j->slot + S_STRIPES), j->key) &&
              crypto_pbkdf(l->hash, (char *)j->key, l->key_bytes, l->head + P_SALT, SALT_LEN,
                           be32(l->head + P_ITERATIONS), digest, DIGEST_LEN);

    sector_cipher_free(c);
    return !ok ? -EIO : memcmp(digest, l->head + P_DIGEST, DIGEST_LEN) ? -EACCES : 0;
}

static int slot_lock(void *arg)
{
    struct slot_job *j = arg;
    uint64_t n = crypto_pbkdf_iterations(j->l->hash, j->iter_ms, j->l->key_bytes);
    struct sector_cipher *c;
    bool ok;

    put_be32(j->slot + S_ITERATIONS, CLAMP(n, ITERATIONS_MIN, ITERATIONS_MAX));
    c = slot_cipher(j);
    ok = c && crypto_af_split(j->l->hash, j->key, j->l->key_bytes, STRIPES, j->material) &&
              !sector_cipher_run(c, true, 0, j->material, j->bytes);

    sector_cipher_free(c);
    return ok ? 0 : -EIO;
}

static void wipe_free(uint8_t *p, size_t len)
{
    if (p)
        explicit_bzero(p, len);
    g_free(p);
}

/* [co] Does the passphrase open slot i? The master key goes to `key`. */
static int slot_try(struct luks *l, const struct luks_io *io, unsigned i, const char *secret, size_t len, uint8_t *key,
                    struct error *err)
{
    uint8_t *slot = slot_of(l, i);
    struct slot_job j = { .l = l, .slot = slot, .secret = secret, .len = len, .key = key, .err = err,
                          .bytes = round_up(material_bytes(l, be32(slot + S_STRIPES)), 512) };
    int ret;

    j.material = g_try_malloc0(j.bytes);
    ret = j.material ? io->read(io->opaque, be32(slot + S_OFFSET) * 512ull, j.material, j.bytes) : -ENOMEM;
    if (ret)
        error_set_errno(err, -ret, NULL, "cannot read key slot %u", i);
    else
        ret = pool_run(slot_unlock, &j);
    wipe_free(j.material, j.bytes);
    if (ret && ret != -EACCES)
        error_setf(err, ERR_GENERIC, NULL, "key slot %u cannot be opened", i);
    return ret;
}

/* [co] Writes the master key to slot i, and the slot to the header. */
static bool slot_write(struct luks *l, const struct luks_io *io, unsigned i, const char *secret, size_t len,
                       unsigned iter_ms, struct error *err)
{
    uint8_t *slot = slot_of(l, i);
    struct slot_job j = { .l = l, .slot = slot, .secret = secret, .len = len, .key = l->key, .err = err,
                          .bytes = round_up(material_bytes(l, STRIPES), 512), .iter_ms = iter_ms };
    int ret;

    put_be32(slot + S_STRIPES, STRIPES);
    gcry_randomize(slot + S_SALT, SALT_LEN, GCRY_STRONG_RANDOM);
    j.material = g_malloc0(j.bytes);
    ret = pool_run(slot_lock, &j);
    if (!ret)
        ret = io->write(io->opaque, be32(slot + S_OFFSET) * 512ull, j.material, j.bytes);
    wipe_free(j.material, j.bytes);
    if (!ret) {
        put_be32(slot + S_ACTIVE, SLOT_ACTIVE);
        ret = io->write(io->opaque, P_SLOTS + i * S_LENGTH, slot, S_LENGTH);
    }
    if (ret)
        put_be32(slot + S_ACTIVE, SLOT_INACTIVE);
    return !ret || error_set_errno(err, -ret, NULL, "cannot write key slot %u", i);
}

static bool data_start(struct luks *l, struct error *err)
{
    l->data = sector_cipher_new(l->cipher, l->mode, l->ivgen, l->iv_hash, l->key, l->key_bytes, err);
    return l->data != NULL;
}

static bool unlock(struct luks *l, const struct luks_io *io, const char *secret, size_t len, struct error *err)
{
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        int ret;

        if (be32(slot_of(l, i) + S_ACTIVE) != SLOT_ACTIVE)
            continue;
        ret = slot_try(l, io, i, secret, len, l->key, err);
        if (!ret)
            return data_start(l, err);
        if (ret != -EACCES)
            return false;
    }
    return error_set(err, ERR_GENERIC, "Invalid password, cannot unlock any keyslot",
                     "a file that holds the passphrase must not end in a newline");
}

struct luks *luks_open(const struct luks_io *io, const char *secret, size_t len, struct error *err)
{
    struct luks *l = g_new0(struct luks, 1);
    int ret = io->size < P_LENGTH ? -EINVAL : io->read(io->opaque, 0, l->head, P_LENGTH);

    crypto_start();
    if (ret)
        error_set_errno(err, -ret, NULL, "cannot read the LUKS header");
    if (!ret && header_take(l, io, err) && (!secret || unlock(l, io, secret, len, err)))
        return l;
    luks_free(l);
    return NULL;
}

void luks_free(struct luks *l)
{
    if (!l)
        return;
    sector_cipher_free(l->data);
    explicit_bzero(l->key, sizeof(l->key));
    g_free(l);
}

/* ---- creation */

static const char *option_alg(struct json_object *opts, const char *key, const char *def)
{
    const char *v = option_str(opts, key, NULL);

    return v && *v ? v : def;
}

static bool plan(struct luks *l, struct json_object *opts, struct error *err)
{
    const char *cipher = option_alg(opts, "cipher-alg", "aes-256"), *hash = option_alg(opts, "hash-alg", "sha256");
    const char *mode = option_alg(opts, "cipher-mode", "xts");
    const char *gen = option_alg(opts, "ivgen-alg", "plain64"), *iv_hash = option_alg(opts, "ivgen-hash-alg", NULL);

    l->cipher = crypto_cipher(cipher);
    if (!l->cipher)
        return error_setf(err, ERR_GENERIC, "aes-256 is the usual one", "unknown cipher-alg '%s'", cipher);
    l->mode = crypto_mode(mode);
    if (l->mode < 0)
        return error_setf(err, ERR_GENERIC, "xts is the usual one", "unknown cipher-mode '%s'", mode);
    if (crypto_ivgen(gen) < 0)
        return error_setf(err, ERR_GENERIC, "they are plain, plain64 and essiv", "unknown ivgen-alg '%s'", gen);
    l->ivgen = crypto_ivgen(gen);
    l->hash = crypto_hash(hash);
    if (!l->hash)
        return error_setf(err, ERR_GENERIC, "sha256 is the usual one", "unknown hash-alg '%s'", hash);
    if (l->ivgen == IV_ESSIV && !iv_hash)
        iv_hash = "sha256";
    l->iv_hash = iv_hash && l->ivgen == IV_ESSIV ? crypto_hash(iv_hash) : NULL;
    if (iv_hash && l->ivgen == IV_ESSIV && !l->iv_hash)
        return error_setf(err, ERR_GENERIC, "sha256 is the usual one", "unknown ivgen-hash-alg '%s'", iv_hash);
    l->key_bytes = l->cipher->key_bytes * (l->mode == GCRY_CIPHER_MODE_XTS ? 2 : 1);
    l->mode_name = mode;
    return true;
}

static unsigned slot_sectors(const struct luks *l)
{
    return round_up(round_up(material_bytes(l, STRIPES), 512) / 512, ALIGN_SECTORS);
}

static unsigned payload_sectors(const struct luks *l)
{
    return ALIGN_SECTORS + LUKS_SLOTS * slot_sectors(l);
}

uint64_t luks_header_bytes(struct json_object *opts, struct error *err)
{
    struct luks l = { 0 };

    return plan(&l, opts, err) ? payload_sectors(&l) * 512ull : 0;
}

static void put_names(struct luks *l)
{
    char mode[96];
    uint8_t u[16];

    g_snprintf(mode, sizeof(mode), "%s-%s%s%s", l->mode_name, crypto_ivgen_name(l->ivgen), l->iv_hash ? ":" : "",
               l->iv_hash ? l->iv_hash->name : "");
    memcpy(l->head, luks_magic, sizeof(luks_magic));
    put_be16(l->head + P_VERSION, 1);
    g_strlcpy((char *)l->head + P_CIPHER, l->cipher->family, NAME_LEN);
    g_strlcpy((char *)l->head + P_MODE, mode, NAME_LEN);
    g_strlcpy((char *)l->head + P_HASH, l->hash->name, NAME_LEN);
    put_be32(l->head + P_PAYLOAD, l->detached ? 0 : payload_sectors(l));
    put_be32(l->head + P_KEY_BYTES, l->key_bytes);
    image_random_uuid(u);
    g_snprintf((char *)l->head + P_UUID, UUID_LEN,
               "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3], u[4], u[5],
               u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        put_be32(slot_of(l, i) + S_ACTIVE, SLOT_INACTIVE);
        put_be32(slot_of(l, i) + S_STRIPES, STRIPES);
        put_be32(slot_of(l, i) + S_OFFSET, ALIGN_SECTORS + i * slot_sectors(l));
    }
}

struct digest_job { struct luks *l; unsigned iter_ms; };

static int make_digest(void *arg)
{
    struct digest_job *j = arg;
    struct luks *l = j->l;
    uint64_t n = CLAMP(crypto_pbkdf_iterations(l->hash, j->iter_ms, DIGEST_LEN) / 8, ITERATIONS_MIN, ITERATIONS_MAX);

    put_be32(l->head + P_ITERATIONS, n);
    return crypto_pbkdf(l->hash, (char *)l->key, l->key_bytes, l->head + P_SALT, SALT_LEN, n, l->head + P_DIGEST,
                        DIGEST_LEN) ? 0 : -EIO;
}

struct luks *luks_create(const struct luks_io *io, struct json_object *opts, const char *secret, size_t len,
                         struct error *err)
{
    struct luks *l = g_new0(struct luks, 1);
    struct digest_job j = { .l = l };
    int64_t iter_ms;
    int ret = -EINVAL;

    crypto_start();
    if (!plan(l, opts, err) || !option_int(opts, "iter-time", ITER_TIME_MS, &iter_ms, err))
        goto fail;
    if (iter_ms < 1 || iter_ms > 60000) {
        error_set(err, ERR_GENERIC, "iter-time is between 1 and 60000 milliseconds", NULL);
        goto fail;
    }
    l->detached = io->detached;
    put_names(l);
    gcry_randomize(l->key, l->key_bytes, GCRY_STRONG_RANDOM);
    gcry_randomize(l->head + P_SALT, SALT_LEN, GCRY_STRONG_RANDOM);
    j.iter_ms = iter_ms;
    if (!data_start(l, err))            /* refuses what does not go together before anything is written */
        goto fail;
    ret = pool_run(make_digest, &j);
    if (!ret)
        ret = io->write(io->opaque, 0, l->head, P_LENGTH);
    if (ret)
        error_set_errno(err, -ret, NULL, "cannot write the LUKS header");
    else if (slot_write(l, io, 0, secret, len, iter_ms, err))
        return l;
fail:
    luks_free(l);
    return NULL;
}

/* ---- data */

int luks_encrypt(struct luks *l, uint64_t off, void *buf, uint64_t bytes)
{
    return l->data && !((off | bytes) % LUKS_SECTOR)
               ? sector_cipher_run(l->data, true, off / LUKS_SECTOR, buf, bytes) : -EINVAL;
}

int luks_decrypt(struct luks *l, uint64_t off, void *buf, uint64_t bytes)
{
    return l->data && !((off | bytes) % LUKS_SECTOR)
               ? sector_cipher_run(l->data, false, off / LUKS_SECTOR, buf, bytes) : -EINVAL;
}

/* ---- what is told of it */

static struct json_object *slot_info(const uint8_t *s)
{
    struct json_object *o = json_object_new_object();
    bool active = be32(s + S_ACTIVE) == SLOT_ACTIVE;

    json_object_object_add(o, "active", json_object_new_boolean(active));
    if (active) {
        json_object_object_add(o, "iters", json_object_new_uint64(be32(s + S_ITERATIONS)));
        json_object_object_add(o, "stripes", json_object_new_uint64(be32(s + S_STRIPES)));
    }
    json_object_object_add(o, "key-offset", json_object_new_uint64(be32(s + S_OFFSET) * 512ull));
    return o;
}

static const char *mode_name(int mode)
{
    static const char *const names[] = { "ecb", "cbc", "xts", "ctr" };

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
        if (crypto_mode(names[i]) == mode)
            return names[i];
    return "";
}

struct json_object *luks_info(const struct luks *l)
{
    struct json_object *o = json_object_new_object(), *slots = json_object_new_array();
    char uuid[UUID_LEN + 1] = { 0 };

    memcpy(uuid, l->head + P_UUID, UUID_LEN);
    json_object_object_add(o, "ivgen-alg", json_object_new_string(crypto_ivgen_name(l->ivgen)));
    if (l->iv_hash)
        json_object_object_add(o, "ivgen-hash-alg", json_object_new_string(l->iv_hash->name));
    json_object_object_add(o, "detached-header", json_object_new_boolean(l->detached));
    json_object_object_add(o, "hash-alg", json_object_new_string(l->hash->name));
    json_object_object_add(o, "cipher-alg", json_object_new_string(l->cipher->name));
    json_object_object_add(o, "uuid", json_object_new_string(uuid));
    json_object_object_add(o, "cipher-mode", json_object_new_string(mode_name(l->mode)));
    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        json_object_array_add(slots, slot_info(slot_of((struct luks *)l, i)));
    json_object_object_add(o, "slots", slots);
    json_object_object_add(o, "payload-offset", json_object_new_uint64(luks_payload_offset(l)));
    json_object_object_add(o, "master-key-iters", json_object_new_uint64(be32(l->head + P_ITERATIONS)));
    return o;
}

/* ---- changes to slots */

bool luks_add_key(struct luks *l, const struct luks_io *io, int slot, const char *secret, size_t len,
                  unsigned iter_time_ms, bool force, struct error *err)
{
    if (!l->data)
        return error_set(err, ERR_GENERIC, "the image is locked", "open it with key-secret");
    if (slot >= LUKS_SLOTS)
        return error_setf(err, ERR_GENERIC, "slots are 0 to 7", "there is no key slot %d", slot);
    for (unsigned i = 0; slot < 0 && i < LUKS_SLOTS; i++)
        if (be32(slot_of(l, i) + S_ACTIVE) != SLOT_ACTIVE)
            slot = i;
    if (slot < 0)
        return error_set(err, ERR_GENERIC, "all key slots are in use", "erase one first");
    if (be32(slot_of(l, slot) + S_ACTIVE) == SLOT_ACTIVE && !force)
        return error_setf(err, ERR_GENERIC, "choose another, or use force", "key slot %d is in use", slot);
    if (material_bytes(l, STRIPES) > material_bytes(l, be32(slot_of(l, slot) + S_STRIPES)))
        return error_setf(err, ERR_GENERIC, "choose another", "key slot %d has less room than a key takes", slot);
    return slot_write(l, io, slot, secret, len, iter_time_ms ? iter_time_ms : ITER_TIME_MS, err);
}

static unsigned active_slots(struct luks *l)
{
    unsigned n = 0;

    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        n += be32(slot_of(l, i) + S_ACTIVE) == SLOT_ACTIVE;
    return n;
}

/* The header first: a slot that says it is in use must hold a key. Then the key material, over and over. */
static bool slot_erase(struct luks *l, const struct luks_io *io, unsigned i, struct error *err)
{
    uint8_t *slot = slot_of(l, i), *noise;
    uint64_t bytes = round_up(material_bytes(l, be32(slot + S_STRIPES)), 512);
    int ret;

    put_be32(slot + S_ACTIVE, SLOT_INACTIVE);
    put_be32(slot + S_ITERATIONS, 0);
    memset(slot + S_SALT, 0, SALT_LEN);
    ret = io->write(io->opaque, P_SLOTS + i * S_LENGTH, slot, S_LENGTH);
    noise = g_malloc(bytes);
    for (unsigned k = 0; k < 8 && !ret; k++) {
        gcry_create_nonce(noise, bytes);
        ret = io->write(io->opaque, be32(slot + S_OFFSET) * 512ull, noise, bytes);
    }
    g_free(noise);
    return !ret || error_set_errno(err, -ret, NULL, "cannot erase key slot %u", i);
}

bool luks_erase_key(struct luks *l, const struct luks_io *io, int slot, const char *old, size_t len, bool force,
                    struct error *err)
{
    uint8_t key[CRYPTO_KEY_MAX];
    bool match[LUKS_SLOTS] = { false };
    unsigned n = 0;

    if (slot >= LUKS_SLOTS)
        return error_setf(err, ERR_GENERIC, "slots are 0 to 7", "there is no key slot %d", slot);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        int ret = -EACCES;

        if (be32(slot_of(l, i) + S_ACTIVE) != SLOT_ACTIVE || (slot >= 0 && slot != (int)i))
            continue;
        if (old)
            ret = slot_try(l, io, i, old, len, key, err);
        explicit_bzero(key, sizeof(key));
        if (ret && ret != -EACCES)
            return false;
        match[i] = old ? !ret : slot == (int)i;
        n += match[i];
    }
    if (!n)
        return error_set(err, ERR_GENERIC, "no key slot in use matches", NULL);
    if (n == active_slots(l) && !force)
        return error_set(err, ERR_GENERIC, "this would erase the last key: all data would be lost",
                         "add another key first, or use force");
    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        if (match[i] && !slot_erase(l, io, i, err))
            return false;
    return true;
}

const char *const luks_amend_options[] = { "state", "new-secret", "old-secret", "keyslot", "iter-time", NULL };

bool luks_amend(struct luks *l, const struct luks_io *io, struct block_graph *g, struct json_object *opts, bool force, struct error *err)
{
    const char *state = option_str(opts, "state", ""), *id = option_str(opts, "new-secret", NULL), *old = option_str(opts, "old-secret", NULL);
    int64_t slot, iter;
    char *secret;
    size_t len;
    bool ok;

    if (!option_int(opts, "keyslot", -1, &slot, err) || !option_int(opts, "iter-time", ITER_TIME_MS, &iter, err))
        return false;
    if (slot < -1 || slot >= LUKS_SLOTS || iter < 1 || iter > 1000000)
        return error_set(err, ERR_GENERIC, "keyslot is 0 to 7, iter-time in milliseconds", NULL);
    if (!strcmp(state, "active") ? !id || old : strcmp(state, "inactive") || id || (!old && slot < 0))
        return error_set(err, ERR_GENERIC, "state is active (with new-secret) or inactive (with old-secret or keyslot)", NULL);
    if (!block_secret(g, id ? id : old, &secret, &len, err))
        return false;
    ok = id ? luks_add_key(l, io, slot, secret, len, iter, force, err) : luks_erase_key(l, io, slot, secret, len, force, err);
    block_secret_drop(secret, len);
    return ok;
}
