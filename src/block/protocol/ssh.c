/* ssh: files of a server, over SFTP (draft-ietf-secsh-filexfer-02) through libssh. A session does one thing at a time, on a
 * thread of the pool; within it a read has many requests under way. */
#include <libssh/libssh.h>
#include <libssh/sftp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "block/aio.h"
#include "block/nbd.h"
#include "rhea/base/library.h"
#include "rhea/base/options.h"
#include "rhea/block/node.h"

enum { CONNECT_MS = 30000, ANSWER_S = 60, TRANSFER_MAX = 2 << 20, READ_CHUNK = 32 << 10, WRITE_CHUNK = 128 << 10,
       READS_MAX = TRANSFER_MAX / READ_CHUNK };

#undef ssh_key_free
#define SYMBOLS(X)                                                                                                          \
    X(ssh_new) X(ssh_free) X(ssh_options_set) X(ssh_connect) X(ssh_disconnect) X(ssh_get_error)                            \
    X(ssh_session_is_known_server) X(ssh_get_server_publickey) X(ssh_get_publickey_hash) X(ssh_clean_pubkey_hash)          \
    X(ssh_key_free) X(ssh_userauth_none) X(ssh_userauth_list) X(ssh_userauth_publickey_auto)                               \
    X(sftp_new) X(sftp_free) X(sftp_init) X(sftp_get_error) X(sftp_open) X(sftp_close) X(sftp_fstat) X(sftp_setstat)       \
    X(sftp_attributes_free) X(sftp_seek64) X(sftp_read) X(sftp_write) X(sftp_async_read_begin) X(sftp_async_read)          \
    X(sftp_extension_supported) X(sftp_fsync)
#define DECLARE(name) typeof(name) *name;
#define SYMBOL(name) { #name, (void **)&api.name },
static struct { SYMBOLS(DECLARE) } api;
static const struct library_symbol api_symbols[] = { SYMBOLS(SYMBOL) { NULL, NULL } };
static struct library libssh = { .sonames = { "libssh.so.4", "libssh-gcrypt.so.4" }, .hint = "install libssh-4",
                                 .symbols = api_symbols };

/* How the server proves that it is the one. */
enum check_mode { CHECK_KNOWN_HOSTS, CHECK_NONE, CHECK_HASH };

struct ssh {
    struct json_object *addr;
    char *user, *path, *hash;
    enum check_mode check;
    enum ssh_publickey_hash_type hash_type;
    ssh_session session;
    sftp_session sftp;
    sftp_file file;
    int fd;                     /* the session's is a copy of it; -1: none yet */
    uint64_t size;
    struct co_mutex lock;       /* one call at a time */
    atomic_bool failed;         /* the connection is gone, or was given up */
    bool read_only, fall_back;  /* opened so; or if writing is not allowed */
    bool flush_told;
};

static const char *const ssh_options[] = { "server", "host", "port", "path", "user", "host_key_check", "host-key-check", NULL };
static const char *const ssh_create_options[] = { "size", NULL };

/* ---- names */

static void put(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, json_object_new_string(value));
}

/* ssh://[user@]server[:port]/path[?host_key_check=...] */
static struct json_object *ssh_name_options(const char *filename, struct error *err)
{
    g_autoptr(GUri) uri = g_uri_parse(filename, G_URI_FLAGS_NONE, NULL);
    g_autoptr(GHashTable) query = NULL;
    g_autofree char *port = NULL;
    const char *check;
    struct json_object *o;

    if (uri && g_uri_get_query(uri))
        query = g_uri_parse_params(g_uri_get_query(uri), -1, "&;", G_URI_PARAMS_NONE, NULL);
    if (!uri || !g_uri_get_host(uri) || !*g_uri_get_host(uri) || strlen(g_uri_get_path(uri)) < 2 || (g_uri_get_query(uri) && !query)) {
        error_setf(err, ERR_GENERIC, "ssh://[USER@]HOST[:PORT]/PATH[?host_key_check=no]", "%s: not the name of a file by ssh", filename);
        return NULL;
    }
    port = g_strdup_printf("%d", g_uri_get_port(uri) > 0 ? g_uri_get_port(uri) : 22);
    check = query ? g_hash_table_lookup(query, "host_key_check") : NULL;
    o = json_object_new_object();
    put(o, "driver", "ssh");
    put(o, "host", g_uri_get_host(uri));
    put(o, "port", port);
    put(o, "path", g_uri_get_path(uri));
    if (g_uri_get_userinfo(uri))
        put(o, "user", g_uri_get_userinfo(uri));
    if (check)
        put(o, "host_key_check", check);
    return o;
}

