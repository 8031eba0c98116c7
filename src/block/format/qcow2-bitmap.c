/* qcow2: dirty bitmaps kept in the image. While the image is open for writing they live in memory and are marked "in
 * use" on disk; when it is closed they are written to new clusters, and one write to the header makes them count. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/format/qcow2.h"
#include "rhea/block/bitmap.h"

enum { ENTRY_FIXED = 24, FLAG_IN_USE = 1, FLAG_AUTO = 2, FLAG_EXTRA_COMPATIBLE = 4, TYPE_DIRTY = 1, NAME_MAX_BYTES = 1023,
       MIN_GRANULARITY_BITS = 9, MAX_GRANULARITY_BITS = 31 };
enum { BITMAP_BYTES_MAX = 1 << 30 };

struct qcow2_bitmap {
    uint64_t table_offset;
    uint32_t table_entries, flags;
    uint8_t type, granularity_bits;
    char *name;
    GBytes *extra;
};

static void stored_free(void *arg)
{
    struct qcow2_bitmap *s = arg;

    g_free(s->name);
    if (s->extra)
        g_bytes_unref(s->extra);
    g_free(s);
}

static struct qcow2_bitmap *stored_find(struct qcow2 *q, const char *name)
{
    for (unsigned i = 0; q->bitmaps && i < q->bitmaps->len; i++) {
        struct qcow2_bitmap *s = g_ptr_array_index(q->bitmaps, i);

        if (!strcmp(s->name, name))
            return s;
    }
    return NULL;
}

/* ---- reading */

static bool entry_read(struct qcow2 *q, const uint8_t *dir, uint64_t *at, struct error *err)
{
    const uint8_t *e = dir + *at;
    struct qcow2_bitmap *s;
    uint64_t rest = q->bitmaps_size - *at, bytes;
    uint32_t extra, name;

    if (rest < ENTRY_FIXED)
        return qcow2_bad(q, err, "the directory of bitmaps is cut off");
    name = be32_get(e + 16) & 0xffff;
    extra = be32_get(e + 20);
    bytes = (ENTRY_FIXED + (uint64_t)extra + name + 7) & ~7ull;
    if (bytes > rest || !name || name > NAME_MAX_BYTES)
        return qcow2_bad(q, err, "an entry of its directory of bitmaps");
    s = g_new0(struct qcow2_bitmap, 1);
    s->table_offset = be64_get(e);
    s->table_entries = be32_get(e + 8);
    s->flags = be32_get(e + 12);
    s->type = e[16];
    s->granularity_bits = e[17];
    s->extra = extra ? g_bytes_new(e + ENTRY_FIXED, extra) : NULL;
    s->name = g_strndup((const char *)e + ENTRY_FIXED + extra, name);
    g_ptr_array_add(q->bitmaps, s);
    *at += bytes;
    if (s->table_entries > QCOW2_MAX_L1_BYTES / 8 || !qcow2_table_ok(q, s->table_offset, s->table_entries * 8ull))
        return qcow2_bad(q, err, "table of bitmap '%s' at %#" PRIx64, s->name, s->table_offset);
    return true;
}

static bool directory_read(struct qcow2 *q, struct error *err)
{
    g_autofree uint8_t *dir = g_malloc0(MAX(q->bitmaps_size, 1));
    int ret = node_pread(q->file, q->bitmaps_offset, dir, q->bitmaps_size);
    uint64_t at = 0;

    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot read the bitmaps of '%s'", q->file->filename);
    for (uint32_t i = 0; i < q->bitmap_count; i++)
        if (!entry_read(q, dir, &at, err))
            return false;
    return true;
}

static uint64_t bytes_of(const struct dirty_bitmap *b)
{
    return b->bits / 8 + (b->bits % 8 != 0);
}

/* Bits are stored from the least significant of each byte on, as they are in memory of a little-endian host. */
static int bits_read(struct qcow2 *q, const struct qcow2_bitmap *s, struct dirty_bitmap *b)
{
    g_autofree uint64_t *table = g_new0(uint64_t, MAX(s->table_entries, 1));
    uint64_t total = bytes_of(b), cs = q->cluster_size;
    g_autofree uint8_t *buf = g_malloc(cs);
    int ret = node_pread(q->file, s->table_offset, table, s->table_entries * 8ull);

    for (uint32_t i = 0; i < s->table_entries && !ret; i++) {
        uint64_t e = GUINT64_FROM_BE(table[i]), offset = e & QCOW2_OFFSET_MASK, n = MIN(cs, total - i * cs);

        if (!offset && !(e & 1))
            continue;
        if (offset & (cs - 1))
            return -EIO;
        memset(buf, 0xff, n);
        if (offset)
            ret = node_pread(q->file, offset, buf, n);
        for (uint64_t k = 0; k < n && !ret; k++) {
            uint64_t byte = i * cs + k;

            b->words[byte / 8] |= (uint64_t)buf[k] << (byte % 8 * 8);
        }
    }
    if (b->bits % 64)
        b->words[b->bits / 64] &= (1ull << (b->bits % 64)) - 1;
    return ret;
}

