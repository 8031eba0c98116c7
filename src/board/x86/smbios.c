/* SMBIOS of a PC, see board/smbios.h. */
#include "firmware.h"

enum { SMBIOS_ADDR = 0xf0000, SMBIOS_TABLES = 0xf0040, SMBIOS_MAX = 0xffc0 };

struct smbios x86_smbios(struct x86_machine *m)
{
    return (struct smbios){ .vm = m->vm, .product = "Standard PC (Q35 + ICH9, 2009)",
                            .range = { { 0, m->low_size }, { UINT64_C(1) << 32, m->high_size } } };
}

/* Kernels look for the entry point between F0000h and FFFFFh. */
void x86_smbios_place(struct x86_machine *m)
{
    struct smbios s = x86_smbios(m);
    uint8_t entry[SMBIOS_ENTRY2];

    smbios_build(&s);
    if (s.tables->len <= SMBIOS_MAX && smbios_entry2(&s, SMBIOS_TABLES, entry)) {
        x86_blob(m, SMBIOS_ADDR, g_memdup2(entry, sizeof(entry)), sizeof(entry));
        x86_blob(m, SMBIOS_TABLES, g_memdup2(s.tables->data, s.tables->len), s.tables->len);
    }
    smbios_free(&s);
}
