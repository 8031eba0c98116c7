/* VMDK: descriptors and headers, opening, what is told of an image. */
#include "block/format/vmdk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "rhea/base/options.h"

enum { TEXT_MAX = 1 << 20, EXTENTS_MAX = 8192, GRAIN_MAX = 16 << 20 };
#define GD_MAX (512u << 20)                     /* entries */
#define CAPACITY_MAX (1ull << 54)               /* sectors */

static const char *const vmdk_options[] = { "file", "backing", NULL };

static bool is_descriptor(const uint8_t *buf, size_t len)
{
    g_autofree char *text = g_strndup((const char *)buf, len);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **l = lines; *l; l++) {
        g_strstrip(*l);
        if (**l && **l != '#')
            return !strcmp(*l, "version=1") || !strcmp(*l, "version=2") || !strcmp(*l, "version=3");
    }
    return false;
}

static int vmdk_probe(const uint8_t *buf, size_t len, const char *filename)
{
    if (len < 4)
        return 0;
    if (le32(buf) == VMDK_MAGIC || le32(buf) == COWD_MAGIC)
        return 100;
    return *buf == '#' && is_descriptor(buf, len) ? 100 : 0;
}

/* ---- sparse extents */

static bool cowd_take(struct vmdk_extent *e, const uint8_t *h, struct error *err)
{
    e->cowd = true;
    e->bytes = le32(h + C_CAPACITY) * 512ull;
    e->grain = le32(h + C_GRAIN) * 512ull;
    e->gd = le32(h + C_GD) * 512ull;
    e->gtes = COWD_GTES;
    e->gdes = le32(h + C_GDES);
    return true;
}

/* The header of a stream-optimized extent whose grain directory came last: it is repeated, with the directory's place, in
 * front of the end-of-stream marker. */
static bool footer_read(struct vmdk_extent *e, uint8_t *h, struct error *err)
{
    uint8_t buf[1536];
    int ret = e->file->size < sizeof(buf) ? -EINVAL
                                          : node_pread(e->file, e->file->size / 512 * 512 - sizeof(buf), buf, sizeof(buf));

    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot read the footer of '%s'", e->file->filename);
    memcpy(h, buf + 512, V_LENGTH);
    if (le32(buf + 8) || le32(buf + 12) != VMDK_MARKER_FOOTER || le32(h) != VMDK_MAGIC ||
        le64(h + V_GD) == VMDK_GD_AT_END)
        return image_corrupt(err, "VMDK", "no footer, though the header points to one");
    return true;
}

static bool sparse_take(struct vmdk_extent *e, uint8_t *h, struct error *err)
{
    uint32_t version, flags;

    if (le64(h + V_GD) == VMDK_GD_AT_END && !footer_read(e, h, err))
        return false;
    version = le32(h + V_VERSION);
    flags = le32(h + V_FLAGS);
    if (version < 1 || version > 3)
        return image_corrupt(err, "VMDK", "version %u is not known", version);
    if (le64(h + V_CAPACITY) > CAPACITY_MAX || le64(h + V_GRAIN) > GRAIN_MAX / 512 ||
        le64(h + V_GD) > INT64_MAX / 512 || le64(h + V_RGD) > INT64_MAX / 512)
        return image_corrupt(err, "VMDK", "a number in the header is out of range");
    e->bytes = le64(h + V_CAPACITY) * 512;
    e->grain = le64(h + V_GRAIN) * 512;
    e->gtes = le32(h + V_GTES);
    e->gd = le64(h + V_GD) * 512;
    e->rgd = flags & VMDK_REDUNDANT ? le64(h + V_RGD) * 512 : 0;
    e->compressed = (flags & VMDK_COMPRESSED) != 0;
    e->markers = (flags & VMDK_MARKERS) != 0;
    e->zeroed = (flags & VMDK_ZEROED_GRAIN) != 0;
    if (e->compressed && le16(h + V_COMPRESSION) != VMDK_DEFLATE)
        return image_corrupt(err, "VMDK", "compression %u is not known", le16(h + V_COMPRESSION));
    return true;
}

