/* Virtio block device: virtio 1.2, 5.2. Requests go to the block layer as they stand in guest memory; those of one
 * notification that follow each other on the disk go as one. */
#include <errno.h>
#include <string.h>
#include "rhea/block/block.h"
#include "rhea/block/virtio_blk.h"
#include "rhea/device/virtio_pci.h"
#include "rhea/vm/object.h"

enum { SEGMENTS_MAX = 32, QUEUES_AUTO = 65535, QUEUES_MAX = 256, MERGE_BYTES = 1 << 20, MERGE_IOVS = 256 };

struct blk_conf {
    char *drive, *serial, *iothread, *rerror, *werror;
    uint16_t num_queues, queue_size;
    bool discard, write_zeroes, config_wce, request_merging, share_rw, scsi, seg_max_adjust;
    uint32_t max_discard_sectors, max_write_zeroes_sectors, logical_block, physical_block, min_io, opt_io,
        discard_granularity;
    uint32_t cyls, heads, secs, write_cache;    /* write_cache: enum on_off_auto */
    int32_t bootindex;
};

struct virtio_blk;
struct blk_req {
    struct virtq_buf buf;
    struct virtio_blk *b;
    uint32_t type;
    uint64_t offset;            /* bytes */
    size_t len;
    struct iovec *data;         /* within buf, or own */
    unsigned ndata;
    struct iovec *own;          /* to be freed */
    struct iovec *merged;       /* of the head: the data of all, while they run */
    uint8_t *status;
    struct blk_req *next;       /* merged behind this one; or in the retry list */
    uint64_t merged_len;        /* of the head: all together */
    unsigned segments, segment; /* discard, write zeroes */
};

struct virtio_blk {
    struct virtio_front front;
    struct blk_conf conf;
    struct block_backend *blk;
    struct object *iothread;
    struct block_info info;     /* what was there at realize: blocks, limits */
    bool writeback, legacy_writethrough;
    struct blk_req *merge, *merge_tail;         /* being gathered, within one run of a handler */
    struct blk_req *retry;      /* stopped by an error of the host: again when the machine goes on */
    bool notify_posted;
};

static struct virtio_device *blk_vdev(struct virtio_blk *b) { return &b->front.vdev; }

/* ---- completion */

/* More completions of this turn of the loop may follow: one interrupt for all of them. */
static void blk_notify_posted(void *arg)
{
    struct virtio_blk *b = arg;
    struct virtio_device *v = blk_vdev(b);

    device_lock(&v->dev);
    b->notify_posted = false;
    for (unsigned i = 0; i < v->nqueues; i++)
        if (v->queues[i]->unsignalled)
            virtqueue_notify(v->queues[i]);
    device_unlock(&v->dev);
}

static void req_finish(struct blk_req *r, uint8_t status)
{
    struct virtio_blk *b = r->b;
    struct virtqueue *q = r->buf.q;
    bool stale = r->buf.generation != q->generation;

    if (!stale)
        *r->status = status;
    g_clear_pointer(&r->own, g_free);
    virtqueue_push(q, r, r->buf.in_len);
    if (stale)
        return;
    if (!q->in_flight) {
        virtqueue_notify(q);
    } else if (!b->notify_posted) {
        b->notify_posted = true;
        loop_post(blk_vdev(b)->dev.loop, blk_notify_posted, b);
    }
}

static void req_retry_later(struct blk_req *r)
{
    r->next = r->b->retry;
    r->b->retry = r;
}

static void req_done(struct blk_req *r, int ret)
{
    bool write = r->type != VBLK_T_IN;

    if (ret >= 0)
        req_finish(r, VBLK_S_OK);
    else if (r->buf.generation == r->buf.q->generation && !block_error_report(r->b->blk, write, -ret))
        req_retry_later(r);
    else
        req_finish(r, ret == -ENOTSUP ? VBLK_S_UNSUPP : VBLK_S_IOERR);
}

