/* What qemu-io's commands do to a node, for rhea-io and the monitor. */
#include "block/io-command.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "rhea/base/options.h"

enum { BYTES_MAX = 1 << 30 };

/* One read, write or the like. */
struct job {
    struct block_io *io;
    const char *verb;                   /* "read", "wrote" */
    enum { JOB_READ, JOB_WRITE, JOB_ZEROES, JOB_COMPRESSED, JOB_DISCARD, JOB_FLUSH, JOB_TRUNCATE } kind;
    bool vmstate;                       /* the machine's state behind the disk, not the disk */
    const char *preallocation;
    unsigned flags;
    uint64_t off, bytes;
    struct iovec *iov;
    int niov;
    uint8_t *buf, *memory;              /* buf lies in it */
    bool check, quiet, dump, machine;
    uint8_t pattern;
    uint64_t check_off, check_bytes;
    int ret;
    int64_t start;
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

bool block_io_number(struct block_io *io, const char *text, const char *what, uint64_t max, uint64_t *out)
{
    struct error err = ERROR_INIT;
    bool hex = g_str_has_prefix(text, "0x");
    bool ok = hex ? (*out = g_ascii_strtoull(text, NULL, 16), true) : parse_size(text, 1, out, &err);

    error_clear(&err);
    if (ok && *out <= max)
        return true;
    fprintf(io->out, "%s %s argument -- %s\n", ok ? "too large" : "non-numeric", what, text);
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
        fprintf(j->io->out, "%" PRIu64 ",1,%.4f,%.4f,%.4f\n", j->bytes, seconds, j->bytes / seconds, 1 / seconds);
        return;
    }
    fprintf(j->io->out, "%s %" PRIu64 "/%" PRIu64 " bytes at offset %" PRIu64 "\n%s, 1 ops; %05.2f sec (%s/sec and %.4f ops/sec)\n",
            j->verb, j->bytes, j->bytes, j->off, size, seconds, rate, 1 / seconds);
}

static void dump(const struct job *j)
{
    for (uint64_t i = 0; i < j->bytes; i += 16) {
        fprintf(j->io->out, "%08" PRIx64 ":  ", j->off + i);
        for (uint64_t k = i; k < i + 16 && k < j->bytes; k++)
            fprintf(j->io->out, "%02x ", j->buf[k]);
        fputc(' ', j->io->out);
        for (uint64_t k = i; k < i + 16 && k < j->bytes; k++)
            fputc(isalnum(j->buf[k]) ? j->buf[k] : '.', j->io->out);
        fputc('\n', j->io->out);
    }
}

static bool job_fails(struct job *j)
{
    static const char *const names[] = { "read", "write", "write", "write", "discard", "flush", "truncate" };
    bool differs = false;

    if (j->ret) {
        fprintf(j->io->out, "%s failed: %s\n", names[j->kind], g_strerror(-j->ret));
        return true;
    }
    for (uint64_t i = 0; j->check && !differs && i < j->check_bytes; i++)
        differs = j->buf[j->check_off + i] != j->pattern;
    if (differs)
        fprintf(j->io->out, "Pattern verification failed at offset %" PRIu64 ", %" PRIu64 " bytes\n", j->off + j->check_off, j->check_bytes);
    if (j->kind == JOB_FLUSH || j->kind == JOB_TRUNCATE)
        return false;
    if (j->dump)
        dump(j);
    report(j);
    return differs;
}

static void job_free(struct job *j)
{
    free(j->memory);
    g_free(j->iov);
    g_free(j);
}

/* ---- running */

/* [co] What is a back end's waits while the graph changes. */
static struct block_node *io_enter(struct block_io *io)
{
    if (io->b) {
        backend_co_enter(io->b);
        io->node = io->b->root;
    }
    return io->node;
}

static int vmstate(struct block_node *n, const struct job *j)
{
    int (*run)(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov) =
        j->kind == JOB_READ ? n->drv->vmstate_preadv : n->drv->vmstate_pwritev;

    return run ? run(n, j->off, j->bytes, j->iov, j->niov) : -ENOTSUP;
}

