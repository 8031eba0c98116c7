/* dmg: Apple's universal disk images (UDIF), read only. A trailer ("koly") at the end names a property list, or a resource
 * fork, whose block lists ("mish") say which chunk of the file holds which sectors, and how it is compressed. Big-endian.
 * There is no public specification; after the descriptions that circulate of these structures. */
#include <bzlib.h>
#include <errno.h>
#include <stdlib.h>
#include "block/aio.h"
#include "block/format/image.h"

enum {
    K_DATA_FORK = 24, K_RESOURCE = 40, K_RESOURCE_LEN = 48, K_XML = 216, K_XML_LEN = 224, K_SECTORS = 492, K_LENGTH = 512,
    B_SECTOR = 8, B_DATA = 24, B_CHUNKS = 200, B_HEADER = 204,
    C_TYPE = 0, C_SECTOR = 8, C_SECTORS = 16, C_OFFSET = 24, C_BYTES = 32, C_LENGTH = 40,
    LISTS_MAX = 16 << 20, CHUNKS_MAX = 1 << 20, CHUNK_BYTES_MAX = 64 << 20,
};
enum dmg_type {
    DMG_ZERO = 0, DMG_RAW = 1, DMG_IGNORE = 2, DMG_COMMENT = 0x7ffffffe, DMG_END = -1,
    DMG_ADC = (int)0x80000004, DMG_ZLIB = (int)0x80000005, DMG_BZ2 = (int)0x80000006, DMG_LZFSE = (int)0x80000007,
};

struct chunk { uint64_t start, end, host, bytes; int32_t type; };

struct dmg { struct blockmap map; GArray *chunks; };

static const char *const dmg_options[] = { "file", NULL };
static const struct blockmap_ops dmg_ops;

static int dmg_probe(const uint8_t *buf, size_t len, const char *filename)
{
    return g_str_has_suffix(filename, ".dmg") ? 2 : 0;          /* what tells is at the end */
}

/* ---- block lists */

static bool chunk_take(struct block_node *n, const uint8_t *c, uint64_t first_sector, uint64_t data, struct error *err)
{
    struct dmg *s = n->state;
    struct chunk k = { .type = (int32_t)be32(c + C_TYPE), .host = be64(c + C_OFFSET), .bytes = be64(c + C_BYTES) };
    uint64_t sector = be64(c + C_SECTOR), sectors = be64(c + C_SECTORS);
    bool zero = k.type == DMG_ZERO || k.type == DMG_IGNORE;

    if (k.type == DMG_COMMENT || k.type == DMG_END || !sectors)
        return true;
    if (sector > INT64_MAX / 1024 || sectors > INT64_MAX / 2048 || first_sector > INT64_MAX / 2048)
        return image_corrupt(err, "DMG", "a chunk of sectors that no disk has");
    k.start = (first_sector + sector) * 512;
    k.end = k.start + sectors * 512;
    if (!zero && k.type != DMG_RAW && k.end - k.start > CHUNK_BYTES_MAX)
        return image_corrupt(err, "DMG", "a chunk of %" PRIu64 " bytes is larger than %d", k.end - k.start, CHUNK_BYTES_MAX);
    if (!zero && (k.host > n->file->size || data > n->file->size || !range_inside(k.host + data, k.bytes, n->file->size) ||
                  (k.type != DMG_RAW && k.bytes > CHUNK_BYTES_MAX)))
        return image_corrupt(err, "DMG", "a chunk lies outside the file");
    if (k.type == DMG_RAW && k.bytes < k.end - k.start)
        return image_corrupt(err, "DMG", "a chunk is shorter than its sectors");
    k.host += data;
    if (s->chunks->len >= CHUNKS_MAX)
        return image_corrupt(err, "DMG", "too many chunks");
    g_array_append_val(s->chunks, k);
    return true;
}

