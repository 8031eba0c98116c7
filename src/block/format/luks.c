/* luks: an image that is encrypted as a whole. A LUKS header, then the sectors of the disk, each under the master key. */
#include <errno.h>
#include <stdlib.h>
#include "block/format/image.h"
#include "rhea/base/options.h"
#include "rhea/block/crypto.h"

enum { CHUNK = 1 << 20 };

struct luks_image {
    struct luks *luks;
    uint64_t payload;
};

static const char *const luks_options[] = { "file", "key-secret", NULL };
static const char *const create_options[] = { "size", "preallocation", "key-secret", "cipher-alg", "cipher-mode", "ivgen-alg",
                                              "ivgen-hash-alg", "hash-alg", "iter-time", NULL };

static int luks_format_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return luks_probe(buf, len) && be16(buf + 6) == 1 ? 100 : 0;
}

static int io_read(void *opaque, uint64_t off, void *buf, uint64_t bytes)
{
    return node_pread(opaque, off, buf, bytes);
}

static int io_write(void *opaque, uint64_t off, const void *buf, uint64_t bytes)
{
    return node_pwrite(opaque, off, buf, bytes);
}

static struct luks_io io_of(struct block_node *file, uint64_t size)
{
    return (struct luks_io){ .read = io_read, .write = io_write, .opaque = file, .size = size };
}

static bool luks_image_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct luks_image *s = n->state;
    const char *id = option_str(opts, "key-secret", NULL);
    char *secret;
    struct luks_io io;
    size_t len;

    n->file = node_open_child(n, opts, "file", err);
    if (!n->file || !block_secret(n->graph, id, &secret, &len, err))
        return false;
    io = io_of(n->file, n->file->size);
    s->luks = luks_open(&io, secret, len, err);
    block_secret_drop(secret, len);
    if (!s->luks)
        return false;
    s->payload = luks_payload_offset(s->luks);
    if (s->payload > n->file->size)
        return image_corrupt(err, "LUKS", "the payload lies outside the file");
    if (!id && !n->read_only)
        return error_set(err, ERR_GENERIC, "Parameter 'key-secret' is required for cipher",
                         "-object secret,id=ID,file=PATH, then key-secret=ID");
    n->size = (n->file->size - s->payload) / LUKS_SECTOR * LUKS_SECTOR;
    n->limits.align = MAX(n->file->limits.align, LUKS_SECTOR);
    n->encrypted = true;
    n->keyless = !id;
    return true;
}

static void luks_image_close(struct block_node *n)
{
    luks_free(((struct luks_image *)n->state)->luks);
}

static int luks_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct luks_image *s = n->state;
    uint8_t *buf = node_buffer(n->file, MIN(bytes, CHUNK));
    int ret = buf ? 0 : -ENOMEM;

    for (uint64_t done = 0, k; done < bytes && !ret; done += k) {
        k = MIN(bytes - done, CHUNK);
        ret = node_pread(n->file, s->payload + off + done, buf, k);
        if (!ret)
            ret = luks_decrypt(s->luks, off + done, buf, k);
        if (!ret)
            iov_write(iov, niov, done, buf, k);
    }
    free(buf);
    return ret;
}

static int luks_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct luks_image *s = n->state;
    uint8_t *buf = node_buffer(n->file, MIN(bytes, CHUNK));
    int ret = buf ? 0 : -ENOMEM;

    for (uint64_t done = 0, k; done < bytes && !ret; done += k) {
        k = MIN(bytes - done, CHUNK);
        iov_read(iov, niov, done, buf, k);
        ret = luks_encrypt(s->luks, off + done, buf, k);
        if (!ret)
            ret = node_pwrite(n->file, s->payload + off + done, buf, k);
    }
    free(buf);
    return ret;
}

static int luks_truncate(struct block_node *n, uint64_t size, struct error *err)
{
    struct luks_image *s = n->state;

    if (size > INT64_MAX - s->payload)
        return -EFBIG;
    return node_truncate(n->file, s->payload + size, err);
}

static bool luks_image_amend(struct block_node *n, struct json_object *opts, bool force, block_progress_fn *progress, void *arg, struct error *err)
{
    struct luks_image *s = n->state;
    struct luks_io io = io_of(n->file, s->payload);

    return luks_amend(s->luks, &io, n->graph, opts, force, err) &&
           (!node_flush(n->file) || error_setf(err, ERR_GENERIC, NULL, "cannot write '%s'", n->file->filename));
}

static struct json_object *luks_image_info(struct block_node *n)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "type", json_object_new_string("luks"));
    json_object_object_add(o, "data", luks_info(((struct luks_image *)n->state)->luks));
    return o;
}

/* ---- creation */

static bool write_image(struct block_node *file, struct json_object *opts, const char *secret, size_t len, uint64_t header,
                        uint64_t size, int mode, struct error *err)
{
    struct luks_io io = io_of(file, header);
    struct luks *l = luks_create(&io, opts, secret, len, err);
    int ret;

    if (!l)
        return false;
    luks_free(l);
    ret = node_truncate(file, header + size, err);
    if (!ret && mode == 2)
        ret = file->drv->preallocate ? file->drv->preallocate(file, 0, header + size) : -ENOTSUP;
    if (!ret && mode == 3)
        ret = node_write_zeroes(file, header, size, 0);
    if (!ret)
        ret = node_flush(file);
    return !ret || error_set_errno(err, -ret, NULL, "cannot write '%s'", file->filename);
}

static bool luks_image_create(struct block_graph *g, const char *filename, struct json_object *opts, struct error *err)
{
    static const char *const modes[] = { "off", "metadata", "falloc", "full", NULL };
    const char *id = option_str(opts, "key-secret", NULL);
    int mode = image_choice(opts, "preallocation", modes, err);
    uint64_t size, header = luks_header_bytes(opts, err);
    struct block_node *file;
    char *secret;
    size_t len;
    bool ok;

    if (mode < 0 || !header || !image_create_size(opts, "LUKS", INT64_MAX / 2, &size, err))
        return false;
    if (!id)
        return error_set(err, ERR_GENERIC, "Parameter 'key-secret' is required for cipher",
                         "--object secret,id=ID,file=PATH -o key-secret=ID");
    if (!block_secret(g, id, &secret, &len, err))
        return false;
    file = image_create_file(filename, err);
    ok = file && write_image(file, opts, secret, len, header, size, mode, err);
    if (file)
        image_close_file(file);
    block_secret_drop(secret, len);
    return ok;
}

BLOCK_DRIVER = {
    .name = "luks",
    .summary = "an encrypted image, as cryptsetup's (version 1)",
    .kind = DRIVER_FORMAT,
    .size = sizeof(struct luks_image),
    .fresh_noise = true,
    .options = luks_options,
    .create_options = create_options,
    .probe = luks_format_probe,
    .open = luks_image_open,
    .close = luks_image_close,
    .preadv = luks_preadv,
    .pwritev = luks_pwritev,
    .truncate = luks_truncate,
    .allocated_size = image_allocated_size,
    .info = luks_image_info,
    .create = luks_image_create,
    .amend_options = luks_amend_options,
    .amend = luks_image_amend,
};
