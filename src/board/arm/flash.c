/* The virt board's two banks of flash: the first holds the firmware that the CPUs start with, the second its variables. They
 * are there when either has content; a kernel started directly has no use for them. */
#include "rhea/base/options.h"
#include "rhea/block/block.h"
#include "rhea/device/pflash.h"
#include "virt.h"

enum { SECTOR = 256 << 10 };

struct choice { struct virt *v; struct error *err; bool failed; unsigned next; };

static void choose_drive(struct vm *vm, const char *drive, struct json_object *opts, void *opaque)
{
    struct choice *c = opaque;
    int64_t unit = c->next;

    if (c->failed)
        return;
    option_int(opts, "unit", c->next, &unit, NULL);
    option_int(opts, "index", unit, &unit, NULL);
    if (unit < 0 || unit > 1 || c->v->pflash[unit]) {
        error_setf(c->err, ERR_GENERIC, "there are two: index=0 and index=1", "-drive if=pflash: no room for another flash ('%s')", drive);
        c->failed = true;
        return;
    }
    c->v->pflash[unit] = g_strdup(drive);
    c->next = (unsigned)unit + 1;
}

bool virt_flash_choose(struct virt *v, struct error *err)
{
    struct choice c = { .v = v, .err = err };

    block_foreach_drive(v->vm, IF_PFLASH, choose_drive, &c);
    if (c.failed)
        return false;
    if (v->pflash[0] && v->vm->config.bios)
        return error_set(err, ERR_GENERIC, "-bios and a first flash are both firmware", "give one of them");
    v->firmware = v->pflash[0] || v->vm->config.bios;
    return true;
}

static struct device *make_bank(struct virt *v, unsigned n, struct error *err)
{
    struct device *d = device_new(v->vm, "cfi.pflash01", NULL, err);
    g_autofree char *blocks = g_strdup_printf("%u", VIRT_FLASH_BANK / SECTOR), *sector = g_strdup_printf("%d", SECTOR);

    if (!d || !device_set(d, "num-blocks", blocks, err) || !device_set(d, "sector-length", sector, err) || !device_set(d, "width", "4", err) ||
        !device_set(d, "device-width", "2", err) || !device_set(d, "id0", "0x89", err) || !device_set(d, "id1", "0x18", err) ||
        !device_set(d, "name", n ? "virt.flash1" : "virt.flash0", err))
        return NULL;
    if (v->pflash[n] && !device_set(d, "drive", v->pflash[n], err))
        return NULL;
    if (!device_realize(d, NULL, err))
        return NULL;
    mem_region_add(&v->vm->system_memory, VIRT_FLASH + n * VIRT_FLASH_BANK, &d->mmio[0], 0);
    return d;
}

static bool load_bios(struct virt *v, struct error *err)
{
    const char *name = v->vm->config.bios;
    g_autofree char *path = firmware_find(v->vm, name), *data = NULL;
    g_autoptr(GError) e = NULL;
    size_t len;

    if (!g_file_get_contents(path, &data, &len, &e))
        return error_setf(err, ERR_GENERIC, "qemu-efi-aarch64 and u-boot-qemu have firmware for this machine", "could not load firmware '%s': %s",
                          name, e->message);
    return pflash_load(v->flash[0], data, len, err);
}

bool virt_flash_make(struct virt *v, struct error *err)
{
    if (!v->firmware && !v->pflash[1])
        return true;
    for (unsigned n = 0; n < 2; n++)
        if (!(v->flash[n] = make_bank(v, n, err)))
            return false;
    return !v->vm->config.bios || load_bios(v, err);
}
