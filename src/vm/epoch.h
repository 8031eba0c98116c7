#ifndef RHEA_VM_EPOCH_H
#define RHEA_VM_EPOCH_H

#include <stdbool.h>
#include <stdint.h>

/* Starts a new epoch and returns the one before: what was unpublished by now may be freed when it has passed. */
uint64_t epoch_advance(void);
bool epoch_passed(uint64_t epoch);

#endif
