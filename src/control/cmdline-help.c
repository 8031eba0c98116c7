/* The lists that -machine help, -cpu help and -accel help print. */
#include <stdio.h>
#include <string.h>
#include "cmdline-internal.h"

static bool list_has(const char *list, const char *word)
{
    g_auto(GStrv) words = g_strsplit(list ? list : "", ",", -1);

    return g_strv_contains((const char *const *)words, word);
}

void help_machines(const struct guest *g)
{
    unsigned n;
    const struct board *const *all = boards(&n);

    printf("Machines:\n");
    for (unsigned i = 0; i < n; i++) {
        const struct board *b = all[i];

        if (b->guest && (g && !list_has(b->guest, g->name) && strcmp(b->guest, "*") != 0))
            continue;
        if (b->alias)
            printf("%-20s %s (alias of %s)\n", b->alias, b->summary, b->name);
        printf("%-20s %s%s%s\n", b->name, b->summary, b->is_default ? " (default)" : "",
               b->deprecated ? " (deprecated)" : "");
    }
}

static const struct prop *board_prop(const struct board *b, const char *name)
{
    for (const struct prop *p = b->props; p && p->name; p++)
        if (!strcmp(p->name, name))
            return p;
    return NULL;
}

void help_machine_options(const struct board *b)
{
    printf("Properties of %s:\n", b ? b->name : "every machine");
    for (const struct cmdline_param *p = machine_common_params; p->name; p++)
        if (!b || (!machine_property_is_void(p->name) && !board_prop(b, p->name)))
            printf("  %-28s %s\n", p->name, p->help);
    for (const struct prop *p = b ? b->props : NULL; p && p->name; p++)
        printf("  %-28s %s%s%s%s\n", p->name, p->help ? p->help : "", p->def ? " (default: " : "",
               p->def ? p->def : "", p->def ? ")" : "");
}

void help_accels(void)
{
    unsigned n;
    const struct accel *const *all = accels(&n);

    printf("Accelerators of this build:\n");
    for (unsigned i = 0; i < n; i++) {
        printf("%-8s %s\n", all[i]->name, all[i]->summary);
        if (all[i]->alias)
            printf("%-8s another name of %s\n", all[i]->alias, all[i]->name);
    }
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void help_cpus(const struct guest *g)
{
    unsigned n;
    int column = 2;

    if (!g)
        return;
    const struct cpu_model *models = g->models(&n);

    printf("CPU models:\n");
    for (unsigned i = 0; i < n; i++)
        printf("  %-22s %s%s\n", models[i].name, models[i].summary ? models[i].summary : "",
               models[i].deprecated ? " (deprecated)" : "");
    const struct cpu_feature *features = g->features(&n);
    g_autofree const char **names = g_new(const char *, n + 1);

    for (unsigned i = 0; i < n; i++)
        names[i] = features[i].name;
    qsort(names, n, sizeof(*names), compare_names);
    printf("\nFeatures (+NAME, -NAME or NAME=on|off after the model):\n ");
    for (unsigned i = 0; i < n; i++) {
        int len = strlen(names[i]) + 1;

        if (column + len > 100) {
            printf("\n ");
            column = 2;
        }
        printf(" %s", names[i]);
        column += len;
    }
    printf("\n");
}
