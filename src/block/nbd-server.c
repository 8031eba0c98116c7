/* The NBD server: sockets that listen, clients, and the exports that they see. */
#include "block/nbd-server.h"

#include <errno.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>
#include "rhea/base/options.h"
#include "rhea/block/bitmap.h"
#include "rhea/vm/object.h"
#include "rhea/vm/tls.h"

/* ---- clients */

static void accept_update(struct nbd_server *s)
{
    bool full = s->max_connections && s->clients->len >= s->max_connections;

    for (int i = 0; i < s->fd_count; i++)
        if (s->watches[i])
            loop_fd_set(s->watches[i], full || s->stopping || s->held ? 0 : LOOP_IN);
}

static void clients_changed(struct nbd_server *s)
{
    accept_update(s);
    if (s->on_clients && !s->stopping)
        s->on_clients(s->on_clients_arg, s->clients->len);
}

static void close_here(void *arg)
{
    struct nbd_client *c = arg;

    c->closing = true;
    nbd_channel_shutdown(c->ch);
}

/* Main loop: it stays until client_free(), which is posted there. */
void nbd_client_close(struct nbd_client *c)
{
    loop_call(c->loop, close_here, c);
}

static void client_free(void *arg)
{
    struct nbd_client *c = arg;
    struct nbd_server *s = c->server;

    g_ptr_array_remove(s->clients, c);
    loop_timer_free(c->deadline);
    nbd_channel_free(c->ch);
    if (c->export)
        export_unref(&c->export->e);
    g_array_free(c->contexts, TRUE);
    g_free(c->contexts_for);
    g_free(c);
    clients_changed(s);
}

/* ---- a client in an iothread: its channel moves there, and back at the end */

static void thread_leave(void *arg)
{
    struct nbd_client *c = arg;

    nbd_channel_detach(c->ch);
    loop_post(c->server->graph->loop, client_free, c);
}

static void thread_run(void *arg)
{
    struct nbd_client *c = arg;

    nbd_transmit(c);
    loop_post(c->loop, thread_leave, c);
}

static void thread_enter(void *arg)
{
    struct nbd_client *c = arg;

    nbd_channel_attach(c->ch, c->loop);
    coroutine_start(thread_run, c);
}

static void client_move(void *arg)
{
    struct nbd_client *c = arg;

    nbd_channel_detach(c->ch);
    c->loop = c->export->e.loop;
    loop_post(c->loop, thread_enter, c);
}

static void client_run(void *arg)
{
    struct nbd_client *c = arg;
    void (*next)(void *arg) = client_free;

    if (!nbd_negotiate(c) && c->export && !c->closing) {
        loop_timer_cancel(c->deadline);
        if (c->export->e.loop == c->loop)
            nbd_transmit(c);
        else
            next = client_move;
    }
    /* from the loop, not from a coroutine that the channel may be about to leave */
    loop_post(c->server->graph->loop, next, c);
}

static void client_late(void *arg)
{
    struct nbd_client *c = arg;

    if (!c->export)
        nbd_client_close(c);
}

static void client_new(struct nbd_server *s, int fd)
{
    struct nbd_client *c = g_new0(struct nbd_client, 1);

    c->server = s;
    c->loop = s->graph->loop;
    c->ch = nbd_channel_new(fd, c->loop);
    c->contexts = g_array_new(FALSE, FALSE, sizeof(unsigned));
    co_mutex_init(&c->send);
    c->deadline = loop_timer_new(s->graph->loop, client_late, c);
    if (s->handshake_seconds)
        loop_timer_set(c->deadline, host_clock_ns() + s->handshake_seconds * 1000000000ll);
    g_ptr_array_add(s->clients, c);
    clients_changed(s);
    coroutine_start(client_run, c);
}

