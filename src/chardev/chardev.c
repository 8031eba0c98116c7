/* Character devices: the core between a back end (stdio, socket, ...) and its front ends (serial port, monitor).
 *
 * Input: the back end reads no more than chardev_room(); it waits in the front end's own buffer until the front end's
 * loop takes it. Output: written at once where the host takes it, else queued (bounded) and flushed by the main loop. */
#include "chardev/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "rhea/vm/fds.h"

enum { EVENTS_MAX = 16 };

struct chardev_fe {
    struct chardev *cd;
    const struct chardev_fe_ops *ops;
    void *opaque;
    struct loop *loop;
    gint refs;
    bool attached, scheduled, open;
    void (*writable)(void *opaque); void *writable_opaque;
    bool starved;               /* a write was cut short: tell when there is room */
    enum chardev_event events[EVENTS_MAX]; unsigned nevents;
    uint8_t in[CHARDEV_IN_MAX]; size_t in_len;
};

static const struct chardev_class *const classes[] = {
    &chardev_null, &chardev_stdio, &chardev_file, &chardev_pipe, &chardev_pty, &chardev_serial, &chardev_ringbuf,
    &chardev_socket, &chardev_udp,
};

/* ---- lives */

static void chardev_unref(void *opaque)
{
    struct chardev *cd = opaque;

    if (!g_atomic_int_dec_and_test(&cd->refs))
        return;
    for (unsigned i = 0; i < cd->nfds; i++)
        close(cd->fds[i]);
    if (cd->log_fd >= 0)
        close(cd->log_fd);
    g_byte_array_free(cd->out, true);
    g_ptr_array_free(cd->fes, true);
    g_mutex_clear(&cd->lock);
    g_free(cd->id);
    g_free(cd);
}

static void fe_unref(struct chardev_fe *fe)
{
    if (!g_atomic_int_dec_and_test(&fe->refs))
        return;
    chardev_unref(fe->cd);
    g_free(fe);
}

struct chardev *chardev_find(struct vm *vm, const char *id)
{
    return vm->chardevs && id ? g_hash_table_lookup(vm->chardevs, id) : NULL;
}

/* ---- what the back end should watch */

static struct chardev_fe *chardev_focused(struct chardev *cd)
{
    return cd->focus < cd->fes->len ? cd->fes->pdata[cd->focus] : NULL;
}

static bool fe_closing(const struct chardev_fe *fe);

static void chardev_watch(void *opaque)
{
    struct chardev *cd = opaque;
    bool in, out, closed;

    g_mutex_lock(&cd->lock);
    struct chardev_fe *fe = chardev_focused(cd);

    cd->arming = false;
    closed = cd->closed;
    in = fe && fe->in_len < CHARDEV_IN_MAX && !fe_closing(fe);
    out = cd->out->len > 0;
    g_mutex_unlock(&cd->lock);
    if (!closed && cd->cls->watch)
        cd->cls->watch(cd, in, out);
    chardev_unref(cd);
}

/* Under the lock: has chardev_watch() run on the main loop, soon. */
static void chardev_rewatch(struct chardev *cd)
{
    if (cd->arming || cd->closed)
        return;
    cd->arming = true;
    g_atomic_int_inc(&cd->refs);
    loop_post(cd->vm->loop, chardev_watch, cd);
}

/* ---- delivery to a front end, on its loop: events first, then as much input as it takes; but what a peer sent before
 * it left comes before the news that it left */

static bool fe_closing(const struct chardev_fe *fe)
{
    for (unsigned i = 0; i < fe->nevents; i++)
        if (fe->events[i] == CHR_CLOSED)
            return true;
    return false;
}

/* Under the lock, which it leaves for the call. false: the front end takes nothing. */
static bool fe_read(struct chardev_fe *fe)
{
    struct chardev *cd = fe->cd;
    uint8_t buf[CHARDEV_IN_MAX];
    size_t n;

    g_mutex_unlock(&cd->lock);
    n = fe->ops->can_read ? fe->ops->can_read(fe->opaque) : CHARDEV_IN_MAX;
    g_mutex_lock(&cd->lock);
    n = MIN(n, fe->in_len);
    if (!n || !fe->attached)
        return false;
    memcpy(buf, fe->in, n);
    fe->in_len -= n;
    memmove(fe->in, fe->in + n, fe->in_len);
    g_mutex_unlock(&cd->lock);
    fe->ops->read(fe->opaque, buf, n);
    g_mutex_lock(&cd->lock);
    return true;
}

