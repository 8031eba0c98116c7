/* Semihosting: handles of host files, of the console (":tt") and of ":semihosting-features". Paths are the user's: what the
 * process may open, the guest may. Arm, "Semihosting for AArch32 and AArch64", chapters "SYS_OPEN" and "extensions". */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "semihosting.h"

/* The magic; byte 0: SH_EXT_EXIT_EXTENDED, SH_EXT_STDOUT_STDERR. */
static const uint8_t features[] = { 0x53, 0x48, 0x46, 0x42, 3 };

static int failed(struct sh *s, int error)
{
    s->error = error;
    return SH_FAILED;
}

struct sh_handle *sh_handle(struct sh *s, uint64_t handle)
{
    /* Handles are not zero, and not the numbers that programs take for their own standard streams. */
    if (handle >= 1 && handle < SH_HANDLES && s->handle[handle].kind != SH_FREE)
        return &s->handle[handle];
    failed(s, EBADF);
    return NULL;
}

static int new_handle(struct sh *s, struct sh_handle h)
{
    for (int n = 1; n < SH_HANDLES; n++) {
        if (s->handle[n].kind == SH_FREE) {
            s->handle[n] = h;
            return n;
        }
    }
    return failed(s, EMFILE);
}

/* ---- opening. Modes are fopen()'s: r rb r+ r+b w wb w+ w+b a ab a+ a+b */

static int open_console(struct sh *s, unsigned mode)
{
    unsigned kind = mode / 4;           /* read: input, write: output, append: errors */

    return new_handle(s, (struct sh_handle){ .kind = SH_CONSOLE, .borrowed = true, .fd = (int)kind, .reads = kind == 0,
                                             .writes = kind != 0 });
}

static int open_file(struct sh *s, const char *path, unsigned mode)
{
    static const int flags[] = { 0, O_CREAT | O_TRUNC, O_CREAT | O_APPEND };
    bool update = mode & 2, reads = mode < 4 || update, writes = mode >= 4 || update;
    int fd, handle;

    /* Never wait in the host: a pipe without a peer, a line without a carrier. */
    fd = open(path, flags[mode / 4] | (reads && writes ? O_RDWR : writes ? O_WRONLY : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
    if (fd < 0)
        return failed(s, errno);
    handle = new_handle(s, (struct sh_handle){ .kind = SH_FILE, .fd = fd, .reads = reads, .writes = writes });
    if (handle < 0)
        close(fd);
    return handle;
}

int sh_open(struct sh *s, const char *path, unsigned mode)
{
    if (mode > 11)
        return failed(s, EINVAL);
    if (!strcmp(path, ":tt"))
        return open_console(s, mode);
    if (strcmp(path, ":semihosting-features"))
        return open_file(s, path, mode);
    if (mode > 1)
        return failed(s, EACCES);
    return new_handle(s, (struct sh_handle){ .kind = SH_FEATURES, .fd = -1, .reads = true });
}

bool sh_close(struct sh *s, uint64_t handle)
{
    struct sh_handle *h = sh_handle(s, handle);
    bool ok = h && (h->borrowed || h->fd < 0 || !close(h->fd));

    if (!h)
        return false;
    if (!ok)
        failed(s, errno);
    *h = (struct sh_handle){ .fd = -1 };
    return ok;
}

/* ---- the console */

static size_t console_can_read(void *opaque)
{
    struct sh *s = opaque;
    size_t n;

    pthread_mutex_lock(&s->lock);
    n = SH_INPUT - s->count;
    pthread_mutex_unlock(&s->lock);
    return n;
}

static void console_typed(void *opaque, const uint8_t *buf, size_t len)
{
    struct sh *s = opaque;

    pthread_mutex_lock(&s->lock);
    for (size_t n = 0; n < len && s->count < SH_INPUT; n++)
        s->input[(s->first + s->count++) % SH_INPUT] = buf[n];
    pthread_cond_broadcast(&s->typed);
    pthread_mutex_unlock(&s->lock);
}

bool sh_console_attach(struct sh *s, const char *chardev, struct error *err)
{
    static const struct chardev_fe_ops ops = { .can_read = console_can_read, .read = console_typed };

    s->fe = chardev_attach(s->vm, chardev, &ops, s, s->vm->loop, err);
    if (s->fe)
        chardev_set_open(s->fe, true);
    return s->fe;
}

static void console_wait(struct sh *s)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += SH_WAIT_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&s->typed, &s->lock, &until);
}

