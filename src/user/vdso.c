/* Makes the vdso's image, by gABI chapters 4 and 5 and LSB's symbol versions ("Symbol Versioning"): names and versions are those of
 * vdso(7). And answers its functions. */
#include <elf.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include "internal.h"
#include "user/mem.h"
#include "user/syscall.h"
#include "vdso.h"

enum { VERSIONS = 2, SEGMENTS = 3, SYM_MAX = VDSO_FUNCTIONS + 1, SECTIONS = 11 };

struct function { const char *name; uint8_t version; uint16_t call; enum vdso_kind kind; };
/* call CALL_NONE: the guest's sigreturn code, which has no name where gdb knows it by its instructions only then. CALL_ANY: the
 * call whose number is in its register. */
enum { CALL_ANY = CALL_COUNT };
struct vdso {
    enum abi_column column;
    /* How functions are left again, for unwinders: DWARF's numbers of stack pointer and return address (sp 0: not said, Arm has
     * its own way); the return address is on the stack; a register is pushed first. */
    struct { uint8_t sp, ra; bool on_stack, pushes; } frame;
    const char *soname, *version[VERSIONS];
    struct function function[VDSO_FUNCTIONS];
};

static const struct vdso vdsos[] = {
    { ABI_X86_64, { 7, 16, true, false }, "linux-vdso.so.1", { "LINUX_2.6" }, {
        { "__vdso_clock_gettime", 0, CALL_clock_gettime, VDSO_CLOCK_GETTIME }, { "__vdso_gettimeofday", 0, CALL_gettimeofday, VDSO_GETTIMEOFDAY },
        { "__vdso_time", 0, CALL_time, VDSO_TIME }, { "__vdso_clock_getres", 0, CALL_clock_getres, VDSO_OTHER },
        { "__vdso_getcpu", 0, CALL_getcpu, VDSO_OTHER } } },
    { ABI_I386, { 4, 8, true, true }, "linux-gate.so.1", { "LINUX_2.6", "LINUX_2.5" }, {
        { "__vdso_clock_gettime", 0, CALL_clock_gettime, VDSO_CLOCK_GETTIME }, { "__vdso_gettimeofday", 0, CALL_gettimeofday, VDSO_GETTIMEOFDAY },
        { "__vdso_time", 0, CALL_time, VDSO_TIME }, { "__vdso_clock_getres", 0, CALL_clock_getres, VDSO_OTHER },
        { "__vdso_clock_gettime64", 0, CALL_clock_gettime64, VDSO_CLOCK_GETTIME64 }, { "__vdso_getcpu", 0, CALL_getcpu, VDSO_OTHER },
        { "", 1, CALL_NONE, VDSO_OTHER }, { "__kernel_vsyscall", 1, CALL_ANY, VDSO_OTHER } } },
    { ABI_AARCH64, { 31, 30, false, false }, "linux-vdso.so.1", { "LINUX_2.6.39" }, {
        { "__kernel_clock_gettime", 0, CALL_clock_gettime, VDSO_CLOCK_GETTIME }, { "__kernel_gettimeofday", 0, CALL_gettimeofday, VDSO_GETTIMEOFDAY },
        { "__kernel_clock_getres", 0, CALL_clock_getres, VDSO_OTHER }, { "__kernel_rt_sigreturn", 0, CALL_NONE, VDSO_OTHER } } },
    { ABI_ARM, { 0, 0, false, false }, "linux-vdso.so.1", { "LINUX_2.6" }, {
        { "__vdso_clock_gettime", 0, CALL_clock_gettime, VDSO_CLOCK_GETTIME }, { "__vdso_gettimeofday", 0, CALL_gettimeofday, VDSO_GETTIMEOFDAY },
        { "__vdso_clock_getres", 0, CALL_clock_getres, VDSO_OTHER }, { "__vdso_clock_gettime64", 0, CALL_clock_gettime64, VDSO_CLOCK_GETTIME64 }, { "", 0, CALL_NONE, VDSO_OTHER } } },
    { ABI_RISCV64, { 2, 1, false, false }, "linux-vdso.so.1", { "LINUX_4.15" }, {
        { "__vdso_clock_gettime", 0, CALL_clock_gettime, VDSO_CLOCK_GETTIME }, { "__vdso_gettimeofday", 0, CALL_gettimeofday, VDSO_GETTIMEOFDAY },
        { "__vdso_clock_getres", 0, CALL_clock_getres, VDSO_OTHER }, { "__vdso_getcpu", 0, CALL_getcpu, VDSO_OTHER },
        { "__vdso_flush_icache", 0, CALL_riscv_flush_icache, VDSO_OTHER }, { "__vdso_rt_sigreturn", 0, CALL_NONE, VDSO_OTHER } } },
    { ABI_RISCV32, { 2, 1, false, false }, "linux-vdso.so.1", { "LINUX_4.15" }, {
        { "__vdso_getcpu", 0, CALL_getcpu, VDSO_OTHER }, { "__vdso_flush_icache", 0, CALL_riscv_flush_icache, VDSO_OTHER },
        { "__vdso_rt_sigreturn", 0, CALL_NONE, VDSO_OTHER } } },
};

