/* VHDX: new images. Identifier, headers and region tables in the first MiB; log, metadata, block allocation table; blocks. */
#include "block/format/vhdx.h"

#include <errno.h>
#include "rhea/base/options.h"

const char *const vhdx_create_options[] = { "size", "log_size", "block_size", "subformat", "block_state_zero", NULL };

struct plan {
    uint64_t size, log_size, bat_size, blocks, chunk_ratio;
    uint64_t metadata, bat, data;       /* where they begin */
    uint64_t block_size;
    bool fixed, state_zero;
};

/* Larger blocks for larger disks keep the table small. */
static uint64_t usual_block_size(uint64_t size)
{
    return size > 32ull << 40 ? 64 << 20 : size > 100ull << 30 ? 32 << 20 : size > 1ull << 30 ? 16 << 20 : 8 << 20;
}

static bool plan_parse(struct plan *p, struct json_object *opts, struct error *err)
{
    static const char *const formats[] = { "dynamic", "fixed", NULL };
    int fixed = image_choice(opts, "subformat", formats, err);
    uint64_t entries;

    if (fixed < 0 || !image_create_size(opts, "VHDX", VHDX_SIZE_MAX, &p->size, err) ||
        !option_size(opts, "log_size", VHDX_MiB, &p->log_size, err) ||
        !option_size(opts, "block_size", 0, &p->block_size, err) ||
        !option_bool(opts, "block_state_zero", true, &p->state_zero, err))
        return false;
    p->fixed = fixed;
    if (!p->log_size || p->log_size % VHDX_MiB || p->log_size > VHDX_LOG_MAX)
        return error_setf(err, ERR_GENERIC, NULL, "log_size is a multiple of 1 MiB, up to %d MiB", VHDX_LOG_MAX >> 20);
    if (!p->block_size)
        p->block_size = usual_block_size(p->size);
    if (!is_power_of_2(p->block_size) || p->block_size < VHDX_MiB || p->block_size > VHDX_BLOCK_MAX)
        return error_set(err, ERR_GENERIC, "block_size is a power of 2 from 1 MiB to 256 MiB", NULL);
    p->blocks = (p->size + p->block_size - 1) / p->block_size;
    p->chunk_ratio = (1ull << 23) * 512 / p->block_size;
    entries = p->blocks ? p->blocks + (p->blocks - 1) / p->chunk_ratio : 1;
    p->bat_size = round_up(entries * 8, VHDX_MiB);
    p->metadata = VHDX_MiB + p->log_size;
    p->bat = p->metadata + VHDX_MiB;
    p->data = p->bat + p->bat_size;
    return true;
}

static int write_headers(const struct plan *p, struct block_node *file)
{
    static const char creator[] = "Rhea";
    uint8_t h[VHDX_HEADER] = { 0 }, id[8 + 2 * sizeof(creator)] = "vhdxfile";
    int ret;

    for (unsigned i = 0; i < sizeof(creator); i++)
        put_le16(id + 8 + i * 2, creator[i]);
    ret = node_pwrite(file, 0, id, sizeof(id));
    memcpy(h, "head", 4);
    image_random_guid(h + H_FILE_GUID);
    image_random_guid(h + H_DATA_GUID);
    put_le16(h + H_VERSION, 1);
    put_le32(h + H_LOG_LENGTH, p->log_size);
    put_le64(h + H_LOG_OFFSET, VHDX_MiB);
    for (unsigned i = 0; i < 2 && !ret; i++) {
        put_le64(h + H_SEQUENCE, i + 1);
        vhdx_header_seal(h);
        ret = node_pwrite(file, i ? VHDX_HEADER_2 : VHDX_HEADER_1, h, sizeof(h));
    }
    return ret;
}

static void put_region(uint8_t *e, const uint8_t *guid, uint64_t off, uint64_t len)
{
    memcpy(e, guid, 16);
    put_le64(e + RE_OFFSET, off);
    put_le32(e + RE_LENGTH, len);
    put_le32(e + RE_REQUIRED, 1);
}

