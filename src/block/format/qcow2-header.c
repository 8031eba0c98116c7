/* qcow2: the first cluster. Every field is checked where it is read; what this build does not know is kept. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/format/qcow2.h"

enum { EXT_END = 0, EXT_BACKING_FORMAT = 0xe2792aca, EXT_FEATURES = 0x6803f857, EXT_CRYPT = 0x0537be77,
       EXT_DATA_FILE = 0x44415441, EXT_BITMAPS = 0x23852875 };
enum { NAME_MAX_BYTES = 1023, FEATURE_BYTES = 48, BACKING_SLACK = 256 };

bool qcow2_bad(struct qcow2 *q, struct error *err, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return error_setf(err, ERR_GENERIC, "was it copied whole? another copy or a backup may be better", "'%s' is not a sound qcow2 image: %s", q->file->filename, text);
}

static bool missing(struct qcow2 *q, struct error *err, const char *what)
{
    return error_setf(err, ERR_GENERIC, "convert it with the program that made it",
                      "'%s' uses %s, which this build does not support", q->file->filename, what);
}

bool qcow2_table_ok(const struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    return !(offset & (q->cluster_size - 1)) && bytes <= INT64_MAX && offset <= INT64_MAX - bytes &&
           offset + bytes <= q->file->size;
}

/* ---- reading */

/* Names of feature bits stand in the image, so that programs that do not know them can say what they miss. */
static bool header_features(struct qcow2 *q, const uint8_t *table, uint32_t len, struct error *err)
{
    uint64_t unknown = q->incompatible & ~0x1full;

    if (!unknown)
        return true;
    for (uint32_t at = 0; len - at >= FEATURE_BYTES; at += FEATURE_BYTES) {
        const uint8_t *f = table + at;

        if (f[0] == 0 && f[1] < 64 && (unknown & (1ull << f[1]))) {
            g_autofree char *name = g_strndup((const char *)f + 2, FEATURE_BYTES - 2);
            g_autofree char *safe = g_strescape(name, NULL);

            return missing(q, err, safe);
        }
    }
    return error_setf(err, ERR_GENERIC, "a newer program made it",
                      "'%s' uses unknown features %#" PRIx64, q->file->filename, unknown);
}

static bool extension_bitmaps(struct qcow2 *q, const uint8_t *p, uint32_t len, struct error *err)
{
    if (len != 24)
        return qcow2_bad(q, err, "a bitmaps extension of %u bytes", len);
    if (!(q->autoclear & QCOW2_AUTOCLEAR_BITMAPS))
        return true;            /* written to by who does not know of them: worthless */
    q->bitmap_count = be32_get(p);
    q->bitmaps_size = be64_get(p + 8);
    q->bitmaps_offset = be64_get(p + 16);
    if (!q->bitmap_count || q->bitmap_count > QCOW2_MAX_BITMAPS || be32_get(p + 4) ||
        q->bitmaps_size > QCOW2_MAX_BITMAP_DIRECTORY || q->bitmaps_size < q->bitmap_count * 24ull ||
        !q->bitmaps_offset || !qcow2_table_ok(q, q->bitmaps_offset, q->bitmaps_size))
        return qcow2_bad(q, err, "%u bitmaps in %" PRIu64 " bytes at %#" PRIx64, q->bitmap_count, q->bitmaps_size,
                         q->bitmaps_offset);
    return true;
}

static bool extension_crypt(struct qcow2 *q, const uint8_t *p, uint32_t len, struct error *err)
{
    if (len != 16 || q->crypt_method != QCOW2_CRYPT_LUKS)
        return qcow2_bad(q, err, "an encryption header of %u bytes with method %u", len, q->crypt_method);
    q->crypt_offset = be64_get(p);
    q->crypt_length = be64_get(p + 8);
    if (!q->crypt_offset || !q->crypt_length || q->crypt_length > 64 << 20 ||
        !qcow2_table_ok(q, q->crypt_offset, q->crypt_length))
        return qcow2_bad(q, err, "encryption header of %" PRIu64 " bytes at %#" PRIx64, q->crypt_length,
                         q->crypt_offset);
    return true;
}

static bool extension_string(struct qcow2 *q, const uint8_t *p, uint32_t len, uint32_t max, char **out,
                             const char *what, struct error *err)
{
    if (len > max)
        return qcow2_bad(q, err, "the name of the %s is too long", what);
    g_free(*out);
    *out = g_strndup((const char *)p, len);
    return true;
}

