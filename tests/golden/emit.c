/* Prints the host code that guest code becomes, with addresses made relative, for a host of the floor (RHEA_HOST_FLOOR).
 *
 *   emit GUEST MODE FILE        FILE: raw guest code, as if at 0x1000; MODE: its mode bits */
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "rhea/guest/guest.h"
#include "rhea/jit/codegen.h"
#include "rhea/jit/jit.h"

enum { PC = 0x1000, CODE_SIZE = 1 << 20 };

static bool no_next_page(struct code_fetch *f) { return false; }
static bool all(const struct region_profile *p, uint64_t pc) { return true; }
static const struct region_profile everything = { all };    /* has run */

/* Numbers that are addresses differ from run to run: those inside the region become L+offset, others A. */
static void print_line(const char *line, uint64_t base, size_t size)
{
    const char *at = strchr(line, ':') + 1;

    while (*at == ' ')
        at++;
    g_print("    ");
    while (*at) {
        const char *p = strstr(at, "0x");
        uint64_t v;
        char *end;

        if (!p) {
            g_print("%s", at);
            break;
        }
        g_print("%.*s", (int)(p - at), at);
        v = g_ascii_strtoull(p, &end, 16);
        if (v >= base && v < base + size)
            g_print("L+%#x", (unsigned)(v - base));
        else if (v >> 20 && v >> 32 != UINT32_MAX && v >> 32)
            g_print("A");
        else
            g_print("%.*s", (int)(end - p), p);
        at = end;
    }
    g_print("\n");
}

int main(int argc, char **argv)
{
    const struct guest *guest = argc == 4 ? guest_find(argv[1]) : NULL;
    static uint8_t page[CPU_PAGE_SIZE];
    struct code_fetch f = { .page = { page, NULL }, .page_va = PC, .first_pc = PC, .next_page = no_next_page };
    struct ir *ir = ir_new();
    struct ir_analysis *an = ir_analysis_new();
    struct codegen_stubs stubs;
    struct code_out out = { 0 };
    struct jit_region_info info;
    g_autofree char *code = NULL, *text = NULL;
    g_auto(GStrv) lines = NULL;
    gsize length;
    uint8_t *host;

    setenv("RHEA_HOST_FLOOR", "1", 1);
    if (!guest || !g_file_get_contents(argv[3], &code, &length, NULL) || length > sizeof(page))
        g_error("usage: emit GUEST MODE FILE");
    memcpy(page, code, length);
    if (!region_build(ir, guest, &f, PC, g_ascii_strtoull(argv[2], NULL, 0), 64, &everything, &info))
        g_error("no region");
    ir_optimize(ir, an);
    host = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(host != MAP_FAILED);
    out.rw = host;
    out.limit = host + CODE_SIZE;
    codegen_make_stubs(guest, &out, &stubs);
    host += (out.size + 63) & ~(size_t)63;
    out = (struct code_out){ .rw = host, .limit = out.limit, .first_exit = JIT_EXIT_FIRST };
    g_assert_true(codegen_compile(codegen_new(MEMORY_TLB, guest), &stubs, ir, an, &out));
    text = codegen_disassemble(host, out.size, (uintptr_t)host);
    lines = g_strsplit(text, "\n", -1);
    for (char **l = lines; *l && **l; l++)
        print_line(*l, (uintptr_t)host, out.size);
    return 0;
}
