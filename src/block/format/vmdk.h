/* VMDK: VMware's disk images. After "Virtual Disk Format 5.0" (VMware's technical note). A descriptor (text) names the
 * extents of the disk: flat files, or sparse ones of grains found by a grain directory and grain tables. The descriptor
 * of a single sparse extent lies in the extent.
 *
 * Numbers are little-endian; places are counted in sectors. */
#ifndef RHEA_BLOCK_FORMAT_VMDK_H
#define RHEA_BLOCK_FORMAT_VMDK_H

#include "block/format/image.h"

enum {
    VMDK_MAGIC = 0x564d444b,    /* "KDMV" */
    COWD_MAGIC = 0x44574f43,    /* "COWD": ESX's redo logs, and its sparse extents */
    VMDK_GTES = 512, VMDK_GRAIN = 128, VMDK_DESCRIPTOR = 20, COWD_GTES = 4096,

    VMDK_NEWLINE_DETECT = 1, VMDK_REDUNDANT = 2, VMDK_ZEROED_GRAIN = 4, VMDK_COMPRESSED = 1 << 16, VMDK_MARKERS = 1 << 17,
    VMDK_DEFLATE = 1,
    VMDK_MARKER_FOOTER = 3,
};
#define VMDK_GD_AT_END UINT64_MAX
#define VMDK_CID_NONE UINT32_MAX

/* SparseExtentHeader */
enum {
    V_VERSION = 4, V_FLAGS = 8, V_CAPACITY = 12, V_GRAIN = 20, V_DESC_OFFSET = 28, V_DESC_SIZE = 36, V_GTES = 44, V_RGD = 48,
    V_GD = 56, V_OVERHEAD = 64, V_UNCLEAN = 72, V_NEWLINES = 73, V_COMPRESSION = 77, V_LENGTH = 512,
};
/* COWDisk_Header */
enum { C_VERSION = 4, C_FLAGS = 8, C_CAPACITY = 12, C_GRAIN = 16, C_GD = 20, C_GDES = 24, C_FREE = 28 };

enum vmdk_kind { VMDK_FLAT, VMDK_ZERO, VMDK_SPARSE };

struct vmdk_extent {
    enum vmdk_kind kind;
    struct block_node *file;
    bool own;                   /* `file` is the extent's, not the image's first child */
    const char *type;           /* as the descriptor says */
    uint64_t first, bytes;      /* of the disk */
    uint64_t flat;              /* FLAT: offset in the file */
    uint64_t grain;             /* bytes */
    uint64_t gd, rgd;           /* bytes; rgd 0: none */
    uint64_t gdes;              /* entries of the grain directory */
    uint32_t gtes;              /* of a grain table */
    bool compressed, markers, zeroed, cowd;
    uint64_t next;              /* where the next grain goes */
    struct table_cache *table;
};

struct vmdk {
    struct blockmap map;
    struct vmdk_extent *extents;
    unsigned count;
    char *text;                 /* the descriptor */
    uint64_t text_offset, text_room;    /* in `file` */
    uint32_t cid, parent_cid;
    bool cid_changed;           /* since it was opened */
    char *create_type, *parent;
};

extern const char *const vmdk_create_options[];
bool vmdk_create(struct block_graph *g, const char *filename, struct json_object *opts, struct error *err);

/* vmdk-grain.c */
extern const struct blockmap_ops vmdk_ops;

#endif
