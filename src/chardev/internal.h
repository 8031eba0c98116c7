/* What the back ends share with the core. A back end's descriptors are watched on the machine's main loop; writes may
 * come from any thread. */
#ifndef RHEA_CHARDEV_INTERNAL_H
#define RHEA_CHARDEV_INTERNAL_H

#include <glib.h>
#include <sys/types.h>
#include "rhea/base/options.h"
#include "rhea/chardev/chardev.h"
#include "rhea/vm/vm.h"

enum { CHARDEV_IN_MAX = 4096, CHARDEV_OUT_MAX = 256 * 1024, CHARDEV_FDS_MAX = 16 };

struct chardev_class {
    const char *name, *alias, *summary;
    size_t size;                        /* of the back end's struct, which begins with struct chardev */
    const char *const *params;          /* beside the common ones; NULL-terminated */
    bool (*open)(struct chardev *cd, struct json_object *opts, struct error *err);
    void (*close)(struct chardev *cd);
    /* Under the lock, any thread. Bytes taken, 0: none now, -1: the peer is gone (what is queued is dropped). */
    ssize_t (*write)(struct chardev *cd, const uint8_t *buf, size_t len);
    /* Main loop: the wish to read (room for input) or to write (output is queued) changed. */
    void (*watch)(struct chardev *cd, bool in, bool out);
    char *(*filename)(struct chardev *cd);      /* for query-chardev; caller frees */
    int (*ioctl)(struct chardev *cd, enum chardev_ioctl what, void *arg);
};

/* Invariants: (1) `lock` is a leaf, no callback runs under it; (2) fes[focus] alone gets input; (3) out is empty while
 * not connected. */
struct chardev {
    const struct chardev_class *cls;
    struct vm *vm;
    char *id;
    GMutex lock;
    gint refs;
    bool mux, connected, closed, arming;
    GPtrArray *fes;
    unsigned focus;
    GByteArray *out;
    int fds[CHARDEV_FDS_MAX]; unsigned nfds;    /* received, not taken yet */
    int log_fd;
    /* multiplexer */
    uint8_t escape; bool escaped, timestamps, line_start;
    int64_t opened_ns;
};

/* Core, for back ends; main loop */
size_t chardev_room(struct chardev *cd);        /* bytes that chardev_input() takes now */
void chardev_input(struct chardev *cd, const uint8_t *buf, size_t len);
void chardev_input_fd(struct chardev *cd, int fd);      /* takes it */
void chardev_break(struct chardev *cd);
void chardev_set_connected(struct chardev *cd, bool connected);
void chardev_flush(struct chardev *cd);         /* the descriptor became writable */
struct chardev *chardev_find(struct vm *vm, const char *id);

/* A flat set of options from chardev-add's {id, backend: {type, data}}; others are returned as they are. */
struct json_object *chardev_flatten(struct json_object *opts, struct error *err);

extern const struct chardev_class chardev_null, chardev_stdio, chardev_file, chardev_pipe, chardev_pty, chardev_serial,
    chardev_ringbuf, chardev_socket, chardev_udp;

#endif
