/* See image.h. */
#include <elf.h>
#include <glib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include "image.h"

enum { ZBOOT_HEADER = 64, MIB = 1 << 20 };

static uint32_t get32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }

bool image_read(struct image *out, const char *what, const char *path, struct error *err)
{
    g_autoptr(GError) e = NULL;

    *out = (struct image){ .path = g_strdup(path) };
    if (g_file_get_contents(path, (char **)&out->data, &out->len, &e))
        return true;
    return error_setf(err, ERR_GENERIC, "check the path and its permissions", "cannot read the %s: %s", what, e->message);
}

void image_free(struct image *i)
{
    g_clear_pointer(&i->path, g_free);
    g_clear_pointer(&i->data, g_free);
}

/* ---- unpacking */

static void replace(struct image *i, uint8_t *data, size_t len)
{
    g_free(i->data);
    i->data = data;
    i->len = len;
}

static bool inflate_gzip(struct image *i, const uint8_t *in, size_t n, size_t limit)
{
    z_stream z = { .next_in = (Bytef *)in, .avail_in = (uInt)MIN(n, (size_t)UINT32_MAX) };
    size_t room = MIN(MAX(n * 4, (size_t)MIB), limit), len = 0;
    uint8_t *buf = g_malloc(room);
    int r = inflateInit2(&z, 16 + MAX_WBITS);

    while (r == Z_OK && len < room) {
        z.next_out = buf + len;
        z.avail_out = (uInt)MIN(room - len, (size_t)UINT32_MAX);
        r = inflate(&z, Z_NO_FLUSH);
        len = (size_t)(z.next_out - buf);
        if (r == Z_OK && len == room && room < limit) {
            room = MIN(room * 2, limit);
            buf = g_realloc(buf, room);
        }
    }
    inflateEnd(&z);
    if (r != Z_STREAM_END) {
        g_free(buf);
        return false;
    }
    replace(i, buf, len);
    return true;
}

static bool inflate_zstd(struct image *i, const uint8_t *in, size_t n, size_t limit)
{
    unsigned long long size = ZSTD_getFrameContentSize(in, n);
    uint8_t *buf;
    size_t len;

    if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN || size > limit)
        return false;
    buf = g_malloc(size + 1);
    len = ZSTD_decompress(buf, size, in, n);
    if (ZSTD_isError(len)) {
        g_free(buf);
        return false;
    }
    replace(i, buf, len);
    return true;
}

static bool is_gzip(const uint8_t *p, size_t n) { return n > 18 && p[0] == 0x1f && p[1] == 0x8b; }

/* Linux' EFI zboot: a small loader, with where the compressed image is, and how, in its header. */
static bool unpack_zboot(struct image *i, size_t limit, struct error *err)
{
    uint32_t at, n;

    if (i->len < ZBOOT_HEADER || memcmp(i->data, "MZ", 2) || memcmp(i->data + 4, "zimg", 4))
        return true;
    at = get32(i->data + 8);
    n = get32(i->data + 12);
    if (at <= i->len && n <= i->len - at &&
        ((!memcmp(i->data + 24, "gzip", 5) && inflate_gzip(i, i->data + at, n, limit)) ||
         (!memcmp(i->data + 24, "zstd", 5) && inflate_zstd(i, i->data + at, n, limit))))
        return true;
    return error_setf(err, ERR_GENERIC, "gzip and zstd are understood; unpack others first", "cannot unpack %s", i->path);
}

bool image_unpack(struct image *i, size_t limit, struct error *err)
{
    if (!unpack_zboot(i, limit, err))
        return false;
    if (is_gzip(i->data, i->len) && !inflate_gzip(i, i->data, i->len, limit))
        return error_setf(err, ERR_GENERIC, "gunzip -t FILE tells more", "cannot unpack %s: it is broken, or larger than memory", i->path);
    return true;
}

/* ---- ELF */

bool image_is_elf(const struct image *i)
{
    return i->len >= sizeof(Elf64_Ehdr) && !memcmp(i->data, ELFMAG, SELFMAG);
}

struct header { uint64_t entry, phoff; uint16_t machine, phentsize, phnum; };
struct segment { uint64_t offset, addr, filesz, memsz; bool load; };

static struct header header_of(const struct image *i, bool wide)
{
    Elf64_Ehdr h;
    Elf32_Ehdr n;

    memcpy(&h, i->data, sizeof(h));
    memcpy(&n, i->data, sizeof(n));
    if (wide)
        return (struct header){ h.e_entry, h.e_phoff, h.e_machine, h.e_phentsize, h.e_phnum };
    return (struct header){ n.e_entry, n.e_phoff, n.e_machine, n.e_phentsize, n.e_phnum };
}

static bool segment_read(const struct image *i, const struct header *h, unsigned n, bool wide, struct segment *s)
{
    size_t size = wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
    Elf64_Phdr p;
    Elf32_Phdr q;

    if (h->phentsize != size || h->phoff > i->len || (n + 1) * size > i->len - h->phoff)
        return false;
    if (wide) {
        memcpy(&p, i->data + h->phoff + n * size, size);
        *s = (struct segment){ p.p_offset, p.p_paddr, p.p_filesz, p.p_memsz, p.p_type == PT_LOAD && p.p_memsz };
    } else {
        memcpy(&q, i->data + h->phoff + n * size, size);
        *s = (struct segment){ q.p_offset, q.p_paddr, q.p_filesz, q.p_memsz, q.p_type == PT_LOAD && q.p_memsz };
    }
    return !s->load || (s->offset <= i->len && s->filesz <= i->len - s->offset && s->memsz >= s->filesz);
}

bool image_load_elf(const struct image *i, struct image_elf *e, struct error *err)
{
    struct header h = header_of(i, e->wide);
    struct segment s;

    if (i->data[EI_CLASS] != (e->wide ? ELFCLASS64 : ELFCLASS32) || i->data[EI_DATA] != ELFDATA2LSB || h.machine != e->machine)
        return error_setf(err, ERR_GENERIC, "file FILE says for which", "%s is an ELF file for another machine", i->path);
    e->entry = h.entry;
    e->low = UINT64_MAX;
    e->high = 0;
    for (unsigned n = 0; n < h.phnum; n++) {
        uint8_t *data;

        if (!segment_read(i, &h, n, e->wide, &s) || (s.load && (s.memsz > e->limit || s.addr > UINT64_MAX - s.memsz)))
            return error_setf(err, ERR_GENERIC, "readelf -l FILE shows them",
                              "%s: a broken ELF program header, or a segment larger than memory", i->path);
        if (!s.load)
            continue;
        data = g_malloc0(s.memsz);
        memcpy(data, i->data + s.offset, s.filesz);
        if (!e->put(e->opaque, s.addr, data, s.memsz, err))
            return false;
        e->low = MIN(e->low, s.addr);
        e->high = MAX(e->high, s.addr + s.memsz);
    }
    return true;
}
