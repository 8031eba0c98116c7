/* Libraries opened when they are needed. */
#include <dlfcn.h>
#include "rhea/base/library.h"

static bool load_locked(struct library *l, struct error *err)
{
    void *handle = NULL;

    for (unsigned i = 0; l->sonames[i] && !handle; i++)
        handle = dlopen(l->sonames[i], RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return error_setf(err, ERR_GENERIC, l->hint, "cannot load %s: %s", l->sonames[0], dlerror());
    for (const struct library_symbol *s = l->symbols; s->name; s++) {
        *s->at = dlsym(handle, s->name);
        if (!*s->at) {
            dlclose(handle);
            return error_setf(err, ERR_GENERIC, l->hint, "%s has no %s", l->sonames[0], s->name);
        }
    }
    return true;
}

bool library_load(struct library *l, struct error *err)
{
    g_mutex_lock(&l->lock);
    l->loaded = l->loaded || load_locked(l, err);
    g_mutex_unlock(&l->lock);
    return l->loaded;
}
