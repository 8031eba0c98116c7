/* iscsi: logical units of a target, through libiscsi (RFC 7143; commands by SPC-4 and SBC-3). The library connects again when the
 * connection breaks, and repeats what was under way; a target silent for a minute is given up. */
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/graph.h"
#include "block/protocol/session.h"
#include "rhea/base/library.h"
#include "rhea/base/options.h"
#include "rhea/block/crypto.h"
#include "rhea/block/node.h"

enum { TRANSFER_MAX = 16 << 20, TRIES = 5, DATA_MAX = 255 };
enum { TYPE_DISK = 0 };
enum { VPD_BLOCK_LIMITS = 0xb0, VPD_PROVISIONING = 0xb2 };

#define SYMBOLS(X)                                                                                                          \
    X(iscsi_create_context) X(iscsi_destroy_context) X(iscsi_set_targetname) X(iscsi_set_session_type)                     \
    X(iscsi_set_header_digest) X(iscsi_set_initiator_username_pwd) X(iscsi_set_timeout) X(iscsi_get_error)                 \
    X(iscsi_full_connect_async) X(iscsi_scsi_command_async) X(iscsi_logout_async) X(iscsi_get_fd) X(iscsi_which_events)    \
    X(iscsi_service) X(scsi_create_task) X(scsi_free_scsi_task) X(scsi_task_set_iov_in) X(scsi_task_set_iov_out)
#define DECLARE(name) typeof(name) *name;
#define SYMBOL(name) { #name, (void **)&api.name },
static struct { SYMBOLS(DECLARE) } api;
static const struct library_symbol api_symbols[] = { SYMBOLS(SYMBOL) { NULL, NULL } };
static struct library libiscsi = { .sonames = { "libiscsi.so.7", "libiscsi.so.9" }, .hint = "install libiscsi7", .symbols = api_symbols };

/* Lives as long as the context, which may tell of the connection once more. */
struct login { struct session_call *call; char *portal, *error; };

struct iscsi {
    struct session session;
    struct login login;
    char *portal, *target;
    int lun;
    uint32_t block;             /* bytes */
    uint32_t max_unmap, max_same;       /* blocks at a time; 0: cannot */
    bool unmap_zeroes;          /* what was unmapped reads as zeroes */
    bool protected;             /* the target takes no writes */
};

static const char *const iscsi_options[] = { "transport", "portal", "target", "lun", "user", "password", "password-secret", "initiator-name",
                                             "header-digest", "timeout", NULL };

static void store32(uint8_t *p, uint32_t v)
{
    v = GUINT32_TO_BE(v);
    memcpy(p, &v, sizeof(v));
}

static void store64(uint8_t *p, uint64_t v)
{
    store32(p, v >> 32);
    store32(p + 4, v);
}

static uint32_t load32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return GUINT32_FROM_BE(v);
}

static uint64_t load64(const uint8_t *p)
{
    return (uint64_t)load32(p) << 32 | load32(p + 4);
}

/* ---- names */

/* iscsi://[USER[%PASSWORD]@]HOST[:PORT]/TARGET/LUN */
static struct json_object *iscsi_name_options(const char *filename, struct error *err)
{
    const char *rest = strstr(filename, "://"), *slash = rest ? strchr(rest + 3, '/') : NULL, *lun = slash ? strrchr(slash, '/') : NULL, *at;
    g_autofree char *authority = slash ? g_strndup(rest + 3, slash - rest - 3) : NULL, *user = NULL;
    struct json_object *o;
    char *percent;

