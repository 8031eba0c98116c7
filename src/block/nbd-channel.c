/* NBD connections: sockets read and written by coroutines, plain or through TLS. */
#include "block/nbd.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>
#include <glib.h>
#include "rhea/vm/tls.h"

/* What is read ahead: small messages come in bunches; larger ones go straight to their place. */
enum { READ_AHEAD = 16 << 10 };

struct nbd_channel {
    int fd;
    struct loop *loop;
    struct loop_fd *watch;
    unsigned events;
    struct coroutine *reader, *writer;          /* who waits */
    bool shut;
    struct tls_session *tls;
    size_t pos, len;                            /* of ahead */
    uint8_t ahead[READ_AHEAD];
};

static void channel_event(void *arg, unsigned events)
{
    struct nbd_channel *ch = arg;
    struct coroutine *r = NULL, *w = NULL;

    if (events & (LOOP_IN | LOOP_HUP))
        r = ch->reader;
    if (events & (LOOP_OUT | LOOP_HUP))
        w = ch->writer;
    if (r)
        ch->reader = NULL;
    if (w)
        ch->writer = NULL;
    /* input that nobody waits for is not asked about again until somebody does */
    ch->events = (ch->reader ? LOOP_IN : 0) | (ch->writer ? LOOP_OUT : 0);
    if (r && !w)
        ch->events |= LOOP_IN;                  /* it most likely waits again */
    if (ch->events || r || w)
        loop_fd_set(ch->watch, ch->events);
    else
        loop_fd_set(ch->watch, 0);
    if (r)
        coroutine_wake(r);                      /* may free ch */
    if (w)
        coroutine_wake(w);
}

struct nbd_channel *nbd_channel_new(int fd, struct loop *loop)
{
    struct nbd_channel *ch = g_new(struct nbd_channel, 1);
    int on = 1;

    memset(ch, 0, offsetof(struct nbd_channel, ahead));
    ch->fd = fd;
    ch->loop = loop;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));  /* fails on Unix sockets, which need it not */
    ch->watch = loop_fd_add(loop, fd, 0, channel_event, ch);
    return ch;
}

void nbd_channel_free(struct nbd_channel *ch)
{
    if (!ch)
        return;
    loop_fd_remove(ch->watch);
    tls_session_free(ch->tls);
    close(ch->fd);
    g_free(ch);
}

void nbd_channel_detach(struct nbd_channel *ch)
{
    loop_fd_remove(ch->watch);
    ch->watch = NULL;
}

void nbd_channel_attach(struct nbd_channel *ch, struct loop *loop)
{
    ch->loop = loop;
    ch->events = 0;
    ch->watch = loop_fd_add(loop, ch->fd, 0, channel_event, ch);
}

void nbd_channel_move(struct nbd_channel *ch, struct loop *loop)
{
    nbd_channel_detach(ch);
    nbd_channel_attach(ch, loop);
}

int nbd_channel_fd(const struct nbd_channel *ch)
{
    return ch->fd;
}

void nbd_channel_set_tls(struct nbd_channel *ch, struct tls_session *tls)
{
    ch->tls = tls;
}

struct tls_session *nbd_channel_tls(const struct nbd_channel *ch)
{
    return ch->tls;
}

bool nbd_channel_buffered(const struct nbd_channel *ch)
{
    return ch->pos < ch->len;
}

void nbd_channel_shutdown(struct nbd_channel *ch)
{
    struct coroutine *r = ch->reader, *w = ch->writer;

    if (ch->shut)
        return;
    ch->shut = true;
    shutdown(ch->fd, SHUT_RDWR);
    ch->reader = ch->writer = NULL;
    if (r)
        coroutine_wake(r);
    if (w && w != r)
        coroutine_wake(w);
}

int nbd_channel_wait(struct nbd_channel *ch, unsigned event)
{
    struct coroutine **who = event == LOOP_IN ? &ch->reader : &ch->writer;

    if (ch->shut)
        return -ESHUTDOWN;
    *who = coroutine_self();
    if (!(ch->events & event)) {
        ch->events |= event;
        loop_fd_set(ch->watch, ch->events);
    }
    coroutine_yield();
    return ch->shut ? -ESHUTDOWN : 0;
}

/* ---- reading */

