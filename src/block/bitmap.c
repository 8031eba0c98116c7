/* Dirty bitmaps of nodes. */
#include "rhea/block/bitmap.h"

#include <stdlib.h>
#include <string.h>
#include <glib.h>
#include "block/graph.h"

enum { NAME_MAX_BYTES = 1023 };

static uint64_t bits_for(uint64_t size, unsigned granularity_bits)
{
    uint64_t g = 1ull << granularity_bits;

    return size / g + (size % g != 0);
}

static uint64_t words_for(uint64_t bits)
{
    return bits / 64 + 1;
}

/* ---- making and finding */

struct dirty_bitmap *bitmap_find(struct block_node *n, const char *name, struct error *err)
{
    for (struct dirty_bitmap *b = n->bitmaps; b; b = b->next)
        if (b->name && !strcmp(b->name, name))
            return b;
    error_setf(err, ERR_GENERIC, "rhea-img info lists those of an image, query-block those of a machine's disk", "Dirty bitmap '%s' not found", name);
    return NULL;
}

static uint64_t default_granularity(const struct block_node *n)
{
    uint64_t cluster = n->drv->cluster_size ? n->drv->cluster_size((struct block_node *)n) : 0;

    return cluster ? MAX(4096, MIN(cluster, BITMAP_DEFAULT_GRANULARITY)) : BITMAP_DEFAULT_GRANULARITY;
}

struct dirty_bitmap *bitmap_new(uint64_t size, uint64_t granularity, struct error *err)
{
    unsigned granularity_bits = granularity ? __builtin_ctzll(granularity) : 0;
    struct dirty_bitmap *b;
    _Atomic uint64_t *words;
    uint64_t bits;

    if (granularity < BITMAP_MIN_GRANULARITY || granularity > 1ull << 31 || (granularity & (granularity - 1))) {
        error_set(err, ERR_GENERIC, "Granularity must be a power of 2, at least 512, at most 2G", NULL);
        return NULL;
    }
    bits = bits_for(size, granularity_bits);
    words = g_try_malloc0_n(words_for(bits), sizeof(*words));
    if (!words) {
        error_setf(err, ERR_GENERIC, "a larger granularity takes less", "no memory for a bitmap of %" PRIu64 " bits", bits);
        return NULL;
    }
    b = g_new0(struct dirty_bitmap, 1);
    b->granularity_bits = granularity_bits;
    b->size = size;
    b->words = words;
    b->bits = bits;
    return b;
}

struct dirty_bitmap *bitmap_add(struct block_node *n, const char *name, uint64_t granularity, bool persistent, bool enabled,
                                struct error *err)
{
    struct dirty_bitmap *b;

    granularity = granularity ? granularity : default_granularity(n);
    if (name && (!*name || strlen(name) > NAME_MAX_BYTES)) {
        error_set(err, ERR_GENERIC, "a bitmap's name has 1 to 1023 bytes", NULL);
        return NULL;
    }
    if (name && bitmap_find(n, name, NULL)) {
        error_setf(err, ERR_GENERIC, "choose another name", "Bitmap already exists: %s", name);
        return NULL;
    }
    if (persistent && !n->drv->bitmap_can_store) {
        error_setf(err, ERR_GENERIC, "qcow2 images can", "images of format '%s' cannot keep dirty bitmaps", n->drv->name);
        return NULL;
    }
    b = bitmap_new(n->size, granularity, err);
    if (!b || (persistent && !n->drv->bitmap_can_store(n, name, granularity, err))) {
        bitmap_free(b);
        return NULL;
    }
    b->node = n;
    b->name = g_strdup(name);
    b->enabled = enabled;
    b->persistent = persistent;
    b->next = n->bitmaps;
    n->bitmaps = b;
    return b;
}

static void bitmap_unlink(struct dirty_bitmap *b)
{
    struct dirty_bitmap *_Atomic *p = &b->node->bitmaps;

    while (*p != b)
        p = &(*p)->next;
    *p = b->next;
}