static void fe_deliver(void *opaque)
{
    struct chardev_fe *fe = opaque;
    struct chardev *cd = fe->cd;

    g_mutex_lock(&cd->lock);
    fe->scheduled = false;
    while (fe->attached) {
        if (fe->nevents && fe->events[0] == CHR_CLOSED && fe->in_len && fe->ops->read && fe_read(fe))
            continue;
        if (fe->nevents) {
            enum chardev_event ev = fe->events[0];

            if (ev == CHR_CLOSED)
                fe->in_len = 0;
            memmove(fe->events, fe->events + 1, --fe->nevents * sizeof(ev));
            g_mutex_unlock(&cd->lock);
            if (fe->ops->event)
                fe->ops->event(fe->opaque, ev);
            g_mutex_lock(&cd->lock);
        } else if (fe->starved && cd->out->len < CHARDEV_OUT_MAX / 2 && fe->writable) {
            fe->starved = false;
            g_mutex_unlock(&cd->lock);
            fe->writable(fe->writable_opaque);
            g_mutex_lock(&cd->lock);
        } else if (!fe->in_len || !fe->ops->read || !fe_read(fe)) {
            break;
        }
    }
    chardev_rewatch(cd);
    g_mutex_unlock(&cd->lock);
    fe_unref(fe);
}

/* Under the lock. */
static void fe_schedule(struct chardev_fe *fe)
{
    if (fe->scheduled || !fe->attached)
        return;
    fe->scheduled = true;
    g_atomic_int_inc(&fe->refs);
    loop_post(fe->loop, fe_deliver, fe);
}

static void fe_event(struct chardev_fe *fe, enum chardev_event ev)
{
    if (fe->nevents == EVENTS_MAX)      /* opened and closed faster than it looks: the last ones count */
        memmove(fe->events, fe->events + 1, --fe->nevents * sizeof(ev));
    fe->events[fe->nevents++] = ev;
    fe_schedule(fe);
}

/* ---- output */

static void chardev_log(struct chardev *cd, const uint8_t *buf, size_t len)
{
    if (cd->log_fd >= 0 && write(cd->log_fd, buf, len) < 0 && errno != EAGAIN) {
        warn_report("chardev %s: the log file takes no more: %s", cd->id, strerror(errno));
        close(cd->log_fd);
        cd->log_fd = -1;
    }
}

/* Under the lock. */
static size_t chardev_put(struct chardev *cd, const uint8_t *buf, size_t len)
{
    size_t done = 0, room;

    chardev_log(cd, buf, len);
    if (!cd->connected || cd->closed)
        return len;
    if (!cd->out->len) {
        ssize_t n = cd->cls->write(cd, buf, len);

        if (n < 0)
            return len;
        done = n;
    }
    room = CHARDEV_OUT_MAX - MIN(cd->out->len, CHARDEV_OUT_MAX);
    room = MIN(room, len - done);
    if (room) {
        g_byte_array_append(cd->out, buf + done, room);
        chardev_rewatch(cd);
    }
    return done + room;
}

/* Each line opens with the time since the start: the multiplexer's Ctrl-a t. Under the lock. */
static void chardev_put_stamped(struct chardev *cd, const uint8_t *buf, size_t len)
{
    for (size_t i = 0; i < len;) {
        const uint8_t *nl = memchr(buf + i, '\n', len - i);
        size_t n = nl ? (size_t)(nl - (buf + i)) + 1 : len - i;

        if (cd->line_start) {
            int64_t ms = (host_clock_ns() - cd->opened_ns) / 1000000;
            char stamp[40];
            int k = snprintf(stamp, sizeof(stamp), "[%02d:%02d:%02d.%03d] ", (int)(ms / 3600000),
                             (int)(ms / 60000 % 60), (int)(ms / 1000 % 60), (int)(ms % 1000));

            chardev_put(cd, (uint8_t *)stamp, k);
        }
        chardev_put(cd, buf + i, n);
        cd->line_start = nl;
        i += n;
    }
}

size_t chardev_write(struct chardev_fe *fe, const void *buf, size_t len)
{
    struct chardev *cd = fe->cd;
    size_t n = len;

    g_mutex_lock(&cd->lock);
    if (cd->timestamps)
        chardev_put_stamped(cd, buf, len);
    else
        n = chardev_put(cd, buf, len);
    if (n < len)
        fe->starved = true;
    g_mutex_unlock(&cd->lock);
    return n;
}

