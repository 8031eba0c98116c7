/* The monitor for people: disks, their snapshots and jobs, where it is more than a QMP command in words. */
#include <stdlib.h>
#include <string.h>
#include "block/io-command.h"
#include "control/hmp.h"
#include "rhea/base/options.h"
#include "rhea/block/job.h"

typedef struct json_object json;

static json *args_new(const char *key, const char *value)
{
    json *o = json_object_new_object();

    json_object_object_add(o, key, json_object_new_string(value));
    return o;
}

static void put(json *o, const char *key, const char *value)
{
    if (value)
        json_object_object_add(o, key, json_object_new_string(value));
}

static bool flag(json *args, const char *name)
{
    json *v;

    return json_object_object_get_ex(args, name, &v) && json_object_get_boolean(v);
}

static void hmp_snapshot_blkdev(struct hmp *h, json *args)
{
    const char *file = option_str(args, "file", NULL);
    json *o;

    if (!file) {
        hmp_printf(h, "Error: snapshot_blkdev needs a file for the new image\n");
        return;
    }
    o = args_new("device", option_str(args, "device", ""));
    put(o, "snapshot-file", file);
    put(o, "format", option_str(args, "format", NULL));
    put(o, "mode", flag(args, "reuse") ? "existing" : "absolute-paths");
    hmp_qmp(h, "blockdev-snapshot-sync", o, NULL);
}

static void hmp_snapshot_delete(struct hmp *h, json *args)
{
    json *o = args_new("device", option_str(args, "device", ""));

    put(o, "name", option_str(args, "name", NULL));
    put(o, "id", option_str(args, "id", NULL));
    hmp_qmp(h, "blockdev-snapshot-delete-internal-sync", o, NULL);
}

static json *copy_args(json *args)
{
    json *o = args_new("device", option_str(args, "device", ""));

    put(o, "target", option_str(args, "target", NULL));
    put(o, "format", option_str(args, "format", NULL));
    put(o, "mode", flag(args, "reuse") ? "existing" : "absolute-paths");
    put(o, "sync", flag(args, "full") ? "full" : "top");
    return o;
}

static void hmp_drive_mirror(struct hmp *h, json *args)
{
    hmp_qmp(h, "drive-mirror", copy_args(args), NULL);
}

static void hmp_drive_backup(struct hmp *h, json *args)
{
    json *o = copy_args(args);

    json_object_object_add(o, "compress", json_object_new_boolean(flag(args, "compress")));
    hmp_qmp(h, "drive-backup", o, NULL);
}

static void hmp_drive_del(struct hmp *h, json *args)
{
    struct error err = ERROR_INIT;

    if (!block_del_drive(h->vm, option_str(args, "id", ""), &err))
        hmp_error(h, &err);
}

static void hmp_commit(struct hmp *h, json *args)
{
    struct block_graph *g = block_graph_of(h->vm);
    const char *device = option_str(args, "device", "");
    bool all = !strcmp(device, "all"), any = false;

    for (unsigned i = 0; i < g->backends->len; i++) {
        struct block_backend *b = g_ptr_array_index(g->backends, i);
        struct block_node *n = node_skip_filters(b->root);
        struct error err = ERROR_INIT;

        if (b->job || (all ? !n || !n->backing : strcmp(b->name, device)))
            continue;
        any = true;
        if (!block_commit_now(g, n, &err))
            hmp_error(h, &err);
    }
    if (!any && !all)
        hmp_printf(h, "Error: Device '%s' not found\ninfo block lists them\n", device);
}

void hmp_info_snapshots(struct hmp *h, json *args)
{
    g_autofree char *text = block_snapshots_text(h->vm);

    hmp_printf(h, "%s", text);
}

void hmp_info_block_jobs(struct hmp *h, json *args)
{
    json *list = jobs_query(block_graph_of(h->vm), true);
    size_t count = json_object_array_length(list);

    if (!count)
        hmp_printf(h, "No active jobs\n");
    for (size_t i = 0; i < count; i++) {
        json *o = json_object_array_get_idx(list, i);
        const char *type = option_str(o, "type", "");
        int64_t done = 0, all = 0, speed = 0;

        option_int(o, "offset", 0, &done, NULL);
        option_int(o, "len", 0, &all, NULL);
        option_int(o, "speed", 0, &speed, NULL);
        if (strcmp(type, "stream"))
            hmp_printf(h, "Type %s, device %s", type, option_str(o, "device", ""));
        else
            hmp_printf(h, "Streaming device %s", option_str(o, "device", ""));
        hmp_printf(h, ": Completed %" PRId64 " of %" PRId64 " bytes, speed limit %" PRId64 " bytes/s\n", done, all, speed);
    }
    json_object_put(list);
}

/* On the disk as its device sees it, whatever the guest does to it meanwhile. */
static void hmp_qemu_io(struct hmp *h, json *args)
{
    struct block_graph *g = block_graph_of(h->vm);
    const char *name = option_str(args, "device", "");
    struct error err = ERROR_INIT;
    struct block_backend *device = flag(args, "qdev") ? backend_lookup(g, NULL, name, &err) : NULL, *b;
    struct block_node *n = device ? device->root : flag(args, "qdev") ? NULL : block_lookup(g, name, &err);
    char *text = NULL;
    size_t len = 0;
    FILE *out;

    if (!n) {
        if (!err.msg)
            error_setf(&err, ERR_GENERIC, "info block tells what there is", "Device '%s' has no medium", name);
        hmp_error(h, &err);
        return;
    }
    out = open_memstream(&text, &len);
    if (!out)
        return;
    b = backend_new(g, "", n);
    block_io_backend(b, option_str(args, "command", ""), out);
    backend_free(b);
    fclose(out);
    hmp_printf(h, "%s", text);
    free(text);
}

