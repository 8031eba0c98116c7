/* http, https, ftp, ftps: images of a server, read in ranges through libcurl. A transfer runs on a thread of the pool. */
#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/aio.h"
#include "rhea/base/options.h"
#include "rhea/block/crypto.h"
#include "rhea/base/library.h"
#include "rhea/block/node.h"

enum { READAHEAD = 256 << 10, READAHEAD_MAX = 64 << 20, TIMEOUT = 5, IDLE_MAX = 8 };
#define PROTOCOLS "http,https,ftp,ftps"

#undef curl_easy_setopt
#undef curl_easy_getinfo
/* The library comes with thirty others: it is loaded when the first such image is opened. */
static struct {
    typeof(curl_global_init) *global_init;
    typeof(curl_easy_init) *init;
    typeof(curl_easy_reset) *reset;
    typeof(curl_easy_cleanup) *cleanup;
    typeof(curl_easy_setopt) *setopt;
    typeof(curl_easy_getinfo) *getinfo;
    typeof(curl_easy_perform) *perform;
    typeof(curl_easy_strerror) *strerror;
} api;
static const struct library_symbol api_symbols[] = {
    { "curl_global_init", (void **)&api.global_init }, { "curl_easy_init", (void **)&api.init },
    { "curl_easy_reset", (void **)&api.reset }, { "curl_easy_cleanup", (void **)&api.cleanup },
    { "curl_easy_setopt", (void **)&api.setopt }, { "curl_easy_getinfo", (void **)&api.getinfo },
    { "curl_easy_perform", (void **)&api.perform }, { "curl_easy_strerror", (void **)&api.strerror }, { NULL, NULL },
};
static struct library libcurl = { .sonames = { "libcurl-gnutls.so.4", "libcurl.so.4" }, .hint = "install libcurl3-gnutls",
                                  .symbols = api_symbols };

struct handle { CURL *curl; struct handle *next; };

struct curl {
    char *url, *user, *password, *proxy_user, *proxy_password, *cookie;
    bool verify;
    int64_t timeout;
    uint64_t readahead;
    GMutex lock;                /* idle handles: their connections stay open */
    struct handle *idle;
    unsigned idle_count;
    struct co_mutex ahead_lock; /* what was read beyond the last small request */
    uint8_t *ahead;
    uint64_t ahead_off, ahead_len;
};

static const char *const curl_options[] = { "url", "filename", "readahead", "sslverify", "timeout", "username",
                                            "password-secret", "proxy-username", "proxy-password-secret", "cookie",
                                            "cookie-secret", NULL };

/* ---- transfers */

struct transfer {
    struct curl *s;
    uint64_t off, want, got;
    uint8_t *buf;               /* NULL: only the headers */
    int64_t size;               /* of the file, -1: not told */
    bool ranges;
    char error[CURL_ERROR_SIZE];
};

/* A server that sends more than was asked for is cut off. */
static size_t on_data(char *data, size_t size, size_t n, void *opaque)
{
    struct transfer *t = opaque;
    size_t len = size * n;

    if (len > t->want - t->got)
        return 0;
    memcpy(t->buf + t->got, data, len);
    t->got += len;
    return len;
}

static size_t on_header(char *data, size_t size, size_t n, void *opaque)
{
    struct transfer *t = opaque;
    g_autofree char *line = g_strstrip(g_ascii_strdown(data, size * n));

    if (g_str_has_prefix(line, "accept-ranges:") && strstr(line, "bytes"))
        t->ranges = true;
    return size * n;
}

static CURL *handle_take(struct curl *s)
{
    struct handle *h;
    CURL *c;

    g_mutex_lock(&s->lock);
    h = s->idle;
    if (h) {
        s->idle = h->next;
        s->idle_count--;
    }
    g_mutex_unlock(&s->lock);
    if (!h)
        return api.init();
    c = h->curl;
    g_free(h);
    api.reset(c);
    return c;
}

static void handle_give(struct curl *s, CURL *c)
{
    struct handle *h = NULL;

    g_mutex_lock(&s->lock);
    if (s->idle_count < IDLE_MAX) {
        h = g_new0(struct handle, 1);
        h->curl = c;
        h->next = s->idle;
        s->idle = h;
        s->idle_count++;
    }
    g_mutex_unlock(&s->lock);
    if (!h)
        api.cleanup(c);
}

