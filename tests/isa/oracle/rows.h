/* Every row of a guest's instruction table with random operands, by the oracle and by Rhea in each of its ways. All state
 * must be equal afterwards: registers, flags, floating-point status, memory, pc and the signal that ended it.
 *   ROW=add    only rows whose mnemonic begins so     CASES=1000  a row     RHEA_TEST_SEED=1  elsewhere   VERBOSE=1 */
#ifndef RHEA_TESTS_ISA_ROWS_H
#define RHEA_TESTS_ISA_ROWS_H

#include "generate.h"
#include "machine.h"

/* Mnemonics' beginnings that are left out, and why; "": as the one before. */
struct left_out { const char *mnemonic, *why; };
const char *left_out_why(const struct left_out *table, unsigned n, const char *mnemonic);       /* NULL: it is not */

struct rows_arch {
    struct machine_arch machine;
    const char *oracle, *oracle_cpu;    /* oracle_start()'s */
    const char *const *reg_name;        /* of r[]; NULL ends it */
    uint32_t trap;                      /* instruction that fills a case's code */
    unsigned tenths;                    /* of the usual number of cases; 0: all of them */
    const struct any_row *rows;
    unsigned nrows;
    /* Code and state of a case with an instruction of this row; false: this roll of the dice makes none. c->code holds traps. */
    bool (*make)(const struct any_row *row, unsigned place, struct case_request *c);
    /* Several rows, one after the other. NULL: no streams */
    bool (*make_stream)(const struct any_row *const *rows, unsigned n, unsigned place, struct case_request *c);
    /* Evens out what need not be equal; false: the case does not count. */
    bool (*allow)(const struct case_request *c, struct case_state *oracle, struct case_state *ours);
    const char *(*group)(const struct any_row *row, const char **why);     /* NULL: not tested, and why */
    const char *(*only_raises)(const struct any_row *row);  /* why no case of it gets to the trap behind; NULL: some must */
    char *(*describe)(const struct case_request *c, unsigned place);
    /* Modes of floating point (rounding, flush to zero, ...), a bit each: which of them a case of the row is in, and which of
     * them a row must meet. NULL: none */
    unsigned (*modes)(const struct any_row *row, const struct case_request *c);
    unsigned (*modes_wanted)(const struct any_row *row);
};

struct cpu *rows_start(const struct rows_arch *arch);     /* the CPU that runs Rhea's side */
void rows_test(gconstpointer group);    /* a test function for g_test_add_data_func(): group's name */
void rows_test_streams(gconstpointer unused);
/* Whether each row is tested, or is said why not. */
void rows_test_reached(gconstpointer unused);

#endif
