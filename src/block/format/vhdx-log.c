/* VHDX: the log ([MS-VHDX] 2.3). A ring of entries of whole 4 KiB units: a header with descriptors, then a unit for each
 * data descriptor. The entries from the newest one's tail up to it are what must be applied.
 *
 * We write entries of which each is its own tail: the changes of one are applied, and at rest, before the next is
 * written. */
#include "block/format/vhdx.h"

#include <errno.h>

enum {
    E_CRC = 4, E_LENGTH = 8, E_TAIL = 12, E_SEQUENCE = 16, E_COUNT = 24, E_GUID = 32, E_FLUSHED = 48, E_LAST = 56, E_HEADER = 64,
    D_TRAILING = 4, D_LEADING = 8, D_OFFSET = 16, D_SEQUENCE = 24, D_SIZE = 32,
    U_SEQUENCE_HIGH = 4, U_DATA = 8, U_DATA_LEN = 4084, U_SEQUENCE_LOW = 4092, UNIT = VHDX_LOG_UNIT,
    TRIES_MAX = 64, ZERO_MAX = 1 << 30,
};

struct entry { uint64_t sequence; uint32_t off, length, tail; };

struct replay {
    struct vhdx *s;
    uint8_t *log;               /* all of it */
    uint64_t len, budget;       /* budget: bytes that may still be summed */
    GArray *entries;
    struct entry **at;          /* by unit */
};

static uint64_t descriptor_units(uint32_t count)
{
    return (E_HEADER + (uint64_t)count * D_SIZE + UNIT - 1) / UNIT;
}

/* The bytes of an entry, which may wrap around the ring's end. */
static void entry_copy(const struct replay *r, uint64_t off, uint8_t *buf, uint64_t len)
{
    uint64_t first = MIN(len, r->len - off);

    memcpy(buf, r->log + off, first);
    memcpy(buf + first, r->log, len - first);
}

static bool entry_shape_ok(const struct replay *r, const uint8_t *e)
{
    uint32_t length = le32(e + E_LENGTH), tail = le32(e + E_TAIL);

    return !memcmp(e, "loge", 4) && length && !(length % UNIT) && length <= r->len && !(tail % UNIT) && tail < r->len &&
           le64(e + E_SEQUENCE) && !memcmp(e + E_GUID, r->s->header + H_LOG_GUID, 16) &&
           descriptor_units(le32(e + E_COUNT)) <= length / UNIT;
}

/* Descriptors and data carry the entry's sequence number. */
static bool entry_parts_ok(const uint8_t *e)
{
    uint64_t sequence = le64(e + E_SEQUENCE), unit = descriptor_units(le32(e + E_COUNT)), units = le32(e + E_LENGTH) / UNIT;

    for (uint32_t i = 0; i < le32(e + E_COUNT); i++) {
        const uint8_t *d = e + E_HEADER + (uint64_t)i * D_SIZE, *u = e + unit * UNIT;
        bool data = !memcmp(d, "desc", 4);

        if ((!data && memcmp(d, "zero", 4)) || le64(d + D_SEQUENCE) != sequence || le64(d + D_OFFSET) % UNIT)
            return false;
        if (!data)
            continue;
        if (unit++ >= units || memcmp(u, "data", 4) || le32(u + U_SEQUENCE_HIGH) != sequence >> 32 ||
            le32(u + U_SEQUENCE_LOW) != (uint32_t)sequence)
            return false;
    }
    return true;
}

static bool entry_valid(struct replay *r, uint64_t off)
{
    static const uint8_t zero[4];
    const uint8_t *head = r->log + off;
    uint32_t length = le32(head + E_LENGTH), crc;
    g_autofree uint8_t *e = NULL;

    if (!entry_shape_ok(r, head) || length > r->budget)
        return false;
    r->budget -= length;
    e = g_malloc(length);
    entry_copy(r, off, e, length);
    crc = image_crc32c(image_crc32c(image_crc32c(0, e, E_CRC), zero, 4), e + E_CRC + 4, length - E_CRC - 4);
    return crc == le32(e + E_CRC) && entry_parts_ok(e);
}