static void handle_setup(struct transfer *t, CURL *c)
{
    struct curl *s = t->s;

    api.setopt(c, CURLOPT_URL, s->url);
    api.setopt(c, CURLOPT_NOSIGNAL, 1L);
    api.setopt(c, CURLOPT_FAILONERROR, 1L);
    api.setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
    api.setopt(c, CURLOPT_MAXREDIRS, 8L);
    api.setopt(c, CURLOPT_PROTOCOLS_STR, PROTOCOLS);
    api.setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, PROTOCOLS);      /* never file: */
    api.setopt(c, CURLOPT_SSL_VERIFYPEER, (long)s->verify);
    api.setopt(c, CURLOPT_SSL_VERIFYHOST, s->verify ? 2L : 0L);
    api.setopt(c, CURLOPT_CONNECTTIMEOUT, (long)s->timeout);
    api.setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    api.setopt(c, CURLOPT_LOW_SPEED_TIME, (long)s->timeout);
    api.setopt(c, CURLOPT_ERRORBUFFER, t->error);
    if (s->user)
        api.setopt(c, CURLOPT_USERNAME, s->user);
    if (s->password)
        api.setopt(c, CURLOPT_PASSWORD, s->password);
    if (s->proxy_user)
        api.setopt(c, CURLOPT_PROXYUSERNAME, s->proxy_user);
    if (s->proxy_password)
        api.setopt(c, CURLOPT_PROXYPASSWORD, s->proxy_password);
    if (s->cookie)
        api.setopt(c, CURLOPT_COOKIE, s->cookie);
}

static int transfer_job(void *arg)
{
    struct transfer *t = arg;
    CURL *c = handle_take(t->s);
    g_autofree char *range = NULL;
    curl_off_t size = -1;
    CURLcode e;

    if (!c)
        return -ENOMEM;
    handle_setup(t, c);
    if (t->buf) {
        range = g_strdup_printf("%" PRIu64 "-%" PRIu64, t->off, t->off + t->want - 1);
        api.setopt(c, CURLOPT_RANGE, range);
        api.setopt(c, CURLOPT_WRITEFUNCTION, on_data);
        api.setopt(c, CURLOPT_WRITEDATA, t);
    } else {
        api.setopt(c, CURLOPT_NOBODY, 1L);
        api.setopt(c, CURLOPT_HEADERFUNCTION, on_header);
        api.setopt(c, CURLOPT_HEADERDATA, t);
    }
    e = api.perform(c);
    api.getinfo(c, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &size);
    t->size = size;
    if (e && !*t->error)
        g_strlcpy(t->error, api.strerror(e), sizeof(t->error));
    handle_give(t->s, c);
    return e ? -EIO : t->buf && t->got < t->want ? -EIO : 0;
}

/* ---- opening */

static bool secret_take(struct block_node *n, struct json_object *opts, const char *key, char **out, struct error *err)
{
    size_t len;

    return block_secret(n->graph, option_str(opts, key, NULL), out, &len, err);
}

static bool url_take(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct curl *s = n->state;
    const char *url = option_str(opts, "url", NULL), *rest = option_str(opts, "filename", NULL);
    g_autofree char *prefix = g_strdup_printf("%s://", n->drv->name);

    if (!url == !rest)
        return error_setf(err, ERR_GENERIC, "url=https://...", "driver %s needs a url", n->drv->name);
    s->url = url || g_str_has_prefix(rest, prefix) ? g_strdup(url ? url : rest) : g_strconcat(prefix, rest, NULL);
    if (!g_str_has_prefix(s->url, prefix))
        return error_setf(err, ERR_GENERIC, NULL, "driver %s cannot open '%s'", n->drv->name, s->url);
    n->filename = g_strdup(s->url);
    return true;
}

static bool options_take(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct curl *s = n->state;

    if (!url_take(n, opts, err) || !option_bool(opts, "sslverify", true, &s->verify, err) ||
        !option_int(opts, "timeout", TIMEOUT, &s->timeout, err) ||
        !option_size(opts, "readahead", READAHEAD, &s->readahead, err))
        return false;
    if (s->timeout < 1 || s->timeout > 10000 || s->readahead % 512 || s->readahead > READAHEAD_MAX)
        return error_set(err, ERR_GENERIC, "timeout is 1 to 10000 seconds; readahead is a multiple of 512, up to 64 MiB", NULL);
    s->user = g_strdup(option_str(opts, "username", NULL));
    s->proxy_user = g_strdup(option_str(opts, "proxy-username", NULL));
    s->cookie = g_strdup(option_str(opts, "cookie", NULL));
    if (s->cookie && option_str(opts, "cookie-secret", NULL))
        return error_set(err, ERR_GENERIC, "give either cookie or cookie-secret", NULL);
    return secret_take(n, opts, "password-secret", &s->password, err) &&
           secret_take(n, opts, "proxy-password-secret", &s->proxy_password, err) &&
           secret_take(n, opts, "cookie-secret", &s->cookie, err);
}