    if (!slash || lun == slash || lun == slash + 1 || !lun[1] || !*authority) {
        error_setf(err, ERR_GENERIC, "iscsi://[USER%PASSWORD@]HOST[:PORT]/TARGET/LUN", "%s: not the name of a logical unit", filename);
        return NULL;
    }
    o = json_object_new_object();
    at = strrchr(authority, '@');
    if (at) {
        user = g_strndup(authority, at - authority);
        percent = strchr(user, '%');
        if (percent) {
            *percent++ = 0;
            json_object_object_add(o, "password", json_object_new_string(percent));
        }
        json_object_object_add(o, "user", json_object_new_string(user));
    }
    json_object_object_add(o, "driver", json_object_new_string("iscsi"));
    json_object_object_add(o, "transport", json_object_new_string("tcp"));
    json_object_object_add(o, "portal", json_object_new_string(at ? at + 1 : authority));
    json_object_object_add(o, "target", json_object_new_string_len(slash + 1, lun - slash - 1));
    json_object_object_add(o, "lun", json_object_new_string(lun + 1));
    return o;
}

/* [co] HOST[:PORT] with the host's address; caller frees. */
static char *portal_resolve(const char *portal, struct error *err)
{
    const char *bracket = *portal == '[' ? strchr(portal, ']') : NULL, *colon = strrchr(bracket ? bracket : portal, ':');
    g_autofree char *host = bracket ? g_strndup(portal + 1, bracket - portal - 1) : g_strndup(portal, colon ? (size_t)(colon - portal) : strlen(portal));
    g_autofree char *digits = session_resolve(host, err);

    if (!digits)
        return NULL;
    return g_strdup_printf(strchr(digits, ':') ? "[%s]:%s" : "%s:%s", digits, colon && colon[1] ? colon + 1 : "3260");
}

/* ---- commands */

struct command {
    struct iscsi *s;
    const uint8_t *cdb;
    int cdb_bytes;
    bool write;
    const struct iovec *iov;
    int niov;
    uint64_t bytes;
    bool any_length;            /* the target may have less to say */
    struct scsi_task *task;
    struct session_call *call;
};

/* What went wrong, by status and sense data (SPC-4 4.5). -EAGAIN: the command may be given again. */
static int command_errno(int status, const struct scsi_sense *sense)
{
    static const struct { uint8_t key; int ascq; int error; } table[] = {      /* ascq -1: any */
        { 0x01, -1, 0 },                        /* recovered */
        { 0x06, -1, EAGAIN },                   /* unit attention: something has changed, told once */
        { 0x05, 0x2000, ENOTSUP }, { 0x05, 0x2400, EINVAL }, { 0x05, 0x2100, ENOSPC }, { 0x05, 0x2500, ENODEV },
        { 0x07, 0x2707, ENOSPC }, { 0x07, -1, EACCES }, { 0x02, 0x3a00, ENOMEDIUM }, { 0x02, -1, EBUSY },
    };

    switch (status) {
    case SCSI_STATUS_GOOD:
    case SCSI_STATUS_CONDITION_MET: return 0;
    case SCSI_STATUS_BUSY:
    case SCSI_STATUS_TASK_SET_FULL: return -EAGAIN;
    case SCSI_STATUS_RESERVATION_CONFLICT: return -EBUSY;
    case SCSI_STATUS_TIMEOUT: return -ETIMEDOUT;
    case SCSI_STATUS_CHECK_CONDITION: break;
    default: return -EIO;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++)
        if (table[i].key == sense->key && (table[i].ascq < 0 || table[i].ascq == sense->ascq))
            return -table[i].error;
    return -EIO;
}

static void command_done(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct command *c = arg;
    int ret = command_errno(status, &c->task->sense);

    if (!ret && !c->any_length && c->task->residual_status != SCSI_RESIDUAL_NO_RESIDUAL)
        ret = -EIO;
    session_done(c->call, ret);
}

static bool command_start(struct session_call *call, void *arg)
{
    static const int directions[] = { SCSI_XFER_NONE, SCSI_XFER_READ, SCSI_XFER_WRITE };
    struct command *c = arg;
    uint8_t cdb[SCSI_CDB_MAX_SIZE] = { 0 };

    memcpy(cdb, c->cdb, c->cdb_bytes);
    c->call = call;
    c->task = api.scsi_create_task(c->cdb_bytes, cdb, directions[c->bytes ? 1 + c->write : 0], c->bytes);
    if (!c->task)
        return false;
    if (c->bytes)               /* scsi_iovec is iovec */
        (c->write ? api.scsi_task_set_iov_out : api.scsi_task_set_iov_in)(c->task, (struct scsi_iovec *)c->iov, c->niov);
    return !api.iscsi_scsi_command_async(c->s->session.context, c->s->lun, c->task, command_done, NULL, c);
}

