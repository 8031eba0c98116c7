/* execve(): a program for any guest is run by Rhea again, with the options this process has; one for the host, and what
 * only the host's kernel knows, is the kernel's. Scripts are followed here, so that their interpreters may be foreign. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "rhea/base/log.h"
#include "user/elf.h"
#include "user/gdb.h"
#include "user/limits.h"
#include "user/seccomp.h"
#include "user/syscall.h"

enum { SCRIPT_DEPTH = 5, HEAD_BYTES = 256, STRINGS_MAX = 1 << 20, STRING_MOST = 128 << 10 };

/* "#! interpreter argument": false if there is no name. The line is changed. */
static bool script_parse(char *line, char **interp, char **arg)
{
    char *end = line + strcspn(line, "\n"), *p = line + 2;

    *end = 0;
    while (end > line && (end[-1] == ' ' || end[-1] == '\t'))
        *--end = 0;
    p += strspn(p, " \t");
    if (!*p)
        return false;
    *interp = p;
    p += strcspn(p, " \t");
    *arg = NULL;
    if (*p) {
        *p++ = 0;
        p += strspn(p, " \t");
        *arg = *p ? p : NULL;
    }
    return true;
}

static void add_option(GPtrArray *v, const char *name, const char *value)
{
    g_ptr_array_add(v, g_strdup(name));
    if (value)
        g_ptr_array_add(v, g_strdup(value));
}

/* The command line that runs path as this process runs. */
static char **rhea_argv(struct process *p, int seccomp_fd, const char *session, const char *path, char **argv)
{
    const struct user_options *o = p->options;
    g_autofree char *limits = limits_text(p);
    GPtrArray *v = g_ptr_array_new();

    add_option(v, "rhea-user", NULL);
    if (o->prefix)
        add_option(v, "-L", o->prefix);
    if (o->cpu)
        add_option(v, "-cpu", o->cpu);
    if (o->release)
        add_option(v, "-r", o->release);
    if (o->log_items)
        add_option(v, "-d", o->log_items);
    if (o->log_file)
        add_option(v, "-D", o->log_file);
    if (o->strace)
        add_option(v, "-strace", NULL);
    if (o->stack_size) {
        g_ptr_array_add(v, g_strdup("-s"));
        g_ptr_array_add(v, g_strdup_printf("%" PRIu64, o->stack_size));
    }
    if (o->engine.saved)
        add_option(v, "-cache", o->engine.saved);
    if (o->engine.one_insn)
        add_option(v, "-one-insn-per-tb", NULL);
    if (o->engine.interp)
        add_option(v, "-interp", NULL);
    if (o->engine.eager)
        add_option(v, "-eager", NULL);
    if (o->self)
        add_option(v, "-self", o->self);
    if (limits)
        add_option(v, "-limits", limits);
    if (session)
        add_option(v, "-g", session);
    if (seccomp_fd >= 0) {
        g_ptr_array_add(v, g_strdup("-seccomp-fd"));
        g_ptr_array_add(v, g_strdup_printf("%d", seccomp_fd));
    }
    add_option(v, "-0", argv[0] ? argv[0] : "");
    add_option(v, "--", path);
    for (unsigned n = 1; argv[0] && argv[n]; n++)
        add_option(v, argv[n], NULL);
    g_ptr_array_add(v, NULL);
    return (char **)g_ptr_array_free(v, FALSE);
}

/* Other threads may close our descriptors, and it is not certain yet that they end: then nothing is kept. */
static void exec_save(struct thread *t)
{
    if (t->process->nthreads == 1)
        engine_save(t->process->engine);
}

/* The host's kernel cannot judge a native program by filters for the guest's numbers, so that it is not run under them. */
static int64_t exec_host(struct thread *t, const char *path, char **argv, char **envp)
{
    struct rlimit old[LIMIT_COUNT];
    int64_t r;

    if (t->seccomp) {
        log_at(LOG_UNIMP, "execve: %s is a program for the host, which seccomp filters of a guest cannot watch\n", path);
        return -EACCES;
    }
    exec_save(t);
    limits_to_host(t->process, old);
    r = execve(path, argv, envp) < 0 ? -errno : 0;
    limits_from_host(old);
    return r;
}

/* debug: gdb's session, if there is one, may go on. */
static int64_t exec_rhea(struct thread *t, bool debug, const char *path, char **argv, char **envp)
{
    int seccomp_fd = t->seccomp ? seccomp_save(t) : -1;
    g_autofree char *session = NULL;
    g_auto(GStrv) v = NULL;
    int64_t r;

    if (t->seccomp && seccomp_fd < 0)
        return -ENOMEM;
    exec_save(t);
    session = debug ? debugger_exec(t) : NULL;
    v = rhea_argv(t->process, seccomp_fd, session, path, argv);
    r = execve("/proc/self/exe", v, envp) < 0 ? -errno : 0;
    if (r == -ENOENT && t->process->options->self)      /* /proc is not mounted: in a fresh chroot, say */
        r = execve(t->process->options->self, v, envp) < 0 ? -errno : 0;
    if (session)
        debugger_exec_failed(t);
    if (seccomp_fd >= 0)
        close(seccomp_fd);
    return r;
}

