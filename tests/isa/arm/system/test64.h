/* What the bare-metal tests of AArch64 share. */
#ifndef TEST64_H
#define TEST64_H
#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stdint.h>

struct frame { uint64_t x[34]; };       /* x0 to x19, x29 at 30, x30 at 31 */
/* The last exception */
struct taken { unsigned count, slot; uint64_t esr, far, elr, spsr; };
extern volatile struct taken taken;
extern uint64_t el0_return, el0_sp, el0_spsr;
uint64_t at_el0(uint64_t (*fn)(uint64_t), uint64_t arg);
void exception(unsigned slot, struct frame *f);
extern void (*irq_hook)(void);
/* What to do after a synchronous exception: 0 go on behind the instruction, else the address. */
extern uint64_t resume_at;

void put(char c);
void print(const char *s);
void hex(uint64_t v);
void line(const char *name, uint64_t v);
/* Prints the last exception's slot, EC, ISS and whether FAR is `far`. */
void report(const char *name, uint64_t far);
#define USER __attribute__((section(".user"), noinline))

#define mrs(reg) ({ uint64_t v_; __asm__ volatile("mrs %0, " #reg : "=r"(v_)); v_; })
#define msr(reg, v) __asm__ volatile("msr " #reg ", %0; isb" :: "r"((uint64_t)(v)) : "memory")
#define insn(text) __asm__ volatile(text ::: "memory", "x9", "x10")
#endif
#endif