/* [co] On the session's loop. */
static int command_run(void *arg)
{
    struct command *c = arg;
    int ret = -EAGAIN;

    for (unsigned i = 0; i < TRIES && ret == -EAGAIN; i++) {
        if (i)
            coroutine_sleep_ns(10000000ll << i);
        ret = session_call(&c->s->session, command_start, c);
        if (c->task)
            api.scsi_free_scsi_task(c->task);
        c->task = NULL;
    }
    return ret == -EAGAIN ? -EIO : ret;
}

static int command(struct iscsi *s, const uint8_t *cdb, int cdb_bytes, bool write, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct command c = { .s = s, .cdb = cdb, .cdb_bytes = cdb_bytes, .write = write, .iov = iov, .niov = niov, .bytes = bytes };

    return session_run(&s->session, command_run, &c);
}

/* What the target tells of itself; what it leaves out is zero. */
static int ask(struct iscsi *s, const uint8_t *cdb, int cdb_bytes, uint8_t *data, size_t bytes)
{
    struct iovec iov = { data, bytes };
    struct command c = { .s = s, .cdb = cdb, .cdb_bytes = cdb_bytes, .iov = &iov, .niov = 1, .bytes = bytes, .any_length = true };

    memset(data, 0, bytes);
    return session_run(&s->session, command_run, &c);
}

/* ---- opening */

static int context_fd(void *context) { return api.iscsi_get_fd(context); }
static int context_events(void *context) { return api.iscsi_which_events(context); }
static int context_service(void *context, int revents) { return api.iscsi_service(context, revents); }
static void context_destroy(void *context) { api.iscsi_destroy_context(context); }
static const struct session_ops iscsi_ops = { context_fd, context_events, context_service, context_destroy };

static void login_done(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct login *l = arg;

    if (l->call && status)
        l->error = g_strdup(api.iscsi_get_error(context));
    if (l->call)
        session_done(l->call, status ? -EIO : 0);
    l->call = NULL;
}

static bool login_start(struct session_call *call, void *arg)
{
    struct iscsi *s = arg;

    s->login.call = call;
    if (!api.iscsi_full_connect_async(s->session.context, s->login.portal, s->lun, login_done, &s->login))
        return true;
    s->login.call = NULL;
    s->login.error = g_strdup(api.iscsi_get_error(s->session.context));
    return false;
}

static bool digest_take(struct iscsi_context *context, const char *word, struct error *err)
{
    static const struct { const char *word; enum iscsi_header_digest digest; } table[] = {
        { "none-crc32c", ISCSI_HEADER_DIGEST_NONE_CRC32C }, { "crc32c-none", ISCSI_HEADER_DIGEST_CRC32C_NONE },
        { "none", ISCSI_HEADER_DIGEST_NONE }, { "crc32c", ISCSI_HEADER_DIGEST_CRC32C },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++)
        if (!strcmp(word, table[i].word))
            return !api.iscsi_set_header_digest(context, table[i].digest) || error_set(err, ERR_GENERIC, "cannot set the header digest", NULL);
    return error_setf(err, ERR_GENERIC, "crc32c, none, crc32c-none or none-crc32c", "unknown header-digest '%s'", word);
}