static const struct { const char *name; enum ssh_publickey_hash_type type; } hash_types[] = {
    { "md5", SSH_PUBLICKEY_HASH_MD5 }, { "sha1", SSH_PUBLICKEY_HASH_SHA1 }, { "sha256", SSH_PUBLICKEY_HASH_SHA256 },
};

static bool hash_take(struct ssh *s, const char *type, const char *hash, struct error *err)
{
    for (unsigned i = 0; type && hash && i < G_N_ELEMENTS(hash_types); i++) {
        if (strcmp(hash_types[i].name, type))
            continue;
        s->check = CHECK_HASH;
        s->hash_type = hash_types[i].type;
        s->hash = g_strdup(hash);
        return true;
    }
    return error_set(err, ERR_GENERIC, "host-key-check of mode hash needs a type and a hash",
                     "host-key-check.mode=hash,host-key-check.type=sha256,host-key-check.hash=HEX");
}

/* The structured form, or "yes", "no", "sha256:HEX". */
static bool check_take(struct ssh *s, struct json_object *opts, struct error *err)
{
    const char *text = option_str(opts, "host_key_check", NULL), *colon = text ? strchr(text, ':') : NULL, *mode;
    g_autofree char *type = colon ? g_strndup(text, colon - text) : NULL;
    struct json_object *o = NULL;

    json_object_object_get_ex(opts, "host-key-check", &o);
    if (text && o)
        return error_set(err, ERR_GENERIC, "give either host_key_check or host-key-check", NULL);
    if (colon)
        return hash_take(s, type, colon + 1, err);
    mode = o ? option_str(o, "mode", "") : !text || !strcmp(text, "yes") ? "known_hosts" : !strcmp(text, "no") ? "none" : text;
    if (!strcmp(mode, "hash"))
        return hash_take(s, o ? option_str(o, "type", NULL) : NULL, o ? option_str(o, "hash", NULL) : NULL, err);
    if (strcmp(mode, "none") && strcmp(mode, "known_hosts"))
        return error_setf(err, ERR_GENERIC, "it is known_hosts (yes), none (no), or a hash (sha256:HEX)",
                          "unknown host_key_check setting (%s)", mode);
    s->check = strcmp(mode, "none") ? CHECK_KNOWN_HOSTS : CHECK_NONE;
    return true;
}

static bool options_take(struct ssh *s, struct json_object *opts, struct error *err)
{
    struct json_object *server = NULL;
    const char *host, *path = option_str(opts, "path", NULL);

    json_object_object_get_ex(opts, "server", &server);
    if (!!server == !!option_str(opts, "host", NULL))
        return error_set(err, ERR_GENERIC, "driver ssh needs a server", "server.host=HOST,server.port=22");
    server = server ? server : opts;
    host = option_str(server, "host", NULL);
    if (!host || !path || !*path)
        return error_setf(err, ERR_GENERIC, "server.host=HOST,server.port=22,path=/FILE", "driver ssh needs a %s", host ? "path" : "host");
    s->addr = json_object_new_object();
    put(s->addr, "type", "inet");
    put(s->addr, "host", host);
    put(s->addr, "port", option_str(server, "port", "22"));
    s->user = g_strdup(option_str(opts, "user", g_get_user_name()));
    s->path = g_strdup(path);
    return check_take(s, opts, err);
}

/* ---- the session's errors */

