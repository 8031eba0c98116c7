/* The block device that a vhost-user front end sees: virtio 1.2, 5.2. */
#include <errno.h>
#include <string.h>
#include "block/vhost-user.h"
#include "rhea/base/log.h"

enum { F_SEG_MAX = 2, F_RO = 5, F_BLK_SIZE = 6, F_FLUSH = 9, F_TOPOLOGY = 10, F_CONFIG_WCE = 11, F_MQ = 12, F_DISCARD = 13, F_WRITE_ZEROES = 14 };
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
enum { SECTOR = 512, ID_BYTES = 20, SEGMENT_SECTORS = 1 << 21, ZEROES_UNMAP = 1 };

struct header { uint32_t type, reserved; uint64_t sector; };
struct segment { uint64_t sector; uint32_t sectors, flags; };
struct config {                 /* 5.2.4 */
    uint64_t capacity;
    uint32_t size_max, seg_max;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t blk_size;
    uint8_t physical_block_exp, alignment_offset;
    uint16_t min_io_size;
    uint32_t opt_io_size;
    uint8_t writeback, unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
    uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap, unused1[3];
} __attribute__((packed));

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
                 1ull << F_SEG_MAX | 1ull << F_BLK_SIZE | 1ull << F_TOPOLOGY | 1ull << F_FLUSH | 1ull << F_CONFIG_WCE;

    if (x->num_queues > 1)
        f |= 1ull << F_MQ;
    return f | (x->e.writable ? 1ull << F_DISCARD | 1ull << F_WRITE_ZEROES : 1ull << F_RO);
}

void vhost_blk_config(const struct vhost_user *x, uint8_t config[VHOST_CONFIG_MAX])
{
    struct config *c = memset(config, 0, VHOST_CONFIG_MAX);
    struct block_info info;

    block_backend_info(x->e.b, &info);
    c->capacity = info.size / SECTOR;
    c->seg_max = 126;
    c->blk_size = x->block_size;
    c->physical_block_exp = __builtin_ctz(MAX(info.physical_block, x->block_size) / x->block_size);
    c->min_io_size = 1;
    c->opt_io_size = info.opt_transfer / x->block_size;
    c->writeback = x->writeback;
    c->num_queues = x->num_queues;
    c->max_discard_sectors = c->max_write_zeroes_sectors = SEGMENT_SECTORS;
    c->max_discard_seg = c->max_write_zeroes_seg = 1;
    c->discard_sector_alignment = MAX(info.discard_align, x->block_size) / SECTOR;
    c->write_zeroes_may_unmap = info.can_discard;
}

void vhost_blk_set_config(struct vhost_user *x, uint32_t off, const uint8_t *data, uint32_t bytes)
{
    if (off == offsetof(struct config, writeback) && bytes == 1 && vhost_has(x, F_CONFIG_WCE))
        x->writeback = data[0] & 1;
}

/* 5.2.5: a driver that takes neither FLUSH nor CONFIG_WCE relies on every write being stable. */
void vhost_blk_negotiated(struct vhost_user *x)
{
    if (!vhost_has(x, F_CONFIG_WCE))
        x->writeback = vhost_has(x, F_FLUSH);
}

/* ---- requests */

static void finish(struct request *r, uint8_t status)
{
    struct vhost_buf *b = r->b;
    bool filled = r->type == T_IN || r->type == T_GET_ID;

    *r->status = status;
    g_free(r->data);
    g_free(r);
    vhost_ring_push(b, status == S_OK && filled ? b->in_len : 1);
}

static void done(void *opaque, int ret)
{
    finish(opaque, !ret ? S_OK : ret == -ENOTSUP ? S_UNSUPP : S_IOERR);
}

static unsigned write_flags(const struct request *r)
{
    return r->x->writeback ? 0 : BLOCK_FUA;
}

static bool in_range(const struct request *r, uint64_t off, uint64_t bytes)
{
    struct block_info info;

    block_backend_info(r->x->e.b, &info);
    return off % r->x->block_size == 0 && bytes % r->x->block_size == 0 && off <= info.size && bytes <= info.size - off;
}

static void start_data(struct request *r)
{
    if (!in_range(r, r->off, r->len) || (r->type == T_OUT && !r->x->e.writable))
        finish(r, S_IOERR);
    else if (!r->len)
        finish(r, S_OK);
    else if (r->type == T_IN)
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
    char id[ID_BYTES] = { 0 };

    memcpy(id, r->x->e.id, strnlen(r->x->e.id, ID_BYTES));
    iov_write(r->data, r->ndata, 0, id, MIN(sizeof(id), r->len));
    finish(r, S_OK);
}

/* 5.2.6.2; one segment, as the configuration says. */
static void start_segment(struct request *r)
{
    bool zeroes = r->type == T_WRITE_ZEROES;
    struct segment s;
    uint64_t off, bytes;

    if (!vhost_has(r->x, zeroes ? F_WRITE_ZEROES : F_DISCARD) || r->len != sizeof(s)) {
        finish(r, S_UNSUPP);
        return;
    }
    iov_read(r->data, r->ndata, 0, &s, sizeof(s));
    off = s.sector <= INT64_MAX / SECTOR ? s.sector * SECTOR : INT64_MAX;
    bytes = (uint64_t)s.sectors * SECTOR;
    if (s.flags & ~(zeroes ? ZEROES_UNMAP : 0))
        finish(r, S_UNSUPP);
    else if (!r->x->e.writable || s.sectors > SEGMENT_SECTORS || !in_range(r, off, bytes))
        finish(r, S_IOERR);
    else if (zeroes)
        block_write_zeroes(r->x->e.b, off, bytes, (s.flags & ZEROES_UNMAP ? BLOCK_MAY_UNMAP : 0) | write_flags(r), done, r);
    else
        block_discard(r->x->e.b, off, bytes, done, r);
}

static const struct { uint32_t type; void (*fn)(struct request *r); } types[] = {
    { T_IN, start_data }, { T_OUT, start_data }, { T_FLUSH, start_flush }, { T_GET_ID, start_id }, { T_DISCARD, start_segment },
    { T_WRITE_ZEROES, start_segment },
};

static void start(struct request *r)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(types); i++) {
        if (types[i].type == r->type) {
            types[i].fn(r);
            return;
        }
    }
    finish(r, S_UNSUPP);
}

/* The header stands at the start of `out`, the status in the last byte of `in`; descriptors may divide them anywhere. */
bool vhost_blk_request(struct vhost_user *x, struct vhost_buf *b)
{
    struct iovec *in = b->iov + b->nout, *last = NULL;
    struct header h;
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
    r->off = h.sector <= INT64_MAX / SECTOR ? h.sector * SECTOR : INT64_MAX;
    r->status = (uint8_t *)last->iov_base + last->iov_len - 1;
    out = r->type != T_IN && r->type != T_GET_ID;
    r->len = out ? b->out_len - sizeof(h) : b->in_len - 1;
    r->data = g_new(struct iovec, MAX(1, out ? b->nout : b->nin));
    r->ndata = r->len ? iov_slice(r->data, out ? b->iov : in, out ? b->nout : b->nin, out ? sizeof(h) : 0, r->len) : 0;
    start(r);
    return true;
}
