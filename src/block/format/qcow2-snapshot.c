/* qcow2: internal snapshots. A snapshot is a copy of the L1 table; everything below it is shared and counted, so that
 * whoever writes first copies. Each change of the snapshot table or of the active L1 table is one write to the header,
 * between barriers; counts are raised before it and fall after it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/format/qcow2.h"
#include "rhea/block/bitmap.h"

enum { ENTRY_FIXED = 40, EXTRA_KNOWN = 24, EXTRA_MAX = 1024, TABLE_MAX = 64 << 20 };

/* ---- the table */

/* One entry at *at, which is moved to the next. */
static bool snapshot_read(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t *at, struct error *err)
{
    uint8_t h[ENTRY_FIXED], extra[EXTRA_MAX] = { 0 };
    uint32_t extra_len;
    uint16_t id_len, name_len;
    uint64_t end;

    if (node_pread(q->file, *at, h, sizeof(h)))
        return qcow2_bad(q, err, "the snapshot table cannot be read");
    s->l1_offset = be64_get(h);
    s->l1_size = be32_get(h + 8);
    id_len = be32_get(h + 12) >> 16;
    name_len = be32_get(h + 12);
    s->date_sec = be32_get(h + 16);
    s->date_nsec = be32_get(h + 20);
    s->clock_ns = be64_get(h + 24);
    s->vm_state_size = be32_get(h + 32);
    extra_len = be32_get(h + 36);
    end = *at + ENTRY_FIXED + extra_len + id_len + name_len;
    if (extra_len > EXTRA_MAX || end > q->file->size || end - q->snapshots_offset > TABLE_MAX)
        return qcow2_bad(q, err, "a snapshot's entry lies outside of the file");
    if (node_pread(q->file, *at + ENTRY_FIXED, extra, extra_len))
        return qcow2_bad(q, err, "the snapshot table cannot be read");
    if (extra_len >= 8)
        s->vm_state_size = be64_get(extra);
    s->disk_size = extra_len >= 16 ? be64_get(extra + 8) : (uint64_t)q->node->size;
    s->icount = extra_len >= 24 ? be64_get(extra + 16) : UINT64_MAX;
    if (extra_len > EXTRA_KNOWN)
        s->extra = g_bytes_new(extra + EXTRA_KNOWN, extra_len - EXTRA_KNOWN);
    s->id = g_malloc0(id_len + 1);
    s->name = g_malloc0(name_len + 1);
    if (node_pread(q->file, *at + ENTRY_FIXED + extra_len, s->id, id_len) ||
        node_pread(q->file, *at + ENTRY_FIXED + extra_len + id_len, s->name, name_len))
        return qcow2_bad(q, err, "the snapshot table cannot be read");
    if (s->l1_size > QCOW2_MAX_L1_BYTES / 8 || !qcow2_table_ok(q, s->l1_offset, s->l1_size * 8ull))
        return qcow2_bad(q, err, "L1 table of snapshot '%s' at %#" PRIx64, s->name, s->l1_offset);
    *at = (end + 7) & ~7ull;
    return true;
}

bool qcow2_snapshots_read(struct qcow2 *q, struct error *err)
{
    uint64_t at = q->snapshots_offset;

    q->snapshots = g_new0(struct qcow2_snapshot, q->snapshot_count);
    for (uint32_t i = 0; i < q->snapshot_count; i++)
        if (!snapshot_read(q, &q->snapshots[i], &at, err))
            return false;
    q->snapshots_size = at - q->snapshots_offset;
    return true;
}

static void snapshot_clear(struct qcow2_snapshot *s)
{
    g_free(s->id);
    g_free(s->name);
    if (s->extra)
        g_bytes_unref(s->extra);
}

void qcow2_snapshots_free(struct qcow2 *q)
{
    for (uint32_t i = 0; q->snapshots && i < q->snapshot_count; i++)
        snapshot_clear(&q->snapshots[i]);
    g_free(q->snapshots);
}

