/* See acpi.h. ACPI 6.5, chapter 5; PCI Firmware 3.2, 4.1.2 (MCFG); Microsoft's SPCR and DBG2. */
#include <string.h>
#include "acpi.h"

/* ---- the image */

void acpi_init(struct acpi_image *img)
{
    *img = (struct acpi_image){ .tables = g_byte_array_new() };
    img->pointers = g_array_new(FALSE, FALSE, sizeof(struct acpi_pointer));
    img->sums = g_array_new(FALSE, FALSE, sizeof(struct acpi_sum));
}

void acpi_free(struct acpi_image *img)
{
    g_byte_array_free(img->tables, TRUE);
    g_array_free(img->pointers, TRUE);
    g_array_free(img->sums, TRUE);
}

void acpi_put(struct acpi_image *img, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)(v >> 8 * i);

        g_byte_array_append(img->tables, &byte, 1);
    }
}

void acpi_set(struct acpi_image *img, unsigned at, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        img->tables->data[at + i] = (uint8_t)(v >> 8 * i);
}

void acpi_zeros(struct acpi_image *img, unsigned n)
{
    while (n--)
        acpi_put(img, 0, 1);
}

void acpi_text(struct acpi_image *img, const char *s, unsigned n)
{
    g_byte_array_append(img->tables, (const uint8_t *)s, n);
}

static void pointer(struct acpi_image *img, uint32_t at, uint8_t size, bool rsdp)
{
    struct acpi_pointer p = { at, size, rsdp };

    g_array_append_val(img->pointers, p);
}

static void sum(struct acpi_image *img, uint32_t at, uint32_t start, uint32_t len, bool rsdp)
{
    struct acpi_sum s = { at, start, len, rsdp };

    g_array_append_val(img->sums, s);
}

void acpi_address(struct acpi_image *img, uint32_t offset, unsigned bytes)
{
    acpi_put(img, offset, bytes);
    pointer(img, img->tables->len - bytes, (uint8_t)bytes, false);
}

void acpi_gas(struct acpi_image *img, enum acpi_space space, uint8_t bits, uint8_t access, uint64_t addr)
{
    acpi_put(img, space, 1);
    acpi_put(img, bits, 1);
    acpi_put(img, 0, 1);
    acpi_put(img, access, 1);
    acpi_put(img, addr, 8);
}

static void align(struct acpi_image *img, unsigned n)
{
    while (img->tables->len % n)
        acpi_put(img, 0, 1);
}

/* 5.2.6: signature, length, revision, checksum, OEM id, table id and revision, creator. */
static unsigned begin(struct acpi_image *img, const char *signature, uint8_t revision)
{
    unsigned at;

    align(img, 16);
    at = img->tables->len;
    acpi_text(img, signature, 4);
    acpi_put(img, 0, 4);
    acpi_put(img, revision, 1);
    acpi_put(img, 0, 1);
    acpi_text(img, "RHEA  RHEAVM  ", 14);
    acpi_put(img, 1, 4);
    acpi_text(img, "RHEA", 4);
    acpi_put(img, 1, 4);
    return at;
}

unsigned acpi_begin(struct acpi_image *img, const char *signature, uint8_t revision)
{
    unsigned at = begin(img, signature, revision);

    g_assert(img->nlisted < ACPI_LISTED_MAX);
    img->listed[img->nlisted++] = at;
    return at;
}

void acpi_end(struct acpi_image *img, unsigned at)
{
    unsigned len = img->tables->len - at;

    acpi_set(img, at + 4, len, 4);
    sum(img, at + 9, at, len, false);
}

static unsigned list(struct acpi_image *img, const char *signature, unsigned width)
{
    unsigned at = begin(img, signature, 1);

    for (unsigned i = 0; i < img->nlisted; i++)
        acpi_address(img, img->listed[i], width);
    acpi_end(img, at);
    return at;
}

/* 5.2.5.3 */
void acpi_finish(struct acpi_image *img, bool with_rsdt)
{
    uint8_t *r = img->rsdp;
    uint32_t rsdt = with_rsdt ? list(img, "RSDT", 4) : 0, len = ACPI_RSDP_LEN;
    uint64_t xsdt = list(img, "XSDT", 8);

    memcpy(r, "RSD PTR \0RHEA  \2", 16);
    memcpy(r + 16, &rsdt, 4);
    memcpy(r + 20, &len, 4);
    memcpy(r + 24, &xsdt, 8);
    if (with_rsdt)
        pointer(img, 16, 4, true);
    pointer(img, 24, 8, true);
    sum(img, 8, 0, 20, true);
    sum(img, 32, 0, ACPI_RSDP_LEN, true);
}

