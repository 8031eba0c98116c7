/* A folder of the host as a disk with a FAT file system: "Microsoft Extensible Firmware Initiative FAT32 File System Specification"
 * 1.03, which this calls FATGEN. The tables are made when the disk is opened; what files hold is read from them when it is asked for.
 *
 * Invariants: (1) clusters of an entry follow each other, in the order of `by_cluster`; (2) an entry's parent comes before it;
 * (3) names are those that the host has, and none has a '/' or is "." or ".."; (4) the guest's writes are in the overlay only, never
 * in the tables. */
#ifndef RHEA_BLOCK_PROTOCOL_VVFAT_H
#define RHEA_BLOCK_PROTOCOL_VVFAT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include "rhea/base/error.h"

enum { FAT_SECTOR = 512, FAT_ENTRY = 32, FAT_LFN_CHARS = 13, FAT_NAME_MAX = 255, FAT_DEPTH_MAX = 64, FAT_ENTRIES_MAX = 1 << 17 };
enum { FAT_ATTR_READ_ONLY = 1, FAT_ATTR_HIDDEN = 2, FAT_ATTR_SYSTEM = 4, FAT_ATTR_VOLUME = 8, FAT_ATTR_DIRECTORY = 16, FAT_ATTR_ARCHIVE = 32,
       FAT_ATTR_LONG_NAME = 15, FAT_ATTR_LONG_MASK = 63 };
enum { FAT_DIRECTORY_MAX = 2 << 20 };           /* bytes of a directory: FATGEN */

struct fat_entry {
    struct fat_entry *parent;   /* NULL: the root */
    char *name;                 /* of the host; "" of the root */
    bool directory, read_only;
    unsigned depth;
    uint8_t short_name[11];
    uint64_t bytes;             /* of a file, at most 4 GiB - 1; of a directory's entries */
    uint32_t first, clusters;   /* 0, 0: none (an empty file, the root where it has its own place) */
    time_t mtime;
    GPtrArray *children;        /* of a directory */
    uint8_t *data;              /* a directory's entries, whole clusters */
    GArray *chain;              /* vvfat-sync.c: its clusters, as the guest has them */
    char *path;                 /* vvfat-sync.c: below the folder */
};

struct fat_layout {
    unsigned bits;              /* 12, 16, 32 */
    bool floppy;
    uint32_t sectors;           /* of the disk */
    uint32_t start;             /* of the file system: 0 without a partition table */
    uint32_t cluster_sectors, reserved, fat_sectors, root_sectors, clusters, heads, track;
    uint32_t fat, root, data;   /* first sectors, from the disk's */
};

struct fat_disk {
    struct fat_layout at;
    char label[11];
    GPtrArray *entries;         /* all; the first is the root */
    GPtrArray *by_cluster;      /* those that have any */
    uint8_t *boot;              /* sectors 0 to the first FAT's */
    uint8_t *table;             /* one FAT */
    uint8_t *root;              /* where it has its own place */
};

/* The folder that dirfd names, as a disk. bits 0: the usual. */
bool fat_build(struct fat_disk *d, int dirfd, unsigned bits, bool floppy, const char *label, struct error *err);
void fat_free(struct fat_disk *d);
/* The entry a cluster belongs to, or NULL. */
const struct fat_entry *fat_owner(const struct fat_disk *d, uint32_t cluster);
/* An entry's file, below dirfd, through no symbolic link. -1 with errno. */
int fat_open(const struct fat_entry *e, int dirfd, int flags);
/* Whether a name can be on both sides. */
bool fat_name_ok(const char *name);

#endif
