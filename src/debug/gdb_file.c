/* vFile: the target's files, for a client that looks for programs and libraries there. Read only. "Debugging with GDB", appendix
 * "Host I/O Packets" and "File-I/O Remote Protocol Extension", whose error numbers and structures these are. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gdb_internal.h"

enum { PATH_BYTES = 4096, O_RDONLY_FILEIO = 0 };

static int fileio_error(int e)
{
    switch (e) {
    case EPERM: case ENOENT: case EINTR: case EBADF: case EACCES: case EFAULT: case EBUSY: case EEXIST: case ENODEV: case ENOTDIR:
    case EISDIR: case EINVAL: case ENFILE: case EMFILE: case EFBIG: case ENOSPC: case ESPIPE: case EROFS: return e;
    case ENAMETOOLONG: return 91;
    default: return 9999;
    }
}

static void reply_failed(struct gdb *g, int e)
{
    g_autofree char *text = g_strdup_printf("F-1,%x", fileio_error(e));

    gdb_reply_text(g, text);
}

static void reply_value(struct gdb *g, uint64_t v, const void *data, size_t n)
{
    g_autofree char *text = g_strdup_printf("F%" G_GINT64_MODIFIER "x%s", v, data ? ";" : "");
    g_autoptr(GByteArray) out = g_byte_array_new();

    g_byte_array_append(out, (const uint8_t *)text, strlen(text));
    if (data)
        gdb_append_escaped(out, data, n);
    gdb_reply(g, out->data, out->len);
}

/* A path in hexadecimal up to a comma or the end. */
static bool parse_path(const char **p, char path[PATH_BYTES])
{
    size_t n = strcspn(*p, ",");

    if (n == 0 || n % 2 || n / 2 >= PATH_BYTES || !gdb_parse_bytes(*p, (uint8_t *)path, n / 2))
        return false;
    path[n / 2] = 0;
    *p += n;
    return strlen(path) == n / 2;
}

static bool parse_comma(const char **p, uint64_t *v)
{
    if (**p != ',')
        return false;
    (*p)++;
    return gdb_parse_hex(p, v);
}

static void file_open(struct gdb *g, const char *p)
{
    char path[PATH_BYTES];
    uint64_t flags, mode;
    int slot = 0, fd;

    if (!parse_path(&p, path) || !parse_comma(&p, &flags) || !parse_comma(&p, &mode)) {
        reply_failed(g, EINVAL);
        return;
    }
    while (slot < GDB_FILES_MAX && g->files[slot] >= 0)
        slot++;
    if (flags != O_RDONLY_FILEIO) {
        reply_failed(g, EROFS);
        return;
    }
    fd = slot == GDB_FILES_MAX ? -EMFILE : g->target->open(g->opaque, path);
    if (fd < 0) {
        reply_failed(g, -fd);
        return;
    }
    g->files[slot] = fd;
    reply_value(g, slot, NULL, 0);
}

static int file_of(struct gdb *g, uint64_t n) { return n < GDB_FILES_MAX ? g->files[n] : -1; }

static void file_close(struct gdb *g, const char *p)
{
    uint64_t n;
    int fd;

    if (!gdb_parse_hex(&p, &n) || (fd = file_of(g, n)) < 0) {
        reply_failed(g, EBADF);
        return;
    }
    close(fd);
    g->files[n] = -1;
    reply_value(g, 0, NULL, 0);
}

static void file_pread(struct gdb *g, const char *p)
{
    uint64_t n, count, offset;
    uint8_t buf[GDB_PACKET_MAX / 2 - 64];       /* each byte may need an escape */
    ssize_t got;
    int fd;

    if (!gdb_parse_hex(&p, &n) || !parse_comma(&p, &count) || !parse_comma(&p, &offset)) {
        reply_failed(g, EINVAL);
        return;
    }
    fd = file_of(g, n);
    got = fd < 0 ? -1 : pread(fd, buf, MIN(count, sizeof(buf)), (off_t)offset);
    if (got < 0)
        reply_failed(g, fd < 0 ? EBADF : errno);
    else
        reply_value(g, got, buf, got);
}

static void put_be(uint8_t *p, uint64_t v, unsigned bytes)
{
    while (bytes--) {
        p[bytes] = (uint8_t)v;
        v >>= 8;
    }
}

/* struct fst_stat: big endian, 64 bytes. */
static void file_fstat(struct gdb *g, const char *p)
{
    uint8_t b[64];
    struct stat st;
    uint64_t n;
    int fd;

    if (!gdb_parse_hex(&p, &n) || (fd = file_of(g, n)) < 0 || fstat(fd, &st) < 0) {
        reply_failed(g, EBADF);
        return;
    }
    put_be(b, st.st_dev, 4);
    put_be(b + 4, st.st_ino, 4);
    put_be(b + 8, st.st_mode & 0177777, 4);
    put_be(b + 12, st.st_nlink, 4);
    put_be(b + 16, st.st_uid, 4);
    put_be(b + 20, st.st_gid, 4);
    put_be(b + 24, st.st_rdev, 4);
    put_be(b + 28, st.st_size, 8);
    put_be(b + 36, st.st_blksize, 8);
    put_be(b + 44, st.st_blocks, 8);
    put_be(b + 52, st.st_atime, 4);
    put_be(b + 56, st.st_mtime, 4);
    put_be(b + 60, st.st_ctime, 4);
    reply_value(g, sizeof(b), b, sizeof(b));
}

static void file_readlink(struct gdb *g, const char *p)
{
    char path[PATH_BYTES], to[PATH_BYTES];
    ssize_t n;

    if (!parse_path(&p, path)) {
        reply_failed(g, EINVAL);
        return;
    }
    n = g->target->readlink(g->opaque, path, to, sizeof(to));
    if (n < 0)
        reply_failed(g, (int)-n);
    else
        reply_value(g, n, to, n);
}

/* Whose file system: there is one. */
static void file_setfs(struct gdb *g, const char *p) { reply_value(g, 0, NULL, 0); }
static void file_write(struct gdb *g, const char *p) { reply_failed(g, EROFS); }

void gdb_file(struct gdb *g, const char *args, size_t n)
{
    static const struct { const char *name; void (*fn)(struct gdb *g, const char *p); } calls[] = {
        { "open:", file_open }, { "close:", file_close }, { "pread:", file_pread }, { "fstat:", file_fstat },
        { "readlink:", file_readlink }, { "setfs:", file_setfs }, { "pwrite:", file_write }, { "unlink:", file_write },
    };

    for (unsigned k = 0; g->target->open && k < G_N_ELEMENTS(calls); k++)
        if (g_str_has_prefix(args, calls[k].name)) {
            calls[k].fn(g, args + strlen(calls[k].name));
            return;
        }
    gdb_reply_text(g, "");
}

void gdb_files_close(struct gdb *g)
{
    for (unsigned n = 0; n < GDB_FILES_MAX; n++)
        if (g->files[n] >= 0) {
            close(g->files[n]);
            g->files[n] = -1;
        }
}
