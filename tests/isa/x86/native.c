/* See native.h. The state is loaded from a static image by instruction-pointer-relative moves, since every register is
 * the test's; the instruction under test is followed by a jump to where all of it is saved again. A signal is turned
 * into the same jump, with the trap's number noted. */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include "native.h"

uint8_t *native_code, *native_data, *native_mirror;
__attribute__((visibility("hidden"))) struct x86_image native_image;
__attribute__((visibility("hidden"))) uint64_t native_saved_rsp, native_entry, native_code32;
__attribute__((visibility("hidden"))) struct { uint32_t offset; uint16_t selector; } native_far;
void native_enter(void);
extern const uint8_t native_leave[];
static volatile sig_atomic_t running;
enum { USER_CS = 0x33, USER_CS32 = 0x23, USER_DS = 0x2b };      /* Linux's selectors */

_Static_assert(offsetof(struct x86_image, rflags) == 128 && offsetof(struct x86_image, ymm) == 192 &&
               offsetof(struct x86_image, fx) == 704, "the offsets below");

__asm__(".intel_syntax noprefix\n"
        ".text\n"
        ".hidden native_enter, native_leave\n"
        ".macro regs how\n"
        "  .set n, 0\n"
        "  .irp r, rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15\n"
        "    \\how \\r\n"
        "    .set n, n + 8\n"
        "  .endr\n"
        ".endm\n"
        ".macro load_reg r\n  mov \\r, [rip + native_image + n]\n.endm\n"
        ".macro save_reg r\n  mov [rip + native_image + n], \\r\n.endm\n"
        ".macro vectors how\n"
        "  .set n, 192\n"
        "  .irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
        "    \\how ymm\\r\n"
        "    .set n, n + 32\n"
        "  .endr\n"
        ".endm\n"
        ".macro load_ymm r\n  vmovdqu \\r, [rip + native_image + n]\n.endm\n"
        ".macro save_ymm r\n  vmovdqu [rip + native_image + n], \\r\n.endm\n"
        "native_enter:\n"
        "  push rbx\n  push rbp\n  push r12\n  push r13\n  push r14\n  push r15\n"
        "  mov [rip + native_saved_rsp], rsp\n"
        "  fxrstor64 [rip + native_image + 704]\n"
        "  vectors load_ymm\n"
        "  cmp qword ptr [rip + native_code32], 0\n"
        "  jne 1f\n"
        "  push qword ptr [rip + native_image + 128]\n"
        "  popfq\n"
        "  regs load_reg\n"
        "  jmp [rip + native_entry]\n"
        "1:\n"
        "  push qword ptr [rip + native_image + 128]\n"
        "  popfq\n"
        "  regs load_reg\n"
        "  jmp fword ptr [rip + native_far]\n"
        "native_leave:\n"
        "  regs save_reg\n"
        "  mov rsp, [rip + native_saved_rsp]\n"
        "  pushfq\n"
        "  pop [rip + native_image + 128]\n"
        "  cld\n"
        "  vectors save_ymm\n"
        "  fxsave64 [rip + native_image + 704]\n"
        "  fninit\n"
        "  push 0x1f80\n  ldmxcsr [rsp]\n  pop rax\n"
        "  vzeroupper\n"
        "  pop r15\n  pop r14\n  pop r13\n  pop r12\n  pop rbp\n  pop rbx\n"
        "  ret\n"
        ".att_syntax\n");

bool (*native_signal)(int signal, void *context);

static void on_signal(int sig, siginfo_t *si, void *opaque)
{
    ucontext_t *uc = opaque;

    if (!running && native_signal && native_signal(sig, opaque))
        return;
    if (!running) {
        fprintf(stderr, "signal %d outside the instruction under test, at %#llx\n", sig,
                (unsigned long long)uc->uc_mcontext.gregs[REG_RIP]);
        _exit(1);
    }
    native_image.trap = (int32_t)uc->uc_mcontext.gregs[REG_TRAPNO];
    native_image.error = (uint32_t)uc->uc_mcontext.gregs[REG_ERR];
    native_image.rip = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)native_leave;
    uc->uc_mcontext.gregs[REG_CSGSFS] = (uc->uc_mcontext.gregs[REG_CSGSFS] & ~(greg_t)0xffff) | USER_CS;
    uc->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)0x10100;         /* RF and TF */
}

void native_init(void)
{
    uint8_t *guards;
    int fd;
    static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
    stack_t stack = { .ss_sp = malloc(1 << 18), .ss_size = 1 << 18 };
    struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };

    sigaltstack(&stack, NULL);
    for (unsigned n = 0; n < sizeof(signals) / sizeof(signals[0]); n++)
        sigaction(signals[n], &sa, NULL);
    /* Code and data lie between pages that nothing may touch. Data are seen at a second address as well. */
    guards = mmap(NULL, 0x6000, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    native_code = guards + 0x1000;
    fd = memfd_create("native", 0);
    if (guards == MAP_FAILED || mprotect(native_code, 0x1000, PROT_READ | PROT_WRITE | PROT_EXEC) || fd < 0 ||
        ftruncate(fd, NATIVE_DATA_SIZE) ||
        mmap(native_code + 0x2000, NATIVE_DATA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    native_mirror = mmap(NULL, NATIVE_DATA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    native_data = native_code + 0x2000;
}

static const uint8_t jump_far_away[6] = { 0xff, 0x25 };         /* jmp [rip + 0]; the address follows */

static void put_jump_out(uint8_t *at)
{
    uint64_t target = (uintptr_t)native_leave;

    memcpy(at, jump_far_away, 6);
    memcpy(at + 6, &target, 8);
}

/* 32-bit code leaves by a far jump to a 64-bit jump at the start of the page. */
static void put_jump_out32(uint8_t *at)
{
    uint32_t target = (uint32_t)(uintptr_t)native_code;
    uint16_t selector = USER_CS;

    put_jump_out(native_code);
    at[0] = 0xea;
    memcpy(at + 1, &target, 4);
    memcpy(at + 5, &selector, 2);
    native_far.offset = target + 64;
    native_far.selector = USER_CS32;
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(USER_DS));
}

void native_run(unsigned len, bool code32, struct x86_image *img)
{
    native_code32 = code32;
    native_entry = (uintptr_t)native_code + 64;
    if (code32)
        put_jump_out32(native_code + 64 + len);
    else
        put_jump_out(native_code + 64 + len);
    native_image = *img;
    native_image.trap = -1;
    native_image.rip = native_entry + len;
    running = 1;
    native_enter();
    running = 0;
    *img = native_image;
}
