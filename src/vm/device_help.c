/* The texts of -device help and -device X,help. */
#include <string.h>
#include <glib.h>
#include "device_internal.h"

static const char *const categories[] = {
    "Controller/Bridge/Hub", "USB", "Storage", "Network", "Input", "Display", "Sound", "Misc", "CPU", "Watchdog", NULL,
};

static int by_name(gconstpointer a, gconstpointer b)
{
    const struct device_class *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static int category_of(const struct device_class *c)
{
    for (int i = 0; c->category && categories[i]; i++)
        if (strcmp(c->category, categories[i]) == 0)
            return i;
    return 7;   /* Misc */
}

static void list_category(GString *s, GPtrArray *all, int category)
{
    bool any = false;

    for (unsigned i = 0; i < all->len; i++) {
        const struct device_class *c = g_ptr_array_index(all, i);

        if (category_of(c) != category)
            continue;
        if (!any)
            g_string_append_printf(s, "%s%s devices:\n", s->len ? "\n" : "", categories[category]);
        any = true;
        g_string_append_printf(s, "name \"%s\"", c->name);
        if (c->bus)
            g_string_append_printf(s, ", bus %s", c->bus);
        if (c->alias)
            g_string_append_printf(s, ", alias \"%s\"", c->alias);
        if (c->summary)
            g_string_append_printf(s, ", desc \"%s\"", c->summary);
        g_string_append(s, "\n");
    }
}

static char *device_list(void)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    GString *s = g_string_new(NULL);
    unsigned n;
    const struct device_class *const *c = device_classes(&n);

    for (unsigned i = 0; i < n; i++)
        if (c[i]->user_creatable)
            g_ptr_array_add(all, (void *)c[i]);
    g_ptr_array_sort(all, by_name);
    for (int i = 0; categories[i]; i++)
        list_category(s, all, i);
    return g_string_free(s, FALSE);
}

static bool prop_line(const struct prop *p, void *arg)
{
    g_autofree char *head = g_strdup_printf("%s=<%s>", p->name, prop_type_name(p));
    g_autofree char *values = p->type == PROP_ENUM ? g_strjoinv("/", (char **)p->values) : NULL;
    GString *s = g_string_new(NULL);

    g_string_append_printf(s, "  %-22s", head);
    if (p->help || values)
        g_string_append_printf(s, " - %s%s%s", p->help ? p->help : "", p->help && values ? ": " : "", values ? values : "");
    if (p->def)
        g_string_append_printf(s, " (default: %s)", p->def);
    g_string_append(s, "\n");
    g_ptr_array_add(arg, g_string_free(s, FALSE));
    return true;
}

static int by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char *device_help(const char *class_name)
{
    const struct device_class *c;
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    GString *s;

    if (!class_name)
        return device_list();
    c = device_class_find(class_name);
    if (!c)
        return NULL;
    s = g_string_new(NULL);
    g_string_append_printf(s, "%s options:\n", c->name);
    device_class_each_prop(c, prop_line, lines);
    g_ptr_array_sort(lines, by_text);
    for (unsigned i = 0; i < lines->len; i++)
        g_string_append(s, g_ptr_array_index(lines, i));
    return g_string_free(s, FALSE);
}
