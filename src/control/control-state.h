/* What the control layer keeps with a machine. */
#ifndef RHEA_CONTROL_STATE_H
#define RHEA_CONTROL_STATE_H

#include "rhea/vm/vm.h"

struct control_state {
    GPtrArray *monitors;        /* of struct monitor */
    GHashTable *fds;            /* getfd: name -> fd + 1 */
    GPtrArray *fdsets;
    bool migration_events;      /* migrate-set-capabilities */
    GHashTable *limits;         /* events that come at most once a second: name and key -> struct event_limit */
};
struct control_state *control_state(struct vm *vm);

#endif
