/* QMP: what of disks is offered to others. */
#include <string.h>
#include <unistd.h>
#include "block/export.h"
#include "control/qmp-schema.h"
#include "rhea/base/options.h"
#include "rhea/vm/fds.h"

enum { CONNECTIONS = 100, HANDSHAKE_SECONDS = 10 };

/* ---- the NBD server */

/* The older form of an address has its members in `data`. A named descriptor (getfd) becomes its number. */
static struct json_object *address_plain(struct vm *vm, struct json_object *legacy, int *fd)
{
    struct json_object *a = json_object_new_object(), *data = NULL;

    *fd = -1;
    json_object_object_add(a, "type", json_object_new_string(option_str(legacy, "type", "")));
    if (json_object_object_get_ex(legacy, "data", &data) && json_object_is_type(data, json_type_object)) {
        json_object_object_foreach(data, key, v)
            json_object_object_add(a, key, json_object_get(v));
    }
    if (!strcmp(option_str(a, "type", ""), "fd") && (*fd = vm_take_fd(vm, option_str(a, "str", ""))) >= 0) {
        g_autofree char *number = g_strdup_printf("%d", *fd);

        json_object_object_add(a, "str", json_object_new_string(number));
    }
    return a;
}

bool qmp_nbd_server_start(struct vm *vm, const struct nbd_server_start_args *args, struct error *err)
{
    struct nbd_server_options o = { .tls_creds = args->tls_creds, .tls_authz = args->tls_authz, .max_connections = CONNECTIONS,
                                    .handshake_seconds = HANDSHAKE_SECONDS };
    bool ok;
    int fd;

    if (args->has_max_connections && (args->max_connections < 0 || args->max_connections > UINT32_MAX))
        return error_set(err, ERR_GENERIC, "max-connections is a number from 0 (any) up", NULL);
    if (args->has_handshake_max_seconds && (args->handshake_max_seconds < 0 || args->handshake_max_seconds > UINT32_MAX))
        return error_set(err, ERR_GENERIC, "handshake-max-seconds is a number from 0 (any) up", NULL);
    if (args->has_max_connections)
        o.max_connections = args->max_connections;
    if (args->has_handshake_max_seconds)
        o.handshake_seconds = args->handshake_max_seconds;
    o.addr = address_plain(vm, args->addr, &fd);
    ok = nbd_server_start(block_graph_of(vm), &o, err);
    json_object_put(o.addr);
    if (fd >= 0)
        close(fd);
    return ok;
}

static void put(struct json_object *o, const char *key, const char *value)
{
    if (value)
        json_object_object_add(o, key, json_object_new_string(value));
}

bool qmp_nbd_server_add(struct vm *vm, const struct nbd_server_add_args *args, struct error *err)
{
    struct block_graph *g = block_graph_of(vm);
    struct block_node *n = block_lookup(g, args->device, err);
    struct json_object *o, *bitmaps;
    bool ok;

    if (!n)
        return false;
    o = json_object_new_object();
    put(o, "type", "nbd");
    put(o, "id", args->name ? args->name : args->device);
    put(o, "node-name", n->name);
    put(o, "name", args->name ? args->name : args->device);
    put(o, "description", args->description);
    json_object_object_add(o, "writable", json_object_new_boolean(args->has_writable && args->writable && !n->read_only));
    if (args->bitmap) {
        bitmaps = json_object_new_array();
        json_object_array_add(bitmaps, json_object_new_string(args->bitmap));
        json_object_object_add(o, "bitmaps", bitmaps);
    }
    ok = export_add(g, o, err);
    json_object_put(o);
    return ok;
}

static bool export_remove(struct vm *vm, const char *id, const char *type, bool hard, struct error *err)
{
    struct block_export *e = export_find(block_graph_of(vm), id);

    if (!e || (type && strcmp(e->type->name, type)))
        return error_setf(err, ERR_GENERIC, "query-block-exports lists them", "Export '%s' is not found", id);
    if (e->shutting_down)
        return error_setf(err, ERR_GENERIC, "wait for BLOCK_EXPORT_DELETED", "Export '%s' is already shutting down", id);
    return export_del(e, hard, err);
}

bool qmp_nbd_server_remove(struct vm *vm, const struct nbd_server_remove_args *args, struct error *err)
{
    return export_remove(vm, args->name, "nbd", args->has_mode && args->mode == Q_BLOCKEXPORTREMOVEMODE_HARD, err);
}

bool qmp_nbd_server_stop(struct vm *vm, struct error *err)
{
    if (!nbd_server_running(block_graph_of(vm)))
        return error_set(err, ERR_GENERIC, "NBD server not running", "nbd-server-start starts it");
    nbd_server_stop(block_graph_of(vm));
    return true;
}

/* ---- exports */

bool qmp_block_export_add(struct vm *vm, const struct block_export_add_args *args, struct error *err)
{
    return export_add(block_graph_of(vm), args->all, err);
}

bool qmp_block_export_del(struct vm *vm, const struct block_export_del_args *args, struct error *err)
{
    return export_remove(vm, args->id, NULL, args->has_mode && args->mode == Q_BLOCKEXPORTREMOVEMODE_HARD, err);
}

bool qmp_query_block_exports(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = export_query(block_graph_of(vm));
    return true;
}
