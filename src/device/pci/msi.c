/* Message-signalled interrupts: MSI (PCI 3.0, 6.8.1) and MSI-X (6.8.2). A message is a write by the device; the board
 * says which addresses are interrupts. */
#include <stdatomic.h>
#include <string.h>
#include <glib.h>
#include "pci_internal.h"
#include "rhea/vm/vm.h"

enum { MSI_CONTROL = 2, MSI_ADDR = 4, MSI_ADDR_HI = 8, MSI_DATA = 12, MSI_MASK = 16, MSI_PENDING = 20, MSI_SIZE = 24 };
enum { MSI_ENABLE = 1, MSI_64 = 0x80, MSI_MASKABLE = 0x100 };
enum { MSIX_CONTROL = 2, MSIX_TABLE = 4, MSIX_PBA = 8, MSIX_SIZE = 12 };
enum { MSIX_ENABLE = 0x8000, MSIX_FUNCTION_MASK = 0x4000 };
enum { MSIX_ENTRY = 16, MSIX_VECTORS_MAX = 2048 };

struct msix_entry { uint32_t addr, addr_hi, data, control; };   /* control bit 0: masked */

struct msix {
    unsigned vectors;
    struct msix_entry *table;   /* under pd->msi_lock, as pending */
    uint8_t *pending;
    bool enabled, function_mask;
    struct mem_region table_mr, pba_mr, own_bar;
};

static void message_send(struct pci_device *pd, uint64_t addr, uint32_t data)
{
    struct vm *vm = pd->dev.vm;

    /* The message is a write on the bus: nothing leaves a device that may not master it. */
    if (!(pd->config[PCI_COMMAND] & PCI_COMMAND_MASTER))
        return;
    if (vm->msi && vm->msi(vm->msi_opaque, addr, data, pci_requester(pd)))
        return;
    dma_write(&pd->dev, addr, &data, 4);
}

/* ---- MSI */

bool msi_init(struct pci_device *pd, unsigned offset, unsigned vectors, struct error *err)
{
    int at = pci_add_capability(pd, PCI_CAP_MSI, offset, MSI_SIZE, err);
    unsigned log = 0;

    if (at < 0)
        return false;
    while (1u << log < vectors && log < 5)
        log++;
    pd->msi_cap = (uint8_t)at;
    pci_put_word(pd->config + at + MSI_CONTROL, (uint16_t)(MSI_64 | MSI_MASKABLE | log << 1));
    pci_put_word(pd->wmask + at + MSI_CONTROL, MSI_ENABLE | 0x70);
    pci_put_long(pd->wmask + at + MSI_ADDR, 0xfffffffc);
    pci_put_long(pd->wmask + at + MSI_ADDR_HI, 0xffffffff);
    pci_put_word(pd->wmask + at + MSI_DATA, 0xffff);
    pci_put_long(pd->wmask + at + MSI_MASK, (uint32_t)((2ull << ((1u << log) - 1)) - 1));
    return true;
}

bool msi_enabled(const struct pci_device *pd)
{
    return pd->msi_cap && pd->config[pd->msi_cap + MSI_CONTROL] & MSI_ENABLE;
}

static void msi_send(struct pci_device *pd, unsigned vector)
{
    const uint8_t *c = pd->config + pd->msi_cap;
    unsigned n = 1u << (pci_word(c + MSI_CONTROL) >> 4 & 7);
    uint64_t addr = pci_long(c + MSI_ADDR) | (uint64_t)pci_long(c + MSI_ADDR_HI) << 32;
    uint32_t data = pci_word(c + MSI_DATA);

    /* With several messages, the device replaces the low bits of the data. */
    message_send(pd, addr, (data & ~(n - 1)) | (vector & (n - 1)));
}

void msi_notify(struct pci_device *pd, unsigned vector)
{
    bool send = false;

    if (vector >= 32)
        return;
    pthread_mutex_lock(&pd->msi_lock);
    if (msi_enabled(pd)) {
        uint8_t *c = pd->config + pd->msi_cap;

        if (pci_long(c + MSI_MASK) >> vector & 1)
            pci_put_long(c + MSI_PENDING, pci_long(c + MSI_PENDING) | 1u << vector);
        else
            send = true;
    }
    pthread_mutex_unlock(&pd->msi_lock);
    if (send)
        msi_send(pd, vector);
}