static int errno_of(int sftp_error)
{
    static const struct { int from, to; } table[] = {
        { SSH_FX_EOF, EIO }, { SSH_FX_NO_SUCH_FILE, ENOENT }, { SSH_FX_NO_SUCH_PATH, ENOENT }, { SSH_FX_PERMISSION_DENIED, EACCES },
        { SSH_FX_OP_UNSUPPORTED, ENOTSUP }, { SSH_FX_WRITE_PROTECT, EROFS }, { SSH_FX_NO_MEDIA, ENXIO },
        { SSH_FX_FILE_ALREADY_EXISTS, EEXIST },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++)
        if (table[i].from == sftp_error)
            return table[i].to;
    return EIO;
}

/* -errno of what failed. A status of the file leaves the connection as it is. */
static int sftp_failure(struct ssh *s)
{
    int e = api.sftp_get_error(s->sftp);

    if (e == SSH_FX_OK || e == SSH_FX_CONNECTION_LOST || e == SSH_FX_NO_CONNECTION || e == SSH_FX_BAD_MESSAGE)
        s->failed = true;
    return -errno_of(e);
}

/* The server has a hand in this text. */
static bool session_error(struct ssh *s, struct error *err, const char *hint, const char *what)
{
    g_autofree char *text = g_strdup(s->session ? api.ssh_get_error(s->session) : "out of memory");

    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    g_autofree char *where = nbd_address_text(s->addr);
    return error_setf(err, ERR_GENERIC, hint, "%s at %s: %s", what, where, text);
}

/* ---- calls */

struct call {
    struct ssh *s;
    int (*fn)(struct call *c);
    uint64_t off, bytes;
    uint8_t *buf;
    int flags;                  /* open()'s */
    struct error *err;
};

static int call_job(void *arg)
{
    struct call *c = arg;

    return c->fn(c);
}

/* Wakes the thread that waits for the server's answer: it finds the connection at its end. */
static void give_up(void *arg)
{
    struct ssh *s = arg;

    s->failed = true;
    shutdown(s->fd, SHUT_RDWR);
}

/* [co] */
static int call_run(struct call *c)
{
    struct ssh *s = c->s;
    struct loop_timer *late = loop_timer_new(loop_current(), give_up, s);
    int ret;

    co_mutex_lock(&s->lock);
    loop_timer_set(late, host_clock_ns() + ANSWER_S * 1000000000ll);
    ret = s->failed ? -EIO : pool_run(call_job, c);
    loop_timer_free(late);
    co_mutex_unlock(&s->lock);
    return ret;
}

/* ---- opening; on a thread of the pool */

static bool known_host(struct ssh *s, struct error *err)
{
    static const struct { enum ssh_known_hosts_e state; const char *text; } refused[] = {
        { SSH_KNOWN_HOSTS_CHANGED, "its key is not the one in known_hosts: somebody may be in between" },
        { SSH_KNOWN_HOSTS_OTHER, "known_hosts has a key of another kind for it: somebody may be in between" },
        { SSH_KNOWN_HOSTS_UNKNOWN, "no known_hosts entry has its key" }, { SSH_KNOWN_HOSTS_NOT_FOUND, "there is no known_hosts file" },
    };
    enum ssh_known_hosts_e state = api.ssh_session_is_known_server(s->session);
    g_autofree char *where = nbd_address_text(s->addr);

    if (state == SSH_KNOWN_HOSTS_OK)
        return true;
    for (unsigned i = 0; i < G_N_ELEMENTS(refused); i++)
        if (refused[i].state == state)
            return error_setf(err, ERR_GENERIC, "log in there once with ssh, or give host-key-check.mode=hash and the key's hash",
                              "%s cannot be trusted: %s", where, refused[i].text);
    return session_error(s, err, NULL, "cannot check the host's key");
}

/* Two hashes in hexadecimal, with or without colons. */
static bool same_hash(const unsigned char *hash, size_t len, const char *text)
{
    for (size_t i = 0; i < 2 * len; i++, text++) {
        while (*text == ':')
            text++;
        if (g_ascii_xdigit_value(*text) != (hash[i / 2] >> (i % 2 ? 0 : 4) & 15))
            return false;
    }
    return !*text;
}

