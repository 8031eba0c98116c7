/* Inside src/debug: a session and its answers. */
#ifndef RHEA_SRC_DEBUG_GDB_INTERNAL_H
#define RHEA_SRC_DEBUG_GDB_INTERNAL_H

#include "rhea/debug/gdb.h"

enum { GDB_FILES_MAX = 32 };

struct gdb {
    const struct gdb_target *target;
    void *opaque;
    /* the packet that comes in */
    enum { IN_NOTHING, IN_PACKET, IN_SUM1, IN_SUM2 } state;
    uint8_t in[GDB_PACKET_MAX + 1];
    size_t in_n;
    uint8_t sum, claimed;
    bool too_long;
    /* the session */
    bool no_ack, no_ack_next, multiprocess, swbreak, forks, execs;
    bool running;
    int thread;                 /* of g, m ... (Hg) */
    int child;                  /* of a fork that the client has been told of, and waits; 0: none */
    bool on_child;              /* and was selected (Hg): it has no breakpoints */
    int step_thread;            /* of c, s (Hc): -1 all */
    struct gdb_stop last;
    GByteArray *sent;           /* the last packet, for a NAK */
    int files[GDB_FILES_MAX];   /* host fd, -1: free */
};

/* Answers. */
void gdb_reply(struct gdb *g, const void *data, size_t n);      /* made a packet; bytes are sent as they are */
void gdb_reply_text(struct gdb *g, const char *text);
void gdb_reply_error(struct gdb *g, int number);
void gdb_append_escaped(GByteArray *out, const uint8_t *data, size_t n);       /* binary: appendix "Overview" */
void gdb_append_hex(GString *out, const uint8_t *data, size_t n);
/* Bytes of hexadecimal text; false: it is not. */
bool gdb_parse_hex(const char **p, uint64_t *v);                /* at least one digit, at most 16 */
bool gdb_parse_bytes(const char *p, uint8_t *out, size_t n);    /* exactly 2 * n digits */
bool gdb_parse_thread(const char **p, int *pid, int *tid);      /* tid -1: all, 0: any */
char *gdb_thread_id(struct gdb *g, int pid, int tid);
int gdb_current_thread(struct gdb *g);          /* of g->thread, if it lives; else some thread */

/* gdb_query.c: q and Q packets. gdb_file.c: vFile. args: behind the name. */
void gdb_query(struct gdb *g, const char *packet);
void gdb_set(struct gdb *g, const char *packet);
const struct debug_reg *gdb_register(const struct guest_debug *d, unsigned n);  /* NULL: no such number */
void gdb_file(struct gdb *g, const char *args, size_t n);
void gdb_files_close(struct gdb *g);

#endif
