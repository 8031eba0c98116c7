/* The vdso: an ELF image in the guest's memory whose functions tell the time. Its code makes system calls; where the loop finds a
 * thread at the entry of one that it can answer itself, it does, without leaving for the kernel. */
#ifndef RHEA_SRC_USER_VDSO_H
#define RHEA_SRC_USER_VDSO_H

#include <stdint.h>
#include "rhea/base/error.h"
#include "rhea/user/engine.h"

enum vdso_kind { VDSO_OTHER, VDSO_CLOCK_GETTIME, VDSO_CLOCK_GETTIME64, VDSO_GETTIMEOFDAY, VDSO_TIME };
enum { VDSO_FUNCTIONS = 8, VDSO_TEXT_SIZE = VDSO_FUNCTIONS * VDSO_SLOT };

/* Of an engine: where the functions are (UINT64_MAX: nowhere) and what each slot does. */
struct vdso_text { uint64_t va; uint8_t kind[VDSO_FUNCTIONS]; };

/* Places it: p->vdso, p->trampoline, p->vsyscall. */
bool vdso_place(struct process *p, struct error *err);
/* pc is in the text. true: the function was called and has returned. */
bool vdso_run(struct cpu *cpu);

#endif