static bool key_fits(struct ssh *s, struct error *err)
{
    g_autofree char *where = nbd_address_text(s->addr);
    unsigned char *hash = NULL;
    ssh_key key = NULL;
    size_t len = 0;
    bool ok;

    if (api.ssh_get_server_publickey(s->session, &key) || api.ssh_get_publickey_hash(key, s->hash_type, &hash, &len)) {
        api.ssh_key_free(key);
        return session_error(s, err, NULL, "cannot take the host's key");
    }
    ok = same_hash(hash, len, s->hash) ||
         error_setf(err, ERR_GENERIC, "ssh-keyscan tells its keys", "remote host key fingerprint of %s does not match host_key_check", where);
    api.ssh_clean_pubkey_hash(&hash);
    api.ssh_key_free(key);
    return ok;
}

static bool log_in(struct ssh *s, struct error *err)
{
    int r = api.ssh_userauth_none(s->session, NULL);

    if (r == SSH_AUTH_SUCCESS)
        return true;
    if (r == SSH_AUTH_ERROR)
        return session_error(s, err, NULL, "cannot log in");
    if (!(api.ssh_userauth_list(s->session, NULL) & SSH_AUTH_METHOD_PUBLICKEY))
        return session_error(s, err, "the server must let public keys in", "no way to log in");
    if (api.ssh_userauth_publickey_auto(s->session, NULL, NULL) != SSH_AUTH_SUCCESS)
        return session_error(s, err, "ssh-add puts the key into the agent; is the user name right (user=NAME)?",
                             "publickey authentication failed");
    return true;
}

static bool session_start(struct ssh *s, struct error *err)
{
    long timeout = CONNECT_MS / 1000;
    unsigned port = strtoul(option_str(s->addr, "port", "22"), NULL, 10);
    int fd = fcntl(s->fd, F_DUPFD_CLOEXEC, 0);

    s->session = fd < 0 ? NULL : api.ssh_new();
    if (!s->session || api.ssh_options_set(s->session, SSH_OPTIONS_HOST, option_str(s->addr, "host", "")) ||
        api.ssh_options_set(s->session, SSH_OPTIONS_PORT, &port) || api.ssh_options_set(s->session, SSH_OPTIONS_USER, s->user) ||
        api.ssh_options_set(s->session, SSH_OPTIONS_TIMEOUT, &timeout) || api.ssh_options_set(s->session, SSH_OPTIONS_FD, &fd)) {
        if (fd >= 0)
            close(fd);
        return session_error(s, err, NULL, "cannot set up a session");
    }
    if (api.ssh_connect(s->session) != SSH_OK)
        return session_error(s, err, "is it an ssh server?", "failed to establish ssh session");
    if (s->check == CHECK_KNOWN_HOSTS ? !known_host(s, err) : s->check == CHECK_HASH && !key_fits(s, err))
        return false;
    if (!log_in(s, err))
        return false;
    s->sftp = api.sftp_new(s->session);
    if (!s->sftp || api.sftp_init(s->sftp) < 0)
        return session_error(s, err, "the server must offer the sftp subsystem", "failed to initialize sftp");
    return true;
}

static int job_connect(struct call *c)
{
    struct ssh *s = c->s;

    s->fd = nbd_address_connect(s->addr, CONNECT_MS, NULL, c->err);
    return s->fd >= 0 && session_start(s, c->err) ? 0 : -EIO;
}

static int job_open(struct call *c)
{
    struct ssh *s = c->s;
    sftp_attributes attr;
    int ret;

    s->file = api.sftp_open(s->sftp, s->path, c->flags, 0644);
    if (!s->file)
        return sftp_failure(s);
    attr = api.sftp_fstat(s->file);
    if (!attr)
        return sftp_failure(s);
    s->size = attr->size;
    ret = attr->flags & SSH_FILEXFER_ATTR_SIZE && attr->size <= INT64_MAX ? 0 : -EFBIG;
    api.sftp_attributes_free(attr);
    return ret;
}

