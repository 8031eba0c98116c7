/* Linux's asynchronous I/O: io_setup(2), io_submit(2), io_getevents(2), io_cancel(2), io_destroy(2).
 *
 * The kernel names a context by the address of a ring that it maps, and programs (libaio) read the ring there if its header says so.
 * The guest's context is a page of zeros of its own, so that they ask the kernel instead; requests are numbered, and the host's
 * data field carries the number in place of the guest's data and address. */
#include <glib.h>
#include <linux/aio_abi.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include "user/mem.h"
#include "user/syscall.h"

struct aio_request {
    struct iocb host;           /* stays where it is: io_cancel() knows it by its address */
    uint64_t data, iocb;        /* the guest's */
};

/* A context lives as long as a thread is in a call with it: users, under process.lock, as all here. */
struct aio_context {
    struct aio_context *next;
    uint64_t page;              /* guest address: its name */
    aio_context_t host;
    GHashTable *requests;       /* number -> struct aio_request */
    uint64_t last;
    unsigned users;
    bool destroyed;             /* not in the list any more */
};

enum { EVENTS_MAX = 1 << 17 };  /* more than a ring has with the kernel's usual limit */

static struct aio_context *context_get(struct process *p, uint64_t page)
{
    struct aio_context *c;

    pthread_mutex_lock(&p->lock);
    for (c = p->aio; c && c->page != page; )
        c = c->next;
    if (c)
        c->users++;
    pthread_mutex_unlock(&p->lock);
    return c;
}

static void context_put(struct process *p, struct aio_context *c)
{
    bool last;

    pthread_mutex_lock(&p->lock);
    last = --c->users == 0 && c->destroyed;
    pthread_mutex_unlock(&p->lock);
    if (last) {
        g_hash_table_destroy(c->requests);
        g_free(c);
    }
}