void bitmap_free(struct dirty_bitmap *b)
{
    if (!b)
        return;
    if (b->node)
        bitmap_unlink(b);
    g_free((void *)b->words);
    g_free(b->name);
    g_free(b);
}

bool bitmap_usable(const struct dirty_bitmap *b, bool change, struct error *err)
{
    if (b->busy)
        return error_setf(err, ERR_GENERIC, "wait for the job, or cancel it", "Bitmap '%s' is currently in use by another operation and cannot be used",
                          b->name);
    if (change && b->persistent && b->node->read_only)
        return error_setf(err, ERR_GENERIC, "open the image for writing", "Bitmap '%s' is readonly and cannot be modified", b->name);
    if (b->inconsistent)
        return error_setf(err, ERR_GENERIC, "Try block-dirty-bitmap-remove to delete this bitmap from disk",
                          "Bitmap '%s' is inconsistent and cannot be used", b->name);
    return true;
}

bool bitmap_remove(struct dirty_bitmap *b, struct error *err)
{
    struct block_node *n = b->node;

    if (b->busy)
        return bitmap_usable(b, false, err);
    if (b->persistent && n->read_only)
        return error_setf(err, ERR_GENERIC, "open the image for writing", "Bitmap '%s' is readonly and cannot be modified", b->name);
    if (b->persistent && n->drv->bitmap_remove && !n->drv->bitmap_remove(n, b->name, err))
        return false;
    bitmap_free(b);
    return true;
}

void bitmaps_free(struct block_node *n)
{
    while (n->bitmaps)
        bitmap_free(n->bitmaps);
}

char *bitmap_sha256(const struct dirty_bitmap *b)
{
    GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
    char *text;

    for (uint64_t i = 0; i < MAX(1, (b->bits + 63) / 64); i++) {
        uint64_t word = GUINT64_TO_LE(atomic_load_explicit(&b->words[i], memory_order_relaxed));

        g_checksum_update(sum, (const uint8_t *)&word, sizeof(word));
    }
    text = g_strdup(g_checksum_get_string(sum));
    g_checksum_free(sum);
    return text;
}

/* ---- bits */

static uint64_t mask_of(uint64_t word, uint64_t from, uint64_t to)
{
    uint64_t lo = MAX(from, word * 64) - word * 64, hi = MIN(to, word * 64 + 64) - word * 64;

    return (hi == 64 ? UINT64_MAX : (1ull << hi) - 1) & ~((1ull << lo) - 1);
}

void bitmap_set(struct dirty_bitmap *b, uint64_t off, uint64_t bytes)
{
    uint64_t from, to;

    if (!bytes || off >= b->size)
        return;
    bytes = MIN(bytes, b->size - off);
    from = off >> b->granularity_bits;
    to = ((off + bytes - 1) >> b->granularity_bits) + 1;
    for (uint64_t w = from / 64; w <= (to - 1) / 64; w++)
        atomic_fetch_or_explicit(&b->words[w], mask_of(w, from, to), memory_order_relaxed);
}

void bitmap_reset(struct dirty_bitmap *b, uint64_t off, uint64_t bytes)
{
    uint64_t g = 1ull << b->granularity_bits, from, to;

    if (!bytes || off >= b->size)
        return;
    from = (off + g - 1) / g;                   /* granules that are covered whole */
    to = bytes >= b->size - off ? b->bits : (off + bytes) / g;
    for (uint64_t w = from / 64; from < to && w <= (to - 1) / 64; w++)
        atomic_fetch_and_explicit(&b->words[w], ~mask_of(w, from, to), memory_order_relaxed);
}

void bitmap_clear(struct dirty_bitmap *b)
{
    memset((void *)b->words, 0, words_for(b->bits) * 8);
}

bool bitmap_get(const struct dirty_bitmap *b, uint64_t off)
{
    uint64_t bit = off >> b->granularity_bits;

    return bit < b->bits && (b->words[bit / 64] >> (bit % 64) & 1);
}

