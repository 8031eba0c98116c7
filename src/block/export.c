/* The exports of a graph: made, found, ended. */
#include "block/export.h"

#include <errno.h>
#include <string.h>
#include "rhea/base/options.h"
#include "rhea/vm/object.h"
#include "rhea/vm/vm.h"

extern const struct export_type *const __start_rhea_export_types[];
extern const struct export_type *const __stop_rhea_export_types[];

static const char *const common_options[] = { "type", "id", "node-name", "writable", "writethrough", "iothread",
                                              "fixed-iothread", "allow-inactive", NULL };

static const struct export_type *type_find(const char *name, struct error *err)
{
    g_autoptr(GString) hint = g_string_new("there are:");

    for (const struct export_type *const *t = __start_rhea_export_types; t < __stop_rhea_export_types; t++) {
        if (!strcmp((*t)->name, name))
            return *t;
        g_string_append_printf(hint, " %s", (*t)->name);
    }
    if (!strcmp(name, "vduse-blk"))
        g_string_assign(hint, "the kernel's VDUSE is not used; vhost-user-blk serves a guest of this host");
    error_setf(err, ERR_GENERIC, hint->str, "Invalid parameter '%s'", name);
    return NULL;
}

struct block_export *export_find(struct block_graph *g, const char *id)
{
    for (unsigned i = 0; g->exports && i < g->exports->len; i++) {
        struct block_export *e = g_ptr_array_index(g->exports, i);

        if (!strcmp(e->id, id))
            return e;
    }
    return NULL;
}

static bool options_known(const struct export_type *type, struct json_object *opts, struct error *err)
{
    g_autoptr(GPtrArray) known = g_ptr_array_new();

    for (const char *const *o = common_options; *o; o++)
        g_ptr_array_add(known, (void *)*o);
    for (const char *const *o = type->options; *o; o++)
        g_ptr_array_add(known, (void *)*o);
    g_ptr_array_add(known, NULL);
    return options_check(opts, (const char *const *)known->pdata, "export", err);
}

static void export_free(struct block_export *e)
{
    if (e->type->destroy)
        e->type->destroy(e);
    if (e->b)
        backend_free(e->b);
    object_put(e->iothread);
    g_free(e->away);
    if (e->graph->exports)
        g_ptr_array_remove(e->graph->exports, e);
    g_free(e->id);
    g_free(e);
}

static bool export_thread(struct block_export *e, struct json_object *opts, struct error *err)
{
    const char *name = option_str(opts, "iothread", NULL);

    e->loop = e->graph->loop;
    if (!name)
        return true;
    if (!e->graph->vm)
        return error_setf(err, ERR_GENERIC, "-object iothread,id=ID", "there is no iothread '%s'", name);
    e->iothread = object_get(e->graph->vm, name, "iothread", err);
    if (!e->iothread)
        return false;
    e->loop = iothread_loop(e->iothread);
    return true;
}

/* The node by its name, with a hold: active, or what stands for an inactive one. */
static struct block_node *export_node(struct block_export *e, const char *name, struct json_object *opts, struct error *err)
{
    struct block_node *n = node_find(e->graph, name);

    if (!option_bool(opts, "allow-inactive", false, &e->allow_inactive, err))
        return NULL;
    if (e->allow_inactive && !e->type->reads_inactive) {
        error_setf(err, ERR_GENERIC, "leave out allow-inactive", "exports of type %s do not run on inactive nodes", e->type->name);
        return NULL;
    }
    if (n && n->inactive && e->allow_inactive)
        return export_view(e, n, err);
    if (n && n->inactive && !block_set_active(e->graph->vm, name, true, err))
        return NULL;
    n = block_lookup(e->graph, name, err);
    if (n)
        node_ref(n);
    return n;
}

static bool attach_to(struct block_export *e, struct block_node *n, struct json_object *opts, struct error *err)
{
    bool through;

    if (!option_bool(opts, "writable", false, &e->writable, err) || !option_bool(opts, "writethrough", false, &through, err))
        return false;
    if (e->writable && n->read_only && !e->away)
        return error_setf(err, ERR_GENERIC, "open it for writing, or leave out writable=on", "Cannot export read-only node as writable");
    if (e->writable && backend_claims(e->graph, n) && !(e->graph->vm && e->graph->vm->state == RUN_INMIGRATE))
        return error_setf(err, ERR_GENERIC, "-drive ...,share-rw=on says that its guest agrees; or leave out writable=on",
                          "block node '%s' is written by a device already", n->name);
    e->b = backend_new(e->graph, "", n);
    e->b->writeback = !through;
    e->b->share = true;                 /* a guest may use the disk too: both have agreed */
    if (!node_hold(n, e->writable && !e->away, true, err))
        return false;
    e->b->held = true;
    e->b->held_write = e->writable && !e->away;
    return true;
}

/* The back end that the export reads and writes through. */
static bool export_attach(struct block_export *e, struct json_object *opts, struct error *err)
{
    const char *name = option_str(opts, "node-name", NULL);
    struct block_node *n = name ? export_node(e, name, opts, err) : NULL;
    bool ok = n && attach_to(e, n, opts, err);

    node_unref(n);
    if (!name)
        error_set(err, ERR_GENERIC, "Parameter 'node-name' is missing", NULL);
    return ok;
}

struct block_export *export_add(struct block_graph *g, struct json_object *opts, struct error *err)
{
    const char *type_name = option_str(opts, "type", NULL), *id = option_str(opts, "id", NULL);
    const struct export_type *type;
    struct block_export *e;