static bool list_take(struct block_node *n, const uint8_t *b, size_t len, uint64_t data_fork, struct error *err)
{
    uint32_t count;

    if (len < B_HEADER || memcmp(b, "mish", 4))
        return true;            /* some other resource */
    count = be32(b + B_CHUNKS);
    if (count > (len - B_HEADER) / C_LENGTH)
        return image_corrupt(err, "DMG", "a block list is shorter than its count says");
    for (uint32_t i = 0; i < count; i++)
        if (!chunk_take(n, b + B_HEADER + (size_t)i * C_LENGTH, be64(b + B_SECTOR), data_fork + be64(b + B_DATA), err))
            return false;
    return true;
}

/* The property list: all its <data> elements that hold block lists. */
static bool xml_take(struct block_node *n, char *xml, uint64_t data_fork, struct error *err)
{
    for (char *at = xml, *end; (at = strstr(at, "<data>")); at = end) {
        g_autofree uint8_t *b = NULL;
        gsize len;

        at += strlen("<data>");
        end = strstr(at, "</data>");
        if (!end)
            return image_corrupt(err, "DMG", "the property list is cut short");
        *end++ = 0;
        b = g_base64_decode(at, &len);
        if (b && !list_take(n, b, len, data_fork, err))
            return false;
    }
    return true;
}

/* A resource fork: from its data offset on, each resource with its length before it. */
static bool fork_take(struct block_node *n, const uint8_t *f, uint64_t len, uint64_t data_fork, struct error *err)
{
    uint64_t at = len >= 16 ? be32(f) : 0, end = at + (len >= 16 ? be32(f + 8) : 0);

    if (at < 16 || end > len)
        return image_corrupt(err, "DMG", "the resource fork's data lies outside it");
    while (end - at >= 4) {
        uint64_t size = be32(f + at);

        at += 4;
        if (size > end - at)
            return image_corrupt(err, "DMG", "a resource lies outside its fork");
        if (!list_take(n, f + at, size, data_fork, err))
            return false;
        at += size;
    }
    return true;
}

static int by_start(const void *a, const void *b)
{
    const struct chunk *x = a, *y = b;

    return x->start < y->start ? -1 : x->start > y->start;
}

static bool lists_read(struct block_node *n, const uint8_t *koly, struct error *err)
{
    bool xml = be64(koly + K_XML_LEN) != 0;
    uint64_t at = be64(koly + (xml ? K_XML : K_RESOURCE)), len = be64(koly + (xml ? K_XML_LEN : K_RESOURCE_LEN));
    uint64_t fork = be64(koly + K_DATA_FORK);
    g_autofree uint8_t *buf = NULL;
    int ret;

    if (!len || len > LISTS_MAX || !range_inside(at, len, n->file->size) || fork > n->file->size)
        return image_corrupt(err, "DMG", "the block lists are missing, too long or outside the file");
    buf = g_malloc0(len + 1);
    ret = node_pread(n->file, at, buf, len);
    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot read the block lists");
    return xml ? xml_take(n, (char *)buf, fork, err) : fork_take(n, buf, len, fork, err);
}

/* ---- opening */

/* The trailer lies in the last sector, or a little before the end if something was appended. */
static bool koly_find(struct block_node *n, uint8_t *koly, struct error *err)
{
    uint8_t buf[2 * K_LENGTH];
    uint64_t size = n->file->size, at = size > sizeof(buf) ? size - sizeof(buf) : 0;
    uint64_t len = MIN(size, sizeof(buf));
    int ret = node_pread(n->file, at, buf, len);

    if (ret)
        return error_set_errno(err, -ret, NULL, "'%s': cannot read the trailer", n->file->filename);
    for (uint64_t i = len >= K_LENGTH ? len - K_LENGTH + 1 : 0; i--;) {
        if (memcmp(buf + i, "koly", 4))
            continue;
        memcpy(koly, buf + i, K_LENGTH);
        return true;
    }
    return image_corrupt(err, "DMG", "no trailer");
}

