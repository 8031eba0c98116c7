/* qcow2: compressed clusters, raw deflate or zstd. The work is done on the pool's threads, each with codecs of its own.
 * Deflate's distances may reach over the whole cluster, as RFC 1951 has it: who inflates a cluster in one go, as all do
 * that we know of, needs no window. */
#include <errno.h>
#include <libdeflate.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include "block/aio.h"
#include "block/format/qcow2.h"

/* zstd: clusters at level 2 take a quarter to a third less of the processor than at the library's own 3, and 1% more room. */
enum { DEFLATE_LEVEL = 6, ZSTD_LEVEL = 2 };

struct codec { unsigned type; const void *in; uint64_t in_bytes; void *out; uint64_t out_bytes, produced; };

/* ---- a thread's codecs, made when they are first wanted */

struct codecs {
    struct libdeflate_compressor *deflate;
    struct libdeflate_decompressor *inflate;
    ZSTD_CCtx *zstd_in;
    ZSTD_DCtx *zstd_out;
};

static pthread_key_t codecs_key;
static pthread_once_t codecs_once = PTHREAD_ONCE_INIT;

static void codecs_free(void *arg)
{
    struct codecs *c = arg;

    libdeflate_free_compressor(c->deflate);
    libdeflate_free_decompressor(c->inflate);
    ZSTD_freeCCtx(c->zstd_in);
    ZSTD_freeDCtx(c->zstd_out);
    g_free(c);
}

static void codecs_init(void)
{
    pthread_key_create(&codecs_key, codecs_free);
}

static struct codecs *codecs_get(void)
{
    struct codecs *c;

    pthread_once(&codecs_once, codecs_init);
    c = pthread_getspecific(codecs_key);
    if (!c) {
        c = g_new0(struct codecs, 1);
        pthread_setspecific(codecs_key, c);
    }
    return c;
}

/* ---- the work */

/* The compressed bytes end somewhere in the last sector: what follows them is ignored, but a whole cluster must come. */
static int inflate_zlib(struct codec *c)
{
    struct codecs *own = codecs_get();
    enum libdeflate_result r;
    size_t used, out;

    if (!own->inflate)
        own->inflate = libdeflate_alloc_decompressor();
    if (!own->inflate)
        return -ENOMEM;
    r = libdeflate_deflate_decompress_ex(own->inflate, c->in, c->in_bytes, c->out, c->out_bytes, &used, &out);
    return r == LIBDEFLATE_SUCCESS && out == c->out_bytes ? 0 : -EIO;
}

static int inflate_zstd(struct codec *c)
{
    ZSTD_inBuffer in = { c->in, c->in_bytes, 0 };
    ZSTD_outBuffer out = { c->out, c->out_bytes, 0 };
    struct codecs *own = codecs_get();

    if (!own->zstd_out)
        own->zstd_out = ZSTD_createDCtx();
    if (!own->zstd_out)
        return -ENOMEM;
    ZSTD_DCtx_reset(own->zstd_out, ZSTD_reset_session_only);
    while (out.pos < out.size) {
        size_t before = in.pos + out.pos, r = ZSTD_decompressStream(own->zstd_out, &out, &in);

        if (ZSTD_isError(r) || (out.pos < out.size && in.pos + out.pos == before))
            return -EIO;
    }
    return 0;
}

static int inflate_job(void *arg)
{
    struct codec *c = arg;

    return c->type == QCOW2_ZSTD ? inflate_zstd(c) : inflate_zlib(c);
}

int qcow2_inflate(struct qcow2 *q, const void *in, uint64_t in_bytes, void *out)
{
    struct codec c = { .type = q->compression, .in = in, .in_bytes = in_bytes, .out = out, .out_bytes = q->cluster_size };

    return pool_run(inflate_job, &c);
}

