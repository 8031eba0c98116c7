/* Encrypted images: ciphers over sectors, initialization vectors, and LUKS version 1 headers (LUKS On-Disk Format
 * Specification 1.2.3), for the luks format and for formats that carry a LUKS header (qcow2's encrypt.format=luks).
 *
 * Nothing here does I/O of its own: a header is read and written through `struct luks_io`. Deriving keys takes a second
 * or two of processor time; functions marked [co] do it on another thread and yield meanwhile. */
#ifndef RHEA_BLOCK_CRYPTO_H
#define RHEA_BLOCK_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <json-c/json.h>
#include "rhea/base/error.h"

struct block_graph;
struct luks;

enum { LUKS_SECTOR = 512, LUKS_SLOTS = 8 };

/* The area of the header and its key material, from byte 0 of it. [co] 0 or -errno. */
struct luks_io {
    int (*read)(void *opaque, uint64_t off, void *buf, uint64_t bytes);
    int (*write)(void *opaque, uint64_t off, const void *buf, uint64_t bytes);
    void *opaque;
    uint64_t size;              /* bytes there are */
    bool detached;              /* the payload is in another file: nothing bounds the slots but the size */
};

/* The content of `-object secret,id=ID`, for block_secret_drop() when it has been used; id NULL: there is none, *data is NULL. */
bool block_secret(struct block_graph *g, const char *id, char **data, size_t *len, struct error *err);
void block_secret_drop(char *data, size_t len);         /* nothing of it stays in memory; data may be NULL */

/* [co] Opens with the passphrase of any active slot. secret NULL: the header is only looked at (info, no data). */
struct luks *luks_open(const struct luks_io *io, const char *secret, size_t len, struct error *err);
/* Options of create, without a format's prefix: key-secret, cipher-alg, cipher-mode, ivgen-alg, ivgen-hash-alg, hash-alg,
 * iter-time. */
extern const char *const luks_create_options[];
/* Bytes of header and key material that an image made with opts will have: the payload's offset, if it is in the same file.
 * 0 with *err set. */
uint64_t luks_header_bytes(struct json_object *opts, struct error *err);
/* [co] Writes a new header with one key slot. io->size is at least luks_header_bytes(). */
struct luks *luks_create(const struct luks_io *io, struct json_object *opts, const char *secret, size_t len,
                         struct error *err);
void luks_free(struct luks *l);

/* Where the payload begins, as the header says; 0: in another file. */
uint64_t luks_payload_offset(const struct luks *l);
/* In place, whole sectors; off: byte offset in the payload (qcow2: host offset in the image file). Any thread. 0 or -errno. */
int luks_encrypt(struct luks *l, uint64_t off, void *buf, uint64_t bytes);
int luks_decrypt(struct luks *l, uint64_t off, void *buf, uint64_t bytes);
/* "data" of query-block's format-specific information. */
struct json_object *luks_info(const struct luks *l);
/* Do these bytes begin a LUKS header (any version)? */
bool luks_probe(const uint8_t *buf, size_t len);

/* [co] Changes to key slots (amend): a new passphrase in slot (-1: the first that is free); erase one slot, or those that
 * `old` opens. The last active slot is only erased with force. */
bool luks_add_key(struct luks *l, const struct luks_io *io, int slot, const char *secret, size_t len,
                  unsigned iter_time_ms, bool force, struct error *err);
bool luks_erase_key(struct luks *l, const struct luks_io *io, int slot, const char *old, size_t len, bool force,
                    struct error *err);
/* [co] What options of amend (state, new-secret, old-secret, keyslot, iter-time) ask of a header; g has the secrets. */
extern const char *const luks_amend_options[];
bool luks_amend(struct luks *l, const struct luks_io *io, struct block_graph *g, struct json_object *opts, bool force, struct error *err);

#endif