static bool header_extensions(struct qcow2 *q, const uint8_t *h, uint64_t end, struct error *err)
{
    uint64_t at = q->header_length;
    uint32_t features_at = 0, features_len = 0;

    q->unknown_extensions = g_byte_array_new();
    while (end - at >= 8) {
        uint32_t type = be32_get(h + at), len = be32_get(h + at + 4), whole;
        const uint8_t *p = h + at + 8;
        bool ok = true;

        if (type == EXT_END)
            break;
        if (len > end - at - 8)
            return qcow2_bad(q, err, "a header extension of %u bytes does not fit", len);
        whole = MIN((8ull + len + 7) & ~7ull, end - at);
        switch (type) {
        case EXT_BACKING_FORMAT: ok = extension_string(q, p, len, 64, &q->backing_format, "backing format", err); break;
        case EXT_DATA_FILE: ok = extension_string(q, p, len, NAME_MAX_BYTES, &q->data_name, "data file", err); break;
        case EXT_FEATURES: features_at = at + 8, features_len = len; break;
        case EXT_BITMAPS: ok = extension_bitmaps(q, p, len, err); break;
        case EXT_CRYPT: ok = extension_crypt(q, p, len, err); break;
        default: g_byte_array_append(q->unknown_extensions, h + at, whole); break;
        }
        if (!ok)
            return false;
        at += whole;
    }
    if ((q->autoclear & QCOW2_AUTOCLEAR_BITMAPS) && !q->bitmap_count)
        return qcow2_bad(q, err, "bitmaps are announced, and none are there");
    return header_features(q, h + features_at, features_len, err);
}

static bool header_v3(struct qcow2 *q, const uint8_t *h, struct error *err)
{
    q->header_length = QCOW2_HEADER_V2;
    q->refcount_order = 4;
    q->l2_shift = 3;
    q->sub_bits = q->cluster_bits;
    if (q->version < 3)
        return true;
    q->incompatible = be64_get(h + QCOW2_H_INCOMPAT);
    q->compatible = be64_get(h + 80);
    q->autoclear = be64_get(h + QCOW2_H_AUTOCLEAR);
    q->refcount_order = be32_get(h + 96);
    q->header_length = be32_get(h + 100);
    if (q->header_length < 104 || q->header_length > q->cluster_size || q->header_length & 7)
        return qcow2_bad(q, err, "header length %u", q->header_length);
    if (q->refcount_order > 6)
        return qcow2_bad(q, err, "refcount width 2^%u", q->refcount_order);
    if (q->header_length > 104)
        q->compression = h[104];
    if (q->header_length > QCOW2_HEADER_KNOWN)
        q->more_fields = g_memdup2(h + QCOW2_HEADER_KNOWN, q->header_length - QCOW2_HEADER_KNOWN);
    if (q->incompatible & QCOW2_INCOMPAT_COMPRESSION ? q->compression == QCOW2_ZLIB
                                                     : q->compression != QCOW2_ZLIB)
        return qcow2_bad(q, err, "compression type %u does not fit the feature bits", q->compression);
    if (q->compression > QCOW2_ZSTD)
        return missing(q, err, "an unknown compression");
    q->data_external = (q->incompatible & QCOW2_INCOMPAT_DATA_FILE) != 0;
    q->data_raw = q->data_external && (q->autoclear & QCOW2_AUTOCLEAR_DATA_RAW);
    q->extended = (q->incompatible & QCOW2_INCOMPAT_EXTENDED_L2) != 0;
    if (q->extended) {
        if (q->cluster_bits < QCOW2_MIN_EXTENDED_BITS)
            return qcow2_bad(q, err, "extended L2 entries with clusters of 2^%u bytes", q->cluster_bits);
        q->l2_shift = 4;
        q->sub_bits = q->cluster_bits - 5;
    }
    return true;
}

