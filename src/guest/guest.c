/* The guests of this build, by the names query-target uses. */
#include <string.h>
#include "rhea/guest/guest.h"

static const struct guest *const guests[] = { &guest_x86_64, &guest_i386, &guest_aarch64, &guest_arm,
                                             &guest_riscv64, &guest_riscv32 };

const struct guest *guest_find(const char *name)
{
    for (unsigned n = 0; n < sizeof(guests) / sizeof(guests[0]); n++)
        if (!strcmp(guests[n]->name, name))
            return guests[n];
    return NULL;
}
