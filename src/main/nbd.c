/* rhea-nbd: offers a disk image over NBD, by qemu-nbd's command line. */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "block/export.h"
#include "block/nbd-client.h"
#include "main/tool.h"
#include "rhea/base/log.h"
#include "rhea/base/options.h"
#include "rhea/vm/object.h"
#include "rhea/vm/tls.h"
#include "rhea/vm/vm.h"

/* linux/nbd.h, whose other names are nbd.h's too */
#define NBD_SET_SOCK _IO(0xab, 0)
#define NBD_SET_BLKSIZE _IO(0xab, 1)
#define NBD_DO_IT _IO(0xab, 3)
#define NBD_CLEAR_SOCK _IO(0xab, 4)
#define NBD_CLEAR_QUE _IO(0xab, 5)
#define NBD_SET_SIZE_BLOCKS _IO(0xab, 7)
#define NBD_DISCONNECT _IO(0xab, 8)
#define NBD_SET_TIMEOUT _IO(0xab, 9)
#define NBD_SET_FLAGS _IO(0xab, 10)

enum { HANDSHAKE_SECONDS = 10, FIRST_INHERITED_FD = 3, INHERITED_MAX = 16 };

struct nbd_program {
    struct loop *loop;
    struct block_graph *graph;
    struct vm objects;                  /* for --object, no machine */
    struct error err;
    /* options */
    char *port, *bind, *socket, *format, *cache, *aio, *discard, *detect_zeroes, *snapshot, *export_name, *description,
        *tls_creds, *tls_authz, *tls_hostname, *pid_file, *connect, *disconnect, *offset, *trace, *selinux;
    char **objects_given, **bitmaps, **args;
    gboolean read_only, temporary, nocache, image_opts, fork, list, persistent, verbose, allocation_depth, version;
    int shared, handshake;
    bool served;                        /* somebody has been here */
    bool pid_written;
    int ready_fd;                       /* --fork: the parent waits for a byte */
};

static int fail(struct nbd_program *p)
{
    error_report(&p->err);
    return 1;
}

/* ---- the image */

static struct block_node *at_offset(struct nbd_program *p, struct block_node *n)
{
    struct json_object *o;
    struct block_node *raw;
    uint64_t offset;

    if (!p->offset)
        return n;
    if (!parse_size(p->offset, 1, &offset, &p->err) || offset > INT64_MAX) {
        error_setf(&p->err, ERR_GENERIC, NULL, "Invalid offset '%s'", p->offset);
        node_unref(n);
        return NULL;
    }
    o = json_object_new_object();
    json_object_object_add(o, "driver", json_object_new_string("raw"));
    json_object_object_add(o, "file", json_object_new_string(n->name));
    json_object_object_add(o, "offset", json_object_new_uint64(offset));
    json_object_object_add(o, "read-only", json_object_new_boolean(n->read_only));
    if (p->discard)
        json_object_object_add(o, "discard", json_object_new_string(p->discard));
    raw = node_open(p->graph, o, &p->err);
    json_object_put(o);
    node_unref(n);
    return raw;
}

struct view { struct block_node *n; const char *name; struct error *err; bool ok; };

static void view_run(void *arg)
{
    struct view *v = arg;

    v->ok = v->n->drv->snapshot_view(v->n, v->name, v->err);
}

/* -l: by name or id, or "snapshot.id=..,snapshot.name=..". */
static bool view_snapshot(struct nbd_program *p, struct block_node *n)
{
    g_autofree char *name = NULL;
    struct view v = { n, NULL, &p->err, false };

    if (!n->drv->snapshot_view)
        return error_setf(&p->err, ERR_GENERIC, NULL, "images of format '%s' have no internal snapshots", n->drv->name);
    v.name = name = snapshot_chosen(n, p->snapshot, &p->err);
    if (!name)
        return false;
    block_run(p->graph, view_run, &v);
    return v.ok;
}

static struct block_node *open_image(struct nbd_program *p)
{
    struct json_object *opts = json_object_new_object();
    struct block_inherit in = { .aio = p->aio };
    bool read_only = p->read_only || p->temporary || p->snapshot;
    struct block_node *n = NULL;

