/* fw_cfg: a selector, a data register, and a DMA interface. See include/rhea/device/fw_cfg.h. On x86 at I/O ports 510h to
 * 51Bh ("fw_cfg_io"); elsewhere memory-mapped ("fw_cfg_mem": data at 0, selector at 8, DMA at 16, big-endian). */
#include <string.h>
#include <glib.h>
#include "rhea/device/fw_cfg.h"
#include "rhea/vm/vm.h"

enum { FW_NAME_MAX = 56, ID_TRADITIONAL = 1, ID_DMA = 2 };
enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16 };
#define DMA_SIGNATURE 0x51454d5520434647ull     /* "QEMU CFG" */

struct item { uint8_t *data; size_t len; };
struct file { char name[FW_NAME_MAX]; uint16_t key; };

struct fw_cfg {
    struct device dev;
    GHashTable *items;          /* key -> struct item */
    GArray *files;              /* struct file, sorted by name */
    uint16_t next_key;
    uint16_t selected;
    uint32_t offset;            /* of the next byte of the selected item */
    uint64_t dma_addr;
    uint32_t iobase;
};

static struct fw_cfg *fw(struct device *dev)
{
    return (struct fw_cfg *)dev;
}

static void put_be(uint8_t *p, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> 8 * (n - 1 - i));
}

static uint64_t get_be(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

/* ---- content */

static void item_free(void *p)
{
    struct item *i = p;

    g_free(i->data);
    g_free(i);
}

void fw_cfg_add_item(struct device *dev, uint16_t key, void *data, size_t len)
{
    struct item *i = g_new(struct item, 1);

    i->data = data;
    i->len = len;
    g_hash_table_replace(fw(dev)->items, GUINT_TO_POINTER(key), i);
}

void fw_cfg_add_int(struct device *dev, uint16_t key, uint64_t v, unsigned bytes)
{
    fw_cfg_add_item(dev, key, g_memdup2(&v, bytes), bytes);
}

static void directory_build(struct fw_cfg *f)
{
    size_t len = 4 + f->files->len * 64;
    uint8_t *d = g_malloc0(len), *p = d + 4;

    put_be(d, f->files->len, 4);
    for (unsigned i = 0; i < f->files->len; i++, p += 64) {
        struct file *e = &g_array_index(f->files, struct file, i);
        struct item *it = g_hash_table_lookup(f->items, GUINT_TO_POINTER(e->key));

        put_be(p, it->len, 4);
        put_be(p + 4, e->key, 2);
        memcpy(p + 8, e->name, FW_NAME_MAX);
    }
    fw_cfg_add_item(&f->dev, FW_CFG_FILE_DIR, d, len);
}

bool fw_cfg_add_file(struct device *dev, const char *name, void *data, size_t len, struct error *err)
{
    struct fw_cfg *f = fw(dev);
    struct file e = { .key = f->next_key };
    unsigned at = 0;

    if (strlen(name) >= FW_NAME_MAX || f->files->len >= FW_CFG_FILES_MAX) {
        g_free(data);
        return error_setf(err, ERR_GENERIC, "names have up to 55 characters, files number up to 128", "cannot add fw_cfg file '%s'", name);
    }
    while (at < f->files->len && strcmp(g_array_index(f->files, struct file, at).name, name) < 0)
        at++;
    if (at < f->files->len && strcmp(g_array_index(f->files, struct file, at).name, name) == 0) {
        e.key = g_array_index(f->files, struct file, at).key;
    } else {
        f->next_key++;
        g_strlcpy(e.name, name, FW_NAME_MAX);
        g_array_insert_val(f->files, at, e);
    }
    fw_cfg_add_item(dev, e.key, data, len);
    directory_build(f);
    return true;
}

/* ---- registers */

static struct item *selected(struct fw_cfg *f)
{
    return g_hash_table_lookup(f->items, GUINT_TO_POINTER(f->selected));
}

static void select_key(struct fw_cfg *f, uint16_t key)
{
    f->selected = key & 0xbfff;         /* bit 14 asked for writing once */
    f->offset = 0;
}

static uint8_t read_byte(struct fw_cfg *f)
{
    struct item *i = selected(f);

    return i && f->offset < i->len ? i->data[f->offset++] : 0;
}

/* The data register at any width: bytes in the order of memory. */
static uint64_t read_data(struct fw_cfg *f, unsigned size)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < size; i++)
        v |= (uint64_t)read_byte(f) << 8 * i;
    return v;
}

/* Copies len bytes to the guest: what there is of the item, then zeros. */
static bool dma_copy(struct fw_cfg *f, uint64_t addr, uint32_t len)
{
    static const uint8_t zeros[4096];
    struct item *it = selected(f);

    while (len) {
        const uint8_t *from = zeros;
        uint32_t n = MIN(len, sizeof(zeros));

        if (it && f->offset < it->len) {
            n = (uint32_t)MIN((size_t)len, it->len - f->offset);
            from = it->data + f->offset;
            f->offset += n;
        }
        if (dma_write(&f->dev, addr, from, n) != MEM_OK)
            return false;
        addr += n;
        len -= n;
    }
    return true;
}

