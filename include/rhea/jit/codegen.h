/* What a host back end gives the translator. One is linked in. */
#ifndef RHEA_JIT_BACKEND_H
#define RHEA_JIT_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "rhea/ir/ir.h"

struct cpu;
struct codegen;                 /* working memory of one compiling thread */

/* Where code goes: written at `rw`, run at rw + rx_delta. */
struct code_out {
    uint8_t *rw, *limit;
    ptrdiff_t rx_delta;
    uint32_t first_exit;        /* number that exit 0 of the region returns to the loop */
    /* results */
    uint8_t *patch[IR_MAX_EXITS];       /* writable place of each direct exit's displacement; NULL: not patchable */
    size_t size;
};

/* Code that every region uses, made once at the start of a cache. */
struct codegen_stubs {
    uint64_t (*enter)(struct cpu *cpu, const void *code);
    /* executable addresses. leave: rax says why; loop, lookup: rax is the guest pc */
    const uint8_t *leave, *loop, *lookup;
    const uint8_t *slow_int, *slow_vec;
};

struct codegen *codegen_new(void);
void codegen_free(struct codegen *b);
/* Emits the stubs at out->rw. */
void codegen_make_stubs(struct code_out *out, struct codegen_stubs *stubs);
/* false: did not fit (out->limit, or the back end's own tables): the caller halves the region, or flushes. */
bool codegen_compile(struct codegen *b, const struct codegen_stubs *stubs, const struct ir *ir,
                     const struct ir_analysis *an, struct code_out *out);
/* One aligned store: the jump whose displacement is at `patch` goes to `target` (both in the writable mapping), or on
 * to the next instruction (NULL). */
void codegen_patch_jump(uint8_t *patch, const uint8_t *target);
/* Host code as text, one instruction a line; caller frees. */
char *codegen_disassemble(const uint8_t *code, size_t n, uint64_t address);
/* Options of the host worth a line of `info jit`. */
const char *codegen_host_features(void);

#endif
