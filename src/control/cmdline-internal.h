/* The option table that the command line, its help and query-command-line-options share. */
#ifndef RHEA_CONTROL_CMDLINE_INTERNAL_H
#define RHEA_CONTROL_CMDLINE_INTERNAL_H

#include "rhea/control/cmdline.h"

struct cmdline_param { const char *name, *type /* "string", "boolean", "number", "size" */, *help; };

struct cmdline_option {
    const char *name;                   /* NULL: a heading of -help, in `help` */
    const char *arg;                    /* text of the argument; NULL: takes none */
    const char *help;                   /* NULL: not listed (old spellings) */
    bool (*set)(struct cmdline *c, const char *arg, struct error *err);
    const char *refusal, *mend;         /* not in this build: what to say. Taken instead of set */
    const struct cmdline_param *params; /* ends with a NULL name; NULL: not checked here */
    const char *alias_of;
};

extern const struct cmdline_option cmdline_options[];   /* ends with neither name nor help */

const struct cmdline_option *cmdline_option_find(const char *name);
/* Refuses members of o that params does not list, with the nearest right spelling. */
bool cmdline_check(struct json_object *o, const struct cmdline_param *params, const char *what, struct error *err);
/* A copy that lives as long as c. */
const char *cmdline_keep(struct cmdline *c, const char *text);
bool text_is_help(const char *text);            /* "help" or "?" */

/* cmdline-help.c: each prints to stdout */
void help_machines(const struct guest *g);
void help_machine_options(const struct board *b);
bool machine_property_is_void(const char *name);   /* nothing to choose on a board that does not declare it itself */
void help_accels(void);
void help_cpus(const struct guest *g);
extern const struct cmdline_param machine_common_params[];

/* cmdline-complete.c */
bool cmdline_smp(struct cmdline *c, struct error *err);
bool cmdline_uses_stdio(const struct cmdline *c);

/* jail.c */
bool sandbox_enter(struct json_object *opts, struct error *err);
bool jail_enter(struct cmdline *c, struct error *err);  /* -chroot, -runas */

#endif
