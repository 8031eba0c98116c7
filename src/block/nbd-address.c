/* Where NBD peers are: socket addresses as options, as URIs (https://github.com/NetworkBlockDevice/nbd, doc/uri.md), and
 * in the older spelling nbd:HOST:PORT:exportname=NAME. */
#include "block/nbd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <glib.h>
#include "rhea/base/options.h"

static void put(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, json_object_new_string(value));
}

static struct json_object *address_unix(const char *path)
{
    struct json_object *a = json_object_new_object();

    put(a, "type", "unix");
    put(a, "path", path);
    return a;
}

static struct json_object *address_inet(const char *host, const char *port)
{
    struct json_object *a = json_object_new_object();

    put(a, "type", "inet");
    put(a, "host", host);
    put(a, "port", port);
    return a;
}

/* ---- options */

static bool address_check(struct json_object *a, struct error *err)
{
    static const struct { const char *type, *needs[3]; } types[] = {
        { "inet", { "host", "port" } }, { "unix", { "path" } }, { "vsock", { "cid", "port" } }, { "fd", { "str" } },
    };
    const char *type = option_str(a, "type", NULL);

    if (!type)
        return error_set(err, ERR_GENERIC, "Parameter 'server.type' is missing", "it is inet, unix, vsock or fd");
    for (unsigned i = 0; i < G_N_ELEMENTS(types); i++) {
        if (strcmp(types[i].type, type))
            continue;
        for (const char *const *n = types[i].needs; *n; n++)
            if (!option_str(a, *n, NULL))
                return error_setf(err, ERR_GENERIC, NULL, "Parameter 'server.%s' is missing", *n);
        return true;
    }
    return error_setf(err, ERR_GENERIC, "it is inet, unix, vsock or fd", "Invalid server.type '%s'", type);
}

struct json_object *nbd_address_from_options(struct json_object *opts, struct error *err)
{
    const char *host = option_str(opts, "host", NULL), *port = option_str(opts, "port", NULL), *path = option_str(opts, "path", NULL);
    struct json_object *server = NULL, *a;

    json_object_object_get_ex(opts, "server", &server);
    if (!!server + !!host + !!path != 1 || (port && !host)) {
        error_set(err, ERR_GENERIC, server || host || path ? "give one of server, host and path" : "NBD server address missing",
                  "server.type=inet,server.host=HOST,server.port=10809, or server.type=unix,server.path=PATH");
        return NULL;
    }
    if (path)
        return address_unix(path);
    if (host)
        return address_inet(host, port ? port : NBD_DEFAULT_PORT);
    a = json_object_is_type(server, json_type_object) ? json_object_get(server) : NULL;
    if (!a || !address_check(a, err)) {
        error_set(err, ERR_GENERIC, "server is an address", "server.type=inet,server.host=HOST,server.port=10809");
        json_object_put(a);
        return NULL;
    }
    return a;
}

char *nbd_address_text(struct json_object *a)
{
    const char *type = option_str(a, "type", ""), *host = option_str(a, "host", "");

    if (!strcmp(type, "unix"))
        return g_strdup(option_str(a, "path", ""));
    if (!strcmp(type, "vsock"))
        return g_strdup_printf("vsock:%s:%s", option_str(a, "cid", ""), option_str(a, "port", ""));
    if (!strcmp(type, "fd"))
        return g_strdup_printf("fd:%s", option_str(a, "str", ""));
    return g_strdup_printf(strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, option_str(a, "port", ""));
}

/* ---- names */

static struct json_object *name_options(struct json_object *server, const char *export)
{
    struct json_object *o = json_object_new_object();

    put(o, "driver", "nbd");
    json_object_object_add(o, "server", server);
    if (export && *export)
        put(o, "export", export);
    return o;
}

static struct json_object *bad_name(const char *name, const char *why, struct error *err)
{
    error_setf(err, ERR_GENERIC, "nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH", "%s: %s", name, why);
    return NULL;
}

static struct json_object *options_from_uri(const char *name, struct error *err)
{
    g_autoptr(GUri) uri = g_uri_parse(name, G_URI_FLAGS_NONE, NULL);
    g_autoptr(GHashTable) query = NULL;
    g_autofree char *port = NULL;
    const char *scheme, *path, *host, *sock, *creds;
    struct json_object *o;
    bool tls;