static bool password_take(struct block_node *n, struct json_object *opts, struct iscsi_context *context, struct error *err)
{
    const char *user = option_str(opts, "user", NULL), *secret = option_str(opts, "password-secret", NULL);
    g_autofree char *password = NULL;
    size_t len;

    if (!user)
        return (!secret && !option_str(opts, "password", NULL)) || error_set(err, ERR_GENERIC, "a password needs a user", "user=NAME");
    if (secret ? !block_secret(n->graph, secret, &password, &len, err) : !(password = g_strdup(option_str(opts, "password", NULL))))
        return secret ? false : error_set(err, ERR_GENERIC, "CHAP username specified but no password was given", "password-secret=ID of -object secret");
    return !api.iscsi_set_initiator_username_pwd(context, user, password) ||
           error_set(err, ERR_GENERIC, "cannot take user and password", NULL);
}

/* The node's options, into a context that is connected to nothing yet. */
static struct iscsi_context *context_new(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct iscsi *s = n->state;
    const char *initiator = option_str(opts, "initiator-name", NULL);
    g_autofree char *name = initiator ? g_strdup(initiator) : g_strdup_printf("iqn.2008-11.org.linux-kvm:%s", g_get_host_name());
    struct iscsi_context *context;
    int64_t timeout, lun;

    if (strcmp(option_str(opts, "transport", "tcp"), "tcp")) {
        error_set(err, ERR_GENERIC, "only the tcp transport is supported", "leave out transport");
        return NULL;
    }
    if (!option_int(opts, "timeout", 0, &timeout, err) || !option_int(opts, "lun", 0, &lun, err))
        return NULL;
    if (timeout < 0 || timeout > 3600 || lun < 0 || lun > 16383) {
        error_set(err, ERR_GENERIC, "timeout is up to 3600 seconds, lun up to 16383", NULL);
        return NULL;
    }
    s->lun = lun;
    context = api.iscsi_create_context(name);
    if (!context || api.iscsi_set_targetname(context, s->target) || api.iscsi_set_session_type(context, ISCSI_SESSION_NORMAL)) {
        error_set(err, ERR_GENERIC, "cannot set up a session", NULL);
    } else if (digest_take(context, option_str(opts, "header-digest", "none-crc32c"), err) && password_take(n, opts, context, err)) {
        api.iscsi_set_timeout(context, timeout);
        return context;
    }
    if (context)
        api.iscsi_destroy_context(context);
    return NULL;
}

