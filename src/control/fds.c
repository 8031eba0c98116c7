/* File descriptors that clients passed. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "control-state.h"
#include "rhea/vm/fds.h"

struct fdset_member { int fd; char *opaque; };
struct fdset { int64_t id; GArray *members; };

static void fd_free(void *fd)
{
    close(GPOINTER_TO_INT(fd) - 1);
}

static void fdset_free(void *opaque)
{
    struct fdset *s = opaque;

    for (unsigned i = 0; i < s->members->len; i++) {
        close(g_array_index(s->members, struct fdset_member, i).fd);
        g_free(g_array_index(s->members, struct fdset_member, i).opaque);
    }
    g_array_free(s->members, true);
    g_free(s);
}

struct control_state *control_state(struct vm *vm)
{
    if (!vm->control) {
        vm->control = g_new0(struct control_state, 1);
        vm->control->monitors = g_ptr_array_new();
        vm->control->fds = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, fd_free);
        vm->control->fdsets = g_ptr_array_new_with_free_func(fdset_free);
    }
    return vm->control;
}

void vm_fds_cleanup(struct vm *vm)
{
    struct control_state *c = vm->control;

    if (!c)
        return;
    vm->control = NULL;
    g_ptr_array_free(c->monitors, true);
    g_hash_table_destroy(c->fds);
    g_ptr_array_free(c->fdsets, true);
    g_free(c);
}

/* ---- by name. Kept as fd + 1: 0 is a descriptor too */

void vm_keep_fd(struct vm *vm, const char *name, int fd)
{
    g_hash_table_replace(control_state(vm)->fds, g_strdup(name), GINT_TO_POINTER(fd + 1));
}

int vm_take_fd(struct vm *vm, const char *name)
{
    void *key, *value;

    if (!g_hash_table_steal_extended(control_state(vm)->fds, name, &key, &value))
        return -1;
    g_free(key);
    return GPOINTER_TO_INT(value) - 1;
}

/* ---- in sets */

static struct fdset *fdset_find(struct vm *vm, int64_t id)
{
    GPtrArray *sets = control_state(vm)->fdsets;

    for (unsigned i = 0; i < sets->len; i++)
        if (((struct fdset *)sets->pdata[i])->id == id)
            return sets->pdata[i];
    return NULL;
}

bool fdset_add(struct vm *vm, int fd, int64_t set, const char *opaque, int64_t *set_out, struct error *err)
{
    struct fdset_member m = { fd, g_strdup(opaque) };
    struct fdset *s;

    if (fcntl(fd, F_GETFD) < 0) {
        g_free(m.opaque);
        return error_set_errno(err, errno, "leave it open in the calling process", "file descriptor %d", fd);
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    for (int64_t next = 0; set < 0; next++)
        if (!fdset_find(vm, next))
            set = next;
    s = fdset_find(vm, set);
    if (!s) {
        s = g_new0(struct fdset, 1);
        s->id = set;
        s->members = g_array_new(false, false, sizeof(m));
        g_ptr_array_add(control_state(vm)->fdsets, s);
    }
    g_array_append_val(s->members, m);
    if (set_out)
        *set_out = set;
    return true;
}

bool fdset_remove(struct vm *vm, int64_t set, int64_t fd, struct error *err)
{
    struct fdset *s = fdset_find(vm, set);
    bool found = false;

    for (unsigned i = 0; s && i < s->members->len;) {
        struct fdset_member *m = &g_array_index(s->members, struct fdset_member, i);

        if (fd >= 0 && m->fd != fd) {
            i++;
            continue;
        }
        close(m->fd);
        g_free(m->opaque);
        g_array_remove_index(s->members, i);
        found = true;
    }
    if (!found)
        return error_setf(err, ERR_GENERIC, "query-fdsets lists them", "there is no such descriptor in set %d",
                          (int)set);
    if (!s->members->len)
        g_ptr_array_remove(control_state(vm)->fdsets, s);
    return true;
}

struct json_object *fdset_query(struct vm *vm)
{
    struct json_object *list = json_object_new_array();
    GPtrArray *sets = control_state(vm)->fdsets;

    for (unsigned i = 0; i < sets->len; i++) {
        struct fdset *s = sets->pdata[i];
        struct json_object *o = json_object_new_object(), *fds = json_object_new_array();

        json_object_object_add(o, "fdset-id", json_object_new_int64(s->id));
        json_object_object_add(o, "fds", fds);
        for (unsigned k = 0; k < s->members->len; k++) {
            struct fdset_member *m = &g_array_index(s->members, struct fdset_member, k);
            struct json_object *fd = json_object_new_object();

            json_object_object_add(fd, "fd", json_object_new_int(m->fd));
            if (m->opaque)
                json_object_object_add(fd, "opaque", json_object_new_string(m->opaque));
            json_object_array_add(fds, fd);
        }
        json_object_array_add(list, o);
    }
    return list;
}

int fdset_open(struct vm *vm, const char *path, int flags, int mode)
{
    static const char prefix[] = "/dev/fdset/";
    struct fdset *s;
    char *end;
    long long id;

    if (strncmp(path, prefix, sizeof(prefix) - 1))
        return open(path, flags | O_CLOEXEC, mode);
    id = strtoll(path + sizeof(prefix) - 1, &end, 10);
    s = *end ? NULL : fdset_find(vm, id);
    for (unsigned i = 0; s && i < s->members->len; i++) {
        int fd = g_array_index(s->members, struct fdset_member, i).fd, have = fcntl(fd, F_GETFL);

        if (have >= 0 && (have & O_ACCMODE) == (flags & O_ACCMODE))
            return fcntl(fd, F_DUPFD_CLOEXEC, 3);
    }
    errno = s ? EACCES : ENOENT;
    return -1;
}
