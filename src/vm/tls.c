/* TLS sessions and credentials over GnuTLS, which is loaded when the first credentials are made. */
#include "rhea/vm/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "rhea/base/library.h"
#include "rhea/base/options.h"
#include "rhea/vm/object.h"
#include "rhea/vm/vm.h"

#define FUNCTIONS(X)                                                                                              \
    X(init) X(deinit) X(credentials_set) X(priority_set_direct) X(transport_set_int2) X(handshake) X(strerror)   \
    X(server_name_set) X(record_recv) X(record_send) X(record_get_direction)                                     \
    X(certificate_allocate_credentials) X(certificate_free_credentials) X(certificate_set_x509_trust_file)       \
    X(certificate_set_x509_crl_file) X(certificate_set_x509_key_file2) X(certificate_set_known_dh_params)        \
    X(certificate_server_set_request) X(certificate_verify_peers3) X(certificate_get_peers)                      \
    X(x509_crt_init) X(x509_crt_import) X(x509_crt_get_dn) X(x509_crt_deinit)                                     \
    X(psk_allocate_server_credentials) X(psk_free_server_credentials) X(psk_set_server_credentials_file)         \
    X(psk_set_server_known_dh_params) X(psk_allocate_client_credentials) X(psk_free_client_credentials)          \
    X(psk_set_client_credentials) X(psk_server_get_username)                                                     \
    X(anon_allocate_server_credentials) X(anon_free_server_credentials) X(anon_set_server_known_dh_params)       \
    X(anon_allocate_client_credentials) X(anon_free_client_credentials)

static struct {
#define X(name) typeof(gnutls_##name) *name;
    FUNCTIONS(X)
#undef X
} api;
static const struct library_symbol api_symbols[] = {
#define X(name) { "gnutls_" #name, (void **)&api.name },
    FUNCTIONS(X)
#undef X
    { NULL, NULL },
};
static struct library libgnutls = { .sonames = { "libgnutls.so.30" }, .hint = "install libgnutls30", .symbols = api_symbols };

enum creds_kind { CREDS_X509, CREDS_PSK, CREDS_ANON };

struct creds {
    struct object obj;
    enum creds_kind kind;
    bool server, verify_peer;
    char *priority;
    union {
        gnutls_certificate_credentials_t x509;
        gnutls_psk_server_credentials_t psk_server;
        gnutls_psk_client_credentials_t psk_client;
        gnutls_anon_server_credentials_t anon_server;
        gnutls_anon_client_credentials_t anon_client;
        void *any;
    };
};

struct tls_session {
    gnutls_session_t gnutls;
    struct creds *creds;
    char *hostname, *authz;
    bool done;
};

/* ---- credentials */

static bool tls_failed(int ret, const char *what, struct error *err)
{
    return error_setf(err, ERR_GENERIC, NULL, "%s: %s", what, api.strerror(ret));
}

/* The path of a file of the credentials' directory; NULL where there is none (with *err if it is needed). */
static char *creds_file(struct creds *c, const char *name, bool needed, struct error *err)
{
    g_autofree char *path = g_build_filename(option_str(c->obj.opts, "dir", "."), name, NULL);

    if (!access(path, R_OK))
        return g_steal_pointer(&path);
    if (needed)
        error_set_errno(err, errno, "dir= names the directory that holds it", "Unable to access credentials %s", path);
    return NULL;
}

static bool x509_load(struct creds *c, struct error *err)
{
    g_autofree char *ca = creds_file(c, "ca-cert.pem", true, err), *crl = creds_file(c, "ca-crl.pem", false, NULL);
    g_autofree char *cert = NULL, *key = NULL, *password = NULL;
    const char *secret = option_str(c->obj.opts, "passwordid", NULL);
    size_t len;
    int ret;

    if (!ca)
        return false;
    cert = creds_file(c, c->server ? "server-cert.pem" : "client-cert.pem", c->server, err);
    key = cert || c->server ? creds_file(c, c->server ? "server-key.pem" : "client-key.pem", true, err) : NULL;
    if (error_is_set(err) || (c->server && (!cert || !key)) || (cert && !key))
        return false;
    if (secret && !secret_get(c->obj.vm, secret, &password, &len, err))
        return false;
    ret = api.certificate_allocate_credentials(&c->x509);
    if (ret < 0)
        return tls_failed(ret, "cannot make credentials", err);
    ret = api.certificate_set_x509_trust_file(c->x509, ca, GNUTLS_X509_FMT_PEM);
    if (ret < 0)
        return tls_failed(ret, ca, err);
    if (ret == 0)
        return error_setf(err, ERR_GENERIC, NULL, "%s has no certificate", ca);
    if (crl) {
        ret = api.certificate_set_x509_crl_file(c->x509, crl, GNUTLS_X509_FMT_PEM);
        if (ret < 0)
            return tls_failed(ret, crl, err);
    }
    if (cert) {
        ret = api.certificate_set_x509_key_file2(c->x509, cert, key, GNUTLS_X509_FMT_PEM, password, 0);
        if (ret < 0)
            return tls_failed(ret, key, err);
    }
    if (c->server)
        api.certificate_set_known_dh_params(c->x509, GNUTLS_SEC_PARAM_MEDIUM);
    return true;
}