static void blk_simple_done(void *opaque, int ret)
{
    struct blk_req *r = opaque;
    struct device *dev = &blk_vdev(r->b)->dev;

    device_lock(dev);
    req_done(r, ret);
    device_unlock(dev);
}

static void req_submit_data(struct blk_req *r);

static void blk_data_done(void *opaque, int ret)
{
    struct blk_req *r = opaque, *next;
    struct device *dev = &blk_vdev(r->b)->dev;
    bool merged = r->next;

    device_lock(dev);
    g_clear_pointer(&r->merged, g_free);
    for (; r; r = next) {
        next = r->next;
        r->next = NULL;
        if (ret < 0 && merged)
            req_submit_data(r);         /* each alone, to find the one that fails */
        else
            req_done(r, ret);
    }
    device_unlock(dev);
}

/* ---- reading and writing */

static unsigned write_flags(struct virtio_blk *b)
{
    return b->writeback ? 0 : BLOCK_FUA;
}

static void req_submit_iov(struct blk_req *r, const struct iovec *iov, unsigned n)
{
    if (r->type == VBLK_T_IN)
        block_readv(r->b->blk, r->offset, iov, n, 0, blk_data_done, r);
    else
        block_writev(r->b->blk, r->offset, iov, n, write_flags(r->b), blk_data_done, r);
}

static void req_submit_data(struct blk_req *r)
{
    req_submit_iov(r, r->data, r->ndata);
}

static void blk_submit_merged(struct virtio_blk *b)
{
    struct blk_req *head = b->merge;
    struct iovec *iov;
    unsigned n = 0;

    b->merge = b->merge_tail = NULL;
    if (!head)
        return;
    if (!head->next) {
        req_submit_data(head);
        return;
    }
    for (struct blk_req *r = head; r; r = r->next)
        n += r->ndata;
    iov = g_new(struct iovec, n);
    n = 0;
    for (struct blk_req *r = head; r; r = r->next) {
        memcpy(iov + n, r->data, r->ndata * sizeof(*iov));
        n += r->ndata;
    }
    head->merged = iov;
    req_submit_iov(head, iov, n);
}

static void req_queue_data(struct blk_req *r)
{
    struct virtio_blk *b = r->b;
    struct blk_req *head = b->merge;

    if (head && (!b->conf.request_merging || head->type != r->type || head->offset + head->merged_len != r->offset ||
                 head->merged_len + r->len > MERGE_BYTES || head->segments + r->ndata > MERGE_IOVS))
        blk_submit_merged(b);
    if (b->merge) {
        b->merge->merged_len += r->len;
        b->merge->segments += r->ndata;
        b->merge_tail->next = r;
    } else {
        b->merge = r;
        r->merged_len = r->len;
        r->segments = r->ndata;
    }
    b->merge_tail = r;
}

static bool req_in_range(struct blk_req *r)
{
    struct virtio_blk *b = r->b;
    struct block_info info;

    block_backend_info(b->blk, &info);
    if (r->len % b->conf.logical_block || r->offset % b->conf.logical_block || r->offset > info.size ||
        r->len > info.size - r->offset) {
        guest_error(&blk_vdev(b)->dev, "%zu bytes at %#llx of a disk of %llu", r->len, (unsigned long long)r->offset,
                    (unsigned long long)info.size);
        return false;
    }
    return true;
}

static bool read_only(struct virtio_blk *b) { return b->info.read_only; }

static void req_data(struct blk_req *r)
{
    if (!req_in_range(r) || (r->type == VBLK_T_OUT && read_only(r->b)))
        req_finish(r, VBLK_S_IOERR);
    else if (!r->len)
        req_finish(r, VBLK_S_OK);
    else
        req_queue_data(r);
}

/* ---- discard and write zeroes (5.2.6.2): segments, one after the other */

static void req_next_segment(struct blk_req *r);

static void blk_segment_done(void *opaque, int ret)
{
    struct blk_req *r = opaque;
    struct device *dev = &blk_vdev(r->b)->dev;

    device_lock(dev);
    if (ret < 0)
        req_done(r, ret);
    else
        req_next_segment(r);
    device_unlock(dev);
}