SYS(io_setup)
{
    struct process *p = t->process;
    unsigned word = p->abi->bits / 8;
    struct aio_context *c;
    aio_context_t host = 0;
    uint64_t name = 0;
    int64_t r;

    if (guest_read(t, &name, a[1], word))
        return -EFAULT;
    if (name)
        return -EINVAL;
    r = user_safe_syscall(t, SYS_io_setup, (uint32_t)a[0], (uint64_t)&host, 0, 0, 0, 0);
    if (r < 0)
        return r;
    r = mem_map(p, 0, CPU_PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    name = r;
    if (r >= 0 && guest_write(t, a[1], &name, word)) {
        mem_unmap(p, name, CPU_PAGE_SIZE);
        r = -EFAULT;
    }
    if (r < 0) {
        syscall(SYS_io_destroy, host);
        return r;
    }
    mem_name(p, name, "/[aio] (deleted)");
    c = g_new0(struct aio_context, 1);
    c->page = name;
    c->host = host;
    c->requests = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    pthread_mutex_lock(&p->lock);
    c->next = p->aio;
    p->aio = c;
    pthread_mutex_unlock(&p->lock);
    return 0;
}

SYS(io_destroy)
{
    struct process *p = t->process;
    struct aio_context *c = NULL;
    int64_t r;

    pthread_mutex_lock(&p->lock);
    for (struct aio_context **at = &p->aio; *at; at = &(*at)->next)
        if ((*at)->page == a[0]) {
            c = *at;
            *at = c->next;
            c->destroyed = true;
            c->users++;
            break;
        }
    pthread_mutex_unlock(&p->lock);
    if (!c)
        return -EINVAL;
    mem_unmap(p, c->page, CPU_PAGE_SIZE);
    r = syscall(SYS_io_destroy, c->host) < 0 ? -errno : 0;      /* waits for its requests */
    context_put(p, c);
    return r;
}

/* The addresses in a request, as the host has them. *vec: to be freed after it was submitted. */
static int64_t request_to_host(struct thread *t, struct iocb *cb, struct iovec **vec)
{
    bool write = cb->aio_lio_opcode == IOCB_CMD_PREAD || cb->aio_lio_opcode == IOCB_CMD_PREADV;
    int64_t r = 0;

    switch (cb->aio_lio_opcode) {
    case IOCB_CMD_PREAD: case IOCB_CMD_PWRITE:
        if (is_32bit(t) && (cb->aio_buf > UINT32_MAX || cb->aio_nbytes > INT32_MAX))
            return -EINVAL;
        cb->aio_buf = (uint64_t)(write ? user_ptr_write(t, cb->aio_buf, cb->aio_nbytes) : user_ptr(t, cb->aio_buf, cb->aio_nbytes));
        return 0;
    case IOCB_CMD_PREADV: case IOCB_CMD_PWRITEV:
        *vec = user_iovec(t, cb->aio_buf, cb->aio_nbytes, write, &r);
        cb->aio_buf = (uint64_t)*vec;
        return r;
    case IOCB_CMD_FSYNC: case IOCB_CMD_FDSYNC: case IOCB_CMD_POLL: case IOCB_CMD_NOOP:
        return 0;
    default:
        return -EINVAL;
    }
}

static int64_t submit_one(struct thread *t, struct aio_context *c, uint64_t va)
{
    struct process *p = t->process;
    struct aio_request *q = g_new0(struct aio_request, 1);
    g_autofree struct iovec *vec = NULL;
    struct iocb *cb = &q->host;
    uint64_t *number = g_new(uint64_t, 1), n;
    uint32_t key = 0;           /* KIOCB_KEY */
    int64_t r = guest_read(t, cb, va, sizeof(*cb));

    q->data = cb->aio_data;
    q->iocb = va;
    if (!r)
        r = request_to_host(t, cb, &vec);
    if (!r && guest_write(t, va + offsetof(struct iocb, aio_key), &key, sizeof(key)))
        r = -EFAULT;
    if (r < 0) {
        g_free(number);
        g_free(q);
        return r;
    }
    pthread_mutex_lock(&p->lock);       /* it may be done, and another thread be told, before the call returns */
    n = *number = cb->aio_data = ++c->last;
    g_hash_table_insert(c->requests, number, q);
    pthread_mutex_unlock(&p->lock);
    r = user_safe_syscall(t, SYS_io_submit, c->host, 1, (uint64_t)&cb, 0, 0, 0);
    if (r < 0) {
        pthread_mutex_lock(&p->lock);
        g_hash_table_remove(c->requests, &n);
        pthread_mutex_unlock(&p->lock);
    }
    return r;
}

SYS(io_submit)
{
    unsigned word = t->abi->bits / 8;
    int64_t count = is_32bit(t) ? (int32_t)a[1] : (int64_t)a[1], done = 0, r = 0;
    struct aio_context *c;

    if (count < 0 || !(c = context_get(t->process, a[0])))
        return -EINVAL;
    for (; done < count && r >= 0; done += r >= 0) {
        uint64_t va = 0;

        r = guest_read(t, &va, a[2] + done * word, word);
        if (r >= 0)
            r = submit_one(t, c, va);
    }
    context_put(t->process, c);
    return done ? done : r;
}

/* To the guest's terms. Events of requests that are unknown are those of a parent: there are none. */
static void events_to_guest(struct process *p, struct aio_context *c, struct io_event *events, int64_t count)
{
    pthread_mutex_lock(&p->lock);
    for (int64_t n = 0; n < count; n++) {
        uint64_t number = events[n].data;
        struct aio_request *q = g_hash_table_lookup(c->requests, &number);

        events[n].data = q ? q->data : 0;
        events[n].obj = q ? q->iocb : 0;
        g_hash_table_remove(c->requests, &number);
    }
    pthread_mutex_unlock(&p->lock);
}

/* mask: with its size, as io_pgetevents() has it; NULL: none given. */
static int64_t get_events(struct thread *t, const uint64_t *a, enum layout l, const uint64_t *mask)
{
    struct { const uint64_t *mask; uint64_t size; } around = { mask, sizeof(*mask) };
    int64_t least = is_32bit(t) ? (int32_t)a[1] : (int64_t)a[1], most = is_32bit(t) ? (int32_t)a[2] : (int64_t)a[2], r;
    g_autofree struct io_event *events = NULL;
    struct aio_context *c;
    struct timespec ts;

    if (a[4] && user_get(t, l, &ts, a[4]))
        return -EFAULT;
    if (least < 0 || least > most || !(c = context_get(t->process, a[0])))
        return -EINVAL;
    most = MIN(most, EVENTS_MAX);
    events = g_new(struct io_event, MAX(most, 1));
    r = user_safe_syscall(t, mask ? SYS_io_pgetevents : SYS_io_getevents, c->host, MIN(least, most), most, (uint64_t)events,
                          a[4] ? (uint64_t)&ts : 0, mask ? (uint64_t)&around : 0);
    if (r > 0) {
        events_to_guest(t->process, c, events, r);
        if (guest_write(t, a[3], events, r * sizeof(*events)))
            r = -EFAULT;
    }
    context_put(t->process, c);
    return r;
}

SYS(io_getevents) { return get_events(t, a, LAYOUT_timespec, NULL); }

/* The sixth argument: a mask's address and its size, two longs. */
static int64_t get_events_masked(struct thread *t, const uint64_t *a, enum layout l)
{
    unsigned word = t->abi->bits / 8;
    uint64_t va = 0, bytes = 0, mask;

    if (a[5] && (guest_read(t, &va, a[5], word) || guest_read(t, &bytes, a[5] + word, word)))
        return -EFAULT;
    if (!va)
        return get_events(t, a, l, NULL);
    if (bytes != sizeof(mask))
        return -EINVAL;
    if (guest_read(t, &mask, va, sizeof(mask)))
        return -EFAULT;
    signal_during(t, mask);
    mask = signal_host_mask(mask);
    return get_events(t, a, l, &mask);
}

SYS(io_pgetevents) { return get_events_masked(t, a, LAYOUT_timespec); }
SYS(io_pgetevents_time64) { return get_events_masked(t, a, LAYOUT_timespec64); }

static gboolean is_of_iocb(gpointer number, gpointer request, gpointer va)
{
    return ((struct aio_request *)request)->iocb == *(uint64_t *)va;
}

SYS(io_cancel)
{
    struct process *p = t->process;
    struct aio_context *c = context_get(p, a[0]);
    struct io_event unused;
    struct aio_request *q;
    uint64_t va = a[1];
    struct iocb cb;
    int64_t r = -EINVAL;

    if (!c)
        return -EINVAL;
    pthread_mutex_lock(&p->lock);       /* else another thread may take its event, and free it */
    q = g_hash_table_find(c->requests, is_of_iocb, &va);
    if (guest_read(t, &cb, va, sizeof(cb)))
        r = -EFAULT;
    else if (q && cb.aio_key == 0)
        r = syscall(SYS_io_cancel, c->host, &q->host, &unused) < 0 ? -errno : 0;
    pthread_mutex_unlock(&p->lock);
    context_put(p, c);
    return r;
}