    json_object_object_add(opts, "read-only", json_object_new_boolean(read_only));
    if (p->discard)
        json_object_object_add(opts, "discard", json_object_new_string(p->discard));
    if (p->detect_zeroes)
        json_object_object_add(opts, "detect-zeroes", json_object_new_string(p->detect_zeroes));
    if (!tool_cache(opts, p->nocache ? "none" : p->cache ? p->cache : "writeback", &p->err)) {
        json_object_put(opts);
        return NULL;
    }
    p->graph->inherit = &in;
    if (p->image_opts)
        n = tool_open_by_options(p->graph, p->args[0], p->format, opts, &p->err);
    else
        n = node_open_file(p->graph, p->args[0], p->format, opts, &p->err);
    p->graph->inherit = NULL;
    json_object_put(opts);
    if (n && p->snapshot && !view_snapshot(p, n)) {
        node_unref(n);
        return NULL;
    }
    if (n && p->temporary)
        n = node_overlay(p->graph, n, NULL, &p->err);
    return n ? at_offset(p, n) : NULL;
}

static bool add_export(struct nbd_program *p)
{
    struct block_node *n = open_image(p);
    struct json_object *o, *bitmaps = NULL;
    bool ok;

    if (!n)
        return false;
    o = json_object_new_object();
    json_object_object_add(o, "type", json_object_new_string("nbd"));
    json_object_object_add(o, "id", json_object_new_string("rhea-nbd"));
    json_object_object_add(o, "node-name", json_object_new_string(n->name));
    json_object_object_add(o, "name", json_object_new_string(p->export_name ? p->export_name : ""));
    json_object_object_add(o, "writable", json_object_new_boolean(!n->read_only));
    if (p->cache && (!strcmp(p->cache, "writethrough") || !strcmp(p->cache, "directsync")))
        json_object_object_add(o, "writethrough", json_object_new_boolean(true));
    if (p->description)
        json_object_object_add(o, "description", json_object_new_string(p->description));
    if (p->allocation_depth)
        json_object_object_add(o, "allocation-depth", json_object_new_boolean(true));
    for (char **b = p->bitmaps; b && *b; b++) {
        bitmaps = bitmaps ? bitmaps : json_object_new_array();
        json_object_array_add(bitmaps, json_object_new_string(*b));
    }
    if (bitmaps)
        json_object_object_add(o, "bitmaps", bitmaps);
    ok = export_add(p->graph, o, &p->err);
    json_object_put(o);
    node_unref(n);                      /* the export has it */
    return ok;
}

/* ---- the server */

static struct json_object *address(struct nbd_program *p)
{
    struct json_object *a = json_object_new_object();

    if (p->socket) {
        json_object_object_add(a, "type", json_object_new_string("unix"));
        json_object_object_add(a, "path", json_object_new_string(p->socket));
    } else {
        json_object_object_add(a, "type", json_object_new_string("inet"));
        json_object_object_add(a, "host", json_object_new_string(p->bind ? p->bind : "0.0.0.0"));
        json_object_object_add(a, "port", json_object_new_string(p->port ? p->port : NBD_DEFAULT_PORT));
    }
    return a;
}

static void clients_changed(void *arg, unsigned clients)
{
    struct nbd_program *p = arg;

    p->served |= clients > 0;
    if (!clients && p->served && !p->persistent)
        loop_quit(p->loop);
}

/* Sockets handed over by a service manager (sd_listen_fds(3)). */
static int activation_fds(struct nbd_program *p)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    uint64_t want, count;

    if (!pid || !fds || !parse_uint(pid, INT32_MAX, &want, NULL) || want != (uint64_t)getpid())
        return 0;
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (!parse_uint(fds, INHERITED_MAX, &count, NULL) || !count) {
        error_setf(&p->err, ERR_GENERIC, NULL, "cannot take %s sockets from the service manager", fds);
        return -1;
    }
    return count;
}

