/* The life of a job: states, events, pausing, the speed, transactions of several. */
#include "block/job/job.h"

#include <errno.h>
#include <string.h>
#include "rhea/vm/vm.h"

struct job_txn { GPtrArray *jobs; unsigned refs; bool aborting; };

static const char *const status_names[] = { "undefined", "created", "running", "paused", "ready", "standby", "waiting", "pending",
                                            "aborting", "concluded", "null" };

enum job_verb { VERB_CANCEL, VERB_PAUSE, VERB_RESUME, VERB_SPEED, VERB_COMPLETE, VERB_FINALIZE, VERB_DISMISS };
#define ST(s) (1u << JOB_##s)
static const struct { const char *name; unsigned states; } verbs[] = {
    [VERB_CANCEL] = { "cancel", ST(CREATED) | ST(RUNNING) | ST(PAUSED) | ST(READY) | ST(STANDBY) | ST(WAITING) | ST(PENDING) },
    [VERB_PAUSE] = { "pause", ST(CREATED) | ST(RUNNING) | ST(PAUSED) | ST(READY) | ST(STANDBY) },
    [VERB_RESUME] = { "resume", ST(CREATED) | ST(RUNNING) | ST(PAUSED) | ST(READY) | ST(STANDBY) },
    [VERB_SPEED] = { "set-speed", ST(CREATED) | ST(RUNNING) | ST(PAUSED) | ST(READY) | ST(STANDBY) },
    [VERB_COMPLETE] = { "complete", ST(READY) },
    [VERB_FINALIZE] = { "finalize", ST(PENDING) },
    [VERB_DISMISS] = { "dismiss", ST(CONCLUDED) },
};

static bool job_allows(const struct job *j, enum job_verb verb, struct error *err)
{
    return (verbs[verb].states >> j->status & 1) ||
           error_setf(err, ERR_GENERIC, NULL, "Job '%s' in state '%s' cannot accept command verb '%s'", j->id, status_names[j->status],
                      verbs[verb].name);
}

/* ---- events */

static void put_str(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, json_object_new_string(value));
}

static void put_int(struct json_object *o, const char *key, int64_t value)
{
    json_object_object_add(o, key, json_object_new_int64(value));
}

static void put_bool(struct json_object *o, const char *key, bool value)
{
    json_object_object_add(o, key, json_object_new_boolean(value));
}

static void event_send(struct job *j, const char *name, struct json_object *data)
{
    if (j->graph->vm)
        vm_event(j->graph->vm, name, data);
    else
        json_object_put(data);
}

static void status_set(struct job *j, enum job_status status)
{
    struct json_object *o;

    if (j->status == status)
        return;
    j->status = status;
    o = json_object_new_object();
    put_str(o, "status", status_names[status]);
    put_str(o, "id", j->id);
    event_send(j, "JOB_STATUS_CHANGE", o);
}

static void block_event(struct job *j, const char *name)
{
    struct json_object *o;

    if (!j->drv->block)
        return;
    if (j->drv->measure)
        j->drv->measure(j);
    o = json_object_new_object();
    put_str(o, "device", j->id);
    put_int(o, "len", j->total);
    put_int(o, "offset", j->progress);
    put_int(o, "speed", j->speed);
    put_str(o, "type", j->drv->type);
    if (!strcmp(name, "BLOCK_JOB_COMPLETED") && j->ret < 0)
        put_str(o, "error", j->err.msg ? j->err.msg : g_strerror(-j->ret));
    event_send(j, name, o);
}

static void pending_event(struct job *j)
{
    struct json_object *o;

    if (!j->drv->block || j->auto_finalize)
        return;
    o = json_object_new_object();
    put_str(o, "type", j->drv->type);
    put_str(o, "id", j->id);
    event_send(j, "BLOCK_JOB_PENDING", o);
}

/* ---- making and unmaking */

static bool id_valid(const char *id)
{
    return g_ascii_isalpha(id[0]) && strlen(id) < 128 && !id[strspn(id, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "-._")];
}

static struct job *job_lookup(struct block_graph *g, const char *id)
{
    for (unsigned i = 0; i < g->jobs->len; i++) {
        struct job *j = g_ptr_array_index(g->jobs, i);

        if (!strcmp(j->id, id))
            return j;
    }
    return NULL;
}

static void timer_fired(void *arg)
{
    job_wake(arg);
}

