/* Exports of type vhost-user-blk: the socket, its one front end, and the messages ("Vhost-user Protocol"; numbers as there). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "block/nbd.h"
#include "block/vhost-user.h"
#include "rhea/base/log.h"
#include "rhea/base/options.h"

enum { VERSION = 1, FLAG_REPLY = 4, FLAG_NEED_REPLY = 8, FDS_MAX = 8, PAYLOAD_MAX = 512, LISTED_REGIONS_MAX = 8 };
enum { NO_FD = 1 << 8, INDEX_MASK = 0xff };
enum { PROTOCOL_F_MQ = 0, PROTOCOL_F_REPLY_ACK = 3, PROTOCOL_F_BACKEND_REQ = 5, PROTOCOL_F_CONFIG = 9, PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15 };
static const uint64_t protocol_features = 1ull << PROTOCOL_F_MQ | 1ull << PROTOCOL_F_REPLY_ACK | 1ull << PROTOCOL_F_BACKEND_REQ |
                                          1ull << PROTOCOL_F_CONFIG | 1ull << PROTOCOL_F_CONFIGURE_MEM_SLOTS;
enum message {
    GET_FEATURES = 1, SET_FEATURES = 2, SET_OWNER = 3, RESET_OWNER = 4, SET_MEM_TABLE = 5, SET_VRING_NUM = 8, SET_VRING_ADDR = 9,
    SET_VRING_BASE = 10, GET_VRING_BASE = 11, SET_VRING_KICK = 12, SET_VRING_CALL = 13, SET_VRING_ERR = 14, GET_PROTOCOL_FEATURES = 15,
    SET_PROTOCOL_FEATURES = 16, GET_QUEUE_NUM = 17, SET_VRING_ENABLE = 18, SET_BACKEND_REQ_FD = 21, GET_CONFIG = 24, SET_CONFIG = 25,
    GET_MAX_MEM_SLOTS = 36, ADD_MEM_REG = 37, REM_MEM_REG = 38,
};
enum { BACKEND_CONFIG_CHANGE_MSG = 2 };

struct head { uint32_t request, flags, size; };
struct vring_state { uint32_t index, num; };
struct vring_addr { uint32_t index, flags; uint64_t desc, used, avail, log; };
struct mem_table { uint32_t count, padding; struct vhost_region regions[LISTED_REGIONS_MAX]; };
struct mem_one { uint64_t padding; struct vhost_region region; };
struct device_config { uint32_t offset, size, flags; uint8_t data[VHOST_CONFIG_MAX]; };

struct vhost_connection {
    struct vhost_user *x;
    int fd, backend_fd;
    struct loop_fd *watch;
    struct coroutine *co;
    enum { BUSY, READING, DRAINING } waits;
    bool closing;
    uint64_t protocol;          /* features of it that the front end took */
    struct head head;
    union { uint64_t u64; struct vring_state state; struct vring_addr addr; struct mem_table table; struct mem_one one;
            struct device_config config; uint8_t bytes[PAYLOAD_MAX]; } payload;
    int fds[FDS_MAX];
    unsigned nfds;
};

/* ---- bytes and descriptors */

/* [co] Until connection_wake(c, why). */
static void connection_wait(struct vhost_connection *c, int why)
{
    c->waits = why;
    coroutine_yield();
}

/* Once for each wait: the coroutine may have ended when a second would come. */
static void connection_wake(struct vhost_connection *c, int why)
{
    if (c->waits != why)
        return;
    c->waits = BUSY;
    coroutine_wake(c->co);
}

static void connection_readable(void *arg, unsigned events)
{
    struct vhost_connection *c = arg;

    loop_fd_set(c->watch, 0);
    connection_wake(c, READING);
}

static void take_fds(struct vhost_connection *c, struct msghdr *m)
{
    for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
        unsigned n = h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS ? (h->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;

        for (unsigned i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
            if (c->nfds < FDS_MAX)
                c->fds[c->nfds++] = fd;
            else
                close(fd);
        }
    }
}