static void dma_run(struct fw_cfg *f)
{
    uint64_t at = f->dma_addr;
    uint8_t d[16], status[4];
    uint32_t control, len;
    bool ok = true;

    f->dma_addr = 0;
    if (dma_read(&f->dev, at, d, sizeof(d)) != MEM_OK) {
        guest_error(&f->dev, "DMA descriptor at %#llx is not in memory", (unsigned long long)at);
        return;
    }
    control = (uint32_t)get_be(d, 4);
    len = (uint32_t)get_be(d + 4, 4);
    if (control & DMA_SELECT)
        select_key(f, (uint16_t)(control >> 16));
    if (control & DMA_READ)
        ok = dma_copy(f, get_be(d + 8, 8), len);
    else if (control & DMA_WRITE)
        ok = false;                     /* no item may be written */
    else if (control & DMA_SKIP)
        f->offset = len > UINT32_MAX - f->offset ? UINT32_MAX : f->offset + len;
    put_be(status, ok ? 0 : DMA_ERROR, 4);
    dma_write(&f->dev, at, status, 4);
}

static void dma_address(struct fw_cfg *f, unsigned offset, uint64_t value, unsigned size)
{
    if (size == 8) {
        f->dma_addr = __builtin_bswap64(value);
        dma_run(f);
    } else if (size == 4 && offset == 0) {
        f->dma_addr = (uint64_t)__builtin_bswap32((uint32_t)value) << 32;
    } else if (size == 4 && offset == 4) {
        f->dma_addr |= __builtin_bswap32((uint32_t)value);
        dma_run(f);
    } else {
        guest_error(&f->dev, "DMA address written with %u bytes", size);
    }
}

static uint64_t dma_signature(unsigned offset, unsigned size)
{
    uint64_t v = __builtin_bswap64(DMA_SIGNATURE) >> offset * 8;

    return size == 8 ? v : v & (((uint64_t)1 << size * 8) - 1);
}

enum { IO_SELECTOR = 0, IO_DATA = 1, IO_DMA = 4 };

static uint64_t io_read(struct device *dev, uint64_t offset, unsigned size)
{
    if (offset >= IO_DMA)
        return dma_signature((unsigned)offset - IO_DMA, size);
    return offset == IO_DATA ? read_data(fw(dev), size) : 0;
}

static void io_write(struct device *dev, uint64_t offset, uint64_t value, unsigned size)
{
    if (offset == IO_SELECTOR && size == 2)
        select_key(fw(dev), (uint16_t)value);
    else if (offset >= IO_DMA)
        dma_address(fw(dev), (unsigned)offset - IO_DMA, value, size);
}

enum { MEM_DATA = 0, MEM_SELECTOR = 8, MEM_DMA = 16 };

static uint64_t mem_read(struct device *dev, uint64_t offset, unsigned size)
{
    if (offset >= MEM_DMA)
        return dma_signature((unsigned)offset - MEM_DMA, size);
    return offset < MEM_SELECTOR ? read_data(fw(dev), size) : 0;
}

static void mem_write(struct device *dev, uint64_t offset, uint64_t value, unsigned size)
{
    if (offset == MEM_SELECTOR && size == 2)
        select_key(fw(dev), __builtin_bswap16((uint16_t)value));
    else if (offset >= MEM_DMA)
        dma_address(fw(dev), (unsigned)offset - MEM_DMA, value, size);
}

/* ---- life */

static bool fw_cfg_realize(struct device *dev, struct error *err)
{
    struct fw_cfg *f = fw(dev);

    if (dev->vm->fw_cfg)
        return error_set(err, ERR_GENERIC, "the machine has a fw_cfg already", NULL);
    f->items = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, item_free);
    f->files = g_array_new(FALSE, FALSE, sizeof(struct file));
    f->next_key = FW_CFG_FILE_FIRST;
    dev->vm->fw_cfg = dev;
    fw_cfg_add_item(dev, FW_CFG_SIGNATURE, g_memdup2("QEMU", 4), 4);
    fw_cfg_add_int(dev, FW_CFG_ID, ID_TRADITIONAL | ID_DMA, 4);
    directory_build(f);
    return true;
}

static bool fw_cfg_io_realize(struct device *dev, struct error *err)
{
    if (!fw_cfg_realize(dev, err))
        return false;
    mem_region_add(&dev->vm->system_io, fw(dev)->iobase, &dev->mmio[0], 0);
    return true;
}

static void fw_cfg_unrealize(struct device *dev)
{
    dev->vm->fw_cfg = NULL;
    g_hash_table_destroy(fw(dev)->items);
    g_array_free(fw(dev)->files, TRUE);
}

static void fw_cfg_reset(struct device *dev, enum reset_kind kind)
{
    select_key(fw(dev), FW_CFG_SIGNATURE);
    fw(dev)->dma_addr = 0;
}

static const struct state_field fw_cfg_state[] = {
    STATE_U16(struct fw_cfg, selected), STATE_U32(struct fw_cfg, offset), STATE_U64(struct fw_cfg, dma_addr), { 0 },
};

DEVICE = {
    .name = "fw_cfg_io",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "firmware configuration (I/O ports)",
    .size = sizeof(struct fw_cfg),
    .mmio = { { .name = "fwcfg", .size = 12, .width = 1, .min = 1, .max = 4, .read = io_read, .write = io_write } },
    .props = (const struct prop[]){ PROP(struct fw_cfg, iobase, "iobase", PROP_U32, "0x510", "first I/O port"), { 0 } },
    .state = fw_cfg_state,
    .realize = fw_cfg_io_realize,
    .unrealize = fw_cfg_unrealize,
    .reset_enter = fw_cfg_reset,
};

DEVICE = {
    .name = "fw_cfg_mem",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "firmware configuration (memory-mapped)",
    .size = sizeof(struct fw_cfg),
    .mmio = { { .name = "fwcfg", .size = 24, .width = 1, .min = 1, .max = 8, .read = mem_read, .write = mem_write } },
    .state = fw_cfg_state,
    .realize = fw_cfg_realize,
    .unrealize = fw_cfg_unrealize,
    .reset_enter = fw_cfg_reset,
};