/* The target has a hand in the text. */
static bool login(struct iscsi *s, struct error *err)
{
    struct login *l = &s->login;

    l->portal = portal_resolve(s->portal, err);
    if (!l->portal)
        return false;
    if (!session_call(&s->session, login_start, s))
        return true;
    for (char *p = l->error; p && *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    return error_setf(err, ERR_GENERIC, "are portal, target and lun right, and does the target let this initiator in?", "cannot connect to %s at %s: %s",
                      s->target, s->portal, l->error && *l->error ? l->error : "it does not answer");
}

static bool capacity(struct block_node *n, struct error *err)
{
    static const uint8_t cdb[16] = { 0x9e, 0x10, [13] = 32 };      /* READ CAPACITY(16), SBC-3 5.16 */
    struct iscsi *s = n->state;
    uint8_t data[32];
    uint64_t last;
    int ret = ask(s, cdb, sizeof(cdb), data, sizeof(data));

    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot ask the size of %s", n->filename);
    last = load64(data);
    s->block = load32(data + 8);
    if (s->block < 512 || s->block > 65536 || (s->block & (s->block - 1)) || last >= INT64_MAX / s->block)
        return error_setf(err, ERR_GENERIC, NULL, "%s: blocks of %u bytes, %" PRIu64 " at most, make no disk", n->filename, s->block, last);
    n->size = (last + 1) * s->block;
    s->unmap_zeroes = (data[14] & 0xc0) == 0xc0;        /* LBPME, LBPRZ */
    return true;
}

static bool is_disk(struct block_node *n, struct error *err)
{
    static const uint8_t cdb[6] = { 0x12, [4] = 36 };           /* INQUIRY */
    uint8_t data[36];
    int ret = ask(n->state, cdb, sizeof(cdb), data, sizeof(data));

    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot ask what %s is", n->filename);
    return (data[0] & 31) == TYPE_DISK ||
           error_setf(err, ERR_GENERIC, "give the lun of a disk", "%s is a device of type %d, no disk", n->filename, data[0] & 31);
}

/* What it can do beside reading and writing: all of this is optional. */
static void abilities(struct block_node *n)
{
    struct iscsi *s = n->state;
    uint8_t limits[64], provisioning[8], mode[DATA_MAX], vpd[6] = { 0x12, 1, VPD_BLOCK_LIMITS, 0, sizeof(limits) };
    static const uint8_t sense[6] = { 0x1a, 8, 0x3f, 0, DATA_MAX };      /* MODE SENSE(6), all pages, no descriptors */
    uint64_t max = TRANSFER_MAX / s->block;

    if (!ask(s, vpd, sizeof(vpd), limits, sizeof(limits)) && limits[1] == VPD_BLOCK_LIMITS) {
        uint64_t transfer = load32(limits + 8);

        max = transfer ? MIN(max, transfer) : max;
        s->max_unmap = load32(limits + 24) ? load32(limits + 20) : 0;
        s->max_same = MIN(load64(limits + 36), UINT32_MAX);
    }
    vpd[2] = VPD_PROVISIONING;
    vpd[4] = sizeof(provisioning);
    if (ask(s, vpd, sizeof(vpd), provisioning, sizeof(provisioning)) || provisioning[1] != VPD_PROVISIONING || !(provisioning[5] & 0x80))
        s->max_unmap = 0;
    s->max_same = s->max_same ? s->max_same : 65535;
    s->protected = !ask(s, sense, sizeof(sense), mode, sizeof(mode)) && (mode[2] & 0x80);
    n->limits.max_transfer = max * s->block;
    n->limits.align = s->block;
    n->limits.discard_align = s->block;
}

static bool iscsi_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct iscsi *s = n->state;
    struct iscsi_context *context;
    const char *portal = option_str(opts, "portal", NULL), *target = option_str(opts, "target", NULL);

    if (!portal || !*portal || !target || !*target)
        return error_setf(err, ERR_GENERIC, "portal=HOST:PORT,target=IQN,lun=N", "driver iscsi needs a %s", portal && *portal ? "target" : "portal");
    s->portal = g_strdup(portal);
    s->target = g_strdup(target);
    if (!library_load(&libiscsi, err) || !(context = context_new(n, opts, err)))
        return false;
    n->filename = g_strdup_printf("iscsi://%s/%s/%d", s->portal, s->target, s->lun);
    session_begin(&s->session, &iscsi_ops, context);
    if (!login(s, err) || !is_disk(n, err) || !capacity(n, err))
        return false;
    abilities(n);
    if (s->protected && !n->read_only && !n->auto_read_only)
        return error_setf(err, ERR_GENERIC, "open it with read-only=on", "%s: the target takes no writes", n->filename);
    n->read_only |= s->protected;
    return true;
}

/* RFC 7143 11.14: the target need not wait for us to be missed. */
static void logout_done(struct iscsi_context *context, int status, void *data, void *arg)
{
    session_done(arg, status ? -EIO : 0);
}

static bool logout_start(struct session_call *call, void *arg)
{
    return !api.iscsi_logout_async(((struct iscsi *)arg)->session.context, logout_done, call);
}

static int logout(void *arg)
{
    struct iscsi *s = arg;
    int ret = 0;

    if (s->session.context) {
        s->session.silence_ns = 2000000000;
        ret = session_call(&s->session, logout_start, s);
    }
    session_end(&s->session);
    return ret;
}

static void iscsi_close(struct block_node *n)
{
    struct iscsi *s = n->state;

    if (s->session.ops)
        session_run(&s->session, logout, s);
    g_free(s->login.portal);
    g_free(s->login.error);
    g_free(s->portal);
    g_free(s->target);
}

/* ---- I/O */

