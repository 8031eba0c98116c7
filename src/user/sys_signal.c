/* System calls about signals: values fetched and stored here, acted upon in signal.c. Kernel: signal(7), and
 * include/uapi/asm-generic/signal.h. Masks are 64 bits in all guests. */
#include <linux/mqueue.h>
#include <string.h>
#include <unistd.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include "user/syscall.h"

enum { MASK_BYTES = 8 };

/* The words of a guest's struct sigaction: handler, flags, restorer where there is one, mask. */
static int action_get(struct thread *t, uint64_t va, struct signal_action *s)
{
    const struct abi *abi = t->abi;
    unsigned word = abi->bits / 8, n = 0;
    uint64_t *fields[] = { &s->handler, &s->flags, &s->restorer };

    memset(s, 0, sizeof(*s));
    for (; n < (abi->no_restorer ? 2 : 3); n++)
        if (guest_read(t, fields[n], va + n * word, word))
            return -EFAULT;
    return guest_read(t, &s->mask, va + n * word, MASK_BYTES);
}

static int action_put(struct thread *t, uint64_t va, const struct signal_action *s)
{
    const struct abi *abi = t->abi;
    unsigned word = abi->bits / 8, n = 0;
    const uint64_t *fields[] = { &s->handler, &s->flags, &s->restorer };

    for (; n < (abi->no_restorer ? 2 : 3); n++)
        if (guest_write(t, va + n * word, fields[n], word))
            return -EFAULT;
    return guest_write(t, va + n * word, &s->mask, MASK_BYTES);
}

SYS(rt_sigaction)
{
    struct signal_action set, old;
    int64_t r;

    if (a[3] != MASK_BYTES)
        return -EINVAL;
    if (a[1] && action_get(t, a[1], &set))
        return -EFAULT;
    r = signal_set_action(t, a[0], a[1] ? &set : NULL, &old);
    return r == 0 && a[2] && action_put(t, a[2], &old) ? -EFAULT : r;
}

/* struct old_sigaction: handler, a mask of one word, flags, restorer. */
SYS(sigaction)
{
    uint32_t raw[4];
    struct signal_action set, old;
    int64_t r;

    if (a[1]) {
        if (guest_read(t, raw, a[1], sizeof(raw)))
            return -EFAULT;
        set = (struct signal_action){ .handler = raw[0], .mask = raw[1], .flags = raw[2], .restorer = raw[3] };
    }
    r = signal_set_action(t, a[0], a[1] ? &set : NULL, &old);
    if (r == 0 && a[2]) {
        uint32_t out[4] = { old.handler, old.mask, old.flags, old.restorer };

        r = guest_write(t, a[2], out, sizeof(out));
    }
    return r;
}

SYS(signal)
{
    struct signal_action set = { .handler = a[1], .flags = SA_RESETHAND | SA_NODEFER }, old;
    int64_t r = signal_set_action(t, a[0], &set, &old);

    return r < 0 ? r : (int64_t)old.handler;
}

static int64_t mask_change(struct thread *t, int how, uint64_t set_va, uint64_t old_va, unsigned bytes)
{
    uint64_t set = 0, old;
    int64_t r;

    if (set_va && guest_read(t, &set, set_va, bytes))
        return -EFAULT;
    if (bytes < MASK_BYTES && set_va && how == SIG_SETMASK) {   /* an old call leaves the upper half alone */
        signal_set_mask(t, SIG_BLOCK, NULL, &old);
        set |= old & ~UINT64_C(0) << 8 * bytes;
    }
    r = signal_set_mask(t, how, set_va ? &set : NULL, &old);
    return r == 0 && old_va && guest_write(t, old_va, &old, bytes) ? -EFAULT : r;
}

SYS(rt_sigprocmask) { return a[3] == MASK_BYTES ? mask_change(t, a[0], a[1], a[2], MASK_BYTES) : -EINVAL; }
SYS(sigprocmask) { return mask_change(t, a[0], a[1], a[2], t->abi->bits / 8); }

SYS(sgetmask)
{
    uint64_t old;
    int64_t r = signal_set_mask(t, SIG_BLOCK, NULL, &old);

    return r ? r : (int64_t)(uint32_t)old;
}