void acpi_relocate(struct acpi_image *img, uint64_t base)
{
    for (unsigned i = 0; i < img->pointers->len; i++) {
        struct acpi_pointer *p = &g_array_index(img->pointers, struct acpi_pointer, i);
        uint8_t *at = (p->rsdp ? img->rsdp : img->tables->data) + p->at;
        uint64_t v = 0;

        memcpy(&v, at, p->size);
        v += base;
        memcpy(at, &v, p->size);
    }
    for (unsigned i = 0; i < img->sums->len; i++) {
        struct acpi_sum *s = &g_array_index(img->sums, struct acpi_sum, i);
        uint8_t *data = s->rsdp ? img->rsdp : img->tables->data, total = 0;

        data[s->at] = 0;
        for (uint32_t j = 0; j < s->len; j++)
            total += data[s->start + j];
        data[s->at] = (uint8_t)-total;
    }
}

/* ---- tables */

/* 5.2.10 */
unsigned acpi_facs(struct acpi_image *img)
{
    unsigned at;

    align(img, 64);
    at = img->tables->len;
    acpi_text(img, "FACS", 4);
    acpi_put(img, 64, 4);
    acpi_zeros(img, 24);
    acpi_put(img, 1, 1);
    acpi_zeros(img, 31);
    return at;
}

unsigned acpi_dsdt(struct acpi_image *img, struct aml *a)
{
    unsigned at = begin(img, "DSDT", 2);
    GByteArray *code = aml_steal(a);

    g_byte_array_append(img->tables, code->data, code->len);
    g_byte_array_free(code, TRUE);
    acpi_end(img, at);
    return at;
}

/* PCI Firmware 3.2, 4.1.2: one megabyte a bus. */
void acpi_mcfg(struct acpi_image *img, uint64_t ecam, uint64_t size)
{
    unsigned at = acpi_begin(img, "MCFG", 1);

    acpi_zeros(img, 8);
    acpi_put(img, ecam, 8);
    acpi_put(img, 0, 2);                /* segment */
    acpi_put(img, 0, 1);
    acpi_put(img, (size >> 20) - 1, 1);
    acpi_zeros(img, 4);
    acpi_end(img, at);
}

/* 5.2.9. What fixed hardware would be described by is zero; flags: hardware-reduced (20). */
void acpi_fadt_reduced(struct acpi_image *img, uint32_t dsdt, uint16_t arm_boot)
{
    unsigned at = acpi_begin(img, "FACP", 6);

    acpi_zeros(img, 112 - ACPI_HEADER);
    acpi_put(img, 1 << 20, 4);
    acpi_zeros(img, 12 + 1);            /* reset register and value: PSCI or SBI does that */
    acpi_put(img, arm_boot, 2);
    acpi_put(img, 5, 1);                /* minor version: 6.5, which RISC-V wants */
    acpi_zeros(img, 8);
    acpi_address(img, dsdt, 8);
    acpi_zeros(img, 276 - 148);
    acpi_end(img, at);
}

/* Serial Port Console Redirection, revision 2. */
void acpi_spcr(struct acpi_image *img, const struct acpi_uart *u)
{
    unsigned at = acpi_begin(img, "SPCR", 2);

    acpi_put(img, u->spcr_type, 1);
    acpi_zeros(img, 3);
    acpi_gas(img, ACPI_SYSTEM_MEMORY, u->bits, u->access, u->base);
    acpi_put(img, u->irq_type, 1);
    acpi_put(img, 0, 1);
    acpi_put(img, u->gsi, 4);
    acpi_put(img, 7, 1);                /* 115200 baud, no parity, one stop bit, no flow control */
    acpi_put(img, 0, 1);
    acpi_put(img, 1, 1);
    acpi_put(img, 0, 1);
    acpi_put(img, 3, 1);                /* an ANSI terminal */
    acpi_put(img, 0, 1);
    acpi_put(img, 0xffffffff, 4);       /* no PCI device */
    acpi_zeros(img, 3 + 4 + 1 + 4);
    acpi_end(img, at);
}

