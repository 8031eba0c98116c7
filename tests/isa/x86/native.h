/* The processor we run on as an oracle: runs one instruction on a given state. */
#ifndef RHEA_TESTS_X86_NATIVE_H
#define RHEA_TESTS_X86_NATIVE_H

#include <stdbool.h>
#include <stdint.h>

/* All that a user-level instruction sees; the assembly in native.c knows the offsets. */
struct x86_image {
    uint64_t regs[16];
    uint64_t rflags;
    uint64_t rip;                       /* afterwards: of a trap, where it happened */
    int32_t trap;                       /* vector of the exception it raised, -1: none */
    uint32_t error;
    _Alignas(64) uint8_t ymm[16][32];
    _Alignas(64) uint8_t fx[512];       /* FXSAVE's: x87, MMX and MXCSR; its XMM part is unused */
};
enum { FX_FCW = 0, FX_FSW = 2, FX_FTW = 4, FX_MXCSR = 24, FX_ST = 32 };

/* Room for code, and data a little further on, below 2 GiB. */
enum { NATIVE_DATA_SIZE = 4096 };
extern uint8_t *native_code, *native_data;
/* Told of signals while nothing runs natively; false: it was not expected. */
extern bool (*native_signal)(int signal, void *context);
extern uint8_t *native_mirror;         /* the same memory as native_data */
void native_init(void);
/* Runs the instruction at native_code + 64, of len bytes, on *img; code32: in a 32-bit code segment. */
void native_run(unsigned len, bool code32, struct x86_image *img);

#endif
