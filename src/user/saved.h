/* Translations that outlive a process: -cache DIR, RHEA_CACHE. See saved.c. */
#ifndef RHEA_SRC_USER_SAVED_H
#define RHEA_SRC_USER_SAVED_H

#include "rhea/jit/jit.h"

struct guest_user;
struct process;
struct saved;

/* dir: absolute; made if it is not there. cpu: as given with -cpu. NULL: it is not to be trusted, or cannot be used; the log has why. */
struct saved *saved_new(const char *dir, const struct guest_user *user, const char *cpu);
void saved_free(struct saved *s);
/* As jit_translate(), from what was saved if it is there; what is new is kept for saved_write(). */
struct region *saved_translate(struct saved *s, struct process *p, struct jit *j, struct jit_source *src, enum jit_failure *why);
/* Writes what is new. Before the process ends or execs, when nobody else has its file descriptors. */
void saved_write(struct saved *s);
/* Around fork(), held from prepare to either other. What the parent translated is the parent's to write. */
void saved_fork_prepare(struct saved *s);
void saved_fork_parent(struct saved *s);
void saved_fork_child(struct saved *s);         /* saved_fork_parent() is to follow */

#endif
