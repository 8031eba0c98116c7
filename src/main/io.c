/* rhea-io: reads and writes disk images by commands, as qemu-io does, for tests and for looking at images. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "block/backend.h"
#include "main/tool.h"
#include "rhea/base/options.h"
#include "rhea/control/version.h"
#include "rhea/vm/object.h"
#include "rhea/vm/vm.h"

enum { WORDS_MAX = 64, BYTES_MAX = 1 << 30 };

struct io {
    struct loop *loop;
    struct block_graph *graph;
    struct vm objects;                  /* for --object, no machine */
    struct block_node *node;            /* NULL: none is open */
    bool held_write;
    struct error err;
    char *image;
    char *format, *cache, *aio, *discard;
    char **commands, **objects_given, **args;
    gboolean read_only, temporary, nocache, native, image_opts, force_share, version;
    unsigned running;                   /* aio_* under way */
    bool quit, failed;
};

/* One read, write or the like. */
struct job {
    struct io *io;
    const char *verb;                   /* "read", "wrote" */
    enum { JOB_READ, JOB_WRITE, JOB_ZEROES, JOB_COMPRESSED, JOB_DISCARD, JOB_FLUSH, JOB_TRUNCATE } kind;
    unsigned flags;
    uint64_t off, bytes;
    struct iovec *iov;
    int niov;
    uint8_t *buf;
    bool check, quiet, dump, machine;
    uint8_t pattern;
    uint64_t check_off, check_bytes;
    int ret;
    int64_t start;
    bool done;
};

/* ---- numbers */

static char *size_text(double v)
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    unsigned u = 0;

    for (; v >= 1024 && u + 1 < G_N_ELEMENTS(units); u++)
        v /= 1024;
    return v == (uint64_t)v ? g_strdup_printf("%" PRIu64 " %s", (uint64_t)v, units[u]) : g_strdup_printf("%.3f %s", v, units[u]);
}

static bool number(const char *text, const char *what, uint64_t max, uint64_t *out)
{
    struct error err = ERROR_INIT;
    bool hex = g_str_has_prefix(text, "0x");
    bool ok = hex ? (*out = g_ascii_strtoull(text, NULL, 16), true) : parse_size(text, 1, out, &err);

    error_clear(&err);
    if (ok && *out <= max)
        return true;
    printf("%s %s argument -- %s\n", ok ? "too large" : "non-numeric", what, text);
    return false;
}

/* ---- reports */

static void report(struct job *j)
{
    double seconds = MAX(host_clock_ns() - j->start, 1) / 1e9;
    g_autofree char *size = size_text(j->bytes), *rate = size_text(j->bytes / seconds);

    if (j->quiet)
        return;
    if (j->machine) {
        printf("%" PRIu64 ",1,%.4f,%.4f,%.4f\n", j->bytes, seconds, j->bytes / seconds, 1 / seconds);
        return;
    }
    printf("%s %" PRIu64 "/%" PRIu64 " bytes at offset %" PRIu64 "\n%s, 1 ops; %05.2f sec (%s/sec and %.4f ops/sec)\n", j->verb, j->bytes,
           j->bytes, j->off, size, seconds, rate, 1 / seconds);
}

static void dump(const struct job *j)
{
    for (uint64_t i = 0; i < j->bytes; i += 16) {
        printf("%08" PRIx64 ":  ", j->off + i);
        for (uint64_t k = i; k < i + 16 && k < j->bytes; k++)
            printf("%02x ", j->buf[k]);
        putchar(' ');
        for (uint64_t k = i; k < i + 16 && k < j->bytes; k++)
            putchar(isalnum(j->buf[k]) ? j->buf[k] : '.');
        putchar('\n');
    }
}

