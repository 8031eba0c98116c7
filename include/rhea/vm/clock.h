/* The machine's one clock: virtual nanoseconds that stop with the machine. Every counter of the guest (TSC, PIT, HPET,
 * PM timer, RTC) is a function of it. Host clock beside it for back ends. */
#ifndef RHEA_VM_CLOCK_H
#define RHEA_VM_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include "rhea/base/error.h"

struct vm;
struct device;
struct vm_timer;

int64_t vm_clock_ns(struct vm *vm);             /* any thread, lock-free */
int64_t vm_rtc_ns(struct vm *vm);               /* wall clock as -rtc says: ns since 1970 */
/* a * b / c without overflow */
static inline uint64_t muldiv64(uint64_t a, uint64_t b, uint64_t c) { return (uint64_t)((unsigned __int128)a * b / c); }

/* A one-shot timer on the virtual clock (set and cancel from any thread, under the device's lock too; free without it); fn runs on the device's loop under its lock (dev NULL: main loop, no lock).
 * Late timers fire once, never in bursts. */
struct vm_timer *vm_timer_new(struct vm *vm, struct device *dev, void (*fn)(void *opaque), void *opaque);
void vm_timer_free(struct vm_timer *t);
void vm_timer_set(struct vm_timer *t, int64_t virtual_ns);
void vm_timer_cancel(struct vm_timer *t);
int64_t vm_timer_expiry(const struct vm_timer *t);      /* -1: not set */

/* vm.c: the clock's life, and its state with the machine's */
bool vm_clock_init(struct vm *vm, struct error *err);
void vm_clock_free(struct vm *vm);
void vm_clock_run(struct vm *vm, bool run);

#endif