static bool receive(struct vhost_connection *c, void *buf, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        union { struct cmsghdr align; char room[CMSG_SPACE(FDS_MAX * sizeof(int))]; } control;
        struct iovec iov = { (char *)buf + done, bytes - done };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room) };
        ssize_t n = c->closing ? 0 : recvmsg(c->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            loop_fd_set(c->watch, LOOP_IN);
            connection_wait(c, READING);
            continue;
        }
        if (n <= 0)
            return false;
        take_fds(c, &m);
        done += n;
    }
    return true;
}

/* Answers are small: a front end that lets them pile up is given up. */
static bool send_all(int fd, const struct head *h, const void *payload)
{
    struct iovec iov[] = { { (void *)h, sizeof(*h) }, { (void *)payload, h->size } };
    struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };

    return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)(sizeof(*h) + h->size);
}

static bool reply(struct vhost_connection *c, const void *payload, uint32_t bytes)
{
    struct head h = { c->head.request, VERSION | FLAG_REPLY, bytes };

    return send_all(c->fd, &h, payload);
}

static bool reply_u64(struct vhost_connection *c, uint64_t v)
{
    return reply(c, &v, sizeof(v));
}

static int take_fd(struct vhost_connection *c)
{
    int fd = -1;

    if (c->nfds) {
        fd = c->fds[0];
        memmove(c->fds, c->fds + 1, --c->nfds * sizeof(int));
    }
    return fd;
}

static void drop_fds(struct vhost_connection *c)
{
    while (c->nfds)
        close(take_fd(c));
}

