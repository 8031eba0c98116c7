/* qcow2: encryption by a LUKS header that lies in clusters of the image (spec: "Full disk encryption header pointer").
 * The sectors' tweak is their place in the file that holds them. Tables are in clear. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/aio.h"
#include "block/format/qcow2.h"
#include "block/graph.h"
#include "rhea/base/options.h"
#include "rhea/block/crypto.h"

enum { CHUNK = 1 << 20, POOL_BYTES = 64 << 10 };

/* ---- the header's area */

struct area { struct block_node *file; uint64_t offset; };

static int area_read(void *opaque, uint64_t off, void *buf, uint64_t bytes)
{
    const struct area *a = opaque;

    return node_pread(a->file, a->offset + off, buf, bytes);
}

static int area_write(void *opaque, uint64_t off, const void *buf, uint64_t bytes)
{
    const struct area *a = opaque;

    return node_pwrite(a->file, a->offset + off, buf, bytes);
}

static struct luks_io io_of(struct area *a, uint64_t bytes)
{
    return (struct luks_io){ .read = area_read, .write = area_write, .opaque = a, .size = bytes };
}

/* ---- opening */

bool qcow2_crypt_open(struct qcow2 *q, struct json_object *opts, struct error *err)
{
    struct area a = { q->file, q->crypt_offset };
    struct luks_io io = io_of(&a, q->crypt_length);
    struct json_object *encrypt = NULL;
    const char *id, *format;
    char *secret;
    size_t len;

    if (!json_object_object_get_ex(opts, "encrypt", &encrypt) || !json_object_is_type(encrypt, json_type_object))
        encrypt = NULL;
    if (!q->crypt_method)
        return true;
    q->node->encrypted = true;
    if (q->crypt_method == QCOW2_CRYPT_AES)
        return error_setf(err, ERR_GENERIC, "convert it with qemu-img", "'%s' is encrypted with AES of the old kind, which is not safe, and not supported",
                          q->file->filename);
    if (!q->crypt_offset)
        return qcow2_bad(q, err, "the encryption header is missing");
    id = encrypt ? option_str(encrypt, "key-secret", NULL) : NULL;
    format = encrypt ? option_str(encrypt, "format", "luks") : "luks";
    if (strcmp(format, "luks"))
        return error_setf(err, ERR_GENERIC, NULL, "Header reported 'luks' encryption format but options specify '%s'", format);
    if (!id && !q->node->read_only && !q->node->graph->repairing)
        return error_set(err, ERR_GENERIC, "Parameter 'encrypt.key-secret' is required for cipher",
                         "--object secret,id=ID,file=PATH, then encrypt.key-secret=ID");
    if (!block_secret(q->node->graph, id, &secret, &len, err))
        return false;
    q->luks = luks_open(&io, secret, len, err);
    q->locked = q->node->keyless = !id;
    block_secret_drop(secret, len);
    return q->luks != NULL;
}

/* ---- data */

/* Much is done on a thread of the pool, which also keeps the loop free. */
struct cipher { struct luks *luks; bool encrypt; uint64_t off, bytes; void *buf; };

static int cipher_job(void *arg)
{
    struct cipher *c = arg;

    return c->encrypt ? luks_encrypt(c->luks, c->off, c->buf, c->bytes) : luks_decrypt(c->luks, c->off, c->buf, c->bytes);
}

static int cipher_run(struct qcow2 *q, bool encrypt, uint64_t off, void *buf, uint64_t bytes)
{
    struct cipher c = { q->luks, encrypt, off, bytes, buf };

    return bytes < POOL_BYTES ? cipher_job(&c) : pool_run(cipher_job, &c);
}

static int read_decrypting(struct qcow2 *q, uint64_t host, uint64_t bytes, const struct iovec *iov, int niov)
{
    uint64_t chunk = MIN(bytes, CHUNK);
    uint8_t *buf = node_buffer(q->data, chunk);
    int ret = buf ? 0 : -ENOMEM;

    for (uint64_t done = 0, n; done < bytes && !ret; done += n) {
        n = MIN(chunk, bytes - done);
        ret = node_pread(q->data, host + done, buf, n);
        if (!ret)
            ret = cipher_run(q, false, host + done, buf, n);
        if (!ret)
            iov_write(iov, niov, done, buf, n);
    }
    free(buf);
    return ret;
}

int qcow2_data_preadv(struct qcow2 *q, uint64_t host, uint64_t guest, uint64_t bytes, const struct iovec *iov, int niov)
{
    if (!q->crypt_method)
        return node_preadv(q->data, host, bytes, iov, niov);
    if (q->locked || ((host | bytes) & (LUKS_SECTOR - 1)))
        return q->locked ? -EACCES : -EINVAL;
    return read_decrypting(q, host, bytes, iov, niov);
}

