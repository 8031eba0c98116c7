/* The decoder against capstone: every instruction of some big Debian objects must have the length capstone gives it,
 * and every one capstone knows must be known (EVEX and a few extensions that no model announces excepted). */
#define x86_insn cs_x86_insn      /* capstone has an enum of that name */
#include <capstone/capstone.h>
#undef x86_insn
#include <elf.h>
#include <glib.h>
#include <string.h>
#include "../../src/guest/x86/x86.h"
#include "rhea/jit/jit.h"

static GHashTable *unknown;
static unsigned long total, mismatches, unknowns;

static const char *const objects[] = {
    "/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "/lib/x86_64-linux-gnu/libm.so.6",
    "/usr/bin/python3", "/usr/lib/x86_64-linux-gnu/libglib-2.0.so.0",
};

/* Not announced by any model of ours: AVX-512, MPX, CET, TSX, keys, SGX, VMX, SVM, 3DNow!, XOP. */
static bool expected_unknown(const cs_insn *in)
{
    static const char *const names[] = { "xbegin", "xabort", "xend", "xtest", "rdpkru", "wrpkru", "vmcall", "clzero",
                                         "gf2p8", "vgf2p8", "vmread", "vmwrite", "vaes", "vpclmul", "tpause", "umwait",
                                         "umonitor", "ptwrite", "sysret", "getsec", "rstorssp", "incssp", "rdssp",
                                         "saveprevssp", "clrssbsy", "setssbsy", "wrss", "wruss", "lock", "pf", "femms",
                                         "monitorx", "mwaitx", "loadall", "vmrun", "skinit", "k" };
    const uint8_t *b = in->bytes;
    unsigned n = 0;

    while (n < in->size && (b[n] == 0x66 || b[n] == 0x67 || (b[n] >= 0x40 && b[n] < 0x50) || b[n] == 0xf2 || b[n] == 0xf3))
        n++;
    if (n + 1 < in->size && (b[n] == 0x62 || b[n] == 0x8f || (b[n] == 0x0f && b[n + 1] == 0x0f)))
        return true;
    if (b[n] == 0xc4 && (b[n + 1] & 0x1f) == 3 && b[n + 3] >= 0x5c && b[n + 3] < 0x80)         /* FMA4 */
        return true;
    for (n = 0; n < G_N_ELEMENTS(names); n++)
        if (g_str_has_prefix(in->mnemonic, names[n]))
            return true;
    return false;
}

/* capstone follows AMD: 66 shortens a near branch's displacement, UD0 and UD1 have no modrm byte. We follow Intel. */
static bool other_length(const struct x86_insn *i)
{
    return (i->prefix66 && (i->row->flags & ROWF_F64)) || g_str_has_prefix(i->row->mnemonic, "ud");
}

static bool no_next_page(struct code_fetch *f) { return false; }

static void check(const cs_insn *in, const uint8_t *code, size_t left, uint64_t mode)
{
    _Alignas(4096) static uint8_t page[2 * 4096];
    struct code_fetch f = { .page = { page, NULL }, .page_va = 0x1000, .first_pc = 0x1000, .next_page = no_next_page };
    struct x86_insn i;
    struct insn_info info;

    memset(page, 0xf4, 16);
    memcpy(page, code, MIN(left, 16));
    g_assert_true(x86_decode(&f, 0x1000, mode, &i, &info));
    total++;
    if (i.row == &x86_row_undefined) {
        if (!expected_unknown(in)) {
            unknowns++;
            if (!g_hash_table_contains(unknown, in->mnemonic)) {
                GString *s = g_string_new(NULL);

                for (unsigned n = 0; n < in->size; n++)
                    g_string_append_printf(s, "%02x ", in->bytes[n]);
                g_hash_table_insert(unknown, g_strdup(in->mnemonic), g_string_free(s, FALSE));
            }
        }
    } else if (i.len != in->size && !other_length(&i)) {
        if (mismatches++ < 20)
            g_test_message("%s %s: capstone %u bytes, decoder %u (%s) %02x %02x %02x %02x %02x", in->mnemonic,
                           in->op_str, in->size, i.len, i.row->mnemonic, code[0], code[1], code[2], code[3], code[4]);
    }
}

static void sweep(const uint8_t *code, size_t size, uint64_t addr, cs_mode mode, uint64_t bits)
{
    csh cs;
    cs_insn *in;

    g_assert_cmpint(cs_open(CS_ARCH_X86, mode, &cs), ==, CS_ERR_OK);
    in = cs_malloc(cs);
    while (size) {
        const uint8_t *start = code;
        size_t left = size;

        if (!cs_disasm_iter(cs, &code, &size, &addr, in)) {
            code++;
            size--;
            addr++;
            continue;
        }
        check(in, start, left, bits);
    }
    cs_free(in, 1);
    cs_close(&cs);
}

static void sweep_object(const char *path)
{
    g_autofree char *data = NULL;
    gsize size;

    if (!g_file_get_contents(path, &data, &size, NULL)) {
        g_test_message("%s is not here", path);
        return;
    }
    const Elf64_Ehdr *eh = (const void *)data;
    const Elf64_Shdr *sh = (const void *)(data + eh->e_shoff);

    for (unsigned n = 0; n < eh->e_shnum; n++)
        if (sh[n].sh_type == SHT_PROGBITS && (sh[n].sh_flags & SHF_EXECINSTR))
            sweep((const uint8_t *)data + sh[n].sh_offset, MIN(sh[n].sh_size, 3 << 20), sh[n].sh_addr, CS_MODE_64,
                  MODE_CODE64 | MODE_PE | MODE_LMA);
}