/* The client's key is the line "USERNAME:HEX" of the file. */
static bool psk_client_key(struct creds *c, const char *path, struct error *err)
{
    const char *user = option_str(c->obj.opts, "username", "qemu");
    g_autofree char *text = NULL, *prefix = g_strdup_printf("%s:", user);
    g_auto(GStrv) lines = NULL;
    gsize len;

    if (!g_file_get_contents(path, &text, &len, NULL))
        return error_setf(err, ERR_GENERIC, NULL, "cannot read %s", path);
    lines = g_strsplit_set(text, "\r\n", -1);
    explicit_bzero(text, len);
    for (char **l = lines; *l; l++) {
        gnutls_datum_t key;
        int ret;

        if (!g_str_has_prefix(*l, prefix))
            continue;
        key = (gnutls_datum_t){ (void *)(*l + strlen(prefix)), strlen(*l + strlen(prefix)) };
        ret = api.psk_set_client_credentials(c->psk_client, user, &key, GNUTLS_PSK_KEY_HEX);
        return ret >= 0 || tls_failed(ret, path, err);
    }
    return error_setf(err, ERR_GENERIC, "username= chooses the line", "Username %s not found in PSK file %s", user, path);
}

static bool psk_load(struct creds *c, struct error *err)
{
    g_autofree char *path = creds_file(c, "keys.psk", true, err);
    int ret;

    if (!path)
        return false;
    ret = c->server ? api.psk_allocate_server_credentials(&c->psk_server) : api.psk_allocate_client_credentials(&c->psk_client);
    if (ret < 0)
        return tls_failed(ret, "cannot make credentials", err);
    if (!c->server)
        return psk_client_key(c, path, err);
    ret = api.psk_set_server_credentials_file(c->psk_server, path);
    if (ret < 0)
        return tls_failed(ret, path, err);
    api.psk_set_server_known_dh_params(c->psk_server, GNUTLS_SEC_PARAM_MEDIUM);
    return true;
}

static bool anon_load(struct creds *c, struct error *err)
{
    int ret = c->server ? api.anon_allocate_server_credentials(&c->anon_server)
                        : api.anon_allocate_client_credentials(&c->anon_client);

    if (ret < 0)
        return tls_failed(ret, "cannot make credentials", err);
    if (c->server)
        api.anon_set_server_known_dh_params(c->anon_server, GNUTLS_SEC_PARAM_MEDIUM);
    return true;
}

static bool creds_create(struct object *obj, enum creds_kind kind, bool (*load)(struct creds *c, struct error *err),
                         struct error *err)
{
    struct creds *c = (struct creds *)obj;
    const char *endpoint = option_str(obj->opts, "endpoint", "client");
    bool unused;

    c->kind = kind;
    c->server = !strcmp(endpoint, "server");
    if (!c->server && strcmp(endpoint, "client"))
        return error_setf(err, ERR_GENERIC, NULL, "endpoint is client or server, not '%s'", endpoint);
    if (!option_bool(obj->opts, "verify-peer", true, &c->verify_peer, err) ||
        !option_bool(obj->opts, "sanity-check", true, &unused, err) || !library_load(&libgnutls, err))
        return false;
    c->priority = g_strdup(option_str(obj->opts, "priority", NULL));
    return load(c, err);
}

static bool x509_create(struct object *obj, struct error *err)
{
    return creds_create(obj, CREDS_X509, x509_load, err);
}

static bool psk_create(struct object *obj, struct error *err)
{
    return creds_create(obj, CREDS_PSK, psk_load, err);
}

static bool anon_create(struct object *obj, struct error *err)
{
    return creds_create(obj, CREDS_ANON, anon_load, err);
}

