/* What the files of the x86 guest's system side share: segments, transfers, delivery, paging. */
#ifndef RHEA_GUEST_X86_SYSTEM_H
#define RHEA_GUEST_X86_SYSTEM_H

#include "x86.h"

enum { CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_ET = 16, CR0_NE = 32, CR0_WP = 1 << 16, CR0_AM = 1 << 18,
       CR0_NW = 1 << 29, CR0_CD = 1 << 30 };
#define CR0_PG (UINT64_C(1) << 31)
enum { CR4_VME = 1, CR4_PVI = 2, CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 16, CR4_PAE = 32, CR4_MCE = 64, CR4_PGE = 128,
       CR4_PCE = 256, CR4_OSFXSR = 512, CR4_OSXMMEXCPT = 1 << 10, CR4_UMIP = 1 << 11, CR4_LA57 = 1 << 12,
       CR4_FSGSBASE = 1 << 16, CR4_PCIDE = 1 << 17, CR4_OSXSAVE = 1 << 18, CR4_SMEP = 1 << 20, CR4_SMAP = 1 << 21 };
enum { XCR0_X87 = 1, XCR0_SSE = 2, XCR0_AVX = 4 };
enum { EFER_SCE = 1, EFER_LME = 1 << 8, EFER_LMA = 1 << 10, EFER_NXE = 1 << 11, EFER_FFXSR = 1 << 14 };
/* struct x86_segment.attr */
enum { ATTR_ACCESSED = 1 << 8, ATTR_RW = 1 << 9, ATTR_CE = 1 << 10 /* conforming, expand-down */, ATTR_CODE = 1 << 11,
       ATTR_S = 1 << 12, ATTR_DPL_SHIFT = 13, ATTR_P = 1 << 15, ATTR_AVL = 1 << 20, ATTR_L = 1 << 21, ATTR_D = 1 << 22,
       ATTR_G = 1 << 23, ATTR_TYPE_SHIFT = 8 };
static inline unsigned attr_type(uint32_t attr) { return attr >> ATTR_TYPE_SHIFT & 15; }
static inline unsigned attr_dpl(uint32_t attr) { return attr >> ATTR_DPL_SHIFT & 3; }
/* System descriptor types: SDM vol. 3, table 3-2 */
enum { DT_TSS16 = 1, DT_LDT = 2, DT_TSS16_BUSY = 3, DT_CALL16 = 4, DT_TASK_GATE = 5, DT_INT16 = 6, DT_TRAP16 = 7,
       DT_TSS32 = 9, DT_TSS32_BUSY = 11, DT_CALL32 = 12, DT_INT32 = 14, DT_TRAP32 = 15 };

static inline bool x86_long_mode(const struct x86_cpu *c) { return c->efer & EFER_LMA; }
static inline bool x86_code64(const struct x86_cpu *c) { return x86_long_mode(c) && (c->seg[S_CS].attr & ATTR_L); }
static inline bool x86_protected(const struct x86_cpu *c) { return (c->cr0 & CR0_PE) && !(c->eflags & EF_VM); }
static inline bool x86_vm86(const struct x86_cpu *c) { return (c->cr0 & CR0_PE) && (c->eflags & EF_VM); }
static inline unsigned x86_iopl(const struct x86_cpu *c) { return c->eflags >> 12 & 3; }
/* (E)IP or RIP of cpu.pc, and back */
static inline uint64_t x86_ip(const struct x86_cpu *c)
{
    return x86_code64(c) ? c->cpu.pc : (uint32_t)(c->cpu.pc - c->seg[S_CS].base);
}
static inline void x86_set_ip(struct x86_cpu *c, uint64_t ip)
{
    c->cpu.pc = x86_code64(c) ? ip : (uint32_t)(ip + c->seg[S_CS].base);
}
static inline bool x86_canonical(const struct x86_cpu *c, uint64_t va)
{
    unsigned bits = c->cr4 & CR4_LA57 ? 57 : 48;

    return (uint64_t)((int64_t)(va << (64 - bits)) >> (64 - bits)) == va;
}

/* Implicit supervisor accesses (descriptor tables, TSS) and accesses at a privilege level. */
unsigned x86_system_mmu(const struct x86_cpu *c);
unsigned x86_level_mmu(const struct x86_cpu *c, unsigned cpl);
uint64_t x86_system_load(struct x86_cpu *c, uint64_t va, unsigned bytes);
void x86_system_store(struct x86_cpu *c, uint64_t va, unsigned bytes, uint64_t v);