void chardev_flush(struct chardev *cd)
{
    g_mutex_lock(&cd->lock);
    while (cd->out->len && !cd->closed) {
        ssize_t n = cd->cls->write(cd, cd->out->data, cd->out->len);

        if (n < 0)
            g_byte_array_set_size(cd->out, 0);
        else if (n > 0)
            g_byte_array_remove_range(cd->out, 0, n);
        else
            break;
    }
    for (unsigned i = 0; i < cd->fes->len; i++) {
        struct chardev_fe *fe = cd->fes->pdata[i];

        if (fe->starved && cd->out->len < CHARDEV_OUT_MAX / 2)
            fe_schedule(fe);
    }
    chardev_rewatch(cd);
    g_mutex_unlock(&cd->lock);
}

/* ---- the multiplexer's keys */

static void mux_print(struct chardev *cd, const char *text)
{
    chardev_put(cd, (const uint8_t *)text, strlen(text));
}

static void mux_help(struct chardev *cd)
{
    g_autofree char *key = cd->escape == 1 ? g_strdup("Ctrl-a") : g_strdup_printf("Ctrl-%c", cd->escape + 0x60);
    static const struct { char key; const char *help; } keys[] = {
        { 'h', "this help" }, { 'x', "end the emulator" }, { 's', "write cached disk data out" },
        { 't', "time before each line" }, { 'b', "send a break" },
        { 'c', "to the next front end: serial console, monitor" },
    };

    mux_print(cd, "\r\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_autofree char *line = g_strdup_printf("%s %c    %s\r\n", key, keys[i].key, keys[i].help);

        mux_print(cd, line);
    }
    g_autofree char *last = g_strdup_printf("%s %s send %s itself\r\n", key, key, key);

    mux_print(cd, last);
}

static void mux_next(struct chardev *cd)
{
    struct chardev_fe *fe = chardev_focused(cd);

    if (cd->fes->len < 2)
        return;
    if (fe)
        fe_event(fe, CHR_MUX_OUT);
    cd->focus = (cd->focus + 1) % cd->fes->len;
    fe_event(cd->fes->pdata[cd->focus], CHR_MUX_IN);
}

static void flush_disks(void *opaque)
{
    struct vm *vm = opaque;

    if (vm->config.flush_disks)
        vm->config.flush_disks(vm);
}

/* One byte after the escape character; true: it is input. Under the lock. */
static bool mux_key(struct chardev *cd, uint8_t c)
{
    if (c == cd->escape)
        return true;
    switch (c) {
    case 'h': case '?': mux_help(cd); break;
    case 'x':
        mux_print(cd, "\r\nRhea: ended by Ctrl-a x\r\n");
        vm_request_stop(cd->vm, STOP_HOST_QUIT, 0);
        break;
    case 's': loop_post(cd->vm->loop, flush_disks, cd->vm); break;
    case 'b':
        if (chardev_focused(cd))
            fe_event(chardev_focused(cd), CHR_BREAK);
        break;
    case 'c': mux_next(cd); break;
    case 't':
        cd->timestamps = !cd->timestamps;
        cd->line_start = false;
        break;
    default: break;
    }
    return false;
}

/* ---- input */

size_t chardev_room(struct chardev *cd)
{
    struct chardev_fe *fe;
    size_t room;

    g_mutex_lock(&cd->lock);
    fe = chardev_focused(cd);
    room = fe && !fe_closing(fe) ? CHARDEV_IN_MAX - fe->in_len : 0;
    g_mutex_unlock(&cd->lock);
    return room;
}

void chardev_input(struct chardev *cd, const uint8_t *buf, size_t len)
{
    g_mutex_lock(&cd->lock);
    for (size_t i = 0; i < len; i++) {
        struct chardev_fe *fe;

        if (cd->mux && cd->escape) {
            if (cd->escaped) {
                cd->escaped = false;
                if (!mux_key(cd, buf[i]))
                    continue;
            } else if (buf[i] == cd->escape) {
                cd->escaped = true;
                continue;
            }
        }
        fe = chardev_focused(cd);       /* a key may have moved it */
        if (fe && fe->in_len < CHARDEV_IN_MAX)
            fe->in[fe->in_len++] = buf[i];
    }
    if (chardev_focused(cd))
        fe_schedule(chardev_focused(cd));
    chardev_rewatch(cd);
    g_mutex_unlock(&cd->lock);
}

