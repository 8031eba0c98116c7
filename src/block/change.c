/* Changes of the graph while it is in use: quiet, who uses a node, one node in place of another, read-only and back. */
#include <errno.h>
#include <string.h>
#include "block/backend.h"
#include "rhea/base/options.h"
#include "rhea/block/job.h"

/* ---- quiet */

struct graph_step { void (*fn)(void *arg); void *arg; };

void graph_background_begin(struct block_graph *g)
{
    atomic_fetch_add(&g->background, 1);
}

static void background_poke(void *arg)
{
}

void graph_background_end(struct block_graph *g)
{
    struct loop *loop = g->loop;

    if (atomic_fetch_sub(&g->background, 1) == 1 && loop != loop_current())
        loop_post(loop, background_poke, NULL);
}

static void background_wait(struct block_graph *g)
{
    atomic_fetch_add(&g->draining, 1);
    while (atomic_load(&g->background)) {
        if (loop_current())
            loop_step(loop_current(), true);
        else
            g_usleep(50);
    }
    atomic_fetch_sub(&g->draining, 1);
}

void graph_quiesce(struct block_graph *g)
{
    g->changing++;
    for (unsigned i = 0; i < g->backends->len; i++)
        atomic_fetch_add(&((struct block_backend *)g_ptr_array_index(g->backends, i))->quiesced, 1);
    for (unsigned i = 0; i < g->backends->len; i++)
        block_drain(g_ptr_array_index(g->backends, i));
    background_wait(g);
}

void graph_resume(struct block_graph *g)
{
    struct graph_step *s;

    for (unsigned i = 0; i < g->backends->len; i++)
        backend_resume(g_ptr_array_index(g->backends, i));
    if (--g->changing)
        return;
    while ((s = g_queue_pop_head(&g->deferred))) {
        graph_defer(g, s->fn, s->arg);
        g_free(s);
    }
}

struct deferred { struct block_graph *g; struct graph_step step; };

static void deferred_run(void *arg)
{
    struct deferred *d = arg;

    if (d->g->changing)
        g_queue_push_tail(&d->g->deferred, g_memdup2(&d->step, sizeof(d->step)));
    else
        d->step.fn(d->step.arg);
    g_free(d);
}

void graph_defer(struct block_graph *g, void (*fn)(void *arg), void *arg)
{
    struct deferred *d = g_new(struct deferred, 1);

    *d = (struct deferred){ g, { fn, arg } };
    loop_post(g->loop, deferred_run, d);
}

bool graph_busy(struct block_graph *g, struct error *err)
{
    return g->changing && !error_set(err, ERR_GENERIC, "another command is changing the block graph", "try again");
}

/* ---- chains */

struct block_node *node_skip_filters(struct block_node *n)
{
    while (n && n->drv->kind == DRIVER_FILTER && n->file)
        n = n->file;
    return n;
}

/* The next image of a chain: below filters. */
static struct block_node *chain_next(struct block_node *n)
{
    return n->drv->kind == DRIVER_FILTER ? n->file : n->backing;
}

bool chain_contains(const struct block_node *top, const struct block_node *n)
{
    struct block_node *at = (struct block_node *)top;

    while (at && at != n)
        at = chain_next(at);
    return at != NULL;
}

struct block_node *chain_overlay(struct block_node *top, const struct block_node *n)
{
    while (top && chain_next(top) != n)
        top = chain_next(top);
    return top;
}

bool node_reaches(const struct block_node *top, const struct block_node *n)
{
    struct block_node *child;

    if (!top || top == n)
        return top;
    for (unsigned i = 0; top->drv->child && (child = top->drv->child((struct block_node *)top, i)); i++)
        if (node_reaches(child, n))
            return true;
    return node_reaches(top->file, n) || node_reaches(top->backing, n);
}

bool node_kept(struct block_graph *g, const struct block_node *n, struct error *err)
{
    for (unsigned i = 0; i < g->in_order->len; i++) {
        struct block_node *p = g_ptr_array_index(g->in_order, i);

        if (p->drv->file_hold == FILE_HELD_IN_USE && (p->file == n || p->drv->child(p, 0) == n))
            return !error_setf(err, ERR_GENERIC, "remove the filter first", "Node '%s' keeps a moment with '%s'", p->name, n->name);
    }
    return false;
}

bool block_change_child(struct block_graph *g, struct block_node *parent, const char *role, struct block_node *child, struct error *err)
{
    bool ok;

    if (child ? !parent->drv->child_add : !parent->drv->child_remove)
        return error_setf(err, ERR_GENERIC, "a quorum does", "The node %s does not support %s a child", parent->name, child ? "adding" : "removing");
    if (child && node_reaches(child, parent))
        return error_setf(err, ERR_GENERIC, NULL, "'%s' is made of '%s'", child->name, parent->name);
    if (graph_busy(g, err) || job_on_node(g, parent, err) || (child && job_on_node(g, child, err)))
        return false;
    graph_quiesce(g);
    ok = child ? parent->drv->child_add(parent, child, err) : parent->drv->child_remove(parent, role, err);
    graph_resume(g);
    return ok;
}

