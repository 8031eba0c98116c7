/* A case as it goes to the oracle and comes back: a short piece of code, and the state before and after it. Shared by the
 * tests and by the runner, which is built for the guest. */
#ifndef RHEA_TESTS_ISA_CASE_H
#define RHEA_TESTS_ISA_CASE_H

#include <stdint.h>

enum {
    CASE_WORDS = 16, CASE_BYTES = 64,   /* a case's place in the code area; all but its instructions is traps */
    CASE_START = 16,                    /* where they begin in it */
    CASE_MAX = 2048,                    /* cases a batch */
    DATA_PAGES = 2, DATA_BYTES = DATA_PAGES * 4096,
    WINDOW_BYTES = 512, WINDOW_OFFSET = (DATA_BYTES - WINDOW_BYTES) / 2,    /* across the boundary of the pages */
};
/* The data area is these pages alone, nothing is mapped around them; the code area follows. */
#define DATA_BASE64 UINT64_C(0x2a5a000000)
#define DATA_BASE32 UINT64_C(0x5a000000)
#define CODE_OFFSET UINT64_C(0x110000)  /* from the data area */
#define RUNNER_BASE64 UINT64_C(0x2b00000000)    /* the runner's own memory: the linker's option says so */
#define RUNNER_BASE32 UINT64_C(0x5b000000)
#define RUNNER_BYTES UINT64_C(0x1000000)

/* What the data area holds outside the window, by 64-bit word. */
static inline uint64_t data_pattern(unsigned word) { return (word + 1) * UINT64_C(0x9e3779b97f4a7c15); }

struct case_state {
    uint64_t pc;
    uint64_t r[32];                     /* A64: r[31] is SP; AArch32: r0 to r14; RISC-V: x0 to x31 */
    uint64_t v[32][2];                  /* RISC-V: f0 to f31; AArch32: q0 to q15 */
    uint32_t flags;                     /* PSTATE, CPSR */
    uint32_t fpcr, fpsr;                /* AArch32: FPSCR is fpcr; RISC-V: fcsr is */
    int32_t signal;                     /* after: SIGTRAP at a trap of the code area, the usual end, is 0; or CASE_... */
    uint64_t address;                   /* after: of the fault */
    uint32_t stray;                     /* after: 1 + offset of a byte outside the window that changed, or 0 */
    uint32_t pad;
    uint8_t window[WINDOW_BYTES];
};
enum {                                  /* a signal that is none: */
    CASE_DIED = -1,                     /* the oracle does not survive it */
    CASE_REFUSED = -2,                  /* the oracle knows that it has not the instruction */
};
struct case_request {
    struct case_state state;
    uint32_t code[CASE_WORDS];
};

#endif
