/* The debug log: categories of -d, sink of -D, address filter of -dfilter. One per process (it is the user's log,
 * not a machine's state). log_enabled() is one load; nothing is formatted when a category is off. */
#ifndef RHEA_BASE_LOG_H
#define RHEA_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "rhea/base/error.h"

/* name, help */
#define LOG_CATEGORIES(X)                                                                  \
    X(IN_ASM, "in_asm", "guest code as it is translated")                                  \
    X(OP, "op", "intermediate representation as the front end makes it")                   \
    X(OP_OPT, "op_opt", "intermediate representation after the passes")                    \
    X(OUT_ASM, "out_asm", "host code")                                                     \
    X(INT, "int", "interrupts and exceptions")                                             \
    X(EXEC, "exec", "each region entered")                                                 \
    X(CPU, "cpu", "CPU state at each region entry")                                        \
    X(CPU_RESET, "cpu_reset", "CPU state at reset")                                        \
    X(GUEST_ERRORS, "guest_errors", "invalid operations of the guest")                     \
    X(MMU, "mmu", "address translation")                                                   \
    X(UNIMP, "unimp", "what is not modelled, when the guest uses it")                      \
    X(STRACE, "strace", "system calls (user mode)")                                        \
    X(PAGE, "page", "memory map (user mode)")                                              \
    X(CACHE, "cache", "translations kept between runs (user mode)")                        \
    X(NOCHAIN, "nochain", "do not link regions, so that exec and cpu are complete")        \
    X(AUDIT, "audit", "commands of control connections, and how they ended")               \
    X(TRACE, "trace:", "trace points, by pattern")

enum log_bit {
#define X(id, name, help) LOG_BIT_##id,
    LOG_CATEGORIES(X)
#undef X
    LOG_BIT_COUNT
};
enum log_category {
#define X(id, name, help) LOG_##id = 1u << LOG_BIT_##id,
    LOG_CATEGORIES(X)
#undef X
};

extern uint32_t log_mask;       /* categories that are on */

static inline bool log_enabled(uint32_t categories) { return log_mask & categories; }
/* The list that -d help prints; caller frees. */
char *log_help(void);
/* Parses "in_asm,int", "all", "none"; "trace:PATTERN" adds to the trace patterns. False with the nearest right
 * spelling if a name is unknown; "help" is refused with the list as the hint. */
bool log_parse(const char *spec, uint32_t *mask, struct error *err);
void log_set(uint32_t mask);
/* Opens the file of -D ("%d" is the pid); NULL: stderr. */
bool log_open(const char *path, struct error *err);
/* Parses a -dfilter range list ("0x8000..0x8fff,0xffffffc000080000+0x200"). */
bool log_set_filter(const char *spec, struct error *err);
bool log_in_filter(uint64_t addr);
/* Whether a trace point of this name is on. */
bool log_trace_enabled(const char *name);
void log_printf(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
/* A whole multi-line record, not interleaved with other threads'. */
void log_write(const char *text, size_t len);
#define log_at(category, ...) do { if (log_enabled(category)) log_printf(__VA_ARGS__); } while (0)

#endif
