/* -machine smm=on */
#ifndef RHEA_BOARD_X86_SMM_H
#define RHEA_BOARD_X86_SMM_H
#include "common.h"
struct x86_smm {
    struct vm *vm;              /* NULL: off */
    struct mem_region root, all, smram, open, window;   /* open: in the machine's own memory */
    struct address_space memory;
};
void x86_smm_init(struct x86_smm *s, struct x86_machine *m, struct device *host, struct device *pm);
void x86_smm_free(struct x86_smm *s);
#endif
