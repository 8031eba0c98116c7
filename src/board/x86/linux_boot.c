/* -kernel: Linux by its 64-bit and 32-bit boot protocols (Documentation/arch/x86/boot.rst), ELF images with a PVH entry
 * (docs of Xen, "x86/HVM direct boot ABI"). No firmware runs: what it would leave in memory is put there. */
#include <elf.h>
#include <stddef.h>
#include <string.h>
#include "common.h"

/* Low memory, below the kernel's own use of it */
enum { PARAMS_ADDR = 0x10000, START_INFO_ADDR = 0x11000, CMDLINE_ADDR = 0x20000,
       CMDLINE_MAX = 0x10000 };

/* Offsets in the setup header and boot_params */
enum { HDR_SETUP_SECTS = 0x1f1, HDR_BOOT_FLAG = 0x1fe, HDR_JUMP = 0x200, HDR_MAGIC = 0x202, HDR_VERSION = 0x206, HDR_LOADER = 0x210,
       HDR_LOADFLAGS = 0x211, HDR_CODE32 = 0x214, HDR_RAMDISK = 0x218, HDR_RAMDISK_SIZE = 0x21c, HDR_CMDLINE = 0x228,
       HDR_INITRD_MAX = 0x22c, HDR_RELOCATABLE = 0x234, HDR_XLOADFLAGS = 0x236, HDR_CMDLINE_SIZE = 0x238, HDR_PREF_ADDRESS = 0x258,
       HDR_INIT_SIZE = 0x260, PARAMS_RSDP = 0x070, PARAMS_E820_COUNT = 0x1e8, PARAMS_E820 = 0x2d0, PARAMS_EXT_RAMDISK = 0x0c0,
       PARAMS_EXT_RAMDISK_SIZE = 0x0c4, PARAMS_EXT_CMDLINE = 0x0c8, PARAMS_SIZE = 4096 };
enum { LOADED_HIGH = 1, KEEP_SEGMENTS = 0x40, XLF_KERNEL_64 = 1, XLF_ABOVE_4G = 2 };

static uint16_t get16(const uint8_t *p) { return p[0] | p[1] << 8; }
static uint32_t get32(const uint8_t *p) { return get16(p) | (uint32_t)get16(p + 2) << 16; }
static uint64_t get64(const uint8_t *p) { return get32(p) | (uint64_t)get32(p + 4) << 32; }
static void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }
static void put64(uint8_t *p, uint64_t v) { memcpy(p, &v, 8); }

static bool read_file(const char *what, const char *path, uint8_t **data, size_t *len, struct error *err)
{
    GError *e = NULL;

    if (!path || g_file_get_contents(path, (char **)data, len, &e))
        return true;
    error_setf(err, ERR_GENERIC, "check the path and its permissions", "cannot read %s %s: %s", what, path, g_strerror(
               g_error_matches(e, G_FILE_ERROR, G_FILE_ERROR_NOENT) ? ENOENT : g_error_matches(e, G_FILE_ERROR, G_FILE_ERROR_ACCES) ? EACCES :
               g_error_matches(e, G_FILE_ERROR, G_FILE_ERROR_ISDIR) ? EISDIR : EIO));
    g_error_free(e);
    return false;
}

/* What kernels still read of the BIOS data area: serial ports, EBDA segment (40Eh), KiB of base memory (413h). */
static void put_bios_data(struct x86_machine *m)
{
    static const uint16_t com1 = 0x3f8, ebda = 0x9fc0, base_kib = 639;
    uint8_t *bda = g_malloc0(0x100);

    memcpy(bda, &com1, 2);
    memcpy(bda + 0x0e, &ebda, 2);
    memcpy(bda + 0x13, &base_kib, 2);
    x86_blob(m, 0x400, bda, 0x100);
}

/* Some kernels (Xen) go back to real mode and call the BIOS, which is not there: every vector leads to a routine that
 * returns with the carry flag set, "failed". */
static void put_vectors(struct x86_machine *m)
{
    enum { STUB_ADDR = 0x500 };
    static const uint8_t stub[] = { 0x55, 0x89, 0xe5, 0x80, 0x4e, 0x06, 0x01, 0x5d, 0xcf };    /* push bp; mov bp, sp;
                                                                        or byte [bp+6], 1; pop bp; iret */
    uint32_t *vectors = g_new(uint32_t, 256);

    for (unsigned i = 0; i < 256; i++)
        vectors[i] = STUB_ADDR;
    x86_blob(m, 0, vectors, 256 * sizeof(uint32_t));
    x86_blob(m, STUB_ADDR, g_memdup2(stub, sizeof(stub)), sizeof(stub));
}

