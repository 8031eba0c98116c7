/* VHDX: headers, regions, metadata; where blocks are. */
#include "block/format/vhdx.h"

#include <errno.h>
#include "rhea/base/options.h"

static const char *const vhdx_options[] = { "file", NULL };
static const struct blockmap_ops vhdx_ops;

/* As they lie in a file: the first three fields are little-endian. */
const uint8_t vhdx_guid_bat[16] = { 0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08 };
const uint8_t vhdx_guid_metadata[16] = { 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e };
const uint8_t vhdx_guid_item[ITEM_COUNT][16] = {
    [ITEM_PARAMETERS] = { 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b },
    [ITEM_DISK_SIZE] = { 0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8 },
    [ITEM_PAGE83] = { 0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46 },
    [ITEM_LOGICAL] = { 0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f },
    [ITEM_PHYSICAL] = { 0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56 },
    [ITEM_PARENT] = { 0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c },
};

static int vhdx_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return len >= 8 && !memcmp(buf, "vhdxfile", 8) ? 100 : 0;
}

/* Of a structure whose checksum field counts as zero. */
static uint32_t sum_without(const uint8_t *buf, size_t len, size_t at)
{
    static const uint8_t zero[4];
    uint32_t crc = image_crc32c(0, buf, at);

    crc = image_crc32c(crc, zero, 4);
    return image_crc32c(crc, buf + at + 4, len - at - 4);
}

/* ---- headers */

static bool header_valid(const uint8_t *h)
{
    return !memcmp(h, "head", 4) && le32(h + H_CRC) == sum_without(h, VHDX_HEADER, H_CRC) && le16(h + H_VERSION) == 1;
}

void vhdx_header_seal(uint8_t *h)
{
    put_le32(h + H_CRC, sum_without(h, VHDX_HEADER, H_CRC));
}

int vhdx_header_update(struct block_node *n)
{
    struct vhdx *s = n->state;
    int ret;

    put_le64(s->header + H_SEQUENCE, le64(s->header + H_SEQUENCE) + 1);
    vhdx_header_seal(s->header);
    ret = node_pwrite(n->file, s->current ? VHDX_HEADER_1 : VHDX_HEADER_2, s->header, VHDX_HEADER);
    if (!ret)
        ret = node_flush(n->file);
    s->current ^= !ret;
    return ret;
}

static bool headers_read(struct block_node *n, struct error *err)
{
    struct vhdx *s = n->state;
    g_autofree uint8_t *h = g_malloc(2 * VHDX_HEADER), *id = g_malloc(8);
    bool valid[2];
    int ret = node_pread(n->file, 0, id, 8);

    if (!ret)
        ret = node_pread(n->file, VHDX_HEADER_1, h, VHDX_HEADER);
    if (!ret)
        ret = node_pread(n->file, VHDX_HEADER_2, h + VHDX_HEADER, VHDX_HEADER);
    if (ret)
        return error_set_errno(err, -ret, NULL, "'%s': cannot read the headers", n->file->filename);
    if (memcmp(id, "vhdxfile", 8))
        return image_corrupt(err, "VHDX", "no file identifier");
    valid[0] = header_valid(h);
    valid[1] = header_valid(h + VHDX_HEADER);
    if (!valid[0] && !valid[1])
        return image_corrupt(err, "VHDX", "neither header is valid");
    s->current = !valid[0] || (valid[1] && le64(h + VHDX_HEADER + H_SEQUENCE) > le64(h + H_SEQUENCE));
    memcpy(s->header, h + s->current * VHDX_HEADER, VHDX_HEADER);
    s->log = (struct vhdx_range){ le64(s->header + H_LOG_OFFSET), le32(s->header + H_LOG_LENGTH) };
    return true;
}

/* ---- regions */

static bool overlap(struct vhdx_range a, struct vhdx_range b)
{
    return a.off < b.off + b.len && b.off < a.off + a.len;
}

static bool region_ok(struct block_node *n, struct vhdx_range r)
{
    return r.off >= VHDX_MiB && r.len && !((r.off | r.len) % VHDX_MiB) && range_inside(r.off, r.len, n->file->size);
}

