/* rhea-img info, check, map, measure, snapshot, bitmap: what looks at an image, or at what it keeps beside the disk. */
#include "main/img.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "block/graph.h"
#include "rhea/block/bitmap.h"

/* ---- info */

static void print_snapshots(struct json_object *list)
{
    g_autofree char *table = snapshots_table(list);

    printf("Snapshot list:\n%s", table);
}

/* Lists and objects within are indented, list items numbered. */
static void print_value(const char *name, struct json_object *v, int indent)
{
    if (json_object_is_type(v, json_type_array)) {
        printf("%*s%s:\n", indent, "", name);
        for (size_t i = 0; i < json_object_array_length(v); i++) {
            g_autofree char *item = g_strdup_printf("[%zu]", i);

            print_value(item, json_object_array_get_idx(v, i), indent + 4);
        }
    } else if (json_object_is_type(v, json_type_object)) {
        printf("%*s%s:\n", indent, "", name);
        json_object_object_foreach(v, key, sub) {
            g_autofree char *plain = g_strdelimit(g_strdup(key), "-", ' ');

            print_value(plain, sub, indent + 4);
        }
    } else {
        printf("%*s%s: %s\n", indent, "", name, json_object_get_string(v));
    }
}

static void print_specific(struct json_object *o)
{
    struct json_object *data;

    if (!json_object_object_get_ex(o, "data", &data))
        return;
    printf("Format specific information:\n");
    json_object_object_foreach(data, key, v) {
        g_autofree char *name = g_strdelimit(g_strdup(key), "-", ' ');

        print_value(name, v, 4);
    }
}

static void print_info(struct json_object *o)
{
    struct json_object *v;
    uint64_t virtual, actual;
    const char *backing = option_str(o, "backing-filename", NULL),
               *full = option_str(o, "full-backing-filename", "");
    g_autofree char *text = NULL, *used = NULL;

    option_size(o, "virtual-size", 0, &virtual, NULL);
    option_size(o, "actual-size", 0, &actual, NULL);
    text = block_size_text(virtual);
    used = block_size_text(actual);
    printf("image: %s\nfile format: %s\nvirtual size: %s (%" PRIu64 " bytes)\n", option_str(o, "filename", ""),
           option_str(o, "format", ""), text, virtual);
    printf("disk size: %s\n", json_object_object_get_ex(o, "actual-size", NULL) ? used : "unavailable");
    if (json_object_object_get_ex(o, "encrypted", NULL))
        printf("encrypted: yes\n");
    if (json_object_object_get_ex(o, "cluster-size", &v))
        printf("cluster_size: %s\n", json_object_get_string(v));
    if (backing && strcmp(backing, full))
        printf("backing file: %s (actual path: %s)\n", backing, full);
    else if (backing)
        printf("backing file: %s\n", backing);
    if (json_object_object_get_ex(o, "backing-filename-format", &v))
        printf("backing file format: %s\n", json_object_get_string(v));
    if (json_object_object_get_ex(o, "snapshots", &v))
        print_snapshots(v);
    if (json_object_object_get_ex(o, "format-specific", &v))
        print_specific(v);
}

int img_info(struct img *c)
{
    struct json_object *list;
    struct block_node *n;

    c->no_backing = !c->chain;
    n = img_open(c, c->args[0], c->format, false, NULL);
    if (!n)
        return img_fail(c, EXIT_BAD);
    list = json_object_new_array();
    for (struct block_node *i = n; i; i = c->chain ? i->backing : NULL)
        json_object_array_add(list, node_image_info(i));
    if (c->json) {
        struct json_object *what = c->chain ? list : json_object_array_get_idx(list, 0);

        img_print_json(what);
    } else {
        for (size_t i = 0; i < json_object_array_length(list); i++) {
            printf("%s", i ? "\n" : "");
            print_info(json_object_array_get_idx(list, i));
        }
    }
    json_object_put(list);
    node_unref(n);
    return 0;
}

/* ---- check */

struct check_run { struct img *c; struct block_node *n; unsigned repair; struct block_check out; bool ok; };

static void check_run(void *arg)
{
    struct check_run *r = arg;

    r->ok = r->n->drv->check(r->n, r->repair, &r->out, &r->c->err);
}

static void print_check_json(struct block_node *n, const struct block_check *k)
{
    struct json_object *o = json_object_new_object();
    const struct { const char *name; uint64_t v; bool always; } fields[] = {
        { "image-end-offset", k->end_offset, k->end_offset }, { "total-clusters", k->total_clusters, k->total_clusters },
        { "check-errors", k->check_errors, true }, { "allocated-clusters", k->allocated_clusters, k->total_clusters },
        { "fragmented-clusters", k->fragmented_clusters, false }, { "compressed-clusters", k->compressed_clusters, false },
        { "corruptions", k->errors, false }, { "leaks", k->leaks, false },
        { "corruptions-fixed", k->errors_fixed, false }, { "leaks-fixed", k->leaks_fixed, false },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++)
        if (fields[i].always || fields[i].v)
            json_object_object_add(o, fields[i].name, json_object_new_uint64(fields[i].v));
    json_object_object_add(o, "filename", json_object_new_string(n->filename));
    json_object_object_add(o, "format", json_object_new_string(n->drv->name));
    img_print_json(o);
    json_object_put(o);
}

