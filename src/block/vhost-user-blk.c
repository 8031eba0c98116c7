/* The block device that a vhost-user front end sees: virtio 1.2, 5.2. */
#include <errno.h>
#include <string.h>
#include "block/vhost-user.h"
#include "rhea/base/log.h"
#include "rhea/block/virtio_blk.h"

enum { SEGMENT_SECTORS = 1 << 21 };

struct request {
    struct vhost_user *x;
    struct vhost_buf *b;
    uint32_t type;
    uint64_t off, len;          /* len: of data; bytes that a read fills */
    uint8_t *status;
    struct iovec *data;
    unsigned ndata;
};

/* ---- features, configuration */

uint64_t vhost_blk_features(const struct vhost_user *x)
{
    uint64_t f = 1ull << VHOST_F_VERSION_1 | 1ull << VHOST_F_INDIRECT_DESC | 1ull << VHOST_F_EVENT_IDX | 1ull << VHOST_F_PROTOCOL_FEATURES |
                 1ull << VBLK_F_SEG_MAX | 1ull << VBLK_F_BLK_SIZE | 1ull << VBLK_F_TOPOLOGY | 1ull << VBLK_F_FLUSH |
                 1ull << VBLK_F_CONFIG_WCE;

    if (x->num_queues > 1)
        f |= 1ull << VBLK_F_MQ;
    return f | (x->e.writable ? 1ull << VBLK_F_DISCARD | 1ull << VBLK_F_WRITE_ZEROES : 1ull << VBLK_F_RO);
}

void vhost_blk_config(const struct vhost_user *x, uint8_t config[VHOST_CONFIG_MAX])
{
    struct vblk_config *c = memset(config, 0, VHOST_CONFIG_MAX);
    const struct block_info *info = &x->info;

    c->capacity = info->size / VBLK_SECTOR;
    c->seg_max = 126;
    c->blk_size = x->block_size;
    c->physical_block_exp = __builtin_ctz(MAX(info->physical_block, x->block_size) / x->block_size);
    c->min_io_size = 1;
    c->opt_io_size = info->opt_transfer / x->block_size;
    c->writeback = x->writeback;
    c->num_queues = x->num_queues;
    c->max_discard_sectors = c->max_write_zeroes_sectors = SEGMENT_SECTORS;
    c->max_discard_seg = c->max_write_zeroes_seg = 1;
    c->discard_sector_alignment = MAX(info->discard_align, x->block_size) / VBLK_SECTOR;
    c->write_zeroes_may_unmap = info->can_discard;
}

void vhost_blk_set_config(struct vhost_user *x, uint32_t off, const uint8_t *data, uint32_t bytes)
{
    if (off == offsetof(struct vblk_config, writeback) && bytes == 1 && vhost_has(x, VBLK_F_CONFIG_WCE))
        x->writeback = data[0] & 1;
}

/* 5.2.5: a driver that takes neither FLUSH nor CONFIG_WCE relies on every write being stable. */
void vhost_blk_negotiated(struct vhost_user *x)
{
    if (!vhost_has(x, VBLK_F_CONFIG_WCE))
        x->writeback = vhost_has(x, VBLK_F_FLUSH);
}

/* ---- requests */

static void finish(struct request *r, uint8_t status)
{
    struct vhost_buf *b = r->b;
    bool filled = r->type == VBLK_T_IN || r->type == VBLK_T_GET_ID;

    *r->status = status;
    g_free(r->data);
    g_free(r);
    vhost_ring_push(b, status == VBLK_S_OK && filled ? b->in_len : 1);
}

static void done(void *opaque, int ret)
{
    finish(opaque, !ret ? VBLK_S_OK : ret == -ENOTSUP ? VBLK_S_UNSUPP : VBLK_S_IOERR);
}

static unsigned write_flags(const struct request *r)
{
    return r->x->writeback ? 0 : BLOCK_FUA;
}

static bool in_range(const struct request *r, uint64_t off, uint64_t bytes)
{
    uint64_t size = r->x->info.size;

    return off % r->x->block_size == 0 && bytes % r->x->block_size == 0 && off <= size && bytes <= size - off;
}

