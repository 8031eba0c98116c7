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

/* ---- smaps: the guest's mappings, each with what the host's kernel counts there. What it counts in a mapping of its own
 * that several of the guest's make up (of code, which is data to the host, and constants) is divided by their sizes. */

enum { SMAPS_FIELDS = 24 };     /* those that are sums in kB: "Rss:" to "Locked:" */
struct smaps_entry {
    uint64_t start, end;        /* guest addresses */
    char *line;                 /* of maps, with its newline */
    uint64_t kb[SMAPS_FIELDS];
    char flags[160];
};
struct smaps {
    GPtrArray *entries;
    char name[SMAPS_FIELDS][24];
    unsigned fields;
};

static void smaps_entry_free(void *e)
{
    g_free(((struct smaps_entry *)e)->line);
    g_free(e);
}

static void smaps_add(struct smaps *m, struct smaps_entry *e, const char *name, uint64_t kb)
{
    unsigned n = 0;

    while (n < m->fields && strcmp(m->name[n], name))
        n++;
    if (n == SMAPS_FIELDS || !strcmp(name, "Size") || g_str_has_suffix(name, "PageSize"))
        return;
    if (n == m->fields)
        g_strlcpy(m->name[m->fields++], name, sizeof(m->name[0]));
    e->kb[n] += kb;
}

static bool smaps_read(struct process *p, struct smaps *m)
{
    g_autofree char *maps = mem_maps_text(p), *text = NULL;
    uint64_t start = 0, stop = 0, kb;   /* of the host's mapping, as guest addresses */
    char name[24], unit[3];
    unsigned first = 0;         /* of the entries in it: both are sorted */

    m->entries = g_ptr_array_new_with_free_func(smaps_entry_free);
    for (char *line = maps, *end; (end = strchr(line, '\n')); line = end + 1) {
        struct smaps_entry *e = g_new0(struct smaps_entry, 1);

        e->line = g_strndup(line, end + 1 - line);
        g_ptr_array_add(m->entries, e);
        if (sscanf(line, "%" SCNx64 "-%" SCNx64, &e->start, &e->end) != 2)
            e->start = e->end = 0;
    }
    if (!g_file_get_contents("/proc/self/smaps", &text, NULL, NULL))
        return false;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        bool flags = g_str_has_prefix(line, "VmFlags:");

        *end = 0;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &stop) == 2) {
            start = start < p->base ? 0 : start - p->base;
            stop = stop < p->base ? 0 : stop - p->base;
            while (first < m->entries->len && ((struct smaps_entry *)m->entries->pdata[first])->end <= start)
                first++;
            continue;
        }
        if (!flags && sscanf(line, "%23[^:]: %" SCNu64 " %2s", name, &kb, unit) != 3)
            continue;
        for (unsigned n = first; n < m->entries->len; n++) {
            struct smaps_entry *e = m->entries->pdata[n];

            if (e->start >= stop)
                break;
            if (flags)
                g_strlcpy(e->flags, line, sizeof(e->flags));
            else
                smaps_add(m, e, name, (double)kb * (MIN(e->end, stop) - MAX(e->start, start)) / (stop - start));
        }
    }
    return true;
}

static void smaps_print(GString *s, const struct smaps *m, const uint64_t *kb)
{
    for (unsigned n = 0; n < m->fields; n++)
        g_string_append_printf(s, "%s:%*" PRIu64 " kB\n", m->name[n], (int)(23 - strlen(m->name[n])), kb[n]);
}

static bool file_smaps(struct thread *t, const char *path, GString *s)
{
    struct smaps m = { 0 };
    bool ok = smaps_read(t->process, &m);

    for (unsigned n = 0; ok && n < m.entries->len; n++) {
        struct smaps_entry *e = m.entries->pdata[n];

        g_string_append_printf(s, "%sSize:%19" PRIu64 " kB\nKernelPageSize:%9d kB\nMMUPageSize:%12d kB\n", e->line, (e->end - e->start) >> 10,
                               CPU_PAGE_SIZE >> 10, CPU_PAGE_SIZE >> 10);
        smaps_print(s, &m, e->kb);
        g_string_append_printf(s, "%s\n", e->flags[0] ? e->flags : "VmFlags: ");
    }
    g_ptr_array_unref(m.entries);
    return ok;
}

static bool file_smaps_rollup(struct thread *t, const char *path, GString *s)
{
    uint64_t start = UINT64_MAX, end = 0, kb[SMAPS_FIELDS] = { 0 };
    unsigned width = is_32bit(t) ? 8 : 12;
    struct smaps m = { 0 };
    bool ok = smaps_read(t->process, &m);

    for (unsigned n = 0; ok && n < m.entries->len; n++) {
        struct smaps_entry *e = m.entries->pdata[n];

        start = MIN(start, e->start);
        end = MAX(end, e->end);
        for (unsigned k = 0; k < m.fields; k++)
            kb[k] += e->kb[k];
    }
    g_string_append_printf(s, "%0*" PRIx64 "-%0*" PRIx64 " ---p 00000000 00:00 0 %*s[rollup]\n", width, start, width, end, 26, "");
    smaps_print(s, &m, kb);
    g_ptr_array_unref(m.entries);
    return ok;
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
    { "smaps", true, file_smaps }, { "smaps_rollup", true, file_smaps_rollup }, { "environ", true, file_environ }, { "status", true, file_status }, { "/proc/cpuinfo", false, file_cpuinfo },
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

/* Offsets in /proc/self/mem are addresses: those of a 32-bit program become the host's when it seeks. */
static int64_t mem_open(struct thread *t, const char *path, int flags)
{
    int fd = open(path, flags & ~(O_CREAT | O_TRUNC));

    if (fd < 0)
        return -errno;
    t->process->has_mem_file = true;
    lseek(fd, (off_t)procfs_mem_offset(t, 0), SEEK_SET);
    return fd;
}

bool procfs_is_mem(struct thread *t, int fd)
{
    char name[32], path[64];
    const char *file;
    ssize_t n;

    if (!t->process->has_mem_file)
        return false;
    snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    n = readlink(name, path, sizeof(path) - 1);
    if (n < 0)
        return false;
    path[n] = 0;
    file = own_file(path);
    return file && !strcmp(file, "mem");
}

uint64_t procfs_mem_offset(const struct thread *t, uint64_t offset)
{
    return t->process->base + MIN(offset, UINT64_C(1) << 32);   /* a guard is there */
}

int64_t procfs_open(struct thread *t, const char *path, int flags)
{
    const char *own;
    int64_t r = PROCFS_OTHER;

    if (strncmp(path, "/proc/", 6))
        return PROCFS_OTHER;
    own = own_file(path);
    if (own && t->process->base && !strcmp(own, "mem"))
        return mem_open(t, path, flags);
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