static int resize(struct block_node *n, uint64_t size, const char *preallocation)
{
    uint64_t old = n->size;
    int ret = node_truncate(n, size, NULL);

    if (ret || !preallocation || size <= old)
        return ret;
    return node_preallocate(n, old, preallocation, NULL) ? 0 : -ENOTSUP;
}

static void job_run(void *arg)
{
    struct job *j = arg;
    struct block_node *n = io_enter(j->io);

    switch (j->kind) {
    case JOB_READ: j->ret = j->vmstate ? vmstate(n, j) : j->off + j->bytes > n->size ? -EIO : node_preadv(n, j->off, j->bytes, j->iov, j->niov); break;
    case JOB_WRITE: j->ret = j->vmstate ? vmstate(n, j) : node_pwritev(n, j->off, j->bytes, j->iov, j->niov, j->flags); break;
    case JOB_ZEROES: j->ret = node_write_zeroes(n, j->off, j->bytes, j->flags); break;
    case JOB_COMPRESSED: j->ret = node_pwrite_compressed(n, j->off, j->buf, j->bytes); break;
    case JOB_DISCARD: j->ret = node_discard(n, j->off, j->bytes); break;
    case JOB_FLUSH: j->ret = node_flush(n); break;
    case JOB_TRUNCATE: j->ret = resize(n, j->off, j->preallocation); break;
    }
    if (j->io->b)
        backend_co_exit(j->io->b);
}

static void job_run_async(void *arg)
{
    struct job *j = arg;
    struct block_io *io = j->io;

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

bool block_io_wait(struct block_io *io)
{
    bool ok;

    while (io->running)
        loop_step(io->graph->loop, true);
    ok = !io->failed;
    io->failed = false;
    return ok;
}

/* ---- read and write */

bool block_io_flags(struct block_io *io, int *argc, char ***argv, const char *known, struct block_io_flags *f)
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
                fprintf(io->out, "%s: invalid option -- '%c'\n", (*argv)[0], *c);
                return false;
            }
            f->set[(int)*c] = true;
            if (k[1] != ':')
                continue;
            f->text[(int)*c] = c[1] ? c + 1 : ++i < *argc ? (*argv)[i] : NULL;
            if (!f->text[(int)*c]) {
                fprintf(io->out, "%s: option requires an argument -- '%c'\n", (*argv)[0], *c);
                return false;
            }
            break;
        }
    }
    *argc -= i;
    *argv += i;
    return true;
}

static bool take_pattern(struct job *j, const struct block_io_flags *f, bool write)
{
    uint64_t v = write ? 0xcd : 0;

    if (f->set['P'] && !block_io_number(j->io, f->text['P'], "pattern", 255, &v))
        return false;
    j->pattern = v;
    return true;
}

/* -s, -l: which part of what is read must show the pattern. */
static bool take_check(struct job *j, const struct block_io_flags *f)
{
    j->check = f->set['P'];
    if (f->set['s'] && !block_io_number(j->io, f->text['s'], "pattern offset", j->bytes, &j->check_off))
        return false;
    j->check_bytes = j->bytes - j->check_off;
    return !f->set['l'] || block_io_number(j->io, f->text['l'], "pattern length", j->check_bytes, &j->check_bytes);
}

/* The buffers of the sizes that the words say, one after the other. */
static bool take_sizes(struct job *j, int argc, char **argv, bool vector)
{
    uint64_t n;

    if (!vector && argc != 1) {
        fprintf(j->io->out, "it takes OFFSET LENGTH\n");
        return false;
    }
    j->iov = g_new0(struct iovec, argc);
    for (j->niov = 0; j->niov < argc; j->niov++) {
        if (!block_io_number(j->io, argv[j->niov], "length", j->kind == JOB_ZEROES || j->kind == JOB_DISCARD ? INT64_MAX : BYTES_MAX, &n))
            return false;
        j->iov[j->niov].iov_len = n;
        j->bytes += n;
    }
    if (j->kind == JOB_ZEROES || j->kind == JOB_DISCARD)
        return true;
    if (j->bytes > BYTES_MAX || posix_memalign((void **)&j->memory, 4096, MAX(j->bytes, 1) + j->io->misalign)) {
        fprintf(j->io->out, "Request size limit is %d bytes\n", BYTES_MAX);
        return false;
    }
    j->buf = j->memory + j->io->misalign;
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
        fprintf(j->io->out, "%s\n", gerr ? gerr->message : "the file is empty");
        return false;
    }
    for (uint64_t at = 0; at < j->bytes; at += len)
        memcpy(j->buf + at, data, MIN(len, j->bytes - at));
    return true;
}

