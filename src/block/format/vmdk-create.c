/* VMDK: new images. */
#include "block/format/vmdk.h"

#include <errno.h>
#include "rhea/base/options.h"

#define SPLIT (2ull << 30)              /* of the twoGbMaxExtent types */
#define CREATE_MAX (64ull << 40)
enum { HEADS_ESX = 255 };

const char *const vmdk_create_options[] = { "size", "adapter_type", "backing_file", "backing_fmt", "compat6", "hwversion",
                                            "toolsversion", "subformat", "zeroed_grain", NULL };

static const char *const subformats[] = { "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse",
                                          "twoGbMaxExtentFlat", "streamOptimized", NULL };
enum { MONOLITHIC_SPARSE, MONOLITHIC_FLAT, SPLIT_SPARSE, SPLIT_FLAT, STREAM_OPTIMIZED };
static const char *const adapters[] = { "ide", "buslogic", "lsilogic", "legacyESX", NULL };

struct plan {
    struct block_graph *graph;
    const char *filename;
    uint64_t size;
    int subformat, adapter;
    bool flat, split, compress, zeroed;
    const char *hw_version, *tools_version, *backing;
    uint32_t parent_cid;
};

/* ---- options */

static bool plan_backing(struct plan *p, struct json_object *opts, struct error *err)
{
    const char *format = option_str(opts, "backing_fmt", "vmdk");
    g_autofree char *path = NULL;
    struct json_object *alone;
    struct block_node *n;

    p->parent_cid = VMDK_CID_NONE;
    p->backing = option_str(opts, "backing_file", NULL);
    if (!p->backing)
        return true;
    if (p->flat)
        return error_set(err, ERR_GENERIC, "flat VMDK images cannot have a backing file", "use subformat=monolithicSparse");
    if (strcmp(format, "vmdk"))
        return error_set(err, ERR_GENERIC, "the backing file of a VMDK image must be one, too", "use qcow2, or -F vmdk");
    if (strpbrk(p->backing, "\"\r\n"))
        return error_set(err, ERR_GENERIC, "a VMDK descriptor cannot hold this name of the backing file", NULL);
    path = block_resolve(p->filename, p->backing);
    alone = json_object_new_object();
    json_object_object_add(alone, "backing", NULL);
    json_object_object_add(alone, "read-only", json_object_new_boolean(true));
    n = node_open_file(p->graph, path, "vmdk", alone, err);
    json_object_put(alone);
    if (!n)
        return false;
    p->parent_cid = ((struct vmdk *)n->state)->cid;
    node_unref(n);
    return true;
}

static bool plan_parse(struct plan *p, struct json_object *opts, struct error *err)
{
    bool compat6;

    p->subformat = image_choice(opts, "subformat", subformats, err);
    p->adapter = p->subformat < 0 ? -1 : image_choice(opts, "adapter_type", adapters, err);
    if (p->adapter < 0 || !option_bool(opts, "compat6", false, &compat6, err) ||
        !option_bool(opts, "zeroed_grain", false, &p->zeroed, err) ||
        !image_create_size(opts, "VMDK", CREATE_MAX, &p->size, err))
        return false;
    p->hw_version = option_str(opts, "hwversion", NULL);
    if (p->hw_version && !strcmp(p->hw_version, "undefined"))
        p->hw_version = NULL;
    if (compat6 && p->hw_version)
        return error_set(err, ERR_GENERIC, "compat6 means hwversion=6: give one of them", NULL);
    p->hw_version = p->hw_version ? p->hw_version : compat6 ? "6" : "4";
    p->tools_version = option_str(opts, "toolsversion", "2147483647");
    if (strpbrk(p->hw_version, "\"\r\n") || strpbrk(p->tools_version, "\"\r\n") || strlen(p->hw_version) > 32 ||
        strlen(p->tools_version) > 32)
        return error_set(err, ERR_GENERIC, "hwversion and toolsversion are numbers", NULL);
    p->flat = p->subformat == MONOLITHIC_FLAT || p->subformat == SPLIT_FLAT;
    p->split = p->subformat == SPLIT_SPARSE || p->subformat == SPLIT_FLAT;
    p->compress = p->subformat == STREAM_OPTIMIZED;
    if (p->flat && p->zeroed)
        return error_set(err, ERR_GENERIC, "flat images have no grains to mark as zeroes", "drop zeroed_grain");
    return plan_backing(p, opts, err);
}

/* ---- extents */

static int write_directory(struct block_node *file, uint64_t at, uint64_t gd_sectors, uint64_t tables)
{
    enum { CHUNK = 16384 };
    g_autofree uint8_t *v = g_malloc(CHUNK * 4);
    uint64_t first = at + gd_sectors;
    int ret = 0;

    for (uint64_t i = 0, k; i < tables && !ret; i += k) {
        k = MIN(tables - i, CHUNK);
        for (uint64_t j = 0; j < k; j++)
            put_le32(v + j * 4, first + (i + j) * (VMDK_GTES * 4 / 512));
        ret = node_pwrite(file, at * 512 + i * 4, v, k * 4);
    }
    return ret;
}

