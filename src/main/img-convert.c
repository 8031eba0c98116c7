/* rhea-img convert, dd: what copies images. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "block/backend.h"
#include "block/graph.h"
#include "main/img.h"

/* A part is read, looked at and written while it is in the core's caches. */
enum { CHUNK = 512 << 10, SOURCES_MAX = 256, WORKERS = 8, WORKERS_OF_THREADS = 4 };

/* ---- convert: workers take the next part of the source each, in turn, and write where it belongs */

struct part { struct block_node *source; uint64_t from, off, bytes, number; enum { PART_DATA, PART_ZERO, PART_BACKING } kind; };

struct convert {
    struct img *c;
    struct block_node *sources[SOURCES_MAX], *target;
    uint64_t starts[SOURCES_MAX + 1];   /* where each source begins in the output; the last: its size */
    unsigned count;
    struct co_mutex lock;
    uint64_t next, done, cluster;
    uint64_t parts, turn;       /* parts taken; the one whose turn it is to write */
    struct co_queue turns;
    struct block_hook hook;     /* on the target's file, if it is the host's */
    const void *_Atomic last;   /* the end of that part's data; when it comes to the file, the next part may follow */
    bool target_zero;           /* what is not written reads as zero */
    bool has_backing;           /* the target has the source's backing image */
    uint64_t backing_size;
    struct part seen;           /* what the source was last found to hold */
    atomic_int ret;
    const struct block_node *_Atomic unread;    /* the source that could not be read; NULL: the output was not written */
};

/* What is at the next offset: the kind of part, and how long it is at most. */
static int part_look(struct convert *v, struct part *p)
{
    uint64_t map, rest = p->source->size - p->from, end = v->seen.off + v->seen.bytes;
    struct block_node *file;
    int status, depth;

    if (p->off < end && p->source == v->seen.source) {
        p->bytes = end - p->off;
        p->kind = v->seen.kind;
        return 0;
    }
    status = node_status_above(p->source, p->from, rest, &p->bytes, &map, &file, &depth, true);
    if (status < 0 && v->c->salvage) {
        p->bytes = MIN(rest, 65536);
        p->kind = PART_DATA;
        return 0;
    }
    if (status < 0)
        return status;
    p->kind = status & STATUS_ZERO ? PART_ZERO : PART_DATA;
    if (v->has_backing && p->off < v->backing_size && (depth > 0 || !(status & STATUS_ALLOCATED))) {
        p->kind = PART_BACKING; /* the backing image has it */
        p->bytes = MIN(p->bytes, v->backing_size - p->off);
    }
    if (p->kind == PART_ZERO && !v->c->sparse)
        p->kind = PART_DATA;
    v->seen = *p;
    return 0;
}

/* The next part, 0 bytes: the end. Compressed clusters are written whole. */
static int convert_next(struct convert *v, struct part *p)
{
    uint64_t size = v->starts[v->count], limit = v->c->compress ? v->cluster : CHUNK;
    unsigned i = 0;
    int ret;

    co_mutex_lock(&v->lock);
    *p = (struct part){ .off = v->next };
    ret = v->ret;
    if (!ret && v->next < size) {
        while (v->starts[i + 1] <= v->next)
            i++;
        p->source = v->sources[i];
        p->from = v->next - v->starts[i];
        ret = part_look(v, p);
        if (!ret && v->c->compress) {
            uint64_t rest = MIN(v->cluster, size - v->next);

            if (p->kind == PART_DATA || p->bytes < rest)
                p->kind = PART_DATA, p->bytes = rest;
            else
                p->bytes -= p->bytes % v->cluster;
            p->bytes = p->bytes ? p->bytes : rest;
        } else if (!ret && p->kind == PART_DATA) {
            p->bytes = MIN(p->bytes, limit - p->off % limit);
        }
        v->next += p->bytes;
        p->number = v->parts++;
    }
    co_mutex_unlock(&v->lock);
    return ret;
}

/* Sector by sector; what cannot be read is zeroes. */
static int read_salvaging(struct block_node *n, uint64_t off, uint8_t *buf, uint64_t bytes)
{
    for (uint64_t at = 0, k; at < bytes; at += k) {
        k = MIN(512, bytes - at);
        if (node_pread(n, off + at, buf + at, k)) {
            warn_report("error while reading offset %" PRIu64 " of %s: zeroes are written", off + at, n->filename);
            memset(buf + at, 0, k);
        }
    }
    return 0;
}

