/* luks: an image that is encrypted as a whole. A LUKS header, then the sectors of the disk, each under the master key; or the header
 * in a file of its own (detached) and nothing but sectors in the other. */
#include <errno.h>
#include <stdlib.h>
#include "block/format/image.h"
#include "rhea/base/options.h"
#include "rhea/block/crypto.h"

enum { CHUNK = 1 << 20 };

struct luks_image {
    struct luks *luks;
    struct block_node *header;  /* which file has it: n->file, or a child of its own */
    uint64_t payload;
};

static const char *const luks_options[] = { "file", "header", "key-secret", NULL };
static const char *const create_options[] = { "size", "preallocation", "key-secret", "cipher-alg", "cipher-mode", "ivgen-alg",
                                              "ivgen-hash-alg", "hash-alg", "iter-time", "header", "detached-header", NULL };

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

static struct luks_io io_of(struct block_node *file, uint64_t size, bool detached)
{
    return (struct luks_io){ .read = io_read, .write = io_write, .opaque = file, .size = size, .detached = detached };
}

/* Whose header it is: the file's, or that of a child of its own. */
static bool open_header(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct luks_image *s = n->state;

    s->header = n->file;
    if (json_object_object_get_ex(opts, "header", NULL))
        s->header = image_open_child(n, opts, "header", err);
    return s->header != NULL;
}

static bool find_payload(struct block_node *n, struct error *err)
{
    struct luks_image *s = n->state;
    bool alone = s->header == n->file && !luks_payload_offset(s->luks);

    s->payload = luks_payload_offset(s->luks);
    if (alone && !n->keyless)
        return error_setf(err, ERR_GENERIC, "driver=luks,header.filename=HEADER,file.filename=DATA,key-secret=ID",
                          "'%s' is a LUKS header whose data is in another file", n->file->filename);
    if (s->payload > n->file->size)
        return image_corrupt(err, "LUKS", "the payload lies outside the file");
    n->size = alone ? 0 : (n->file->size - s->payload) / LUKS_SECTOR * LUKS_SECTOR;
    return true;
}

static bool luks_image_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct luks_image *s = n->state;
    const char *id = option_str(opts, "key-secret", NULL);
    char *secret;
    struct luks_io io;
    size_t len;

    n->file = node_open_child(n, opts, "file", err);
    if (!n->file || !open_header(n, opts, err) || !block_secret(n->graph, id, &secret, &len, err))
        return false;
    io = io_of(s->header, s->header->size, s->header != n->file);
    s->luks = luks_open(&io, secret, len, err);
    block_secret_drop(secret, len);
    if (!s->luks)
        return false;
    n->keyless = !id;
    if (!find_payload(n, err))
        return false;
    if (!id && !n->read_only)
        return error_set(err, ERR_GENERIC, "Parameter 'key-secret' is required for cipher",
                         "-object secret,id=ID,file=PATH, then key-secret=ID");
    n->limits.align = MAX(n->file->limits.align, LUKS_SECTOR);
    n->encrypted = true;
    return true;
}

static void luks_image_close(struct block_node *n)
{
    struct luks_image *s = n->state;

    luks_free(s->luks);
    if (s->header != n->file)
        image_close_child(n, s->header);
}

static struct block_node *luks_child(struct block_node *n, unsigned i)
{
    struct luks_image *s = n->state;

    return !i && s->header != n->file ? s->header : NULL;
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
    bool detached = s->header != n->file;
    struct luks_io io = io_of(s->header, detached ? s->header->size : s->payload, detached);

    return luks_amend(s->luks, &io, n->graph, opts, force, err) &&
           (!node_flush(s->header) || error_setf(err, ERR_GENERIC, NULL, "cannot write '%s'", s->header->filename));
}

static struct json_object *luks_image_info(struct block_node *n)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "type", json_object_new_string("luks"));
    json_object_object_add(o, "data", luks_info(((struct luks_image *)n->state)->luks));
    return o;
}

/* ---- creation */

