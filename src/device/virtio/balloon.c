/* Virtio memory balloon: virtio 1.2, 5.5. Pages that the guest gives away or reports free return to the host. */
#include <string.h>
#include <sys/mman.h>
#include "rhea/device/virtio_pci.h"
#include "rhea/vm/clock.h"

enum { F_STATS_VQ = 1, F_DEFLATE_ON_OOM = 2, F_FREE_PAGE_HINT = 3, F_REPORTING = 5 };
enum { Q_INFLATE, Q_DEFLATE, Q_STATS, Q_REPORTING, QUEUE_SIZE = 128, PFN_SHIFT = 12, PAGE = 1 << PFN_SHIFT, PFNS_AT_ONCE = 256 };

struct balloon_config { uint32_t num_pages, actual; };
struct balloon_stat { uint16_t tag; uint64_t value; } __attribute__((packed));

static const char *const stat_names[] = {       /* 5.5.6.3, in order of tag */
    "stat-swap-in", "stat-swap-out", "stat-major-faults", "stat-minor-faults", "stat-free-memory", "stat-total-memory",
    "stat-available-memory", "stat-disk-caches", "stat-htlb-pgalloc", "stat-htlb-pgfail",
};
enum { STATS = G_N_ELEMENTS(stat_names) };

struct virtio_balloon {
    struct virtio_front front;
    struct { bool deflate_on_oom, reporting; } conf;
    uint32_t num_pages, actual;
    uint64_t stats[STATS];
    int64_t stats_at;           /* seconds since 1970; 0: never */
    int64_t poll_s;             /* guest-stats-polling-interval */
    struct virtq_buf *stats_buf;        /* the driver's, given back to ask for new ones */
    struct vm_timer *timer;
};

static struct virtio_balloon *balloon_of(struct virtio_device *v) { return (struct virtio_balloon *)v; }

/* ---- giving memory back to the host */

static void discard(struct vm *vm, uint8_t *host, size_t len)
{
    uint64_t offset;
    struct ram_block *rb = ram_block_of(vm, host, &offset);

    if (!rb || rb->readonly || offset % PAGE || len % PAGE || len > rb->size - offset)
        return;
    if (madvise(host, len, rb->shared ? MADV_REMOVE : MADV_DONTNEED) == 0)
        ram_written(vm, rb, offset, len);       /* they read as zero from here on */
}

static void discard_guest(struct virtio_balloon *b, uint64_t addr, uint64_t len)
{
    struct virtio_device *v = &b->front.vdev;

    while (len) {
        uint64_t n = len;
        uint8_t *host = as_map(v->as, addr, &n, true, MEM_ATTRS_NONE);

        if (!host || !n) {
            guest_error(&v->dev, "page at %#llx is not RAM", (unsigned long long)addr);
            n = PAGE;
        } else {
            discard(v->dev.vm, host, n);
        }
        n = MIN(n, len);
        addr += n;
        len -= n;
    }
}

/* Page numbers in runs: one call to the host for each. */
static bool inflate_one(struct virtqueue *q, void *buf)
{
    struct virtio_balloon *b = balloon_of(q->vdev);
    struct virtq_buf *vb = buf;
    uint32_t pfn[PFNS_AT_ONCE];
    uint64_t start = 0, run = 0;
    size_t n;

    for (size_t at = 0;
         q->index == Q_INFLATE && (n = iov_to_buf(vb->out, vb->nout, at, pfn, sizeof(pfn)) / 4);
         at += n * 4) {
        for (size_t i = 0; i < n; i++) {
            if (run && pfn[i] == start + run) {
                run++;
            } else if (run && start && pfn[i] == start - 1) {   /* Linux hands out memory downwards */
                start--;
                run++;
            } else {
                discard_guest(b, start << PFN_SHIFT, run << PFN_SHIFT);
                start = pfn[i];
                run = 1;
            }
        }
    }
    discard_guest(b, start << PFN_SHIFT, run << PFN_SHIFT);
    virtqueue_push(q, vb, 0);
    return true;
}

/* Free page reporting (5.5.6.7): the buffers are the pages. */
static bool report_one(struct virtqueue *q, void *buf)
{
    struct virtq_buf *vb = buf;

    for (unsigned i = 0; i < vb->nin; i++)
        discard(q->vdev->dev.vm, vb->in[i].iov_base, vb->in[i].iov_len);
    virtqueue_push(q, vb, 0);
    return true;
}

/* ---- statistics (5.5.6.3): a buffer goes back and forth */

