/* 32-bit system calls of a 64-bit program: int $0x80 takes i386's numbers and structures, truncates its arguments, answers in all of
 * RAX and keeps the other registers (Linux, arch/x86/entry). Right on the processor; the last line is the number of failures. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { I386_FORK = 2, I386_READ = 3, I386_WRITE = 4, I386_OPEN = 5, I386_CLOSE = 6, I386_LSEEK = 19, I386_GETPID = 20, I386_PIPE = 42,
       I386_MMAP = 90, I386_NANOSLEEP = 162, I386_MMAP2 = 192, I386_FSTAT64 = 197, I386_NONE = 9999 };

static int failures;
static volatile int alarms, alarm_fd;
#define CHECK(x) do { if (!(x)) { printf("line %d: %s\n", __LINE__, #x); failures++; } } while (0)

/* What an asm cannot name beside its operands: RBX and RBP, and the registers that should be kept. */
static struct { uint64_t rbx, rbp, arg_b, arg_f, r8, r12; } io asm("io") __attribute__((used));

static int64_t call(int64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    int64_t r;

    io.arg_b = a;
    io.arg_f = f;
    asm volatile("mov %%rbx, io(%%rip); mov %%rbp, io+8(%%rip); mov io+16(%%rip), %%rbx; mov io+24(%%rip), %%rbp;"
                 "mov $-8, %%r8; mov $-12, %%r12; int $0x80; mov %%r8, io+32(%%rip); mov %%r12, io+40(%%rip);"
                 "mov io(%%rip), %%rbx; mov io+8(%%rip), %%rbp"
                 : "=a"(r) : "a"(nr), "c"(b), "d"(c), "S"(d), "D"(e) : "memory", "r8", "r9", "r10", "r11", "r12", "cc");
    CHECK(io.r8 == -8ull && io.r12 == -12ull);
    return r;
}
#define CALL(nr, a, b, c) call(nr, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0, 0)

static void on_alarm(int sig)
{
    if (++alarms == 3)
        (void)!write(alarm_fd, "3", 1);
}

/* Structures and their pointers are 32 bits wide. */
static void structures(char *low)
{
    int32_t *fds = (int32_t *)low, *times = (int32_t *)(low + 64), *mmap_args = (int32_t *)(low + 128);
    struct stat st;
    uint64_t size;
    int64_t fd, p;

    strcpy(low + 512, "/proc/self/exe");
    fd = CALL(I386_OPEN, low + 512, 0, 0);
    CHECK(fd >= 0 && fstat(fd, &st) == 0);
    memset(low + 256, 0x55, 128);
    CHECK(CALL(I386_FSTAT64, fd, low + 256, 0) == 0);
    memcpy(&size, low + 256 + 44, 8);           /* st_size of struct stat64 */
    CHECK(size == (uint64_t)st.st_size && low[256 + 96] == 0x55);
    CHECK(CALL(I386_LSEEK, fd, 0xffffffff, SEEK_SET) == -EINVAL && CALL(I386_LSEEK, fd, 7, SEEK_SET) == 7);
    CHECK(CALL(I386_CLOSE, fd, 0, 0) == 0);
    times[0] = 0;
    times[1] = 1000000;
    CHECK(CALL(I386_NANOSLEEP, times, 0, 0) == 0);
    p = call(I386_MMAP2, 0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p > 0 && p < INT64_C(0x100000000) - 8192);
    if (p > 0)
        memset((void *)p, 1, 8192);
    memcpy(mmap_args, (int32_t[6]){ 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0 }, 24);
    p = CALL(I386_MMAP, mmap_args, 0, 0);
    CHECK(p > 0 && p < INT64_C(0x100000000) - 4096);
    CHECK(CALL(I386_PIPE, fds, 0, 0) == 0 && fds[0] > 2 && fds[1] > 2);
    memcpy(low + 512, "abc", 3);
    CHECK(CALL(I386_WRITE, fds[1], low + 512, 3) == 3 && CALL(I386_READ, fds[0], low + 600, 10) == 3 && !memcmp(low + 600, "abc", 3));
}

/* Interrupted, it begins anew as the call that it was: the third signal writes what it waits for. */
static void restart(char *low)
{
    int32_t *fds = (int32_t *)low;
    struct itimerval timer = { .it_value = { 0, 20000 }, .it_interval = { 0, 20000 } };

    CHECK(CALL(I386_PIPE, fds, 0, 0) == 0);
    alarm_fd = fds[1];
    sigaction(SIGALRM, &(struct sigaction){ .sa_handler = on_alarm, .sa_flags = SA_RESTART }, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
    CHECK(CALL(I386_READ, fds[0], low + 600, 1) == 1 && low[600] == '3');
    memset(&timer, 0, sizeof(timer));
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void forks(void)
{
    int64_t pid = CALL(I386_FORK, 0, 0, 0);
    int status;

    if (pid == 0)
        _exit(5);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 5);
}

/* A filter sees which of the two it is. */
static void sandboxed(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_I386, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, I386_GETPID, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = { 6, code };

    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0);
    CHECK(CALL(I386_GETPID, 0, 0, 0) == -77 && getpid() > 0);
}

int main(void)
{
    char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    uint64_t high = UINT64_C(0x1234567800000000);

    setvbuf(stdout, NULL, _IONBF, 0);
    CHECK(low != MAP_FAILED);
    CHECK(CALL(I386_GETPID, 0, 0, 0) == getpid());
    CHECK(CALL(high | I386_GETPID, 0, 0, 0) == getpid());
    CHECK(CALL(I386_CLOSE, -1, 0, 0) == -EBADF);
    CHECK(CALL(I386_NONE, 0, 0, 0) == -ENOSYS);
    strcpy(low, "0x80\n");
    CHECK(CALL(I386_WRITE, high | 1, high | (uint64_t)low, high | 5) == 5);
    CHECK(CALL(I386_WRITE, 1, 16, 1) == -EFAULT);
    structures(low);
    restart(low);
    forks();
    sandboxed();
    printf("%d failures\n", failures);
    return failures != 0;
}