static bool job_fails(struct job *j)
{
    static const char *const names[] = { "read", "write", "write", "write", "discard", "flush", "truncate" };
    bool differs = false;

    if (j->ret) {
        printf("%s failed: %s\n", names[j->kind], g_strerror(-j->ret));
        return true;
    }
    for (uint64_t i = 0; j->check && !differs && i < j->check_bytes; i++)
        differs = j->buf[j->check_off + i] != j->pattern;
    if (differs)
        printf("Pattern verification failed at offset %" PRIu64 ", %" PRIu64 " bytes\n", j->off + j->check_off, j->check_bytes);
    if (j->kind == JOB_FLUSH || j->kind == JOB_TRUNCATE)
        return false;
    if (j->dump)
        dump(j);
    report(j);
    return differs;
}

static void job_free(struct job *j)
{
    free(j->buf);
    g_free(j->iov);
    g_free(j);
}

/* ---- running */

static void job_run(void *arg)
{
    struct job *j = arg;
    struct block_node *n = j->io->node;

    switch (j->kind) {
    case JOB_READ: j->ret = j->off + j->bytes > n->size ? -EIO : node_preadv(n, j->off, j->bytes, j->iov, j->niov); break;
    case JOB_WRITE: j->ret = node_pwritev(n, j->off, j->bytes, j->iov, j->niov, j->flags); break;
    case JOB_ZEROES: j->ret = node_write_zeroes(n, j->off, j->bytes, j->flags); break;
    case JOB_COMPRESSED: j->ret = node_pwrite_compressed(n, j->off, j->buf, j->bytes); break;
    case JOB_DISCARD: j->ret = node_discard(n, j->off, j->bytes); break;
    case JOB_FLUSH: j->ret = node_flush(n); break;
    case JOB_TRUNCATE: j->ret = node_truncate(n, j->off, NULL); break;
    }
    j->done = true;
}

static void job_run_async(void *arg)
{
    struct job *j = arg;
    struct io *io = j->io;

    job_run(j);
    io->failed |= job_fails(j);
    io->running--;
    job_free(j);
}

static bool job_do(struct job *j)
{
    bool fails;

    j->start = host_clock_ns();
    block_run(j->io->graph, job_run, j);
    fails = job_fails(j);
    job_free(j);
    return !fails;
}

static bool job_start(struct job *j)
{
    j->start = host_clock_ns();
    j->io->running++;
    coroutine_start(job_run_async, j);
    return true;
}

static bool wait_all(struct io *io)
{
    bool ok;

    while (io->running)
        loop_step(io->loop, true);
    ok = !io->failed;
    io->failed = false;
    return ok;
}

/* ---- read and write */

/* Options of a command as getopt(3) has them, by hand: commands come by dozens in one process. */
struct flags { const char *text[128]; bool set[128]; };

static bool take_flags(int *argc, char ***argv, const char *known, struct flags *f)
{
    int i = 1;

    memset(f, 0, sizeof(*f));
    for (; i < *argc && (*argv)[i][0] == '-' && (*argv)[i][1]; i++) {
        if (!strcmp((*argv)[i], "--")) {
            i++;
            break;
        }
        for (const char *c = (*argv)[i] + 1; *c; c++) {
            const char *k = *c == ':' ? NULL : strchr(known, *c);

            if (!k || (unsigned char)*c > 127) {
                printf("%s: invalid option -- '%c'\n", (*argv)[0], *c);
                return false;
            }
            f->set[(int)*c] = true;
            if (k[1] != ':')
                continue;
            f->text[(int)*c] = c[1] ? c + 1 : ++i < *argc ? (*argv)[i] : NULL;
            if (!f->text[(int)*c]) {
                printf("%s: option requires an argument -- '%c'\n", (*argv)[0], *c);
                return false;
            }
            break;
        }
    }
    *argc -= i;
    *argv += i;
    return true;
}

static bool take_pattern(struct job *j, const struct flags *f, bool write)
{
    uint64_t v = write ? 0xcd : 0;

    if (f->set['P'] && !number(f->text['P'], "pattern", 255, &v))
        return false;
    j->pattern = v;
    return true;
}

