/* Sockets as character devices: Unix, TCP, telnet, inherited descriptors; client or server; and UDP.
 * Telnet: RFC 854 (commands), 856 (binary), 857 (echo), 858 (suppress go-ahead). */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "chardev/internal.h"
#include "rhea/vm/fds.h"

enum telnet_state { TN_DATA, TN_IAC, TN_OPTION, TN_SUB, TN_SUB_IAC };
enum { IAC = 255, TN_DONT = 254, TN_DO = 253, TN_WONT = 252, TN_WILL = 251, TN_SB = 250, TN_BREAK = 243, TN_SE = 240 };

struct socket_chardev {
    struct chardev cd;
    int fd, listen_fd;                  /* -1: none */
    struct loop_fd *watch, *listen_watch;
    struct loop_timer *retry;
    struct sockaddr_storage addr; socklen_t addr_len;   /* of the server, or to listen on */
    bool server, telnet, nodelay, connecting, is_unix, unlink_path;
    int64_t reconnect_ns;
    enum telnet_state tn;
    bool tn_cr, tn_half;                /* after CR; the second half of a doubled IAC is still to be written */
    char *name;                         /* "unix:PATH", "tcp:HOST:PORT" */
    char *peer;                         /* " <-> HOST:PORT" */
    unsigned want;                      /* LOOP_IN, LOOP_OUT */
};
#define sock(cd) ((struct socket_chardev *)(cd))

static void socket_connect_later(struct socket_chardev *s);

/* ---- addresses */

static bool unix_address(struct socket_chardev *s, const char *path, struct json_object *opts, struct error *err)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&s->addr;
    size_t len = strlen(path);
    bool abstract, tight;

    if (!option_bool(opts, "abstract", false, &abstract, err) || !option_bool(opts, "tight", true, &tight, err))
        return false;
    if (len >= sizeof(un->sun_path))
        return error_setf(err, ERR_GENERIC, "the system takes 107 bytes at most: choose a shorter path",
                          "the socket's path is %zu bytes long", len);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path + abstract, path, len);
    s->addr_len = abstract && tight ? offsetof(struct sockaddr_un, sun_path) + 1 + len : sizeof(*un);
    s->is_unix = true;
    s->unlink_path = s->server && !abstract;
    s->name = g_strdup_printf("unix:%s%s", path, abstract ? ",abstract=on" : "");
    return true;
}

static int address_family(struct json_object *opts, struct error *err)
{
    bool v4, v6;

    if (!option_bool(opts, "ipv4", false, &v4, err) || !option_bool(opts, "ipv6", false, &v6, err))
        return -1;
    return v4 && !v6 ? AF_INET : v6 && !v4 ? AF_INET6 : AF_UNSPEC;
}

static bool resolve(const char *host, const char *port, bool passive, int family, int type,
                    struct sockaddr_storage *addr, socklen_t *len, struct error *err)
{
    struct addrinfo hints = { .ai_family = family, .ai_socktype = type, .ai_flags = passive ? AI_PASSIVE : 0 };
    struct addrinfo *list;
    int r = getaddrinfo(host && *host ? host : NULL, port, &hints, &list);

    if (r)
        return error_setf(err, ERR_GENERIC, "check the name and the port", "%s:%s: %s", host ? host : "", port,
                          gai_strerror(r));
    memcpy(addr, list->ai_addr, list->ai_addrlen);
    *len = list->ai_addrlen;
    freeaddrinfo(list);
    return true;
}

static char *address_text(const struct sockaddr_storage *addr, socklen_t len)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];

    if (getnameinfo((const struct sockaddr *)addr, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV))
        return g_strdup("?");
    return strchr(host, ':') ? g_strdup_printf("[%s]:%s", host, port) : g_strdup_printf("%s:%s", host, port);
}

