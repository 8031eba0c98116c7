/* Hyp or Monitor mode of a 32-bit processor as the top of mixed.c, and what they alone have. */
#include "mixed.h"

#define UART (*(volatile uint32_t *)0x09000000)
extern const struct rows32 rows32;
const struct rows32 *const rows32_p = &rows32;
extern uint32_t link;
uint32_t link;                          /* LR_mon */
unsigned top;
void enter(void);
void taken(unsigned vector);
_Noreturn void done(void);
void main(uint32_t mode);

void put(char c) { UART = (unsigned char)c; }
uint32_t cp_ifar(void) { return GET(IFAR); }
uint32_t cp_dfar(void) { return GET(DFAR); }
void set_scr(uint32_t v) { SET(SCR, v); }
#define BANKED(reg) ({ uint32_t v_; __asm__ volatile(".arch_extension virt; mrs %0, " reg : "=r"(v_)); v_; })
#define BANKED_SET(reg, v) __asm__ volatile(".arch_extension virt; msr " reg ", %0" :: "r"((uint32_t)(v)))

void set_return(uint64_t pc)
{
    if (top == 2)
        BANKED_SET("elr_hyp", pc);
    else
        link = (uint32_t)pc;
}

void set_spsr(uint32_t v) { BANKED_SET("spsr_cxsf", v); }

void go(uint32_t cpsr, uint32_t fn, uint32_t r0)
{
    set_top_reg(0, r0);
    set_spsr(cpsr | (fn & 1) << 5);
    set_return(fn & ~1u);
    enter();
}

struct saved hyp_saved(void)
{
    return (struct saved){ BANKED("elr_hyp"), BANKED("spsr_hyp") };
}

bool has_hyp(void) { return CPR("p15, 0, %0, c0, c1, 1") >> 12 & 15; }
void set_hvbar(uint32_t v) { SET(HVBAR, v); }

void show_spsrs(void)
{
    line("SPSR_irq", BANKED("spsr_irq"));
    line("SPSR_abt", BANKED("spsr_abt"));
    line("SPSR_fiq", BANKED("spsr_fiq"));
}

/* Of Hyp or Monitor mode itself */
static unsigned own_vector;
static void at_the_top(unsigned vector)
{
    line("exception at the top", vector);
    if (top == 2) {
        line("HSR", GET(HSR));
        if (own_vector++ > 20)
            done();
    }
    leave();
}

void taken(unsigned vector)
{
    uint32_t spsr = BANKED("spsr");
    struct taken t = { VEC_SYNC, 0, spsr, 0, top == 2 ? BANKED("elr_hyp") : link };

    if (top == 3) {
        t.vector = vector == 2 ? VEC_SMC : vector == 6 ? VEC_IRQ : vector == 7 ? VEC_FIQ : VEC_SERROR;
        if (vector == 1 || vector == 3 || vector == 0)
            at_the_top(vector);
    } else {
        if ((spsr & 31) == M_HYP_)
            at_the_top(vector);
        if (vector == 5) {
            t.esr = GET(HSR);
            t.far = t.esr >> 26 == 0x20 ? GET(HIFAR) : GET(HDFAR);
        } else {
            t.vector = vector == 6 ? VEC_IRQ : vector == 7 ? VEC_FIQ : VEC_SERROR;
        }
    }
    on_exception(&t);
}

const bool gicv3 = false;
void gic_setup(void) { *(volatile uint32_t *)0x08010004 = 0xff; }

void machine_tests(void) { }

void main(uint32_t mode)
{
    top = mode == M_HYP_ ? 2 : 3;
    main_tests();
}
