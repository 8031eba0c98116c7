/* Options of a block node, written in tests as on a command line. */
#ifndef NODE_OPTIONS_H
#define NODE_OPTIONS_H

#include <glib.h>
#include <stdarg.h>
#include "rhea/base/error.h"
#include "rhea/base/options.h"

static struct json_object *json(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
static struct json_object *json(const char *fmt, ...)
{
    struct error err = ERROR_INIT;
    g_autofree char *text = NULL;
    struct json_object *o;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    o = options_parse(text, NULL, &err);
    if (!o)
        g_error("%s: %s", text, err.msg);
    return o;
}

#endif
