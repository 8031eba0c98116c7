/* What boards leave in the CMOS RAM for firmware: memory sizes, boot order, CPU count. */
#ifndef RHEA_DEVICE_RTC_H
#define RHEA_DEVICE_RTC_H
#include "rhea/vm/device.h"
void rtc_set_cmos(struct device *rtc, unsigned index, uint8_t value);   /* index 0x0e to 0x7f */
#endif