static bool segment_valid(struct blk_req *r, const struct vblk_segment *s, struct block_info *info)
{
    bool zeroes = r->type == VBLK_T_WRITE_ZEROES;
    uint32_t max = zeroes ? r->b->conf.max_write_zeroes_sectors : r->b->conf.max_discard_sectors;

    return s->sectors <= max && s->sector <= info->size / VBLK_SECTOR &&
           s->sectors <= info->size / VBLK_SECTOR - s->sector &&
           !(s->sector * VBLK_SECTOR % r->b->conf.logical_block) &&
           !((uint64_t)s->sectors * VBLK_SECTOR % r->b->conf.logical_block);
}

static void req_next_segment(struct blk_req *r)
{
    struct virtio_blk *b = r->b;
    struct vblk_segment s;
    struct block_info info;

    if (r->segment == r->segments || r->buf.generation != r->buf.q->generation) {
        req_finish(r, VBLK_S_OK);
        return;
    }
    iov_to_buf(r->buf.out, r->buf.nout, r->segment++ * sizeof(s), &s, sizeof(s));
    block_backend_info(b->blk, &info);
    if (s.flags & ~(r->type == VBLK_T_WRITE_ZEROES ? VBLK_ZEROES_UNMAP : 0)) {
        req_finish(r, VBLK_S_UNSUPP);        /* 5.2.6.2: reserved flags */
    } else if (!segment_valid(r, &s, &info)) {
        req_finish(r, VBLK_S_IOERR);
    } else if (r->type == VBLK_T_DISCARD) {
        block_discard(b->blk, s.sector * VBLK_SECTOR, (uint64_t)s.sectors * VBLK_SECTOR, blk_segment_done, r);
    } else {
        block_write_zeroes(b->blk, s.sector * VBLK_SECTOR, (uint64_t)s.sectors * VBLK_SECTOR,
                           (s.flags & VBLK_ZEROES_UNMAP ? BLOCK_MAY_UNMAP : 0) | write_flags(b), blk_segment_done, r);
    }
}

static void req_segments(struct blk_req *r)
{
    bool on = virtio_has(blk_vdev(r->b), r->type == VBLK_T_DISCARD ? VBLK_F_DISCARD : VBLK_F_WRITE_ZEROES);

    r->segments = r->buf.out_len / sizeof(struct vblk_segment);
    if (!on || !r->segments || r->segments > SEGMENTS_MAX || r->buf.out_len % sizeof(struct vblk_segment))
        req_finish(r, VBLK_S_UNSUPP);
    else if (read_only(r->b))
        req_finish(r, VBLK_S_IOERR);
    else
        req_next_segment(r);
}

/* ---- requests */

static void req_get_id(struct blk_req *r)
{
    char id[VBLK_ID_BYTES] = { 0 };
    const char *serial = r->b->conf.serial ? r->b->conf.serial : "";

    memcpy(id, serial, strnlen(serial, VBLK_ID_BYTES));      /* 5.2.6.2: not terminated when it fills the field */
    iov_from_buf(r->data, r->ndata, 0, id, MIN(sizeof(id), r->len));
    req_finish(r, VBLK_S_OK);
}

static void req_flush(struct blk_req *r)
{
    blk_submit_merged(r->b);
    block_flush(r->b->blk, blk_simple_done, r);
}

static const struct { uint32_t type; void (*fn)(struct blk_req *r); } request_types[] = {
    { VBLK_T_IN, req_data }, { VBLK_T_OUT, req_data }, { VBLK_T_FLUSH, req_flush }, { VBLK_T_GET_ID, req_get_id },
    { VBLK_T_DISCARD, req_segments }, { VBLK_T_WRITE_ZEROES, req_segments },
};