    if (!uri)
        return bad_name(name, "it is not a well-formed URI", err);
    query = g_uri_get_query(uri) ? g_uri_parse_params(g_uri_get_query(uri), -1, "&;", G_URI_PARAMS_NONE, NULL) : NULL;
    if (g_uri_get_query(uri) && !query)
        return bad_name(name, "what follows '?' is not well-formed", err);
    scheme = g_uri_get_scheme(uri);
    tls = g_str_has_prefix(scheme, "nbds");
    scheme += tls ? 4 : 3;
    path = g_uri_get_path(uri);
    path += *path == '/';
    host = g_uri_get_host(uri);
    sock = query ? g_hash_table_lookup(query, "socket") : NULL;
    creds = query ? g_hash_table_lookup(query, "tls-creds") : NULL;
    if (query && g_hash_table_size(query) != !!sock + !!creds)
        return bad_name(name, "parameters can only be socket and tls-creds", err);
    if (tls && !creds)
        return bad_name(name, "TLS needs credentials: add ?tls-creds=ID of an -object tls-creds-x509", err);
    if (!strcmp(scheme, "+unix")) {
        if (!sock || (host && *host) || g_uri_get_port(uri) > 0)
            return bad_name(name, "it needs ?socket=PATH, and no host", err);
        o = name_options(address_unix(sock), path);
    } else if (!*scheme || !strcmp(scheme, "+tcp")) {
        if (!host || !*host || sock)
            return bad_name(name, "it needs a host, and no socket=", err);
        port = g_uri_get_port(uri) > 0 ? g_strdup_printf("%d", g_uri_get_port(uri)) : g_strdup(NBD_DEFAULT_PORT);
        o = name_options(address_inet(host, port), path);
    } else if (!strcmp(scheme, "+vsock") && host && *host) {
        struct json_object *a = json_object_new_object();

        port = g_uri_get_port(uri) > 0 ? g_strdup_printf("%d", g_uri_get_port(uri)) : g_strdup(NBD_DEFAULT_PORT);
        put(a, "type", "vsock");
        put(a, "cid", host);
        put(a, "port", port);
        o = name_options(a, path);
    } else {
        return bad_name(name, "schemes are nbd, nbd+tcp, nbd+unix, nbd+vsock, and nbds for TLS", err);
    }
    if (creds)
        put(o, "tls-creds", creds);
    return o;
}

struct json_object *nbd_options_from_name(const char *name, struct error *err)
{
    static const char marker[] = ":exportname=";
    g_autofree char *text = NULL, *host = NULL;
    const char *export;
    char *end, *colon;

    if (!g_str_has_prefix(name, "nbd:") || g_str_has_prefix(name, "nbd://"))
        return options_from_uri(name, err);
    text = g_strdup(name + 4);
    end = strstr(text, marker);
    export = end ? end + strlen(marker) : NULL;
    if (end)
        *end = 0;
    if (g_str_has_prefix(text, "unix:"))
        return text[5] ? name_options(address_unix(text + 5), export) : bad_name(name, "the socket's path is missing", err);
    colon = strrchr(text, ':');
    if (!colon || colon == text || !colon[1])
        return bad_name(name, "it needs a host and a port", err);
    host = *text == '[' && colon[-1] == ']' ? g_strndup(text + 1, colon - text - 2) : g_strndup(text, colon - text);
    return name_options(address_inet(host, colon + 1), export);
}

/* ---- sockets */

static bool unix_sockaddr(struct json_object *a, struct sockaddr_un *un, socklen_t *len, struct error *err)
{
    const char *path = option_str(a, "path", "");
    bool abstract;

    *un = (struct sockaddr_un){ .sun_family = AF_UNIX };
    *len = sizeof(*un);
    if (!option_bool(a, "abstract", false, &abstract, err))
        return false;
    if (strlen(path) + abstract >= sizeof(un->sun_path))
        return error_setf(err, ERR_GENERIC, "the system takes 107 bytes at most: choose a shorter path",
                          "the socket's path is %zu bytes long", strlen(path));
    strcpy(un->sun_path + abstract, path);
    if (abstract)
        *len = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(path);
    return true;
}

