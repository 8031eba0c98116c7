/* The NBD client's negotiation. */
#ifndef RHEA_BLOCK_NBD_CLIENT_H
#define RHEA_BLOCK_NBD_CLIENT_H

#include "block/nbd.h"

struct object;

struct nbd_connect {
    struct json_object *addr;
    const char *export;
    struct object *creds;               /* TLS; NULL: in clear */
    const char *tls_hostname;           /* NULL: the address's host */
    bool simple;                        /* no structured replies: the kernel is to use the connection */
    const char *context;                /* metadata context wanted, or NULL */
    volatile bool cancel;               /* set by others: give up, and ... */
    struct nbd_channel *ch;             /* ... shut this down: where we negotiate, NULL before and after */
};

/* What was agreed on. */
struct nbd_peer {
    struct nbd_channel *ch;
    enum nbd_mode mode;
    uint64_t size;
    uint16_t flags;
    uint32_t min_block, opt_block, max_block;   /* 0: not told */
    bool has_context;
    uint32_t context_id;
};

/* [co] Connects and negotiates, in the current loop, within half a minute. On failure nothing stays open; *lasting (may
 * be NULL) tells whether trying again is useless. */
bool nbd_connect(struct nbd_connect *o, struct nbd_peer *p, bool *lasting, struct error *err);

/* [co] fn for each export that a server has; contexts ends with NULL. count (may be NULL) is set before the first. */
struct nbd_listed {
    const char *name, *description;
    const struct nbd_peer *peer;
    char **contexts;
};
bool nbd_list(struct nbd_connect *o, unsigned *count, void (*fn)(const struct nbd_listed *e, void *arg), void *arg, struct error *err);

#endif
