/* quorum: several images that hold the same. Writes go to all; what is read must be the same in as many as
 * vote-threshold says, and read-pattern=fifo asks them one after another. blkverify: two images, of which `raw` is right,
 * and a read that differs fails. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "block/filter/filter.h"
#include "block/graph.h"
#include "rhea/base/log.h"
#include "rhea/base/options.h"
#include "rhea/vm/vm.h"

enum { CHILDREN_MAX = 32 };

struct quorum {
    struct block_node *children[CHILDREN_MAX];
    unsigned numbers[CHILDREN_MAX];     /* "children.N"; a number is never given again */
    unsigned count, threshold, next;
    bool fifo, rewrite, verify;
    atomic_int_fast64_t told_ns[CHILDREN_MAX + 1];      /* when an event last told of each; of the vote itself */
};

static const char *const quorum_options[] = { "children", "vote-threshold", "blkverify", "rewrite-corrupted", "read-pattern",
                                              NULL };
static const char *const blkverify_options[] = { "test", "raw", NULL };

/* ---- opening */

static bool child_add(struct block_node *n, struct json_object *opts, const char *role, struct error *err)
{
    struct quorum *s = n->state;
    struct block_node *c = filter_child(n, opts, role, err);

    if (!c)
        return false;
    s->numbers[s->count] = s->next++;
    s->children[s->count++] = c;
    n->limits.align = MAX(n->limits.align, c->limits.align);
    n->limits.mem_align = MAX(n->limits.mem_align, c->limits.mem_align);
    if (s->count > 1 && c->size != n->size)
        return error_set(err, ERR_GENERIC, "the images differ in size", "make them alike first");
    n->size = c->size;
    return true;
}

static bool children_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct json_object *list = NULL;
    size_t count;

    json_object_object_get_ex(opts, "children", &list);
    count = list && json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    if (count < 1 || count > CHILDREN_MAX)
        return error_setf(err, ERR_GENERIC, "children.0.driver=..., children.1.driver=...",
                          "Number of provided children must be 1 or more, and %d at most", CHILDREN_MAX);
    for (size_t i = 0; i < count; i++) {
        g_autofree char *role = g_strdup_printf("children.%zu", i);
        struct json_object *one = json_object_new_object();
        bool ok;

        json_object_object_add(one, role, json_object_get(json_object_array_get_idx(list, i)));
        ok = child_add(n, one, role, err);
        json_object_put(one);
        if (!ok)
            return false;
    }
    return true;
}

static bool quorum_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct quorum *s = n->state;
    const char *pattern = option_str(opts, "read-pattern", "quorum");
    int64_t threshold;

    if (!children_open(n, opts, err) || !option_int(opts, "vote-threshold", 0, &threshold, err) ||
        !option_bool(opts, "blkverify", false, &s->verify, err) || !option_bool(opts, "rewrite-corrupted", false, &s->rewrite, err))
        return false;
    s->fifo = !strcmp(pattern, "fifo");
    if (!s->fifo && strcmp(pattern, "quorum"))
        return error_setf(err, ERR_GENERIC, "it is quorum or fifo", "unknown read-pattern '%s'", pattern);
    if (threshold < 1 || threshold > s->count)
        return error_setf(err, ERR_GENERIC, NULL, "threshold may not exceed children count, nor be less than 1");
    if (s->verify && (s->count != 2 || threshold != 2 || s->rewrite))
        return error_set(err, ERR_GENERIC, "blkverify=on can only be set if there are exactly two files and vote-threshold is 2",
                         NULL);
    s->threshold = threshold;
    return true;
}

static bool blkverify_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct quorum *s = n->state;

    s->threshold = 2;
    s->verify = true;
    return child_add(n, opts, "raw", err) && child_add(n, opts, "test", err);
}

static void quorum_close(struct block_node *n)
{
    struct quorum *s = n->state;

    for (unsigned i = 0; i < s->count; i++)
        filter_child_close(n, s->children[i]);
}

/* ---- more of them, or fewer */

static struct block_node *quorum_child(struct block_node *n, unsigned i)
{
    struct quorum *s = n->state;

    return i < s->count ? s->children[i] : NULL;
}