/* The first bit of the value wanted at or after `bit`, or `end`. */
static uint64_t bit_next(const struct dirty_bitmap *b, uint64_t bit, uint64_t end, bool value)
{
    while (bit < end) {
        uint64_t w = b->words[bit / 64];

        w = (value ? w : ~w) >> (bit % 64);
        if (w)
            return MIN(end, bit + __builtin_ctzll(w));
        bit = (bit / 64 + 1) * 64;
    }
    return end;
}

bool bitmap_extent(const struct dirty_bitmap *b, uint64_t off, uint64_t *bytes)
{
    unsigned g = b->granularity_bits;
    uint64_t end = MIN(b->bits, ((off + *bytes - 1) >> g) + 1);
    bool value = bitmap_get(b, off);
    uint64_t last = bit_next(b, off >> g, end, !value);

    if (last < end)
        *bytes = (last << g) - off;
    return value;
}

bool bitmap_next(const struct dirty_bitmap *b, uint64_t *off, uint64_t *bytes)
{
    uint64_t from = *off >> b->granularity_bits, first = from < b->bits ? bit_next(b, from, b->bits, true) : b->bits, last;

    if (first >= b->bits)
        return false;
    last = bit_next(b, first, b->bits, false);
    *off = MAX(*off, first << b->granularity_bits);
    *bytes = MIN(last << b->granularity_bits, b->size) - *off;
    return true;
}

uint64_t bitmap_count(const struct dirty_bitmap *b)
{
    uint64_t n = 0;

    for (uint64_t w = 0; w < words_for(b->bits); w++)
        n += __builtin_popcountll(b->words[w]);
    return n << b->granularity_bits;
}

void bitmap_merge(struct dirty_bitmap *into, const struct dirty_bitmap *from)
{
    uint64_t bytes;

    for (uint64_t off = 0; bitmap_next(from, &off, &bytes); off += bytes)
        bitmap_set(into, off, bytes);
}

/* ---- the block layer's side */

void bitmaps_note(struct block_node *n, uint64_t off, uint64_t bytes)
{
    for (struct dirty_bitmap *b = n->bitmaps; b; b = b->next)
        if (b->enabled && !b->inconsistent)
            bitmap_set(b, off, bytes);
}

/* What is new counts as written. */
void bitmaps_resize(struct block_node *n, uint64_t size)
{
    for (struct dirty_bitmap *b = n->bitmaps; b; b = b->next) {
        uint64_t bits = bits_for(size, b->granularity_bits), old = b->size, have = MIN(words_for(b->bits), words_for(bits));
        _Atomic uint64_t *words = g_malloc0_n(words_for(bits), sizeof(*words));

        memcpy((void *)words, (void *)b->words, have * 8);
        g_free((void *)b->words);
        b->words = words;
        b->bits = bits;
        b->size = size;
        for (uint64_t i = bits; i < words_for(bits) * 64; i++)
            b->words[i / 64] &= ~(1ull << (i % 64));
        if (size > old && b->enabled)
            bitmap_set(b, old, size - old);
    }
}

struct json_object *bitmap_query(struct block_node *n)
{
    struct json_object *list = n->bitmaps ? json_object_new_array() : NULL;

    for (struct dirty_bitmap *b = n->bitmaps; b; b = b->next) {
        struct json_object *o = json_object_new_object();

        if (b->name)
            json_object_object_add(o, "name", json_object_new_string(b->name));
        json_object_object_add(o, "recording", json_object_new_boolean(b->enabled));
        json_object_object_add(o, "persistent", json_object_new_boolean(b->persistent));
        if (b->inconsistent)
            json_object_object_add(o, "inconsistent", json_object_new_boolean(true));
        json_object_object_add(o, "busy", json_object_new_boolean(b->busy));
        json_object_object_add(o, "granularity", json_object_new_uint64(1ull << b->granularity_bits));
        json_object_object_add(o, "count", json_object_new_uint64(bitmap_count(b)));
        json_object_array_add(list, o);
    }
    return list;
}