bool node_supports_backing(const struct block_node *n)
{
    for (const char *const *o = n->drv->options; o && *o; o++)
        if (!strcmp(*o, "backing"))
            return true;
    return false;
}

bool node_set_backing(struct block_node *n, struct block_node *backing, struct error *err)
{
    struct block_node *old = n->backing;

    if (backing == old)
        return true;
    if (backing && node_reaches(backing, n))
        return error_setf(err, ERR_GENERIC, NULL, "Making '%s' a backing child of '%s' would create a cycle", backing->name, n->name);
    if (backing && !node_hold(backing, false, true, err))
        return false;
    if (backing)
        node_ref(backing);
    n->backing = backing;
    if (old) {
        node_release(old, false);
        node_unref(old);
    }
    return true;
}

/* ---- one node in place of another */

/* Drivers that reach their child by n->file alone. */
static bool file_edge_moves(const struct block_node *n)
{
    return (n->drv->kind == DRIVER_FILTER && !n->drv->file_stays) || !strcmp(n->drv->name, "raw");
}

static bool edge_moves(const struct block_node *parent, const struct block_node *to)
{
    return !node_reaches(to, parent);
}

/* Every reference to `from` is one that can be moved, or stays with good reason. */
static bool replace_known(struct block_graph *g, const struct block_node *from, const struct block_node *to, struct error *err)
{
    unsigned known = from->user_owned + jobs_references(g, from);

    for (unsigned i = 0; i < g->backends->len; i++)
        known += ((struct block_backend *)g_ptr_array_index(g->backends, i))->root == from;
    for (unsigned i = 0; i < g->in_order->len; i++) {
        const struct block_node *p = g_ptr_array_index(g->in_order, i);

        known += (p->file == from) + (p->backing == from);
        if (p->file == from && edge_moves(p, to) && !file_edge_moves(p))
            return error_setf(err, ERR_GENERIC, "replace the node of the format instead", "Node '%s' is the file of '%s', and cannot be replaced there",
                              from->name, p->name);
    }
    return known >= from->refs || error_setf(err, ERR_GENERIC, NULL, "Node '%s' is used by another in a way that does not let it be replaced", from->name);
}

static void hold_move(struct block_node *from, struct block_node *to, bool write)
{
    if (write)
        from->writers--;
    else
        from->readers--;
    if (write)
        to->writers++;
    else
        to->readers++;
}

/* Asks for the strongest hold first, so that what follows cannot fail. */
static bool replace_holds(struct block_graph *g, struct block_node *from, struct block_node *to, bool *write, struct error *err)
{
    *write = false;
    for (unsigned i = 0; i < g->backends->len; i++) {
        const struct block_backend *b = g_ptr_array_index(g->backends, i);

        *write |= b->root == from && !b->job && b->held && b->held_write;
    }
    for (unsigned i = 0; i < g->in_order->len; i++) {
        const struct block_node *p = g_ptr_array_index(g->in_order, i);

        *write |= p->file == from && edge_moves(p, to) && node_writes_file(p);
    }
    return node_hold(to, *write, true, err);
}

static void replace_in_backends(struct block_graph *g, struct block_node *from, struct block_node *to)
{
    for (unsigned i = 0; i < g->backends->len; i++) {
        struct block_backend *b = g_ptr_array_index(g->backends, i);

        if (b->root != from || b->job)
            continue;
        node_ref(to);
        if (b->held)
            hold_move(from, to, b->held_write);
        b->root = to;
        node_unref(from);
    }
}

static void replace_in_nodes(struct block_graph *g, struct block_node *from, struct block_node *to)
{
    for (unsigned i = 0; i < g->in_order->len; i++) {
        struct block_node *p = g_ptr_array_index(g->in_order, i);

        if ((p->file != from && p->backing != from) || !edge_moves(p, to))
            continue;
        node_ref(to);
        if (p->file == from) {
            hold_move(from, to, node_writes_file(p));
            p->file = to;
            p->size = to->size;
            p->limits = to->limits;
        } else {
            hold_move(from, to, false);
            p->backing = to;
        }
        node_unref(from);
    }
}

bool graph_replace(struct block_graph *g, struct block_node *from, struct block_node *to, struct error *err)
{
    bool write, written = from->writers;

    if (!replace_known(g, from, to, err) || !replace_holds(g, from, to, &write, err))
        return false;
    node_ref(from);
    replace_in_backends(g, from, to);
    replace_in_nodes(g, from, to);
    node_release(to, write);
    if (written && !from->writers)
        node_unwritten(from);
    backends_changed(g, to);
    node_unref(from);
    return true;
}

