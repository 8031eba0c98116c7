/* Host memory behind guest RAM: anonymous with huge pages advised, or a memfd where others must map it too. */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <glib.h>
#include "memory_internal.h"
#include "rhea/vm/vm.h"

enum { RAM_PAGE_BITS = 12 };
#define HUGE_PAGE ((uint64_t)2 << 20)

/* Maps `size` bytes at a host address that is a multiple of 2 MiB, so that huge pages fit from the first byte. */
static uint8_t *map_aligned(uint64_t size, int fd)
{
    uint64_t room = size + HUGE_PAGE;
    uint8_t *raw = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *host;
    int flags = MAP_FIXED | MAP_NORESERVE | (fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);

    if (raw == MAP_FAILED)
        return NULL;
    host = (uint8_t *)(((uintptr_t)raw + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    if (mmap(host, size, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED) {
        int e = errno;

        munmap(raw, room);
        errno = e;
        return NULL;
    }
    if (host > raw)
        munmap(raw, host - raw);
    munmap(host + size, raw + room - (host + size));
    return host;
}

struct ram_block *ram_block_new(struct vm *vm, const char *id, uint64_t size, bool share, struct error *err)
{
    struct ram_block *rb;
    uint64_t pages;
    int fd = -1;

    size = (size + CPU_PAGE_SIZE - 1) & ~(uint64_t)(CPU_PAGE_SIZE - 1);
    if (size == 0 || size > (uint64_t)1 << 46) {
        error_setf(err, ERR_GENERIC, "give a size between 4K and 64T", "cannot make guest memory '%s' of %" PRIu64 " bytes",
                   id, size);
        return NULL;
    }
    if (vm->ram_blocks->len >= RAM_BLOCKS_MAX) {
        error_setf(err, ERR_GENERIC, "use fewer memory back ends and ROMs", "cannot make guest memory '%s': the machine has %d blocks",
                   id, RAM_BLOCKS_MAX);
        return NULL;
    }
    if (share) {
        fd = memfd_create(id, MFD_CLOEXEC);
        if (fd < 0 || ftruncate(fd, (off_t)size) < 0) {
            error_set_errno(err, errno, NULL, "cannot make shared guest memory '%s'", id);
            if (fd >= 0)
                close(fd);
            return NULL;
        }
    }
    rb = g_new0(struct ram_block, 1);
    rb->host = map_aligned(size, fd);
    if (!rb->host) {
        error_set_errno(err, errno, "give the machine less memory with -m", "cannot map %" PRIu64 " MiB of guest memory '%s'",
                        size >> 20, id);
        if (fd >= 0)
            close(fd);
        g_free(rb);
        return NULL;
    }
    if (!share)
        madvise(rb->host, size, MADV_HUGEPAGE);
    madvise(rb->host, size, MADV_DONTDUMP);
    pages = size >> RAM_PAGE_BITS;
    rb->page_flags = mmap(NULL, pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (rb->page_flags == MAP_FAILED) {
        error_set_errno(err, errno, NULL, "cannot map the page table of guest memory '%s'", id);
        munmap(rb->host, size);
        if (fd >= 0)
            close(fd);
        g_free(rb);
        return NULL;
    }
    rb->id = g_strdup(id);
    rb->size = size;
    rb->guest_max = size;
    rb->fd = fd;
    rb->shared = share;
    pthread_mutex_lock(&vm->mem->lock);
    g_ptr_array_add(vm->ram_blocks, rb);
    pthread_mutex_unlock(&vm->mem->lock);
    rb->vm = vm;
    return rb;
}

static void nothing(struct vcpu *v, void *arg)
{
}

/* vCPUs may hold host addresses of the block in their TLBs until they have done the flush that unmapping queued. */
static void vcpus_let_go(struct vm *vm)
{
    for (unsigned i = 0; i < vm->nvcpus; i++)
        if (vm->vcpus[i]->thread_started)
            vcpu_run_on(vm->vcpus[i], nothing, NULL);
}

void ram_block_free(struct ram_block *rb)
{
    if (!rb)
        return;
    if (rb->code && rb->vm->accel && rb->vm->accel->ram_written)
        rb->vm->accel->ram_written(rb->vm, rb, 0, rb->size);    /* its translated code goes */
    vcpus_let_go(rb->vm);
    pthread_mutex_lock(&rb->vm->mem->lock);
    g_ptr_array_remove(rb->vm->ram_blocks, rb);
    pthread_mutex_unlock(&rb->vm->mem->lock);
    munmap(rb->host, rb->size);
    munmap(rb->page_flags, rb->size >> RAM_PAGE_BITS);
    if (rb->fd >= 0)
        close(rb->fd);
    g_free(rb->code);
    g_free(rb->id);
    g_free(rb);
}

void ram_written(struct vm *vm, struct ram_block *rb, uint64_t offset, uint64_t len)
{
    const uint8_t dirty = PAGE_DIRTY | PAGE_DIRTY_DISPLAY;
    uint64_t first, last;
    bool told = false;

    if (len == 0 || offset >= rb->size)
        return;
    len = MIN(len, rb->size - offset);
    first = offset >> RAM_PAGE_BITS;
    last = (offset + len - 1) >> RAM_PAGE_BITS;
    /* The translator marks a page and then reads its bytes; we wrote the bytes and now read the mark. With both
     * sides fenced, one of the two sees the other. */
    atomic_thread_fence(memory_order_seq_cst);
    for (uint64_t p = first; p <= last; p++) {
        uint8_t f = __atomic_load_n(&rb->page_flags[p], __ATOMIC_RELAXED);

        if ((f & dirty) != dirty)
            f = __atomic_fetch_or(&rb->page_flags[p], dirty, __ATOMIC_SEQ_CST);
        told |= f & (PAGE_HAS_CODE | PAGE_WATCHED);
    }
    if (told && vm->accel && vm->accel->ram_written)
        vm->accel->ram_written(vm, rb, offset, len);
}

struct ram_block *ram_block_of(struct vm *vm, const void *host, uint64_t *offset)
{
    for (unsigned i = 0; i < vm->ram_blocks->len; i++) {
        struct ram_block *rb = g_ptr_array_index(vm->ram_blocks, i);
        uint64_t off = (uintptr_t)host - (uintptr_t)rb->host;

        if (off < rb->size) {
            *offset = off;
            return rb;
        }
    }
    return NULL;
}
