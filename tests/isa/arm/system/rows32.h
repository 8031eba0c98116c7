/* What runs below a hypervisor or monitor in the tests of AArch32 at EL1: rows of a few instructions, and the vectors that turn
 * EL1's own exceptions into HVC or SMC. Part of hyp32.elf; a blob at ROWS32_AT in mixed64.elf. */
#ifndef ROWS32_H
#define ROWS32_H
#include <stdint.h>

#define ROWS32_AT 0x41000000
#ifdef __aarch64__
typedef uint32_t ptr32;
#define PTR32(type, p) ((type *)(uint64_t)(p))
#else
typedef void *ptr32;
#define PTR32(type, p) ((type *)(p))
#endif

enum { ROW_VALUE = 1 /* r1 is worth printing */, ROW_WAITS = 2 /* only where it traps */, ROW_EL0 = 4 /* and worth trying at EL0 */, ROW_KNOWN = 8 /* QEMU 7.2 differs */, ROW_HYP = 16 /* a register of Hyp mode */ };
struct row32 { ptr32 name, fn; uint32_t flags; };
struct rows32 {
    uint32_t count;
    ptr32 rows, hvc_vectors, smc_vectors, tests;        /* tests: TEST_* */
};
enum { TEST_LOAD, TEST_STORE, TEST_REGISTERS, TEST_FETCH, TEST_WAIT, TEST_MMU, TEST_BANKS, TEST_IRQ, TEST_LDR_FORMS, TEST_END, TEST_END_THUMB, TEST_ISR, TEST_COUNT };
#endif