SYS(ssetmask)
{
    uint64_t set = (uint32_t)a[0], old;
    int64_t r = signal_set_mask(t, SIG_SETMASK, &set, &old);

    return r ? r : (int64_t)(uint32_t)old;
}

static int64_t pending(struct thread *t, uint64_t va, unsigned bytes)
{
    uint64_t set = 0;

    if (bytes > MASK_BYTES)
        return -EINVAL;
    if (syscall(SYS_rt_sigpending, &set, MASK_BYTES) < 0)
        return -errno;
    set |= atomic_load(&t->sig.pending) & t->sig.mask;
    return guest_write(t, va, &set, bytes);
}

SYS(rt_sigpending) { return pending(t, a[0], a[1]); }
SYS(sigpending) { return pending(t, a[0], t->abi->bits / 8); }

SYS(rt_sigsuspend)
{
    uint64_t mask;

    if (a[1] != MASK_BYTES)
        return -EINVAL;
    return guest_read(t, &mask, a[0], sizeof(mask)) ? -EFAULT : signal_suspend(t, mask);
}

SYS(sigsuspend) { return signal_suspend(t, a[2]); }
SYS(pause) { return signal_suspend(t, t->sig.mask); }
SYS(rt_sigreturn) { return signal_return(t, true); }
SYS(sigreturn) { return signal_return(t, false); }
SYS(sigaltstack) { return signal_altstack(t, a[0], a[1]); }
SYS(restart_syscall) { return -EINTR; }

static int64_t timed_wait(struct thread *t, const uint64_t *a, enum layout l)
{
    uint8_t out[GUEST_SIGINFO_SIZE];
    struct timespec ts;
    siginfo_t info;
    uint64_t set;
    int64_t r;

    if (a[3] != MASK_BYTES)
        return -EINVAL;
    if (guest_read(t, &set, a[0], sizeof(set)) || (a[2] && user_get(t, l, &ts, a[2])))
        return -EFAULT;
    /* What our handler took before the guest blocked it. */
    for (int sig = 1; sig <= 64; sig++) {
        uint64_t bit = UINT64_C(1) << (sig - 1);

        if (!(set & bit & t->sig.mask) || !(atomic_fetch_and(&t->sig.pending, ~bit) & bit))
            continue;
        siginfo_to_guest(t->process->guest, out, &t->sig.info[sig - 1]);
        return a[1] && guest_write(t, a[1], out, sizeof(out)) ? -EFAULT : sig;
    }
    r = user_safe_syscall(t, SYS_rt_sigtimedwait, (uint64_t)&set, (uint64_t)&info, a[2] ? (uint64_t)&ts : 0, MASK_BYTES, 0, 0);
    if (r > 0 && a[1]) {
        siginfo_to_guest(t->process->guest, out, &info);
        if (guest_write(t, a[1], out, sizeof(out)))
            return -EFAULT;
    }
    return r;
}

SYS(rt_sigtimedwait) { return timed_wait(t, a, LAYOUT_timespec); }
SYS(rt_sigtimedwait_time64) { return timed_wait(t, a, LAYOUT_timespec64); }

static int info_get(struct thread *t, siginfo_t *info, uint64_t va)
{
    uint8_t raw[GUEST_SIGINFO_SIZE];

    if (guest_read(t, raw, va, sizeof(raw)))
        return -EFAULT;
    siginfo_from_guest(t->process->guest, info, raw);
    return 0;
}

SYS(rt_sigqueueinfo)
{
    siginfo_t info;

    if (info_get(t, &info, a[2]))
        return -EFAULT;
    info.si_signo = a[1];
    return user_safe_syscall(t, SYS_rt_sigqueueinfo, (int32_t)a[0], (int32_t)a[1], (uint64_t)&info, 0, 0, 0);
}

SYS(rt_tgsigqueueinfo)
{
    siginfo_t info;

    if (info_get(t, &info, a[3]))
        return -EFAULT;
    info.si_signo = a[2];
    return user_safe_syscall(t, SYS_rt_tgsigqueueinfo, (int32_t)a[0], (int32_t)a[1], (int32_t)a[2], (uint64_t)&info, 0, 0);
}

