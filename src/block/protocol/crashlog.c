/* crashlog: passes everything on to `file`, and records writes and flushes in a log, for tests that ask what a loss of
 * power would leave. A record: what (crashlog.h), offset, length (8 bytes each, host order), then for writes the data. A
 * write is recorded when it ends, a flush when it begins: what was recorded before it is what it makes durable. Several
 * nodes (of one process or of many) share a log with append=on, each with an id, so that its order is that of all. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>
#include <glib.h>
#include "block/protocol/crashlog.h"
#include "rhea/base/options.h"
#include "rhea/block/node.h"

struct crashlog {
    int fd;
    uint64_t id;
    struct co_mutex lock;
};

static const char *const crashlog_options[] = { "file", "log", "id", "append", NULL };

static bool crashlog_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct crashlog *s = n->state;
    const char *log = option_str(opts, "log", NULL);
    int64_t id;
    bool append;

    s->fd = -1;
    co_mutex_init(&s->lock);
    n->file = node_open_child(n, opts, "file", err);
    if (!n->file)
        return false;
    if (!log)
        return error_set(err, ERR_GENERIC, "crashlog needs log=FILE", NULL);
    if (!option_int(opts, "id", 0, &id, err) || !option_bool(opts, "append", false, &append, err))
        return false;
    if (id < 0 || id >= CRASHLOG_IDS)
        return error_set(err, ERR_GENERIC, "crashlog's id is from 0 to 255", NULL);
    s->id = id;
    s->fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (append ? 0 : O_TRUNC), 0600);
    if (s->fd < 0)
        return error_set_errno(err, errno, NULL, "cannot make '%s'", log);
    n->size = n->file->size;
    n->limits = n->file->limits;
    n->zero_past_end = n->file->zero_past_end;
    return true;
}

static void crashlog_close(struct block_node *n)
{
    struct crashlog *s = n->state;

    if (s->fd >= 0)
        close(s->fd);
}

/* Tests only: blocking writes of the log are no matter. */
static int record(struct crashlog *s, enum crashlog_type type, uint64_t off, uint64_t bytes, const struct iovec *iov,
                  int niov)
{
    uint64_t head[3] = { type | s->id << CRASHLOG_ID_SHIFT, off, bytes };
    uint64_t len = iov_bytes(iov, niov);
    g_autofree uint8_t *data = g_malloc(sizeof(head) + len);
    ssize_t done;

    memcpy(data, head, sizeof(head));
    iov_read(iov, niov, 0, data + sizeof(head), len);
    co_mutex_lock(&s->lock);
    done = write(s->fd, data, sizeof(head) + len);
    co_mutex_unlock(&s->lock);
    return done == (ssize_t)(sizeof(head) + len) ? 0 : -EIO;
}

static int crashlog_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    return node_preadv(n->file, off, bytes, iov, niov);
}

static int crashlog_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    int ret = node_pwritev(n->file, off, bytes, iov, niov, 0);

    return ret ? ret : record(n->state, CRASHLOG_WRITE, off, bytes, iov, niov);
}

static int crashlog_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    int ret = node_write_zeroes(n->file, off, bytes, flags);

    return ret ? ret : record(n->state, CRASHLOG_ZERO, off, bytes, NULL, 0);
}

static int crashlog_flush(struct block_node *n)
{
    int ret = record(n->state, CRASHLOG_FLUSH, 0, 0, NULL, 0);

    return ret ? ret : node_flush(n->file);
}

BLOCK_DRIVER = {
    .name = "crashlog",
    .summary = "records writes and flushes, to replay losses of power",
    .kind = DRIVER_PROTOCOL,
    .size = sizeof(struct crashlog),
    .growable = true,
    .options = crashlog_options,
    .open = crashlog_open,
    .close = crashlog_close,
    .preadv = crashlog_preadv,
    .pwritev = crashlog_pwritev,
    .write_zeroes = crashlog_write_zeroes,
    .flush = crashlog_flush,
};