static void req_start(struct blk_req *r)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(request_types); i++) {
        if (request_types[i].type == r->type) {
            request_types[i].fn(r);
            return;
        }
    }
    req_finish(r, VBLK_S_UNSUPP);
}

/* The last byte of `in` is the status, what stands before it the data; in most rings it has a descriptor of its own. */
static bool req_split_status(struct blk_req *r)
{
    struct virtq_buf *buf = &r->buf;
    unsigned last = buf->nin;

    while (last && !buf->in[last - 1].iov_len)
        last--;
    if (!last)
        return false;
    last--;
    r->status = (uint8_t *)buf->in[last].iov_base + buf->in[last].iov_len - 1;
    r->data = buf->in;
    r->ndata = last;
    if (buf->in[last].iov_len > 1) {
        r->data = r->own = g_memdup2(buf->in, (last + 1) * sizeof(struct iovec));
        r->own[last].iov_len--;
        r->ndata = last + 1;
    }
    r->len = buf->in_len - 1;
    return true;
}

static bool blk_pop_one(struct virtqueue *q, void *buf)
{
    struct blk_req *r = buf;
    struct virtio_blk *b = (struct virtio_blk *)q->vdev;
    struct vblk_header h;

    r->b = b;
    if (r->buf.out_len < sizeof(h) || !req_split_status(r)) {
        virtqueue_detach(q, r);
        virtio_broken(q->vdev, "request without header or status");
        return false;
    }
    iov_to_buf(r->buf.out, r->buf.nout, 0, &h, sizeof(h));
    iov_trim_front(&r->buf.out, &r->buf.nout, sizeof(h));
    r->buf.out_len -= sizeof(h);
    r->type = h.type & ~(1u << 31);     /* the barrier flag of old drivers: what they order, they flush */
    r->offset = h.sector <= INT64_MAX / VBLK_SECTOR ? h.sector * VBLK_SECTOR : INT64_MAX;
    if (r->type == VBLK_T_OUT) {
        r->data = r->buf.out;
        r->ndata = r->buf.nout;
        r->len = r->buf.out_len;
    }
    req_start(r);
    return true;
}

static void blk_queue(struct virtqueue *q)
{
    struct virtio_blk *b = (struct virtio_blk *)q->vdev;

    virtqueue_drain(q, blk_pop_one);
    blk_submit_merged(b);
}

/* ---- configuration */

static uint8_t log2_of(uint32_t n)
{
    return 31 - __builtin_clz(n ? n : 1);
}

static void blk_geometry(struct virtio_blk *b, uint64_t sectors, struct vblk_config *c)
{
    uint64_t cyls = b->conf.cyls ? b->conf.cyls : sectors / (16 * 63);

    c->heads = b->conf.cyls ? b->conf.heads : 16;
    c->sectors = b->conf.cyls ? b->conf.secs : 63;
    c->cylinders = MAX(1, MIN(cyls, b->conf.cyls ? 65535 : 16383));
}

static void blk_get_config(struct virtio_device *v, uint8_t *config)
{
    struct virtio_blk *b = (struct virtio_blk *)v;
    struct vblk_config *c = (struct vblk_config *)config;
    const struct blk_conf *k = &b->conf;
    struct block_info info;
    uint32_t block_sectors = k->logical_block / VBLK_SECTOR;

    block_backend_info(b->blk, &info);
    c->capacity = info.size / VBLK_SECTOR;
    c->seg_max = k->seg_max_adjust ? k->queue_size - 2 : 126;
    blk_geometry(b, c->capacity, c);
    c->blk_size = k->logical_block;
    c->physical_block_exp = log2_of(k->physical_block / k->logical_block);
    c->min_io_size = k->min_io / k->logical_block;
    c->opt_io_size = k->opt_io / k->logical_block;
    c->writeback = b->writeback;
    c->num_queues = v->nqueues;
    c->max_discard_sectors = k->max_discard_sectors;
    c->max_discard_seg = SEGMENTS_MAX;
    c->discard_sector_alignment = MAX(k->discard_granularity / VBLK_SECTOR, block_sectors);
    c->max_write_zeroes_sectors = k->max_write_zeroes_sectors;
    c->max_write_zeroes_seg = SEGMENTS_MAX;
    c->write_zeroes_may_unmap = info.can_discard;
}

