/* VHDX: Hyper-V's disk images. After Microsoft's [MS-VHDX]. Numbers are little-endian; regions begin at whole MiB.
 *
 * Changes of the block allocation table (BAT) go through a log: an entry of the log comes to rest before the table is
 * written, so that a table torn by a loss of power is mended by replaying it. */
#ifndef RHEA_BLOCK_FORMAT_VHDX_H
#define RHEA_BLOCK_FORMAT_VHDX_H

#include "block/format/image.h"

enum {
    VHDX_HEADER = 4096, VHDX_HEADER_1 = 64 << 10, VHDX_HEADER_2 = 128 << 10, VHDX_REGIONS_1 = 192 << 10,
    VHDX_REGIONS_2 = 256 << 10, VHDX_REGIONS = 64 << 10, VHDX_MiB = 1 << 20, VHDX_ENTRIES_MAX = 2047,
    VHDX_METADATA_TABLE = 64 << 10, VHDX_BLOCK_MAX = 256 << 20, VHDX_LOG_UNIT = 4096, VHDX_LOG_MAX = 64 << 20,
};
#define VHDX_SIZE_MAX (64ull << 40)

/* Header */
enum { H_CRC = 4, H_SEQUENCE = 8, H_FILE_GUID = 16, H_DATA_GUID = 32, H_LOG_GUID = 48, H_LOG_VERSION = 64, H_VERSION = 66,
       H_LOG_LENGTH = 68, H_LOG_OFFSET = 72 };
/* Region table, and its entries from byte 16 */
enum { R_CRC = 4, R_COUNT = 8, R_ENTRIES = 16, RE_OFFSET = 16, RE_LENGTH = 24, RE_REQUIRED = 28, RE_SIZE = 32 };
/* Metadata table, and its entries from byte 32 */
enum { M_COUNT = 10, M_ENTRIES = 32, ME_OFFSET = 16, ME_LENGTH = 20, ME_FLAGS = 24, ME_SIZE = 32,
       ME_IS_USER = 1, ME_IS_VIRTUAL_DISK = 2, ME_IS_REQUIRED = 4 };
enum { PARAM_LEAVE_ALLOCATED = 1, PARAM_HAS_PARENT = 2 };
/* BAT entries: state, MiB-aligned offset */
enum { BAT_NOT_PRESENT = 0, BAT_UNDEFINED = 1, BAT_ZERO = 2, BAT_UNMAPPED = 3, BAT_FULLY_PRESENT = 6, BAT_PARTIALLY_PRESENT = 7 };
#define BAT_STATE 7ull
#define BAT_OFFSET 0xfffffffffff00000ull

extern const uint8_t vhdx_guid_bat[16], vhdx_guid_metadata[16];
enum { ITEM_PARAMETERS, ITEM_DISK_SIZE, ITEM_PAGE83, ITEM_LOGICAL, ITEM_PHYSICAL, ITEM_PARENT, ITEM_COUNT };
extern const uint8_t vhdx_guid_item[ITEM_COUNT][16];

struct vhdx_range { uint64_t off, len; };

struct vhdx {
    struct blockmap map;
    struct table_cache *table;
    uint8_t header[VHDX_HEADER];        /* the current one */
    int current;                        /* 0 or 1 */
    struct vhdx_range log, bat, metadata;
    uint32_t block_size;
    uint64_t chunk_ratio, next;         /* next: where the next block goes */
    _Atomic bool touched;               /* the header tells that the file was written */
    bool log_used;                      /* the header names the log */
    uint64_t log_at, log_sequence;
};

/* [co] The next header from s->header, with a new sequence number; becomes current. */
int vhdx_header_update(struct block_node *n);
void vhdx_header_seal(uint8_t *h);
/* [co] Applies what the log holds to the file, and empties it. */
bool vhdx_log_replay(struct block_node *n, struct error *err);
int vhdx_log_write(void *node, const struct table_change *c, unsigned count);

extern const char *const vhdx_create_options[];
bool vhdx_create(struct block_graph *g, const char *filename, struct json_object *opts, struct error *err);

#endif
