/* Files that a board puts into memory: kernels, firmware, ELF programs, initial RAM disks. */
#ifndef RHEA_BOARD_IMAGE_H
#define RHEA_BOARD_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "rhea/base/error.h"

struct image { char *path; uint8_t *data; size_t len; };

/* what: "kernel", for the error. image_free() after either outcome. */
bool image_read(struct image *out, const char *what, const char *path, struct error *err);
void image_free(struct image *i);
/* Unpacks gzip, and Linux' EFI zboot around gzip or zstd, up to `limit` bytes; others stay as they are. */
bool image_unpack(struct image *i, size_t limit, struct error *err);

bool image_is_elf(const struct image *i);
/* An ELF file of that machine (EM_RISCV ...) and width: each loadable segment is given to put(), which takes data
 * (g_malloc'ed), at its physical address. */
struct image_elf {
    uint16_t machine;
    bool wide;                  /* ELFCLASS64 */
    uint64_t limit;             /* no segment is larger */
    bool (*put)(void *opaque, uint64_t addr, void *data, size_t len, struct error *err);
    void *opaque;
    /* found */
    uint64_t entry, low, high;  /* low, high: first address, and that after the last */
};
bool image_load_elf(const struct image *i, struct image_elf *e, struct error *err);

#endif