static void blk_set_config(struct virtio_device *v, unsigned offset, const uint8_t *data, unsigned len)
{
    struct virtio_blk *b = (struct virtio_blk *)v;

    if (offset == offsetof(struct vblk_config, writeback) && len == 1 && virtio_has(v, VBLK_F_CONFIG_WCE))
        b->writeback = data[0] & 1;
}

/* 5.2.5: a driver that takes neither FLUSH nor CONFIG_WCE relies on every write being stable. */
static void blk_features_ok(struct virtio_device *v)
{
    struct virtio_blk *b = (struct virtio_blk *)v;

    if (!virtio_has(v, VBLK_F_CONFIG_WCE))
        b->writeback = b->info.write_cache && virtio_has(v, VBLK_F_FLUSH);
}

static void blk_reset(struct virtio_device *v)
{
    struct virtio_blk *b = (struct virtio_blk *)v;
    struct blk_req *r = b->retry, *next;

    b->retry = NULL;
    for (; r; r = next) {
        next = r->next;
        req_finish(r, VBLK_S_IOERR);
    }
    b->writeback = b->info.write_cache;
}

static void blk_drain(struct virtio_device *v)
{
    block_drain(((struct virtio_blk *)v)->blk);
}

static void blk_resume(struct virtio_device *v)
{
    struct virtio_blk *b = (struct virtio_blk *)v;
    struct blk_req *r = b->retry, *next;

    b->retry = NULL;
    for (; r; r = next) {
        next = r->next;
        r->next = NULL;
        r->segment = 0;
        req_start(r);
    }
    blk_submit_merged(b);
}

static void blk_changed(void *opaque)
{
    virtio_config_changed(opaque);
}

/* ---- life */

static bool block_size_ok(uint32_t n)
{
    return n >= VBLK_SECTOR && n <= 2 << 20 && !(n & (n - 1));
}

static bool blk_check_conf(struct virtio_blk *b, struct error *err)
{
    struct blk_conf *k = &b->conf;

    if (k->scsi)
        return error_set(err, ERR_GENERIC, "scsi=on: virtio-blk passes no SCSI commands",
                         "use virtio-scsi-pci with scsi-block");
    if (!k->logical_block)
        k->logical_block = MAX(b->info.logical_block, VBLK_SECTOR);
    if (!k->physical_block)
        k->physical_block = MAX(b->info.physical_block, k->logical_block);
    if (!block_size_ok(k->logical_block) || !block_size_ok(k->physical_block) || k->logical_block > k->physical_block)
        return error_setf(err, ERR_GENERIC,
                          "both are powers of two from 512 to 2 MiB, the physical one not the smaller",
                          "logical_block_size=%u and physical_block_size=%u do not go together",
                          k->logical_block, k->physical_block);
    if (k->min_io % k->logical_block || k->opt_io % k->logical_block || k->discard_granularity % k->logical_block)
        return error_setf(err, ERR_GENERIC, NULL,
                          "min_io_size, opt_io_size and discard_granularity must be multiples of %u",
                          k->logical_block);
    if (k->queue_size < 4 || k->queue_size > VIRTQUEUE_SIZE_MAX || k->queue_size & (k->queue_size - 1))
        return error_setf(err, ERR_GENERIC, NULL, "queue-size=%u is not a power of two from 4 to %d",
                          k->queue_size, VIRTQUEUE_SIZE_MAX);
    if (!k->num_queues || (k->num_queues > QUEUES_MAX && k->num_queues != QUEUES_AUTO))
        return error_setf(err, ERR_GENERIC, "leave it out for one a processor",
                          "num-queues=%u is not between 1 and %d", k->num_queues, QUEUES_MAX);
    if (k->num_queues == QUEUES_AUTO)
        k->num_queues = CLAMP(blk_vdev(b)->dev.vm->config.cpus, 1, 64);
    return true;
}

