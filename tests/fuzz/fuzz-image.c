/* libFuzzer over the parsers of image formats; fuzz.py builds it, makes the first inputs, and runs it.
 *
 * The input is an image of the format that RHEA_FUZZ_FORMAT names. It is opened, read, mapped, checked and, every other time, written
 * to; nothing may crash, hang or grow without bound. Images of formats whose parts lie megabytes apart come in pieces (struct piece,
 * then its bytes), with checksums made right afterwards, so that what a mutation changed is looked at.
 *
 * nbd: the input is what the server says, all of it before it is asked. (RHEA_FUZZ_SERVER, a socket: a real one, to be recorded.)
 * vvfat: the input is what a guest writes to a floppy disk that is a folder, in pieces; nothing may appear beside the folder.
 *
 * Without libFuzzer it runs over the files that are its arguments: to see a finding again, and for test_corpus.py. */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "block/format/image.h"
#include "block/graph.h"
#include "rhea/base/options.h"
#include "rhea/block/node.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SECONDS_MOST = 5 };      /* with AddressSanitizer */
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

/* ---- targets: what is opened, and what is done with it */

static void put(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, json_object_new_string(value));
}

static struct json_object *options_of(const char *driver, bool read_only)
{
    struct json_object *o = json_object_new_object();

    put(o, "driver", driver);
    json_object_object_add(o, "read-only", json_object_new_boolean(read_only));
    return o;
}

static void open_use(struct json_object *o, void (*fn)(void *arg))
{
    struct error err = ERROR_INIT;
    struct block_node *n = node_open(graph, o, &err);

    json_object_put(o);
    if (n) {
        block_run(graph, fn, n);
        node_unref(n);
    }
    error_clear(&err);
}

static void run_image(const char *format, const uint8_t *data, size_t size)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    struct json_object *o = options_of(format, size & 1), *file = json_object_new_object();

    if (fd < 0)
        abort();
    image_write(fd, format, data, size);
    put(file, "driver", "file");
    put(file, "filename", path);
    put(file, "locking", "off");
    json_object_object_add(o, "file", file);
    open_use(o, use);
    close(fd);
}

static void run_nbd(const char *format, const uint8_t *data, size_t size)
{
    const char *path = getenv("RHEA_FUZZ_SERVER");
    struct json_object *o = options_of("nbd", size & 1), *server = json_object_new_object();
    g_autofree char *number = NULL;
    int fds[2], room = 1 << 20;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) || setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)))
        abort();
    if (send(fds[1], data, size, MSG_DONTWAIT) < 0)
        size = 0;
    shutdown(fds[1], SHUT_WR);
    number = g_strdup_printf("%d", fds[0]);
    put(server, "type", path ? "unix" : "fd");
    put(server, path ? "path" : "str", path ?: number);
    json_object_object_add(o, "server", server);
    put(o, "export", "e");
    open_use(o, use);
    close(fds[0]);
    close(fds[1]);
}

/* ---- a folder that a guest writes to */

static struct { const uint8_t *data; size_t size; } written;

static void write_pieces(void *arg)
{
    struct block_node *n = arg;
    struct piece p;

    for (size_t at = 0; at + sizeof(p) <= written.size; at += p.bytes) {
        uint64_t start;

        memcpy(&p, written.data + at, sizeof(p));
        at += sizeof(p);
        start = (uint64_t)p.sector * 512;
        p.bytes = MIN(p.bytes, written.size - at);
        if (start < n->size && p.bytes)
            node_pwrite(n, start, written.data + at, MIN(p.bytes, n->size - start));
    }
    node_flush(n);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static void put_file(int dir, const char *name, size_t bytes)
{
    static const char text[2048];
    int fd = openat(dir, name, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, text, bytes) != (ssize_t)bytes)
        abort();
    close(fd);
}

static void run_vvfat(const char *format, const uint8_t *data, size_t size)
{
    static char *top, *folder;
    struct json_object *o = options_of("vvfat", false);
    struct dirent *d;
    DIR *dir;
    int fd;

    if (!top) {
        top = g_dir_make_tmp("rhea-fuzz-XXXXXX", NULL);
        folder = g_strdup_printf("%s/folder", top);
    }
    mkdir(top, 0700);
    if (mkdir(folder, 0700) < 0)
        abort();
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    put_file(fd, "A.TXT", 600);
    if (mkdirat(fd, "D", 0700))
        abort();
    put_file(fd, "D/B.TXT", 1500);
    close(fd);
    put(o, "dir", folder);
    json_object_object_add(o, "rw", json_object_new_boolean(true));
    json_object_object_add(o, "floppy", json_object_new_boolean(true));
    written.data = data;
    written.size = size;
    open_use(o, write_pieces);
    dir = opendir(top);
    while (dir && (d = readdir(dir)))
        if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..") && strcmp(d->d_name, "folder"))
            abort();
    closedir(dir);
    nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const struct { const char *name; void (*run)(const char *format, const uint8_t *data, size_t size); } others[] = {
    { "nbd", run_nbd }, { "vvfat", run_vvfat },
};

/* Seconds of the processor: on a host with other work libFuzzer's own clock calls inputs slow that are not. */
static double processor_time(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const double begun = processor_time();
    const char *format = getenv("RHEA_FUZZ_FORMAT") ?: "qcow2";
    void (*run)(const char *format, const uint8_t *data, size_t size) = run_image;

    if (!graph) {
        loop = loop_new("fuzz");
        loop_enter(loop);
        graph = block_graph_new(NULL, loop);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++)
        if (!strcmp(others[i].name, format))
            run = others[i].run;
    run(format, data, size);
    if (processor_time() - begun > SECONDS_MOST) {
        fprintf(stderr, "this input took %.1f seconds of the processor\n", processor_time() - begun);
        abort();
    }
    return 0;
}

#ifndef RHEA_LIBFUZZER
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        g_autofree char *data = NULL;
        gsize len;

        printf("%s\n", argv[i]);                /* the last one said is the one that failed */
        fflush(stdout);
        if (!g_file_get_contents(argv[i], &data, &len, NULL))
            return 1;
        LLVMFuzzerTestOneInput((uint8_t *)data, len);
    }
    return 0;
}
#endif
