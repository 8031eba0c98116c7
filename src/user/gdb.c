/* -g: a program under GDB. A thread of the host serves the client; guest threads tell it of their stops and wait. Breakpoints are
 * put into the copies that code is translated from, never into the guest's memory; while there are watchpoints, every thread
 * runs one instruction at a time and its accesses are compared. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "gdb_server.h"
#include "internal.h"
#include "rhea/base/log.h"
#include "user/elf.h"
#include "user/mem.h"
#include "user/syscall.h"

enum { WATCHES_MAX = 64, BREAKPOINTS_MAX = 65536, GRACE_MS = 100 };

const char debugger_kick[] = "debugger";

static struct debug_thread *state_of(struct thread *t) { return &t->cpu->jit->debug; }

/* Its process is what is debugged: not so a vfork() child, which shares the code. */
static bool is_debugged(const struct debugger *d, const struct thread *t) { return d->active && t->process == d->process; }

/* ---- stopping. With d->lock held. */

static void hold(struct thread *t)
{
    struct jit_cpu *jc = t->cpu->jit;
    siginfo_t info = { .si_signo = DEBUGGER_SIGNAL, .si_code = SI_QUEUE, .si_ptr = (void *)debugger_kick };

    atomic_store(&jc->debug.held, true);
    cpu_kick(t->cpu, CPU_EXIT_STOP);
    if (!jc->debug.parked && t->tid != gettid() && !atomic_load(&jc->running))
        syscall(SYS_rt_tgsigqueueinfo, getpid(), t->tid, DEBUGGER_SIGNAL, &info);
}

static void hold_all(struct debugger *d)
{
    d->stopping = true;
    pthread_mutex_lock(&d->process->lock);
    for (struct thread *t = d->process->threads; t; t = t->next)
        hold(t);
    pthread_mutex_unlock(&d->process->lock);
}

enum rest { RESTLESS, IN_CALLS, ALL_PARKED };

static enum rest how_still(struct debugger *d)
{
    enum rest r = ALL_PARKED;

    pthread_mutex_lock(&d->process->lock);
    for (struct thread *t = d->process->threads; t; t = t->next) {
        if (t->cpu->jit->debug.parked)
            continue;
        r = atomic_load(&t->cpu->jit->running) ? RESTLESS : MIN(r, IN_CALLS);
        if (r == RESTLESS) {
            hold(t);                    /* it may have come out of a call just now */
            break;
        }
    }
    pthread_mutex_unlock(&d->process->lock);
    return r;
}

/* Until every thread is parked; one that stays in a system call, which no signal interrupts, counts after a while. */
static void wait_still(struct debugger *d)
{
    unsigned waited = 0;
    enum rest r;

    while ((r = how_still(d)) != ALL_PARKED && !d->ended) {
        struct timespec until;

        if (r == IN_CALLS && waited >= GRACE_MS)
            return;
        waited += r == IN_CALLS;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 1000000;
        if (until.tv_nsec >= 1000000000)
            until.tv_nsec -= 1000000000, until.tv_sec++;
        pthread_cond_timedwait(&d->cond, &d->lock, &until);
    }
}

