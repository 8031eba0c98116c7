/* SMBIOS 3.0 tables (DMTF DSP0134): what dmidecode shows, and how guests tell where they are. */
#ifndef RHEA_BOARD_SMBIOS_H
#define RHEA_BOARD_SMBIOS_H

#include "rhea/vm/vm.h"

enum { SMBIOS_RANGES = 2 };
struct smbios {
    struct vm *vm;
    const char *product;        /* unless -smbios type=1,product= says another */
    struct { uint64_t base, size; } range[SMBIOS_RANGES];      /* of memory; size 0: none */
    /* built */
    GByteArray *tables;
    unsigned count, largest;    /* tables, and bytes of the largest */
};

void smbios_build(struct smbios *s);
void smbios_free(struct smbios *s);
/* The 64-bit entry point (5.2.2) of tables at addr. */
enum { SMBIOS_ENTRY3 = 24 };
void smbios_entry3(const struct smbios *s, uint64_t addr, uint8_t out[SMBIOS_ENTRY3]);
/* The 32-bit entry point (5.2.1), for tables below 4 GiB of up to 64 KiB. */
enum { SMBIOS_ENTRY2 = 31 };
bool smbios_entry2(const struct smbios *s, uint32_t addr, uint8_t out[SMBIOS_ENTRY2]);

#endif