static bool start_server(struct nbd_program *p)
{
    struct nbd_server_options o = { .tls_creds = p->tls_creds, .tls_authz = p->tls_authz, .max_connections = p->shared,
                                    .handshake_seconds = p->handshake, .held = true };
    int fds[INHERITED_MAX], count = activation_fds(p);
    bool ok;

    if (count < 0)
        return false;
    if (count) {
        if (p->port || p->bind || p->socket)
            return error_set(&p->err, ERR_GENERIC, "address, port and socket are the service manager's", "leave out -b, -p, -k");
        for (int i = 0; i < count; i++) {
            fds[i] = FIRST_INHERITED_FD + i;
            fcntl(fds[i], F_SETFD, FD_CLOEXEC);
            fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_NONBLOCK);
        }
        return nbd_server_start_fds(p->graph, &o, fds, count, &p->err);
    }
    o.addr = address(p);
    ok = nbd_server_start(p->graph, &o, &p->err);
    json_object_put(o.addr);
    return ok;
}

/* ---- the kernel's client: -c, -d (linux/nbd.h) */

static int disconnect(struct nbd_program *p)
{
    int fd = open(p->disconnect, O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        error_set_errno(&p->err, errno, "modprobe nbd makes the devices", "Cannot open %s", p->disconnect);
        return fail(p);
    }
    ioctl(fd, NBD_CLEAR_QUE);
    ioctl(fd, NBD_DISCONNECT);
    ioctl(fd, NBD_CLEAR_SOCK);
    close(fd);
    printf("%s disconnected\n", p->disconnect);
    return 0;
}

/* Hands the kernel its end of the connection, once the server's flags and size are known to it. */
static bool device_setup(struct nbd_program *p, int dev, int sock, uint64_t size, unsigned flags)
{
    unsigned block = size % 4096 ? 512 : 4096;

    if (ioctl(dev, NBD_SET_SOCK, (unsigned long)sock) < 0 || ioctl(dev, NBD_SET_BLKSIZE, (unsigned long)block) < 0 ||
        ioctl(dev, NBD_SET_SIZE_BLOCKS, (unsigned long)(size / block)) < 0)
        return error_set_errno(&p->err, errno, errno == EBUSY ? "rhea-nbd -d frees it" : NULL, "Cannot set up %s", p->connect);
    if (flags & NBD_FLAG_READ_ONLY) {
        int read_only = 1;

        ioctl(dev, BLKROSET, (unsigned long)&read_only);
    }
    ioctl(dev, NBD_SET_FLAGS, (unsigned long)flags);
    ioctl(dev, NBD_SET_TIMEOUT, 0ul);
    return true;
}

struct kernel_device { struct nbd_program *p; int dev, sock; };

/* Its own thread: the kernel serves the device in it until it is disconnected. */
static void *device_thread(void *arg)
{
    struct kernel_device *d = arg;

    if (ioctl(d->dev, NBD_DO_IT) < 0 && errno != EPIPE)
        warn_report("%s: %s", d->p->connect, g_strerror(errno));
    ioctl(d->dev, NBD_CLEAR_QUE);
    ioctl(d->dev, NBD_CLEAR_SOCK);
    close(d->sock);
    close(d->dev);
    g_free(d);
    return NULL;
}

struct attach { struct nbd_program *p; struct nbd_peer peer; struct json_object *addr; bool ok; };

static void attach_run(void *arg)
{
    struct attach *a = arg;
    struct nbd_connect c = { .addr = a->addr, .export = a->p->export_name ? a->p->export_name : "", .simple = true };

    a->ok = nbd_connect(&c, &a->peer, NULL, &a->p->err);
}