static bool quorum_child_add(struct block_node *n, struct block_node *child, struct error *err)
{
    struct quorum *s = n->state;
    struct json_object *one, *list = NULL;
    bool ok;

    if (s->verify)
        return error_set(err, ERR_GENERIC, "Cannot add a child to a quorum in blkverify mode", NULL);
    if (s->count == CHILDREN_MAX || s->next == UINT_MAX)
        return error_set(err, ERR_GENERIC, "Too many children", NULL);
    if (child->size != n->size)
        return error_set(err, ERR_GENERIC, "the images differ in size", "make them alike first");
    if (child->read_only && !n->read_only)
        return error_setf(err, ERR_GENERIC, "blockdev-reopen it", "Block node is read-only: '%s'", child->name);
    one = json_object_new_object();
    json_object_object_add(one, "child", json_object_new_string(child->name));
    ok = child_add(n, one, "child", err);
    if (ok && json_object_object_get_ex(n->opts, "children", &list))
        json_object_array_add(list, json_object_new_string(child->name));
    json_object_put(one);
    return ok;
}

static bool quorum_child_remove(struct block_node *n, const char *role, struct error *err)
{
    struct quorum *s = n->state;
    struct json_object *list = NULL;
    unsigned i;

    for (i = 0; i < s->count; i++) {
        g_autofree char *name = g_strdup_printf("children.%u", s->numbers[i]);

        if (!strcmp(name, role))
            break;
    }
    if (i == s->count)
        return error_setf(err, ERR_GENERIC, NULL, "Node '%s' does not have child '%s'", n->name, role);
    if (s->count <= s->threshold)
        return error_setf(err, ERR_GENERIC, NULL, "The number of children cannot be lower than the vote threshold %u", s->threshold);
    filter_child_close(n, s->children[i]);
    s->count--;
    memmove(s->children + i, s->children + i + 1, (s->count - i) * sizeof(s->children[0]));
    memmove(s->numbers + i, s->numbers + i + 1, (s->count - i) * sizeof(s->numbers[0]));
    if (json_object_object_get_ex(n->opts, "children", &list))
        json_object_array_del_idx(list, i, 1);
    return true;
}

/* ---- what is told of images that fail or differ, once a second for each */

enum { FAILURE = CHILDREN_MAX };

/* type NULL: not enough agreed. */
static void tell(struct block_node *n, unsigned i, const char *type, int ret, uint64_t off, uint64_t bytes)
{
    struct quorum *s = n->state;
    int64_t now = host_clock_ns(), last = atomic_load(&s->told_ns[i]);
    struct json_object *o;

    if (!n->graph->vm || (last && now - last < 1000000000) || !atomic_compare_exchange_strong(&s->told_ns[i], &last, now))
        return;
    o = json_object_new_object();
    if (type)
        json_object_object_add(o, "type", json_object_new_string(type));
    if (type && ret)
        json_object_object_add(o, "error", json_object_new_string(g_strerror(-ret)));
    json_object_object_add(o, type ? "node-name" : "reference", json_object_new_string(type ? s->children[i]->name : n->name));
    json_object_object_add(o, "sector-num", json_object_new_uint64(off / 512));
    json_object_object_add(o, "sectors-count", json_object_new_uint64((off + bytes + 511) / 512 - off / 512));
    vm_event(n->graph->vm, type ? "QUORUM_REPORT_BAD" : "QUORUM_FAILURE", o);
}

/* ---- reading */

static unsigned votes_for(struct quorum *s, uint8_t *const *bufs, const int *rets, unsigned i, uint64_t bytes)
{
    unsigned votes = 0;

    for (unsigned k = 0; k < s->count; k++)
        votes += !rets[k] && !memcmp(bufs[i], bufs[k], bytes);
    return votes;
}

/* Index of the contents that enough agree on, or -errno. */
static int vote(struct block_node *n, uint8_t *const *bufs, const int *rets, uint64_t off, uint64_t bytes)
{
    struct quorum *s = n->state;
    unsigned best = 0, most = 0, good = 0;

    for (unsigned i = 0; i < s->count; i++) {
        unsigned votes = rets[i] ? 0 : votes_for(s, bufs, rets, i, bytes);

        good += !rets[i];
        if (votes > most) {
            most = votes;
            best = i;
        }
    }
    if (most >= s->threshold)
        return best;
    if (s->verify && good == 2)
        warn_report("%s: the images differ between %" PRIu64 " and %" PRIu64, n->name, off, off + bytes);
    return good < s->threshold && rets[0] ? rets[0] : -EIO;
}

static int mend(struct block_node *n, uint8_t *const *bufs, const int *rets, unsigned right, uint64_t off, uint64_t bytes)
{
    struct quorum *s = n->state;
    int ret = 0;

    for (unsigned i = 0; i < s->count && s->rewrite && !n->read_only && !ret; i++)
        if (rets[i] || memcmp(bufs[right], bufs[i], bytes))
            ret = node_pwrite(s->children[i], off, bufs[right], bytes);
    return ret;
}