static int write_regions(const struct plan *p, struct block_node *file)
{
    g_autofree uint8_t *t = g_malloc0(VHDX_REGIONS);
    int ret;

    memcpy(t, "regi", 4);
    put_le32(t + R_COUNT, 2);
    put_region(t + R_ENTRIES, vhdx_guid_bat, p->bat, p->bat_size);
    put_region(t + R_ENTRIES + RE_SIZE, vhdx_guid_metadata, p->metadata, VHDX_MiB);
    put_le32(t + R_CRC, image_crc32c(0, t, VHDX_REGIONS));
    ret = node_pwrite(file, VHDX_REGIONS_1, t, VHDX_REGIONS);
    return ret ? ret : node_pwrite(file, VHDX_REGIONS_2, t, VHDX_REGIONS);
}

static int write_metadata(const struct plan *p, struct block_node *file)
{
    static const struct { int item; unsigned len, flags; } items[] = {
        { ITEM_PARAMETERS, 8, ME_IS_REQUIRED },
        { ITEM_DISK_SIZE, 8, ME_IS_REQUIRED | ME_IS_VIRTUAL_DISK },
        { ITEM_PAGE83, 16, ME_IS_REQUIRED | ME_IS_VIRTUAL_DISK },
        { ITEM_LOGICAL, 4, ME_IS_REQUIRED | ME_IS_VIRTUAL_DISK },
        { ITEM_PHYSICAL, 4, ME_IS_REQUIRED | ME_IS_VIRTUAL_DISK },
    };
    g_autofree uint8_t *t = g_malloc0(VHDX_METADATA_TABLE + 64);
    uint8_t *data = t + VHDX_METADATA_TABLE;
    unsigned off = 0;

    memcpy(t, "metadata", 8);
    put_le16(t + M_COUNT, G_N_ELEMENTS(items));
    for (unsigned i = 0; i < G_N_ELEMENTS(items); i++) {
        uint8_t *e = t + M_ENTRIES + i * ME_SIZE;

        memcpy(e, vhdx_guid_item[items[i].item], 16);
        put_le32(e + ME_OFFSET, VHDX_METADATA_TABLE + off);
        put_le32(e + ME_LENGTH, items[i].len);
        put_le32(e + ME_FLAGS, items[i].flags);
        off += items[i].len;
    }
    put_le32(data, p->block_size);
    put_le32(data + 4, p->fixed ? PARAM_LEAVE_ALLOCATED : 0);
    put_le64(data + 8, p->size);
    image_random_guid(data + 16);
    put_le32(data + 32, 512);
    put_le32(data + 36, 512);
    return node_pwrite(file, p->metadata, t, VHDX_METADATA_TABLE + 64);
}

static int write_bat(const struct plan *p, struct block_node *file)
{
    enum { CHUNK = 8192 };
    g_autofree uint8_t *v = g_malloc(CHUNK * 8);
    uint64_t entries = p->blocks ? p->blocks + (p->blocks - 1) / p->chunk_ratio : 0, block = 0;
    int ret = 0;

    for (uint64_t i = 0, k; i < entries && !ret && (p->fixed || p->state_zero); i += k) {
        k = MIN(entries - i, CHUNK);
        for (uint64_t j = 0; j < k; j++) {
            bool bitmap = (i + j) % (p->chunk_ratio + 1) == p->chunk_ratio;     /* of a chunk: not used without a parent */

            put_le64(v + j * 8, bitmap ? 0 : p->fixed ? (p->data + block * p->block_size) | BAT_FULLY_PRESENT : BAT_ZERO);
            block += !bitmap;
        }
        ret = node_pwrite(file, p->bat + i * 8, v, k * 8);
    }
    return ret ? ret : node_truncate(file, p->data + (p->fixed ? p->blocks * p->block_size : 0), NULL);
}

bool vhdx_create(struct block_graph *g, const char *filename, struct json_object *opts, struct error *err)
{
    static int (*const steps[])(const struct plan *p, struct block_node *file) = { write_regions, write_metadata, write_bat,
                                                                                    write_headers };
    struct plan p = { 0 };
    struct block_node *file;
    int ret = 0;

    if (!plan_parse(&p, opts, err))
        return false;
    file = image_create_file(filename, err);
    if (!file)
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(steps) && !ret; i++)
        ret = steps[i](&p, file);
    if (!ret)
        ret = node_flush(file);
    if (ret)
        error_set_errno(err, -ret, NULL, "cannot write '%s'", filename);
    image_close_file(file);
    return ret == 0;
}
