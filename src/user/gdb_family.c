/* Forks that the client keeps (GDB's "set detach-on-fork off"): several processes on one connection. One of them speaks and may run,
 * the others stand still; a packet for another process is handed to that one together with the connection, which all have inherited.
 * What they share is a memory file, that outlives execve(). */
#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "gdb_server.h"
#include "internal.h"

enum { MEMBERS_MAX = 32, TIDS_MAX = 1024, LOOK_SECONDS = 1 };

struct member {
    int pid;                    /* 0: nobody */
    unsigned ntids;
    int tids[TIDS_MAX];         /* while it does not speak */
};

/* Written by who speaks, but for `speaker` and `turn`, when that one is gone. */
struct family {
    _Atomic int speaker;        /* its pid */
    _Atomic uint32_t turn;      /* counts its changes: a futex */
    _Atomic bool running;       /* the client waits for a stop */
    _Atomic bool closed;        /* the client left */
    int giver;                  /* who spoke before */
    bool pass[65];
    unsigned n;                 /* of the packet that is handed over, 0: none */
    char packet[GDB_PACKET_MAX + 1];
    struct member members[MEMBERS_MAX];
};

static struct member *member_find(struct family *f, int pid)
{
    for (unsigned n = 0; n < MEMBERS_MAX; n++)
        if (f->members[n].pid == pid)
            return &f->members[n];
    return NULL;
}