static bool inet_address(struct socket_chardev *s, struct json_object *opts, struct error *err)
{
    const char *host = option_str(opts, "host", ""), *port = option_str(opts, "port", NULL);
    int family = address_family(opts, err);

    if (error_is_set(err))
        return false;
    if (!port || !*port)
        return error_set(err, ERR_GENERIC, "neither path nor port is given", "add path=PATH, or host=HOST,port=PORT");
    /* "every address" is IPv4's, as most clients expect, unless IPv6 is asked for */
    if (s->server && !*host && family == AF_UNSPEC)
        family = AF_INET;
    if (!resolve(host, port, s->server, family, SOCK_STREAM, &s->addr, &s->addr_len, err))
        return false;
    s->name = g_strdup_printf("%s:%s:%s", s->telnet ? "telnet" : "tcp", host, port);
    return true;
}

/* ---- telnet */

static void telnet_start(struct socket_chardev *s)
{
    static const uint8_t hello[] = { IAC, TN_WILL, 1 /* echo */, IAC, TN_WILL, 3 /* suppress go-ahead */,
                                     IAC, TN_WILL, 0 /* binary */, IAC, TN_DO, 0 };

    s->tn = TN_DATA;
    s->tn_cr = s->tn_half = false;
    if (send(s->fd, hello, sizeof(hello), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(hello))
        warn_report("chardev %s: the telnet client did not take the greeting", s->cd.id);
}

/* Commands are taken out in place; returns what is left. */
static size_t telnet_filter(struct socket_chardev *s, uint8_t *buf, size_t len)
{
    size_t out = 0;

    for (size_t i = 0; i < len; i++) {
        uint8_t c = buf[i];

        switch (s->tn) {
        case TN_DATA:
            if (c == IAC) {
                s->tn = TN_IAC;
                break;
            }
            if (!(s->tn_cr && (c == 0 || c == '\n')))   /* CR NUL and CR LF are one key */
                buf[out++] = c;
            s->tn_cr = c == '\r';
            break;
        case TN_IAC:
            s->tn = TN_DATA;
            if (c == IAC)
                buf[out++] = c;
            else if (c == TN_BREAK)
                chardev_break(&s->cd);
            else if (c == TN_SB)
                s->tn = TN_SUB;
            else if (c >= TN_WILL)
                s->tn = TN_OPTION;
            break;
        case TN_OPTION: s->tn = TN_DATA; break;
        case TN_SUB: s->tn = c == IAC ? TN_SUB_IAC : TN_SUB; break;
        case TN_SUB_IAC: s->tn = c == TN_SE ? TN_DATA : TN_SUB; break;
        }
    }
    return out;
}

/* Data bytes 255 are doubled. Returns bytes of buf taken. */
static ssize_t telnet_send(struct socket_chardev *s, const uint8_t *buf, size_t len)
{
    static const uint8_t iac = IAC;
    size_t done = 0;

    while (done < len || s->tn_half) {
        const uint8_t *special = memchr(buf + done, IAC, len - done);
        size_t n = s->tn_half ? 1 : special ? (size_t)(special - (buf + done)) + 1 : len - done;
        ssize_t r = send(s->fd, s->tn_half ? &iac : buf + done, n, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (r < 0)
            return errno == EAGAIN || errno == EINTR ? (ssize_t)done : -1;
        if (s->tn_half) {
            s->tn_half = false;
            continue;
        }
        done += r;
        s->tn_half = special && (size_t)r == n;
        if ((size_t)r < n)
            break;
    }
    return done;
}

/* ---- the connection */

static ssize_t socket_write(struct chardev *cd, const uint8_t *buf, size_t len)
{
    struct socket_chardev *s = sock(cd);
    ssize_t n;

    if (s->fd < 0)
        return -1;
    if (s->telnet)
        return telnet_send(s, buf, len);
    n = send(s->fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? 0 : -1;
}

static void socket_update(struct socket_chardev *s)
{
    if (s->watch)
        loop_fd_set(s->watch, s->connecting ? LOOP_OUT : s->want | LOOP_HUP);
    if (s->listen_watch)
        loop_fd_set(s->listen_watch, s->fd < 0 ? LOOP_IN : 0);
}

static void socket_drop(struct socket_chardev *s)
{
    if (s->watch)
        loop_fd_remove(s->watch);
    s->watch = NULL;
    g_mutex_lock(&s->cd.lock);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    g_clear_pointer(&s->peer, g_free);
    g_mutex_unlock(&s->cd.lock);
    s->connecting = false;
    chardev_set_connected(&s->cd, false);
    socket_update(s);
    if (!s->server)
        socket_connect_later(s);
}

static ssize_t socket_receive(struct socket_chardev *s, uint8_t *buf, size_t len)
{
    union { struct cmsghdr align; char space[CMSG_SPACE(CHARDEV_FDS_MAX * sizeof(int))]; } control;
    struct iovec iov = { buf, len };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                          .msg_controllen = s->is_unix ? sizeof(control) : 0 };
    ssize_t n = recvmsg(s->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (n < 0 || !s->is_unix)
        return n;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            chardev_input_fd(&s->cd, fd);
        }
    }
    return n;
}

static void socket_established(struct socket_chardev *s);

static void socket_event(void *opaque, unsigned events)
{
    struct socket_chardev *s = opaque;
    uint8_t buf[CHARDEV_IN_MAX];
    size_t room;
    ssize_t n;

    if (s->connecting) {
        int error = 0;
        socklen_t len = sizeof(error);

        if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) || error)
            socket_drop(s);
        else
            socket_established(s);
        return;
    }
    if (events & LOOP_OUT)
        chardev_flush(&s->cd);
    if (!(events & (LOOP_IN | LOOP_HUP)))
        return;
    room = chardev_room(&s->cd);
    if (!room) {
        s->want &= ~LOOP_IN;
        if (events & LOOP_HUP)
            socket_drop(s);
        else
            socket_update(s);
        return;
    }
    n = socket_receive(s, buf, room);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        socket_drop(s);
        return;
    }
    if (n > 0 && s->telnet)
        n = telnet_filter(s, buf, n);
    if (n > 0)
        chardev_input(&s->cd, buf, n);
}

