/* Exports: a node offered to others, over NBD, as a file (FUSE) or to a vhost-user client. Each is one descriptor.
 * Exports come and go on the graph's loop; what clients ask for happens on the export's (its iothread's, if it has one). */
#ifndef RHEA_BLOCK_EXPORT_H
#define RHEA_BLOCK_EXPORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <json-c/json.h>
#include "block/backend.h"

struct block_export;

struct export_type {
    const char *name;                   /* "nbd" */
    const char *const *options;         /* its own, beside the common ones; NULL-terminated */
    bool reads_inactive;                /* serves what a closed node's image holds (allow-inactive) */
    size_t size;                        /* of the export, which begins with struct block_export */
    bool (*start)(struct block_export *e, struct json_object *opts, struct error *err);
    /* Ends what its clients do; each hold that they have is given up, now or soon. */
    void (*shut)(struct block_export *e);
    void (*destroy)(struct block_export *e);    /* no hold is left; after start(), also if that failed */
};

struct block_export {
    const struct export_type *type;
    struct block_graph *graph;
    struct block_backend *b;
    struct object *iothread;            /* or NULL */
    struct loop *loop;                  /* its, or the graph's */
    char *id;
    bool writable, shutting_down, allow_inactive;
    char *away;                         /* the inactive node whose view is served; NULL: b is on the node itself */
    atomic_uint refs;                   /* the user's own, and one a client */
};

#define EXPORT_TYPE_(id)                                                                        \
    static const struct export_type id;                                                         \
    static const struct export_type *const BLOCK_CONCAT(id, _ptr)                               \
        __attribute__((section("rhea_export_types"), used)) = &id;                              \
    static const struct export_type id
#define EXPORT_TYPE EXPORT_TYPE_(BLOCK_CONCAT(export_type_, __COUNTER__))

/* block-export-add: type, id, node-name, writable, writethrough, and the type's. NULL with *err. */
struct block_export *export_add(struct block_graph *g, struct json_object *opts, struct error *err);
struct block_export *export_find(struct block_graph *g, const char *id);
/* hard: even with clients. The event comes when the last of them is gone. */
bool export_del(struct block_export *e, bool hard, struct error *err);
struct json_object *export_query(struct block_graph *g);
/* fn for each export of the type (NULL: any); it may end it. */
void exports_foreach(struct block_graph *g, const char *type, void (*fn)(struct block_export *e, void *arg), void *arg);
/* On the export's loop, or the graph's. */
void export_ref(struct block_export *e);
void export_unref(struct block_export *e);
/* Ends all, and waits. */
void exports_close(struct block_graph *g);

/* ---- inactive nodes (export-inactive.c) */
unsigned exports_leaving(const struct block_node *n);           /* how many holds of n go when it becomes inactive */
bool exports_away(struct block_graph *g, const char *name);     /* whether one serves the inactive node */
bool export_may_leave(const struct block_backend *b);           /* whether it is such an export's */
/* While the graph is quiet: before n closes; when nodes may have opened. */
bool exports_leave(struct block_node *n, struct error *err);
bool exports_return(struct block_graph *g, struct error *err);
/* What a new export of an inactive node serves; the caller's hold. */
struct block_node *export_view(struct block_export *e, struct block_node *n, struct error *err);

/* [co] A client's requests on b, in the loop of the caller; they wait while the graph changes. 0 or -errno. */
/* [co] Around what looks at b->root: the graph stays as it is in between. */
void export_enter(struct block_backend *b);
void export_leave(struct block_backend *b);
int export_preadv(struct block_backend *b, uint64_t off, struct iovec *iov, int niov);
int export_pwritev(struct block_backend *b, uint64_t off, struct iovec *iov, int niov, unsigned flags);
int export_flush(struct block_backend *b);
int export_discard(struct block_backend *b, uint64_t off, uint64_t bytes);
int export_write_zeroes(struct block_backend *b, uint64_t off, uint64_t bytes, unsigned flags);

/* ---- the NBD server of a graph: one, that offers all exports of type nbd */

struct nbd_server_options {
    struct json_object *addr;           /* a SocketAddress */
    const char *tls_creds, *tls_authz;
    unsigned max_connections;           /* 0: no limit */
    unsigned handshake_seconds;         /* 0: no limit */
    bool held;                          /* clients wait until nbd_server_admit() */
};
bool nbd_server_start(struct block_graph *g, const struct nbd_server_options *o, struct error *err);
/* On sockets that listen already (taken), for socket activation. */
bool nbd_server_start_fds(struct block_graph *g, const struct nbd_server_options *o, const int *fds, int count, struct error *err);
void nbd_server_stop(struct block_graph *g);
void nbd_server_admit(struct block_graph *g);
bool nbd_server_running(const struct block_graph *g);
/* fn(arg, clients) whenever a client comes or goes. */
void nbd_server_on_clients(struct block_graph *g, void (*fn)(void *arg, unsigned clients), void *arg);

#endif