/* Eventfds only: others could block us, or keep us busy. */
static bool is_eventfd(int fd)
{
    char link[64], path[32];
    ssize_t n;

    g_snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    n = readlink(path, link, sizeof(link) - 1);
    link[MAX(n, 0)] = 0;
    return !strcmp(link, "anon_inode:[eventfd]") && !fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* ---- what messages do; false: the message makes no sense */

static struct vhost_ring *ring_of(struct vhost_connection *c, uint64_t index)
{
    return index < c->x->num_queues ? &c->x->rings[index] : NULL;
}

static bool memory_set(struct vhost_user *x, struct vhost_memory *m)
{
    if (!m)
        return false;
    vhost_memory_unref(x->memory);
    x->memory = m;
    for (unsigned i = 0; i < x->num_queues; i++)
        if (x->rings[i].desc && !vhost_ring_map(&x->rings[i]))
            vhost_ring_broken(&x->rings[i], "its memory has gone");
    return true;
}

static void say(const struct vhost_connection *c, struct error *err)
{
    if (log_enabled(LOG_GUEST_ERRORS))
        log_printf("export %s: %s\n", c->x->e.id, err->msg);
    error_clear(err);
}

static bool set_mem_table(struct vhost_connection *c)
{
    const struct mem_table *t = &c->payload.table;
    struct vhost_memory *m = vhost_memory_new();
    struct error err = ERROR_INIT;

    if (c->head.size < 8 || t->count > LISTED_REGIONS_MAX || c->head.size < 8 + t->count * sizeof(t->regions[0]) || c->nfds != t->count) {
        vhost_memory_unref(m);
        return false;
    }
    for (unsigned i = 0; i < t->count && m; i++) {
        struct vhost_memory *more = vhost_memory_with(m, &t->regions[i], c->fds[i], &err);

        vhost_memory_unref(m);
        m = more;
    }
    if (!m)
        say(c, &err);
    return memory_set(c->x, m);
}

static bool add_mem_reg(struct vhost_connection *c)
{
    struct error err = ERROR_INIT;
    struct vhost_memory *m = vhost_memory_with(c->x->memory, &c->payload.one.region, c->nfds == 1 ? c->fds[0] : -1, &err);

    if (!m)
        say(c, &err);
    return memory_set(c->x, m);
}

static bool rem_mem_reg(struct vhost_connection *c)
{
    struct error err = ERROR_INIT;
    struct vhost_memory *m = vhost_memory_without(c->x->memory, &c->payload.one.region, &err);

    if (!m)
        say(c, &err);
    return memory_set(c->x, m);
}

static bool get_max_mem_slots(struct vhost_connection *c)
{
    return reply_u64(c, VHOST_REGIONS_MAX);
}

static bool get_features(struct vhost_connection *c)
{
    return reply_u64(c, vhost_blk_features(c->x));
}

static bool set_features(struct vhost_connection *c)
{
    struct vhost_user *x = c->x;

    if (c->payload.u64 & ~vhost_blk_features(x))
        return false;
    x->features = c->payload.u64;
    vhost_blk_negotiated(x);
    for (unsigned i = 0; i < x->num_queues && !vhost_has(x, VHOST_F_PROTOCOL_FEATURES); i++)
        x->rings[i].enabled = true;             /* there is no SET_VRING_ENABLE then */
    return true;
}

static bool get_protocol_features(struct vhost_connection *c)
{
    return reply_u64(c, protocol_features);
}

static bool set_protocol_features(struct vhost_connection *c)
{
    if (c->payload.u64 & ~protocol_features)
        return false;
    c->protocol = c->payload.u64;
    return true;
}

static bool get_queue_num(struct vhost_connection *c)
{
    return reply_u64(c, c->x->num_queues);
}

static bool nothing(struct vhost_connection *c)
{
    return true;
}

static bool set_vring_num(struct vhost_connection *c)
{
    struct vhost_ring *r = ring_of(c, c->payload.state.index);
    uint32_t n = c->payload.state.num;

    if (!r || r->desc || !n || n > VHOST_RING_MAX || n & (n - 1))
        return false;
    r->size = n;
    return true;
}

static bool set_vring_addr(struct vhost_connection *c)
{
    const struct vring_addr *a = &c->payload.addr;
    struct vhost_ring *r = ring_of(c, a->index);

    if (!r || r->desc || a->flags)
        return false;
    r->desc_user = a->desc;
    r->avail_user = a->avail;
    r->used_user = a->used;
    return true;
}

static bool set_vring_base(struct vhost_connection *c)
{
    struct vhost_ring *r = ring_of(c, c->payload.state.index);

    if (!r || r->desc || c->payload.state.num > UINT16_MAX)
        return false;
    r->avail_idx = r->used_idx = c->payload.state.num;
    return true;
}

/* Stops the ring; the answer comes when nothing of it is in flight. */
static bool get_vring_base(struct vhost_connection *c)
{
    struct vring_state s = { c->payload.state.index, 0 };
    struct vhost_ring *r = ring_of(c, s.index);

    if (!r)
        return false;
    vhost_ring_set_kick(r, -1);
    r->enabled = r->enabled && !vhost_has(c->x, VHOST_F_PROTOCOL_FEATURES);
    while (r->in_flight || r->posted || r->notify_posted)
        connection_wait(c, DRAINING);
    vhost_ring_unmap(r);
    r->broken = false;
    s.num = r->avail_idx;
    return reply(c, &s, sizeof(s));
}

/* The ring's index and eventfd, or no fd. */
static bool vring_fd(struct vhost_connection *c, struct vhost_ring **r, int *fd)
{
    *r = ring_of(c, c->payload.u64 & INDEX_MASK);
    *fd = -1;
    if (!*r || c->payload.u64 & ~(uint64_t)(INDEX_MASK | NO_FD))
        return false;
    if (c->payload.u64 & NO_FD)
        return !c->nfds;
    if (c->nfds != 1 || !is_eventfd(c->fds[0]))
        return false;
    *fd = take_fd(c);
    return true;
}

/* Starts the ring. What was made available before is looked at once. */
static bool set_vring_kick(struct vhost_connection *c)
{
    struct vhost_ring *r;
    int fd;

    if (!vring_fd(c, &r, &fd))
        return false;
    vhost_ring_set_kick(r, fd);
    if (fd < 0 || (!r->desc && !vhost_ring_map(r)))
        return false;           /* without a file the back end would have to poll */
    vhost_ring_run(r);
    return true;
}

static bool set_vring_call(struct vhost_connection *c)
{
    struct vhost_ring *r;
    int fd;

    if (!vring_fd(c, &r, &fd))
        return false;
    vhost_ring_set_call(r, fd);
    return true;
}

static bool set_vring_err(struct vhost_connection *c)
{
    struct vhost_ring *r;
    int fd;

    if (!vring_fd(c, &r, &fd))
        return false;
    vhost_ring_set_err(r, fd);
    return true;
}

static bool set_vring_enable(struct vhost_connection *c)
{
    struct vhost_ring *r = ring_of(c, c->payload.state.index);

    if (!r || c->payload.state.num > 1)
        return false;
    r->enabled = c->payload.state.num;
    vhost_ring_run(r);
    return true;
}

static bool config_valid(struct vhost_connection *c)
{
    const struct device_config *d = &c->payload.config;

    return c->head.size >= 12 && d->offset <= VHOST_CONFIG_MAX && d->size <= VHOST_CONFIG_MAX - d->offset && c->head.size == 12 + d->size;
}

/* An answer without contents says that the request made no sense. */
static bool get_config(struct vhost_connection *c)
{
    struct device_config *d = &c->payload.config;
    uint8_t config[VHOST_CONFIG_MAX];

    if (!config_valid(c))
        return reply(c, NULL, 0);
    vhost_blk_config(c->x, config);
    memcpy(d->data, config + d->offset, d->size);
    return reply(c, d, c->head.size);
}

static bool set_config(struct vhost_connection *c)
{
    const struct device_config *d = &c->payload.config;

    if (!config_valid(c))
        return false;
    vhost_blk_set_config(c->x, d->offset, d->data, d->size);
    return true;
}

static bool set_backend_req_fd(struct vhost_connection *c)
{
    if (c->nfds != 1)
        return false;
    if (c->backend_fd >= 0)
        close(c->backend_fd);
    c->backend_fd = take_fd(c);
    return true;
}

/* The disk has another size: the front end reads the configuration anew. */
struct change { struct vhost_user *x; struct block_info info; };

static void change_here(void *arg)
{
    struct change *change = arg;
    struct vhost_user *x = change->x;
    struct head h = { BACKEND_CONFIG_CHANGE_MSG, VERSION, 0 };

    x->info = change->info;
    if (x->conn && x->conn->backend_fd >= 0)
        send_all(x->conn->backend_fd, &h, NULL);
}

static void disk_changed(void *opaque)
{
    struct vhost_user *x = opaque;
    struct change change = { .x = x };

    block_backend_info(x->e.b, &change.info);
    loop_call(x->e.loop, change_here, &change);
}

/* Sizes: of the payload at least. Those that answer by themselves have no acknowledgement. */
static const struct { uint32_t request, size; bool answers; bool (*fn)(struct vhost_connection *c); } messages[] = {
    { GET_FEATURES, 0, true, get_features },
    { SET_FEATURES, 8, false, set_features },
    { SET_OWNER, 0, false, nothing },
    { RESET_OWNER, 0, false, nothing },
    { SET_MEM_TABLE, 8, false, set_mem_table },
    { SET_VRING_NUM, sizeof(struct vring_state), false, set_vring_num },
    { SET_VRING_ADDR, sizeof(struct vring_addr), false, set_vring_addr },
    { SET_VRING_BASE, sizeof(struct vring_state), false, set_vring_base },
    { GET_VRING_BASE, sizeof(struct vring_state), true, get_vring_base },
    { SET_VRING_KICK, 8, false, set_vring_kick },
    { SET_VRING_CALL, 8, false, set_vring_call },
    { SET_VRING_ERR, 8, false, set_vring_err },
    { GET_PROTOCOL_FEATURES, 0, true, get_protocol_features },
    { SET_PROTOCOL_FEATURES, 8, false, set_protocol_features },
    { GET_QUEUE_NUM, 0, true, get_queue_num },
    { SET_VRING_ENABLE, sizeof(struct vring_state), false, set_vring_enable },
    { SET_BACKEND_REQ_FD, 0, false, set_backend_req_fd },
    { GET_CONFIG, 12, true, get_config },
    { SET_CONFIG, 12, false, set_config },
    { GET_MAX_MEM_SLOTS, 0, true, get_max_mem_slots },
    { ADD_MEM_REG, sizeof(struct mem_one), false, add_mem_reg },
    { REM_MEM_REG, sizeof(struct mem_one), false, rem_mem_reg },
};

/* False: the connection ends. */
static bool handle(struct vhost_connection *c)
{
    bool ok = false, answers = false, acknowledge = c->head.flags & FLAG_NEED_REPLY && c->protocol >> PROTOCOL_F_REPLY_ACK & 1;

    for (unsigned i = 0; i < G_N_ELEMENTS(messages); i++) {
        if (messages[i].request == c->head.request) {
            answers = messages[i].answers;
            ok = c->head.size >= messages[i].size && messages[i].fn(c);
        }
    }
    drop_fds(c);
    if (!ok && log_enabled(LOG_GUEST_ERRORS))
        log_printf("export %s: message %u of %u bytes refused\n", c->x->e.id, c->head.request, c->head.size);
    if (acknowledge && !answers)
        return reply_u64(c, !ok);
    return ok;
}

/* ---- the front end: one at a time */

static bool idle(const struct vhost_user *x)
{
    bool posted = false;

    for (unsigned i = 0; i < x->num_queues; i++)
        posted = posted || x->rings[i].posted || x->rings[i].notify_posted;
    return !x->in_flight && !posted;
}

void vhost_user_idle(struct vhost_user *x)
{
    if (x->conn)
        connection_wake(x->conn, DRAINING);
}

static void connection_end(struct vhost_connection *c)
{
    struct vhost_user *x = c->x;

    for (unsigned i = 0; i < x->num_queues; i++) {
        vhost_ring_set_kick(&x->rings[i], -1);
        vhost_ring_unmap(&x->rings[i]);
    }
    while (!idle(x))
        connection_wait(c, DRAINING);
    for (unsigned i = 0; i < x->num_queues; i++)
        vhost_ring_reset(&x->rings[i]);
    vhost_memory_unref(x->memory);
    x->memory = vhost_memory_new();
    x->features = 0;
    x->writeback = x->e.b->writeback;
}

/* On the graph's loop again. */
static void connection_free(void *arg)
{
    struct vhost_connection *c = arg;
    struct vhost_user *x = c->x;

    close(c->fd);
    if (c->backend_fd >= 0)
        close(c->backend_fd);
    drop_fds(c);
    g_free(c);
    x->conn = NULL;
    if (x->listen_watch)
        loop_fd_set(x->listen_watch, LOOP_IN);
    export_unref(&x->e);
}

static void connection_leave(void *arg)
{
    struct vhost_connection *c = arg;

    loop_fd_remove(c->watch);
    loop_post(c->x->e.graph->loop, connection_free, c);
}

static void connection_run(void *arg)
{
    struct vhost_connection *c = arg;

    c->co = coroutine_self();
    while (receive(c, &c->head, sizeof(c->head))) {
        if ((c->head.flags & 3) != VERSION || c->head.flags & FLAG_REPLY || c->head.size > sizeof(c->payload))
            break;
        memset(&c->payload, 0, sizeof(c->payload));
        if (!receive(c, &c->payload, c->head.size) || !handle(c))
            break;
    }
    c->closing = true;
    connection_end(c);
    loop_post(c->x->e.loop, connection_leave, c);       /* outside of the coroutine that is woken by it */
}

static void connection_enter(void *arg)
{
    struct vhost_connection *c = arg;

    c->watch = loop_fd_add(c->x->e.loop, c->fd, 0, connection_readable, c);
    coroutine_start(connection_run, c);
}

static void accept_next(void *arg, unsigned events)
{
    struct vhost_user *x = arg;
    struct vhost_connection *c;
    int fd = x->conn || x->e.shutting_down ? -1 : accept4(x->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    loop_fd_set(x->listen_watch, 0);            /* others wait until this one has gone */
    c = x->conn = g_new0(struct vhost_connection, 1);
    c->x = x;
    c->fd = fd;
    c->backend_fd = -1;
    block_backend_info(x->e.b, &x->info);
    export_ref(&x->e);
    loop_post(x->e.loop, connection_enter, c);
}

/* ---- the export */

static const char *const vhost_options[] = { "addr", "logical-block-size", "num-queues", NULL };

static bool take_address(struct vhost_user *x, struct json_object *opts, struct error *err)
{
    struct json_object *addr = NULL;
    const char *type;
    bool abstract = false;

    if (!json_object_object_get_ex(opts, "addr", &addr) || !json_object_is_type(addr, json_type_object))
        return error_set(err, ERR_GENERIC, "Parameter 'addr' is missing", "addr.type=unix,addr.path=SOCKET");
    type = option_str(addr, "type", "");
    if (strcmp(type, "unix") && strcmp(type, "fd"))
        return error_set(err, ERR_GENERIC, "vhost-user passes memory, and so needs a socket of this host", "addr.type=unix,addr.path=SOCKET");
    if (nbd_address_listen(addr, &x->listen_fd, 1, 1, err) != 1)
        return false;
    if (!strcmp(type, "unix") && option_bool(addr, "abstract", false, &abstract, NULL) && !abstract)
        x->unlink_path = g_strdup(option_str(addr, "path", ""));
    return true;
}

static bool vhost_start(struct block_export *e, struct json_object *opts, struct error *err)
{
    struct vhost_user *x = (struct vhost_user *)e;
    int64_t queues;
    uint64_t block_size;

    x->listen_fd = -1;
    if (!option_int(opts, "num-queues", 1, &queues, err) || !option_size(opts, "logical-block-size", 512, &block_size, err))
        return false;
    if (queues < 1 || queues > VHOST_QUEUES_MAX)
        return error_setf(err, ERR_GENERIC, NULL, "num-queues is from 1 to %d", VHOST_QUEUES_MAX);
    if (block_size < 512 || block_size > 65536 || block_size & (block_size - 1))
        return error_set(err, ERR_GENERIC, "logical-block-size is a power of two from 512 to 65536", NULL);
    x->num_queues = queues;
    x->block_size = block_size;
    x->writeback = e->b->writeback;
    x->memory = vhost_memory_new();
    x->rings = g_new0(struct vhost_ring, queues);
    for (unsigned i = 0; i < x->num_queues; i++)
        vhost_ring_init(&x->rings[i], x, i);
    if (!take_address(x, opts, err))
        return false;
    block_backend_on_change(e->b, disk_changed, x);
    x->listen_watch = loop_fd_add(e->graph->loop, x->listen_fd, LOOP_IN, accept_next, x);
    return true;
}

static void end_here(void *arg)
{
    struct vhost_user *x = arg;

    x->ending = true;
    if (x->conn) {
        x->conn->closing = true;
        connection_wake(x->conn, READING);
    }
}

static void vhost_shut(struct block_export *e)
{
    struct vhost_user *x = (struct vhost_user *)e;

    if (x->listen_watch)
        loop_fd_remove(x->listen_watch);
    x->listen_watch = NULL;
    loop_call(e->loop, end_here, x);
}

static void vhost_destroy(struct block_export *e)
{
    struct vhost_user *x = (struct vhost_user *)e;

    if (x->listen_watch)
        loop_fd_remove(x->listen_watch);
    if (x->listen_fd >= 0)
        close(x->listen_fd);
    if (x->unlink_path)
        unlink(x->unlink_path);
    g_free(x->unlink_path);
    vhost_memory_unref(x->memory);
    g_free(x->rings);
}

EXPORT_TYPE = {
    .name = "vhost-user-blk", .options = vhost_options, .size = sizeof(struct vhost_user),
    .start = vhost_start, .shut = vhost_shut, .destroy = vhost_destroy,
};
