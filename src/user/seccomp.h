/* A thread's seccomp filters. */
#ifndef RHEA_SRC_USER_SECCOMP_H
#define RHEA_SRC_USER_SECCOMP_H

#include "user/syscall.h"

struct seccomp_filter;
struct seccomp_filter *seccomp_ref(struct seccomp_filter *f);
void seccomp_unref(struct seccomp_filter *f);

static inline bool seccomp_active(const struct thread *t) { return t->seccomp || t->seccomp_strict; }
/* Before a call of a thread with seccomp_active(): true: it may be made; else *r is its result. May end the thread. */
bool seccomp_check(struct thread *t, enum call_id id, uint64_t nr, const uint64_t *a, int64_t *r);
int64_t seccomp_prctl(struct thread *t, const uint64_t *a);     /* PR_GET_SECCOMP, PR_SET_SECCOMP */
int seccomp_mode(const struct thread *t);
unsigned seccomp_count(const struct thread *t);

/* For the next program of this process. save: a file descriptor, -1: failed. load: closes it. */
int seccomp_save(const struct thread *t);
bool seccomp_load(struct thread *t, int fd);

#endif