/* h: the extent's first sector. */
static bool sparse_open(struct vmdk_extent *e, uint8_t *h, bool write, struct error *err)
{
    uint64_t size = e->file->size, need;
    bool ok = le32(h) == COWD_MAGIC ? cowd_take(e, h, err)
            : le32(h) == VMDK_MAGIC ? sparse_take(e, h, err)
                                    : image_corrupt(err, "VMDK", "'%s' has no header", e->file->filename);

    if (!ok)
        return false;
    if (!is_power_of_2(e->grain) || e->grain < 512 || e->grain > GRAIN_MAX || !e->gtes || e->gtes > COWD_GTES)
        return image_corrupt(err, "VMDK", "grains of %" PRIu64 " bytes, tables of %u", e->grain, e->gtes);
    need = (e->bytes + e->grain * e->gtes - 1) / (e->grain * e->gtes);
    if (e->cowd && e->gdes < need)
        return image_corrupt(err, "VMDK", "the grain directory is too short for the disk");
    e->gdes = need;
    if (need > GD_MAX || !range_inside(e->gd, need * 4, size) || (need && !e->gd) ||
        (e->rgd && !range_inside(e->rgd, need * 4, size)))
        return image_corrupt(err, "VMDK", "the grain directory lies outside '%s'", e->file->filename);
    if (write && le32(h + V_VERSION) == 3 && !e->compressed && !e->cowd)
        return error_set(err, ERR_GENERIC, "VMDK version 3 images can only be read", "open it with read-only=on");
    e->kind = VMDK_SPARSE;
    e->next = round_up(size, e->compressed ? 512 : e->grain);
    e->table = table_new(e->file);
    return true;
}

static bool sparse_open_file(struct vmdk_extent *e, bool write, struct error *err)
{
    uint8_t h[V_LENGTH];
    int ret = node_pread(e->file, 0, h, sizeof(h));

    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot read '%s'", e->file->filename);
    return sparse_open(e, h, write, err);
}

/* ---- the descriptor */

/* key="value" or key=value, of a line of the text; NULL where there is none. */
static char *text_value(const char *text, const char *key)
{
    size_t len = strlen(key);

    for (const char *line = text; line; line = strchr(line, '\n')) {
        char *v;
        size_t n;

        line += *line == '\n';
        if (strncmp(line, key, len) || line[len + strspn(line + len, " ")] != '=') {
            if (*line)
                continue;
            break;
        }
        v = g_strstrip(g_strndup(strchr(line, '=') + 1, strcspn(strchr(line, '=') + 1, "\r\n")));
        n = strlen(v);
        if (n >= 2 && *v == '"' && v[n - 1] == '"') {
            memmove(v, v + 1, n - 2);
            v[n - 2] = 0;
        }
        return v;
    }
    return NULL;
}

static bool text_cid(const char *text, const char *key, uint32_t *cid)
{
    g_autofree char *v = text_value(text, key);
    char *end;

    if (!v)
        return false;
    *cid = strtoul(v, &end, 16);
    return end != v && !*end;
}

static bool text_take(struct vmdk *s, struct error *err)
{
    s->create_type = text_value(s->text, "createType");
    s->parent = text_value(s->text, "parentFileNameHint");
    s->parent_cid = VMDK_CID_NONE;
    text_cid(s->text, "parentCID", &s->parent_cid);
    if (!text_cid(s->text, "CID", &s->cid))
        return image_corrupt(err, "VMDK", "the descriptor has no CID");
    if (!s->create_type)
        return image_corrupt(err, "VMDK", "the descriptor has no createType");
    return true;
}

static bool text_read(struct block_node *n, uint64_t off, uint64_t bytes, struct error *err)
{
    struct vmdk *s = n->state;
    int ret;

    if (bytes > TEXT_MAX || !range_inside(off, bytes, n->file->size))
        return image_corrupt(err, "VMDK", "the descriptor is too long, or lies outside the file");
    s->text = g_malloc0(bytes + 1);
    s->text_offset = off;
    s->text_room = bytes;
    ret = node_pread(n->file, off, s->text, bytes);
    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot read the descriptor");
    return text_take(s, err);
}

/* ---- extents of a descriptor */

static const struct { const char *name; enum vmdk_kind kind; } extent_types[] = {
    { "FLAT", VMDK_FLAT }, { "VMFS", VMDK_FLAT }, { "ZERO", VMDK_ZERO }, { "SPARSE", VMDK_SPARSE },
    { "VMFSSPARSE", VMDK_SPARSE },
};

static struct block_node *extent_file(struct block_node *n, const char *name, unsigned index, struct error *err)
{
    g_autofree char *path = block_resolve(n->file->filename, name);
    g_autofree char *role = g_strdup_printf("extents.%u", index);
    struct json_object *opts = json_object_new_object(), *file = json_object_new_object();
    struct block_node *f;