void *job_new(struct block_graph *g, const struct job_driver *drv, const struct job_options *o, struct error *err)
{
    const char *id = o->id ? o->id : o->default_id;
    struct job *j;

    if (o->speed < 0) {
        error_set(err, ERR_GENERIC, "Parameter 'speed' expects a non-negative value", NULL);
        return NULL;
    }
    if (!id || !*id) {
        error_set(err, ERR_GENERIC, "An explicit job ID is required for this node", "add job-id");
        return NULL;
    }
    if (o->id && !id_valid(id)) {
        error_setf(err, ERR_GENERIC, "a letter, then letters, digits, '-', '.', '_'", "Invalid job ID '%s'", id);
        return NULL;
    }
    if (job_lookup(g, id)) {
        error_setf(err, ERR_GENERIC, "choose another", "Job ID '%s' already in use", id);
        return NULL;
    }
    j = g_malloc0(drv->size);
    j->drv = drv;
    j->graph = g;
    j->id = g_strdup(id);
    j->refs = 1;
    j->speed = o->speed;
    j->auto_finalize = !o->manual_finalize;
    j->auto_dismiss = !o->manual_dismiss;
    j->nodes = g_ptr_array_new();
    j->timer = loop_timer_new(g->loop, timer_fired, j);
    j->txn = o->txn ? o->txn : job_txn_new();
    if (o->txn)
        j->txn->refs++;
    g_ptr_array_add(j->txn->jobs, j);
    g_ptr_array_add(g->jobs, j);
    status_set(j, JOB_CREATED);
    return j;
}

static void job_unref(struct job *j)
{
    if (--j->refs)
        return;
    loop_timer_free(j->timer);
    job_txn_unref(j->txn);
    error_clear(&j->err);
    g_ptr_array_free(j->nodes, TRUE);
    g_free(j->id);
    g_free(j);
}

void job_use_node(struct job *j, struct block_node *n)
{
    node_ref(n);
    g_ptr_array_add(j->nodes, n);
}

void job_drop_nodes(struct job *j)
{
    while (j->nodes->len) {
        struct block_node *n = g_ptr_array_steal_index(j->nodes, j->nodes->len - 1);

        node_unref(n);
    }
}

static void job_remove(struct job *j)
{
    status_set(j, JOB_NULL);
    g_ptr_array_remove(j->graph->jobs, j);
    g_ptr_array_remove(j->txn->jobs, j);
    job_unref(j);
}

void job_discard(struct job *j)
{
    job_drop_nodes(j);
    job_remove(j);
}

unsigned jobs_references(struct block_graph *g, const struct block_node *n)
{
    unsigned count = 0;

    for (unsigned i = 0; i < g->jobs->len; i++) {
        const struct job *j = g_ptr_array_index(g->jobs, i);

        for (unsigned k = 0; k < j->nodes->len; k++)
            count += g_ptr_array_index(j->nodes, k) == n;
    }
    return count;
}

bool job_on_node(struct block_graph *g, const struct block_node *n, struct error *err)
{
    for (unsigned i = 0; i < g->jobs->len; i++) {
        const struct job *j = g_ptr_array_index(g->jobs, i);

        if (g_ptr_array_find(j->nodes, n, NULL)) {
            error_setf(err, ERR_GENERIC, "wait for the job, or cancel it", "Node '%s' is busy: block device is in use by block job: %s", n->name,
                       j->drv->type);
            return true;
        }
    }
    return false;
}

struct job_txn *job_txn_new(void)
{
    struct job_txn *t = g_new0(struct job_txn, 1);

    t->refs = 1;
    t->jobs = g_ptr_array_new();
    return t;
}

void job_txn_unref(struct job_txn *t)
{
    if (!t || --t->refs)
        return;
    g_ptr_array_free(t->jobs, TRUE);
    g_free(t);
}

/* ---- the end: waiting for the others of the transaction, then together */

static void job_conclude(struct job *j)
{
    if (j->drv->clean)
        j->drv->clean(j);
    job_drop_nodes(j);
    if (j->cancelled && j->ret == -ECANCELED)
        block_event(j, "BLOCK_JOB_CANCELLED");
    else
        block_event(j, "BLOCK_JOB_COMPLETED");
    status_set(j, JOB_CONCLUDED);
    if (j->auto_dismiss)
        job_remove(j);
}

static void job_fail(struct job *j, int ret)
{
    if (!j->ret)
        j->ret = ret;
    if (j->ret < 0 && !j->err.msg && j->ret != -ECANCELED)
        error_set(&j->err, ERR_GENERIC, g_strerror(-j->ret), NULL);
}