static bool header_tables(struct qcow2 *q, const uint8_t *h, struct error *err)
{
    uint64_t size = be64_get(h + QCOW2_H_SIZE), per_l2, needed;

    q->l2_bits = q->cluster_bits - q->l2_shift;
    q->refblock_bits = q->cluster_bits + 3 - q->refcount_order;
    per_l2 = q->cluster_size << q->l2_bits;
    needed = size / per_l2 + (size % per_l2 != 0);
    q->l1_size = be32_get(h + QCOW2_H_L1_SIZE);
    q->l1_offset = be64_get(h + QCOW2_H_L1_OFFSET);
    if (size > INT64_MAX - q->cluster_size || needed * 8 > QCOW2_MAX_L1_BYTES)
        return qcow2_bad(q, err, "virtual size %" PRIu64, size);
    if (q->l1_size > QCOW2_MAX_L1_BYTES / 8 || q->l1_size < needed)
        return qcow2_bad(q, err, "L1 table of %u entries for a disk that needs %" PRIu64, q->l1_size, needed);
    if (!qcow2_table_ok(q, q->l1_offset, q->l1_size * 8ull) || (q->l1_size && !q->l1_offset))
        return qcow2_bad(q, err, "L1 table at %#" PRIx64 ", of a file of %#" PRIx64 " bytes", q->l1_offset, (uint64_t)q->file->size);
    q->node->size = size;
    q->reftable_offset = be64_get(h + QCOW2_H_REFTABLE);
    q->reftable_clusters = be32_get(h + QCOW2_H_REFTABLE + 8);
    if (!q->reftable_clusters || q->reftable_clusters > QCOW2_MAX_REFTABLE_BYTES >> q->cluster_bits ||
        !q->reftable_offset ||
        !qcow2_table_ok(q, q->reftable_offset, (uint64_t)q->reftable_clusters << q->cluster_bits))
        return qcow2_bad(q, err, "refcount table of %u clusters at %#" PRIx64, q->reftable_clusters,
                         q->reftable_offset);
    q->reftable_entries = q->reftable_clusters << (q->cluster_bits - 3);
    q->snapshot_count = be32_get(h + QCOW2_H_SNAPSHOTS);
    q->snapshots_offset = be64_get(h + QCOW2_H_SNAPSHOTS + 4);
    if (q->snapshot_count > QCOW2_MAX_SNAPSHOTS ||
        (q->snapshot_count &&
         (!q->snapshots_offset || !qcow2_table_ok(q, q->snapshots_offset, q->snapshot_count * 40ull))))
        return qcow2_bad(q, err, "%u snapshots at %#" PRIx64, q->snapshot_count, q->snapshots_offset);
    return true;
}

static bool header_backing(struct qcow2 *q, const uint8_t *h, uint64_t *extensions_end, struct error *err)
{
    uint64_t at = be64_get(h + 8);
    uint32_t len = be32_get(h + 16);

    *extensions_end = q->cluster_size;
    if (!at || !len)
        return true;
    if (len > NAME_MAX_BYTES || at < q->header_length || at > q->cluster_size || len > q->cluster_size - at)
        return qcow2_bad(q, err, "backing file name of %u bytes at %#" PRIx64, len, at);
    *extensions_end = at;
    q->backing_name = g_strndup((const char *)h + at, len);
    return *q->backing_name || qcow2_bad(q, err, "empty backing file name");
}

