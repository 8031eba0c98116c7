/* Runs instructions that stand in the test's code page by Rhea, in each of its ways, and compares with the processor. */
#ifndef RHEA_TESTS_X86_HARNESS_H
#define RHEA_TESTS_X86_HARNESS_H

#include "generate.h"

enum way { WRITTEN, OPTIMIZED, HOST_CODE, HOST_DIRECT /* as in user mode: direct memory, the host's x87 */, WAYS };
extern const char *const way_name[WAYS];

void harness_init(void);                /* native_init() too */
/* The n instructions at pc[0..n-1], one after the other, on *img. NULL, or what is wrong with their regions. */
char *harness_run(const uint64_t *pc, unsigned n, bool code32, struct x86_image *img, enum way how);
char *harness_dump(enum way how);       /* the last region, and its host code */
/* NULL: alike; else the differences. Memory: native_data now, and the processor's; pc: what addresses are told from. */
GString *harness_compare(uint64_t pc, bool code32, uint32_t undefined_flags, const struct x86_image *was,
                         const struct x86_image *host, const struct x86_image *ours, const uint8_t *mem_was,
                         const uint8_t *mem_host);

#endif