    if (!type_name || !id) {
        error_setf(err, ERR_GENERIC, "type=nbd,id=NAME,node-name=NODE", "Parameter '%s' is missing", type_name ? "id" : "type");
        return NULL;
    }
    type = type_find(type_name, err);
    if (!type || !options_known(type, opts, err))
        return NULL;
    if (export_find(g, id)) {
        error_setf(err, ERR_GENERIC, "choose another id", "Block export id '%s' is already in use", id);
        return NULL;
    }
    e = g_malloc0(type->size);
    e->type = type;
    e->graph = g;
    e->id = g_strdup(id);
    e->refs = 1;
    if (!g->exports)
        g->exports = g_ptr_array_new();
    g_ptr_array_add(g->exports, e);
    if (export_thread(e, opts, err) && export_attach(e, opts, err) && type->start(e, opts, err))
        return e;
    export_free(e);
    return NULL;
}

void export_ref(struct block_export *e)
{
    atomic_fetch_add(&e->refs, 1);
}

static void export_gone(void *arg)
{
    struct block_export *e = arg;
    struct block_graph *g = e->graph;
    g_autofree char *id = g_strdup(e->id);
    struct json_object *o;

    export_free(e);
    if (!g->vm)
        return;
    o = json_object_new_object();
    json_object_object_add(o, "id", json_object_new_string(id));
    vm_event(g->vm, "BLOCK_EXPORT_DELETED", o);
}

/* Freed from the loop: whoever gives up the last hold may be in the middle of something of it. */
void export_unref(struct block_export *e)
{
    if (atomic_fetch_sub(&e->refs, 1) == 1)
        loop_post(e->graph->loop, export_gone, e);
}

static void export_shut(struct block_export *e)
{
    if (e->shutting_down)
        return;
    e->shutting_down = true;
    if (e->type->shut)
        e->type->shut(e);
    export_unref(e);
}

bool export_del(struct block_export *e, bool hard, struct error *err)
{
    if (!hard && e->refs > 1)
        return error_setf(err, ERR_GENERIC, "wait for its clients, or end it with mode=hard", "export '%s' still in use", e->id);
    export_shut(e);
    return true;
}

void exports_foreach(struct block_graph *g, const char *type, void (*fn)(struct block_export *e, void *arg), void *arg)
{
    for (unsigned i = g->exports ? g->exports->len : 0; i--;) {
        struct block_export *e = g_ptr_array_index(g->exports, i);

        if (!type || !strcmp(e->type->name, type))
            fn(e, arg);
    }
}

static void shut_one(struct block_export *e, void *arg)
{
    export_shut(e);
}

void exports_close(struct block_graph *g)
{
    if (!g->exports)
        return;
    if (!loop_current())
        loop_enter(g->loop);
    exports_foreach(g, NULL, shut_one, NULL);
    while (g->exports->len)
        loop_step(g->loop, true);
    g_ptr_array_free(g->exports, TRUE);
    g->exports = NULL;
}

struct json_object *export_query(struct block_graph *g)
{
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; g->exports && i < g->exports->len; i++) {
        struct block_export *e = g_ptr_array_index(g->exports, i);
        struct json_object *o = json_object_new_object();

        json_object_object_add(o, "node-name", json_object_new_string(e->away ? e->away : e->b && e->b->root ? e->b->root->name : ""));
        json_object_object_add(o, "shutting-down", json_object_new_boolean(e->shutting_down));
        json_object_object_add(o, "type", json_object_new_string(e->type->name));
        json_object_object_add(o, "id", json_object_new_string(e->id));
        json_object_array_add(list, o);
    }
    return list;
}

/* ---- requests of clients */

void export_enter(struct block_backend *b)
{
    for (;;) {
        atomic_fetch_add(&b->in_flight, 1);
        if (!atomic_load(&b->quiesced))
            return;
        atomic_fetch_sub(&b->in_flight, 1);
        coroutine_sleep_ns(1000000);
    }
}

void export_leave(struct block_backend *b)
{
    backend_put(b);
}

struct wait { struct coroutine *co; int ret; bool done; };

static void request_done(void *opaque, int ret)
{
    struct wait *w = opaque;

    w->ret = ret;
    w->done = true;
    if (w->co)
        coroutine_wake(w->co);
}

static int request_wait(struct wait *w)
{
    if (!w->done) {
        w->co = coroutine_self();
        coroutine_yield();
    }
    return w->ret;
}

int export_preadv(struct block_backend *b, uint64_t off, struct iovec *iov, int niov)
{
    struct wait w = { 0 };

    block_readv(b, off, iov, niov, 0, request_done, &w);
    return request_wait(&w);
}

int export_pwritev(struct block_backend *b, uint64_t off, struct iovec *iov, int niov, unsigned flags)
{
    struct wait w = { 0 };

    block_writev(b, off, iov, niov, flags, request_done, &w);
    return request_wait(&w);
}

int export_flush(struct block_backend *b)
{
    struct wait w = { 0 };

    block_flush(b, request_done, &w);
    return request_wait(&w);
}

int export_discard(struct block_backend *b, uint64_t off, uint64_t bytes)
{
    struct wait w = { 0 };

    block_discard(b, off, bytes, request_done, &w);
    return request_wait(&w);
}

int export_write_zeroes(struct block_backend *b, uint64_t off, uint64_t bytes, unsigned flags)
{
    struct wait w = { 0 };

    block_write_zeroes(b, off, bytes, flags, request_done, &w);
    return request_wait(&w);
}
