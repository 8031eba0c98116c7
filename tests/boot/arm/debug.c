/* What a debugger asks of an AArch64 Linux kernel: watchpoints, breakpoints, steps.
 * Prints a line for each that works. */
#define _GNU_SOURCE
#include <elf.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile uint64_t watched[4];

static void __attribute__((noinline)) stored(void) { watched[1] = 5; }

static void child(void)
{
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    watched[0] = 1;
    stored();
    watched[2] = 2;
    _exit(0);
}

struct debug_state { uint32_t info, pad; struct { uint64_t addr; uint32_t ctrl, pad; } reg[16]; };

static int arm(pid_t pid, int set, uint64_t addr, uint32_t ctrl)
{
    struct debug_state s = { 0 };
    struct iovec io = { &s, 8 + 16 };

    s.reg[0].addr = addr;
    s.reg[0].ctrl = ctrl;
    return ptrace(PTRACE_SETREGSET, pid, set, &io);
}

static uint64_t pc_of(pid_t pid)
{
    uint64_t regs[34] = { 0 };
    struct iovec io = { regs, sizeof(regs) };

    ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &io);
    return regs[32];
}

/* Goes on until the next stop; the fault's address if it is a trap of the debug hardware. */
static uint64_t next_trap(pid_t pid, int how)
{
    siginfo_t si = { 0 };
    int status;

    ptrace(how, pid, 0, 0);
    waitpid(pid, &status, 0);
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
        return 0;
    ptrace(PTRACE_GETSIGINFO, pid, 0, &si);
    return si.si_code == TRAP_HWBKPT || si.si_code == TRAP_TRACE ? (uint64_t)si.si_addr : 1;
}

static void debugger(void)
{
    enum { ENABLE = 1, EL0 = 2 << 1, LOAD = 1 << 3, STORE = 2 << 3, BYTES8 = 0xff << 5, BYTES4 = 0xf << 5 };
    pid_t pid = fork();
    uint64_t at;
    int status;

    if (pid == 0)
        child();
    waitpid(pid, &status, 0);
    if (arm(pid, NT_ARM_HW_WATCH, (uint64_t)&watched[1], ENABLE | EL0 | STORE | BYTES8) == 0 &&
        next_trap(pid, PTRACE_CONT) == (uint64_t)&watched[1] && ptrace(PTRACE_PEEKDATA, pid, &watched[1], 0) == 0)
        puts("watchpoint works");
    arm(pid, NT_ARM_HW_WATCH, 0, 0);
    at = pc_of(pid);
    if (next_trap(pid, PTRACE_SINGLESTEP) && pc_of(pid) == at + 4 && ptrace(PTRACE_PEEKDATA, pid, &watched[1], 0) == 5)
        puts("step works");
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    pid = fork();
    if (pid == 0)
        child();
    waitpid(pid, &status, 0);
    if (arm(pid, NT_ARM_HW_BREAK, (uint64_t)stored, ENABLE | EL0 | BYTES4) == 0 && next_trap(pid, PTRACE_CONT) == (uint64_t)stored &&
        pc_of(pid) == (uint64_t)stored)
        puts("breakpoint works");
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    debugger();
    return 0;
}
