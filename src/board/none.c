/* The machine that is none: no CPU, no RAM, no device. Clients start it to ask a build what it can do. */
#include "rhea/vm/vm.h"

BOARD = {
    .name = "none", .summary = "empty machine", .max_cpus = 1,
};
