/* System calls about sockets: messages and options hold addresses and longs, which a 32-bit guest has narrower. */
#include <linux/filter.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include "user/syscall.h"

enum { CONTROL_MAX = 65536, MESSAGES_MAX = 1024, HOST_HEADER = sizeof(struct cmsghdr) };

/* A guest's struct msghdr: name, its length, iovec, its length, control, its length, flags. All but the first length and
 * the flags are words. */
struct guest_msg { uint64_t name, iov, iov_count, control, control_len; uint32_t name_len, flags; };

static unsigned msg_size(struct thread *t) { return t->abi->bits == 64 ? 56 : 28; }

static int msg_get(struct thread *t, struct guest_msg *m, uint64_t va)
{
    uint8_t raw[56];

    if (guest_read(t, raw, va, msg_size(t)))
        return -EFAULT;
    if (is_32bit(t)) {
        uint32_t w[7];

        memcpy(w, raw, sizeof(w));
        *m = (struct guest_msg){ w[0], w[2], w[3], w[4], w[5], w[1], w[6] };
    } else {
        struct msghdr h;

        memcpy(&h, raw, sizeof(h));
        *m = (struct guest_msg){ (uint64_t)h.msg_name, (uint64_t)h.msg_iov, h.msg_iovlen, (uint64_t)h.msg_control, h.msg_controllen,
                                 h.msg_namelen, h.msg_flags };
    }
    return m->control_len > CONTROL_MAX && m->control ? -ENOBUFS : 0;
}

/* Lengths and flags that a receive changed. */
static int msg_put(struct thread *t, uint64_t va, const struct msghdr *h, uint64_t control_len)
{
    unsigned word = t->abi->bits / 8;
    uint32_t name_len = h->msg_namelen, flags = h->msg_flags;

    return guest_write(t, va + word, &name_len, 4) || guest_write(t, va + 5 * word, &control_len, word)
        || guest_write(t, va + 6 * word, &flags, 4) ? -EFAULT : 0;
}

/* ---- control messages of 32-bit guests: a header of 12 bytes, aligned to 4. Timestamps hold longs. */

static unsigned align4(unsigned n) { return (n + 3) & ~3u; }

/* Longs that the message holds: one time, or the three of SCM_TIMESTAMPING. */
static unsigned control_longs(const struct cmsghdr *c, unsigned len)
{
    unsigned n = c->cmsg_type == SO_TIMESTAMP || c->cmsg_type == SO_TIMESTAMPNS ? 2 : c->cmsg_type == SO_TIMESTAMPING ? 6 : 0;

    return c->cmsg_level == SOL_SOCKET && len == n * sizeof(uint64_t) ? n : 0;
}

static int control_to_host(struct thread *t, const struct guest_msg *m, uint8_t *out, size_t *out_len)
{
    g_autofree uint8_t *raw = g_malloc(m->control_len + 1);
    unsigned at = 0, to = 0;

    if (guest_read(t, raw, m->control, m->control_len))
        return -EFAULT;
    while (at + 12 <= m->control_len) {
        uint32_t head[3];
        struct cmsghdr c;
        unsigned len;

        memcpy(head, raw + at, sizeof(head));
        if (head[0] < 12 || head[0] > m->control_len - at)
            return -EINVAL;
        len = head[0] - 12;
        c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(len), .cmsg_level = head[1], .cmsg_type = head[2] };
        memset(out + to, 0, CMSG_SPACE(len));
        memcpy(out + to, &c, HOST_HEADER);
        memcpy(out + to + HOST_HEADER, raw + at + 12, len);
        to += CMSG_SPACE(len);
        at += align4(head[0]);
    }
    *out_len = to;
    return 0;
}

/* What fits is stored; the rest is cut, which the flags say. */
static int control_to_guest(struct thread *t, const struct guest_msg *m, struct msghdr *h, uint64_t *stored)
{
    uint64_t at = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        const uint8_t *data = CMSG_DATA(c);
        unsigned len = c->cmsg_len - HOST_HEADER, longs = control_longs(c, len);
        uint32_t narrow[6], head[3];

        for (unsigned n = 0; n < longs; n++)
            memcpy(&narrow[n], data + n * sizeof(uint64_t), sizeof(narrow[n]));
        if (longs) {
            data = (uint8_t *)narrow;
            len = longs * sizeof(narrow[0]);
        }
        if (at + 12 + len > m->control_len) {
            h->msg_flags |= MSG_CTRUNC;
            break;
        }
        head[0] = 12 + len, head[1] = c->cmsg_level, head[2] = c->cmsg_type;
        if (guest_write(t, m->control + at, head, sizeof(head)) || guest_write(t, m->control + at + 12, data, len))
            return -EFAULT;
        at = MIN(at + align4(12 + len), m->control_len);
    }
    *stored = at;
    return 0;
}

