/* What moves much data works in several coroutines, on two threads where the host's page cache has it: there a transfer is a
 * copy, and one core is not enough. */
#include "main/img.h"
#include "rhea/base/coroutine.h"

struct team {
    struct img *c;
    void (*fn)(void *arg);
    void *arg;
    unsigned helpers;           /* to be started on the other thread */
    unsigned left;              /* counted on the main loop */
};

static void worker_ended(void *arg)
{
    struct team *t = arg;

    t->left--;
}

static void worker(void *arg)
{
    struct team *t = arg;

    t->fn(t->arg);
    loop_post(t->c->loop, worker_ended, t);
}

static void helpers_start(void *arg)
{
    struct team *t = arg;

    for (unsigned n = t->helpers; n; n--)
        coroutine_start(worker, t);
}

void img_workers(struct img *c, unsigned count, bool threads, void (*fn)(void *arg), void *arg)
{
    struct team t = { c, fn, arg, threads && g_get_num_processors() > 1 ? count / 2 : 0, count };
    struct loop *helper = NULL;

    if (t.helpers) {
        helper = loop_new("helper");
        loop_set_single_task(helper, true);
        loop_thread_start(helper);
        loop_post(helper, helpers_start, &t);
    }
    for (unsigned n = t.helpers; n < count; n++)
        coroutine_start(worker, &t);
    while (t.left)
        loop_step(c->loop, true);
    loop_free(helper);
}

bool img_on_host(const struct block_node *n)
{
    if (n->drv->kind == DRIVER_PROTOCOL)
        return n->drv->submit && !n->direct;
    return n->file && img_on_host(n->file) && (!n->backing || img_on_host(n->backing));
}