static void socket_established(struct socket_chardev *s)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);
    int on = 1;

    s->connecting = false;
    if (!s->is_unix && s->nodelay)
        setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (!s->is_unix && !getpeername(s->fd, (struct sockaddr *)&peer, &len)) {
        g_autofree char *text = address_text(&peer, len);

        s->peer = g_strdup_printf(" <-> %s", text);
    }
    if (s->telnet && s->server)
        telnet_start(s);
    s->want = LOOP_IN;
    chardev_set_connected(&s->cd, true);
    socket_update(s);
}

static void socket_take(struct socket_chardev *s, int fd)
{
    g_mutex_lock(&s->cd.lock);
    s->fd = fd;
    g_mutex_unlock(&s->cd.lock);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    s->watch = loop_fd_add(s->cd.vm->loop, fd, 0, socket_event, s);
}

static void socket_incoming(void *opaque, unsigned events)
{
    struct socket_chardev *s = opaque;
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    socket_take(s, fd);
    socket_established(s);
}

static void socket_watch(struct chardev *cd, bool in, bool out)
{
    struct socket_chardev *s = sock(cd);

    s->want = (in ? LOOP_IN : 0) | (out ? LOOP_OUT : 0);
    socket_update(s);
}

/* ---- client */

static bool socket_connect(struct socket_chardev *s, bool block, struct error *err)
{
    int fd = socket(s->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | (block ? 0 : SOCK_NONBLOCK), 0);

    if (fd < 0)
        return error_set_errno(err, errno, NULL, "no socket");
    if (connect(fd, (struct sockaddr *)&s->addr, s->addr_len) && errno != EINPROGRESS) {
        error_set_errno(err, errno, "start the server first, or add server=on to be it, or reconnect-ms=1000 to go "
                        "on trying", "cannot connect to %s", s->name);
        close(fd);
        return false;
    }
    socket_take(s, fd);
    if (block)
        socket_established(s);
    else
        s->connecting = true;
    socket_update(s);
    return true;
}