static bool region_table_valid(const uint8_t *t)
{
    return !memcmp(t, "regi", 4) && le32(t + R_CRC) == sum_without(t, VHDX_REGIONS, R_CRC) &&
           le32(t + R_COUNT) <= VHDX_ENTRIES_MAX;
}

static bool region_take(struct block_node *n, const uint8_t *e, struct error *err)
{
    struct vhdx *s = n->state;
    struct vhdx_range r = { le64(e + RE_OFFSET), le32(e + RE_LENGTH) }, *to = NULL;

    if (!memcmp(e, vhdx_guid_bat, 16))
        to = &s->bat;
    else if (!memcmp(e, vhdx_guid_metadata, 16))
        to = &s->metadata;
    else if (le32(e + RE_REQUIRED) & 1)
        return error_set(err, ERR_GENERIC, "unsupported VHDX image: it needs a region that is not known", NULL);
    if (!to)
        return true;
    if (to->len)
        return image_corrupt(err, "VHDX", "a region is there twice");
    if (!region_ok(n, r))
        return image_corrupt(err, "VHDX", "a region lies outside the file, or is not aligned");
    *to = r;
    return true;
}

static bool regions_read(struct block_node *n, struct error *err)
{
    struct vhdx *s = n->state;
    g_autofree uint8_t *t = g_malloc(VHDX_REGIONS);
    int ret = node_pread(n->file, VHDX_REGIONS_1, t, VHDX_REGIONS);

    if (!ret && !region_table_valid(t))
        ret = node_pread(n->file, VHDX_REGIONS_2, t, VHDX_REGIONS);
    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot read the region table");
    if (!region_table_valid(t))
        return image_corrupt(err, "VHDX", "neither region table is valid");
    for (unsigned i = 0; i < le32(t + R_COUNT); i++)
        if (!region_take(n, t + R_ENTRIES + i * RE_SIZE, err))
            return false;
    if (!s->bat.len || !s->metadata.len)
        return image_corrupt(err, "VHDX", "no block allocation table, or no metadata");
    if (!region_ok(n, s->log) || s->log.len > VHDX_LOG_MAX)
        return image_corrupt(err, "VHDX", "the log lies outside the file, or is too large");
    return (!overlap(s->bat, s->metadata) && !overlap(s->bat, s->log) && !overlap(s->metadata, s->log)) ||
           image_corrupt(err, "VHDX", "regions overlap");
}

/* ---- metadata */

struct items { uint8_t data[ITEM_COUNT][16]; bool have[ITEM_COUNT]; };

static bool item_take(struct block_node *n, const uint8_t *e, struct items *items, struct error *err)
{
    static const uint8_t lengths[ITEM_COUNT] = { 8, 8, 16, 4, 4, 0 };
    struct vhdx *s = n->state;
    uint64_t off = le32(e + ME_OFFSET), len = le32(e + ME_LENGTH);
    int ret;

    if (off < VHDX_METADATA_TABLE ? off || len : !range_inside(off, len, s->metadata.len))
        return image_corrupt(err, "VHDX", "a metadata item lies outside its region");
    for (unsigned i = 0; i < ITEM_COUNT; i++) {
        if (memcmp(e, vhdx_guid_item[i], 16))
            continue;
        if (items->have[i] || len < lengths[i])
            return image_corrupt(err, "VHDX", "a metadata item is there twice, or too short");
        items->have[i] = true;
        ret = node_pread(n->file, s->metadata.off + off, items->data[i], lengths[i]);
        return !ret || error_set_errno(err, -ret, NULL, "cannot read the metadata");
    }
    return !(le32(e + ME_FLAGS) & ME_IS_REQUIRED) || (le32(e + ME_FLAGS) & ME_IS_USER) ||
           error_set(err, ERR_GENERIC, "unsupported VHDX image: it needs metadata that is not known", NULL);
}