static void turn(struct family *f)
{
    atomic_fetch_add(&f->turn, 1);
    syscall(SYS_futex, &f->turn, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* Another one, who spoke last if possible; NULL: there is none. */
static struct member *other(struct family *f)
{
    struct member *found = f->giver && f->giver != getpid() ? member_find(f, f->giver) : NULL;

    for (unsigned n = 0; n < MEMBERS_MAX && !found; n++)
        if (f->members[n].pid && f->members[n].pid != getpid())
            found = &f->members[n];
    return found;
}

bool family_map(struct debugger *d, int fd)
{
    struct stat st;
    void *p = MAP_FAILED;

    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size == sizeof(struct family))
        p = mmap(NULL, sizeof(struct family), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    d->family_fd = fd;
    d->family = p == MAP_FAILED ? NULL : p;
    return d->family;
}

bool family_begin(struct debugger *d)
{
    int fd;

    if (d->family)
        return member_find(d->family, 0);
    fd = debugger_fd(memfd_create("debugger", MFD_CLOEXEC));
    if (fd >= 0 && ftruncate(fd, sizeof(struct family)) == 0 && family_map(d, fd)) {
        d->family->members[0].pid = getpid();
        atomic_store(&d->family->speaker, getpid());
        d->speaks = true;
        return true;
    }
    if (fd >= 0)
        close(fd);
    d->family_fd = -1;
    return false;
}

void family_drop(struct debugger *d)
{
    if (d->family)
        munmap(d->family, sizeof(*d->family));
    if (d->family_fd >= 0)
        close(d->family_fd);
    d->family = NULL;
    d->family_fd = -1;
}

bool family_add(struct debugger *d, int pid)
{
    struct member *m = d->family ? member_find(d->family, 0) : NULL;

    if (!m)
        return false;
    m->ntids = 1;
    m->tids[0] = m->pid = pid;
    return true;
}

static void speak(struct debugger *d, int pid, const char *packet, size_t n)
{
    struct family *f = d->family;

    memcpy(f->packet, packet, n);
    d->speaks = false;
    f->n = (unsigned)n;
    f->giver = getpid();
    memcpy(f->pass, d->pass, sizeof(f->pass));
    atomic_store(&f->running, false);
    atomic_store(&f->speaker, pid);
    turn(f);
}

bool family_hand_over(struct debugger *d, int pid, const char *packet, size_t n)
{
    struct family *f = d->family;
    struct member *mine = f ? member_find(f, getpid()) : NULL;

    if (!mine || pid == getpid() || !member_find(f, pid) || n > GDB_PACKET_MAX)
        return false;
    mine->ntids = d->target.threads(d, mine->tids, TIDS_MAX);
    speak(d, pid, packet, n);
    return true;
}

bool family_leave(struct debugger *d, int heir)
{
    struct family *f = d->family;
    struct member *mine = f ? member_find(f, getpid()) : NULL, *next = mine ? other(f) : NULL;

    if (mine)
        mine->pid = 0;
    if (next)
        speak(d, heir ? heir : next->pid, "", 0);
    family_drop(d);
    return next;
}

void family_close(struct debugger *d)
{
    if (d->family) {
        atomic_store(&d->family->closed, true);
        turn(d->family);
    }
    family_drop(d);
}

void family_kill(struct debugger *d)
{
    for (unsigned n = 0; d->family && n < MEMBERS_MAX; n++)
        if (d->family->members[n].pid && d->family->members[n].pid != getpid())
            kill(d->family->members[n].pid, SIGKILL);
}

unsigned family_threads(struct debugger *d, int *pids, int *tids, unsigned max)
{
    unsigned n = 0;

    for (unsigned k = 0; d->family && k < MEMBERS_MAX; k++) {
        const struct member *m = &d->family->members[k];

        for (unsigned i = 0; m->pid && m->pid != getpid() && i < MIN(m->ntids, TIDS_MAX) && n < max; i++, n++) {
            pids[n] = m->pid;
            tids[n] = m->tids[i];
        }
    }
    return n;
}

void family_runs(struct debugger *d, bool running)
{
    if (d->family && d->speaks)
        atomic_store(&d->family->running, running);
}

/* It has the memory file open under the same number, unless it ended, or executed what is not debugged. */
static bool is_alive(const struct debugger *d, int pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd/%d", pid, d->family_fd);
    struct stat st;

    return lstat(path, &st) == 0 || (access("/proc/self/fd", F_OK) < 0 && kill(pid, 0) == 0);
}

/* Who spoke is gone, killed mostly: the first of those left tells of it. */
static void look_after(struct debugger *d)
{
    struct family *f = d->family;
    int gone = atomic_load(&f->speaker);

    if (is_alive(d, gone))
        return;
    for (unsigned n = 0; n < MEMBERS_MAX; n++) {
        int pid = f->members[n].pid;

        if (pid && pid != gone && pid != getpid() && is_alive(d, pid))
            return;                     /* that one does */
        if (pid == getpid())
            break;
    }
    if (!atomic_compare_exchange_strong(&f->speaker, &gone, getpid()))
        return;
    if (member_find(f, gone))
        member_find(f, gone)->pid = 0;
    if (f->n || atomic_load(&f->running))
        gdb_died(d->gdb, gone, f->n > 0);
    f->n = 0;
    atomic_store(&f->running, false);
}

bool family_wait(struct debugger *d)
{
    struct family *f = d->family;
    struct timespec look = { .tv_sec = LOOK_SECONDS };
    uint32_t seen = atomic_load(&f->turn);
    g_autofree char *packet = NULL;
    unsigned n;

    if (atomic_load(&f->closed))
        return false;
    if (atomic_load(&f->speaker) != getpid()) {
        pthread_mutex_unlock(&d->lock);
        syscall(SYS_futex, &f->turn, FUTEX_WAIT, seen, &look, NULL, 0);
        pthread_mutex_lock(&d->lock);
        if (atomic_load(&f->speaker) != getpid() && !atomic_load(&f->closed))
            look_after(d);
        return true;
    }
    d->speaks = true;
    n = MIN(f->n, GDB_PACKET_MAX);
    packet = g_strndup(f->packet, n);
    f->n = 0;
    memcpy(d->pass, f->pass, sizeof(d->pass));
    if (n)
        gdb_handed(d->gdb, packet, n);
    return true;
}