static int job_close(struct call *c)
{
    struct ssh *s = c->s;

    if (s->file)
        api.sftp_close(s->file);
    if (s->sftp)
        api.sftp_free(s->sftp);
    if (s->session) {
        api.ssh_disconnect(s->session);
        api.ssh_free(s->session);
    }
    return 0;
}

/* [co] */
static bool connect_open(struct ssh *s, struct json_object *opts, int flags, struct error *err)
{
    struct call c = { .s = s, .fn = job_connect, .err = err };
    g_autofree char *where = NULL;
    int ret;

    co_mutex_init(&s->lock);
    s->fd = -1;
    if (!library_load(&libssh, err) || !options_take(s, opts, err) || call_run(&c))
        return false;
    c.fn = job_open;
    c.flags = flags;
    ret = call_run(&c);
    if (s->fall_back && (ret == -EACCES || ret == -EROFS)) {
        c.flags = O_RDONLY;
        s->read_only = true;
        ret = call_run(&c);
    }
    where = nbd_address_text(s->addr);
    return !ret || error_set_errno(err, -ret, ret == -ENOENT ? "check the spelling" : NULL, "cannot open '%s' at %s", s->path, where);
}

/* [co] */
static void connection_end(struct ssh *s)
{
    struct call c = { .s = s, .fn = job_close };

    s->failed = false;          /* what is left is freed all the same */
    call_run(&c);
    if (s->fd >= 0)
        close(s->fd);
    json_object_put(s->addr);
    g_free(s->user);
    g_free(s->path);
    g_free(s->hash);
}

static bool ssh_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct ssh *s = n->state;
    g_autofree char *where = NULL;

    s->read_only = n->read_only;
    s->fall_back = n->auto_read_only && !n->read_only;
    if (!connect_open(s, opts, s->read_only ? O_RDONLY : O_RDWR, err))
        return false;
    n->read_only = s->read_only;
    where = nbd_address_text(s->addr);
    n->filename = g_strdup_printf("ssh://%s@%s%s%s", s->user, where, *s->path == '/' ? "" : "/", s->path);
    n->size = s->size;
    n->zero_past_end = true;
    n->limits.align = 1;
    n->limits.max_transfer = TRANSFER_MAX;
    return true;
}

static void ssh_close(struct block_node *n)
{
    connection_end(n->state);
}

/* ---- I/O; the jobs on a thread of the pool */

/* Bytes read until the file's end, or -errno. */
static int64_t read_plainly(struct ssh *s, uint64_t off, uint8_t *buf, uint64_t bytes)
{
    uint64_t done = 0;

    if (api.sftp_seek64(s->file, off))
        return sftp_failure(s);
    while (done < bytes) {
        ssize_t n = api.sftp_read(s->file, buf + done, MIN(bytes - done, READ_CHUNK));

        if (n < 0)
            return sftp_failure(s);
        if (!n)
            break;
        done += n;
    }
    return done;
}

/* All requests are sent, then the answers taken; a short one is completed afterwards. */
static int job_read(struct call *c)
{
    struct ssh *s = c->s;
    unsigned count = (c->bytes + READ_CHUNK - 1) / READ_CHUNK, sent;
    uint32_t got[READS_MAX], ids[READS_MAX];
    int ret = 0;

    if (api.sftp_seek64(s->file, c->off))
        return sftp_failure(s);
    for (sent = 0; sent < count; sent++) {
        int id = api.sftp_async_read_begin(s->file, MIN(READ_CHUNK, c->bytes - sent * READ_CHUNK));

        if (id < 0) {
            ret = sftp_failure(s);
            break;
        }
        ids[sent] = id;
    }
    for (unsigned i = 0; i < sent; i++) {       /* each, also after an error: the library keeps the others' answers */
        uint64_t want = MIN(READ_CHUNK, c->bytes - i * READ_CHUNK);
        int n = s->failed ? -1 : api.sftp_async_read(s->file, c->buf + i * READ_CHUNK, want, ids[i]);

        if (n < 0 && !ret)
            ret = sftp_failure(s);
        got[i] = MAX(n, 0);
    }
    for (unsigned i = 0; i < sent && !ret; i++) {
        uint64_t at = i * READ_CHUNK + got[i], want = MIN(READ_CHUNK, c->bytes - i * READ_CHUNK) - got[i];
        int64_t n = want ? read_plainly(s, c->off + at, c->buf + at, want) : 0;

        if (n < 0)
            ret = n;
        else
            memset(c->buf + at + n, 0, want - n);       /* past the end */
    }
    return ret;
}