static unsigned write_flags(const struct block_io_flags *f)
{
    return (f->set['f'] ? BLOCK_FUA : 0) | (f->set['u'] ? BLOCK_MAY_UNMAP : 0) | (f->set['n'] ? BLOCK_NO_FALLBACK : 0);
}

static void count_invalid(struct block_io *io, bool write)
{
    fprintf(io->out, "injecting invalid %s request\n", write ? "write" : "read");
    if (io->b)
        atomic_fetch_add_explicit(&io->b->stats[write ? OP_WRITE : OP_READ].invalid, 1, memory_order_relaxed);
}

static bool transfer(struct block_io *io, int argc, char **argv)
{
    const char *name = argv[0], *base = g_str_has_prefix(name, "aio_") ? name + 4 : name;
    bool write = *base == 'w', async = base != name, vector = g_str_has_suffix(name, "v") || async;
    struct job *j = g_new0(struct job, 1);
    struct block_io_flags f;

    *j = (struct job){ .io = io, .kind = write ? JOB_WRITE : JOB_READ, .verb = write ? "wrote" : "read" };
    if (!block_io_flags(io, &argc, &argv, write ? async ? "cCfinpP:qrs:uz" : "bcCfnpP:qrs:uz" : async ? "Cil:pP:qrs:v" : "bCl:pP:qrs:v", &f))
        goto bad;
    if (argc < 2) {
        fprintf(io->out, "%s: it takes OFFSET LENGTH%s\n", name, vector ? "..." : "");
        goto bad;
    }
    if ((f.set['u'] || f.set['n']) && !f.set['z']) {
        fprintf(io->out, "-u and -n require -z to be specified\n");
        goto bad;
    }
    if (f.set['b'] && (f.set['c'] || f.set['z'])) {
        fprintf(io->out, "-b cannot be used with -c or -z\n");
        goto bad;
    }
    if (f.set['z'] && (f.set['P'] || f.set['c'] || f.set['s'])) {
        fprintf(io->out, "-z cannot be used with -P, -c or -s\n");
        goto bad;
    }
    if (write && f.set['P'] && f.set['s']) {
        fprintf(io->out, "Only one of -z, -P, and -s can be specified at the same time\n");
        goto bad;
    }
    if (f.set['z'])
        j->kind = JOB_ZEROES;
    else if (f.set['c'])
        j->kind = JOB_COMPRESSED;
    j->vmstate = f.set['b'];
    j->flags = write ? write_flags(&f) : 0;
    j->quiet = f.set['q'];
    j->machine = f.set['C'];
    j->dump = f.set['v'];
    if (!block_io_number(io, argv[0], "offset", INT64_MAX, &j->off) || !take_sizes(j, argc - 1, argv + 1, vector) || !take_pattern(j, &f, write) ||
        (!write && !take_check(j, &f)))
        goto bad;
    if (f.set['i']) {                   /* for statistics: as if a guest had asked for what cannot be */
        count_invalid(io, write);
        job_free(j);
        return true;
    }
    if (j->buf)
        memset(j->buf, write ? j->pattern : 0xab, j->bytes);
    if (write && f.set['s'] && !take_content(j, f.text['s']))
        goto bad;
    return async ? job_start(j) : job_do(j);

bad:
    job_free(j);
    return false;
}

