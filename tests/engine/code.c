/* Code that programs write: in place, by way of another mapping, over unmapped memory, by several threads; and so much of it
 * that the translator's cache is flushed. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int fails;
#define CHECK(c) do { if (!(c)) { printf("FAIL %s:%d %s\n", __func__, __LINE__, #c); fails++; } } while (0)
typedef int fn(void);

/* Writes a function that returns v (16 bits); its bytes. */
static unsigned put(void *at, unsigned v)
{
#if defined(__x86_64__) || defined(__i386__)
    uint8_t code[] = { 0xb8, v, v >> 8, 0, 0, 0xc3 };
#elif defined(__aarch64__)
    uint32_t code[] = { 0x52800000 | v << 5, 0xd65f03c0 };
#elif defined(__arm__)
    uint32_t code[] = { 0xe3000000 | (v & 0xf000) << 4 | (v & 0xfff), 0xe12fff1e };
#elif defined(__riscv)
    uint32_t code[] = { (v + 0x800) >> 12 << 12 | 0x537, (v & 0xfff) << 20 | 0x50513, 0x00008067 };
#endif
    memcpy(at, code, sizeof(code));
    return sizeof(code);
}

static void clear(void *p, unsigned n) { __builtin___clear_cache((char *)p, (char *)p + n); }
static void *map(int prot, int flags, int fd)
{
    void *p = mmap(0, 65536, prot, flags, fd, 0);

    if (p == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    return p;
}
enum { RWX = PROT_READ | PROT_WRITE | PROT_EXEC };

static void test_in_place(void)
{
    char *p = map(RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1);

    for (unsigned n = 0; n < 2000; n++) {
        clear(p, put(p, n & 0x7ff));
        CHECK(((fn *)p)() == (int)(n & 0x7ff));
    }
    for (unsigned n = 0; n < 100; n++) {        /* others of the page stay right */
        for (unsigned k = 0; k < 8; k++)
            clear(p + 64 * k, put(p + 64 * k, n + k));
        for (unsigned k = 0; k < 8; k++)
            CHECK(((fn *)(p + 64 * k))() == (int)(n + k));
    }
    munmap(p, 65536);
}

static void test_protect(void)
{
    char *p = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

    for (unsigned n = 0; n < 200; n++) {
        unsigned bytes;

        CHECK(!mprotect(p, 4096, PROT_READ | PROT_WRITE));
        bytes = put(p + 128, n);
        CHECK(!mprotect(p, 4096, PROT_READ | PROT_EXEC));
        clear(p + 128, bytes);
        CHECK(((fn *)(p + 128))() == (int)n);
    }
    munmap(p, 65536);
}

static void test_remap(void)
{
    char *p = map(RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1);

    for (unsigned n = 0; n < 100; n++) {
        clear(p, put(p, n + 1));
        CHECK(((fn *)p)() == (int)n + 1);
        CHECK(!munmap(p, 65536));
        CHECK(mmap(p, 65536, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
    }
    munmap(p, 65536);
}

static void test_alias(void)
{
    int fd = memfd_create("code", 0);
    char *w, *x;

    ftruncate(fd, 65536);
    w = map(PROT_READ | PROT_WRITE, MAP_SHARED, fd);
    x = map(PROT_READ | PROT_EXEC, MAP_SHARED, fd);
    for (unsigned n = 0; n < 300; n++) {
        unsigned bytes = put(w + 256, n);

        clear(w + 256, bytes);
        clear(x + 256, bytes);
        CHECK(((fn *)(x + 256))() == (int)n);
    }
}

static void test_read_into(void)                /* the kernel writes it */
{
    char *p = map(RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1), buf[64];
    int fd[2];

    pipe(fd);
    for (unsigned n = 0; n < 50; n++) {
        unsigned bytes = put(buf, n);

        write(fd[1], buf, bytes);
        CHECK(read(fd[0], p, bytes) == bytes);
        clear(p, bytes);
        CHECK(((fn *)p)() == (int)n);
    }
}

static void test_many(void)
{
    char *p = mmap(0, 1 << 24, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned sum = 0, want = 0;

    for (unsigned n = 0; n < 40000; n++)
        put(p + 256 * n, n & 0x7ff), want += n & 0x7ff;
    clear(p, 1 << 24);
    for (unsigned n = 0; n < 40000; n++)
        sum += ((fn *)(p + 256 * n))();
    CHECK(sum == want);
}

static char *shared;
static volatile int go, done;
static void *runner(void *arg)
{
    while (!done) {
        int v = ((fn *)shared)();

        if (v != 1 && v != 2)
            return (void *)1;
    }
    return (void *)(intptr_t)(((fn *)shared)() != 2);
}
static void test_threads(void)
{
    pthread_t t[3];
    void *r;

    shared = map(RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    clear(shared, put(shared, 1));
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], 0, runner, 0);
    for (int n = 0; n < 500; n++) {
#if defined(__x86_64__) || defined(__i386__)
        *(volatile uint8_t *)(shared + 1) = 1 + (n & 1);
#elif defined(__riscv)
        *(volatile uint32_t *)(shared + 4) = (1 + (n & 1)) << 20 | 0x50513;
#elif defined(__aarch64__)
        *(volatile uint32_t *)shared = 0x52800000 | (1 + (n & 1)) << 5;
#else
        *(volatile uint32_t *)shared = 0xe3000000 | (1 + (n & 1));
#endif
        clear(shared, 16);
    }
    done = 1;
    for (int i = 0; i < 3; i++) {
        pthread_join(t[i], &r);
        CHECK(r == 0);
    }
}

int main(void)
{
    test_in_place();
    test_protect();
    test_remap();
    test_read_into();
    test_alias();
    test_many();
    test_threads();
    printf("code done %d\n", fails);
    return fails != 0;
}