/* ---- the image: a page, read and execute */

struct section { uint32_t name, type, flags, link, info, align, entry; size_t at, n; };
struct image {
    uint8_t bytes[CPU_PAGE_SIZE];
    size_t at;
    bool wide;                  /* ELF64 */
    char names[192];            /* .shstrtab */
    size_t names_n;
    struct section section[SECTIONS + 1];
    unsigned sections;
};

static void put(struct image *m, uint64_t v, unsigned n)
{
    if (m->at + n <= sizeof(m->bytes))
        memcpy(m->bytes + m->at, &v, n);
    m->at += n;
}

static void put_word(struct image *m, uint64_t v) { put(m, v, m->wide ? 8 : 4); }

static uint32_t put_string(struct image *m, size_t table, const char *s)
{
    size_t at = m->at - table;

    for (; *s; s++)
        put(m, (uint8_t)*s, 1);
    put(m, 0, 1);
    return (uint32_t)at;
}

static unsigned section_begin(struct image *m, const char *name, uint32_t type, uint32_t flags, unsigned align)
{
    struct section *s = &m->section[++m->sections];

    m->at = (m->at + align - 1) & -(size_t)align;
    *s = (struct section){ .name = (uint32_t)m->names_n, .type = type, .flags = flags, .align = align, .at = m->at };
    strcpy(m->names + m->names_n, name);
    m->names_n += strlen(name) + 1;
    return m->sections;
}

static void section_end(struct image *m) { m->section[m->sections].n = m->at - m->section[m->sections].at; }

static uint32_t elf_hash(const char *name)
{
    uint32_t h = 0, g;

    for (; *name; name++) {
        h = (h << 4) + (uint8_t)*name;
        g = h & 0xf0000000;
        h = (h ^ g >> 24) & ~g;
    }
    return h;
}

static unsigned function_count(const struct vdso *v)
{
    unsigned n = 0;

    while (n < VDSO_FUNCTIONS && v->function[n].name)
        n++;
    return n;
}

static unsigned version_count(const struct vdso *v) { return v->version[1] ? 2 : 1; }

/* One bucket: a handful of symbols. */
static void put_hash(struct image *m, unsigned nsyms)
{
    unsigned s = section_begin(m, ".hash", SHT_HASH, SHF_ALLOC, 8);

    put(m, 1, 4);
    put(m, nsyms, 4);
    put(m, nsyms > 1 ? 1 : 0, 4);
    put(m, 0, 4);
    for (unsigned n = 1; n < nsyms; n++)
        put(m, n + 1 < nsyms ? n + 1 : 0, 4);
    section_end(m);
    m->section[s].entry = 4;
}

