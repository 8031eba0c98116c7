/* Character back ends (-chardev) and the front ends (serial ports, monitors, virtconsole) that use them. */
#ifndef RHEA_CHARDEV_CHARDEV_H
#define RHEA_CHARDEV_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <json-c/json.h>
#include "rhea/base/error.h"
#include "rhea/base/loop.h"

struct vm;
struct chardev;
struct chardev_fe;              /* one front end's hold; a mux has several */

enum chardev_event { CHR_OPENED, CHR_CLOSED, CHR_BREAK, CHR_MUX_IN, CHR_MUX_OUT };
/* All run on the front end's loop. can_read: bytes the front end takes now; read is never given more. */
struct chardev_fe_ops {
    size_t (*can_read)(void *opaque);
    void (*read)(void *opaque, const uint8_t *buf, size_t len);
    void (*event)(void *opaque, enum chardev_event ev);
};
struct chardev_fe *chardev_attach(struct vm *vm, const char *id, const struct chardev_fe_ops *ops, void *opaque, struct loop *loop, struct error *err);
void chardev_detach(struct chardev_fe *fe);
/* Queues what the host does not take at once (bounded: then the oldest of a disconnected peer is dropped); any thread.
 * Returns what was taken; 0 when the queue is full: try again after the `writable` callback. */
size_t chardev_write(struct chardev_fe *fe, const void *buf, size_t len);
void chardev_on_writable(struct chardev_fe *fe, void (*fn)(void *opaque), void *opaque);
void chardev_accept_input(struct chardev_fe *fe);       /* can_read grew; any thread */
void chardev_set_open(struct chardev_fe *fe, bool open);        /* guest opened the port: query-chardev's frontend-open */
bool chardev_connected(const struct chardev_fe *fe);
bool chardev_has_focus(const struct chardev_fe *fe);     /* of a mux; alone: always */
enum chardev_ioctl { CHR_SET_SERIAL /* struct chardev_serial */, CHR_SET_MODEM, CHR_GET_MODEM };
struct chardev_serial { int speed, parity, data_bits, stop_bits; };
int chardev_ioctl(struct chardev_fe *fe, enum chardev_ioctl what, void *arg);
/* File descriptors sent with the last bytes read (SCM_RIGHTS), for QMP's getfd; -1: none. Caller owns it. */
int chardev_take_fd(struct chardev_fe *fe);

/* Command line and QMP */
bool chardev_add(struct vm *vm, struct json_object *opts, struct error *err);   /* -chardev BACKEND,id=..., flat options */
bool chardev_del(struct vm *vm, const char *id, struct error *err);
/* -serial/-monitor/-qmp's short forms: "stdio", "mon:stdio", "pty", "unix:PATH,server,nowait", "telnet:HOST:PORT,...",
 * "file:PATH", "null", "none", "chardev:ID"; makes one named `label` and returns its id (caller frees), NULL with an
 * error, or "" for none. */
char *chardev_from_short(struct vm *vm, const char *spec, const char *label, bool *wants_mux_monitor, struct error *err);
struct json_object *chardev_query(struct vm *vm);               /* query-chardev */
bool chardev_ringbuf_read(struct vm *vm, const char *id, size_t size, char **out, size_t *len, struct error *err);
bool chardev_ringbuf_write(struct vm *vm, const char *id, const char *data, size_t len, struct error *err);
void chardev_cleanup(struct vm *vm);            /* restores the terminal */
/* The process is about to be stopped (Ctrl-Z), or goes on: the terminal is given back, or taken again. */
void chardev_terminal_give_back(bool give_back);
const char *chardev_help(void);                 /* -chardev help */

#endif
