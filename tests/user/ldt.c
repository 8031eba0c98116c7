/* modify_ldt(2) and what its descriptors do, for x86-64 and i386: run by the processor too. Prints "FAILED NAME (line)" and
 * "N failures". */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The segment register that the C library leaves alone. */
#ifdef __x86_64__
#define SEG "gs"
#else
#define SEG "fs"
#endif
#define SELECTOR(n) ((n) << 3 | 7)

static int failures;
static void check(bool ok, const char *name, int line)
{
    if (!ok)
        printf("FAILED %s (line %d, errno %d)\n", name, line, errno);
    failures += !ok;
}
#define OK(name, condition) check(condition, name, __LINE__)

/* The kernel's result is 32 bits wide. */
static int modify_ldt(int func, void *p, unsigned long n)
{
    int r = (int)syscall(SYS_modify_ldt, func, p, n);

    if (r < 0 && r != -1)
        errno = -r;
    return r;
}

static int set(unsigned n, const void *base, unsigned limit, unsigned contents, bool wide)
{
    struct user_desc d = { .entry_number = n, .base_addr = (uintptr_t)base, .limit = limit, .seg_32bit = wide, .contents = contents, .useable = 1 };

    return modify_ldt(0x11, &d, sizeof(d));
}

static uint32_t seg_load(unsigned selector, unsigned at)
{
    uint32_t v;

    asm volatile("mov %w1, %%" SEG "\n movl %%" SEG ":(%2), %0" : "=r"(v) : "r"(selector), "r"((uintptr_t)at) : "memory");
    return v;
}

static sigjmp_buf jump;
static volatile int caught;
static void on_signal(int sig) { caught = sig, siglongjmp(jump, 1); }

static void *in_thread(void *arg) { return (void *)(uintptr_t)seg_load(SELECTOR(5), 4); }

int main(void)
{
    uint32_t *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    struct user_desc d = { .entry_number = 8192 };
    uint64_t table[64];
    pthread_t thread;
    void *result = NULL;

    low[0] = 0x11111111, low[1] = 0x22222222, low[2] = 0x33333333;
    OK("no table", modify_ldt(0, table, sizeof(table)) == 0);
    OK("entry out of range", modify_ldt(1, &d, sizeof(d)) < 0 && errno == EINVAL);
    OK("size", modify_ldt(1, &d, 8) < 0 && errno == EINVAL);
    OK("function", modify_ldt(7, &d, sizeof(d)) < 0 && errno == ENOSYS);
    OK("address", modify_ldt(1, (void *)16, sizeof(d)) < 0 && errno == EFAULT);
    OK("write", set(5, low, 7, 0, true) == 0);
    OK("read", modify_ldt(0, table, sizeof(table)) == sizeof(table) && table[0] == 0 && table[6] == 0
       && (table[5] >> 40 & 0xff) == 0xf3 && (table[5] & 0xffff) == 7 && (table[5] >> 16 & 0xffffff) == ((uintptr_t)low & 0xffffff));
    OK("load", seg_load(SELECTOR(5), 0) == 0x11111111 && seg_load(SELECTOR(5), 4) == 0x22222222);
    OK("a thread's", pthread_create(&thread, NULL, in_thread, NULL) == 0 && pthread_join(thread, &result) == 0
       && (uint32_t)(uintptr_t)result == 0x22222222);
    OK("write again", set(5, low + 2, 3, 0, true) == 0 && seg_load(SELECTOR(5), 0) == 0x33333333);
    signal(SIGSEGV, on_signal);
    if (sigsetjmp(jump, 1) == 0)
        seg_load(SELECTOR(6), 0);
    OK("an empty entry", caught == SIGSEGV);
    caught = 0;
#ifdef __i386__
    if (sigsetjmp(jump, 1) == 0)
        seg_load(SELECTOR(5), 1);
    OK("limit", caught == SIGSEGV);
    {
        /* 16 bits: mov $0x1234, %ax; far return with 32-bit operands */
        static const uint8_t code[] = { 0xb8, 0x34, 0x12, 0x66, 0xcb };
        struct { uint32_t at; uint16_t selector; } target = { 16, SELECTOR(7) };
        uint32_t v = 0xffffffff;

        memcpy((uint8_t *)low + 16, code, sizeof(code));
        if (set(7, low, 4095, 2, false) == 0) {
            asm volatile("lcall *%1" : "+a"(v) : "m"(target) : "memory");
            OK("code of 16 bits", v == 0xffff1234);
        }
        /* 32 bits: mov $0x12345678, %eax; far return */
        memcpy((uint8_t *)low + 16, (uint8_t[]){ 0xb8, 0x78, 0x56, 0x34, 0x12, 0xcb }, 6);
        OK("code segment", set(7, low, 4095, 2, true) == 0);
        asm volatile("lcall *%1" : "+a"(v) : "m"(target) : "memory");
        OK("code of 32 bits", v == 0x12345678);
    }
#endif
    memset(&d, 0, sizeof(d));
    d.entry_number = 5;
    OK("clear", modify_ldt(1, &d, sizeof(d)) == 0 && modify_ldt(0, table, sizeof(table)) == sizeof(table) && table[5] == 0);
    OK("default table", modify_ldt(2, table, 16) == 16 && table[0] == 0);
    printf("%d failures\n", failures);
    return failures != 0;
}
