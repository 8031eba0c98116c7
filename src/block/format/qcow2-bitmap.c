/* qcow2: dirty bitmaps kept in the image. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/format/qcow2.h"

enum { ENTRY_FIXED = 24 };

/* ---- what they take of the file */

static int walk_table(struct qcow2 *q, uint64_t offset, uint32_t entries,
                      bool (*fn)(void *arg, uint64_t offset, uint64_t bytes), void *arg)
{
    g_autofree uint64_t *table = g_try_new0(uint64_t, MAX(entries, 1));
    int ret = table ? node_pread(q->file, offset, table, entries * 8ull) : -ENOMEM;

    for (uint32_t i = 0; i < entries && !ret; i++) {
        uint64_t cluster = GUINT64_FROM_BE(table[i]) & QCOW2_OFFSET_MASK;

        if (cluster)
            fn(arg, cluster, q->cluster_size);
    }
    return ret;
}

int qcow2_bitmaps_walk(struct qcow2 *q, bool (*fn)(void *arg, uint64_t offset, uint64_t bytes), void *arg)
{
    g_autofree uint8_t *dir = g_try_malloc0(MAX(q->bitmaps_size, 1));
    int ret = dir ? node_pread(q->file, q->bitmaps_offset, dir, q->bitmaps_size) : -ENOMEM;
    uint64_t at = 0;

    fn(arg, q->bitmaps_offset, q->bitmaps_size);
    for (uint32_t i = 0; i < q->bitmap_count && !ret; i++) {
        const uint8_t *e = dir + at;
        uint64_t bytes;
        uint32_t entries;

        if (q->bitmaps_size - at < ENTRY_FIXED)
            return -EIO;
        entries = be32_get(e + 8);
        bytes = (ENTRY_FIXED + (uint64_t)be32_get(e + 20) + (be32_get(e + 16) & 0xffff) + 7) & ~7ull;
        if (bytes > q->bitmaps_size - at || entries > QCOW2_MAX_L1_BYTES / 8 || !qcow2_table_ok(q, be64_get(e), entries * 8ull))
            return -EIO;
        fn(arg, be64_get(e), entries * 8ull);
        ret = walk_table(q, be64_get(e), entries, fn, arg);
        at += bytes;
    }
    return ret;
}
