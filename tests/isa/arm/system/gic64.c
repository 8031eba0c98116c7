/* The GIC as each Security state and level sees it: the distributor's registers of one interrupt, and the CPU interface from
 * acknowledging to the end (IHI 0048 4.3, 4.4 and IHI 0069 4.6, 12.2). What is an implementation's choice is not printed: how many bits of priorities and
 * INTIDs there are. Of GICv2 QEMU 7.2 lacks the aliases for group 1. Debian's qemu-system-aarch64 must print the same
 * (test_arm_system.py). */
#include "gic64.h"

#define UART (*(volatile uint32_t *)0x09000000)
void put(char c) { UART = c; }
void print(const char *s) { while (*s) put(*s++); }
static void number(uint64_t v)
{
    int n = 60;

    while (n && !(v >> n))
        n -= 4;
    for (; n >= 0; n -= 4)
        put("0123456789abcdef"[v >> n & 15]);
}

enum { ABSENT = 0xdead };

/* ---- accesses that raise are noted */

static unsigned raised;

void el_exception(unsigned slot, unsigned level, struct frame *f)
{
    uint64_t esr = syndrome(level);
    unsigned ec = esr >> 26;

    if (!(slot & 3) && (ec == 0x15 || ec == 0x16 || ec == 0x17)) {
        upwards(level);
        return;
    }
    if (slot & 3) {
        print("interrupted\n");
        done();
    }
    raised = level << 8 | ec;
    if (level == 1)
        msr(ELR_EL1, mrs(ELR_EL1) + 4);
    else if (level == 2)
        msr(ELR_EL2, mrs(ELR_EL2) + 4);
    else
        msr(ELR_EL3, mrs(ELR_EL3) + 4);
}

static void show(const char *name, uint64_t v)
{
    put(' ');
    print(name);
    put('=');
    if (raised) {
        print("EL");
        number(raised >> 8);
        put('!');
        number(raised & 0xff);
    } else {
        number(v);
    }
    raised = 0;
}

#define SHOW(name, reg) do { uint64_t v_ = ABSENT; __asm__ volatile("mrs %0, " reg : "+r"(v_)); show(name, v_); } while (0)
#define TAKE(name, reg, var) do { var = ABSENT; __asm__ volatile("mrs %0, " reg : "+r"(var)); show(name, var); } while (0)
#define GIVE(name, reg, v) do { __asm__ volatile("msr " reg ", %0; isb" :: "r"((uint64_t)(v)) : "memory"); if (raised) show(name, 0); } while (0)

static bool taken_up(uint64_t id) { return id < 1020; }

static void interface3(void)
{
    uint64_t id0, id1;

    SHOW("SRE", "S3_0_C12_C12_5");
    SHOW("PMR", "S3_0_C4_C6_0");
    SHOW("EN0", "S3_0_C12_C12_6");
    SHOW("EN1", "S3_0_C12_C12_7");
    SHOW("BPR0", "S3_0_C12_C8_3");
    SHOW("BPR1", "S3_0_C12_C12_3");
    SHOW("RPR", "S3_0_C12_C11_3");
    SHOW("HPPIR0", "S3_0_C12_C8_2");
    SHOW("HPPIR1", "S3_0_C12_C12_2");
    TAKE("IAR0", "S3_0_C12_C8_0", id0);
    TAKE("IAR1", "S3_0_C12_C12_0", id1);
    SHOW("RPR", "S3_0_C12_C11_3");
    SHOW("AP0R0", "S3_0_C12_C8_4");
    SHOW("AP1R0", "S3_0_C12_C9_0");
    if (taken_up(id0))
        GIVE("EOIR0", "S3_0_C12_C8_1", id0);
    if (taken_up(id1))
        GIVE("EOIR1", "S3_0_C12_C12_1", id1);
    SHOW("RPR", "S3_0_C12_C11_3");
    GIVE("PMR", "S3_0_C4_C6_0", 0x50);
    SHOW("PMR", "S3_0_C4_C6_0");
}

static void interface2(void)
{
    static const struct { const char *name; uint16_t at; } regs[] = {
        { "CTLR", 0 }, { "PMR", 4 }, { "RPR", 0x14 }, { "HPPIR", 0x18 }, { "APR0", 0xd0 },
    };
    uint32_t id;

    for (unsigned n = 0; n < sizeof(regs) / sizeof(regs[0]); n++)
        show(regs[n].name, REG(GICC + regs[n].at));
    id = REG(GICC + 0xc);
    show("IAR", id);
    show("RPR", REG(GICC + 0x14));
    if (taken_up(id & 1023))
        REG(GICC + 0x10) = id;
    show("RPR", REG(GICC + 0x14));
    REG(GICC + GICC_PMR) = 0x50;
    show("PMR", REG(GICC + GICC_PMR));
}

