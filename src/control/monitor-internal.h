/* What the two kinds of monitor share: a session on a character device, its bounded output, the machine's events. */
#ifndef RHEA_CONTROL_MONITOR_INTERNAL_H
#define RHEA_CONTROL_MONITOR_INTERNAL_H

#include <glib.h>
#include "control/control-state.h"
#include "rhea/chardev/chardev.h"
#include "rhea/control/monitor.h"

struct readline;

enum {
    MONITOR_OUT_STALL = 64 * 1024,      /* a client that does not read its replies is not read from */
    MONITOR_OUT_MAX = 4 * 1024 * 1024,  /* and gets no more events */
    QMP_REQUEST_MAX = 16 * 1024 * 1024,
    QMP_NESTING_MAX = 1024,
};

struct monitor {
    struct vm *vm;
    struct chardev_fe *fe;
    GString *out;                       /* what the chardev did not take yet */
    bool control, pretty;
    /* QMP: the request being received. Bytes are only counted here; json_parse() understands them. */
    bool negotiated;
    GString *in;
    unsigned depth;
    char quote;                         /* of the string we are in, or 0 */
    bool escaped, skipping;             /* skipping: until a line end or '{', after an error */
    /* HMP */
    struct readline *rl;
    bool greeted;
    int cpu;
};

void monitor_put(struct monitor *mon, const char *text, size_t len);
/* qmp.c */
extern const struct chardev_fe_ops qmp_ops;
void qmp_event(struct control_state *c, const char *name, struct json_object *data);
struct json_object *qmp_dispatch(struct vm *vm, struct monitor *mon, struct json_object *request);
char *error_text(const struct error *err);      /* sentence and hint in one; caller frees */
/* audit.c: tells -d audit of a command. err: NULL when it succeeded. */
void audit_qmp(struct json_object *request, const struct error *err);
void audit_hmp(const char *line);
/* hmp.c */
extern const struct chardev_fe_ops hmp_ops;
void hmp_session_free(struct monitor *mon);

#endif