static void put_symbol(struct image *m, uint32_t name, uint64_t value, uint64_t size, unsigned info, unsigned shndx)
{
    put(m, name, 4);
    if (m->wide) {
        put(m, info, 2);
        put(m, shndx, 2);
        put(m, value, 8);
        put(m, size, 8);
    } else {
        put(m, value, 4);
        put(m, size, 4);
        put(m, info, 2);
        put(m, shndx, 2);
    }
}

static void put_versions(struct image *m, const struct vdso *v, const uint32_t *names, uint32_t soname, unsigned strings)
{
    unsigned s, count = version_count(v) + 1;

    section_begin(m, ".gnu.version", SHT_GNU_versym, SHF_ALLOC, 2);
    put(m, 0, 2);
    for (unsigned n = 0; n < function_count(v); n++)
        put(m, v->function[n].version + 2, 2);
    section_end(m);
    m->section[m->sections].entry = 2;
    s = section_begin(m, ".gnu.version_d", SHT_GNU_verdef, SHF_ALLOC, 8);
    for (unsigned n = 0; n < count; n++) {
        put(m, 1, 2);
        put(m, n == 0 ? VER_FLG_BASE : 0, 2);
        put(m, n + 1, 2);
        put(m, 1, 2);
        put(m, elf_hash(n == 0 ? v->soname : v->version[n - 1]), 4);
        put(m, 20, 4);
        put(m, n + 1 < count ? 28 : 0, 4);
        put(m, n == 0 ? soname : names[n - 1], 4);
        put(m, 0, 4);
    }
    section_end(m);
    m->section[s].link = strings;
    m->section[s].info = count;
}

static void put_dynamic(struct image *m, const struct vdso *v, uint32_t soname, unsigned hash, unsigned syms, unsigned strings)
{
    const struct section *s = m->section;
    unsigned index = section_begin(m, ".dynamic", SHT_DYNAMIC, SHF_ALLOC, 8);
    const uint64_t tags[][2] = {
        { DT_SONAME, soname }, { DT_HASH, s[hash].at }, { DT_STRTAB, s[strings].at }, { DT_SYMTAB, s[syms].at }, { DT_STRSZ, s[strings].n },
        { DT_SYMENT, m->wide ? 24 : 16 }, { DT_VERSYM, s[index - 2].at }, { DT_VERDEF, s[index - 1].at },
        { DT_VERDEFNUM, version_count(v) + 1 }, { DT_NULL, 0 },
    };

    for (unsigned n = 0; n < G_N_ELEMENTS(tags); n++) {
        put_word(m, tags[n][0]);
        put_word(m, tags[n][1]);
    }
    section_end(m);
    m->section[index].link = strings;
    m->section[index].entry = m->wide ? 16 : 8;
}

/* ---- unwind tables (DWARF 4, 6.4; LSB "Exception Frames"): .eh_frame and its index. Nothing is said of sigreturn's code, which
 * unwinders know by its instructions. */

enum { PCREL_SDATA4 = 0x1b, DATAREL_SDATA4 = 0x3b, UDATA4 = 0x03 };

static void put_bytes(struct image *m, const uint8_t *bytes, size_t n)
{
    for (size_t k = 0; k < n; k++)
        put(m, bytes[k], 1);
}

/* The length of the record at `start` is that of what was put since, filled up with no-operations. */
static void record_end(struct image *m, size_t start)
{
    uint32_t n;

    while ((m->at - start) % (m->wide ? 8 : 4))
        put(m, 0, 1);
    n = (uint32_t)(m->at - start - 4);
    memcpy(m->bytes + start, &n, 4);
}

