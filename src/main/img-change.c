/* rhea-img create, resize, amend, commit, rebase: what makes an image, or changes what it is. */
#include "main/img.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "block/graph.h"

enum { CHUNK = 2 << 20 };

/* ---- create */

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;

    return !strcmp(a, b) || (!stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

/* A new image that takes the place of what it is based on would show nothing of it. */
static bool overwrites(struct img *c, const struct block_node *chain, const char *image)
{
    const char *path = g_str_has_prefix(image, "file:") ? image + strlen("file:") : image;

    for (; chain; chain = chain->backing)
        for (const struct block_node *n = chain; n; n = n->file)
            if (same_file(n->filename, path))
                return !error_setf(&c->err, ERR_GENERIC, "give the new image another name", "'%s' holds what the new image would be based on",
                                   image);
    return false;
}

static bool backing_size(struct img *c, const char *image, const char *backing, const char *format, uint64_t *size)
{
    bool ok;
    g_autofree char *path = block_resolve(image, backing);
    struct block_node *n;

    c->force_share = true;
    n = img_open(c, path, format, false, NULL);
    if (!n) {
        error_prepend(&c->err, "backing file of the new image");
        return false;
    }
    *size = n->size;
    ok = !overwrites(c, n, image);
    node_unref(n);
    return ok;
}

static bool takes_backing(const char *format)
{
    const struct block_driver *drv = block_driver_find(format);

    return !drv || !drv->create_options || g_strv_contains(drv->create_options, "backing_file");
}

bool img_create_image(struct img *c, const char *name, const char *format, struct json_object *opts, uint64_t size,
                      bool has_size)
{
    const char *backing = option_str(opts, "backing_file", NULL),
               *backing_format = option_str(opts, "backing_fmt", NULL), *data_file = option_str(opts, "data_file", NULL);
    bool header_alone;
    uint64_t unused;

    if (!*name)
        return error_set(&c->err, ERR_GENERIC, "the new image needs a name", "rhea-img create -f qcow2 FILE 10G");
    if (backing && !takes_backing(format))
        return error_setf(&c->err, ERR_GENERIC, "qcow2, qed and vmdk have them", "images of format '%s' have no backing file", format);
    if (data_file && same_file(data_file, name))
        return error_set(&c->err, ERR_GENERIC, "an image cannot be its own data file", "give data_file=OTHER");

    if (backing && !backing_format)
        return error_set(&c->err, ERR_GENERIC, "Backing file specified without backing format",
                         "add -F qcow2 or -F raw");
    has_size |= json_object_object_get_ex(opts, "size", NULL) && option_size(opts, "size", 0, &size, NULL);
    if (backing && (!has_size || !c->unsafe) &&
        !backing_size(c, name, backing, backing_format, has_size ? &unused : &size))
        return false;
    if (!option_bool(opts, "detached-header", false, &header_alone, &c->err))
        return false;
    if (!backing && !has_size && !header_alone)
        return error_set(&c->err, ERR_GENERIC, "Image creation needs a size parameter",
                         "rhea-img create -f qcow2 FILE 10G");
    json_object_object_add(opts, "size", json_object_new_uint64(size));
    return block_create(c->graph, name, format, opts, &c->err);
}

int img_create(struct img *c)
{
    const char *format = c->format ? c->format : "raw";
    uint64_t size = 0;

    if (c->nargs == 2 && json_object_object_get_ex(c->opts, "size", NULL)) {
        error_set(&c->err, ERR_GENERIC, "The image size must be specified only once", "leave out -o size=...");
        return img_fail(c, EXIT_BAD);
    }
    if (c->nargs == 2 && !parse_size(c->args[1], 1, &size, &c->err))
        return img_fail(c, EXIT_BAD);
    if (c->backing)
        json_object_object_add(c->opts, "backing_file", json_object_new_string(c->backing));
    if (c->backing_format)
        json_object_object_add(c->opts, "backing_fmt", json_object_new_string(c->backing_format));
    if (!img_create_image(c, c->args[0], format, c->opts, size, c->nargs == 2)) {
        error_prepend(&c->err, "%s", c->args[0]);
        return img_fail(c, EXIT_BAD);
    }
    if (!c->quiet) {
        printf("Formatting '%s', fmt=%s", c->args[0], format);
        json_object_object_foreach(c->opts, key, v)
            printf(" %s=%s", key, json_object_get_string(v));
        printf("\n");
    }
    return 0;
}

/* ---- resize */

struct resize { uint64_t size, old; };

static void resize_run(void *arg)
{
    struct img_call *call = arg;
    struct resize *r = call->arg;
    struct img *c = call->c;

    call->ok = !node_truncate(call->n, r->size, &c->err);
    if (call->ok && c->preallocation && r->size > r->old)
        call->ok = node_preallocate(call->n, r->old, c->preallocation, &c->err);
}

int img_resize(struct img *c)
{
    const char *text = c->args[1];
    char sign = *text == '+' || *text == '-' ? *text++ : 0;
    struct resize r = { 0 };
    struct block_node *n;
    bool ok = false;
    uint64_t by;

    if (!parse_size(text, 1, &by, &c->err))
        return img_fail(c, EXIT_BAD);
    n = img_open(c, c->args[0], c->format, true, NULL);
    if (!n)
        return img_fail(c, EXIT_BAD);
    r.old = n->size;
    r.size = sign == '+' ? r.old + by : sign == '-' ? r.old - by : by;
    if ((sign == '-' && by > r.old) || r.size > INT64_MAX - 512)
        error_setf(&c->err, ERR_GENERIC, NULL, "the new size would be out of range: the image has %" PRIu64 " bytes", r.old);
    else if (!r.size)
        error_set(&c->err, ERR_GENERIC, "a disk of no bytes would hold nothing", "rhea-img create makes an empty image");
    else if ((r.size = (r.size + 511) & ~511ull) < r.old && c->preallocation && strcmp(c->preallocation, "off"))
        error_set(&c->err, ERR_GENERIC, "only what is added to an image can be preallocated", "leave out --preallocation");
    else if (r.size < r.old && !c->shrink)
        error_set(&c->err, ERR_GENERIC, "shrinking an image deletes its end", "add --shrink if that is wanted");
    else
        ok = img_call(c, n, resize_run, &r);
    node_unref(n);
    if (!ok)
        return img_fail(c, EXIT_BAD);
    if (!c->quiet)
        printf("Image resized.\n");
    return 0;
}

/* ---- amend */

static void amend_progress(void *opaque, uint64_t done, uint64_t all)
{
    img_progress(opaque, done, all);
}

static void amend_run(void *arg)
{
    struct img_call *call = arg;
    struct img *c = call->c;

    call->ok = call->n->drv->amend(call->n, c->opts, c->force, amend_progress, c, &c->err);
}

int img_amend(struct img *c)
{
    struct block_node *n;
    bool ok;

    if (!json_object_object_length(c->opts)) {
        error_set(&c->err, ERR_GENERIC, "Must specify options (-o)", "rhea-img amend -o compat=1.1 disk.qcow2");
        return img_fail(c, EXIT_BAD);
    }
    c->no_backing = true;
    n = img_open(c, c->args[0], c->format, !img_wants_options(c), c->cache);
    if (!n)
        return img_fail(c, EXIT_BAD);
    if ((ok = n->drv->amend && img_wants_options(c)))
        img_list_options(n->drv->name, n->drv->amend_options);
    else if (!n->drv->amend)
        ok = error_setf(&c->err, ERR_GENERIC, "rhea-img convert makes another image",
                        "Format driver '%s' does not support option amendment", n->drv->name);
    else
        ok = options_check(c->opts, n->drv->amend_options, "amend", &c->err) && img_call(c, n, amend_run, NULL);
    node_unref(n);
    if (!ok)
        return img_fail(c, EXIT_BAD);
    img_progress_end(c);
    return 0;
}

/* ---- commit: the images above the base, each opened alone, so that what each holds itself can be told */

enum { LAYERS_MAX = 200 };

struct commit {
    struct img *c;
    struct block_node *layers[LAYERS_MAX], *base;
    unsigned count;
    int ret;
};

/* The first layer that has [off, +*bytes) decided, or `count`: the base has. */
static int commit_layer(struct commit *k, uint64_t off, uint64_t *bytes, unsigned *layer)
{
    uint64_t n, map;
    struct block_node *file;

    for (*layer = 0; *layer < k->count; ++*layer) {
        int status = node_block_status(k->layers[*layer], off, *bytes, &n, &map, &file);

        if (status < 0)
            return status;
        *bytes = MIN(*bytes, n);
        if (status & STATUS_ALLOCATED)
            return status;
    }
    return 0;
}

static int commit_copy(struct commit *k, uint8_t *buf)
{
    struct block_node *top = k->layers[0], *base = k->base;
    int ret = 0;

    for (uint64_t off = 0, n; off < top->size && !ret; off += n) {
        unsigned layer;
        int status;

        n = top->size - off;
        status = commit_layer(k, off, &n, &layer);
        if (status < 0)
            return status;
        img_progress(k->c, off, top->size);
        if (layer == k->count)
            continue;
        if (status & STATUS_ZERO) {
            ret = node_write_zeroes(base, off, n, BLOCK_MAY_UNMAP);
            continue;
        }
        n = MIN(n, CHUNK);
        ret = node_pread(k->layers[layer], off, buf, n);
        if (!ret)
            ret = node_pwrite(base, off, buf, n);
        img_rate_limit(k->c, n);
    }
    return ret ? ret : node_flush(base);
}

static void commit_run(void *arg)
{
    struct img_call *call = arg;
    struct commit *k = call->arg;
    struct img *c = call->c;
    struct block_node *top = k->layers[0];
    uint8_t *buf = node_buffer(k->base, CHUNK);
    int ret = buf ? 0 : -ENOMEM;

    if (!ret && k->base->size < top->size)
        ret = node_truncate(k->base, top->size, &c->err);
    if (!ret)
        ret = commit_copy(k, buf);
    free(buf);
    /* only now that the base holds it all for good */
    if (!ret && !c->drop && top->drv->make_empty)
        ret = top->drv->make_empty(top);
    if (ret)
        error_set_errno(&c->err, -ret, "nothing is lost: the image holds what it did", "cannot commit '%s'", c->args[0]);
    call->ok = !ret;
}

/* -b names the base as it is, or as the images do. */
static bool is_base(const struct img *c, const char *path)
{
    g_autofree char *resolved = c->base ? block_resolve(c->args[0], c->base) : NULL;

    return !c->base || same_file(c->base, path) || same_file(resolved, path);
}

/* The images say what they are based on: what the command line says instead is not followed. */
static bool backing_as_written(struct img *c)
{
    struct json_object *flat = c->image_opts ? options_parse(c->args[0], NULL, &c->err) : NULL;
    bool ok = !c->image_opts || flat;

    if (flat) {
        json_object_object_foreach(flat, key, value)
            if (value && g_str_has_prefix(key, "backing"))
                ok = error_setf(&c->err, ERR_GENERIC, "rhea-img rebase -u writes another backing file into the image", "commit does not follow the option '%s'", key);
    }
    json_object_put(flat);
    return ok;
}

/* Opens the layers from the top down to the base, which is opened for writing. */
static bool commit_open(struct commit *k)
{
    struct img *c = k->c;
    g_autofree char *path = g_strdup(c->args[0]), *format = g_strdup(c->format);

    for (;;) {
        struct block_node *n;
        g_autofree char *name = NULL, *next_format = NULL;

        c->no_backing = !k->count || !is_base(c, path);
        if (!c->no_backing) {
            k->base = img_open(c, path, format, true, c->cache);
            return k->base != NULL;
        }
        if (k->count == LAYERS_MAX)
            return error_setf(&c->err, ERR_GENERIC, NULL, "more than %d images in the chain of '%s'", LAYERS_MAX, c->args[0]);
        n = img_open(c, path, format, !k->count, c->cache);
        c->image_opts = false;
        if (!n)
            return false;
        k->layers[k->count++] = n;
        name = n->drv->backing_filename ? n->drv->backing_filename(n, &next_format) : NULL;
        if (!name && k->count == 1)
            return error_setf(&c->err, ERR_GENERIC, "rhea-img info shows what an image is based on", "Image '%s' does not have a backing file",
                              path);
        if (!name)
            return error_setf(&c->err, ERR_GENERIC, "rhea-img info --backing-chain lists them",
                              "Did not find '%s' in the backing chain of '%s'", c->base, c->args[0]);
        g_free(path);
        g_free(format);
        path = block_resolve(n->filename, name);
        format = g_steal_pointer(&next_format);
    }
}

int img_commit(struct img *c)
{
    struct commit k = { .c = c };
    bool ok;

    c->drop |= c->base != NULL;         /* the images between still hold what they did: as does the top */
    ok = backing_as_written(c) && commit_open(&k) && img_call(c, k.base, commit_run, &k);
    node_unref(k.base);
    for (unsigned i = 0; i < k.count; i++)
        node_unref(k.layers[i]);
    if (!ok)
        return img_fail(c, EXIT_BAD);
    img_progress_end(c);
    if (!c->quiet)
        printf("Image committed.\n");
    return 0;
}

/* ---- rebase */

struct rebase { struct img *c; struct block_node *top, *old, *new; uint64_t grain; };

/* Where top has nothing of its own and the two backing images differ, what the old one shows is written to it. */
static int rebase_part(struct rebase *r, uint64_t off, uint64_t bytes, uint8_t *x, uint8_t *y)
{
    uint64_t g = r->grain;
    int ret = 0;

    memset(x, 0, bytes);
    memset(y, 0, bytes);
    if (r->old)
        ret = node_pread(r->old, off, x, bytes);
    if (!ret && r->new)
        ret = node_pread(r->new, off, y, bytes);
    for (uint64_t at = 0, n; at < bytes && !ret; at += n) {
        bool differ;

        n = MIN(bytes - at, g - (off + at) % g);
        differ = memcmp(x + at, y + at, n) != 0;
        if (!differ)
            continue;
        if (buffer_is_zero(x + at, n))
            ret = node_write_zeroes(r->top, off + at, n, 0);
        else if (r->c->compress && n == g)
            ret = node_pwrite_compressed(r->top, off + at, x + at, n);
        else
            ret = node_pwrite(r->top, off + at, x + at, n);
    }
    return ret;
}

static int rebase_copy(struct rebase *r)
{
    uint8_t *x = node_buffer(r->top, CHUNK), *y = node_buffer(r->top, CHUNK);
    uint64_t all = r->top->size, map;
    struct block_node *file;
    int ret = x && y ? 0 : -ENOMEM;

    for (uint64_t off = 0, n; off < all && !ret; off += n) {
        int status = node_block_status(r->top, off, all - off, &n, &map, &file), below = 0, depth;

        if (status < 0)
            ret = status;
        else if (!(status & STATUS_ALLOCATED)) {
            uint64_t m = n;

            /* zeroes over zeroes need no look */
            if (r->old)
                below = node_status_above(r->old, off, n, &m, &map, &file, &depth, true);
            n = MIN(n, m);
            if (r->old && below >= 0 && (below & STATUS_ZERO) && !r->new)
                continue;
            n = MIN(n, CHUNK - off % CHUNK);
            ret = rebase_part(r, off, n, x, y);
        }
        img_progress(r->c, off, all);
    }
    free(x);
    free(y);
    return ret;
}

static void rebase_run(void *arg)
{
    struct img_call *call = arg;
    struct rebase *r = call->arg;
    struct img *c = call->c;
    int ret = 0;

    if (!c->unsafe) {
        ret = rebase_copy(r);
        if (!ret)
            ret = node_flush(r->top);           /* the copies are there for good before the name changes */
    }
    if (ret)
        call->ok = error_set_errno(&c->err, -ret, "nothing is lost: the image still has its backing file", "cannot rebase '%s'", c->args[0]);
    else
        call->ok = r->top->drv->change_backing(r->top, *c->backing ? c->backing : NULL, c->backing_format, &c->err);
}

static bool rebase_open(struct rebase *r)
{
    struct img *c = r->c;

    c->no_backing = c->unsafe;
    r->top = img_open(c, c->args[0], c->format, true, c->cache);
    c->image_opts = c->no_backing = false;
    if (!r->top)
        return false;
    if (!r->top->drv->change_backing)
        return error_setf(&c->err, ERR_GENERIC, NULL, "an image of format '%s' has no backing file", r->top->drv->name);
    if (c->compress && !r->top->drv->pwrite_compressed)
        return error_setf(&c->err, ERR_GENERIC, NULL, "Compression not supported for this file format");
    r->old = r->top->backing;
    r->grain = r->top->drv->cluster_size ? r->top->drv->cluster_size(r->top) : 65536;
    if (!c->unsafe && *c->backing) {
        g_autofree char *path = block_resolve(r->top->file->filename, c->backing);

        r->new = img_open(c, path, c->backing_format, false, c->source_cache);
        if (!r->new) {
            error_prepend(&c->err, "new backing file");
            return false;
        }
    }
    return true;
}

int img_rebase(struct img *c)
{
    struct rebase r = { .c = c };
    bool ok;

    if (!c->backing) {
        error_set(&c->err, ERR_GENERIC, "Must specify backing file (-b) or use simple rebase", "-b '' for none");
        return img_fail(c, EXIT_BAD);
    }
    if (*c->backing && !c->backing_format) {
        error_set(&c->err, ERR_GENERIC, "Backing file specified without backing format", "add -F qcow2 or -F raw");
        return img_fail(c, EXIT_BAD);
    }
    if (*c->backing && !block_driver_find(c->backing_format)) {
        block_driver_unknown(c->backing_format, &c->err);
        return img_fail(c, EXIT_BAD);
    }
    ok = rebase_open(&r) && img_call(c, r.top, rebase_run, &r);
    node_unref(r.new);
    node_unref(r.top);
    if (ok && !c->unsafe)
        img_progress_end(c);
    return ok ? 0 : img_fail(c, EXIT_BAD);
}
