/* MultiProcessor Specification 1.4: the configuration table that kernels read where ACPI is missing. */
#include <string.h>
#include "common.h"

enum { FLOATING_ADDR = 0x9fc00, TABLE_ADDR = 0x9fc10, TABLE_MAX = 0xa0000 - TABLE_ADDR };

static uint8_t checksum(const uint8_t *p, size_t len)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < len; i++)
        sum += p[i];
    return -sum;
}

static void put_entry(GByteArray *t, const uint8_t *entry, size_t len, unsigned *count)
{
    if (t->len + len > TABLE_MAX)       /* room for about 45 processors; more need ACPI */
        return;
    g_byte_array_append(t, entry, len);
    (*count)++;
}

void x86_mptable(struct x86_machine *m)
{
    GByteArray *t = g_byte_array_new();
    uint8_t header[44] = "PCMP", floating[16] = "_MP_";
    unsigned count = 0, ioapic_id = 0;
    uint32_t v;

    g_byte_array_append(t, header, sizeof(header));
    for (unsigned i = 0; i < m->vm->nvcpus; i++) {
        uint8_t cpu[20] = { 0, (uint8_t)m->vm->vcpus[i]->arch_id, 0x14, 1 | (i == 0 ? 2 : 0), 0x00, 0x06, 0, 0, 0x01, 0x02 };

        put_entry(t, cpu, sizeof(cpu), &count);
    }
    put_entry(t, (const uint8_t[8]){ 1, 0, 'I', 'S', 'A', ' ', ' ', ' ' }, 8, &count);
    put_entry(t, (const uint8_t[8]){ 2, ioapic_id, 0x20, 1, 0, 0, 0xc0, 0xfe }, 8, &count);
    for (unsigned i = 0; i < ISA_IRQS; i++)
        if (i != 2)
            put_entry(t, (const uint8_t[8]){ 3, 0, 0, 0, 0, i, ioapic_id, i == 0 ? 2 : i }, 8, &count);
    /* ExtINT on LINT0, NMI on LINT1 of every local APIC */
    put_entry(t, (const uint8_t[8]){ 4, 3, 0, 0, 0, 0, 0xff, 0 }, 8, &count);
    put_entry(t, (const uint8_t[8]){ 4, 1, 0, 0, 0, 0, 0xff, 1 }, 8, &count);
    t->data[4] = t->len;
    t->data[5] = t->len >> 8;
    t->data[6] = 4;                     /* specification 1.4 */
    memcpy(t->data + 8, "RHEA    VIRTUAL PC  ", 20);
    t->data[34] = count;
    t->data[35] = count >> 8;
    v = X86_APIC_BASE;
    memcpy(t->data + 36, &v, 4);
    t->data[7] = checksum(t->data, t->len);
    v = TABLE_ADDR;
    memcpy(floating + 4, &v, 4);
    floating[8] = 1;
    floating[9] = 4;
    floating[10] = checksum(floating, sizeof(floating));
    x86_blob(m, FLOATING_ADDR, g_memdup2(floating, sizeof(floating)), sizeof(floating));
    v = t->len;
    x86_blob(m, TABLE_ADDR, g_byte_array_free(t, FALSE), v);
}
