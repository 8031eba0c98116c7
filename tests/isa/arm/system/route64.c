/* Physical interrupts on bare metal: which signal an interrupt of each group is to each security state, and which level takes it
 * (DDI 0487 D1.3.6, "Asynchronous exception routing"; IHI 0048 2.3.2 and IHI 0069 4.6.2, "Interrupt groups and security").
 * Debian's qemu-system-aarch64 must print the same (test_arm_system.py). */
#include "test64.h"

#define UART (*(volatile uint32_t *)0x09000000)
void put(char c) { UART = c; }
void print(const char *s) { while (*s) put(*s++); }

#define B(n) (1ul << (n))
#define REG(at) (*(volatile uint32_t *)(uintptr_t)(at))
enum { GICD = 0x08000000, GICC = 0x08010000, GICR = 0x080a0000, INTID = 132, WORD = 4 * (INTID / 32), BIT_ = 1 << (INTID % 32) };
enum { GICD_CTLR = 0, GICD_IGROUPR = 0x80, GICD_ISENABLER = 0x100, GICD_ICENABLER = 0x180, GICD_ISPENDR = 0x200, GICD_ICPENDR = 0x280,
       GICD_IPRIORITYR = 0x400, GICD_ITARGETSR = 0x800, GICD_IGRPMODR = 0xd00, GICD_IROUTER = 0x6000 };
enum { SCR_NS = 1, SCR_IRQ = 2, SCR_FIQ = 4, SCR_BASE = 0x530 /* RW, HCE, RES1 */ };
#define HCR_RW B(31)
#define HCR_TGE B(27)
#define HCR_IMO B(4)
#define HCR_FMO B(3)

struct event { unsigned level, slot; };
static struct event events[4];
static volatile unsigned nevents;
static unsigned top;
static bool v3;
static uint64_t isr;
_Noreturn void done(void);
void run_at(uint64_t spsr, void (*fn)(uint64_t), uint64_t argument);
void el_exception(unsigned slot, unsigned level, struct frame *f) __asm__("exception");

/* ---- the interrupt: one of the distributor's, made pending by hand */

static void silence(void)
{
    REG(GICD + GICD_ICENABLER + WORD) = BIT_;
    REG(GICD + GICD_ICPENDR + WORD) = BIT_;
    (void)REG(GICD + GICD_ICPENDR + WORD);
}

static void raise_it(void)
{
    REG(GICD + GICD_ISENABLER + WORD) = BIT_;
    REG(GICD + GICD_ISPENDR + WORD) = BIT_;
    __asm__ volatile("dsb sy; isb" ::: "memory");
}

static void setup(void)
{
    if (v3) {
        REG(GICD + GICD_CTLR) = top == 3 ? 0x30 : 0x10;         /* affinity routing first */
        REG(GICD + GICD_CTLR) = top == 3 ? 0x37 : 0x13;
        REG(GICR + 0x14) = 0;
        while (REG(GICR + 0x14) & 4)
            ;
        *(volatile uint64_t *)(uintptr_t)(GICD + GICD_IROUTER + 8 * INTID) = 0;
        if (top == 3) {
            msr(S3_6_C12_C12_5, 0xf);   /* ICC_SRE_EL3 */
            msr(SCR_EL3, SCR_BASE | SCR_NS);
            msr(S3_4_C12_C9_5, 0xf);
            msr(S3_0_C12_C12_5, 7);
            msr(SCR_EL3, SCR_BASE);
        } else {
            msr(S3_4_C12_C9_5, 0xf);    /* ICC_SRE_EL2 */
        }
        msr(S3_0_C12_C12_5, 7);
        msr(S3_0_C4_C6_0, 0xff);        /* ICC_PMR_EL1 */
        msr(S3_0_C12_C12_6, 1);         /* ICC_IGRPEN0_EL1 */
        if (top == 3)
            msr(S3_6_C12_C12_7, 3);     /* ICC_IGRPEN1_EL3 */
        else
            msr(S3_0_C12_C12_7, 1);     /* ICC_IGRPEN1_EL1 */
    } else {
        REG(GICD + GICD_CTLR) = 3;
        REG(GICC + 4) = 0xff;
        *(volatile uint8_t *)(uintptr_t)(GICD + GICD_ITARGETSR + INTID) = 1;
    }
    *(volatile uint8_t *)(uintptr_t)(GICD + GICD_IPRIORITYR + INTID) = 0x80;
}

/* Group 0, Group 1 (Non-secure), and a third: Secure Group 1 of GICv3; Group 0 that FIQEn leaves an IRQ of GICv2. */
static const char *set_group(unsigned which)
{
    REG(GICD + GICD_IGROUPR + WORD) = which == 1 ? BIT_ : 0;
    if (v3)
        REG(GICD + GICD_IGRPMODR + WORD) = which == 2 ? BIT_ : 0;
    else
        REG(GICC) = which == 2 ? 3 : 0xb;
    return which == 0 ? "group 0" : which == 1 ? "group 1" : v3 ? "group 1 S" : "group 0 by IRQ";
}

/* ---- who took it */

static uint64_t syndrome(unsigned level) { return level == 1 ? mrs(ESR_EL1) : level == 2 ? mrs(ESR_EL2) : mrs(ESR_EL3); }