static void socket_retry(void *opaque)
{
    struct socket_chardev *s = opaque;

    if (s->fd < 0 && !socket_connect(s, false, NULL))
        socket_connect_later(s);
}

static void socket_connect_later(struct socket_chardev *s)
{
    if (s->reconnect_ns && s->retry)
        loop_timer_set(s->retry, host_clock_ns() + s->reconnect_ns);
}

/* ---- server */

static bool name_taken(struct socket_chardev *s, struct error *err)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&s->addr;
    struct stat st;
    int fd;
    bool alive;

    if (!s->unlink_path || stat(un->sun_path, &st) || !S_ISSOCK(st.st_mode))
        return false;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    alive = fd >= 0 && (!connect(fd, (struct sockaddr *)&s->addr, s->addr_len) || errno == EAGAIN);
    if (fd >= 0)
        close(fd);
    if (!alive) {
        unlink(un->sun_path);           /* left behind by a process that is gone */
        return false;
    }
    error_setf(err, ERR_GENERIC, "end that process, or choose another path",
               "%s is in use: a process listens there", un->sun_path);
    return true;
}

static bool socket_listen(struct socket_chardev *s, struct error *err)
{
    int on = 1, fd;

    if (name_taken(s, err))
        return false;
    fd = socket(s->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set_errno(err, errno, NULL, "no socket");
    if (!s->is_unix)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&s->addr, s->addr_len) || listen(fd, 1)) {
        int e = errno;
        const char *hint = e == EADDRINUSE ? "another process has it: choose another port, or end that process "
                                             "(ss -ltnp shows it)"
                           : e == EACCES ? "ports below 1024 are root's; check the directory's rights for a path"
                                         : NULL;

        close(fd);
        return error_set_errno(err, e, hint, "cannot listen on %s", s->name);
    }
    s->listen_fd = fd;
    return true;
}

/* wait=on: the machine starts when the client is there. Signals are the main loop's and it does not run yet, so they
 * are looked at here. */
static bool socket_wait(struct socket_chardev *s, struct error *err)
{
    static const int signals[] = { SIGTERM, SIGINT, SIGHUP };

    info_report("waiting for a client on %s", s->name);
    while (s->fd < 0) {
        struct pollfd p = { .fd = s->listen_fd, .events = POLLIN };
        sigset_t pending;

        if (poll(&p, 1, 100) > 0)
            socket_incoming(s, LOOP_IN);
        sigpending(&pending);
        for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
            if (sigismember(&pending, signals[i]))
                return error_setf(err, ERR_GENERIC, "wait=off starts without a client",
                                  "ended by a signal while waiting on %s", s->name);
    }
    return true;
}

/* ---- making */

static bool inherited(struct socket_chardev *s, const char *text, struct error *err)
{
    socklen_t len = sizeof(s->addr), optlen = sizeof(int);
    int listening = 0;
    uint64_t fd;

    if (!g_ascii_isdigit(*text)) {
        int passed = vm_take_fd(s->cd.vm, text);

        if (passed < 0)
            return error_setf(err, ERR_GENERIC, "pass it first with getfd", "there is no file descriptor named '%s'", text);
        fd = passed;
    } else if (!parse_uint(text, INT32_MAX, &fd, err)) {
        return false;
    }
    if (getsockname(fd, (struct sockaddr *)&s->addr, &len))
        return error_set_errno(err, errno, "the caller must leave a socket open under this number", "fd=%s", text);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    s->addr_len = len;
    s->is_unix = s->addr.ss_family == AF_UNIX;
    if (s->is_unix)
        s->name = g_strdup_printf("unix:%.*s", (int)(len > offsetof(struct sockaddr_un, sun_path) ?
                                  len - offsetof(struct sockaddr_un, sun_path) : 0),
                                  ((struct sockaddr_un *)&s->addr)->sun_path);
    else
        s->name = g_strdup_printf("fd:%s", text);
    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &optlen);
    if (s->server && listening) {
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        s->listen_fd = fd;
    } else {
        s->server = false;
        s->reconnect_ns = 0;
        socket_take(s, fd);
    }
    return true;
}