/* ---- a device's disk */

static bool backend_may_change(struct block_backend *b, struct block_node *to, struct error *err)
{
    struct block_graph *g = b->graph;

    if (!b->root)
        return error_set(err, ERR_GENERIC, "The device has no medium", "insert one, then change its node");
    if (graph_busy(g, err) || !node_is_active(to, err) || job_on_node(g, b->root, err) || job_on_node(g, to, err))
        return false;
    return to->size == b->root->size ||
           error_setf(err, ERR_GENERIC, "what takes a disk's place is as large as the disk", "Node '%s' has %" PRIu64 " bytes, the disk %" PRIu64, to->name,
                      (uint64_t)to->size, (uint64_t)b->root->size);
}

bool backend_move(struct block_backend *b, struct block_node *to, struct error *err)
{
    struct block_node *from = b->root;

    /* a node over the disk, or one below it: the hold that is there moves, and does not stand in the way */
    if (b->held && !node_hold(to, b->held_write, b->share || node_reaches(to, from) || node_reaches(from, to), err))
        return false;
    node_ref(to);
    b->root = to;
    if (b->held)
        node_release(from, b->held_write);
    node_unref(from);
    return true;
}

bool block_backend_change(struct block_backend *b, const char *node_name, struct error *err)
{
    struct block_node *to = node_find(b->graph, node_name);
    bool ok;

    if (!to)
        return error_setf(err, ERR_GENERIC, "query-named-block-nodes lists them", "Cannot find device='' nor node-name='%s'", node_name);
    if (!backend_may_change(b, to, err))
        return false;
    graph_quiesce(b->graph);
    ok = backend_move(b, to, err);
    graph_resume(b->graph);
    return ok;
}

/* ---- read-only and back */

bool node_reopen_plain(struct block_node *n, bool read_only, struct error *err)
{
    return true;
}

struct reopen_call { struct block_node *n; bool read_only; struct error *err; bool ok; };

static void reopen_run(void *arg)
{
    struct reopen_call *c = arg;
    int ret = 0;

    c->ok = c->n->drv->reopen(c->n, c->read_only, c->err);
    if (c->ok && c->read_only)
        ret = node_flush(c->n);
    if (ret)
        c->ok = error_set_errno(c->err, -ret, NULL, "cannot write '%s'", c->n->filename);
}

/* The hold on the file below, from reading to writing or back. */
static bool file_hold(struct block_node *n, bool write, struct error *err)
{
    if (!node_hold(n->file, write, true, err))
        return false;
    node_release(n->file, !write);
    return true;
}

static bool protocol_set(struct block_node *n, bool read_only, struct error *err)
{
    bool asked = false;

    /* a node of its own that was told read-only=on is meant so */
    if (!read_only && n->explicit_name && (!option_bool(n->opts, "read-only", false, &asked, err) || asked))
        return error_setf(err, ERR_GENERIC, "make it with auto-read-only=on", "Block node is read-only: '%s'", n->name);
    if (!read_only && !n->drv->set_writable && !n->drv->reopen)
        return error_setf(err, ERR_GENERIC, "open it with read-only=off", "'%s' cannot be reopened for writing", n->name);
    n->read_only = read_only;
    return true;
}

static bool set_writable(struct block_node *n, struct error *err)
{
    struct reopen_call c = { .n = n, .err = err };
    bool file_was = n->file->read_only;

    if (!n->drv->reopen)
        return error_setf(err, ERR_GENERIC, "open it with read-only=off", "Block format '%s' used by node '%s' cannot be reopened for writing",
                          n->drv->name, n->name);
    if (!node_set_read_only(n->file, false, err))
        return false;
    if (!file_hold(n, true, err)) {
        node_set_read_only(n->file, file_was, NULL);
        return false;
    }
    n->read_only = false;
    block_run(n->graph, reopen_run, &c);
    if (c.ok)
        return true;
    n->read_only = true;
    file_hold(n, false, NULL);
    node_set_read_only(n->file, file_was, NULL);
    return false;
}

bool node_set_read_only(struct block_node *n, bool read_only, struct error *err)
{
    struct reopen_call c = { .n = n, .read_only = true, .err = err };

    if (n->read_only == read_only)
        return true;
    if (read_only && n->writers)
        return error_setf(err, ERR_GENERIC, "stop what writes first", "Node '%s' is written to, and cannot become read-only", n->name);
    if (n->drv->kind == DRIVER_PROTOCOL || !n->file)
        return protocol_set(n, read_only, err);
    if (!read_only)
        return set_writable(n, err);
    if (!n->drv->reopen)
        return error_setf(err, ERR_GENERIC, NULL, "Block format '%s' used by node '%s' cannot be reopened read-only", n->drv->name, n->name);
    block_run(n->graph, reopen_run, &c);
    if (!c.ok)
        return false;
    n->read_only = true;
    return file_hold(n, false, err);
}