static bool library_start(struct error *err)
{
    static gsize once;

    if (!library_load(&libcurl, err))
        return false;
    if (g_once_init_enter(&once)) {
        api.global_init(CURL_GLOBAL_ALL);
        g_once_init_leave(&once, 1);
    }
    return true;
}

static bool curl_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct curl *s = n->state;
    struct transfer t = { .s = s, .size = -1 };
    int ret;

    g_mutex_init(&s->lock);
    co_mutex_init(&s->ahead_lock);
    if (!library_start(err))
        return false;
    if (!n->read_only && !n->auto_read_only)
        return error_setf(err, ERR_GENERIC, "add read-only=on", "%s images are only read", n->drv->name);
    n->read_only = true;
    if (!options_take(n, opts, err))
        return false;
    ret = pool_run(transfer_job, &t);
    if (ret)
        return error_setf(err, ERR_GENERIC, NULL, "%s: %s", s->url, t.error);
    if (t.size < 0)
        return error_setf(err, ERR_GENERIC, "download it first", "%s: the server does not tell the file's size", s->url);
    if (g_str_has_prefix(n->drv->name, "http") && !t.ranges)
        return error_setf(err, ERR_GENERIC, "download it first", "%s: the server does not support ranges of bytes", s->url);
    n->size = t.size;
    n->limits.align = 1;
    return true;
}

static void curl_close(struct block_node *n)
{
    struct curl *s = n->state;

    while (s->idle) {
        struct handle *h = s->idle;

        s->idle = h->next;
        api.cleanup(h->curl);
        g_free(h);
    }
    if (s->password)
        explicit_bzero(s->password, strlen(s->password));
    if (s->proxy_password)
        explicit_bzero(s->proxy_password, strlen(s->proxy_password));
    g_free(s->url);
    g_free(s->user);
    g_free(s->password);
    g_free(s->proxy_user);
    g_free(s->proxy_password);
    g_free(s->cookie);
    g_free(s->ahead);
    g_mutex_clear(&s->lock);
}

/* ---- reading */

static int fetch(struct curl *s, uint64_t off, uint8_t *buf, uint64_t bytes)
{
    struct transfer t = { .s = s, .off = off, .want = bytes, .buf = buf };

    return pool_run(transfer_job, &t);
}

static int read_ahead(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct curl *s = n->state;
    int ret = 0;

    co_mutex_lock(&s->ahead_lock);
    if (!s->ahead)
        s->ahead = g_malloc(s->readahead);
    if (off < s->ahead_off || off + bytes > s->ahead_off + s->ahead_len) {
        s->ahead_off = off;
        s->ahead_len = MIN(s->readahead, n->size - off);
        ret = fetch(s, off, s->ahead, s->ahead_len);
        if (ret)
            s->ahead_len = 0;
    }
    if (!ret)
        iov_write(iov, niov, 0, s->ahead + (off - s->ahead_off), bytes);
    co_mutex_unlock(&s->ahead_lock);
    return ret;
}

static int curl_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    enum { CHUNK = 2 << 20 };
    struct curl *s = n->state;
    g_autofree uint8_t *buf = NULL;
    int ret = 0;

    if (bytes <= s->readahead / 2)
        return read_ahead(n, off, bytes, iov, niov);
    buf = g_malloc(MIN(bytes, CHUNK));
    for (uint64_t done = 0, k; done < bytes && !ret; done += k) {
        k = MIN(bytes - done, CHUNK);
        ret = fetch(s, off + done, buf, k);
        if (!ret)
            iov_write(iov, niov, done, buf, k);
    }
    return ret;
}

#define CURL_DRIVER(protocol)                                                                          \
    {                                                                                                  \
        .name = protocol, .summary = "a file of a server, read only", .kind = DRIVER_PROTOCOL,          \
        .size = sizeof(struct curl), .scheme = protocol "://", .options = curl_options,                \
        .open = curl_open, .close = curl_close, .preadv = curl_preadv,                                 \
    }

BLOCK_DRIVER = CURL_DRIVER("http");
BLOCK_DRIVER = CURL_DRIVER("https");
BLOCK_DRIVER = CURL_DRIVER("ftp");
BLOCK_DRIVER = CURL_DRIVER("ftps");