/* unix:PATH, HOST:PORT, [HOST]:PORT */
static json *legacy_address(const char *text)
{
    json *o = json_object_new_object(), *data = json_object_new_object();
    const char *path = g_str_has_prefix(text, "unix:") ? text + 5 : NULL, *colon = strrchr(text, ':');
    size_t len = colon ? colon - text : 0;
    bool bracketed = len > 1 && text[0] == '[' && text[len - 1] == ']';
    g_autofree char *host = g_strndup(text + bracketed, len - 2 * bracketed);

    put(o, "type", path ? "unix" : "inet");
    if (path) {
        put(data, "path", path);
    } else {
        put(data, "host", host);
        put(data, "port", colon ? colon + 1 : text);
    }
    json_object_object_add(o, "data", data);
    return o;
}

static bool nbd_offer_all(struct hmp *h, bool writable)
{
    json *disks, *inserted, *args;
    bool ok = true;

    if (!hmp_qmp(h, "query-block", NULL, &disks))
        return false;
    for (size_t i = 0; ok && i < json_object_array_length(disks); i++) {
        json *disk = json_object_array_get_idx(disks, i);
        const char *name = option_str(disk, "device", "");

        if (!*name || !json_object_object_get_ex(disk, "inserted", &inserted))
            continue;
        args = args_new("device", name);
        json_object_object_add(args, "writable", json_object_new_boolean(writable && !flag(inserted, "ro")));
        ok = hmp_qmp(h, "nbd-server-add", args, NULL);
    }
    json_object_put(disks);
    return ok;
}

static void hmp_nbd_server_start(struct hmp *h, json *args)
{
    json *o = json_object_new_object();

    if (flag(args, "writable") && !flag(args, "all")) {
        hmp_printf(h, "Error: -w only valid together with -a\nnbd_server_add -w offers one disk to be written\n");
        json_object_put(o);
        return;
    }
    json_object_object_add(o, "addr", legacy_address(option_str(args, "address", "")));
    if (hmp_qmp(h, "nbd-server-start", o, NULL) && flag(args, "all") && !nbd_offer_all(h, flag(args, "writable")))
        hmp_qmp(h, "nbd-server-stop", NULL, NULL);
}

static void hmp_nbd_server_remove(struct hmp *h, json *args)
{
    json *o = args_new("name", option_str(args, "name", ""));

    put(o, "mode", flag(args, "force") ? "hard" : "safe");
    hmp_qmp(h, "nbd-server-remove", o, NULL);
}

static void hmp_change(struct hmp *h, json *args)
{
    const char *device = option_str(args, "device", "");
    json *o;

    if (!strcmp(device, "vnc")) {
        hmp_printf(h, "Error: the display's password is not changed this way\nset_password vnc PASSWORD\n");
        return;
    }
    o = args_new("device", device);
    put(o, "filename", option_str(args, "file", ""));
    put(o, "format", option_str(args, "format", NULL));
    put(o, "read-only-mode", option_str(args, "mode", NULL));
    if (flag(args, "force"))
        json_object_object_add(o, "force", json_object_new_boolean(true));
    hmp_qmp(h, "blockdev-change-medium", o, NULL);
}

const struct hmp_command hmp_block_commands[] = {
    { "change", "force:-f device:s file:F format:s? mode:s?", "[-f] DEVICE FILE [FORMAT [retain|read-only|read-write]]",
      "put another medium into a drive", hmp_change },
    { "nbd_server_start", "all:-a writable:-w address:s", "[-a] [-w] ADDRESS",
      "listen for NBD clients (HOST:PORT, unix:PATH); -a: offer all disks, -w: to be written", hmp_nbd_server_start },
    { "nbd_server_remove", "force:-f name:s", "[-f] NAME", "offer a disk no longer; -f: even to its clients", hmp_nbd_server_remove },
    { "qemu-io", "qdev:-d device:s command:s", "[-d] DEVICE \"COMMAND\"",
      "a command of rhea-io on a disk in use, by the name of its drive or node, or (-d) of its device", hmp_qemu_io },
    { "snapshot_blkdev", "reuse:-n device:s file:F? format:s?", "[-n] DEVICE [FILE] [FORMAT]",
      "let the disk go on in a new image over the old one; -n: in an image that is there", hmp_snapshot_blkdev },
    { "snapshot_delete_blkdev_internal", "device:s name:s id:s?", "DEVICE NAME [ID]", "delete an internal snapshot of a disk", hmp_snapshot_delete },
    { "drive_mirror", "reuse:-n full:-f device:s target:F format:s?", "[-n] [-f] DEVICE TARGET [FORMAT]",
      "copy a disk and follow it; -f: all of it, not only the top image; -n: into an image that is there", hmp_drive_mirror },
    { "drive_backup", "reuse:-n full:-f compress:-c device:s target:F format:s?", "[-n] [-f] [-c] DEVICE TARGET [FORMAT]",
      "copy a disk as it is now; -f, -n: as drive_mirror; -c: compressed", hmp_drive_backup },
    { "drive_del", "id:s", "DEVICE", "take the image out of a drive for good", hmp_drive_del },
    { "commit", "device:s", "DEVICE|all", "write what a disk's image holds into its backing image, and empty it", hmp_commit },
    { 0 }
};
