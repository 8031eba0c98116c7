/* Resource limits that are the process's own. */
#ifndef RHEA_SRC_USER_LIMITS_H
#define RHEA_SRC_USER_LIMITS_H

#include <sys/resource.h>
#include "user/syscall.h"

/* The soft limit in bytes; RLIM_INFINITY: there is none, or the host's kernel sees to it. */
uint64_t limit_soft(struct process *p, enum limit n);
/* For the next program. text: NULL if none was set; caller frees. */
char *limits_text(struct process *p);
void limits_read(struct process *p, const char *text);
void limits_to_host(struct process *p, struct rlimit old[LIMIT_COUNT]);
void limits_from_host(const struct rlimit old[LIMIT_COUNT]);

#endif