static bool discard(struct block_io *io, int argc, char **argv)
{
    struct job *j = g_new0(struct job, 1);
    bool async = !strcmp(argv[0], "aio_discard");
    struct block_io_flags f;

    *j = (struct job){ .io = io, .kind = JOB_DISCARD, .verb = "discard" };
    if (block_io_flags(io, &argc, &argv, "Cq", &f) && argc == 2 && block_io_number(io, argv[0], "offset", INT64_MAX, &j->off) &&
        take_sizes(j, 1, argv + 1, false)) {
        j->quiet = f.set['q'];
        j->machine = f.set['C'];
        return async ? job_start(j) : job_do(j);
    }
    if (argc != 2)
        fprintf(io->out, "discard takes OFFSET LENGTH\n");
    job_free(j);
    return false;
}

static bool flush(struct block_io *io, int argc, char **argv)
{
    struct job *j = g_new0(struct job, 1);

    *j = (struct job){ .io = io, .kind = JOB_FLUSH };
    return job_do(j);
}

static bool aio_flush(struct block_io *io, int argc, char **argv)
{
    return block_io_wait(io);
}

static bool truncate_to(struct block_io *io, int argc, char **argv)
{
    struct job *j = g_new0(struct job, 1);
    struct block_io_flags f;

    *j = (struct job){ .io = io, .kind = JOB_TRUNCATE };
    if (io->b)
        fprintf(io->out, "the disk is in use: block_resize changes its size\n");
    else if (block_io_flags(io, &argc, &argv, "m:", &f) && argc == 1 && block_io_number(io, argv[0], "truncate", INT64_MAX, &j->off)) {
        j->preallocation = f.text['m'];
        return job_do(j);
    }
    job_free(j);
    return false;
}

/* ---- looking */

static bool length(struct block_io *io, int argc, char **argv)
{
    g_autofree char *text = size_text(io->node->size);

    fprintf(io->out, "%s\n", text);
    return true;
}

static bool info(struct block_io *io, int argc, char **argv)
{
    struct block_node *n = io->node;
    g_autofree char *cluster = size_text(n->drv->cluster_size ? n->drv->cluster_size(n) : 0);
    struct json_object *o = n->drv->info ? n->drv->info(n) : NULL;

    fprintf(io->out, "format name: %s\ncluster size: %s\n", n->drv->name, cluster);
    if (o)
        fprintf(io->out, "%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(o);
    return true;
}

struct walk { struct block_io *io; uint64_t off, bytes, allocated; bool print; int ret; };

static void walk_node(struct walk *w, struct block_node *n)
{
    struct block_node *file;
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

            fprintf(w->io->out, "%s (0x%" PRIx64 ") bytes %s at offset %s (0x%" PRIx64 ")\n", size, at - start,
                    before ? "    allocated" : "not allocated", where, start);
            start = at;
        }
        before = here;
    }
    w->ret = 0;
}

static void walk_run(void *arg)
{
    struct walk *w = arg;

    walk_node(w, io_enter(w->io));
    if (w->io->b)
        backend_co_exit(w->io->b);
}

static bool walk(struct block_io *io, struct walk *w)
{
    w->io = io;
    if (w->off > io->node->size || w->bytes > io->node->size - w->off) {
        fprintf(io->out, "the range is beyond the end\n");
        return false;
    }
    block_run(io->graph, walk_run, w);
    if (w->ret < 0)
        fprintf(io->out, "block status failed: %s\n", g_strerror(-w->ret));
    return w->ret >= 0;
}

static bool map(struct block_io *io, int argc, char **argv)
{
    struct walk w = { .bytes = io->node->size, .print = true };

    return walk(io, &w);
}

static bool alloc(struct block_io *io, int argc, char **argv)
{
    struct walk w = { .bytes = 512 };
    g_autofree char *where = NULL;

    if (argc < 2 || argc > 3 || !block_io_number(io, argv[1], "offset", INT64_MAX, &w.off) ||
        (argc == 3 && !block_io_number(io, argv[2], "length", INT64_MAX, &w.bytes)) || !walk(io, &w))
        return false;
    where = size_text(w.off);
    fprintf(io->out, "%" PRIu64 "/%" PRIu64 " bytes allocated at offset %s\n", w.allocated, w.bytes, where);
    return true;
}

/* ---- commands */