static int job_write(struct call *c)
{
    struct ssh *s = c->s;
    uint64_t done = 0;

    if (api.sftp_seek64(s->file, c->off))
        return sftp_failure(s);
    while (done < c->bytes) {
        ssize_t n = api.sftp_write(s->file, c->buf + done, MIN(c->bytes - done, WRITE_CHUNK));

        if (n <= 0)
            return sftp_failure(s);
        done += n;
    }
    return 0;
}

static int job_flush(struct call *c)
{
    if (!api.sftp_extension_supported(c->s->sftp, "fsync@openssh.com", "1"))
        return -ENOTSUP;
    return api.sftp_fsync(c->s->file) < 0 ? sftp_failure(c->s) : 0;
}

static int job_resize(struct call *c)
{
    struct sftp_attributes_struct attr = { .flags = SSH_FILEXFER_ATTR_SIZE, .size = c->off };

    return api.sftp_setstat(c->s->sftp, c->s->path, &attr) < 0 ? sftp_failure(c->s) : 0;
}

/* [co] */
static int transfer(struct block_node *n, int (*fn)(struct call *c), uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct call c = { .s = n->state, .fn = fn, .off = off, .bytes = bytes };
    g_autofree uint8_t *bounce = niov == 1 ? NULL : g_malloc(bytes);
    int ret;

    c.buf = bounce ? bounce : iov->iov_base;
    if (bounce && fn == job_write)
        iov_read(iov, niov, 0, bounce, bytes);
    ret = call_run(&c);
    if (bounce && fn == job_read && !ret)
        iov_write(iov, niov, 0, bounce, bytes);
    return ret;
}

static int ssh_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    return transfer(n, job_read, off, bytes, iov, niov);
}

static int ssh_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    return transfer(n, job_write, off, bytes, iov, niov);
}

static int ssh_flush(struct block_node *n)
{
    struct ssh *s = n->state;
    struct call c = { .s = s, .fn = job_flush };
    int ret = call_run(&c);

    if (ret != -ENOTSUP)
        return ret;
    if (!s->flush_told)
        warn_report("%s: the server has no fsync: what is written may be lost when it fails", n->filename);
    s->flush_told = true;
    return 0;
}

static int ssh_truncate(struct block_node *n, uint64_t size, struct error *err)
{
    struct call c = { .s = n->state, .fn = job_resize, .off = size };
    int ret = call_run(&c);

    if (ret)
        error_set_errno(err, -ret, NULL, "%s: cannot resize", n->filename);
    else
        n->size = size;
    return ret;
}

static bool ssh_create(struct block_graph *g, const char *filename, struct json_object *opts, struct error *err)
{
    struct ssh s = { 0 };
    struct call c = { .s = &s, .fn = job_resize };
    struct json_object *o = ssh_name_options(filename, err);
    bool ok;

    if (!o)
        return false;
    ok = option_size(opts, "size", 0, &c.off, err) && connect_open(&s, o, O_RDWR | O_CREAT | O_TRUNC, err);
    if (ok && call_run(&c))
        ok = error_setf(err, ERR_GENERIC, NULL, "cannot create '%s'", filename);
    connection_end(&s);
    json_object_put(o);
    return ok;
}

BLOCK_DRIVER = {
    .name = "ssh", .summary = "a file of a server, over ssh", .kind = DRIVER_PROTOCOL, .size = sizeof(struct ssh),
    .scheme = "ssh://", .name_options = ssh_name_options, .options = ssh_options, .create_options = ssh_create_options,
    .growable = true, .open = ssh_open, .close = ssh_close, .preadv = ssh_preadv, .pwritev = ssh_pwritev, .flush = ssh_flush,
    .truncate = ssh_truncate, .create = ssh_create,
};