static void entry_put(GByteArray *out, const struct qcow2_snapshot *s)
{
    uint8_t h[ENTRY_FIXED + EXTRA_KNOWN] = { 0 };
    gsize more = 0;
    const void *extra = s->extra ? g_bytes_get_data(s->extra, &more) : NULL;
    static const uint8_t zero[8];

    be64_put(h, s->l1_offset);
    be32_put(h + 8, s->l1_size);
    be16_put(h + 12, strlen(s->id));
    be16_put(h + 14, strlen(s->name));
    be32_put(h + 16, s->date_sec);
    be32_put(h + 20, s->date_nsec);
    be64_put(h + 24, s->clock_ns);
    be32_put(h + 32, MIN(s->vm_state_size, UINT32_MAX));
    be32_put(h + 36, EXTRA_KNOWN + more);
    be64_put(h + 40, s->vm_state_size);
    be64_put(h + 48, s->disk_size);
    be64_put(h + 56, s->icount);
    g_byte_array_append(out, h, sizeof(h));
    if (more)
        g_byte_array_append(out, extra, more);
    g_byte_array_append(out, (const uint8_t *)s->id, strlen(s->id));
    g_byte_array_append(out, (const uint8_t *)s->name, strlen(s->name));
    g_byte_array_append(out, zero, -out->len & 7);
}

/* Writes the table of these, and makes the header name it. */
static int table_switch(struct qcow2 *q, const struct qcow2_snapshot *s, uint32_t count)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    uint64_t offset = 0, old = q->snapshots_offset, old_size = q->snapshots_size;
    uint8_t field[12];
    int ret = 0;

    for (uint32_t i = 0; i < count; i++)
        entry_put(bytes, &s[i]);
    if (bytes->len > TABLE_MAX)
        return -EFBIG;
    co_mutex_lock(&q->lock);
    if (count)
        ret = qcow2_alloc_clusters(q, clusters_of(q, bytes->len), &offset);
    if (!ret)
        q->fresh_start = MAX(q->fresh_start, offset + bytes->len + q->cluster_size);
    co_mutex_unlock(&q->lock);
    if (!ret && count)
        ret = node_pwrite(q->file, offset, bytes->data, bytes->len);
    if (!ret)
        ret = qcow2_flush_cache(q->node);
    if (!ret)
        ret = node_flush(q->file);
    be32_put(field, count);
    be64_put(field + 4, offset);
    if (!ret)
        ret = qcow2_header_write(q, QCOW2_H_SNAPSHOTS, field, sizeof(field));
    if (!ret)
        ret = node_flush(q->file);
    if (ret) {
        old = offset;           /* the new one is given up instead */
        old_size = bytes->len;
    } else {
        q->snapshots_offset = offset;
        q->snapshots_size = bytes->len;
    }
    co_mutex_lock(&q->lock);
    for (uint64_t at = 0; old && at < old_size; at += q->cluster_size)
        qcow2_free_later(q, old + at);
    co_mutex_unlock(&q->lock);
    return ret;
}

/* By id first, then by name. */
static int snapshot_index(const struct qcow2 *q, const char *name)
{
    for (uint32_t i = 0; i < q->snapshot_count; i++)
        if (!strcmp(q->snapshots[i].id, name))
            return i;
    for (uint32_t i = 0; i < q->snapshot_count; i++)
        if (!strcmp(q->snapshots[i].name, name))
            return i;
    return -1;
}

static bool find(const struct qcow2 *q, const char *name, uint32_t *index, struct error *err)
{
    int i = snapshot_index(q, name);

    *index = i;
    return i >= 0 || error_setf(err, ERR_GENERIC, "rhea-img snapshot -l lists those of an image",
                                "'%s' has no snapshot '%s'", q->file->filename, name);
}

/* The L1 table of a snapshot, with room for `entries`. */
static int l1_load(struct qcow2 *q, const struct qcow2_snapshot *s, uint32_t entries, uint64_t **out)
{
    uint64_t *l1 = g_try_new0(uint64_t, MAX(MAX(entries, s->l1_size), 1));
    int ret = l1 ? node_pread(q->file, s->l1_offset, l1, s->l1_size * 8ull) : -ENOMEM;

    for (uint32_t i = 0; i < s->l1_size && !ret; i++)
        l1[i] = GUINT64_FROM_BE(l1[i]);
    if (ret)
        g_clear_pointer(&l1, g_free);
    *out = l1;
    return ret;
}

static int flush_frees(struct qcow2 *q)
{
    int ret = qcow2_flush_cache(q->node);       /* what is freed, then its counts */

    return ret ? ret : qcow2_flush_cache(q->node);
}

static bool outcome(struct qcow2 *q, int ret, const char *what, const char *name, struct error *err)
{
    if (!ret)
        return true;
    if (ret == -EINVAL)
        return error_setf(err, ERR_GENERIC, "rhea-img amend -o refcount_bits=16 makes room",
                          "cannot %s snapshot '%s': reference counts of %u bits overflow", what, name,
                          1u << q->refcount_order);
    return error_set_errno(err, -ret, NULL, "cannot %s snapshot '%s' of '%s'", what, name, q->file->filename);
}