/* A client of our own negotiates; its socket becomes the kernel's. */
static bool attach_device(struct nbd_program *p)
{
    struct attach a = { .p = p, .addr = address(p) };
    struct kernel_device *d;
    pthread_t thread;
    int dev = open(p->connect, O_RDWR | O_CLOEXEC);

    if (dev < 0) {
        json_object_put(a.addr);
        return error_set_errno(&p->err, errno, "modprobe nbd makes the devices", "Cannot open %s", p->connect);
    }
    block_run(p->graph, attach_run, &a);
    json_object_put(a.addr);
    d = g_new0(struct kernel_device, 1);
    *d = (struct kernel_device){ p, dev, a.ok ? dup(nbd_channel_fd(a.peer.ch)) : -1 };
    if (a.ok) {
        fcntl(d->sock, F_SETFL, fcntl(d->sock, F_GETFL) & ~O_NONBLOCK);
        nbd_channel_free(a.peer.ch);
    }
    if (a.ok && device_setup(p, dev, d->sock, a.peer.size, a.peer.flags) && !pthread_create(&thread, NULL, device_thread, d)) {
        pthread_detach(thread);
        printf("NBD device %s is now connected to %s\n", p->connect, p->args[0]);
        fflush(stdout);
        return true;
    }
    close(dev);
    if (d->sock >= 0)
        close(d->sock);
    g_free(d);
    return error_setf(&p->err, ERR_GENERIC, NULL, "cannot connect %s", p->connect);
}

static gboolean on_signal(gpointer arg)
{
    loop_quit(((struct nbd_program *)arg)->loop);
    return G_SOURCE_CONTINUE;
}

static void watch_signals(struct nbd_program *p)
{
    static const int signals[] = { SIGTERM, SIGINT, SIGHUP };

    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++) {
        GSource *s = g_unix_signal_source_new(signals[i]);

        g_source_set_callback(s, on_signal, p, NULL);
        g_source_attach(s, loop_context(p->loop));
        g_source_unref(s);
    }
    signal(SIGPIPE, SIG_IGN);
}

static bool write_pid(struct nbd_program *p)
{
    g_autofree char *text = g_strdup_printf("%d\n", (int)getpid());
    g_autoptr(GError) gerr = NULL;

    if (!p->pid_file)
        return true;
    p->pid_written = g_file_set_contents(p->pid_file, text, -1, &gerr);
    return p->pid_written ||
           error_setf(&p->err, ERR_GENERIC, NULL, "cannot write the pid file: %s", gerr->message);
}

/* --fork: the child serves; the parent ends when it does, or has failed to. */
static int fork_server(struct nbd_program *p)
{
    int fds[2];
    char byte;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) || (pid = fork()) < 0) {
        error_set_errno(&p->err, errno, NULL, "cannot fork");
        return fail(p);
    }
    if (!pid) {
        close(fds[0]);
        setsid();
        p->ready_fd = fds[1];
        return -1;
    }
    close(fds[1]);
    return read(fds[0], &byte, 1) != 1;
}

static void tell_parent(struct nbd_program *p)
{
    int null;

    if (p->ready_fd < 0)
        return;
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; null >= 0 && fd < (p->verbose ? 2 : 3); fd++)
        dup2(null, fd);
    if (chdir("/") || write(p->ready_fd, "", 1) != 1)
        warn_report("cannot tell the parent that the server runs");
    close(p->ready_fd);
    if (null > 2)
        close(null);
}

static int serve(struct nbd_program *p)
{
    /* the server first: an export is only made where one runs. Who comes before it waits. */
    if (!start_server(p) || !add_export(p) || !write_pid(p))
        return fail(p);
    nbd_server_on_clients(p->graph, clients_changed, p);
    watch_signals(p);
    nbd_server_admit(p->graph);
    if (p->connect && !attach_device(p))
        return fail(p);
    tell_parent(p);
    loop_run(p->loop);
    return 0;
}

/* ---- looking at a server: --list */

static void print_export(const struct nbd_listed *e, void *arg)
{
    static const char *const names[] = { NULL, "readonly", "flush", "fua", "rotational", "trim", "zeroes", "df", "multi", "resize",
                                         "cache", "fast-zero", "block-status-payload" };
    const struct nbd_peer *p = e->peer;

    printf(" export: '%s'\n", e->name);
    if (e->description)
        printf("  description: %s\n", e->description);
    printf("  size:  %" PRIu64 "\n  flags: 0x%x (", p->size, p->flags);
    for (unsigned i = 1; i < G_N_ELEMENTS(names); i++)
        if (p->flags & 1u << i)
            printf(" %s", names[i]);
    printf(" )\n");
    if (p->min_block)
        printf("  min block: %u\n  opt block: %u\n  max block: %u\n", p->min_block, p->opt_block, p->max_block);
    if (!*e->contexts)
        return;
    printf("  available meta contexts: %u\n", g_strv_length(e->contexts));
    for (char **c = e->contexts; *c; c++)
        printf("   %s\n", *c);
}

