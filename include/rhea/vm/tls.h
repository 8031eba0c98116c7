/* TLS for the host's ends (NBD, and whatever else listens or connects): credentials are objects (-object tls-creds-x509,
 * tls-creds-psk, tls-creds-anon), who may come in is decided by others (authz-simple, authz-list, authz-list-file).
 *
 * A session works on a non-blocking descriptor, which stays its owner's, and on one thread at a time. */
#ifndef RHEA_VM_TLS_H
#define RHEA_VM_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "rhea/base/error.h"

struct vm;
struct object;
struct tls_session;

/* creds: held by the caller (object_get() of kind "tls-creds"); they must be for this end. hostname: what a client
 * expects of the server's certificate. authz: id of an object that decides about a client's name, or NULL. */
struct tls_session *tls_session_new(struct object *creds, int fd, bool server, const char *hostname, const char *authz,
                                    struct error *err);
void tls_session_free(struct tls_session *s);
/* 0: done, and the peer is who it should be; -EAGAIN: go on when the descriptor is ready; else -errno with *err. */
int tls_handshake(struct tls_session *s, struct error *err);
bool tls_wants_write(const struct tls_session *s);      /* what -EAGAIN waits for */
/* Bytes, 0 at the end, or -errno. After -EAGAIN a send is repeated with the same buffer. */
ssize_t tls_recv(struct tls_session *s, void *buf, size_t len);
ssize_t tls_send(struct tls_session *s, const void *buf, size_t len);
/* Whether the object allows this name. False with *err where it does not, or cannot tell. */
bool authz_allowed(struct vm *vm, const char *id, const char *name, struct error *err);
/* The credentials of this id, held; refused if they are for the other end. */
struct object *tls_creds_get(struct vm *vm, const char *id, bool server, struct error *err);

#endif