static void stats_arm(struct virtio_balloon *b)
{
    if (b->poll_s > 0 && b->stats_buf)
        vm_timer_set(b->timer, vm_clock_ns(b->front.vdev.dev.vm) + b->poll_s * 1000000000);
    else
        vm_timer_cancel(b->timer);
}

static void stats_ask(void *opaque)
{
    struct virtio_balloon *b = opaque;
    struct virtq_buf *vb = b->stats_buf;
    struct virtqueue *q;

    if (!vb)
        return;
    q = vb->q;
    b->stats_buf = NULL;
    virtqueue_push(q, vb, 0);
    virtqueue_notify(q);
}

static bool stats_one(struct virtqueue *q, void *buf)
{
    struct virtio_balloon *b = balloon_of(q->vdev);
    struct virtq_buf *vb = buf;
    struct balloon_stat s;

    for (unsigned i = 0; i < 4 * STATS && iov_to_buf(vb->out, vb->nout, i * sizeof(s), &s, sizeof(s)) == sizeof(s); i++)
        if (s.tag < STATS)
            b->stats[s.tag] = s.value;
    b->stats_at = g_get_real_time() / G_USEC_PER_SEC;
    if (b->stats_buf) {                 /* one is enough */
        virtqueue_push(q, b->stats_buf, 0);
        virtqueue_notify(q);
    }
    b->stats_buf = vb;
    stats_arm(b);
    return true;
}

/* 5.5.2: queues of features that were not taken do not exist, and those behind them move up. */
static unsigned queue_role(struct virtqueue *q)
{
    if (q->index < Q_STATS)
        return q->index;
    if (q->index == Q_STATS && virtio_has(q->vdev, F_STATS_VQ))
        return Q_STATS;
    return Q_REPORTING;
}

static void balloon_queue(struct virtqueue *q)
{
    unsigned role = queue_role(q);

    if (role == Q_REPORTING && !virtio_has(q->vdev, F_REPORTING))
        return;
    virtqueue_drain(q, role == Q_STATS ? stats_one : role == Q_REPORTING ? report_one : inflate_one);
    virtqueue_notify(q);
}

/* ---- configuration and target */

static uint64_t ram_size(struct vm *vm) { return vm->config.ram_size; }

static void balloon_get_config(struct virtio_device *v, uint8_t *config)
{
    struct balloon_config *c = (struct balloon_config *)config;

    c->num_pages = balloon_of(v)->num_pages;
    c->actual = balloon_of(v)->actual;
}

static uint64_t balloon_actual(struct virtio_balloon *b)
{
    uint64_t taken = (uint64_t)b->actual << PFN_SHIFT, size = ram_size(b->front.vdev.dev.vm);

    return taken < size ? size - taken : 0;
}

static void balloon_set_config(struct virtio_device *v, unsigned offset, const uint8_t *data, unsigned len)
{
    struct virtio_balloon *b = balloon_of(v);
    struct json_object *o;
    uint32_t old = b->actual;

    for (unsigned i = 0; i < len; i++)
        if (offset + i >= 4 && offset + i < 8)
            ((uint8_t *)&b->actual)[offset + i - 4] = data[i];
    if (b->actual == old)
        return;
    o = json_object_new_object();
    json_object_object_add(o, "actual", json_object_new_uint64(balloon_actual(b)));
    vm_event(v->dev.vm, "BALLOON_CHANGE", o);
}

/* What QMP's balloon sets and query-balloon reads. */
static bool set_target(void *obj, struct json_object *value, struct error *err)
{
    struct virtio_balloon *b = (struct virtio_balloon *)virtio_backend(obj);
    struct virtio_device *v = &b->front.vdev;
    uint64_t bytes = json_object_get_uint64(value), size;

    if (!b)
        return error_set(err, ERR_GENERIC, "the device is not ready", NULL);
    size = ram_size(v->dev.vm);
    device_lock(&v->dev);
    b->num_pages = (size - MIN(bytes, size)) >> PFN_SHIFT;
    device_unlock(&v->dev);
    virtio_config_changed(v);
    return true;
}

static struct json_object *get_actual(void *obj, struct error *err)
{
    struct virtio_balloon *b = (struct virtio_balloon *)virtio_backend(obj);

    return json_object_new_uint64(b ? balloon_actual(b) : 0);
}

static struct json_object *get_stats(void *obj, struct error *err)
{
    struct virtio_balloon *b = (struct virtio_balloon *)virtio_backend(obj);
    struct json_object *o = json_object_new_object(), *stats = json_object_new_object();

