/* Multiboot 1 kernels (Multiboot Specification 0.6.96). -initrd "FILE ARGS,FILE ARGS" names the modules. */
#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include "common.h"

enum { MB_MAGIC = 0x1badb002, MB_SEARCH = 8192, MB_PAGE_ALIGN = 1, MB_VIDEO = 4, MB_ADDRESSES = 0x10000, MB_UNKNOWN = 0xfff8 };
enum { INFO_MEM = 1, INFO_CMDLINE = 4, INFO_MODULES = 8, INFO_MMAP = 0x40, INFO_LOADER = 0x200 };
enum { INFO_ADDR = 0x11000, TEXT_ADDR = 0x20000, TEXT_MAX = 0x10000, MODULES_MAX = 12 };

struct header { uint32_t magic, flags, checksum, header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr; };
struct info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4], mmap_length, mmap_addr, drives_length,
             drives_addr, config_table, boot_loader_name, apm_table;
};
struct module { uint32_t start, end, string, reserved; };
struct mmap_entry { uint32_t size; uint64_t addr, len; uint32_t type; } __attribute__((packed));
struct load { struct x86_machine *m; GByteArray *text; struct module mod[MODULES_MAX]; unsigned nmods; uint64_t end; };

/* The header lies in the first 8 KiB, aligned to 4. Its offset, or -1. */
static long find_header(const uint8_t *k, size_t len, struct header *h)
{
    for (size_t at = 0; at + 12 <= MIN(len, (size_t)MB_SEARCH); at += 4) {
        memset(h, 0, sizeof(*h));
        memcpy(h, k + at, MIN(sizeof(*h), len - at));
        if (h->magic == MB_MAGIC && h->magic + h->flags + h->checksum == 0)
            return (long)at;
    }
    return -1;
}

bool x86_is_multiboot(const uint8_t *k, size_t len)
{
    struct header h;

    return find_header(k, len, &h) >= 0;
}

static bool place(struct load *l, uint64_t addr, const uint8_t *data, uint64_t filled, uint64_t size, struct error *err)
{
    uint8_t *copy;

    if (addr < 0x100000 || addr > l->m->low_size || size > l->m->low_size - addr || size < filled)
        return error_setf(err, ERR_GENERIC, "give the machine more memory with -m", "kernel %s: a part at %#" PRIx64 " does not fit in memory",
                          l->m->vm->config.kernel, addr);
    copy = g_malloc0(size);
    memcpy(copy, data, filled);
    x86_blob(l->m, addr, copy, size);
    l->end = MAX(l->end, addr + size);
    return true;
}

/* The header gives the addresses itself (3.1.3). */
static bool load_flat(struct load *l, const struct header *h, size_t at, const uint8_t *k, size_t len, struct error *err)
{
    uint64_t skip = h->header_addr - h->load_addr, filled, size;

    if (h->header_addr < h->load_addr || skip > at)
        return error_setf(err, ERR_GENERIC, "fetch it again", "kernel %s: bad addresses in its multiboot header", l->m->vm->config.kernel);
    k += at - skip;
    len -= at - skip;
    filled = h->load_end_addr ? (uint64_t)h->load_end_addr - h->load_addr : len;
    size = h->bss_end_addr ? (uint64_t)h->bss_end_addr - h->load_addr : filled;
    if (filled > len || size > UINT32_MAX)
        return error_setf(err, ERR_GENERIC, "fetch it again", "kernel %s: its multiboot header asks for more than the file has",
                          l->m->vm->config.kernel);
    l->m->boot.entry = h->entry_addr;
    return place(l, h->load_addr, k, filled, MAX(size, filled), err);
}

static bool load_elf32(struct load *l, const uint8_t *k, size_t len, struct error *err)
{
    Elf32_Ehdr e;

    if (len < sizeof(e) || memcmp(k, ELFMAG, SELFMAG) || k[EI_CLASS] != ELFCLASS32)
        return error_setf(err, ERR_GENERIC, "unpack it if it is compressed", "kernel %s is neither a 32-bit ELF file nor says where it loads",
                          l->m->vm->config.kernel);
    memcpy(&e, k, sizeof(e));
    for (unsigned i = 0; i < e.e_phnum; i++) {
        uint64_t at = e.e_phoff + (uint64_t)i * e.e_phentsize;
        Elf32_Phdr p;

        if (e.e_phentsize < sizeof(p) || at > len || len - at < sizeof(p))
            return error_setf(err, ERR_GENERIC, "fetch it again", "kernel %s: a broken ELF program header", l->m->vm->config.kernel);
        memcpy(&p, k + at, sizeof(p));
        if (p.p_type != PT_LOAD || !p.p_memsz)
            continue;
        if (p.p_offset > len || p.p_filesz > len - p.p_offset)
            return error_setf(err, ERR_GENERIC, "fetch it again", "kernel %s is cut short", l->m->vm->config.kernel);
        if (!place(l, p.p_paddr, k + p.p_offset, p.p_filesz, p.p_memsz, err))
            return false;
    }
    l->m->boot.entry = e.e_entry;
    return true;
}

