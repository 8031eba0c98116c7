/* Frames over sockets of the host.
 *   stream    TCP or a Unix socket; each frame has its length, 32 bits big-endian, before it
 *   dgram     UDP or Unix datagrams, a frame each; multicast makes a segment that many share
 *   socket    the older spelling of both */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "net/netdev.h"
#include "rhea/base/options.h"
#include "rhea/vm/fds.h"
#include "rhea/vm/vm.h"

enum { OUT_MAX = 4 << 20, BURST = 64, LENGTH = 4 };

struct addr { struct sockaddr_storage sa; socklen_t len; };

struct net_socket {
    struct netdev n;
    bool dgram, server, connecting, paused;
    int listener, fd;
    struct loop_fd *listen_watch, *watch;
    struct addr local, remote;
    bool has_remote;
    int64_t reconnect_ms;
    struct loop_timer *retry;
    char *unlink_path, *describe;
    GByteArray *out;            /* stream: what the socket did not take at once */
    size_t out_done;
    uint8_t in[LENGTH + NET_FRAME_MAX];
    size_t in_len;
};

static void stream_event(void *arg, unsigned events);
static void stream_lost(struct net_socket *s);

static void set_nonblock(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* ---- datagrams */

static void dgram_event(void *arg, unsigned events)
{
    struct net_socket *s = arg;

    for (int i = 0; i < BURST && !netdev_congested(&s->n, 0); i++) {
        ssize_t len = recv(s->fd, s->in, NET_FRAME_MAX, 0);
        struct iovec iov = { s->in, len };

        if (len < 0)
            return;
        if (len >= 14)
            netdev_receive(&s->n, 0, &iov, 1, NULL);
    }
    if (netdev_congested(&s->n, 0)) {
        s->paused = true;
        loop_fd_set(s->watch, 0);
    }
}

static void dgram_send(struct net_socket *s, const struct iovec *iov, int niov)
{
    struct msghdr m = {.msg_name = s->has_remote ? &s->remote.sa : NULL,
                       .msg_namelen = s->has_remote ? s->remote.len : 0,
                       .msg_iov = (struct iovec *)iov,
                       .msg_iovlen = niov};

    if (niov > 1024 || sendmsg(s->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        atomic_fetch_add(&s->n.dropped, 1);
}

/* ---- streams */

static void stream_flush(struct net_socket *s)
{
    while (s->out_done < s->out->len) {
        ssize_t n = send(s->fd, s->out->data + s->out_done, s->out->len - s->out_done, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR)
                stream_lost(s);
            return;
        }
        s->out_done += n;
    }
    g_byte_array_set_size(s->out, 0);
    s->out_done = 0;
}

static void stream_watch(struct net_socket *s)
{
    if (s->watch)
        loop_fd_set(s->watch, (s->paused ? 0 : LOOP_IN) | (s->connecting || s->out->len ? LOOP_OUT : 0));
}

static void stream_send(struct net_socket *s, const struct iovec *iov, int niov)
{
    uint32_t len = 0, be;

    for (int i = 0; i < niov; i++)
        len += iov[i].iov_len;
    if (s->fd < 0 || s->connecting || s->out->len - s->out_done + len > OUT_MAX) {
        atomic_fetch_add(&s->n.dropped, 1);
        return;
    }
    be = htonl(len);
    g_byte_array_append(s->out, (uint8_t *)&be, sizeof(be));
    for (int i = 0; i < niov; i++)
        g_byte_array_append(s->out, iov[i].iov_base, iov[i].iov_len);
    stream_flush(s);
    stream_watch(s);
}

/* Whole frames out of what has come. False: the peer sends nonsense. */
static bool stream_frames(struct net_socket *s)
{
    size_t at = 0;

    while (s->in_len - at >= LENGTH && !netdev_congested(&s->n, 0)) {
        uint32_t len;
        struct iovec iov;

        memcpy(&len, s->in + at, LENGTH);
        len = ntohl(len);
        if (len > NET_FRAME_MAX)
            return false;
        if (s->in_len - at - LENGTH < len)
            break;
        iov = (struct iovec){ s->in + at + LENGTH, len };
        if (len >= 14)
            netdev_receive(&s->n, 0, &iov, 1, NULL);
        at += LENGTH + len;
    }
    memmove(s->in, s->in + at, s->in_len - at);
    s->in_len -= at;
    return true;
}

static void stream_read(struct net_socket *s)
{
    for (int i = 0; i < BURST; i++) {
        ssize_t n;

        if (!stream_frames(s)) {
            stream_lost(s);
            return;
        }
        if (netdev_congested(&s->n, 0)) {
            s->paused = true;
            return;
        }
        n = recv(s->fd, s->in + s->in_len, sizeof(s->in) - s->in_len, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            stream_lost(s);
        if (n <= 0)
            return;
        s->in_len += n;
    }
}

static void stream_up(struct net_socket *s, int fd)
{
    int one = 1;

    s->fd = fd;
    s->in_len = 0;
    s->paused = false;
    g_byte_array_set_size(s->out, 0);
    s->out_done = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    s->watch = loop_fd_add(s->n.loop, fd, LOOP_IN | LOOP_OUT, stream_event, s);
    stream_watch(s);
}

static void stream_told(struct net_socket *s, bool up)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "netdev-id", json_object_new_string(s->n.id));
    vm_event(s->n.vm, up ? "NETDEV_STREAM_CONNECTED" : "NETDEV_STREAM_DISCONNECTED", o);
}

static void stream_connect(void *arg)
{
    struct net_socket *s = arg;
    int fd = socket(s->remote.sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd >= 0 && (connect(fd, (struct sockaddr *)&s->remote.sa, s->remote.len) == 0 ||
                    errno == EINPROGRESS || errno == EAGAIN)) {
        s->connecting = true;
        stream_up(s, fd);
        return;
    }
    if (fd >= 0)
        close(fd);
    if (s->reconnect_ms)
        loop_timer_set(s->retry, host_clock_ns() + s->reconnect_ms * 1000000);
    else
        warn_report("netdev %s: could not connect: %s", s->n.id, strerror(errno));
}

static void stream_lost(struct net_socket *s)
{
    bool was_up = s->fd >= 0 && !s->connecting;

    g_clear_pointer(&s->watch, loop_fd_remove);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->connecting = false;
    if (was_up)
        stream_told(s, false);
    if (s->listen_watch)
        loop_fd_set(s->listen_watch, LOOP_IN);
    else if (s->reconnect_ms && s->retry)
        loop_timer_set(s->retry, host_clock_ns() + s->reconnect_ms * 1000000);
}

static void stream_event(void *arg, unsigned events)
{
    struct net_socket *s = arg;
    int e = 0;
    socklen_t len = sizeof(e);

    if (s->connecting) {
        if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0 || e) {
            if (!s->reconnect_ms)
                warn_report("netdev %s: could not connect: %s", s->n.id, strerror(e));
            stream_lost(s);
            return;
        }
        s->connecting = false;
        stream_told(s, true);
    }
    if (events & LOOP_OUT)
        stream_flush(s);
    if (s->fd >= 0 && events & (LOOP_IN | LOOP_HUP))
        stream_read(s);
    stream_watch(s);
}