void chardev_input_fd(struct chardev *cd, int fd)
{
    g_mutex_lock(&cd->lock);
    if (cd->nfds < CHARDEV_FDS_MAX) {
        cd->fds[cd->nfds++] = fd;
        fd = -1;
    }
    g_mutex_unlock(&cd->lock);
    if (fd >= 0)
        close(fd);
}

void chardev_break(struct chardev *cd)
{
    g_mutex_lock(&cd->lock);
    if (chardev_focused(cd))
        fe_event(chardev_focused(cd), CHR_BREAK);
    g_mutex_unlock(&cd->lock);
}

void chardev_set_connected(struct chardev *cd, bool connected)
{
    g_mutex_lock(&cd->lock);
    if (cd->connected != connected) {
        cd->connected = connected;
        if (!connected) {
            g_byte_array_set_size(cd->out, 0);
            for (unsigned i = 0; i < cd->nfds; i++)
                close(cd->fds[i]);
            cd->nfds = 0;
        }
        for (unsigned i = 0; i < cd->fes->len; i++) {
            struct chardev_fe *fe = cd->fes->pdata[i];

            fe_event(fe, connected ? CHR_OPENED : CHR_CLOSED);
            if (fe->starved)
                fe_schedule(fe);
        }
        chardev_rewatch(cd);
    }
    g_mutex_unlock(&cd->lock);
}

int chardev_take_fd(struct chardev_fe *fe)
{
    struct chardev *cd = fe->cd;
    int fd = -1;

    g_mutex_lock(&cd->lock);
    if (cd->nfds) {
        fd = cd->fds[0];
        memmove(cd->fds, cd->fds + 1, --cd->nfds * sizeof(int));
    }
    g_mutex_unlock(&cd->lock);
    return fd;
}

/* ---- front ends */

struct chardev_fe *chardev_attach(struct vm *vm, const char *id, const struct chardev_fe_ops *ops, void *opaque,
                                  struct loop *loop, struct error *err)
{
    struct chardev *cd = chardev_find(vm, id);
    struct chardev_fe *fe;

    if (!cd) {
        g_autoptr(GPtrArray) names = g_ptr_array_new();
        g_autofree char *hint = NULL;
        const char *near;
        GHashTableIter it;
        void *key;

        if (vm->chardevs) {
            g_hash_table_iter_init(&it, vm->chardevs);
            while (g_hash_table_iter_next(&it, &key, NULL))
                g_ptr_array_add(names, key);
        }
        g_ptr_array_add(names, NULL);
        near = nearest_spelling(id ? id : "", (const char *const *)names->pdata);
        hint = near ? g_strdup_printf("did you mean %s?", near) : g_strdup("make one with -chardev BACKEND,id=...");
        error_setf(err, ERR_GENERIC, hint, "there is no chardev '%s'", id ? id : "");
        return NULL;
    }
    g_mutex_lock(&cd->lock);
    if (cd->fes->len && !cd->mux) {
        g_mutex_unlock(&cd->lock);
        error_setf(err, ERR_GENERIC, "give each its own, or share it with -chardev ...,mux=on",
                   "chardev '%s' is in use already", id);
        return NULL;
    }
    fe = g_new0(struct chardev_fe, 1);
    fe->cd = cd;
    fe->ops = ops;
    fe->opaque = opaque;
    fe->loop = loop ? loop : vm->loop;
    fe->refs = 1;
    fe->attached = true;
    g_atomic_int_inc(&cd->refs);
    g_ptr_array_add(cd->fes, fe);
    if (cd->connected)
        fe_event(fe, CHR_OPENED);
    if (cd->mux && cd->fes->len > 1)
        fe_event(fe, CHR_MUX_OUT);
    chardev_rewatch(cd);
    g_mutex_unlock(&cd->lock);
    return fe;
}

void chardev_detach(struct chardev_fe *fe)
{
    struct chardev *cd;
    unsigned i;

    if (!fe)
        return;
    cd = fe->cd;
    g_mutex_lock(&cd->lock);
    fe->attached = false;
    if (g_ptr_array_find(cd->fes, fe, &i)) {
        g_ptr_array_remove_index(cd->fes, i);
        if (i < cd->focus || cd->focus >= cd->fes->len)
            cd->focus = cd->focus ? cd->focus - 1 : 0;
    }
    chardev_rewatch(cd);
    g_mutex_unlock(&cd->lock);
    fe_unref(fe);
}

void chardev_on_writable(struct chardev_fe *fe, void (*fn)(void *opaque), void *opaque)
{
    g_mutex_lock(&fe->cd->lock);
    fe->writable = fn;
    fe->writable_opaque = opaque;
    if (fe->starved)
        fe_schedule(fe);
    g_mutex_unlock(&fe->cd->lock);
}