    json_object_object_add(file, "driver", json_object_new_string("file"));
    json_object_object_add(file, "filename", json_object_new_string(path));
    json_object_object_add(opts, role, file);
    f = node_open_child(n, opts, role, err);
    json_object_put(opts);
    return f;
}

/* access sectors type ["name" [offset]], as in: RW 4192256 SPARSE "disk-s001.vmdk" */
static bool extent_parse(const char *line, char *access, uint64_t *sectors, char *type, char **name, uint64_t *offset,
                         struct error *err)
{
    const char *open = strchr(line, '"'), *close = open ? strchr(open + 1, '"') : NULL;
    int got = sscanf(line, "%9s %" SCNu64 " %15s", access, sectors, type);

    *offset = 0;
    *name = NULL;
    if (close)
        *name = g_strndup(open + 1, close - open - 1);
    if (close && sscanf(close + 1, "%" SCNu64, offset) == 1 && *offset > CAPACITY_MAX)
        got = 0;
    if (got == 3 && *sectors <= CAPACITY_MAX)
        return true;
    return image_corrupt(err, "VMDK", "extent line '%.80s'", line);
}

static bool extent_open(struct block_node *n, struct vmdk_extent *e, const char *line, struct error *err)
{
    struct vmdk *s = n->state;
    g_autofree char *name = NULL;
    char access[10], type[16];
    uint64_t sectors, offset;

    if (!extent_parse(line, access, &sectors, type, &name, &offset, err))
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(extent_types); i++) {
        if (!strcmp(type, extent_types[i].name)) {
            e->type = extent_types[i].name;
            e->kind = extent_types[i].kind;
        }
    }
    if (!e->type)
        return error_setf(err, ERR_GENERIC, NULL, "VMDK extents of type '%s' are not supported", type);
    if (strcmp(access, "RW") && !(n->read_only && !strcmp(access, "RDONLY")))
        return error_setf(err, ERR_GENERIC, "open it with read-only=on", "a VMDK extent allows only %s", access);
    e->first = n->size;
    e->bytes = sectors * 512;
    if (e->kind == VMDK_ZERO)
        return true;
    if (!name || !*name)
        return image_corrupt(err, "VMDK", "an extent without a file name");
    e->flat = offset * 512;
    e->file = extent_file(n, name, s->count - 1, err);
    if (!e->file)
        return false;
    e->own = true;
    if (e->kind == VMDK_FLAT)
        return true;
    if (!sparse_open_file(e, !n->read_only, err))
        return false;
    if (e->bytes < sectors * 512)
        return image_corrupt(err, "VMDK", "'%s' is smaller than its descriptor says", name);
    e->bytes = sectors * 512;
    return true;
}

static struct vmdk_extent *extent_add(struct vmdk *s)
{
    s->extents = g_renew(struct vmdk_extent, s->extents, s->count + 1);
    s->extents[s->count] = (struct vmdk_extent){ 0 };
    return &s->extents[s->count++];
}

static bool extents_open(struct block_node *n, struct error *err)
{
    struct vmdk *s = n->state;
    g_auto(GStrv) lines = g_strsplit(s->text, "\n", -1);

    for (char **l = lines; *l; l++) {
        g_strstrip(*l);
        if (!g_str_has_prefix(*l, "RW ") && !g_str_has_prefix(*l, "RDONLY ") && !g_str_has_prefix(*l, "NOACCESS "))
            continue;
        if (s->count == EXTENTS_MAX)
            return image_corrupt(err, "VMDK", "more than %d extents", EXTENTS_MAX);
        if (!extent_open(n, extent_add(s), *l, err))
            return false;
        n->size += s->extents[s->count - 1].bytes;
        if (n->size > CAPACITY_MAX)
            return image_corrupt(err, "VMDK", "the disk is too large");
    }
    return s->count || image_corrupt(err, "VMDK", "the descriptor names no extents");
}

/* ---- opening */

/* The image is one sparse extent, with the descriptor (if any) inside. */
static bool single_open(struct block_node *n, uint8_t *h, struct error *err)
{
    struct vmdk *s = n->state;
    struct vmdk_extent *e;
    uint64_t desc = le64(h + V_DESC_OFFSET), sectors = le64(h + V_DESC_SIZE);

    if (le32(h) == VMDK_MAGIC && desc) {
        if (desc > TEXT_MAX || sectors > TEXT_MAX / 512)
            return image_corrupt(err, "VMDK", "the descriptor is out of range");
        if (!text_read(n, desc * 512, sectors * 512, err))
            return false;
    } else {
        s->create_type = g_strdup(le32(h) == COWD_MAGIC ? "vmfsSparse" : "monolithicSparse");
        s->cid = 0;
        s->parent_cid = VMDK_CID_NONE;
    }
    e = extent_add(s);
    e->file = n->file;
    e->type = "";
    if (!sparse_open(e, h, !n->read_only, err))
        return false;
    n->size = e->bytes;
    return true;
}