static void start_data(struct request *r)
{
    if (!in_range(r, r->off, r->len) || (r->type == VBLK_T_OUT && !r->x->e.writable))
        finish(r, VBLK_S_IOERR);
    else if (!r->len)
        finish(r, VBLK_S_OK);
    else if (r->type == VBLK_T_IN)
        block_readv(r->x->e.b, r->off, r->data, r->ndata, 0, done, r);
    else
        block_writev(r->x->e.b, r->off, r->data, r->ndata, write_flags(r), done, r);
}

static void start_flush(struct request *r)
{
    block_flush(r->x->e.b, done, r);
}

static void start_id(struct request *r)
{
    char id[VBLK_ID_BYTES] = { 0 };

    memcpy(id, r->x->e.id, strnlen(r->x->e.id, VBLK_ID_BYTES));
    iov_write(r->data, r->ndata, 0, id, MIN(sizeof(id), r->len));
    finish(r, VBLK_S_OK);
}

/* 5.2.6.2; one segment, as the configuration says. */
static void start_segment(struct request *r)
{
    bool zeroes = r->type == VBLK_T_WRITE_ZEROES;
    struct vblk_segment s;
    uint64_t off, bytes;

    if (!vhost_has(r->x, zeroes ? VBLK_F_WRITE_ZEROES : VBLK_F_DISCARD) || r->len != sizeof(s)) {
        finish(r, VBLK_S_UNSUPP);
        return;
    }
    iov_read(r->data, r->ndata, 0, &s, sizeof(s));
    off = s.sector <= INT64_MAX / VBLK_SECTOR ? s.sector * VBLK_SECTOR : INT64_MAX;
    bytes = (uint64_t)s.sectors * VBLK_SECTOR;
    if (s.flags & ~(zeroes ? VBLK_ZEROES_UNMAP : 0))
        finish(r, VBLK_S_UNSUPP);
    else if (!r->x->e.writable || s.sectors > SEGMENT_SECTORS || !in_range(r, off, bytes))
        finish(r, VBLK_S_IOERR);
    else if (zeroes)
        block_write_zeroes(r->x->e.b, off, bytes, (s.flags & VBLK_ZEROES_UNMAP ? BLOCK_MAY_UNMAP : 0) | write_flags(r), done, r);
    else
        block_discard(r->x->e.b, off, bytes, done, r);
}

static const struct { uint32_t type; void (*fn)(struct request *r); } types[] = {
    { VBLK_T_IN, start_data }, { VBLK_T_OUT, start_data }, { VBLK_T_FLUSH, start_flush }, { VBLK_T_GET_ID, start_id },
    { VBLK_T_DISCARD, start_segment }, { VBLK_T_WRITE_ZEROES, start_segment },
};

static void start(struct request *r)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(types); i++) {
        if (types[i].type == r->type) {
            types[i].fn(r);
            return;
        }
    }
    finish(r, VBLK_S_UNSUPP);
}

/* The header stands at the start of `out`, the status in the last byte of `in`; descriptors may divide them anywhere. */
bool vhost_blk_request(struct vhost_user *x, struct vhost_buf *b)
{
    struct iovec *in = b->iov + b->nout, *last = NULL;
    struct vblk_header h;
    struct request *r;
    bool out;

    for (unsigned i = b->nin; i-- && !last;)
        last = in[i].iov_len ? &in[i] : NULL;
    if (b->out_len < sizeof(h) || !last)
        return false;
    iov_read(b->iov, b->nout, 0, &h, sizeof(h));
    r = g_new0(struct request, 1);
    r->x = x;
    r->b = b;
    r->type = h.type;
    r->off = h.sector <= INT64_MAX / VBLK_SECTOR ? h.sector * VBLK_SECTOR : INT64_MAX;
    r->status = (uint8_t *)last->iov_base + last->iov_len - 1;
    out = r->type != VBLK_T_IN && r->type != VBLK_T_GET_ID;
    r->len = out ? b->out_len - sizeof(h) : b->in_len - 1;
    r->data = g_new(struct iovec, MAX(1, out ? b->nout : b->nin));
    r->ndata = r->len ? iov_slice(r->data, out ? b->iov : in, out ? b->nout : b->nin, out ? sizeof(h) : 0, r->len) : 0;
    start(r);
    return true;
}