void chardev_accept_input(struct chardev_fe *fe)
{
    g_mutex_lock(&fe->cd->lock);
    if (fe->in_len)
        fe_schedule(fe);
    chardev_rewatch(fe->cd);
    g_mutex_unlock(&fe->cd->lock);
}

void chardev_set_open(struct chardev_fe *fe, bool open)
{
    g_mutex_lock(&fe->cd->lock);
    fe->open = open;
    g_mutex_unlock(&fe->cd->lock);
}

bool chardev_connected(const struct chardev_fe *fe)
{
    struct chardev *cd = fe->cd;
    bool connected;

    g_mutex_lock(&cd->lock);
    connected = cd->connected;
    g_mutex_unlock(&cd->lock);
    return connected;
}

bool chardev_has_focus(const struct chardev_fe *fe)
{
    struct chardev *cd = fe->cd;
    bool focus;

    g_mutex_lock(&cd->lock);
    focus = chardev_focused(cd) == fe;
    g_mutex_unlock(&cd->lock);
    return focus;
}

int chardev_ioctl(struct chardev_fe *fe, enum chardev_ioctl what, void *arg)
{
    return fe->cd->cls->ioctl ? fe->cd->cls->ioctl(fe->cd, what, arg) : -ENOTSUP;
}

/* ---- making and ending */

static const char *const common_params[] = { "backend", "id", "mux", "logfile", "logappend", NULL };

const char *chardev_help(void)
{
    static char text[2048];
    size_t n = snprintf(text, sizeof(text), "Character device back ends:\n");

    for (unsigned i = 0; i < G_N_ELEMENTS(classes); i++)
        n += snprintf(text + n, sizeof(text) - n, "  %-10s %s\n", classes[i]->name, classes[i]->summary);
    return text;
}

static const struct chardev_class *class_find(const char *name, struct error *err)
{
    static const char *const later[] = { "spicevmc", "spiceport", "msmouse", "wctablet", "braille", "qemu-vdagent",
                                         "dbus", "hub", NULL };
    const char *names[G_N_ELEMENTS(classes) * 2 + 1], *near;
    g_autofree char *hint = NULL;
    unsigned n = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(classes); i++) {
        if (!strcmp(classes[i]->name, name) || (classes[i]->alias && !strcmp(classes[i]->alias, name)))
            return classes[i];
        names[n++] = classes[i]->name;
        if (classes[i]->alias)
            names[n++] = classes[i]->alias;
    }
    names[n] = NULL;
    if (!strcmp(name, "vc"))            /* a console of a display: this build has none to show it on */
        return &chardev_null;
    if (g_strv_contains(later, name)) {
        error_setf(err, ERR_GENERIC, "-chardev help lists what there is", "this build has no chardev back end '%s' yet",
                   name);
        return NULL;
    }
    near = nearest_spelling(name, names);
    hint = near ? g_strdup_printf("did you mean %s? -chardev help lists them", near)
                : g_strdup("-chardev help lists them");
    error_setf(err, ERR_GENERIC, hint, "there is no chardev back end '%s'", name);
    return NULL;
}

static bool check_params(const struct chardev_class *cls, struct json_object *opts, struct error *err)
{
    json_object_object_foreach(opts, key, value) {
        const char *near;
        g_autofree char *hint = NULL;

        (void)value;
        if (g_strv_contains(common_params, key) || (cls->params && g_strv_contains(cls->params, key)) ||
            cls == &chardev_null)
            continue;
        near = cls->params ? nearest_spelling(key, cls->params) : NULL;
        hint = near ? g_strdup_printf("did you mean %s?", near) : NULL;
        return error_setf(err, ERR_GENERIC, hint, "chardev back end %s has no option '%s'", cls->name, key);
    }
    return true;
}

static bool open_log(struct chardev *cd, struct json_object *opts, struct error *err)
{
    const char *path = option_str(opts, "logfile", NULL);
    bool append;

    if (!option_bool(opts, "logappend", false, &append, err))
        return false;
    if (!path)
        return true;
    cd->log_fd = fdset_open(cd->vm, path, O_WRONLY | O_CREAT | O_NONBLOCK | (append ? O_APPEND : O_TRUNC), 0666);
    return cd->log_fd >= 0 || error_set_errno(err, errno, "check the path and its rights", "log file %s", path);
}