/* Debug Port Table 2, revision 0: one port with one address range. */
void acpi_dbg2(struct acpi_image *img, const struct acpi_uart *u)
{
    enum { DEVICE_AT = 44, GAS_AT = 22, SIZE_AT = 34, NAME_AT = 38, SERIAL = 0x8000 };
    unsigned at = acpi_begin(img, "DBG2", 0), name = (unsigned)strlen(u->path) + 1;

    acpi_put(img, DEVICE_AT, 4);
    acpi_put(img, 1, 4);
    acpi_put(img, 0, 1);
    acpi_put(img, NAME_AT + name, 2);
    acpi_put(img, 1, 1);
    acpi_put(img, name, 2);
    acpi_put(img, NAME_AT, 2);
    acpi_zeros(img, 4);                 /* no OEM data */
    acpi_put(img, SERIAL, 2);
    acpi_put(img, u->dbg2_type, 2);
    acpi_zeros(img, 2);
    acpi_put(img, GAS_AT, 2);
    acpi_put(img, SIZE_AT, 2);
    acpi_gas(img, ACPI_SYSTEM_MEMORY, u->bits, u->access, u->base);
    acpi_put(img, u->size, 4);
    acpi_text(img, u->path, name);
    acpi_end(img, at);
}

/* 5.2.30: a node for each socket, die, core and thread; a node's offset names it as a parent. Caches come before the node
 * that has them. */
enum { PPTT_PACKAGE = 1, PPTT_ID_VALID = 2, PPTT_THREAD = 4, PPTT_LEAF = 8, PPTT_NODE = 20 };
enum { CACHE_ALL_VALID = 0x7f, CACHE_READ_WRITE_ALLOCATE = 2, CACHE_DATA = 0, CACHE_INSTRUCTION = 1 << 2, CACHE_UNIFIED = 2 << 2 };
enum { LEVEL_SOCKET, LEVEL_DIE, LEVEL_CORE, LEVELS };

struct pptt { struct acpi_image *img; unsigned table; uint32_t cache[2]; unsigned ncaches; /* of the next node */ };

static uint32_t pptt_node(struct pptt *p, uint32_t flags, uint32_t parent, uint32_t id)
{
    uint32_t at = p->img->tables->len - p->table;

    acpi_put(p->img, (PPTT_NODE + 4 * p->ncaches) << 8, 4);     /* type 0, its length */
    acpi_put(p->img, flags, 4);
    acpi_put(p->img, parent, 4);
    acpi_put(p->img, id, 4);
    acpi_put(p->img, p->ncaches, 4);
    for (unsigned i = 0; i < p->ncaches; i++)
        acpi_put(p->img, p->cache[i], 4);
    p->ncaches = 0;
    return at;
}

static uint32_t pptt_cache(struct pptt *p, const struct acpi_cache *c, uint8_t kind, uint32_t next)
{
    uint32_t at = p->img->tables->len - p->table;

    if (!c->size)
        return 0;
    acpi_put(p->img, 1 | 24 << 8, 4);
    acpi_put(p->img, CACHE_ALL_VALID, 4);
    acpi_put(p->img, next, 4);
    acpi_put(p->img, c->size, 4);
    acpi_put(p->img, c->sets, 4);
    acpi_put(p->img, c->ways, 1);
    acpi_put(p->img, kind | (kind == CACHE_INSTRUCTION ? 0 : CACHE_READ_WRITE_ALLOCATE), 1);
    acpi_put(p->img, c->line, 2);
    p->cache[p->ncaches++] = at;
    return at;
}

void acpi_pptt(struct acpi_image *img, struct vm *vm, const struct acpi_caches *caches)
{
    struct pptt p = { .img = img, .table = acpi_begin(img, "PPTT", 2) };
    unsigned last[LEVELS] = { UINT32_MAX, UINT32_MAX, UINT32_MAX };
    uint32_t node[LEVELS] = { 0 }, l2 = 0;
    bool threads = vm->config.threads > 1;

    for (unsigned i = 0; i < vm->nvcpus; i++) {
        const struct vcpu *v = vm->vcpus[i];
        const unsigned now[LEVELS] = { v->socket, v->die, v->core };
        bool fresh = false;

        for (unsigned l = 0; l < LEVELS; l++) {
            bool leaf = l == LEVEL_CORE && !threads;

            fresh |= now[l] != last[l];
            last[l] = now[l];
            if (!fresh)
                continue;
            if (l == LEVEL_DIE)
                l2 = pptt_cache(&p, &caches->l2, CACHE_UNIFIED, 0);
            if (l == LEVEL_CORE) {
                pptt_cache(&p, &caches->l1d, CACHE_DATA, l2);
                pptt_cache(&p, &caches->l1i, CACHE_INSTRUCTION, l2);
            }
            node[l] = pptt_node(&p, l == LEVEL_SOCKET ? PPTT_PACKAGE : leaf ? PPTT_ID_VALID | PPTT_LEAF : 0, l ? node[l - 1] : 0, leaf ? i : now[l]);
        }
        if (threads)
            pptt_node(&p, PPTT_ID_VALID | PPTT_LEAF | PPTT_THREAD, node[LEVEL_CORE], i);
    }
    acpi_end(img, p.table);
}
