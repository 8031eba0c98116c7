/* What a host back end gives the translator. One is linked in. */
#ifndef RHEA_JIT_BACKEND_H
#define RHEA_JIT_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "rhea/ir/ir.h"

struct cpu;
struct guest;
struct host_fpu;
struct codegen;                 /* working memory of one compiling thread */

/* How guest memory is reached. */
enum codegen_memory {
    MEMORY_TLB,                 /* through the soft TLB */
    /* User mode: host address = GS base + guest address. A host fault there says which guest instruction faulted:
     * codegen_fault(). */
    MEMORY_DIRECT,
    MEMORY_DIRECT_32,           /* ... of which the low 32 bits count */
    MEMORY_FLAT,                /* ... and the base is 0 */
};

/* What in a region's code depends on where it, this program and the guest's page lie: for regions that are saved. */
enum code_reloc_kind {
    RELOC_STUB,                 /* 4 bytes, relative to their end: a place at the start of the cache */
    RELOC_C,                    /* 4 bytes, relative to their end: a function of this program */
    RELOC_EXIT,                 /* 4 bytes: number of an exit */
    RELOC_PC,                   /* 8 bytes: a guest address */
};
enum { MAX_RELOCS = 4096, CODEGEN_FAULT_ROW = 8 /* bytes of a row of code_out.faults */ };
struct code_relocs { uint32_t n; bool fixed /* it cannot be moved */; struct { uint32_t at; uint8_t kind; } row[MAX_RELOCS]; };

/* Where code goes: written at `rw`, run at rw + rx_delta. */
struct code_out {
    uint8_t *rw, *limit;
    ptrdiff_t rx_delta;
    uint32_t first_exit;        /* number that exit 0 of the region returns to the loop */
    struct code_relocs *relocs; /* NULL: not wanted */
    /* results */
    uint8_t *patch[IR_MAX_EXITS];       /* writable place of each direct exit's displacement; NULL: not patchable */
    size_t size;
    uint32_t faults, nfaults;   /* direct memory: offset of the table of accesses, behind the code, and its rows */
};

/* Code that every region uses, made once at the start of a cache. */
struct codegen_stubs {
    uint64_t (*enter)(struct cpu *cpu, const void *code);
    /* executable addresses. leave: rax says why; loop, lookup: rax is the guest pc; stored_: all slots are in memory */
    const uint8_t *leave, *loop, *lookup, *stored_leave, *stored_loop, *stored_lookup;
    const uint8_t *slow_int, *slow_vec;
};

struct codegen *codegen_new(enum codegen_memory memory, const struct guest *guest);
void codegen_free(struct codegen *b);
/* Emits the stubs at out->rw. */
void codegen_make_stubs(const struct guest *guest, struct code_out *out, struct codegen_stubs *stubs);
/* false: did not fit (out->limit, or the back end's own tables): the caller halves the region, or flushes. */
bool codegen_compile(struct codegen *b, const struct codegen_stubs *stubs, const struct ir *ir,
                     const struct ir_analysis *an, struct code_out *out);
/* One aligned store: the jump whose displacement is at `patch` goes to `target` (both in the writable mapping), or on
 * to the next instruction (NULL). */
void codegen_patch_jump(uint8_t *patch, const uint8_t *target);
/* Direct memory, in a handler of SIGSEGV or SIGBUS, `context` a ucontext_t * in the code of a region whose table is at
 * `faults`: all of the guest's state as of the faulting instruction, cpu->pc too, and what it accessed. false: the host pc
 * is not that of an access. codegen_leave() makes the handler's return leave the region with `why`. */
struct code_fault { uint64_t va; uint8_t bytes; bool write; };
bool codegen_fault(struct cpu *cpu, void *context, const uint8_t *code, const uint8_t *faults, unsigned nfaults,
                   struct code_fault *out);
uintptr_t codegen_context_pc(const void *context);
void codegen_leave(const struct codegen_stubs *stubs, void *context, uint64_t why);
/* Host code as text, one instruction a line; caller frees. */
char *codegen_disassemble(const uint8_t *code, size_t n, uint64_t address);
/* Options of the host worth a line of `info jit`. */
const char *codegen_host_features(void);
/* An x87 of the host, for IR_CALL_HOST; NULL: it has none. */
const struct host_fpu *codegen_host_fpu(void);
/* All that regions may be compiled differently for, a bit each. */
uint64_t codegen_host_key(void);

#endif