/* ---- one message */

static int64_t message(struct thread *t, int fd, uint64_t va, int flags, bool receive)
{
    struct guest_msg m;
    struct msghdr h = { 0 };
    g_autofree struct iovec *iov = NULL;
    g_autofree uint8_t *control = NULL;
    uint64_t stored;
    int64_t r = msg_get(t, &m, va);

    if (r < 0)
        return r;
    iov = user_iovec(t, m.iov, m.iov_count, receive, &r);
    if (!iov)
        return r == -EINVAL && m.iov_count > IOV_MAX ? -EMSGSIZE : r;
    h.msg_name = receive ? user_ptr_write(t, m.name, m.name_len) : user_ptr(t, m.name, m.name_len);
    h.msg_namelen = m.name_len;
    h.msg_iov = iov;
    h.msg_iovlen = m.iov_count;
    h.msg_controllen = m.control ? m.control_len : 0;
    if (m.control && m.control_len) {
        if (!is_32bit(t)) {
            h.msg_control = receive ? user_ptr_write(t, m.control, m.control_len) : user_ptr(t, m.control, m.control_len);
        } else {
            size_t room = m.control_len * 2 + 64;

            control = g_malloc0(room);
            h.msg_control = control;
            h.msg_controllen = room;
            if (!receive && (r = control_to_host(t, &m, control, &h.msg_controllen)) < 0)
                return r;
        }
    }
    r = user_safe_syscall(t, receive ? SYS_recvmsg : SYS_sendmsg, fd, (uint64_t)&h, flags, 0, 0, 0);
    if (!receive || r < 0)
        return r;
    stored = h.msg_controllen;
    if (control && control_to_guest(t, &m, &h, &stored))
        return -EFAULT;
    return msg_put(t, va, &h, stored) ? -EFAULT : r;
}

SYS(sendmsg) { return message(t, (int)a[0], a[1], (int)a[2], false); }
SYS(recvmsg) { return message(t, (int)a[0], a[1], (int)a[2], true); }

/* Several messages: each has its length behind it. A timeout is looked at between messages, as the kernel does. */
static int64_t messages(struct thread *t, const uint64_t *a, bool receive, const struct timespec *timeout)
{
    unsigned step = msg_size(t) + (is_32bit(t) ? 4 : 8), done = 0, count = MIN((unsigned)a[2], MESSAGES_MAX);
    int flags = (int)a[3] & ~MSG_WAITFORONE;
    struct timespec start, now;
    int64_t r = 0;

    if (timeout)
        clock_gettime(CLOCK_MONOTONIC, &start);
    while (done < count) {
        uint64_t va = a[1] + (uint64_t)done * step;
        uint32_t len;

        r = message(t, (int)a[0], va, flags, receive);
        if (r < 0)
            break;
        len = r;
        if (guest_write(t, va + msg_size(t), &len, sizeof(len)))
            return -EFAULT;
        done++;
        if (receive && (int)a[3] & MSG_WAITFORONE)
            flags |= MSG_DONTWAIT;
        if (timeout) {
            clock_gettime(CLOCK_MONOTONIC, &now);
            if ((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec >= timeout->tv_sec * 1000000000 + timeout->tv_nsec)
                break;
        }
    }
    return done ? (int64_t)done : r;
}

SYS(sendmmsg) { return messages(t, a, false, NULL); }

static int64_t receive_messages(struct thread *t, const uint64_t *a, enum layout l)
{
    struct timespec ts;

    if (a[4] && user_get(t, l, &ts, a[4]))
        return -EFAULT;
    return messages(t, a, true, a[4] ? &ts : NULL);
}

SYS(recvmmsg) { return receive_messages(t, a, LAYOUT_timespec); }
SYS(recvmmsg_time64) { return receive_messages(t, a, LAYOUT_timespec64); }

SYS(send)
{
    uint64_t v[6] = { a[0], a[1], a[2], a[3] };

    return call_run(t, CALL_sendto, v);
}

SYS(recv)
{
    uint64_t v[6] = { a[0], a[1], a[2], a[3] };

    return call_run(t, CALL_recvfrom, v);
}

/* ---- options */

static bool option_is_timeval(uint64_t level, uint64_t name)
{
    return level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO);
}

/* struct group_req and group_source_req: addresses behind an interface's number, aligned as longs are. */
static bool option_is_group(uint64_t level, uint64_t option)
{
    return (level == SOL_IP || level == SOL_IPV6) && option >= MCAST_JOIN_GROUP && option <= MCAST_LEAVE_SOURCE_GROUP;
}

