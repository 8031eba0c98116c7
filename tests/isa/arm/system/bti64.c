/* Branch target identification on bare metal: every kind of branch from a guarded page and another one to every kind of
 * landing pad in either. Debian's qemu-system-aarch64 must print the same. DDI 0487 D8.4.6, "Guarded pages". */
#include "test64.h"

#define UART (*(volatile uint32_t *)0x09000000)
void put(char c) { UART = (unsigned char)c; }
void print(const char *s) { while (*s) put(*s++); }
void hex(uint64_t v)
{
    for (int n = 28; n >= 0; n -= 4)
        put("0123456789abcdef"[v >> n & 15]);
}

uint64_t el0_return, el0_sp, el0_spsr;
void (*irq_hook)(void);
static uint64_t esr, spsr;
static unsigned count;

/* Goes on behind the branch: X30 is set for all kinds. */
void exception(unsigned slot, struct frame *f)
{
    uint64_t e = mrs(ESR_EL1);

    if (e >> 26 == 0x15 && (e & 0xffff) == 99) {
        msr(SPSR_EL1, 0x3c5);
        msr(ELR_EL1, el0_return);
        return;
    }
    esr = e;
    spsr = mrs(SPSR_EL1);
    count++;
    msr(ELR_EL1, f->x[31]);
    msr(SPSR_EL1, spsr & ~(3ul << 10));
}

/* One page: the branches, 64 bytes each, functions of the target; and the pads, 8 bytes each. */
#define BRANCH(insn) ".balign 64; bti c; stp x29, x30, [sp, #-16]!; mov x9, x0; mov x16, x0; mov x17, x0; adr x30, 1f; " insn \
                     "; 1: ldp x29, x30, [sp], #16; ret; "
__asm__(".arch armv8.5-a; .section .user, \"ax\"; .macro page n; .balign 4096; .globl page\\n; page\\n:"
        BRANCH("blr x9") BRANCH("br x9") BRANCH("br x16") BRANCH("br x17") BRANCH("ret x9") BRANCH("blr x17")
        ".balign 64; .globl pads\\n; pads\\n: nop; ret; bti; ret; bti c; ret; bti j; ret; bti jc; ret; paciasp; br x30; pacibsp; br x30;"
        "brk #1; ret; add x9, x9, #1; ret; cbnz xzr, .; ret; .endm; page 0; page 1; .balign 4096; .text");
extern char page0[], page1[], pads0[], pads1[];
static const char *const branches[] = { "blr x9", "br x9", "br x16", "br x17", "ret x9", "blr x17" };
static const char *const pad_names[] = { "nop", "bti", "bti c", "bti j", "bti jc", "paciasp", "pacibsp", "brk", "add", "a loop's head" };

static uint64_t l0[512] __attribute__((aligned(4096))), l1[512] __attribute__((aligned(4096))), l2[512] __attribute__((aligned(4096)));
static uint64_t l3[512] __attribute__((aligned(4096)));
enum { AF = 1 << 10, SH = 3 << 8, USERP = 1 << 6, RO = 1 << 7, DEVICE = 1 << 2 };
#define GUARDED (1ul << 50)
#define PAGE_OF(p) (((uint64_t)(p) >> 12) & 511)

static void flush(void) { __asm__ volatile("dsb ish; tlbi vmalle1; dsb ish; isb" ::: "memory"); }

static void mmu_on(void)
{
    extern char user_entry[], user_stack_top[];

    l0[0] = (uint64_t)l1 | 3;
    l1[0] = AF | DEVICE | 1;
    l1[1] = (uint64_t)l2 | 3;
    for (unsigned n = 0; n < 512; n++) {
        l2[n] = (0x40000000 + n * 0x200000ul) | AF | SH | 1;
        l3[n] = (0x40000000 + n * 4096ul) | AF | SH | 3;
    }
    l2[0] = (uint64_t)l3 | 3;
    for (uint64_t p = (uint64_t)user_entry & ~0xffful; p < (uint64_t)user_stack_top; p += 4096)
        l3[PAGE_OF(p)] |= USERP | (p + 4096 < (uint64_t)user_stack_top ? RO : 0);
    l3[PAGE_OF(page0)] |= USERP | RO | GUARDED;
    l3[PAGE_OF(page1)] |= USERP | RO;
    msr(MAIR_EL1, 0x4ff);
    msr(TTBR0_EL1, (uint64_t)l0);
    msr(TCR_EL1, 16 | (1 << 23) | (1ul << 8) | (1ul << 10) | (3ul << 12) | (16ul << 16) | (2ul << 30) | (5ul << 32));
    flush();
    msr(SCTLR_EL1, mrs(SCTLR_EL1) | 0x1005);
}

static void one(const char *branch, uint64_t from, const char *pad, uint64_t to, bool user)
{
    if (user)
        at_el0((uint64_t (*)(uint64_t))from, to);
    else
        ((uint64_t (*)(uint64_t))from)(to);
    print(from >> 12 == (uint64_t)page0 >> 12 ? "guarded " : "plain ");
    print(branch);
    print(to >> 12 == (uint64_t)page0 >> 12 ? " -> guarded " : " -> plain ");
    print(pad);
    if (count) {
        print(": ");
        hex(esr);
        print(" BTYPE ");
        put((char)('0' + (spsr >> 10 & 3)));
        if (count > 1)
            print(" twice");
    }
    put('\n');
    count = 0;
}

static void all(bool user)
{
    for (unsigned k = 0; k < 4; k++)
        for (unsigned b = 0; b < sizeof(branches) / sizeof(branches[0]); b++)
            for (unsigned n = 0; n < sizeof(pad_names) / sizeof(pad_names[0]); n++)
                one(branches[b], (uint64_t)(k & 1 ? page0 : page1) + 64 * b, pad_names[n], (uint64_t)(k & 2 ? pads1 : pads0) + 8 * n, user);
}

void second_main(void);
void second_main(void) { }
void main(void);
void main(void)
{
    uint64_t sctlr;

    mmu_on();
    sctlr = mrs(SCTLR_EL1);
    /* The first of all guarded code is reached by a branch that must not go there. */
    one("br x9", (uint64_t)page1 + 64, "add", (uint64_t)pads0 + 8 * 8, false);
    print("== EL1\n");
    all(false);
    print("== EL1, BT1\n");
    msr(SCTLR_EL1, sctlr | 1ul << 36);
    all(false);
    print("== EL0\n");
    all(true);
    print("== EL0, BT0\n");
    msr(SCTLR_EL1, sctlr | 1ul << 35);
    all(true);
    l3[PAGE_OF(page0)] &= ~GUARDED;
    flush();
    count = 0;
    ((uint64_t (*)(uint64_t))page0)((uint64_t)pads0);
    print(count ? "!still guarded\n" : "!no page is guarded any more\n");
    print("done\n");
}
