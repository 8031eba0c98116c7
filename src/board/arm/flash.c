/* The virt board's two banks of flash: the first holds the firmware that the CPUs start with, the second its variables. They
 * are there when either has content; a kernel started directly has no use for them. */
#include "board/flash.h"
#include "rhea/device/pflash.h"
#include "virt.h"

bool virt_flash_choose(struct virt *v, struct error *err)
{
    if (!flash_drives(v->vm, v->pflash, err))
        return false;
    if (v->pflash[0] && v->vm->config.bios)
        return error_set(err, ERR_GENERIC, "-bios and a first flash are both firmware", "give one of them");
    v->firmware = v->pflash[0] || v->vm->config.bios;
    return true;
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
        if (!(v->flash[n] = flash_bank(v->vm, n ? "virt.flash1" : "virt.flash0", v->pflash[n], VIRT_FLASH + n * VIRT_FLASH_BANK,
                                       VIRT_FLASH_BANK, err)))
            return false;
    return !v->vm->config.bios || load_bios(v, err);
}
