/* Flash of boards that start from it: two banks, the first with firmware, the second with its variables. */
#ifndef RHEA_BOARD_FLASH_H
#define RHEA_BOARD_FLASH_H

#include "rhea/vm/vm.h"

/* Notes drives of if=pflash in pflash[] (what -machine pflash0=, pflash1= set), by unit=, index= or order. */
bool flash_drives(struct vm *vm, char *pflash[2], struct error *err);
/* A bank at addr; name is its memory's. drive: NULL: empty. */
struct device *flash_bank(struct vm *vm, const char *name, const char *drive, uint64_t addr, uint64_t size, struct error *err);

#endif