static void put_frame(struct image *m, const struct vdso *v, const struct function *f, size_t cie, size_t code)
{
    static const uint8_t pushes[] = { 0x41 /* advance 1 */, 0x0e, 8 /* CFA offset 8 */, 0x83, 2 /* ebx at CFA - 8 */,
                                      0x54 /* advance 20 */, 0x0e, 4, 0xc3 /* ebx restored */ };
    size_t start = m->at;

    put(m, 0, 4);
    put(m, m->at - cie, 4);
    put(m, code - m->at, 4);
    put(m, VDSO_SLOT - 4, 4);           /* the byte before sigreturn's code must be nobody's: unwinders look one back */
    put(m, 0, 1);
    if (v->frame.pushes && f->call != CALL_ANY)
        put_bytes(m, pushes, sizeof(pushes));
    record_end(m, start);
}

static void put_frames(struct image *m, const struct vdso *v, size_t text)
{
    unsigned word = m->wide ? 8 : 4, count = 0;
    uint8_t head[] = { 0, 0, 0, 0, 1, 'z', 'R', 0, 1, m->wide ? 0x78 : 0x7c /* -8, -4 */, v->frame.ra, 1, PCREL_SDATA4,
                       0x0c, v->frame.sp, v->frame.on_stack ? word : 0 /* CFA: sp + offset */ };
    size_t frames, index, fde[VDSO_FUNCTIONS], code[VDSO_FUNCTIONS];

    section_begin(m, ".eh_frame", SHT_PROGBITS, SHF_ALLOC, 8);
    frames = m->at;
    put(m, 0, 4);
    put_bytes(m, head, sizeof(head));
    if (v->frame.on_stack)
        put(m, 0x80 | v->frame.ra | 1 << 8, 2);         /* the return address is at CFA - word */
    record_end(m, frames);
    for (unsigned n = 0; n < function_count(v); n++)
        if (v->function[n].call != CALL_NONE) {
            fde[count] = m->at;
            code[count++] = text + n * VDSO_SLOT;
            put_frame(m, v, &v->function[n], frames, text + n * VDSO_SLOT);
        }
    put(m, 0, 4);
    section_end(m);
    section_begin(m, ".eh_frame_hdr", SHT_PROGBITS, SHF_ALLOC, 4);
    index = m->at;
    put(m, 1 | PCREL_SDATA4 << 8 | UDATA4 << 16 | DATAREL_SDATA4 << 24, 4);
    put(m, frames - m->at, 4);
    put(m, count, 4);
    for (unsigned n = 0; n < count; n++) {
        put(m, code[n] - index, 4);
        put(m, fde[n] - index, 4);
    }
    section_end(m);
}

static void put_headers(struct image *m, const struct guest_user *u, size_t shoff, size_t size, const struct section *dynamic,
                        const struct section *frames)
{
    const unsigned ehsize = m->wide ? 64 : 52, phentsize = m->wide ? 56 : 32;
    const struct { uint32_t type, flags; size_t at, n, align; } segments[SEGMENTS] = {
        { PT_LOAD, PF_R | PF_X, 0, size, CPU_PAGE_SIZE }, { PT_DYNAMIC, PF_R, dynamic->at, dynamic->n, 8 },
        { frames ? PT_GNU_EH_FRAME : PT_NULL, PF_R, frames ? frames->at : 0, frames ? frames->n : 0, 4 },
    };

    m->at = 0;
    put(m, 0x464c457f, 4);
    put(m, m->wide ? ELFCLASS64 : ELFCLASS32, 1);
    put(m, ELFDATA2LSB | 1 << 8, 3);    /* EV_CURRENT, ELFOSABI_NONE */
    put(m, 0, 8);
    put(m, ET_DYN, 2);
    put(m, u->elf_machine, 2);
    put(m, 1, 4);
    put_word(m, 0);
    put_word(m, ehsize);
    put_word(m, shoff);
    put(m, u->elf_machine == EM_ARM ? 0x05000000 : 0, 4);
    put(m, ehsize, 2);
    put(m, phentsize, 2);
    put(m, SEGMENTS, 2);
    put(m, m->wide ? 64 : 40, 2);
    put(m, m->sections + 1, 2);
    put(m, m->sections, 2);             /* .shstrtab is the last */
    for (unsigned n = 0; n < SEGMENTS; n++) {
        put(m, segments[n].type, 4);
        if (m->wide)
            put(m, segments[n].flags, 4);
        for (unsigned k = 0; k < 3; k++)        /* offset and both addresses */
            put_word(m, segments[n].at);
        put_word(m, segments[n].n);
        put_word(m, segments[n].n);
        if (!m->wide)
            put(m, segments[n].flags, 4);
        put_word(m, segments[n].align);
    }
}

