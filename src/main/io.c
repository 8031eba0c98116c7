/* rhea-io: reads and writes disk images by commands, as qemu-io does, for tests and for looking at images. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "block/io-command.h"
#include "main/tool.h"
#include "rhea/base/options.h"
#include "rhea/vm/object.h"
#include "rhea/vm/vm.h"

struct io {
    struct block_io disk;               /* its node NULL: none is open */
    struct loop *loop;
    struct vm objects;                  /* for --object, no machine */
    bool held_write;
    struct error err;
    char *image;
    char *format, *cache, *aio, *discard;
    char **commands, **objects_given, **args;
    char *trace;
    gboolean read_only, temporary, nocache, native, image_opts, force_share, misalign, copy_on_read, version;
    bool quit;
};

/* ---- opening and closing */

static void image_close(struct io *io)
{
    if (!io->disk.node)
        return;
    block_io_wait(&io->disk);
    node_release(io->disk.node, io->held_write);
    node_unref(io->disk.node);
    io->disk.node = NULL;
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
        io->disk.graph->inherit = &in;
        n = io->image_opts ? tool_open_by_options(io->disk.graph, name, io->format, opts, &io->err)
                           : node_open_file(io->disk.graph, name, io->format, opts, &io->err);
        io->disk.graph->inherit = NULL;
    }
    json_object_put(opts);
    if (n && !tool_readable(n, &io->err)) {
        node_unref(n);
        n = NULL;
    }
    if (n && io->temporary)
        n = node_overlay(io->disk.graph, n, NULL, &io->err);
    if (n && io->copy_on_read)
        n = node_copy_on_read(io->disk.graph, n, &io->err);
    if (n && !node_hold(n, !n->read_only, io->force_share, &io->err)) {
        node_unref(n);
        n = NULL;
    }
    if (!n) {
        error_prepend(&io->err, "can't open device %s", name);
        error_report(&io->err);
        return false;
    }
    io->disk.node = n;
    io->held_write = !n->read_only;
    if (io->image != name) {
        g_free(io->image);
        io->image = g_strdup(name);
    }
    return true;
}

static void set_mode(char **mode, const char *text)
{
    if (!text)
        return;
    g_free(*mode);
    *mode = g_strdup(text);
}

static bool open_command(struct io *io, int argc, char **argv)
{
    struct block_io_flags f;

    if (io->disk.node) {
        printf("file open already, try 'help close'\n");
        return false;
    }
    if (!block_io_flags(&io->disk, &argc, &argv, "Crsnko:t:d:i:U", &f) || (argc != 1 && !f.set['o'])) {
        printf("open takes one image\n");
        return false;
    }
    io->copy_on_read = f.set['C'];
    io->read_only = f.set['r'];
    io->temporary = f.set['s'];
    io->nocache = f.set['n'];
    io->native = f.set['k'];
    io->force_share |= f.set['U'];
    set_mode(&io->cache, f.text['t']);
    set_mode(&io->discard, f.text['d']);
    set_mode(&io->aio, f.text['i']);
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
    struct block_io_flags f;
    gboolean read_only = io->disk.node->read_only;

    if (!block_io_flags(&io->disk, &argc, &argv, "c:o:rw", &f))
        return false;
    if (f.set['o'] || (f.set['r'] && f.set['w'])) {
        printf(f.set['o'] ? "reopen -o is not supported: close, then open -o\n" : "-r and -w cannot be combined\n");
        return false;
    }
    set_mode(&io->cache, f.text['c']);
    io->nocache &= !f.set['c'];
    io->read_only = f.set['r'] || (!f.set['w'] && read_only);
    image_close(io);
    return image_open(io, io->image);
}

static bool sleep_ms(struct io *io, int argc, char **argv)
{
    uint64_t ms;

    if (argc != 2 || !block_io_number(&io->disk, argv[1], "sleep", 3600000, &ms))
        return false;
    for (int64_t until = host_clock_ns() + ms * 1000000; host_clock_ns() < until; g_usleep(1000))
        loop_step(io->loop, false);
    return true;
}

/* As a crash, or another end, would: nothing is written that was not. */
static bool raise_signal(struct io *io, int argc, char **argv)
{
    bool crash = !strcmp(argv[0], "abort");
    uint64_t number = SIGABRT;

    if (argc != (crash ? 1 : 2) || (!crash && !block_io_number(&io->disk, argv[1], "signal", SIGRTMAX, &number))) {
        printf("%s\n", crash ? "abort takes no arguments" : "sigraise takes the number of a signal");
        return false;
    }
    fflush(stdout);
    return !raise(number);
}

static bool quit(struct io *io, int argc, char **argv)
{
    io->quit = true;
    return true;
}