static bool vsock_sockaddr(struct json_object *a, struct sockaddr_vm *vm, struct error *err)
{
    uint64_t cid, port;

    if (!parse_uint(option_str(a, "cid", ""), UINT32_MAX, &cid, err) || !parse_uint(option_str(a, "port", ""), UINT32_MAX, &port, err))
        return false;
    *vm = (struct sockaddr_vm){ .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
    return true;
}

/* A descriptor that this process was started with. */
static int inherited_fd(struct json_object *a, struct error *err)
{
    uint64_t fd;
    struct stat st;

    if (!parse_uint(option_str(a, "str", ""), INT32_MAX, &fd, err))
        return -1;
    if (fstat(fd, &st) || !S_ISSOCK(st.st_mode)) {
        error_setf(err, ERR_GENERIC, "pass the number of an open socket", "descriptor %d is not a socket", (int)fd);
        return -1;
    }
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/* Connects within ms; 0 or -errno. */
static int connect_within(int fd, const struct sockaddr *addr, socklen_t len, int ms, const volatile bool *cancel)
{
    struct pollfd p = { .fd = fd, .events = POLLOUT };
    int error = 0;
    socklen_t error_len = sizeof(error);

    if (!connect(fd, addr, len))
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    for (; ms > 0; ms -= 100) {
        if (poll(&p, 1, MIN(ms, 100)) > 0)
            return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_len) ? -errno : -error;
        if (cancel && *cancel)
            return -ECANCELED;
    }
    return -ETIMEDOUT;
}

static int connect_one(const struct sockaddr *addr, socklen_t len, int ms, const volatile bool *cancel, int *fd)
{
    int ret;

    *fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0)
        return -errno;
    ret = connect_within(*fd, addr, len, ms, cancel);
    if (!ret)
        return 0;
    close(*fd);
    *fd = -1;
    return ret;
}

static struct addrinfo *resolve(struct json_object *a, const char *port, bool passive, struct error *err)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = passive ? AI_PASSIVE : 0 }, *list;
    const char *host = option_str(a, "host", "");
    bool v4, v6, numeric, mptcp;
    int r;

    if (!option_bool(a, "ipv4", false, &v4, err) || !option_bool(a, "ipv6", false, &v6, err) ||
        !option_bool(a, "numeric", false, &numeric, err) || !option_bool(a, "mptcp", false, &mptcp, err))
        return NULL;
    if (mptcp) {
        error_set(err, ERR_GENERIC, "multipath TCP is not supported", "leave out mptcp");
        return NULL;
    }
    if (*port && strspn(port, "0123456789") == strlen(port) && (strlen(port) > 5 || atoi(port) > 65535)) {
        error_setf(err, ERR_GENERIC, "ports go up to 65535", "'%s' is not a port", port);
        return NULL;
    }
    hints.ai_flags |= numeric ? AI_NUMERICHOST | AI_NUMERICSERV : 0;
    hints.ai_family = v4 && !v6 ? AF_INET : v6 && !v4 ? AF_INET6 : AF_UNSPEC;
    r = getaddrinfo(*host ? host : NULL, port, &hints, &list);
    if (!r)
        return list;
    error_setf(err, ERR_GENERIC, "check the name and the port", "address resolution failed for %s:%s: %s", host, port, gai_strerror(r));
    return NULL;
}

/* The host's TCP asks silent peers whether they live; what a listening socket is told its connections are, too. */
static bool keep_alive(struct json_object *a, int fd, struct error *err)
{
    bool on;
    int one = 1;

    if (!option_bool(a, "keep-alive", false, &on, err))
        return false;
    if (on)
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    return true;
}

int nbd_address_connect(struct json_object *a, int ms, const volatile bool *cancel, struct error *err)
{
    const char *type = option_str(a, "type", "");
    g_autofree char *text = nbd_address_text(a);
    struct sockaddr_vm vm;
    struct sockaddr_un un;
    socklen_t len;
    int fd = -1, ret = -EINVAL;

    if (!strcmp(type, "fd")) {
        return inherited_fd(a, err);
    } else if (!strcmp(type, "unix")) {
        if (!unix_sockaddr(a, &un, &len, err))
            return -1;
        ret = connect_one((struct sockaddr *)&un, len, ms, cancel, &fd);
    } else if (!strcmp(type, "vsock")) {
        if (!vsock_sockaddr(a, &vm, err))
            return -1;
        ret = connect_one((struct sockaddr *)&vm, sizeof(vm), ms, cancel, &fd);
    } else {
        struct addrinfo *list = resolve(a, option_str(a, "port", ""), false, err);

        if (!list)
            return -1;
        for (struct addrinfo *i = list; i && ret; i = i->ai_next)
            ret = connect_one(i->ai_addr, i->ai_addrlen, ms, cancel, &fd);
        freeaddrinfo(list);
        if (!ret && !keep_alive(a, fd, err)) {
            close(fd);
            return -1;
        }
    }
    if (ret)
        error_set_errno(err, -ret, "is the server running?", "Failed to connect to '%s'", text);
    return ret ? -1 : fd;
}

