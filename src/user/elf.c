/* ELF programs: System V gABI chapters 4 and 5, as Linux's execve() reads them. The file is not trusted. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "user/elf.h"

enum { PHDR_BYTES_MAX = 65536 };        /* as Linux has it */

const struct guest_user *elf_guest(const uint8_t *h, size_t n)
{
    if (n < sizeof(Elf32_Ehdr) || memcmp(h, ELFMAG, SELFMAG) || (h[EI_CLASS] != ELFCLASS32 && h[EI_CLASS] != ELFCLASS64)
        || (h[EI_DATA] != ELFDATA2LSB && h[EI_DATA] != ELFDATA2MSB))
        return NULL;
    return guest_user_of_elf(h[EI_DATA] == ELFDATA2LSB ? h[18] | h[19] << 8 : h[19] | h[18] << 8, h[EI_CLASS] == ELFCLASS64 ? 64 : 32,
                             h[EI_DATA] == ELFDATA2MSB);
}

static void phdr_widen(Elf64_Phdr *to, const Elf32_Phdr *from)
{
    *to = (Elf64_Phdr){ .p_type = from->p_type, .p_flags = from->p_flags, .p_offset = from->p_offset, .p_vaddr = from->p_vaddr,
                        .p_paddr = from->p_paddr, .p_filesz = from->p_filesz, .p_memsz = from->p_memsz, .p_align = from->p_align };
}

/* Whether PT_GNU_PROPERTY's notes have GNU_PROPERTY_AARCH64_FEATURE_1_AND with BTI (ELF for the Arm 64-bit Architecture, 6.3.3).
 * Of a note that is malformed nothing is believed. */
static bool property_guarded(const struct elf_file *f, const Elf64_Phdr *ph)
{
    enum { TYPE_FEATURE_1_AND = 0xc0000000, FEATURE_1_BTI = 1 };
    struct { Elf64_Nhdr h; char name[4]; uint32_t word[250]; } note;
    uint32_t words;

    if (ph->p_filesz < sizeof(note.h) + sizeof(note.name) || ph->p_filesz > sizeof(note)
        || pread(f->fd, &note, ph->p_filesz, ph->p_offset) != (ssize_t)ph->p_filesz)
        return false;
    if (note.h.n_namesz != 4 || note.h.n_type != NT_GNU_PROPERTY_TYPE_0 || memcmp(note.name, "GNU", 4)
        || note.h.n_descsz > ph->p_filesz - sizeof(note.h) - sizeof(note.name))
        return false;
    words = note.h.n_descsz / 4;
    for (uint32_t n = 0; n + 2 < words;) {
        if (note.word[n] == TYPE_FEATURE_1_AND && note.word[n + 1] == 4)
            return note.word[n + 2] & FEATURE_1_BTI;
        if (note.word[n + 1] > sizeof(note.word))
            return false;
        n += 2 + (note.word[n + 1] + 7) / 8 * 2;
    }
    return false;
}

static bool elf_read_segments(struct elf_file *f, struct error *err)
{
    size_t bytes = (size_t)f->phnum * f->phentsize;
    g_autofree uint8_t *raw = g_malloc(MAX(bytes, 1));

    if (bytes > PHDR_BYTES_MAX || f->phnum == 0 || pread(f->fd, raw, bytes, f->phoff) != bytes)
        return error_setf(err, ERR_GENERIC, NULL, "%s: its program headers cannot be read", f->path);
    f->ph = g_new0(Elf64_Phdr, f->phnum);
    for (unsigned n = 0; n < f->phnum; n++) {
        Elf64_Phdr *ph = &f->ph[n];

        if (f->guest->bits == 64)
            memcpy(ph, raw + n * sizeof(*ph), sizeof(*ph));
        else
            phdr_widen(ph, (Elf32_Phdr *)(raw + n * sizeof(Elf32_Phdr)));
        if (ph->p_type == PT_GNU_STACK) {
            f->stack_flags = ph->p_flags;
        } else if (ph->p_type == PT_GNU_PROPERTY && f->guest->guard_bits) {
            f->guarded = property_guarded(f, ph);
        } else if (ph->p_type == PT_INTERP && !f->interp) {
            if (ph->p_filesz < 2 || ph->p_filesz > 4096)
                return error_setf(err, ERR_GENERIC, NULL, "%s: the name of its interpreter is malformed", f->path);
            f->interp = g_malloc0(ph->p_filesz + 1);
            if (pread(f->fd, f->interp, ph->p_filesz, ph->p_offset) != ph->p_filesz)
                return error_setf(err, ERR_GENERIC, NULL, "%s: the name of its interpreter cannot be read", f->path);
        }
    }
    return true;
}