/* One peer at a time. */
static void stream_accept(void *arg, unsigned events)
{
    struct net_socket *s = arg;
    int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return;
    loop_fd_set(s->listen_watch, 0);
    stream_up(s, fd);
    stream_told(s, true);
}

/* ---- addresses */

static bool addr_unix(const char *path, struct addr *a, struct error *err)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&a->sa;

    if (!path || !*path || strlen(path) >= sizeof(un->sun_path))
        return error_setf(err, ERR_GENERIC, NULL, "a Unix socket needs a path shorter than %zu characters",
                          sizeof(un->sun_path));
    un->sun_family = AF_UNIX;
    strcpy(un->sun_path, path);
    a->len = sizeof(*un);
    return true;
}

static bool addr_inet(const char *host, const char *port, bool dgram, struct addr *a, struct error *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = dgram ? SOCK_DGRAM : SOCK_STREAM,
                             .ai_flags = host && *host ? 0 : AI_PASSIVE};
    struct addrinfo *list;
    int e;

    if (!port || !*port)
        return error_set(err, ERR_GENERIC, "the address has no port", "write HOST:PORT");
    if (!host || !*host)
        hints.ai_family = AF_INET;
    e = getaddrinfo(host && *host ? host : NULL, port, &hints, &list);
    if (e)
        return error_setf(err, ERR_GENERIC, NULL, "could not look up %s:%s: %s", host ? host : "", port,
                          gai_strerror(e));
    memcpy(&a->sa, list->ai_addr, list->ai_addrlen);
    a->len = list->ai_addrlen;
    freeaddrinfo(list);
    return true;
}