/* READ(16), WRITE(16) and the like: SBC-3 5.15. */
static void cdb_fill(uint8_t *cdb, uint8_t code, uint8_t flags, uint64_t block, uint32_t blocks)
{
    memset(cdb, 0, 16);
    cdb[0] = code;
    cdb[1] = flags;
    store64(cdb + 2, block);
    store32(cdb + 10, blocks);
}

static int iscsi_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct iscsi *s = n->state;
    uint8_t cdb[16];

    cdb_fill(cdb, 0x88, 0, off / s->block, bytes / s->block);
    return command(s, cdb, sizeof(cdb), false, bytes, iov, niov);
}

static int iscsi_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct iscsi *s = n->state;
    uint8_t cdb[16];

    cdb_fill(cdb, 0x8a, 0, off / s->block, bytes / s->block);
    return command(s, cdb, sizeof(cdb), true, bytes, iov, niov);
}

static int iscsi_flush(struct block_node *n)
{
    uint8_t cdb[16];
    int ret;

    cdb_fill(cdb, 0x91, 0, 0, 0);               /* SYNCHRONIZE CACHE(16): all of it */
    ret = command(n->state, cdb, sizeof(cdb), false, 0, NULL, 0);
    return ret == -ENOTSUP ? 0 : ret;           /* there is no cache */
}

/* UNMAP, SBC-3 5.28: one descriptor at a time. */
static int iscsi_discard(struct block_node *n, uint64_t off, uint64_t bytes)
{
    struct iscsi *s = n->state;
    uint8_t cdb[10] = { 0x42, [8] = 24 }, list[24] = { 0, 22, 0, 16 };
    struct iovec iov = { list, sizeof(list) };
    struct command c = { .s = s, .cdb = cdb, .cdb_bytes = sizeof(cdb), .write = true, .iov = &iov, .niov = 1, .bytes = sizeof(list), .any_length = true };
    uint64_t block = off / s->block, end = (off + bytes) / s->block;
    int ret = 0;

    if (!s->max_unmap)
        return -ENOTSUP;
    for (uint32_t k; block < end && !ret; block += k) {
        k = MIN(end - block, s->max_unmap);
        store64(list + 8, block);
        store32(list + 16, k);
        ret = session_run(&s->session, command_run, &c);
    }
    return ret == -EINVAL ? -ENOTSUP : ret;
}

/* WRITE SAME(16), SBC-3 5.43: one block of zeroes, for many. */
static int iscsi_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags)
{
    struct iscsi *s = n->state;
    bool unmap = flags & BLOCK_MAY_UNMAP && s->unmap_zeroes && s->max_unmap;
    g_autofree uint8_t *zero = g_malloc0(s->block);
    struct iovec iov = { zero, s->block };
    uint64_t block = off / s->block, end = (off + bytes) / s->block;
    uint8_t cdb[16];
    int ret = 0;

    if (!s->max_same)
        return -ENOTSUP;
    for (uint32_t k; block < end && !ret; block += k) {
        k = MIN(end - block, s->max_same);
        cdb_fill(cdb, 0x93, unmap ? 8 : 0, block, k);
        ret = command(s, cdb, sizeof(cdb), true, s->block, &iov, 1);
    }
    if (ret != -ENOTSUP && ret != -EINVAL)
        return ret;
    if (ret == -ENOTSUP)
        s->max_same = 0;
    return -ENOTSUP;
}

BLOCK_DRIVER = {
    .name = "iscsi", .summary = "a logical unit of an iSCSI target", .kind = DRIVER_PROTOCOL, .size = sizeof(struct iscsi),
    .scheme = "iscsi://", .name_options = iscsi_name_options, .options = iscsi_options, .open = iscsi_open, .close = iscsi_close,
    .preadv = iscsi_preadv, .pwritev = iscsi_pwritev, .flush = iscsi_flush, .discard = iscsi_discard, .write_zeroes = iscsi_write_zeroes,
};
