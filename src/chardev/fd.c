/* Back ends on plain file descriptors: null, the terminal, files, pipes, pseudo-terminals, serial ports; and the ring
 * buffer, which has none. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
#include "chardev/internal.h"
#include "rhea/vm/fds.h"

struct fd_chardev {
    struct chardev cd;
    int in, out;                        /* -1: none */
    struct loop_fd *in_watch, *out_watch;
    bool poll_before_write;             /* descriptors that must stay blocking: they are shared with the shell */
    bool eof;
    char *path;
};
#define fd_cast(cd) ((struct fd_chardev *)(cd))

static ssize_t fd_write(struct chardev *cd, const uint8_t *buf, size_t len)
{
    struct fd_chardev *f = fd_cast(cd);
    ssize_t n, done = 0;

    if (f->out < 0)
        return len;
    while ((size_t)done < len) {
        size_t chunk = len - done;

        if (f->poll_before_write) {
            struct pollfd p = { .fd = f->out, .events = POLLOUT };

            /* A writable terminal or pipe takes this much without blocking. */
            chunk = MIN(chunk, 512);
            if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
                return p.revents & (POLLERR | POLLHUP) ? -1 : done;
        }
        n = write(f->out, buf + done, chunk);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? done : -1;
        done += n;
    }
    return done;
}

