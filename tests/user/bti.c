/* Branch target identification of Linux programs: pages mapped with PROT_BTI. Each kind of branch from a guarded page and another
 * one to each kind of landing pad in either; what mappings do with it. Debian's qemu-aarch64 must print the same. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define PROT_BTI 0x10
enum { CODE = PROT_READ | PROT_EXEC, PAGE = 4096, PADS = 6 * 64 };

#define BRANCH(insn) ".balign 64; bti c; stp x29, x30, [sp, #-16]!; mov x9, x0; mov x16, x0; mov x17, x0; adr x30, 1f; " insn \
                     "; 1: ldp x29, x30, [sp], #16; ret; "
__asm__(".arch armv8.5-a; .data; .globl code, code_end; .balign 64; code:"
        BRANCH("blr x9") BRANCH("br x9") BRANCH("br x16") BRANCH("br x17") BRANCH("ret x9") BRANCH("blr x17")
        ".macro pad insns:vararg; .balign 16; \\insns; .endm;"
        ".balign 64; pad nop; ret; pad bti; ret; pad bti c; ret; pad bti j; ret; pad bti jc; ret; pad paciasp; autiasp; ret; pad pacibsp; autibsp; ret;"
        "pad add x9, x9, #1; ret;"
        "code_end: .text");
extern char code[], code_end[];
static const char *const branches[] = { "blr x9", "br x9", "br x16", "br x17", "ret x9", "blr x17" };
static const char *const pads[] = { "nop", "bti", "bti c", "bti j", "bti jc", "paciasp", "pacibsp", "add" };
static char *guarded, *plain;
static volatile sig_atomic_t count;
static int signal_code;
static uintptr_t signal_addr;
static uint64_t pstate;

static void on_sigill(int sig, siginfo_t *info, void *context)
{
    ucontext_t *u = context;

    signal_code = info->si_code;
    signal_addr = (uintptr_t)info->si_addr;
    pstate = u->uc_mcontext.pstate;
    u->uc_mcontext.pc = u->uc_mcontext.regs[30];
    u->uc_mcontext.pstate &= ~UINT64_C(0xc00);
    count++;
}

static char *map(char *at, int prot)
{
    char *p = mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), -1, 0);

    memcpy(p, code, (size_t)(code_end - code));
    __builtin___clear_cache(p, p + PAGE);
    if (mprotect(p, PAGE, prot))
        perror("mprotect");
    return p;
}

static void go(const char *from, const char *to)
{
    count = 0;
    ((void (*)(const char *))from)(to);
}

static void all(void)
{
    for (unsigned k = 0; k < 4; k++) {
        for (unsigned b = 0; b < 6; b++) {
            for (unsigned n = 0; n < 8; n++) {
                const char *to = (k & 2 ? plain : guarded) + PADS + 16 * n;

                go((k & 1 ? guarded : plain) + 64 * b, to);
                printf("%s %s -> %s %s", k & 1 ? "guarded" : "plain", branches[b], k & 2 ? "plain" : "guarded", pads[n]);
                if (count)
                    printf(": %d signals, code %d, %s BTYPE %d", (int)count, signal_code, signal_addr == (uintptr_t)to ? "there" : "elsewhere",
                           (int)(pstate >> 10 & 3));
                printf("\n");
            }
        }
    }
}

static const char *refused(char *page)
{
    go(plain, page + PADS);
    return count ? "refused" : "allowed";
}

/* A handler is entered as if called. */
static int handler_status(const char *handler)
{
    int status;
    pid_t child = fork();

    if (!child) {
        struct sigaction a = { .sa_handler = (void (*)(int))(uintptr_t)handler };

        signal(SIGILL, SIG_DFL);
        sigaction(SIGUSR1, &a, NULL);
        raise(SIGUSR1);
        _exit(0);
    }
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static volatile char *volatile shared;
static void *thread(void *arg)
{
    while (!shared)
        go(plain, plain + PADS);
    return (void *)refused((char *)shared);
}

int main(void)
{
    struct sigaction a = { .sa_sigaction = on_sigill, .sa_flags = SA_SIGINFO | SA_NODEFER };
    pthread_t before;
    void *said;
    char *p;

    sigaction(SIGILL, &a, NULL);
    plain = map(NULL, CODE);
    if (!(getauxval(AT_HWCAP2) >> 17 & 1)) {
        printf("none: %s\n", mprotect(plain, PAGE, CODE | PROT_BTI) ? "refused" : "ignored");
        return 0;
    }
    pthread_create(&before, NULL, thread, NULL);
    go(plain, plain + PADS);
    guarded = map(NULL, CODE | PROT_BTI);
    shared = guarded;
    pthread_join(before, &said);
    printf("a thread that ran before: %s\n", (char *)said);
    all();
    printf("a handler at bti c: %d, at bti j: %d, at add: %d\n", handler_status(guarded + PADS + 32), handler_status(guarded + PADS + 48),
           handler_status(guarded + PADS + 112));
    mprotect(guarded, PAGE, CODE);
    printf("mprotect without: %s\n", refused(guarded));
    mprotect(guarded, PAGE, CODE | PROT_BTI);
    printf("mprotect with: %s\n", refused(guarded));
    map(guarded, CODE);
    printf("mapped anew: %s\n", refused(guarded));
    mprotect(guarded, PAGE, CODE | PROT_BTI);
    p = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p = mremap(guarded, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p);
    printf("moved: %s\n", refused(p));
    return 0;
}
