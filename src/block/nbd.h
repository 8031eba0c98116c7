/* The Network Block Device protocol (https://github.com/NetworkBlockDevice/nbd, doc/proto.md): its numbers, and the
 * connection that client and server share.
 *
 * A channel belongs to one loop; its functions marked [co] run in coroutines of that loop, one reader and one writer
 * at a time. */
#ifndef RHEA_BLOCK_NBD_H
#define RHEA_BLOCK_NBD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <json-c/json.h>
#include "rhea/base/coroutine.h"
#include "rhea/base/error.h"
#include "rhea/base/loop.h"

struct vm;

/* ---- the protocol */

#define NBD_MAGIC 0x4e42444d41474943ull         /* "NBDMAGIC" */
#define NBD_OPTS_MAGIC 0x49484156454f5054ull    /* "IHAVEOPT" */
#define NBD_OLDSTYLE_MAGIC 0x00420281861253ull
#define NBD_REP_MAGIC 0x0003e889045565a9ull
#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_EXT_REQUEST_MAGIC 0x21e41c71u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_STRUCT_REPLY_MAGIC 0x668e33efu
#define NBD_EXT_REPLY_MAGIC 0x6e8a278cu
#define NBD_DEFAULT_PORT "10809"

enum { NBD_FLAG_FIXED_NEWSTYLE = 1, NBD_FLAG_NO_ZEROES = 2 };   /* of the handshake, both sides */

enum { NBD_OPT_EXPORT_NAME = 1, NBD_OPT_ABORT, NBD_OPT_LIST, NBD_OPT_PEEK_EXPORT, NBD_OPT_STARTTLS, NBD_OPT_INFO,
       NBD_OPT_GO, NBD_OPT_STRUCTURED_REPLY, NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT, NBD_OPT_EXTENDED_HEADERS };

#define NBD_REP_ERR(n) (0x80000000u | (n))
enum { NBD_REP_ACK = 1, NBD_REP_SERVER, NBD_REP_INFO, NBD_REP_META_CONTEXT };
#define NBD_REP_ERR_UNSUP NBD_REP_ERR(1)
#define NBD_REP_ERR_POLICY NBD_REP_ERR(2)
#define NBD_REP_ERR_INVALID NBD_REP_ERR(3)
#define NBD_REP_ERR_PLATFORM NBD_REP_ERR(4)
#define NBD_REP_ERR_TLS_REQD NBD_REP_ERR(5)
#define NBD_REP_ERR_UNKNOWN NBD_REP_ERR(6)
#define NBD_REP_ERR_SHUTDOWN NBD_REP_ERR(7)
#define NBD_REP_ERR_BLOCK_SIZE_REQD NBD_REP_ERR(8)
#define NBD_REP_ERR_TOO_BIG NBD_REP_ERR(9)
#define NBD_REP_ERR_EXT_HEADER_REQD NBD_REP_ERR(10)

enum { NBD_INFO_EXPORT, NBD_INFO_NAME, NBD_INFO_DESCRIPTION, NBD_INFO_BLOCK_SIZE };

/* transmission flags of an export */
enum { NBD_FLAG_HAS_FLAGS = 1, NBD_FLAG_READ_ONLY = 2, NBD_FLAG_SEND_FLUSH = 4, NBD_FLAG_SEND_FUA = 8,
       NBD_FLAG_ROTATIONAL = 16, NBD_FLAG_SEND_TRIM = 32, NBD_FLAG_SEND_WRITE_ZEROES = 64, NBD_FLAG_SEND_DF = 128,
       NBD_FLAG_CAN_MULTI_CONN = 256, NBD_FLAG_SEND_RESIZE = 512, NBD_FLAG_SEND_CACHE = 1024,
       NBD_FLAG_SEND_FAST_ZERO = 2048, NBD_FLAG_BLOCK_STAT_PAYLOAD = 4096 };

enum { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_DISC, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES,
       NBD_CMD_BLOCK_STATUS, NBD_CMD_RESIZE };
enum { NBD_CMD_FLAG_FUA = 1, NBD_CMD_FLAG_NO_HOLE = 2, NBD_CMD_FLAG_DF = 4, NBD_CMD_FLAG_REQ_ONE = 8,
       NBD_CMD_FLAG_FAST_ZERO = 16, NBD_CMD_FLAG_PAYLOAD_LEN = 32 };

enum { NBD_REPLY_FLAG_DONE = 1 };
enum { NBD_REPLY_NONE = 0, NBD_REPLY_OFFSET_DATA = 1, NBD_REPLY_OFFSET_HOLE = 2, NBD_REPLY_BLOCK_STATUS = 5,
       NBD_REPLY_BLOCK_STATUS_EXT = 6, NBD_REPLY_ERROR = 0x8001, NBD_REPLY_ERROR_OFFSET = 0x8002 };

