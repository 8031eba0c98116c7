/* Files below /proc that tell of the process itself: they must be the guest's, not Rhea's. proc(5). */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "user/mem.h"
#include "user/seccomp.h"
#include "user/syscall.h"

/* What follows "/proc/self/" in any of its spellings, or NULL. */
static const char *own_file(const char *path)
{
    char pid[32];

    if (strncmp(path, "/proc/", 6))
        return NULL;
    path += 6;
    snprintf(pid, sizeof(pid), "%d/", getpid());
    if (!strncmp(path, "self/", 5))
        path += 5;
    else if (!strncmp(path, "thread-self/", 12))
        return path + 12;
    else if (!strncmp(path, pid, strlen(pid)))
        path += strlen(pid);
    else
        return NULL;
    if (!strncmp(path, "task/", 5)) {           /* task/TID/x is x */
        const char *rest = strchr(path + 5, '/');

        return rest ? rest + 1 : NULL;
    }
    return path;
}

bool procfs_is_exe(struct thread *t, const char *path)
{
    const char *file = own_file(path);

    return file && !strcmp(file, "exe");
}

/* ---- contents */

static void append_memory(struct thread *t, GString *s, uint64_t start, uint64_t end)
{
    gsize at = s->len;

    if (end <= start || end - start > 4 << 20)
        return;
    g_string_set_size(s, at + (end - start));
    if (guest_read(t, s->str + at, start, end - start))
        g_string_truncate(s, at);
}

static bool file_maps(struct thread *t, const char *path, GString *s)
{
    g_autofree char *text = mem_maps_text(t->process);

    g_string_append(s, text);
    return true;
}

static bool file_auxv(struct thread *t, const char *path, GString *s)
{
    append_memory(t, s, t->process->auxv_start, t->process->auxv_end);
    return true;
}

static bool file_cmdline(struct thread *t, const char *path, GString *s)
{
    append_memory(t, s, t->process->args_start, t->process->args_end);
    return true;
}

static bool file_environ(struct thread *t, const char *path, GString *s)
{
    append_memory(t, s, t->process->env_start, t->process->env_end);
    return true;
}

/* The host's line of this process or thread, with the start of the stack (field 28) ours. */
static bool file_stat(struct thread *t, const char *path, GString *s)
{
    g_autofree char *text = NULL;
    char *rest;
    unsigned field = 3;

    if (!g_file_get_contents(path, &text, NULL, NULL) || !(rest = strrchr(text, ')')))
        return false;
    g_string_append_len(s, text, rest + 1 - text);
    g_strchomp(rest);
    for (char *save = NULL, *word = strtok_r(rest + 1, " ", &save); word; word = strtok_r(NULL, " ", &save), field++)
        if (field == 28)
            g_string_append_printf(s, " %" PRIu64, t->process->stack_start);
        else
            g_string_append_printf(s, " %s", word);
    g_string_append_c(s, '\n');
    return true;
}

/* The host's, with what it says of seccomp ours: the host's kernel knows of no filter. */
static bool file_status(struct thread *t, const char *path, GString *s)
{
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return false;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        if (g_str_has_prefix(line, "Seccomp:"))
            g_string_append_printf(s, "Seccomp:\t%d\n", seccomp_mode(t));
        else if (g_str_has_prefix(line, "Seccomp_filters:"))
            g_string_append_printf(s, "Seccomp_filters:\t%u\n", seccomp_count(t));
        else
            g_string_append_len(s, line, end + 1 - line);
    }
    return true;
}

static bool file_cpuinfo(struct thread *t, const char *path, GString *s)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);

    if (!t->process->guest->cpuinfo)
        return false;
    for (long n = 0; n < MAX(count, 1); n++) {
        g_autofree char *text = t->process->guest->cpuinfo(t->cpu, n);

        g_string_append(s, text ? text : "");
    }
    return true;
}

static const struct { const char *name; bool own; bool (*fill)(struct thread *t, const char *path, GString *s); } files[] = {
    { "maps", true, file_maps }, { "auxv", true, file_auxv }, { "cmdline", true, file_cmdline }, { "stat", true, file_stat },
    { "environ", true, file_environ }, { "status", true, file_status }, { "/proc/cpuinfo", false, file_cpuinfo },
};

static int64_t content_file(const char *name, const GString *s, int flags)
{
    int fd = memfd_create(name, flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
    gsize done = 0;

    while (fd >= 0 && done < s->len) {
        ssize_t n = write(fd, s->str + done, s->len - done);

        if (n < 0 && errno != EINTR) {
            close(fd);
            return -EIO;
        }
        done += MAX(n, 0);
    }
    if (fd < 0)
        return -errno;
    lseek(fd, 0, SEEK_SET);
    return fd;
}

int64_t procfs_open(struct thread *t, const char *path, int flags)
{
    const char *own;
    int64_t r = PROCFS_OTHER;

    if (strncmp(path, "/proc/", 6))
        return PROCFS_OTHER;
    own = own_file(path);
    for (unsigned n = 0; n < G_N_ELEMENTS(files); n++) {
        const char *name = files[n].own ? own : path;
        GString *s;

        if (!name || strcmp(name, files[n].name))
            continue;
        if ((flags & O_ACCMODE) != O_RDONLY)
            return -EACCES;
        s = g_string_new(NULL);
        if (files[n].fill(t, path, s))
            r = content_file(name, s, flags);
        g_string_free(s, TRUE);
        break;
    }
    return r;
}

int64_t procfs_readlink(struct thread *t, const char *path, char *buf, size_t n)
{
    size_t len;

    if (!t->process->exe || !procfs_is_exe(t, path))
        return PROCFS_OTHER;
    len = MIN(strlen(t->process->exe), n);
    memcpy(buf, t->process->exe, len);
    return len;
}
