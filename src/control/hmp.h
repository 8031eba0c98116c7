/* The monitor for people: commands in tables, arguments by kind.
 *
 * Parameters of a command are words NAME:KIND, NAME:KIND? when they may be left out:
 *   s  a word, or "quoted"      F  the same, a file name       S  the rest of the line
 *   i  a number                 l  an expression (numbers, $registers, + - * / % & | ^ ~ and parentheses)
 *   M  a size in MiB            o  a size in bytes             b  on or off
 *   O  options KEY=VALUE,...    -x  a flag                     /  a format /COUNT FORMAT SIZE */
#ifndef RHEA_CONTROL_HMP_H
#define RHEA_CONTROL_HMP_H

#include <glib.h>
#include <json-c/json.h>
#include "rhea/base/error.h"
#include "rhea/vm/vm.h"

struct hmp {
    struct vm *vm;
    GString *out;
    int *cpu;                   /* index of the CPU that info registers, x, ... look at */
};
struct hmp_command {
    const char *name;           /* "stop|s" */
    const char *params;         /* "value:M" */
    const char *params_text;    /* as help shows them; NULL: made of params */
    const char *help;
    void (*run)(struct hmp *h, struct json_object *args);
};

void hmp_printf(struct hmp *h, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* "Error: sentence\nhint\n", and clears. */
void hmp_error(struct hmp *h, struct error *err);
struct vcpu *hmp_cpu(struct hmp *h);            /* NULL, after a message, when the machine has none */
bool hmp_expression(struct hmp *h, const char **text, uint64_t *out, struct error *err);
/* Arguments of a command, parsed. NULL with err. */
struct json_object *hmp_arguments(struct hmp *h, const char *params, const char *line, struct error *err);
/* Runs a QMP command; tells an error. The result, or NULL. */
bool hmp_qmp(struct hmp *h, const char *command, struct json_object *args, struct json_object **ret);

extern const struct hmp_command hmp_commands[], hmp_info_commands[];    /* end with a NULL name */
extern const struct hmp_command hmp_block_commands[], hmp_memory_commands[];
void hmp_info_block_jobs(struct hmp *h, struct json_object *args);
void hmp_info_snapshots(struct hmp *h, struct json_object *args);
/* Completions of a partial line: whole lines; caller frees. */
GPtrArray *hmp_complete(struct vm *vm, const char *line);
void hmp_help(struct hmp *h, struct json_object *args);
void hmp_info(struct hmp *h, struct json_object *args);
bool hmp_name_matches(const char *names, const char *word);

/* hmp-memory.c: guest memory as CPU v sees it (physical: v NULL). false: some page is not there. */
bool guest_memory_read(struct vm *vm, struct vcpu *v, uint64_t addr, void *buf, uint64_t len);

/* readline.c: a line editor */
struct readline;
struct readline *readline_new(void (*print)(void *opaque, const char *text, size_t len),
                              void (*line)(void *opaque, const char *text),
                              GPtrArray *(*complete)(void *opaque, const char *text), void *opaque);
void readline_free(struct readline *rl);
void readline_byte(struct readline *rl, uint8_t c);
void readline_prompt(struct readline *rl);
void readline_reset(struct readline *rl);
const char *readline_history(struct readline *rl, unsigned n);  /* oldest first; NULL: no more */

#endif