/* Bytes, 0 at the end, or -errno; waits for the first byte. */
static ssize_t receive(struct nbd_channel *ch, void *buf, size_t len)
{
    for (;;) {
        ssize_t n;
        int ret;

        if (ch->shut)
            return -ESHUTDOWN;
        n = ch->tls ? tls_recv(ch->tls, buf, len) : recv(ch->fd, buf, len, MSG_DONTWAIT);
        if (n < 0 && !ch->tls)
            n = -errno;
        if (n == -EINTR)
            continue;
        if (n != -EAGAIN)
            return n;
        ret = nbd_channel_wait(ch, LOOP_IN);
        if (ret)
            return ret;
    }
}

int nbd_readv(struct nbd_channel *ch, struct iovec *iov, int niov)
{
    bool any = false;

    for (int i = 0; i < niov; i++) {
        uint8_t *p = iov[i].iov_base;
        size_t left = iov[i].iov_len;

        while (left) {
            ssize_t n = MIN(left, ch->len - ch->pos);

            if (n) {
                memcpy(p, ch->ahead + ch->pos, n);
                ch->pos += n;
            } else if (left >= READ_AHEAD) {
                n = receive(ch, p, left);
            } else {
                n = receive(ch, ch->ahead, READ_AHEAD);
                ch->pos = 0;
                ch->len = MAX(n, 0);
                if (n > 0)
                    continue;
            }
            if (n <= 0)
                return n ? n : any ? -ECONNRESET : -ENOTCONN;
            any = true;
            p += n;
            left -= n;
        }
    }
    return 0;
}

int nbd_read(struct nbd_channel *ch, void *buf, size_t len)
{
    struct iovec iov = { buf, len };

    return nbd_readv(ch, &iov, 1);
}

int nbd_skip(struct nbd_channel *ch, uint64_t len)
{
    uint8_t buf[4096];
    int ret = 0;

    for (; len && !ret; len -= MIN(len, sizeof(buf)))
        ret = nbd_read(ch, buf, MIN(len, sizeof(buf)));
    return ret;
}

/* ---- writing */

int nbd_writev(struct nbd_channel *ch, struct iovec *iov, int niov)
{
    while (niov) {
        struct msghdr msg = { .msg_iov = iov, .msg_iovlen = MIN(niov, 64) };
        ssize_t n;

        if (ch->shut)
            return -ESHUTDOWN;
        if (!iov->iov_len) {
            iov++;
            niov--;
            continue;
        }
        n = ch->tls ? tls_send(ch->tls, iov->iov_base, iov->iov_len) : sendmsg(ch->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && !ch->tls)
            n = -errno;
        if (n == -EINTR)
            continue;
        if (n == -EAGAIN)
            n = nbd_channel_wait(ch, LOOP_OUT);
        if (n < 0)
            return n;
        while (niov && (size_t)n >= iov->iov_len) {
            n -= iov->iov_len;
            iov++;
            niov--;
        }
        if (n) {
            iov->iov_base = (uint8_t *)iov->iov_base + n;
            iov->iov_len -= n;
        }
    }
    return 0;
}

int nbd_write(struct nbd_channel *ch, const void *buf, size_t len)
{
    struct iovec iov = { (void *)buf, len };

    return nbd_writev(ch, &iov, 1);
}

/* ---- errors */

static const struct { uint32_t wire; int err; } errors[] = {
    { NBD_EPERM, EPERM }, { NBD_EPERM, EROFS }, { NBD_EPERM, EACCES }, { NBD_EIO, EIO }, { NBD_ENOMEM, ENOMEM },
    { NBD_EINVAL, EINVAL }, { NBD_ENOSPC, ENOSPC }, { NBD_ENOSPC, EFBIG }, { NBD_ENOSPC, EDQUOT },
    { NBD_EOVERFLOW, EOVERFLOW }, { NBD_ENOTSUP, ENOTSUP }, { NBD_ESHUTDOWN, ESHUTDOWN },
};

uint32_t nbd_errno_to_wire(int err)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(errors); i++)
        if (errors[i].err == err)
            return errors[i].wire;
    return NBD_EINVAL;
}

int nbd_errno_from_wire(uint32_t err)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(errors); i++)
        if (errors[i].wire == err)
            return errors[i].err;
    return EINVAL;
}