SYS(pidfd_send_signal)
{
    siginfo_t info;

    if (a[2] && info_get(t, &info, a[2]))
        return -EFAULT;
    return user_safe_syscall(t, SYS_pidfd_send_signal, (int32_t)a[0], (int32_t)a[1], a[2] ? (uint64_t)&info : 0, a[3], 0, 0);
}

static int64_t make_signalfd(struct thread *t, int fd, uint64_t va, uint64_t bytes, int flags)
{
    uint64_t mask;

    if (bytes != MASK_BYTES)
        return -EINVAL;
    if (guest_read(t, &mask, va, sizeof(mask)))
        return -EFAULT;
    return user_safe_syscall(t, SYS_signalfd4, fd, (uint64_t)&mask, MASK_BYTES, open_flags_to_host(t->abi, flags), 0, 0);
}

SYS(signalfd) { return make_signalfd(t, a[0], a[1], a[2], 0); }
SYS(signalfd4) { return make_signalfd(t, a[0], a[1], a[2], a[3]); }

/* ---- struct sigevent: value (a word), signo, notify, thread id */

static int event_get(struct thread *t, struct sigevent *ev, uint64_t va)
{
    unsigned word = t->abi->bits / 8;
    uint64_t value = 0;
    int32_t rest[3];

    if (guest_read(t, &value, va, word) || guest_read(t, rest, va + word, sizeof(rest)))
        return -EFAULT;
    memset(ev, 0, sizeof(*ev));
    ev->sigev_value.sival_ptr = (void *)value;
    ev->sigev_signo = rest[0];
    ev->sigev_notify = rest[1];
    ev->_sigev_un._tid = rest[2];
    return 0;
}

SYS(timer_create)
{
    struct sigevent ev;
    int32_t id;
    int64_t r;

    if (a[1] && event_get(t, &ev, a[1]))
        return -EFAULT;
    r = user_safe_syscall(t, SYS_timer_create, (int32_t)a[0], a[1] ? (uint64_t)&ev : 0, (uint64_t)&id, 0, 0, 0);
    if (r == 0 && guest_write(t, a[2], &id, sizeof(id))) {
        syscall(SYS_timer_delete, id);
        return -EFAULT;
    }
    return r;
}

SYS(mq_notify)
{
    struct sigevent ev;
    uint8_t cookie[NOTIFY_COOKIE_LEN];

    if (a[1] && event_get(t, &ev, a[1]))
        return -EFAULT;
    if (a[1] && ev.sigev_notify == SIGEV_THREAD) {      /* the value is where 32 bytes of the C library's are */
        if (guest_read(t, cookie, (uint64_t)ev.sigev_value.sival_ptr, sizeof(cookie)))
            return -EFAULT;
        ev.sigev_value.sival_ptr = cookie;
    }
    return user_safe_syscall(t, SYS_mq_notify, (int32_t)a[0], a[1] ? (uint64_t)&ev : 0, 0, 0, 0, 0);
}

/* ---- sleeps: what is left of them is told when they are interrupted */

static int64_t sleep_until(struct thread *t, int clock, int flags, uint64_t want, uint64_t left, enum layout l)
{
    struct timespec ts, rest;
    int64_t r;

    if (user_get(t, l, &ts, want))
        return -EFAULT;
    r = user_safe_syscall(t, SYS_clock_nanosleep, clock, flags, (uint64_t)&ts, (uint64_t)&rest, 0, 0);
    if (r == -EINTR && left && !(flags & TIMER_ABSTIME) && user_put(t, l, left, &rest))
        return -EFAULT;
    return r;
}

SYS(nanosleep) { return sleep_until(t, CLOCK_MONOTONIC, 0, a[0], a[1], LAYOUT_timespec); }
SYS(clock_nanosleep) { return sleep_until(t, a[0], a[1], a[2], a[3], LAYOUT_timespec); }
SYS(clock_nanosleep_time64) { return sleep_until(t, a[0], a[1], a[2], a[3], LAYOUT_timespec64); }