/* ---- creating */

static char *id_new(const struct qcow2 *q)
{
    uint64_t max = 0;

    for (uint32_t i = 0; i < q->snapshot_count; i++)
        max = MAX(max, g_ascii_strtoull(q->snapshots[i].id, NULL, 10));
    return g_strdup_printf("%" PRIu64, MIN(max, UINT64_MAX - 1) + 1);
}

static int create_locked(struct qcow2 *q, struct qcow2_snapshot *s)
{
    struct qcow2_snapshot *all;
    int ret = qcow2_flush_cache(q->node);

    if (!ret)
        ret = qcow2_tree_count(q, q->l1, q->l1_size, 1, true);
    if (ret) {
        qcow2_copied_update(q, NULL);
        return ret;
    }
    co_mutex_lock(&q->lock);
    q->l1_dirty_from = 0;
    q->l1_dirty_to = q->l1_size;
    co_mutex_unlock(&q->lock);
    ret = qcow2_l1_write(q, q->l1, q->l1_size, &s->l1_offset);
    all = g_new(struct qcow2_snapshot, q->snapshot_count + 1);
    if (q->snapshot_count)
        memcpy(all, q->snapshots, q->snapshot_count * sizeof(*all));
    all[q->snapshot_count] = *s;
    if (!ret)
        ret = table_switch(q, all, q->snapshot_count + 1);
    if (ret) {                  /* all is as it was; what the new one took is given back */
        g_free(all);
        qcow2_tree_count(q, q->l1, q->l1_size, -1, false);
        for (uint64_t at = 0; s->l1_offset && at < s->l1_size * 8ull; at += q->cluster_size)
            qcow2_free_later(q, s->l1_offset + at);
        flush_frees(q);
        qcow2_copied_update(q, NULL);
        return ret;
    }
    g_free(q->snapshots);
    q->snapshots = all;
    q->snapshot_count++;
    if (s->vm_state_size)       /* the machine's state now belongs to the snapshot alone */
        ret = qcow2_forget_from(q, qcow2_vmstate_start(q));
    return ret ? ret : flush_frees(q);
}

bool qcow2_snapshot_create(struct block_node *n, const struct block_snapshot *b, struct error *err)
{
    struct qcow2 *q = n->state;
    struct qcow2_snapshot s = {
        .l1_size = q->l1_size, .disk_size = n->size, .vm_state_size = b->vm_state_size, .date_sec = b->date_sec,
        .date_nsec = b->date_nsec, .clock_ns = b->clock_ns, .icount = b->icount,
    };
    uint32_t before;
    int ret;

    if (q->data_external)
        return error_setf(err, ERR_GENERIC, "use external snapshots: rhea-img create -b",
                          "'%s' has an external data file, and can't hold snapshots", n->filename);
    if (!*b->name || strlen(b->name) > UINT16_MAX)
        return error_set(err, ERR_GENERIC, "a snapshot's name has 1 to 65535 bytes", NULL);
    if (q->snapshot_count >= QCOW2_MAX_SNAPSHOTS)
        return error_setf(err, ERR_GENERIC, "delete some with rhea-img snapshot -d", "'%s' has %u snapshots already",
                          n->filename, q->snapshot_count);
    qcow2_exclusive_begin(q);
    before = q->snapshot_count;
    s.l1_size = q->l1_size;
    s.name = g_strdup(b->name);
    s.id = id_new(q);
    ret = create_locked(q, &s);
    qcow2_exclusive_end(q);
    if (q->snapshot_count == before)
        snapshot_clear(&s);
    return outcome(q, ret, "make", b->name, err);
}

/* ---- going back */