static void print_check(const struct block_check *k)
{
    if (k->leaks_fixed || k->errors_fixed)
        printf("The following inconsistencies were found and repaired:\n\n    %" PRIu64 " leaked clusters\n    %" PRIu64
               " corruptions\n\n", k->leaks_fixed, k->errors_fixed);
    if (!k->errors && !k->leaks && !k->check_errors)
        printf("No errors were found on the image.\n");
    if (k->errors)
        printf("\n%" PRIu64 " errors were found on the image.\nData may be corrupted, or further writes to the image may "
               "corrupt it.\n", k->errors);
    if (k->leaks)
        printf("\n%" PRIu64 " leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.\n",
               k->leaks);
    if (k->check_errors)
        printf("\n%" PRIu64 " internal errors have occurred during the check.\n", k->check_errors);
    if (k->total_clusters)
        printf("%" PRIu64 "/%" PRIu64 " = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed clusters\n",
               k->allocated_clusters, k->total_clusters, k->allocated_clusters * 100.0 / k->total_clusters,
               k->allocated_clusters ? k->fragmented_clusters * 100.0 / k->allocated_clusters : 0,
               k->allocated_clusters ? k->compressed_clusters * 100.0 / k->allocated_clusters : 0);
    if (k->end_offset)
        printf("Image end offset: %" PRIu64 "\n", k->end_offset);
}

int img_check(struct img *c)
{
    struct check_run r = { .c = c };
    bool write = c->repair != NULL;

    if (write && strcmp(c->repair, "leaks") && strcmp(c->repair, "all")) {
        error_set(&c->err, ERR_GENERIC, "-r takes 'leaks' or 'all'", NULL);
        return img_fail(c, EXIT_BAD);
    }
    r.repair = !write ? 0 : !strcmp(c->repair, "all") ? BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS : BLOCK_FIX_LEAKS;
    c->graph->repairing = write;
    c->no_backing = true;
    r.n = img_open(c, c->args[0], c->format, write, NULL);
    if (!r.n)
        return img_fail(c, EXIT_BAD);
    if (!r.n->drv->check) {
        error_setf(&c->err, ERR_GENERIC, NULL, "This image format does not support checks");
        node_unref(r.n);
        img_fail(c, EXIT_BAD);
        return EXIT_UNSUPPORTED;
    }
    block_run(c->graph, check_run, &r);
    if (r.ok && c->json)
        print_check_json(r.n, &r.out);
    else if (r.ok && !c->quiet)
        print_check(&r.out);
    node_unref(r.n);
    if (!r.ok)
        return img_fail(c, EXIT_BAD);
    return r.out.check_errors ? EXIT_BAD : r.out.errors ? EXIT_CORRUPT : r.out.leaks ? EXIT_LEAKS : 0;
}

/* ---- map */

struct extent { uint64_t start, length, offset; int depth, status; const char *file; };

static void extent_print(struct img *c, const struct extent *e, bool first)
{
    bool data = (e->status & STATUS_DATA) != 0, zero = (e->status & STATUS_ZERO) != 0;

    if (!e->length)
        return;
    if (!c->json) {
        if (data && !zero)
            printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", e->start, e->length, e->offset, e->file);
        return;
    }
    printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": %d, \"present\": %s, \"zero\": %s, \"data\": %s, "
           "\"compressed\": %s", first ? "[" : ",\n", e->start, e->length, e->depth,
           e->status & STATUS_ALLOCATED ? "true" : "false", zero ? "true" : "false", data ? "true" : "false",
           e->status & STATUS_COMPRESSED ? "true" : "false");
    if (e->status & STATUS_OFFSET)
        printf(", \"offset\": %" PRIu64, e->offset);
    printf("}");
}

struct map_run { struct img *c; struct block_node *n; int ret; };

static bool extent_joins(const struct extent *a, const struct extent *b)
{
    return a->status == b->status && a->depth == b->depth && a->file == b->file &&
           (!(a->status & STATUS_OFFSET) || a->offset + a->length == b->offset);
}

