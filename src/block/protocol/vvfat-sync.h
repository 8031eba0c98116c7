/* The way back of vvfat: from the guest's file system to the folder. */
#ifndef RHEA_BLOCK_PROTOCOL_VVFAT_SYNC_H
#define RHEA_BLOCK_PROTOCOL_VVFAT_SYNC_H

#include "block/protocol/vvfat.h"

/* A file or folder as the guest has it. */
struct fat_known {
    bool directory;
    uint32_t first;
    uint64_t bytes;
    const struct fat_entry *shown;      /* whose clusters may still be read from the folder's file; or NULL */
};

struct fat_sync {
    const struct fat_disk *disk;
    int dirfd;
    GHashTable *known;          /* path -> struct fat_known: what was shown to the guest or came from it */
    /* [co] What the guest sees; whether it wrote there since the last sync; keeps what it sees of a file of the
     * folder, which is about to change. */
    int (*read)(void *opaque, uint64_t off, void *buf, uint64_t bytes);
    bool (*touched)(void *opaque, uint64_t off, uint64_t bytes);
    int (*keep)(void *opaque, const struct fat_entry *e);
    void *opaque;
    const char *wrong;          /* why the last one changed nothing, or NULL */
};

void fat_sync_known(struct fat_sync *s);
/* [co] 0; -EAGAIN: the guest is amid a change; or what the folder said. */
int fat_sync(struct fat_sync *s);

#endif
