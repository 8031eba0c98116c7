/* Properties of -machine that a board declares: set in its board data from the options. */
#include <string.h>
#include <glib.h>
#include "device_internal.h"
#include "rhea/base/options.h"
#include "vm_internal.h"

static const struct prop *board_prop(const struct board *b, const char *name)
{
    for (const struct prop *p = b->props; p && p->name; p++)
        if (strcmp(p->name, name) == 0)
            return p;
    return NULL;
}

static bool unknown(const struct board *b, const char *name, struct error *err)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autofree char *hint = NULL;
    const char *near;

    for (const struct prop *p = b->props; p && p->name; p++)
        g_ptr_array_add(names, (char *)p->name);
    g_ptr_array_add(names, NULL);
    near = nearest_spelling(name, (const char *const *)names->pdata);
    hint = near ? g_strdup_printf("did you mean '%s'?", near) : g_strdup_printf("-machine %s,help lists what it takes", b->name);
    return error_setf(err, ERR_GENERIC, hint, "Property '%s-machine.%s' not found", b->name, name);
}

bool board_props_apply(struct vm *vm, struct error *err)
{
    struct json_object *opts = vm->config.machine_opts;

    for (const struct prop *p = vm->board->props; p && p->name; p++)
        if (p->def && !prop_set(vm->board_data, p, p->def, err))
            return false;
    if (!opts)
        return true;
    json_object_object_foreach(opts, key, value) {
        const struct prop *p = board_prop(vm->board, key);
        g_autofree char *text = prop_text_of_json(p, value);

        if (!p)
            return unknown(vm->board, key, err);
        if (!prop_set(vm->board_data, p, text, err)) {
            error_prepend(err, "-machine");
            return false;
        }
    }
    return true;
}

void board_props_free(struct vm *vm)
{
    for (const struct prop *p = vm->board ? vm->board->props : NULL; vm->board_data && p && p->name; p++)
        prop_free(vm->board_data, p);
}