/* *room: bytes that the bitmaps of one image may still take. */
static bool bitmap_load(struct qcow2 *q, const struct qcow2_bitmap *s, uint64_t *room, struct error *err)
{
    bool known = s->type == TYPE_DIRTY && s->granularity_bits >= MIN_GRANULARITY_BITS &&
                 s->granularity_bits <= MAX_GRANULARITY_BITS && !(s->flags & ~7u) &&
                 (!s->extra || (s->flags & FLAG_EXTRA_COMPATIBLE));
    uint64_t size = q->node->size, bytes;
    struct dirty_bitmap *b;

    bytes = known ? ((size >> s->granularity_bits) + 1) / 8 + 1 : 0;
    if (!known || bytes > *room) {
        warn_report("%s: bitmap '%s' is of a kind this build cannot use", q->file->filename, s->name);
        b = bitmap_add(q->node, s->name, 1u << MAX_GRANULARITY_BITS, true, false, err);
        if (b)
            b->inconsistent = true;
        return b != NULL;
    }
    *room -= bytes;
    b = bitmap_add(q->node, s->name, 1ull << s->granularity_bits, true, s->flags & FLAG_AUTO, err);
    if (!b)
        return false;
    b->inconsistent = (s->flags & FLAG_IN_USE) || s->table_entries != clusters_of(q, bytes_of(b));
    if (!b->inconsistent && bits_read(q, s, b))
        b->inconsistent = true;
    return true;
}

bool qcow2_bitmaps_load(struct qcow2 *q, struct error *err)
{
    uint64_t room = BITMAP_BYTES_MAX;

    q->bitmaps = g_ptr_array_new_with_free_func(stored_free);
    if (!q->bitmap_count)
        return true;
    if (!directory_read(q, err))
        return false;
    for (unsigned i = 0; i < q->bitmaps->len; i++)
        if (!bitmap_load(q, g_ptr_array_index(q->bitmaps, i), &room, err))
            return false;
    return true;
}

/* ---- what they take of the file */

int qcow2_bitmaps_walk(struct qcow2 *q, bool (*fn)(void *arg, uint64_t offset, uint64_t bytes), void *arg)
{
    int ret = 0;

    fn(arg, q->bitmaps_offset, q->bitmaps_size);
    for (unsigned i = 0; i < q->bitmaps->len && !ret; i++) {
        const struct qcow2_bitmap *s = g_ptr_array_index(q->bitmaps, i);
        g_autofree uint64_t *table = g_try_new0(uint64_t, MAX(s->table_entries, 1));

        fn(arg, s->table_offset, s->table_entries * 8ull);
        ret = table ? node_pread(q->file, s->table_offset, table, s->table_entries * 8ull) : -ENOMEM;
        for (uint32_t k = 0; k < s->table_entries && !ret; k++)
            if (GUINT64_FROM_BE(table[k]) & QCOW2_OFFSET_MASK)
                fn(arg, GUINT64_FROM_BE(table[k]) & QCOW2_OFFSET_MASK, q->cluster_size);
    }
    return ret;
}

/* ---- writing */

static bool free_range(void *arg, uint64_t offset, uint64_t bytes)
{
    struct qcow2 *q = arg;

    co_mutex_lock(&q->lock);
    for (uint64_t at = 0; at < bytes; at += q->cluster_size)
        qcow2_free_later(q, offset + at);
    co_mutex_unlock(&q->lock);
    return true;
}

static int space(struct qcow2 *q, uint64_t bytes, uint64_t *offset)
{
    int ret;

    co_mutex_lock(&q->lock);
    ret = qcow2_alloc_clusters(q, MAX(1, clusters_of(q, bytes)), offset);
    if (!ret)
        q->fresh_start = MAX(q->fresh_start, *offset + (MAX(1, clusters_of(q, bytes)) << q->cluster_bits));
    co_mutex_unlock(&q->lock);
    return ret;
}

