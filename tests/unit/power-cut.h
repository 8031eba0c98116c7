/* Power cuts: what the crashlog driver recorded is cut anywhere, and what came after the last flush of a file is kept, lost or
 * torn at random. What a guest wrote is told apart by a number in each word of a sector. */
#ifndef POWER_CUT_H
#define POWER_CUT_H

#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/protocol/crashlog.h"

enum { CUT_WORDS = 512 / 4 };

struct cut_event {              /* of the guest, in its order */
    uint64_t log_end;           /* it was over when the log was so long */
    bool flush;
    uint32_t sector, count, tag;
    uint32_t *tags;             /* a snapshot gone back to: of each sector */
};

static uint64_t log_size(const char *path)
{
    struct stat st;

    g_assert_cmpint(stat(path, &st), ==, 0);
    return st.st_size;
}

/* g_file_set_contents() waits for the disk, and so does a file that is emptied and written again. */
static void put_file(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_RDWR | O_CREAT, 0644);

    g_assert_cmpint(write(fd, data, len), ==, len);
    g_assert_cmpint(ftruncate(fd, len), ==, 0);
    close(fd);
}

static void record_head(const uint8_t *log, uint64_t at, uint64_t h[3], unsigned *id)
{
    memcpy(h, log + at, 24);
    *id = h[0] >> CRASHLOG_ID_SHIFT;
    h[0] &= (1 << CRASHLOG_ID_SHIFT) - 1;
}

static uint64_t record_end(const uint8_t *log, uint64_t at)
{
    uint64_t h[3];
    unsigned id;

    record_head(log, at, h, &id);
    return at + 24 + (h[0] == CRASHLOG_WRITE ? h[2] : 0);
}

/* Sector by sector of the file; torn: each may be lost. data NULL: zeroes. */
static void cut_apply(GRand *rand, GByteArray *image, uint64_t off, uint64_t bytes, const uint8_t *data, bool torn)
{
    guint old = image->len;

    if (old < off + bytes) {
        g_byte_array_set_size(image, off + bytes);
        memset(image->data + old, 0, image->len - old);
    }
    for (uint64_t k = 0, n; k < bytes; k += n) {
        n = MIN(bytes - k, 512 - (off + k) % 512);
        if (torn && !g_rand_int_range(rand, 0, 4))
            continue;
        if (data)
            memcpy(image->data + off + k, data + k, n);
        else
            memset(image->data + off + k, 0, n);
    }
}

/* The files, by id, as a cut after `end` bytes of the log may leave them. */
static void cut_replay(GRand *rand, GByteArray **images, unsigned count, const uint8_t *log, uint64_t end)
{
    uint64_t durable[CRASHLOG_IDS] = { 0 }, h[3];
    unsigned id;

    for (uint64_t at = 0; at < end; at = record_end(log, at)) {
        record_head(log, at, h, &id);
        g_assert_cmpuint(id, <, count);
        if (h[0] == CRASHLOG_FLUSH)
            durable[id] = at;
    }
    for (uint64_t at = 0; at < end; at = record_end(log, at)) {
        bool sure;

        record_head(log, at, h, &id);
        sure = at < durable[id];
        if (h[0] == CRASHLOG_FLUSH || (!sure && g_rand_boolean(rand)))
            continue;
        cut_apply(rand, images[id], h[1], h[2], h[0] == CRASHLOG_WRITE ? log + at + 24 : NULL, !sure);
    }
}

/* Whether `seen` (of a cut after `end` bytes) is what a guest may find that had `durable` at first (changed): in each word the
 * number last written before the last flush that had ended, or any later one. */
static void cut_verify(GArray *events, uint32_t *durable, const uint32_t *seen, unsigned sectors, uint64_t end)
{
    int last_flush = -1;

    for (unsigned i = 0; i < events->len; i++)
        if (g_array_index(events, struct cut_event, i).flush && g_array_index(events, struct cut_event, i).log_end <= end)
            last_flush = i;
    for (int i = 0; i < last_flush; i++) {
        const struct cut_event *e = &g_array_index(events, struct cut_event, i);

        for (uint32_t k = 0; !e->flush && k < e->count; k++)
            durable[e->sector + k] = e->tags ? e->tags[k] : e->tag;
    }
    for (unsigned w = 0; w < sectors * CUT_WORDS; w++) {
        unsigned s = w / CUT_WORDS;
        bool ok = seen[w] == durable[s];

        for (unsigned i = last_flush + 1; !ok && i < events->len; i++) {
            const struct cut_event *e = &g_array_index(events, struct cut_event, i);

            ok = !e->flush && s >= e->sector && s < e->sector + e->count && (e->tags ? e->tags[s] : e->tag) == seen[w];
        }
        if (!ok)
            g_error("cut at %" PRIu64 ": sector %u word %u holds %u, not %u", end, s, w % CUT_WORDS, seen[w], durable[s]);
    }
}

#endif