static bool socket_options(struct socket_chardev *s, struct json_object *opts, bool *wait, struct error *err)
{
    bool nowait, websocket, nodelay_off;
    int64_t seconds, ms;

    if (!option_bool(opts, "server", false, &s->server, err) || !option_bool(opts, "wait", true, wait, err) ||
        !option_bool(opts, "nowait", false, &nowait, err) || !option_bool(opts, "telnet", false, &s->telnet, err) ||
        !option_bool(opts, "nodelay", false, &s->nodelay, err) || !option_bool(opts, "delay", true, &nodelay_off, err) ||
        !option_bool(opts, "websocket", false, &websocket, err) ||
        !option_int(opts, "reconnect", 0, &seconds, err) || !option_int(opts, "reconnect-ms", seconds * 1000, &ms, err))
        return false;
    if (nowait)
        *wait = false;
    if (!nodelay_off)
        s->nodelay = true;
    if (websocket || option_str(opts, "tls-creds", NULL))
        return error_set(err, ERR_GENERIC, "this build has no websocket or TLS character devices yet",
                         "use a plain socket, on a Unix path or the loopback address");
    if (ms < 0 || ms > INT32_MAX)
        return error_set(err, ERR_GENERIC, "reconnect is out of range", NULL);
    if (s->server && ms)
        return error_set(err, ERR_GENERIC, "reconnect is for clients", "drop reconnect or server");
    s->reconnect_ns = ms * 1000000;
    return true;
}

static void socket_close(struct chardev *cd)
{
    struct socket_chardev *s = sock(cd);

    s->reconnect_ns = 0;
    if (s->retry)
        loop_timer_free(s->retry);
    s->retry = NULL;
    socket_drop(s);
    if (s->listen_watch)
        loop_fd_remove(s->listen_watch);
    s->listen_watch = NULL;
    if (s->listen_fd >= 0) {
        close(s->listen_fd);
        if (s->unlink_path)
            unlink(((struct sockaddr_un *)&s->addr)->sun_path);
    }
    s->listen_fd = -1;
    g_free(s->name);
    s->name = NULL;
}

static bool socket_open(struct chardev *cd, struct json_object *opts, struct error *err)
{
    struct socket_chardev *s = sock(cd);
    const char *path = option_str(opts, "path", NULL), *fd = option_str(opts, "fd", NULL);
    bool wait, ok;

    s->fd = s->listen_fd = -1;
    if (!socket_options(s, opts, &wait, err))
        return false;
    s->retry = loop_timer_new(cd->vm->loop, socket_retry, s);
    ok = fd ? inherited(s, fd, err) : path ? unix_address(s, path, opts, err) : inet_address(s, opts, err);
    if (ok && fd && s->fd >= 0) {
        socket_established(s);
    } else if (ok && s->server) {
        ok = s->listen_fd >= 0 || socket_listen(s, err);
        if (ok)
            s->listen_watch = loop_fd_add(cd->vm->loop, s->listen_fd, LOOP_IN, socket_incoming, s);
        if (ok && wait)
            ok = socket_wait(s, err);
    } else if (ok && s->reconnect_ns) {
        if (!socket_connect(s, false, NULL))
            socket_connect_later(s);
    } else if (ok) {
        ok = socket_connect(s, true, err);
    }
    if (!ok)
        socket_close(cd);
    return ok;
}

static char *socket_filename(struct chardev *cd)
{
    struct socket_chardev *s = sock(cd);
    char *text;

    g_mutex_lock(&cd->lock);
    text = g_strdup_printf("%s%s%s%s", cd->connected ? "" : "disconnected:", s->name, s->server ? ",server=on" : "",
                           s->peer ? s->peer : "");
    g_mutex_unlock(&cd->lock);
    return text;
}