/* A part may reach over the end of its source into the next (whole clusters). */
static int part_read(struct convert *v, const struct part *p, uint8_t *buf)
{
    int ret = 0;

    for (unsigned i = 0; i < v->count && !ret; i++) {
        uint64_t from = MAX(p->off, v->starts[i]), to = MIN(p->off + p->bytes, v->starts[i + 1]);

        if (from >= to)
            continue;
        ret = node_pread(v->sources[i], from - v->starts[i], buf + (from - p->off), to - from);
        if (ret && v->c->salvage)
            ret = read_salvaging(v->sources[i], from - v->starts[i], buf + (from - p->off), to - from);
    }
    return ret;
}

static int write_compressed(struct convert *v, uint64_t off, uint8_t *buf, uint64_t bytes)
{
    if (buffer_is_zero(buf, bytes))
        return v->target_zero ? 0 : node_write_zeroes(v->target, off, bytes, BLOCK_MAY_UNMAP);
    return node_pwrite_compressed(v->target, off, buf, bytes);
}

/* Up to the end of what is no zeroes. */
static uint64_t data_end(const struct convert *v, const uint8_t *buf, uint64_t bytes)
{
    uint64_t grain = v->c->sparse;

    while (bytes && buffer_is_zero(buf + (bytes - 1) / grain * grain, bytes - (bytes - 1) / grain * grain))
        bytes = (bytes - 1) / grain * grain;
    return bytes;
}

/* Runs of zeroes of at least -S bytes are left out or written as zeroes. */
static int write_sparse(struct convert *v, uint64_t off, uint8_t *buf, uint64_t bytes)
{
    uint64_t grain = v->c->sparse, at = 0, last;
    int ret = 0;

    if (v->c->compress)
        return write_compressed(v, off, buf, bytes);
    if (!grain) {
        v->last = buf + bytes;
        return node_pwrite(v->target, off, buf, bytes);
    }
    last = data_end(v, buf, bytes);
    while (at < bytes && !ret) {
        bool zero = buffer_is_zero(buf + at, MIN(grain, bytes - at));
        uint64_t end = at;

        while (end < bytes && buffer_is_zero(buf + end, MIN(grain, bytes - end)) == zero)
            end += MIN(grain, bytes - end);
        if (!zero && end == last)
            v->last = buf + end;
        if (!zero)
            ret = node_pwrite(v->target, off + at, buf + at, end - at);
        else if (!v->target_zero)
            ret = node_write_zeroes(v->target, off + at, end - at, BLOCK_MAY_UNMAP);
        at = end;
    }
    return ret;
}

/* Without -W parts are written one after the other, as they lie. Where that is a file of the host, the next may begin when
 * the place of this one's data is decided: the image looks the same, and both cores copy. Compressing takes long: such writes
 * only begin in order. */
static void turn_wait(struct convert *v, const struct part *p)
{
    if (v->c->out_of_order)
        return;
    co_mutex_lock(&v->lock);
    while (v->turn < p->number && !v->ret)
        co_queue_wait(&v->turns, &v->lock);
    co_mutex_unlock(&v->lock);
}

static void turn_pass(struct convert *v)
{
    co_mutex_lock(&v->lock);
    v->last = NULL;
    v->turn++;
    co_mutex_unlock(&v->lock);
    co_queue_wake_all(&v->turns);
}

static const void *iov_end(const struct iovec *iov, int niov)
{
    return (uint8_t *)iov[niov - 1].iov_base + iov[niov - 1].iov_len;
}

static int data_at_file(struct block_hook *h, const struct block_write *w)
{
    struct convert *v = (struct convert *)((char *)h - offsetof(struct convert, hook));

    if (w->kind == WRITE_DATA && v->last && iov_end(w->iov, w->niov) == v->last)
        turn_pass(v);
    return 0;
}

static int part_write(struct convert *v, const struct part *p, uint8_t *buf)
{
    turn_wait(v, p);
    if (v->c->compress && !v->c->out_of_order)
        turn_pass(v);
    return v->ret ? v->ret : write_sparse(v, p->off, buf, p->bytes);
}

