/* What vixl 5.1's simulator has not, or has otherwise than DDI 0487: kept away from its cases, or evened out after them. */
#ifndef RHEA_TESTS_ISA_VIXL_H
#define RHEA_TESTS_ISA_VIXL_H

#include "../oracle/generate.h"

/* FPCR has no more for it: DN. Nor has it FPSR. */
enum { VIXL_FPCR_BITS = 0x02000000 };

const char *vixl_lacks(const struct any_row *row);      /* why, or NULL */
bool vixl_wrong(const struct any_row *row, uint32_t raw);       /* this encoding of the row */
/* Results of one instruction that are right but for what it leaves standing. */
bool vixl_has_leftovers(const struct any_row *row);
void vixl_even_out(const struct any_row *row, uint32_t raw, struct case_state *oracle, const struct case_state *ours);

#endif
