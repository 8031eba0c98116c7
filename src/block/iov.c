/* Vectors of buffers. */
#include <string.h>
#include <glib.h>
#include "rhea/block/node.h"

uint64_t iov_bytes(const struct iovec *iov, int niov)
{
    uint64_t n = 0;

    for (int i = 0; i < niov; i++)
        n += iov[i].iov_len;
    return n;
}

int iov_slice(struct iovec *dst, const struct iovec *iov, int niov, uint64_t skip, uint64_t bytes)
{
    int n = 0;

    for (int i = 0; i < niov && bytes; i++) {
        uint64_t len = iov[i].iov_len;

        if (skip >= len) {
            skip -= len;
            continue;
        }
        dst[n] = (struct iovec){ (uint8_t *)iov[i].iov_base + skip, MIN(len - skip, bytes) };
        bytes -= dst[n].iov_len;
        skip = 0;
        n++;
    }
    return n;
}

/* Calls fn for each piece of [skip, skip + bytes). */
static void iov_walk(const struct iovec *iov, int niov, uint64_t skip, uint64_t bytes,
                     void (*fn)(void *piece, uint64_t len, uint8_t **cursor), uint8_t *cursor)
{
    for (int i = 0; i < niov && bytes; i++) {
        uint64_t len = iov[i].iov_len, n;

        if (skip >= len) {
            skip -= len;
            continue;
        }
        n = MIN(len - skip, bytes);
        fn((uint8_t *)iov[i].iov_base + skip, n, &cursor);
        bytes -= n;
        skip = 0;
    }
}

static void piece_read(void *piece, uint64_t len, uint8_t **cursor)
{
    memcpy(*cursor, piece, len);
    *cursor += len;
}

static void piece_write(void *piece, uint64_t len, uint8_t **cursor)
{
    memcpy(piece, *cursor, len);
    *cursor += len;
}

static void piece_zero(void *piece, uint64_t len, uint8_t **cursor)
{
    memset(piece, 0, len);
}

void iov_read(const struct iovec *iov, int niov, uint64_t skip, void *buf, uint64_t bytes)
{
    iov_walk(iov, niov, skip, bytes, piece_read, buf);
}

void iov_write(const struct iovec *iov, int niov, uint64_t skip, const void *buf, uint64_t bytes)
{
    iov_walk(iov, niov, skip, bytes, piece_write, (uint8_t *)buf);
}

void iov_zero(const struct iovec *iov, int niov, uint64_t skip, uint64_t bytes)
{
    iov_walk(iov, niov, skip, bytes, piece_zero, NULL);
}

/* Looks at a few bytes first: most buffers that are not zero differ there. */
bool buffer_is_zero(const void *buf, uint64_t bytes)
{
    const uint8_t *p = buf;

    if (!bytes)
        return true;
    if (p[0] || p[bytes / 2] || p[bytes - 1])
        return false;
    for (; bytes && ((uintptr_t)p & 7); bytes--)
        if (*p++)
            return false;
    for (; bytes >= 64; bytes -= 64, p += 64) {
        const uint64_t *q = (const uint64_t *)p;

        if (q[0] | q[1] | q[2] | q[3] | q[4] | q[5] | q[6] | q[7])
            return false;
    }
    while (bytes--)
        if (*p++)
            return false;
    return true;
}