struct listing { struct nbd_program *p; struct nbd_connect c; unsigned count; bool ok; };

static void list_one(const struct nbd_listed *e, void *arg)
{
    struct listing *l = arg;

    if (l->count != UINT_MAX)
        printf("exports available: %u\n", l->count);
    l->count = UINT_MAX;
    print_export(e, NULL);
}

static void list_run(void *arg)
{
    struct listing *l = arg;

    l->ok = nbd_list(&l->c, &l->count, list_one, l, &l->p->err);
}

static int list(struct nbd_program *p)
{
    struct listing l = { .p = p, .c = { .addr = address(p), .export = "", .tls_hostname = p->tls_hostname } };

    if (p->tls_creds)
        l.c.creds = tls_creds_get(&p->objects, p->tls_creds, false, &p->err);
    if (!p->tls_creds || l.c.creds)
        block_run(p->graph, list_run, &l);
    object_put(l.c.creds);
    json_object_put(l.c.addr);
    if (!l.ok)
        return fail(p);
    if (!l.count)
        printf("exports available: 0\n");
    return 0;
}

static int with_graph(struct nbd_program *p, int (*fn)(struct nbd_program *p))
{
    bool ok = true;
    int ret;

    p->loop = loop_new("main");
    loop_enter(p->loop);
    p->graph = block_graph_new(NULL, p->loop);
    p->graph->objects = &p->objects;
    for (char **o = p->objects_given; o && *o && ok; o++) {
        struct json_object *opts = options_parse(*o, "qom-type", &p->err);

        ok = opts && object_add(&p->objects, opts, &p->err);
        json_object_put(opts);
    }
    ret = ok ? fn(p) : fail(p);
    block_graph_free(p->graph);
    object_cleanup(&p->objects);
    loop_free(p->loop);
    return ret;
}

/* ---- the command line */