bool qcow2_header_read(struct qcow2 *q, struct error *err)
{
    g_autofree uint8_t *h = g_malloc0(1 << QCOW2_MAX_CLUSTER_BITS);
    uint64_t end;
    int ret = node_pread(q->file, 0, h, QCOW2_HEADER_KNOWN);

    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot read '%s'", q->file->filename);
    if (be32_get(h) != QCOW2_MAGIC)
        return error_setf(err, ERR_GENERIC,
                          "rhea-img info tells what it is; leave format= out to have it guessed",
                          "'%s' is not a qcow2 image", q->file->filename);
    q->version = be32_get(h + 4);
    if (q->version != 2 && q->version != 3)
        return qcow2_bad(q, err, "version %u is not known", q->version);
    q->cluster_bits = be32_get(h + 20);
    if (q->cluster_bits < QCOW2_MIN_CLUSTER_BITS || q->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
        return qcow2_bad(q, err, "clusters of 2^%u bytes", q->cluster_bits);
    q->cluster_size = 1ull << q->cluster_bits;
    q->crypt_method = be32_get(h + 32);
    if (q->crypt_method > QCOW2_CRYPT_LUKS)
        return missing(q, err, "an unknown encryption");
    ret = node_pread(q->file, 0, h, MIN(q->cluster_size, q->file->size));
    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot read '%s'", q->file->filename);
    return header_v3(q, h, err) && header_backing(q, h, &end, err) && header_extensions(q, h, end, err) &&
           header_tables(q, h, err);
}

/* ---- writing */

struct put { uint8_t *p; uint64_t at, room; bool full; };

static void put_bytes(struct put *w, const void *data, uint64_t len)
{
    if (len > w->room - w->at) {
        w->full = true;
        return;
    }
    if (len)
        memcpy(w->p + w->at, data, len);
    w->at += len;
}

static void put_extension(struct put *w, uint32_t type, const void *data, uint32_t len)
{
    static const uint8_t zero[8];
    uint8_t head[8];

    be32_put(head, type);
    be32_put(head + 4, len);
    put_bytes(w, head, 8);
    put_bytes(w, data, len);
    put_bytes(w, zero, -len & 7);
}

static void put_features(struct put *w)
{
    static const struct { uint8_t type, bit; const char *name; } features[] = {
        { 0, 0, "dirty bit" }, { 0, 1, "corrupt bit" }, { 0, 2, "external data file" }, { 0, 3, "compression type" },
        { 0, 4, "extended L2 entries" }, { 1, 0, "lazy refcounts" }, { 2, 0, "bitmaps" }, { 2, 1, "raw external data" },
    };
    uint8_t table[G_N_ELEMENTS(features)][FEATURE_BYTES] = { 0 };

    for (unsigned i = 0; i < G_N_ELEMENTS(features); i++) {
        table[i][0] = features[i].type;
        table[i][1] = features[i].bit;
        memcpy(&table[i][2], features[i].name, strlen(features[i].name));
    }
    put_extension(w, EXT_FEATURES, table, sizeof(table));
}

static void put_fields(const struct qcow2_header *h, uint8_t *p)
{
    be32_put(p, QCOW2_MAGIC);
    be32_put(p + 4, h->version);
    be32_put(p + 20, h->cluster_bits);
    be64_put(p + QCOW2_H_SIZE, h->size);
    be32_put(p + 32, h->crypt_method);
    be32_put(p + QCOW2_H_L1_SIZE, h->l1_size);
    be64_put(p + QCOW2_H_L1_OFFSET, h->l1_offset);
    be64_put(p + QCOW2_H_REFTABLE, h->reftable_offset);
    be32_put(p + QCOW2_H_REFTABLE + 8, h->reftable_clusters);
    be32_put(p + QCOW2_H_SNAPSHOTS, h->snapshot_count);
    be64_put(p + QCOW2_H_SNAPSHOTS + 4, h->snapshots_offset);
    if (h->version < 3)
        return;
    be64_put(p + QCOW2_H_INCOMPAT, h->incompatible);
    be64_put(p + 80, h->compatible);
    be64_put(p + QCOW2_H_AUTOCLEAR, h->autoclear);
    be32_put(p + 96, h->refcount_order);
    be32_put(p + 100, h->length);
    if (h->length > 104)
        p[104] = h->compression;
    if (h->length > QCOW2_HEADER_KNOWN && h->more)
        memcpy(p + QCOW2_HEADER_KNOWN, h->more, h->length - QCOW2_HEADER_KNOWN);
}

/* Where a name of `len` bytes goes behind extensions that end at `at`: where it is already, else with space before it, so
 * that it can stay when they grow. */
static uint64_t backing_place(const struct qcow2_header *h, uint64_t at, uint64_t len, uint64_t room)
{
    uint64_t want = h->backing_at >= at ? h->backing_at : at + BACKING_SLACK;

    if (want < h->avoid_to && h->avoid_from < want + len)
        want = h->avoid_to >= at ? h->avoid_to : at;
    return want <= room && len <= room - want ? want : at;
}

bool qcow2_header_put(const struct qcow2_header *h, uint8_t *cluster)
{
    struct put w = { .p = cluster, .at = h->length, .room = 1ull << h->cluster_bits };
    uint64_t backing_room = h->backing ? strlen(h->backing) : 0;
    uint8_t field[24] = { 0 };

    memset(cluster, 0, w.room);
    if (h->length > w.room)
        return false;
    put_fields(h, cluster);
    if (h->backing && h->backing_format)
        put_extension(&w, EXT_BACKING_FORMAT, h->backing_format, strlen(h->backing_format));
    if (h->data_file)
        put_extension(&w, EXT_DATA_FILE, h->data_file, strlen(h->data_file));
    if (h->crypt_offset) {
        be64_put(field, h->crypt_offset);
        be64_put(field + 8, h->crypt_length);
        put_extension(&w, EXT_CRYPT, field, 16);
    }
    if (h->bitmap_count) {
        be32_put(field, h->bitmap_count);
        be32_put(field + 4, 0);
        be64_put(field + 8, h->bitmaps_size);
        be64_put(field + 16, h->bitmaps_offset);
        put_extension(&w, EXT_BITMAPS, field, 24);
    }
    if (h->unknown)
        put_bytes(&w, h->unknown->data, h->unknown->len);
    if (h->version >= 3 && w.room - w.at >= 8 * FEATURE_BYTES + 16 + backing_room)
        put_features(&w);       /* no more than help to others: left out where space is short */
    put_extension(&w, EXT_END, NULL, 0);
    if (h->backing) {
        w.at = backing_place(h, w.at, backing_room, w.room);
        be64_put(cluster + 8, w.at);
        be32_put(cluster + 16, backing_room);
        put_bytes(&w, h->backing, backing_room);
    }
    return !w.full;
}

void qcow2_header_of(const struct qcow2 *q, struct qcow2_header *h)
{
    *h = (struct qcow2_header){
        .version = q->version, .cluster_bits = q->cluster_bits, .refcount_order = q->refcount_order,
        .compression = q->compression, .crypt_method = q->crypt_method,
        .length = q->version < 3 ? QCOW2_HEADER_V2 : MAX(q->header_length, QCOW2_HEADER_KNOWN),
        .l1_size = q->l1_size, .reftable_clusters = q->reftable_clusters, .snapshot_count = q->snapshot_count,
        .size = q->node->size, .l1_offset = q->l1_offset, .reftable_offset = q->reftable_offset,
        .snapshots_offset = q->snapshots_offset, .incompatible = q->incompatible, .compatible = q->compatible,
        .autoclear = q->autoclear, .backing = q->backing_name, .backing_format = q->backing_format,
        .data_file = q->data_name, .crypt_offset = q->crypt_offset, .crypt_length = q->crypt_length,
        .bitmap_count = q->bitmap_count, .bitmaps_offset = q->bitmaps_offset, .bitmaps_size = q->bitmaps_size,
        .unknown = q->unknown_extensions, .more = q->header_length > QCOW2_HEADER_KNOWN ? q->more_fields : NULL,
    };
}

/* The name of the backing file stays where it is, or goes where the old one is not: the header that names it, one sector,
 * can then be written after it. */
static void keep_backing(struct qcow2_header *h, const uint8_t *old, uint64_t room)
{
    uint64_t at = be64_get(old + 8), len = be32_get(old + 16);

    if (!at || !len || at > room || len > room - at)
        return;
    if (h->backing && strlen(h->backing) == len && !memcmp(old + at, h->backing, len)) {
        h->backing_at = at;
    } else {
        h->avoid_from = at;
        h->avoid_to = at + len;
    }
}

static int name_write(struct qcow2 *q, const uint8_t *new, uint8_t *old)
{
    uint64_t at = be64_get(new + 8), len = be32_get(new + 16);
    int ret = node_pwrite(q->file, at, new + at, len);

    memcpy(old + at, new + at, len);
    return ret ? ret : node_flush(q->file);
}

bool qcow2_header_update(struct qcow2 *q, struct error *err)
{
    uint8_t *new = node_buffer(q->file, q->cluster_size), *old = node_buffer(q->file, q->cluster_size);
    uint64_t from = 0, to = q->cluster_size, stale;
    struct qcow2_header h;
    int ret = new && old ? node_flush(q->file) : -ENOMEM;

    if (!ret)
        ret = node_pread(q->file, 0, old, q->cluster_size);
    qcow2_header_of(q, &h);
    if (!ret)
        keep_backing(&h, old, q->cluster_size);
    if (!ret && !qcow2_header_put(&h, new)) {
        free(new);
        free(old);
        return error_setf(err, ERR_GENERIC, "names of files are kept there: use shorter ones",
                          "'%s': the header does not fit the first cluster", q->file->filename);
    }
    if (!ret && h.backing && !h.backing_at)     /* a new name: nothing refers to it yet */
        ret = name_write(q, new, old);
    stale = h.avoid_to - h.avoid_from;
    if (!ret && stale && buffer_is_zero(new + h.avoid_from, stale))
        memcpy(new + h.avoid_from, old + h.avoid_from, stale);  /* named until the header is written */
    else
        stale = 0;
    while (!ret && from < to && new[from] == old[from])
        from++;
    while (!ret && from < to && new[to - 1] == old[to - 1])
        to--;
    if (!ret && from < to)      /* as few sectors as can be: each is written whole or not at all */
        ret = node_pwrite(q->file, from, new + from, to - from);
    if (!ret)
        ret = node_flush(q->file);
    if (!ret && stale)
        ret = node_write_zeroes(q->file, h.avoid_from, stale, 0);
    free(new);
    free(old);
    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot write the header of '%s'", q->file->filename);
    q->header_length = h.length;
    return true;
}