/* Those that still run are told to stop, and the last to stop ends all. */
static void txn_abort(struct job_txn *t)
{
    g_autoptr(GPtrArray) jobs = g_ptr_array_copy(t->jobs, NULL, NULL);
    bool all = true;

    t->aborting = true;
    for (unsigned i = 0; i < jobs->len; i++) {
        struct job *j = g_ptr_array_index(jobs, i);

        if (j->done)
            continue;
        j->cancelled = j->force_cancelled = true;
        j->done = !j->started;                  /* it will never run */
        job_wake(j);
    }
    for (unsigned i = 0; i < jobs->len; i++)
        all &= ((struct job *)g_ptr_array_index(jobs, i))->done;
    for (unsigned i = 0; all && i < jobs->len; i++) {
        struct job *j = g_ptr_array_index(jobs, i);

        if (j->status == JOB_CONCLUDED)
            continue;
        if (!j->ret)
            j->cancelled = true;
        job_fail(j, -ECANCELED);
        status_set(j, JOB_ABORTING);
        if (j->drv->abort)
            j->drv->abort(j);
        job_conclude(j);
    }
}

static bool txn_prepare(struct job_txn *t)
{
    for (unsigned i = 0; i < t->jobs->len; i++) {
        struct job *j = g_ptr_array_index(t->jobs, i);

        if (j->drv->prepare && !j->drv->prepare(j, &j->err)) {
            job_fail(j, -EIO);
            return false;
        }
    }
    return true;
}

static void txn_finalize(struct job_txn *t)
{
    g_autoptr(GPtrArray) jobs = g_ptr_array_copy(t->jobs, NULL, NULL);

    for (unsigned i = 0; i < jobs->len; i++) {
        struct job *j = g_ptr_array_index(jobs, i);

        if (j->finalizing)
            return;
        j->finalizing = true;
    }
    t->refs++;
    if (!txn_prepare(t)) {
        txn_abort(t);
    } else {
        for (unsigned i = 0; i < jobs->len; i++) {
            struct job *j = g_ptr_array_index(jobs, i);

            if (j->drv->commit)
                j->drv->commit(j);
            job_conclude(j);
        }
    }
    job_txn_unref(t);
}

static void txn_job_done(struct job *j)
{
    struct job_txn *t = j->txn;
    bool auto_finalize = true;

    if (j->ret < 0 || t->aborting) {
        status_set(j, JOB_ABORTING);
        txn_abort(t);
        return;
    }
    status_set(j, JOB_WAITING);
    for (unsigned i = 0; i < t->jobs->len; i++)
        if (!((struct job *)g_ptr_array_index(t->jobs, i))->done)
            return;
    for (unsigned i = 0; i < t->jobs->len; i++) {
        struct job *k = g_ptr_array_index(t->jobs, i);

        status_set(k, JOB_PENDING);
        pending_event(k);
        auto_finalize &= k->auto_finalize;
    }
    if (auto_finalize)
        txn_finalize(t);
}

/* ---- running */

static void job_ended(void *arg)
{
    struct job *j = arg;

    j->done = true;
    j->busy = false;
    if (j->force_cancelled && !j->ret)
        j->ret = -ECANCELED;
    job_fail(j, j->ret);
    txn_job_done(j);
    job_unref(j);
}

static void job_co(void *arg)
{
    struct job *j = arg;

    j->co = coroutine_self();
    job_pause_point(j);
    j->ret = job_cancelled(j) ? -ECANCELED : j->drv->run(j, &j->err);
    if (j->ret >= 0 && error_is_set(&j->err))
        j->ret = -EIO;
    if (job_cancelled(j))
        j->ret = -ECANCELED;
    if (j->ret > 0)
        j->ret = 0;
    j->co = NULL;
    graph_defer(j->graph, job_ended, j);
}

static void job_begin(void *arg)
{
    status_set(arg, JOB_RUNNING);
    coroutine_start(job_co, arg);
}

/* The coroutine starts from the loop: the answer to the command that made the job goes out first. */
void job_start(struct job *j)
{
    if (j->started || j->done)
        return;
    j->started = true;
    j->busy = true;
    j->refs++;
    graph_defer(j->graph, job_begin, j);
}

bool job_cancelled(const struct job *j)
{
    return j->force_cancelled;
}

void job_wait(struct job *j)
{
    j->waiting = true;
    j->busy = false;
    coroutine_yield();
    j->waiting = false;
    j->busy = true;
}

static void job_wake_run(void *arg)
{
    struct job *j = arg;

    if (j->waiting && j->co) {
        j->waiting = false;
        coroutine_wake(j->co);
    }
    job_unref(j);
}

/* Always by the loop: whoever wakes may be in a coroutine, or in the middle of a command. */
void job_wake(struct job *j)
{
    if (!j->waiting)
        return;
    j->refs++;
    loop_post(j->graph->loop, job_wake_run, j);
}