/* ---- listening */

static int listen_one(const struct sockaddr *addr, socklen_t len, int backlog, int *fd)
{
    int on = 1;

    *fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0)
        return -errno;
    if (addr->sa_family == AF_INET || addr->sa_family == AF_INET6)
        setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (addr->sa_family == AF_INET6)
        setsockopt(*fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (!bind(*fd, addr, len) && !listen(*fd, backlog))
        return 0;
    on = -errno;
    close(*fd);
    *fd = -1;
    return on;
}

/* A socket's file that nobody listens on any more is in the way. */
static void remove_stale(const struct sockaddr_un *un, socklen_t len)
{
    struct stat st;
    int fd;

    if (!un->sun_path[0] || lstat(un->sun_path, &st) || !S_ISSOCK(st.st_mode))
        return;
    if (connect_one((const struct sockaddr *)un, len, 1000, NULL, &fd) == -ECONNREFUSED)
        unlink(un->sun_path);
    if (fd >= 0)
        close(fd);
}

/* On a port, on all addresses of the host's name: how many; or -errno in *ret. */
static int listen_port(struct json_object *a, const char *port, int *fds, int max, int backlog, int *ret, struct error *err)
{
    struct addrinfo *list = resolve(a, port, true, err);
    int n = 0;

    if (!list)
        return -1;
    for (struct addrinfo *i = list; i && n < max; i = i->ai_next) {
        int one = listen_one(i->ai_addr, i->ai_addrlen, backlog, &fds[n]);

        *ret = one && n ? *ret : one;
        if (!one && !keep_alive(a, fds[n++], err)) {
            while (n)
                close(fds[--n]);
            n = -1;
            break;
        }
    }
    freeaddrinfo(list);
    return n;
}

/* On the first port that nobody has, up to "to". */
static int listen_inet(struct json_object *a, int *fds, int max, int backlog, int *ret, struct error *err)
{
    const char *port = option_str(a, "port", "");
    uint64_t first = 0, to;
    int n;

    if (!option_size(a, "to", 0, &to, err) || (to && !parse_uint(port, 65535, &first, err)))
        return -1;
    if (to > 65535 || (to && to < first)) {
        error_set(err, ERR_GENERIC, "'to' is a port, and not below the first", "port=10809,to=10820");
        return -1;
    }
    n = listen_port(a, port, fds, max, backlog, ret, err);
    for (uint64_t p = first + 1; !n && *ret == -EADDRINUSE && p <= to; p++) {
        g_autofree char *text = g_strdup_printf("%" PRIu64, p);

        n = listen_port(a, text, fds, max, backlog, ret, err);
    }
    return n;
}

static const char *listen_hint(int errnum)
{
    switch (errnum) {
    case EADDRINUSE: return "another program has it: choose another port or path";
    case ENOENT: return "the socket's folder is not there: mkdir -p makes it";
    case EACCES: return "ports below 1024 are the administrator's; a socket needs a folder that you may write to";
    default: return NULL;
    }
}

int nbd_address_listen(struct json_object *a, int *fds, int max, int backlog, struct error *err)
{
    const char *type = option_str(a, "type", "");
    g_autofree char *text = NULL;
    struct sockaddr_vm vm;
    struct sockaddr_un un;
    socklen_t len;
    int n = 0, ret = -EINVAL;

    if (!address_check(a, err))
        return 0;
    text = nbd_address_text(a);
    if (!strcmp(type, "fd")) {
        fds[0] = inherited_fd(a, err);
        return fds[0] >= 0;
    } else if (!strcmp(type, "unix")) {
        if (!unix_sockaddr(a, &un, &len, err))
            return 0;
        remove_stale(&un, len);
        ret = listen_one((struct sockaddr *)&un, len, backlog, &fds[0]);
        n = !ret;
    } else if (!strcmp(type, "vsock")) {
        if (!vsock_sockaddr(a, &vm, err))
            return 0;
        ret = listen_one((struct sockaddr *)&vm, sizeof(vm), backlog, &fds[0]);
        n = !ret;
    } else {
        n = listen_inet(a, fds, max, backlog, &ret, err);
        if (n < 0)
            return 0;
    }
    if (!n)
        error_set_errno(err, -ret, listen_hint(-ret), "Failed to listen on '%s'", text);
    return n;
}