static bool metadata_read(struct block_node *n, struct items *items, struct error *err)
{
    struct vhdx *s = n->state;
    g_autofree uint8_t *t = g_malloc(VHDX_METADATA_TABLE);
    int ret = node_pread(n->file, s->metadata.off, t, VHDX_METADATA_TABLE);

    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot read the metadata");
    if (memcmp(t, "metadata", 8) || le16(t + M_COUNT) > VHDX_ENTRIES_MAX)
        return image_corrupt(err, "VHDX", "no metadata table");
    for (unsigned i = 0; i < le16(t + M_COUNT); i++)
        if (!item_take(n, t + M_ENTRIES + i * ME_SIZE, items, err))
            return false;
    for (unsigned i = 0; i < ITEM_PARENT; i++)
        if (!items->have[i] && i != ITEM_PAGE83)
            return image_corrupt(err, "VHDX", "metadata item %u is missing", i);
    return true;
}

static bool geometry_take(struct block_node *n, const struct items *items, struct error *err)
{
    struct vhdx *s = n->state;
    uint32_t logical = le32(items->data[ITEM_LOGICAL]);
    uint64_t blocks, entries;

    s->block_size = le32(items->data[ITEM_PARAMETERS]);
    n->size = le64(items->data[ITEM_DISK_SIZE]);
    if (le32(items->data[ITEM_PARAMETERS] + 4) & PARAM_HAS_PARENT)
        return error_set(err, ERR_GENERIC, "differencing VHDX images are not supported", "merge it with its parent first");
    if (!is_power_of_2(s->block_size) || s->block_size < VHDX_MiB || s->block_size > VHDX_BLOCK_MAX)
        return image_corrupt(err, "VHDX", "block size %u", s->block_size);
    if (logical != 512 && logical != 4096)
        return image_corrupt(err, "VHDX", "sectors of %u bytes", logical);
    if (n->size > VHDX_SIZE_MAX || n->size % logical)
        return image_corrupt(err, "VHDX", "a disk of %" PRIu64 " bytes", n->size);
    s->chunk_ratio = (1ull << 23) * logical / s->block_size;
    blocks = (n->size + s->block_size - 1) / s->block_size;
    entries = blocks ? blocks + (blocks - 1) / s->chunk_ratio : 0;
    return entries * 8 <= s->bat.len || image_corrupt(err, "VHDX", "the block allocation table is too short");
}

/* ---- opening */

static bool vhdx_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct vhdx *s = n->state;
    struct items items = { 0 };

    blockmap_init(&s->map, &vhdx_ops);
    n->file = node_open_child(n, opts, "file", err);
    if (!n->file || !headers_read(n, err) || !regions_read(n, err))
        return false;
    if (!buffer_is_zero(s->header + H_LOG_GUID, 16)) {
        if (n->read_only)
            return error_setf(err, ERR_GENERIC, "open it for writing once; rhea-img check -r all does so",
                              "VHDX image '%s' was not closed: its log must be replayed, which a read-only image cannot",
                              n->file->filename);
        if (!vhdx_log_replay(n, err))
            return false;
    }
    if (!metadata_read(n, &items, err) || !geometry_take(n, &items, err))
        return false;
    s->next = round_up(n->file->size, VHDX_MiB);
    s->table = table_new(n->file);
    table_set_log(s->table, vhdx_log_write, n);
    return true;
}

static void vhdx_close(struct block_node *n)
{
    struct vhdx *s = n->state;

    if (s->log_used && s->table) {      /* all of it has been applied */
        memset(s->header + H_LOG_GUID, 0, 16);
        vhdx_header_update(n);
    }
    table_free(s->table);
}

static int vhdx_flush_cache(struct block_node *n)
{
    return table_flush(((struct vhdx *)n->state)->table, true);
}

/* ---- the map */

static uint64_t entry_at(const struct vhdx *s, uint64_t block)
{
    return s->bat.off + (block + block / s->chunk_ratio) * 8;
}

static int vhdx_find(struct block_node *n, uint64_t off, struct place *p)
{
    struct vhdx *s = n->state;
    uint64_t block = off / s->block_size, entry;
    uint8_t v[8];
    struct vhdx_range r;
    int ret = table_read(s->table, entry_at(s, block), v, 8);

    entry = le64(v);
    p->start = block * s->block_size;
    p->end = p->start + s->block_size;
    p->host = entry & BAT_OFFSET;
    r = (struct vhdx_range){ p->host, s->block_size };
    switch (entry & BAT_STATE) {
    case BAT_NOT_PRESENT: p->kind = PLACE_ABSENT; return ret;
    case BAT_UNDEFINED:
    case BAT_ZERO:
    case BAT_UNMAPPED: p->kind = PLACE_ZERO; return ret;
    case BAT_FULLY_PRESENT: p->kind = PLACE_DATA; break;
    default: return -EIO;
    }
    if (!ret && (p->host < VHDX_MiB || p->host > INT64_MAX - s->block_size || overlap(r, s->log) || overlap(r, s->bat) ||
                 overlap(r, s->metadata)))
        return -EIO;
    return ret;
}