static int newest_first(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    return x->sequence < y->sequence ? 1 : x->sequence > y->sequence ? -1 : 0;
}

/* The entry at `off` of that number, or NULL. */
static struct entry *entry_find(struct replay *r, uint64_t off, uint64_t sequence)
{
    struct entry *e = r->at[off / UNIT];

    return e && e->sequence == sequence ? e : NULL;
}

/* The first entry of the sequence that ends in `head`, if it is whole. */
static struct entry *sequence_tail(struct replay *r, struct entry *head)
{
    struct entry *tail = r->at[head->tail / UNIT], *e = tail;

    for (unsigned i = 0; e && e != head && i < r->entries->len; i++)
        e = entry_find(r, (e->off + e->length) % r->len, e->sequence + 1);
    return e == head ? tail : NULL;
}

/* ---- applying */

static int apply_data(struct block_node *n, const uint8_t *d, const uint8_t *u)
{
    g_autofree uint8_t *buf = g_malloc(UNIT);

    memcpy(buf, d + D_LEADING, 8);
    memcpy(buf + 8, u + U_DATA, U_DATA_LEN);
    memcpy(buf + 8 + U_DATA_LEN, d + D_TRAILING, 4);
    return node_pwrite(n->file, le64(d + D_OFFSET), buf, UNIT);
}

static bool apply(struct block_node *n, struct replay *r, const struct entry *at, struct error *err)
{
    g_autofree uint8_t *e = g_malloc(at->length);
    uint64_t unit;

    entry_copy(r, at->off, e, at->length);
    unit = descriptor_units(le32(e + E_COUNT));
    for (uint32_t i = 0; i < le32(e + E_COUNT); i++) {
        const uint8_t *d = e + E_HEADER + (uint64_t)i * D_SIZE;
        bool data = !memcmp(d, "desc", 4);
        uint64_t off = le64(d + D_OFFSET), len = data ? UNIT : le64(d + D_LEADING);
        int ret;

        /* Headers are not logged, and what is written lies in the file. */
        if (off < VHDX_REGIONS_1 || len % UNIT || len > ZERO_MAX || !range_inside(off, len, n->file->size))
            return image_corrupt(err, "VHDX", "the log writes outside the file");
        ret = data ? apply_data(n, d, e + unit++ * UNIT) : node_write_zeroes(n->file, off, len, BLOCK_MAY_UNMAP);
        if (ret)
            return error_set_errno(err, -ret, NULL, "cannot replay the log");
    }
    return true;
}

static bool replay_sequence(struct block_node *n, struct replay *r, struct entry *tail, struct entry *head,
                            struct error *err)
{
    const uint8_t *h = r->log + head->off;
    uint64_t flushed = le64(h + E_FLUSHED), last = le64(h + E_LAST);
    int ret = 0;

    if (flushed > n->file->size)
        return image_corrupt(err, "VHDX", "the file has been cut: %" PRIu64 " bytes, of %" PRIu64, n->file->size, flushed);
    if (last > n->file->size)
        ret = last > 2 * VHDX_SIZE_MAX ? -EFBIG : node_truncate(n->file, last, NULL);
    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot replay the log");
    for (struct entry *e = tail;; e = entry_find(r, (e->off + e->length) % r->len, e->sequence + 1)) {
        if (!apply(n, r, e, err))
            return false;
        if (e == head)
            break;
    }
    memset(r->s->header + H_LOG_GUID, 0, 16);
    ret = node_flush(n->file);
    if (!ret)
        ret = vhdx_header_update(n);
    return !ret || error_set_errno(err, -ret, NULL, "cannot replay the log");
}

