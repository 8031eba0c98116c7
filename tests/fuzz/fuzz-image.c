/* libFuzzer over the parsers of image formats; fuzz.py builds it, makes the first inputs, and runs it.
 *
 * The input is an image of the format that RHEA_FUZZ_FORMAT names. It is opened, read, mapped, checked and, every other time, written
 * to; nothing may crash, hang or grow without bound. Images of formats whose parts lie megabytes apart come in pieces (struct piece,
 * then its bytes), with checksums made right afterwards, so that what a mutation changed is looked at.
 *
 * Without libFuzzer it runs over the files that are its arguments: to see a finding again. */
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "block/format/image.h"
#include "block/graph.h"
#include "rhea/base/options.h"
#include "rhea/block/node.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *loop;
static struct block_graph *graph;

static void use(void *arg)
{
    struct block_node *n = arg;
    uint64_t at[] = { 0, 512, n->size / 2 & ~511ull, n->size > 4096 ? (n->size - 4096) & ~511ull : 0 };
    g_autofree uint8_t *buf = g_malloc0(128 << 10);
    struct block_check check = { 0 };
    struct error err = ERROR_INIT;

    for (unsigned i = 0; i < G_N_ELEMENTS(at); i++) {
        uint64_t bytes = MIN(128 << 10, n->size > at[i] ? n->size - at[i] : 0), len, map;
        struct block_node *file;
        int depth;

        if (!bytes)
            continue;
        node_pread(n, at[i], buf, bytes);
        node_status_above(n, at[i], n->size - at[i], &len, &map, &file, &depth, true);
        if (n->read_only)
            continue;
        node_pwrite(n, at[i], buf, MIN(bytes, 8192));
        node_write_zeroes(n, at[i], bytes, BLOCK_MAY_UNMAP);
    }
    if (!n->read_only)
        node_flush(n);
    /* a check counts the file's clusters: what a write to nowhere made of the file is not the parser's */
    if (n->drv->check && n->size < 1ull << 32 && (!n->file || n->file->size < 1 << 30))
        n->drv->check(n, n->read_only ? 0 : BLOCK_FIX_ERRORS, &check, &err);
    error_clear(&err);
}

/* ---- images in pieces */

struct piece { uint32_t sector, bytes; };
enum { PIECES_MAX = 64 << 20 };

/* A folded sum of bytes, but those of the sum itself: "Virtual Hard Disk Image Format Specification", Computing Checksum. */
static void mend_vpc(uint8_t *p, size_t bytes, size_t at)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < bytes; i++)
        sum += i - at < 4 ? 0 : p[i];
    *(uint32_t *)(p + at) = GUINT32_TO_BE(~sum);
}

static void mend_vhdx(uint8_t *p, uint32_t bytes)
{
    memset(p + 4, 0, 4);
    *(uint32_t *)(p + 4) = GUINT32_TO_LE(image_crc32c(0, p, bytes));
}

static void mend(uint8_t *p, size_t left)
{
    if (!memcmp(p, "conectix", 8))
        mend_vpc(p, 512, 64);
    else if (!memcmp(p, "cxsparse", 8) && left >= 1024)
        mend_vpc(p, 1024, 36);
    else if (!memcmp(p, "head", 4) && left >= 4096)
        mend_vhdx(p, 4096);
    else if (!memcmp(p, "regi", 4) && left >= 65536)
        mend_vhdx(p, 65536);
    else if (!memcmp(p, "loge", 4) && left >= 4096)
        mend_vhdx(p, MIN(GUINT32_FROM_LE(*(uint32_t *)(p + 8)) & ~4095u, MIN(left, 1 << 20)));
}

/* room 0: puts the pieces in their places; else, of an image so long, mends what starts in them. The length. */
static size_t pieces_put(uint8_t *image, size_t room, const uint8_t *data, size_t size)
{
    size_t end = 0;
    struct piece p;

    for (size_t at = 0; at + sizeof(p) <= size; at += p.bytes) {
        uint64_t start;

        memcpy(&p, data + at, sizeof(p));
        at += sizeof(p);
        start = (uint64_t)p.sector * 512;
        p.bytes = MIN(p.bytes, size - at);
        if (start + p.bytes > PIECES_MAX)
            break;
        end = MAX(end, start + p.bytes);
        if (!room)
            memcpy(image + start, data + at, p.bytes);
        for (uint64_t k = start; room && k + 512 <= MIN(start + p.bytes, room); k += 512)
            mend(image + k, room - k);
    }
    return end;
}

static void image_write(int fd, const char *format, const uint8_t *data, size_t size)
{
    static const char *const in_pieces[] = { "vhdx", "vpc", "vdi", "parallels", NULL };
    uint8_t *image;
    size_t end;

    if (!g_strv_contains(in_pieces, format)) {
        if (write(fd, data, size) != (ssize_t)size)
            abort();
        return;
    }
    if (ftruncate(fd, PIECES_MAX) < 0)
        abort();
    image = mmap(NULL, PIECES_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (image == MAP_FAILED)
        abort();
    end = pieces_put(image, 0, data, size);
    pieces_put(image, end, data, size);
    munmap(image, PIECES_MAX);
    if (ftruncate(fd, end) < 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *format = getenv("RHEA_FUZZ_FORMAT") ?: "qcow2";
    struct error err = ERROR_INIT;
    struct json_object *o, *file;
    struct block_node *n;
    g_autofree char *path = NULL;
    int fd = memfd_create("image", MFD_CLOEXEC);

    if (!graph) {
        loop = loop_new("fuzz");
        loop_enter(loop);
        graph = block_graph_new(NULL, loop);
    }
    if (fd < 0)
        abort();
    image_write(fd, format, data, size);
    path = g_strdup_printf("/proc/self/fd/%d", fd);
    o = json_object_new_object();
    file = json_object_new_object();
    json_object_object_add(file, "driver", json_object_new_string("file"));
    json_object_object_add(file, "filename", json_object_new_string(path));
    json_object_object_add(file, "locking", json_object_new_string("off"));
    json_object_object_add(o, "driver", json_object_new_string(format));
    json_object_object_add(o, "read-only", json_object_new_boolean(size & 1));
    json_object_object_add(o, "file", file);
    n = node_open(graph, o, &err);
    json_object_put(o);
    if (n) {
        block_run(graph, use, n);
        node_unref(n);
    }
    error_clear(&err);
    close(fd);
    return 0;
}

#ifndef RHEA_LIBFUZZER
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        g_autofree char *data = NULL;
        gsize len;

        if (g_file_get_contents(argv[i], &data, &len, NULL))
            LLVMFuzzerTestOneInput((uint8_t *)data, len);
    }
    return 0;
}
#endif
