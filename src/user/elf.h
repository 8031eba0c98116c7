/* Programs in ELF files: what a header says, and their segments put into a process. */
#ifndef RHEA_SRC_USER_ELF_H
#define RHEA_SRC_USER_ELF_H

#include <elf.h>
#include "rhea/user/process.h"

struct elf_file {
    int fd;
    const char *path;
    uint64_t size;
    const struct guest_user *guest;
    bool fixed;                 /* ET_EXEC: at its own addresses */
    uint64_t entry, phoff;
    unsigned phnum, phentsize;
    Elf64_Phdr *ph;             /* in 64-bit form */
    char *interp;               /* PT_INTERP, or NULL */
    bool guarded;               /* its notes say that its code is for guarded pages (AArch64: BTI) */
    int stack_flags;            /* of PT_GNU_STACK; -1: absent */
};
struct elf_image {
    uint64_t bias, low, high;   /* guest addresses; high: end of the last segment's memory */
    uint64_t entry, phdr;       /* phdr 0: not in memory */
};

/* The guest whose ELF header this is; NULL: none of ours. n: bytes there are. */
const struct guest_user *elf_guest(const uint8_t *header, size_t n);
/* Reads and checks headers; guest NULL: whatever it is for. Takes over fd. */
bool elf_open(struct elf_file *f, int fd, const char *path, const struct guest_user *guest, struct error *err);
void elf_close(struct elf_file *f);
/* at: where to load a position-independent file, 0: anywhere. */
bool elf_map(struct process *p, const struct elf_file *f, uint64_t at, struct elf_image *image, struct error *err);
/* prefix/path if there is such a file, else path itself; absolute paths only. Caller frees. */
char *prefix_path(const struct user_options *o, const char *path);

#endif