static int apply_locked(struct qcow2 *q, const struct qcow2_snapshot *s)
{
    uint64_t per_l2 = q->cluster_size << q->l2_bits, needed = s->disk_size / per_l2 + (s->disk_size % per_l2 != 0);
    uint32_t entries = MAX(needed, s->l1_size), old_size = q->l1_size;
    g_autofree uint64_t *old = NULL, *l1 = NULL;
    int ret;

    if (s->disk_size > INT64_MAX - per_l2 || (s->disk_size & 511) || needed * 8 > QCOW2_MAX_L1_BYTES)
        return -EFBIG;
    ret = qcow2_flush_cache(q->node);
    if (!ret)
        ret = l1_load(q, s, entries, &l1);
    if (ret)
        return ret;
    old = g_memdup2(q->l1, MAX(old_size, 1) * 8ull);
    ret = qcow2_tree_count(q, l1, s->l1_size, 1, true);
    if (ret)
        return ret;
    ret = qcow2_l1_switch(q, &l1, entries, s->disk_size);
    if (ret) {
        qcow2_tree_count(q, l1, s->l1_size, -1, false);
        flush_frees(q);
        return ret;
    }
    co_mutex_lock(&q->lock);
    q->inflated_entry = 0;
    co_mutex_unlock(&q->lock);
    bitmaps_resize(q->node, q->node->size);
    bitmaps_note(q->node, 0, q->node->size);    /* all may be another */
    ret = qcow2_tree_count(q, old, old_size, -1, false);
    return ret ? ret : flush_frees(q);
}

bool qcow2_snapshot_apply(struct block_node *n, const char *name, struct error *err)
{
    struct qcow2 *q = n->state;
    uint32_t i;
    bool found;
    int ret;

    qcow2_exclusive_begin(q);
    found = find(q, name, &i, err);
    ret = found ? apply_locked(q, &q->snapshots[i]) : 0;
    qcow2_exclusive_end(q);
    return found && outcome(q, ret, "go back to", name, err);
}

/* ---- deleting */

static void mark_cluster(GByteArray *bits, uint64_t cluster)
{
    if (cluster / 8 < bits->len)
        bits->data[cluster / 8] |= 1u << (cluster & 7);
}

/* Which clusters are about to have one reference less. */
static int mark_tree(struct qcow2 *q, const uint64_t *l1, uint32_t entries, GByteArray *bits)
{
    uint8_t *table = node_buffer(q->file, q->cluster_size);
    int ret = table ? 0 : -ENOMEM;

    g_byte_array_set_size(bits, clusters_of(q, q->file->size) / 8 + 1);
    memset(bits->data, 0, bits->len);
    for (uint32_t i = 0; i < entries && !ret; i++) {
        uint64_t offset = l1[i] & QCOW2_OFFSET_MASK;

        if (!offset)
            continue;
        mark_cluster(bits, offset >> q->cluster_bits);
        ret = node_pread(q->file, offset, table, q->cluster_size);
        for (uint64_t k = 0; k < 1ull << q->l2_bits && !ret; k++) {
            uint64_t desc = l2_load(q, table, k).desc;
            enum qcow2_kind kind = qcow2_kind(q, desc);

            if (kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOC)
                mark_cluster(bits, (desc & QCOW2_OFFSET_MASK) >> q->cluster_bits);
        }
    }
    free(table);
    return ret;
}

static int delete_locked(struct qcow2 *q, uint32_t i)
{
    g_autofree struct qcow2_snapshot *rest = g_memdup2(q->snapshots, q->snapshot_count * sizeof(*rest));
    g_autoptr(GByteArray) bits = g_byte_array_new();
    struct qcow2_snapshot s = q->snapshots[i];
    g_autofree uint64_t *l1 = NULL;
    int ret = qcow2_flush_cache(q->node);

    if (!ret)
        ret = l1_load(q, &s, 0, &l1);
    if (!ret)
        ret = mark_tree(q, l1, s.l1_size, bits);
    memmove(&rest[i], &rest[i + 1], (q->snapshot_count - i - 1) * sizeof(*rest));
    if (!ret)
        ret = table_switch(q, rest, q->snapshot_count - 1);
    if (ret)
        return ret;
    memcpy(q->snapshots, rest, --q->snapshot_count * sizeof(*rest));
    snapshot_clear(&s);
    /* First who may write in place learns so, then the counts fall: a loss of power in between leaks. */
    ret = qcow2_copied_update(q, bits);
    if (!ret)
        ret = qcow2_flush_cache(q->node);
    if (!ret)
        ret = qcow2_tree_count(q, l1, s.l1_size, -1, false);
    co_mutex_lock(&q->lock);
    for (uint64_t at = 0; !ret && at < s.l1_size * 8ull; at += q->cluster_size)
        qcow2_free_later(q, s.l1_offset + at);
    co_mutex_unlock(&q->lock);
    return ret ? ret : flush_frees(q);
}

bool qcow2_snapshot_delete(struct block_node *n, const char *name, struct error *err)
{
    struct qcow2 *q = n->state;
    uint32_t i;
    bool found;
    int ret;

    qcow2_exclusive_begin(q);
    found = find(q, name, &i, err);
    ret = found ? delete_locked(q, i) : 0;
    qcow2_exclusive_end(q);
    return found && outcome(q, ret, "delete", name, err);
}

