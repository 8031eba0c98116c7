/* Rhea's side of a case: its code as regions, run in each of the ways there are, in a machine that is a soft TLB with the
 * case's pages and nothing else. */
#ifndef RHEA_TESTS_ISA_MACHINE_H
#define RHEA_TESTS_ISA_MACHINE_H

#include "case.h"
#include "rhea/guest/guest.h"

enum way { WRITTEN, OPTIMIZED, HOST_CODE, WAYS };
extern const char *const way_name[WAYS];

/* What the tests of a guest know about it. */
struct machine_arch {
    const struct guest *guest;
    uint64_t data_base;
    bool tagged;                                        /* the top byte of an address is ignored */
    void (*load)(struct cpu *c, const struct case_state *s);
    void (*store)(struct cpu *c, struct case_state *s); /* all but memory and the signal */
    int (*signal)(struct cpu *c, uint64_t *address);    /* of c->exception; 0: the trap that ends a case */
    /* Records the fault that an access to nothing is. */
    void (*fault)(struct cpu *c, uint64_t va, enum mmu_access access);
};

/* Once a process; *c is zero but for what it must hold of rhea/ir/cpu.h. */
struct cpu *machine_new(const struct machine_arch *arch);
/* Case `place` (its number in the batch). NULL, or what is wrong with its regions; caller frees. */
char *machine_run(const struct case_request *c, unsigned place, enum way how, struct case_state *out);
char *machine_dump(enum way how);       /* the last region, and its host code; caller frees */
/* The case's page of code, for decoding; first_pc must be set. */
struct code_fetch machine_fetch(const struct case_request *c, unsigned place);
static inline uint64_t case_place(const struct machine_arch *a, unsigned place)
{
    return a->data_base + CODE_OFFSET + (uint64_t)place * CASE_BYTES;
}

#endif