/* Descriptors for the entry states of common.c, and page tables that map the first 4 GiB one to one with 2 MiB pages. */
void x86_boot_tables(struct x86_machine *m, bool wide)
{
    static const uint64_t gdt[] = { 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00008b0000000067 };
    uint64_t *g = g_memdup2(gdt, sizeof(gdt)), *tables;

    put_vectors(m);
    put_bios_data(m);
    if (wide)
        g[2] = 0x00af9b000000ffff;
    x86_blob(m, X86_GDT_ADDR, g, sizeof(gdt));
    if (!wide)
        return;
    tables = g_new0(uint64_t, 6 * 512);
    tables[0] = (X86_TABLES_ADDR + 0x1000) | 3;
    for (unsigned i = 0; i < 4; i++)
        tables[512 + i] = (X86_TABLES_ADDR + 0x2000 + i * 0x1000) | 3;
    for (uint64_t i = 0; i < 2048; i++)
        tables[1024 + i] = i << 21 | 0x83;
    x86_blob(m, X86_TABLES_ADDR, tables, 6 * 4096);
}

static bool put_command_line(struct x86_machine *m, size_t max, struct error *err)
{
    const char *user = m->vm->config.append ? m->vm->config.append : "";

    g_free(m->append);
    m->append = m->append_extra ? g_strdup_printf("%s%s%s", user, *user ? " " : "", m->append_extra) : g_strdup(user);
    if (strlen(m->append) >= MIN(max + 1, (size_t)CMDLINE_MAX))
        return error_setf(err, ERR_GENERIC, "shorten -append", "the kernel takes a command line of at most %zu characters, this has %zu",
                          MIN(max, (size_t)CMDLINE_MAX - 1), strlen(m->append));
    x86_blob(m, CMDLINE_ADDR, g_strdup(m->append), strlen(m->append) + 1);
    return true;
}

/* The initrd goes as high as the kernel reaches, so that the kernel's own memory below stays whole. */
static bool place_initrd(struct x86_machine *m, size_t len, uint64_t max, uint64_t kernel_end, uint64_t *at, struct error *err)
{
    uint64_t top = MIN(m->low_size, max + 1);

    if (!len)
        return true;
    if (len > top || (*at = (top - len) & ~UINT64_C(0xfff)) < kernel_end)
        return error_setf(err, ERR_GENERIC, "give the machine more memory with -m", "the initrd (%zu MiB) does not fit beside the kernel in "
                          "%" PRIu64 " MiB of memory", len >> 20, m->low_size >> 20);
    return true;
}

static void put_e820(struct x86_machine *m, uint8_t *params)
{
    params[PARAMS_E820_COUNT] = m->ne820;
    for (unsigned i = 0; i < m->ne820; i++) {
        uint8_t *e = params + PARAMS_E820 + i * 20;

        put64(e, m->e820[i].addr);
        put64(e + 8, m->e820[i].size);
        put32(e + 16, m->e820[i].type);
    }
}