static void map_run(void *arg)
{
    struct map_run *r = arg;
    struct extent cur = { 0 }, e;
    bool first = true;

    uint64_t end = r->n->size;

    if (r->c->has_length && r->c->length < end - MIN(end, r->c->start))
        end = r->c->start + r->c->length;
    for (uint64_t off = r->c->start; off < end; off += e.length) {
        struct block_node *file = NULL;

        e = (struct extent){ .start = off };
        r->ret = node_status_above(r->n, off, end - off, &e.length, &e.offset, &file, &e.depth, false);
        if (r->ret < 0)
            return;
        e.status = r->ret;
        e.file = file ? file->filename : "";
        if (!r->c->json && (r->ret & STATUS_DATA) && !(r->ret & (STATUS_OFFSET | STATUS_ZERO))) {
            error_set(&r->c->err, ERR_GENERIC, "File contains external, encrypted or compressed clusters.",
                      "--output=json shows them too");
            r->ret = -ENOTSUP;
            return;
        }
        if (cur.length && extent_joins(&cur, &e)) {
            cur.length += e.length;
            continue;
        }
        extent_print(r->c, &cur, first);
        first = first && !cur.length;
        cur = e;
    }
    extent_print(r->c, &cur, first);
    if (r->c->json)
        printf("%s]\n", first && !cur.length ? "[" : "");
}

int img_map(struct img *c)
{
    struct map_run r = { .c = c };

    r.n = img_open(c, c->args[0], c->format, false, NULL);
    if (!r.n)
        return img_fail(c, EXIT_BAD);
    if (!c->json)
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    block_run(c->graph, map_run, &r);
    if (r.ret < 0 && !error_is_set(&c->err))
        error_set_errno(&c->err, -r.ret, NULL, "cannot map '%s'", c->args[0]);
    node_unref(r.n);
    return r.ret < 0 ? img_fail(c, EXIT_BAD) : 0;
}

/* ---- measure */

struct measure { const struct block_driver *drv; struct block_node *source; struct block_measure out; };

static void measure_run(void *arg)
{
    struct img_call *call = arg;
    struct measure *m = call->arg;

    call->ok = m->drv->measure(call->c->opts, m->source, &m->out, &call->c->err);
}

static bool measure_print(struct img *c, const struct block_measure *m)
{
    struct json_object *o;

    if (!c->json) {
        printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n", m->required, m->fully_allocated);
        if (m->has_bitmaps)
            printf("bitmaps size: %" PRIu64 "\n", m->bitmaps);
        return true;
    }
    o = json_object_new_object();
    if (m->has_bitmaps)
        json_object_object_add(o, "bitmaps", json_object_new_uint64(m->bitmaps));
    json_object_object_add(o, "required", json_object_new_uint64(m->required));
    json_object_object_add(o, "fully-allocated", json_object_new_uint64(m->fully_allocated));
    img_print_json(o);
    json_object_put(o);
    return true;
}

int img_measure(struct img *c)
{
    const char *format = c->output_format ? c->output_format : "raw";
    struct measure m = { .drv = block_driver_find(format) };
    bool ok = false;

    if (!m.drv || !m.drv->measure)
        error_setf(&c->err, ERR_GENERIC, "use -O qcow2 or -O raw", "format '%s' cannot be measured", format);
    else if (c->has_size == (c->nargs == 1))
        error_set(&c->err, ERR_GENERIC, "either --size N or one filename must be specified", NULL);
    else if (c->has_size)
        json_object_object_add(c->opts, "size", json_object_new_uint64(c->size));
    else if ((m.source = img_open(c, c->args[0], c->format, false, NULL)))
        img_view_snapshot(c, m.source);
    if (!error_is_set(&c->err))
        ok = img_call(c, m.source, measure_run, &m) && measure_print(c, &m.out);
    node_unref(m.source);
    return ok ? 0 : img_fail(c, EXIT_BAD);
}

/* ---- snapshot */

static void view_run(void *arg)
{
    struct img_call *call = arg;

    call->ok = call->n->drv->snapshot_view(call->n, call->arg, &call->c->err);
}

bool img_view_snapshot(struct img *c, struct block_node *n)
{
    g_autofree char *name = NULL;

    if (!c->snapshot)
        return true;
    if (!n->drv->snapshot_view)
        return error_setf(&c->err, ERR_GENERIC, NULL, "format '%s' has no internal snapshots", n->drv->name);
    name = snapshot_chosen(n, c->snapshot, &c->err);
    return name && img_call(c, n, view_run, name);
}

static void snapshot_run(void *arg)
{
    struct img_call *call = arg;
    const struct img_action *a = call->arg;
    const struct block_driver *drv = call->n->drv;
    int64_t now = g_get_real_time();
    g_autofree char *named = NULL;
    struct block_snapshot s = { .name = a->arg, .date_sec = now / 1000000, .date_nsec = now % 1000000 * 1000, .icount = UINT64_MAX };

    switch (a->what) {
    case 'c': call->ok = drv->snapshot_create(call->n, &s, &call->c->err); break;
    case 'a': call->ok = drv->snapshot_apply(call->n, a->arg, &call->c->err); break;
    case 'd':
        named = snapshot_named(call->n, a->arg);
        call->ok = drv->snapshot_delete(call->n, named ? named : a->arg, &call->c->err);
        break;
    default: break;
    }
}