static size_t put_sections(struct image *m)
{
    size_t at;
    unsigned names = section_begin(m, ".shstrtab", SHT_STRTAB, 0, 1);

    for (size_t n = 0; n < m->names_n; n++)
        put(m, (uint8_t)m->names[n], 1);
    section_end(m);
    m->section[names].align = 1;
    m->at = at = (m->at + 7) & -(size_t)8;
    for (unsigned n = 0; n <= m->sections; n++) {
        const struct section *s = &m->section[n];

        put(m, s->name, 4);
        put(m, s->type, 4);
        put_word(m, s->flags);
        put_word(m, s->flags & SHF_ALLOC ? s->at : 0);
        put_word(m, s->at);
        put_word(m, s->n);
        put(m, s->link, 4);
        put(m, s->info, 4);
        put_word(m, s->align);
        put_word(m, s->entry);
    }
    return at;
}

/* Returns the offset of the text. */
static size_t image_make(struct image *m, const struct vdso *v, const struct process *p, size_t *sigreturn, size_t *vsyscall)
{
    const struct guest_user *u = p->guest;
    unsigned n, nsyms = function_count(v) + 1, strings, hash, syms, text;
    uint32_t names[SYM_MAX], versions[VERSIONS] = { 0 }, soname;
    size_t text_at, shoff, size;

    m->wide = u->bits == 64;
    m->names_n = 1;                     /* the first is empty */
    m->at = (m->wide ? 64 : 52) + SEGMENTS * (m->wide ? 56 : 32);
    strings = section_begin(m, ".dynstr", SHT_STRTAB, SHF_ALLOC, 1);
    put(m, 0, 1);
    soname = put_string(m, m->section[strings].at, v->soname);
    for (n = 0; n < version_count(v); n++)
        versions[n] = put_string(m, m->section[strings].at, v->version[n]);
    for (n = 1; n < nsyms; n++)
        names[n] = put_string(m, m->section[strings].at, v->function[n - 1].name);
    section_end(m);
    text = section_begin(m, ".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 64);
    text_at = m->at;
    for (n = 0; n < nsyms - 1; n++) {
        const struct function *f = &v->function[n];
        uint8_t *code = m->bytes + text_at + n * VDSO_SLOT;

        if (f->call == CALL_NONE) {
            memcpy(code, u->trampoline, MIN(u->trampoline_size, VDSO_SLOT));
            *sigreturn = text_at + n * VDSO_SLOT;
        } else if (f->call == CALL_ANY) {
            u->vdso_stub(code, VDSO_ANY);
            *vsyscall = text_at + n * VDSO_SLOT;
        } else {
            u->vdso_stub(code, syscall_number(p->abi, f->call));
        }
    }
    m->at = text_at + (nsyms - 1) * VDSO_SLOT;
    section_end(m);
    syms = section_begin(m, ".dynsym", SHT_DYNSYM, SHF_ALLOC, 8);
    put_symbol(m, 0, 0, 0, 0, 0);
    for (n = 1; n < nsyms; n++)
        put_symbol(m, names[n], text_at + (n - 1) * VDSO_SLOT, VDSO_SLOT, STB_GLOBAL << 4 | STT_FUNC, text);
    section_end(m);
    m->section[syms].link = strings;
    m->section[syms].info = 1;
    m->section[syms].entry = m->wide ? 24 : 16;
    put_hash(m, nsyms);
    hash = m->sections;
    m->section[hash].link = syms;
    put_versions(m, v, versions, soname, strings);
    m->section[m->sections - 1].link = syms;
    put_dynamic(m, v, soname, hash, syms, strings);
    n = m->sections;
    if (v->frame.sp)
        put_frames(m, v, text_at);
    shoff = put_sections(m);
    size = m->at;
    put_headers(m, u, shoff, size, &m->section[n], v->frame.sp ? &m->section[n + 2] : NULL);
    return size <= sizeof(m->bytes) ? text_at : 0;
}

bool vdso_place(struct process *p, struct error *err)
{
    struct vdso_text *text = &p->engine->vdso;
    g_autofree struct image *m = g_new0(struct image, 1);
    const struct vdso *v = vdsos;
    size_t at, back = 0, vsyscall = 0;
    int64_t va;

    while (v < vdsos + G_N_ELEMENTS(vdsos) - 1 && v->column != p->abi->column)
        v++;
    at = image_make(m, v, p, &back, &vsyscall);
    va = mem_map(p, 0, CPU_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (va < 0 || !at)
        return error_set_errno(err, va < 0 ? -va : E2BIG, NULL, "no room for the vdso");
    memcpy((void *)(p->base + va), m->bytes, CPU_PAGE_SIZE);
    mem_protect(p, va, CPU_PAGE_SIZE, PROT_READ | PROT_EXEC);
    mem_name(p, va, "[vdso]");
    p->vdso = va;
    p->trampoline = back ? va + back : 0;
    p->vsyscall = vsyscall ? va + vsyscall : 0;
    text->va = va + at;
    for (unsigned n = 0; n < VDSO_FUNCTIONS; n++)
        text->kind[n] = v->function[n].kind;
    return true;
}

/* ---- calls */

/* A time as the guest has it: two words, or two of 64 bits. */
static void store_pair(struct cpu *cpu, uint64_t va, bool wide, int64_t a, int64_t b)
{
    int64_t large[2] = { a, b };
    int32_t small[2] = { (int32_t)a, (int32_t)b };

    if (wide)
        cpu_store_bytes(cpu, va, large, sizeof(large), 0);
    else
        cpu_store_bytes(cpu, va, small, sizeof(small), 0);
}

bool vdso_run(struct cpu *cpu)
{
    const struct engine *e = cpu->jit->engine;
    const struct guest_user *u = e->user;
    uint64_t at = cpu->pc - e->vdso.va, a[2];
    enum vdso_kind kind = at % VDSO_SLOT ? VDSO_OTHER : e->vdso.kind[at / VDSO_SLOT];
    bool wide = u->bits == 64 || kind == VDSO_CLOCK_GETTIME64;
    struct timespec t;
    int64_t r = 0;

    if (kind == VDSO_OTHER)
        return false;
    u->call_args(cpu, a);
    if (kind == VDSO_CLOCK_GETTIME || kind == VDSO_CLOCK_GETTIME64) {
        if (a[0] > CLOCK_BOOTTIME || !a[1] || clock_gettime((clockid_t)a[0], &t))
            return false;               /* its system call says what is wrong, or what a process's clock shows */
        store_pair(cpu, a[1], wide, t.tv_sec, t.tv_nsec);
    } else if (kind == VDSO_GETTIMEOFDAY) {
        if (!a[0] || a[1])
            return false;
        clock_gettime(CLOCK_REALTIME, &t);
        store_pair(cpu, a[0], wide, t.tv_sec, t.tv_nsec / 1000);
    } else {
        clock_gettime(CLOCK_REALTIME_COARSE, &t);
        r = t.tv_sec;
        if (a[0])
            cpu_store_bytes(cpu, a[0], &r, u->bits / 8, 0);
    }
    u->call_return(cpu, r);
    return true;
}