/* A writable hold where the image allows it; else the guest is told that the disk is read-only. */
static bool blk_attach(struct virtio_blk *b, struct error *err)
{
    struct device *dev = &blk_vdev(b)->dev;

    if (!b->conf.drive)
        return error_setf(err, ERR_GENERIC, "add drive=ID, the id of a -drive if=none or the node-name of a -blockdev",
                          "%s: drive property not set", dev->parent ? dev->parent->cls->name : dev->cls->name);
    b->blk = block_backend_attach(dev->vm, b->conf.drive, dev, false, b->conf.share_rw, err);
    if (!b->blk)
        return false;
    block_backend_info(b->blk, &b->info);
    if (b->info.read_only)
        return true;
    block_backend_detach(b->blk);
    b->blk = block_backend_attach(dev->vm, b->conf.drive, dev, true, b->conf.share_rw, err);
    if (b->blk)
        block_backend_info(b->blk, &b->info);
    return b->blk;
}

static bool blk_realize(struct device *dev, struct error *err)
{
    struct virtio_device *v = device_cast(dev, struct virtio_device);
    struct virtio_blk *b = (struct virtio_blk *)v;
    struct blk_conf *k = &b->conf;
    struct loop *loop = NULL;

    if (!blk_attach(b, err))
        return false;
    if (!blk_check_conf(b, err) || !block_backend_set_policy(b->blk, k->rerror, k->werror, err) ||
        (k->iothread && !(loop = virtio_iothread(v, k->iothread, &b->iothread, err)))) {
        block_backend_detach(b->blk);
        return false;
    }
    if (k->write_cache != OOA_AUTO)
        b->info.write_cache = k->write_cache == OOA_ON;
    if (k->iothread) {
        virtio_set_loop(v, loop);
        block_backend_set_loop(b->blk, loop);
    }
    for (unsigned i = 0; i < k->num_queues; i++)
        virtio_add_queue(v, k->queue_size, sizeof(struct blk_req), blk_queue);
    virtio_offer(v, VBLK_F_RO, read_only(b));
    virtio_offer(v, VBLK_F_CONFIG_WCE, k->config_wce);
    virtio_offer(v, VBLK_F_MQ, k->num_queues > 1);
    virtio_offer(v, VBLK_F_DISCARD, k->discard && !read_only(b));
    virtio_offer(v, VBLK_F_WRITE_ZEROES, k->write_zeroes && !read_only(b));
    v->config_size = sizeof(struct vblk_config);
    b->writeback = b->info.write_cache;
    block_backend_on_change(b->blk, blk_changed, v);
    return true;
}

static void blk_unrealize(struct device *dev)
{
    struct virtio_device *v = device_cast(dev, struct virtio_device);
    struct virtio_blk *b = (struct virtio_blk *)v;

    virtio_reset(v);
    block_backend_on_change(b->blk, NULL, NULL);
    block_backend_detach(b->blk);
    if (b->iothread)
        object_put(b->iothread);
}

/* The proxy and the device behind it both show the name. */
static bool blk_change_drive(struct device *dev, const char *value, struct error *err)
{
    struct virtio_device *v = virtio_backend(dev);

    if (!v)
        return error_set(err, ERR_GENERIC, "the device is not ready", NULL);
    if (!block_backend_change(((struct virtio_blk *)v)->blk, value, err))
        return false;
    for (struct device *d = &v->dev; d; d = d->parent) {
        if (!device_class_is(d->cls, "virtio-device") && !device_class_is(d->cls, "virtio-pci"))
            break;
        device_lock(d);
        g_free(((struct virtio_blk *)d)->conf.drive);
        ((struct virtio_blk *)d)->conf.drive = g_strdup(value);
        device_unlock(d);
    }
    return true;
}