static bool addr_text(const char *text, bool dgram, struct addr *a, struct error *err)
{
    const char *colon = strrchr(text, ':');
    g_autofree char *host = colon ? g_strndup(text, colon - text) : NULL;

    if (!colon)
        return error_setf(err, ERR_GENERIC, "write HOST:PORT", "'%s' has no port", text);
    return addr_inet(host, colon + 1, dgram, a, err);
}

/* {"type": "inet", "host", "port"}, {"type": "unix", "path"}, {"type": "fd", "str"} (then *fd) */
static bool addr_object(struct net_socket *s, struct json_object *o, struct addr *a, int *fd, struct error *err)
{
    const char *type = option_str(o, "type", ""), *str = option_str(o, "str", "");
    char *end;

    *fd = -1;
    if (strcmp(type, "inet") == 0)
        return addr_inet(option_str(o, "host", NULL), option_str(o, "port", NULL), s->dgram, a, err);
    if (strcmp(type, "unix") == 0)
        return addr_unix(option_str(o, "path", NULL), a, err);
    if (strcmp(type, "fd") != 0)
        return error_setf(err, ERR_GENERIC, "it is inet, unix or fd", "address type '%s' is not known", type);
    *fd = strtol(str, &end, 10);
    if (!*str || *end)
        *fd = vm_take_fd(s->n.vm, str);
    if (*fd < 0)
        return error_setf(err, ERR_GENERIC, "pass it with getfd first, or give its number",
                          "file descriptor '%s' not found", str);
    set_nonblock(*fd);
    return true;
}

static bool socket_bind(struct net_socket *s, const struct addr *a, int *fd, struct error *err)
{
    int one = 1;

    *fd = socket(a->sa.ss_family, (s->dgram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return error_set_errno(err, errno, NULL, "could not make a socket");
    if (a->sa.ss_family == AF_UNIX) {
        const char *path = ((const struct sockaddr_un *)&a->sa)->sun_path;

        unlink(path);
        s->unlink_path = g_strdup(path);
    } else {
        setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    }
    if (bind(*fd, (const struct sockaddr *)&a->sa, a->len) < 0 || (!s->dgram && listen(*fd, 1) < 0))
        return error_set_errno(err, errno,
                               errno == EADDRINUSE ? "choose another port; `ss -lntup` shows who has this one"
                                                   : NULL,
                               "netdev %s: could not bind its address", s->n.id);
    return true;
}

/* ---- -netdev stream */

static struct net_socket *socket_init(struct netdev *n, bool dgram)
{
    struct net_socket *s = (struct net_socket *)n;

    s->dgram = dgram;
    s->fd = s->listener = -1;
    s->out = g_byte_array_new();
    return s;
}

static bool stream_create(struct netdev *n, struct json_object *flat, struct error *err)
{
    struct net_socket *s = socket_init(n, false);
    struct json_object *opts = options_nest(flat, err), *addr = NULL;
    int64_t seconds;
    bool ok;
    int fd;

    if (!opts)
        return false;
    ok = option_bool(opts, "server", false, &s->server, err) && option_int(opts, "reconnect", 0, &seconds, err) &&
         option_int(opts, "reconnect-ms", seconds * 1000, &s->reconnect_ms, err);
    if (ok && !json_object_object_get_ex(opts, "addr", &addr))
        ok = error_set(err, ERR_GENERIC, "Parameter 'addr' is missing",
                       "addr.type=inet,addr.host=HOST,addr.port=PORT or addr.type=unix,addr.path=PATH");
    if (ok && s->server && s->reconnect_ms)
        ok = error_set(err, ERR_GENERIC, "'reconnect' is for clients", "leave it out, or server=on");
    ok = ok && addr_object(s, addr, &s->remote, &fd, err);
    if (ok && s->server) {
        if (fd >= 0)
            s->listener = fd;
        else
            ok = socket_bind(s, &s->remote, &s->listener, err);
    } else if (ok && fd >= 0) {
        s->fd = fd;
    }
    json_object_put(opts);
    return ok;
}

/* ---- -netdev dgram */

static bool join_group(struct net_socket *s, const struct addr *group, const char *interface, struct error *err)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)&group->sa;
    struct ip_mreq m = { .imr_multiaddr = in->sin_addr };
    int one = 1;

    if (interface && inet_aton(interface, &m.imr_interface) == 0)
        return error_setf(err, ERR_GENERIC, NULL, "'%s' is no address", interface);
    if (setsockopt(s->fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)) < 0 ||
        setsockopt(s->fd, IPPROTO_IP, IP_MULTICAST_LOOP, &one, sizeof(one)) < 0)
        return error_set_errno(err, errno, NULL, "netdev %s: could not join the multicast group", s->n.id);
    if (interface)
        setsockopt(s->fd, IPPROTO_IP, IP_MULTICAST_IF, &m.imr_interface, sizeof(m.imr_interface));
    return true;
}

