/* What user mode asks of a guest instruction set, beside struct guest: src/guest/NAME/user.c. How its Linux calls the
 * kernel, what its exceptions become, what its signal frames look like. */
#ifndef RHEA_USER_GUEST_USER_H
#define RHEA_USER_GUEST_USER_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include "rhea/base/error.h"
#include "rhea/guest/guest.h"

struct thread;

enum { VDSO_SLOT = 32 };        /* bytes of a function of the vdso */
#define VDSO_ANY UINT32_MAX      /* i386: its system call's number is in the register already */

/* Why guest code stopped. */
enum user_event_kind {
    EVENT_NONE,                 /* nothing: go on */
    EVENT_SYSCALL,              /* pc is that of the next instruction */
    EVENT_SIGNAL,               /* the instruction at pc raised a synchronous signal */
};
struct user_event {
    enum user_event_kind kind;
    int signal, code;           /* host's numbers of SIGSEGV ..., SEGV_MAPERR ... */
    uint64_t addr;              /* si_addr */
    uint32_t trapno, error;     /* x86: vector, error code; Arm: 0, ESR_ELx */
};

/* A signal about to be delivered: what a frame is made of. */
struct signal_frame {
    int signal;                 /* number: the same in all guests here */
    const uint8_t *siginfo;     /* 128 bytes as the guest has them */
    uint64_t handler, flags, restorer;  /* of the sigaction; flags: SA_* as the guests have them (asm-generic's bits) */
    uint64_t mask;              /* to be restored by sigreturn */
    uint64_t sp;                /* where the frame goes below: sp, or top of the alternate stack (no red zone taken off) */
    bool on_altstack;           /* sp is that of the alternate stack: no red zone */
    struct { uint64_t sp, size; uint32_t flags; } altstack;     /* for uc_stack */
    uint32_t trapno, error;     /* of the last fault of this thread */
    uint64_t fault_addr;
    uint64_t trampoline;        /* address of the guest's sigreturn code in memory (struct guest_user.trampoline), 0: none */
};
struct signal_return { uint64_t mask; struct { uint64_t sp, size; uint32_t flags; } altstack; bool has_altstack; };

struct guest_user {
    const struct guest *guest;
    const char *name;           /* "aarch64": of program names and -L paths */
    uint8_t bits;               /* 32 or 64: of pointers */
    uint16_t elf_machine;       /* EM_* */
    const char *uname_machine;  /* as uname(2) says it */
    const char *platform;       /* AT_PLATFORM, or NULL */
    uint64_t address_end;       /* first address that user mode has not (for mmap) */
    uint64_t program_base;      /* where position-independent programs are loaded */
    const char *default_model;  /* of -cpu in user mode */
    uint64_t min_sigstksz;      /* AT_MINSIGSTKSZ; 0: not given */

    /* The CPU, zeroed but for cpu.guest, of a model as -cpu names it (NULL: default), in user mode. */
    bool (*cpu_init)(struct cpu *cpu, const char *model, struct error *err);
    void (*cpu_copy)(struct cpu *to, struct cpu *from);         /* of a new thread: registers and all, but what cpu.h owns */
    void (*cpu_free)(struct cpu *cpu);
    void (*start)(struct cpu *cpu, uint64_t entry, uint64_t sp);        /* registers as the kernel's execve leaves them */
    void (*hwcaps)(const struct cpu *cpu, uint64_t out[2]);     /* AT_HWCAP, AT_HWCAP2 */
    char *(*cpuinfo)(const struct cpu *cpu, unsigned n);        /* of CPU n in /proc/cpuinfo; caller frees */

    bool (*hwprobe)(const struct cpu *cpu, int64_t key, uint64_t *value);       /* riscv_hwprobe(); false: no such key; or NULL */

    /* After cpu_loop_exit() with cpu->exception: what it means to a Linux program. */
    void (*event)(struct cpu *cpu, struct user_event *ev);
    /* Between instructions, back in the loop: a trap that the last one leaves behind (x86: single-step). NULL: there is none. */
    bool (*trap)(struct cpu *cpu, struct user_event *ev);
    /* A host fault at ev->addr, which is filled in with signal, code and address: adds trapno and error, changes what Linux on
     * this processor says otherwise (x86: an address that is not canonical). */
    void (*fault)(struct cpu *cpu, struct user_event *ev, enum mmu_access access);