static int part_zero(struct convert *v, const struct part *p)
{
    if (v->target_zero)
        return 0;
    turn_wait(v, p);
    return node_write_zeroes(v->target, p->off, p->bytes, BLOCK_MAY_UNMAP);
}

static int convert_part(struct convert *v, const struct part *p, uint8_t *buf)
{
    int ret;

    if (p->kind == PART_BACKING)
        return 0;
    if (p->kind == PART_ZERO)
        return part_zero(v, p);
    if (v->c->copy_range) {
        turn_wait(v, p);
        ret = node_copy_range(v->target, p->off, p->source, p->from, p->bytes);
        img_rate_limit(v->c, ret ? 0 : p->bytes);
        if (ret != -ENOTSUP)
            return ret;
    }
    ret = part_read(v, p, buf);
    if (ret)
        v->unread = p->source;
    else
        ret = part_write(v, p, buf);
    img_rate_limit(v->c, p->bytes);
    return ret;
}

static void part_done(struct convert *v, const struct part *p, int ret)
{
    bool turn;

    turn_wait(v, p);            /* what needed no writing takes its turn, too */
    co_mutex_lock(&v->lock);
    if (ret && !v->ret)
        v->ret = ret;
    turn = v->turn == p->number;
    v->done += p->bytes;
    img_progress(v->c, v->done, v->starts[v->count]);
    co_mutex_unlock(&v->lock);
    if (turn)                   /* else it has been passed, or nobody waits */
        turn_pass(v);
}

static void convert_worker(void *arg)
{
    struct convert *v = arg;
    uint8_t *buf = node_buffer(v->target, MAX(CHUNK, v->cluster));
    struct part p;
    int ret = buf ? 0 : -ENOMEM;

    while (!ret) {
        ret = convert_next(v, &p);
        if (ret || !p.bytes)
            break;
        ret = convert_part(v, &p, buf);
        part_done(v, &p, ret);
    }
    free(buf);
    co_mutex_lock(&v->lock);
    if (ret && !v->ret)
        v->ret = ret;
    co_mutex_unlock(&v->lock);
    co_queue_wake_all(&v->turns);
}

static int convert_run(struct convert *v)
{
    struct block_node *file = v->target->file;
    bool local = img_on_host(v->target), threads = local && !v->c->compress && !v->c->rate;

    for (unsigned i = 0; i < v->count; i++)
        threads = threads && img_on_host(v->sources[i]);
    co_mutex_init(&v->lock);
    co_queue_init(&v->turns);
    v->hook.write_begin = data_at_file;
    if (local && file)
        node_hook(file, &v->hook);
    img_workers(v->c, v->c->workers ? v->c->workers : threads ? WORKERS_OF_THREADS : WORKERS, threads, convert_worker, v);
    if (local && file)
        node_unhook(file, &v->hook);
    return v->ret;
}

static bool convert_create(struct convert *v, const char *name, const char *format)
{
    struct img *c = v->c;

    if (c->backing) {
        json_object_object_add(c->opts, "backing_file", json_object_new_string(c->backing));
        if (c->backing_format)
            json_object_object_add(c->opts, "backing_fmt", json_object_new_string(c->backing_format));
    }
    v->has_backing = option_str(c->opts, "backing_file", NULL) != NULL;
    return img_create_image(c, name, format, c->opts, v->starts[v->count], true);
}

static bool convert_sources(struct convert *v, unsigned count)
{
    struct img *c = v->c;

    if (count > SOURCES_MAX)
        return error_setf(&c->err, ERR_GENERIC, NULL, "more than %d files", SOURCES_MAX);
    for (; v->count < count; v->count++) {
        struct block_node *n = img_open_source(c, c->args[v->count], c->format, c->source_cache);

        v->sources[v->count] = n;
        if (!n)
            return false;
        if (!img_view_snapshot(c, n)) {
            node_unref(n);
            return false;
        }
        v->starts[v->count + 1] = v->starts[v->count] + n->size;
    }
    if (c->bitmaps && !v->sources[0]->drv->bitmap_can_store)
        return error_setf(&c->err, ERR_GENERIC, "leave out --bitmaps", "format '%s' of the source keeps no bitmaps", v->sources[0]->drv->name);
    if (c->snapshot && count > 1)
        return error_set(&c->err, ERR_GENERIC, "No support for concatenating multiple snapshot", NULL);
    return true;
}