/* A new file is empty; what is no file (a device) has its size. */
static int make_room(struct block_node *file, uint64_t size, struct error *err)
{
    return file->size < size ? node_truncate(file, size, err) : 0;
}

static bool write_header(struct block_node *file, struct json_object *opts, const char *secret, size_t len, uint64_t bytes, bool detached,
                         struct error *err)
{
    struct luks_io io = io_of(file, bytes, detached);
    struct luks *l = luks_create(&io, opts, secret, len, err);
    int ret;

    if (!l)
        return false;
    luks_free(l);
    ret = make_room(file, bytes, err);          /* slots without a key are never written */
    if (!ret)
        ret = node_flush(file);
    return !ret || error_set_errno(err, -ret, NULL, "cannot write '%s'", file->filename);
}

static bool write_payload(struct block_node *file, uint64_t at, uint64_t size, int mode, struct error *err)
{
    int ret = make_room(file, at + size, err);

    if (!ret && mode == 2)
        ret = file->drv->preallocate ? file->drv->preallocate(file, 0, at + size) : -ENOTSUP;
    if (!ret && mode == 3)
        ret = node_write_zeroes(file, at, size, 0);
    if (!ret)
        ret = node_flush(file);
    return !ret || error_set_errno(err, -ret, NULL, "cannot write '%s'", file->filename);
}

/* Where the parts of a new image go; of a detached header alone, data is NULL. */
struct new_luks { const char *header, *data; uint64_t header_bytes, size; int mode; };

static bool write_image(const struct new_luks *i, struct json_object *opts, const char *secret, size_t len, struct error *err)
{
    bool detached = i->header != i->data;
    struct block_node *header = image_create_file(i->header, err), *data = header;
    bool ok = header && write_header(header, opts, secret, len, i->header_bytes, detached, err);

    if (ok && detached)
        data = i->data ? image_create_file(i->data, err) : NULL;
    if (ok && i->data)
        ok = data && write_payload(data, detached ? 0 : i->header_bytes, i->size, i->mode, err);
    if (data && data != header)
        image_close_file(data);
    if (header)
        image_close_file(header);
    return ok;
}

static bool plan_image(struct new_luks *i, const char *filename, struct json_object *opts, struct error *err)
{
    static const char *const modes[] = { "off", "metadata", "falloc", "full", NULL };
    bool alone;

    i->header = option_str(opts, "header", filename);
    i->data = filename;
    i->mode = image_choice(opts, "preallocation", modes, err);
    i->header_bytes = luks_header_bytes(opts, err);
    if (i->mode < 0 || !i->header_bytes || !option_bool(opts, "detached-header", false, &alone, err) ||
        !image_create_size(opts, "LUKS", INT64_MAX / 2, &i->size, err))
        return false;
    if (i->header != filename)
        return strcmp(i->header, filename) || error_set(err, ERR_GENERIC, "header and data are to be in the same file", "leave 'header' out");
    if (alone)
        i->data = NULL;
    return !alone || i->mode <= 0 ||
           error_set(err, ERR_GENERIC, "there is no data to preallocate beside a header alone", "name its file with header=, and create the data");
}

static bool luks_image_create(struct block_graph *g, const char *filename, struct json_object *opts, struct error *err)
{
    const char *id = option_str(opts, "key-secret", NULL);
    struct new_luks i = { 0 };
    char *secret;
    size_t len;
    bool ok;

    if (!plan_image(&i, filename, opts, err))
        return false;
    if (!id)
        return error_set(err, ERR_GENERIC, "Parameter 'key-secret' is required for cipher",
                         "--object secret,id=ID,file=PATH -o key-secret=ID");
    if (!block_secret(g, id, &secret, &len, err))
        return false;
    ok = write_image(&i, opts, secret, len, err);
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
    .child = luks_child,
    .preadv = luks_preadv,
    .pwritev = luks_pwritev,
    .truncate = luks_truncate,
    .allocated_size = image_allocated_size,
    .info = luks_image_info,
    .create = luks_image_create,
    .amend_options = luks_amend_options,
    .amend = luks_image_amend,
};