/* -s, -l: which part of what is read must show the pattern. */
static bool take_check(struct job *j, const struct flags *f)
{
    j->check = f->set['P'];
    if (f->set['s'] && !number(f->text['s'], "pattern offset", j->bytes, &j->check_off))
        return false;
    j->check_bytes = j->bytes - j->check_off;
    return !f->set['l'] || number(f->text['l'], "pattern length", j->check_bytes, &j->check_bytes);
}

/* The buffers of the sizes that the words say, one after the other. */
static bool take_sizes(struct job *j, int argc, char **argv, bool vector)
{
    uint64_t n;

    if (!vector && argc != 1) {
        printf("it takes OFFSET LENGTH\n");
        return false;
    }
    j->iov = g_new0(struct iovec, argc);
    for (j->niov = 0; j->niov < argc; j->niov++) {
        if (!number(argv[j->niov], "length", j->kind == JOB_ZEROES || j->kind == JOB_DISCARD ? INT64_MAX : BYTES_MAX, &n))
            return false;
        j->iov[j->niov].iov_len = n;
        j->bytes += n;
    }
    if (j->kind == JOB_ZEROES || j->kind == JOB_DISCARD)
        return true;
    if (j->bytes > BYTES_MAX || posix_memalign((void **)&j->buf, 4096, MAX(j->bytes, 1))) {
        printf("Request size limit is %d bytes\n", BYTES_MAX);
        return false;
    }
    for (int i = 0, at = 0; i < j->niov; at += j->iov[i++].iov_len)
        j->iov[i].iov_base = j->buf + at;
    return true;
}

/* What a file holds, over and over. */
static bool take_content(struct job *j, const char *name)
{
    g_autoptr(GError) gerr = NULL;
    g_autofree char *data = NULL;
    gsize len = 0;

    if (!g_file_get_contents(name, &data, &len, &gerr) || !len) {
        printf("%s\n", gerr ? gerr->message : "the file is empty");
        return false;
    }
    for (uint64_t at = 0; at < j->bytes; at += len)
        memcpy(j->buf + at, data, MIN(len, j->bytes - at));
    return true;
}

static unsigned write_flags(const struct flags *f)
{
    return (f->set['f'] ? BLOCK_FUA : 0) | (f->set['u'] ? BLOCK_MAY_UNMAP : 0) | (f->set['n'] ? BLOCK_NO_FALLBACK : 0);
}

static bool transfer(struct io *io, int argc, char **argv)
{
    const char *name = argv[0], *base = g_str_has_prefix(name, "aio_") ? name + 4 : name;
    bool write = *base == 'w', async = base != name, vector = g_str_has_suffix(name, "v") || async;
    struct job *j = g_new0(struct job, 1);
    struct flags f;

    *j = (struct job){ .io = io, .kind = write ? JOB_WRITE : JOB_READ, .verb = write ? "wrote" : "read" };
    if (!take_flags(&argc, &argv, write ? "cCfnpP:qrs:uz" : "Cl:pP:qrs:v", &f))
        goto bad;
    if (argc < 2) {
        printf("%s: it takes OFFSET LENGTH%s\n", name, vector ? "..." : "");
        goto bad;
    }
    if ((f.set['u'] || f.set['n']) && !f.set['z']) {
        printf("-u and -n require -z to be specified\n");
        goto bad;
    }
    if (f.set['z'] && (f.set['P'] || f.set['c'] || f.set['s'])) {
        printf("-z cannot be used with -P, -c or -s\n");
        goto bad;
    }
    if (write && f.set['P'] && f.set['s']) {
        printf("Only one of -z, -P, and -s can be specified at the same time\n");
        goto bad;
    }
    if (f.set['z'])
        j->kind = JOB_ZEROES;
    else if (f.set['c'])
        j->kind = JOB_COMPRESSED;
    j->flags = write ? write_flags(&f) : 0;
    j->quiet = f.set['q'];
    j->machine = f.set['C'];
    j->dump = f.set['v'];
    if (!number(argv[0], "offset", INT64_MAX, &j->off) || !take_sizes(j, argc - 1, argv + 1, vector) || !take_pattern(j, &f, write) ||
        (!write && !take_check(j, &f)))
        goto bad;
    if (j->buf)
        memset(j->buf, write ? j->pattern : 0xab, j->bytes);
    if (write && f.set['s'] && !take_content(j, f.text['s']))
        goto bad;
    return async ? job_start(j) : job_do(j);

bad:
    job_free(j);
    return false;
}

