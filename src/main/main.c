/* One executable, many names: rhea, rhea-system-x86_64, rhea-img, qemu-system-i386, ... */
#include <string.h>
#include "rhea/control/cmdline.h"

typedef int main_fn(int argc, char **argv);

/* By what the name contains, first match; else the system emulator. */
static const struct { const char *part; main_fn *run; } programs[] = {
    { "-system-", system_main },
};

int main(int argc, char **argv)
{
    const char *slash = argc ? strrchr(argv[0], '/') : NULL, *name = slash ? slash + 1 : argc ? argv[0] : "rhea";

    if (!argc)
        return 2;
    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
        if (strstr(name, programs[i].part))
            return programs[i].run(argc, argv);
    return system_main(argc, argv);
}