    for (unsigned i = 0; i < STATS; i++)
        json_object_object_add(stats, stat_names[i], json_object_new_uint64(b ? b->stats[i] : UINT64_MAX));
    json_object_object_add(o, "stats", stats);
    json_object_object_add(o, "last-update", json_object_new_int64(b ? b->stats_at : 0));
    return o;
}

static struct json_object *get_poll(void *obj, struct error *err)
{
    struct virtio_balloon *b = (struct virtio_balloon *)virtio_backend(obj);

    return json_object_new_int64(b ? b->poll_s : 0);
}

static bool set_poll(void *obj, struct json_object *value, struct error *err)
{
    struct virtio_balloon *b = (struct virtio_balloon *)virtio_backend(obj);
    int64_t s = json_object_get_int64(value);

    if (!b)
        return error_set(err, ERR_GENERIC, "the device is not ready", NULL);
    if (s < 0 || s > UINT32_MAX)
        return error_set(err, ERR_GENERIC, "timer value must be from 0 to 4294967295 seconds", NULL);
    device_lock(&b->front.vdev.dev);
    b->poll_s = s;
    stats_arm(b);
    device_unlock(&b->front.vdev.dev);
    return true;
}

static const struct object_prop balloon_object_props[] = {
    { "target", "size", NULL, set_target },
    { "actual", "size", get_actual, NULL },
    { "guest-stats", "guest statistics", get_stats, NULL },
    { "guest-stats-polling-interval", "int", get_poll, set_poll },
    { 0 }
};

/* ---- life */

static void balloon_reset(struct virtio_device *v)
{
    struct virtio_balloon *b = balloon_of(v);

    if (b->stats_buf)
        virtqueue_detach(b->stats_buf->q, b->stats_buf);
    b->stats_buf = NULL;
    b->actual = 0;
    if (b->timer)
        vm_timer_cancel(b->timer);
}

static void balloon_queue_reset(struct virtio_device *v, struct virtqueue *q)
{
    struct virtio_balloon *b = balloon_of(v);
    struct virtq_buf *vb = b->stats_buf;

    if (vb && vb->q == q) {
        b->stats_buf = NULL;
        virtqueue_detach(q, vb);
    }
}

static bool balloon_realize(struct device *dev, struct error *err)
{
    struct virtio_device *v = device_cast(dev, struct virtio_device);
    struct virtio_balloon *b = balloon_of(v);
    struct device *other = device_find_class(dev->vm, "virtio-balloon-device", NULL);

    if (other != dev || device_find_class(dev->vm, "virtio-balloon-device", dev))
        return error_set(err, ERR_GENERIC, "Only one balloon device is supported", NULL);
    for (unsigned i = 0; i < 4; i++)
        virtio_add_queue(v, QUEUE_SIZE, 0, balloon_queue);
    memset(b->stats, 0xff, sizeof(b->stats));
    b->timer = vm_timer_new(dev->vm, dev, stats_ask, b);
    virtio_offer(v, F_DEFLATE_ON_OOM, b->conf.deflate_on_oom);
    virtio_offer(v, F_REPORTING, b->conf.reporting);
    v->config_size = sizeof(struct balloon_config);
    return true;
}

static void balloon_unrealize(struct device *dev)
{
    virtio_reset(device_cast(dev, struct virtio_device));
    vm_timer_free(device_cast(dev, struct virtio_balloon)->timer);
}

static const struct virtio_info balloon_info = {
    .name = "virtio-balloon",
    .id = VIRTIO_ID_BALLOON,
    .legacy_pci_id = 0x1002,
    .features = VIRTIO_BIT(F_STATS_VQ),
    .get_config = balloon_get_config,
    .set_config = balloon_set_config,
    .reset = balloon_reset,
    .queue_reset = balloon_queue_reset,
};

static const struct prop balloon_props[] = {
    PROP(struct virtio_balloon, conf.deflate_on_oom, "deflate-on-oom", PROP_BOOL, "off", "let the guest take pages back when it runs out"),
    PROP(struct virtio_balloon, conf.reporting, "free-page-reporting", PROP_BOOL, "off", "the guest reports pages that it does not use"),
    { 0 }
};

VIRTIO_DEVICE("virtio-balloon", struct virtio_balloon, "Misc", "virtio memory balloon", &balloon_info,
              0x00ff00, balloon_props, balloon_object_props, .realize = balloon_realize,
              .unrealize = balloon_unrealize);