void job_sleep(struct job *j, int64_t ns)
{
    if (job_cancelled(j) || ns <= 0)
        return;
    loop_timer_set(j->timer, host_clock_ns() + ns);
    job_wait(j);
    loop_timer_cancel(j->timer);
}

void job_pause_point(struct job *j)
{
    enum job_status before = j->status;

    while (j->pause_count && !job_cancelled(j)) {
        status_set(j, before == JOB_READY || before == JOB_STANDBY ? JOB_STANDBY : JOB_PAUSED);
        job_wait(j);
    }
    if (j->status != before)
        status_set(j, before);
}

uint64_t job_rate_chunk(const struct job *j, uint64_t max)
{
    uint64_t tenth = j->speed / 10;

    return j->speed && tenth < max ? MAX(tenth & ~65535ull, 65536) : max;
}

/* A pause point, too: work that is never limited still lets the loop breathe, as it waits for its requests. */
void job_rate(struct job *j, uint64_t bytes)
{
    int64_t now = host_clock_ns();

    if (!j->speed)
        return;
    j->rate_next_ns = MAX(j->rate_next_ns, now) + (int64_t)MIN(bytes * 1e9 / j->speed, 3600e9);
    while (j->speed && !job_cancelled(j) && !j->pause_count && j->rate_next_ns > host_clock_ns() + 1000000)
        job_sleep(j, j->rate_next_ns - host_clock_ns());
}

void job_ready(struct job *j)
{
    status_set(j, JOB_READY);
    block_event(j, "BLOCK_JOB_READY");
}

struct step_call { struct job *j; bool (*fn)(struct job *j, struct error *err); struct error *err; bool ok, done; };

static void step_run(void *arg)
{
    struct step_call *c = arg;

    c->ok = c->fn(c->j, c->err);
    c->done = true;
    job_wake(c->j);
}

bool job_step(struct job *j, bool (*fn)(struct job *j, struct error *err), struct error *err)
{
    struct step_call c = { .j = j, .fn = fn, .err = err };

    graph_defer(j->graph, step_run, &c);
    while (!c.done)
        job_wait(j);
    return c.ok;
}

/* ---- errors of the host */

static enum job_error_policy policy_resolve(enum job_error_policy p, int err)
{
    if (p == JOB_ON_ERROR_AUTO || p == JOB_ON_ERROR_ENOSPC)
        return err == -ENOSPC ? JOB_ON_ERROR_STOP : JOB_ON_ERROR_REPORT;
    return p;
}

enum job_error_answer job_error(struct job *j, enum job_error_policy policy, bool read, int err)
{
    static const char *const actions[] = { [JOB_ON_ERROR_REPORT] = "report", [JOB_ON_ERROR_IGNORE] = "ignore", [JOB_ON_ERROR_STOP] = "stop" };
    enum job_error_policy p = policy_resolve(policy, err);
    struct json_object *o = json_object_new_object();

    put_str(o, "device", j->id);
    put_str(o, "operation", read ? "read" : "write");
    put_str(o, "action", actions[p]);
    event_send(j, "BLOCK_JOB_ERROR", o);
    if (p == JOB_ON_ERROR_STOP) {
        j->io_status = err == -ENOSPC ? JOB_IO_NOSPACE : JOB_IO_FAILED;
        if (!j->user_paused) {
            j->user_paused = true;
            j->pause_count++;
        }
        job_pause_point(j);
    } else if (p == JOB_ON_ERROR_IGNORE) {
        job_sleep(j, 100000000);                /* a disk that fails is not asked without a pause */
    }
    return p == JOB_ON_ERROR_STOP ? JOB_RETRY : p == JOB_ON_ERROR_IGNORE ? JOB_SKIP : JOB_FAIL;
}

/* ---- commands */

struct job *job_find(struct block_graph *g, const char *id, struct error *err)
{
    struct job *j = job_lookup(g, id);

    if (!j)
        error_set(err, ERR_GENERIC, "Job not found", "query-jobs lists them");
    return j;
}

struct job *job_find_block(struct block_graph *g, const char *id, struct error *err)
{
    struct job *j = job_lookup(g, id);

    if (j && j->drv->block)
        return j;
    error_setf(err, ERR_DEVICE_NOT_ACTIVE, "query-block-jobs lists them", "Block job '%s' not found", id);
    return NULL;
}

bool job_user_pause(struct job *j, struct error *err)
{
    if (!job_allows(j, VERB_PAUSE, err))
        return false;
    if (j->user_paused)
        return error_setf(err, ERR_GENERIC, NULL, "Job is already paused");
    j->user_paused = true;
    j->pause_count++;
    job_wake(j);
    return true;
}