static bool load_bzimage(struct x86_machine *m, uint8_t *k, size_t len, uint8_t *initrd, size_t initrd_len, struct error *err)
{
    size_t setup = (k[HDR_SETUP_SECTS] ? k[HDR_SETUP_SECTS] + 1 : 5) * 512u, header_end;
    unsigned version = get16(k + HDR_VERSION);
    uint64_t load = 0x100000, initrd_at = 0, need, initrd_max;
    bool wide = version >= 0x20c && get16(k + HDR_XLOADFLAGS) & XLF_KERNEL_64 && strcmp(m->vm->guest->name, "i386") &&
                x86_has(((struct x86_cpu *)m->vm->vcpus[0]->cpu)->features, XF_LM);
    uint8_t *params;

    if (version < 0x206 || !(k[HDR_LOADFLAGS] & LOADED_HIGH))
        return error_setf(err, ERR_GENERIC, "use Linux 2.6.22 or later", "kernel %s speaks boot protocol %u.%02u, which is too old",
                          m->vm->config.kernel, version >> 8, version & 0xff);
    if (setup >= len)
        return error_setf(err, ERR_GENERIC, "fetch it again", "kernel %s is cut short: %zu bytes", m->vm->config.kernel, len);
    need = version >= 0x20a ? get32(k + HDR_INIT_SIZE) : len - setup;
    need = MAX(need, len - setup);
    if (version >= 0x20a && k[HDR_RELOCATABLE] && get64(k + HDR_PREF_ADDRESS) < m->low_size)
        load = get64(k + HDR_PREF_ADDRESS);
    if (load < 0x100000 || load + need > m->low_size)
        return error_setf(err, ERR_GENERIC, "give the machine more memory with -m", "the kernel needs %" PRIu64 " MiB from %" PRIu64
                          " MiB on; the machine has %" PRIu64 " MiB", need >> 20, load >> 20, m->low_size >> 20);
    initrd_max = get32(k + HDR_INITRD_MAX);
    if (version >= 0x20c && get16(k + HDR_XLOADFLAGS) & XLF_ABOVE_4G)
        initrd_max = MAX(initrd_max, 0xffffffff);
    if (!place_initrd(m, initrd_len, initrd_max, load + need, &initrd_at, err) ||
        !put_command_line(m, get32(k + HDR_CMDLINE_SIZE), err))
        return false;
    params = g_malloc0(PARAMS_SIZE);
    header_end = HDR_MAGIC + k[HDR_JUMP + 1];
    memcpy(params + HDR_SETUP_SECTS, k + HDR_SETUP_SECTS, MIN(header_end, (size_t)0x290) - HDR_SETUP_SECTS);
    params[HDR_LOADER] = 0xff;
    params[HDR_LOADFLAGS] &= ~KEEP_SEGMENTS;
    put32(params + HDR_CODE32, load);
    put32(params + HDR_CMDLINE, CMDLINE_ADDR);
    put32(params + HDR_RAMDISK, initrd_at);
    put32(params + HDR_RAMDISK_SIZE, initrd_len);
    put64(params + PARAMS_RSDP, m->rsdp);
    put_e820(m, params);
    x86_boot_tables(m, wide);
    x86_blob(m, PARAMS_ADDR, params, PARAMS_SIZE);
    x86_blob(m, load, g_memdup2(k + setup, len - setup), len - setup);
    if (initrd_len)
        x86_blob(m, initrd_at, g_memdup2(initrd, initrd_len), initrd_len);
    m->boot = (struct x86_boot){ wide ? ENTRY_LINUX64 : ENTRY_LINUX32, wide ? load + 0x200 : load, PARAMS_ADDR };
    return true;
}

/* ---- PVH */
enum { NOTE_PHYS32_ENTRY = 18, PVH_MAGIC = 0x336ec578 };
struct pvh_start_info { uint32_t magic, version, flags, modules; uint64_t modlist, cmdline, rsdp, memmap; uint32_t memmap_entries, reserved; };
struct pvh_module { uint64_t paddr, size, cmdline, reserved; };
struct pvh_memmap { uint64_t addr, size; uint32_t type, reserved; };

/* Entry point from the notes of one segment; 0: not there. Lengths are the file's, so they are checked. */
static uint64_t note_entry(const uint8_t *p, uint64_t len, uint64_t align)
{
    uint64_t at = 0;

    align = align == 8 ? 8 : 4;
    while (at + 12 <= len) {
        uint32_t namesz = get32(p + at), descsz = get32(p + at + 4), type = get32(p + at + 8);
        uint64_t name = at + 12, desc = name + ((namesz + align - 1) & ~(align - 1));

        if (namesz > len || descsz > len || desc + descsz > len)
            return 0;
        if (type == NOTE_PHYS32_ENTRY && namesz == 4 && !memcmp(p + name, "Xen", 4) && descsz >= 4)
            return descsz >= 8 ? get64(p + desc) : get32(p + desc);
        at = desc + ((descsz + align - 1) & ~(align - 1));
    }
    return 0;
}

struct segment { uint32_t type; uint64_t offset, paddr, filesz, memsz, align; };

static bool read_segment(const uint8_t *k, size_t len, unsigned i, struct segment *s)
{
    if (k[EI_CLASS] == ELFCLASS64) {
        Elf64_Ehdr h;
        Elf64_Phdr p;

        memcpy(&h, k, sizeof(h));
        if (h.e_phentsize != sizeof(p) || h.e_phoff > len || (i + 1) * sizeof(p) > len - h.e_phoff)
            return false;
        memcpy(&p, k + h.e_phoff + i * sizeof(p), sizeof(p));
        *s = (struct segment){ p.p_type, p.p_offset, p.p_paddr, p.p_filesz, p.p_memsz, p.p_align };
    } else {
        Elf32_Ehdr h;
        Elf32_Phdr p;

        memcpy(&h, k, sizeof(h));
        if (h.e_phentsize != sizeof(p) || h.e_phoff > len || (i + 1) * sizeof(p) > len - h.e_phoff)
            return false;
        memcpy(&p, k + h.e_phoff + i * sizeof(p), sizeof(p));
        *s = (struct segment){ p.p_type, p.p_offset, p.p_paddr, p.p_filesz, p.p_memsz, p.p_align };
    }
    return s->offset <= len && s->filesz <= len - s->offset && s->memsz >= s->filesz;
}