static bool parse_line(struct nbd_program *p, int *argc, char ***argv)
{
    const GOptionEntry entries[] = {
        { "port", 'p', 0, G_OPTION_ARG_STRING, &p->port, "TCP port to listen on (10809)", "PORT" },
        { "bind", 'b', 0, G_OPTION_ARG_STRING, &p->bind, "address to listen on (0.0.0.0: all)", "ADDRESS" },
        { "socket", 'k', 0, G_OPTION_ARG_STRING, &p->socket, "listen on a Unix socket instead", "PATH" },
        { "shared", 'e', 0, G_OPTION_ARG_INT, &p->shared, "clients at a time (1); 0: any number", "N" },
        { "persistent", 't', 0, G_OPTION_ARG_NONE, &p->persistent, "go on when the last client is gone", NULL },
        { "handshake-limit", 0, 0, G_OPTION_ARG_INT, &p->handshake, "seconds a client has to say what it wants (10); 0: any", "N" },
        { "export-name", 'x', 0, G_OPTION_ARG_STRING, &p->export_name, "name of the export (empty)", "NAME" },
        { "description", 'D', 0, G_OPTION_ARG_STRING, &p->description, "what clients are told about it", "TEXT" },
        { "format", 'f', 0, G_OPTION_ARG_STRING, &p->format, "format of the image; guessed where it is not given", "FMT" },
        { "image-opts", 0, 0, G_OPTION_ARG_NONE, &p->image_opts, "FILE is a list of options: driver=qcow2,file.filename=disk", NULL },
        { "read-only", 'r', 0, G_OPTION_ARG_NONE, &p->read_only, "clients may not write", NULL },
        { "snapshot", 's', 0, G_OPTION_ARG_NONE, &p->temporary, "writes go to a temporary file, not to the image", NULL },
        { "load-snapshot", 'l', 0, G_OPTION_ARG_STRING, &p->snapshot, "offer an internal snapshot, read-only", "NAME" },
        { "offset", 'o', 0, G_OPTION_ARG_STRING, &p->offset, "where in the image the export begins", "BYTES" },
        { "bitmap", 'B', 0, G_OPTION_ARG_STRING_ARRAY, &p->bitmaps, "offer this dirty bitmap too", "NAME" },
        { "allocation-depth", 'A', 0, G_OPTION_ARG_NONE, &p->allocation_depth, "tell from which image of the chain data comes", NULL },
        { "cache", 0, 0, G_OPTION_ARG_STRING, &p->cache, "writeback (default), none, writethrough, directsync, unsafe", "MODE" },
        { "nocache", 'n', 0, G_OPTION_ARG_NONE, &p->nocache, "as --cache=none", NULL },
        { "aio", 0, 0, G_OPTION_ARG_STRING, &p->aio, "threads, native, io_uring", "MODE" },
        { "discard", 0, 0, G_OPTION_ARG_STRING, &p->discard, "what a client's trim does: ignore (default), unmap", "MODE" },
        { "detect-zeroes", 0, 0, G_OPTION_ARG_STRING, &p->detect_zeroes, "written zeroes become holes: off, on, unmap", "MODE" },
        { "list", 'L', 0, G_OPTION_ARG_NONE, &p->list, "tell what the server at -b, -p or -k offers, and end", NULL },
        { "connect", 'c', 0, G_OPTION_ARG_STRING, &p->connect, "make it a block device of this machine", "/dev/nbdN" },
        { "disconnect", 'd', 0, G_OPTION_ARG_STRING, &p->disconnect, "free the block device, and end", "/dev/nbdN" },
        { "tls-hostname", 0, 0, G_OPTION_ARG_STRING, &p->tls_hostname, "with --list: the name in the server's certificate", "NAME" },
        { "selinux-label", 0, 0, G_OPTION_ARG_STRING, &p->selinux, "not in this build", "LABEL" },
        { "object", 0, 0, G_OPTION_ARG_STRING_ARRAY, &p->objects_given, "an object that options refer to: secret,id=sec0,file=key", "OPTIONS" },
        { "tls-creds", 0, 0, G_OPTION_ARG_STRING, &p->tls_creds, "clients must use TLS: id of an --object tls-creds-...", "ID" },
        { "tls-authz", 0, 0, G_OPTION_ARG_STRING, &p->tls_authz, "id of an --object authz-... that knows who may", "ID" },
        { "fork", 0, 0, G_OPTION_ARG_NONE, &p->fork, "serve in the background; this returns when it does", NULL },
        { "pid-file", 0, 0, G_OPTION_ARG_STRING, &p->pid_file, "write the server's process id there", "PATH" },
        { "verbose", 'v', 0, G_OPTION_ARG_NONE, &p->verbose, "tell about clients that misbehave", NULL },
        { "trace", 'T', 0, G_OPTION_ARG_STRING, &p->trace, "trace points to log, by pattern", "PATTERN" },
        { "version", 'V', 0, G_OPTION_ARG_NONE, &p->version, "print the version", NULL },
        { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_STRING_ARRAY, &p->args, NULL, "FILE" },
        { 0 },
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GOptionGroup) group = g_option_group_new("main", NULL, NULL, p, NULL);
    g_autoptr(GError) gerr = NULL;

    g_option_context_set_summary(context, "Offers a disk image over NBD, until the client is gone.");
    g_option_context_set_description(context,
        "  rhea-nbd -k /tmp/disk.sock disk.qcow2     then: nbd+unix:///?socket=/tmp/disk.sock\n"
        "  rhea-nbd -t -e 4 -p 10810 -x disk disk.qcow2     then: nbd://HOST:10810/disk\n");
    g_option_group_add_entries(group, entries);
    g_option_context_set_main_group(context, g_steal_pointer(&group));
    return g_option_context_parse(context, argc, argv, &gerr) ||
           error_setf(&p->err, ERR_GENERIC, "rhea-nbd --help lists the options", "%s", gerr->message);
}