/* segment.c */
struct x86_descriptor { uint32_t lo, hi, hi2; uint64_t va; };   /* hi2: base 63:32 of a 16-byte one */
static inline uint64_t desc_base(const struct x86_descriptor *d)
{
    return (uint64_t)d->hi2 << 32 | (d->hi & 0xff000000) | (d->hi & 0xff) << 16 | d->lo >> 16;
}
static inline uint32_t desc_limit(const struct x86_descriptor *d)
{
    uint32_t limit = (d->lo & 0xffff) | (d->hi & 0xf0000);

    return d->hi & ATTR_G ? limit << 12 | 0xfff : limit;
}
static inline uint32_t desc_attr(const struct x86_descriptor *d) { return d->hi & 0x00f0ff00; }
/* False: beyond the table's limit (or null). Faults of the read itself are raised. */
bool x86_descriptor_read(struct x86_cpu *c, uint16_t selector, struct x86_descriptor *d);
void x86_descriptor_accessed(struct x86_cpu *c, struct x86_descriptor *d);
void x86_segment_set(struct x86_cpu *c, unsigned seg, uint16_t selector, const struct x86_descriptor *d);
void x86_segment_real(struct x86_cpu *c, unsigned seg, uint16_t selector);      /* real and vm86 mode */
void x86_segment_load(struct x86_cpu *c, unsigned seg, uint16_t selector);      /* MOV, POP, LDS... */
void x86_ss_for_level(struct x86_cpu *c, uint16_t selector, unsigned cpl, unsigned vector, struct x86_descriptor *d);
void x86_null_data_segments(struct x86_cpu *c, unsigned cpl);   /* after a return to an outer level */
void x86_check_limit(struct x86_cpu *c, unsigned seg, uint64_t off, unsigned bytes, bool write);
_Noreturn void x86_fault(struct x86_cpu *c, unsigned vector, uint16_t selector);        /* error code of a selector */

/* A stack that pushes and pops; the register itself is written by stack_done(). */
struct x86_stack { struct x86_cpu *c; uint64_t base, sp, mask; unsigned mmu; bool flat; const struct x86_segment *limit; };
struct x86_stack x86_stack_begin(struct x86_cpu *c);
struct x86_stack x86_stack_on(struct x86_cpu *c, const struct x86_segment *ss, uint64_t sp, unsigned cpl);
void x86_stack_push(struct x86_stack *s, unsigned bytes, uint64_t v);
uint64_t x86_stack_pop(struct x86_stack *s, unsigned bytes);
void x86_stack_done(struct x86_stack *s);

/* interrupt.c: through IVT or IDT. ip: what is pushed. */
enum x86_event { EVENT_EXCEPTION, EVENT_INTERRUPT, EVENT_SOFTWARE, EVENT_ICEBP };
void x86_interrupt(struct x86_cpu *c, unsigned vector, enum x86_event kind, int error_code, uint64_t ip);
bool x86_deliver(struct cpu *cpu);
bool x86_has_work(const struct cpu *cpu);
void x86_shutdown(struct x86_cpu *c);                   /* triple fault and kin */
void x86_tss_stack(struct x86_cpu *c, unsigned dpl, uint16_t *ss, uint32_t *esp);

/* smm.c */
bool x86_smi_ready(const struct x86_cpu *c);
void x86_smm_enter(struct x86_cpu *c);

/* monitor.c */
bool x86_mwait_over(const struct x86_cpu *c);
void x86_mwait_end(struct x86_cpu *c);

/* task.c */
enum x86_task_reason { TASK_JMP, TASK_CALL, TASK_INT, TASK_IRET };
void x86_task_switch(struct x86_cpu *c, uint16_t selector, enum x86_task_reason why, int error_code, uint64_t ip);

/* control.c */
void x86_set_cr0(struct x86_cpu *c, uint64_t v);
void x86_set_cr3(struct x86_cpu *c, uint64_t v);
void x86_set_cr4(struct x86_cpu *c, uint64_t v);
uint64_t x86_cr4_allowed(const struct x86_cpu *c);      /* by CPUID */
void x86_mode_changed(struct x86_cpu *c);               /* EFER.LMA, PAE pointers after CR0, CR3, CR4, EFER */
uint64_t x86_mode_bits(const struct cpu *cpu);
unsigned x86_mmu_index(const struct cpu *cpu, bool code);
void x86_set_cpl(struct x86_cpu *c, unsigned cpl);

/* mmu.c */
bool x86_translate(struct cpu *cpu, uint64_t va, enum mmu_access access, unsigned mmu, bool probe,
                   struct mmu_result *out);
char *x86_mmu_dump(struct cpu *cpu, bool tlb);
void x86_load_pdptes(struct x86_cpu *c, bool check);

/* exception_stack.c: the instruction at pc got #GP for va, which is not canonical. Is it to be #SS? */
bool x86_is_stack_fault(struct x86_cpu *c, uint64_t va);

/* vme.c: FLAGS of an IRET below IOPL 3 in virtual-8086 mode: may it load them? Then does. */
void x86_virtual_flags_check(struct x86_cpu *c, uint64_t flags);
void x86_virtual_flags(struct x86_cpu *c, uint64_t flags);

/* cpuid.c, msr.c, reset.c */
void x86_cpuid(struct x86_cpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4]);
uint64_t x86_tsc(struct x86_cpu *c);
void x86_reset(struct cpu *cpu);
void x86_init_reset(struct x86_cpu *c);                 /* INIT: state kept by it survives */

/* kvmclock.c: leaves 40000100H and on; true: the MSR is one of the clock's */
void x86_kvm_cpuid(uint32_t leaf, uint32_t out[4]);
bool x86_kvm_msr_read(struct x86_cpu *c, uint32_t msr, uint64_t *v);
bool x86_kvm_msr_write(struct x86_cpu *c, uint32_t msr, uint64_t v);
void x86_kvm_clock_update(struct x86_cpu *c);           /* the TSC was set */

#endif