static int deflate_job(void *arg)
{
    struct codec *c = arg;
    struct codecs *own = codecs_get();
    size_t n;

    if (c->type == QCOW2_ZLIB) {
        if (!own->deflate)
            own->deflate = libdeflate_alloc_compressor(DEFLATE_LEVEL);
        if (!own->deflate)
            return -ENOMEM;
        c->produced = libdeflate_deflate_compress(own->deflate, c->in, c->in_bytes, c->out, c->out_bytes);
        return c->produced ? 0 : -E2BIG;
    }
    if (!own->zstd_in)
        own->zstd_in = ZSTD_createCCtx();
    if (!own->zstd_in)
        return -ENOMEM;
    n = ZSTD_compressCCtx(own->zstd_in, c->out, c->out_bytes, c->in, c->in_bytes, ZSTD_LEVEL);
    c->produced = n;
    return ZSTD_isError(n) ? -E2BIG : 0;
}

/* What was there before is freed. */
static int link_compressed(struct qcow2 *q, uint64_t off, uint64_t host, uint64_t bytes)
{
    unsigned shift = 62 - (q->cluster_bits - 8), i;
    uint64_t sectors = ((host + bytes - 1) / 512) - host / 512;
    struct qcow2_alloc *busy;
    struct meta_entry *e;
    int ret;

    while ((busy = qcow2_alloc_find(q, off, off + q->cluster_size)))
        co_queue_wait(&busy->waiters, &q->lock);
    ret = qcow2_l2_writable(q, off, &e);
    if (ret)
        return ret;
    i = qcow2_slice_index(q, off);
    qcow2_free_entry_later(q, l2_load(q, e->data, i).desc);
    l2_store(q, e, i, (struct l2_entry){ QCOW2_COMPRESSED | sectors << shift | host, 0 });
    meta_put(e);
    return 0;
}

static void unlink_bytes(struct qcow2 *q, uint64_t host, uint64_t bytes)
{
    uint64_t first = host & ~(q->cluster_size - 1);

    qcow2_refcount_add(q, first, clusters_of(q, host + bytes - first), -1);
    q->compressed_next = 0;
}

static int write_compressed(struct qcow2 *q, uint64_t off, const uint8_t *in)
{
    struct codec c = { .type = q->compression, .in = in, .in_bytes = q->cluster_size, .out_bytes = q->cluster_size - 1 };
    uint64_t host;
    int ret;

    c.out = node_buffer(q->file, q->cluster_size);
    ret = c.out ? pool_run(deflate_job, &c) : -ENOMEM;
    if (ret) {
        struct iovec iov = { (void *)in, q->cluster_size };

        free(c.out);
        return ret == -E2BIG ? qcow2_write(q, off, q->cluster_size, &iov, 1) : ret;     /* does not shrink */
    }
    co_mutex_lock(&q->lock);
    q->inflated_entry = 0;
    ret = qcow2_alloc_bytes(q, c.produced, &host);
    co_mutex_unlock(&q->lock);
    if (!ret) {
        ret = node_pwrite(q->file, host, c.out, c.produced);
        co_mutex_lock(&q->lock);
        if (!ret)
            ret = link_compressed(q, off, host, c.produced);
        if (ret)
            unlink_bytes(q, host, c.produced);
        co_mutex_unlock(&q->lock);
    }
    free(c.out);
    return ret ? ret : qcow2_throttle(q);
}

bool qcow2_can_compress(struct block_node *n)
{
    const struct qcow2 *q = n->state;

    return !q->data_external && !q->crypt_method;
}

int qcow2_pwrite_compressed(struct block_node *n, uint64_t off, const void *buf, uint64_t bytes)
{
    struct qcow2 *q = n->state;
    g_autofree uint8_t *whole = NULL;
    int ret;

    if ((off & (q->cluster_size - 1)) || bytes > q->cluster_size ||
        (bytes < q->cluster_size && off + bytes != n->size))
        return -EINVAL;
    if (!qcow2_can_compress(n))
        return -ENOTSUP;
    if (bytes < q->cluster_size) {              /* the end of the disk */
        whole = g_malloc0(q->cluster_size);
        memcpy(whole, buf, bytes);
    }
    qcow2_request_begin(q);
    ret = write_compressed(q, off, whole ? whole : buf);
    qcow2_request_end(q);
    return ret;
}