static void make_absolute(char **path)
{
    char *old = *path;

    if (old)
        *path = g_canonicalize_filename(old, NULL);
    g_free(old);
}

static bool check_line(struct nbd_program *p)
{
    uint32_t mask = 0;
    g_autofree char *spec = p->trace ? g_strdup_printf("trace:%s", p->trace) : NULL;

    if (p->selinux)
        return error_set(&p->err, ERR_GENERIC, "this build does not set SELinux labels", "leave out --selinux-label");
    if (p->list || p->disconnect) {
        if (p->list && (p->export_name || p->offset || p->connect || p->disconnect || p->pid_file || p->fork))
            return error_set(&p->err, ERR_GENERIC, "List mode is incompatible with options of an export", "give -b, -p, -k, TLS alone");
        return !p->args || error_set(&p->err, ERR_GENERIC, p->list ? "List mode takes no image" : "-d takes no image", NULL);
    }
    if (p->tls_hostname)
        return error_set(&p->err, ERR_GENERIC, "TLS hostname is only supported with --list", NULL);
    if (p->connect && (p->tls_creds || p->port || p->bind))
        return error_set(&p->err, ERR_GENERIC, "the kernel's client has no TLS, and needs no address", "give -c alone, or with -k");
    if (p->connect && !p->socket)
        p->socket = g_strdup_printf("/var/lock/rhea-nbd-%s", strrchr(p->connect, '/') ? strrchr(p->connect, '/') + 1 : p->connect);
    if (!p->args || !p->args[0] || p->args[1])
        return error_set(&p->err, ERR_GENERIC, "it takes one image", "rhea-nbd -k /tmp/disk.sock disk.qcow2");
    if (p->shared < 0 || p->handshake < 0)
        return error_set(&p->err, ERR_GENERIC, "Shared device number and time limit cannot be negative", NULL);
    if (p->socket && (p->port || p->bind))
        return error_set(&p->err, ERR_GENERIC, "a Unix socket has no port", "give either -k, or -p and -b");
    if (p->fork) {                      /* they are removed at the end, from another directory then */
        make_absolute(&p->socket);
        make_absolute(&p->pid_file);
    }
    if (p->snapshot && p->temporary)
        return error_set(&p->err, ERR_GENERIC, "-s and -l cannot be combined", NULL);
    if (spec && !log_parse(spec, &mask, &p->err))
        return false;
    log_set(mask | (p->verbose ? LOG_GUEST_ERRORS : 0));
    return true;
}

static int run(struct nbd_program *p, int argc, char **argv)
{
    int ret;

    if (!parse_line(p, &argc, &argv))
        return fail(p);
    if (p->version) {
        tool_print_version();
        return 0;
    }
    if (!check_line(p))
        return fail(p);
    if (p->disconnect)
        return disconnect(p);
    if (p->list)
        return with_graph(p, list);
    if (p->fork || p->connect) {
        ret = fork_server(p);
        if (ret >= 0)
            return ret;
    }
    ret = with_graph(p, serve);
    if (p->pid_written)                 /* last: whoever sees it gone finds socket and image free */
        unlink(p->pid_file);
    return ret;
}

static void options_free(struct nbd_program *p)
{
    char *texts[] = { p->port, p->bind, p->socket, p->format, p->cache, p->aio, p->discard, p->detect_zeroes, p->snapshot, p->export_name,
                      p->description, p->tls_creds, p->tls_authz, p->tls_hostname, p->pid_file, p->connect, p->disconnect, p->offset,
                      p->trace, p->selinux };
    char **lists[] = { p->objects_given, p->bitmaps, p->args };

    tool_options_free(texts, G_N_ELEMENTS(texts), lists, G_N_ELEMENTS(lists));
}

int main(int argc, char **argv)
{
    struct nbd_program p = { .shared = 1, .handshake = HANDSHAKE_SECONDS, .ready_fd = -1 };
    int ret;

    error_set_program(argv[0]);
    ret = run(&p, argc, argv);
    options_free(&p);
    return ret;
}