static bool open_backing(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct vmdk *s = n->state, *p;
    struct json_object *v;
    bool given = json_object_object_get_ex(opts, "backing", &v);

    if (given ? !v : !s->parent || s->parent_cid == VMDK_CID_NONE)
        return true;
    n->backing = node_open_backing(n, opts, s->parent, "vmdk", err);
    if (!n->backing)
        return false;
    p = n->backing->state;
    if (!given && p->cid != s->parent_cid)
        return error_setf(err, ERR_GENERIC, "its contents no longer fit what was built on it",
                          "the backing image '%s' has changed since this image was made (CID %08x, not %08x)",
                          n->backing->filename, p->cid, s->parent_cid);
    return true;
}

static bool vmdk_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct vmdk *s = n->state;
    uint8_t h[V_LENGTH] = { 0 };
    int ret;

    blockmap_init(&s->map, &vmdk_ops);
    n->file = node_open_child(n, opts, "file", err);
    if (!n->file)
        return false;
    ret = node_pread(n->file, 0, h, MIN(sizeof(h), n->file->size));
    if (ret)
        return error_set_errno(err, -ret, NULL, "'%s': cannot read the header", n->file->filename);
    if (le32(h) == VMDK_MAGIC || le32(h) == COWD_MAGIC) {
        if (!single_open(n, h, err))
            return false;
    } else if (*h != '#') {
        return image_corrupt(err, "VMDK", "neither a header nor a descriptor");
    } else if (!text_read(n, 0, n->file->size, err) || !extents_open(n, err)) {
        return false;
    }
    return open_backing(n, opts, err);
}

static void vmdk_close(struct block_node *n)
{
    struct vmdk *s = n->state;

    for (unsigned i = 0; i < s->count; i++) {
        struct vmdk_extent *e = &s->extents[i];

        table_free(e->table);
        if (e->own) {
            node_release(e->file, !n->read_only);
            node_unref(e->file);
        }
    }
    blockmap_clear(&s->map);
    g_free(s->extents);
    g_free(s->text);
    g_free(s->create_type);
    g_free(s->parent);
}

/* ---- flushing. The first change of contents gives the image a new content identity: images built on the old contents
 * can tell. */

static int cid_write(struct block_node *n)
{
    struct vmdk *s = n->state;
    const char *line = s->text;
    char cid[9];
    int ret;

    while (line && !g_str_has_prefix(line, "CID="))
        line = (line = strchr(line, '\n')) ? line + 1 : NULL;
    if (!line || strspn(line + 4, "0123456789abcdefABCDEF") != 8)
        return 0;
    s->cid = g_random_int() & 0xfffffffe;
    g_snprintf(cid, sizeof(cid), "%08x", s->cid);
    memcpy((char *)line + 4, cid, 8);
    ret = node_pwrite(n->file, s->text_offset + (line - s->text), line, 12);
    s->cid_changed = !ret;
    return ret;
}

static int vmdk_flush_cache(struct block_node *n)
{
    struct vmdk *s = n->state;
    int ret = n->wr_highest && !s->cid_changed && s->text ? cid_write(n) : 0;

    for (unsigned i = 0; i < s->count && !ret; i++)
        if (s->extents[i].table)
            ret = table_flush(s->extents[i].table, n->backing || s->extents[i].compressed);
    return ret;
}

static bool vmdk_needs_compressed(struct block_node *n)
{
    struct vmdk *s = n->state;

    return s->count && s->extents[0].compressed;
}

/* Sparse extents that are not compressed have no way to tell that a grain is. */
static int vmdk_pwrite_compressed(struct block_node *n, uint64_t off, const void *buf, uint64_t bytes)
{
    struct iovec iov = { (void *)buf, bytes };

    return vmdk_needs_compressed(n) ? blockmap_pwritev(n, off, bytes, &iov, 1) : -ENOTSUP;
}

static int vmdk_flush(struct block_node *n)
{
    struct vmdk *s = n->state;
    int ret = node_flush(n->file);

    for (unsigned i = 0; i < s->count && !ret; i++)
        if (s->extents[i].own)
            ret = node_flush(s->extents[i].file);
    return ret;
}