static void msi_unmasked(struct pci_device *pd)
{
    uint8_t *c = pd->config + pd->msi_cap;
    uint32_t ready;

    pthread_mutex_lock(&pd->msi_lock);
    ready = msi_enabled(pd) ? pci_long(c + MSI_PENDING) & ~pci_long(c + MSI_MASK) : 0;
    pci_put_long(c + MSI_PENDING, pci_long(c + MSI_PENDING) & ~ready);
    pthread_mutex_unlock(&pd->msi_lock);
    for (; ready; ready &= ready - 1)
        msi_send(pd, (unsigned)__builtin_ctz(ready));
}

/* ---- MSI-X */

/* Under msi_lock: may vector v be sent now? */
static bool msix_open(const struct msix *x, unsigned v)
{
    return x->enabled && !x->function_mask && !(x->table[v].control & 1);
}

static void msix_flush(struct pci_device *pd, unsigned first, unsigned count)
{
    struct msix *x = pd->msix;

    for (unsigned v = first; v < first + count; v++) {
        struct msix_entry e;
        bool send;

        pthread_mutex_lock(&pd->msi_lock);
        send = x->pending[v / 8] >> (v % 8) & 1 && msix_open(x, v);
        if (send)
            x->pending[v / 8] &= (uint8_t)~(1 << v % 8);
        e = x->table[v];
        pthread_mutex_unlock(&pd->msi_lock);
        if (send)
            message_send(pd, e.addr | (uint64_t)e.addr_hi << 32, e.data);
    }
}

static uint64_t table_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_device *pd = opaque;
    uint64_t v = 0;

    pthread_mutex_lock(&pd->msi_lock);
    if (offset + size <= pd->msix->vectors * MSIX_ENTRY)
        memcpy(&v, (uint8_t *)pd->msix->table + offset, size);
    pthread_mutex_unlock(&pd->msi_lock);
    return v;
}

static void table_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_device *pd = opaque;
    struct msix *x = pd->msix;

    if (offset + size > x->vectors * MSIX_ENTRY)
        return;
    pthread_mutex_lock(&pd->msi_lock);
    memcpy((uint8_t *)x->table + offset, &value, size);
    x->table[offset / MSIX_ENTRY].control &= 1;         /* the rest is reserved */
    pthread_mutex_unlock(&pd->msi_lock);
    msix_flush(pd, (unsigned)(offset / MSIX_ENTRY), 1);
}

static uint64_t pba_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_device *pd = opaque;
    unsigned bytes = (pd->msix->vectors + 63) / 64 * 8;
    uint64_t v = 0;

    pthread_mutex_lock(&pd->msi_lock);
    if (offset + size <= bytes)
        memcpy(&v, pd->msix->pending + offset, size);
    pthread_mutex_unlock(&pd->msi_lock);
    return v;
}

static void pba_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_device *pd = opaque;

    guest_error(&pd->dev, "write to the pending bits of MSI-X");
}

/* Own locking (msi_lock): notifiers must not meet the device's lock. */
static const struct mmio_ops table_ops = { .read = table_read, .write = table_write, .min = 4, .max = 8, .lockless = true };
static const struct mmio_ops pba_ops = { .read = pba_read, .write = pba_write, .min = 4, .max = 8, .lockless = true };

bool msix_init(struct pci_device *pd, unsigned vectors, struct mem_region *table_region, unsigned table_bar, uint32_t table_offset,
               struct mem_region *pba_region, unsigned pba_bar, uint32_t pba_offset, unsigned cap_offset, struct error *err)
{
    unsigned pba_bytes = (vectors + 63) / 64 * 8;
    struct msix *x = pd->msix;
    int at;

