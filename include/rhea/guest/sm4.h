/* The substitution box of SM4 (GB/T 32907-2016), which several guests have instructions for. */
#ifndef RHEA_GUEST_SM4_H
#define RHEA_GUEST_SM4_H

#include <stdint.h>

extern const uint8_t sm4_box[256];

#endif