static int vhdx_allocate(struct block_node *n, uint64_t off, struct place *p)
{
    p->host = ((struct vhdx *)n->state)->next;
    return 0;
}

static int vhdx_publish(struct block_node *n, const struct place *p)
{
    struct vhdx *s = n->state;
    uint8_t v[8];
    int ret;

    put_le64(v, p->host | BAT_FULLY_PRESENT);
    ret = table_write(s->table, entry_at(s, p->start / s->block_size), v, 8);
    if (!ret)
        s->next = p->host + s->block_size;
    return ret;
}

static const struct blockmap_ops vhdx_ops = { .find = vhdx_find, .allocate = vhdx_allocate, .publish = vhdx_publish };

/* Before the first change the header says that the file is not what it was ([MS-VHDX] 2.2.2, FileWriteGuid). */
static int touch(struct block_node *n)
{
    struct vhdx *s = n->state;
    int ret = 0;

    if (s->touched)
        return 0;
    co_mutex_lock(&s->map.lock);
    if (!s->touched) {
        image_random_guid(s->header + H_FILE_GUID);
        image_random_guid(s->header + H_DATA_GUID);
        ret = vhdx_header_update(n);
        s->touched = !ret;
    }
    co_mutex_unlock(&s->map.lock);
    return ret;
}

static int vhdx_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    int ret = touch(n);

    return ret ? ret : blockmap_pwritev(n, off, bytes, iov, niov);
}

static int vhdx_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    int ret = touch(n);

    return ret ? ret : blockmap_write_zeroes(n, off, bytes, flags);
}

static uint32_t vhdx_cluster_size(struct block_node *n)
{
    return ((struct vhdx *)n->state)->block_size;
}

/* ---- check: blocks lie in the file, and not twice in one place */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static bool vhdx_check(struct block_node *n, unsigned repair, struct block_check *out, struct error *err)
{
    struct vhdx *s = n->state;
    g_autoptr(GArray) hosts = g_array_new(false, false, sizeof(uint64_t));
    struct place p = { 0 };

    /* A log that was left has been replayed by opening: that is all the repair there is. */
    for (uint64_t off = 0; off < n->size; off += s->block_size) {
        if (vhdx_find(n, off, &p)) {
            out->errors++;
            continue;
        }
        if (p.kind != PLACE_DATA)
            continue;
        out->errors += !range_inside(p.host, s->block_size, round_up(n->file->size, VHDX_MiB));
        out->allocated_clusters++;
        g_array_append_val(hosts, p.host);
    }
    out->total_clusters = (n->size + s->block_size - 1) / s->block_size;
    g_array_sort(hosts, compare_u64);
    for (unsigned i = 1; i < hosts->len; i++)
        out->errors += g_array_index(hosts, uint64_t, i) - g_array_index(hosts, uint64_t, i - 1) < s->block_size;
    return true;
}

BLOCK_DRIVER = {
    .name = "vhdx",
    .summary = "Hyper-V's disk image, with a log",
    .kind = DRIVER_FORMAT,
    .size = sizeof(struct vhdx),
    .options = vhdx_options,
    .create_options = vhdx_create_options,
    .probe = vhdx_probe,
    .open = vhdx_open,
    .close = vhdx_close,
    .preadv = blockmap_preadv,
    .pwritev = vhdx_pwritev,
    .write_zeroes = vhdx_write_zeroes,
    .flush_cache = vhdx_flush_cache,
    .block_status = blockmap_status,
    .allocated_size = image_allocated_size,
    .cluster_size = vhdx_cluster_size,
    .create = vhdx_create,
    .check = vhdx_check,
};