static void wake_server(struct debugger *d)
{
    uint64_t one = 1;

    while (write(d->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* The thread waits here, as one that is in a system call. */
static void park(struct debugger *d, struct thread *t)
{
    struct debug_thread *s = state_of(t);

    engine_leave(t->cpu->jit);
    s->parked = true;
    pthread_cond_broadcast(&d->cond);
    while (d->active && (s->has_stop || atomic_load(&s->held)))
        pthread_cond_wait(&d->cond, &d->lock);
    s->parked = s->written = false;
    s->watches = d->watches->len;
}

static void park_end(struct debugger *d, struct thread *t)
{
    pthread_mutex_unlock(&d->lock);
    engine_enter(t->cpu->jit);
    cpu_kick(t->cpu, CPU_EXIT_KICK);    /* signals came meanwhile, perhaps; modes may have changed */
}

/* Reports and waits until the client lets it go on. */
static void stop_here(struct debugger *d, struct thread *t, struct gdb_stop why)
{
    struct debug_thread *s = state_of(t);

    why.pid = getpid();
    why.tid = t->tid;
    s->stop = why;
    s->has_stop = true;
    s->told = s->step = s->stepped = false;
    s->hit_type = 0;
    s->resume_signal = 0;
    hold_all(d);
    wake_server(d);
    park(d, t);
}

/* ---- hooks */

static struct debugger *debugger_of(struct thread *t) { return t->cpu->jit->engine->debugger; }

static bool breakpoint_at(struct debugger *d, uint64_t va)
{
    for (unsigned n = 0; n < d->breaks->len; n++)
        if (g_array_index(d->breaks, struct breakpoint, n).va == va)
            return true;
    return false;
}

bool debugger_break(struct thread *t)
{
    struct debugger *d = debugger_of(t);
    struct debug_thread *s = state_of(t);
    bool ours;

    pthread_mutex_lock(&d->lock);
    ours = breakpoint_at(d, t->cpu->pc);
    if (ours && !is_debugged(d, t)) {
        s->skip = t->cpu->jit->one_insn = true;
    } else if (ours) {
        stop_here(d, t, (struct gdb_stop){ .kind = GDB_STOP_BREAK });
        park_end(d, t);
        return true;
    }
    pthread_mutex_unlock(&d->lock);
    return ours;
}

void debugger_step(struct thread *t)
{
    struct debugger *d = debugger_of(t);
    struct debug_thread *s = state_of(t);
    struct gdb_stop why = { .kind = GDB_STOP_SIGNAL, .signal = SIGTRAP };

    s->stepped = s->skip = false;
    if (!s->hit_type && (!s->step || t->cpu->pc - s->start < s->end - s->start))
        return;
    if (s->hit_type)
        why = (struct gdb_stop){ .kind = GDB_STOP_WATCH, .type = s->hit_type, .addr = s->hit_addr };
    pthread_mutex_lock(&d->lock);
    if (is_debugged(d, t)) {
        s->info = (siginfo_t){ .si_signo = SIGTRAP, .si_code = s->hit_type ? TRAP_HWBKPT : TRAP_TRACE };
        stop_here(d, t, why);
        park_end(d, t);
        return;
    }
    s->step = false;
    s->hit_type = 0;
    pthread_mutex_unlock(&d->lock);
}

void debugger_look(struct thread *t)
{
    struct debugger *d = debugger_of(t);
    struct debug_thread *s = state_of(t);

    if (!atomic_load(&s->held) && !d->stopping)
        return;
    pthread_mutex_lock(&d->lock);
    if (!is_debugged(d, t)) {
        atomic_store(&s->held, false);
        pthread_mutex_unlock(&d->lock);
        return;
    }
    if (d->stopping)                    /* a thread that has just begun */
        atomic_store(&s->held, true);
    park(d, t);
    park_end(d, t);
}

int debugger_signal(struct thread *t, int sig, siginfo_t *info)
{
    struct debugger *d = debugger_of(t);
    struct debug_thread *s = state_of(t);

    pthread_mutex_lock(&d->lock);
    if (s->injected == sig) {
        s->injected = 0;
    } else if (is_debugged(d, t) && !d->pass[sig]) {
        s->info = *info;
        stop_here(d, t, (struct gdb_stop){ .kind = GDB_STOP_SIGNAL, .signal = sig });
        if (s->resume_signal && s->resume_signal != sig)
            *info = (siginfo_t){ .si_signo = s->resume_signal, .si_code = SI_USER };
        sig = s->resume_signal;
        park_end(d, t);
        return sig;
    }
    pthread_mutex_unlock(&d->lock);
    return sig;
}

static bool is_caught(const struct debugger *d, uint64_t nr)
{
    for (unsigned n = 0; n < d->ncaught; n++)
        if ((uint64_t)d->caught[n] == nr)
            return true;
    return d->catches && !d->ncaught;
}

/* The thread has a child that the client has not heard of. */
void debugger_forked(struct debugger *d, struct thread *t)
{
    struct debug_thread *s = state_of(t);
    pid_t child = s->forked;

    pthread_mutex_lock(&d->lock);
    s->forked = 0;
    if (is_debugged(d, t) && child == d->fork_child) {
        stop_here(d, t, (struct gdb_stop){ .kind = GDB_STOP_FORK, .addr = (uint64_t)child });
        park_end(d, t);
        return;
    }
    pthread_mutex_unlock(&d->lock);
}

void debugger_syscall(struct thread *t, bool entry, uint64_t nr)
{
    struct debugger *d = debugger_of(t);
    struct debug_thread *s = state_of(t);
    bool again = s->entered && entry;

    s->entered = again;
    if (!entry && s->followed) {        /* a child: the client knows that it stands here */
        s->followed = false;
        return;
    }
    if (s->forked)
        debugger_forked(d, t);
    if (!d->catches || again)
        return;
    pthread_mutex_lock(&d->lock);
    s->entered = entry;
    if (is_debugged(d, t) && is_caught(d, nr)) {
        stop_here(d, t, (struct gdb_stop){ .kind = entry ? GDB_STOP_SYSCALL : GDB_STOP_SYSRET, .addr = nr });
        park_end(d, t);
        return;
    }
    pthread_mutex_unlock(&d->lock);
}

bool debugger_wrote(struct thread *t)
{
    struct debugger *d = debugger_of(t);
    bool written;

    pthread_mutex_lock(&d->lock);
    written = state_of(t)->written;
    state_of(t)->written = false;
    pthread_mutex_unlock(&d->lock);
    return written;
}

void debugger_access(struct cpu *cpu, uint64_t va, unsigned n, bool write)
{
    struct debugger *d = cpu->jit->engine->debugger;
    struct debug_thread *s = &cpu->jit->debug;

    if (!d || s->hit_type)
        return;
    pthread_mutex_lock(&d->break_lock);
    for (unsigned k = 0; k < d->watches->len; k++) {
        const struct watchpoint *w = &g_array_index(d->watches, struct watchpoint, k);

        if (va < w->va + w->n && w->va < va + n && (w->type == 4 || (w->type == 2) == write)) {
            s->hit_type = w->type;
            s->hit_addr = w->va;
            break;
        }
    }
    pthread_mutex_unlock(&d->break_lock);
}

void debugger_patch(struct debugger *d, uint64_t page, uint8_t *code)
{
    pthread_mutex_lock(&d->break_lock);
    for (unsigned k = 0; k < d->breaks->len; k++) {
        const struct breakpoint *b = &g_array_index(d->breaks, struct breakpoint, k);

        for (unsigned n = 0; n < b->n; n++)
            if (((b->va + n) & PAGE_MASK) == page)
                code[(b->va + n) & ~PAGE_MASK] = b->insn[n];
    }
    pthread_mutex_unlock(&d->break_lock);
}

void debugger_exit(struct thread *t, bool killed, int status)
{
    struct debugger *d = debugger_of(t);

    pthread_mutex_lock(&d->lock);
    if (is_debugged(d, t) && !d->ended) {
        d->end = (struct gdb_stop){ .kind = killed ? GDB_STOP_KILLED : GDB_STOP_EXITED, .pid = getpid(), .tid = t->tid,
                                    .signal = killed ? status : 0, .addr = killed ? 0 : (uint64_t)status };
        d->ended = true;
        wake_server(d);
        while (d->active && !d->end_told)
            pthread_cond_wait(&d->cond, &d->lock);
    }
    pthread_mutex_unlock(&d->lock);
}

void debugger_thread_exit_begin(struct thread *t)
{
    struct debugger *d = debugger_of(t);
    struct debug_thread *s = state_of(t);

    pthread_mutex_lock(&d->lock);
    s->parked = true;
    pthread_cond_broadcast(&d->cond);
    while (is_debugged(d, t) && atomic_load(&s->held))
        pthread_cond_wait(&d->cond, &d->lock);
}

void debugger_thread_exit_end(struct thread *t) { pthread_mutex_unlock(&debugger_of(t)->lock); }

/* ---- what the session asks for. d->lock is held, and all are stopped. */

static void do_send(void *o, const void *data, size_t n)
{
    struct debugger *d = o;
    const char *p = data;

    while (n && d->client_fd >= 0) {
        ssize_t k = send(d->client_fd, p, n, MSG_NOSIGNAL);

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return;                     /* its end is seen when reading */
        p += k;
        n -= (size_t)k;
    }
}

static int do_pid(void *o) { return getpid(); }

static unsigned do_threads(void *o, int *tids, unsigned max)
{
    struct debugger *d = o;
    unsigned n = 0;

    pthread_mutex_lock(&d->process->lock);
    for (struct thread *t = d->process->threads; t && n < max; t = t->next)
        tids[n++] = t->tid;
    pthread_mutex_unlock(&d->process->lock);
    for (unsigned k = 0; k < n / 2; k++) {      /* oldest first */
        int other = tids[n - 1 - k];

        tids[n - 1 - k] = tids[k];
        tids[k] = other;
    }
    return n;
}

/* The oldest, which is the last of the list; 0: none. */
static int first_thread(struct debugger *d)
{
    int tid = 0;

    pthread_mutex_lock(&d->process->lock);
    for (struct thread *t = d->process->threads; t; t = t->next)
        tid = t->tid;
    pthread_mutex_unlock(&d->process->lock);
    return tid;
}

static struct thread *thread_find(struct debugger *d, int tid)
{
    struct thread *t;

    pthread_mutex_lock(&d->process->lock);
    for (t = d->process->threads; t && t->tid != tid; t = t->next)
        ;
    pthread_mutex_unlock(&d->process->lock);
    return t;
}

static struct cpu *do_cpu(void *o, int tid)
{
    struct thread *t = thread_find(o, tid);

    return t ? t->cpu : NULL;
}

static char *do_thread_name(void *o, int tid)
{
    g_autofree char *path = g_strdup_printf("/proc/self/task/%d/comm", tid);
    char *name = NULL;

    return g_file_get_contents(path, &name, NULL, NULL) ? g_strchomp(name) : NULL;
}

static void do_registers_written(void *o, int tid)
{
    struct thread *t = thread_find(o, tid);

    if (t)
        state_of(t)->written = true;
}

/* By the kernel, which overrides protections: code is read-only, guard pages may be looked at. */
static bool do_memory(void *o, int tid, uint64_t va, void *buf, size_t n, bool write)
{
    struct debugger *d = o;
    struct engine *e = d->process->engine;
    void *host = guest_host(e, va, n);
    int fd = host ? open("/proc/self/mem", (write ? O_RDWR : O_RDONLY) | O_CLOEXEC) : -1;
    ssize_t got;

    if (fd < 0 || (e->user->bits == 32 && va >> 32)) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    got = write ? pwrite(fd, buf, n, (off_t)(uintptr_t)host) : pread(fd, buf, n, (off_t)(uintptr_t)host);
    close(fd);
    if (write)
        code_drop(e, va, n);
    return got == (ssize_t)n;
}

static enum gdb_result watch_set(struct debugger *d, unsigned type, uint64_t va, unsigned n, bool set)
{
    struct watchpoint w = { va, n, type };
    enum gdb_result r = GDB_OK;

    pthread_mutex_lock(&d->break_lock);
    for (unsigned k = d->watches->len; k-- > 0; )
        if (!memcmp(&g_array_index(d->watches, struct watchpoint, k), &w, sizeof(w)))
            g_array_remove_index(d->watches, k);
    if (set && (d->watches->len >= WATCHES_MAX || !n))
        r = GDB_ERROR;
    else if (set)
        g_array_append_val(d->watches, w);
    pthread_mutex_unlock(&d->break_lock);
    return r;
}

static enum gdb_result do_breakpoint(void *o, unsigned type, uint64_t va, unsigned kind, bool set)
{
    struct debugger *d = o;
    struct breakpoint b = { .va = va };
    enum gdb_result r = GDB_OK;

    if (type >= 2)
        return watch_set(d, type, va, kind, set);
    b.n = d->target.debug->breakpoint(kind, b.insn);
    if (!b.n)
        return GDB_ERROR;
    if (set && mem_prot(d->process, va) < 0)
        return GDB_ERROR;
    pthread_mutex_lock(&d->break_lock);
    for (unsigned k = d->breaks->len; k-- > 0; )
        if (g_array_index(d->breaks, struct breakpoint, k).va == va)
            g_array_remove_index_fast(d->breaks, k);
    if (set && d->breaks->len >= BREAKPOINTS_MAX)
        r = GDB_ERROR;
    else if (set)
        g_array_append_val(d->breaks, b);
    pthread_mutex_unlock(&d->break_lock);
    code_drop(d->process->engine, va, b.n);
    return r;
}

/* One whose stop the client was not told of. That of a breakpoint is forgotten: it is met again, if it is still there. */
static struct thread *next_untold(struct debugger *d)
{
    struct thread *found = NULL;

    pthread_mutex_lock(&d->process->lock);
    for (struct thread *t = d->process->threads; t && !found; t = t->next)
        if (state_of(t)->has_stop && !state_of(t)->told)
            found = t;
    pthread_mutex_unlock(&d->process->lock);
    return found;
}

static void tell(struct debugger *d, struct thread *t)
{
    state_of(t)->told = true;
    gdb_stopped(d->gdb, &state_of(t)->stop);
}

static void thread_resume(struct debugger *d, struct thread *t, const struct gdb_action *a)
{
    struct debug_thread *s = state_of(t);
    bool in_signal = s->has_stop && s->stop.kind == GDB_STOP_SIGNAL && s->stop.signal == s->info.si_signo;

    s->step = a && a->step;
    s->start = a ? a->start : 0;
    s->end = a ? a->end : 0;
    s->resume_signal = a ? a->signal : 0;
    s->has_stop = false;
    if (a && a->signal && !(in_signal && s->parked && s->stop.signal != SIGTRAP)) {
        s->injected = a->signal;
        syscall(SYS_tgkill, getpid(), t->tid, a->signal);
    }
    atomic_store(&s->held, false);
    cpu_kick(t->cpu, CPU_EXIT_KICK);
}

static const struct gdb_action *action_for(const struct thread *t, const struct gdb_action *a, unsigned n)
{
    for (unsigned k = 0; k < n; k++)
        if ((a[k].pid <= 0 || a[k].pid == getpid()) && (a[k].tid <= 0 || a[k].tid == t->tid))
            return &a[k];
    return NULL;
}

static void do_resume(void *o, const struct gdb_action *a, unsigned n)
{
    struct debugger *d = o;
    struct thread *untold;

    while ((untold = next_untold(d)) && state_of(untold)->stop.kind == GDB_STOP_BREAK)
        state_of(untold)->told = true;
    if (untold) {
        tell(d, untold);
        return;
    }
    d->stopping = false;
    family_runs(d, true);
    pthread_mutex_lock(&d->process->lock);
    for (struct thread *t = d->process->threads; t; t = t->next) {
        const struct gdb_action *mine = action_for(t, a, n);

        if (mine)
            thread_resume(d, t, mine);
    }
    pthread_mutex_unlock(&d->process->lock);
    pthread_cond_broadcast(&d->cond);
}

static void do_interrupt(void *o)
{
    struct debugger *d = o;
    struct gdb_stop why = { .kind = GDB_STOP_SIGNAL, .pid = getpid(), .signal = SIGINT };
    struct thread *untold;

    if (!gdb_is_running(d->gdb))
        return;
    hold_all(d);
    wait_still(d);
    untold = next_untold(d);
    if (untold) {
        tell(d, untold);
        return;
    }
    why.tid = first_thread(d);
    if (why.tid)
        gdb_stopped(d->gdb, &why);
}

/* Nobody debugs any more: all go on, each with the signal that it was about to get. */
void debugger_release(struct debugger *d)
{
    struct engine *e = d->process->engine;

    debugger_fork_end(d, GDB_FORK_RUNS);
    pthread_mutex_lock(&d->break_lock);
    while (d->breaks->len) {
        struct breakpoint b = g_array_index(d->breaks, struct breakpoint, d->breaks->len - 1);

        g_array_set_size(d->breaks, d->breaks->len - 1);
        code_drop(e, b.va, b.n);
    }
    g_array_set_size(d->watches, 0);
    pthread_mutex_unlock(&d->break_lock);
    d->active = d->catches = d->stopping = false;
    pthread_mutex_lock(&d->process->lock);
    for (struct thread *t = d->process->threads; t; t = t->next) {
        struct debug_thread *s = state_of(t);
        struct gdb_action a = { .pid = -1, .tid = -1 };

        if (s->has_stop && s->stop.kind == GDB_STOP_SIGNAL && s->stop.signal != SIGTRAP)
            a.signal = s->stop.signal;
        thread_resume(d, t, &a);
    }
    pthread_mutex_unlock(&d->process->lock);
    pthread_cond_broadcast(&d->cond);
}

/* Others have the connection now. */
static void left(struct debugger *d)
{
    close(d->client_fd);
    d->client_fd = -1;
    gdb_disconnected(d->gdb);
}

static void do_detach(void *o, int pid)
{
    struct debugger *d = o;

    debugger_release(d);
    if (pid < 0)
        family_close(d);
    else if (family_leave(d, 0))
        left(d);
}

static void do_kill(void *o, int pid)
{
    struct debugger *d = o;

    if (pid < 0)
        family_kill(d);
    else
        family_leave(d, 0);
    kill(getpid(), SIGKILL);
}

static void do_fork_end(void *o, enum gdb_fork how) { debugger_fork_end(o, how); }
static unsigned do_others(void *o, int *pids, int *tids, unsigned max) { return family_threads(o, pids, tids, max); }
static bool do_hand_over(void *o, int pid, const char *packet, size_t n) { return family_hand_over(o, pid, packet, n); }

static char *do_exec_file(void *o)
{
    struct debugger *d = o;

    return g_strdup(d->process->exe);
}

static bool do_auxv(void *o, GByteArray *out)
{
    struct debugger *d = o;
    uint64_t n = d->process->auxv_end - d->process->auxv_start;

    if (!n || n > CPU_PAGE_SIZE)
        return false;
    g_byte_array_set_size(out, (guint)n);
    return do_memory(d, 0, d->process->auxv_start, out->data, n, false);
}

static bool do_siginfo(void *o, int tid, GByteArray *out)
{
    struct debugger *d = o;
    struct thread *t = thread_find(d, tid);
    uint8_t raw[GUEST_SIGINFO_SIZE];

    if (!t || !state_of(t)->has_stop || !state_of(t)->info.si_signo)
        return false;
    siginfo_to_guest(d->process->guest, raw, &state_of(t)->info);
    g_byte_array_append(out, raw, sizeof(raw));
    return true;
}

static void do_pass_signals(void *o, const bool pass[65]) { memcpy(((struct debugger *)o)->pass, pass, 65 * sizeof(bool)); }

static void do_catch_syscalls(void *o, bool on, const int *numbers, unsigned n)
{
    struct debugger *d = o;

    d->ncaught = MIN(n, GDB_SYSCALLS_MAX);
    memcpy(d->caught, numbers, d->ncaught * sizeof(*numbers));
    d->catches = on;
}

/* As the program would find them: below -L first. */
static int do_open(void *o, const char *path)
{
    struct debugger *d = o;
    g_autofree char *full = prefix_path(d->process->options, path);
    struct thread *t = d->process->threads;
    int64_t fd = g_str_has_prefix(path, "/proc/") && t ? procfs_open(t, path, O_RDONLY) : PROCFS_OTHER;
    struct stat st;

    if (fd != PROCFS_OTHER)             /* the guest's mappings, say */
        return (int)fd;
    fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    close(fd);
    return -EACCES;
}

static ssize_t do_readlink(void *o, const char *path, char *buf, size_t n)
{
    struct debugger *d = o;
    g_autofree char *full = prefix_path(d->process->options, path);
    ssize_t r = readlink(full, buf, n);

    return r < 0 ? -errno : r;
}

const struct gdb_target debugger_target = {
    .osabi = "GNU/Linux", .created = true, .send = do_send, .pid = do_pid, .threads = do_threads, .cpu = do_cpu,
    .thread_name = do_thread_name, .registers_written = do_registers_written, .memory = do_memory, .breakpoint = do_breakpoint,
    .resume = do_resume, .interrupt = do_interrupt, .detach = do_detach, .kill = do_kill, .exec_file = do_exec_file,
    .fork_end = do_fork_end, .others = do_others, .hand_over = do_hand_over, .auxv = do_auxv, .siginfo = do_siginfo,
    .pass_signals = do_pass_signals, .catch_syscalls = do_catch_syscalls, .open = do_open, .readlink = do_readlink,
};

/* A client has come: everything stops for it. */
void debugger_attach(struct debugger *d)
{
    struct gdb_stop why = { .kind = GDB_STOP_SIGNAL, .pid = getpid(), .signal = SIGTRAP };

    d->active = true;
    hold_all(d);
    wait_still(d);
    why.tid = first_thread(d);
    gdb_connected(d->gdb, &why);
}

/* Threads have stopped, or the process ends. */
void debugger_events(struct debugger *d)
{
    struct thread *t;

    if (d->ended && !d->end_told) {
        gdb_stopped(d->gdb, &d->end);
        d->end_told = true;
        if (family_leave(d, 0))
            left(d);
        pthread_cond_broadcast(&d->cond);
        return;
    }
    if (!d->active || !gdb_is_running(d->gdb) || !next_untold(d))
        return;
    wait_still(d);
    t = next_untold(d);
    if (t)
        tell(d, t);
}
