/* Shared libraries that few runs need, with many libraries of their own: opened when first used, so that all other runs start
 * without them. */
#ifndef RHEA_BASE_LIBRARY_H
#define RHEA_BASE_LIBRARY_H

#include <glib.h>
#include "rhea/base/error.h"

struct library_symbol { const char *name; void **at; };
struct library {                /* static, one for each use */
    const char *sonames[3];     /* tried in turn: "libcurl-gnutls.so.4" ...; ends with NULL */
    const char *hint;           /* how to get it */
    const struct library_symbol *symbols;       /* ends with a NULL name */
    GMutex lock;
    bool loaded;
};
/* Opens it, if that was not done before, and fills in its symbols. Any thread. It stays open. */
bool library_load(struct library *l, struct error *err);

#endif
