/* blkdebug: makes requests fail as rules say, and asks for coarser requests than the image below: for tests. */
#include <errno.h>
#include <string.h>
#include "block/filter/filter.h"
#include "rhea/base/options.h"

/* Those of the protocol's events that this layer sees; the ones inside image formats are not raised. */
static const char *const events[] = { "none", "read_aio", "write_aio", "flush_to_disk", "flush_to_os", "pwritev", "pwritev_zero", NULL };
/* What a request raises, as bits; 0: nothing, or of a rule, anything. */
enum { EV_READ = 1 << 1, EV_WRITE = 1 << 2, EV_FLUSH_DISK = 1 << 3, EV_FLUSH_OS = 1 << 4, EV_PWRITEV = 1 << 5, EV_ZERO = 1 << 6 };
static const char *const io_types[] = { "read", "write", "write-zeroes", "discard", "flush", "block-status", NULL };
enum { DELAY_MAX = 1000000000 };
enum io { IO_READ, IO_WRITE, IO_ZERO, IO_DISCARD, IO_FLUSH, IO_STATUS, IO_ANY = -1 };

struct rule {
    int event, iotype, errnum, state, new_state;        /* state 0: any; new_state != 0: a set-state rule */
    int64_t sector;             /* -1: any */
    int64_t delay_ns;           /* before it fails, or (errno 0) goes on */
    bool once, spent;
};

struct blkdebug { GArray *rules; int state; };

static const char *const blkdebug_options[] = { "image", "config", "align", "max-transfer", "inject-error", "set-state",
                                                NULL };
static const char *const rule_options[] = { "event", "state", "iotype", "errno", "sector", "once", "immediately", "new_state", "delay-ns",
                                            NULL };

static bool word_index(struct json_object *o, const char *key, const char *const *words, int *out, struct error *err)
{
    const char *word = option_str(o, key, NULL);
    g_autofree char *list = g_strjoinv(", ", (char **)words), *hint = g_strdup_printf("there are: %s", list);

    for (int i = 0; word && words[i]; i++) {
        if (!strcmp(words[i], word)) {
            *out = i;
            return true;
        }
    }
    return !word || error_setf(err, ERR_GENERIC, hint, "blkdebug does not know %s '%s'", key, word);
}

static bool rule_take(struct blkdebug *s, struct json_object *o, bool set_state, struct error *err)
{
    struct rule r = { .iotype = IO_ANY };
    int64_t errnum, state, new_state;

    if (!options_check(o, rule_options, "rule of blkdebug", err) || !word_index(o, "event", events, &r.event, err) ||
        !word_index(o, "iotype", io_types, &r.iotype, err) || !option_int(o, "errno", EIO, &errnum, err) ||
        !option_int(o, "sector", -1, &r.sector, err) || !option_int(o, "state", 0, &state, err) ||
        !option_int(o, "new_state", 0, &new_state, err) || !option_int(o, "delay-ns", 0, &r.delay_ns, err) || !option_bool(o, "once", false, &r.once, err))
        return false;
    if (errnum < 0 || errnum > 4095 || r.delay_ns < 0 || r.delay_ns > DELAY_MAX || (set_state && new_state < 1))
        return error_set(err, ERR_GENERIC, "errno, delay-ns or new_state of a blkdebug rule is out of range", NULL);
    r.errnum = errnum;
    r.state = state;
    r.new_state = set_state ? new_state : 0;
    g_array_append_val(s->rules, r);
    return true;
}

static bool rules_take(struct blkdebug *s, struct json_object *opts, const char *key, bool set_state, struct error *err)
{
    struct json_object *list = NULL;

    json_object_object_get_ex(opts, key, &list);
    if (list && !json_object_is_type(list, json_type_array))
        return error_setf(err, ERR_GENERIC, "write inject-error.0.event=...", "%s is a list", key);
    for (size_t i = 0; list && i < json_object_array_length(list); i++)
        if (!rule_take(s, json_object_array_get_idx(list, i), set_state, err))
            return false;
    return true;
}