static bool is_group(const struct addr *a)
{
    return a->sa.ss_family == AF_INET && IN_MULTICAST(ntohl(((const struct sockaddr_in *)&a->sa)->sin_addr.s_addr));
}

static bool dgram_open(struct net_socket *s, struct json_object *local, struct json_object *remote, struct error *err)
{
    int fd = -1;

    if (remote) {
        if (!addr_object(s, remote, &s->remote, &fd, err))
            return false;
        if (fd >= 0)
            return error_set(err, ERR_GENERIC, "'remote' of type fd makes no sense", "use local.type=fd");
        s->has_remote = true;
    }
    if (s->has_remote && is_group(&s->remote))
        return socket_bind(s, &s->remote, &s->fd, err) &&
               join_group(s, &s->remote, local ? option_str(local, "host", NULL) : NULL, err);
    if (!local)
        return error_set(err, ERR_GENERIC, "Parameter 'local' is missing",
                         "local.type=inet,local.host=HOST,local.port=PORT");
    if (!addr_object(s, local, &s->local, &fd, err))
        return false;
    if (fd >= 0) {
        s->fd = fd;
        return true;
    }
    if (!s->has_remote)
        return error_set(err, ERR_GENERIC, "Parameter 'remote' is missing",
                         "remote.type=inet,remote.host=HOST,remote.port=PORT");
    return socket_bind(s, &s->local, &s->fd, err);
}

static bool dgram_create(struct netdev *n, struct json_object *flat, struct error *err)
{
    struct net_socket *s = socket_init(n, true);
    struct json_object *opts = options_nest(flat, err), *local = NULL, *remote = NULL;
    bool ok;

    if (!opts)
        return false;
    json_object_object_get_ex(opts, "local", &local);
    json_object_object_get_ex(opts, "remote", &remote);
    ok = dgram_open(s, local, remote, err);
    json_object_put(opts);
    return ok;
}

/* ---- -netdev socket: one of listen=, connect=, mcast=, udp=, fd= */

static bool socket_create(struct netdev *n, struct json_object *opts, struct error *err)
{
    const char *listen_at = option_str(opts, "listen", NULL), *connect_to = option_str(opts, "connect", NULL);
    const char *mcast = option_str(opts, "mcast", NULL), *udp = option_str(opts, "udp", NULL),
               *fd = option_str(opts, "fd", NULL);
    const char *local = option_str(opts, "localaddr", NULL);
    struct net_socket *s = socket_init(n, mcast || udp);
    char *end;

    if (!!listen_at + !!connect_to + !!mcast + !!udp + !!fd != 1)
        return error_set(err, ERR_GENERIC, "exactly one of listen=, connect=, mcast=, udp= and fd= is required", NULL);
    if (listen_at) {
        s->server = true;
        return addr_text(listen_at, false, &s->remote, err) && socket_bind(s, &s->remote, &s->listener, err);
    }
    if (connect_to)
        return addr_text(connect_to, false, &s->remote, err);
    if (fd) {
        int kind;
        socklen_t len = sizeof(kind);

        s->fd = strtol(fd, &end, 10);
        if (!*fd || *end)
            s->fd = vm_take_fd(n->vm, fd);
        if (s->fd < 0 || getsockopt(s->fd, SOL_SOCKET, SO_TYPE, &kind, &len) < 0)
            return error_setf(err, ERR_GENERIC, NULL, "fd=%s is no socket", fd);
        s->dgram = kind == SOCK_DGRAM;
        set_nonblock(s->fd);
        return true;
    }
    if (!addr_text(mcast ? mcast : udp, true, &s->remote, err))
        return false;
    s->has_remote = true;
    if (mcast)
        return is_group(&s->remote)
                   ? socket_bind(s, &s->remote, &s->fd, err) && join_group(s, &s->remote, local, err)
                   : error_setf(err, ERR_GENERIC, "use an address from 224.0.0.0 to 239.255.255.255",
                                "'%s' is no multicast address", mcast);
    if (!local)
        return error_set(err, ERR_GENERIC, "udp= needs localaddr=", "localaddr=HOST:PORT is where this side receives");
    return addr_text(local, true, &s->local, err) && socket_bind(s, &s->local, &s->fd, err);
}