static void report(void)
{
    GHashTableIter it;
    gpointer name, bytes;

    g_hash_table_iter_init(&it, unknown);
    while (g_hash_table_iter_next(&it, &name, &bytes))
        g_test_message("unknown: %s (%s)", (char *)name, (char *)bytes);
    g_test_message("%lu instructions, %lu mismatches, %lu unknown", total, mismatches, unknowns);
    g_assert_cmpuint(mismatches, ==, 0);
    g_assert_cmpuint(unknowns, ==, 0);
}

static void test_corpus(void)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(objects); n++)
        sweep_object(objects[n]);
    report();
    g_assert_cmpuint(total, >, 1000000);
}

static void test_prefixes(void)
{
    static const struct { uint8_t code[16]; uint8_t len; bool ok; uint64_t mode; } cases[] = {
        { { 0xf0, 0x01, 0xc8 }, 3, false, MODE_CODE64 },                        /* LOCK with a register */
        { { 0xf0, 0x01, 0x08 }, 3, true, MODE_CODE64 },
        { { 0xf0, 0x3b, 0x08 }, 3, false, MODE_CODE64 },                        /* LOCK CMP */
        { { 0x48, 0x66, 0x01, 0xc8 }, 4, true, MODE_CODE64 },                   /* REX not last: ignored */
        { { 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90 }, 15, true, MODE_CODE64 },
        { { 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90 }, 15, false, MODE_CODE64 },
        { { 0xc4, 0x00 }, 2, true, MODE_CODE32 | MODE_PE },                     /* LES, not VEX */
        { { 0x67, 0x8b, 0x46, 0x10 }, 4, true, MODE_CODE32 | MODE_PE },         /* 16-bit addressing */
        { { 0x8b, 0x06, 0x34, 0x12 }, 4, true, MODE_CODE16 },
        { { 0x66, 0xe8, 1, 0, 0, 0 }, 6, true, MODE_CODE64 },                   /* near branch: 66 ignored */
        { { 0x66, 0xe8, 1, 0 }, 4, true, MODE_CODE32 | MODE_PE },
        { { 0x06 }, 1, false, MODE_CODE64 },
        { { 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8 }, 10, true, MODE_CODE64 },
        { { 0x48, 0xa1, 1, 2, 3, 4, 5, 6, 7, 8 }, 10, true, MODE_CODE64 },
    };

    for (unsigned n = 0; n < G_N_ELEMENTS(cases); n++) {
        _Alignas(4096) static uint8_t page[4096];
        struct code_fetch f = { .page = { page, NULL }, .page_va = 0, .next_page = no_next_page };
        struct x86_insn i;
        struct insn_info info;

        memcpy(page, cases[n].code, 16);
        g_assert_true(x86_decode(&f, 0, cases[n].mode, &i, &info));
        g_assert_cmpint(i.row != &x86_row_undefined && i.row != &x86_row_too_long, ==, cases[n].ok);
        if (cases[n].ok)
            g_assert_cmpint(i.len, ==, cases[n].len);
    }
}

/* A region that ends with STI, as single steps and page ends make them, hands its shadow over: the instruction after it is
 * not interrupted, and the loop looks for interrupts that were held back. */
static void test_sti_last(void)
{
    static uint8_t page[CPU_PAGE_SIZE] = { 0xfb, 0xf4 };
    struct code_fetch f = { .page = { page } };
    struct jit_region_info info;
    struct ir *ir = ir_new();
    bool shadow = false;

    g_assert_true(region_build(ir, &guest_x86_64, &f, 0, MODE_CODE64, 1, NULL, &info));
    for (unsigned i = 0; i < ir->nops; i++)
        shadow |= ir->ops[i].op == IR_STST && ir->ops[i].imm == offsetof(struct x86_cpu, shadow);
    g_assert_true(shadow);
    g_assert_cmpint(ir->ops[ir->nops - 1].op, ==, IR_EXIT_LOOP);
    ir_free(ir);
}

/* cmp eax, ebx; jmp over two nops; jl: what is compared was read in another block. */
static void test_flags_behind_jump(void)
{
    static uint8_t page[CPU_PAGE_SIZE] = { 0x39, 0xd8, 0xeb, 0x02, 0x90, 0x90, 0x7c, 0x10, 0xf4 };
    struct code_fetch f = { .page = { page } };
    struct jit_region_info info;
    struct ir *ir = ir_new();
    g_autofree char *why = NULL;

    g_assert_true(region_build(ir, &guest_x86_64, &f, 0, MODE_CODE64, 8, NULL, &info));
    g_assert_cmpuint(info.insns, >=, 3);
    ir_validate(ir, &why);
    g_assert_null(why);
    ir_free(ir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    unknown = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_test_add_func("/x86/decode/corpus", test_corpus);
    g_test_add_func("/x86/decode/prefixes", test_prefixes);
    g_test_add_func("/x86/region-ends-with-sti", test_sti_last);
    g_test_add_func("/x86/flags-behind-jump", test_flags_behind_jump);
    return g_test_run();
}
