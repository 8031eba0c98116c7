/* Asynchronous host I/O: io_uring, one ring a loop, or a pool of threads. */
#ifndef RHEA_BLOCK_AIO_H
#define RHEA_BLOCK_AIO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "rhea/base/loop.h"

enum aio_op { AIO_READ, AIO_WRITE, AIO_FSYNC, AIO_FALLOCATE };

/* Lives until done() is called, on the thread that submitted it. */
struct aio_req {
    enum aio_op op;
    bool threads;               /* not by io_uring */
    bool buffered;              /* fd goes through the host's page cache */
    int fd;
    int mode;                   /* AIO_FALLOCATE */
    uint64_t off, bytes;
    const struct iovec *iov;    /* valid until done */
    int niov;
    void (*done)(struct aio_req *r, int ret);   /* 0 or -errno; a read past the end of the file is filled with zeroes */
    void *opaque;               /* the submitter's (aio_run() uses it) */
    /* aio.c's own */
    uint64_t progress;
    struct iovec *rest;         /* what a short transfer left */
    struct aio_req *next;
    struct loop *loop;
    int result;
};

void aio_submit(struct aio_req *r);
/* [co] Submits and waits. */
int aio_run(struct aio_req *r);
/* [co] Runs fn(arg) on a thread of the pool. */
int pool_run(int (*fn)(void *arg), void *arg);
/* The pool has at least min threads and at most max, as long as no other owner asks for fewer; max 0: the owner asks for nothing
 * any more. It never has more than 16. */
void pool_set_limits(const void *owner, unsigned min, unsigned max);
bool aio_have_uring(void);

#endif