static const struct virtio_info blk_info = {
    .name = "virtio-blk",
    .id = VIRTIO_ID_BLOCK,
    .legacy_pci_id = 0x1001,
    .features = VIRTIO_BIT(VBLK_F_SEG_MAX) | VIRTIO_BIT(VBLK_F_GEOMETRY) | VIRTIO_BIT(VBLK_F_TOPOLOGY) |
                VIRTIO_BIT(VBLK_F_BLK_SIZE) | VIRTIO_BIT(VBLK_F_FLUSH),
    .get_config = blk_get_config,
    .set_config = blk_set_config,
    .features_ok = blk_features_ok,
    .reset = blk_reset,
    .drain = blk_drain,
    .resume = blk_resume,
};

#define BLK(field, name, type, def, help) PROP(struct virtio_blk, conf.field, name, type, def, help)
static const struct prop blk_props[] = {
    { .name = "drive", .type = PROP_DRIVE, .offset = offsetof(struct virtio_blk, conf.drive), .help = "id of a -drive or node-name of a -blockdev",
      .change = blk_change_drive },
    BLK(serial, "serial", PROP_STR, NULL, "serial number, 20 characters"),
    BLK(iothread, "iothread", PROP_IOTHREAD, NULL, "id of the -object iothread that does its work; none: the main loop"),
    BLK(num_queues, "num-queues", PROP_U16, "65535", "request queues; 65535: one a processor"),
    BLK(queue_size, "queue-size", PROP_U16, "256", "descriptors in each queue"),
    BLK(seg_max_adjust, "seg-max-adjust", PROP_BOOL, "on", "as many segments in a request as the queue can hold"),
    BLK(discard, "discard", PROP_BOOL, "on", "offer discard"),
    BLK(write_zeroes, "write-zeroes", PROP_BOOL, "on", "offer write zeroes"),
    BLK(max_discard_sectors, "max-discard-sectors", PROP_U32, "4194303", "most sectors of one discard"),
    BLK(max_write_zeroes_sectors, "max-write-zeroes-sectors", PROP_U32, "4194303", "most sectors of one write zeroes"),
    BLK(config_wce, "config-wce", PROP_BOOL, "on", "let the driver switch the write cache"),
    BLK(write_cache, "write-cache", PROP_ON_OFF_AUTO, "auto", "writes are stable only after a flush; auto: as the drive's cache= says"),
    BLK(request_merging, "request-merging", PROP_BOOL, "on", "send requests that follow each other as one"),
    BLK(rerror, "rerror", PROP_STR, NULL, "at a read error: report, ignore, stop or auto"),
    BLK(werror, "werror", PROP_STR, NULL, "at a write error: report, ignore, stop, enospc or auto"),
    BLK(share_rw, "share-rw", PROP_BOOL, "off", "others may write to the image too"),
    BLK(scsi, "scsi", PROP_BOOL, "off", "SCSI commands: not supported"),
    BLK(logical_block, "logical_block_size", PROP_U32, "0", "bytes; 0: as the drive says"),
    BLK(physical_block, "physical_block_size", PROP_U32, "0", "bytes; 0: as the drive says"),
    BLK(min_io, "min_io_size", PROP_U32, "0", "smallest good transfer in bytes"),
    BLK(opt_io, "opt_io_size", PROP_U32, "0", "best transfer in bytes"),
    BLK(discard_granularity, "discard_granularity", PROP_U32, "0", "bytes; 0: a block"),
    BLK(cyls, "cyls", PROP_U32, "0", "geometry: cylinders"),
    BLK(heads, "heads", PROP_U32, "0", "geometry: heads"),
    BLK(secs, "secs", PROP_U32, "0", "geometry: sectors a track"),
    BLK(bootindex, "bootindex", PROP_I32, "-1", "place in the boot order"),
    { 0 }
};

VIRTIO_DEVICE("virtio-blk", struct virtio_blk, "Storage", "virtio block device", &blk_info, 0x010000, blk_props, NULL,
              .realize = blk_realize, .unrealize = blk_unrealize);