static void upwards(unsigned level)
{
    extern char back[];

    if (level == 3) {
        msr(ELR_EL3, back);
        msr(SPSR_EL3, 0x3cd);
    } else if (level == top) {
        msr(ELR_EL2, back);
        msr(SPSR_EL2, 0x3c9);
    } else if (top == 3) {
        __asm__ volatile("smc #99");
    } else {
        __asm__ volatile("hvc #99");
    }
}

void el_exception(unsigned slot, unsigned level, struct frame *f)
{
    uint64_t esr = syndrome(level);
    unsigned ec = esr >> 26;

    if (!(slot & 3) && (ec == 0x15 || ec == 0x16 || ec == 0x17)) {
        if ((esr & 0xffff) == 98)
            silence();
        else
            upwards(level);
        return;
    }
    if (nevents < 4)
        events[nevents] = (struct event){ level, slot };
    if (++nevents > 20 || !(slot & 3)) {
        print("stuck\n");
        done();
    }
    if (level == 3 || top == 2)
        silence();
    else
        __asm__ volatile("smc #98");
}

/* Unmasks nothing itself: SPSR does. From EL1 on it tells what is pending. */
static void waits(uint64_t tell)
{
    if (tell)
        __asm__ volatile("mrs %0, ISR_EL1" : "=r"(isr));
    for (volatile unsigned n = 0; n < 50; n++)
        ;
    __asm__ volatile("isb");
}

static void digit(unsigned n) { put("0123456789abcdef"[n & 15]); }

static void show(const char *what)
{
    print(what);
    for (unsigned n = 0; n < nevents && n < 4; n++) {
        print(" EL");
        digit(events[n].level);
        put('.');
        digit(events[n].slot);
    }
    if (isr) {
        print(" pending ");
        digit((unsigned)(isr >> 6));
    }
    nevents = 0;
    isr = 0;
}

enum { AT_EL3 = 0xd, AT_EL2 = 9, AT_EL1 = 5, AT_EL0 = 0, F_MASK = 0x40, I_MASK = 0x80, OTHERS = 0x300 };

static void one(unsigned level, uint64_t masks)
{
    static const char *const names[] = { " |", " i", " f", " if" };

    raise_it();
    if (level == AT_EL3) {              /* as ourselves */
        isr = mrs(ISR_EL1);
        __asm__ volatile("mov x9, %0; msr DAIF, x9; isb; nop; nop; msr DAIFSet, #15" :: "r"(masks | OTHERS) : "x9", "memory");
    } else {
        run_at(level | masks | OTHERS, waits, level != AT_EL0);
    }
    silence();
    show(names[masks >> 6 & 3]);
}

/* Every mask at a level; one line. */
static void at_level(const char *name, unsigned level)
{
    print(name);
    put(':');
    for (unsigned m = 0; m < 4; m++)
        one(level, (m & 1 ? I_MASK : 0) | (m & 2 ? F_MASK : 0));
    put('\n');
}

static const struct { const char *name; uint64_t bits; } hcrs[] = {
    { "0", 0 }, { "IMO", HCR_IMO }, { "FMO", HCR_FMO }, { "IMO FMO", HCR_IMO | HCR_FMO }, { "TGE", HCR_TGE },
};

static void nonsecure(bool el2)
{
    for (unsigned h = 0; h < (el2 ? 5 : 1); h++) {
        if (el2) {
            msr(HCR_EL2, HCR_RW | hcrs[h].bits);
            print("HCR ");
            print(hcrs[h].name);
            put('\n');
            at_level("EL2", AT_EL2);
        }
        if (!(hcrs[h].bits & HCR_TGE))
            at_level("EL1", AT_EL1);
        at_level("EL0", AT_EL0);
    }
    if (el2)
        msr(HCR_EL2, HCR_RW);
}

void main(void);
void main(void)
{
    bool el2;

    top = mrs(CurrentEL) >> 2;
    v3 = mrs(ID_AA64PFR0_EL1) >> 24 & 15;
    el2 = mrs(ID_AA64PFR0_EL1) >> 8 & 15;
    print(v3 ? "GICv3\n" : "GICv2\n");
    if (top == 3)
        msr(SCR_EL3, SCR_BASE);
    setup();
    msr(TPIDRRO_EL0, 1);                /* run_at() comes back by SVC */
    for (unsigned which = 0; which < (top == 3 || !v3 ? 3 : 2); which++) {
        for (unsigned scr = 0; scr < (top == 3 ? 8 : 1); scr++) {
            if (top == 3)
                msr(SCR_EL3, SCR_BASE);
            print("== ");
            print(set_group(which));
            if (top == 3) {
                print(scr & SCR_NS ? " NS" : " S");
                print(scr & SCR_IRQ ? " SCR.IRQ" : "");
                print(scr & SCR_FIQ ? " SCR.FIQ" : "");
                put('\n');
                msr(SCR_EL3, SCR_BASE | scr);
                at_level("EL3", AT_EL3);
                if (scr & SCR_NS) {
                    nonsecure(el2);
                } else {
                    at_level("EL1", AT_EL1);
                    at_level("EL0", AT_EL0);
                }
            } else {
                put('\n');
                nonsecure(true);
            }
        }
    }
    print("done\n");
}
