/* QMP: object tree, devices, objects, back ends, passed file descriptors. */
#include <string.h>
#include <unistd.h>
#include "control/monitor-internal.h"
#include "control/qmp-schema.h"
#include "rhea/base/options.h"
#include "rhea/block/block.h"
#include "rhea/net/net.h"
#include "rhea/vm/fds.h"
#include "rhea/vm/object.h"
#include "rhea/vm/qom.h"

/* ---- the tree */

bool qmp_qom_list(struct vm *vm, const struct qom_list_args *args, struct json_object **ret, struct error *err)
{
    *ret = qom_list(vm, args->path, err);
    return *ret;
}

bool qmp_qom_get(struct vm *vm, const struct qom_get_args *args, struct json_object **ret, struct error *err)
{
    *ret = qom_get(vm, args->path, args->property, err);
    return !error_is_set(err);
}

bool qmp_qom_set(struct vm *vm, const struct qom_set_args *args, struct error *err)
{
    return qom_set(vm, args->path, args->property, args->value, err);
}

bool qmp_qom_list_types(struct vm *vm, const struct qom_list_types_args *args, struct json_object **ret,
                        struct error *err)
{
    *ret = qom_list_types(vm, args->has_implements ? args->implements : NULL, !args->has_abstract || args->abstract);
    return true;
}

bool qmp_qom_list_properties(struct vm *vm, const struct qom_list_properties_args *args, struct json_object **ret,
                             struct error *err)
{
    *ret = qom_type_properties(vm, args->typename, err);
    return *ret;
}

bool qmp_device_list_properties(struct vm *vm, const struct device_list_properties_args *args,
                                struct json_object **ret, struct error *err)
{
    *ret = qom_device_properties(vm, args->typename, err);
    return *ret;
}

/* ---- devices */

bool qmp_device_add(struct vm *vm, const struct device_add_args *args, struct error *err)
{
    if (!option_str(args->all, "driver", NULL))
        return error_set(err, ERR_GENERIC, "Parameter 'driver' is missing", NULL);
    return device_create(vm, args->all, true, err);
}

bool qmp_device_del(struct vm *vm, const struct device_del_args *args, struct error *err)
{
    return device_unplug(vm, args->id, err);
}

bool qmp_object_add(struct vm *vm, const struct object_add_args *args, struct error *err)
{
    return object_add(vm, args->all, err);
}

bool qmp_object_del(struct vm *vm, const struct object_del_args *args, struct error *err)
{
    return object_del(vm, args->id, err);
}

/* ---- block */

bool qmp_blockdev_add(struct vm *vm, const struct blockdev_add_args *args, struct error *err)
{
    if (!option_str(args->all, "driver", NULL))
        return error_set(err, ERR_GENERIC, "Parameter 'driver' is missing", NULL);
    if (!option_str(args->all, "node-name", NULL))
        return error_set(err, ERR_GENERIC, "'node-name' must be specified for the root node", NULL);
    return block_add_node(vm, args->all, err);
}

bool qmp_blockdev_del(struct vm *vm, const struct blockdev_del_args *args, struct error *err)
{
    return block_del_node(vm, args->node_name, err);
}

bool qmp_query_block(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = block_query(vm);
    return true;
}

bool qmp_query_named_block_nodes(struct vm *vm, const struct query_named_block_nodes_args *args,
                                 struct json_object **ret, struct error *err)
{
    *ret = block_query_nodes(vm, args->has_flat && args->flat);
    return true;
}

bool qmp_x_debug_query_block_graph(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = block_query_graph(vm);
    return true;
}

bool qmp_query_blockstats(struct vm *vm, const struct query_blockstats_args *args, struct json_object **ret,
                          struct error *err)
{
    *ret = block_query_stats(vm, args->has_query_nodes && args->query_nodes);
    return true;
}

/* ---- network */

bool qmp_netdev_add(struct vm *vm, const struct netdev_add_args *args, struct error *err)
{
    if (!option_str(args->all, "type", NULL) || !option_str(args->all, "id", NULL))
        return error_set(err, ERR_GENERIC, "Parameter 'type' or 'id' is missing", NULL);
    return netdev_add(vm, args->all, err);
}

bool qmp_netdev_del(struct vm *vm, const struct netdev_del_args *args, struct error *err)
{
    return netdev_del(vm, args->id, err);
}

bool qmp_set_link(struct vm *vm, const struct set_link_args *args, struct error *err)
{
    return net_set_link(vm, args->name, args->up, err);
}

/* ---- character devices */

bool qmp_query_chardev(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = chardev_query(vm);
    return true;
}

bool qmp_query_chardev_backends(struct vm *vm, struct json_object **ret, struct error *err)
{
    static const char *const names[] = { "null", "stdio", "file", "pipe", "pty", "serial", "ringbuf", "socket", "udp" };

    *ret = json_object_new_array();
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        struct json_object *o = json_object_new_object();

        json_object_object_add(o, "name", json_object_new_string(names[i]));
        json_object_array_add(*ret, o);
    }
    return true;
}

