/* Virtio entropy device: virtio 1.2, 5.4. One queue of buffers to fill, at a rate that max-bytes and period limit. */
#include "rhea/device/virtio_pci.h"
#include "rhea/vm/clock.h"
#include "rhea/vm/object.h"

enum { QUEUE_SIZE = 8, CHUNK = 4096 };

struct virtio_rng {
    struct virtio_front front;
    struct { char *rng; uint64_t max_bytes; uint32_t period_ms; } conf;
    struct object *rng;
    bool own_rng;               /* made for want of rng= */
    uint64_t quota;             /* bytes left in this period */
    struct vm_timer *timer;
    bool reading, dead;         /* a read is on its way; the device has gone meanwhile */
    size_t asked;
    uint8_t chunk[CHUNK];
};

static void rng_serve(struct virtio_rng *r);

static struct virtqueue *rng_queue(struct virtio_rng *r) { return virtio_queue(&r->front.vdev, 0); }

static void rng_got(void *opaque, size_t got)
{
    struct virtio_rng *r = opaque;
    struct device *dev = &r->front.vdev.dev;
    size_t done = 0;
    struct virtq_buf *b;

    device_lock(dev);
    r->reading = false;
    r->quota -= MIN(got, r->quota);
    while (!r->dead && done < got && (b = virtqueue_pop(rng_queue(r)))) {
        size_t n = iov_from_buf(b->in, b->nin, 0, r->chunk + done, got - done);

        done += n;
        virtqueue_push(rng_queue(r), b, n);
    }
    if (!r->dead) {
        virtqueue_notify(rng_queue(r));
        if (got)                        /* a source that failed is not asked in a loop */
            rng_serve(r);
    }
    device_unlock(dev);
}

/* One read at a time; a buffer is taken only when there is something to put in it. */
static void rng_serve(struct virtio_rng *r)
{
    struct virtq_buf *b;

    if (r->reading || !(b = virtqueue_pop(rng_queue(r))))
        return;
    r->asked = MIN(MIN(b->in_len, CHUNK), r->quota);
    if (!b->in_len) {
        virtqueue_push(rng_queue(r), b, 0);
        virtqueue_notify(rng_queue(r));
        return;
    }
    virtqueue_unpop(rng_queue(r), b);
    if (!r->asked) {
        if (vm_timer_expiry(r->timer) < 0)
            vm_timer_set(r->timer, vm_clock_ns(r->front.vdev.dev.vm) + r->conf.period_ms * 1000000ll);
        return;
    }
    r->reading = true;
    rng_read(r->rng, r->chunk, r->asked, r->front.vdev.dev.loop, rng_got, r);
}

static void rng_period(void *opaque)
{
    struct virtio_rng *r = opaque;

    r->quota = r->conf.max_bytes;
    rng_serve(r);
}

static void rng_handle(struct virtqueue *q)
{
    rng_serve((struct virtio_rng *)q->vdev);
}

/* Without rng=, the host's generator: what the guest asks for is harmless. */
static bool rng_source(struct virtio_rng *r, struct error *err)
{
    struct vm *vm = r->front.vdev.dev.vm;
    static unsigned count;
    g_autofree char *id = NULL;
    struct json_object *opts;
    bool ok;

    if (r->conf.rng) {
        r->rng = object_get(vm, r->conf.rng, "rng-backend", err);
        return r->rng;
    }
    id = g_strdup_printf("rng-default-%u", __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED));
    opts = json_object_new_object();
    json_object_object_add(opts, "qom-type", json_object_new_string("rng-builtin"));
    json_object_object_add(opts, "id", json_object_new_string(id));
    ok = object_add(vm, opts, err);
    json_object_put(opts);
    r->own_rng = ok;
    r->rng = ok ? object_get(vm, id, "rng-backend", err) : NULL;
    return r->rng;
}

static bool rng_realize(struct device *dev, struct error *err)
{
    struct virtio_rng *r = device_cast(dev, struct virtio_rng);

    if (!r->conf.period_ms)
        return error_set(err, ERR_GENERIC, "'period' must be a positive number of milliseconds", NULL);
    if (!rng_source(r, err))
        return false;
    r->quota = r->conf.max_bytes;
    r->timer = vm_timer_new(dev->vm, dev, rng_period, r);
    virtio_add_queue(&r->front.vdev, QUEUE_SIZE, 0, rng_handle);
    return true;
}

static void rng_unrealize(struct device *dev)
{
    struct virtio_rng *r = device_cast(dev, struct virtio_rng);

    r->dead = true;
    while (r->reading)                  /* sources answer at once or soon */
        loop_step(dev->loop, true);
    vm_timer_free(r->timer);
    if (r->own_rng) {
        g_autofree char *id = g_strdup(r->rng->id);

        object_put(r->rng);
        object_del(dev->vm, id, NULL);
    } else {
        object_put(r->rng);
    }
}

static const struct virtio_info rng_info = { .name = "virtio-rng", .id = VIRTIO_ID_RNG, .legacy_pci_id = 0x1005 };

static const struct prop rng_props[] = {
    PROP(struct virtio_rng, conf.rng, "rng", PROP_OBJECT, NULL, "id of a rng-random, rng-builtin or rng-egd object"),
    PROP(struct virtio_rng, conf.max_bytes, "max-bytes", PROP_U64, "9223372036854775807", "most bytes in a period"),
    PROP(struct virtio_rng, conf.period_ms, "period", PROP_U32, "65536", "milliseconds"),
    { 0 }
};

VIRTIO_DEVICE("virtio-rng", struct virtio_rng, "Misc", "virtio entropy device", &rng_info, 0x00ff00, rng_props, NULL,
              .realize = rng_realize, .unrealize = rng_unrealize);