/* ---- life */

static void socket_start(struct netdev *n)
{
    struct net_socket *s = (struct net_socket *)n;

    s->retry = loop_timer_new(n->loop, stream_connect, s);
    if (s->dgram)
        s->watch = loop_fd_add(n->loop, s->fd, LOOP_IN, dgram_event, s);
    else if (s->listener >= 0)
        s->listen_watch = loop_fd_add(n->loop, s->listener, LOOP_IN, stream_accept, s);
    else if (s->fd >= 0)
        stream_up(s, s->fd);
    else
        stream_connect(s);
}

static void socket_stop(struct netdev *n)
{
    struct net_socket *s = (struct net_socket *)n;

    g_clear_pointer(&s->watch, loop_fd_remove);
    g_clear_pointer(&s->listen_watch, loop_fd_remove);
    g_clear_pointer(&s->retry, loop_timer_free);
}

static void socket_destroy(struct netdev *n)
{
    struct net_socket *s = (struct net_socket *)n;

    if (s->fd >= 0)
        close(s->fd);
    if (s->listener >= 0)
        close(s->listener);
    if (s->unlink_path)
        unlink(s->unlink_path);
    g_free(s->unlink_path);
    g_byte_array_free(s->out, TRUE);
}

static void socket_send(struct netdev *n, unsigned queue, const struct iovec *iov, int niov,
                        const struct net_offload *off)
{
    struct net_socket *s = (struct net_socket *)n;

    if (s->dgram)
        dgram_send(s, iov, niov);
    else
        stream_send(s, iov, niov);
}

static void socket_ready(struct netdev *n, unsigned queue)
{
    struct net_socket *s = (struct net_socket *)n;

    if (!s->paused || !s->watch)
        return;
    s->paused = false;
    if (s->dgram) {
        loop_fd_set(s->watch, LOOP_IN);
    } else {
        stream_read(s);                 /* whole frames may be here already */
        stream_watch(s);
    }
}

static char *socket_describe(struct netdev *n)
{
    struct net_socket *s = (struct net_socket *)n;

    return g_strdup(s->dgram ? "datagrams" : s->listener >= 0 ? "server" : "client");
}

#define SOCKET_DRIVER                                                                                                \
    .size = sizeof(struct net_socket), .own_thread = true, .start = socket_start, .stop = socket_stop,              \
    .destroy = socket_destroy, .send = socket_send, .ready = socket_ready, .describe = socket_describe

NETDEV = {
    .name = "stream", .summary = "frames over TCP or a Unix stream socket", SOCKET_DRIVER, .create = stream_create,
    .options = (const struct net_option[]){
        { "addr", "ADDR", "addr.type=inet,addr.host=,addr.port= or addr.type=unix,addr.path= or addr.type=fd,addr.str=" },
        { "server", "on|off", "on: wait for the peer" },
        { "reconnect", "SECONDS", "try again after this long" },
        { "reconnect-ms", "MS", "the same in milliseconds" }, { 0 } },
};
NETDEV = {
    .name = "dgram", .summary = "frames as UDP or Unix datagrams", SOCKET_DRIVER, .create = dgram_create,
    .options = (const struct net_option[]){
        { "local", "ADDR", "where this side receives: local.type=inet|unix|fd, ..." },
        { "remote", "ADDR", "where it sends: remote.type=inet|unix, ...; a multicast address makes a shared segment" }, { 0 } },
};
NETDEV = {
    .name = "socket", .summary = "frames over a socket (see stream, dgram)", SOCKET_DRIVER, .create = socket_create,
    .options = (const struct net_option[]){
        { "listen", "[HOST]:PORT", "TCP, wait for the peer" }, { "connect", "HOST:PORT", "TCP" },
        { "mcast", "GROUP:PORT", "UDP multicast" }, { "udp", "HOST:PORT", "UDP" },
        { "localaddr", "ADDR", "of udp=: HOST:PORT to receive at; of mcast=: the interface" }, { "fd", "FD", "a socket, by number or name (getfd)" },
        { 0 } },
};