const struct chardev_class chardev_socket = {
    .name = "socket", .summary = "a Unix or TCP socket, also telnet; client or server",
    .size = sizeof(struct socket_chardev),
    .params = (const char *const[]){ "path", "host", "port", "fd", "server", "wait", "nowait", "telnet", "reconnect",
                                     "reconnect-ms", "nodelay", "delay", "ipv4", "ipv6", "abstract", "tight",
                                     "websocket", "tls-creds", "to", NULL },
    .open = socket_open, .close = socket_close, .write = socket_write, .watch = socket_watch,
    .filename = socket_filename,
};

/* ---- UDP: each read is what one datagram held, as far as there is room */

struct udp_chardev { struct chardev cd; int fd; struct loop_fd *watch; char *name; };

static void udp_event(void *opaque, unsigned events)
{
    struct udp_chardev *u = opaque;
    uint8_t buf[CHARDEV_IN_MAX];
    size_t room = chardev_room(&u->cd);
    ssize_t n;

    if (events & LOOP_OUT)
        chardev_flush(&u->cd);
    n = room && (events & LOOP_IN) ? recv(u->fd, buf, room, MSG_DONTWAIT) : 0;
    if (n > 0)
        chardev_input(&u->cd, buf, n);
}

static void udp_watch(struct chardev *cd, bool in, bool out)
{
    loop_fd_set(((struct udp_chardev *)cd)->watch, (in ? LOOP_IN : 0) | (out ? LOOP_OUT : 0));
}

static ssize_t udp_write(struct chardev *cd, const uint8_t *buf, size_t len)
{
    size_t chunk = MIN(len, 1472);      /* one datagram that an Ethernet carries whole */
    ssize_t n = send(((struct udp_chardev *)cd)->fd, buf, chunk, MSG_NOSIGNAL | MSG_DONTWAIT);

    return n >= 0 ? n : errno == EAGAIN ? 0 : (ssize_t)chunk;  /* an unreachable peer loses it, as datagrams are */
}

static void udp_close(struct chardev *cd)
{
    struct udp_chardev *u = (struct udp_chardev *)cd;

    if (u->watch)
        loop_fd_remove(u->watch);
    g_mutex_lock(&cd->lock);
    if (u->fd >= 0)
        close(u->fd);
    u->fd = -1;
    g_mutex_unlock(&cd->lock);
    g_free(u->name);
}

static bool udp_open(struct chardev *cd, struct json_object *opts, struct error *err)
{
    struct udp_chardev *u = (struct udp_chardev *)cd;
    const char *host = option_str(opts, "host", "localhost"), *port = option_str(opts, "port", NULL);
    struct sockaddr_storage remote, local;
    socklen_t remote_len, local_len;
    int family = address_family(opts, err);

    u->fd = -1;
    if (error_is_set(err))
        return false;
    if (!port)
        return error_set(err, ERR_GENERIC, "the port is missing", "add port=PORT");
    if (!resolve(*host ? host : "localhost", port, false, family, SOCK_DGRAM, &remote, &remote_len, err) ||
        !resolve(option_str(opts, "localaddr", ""), option_str(opts, "localport", "0"), true, remote.ss_family,
                 SOCK_DGRAM, &local, &local_len, err))
        return false;
    u->fd = socket(remote.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (u->fd < 0 || bind(u->fd, (struct sockaddr *)&local, local_len) ||
        connect(u->fd, (struct sockaddr *)&remote, remote_len)) {
        error_set_errno(err, errno, "another process may have the local port", "UDP to %s:%s", host, port);
        udp_close(cd);
        return false;
    }
    u->name = g_strdup_printf("udp:%s:%s", host, port);
    u->watch = loop_fd_add(cd->vm->loop, u->fd, 0, udp_event, u);
    chardev_set_connected(cd, true);
    return true;
}

static char *udp_filename(struct chardev *cd)
{
    return g_strdup(((struct udp_chardev *)cd)->name);
}

const struct chardev_class chardev_udp = {
    .name = "udp", .summary = "datagrams", .size = sizeof(struct udp_chardev),
    .params = (const char *const[]){ "host", "port", "localaddr", "localport", "ipv4", "ipv6", NULL },
    .open = udp_open, .close = udp_close, .write = udp_write, .watch = udp_watch, .filename = udp_filename,
};
