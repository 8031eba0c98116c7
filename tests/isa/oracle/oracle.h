/* The oracle: a process of Debian's qemu-user, or vixl's simulator, that runs cases (case.h) in batches. */
#ifndef RHEA_TESTS_ISA_ORACLE_H
#define RHEA_TESTS_ISA_ORACLE_H

#include "case.h"

/* guest: as make.sh names it; cpu: of QEMU's option, NULL for other oracles. Ends the test if there is none. */
void oracle_start(const char *guest, const char *cpu);
void oracle_stop(void);
/* Runs the cases from `first` to end - 1; case k stands at place k of the code area. One that the oracle does not survive (it
 * has mistakes of its own) gets the signal ORACLE_DIED. */
enum { ORACLE_DIED = -1 };
void oracle_run(const struct case_request *cases, struct case_state *results, unsigned first, unsigned end);

#endif