static void put_start_info(struct x86_machine *m, uint64_t initrd_at, size_t initrd_len)
{
    size_t map = sizeof(struct pvh_start_info) + sizeof(struct pvh_module), total = map + m->ne820 * sizeof(struct pvh_memmap);
    uint8_t *p = g_malloc0(total);
    struct pvh_start_info *si = (struct pvh_start_info *)p;
    struct pvh_module *mod = (struct pvh_module *)(p + sizeof(*si));
    struct pvh_memmap *e = (struct pvh_memmap *)(p + map);

    *si = (struct pvh_start_info){ .magic = PVH_MAGIC, .version = 1, .modules = initrd_len ? 1 : 0,
                                   .modlist = START_INFO_ADDR + sizeof(*si), .cmdline = CMDLINE_ADDR, .rsdp = m->rsdp,
                                   .memmap = START_INFO_ADDR + map, .memmap_entries = m->ne820 };
    *mod = (struct pvh_module){ .paddr = initrd_at, .size = initrd_len };
    for (unsigned i = 0; i < m->ne820; i++)
        e[i] = (struct pvh_memmap){ m->e820[i].addr, m->e820[i].size, m->e820[i].type, 0 };
    x86_blob(m, START_INFO_ADDR, p, total);
}

static bool load_elf(struct x86_machine *m, uint8_t *k, size_t len, uint8_t *initrd, size_t initrd_len, struct error *err)
{
    unsigned count = k[EI_CLASS] == ELFCLASS64 ? get16(k + offsetof(Elf64_Ehdr, e_phnum)) : get16(k + offsetof(Elf32_Ehdr, e_phnum));
    uint64_t entry = 0, end = 0, initrd_at = 0;
    struct segment s;

    for (unsigned i = 0; i < count; i++) {
        if (!read_segment(k, len, i, &s))
            return error_setf(err, ERR_GENERIC, "fetch it again", "kernel %s: a broken ELF program header", m->vm->config.kernel);
        if (s.type == PT_NOTE && !entry)
            entry = note_entry(k + s.offset, s.filesz, s.align);
        if (s.type != PT_LOAD || !s.memsz)
            continue;
        if (s.paddr < 0x100000 || s.paddr >= m->low_size || s.memsz > m->low_size - s.paddr)
            return error_setf(err, ERR_GENERIC, "give the machine more memory with -m", "kernel %s: a segment at %#" PRIx64
                              " does not fit in memory", m->vm->config.kernel, s.paddr);
        end = MAX(end, s.paddr + s.memsz);
    }
    if (!entry)
        return error_setf(err, ERR_GENERIC, "use a bzImage (vmlinuz), or a vmlinux built with CONFIG_PVH", "kernel %s is an ELF file without "
                          "a PVH entry", m->vm->config.kernel);
    if (!place_initrd(m, initrd_len, 0xffffffff, end, &initrd_at, err) || !put_command_line(m, CMDLINE_MAX, err))
        return false;
    for (unsigned i = 0; i < count; i++) {
        uint8_t *data;

        read_segment(k, len, i, &s);
        if (s.type != PT_LOAD || !s.memsz)
            continue;
        data = g_malloc0(s.memsz);
        memcpy(data, k + s.offset, s.filesz);
        x86_blob(m, s.paddr, data, s.memsz);
    }
    if (initrd_len)
        x86_blob(m, initrd_at, g_memdup2(initrd, initrd_len), initrd_len);
    put_start_info(m, initrd_at, initrd_len);
    x86_boot_tables(m, false);
    m->boot = (struct x86_boot){ ENTRY_PVH, entry, START_INFO_ADDR };
    return true;
}

bool x86_load_kernel(struct x86_machine *m, struct error *err)
{
    g_autofree uint8_t *k = NULL, *initrd = NULL;
    size_t len = 0, initrd_len = 0;

    if (!m->vm->config.kernel)
        return true;
    if (!read_file("kernel", m->vm->config.kernel, &k, &len, err))
        return false;
    if (x86_is_multiboot(k, len))
        return x86_load_multiboot(m, k, len, err);
    if (!read_file("initrd", m->vm->config.initrd, &initrd, &initrd_len, err))
        return false;
    if (len >= 0x290 && get32(k + HDR_MAGIC) == 0x53726448 && get16(k + HDR_BOOT_FLAG) == 0xaa55)
        return load_bzimage(m, k, len, initrd, initrd_len, err);
    if (len >= sizeof(Elf64_Ehdr) && !memcmp(k, ELFMAG, SELFMAG))
        return load_elf(m, k, len, initrd, initrd_len, err);
    return error_setf(err, ERR_GENERIC, "x86 machines take a bzImage (vmlinuz) or an ELF image with a PVH entry",
                      "%s is no kernel that this machine can start", m->vm->config.kernel);
}