int qcow2_data_pwritev(struct qcow2 *q, uint64_t host, uint64_t guest, uint64_t bytes, const struct iovec *iov, int niov)
{
    uint64_t chunk = MIN(bytes, CHUNK);
    uint8_t *buf;
    int ret;

    if (!q->crypt_method)
        return node_pwritev(q->data, host, bytes, iov, niov, 0);
    if (q->locked || ((host | bytes) & (LUKS_SECTOR - 1)))
        return q->locked ? -EACCES : -EINVAL;
    buf = node_buffer(q->data, chunk);
    ret = buf ? 0 : -ENOMEM;
    for (uint64_t done = 0, n; done < bytes && !ret; done += n) {
        n = MIN(chunk, bytes - done);
        iov_read(iov, niov, done, buf, n);
        ret = cipher_run(q, true, host + done, buf, n);
        if (!ret)
            ret = node_pwrite(q->data, host + done, buf, n);
    }
    free(buf);
    return ret;
}

/* ---- creating, amending, telling */

/* "encrypt.cipher-alg" -> "cipher-alg" */
static struct json_object *luks_options_of(struct json_object *opts)
{
    struct json_object *o = json_object_new_object();

    json_object_object_foreach(opts, key, v)
        if (g_str_has_prefix(key, "encrypt.") && strcmp(key, "encrypt.format") && strcmp(key, "encrypt.key-secret"))
            json_object_object_add(o, key + 8, json_object_get(v));
    return o;
}

uint64_t qcow2_crypt_plan(struct json_object *opts, struct error *err)
{
    const char *format = option_str(opts, "encrypt.format", NULL);
    struct json_object *o;
    uint64_t bytes;

    if (!format) {
        if (option_str(opts, "encrypt.key-secret", NULL))
            error_set(err, ERR_GENERIC, "encrypt.key-secret needs encrypt.format", "encrypt.format=luks");
        return 0;
    }
    if (strcmp(format, "luks")) {
        error_setf(err, ERR_GENERIC, "use encrypt.format=luks", "encryption format '%s' is not supported", format);
        return 0;
    }
    if (!option_str(opts, "encrypt.key-secret", NULL)) {
        error_set(err, ERR_GENERIC, "Parameter 'encrypt.key-secret' is required for cipher", "--object secret,id=ID,file=PATH -o encrypt.key-secret=ID");
        return 0;
    }
    o = luks_options_of(opts);
    bytes = luks_header_bytes(o, err);
    json_object_put(o);
    return bytes;
}

bool qcow2_crypt_create(struct block_graph *g, struct block_node *file, uint64_t offset, uint64_t bytes,
                        struct json_object *opts, struct error *err)
{
    struct area a = { file, offset };
    struct luks_io io = io_of(&a, bytes);
    struct json_object *o;
    struct luks *l;
    char *secret;
    size_t len;

    if (node_truncate(file, offset + bytes, err) ||     /* slots without a key are never written */
        !block_secret(g, option_str(opts, "encrypt.key-secret", NULL), &secret, &len, err))
        return false;
    o = luks_options_of(opts);
    l = luks_create(&io, o, secret, len, err);
    json_object_put(o);
    block_secret_drop(secret, len);
    if (!l)
        return false;
    luks_free(l);
    return true;
}

bool qcow2_crypt_amends(struct json_object *opts)
{
    return option_str(opts, "encrypt.state", NULL) || option_str(opts, "encrypt.new-secret", NULL) ||
           option_str(opts, "encrypt.old-secret", NULL);
}

bool qcow2_crypt_amend(struct qcow2 *q, struct json_object *opts, bool force, struct error *err)
{
    struct area a = { q->file, q->crypt_offset };
    struct luks_io io = io_of(&a, q->crypt_length);
    struct json_object *o;
    bool ok;

    if (!q->luks)
        return error_setf(err, ERR_GENERIC, NULL, "'%s' is not encrypted with LUKS", q->file->filename);
    o = luks_options_of(opts);
    ok = luks_amend(q->luks, &io, q->node->graph, o, force, err);
    json_object_put(o);
    return ok && (!node_flush(q->file) || error_setf(err, ERR_GENERIC, NULL, "cannot write '%s'", q->file->filename));
}

struct json_object *qcow2_crypt_info(const struct qcow2 *q)
{
    struct json_object *o = q->luks ? luks_info(q->luks) : json_object_new_object();

    json_object_object_add(o, "format", json_object_new_string(q->crypt_method == QCOW2_CRYPT_AES ? "aes" : "luks"));
    return o;
}
