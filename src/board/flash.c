/* See flash.h. Each bank is two 16-bit chips side by side, of 256 KiB sectors. */
#include "flash.h"
#include "rhea/base/options.h"
#include "rhea/block/block.h"

enum { SECTOR = 256 << 10 };

struct choice { char **pflash; struct error *err; bool failed; unsigned next; };

static void choose_drive(struct vm *vm, const char *drive, struct json_object *opts, void *opaque)
{
    struct choice *c = opaque;
    int64_t unit = c->next;

    if (c->failed)
        return;
    option_int(opts, "unit", c->next, &unit, NULL);
    option_int(opts, "index", unit, &unit, NULL);
    if (unit < 0 || unit > 1 || c->pflash[unit]) {
        error_setf(c->err, ERR_GENERIC, "there are two: index=0 and index=1", "-drive if=pflash: no room for another flash ('%s')", drive);
        c->failed = true;
        return;
    }
    c->pflash[unit] = g_strdup(drive);
    c->next = (unsigned)unit + 1;
}

bool flash_drives(struct vm *vm, char *pflash[2], struct error *err)
{
    struct choice c = { .pflash = pflash, .err = err };

    block_foreach_drive(vm, IF_PFLASH, choose_drive, &c);
    return !c.failed;
}

struct device *flash_bank(struct vm *vm, const char *name, const char *drive, uint64_t addr, uint64_t size, struct error *err)
{
    struct device *d = device_new(vm, "cfi.pflash01", NULL, err);
    g_autofree char *blocks = g_strdup_printf("%u", (unsigned)(size / SECTOR)), *sector = g_strdup_printf("%d", SECTOR);

    if (!d || !device_set(d, "num-blocks", blocks, err) || !device_set(d, "sector-length", sector, err) || !device_set(d, "width", "4", err) ||
        !device_set(d, "device-width", "2", err) || !device_set(d, "id0", "0x89", err) || !device_set(d, "id1", "0x18", err) ||
        !device_set(d, "name", name, err) || (drive && !device_set(d, "drive", drive, err)) || !device_realize(d, NULL, err))
        return NULL;
    mem_region_add(&vm->system_memory, addr, &d->mmio[0], 0);
    return d;
}
