/* Firmware and ROM files by name. */
#include <string.h>
#include <glib.h>
#include "rhea/vm/vm.h"

/* Where distributions put them; -L comes first. */
static const char *const directories[] = { "/usr/local/share/rhea", "/usr/share/rhea", "/usr/share/seabios", "/usr/share/OVMF",
                                           "/usr/share/ovmf", "/usr/lib/ipxe/qemu", "/usr/share/qemu", NULL };

char *firmware_find(struct vm *vm, const char *name)
{
    g_auto(GStrv) own = vm->config.firmware_path ? g_strsplit(vm->config.firmware_path, ":", -1) : NULL;

    if (strchr(name, '/') || g_file_test(name, G_FILE_TEST_EXISTS))
        return g_strdup(name);
    for (unsigned i = 0; own && own[i]; i++) {
        g_autofree char *path = g_build_filename(own[i], name, NULL);

        if (g_file_test(path, G_FILE_TEST_EXISTS))
            return g_steal_pointer(&path);
    }
    for (unsigned i = 0; directories[i]; i++) {
        g_autofree char *path = g_build_filename(directories[i], name, NULL);

        if (g_file_test(path, G_FILE_TEST_EXISTS))
            return g_steal_pointer(&path);
    }
    return g_strdup(name);
}
