/* A hostile guest: what its parts share. */
#ifndef HOSTILE_H
#define HOSTILE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* test_hostile.py finds this by its magic and fills it in. */
struct config { char magic[8]; uint64_t seed; uint32_t board, cpus; };
extern volatile struct config config;

/* Memory that devices are pointed at: 4 MiB, where no code lies. What survives a reset is kept behind it. */
#if defined(__x86_64__) || defined(__i386__)
#define RAM_BASE 0u
#elif defined(__riscv)
#define RAM_BASE 0x80000000u
#else
#define RAM_BASE 0x40000000u
#endif
enum { RAM_SIZE = 64 << 20, ARENA_SIZE = 4 << 20 };
#define ARENA (RAM_BASE + (32u << 20))
#define KEPT (RAM_BASE + (48u << 20))

struct range { uintptr_t base; uint32_t size, weight; };
enum { RANGES_MAX = 96 };
extern struct range ranges[RANGES_MAX];
extern unsigned nranges;
void range_add(uintptr_t base, uint32_t size, uint32_t weight);

uint64_t rnd(void);
static inline unsigned below(unsigned n) { return (unsigned)((rnd() >> 32) * n >> 32); }
static inline bool one_in(unsigned n) { return below(n) == 0; }
uint64_t value(void);           /* one that a program might choose badly */
uintptr_t arena(unsigned align);
static inline uint32_t swap(uint32_t v) { return v >> 24 | (v >> 8 & 0xff00) | (v & 0xff00) << 8 | v << 24; }

#define REG8(a) (*(volatile uint8_t *)(uintptr_t)(a))
#define REG16(a) (*(volatile uint16_t *)(uintptr_t)(a))
#define REG32(a) (*(volatile uint32_t *)(uintptr_t)(a))
#define REG64(a) (*(volatile uint64_t *)(uintptr_t)(a))

/* The processor's and the board's own, in ARCH.c */
void board_init(void);
unsigned cpu_id(void);
void cpu_acknowledge(void);     /* of an interrupt, if that is what came */
void cpu_unmask(void);
void board_act(void);           /* something that only this board has */
uint32_t config_read(uint32_t bdf, unsigned reg);
void config_write(uint32_t bdf, unsigned reg, uint32_t v, unsigned size);
bool has_pci(void);
void fw_cfg_dma(uintptr_t control);
extern const uintptr_t pci_window;      /* where BARs may go: 32 MiB and more */

_Noreturn void resume(void);    /* from the vectors: any exception ends the action under way */
#endif