static bool convert_target(struct convert *v, const char *name)
{
    struct img *c = v->c;
    const char *format = c->output_format ? c->output_format : "raw";

    if (c->target_image_opts && !c->no_create)
        return error_set(&c->err, ERR_GENERIC, "--target-image-opts requires use of -n flag", NULL);
    if (c->target_is_zero && !c->no_create)
        return error_set(&c->err, ERR_GENERIC, "--target-is-zero requires use of -n flag", NULL);
    if (!c->no_create && !convert_create(v, name, format)) {
        error_prepend(&c->err, "%s", name);
        return false;
    }
    c->image_opts = c->target_image_opts;
    c->force_share = false;
    v->target = img_open(c, name, format, true, c->cache ? c->cache : "unsafe");
    if (!v->target)
        return false;
    if (v->target->size < v->starts[v->count])
        return error_setf(&c->err, ERR_GENERIC, "rhea-img resize makes it larger", "'%s' is smaller than the source", name);
    if (v->target->drv->needs_compressed && v->target->drv->needs_compressed(v->target))
        c->compress = true;
    else if (c->compress && v->target->drv->needs_compressed)
        return error_setf(&c->err, ERR_GENERIC, "add -o subformat=streamOptimized", "'%s' is not of the kind of %s that is compressed", name, v->target->drv->name);
    if (c->compress && !v->target->drv->pwrite_compressed)
        return error_setf(&c->err, ERR_GENERIC, "use -O qcow2", "Compression not supported for this file format");
    if (c->no_create && c->backing)
        v->has_backing = true;
    v->backing_size = v->target->backing ? (uint64_t)v->target->backing->size : v->starts[v->count];
    v->target_zero = (c->target_is_zero || (!c->no_create && v->target->file && v->target->file->zero_past_end &&
                                            !v->target->drv->fresh_noise)) &&
                     !v->has_backing && c->sparse;
    v->cluster = v->target->drv->cluster_size ? v->target->drv->cluster_size(v->target) : 65536;
    return true;
}

static void flush_run(void *arg)
{
    struct img_call *call = arg;
    int ret = node_flush(call->n);

    call->ok = !ret || error_set_errno(&call->c->err, -ret, NULL, "cannot write '%s'", call->n->filename);
}

/* source NULL: it was the output that failed. */
static bool transfer_failed(struct img *c, int errnum, const char *source, const char *output)
{
    return error_set_errno(&c->err, errnum, errnum == ENOSPC && !source ? "free some space; the output is not complete" : "the output is not complete",
                           source ? "cannot read '%s'" : "cannot write '%s'", source ? source : output);
}

/* What would have no effect is refused: its user believes that it has one. */
static bool convert_options(struct img *c)
{
    if (c->copy_range && (c->compress || c->sparse != 4096 || c->salvage))
        return error_setf(&c->err, ERR_GENERIC, "leave one of them out", "Cannot enable copy offloading when %s is used",
                          c->compress ? "-c" : c->salvage ? "--salvage" : "-S");
    if (c->no_create && json_object_object_length(c->opts))
        return error_set(&c->err, ERR_GENERIC, "-o has no effect when skipping image creation", "leave out -o, or -n");
    if (c->skip_broken_bitmaps && !c->bitmaps)
        return error_set(&c->err, ERR_GENERIC, "Use of --skip-broken-bitmaps requires --bitmaps", "add --bitmaps");
    if (c->sparse % 512 || c->sparse > 16 << 20)
        return error_setf(&c->err, ERR_GENERIC, "-S takes 0, or a multiple of 512 up to 16M", "-S %" PRIu64 " is no size of a run of zeroes", c->sparse);
    return true;
}