static int64_t set_group(struct thread *t, const uint64_t *a)
{
    struct group_source_req host = { 0 };
    uint8_t guest[sizeof(host)];
    uint64_t n = MIN(a[4], 4 + 2 * sizeof(struct sockaddr_storage));

    if (n < 4)
        return -EINVAL;
    if (guest_read(t, guest, a[3], n))
        return -EFAULT;
    memcpy(&host.gsr_interface, guest, 4);
    memcpy(&host.gsr_group, guest + 4, n - 4);
    return user_safe_syscall(t, SYS_setsockopt, (int32_t)a[0], a[1], a[2], (uint64_t)&host, n + 4, 0);
}

SYS(setsockopt)
{
    struct timeval tv;

    if (is_32bit(t) && option_is_timeval(a[1], a[2]) && a[4] >= 8) {
        if (user_get(t, LAYOUT_timeval, &tv, a[3]))
            return -EFAULT;
        return user_safe_syscall(t, SYS_setsockopt, (int32_t)a[0], a[1], a[2], (uint64_t)&tv, sizeof(tv), 0);
    }
    if (is_32bit(t) && option_is_group(a[1], a[2]))
        return set_group(t, a);
    if (is_32bit(t) && a[1] == SOL_SOCKET && (a[2] == SO_ATTACH_FILTER || a[2] == SO_ATTACH_REUSEPORT_CBPF)) {
        uint32_t raw[2];
        struct sock_fprog f;

        if (guest_read(t, raw, a[3], sizeof(raw)))
            return -EFAULT;
        f = (struct sock_fprog){ .len = raw[0], .filter = user_ptr(t, raw[1], (raw[0] & 0xffff) * sizeof(struct sock_filter)) };
        return user_safe_syscall(t, SYS_setsockopt, (int32_t)a[0], a[1], a[2], (uint64_t)&f, sizeof(f), 0);
    }
    return user_safe_syscall(t, SYS_setsockopt, (int32_t)a[0], (int32_t)a[1], (int32_t)a[2], (uint64_t)user_ptr(t, a[3], a[4]),
                             (uint32_t)a[4], 0);
}

SYS(getsockopt)
{
    struct timeval tv;
    uint32_t len;
    int64_t r;

    if (guest_read(t, &len, a[4], sizeof(len)))
        return -EFAULT;
    if (is_32bit(t) && option_is_timeval(a[1], a[2]) && len >= 8) {
        socklen_t n = sizeof(tv);

        r = user_safe_syscall(t, SYS_getsockopt, (int32_t)a[0], a[1], a[2], (uint64_t)&tv, (uint64_t)&n, 0);
        len = 8;
        return r < 0 ? r : user_put(t, LAYOUT_timeval, a[3], &tv) || guest_write(t, a[4], &len, sizeof(len)) ? -EFAULT : 0;
    }
    return user_safe_syscall(t, SYS_getsockopt, (int32_t)a[0], (int32_t)a[1], (int32_t)a[2], (uint64_t)user_ptr_write(t, a[3], len),
                             (uint64_t)user_ptr_write(t, a[4], 4), 0);
}

/* ---- i386's one call for all: number and arguments in memory */

SYS(socketcall)
{
    static const struct { uint16_t id; uint8_t args; } socket_calls[] = {
        { 0, 0 }, { CALL_socket, 3 }, { CALL_bind, 3 }, { CALL_connect, 3 }, { CALL_listen, 2 }, { CALL_accept, 3 },
        { CALL_getsockname, 3 }, { CALL_getpeername, 3 }, { CALL_socketpair, 4 }, { CALL_send, 4 }, { CALL_recv, 4 },
        { CALL_sendto, 6 }, { CALL_recvfrom, 6 }, { CALL_shutdown, 2 }, { CALL_setsockopt, 5 }, { CALL_getsockopt, 5 },
        { CALL_sendmsg, 3 }, { CALL_recvmsg, 3 }, { CALL_accept4, 4 }, { CALL_recvmmsg, 5 }, { CALL_sendmmsg, 4 },
    };
    uint32_t raw[6] = { 0 };
    uint64_t v[6];

    if (a[0] == 0 || a[0] >= G_N_ELEMENTS(socket_calls))
        return -EINVAL;
    if (guest_read(t, raw, a[1], socket_calls[a[0]].args * sizeof(raw[0])))
        return -EFAULT;
    for (unsigned n = 0; n < 6; n++)
        v[n] = raw[n];
    return call_run(t, socket_calls[a[0]].id, v);
}