/* ---- commands */

static bool help(struct io *io, int argc, char **argv);

/* Beside those that work on the disk. */
static const struct {
    const char *name, *other, *args, *summary;
    bool needs_image;
    bool (*run)(struct io *io, int argc, char **argv);
} commands[] = {
    { "abort", NULL, "", "ends at once, as a crash does", false, raise_signal },
    { "close", "c", "", "closes the image", true, close_command },
    { "help", "?", "[COMMAND]", "lists the commands", false, help },
    { "open", "o", "[-CrsnkU] [-t|-d|-i MODE] [-o OPTIONS] FILE", "opens an image", false, open_command },
    { "quit", "q", "", "ends", false, quit },
    { "reopen", NULL, "[-r|-w] [-c CACHE]", "opens the image anew", true, reopen },
    { "sigraise", NULL, "NUMBER", "sends itself a signal", false, raise_signal },
    { "sleep", NULL, "MS", "waits", false, sleep_ms },
};

static bool help_line(int argc, char **argv, const char *name, const char *args, const char *summary)
{
    if (argc > 1 && strcmp(argv[1], name))
        return false;
    printf("%-11s %-46s %s\n", name, args, summary);
    return true;
}

static bool help(struct io *io, int argc, char **argv)
{
    bool found = false;

    for (const struct block_io_command *c = block_io_commands; c->name; c++)
        found |= help_line(argc, argv, c->name, c->args, c->summary);
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++)
        found |= help_line(argc, argv, commands[i].name, commands[i].args, commands[i].summary);
    if (!found)
        block_io_unknown(stdout, argv[1]);
    return found;
}

static bool has_image(const struct io *io)
{
    if (!io->disk.node)
        printf("no file open, try 'help open'\n");
    return io->disk.node;
}

static bool command(struct io *io, const char *line)
{
    g_autofree char *text = g_strdup(line);
    const struct block_io_command *c;
    char *words[BLOCK_IO_WORDS_MAX + 1];
    int n = block_io_words(text, words);

    if (!n)
        return true;
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(words[0], commands[i].name) && (!commands[i].other || strcmp(words[0], commands[i].other)))
            continue;
        words[0] = (char *)commands[i].name;
        return (!commands[i].needs_image || has_image(io)) && commands[i].run(io, n, words);
    }
    c = block_io_find(block_io_commands, words[0]);
    if (!c) {
        block_io_unknown(stdout, words[0]);
        return false;
    }
    words[0] = (char *)c->name;
    return has_image(io) && c->run(&io->disk, n, words);
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
    ok &= block_io_wait(&io->disk);
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
        { "copy-on-read", 'C', 0, G_OPTION_ARG_NONE, &io->copy_on_read, "what is read of a backing image is copied into the image", NULL },
        { "misalign", 'm', 0, G_OPTION_ARG_NONE, &io->misalign, "buffers lie 16 bytes off a page", NULL },
        { "trace", 'T', 0, G_OPTION_ARG_STRING, &io->trace, "trace points to log, by pattern (this build has none yet)", "PATTERN" },
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
    if (io->trace)
        return error_set(&io->err, ERR_GENERIC, "this build has no trace points yet", "leave out -T");
    io->disk.misalign = io->misalign ? 16 : 0;
    return !io->args || !io->args[1] || error_set(&io->err, ERR_GENERIC, "it takes one image", NULL);
}

static void options_free(struct io *io)
{
    char *texts[] = { io->image, io->format, io->cache, io->aio, io->discard, io->trace };
    char **lists[] = { io->commands, io->objects_given, io->args };

    tool_options_free(texts, G_N_ELEMENTS(texts), lists, G_N_ELEMENTS(lists));
}

int main(int argc, char **argv)
{
    struct io io = { .disk.out = stdout };
    bool ok;
    int ret;

    error_set_program(argv[0]);
    ok = parse_line(&io, argc, argv);
    if (ok && io.version) {
        tool_print_version();
        return 0;
    }
    io.loop = loop_new("main");
    loop_enter(io.loop);
    io.disk.graph = block_graph_new(NULL, io.loop);
    io.disk.graph->objects = &io.objects;
    for (char **o = io.objects_given; o && *o && ok; o++) {
        struct json_object *opts = options_parse(*o, "qom-type", &io.err);

        ok = opts && object_add(&io.objects, opts, &io.err);
        json_object_put(opts);
    }
    if (!ok)
        error_report(&io.err);
    ret = ok ? run(&io) : 1;
    image_close(&io);
    block_graph_free(io.disk.graph);
    object_cleanup(&io.objects);
    loop_free(io.loop);
    options_free(&io);
    return ret;
}