static bool discard(struct io *io, int argc, char **argv)
{
    struct job *j = g_new0(struct job, 1);
    struct flags f;

    *j = (struct job){ .io = io, .kind = JOB_DISCARD, .verb = "discard" };
    if (take_flags(&argc, &argv, "Cq", &f) && argc == 2 && number(argv[0], "offset", INT64_MAX, &j->off) &&
        take_sizes(j, 1, argv + 1, false)) {
        j->quiet = f.set['q'];
        j->machine = f.set['C'];
        return job_do(j);
    }
    if (argc != 2)
        printf("discard takes OFFSET LENGTH\n");
    job_free(j);
    return false;
}

static bool flush(struct io *io, int argc, char **argv)
{
    struct job *j = g_new0(struct job, 1);

    *j = (struct job){ .io = io, .kind = JOB_FLUSH };
    return job_do(j);
}

static bool aio_flush(struct io *io, int argc, char **argv)
{
    return wait_all(io);
}

static bool truncate_to(struct io *io, int argc, char **argv)
{
    struct job *j = g_new0(struct job, 1);
    struct flags f;

    *j = (struct job){ .io = io, .kind = JOB_TRUNCATE };
    if (take_flags(&argc, &argv, "m:", &f) && argc == 1 && number(argv[0], "truncate", INT64_MAX, &j->off))
        return job_do(j);
    job_free(j);
    return false;
}

/* ---- looking */

static bool length(struct io *io, int argc, char **argv)
{
    g_autofree char *text = size_text(io->node->size);

    printf("%s\n", text);
    return true;
}

static bool info(struct io *io, int argc, char **argv)
{
    struct block_node *n = io->node;
    g_autofree char *cluster = size_text(n->drv->cluster_size ? n->drv->cluster_size(n) : 0);
    struct json_object *o = n->drv->info ? n->drv->info(n) : NULL;

    printf("format name: %s\ncluster size: %s\n", n->drv->name, cluster);
    if (o)
        printf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(o);
    return true;
}

struct walk { struct io *io; uint64_t off, bytes, allocated; bool print; int ret; };

static void walk_run(void *arg)
{
    struct walk *w = arg;
    struct block_node *n = w->io->node, *file;
    uint64_t end = w->off + w->bytes, len, map, start = w->off;
    bool before = false;

    for (uint64_t at = w->off; at <= end; at += len) {
        bool last = at == end, here = false;

        len = 1;
        if (!last) {
            w->ret = node_block_status(n, at, end - at, &len, &map, &file);
            if (w->ret < 0)
                return;
            here = w->ret & STATUS_ALLOCATED;
            w->allocated += here ? len : 0;
        }
        if (w->print && at > start && (last || here != before)) {
            g_autofree char *size = size_text(at - start), *where = size_text(start);

            printf("%s (0x%" PRIx64 ") bytes %s at offset %s (0x%" PRIx64 ")\n", size, at - start, before ? "    allocated" : "not allocated",
                   where, start);
            start = at;
        }
        before = here;
    }
    w->ret = 0;
}

static bool walk(struct io *io, struct walk *w)
{
    w->io = io;
    if (w->off > io->node->size || w->bytes > io->node->size - w->off) {
        printf("the range is beyond the end\n");
        return false;
    }
    block_run(io->graph, walk_run, w);
    if (w->ret < 0)
        printf("block status failed: %s\n", g_strerror(-w->ret));
    return w->ret >= 0;
}

static bool map(struct io *io, int argc, char **argv)
{
    struct walk w = { .bytes = io->node->size, .print = true };

    return walk(io, &w);
}