bool qmp_chardev_add(struct vm *vm, const struct chardev_add_args *args, struct json_object **ret, struct error *err)
{
    struct json_object *all;

    if (!chardev_add(vm, args->all, err))
        return false;
    *ret = json_object_new_object();
    all = chardev_query(vm);
    for (size_t i = 0; i < json_object_array_length(all); i++) {
        struct json_object *o = json_object_array_get_idx(all, i);
        const char *filename = option_str(o, "filename", "");

        if (!strcmp(option_str(o, "label", ""), args->id) && g_str_has_prefix(filename, "pty:"))
            json_object_object_add(*ret, "pty", json_object_new_string(filename + strlen("pty:")));
    }
    json_object_put(all);
    return true;
}

bool qmp_chardev_remove(struct vm *vm, const struct chardev_remove_args *args, struct error *err)
{
    return chardev_del(vm, args->id, err);
}

bool qmp_ringbuf_read(struct vm *vm, const struct ringbuf_read_args *args, struct json_object **ret, struct error *err)
{
    bool base64 = args->has_format && args->format == Q_DATAFORMAT_BASE64;
    g_autofree char *data = NULL, *text = NULL;
    size_t len;

    if (args->size <= 0)
        return error_set(err, ERR_GENERIC, "size must be greater than zero", NULL);
    if (!chardev_ringbuf_read(vm, args->device, args->size, &data, &len, err))
        return false;
    text = base64 ? g_base64_encode((guchar *)data, len) : g_utf8_make_valid(data, len);
    *ret = json_object_new_string(text);
    return true;
}

bool qmp_ringbuf_write(struct vm *vm, const struct ringbuf_write_args *args, struct error *err)
{
    if (args->has_format && args->format == Q_DATAFORMAT_BASE64) {
        size_t len;
        g_autofree guchar *data = g_base64_decode(args->data, &len);

        return chardev_ringbuf_write(vm, args->device, (char *)data, len, err);
    }
    return chardev_ringbuf_write(vm, args->device, args->data, strlen(args->data), err);
}

/* ---- passed file descriptors */

static int session_fd(struct monitor *mon, struct error *err)
{
    int fd = mon ? chardev_take_fd(mon->fe) : -1;

    if (fd < 0)
        error_set(err, ERR_GENERIC, "No file descriptor supplied via SCM_RIGHTS",
                  "send it with the command, over a Unix socket");
    return fd;
}

bool qmp_getfd(struct monitor *mon, const struct getfd_args *args, struct error *err)
{
    int fd = session_fd(mon, err);

    if (fd < 0)
        return false;
    if (!*args->fdname || g_ascii_isdigit(*args->fdname)) {
        close(fd);
        return error_set(err, ERR_GENERIC, "Parameter 'fdname' expects a name not starting with a digit", NULL);
    }
    vm_keep_fd(mon->vm, args->fdname, fd);
    return true;
}

bool qmp_closefd(struct vm *vm, const struct closefd_args *args, struct error *err)
{
    int fd = vm_take_fd(vm, args->fdname);

    if (fd < 0)
        return error_setf(err, ERR_GENERIC, NULL, "File descriptor named '%s' not found", args->fdname);
    close(fd);
    return true;
}

bool qmp_add_fd(struct monitor *mon, const struct add_fd_args *args, struct json_object **ret, struct error *err)
{
    int fd = session_fd(mon, err);
    int64_t set;

    if (fd < 0)
        return false;
    if (args->has_fdset_id && args->fdset_id < 0) {
        close(fd);
        return error_set(err, ERR_GENERIC, "Parameter 'fdset-id' expects a non-negative value", NULL);
    }
    if (!fdset_add(mon->vm, fd, args->has_fdset_id ? args->fdset_id : -1, args->has_opaque ? args->opaque : NULL,
                   &set, err))
        return false;
    *ret = json_object_new_object();
    json_object_object_add(*ret, "fdset-id", json_object_new_int64(set));
    json_object_object_add(*ret, "fd", json_object_new_int(fd));
    return true;
}

bool qmp_remove_fd(struct vm *vm, const struct remove_fd_args *args, struct error *err)
{
    return fdset_remove(vm, args->fdset_id, args->has_fd ? args->fd : -1, err);
}

bool qmp_query_fdsets(struct vm *vm, struct json_object **ret, struct error *err)
{
    *ret = fdset_query(vm);
    return true;
}

bool qmp_human_monitor_command(struct vm *vm, const struct human_monitor_command_args *args, struct json_object **ret,
                               struct error *err)
{
    g_autofree char *text = NULL, *crlf = NULL;
    g_auto(GStrv) lines = NULL;

    if (args->has_cpu_index && (args->cpu_index < 0 || args->cpu_index >= (int64_t)vm->nvcpus))
        return error_set(err, ERR_GENERIC, "Parameter 'cpu-index' expects a CPU number", "query-cpus-fast lists them");
    text = hmp_run(vm, args->command_line, args->has_cpu_index ? args->cpu_index : 0);
    lines = g_strsplit(text, "\n", -1);
    crlf = g_strjoinv("\r\n", lines);
    *ret = json_object_new_string(crlf);
    return true;
}
