/* The server's side of -g: where it listens, one client at a time. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "gdb_server.h"
#include "internal.h"
#include "rhea/base/options.h"

enum { HIGH_FD = 512 };         /* programs close what they find below */

int debugger_fd(int fd)
{
    int high = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD) : -1;

    if (high < 0)
        return fd;
    close(fd);
    return high;
}

/* ---- the address */

/* The socket appears under its name when it listens: who waits for the name may connect at once. */
static int listen_unix(const char *path, struct error *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct stat st;
    int fd, e = 0;

    if (g_snprintf(a.sun_path, sizeof(a.sun_path), "%s~", path) >= (int)sizeof(a.sun_path)) {
        error_setf(err, ERR_GENERIC, "choose a shorter one", "-g: %s: too long for a socket's path", path);
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    for (unsigned n = 0; n < 2; n++) {
        const char *old = n ? path : a.sun_path;

        if (lstat(old, &st) == 0 && S_ISSOCK(st.st_mode))
            unlink(old);
    }
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        e = errno;
    if (!e) {
        if (listen(fd, 1) < 0 || link(a.sun_path, path) < 0)
            e = errno;
        unlink(a.sun_path);
    }
    if (e) {
        error_set_errno(err, e, NULL, "-g: %s", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

static int listen_tcp(const char *host, const char *port, struct error *err)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list = NULL;
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct sockaddr *a = (struct sockaddr *)&in;
    socklen_t n = sizeof(in);
    uint64_t number;
    int fd, one = 1, e = 0;

    if (!parse_uint(port, UINT16_MAX, &number, err))
        return -1;
    in.sin_port = htons((uint16_t)number);
    if (host && strcmp(host, "localhost")) {
        e = getaddrinfo(host, port, &hints, &list);
        if (e) {
            error_setf(err, ERR_GENERIC, NULL, "-g: %s: %s", host, gai_strerror(e));
            return -1;
        }
        a = list->ai_addr;
        n = list->ai_addrlen;
    }
    fd = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd < 0 || bind(fd, a, n) < 0 || listen(fd, 1) < 0) {
        error_set_errno(err, errno, "choose another port", "-g: port %s", port);
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    if (list)
        freeaddrinfo(list);
    return fd;
}

static bool is_number(const char *s) { return *s && strspn(s, "0123456789") == strlen(s); }

static int listen_at(const char *where, struct error *err)
{
    const char *colon = strrchr(where, ':');

    if (is_number(where))
        return listen_tcp(NULL, where, err);
    if (colon && is_number(colon + 1) && !strchr(where, '/')) {
        g_autofree char *host = g_strndup(where, (gsize)(colon - where));

        return listen_tcp(*host ? host : "0.0.0.0", colon + 1, err);
    }
    return listen_unix(where, err);
}

/* ---- the loop */

static void client_gone(struct debugger *d)
{
    close(d->client_fd);
    d->client_fd = -1;
    gdb_disconnected(d->gdb);
    family_close(d);
    if (d->active)
        debugger_release(d);
}

static void client_comes(struct debugger *d)
{
    int fd = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC), one = 1;

    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    d->client_fd = debugger_fd(fd);
    signal_debug(true);
    debugger_attach(d);
}

static void client_speaks(struct debugger *d)
{
    uint8_t buf[4096];
    ssize_t n = recv(d->client_fd, buf, sizeof(buf), 0);

    if (n > 0)
        gdb_receive(d->gdb, buf, (size_t)n);
    else if (n == 0 || errno != EINTR)
        client_gone(d);
}

static void *serve(void *opaque)
{
    struct debugger *d = opaque;

    pthread_mutex_lock(&d->lock);
    for (;;) {
        struct pollfd p[2] = { { d->client_fd >= 0 ? d->client_fd : d->listen_fd, POLLIN, 0 }, { d->event_fd, POLLIN, 0 } };
        uint64_t count;
        int n;

        if (d->family && !d->speaks) {
            if (!family_wait(d))
                client_gone(d);
            continue;
        }
        family_runs(d, gdb_is_running(d->gdb));
        pthread_mutex_unlock(&d->lock);
        n = poll(p, 2, -1);
        pthread_mutex_lock(&d->lock);
        if (n < 0)
            continue;
        if (p[1].revents & POLLIN && read(d->event_fd, &count, sizeof(count)) == sizeof(count))
            debugger_events(d);
        if (!p[0].revents)
            continue;
        if (d->client_fd >= 0)
            client_speaks(d);
        else if (p[0].revents & POLLIN)
            client_comes(d);
        else
            return NULL;                /* the program closed our socket */
    }
}

int debugger_serve(struct debugger *d)
{
    sigset_t all, old;
    pthread_t id;
    int e;

    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    e = pthread_create(&id, NULL, serve, d);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!e)
        pthread_detach(id);
    return e;
}

bool process_debug(struct thread *t, const char *where, struct error *err)
{
    struct debugger *d = g_new0(struct debugger, 1);
    g_autofree char *address = g_strdup(where);
    char *comma = strrchr(address, ',');
    bool waits = true;
    int e;

    bool goes_on = g_str_has_prefix(where, "fd:");

    if (comma && g_str_has_prefix(comma, ",suspend=")) {
        waits = strcmp(comma, ",suspend=n");
        *comma = 0;
    }
    d->process = t->process;
    d->target = debugger_target;
    d->target.debug = t->process->guest->guest->debug;
    d->client_fd = d->family_fd = d->fork_pipe[0] = d->fork_pipe[1] = d->fork_fd = -1;
    d->listen_fd = goes_on ? -1 : debugger_fd(listen_at(address, err));
    if (d->listen_fd < 0 && !goes_on) {
        g_free(d);
        return false;
    }
    d->event_fd = debugger_fd(eventfd(0, EFD_CLOEXEC));
    d->gdb = gdb_new(&d->target, d);
    d->breaks = g_array_new(FALSE, TRUE, sizeof(struct breakpoint));
    d->watches = g_array_new(FALSE, TRUE, sizeof(struct watchpoint));
    pthread_mutex_init(&d->lock, NULL);
    pthread_mutex_init(&d->break_lock, NULL);
    pthread_cond_init(&d->cond, NULL);
    d->active = d->stopping = waits;
    t->process->engine->debugger = d;
    signal_debug(!waits || goes_on);    /* who waits for the first client can be ended: Ctrl-C */
    if (goes_on && !debugger_continue(d, where, t))
        return error_setf(err, ERR_GENERIC, NULL, "-g: %s: no session to go on with", where);
    e = debugger_serve(d);
    if (e)
        return error_set_errno(err, e, NULL, "-g: no thread for the debugger");
    return true;
}
