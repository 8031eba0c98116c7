/* What the bare-metal tests of AArch32 share. */
#ifndef TEST32_H
#define TEST32_H
/* CPSR.M */
#define FIQ 0x11
#define IRQ 0x12
#define SVC 0x13
#define ABT 0x17
#define UND 0x1b
#define SYS 0x1f
#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stdint.h>

/* What a vector saves of the code that it interrupted, in the mode that the exception is taken to. */
struct frame { uint32_t spsr, lr_unused, r[13], lr; };
/* fn(arg) with that CPSR, in that mode, on a stack that is no privileged mode's; bit 0 of fn is Thumb's. It ends in SVC #0xee. */
uint32_t call_in(uint32_t cpsr, uint32_t (*fn)(uint32_t), uint32_t arg);
void exception(unsigned vector, struct frame *f);
extern uint32_t vectors[], thumb_vectors[];
extern uint32_t call_back, call_sp, call_result, user_sp;

#define CP_READ(args) ({ uint32_t v_; __asm__ volatile("mrc " args : "=r"(v_) :: "memory"); v_; })
#define CP_READ2(opc1, crn, crm, opc2) CP_READ("p15, " #opc1 ", %0, c" #crn ", c" #crm ", " #opc2)
#define CP_WRITE2(opc1, crn, crm, opc2, v) \
    __asm__ volatile("mcr p15, " #opc1 ", %0, c" #crn ", c" #crm ", " #opc2 "\n isb" :: "r"((uint32_t)(v)) : "memory")
#define SCTLR 0, 1, 0, 0
#define CPACR 0, 1, 0, 2
#define TTBR0 0, 2, 0, 0
#define TTBR1 0, 2, 0, 1
#define TTBCR 0, 2, 0, 2
#define DACR 0, 3, 0, 0
#define DFSR 0, 5, 0, 0
#define IFSR 0, 5, 0, 1
#define DFAR 0, 6, 0, 0
#define IFAR 0, 6, 0, 2
#define ICIALLU 0, 7, 5, 0
#define PAR 0, 7, 4, 0
#define ATS1CPR 0, 7, 8, 0
#define ATS1CPW 0, 7, 8, 1
#define ATS1CUR 0, 7, 8, 2
#define ATS1CUW 0, 7, 8, 3
#define TLBIALL 0, 8, 7, 0
#define TLBIMVA 0, 8, 7, 1
#define TLBIASID 0, 8, 7, 2
#define TLBIMVAA 0, 8, 7, 3
#define PRRR 0, 10, 2, 0
#define NMRR 0, 10, 2, 1
#define VBAR 0, 12, 0, 0
#define CONTEXTIDR 0, 13, 0, 1
#define CNTKCTL 0, 14, 1, 0
#define CNTV_TVAL 0, 14, 3, 0
#define CNTV_CTL 0, 14, 3, 1
#define PMUSERENR 0, 9, 14, 0
#define READ_(opc1, crn, crm, opc2) CP_READ2(opc1, crn, crm, opc2)
#define READ(reg) READ_(reg)
#define WRITE_(opc1, crn, crm, opc2, v) CP_WRITE2(opc1, crn, crm, opc2, v)
#define WRITE(...) WRITE_(__VA_ARGS__)
#define CPSR() ({ uint32_t v_; __asm__ volatile("mrs %0, cpsr" : "=r"(v_)); v_; })
#endif
#endif