static int read_vote(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov, uint64_t skip)
{
    struct quorum *s = n->state;
    uint8_t *bufs[CHILDREN_MAX] = { 0 };
    int rets[CHILDREN_MAX], winner;

    for (unsigned i = 0; i < s->count; i++) {
        bufs[i] = node_buffer(n, bytes);
        rets[i] = bufs[i] ? node_pread(s->children[i], off, bufs[i], bytes) : -ENOMEM;
    }
    winner = vote(n, bufs, rets, off, bytes);
    for (unsigned i = 0; i < s->count; i++)
        if (rets[i] || (winner >= 0 && memcmp(bufs[winner], bufs[i], bytes)))
            tell(n, i, "read", rets[i], off, bytes);
    if (winner < 0)
        tell(n, FAILURE, NULL, 0, off, bytes);
    if (winner >= 0) {
        iov_write(iov, niov, skip, bufs[winner], bytes);
        mend(n, bufs, rets, winner, off, bytes);
    }
    for (unsigned i = 0; i < s->count; i++)
        free(bufs[i]);
    return MIN(winner, 0);
}

static int quorum_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    enum { CHUNK = 1 << 20 };
    struct quorum *s = n->state;
    int ret = -EIO;

    if (s->fifo) {
        for (unsigned i = 0; i < s->count && ret; i++) {
            ret = node_preadv(s->children[i], off, bytes, iov, niov);
            if (ret)
                tell(n, i, "read", ret, off, bytes);
        }
        return ret;
    }
    ret = 0;
    for (uint64_t done = 0, k; done < bytes && !ret; done += k) {
        k = MIN(bytes - done, CHUNK);
        ret = read_vote(n, off + done, k, iov, niov, done);
    }
    return ret;
}

/* ---- writing: it succeeds when enough of the images took it; both of blkverify's must */

struct tally {
    struct block_node *n;
    const char *type;
    uint64_t off, bytes;
    unsigned done, good;
    int first;
};

static void tally_add(struct tally *t, int ret)
{
    if (ret)
        tell(t->n, t->done, t->type, ret, t->off, t->bytes);
    t->done++;
    t->good += !ret;
    t->first = t->first ? t->first : ret;
}

static int tally_end(const struct quorum *s, const struct tally *t)
{
    if (t->good >= s->threshold)
        return 0;
    tell(t->n, FAILURE, NULL, 0, t->off, t->bytes);
    return t->first;
}

static int quorum_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct quorum *s = n->state;
    struct tally t = { n, "write", off, bytes, 0, 0, 0 };

    for (unsigned i = 0; i < s->count; i++)
        tally_add(&t, node_pwritev(s->children[i], off, bytes, iov, niov, 0));
    return tally_end(s, &t);
}

static int quorum_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    struct quorum *s = n->state;
    struct tally t = { n, "write", off, bytes, 0, 0, 0 };

    for (unsigned i = 0; i < s->count; i++)
        tally_add(&t, node_write_zeroes(s->children[i], off, bytes, flags & ~BLOCK_MAY_UNMAP));
    return tally_end(s, &t);
}

static int quorum_flush(struct block_node *n)
{
    struct quorum *s = n->state;
    struct tally t = { n, "flush", 0, n->size, 0, 0, 0 };

    for (unsigned i = 0; i < s->count; i++)
        tally_add(&t, node_flush(s->children[i]));
    return tally_end(s, &t);
}

BLOCK_DRIVER = {
    .name = "quorum",
    .summary = "several images that hold the same, read by vote",
    .kind = DRIVER_FILTER,
    .size = sizeof(struct quorum),
    .child = quorum_child,
    .child_add = quorum_child_add,
    .child_remove = quorum_child_remove,
    .options = quorum_options,
    .open = quorum_open,
    .close = quorum_close,
    .preadv = quorum_preadv,
    .pwritev = quorum_pwritev,
    .write_zeroes = quorum_write_zeroes,
    .flush = quorum_flush,
};

BLOCK_DRIVER = {
    .name = "blkverify",
    .summary = "an image beside one that is known to be right; a read that differs fails",
    .kind = DRIVER_FILTER,
    .size = sizeof(struct quorum),
    .child = quorum_child,
    .options = blkverify_options,
    .open = blkverify_open,
    .close = quorum_close,
    .preadv = quorum_preadv,
    .pwritev = quorum_pwritev,
    .write_zeroes = quorum_write_zeroes,
    .flush = quorum_flush,
};