static bool replay_run(struct block_node *n, struct replay *r, struct error *err)
{
    int ret = node_pread(n->file, r->s->log.off, r->log, r->len);

    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot read the log");
    for (uint64_t off = 0; off < r->len; off += UNIT) {
        const uint8_t *h = r->log + off;
        struct entry e = { le64(h + E_SEQUENCE), off, le32(h + E_LENGTH), le32(h + E_TAIL) };

        if (entry_valid(r, off))
            g_array_append_val(r->entries, e);
    }
    g_array_sort(r->entries, newest_first);
    for (unsigned i = 0; i < r->entries->len; i++)
        r->at[g_array_index(r->entries, struct entry, i).off / UNIT] = &g_array_index(r->entries, struct entry, i);
    for (unsigned i = 0; i < MIN(r->entries->len, TRIES_MAX); i++) {
        struct entry *head = &g_array_index(r->entries, struct entry, i), *tail = sequence_tail(r, head);

        if (tail)
            return replay_sequence(n, r, tail, head, err);
    }
    return image_corrupt(err, "VHDX", "the log has no whole sequence of entries");
}

bool vhdx_log_replay(struct block_node *n, struct error *err)
{
    struct vhdx *s = n->state;
    struct replay r = { .s = s, .len = s->log.len, .budget = 4 * s->log.len };
    bool ok;

    if (le16(s->header + H_LOG_VERSION))
        return image_corrupt(err, "VHDX", "log version %u is not known", le16(s->header + H_LOG_VERSION));
    r.log = g_try_malloc(r.len);
    r.entries = g_array_new(false, false, sizeof(struct entry));
    r.at = g_new0(struct entry *, r.len / UNIT);
    ok = r.log ? replay_run(n, &r, err) : error_set_errno(err, ENOMEM, NULL, "cannot read the log");
    g_free(r.log);
    g_free(r.at);
    g_array_free(r.entries, TRUE);
    return ok;
}

/* ---- writing */

static void put_change(uint8_t *d, uint8_t *u, const struct table_change *c, uint64_t sequence)
{
    memcpy(d, "desc", 4);
    memcpy(d + D_TRAILING, c->data + UNIT - 4, 4);
    memcpy(d + D_LEADING, c->data, 8);
    put_le64(d + D_OFFSET, c->off);
    put_le64(d + D_SEQUENCE, sequence);
    memcpy(u, "data", 4);
    put_le32(u + U_SEQUENCE_HIGH, sequence >> 32);
    memcpy(u + U_DATA, c->data + 8, U_DATA_LEN);
    put_le32(u + U_SEQUENCE_LOW, sequence);
}

static void log_begin(struct vhdx *s)
{
    if (s->log_used)
        return;
    image_random_guid(s->header + H_LOG_GUID);
    s->log_sequence = 1;
    s->log_at = 0;
    s->log_used = true;
}

int vhdx_log_write(void *node, const struct table_change *c, unsigned count)
{
    struct block_node *n = node;
    struct vhdx *s = n->state;
    bool first = !s->log_used;
    uint64_t units = descriptor_units(count), length = (units + count) * UNIT;
    g_autofree uint8_t *e = g_malloc0(length);
    int ret;

    log_begin(s);
    if (s->log_at + length > s->log.len)
        s->log_at = 0;
    memcpy(e, "loge", 4);
    put_le32(e + E_LENGTH, length);
    put_le32(e + E_TAIL, s->log_at);
    put_le64(e + E_SEQUENCE, s->log_sequence);
    put_le32(e + E_COUNT, count);
    memcpy(e + E_GUID, s->header + H_LOG_GUID, 16);
    put_le64(e + E_FLUSHED, n->file->size);
    put_le64(e + E_LAST, n->file->size);
    for (unsigned i = 0; i < count; i++)
        put_change(e + E_HEADER + i * D_SIZE, e + (units + i) * UNIT, &c[i], s->log_sequence);
    put_le32(e + E_CRC, image_crc32c(0, e, length));
    ret = node_flush(n->file);          /* the file is as long as the entry says */
    if (!ret)
        ret = node_pwrite(n->file, s->log.off + s->log_at, e, length);
    if (!ret)
        ret = node_flush(n->file);
    if (!ret && first)                  /* with an entry in place, the header may name the log */
        ret = vhdx_header_update(n);
    if (ret && first)
        s->log_used = false;
    s->log_at += length;
    s->log_sequence++;
    return ret;
}
