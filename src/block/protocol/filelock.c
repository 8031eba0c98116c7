/* Image locks: open-file-description locks on single bytes of the file, placed where QEMU's tools and libvirt place
 * theirs, so that each sees the other's. Byte 100 + p is read-locked by who uses permission p, byte 200 + p by who
 * does not let others use it; before taking the locks nobody may hold the opposite byte. */
#include "block/protocol/filelock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib.h>

enum { PERM_CONSISTENT_READ = 1 << 0, PERM_WRITE = 1 << 1, PERM_WRITE_UNCHANGED = 1 << 2, PERM_RESIZE = 1 << 3 };
enum { PERM_COUNT = 4, BYTE_USED = 100, BYTE_FORBIDDEN = 200 };

static int lock_byte(int fd, short type, off_t byte)
{
    struct flock fl = { .l_whence = SEEK_SET, .l_start = byte, .l_len = 1, .l_type = type };

    return fcntl(fd, F_OFD_SETLK, &fl) < 0 ? -errno : 0;
}

/* Whether another open file holds a lock there. */
static bool byte_taken(int fd, off_t byte)
{
    struct flock fl = { .l_whence = SEEK_SET, .l_start = byte, .l_len = 1, .l_type = F_WRLCK };

    return fcntl(fd, F_OFD_GETLK, &fl) == 0 && fl.l_type != F_UNLCK;
}

/* ---- whose lock it is: the kernel names no owner of such a lock, but each process lists those of its files */

static bool fdinfo_has_lock(const char *pid, const char *fd_name)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/fdinfo/%s", pid, fd_name);
    g_autofree char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) && strstr(text, "OFDLCK");
}

static bool process_holds(const char *pid, const struct stat *image)
{
    g_autofree char *dir_name = g_strdup_printf("/proc/%s/fd", pid);
    DIR *dir = opendir(dir_name);
    struct dirent *e;
    struct stat st;
    bool found = false;

    while (dir && !found && (e = readdir(dir))) {
        found = e->d_name[0] != '.' && !fstatat(dirfd(dir), e->d_name, &st, 0) && st.st_dev == image->st_dev &&
                st.st_ino == image->st_ino && fdinfo_has_lock(pid, e->d_name);
    }
    if (dir)
        closedir(dir);
    return found;
}

static char *process_command(const char *pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/cmdline", pid);
    char *text = NULL;
    gsize len = 0;

    if (!g_file_get_contents(path, &text, &len, NULL) || !len) {
        g_free(text);
        return g_strdup("?");
    }
    for (gsize i = 0; i + 1 < len; i++)
        if (!text[i])
            text[i] = ' ';
    if (len > 60)
        strcpy(text + 57, "...");
    return g_strstrip(text);
}

/* "process 4121 (rhea-img convert ...)", or NULL when it cannot be seen. */
static char *lock_holder(int fd)
{
    struct stat image;
    DIR *dir = opendir("/proc");
    struct dirent *e;
    char *text = NULL;

    if (!dir || fstat(fd, &image) < 0) {
        if (dir)
            closedir(dir);
        return NULL;
    }
    for (int pass = 0; pass < 2 && !text; pass++) {         /* others first, then this process itself */
        rewinddir(dir);
        while (!text && (e = readdir(dir))) {
            bool self = g_ascii_strtoll(e->d_name, NULL, 10) == getpid();

            if (!g_ascii_isdigit(e->d_name[0]) || self != (pass == 1) || !process_holds(e->d_name, &image))
                continue;
            if (self) {
                text = g_strdup("this process (the image is opened twice)");
            } else {
                g_autofree char *command = process_command(e->d_name);

                text = g_strdup_printf("process %s (%s)", e->d_name, command);
            }
        }
    }
    closedir(dir);
    return text;
}

/* ---- taking them */

static void locks_apply(int fd, unsigned used, unsigned forbidden)
{
    for (int p = 0; p < PERM_COUNT; p++) {
        lock_byte(fd, used & (1u << p) ? F_RDLCK : F_UNLCK, BYTE_USED + p);
        lock_byte(fd, forbidden & (1u << p) ? F_RDLCK : F_UNLCK, BYTE_FORBIDDEN + p);
    }
}

static bool locks_conflict(int fd, unsigned used, unsigned forbidden)
{
    for (int p = 0; p < PERM_COUNT; p++) {
        if ((used & (1u << p)) && byte_taken(fd, BYTE_FORBIDDEN + p))
            return true;
        if ((forbidden & (1u << p)) && byte_taken(fd, BYTE_USED + p))
            return true;
    }
    return false;
}

bool filelock_set(int fd, const char *path, bool read, bool write, struct error *err)
{
    unsigned used = (read || write ? PERM_CONSISTENT_READ : 0) | (write ? PERM_WRITE | PERM_RESIZE : 0);
    unsigned forbidden = read || write ? PERM_WRITE | PERM_RESIZE : 0;
    g_autofree char *holder = NULL;

    if (lock_byte(fd, F_RDLCK, BYTE_USED) == -EINVAL)
        return true;                                        /* a kernel or file system without such locks */
    locks_apply(fd, used, forbidden);
    if (!locks_conflict(fd, used, forbidden))
        return true;
    locks_apply(fd, 0, 0);
    holder = lock_holder(fd);
    return error_setf(err, ERR_GENERIC,
                      write ? "wait for it, or open read-only with readonly=on if the other only reads"
                            : "wait for it, or read without a lock with force-share=on (rhea-img: -U)",
                      "%s: locked by %s", path, holder ? holder : "another process");
}