    /* System calls. nr: of the last EVENT_SYSCALL; args: six (mips: more one day). */
    uint64_t (*syscall_number)(const struct cpu *cpu);
    void (*syscall_args)(const struct cpu *cpu, uint64_t args[6]);
    void (*syscall_result)(struct cpu *cpu, int64_t v);         /* 32-bit guests: truncated */
    void (*syscall_again)(struct cpu *cpu);     /* back to the instruction: registers as they were before it */
    const char *compat;         /* the 32-bit guest whose system calls programs may make too, and whether the last one is such; or NULL */
    bool (*syscall_is_compat)(const struct cpu *cpu);

    uint64_t (*stack_pointer)(const struct cpu *cpu);
    void (*set_stack_pointer)(struct cpu *cpu, uint64_t sp);
    void (*set_tls)(struct cpu *cpu, uint64_t v);       /* CLONE_SETTLS; i386: set_thread_area's descriptor has its own call */
    uint64_t (*tls)(const struct cpu *cpu);
    /* x86-64: arch_prctl(ARCH_SET_GS, ARCH_GET_GS); i386 (and int 0x80): set_thread_area(), clone()'s tls; desc: struct user_desc,
     * whose entry is filled in if it is -1; -errno. NULL elsewhere. */
    void (*set_gs_base)(struct cpu *cpu, uint64_t v);
    uint64_t (*gs_base)(const struct cpu *cpu);
    int (*set_thread_area)(struct cpu *cpu, uint32_t desc[4]);
    /* x86: modify_ldt(). Writes the entry of a struct user_desc, -errno; reads up to `count` entries from `first` on, how many there
     * are. Both NULL elsewhere. */
    int (*ldt_write)(struct cpu *cpu, const uint32_t desc[4], bool old);
    unsigned (*ldt_read)(const struct cpu *cpu, unsigned first, uint64_t *out, unsigned count);

    /* Signals. push: makes the frame and sets registers to enter the handler; false: the stack is not writable. pop: state
     * from the frame at the stack pointer; false: it is no good (SIGSEGV). rt: rt_sigreturn. */
    bool (*signal_push)(struct cpu *cpu, const struct signal_frame *f);
    bool (*signal_pop)(struct cpu *cpu, bool rt, struct signal_return *out);
    const void *trampoline;     /* sigreturn's code, for the vdso; NULL: programs bring their own */
    unsigned trampoline_size;   /* at most VDSO_SLOT */

    /* The vdso's functions: code that makes system call nr with a C function's arguments (three at most) and returns its result. */
    void (*vdso_stub)(uint8_t out[VDSO_SLOT], unsigned nr);
    void (*call_args)(struct cpu *cpu, uint64_t args[2]);       /* of a function that has just been entered; may fault */
    void (*call_return)(struct cpu *cpu, int64_t v);            /* as if it had returned v; may fault */
    /* A page of code that this kernel has at a fixed address, from address_end on. NULL: none. */
    void (*vectors)(uint8_t page[4096]);

    /* Pages of code that may be entered at marked places alone (AArch64: PROT_BTI). NULL: there are none. guard_bits: what mmap() and
     * mprotect() call them, 0 on a CPU without. guard: there are such pages from now on, which the CPU asks for. */
    unsigned (*guard_bits)(const struct cpu *cpu);
    void (*guard)(struct cpu *cpu, bool (*guarded)(struct cpu *cpu, uint64_t va));

    uint8_t tag_bits;           /* upper bits of an address that accesses ignore (AArch64: 8) */
    bool code_protect;          /* x86: stores to code are seen at once; others say so (IC IVAU, FENCE.I, cacheflush) */
};

extern const struct guest_user user_x86_64, user_i386, user_aarch64, user_arm, user_riscv64, user_riscv32;
const struct guest_user *guest_user_find(const char *name);                     /* NULL: none */
const struct guest_user *guest_user_of_elf(uint16_t machine, unsigned bits, bool big_endian);

#endif
