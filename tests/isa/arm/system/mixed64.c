/* AArch64 EL2 or EL3 as the top of mixed.c. */
#include "mixed.h"

#define UART (*(volatile uint32_t *)0x09000000)
const struct rows32 *const rows32_p = (const struct rows32 *)ROWS32_AT;
unsigned top;
void enter(void);
_Noreturn void done(void);
void taken(unsigned slot);
void main(void);

void put(char c) { UART = (unsigned char)c; }
uint32_t cp_ifar(void) { return (uint32_t)(GET(FAR) >> 32); }
uint32_t cp_dfar(void) { return (uint32_t)GET(FAR); }
void set_scr(uint32_t v) { SET(SCR, v); }

#define EITHER_GET(r) ({ uint64_t e_; if (top == 2) __asm__ volatile("mrs %0, " #r "_EL2" : "=r"(e_)); else __asm__ volatile("mrs %0, " #r "_EL3" : "=r"(e_)); e_; })
#define EITHER_SET(r, v) do { if (top == 2) __asm__ volatile("msr " #r "_EL2, %0" :: "r"((uint64_t)(v))); \
                              else __asm__ volatile("msr " #r "_EL3, %0" :: "r"((uint64_t)(v))); } while (0)
void set_return(uint64_t pc) { EITHER_SET(ELR, pc); }
void set_spsr(uint32_t v) { EITHER_SET(SPSR, v); }

void go(uint32_t cpsr, uint32_t fn, uint32_t r0)
{
    set_top_reg(0, r0);
    EITHER_SET(SPSR, cpsr | (fn & 1) << 5);
    EITHER_SET(ELR, fn & ~1u);
    enter();
}

/* At the top itself: an illegal return stays here, with PSTATE.IL set. */
static void at_the_top(unsigned slot)
{
    line("exception at the top", slot);
    line("ESR", EITHER_GET(ESR));
    if (EITHER_GET(ESR) >> 26 == 0xe)
        leave();
    line("ELR", EITHER_GET(ELR));
    line("FAR", EITHER_GET(FAR));
    done();
}

void taken(unsigned slot)
{
    static const uint8_t vector[] = { VEC_SYNC, VEC_IRQ, VEC_FIQ, VEC_SERROR };
    struct taken t = { vector[slot & 3], 0, (uint32_t)EITHER_GET(SPSR), EITHER_GET(FAR), EITHER_GET(ELR) };

    if (slot < 12)
        at_the_top(slot);
    if (t.vector == VEC_SYNC || t.vector == VEC_SERROR)
        t.esr = (uint32_t)EITHER_GET(ESR);
    on_exception(&t);
}

const bool gicv3 = true;
#define ICC(name, v) __asm__ volatile("msr " name ", %0; isb" :: "r"((uint64_t)(v)))
void gic_setup(void)
{
    *(volatile uint32_t *)0x080a0014 = 0;       /* GICR_WAKER */
    while (*(volatile uint32_t *)0x080a0014 & 4)
        ;
    if (top == 3) {
        ICC("S3_6_C12_C12_5", 0xf);     /* ICC_SRE_EL3, and the Non-secure one of EL1 */
        set_scr(0x401);
        ICC("S3_0_C12_C12_5", 7);
        set_scr(0x400);
    } else {
        ICC("S3_4_C12_C9_5", 0xf);      /* ICC_SRE_EL2 */
    }
    ICC("S3_0_C12_C12_5", 7);
    ICC("S3_0_C4_C6_0", 0xff);          /* ICC_PMR_EL1 */
    ICC("S3_0_C12_C12_6", 1);           /* ICC_IGRPEN0_EL1 */
    if (top == 3)
        ICC("S3_6_C12_C12_7", 3);       /* ICC_IGRPEN1_EL3 */
    else
        ICC("S3_0_C12_C12_7", 1);       /* ICC_IGRPEN1_EL1 */
}

void machine_tests(void) { }

struct saved hyp_saved(void)            /* SP_hyp, where the vectors left the SPSR, is X15 */
{
    uint64_t elr;

    __asm__("mrs %0, ELR_EL2" : "=r"(elr));
    return (struct saved){ (uint32_t)elr, (uint32_t)regs[15] };
}

bool has_hyp(void)
{
    uint64_t v;

    __asm__("mrs %0, ID_AA64PFR0_EL1" : "=r"(v));
    return (v >> 8 & 15) == 2;
}

void set_hvbar(uint32_t v) { __asm__ volatile("msr VBAR_EL2, %0; isb" :: "r"((uint64_t)v)); }

void show_spsrs(void)
{
    line("SPSR_irq", GET(SPSR_IRQ));
    line("SPSR_abt", GET(SPSR_ABT));
    line("SPSR_fiq", GET(SPSR_FIQ));
}

void main(void)
{
    uint64_t el;

    __asm__("mrs %0, CurrentEL" : "=r"(el));
    top = (unsigned)el >> 2;
    main_tests();
}
