/* The NBD server's own: exports of type nbd, clients. */
#ifndef RHEA_BLOCK_NBD_SERVER_H
#define RHEA_BLOCK_NBD_SERVER_H

#include <glib.h>
#include "block/export.h"
#include "block/nbd.h"

struct dirty_bitmap;
struct object;

struct nbd_export {
    struct block_export e;
    char *name, *description;
    bool allocation_depth;
    GPtrArray *bitmaps;                 /* of struct dirty_bitmap, busy while we have them */
};

/* Metadata contexts of an export, by number: base:allocation, qemu:allocation-depth, then its bitmaps. */
enum { NBD_CONTEXT_BASE, NBD_CONTEXT_DEPTH, NBD_CONTEXT_BITMAP };

struct nbd_client {
    struct nbd_server *server;
    struct nbd_channel *ch;
    struct loop *loop;                  /* where it is: the graph's, then its export's */
    struct loop_timer *deadline;        /* of the handshake */
    struct nbd_export *export;          /* NULL until one was chosen */
    enum nbd_mode mode;
    bool no_zeroes, tls, closing;
    GArray *contexts;                   /* numbers that were set, ... */
    char *contexts_for;                 /* ... for this export */
    struct co_mutex send;
    struct coroutine *waiting;          /* the reader: too much is under way, or (at the end) anything */
    unsigned requests;                  /* under way, ... */
    uint64_t bytes;                     /* ... and their data */
};

/* Requests' data. Memory given back to the host comes again page by page, each a fault: more than the copy costs. */
enum { NBD_BUFFER_SMALLEST = 12, NBD_BUFFER_CLASSES = 10, NBD_BUFFERS_KEPT = 16 << 20 };    /* 4 KiB to 2 MiB */
struct nbd_buffer { struct nbd_buffer *next; };
struct nbd_buffers { GMutex lock; struct nbd_buffer *unused[NBD_BUFFER_CLASSES]; uint64_t kept; };

struct nbd_server {
    struct block_graph *graph;
    struct object *creds;
    char *tls_authz;
    unsigned max_connections, handshake_seconds;
    struct loop_fd *watches[16];
    int fds[16], fd_count;
    GPtrArray *clients;
    bool stopping, held;
    struct nbd_buffers buffers;
    char *unlink_path;
    void (*on_clients)(void *arg, unsigned clients);
    void *on_clients_arg;
};

/* [co] nbd-handshake.c. 0: client->export is held, and it wants to transmit; else the connection ends. */
int nbd_negotiate(struct nbd_client *c);
/* [co] nbd-transmit.c: until the client goes. */
void nbd_transmit(struct nbd_client *c);
void nbd_buffers_free(struct nbd_buffers *b);
uint16_t nbd_export_flags(const struct nbd_client *c, const struct nbd_export *x);
struct nbd_export *nbd_export_find(struct block_graph *g, const char *name);
void nbd_client_close(struct nbd_client *c);

#endif