int img_snapshot(struct img *c)
{
    struct img_action list = { 'l', NULL }, *a = c->actions->len ? &g_array_index(c->actions, struct img_action, 0) : &list;
    struct block_node *n;
    struct json_object *all;
    bool ok = true;

    if (c->actions->len > 1) {
        error_set(&c->err, ERR_GENERIC, "one of -l, -c, -a and -d at a time", NULL);
        return img_fail(c, EXIT_BAD);
    }
    c->no_backing = a->what == 'l' || a->what == 'd';
    n = img_open(c, c->args[0], c->format, a->what != 'l', NULL);
    if (!n)
        return img_fail(c, EXIT_BAD);
    if (!n->drv->snapshot_create) {
        ok = a->what == 'l' || error_setf(&c->err, ERR_GENERIC, "qcow2 has them: rhea-img convert -O qcow2",
                                          "format '%s' has no internal snapshots", n->drv->name);
    } else if (a->what == 'l') {
        all = n->drv->snapshots(n);
        if (all)
            print_snapshots(all);
        json_object_put(all);
    } else {
        ok = img_call(c, n, snapshot_run, a);
    }
    node_unref(n);
    return ok ? 0 : img_fail(c, EXIT_BAD);
}

/* ---- bitmap */

struct bitmap_run { struct block_node *source; const char *name; };

static bool bitmap_act(struct img *c, struct block_node *n, const char *name, const struct img_action *a, struct block_node *from)
{
    struct dirty_bitmap *b, *other;

    if (a->what == 'a')
        return bitmap_add(n, name, c->granularity, true, true, &c->err) != NULL;
    b = bitmap_find(n, name, &c->err);
    if (!b)
        return false;
    if (a->what == 'r')
        return bitmap_remove(b, &c->err);
    if (!bitmap_usable(b, true, &c->err))
        return false;
    switch (a->what) {
    case 'c': bitmap_clear(b); return true;
    case 'e':
    case 'd': b->enabled = a->what == 'e'; return true;
    default:
        other = bitmap_find(from, a->arg, &c->err);
        if (!other || !bitmap_usable(other, false, &c->err))
            return false;
        bitmap_merge(b, other);
        return true;
    }
}

static void bitmap_run(void *arg)
{
    struct img_call *call = arg;
    const struct bitmap_run *r = call->arg;
    struct img *c = call->c;

    for (unsigned i = 0; i < c->actions->len && call->ok; i++)
        call->ok = bitmap_act(c, call->n, r->name, &g_array_index(c->actions, struct img_action, i), r->source ? r->source : call->n);
}

static bool bitmap_merges(const struct img *c)
{
    for (unsigned i = 0; i < c->actions->len; i++)
        if (g_array_index(c->actions, struct img_action, i).what == 'm')
            return true;
    return false;
}

int img_bitmap(struct img *c)
{
    struct bitmap_run r = { .name = c->args[1] };
    struct block_node *n;
    bool ok;

    if (!c->actions->len) {
        error_set(&c->err, ERR_GENERIC, "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge", NULL);
        return img_fail(c, EXIT_BAD);
    }
    if (c->source_file && !bitmap_merges(c)) {
        error_set(&c->err, ERR_GENERIC, "Merge bitmap source file only supported with --merge", "add --merge SOURCE");
        return img_fail(c, EXIT_BAD);
    }
    c->no_backing = true;
    n = img_open(c, c->args[0], c->format, true, NULL);
    c->image_opts = false;
    ok = n && (!c->source_file || (r.source = img_open(c, c->source_file, c->source_format, false, NULL)));
    ok = ok && img_call(c, n, bitmap_run, &r);
    node_unref(r.source);
    node_unref(n);
    return ok ? 0 : img_fail(c, EXIT_BAD);
}

/* convert --bitmaps: as they are in the source, recording or not. */
bool img_copy_bitmaps(struct img *c, struct block_node *from, struct block_node *to)
{
    for (struct dirty_bitmap *b = from->bitmaps; b; b = b->next) {
        struct dirty_bitmap *copy;

        if (!b->persistent || (b->inconsistent && c->skip_broken_bitmaps))
            continue;
        if (b->inconsistent)
            return error_setf(&c->err, ERR_GENERIC, "--skip-broken-bitmaps leaves it out, rhea-img bitmap --remove deletes it",
                              "Cannot copy inconsistent bitmap '%s'", b->name);
        copy = bitmap_add(to, b->name, 1ull << b->granularity_bits, true, b->enabled, &c->err);
        if (!copy)
            return false;
        bitmap_merge(copy, b);
    }
    return true;
}