int img_convert(struct img *c)
{
    struct convert v = { .c = c };
    const char *output = c->args[c->nargs - 1];
    int ret;

    if (convert_options(c) && convert_sources(&v, c->nargs - 1) && convert_target(&v, output)) {
        ret = convert_run(&v);
        if (ret)
            transfer_failed(c, -ret, v.unread ? v.unread->filename : NULL, output);
        else if (img_call(c, v.target, flush_run, NULL) && c->bitmaps)
            img_copy_bitmaps(c, v.sources[0], v.target);
    }
    node_unref(v.target);
    while (v.count)
        node_unref(v.sources[--v.count]);
    if (error_is_set(&c->err))
        return img_fail(c, EXIT_BAD);
    img_progress_end(c);
    return 0;
}

/* ---- dd */

struct dd { const char *in, *out; uint64_t bs, count, skip; bool has_count; struct block_node *source, *target; };

static bool dd_args(struct img *c, struct dd *d)
{
    for (int i = 0; i < c->nargs; i++) {
        const char *value = strchr(c->args[i], '=');
        g_autofree char *key = value ? g_strndup(c->args[i], value - c->args[i]) : NULL;
        bool ok = true;

        if (!key)
            return error_setf(&c->err, ERR_GENERIC, "rhea-img dd if=FILE of=OUTPUT", "unrecognized operand '%s'", c->args[i]);
        value++;
        if (!strcmp(key, "if"))
            d->in = value;
        else if (!strcmp(key, "of"))
            d->out = value;
        else if (!strcmp(key, "bs"))
            ok = parse_size(value, 1, &d->bs, &c->err) &&
                 ((d->bs && d->bs <= 1 << 30) || error_setf(&c->err, ERR_GENERIC, "1 to 1G", "invalid bs '%s'", value));
        else if (!strcmp(key, "count"))
            ok = d->has_count = parse_size(value, 1, &d->count, &c->err);
        else if (!strcmp(key, "skip"))
            ok = parse_size(value, 1, &d->skip, &c->err);
        else
            ok = error_setf(&c->err, ERR_GENERIC, "there are if, of, bs, count and skip", "unrecognized operand '%s'", c->args[i]);
        if (!ok)
            return false;
    }
    return (d->in && d->out) ||
           error_set(&c->err, ERR_GENERIC, "Must specify both input and output file names", "rhea-img dd if=FILE of=OUTPUT");
}

struct dd_run { struct dd *d; uint64_t from, size; };

static void dd_run(void *arg)
{
    struct img_call *call = arg;
    struct dd_run *r = call->arg;
    uint64_t chunk = CHUNK;
    uint8_t *buf = node_buffer(r->d->target, chunk);
    int ret = buf ? 0 : -ENOMEM;
    bool unread = false;

    for (uint64_t off = 0, n; off < r->size && !ret; off += n) {
        n = MIN(chunk, r->size - off);
        ret = node_pread(r->d->source, r->from + off, buf, n);
        unread = ret;
        if (!ret && !buffer_is_zero(buf, n))    /* a new image reads as zeroes */
            ret = node_pwrite(r->d->target, off, buf, n);
    }
    if (!ret)
        ret = node_flush(r->d->target);
    free(buf);
    call->ok = !ret || transfer_failed(call->c, -ret, unread ? r->d->in : NULL, r->d->out);
}

int img_dd(struct img *c)
{
    struct dd d = { .bs = 512 };
    struct dd_run r = { .d = &d };
    const char *format = c->output_format ? c->output_format : "raw";
    uint64_t end;

    if (!dd_args(c, &d) || !(d.source = img_open_source(c, d.in, c->format, NULL)))
        return img_fail(c, EXIT_BAD);
    end = d.has_count && d.count < d.source->size / d.bs ? d.count * d.bs : (uint64_t)d.source->size;
    r.from = d.skip > d.source->size / d.bs ? (uint64_t)d.source->size : d.skip * d.bs;
    r.size = d.source->size - r.from;
    if (d.has_count)
        r.size = MIN(r.size, end);
    if (d.skip && !r.size)
        warn_report("%s: cannot skip to specified offset", d.in);
    if (img_create_image(c, d.out, format, c->opts, r.size, true)) {
        c->image_opts = c->force_share = false;
        d.target = img_open(c, d.out, format, true, NULL);
    }
    if (d.target)
        img_call(c, d.target, dd_run, &r);
    node_unref(d.target);
    node_unref(d.source);
    return error_is_set(&c->err) ? img_fail(c, EXIT_BAD) : 0;
}