/* ---- what is told of it */

static struct json_object *extent_info(const struct vmdk_extent *e)
{
    struct json_object *o = json_object_new_object();

    if (e->compressed)
        json_object_object_add(o, "compressed", json_object_new_boolean(true));
    json_object_object_add(o, "virtual-size", json_object_new_uint64(e->bytes));
    json_object_object_add(o, "filename", json_object_new_string(e->file ? e->file->filename : ""));
    if (e->kind == VMDK_SPARSE)
        json_object_object_add(o, "cluster-size", json_object_new_uint64(e->grain));
    json_object_object_add(o, "format", json_object_new_string(e->type));
    return o;
}

static struct json_object *vmdk_info(struct block_node *n)
{
    struct vmdk *s = n->state;
    struct json_object *o = json_object_new_object(), *data = json_object_new_object(), *list = json_object_new_array();

    for (unsigned i = 0; i < s->count; i++)
        json_object_array_add(list, extent_info(&s->extents[i]));
    json_object_object_add(data, "cid", json_object_new_uint64(s->cid));
    json_object_object_add(data, "parent-cid", json_object_new_uint64(s->parent_cid));
    json_object_object_add(data, "create-type", json_object_new_string(s->create_type));
    json_object_object_add(data, "extents", list);
    json_object_object_add(o, "type", json_object_new_string("vmdk"));
    json_object_object_add(o, "data", data);
    return o;
}

/* 0 unless all extents are of one kind */
static uint32_t vmdk_cluster_size(struct block_node *n)
{
    struct vmdk *s = n->state;

    for (unsigned i = 0; i < s->count; i++)
        if (s->extents[i].grain != s->extents[0].grain)
            return 0;
    return s->count ? s->extents[0].grain : 0;
}

static int64_t vmdk_allocated_size(struct block_node *n)
{
    struct vmdk *s = n->state;
    int64_t sum = image_allocated_size(n);

    for (unsigned i = 0; i < s->count && sum >= 0; i++) {
        struct block_node *f = s->extents[i].own ? s->extents[i].file : NULL;
        int64_t more = f && f->drv->allocated_size ? f->drv->allocated_size(f) : 0;

        sum += MAX(more, 0);
    }
    return sum;
}

static char *vmdk_backing_filename(struct block_node *n, char **format)
{
    struct vmdk *s = n->state;

    if (!s->parent || s->parent_cid == VMDK_CID_NONE)
        return NULL;
    *format = g_strdup("vmdk");
    return g_strdup(s->parent);
}

/* ---- check: every grain lies in its file */

static bool vmdk_check(struct block_node *n, unsigned repair, struct block_check *out, struct error *err)
{
    struct vmdk *s = n->state;
    struct place p;

    if (repair)
        return error_set(err, ERR_GENERIC, "VMDK images cannot be repaired", NULL);
    for (uint64_t off = 0; off < n->size; off = p.end) {
        int ret = s->map.ops->find(n, off, &p);

        if (ret || p.end <= off) {
            out->errors++;
            p.end = off + 512;
            if (ret && ret != -EIO)
                return error_set_errno(err, -ret, NULL, "cannot read the grain tables");
            if (out->errors > 1000)             /* enough to know */
                return true;
            continue;
        }
        if ((p.kind == PLACE_DATA || p.kind == PLACE_PACKED) && p.host >= p.file->size)
            out->errors++;
    }
    return true;
}

BLOCK_DRIVER = {
    .name = "vmdk",
    .summary = "VMware's disk image",
    .kind = DRIVER_FORMAT,
    .size = sizeof(struct vmdk),
    .options = vmdk_options,
    .create_options = vmdk_create_options,
    .probe = vmdk_probe,
    .open = vmdk_open,
    .close = vmdk_close,
    .preadv = blockmap_preadv,
    .pwritev = blockmap_pwritev,
    .pwrite_compressed = vmdk_pwrite_compressed,
    .needs_compressed = vmdk_needs_compressed,
    .can_compress = vmdk_needs_compressed,
    .write_zeroes = blockmap_write_zeroes,
    .flush = vmdk_flush,
    .flush_cache = vmdk_flush_cache,
    .block_status = blockmap_status,
    .allocated_size = vmdk_allocated_size,
    .info = vmdk_info,
    .cluster_size = vmdk_cluster_size,
    .backing_filename = vmdk_backing_filename,
    .create = vmdk_create,
    .check = vmdk_check,
};
