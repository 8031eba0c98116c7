/* The command line of the system emulator: parsed into a description of the machine and of what runs beside it
 * (monitors, pid file, jail), checked as far as possible before anything is made. */
#ifndef RHEA_CONTROL_CMDLINE_H
#define RHEA_CONTROL_CMDLINE_H

#include <stdbool.h>
#include <json-c/json.h>
#include "rhea/base/error.h"
#include "rhea/vm/vm.h"

struct cmdline {
    struct vm_config config;
    bool finished;              /* -help, -version, ... answered: the program ends with status 0 */
    bool explain;               /* rhea --explain: print the machine, do not run it */
    /* Options as given, in order; each an array of flat objects */
    struct json_object *objects, *chardevs, *blockdevs, *drives, *netdevs, *devices, *monitors, *nics;
    struct json_object *serials, *parallels;    /* arrays of short forms */
    struct json_object *cpu_topology;
    char *display, *vga;
    bool nographic, snapshot, no_defaults_net, machine_help;
    bool have_monitor, have_serial, have_parallel;
    /* process */
    bool daemonize, mem_lock, cpu_pm;
    char *pidfile, *runas, *chroot_dir, *log_file, *log_spec, *log_filter;
    char *process_name;
    struct json_object *sandbox;        /* NULL: off */
    struct json_object *fds;            /* -add-fd */
    struct json_object *semihosting;    /* NULL: off */
    GPtrArray *strings;         /* owned texts that config points to */
    bool (*made)(struct vm *vm, void *opaque, struct error *err);       /* more to do once the machine is made, or NULL */
    void *made_arg;
    const char *program;        /* as called, without directory */
};

struct cmdline *cmdline_new(const char *argv0);
void cmdline_free(struct cmdline *c);
/* Parses argv[1..]. false: nothing was made, err says why. Prints help where asked (c->finished). */
bool cmdline_parse(struct cmdline *c, int argc, char **argv, struct error *err);
/* -readconfig */
bool cmdline_read_config(struct cmdline *c, const char *path, struct error *err);
/* Fills in what was left out (default serial, monitor, NIC, machine) and checks the whole. */
bool cmdline_complete(struct cmdline *c, struct error *err);
void cmdline_print_help(void);
struct json_object *cmdline_query_options(const char *option, struct error *err);  /* query-command-line-options */
char *cmdline_explain(struct cmdline *c, struct vm *vm);   /* --explain: the machine, line by line; caller frees */

/* Makes the machine that c describes: backends, board, devices, monitors. The caller runs `loop`. */
struct vm *cmdline_make_vm(struct cmdline *c, struct loop *loop, struct error *err);

/* Runs the whole program: daemonize, jail, machine, loop. Returns the exit status. */
int system_main(int argc, char **argv);
/* The same for a program that adds something to the machine before it runs and monitors answer. */
int system_main_with(int argc, char **argv, bool (*made)(struct vm *vm, void *opaque, struct error *err), void *opaque);

#endif