enum { NBD_STATE_HOLE = 1, NBD_STATE_ZERO = 2, NBD_STATE_DIRTY = 1 };

enum { NBD_EPERM = 1, NBD_EIO = 5, NBD_ENOMEM = 12, NBD_EINVAL = 22, NBD_ENOSPC = 28, NBD_EOVERFLOW = 75,
       NBD_ENOTSUP = 95, NBD_ESHUTDOWN = 108 };

/* Limits: a string (name, description, context) by the protocol; a request's data as most servers have it. */
enum { NBD_MAX_STRING = 4096, NBD_MAX_BUFFER = 32 << 20 };

uint32_t nbd_errno_to_wire(int err);            /* err > 0 */
int nbd_errno_from_wire(uint32_t err);

static inline void nbd_put16(uint8_t *p, uint16_t v) { p[0] = v >> 8; p[1] = v; }
static inline void nbd_put32(uint8_t *p, uint32_t v) { nbd_put16(p, v >> 16); nbd_put16(p + 2, v); }
static inline void nbd_put64(uint8_t *p, uint64_t v) { nbd_put32(p, v >> 32); nbd_put32(p + 4, v); }
static inline uint16_t nbd_get16(const uint8_t *p) { return p[0] << 8 | p[1]; }
static inline uint32_t nbd_get32(const uint8_t *p) { return (uint32_t)nbd_get16(p) << 16 | nbd_get16(p + 2); }
static inline uint64_t nbd_get64(const uint8_t *p) { return (uint64_t)nbd_get32(p) << 32 | nbd_get32(p + 4); }

enum nbd_mode { NBD_SIMPLE, NBD_STRUCTURED, NBD_EXTENDED };     /* headers in use, in order of power */

/* ---- channels */

struct nbd_channel;
struct tls_session;

struct nbd_channel *nbd_channel_new(int fd, struct loop *loop);  /* takes fd */
void nbd_channel_free(struct nbd_channel *ch);
/* To another loop, on the old one's thread, while nobody reads or writes. */
/* In two steps, each on the thread concerned, for a loop that runs; nobody waits for the channel in between. */
void nbd_channel_detach(struct nbd_channel *ch);
void nbd_channel_attach(struct nbd_channel *ch, struct loop *loop);
void nbd_channel_move(struct nbd_channel *ch, struct loop *loop);
/* [co] All of it: 0; -ENOTCONN when the peer ended before the first byte; else -errno. */
int nbd_read(struct nbd_channel *ch, void *buf, size_t len);
int nbd_readv(struct nbd_channel *ch, struct iovec *iov, int niov);     /* iov is used up */
int nbd_skip(struct nbd_channel *ch, uint64_t len);
int nbd_write(struct nbd_channel *ch, const void *buf, size_t len);
int nbd_writev(struct nbd_channel *ch, struct iovec *iov, int niov);    /* iov is used up */
/* Whoever reads or writes now, or does so later, fails. On the channel's loop. */
void nbd_channel_shutdown(struct nbd_channel *ch);
int nbd_channel_fd(const struct nbd_channel *ch);
/* [co] Waits until the descriptor can be read or written. -ESHUTDOWN after nbd_channel_shutdown(). */
int nbd_channel_wait(struct nbd_channel *ch, unsigned event);
/* Everything runs through the session from now on; it is freed with the channel. */
void nbd_channel_set_tls(struct nbd_channel *ch, struct tls_session *tls);
struct tls_session *nbd_channel_tls(const struct nbd_channel *ch);
bool nbd_channel_buffered(const struct nbd_channel *ch);        /* bytes were read ahead */

/* ---- addresses: a SocketAddress, {"type": "inet", "host":, "port":}, unix {path}, vsock {cid, port}, fd {str} */

/* From a flat or nested `server`, or the older host, port, path beside it. NULL with *err. Caller puts. */
struct json_object *nbd_address_from_options(struct json_object *opts, struct error *err);
/* "nbd://...", "nbd+unix://...", "nbds://...", "nbd:HOST:PORT[:exportname=NAME]", "nbd:unix:PATH[:exportname=NAME]":
 * options of an nbd node. NULL with *err. Caller puts. */
struct json_object *nbd_options_from_name(const char *name, struct error *err);
char *nbd_address_text(struct json_object *addr);       /* for messages: "HOST:PORT", "PATH"; caller frees */
/* Blocks (up to ms, or until *cancel); any thread. vm: for "fd" addresses by name, may be NULL. -1 with *err. */
int nbd_address_connect(struct json_object *addr, int ms, const volatile bool *cancel, struct error *err);
/* Descriptors that listen, at most max; 0 with *err. */
int nbd_address_listen(struct json_object *addr, int *fds, int max, int backlog, struct error *err);

#endif