static void server_incoming(void *arg, unsigned events)
{
    struct nbd_server *s = arg;

    for (int i = 0; i < s->fd_count; i++) {
        int fd;

        while (!(s->max_connections && s->clients->len >= s->max_connections) && !s->stopping &&
               (fd = accept4(s->fds[i], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
            client_new(s, fd);
    }
}

/* ---- the server */

bool nbd_server_start_fds(struct block_graph *g, const struct nbd_server_options *o, const int *fds, int count, struct error *err)
{
    struct nbd_server *s;
    struct object *creds = NULL;

    if (g->nbd_server)
        return error_set(err, ERR_GENERIC, "NBD server already running", "nbd-server-stop ends it");
    if (o->tls_authz && !o->tls_creds)
        return error_set(err, ERR_GENERIC, "TLS authorization needs credentials", "give tls-creds too");
    if (o->tls_creds) {
        creds = g->objects ? tls_creds_get(g->objects, o->tls_creds, true, err) : NULL;
        if (!creds)
            return error_set(err, ERR_GENERIC, "there are no TLS credentials", NULL);
    }
    s = g_new0(struct nbd_server, 1);
    s->graph = g;
    s->creds = creds;
    s->tls_authz = g_strdup(o->tls_authz);
    s->max_connections = o->max_connections;
    s->handshake_seconds = o->handshake_seconds;
    s->held = o->held;
    s->clients = g_ptr_array_new();
    g_mutex_init(&s->buffers.lock);
    s->fd_count = MIN(count, (int)G_N_ELEMENTS(s->fds));
    g->nbd_server = s;
    for (int i = 0; i < s->fd_count; i++) {
        s->fds[i] = fds[i];
        s->watches[i] = loop_fd_add(g->loop, fds[i], s->held ? 0 : LOOP_IN, server_incoming, s);
    }
    return true;
}

bool nbd_server_start(struct block_graph *g, const struct nbd_server_options *o, struct error *err)
{
    int fds[8], count;
    bool abstract = false;

    if (g->nbd_server)
        return error_set(err, ERR_GENERIC, "NBD server already running", "nbd-server-stop ends it");
    count = nbd_address_listen(o->addr, fds, G_N_ELEMENTS(fds), MAX(o->max_connections, 16), err);
    if (!count)
        return false;
    if (!nbd_server_start_fds(g, o, fds, count, err)) {
        while (count)
            close(fds[--count]);
        return false;
    }
    if (!strcmp(option_str(o->addr, "type", ""), "unix") && option_bool(o->addr, "abstract", false, &abstract, NULL) && !abstract)
        g->nbd_server->unlink_path = g_strdup(option_str(o->addr, "path", ""));
    return true;
}

void nbd_server_admit(struct block_graph *g)
{
    g->nbd_server->held = false;
    accept_update(g->nbd_server);
}

bool nbd_server_running(const struct block_graph *g)
{
    return g->nbd_server;
}

void nbd_server_on_clients(struct block_graph *g, void (*fn)(void *arg, unsigned clients), void *arg)
{
    g->nbd_server->on_clients = fn;
    g->nbd_server->on_clients_arg = arg;
}

static void remove_export(struct block_export *e, void *arg)
{
    export_del(e, true, NULL);
}

void nbd_server_stop(struct block_graph *g)
{
    struct nbd_server *s = g->nbd_server;

    if (!s)
        return;
    if (!loop_current())
        loop_enter(g->loop);
    s->stopping = true;
    for (int i = 0; i < s->fd_count; i++) {
        loop_fd_remove(s->watches[i]);
        s->watches[i] = NULL;
        close(s->fds[i]);
    }
    if (s->unlink_path)
        unlink(s->unlink_path);
    exports_foreach(g, "nbd", remove_export, NULL);
    for (unsigned i = s->clients->len; i--;)
        nbd_client_close(g_ptr_array_index(s->clients, i));
    while (s->clients->len)
        loop_step(g->loop, true);
    g_ptr_array_free(s->clients, TRUE);
    nbd_buffers_free(&s->buffers);
    object_put(s->creds);
    g_free(s->tls_authz);
    g_free(s->unlink_path);
    g_free(s);
    g->nbd_server = NULL;
}

/* ---- exports of type nbd */

static const char *const nbd_options[] = { "name", "description", "bitmaps", "allocation-depth", NULL };

/* A name, looked for in the node and what is below it, or {"node": ..., "name": ...}. */
static struct dirty_bitmap *find_bitmap(struct block_graph *g, struct block_node *n, struct json_object *v, struct error *err)
{
    const char *name;
    struct dirty_bitmap *b = NULL;

    if (json_object_is_type(v, json_type_object)) {
        n = block_lookup(g, option_str(v, "node", ""), err);
        return n ? bitmap_find(n, option_str(v, "name", ""), err) : NULL;
    }
    name = json_object_get_string(v);
    for (struct block_node *i = n; i && !b; i = i->drv->kind == DRIVER_FILTER ? i->file : i->backing)
        b = bitmap_find(i, name, NULL);
    if (!b)
        error_setf(err, ERR_GENERIC, "query-block lists them", "Bitmap '%s' is not found", name);
    return b;
}

static bool take_bitmaps(struct nbd_export *x, struct json_object *list, struct error *err)
{
    struct block_node *n = x->e.b->root;
    size_t count = list && json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

    if (list && !json_object_is_type(list, json_type_array))
        return error_set(err, ERR_GENERIC, "bitmaps is a list of names", "bitmaps.0=NAME");
    if (count && x->e.away)
        return error_set(err, ERR_GENERIC, "bitmaps of an inactive node are not there", "blockdev-set-active makes it active");
    x->bitmaps = g_ptr_array_new();
    for (size_t i = 0; i < count; i++) {
        struct dirty_bitmap *b = find_bitmap(x->e.graph, n, json_object_array_get_idx(list, i), err);

        if (!b || !bitmap_usable(b, false, err))
            return false;
        if (!x->e.writable && !n->read_only && b->enabled)
            return error_setf(err, ERR_GENERIC, "disable it with block-dirty-bitmap-disable first",
                              "Enabled bitmap '%s' incompatible with readonly export", b->name);
        if (strlen(b->name) > NBD_MAX_STRING - 32)
            return error_setf(err, ERR_GENERIC, NULL, "the name of bitmap '%.32s...' is too long for NBD", b->name);
        b->busy = true;
        g_ptr_array_add(x->bitmaps, b);
    }
    return true;
}

static bool nbd_export_start(struct block_export *e, struct json_object *opts, struct error *err)
{
    struct nbd_export *x = (struct nbd_export *)e;
    const char *name = option_str(opts, "name", option_str(opts, "node-name", "")), *text = option_str(opts, "description", NULL);
    struct json_object *bitmaps = NULL;

    if (!nbd_server_running(e->graph))
        return error_set(err, ERR_GENERIC, "NBD server not running", "start it first: nbd-server-start, or --nbd-server");
    if (strlen(name) > NBD_MAX_STRING || (text && strlen(text) > NBD_MAX_STRING))
        return error_setf(err, ERR_GENERIC, "4096 bytes at most", "the export's %s is too long", strlen(name) > NBD_MAX_STRING ? "name" : "description");
    if (nbd_export_find(e->graph, name))
        return error_setf(err, ERR_GENERIC, "choose another name", "NBD server already has export named '%s'", name);
    json_object_object_get_ex(opts, "bitmaps", &bitmaps);
    if (!option_bool(opts, "allocation-depth", false, &x->allocation_depth, err) || !take_bitmaps(x, bitmaps, err))
        return false;
    x->name = g_strdup(name);
    x->description = g_strdup(text);
    return true;
}

static void nbd_export_shut(struct block_export *e)
{
    struct nbd_server *s = e->graph->nbd_server;

    for (unsigned i = s ? s->clients->len : 0; i--;) {
        struct nbd_client *c = g_ptr_array_index(s->clients, i);

        if (c->export && &c->export->e == e)
            nbd_client_close(c);
    }
}

static void nbd_export_destroy(struct block_export *e)
{
    struct nbd_export *x = (struct nbd_export *)e;

    for (unsigned i = 0; x->bitmaps && i < x->bitmaps->len; i++)
        ((struct dirty_bitmap *)g_ptr_array_index(x->bitmaps, i))->busy = false;
    if (x->bitmaps)
        g_ptr_array_free(x->bitmaps, TRUE);
    g_free(x->name);
    g_free(x->description);
}

EXPORT_TYPE = {
    .name = "nbd", .options = nbd_options, .reads_inactive = true, .size = sizeof(struct nbd_export),
    .start = nbd_export_start, .shut = nbd_export_shut, .destroy = nbd_export_destroy,
};