static GByteArray *directory_bytes(GPtrArray *list)
{
    static const uint8_t zero[8];
    GByteArray *out = g_byte_array_new();

    for (unsigned i = 0; i < list->len; i++) {
        const struct qcow2_bitmap *s = g_ptr_array_index(list, i);
        uint8_t e[ENTRY_FIXED] = { 0 };
        gsize extra = 0;
        const void *data = s->extra ? g_bytes_get_data(s->extra, &extra) : NULL;

        be64_put(e, s->table_offset);
        be32_put(e + 8, s->table_entries);
        be32_put(e + 12, s->flags);
        e[16] = s->type;
        e[17] = s->granularity_bits;
        be16_put(e + 18, strlen(s->name));
        be32_put(e + 20, extra);
        g_byte_array_append(out, e, sizeof(e));
        if (extra)
            g_byte_array_append(out, data, extra);
        g_byte_array_append(out, (const uint8_t *)s->name, strlen(s->name));
        g_byte_array_append(out, zero, -out->len & 7);
    }
    return out;
}

/* Writes the directory of `list` and makes the header name it; the old directory is given up. */
static bool directory_switch(struct qcow2 *q, GPtrArray *list, struct error *err)
{
    g_autoptr(GByteArray) bytes = directory_bytes(list);
    uint64_t offset = 0, old = q->bitmaps_offset, old_size = q->bitmaps_size;
    uint32_t old_count = q->bitmap_count;
    int ret = bytes->len > QCOW2_MAX_BITMAP_DIRECTORY ? -EFBIG : list->len ? space(q, bytes->len, &offset) : 0;

    if (!ret && list->len)
        ret = node_pwrite(q->file, offset, bytes->data, bytes->len);
    if (!ret)
        ret = qcow2_flush_cache(q->node);
    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot write the bitmaps of '%s'", q->file->filename);
    q->bitmap_count = list->len;
    q->bitmaps_offset = offset;
    q->bitmaps_size = bytes->len;
    if (list->len)
        q->autoclear |= QCOW2_AUTOCLEAR_BITMAPS;
    else
        q->autoclear &= ~(uint64_t)QCOW2_AUTOCLEAR_BITMAPS;
    if (!qcow2_header_update(q, err)) {
        q->bitmap_count = old_count;
        q->bitmaps_offset = old;
        q->bitmaps_size = old_size;
        return false;
    }
    if (old_count)
        free_range(q, old, old_size);
    return true;
}

/* The clusters of bits that are not all zero, and the table. */
static int bits_write(struct qcow2 *q, const struct dirty_bitmap *b, struct qcow2_bitmap *s)
{
    uint64_t total = bytes_of(b), cs = q->cluster_size, offset;
    g_autofree uint64_t *table = NULL;
    g_autofree uint8_t *buf = g_malloc(cs);
    int ret = 0;

    s->table_entries = clusters_of(q, total);
    table = g_new0(uint64_t, MAX(1, clusters_of(q, s->table_entries * 8ull)) << (q->cluster_bits - 3));
    for (uint32_t i = 0; i < s->table_entries && !ret; i++) {
        uint64_t n = MIN(cs, total - i * cs);

        memset(buf, 0, cs);
        for (uint64_t k = 0; k < n; k++)
            buf[k] = b->words[(i * cs + k) / 8] >> ((i * cs + k) % 8 * 8);
        if (buffer_is_zero(buf, n))
            continue;
        ret = space(q, cs, &offset);
        if (!ret)
            ret = node_pwrite(q->file, offset, buf, cs);
        be64_put(&table[i], offset);
    }
    if (!ret)
        ret = space(q, s->table_entries * 8ull, &s->table_offset);
    return ret ? ret : node_pwrite(q->file, s->table_offset, table, MAX(1, clusters_of(q, s->table_entries * 8ull)) << q->cluster_bits);
}

static struct qcow2_bitmap *stored_copy(const struct qcow2_bitmap *s)
{
    struct qcow2_bitmap *c = g_memdup2(s, sizeof(*s));

    c->name = g_strdup(s->name);
    c->extra = s->extra ? g_bytes_ref(s->extra) : NULL;
    return c;
}

static int tables_free(struct qcow2 *q, const struct qcow2_bitmap *s)
{
    g_autofree uint64_t *table = g_new0(uint64_t, MAX(s->table_entries, 1));
    int ret = node_pread(q->file, s->table_offset, table, s->table_entries * 8ull);

    for (uint32_t k = 0; k < s->table_entries && !ret; k++)
        if (GUINT64_FROM_BE(table[k]) & QCOW2_OFFSET_MASK)
            free_range(q, GUINT64_FROM_BE(table[k]) & QCOW2_OFFSET_MASK, q->cluster_size);
    if (!ret)
        free_range(q, s->table_offset, s->table_entries * 8ull);
    return ret;
}