static bool alloc(struct io *io, int argc, char **argv)
{
    struct walk w = { .bytes = 512 };
    g_autofree char *where = NULL;

    if (argc < 2 || argc > 3 || !number(argv[1], "offset", INT64_MAX, &w.off) || (argc == 3 && !number(argv[2], "length", INT64_MAX, &w.bytes)) ||
        !walk(io, &w))
        return false;
    where = size_text(w.off);
    printf("%" PRIu64 "/%" PRIu64 " bytes allocated at offset %s\n", w.allocated, w.bytes, where);
    return true;
}

/* ---- opening and closing */

static void image_close(struct io *io)
{
    if (!io->node)
        return;
    wait_all(io);
    node_release(io->node, io->held_write);
    node_unref(io->node);
    io->node = NULL;
}

static bool image_open(struct io *io, const char *name)
{
    struct json_object *opts = json_object_new_object();
    struct block_inherit in = { .aio = io->aio ? io->aio : io->native ? "native" : NULL };
    struct block_node *n = NULL;
    bool read_only = io->read_only || io->temporary;

    json_object_object_add(opts, "read-only", json_object_new_boolean(read_only));
    if (io->force_share)
        json_object_object_add(opts, "force-share", json_object_new_boolean(true));
    if (io->discard)
        json_object_object_add(opts, "discard", json_object_new_string(io->discard));
    if (tool_cache(opts, io->nocache ? "none" : io->cache ? io->cache : "writeback", &io->err)) {
        io->graph->inherit = &in;
        n = io->image_opts ? tool_open_by_options(io->graph, name, io->format, opts, &io->err)
                           : node_open_file(io->graph, name, io->format, opts, &io->err);
        io->graph->inherit = NULL;
    }
    json_object_put(opts);
    if (n && io->temporary)
        n = node_overlay(io->graph, n, NULL, &io->err);
    if (n && !node_hold(n, !n->read_only, io->force_share, &io->err)) {
        node_unref(n);
        n = NULL;
    }
    if (!n) {
        error_prepend(&io->err, "can't open device %s", name);
        error_report(&io->err);
        return false;
    }
    io->node = n;
    io->held_write = !n->read_only;
    if (io->image != name) {
        g_free(io->image);
        io->image = g_strdup(name);
    }
    return true;
}

static bool open_command(struct io *io, int argc, char **argv)
{
    struct flags f;

    if (io->node) {
        printf("file open already, try 'help close'\n");
        return false;
    }
    if (!take_flags(&argc, &argv, "Crsnko:t:d:U", &f) || (argc != 1 && !f.set['o'])) {
        printf("open takes one image\n");
        return false;
    }
    io->read_only = f.set['r'];
    io->temporary = f.set['s'];
    io->nocache = f.set['n'];
    io->force_share |= f.set['U'];
    if (f.set['o']) {
        bool options = io->image_opts, ok;
        g_autofree char *text = argc ? g_strdup_printf("%s,file.filename=%s", f.text['o'], argv[0]) : g_strdup(f.text['o']);

        io->image_opts = true;
        ok = image_open(io, text);
        io->image_opts = options;
        return ok;
    }
    return image_open(io, argv[0]);
}

static bool close_command(struct io *io, int argc, char **argv)
{
    image_close(io);
    return true;
}

/* The same image, read-only (-r) or for writing (-w), in another cache mode (-c). */
static bool reopen(struct io *io, int argc, char **argv)
{
    struct flags f;
    gboolean read_only = io->node->read_only;

    if (!take_flags(&argc, &argv, "c:o:rw", &f))
        return false;
    if (f.set['o'] || (f.set['r'] && f.set['w'])) {
        printf(f.set['o'] ? "reopen -o is not supported: close, then open -o\n" : "-r and -w cannot be combined\n");
        return false;
    }
    if (f.set['c']) {
        g_free(io->cache);
        io->cache = g_strdup(f.text['c']);
        io->nocache = false;
    }
    io->read_only = f.set['r'] || (!f.set['w'] && read_only);
    image_close(io);
    return image_open(io, io->image);
}

