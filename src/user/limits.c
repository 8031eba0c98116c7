/* Resource limits: getrlimit(2). Those of memory would hit Rhea itself on the host: they are the process's own, enforced in mem.c
 * and handed on by execve(); a child has them with its copy of the memory. All others are the host's. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "user/limits.h"

static const int own[LIMIT_COUNT] = { [LIMIT_AS] = RLIMIT_AS, [LIMIT_DATA] = RLIMIT_DATA, [LIMIT_STACK] = RLIMIT_STACK };

static int own_index(int which)
{
    for (int n = 0; n < LIMIT_COUNT; n++)
        if (own[n] == which)
            return n;
    return -1;
}

/* What was never set is the host's. */
static struct rlimit limit_now(struct process *p, int n)
{
    struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

    pthread_mutex_lock(&p->lock);
    if (p->limit[n].set)
        limit = (struct rlimit){ p->limit[n].soft, p->limit[n].hard };
    else
        getrlimit(own[n], &limit);
    pthread_mutex_unlock(&p->lock);
    return limit;
}

uint64_t limit_soft(struct process *p, enum limit n)
{
    return p->limit[n].set ? p->limit[n].soft : n == LIMIT_STACK ? limit_now(p, n).rlim_cur : RLIM_INFINITY;
}

/* As root one may raise one's hard limit (CAP_SYS_RESOURCE: asked of the host by another limit's change would be worse). */
static int64_t limit_set(struct process *p, int n, const struct rlimit *set)
{
    struct rlimit old = limit_now(p, n);

    if (set->rlim_cur > set->rlim_max)
        return -EINVAL;
    if (set->rlim_max > old.rlim_max && geteuid() != 0)
        return -EPERM;
    pthread_mutex_lock(&p->lock);
    p->limit[n].set = true;
    p->limit[n].soft = set->rlim_cur;
    p->limit[n].hard = set->rlim_max;
    pthread_mutex_unlock(&p->lock);
    return 0;
}

static int64_t limit_get(struct thread *t, int which, struct rlimit *limit)
{
    int n = own_index(which);

    if (n < 0)
        return getrlimit(which, limit) < 0 ? -errno : 0;
    *limit = limit_now(t->process, n);
    return 0;
}

SYS(getrlimit)
{
    struct rlimit limit;
    int64_t r = limit_get(t, (int)a[0], &limit);

    return r < 0 ? r : user_put(t, LAYOUT_rlimit, a[1], &limit);
}

/* The first form of 32-bit guests: infinity is the largest positive number. */
SYS(getrlimit_old)
{
    struct rlimit limit;
    uint32_t out[2];
    int64_t r;

    if (!is_32bit(t))
        return sys_getrlimit(t, a);
    r = limit_get(t, (int)a[0], &limit);
    if (r < 0)
        return r;
    out[0] = MIN(limit.rlim_cur, INT32_MAX);
    out[1] = MIN(limit.rlim_max, INT32_MAX);
    return guest_write(t, a[1], out, sizeof(out));
}

SYS(setrlimit)
{
    struct rlimit limit;
    int n = own_index((int)a[0]);

    if (user_get(t, LAYOUT_rlimit, &limit, a[1]))
        return -EFAULT;
    return n >= 0 ? limit_set(t->process, n, &limit) : user_safe_syscall(t, SYS_prlimit64, 0, (int32_t)a[0], (uint64_t)&limit, 0, 0, 0);
}

SYS(prlimit64)
{
    struct rlimit set, old;
    bool self = (int32_t)a[0] == 0 || (int32_t)a[0] == getpid();
    int n = self ? own_index((int)a[1]) : -1;
    int64_t r = 0;

    if (a[2] && guest_read(t, &set, a[2], sizeof(set)))
        return -EFAULT;
    if (n >= 0) {
        old = limit_now(t->process, n);
        r = a[2] ? limit_set(t->process, n, &set) : 0;
    } else if (a[2] && own_index((int)a[1]) >= 0) {     /* another process's: it may be one of ours, which it would end */
        return -EPERM;
    } else {
        r = user_safe_syscall(t, SYS_prlimit64, (int32_t)a[0], (int32_t)a[1], a[2] ? (uint64_t)&set : 0, (uint64_t)&old, 0, 0);
    }
    return r == 0 && a[3] && guest_write(t, a[3], &old, sizeof(old)) ? -EFAULT : r;
}

/* ---- for the next program: "soft,hard" of each, "-" for what was never set */

char *limits_text(struct process *p)
{
    GString *s = g_string_new(NULL);
    bool any = false;

    for (int n = 0; n < LIMIT_COUNT; n++) {
        if (p->limit[n].set)
            g_string_append_printf(s, "%" PRIu64 ",%" PRIu64 ";", p->limit[n].soft, p->limit[n].hard);
        else
            g_string_append(s, "-;");
        any |= p->limit[n].set;
    }
    return g_string_free(s, !any);
}

void limits_read(struct process *p, const char *text)
{
    for (int n = 0; n < LIMIT_COUNT && text && *text; n++) {
        struct process_limit *l = &p->limit[n];

        l->set = sscanf(text, "%" SCNu64 ",%" SCNu64 ";", &l->soft, &l->hard) == 2;
        text = strchr(text, ';');
        text = text ? text + 1 : NULL;
    }
}

/* A program of the host's: there they are the kernel's to enforce. Only for a caller that is about to call execve(). */
void limits_to_host(struct process *p, struct rlimit old[LIMIT_COUNT])
{
    for (int n = 0; n < LIMIT_COUNT; n++) {
        struct rlimit limit = { p->limit[n].soft, p->limit[n].hard };

        getrlimit(own[n], &old[n]);
        if (p->limit[n].set) {
            limit.rlim_max = MAX(limit.rlim_max, old[n].rlim_max);      /* so that a failed execve() can take it back */
            setrlimit(own[n], &limit);
        }
    }
}

void limits_from_host(const struct rlimit old[LIMIT_COUNT])
{
    for (int n = 0; n < LIMIT_COUNT; n++)
        setrlimit(own[n], &old[n]);
}