const struct block_io_command block_io_commands[] = {
    { "aio_discard", NULL, "[-Cq] OFF LEN", "gives a range back, not waiting for the end", discard },
    { "aio_flush", NULL, "", "waits for all requests under way", aio_flush },
    { "aio_read", NULL, "[-qivC] [-P BYTE] OFF LEN...", "reads, not waiting for the end", transfer },
    { "aio_write", NULL, "[-qfiuzC] [-P BYTE] OFF LEN...", "writes, not waiting for the end", transfer },
    { "alloc", NULL, "OFF [LEN]", "tells how much of a range the image itself holds", alloc },
    { "discard", "d", "[-Cq] OFF LEN", "gives a range back to the host", discard },
    { "flush", "f", "", "to stable storage", flush },
    { "info", NULL, "", "tells what the image is", info },
    { "length", "l", "", "tells the disk's size", length },
    { "map", NULL, "", "tells which ranges the image itself holds", map },
    { "read", "r", "[-bqvC] [-P BYTE [-s OFF] [-l LEN]] OFF LEN", "reads, and checks for a pattern", transfer },
    { "readv", "rv", "[-qvC] [-P BYTE] OFF LEN...", "reads into several buffers", transfer },
    { "truncate", "t", "[-m PREALLOCATION] SIZE", "changes the disk's size", truncate_to },
    { "write", "w", "[-bqcfunzC] [-P BYTE | -s FILE] OFF LEN", "writes a pattern, or a file's content", transfer },
    { "writev", "wv", "[-qfC] [-P BYTE] OFF LEN...", "writes from several buffers", transfer },
    { NULL, NULL, NULL, NULL, NULL },
};

/* qemu-io's that are not here. */
static const struct { const char *word, *why; } refused[] = {
    { "break", "requests do not stop at events here; rules of blkdebug make them fail" },
    { "remove_break", "requests do not stop at events here" },
    { "resume", "requests do not stop at events here" },
    { "wait_break", "requests do not stop at events here" },
    { "zone_append", "zoned devices are not supported" },
    { "zone_close", "zoned devices are not supported" },
    { "zone_finish", "zoned devices are not supported" },
    { "zone_open", "zoned devices are not supported" },
    { "zone_report", "zoned devices are not supported" },
    { "zone_reset", "zoned devices are not supported" },
};

void block_io_unknown(FILE *out, const char *word)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(refused); i++) {
        if (!strcmp(word, refused[i].word)) {
            fprintf(out, "%s: %s\n", word, refused[i].why);
            return;
        }
    }
    fprintf(out, "command \"%s\" not found\n", word);
}

const struct block_io_command *block_io_find(const struct block_io_command *commands, const char *word)
{
    for (const struct block_io_command *c = commands; c->name; c++)
        if (!strcmp(word, c->name) || (c->other && !strcmp(word, c->other)))
            return c;
    return NULL;
}

int block_io_words(char *line, char *words[BLOCK_IO_WORDS_MAX + 1])
{
    char *save = NULL;
    int n = 0;

    for (char *w = strtok_r(line, " \t\r\n", &save); w && n < BLOCK_IO_WORDS_MAX; w = strtok_r(NULL, " \t\r\n", &save))
        words[n++] = w;
    words[n] = NULL;
    return n;
}

bool block_io_backend(struct block_backend *b, const char *line, FILE *out)
{
    struct block_io io = { .graph = b->graph, .b = b, .node = b->root, .out = out };
    g_autofree char *text = g_strdup(line);
    char *words[BLOCK_IO_WORDS_MAX + 1];
    int n = block_io_words(text, words);
    const struct block_io_command *c = n ? block_io_find(block_io_commands, words[0]) : NULL;
    bool ok;

    if (!c) {
        block_io_unknown(out, n ? words[0] : "");
        for (c = block_io_commands; c->name; c++)
            fprintf(out, "%-11s %-46s %s\n", c->name, c->args, c->summary);
        return false;
    }
    words[0] = (char *)c->name;
    ok = c->run(&io, n, words);
    return block_io_wait(&io) && ok;
}