static void table_drop(void *opaque)
{
    struct chardev *cd = opaque;

    cd->cls->close(cd);
    g_mutex_lock(&cd->lock);
    cd->closed = true;
    cd->connected = false;
    g_mutex_unlock(&cd->lock);
    chardev_unref(cd);
}

static bool add_flat(struct vm *vm, struct json_object *opts, struct error *err)
{
    const char *id = option_str(opts, "id", NULL), *backend = option_str(opts, "backend", NULL);
    const struct chardev_class *cls;
    struct chardev *cd;

    if (!backend)
        return error_set(err, ERR_GENERIC, "the back end is missing", "write -chardev BACKEND,id=ID");
    if (!id || !*id)
        return error_set(err, ERR_GENERIC, "a chardev needs an id", "add id=NAME");
    if (!vm->chardevs)
        vm->chardevs = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, table_drop);
    if (chardev_find(vm, id))
        return error_setf(err, ERR_GENERIC, "choose another id", "chardev '%s' exists already", id);
    cls = class_find(backend, err);
    if (!cls || !check_params(cls, opts, err))
        return false;
    cd = g_malloc0(cls->size);
    cd->cls = cls;
    cd->vm = vm;
    cd->id = g_strdup(id);
    cd->refs = 1;
    cd->log_fd = -1;
    cd->escape = vm->config.escape_char ? vm->config.escape_char : 1;
    cd->opened_ns = host_clock_ns();
    cd->out = g_byte_array_new();
    cd->fes = g_ptr_array_new();
    g_mutex_init(&cd->lock);
    if (!option_bool(opts, "mux", false, &cd->mux, err) || !open_log(cd, opts, err) || !cls->open(cd, opts, err)) {
        if (error_is_set(err))
            error_prepend(err, "chardev %s", id);
        cd->closed = true;
        chardev_unref(cd);
        return false;
    }
    g_hash_table_insert(vm->chardevs, cd->id, cd);
    return true;
}

bool chardev_add(struct vm *vm, struct json_object *opts, struct error *err)
{
    struct json_object *flat = chardev_flatten(opts, err);
    bool ok = flat && add_flat(vm, flat, err);

    json_object_put(flat);
    return ok;
}

bool chardev_del(struct vm *vm, const char *id, struct error *err)
{
    struct chardev *cd = chardev_find(vm, id);

    if (!cd)
        return error_setf(err, ERR_GENERIC, "query-chardev lists them", "there is no chardev '%s'", id);
    if (cd->fes->len)
        return error_setf(err, ERR_GENERIC, "remove the device or monitor that uses it first", "chardev '%s' is busy",
                          id);
    g_hash_table_remove(vm->chardevs, id);
    return true;
}

void chardev_cleanup(struct vm *vm)
{
    if (!vm->chardevs)
        return;
    GHashTableIter it;
    void *value;

    g_hash_table_iter_init(&it, vm->chardevs);
    while (g_hash_table_iter_next(&it, NULL, &value))
        chardev_flush(value);
    g_hash_table_destroy(vm->chardevs);
    vm->chardevs = NULL;
}

static int compare_labels(const void *a, const void *b)
{
    return strcmp((*(struct chardev *const *)a)->id, (*(struct chardev *const *)b)->id);
}

struct json_object *chardev_query(struct vm *vm)
{
    struct json_object *list = json_object_new_array();
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    GHashTableIter it;
    void *value;

    if (!vm->chardevs)
        return list;
    g_hash_table_iter_init(&it, vm->chardevs);
    while (g_hash_table_iter_next(&it, NULL, &value))
        g_ptr_array_add(all, value);
    g_ptr_array_sort(all, compare_labels);
    for (unsigned i = 0; i < all->len; i++) {
        struct chardev *cd = all->pdata[i];
        struct json_object *o = json_object_new_object();
        g_autofree char *filename = cd->cls->filename ? cd->cls->filename(cd) : g_strdup(cd->cls->name);
        bool open = false;

        g_mutex_lock(&cd->lock);
        for (unsigned k = 0; k < cd->fes->len; k++)
            open |= ((struct chardev_fe *)cd->fes->pdata[k])->open;
        g_mutex_unlock(&cd->lock);
        json_object_object_add(o, "label", json_object_new_string(cd->id));
        json_object_object_add(o, "filename", json_object_new_string(filename));
        json_object_object_add(o, "frontend-open", json_object_new_boolean(open));
        json_object_array_add(list, o);
    }
    return list;
}