static void fd_readable(void *opaque, unsigned events)
{
    struct fd_chardev *f = opaque;
    uint8_t buf[CHARDEV_IN_MAX];
    size_t room = chardev_room(&f->cd);
    ssize_t n;

    if (!room) {                        /* what is left in it, the end too, is seen when there is room again */
        loop_fd_set(f->in_watch, 0);
        return;
    }
    n = read(f->in, buf, room);
    if (n > 0) {
        chardev_input(&f->cd, buf, n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        f->eof = true;
        loop_fd_set(f->in_watch, 0);
        if (f->out < 0)                 /* else output goes on: standard input may be /dev/null */
            chardev_set_connected(&f->cd, false);
    }
}

static void fd_writable(void *opaque, unsigned events)
{
    struct fd_chardev *f = opaque;

    loop_fd_set(f->out_watch, 0);
    chardev_flush(&f->cd);
}

static void fd_watch(struct chardev *cd, bool in, bool out)
{
    struct fd_chardev *f = fd_cast(cd);

    if (f->in_watch)
        loop_fd_set(f->in_watch, in && !f->eof ? LOOP_IN : 0);
    if (f->out_watch)
        loop_fd_set(f->out_watch, out ? LOOP_OUT : 0);
}

/* A regular file cannot be polled (and never blocks): then there is no watch. */
static bool pollable(int fd)
{
    struct stat st;

    return fd >= 0 && !fstat(fd, &st) && !S_ISREG(st.st_mode);
}

static void fd_setup(struct fd_chardev *f, int in, int out)
{
    struct loop *loop = f->cd.vm->loop;

    f->in = in;
    f->out = out;
    if (in >= 0)
        f->in_watch = loop_fd_add(loop, in, 0, fd_readable, f);
    if (pollable(out))
        f->out_watch = loop_fd_add(loop, out, 0, fd_writable, f);
    chardev_set_connected(&f->cd, true);
}

static void fd_unwatch(struct fd_chardev *f)
{
    if (f->in_watch)
        loop_fd_remove(f->in_watch);
    if (f->out_watch)
        loop_fd_remove(f->out_watch);
    f->in_watch = f->out_watch = NULL;
}

static void fd_close(struct chardev *cd)
{
    struct fd_chardev *f = fd_cast(cd);

    fd_unwatch(f);
    g_mutex_lock(&cd->lock);
    if (f->in >= 0)
        close(f->in);
    if (f->out >= 0 && f->out != f->in)
        close(f->out);
    f->in = f->out = -1;
    g_mutex_unlock(&cd->lock);
    g_free(f->path);
}

/* ---- null */

static bool null_open(struct chardev *cd, struct json_object *opts, struct error *err)
{
    fd_setup(fd_cast(cd), -1, -1);
    return true;
}

const struct chardev_class chardev_null = {
    .name = "null", .summary = "takes everything, gives nothing", .size = sizeof(struct fd_chardev),
    .open = null_open, .close = fd_close, .write = fd_write,
};

/* ---- stdio: the process has one terminal, and gives it back as it was, however it ends */

static struct { struct chardev *owner; struct termios saved, ours; bool raw; } terminal;

static void terminal_restore(void)
{
    if (terminal.raw)
        tcsetattr(0, TCSANOW, &terminal.saved);
    terminal.raw = false;
}

/* A crash must not leave the terminal raw: restore (tcsetattr is async-signal-safe), then die as usual. */
static void terminal_crash(int sig)
{
    terminal_restore();
    signal(sig, SIG_DFL);
    raise(sig);
}

static void terminal_raw(bool signals)
{
    struct termios t;

    if (tcgetattr(0, &terminal.saved))
        return;                         /* no terminal: a pipe */
    t = terminal.saved;
    t.c_iflag &= ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    t.c_oflag |= OPOST;
    t.c_lflag &= ~(ECHO | ECHONL | ICANON | IEXTEN);
    if (!signals)
        t.c_lflag &= ~ISIG;
    t.c_cflag = (t.c_cflag & ~(CSIZE | PARENB)) | CS8;
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    if (!tcsetattr(0, TCSANOW, &t) && !terminal.raw) {
        terminal.ours = t;
        terminal.raw = true;
        atexit(terminal_restore);
        signal(SIGABRT, terminal_crash);
        signal(SIGQUIT, terminal_crash);
    }
}

void chardev_terminal_give_back(bool give_back)
{
    if (terminal.raw)
        tcsetattr(0, TCSANOW, give_back ? &terminal.saved : &terminal.ours);
}

static bool stdio_open(struct chardev *cd, struct json_object *opts, struct error *err)
{
    struct fd_chardev *f = fd_cast(cd);
    bool signals;

    f->in = f->out = -1;
    if (!option_bool(opts, "signal", true, &signals, err))
        return false;
    if (terminal.owner)
        return error_setf(err, ERR_GENERIC, "share it: -chardev stdio,id=ID,mux=on and -serial chardev:ID -mon ID, or "
                          "-serial mon:stdio", "the terminal is in use by chardev '%s'", terminal.owner->id);
    terminal.owner = cd;
    terminal_raw(signals);
    f->poll_before_write = true;
    fd_setup(f, 0, 1);
    return true;
}

static void stdio_close(struct chardev *cd)
{
    struct fd_chardev *f = fd_cast(cd);

    fd_unwatch(f);
    if (terminal.owner == cd) {
        terminal_restore();
        terminal.owner = NULL;
    }
}

const struct chardev_class chardev_stdio = {
    .name = "stdio", .summary = "this terminal, or standard input and output", .size = sizeof(struct fd_chardev),
    .params = (const char *const[]){ "signal", NULL }, .open = stdio_open, .close = stdio_close, .write = fd_write,
    .watch = fd_watch,
};

/* ---- file */

static bool file_open(struct chardev *cd, struct json_object *opts, struct error *err)
{
    struct fd_chardev *f = fd_cast(cd);
    const char *path = option_str(opts, "path", NULL), *input = option_str(opts, "input-path", NULL);
    bool append;
    int in = -1, out;

    f->in = f->out = -1;
    if (!path)
        return error_set(err, ERR_GENERIC, "the path is missing", "add path=FILE");
    if (!option_bool(opts, "append", false, &append, err))
        return false;
    out = fdset_open(cd->vm, path, O_WRONLY | O_CREAT | O_NONBLOCK | (append ? O_APPEND : O_TRUNC), 0666);
    if (out < 0)
        return error_set_errno(err, errno, "check the path and its rights", "%s", path);
    if (input) {
        in = fdset_open(cd->vm, input, O_RDONLY | O_NONBLOCK, 0);
        if (in < 0) {
            error_set_errno(err, errno, "check the path and its rights", "%s", input);
            close(out);
            return false;
        }
    }
    fd_setup(f, in, out);
    return true;
}

const struct chardev_class chardev_file = {
    .name = "file", .summary = "a file that gets the output", .size = sizeof(struct fd_chardev),
    .params = (const char *const[]){ "path", "input-path", "append", NULL }, .open = file_open, .close = fd_close,
    .write = fd_write, .watch = fd_watch,
};

/* ---- pipe: PATH.in and PATH.out where they exist, else PATH for both */

static bool pipe_open(struct chardev *cd, struct json_object *opts, struct error *err)
{
    struct fd_chardev *f = fd_cast(cd);
    const char *path = option_str(opts, "path", NULL);
    g_autofree char *in_path = g_strdup_printf("%s.in", path ? path : ""), *out_path = g_strdup_printf("%s.out",
                                                                                                  path ? path : "");
    int in, out;

    f->in = f->out = -1;
    if (!path)
        return error_set(err, ERR_GENERIC, "the path is missing", "add path=FIFO");
    in = open(in_path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    out = open(out_path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (in < 0 || out < 0) {
        if (in >= 0)
            close(in);
        if (out >= 0)
            close(out);
        in = out = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    }
    if (in < 0)
        return error_set_errno(err, errno, "make the pipes first: mkfifo PATH.in PATH.out", "%s", path);
    fd_setup(f, in, out);
    return true;
}

const struct chardev_class chardev_pipe = {
    .name = "pipe", .summary = "named pipes PATH.in and PATH.out", .size = sizeof(struct fd_chardev),
    .params = (const char *const[]){ "path", NULL }, .open = pipe_open, .close = fd_close, .write = fd_write,
    .watch = fd_watch,
};

/* ---- pty: connected while somebody has the other side open. Its hang-up is a level, so it is looked at by a timer. */

struct pty_chardev { struct fd_chardev fd; struct loop_timer *timer; };
enum { PTY_POLL_NS = 200 * 1000 * 1000 };

static void pty_lost(struct pty_chardev *p)
{
    chardev_set_connected(&p->fd.cd, false);
    loop_fd_set(p->fd.in_watch, 0);
    loop_timer_set(p->timer, host_clock_ns() + PTY_POLL_NS);
}

static void pty_readable(void *opaque, unsigned events)
{
    struct pty_chardev *p = opaque;
    uint8_t buf[CHARDEV_IN_MAX];
    size_t room = chardev_room(&p->fd.cd);
    ssize_t n;

    if (!room) {
        loop_fd_set(p->fd.in_watch, 0);
        return;
    }
    n = read(p->fd.in, buf, room);
    if (n > 0)
        chardev_input(&p->fd.cd, buf, n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        pty_lost(p);
}

static void pty_look(void *opaque)
{
    struct pty_chardev *p = opaque;
    struct pollfd pfd = { .fd = p->fd.in, .events = POLLIN };

    if (poll(&pfd, 1, 0) >= 0 && !(pfd.revents & POLLHUP)) {
        chardev_set_connected(&p->fd.cd, true);
        return;
    }
    loop_timer_set(p->timer, host_clock_ns() + PTY_POLL_NS);
}

static void pty_watch(struct chardev *cd, bool in, bool out)
{
    struct pty_chardev *p = (struct pty_chardev *)cd;

    loop_fd_set(p->fd.in_watch, in && cd->connected ? LOOP_IN : 0);
    loop_fd_set(p->fd.out_watch, out && cd->connected ? LOOP_OUT : 0);
}

static bool pty_open(struct chardev *cd, struct json_object *opts, struct error *err)
{
    struct pty_chardev *p = (struct pty_chardev *)cd;
    struct termios t;
    int master, slave;
    const char *link = option_str(opts, "path", NULL);

    p->fd.in = p->fd.out = -1;
    if (openpty(&master, &slave, NULL, NULL, NULL))
        return error_set_errno(err, errno, NULL, "no pseudo-terminal could be had");
    if (!tcgetattr(slave, &t)) {
        cfmakeraw(&t);
        tcsetattr(slave, TCSAFLUSH, &t);
    }
    p->fd.path = g_strdup(ttyname(slave));
    close(slave);
    fcntl(master, F_SETFL, O_NONBLOCK);
    fcntl(master, F_SETFD, FD_CLOEXEC);
    if (link && symlink(p->fd.path, link)) {
        error_set_errno(err, errno, "remove it, or choose another path", "%s", link);
        close(master);
        g_free(p->fd.path);
        return false;
    }
    p->fd.in = p->fd.out = master;
    p->fd.in_watch = loop_fd_add(cd->vm->loop, master, 0, pty_readable, p);
    p->fd.out_watch = loop_fd_add(cd->vm->loop, master, 0, fd_writable, p);
    p->timer = loop_timer_new(cd->vm->loop, pty_look, p);
    loop_timer_set(p->timer, host_clock_ns() + PTY_POLL_NS);
    printf("char device redirected to %s (label %s)\n", p->fd.path, cd->id);
    fflush(stdout);
    return true;
}

static void pty_close(struct chardev *cd)
{
    loop_timer_free(((struct pty_chardev *)cd)->timer);
    fd_close(cd);
}

static char *pty_filename(struct chardev *cd)
{
    return g_strdup_printf("pty:%s", fd_cast(cd)->path);
}

const struct chardev_class chardev_pty = {
    .name = "pty", .summary = "a new pseudo-terminal", .size = sizeof(struct pty_chardev),
    .params = (const char *const[]){ "path", NULL }, .open = pty_open, .close = pty_close, .write = fd_write,
    .watch = pty_watch, .filename = pty_filename,
};

/* ---- serial: a port of the host */

static const struct { int speed; speed_t code; } speeds[] = {
    { 50, B50 }, { 75, B75 }, { 110, B110 }, { 134, B134 }, { 150, B150 }, { 200, B200 }, { 300, B300 }, { 600, B600 },
    { 1200, B1200 }, { 1800, B1800 }, { 2400, B2400 }, { 4800, B4800 }, { 9600, B9600 }, { 19200, B19200 },
    { 38400, B38400 }, { 57600, B57600 }, { 115200, B115200 }, { 230400, B230400 }, { 460800, B460800 },
    { 500000, B500000 }, { 576000, B576000 }, { 921600, B921600 }, { 1000000, B1000000 }, { 1500000, B1500000 },
    { 2000000, B2000000 }, { 3000000, B3000000 }, { 4000000, B4000000 },
};

static void serial_setup(int fd, const struct chardev_serial *s)
{
    static const tcflag_t sizes[] = { CS5, CS6, CS7, CS8 };
    speed_t code = B115200;
    struct termios t;

    if (tcgetattr(fd, &t))
        return;
    cfmakeraw(&t);
    for (unsigned i = 0; i < G_N_ELEMENTS(speeds); i++)
        if (s->speed >= speeds[i].speed * 9 / 10)       /* divisors give rates near the standard ones */
            code = speeds[i].code;
    cfsetspeed(&t, code);
    t.c_cflag &= ~(CSIZE | PARENB | PARODD | CSTOPB);
    t.c_cflag |= CLOCAL | CREAD | sizes[CLAMP(s->data_bits, 5, 8) - 5];
    if (s->parity)
        t.c_cflag |= PARENB | (s->parity == 'O' ? PARODD : 0);
    if (s->stop_bits == 2)
        t.c_cflag |= CSTOPB;
    tcsetattr(fd, TCSANOW, &t);
}

static bool serial_open(struct chardev *cd, struct json_object *opts, struct error *err)
{
    struct fd_chardev *f = fd_cast(cd);
    const char *path = option_str(opts, "path", NULL);
    int fd;

    f->in = f->out = -1;
    if (!path)
        return error_set(err, ERR_GENERIC, "the path is missing", "add path=/dev/ttyS0");
    fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "check its name, and that you are in the group 'dialout'", "%s", path);
    serial_setup(fd, &(struct chardev_serial){ 115200, 0, 8, 1 });
    fd_setup(f, fd, fd);
    return true;
}

static int serial_ioctl(struct chardev *cd, enum chardev_ioctl what, void *arg)
{
    int fd = fd_cast(cd)->in;

    switch (what) {
    case CHR_SET_SERIAL: serial_setup(fd, arg); return 0;
    case CHR_SET_MODEM: return ioctl(fd, TIOCMSET, arg) ? -errno : 0;
    case CHR_GET_MODEM: return ioctl(fd, TIOCMGET, arg) ? -errno : 0;
    }
    return -ENOTSUP;
}

const struct chardev_class chardev_serial = {
    .name = "serial", .alias = "tty", .summary = "a serial port of the host", .size = sizeof(struct fd_chardev),
    .params = (const char *const[]){ "path", NULL }, .open = serial_open, .close = fd_close, .write = fd_write,
    .watch = fd_watch, .ioctl = serial_ioctl,
};

/* ---- ringbuf: the last bytes of the output, for ringbuf-read */

struct ringbuf { struct chardev cd; uint8_t *data; size_t size, start, used; };

static bool ringbuf_open(struct chardev *cd, struct json_object *opts, struct error *err)
{
    struct ringbuf *r = (struct ringbuf *)cd;
    uint64_t size;

    if (!option_size(opts, "size", 65536, &size, err))
        return false;
    if (!size || (size & (size - 1)) || size > 256 << 20)
        return error_set(err, ERR_GENERIC, "the size of a ring buffer must be a power of two, at most 256 MiB",
                         "write size=64K");
    r->size = size;
    r->data = g_malloc(size);
    chardev_set_connected(cd, true);
    return true;
}

static ssize_t ringbuf_put(struct chardev *cd, const uint8_t *buf, size_t len)
{
    struct ringbuf *r = (struct ringbuf *)cd;

    for (size_t i = 0; i < len; i++) {
        r->data[(r->start + r->used) & (r->size - 1)] = buf[i];
        if (r->used < r->size)
            r->used++;
        else
            r->start = (r->start + 1) & (r->size - 1);
    }
    return len;
}

static void ringbuf_close(struct chardev *cd)
{
    g_free(((struct ringbuf *)cd)->data);
}

const struct chardev_class chardev_ringbuf = {
    .name = "ringbuf", .alias = "memory", .summary = "a buffer of the last output, read with ringbuf-read",
    .size = sizeof(struct ringbuf), .params = (const char *const[]){ "size", NULL }, .open = ringbuf_open,
    .close = ringbuf_close, .write = ringbuf_put,
};

static struct ringbuf *ringbuf_find(struct vm *vm, const char *id, struct error *err)
{
    struct chardev *cd = chardev_find(vm, id);

    if (!cd)
        error_setf(err, ERR_GENERIC, "query-chardev lists them", "there is no chardev '%s'", id);
    else if (cd->cls != &chardev_ringbuf)
        error_setf(err, ERR_GENERIC, "make one with -chardev ringbuf,id=ID", "chardev '%s' is no ring buffer", id);
    else
        return (struct ringbuf *)cd;
    return NULL;
}

bool chardev_ringbuf_read(struct vm *vm, const char *id, size_t size, char **out, size_t *len, struct error *err)
{
    struct ringbuf *r = ringbuf_find(vm, id, err);

    if (!r)
        return false;
    g_mutex_lock(&r->cd.lock);
    *len = MIN(size, r->used);
    *out = g_malloc(*len + 1);
    for (size_t i = 0; i < *len; i++)
        (*out)[i] = r->data[(r->start + i) & (r->size - 1)];
    (*out)[*len] = 0;
    r->start = (r->start + *len) & (r->size - 1);
    r->used -= *len;
    g_mutex_unlock(&r->cd.lock);
    return true;
}

bool chardev_ringbuf_write(struct vm *vm, const char *id, const char *data, size_t len, struct error *err)
{
    struct ringbuf *r = ringbuf_find(vm, id, err);

    if (!r)
        return false;
    g_mutex_lock(&r->cd.lock);
    ringbuf_put(&r->cd, (const uint8_t *)data, len);
    g_mutex_unlock(&r->cd.lock);
    return true;
}