static bool sleep_ms(struct io *io, int argc, char **argv)
{
    uint64_t ms;

    if (argc != 2 || !number(argv[1], "sleep", 3600000, &ms))
        return false;
    for (int64_t until = host_clock_ns() + ms * 1000000; host_clock_ns() < until; g_usleep(1000))
        loop_step(io->loop, false);
    return true;
}

static bool quit(struct io *io, int argc, char **argv)
{
    io->quit = true;
    return true;
}

/* ---- commands */

static bool help(struct io *io, int argc, char **argv);

static const struct {
    const char *name, *other, *args, *summary;
    bool needs_image;
    bool (*run)(struct io *io, int argc, char **argv);
} commands[] = {
    { "aio_flush", NULL, "", "waits for all requests under way", true, aio_flush },
    { "aio_read", NULL, "[-qvC] [-P BYTE] OFF LEN...", "reads, not waiting for the end", true, transfer },
    { "aio_write", NULL, "[-qfuzC] [-P BYTE] OFF LEN...", "writes, not waiting for the end", true, transfer },
    { "alloc", NULL, "OFF [LEN]", "tells how much of a range the image itself holds", true, alloc },
    { "close", "c", "", "closes the image", true, close_command },
    { "discard", "d", "[-Cq] OFF LEN", "gives a range back to the host", true, discard },
    { "flush", "f", "", "to stable storage", true, flush },
    { "help", "?", "", "lists the commands", false, help },
    { "info", NULL, "", "tells what the image is", true, info },
    { "length", "l", "", "tells the disk's size", true, length },
    { "map", NULL, "", "tells which ranges the image itself holds", true, map },
    { "open", "o", "[-rsnU] [-o OPTIONS] FILE", "opens an image", false, open_command },
    { "quit", "q", "", "ends", false, quit },
    { "read", "r", "[-qvC] [-P BYTE [-s OFF] [-l LEN]] OFF LEN", "reads, and checks for a pattern", true, transfer },
    { "readv", "rv", "[-qvC] [-P BYTE] OFF LEN...", "reads into several buffers", true, transfer },
    { "reopen", NULL, "[-r|-w] [-c CACHE]", "opens the image anew", true, reopen },
    { "sleep", NULL, "MS", "waits", false, sleep_ms },
    { "truncate", "t", "SIZE", "changes the disk's size", true, truncate_to },
    { "write", "w", "[-qcfunzC] [-P BYTE | -s FILE] OFF LEN", "writes a pattern, or a file's content", true, transfer },
    { "writev", "wv", "[-qfC] [-P BYTE] OFF LEN...", "writes from several buffers", true, transfer },
};

static bool help(struct io *io, int argc, char **argv)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++)
        printf("%-9s %-44s %s\n", commands[i].name, commands[i].args, commands[i].summary);
    return true;
}

static bool command(struct io *io, const char *line)
{
    g_autofree char *text = g_strdup(line);
    char *words[WORDS_MAX + 1];
    int n = 0;

    for (char *w = strtok(text, " \t\r\n"); w && n < WORDS_MAX; w = strtok(NULL, " \t\r\n"))
        words[n++] = w;
    words[n] = NULL;
    if (!n)
        return true;
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(words[0], commands[i].name) && (!commands[i].other || strcmp(words[0], commands[i].other)))
            continue;
        if (commands[i].needs_image && !io->node) {
            printf("no file open, try 'help open'\n");
            return false;
        }
        words[0] = (char *)commands[i].name;
        return commands[i].run(io, n, words);
    }
    printf("command \"%s\" not found\n", words[0]);
    return false;
}