static int write_sparse(const struct plan *p, struct block_node *file, uint64_t bytes)
{
    uint64_t sectors = bytes / 512, grains = (sectors + VMDK_GRAIN - 1) / VMDK_GRAIN;
    uint64_t tables = (grains + VMDK_GTES - 1) / VMDK_GTES, gd_sectors = (tables * 4 + 511) / 512;
    uint64_t all = gd_sectors + tables * (VMDK_GTES * 4 / 512), rgd = 1 + VMDK_DESCRIPTOR, gd = rgd + all;
    uint64_t overhead = round_up(gd + all, VMDK_GRAIN);
    uint8_t h[V_LENGTH] = { 0 };
    int ret;

    put_le32(h, VMDK_MAGIC);
    put_le32(h + V_VERSION, p->compress ? 3 : p->zeroed ? 2 : 1);
    put_le32(h + V_FLAGS, VMDK_NEWLINE_DETECT | VMDK_REDUNDANT | (p->compress ? VMDK_COMPRESSED | VMDK_MARKERS : 0) |
                              (p->zeroed ? VMDK_ZEROED_GRAIN : 0));
    put_le64(h + V_CAPACITY, sectors);
    put_le64(h + V_GRAIN, VMDK_GRAIN);
    put_le64(h + V_DESC_OFFSET, 1);
    put_le64(h + V_DESC_SIZE, VMDK_DESCRIPTOR);
    put_le32(h + V_GTES, VMDK_GTES);
    put_le64(h + V_RGD, rgd);
    put_le64(h + V_GD, gd);
    put_le64(h + V_OVERHEAD, overhead);
    memcpy(h + V_NEWLINES, "\n \r\n", 4);
    put_le16(h + V_COMPRESSION, p->compress ? VMDK_DEFLATE : 0);
    ret = node_pwrite(file, 0, h, sizeof(h));
    if (!ret)
        ret = write_directory(file, rgd, gd_sectors, tables);
    if (!ret)
        ret = write_directory(file, gd, gd_sectors, tables);
    return ret ? ret : node_truncate(file, overhead * 512, NULL);
}

static bool write_extent(const struct plan *p, const char *name, uint64_t bytes, const char *text, struct error *err)
{
    struct block_node *file = image_create_file(name, err);
    int ret;

    if (!file)
        return false;
    ret = p->flat ? node_truncate(file, bytes, NULL) : write_sparse(p, file, bytes);
    if (!ret && text)
        ret = node_pwrite(file, 512, text, strlen(text));
    if (!ret)
        ret = node_flush(file);
    image_close_file(file);
    return !ret || error_set_errno(err, -ret, NULL, "cannot write '%s'", name);
}

/* The name of extent i: disk-flat.vmdk, disk-s001.vmdk */
static char *extent_name(const struct plan *p, unsigned i)
{
    const char *dot = g_str_has_suffix(p->filename, ".vmdk") ? strrchr(p->filename, '.') : NULL;
    g_autofree char *prefix = dot ? g_strndup(p->filename, dot - p->filename) : g_strdup(p->filename);

    if (p->split)
        return g_strdup_printf("%s-%c%03u.vmdk", prefix, p->flat ? 'f' : 's', i + 1);
    return p->flat ? g_strdup_printf("%s-flat.vmdk", prefix) : g_strdup(p->filename);
}

/* ---- the descriptor */

static char *descriptor(const struct plan *p, const char *extents)
{
    unsigned heads = p->adapter ? HEADS_ESX : 16;
    uint32_t cid = g_random_int() & 0xfffffffe;
    g_autofree char *parent = p->backing ? g_strdup_printf("parentFileNameHint=\"%s\"\n", p->backing) : g_strdup("");

    return g_strdup_printf("# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=%08x\ncreateType=\"%s\"\n%s\n"
                           "# Extent description\n%s\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"%s\"\n"
                           "ddb.geometry.cylinders = \"%" PRIu64 "\"\nddb.geometry.heads = \"%u\"\n"
                           "ddb.geometry.sectors = \"63\"\nddb.adapterType = \"%s\"\nddb.toolsVersion = \"%s\"\n",
                           cid, p->parent_cid, subformats[p->subformat], parent, extents, p->hw_version,
                           p->size / (63 * heads * 512), heads, adapters[p->adapter], p->tools_version);
}

static bool write_descriptor(const char *filename, const char *text, struct error *err)
{
    struct block_node *file = image_create_file(filename, err);
    int ret;

    if (!file)
        return false;
    ret = node_pwrite(file, 0, text, strlen(text));
    if (!ret)
        ret = node_flush(file);
    image_close_file(file);
    return !ret || error_set_errno(err, -ret, NULL, "cannot write '%s'", filename);
}

bool vmdk_create(struct block_graph *g, const char *filename, struct json_object *opts, struct error *err)
{
    struct plan p = { .graph = g, .filename = filename };
    g_autoptr(GString) lines = g_string_new(NULL);
    g_autofree char *text = NULL;
    uint64_t done = 0, limit;

    if (!plan_parse(&p, opts, err))
        return false;
    limit = p.split ? SPLIT : MAX(p.size, 1);
    for (unsigned i = 0; done < p.size || !i; i++) {
        g_autofree char *name = extent_name(&p, i), *base = g_path_get_basename(name);
        uint64_t bytes = MIN(limit, p.size - done);

        if (strpbrk(base, "\"\r\n"))
            return error_set(err, ERR_GENERIC, "a VMDK descriptor cannot hold this file name", NULL);
        g_string_append_printf(lines, "RW %" PRIu64 " %s \"%s\"%s\n", bytes / 512, p.flat ? "FLAT" : "SPARSE", base,
                               p.flat ? " 0" : "");
        if (p.flat || p.split) {
            if (!write_extent(&p, name, bytes, NULL, err))
                return false;
        }
        done += bytes;
    }
    text = descriptor(&p, lines->str);
    if (p.flat || p.split)
        return write_descriptor(filename, text, err);
    if (strlen(text) > VMDK_DESCRIPTOR * 512)
        return error_set(err, ERR_GENERIC, "the names are too long for the descriptor", NULL);
    return write_extent(&p, filename, p.size, text, err);
}
