/* What HACKING.md adds to the build works: see test_hacking.py. */
#include <stdio.h>
#include <string.h>
#include "guest/riscv/riscv.h"
#include "rhea/interp/interp.h"
#include "rhea/jit/jit.h"

enum { PC = 0x1000 };

static bool no_next_page(struct code_fetch *f) { return false; }

int main(void)
{
    static uint32_t page[CPU_PAGE_SIZE / 4] = { 3u << 20 | 2 << 15 | 1 << 7 | 0x0b, 0x00008067 };     /* avgu x1, x2, x3; ret */
    struct code_fetch f = { .page = { (uint8_t *)page, NULL }, .page_va = PC, .first_pc = PC, .next_page = no_next_page };
    struct riscv_cpu *c = g_malloc0(guest_riscv64.cpu_size);
    struct ir *ir = ir_new();
    struct jit_region_info info;
    unsigned models, found = 0;
    const struct cpu_model *m = guest_riscv64.models(&models);
    g_autofree char *text = guest_riscv64.disassemble((uint8_t *)page, 4, PC, 0);
    char *why = NULL;

    c->cpu.guest = &guest_riscv64;
    c->cpu.pc = c->cpu.pc_page = PC;
    c->x[2] = UINT64_MAX;
    c->x[3] = UINT64_MAX - 2;
    g_assert_true(region_build(ir, &guest_riscv64, &f, PC, MODE_FS_OFF, 2, NULL, &info));
    g_assert_true(ir_validate(ir, &why));
    interp_run(&c->cpu, ir);
    for (unsigned n = 0; n < models; n++)
        found += !strcmp(m[n].name, "example");
    printf("%s; %#llx; %u model\n", text, (unsigned long long)c->x[1], found);
    return c->x[1] != UINT64_MAX - 1 || found != 1;
}
