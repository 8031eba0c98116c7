/* What image formats share that map fixed-size blocks of the disk to places in a file: numbers of either byte order,
 * new files, tables cached in pages, and requests over a block map.
 *
 * Order of writes. A new block of an image without a backing image is entered in the map before its data is written: its
 * place in the file reads as zeroes until then, as the unmapped block did, so a loss of power between the two changes
 * nothing that was promised. Where a backing image shows through, or old contents are moved, data comes first, and
 * table_flush() puts a barrier before the tables. */
#ifndef RHEA_BLOCK_FORMAT_IMAGE_H
#define RHEA_BLOCK_FORMAT_IMAGE_H

#include <glib.h>
#include <string.h>
#include "rhea/block/node.h"

#define IMAGE_LOADS(bits, from_le, from_be)                                                                         \
    static inline uint##bits##_t le##bits(const void *p) { uint##bits##_t v; memcpy(&v, p, sizeof(v)); return from_le(v); } \
    static inline uint##bits##_t be##bits(const void *p) { uint##bits##_t v; memcpy(&v, p, sizeof(v)); return from_be(v); } \
    static inline void put_le##bits(void *p, uint##bits##_t v) { v = from_le(v); memcpy(p, &v, sizeof(v)); }          \
    static inline void put_be##bits(void *p, uint##bits##_t v) { v = from_be(v); memcpy(p, &v, sizeof(v)); }
IMAGE_LOADS(16, GUINT16_FROM_LE, GUINT16_FROM_BE)
IMAGE_LOADS(32, GUINT32_FROM_LE, GUINT32_FROM_BE)
IMAGE_LOADS(64, GUINT64_FROM_LE, GUINT64_FROM_BE)

static inline uint64_t round_up(uint64_t v, uint64_t unit) { return (v + unit - 1) / unit * unit; }
static inline bool is_power_of_2(uint64_t v) { return v && !(v & (v - 1)); }
/* [off, off + bytes) lies within size */
static inline bool range_inside(uint64_t off, uint64_t bytes, uint64_t size)
{
    return off <= size && bytes <= size - off;
}

/* ---- new files */

/* Makes (or empties) the file, opens it and holds it for writing. */
struct block_node *image_create_file(const char *filename, struct error *err);
void image_close_file(struct block_node *file);
/* The size option of create, checked against what the format can hold; rounded up to whole sectors. */
bool image_create_size(struct json_object *opts, const char *format, uint64_t max, uint64_t *size, struct error *err);
/* 16 random bytes, marked as a random UUID (RFC 4122, 4.4); the first fields are little-endian in `guid`. */
void image_random_uuid(uint8_t uuid[16]);
void image_random_guid(uint8_t guid[16]);
/* Is `word` one of the strings? -1 with *err set. */
int image_choice(struct json_object *opts, const char *key, const char *const *words, struct error *err);
/* A disk's CHS geometry as BIOSes of IDE disks translate it: 16 heads, 63 sectors. */
struct image_geometry { uint32_t cylinders, heads, sectors; };
struct image_geometry image_geometry(uint64_t size);
bool image_corrupt(struct error *err, const char *format, const char *fmt, ...) G_GNUC_PRINTF(3, 4);

/* ---- tables */

/* Pages of the tables of a file, read when they are needed and written back by table_flush(). Only whole sectors that
 * changed are written. Any thread. */
struct table_cache;
struct table_cache *table_new(struct block_node *file);
void table_free(struct table_cache *t);
int table_read(struct table_cache *t, uint64_t off, void *buf, unsigned bytes);             /* [co] */
int table_write(struct table_cache *t, uint64_t off, const void *buf, unsigned bytes);      /* [co] */
/* [co] ordered: data that was written before comes to rest before the tables do. */
int table_flush(struct table_cache *t, bool ordered);
/* Changes are told to log() before they are written: n changed units of TABLE_UNIT bytes, at most TABLE_LOG_MAX. What it
 * wrote must have come to rest when it returns. */
enum { TABLE_UNIT = 4096, TABLE_LOG_MAX = 64 };
struct table_change { uint64_t off; const uint8_t *data; };
void table_set_log(struct table_cache *t, int (*log)(void *opaque, const struct table_change *c, unsigned n), void *opaque);
void table_forget(struct table_cache *t);       /* drops all pages, changed ones too */

/* ---- block maps */

enum place_kind { PLACE_ABSENT, PLACE_ZERO, PLACE_DATA, PLACE_PACKED };

struct place {                  /* where a block is */
    enum place_kind kind;
    struct block_node *file;
    uint64_t start, end;        /* of the disk: what this holds for */
    uint64_t host;              /* DATA: in `file`, of `start` */
    uint64_t arg;               /* the format's own */
};

struct blockmap_ops {
    /* [co] The block (or the run of like blocks) that has the byte at off. */
    int (*find)(struct block_node *n, uint64_t off, struct place *p);
    /* [co] Cuts p, which find() gave for `off`, to one block, and sets where it would go (p->file, p->host), or
     * p->kind = PLACE_PACKED: pack() will say. Under the map's lock, as what follows; nothing changes before publish(). */
    int (*allocate)(struct block_node *n, uint64_t off, struct place *p);
    int (*publish)(struct block_node *n, const struct place *p);        /* [co] p's block is there from now on */
    /* [co] The block as zeroes, without place. May be NULL. */
    int (*publish_zero)(struct block_node *n, const struct place *p);
    /* [co] Compressed blocks: the whole block. inflate_block() does the work. */
    int (*unpack)(struct block_node *n, const struct place *p, uint8_t *buf);
    int (*pack)(struct block_node *n, const struct place *p, const uint8_t *buf);       /* writes and publishes */
};

struct blockmap {               /* first in the driver's state */
    const struct blockmap_ops *ops;
    struct co_mutex lock;       /* allocation, and moves of old contents */
    struct co_mutex last_lock;  /* the block that was unpacked last: reads are smaller than blocks, and in order */
    uint8_t *last;
    uint64_t last_start, last_end, packed;      /* packed: counts calls of pack() */
};

void blockmap_init(struct blockmap *m, const struct blockmap_ops *ops);
void blockmap_clear(struct blockmap *m);        /* at close, if there is unpack() */
int blockmap_preadv(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);
int blockmap_pwritev(struct block_node *n, uint64_t off, uint64_t bytes, const struct iovec *iov, int niov);
int blockmap_write_zeroes(struct block_node *n, uint64_t off, uint64_t bytes, unsigned flags);
int blockmap_status(struct block_node *n, uint64_t off, uint64_t bytes, uint64_t *n_bytes, uint64_t *map,
                    struct block_node **file);
/* [co] Makes [off, off + bytes) of the file exist and read as zeroes. What a lost power left there past the known end goes. */
int image_fresh(struct block_node *file, uint64_t off, uint64_t bytes);
/* [co] Another child than the file, writable if that is. Given back by image_close_child(), which may be given NULL. */
struct block_node *image_open_child(struct block_node *n, struct json_object *opts, const char *role, struct error *err);
void image_close_child(struct block_node *n, struct block_node *child);
/* For formats that are only read: before the child is opened. */
bool image_read_only(struct block_node *n, struct error *err);
uint32_t image_crc32c(uint32_t crc, const void *buf, size_t len);      /* Castagnoli's; first crc: 0 */
/* [co] A zlib stream that must fill `out`, on a thread of the pool. longer_ok: it may be longer. 0 or -EIO. */
int inflate_block(const void *in, uint64_t in_bytes, void *out, uint64_t out_bytes, bool longer_ok);
int64_t image_allocated_size(struct block_node *n);      /* of the file and the other children */

#endif