bool elf_open(struct elf_file *f, int fd, const char *path, const struct guest_user *guest, struct error *err)
{
    union { Elf64_Ehdr e64; Elf32_Ehdr e32; uint8_t bytes[64]; } h = { 0 };
    ssize_t n = pread(fd, &h, sizeof(h), 0);
    unsigned type;
    struct stat st;

    *f = (struct elf_file){ .fd = fd, .path = path, .stack_flags = -1 };
    if (n < (ssize_t)sizeof(h.e32) || fstat(fd, &st) < 0 || !(f->guest = elf_guest(h.bytes, n)))
        return error_setf(err, ERR_GENERIC, "a program is an ELF file for x86_64, i386, aarch64, arm, riscv64 or riscv32 Linux",
                          "%s: not a program that can be run here", path);
    if (guest && f->guest != guest)
        return error_setf(err, ERR_GENERIC, NULL, "%s: is for %s, not for %s", path, f->guest->name, guest->name);
    f->size = st.st_size;
    if (f->guest->bits == 64) {
        type = h.e64.e_type, f->entry = h.e64.e_entry, f->phoff = h.e64.e_phoff, f->phnum = h.e64.e_phnum;
        f->phentsize = h.e64.e_phentsize;
    } else {
        type = h.e32.e_type, f->entry = h.e32.e_entry, f->phoff = h.e32.e_phoff, f->phnum = h.e32.e_phnum;
        f->phentsize = h.e32.e_phentsize;
    }
    if ((type != ET_EXEC && type != ET_DYN) || f->phentsize != (f->guest->bits == 64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
        return error_setf(err, ERR_GENERIC, NULL, "%s: an ELF file, but not a program", path);
    f->fixed = type == ET_EXEC;
    return elf_read_segments(f, err);
}

void elf_close(struct elf_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    g_free(f->ph);
    g_free(f->interp);
    f->ph = NULL;
    f->interp = NULL;
}

static int segment_prot(const Elf64_Phdr *ph)
{
    return (ph->p_flags & PF_R ? PROT_READ : 0) | (ph->p_flags & PF_W ? PROT_WRITE : 0) | (ph->p_flags & PF_X ? PROT_EXEC : 0);
}

/* The extent of all PT_LOAD segments, and whether they are sane. */
static bool elf_extent(const struct process *p, const struct elf_file *f, uint64_t *low, uint64_t *high, struct error *err)
{
    *low = UINT64_MAX;
    *high = 0;
    for (unsigned n = 0; n < f->phnum; n++) {
        const Elf64_Phdr *ph = &f->ph[n];

        if (ph->p_type != PT_LOAD || !ph->p_memsz)
            continue;
        if (ph->p_filesz > ph->p_memsz || ph->p_vaddr >= p->guest->address_end || ph->p_memsz > p->guest->address_end - ph->p_vaddr
            || ((ph->p_vaddr ^ ph->p_offset) & (CPU_PAGE_SIZE - 1) && ph->p_filesz))
            return error_setf(err, ERR_GENERIC, NULL, "%s: segment %u is malformed", f->path, n);
        *low = MIN(*low, ph->p_vaddr & -(uint64_t)CPU_PAGE_SIZE);
        *high = MAX(*high, ph->p_vaddr + ph->p_memsz);
    }
    return *high ? true : error_setf(err, ERR_GENERIC, NULL, "%s: has nothing to load", f->path);
}

/* One segment: the file's pages, the rest of the last of them zeroed, then pages of zeroes. */
static bool segment_map(struct process *p, const struct elf_file *f, const Elf64_Phdr *ph, uint64_t bias, struct error *err)
{
    uint64_t page = CPU_PAGE_SIZE - 1, start = (ph->p_vaddr & ~page) + bias, lead = ph->p_vaddr & page;
    uint64_t file_end = ph->p_vaddr + bias + ph->p_filesz, end = ph->p_vaddr + bias + ph->p_memsz;
    uint64_t zero = (file_end + page) & ~page;
    /* What has an interpreter is left to that, as Linux does. */
    unsigned guard = ph->p_flags & PF_X && f->guarded && !f->interp ? p->guard_bits : 0;
    int prot = segment_prot(ph) | (int)guard;
    int64_t r = 0;

    if (ph->p_filesz)
        r = mem_map(p, start, lead + ph->p_filesz, prot, MAP_PRIVATE | MAP_FIXED, f->fd, ph->p_offset - lead);
    else
        zero = start;
    if (r >= 0 && ph->p_filesz && ph->p_memsz > ph->p_filesz && (file_end & page) && prot & PROT_WRITE) {
        if (ph->p_offset + ph->p_filesz > f->size)      /* touching it would be SIGBUS */
            return error_setf(err, ERR_GENERIC, NULL, "%s: is cut short", f->path);
        memset((void *)(p->base + file_end), 0, zero - file_end);
    }
    if (r >= 0 && end > zero)
        r = mem_map(p, zero, end - zero, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return r >= 0 ? true : error_set_errno(err, -r, NULL, "%s: cannot be mapped at %#" PRIx64, f->path, start);
}

bool elf_map(struct process *p, const struct elf_file *f, uint64_t at, struct elf_image *image, struct error *err)
{
    uint64_t low, high;
    int64_t r;

    *image = (struct elf_image){ 0 };
    if (!elf_extent(p, f, &low, &high, err))
        return false;
    /* Claims the whole extent first, so that segments cannot land on anything else. */
    r = mem_map(p, f->fixed ? low : at, high - low, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (f->fixed ? MAP_FIXED_NOREPLACE : 0), -1, 0);
    if (r < 0)
        return error_set_errno(err, -r, f->fixed ? "the lowest address that may be mapped is in /proc/sys/vm/mmap_min_addr" : NULL,
                               "%s: no room for it at %#" PRIx64, f->path, low);
    image->bias = r - low;
    image->low = r;
    image->high = high + image->bias;
    image->entry = f->entry + image->bias;
    for (unsigned n = 0; n < f->phnum; n++) {
        const Elf64_Phdr *ph = &f->ph[n];

        if (ph->p_type == PT_LOAD && ph->p_memsz && !segment_map(p, f, ph, image->bias, err))
            return false;
        if (ph->p_type == PT_LOAD && f->phoff >= ph->p_offset && f->phoff < ph->p_offset + ph->p_filesz)
            image->phdr = f->phoff - ph->p_offset + ph->p_vaddr + image->bias;
    }
    return true;
}

char *prefix_path(const struct user_options *o, const char *path)
{
    if (o->prefix && path[0] == '/') {
        char *in = g_strconcat(o->prefix, path, NULL);

        if (access(in, F_OK) == 0)
            return in;
        g_free(in);
    }
    return g_strdup(path);
}