static int64_t exec_depth(struct thread *t, const char *path, char **argv, char **envp, int depth)
{
    const struct guest_user *own = t->process->guest, *guest;
    char head[HEAD_BYTES + 1] = { 0 }, *interp, *arg;
    struct stat st;
    ssize_t n;
    int fd;

    if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
        return -errno;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)                 /* one may run what one may not read */
        return exec_host(t, path, argv, envp);
    n = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? pread(fd, head, HEAD_BYTES, 0) : -1;
    close(fd);
    if (n < 0)
        return -EACCES;
    if (n > 2 && head[0] == '#' && head[1] == '!') {
        GPtrArray *v = g_ptr_array_new();
        g_autofree char *found = NULL;
        g_autofree char **new_argv = NULL;
        int64_t r;

        if (depth == 0)
            return -ELOOP;
        if (!script_parse(head, &interp, &arg)) {
            g_ptr_array_free(v, TRUE);
            return -ENOEXEC;
        }
        found = prefix_path(t->process->options, interp);
        g_ptr_array_add(v, interp);
        if (arg)
            g_ptr_array_add(v, arg);
        g_ptr_array_add(v, (char *)path);
        for (unsigned k = 1; argv[0] && argv[k]; k++)
            g_ptr_array_add(v, argv[k]);
        g_ptr_array_add(v, NULL);
        new_argv = (char **)g_ptr_array_free(v, FALSE);
        r = exec_depth(t, found, new_argv, envp, depth - 1);
        return r;
    }
    guest = elf_guest((uint8_t *)head, n);
    /* A program for the host is the host's, unless this process is itself such a one that is emulated. */
    if (guest && (guest == own || strcmp(guest->name, "x86_64"))) {
        int64_t r = exec_rhea(t, guest == own, path, argv, envp);

        if (r != -ENOENT)
            return r;
    }
    return exec_host(t, path, argv, envp);
}

/* A name for an open file that outlives execve(), which closes it if it was opened so: the one it has, if it still has one, else
 * that of a copy which stays open. */
static char *fd_path(int fd)
{
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
    char path[4096];
    struct stat st, named;
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    int copy;

    path[MAX(n, 0)] = 0;
    if (n > 0 && fstat(fd, &st) == 0 && stat(path, &named) == 0 && st.st_dev == named.st_dev && st.st_ino == named.st_ino)
        return g_strdup(path);
    copy = fcntl(fd, F_GETFD) & FD_CLOEXEC ? fcntl(fd, F_DUPFD, 3) : -1;
    return copy >= 0 ? g_strdup_printf("/proc/self/fd/%d", copy) : g_steal_pointer(&link);
}

int64_t user_exec(struct thread *t, int dirfd, const char *path, char **argv, char **envp, int flags)
{
    g_autofree char *full = NULL;

    if (!path[0]) {
        if (!(flags & AT_EMPTY_PATH))
            return -ENOENT;
        full = fd_path(dirfd);
    } else if (path[0] != '/' && dirfd != AT_FDCWD) {
        full = g_strdup_printf("/proc/self/fd/%d/%s", dirfd, path);
    }
    if (flags & AT_SYMLINK_NOFOLLOW) {
        struct stat st;

        if (lstat(full ? full : path, &st) == 0 && S_ISLNK(st.st_mode))
            return -ELOOP;
    }
    return exec_depth(t, full ? full : path, argv, envp, SCRIPT_DEPTH);
}

/* A NULL-terminated vector of strings from the guest; NULL with *r. */
static char **strings_get(struct thread *t, uint64_t va, int64_t *r)
{
    unsigned word = t->abi->bits / 8;
    GPtrArray *v = g_ptr_array_new_with_free_func(g_free);
    size_t total = 0;

    *r = 0;
    for (uint64_t at = va; va; at += word) {
        uint64_t s = 0;
        int64_t n;
        char *copy;

        *r = guest_read(t, &s, at, word);
        if (*r || !s)
            break;
        n = guest_strlen(t, s, STRING_MOST);
        if (n < 0) {
            *r = n == -ENAMETOOLONG ? -E2BIG : n;
            break;
        }
        total += n + 1 + word;
        if (total > STRINGS_MAX * 2) {
            *r = -E2BIG;
            break;
        }
        copy = g_malloc(n + 1);
        *r = guest_read(t, copy, s, n);
        copy[n] = 0;
        g_ptr_array_add(v, copy);
        if (*r)
            break;
    }
    if (*r) {
        g_ptr_array_free(v, TRUE);
        return NULL;
    }
    g_ptr_array_add(v, NULL);
    return (char **)g_ptr_array_free(v, FALSE);
}

static int64_t do_exec(struct thread *t, int dirfd, uint64_t path_va, uint64_t argv_va, uint64_t envp_va, int flags)
{
    g_auto(GStrv) argv = NULL, envp = NULL;
    char path[PATH_BYTES];
    int64_t r = user_path(t, path_va, true, path);

    if (r < 0 || !(argv = strings_get(t, argv_va, &r)) || !(envp = strings_get(t, envp_va, &r)))
        return r;
    return user_exec(t, dirfd, path, argv, envp, flags);
}

SYS(execve) { return do_exec(t, AT_FDCWD, a[0], a[1], a[2], 0); }
SYS(execveat) { return do_exec(t, (int)a[0], a[1], a[2], a[3], (int)a[4]); }
