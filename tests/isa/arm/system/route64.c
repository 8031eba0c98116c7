/* Physical interrupts on bare metal: which signal an interrupt of each group is to each security state, and which level takes it
 * (DDI 0487 D1.3.6, "Asynchronous exception routing"; IHI 0048 2.3.2 and IHI 0069 4.6.2, "Interrupt groups and security").
 * Debian's qemu-system-aarch64 must print the same (test_arm_system.py). */
#include "gic64.h"

#define UART (*(volatile uint32_t *)0x09000000)
void put(char c) { UART = c; }
void print(const char *s) { while (*s) put(*s++); }

#define B(n) (1ul << (n))
#define HCR_RW B(31)
#define HCR_TGE B(27)
#define HCR_IMO B(4)
#define HCR_FMO B(3)

struct event { unsigned level, slot; };
static struct event events[4];
static volatile unsigned nevents;
static uint64_t isr;

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

    setup();
    BYTE(GICD + GICD_IPRIORITYR + INTID) = 0x80;
    el2 = mrs(ID_AA64PFR0_EL1) >> 8 & 15;
    print(v3 ? "GICv3\n" : "GICv2\n");
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