static void creds_destroy(struct object *obj)
{
    struct creds *c = (struct creds *)obj;

    if (c->any && c->kind == CREDS_X509)
        api.certificate_free_credentials(c->x509);
    else if (c->any && c->kind == CREDS_PSK)
        c->server ? api.psk_free_server_credentials(c->psk_server) : api.psk_free_client_credentials(c->psk_client);
    else if (c->any)
        c->server ? api.anon_free_server_credentials(c->anon_server) : api.anon_free_client_credentials(c->anon_client);
    g_free(c->priority);
}

#define OPTION(n, t, d, h) { .name = n, .type = t, .def = d, .help = h }
#define COMMON_OPTIONS                                                                        \
    OPTION("endpoint", PROP_STR, "client", "which end they are for: client or server"),      \
    OPTION("priority", PROP_STR, NULL, "GnuTLS priority string"),                            \
    OPTION("verify-peer", PROP_BOOL, "on", "refuse a peer without a valid certificate")

OBJECT = {
    .name = "tls-creds-x509", .parent = "tls-creds", .summary = "certificates for TLS", .size = sizeof(struct creds),
    .create = x509_create, .destroy = creds_destroy,
    .props = (const struct prop[]){
        COMMON_OPTIONS, OPTION("dir", PROP_STR, NULL, "directory of ca-cert.pem, server-cert.pem, server-key.pem, ..."),
        OPTION("sanity-check", PROP_BOOL, "on", "taken: GnuTLS checks them when they are used"),
        OPTION("passwordid", PROP_STR, NULL, "secret with the key file's password"), { 0 } },
};
OBJECT = {
    .name = "tls-creds-psk", .parent = "tls-creds", .summary = "shared keys for TLS", .size = sizeof(struct creds),
    .create = psk_create, .destroy = creds_destroy,
    .props = (const struct prop[]){
        COMMON_OPTIONS, OPTION("dir", PROP_STR, NULL, "directory of keys.psk"),
        OPTION("username", PROP_STR, "qemu", "whose key a client uses"), { 0 } },
};
OBJECT = {
    .name = "tls-creds-anon", .parent = "tls-creds", .summary = "TLS that keeps out listeners, but not impostors",
    .size = sizeof(struct creds), .create = anon_create, .destroy = creds_destroy,
    .props = (const struct prop[]){
        COMMON_OPTIONS, OPTION("dir", PROP_STR, NULL, "taken, not used"), { 0 } },
};

struct object *tls_creds_get(struct vm *vm, const char *id, bool server, struct error *err)
{
    struct object *obj = object_get(vm, id, "tls-creds", err);

    if (obj && ((struct creds *)obj)->server != server) {
        error_setf(err, ERR_GENERIC, server ? "add endpoint=server to it" : "add endpoint=client to it",
                   "Expecting TLS credentials with a %s endpoint", server ? "server" : "client");
        object_put(obj);
        return NULL;
    }
    return obj;
}

/* ---- sessions */

static const char *priority_of(const struct creds *c)
{
    static const char *const defaults[] = { "NORMAL", "NORMAL:+ECDHE-PSK:+DHE-PSK:+PSK", "NORMAL:-VERS-ALL:+VERS-TLS1.2:+ANON-ECDH:+ANON-DH" };

    return c->priority ? c->priority : defaults[c->kind];
}