bool job_user_resume(struct job *j, struct error *err)
{
    if (!j->user_paused)
        return error_setf(err, ERR_GENERIC, NULL, "Can't resume a job that was not paused");
    if (!job_allows(j, VERB_RESUME, err))
        return false;
    j->user_paused = false;
    j->io_status = JOB_IO_OK;
    j->pause_count--;
    job_wake(j);
    return true;
}

bool job_set_speed(struct job *j, int64_t speed, struct error *err)
{
    if (!job_allows(j, VERB_SPEED, err))
        return false;
    if (speed < 0)
        return error_set(err, ERR_GENERIC, "Parameter 'speed' expects a non-negative value", NULL);
    j->speed = speed;
    j->rate_next_ns = 0;
    job_wake(j);
    return true;
}

static void cancel(struct job *j, bool force)
{
    if (!force && j->drv->cancel_is_end && j->drv->cancel_is_end(j)) {
        j->cancelled = true;
    } else {
        j->cancelled = j->force_cancelled = true;
    }
    if (j->user_paused) {       /* it goes on to its end */
        j->user_paused = false;
        j->pause_count--;
    }
    if (!j->started || j->done)
        txn_abort(j->txn);
    else
        job_wake(j);
}

bool job_user_cancel(struct job *j, bool force, struct error *err)
{
    if (!job_allows(j, VERB_CANCEL, err))
        return false;
    if (j->finalizing)
        return error_setf(err, ERR_GENERIC, NULL, "Job '%s' is being finalized", j->id);
    cancel(j, force);
    return true;
}

bool job_user_complete(struct job *j, struct error *err)
{
    if (!job_allows(j, VERB_COMPLETE, err))
        return false;
    if (j->cancelled || !j->drv->complete)
        return error_setf(err, ERR_GENERIC, NULL, "The active block job '%s' cannot be completed", j->id);
    if (!j->drv->complete(j, err))
        return false;
    if (j->user_paused)
        return true;
    job_wake(j);
    return true;
}

bool job_finalize(struct job *j, struct error *err)
{
    if (!job_allows(j, VERB_FINALIZE, err) || graph_busy(j->graph, err))
        return false;
    txn_finalize(j->txn);
    return true;
}

bool job_dismiss(struct job *j, struct error *err)
{
    if (!job_allows(j, VERB_DISMISS, err))
        return false;
    job_remove(j);
    return true;
}

void jobs_end(struct block_graph *g)
{
    while (g->jobs->len) {
        struct job *j = g_ptr_array_index(g->jobs, 0);

        if (j->status == JOB_CONCLUDED) {
            job_remove(j);
            continue;
        }
        if (!j->force_cancelled)
            cancel(j, true);
        if (g->jobs->len && g_ptr_array_index(g->jobs, 0) == j && j->status != JOB_CONCLUDED)
            loop_step(g->loop, true);
    }
}

/* ---- queries */

static struct json_object *job_info(struct job *j)
{
    struct json_object *o = json_object_new_object();

    put_int(o, "current-progress", j->progress);
    put_str(o, "status", status_names[j->status]);
    put_int(o, "total-progress", j->total);
    put_str(o, "type", j->drv->type);
    put_str(o, "id", j->id);
    if (j->err.msg)
        put_str(o, "error", j->err.msg);
    return o;
}

static struct json_object *block_job_info(struct job *j)
{
    static const char *const io_status[] = { "ok", "failed", "nospace" };
    struct json_object *o = json_object_new_object();

    put_bool(o, "auto-finalize", j->auto_finalize);
    put_str(o, "io-status", io_status[j->io_status]);
    put_str(o, "device", j->id);
    put_bool(o, "auto-dismiss", j->auto_dismiss);
    put_bool(o, "busy", j->busy);
    put_int(o, "len", j->total);
    put_int(o, "offset", j->progress);
    put_str(o, "status", status_names[j->status]);
    put_bool(o, "paused", j->pause_count > 0);
    put_int(o, "speed", j->speed);
    put_bool(o, "ready", j->status == JOB_READY || j->status == JOB_STANDBY);
    put_str(o, "type", j->drv->type);
    if (j->drv->query)
        j->drv->query(j, o);
    if (j->err.msg)
        put_str(o, "error", j->err.msg);
    return o;
}

struct json_object *jobs_query(struct block_graph *g, bool block)
{
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < g->jobs->len; i++) {
        struct job *j = g_ptr_array_index(g->jobs, i);

        if (j->drv->measure)
            j->drv->measure(j);
        if (!block || j->drv->block)
            json_object_array_add(list, block ? block_job_info(j) : job_info(j));
    }
    return list;
}
