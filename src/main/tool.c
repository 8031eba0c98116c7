/* What the programs for disk images share: how an image is named and opened. */
#include "main/tool.h"

#include <stdio.h>
#include <string.h>
#include "rhea/base/options.h"
#include "rhea/control/version.h"

bool tool_cache(struct json_object *opts, const char *mode, struct error *err)
{
    static const char *const modes[] = { "none", "off", "writeback", "unsafe", "directsync", "writethrough", NULL };
    bool direct = !strcmp(mode, "none") || !strcmp(mode, "off") || !strcmp(mode, "directsync");
    struct json_object *o;

    if (!g_strv_contains(modes, mode))
        return error_setf(err, ERR_GENERIC, "it is none, writeback, unsafe, directsync or writethrough",
                          "Invalid cache option: %s", mode);
    o = json_object_new_object();
    json_object_object_add(o, "direct", json_object_new_boolean(direct));
    json_object_object_add(o, "no-flush", json_object_new_boolean(!strcmp(mode, "unsafe")));
    json_object_object_add(opts, "cache", o);
    return true;
}

/* A node with a file name and no driver is a file, as its children are. */
static void protocol_guess(struct json_object *o)
{
    const char *name = option_str(o, "filename", NULL);

    if (name && !json_object_object_get_ex(o, "driver", NULL))
        json_object_object_add(o, "driver", json_object_new_string(block_file_driver(name)));
}

/* Without a driver the format is that of the file. */
static struct block_node *guess_format(struct block_graph *g, struct json_object *given, const char *format,
                                       struct json_object *more, struct error *err)
{
    struct json_object *file;

    if (json_object_object_get_ex(given, "driver", NULL) || !json_object_object_get_ex(given, "file", &file) ||
        !json_object_is_type(file, json_type_object) || !option_str(file, "filename", NULL))
        return node_open(g, given, err);
    return node_open_file(g, option_str(file, "filename", NULL), format, more, err);
}

struct block_node *tool_open_by_options(struct block_graph *g, const char *text, const char *format, struct json_object *more,
                                        struct error *err)
{
    struct json_object *flat = options_parse(text, NULL, err), *given = flat ? options_nest(flat, err) : NULL;
    struct block_node *n = NULL;

    json_object_put(flat);
    if (!given)
        return NULL;
    json_object_object_foreach(more, key, v)
        if (!json_object_object_get_ex(given, key, NULL) && strcmp(key, "backing"))
            json_object_object_add(given, key, json_object_get(v));
    protocol_guess(given);
    n = guess_format(g, given, format, more, err);
    json_object_put(given);
    return n;
}

bool tool_readable(const struct block_node *n, struct error *err)
{
    for (; n; n = n->backing)
        if (n->keyless)
            return error_setf(err, ERR_GENERIC, "--object secret,id=ID,file=PATH --image-opts driver=qcow2,encrypt.key-secret=ID,file.filename=FILE (luks: key-secret)",
                              "'%s' is encrypted, and its key is missing", n->filename);
    return true;
}

void tool_options_free(char *const *texts, unsigned ntexts, char **const *lists, unsigned nlists)
{
    for (unsigned i = 0; i < ntexts; i++)
        g_free(texts[i]);
    for (unsigned i = 0; i < nlists; i++)
        g_strfreev(lists[i]);
}

void tool_print_version(void)
{
    printf("%s version %s (Rhea %s)\n", g_get_prgname(), COMPAT_VERSION, RHEA_VERSION);
}
