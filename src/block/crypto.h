/* What LUKS headers are made of: ciphers over sectors, password-based keys, the anti-forensic splitter. Over libgcrypt,
 * which has them all and runs AES-XTS over whole sectors by the host's AES instructions. */
#ifndef RHEA_BLOCK_CRYPTO_INTERNAL_H
#define RHEA_BLOCK_CRYPTO_INTERNAL_H

#include <gcrypt.h>
#include "rhea/block/crypto.h"

enum { CRYPTO_KEY_MAX = 128, CRYPTO_IV_MAX = 16 };

enum ivgen { IV_NONE, IV_PLAIN, IV_PLAIN64, IV_ESSIV };

struct crypto_alg { const char *name; const char *family; int id; unsigned key_bytes; unsigned digest_bytes; };

/* By QEMU's name ("aes-256", "sha256"), or by LUKS' family ("aes") and the bytes of the key (XTS: half of them). */
const struct crypto_alg *crypto_cipher(const char *name);
const struct crypto_alg *crypto_cipher_of(const char *family, unsigned key_bytes);
const struct crypto_alg *crypto_hash(const char *name);
int crypto_mode(const char *name);              /* gcrypt's, or -1 */
int crypto_ivgen(const char *name);             /* enum ivgen, or -1 */
const char *crypto_ivgen_name(enum ivgen g);
void crypto_start(void);

/* A cipher with its key, used by any number of threads at once. */
struct sector_cipher;
struct sector_cipher *sector_cipher_new(const struct crypto_alg *cipher, int mode, enum ivgen ivgen,
                                        const struct crypto_alg *iv_hash, const uint8_t *key, unsigned key_bytes,
                                        struct error *err);
void sector_cipher_free(struct sector_cipher *c);
/* Whole sectors of 512 bytes, the first of which has the number `sector`. */
int sector_cipher_run(struct sector_cipher *c, bool encrypt, uint64_t sector, uint8_t *buf, uint64_t bytes);

/* PBKDF2 (RFC 8018) */
bool crypto_pbkdf(const struct crypto_alg *hash, const char *secret, size_t len, const uint8_t *salt, size_t salt_len,
                  uint32_t iterations, uint8_t *out, size_t out_len);
/* How many iterations take `ms` milliseconds of this processor's time. */
uint64_t crypto_pbkdf_iterations(const struct crypto_alg *hash, unsigned ms, size_t out_len);
/* The anti-forensic splitter (LUKS specification, 2.4): `stripes` blocks of len bytes. */
bool crypto_af_split(const struct crypto_alg *hash, const uint8_t *in, size_t len, unsigned stripes, uint8_t *out);
bool crypto_af_merge(const struct crypto_alg *hash, const uint8_t *in, size_t len, unsigned stripes, uint8_t *out);

#endif