static bool blkdebug_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct blkdebug *s = n->state;
    uint64_t align, max;

    s->rules = g_array_new(false, false, sizeof(struct rule));
    s->state = 1;
    if (option_str(opts, "config", NULL))
        return error_set(err, ERR_GENERIC, "blkdebug reads no configuration files", "give inject-error.0.event=... and so on");
    if (!filter_open(n, opts, "image", err) || !rules_take(s, opts, "inject-error", false, err) ||
        !rules_take(s, opts, "set-state", true, err) || !option_size(opts, "align", n->limits.align, &align, err) ||
        !option_size(opts, "max-transfer", n->limits.max_transfer, &max, err))
        return false;
    if (!align || (align & (align - 1)) || align > 64 << 20 || max % align || max > INT32_MAX)
        return error_set(err, ERR_GENERIC, "align is a power of 2, and max-transfer a multiple of it", NULL);
    n->limits.align = MAX(align, n->limits.align);
    n->limits.max_transfer = max;
    return true;
}

static void blkdebug_close(struct block_node *n)
{
    g_array_free(((struct blkdebug *)n->state)->rules, TRUE);
}

/* The error that a rule has for the request, or 0. Rules that change the state come after. */
static int judge(struct block_node *n, unsigned raised, enum io io, uint64_t off, uint64_t bytes)
{
    struct blkdebug *s = n->state;
    int ret = 0, state = s->state;
    int64_t delay = 0;

    for (unsigned i = 0; i < s->rules->len; i++) {
        struct rule *r = &g_array_index(s->rules, struct rule, i);
        uint64_t at = r->sector * 512ull;

        if (r->spent || (r->event && !(raised >> r->event & 1)) || (r->state && r->state != state) ||
            (r->iotype != IO_ANY && r->iotype != (int)io) || (!r->event && r->iotype == IO_ANY && io == IO_STATUS) ||
            (r->sector >= 0 && (at + 512 <= off || at >= off + bytes)))
            continue;
        if (r->new_state) {
            s->state = r->new_state;
            continue;
        }
        r->spent = r->once;
        ret = ret ? ret : -r->errnum;
        delay = MAX(delay, r->delay_ns);
    }
    if (delay)
        coroutine_sleep_ns(delay);
    return ret;
}

static int blkdebug_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    int ret = judge(n, EV_READ, IO_READ, off, bytes);

    return ret ? ret : filter_preadv(n, off, bytes, iov, niov);
}

static int blkdebug_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    int ret = judge(n, EV_WRITE | EV_PWRITEV, IO_WRITE, off, bytes);

    return ret ? ret : filter_pwritev(n, off, bytes, iov, niov);
}

static int blkdebug_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    int ret = judge(n, EV_WRITE | EV_ZERO, IO_ZERO, off, bytes);

    return ret ? ret : filter_write_zeroes(n, off, bytes, flags);
}

static int blkdebug_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    int ret = judge(n, EV_WRITE, IO_DISCARD, off, bytes);

    return ret ? ret : filter_discard(n, off, bytes);
}

static int blkdebug_flush(struct block_node *n)
{
    int ret = judge(n, EV_FLUSH_DISK | EV_FLUSH_OS, IO_FLUSH, 0, UINT64_MAX / 2);

    return ret ? ret : node_flush(n->file);
}

static int blkdebug_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                           struct block_node **file)
{
    int ret = judge(n, 0, IO_STATUS, off, bytes);

    return ret ? ret : filter_status(n, off, bytes, n_bytes, map, file);
}

BLOCK_DRIVER = {
    .name = "blkdebug",
    .summary = "makes requests fail as rules say",
    .kind = DRIVER_FILTER,
    .size = sizeof(struct blkdebug),
    .growable = true,           /* if the child is: it says no otherwise */
    .options = blkdebug_options,
    .open = blkdebug_open,
    .close = blkdebug_close,
    .preadv = blkdebug_preadv,
    .pwritev = blkdebug_pwritev,
    .write_zeroes = blkdebug_write_zeroes,
    .discard = blkdebug_discard,
    .flush = blkdebug_flush,
    .block_status = blkdebug_status,
    .truncate = filter_truncate,
    .allocated_size = filter_allocated_size,
};