/* New tables for those of the node; what is inconsistent stays as it is. */
bool qcow2_bitmaps_store(struct qcow2 *q, struct error *err)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(stored_free), gone = g_ptr_array_new();
    int ret = 0;

    if (q->data_raw && !q->bitmaps->len && !q->node->bitmaps)
        return true;
    for (struct dirty_bitmap *b = q->node->bitmaps; b && !ret; b = b->next) {
        struct qcow2_bitmap *old = b->persistent ? stored_find(q, b->name) : NULL, *s;

        if (!b->persistent || (b->inconsistent && !old))
            continue;
        s = old ? stored_copy(old) : g_new0(struct qcow2_bitmap, 1);
        g_ptr_array_add(list, s);
        if (b->inconsistent)
            continue;
        if (!old)
            s->name = g_strdup(b->name);
        s->type = TYPE_DIRTY;
        s->granularity_bits = b->granularity_bits;
        s->flags = (b->enabled ? FLAG_AUTO : 0) | (s->extra ? FLAG_EXTRA_COMPATIBLE : 0);
        if (old)
            g_ptr_array_add(gone, old);
        ret = bits_write(q, b, s);
    }
    if (ret)
        return error_set_errno(err, -ret, NULL, "cannot write the bitmaps of '%s'", q->file->filename);
    if (!list->len && !q->bitmap_count)
        return true;
    if (!directory_switch(q, list, err))
        return false;
    for (unsigned i = 0; i < gone->len; i++)
        tables_free(q, g_ptr_array_index(gone, i));
    g_ptr_array_free(q->bitmaps, TRUE);
    q->bitmaps = g_steal_pointer(&list);
    return true;
}

/* From now on what is on disk falls behind. */
bool qcow2_bitmaps_in_use(struct qcow2 *q, struct error *err)
{
    g_autoptr(GByteArray) bytes = NULL;
    bool changed = false;
    int ret;

    for (unsigned i = 0; i < q->bitmaps->len; i++) {
        struct qcow2_bitmap *s = g_ptr_array_index(q->bitmaps, i);

        changed |= !(s->flags & FLAG_IN_USE);
        s->flags |= FLAG_IN_USE;
    }
    if (!changed)
        return true;
    bytes = directory_bytes(q->bitmaps);
    ret = bytes->len == q->bitmaps_size ? node_pwrite(q->file, q->bitmaps_offset, bytes->data, bytes->len) : -EIO;
    if (!ret)
        ret = node_flush(q->file);
    return !ret || error_set_errno(err, -ret, NULL, "cannot write the bitmaps of '%s'", q->file->filename);
}

bool qcow2_bitmap_can_store(struct block_node *n, const char *name, uint64_t granularity, struct error *err)
{
    struct qcow2 *q = n->state;
    unsigned count = 0;

    if (q->version < 3)
        return error_setf(err, ERR_GENERIC, "rhea-img amend -o compat=1.1", "'%s' is of version 2, and cannot keep dirty bitmaps", n->filename);
    for (struct dirty_bitmap *b = n->bitmaps; b; b = b->next)
        count += b->persistent;
    return count < QCOW2_MAX_BITMAPS || error_setf(err, ERR_GENERIC, NULL, "'%s' has %u bitmaps already", n->filename, count);
}

bool qcow2_bitmap_remove(struct block_node *n, const char *name, struct error *err)
{
    struct qcow2 *q = n->state;
    struct qcow2_bitmap *s = stored_find(q, name);
    g_autoptr(GPtrArray) rest = g_ptr_array_new();
    bool ok;

    if (!s)
        return true;            /* not written yet */
    for (unsigned i = 0; i < q->bitmaps->len; i++)
        if (g_ptr_array_index(q->bitmaps, i) != s)
            g_ptr_array_add(rest, g_ptr_array_index(q->bitmaps, i));
    qcow2_exclusive_begin(q);
    ok = directory_switch(q, rest, err);
    if (ok) {
        tables_free(q, s);
        g_ptr_array_remove(q->bitmaps, s);
    }
    qcow2_exclusive_end(q);
    return ok;
}

struct json_object *qcow2_bitmaps_info(const struct qcow2 *q)
{
    static const char *const names[] = { "in-use", "auto" };
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < q->bitmaps->len; i++) {
        const struct qcow2_bitmap *s = g_ptr_array_index(q->bitmaps, i);
        struct json_object *o = json_object_new_object(), *flags = json_object_new_array();

        for (unsigned f = 0; f < G_N_ELEMENTS(names); f++)
            if (s->flags & (1u << f))
                json_object_array_add(flags, json_object_new_string(names[f]));
        json_object_object_add(o, "flags", flags);
        json_object_object_add(o, "name", json_object_new_string(s->name));
        json_object_object_add(o, "granularity", json_object_new_uint64(1ull << s->granularity_bits));
        json_object_array_add(list, o);
    }
    return list;
}
