/* Random instructions from the rows of isa/x86*.isa, with operands that reach the test's data. */
#ifndef RHEA_TESTS_X86_GENERATE_H
#define RHEA_TESTS_X86_GENERATE_H

#include <glib.h>
#include "guest/x86/x86.h"
#include "native.h"

/* Mode bits of user-level code, of 64 or 32 bits. */
static inline uint64_t test_mode(bool code32)
{
    return (code32 ? MODE_CODE32 | MODE_SS32 : MODE_CODE64) | MODE_PE | MODE_LMA | 3 << MODE_CPL_SHIFT | MODE_OSFXSR |
           MODE_OSXSAVE_AVX | MMU_USER << MODE_MMU_SHIFT;
}

/* Whether user-level code can run this row, here: tested at all, not a jump, known to this processor. */
bool generate_can(const struct x86_row *row, bool code32);
/* An encoding of the row at native_code + 64 and a state to run it on; false: this roll of the dice makes none. */
bool generate(GRand *rnd, bool code32, const struct x86_row *row, struct x86_insn *insn, struct x86_image *img);
/* Streams: another instruction at this offset of the code page, and the state to begin with. */
bool generate_fits_stream(const struct x86_row *row);
bool generate_next(GRand *rnd, bool code32, const struct x86_row *row, unsigned offset, struct x86_insn *insn);
/* A conditional jump forward, and the end of a loop over all that stands from `start` on: dec, jnz. */
enum { SKIP_BYTES = 2 };
void generate_skip(bool code32, unsigned cc, unsigned offset, unsigned target, struct x86_insn *insn);
void generate_loop_end(bool code32, unsigned offset, unsigned start, struct x86_insn insn[2]);
void generate_state(GRand *rnd, bool code32, bool x87, struct x86_image *img);
bool generate_decode(bool code32, struct x86_insn *insn);       /* what was made last */

#endif