static bool fd_ready(int fd, short events)
{
    struct pollfd p = { .fd = fd, .events = events };

    return poll(&p, 1, 0) > 0;
}

/* Waits without the lock, so the descriptor may be closed meanwhile, and its number be another's: the call starts anew. */
static int fd_wait(struct sh *s, int fd, short events)
{
    struct pollfd p = { .fd = fd, .events = events };

    pthread_mutex_unlock(&s->lock);
    poll(&p, 1, SH_WAIT_MS);
    pthread_mutex_lock(&s->lock);
    return SH_AGAIN;
}

static ssize_t transferred(struct sh *s, ssize_t n, int fd, short events)
{
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EINTR ? fd_wait(s, fd, events) : failed(s, errno);
}

ssize_t sh_console_read(struct sh *s, void *buf, size_t len)
{
    uint8_t *to = buf;
    size_t n = 0;

    if (!s->fe)
        return fd_ready(STDIN_FILENO, POLLIN) ? transferred(s, read(STDIN_FILENO, buf, len), STDIN_FILENO, POLLIN)
                                              : fd_wait(s, STDIN_FILENO, POLLIN);
    if (!s->count)
        console_wait(s);
    if (!s->count)
        return SH_AGAIN;
    for (; n < len && s->count; n++, s->count--) {
        to[n] = s->input[s->first];
        s->first = (s->first + 1) % SH_INPUT;
    }
    chardev_accept_input(s->fe);
    return (ssize_t)n;
}

ssize_t sh_console_write(struct sh *s, const void *buf, size_t len, int fd)
{
    ssize_t n;

    if (s->fe) {
        n = (ssize_t)chardev_write(s->fe, buf, len);
        if (n || !len)
            return n;
        console_wait(s);
        return SH_AGAIN;
    }
    if (!fd_ready(fd, POLLOUT))
        return fd_wait(s, fd, POLLOUT);
    return transferred(s, write(fd, buf, MIN(len, PIPE_BUF)), fd, POLLOUT);      /* which a ready pipe takes at once */
}

/* ---- what is done with handles */

static ssize_t features_read(struct sh_handle *h, void *buf, size_t len)
{
    size_t n = h->at < sizeof(features) ? MIN(len, sizeof(features) - h->at) : 0;

    memcpy(buf, features + MIN(h->at, sizeof(features)), n);
    h->at += n;
    return (ssize_t)n;
}

ssize_t sh_read(struct sh *s, struct sh_handle *h, void *buf, size_t len)
{
    if (!h->reads)
        return failed(s, EBADF);
    if (h->kind == SH_FEATURES)
        return features_read(h, buf, len);
    if (h->kind == SH_CONSOLE)
        return sh_console_read(s, buf, len);
    return transferred(s, read(h->fd, buf, len), h->fd, POLLIN);
}

ssize_t sh_write(struct sh *s, struct sh_handle *h, const void *buf, size_t len)
{
    if (!h->writes)
        return failed(s, EBADF);
    if (h->kind == SH_CONSOLE)
        return sh_console_write(s, buf, len, h->fd);
    return transferred(s, write(h->fd, buf, len), h->fd, POLLOUT);
}

int64_t sh_length(struct sh *s, struct sh_handle *h)
{
    struct stat st;

    if (h->kind == SH_FEATURES)
        return sizeof(features);
    if (h->kind == SH_CONSOLE)
        return failed(s, ESPIPE);
    if (fstat(h->fd, &st))
        return failed(s, errno);
    return S_ISREG(st.st_mode) || st.st_size ? st.st_size : failed(s, ESPIPE);
}

bool sh_seek(struct sh *s, struct sh_handle *h, uint64_t at)
{
    if (h->kind == SH_FEATURES) {
        h->at = at;
        return true;
    }
    if (h->kind == SH_CONSOLE || at > INT64_MAX) {
        failed(s, h->kind == SH_CONSOLE ? ESPIPE : EINVAL);
        return false;
    }
    if (lseek(h->fd, (off_t)at, SEEK_SET) >= 0)
        return true;
    failed(s, errno);
    return false;
}

int sh_is_tty(struct sh *s, struct sh_handle *h)
{
    if (h->kind == SH_CONSOLE)
        return s->fe || isatty(h->fd);
    return h->kind == SH_FILE && isatty(h->fd);
}