    if (vectors == 0 || vectors > MSIX_VECTORS_MAX)
        return error_setf(err, ERR_GENERIC, "1 to 2048 are right", "%s: %u MSI-X vectors", pd->dev.cls->name, vectors);
    at = pci_add_capability(pd, PCI_CAP_MSIX, cap_offset, MSIX_SIZE, err);
    if (at < 0)
        return false;
    if (!x)
        x = pd->msix = g_new0(struct msix, 1);
    x->vectors = vectors;
    x->table = g_new0(struct msix_entry, vectors);
    x->pending = g_malloc0(pba_bytes);
    for (unsigned v = 0; v < vectors; v++)
        x->table[v].control = 1;
    pd->msix_cap = (uint8_t)at;
    pci_put_word(pd->config + at + MSIX_CONTROL, (uint16_t)(vectors - 1));
    pci_put_word(pd->wmask + at + MSIX_CONTROL, MSIX_ENABLE | MSIX_FUNCTION_MASK);
    pci_put_long(pd->config + at + MSIX_TABLE, table_offset | table_bar);
    pci_put_long(pd->config + at + MSIX_PBA, pba_offset | pba_bar);
    mem_region_init_mmio(&x->table_mr, pd->dev.vm, &pd->dev, "msix-table", vectors * MSIX_ENTRY, &table_ops, pd);
    mem_region_init_mmio(&x->pba_mr, pd->dev.vm, &pd->dev, "msix-pba", pba_bytes, &pba_ops, pd);
    mem_region_add(table_region, table_offset, &x->table_mr, 1);
    mem_region_add(pba_region, pba_offset, &x->pba_mr, 1);
    return true;
}

bool msix_init_bar(struct pci_device *pd, unsigned vectors, unsigned bar, struct error *err)
{
    uint32_t table = (vectors * MSIX_ENTRY + 2047) & ~2047u, pba = (vectors + 63) / 64 * 8, size = 4096;
    struct msix *x = g_new0(struct msix, 1);

    while (size < table + pba)
        size <<= 1;
    pd->msix = x;
    mem_region_init_container(&x->own_bar, pd->dev.vm, &pd->dev, "msix", size);
    if (!msix_init(pd, vectors, &x->own_bar, bar, 0, &x->own_bar, bar, size / 2 >= table && size / 2 + pba <= size ? size / 2 : table,
                   0, err)) {
        g_free(x);
        pd->msix = NULL;
        return false;
    }
    pci_register_bar(pd, bar, PCI_BAR_MEM32, &x->own_bar);
    return true;
}

void msix_free(struct pci_device *pd)
{
    if (!pd->msix)
        return;
    g_free(pd->msix->table);
    g_free(pd->msix->pending);
    g_free(pd->msix);
    pd->msix = NULL;
}

bool msix_enabled(const struct pci_device *pd)
{
    return pd->msix && pd->msix->enabled;
}

unsigned msix_vectors(const struct pci_device *pd)
{
    return pd->msix ? pd->msix->vectors : 0;
}

void msix_notify(struct pci_device *pd, unsigned vector)
{
    struct msix *x = pd->msix;
    struct msix_entry e;
    bool send;

    if (!x || vector >= x->vectors)
        return;
    pthread_mutex_lock(&pd->msi_lock);
    send = msix_open(x, vector);
    if (!send && x->enabled)
        x->pending[vector / 8] |= (uint8_t)(1 << vector % 8);
    e = x->table[vector];
    pthread_mutex_unlock(&pd->msi_lock);
    if (send)
        message_send(pd, e.addr | (uint64_t)e.addr_hi << 32, e.data);
}

/* ---- seams with config space */

static bool touches(unsigned offset, unsigned size, unsigned from, unsigned len)
{
    return from && offset < from + len && from < offset + size;
}

void msi_config_written(struct pci_device *pd, unsigned offset, unsigned size)
{
    struct msix *x = pd->msix;

    if (touches(offset, size, pd->msi_cap, MSI_SIZE))
        msi_unmasked(pd);
    if (x && touches(offset, size, pd->msix_cap, MSIX_SIZE)) {
        uint16_t control = pci_word(pd->config + pd->msix_cap + MSIX_CONTROL);

        pthread_mutex_lock(&pd->msi_lock);
        x->enabled = control & MSIX_ENABLE;
        x->function_mask = control & MSIX_FUNCTION_MASK;
        pthread_mutex_unlock(&pd->msi_lock);
        msix_flush(pd, 0, x->vectors);
    }
}

void msi_reset(struct pci_device *pd)
{
    struct msix *x = pd->msix;

    if (!x)
        return;
    pthread_mutex_lock(&pd->msi_lock);
    x->enabled = x->function_mask = false;
    memset(x->pending, 0, (x->vectors + 63) / 64 * 8);
    for (unsigned v = 0; v < x->vectors; v++)
        x->table[v] = (struct msix_entry){ .control = 1 };
    pthread_mutex_unlock(&pd->msi_lock);
}
