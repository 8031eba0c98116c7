/* "cfi.pflash01": parallel NOR flash. Its drive holds the content; without one it is erased, or what is given here. */
#ifndef RHEA_DEVICE_PFLASH_H
#define RHEA_DEVICE_PFLASH_H
#include "rhea/vm/device.h"
/* Content from offset 0 on, before the machine runs; false with err when it is larger than the flash. */
bool pflash_load(struct device *flash, const void *data, size_t len, struct error *err);
uint64_t pflash_size(struct device *flash);
#endif