static int run(struct io *io)
{
    bool ok = !io->args || image_open(io, io->args[0]);
    char *line = NULL;
    size_t size = 0;

    if (!ok)
        return 1;
    for (char **c = io->commands; c && *c && !io->quit; c++)
        ok &= command(io, *c);
    while (!io->commands && !io->quit) {
        if (isatty(STDIN_FILENO)) {
            printf("rhea-io> ");
            fflush(stdout);
        }
        if (getline(&line, &size, stdin) < 0)
            break;
        ok &= command(io, line);
        fflush(stdout);
    }
    free(line);
    ok &= wait_all(io);
    image_close(io);
    return !ok;
}

static bool parse_line(struct io *io, int argc, char **argv)
{
    const GOptionEntry entries[] = {
        { "cmd", 'c', 0, G_OPTION_ARG_STRING_ARRAY, &io->commands, "a command (help lists them); without, they are read from the input", "COMMAND" },
        { "format", 'f', 0, G_OPTION_ARG_STRING, &io->format, "format of the image; guessed where it is not given", "FMT" },
        { "read-only", 'r', 0, G_OPTION_ARG_NONE, &io->read_only, "open it for reading only", NULL },
        { "snapshot", 's', 0, G_OPTION_ARG_NONE, &io->temporary, "writes go to a temporary file", NULL },
        { "nocache", 'n', 0, G_OPTION_ARG_NONE, &io->nocache, "as --cache=none", NULL },
        { "cache", 't', 0, G_OPTION_ARG_STRING, &io->cache, "writeback (default), none, writethrough, directsync, unsafe", "MODE" },
        { "discard", 'd', 0, G_OPTION_ARG_STRING, &io->discard, "ignore (default), unmap", "MODE" },
        { "aio", 'i', 0, G_OPTION_ARG_STRING, &io->aio, "threads, native, io_uring", "MODE" },
        { "native-aio", 'k', 0, G_OPTION_ARG_NONE, &io->native, "as --aio=native", NULL },
        { "force-share", 'U', 0, G_OPTION_ARG_NONE, &io->force_share, "without locking", NULL },
        { "image-opts", 0, 0, G_OPTION_ARG_NONE, &io->image_opts, "FILE is a list of options: driver=qcow2,file.filename=disk", NULL },
        { "object", 0, 0, G_OPTION_ARG_STRING_ARRAY, &io->objects_given, "an object that options refer to: secret,id=sec0,file=key", "OPTIONS" },
        { "version", 'V', 0, G_OPTION_ARG_NONE, &io->version, "print the version", NULL },
        { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_STRING_ARRAY, &io->args, NULL, "[FILE]" },
        { 0 },
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) gerr = NULL;

    g_option_context_set_summary(context, "Reads and writes a disk image by commands.");
    g_option_context_set_description(context, "  rhea-io -c 'write -P 5 0 64k' -c 'read -P 5 0 64k' disk.qcow2\n");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &gerr))
        return error_setf(&io->err, ERR_GENERIC, "rhea-io --help lists the options", "%s", gerr->message);
    return !io->args || !io->args[1] || error_set(&io->err, ERR_GENERIC, "it takes one image", NULL);
}

int main(int argc, char **argv)
{
    struct io io = { 0 };
    bool ok;
    int ret;

    error_set_program(argv[0]);
    ok = parse_line(&io, argc, argv);
    if (ok && io.version) {
        printf("rhea-io version " RHEA_VERSION "\n");
        return 0;
    }
    io.loop = loop_new("main");
    loop_enter(io.loop);
    io.graph = block_graph_new(NULL, io.loop);
    io.graph->objects = &io.objects;
    for (char **o = io.objects_given; o && *o && ok; o++) {
        struct json_object *opts = options_parse(*o, "qom-type", &io.err);

        ok = opts && object_add(&io.objects, opts, &io.err);
        json_object_put(opts);
    }
    if (!ok)
        error_report(&io.err);
    ret = ok ? run(&io) : 1;
    image_close(&io);
    block_graph_free(io.graph);
    object_cleanup(&io.objects);
    loop_free(io.loop);
    g_free(io.image);
    return ret;
}