/* Strings lie one after the other at TEXT_ADDR. */
static bool put_text(struct load *l, const char *text, uint32_t *addr, struct error *err)
{
    size_t n = strlen(text) + 1;

    if (l->text->len + n > TEXT_MAX)
        return error_set(err, ERR_GENERIC, "the kernel's and its modules' command lines are too long", "shorten -append or -initrd");
    *addr = TEXT_ADDR + l->text->len;
    g_byte_array_append(l->text, (const uint8_t *)text, (guint)n);
    return true;
}

static bool load_module(struct load *l, const char *spec, struct error *err)
{
    g_auto(GStrv) part = g_strsplit(spec, " ", 2);
    struct module *mod = &l->mod[l->nmods];
    g_autoptr(GError) e = NULL;
    g_autofree char *data = NULL;
    uint64_t at = (l->end + 0xfff) & ~UINT64_C(0xfff);
    gsize len;

    if (l->nmods == MODULES_MAX)
        return error_setf(err, ERR_GENERIC, NULL, "-initrd: at most %d modules", MODULES_MAX);
    if (!g_file_get_contents(part[0], &data, &len, &e))
        return error_setf(err, ERR_GENERIC, "check the path and its permissions", "cannot read module: %s", e->message);
    if (!place(l, at, (uint8_t *)data, len, MAX(len, (gsize)1), err))
        return false;
    mod->start = (uint32_t)at;
    mod->end = (uint32_t)(at + len);
    l->nmods++;
    return put_text(l, spec, &mod->string, err);
}

static bool put_info(struct load *l, struct error *err)
{
    struct x86_machine *m = l->m;
    size_t mods = sizeof(struct info), map = mods + l->nmods * sizeof(struct module), size = map + m->ne820 * sizeof(struct mmap_entry);
    uint8_t *p = g_malloc0(size);
    struct info *i = (struct info *)p;
    struct mmap_entry *e = (struct mmap_entry *)(p + map);
    g_autofree char *line = g_strdup_printf("%s%s%s", m->vm->config.kernel, m->vm->config.append ? " " : "",
                                            m->vm->config.append ? m->vm->config.append : "");

    i->flags = INFO_MEM | INFO_CMDLINE | INFO_MODULES | INFO_MMAP | INFO_LOADER;
    i->mem_lower = 639;
    i->mem_upper = (uint32_t)((m->low_size >> 10) - 1024);
    i->mods_count = l->nmods;
    i->mods_addr = INFO_ADDR + (uint32_t)mods;
    i->mmap_addr = INFO_ADDR + (uint32_t)map;
    i->mmap_length = m->ne820 * sizeof(*e);
    memcpy(p + mods, l->mod, l->nmods * sizeof(struct module));
    for (unsigned n = 0; n < m->ne820; n++)
        e[n] = (struct mmap_entry){ sizeof(*e) - 4, m->e820[n].addr, m->e820[n].size, m->e820[n].type };
    if (!put_text(l, line, &i->cmdline, err) || !put_text(l, "Rhea", &i->boot_loader_name, err)) {
        g_free(p);
        return false;
    }
    x86_blob(m, INFO_ADDR, p, size);
    return true;
}

bool x86_load_multiboot(struct x86_machine *m, const uint8_t *k, size_t len, struct error *err)
{
    g_auto(GStrv) modules = m->vm->config.initrd ? g_strsplit(m->vm->config.initrd, ",", -1) : NULL;
    struct load l = { .m = m, .text = g_byte_array_new() };
    struct header h;
    long at = find_header(k, len, &h);
    guint text_len;
    bool ok;

    if (h.flags & MB_UNKNOWN) {
        g_byte_array_free(l.text, TRUE);
        return error_setf(err, ERR_GENERIC, NULL, "kernel %s wants multiboot features that are not known: %#x", m->vm->config.kernel, h.flags);
    }
    ok = h.flags & MB_ADDRESSES ? load_flat(&l, &h, (size_t)at, k, len, err) : load_elf32(&l, k, len, err);
    for (unsigned i = 0; ok && modules && modules[i]; i++)
        ok = load_module(&l, modules[i], err);
    ok = ok && put_info(&l, err);
    text_len = l.text->len;
    if (!ok) {
        g_byte_array_free(l.text, TRUE);
        return false;
    }
    x86_blob(m, TEXT_ADDR, g_byte_array_free(l.text, FALSE), text_len);
    x86_boot_tables(m, false);
    m->boot.how = ENTRY_MULTIBOOT;
    m->boot.argument = INFO_ADDR;
    return true;
}