static bool dmg_open(struct block_node *n, struct json_object *opts, struct error *err)
{
    struct dmg *s = n->state;
    uint8_t koly[K_LENGTH];
    uint64_t end = 0;

    blockmap_init(&s->map, &dmg_ops);
    s->chunks = g_array_new(false, false, sizeof(struct chunk));
    if (!image_read_only(n, err))
        return false;
    n->file = node_open_child(n, opts, "file", err);
    if (!n->file || !koly_find(n, koly, err) || !lists_read(n, koly, err))
        return false;
    g_array_sort(s->chunks, by_start);
    for (unsigned i = 0; i < s->chunks->len; i++) {
        struct chunk *c = &g_array_index(s->chunks, struct chunk, i);

        if (c->start < end)
            return image_corrupt(err, "DMG", "chunks overlap");
        end = c->end;
    }
    n->size = end;
    return true;
}

static void dmg_close(struct block_node *n)
{
    struct dmg *s = n->state;

    blockmap_clear(&s->map);
    g_array_free(s->chunks, TRUE);
}

/* ---- the map */

static int dmg_find(struct block_node *n, uint64_t off, struct place *p)
{
    struct dmg *s = n->state;
    unsigned low = 0, high = s->chunks->len;
    struct chunk *c;

    while (high - low > 1) {
        unsigned mid = (low + high) / 2;

        *(g_array_index(s->chunks, struct chunk, mid).start <= off ? &low : &high) = mid;
    }
    c = &g_array_index(s->chunks, struct chunk, low);
    p->kind = PLACE_ZERO;
    if (off < c->start) {       /* before the first */
        p->end = c->start;
    } else if (off >= c->end) { /* a gap */
        p->start = c->end;
        p->end = low + 1 < s->chunks->len ? c[1].start : n->size;
    } else {
        p->start = c->start;
        p->end = c->end;
        p->host = c->host;
        p->arg = low;
        if (c->type == DMG_RAW)
            p->kind = PLACE_DATA;
        else if (c->type != DMG_ZERO && c->type != DMG_IGNORE)
            p->kind = PLACE_PACKED;
    }
    return 0;
}

struct bunzip { uint8_t *in, *out; unsigned in_bytes, out_bytes; };

static int bunzip_job(void *arg)
{
    struct bunzip *j = arg;
    unsigned len = j->out_bytes;

    return BZ2_bzBuffToBuffDecompress((char *)j->out, &len, (char *)j->in, j->in_bytes, 0, 0) == BZ_OK && len == j->out_bytes
               ? 0 : -EIO;
}

static int dmg_unpack(struct block_node *n, const struct place *p, uint8_t *buf)
{
    struct chunk *c = &g_array_index(((struct dmg *)n->state)->chunks, struct chunk, p->arg);
    struct bunzip j = { .out = buf, .in_bytes = c->bytes, .out_bytes = p->end - p->start };
    g_autofree uint8_t *in = NULL;
    int ret;

    if (c->type != DMG_ZLIB && c->type != DMG_BZ2)
        return -ENOTSUP;        /* LZFSE and ADC */
    in = g_try_malloc(MAX(c->bytes, 1));
    ret = in ? node_pread(n->file, c->host, in, c->bytes) : -ENOMEM;
    j.in = in;
    if (ret)
        return ret;
    return c->type == DMG_BZ2 ? pool_run(bunzip_job, &j) : inflate_block(in, c->bytes, buf, p->end - p->start, false);
}

static const struct blockmap_ops dmg_ops = { .find = dmg_find, .unpack = dmg_unpack };

BLOCK_DRIVER = {
    .name = "dmg",
    .summary = "Apple's disk image, read only",
    .kind = DRIVER_FORMAT,
    .size = sizeof(struct dmg),
    .options = dmg_options,
    .probe = dmg_probe,
    .open = dmg_open,
    .close = dmg_close,
    .preadv = blockmap_preadv,
    .block_status = blockmap_status,
    .allocated_size = image_allocated_size,
};
