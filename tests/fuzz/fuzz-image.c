/* libFuzzer over the parsers of image formats: the input is an image file, of the format that RHEA_FUZZ_FORMAT names. It
 * is opened, read, mapped, checked and, every other time, written to; nothing may crash, hang or grow without bound.
 *
 *   CC=clang meson setup build-fuzz -Dwerror=false -Dc_args=-fsanitize=fuzzer-no-link,address \
 *       -Dc_link_args=-fsanitize=address -Db_lundef=false
 *   ninja -C build-fuzz tests/fuzz/fuzz-image
 *   RHEA_FUZZ_FORMAT=vmdk build-fuzz/tests/fuzz/fuzz-image -timeout=10 -rss_limit_mb=1024 -max_len=65536 CORPUS
 *
 * Without libFuzzer it runs over the files that are its arguments: to see a finding again. */
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
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
    if (n->drv->check && n->size < 1ull << 32)
        n->drv->check(n, n->read_only ? 0 : BLOCK_FIX_ERRORS, &check, &err);
    error_clear(&err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *format = getenv("RHEA_FUZZ_FORMAT");
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
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    path = g_strdup_printf("/proc/self/fd/%d", fd);
    o = json_object_new_object();
    file = json_object_new_object();
    json_object_object_add(file, "driver", json_object_new_string("file"));
    json_object_object_add(file, "filename", json_object_new_string(path));
    json_object_object_add(file, "locking", json_object_new_string("off"));
    json_object_object_add(o, "driver", json_object_new_string(format ? format : "qcow2"));
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