struct tls_session *tls_session_new(struct object *creds, int fd, bool server, const char *hostname, const char *authz,
                                    struct error *err)
{
    static const gnutls_credentials_type_t types[] = { GNUTLS_CRD_CERTIFICATE, GNUTLS_CRD_PSK, GNUTLS_CRD_ANON };
    struct creds *c = (struct creds *)creds;
    struct tls_session *s = g_new0(struct tls_session, 1);
    int ret = api.init(&s->gnutls, (server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);

    if (ret >= 0)
        ret = api.priority_set_direct(s->gnutls, priority_of(c), NULL);
    if (ret >= 0)
        ret = api.credentials_set(s->gnutls, types[c->kind], c->any);
    if (ret >= 0 && hostname)
        ret = api.server_name_set(s->gnutls, GNUTLS_NAME_DNS, hostname, strlen(hostname));
    if (ret < 0) {
        tls_failed(ret, "cannot begin TLS", err);
        tls_session_free(s);
        return NULL;
    }
    if (server && c->kind == CREDS_X509)
        api.certificate_server_set_request(s->gnutls, c->verify_peer ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_REQUEST);
    api.transport_set_int2(s->gnutls, fd, fd);
    s->creds = c;
    c->obj.users++;
    s->hostname = g_strdup(hostname);
    s->authz = g_strdup(authz);
    return s;
}

void tls_session_free(struct tls_session *s)
{
    if (!s)
        return;
    if (s->gnutls)
        api.deinit(s->gnutls);
    if (s->creds)
        object_put(&s->creds->obj);
    g_free(s->hostname);
    g_free(s->authz);
    g_free(s);
}

static bool peer_name(struct tls_session *s, char *out, size_t size, struct error *err)
{
    unsigned count = 0;
    const gnutls_datum_t *list = api.certificate_get_peers(s->gnutls, &count);
    gnutls_x509_crt_t crt;
    int ret;

    if (!list || !count)
        return error_set(err, ERR_GENERIC, "the peer has no certificate", NULL);
    ret = api.x509_crt_init(&crt);
    if (ret < 0)
        return tls_failed(ret, "the peer's certificate", err);
    ret = api.x509_crt_import(crt, list, GNUTLS_X509_FMT_DER);
    if (ret >= 0)
        ret = api.x509_crt_get_dn(crt, out, &size);
    api.x509_crt_deinit(crt);
    return ret >= 0 || tls_failed(ret, "the peer's certificate", err);
}

static bool x509_check(struct tls_session *s, struct error *err)
{
    static const struct { unsigned bit; const char *text; } reasons[] = {
        { GNUTLS_CERT_SIGNER_NOT_FOUND, "its issuer is not known" }, { GNUTLS_CERT_REVOKED, "it is revoked" },
        { GNUTLS_CERT_EXPIRED, "it has expired" }, { GNUTLS_CERT_NOT_ACTIVATED, "it is not valid yet" },
        { GNUTLS_CERT_INSECURE_ALGORITHM, "its algorithm is insecure" },
        { GNUTLS_CERT_UNEXPECTED_OWNER, "it is another host's" }, { GNUTLS_CERT_INVALID, "it is not valid" },
    };
    unsigned status = 0;
    char name[1024];
    int ret;

    if (s->creds->server && !s->creds->verify_peer && !s->authz)
        return true;
    if (!s->creds->verify_peer && !s->creds->server)
        return true;
    ret = api.certificate_verify_peers3(s->gnutls, s->creds->server ? NULL : s->hostname, &status);
    if (ret < 0)
        return tls_failed(ret, "cannot verify the peer's certificate", err);
    for (unsigned i = 0; status && i < G_N_ELEMENTS(reasons); i++)
        if (status & reasons[i].bit)
            return error_setf(err, ERR_GENERIC, NULL, "the peer's certificate is refused: %s", reasons[i].text);
    if (status)
        return error_set(err, ERR_GENERIC, "the peer's certificate is refused", NULL);
    return !s->authz || (peer_name(s, name, sizeof(name), err) && authz_allowed(s->creds->obj.vm, s->authz, name, err));
}

static bool peer_check(struct tls_session *s, struct error *err)
{
    const char *user;

    if (s->creds->kind == CREDS_X509)
        return x509_check(s, err);
    if (!s->authz)
        return true;
    user = s->creds->kind == CREDS_PSK ? api.psk_server_get_username(s->gnutls) : NULL;
    if (!user)
        return error_set(err, ERR_GENERIC, "the peer has no name to be allowed by", "use tls-creds-x509");
    return authz_allowed(s->creds->obj.vm, s->authz, user, err);
}

int tls_handshake(struct tls_session *s, struct error *err)
{
    int ret;

    do
        ret = api.handshake(s->gnutls);
    while (ret == GNUTLS_E_INTERRUPTED || ret == GNUTLS_E_WARNING_ALERT_RECEIVED);
    if (ret == GNUTLS_E_AGAIN)
        return -EAGAIN;
    if (ret < 0) {
        tls_failed(ret, "TLS handshake failed", err);
        return -EPROTO;
    }
    return peer_check(s, err) ? 0 : -EACCES;
}

bool tls_wants_write(const struct tls_session *s)
{
    return api.record_get_direction(s->gnutls);
}

static ssize_t result(ssize_t ret)
{
    return ret >= 0 ? ret : ret == GNUTLS_E_AGAIN ? -EAGAIN : ret == GNUTLS_E_INTERRUPTED ? -EINTR
         : ret == GNUTLS_E_PREMATURE_TERMINATION ? 0 : -EIO;
}

ssize_t tls_recv(struct tls_session *s, void *buf, size_t len)
{
    return result(api.record_recv(s->gnutls, buf, len));
}

ssize_t tls_send(struct tls_session *s, const void *buf, size_t len)
{
    return result(api.record_send(s->gnutls, buf, len));
}