static void distributor(void)
{
    static const struct { const char *name; uint16_t at; } words[] = {
        { "CTLR", 0 }, { "GROUP", 0x80 + WORD }, { "MOD", 0xd00 + WORD }, { "EN", 0x100 + WORD }, { "PEND", 0x200 + WORD }, { "ACT", 0x300 + WORD },
        { "NSACR", 0xe00 + 2 * WORD },
    };

    for (unsigned n = 0; n < sizeof(words) / sizeof(words[0]); n++)
        if (v3 || n != 2)
            show(words[n].name, REG(GICD + words[n].at));
    show("PRIO", BYTE(GICD + GICD_IPRIORITYR + INTID));
    BYTE(GICD + GICD_IPRIORITYR + INTID) = 0x60;
    show("PRIO", BYTE(GICD + GICD_IPRIORITYR + INTID));
    BYTE(GICD + GICD_IPRIORITYR + INTID) = 0xc0;
    show("PRIO", BYTE(GICD + GICD_IPRIORITYR + INTID));
}

static void look(uint64_t unused)
{
    distributor();
    put('\n');
    if (v3)
        interface3();
    else
        interface2();
    put('\n');
}

/* ---- from the top */

/* Nothing active, nothing pending but the interrupt, of that group. */
static void prepare(unsigned group)
{
    REG(GICD + GICD_ICENABLER + WORD) = BIT_;
    REG(GICD + GICD_ICPENDR + WORD) = BIT_;
    REG(GICD + GICD_ICACTIVER + WORD) = BIT_;
    if (v3) {
        msr(S3_0_C12_C8_4, 0);
        msr(S3_0_C12_C9_0, 0);
        if (top == 3) {
            msr(SCR_EL3, SCR_BASE | SCR_NS);
            msr(S3_0_C12_C9_0, 0);
            msr(SCR_EL3, SCR_BASE);
        }
        msr(S3_0_C4_C6_0, 0xf8);
        REG(GICD + GICD_IGRPMODR + WORD) = group == 2 ? BIT_ : 0;
    } else {
        REG(GICC + 0xd0) = 0;
        REG(GICC + 0xe0) = 0;
        REG(GICC + GICC_PMR) = 0xf8;
    }
    REG(GICD + GICD_IGROUPR + WORD) = group == 1 ? BIT_ : 0;
    BYTE(GICD + GICD_IPRIORITYR + INTID) = 0xa0;
    REG(GICD + GICD_ISENABLER + WORD) = BIT_;
    REG(GICD + GICD_ISPENDR + WORD) = BIT_;
    __asm__ volatile("dsb sy; isb" ::: "memory");
}

void main(void);
void main(void)
{
    static const struct { const char *name; uint8_t spsr; bool ns; } from[] = {
        { "EL3, NS", 13, true }, { "EL3", 13, false }, { "S EL1", 5, false }, { "NS EL1", 5, true }, { "EL2", 9, true },
    };
    bool el2;

    setup();
    el2 = mrs(ID_AA64PFR0_EL1) >> 8 & 15;
    print(v3 ? "GICv3\n" : "GICv2\n");
    if (el2)
        msr(HCR_EL2, 1ul << 31);
    for (unsigned group = 0; group < (v3 ? 3 : 2); group++) {
        for (unsigned n = 0; n < sizeof(from) / sizeof(from[0]); n++) {
            if ((top == 2 && (!from[n].ns || from[n].spsr > 9)) || (from[n].spsr == 9 && !el2))
                continue;
            prepare(group);
            print("== group ");
            print(group == 0 ? "0" : group == 1 ? "1" : "1 S");
            print(" from ");
            print(from[n].name);
            put('\n');
            if (top == 3)
                msr(SCR_EL3, SCR_BASE | (from[n].ns ? SCR_NS : 0));
            if (from[n].spsr >> 2 == top)
                look(0);
            else
                run_at(from[n].spsr | 0x3c0, look, 0);
            if (top == 3)
                msr(SCR_EL3, SCR_BASE);
        }
    }
    print("done\n");
}