bool qcow2_snapshot_view(struct block_node *n, const char *name, struct error *err)
{
    struct qcow2 *q = n->state;
    uint64_t *l1, per_l2 = q->cluster_size << q->l2_bits, needed;
    uint32_t i;
    int ret;

    if (!find(q, name, &i, err))
        return false;
    if (!n->read_only)
        return error_set(err, ERR_GENERIC, "a snapshot is looked at in an image that is open for reading only", NULL);
    needed = q->snapshots[i].disk_size / per_l2 + (q->snapshots[i].disk_size % per_l2 != 0);
    if (needed * 8 > QCOW2_MAX_L1_BYTES || q->snapshots[i].disk_size > INT64_MAX - per_l2)
        return qcow2_bad(q, err, "size %" PRIu64 " of snapshot '%s'", q->snapshots[i].disk_size, name);
    ret = l1_load(q, &q->snapshots[i], needed, &l1);
    if (ret)
        return outcome(q, ret, "look at", name, err);
    qcow2_exclusive_begin(q);
    g_free(q->l1);
    q->l1 = l1;
    q->l1_size = MAX(needed, q->snapshots[i].l1_size);
    q->l1_offset = q->snapshots[i].l1_offset;
    n->size = q->snapshots[i].disk_size;
    qcow2_exclusive_end(q);
    return true;
}

/* ---- the machine's state: behind the disk */

int qcow2_vmstate_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct qcow2 *q = n->state;
    uint64_t start = qcow2_vmstate_start(q);
    int ret;

    if (off > INT64_MAX - start || bytes > INT64_MAX - start - off)
        return -EFBIG;
    qcow2_request_begin(q);
    ret = qcow2_read(q, start + off, bytes, iov, niov);
    qcow2_request_end(q);
    return ret;
}

static int l1_reach(struct qcow2 *q, uint64_t end)
{
    uint64_t span = 1ull << (q->cluster_bits + q->l2_bits), entries = end / span + (end % span != 0);
    g_autofree uint64_t *l1 = NULL;
    int ret = 0;

    if (entries * 8 > QCOW2_MAX_L1_BYTES)
        return -EFBIG;
    qcow2_exclusive_begin(q);
    if (entries > q->l1_size) {
        l1 = g_new0(uint64_t, entries);
        memcpy(l1, q->l1, q->l1_size * 8ull);
        ret = qcow2_flush_cache(q->node);
        if (!ret)
            ret = qcow2_l1_switch(q, &l1, entries, q->node->size);
    }
    qcow2_exclusive_end(q);
    return ret;
}

int qcow2_vmstate_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct qcow2 *q = n->state;
    uint64_t start = qcow2_vmstate_start(q);
    int ret;

    if (n->read_only)
        return -EPERM;
    if (q->data_external)
        return -ENOTSUP;
    if (off > INT64_MAX - start || bytes > INT64_MAX - start - off)
        return -EFBIG;
    ret = l1_reach(q, start + off + bytes);
    if (ret)
        return ret;
    qcow2_request_begin(q);
    ret = qcow2_write(q, start + off, bytes, iov, niov);
    qcow2_request_end(q);
    return ret;
}

/* ---- what is told */

struct json_object *qcow2_snapshots(struct block_node *n)
{
    struct qcow2 *q = n->state;
    struct json_object *list;

    if (!q->snapshot_count)
        return NULL;
    list = json_object_new_array();
    for (uint32_t i = 0; i < q->snapshot_count; i++) {
        const struct qcow2_snapshot *s = &q->snapshots[i];
        struct json_object *o = json_object_new_object();

        if (s->icount != UINT64_MAX)
            json_object_object_add(o, "icount", json_object_new_uint64(s->icount));
        json_object_object_add(o, "vm-clock-nsec", json_object_new_uint64(s->clock_ns % 1000000000));
        json_object_object_add(o, "name", json_object_new_string(s->name));
        json_object_object_add(o, "date-sec", json_object_new_int64(s->date_sec));
        json_object_object_add(o, "date-nsec", json_object_new_int64(s->date_nsec));
        json_object_object_add(o, "vm-clock-sec", json_object_new_uint64(s->clock_ns / 1000000000));
        json_object_object_add(o, "id", json_object_new_string(s->id));
        json_object_object_add(o, "vm-state-size", json_object_new_uint64(s->vm_state_size));
        json_object_array_add(list, o);
    }
    return list;
}
